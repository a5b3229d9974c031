"""Steps as processes of this machine: start, adopt after a restart, ask for the exit code, kill; the backend `Local`.

A step outlives the daemon. What is known of it stands in its folder: launch.json (who it is), status (bwrap's words on
its end), log. A sandboxed tool does not begin before launch.json is written: bwrap waits for its arguments until then.
"""

from __future__ import annotations

import json
import logging
import os
import resource
import select
import signal
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType

from spicad import sandbox
from spicad.backends.backend import End, Limits, News, Task
from spicad.config import Settings
from spicad.durable import write_file
from spicad.node import idle_share
from spicad.waiting import Node

log = logging.getLogger("spicad")

EVERY_SIGNAL = sorted(signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP})
MEBIBYTE = 1 << 20
MOST_ROUNDS = 20
STRAYS_END_S = 5.0
LONGEST_END_S = 5
MOST = 1 << 62  # more than any limit that somebody means
MOST_PROCESSES = 512
LONGEST_STAT = 4096  # bytes: proc(5) tells less of a process
MOST_OPEN_FILES = 16384  # SWarp opens image and weight of each exposure at once


@dataclass(frozen=True)
class Launched:
    """A started step, named so that a recycled pid is not taken for it."""

    pid: int
    ticks: int  # start time of the process, in clock ticks since boot
    boot: str
    time: float
    sandboxed: bool


def start(
    folder: Path,
    argv: Sequence[str],
    inputs: Mapping[str, Path],
    limits: Limits,
    sandboxed: bool,
    now: float,
    read_only: Sequence[Path] = (),
    papers: Mapping[str, str] = MappingProxyType({}),
    is_bound: bool = False,
) -> Launched:
    """Starts `argv` in folder/job with its output going to folder/log. Raises OSError when it cannot be started.

    `papers` are texts about the step, written to its folder while the tool's process comes up. With `is_bound` the
    sandbox ends with the process that has started it, as it must on a node that is not the daemon's.
    """
    if sandboxed:
        return _start_sandboxed(folder, argv, inputs, limits, now, read_only, papers, is_bound)
    folder = folder.absolute()
    if inputs:
        os.makedirs(folder / "in", exist_ok=True)
    for name, path in inputs.items():
        with suppress(FileExistsError):
            os.symlink(path, folder / "in" / name)
    job = f"{folder}/job"
    env = {**sandbox.environment(job), "PATH": os.environ.get("PATH", os.defpath)}
    here = os.open(".", os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.chdir(job)  # posix_spawn has no folder of its own; nothing else in the daemon uses the current one
        pid = _spawn(argv[0], list(argv), env, f"{folder}/log", ())
    finally:
        os.fchdir(here)
        os.close(here)
    _limit(pid, limits, sandboxed=False)
    return _note(folder, pid, now, papers, sandboxed=False)


def _start_sandboxed(
    folder: Path,
    argv: Sequence[str],
    inputs: Mapping[str, Path],
    limits: Limits,
    now: float,
    read_only: Sequence[Path],
    papers: Mapping[str, str],
    is_bound: bool,
) -> Launched:
    options = sandbox.options(folder, inputs, read_only)
    if is_bound:
        options.insert(0, "--die-with-parent")
    reading, writing = os.pipe()
    status = os.open(folder / "status", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o640)
    try:
        line = ["--args", str(reading), "--json-status-fd", str(status), *sandbox.command(argv)]
        with sandbox.entrance(folder, inputs, line) as (program, handles):
            pid = _spawn(program[0], program, {}, f"{folder}/log", (reading, status, *handles))
        os.close(reading)
        reading = -1
        _limit(pid, limits, sandboxed=True)
        launched = _note(folder, pid, now, papers, sandboxed=True)
        _write_all(writing, b"".join(os.fsencode(each) + b"\0" for each in options))
    finally:
        for handle in (reading, writing, status):
            if handle >= 0:
                os.close(handle)
    return launched


def _write_all(handle: int, data: bytes) -> None:
    with suppress(BrokenPipeError):  # bwrap ended early: its words are in the log
        while data:
            data = data[os.write(handle, data) :]


def _spawn(program: str, argv: list[str], env: Mapping[str, str], log: str, kept: Sequence[int]) -> int:
    for handle in kept:
        os.set_inheritable(handle, True)
    actions = [
        (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
        (os.POSIX_SPAWN_OPEN, 1, log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644),
        (os.POSIX_SPAWN_DUP2, 1, 2),
    ]
    return os.posix_spawn(program, argv, env, file_actions=actions, setsid=True, setsigdef=EVERY_SIGNAL, setsigmask=[])


def _limit(pid: int, limits: Limits, sandboxed: bool) -> None:
    wanted = {
        resource.RLIMIT_AS: limits.memory_mb * MEBIBYTE,
        resource.RLIMIT_FSIZE: limits.disk_mb * MEBIBYTE,
        resource.RLIMIT_CPU: int(limits.time_s * max(limits.threads, 1)) + 60,
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_NOFILE: MOST_OPEN_FILES,
    }
    if sandboxed:
        wanted[resource.RLIMIT_NPROC] = MOST_PROCESSES
    for kind, value in wanted.items():
        with suppress(ProcessLookupError):
            hard = resource.getrlimit(kind)[1]
            value = min(value, MOST if hard == resource.RLIM_INFINITY else hard)
            resource.prlimit(pid, kind, (value, value))


def _note(folder: Path, pid: int, now: float, papers: Mapping[str, str], sandboxed: bool) -> Launched:
    """launch.json comes last: who finds it finds the papers too."""
    launched = Launched(pid, _ticks(pid), boot(), now, sandboxed)
    for name, text in papers.items():
        write_file(f"{folder}/{name}", text)
    write_file(f"{folder}/launch.json", json.dumps(vars(launched)))
    return launched


@cache
def boot() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def _ticks(pid: int) -> int:
    """Start time from proc(5) stat, field 22; 0 when there is no such process."""
    try:
        with open(f"/proc/{pid}/stat", "rb", buffering=0) as stat:
            return int(stat.read(LONGEST_STAT).rpartition(b")")[2].split()[19])
    except (FileNotFoundError, ProcessLookupError):
        return 0


def launched_in(folder: Path) -> Launched | None:
    """What stands in a step's folder, whether it still runs or not."""
    try:
        return Launched(**json.loads((folder / "launch.json").read_text()))
    except (OSError, ValueError, TypeError):
        return None


def is_alive(launched: Launched) -> bool:
    return launched.boot == boot() and launched.ticks != 0 and _ticks(launched.pid) == launched.ticks


def exit_code(folder: Path) -> int | None:
    """What bwrap wrote of the tool's end: its exit status, 128+N for signal N, None when it says nothing."""
    code = None
    for words in _status_words(folder):
        code = words.get("exit-code", code)
    return code


def _status_words(folder: Path) -> list[dict[str, int]]:
    found = []
    with suppress(OSError):
        for line in (folder / "status").read_text(errors="replace").splitlines():
            with suppress(ValueError):
                found.append(json.loads(line))
    return [words for words in found if isinstance(words, dict)]


def kill(folder: Path) -> None:
    """Ends everything that runs in the step of `folder`, whatever became of bwrap or the daemon that began it.

    bwrap ends with its tool, a moment before what the tool left running: returns when that is gone too.
    """
    launched = launched_in(folder)
    if launched and launched.boot == boot():
        said = _status_words(folder)
        for words in said:
            inner = words.get("child-pid", 0)
            # The first process of a pid namespace takes all others with it; the namespace tells a recycled pid.
            if inner and _pid_namespace(inner) == words.get("pid-namespace"):
                _end(inner)
        # A bwrap that is killed while it makes the sandbox leaves a child that waits for it, in its group; no other is
        # given that number while the group has members. One that told the tool's end left nothing: its number may be
        # another's by now.
        is_told = any("exit-code" in words for words in said)
        if is_alive(launched) or not (is_told or os.path.exists(f"/proc/{launched.pid}")):
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(launched.pid, signal.SIGKILL)
    if not (launched and launched.sandboxed):
        _end_strays(folder / "job")


def _pid_namespace(pid: int) -> int:
    with suppress(OSError):
        return os.stat(f"/proc/{pid}/ns/pid").st_ino
    return 0


def _end_strays(folder: Path) -> None:
    """Ends the processes whose current folder is `folder`: steps without a sandbox that nobody knows of."""
    import psutil

    for _ in range(MOST_ROUNDS):  # what was just killed may have forked a moment before
        strays = [process for process in psutil.process_iter(["cwd"]) if process.info["cwd"] == str(folder)]
        if not strays:
            return
        for process in strays:
            _kill(process.pid)
        psutil.wait_procs(strays, timeout=STRAYS_END_S)


def _end(init: int) -> None:
    """Kills the first process of a pid namespace, and waits for it: it goes when all others in it are gone."""
    with suppress(ProcessLookupError):
        handle = os.pidfd_open(init)
        try:
            signal.pidfd_send_signal(handle, signal.SIGKILL)
            poll = select.poll()
            poll.register(handle, select.POLLIN)
            if not poll.poll(LONGEST_END_S * 1000):
                log.error("pid %d does not end: it hangs in the kernel, on a file system that does not answer", init)
        finally:
            os.close(handle)


def _kill(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


@dataclass
class _Followed:
    """`handle` is a pidfd: readable when the process ends, whoever its parent is. Without one it has ended already."""

    launched: Launched
    handle: int
    slots: int
    deadline: float
    is_killed: bool = False
    is_timed_out: bool = False


class Local:
    """This machine as the one node. `watch` and `unwatch` are given handles that the daemon's loop waits for."""

    def __init__(self, settings: Settings, watch: Callable[[int], None], unwatch: Callable[[int], None]) -> None:
        self.settings = settings
        self._watch, self._unwatch = watch, unwatch
        self._followed: dict[Path, _Followed] = {}

    def nodes(self) -> Sequence[Node]:
        taken = sum(each.slots for each in self._followed.values())
        return (Node(self._name, self.settings.daemon.slots, taken, idle_share()),)

    @property
    def _name(self) -> str:
        return str(self.settings.daemon.node)

    def held_up(self) -> str:
        return ""

    def start(self, task: Task, now: float) -> News:
        launched = start(
            task.folder, task.argv, task.inputs, task.limits, task.sandboxed, now, task.read_only, task.papers
        )
        return self._follow(task.folder, launched, task.slots, task.limits.time_s)

    def adopt(self, folder: Path, slots: int, time_s: float) -> News | None:
        launched = launched_in(folder)
        if launched is None or not launched.sandboxed or not is_alive(launched):
            return None
        return self._follow(folder, launched, slots, time_s)

    def left_undone(self, folder: Path) -> End | None:
        launched = launched_in(folder)
        if launched is None:
            if folder.exists():
                kill(folder)  # begun without a sandbox, and killed before it was noted
            return None
        code = exit_code(folder) if launched.sandboxed else None
        kill(folder)
        why = "the machine or the daemon went down while it ran" if code is None else ""
        return End(folder, code, why, node=self._name, started=launched.time)

    def _follow(self, folder: Path, launched: Launched, slots: int, time_s: float) -> News:
        handle = -1
        with suppress(ProcessLookupError):
            handle = os.pidfd_open(launched.pid)
            self._watch(handle)
        self._followed[folder] = _Followed(launched, handle, slots, launched.time + time_s)
        return News(folder, self._name, launched.time, who=f"pid {launched.pid}")

    def look(self, now: float) -> Sequence[End]:
        """Steps that have ended; those that take too long are ended, and told at the next look."""
        waiting = {each.handle: folder for folder, each in self._followed.items() if each.handle >= 0}
        poll = select.poll()
        for handle in waiting:
            poll.register(handle, select.POLLIN)
        ended = [waiting[handle] for handle, _ in poll.poll(0)]
        ended += [folder for folder, each in self._followed.items() if each.handle < 0]
        found = [self._ended(folder) for folder in ended]
        for folder, each in self._followed.items():
            if now > each.deadline and not each.is_killed:
                each.is_timed_out = each.is_killed = True
                kill(folder)
        return found

    def _ended(self, folder: Path) -> End:
        followed = self._let_go(folder)
        launched, status = followed.launched, None
        with suppress(ChildProcessError):
            _, status = os.waitpid(launched.pid, os.WNOHANG)
        code = exit_code(folder) if launched.sandboxed else None
        if status is not None and not launched.sandboxed:
            code = os.waitstatus_to_exitcode(status)
            code = 128 - code if code < 0 else code
        if code is None or launched.sandboxed:
            kill(folder)  # nothing that the tool left behind may go on
        interrupted = "it was killed from outside" if code is None and not followed.is_killed else ""
        return End(folder, code, interrupted, "", followed.is_timed_out, self._name, launched.time)

    def _let_go(self, folder: Path) -> _Followed:
        followed = self._followed.pop(folder)
        if followed.handle >= 0:
            self._unwatch(followed.handle)
            os.close(followed.handle)
        return followed

    def kill(self, folder: Path) -> None:
        if folder in self._followed:
            self._followed[folder].is_killed = True
        kill(folder)

    def forget(self, folder: Path) -> None:
        kill(folder)
        if folder in self._followed:
            self._let_go(folder)

    @property
    def next_time(self) -> float | None:
        return min((each.deadline for each in self._followed.values() if not each.is_killed), default=None)

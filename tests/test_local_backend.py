"""Steps as processes of this machine, in the real sandbox: their ends, their limits, and nothing left of a killed one.

What a tool sees in there is told in test_sandbox.py; adopting after a restart in the tests of the daemon.
"""

from __future__ import annotations

import json
import os
import resource
import select
import shutil
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from conftest import wait_until

from spicad import sandbox
from spicad.backends import local

ROOT = Path(__file__).parent.parent
LIMITS = local.Limits(memory_mb=1024, disk_mb=64, time_s=60)
BOTH = pytest.mark.parametrize("sandboxed", [True, False], ids=["sandboxed", "bare"])
NO_SANDBOX = not shutil.which("bwrap") or bool(sandbox.user_namespaces_work())


@pytest.fixture(autouse=True)
def _needs_a_sandbox() -> None:
    if NO_SANDBOX:
        pytest.skip("no sandbox works here")


@pytest.fixture
def step(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "step"
    for name in ("cfg", "in", "job"):
        (folder / name).mkdir(parents=True)
    yield folder
    local.kill(folder)


def start(
    folder: Path, *argv: str, sandboxed: bool = True, limits: local.Limits = LIMITS, **inputs: Path
) -> local.Launched:
    named = {name.replace("_", "."): path for name, path in inputs.items()}
    return local.start(folder, argv, named, limits, sandboxed, 1000.0, sandbox.python_places())


def shell(folder: Path, script: str, **more: object) -> local.Launched:
    return start(folder, "/bin/sh", "-c", script, **more)  # type: ignore[arg-type]


def python(folder: Path, program: str, **more: object) -> local.Launched:
    return start(folder, sys.executable, "-c", program, **more)  # type: ignore[arg-type]


def wait(launched: local.Launched) -> int:
    """The wait status of its outer process."""
    handle = os.pidfd_open(launched.pid)
    assert select.select([handle], [], [], 40)[0], "it did not end"
    os.close(handle)
    return os.waitstatus_to_exitcode(os.waitpid(launched.pid, 0)[1])


def processes_with(mark: str) -> list[int]:
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdecimal():
            try:
                if mark.encode() in Path(f"/proc/{entry}/cmdline").read_bytes():
                    found.append(int(entry))
            except OSError:
                continue
    return found


# ---------------------------------------------------------------------- ends


@pytest.mark.parametrize(
    ("script", "code"),
    [
        ("exit 0", 0),
        ("exit 7", 7),
        ("exit 255", 255),
        ("kill -SEGV $$", 128 + signal.SIGSEGV),
        ("kill -FPE $$", 128 + signal.SIGFPE),
        ("kill -KILL $$", 128 + signal.SIGKILL),
        ("kill -TERM $$; exit 1", 128 + signal.SIGTERM),
    ],
)
def test_the_end_of_a_tool_is_known_by_number(step: Path, script: str, code: int) -> None:
    wait(shell(step, script))

    assert local.exit_code(step) == code


@BOTH
def test_what_a_tool_says_goes_to_the_log_in_order(step: Path, sandboxed: bool) -> None:
    launched = shell(step, "echo one; echo two >&2; echo three; cat; echo end", sandboxed=sandboxed)

    assert wait(launched) == 0
    assert (step / "log").read_text() == "one\ntwo\nthree\nend\n"


def test_a_program_that_is_not_there_leaves_no_exit_code_but_a_reason(step: Path) -> None:
    assert wait(start(step, "/usr/bin/no-such-tool")) != 0

    assert local.exit_code(step) is None
    assert "no-such-tool" in (step / "log").read_text()


def test_a_program_that_is_not_there_is_an_error_at_once_without_a_sandbox(step: Path) -> None:
    with pytest.raises(FileNotFoundError):
        start(step, "/usr/bin/no-such-tool", sandboxed=False)


def test_an_input_that_is_not_there_begins_nothing(step: Path) -> None:
    assert wait(start(step, "/usr/bin/touch", "begun", img0001_fits=step / "nothing.fits")) != 0

    assert local.exit_code(step) is None
    assert "nothing.fits" in (step / "log").read_text()
    assert os.listdir(step / "job") == []


@BOTH
def test_inputs_are_seen_by_their_plain_names(step: Path, sandboxed: bool) -> None:
    odd = step.parent / "odd name; $(rm -rf x) é\n.fits"
    odd.write_text("pixels")

    wait(shell(step, "cat ../in/img0001.fits", sandboxed=sandboxed, img0001_fits=odd))

    assert (step / "log").read_text() == "pixels"


def test_more_inputs_than_a_pipe_holds_are_bound(step: Path) -> None:
    exposure = step.parent / ("x" * 200)
    exposure.write_text("pixels")
    inputs = {f"img{n:04d}": exposure for n in range(250)}

    wait(shell(step, "ls ../in | wc -l", **inputs))

    assert (step / "log").read_text().strip() == "250"


@BOTH
def test_signals_are_as_usual_for_the_tool(step: Path, sandboxed: bool) -> None:
    before = signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
    try:
        wait(shell(step, "grep -E '^Sig(Blk|Ign)' /proc/self/status", sandboxed=sandboxed))
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGUSR1})
        signal.signal(signal.SIGPIPE, before)

    of_libc = 0b11 << 31  # signals 32 and 33, which no program can set
    assert [int(word, 16) & ~of_libc for word in (step / "log").read_text().split()[1::2]] == [0, 0]


def test_a_tool_cannot_reach_the_note_of_its_own_end(step: Path) -> None:
    """A file handle left open would let it write an exit code of its own."""
    wait(python(step, "import os; print(sorted(map(int, os.listdir('/proc/self/fd'))))"))

    everybodys = {fd for fd in map(int, os.listdir("/proc/self/fd")) if _is_passed_on(fd)}
    seen = set(json.loads((step / "log").read_text()))
    assert len(seen - everybodys - {0, 1, 2}) == 1  # the listing itself


def _is_passed_on(fd: int) -> bool:
    try:
        return os.get_inheritable(fd)
    except OSError:
        return False


def test_the_daemons_own_folder_is_kept(step: Path) -> None:
    before = os.getcwd()

    wait(shell(step, "pwd", sandboxed=False))

    assert os.getcwd() == before
    assert (step / "log").read_text().strip() == str(step / "job")


# ---------------------------------------------------------------------- limits


@BOTH
def test_the_limits_are_set_on_the_tool(step: Path, sandboxed: bool) -> None:
    limits = local.Limits(memory_mb=900, disk_mb=3, time_s=100, threads=2)
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    last = local.MOST_OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, local.MOST_OPEN_FILES)
    program = (
        "import resource as r, json\n"
        f"while r.getrlimit(r.RLIMIT_NOFILE)[1] != {last}: pass\n"  # without a sandbox they come right after the start
        "print(json.dumps([r.getrlimit(k)[1] for k in (r.RLIMIT_AS, r.RLIMIT_FSIZE, r.RLIMIT_CPU, r.RLIMIT_CORE)]))\n"
    )

    wait(python(step, program, sandboxed=sandboxed, limits=limits))

    assert json.loads((step / "log").read_text()) == [900 << 20, 3 << 20, 260, 0]


def test_memory_beyond_the_limit_is_not_given(step: Path) -> None:
    limits = replace(LIMITS, memory_mb=400)

    wait(python(step, "print(len(bytearray(1 << 20)), flush=True); bytearray(1 << 30)", limits=limits))

    assert local.exit_code(step) == 1
    assert (step / "log").read_text().startswith("1048576\n")
    assert "MemoryError" in (step / "log").read_text()


def test_a_file_beyond_the_limit_is_cut_and_the_tool_ended(step: Path) -> None:
    wait(start(step, "/usr/bin/dd", "if=/dev/zero", "of=big", "bs=64k", "count=64", limits=replace(LIMITS, disk_mb=1)))

    assert local.exit_code(step) == 128 + signal.SIGXFSZ
    assert (step / "job/big").stat().st_size == 1 << 20


def test_the_log_is_no_way_around_the_limit(step: Path) -> None:
    wait(start(step, "/usr/bin/dd", "if=/dev/zero", "bs=64k", "count=64", limits=replace(LIMITS, disk_mb=1)))

    assert (step / "log").stat().st_size <= 1 << 20


@pytest.mark.slow
def test_computing_time_beyond_the_limit_ends_the_tool(step: Path) -> None:
    limits = replace(LIMITS, time_s=-59)  # with the minute that is granted on top: one second

    wait(python(step, "while True: pass", limits=limits))

    assert local.exit_code(step) in (128 + signal.SIGXCPU, 128 + signal.SIGKILL)


@BOTH
def test_limits_beyond_all_measure_are_no_error(step: Path, sandboxed: bool) -> None:
    limits = local.Limits(memory_mb=1 << 60, disk_mb=1 << 60, time_s=1e18)

    assert wait(shell(step, "exit 0", sandboxed=sandboxed, limits=limits)) == 0


# ---------------------------------------------------------------------- kill

FAMILY = "sh -c 'setsid sleep {mark} & sleep {mark} & (sleep {mark} &) ; wait' & setsid sleep {mark} & echo up; wait"


def family(step: Path, **more: object) -> tuple[local.Launched, str]:
    """A tool with children and grandchildren, some in sessions of their own; all have the mark in their words."""
    mark = f"3600.{uuid.uuid4().int % 10**12:012d}"
    launched = shell(step, FAMILY.format(mark=mark), **more)
    wait_until(lambda: len([p for p in processes_with(mark) if _is_sleep(p)]) == 4, "four sleeps")
    return launched, mark


def _is_sleep(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip() == "sleep"
    except OSError:
        return False


def gone(mark: str) -> bool:
    return not [pid for pid in processes_with(mark) if _is_sleep(pid)]


@pytest.mark.slow
@BOTH
def test_a_kill_takes_children_and_grandchildren(step: Path, sandboxed: bool) -> None:
    launched, mark = family(step, sandboxed=sandboxed)
    assert local.is_alive(launched)

    local.kill(step)

    with suppress(ProcessLookupError):  # a bare one has been waited for already
        wait(launched)
    wait_until(lambda: gone(mark), "all to be gone")
    assert not local.is_alive(launched)


def test_a_kill_takes_all_even_when_the_outer_bwrap_is_gone(step: Path) -> None:
    launched, mark = family(step)
    os.kill(launched.pid, signal.SIGKILL)
    wait(launched)
    assert not local.is_alive(launched)
    assert local.exit_code(step) is None

    local.kill(step)

    wait_until(lambda: gone(mark), "all to be gone")


def test_a_kill_takes_what_a_bwrap_left_that_ended_while_it_made_the_sandbox(step: Path) -> None:
    with subprocess.Popen(
        ["/bin/sh", "-c", "sleep 3600 & echo $!; wait"], start_new_session=True, stdout=subprocess.PIPE
    ) as outer:
        assert outer.stdout
        child = int(outer.stdout.readline())
        launched = local.Launched(outer.pid, local._ticks(outer.pid), local.boot(), 1000.0, sandboxed=True)
        (step / "launch.json").write_text(json.dumps(asdict(launched)))
        wait_until(lambda: _is_sleep(child), "the child to begin")
        outer.kill()
        outer.wait()

        local.kill(step)

        wait_until(lambda: not _is_sleep(child), "the child to be gone")


def test_a_kill_of_a_step_that_has_ended_leaves_alone_a_group_that_has_its_number_now(
    step: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with subprocess.Popen(["/bin/true"]) as over:
        ticks = local._ticks(over.pid)
    launched = local.Launched(over.pid, ticks, local.boot(), 1000.0, sandboxed=True)
    (step / "launch.json").write_text(json.dumps(asdict(launched)))
    (step / "status").write_text('{ "exit-code": 0 }\n')
    ended: list[int] = []
    monkeypatch.setattr(os, "killpg", lambda group, _: ended.append(group))

    local.kill(step)

    assert ended == []


def test_a_kill_by_another_process_than_the_one_that_began_it(step: Path) -> None:
    launched, mark = family(step)

    subprocess.run(
        [sys.executable, "-c", "import sys; from pathlib import Path; from spicad.backends import local;"
         "local.kill(Path(sys.argv[1]))", str(step)],
        cwd=ROOT,
        check=True,
    )  # fmt: skip

    wait(launched)
    wait_until(lambda: gone(mark), "all to be gone")


@BOTH
def test_a_kill_of_what_has_ended_does_nothing(step: Path, sandboxed: bool) -> None:
    wait(shell(step, "exit 3", sandboxed=sandboxed))

    local.kill(step)
    local.kill(step)

    assert local.exit_code(step) == (3 if sandboxed else None)


@pytest.fixture
def bystander() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(["sleep", "3600"], start_new_session=True)
    yield process
    process.kill()
    process.wait()


@pytest.mark.parametrize("sandboxed", [True, False])
@pytest.mark.parametrize("other", ["ticks", "boot", "gone"])
def test_a_recycled_pid_is_not_taken_for_the_step(
    step: Path, bystander: subprocess.Popen[bytes], other: str, sandboxed: bool
) -> None:
    real = local.Launched(bystander.pid, local._ticks(bystander.pid), local.boot(), 0.0, sandboxed)
    assert local.is_alive(real)
    changed = {"ticks": {"ticks": real.ticks - 1}, "boot": {"boot": "another"}, "gone": {"ticks": 0}}[other]
    noted = replace(real, **changed)  # type: ignore[arg-type]
    (step / "launch.json").write_text(json.dumps(asdict(noted)))
    (step / "status").write_text(f'{{ "child-pid": {bystander.pid}, "pid-namespace": 1 }}\n')

    assert local.launched_in(step) == noted
    assert not local.is_alive(noted)
    local.kill(step)

    assert bystander.poll() is None


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", "null", '{"pid": 1}', '{"pid": 1, "odd": 2}', "\xff"])
def test_a_note_that_cannot_be_read_names_no_process(step: Path, text: str) -> None:
    (step / "launch.json").write_text(text, encoding="latin-1")
    (step / "status").write_text(text, encoding="latin-1")

    assert local.launched_in(step) is None
    assert local.exit_code(step) is None
    local.kill(step)


@pytest.mark.slow
def test_a_bare_step_that_was_never_noted_is_found_by_its_folder(step: Path) -> None:
    _, mark = family(step, sandboxed=False)
    (step / "launch.json").unlink()

    local.kill(step)

    assert gone(mark), "it returns when all are gone"


# ---------------------------------------------------------------------- the daemon dies while it starts a step

CUT = """
import os, sys
from pathlib import Path
from spicad.backends import local

def cut(handle, data):
    os.write(handle, data[: int(len(data) * float(sys.argv[2]))])
    os._exit(9)

if sys.argv[2] == "before the note":
    local._note = lambda *arguments, **more: os._exit(9)
else:
    local._write_all = cut
local.start(Path(sys.argv[1]), ["/usr/bin/touch", "/job/begun"], {}, local.Limits(500, 100, 60), True, 0.0)
"""


@pytest.mark.slow
@pytest.mark.parametrize("when", ["before the note", "0", "0.3", "0.7", "0.99"])
def test_a_tool_does_not_begin_when_the_daemon_dies_before_all_is_said(step: Path, when: str) -> None:
    done = subprocess.run([sys.executable, "-c", CUT, str(step), when], cwd=ROOT, check=False)
    assert done.returncode == 9

    wait_until(lambda: not processes_with(str(step)) and b"bwrap" in (step / "log").read_bytes(), "bwrap to give up")

    assert os.listdir(step / "job") == []
    assert local.exit_code(step) is None
    assert (local.launched_in(step) is None) is (when == "before the note")

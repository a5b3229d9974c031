"""A life of the daemon in a forked child that strace ends, or fails, at its Nth changing system call; then a clean one.

Where it may end and what must hold afterwards is told in test_crash.py.
"""

from __future__ import annotations

import ctypes
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from conftest import RunningSpica
from life import drop, job_text, places

from spicad import config, tables
from spicad.background import Background, Then
from spicad.daemon import Daemon
from spicad.tables import Event, Process, Step

# All calls that leave something behind. What lies between two of them is the same state.
CHANGING = (
    "write,pwrite64,fsync,fdatasync,rename,renameat,renameat2,unlink,unlinkat,mkdir,mkdirat,rmdir,link,linkat,symlink,"
    "symlinkat,chmod,fchmod,fchmodat,chown,fchown,fchownat,ftruncate,utimensat,sendto,kill,vfork,clone,clone3,"
    "pidfd_open,flock"
)
CAN_FAIL = "write,pwrite64,fsync,fdatasync,rename,mkdir,link,linkat,symlink"
PATIENCE_S = 30.0
A_WHILE_S = 1.5
PR_SET_CHILD_SUBREAPER = 36


@dataclass
class After:
    """What a clean life found and left."""

    places: dict[int, list[str]]
    rows: dict[int, str]
    events: dict[int, list[str]]
    attempts: int
    incoming: list[str]
    rejected: list[str]
    mails: int
    products: list[str]
    steps: list[str]
    orphans: list[int] = field(default_factory=list)


class InTheLoop(Background):
    """Work that a thread would do is done in the loop, so that its system calls are counted with all others."""

    def do(self, work: Callable[..., Any], *values: Any, then: Then, process: int = 0, at_once: bool = False) -> None:
        self.under_way += 1
        future: Future[Any] = Future()
        try:
            future.set_result(work(*values))
        except BaseException as error:
            future.set_exception(error)
        self._note(future, then, process)


class ShortLife(Daemon):
    """Ends by itself when nothing is left to do, or after `limit_s`."""

    def __init__(self, conf: Path, limit_s: float) -> None:
        super().__init__(config.load(conf))
        self.background = self.floor.background = InTheLoop(self.wake_out, 1)
        self.background.failed = self.workshop.set_aside
        self.until = time.monotonic() + limit_s

    def _wait(self) -> None:
        work = self.workshop
        is_idle = not (work.runs or work.starting or len(work.queue) or self.background.has_answers)
        is_empty = not self.spool.drops() and not self.intake.passed
        is_mailed = not self.is_mailing and not list(self.spool.folder("outbox").glob("*.eml"))
        if (is_idle and is_empty and is_mailed) or time.monotonic() > self.until:
            self.is_stopping = True
            return
        self.next_look = self.next_mail = 0.0
        self.poll.poll(0.005)
        with suppress(BlockingIOError):
            os.read(self.wake_in, 65536)


def submit_and_live(spica: RunningSpica, limit_s: float) -> None:
    drop(spica, "try.spica", job_text(spica, "copy", more='mail = "alice@example.org"'))
    ShortLife(spica.conf, limit_s).run()


def fork(work: Callable[[], None], log: Path) -> tuple[int, int]:
    """A child that does `work` when a byte is written to the handle returned with its pid."""
    waiting, go = os.pipe()
    pid = os.fork()
    if pid:
        os.close(waiting)
        return pid, go
    status = 1
    try:
        handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(handle, 2)
        logging.getLogger().handlers[:] = [logging.StreamHandler(os.fdopen(2, "w"))]
        logging.getLogger().setLevel(logging.ERROR)
        os.close(go)
        os.read(waiting, 1)
        work()
        status = 0
    except BaseException:
        import traceback

        os.write(2, traceback.format_exc().encode())
    finally:
        os._exit(status)


def traced(spica: RunningSpica, inject: list[str], limit_s: float = PATIENCE_S) -> tuple[int, list[str]]:
    """Submission and daemon under strace: their wait status, and the calls of CHANGING that they made."""
    return traced_work(lambda: submit_and_live(spica, limit_s), spica.folder, inject)


def traced_work(work: Callable[[], None], folder: Path, inject: list[str]) -> tuple[int, list[str]]:
    trace = folder / "trace"
    pid, go = fork(work, folder / "first.log")
    options = [f"trace={CHANGING}", *inject]
    command = ["strace", "-p", str(pid), "-o", str(trace), *(word for each in options for word in ("-e", each))]
    strace = subprocess.Popen(command, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL)
    assert strace.stderr is not None
    words = strace.stderr.readline()
    assert b"attached" in words, words + strace.stderr.read()
    os.write(go, b"g")
    os.close(go)
    _, status = os.waitpid(pid, 0)
    strace.wait()
    strace.stderr.close()
    return status, trace.read_text(errors="replace").splitlines()


def clean_life(spica: RunningSpica, url: str) -> After:
    """A whole life without faults, then what there is."""
    answer = spica.folder / "after.json"

    def work() -> None:
        ShortLife(spica.conf, PATIENCE_S).run()
        tables.connect(url)
        rows = dict(Process.select(Process.id, Process.phase).tuples())
        events: dict[int, list[str]] = {}
        for process, phase in Event.select(Event.process, Event.phase).order_by(Event.id).tuples():
            events.setdefault(process, []).append(phase)
        steps = [state for (state,) in Step.select(Step.state).tuples()]
        answer.write_text(json.dumps([rows, events, steps]))

    pid, go = fork(work, spica.folder / "second.log")
    os.write(go, b"g")
    os.close(go)
    _, status = os.waitpid(pid, 0)
    assert status == 0, (spica.folder / "second.log").read_text()
    rows, events, steps = json.loads(answer.read_text())
    return After(
        places=places(spica),
        rows={int(process): phase for process, phase in rows.items()},
        events={int(process): phases for process, phases in events.items()},
        attempts=len(list(spica.results.glob("*/*/run-*/steps/*"))),
        incoming=sorted(path.name for path in (spica.spool / "incoming").iterdir()),
        rejected=sorted(path.name for path in (spica.spool / "rejected").iterdir()),
        mails=len(list((spica.spool / "mail" / "new").glob("*"))),
        products=[path.name for path in spica.results.glob("*/*/run-*/products/*")],
        steps=steps,
    )


def adopt_orphans(is_wanted: bool) -> None:
    """Whether what loses its parent becomes our child, so that it can be seen."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, int(is_wanted), 0, 0, 0)


def orphans(known: set[int]) -> list[int]:
    """Children that still run, beside `known`; dead ones are buried."""
    found = []
    for name in Path("/proc/self/task").iterdir():
        for word in (name / "children").read_text().split():
            pid = int(word)
            if pid in known:
                continue
            with suppress(ChildProcessError):
                if os.waitpid(pid, os.WNOHANG)[0] == 0:
                    found.append(pid)
    return found


def kill_all(pids: list[int]) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def fresh(template: Path, folder: Path) -> RunningSpica:
    """A copy of a spool made ready, under `folder`."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(template, folder)
    spica = RunningSpica.__new__(RunningSpica)
    spica.folder, spica.conf = folder, folder / "spica.conf"
    spica.spool, spica.results, spica.archive = folder / "spool", folder / "results", folder / "archive"
    spica.log, spica.daemon = folder / "spicad.log", None
    spica.exposures = sorted(spica.archive.glob("*.fits"))
    return spica

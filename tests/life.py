"""One life of the daemon inside the test's own process, pass by pass, with a clock that can be put forward.

For a daemon as a process of its own see RunningSpica in conftest.py; what is asserted is the affair of the tests.
"""

from __future__ import annotations

import os
import pwd
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
from conftest import RunningSpica

from spicad import config
from spicad.daemon import Daemon
from spicad.recovery import recover
from spicad.tables import Event, Process, Step
from spicad.words import IN_SPOOL

PATIENCE_S = 20.0


# Holds its exposure's lock until the file `go` appears beside its outputs: a second one at the same time fails.
WAIT = """\
title = "wait"
summary = "Waits until it is told to go on"
command = ["flock"]
version = ""
arguments = ["-n", "-E", "99", "{exposure}", "sh", "-c", "until [ -e go ]; do sleep 0.02; done; echo > went"]
memory_mb = 256

[input.exposure]
kind = "exposure"
file = "{stem}.fits"
"""


def made_ready(folder: Path) -> RunningSpica:
    """A spool of its own without a daemon, with `wait` among its applications."""
    spica = RunningSpica(folder)
    spica.application("wait", WAIT)
    return spica


def steps(spica: RunningSpica) -> list[Path]:
    """The folders of all attempts."""
    return sorted(spica.results.glob("*/*/run-*/steps/*"))


def let_go(spica: RunningSpica) -> None:
    """Ends the steps of `wait` that run now."""
    for folder in steps(spica):
        if (folder / "job").is_dir():
            (folder / "job" / "go").touch()


class Clock:
    """The time of day, put forward at will."""

    def __init__(self) -> None:
        self.ahead_s = 0.0

    def __call__(self) -> float:
        return time.time() + self.ahead_s


class Life:
    """A daemon that lives as long as `until` is called."""

    def __init__(self, spica: RunningSpica) -> None:
        self.spica, self.spool = spica, spica.spool
        self.clock = Clock()
        self.daemon = Daemon(config.load(spica.conf), self.clock)
        recover(self.daemon.workshop, self.clock())

    def until(self, holds: Callable[[], object], what: str) -> None:
        end = time.monotonic() + PATIENCE_S
        while not holds():
            assert time.monotonic() < end, f"waited in vain for {what}"
            self.daemon.next_look = 0.0
            self.daemon.once()
            self.daemon.poll.poll(0.002)
            with suppress(BlockingIOError):
                os.read(self.daemon.wake_in, 65536)
        self.daemon.ledger.flush(self.clock())

    def until_over(self, process: int) -> str:
        self.until(lambda: self.spica.phase(process) in ("COMPLETED", "ERROR", "ABORTED"), f"process {process} to end")
        return self.spica.phase(process)

    def until_quiet(self) -> None:
        """Until nothing lies in incoming/ and nothing is being looked over."""

        def is_quiet() -> bool:
            intake = self.daemon.intake
            return not self.daemon.spool.drops() and not intake.at_the_desk and not intake.passed

        self.until(is_quiet, "incoming/ to be empty")

    def passes(self, number: int = 3) -> None:
        """Some looks at the spool, when nothing is to happen."""
        for _ in range(number):
            self.daemon.next_look = 0.0
            self.daemon.once()
        self.daemon.ledger.flush(self.clock())

    def stop(self) -> None:
        self.daemon._stop()
        self.daemon.poll.close()
        for handle in (self.daemon.wake_in, self.daemon.wake_out):
            os.close(handle)


Lives = Callable[[], Life]


@pytest.fixture
def live(spica: RunningSpica) -> Iterator[Lives]:
    """Each call ends the daemon that was, steps go on, and begins another."""
    lives: list[Life] = []

    def another() -> Life:
        if lives:
            lives.pop().stop()
        lives.append(Life(spica))
        return lives[0]

    yield another
    if lives:
        lives[0].stop()


def drop(spica: RunningSpica, name: str, text: str, uid: int | None = None) -> Path:
    """A file that appears in incoming/ at once, by one rename."""
    hidden = spica.spool / "incoming" / f".{name}"
    hidden.write_text(text)
    if uid is not None:
        os.chown(hidden, uid, -1)
    target = hidden.with_name(name)
    os.rename(hidden, target)
    return target


def job_text(spica: RunningSpica, *applications: str, name: str = "try", exposures: int = 1, more: str = "") -> str:
    return spica.job(
        *(applications or ("noop",)), name=name, exposures=spica.exposures[:exposures], more=more
    ).read_text()


def order_text(order: str, process: int, more: str = "") -> str:
    return f'order = "{order}"\nprocess = {process}\n{more}\n[end]\n'


def why(spica: RunningSpica, name: str) -> str:
    return (spica.spool / "rejected" / f"{name}.why").read_text()


def places(spica: RunningSpica) -> dict[int, list[str]]:
    """For each processid the folders that hold a job file of it."""
    found: dict[int, list[str]] = {}
    for phase in IN_SPOOL:
        for path in (spica.spool / phase.folder).glob("*.spica"):
            found.setdefault(int(path.stem), []).append(phase.value)
    return found


def rows() -> dict[int, str]:
    return dict(Process.select(Process.id, Process.phase).tuples())


def events(process: int) -> list[tuple[str, str, str]]:
    """(before, phase, who) of each event, in order."""
    query = Event.select(Event.before, Event.phase, Event.who).where(Event.process == process).order_by(Event.id)
    return list(query.tuples())


def step_states(process: int) -> list[str]:
    query = Step.select(Step.state).where(Step.process == process).order_by(Step.run, Step.number)
    return [state for (state,) in query.tuples()]


@dataclass(frozen=True)
class Users:
    """Unix users of this machine: two in one group, two outside of it."""

    alice: pwd.struct_passwd
    bob: pwd.struct_passwd  # in Alice's group
    carol: pwd.struct_passwd  # in another
    dan: pwd.struct_passwd


def users() -> Users | None:
    """None where a test cannot give files away, or the machine has too few users."""
    if os.geteuid() != 0:
        return None
    by_group: dict[int, list[pwd.struct_passwd]] = {}
    for each in sorted(pwd.getpwall(), key=lambda each: each.pw_uid):
        if each.pw_uid and each.pw_gid:
            by_group.setdefault(each.pw_gid, []).append(each)
    pair = next((members for members in by_group.values() if len(members) > 1), None)
    others = [members[0] for members in by_group.values() if members is not pair]
    if pair is None or len(others) < 2:
        return None
    return Users(pair[-1], pair[0], others[0], others[1])

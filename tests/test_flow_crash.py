"""Killed, or out of space, at any call while exposures are taken: no file is lost, and none is registered twice.

How a life is ended at a chosen call is told in crashing.py. --all-crash-points tries every call, not a sample of them.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import pytest
from broken import table
from crashing import CAN_FAIL, CHANGING, fork
from flow import Stand, hidden, sky_file
from services import missing

from spicad.archive.snooppix import REFUSED, REGISTERED, WAITING
from spicad.tables import Ccd, Exposure, Transfer

pytestmark = pytest.mark.slow

FILES = {
    "1p.fits": sky_file(1),
    "2p.fits": sky_file(2, "g"),
    "1p.weight.fits": sky_file(101, "none"),
    "twin.fits": sky_file(2, "g"),
    "table.fits": table(),
}


@dataclass
class Trial:
    """A stand with files that have landed, copied to the same place for each trial."""

    stand: Stand
    template: Path
    calls: tuple[str, ...] = ()

    def afresh(self) -> Stand:
        shutil.rmtree(self.stand.folder, ignore_errors=True)
        shutil.copytree(self.template, self.stand.folder)
        self.stand.ahead_s = 0.0
        return self.stand

    def traced(self, inject: list[str]) -> tuple[int, list[str]]:
        """A life under strace: its wait status, and the calls of CHANGING that it made."""
        stand = self.afresh()
        log, trace = self.template.with_name("life.log"), self.template.with_name("trace")
        pid, go = fork(lambda: live(stand), log)
        options = [f"trace={CHANGING}", *inject]
        command = ["strace", "-p", str(pid), "-o", str(trace), *(word for each in options for word in ("-e", each))]
        strace = subprocess.Popen(command, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL)
        assert strace.stderr is not None
        assert b"attached" in strace.stderr.readline()
        os.write(go, b"g")
        os.close(go)
        _, status = os.waitpid(pid, 0)
        strace.wait()
        strace.stderr.close()
        return status, trace.read_text(errors="replace").splitlines()


def live(stand: Stand) -> None:
    with stand.open():
        for _ in range(3):
            stand.take()


@pytest.fixture(params=["move", "copy"])
def trial(request: pytest.FixtureRequest, tmp_path: Path) -> Trial:
    if not shutil.which("strace"):
        missing("strace")
    stand = Stand(tmp_path / "stand", mode=request.param, retry_s=1)
    for name, content in FILES.items():
        stand.drop(name, content)
    with stand.open():
        pass
    shutil.copytree(stand.folder, tmp_path / "template")
    made = Trial(stand, tmp_path / "template")
    status, calls = made.traced([])
    assert status == 0
    assert broken_promises(made.stand) == []
    made.calls = tuple(call.split("(")[0] for call in calls if call[0] not in "+-")
    return made


def broken_promises(stand: Stand) -> list[str]:
    """What does not hold, in words, after a clean life."""
    stand.ahead_s += 100
    with stand.open():
        for _ in range(4):
            stand.take()
        found = stand.counts()
        broken = []
        if found != {"seen": 5, WAITING: 0, REGISTERED: 3, REFUSED: 2}:
            broken.append(f"counted {found}")
        rows = list(Exposure.select())
        if len(rows) != 3 or Ccd.select().count() != 6:
            broken.append(f"the archive holds {[row.name for row in rows]} with {Ccd.select().count()} CCDs")
        broken += [f"{row.path} has other bytes" for row in rows if Path(row.path).read_bytes() != FILES[row.name]]
        kept = [path for root in (stand.one, stand.two) for path in root.rglob("*") if path.is_file()]
        if sorted(map(str, kept)) != sorted(row.path for row in rows):
            broken.append(f"on the roots lie {kept}")
        left = {path.name for path in stand.land.iterdir()}
        gone = {row.name for row in rows} if stand.settings.storage.mode == "move" else set()
        if left != set(FILES) - gone:
            broken.append(f"in the landing folder lie {left}")
        if open_ones := [row.name for row in Transfer.select().where(Transfer.state != "done")]:
            broken.append(f"transfers of {open_ones} are not done")
        broken += [f"{path} was left" for path in hidden(stand.folder) if path.parent.name != "spool"]
    return broken


def some(places: list[int], is_thorough: bool, most: int) -> list[int]:
    return places if is_thorough else places[:: max(1, len(places) // most)]


def try_each(trial: Trial, places: Iterable[int], fault: str) -> None:
    failed: dict[str, object] = {}
    tried = ended = 0
    for place in places:
        name = trial.calls[place]
        inject = f"inject={name}:{fault}:when={trial.calls[: place + 1].count(name)}"
        status, calls = trial.traced([inject])
        tried, ended = tried + 1, ended + (status != 0)
        if broken := broken_promises(trial.stand):
            last = next((call for call in reversed(calls) if call[0] not in "+-"), "")
            failed[inject] = [*broken, last[:200]]
    print(f"{tried} of {len(trial.calls)} points, {ended} lives ended by it, {len(failed)} with a broken promise")
    assert tried >= 10
    assert ended > 0
    assert not failed, "\n".join(f"{where}: {words}" for where, words in failed.items())


@pytest.fixture
def is_thorough(request: pytest.FixtureRequest) -> bool:
    return bool(request.config.getoption("--all-crash-points"))


def test_killed_at_any_call_no_file_is_lost_and_none_is_registered_twice(trial: Trial, is_thorough: bool):
    try_each(trial, some(list(range(len(trial.calls))), is_thorough, 14), "signal=SIGKILL")


def test_out_of_space_at_any_call_no_file_is_lost_and_none_is_registered_twice(trial: Trial, is_thorough: bool):
    can_fail = [place for place, name in enumerate(trial.calls) if name in CAN_FAIL.split(",")]

    syncs = [place for place in can_fail if trial.calls[place] == "fsync"]  # the last one comes after a file's name

    try_each(trial, sorted({*some(can_fail, is_thorough, 8), *some(syncs, is_thorough, 6)}), "error=ENOSPC")

"""Promises kept through faults: killed, or out of space, at any call from the drop to the mail, then a clean life.

How a life is ended at a chosen call is in crashing.py. --all-crash-points tries every call, not a sample of them.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from conftest import RunningSpica
from crashing import (
    A_WHILE_S,
    CAN_FAIL,
    PATIENCE_S,
    After,
    adopt_orphans,
    clean_life,
    fresh,
    kill_all,
    orphans,
    traced,
)  # fmt: skip
from life import made_ready
from services import MariaDB, mariadb, missing

__all__ = ["mariadb"]

pytestmark = pytest.mark.slow


@dataclass
class Stand:
    """A spool made ready, copied for each trial; the number of calls that an undisturbed life makes."""

    template: Path
    server: MariaDB | None
    calls: tuple[str, ...] = ()  # by name, in their order

    def fresh(self) -> RunningSpica:
        spica = fresh(self.template, self.template.with_name("trial"))
        if self.server:
            for table in ("process", "event", "step", "digest"):
                self.server.execute(f"TRUNCATE TABLE spica.{table}")
        return spica

    def url(self, spica: RunningSpica) -> str:
        if self.server:
            return str(spica.conf.read_text().split('url = "')[1].split('"')[0])
        return f"sqlite:///{spica.spool / 'spica.db'}"


@pytest.fixture(params=["sqlite", "mariadb"])
def stand(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Stand]:
    for tool in ("strace", "bwrap"):
        if not shutil.which(tool):
            missing(tool)
    spica = made_ready(tmp_path / "template")
    server = request.getfixturevalue("mariadb") if request.param == "mariadb" else None
    if server:
        spica.conf.write_text(spica.conf.read_text() + f'[database]\nurl = "{server.url()}"\n')
    made = Stand(spica.folder, server)
    adopt_orphans(True)
    clean_life(spica, made.url(spica))
    status, calls = traced(made.fresh(), [])
    assert status == 0
    made.calls = tuple(call.split("(")[0] for call in calls if call[0] not in "+-")
    yield made
    adopt_orphans(False)


@pytest.fixture
def is_thorough(request: pytest.FixtureRequest) -> bool:
    return bool(request.config.getoption("--all-crash-points"))


def some(count: int, is_thorough: bool, step: int) -> range:
    """All places in a list of `count`, or each `step`th of them."""
    return range(count) if is_thorough else range(step // 2, count, step)


def at(calls: tuple[str, ...], place: int, fault: str) -> list[str]:
    """strace's words for a fault at one call; it counts each system call by itself."""
    name = calls[place]
    return [f"inject={name}:{fault}:when={calls[: place + 1].count(name)}"]


def from_there_on(calls: tuple[str, ...], place: int, fault: str) -> list[str]:
    return [f"inject={name}:{fault}:when={calls[:place].count(name) + 1}+" for name in CAN_FAIL.split(",")]


def was_handed_over(calls: list[str]) -> bool:
    return any(call.startswith("rename") and "incoming/.try.spica" in call and call.endswith("= 0") for call in calls)


def broken_promises(spica: RunningSpica, after: After, calls: list[str], known: set[int], may_fail: bool) -> list[str]:
    """What does not hold, in words."""
    broken = []
    left = orphans(known)
    kill_all(left)
    if left:
        broken.append(f"processes {left} still run")
    if [path for path in after.incoming if not path.startswith(".")]:
        broken.append(f"incoming/ holds {after.incoming}")
    if not was_handed_over(calls):
        return broken + ([f"{after.places} although nothing was handed over"] if after.places or after.rows else [])
    if any(len(folders) != 1 for folders in after.places.values()):
        broken.append(f"a process is in two folders: {after.places}")
    if {process: folders[0] for process, folders in after.places.items()} != after.rows:
        broken.append(f"folders say {after.places}, rows say {after.rows}")
    taken = len(after.places) + sum(1 for name in after.rejected if name.endswith(".why"))
    if taken != 1:
        broken.append(f"the drop was answered {taken} times: {after.places}, {after.rejected}")
    ends = ["COMPLETED", "ERROR", "HELD"] if may_fail else ["COMPLETED"]
    if not after.rejected and not set(after.rows.values()) <= set(ends):
        broken.append(f"ended as {after.rows}")
    if after.rejected and not may_fail:
        broken.append(f"rejected/ holds {after.rejected}")
    if set(after.rows.values()) == {"COMPLETED"}:
        broken += _broken_results(spica, after)
    if after.mails < 1:
        broken.append("no mail")
    if after.attempts > 3:
        broken.append(f"{after.attempts} attempts")
    return broken


def _broken_results(spica: RunningSpica, after: After) -> list[str]:
    products = list(spica.results.glob("*/*/run-*/products/*"))
    whole = spica.exposures[0].read_bytes()
    if [path.read_bytes() for path in products] != [whole]:
        return [f"COMPLETED with the products {[(path.name, path.stat().st_size) for path in products]}"]
    if [state for state in after.steps if state not in ("done",)]:
        return [f"COMPLETED, and its steps are {after.steps}"]
    return []


def try_each(stand: Stand, faults: Iterable[list[str]], limit_s: float, may_fail: bool) -> None:
    known = set(orphans(set()))
    failed: dict[str, list[str]] = {}
    tried = ended = 0
    for inject in faults:
        spica = stand.fresh()
        status, calls = traced(spica, inject, limit_s)
        tried, ended = tried + 1, ended + (status != 0)
        after = clean_life(spica, stand.url(spica))
        if broken := broken_promises(spica, after, calls, known, may_fail):
            last = next((call for call in reversed(calls) if call[0] not in "+-"), "")
            said = (spica.folder / "first.log").read_text()[-2000:]
            failed[f"{inject}"] = [*broken, last[:200], said]
    print(f"{tried} points, {ended} lives ended by it, {len(failed)} with a broken promise")
    assert tried >= 4
    assert not failed, "\n".join(f"{where}\n   {words}" for where, words in failed.items())


def test_killed_at_any_call_nothing_is_lost_and_nothing_is_done_twice(stand: Stand, is_thorough: bool) -> None:
    chosen = some(len(stand.calls), is_thorough, 7 if stand.server is None else 17)

    try_each(stand, (at(stand.calls, place, "signal=SIGKILL") for place in chosen), PATIENCE_S, may_fail=False)


def test_out_of_space_once_at_any_call_keeps_the_promises(stand: Stand, is_thorough: bool) -> None:
    can_fail = [place for place, name in enumerate(stand.calls) if name in CAN_FAIL.split(",")]
    chosen = some(len(can_fail), is_thorough, 11 if stand.server is None else 17)

    faults = (at(stand.calls, can_fail[number], "error=ENOSPC") for number in chosen)

    try_each(stand, faults, A_WHILE_S, may_fail=True)


def test_out_of_space_from_any_call_on_keeps_the_promises(stand: Stand, is_thorough: bool) -> None:
    chosen = some(len(stand.calls), is_thorough, 31 if stand.server is None else 37)

    faults = (from_there_on(stand.calls, place, "error=ENOSPC") for place in chosen)

    try_each(stand, faults, A_WHILE_S, may_fail=True)

"""Deletion through kills, links and races: nothing early, nothing outside, nothing half.

What may go when is in test_retention.py. --all-crash-points kills at every system call, not a sample of them.
"""

from __future__ import annotations

import os
import random
import shutil
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from crashing import traced_work
from keeping import Keeping, ended_run, has_products, keeping
from services import missing

from spicad import sweeping
from spicad.retention import DAY_S, Terms
from spicad.words import Phase

WEIGHTS = {f"{number}.fits" for number in range(3)}


@pytest.fixture
def at(tmp_path: Path) -> Keeping:
    return keeping(tmp_path / "keeping", "most_share = 1")


def go_by(at: Keeping, days: list[float]) -> None:
    """Sweeps on some days after the runs have ended; each is told before it comes."""
    begin = at.wall, at.boottime
    for day in days:
        (at.folder / "day").write_text(f"{day}")
        at.wall, at.boottime = begin[0] + day * DAY_S, begin[1] + day * DAY_S
        at.sweep()
        at.relay_takes()


def copied(at: Keeping, folder: Path) -> Keeping:
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(at.folder, folder)
    made = keeping_again(folder)
    return replace(made, wall=at.wall, boottime=at.boottime)


def keeping_again(folder: Path) -> Keeping:
    from spicad import config
    from spicad.spool import Spool

    settings = config.load(folder / "spica.conf")
    return Keeping(folder, settings, Spool(Path(settings.paths.spool)))


# ---------------------------------------------------------------------- kills


def broken_promises(at: Keeping, runs: list[Path], neighbour: Path) -> list[str]:
    """What does not hold right after a kill."""
    day = float((at.folder / "day").read_text() or 0) if (at.folder / "day").exists() else 0.0
    broken = []
    for run in runs:
        if (run / "products").exists() and {path.name for path in (run / "products").iterdir()} != WEIGHTS:
            broken.append(f"{run.name}: half of its products are gone")
        if day < 15 and not has_products(run):
            broken.append(f"{run.name}: its products went on day {day}")
        if not (run / "job.spica").exists() or not (run / "steps/0001-copy/log").exists():
            broken.append(f"{run.name}: its recipe is gone")
    record = sweeping.read_record(runs[-1])
    if not has_products(runs[-1]) and not record.warned["1"].accepted:
        broken.append("its products went although no warning was accepted")
    if record.archived and has_products(runs[-1]):
        broken.append("it counts as archived and has its products")
    if not has_products(neighbour):
        broken.append("another process lost its products")
    return broken


@pytest.mark.slow
def test_killed_at_any_call_of_warning_and_deleting_nothing_is_early_and_nothing_stays(
    at: Keeping, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    if not shutil.which("strace"):
        missing("strace")
    for run in (1, 2):
        ended_run(at, 12, run=run, files=3)
    ended_run(at, 13, ended=at.wall + 300 * DAY_S)
    days = [10.0, 14.0, 15.5]
    whole = copied(at, tmp_path / "whole")
    status, calls = traced_work(lambda: go_by(whole, days), whole.folder, [])
    assert status == 0
    names = [call.split("(")[0] for call in calls if call[0] not in "+-"]
    is_thorough = request.config.getoption("--all-crash-points")
    failed: dict[str, list[str]] = {}
    tried = ended = 0
    for place in range(0 if is_thorough else 4, len(names), 1 if is_thorough else 9):
        inject = [f"inject={names[place]}:signal=SIGKILL:when={names[: place + 1].count(names[place])}"]
        trial = copied(at, tmp_path / "trial")
        runs = [trial.results / f"alice/000012-try/run-{run}" for run in (1, 2)]
        neighbour = trial.results / "alice/000013-try/run-1"
        status, _ = traced_work(lambda: go_by(trial, days), trial.folder, inject)  # noqa: B023
        tried, ended = tried + 1, ended + (status != 0)
        broken = broken_promises(trial, runs, neighbour)
        go_by(trial, [16.0, 17.5, 19.0])
        if any((run / name).exists() for run in runs for name in ("products", "products.going", "steps/0001-copy/job")):
            broken.append("something stays that should have gone")
        if not sweeping.read_record(runs[-1]).archived or not has_products(neighbour):
            broken.append("the end is not as it should be")
        if broken:
            failed[inject[0]] = broken
    print(f"{tried} of {len(names)} points, {ended} sweeps ended by it, {len(failed)} with a broken promise")
    assert ended >= 4
    assert failed == {}


# ---------------------------------------------------------------------- links


@pytest.fixture
def outside(tmp_path: Path) -> Iterator[Path]:
    """What lies beside the results, looks like them, and must stay."""
    places = [tmp_path / "outside" / place / "products" for place in ("", "run-1", "000012-try/run-1")]
    for place in places:
        place.mkdir(parents=True)
        (place / "precious.fits").write_text("precious")
    yield tmp_path / "outside"
    assert [(place / "precious.fits").read_text() for place in places] == ["precious"] * 3


@pytest.mark.parametrize("level", ["", "products", "run-1", "000012-try", "alice"])
def test_a_link_at_any_level_is_never_followed(at: Keeping, outside: Path, level: str) -> None:
    run = ended_run(at, 12)
    at.days(14)
    target = {
        "": run / "products" / "0.fits",
        "products": run / "products",
        "run-1": run,
        "000012-try": run.parent,
    }.get(level, run.parent.parent)
    os.rename(target, target.with_name("moved"))
    target.symlink_to(outside / "products" / "precious.fits" if not level else outside)

    at.days(4)


def test_a_folder_changed_into_a_link_between_looking_and_deleting_is_not_followed(
    at: Keeping, outside: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = ended_run(at, 12)
    at.days(14)
    put_aside = sweeping._put_aside

    def change_and_put_aside(*values: object) -> None:
        os.rename(run.parent, run.parent.with_name("000012-moved"))
        run.parent.symlink_to(outside)
        put_aside(*values)  # type: ignore[arg-type]

    monkeypatch.setattr(sweeping, "_put_aside", change_and_put_aside)
    at.later(1.1)
    at.sweep()

    assert run.parent.is_symlink()


def test_a_tree_whose_folders_become_links_while_it_is_deleted_leaves_what_they_lead_to(
    at: Keeping, outside: Path
) -> None:
    run = ended_run(at, 12, files=0)
    for number in range(200):
        (run / "products" / f"{number}").mkdir()
        (run / "products" / f"{number}" / "a.fits").write_text("a")
    stop, dice = threading.Event(), random.Random(2)

    def meddle() -> None:
        while not stop.is_set():
            name = run / "products.going" / str(dice.randrange(200))
            try:
                os.rename(name, f"{name}-moved")
                os.symlink(outside, name)
            except OSError:
                continue

    at.days(14)
    thread = threading.Thread(target=meddle)
    thread.start()
    try:
        at.later(1.1)
        at.sweep()
    finally:
        stop.set()
        thread.join()
    at.sweep()

    assert not (run / "products.going").exists()


def test_other_names_of_a_product_outside_keep_their_content(at: Keeping, outside: Path) -> None:
    run = ended_run(at, 12)
    content = (run / "products" / "0.fits").read_bytes()
    os.link(run / "products" / "0.fits", outside / "same.fits")

    at.days(17)

    assert not (run / "products").exists()
    assert (outside / "same.fits").read_bytes() == content


# ---------------------------------------------------------------------- races


def test_a_wish_to_keep_that_comes_while_the_sweep_goes_on_is_heard(
    at: Keeping, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = ended_run(at, 12)
    at.days(14)
    at.later(1.1)
    decide = sweeping.retention.what_may_go

    def decide_and_keep(*values: object) -> object:
        decision = decide(*values)  # type: ignore[arg-type]
        assert decision.go
        sweeping.keep(run.parent, at.spool, Terms.of(at.settings), 5, at.wall, is_limited=True)
        return decision

    monkeypatch.setattr(sweeping.retention, "what_may_go", decide_and_keep)
    at.sweep()

    assert has_products(run)


def test_a_run_that_begins_while_the_sweep_goes_on_keeps_what_it_may_reuse(
    at: Keeping, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = ended_run(at, 12)
    at.days(14)
    at.later(1.1)
    decide = sweeping.retention.what_may_go

    def decide_and_queue(*values: object) -> object:
        (at.spool.path(12, Phase.QUEUED)).write_text("")
        return decide(*values)  # type: ignore[arg-type]

    monkeypatch.setattr(sweeping.retention, "what_may_go", decide_and_queue)
    at.sweep()

    assert has_products(run)


def test_a_run_that_begins_between_the_decision_and_the_deletion_keeps_its_own(
    at: Keeping, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = ended_run(at, 12)
    at.days(14)
    at.later(1.1)
    finish, begun = sweeping._finish, []

    def begin_and_finish(*values: object) -> None:
        begun.append(ended_run(at, 12, run=2))
        finish(*values)  # type: ignore[arg-type]

    monkeypatch.setattr(sweeping, "_finish", begin_and_finish)
    at.sweep()

    assert not (first / "products").exists()
    assert not (first / "products.going").exists()
    assert has_products(begun[0])
    assert not (begun[0] / "retention.json").exists()


def test_a_folder_that_cannot_be_deleted_keeps_no_other_from_its_time(
    at: Keeping, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = ended_run(at, 12), ended_run(at, 13)
    at.days(14)
    rename = os.rename

    def refuse(source: object, target: object, **handles: int) -> None:
        if handles and os.readlink(f"/proc/self/fd/{handles['src_dir_fd']}") == str(first):
            raise PermissionError(1, "Operation not permitted")
        rename(source, target, **handles)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "rename", refuse)
    at.days(2)

    assert has_products(first)
    assert not (second / "products").exists()

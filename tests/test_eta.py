"""What steps have taken and used: foretold only where there is ground for it, counted for the fair share.

How use changes the order is told in test_waiting.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from spicad import tables
from spicad.archive.locality import places_of, shares_of
from spicad.eta import LEAST, MOST_AHEAD, range_of, time_before, time_left, workload
from spicad.fair_share import recent_use
from spicad.tables import Exposure, Process, Step
from spicad.waiting import DAY_S, Weights

NOW = 1_800_000_000.0


@pytest.fixture(autouse=True)
def database(tmp_path: Path) -> Iterator[None]:
    opened = tables.connect(f"sqlite:///{tmp_path / 'spica.db'}")
    tables.upgrade()
    yield
    opened.close()


def process(
    number: int, owner: str = "alice", group: str = "lensing", phase: str = "EXECUTING", work: str | None = None
) -> None:
    Process.insert(
        id=number, token=f"t{number}", name="m101", owner=owner, group=group, rank=0, phase=phase, submitted=NOW,
        workload=work,
    ).execute()  # fmt: skip


def step(number: int, state: str, took_s: float = 10.0, ago_s: float = 3600.0, **more: object) -> None:
    """Of process 1, unless `more` says another."""
    ended = NOW - ago_s
    values = {
        "process": 1, "run": 1, "application": "scamp", "label": "m101", "owner": "alice", "input_bytes": 1000,
        "started": None if state == "waiting" else ended - took_s, "ended": ended if state == "done" else None,
    }  # fmt: skip
    Step.insert(number=number, state=state, **{**values, **more}).execute()


def exposure(name: str, node: str) -> str:
    Exposure.insert(
        obs_id=name, name=name, node=node, path=f"/data/{name}", path_key=f"{node}{name}", sha256=name, bytes=10,
        mtime_ns=0, registered=NOW,
    ).execute()  # fmt: skip
    return f"/data/{name}"


# Foretelling


@pytest.mark.parametrize("count", [0, LEAST - 1])
def test_too_few_past_steps_are_no_ground_for_a_word(count: int) -> None:
    assert range_of([(10.0, 1000)] * count, 1000) is None


def test_the_quartiles_of_steps_with_as_much_input_are_foretold() -> None:
    small = [(float(seconds), 1000) for seconds in (10, 20, 30, 40, 50)]
    large = [(500.0, 100_000)] * 20

    assert range_of([*small, *large], 1500) == (20, 40)
    assert range_of([*small, *large], 150_000) == (500, 500)


def test_without_enough_of_the_same_size_all_are_looked_at() -> None:
    assert range_of([(10.0, 1000)] * 4 + [(20.0, 90_000)] * 4, 1000) == (10, 20)


def test_what_is_left_of_a_process_is_shared_by_the_slots() -> None:
    process(1)
    process(2)
    for number in range(LEAST):
        step(number, "done", process=2)
    for number in range(4):
        step(number, "waiting")

    assert time_left(1, 1, NOW, slots=2) == (20, 20)
    assert time_left(1, 1, NOW, slots=8) == (10, 10)  # never less than its longest step


def test_what_a_running_step_has_had_is_taken_off() -> None:
    process(1)
    process(2)
    for number in range(LEAST):
        step(number, "done", process=2)
    step(1, "running", started=NOW - 4)

    assert time_left(1, 1, NOW, slots=2) == (6, 6)


def test_one_application_that_nobody_knows_leaves_all_unsaid() -> None:
    process(1)
    process(2)
    for number in range(LEAST):
        step(number, "done", process=2)
    step(1, "waiting")
    step(2, "waiting", application="swarp")

    assert time_left(1, 1, NOW, slots=2) is None


# Counting


def test_use_is_what_the_rows_say_with_slots_and_without_reused_steps() -> None:
    process(1)
    step(1, "done", took_s=3600.0, ago_s=0.0, slots=2)
    step(2, "reused", took_s=90_000.0, ago_s=0.0, ended=NOW)
    step(3, "failed", took_s=7200.0, ago_s=DAY_S, ended=NOW - DAY_S)
    step(4, "done", took_s=1e6, ago_s=40 * DAY_S)

    share = recent_use(NOW).share("alice", "solar", NOW, Weights(share_hours=3.0))

    assert share == pytest.approx((0.5 + 1) / 2)  # 2 h of today, half of 2 h of yesterday


# Locality


def share(node: str, files: dict[str, int]) -> float:
    return shares_of(files, places_of(files, "n1")).on(node)


def test_locality_is_the_share_of_the_bytes_that_lie_on_the_node() -> None:
    here, there, both = exposure("a.fits", "n1"), exposure("b.fits", "n2"), exposure("c.fits", "n1")
    exposure("c.fits", "n2")

    assert share("n1", {here: 100, there: 300, both: 100}) == pytest.approx(0.4)
    assert share("n2", {here: 100, there: 300, both: 100}) == pytest.approx(0.8)
    assert share("n3", {here: 100, there: 300, both: 100}) == 0
    assert share("n1", {"/home/alice/own.fits": 10, there: 10}) == pytest.approx(0.5)


def test_everything_is_local_where_there_is_one_node() -> None:
    exposure("a.fits", "n1")

    assert share("n1", {"/data/a.fits": 1, "/data/unknown.fits": 1}) == 1
    assert share("n1", {}) == 1


def test_what_the_archive_does_not_know_is_as_near_to_every_node() -> None:
    there = exposure("b.fits", "n2")

    assert share("n3", {there: 30, "/home/alice/own.fits": 10}) == pytest.approx(0.25)
    assert share("n2", {there: 30, "/home/alice/own.fits": 10}) == 1


# Those that have not begun


def has_run(count: int, application: str = "scamp", took_s: float = 10.0) -> None:
    for number in range(count):
        step(number, "done", took_s, process=100, run=1 + (application == "swarp"), application=application)


def test_a_queued_process_is_foretold_by_what_it_has_to_do() -> None:
    has_run(LEAST)
    process(1, phase="QUEUED", work=workload([("scamp", 1000)] * 4))

    assert time_left(1, 1, NOW, slots=2) == (20.0, 20.0)
    assert time_left(1, 1, NOW, slots=8) == (10.0, 10.0)


def test_a_queued_process_is_foretold_from_five_past_runs_on() -> None:
    has_run(LEAST - 1)
    process(1, phase="QUEUED", work=workload([("scamp", 1000)]))

    assert time_left(1, 1, NOW, slots=1) is None


def test_a_process_of_which_nobody_knows_the_work_is_not_foretold() -> None:
    has_run(LEAST)
    process(1, phase="QUEUED")
    process(2, phase="QUEUED", work=workload([("scamp", 1000)]))

    assert time_left(1, 1, NOW, slots=1) is None
    assert time_before([], [1, 2], NOW, slots=1) is None


def test_the_time_until_ones_turn_is_that_of_all_before_on_all_slots() -> None:
    has_run(LEAST)
    has_run(LEAST, "swarp", took_s=30.0)
    process(1, phase="QUEUED", work=workload([("scamp", 1000), ("swarp", 1000)]))
    process(2)
    step(50, "waiting", process=2)
    step(51, "running", process=2, started=NOW - 4.0)

    assert time_before([2], [1], NOW, slots=2) == ((10 + 30 + 10 + 6) / 2,) * 2
    assert time_before([], [], NOW, slots=2) == (0.0, 0.0)


def test_behind_thousands_nobody_is_told_a_time() -> None:
    assert time_before([], range(MOST_AHEAD + 1), NOW, slots=2) is None

"""From incoming/ to queued/: odd drops answered while good ones go on, each drop taken once, orders by rank.

The ritual on one file is told in test_spool.py; starts after a crash in test_recovery.py and test_crash.py.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from conftest import RunningSpica, wait_until
from life import (
    Life,
    Users,
    drop,
    events,
    job_text,
    let_go,
    made_ready,
    order_text,
    places,
    rows,
    step_states,
    users,
    why,
)

from spicad import people
from spicad.backends import local

LATER = f"not_before = {datetime.now(UTC) + timedelta(days=2):%Y-%m-%dT%H:%M:%SZ}"


@pytest.fixture
def spica(tmp_path: Path) -> RunningSpica:
    return made_ready(tmp_path)


@pytest.fixture
def life(spica: RunningSpica) -> Iterator[Life]:
    alive = Life(spica)
    yield alive
    for process in list(alive.daemon.workshop.runs):
        alive.daemon.workshop.cancel(process, "the test")
    alive.stop()
    spica.end()


def taken(life: Life, name: str = "try.spica", text: str = "", uid: int | None = None) -> int:
    """The processid that a drop becomes."""
    before = set(places(life.spica))
    drop(life.spica, name, text or job_text(life.spica), uid)
    life.until_quiet()
    (process,) = set(places(life.spica)) - before
    life.daemon.ledger.flush(life.clock())
    return process


# Drops


def test_a_drop_becomes_a_process_and_is_worked_off(life: Life, spica: RunningSpica) -> None:
    process = taken(life, text=job_text(spica, "copy", exposures=3))

    assert life.until_over(process) == "COMPLETED"
    life.passes(1)
    assert rows() == {process: "COMPLETED"}
    assert [phase for _, phase, _ in events(process)] == ["QUEUED", "EXECUTING", "COMPLETED"]
    assert step_states(process) == ["done"] * 3
    assert len(list(spica.results.glob("*/*/run-1/products/*.fits"))) == 3


def test_odd_drops_are_answered_and_the_good_one_among_them_is_taken(life: Life, spica: RunningSpica) -> None:
    incoming = spica.spool / "incoming"
    (incoming / "a-link.spica").symlink_to("/etc/passwd")
    os.mkfifo(incoming / "b-fifo.spica")
    (incoming / "c-folder.spica").mkdir()
    drop(spica, "d-words.spica", 'name = "x"\nexposurs = []\n[end]\n')
    drop(spica, "e-deep.spica", "a = " + "[" * 30_000 + "\n[end]\n")
    drop(spica, "new\nline.spica", job_text(spica))

    process = taken(life, "z-good.spica")

    assert life.until_over(process) == "COMPLETED"
    assert list(incoming.iterdir()) == []
    assert "instead of linking" in why(spica, "a-link.spica")
    assert 'Did you mean "exposures"?' in why(spica, "d-words.spica")
    assert "nested too deeply" in why(spica, "e-deep.spica")
    assert len(list((spica.spool / "rejected").glob("*.why"))) == 6


def test_an_error_of_spica_itself_refuses_that_drop_only(
    life: Life, spica: RunningSpica, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("a bug")

    with monkeypatch.context() as patched:
        patched.setattr("spicad.intake.companions_of", broken)
        drop(spica, "try.spica", job_text(spica))
        life.until_quiet()

    assert "an error of Spica itself: a bug" in why(spica, "try.spica")
    assert life.until_over(taken(life)) == "COMPLETED"


def test_half_a_copy_waits_for_its_end(life: Life, spica: RunningSpica) -> None:
    whole = job_text(spica)
    path = drop(spica, "try.spica", whole[:-3])
    life.passes()
    assert path.exists()

    path.write_text(whole)
    life.until_quiet()

    assert list(places(spica)) == [1]


def test_half_a_copy_is_refused_in_the_end(life: Life, spica: RunningSpica) -> None:
    path = drop(spica, "try.spica", job_text(spica)[:-3])
    life.passes()
    life.clock.ahead_s = 59
    life.passes()
    assert path.exists()

    life.clock.ahead_s = 61
    life.passes()

    assert not path.exists()
    assert "Add it" in why(spica, "try.spica")


def test_hundreds_of_half_copies_keep_nobody_waiting(life: Life, spica: RunningSpica) -> None:
    for number in range(600):
        drop(spica, f"half-{number}.spica", "name")
    drop(spica, "whole.spica", job_text(spica))

    life.until(lambda: places(spica), "the whole one to be taken")
    life.until(lambda: not life.daemon.intake.has_more, "the intake to come to rest")


def test_a_drop_that_vanishes_at_the_desk_is_not_taken(life: Life, spica: RunningSpica) -> None:
    path = drop(spica, "try.spica", job_text(spica))
    life.daemon.intake.look(life.clock())
    assert life.daemon.intake.at_the_desk

    path.unlink()
    life.until_quiet()

    assert places(spica) == {}


def test_a_drop_that_is_replaced_at_the_desk_is_taken_as_it_is_now(life: Life, spica: RunningSpica) -> None:
    drop(spica, "try.spica", job_text(spica, name="before"))
    life.daemon.intake.look(life.clock())
    assert life.daemon.intake.at_the_desk

    drop(spica, "try.spica", job_text(spica, name="after"))
    life.until_quiet()

    assert list(places(spica)) == [1]
    assert life.until_over(1) == "COMPLETED"
    assert [path.name for path in spica.results.glob("*/*")] == ["000001-after"]


def test_a_refused_drop_that_cannot_be_moved_is_explained_once(
    life: Life, spica: RunningSpica, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with the folder of another user, when the daemon is not root."""
    rename = os.rename

    def not_out_of_incoming(source: Any, target: Any) -> None:
        if Path(source).parent.name == "incoming":
            raise PermissionError(13, "Permission denied")
        rename(source, target)

    (spica.spool / "incoming" / "folder.spica").mkdir()
    with monkeypatch.context() as patched:
        patched.setattr(os, "rename", not_out_of_incoming)
        life.passes(5)

    assert [path.name for path in (spica.spool / "rejected").iterdir()] == ["folder.spica.why"]


def test_two_refused_drops_of_one_name_are_both_kept(life: Life, spica: RunningSpica) -> None:
    for number in (1, 2):
        drop(spica, "same.spica", f"number = {number}\n[end]\n")
        life.until_quiet()

    kept = sorted(path.name for path in (spica.spool / "rejected").iterdir())
    assert kept == ["same-2.spica", "same-2.spica.why", "same.spica", "same.spica.why"]


def rules_beside(spica: RunningSpica, name: str) -> str:
    return job_text(spica).replace('[[task]]\napplication = "noop"\neach = "exposure"\n', f'rules = "{name}"\n')


def test_a_companion_of_another_user_is_as_good_as_none(life: Life, spica: RunningSpica) -> None:
    who = some_users()
    for name in ("mine.toml", "link.toml"):
        (spica.spool / "incoming" / name).write_text("") if name == "mine.toml" else None
    (spica.spool / "incoming" / "link.toml").symlink_to("/etc/passwd")
    for name in ("mine.toml", "link.toml"):
        os.chown(spica.spool / "incoming" / name, who.bob.pw_uid, -1, follow_symlinks=False)
        drop(spica, f"{name}.spica", rules_beside(spica, name), who.alice.pw_uid)
    life.until_quiet()

    for name in ("mine.toml", "link.toml"):
        assert f'there is no file "{name}" beside this one. Drop it before' in why(spica, f"{name}.spica")
        assert os.path.lexists(spica.spool / "incoming" / name)


def test_a_companion_goes_with_the_last_drop_that_names_it(life: Life, spica: RunningSpica) -> None:
    incoming = spica.spool / "incoming"
    (incoming / "mine.toml").write_text('title = "Mine"\n[[task]]\napplication = "noop"\neach = "exposure"\n')
    for name in ("a", "b", "c"):
        drop(spica, f"{name}.spica", rules_beside(spica, "mine.toml"))

    life.until_quiet()

    assert len(places(spica)) == 3
    assert list(incoming.iterdir()) == []


def test_a_companion_that_was_changed_meanwhile_is_kept(
    life: Life, spica: RunningSpica, monkeypatch: pytest.MonkeyPatch
) -> None:
    incoming = spica.spool / "incoming"
    text = 'title = "Mine"\n[[task]]\napplication = "noop"\neach = "exposure"\n'
    (incoming / "mine.toml").write_text(text)
    accept = life.daemon.ledger.accept

    def meanwhile(new: Any) -> Any:
        (incoming / "mine.new").write_text(text.replace("Mine", "Newer"))
        os.rename(incoming / "mine.new", incoming / "mine.toml")
        return accept(new)

    with monkeypatch.context() as patched:
        patched.setattr(life.daemon.ledger, "accept", meanwhile)
        drop(spica, "try.spica", rules_beside(spica, "mine.toml"))
        life.until_quiet()

    assert len(places(spica)) == 1
    assert "Newer" in (incoming / "mine.toml").read_text()


def test_nothing_is_taken_while_the_full_disk_refuses_the_copy(
    life: Life, spica: RunningSpica, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries = []

    def full(*_: object, **__: object) -> None:
        tries.append(1)
        raise OSError(28, "No space left on device")

    path = drop(spica, "try.spica", job_text(spica))
    with monkeypatch.context() as patched:
        patched.setattr("spicad.spool.write_tmp", full)
        life.until(lambda: len(tries) > 2, "three tries")
    assert path.exists()
    assert places(spica) == {}

    life.until_quiet()

    assert life.until_over(1) == "COMPLETED"


def test_a_queue_that_cannot_be_synced_keeps_the_drop_and_makes_no_second_process(
    life: Life, spica: RunningSpica, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise OSError(5, "Input/output error")

    path = drop(spica, "try.spica", job_text(spica, more=LATER))
    with monkeypatch.context() as patched:
        patched.setattr("spicad.spool.sync_folder", broken)
        life.until(lambda: places(spica), "the copy to be placed")
        life.passes()
    assert path.exists()

    life.until_quiet()

    assert places(spica) == {1: ["QUEUED"]}
    assert len(life.daemon.workshop.queue) == 1


def test_a_process_does_not_start_before_its_time(life: Life, spica: RunningSpica) -> None:
    soon = f"not_before = {datetime.now(UTC) + timedelta(minutes=10):%Y-%m-%dT%H:%M:%SZ}"
    process = taken(life, text=job_text(spica, more=soon))
    life.clock.ahead_s = 590
    life.passes()
    assert spica.phase(process) == "QUEUED"

    life.clock.ahead_s = 602

    assert life.until_over(process) == "COMPLETED"


@pytest.mark.slow
@pytest.mark.parametrize(("watch", "count"), [("events", 2000), ("looks", 200)])
def test_a_flood_of_drops_is_taken_each_once_with_and_without_hints(tmp_path: Path, watch: str, count: int) -> None:
    spica = RunningSpica(tmp_path)
    spica.conf.write_text(spica.conf.read_text().replace("[daemon]", f'[daemon]\nwatch = "{watch}"'))
    spica.start()
    text = job_text(spica, more=LATER)
    for number in range(count):
        drop(spica, f"drop-{number:04d}.spica", text)

    wait_until(lambda: not any((spica.spool / "incoming").iterdir()), "incoming/ to be empty", 120)
    spica.end()

    assert list((spica.spool / "rejected").iterdir()) == []
    assert places(spica) == {number: ["QUEUED"] for number in range(1, count + 1)}
    drops = {
        line.split('"')[1] for path in spica.spool.glob("queued/*") for line in path.open() if line[:6] == "drop ="
    }
    assert len(drops) == count


# Orders


def some_users() -> Users:
    found = users()
    if found is None:
        pytest.skip("needs root and four Unix users, two of them in one group")
    return found


@pytest.fixture
def who(spica: RunningSpica) -> Iterator[Users]:
    found = some_users()
    ranks = f'[ranks]\ngroup_administrator = ["{found.bob.pw_name}"]\nadministrator = ["{found.dan.pw_name}"]\n'
    spica.conf.write_text(spica.conf.read_text() + ranks)
    people._names.cache_clear()
    yield found
    people._names.cache_clear()


def order(life: Life, verb: str, process: int, uid: int, more: str = "") -> str:
    """'' when it was obeyed, else the reason."""
    name = f"{verb}-{process}-{uid}.spica"
    drop(life.spica, name, order_text(verb, process, more), uid)
    life.until_quiet()
    life.daemon.ledger.flush(life.clock())
    path = life.spica.spool / "rejected" / f"{name}.why"
    return path.read_text() if path.exists() else ""


def waits(spica: RunningSpica) -> str:
    return job_text(spica, more=LATER)


@pytest.mark.parametrize("actor", ["alice", "bob", "dan"])
def test_a_queued_process_is_held_released_and_cancelled(
    who: Users, life: Life, spica: RunningSpica, actor: str
) -> None:
    uid = getattr(who, actor).pw_uid
    process = taken(life, text=waits(spica), uid=who.alice.pw_uid)

    assert not order(life, "hold", process, uid)
    assert places(spica) == {process: ["HELD"]}
    assert not order(life, "hold", process, uid)
    assert not order(life, "release", process, uid)
    assert places(spica) == {process: ["QUEUED"]}
    assert not order(life, "cancel", process, uid)
    assert places(spica) == {process: ["ABORTED"]}

    name = getattr(who, actor).pw_name
    assert [event[1:] for event in events(process)][1:] == [("HELD", name), ("QUEUED", name), ("ABORTED", name)]
    assert rows() == {process: "ABORTED"}


@pytest.mark.parametrize(
    ("verb", "who_may"),
    [(verb, "its owner, its group's administrator and administrators") for verb in ("hold", "release", "cancel")]
    + [("rerun", "its owner and administrators")],
)
def test_a_stranger_on_the_machine_is_told_whose_process_it_is(
    who: Users, life: Life, spica: RunningSpica, verb: str, who_may: str
) -> None:
    process = taken(life, text=waits(spica), uid=who.alice.pw_uid)

    forbidden = order(life, verb, process, who.carol.pw_uid).partition(": ")[2]
    unknown = order(life, verb, 4711, who.carol.pw_uid).partition(": ")[2]

    assert forbidden == f"process {process} belongs to {who.alice.pw_name}; only {who_may} may {verb} it.\n"
    assert unknown == "there is no process 4711.\n"
    assert places(spica) == {process: ["QUEUED"]}


def test_a_group_administrator_does_not_rerun_what_is_not_theirs(who: Users, life: Life, spica: RunningSpica) -> None:
    process = taken(life, uid=who.alice.pw_uid)
    life.until_over(process)

    assert "only its owner and administrators may rerun it" in order(life, "rerun", process, who.bob.pw_uid)
    assert not order(life, "rerun", process, who.dan.pw_uid)


def test_a_running_process_is_held_after_its_steps_and_goes_on_when_released(
    who: Users, life: Life, spica: RunningSpica
) -> None:
    process = taken(life, text=job_text(spica, "wait", exposures=3), uid=who.alice.pw_uid)
    life.until(lambda: len(life.daemon.workshop.bench.running) == 2, "two steps to run")

    assert not order(life, "hold", process, who.alice.pw_uid)
    life.passes()
    assert spica.phase(process) == "EXECUTING"
    let_go(spica)
    life.until(lambda: spica.phase(process) == "HELD", "it to be held")
    life.passes(1)
    assert step_states(process) == ["done", "done", "waiting"]

    assert not order(life, "release", process, who.alice.pw_uid)
    life.until(lambda: life.daemon.workshop.bench.running, "the third step to run")
    let_go(spica)

    assert life.until_over(process) == "COMPLETED"
    life.passes(1)
    assert step_states(process) == ["done"] * 3


def test_a_running_process_is_cancelled_with_its_steps(who: Users, life: Life, spica: RunningSpica) -> None:
    process = taken(life, text=job_text(spica, "wait", exposures=2), uid=who.alice.pw_uid)
    life.until(lambda: len(life.daemon.workshop.bench.running) == 2, "two steps to run")
    pids = [local.launched_in(running.folder).pid for running in life.daemon.workshop.bench.running.values()]

    assert not order(life, "cancel", process, who.alice.pw_uid, 'why = "wrong night"')

    assert life.until_over(process) == "ABORTED"
    life.passes(1)
    assert rows() == {process: "ABORTED"}
    assert not any(os.path.exists(f"/proc/{pid}") for pid in pids)


def test_a_process_runs_again_when_asked(who: Users, life: Life, spica: RunningSpica) -> None:
    process = taken(life, text=job_text(spica, "copy"), uid=who.alice.pw_uid)
    life.until_over(process)

    assert not order(life, "rerun", process, who.alice.pw_uid, "fresh = true")
    life.until(lambda: list(spica.results.glob("*/*/run-2/outcome.json")), "the second run")
    life.until_over(process)
    life.passes(1)

    assert places(spica) == {process: ["COMPLETED"]}
    assert step_states(process) == ["done", "done"]


def test_moves_by_hand_between_queued_and_held_are_honoured(life: Life, spica: RunningSpica) -> None:
    process = taken(life, text=waits(spica))
    queued, held = (spica.spool / folder / f"{process:06d}.spica" for folder in ("queued", "held"))

    os.rename(queued, held)
    life.passes()
    assert rows() == {process: "HELD"}
    assert process not in life.daemon.workshop.queue

    os.rename(held, queued)
    life.passes()
    assert rows() == {process: "QUEUED"}
    assert process in life.daemon.workshop.queue

    queued.unlink()
    life.passes()
    assert rows() == {process: "ABORTED"}
    assert [event[1:] for event in events(process)][1:] == [
        ("HELD", "by hand"),
        ("QUEUED", "by hand"),
        ("ABORTED", "by hand"),
    ]


def test_garbage_put_into_queued_by_hand_stops_nothing(life: Life, spica: RunningSpica) -> None:
    (spica.spool / "queued" / "000077.spica").write_text("garbage")
    life.passes()

    assert life.until_over(taken(life)) == "COMPLETED"


def test_an_order_that_says_nothing_sensible_is_refused(life: Life, spica: RunningSpica) -> None:
    drop(spica, "try.spica", 'order = "hol"\nprocess = 1\n[end]\n')
    life.until_quiet()

    assert "one of hold, release, cancel, rerun" in why(spica, "try.spica")

"""Retention with a daemon: rows, events, orders, and a database that was lost.

What may go when is in test_retention.py.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from life import Life, drop, job_text, made_ready, order_text, rows, users, why

from spicad import quota, sweeping
from spicad.retention import DAY_S, Moment
from spicad.tables import Event, Process

pytestmark = pytest.mark.slow

CONF = '[retention]\nmost_share = 1\nsweep_s = 1\nkeep_longer_days = 10\nadministrator = "dan@example.org"\n'


@pytest.fixture
def life(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Life]:
    """A life whose clocks, that of the day and that of the boot, go together."""
    spica = made_ready(tmp_path)
    spica.conf.write_text(spica.conf.read_text() + CONF)
    made = Life(spica)
    monkeypatch.setattr(sweeping, "moment_now", lambda wall: Moment(wall, made.daemon.clock.ahead_s, "one"))  # type: ignore[attr-defined]
    yield made
    made.stop()


def completed(life: Life) -> int:
    drop(life.spica, "try.spica", job_text(life.spica, "copy", more='mail = "alice@example.org"'))
    life.until(lambda: rows().get(1) == "COMPLETED", "the process to end")
    return 1


def days(life: Life, number: int) -> None:
    """A sweep each day, and all mails delivered to the Maildir."""
    for _ in range(number):
        life.daemon.clock.ahead_s += DAY_S  # type: ignore[attr-defined]
        keeper = life.daemon.housekeeping
        keeper.next_sweep = life.daemon.next_mail = 0.0
        life.passes(1)
        life.until(lambda: not keeper.is_sweeping, "the sweep to end")  # noqa: B023
        life.daemon.next_mail = 0.0
        outbox = life.spica.spool / "outbox"
        life.until(lambda: not list(outbox.glob("*.eml")) and not life.daemon.is_mailing, "the mails to go")  # noqa: B023


def archived(life: Life) -> Callable[[], bool]:
    return lambda: rows() == {1: "ARCHIVED"}


def products(life: Life) -> list[str]:
    return [path.name for path in life.spica.results.glob("*/*/run-*/products/*")]


def test_a_process_is_archived_after_its_time_and_rebuilt_from_its_recipe(life: Life) -> None:
    completed(life)
    made = [path.read_bytes() for path in life.spica.results.glob("*/*/run-1/products/*")]
    days(life, 14)
    assert len(products(life)) == 1
    days(life, 3)
    life.until(archived(life), "the row to say so")
    assert products(life) == []
    assert "To make them again: spica rebuild 1" in life.spica.spica("results", "1", status=3).stderr

    drop(life.spica, "again.spica", order_text("rebuild", 1))
    life.until(lambda: rows() == {1: "COMPLETED"}, "the process to be rebuilt")

    assert [path.read_bytes() for path in life.spica.results.glob("*/*/run-2/products/*")] == made
    told = [event.why for event in Event.select().order_by(Event.id)]
    assert "its time was over: products gone, recipe kept" in told
    assert [words for words in told if "accepted for delivery" in words and "warning" in words] == [
        f"the warning {number} days before its products go was accepted for delivery" for number in (5, 1)
    ]


def test_the_row_tells_when_the_products_go(life: Life) -> None:
    completed(life)

    row = Process.get_by_id(1)

    assert row.expires == pytest.approx(row.ended + 15 * DAY_S)
    record = json.loads(life.spica.spica("show", "1", "--json").stdout)
    assert record["expires"]
    assert "kept until" in life.spica.spica("show", "1").stdout


def test_an_owner_keeps_products_within_the_limit(life: Life) -> None:
    completed(life)

    drop(life.spica, "long.spica", order_text("keep", 1, "days = 25"))
    life.until_quiet()
    life.until(lambda: "keeps its products" in Event.select().order_by(Event.id.desc()).get().why, "the event")

    assert Process.get_by_id(1).expires == pytest.approx(life.daemon.clock() + 25 * DAY_S, abs=60)
    days(life, 24)
    assert len(products(life)) == 1


def test_another_user_may_not_keep_what_is_not_his(life: Life) -> None:
    everybody = users()
    if everybody is None:
        assert os.geteuid() != 0
        pytest.skip("files cannot be given away here")
    completed(life)

    drop(life.spica, "keep.spica", order_text("keep", 1), uid=everybody.carol.pw_uid)
    drop(life.spica, "sweep.spica", 'order = "sweep"\n[end]\n', uid=everybody.carol.pw_uid)
    drop(life.spica, "rebuild.spica", order_text("rebuild", 1), uid=everybody.carol.pw_uid)
    life.until_quiet()

    assert "there is no process 1" in why(life.spica, "keep.spica")
    assert "there is no process 1" in why(life.spica, "rebuild.spica")
    assert "only administrators" in why(life.spica, "sweep.spica")


def test_products_are_deleted_at_once_by_whom_they_belong_to(life: Life) -> None:
    completed(life)
    life.until(lambda: quota.standings(), "the use to be measured")
    refused = life.spica.spica("delete", "1", status=2).stderr
    assert "--yes" in refused

    drop(life.spica, "delete.spica", order_text("delete", 1, 'why = "no room"'))
    life.until(archived(life), "the row to say so")
    folder = next(life.spica.results.iterdir())
    life.until(lambda: not list(folder.glob("*/run-1/products*")), "the products to go")
    size = sum(quota.measure(folder).values())
    life.until(lambda: quota.standing_of(quota.USER, folder.name).used == size, "the use to be measured")

    assert list(folder.glob("*/run-1/recipe.txt"))
    assert [event.who for event in Event.select() if event.why.endswith("no room")] == ["root"]
    drop(life.spica, "delete.spica", order_text("delete", 1))
    life.until_quiet()
    assert "are gone already" in why(life.spica, "delete.spica")


def test_an_order_to_delete_that_comes_again_after_a_crash_is_obeyed_already(life: Life) -> None:
    completed(life)
    folder = next(iter(life.spica.results.glob("*/*")))
    drop(life.spica, "delete.spica", order_text("delete", 1))
    [found] = [life.daemon.spool.read_drop(name) for name in life.daemon.spool.drops()]

    kept, _ = sweeping.let_go_now(life.spica.results, folder, life.daemon.spool, life.daemon.clock(), found.token)
    assert kept  # killed here: the record stands, the drop is still there
    life.until(archived(life), "the row to say so")

    assert products(life) == []
    assert list((life.spica.spool / "rejected").iterdir()) == []
    assert not list((life.spica.spool / "incoming").iterdir())


def test_what_is_not_over_is_not_deleted(life: Life) -> None:
    drop(life.spica, "try.spica", job_text(life.spica, "idle"))
    life.until(lambda: rows().get(1) == "EXECUTING", "the process to begin")

    drop(life.spica, "delete.spica", order_text("delete", 1))
    life.until_quiet()

    assert "is not over" in why(life.spica, "delete.spica")
    drop(life.spica, "cancel.spica", order_text("cancel", 1))
    life.until_over(1)


def test_a_lost_database_changes_nothing_for_what_is_gone(tmp_path: Path, life: Life) -> None:
    completed(life)
    days(life, 17)
    life.until(archived(life), "the row to say so")
    ahead_s = life.daemon.clock.ahead_s  # type: ignore[attr-defined]
    life.stop()
    for path in life.spica.spool.glob("spica.db*"):
        path.unlink()

    after = Life(life.spica)
    after.daemon.clock.ahead_s = ahead_s  # type: ignore[attr-defined]
    life.daemon = after.daemon
    life.until(archived(life), "the row to follow the capsule")

    assert products(life) == []


def test_a_process_whose_job_file_has_left_the_spool_is_kept_and_rebuilt(life: Life) -> None:
    completed(life)
    (life.spica.spool / "completed" / "000001.spica").unlink()
    drop(life.spica, "keep.spica", order_text("keep", 1))
    life.until_quiet()
    assert not (life.spica.spool / "rejected" / "keep.spica.why").exists()

    drop(life.spica, "again.spica", order_text("rebuild", 1))
    life.until_quiet()
    life.until(lambda: rows() == {1: "COMPLETED"}, "the process to be rebuilt")

    assert len(list(life.spica.results.glob("*/*/run-2/products/*"))) == 1
    assert Process.get_by_id(1).run == 2


def test_job_files_stay_in_the_spool_while_deletion_pauses(life: Life) -> None:
    completed(life)
    copy = life.spica.spool / "completed" / "000001.spica"
    days(life, 2)
    state = sweeping.read_state(life.daemon.spool)
    now = life.daemon.clock() + 100 * DAY_S
    sweeping._write_state(life.daemon.spool, replace(state, wall=state.wall - 3 * DAY_S))

    life.daemon._tidy(now)
    assert copy.exists()
    sweeping._write_state(life.daemon.spool, replace(state, wall=state.wall + 100 * DAY_S))
    life.daemon._tidy(now)

    assert not copy.exists()


def test_refused_files_leave_the_spool_when_their_time_is_over(life: Life) -> None:
    drop(life.spica, "wrong.spica", "name = 1\n[end]\n")
    rejected = life.spica.spool / "rejected"
    life.until(lambda: {each.name for each in rejected.iterdir()} == {"wrong.spica", "wrong.spica.why"}, "its refusal")
    life.until((life.spica.spool / sweeping.RECORD).exists, "the first sweep to note the clock")
    (rejected / "folder.spica").mkdir()

    life.daemon.clock.ahead_s += 89 * DAY_S  # type: ignore[attr-defined]
    life.daemon._tidy(life.daemon.clock())
    assert len(list(rejected.iterdir())) == 3
    life.daemon.clock.ahead_s += 2 * DAY_S  # type: ignore[attr-defined]
    life.daemon._tidy(life.daemon.clock())

    assert [each.name for each in rejected.iterdir()] == ["folder.spica"]


def test_a_restart_leaves_an_archived_process_archived(life: Life) -> None:
    completed(life)
    days(life, 17)
    life.until(archived(life), "the row to say so")
    life.stop()

    life.daemon = Life(life.spica).daemon

    assert rows() == {1: "ARCHIVED"}

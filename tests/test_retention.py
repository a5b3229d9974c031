"""Products are kept as long as was promised, their owners are warned in time, and the recipe stays.

Killed sweeps, links and races are in test_sweeping.py; orders and the daemon in test_retention_live.py.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from keeping import START, Keeping, ended_run, has_products, keeping

from spicad import config, retention, sweeping
from spicad.retention import DAY_S, Kept, Moment, Record, State, Terms, Warned, may_go, warning_for, what_may_go
from spicad.words import BadInput, Phase

TERMS = Terms(days=15, failed_days=7, groups={"lensing": 30}, warn_days=(5, 1), keep_longer_days=30, most_share=1)
KEPT = Kept(12, 1, "alice", "galaxies", "m101", Phase.COMPLETED, ended=0.0, bytes=1000, mail="alice@example.org")
END = 15 * DAY_S


def warned(days: str, says: float = END, accepted: float = END - DAY_S) -> Kept:
    return replace(KEPT, record=Record(warned={days: Warned(says, accepted)}))


# ---------------------------------------------------------------------- what may go, as values


def test_nothing_goes_before_its_day() -> None:
    kept = warned("1")

    assert not may_go(kept, TERMS, END - 1)
    assert may_go(kept, TERMS, END)


def test_nothing_goes_unless_its_last_warning_was_accepted() -> None:
    for kept in (KEPT, warned("5"), warned("1", accepted=0.0)):
        assert not may_go(kept, TERMS, END + 100 * DAY_S)


def test_nothing_goes_within_a_day_of_its_last_warning() -> None:
    late = warned("1", says=END, accepted=END + 3 * DAY_S)

    assert not may_go(late, TERMS, END + 4 * DAY_S - 1)
    assert may_go(late, TERMS, END + 4 * DAY_S)


def test_nothing_goes_before_the_day_that_was_told_even_when_the_days_become_fewer() -> None:
    fewer = replace(TERMS, days=3)

    assert not may_go(warned("1", accepted=DAY_S), fewer, END - 1)


def test_a_group_has_its_own_days_and_a_failed_run_too() -> None:
    lensing = replace(KEPT, group="lensing")
    failed = replace(lensing, phase=Phase.ERROR)

    assert retention.expiry(lensing, TERMS) == 30 * DAY_S
    assert retention.expiry(failed, TERMS) == 7 * DAY_S


def test_with_no_days_products_are_kept_for_ever() -> None:
    for_ever = replace(TERMS, days=0)

    assert retention.expiry(KEPT, for_ever) is None
    assert warning_for(KEPT, for_ever, 1e9) is None
    assert not may_go(warned("1"), for_ever, 1e12)


def test_what_runs_again_is_neither_warned_nor_deleted() -> None:
    busy = replace(warned("1"), is_busy=True)

    assert what_may_go([busy, replace(KEPT, is_busy=True)], TERMS, END + DAY_S) == retention.Decision()


def test_each_warning_comes_at_its_day_and_a_late_one_only_once() -> None:
    assert warning_for(KEPT, TERMS, END - 5 * DAY_S - 1) is None
    first = warning_for(KEPT, TERMS, END - 5 * DAY_S)
    late = warning_for(KEPT, TERMS, END + 10 * DAY_S)

    assert first == retention.Warn(KEPT, 5, END)
    assert late == retention.Warn(KEPT, 1, END + 11 * DAY_S)


def test_a_warning_that_was_not_taken_is_given_anew_once_its_day_has_passed() -> None:
    kept = warned("1", accepted=0.0)

    assert warning_for(kept, TERMS, END - 1) is None
    assert warning_for(kept, TERMS, END) == retention.Warn(kept, 1, END + DAY_S)


def test_a_sweep_that_would_delete_too_much_asks_and_deletes_what_was_let_go() -> None:
    two = [replace(warned("1"), process=number) for number in (1, 2)]
    others = [replace(KEPT, process=number, ended=END) for number in (3, 4)]
    terms = replace(TERMS, most_share=0.4)

    asks = what_may_go([*two, *others], terms, END)
    answered = what_may_go([*two, *others], terms, END, let_go=[(1, 1), (2, 1)])
    of_more = what_may_go([*two, *others, replace(KEPT, process=5, bytes=9000, ended=END)], terms, END)

    assert [kept.process for kept in asks.asks] == [1, 2]
    assert asks.go == ()
    assert [kept.process for kept in answered.go] == [1, 2]
    assert [kept.process for kept in of_more.go] == [1, 2]


def test_products_are_kept_longer_within_the_limit_and_by_administrators_beyond_it() -> None:
    most = END + 30 * DAY_S

    assert retention.keep_until(KEPT, TERMS, 0, now=0.0, is_limited=True) == (most, "")
    assert retention.keep_until(KEPT, TERMS, 20, now=0.0, is_limited=True) == (20 * DAY_S, "")
    assert retention.keep_until(KEPT, TERMS, 90, now=0.0, is_limited=False) == (90 * DAY_S, "")
    until, why = retention.keep_until(KEPT, TERMS, 46, now=0.0, is_limited=True)
    assert until == 0.0
    assert "at most 30 days longer" in why
    assert "Ask for 45 days" in why


def test_a_wish_to_keep_never_makes_products_go_earlier() -> None:
    assert retention.keep_until(KEPT, TERMS, 1, now=0.0, is_limited=True) == (END, "")


# ---------------------------------------------------------------------- the clock


def test_a_clock_that_jumps_by_more_than_a_day_pauses_until_an_administrator_has_looked() -> None:
    state = State("one", wall=0.0, boottime=0.0, is_quiet=False)

    for wall in (2.5 * DAY_S + 3600, 3600 - 1.5 * DAY_S):
        moment = Moment(wall, 3600.0, "one")
        seen = retention.at(state, moment)
        assert "put " in retention.why_paused(seen, moment)
        assert retention.at(seen, Moment(3600.0, 3600.0, "one")).paused  # being set back mends nothing by itself
        assert retention.why_paused(retention.gone_on(seen, moment), moment) == ""


def test_jumps_that_are_a_day_only_together_count_too() -> None:
    state = State("one", wall=0.0, boottime=0.0, is_quiet=False)
    for hour in range(1, 4):
        state = retention.at(state, Moment(hour * 10 * 3600.0 + hour, float(hour), "one"))

    assert "forward by 1.2 days" in state.paused


def test_a_clock_that_is_right_pauses_nothing() -> None:
    state = State("one", wall=0.0, boottime=0.0, is_quiet=False)
    moment = Moment(100 * DAY_S + 30, 100 * DAY_S, "one")

    assert retention.why_paused(retention.at(state, moment), moment) == ""


def test_for_the_first_day_of_a_boot_nothing_goes() -> None:
    state = retention.at(State("one", 0.0, 0.0, is_quiet=False), Moment(50 * DAY_S, 60.0, "two"))

    assert "less than a day ago" in retention.why_paused(state, Moment(51 * DAY_S - 1, 59 + DAY_S, "two"))
    assert retention.why_paused(state, Moment(51 * DAY_S, 60 + DAY_S, "two")) == ""


# ---------------------------------------------------------------------- sweeps


@pytest.fixture
def at(tmp_path: Path) -> Keeping:
    return keeping(tmp_path, "most_share = 1")


def test_products_go_after_two_warnings_and_the_recipe_stays(at: Keeping) -> None:
    run = ended_run(at, 12)

    early = at.days(9)
    warnings = at.days(5)
    assert has_products(run)
    at.days(1)

    assert early == []
    assert warnings == ["going-000012-run1-5d-keep0", "going-000012-run1-1d-keep0"]
    assert not (run / "products").exists()
    assert not (run / "products.going").exists()
    assert not (run / "steps/0001-copy/job").exists()
    assert (run / "steps/0001-copy/log").read_text() == "said\n"
    assert (run / "job.spica").exists()
    assert sweeping.read_record(run).archived
    assert at.sweep().archived[12][0] == 1


def test_the_products_are_there_until_the_very_day(at: Keeping) -> None:
    run = ended_run(at, 12)
    at.days(14)
    at.later(0.99)
    at.sweep()
    assert has_products(run)

    at.later(0.02)
    at.sweep()

    assert not (run / "products").exists()


def test_nothing_goes_while_the_relay_takes_no_mail(at: Keeping) -> None:
    run = ended_run(at, 12)

    at.days(60, relay=False)
    assert has_products(run)
    at.relay_takes()
    at.sweep()
    at.later(0.9)
    at.sweep()
    assert has_products(run)
    at.later(0.2)
    at.sweep()

    assert not (run / "products").exists()


def test_a_warning_says_when_how_much_and_what_can_be_done(tmp_path: Path) -> None:
    at = keeping(tmp_path, '\n[web]\naddress = "https://spica.example.org/s"')
    ended_run(at, 12)
    at.days(9)
    at.later(1.1)
    at.sweep()

    (mail,) = at.waiting_mails()

    day = sweeping.day(START + 1.1 * DAY_S + END)
    assert "To: alice@example.org" in mail
    assert f"Subject: The products of try go on {day} (process 12)" in mail
    for words in (
        "2 products, 20 kB in all", "spica results 12 --fetch DIR", "spica keep 12", "spica rebuild 12",
        "https://spica.example.org/s/process/12",
    ):  # fmt: skip
        assert words in mail


def test_without_an_address_of_the_site_a_warning_has_no_link(at: Keeping) -> None:
    ended_run(at, 12)
    at.days(11, relay=False)

    assert "http" not in at.waiting_mails()[0]


def test_where_the_owner_has_no_address_the_administrator_is_warned(at: Keeping) -> None:
    ended_run(at, 12, mail="")
    at.days(11, relay=False)

    assert "To: dan@example.org" in at.waiting_mails()[0]


def test_a_warning_that_the_relay_refuses_for_good_goes_to_the_administrator_a_day_later(at: Keeping) -> None:
    run = ended_run(at, 12)
    at.days(13)
    at.later(1)
    at.sweep()
    outbox = at.spool.folder("outbox")
    (outbox / "going-000012-run1-1d-keep0.eml").rename(outbox / "failed" / "going-000012-run1-1d-keep0.eml")
    at.later(0.5)
    at.sweep()
    assert at.waiting_mails() == []
    at.later(0.6)
    at.sweep()

    assert "To: dan@example.org" in at.waiting_mails()[0]
    at.relay_takes()
    at.later(0.9)
    at.sweep()
    assert has_products(run)
    at.later(0.2)
    at.sweep()
    assert not (run / "products").exists()


def test_a_warning_that_was_noted_and_lost_is_put_again(at: Keeping) -> None:
    ended_run(at, 12)
    at.days(9)
    at.later(1)
    at.sweep()
    (at.spool.folder("outbox") / "going-000012-run1-5d-keep0.eml").unlink()  # as a kill between the two leaves it

    at.sweep()

    assert len(at.waiting_mails()) == 1


def test_where_nobody_can_be_warned_nothing_goes(tmp_path: Path) -> None:
    at = keeping(tmp_path, "most_share = 1")
    conf = at.settings.source
    assert conf
    conf.write_text(conf.read_text().replace("dan@example.org", ""))
    at.settings = config.load(conf)
    run = ended_run(at, 12, mail="")

    at.days(40)

    assert has_products(run)


def test_what_is_kept_longer_stays_and_is_warned_of_anew(at: Keeping) -> None:
    run = ended_run(at, 12)
    at.days(14)
    until, why = sweeping.keep(run.parent, at.spool, Terms.of(at.settings), 10, at.wall, is_limited=True)
    assert (until, why) == (at.wall + 10 * DAY_S, "")

    taken = at.days(9)
    assert has_products(run)
    at.days(2)

    assert taken == ["going-000012-run1-5d-keep1", "going-000012-run1-1d-keep1"]
    assert not (run / "products").exists()


def test_what_is_gone_cannot_be_kept(at: Keeping) -> None:
    run = ended_run(at, 12)
    at.days(17)

    until, why = sweeping.keep(run.parent, at.spool, Terms.of(at.settings), 10, at.wall, is_limited=True)

    assert until == 0.0
    assert "are gone" in why


def test_a_warning_of_before_a_wish_to_keep_does_not_count_after_it(at: Keeping) -> None:
    run = ended_run(at, 12)
    at.days(13)
    at.later(1)
    at.sweep()  # puts the last warning, which the relay takes only after the wish
    sweeping.keep(run.parent, at.spool, Terms.of(at.settings), 16, at.wall, is_limited=True)
    at.relay_takes()
    at.later(10)
    at.sweep()

    assert sweeping.read_record(run).warned == {}


def test_a_process_that_was_run_again_lives_anew_with_all_its_runs(at: Keeping) -> None:
    first = ended_run(at, 12)
    at.days(10)
    second = ended_run(at, 12, run=2)

    at.days(14)
    assert has_products(first)
    assert has_products(second)
    at.days(3)

    assert not (first / "products").exists()
    assert not (second / "products").exists()


def test_a_process_that_is_queued_again_is_left_alone(at: Keeping) -> None:
    run = ended_run(at, 12)
    (at.spool.folder("queued") / "000012.spica").write_text("")

    at.days(40)

    assert has_products(run)


def test_failed_runs_have_their_own_days(tmp_path: Path) -> None:
    at = keeping(tmp_path, "most_share = 1\nfailed_days = 6")
    failed, done = ended_run(at, 12, phase=Phase.ERROR), ended_run(at, 13)

    at.days(8)

    assert not (failed / "products").exists()
    assert has_products(done)


def test_a_sweep_that_would_delete_too_much_stops_and_asks_by_mail(tmp_path: Path) -> None:
    at = keeping(tmp_path, "most_share = 0.5")
    runs = [ended_run(at, number) for number in range(1, 5)]
    at.days(14)
    at.later(1)
    at.sweep()

    mails = [mail for mail in at.waiting_mails() if "Spica asks" in mail]
    at.days(3)
    assert all(has_products(run) for run in runs)
    assert sweeping.go_on(at.spool, at.moment) == ""
    at.sweep()

    assert len(mails) == 1
    assert "To: dan@example.org" in mails[0]
    assert "spica retention --go-on" in mails[0]
    assert not any((run / "products").exists() for run in runs)


def test_a_clock_that_jumps_pauses_deletion_and_tells_the_administrator_once(at: Keeping) -> None:
    run = ended_run(at, 12)
    at.days(14)
    at.wall += 3 * DAY_S
    at.sweep()
    told = at.waiting_mails()
    at.days(3)
    assert has_products(run)
    sweeping.go_on(at.spool, at.moment)
    at.sweep()

    assert len(told) == 1
    assert "put forward by 3.0 days" in " ".join(told[0].split())
    assert "To: dan@example.org" in told[0]
    assert not (run / "products").exists()


def test_after_another_boot_nothing_goes_for_a_day(at: Keeping) -> None:
    run = ended_run(at, 12)
    at.days(14)
    at.boot, at.boottime, at.wall = "two", 60.0, at.wall + 3 * DAY_S
    at.sweep()
    at.later(0.9)
    at.sweep()
    assert has_products(run)
    at.later(0.2)
    at.sweep()

    assert not (run / "products").exists()


# ---------------------------------------------------------------------- spica.conf


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("warn_days = [5, 0.5]", "a day before"),
        ("warn_days = []", "a day before"),
        ('groups = ["lensing 30"]', "not NAME=NUMBER"),
        ("most_share = 2", "at most 1"),
    ],
)
def test_terms_that_cannot_be_kept_are_refused_with_their_line(tmp_path: Path, line: str, words: str) -> None:
    with pytest.raises(BadInput) as refused:
        config.parse(f"[retention]\n{line}\n", tmp_path / "spica.conf")

    assert "line 2: " in str(refused.value)
    assert words in str(refused.value)

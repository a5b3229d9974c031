"""Who goes first: rank before age, always; nobody is hidden behind another's crowd; each limit in words.

What is done with the one who goes first is told in the tests of the workshop.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spicad.waiting import (
    BAND,
    DAY_S,
    InUse,
    Limits,
    Node,
    Queue,
    Ready,
    Use,
    Waiting,
    Weights,
    Wish,
    ahead_of,
    binding_limit,
    choice,
    kept_free,
    merged,
    order,
    score,
    terms_of,
)
from spicad.words import Rank

STEADY = settings(derandomize=True, deadline=None)

NOW = 1_800_000_000.0


def waiting(process: int, submitted: float = 0.0, rank: int = Rank.USER, user: str = "alice", **more: float) -> Waiting:
    return Waiting(NOW + submitted, process, int(rank), user, f"{user}s", **more)


def queue_of(*members: Waiting, now: float = NOW, use: Use | None = None) -> Queue:
    queue = Queue(use=use)
    for each in members:
        queue.add(each, now)
    return queue


def numbers(queue: Queue, now: float = NOW) -> list[int]:
    return [each.process for each in queue.in_order(now, lambda each: True)]


MEMBERS = st.lists(
    st.builds(
        Waiting,
        submitted=st.sampled_from([NOW, NOW - 1, NOW + 60, 0.0]) | st.floats(0, 2 * NOW),
        process=st.integers(1, 10_000),
        rank=st.sampled_from([int(rank) for rank in Rank]),
        user=st.sampled_from(["alice", "bob", "carol"]),
        group=st.just("lensing"),
        not_before=st.sampled_from([0.0, NOW - 5, NOW, NOW + 5]),
        locality=st.sampled_from([0.0, 0.2, 0.5, 1.0]),
    ),
    max_size=40,
    unique_by=lambda each: each.process,
)


def test_the_pipeline_goes_before_anybody_and_among_equals_the_older() -> None:
    old_user = waiting(1, -DAY_S * 300)
    queue = queue_of(
        old_user,
        waiting(2, -5, Rank.PIPELINE, "cron"),
        waiting(3, -9, Rank.ADMINISTRATOR, "dan"),
        waiting(4, -9, Rank.GROUP_ADMINISTRATOR, "bob"),
        waiting(5, -7, Rank.PIPELINE, "cron"),
        waiting(6, -8, Rank.PIPELINE, "robot"),
    )

    assert numbers(queue) == [6, 5, 2, 3, 4, 1]


USES = st.lists(
    st.tuples(st.sampled_from(["alice", "bob", "carol"]), st.floats(0, 1e7), st.floats(0, 30 * DAY_S)), max_size=8
)


def use_of(had: list[tuple[str, float, float]]) -> Use:
    use = Use()
    for user, seconds, ago in sorted(had, key=lambda each: -each[2]):
        use.add(user, "lensing", seconds, NOW - ago)
    return use


@pytest.mark.slow
@STEADY
@given(MEMBERS, USES, st.floats(0, 2 * NOW))
def test_a_rank_is_never_overtaken_whatever_else_counts(
    members: list[Waiting], had: list[tuple[str, float, float]], now: float
) -> None:
    ordered = order(members, now, Queue(use=use_of(had)))

    assert [each.rank for each in ordered] == sorted((each.rank for each in members), reverse=True)
    for one, other in pairwise(ordered):
        if one.of_class == other.of_class:
            assert one.submitted <= other.submitted


@pytest.mark.slow
@STEADY
@given(MEMBERS, USES)
def test_the_same_inputs_give_the_same_order(members: list[Waiting], had: list[tuple[str, float, float]]) -> None:
    once = numbers(queue_of(*members, use=use_of(had)))

    assert numbers(queue_of(*reversed(members), use=use_of(had))) == once


@STEADY
@given(
    st.sampled_from(list(Rank)),
    st.floats(allow_nan=False),
    st.floats(0, 2 * NOW),
    st.floats(0, 1),
    st.floats(0, 1),
    st.floats(0, 1),
)
def test_a_score_stays_in_its_band(
    rank: Rank, submitted: float, now: float, share: float, locality: float, idle: float
) -> None:
    terms = score(int(rank), submitted, now, share, locality, idle)

    assert terms["rank"] == rank * BAND
    assert rank * BAND <= sum(terms.values()) < (rank + 1) * BAND


def test_of_two_of_the_same_age_the_one_who_has_used_less_goes_first() -> None:
    use = Use()
    use.add("alice", "lensing", 10 * 3600.0, NOW - 60)

    assert numbers(queue_of(waiting(1), waiting(2, user="bob"), use=use)) == [2, 1]


def test_a_group_that_has_used_much_goes_after_another() -> None:
    use = Use()
    use.add("eve", "alices", 10 * 3600.0, NOW - 60)  # another of alice's group

    assert numbers(queue_of(waiting(1), waiting(2, user="bob"), use=use)) == [2, 1]


def test_use_is_forgotten_by_half_each_day() -> None:
    use, weights = Use(), Weights(share_hours=24)
    use.add("alice", "lensing", 24 * 3600.0, NOW)

    assert use.share("alice", "lensing", NOW, weights) == pytest.approx(0.5)
    assert use.share("alice", "lensing", NOW + DAY_S, weights) == pytest.approx(0.5**0.5)
    assert use.share("alice", "solar", NOW, weights) == pytest.approx((0.5 + 1) / 2)
    assert use.share("bob", "solar", NOW, weights) == 1


def test_use_is_the_same_in_whatever_order_it_is_told() -> None:
    told, other_way = Use(), Use()
    for seconds, ago in ((3600.0, 0.0), (7200.0, DAY_S)):
        told.add("alice", "lensing", seconds, NOW - ago)
    for seconds, ago in ((7200.0, DAY_S), (3600.0, 0.0)):
        other_way.add("alice", "lensing", seconds, NOW - ago)

    assert told.share("alice", "lensing", NOW, Weights()) == pytest.approx(
        other_way.share("alice", "lensing", NOW, Weights())
    )


def test_what_lies_on_the_node_goes_before_what_does_not() -> None:
    queue = queue_of(waiting(1, -60, locality=0.0), waiting(2, -5, locality=1.0), waiting(3, -9, locality=0.5))

    assert numbers(queue) == [2, 3, 1]


def test_the_terms_that_are_shown_are_those_that_decide() -> None:
    use = Use()
    use.add("alice", "alices", 5000.0, NOW - 60)
    members = [waiting(1, -DAY_S, locality=0.3), waiting(2, -9 * DAY_S, user="bob"), waiting(3, locality=0.9)]
    queue = queue_of(*members, use=use)

    totals = {each.process: sum(terms_of(each, NOW, use, Weights()).values()) for each in members}

    assert numbers(queue) == sorted(totals, key=lambda process: -totals[process])
    for each in members:
        assert -queue.place(each, NOW)[0] == pytest.approx(totals[each.process])


@STEADY
@given(MEMBERS, st.sets(st.integers(0, 39)))
def test_the_queue_yields_what_sorting_everybody_would(members: list[Waiting], removed: set[int]) -> None:
    queue = queue_of(*members)
    gone = {each.process for number, each in enumerate(members) if number in removed}
    for process in gone:
        assert queue.remove(process) is not None

    left = [each for each in members if each.process not in gone]
    assert len(queue) == len(left)
    assert sorted(each.process for each in queue) == sorted(each.process for each in left)
    assert numbers(queue) == [each.process for each in order([each for each in left if each.not_before <= NOW], NOW)]
    assert numbers(queue, NOW + 5) == [each.process for each in order(left, NOW + 5)]


def test_looking_takes_nothing_away() -> None:
    queue = queue_of(*(waiting(n, -n) for n in range(1, 9)))

    assert numbers(queue) == numbers(queue) == [8, 7, 6, 5, 4, 3, 2, 1]


def test_a_removed_process_is_gone_and_can_come_again() -> None:
    queue = queue_of(waiting(1, -5), waiting(2, -4))

    assert queue.remove(1) == waiting(1, -5)
    assert queue.remove(1) is None
    assert 1 not in queue
    assert numbers(queue) == [2]

    queue.add(waiting(1, -3), NOW)
    assert numbers(queue) == [2, 1]


def test_nothing_starts_before_its_time() -> None:
    queue = queue_of(waiting(1, not_before=NOW + 60), waiting(2, not_before=NOW + 30), waiting(3))

    assert numbers(queue) == [3]
    assert queue.next_time == NOW + 30
    assert numbers(queue, NOW + 30) == [2, 3]
    assert queue.next_time == NOW + 60
    assert numbers(queue, NOW + 60) == [1, 2, 3]
    assert queue.next_time is None
    assert len(queue) == 3


def test_a_time_that_was_put_off_is_kept() -> None:
    queue = queue_of(waiting(1, not_before=NOW + 30))
    queue.remove(1)
    queue.add(waiting(1, not_before=NOW + 90), NOW)

    assert numbers(queue, NOW + 60) == []
    assert numbers(queue, NOW + 90) == [1]


def test_a_process_that_was_held_and_released_before_its_time_is_there_once() -> None:
    queue = queue_of(waiting(1, not_before=NOW + 30))
    queue.remove(1)
    queue.add(waiting(1, not_before=NOW + 30), NOW)

    assert numbers(queue, NOW + 30) == [1]


def test_ten_thousand_processes_of_one_user_do_not_hide_the_head_of_another() -> None:
    queue = queue_of(*(waiting(n, -1_000_000 + n) for n in range(1, 10_001)), waiting(20_000, -1, user="bob"))

    first = list(queue.in_order(NOW, lambda each: each.user != "alice"))

    assert [each.process for each in first] == [20_000]


def test_a_class_that_may_not_start_is_asked_once() -> None:
    queue = queue_of(*(waiting(n, -n) for n in range(1, 101)), waiting(200, -1, user="bob"))
    asked: list[int] = []

    def may_start(each: Waiting) -> bool:
        asked.append(each.process)
        return each.user == "bob"

    assert [each.process for each in queue.in_order(NOW, may_start)] == [200]
    assert asked == [100, 200]


def test_a_limit_that_is_reached_on_the_way_ends_a_class() -> None:
    queue = queue_of(*(waiting(n, -n) for n in range(1, 101)))
    started: list[int] = []

    for each in queue.in_order(NOW, lambda each: len(started) < 3):
        started.append(each.process)

    assert started == [100, 99, 98]


def test_a_started_process_may_be_removed_while_looking() -> None:
    queue = queue_of(*(waiting(n, -n) for n in range(1, 6)))

    for each in queue.in_order(NOW, lambda each: True):
        queue.remove(each.process)

    assert len(queue) == 0
    assert numbers(queue) == []


def test_runs_and_queued_processes_stand_in_one_line() -> None:
    active = [waiting(1, -10), waiting(2, -2)]
    queue = queue_of(waiting(3, -5), waiting(4, -20), waiting(5, 0, Rank.PIPELINE, "cron"))

    line = merged(order(active, NOW), queue.in_order(NOW, lambda each: True), NOW, queue)

    assert [each.process for each in line] == [5, 4, 1, 3, 2]


def test_those_ahead_are_those_that_go_first() -> None:
    members = [waiting(1, -9), waiting(2, -8), waiting(3, -1, Rank.PIPELINE, "cron")]

    assert [ahead_of(process, members, NOW) for process in (1, 2, 3)] == [[3], [3, 1], []]


@pytest.mark.parametrize(
    ("wanted", "running", "limits", "said"),
    [
        (1, 0, Limits(2), ""),
        (1, 1, Limits(2), ""),
        (1, 2, Limits(2), "all 2 slots are taken"),
        (2, 1, Limits(2), "all 2 slots are taken"),
        (8, 0, Limits(2), ""),  # larger than the node: it goes alone
        (1, 3, Limits(9, per_user=4), ""),
        (1, 4, Limits(9, per_user=3), "alice has 3 slots and uses them"),
        (2, 2, Limits(9, per_user=3), "alice has 3 slots and uses them"),
        (1, 5, Limits(9, per_group=5), "the group lensing has 5 slots and uses them"),
        (1, 5, Limits(9, per_group=6), ""),
        (1, 5, Limits(5, per_user=1, per_group=1), "all 5 slots are taken"),
    ],
)
def test_the_limit_that_holds_a_step_is_told_in_words(wanted: int, running: int, limits: Limits, said: str) -> None:
    in_use = InUse()
    for number in range(running):
        in_use.add(Wish("alice" if number < 3 else "eve", "lensing", 0))

    assert binding_limit(Wish("alice", "lensing", 0, wanted), in_use, limits) == said


def taken(*wishes: Wish) -> InUse:
    in_use = InUse()
    for wish in wishes:
        in_use.add(wish)
    return in_use


def test_somebody_who_runs_nothing_is_held_by_no_share() -> None:
    in_use = taken(Wish("alice", "lensing", 0, 2))

    assert binding_limit(Wish("carol", "solar", 0), in_use, Limits(4, 1, 1)) == ""


def test_an_application_has_no_more_slots_than_it_is_given() -> None:
    limits = Limits(8, per_application={"scamp": 2})
    in_use = taken(Wish("alice", "lensing", 0, 2, "scamp"))

    assert binding_limit(Wish("bob", "solar", 0, 1, "scamp"), in_use, limits) == "scamp has 2 slots and uses them"
    assert binding_limit(Wish("bob", "solar", 0, 1, "swarp"), in_use, limits) == ""
    assert binding_limit(Wish("bob", "solar", 0, 4, "scamp"), InUse(), limits) == ""  # wider than its share: alone


def test_the_pipeline_leaves_the_slots_of_users_free_while_they_wait() -> None:
    limits = Limits(2, reserved={int(Rank.USER): 1})
    pipeline = Wish("cron", "cron", int(Rank.PIPELINE))
    both = {int(Rank.USER), int(Rank.PIPELINE)}
    one, user_runs = taken(pipeline), taken(pipeline, Wish("alice", "lensing", 0))

    assert kept_free(Rank.PIPELINE, both, one, limits) == 1
    assert "kept for others" in binding_limit(pipeline, one, limits, kept=1)
    assert binding_limit(pipeline, InUse(), limits, kept=1) == ""
    assert binding_limit(replace(pipeline, slots=2), InUse(), limits, kept=1) == ""  # wide ones are not locked out
    assert kept_free(Rank.PIPELINE, {int(Rank.PIPELINE)}, one, limits) == 0  # nobody waits for it
    assert kept_free(Rank.PIPELINE, both, user_runs, limits) == 0  # and a user has it
    assert kept_free(Rank.USER, both, one, limits) == 0


@STEADY
@given(st.lists(st.sampled_from(list(Rank)), min_size=1, max_size=60), st.integers(2, 5))
def test_with_a_slot_of_their_own_users_never_starve(others: list[Rank], slots: int) -> None:
    """However many of higher rank come again and again, a user's step starts within one round."""
    limits = Limits(slots, reserved={int(Rank.USER): 1})
    in_use = InUse()
    line = sorted((*others, Rank.USER), reverse=True)
    started = []
    for rank in line:
        kept = kept_free(rank, {int(each) for each in line}, in_use, limits)
        wish = Wish("somebody", "some", int(rank))
        if not binding_limit(wish, in_use, limits, kept=kept):
            in_use.add(wish)
            started.append(rank)

    assert Rank.USER in started
    assert in_use.total <= slots


def test_slots_that_are_about_to_be_taken_count() -> None:
    wish = Wish("alice", "lensing", 0)

    assert binding_limit(wish, InUse(), Limits(2), pending=2) == "all 2 slots are taken"
    assert binding_limit(wish, InUse(), Limits(2), pending=1) == ""


def test_equal_ages_keep_the_order_of_their_numbers() -> None:
    members = [replace(waiting(n), submitted=NOW) for n in (3, 1, 2)]

    assert numbers(queue_of(*members)) == [1, 2, 3]


# Pairs of a step and a node


def ready(
    process: Waiting, step: int = 1, slots: int = 1, avoided: str = "", memory_mb: int = 0, **shares: float
) -> Ready:
    wish = Wish(process.user, process.group, process.rank, slots)
    return Ready(process, step, wish, shares, 0.0 if shares else 1.0, frozenset(avoided.split()), memory_mb)


def chosen(steps: list[Ready], *nodes: Node) -> list[tuple[int, int, str]]:
    found = choice(steps, nodes, NOW, Queue(), lambda each: True)
    return [(each.process.process, each.step, node.name) for _, each, node in found]


def test_a_step_goes_to_the_node_that_stores_its_input() -> None:
    steps = [ready(waiting(1), 1, n2=1.0), ready(waiting(1), 2, n1=0.25, n3=0.75), ready(waiting(1), 3, n1=1.0)]

    assert set(chosen(steps, Node("n1", 2), Node("n2", 2), Node("n3", 2))) == {(1, 1, "n2"), (1, 2, "n3"), (1, 3, "n1")}


def test_a_step_whose_node_is_full_goes_to_another_rather_than_waiting() -> None:
    steps = [ready(waiting(1, -60), 1, n1=1.0), ready(waiting(2), 1, n1=1.0)]

    assert chosen(steps, Node("n1", 1), Node("n2", 1)) == [(1, 1, "n1"), (2, 1, "n2")]


def test_on_a_free_node_a_younger_process_goes_first_whose_input_lies_there() -> None:
    steps = [ready(waiting(1, -60), 1, n1=1.0), ready(waiting(2), 1, n2=1.0)]

    assert chosen(steps, Node("n2", 1)) == [(2, 1, "n2")]


def test_where_nothing_is_nearer_steps_are_spread_over_the_nodes() -> None:
    steps = [ready(waiting(1), number) for number in range(6)]

    went = [node for _, _, node in chosen(steps, Node("n1", 3), Node("n2", 3), Node("n3", 3))]

    assert went[:3] != ["n1"] * 3
    assert sorted(went) == ["n1", "n1", "n2", "n2", "n3", "n3"]


def test_a_step_does_not_go_where_it_was_lost_nor_where_its_memory_is_not() -> None:
    nodes = Node("n1", 2), Node("n2", 2, memory_mb=1000), Node("n3", 2, memory_mb=4000), Node("n4", 2, why_not="down")

    assert chosen([ready(waiting(1), avoided="n1", memory_mb=2000)], *nodes) == [(1, 1, "n3")]


def test_in_the_queue_of_a_cluster_one_step_of_any_width_has_room() -> None:
    steps = [ready(waiting(1), 1, slots=8), ready(waiting(1), 2, slots=1)]

    assert chosen(steps, Node("n1", 4), Node("", 2)) == [(1, 1, ""), (1, 2, "n1")]
    assert chosen(steps, Node("", 2, taken=1)) == [(1, 2, "")]
    assert chosen(steps, Node("", 0)) == []


STEPS = st.lists(
    st.tuples(st.sampled_from(list(Rank)), st.integers(-90, 0), st.sampled_from(["n1", "n2", "n3"]), st.floats(0, 1)),
    max_size=12,
)


@STEADY
@given(STEPS, st.integers(1, 3))
def test_pairs_keep_the_bands_and_the_room_and_are_the_same_each_time(
    wanted: list[tuple[Rank, int, str, float]], slots: int
) -> None:
    steps = [
        ready(waiting(number, days * DAY_S, rank), **{home: share})
        for number, (rank, days, home, share) in enumerate(wanted)
    ]
    nodes = [Node(name, slots) for name in ("n1", "n2", "n3")]

    found = chosen(steps, *nodes)

    ranks = [wanted[process][0] for process, _, _ in found]
    assert ranks == sorted(ranks, reverse=True)
    assert len(found) == min(len(steps), 3 * slots)
    assert sorted(rank for rank, *_ in wanted)[-len(found) :] == sorted(ranks) if found else True
    assert max((sum(where == node.name for *_, where in found) for node in nodes), default=0) <= slots
    assert chosen(list(reversed(steps)), *nodes) == found

"""A run's bookkeeping: what may go on, what an end means for the other steps, and how the run has ended.

Plans come from test_plan.py's applications; nothing is run here.
"""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_plan import APPLICATIONS, CATALOGUE, SOLVE, STACK, exposure, planned

from spicad.capsule import outcome_from, outcome_record
from spicad.people import Person
from spicad.plan import Plan, PlannedFile, PlannedStep, Source
from spicad.run import ENDED_STATES, GOOD_STATES, Made, Outcome, Run
from spicad.words import Ending, Phase, Rank, StepState

ATTEMPTS = 3
OWNER = Person(1000, "alice", "lensing", Rank.USER)
STOP = 'on_bad_exposure = "stop"\n'


def run_of(plan: Plan) -> Run:
    return Run(7, 1, "m101", OWNER, plan, {}, APPLICATIONS, started=0.0, submitted=0.0)


def usual_run(tasks: str = CATALOGUE + SOLVE + STACK, count: int = 3, **values: object) -> Run:
    return run_of(planned(tasks, [exposure(n, **values) for n in range(1, count + 1)]))


def open_now(run: Run) -> list[str]:
    return [step.folder for step in run.open_steps()]


def end(run: Run, number: int, outcome: Outcome) -> StepState:
    return run.end(run.step(number), outcome, ATTEMPTS)


def done(run: Run, number: int) -> StepState:
    step = run.step(number)
    made = tuple(
        Made(name, stem, f"products/{stem}.{name}", 1, 1, "d")
        for name in APPLICATIONS[step.application].outputs
        for stem in run.stems(step)
    )
    return end(run, number, Outcome(StepState.DONE, Ending.DONE, made=made, stems=run.stems(step)))


def failed(run: Run, number: int, culprit: str = "", why: str = "it broke") -> StepState:
    return end(run, number, Outcome(StepState.FAILED, Ending.NEVER_AGAIN, why, culprit, stems=run.step(number).stems))


def interrupted(run: Run, number: int, attempt: int = 1) -> StepState:
    return end(run, number, Outcome(StepState.WAITING, Ending.TRY_AGAIN, "it was killed", attempt=attempt))


def test_a_step_goes_on_when_all_that_it_needs_is_over() -> None:
    run = usual_run()

    assert open_now(run) == ["0001-sextractor", "0002-sextractor", "0003-sextractor"]
    done(run, 1)
    done(run, 2)
    assert open_now(run) == ["0003-sextractor"]
    done(run, 3)
    assert open_now(run) == ["0004-scamp"]
    done(run, 4)
    assert open_now(run) == ["0005-swarp"]
    done(run, 5)
    assert run.is_over
    assert run.phase() is Phase.COMPLETED
    assert run.first_failure() is None
    assert run.count(GOOD_STATES) == run.total == 5


def test_a_step_in_hand_is_not_begun_twice_and_keeps_the_run_going() -> None:
    run = usual_run(CATALOGUE, 1)
    run.in_hand.add(1)

    assert open_now(run) == []
    assert not run.is_over


def test_a_reused_step_is_as_good_as_a_done_one() -> None:
    run = usual_run(CATALOGUE, 1)

    end(run, 1, Outcome(StepState.REUSED, Ending.DONE, attempt=0))

    assert run.phase() is Phase.COMPLETED


def test_a_bad_exposure_is_dropped_and_the_others_go_on() -> None:
    run = usual_run()

    failed(run, 1, why="too few stars")
    done(run, 2)
    done(run, 3)

    assert run.lost == {"img0001": "sextractor: too few stars"}
    solve = run.step(4)
    assert run.stems(solve) == ("img0002", "img0003")
    assert [file.stem for file in run.files(solve)["catalogue"]] == ["img0002", "img0003"]
    assert [file.stem for file in run.files(solve)["reference"]] == [""]
    done(run, 4)
    done(run, 5)
    assert run.phase() is Phase.COMPLETED
    assert run.first_failure() is not None


def test_a_step_that_ends_the_run_does_so_whatever_its_rules_say_also_after_a_restart() -> None:
    run = usual_run()
    run.state[2] = StepState.RUNNING
    run.in_hand.add(2)
    over = Outcome(StepState.FAILED, Ending.NEVER_AGAIN, "the quota is full", stems=("img0001",), ends_run=True)

    end(run, 1, outcome_from(outcome_record(over)))

    assert run.is_stopping
    assert open_now(run) == []
    run.in_hand.discard(2)
    assert run.is_over
    assert run.phase() is Phase.ERROR
    assert run.first_failure() == (run.step(1), over)


def test_a_bad_exposure_stops_the_run_where_the_rules_say_so() -> None:
    run = usual_run(CATALOGUE + STOP + SOLVE)

    failed(run, 2)

    assert run.is_stopping
    assert open_now(run) == []
    assert run.is_over
    assert run.phase() is Phase.ERROR
    assert run.first_failure() == (run.step(2), run.outcome[2])


def test_a_run_that_stops_is_not_over_before_its_steps_are() -> None:
    run = usual_run(CATALOGUE + STOP)
    run.in_hand.update({1, 2})

    failed(run, 1)

    assert run.is_stopping
    assert not run.is_over
    done(run, 2)
    assert run.is_over


def test_when_all_exposures_are_bad_the_rest_is_skipped_with_the_reason() -> None:
    run = usual_run()

    for number in (1, 2, 3):
        failed(run, number, why=f"reason {number}")

    assert [run.state[n] for n in (4, 5)] == [StepState.SKIPPED] * 2
    assert run.outcome[4].why == "0 of 3 exposures are left; 1p: sextractor: reason 1"
    assert run.is_over
    assert run.phase() is Phase.ERROR


def test_a_group_below_its_least_is_skipped_and_the_run_is_an_error() -> None:
    run = usual_run(CATALOGUE + SOLVE + "least = 3\n")

    failed(run, 2)

    assert run.state[4] is StepState.SKIPPED
    assert run.outcome[4].why.startswith("2 of 3 exposures are left")
    assert open_now(run) == ["0001-sextractor", "0003-sextractor"]
    done(run, 1)
    done(run, 3)
    assert run.phase() is Phase.ERROR


@pytest.mark.parametrize("count", [1, 2])
def test_a_failed_group_fails_the_run_however_small_it_is(count: int) -> None:
    run = usual_run(STACK, count)
    other = run_of(planned(STACK, [exposure(1), *[exposure(n, filter="g") for n in range(2, 2 + count)]]))

    failed(run, 1)
    failed(other, 1)
    assert not other.is_stopping
    done(other, 2)

    assert run.phase() is Phase.ERROR
    assert other.is_over
    assert other.phase() is Phase.ERROR
    assert other.first_failure() == (other.step(1), other.outcome[1])


def test_what_a_failed_group_should_have_made_is_not_waited_for_and_other_groups_go_on() -> None:
    chosen = [exposure(1), exposure(2, instrument="WFI", object="M51")]
    run = run_of(planned(CATALOGUE + SOLVE + STACK, chosen))
    done(run, 1)
    done(run, 2)

    failed(run, 3)
    done(run, 4)

    assert {run.plan.labels[run.step(n).stems[0]]: run.state[n] for n in (5, 6)} == {
        "1p": StepState.SKIPPED,
        "2p": StepState.WAITING,
    }
    assert "scamp gave it no head" in {run.outcome[n].why for n in (5, 6) if n in run.outcome}
    assert len(open_now(run)) == 1


def test_a_group_is_tried_again_without_the_culprit() -> None:
    run = usual_run()
    for number in (1, 2, 3):
        done(run, number)

    assert failed(run, 4, culprit="img0002", why="the contrast is 0.9") is StepState.WAITING

    assert run.lost == {"img0002": "scamp: the contrast is 0.9"}
    assert open_now(run) == ["0004-scamp"]
    assert run.stems(run.step(4)) == ("img0001", "img0003")
    done(run, 4)
    assert [file.stem for file in run.files(run.step(5))["exposure"]] == ["img0001", "img0003"]
    done(run, 5)
    assert run.phase() is Phase.COMPLETED


def test_a_later_group_of_the_culprit_alone_is_skipped() -> None:
    chosen = [exposure(1), exposure(2), exposure(3, object="M51")]
    run = run_of(planned(CATALOGUE + SOLVE + STACK, chosen))
    for number in (1, 2, 3):
        done(run, number)

    failed(run, 4, culprit="img0003")
    done(run, 4)

    stacks = {run.step(n).stems: run.state[n] for n in (5, 6)}
    assert stacks == {("img0001", "img0002"): StepState.WAITING, ("img0003",): StepState.SKIPPED}


@pytest.mark.parametrize("culprit", ["img0099", "elsewhere", "part0001"])
def test_a_culprit_that_is_none_of_the_steps_exposures_is_no_reason_to_try_again(culprit: str) -> None:
    run = usual_run(STACK)

    assert failed(run, 1, culprit=culprit) is StepState.FAILED
    assert run.phase() is Phase.ERROR


def test_the_same_culprit_twice_ends_it() -> None:
    run = usual_run(STACK)

    assert failed(run, 1, culprit="img0001") is StepState.WAITING
    assert failed(run, 1, culprit="img0001") is StepState.FAILED


def test_culprits_are_dropped_down_to_the_least_and_no_further() -> None:
    run = usual_run(STACK + "least = 2\n")

    assert failed(run, 1, culprit="img0001") is StepState.WAITING
    assert failed(run, 1, culprit="img0002") is StepState.FAILED
    assert run.phase() is Phase.ERROR


def test_a_last_exposure_is_never_dropped_from_its_group() -> None:
    run = usual_run(STACK, 1)

    assert failed(run, 1, culprit="img0001") is StepState.FAILED
    assert run.phase() is Phase.ERROR


def test_no_culprit_is_dropped_where_the_rules_say_stop() -> None:
    run = usual_run(STACK + STOP)

    assert failed(run, 1, culprit="img0001") is StepState.FAILED
    assert run.is_stopping
    assert run.lost == {}


def test_a_culprit_of_a_life_before_is_known_from_what_the_step_was_done_with() -> None:
    run = usual_run()
    for number in (1, 2, 3):
        done(run, number)

    end(run, 4, Outcome(StepState.DONE, Ending.DONE, stems=("img0001", "img0003")))

    assert run.lost == {"img0002": "scamp did without it"}
    assert run.stems(run.step(5)) == ("img0001", "img0003")


def test_an_interrupted_step_is_tried_again_and_at_last_the_run_is_held() -> None:
    run = usual_run(CATALOGUE, 2)

    assert interrupted(run, 1, attempt=1) is StepState.WAITING
    assert interrupted(run, 1, attempt=2) is StepState.WAITING
    assert not run.is_stopping
    assert interrupted(run, 1, attempt=3) is StepState.WAITING

    assert run.held_why == "0001-sextractor was interrupted 3 times; the last time: it was killed"
    assert open_now(run) == []
    assert run.is_over
    assert run.phase() is Phase.HELD


def test_a_held_run_waits_for_what_runs_and_goes_on_when_released() -> None:
    run = usual_run(CATALOGUE, 2)
    run.in_hand.add(1)
    run.held_why = "held by alice"

    assert not run.is_over
    done(run, 1)
    assert run.phase() is Phase.HELD

    run.held_why = ""
    assert open_now(run) == ["0002-sextractor"]
    done(run, 2)
    assert run.phase() is Phase.COMPLETED


def test_a_cancelled_run_is_aborted_whatever_else_became_of_it() -> None:
    run = usual_run(CATALOGUE + STOP, 2)
    run.in_hand.update({1, 2})
    failed(run, 1)
    run.held_why = "held by alice"
    run.cancelled_by = "alice"

    end(run, 2, Outcome(StepState.SKIPPED, Ending.NEVER_AGAIN, "cancelled by alice"))

    assert run.is_over
    assert run.phase() is Phase.ABORTED


def test_a_failure_that_ends_the_run_counts_more_than_an_earlier_one_that_does_not() -> None:
    chosen = [exposure(1, filter="g"), exposure(2, filter="r")]
    tasks = STACK + '[[task]]\napplication = "swarp"\ngather = ["all"]\n' + STOP
    run = run_of(planned(tasks, chosen))

    failed(run, 1)
    assert not run.is_stopping
    failed(run, 3)

    assert run.is_stopping
    assert run.first_failure() == (run.step(3), run.outcome[3])


def packed_run(tasks: str = CATALOGUE) -> Run:
    return run_of(planned(tasks, [exposure(1, packing="fits.gz"), exposure(2)]))


def test_a_lazy_step_runs_only_when_its_user_really_runs() -> None:
    run = packed_run()

    assert open_now(run) == ["0002-sextractor", "0003-sextractor"]
    assert run.total == 2
    assert run.lazy_needs(run.step(2)) == [1]

    run.wanted.add(1)
    assert open_now(run) == ["0001-prepare", "0003-sextractor"]
    assert run.total == 3
    done(run, 1)
    assert run.lazy_needs(run.step(2)) == []
    assert open_now(run) == ["0002-sextractor", "0003-sextractor"]


def test_a_run_whose_lazy_steps_were_never_wanted_is_complete() -> None:
    run = packed_run()

    end(run, 2, Outcome(StepState.REUSED, Ending.DONE, attempt=0))
    done(run, 3)

    assert run.is_over
    assert run.phase() is Phase.COMPLETED


def test_an_exposure_that_cannot_be_prepared_is_dropped() -> None:
    run = packed_run()
    run.wanted.add(1)

    failed(run, 1, why="half of it is missing")
    done(run, 3)

    assert run.lost == {"img0001": "prepare: half of it is missing"}
    assert run.state[2] is StepState.SKIPPED
    assert run.phase() is Phase.COMPLETED


def test_a_run_without_a_single_good_step_of_a_task_is_an_error() -> None:
    run = run_of(planned(CATALOGUE, [exposure(1)]))

    failed(run, 1)

    assert run.phase() is Phase.ERROR


def test_a_weight_map_that_cannot_be_prepared_drops_its_exposures() -> None:
    weight = exposure(9, packing="fits.gz")
    run = run_of(
        planned(STACK, [exposure(1), exposure(2), exposure(3)], weights={f"/archive/{n}p.fits": weight for n in (1, 2)})
    )
    run.wanted.add(1)

    failed(run, 1)

    assert set(run.lost) == {"img0001", "img0002"}
    assert run.stems(run.step(2)) == ("img0003",)


def test_what_was_made_is_found_for_each_exposure() -> None:
    run = usual_run()
    for number in (1, 2, 3, 4):
        done(run, number)

    heads = run.files(run.step(5))["head"]

    assert [run.made_by(file).stem for file in heads] == ["img0001", "img0002", "img0003"]  # type: ignore[union-attr]
    assert run.made_by(PlannedFile("img0001", Source(step=4, output="nothing"))) is None
    assert run.outputs_read_later(run.step(1)) == {"catalogue"}
    assert run.outputs_read_later(run.step(5)) == frozenset()


def test_texts_of_the_tools_name_the_exposures() -> None:
    run = usual_run(CATALOGUE, 1)

    assert run.in_words("img0001.fits and img00012, ximg0001") == "1p.fits and img00012, ximg0001"


def shuffled_run(seed: int, words: list[str]) -> Run:
    chance = random.Random(seed)
    tasks = "".join(
        task + (STOP if chance.random() < 0.15 else "") + (f"least = {chance.randint(1, 3)}\n" if gathers else "")
        for task, gathers in ((CATALOGUE, False), (SOLVE, True), (STACK, True))
    )
    chosen = [
        exposure(n, filter=chance.choice("gr"), instrument=chance.choice("AB"), packing=chance.choice(words))
        for n in range(1, chance.randint(2, 7))
    ]
    pool = [exposure(n, filter="g") for n in range(20, 20 + chance.randint(0, 2))]
    return run_of(planned(tasks, chosen, pool))


ENDS = st.sampled_from(["done", "done", "done", "reused", "failed", "culprit", "interrupted", "hold", "cancel"])


@pytest.mark.slow
@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.integers(0, 10_000), st.lists(st.tuples(st.integers(0, 99), ENDS), max_size=80))
def test_any_order_of_ends_leads_to_an_end_that_tells_the_truth(seed: int, events: list[tuple[int, str]]) -> None:
    run = shuffled_run(seed, ["fits", "fits.gz"])
    ended: dict[int, StepState] = {}
    attempt: dict[int, int] = {}
    left = iter(events)

    for _ in range(1_000):
        if run.is_over:
            break
        for step in list(run.open_steps())[:4]:
            _begin(run, step)
        if run.in_hand:
            pick, word = next(left, (0, "done"))
            number = sorted(run.in_hand)[pick % len(run.in_hand)]
            attempt[number] = attempt.get(number, 0) + 1
            _one_end(run, number, word, attempt[number])
        for number, state in ended.items():
            assert run.state[number] is state
        ended = {number: state for number, state in run.state.items() if state in ENDED_STATES}

    assert run.is_over
    assert list(run.open_steps()) == []
    phase = run.phase()
    assert phase in (Phase.COMPLETED, Phase.ERROR, Phase.HELD, Phase.ABORTED)
    if phase is Phase.COMPLETED:
        wanted = [step for step in run.plan.steps if step.gathers]
        assert all(run.state[step.number] in GOOD_STATES for step in wanted)
        assert all(state in ENDED_STATES for n, state in run.state.items() if not run.step(n).is_lazy)
    if phase is Phase.ERROR:
        assert run.first_failure() is not None


def _begin(run: Run, step: PlannedStep) -> None:
    """As the workbench does: a step whose lazy needs are open waits for them."""
    assert run.stems(step), "a step without exposures would be begun"
    for files in run.files(step).values():
        for file in files:
            assert run.state.get(file.source.step) not in (StepState.FAILED, StepState.SKIPPED)
    lazy = run.lazy_needs(step)
    if lazy:
        run.wanted.update(lazy)
    else:
        run.in_hand.add(step.number)


def _one_end(run: Run, number: int, word: str, attempt: int) -> None:
    step = run.step(number)
    if word == "hold":
        run.held_why = "held by alice"
    if word == "cancel":
        run.cancelled_by = "alice"
    stems = run.stems(step)
    outcome = {
        "reused": Outcome(StepState.REUSED, Ending.DONE, stems=stems),
        "failed": Outcome(StepState.FAILED, Ending.NEVER_AGAIN, "broken", stems=stems),
        "culprit": Outcome(StepState.FAILED, Ending.NEVER_AGAIN, "bad", stems[-1] if stems else "", stems=stems),
        "interrupted": Outcome(StepState.WAITING, Ending.TRY_AGAIN, "killed", attempt=attempt),
    }.get(word, Outcome(StepState.DONE, Ending.DONE, stems=stems))
    before = len(run.lost)
    state = run.end(step, outcome, ATTEMPTS)
    assert number not in run.in_hand
    assert state is run.state[number]
    if word == "culprit" and state is StepState.WAITING:
        assert len(run.lost) == before + 1


def test_each_of_thousands_of_files_that_a_step_made_is_found() -> None:
    run = usual_run()
    for number in (1, 2, 3):
        done(run, number)
    many = tuple(Made("head", f"img{number:04d}", f"work/{number}.head", 1, 1, "d") for number in range(1, 4001))
    run.outcome[4] = replace(run.outcome[1], made=many)

    found = [run.made_by(PlannedFile(each.stem, Source(step=4, output="head"))) for each in many]

    assert found == list(many)
    run.outcome[4] = replace(run.outcome[1], made=many[:1])
    assert run.made_by(PlannedFile("img0009", Source(step=4, output="head"))) == many[0]

"""The plan: which steps come of rules and exposures, on what, in which order, and what is left out with its reason.

The applications are the shipped ones; nothing is run here.
"""

from __future__ import annotations

import dataclasses
import random
from pathlib import Path

import pytest

from spicad.applications.descriptor import Application, load_applications, parse_application
from spicad.archive.headers import Ccd, Exposure
from spicad.plan import Dropped, Ingredients, Plan, clean, plan
from spicad.rules import parse_rules
from spicad.words import BadInput

ROOT = Path(__file__).parent.parent
APPLICATIONS = load_applications(ROOT / "etc/applications")

CATALOGUE = '[[task]]\napplication = "sextractor"\neach = "exposure"\n'
SOLVE = '[[task]]\napplication = "scamp"\ngather = ["instrument"]\n'
STACK = '[[task]]\napplication = "swarp"\ngather = ["object", "filter"]\n'


def exposure(number: int, ra: float | None = 210.8, dec: float | None = 54.3, **values: object) -> Exposure:
    ccd = Ccd(0, "ccd00", 1000, 1000, "TAN", (210.8, 54.3), -32)
    record = Exposure(
        path=Path(f"/archive/{number}p.fits"),
        size=4_000_000,
        mtime_ns=number,
        packing="fits",
        stem=f"{number}p",
        instrument="MegaPrime",
        filter="r",
        object="M101",
        runid="03AF12",
        t_exptime=120.0,
        airmass=1.1,
        mjd=53085.2,
        s_ra=ra,
        s_dec=dec,
        radius_deg=0.1,
        seeing=None,
        grade=None,
        ccds=(ccd,),
        warnings=(),
    )
    return dataclasses.replace(record, **values)


def planned(
    tasks: str,
    chosen: list[Exposure],
    pool: list[Exposure] | None = None,
    applications: dict[str, Application] | None = None,
    reference: str = "/archive/ref.cat",
    **more: object,
) -> Plan:
    rules = parse_rules(f'title = "Try"\n{tasks}', "try.toml")
    ingredients = Ingredients("m101", rules, chosen, pool or [], reference=reference, **more)  # type: ignore[arg-type]
    return plan(ingredients, applications or APPLICATIONS)


def steps_of(made: Plan, application: str) -> list[tuple[str, ...]]:
    """The exposures' names of each step of an application."""
    return [tuple(made.labels[stem] for stem in step.stems) for step in made.steps if step.application == application]


def refusal(*arguments: object, **values: object) -> str:
    with pytest.raises(BadInput) as refused:
        planned(*arguments, **values)  # type: ignore[arg-type]
    return str(refused.value)


def test_a_stack_is_catalogues_then_a_solution_then_stacks_by_object_and_filter() -> None:
    chosen = [exposure(1), exposure(2), exposure(3, filter="g"), exposure(4, object="M51")]

    made = planned(CATALOGUE + SOLVE + STACK, chosen)

    assert steps_of(made, "sextractor") == [("1p",), ("2p",), ("3p",), ("4p",)]
    assert steps_of(made, "scamp") == [("1p", "2p", "3p", "4p")]
    assert steps_of(made, "swarp") == [("3p",), ("1p", "2p"), ("4p",)]
    assert [step.label for step in made.steps] == [
        "1p",
        "2p",
        "3p",
        "4p",
        "m101",
        "m101_M101_g",
        "m101_M101_r",
        "m101_M51_r",
    ]
    assert [step.number for step in made.steps] == list(range(1, 9))
    solve, stack = made.steps[4], made.steps[6]
    assert solve.needs == (1, 2, 3, 4)
    assert [file.source.output for file in solve.files["catalogue"]] == ["catalogue"] * 4
    assert solve.files["reference"][0].source.path == "/archive/ref.cat"
    assert [(file.stem, file.source.step) for file in stack.files["head"]] == [("img0001", 5), ("img0002", 5)]
    assert stack.files["exposure"][1].source.path == "/archive/2p.fits"
    assert made.dropped == ()
    assert made.forecast_bytes > 0


def test_every_step_needs_only_earlier_ones() -> None:
    made = planned(CATALOGUE + SOLVE + STACK, [exposure(n, filter="gri"[n % 3]) for n in range(9)])

    for step in made.steps:
        assert all(need < step.number for need in step.needs)


@pytest.mark.parametrize(
    ("gather", "groups"),
    [
        ('["all"]', [("1p", "2p", "3p", "4p")]),
        ('["filter"]', [("3p",), ("1p", "2p", "4p")]),
        ('["object"]', [("1p", "2p", "3p"), ("4p",)]),
        ('["run"]', [("2p",), ("1p", "3p", "4p")]),
        ('["instrument", "filter", "object", "run"]', [("3p",), ("2p",), ("1p",), ("4p",)]),
    ],
)
def test_exposures_are_gathered_by_what_they_share(gather: str, groups: list[tuple[str, ...]]) -> None:
    chosen = [exposure(1), exposure(2, runid="03AF11"), exposure(3, filter="g"), exposure(4, object="M51")]

    made = planned(f'[[task]]\napplication = "swarp"\ngather = {gather}\n', chosen)

    assert steps_of(made, "swarp") == groups


def test_exposures_with_nothing_known_about_them_are_a_group_too() -> None:
    made = planned(STACK, [exposure(1, object="", filter=""), exposure(2, object="", filter=""), exposure(3)])

    assert steps_of(made, "swarp") == [("1p", "2p"), ("3p",)]
    assert [step.label for step in made.steps] == ["m101", "m101_M101_r"]


def test_a_select_leaves_exposures_out_of_its_task_alone_and_says_so() -> None:
    chosen = [exposure(1, seeing=0.7), exposure(2, seeing=1.4), exposure(3, seeing=0.8)]

    made = planned(CATALOGUE + SOLVE + STACK + 'select = "seeing < 0.9"\n', chosen)

    assert steps_of(made, "sextractor") == [("1p",), ("2p",), ("3p",)]
    assert steps_of(made, "scamp") == [("1p", "2p", "3p")]
    assert steps_of(made, "swarp") == [("1p", "3p")]
    assert made.dropped == (Dropped("2p", 'select = "seeing < 0.9" does not hold', "swarp"),)


def test_an_early_task_works_for_what_later_tasks_want_whatever_its_own_select_says() -> None:
    chosen = [exposure(1, seeing=0.7), exposure(2, seeing=1.4)]

    made = planned(CATALOGUE + 'select = "seeing < 0.9"\n' + SOLVE, chosen)

    assert steps_of(made, "sextractor") == [("1p",), ("2p",)]
    assert made.dropped == ()


def test_a_stack_holds_no_exposure_that_the_solution_left_out() -> None:
    chosen = [exposure(1, seeing=0.7), exposure(2, seeing=1.4), exposure(3, seeing=0.8)]

    made = planned(CATALOGUE + SOLVE + 'select = "seeing < 0.9"\n' + STACK, chosen)

    assert steps_of(made, "scamp") == [("1p", "3p")]
    assert steps_of(made, "swarp") == [("1p", "3p")]
    assert Dropped("2p", "the task scamp makes no head for it", "swarp") in made.dropped


def test_too_few_exposures_are_left_out_with_the_count() -> None:
    chosen = [exposure(1), exposure(2), exposure(3, filter="g")]

    made = planned(STACK + "least = 2\n", chosen)

    assert steps_of(made, "swarp") == [("1p", "2p")]
    assert made.dropped == (Dropped("3p", "only 1 exposures of M101_g, 2 are needed", "swarp"),)
    assert made.steps[0].least == 2
    assert "img0003" not in made.exposures


def test_nothing_is_made_for_a_group_that_is_left_out() -> None:
    chosen = [exposure(1), exposure(2), exposure(3, instrument="WFI")]

    made = planned(CATALOGUE + SOLVE + "least = 2\n", [*chosen])

    assert steps_of(made, "scamp") == [("1p", "2p")]
    assert steps_of(made, "sextractor") == [("1p",), ("2p",), ("3p",)]


def test_a_group_that_shrinks_below_its_least_is_left_out() -> None:
    chosen = [exposure(1, seeing=0.7), exposure(2, seeing=1.4), exposure(3, seeing=0.7, filter="g")]

    made = planned(CATALOGUE + SOLVE + 'select = "seeing < 0.9"\n' + STACK + "least = 2\n", chosen)

    assert steps_of(made, "swarp") == []
    assert ("1p", "swarp") in {(each.exposure, each.task) for each in made.dropped}


def test_when_no_step_is_left_the_first_reasons_are_told() -> None:
    said = refusal(STACK + "least = 3\n", [exposure(1), exposure(2)])

    assert said.startswith("job: no step is left to run. 1p: only 2 exposures of M101_r, 3 are needed")


WIDEN = 'widen = { within_deg = 1.0, same = ["instrument", "filter"], grade = "B" }\n'


@pytest.mark.parametrize(
    ("candidate", "is_taken"),
    [
        (exposure(9, 210.8, 54.3), True),
        (exposure(9, 210.8, 55.29), True),
        (exposure(9, 210.8, 55.31), False),
        (exposure(9, 212.6, 54.3), True),  # 1.7 degrees of right ascension are 0.992 degrees here
        (exposure(9, 212.63, 54.3), False),
        (exposure(9, filter="g"), False),
        (exposure(9, instrument="WFI"), False),
        (exposure(9, object="elsewhere"), True),
        (exposure(9, grade="A"), True),
        (exposure(9, grade="B"), True),
        (exposure(9, grade="C"), False),
        (exposure(9, ra=None, dec=None), False),
    ],
)
def test_a_task_is_widened_with_what_is_near_alike_and_good(candidate: Exposure, is_taken: bool) -> None:
    chosen = [exposure(1), exposure(2, 210.9, 54.3)]

    made = planned(CATALOGUE + SOLVE + WIDEN + STACK, chosen, [candidate])

    assert steps_of(made, "scamp") == [("1p", "2p", "9p") if is_taken else ("1p", "2p")]
    assert (("9p",) in steps_of(made, "sextractor")) is is_taken
    assert steps_of(made, "swarp") == [("1p", "2p")]


@pytest.mark.parametrize(
    ("one", "other", "is_near"),
    [
        ((359.7, 0.0), (0.3, 0.0), True),
        ((0.0, 0.0), (359.01, 0.0), True),
        ((0.0, 0.0), (358.99, 0.0), False),
        ((0.0, 89.8), (180.0, 89.8), True),
        ((90.0, -89.9), (200.0, -89.5), True),
        ((0.0, 89.4), (180.0, 89.5), False),
        ((0.0, 90.0), (123.0, 90.0), True),
        ((0.0, 90.0), (0.0, -90.0), False),
        ((10.0, 0.0), (10.0, 0.0), True),
    ],
)
def test_near_is_near_across_0h_and_at_the_poles(
    one: tuple[float, float], other: tuple[float, float], is_near: bool
) -> None:
    made = planned(SOLVE_ALONE + WIDEN, [exposure(1, *one)], [exposure(2, *other)], TOY)

    assert steps_of(made, "solve") == [("1p", "2p") if is_near else ("1p",)]


SOLVE_ALONE = '[[task]]\napplication = "solve"\ngather = ["instrument"]\n'
TOY_INPUT = '[input.exposure]\nkind = "exposure"\nfile = "{stem}.fits"\n'
TOY = {
    name: parse_application(
        f'title = "{name}"\nsummary = "A toy"\ncommand = ["{name}"]\narguments = ["{{exposure}}"]\n{TOY_INPUT}{more}',
        Path(f"/toys/{name}.toml"),
    )
    for name, more in {
        "solve": '[output.model]\nfile = "model.fits"\nkind = "fits"\n',
        "apply": '[input.model]\nkind = "product"\nproduct = "model"\nfile = "{stem}.fits"\n',
    }.items()
} | {name: APPLICATIONS[name] for name in APPLICATIONS if name.startswith("prepare")}


@pytest.mark.parametrize("within_deg", [0.0, 0.01, 1.0, 30.0, 90.0, 179.0, 180.0])
def test_widening_finds_what_trying_all_pairs_finds(within_deg: float) -> None:
    from spicad.archive.headers import separation_deg

    chance = random.Random(within_deg)
    places = [(chance.choice([0.0, 359.999, chance.uniform(0, 360)]), chance.uniform(-90, 90)) for _ in range(120)]
    places += [(ra, max(-90.0, dec - within_deg * chance.random())) for ra, dec in places]
    chosen = [exposure(n, *place) for n, place in enumerate(places[:20])]
    pool = [exposure(n, *place) for n, place in enumerate(places[20:], 100)]

    made = planned(SOLVE_ALONE + f"widen = {{ within_deg = {within_deg} }}\n", chosen, pool, TOY)

    near = [
        each.stem
        for each in pool
        if any(separation_deg((each.s_ra, each.s_dec), (one.s_ra, one.s_dec)) <= within_deg for one in chosen)
    ]
    assert steps_of(made, "solve") == [tuple(each.stem for each in chosen) + tuple(near)]


def test_a_widening_exposure_joins_only_groups_that_are_there() -> None:
    tasks = SOLVE_ALONE.replace('["instrument"]', '["object"]') + 'widen = { same = ["instrument"] }\n'

    made = planned(tasks, [exposure(1)], [exposure(2), exposure(3, object="M51")], TOY)

    assert steps_of(made, "solve") == [("1p", "2p")]


def test_what_a_group_makes_as_a_whole_is_read_once() -> None:
    tasks = SOLVE_ALONE + '[[task]]\napplication = "apply"\ngather = ["all"]\n'

    made = planned(tasks, [exposure(1), exposure(2), exposure(3, instrument="WFI")], [], TOY)

    solve, other, apply = made.steps
    assert [(file.stem, file.source.step) for file in apply.files["model"]] == [("part0001", 1), ("part0002", 2)]
    assert apply.needs == (solve.number, other.number)


def test_exposures_of_the_same_name_get_names_of_their_own() -> None:
    names = ["a", "a", "a-2", "a", "b/c", "b c", "../x", "", "-rf", ".hidden", "x" * 300, "x" * 300, "é\n\x1b[2J"]
    chosen = [exposure(n, stem=name) for n, name in enumerate(names)]

    made = planned(CATALOGUE, chosen)

    labels = list(made.labels.values())
    assert labels[:6] == ["a", "a-2", "a-2-2", "a-3", "b_c", "b_c-2"]
    assert len(set(labels)) == len(names)
    assert all(label == clean(label) or label.startswith("x" * 100) for label in labels)
    assert all("/" not in label and label.isprintable() and label[0] not in ".-" for label in labels)


def test_groups_that_differ_in_odd_signs_only_get_names_of_their_own() -> None:
    chosen = [exposure(n, object=name, filter="r") for n, name in enumerate(["M 31", "M_31", "M/31", "M"])]

    made = planned(STACK, [*chosen, exposure(9, object="M", filter="31_r")])

    assert sorted(step.label for step in made.steps) == [
        "m101_M_31_r",
        "m101_M_31_r-2",
        "m101_M_31_r-3",
        "m101_M_31_r-4",
        "m101_M_r",
    ]


@pytest.mark.slow
def test_four_thousand_exposures_of_one_name_are_told_apart() -> None:
    made = planned(CATALOGUE, [exposure(n, stem="image") for n in range(4_000)])

    assert len(set(made.labels.values())) == 4_000


def test_a_packed_exposure_is_prepared_once_and_only_when_it_is_needed() -> None:
    packed = exposure(1, packing="fits.fz", path=Path("/archive/1p.fits.fz"))

    made = planned(CATALOGUE + SOLVE + CATALOGUE + STACK, [packed, exposure(2)])

    prepare = [step for step in made.steps if step.application == "prepare"]
    assert [(step.number, step.is_lazy, step.stems, step.needs) for step in prepare] == [(1, True, ("img0001",), ())]
    readers = [step for step in made.steps if 1 in step.needs]
    assert [step.application for step in readers] == ["sextractor", "sextractor", "swarp"]
    assert made.labels["img0001"] == "1p"


def test_a_weight_map_goes_with_its_exposure_and_one_for_all_is_prepared_once() -> None:
    packed = exposure(77, packing="fits.gz", path=Path("/archive/w.fits.gz"), stem="w")
    weights = {"/archive/1p.fits": packed, "/archive/2p.fits": packed}

    made = planned(STACK, [exposure(1), exposure(2), exposure(3)], weights=weights)

    prepare, stack = made.steps
    assert prepare.is_lazy
    assert prepare.stems not in [("img0001",), ("img0002",)]
    assert [(file.stem, file.source.step) for file in stack.files["weight"]] == [("img0001", 1), ("img0002", 1)]
    assert set(made.exposures) == {"img0001", "img0002", "img0003"}


def test_the_weight_map_of_a_stack_is_none_of_its_exposures() -> None:
    made = planned(STACK + STACK.replace('"object", "filter"', '"all"'), [exposure(1), exposure(2)])

    assert [sorted(step.files) for step in made.steps] == [["exposure"], ["exposure"]]
    assert made.steps[1].needs == ()


def test_preparing_ends_the_run_where_the_task_that_wants_it_would() -> None:
    packed = exposure(1, packing="fits.gz")

    assert [step.stops_run for step in planned(CATALOGUE, [packed]).steps] == [False, False]
    assert [step.stops_run for step in planned(CATALOGUE + 'on_bad_exposure = "stop"\n', [packed]).steps] == [
        True,
        True,
    ]


def test_a_missing_reference_catalogue_is_asked_for() -> None:
    assert refusal(CATALOGUE + SOLVE, [exposure(1)], reference="") == (
        'job: the task scamp needs a reference catalogue. Add: reference = "/path/to/catalogue.cat" (FITS LDAC).'
    )


def test_a_missing_maker_is_named() -> None:
    said = refusal(SOLVE + CATALOGUE, [exposure(1)])

    assert said.startswith(
        "job: the task scamp needs a catalogue, which no earlier task makes. Put one of these before"
    )
    assert "sextractor" in said


def test_a_product_that_nothing_makes_is_said_to_be_so() -> None:
    toys = {"apply": TOY["apply"]}

    assert refusal('[[task]]\napplication = "apply"\neach = "exposure"\n', [exposure(1)], [], toys) == (
        "job: the task apply needs a model, which no earlier task makes. No application here makes it."
    )


def test_an_unknown_application_is_named_with_the_nearest_one() -> None:
    tasks = '[[task]]\napplication = "sextracto"\neach = "exposure"\n[[task]]\napplication = "zz"\neach = "exposure"\n'

    said = refusal(tasks, [exposure(1)]).splitlines()

    assert said[0] == 'job: unknown application "sextracto". Did you mean "sextractor"?'
    assert said[1].startswith('job: unknown application "zz". Known: ')


def test_exposures_that_overlap_nothing_are_noted() -> None:
    made = planned(STACK, [exposure(1), exposure(2, 210.9), exposure(3, 215.0), exposure(4, None, None)])

    assert made.notes == (
        "3p overlaps no other exposure of its swarp step",
        "4p overlaps no other exposure of its swarp step",
    )


def test_overlaps_are_seen_across_0h_and_between_large_and_small_fields() -> None:
    pairs = [exposure(1, 359.95, 0.0), exposure(2, 0.05, 0.0), exposure(3, 5.0, 0.0, radius_deg=0.01)]

    alone = planned(STACK, pairs)
    with_large = planned(STACK, [*pairs, exposure(4, 10.0, 0.0, radius_deg=5.0)])

    assert [note.split()[0] for note in alone.notes] == ["3p"]
    assert with_large.notes == ()


def test_resources_come_from_the_rules_else_from_the_application() -> None:
    scamp = APPLICATIONS["scamp"]

    made = planned(CATALOGUE + SOLVE + "threads = 3\nmemory_mb = 99\ntime_s = 7\n", [exposure(1), exposure(2)])
    usual = planned(CATALOGUE + SOLVE, [exposure(1), exposure(2)])

    assert (made.steps[-1].threads, made.steps[-1].memory_mb, made.steps[-1].time_s) == (3, 99, 7)
    assert usual.steps[-1].memory_mb == scamp.memory_for(2) > scamp.memory_for(1)
    assert usual.steps[-1].time_s == scamp.time_for(2)


@pytest.mark.parametrize(("word", "stops"), [("drop", False), ("stop", True)])
def test_a_bad_exposure_ends_the_run_only_where_the_rules_say_so(word: str, stops: bool) -> None:
    made = planned(CATALOGUE + SOLVE + f'on_bad_exposure = "{word}"\n', [exposure(1)])

    assert [(step.gathers, step.stops_run) for step in made.steps] == [(False, False), (True, stops)]


@pytest.mark.slow
def test_the_same_inputs_give_the_same_plan_whatever_the_hashes_are() -> None:
    import os
    import subprocess
    import sys

    program = (
        "import sys, json; sys.path[:0] = sys.argv[1:]; import test_plan as t; from spicad.capsule import _plan_record;"
        "print(json.dumps(_plan_record(t.planned(t.CATALOGUE + t.SOLVE + t.WIDEN + t.STACK,"
        " [t.exposure(n, filter='gri'[n % 3]) for n in range(20)],"
        " [t.exposure(n) for n in range(30, 50)])), default=str))"
    )
    plans = {
        subprocess.run(
            [sys.executable, "-c", program, str(ROOT), str(ROOT / "tests")],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }

    assert len(plans) == 1
    assert "swarp" in plans.pop()


@pytest.mark.slow
def test_four_thousand_exposures_and_as_many_neighbours_can_be_planned() -> None:
    chance = random.Random(4000)
    fields = [(chance.uniform(0, 360), chance.uniform(-80, 80)) for _ in range(2_000)]

    def records(first: int) -> list[Exposure]:
        return [exposure(first + n, *fields[n % 2_000], filter="gri"[n % 3], object=f"F{n % 50}") for n in range(4_000)]

    made = planned(CATALOGUE + SOLVE + WIDEN + STACK, records(0), records(10_000))

    assert len(steps_of(made, "sextractor")) == 8_000
    assert len(steps_of(made, "swarp")) == 150
    assert max(step.number for step in made.steps) == len(made.steps)

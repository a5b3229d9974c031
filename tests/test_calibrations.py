"""Which calibrations a plan gives to which exposure, which master frames it makes first, and what it says is missing.

Nothing is run here; a process on real frames is tried in test_preprocess_job.py.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from test_plan import APPLICATIONS, CATALOGUE, exposure, planned, refusal, steps_of

from spicad.archive.headers import Exposure
from spicad.calibrations import Candidate, best
from spicad.plan import Plan
from spicad.rules import Calibrate, load_rules, parse_rules
from spicad.words import BadInput

ROOT = Path(__file__).parent.parent


def tasks_of(name: str) -> str:
    """The [[task]] tables of shipped rules."""
    text = (ROOT / f"etc/rules/{name}.toml").read_text()
    return text[text.index("[[task]]") :]


def raw(number: int, kind: str = "science", **values: object) -> Exposure:
    letter = {"science": "o"}.get(kind, kind.removeprefix("master-")[0])
    place: dict[str, object] = (
        {} if kind == "science" else {"ra": None, "dec": None, "filter": "NONE", "radius_deg": None}
    )
    named = {"kind": kind, "path": Path(f"/archive/{number}{letter}.fits"), "stem": f"{number}{letter}"}
    return exposure(number, **(place | named | values))


BIASES = [raw(11, "bias"), raw(12, "bias")]
FLATS = [raw(21, "flat", filter="r"), raw(22, "flat", filter="r"), raw(23, "flat", filter="g")]
MASTER_BIAS, MASTER_FLAT = raw(31, "master-bias"), raw(32, "master-flat", filter="r")


def calibrations_of(made: Plan, application: str = "preprocess") -> list[dict[str, str]]:
    """For each step, by input, the file or the label of the step that makes it."""
    return [
        {
            name: files[0].source.path or f"step {files[0].source.step}"
            for name, files in step.files.items()
            if name != "exposure"
        }
        for step in made.steps
        if step.application == application
    ]


def test_an_exposure_is_pre_processed_with_the_masters_of_its_run_and_filter():
    others = [raw(33, "master-bias", runid="04BF01"), raw(34, "master-flat", filter="g")]

    made = planned(tasks_of("preprocess"), [raw(1)], [*others, MASTER_BIAS, MASTER_FLAT])

    assert calibrations_of(made) == [{"bias": "/archive/31b.fits", "flat": "/archive/32f.fits"}]
    assert [step.application for step in made.steps] == ["preprocess"]
    assert made.dropped == ()


def test_where_there_is_no_master_it_is_made_of_the_frames_of_the_archive_first():
    made = planned(tasks_of("preprocess"), [raw(1), raw(2)], [*BIASES, *FLATS])

    assert steps_of(made, "master-bias") == [("11b", "12b")]
    assert steps_of(made, "master-flat") == [("21f", "22f")]  # those of g are not asked for
    assert calibrations_of(made, "master-flat") == [{"bias": "step 1"}]
    assert calibrations_of(made) == [{"bias": "step 1", "flat": "step 2"}] * 2
    assert made.steps[2].needs == (1, 2)


def test_masters_that_are_there_are_used_and_not_made_again():
    made = planned(tasks_of("preprocess"), [raw(1)], [*BIASES, *FLATS, MASTER_BIAS])

    assert steps_of(made, "master-bias") == []
    assert calibrations_of(made, "master-flat") == [{"bias": "/archive/31b.fits"}]
    assert calibrations_of(made) == [{"bias": "/archive/31b.fits", "flat": "step 1"}]


def test_frames_that_were_chosen_are_combined_whatever_is_there():
    made = planned(tasks_of("masters"), [*BIASES, *FLATS], [MASTER_BIAS])

    assert steps_of(made, "master-bias") == [("11b", "12b")]
    assert steps_of(made, "master-flat") == [("23f",), ("21f", "22f")]
    assert calibrations_of(made, "master-flat") == [{"bias": "step 1"}] * 2


def test_all_frames_of_a_night_in_one_job_make_masters_and_then_the_stack():
    made = planned(tasks_of("raw-stack"), [*BIASES, *FLATS, raw(1), raw(2)])

    assert [step.application for step in made.steps] == [
        "master-bias", "master-flat", "master-flat", "preprocess", "preprocess", "sextractor", "sextractor", "scamp",
        "swarp",
    ]  # fmt: skip
    stack = made.steps[-1]
    assert [(file.source.step, file.source.output) for file in stack.files["exposure"]] == [
        (4, "preprocessed"), (5, "preprocessed"),
    ]  # fmt: skip
    assert [file.source.output for file in stack.files["weight"]] == ["weight", "weight"]
    assert [made.labels[stem] for stem in made.calibration] == ["11b", "12b", "21f", "22f", "23f"]
    assert made.dropped == ()


def test_what_is_missing_is_named_with_what_was_looked_for():
    made = planned(tasks_of("raw-stack"), [raw(1), raw(2, filter="z")], [MASTER_BIAS, MASTER_FLAT])

    assert [(each.exposure, each.task) for each in made.dropped if each.task == "preprocess"] == [("2o", "preprocess")]
    (why,) = [each.why for each in made.dropped if each.task == "preprocess"]
    assert why == (
        "no master-flat for it: looked for one of MegaPrime with 1 CCDs, filter z, run 03AF12; "
        "1 that were found do not fit"
    )
    assert steps_of(made, "swarp") == [("1o",)]


def test_without_any_calibration_the_job_is_refused_in_the_same_words():
    said = refusal(tasks_of("preprocess"), [raw(1)])

    assert (
        "no step is left to run. 1o: no master-bias for it: looked for one of MegaPrime with 1 CCDs, run 03AF12" in said
    )


def test_a_raw_exposure_never_goes_on_past_a_failed_search():
    made = planned(tasks_of("raw-stack"), [raw(1), raw(2, runid="99XX00")], [MASTER_BIAS, MASTER_FLAT])

    assert steps_of(made, "sextractor") == [("1o",)]
    assert ("2o", "sextractor") in {(each.exposure, each.task) for each in made.dropped}


def test_what_elixir_has_processed_takes_no_calibrations():
    made = planned(tasks_of("preprocess"), [exposure(5, is_processed=True)], [MASTER_BIAS, MASTER_FLAT])

    assert calibrations_of(made) == [{}]
    assert made.dropped == ()


def test_a_mask_of_the_camera_is_taken_and_one_of_an_exposure_is_not():
    mask, companion = (
        raw(41, "mask", stem="2004B.mask.0.36.01"),
        raw(42, "mask", stem="1o_mask", path=Path("/archive/1o_mask.fits")),
    )

    made = planned(tasks_of("preprocess"), [raw(1)], [MASTER_BIAS, MASTER_FLAT, companion, mask])

    assert calibrations_of(made)[0]["mask"] == "/archive/41m.fits"


@pytest.mark.parametrize(
    ("how", "wanted"),
    [
        (Calibrate(), "35b"),  # the nearest in time
        (Calibrate(same=("night",)), "36b"),
        (Calibrate(within_days=1.0), None),
    ],
)
def test_of_several_that_fit_the_nearest_in_time_is_taken(how, wanted):
    night = "2004-03-21"
    masters = [
        raw(34, "master-bias", mjd=53000.0),
        raw(35, "master-bias", mjd=53087.2),
        raw(36, "master-bias", mjd=53080.2, night=night),
    ]

    found = best("master-bias", raw(1, night=night), how, [Candidate(each.kind, each) for each in masters])

    assert (found.like.stem if found else None) == wanted


def test_a_master_of_another_mosaic_does_not_fit():
    one = raw(31, "master-bias", ccds=raw(1).ccds * 2)

    assert best("master-bias", raw(1), Calibrate(), [Candidate("master-bias", one)]) is None


def test_tasks_that_name_no_kind_leave_calibrations_alone_and_say_so():
    made = planned(CATALOGUE, [exposure(1), BIASES[0]])

    assert steps_of(made, "sextractor") == [("1p",)]
    assert [(each.exposure, each.why) for each in made.dropped] == [
        ("11b", "it is a bias, which no task here works on")
    ]


def test_packed_masters_are_made_readable_first():
    made = planned(tasks_of("preprocess"), [raw(1)], [raw(31, "master-bias", packing="fits.fz"), MASTER_FLAT])

    assert [step.application for step in made.steps] == ["prepare-map", "preprocess"]


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ('kind = "bais"', 'there is no type "bais" of exposures. Did you mean "bias"?'),
        ('calibrate = { needs = ["falt"] }', '"needs" cannot hold "falt". Did you mean "flat"?'),
        ('calibrate = { same = ["nigth"] }', '"same" cannot hold "nigth". Did you mean "night"?'),
    ],
)
def test_rules_that_misspell_a_calibration_are_told_the_mend(line, says):
    with pytest.raises(BadInput) as refused:
        parse_rules(f'title = "Try"\n[[task]]\napplication = "preprocess"\neach = "exposure"\n{line}\n', "try.toml")

    assert says in str(refused.value)


def test_the_shipped_rules_name_applications_that_there_are():
    for name in ("masters", "preprocess", "raw-stack"):
        assert {task.application for task in load_rules(ROOT / f"etc/rules/{name}.toml").tasks} <= APPLICATIONS.keys()

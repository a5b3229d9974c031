"""The thresholds of grades: how files add up, what figures come to by them, what is wrong with a file."""

from __future__ import annotations

from pathlib import Path

import pytest

from spicad.archive.quality import COMMENTS, CcdReport
from spicad.archive.thresholds import parse_thresholds, proposed, shipped_thresholds, thresholds_for
from spicad.words import BadInput

GENERIC = """title = "all"
[[limit]]
figure = "seeing"
above = { B = 1.0, C = 1.2, D = 2.0 }
comment = "poor seeing"
[[limit]]
figure = "stars"
below = { D = 3 }
[[limit]]
figure = "dead_fraction"
of = "ccds"
above = { C = 0.3 }
comment = "CCDs or half-CCDs missing"
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "generic.toml").write_text(GENERIC)
    (tmp_path / "cam.toml").write_text(
        'title = "cam"\ninstrument = "cam"\nccds = 36\n[[limit]]\nfigure = "seeing"\nabove = { C = 3 }\n'
    )
    (tmp_path / "cam-u.toml").write_text(
        'title = "cam, u"\ninstrument = "cam"\nfilter = ["u"]\n[[limit]]\nfigure = "seeing"\nabove = { C = 4 }\n'
    )
    return tmp_path


@pytest.mark.parametrize(
    ("seeing", "grade"), [(None, "A"), (0.9, "A"), (1.0, "A"), (1.01, "B"), (1.3, "C"), (2.5, "D")]
)
def test_a_figure_comes_to_the_worst_grade_whose_limit_it_breaks(folder: Path, seeing: float | None, grade: str):
    given, reasons = proposed({"seeing": seeing, "stars": 100.0}, [], thresholds_for(folder, "other", "r"))

    assert given == grade
    assert [reason.figure for reason in reasons] == ([] if grade == "A" else ["seeing"])


def test_the_worst_reason_decides_and_stands_first(folder: Path):
    ccds = [CcdReport("one", 1, {"dead_fraction": 0.0}), CcdReport("two", 2, {"dead_fraction": 0.5})]

    grade, reasons = proposed({"seeing": 1.1, "stars": 2.0}, ccds, thresholds_for(folder, "other", "r"))

    assert grade == "D"
    assert [(reason.grade, reason.figure, reason.ccd) for reason in reasons] == [
        ("D", "stars", ""),
        ("C", "dead_fraction", "two"),
        ("B", "seeing", ""),
    ]
    assert reasons[2].words == "seeing is 1.1 arcsec, more than 1."


@pytest.mark.parametrize(
    ("instrument", "band", "name", "ccds", "limit"),
    [("other", "u", "generic", 0, 2.0), ("cam", "r", "cam", 36, 3.0), ("cam", "U", "cam-u", 36, 4.0)],
)
def test_the_nearest_file_changes_what_it_names(
    folder: Path, instrument: str, band: str, name: str, ccds: int, limit: float
):
    found = thresholds_for(folder, instrument, band)

    assert (found.name, found.ccds) == (name, ccds)
    assert found.limits["seeing", True, False].grades[0][1] == limit
    assert found.limits["stars", False, False].grades == (("D", 3.0),)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('title = "x"\n[[limit]]\nfigure = "seing"\nabove = { C = 1 }', 'line 3: "seing" is no figure'),
        ('title = "x"\n[[limit]]\nfigure = "ccds_dead"\nof = "ccds"\nabove = { C = 1 }', "no figure of a CCD"),
        ('title = "x"\n[[limit]]\nfigure = "seeing"\nabove = { A = 1 }', "is no limit of a grade"),
        ('title = "x"\n[[limit]]\nfigure = "seeing"\nabove = { C = "1" }', "is no limit of a grade"),
        ('title = "x"\n[[limit]]\nfigure = "seeing"\nabove = { B = 2, C = 1 }', "must have the limit further off"),
        ('title = "x"\n[[limit]]\nfigure = "stars"\nbelow = { B = 1, C = 2 }', "must have the limit further off"),
        ('title = "x"\n[[limit]]\nfigure = "seeing"\nabove = { C = 1 }\ncomment = "bad"', "none of the usual comments"),
        ('title = "x"\n[counts.r]\nat = 20', '"galaxies" is missing'),
        ('titel = "x"', 'Did you mean "title"?'),
    ],
)
def test_a_mistake_is_named_with_its_line(text: str, said: str):
    with pytest.raises(BadInput) as caught:
        parse_thresholds(text, "x.toml", "x")

    assert said in str(caught.value)


def test_a_folder_without_a_generic_file_is_refused(folder: Path):
    (folder / "generic.toml").unlink()

    with pytest.raises(BadInput, match=r"generic\.toml"):
        thresholds_for(folder, "cam", "u")


@pytest.mark.parametrize(
    ("instrument", "band"), [("generic", "r"), ("megacam", "u"), ("wircam", "J"), ("made-sky", "g")]
)
def test_what_came_with_spica_is_sound(instrument: str, band: str):
    found = thresholds_for(shipped_thresholds(), instrument, band)

    assert found.limits
    assert {limit.comment for limit in found.limits.values()} <= {*COMMENTS, ""}
    assert found.ccds == {"megacam": 36, "wircam": 4}.get(instrument, 0)

"""The command line of our own programs: keywords from the command line, a configuration, the defaults; mistakes named.

The programs themselves are tried in their own files.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from spicad.applications.descriptor import Require, parse_application
from spicad.applications.figures import figures
from spicad.applications.kinds import fault_of
from spicad.applications.tools import parse_keywords
from spicad.reduction.keywords import Keyword, Orders, Program, read_orders, sample, status_of
from spicad.words import BadInput, Problem, SpicaError

PROGRAM = Program(
    "measure",
    "Measures.",
    "CATALOGUE ... [-c FILE] [-KEYWORD VALUE] ...",
    (
        Keyword("RADIUS", "0.5", "number", "Radius, arcsec", minimum=0.01, maximum=60),
        Keyword("ROUNDS", "50", "integer", "Most rounds", minimum=1),
        Keyword("ANCHOR", "MEAN", "choice", "What fixes the zero", choices=("MEAN", "REFERENCE")),
        Keyword("PLOTS", "Y", "yes or no", "Whether to draw"),
        Keyword("KEYS", "FILTER,RUNID", "list of texts", "Cards"),
        Keyword("SUFFIX", ".head", "text", "Suffix"),
        Keyword("MASK", "252", "integer", "Bits"),
        Keyword("LIMITS", "1,2", "list of numbers", "From, to", count=2),
    ),
)


def orders(*argv: str) -> Orders:
    read = read_orders(PROGRAM, argv)
    assert read is not None
    return read


def refused(*argv: str) -> str:
    with pytest.raises(BadInput) as caught:
        read_orders(PROGRAM, argv)
    return str(caught.value)


def test_the_command_line_beats_the_file_and_the_file_the_defaults(tmp_path: Path):
    file = tmp_path / "mine.conf"
    file.write_text("# mine\nRADIUS 2.0  # arcsec\nROUNDS = 7\nkeys RUNID , OBJECT\n")

    read = orders("a.ldac", "-c", str(file), "-RADIUS", "3", "b.ldac")

    assert read.files == (Path("a.ldac"), Path("b.ldac"))
    assert read.values == {
        "RADIUS": 3.0, "ROUNDS": 7, "ANCHOR": "MEAN", "PLOTS": True, "KEYS": ("RUNID", "OBJECT"), "SUFFIX": ".head",
        "MASK": 252, "LIMITS": (1.0, 2.0),
    }  # fmt: skip


def test_a_list_names_files(tmp_path: Path):
    (tmp_path / "all.list").write_text("one.ldac\n# not this\ntwo.ldac\n")

    assert orders(f"@{tmp_path}/all.list").files == (Path("one.ldac"), Path("two.ldac"))


def test_a_mask_may_be_hexadecimal():
    assert orders("a.ldac", "-MASK", "0xfc").values["MASK"] == 252


def test_every_mistake_is_named_with_its_place_and_the_mend(tmp_path: Path):
    file = tmp_path / "mine.conf"
    file.write_text("RADUIS 2.0\nROUNDS 1.5\n\nPLOTS maybe\n")

    said = refused("a.ldac", "-c", str(file), "-ANCHOR", "SKY", "-RADIUS", "nan")

    assert f'{file}, line 1: measure has no keyword RADUIS. Did you mean "RADIUS"?' in said
    assert f"{file}, line 2: ROUNDS is 1.5 but must be a whole number." in said
    assert f"{file}, line 4: PLOTS is maybe but must be Y or N." in said
    assert "-ANCHOR: ANCHOR is SKY but must be one of MEAN, REFERENCE." in said
    assert "-RADIUS: RADIUS is nan, which is no finite number." in said


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (("-ANCOR", "MEAN"), 'no such keyword. Did you mean "ANCHOR"?'),
        (("a.ldac", "-RADIUS"), "-RADIUS: this needs a value."),
        (("a.ldac", "-RADIUS", "61"), "must be at most 60"),
        (("a.ldac", "-RADIUS", "0"), "must be at least 0.01"),
        (("a.ldac", "-LIMITS", "1"), "LIMITS is 1 but needs 2 items"),
        (("a.ldac", "-LIMITS", "3,0.3"), "LIMITS is 3,0.3 but must begin with the smaller number"),
        (("a.ldac", "-c", "nowhere.conf"), "nowhere.conf: the configuration cannot be read"),
        (("@nowhere.list",), "@nowhere.list: the list cannot be read"),
    ],
)
def test_a_wrong_command_line_is_refused(argv: tuple[str, ...], words: str):
    assert words in refused(*argv)


def test_spica_understands_the_list_of_keywords():
    read = parse_keywords(sample(PROGRAM))

    assert [(each.name, each.kind) for each in read.values()] == [
        ("RADIUS", "number"), ("ROUNDS", "number"), ("ANCHOR", "choice"), ("PLOTS", "yes or no"),
        ("KEYS", "text"), ("SUFFIX", "text"), ("MASK", "number"), ("LIMITS", "number"),
    ]  # fmt: skip
    assert read["ANCHOR"].allowed == ("MEAN", "REFERENCE")
    assert orders("a.ldac").values["RADIUS"] == float(read["RADIUS"].default)


@pytest.mark.parametrize("argv", [["-v"], ["-dd"], ["--help"], []])
def test_help_version_and_keywords_are_printed(argv: list[str], capsys: pytest.CaptureFixture[str]):
    assert read_orders(PROGRAM, argv) is None
    assert "measure" in capsys.readouterr().out


# Figures that such programs leave in a json file

DESCRIPTOR = """\
title = "measure"
summary = "Measures"
command = ["measure"]
arguments = ["{exposure}"]

[input.exposure]
kind = "exposure"
file = "{stem}.fits"

[output.figures]
file = "measure.json"
kind = "json"

[metrics]
groups = { output = "figures", field = "groups", help = "Groups" }
rms_mag = { output = "figures", table = "exposures", field = "rms_mag", take = "most", help = "Scatter", unit = "mag" }
"""


@pytest.mark.parametrize(
    ("error", "status", "words"),
    [
        (BadInput(Problem("a.fits", "holds no image.")), 2, "a.fits: holds no image."),
        (SpicaError("SExtractor is not installed."), 3, "SExtractor is not installed."),
        (MemoryError(), 3, "more memory is needed"),
        (FileNotFoundError(2, "No such file or directory", "b.fits"), 3, "b.fits: No such file or directory."),
    ],
)
def test_what_goes_wrong_is_said_in_words(
    error: Exception, status: int, words: str, capsys: pytest.CaptureFixture[str]
):
    def work(orders: Orders) -> int:
        raise error

    ended = status_of(PROGRAM, ["a.fits"], work, failed=3)

    assert ended == status
    assert words in capsys.readouterr().err


def test_figures_are_read_from_a_json_file(tmp_path: Path):
    rows = [{"name": "img0001", "rms_mag": 0.01}, {"name": "img0002.ldac", "rms_mag": 0.03}]
    path = tmp_path / "measure.json"
    path.write_text(json.dumps({"groups": 2, "exposures": rows}))

    taken = figures(
        parse_application(DESCRIPTOR, tmp_path / "measure.toml"),
        tmp_path,
        [("figures", None, path)],
        ["img0001", "img0002"],
    )

    assert taken["groups"].value == 2
    assert taken["rms_mag"].value == 0.03
    assert taken["rms_mag"].each == ((0.01, "img0001"), (0.03, "img0002"))


@pytest.mark.parametrize(("text", "words"), [("{", "cannot be read"), ("[1]", "no figures by name"), ("", "empty")])
def test_a_json_file_that_is_cut_short_does_not_pass(text: str, words: str, tmp_path: Path):
    path = tmp_path / "measure.json"
    path.write_text(text)

    assert words in fault_of("json", path, Require(), None)

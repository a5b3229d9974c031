"""The report of qualityfits: what is written is read again, what is no report is refused in words."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest

from spicad.archive.quality import (
    COMMENTS,
    FIGURES,
    CcdReport,
    Counts,
    Reason,
    Report,
    ToolRun,
    Trail,
    read_report,
    write_report,
)
from spicad.words import SpicaError

REPORT = Report(
    exposure="900001p.fits",
    kind="exposure",
    instrument="SpicaSim",
    filter="r",
    object="SPICA-A",
    obs_id="900001",
    grade="C",
    reasons=(Reason("C", "seeing", "Seeing is 1.4 arcsec, more than 1.2.", COMMENTS[0], 1.4, 1.2),),
    figures={"seeing": 1.4, "ccds": 1.0, "ra_offset": None},
    ccds=(CcdReport("ccd00", 1, {"seeing": 1.4}),),
    counts=Counts((20.0, 20.5), (100.0, 200.0), (50.0, 60.0)),
    trails=(Trail("ccd00", 1.0, 2.0, 300.0, 400.0, 6.0),),
    tools=(ToolRun("source-extractor", "2.25.0", 3, 1.5),),
    program="qualityfits 1",
)


def test_a_report_that_is_written_is_read_again(tmp_path: Path):
    path = tmp_path / "900001p.quality.json"

    write_report(path, REPORT)

    assert read_report(path) == REPORT
    assert read_report(path).comments == ("poor seeing",)


def test_figures_that_are_no_numbers_are_written_as_unknown(tmp_path: Path):
    path = tmp_path / "x.quality.json"

    write_report(path, replace(REPORT, figures={"seeing": math.nan, "noise": math.inf}))

    assert read_report(path).figures == {"seeing": None, "noise": None}


@pytest.mark.parametrize(
    "spoil",
    [
        lambda told: told.pop("figures"),
        lambda told: told.update(grade="E"),
        lambda told: told.update(format=2),
        lambda told: told["figures"].update(seeing="small"),
        lambda told: told["figures"].update(seeing=True),
        lambda told: told["trails"][0].update(x1=None),
        lambda told: told.update(ccds={}),
        lambda told: told.update(notes=[["a"]]),
    ],
)
def test_what_is_no_report_is_refused(tmp_path: Path, spoil):
    path = tmp_path / "x.quality.json"
    write_report(path, REPORT)
    told = json.loads(path.read_text())
    spoil(told)
    path.write_text(json.dumps(told).replace('"ccds": {}', '"ccds": 7'))

    with pytest.raises(SpicaError, match="no report of qualityfits"):
        read_report(path)


def test_a_missing_report_is_named(tmp_path: Path):
    with pytest.raises(SpicaError, match=r"absent\.json: cannot be read"):
        read_report(tmp_path / "absent.json")


def test_figures_have_names_of_their_own():
    assert len({figure.name for figure in FIGURES}) == len(FIGURES)
    assert all(figure.of_whole or figure.of_ccd for figure in FIGURES)

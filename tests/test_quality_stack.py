"""QualityFITS on stacks: origins, depth and coverage, comparison with an earlier stack of the same field."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from quality_sky import OPTIONS, STEM, figure, judged, made

from spicad.archive.quality import PICTURES, TABLES
from spicad.reduction import ldac
from spicad.reduction.qualityfits.stack import read_origins
from spicad.words import BadInput

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An exposure of one CCD as if it were a stack: a border that nothing covers, one half noisier than the other."""
    folder = tmp_path_factory.mktemp("stack")
    options = replace(OPTIONS, ccds=1, single=True, size=900, stars=300, cosmics=False, bad_pixels=False)
    sky = made(folder / "sky", options)
    path = folder / "stack.fits"
    with fits.open(sky / f"{STEM}.fits") as hdus:
        pixels = hdus[0].data.astype(np.float32)
        rng = np.random.default_rng(5)
        pixels[:, 450:] += rng.normal(0, 60, pixels[:, 450:].shape)
        pixels[:60] = 0
        hdus[0].header["SOFTNAME"] = "SWarp"
        fits.PrimaryHDU(pixels, hdus[0].header).writeto(path)
    return path


@pytest.fixture(scope="module")
def before(stack: Path) -> Path:
    judged(stack, stack.parent / "before", MAG_ZEROPOINT=30)
    return stack.parent / "before"


def test_depth_and_coverage_are_told_over_the_field(stack: Path, before: Path):
    report = judged(stack, stack.parent / "again", MAG_ZEROPOINT=30)

    assert report.kind == "stack"
    assert figure(report, "coverage_fraction") == pytest.approx(1 - 60 / 900, abs=0.01)
    assert figure(report, "depth_spread") > 0.3
    assert figure(report, "cosmic_rays") == figure(report, "trails") == figure(report, "ccds_dead") == 0
    for kind in ("preview", "psf", "depth", "coverage"):
        assert (before / f"stack{PICTURES[kind][0]}").stat().st_size > 0
    assert not (before / f"stack{PICTURES['comparison'][0]}").exists()


def test_the_origins_are_kept_and_counted(stack: Path, tmp_path: Path):
    origins = tmp_path / "origins.csv"
    origins.write_text('exposure,used,why\n1p,yes,\n2p,Y,\n3p,no,"seeing of 2.1, more than 1.3"\n')

    report = judged(stack, tmp_path, ORIGINS_NAME=origins, WRITE_PLOTS="N")

    assert (figure(report, "exposures"), figure(report, "exposures_dropped")) == (2, 1)
    kept = (tmp_path / f"stack{TABLES['origins']}").read_text()
    assert kept == 'exposure,used,why\n1p,yes,\n2p,yes,\n3p,no,"seeing of 2.1, more than 1.3"\n'


def test_a_stack_is_held_beside_an_earlier_one(stack: Path, before: Path, tmp_path: Path):
    (catalogue,) = ldac.read(before / "stack.ldac")
    table = catalogue.table.copy()
    table["DELTAWIN_J2000"] -= 0.2 / 3600
    table["MAG_AUTO"] += 0.15
    earlier = tmp_path / "earlier.ldac"
    ldac.write(earlier, [replace(catalogue, table=table)])

    report = judged(stack, tmp_path, EARLIER_NAME=earlier, MAG_ZEROPOINT=30)

    assert figure(report, "comparison_offset") == pytest.approx(0.2, abs=0.01)
    assert figure(report, "comparison_scatter") < 0.01
    assert figure(report, "comparison_magnitude") == pytest.approx(-0.15, abs=0.005)
    assert figure(report, "comparison_depth") == pytest.approx(-0.15, abs=0.005)
    assert (tmp_path / f"stack{PICTURES['comparison'][0]}").stat().st_size > 0


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "must name the columns"),
        ("\x00\n", "must name the columns"),
        ("exposure,used\n1p,yes\n2p,perhaps\n", "line 3: used is 'perhaps', yes or no was expected"),
    ],
)
def test_origins_that_say_neither_yes_nor_no_are_named(tmp_path: Path, text: str, said: str):
    table = tmp_path / "origins.csv"
    table.write_text(text)

    with pytest.raises(BadInput, match=said):
        read_origins(table)


@pytest.mark.parametrize(
    ("keyword", "said"),
    [("ORIGINS_NAME", "must name the columns"), ("EARLIER_NAME", "no catalogue of an earlier")],
)
def test_what_is_no_table_is_refused_in_words(stack: Path, tmp_path: Path, keyword: str, said: str):
    wrong = tmp_path / "wrong.txt"
    wrong.write_text("a,b\n1,2\n")

    with pytest.raises(BadInput, match=said):
        judged(stack, tmp_path, **{keyword: wrong})

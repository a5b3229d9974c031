"""QualityFITS as an application in a job: an exposure in, its judgement among the products."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from astropy.io import fits
from conftest import SpicaWithTools

from spicad.archive.quality import PICTURES, TABLES, read_report
from spicad.reduction.sky import make_sky
from spicad.reduction.sky_options import SkyOptions

pytestmark = pytest.mark.slow


@pytest.fixture
def spica(tmp_path: Path) -> Iterator[SpicaWithTools]:
    spica = SpicaWithTools(tmp_path / "spica")
    spica.start()
    yield spica
    spica.end()


def test_a_job_judges_its_exposures(spica: SpicaWithTools):
    options = SkyOptions(exposures=1, ccds=2, size=600, filters=("r",), stars=150, seed=8, format="fits.fz")
    sky = make_sky(spica.archive / "sky", options)
    text = (
        f'name = "judge"\nexposures = ["{sky.folder}/9*p.fits.fz"]\nreference = "{sky.reference}"\n'
        f'weight = "{sky.bad_pixels}"\nrules = "quality"\n[end]\n'
    )

    process = spica.drop(text, "judge")

    assert spica.wait_for(process) == "COMPLETED", spica.report(process)
    for kind, suffix in TABLES.items():
        assert kind == "origins" or spica.product(process, f"900001p{suffix}").stat().st_size > 0
    for kind in ("preview", "weight", "psf", "background", "radius", "counts", "histograms", "astrometry"):
        assert spica.product(process, f"900001p{PICTURES[kind][0]}").stat().st_size > 0
    report = read_report(spica.product(process, "900001p.quality.json"))
    assert (report.grade, report.thresholds) == ("A", "made-sky")
    assert report.figures["reference_stars"] or 0 > 50
    assert "seeing" in spica.report(process).lower()
    assert "quality/generic.toml" in (spica.run_folder(process) / "recipe.txt").read_text()


def test_a_job_judges_its_exposures_and_the_stacks_of_them(spica: SpicaWithTools):
    options = SkyOptions(exposures=3, ccds=2, size=600, filters=("r",), stars=200, seed=8)
    sky = make_sky(spica.archive / "sky", options)
    broken = sky.folder / "950001p.fits"
    with fits.open(sky.exposures[0]) as hdus:
        for hdu in hdus[1:]:
            hdu.data[:] = 0
        hdus.writeto(broken)
    text = (
        f'name = "judged"\nexposures = ["{sky.folder}/9*p.fits"]\nreference = "{sky.reference}"\n'
        f'weight = "{sky.bad_pixels}"\nrules = "judged-stack"\n[end]\n'
    )

    process = spica.drop(text, "judged")

    assert spica.wait_for(process) == "COMPLETED", spica.report(process)
    report = read_report(spica.product(process, "judged.quality.json"))
    assert report.kind == "stack"
    assert report.figures["exposures"] == 3
    assert report.figures["exposures_dropped"] == 1
    rows = spica.product(process, "judged.quality-origins.csv").read_text().splitlines()
    assert sorted(rows)[:3] == ["900001p,yes,", "900002p,yes,", "900003p,yes,"]
    assert any(row.startswith("950001p,no,") and len(row) > 20 for row in rows)
    for kind in ("preview", "weight", "psf", "ellipticity", "depth", "coverage"):
        assert spica.product(process, f"judged{PICTURES[kind][0]}").stat().st_size > 0

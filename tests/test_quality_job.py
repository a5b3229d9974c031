"""QualityFITS as an application in a job: an exposure in, its judgement among the products."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
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
    kept = spica.run_folder(process) / "configuration"
    assert list(kept.glob("*-qualityfits/quality/generic.toml"))

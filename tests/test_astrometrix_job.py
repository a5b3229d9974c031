"""A job with Astrometrix in place of SCAMP, from exposures to the stack, held against the truth of a made sky.

The program by itself is tested in test_astrometrix.py.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from conftest import SpicaWithTools

from spicad.reduction import heads
from spicad.reduction.sky import make_sky
from spicad.reduction.sky_options import SkyOptions
from spicad.reduction.tangent import projected

pytestmark = pytest.mark.slow


@pytest.fixture
def spica(tmp_path: Path) -> Iterator[SpicaWithTools]:
    spica = SpicaWithTools(tmp_path / "spica")
    spica.start()
    yield spica
    spica.end()


def test_a_job_stacks_on_our_own_astrometry(spica: SpicaWithTools):
    sky = make_sky(spica.archive / "sky", SkyOptions(exposures=3, ccds=2, size=600, filters=("r",), stars=400, seed=8))
    text = (
        f'name = "own"\nexposures = ["{sky.folder}/9*p.fits"]\nreference = "{sky.reference}"\n'
        f'weight = "{sky.bad_pixels}"\nrules = "own-stack"\n[end]\n'
    )

    process = spica.drop(text, "own")

    assert spica.wait_for(process) == "COMPLETED", spica.report(process)
    detections, sources = fits.getdata(sky.truth / "detections.fits"), fits.getdata(sky.truth / "sources.fits")
    with (sky.truth / "exposures.csv").open() as file:
        numbers = [int(row["number"]) for row in csv.DictReader(file)]
    for number, path in zip(numbers, sky.exposures, strict=True):
        for ccd, head in enumerate(heads.read(spica.product(process, f"{path.stem}.head"))):
            mine = detections[(detections["exposure"] == number) & (detections["ccd"] == ccd)]
            wanted = sources[mine["id"]]
            centre = head.tangent.crval
            found = np.column_stack(projected(centre, *head.tangent.sky(mine["x"], mine["y"]))) * 3600
            miss = found - np.column_stack(projected(centre, wanted["ra"], wanted["dec"])) * 3600
            assert np.sqrt(np.mean(miss**2)) < 0.025
            assert head.header["ASTBAD"] is False
    told = json.loads(spica.product(process, "*astrometrix.json").read_text())
    assert told["converged"]
    assert "Least contrast of the first match".lower() in spica.report(process).lower()
    assert spica.product(process, "*astrometrix-distortion.svg").stat().st_size > 1000

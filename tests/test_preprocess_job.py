"""Raw frames land, a process makes master frames of them, the archive keeps these, and other processes use them.

The program by itself is tested in test_preprocess.py, the choice of calibrations in test_calibrations.py.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from conftest import SpicaWithTools, wait_until
from test_flow import database_of

from spicad.reduction.sky import make_sky
from spicad.reduction.sky_options import SkyOptions
from spicad.tables import Exposure, Ingredient

pytestmark = pytest.mark.slow

LANDING = """
[landing]
folders = ["land"]
steady_s = 0.3

[storage]
roots = ["archive/store"]
mode = "move"
free_mb = 1
"""


@pytest.fixture
def spica(tmp_path: Path) -> Iterator[SpicaWithTools]:
    folder = tmp_path / "spica"
    spica = SpicaWithTools(folder, conf=LANDING.replace("archive/", f"{folder}/archive/"))
    for name in ("land", "archive/store"):
        (folder / name).mkdir()
    spica.start()
    yield spica
    spica.end()


def registered(spica: SpicaWithTools) -> dict[str, str]:
    """{name: kind} of what the archive holds."""
    with database_of(spica):
        return dict(Exposure.select(Exposure.name, Exposure.kind).tuples())


def states(spica: SpicaWithTools, process: int, application: str) -> list[str]:
    steps = spica.outcome(process)["steps"]
    return [state for name, state in sorted(steps.items()) if name.partition("-")[2] == application]


def test_masters_are_made_and_registered_with_their_ingredients_and_used_by_later_processes(spica: SpicaWithTools):
    options = SkyOptions(exposures=3, ccds=2, size=420, filters=("r",), stars=200, seed=5, raw=True)
    sky = make_sky(spica.archive / "sky", options)
    for path in sky.raw:
        shutil.copy(path, spica.folder / "land" / path.name)
    wait_until(lambda: len(registered(spica)) == len(sky.raw), "all raw frames to be registered")

    select = '[select]\nkind = ["bias", "dark", "flat"]\n'
    making = spica.drop(f'name = "run"\nrules = "masters"\n{select}[end]\n', "run")

    assert spica.wait_for(making) == "COMPLETED", spica.report(making)
    assert "3 master frames were handed in to the archive" in spica.report(making)
    wait_until(lambda: len(registered(spica)) == len(sky.raw) + 3, "the masters to be registered")
    kinds = [kind for kind in registered(spica).values() if kind.startswith("master-")]
    assert sorted(kinds) == ["master-bias", "master-dark", "master-flat"]
    with database_of(spica):
        flat = Exposure.get(Exposure.kind == "master-flat")
        rows = Ingredient.select(Ingredient.name, Ingredient.sha256).where(Ingredient.exposure == flat.id).tuples()
        ingredients = dict(rows)
        frames = dict(Exposure.select(Exposure.obs_id, Exposure.sha256).where(Exposure.kind == "flat").tuples())
    assert {name.removesuffix("f"): digest for name, digest in ingredients.items()} == frames
    told = json.loads(spica.spica("find", "--made-of", "900013f.fits", "--json").stdout)
    assert [(each["kind"], len(each["ingredients"])) for each in told] == [("master-flat", 5)]

    text = f'rules = "raw-stack"\nreference = "{sky.reference}"\n[select]\nkind = "science"\n[end]\n'
    using = spica.drop(f'name = "deep"\n{text}', "deep")

    assert spica.wait_for(using) == "COMPLETED", spica.report(using)
    assert states(spica, using, "master-bias") == []
    assert states(spica, using, "preprocess") == ["done"] * 3
    one = spica.product(using, "900001o.preprocessed.fits")
    assert fits.getheader(one)["FLATSHA"] == flat.sha256
    for ccd in (1, 2):
        ours, true = fits.getdata(one, ccd), fits.getdata(sky.folder / "900001p.fits", ccd).astype(float)
        assert abs(np.median(ours - true)) < 1.0
    stack = fits.getdata(spica.product(using, "deep.fits"))
    assert np.isfinite(stack).all()
    assert "cosmic rays" in spica.report(using)

    again = spica.drop(f'name = "deep2"\n{text}', "deep2")
    remade = spica.drop(f'name = "run2"\nrules = "masters"\n{select}[end]\n', "run2")

    assert spica.wait_for(again) == "COMPLETED", spica.report(again)
    assert spica.wait_for(remade) == "COMPLETED", spica.report(remade)
    assert states(spica, again, "preprocess") == ["reused"] * 3
    assert states(spica, remade, "master-flat") == ["reused"]
    assert "3 master frames are in the archive already" in spica.report(remade)
    assert list((spica.folder / "land").iterdir()) == []


def test_a_job_without_calibrations_is_refused_with_what_was_looked_for(spica: SpicaWithTools):
    sky = make_sky(spica.archive / "sky", SkyOptions(exposures=1, ccds=1, size=100, filters=("r",), raw=True))

    said = spica.refused(
        f'name = "bare"\nexposures = ["{sky.folder}/raw/900001o.fits"]\nrules = "preprocess"\n[end]\n', "bare"
    )

    assert "no master-bias for it: looked for one of SpicaSim with 1 CCDs, run 03BS01" in said


def test_one_job_with_all_frames_makes_its_masters_and_uses_them(spica: SpicaWithTools):
    sky = make_sky(spica.archive / "sky", SkyOptions(exposures=1, ccds=1, size=200, filters=("r",), stars=60, raw=True))

    process = spica.drop(
        f'name = "all"\nexposures = ["{sky.folder}/raw/9*.fits"]\nrules = "preprocess"\n[end]\n', "all"
    )

    assert spica.wait_for(process) == "COMPLETED", spica.report(process)
    figures = json.loads(spica.product(process, "900001o.preprocess.json").read_text())
    assert figures["state"] == "preprocessed"
    assert fits.getheader(spica.product(process, "all.master-flat.fits"))["NCOMBINE"] == 5

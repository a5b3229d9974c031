"""From a file that lands to a selection by seeing and grade: snooppix, the daemon, qualityfits, with nobody's help."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import SpicaWithTools, wait_until
from site_world import Browser, Site, people_the_world

from spicad import config, tables
from spicad.reduction.sky import make_sky
from spicad.reduction.sky_options import SkyOptions
from spicad.reduction.sky_truth import planted
from spicaweb.app import make_app

pytestmark = pytest.mark.slow

CONF = """
[landing]
folders = ["landing"]
steady_s = 0.2
[newcomers]
rules = "quality"
[web]
address = "https://spica.example.org"
"""


@pytest.fixture
def spica(tmp_path: Path) -> Iterator[SpicaWithTools]:
    made = SpicaWithTools(tmp_path / "spica", conf=CONF)
    text = made.conf.read_text()
    made.conf.write_text(text.replace('archive = ["archive"]', 'archive = ["archive", "landing"]'))
    (made.folder / "landing").mkdir()
    made.start()
    yield made
    made.end()


def found(spica: SpicaWithTools, *words: str) -> list[dict[str, Any]]:
    return list(json.loads(spica.spica("find", *words, "--json", "--sort", "name").stdout))


def how_many(spica: SpicaWithTools, condition: str) -> int:
    command = spica.command("find", "--where", condition, "--count")
    return int(subprocess.run(command, capture_output=True, text=True, check=False).stdout or 0)


def browser_on(spica: SpicaWithTools) -> Browser:
    site = Site.__new__(Site)
    site.settings = config.load(spica.conf)
    site.app = make_app(site.settings)
    site.open()
    people_the_world()
    return site.logged_in("alice")


def test_what_lands_is_judged_and_chosen_by_seeing_and_grade(spica: SpicaWithTools, tmp_path: Path) -> None:
    options = SkyOptions(exposures=2, ccds=2, size=600, filters=("r",), stars=150, seed=8)
    sky = make_sky(tmp_path / "sky", options)
    truth = [exposure.seeing_arcsec for exposure in planted(options).exposures]
    for path in sky.exposures:
        shutil.copy(path, spica.folder / "landing" / path.name)

    query = "seeing > 0.1 and stars > 10 and limiting_magnitude > 15 and grade <= 'D'"

    wait_until(lambda: how_many(spica, query) == 2, "both exposures to be judged", 240.0)
    one, two = (path.name for path in sky.exposures)
    rows = found(spica, "--where", query)
    assert [row["name"] for row in rows] == [one, two]
    assert all(0.8 * true < row["seeing"] < 1.4 * true for row, true in zip(rows, truth, strict=True))
    assert all(row["grade"] <= "B" and row["graded_by"] == "" for row in rows)

    spica.spica("grade", "give", "D", two, "--comment", "defocus")

    chosen = "seeing < 3 and grade <= 'B'"
    assert [row["name"] for row in found(spica, "--where", chosen)] == [one]
    job = spica.folder / "chosen.spica"
    job.write_text(f'name = "chosen"\nrules = "quick-look"\n[select]\nwhere = "{chosen}"\n[end]\n')
    plan = json.loads(spica.spica("plan", job, "--json").stdout)
    assert [Path(name).name.partition(".")[0] for name in plan["exposures"]] == [one.partition(".")[0]]

    alice = browser_on(spica)
    number = json.loads(spica.spica("grade", "show", one, "--json").stdout)["number"]
    page = alice.get(f"/exposure/{number}")
    assert page.status == 200
    assert "proposed" in page.words
    assert f"/exposure/{number}/file/fits" in page.text
    assert alice.get(f"/exposure/{number}/file/votable").headers["Content-Type"] == "application/octet-stream"
    told = json.loads(alice.get(f"/exposure/{number}/figures.json").text)
    assert told["figures"]["seeing"] == pytest.approx(rows[0]["seeing"])
    assert len(told["ccds"]) == 2
    tables.database.close()

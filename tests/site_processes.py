"""Processes, a draft and configurations for the small world of site_world.py: what the pages about them are tried on.

Alice's process is completed, with a capsule written by hand; another waits. Real runs are in test_site_walk.py.
"""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import Any

import made_capsules
import made_judgements
from site_world import Site, account

from spicad import rows
from spicad.tables import Configuration, Event, Exposure, Grading, Process, Quality, Step, database
from spicaweb import drafts
from spicaweb.drafts import Recipe

ROOT = Path(__file__).parent.parent
ALICE = "alice@web"
SWARP = "COMBINE_TYPE AVERAGE\n"


def furnish(site: Site) -> None:
    """The shipped applications, rules and configurations, once; and a spool that takes drops."""
    folder = site.settings.paths.applications.parent
    for name in ("applications", "rules", "configurations"):
        shutil.copytree(ROOT / "etc" / name, folder / name, dirs_exist_ok=True)
    for name in ("incoming", "rejected"):
        (site.settings.paths.spool / name).mkdir(parents=True, exist_ok=True)


def with_processes(site: Site) -> dict[str, Any]:
    """The rows and the capsule, made anew; what WALK names of them."""
    site.open()
    with database.atomic():
        for table in (Process, Event, Step, Exposure, Quality, Grading):
            table.delete().execute()
    shutil.rmtree(site.settings.paths.results, ignore_errors=True)
    site.settings.paths.results.mkdir()
    done = process("m101", phase="COMPLETED")
    capsule = made_capsules.capsule(site.settings.paths.results, done, ALICE)
    stack = made_judgements.judge_stack(capsule, "m101")
    rows.update(Process, {"id": done}, capsule=str(capsule), started=2000.0, ended=2060.0, steps_done=1, steps_total=1)
    step = {"process": done, "run": 1, "number": 1, "application": "swarp", "label": "m101", "state": "done"}
    rows.insert(Step, owner=ALICE, started=2000.0, ended=2060.0, metrics='{"width_pixels": 928.0}', **step)
    judged = made_judgements.add_exposure("900001p.fits")
    of_pipeline = site.settings.paths.results / "spica" / "000007-quality" / "run-1"
    made_judgements.judge(judged, made_judgements.report("900001p.fits"), of_pipeline)
    recipe = Recipe(name="draft", exposures=("/nowhere/*.fits",), rules="stack")
    return {
        "process": done,
        "exposure": judged,
        "stack": stack,
        "queued": process("m31", phase="QUEUED"),
        "draft": drafts.begun(account("alice").id, recipe, time.time()),
        "own": configuration("deep", ALICE, ""),
        "groups": configuration("wide", "", "lensing"),
        "systems": configuration("all", "", ""),
    }


def process(name: str, owner: str = ALICE, group: str = "lensing", **values: Any) -> int:
    row = {"token": f"{name}-{owner}", "rank": 0, "submitted": 1000.0, **values}
    number = rows.insert(Process, name=name, owner=owner, group=group, **row)
    rows.insert(Event, process=number, time=1000.0, who=owner, phase=str(row["phase"]), why="taken from form.spica")
    return number


def configuration(name: str, owner: str, group: str, text: str = SWARP, **values: Any) -> int:
    row = {"kind": "configuration", "application": "swarp", "number": 1, "made": 1000.0, "who": "alice", **values}
    made: Configuration = Configuration.create(name=name, owner=owner, group=group, text=text, **row)
    return int(made.id)

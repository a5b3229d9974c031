"""Hands what a completed run has made for the archive, its master frames, to snooppix: into the first landing folder.

Only administrators' and the pipeline's runs: what is in the archive calibrates everybody's exposures. It may be done
twice; what the archive holds already is not handed in again.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from spicad import fits, picking
from spicad.applications.descriptor import MASTER
from spicad.archive.entries import same_bytes
from spicad.config import Settings
from spicad.durable import sync_folder
from spicad.run import GOOD_STATES, Made, Run
from spicad.words import Rank, SpicaError


def hand_in(settings: Settings, run: Run, folder: Path) -> list[str]:
    """What is to be said of it in the report. `folder` is the run's. Raises OSError."""
    made = list(_for_the_archive(run))
    if not made:
        return []
    if run.owner.rank < Rank.ADMINISTRATOR and not run.owner.runs_spica:
        return ["master frames stay among the products: those of administrators and of the pipeline go to the archive"]
    if not settings.landing.folders:
        return ["master frames stay among the products: there is no landing folder (landing.folders in spica.conf)"]
    landing = Path(settings.landing.folders[0])
    try:
        with picking.open_archive(settings):
            new = [each for each in made if same_bytes(fits.file_digest(folder / each.path)) is None]
    except SpicaError as error:
        return [f"master frames are not in the archive: {error}"]
    for each in new:
        _copy(folder / each.path, landing / f"{run.process:06d}-run{run.number}-{Path(each.path).name}")
    sync_folder(landing)
    known = len(made) - len(new)
    said = [f"{len(new)} master frames were handed in to the archive"] if new else []
    return said + ([f"{known} master frames are in the archive already"] if known else [])


def _for_the_archive(run: Run) -> Iterator[Made]:
    for step in run.plan.steps:
        if run.state[step.number] in GOOD_STATES:
            outputs = run.application(step).outputs
            yield from (
                each for each in run.outcome[step.number].made if each.keep and outputs[each.output].registers == MASTER
            )


def _copy(source: Path, target: Path) -> None:
    """Under a hidden name until it is whole; snooppix passes that by."""
    if target.exists():
        return
    part = target.with_name(f".{target.name}.part")
    with source.open("rb") as coming, part.open("wb") as out:
        shutil.copyfileobj(coming, out, 1 << 20)
        out.flush()
        os.fsync(out.fileno())
    os.replace(part, target)

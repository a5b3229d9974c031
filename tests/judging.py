"""A stand-in that judges exposures, and exposures that are registered: for tests of what the daemon does with both.

The real qualityfits runs in test_quality_registered.py.
"""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import asdict
from pathlib import Path

from conftest import RunningSpica
from made_judgements import POOR, add_exposure, report

from spicad import tables
from spicad.archive.quality import Report
from spicad.tables import Exposure

# Writes the report, and fails where the exposure is not as it should be.
JUDGE = """\
title = "judge"
summary = "Judges as it was told"
command = ["sh"]
version = ""
arguments = ["-c", "test -s {{exposure}} && echo {packed} | base64 -d > {{stem}}.quality.json"]
memory_mb = 256

[input.exposure]
kind = "exposure"
file = "{{stem}}.fits"

[output.report]
file = "{{stem}}.quality.json"
kind = "json"
product = "{{exposure}}.quality.json"
registers = "quality"
"""
RULES = 'title = "judge"\n\n[[task]]\napplication = "judge"\neach = "exposure"\n'


def judge_with(spica: RunningSpica, told: Report | None = None) -> None:
    """The application and the rules `judge`, which say this of every exposure."""
    told = told or report("any.fits", "C", (POOR,), seeing=1.31, ccds=1)
    packed = base64.b64encode(json.dumps(asdict(told)).encode()).decode()
    spica.application("judge", JUDGE.format(packed=packed))
    (spica.folder / "rules" / "judge.toml").write_text(RULES)


def register(paths: list[Path]) -> list[int]:
    """In the archive as they lie there; the tables are open."""
    found = []
    for path in paths:
        status = path.stat()
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        values = {"sha256": digest, "bytes": status.st_size, "mtime_ns": status.st_mtime_ns}
        found.append(add_exposure(path.name, path, **values))
    return found


def open_tables(spica: RunningSpica) -> None:
    """In a process that has none; made when they are not there."""
    tables.connect(f"sqlite:///{spica.spool / 'spica.db'}")
    tables.require_current(make_if_empty=True)


def grades() -> dict[str, tuple[str, str, float | None]]:
    """Of each exposure: grade, whose it is, seeing."""
    rows = Exposure.select(Exposure.name, Exposure.grade, Exposure.graded_by, Exposure.seeing)
    return {name: (grade, by, seeing) for name, grade, by, seeing in rows.tuples()}

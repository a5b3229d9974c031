"""What quality reports say of exposures: into the tables when a step that may say so has ended, and out of them again.

The tables must be open. What a report holds is quality.py's; when rows are written is the daemon's affair. Of two
steps the one that ended later has the last word, so that all may be written again after a crash, in any order.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from spicad import rows
from spicad.archive import grades
from spicad.archive.quality import CcdReport, Reason
from spicad.tables import Exposure, Quality

COLUMNS = ("seeing", "elongation", "background", "limiting_magnitude", "stars")  # figures that are columns of Exposure
AT_ONCE = 500


@dataclass(frozen=True)
class File:
    """The exposure as the step read it."""

    path: str
    bytes: int
    mtime_ns: int


@dataclass(frozen=True)
class Source:
    """The step that judged, and what it left, by paths in the capsule."""

    application: str
    process: int
    run: int
    step: int
    ended: float
    capsule: str
    products: tuple[str, ...] = ()


@dataclass(frozen=True)
class Judgement:
    """What stays of a report when its files are gone."""

    grade: str
    reasons: tuple[Reason, ...]
    figures: Mapping[str, float | None]
    ccds: tuple[CcdReport, ...]
    problem: str
    source: Source


def register(file: File, record: Mapping[str, Any], source: Source) -> bool:
    """In a transaction. False when the archive does not hold this very file, or knows something later of it."""
    number = _number_of(file)
    if number is None:
        return False
    before = rows.find(Quality, "ended", exposure=number)
    if before is not None and before > source.ended:
        return False
    rows.delete(Quality, exposure=number)
    rows.insert(
        Quality,
        exposure=number,
        grade=record["grade"],
        reasons=json.dumps(record["reasons"]),
        figures=json.dumps(record["figures"], separators=(",", ":")),
        ccds=json.dumps(record["ccds"], separators=(",", ":")),
        problem=record["problem"],
        products=json.dumps(source.products),
        **{name: getattr(source, name) for name in ("application", "process", "run", "step", "ended", "capsule")},
    )
    figures = record["figures"]
    rows.update(
        Exposure,
        {"id": number},
        # What a header says of the seeing stays where nothing was measured; of the rest it says nothing.
        **{name: figures.get(name) for name in COLUMNS if name != "seeing" or figures.get(name) is not None},
    )
    grades.settle(number)
    return True


def _number_of(file: File) -> int | None:
    """Whatever node the archive calls it by: where it can be read under this path it is that file."""
    query: Any = Exposure.select(Exposure.id, Exposure.path, Exposure.bytes, Exposure.mtime_ns)
    for number, *known in query.where(Exposure.name == os.path.basename(file.path)[:255]).tuples():
        if known == [file.path, file.bytes, file.mtime_ns]:
            return int(number)
    return None


def judgement_of(exposure: int) -> Judgement | None:
    return dict(judgements_of([exposure])).get(exposure)


def judgements_of(exposures: Sequence[int]) -> Iterator[tuple[int, Judgement]]:
    """Of those that were judged."""
    for start in range(0, len(exposures), AT_ONCE):
        for row in Quality.select().where(Quality.exposure.in_(list(exposures[start : start + AT_ONCE]))):
            yield int(row.exposure), _judgement(row)


def _judgement(row: Any) -> Judgement:
    ccds = json.loads(row.ccds)
    figures = [dict(zip(ccds["figures"], each, strict=True)) for each in zip(*ccds["figures"].values(), strict=True)]
    figures = figures or [{} for _ in ccds["names"]]
    return Judgement(
        grade=row.grade,
        reasons=tuple(Reason(**each) for each in json.loads(row.reasons)),
        figures=json.loads(row.figures),
        ccds=tuple(
            CcdReport(*each) for each in zip(ccds["names"], ccds["hdus"], figures, ccds["problems"], strict=True)
        ),
        problem=row.problem,
        source=Source(
            row.application, row.process, row.run, row.step, row.ended, row.capsule, tuple(json.loads(row.products))
        ),
    )

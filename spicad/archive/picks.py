"""Exposures picked from the archive for a process: paths and digests, frozen when it is accepted.

What is picked is decided in picking.py; here is the value, and its text in the durable copy of a job.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

from spicad.schema import Key

SELECT_KEYS = (
    Key("around", "text", "", "A position, or the name of an object of the archive"),
    Key(
        "radius_deg",
        "number",
        0,
        "What touches the circle round it; 0: what covers it or is of it",
        minimum=0,
        maximum=180,
    ),
    Key("box", "text", "", "West, east, south and north in degrees, between spaces"),
    Key("overlaps", "text", "", "The name of an exposure: what overlaps it"),
    Key("instrument", "text or list of texts", [], "Only these; * stands for any characters"),
    Key("filter", "text or list of texts", [], "Only these; * stands for any characters"),
    Key("runid", "text or list of texts", [], "Only these; * stands for any characters"),
    Key("object", "text or list of texts", [], "Only these; * stands for any characters"),
    Key("kind", "text or list of texts", ["science"], "Only these kinds of exposures"),
    Key("tag", "text or list of texts", [], "Only what has all of these tags"),
    Key("selection", "text or list of texts", [], "Only what is in one of these saved selections"),
    Key("after", "date and time", None, "Only what began then or later (UTC)"),
    Key("before", "date and time", None, "Only what began then or earlier; a date: until its end"),
    Key("grade", "text", "", "The worst grade taken; what has none is not", choices=("", "A", "B", "C", "D")),
    Key("where", "text", "", "A condition on columns of the archive, as in spica-rules(5)"),
)


@dataclass(frozen=True)
class Picked:
    path: str
    sha256: str
    bytes: int
    mtime_ns: int
    seeing: float | None = None
    grade: str = ""
    elongation: float | None = None
    background: float | None = None
    limiting_magnitude: float | None = None
    stars: float | None = None
    graded_by: str = ""

    @property
    def has_changed(self) -> bool:
        """Whether the file is not the one that was registered. Raises OSError when there is none."""
        status = Path(self.path).stat()
        return (status.st_size, status.st_mtime_ns) != (self.bytes, self.mtime_ns)


@dataclass(frozen=True)
class Picks:
    exposures: tuple[Picked, ...] = ()
    calibration: tuple[Picked, ...] = ()  # those that tasks are widened with

    def as_text(self) -> str:
        if not self.exposures and not self.calibration:
            return ""
        return json.dumps({"exposures": _listed(self.exposures), "calibration": _listed(self.calibration)})


def _listed(picked: Iterable[Picked]) -> list[tuple[Any, ...]]:
    return [astuple(each) for each in picked]


def picks_from(text: str) -> Picks:
    """Raises ValueError or TypeError for what as_text has not written."""
    table = json.loads(text)
    return Picks(
        tuple(Picked(*values) for values in table["exposures"]),
        tuple(Picked(*values) for values in table["calibration"]),
    )

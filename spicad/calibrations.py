"""Decides which calibration fits which exposure: pure functions of values. Where they come from is plan.py's affair.

A candidate is a master frame of the archive or of the job, or one that an earlier step of the same plan makes.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, timedelta

from spicad.archive.headers import COMPANION, Exposure
from spicad.archive.instruments import MASTERS, RAW_CALIBRATIONS
from spicad.rules import GATHER_FIELDS, Calibrate

BY_FILTER = ("flat", "master-flat", "master-skyflat", "master-fringe")
ARTICLES = {"master-fringe": "no pattern of fringes", "mask": "no mask of bad pixels"}


@dataclass(frozen=True)
class Candidate:
    """`like` is the master's own record, or a frame's that it is made from; `step` the one that makes it, or 0."""

    kind: str
    like: Exposure
    step: int = 0


def is_calibration(exposure: Exposure) -> bool:
    """Whether tasks that name no kind pass it by."""
    return exposure.kind in (*RAW_CALIBRATIONS, *MASTERS, "mask")


def is_given(exposure: Exposure) -> bool:
    """Whether it can be applied as it is: a master, or a mask of the camera (not of one exposure)."""
    return exposure.kind in MASTERS or (exposure.kind == "mask" and not COMPANION.search(exposure.stem))


def best(kind: str, exposure: Exposure, how: Calibrate, candidates: Iterable[Candidate]) -> Candidate | None:
    """The best that fits: made in this very plan before any other, then the nearest in time, then by name."""
    fitting = [each for each in candidates if each.kind == kind and fits(each.like, exposure, how)]
    return min(fitting, key=lambda each: (not each.step, days_apart(each.like, exposure), each.like.stem), default=None)


def fits(like: Exposure, exposure: Exposure, how: Calibrate) -> bool:
    same = {"instrument", *(GATHER_FIELDS[word] for word in how.same)}
    same -= {"object", "filter"}
    if like.kind in BY_FILTER:
        same.add("filter")
    if any(getattr(like, name) != getattr(exposure, name) for name in same):
        return False
    if len(like.ccds) != len(exposure.ccds):
        return False
    return not how.within_days or days_apart(like, exposure) <= how.within_days


def days_apart(one: Exposure, other: Exposure) -> float:
    return math.inf if one.mjd is None or other.mjd is None else abs(one.mjd - other.mjd)


def looked_for(kind: str, exposure: Exposure, how: Calibrate, candidates: Sequence[Candidate]) -> str:
    """What is missing, in words, with what was looked for, and how many there are that do not fit."""
    wanted = [f"of {exposure.instrument or 'its instrument'} with {len(exposure.ccds)} CCDs"]
    if kind in BY_FILTER:
        wanted.append(f"filter {exposure.filter or '(none)'}")
    for word in how.same:
        if word not in ("instrument", "filter", "object"):
            wanted.append(f"{word} {getattr(exposure, GATHER_FIELDS[word]) or '(none)'}")
    if how.within_days:
        wanted.append(f"within {how.within_days:g} days of {_day(exposure.mjd)}")
    others = sum(each.kind == kind for each in candidates)
    found = f"; {others} that were found do not fit" if others else ""
    return f"{ARTICLES.get(kind, f'no {kind}')} for it: looked for one {', '.join(wanted)}{found}"


def _day(mjd: float | None) -> str:
    return "its unknown date" if mjd is None else (date(1858, 11, 17) + timedelta(days=int(mjd))).isoformat()

"""Tells photometric exposures from those taken through clouds, and finds the extinction, from relative zero points.

Clouds only dim: photometric exposures lie on the upper envelope of zero points against airmass. Plain numbers come in.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Truths = NDArray[np.bool_]

MOST_EXTINCTION = 1.5  # mag an airmass; u at sea level has 0.6
FEWEST_ON_LINE = 3
LEAST_RANGE = 0.15  # of airmass, below which extinction and clouds are not told apart
MOST_LINES = 20_000


@dataclass(frozen=True)
class Clouds:
    """`photometric` and `cloud_mag` (how much dimmer than a photometric exposure), both over exposures; the zero point
    `level` at airmass 1 (mag, in the scale of the zero points given); `extinction` (mag an airmass, negative: to add)
    with its error, None when it was not found here."""

    photometric: Truths
    cloud_mag: Array
    level: float
    extinction: float | None = None
    extinction_error: float | None = None


def recognised(zero: Array, error: Array, expected: Array, flagged: Truths, tolerance: float) -> Clouds:
    """By zero points, all arrays over exposures that hang together.

    `expected` is what each header promises (only differences count). Where exposures are `flagged` as photometric, the
    brightest of them set the level, else the brightest of all. An exposure is photometric when it is not dimmer than
    the level by more than `tolerance` or three times its error.
    """
    excess = zero - expected
    trusted = np.flatnonzero(flagged) if flagged.any() else np.arange(len(zero))
    top = trusted[excess[trusted] >= excess[trusted].max() - tolerance]
    level = float(np.median(excess[top]))
    limit = np.maximum(tolerance, 3 * np.where(np.isfinite(error), error, 0.0))
    return Clouds(excess >= level - limit, np.maximum(level - excess, 0.0), level)


def extinguished(zero: Array, error: Array, nominal: Array, airmass: Array, tolerance: float) -> Clouds | None:
    """The same with the extinction found as the slope of the upper envelope of zero points against airmass.

    `nominal` is what headers promise at airmass 1. None when fewer than 3 exposures lie on a line, or airmass hardly
    changes among them: then clouds and extinction cannot be told apart.
    """
    excess, beyond = zero - nominal, airmass - 1.0
    limit = np.maximum(tolerance, 3 * np.where(np.isfinite(error), error, 0.0))
    best: tuple[int, float, Truths] | None = None
    for level, slope in _lines(excess, beyond):
        off = excess - level - slope * beyond
        if (off > limit).any():
            continue
        on = off >= -limit
        scatter = float(np.abs(off[on]).sum())
        if best is None or (int(on.sum()), -scatter) > (best[0], -best[1]):
            best = (int(on.sum()), scatter, on)
    if best is None or best[0] < FEWEST_ON_LINE or np.ptp(beyond[best[2]]) < LEAST_RANGE:
        return None
    on = best[2]
    design = np.column_stack([np.ones(int(on.sum())), beyond[on]])
    solution, *_ = np.linalg.lstsq(design, excess[on], rcond=None)
    off = excess[on] - design @ solution
    spread = max(float(np.sqrt((off**2).sum() / max(len(off) - 2, 1))), float(np.median(error[on])))
    slope_error = float(spread * np.sqrt(np.linalg.inv(design.T @ design)[1, 1]))
    dim = solution[0] + solution[1] * beyond - excess
    return Clouds(dim <= limit, np.maximum(dim, 0.0), float(solution[0]), float(solution[1]), slope_error)


def _lines(excess: Array, beyond: Array) -> list[tuple[float, float]]:
    """(level at airmass 1, slope) of the lines through two exposures each, slopes as air can have them."""
    brightest = np.argsort(-excess)[: int(np.sqrt(2 * MOST_LINES))]
    lines = []
    for i, j in itertools.combinations(brightest, 2):
        if abs(beyond[i] - beyond[j]) >= LEAST_RANGE / 3:
            slope = float((excess[i] - excess[j]) / (beyond[i] - beyond[j]))
            if -MOST_EXTINCTION <= slope <= 0.0:
                lines.append((float(excess[i] - slope * beyond[i]), slope))
    return lines

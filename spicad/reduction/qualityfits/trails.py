"""Finds satellite trails: straight lines of light across a CCD, by a Hough transform of its binned pixels.

Lines along rows or columns are the detector's (bad columns, charge that bleeds), not satellites'.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]

BIN = 8  # pixels
SIGMAS = 3.0  # of a bin that counts
ANGLES = 400  # over half a turn
LEAST_SHARE = 0.55  # of the line across the CCD that must be lit
LEAST_LENGTH = 0.3  # of the CCD's shorter side
AXIS_DEG = 1.5  # as close to rows or columns it is the detector's
MOST = 4  # on a CCD
MOST_HALF_WIDTH = 40  # pixels
FAINT = 0.4  # sigmas of the mean across, where a trail ends
PARTS = 8  # of a line, most of which must be lit


@dataclass(frozen=True)
class Line:
    """x cos + y sin = distance, in pixels counted from 0; `half_width` is to be masked on both sides."""

    cos: float
    sin: float
    distance: float
    half_width: float

    def distances(self, x: NDArray[Any], y: NDArray[Any]) -> NDArray[Any]:
        return np.asarray(np.abs(x * self.cos + y * self.sin - self.distance))

    def ends(self, width: int, height: int) -> tuple[float, float, float, float]:
        """Where it leaves the CCD, x1, y1, x2, y2."""
        points = []
        if abs(self.sin) > 1e-9:
            points += [(x, (self.distance - x * self.cos) / self.sin) for x in (0.0, width - 1.0)]
        if abs(self.cos) > 1e-9:
            points += [((self.distance - y * self.sin) / self.cos, y) for y in (0.0, height - 1.0)]
        inside = sorted((x, y) for x, y in points if -1 <= x <= width and -1 <= y <= height)
        return (*inside[0], *inside[-1]) if inside else (0.0, 0.0, 0.0, 0.0)


def trails(contrast: Array) -> list[Line]:
    """The trails of a CCD. `contrast` is the image in units of its noise, without background; 0 where unusable. What
    is bright in it is cut off.
    """
    height, width = (side // BIN * BIN for side in contrast.shape)
    if min(height, width) < 8 * BIN:
        return []
    np.clip(contrast, -5, 5, out=contrast)
    rows_ = np.add.reduce(contrast[:height, :width].reshape(height // BIN, BIN, width), axis=1)
    lit = rows_.reshape(height // BIN, width // BIN, BIN).sum(axis=2) / BIN > SIGMAS
    found: list[Line] = []
    while len(found) < MOST:
        line = _best(lit)
        if line is None:
            break
        exact = _refined(line, contrast)
        if exact is not None:
            found.append(exact)
        rows, columns = np.nonzero(lit)
        cleared = line.distances(columns, rows) < (
            MOST_HALF_WIDTH / BIN if exact is None else exact.half_width / BIN + 2
        )
        lit[rows[cleared], columns[cleared]] = False
    return found


def _best(lit: NDArray[np.bool_]) -> Line | None:
    """The line with the largest share of lit bins, in units of bins."""
    rows, columns = np.nonzero(lit)
    if len(rows) < 16:
        return None
    height, width = lit.shape
    reach = int(math.hypot(height, width)) + 2
    best: tuple[float, float, int] | None = None
    density = len(rows) / lit.size
    shortest = LEAST_LENGTH * min(height, width)
    for angle in np.pi * np.arange(ANGLES) / ANGLES:
        from_axis = min(abs(math.degrees(angle) - axis) for axis in (0, 90, 180))
        if from_axis < AXIS_DEG:
            continue
        cos, sin = math.cos(angle), math.sin(angle)
        counts = np.bincount(np.rint(columns * cos + rows * sin).astype(np.intp) + reach, minlength=2 * reach)
        if counts.max() <= LEAST_SHARE * shortest:
            continue
        # A line through bins lights 1 / max(|cos|, |sin|) of them for each unit of its length.
        for peak in np.argsort(counts)[-2:]:
            length = _length(cos, sin, peak - reach, width, height)
            if length < shortest:
                continue
            share = counts[peak] / length
            needed = max(LEAST_SHARE, density + 8 * math.sqrt(3 * density / length))
            if share > needed and (best is None or share * math.sqrt(length) > best[0]):
                best = share * math.sqrt(length), angle, int(peak) - reach
    if best is None:
        return None
    line = Line(math.cos(best[1]), math.sin(best[1]), best[2], 1.0)
    return line if _is_lit_throughout(line, rows, columns) else None


def _length(cos: float, sin: float, distance: float, width: int, height: int) -> float:
    x1, y1, x2, y2 = Line(cos, sin, distance, 0).ends(width, height)
    return math.hypot(x2 - x1, y2 - y1) or 0.0


def _is_lit_throughout(line: Line, rows: NDArray[np.intp], columns: NDArray[np.intp]) -> bool:
    near = line.distances(columns, rows) < 1
    along = -columns[near] * line.sin + rows[near] * line.cos
    counts, _ = np.histogram(along, bins=PARTS)
    return bool(np.count_nonzero(counts > 0.3 * counts.mean()) >= PARTS - 1)


def _refined(line: Line, contrast: Array) -> Line | None:
    """In pixels, with its width, from the mean profile across it; None when there is no light along its middle."""
    height, width = contrast.shape
    for half in (3 * BIN, BIN):
        exact = Line(line.cos, line.sin, line.distance * BIN + (BIN - 1) / 2 * (line.cos + line.sin), 0)
        x, y = _samples(exact, width, height, half)
        values = contrast[y, x]
        found = _slope(exact, x, y, values)
        if found is None:
            return None
        slopes = found
        line = Line(slopes.cos, slopes.sin, (slopes.distance - (BIN - 1) / 2 * (slopes.cos + slopes.sin)) / BIN, 0)
    x, y = _samples(slopes, width, height, MOST_HALF_WIDTH)
    distance = np.abs(x * slopes.cos + y * slopes.sin - slopes.distance).astype(int)
    values = contrast[y, x]
    profile = np.bincount(distance, values, MOST_HALF_WIDTH + 1) / np.maximum(
        np.bincount(distance, None, MOST_HALF_WIDTH + 1), 1
    )
    profile -= np.median(profile[MOST_HALF_WIDTH // 2 :])
    if profile[0] < 2 * FAINT:
        return None
    faint = np.flatnonzero(profile < FAINT)
    return Line(slopes.cos, slopes.sin, slopes.distance, float(faint[0] if len(faint) else MOST_HALF_WIDTH) + 2.0)


def _samples(line: Line, width: int, height: int, half: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Pixels within `half` of the line."""
    if abs(line.cos) > abs(line.sin):  # steep: a stretch of each row
        rows = np.arange(height)
        middle = (line.distance - rows * line.sin) / line.cos
        reach = int(half / abs(line.cos)) + 1
        x = np.rint(middle).astype(np.intp)[:, None] + np.arange(-reach, reach + 1)
        y = np.broadcast_to(rows[:, None], x.shape)
    else:
        columns = np.arange(width)
        middle = (line.distance - columns * line.cos) / line.sin
        reach = int(half / abs(line.sin)) + 1
        y = np.rint(middle).astype(np.intp)[:, None] + np.arange(-reach, reach + 1)
        x = np.broadcast_to(columns[:, None], y.shape)
    near = (np.abs(x * line.cos + y * line.sin - line.distance) <= half) & (x >= 0) & (x < width)
    near &= (y >= 0) & (y < height)
    return x[near], y[near]


def _slope(line: Line, x: NDArray[np.intp], y: NDArray[np.intp], values: Array) -> Line | None:
    """The line through the light near it."""
    across = x * line.cos + y * line.sin - line.distance
    along = -x * line.sin + y * line.cos
    weight = np.maximum(values - 1.0, 0)
    if weight.sum() < 10:
        return None
    slope, offset = np.polyfit(along, across, 1, w=np.sqrt(weight))
    turn = math.atan(slope)
    angle = math.atan2(line.sin, line.cos) - turn
    cos, sin = math.cos(angle), math.sin(angle)
    at_x = float((line.distance + offset) * line.cos)
    at_y = float((line.distance + offset) * line.sin)
    return Line(cos, sin, at_x * cos + at_y * sin, 0)

"""The first match of a field with reference stars: shift, angle, scale and side, and how sure that is.

Pairs of stars vote for a shift under each angle and scale within the limits (a cross-correlation of the two fields,
which Kaiser et al. 1999, astro-ph/9907229, and Bertin 2006, ASP 351, 112 do on images). When that fails, angles and
distances of pairs among each field's own stars, compared by their histograms, find any angle and scale, so that the
failure can be named. Planes are complex numbers, x + iy in arcsec.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.fft import irfft2, rfft2
from scipy.spatial import cKDTree

Plane = NDArray[np.complex128]
Array = NDArray[np.float64]
Indices = NDArray[np.intp]

BRIGHT = (150, 500)  # detections that vote, more when fewer do not suffice
MOST_PAIRS = 60_000
REFINEMENTS = 5
WIDE_STARS = 90
WIDE_ANGLES, WIDE_SCALES = 360, 256  # cells of the histograms of pairs
WIDE_RANGE = math.log(4.0)  # of the scale, either way
WIDE_PEAKS = 12
WIDE_CELLS = 150  # from the middle to the side of a field

# What a field can have suffered, about the point where its plane touches the sky.
SIDES: dict[str, Callable[[Plane], Plane]] = {
    "as it is": lambda z: z,
    "mirrored in x": lambda z: -np.conj(z),
    "mirrored in y": lambda z: np.conj(z),
    "turned by 180 degrees": lambda z: -z,
    "turned by 90 degrees": lambda z: 1j * z,
    "turned by 270 degrees": lambda z: -1j * z,
    "mirrored in x and turned by 90 degrees": lambda z: -1j * np.conj(z),
    "mirrored in y and turned by 90 degrees": lambda z: 1j * np.conj(z),
}


@dataclass(frozen=True)
class Limits:
    """How far off a field may be, and `tolerance` (arcsec): how far true pairs may be apart after a similarity."""

    shift_arcsec: float
    angle_deg: float
    scale: float  # a factor
    tolerance: float
    sides: tuple[str, ...] = ("as it is",)


@dataclass(frozen=True)
class Match:
    """Reference plane = shift + turn * side(rough plane). `sure`: log10 of the odds against chance.

    `contrast`: true pairs over the most that chance would bring in so many trials; about 1 for a chance match.
    """

    side: str
    turn: complex
    shift: complex
    detections: Indices
    references: Indices
    sure: float
    contrast: float
    rms: float  # arcsec, one axis

    def apply(self, z: Plane) -> Plane:
        return self.shift + self.turn * SIDES[self.side](z)

    @property
    def angle_deg(self) -> float:
        return math.degrees(math.atan2(self.turn.imag, self.turn.real))

    @property
    def scale(self) -> float:
        return abs(self.turn)


def first_match(
    field: Plane, brightness: Array, stars: Plane, star_brightness: Array, limits: Limits, sure: float, least: int
) -> Match | None:
    """The best match within the limits; None when no one is surer than `sure` with `least` pairs.

    Brightness: brighter is larger; NaN where unknown.
    """
    order, star_order = _brightest_first(brightness), _brightest_first(star_brightness)
    best: Match | None = None
    for rung, bright in enumerate(BRIGHT):
        mine = order[:bright]
        theirs = star_order[: _alike(field, mine, stars, len(star_order))]
        if rung and len(order) <= BRIGHT[rung - 1] and len(star_order) <= _alike(field, order, stars, 10**9):
            break
        for side in limits.sides:
            found = _voted(SIDES[side](field[mine]), stars[theirs], limits)
            if found is None:
                continue
            match = _refined(field, stars, mine, theirs, side, found, limits)
            if match is not None and len(match.detections) >= least and (best is None or match.sure > best.sure):
                best = match
            if best is not None and best.sure >= 3 * sure:
                return best
        if best is not None and best.sure >= sure:
            return best
    return None


def _brightest_first(brightness: Array) -> Indices:
    return np.argsort(-np.where(np.isfinite(brightness), brightness, -np.inf), kind="stable")


def _alike(field: Plane, mine: Indices, stars: Plane, there_are: int) -> int:
    """So many reference stars as make them about as dense as the bright detections, twice over for safety."""
    area, star_area = (max(_area(z), 1e-9) for z in (field[mine] if len(mine) else field, stars))
    return min(there_are, max(60, int(2 * len(mine) * max(1.0, star_area / area))))


def _area(z: Plane) -> float:
    return float(np.ptp(z.real) * np.ptp(z.imag)) if len(z) else 0.0


@dataclass(frozen=True)
class _Vote:
    turn: complex
    shift: complex
    sure: float
    contrast: float


def _voted(field: Plane, stars: Plane, limits: Limits) -> _Vote | None:
    """The angle, scale and shift for which most pairs speak."""
    if len(field) < 2 or len(stars) < 2:
        return None
    radius = float(np.abs(field).max())
    spare = radius * (math.radians(limits.angle_deg) + limits.scale - 1)
    mine, theirs = _pairs(field, stars, limits.shift_arcsec * math.sqrt(2) + spare)
    if not len(mine):
        return None
    z, w = field[mine], stars[theirs]
    cell, reach = limits.tolerance, limits.shift_arcsec + limits.tolerance
    side = max(2, math.ceil(2 * reach / cell))
    turns = list(_turns(radius, limits))
    best = (-1.0, 0j, 0j, 0, 0.0)
    for turn in turns:
        d = w - turn * z
        inside = (np.abs(d.real) < reach) & (np.abs(d.imag) < reach)
        d = d[inside]
        counts = _counted(d, reach, cell, side)
        peak = int(counts.max(initial=0))
        mean = len(d) * (2 * cell / (2 * reach)) ** 2
        odds = _odds(peak, mean)
        if odds > best[0]:
            row, column = np.unravel_index(int(counts.argmax()), counts.shape)
            corner = complex(column * cell - reach, row * cell - reach)
            near = d[(d.real - corner.real < 2 * cell) & (d.real >= corner.real)]
            near = near[(near.imag - corner.imag < 2 * cell) & (near.imag >= corner.imag)]
            best = (odds, turn, complex(near.mean()) if len(near) else corner, peak, mean)
    trials = math.log10(max(len(turns) * side * side, 1))
    return _Vote(best[1], best[2], best[0] - trials, best[3] / _chance_peak(best[4], trials))


def _pairs(field: Plane, stars: Plane, reach: float) -> tuple[Indices, Indices]:
    """Indices of all pairs nearer than `reach`, at most some hundred thousand: the brightest's."""
    while True:
        lists = cKDTree(_xy(stars)).query_ball_point(_xy(field), reach)
        counts = np.array([len(each) for each in lists])
        if counts.sum() <= MOST_PAIRS:
            mine = np.repeat(np.arange(len(field)), counts)
            return mine, np.concatenate([np.asarray(each, np.intp) for each in lists]) if len(mine) else mine
        field = field[: max(20, len(field) * 2 // 3)]
        stars = stars[: max(40, len(stars) * 2 // 3)]


def _xy(z: Plane) -> Array:
    return np.column_stack([z.real, z.imag])


def _turns(radius: float, limits: Limits) -> Iterator[complex]:
    """Angles and scales so close that the outermost star moves by a tolerance from one to the next."""
    step = 1.2 * limits.tolerance / max(radius, 1e-9)
    angle = math.radians(limits.angle_deg)
    for rotation in _steps(angle, step):
        for growth in _steps(math.log(max(limits.scale, 1.0)), step):
            yield complex(np.exp(growth + 1j * rotation))


def _steps(most: float, step: float) -> Array:
    """From the middle outwards."""
    half = math.ceil(most / step) if most > 0 else 0
    values: Array = np.linspace(-most, most, 2 * half + 1) if half else np.zeros(1)
    return values[np.argsort(np.abs(values), kind="stable")]


def _counted(d: Plane, reach: float, cell: float, side: int) -> NDArray[np.int64]:
    """Pairs in each square of 2 by 2 cells."""
    columns = np.minimum(((d.real + reach) / cell).astype(np.intp), side - 1)
    rows = np.minimum(((d.imag + reach) / cell).astype(np.intp), side - 1)
    cells = np.bincount(rows * side + columns, minlength=side * side).reshape(side, side)
    return cells[:-1, :-1] + cells[1:, :-1] + cells[:-1, 1:] + cells[1:, 1:]


def _odds(count: float, mean: float) -> float:
    """-log10 of Chernoff's bound on Poisson's chance of `count` or more."""
    if count <= mean:
        return 0.0
    return (count * math.log(count / max(mean, 1e-12)) - count + mean) / math.log(10)


def _chance_peak(mean: float, trials: float) -> float:
    """The count that chance reaches once in 10^trials."""
    count = max(mean, 1.0)
    while _odds(count, mean) < trials:
        count += max(0.25, 0.02 * count)
    return count


def _refined(
    field: Plane, stars: Plane, mine: Indices, theirs: Indices, side: str, vote: _Vote, limits: Limits
) -> Match | None:
    """Nearest pairs, a similarity through them, again with a smaller tolerance; then all detections."""
    tree, all_tree = cKDTree(_xy(stars[theirs])), cKDTree(_xy(stars))
    sided = SIDES[side](field)
    turn, shift = vote.turn, vote.shift
    for step in range(REFINEMENTS):
        tolerance = limits.tolerance * max(1.0, 2.0 - 0.5 * step)
        one, other = nearest_pairs(turn * sided[mine] + shift, tree, tolerance)
        if len(one) < 3:
            return None
        turn, shift = similarity(sided[mine][one], stars[theirs][other], limits.tolerance / 2)
    placed = turn * sided + shift
    one, other = nearest_pairs(placed, all_tree, limits.tolerance)
    if len(one) < 3:
        return None
    away = placed[one] - stars[other]
    rms = float(np.sqrt(np.median(np.abs(away) ** 2) / (2 * math.log(2))))
    return Match(side, turn, shift, one, other, vote.sure, vote.contrast, rms)


def nearest_pairs(placed: Plane, tree: cKDTree, reach: float) -> tuple[Indices, Indices]:
    """Pairs in which each is the other's nearest."""
    distance, star = tree.query(_xy(placed), distance_upper_bound=reach)
    mine = np.flatnonzero(np.isfinite(distance))
    mine = mine[np.argsort(distance[mine], kind="stable")]
    _, first = np.unique(star[mine], return_index=True)
    mine = np.sort(mine[first])
    return mine, star[mine]


def similarity(z: Plane, w: Plane, soft: float) -> tuple[complex, complex]:
    """turn, shift of w = turn z + shift; pairs further apart than `soft` count less (Cauchy's weights)."""
    weights = np.ones(len(z))
    turn, shift = 1 + 0j, 0j
    for _ in range(4):
        z0, w0 = np.average(z, weights=weights), np.average(w, weights=weights)
        dz, dw = z - z0, w - w0
        norm = float(np.sum(weights * np.abs(dz) ** 2))
        turn = complex(np.sum(weights * np.conj(dz) * dw) / norm) if norm > 0 else 1 + 0j
        shift = complex(w0 - turn * z0)
        weights = 1 / (1 + (np.abs(w - turn * z - shift) / soft) ** 2)
    return turn, shift


# Any angle and scale, to name what is wrong


def wide_match(
    field: Plane, brightness: Array, stars: Plane, star_brightness: Array, tolerance: float, sure: float, least: int
) -> Match | None:
    """A match at any angle and side and a quarter to four times the scale; None when there is no sure one."""
    mine = _brightest_first(brightness)[:WIDE_STARS]
    theirs = _brightest_first(star_brightness)[: 3 * WIDE_STARS]
    if len(mine) < least or len(theirs) < least:
        return None
    best: Match | None = None
    reach = max(float(np.abs(stars[theirs]).max()), float(np.abs(field).max()))
    for side in ("as it is", "mirrored in x"):
        for turn in _turns_of_pairs(SIDES[side](field[mine]), stars[theirs]):
            limits = Limits(reach, 0.6, 1.012, tolerance)
            coarse = Limits(reach, 0.6, 1.012, max(tolerance, reach / WIDE_CELLS))
            found = _voted(turn * SIDES[side](field[mine]), stars[theirs], coarse)
            if found is None or found.sure < sure or (best is not None and found.sure <= best.sure):
                continue
            found = _Vote(found.turn * turn, found.shift, found.sure, found.contrast)
            match = _refined(field, stars, mine, theirs, side, found, limits)
            best = match if match is not None and len(match.detections) >= least else best
    return best


def _turns_of_pairs(field: Plane, stars: Plane) -> Sequence[complex]:
    """Rotations and scales under which pairs of one field look like pairs of the other, likeliest first."""
    mine, theirs = (_pair_histogram(z) for z in (field, stars))
    spectrum = rfft2(theirs) * np.conj(rfft2(mine))
    surface = irfft2(spectrum, theirs.shape)
    surface += np.roll(surface, 1, 0) + np.roll(surface, 1, 1)
    turns = []
    for _ in range(WIDE_PEAKS):
        scale, angle = np.unravel_index(int(surface.argmax()), surface.shape)
        for row in range(-2, 3):
            for column in range(-2, 3):
                surface[(scale + row) % surface.shape[0], (angle + column) % surface.shape[1]] = -np.inf
        steps = (int(scale) + WIDE_SCALES) % (2 * WIDE_SCALES) - WIDE_SCALES
        growth = (steps - 0.5) * WIDE_RANGE / (WIDE_SCALES / 2)
        turns.append(complex(np.exp(growth + 1j * math.radians((int(angle) - 0.5) * 360 / WIDE_ANGLES))))
    return turns


def _pair_histogram(z: Plane) -> Array:
    """Pairs by log distance and angle, twice as high as its range so that the correlation does not wrap."""
    d = (z[:, None] - z[None, :])[~np.eye(len(z), dtype=bool)]
    log = np.log(np.maximum(np.abs(d), 1e-9))
    top = math.log(max(float(np.abs(z).max()) * 2, 1e-9))
    rows = np.floor(log / (WIDE_RANGE / (WIDE_SCALES / 2))).astype(int) % (2 * WIDE_SCALES)
    columns = np.floor(np.degrees(np.angle(d)) / (360 / WIDE_ANGLES)).astype(int) % WIDE_ANGLES
    near = log > top - 2.5
    histogram = np.zeros((2 * WIDE_SCALES, WIDE_ANGLES))
    np.add.at(histogram, (rows[near], columns[near]), 1.0)
    return histogram - histogram.mean()

"""Tells stars from galaxies by their half-light radius, and says what stars look like: width, elongation, doubling.

Works on SExtractor's columns; which CCD they are of and what comes of it is the affair of measure.py.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spicad.reduction.ldac import Table
from spicad.reduction.neighbours import pairs_within

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]

SPOILED = 252  # bits of FLAGS: saturated, truncated, aperture or memory trouble; blends count
UNCOUNTED = 228  # of them, what no source is counted with; one at the rim or on a bad column is a source all the same
IN_MASK = 3  # bits of the flag map that say nothing about a source: bad in flat or mask
NO_SOURCE = 24  # what no source is counted with: saturated, or on a satellite trail
SURE_SNR = 50.0  # of sources that set the locus
STAR_SNR = 20.0
GALAXY_SNR = 10.0
FEWEST = 8  # of a CCD that has a locus of its own
LEAST_RADIUS = 0.5  # pixels: less is no light through a telescope
NARROW = 0.12  # of the radius: half of the locus' width, at least
SIGMAS = 3.0
RADIUS_NOISE = 0.7  # relative error of a half-light radius times signal-to-noise, measured on the made sky
TWIN_REACH = 12.0  # half-light radii within which twins are looked for
TWIN_MOST = 1500  # brightest sources that are looked at


@dataclass(frozen=True)
class Locus:
    """Where stars lie: their half-light radius and its scatter, pixels, and how many set it."""

    radius: float
    scatter: float
    stars: int


def is_sound(table: Table) -> Mask:
    """Good enough for shapes: neither saturated nor cut off, without a pixel that is flagged."""
    return is_counted(table) & ((table["FLAGS"] & SPOILED) == 0) & ((table["IMAFLAGS_ISO"] & ~IN_MASK) == 0)


def is_counted(table: Table) -> Mask:
    """A source with a radius that means something, not saturated."""
    radius = table["FLUX_RADIUS"]
    return np.asarray(
        ((table["FLAGS"] & UNCOUNTED) == 0)
        & ((table["IMAFLAGS_ISO"] & NO_SOURCE) == 0)
        & (table["FLUX_AUTO"] > 0)
        & np.isfinite(radius)
        & (radius > LEAST_RADIUS)
    )


def locus_of(table: Table, like: Locus | None = None) -> Locus | None:
    """The locus of stars among the bright sources; near `like`, that of the whole exposure, where it is given."""
    chosen = is_sound(table) & (table["SNR_WIN"] > SURE_SNR)
    radius = np.sort(table["FLUX_RADIUS"][chosen].astype(float))
    if like is not None:
        radius = radius[(radius > 0.5 * like.radius) & (radius < 2.0 * like.radius)]
    if len(radius) < FEWEST:
        return None
    centre = _mode(radius)
    for _ in range(10):
        near = radius[np.abs(radius / centre - 1) < 0.2]
        middle = float(np.median(near))
        scatter = 1.4826 * float(np.median(np.abs(near - middle)))
        near = radius[np.abs(radius - middle) < max(SIGMAS * scatter, 0.03 * middle)]
        new = float(np.median(near))
        if abs(new / centre - 1) < 1e-4:
            break
        centre = new
    return Locus(centre, 1.4826 * float(np.median(np.abs(near - centre))), len(near))


def _mode(ordered: Array) -> float:
    """Where values lie closest together: the shortest stretch in log that holds a third of what is left, again."""
    logs = np.log(ordered)
    while len(logs) > 6:
        half = max(3, len(logs) // 3)
        starts = np.argmin(logs[half:] - logs[:-half])
        logs = logs[starts : starts + half + 1]
        if len(logs) <= half:
            break
    return float(np.exp(np.median(logs)))


def is_star(table: Table, locus: Locus) -> Mask:
    """Point-like and not saturated, with a signal-to-noise of STAR_SNR."""
    sound = is_counted(table) & (table["SNR_WIN"] > STAR_SNR)
    return np.asarray(sound & (np.abs(table["FLUX_RADIUS"] - locus.radius) < _allowed(table, locus)))


def is_galaxy(table: Table, locus: Locus) -> Mask:
    """Larger than stars, with a signal-to-noise of GALAXY_SNR."""
    sound = is_counted(table) & (table["SNR_WIN"] > GALAXY_SNR)
    return np.asarray(sound & (table["FLUX_RADIUS"] - locus.radius >= _allowed(table, locus)))


def _allowed(table: Table, locus: Locus) -> Array:
    noise = RADIUS_NOISE * locus.radius / np.maximum(table["SNR_WIN"], 1.0)
    return np.asarray(np.maximum(NARROW * locus.radius, SIGMAS * np.hypot(noise, locus.scatter)))


def is_bright_star(table: Table, locus: Locus) -> Mask:
    """Stars good enough for shapes."""
    return is_star(table, locus) & is_sound(table) & (table["SNR_WIN"] > SURE_SNR)


@dataclass(frozen=True)
class Twins:
    """Part of the sources that have a twin at one same distance, and that distance in pixels, with its direction."""

    fraction: float
    dx: float
    dy: float


def twins(x: Array, y: Array, snr: Array, radius: float) -> Twins:
    """How doubled a field is: the commonest vector between neighbours, and how many sources have it."""
    order = np.argsort(-snr)[:TWIN_MOST]
    if len(order) < 20:
        return Twins(0.0, 0.0, 0.0)
    points = np.column_stack([x[order], y[order]])
    reach, cell = TWIN_REACH * radius, max(radius, 1.0)
    one, other = pairs_within(points, points, reach)
    vectors = (points[other] - points[one])[one < other]
    if not len(vectors):
        return Twins(0.0, 0.0, 0.0)
    vectors *= np.where(vectors[:, :1] + 1e-3 * vectors[:, 1:] < 0, -1, 1)  # one of both directions
    counts, places = _crowded(vectors, cell)
    # By chance a circle of radius `cell` holds this many.
    chance = len(vectors) * cell**2 / (0.5 * reach**2)
    best = int(np.argmax(counts))
    excess = counts[best] - chance
    if excess < 6 * np.sqrt(max(chance, 1.0)):
        return Twins(0.0, 0.0, 0.0)
    dx, dy = places[best]
    return Twins(float(min(1.0, 2 * excess / len(order))), float(dx), float(dy))


def _crowded(vectors: Array, cell: float) -> tuple[NDArray[np.int64], Array]:
    """For each vector how many lie within `cell` of it, and their middle."""
    one, other = pairs_within(vectors, vectors, cell)
    counts = np.bincount(one, minlength=len(vectors))
    best = int(np.argmax(counts))
    places = vectors.copy()
    places[best] = vectors[other[one == best]].mean(axis=0)
    return counts, places

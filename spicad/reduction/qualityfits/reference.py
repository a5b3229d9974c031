"""Holds the astrometry of each CCD against a reference catalogue: its offset, its scatter, and whether it is inverted.

The header's WCS is judged, nothing is solved: that is Astrometrix's and SCAMP's. Stars come from measure.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from spicad.reduction import references
from spicad.reduction.neighbours import nearest_within, pairs_within
from spicad.reduction.qualityfits.exposure import Ccd
from spicad.reduction.tangent import projected

Array = NDArray[np.float64]

MOST_STARS = 2000  # of a CCD, the brightest, on both sides
LEAST_MATCHED = 5
CONTRAST = 5.0  # sigmas by which the true offset must stand out from chance
CELL_ARCSEC = 1.5
CELL_PIXELS = 3.0
TURNS = {  # how a CCD may lie beside what its header says: x and y from its middle
    "upside down (turned by 180 degrees)": (-1.0, -1.0),
    "mirrored left to right": (-1.0, 1.0),
    "mirrored top to bottom": (1.0, -1.0),
}


@dataclass(frozen=True)
class Place:
    """How a CCD lies: offsets of its sources from the reference, arcsec; `turn` is '' where the header is right."""

    matched: int
    expected: int
    ra_offset: float = np.nan
    dec_offset: float = np.nan
    ra_scatter: float = np.nan
    dec_scatter: float = np.nan
    turn: str = ""
    residuals: Array = field(default_factory=lambda: np.empty((0, 2)), repr=False)  # of each, about 0

    @property
    def is_found(self) -> bool:
        return self.matched >= LEAST_MATCHED


def read_reference(path: Path, epoch: float | None) -> references.References:
    """Raises BadInput or FitsProblem."""
    stars = references.read(path)
    return stars.at(epoch) if epoch else stars


def place_of(ccd: Ccd, x: Array, y: Array, snr: Array, stars: references.References, radius_arcsec: float) -> Place:
    """Where the CCD is: sources at pixels `x`, `y` against `stars`, offsets of up to `radius_arcsec`."""
    if ccd.tangent is None or not len(x):
        return Place(0, 0)
    middle = ccd.tangent.sky(np.array([(ccd.width + 1) / 2]), np.array([(ccd.height + 1) / 2]))
    centre = float(middle[0][0]), float(middle[1][0])
    order = np.argsort(-snr)[:MOST_STARS]
    there = _on_field(ccd, centre, stars, radius_arcsec)
    if len(there) < LEAST_MATCHED or len(order) < LEAST_MATCHED:
        return Place(0, len(there))
    scale = ccd.tangent.scale_arcsec
    cell = max(CELL_ARCSEC, CELL_PIXELS * scale)
    reach = max(radius_arcsec, 10 * scale)
    mine = _plane(ccd, centre, x[order], y[order])
    found = _matched(mine, there, reach, cell)
    if found.is_found:
        return found
    for words, (sign_x, sign_y) in TURNS.items():
        turned_x = (ccd.width + 1) / 2 + sign_x * (x[order] - (ccd.width + 1) / 2)
        turned_y = (ccd.height + 1) / 2 + sign_y * (y[order] - (ccd.height + 1) / 2)
        other = _matched(_plane(ccd, centre, turned_x, turned_y), there, reach, cell)
        if other.is_found:
            return Place(other.matched, len(there), turn=words)
    return found


def _on_field(ccd: Ccd, centre: tuple[float, float], stars: references.References, margin_arcsec: float) -> Array:
    """Reference stars on the CCD and around it, on its tangent plane in arcsec, the brightest."""
    assert ccd.tangent is not None
    half = 0.5 * np.hypot(ccd.width, ccd.height) * ccd.tangent.scale_arcsec + margin_arcsec
    near = np.abs(stars.dec - centre[1]) < half / 3600
    xi, eta = (3600 * each for each in projected(centre, stars.ra[near], stars.dec[near]))
    mag = stars.mag[near]
    with np.errstate(invalid="ignore"):
        on = np.hypot(xi, eta) < half
    xi, eta, mag = xi[on], eta[on], mag[on]
    if len(xi):
        px, py = ccd.tangent.pixels(*_sky(centre, xi, eta))
        margin = margin_arcsec / ccd.tangent.scale_arcsec
        on = (px > -margin) & (px < ccd.width + margin) & (py > -margin) & (py < ccd.height + margin)
        xi, eta, mag = xi[on], eta[on], mag[on]
    order = np.argsort(np.nan_to_num(mag, nan=99.0))[:MOST_STARS]
    return np.column_stack([xi[order], eta[order]])


def _sky(centre: tuple[float, float], xi: Array, eta: Array) -> tuple[Array, Array]:
    from spicad.reduction.tangent import deprojected

    return deprojected(centre, xi / 3600, eta / 3600)


def _plane(ccd: Ccd, centre: tuple[float, float], x: Array, y: Array) -> Array:
    assert ccd.tangent is not None
    xi, eta = projected(centre, *ccd.tangent.sky(x, y))
    return 3600 * np.column_stack([xi, eta])


def _matched(mine: Array, there: Array, reach: float, cell: float) -> Place:
    """The commonest vector between sources and reference stars, if it stands out; then the nearest of each about it."""
    mine = mine[np.isfinite(mine).all(axis=1)]
    one, other = pairs_within(mine, there, reach)
    vectors = mine[one] - there[other]
    if len(vectors) < LEAST_MATCHED:
        return Place(0, len(there))
    side = int(2 * reach / cell) + 1
    edges = np.linspace(-reach, reach, side + 1)
    counts, _, _ = np.histogram2d(vectors[:, 0], vectors[:, 1], bins=[edges, edges])
    smooth = np.sum([np.roll(counts, (j, i), (0, 1)) for j in (-1, 0, 1) for i in (-1, 0, 1)], axis=0)
    peak = np.unravel_index(int(np.argmax(smooth)), smooth.shape)
    chance = 9 * len(vectors) * (2 * reach / side) ** 2 / (np.pi * reach**2)
    if smooth[peak] - chance < max(LEAST_MATCHED, CONTRAST * np.sqrt(max(chance, 1.0))):
        return Place(0, len(there))
    offset = np.array([(edges[each] + edges[each + 1]) / 2 for each in peak])
    for radius in (2 * cell, 1.5 * cell, cell):
        one, other = nearest_within(mine - offset, there, radius)
        if len(one) < LEAST_MATCHED:
            return Place(len(one), len(there))
        residuals = mine[one] - there[other]
        offset = np.median(residuals, axis=0)
    scatter = 1.4826 * np.median(np.abs(residuals - offset), axis=0)
    close = np.all(np.abs(residuals - offset) < np.maximum(4 * scatter, 0.02), axis=1)
    kept = residuals[close]
    return Place(
        len(kept),
        len(there),
        *_pair(np.median(kept, axis=0)),
        *_pair(np.std(kept, axis=0)),
        residuals=kept - np.median(kept, axis=0),
    )


def _pair(values: Array) -> tuple[float, float]:
    return float(values[0]), float(values[1])


def shifted(places: Mapping[str, Place], limit_arcsec: float) -> dict[str, float]:
    """CCDs that lie further from the others than `limit_arcsec`, and how far."""
    found = {name: place for name, place in places.items() if place.is_found and not place.turn}
    if len(found) < 2:
        return {}
    offsets = np.array([(place.ra_offset, place.dec_offset) for place in found.values()])
    away: dict[str, float] = {}
    for number, name in enumerate(found):
        others = np.delete(offsets, number, axis=0)
        distance = float(np.hypot(*(offsets[number] - np.median(others, axis=0))))
        if distance > limit_arcsec:
            away[name] = distance
    return away


def together(places: Sequence[Place]) -> Place:
    """That of the whole: the median offset of the CCDs, the scatter within them."""
    found = [place for place in places if place.is_found and not place.turn]
    expected = sum(place.expected for place in places)
    if not found:
        return Place(0, expected)
    residuals = np.concatenate([place.residuals for place in found])
    return Place(
        sum(place.matched for place in found),
        expected,
        float(np.median([place.ra_offset for place in found])),
        float(np.median([place.dec_offset for place in found])),
        *_pair(np.std(residuals, axis=0)),
        residuals=residuals,
    )

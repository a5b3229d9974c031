"""The outlines of CCDs on the sky, as the archive's index holds them: one row of tables.Outline for each.

An outline is found by the HEALPix cell of its middle: what may touch a region has its middle in the region or not
farther from it than its corners lie from its middle. So that this is never far, outlines are kept apart by size.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from itertools import chain
from typing import NamedTuple

from spicad.archive import cells
from spicad.archive.cells import Cap, Vector, cell_of, enclosing, vector
from spicad.archive.overlaps import polygons_of, spot

# Degrees from the middle to the farthest corner, at most. A CCD of MegaCam has 0.131, of WIRCam 0.121, of WFI 0.151.
SIZES_DEG = (*(0.155 * 2.0**power for power in range(-3, 10)), 180.0)
SIZES = tuple(map(math.radians, SIZES_DEG))
SLACK = 1e-9  # radians; what rounding may take away
ROUNDED = 1e-14  # of a cosine
USUALLY_HELD = 0.6  # of the size: how far round its middle all is in an outline; 0.7 in a square, 0.4 in a MegaCam CCD
NOT_HELD = -1.0
CELL_OF_ORDER_0 = 1.02  # radians
CELLS_IN_RADIUS = 2  # of a cone, and half a one in a size; more of them take longer to find than what they spare


class Outline(NamedTuple):
    """Columns of tables.Outline, but for the exposure."""

    size: int  # number in SIZES
    cell: int  # of the middle
    number: int  # in the footprint
    x: float
    y: float
    z: float
    held: float  # radians round the middle that are in it altogether; negative where not even the middle may be
    corners: str  # "ra dec ra dec ..." in degrees


def outlines_of(s_region: str, ra: float | None = None, dec: float | None = None) -> list[Outline]:
    """Of a footprint in STC-S, or where that is empty of a position."""
    return outlines_of_polygons(polygons_of(s_region), ra, dec)


def outlines_of_polygons(polygons: Sequence[str], ra: float | None, dec: float | None) -> list[Outline]:
    """Of polygons as Outline has them in `corners`, or where there are none of a position."""
    if not polygons and ra is not None and dec is not None:
        polygons = [" ".join(map(repr, chain.from_iterable(spot(ra, dec).polygons[0])))]
    return [_outline(number, polygon) for number, polygon in enumerate(polygons)]


def _outline(number: int, polygon: str) -> Outline:
    numbers = [*map(float, polygon.split())]
    corners = [*map(vector, numbers[::2], numbers[1::2])]
    middle, reach = enclosing(corners)
    held = _held(corners, middle) if reach < cells.HALF_PI else NOT_HELD
    size = bisect_left(SIZES, min(reach + SLACK, math.pi))
    return Outline(size, cell_of(*cells.position(middle)), number, *middle, held, polygon)


def _held(corners: Sequence[Vector], middle: Vector) -> float:
    sines = []
    a, b, c = middle
    x1, y1, z1 = corners[-1]
    for x2, y2, z2 in corners:
        x, y, z = y1 * z2 - z1 * y2, z1 * x2 - x1 * z2, x1 * y2 - y1 * x2  # across the edge
        length = math.sqrt(x * x + y * y + z * z)
        if length > 0:
            sines.append((a * x + b * y + c * z) / length)
        x1, y1, z1 = x2, y2, z2
    if sines and (min(sines) > 0 or max(sines) < 0):
        return math.asin(min(1.0, *map(abs, sines))) - SLACK
    return NOT_HELD


# Searching: an outline's closeness to a cap is the cosine of how far its middle is from the cap's


def wider(caps: Sequence[Cap], size: int) -> list[Cap]:
    """Outlines of that size which touch a cap have their middles in these."""
    return [Cap(cap.centre, min(cap.radius + SIZES[size], math.pi)) for cap in caps]


def cells_near(caps: Sequence[Cap], size: int) -> list[tuple[int, int]]:
    """First and last cells in which outlines of that size have their middles that may touch all of the caps."""
    within = wider(caps, size)
    if len(caps) > 1:
        return cells.joined(cells.runs_of_caps(within))
    # What larger cells hold besides is sooner tried than smaller ones are found.
    widest = max((caps[0].radius + SIZES[size]) / CELLS_IN_RADIUS, 2 * SIZES[size])
    order = min(max(math.ceil(math.log2(CELL_OF_ORDER_0 / widest)), 0), cells.ORDER)
    return cells.joined(cells.block_round(within[0], order) or cells.runs_of_caps(within, order))


def least(radius: float) -> float:
    """The closeness of what lies in a cap of that radius."""
    return math.cos(radius) - ROUNDED if radius < math.pi else -2.0


def sure_of(caps: Sequence[Cap], cap: Cap, size: int) -> tuple[float, float]:
    """Of factor and sum: where closeness + factor * held >= sum for each of the caps, an outline touches them.

    Of one cap: the middle is not farther away than its radius and what is held together. The cosine of that is not
    greater than its tangent where most outlines are. Of several, the middle has to be in each.
    """
    angle = cap.radius + USUALLY_HELD * SIZES[size]
    if len(caps) > 1 or cap.radius + SIZES[size] >= cells.HALF_PI:
        return 0.0, math.cos(cap.radius) + ROUNDED
    slope = math.sin(angle)
    return slope, math.cos(angle) + USUALLY_HELD * SIZES[size] * slope + ROUNDED

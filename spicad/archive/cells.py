"""HEALPix cells of footprints, cones and boxes: the numbers that the archive's index on the sky is made of.

Positions are ICRS in degrees, cells nested and of order 8 (0.229 degrees wide). The exact tests are overlaps.py's.

The pixelisation is that of Gorski et al. 2005, ApJ 622, 759, section 4.1 and figure 4: twelve square faces, each a
plane with coordinates x (to the north-east) and y (to the north-west) from 0 to 1.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from operator import itemgetter
from typing import NamedTuple

ORDER = 8
SIDE = 1 << ORDER  # cells along a face
CELLS = 12 * SIDE * SIDE

Position = tuple[float, float]  # right ascension, declination
Vector = tuple[float, float, float]
Polygon = Sequence[Position]

HALF_PI = math.pi / 2
EQUATORIAL = 2 / 3  # |sin(dec)| where the polar caps of the projection begin
BORDER = math.degrees(math.asin(EQUATORIAL))
KINK = 0.75 * math.cos(math.asin(EQUATORIAL))  # faces per radian; the most by which x or y change their slope there
STEEPEST = 1.03  # faces per radian; the most by which x or y grow in the equatorial part, at its borders
SLACK = 1e-9  # radians; what rounding may take away
ROW_OF_FACE = (2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4)  # of its southern corner, in faces from the north pole
TURN_OF_FACE = (1, 3, 5, 7, 0, 2, 4, 6, 1, 3, 5, 7)  # of its centre, in eighths
NARROWEST = 0.65  # radians of a cell as large as a face; none is narrower, measured at order 6: 0.71
NEAR = math.radians(0.04)  # a cell so near is taken too; edges of cells leave great circles by at most 0.014 degrees
MOST_BEND = 0.02  # cells; a polygon whose edges bend more in the face's plane is covered the slower way


def _spread(number: int) -> int:
    return sum(((number >> bit) & 1) << (2 * bit) for bit in range(ORDER))


SPREAD = tuple(_spread(number) for number in range(SIDE))
GATHERED = {SPREAD[x] + 2 * SPREAD[y]: (x, y) for x in range(16) for y in range(16)}  # what SPREAD has spread


def vector(ra: float, dec: float) -> Vector:
    a, d = math.radians(ra), math.radians(dec)
    ring = math.cos(d)
    return ring * math.cos(a), ring * math.sin(a), math.sin(d)


def position(v: Vector) -> Position:
    return math.degrees(math.atan2(v[1], v[0])) % 360, math.degrees(math.atan2(v[2], math.hypot(v[0], v[1])))


def cell_of(ra: float, dec: float) -> int:
    face, x, y = _on_face(ra, dec)
    return _number(face, min(int(x * SIDE), SIDE - 1), min(int(y * SIDE), SIDE - 1))


def _number(face: int, ix: int, iy: int) -> int:
    return (face << 2 * ORDER) + SPREAD[ix] + 2 * SPREAD[iy]


def _on_face(ra: float, dec: float) -> tuple[int, float, float]:
    turn = (ra % 360.0) / 90.0  # quarters
    z = math.sin(math.radians(dec))
    if abs(z) <= EQUATORIAL:
        falling, rising = 0.5 + turn - 0.75 * z, 0.5 + turn + 0.75 * z
        f, r = int(falling), int(rising)
        face = (f & 3) | 4 if f == r else f & 3 if f < r else (r & 3) + 8
        return face, rising - r, 1.0 - (falling - f)
    quarter = min(int(turn), 3)
    part = turn - quarter
    away = math.sqrt(6.0) * math.sin(math.radians(90.0 - abs(dec)) / 2)  # sqrt(3 (1 - |z|)), exact near the pole
    if z > 0:
        return quarter, 1.0 - (1.0 - part) * away, 1.0 - part * away
    return quarter + 8, part * away, (1.0 - part) * away


def _on_sky(face: int, x: float, y: float) -> Vector:
    row = ROW_OF_FACE[face] - x - y  # in faces from the north pole, 4 at the south pole
    near = row if row < 1 else 4 - row if row > 3 else 1.0
    if near == 1.0:
        z = (2 - row) * EQUATORIAL
        wide = math.sqrt(1 - z * z)
    else:
        drop = near * near / 3
        z = 1 - drop if row < 1 else drop - 1
        wide = math.sqrt(drop * (2 - drop))
    turn = (TURN_OF_FACE[face] + (x - y) / near) * math.pi / 4 if near > 0 else 0.0
    return wide * math.cos(turn), wide * math.sin(turn), z


def _place(cell: int, order: int = ORDER) -> tuple[int, int, int]:
    """Face and column and row on it."""
    face, rest = divmod(cell, 1 << 2 * order)
    ix = iy = 0
    for shift in range(0, order, 4):
        x, y = GATHERED[rest >> 2 * shift & 0xFF]
        ix, iy = ix | x << shift, iy | y << shift
    return face, ix, iy


def centre_of(cell: int, order: int = ORDER) -> Position:
    face, ix, iy = _place(cell, order)
    side = 1 << order
    return position(_on_sky(face, (ix + 0.5) / side, (iy + 0.5) / side))


def corners_of(cell: int, order: int = ORDER) -> list[Position]:
    """South, east, north, west."""
    face, ix, iy = _place(cell, order)
    side = 1 << order
    corners = ((ix, iy), (ix + 1, iy), (ix + 1, iy + 1), (ix, iy + 1))
    return [position(_on_sky(face, x / side, y / side)) for x, y in corners]


# Regions: what several caps of the sphere have in common


class Cap(NamedTuple):
    """All that lies within `radius` (radians) of `centre`; a half of the sky when that is a quarter turn."""

    centre: Vector
    radius: float


class Run(NamedTuple):
    """Cells from `first` to `last`; `is_inside` when each lies wholly in the region."""

    first: int
    last: int
    is_inside: bool


@cache
def _radius_of_cells(order: int) -> float:
    """From a centre to the farthest corner, of any cell: Healpix_Base::max_pixrad of the HEALPix C++ library."""
    side = 1 << order
    z = 1 - (1 - 1 / side) ** 2 / 3
    turn = math.pi / (4 * side)
    flat = math.sqrt(1 - EQUATORIAL**2)
    one = (flat * math.cos(turn), flat * math.sin(turn), EQUATORIAL)
    return angle(one, (math.sqrt(1 - z * z), 0.0, z))


Square = tuple[int, int, int, int]  # face, column, row and number


def runs_of_caps(caps: Sequence[Cap], finest: int = ORDER) -> list[Run]:
    """The cells that touch what all caps have in common (and a few near it), as few runs as can be.

    With a coarser `finest` they are told by larger cells: sooner, but more of them are only near.
    """
    found: list[Run] = []
    order, todo = _start(min(caps, key=itemgetter(1)), finest)
    while todo:
        limits = [_limits(cap, order) for cap in caps]
        step, width = 1 / (1 << order), 1 << 2 * (ORDER - order)
        divided: list[Square] = []
        for face, ix, iy, number in todo:
            x, y, z = _on_sky(face, (ix + 0.5) * step, (iy + 0.5) * step)
            is_inside = True
            for (a, b, c), touches, holds in limits:
                closeness = a * x + b * y + c * z
                if closeness < touches:
                    break
                is_inside = is_inside and closeness >= holds
            else:
                if is_inside or order == finest:
                    found.append(Run(number * width, number * width + width - 1, is_inside))
                else:
                    ix, iy, number = 2 * ix, 2 * iy, 4 * number
                    divided += (
                        (face, ix, iy, number),
                        (face, ix + 1, iy, number + 1),
                        (face, ix, iy + 1, number + 2),
                        (face, ix + 1, iy + 1, number + 3),
                    )
        order, todo = order + 1, divided
    return _merged(sorted(found))


def _start(cap: Cap, finest: int) -> tuple[int, list[Square]]:
    """The order and places of cells that together hold the cap.

    They are the cell of its centre and the eight round that, where all nine are on one face; else all faces.
    """
    order = min(int(math.log2(NARROWEST / max(cap.radius, SLACK))), finest) if cap.radius < NARROWEST else 0
    side = 1 << order
    face, x, y = _on_face(*position(cap.centre))
    ix, iy = int(x * side), int(y * side)
    if not (0 < ix < side - 1 and 0 < iy < side - 1):
        return 0, [(face, 0, 0, face) for face in range(12)]
    start = face << 2 * order
    block = [(column, row) for column in (ix - 1, ix, ix + 1) for row in (iy - 1, iy, iy + 1)]
    return order, [(face, column, row, start + SPREAD[column] + 2 * SPREAD[row]) for column, row in block]


def _limits(cap: Cap, order: int) -> tuple[Vector, float, float]:
    """Cosines: a cell may touch the cap when its centre is not farther than one, lies in it when not than the other."""
    reach = _radius_of_cells(order) + SLACK
    touches = math.cos(cap.radius + reach) if cap.radius + reach < math.pi else -2.0
    holds = math.cos(cap.radius - reach) if cap.radius >= reach else 2.0
    return cap.centre, touches, -2.0 if cap.radius >= math.pi else holds


def block_round(cap: Cap, order: int) -> list[Run]:
    """The cells of that order that hold the cap: a rectangle of its face, found without a look at each of them.

    Of a cap that may leave its face, none.
    """
    face, x, y = _on_face(*position(cap.centre))
    steep_x, steep_y = _steepness(cap)
    far_x, far_y = steep_x * cap.radius + SLACK, steep_y * cap.radius + SLACK
    if not (far_x < x < 1 - far_x and far_y < y < 1 - far_y):
        return []
    side, width = 1 << order, 1 << 2 * (ORDER - order)
    start = face * side * side
    rows = [2 * each for each in SPREAD[int((y - far_y) * side) : int((y + far_y) * side) + 1]]
    columns = SPREAD[int((x - far_x) * side) : int((x + far_x) * side) + 1]
    numbers = sorted([(start + row + column) * width for column in columns for row in rows])
    return [Run(number, number + width - 1, False) for number in numbers]


def _steepness(cap: Cap) -> tuple[float, float]:
    """Faces per radian by which x and y grow in the cap, at most.

    In a polar part at p from 0 to 1 of the way round it, the square of the one's slope is at most 1.5 p^2 + 0.73, of
    the other's 1.5 (1 - p)^2 + 0.73.
    """
    a, b, z = cap.centre
    if abs(z) + cap.radius <= EQUATORIAL:
        return STEEPEST, STEEPEST
    part = math.degrees(math.atan2(b, a)) % 90.0 / 90.0
    change = min(cap.radius / max(math.hypot(a, b), SLACK), 1.0)
    falling, rising = (max(math.sqrt(1.5 * min(way + change, 1.0) ** 2 + 0.73), STEEPEST) for way in (1 - part, part))
    return (falling, rising) if z > 0 else (rising, falling)


def _merged(runs: Iterable[Run]) -> list[Run]:
    merged: list[Run] = []
    for run in runs:
        if merged and merged[-1].last + 1 == run.first and merged[-1].is_inside == run.is_inside:
            run = Run(merged.pop().first, run.last, run.is_inside)
        merged.append(run)
    return merged


def joined(runs: Iterable[Run]) -> list[tuple[int, int]]:
    """Sorted first and last cells, without overlaps."""
    result: list[tuple[int, int]] = []
    for first, last in sorted((run.first, run.last) for run in runs):
        if result and first <= result[-1][1] + 1:
            result[-1] = (result[-1][0], max(last, result[-1][1]))
        else:
            result.append((first, last))
    return result


def runs_of_cone(ra: float, dec: float, radius: float) -> list[Run]:
    """All in degrees."""
    return runs_of_caps([Cap(vector(ra, dec), math.radians(radius))])


def caps_of_box(west: float, east: float, south: float, north: float) -> list[list[Cap]]:
    """Between right ascensions `west` and `east` (going up, across 0h where west > east; 0 to 360: all of them).

    The box is what all caps of a list have in common; a wide one is made of several such pieces.
    """
    width = 360.0 if east - west >= 360 else (east - west) % 360
    caps = [
        Cap((0.0, 0.0, 1.0), math.radians(90 - south)),
        Cap((0.0, 0.0, -1.0), math.radians(90 + north)),
    ]
    if width == 360:
        return [caps]
    if width > 180:  # not what two halves of the sky have in common
        middle = west + width / 2
        return [piece for half in ((west, middle), (middle, east)) for piece in caps_of_box(*half, south, north)]
    return [[*caps, Cap(vector(west + 90, 0), HALF_PI), Cap(vector(west + width - 90, 0), HALF_PI)]]


# Footprints


def cells_of_polygons(polygons: Sequence[Polygon]) -> set[int]:
    """Every cell that one of `polygons` touches, and at their rims a few that are only near.

    Corners follow one another round the polygon, edges are great circles; it is smaller than half of the sky.
    What is no convex polygon is covered with all that its corners enclose.
    """
    found: set[int] = set()
    for polygon in polygons:
        found.update(_on_one_face(polygon) or _on_many_faces(polygon))
    return found


def _on_one_face(polygon: Polygon) -> list[int]:
    """Of a small convex polygon that lies on one face, where its edges are nearly straight; of any other none."""
    corners = [_on_face(ra, dec) for ra, dec in polygon]
    face = corners[0][0]
    bend = _bend(polygon)
    if bend > MOST_BEND or any(corner[0] != face for corner in corners):
        return []
    ends = [(x * SIDE, y * SIDE) for _, x, y in corners]
    along = [value for end in ends for value in end]
    if min(along) < bend or max(along) + bend >= SIDE or not _is_convex(ends):
        return []
    start = face << 2 * ORDER
    return [
        start + SPREAD[ix] + 2 * SPREAD[iy]
        for ix, (low, high) in _columns(ends, bend).items()
        for iy in range(int(low), int(high) + 1)
    ]


def _columns(ends: Sequence[tuple[float, float]], bend: float) -> dict[int, tuple[float, float]]:
    """For each column of the plane that the polygon touches from where to where it does so, `bend` being added."""
    found: dict[int, tuple[float, float]] = {}
    x1, y1 = ends[-1]
    for x2, y2 in ends:
        (west, at_west), (east, at_east) = ((x1, y1), (x2, y2)) if x1 <= x2 else ((x2, y2), (x1, y1))
        slope = (at_east - at_west) / (east - west) if east > west else 0.0
        for ix in range(int(west - bend), int(east + bend) + 1):
            left, right = ix - bend, ix + 1 + bend
            y = at_west if left <= west else at_west + slope * (left - west)
            z = at_east if right >= east else at_west + slope * (right - west)
            low, high = (y - bend, z + bend) if y <= z else (z - bend, y + bend)
            if ix in found:
                known = found[ix]
                low, high = min(low, known[0]), max(high, known[1])
            found[ix] = (low, high)
        x1, y1 = x2, y2
    return found


def _is_convex(ends: Sequence[tuple[float, float]]) -> bool:
    steps = [(x2 - x1, y2 - y1) for (x1, y1), (x2, y2) in zip(ends, [*ends[1:], ends[0]], strict=True)]
    turns = [x1 * y2 - y1 * x2 for (x1, y1), (x2, y2) in zip(steps, [*steps[1:], steps[0]], strict=True)]
    return not min(turns) < 0 < max(turns) and any(turns)


def _bend(polygon: Polygon) -> float:
    """How far, in cells, an edge may leave the straight line between its ends in the face's plane; at most.

    A curve leaves its chord by at most length^2 / 8 times the greatest second derivative: of a great circle in the
    projection's equatorial part 1.27 faces per radian^2, in its polar part (2.8 / c + 0.3) at c from the pole; where
    the parts meet, its slope changes too.
    """
    lowest, highest = min(dec for _, dec in polygon), max(dec for _, dec in polygon)
    flattest = 0.0 if lowest < 0 < highest else min(abs(lowest), abs(highest))
    stretch = math.cos(math.radians(flattest))
    length = 0.0
    a, d = polygon[-1]
    for ra, dec in polygon:
        length = max(length, math.hypot(((ra - a + 180.0) % 360.0 - 180.0) * stretch, dec - d))
        a, d = ra, dec
    return _bend_between(lowest, highest, math.radians(length))


def _bend_between(lowest: float, highest: float, length: float) -> float:
    margin = math.degrees(length)
    nearest_pole = 90 - max(abs(lowest), abs(highest)) - margin
    polar = 2.8 / math.radians(nearest_pole) + 0.3 if nearest_pole > 0 else math.inf
    if max(abs(lowest), abs(highest)) + margin < BORDER:
        return SIDE * 1.27 / 8 * length**2
    if min(abs(lowest), abs(highest)) - margin > BORDER and lowest * highest > 0:
        return SIDE * polar / 8 * length**2
    return SIDE * (polar / 8 * length**2 + KINK / 4 * length)


def _on_many_faces(polygon: Polygon) -> Iterator[int]:
    corners = [vector(ra, dec) for ra, dec in polygon]
    halves = _halves(corners)
    for run in runs_of_caps([enclosing(corners), *halves]):
        for cell in range(run.first, run.last + 1):
            if run.is_inside or not halves or _is_near(cell, corners, halves):
                yield cell


def _is_near(cell: int, corners: Sequence[Vector], halves: Sequence[Cap]) -> bool:
    """Whether no great circle parts the cell from the polygon: of those along their edges, a little outside."""
    square = [vector(*corner) for corner in corners_of(cell)]
    return not any(
        all(dot(half.centre, corner) < -NEAR for corner in others)
        for sides, others in ((halves, square), (_halves(square), corners))
        for half in sides
    )


def enclosing(corners: Sequence[Vector]) -> Cap:
    """The cap round the middle of the corners that holds them all, and so all that lies between them."""
    total = tuple(map(sum, zip(*corners, strict=True)))
    length = math.hypot(*total)
    if length < SLACK:
        return Cap((0.0, 0.0, 1.0), math.pi)
    middle = (total[0] / length, total[1] / length, total[2] / length)
    chord = max([math.dist(middle, corner) for corner in corners])
    radius = 2 * math.asin(min(chord / 2, 1.0))
    return Cap(middle, radius if radius < HALF_PI else math.pi)


def _halves(corners: Sequence[Vector]) -> list[Cap]:
    """The halves of the sky, one for each edge, that a convex polygon is what they have in common of; else none."""
    normals = [cross(a, b) for a, b in zip(corners, [*corners[1:], corners[0]], strict=True)]
    sides = [dot(normal, corner) for normal in normals for corner in corners]
    if min(sides) < -(SLACK**2) and max(sides) > SLACK**2:
        return []
    way = 1.0 if max(sides) > -min(sides) else -1.0
    return [
        Cap((way * n[0] / length, way * n[1] / length, way * n[2] / length), HALF_PI)
        for n in normals
        if (length := math.hypot(*n)) > SLACK
    ]


def dot(a: Vector, b: Vector) -> float:
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


def cross(a: Vector, b: Vector) -> Vector:
    return a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]


def angle(a: Vector, b: Vector) -> float:
    """Exact for small angles too, as an arc cosine is not."""
    return math.atan2(math.hypot(*cross(a, b)), dot(a, b))

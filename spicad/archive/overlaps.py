"""Whether footprints, cones and boxes on the sky touch: exact, on the sphere, at the poles and across 0h too.

A footprint is one polygon for each CCD, its edges great circles, each smaller than half of the sky. Which footprints
are worth trying is told by cells.py; where they come from is search.py's affair.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from math import cos, sin
from operator import mul

from spicad.archive import cells
from spicad.archive.cells import Cap, Position, Vector, angle, cross, dot, vector

TOUCHING = 1e-12  # radians; what rounding may put between things that touch
ALONG = 1e-9  # radians; edges that differ by less in direction lie along each other
SPOT_DEG = 1e-6
RADIAN = math.pi / 180
SMALL = 1e-5  # radians; a cosine tells no smaller angle well
WIDE = 1.0  # radians; the widest cone that is seen as a circle of the plane that touches the sky in its middle
LOW = 0.2  # cosine; what lies farther off is not looked at in that plane
WORDS_OF_REGIONS = str.maketrans(dict.fromkeys("POLYGNUICRS()", " "))


class Region(ABC):
    """What may touch footprints. It lies in its pieces, each of them what some caps have in common."""

    is_all_of_pieces = True

    @abstractmethod
    def pieces(self) -> list[list[Cap]]: ...

    @abstractmethod
    def touches(self, other: Footprint) -> bool: ...

    def touched(self, polygons: Sequence[str]) -> list[bool]:
        """Whether each is touched, all of them being written as `polygons_of` does."""
        return [self.touches(Footprint((positions_of(each),))) for each in polygons]


@dataclass(frozen=True)
class Footprint(Region):
    """Polygons of (ra, dec) in degrees; corners follow one another."""

    polygons: tuple[tuple[Position, ...], ...]
    is_all_of_pieces = False

    @cached_property
    def shapes(self) -> tuple[tuple[Vector, ...], ...]:
        return tuple(tuple(vector(*corner) for corner in polygon) for polygon in self.polygons)

    def pieces(self) -> list[list[Cap]]:
        return [[cap] for cap in self.caps]

    @cached_property
    def caps(self) -> tuple[Cap, ...]:
        return tuple(cells.enclosing(shape) for shape in self.shapes)

    def touches(self, other: Footprint) -> bool:
        theirs = list(zip(other.caps, other.shapes, strict=True))
        return any(
            angle(cap.centre, near.centre) <= cap.radius + near.radius and _overlap(one, two)
            for cap, one in zip(self.caps, self.shapes, strict=True)
            for near, two in theirs
        )


def footprint_of(s_region: str) -> Footprint:
    """From STC-S: "POLYGON ICRS 1 2 3 4 ...", also several of them in a UNION."""
    return Footprint(tuple(map(positions_of, polygons_of(s_region))))


def polygons_of(s_region: str) -> list[str]:
    """Of each its "ra dec ra dec ..."."""
    pieces = (piece.translate(WORDS_OF_REGIONS).split() for piece in s_region.split("POLYGON")[1:])
    return [" ".join(numbers) for numbers in pieces if len(numbers) >= 6]


def positions_of(polygon: str) -> tuple[Position, ...]:
    numbers = [*map(float, polygon.split())]
    return tuple(zip(numbers[::2], numbers[1::2], strict=False))


def spot(ra: float, dec: float) -> Footprint:
    """Of an exposure of which only the position is known: a triangle that small round it."""
    size = SPOT_DEG if dec < 0 else -SPOT_DEG  # towards the equator: at a pole there is no way beyond
    side = SPOT_DEG / max(math.cos(math.radians(dec)), SPOT_DEG)
    return Footprint((((ra, dec), (ra - side, dec + size), (ra + side, dec + size)),))


@dataclass(frozen=True)
class Cone(Region):
    """All within `radius` degrees of a position; with 0 the position itself."""

    ra: float
    dec: float
    radius: float = 0.0
    axis: Vector = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "axis", vector(self.ra, self.dec))

    def pieces(self) -> list[list[Cap]]:
        return [[Cap(self.axis, math.radians(self.radius))]]

    def touched(self, polygons: Sequence[str]) -> list[bool]:
        """Great circles are straight in the plane that touches the sky, and round its middle the cone is a circle.

        Polygons of four corners are worked through list by list, not one by one.
        """
        limit = math.radians(self.radius) + TOUCHING
        if limit >= WIDE or not polygons or any(each.count(" ") != 7 for each in polygons):
            return super().touched(polygons)
        numbers = [*map(float, " ".join(polygons).split())]
        (high0, wide0), ra0 = (sin(self.dec * RADIAN), cos(self.dec * RADIAN)), self.ra
        ra, dec = [(each - ra0) * RADIAN for each in numbers[::2]], [each * RADIAN for each in numbers[1::2]]
        high, wide = [*map(sin, dec)], [*map(cos, dec)]
        fore = [*map(mul, wide, map(cos, ra))]
        along = [high0 * h + wide0 * f for h, f in zip(high, fore, strict=True)]
        if min(along) < LOW:
            return super().touched(polygons)
        closest = [*map(max, along[::4], along[1::4], along[2::4], along[3::4])]
        held, radius = cos(limit) if limit > SMALL else 2.0, math.tan(limit)
        east = [w * sin(r) / a for w, r, a in zip(wide, ra, along, strict=True)]
        north = [(wide0 * h - high0 * f) / a for h, f, a in zip(high, fore, along, strict=True)]

        def is_met(start: int) -> bool:
            """Whether the circle meets the polygon that begins there, of which no corner is known to lie in it."""
            x, y = east[start : start + 4], north[start : start + 4]
            if min(x) > radius or max(x) < -radius or min(y) > radius or max(y) < -radius:
                return False
            return _meets_circle([*zip(x, y, strict=True)], radius * radius)

        return [nearest > held or is_met(4 * number) for number, nearest in enumerate(closest)]

    def touches(self, other: Footprint) -> bool:
        limit = math.radians(self.radius) + TOUCHING
        nearest = math.cos(min(limit, math.pi)) if limit > SMALL else 2.0
        x, y, z = self.axis
        for shape in other.shapes:  # what is seen at once comes first
            for a, b, c in shape:
                if x * a + y * b + z * c > nearest:
                    return True
        return any(self._touches(shape, limit) for shape in other.shapes)

    def _touches(self, shape: Sequence[Vector], limit: float) -> bool:
        """First by the circle round its first corner that holds the others, which is far off or else may hold us."""
        first = shape[0]
        extent = math.acos(max(-1.0, min(dot(first, corner) for corner in shape)) * (1 - 1e-12))
        closeness, reach = dot(first, self.axis), limit + extent + SMALL
        if extent < 1.5 and reach < math.pi and closeness < math.cos(reach):
            return False
        if any(_apart(self.axis, a, b) <= limit for a, b in self._near_edges(shape, limit)):
            return True
        return (extent >= 1.5 or closeness >= math.cos(extent + SMALL)) and _holds(shape, self.axis)

    def _near_edges(self, shape: Sequence[Vector], limit: float) -> Iterator[tuple[Vector, Vector]]:
        """Those on great circles that come so near."""
        x, y, z = self.axis
        most = math.sin(limit + ALONG) ** 2 if limit < 1.5 else 2.0
        a = shape[-1]
        for b in shape:
            p, q, r = cross(a, b)
            if (p * x + q * y + r * z) ** 2 <= most * (p * p + q * q + r * r):
                yield a, b
            a = b


@dataclass(frozen=True)
class Box(Region):
    """From `west` up to `east` in right ascension (across 0h where west > east; 0 to 360: all round)."""

    west: float
    east: float
    south: float
    north: float

    @property
    def width(self) -> float:
        return 360.0 if self.east - self.west >= 360 else (self.east - self.west) % 360

    def pieces(self) -> list[list[Cap]]:
        return cells.caps_of_box(self.west, self.east, self.south, self.north)

    def holds(self, v: Vector) -> bool:
        ra, dec = cells.position(v)
        if not self.south - 1e-10 <= dec <= self.north + 1e-10:
            return False
        return self._is_between(ra) or math.hypot(v[0], v[1]) < TOUCHING

    def _is_between(self, ra: float) -> bool:
        return (ra - self.west + 1e-10) % 360 <= self.width + 2e-10

    def touches(self, other: Footprint) -> bool:
        return any(self._touches(shape) for shape in other.shapes)

    def _touches(self, shape: Sequence[Vector]) -> bool:
        if any(self.holds(corner) for corner in shape):
            return True
        corners = [vector(ra, dec) for ra in (self.west, self.west + self.width) for dec in (self.south, self.north)]
        if any(_holds(shape, corner) for corner in corners):
            return True
        return any(
            any(_meet(a, b, c, d) for c, d in self._sides)
            or any(self._is_between(cells.position(v)[0]) for v in _at_declination(a, b, (self.south, self.north)))
            for a, b in _edges(shape)
        )

    @cached_property
    def _sides(self) -> list[tuple[Vector, Vector]]:
        if self.width == 360:
            return []
        middle = (self.south + self.north) / 2  # from pole to pole there is no one great circle
        ends = ((self.south, middle), (middle, self.north))
        return [(vector(ra, low), vector(ra, high)) for ra in (self.west, self.east) for low, high in ends]


def _meets_circle(corners: Sequence[tuple[float, float]], most: float) -> bool:
    """Whether a polygon of the plane has a point in the circle round 0, `most` being the square of its radius."""
    turns = 0  # that the polygon makes round 0
    x1, y1 = corners[-1]
    for x2, y2 in corners:
        dx, dy = x2 - x1, y2 - y1
        side, square = x1 * y2 - x2 * y1, dx * dx + dy * dy
        if x2 * x2 + y2 * y2 <= most or (side * side <= most * square and x1 * dx + y1 * dy < 0 < x2 * dx + y2 * dy):
            return True
        if (y1 > 0) != (y2 > 0) and (side > 0) == (y2 > 0):
            turns += 1 if y2 > 0 else -1
        x1, y1 = x2, y2
    return turns != 0


def _edges(shape: Sequence[Vector]) -> Iterator[tuple[Vector, Vector]]:
    return zip(shape, (*shape[1:], shape[0]), strict=True)


def _holds(shape: Sequence[Vector], point: Vector) -> bool:
    """Whether the polygon goes round the point: the sum of the turns that its edges make, seen from there."""
    middle = [sum(parts) for parts in zip(*shape, strict=True)]
    if middle[0] * point[0] + middle[1] * point[1] + middle[2] * point[2] <= 0:
        return False
    east, north = _frame(point)
    angles = [math.atan2(dot(corner, east), dot(corner, north)) for corner in shape]
    total = 0.0
    for before, after in zip(angles, (*angles[1:], angles[0]), strict=True):
        total += math.remainder(after - before, math.tau)
    return abs(total) > math.pi


def _frame(point: Vector) -> tuple[Vector, Vector]:
    """Two directions at right angles to it and to each other."""
    x, y, _ = point
    flat = math.hypot(x, y)
    east = (-y / flat, x / flat, 0.0) if flat > 1e-9 else (0.0, 1.0, 0.0)
    return east, cross(point, east)


def _apart(point: Vector, a: Vector, b: Vector) -> float:
    """From the point to the nearest one of the edge from a to b, radians."""
    normal = cross(a, b)
    length = math.hypot(*normal)
    if length > TOUCHING:
        along_a = dot(cross(normal, a), point)
        along_b = dot(cross(b, normal), point)
        if along_a >= 0 and along_b >= 0:
            return abs(math.asin(max(-1.0, min(1.0, dot(normal, point) / length))))
    return min(angle(point, a), angle(point, b))


def _meet(a: Vector, b: Vector, c: Vector, d: Vector) -> bool:
    """Whether the edges a-b and c-d, each shorter than half a circle, have a point in common."""
    one, other = cross(a, b), cross(c, d)
    if _is_beside(one, c, d) or _is_beside(other, a, b):
        return False
    meeting = cross(one, other)
    length = math.hypot(*meeting)
    if length < ALONG * math.hypot(*one) * math.hypot(*other) or length == 0:  # on one great circle
        return any(_apart(p, *edge) <= ALONG for p, edge in ((a, (c, d)), (b, (c, d)), (c, (a, b)), (d, (a, b))))
    for sign in (1, -1):
        point = (sign * meeting[0] / length, sign * meeting[1] / length, sign * meeting[2] / length)
        if _apart(point, a, b) <= ALONG and _apart(point, c, d) <= ALONG:
            return True
    return False


def _is_beside(normal: Vector, c: Vector, d: Vector) -> bool:
    """Whether both ends lie on one side of a great circle."""
    one, other, least = dot(normal, c), dot(normal, d), TOUCHING * math.hypot(*normal)
    return (one > least and other > least) or (one < -least and other < -least)


def _at_declination(a: Vector, b: Vector, declinations: Sequence[float]) -> Iterator[Vector]:
    """Where the edge from a to b passes one of these declinations."""
    whole = angle(a, b)
    if whole < TOUCHING:
        return
    normal = cross(a, b)
    length = math.hypot(*normal)
    u = cross((normal[0] / length, normal[1] / length, normal[2] / length), a)
    height, top = math.hypot(a[2], u[2]), math.atan2(u[2], a[2])
    for dec in declinations:
        sine = math.sin(math.radians(dec))
        if abs(sine) > height or height == 0:
            continue
        away = math.acos(sine / height)
        for turn in (top + away, top - away):
            turn %= math.tau
            if turn <= whole:
                c, s = math.cos(turn), math.sin(turn)
                yield (c * a[0] + s * u[0], c * a[1] + s * u[1], c * a[2] + s * u[2])


def _overlap(one: Sequence[Vector], two: Sequence[Vector]) -> bool:
    return (
        _holds(one, two[0])
        or _holds(two, one[0])
        or any(_meet(a, b, c, d) for a, b in _edges(one) for c, d in _edges(two))
    )

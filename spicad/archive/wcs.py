"""Where the pixels of a CCD lie on the sky, from its WCS: TAN, TPV (PV terms), SIP, ZPN and the plain zenithal ones.

Directions are unit vectors, so that nothing special happens at the poles and at 0h. What a header says is read by
headers.py. The conventions are those of Calabretta & Greisen 2002 (A&A 395, 1077), Shupe et al. 2005 (SIP) and the
registry of FITS conventions (TPV).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from itertools import chain
from operator import itemgetter
from typing import NamedTuple

from spicad.fits import Value

Place = tuple[float, float]  # right ascension and declination in degrees
Vector = tuple[float, float, float]
Matrix = tuple[float, float, float, float]
Terms = tuple[tuple[int, int, float], ...]  # powers of x and y, factor

# x, y and r powers of PV terms 0 to 39; for the second axis x and y change places.
_PV_POWERS = (
    (0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1), (2, 0, 0), (1, 1, 0), (0, 2, 0), (3, 0, 0), (2, 1, 0), (1, 2, 0),
    (0, 3, 0), (0, 0, 3), (4, 0, 0), (3, 1, 0), (2, 2, 0), (1, 3, 0), (0, 4, 0), (5, 0, 0), (4, 1, 0), (3, 2, 0),
    (2, 3, 0), (1, 4, 0), (0, 5, 0), (0, 0, 5), (6, 0, 0), (5, 1, 0), (4, 2, 0), (3, 3, 0), (2, 4, 0), (1, 5, 0),
    (0, 6, 0), (7, 0, 0), (6, 1, 0), (5, 2, 0), (4, 3, 0), (3, 4, 0), (2, 5, 0), (1, 6, 0), (0, 7, 0), (0, 0, 7),
)  # fmt: skip
PV_KEYS = tuple(tuple(f"PV{axis}_{term}" for term in range(len(_PV_POWERS))) for axis in (1, 2))
_CUBIC_TERMS = tuple(itemgetter(*keys[:11]) for keys in PV_KEYS)
_HIGH_TERMS = frozenset(PV_KEYS[0][11:] + PV_KEYS[1][11:])
_SIP_ORDER = 9
SIP_KEYS = {
    letter: tuple((p, q, f"{letter}_{p}_{q}") for p in range(_SIP_ORDER + 1) for q in range(_SIP_ORDER + 1 - p))
    for letter in "AB"
}
KEYS = frozenset(
    {*PV_KEYS[0], *PV_KEYS[1], "A_ORDER", "B_ORDER", "LONPOLE"}
    | {key for terms in SIP_KEYS.values() for *_, key in terms}
)
DISTORTED = frozenset(("TPV", "SIP", "ZPN"))
_RADIUS_TO_ANGLE: dict[str, Callable[[float], float]] = {
    "SIN": lambda radius: math.asin(min(1.0, radius)),
    "STG": lambda radius: 2 * math.atan(radius / 2),
    "ZEA": lambda radius: 2 * math.asin(min(1.0, radius / 2)),
    "ARC": lambda radius: min(radius, math.pi),
    "ZPX": lambda radius: min(radius, math.pi),
}
GNOMONIC = frozenset(("TAN", "TPV", "SIP", "TNX"))


class Wcs(NamedTuple):
    """The numbers of a celestial WCS, in degrees and pixels; `header` is asked for terms of distortion."""

    projection: str  # as headers.projection_of gives it
    crval: Place
    crpix: Place
    matrix: Matrix
    header: Mapping[str, Value]
    swapped: bool = False  # the latitude is the first axis


def directions(wcs: Wcs, pixels: Iterable[Place]) -> list[Vector]:
    """The unit vector of each pixel (x, y), which count from 1 at the centre of the first."""
    if wcs.projection == "TPV" and not wcs.swapped and wcs.crval[1] < 90.0 and "LONPOLE" not in wcs.header:
        factors = _both_cubics(wcs.header)
        if factors is not None:
            return _by_cubics(wcs, pixels, *factors)
    to_plane = _to_plane(wcs)
    lonpole = wcs.header.get("LONPOLE")
    pole = float(lonpole) if isinstance(lonpole, int | float) else 0.0 if wcs.crval[1] >= 90.0 else 180.0
    origin, east, north = _frame(*wcs.crval)
    found = []
    for x, y in pixels:
        xi, eta = to_plane(x, y)
        if wcs.swapped:
            xi, eta = eta, xi
        if pole != 180.0:
            xi, eta = _turned(xi, eta, math.radians(180.0 - pole))
        xi, eta = xi * _RADIAN, eta * _RADIAN
        if wcs.projection in GNOMONIC:
            length = 1.0 / math.sqrt(1.0 + xi * xi + eta * eta)
            along, xi, eta = length, xi * length, eta * length
        else:
            along, xi, eta = _not_gnomonic(wcs, xi, eta)
        found.append(
            (
                along * origin[0] + xi * east[0] + eta * north[0],
                along * origin[1] + xi * east[1] + eta * north[1],
                along * origin[2] + eta * north[2],
            )
        )
    return found


_RADIAN = math.pi / 180.0


def _turned(xi: float, eta: float, angle: float) -> Place:
    return xi * math.cos(angle) - eta * math.sin(angle), eta * math.cos(angle) + xi * math.sin(angle)


@lru_cache(maxsize=256)
def _frame(ra: float, dec: float) -> tuple[Vector, Vector, Vector]:
    """The reference point, and which way are east and north there."""
    a, d = math.radians(ra), math.radians(dec)
    sin_a, cos_a, sin_d, cos_d = math.sin(a), math.cos(a), math.sin(d), math.cos(d)
    return (cos_d * cos_a, cos_d * sin_a, sin_d), (-sin_a, cos_a, 0.0), (-sin_d * cos_a, -sin_d * sin_a, cos_d)


def _not_gnomonic(wcs: Wcs, xi: float, eta: float) -> Vector:
    """How far along the reference point, east and north a direction goes."""
    if wcs.projection != "ZPN" and wcs.projection not in _RADIUS_TO_ANGLE:
        return _cylindrical(wcs, xi, eta)
    radius = math.hypot(xi, eta)
    if radius == 0:
        return 1.0, 0.0, 0.0
    angle = _zpn_angle(wcs, radius) if wcs.projection == "ZPN" else _RADIUS_TO_ANGLE[wcs.projection](radius)
    scale = math.sin(angle) / radius
    return math.cos(angle), xi * scale, eta * scale


def _cylindrical(wcs: Wcs, xi: float, eta: float) -> Vector:
    """Any other projection, as a plain chart around the reference point: good near to it."""
    d0 = math.radians(wcs.crval[1])
    da = xi / max(math.cos(d0), 1e-6)
    d = max(-math.pi / 2, min(math.pi / 2, d0 + eta))
    along = math.sin(d) * math.sin(d0) + math.cos(d) * math.cos(d0) * math.cos(da)
    return along, math.cos(d) * math.sin(da), math.sin(d) * math.cos(d0) - math.cos(d) * math.sin(d0) * math.cos(da)


def _zpn_angle(wcs: Wcs, radius: float) -> float:
    """The angle whose polynomial gives the radius, by Newton's method."""
    factors = [_number(wcs.header, key) for key in PV_KEYS[1][:21]]
    if not any(factors):
        factors = [0.0, 1.0]
    angle = radius
    for _ in range(20):
        value = slope = 0.0
        for factor in reversed(factors):
            slope = slope * angle + value
            value = value * angle + factor
        if slope == 0 or not math.isfinite(slope):
            return min(radius, math.pi)
        step = (radius - value) / slope
        angle = max(0.0, min(math.pi, angle + step))
        if abs(step) < 1e-13:
            break
    return angle


def _number(header: Mapping[str, Value], key: str, default: float = 0.0) -> float:
    value = header.get(key)
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else default


# From pixels to the plane of projection, in degrees


def _to_plane(wcs: Wcs) -> Callable[[float, float], Place]:
    a, b, c, d = wcs.matrix
    x0, y0 = wcs.crpix
    if wcs.projection == "TPV":
        bend1, bend2 = _pv(wcs.header, 0), _pv(wcs.header, 1)

        def by_tpv(x: float, y: float) -> Place:
            x, y = x - x0, y - y0
            x, y = a * x + b * y, c * x + d * y
            return bend1(x, y), bend2(y, x)

        return by_tpv
    if wcs.projection == "SIP":
        f, g = _sip(wcs.header, "A"), _sip(wcs.header, "B")

        def by_sip(x: float, y: float) -> Place:
            x, y = x - x0, y - y0
            x, y = x + _sum(f, x, y), y + _sum(g, x, y)
            return a * x + b * y, c * x + d * y

        return by_sip

    def linear(x: float, y: float) -> Place:
        x, y = x - x0, y - y0
        return a * x + b * y, c * x + d * y

    return linear


def _both_cubics(header: Mapping[str, Value]) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
    """Terms 0 to 10 of both axes where they are all there, as SCAMP and Elixir write them, and no others."""
    if not _HIGH_TERMS.isdisjoint(header):
        return None
    try:
        both = _CUBIC_TERMS[0](header), _CUBIC_TERMS[1](header)
    except KeyError:
        return None
    return both if set(map(type, both[0] + both[1])) == {float} else None


def _by_cubics(wcs: Wcs, pixels: Iterable[Place], one: Sequence[float], two: Sequence[float]) -> list[Vector]:
    """All of `directions` in one piece, for the solution that mosaics mostly have."""
    (ox, oy, oz), (ex, ey, _), (nx, ny, nz) = _frame(*wcs.crval)
    a, b, c, d = wcs.matrix
    x0, y0 = wcs.crpix
    p0, p1, p2, p3, p4, p5, p6, p7, p8, p9, p10 = one
    q0, q1, q2, q3, q4, q5, q6, q7, q8, q9, q10 = two
    found = []
    for px, py in pixels:
        px, py = px - x0, py - y0
        x, y = a * px + b * py, c * px + d * py
        r = math.sqrt(x * x + y * y) if p3 or q3 else 0.0
        xi = p0 + x * (p1 + x * (p4 + p7 * x + p8 * y) + y * (p5 + p9 * y)) + y * (p2 + y * (p6 + p10 * y)) + p3 * r
        eta = q0 + y * (q1 + y * (q4 + q7 * y + q8 * x) + x * (q5 + q9 * x)) + x * (q2 + x * (q6 + q10 * x)) + q3 * r
        xi, eta = xi * _RADIAN, eta * _RADIAN
        along = 1.0 / math.sqrt(1.0 + xi * xi + eta * eta)
        xi, eta = xi * along, eta * along
        found.append((along * ox + xi * ex + eta * nx, along * oy + xi * ey + eta * ny, along * oz + eta * nz))
    return found


def _pv(header: Mapping[str, Value], axis: int) -> Callable[[float, float], float]:
    """The polynomial of one axis. SCAMP and Elixir write up to term 10, a cubic: that is done at once."""
    keys = PV_KEYS[axis]
    if _HIGH_TERMS.isdisjoint(header):
        return _cubic([_number(header, key, float(term == 1)) for term, key in enumerate(keys[:11])])
    terms = [
        (powers, _number(header, key, float(key.endswith("_1")))) for powers, key in zip(_PV_POWERS, keys, strict=True)
    ]
    used = [(powers, factor) for powers, factor in terms if factor]

    def bend(x: float, y: float) -> float:
        r = math.hypot(x, y)
        return sum(factor * x**i * y**j * r**k for (i, j, k), factor in used)

    return bend


def _cubic(factors: Sequence[float]) -> Callable[[float, float], float]:
    p0, p1, p2, p3, p4, p5, p6, p7, p8, p9, p10 = factors
    return lambda x, y: (
        p0
        + x * (p1 + x * (p4 + p7 * x + p8 * y) + y * (p5 + p9 * y))
        + y * (p2 + y * (p6 + p10 * y))
        + (p3 * math.sqrt(x * x + y * y) if p3 else 0.0)
    )


def _sip(header: Mapping[str, Value], letter: str) -> Terms:
    order = int(_number(header, f"{letter}_ORDER"))
    terms = ((p, q, _number(header, key)) for p, q, key in SIP_KEYS[letter] if p + q <= order and key in header)
    return tuple((p, q, factor) for p, q, factor in terms if factor)


def _sum(terms: Terms, x: float, y: float) -> float:
    return sum(factor * x**p * y**q for p, q, factor in terms)


# Places, circles, regions


def place_of(vector: Vector) -> Place:
    x, y, z = vector
    return math.atan2(y, x) / _RADIAN % 360.0, math.atan2(z, math.sqrt(x * x + y * y)) / _RADIAN


def vector_of(ra: float, dec: float) -> Vector:
    a, d = math.radians(ra), math.radians(dec)
    return math.cos(d) * math.cos(a), math.cos(d) * math.sin(a), math.sin(d)


def separation_deg(a: Place, b: Place) -> float:
    """Angle between two (ra, dec) in degrees; exact for small angles too."""
    return _angle_deg(vector_of(*a), vector_of(*b))


def _angle_deg(a: Vector, b: Vector) -> float:
    (x1, y1, z1), (x2, y2, z2) = a, b
    cross = math.hypot(y1 * z2 - z1 * y2, z1 * x2 - x1 * z2, x1 * y2 - y1 * x2)
    return math.degrees(math.atan2(cross, x1 * x2 + y1 * y2 + z1 * z2))


def circle_round(vectors: Sequence[Vector]) -> tuple[Place, float]:
    """(centre, radius in degrees) of a circle round all: about their mean, so nearly the smallest."""
    x, y, z = (float(sum(axis)) for axis in zip(*vectors, strict=True))
    if math.hypot(x, y, z) < 1e-9:
        x, y, z = vectors[0]
    length = math.hypot(x, y, z)
    x, y, z = x / length, y / length, z / length
    nearness = [u * x + v * y + w * z for u, v, w in vectors]
    farthest = vectors[nearness.index(min(nearness))]
    return place_of((x, y, z)), _angle_deg((x, y, z), farthest)


def centre_of(places: Iterable[Place]) -> Place:
    """The middle of places, where CCDs are missing on one side too."""
    x = y = z = 0.0
    for ra, dec in places:
        a, d = ra * _RADIAN, dec * _RADIAN
        cos_d = math.cos(d)
        x, y, z = x + cos_d * math.cos(a), y + cos_d * math.sin(a), z + math.sin(d)
    return place_of((x, y, z))


def polygon_of(corners: Sequence[Place]) -> str:
    """As the archive writes it: "ra dec ra dec ..."."""
    return " ".join(["%.6f %.6f"] * len(corners)) % tuple(chain.from_iterable(corners))


def region_of(polygons: Sequence[str]) -> str:
    """As STC-S writes it: POLYGON ICRS 150.1 2.2 ...; UNION ICRS (POLYGON ... POLYGON ...) where there are several."""
    if len(polygons) < 2:
        return "".join(f"POLYGON ICRS {polygon}" for polygon in polygons)
    return f"UNION ICRS (POLYGON {' POLYGON '.join(polygons)})"

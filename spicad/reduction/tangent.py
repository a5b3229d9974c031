"""The tangent plane and its TPV polynomial: from pixels to the sky and back, many points at once.

Reads the WCS of headers and .head files that are TAN or TPV, and turns others into TPV by tpv.py. Angles are degrees,
pixels count from 1, and arrays of points have any shape.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from spicad.fits import Value
from spicad.reduction import tpv
from spicad.reduction.tpv import TERMS
from spicad.words import SpicaError

Array = NDArray[np.float64]

ITERATIONS = 30
RADIAL = {3: 1, 11: 3, 23: 5, 39: 7}  # PV numbers of odd powers of r (the TPV convention)


class NoWcs(SpicaError):
    """Why a header gives no place on the sky."""


@dataclass(frozen=True)
class Tangent:
    """One CCD: pixels, less `crpix`, times `cd`, through the polynomial `pv`, on the plane tangent at `crval`."""

    crval: tuple[float, float]
    crpix: tuple[float, float]
    cd: Array  # (2, 2), degrees a pixel
    pv: tuple[Mapping[int, float], Mapping[int, float]] = field(default_factory=lambda: ({}, {}))

    def plane(self, x: Array, y: Array) -> tuple[Array, Array]:
        """xi and eta, the coordinates on the tangent plane, degrees."""
        dx, dy = np.asarray(x, float) - self.crpix[0], np.asarray(y, float) - self.crpix[1]
        u = self.cd[0, 0] * dx + self.cd[0, 1] * dy
        v = self.cd[1, 0] * dx + self.cd[1, 1] * dy
        if not self.pv[0] and not self.pv[1]:
            return u, v
        return _polynomial(self.pv[0], u, v), _polynomial(self.pv[1], v, u)

    def sky(self, x: Array, y: Array) -> tuple[Array, Array]:
        """Right ascension (0 to 360) and declination."""
        return deprojected(self.crval, *self.plane(x, y))

    def pixels(self, ra: Array, dec: Array) -> tuple[Array, Array]:
        """Where places of the sky lie on the CCD; NaN on the other half of the sphere."""
        xi, eta = projected(self.crval, ra, dec)
        inverse = np.linalg.inv(self.cd)
        x = inverse[0, 0] * xi + inverse[0, 1] * eta + self.crpix[0]
        y = inverse[1, 0] * xi + inverse[1, 1] * eta + self.crpix[1]
        if not self.pv[0] and not self.pv[1]:
            return x, y
        for _ in range(ITERATIONS):  # a fixed point: distortions are small beside the linear part
            at_xi, at_eta = self.plane(x, y)
            step_x = inverse[0, 0] * (xi - at_xi) + inverse[0, 1] * (eta - at_eta)
            step_y = inverse[1, 0] * (xi - at_xi) + inverse[1, 1] * (eta - at_eta)
            x, y = x + step_x, y + step_y
            if not np.nanmax(np.abs(step_x), initial=0) > 1e-7 and not np.nanmax(np.abs(step_y), initial=0) > 1e-7:
                break
        return x, y

    @property
    def scale_arcsec(self) -> float:
        """Side of a pixel, the geometric mean."""
        return math.sqrt(abs(float(np.linalg.det(self.cd)))) * 3600


def _polynomial(pv: Mapping[int, float], u: Array, v: Array) -> Array:
    """PV1 of (u, v); PV2 is the same of (v, u). A polynomial that lacks term 1 has it as 1."""
    total = np.asarray(pv.get(1, 1.0) * u)
    for number, value in pv.items():
        if number == 1 or not value:
            continue
        if number in RADIAL:
            total = total + value * np.hypot(u, v) ** RADIAL[number]
        else:
            first, second = TERMS[number]
            total = total + value * u**first * v**second
    return total


def projected(centre: tuple[float, float], ra: Array, dec: Array) -> tuple[Array, Array]:
    """From the sky to the plane that is tangent at `centre`; NaN on the other half of the sphere."""
    ra_, dec_ = np.radians(ra), np.radians(dec)
    ra0, dec0 = math.radians(centre[0]), math.radians(centre[1])
    depth = np.sin(dec_) * math.sin(dec0) + np.cos(dec_) * math.cos(dec0) * np.cos(ra_ - ra0)
    depth = np.where(depth > 1e-3, depth, np.nan)
    xi = np.cos(dec_) * np.sin(ra_ - ra0) / depth
    eta = (np.sin(dec_) * math.cos(dec0) - np.cos(dec_) * math.sin(dec0) * np.cos(ra_ - ra0)) / depth
    return np.degrees(xi), np.degrees(eta)


def deprojected(centre: tuple[float, float], xi: Array, eta: Array) -> tuple[Array, Array]:
    """From the plane that is tangent at `centre` to the sky."""
    xi_, eta_ = np.radians(xi), np.radians(eta)
    ra0, dec0 = math.radians(centre[0]), math.radians(centre[1])
    depth = math.cos(dec0) - eta_ * math.sin(dec0)
    ra = ra0 + np.arctan2(xi_, depth)
    dec = np.arctan2(math.sin(dec0) + eta_ * math.cos(dec0), np.hypot(xi_, depth))
    return np.degrees(ra) % 360.0, np.degrees(dec)


def vectors(ra: Array, dec: Array) -> Array:
    """(..., 3) unit vectors towards places of the sky."""
    ra_, dec_ = np.radians(ra), np.radians(dec)
    return np.stack([np.cos(dec_) * np.cos(ra_), np.cos(dec_) * np.sin(ra_), np.sin(dec_)], axis=-1)


def middle_of(ra: Array, dec: Array) -> tuple[float, float]:
    """The mean direction, right across 0h and at the poles."""
    x, y, z = vectors(np.ravel(ra), np.ravel(dec)).mean(axis=0)
    return math.degrees(math.atan2(y, x)) % 360.0, math.degrees(math.atan2(z, math.hypot(x, y)))


# From headers


def tangent_of(header: Mapping[str, Value], cards: Sequence[bytes] = (), size: tuple[int, int] = (1, 1)) -> Tangent:
    """The WCS of a header. Projections besides TAN and TPV are fitted by TPV over a CCD of `size` pixels; they need
    the header's `cards`. Raises NoWcs.
    """
    kinds = [str(header.get(f"CTYPE{axis}") or "") for axis in (1, 2)]
    if not kinds[0] or not kinds[1]:
        raise NoWcs("its header has no WCS (CTYPE1, CTYPE2).")
    has_sip = isinstance(header.get("A_ORDER"), int)
    if kinds[0].startswith("RA--") and kinds[1].startswith("DEC-") and not has_sip and "PC1_1" not in header:
        found = _plain(header, kinds)
        if found is not None:
            return found
    try:
        fitted = tpv.fitted(cards, *size)
    except tpv.NoTpv as error:
        raise NoWcs(str(error)) from None
    return Tangent(fitted.crval, fitted.crpix, fitted.cd, fitted.pv)


def _plain(header: Mapping[str, Value], kinds: Sequence[str]) -> Tangent | None:
    """None for what only astropy reads."""
    if kinds[0][4:].strip("- ") not in ("TAN", "TPV") or kinds[0][4:] != kinds[1][4:]:
        return None
    names = ("CRVAL1", "CRVAL2", "CRPIX1", "CRPIX2", "CD1_1", "CD1_2", "CD2_1", "CD2_2")
    if "CD1_1" not in header:
        return None
    values = [header.get(name, 0.0 if name.startswith("CD") else None) for name in names]
    odd = [n for n, v in zip(names, values, strict=True) if not isinstance(v, int | float) or not math.isfinite(v)]
    if odd:
        raise NoWcs(f"its header has no number as {', '.join(odd)}.")
    ra, dec, x, y, *cd = (float(str(value)) for value in values)
    matrix = np.array(cd).reshape(2, 2)
    if abs(dec) > 90 or abs(np.linalg.det(matrix)) < 1e-20:
        raise NoWcs("its WCS does not map pixels to the sky one by one.")
    # A polynomial under the name TAN is SCAMP's old way of writing TPV.
    pv = tuple(_terms(header, axis) for axis in (1, 2))
    if set(pv[0]) | set(pv[1]) > set(TERMS) | set(RADIAL):
        return None
    return Tangent((ra, dec), (x, y), matrix, (pv[0], pv[1]))


def _terms(header: Mapping[str, Value], axis: int) -> dict[int, float]:
    found = ((re.fullmatch(rf"PV{axis}_(\d+)", key), value) for key, value in header.items())
    terms = {int(key[1]): float(str(value)) for key, value in found if key and isinstance(value, int | float)}
    return {} if all(value == (1.0 if number == 1 else 0.0) for number, value in terms.items()) else terms

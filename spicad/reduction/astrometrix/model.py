"""What is solved for: cameras (CCDs in the focal plane, its distortion) and the pointing of each exposure.

From the pixels of a CCD to the focal plane, w = place(x, y) + distortion(place); from there to the plane that is
tangent to the sky at the exposure's crval, shift + turn w + shear conj(w) + bend(place). Planes are complex numbers in
arcsec. All parts are polynomials, so that the whole is one that TPV holds exactly.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spicad.reduction.astrometrix.exposures import Detections, Exposure
from spicad.reduction.tangent import Tangent, deprojected
from spicad.reduction.tpv import TERMS

Plane = NDArray[np.complex128]
Array = NDArray[np.float64]
Terms = tuple[tuple[int, int], ...]


def terms(low: int, high: int) -> Terms:
    """Exponents of (x, y), by degree."""
    return tuple((degree - n, n) for degree in range(low, high + 1) for n in range(degree + 1))


def powers(x: Array, y: Array, which: Terms) -> Array:
    """(n, len(which)) products of powers."""
    top = max((max(each) for each in which), default=0)
    of_x, of_y = [np.ones_like(x)], [np.ones_like(y)]
    for _ in range(top):
        of_x.append(of_x[-1] * x)
        of_y.append(of_y[-1] * y)
    out = np.empty((len(x), len(which)))
    for column, (p, q) in enumerate(which):
        out[:, column] = of_x[p] * of_y[q]
    return out


@dataclass
class Camera:
    """An instrument with a filter. `place` (n CCDs, 3): shift (arcsec), turn and shear (arcsec a pixel) of each CCD
    about its middle; `distortion`: coefficients of `radius`-normalised terms of degree 2 and more (arcsec); `own`:
    those of each CCD, of coordinates normalised by half its longer side.
    """

    key: str
    exposures: list[int]
    sizes: tuple[tuple[int, int], ...]
    names: tuple[str, ...]
    place: Plane
    radius: float
    degree: int
    ccd_degree: int
    distortion: Plane
    own: Plane

    @property
    def name(self) -> str:
        return self.key.partition("\0")[0]

    @property
    def distortion_terms(self) -> Terms:
        return terms(2, self.degree)

    @property
    def own_terms(self) -> Terms:
        return terms(2, self.ccd_degree) if len(self.sizes) > 1 else ()

    def half(self, ccd: int) -> float:
        return max(self.sizes[ccd]) / 2

    def offsets(self, ccd: int, x: Array, y: Array) -> Plane:
        """From the middle of the CCD, pixels."""
        width, height = self.sizes[ccd]
        return np.asarray((x - (width + 1) / 2) + 1j * (y - (height + 1) / 2))

    def placed(self, ccd: int, x: Array, y: Array) -> Plane:
        """In the focal plane without distortion."""
        z = self.offsets(ccd, x, y)
        shift, turn, shear = self.place[ccd]
        return np.asarray(shift + turn * z + shear * np.conj(z))

    def distorted(self, ccd: int, x: Array, y: Array) -> tuple[Plane, Plane]:
        """In the focal plane, without and with distortion."""
        w0 = self.placed(ccd, x, y)
        w = w0 + powers(w0.real / self.radius, w0.imag / self.radius, self.distortion_terms) @ self.distortion
        if self.own_terms and self.own[ccd].any():
            z = self.offsets(ccd, x, y) / self.half(ccd)
            w = w + powers(z.real, z.imag, self.own_terms) @ self.own[ccd]
        return w0, w


@dataclass
class Pointing:
    """Of one exposure; `bend` are coefficients of degree 2 (arcsec, of radius-normalised terms)."""

    crval: tuple[float, float]
    shift: complex
    turn: complex
    shear: complex
    bend: Plane

    def plane(self, camera: Camera, w0: Plane, w: Plane) -> Plane:
        out = self.shift + self.turn * w + self.shear * np.conj(w)
        if self.bend.any():
            r = camera.radius
            out = out + self.turn * (powers(w0.real / r, w0.imag / r, terms(2, 2)) @ self.bend)
        return np.asarray(out)

    def back(self, plane: Plane) -> Plane:
        """To the focal plane, with its distortion and without bend."""
        d = plane - self.shift
        norm = abs(self.turn) ** 2 - abs(self.shear) ** 2
        return np.asarray((np.conj(self.turn) * d - self.shear * np.conj(d)) / norm)


@dataclass
class Model:
    cameras: list[Camera]
    camera_of: dict[int, int]  # by exposure
    pointings: dict[int, Pointing]

    def camera(self, exposure: int) -> Camera:
        return self.cameras[self.camera_of[exposure]]

    def planes(self, exposure: Exposure, detections: Detections) -> tuple[Plane, Plane]:
        """Of its detections: the focal plane without distortion, and the tangent plane (arcsec)."""
        camera, pointing = self.camera(exposure.number), self.pointings[exposure.number]
        first = exposure.bounds[0]
        w0 = np.empty(exposure.bounds[-1] - first, complex)
        w = np.empty_like(w0)
        for ccd in range(len(exposure.ccds)):
            here = exposure.on(ccd)
            there = slice(here.start - first, here.stop - first)
            w0[there], w[there] = camera.distorted(ccd, detections.x[here], detections.y[here])
        return w0, pointing.plane(camera, w0, w)

    def sky(self, exposure: Exposure, detections: Detections) -> tuple[Plane, Array, Array]:
        """Of its detections: the focal plane without distortion (arcsec), right ascension, declination (deg)."""
        w0, plane = self.planes(exposure, detections)
        ra, dec = deprojected(self.pointings[exposure.number].crval, plane.real / 3600, plane.imag / 3600)
        return w0, ra, dec

    def tangent(self, exposure: Exposure, ccd: int) -> Tangent:
        """The WCS of one CCD, exact. All CCDs of an exposure share their crval."""
        camera, pointing = self.camera(exposure.number), self.pointings[exposure.number]
        shift, turn, shear = camera.place[ccd]
        # The linear part from offsets z to the tangent plane; its matrix and the pixel that it takes to crval.
        one = pointing.turn * turn + pointing.shear * np.conj(shear)
        other = pointing.turn * shear + pointing.shear * np.conj(turn)
        zero = pointing.shift + pointing.turn * shift + pointing.shear * np.conj(shift)
        cd = np.array([[(one + other).real, (other - one).imag], [(one + other).imag, (one - other).real]]) / 3600
        middle = np.array([(side + 1) / 2 for side in camera.sizes[ccd]])
        crpix = middle - np.linalg.solve(cd, np.array([zero.real, zero.imag]) / 3600)
        pv = _pv(camera, pointing, ccd, cd, crpix)
        return Tangent(pointing.crval, (float(crpix[0]), float(crpix[1])), cd, pv)


def _pv(
    camera: Camera, pointing: Pointing, ccd: int, cd: Array, crpix: Array
) -> tuple[dict[int, float], dict[int, float]]:
    """The polynomial of the tangent plane, by a fit to points of the CCD that is exact but for rounding."""
    width, height = camera.sizes[ccd]
    x, y = (grid.ravel() for grid in np.meshgrid(np.linspace(0.5, width + 0.5, 12), np.linspace(0.5, height + 0.5, 12)))
    plane = pointing.plane(camera, *camera.distorted(ccd, x, y)) / 3600
    linear = (np.column_stack([x, y]) - crpix) @ cd.T
    scale = float(np.abs(linear).max())
    degree = max(camera.degree, camera.ccd_degree if camera.own_terms else 1, 2 if pointing.bend.any() else 1)
    numbers = [n for n, each in TERMS.items() if sum(each) <= degree]
    found = []
    for values, first, second in ((plane.real, 0, 1), (plane.imag, 1, 0)):
        u, v = linear[:, first] / scale, linear[:, second] / scale
        design = powers(u, v, tuple(TERMS[n] for n in numbers))
        solution, *_ = np.linalg.lstsq(design, values, rcond=None)
        found.append({n: float(a) / scale ** sum(TERMS[n]) for n, a in zip(numbers, solution, strict=True)})
    return found[0], found[1]


def rms(values: Array | Plane | Sequence[float]) -> float:
    """NaN of nothing."""
    array = np.asarray(values)
    return float(np.sqrt(np.mean(np.abs(array) ** 2))) if len(array) else float("nan")

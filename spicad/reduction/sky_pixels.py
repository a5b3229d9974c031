"""Paints what sky_truth.py planted into the pixels of one CCD of one exposure.

Star fluxes are as after a photometric flat-field: the same ADU wherever a star falls on a CCD.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from spicad.reduction.sky_truth import (
    MOFFAT_BETA,
    NOISE,
    SATURATION_ADU,
    Array,
    Ccd,
    Exposure,
    Truth,
    bad_pixels_of,
    cosmics_of,
    projected,
    stream,
    turned,
)

CLIPPED_ADU = 64000.0
STAMP_CHUNK_PIXELS = 1_000_000


@dataclass(frozen=True)
class CcdImage:
    """The pixels, and what of the truth fell on them. `light` is before bad pixels and saturation, for raw frames."""

    pixels: NDArray[np.uint16]
    light: NDArray[np.float32]
    star_ids: NDArray[np.int64]
    x: Array
    y: Array
    flux_adu: Array
    saturated: NDArray[np.bool_]
    cosmic_x: NDArray[np.int64]
    cosmic_y: NDArray[np.int64]
    cosmic_adu: Array

    def without_pixels(self) -> CcdImage:
        return replace(self, pixels=self.pixels[:0, :0], light=self.light[:0, :0])


def exposed(truth: Truth, exposure: Exposure, ccd: Ccd) -> CcdImage:
    options, sources, size = truth.options, truth.sources, truth.camera.size
    x, y = positions(truth, exposure, ccd)
    noise = math.sqrt(exposure.sky_adu / ccd.gain + (ccd.rdnoise_e / ccd.gain) ** 2)
    flux = 10 ** (0.4 * (exposure.zeropoint + ccd.dzp - sources.mag[exposure.filter]))
    fwhm = np.hypot(exposure.seeing_arcsec, sources.fwhm_arcsec) / options.scale
    e1, e2 = sources.e1 + exposure.e1, sources.e2 + exposure.e2
    near = (sources.field == exposure.field) & (np.abs(x - size / 2) < size) & (np.abs(y - size / 2) < size)
    light = moffats(size, x[near], y[near], flux[near], fwhm[near], e1[near], e2[near], 0.02 * noise)
    light += exposure.sky_adu
    if exposure.trail:
        light += satellite_trail(truth, exposure, ccd, 10 * noise)
    on = np.flatnonzero(
        near & sources.star & (np.abs(x - (size + 1) / 2) < size / 2) & (np.abs(y - (size + 1) / 2) < size / 2)
    )
    peak = light[np.rint(y[on] - 1).astype(int), np.rint(x[on] - 1).astype(int)]
    cosmics = cosmics_of(truth, exposure, ccd)
    noisy = noisy_light(truth, exposure, ccd, light, cosmics)
    pixels = read_out(truth, ccd, noisy)
    return CcdImage(pixels, noisy, on, x[on], y[on], flux[on], peak >= SATURATION_ADU, *cosmics)


def positions(truth: Truth, exposure: Exposure, ccd: Ccd) -> tuple[Array, Array]:
    """Where each source falls on `ccd` (FITS pixels, from 1,1), on it or not."""
    xi, eta = projected(exposure.ra, exposure.dec, truth.sources.ra, truth.sources.dec)
    u, v = truth.camera.focal_plane(*turned(xi, eta, exposure.rotation_deg))
    return truth.camera.on_ccd(ccd, u, v)


def noisy_light(
    truth: Truth,
    exposure: Exposure,
    ccd: Ccd,
    light: NDArray[np.float32],
    cosmics: tuple[NDArray[np.int64], NDArray[np.int64], Array],
) -> NDArray[np.float32]:
    """Noise and cosmic rays."""
    rng = stream(truth.options, NOISE, exposure.number, ccd.number)
    noise = np.sqrt(light / np.float32(ccd.gain) + np.float32((ccd.rdnoise_e / ccd.gain) ** 2))
    image = light + noise * rng.standard_normal(light.shape, dtype=np.float32)
    column, row, adu = cosmics
    image[row, column] += adu
    return image


def read_out(truth: Truth, ccd: Ccd, light: NDArray[np.float32]) -> NDArray[np.uint16]:
    """Bad pixels, saturation."""
    bad, hot = bad_pixels_of(truth.options, ccd)
    image = light.copy()
    image[bad & (hot == 0)] = 0
    image += hot
    return np.rint(image.clip(0, CLIPPED_ADU)).astype(np.uint16)


def satellite_trail(truth: Truth, exposure: Exposure, ccd: Ccd, height_adu: float) -> NDArray[np.float32]:
    """A straight line over the focal plane, as wide as the seeing."""
    centre, sign = (truth.camera.size + 1) / 2, -1 if ccd.turned else 1
    index = np.arange(1, truth.camera.size + 1) - centre
    angle = math.radians(exposure.trail_angle_deg)
    u, v = sign * index[None, :] + ccd.u0, sign * index[:, None] + ccd.v0
    distance = u * math.sin(angle) - v * math.cos(angle) - exposure.trail_offset_pixels
    sigma = exposure.seeing_arcsec / truth.options.scale / 2.355
    return (height_adu * np.exp(-0.5 * (distance / sigma) ** 2)).astype(np.float32)


def moffats(
    size: int, x: Array, y: Array, flux: Array, fwhm: Array, e1: Array, e2: Array, faintest_adu: float
) -> NDArray[np.float32]:
    """An image of elliptic Moffat profiles, each drawn out to where it is below `faintest_adu` a pixel."""
    alpha = fwhm / (2 * math.sqrt(2 ** (1 / MOFFAT_BETA) - 1))
    peak = flux * (MOFFAT_BETA - 1) / (np.pi * alpha**2) * np.sqrt(1 - e1**2 - e2**2)
    reach = alpha * np.clip((peak / faintest_adu) ** (0.5 / MOFFAT_BETA), 5.0, 40.0) / np.sqrt(1 - np.hypot(e1, e2))
    half = (8 * np.ceil(reach / 8)).astype(int).clip(max=size)
    seen = (x > -half) & (x < size + half) & (y > -half) & (y < size + half)
    margin = 2 * int(half.max(initial=8)) + 2
    canvas = np.zeros((size + 2 * margin, size + 2 * margin), np.float32)
    for h in np.unique(half[seen]):
        members = np.flatnonzero(seen & (half == h))
        for chunk in np.array_split(members, 1 + len(members) * (2 * h) ** 2 // STAMP_CHUNK_PIXELS):
            _stamp(canvas, margin, int(h), *(values[chunk] for values in (x, y, alpha, peak, e1, e2)))
    return canvas[margin:-margin, margin:-margin].copy()


def _stamp(
    canvas: NDArray[np.float32],
    margin: int,
    half: int,
    x: Array,
    y: Array,
    alpha: Array,
    peak: Array,
    e1: Array,
    e2: Array,
) -> None:
    column, row = np.rint(x).astype(int), np.rint(y).astype(int)
    offsets = np.arange(-half, half + 1, dtype=np.float32)
    inverse = (1 / alpha[:, None, None]).astype(np.float32)
    dx = (offsets - (x - column)[:, None]).astype(np.float32)[:, None, :] * inverse
    dy = (offsets - (y - row)[:, None]).astype(np.float32)[:, :, None] * inverse
    a, b, c = ((q[:, None, None]).astype(np.float32) for q in (1 - e1, 1 + e1, -2 * e2))
    stamps = np.zeros(np.broadcast_shapes(dx.shape, dy.shape), np.float32)
    # Light over a pixel by 2 x 2 Gauss-Legendre points: good to 0.1 % of the peak at a FWHM of 2.5 pixels.
    for sx in (-0.288675, 0.288675):
        for sy in (-0.288675, 0.288675):
            px, py = dx + np.float32(sx) * inverse, dy + np.float32(sy) * inverse
            t = 1 + a * px * px + b * py * py + c * px * py
            stamps += np.square(np.square(1 / t))  # t to the power of -MOFFAT_BETA, 20 times quicker
    stamps *= (0.25 * peak[:, None, None]).astype(np.float32)
    for stamp, i, j in zip(stamps, column - 1 + margin, row - 1 + margin, strict=True):
        canvas[j - half : j + half + 1, i - half : i + half + 1] += stamp

"""Raw frames of the made sky: what its camera reads out before any pre-processing, and the calibrations for it.

A raw frame is the very exposure that sky_pixels.py painted, noise included, times the flat field, under dark current,
crosstalk, bias pattern and overscan level. So a perfect pre-processing gives the pre-processed exposure back.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spicad.reduction.sky_truth import FIRST_MJD, FIRST_NUMBER, RAW, Camera, Ccd, Truth, bad_pixels_of, stream

Pixels = NDArray[np.float32]
Counts = NDArray[np.uint16]

BIASES, DARKS, FLATS = 5, 3, 5  # flats of each filter
OVERSCAN = 32  # columns before the first of the data
LEVEL_ADU = 1000.0
DARK_S = 120.0
DARK_E_S = 0.02
FLAT_S = 3.0
FLAT_ADU = 22000.0
CROSSTALK = 3e-4  # of its neighbour's light on each CCD
CLIPPED_ADU = 65535.0
AFTERNOON_D = 0.2  # calibrations are taken so long before the first exposure

# Streams of random numbers below RAW: the camera's, those of one frame on one CCD.
PATTERN, GRAINS, DUST, RESPONSE, FRAME = range(5)


@dataclass(frozen=True)
class Calibration:
    """A bias, dark or flat; `filter` is "" but for flats. `adu` is the lamp's light."""

    number: int
    kind: str
    filter: str
    exptime_s: float
    mjd: float
    adu: float

    @property
    def name(self) -> str:
        return f"{self.number}{self.kind[0].lower()}"


def calibrations_of(truth: Truth) -> tuple[Calibration, ...]:
    filters = truth.options.filters
    kinds = [("BIAS", "", 0.0)] * BIASES + [("DARK", "", DARK_S)] * DARKS
    kinds += [("FLAT", name, FLAT_S) for name in filters for _ in range(FLATS)]
    first = FIRST_NUMBER + len(truth.exposures)
    found = []
    for index, (kind, name, exptime) in enumerate(kinds):
        rng = stream(truth.options, RAW, FRAME, first + index)
        light = FLAT_ADU * rng.uniform(0.9, 1.1) if kind == "FLAT" else 0.0
        mjd = FIRST_MJD - AFTERNOON_D + index * 60 / 86400
        found.append(Calibration(first + index, kind, name, exptime, mjd, light))
    return tuple(found)


def response_of(truth: Truth, ccd: Ccd) -> float:
    """How sensitive a CCD is beside the others, whose median is 1."""
    each = stream(truth.options, RAW, RESPONSE).uniform(0.9, 1.1, truth.options.ccds)
    return float(each[ccd.number] / np.median(each))


def flat_of(truth: Truth, ccd: Ccd, filter_: str) -> Pixels:
    """Vignetting, grains and dust; its median is the CCD's response."""
    size, camera = truth.options.size, truth.camera
    grains = stream(truth.options, RAW, GRAINS, ccd.number)
    flat = 1 + 0.008 * grains.standard_normal((size, size), dtype=np.float32)
    flat *= _vignetting(camera, ccd)
    dust = stream(truth.options, RAW, DUST, ccd.number, truth.options.filters.index(filter_))
    y, x = np.ogrid[:size, :size]
    for _ in range(4):
        radius, depth = dust.uniform(6.0, max(8.0, 0.04 * size)), dust.uniform(0.02, 0.06)
        distance = np.hypot(x - dust.uniform(0, size), y - dust.uniform(0, size))
        flat *= (1 - depth * np.exp(-(((distance - radius) / (0.3 * radius)) ** 2))).astype(np.float32)
    return (flat * (response_of(truth, ccd) / np.median(flat))).astype(np.float32)


def _vignetting(camera: Camera, ccd: Ccd) -> Pixels:
    sign, centre = -1 if ccd.turned else 1, (camera.size - 1) / 2
    index = sign * (np.arange(camera.size) - centre)
    r2 = (index[None, :] + ccd.u0) ** 2 + (index[:, None] + ccd.v0) ** 2
    return (1 - 0.08 * r2 / (camera.half_u**2 + camera.half_v**2)).astype(np.float32)


def pattern_of(truth: Truth, ccd: Ccd) -> Pixels:
    """What is left of a bias below its overscan level: columns, and a glow of the amplifier in a corner (ADU)."""
    size = truth.options.size
    rng = stream(truth.options, RAW, PATTERN, ccd.number)
    columns = rng.normal(0.0, 3.0, size)
    y, x = np.ogrid[:size, :size]
    return (columns[None, :] + 12.0 * np.exp(-(x + y) / (0.15 * size))).astype(np.float32)


def dark_of(truth: Truth, ccd: Ccd) -> Pixels:
    """Dark current without that of hot pixels, electrons a second."""
    slope = np.linspace(0.5, 1.5, truth.options.size, dtype=np.float32)
    return DARK_E_S * np.broadcast_to(slope[:, None], (truth.options.size,) * 2)


def raw_exposure(
    truth: Truth, number: int, filter_: str, exptime_s: float, lights: Sequence[Pixels]
) -> Iterator[Counts]:
    """The raw frame of each CCD, from what fell on all of them (ADU of the pre-processed exposure, noise included)."""
    flats = [flat_of(truth, ccd, filter_) for ccd in truth.camera.ccds]
    seen = [light * flat for light, flat in zip(lights, flats, strict=True)]
    for ccd, light in zip(truth.camera.ccds, seen, strict=True):
        bad, hot = bad_pixels_of(truth.options, ccd)
        dead = bad & (hot == 0)
        yield _read_out(truth, number, ccd, np.where(dead, 0, light + _ghost(seen, ccd)), hot, exptime_s)


def raw_calibration(truth: Truth, frame: Calibration) -> Iterator[Counts]:
    size = truth.options.size
    for ccd in truth.camera.ccds:
        bad, hot = bad_pixels_of(truth.options, ccd)
        rng = stream(truth.options, RAW, FRAME, frame.number, ccd.number, 1)
        light = rng.normal(0.0, ccd.rdnoise_e / ccd.gain, (size, size)).astype(np.float32)
        if frame.adu:
            lamp = frame.adu * flat_of(truth, ccd, frame.filter)
            lamp += np.sqrt(lamp / ccd.gain) * rng.standard_normal(lamp.shape, dtype=np.float32)
            light += np.where(bad & (hot == 0), 0, lamp)
        yield _read_out(truth, frame.number, ccd, light, hot, frame.exptime_s)


def crosstalk_lines(camera: Camera) -> Iterator[str]:
    """Source, victim, and the share of the source's light that appears on the victim."""
    for ccd in camera.ccds:
        if (source := ccd.number ^ 1) < len(camera.ccds):
            yield f"{camera.ccds[source].name} {ccd.name} {CROSSTALK}"


def _ghost(seen: Sequence[Pixels], ccd: Ccd) -> Pixels | float:
    source = ccd.number ^ 1
    return np.float32(CROSSTALK) * seen[source].clip(0, CLIPPED_ADU) if source < len(seen) else 0.0


def _read_out(truth: Truth, number: int, ccd: Ccd, light: Pixels, hot: Pixels, exptime_s: float) -> Counts:
    """Dark current, bias pattern, overscan; counts of 16 bits."""
    size = truth.options.size
    rng = stream(truth.options, RAW, FRAME, number, ccd.number)
    level = LEVEL_ADU + 40.0 * (ccd.number % 5) + rng.normal(0.0, 4.0)
    drift = 2.0 * np.sin(2 * math.pi * (np.arange(size) / size + rng.uniform()))
    frame = np.empty((size, OVERSCAN + size), np.float32)
    frame[:, :OVERSCAN] = rng.normal(0.0, ccd.rdnoise_e / ccd.gain, (size, OVERSCAN))
    dark = rng.poisson(dark_of(truth, ccd) * exptime_s).astype(np.float32) / ccd.gain
    frame[:, OVERSCAN:] = light + dark + hot * (exptime_s / DARK_S) + pattern_of(truth, ccd)
    frame += (level + drift).astype(np.float32)[:, None]
    return np.rint(frame.clip(0, CLIPPED_ADU)).astype(np.uint16)

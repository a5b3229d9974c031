"""Judges the pixels of a CCD: those that no tool can make anything of, and those worth a word.

It sees pixels as they are stored, a strip at a time, and knows nothing of files.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

STRIP = 4 << 20  # pixels
SAMPLE = 200_000  # pixels, for the median and the noise
SATURATED = 0.8  # of all pixels
STANDS_OUT = 6.0  # noise sigmas; 8 million pixels of pure noise reach 5.4
FEWEST_BRIGHT = 5

Pixels = NDArray[Any]


@dataclass(frozen=True)
class Verdict:
    """`hopeless` says why no tool can use the CCD, `odd` what is worth a word; '' when nothing is."""

    hopeless: str = ""
    odd: str = ""


def judged(
    pixels: Pixels, *, saturate: float | None = None, blank: int | None = None, scale: float = 1.0, zero: float = 0.0
) -> Verdict:
    """`saturate` and `blank` are in the units of the stored pixels; true values are `scale` * stored + `zero`."""
    total = pixels.size
    low, high, valid, full = _range(pixels, saturate, blank)
    if valid == 0:
        return Verdict(hopeless="all its pixels are NaN")
    limit = np.iinfo(pixels.dtype).max if pixels.dtype.kind in "iu" else None
    if full >= SATURATED * total or (low == high and limit is not None and low == limit):
        share = 1.0 if low == high else full / total
        return Verdict(hopeless=f"{share:.0%} of its pixels are saturated")
    if low == high:
        value = low * scale + zero
        return Verdict(hopeless=f"all its pixels {'are zero' if value == 0 else f'have the same value, {value:g}'}")
    odd = []
    if valid < total:
        odd.append(f"{1 - valid / total:.1%} of its pixels are NaN or infinite")
    if _bright(pixels, blank) < FEWEST_BRIGHT:
        odd.append("nothing stands out from its noise: no sources are to be expected")
    return Verdict(odd="; ".join(odd))


def _strips(pixels: Pixels) -> Iterator[Pixels]:
    """The pixels in native byte order, some rows at a time."""
    rows = max(1, STRIP // pixels.shape[-1])
    for start in range(0, pixels.shape[0], rows):
        strip = pixels[start : start + rows]
        yield strip.astype(strip.dtype.newbyteorder("="), copy=False)


def _valid(strip: Pixels, blank: int | None) -> Pixels | None:
    """A mask of the pixels that count; None for all."""
    if strip.dtype.kind == "f":
        mask = np.isfinite(strip)
    elif blank is not None:
        mask = strip != blank
    else:
        return None
    return None if mask.all() else mask


def _range(pixels: Pixels, saturate: float | None, blank: int | None) -> tuple[float, float, int, int]:
    low, high, valid, full = np.inf, -np.inf, 0, 0
    for strip in _strips(pixels):
        mask = _valid(strip, blank)
        counted = strip if mask is None else strip[mask]
        if not counted.size:
            continue
        low, high, valid = min(low, counted.min()), max(high, counted.max()), valid + counted.size
        if saturate is not None and counted.max() >= saturate:
            full += int(np.count_nonzero(counted >= saturate))
    return float(low), float(high), valid, full


def _bright(pixels: Pixels, blank: int | None) -> int:
    """How many pixels stand out, as far as needed."""
    stride = max(1, int(np.sqrt(pixels.size / SAMPLE)))
    sample = pixels[::stride, ::stride]
    mask = _valid(sample, blank)
    sample = np.asarray(sample if mask is None else sample[mask], dtype=np.float64)
    middle = np.median(sample)
    noise = 1.4826 * np.median(np.abs(sample - middle))
    if noise == 0:
        return FEWEST_BRIGHT
    found = 0
    for strip in _strips(pixels):
        mask = _valid(strip, blank)
        found += int(np.count_nonzero((strip if mask is None else strip[mask]) > middle + STANDS_OUT * noise))
        if found >= FEWEST_BRIGHT:
            break
    return found

"""A FITS image as a small PNG: sampled rows read by position, percentiles, an arcsinh curve. No numpy, little memory.

The sky is shown as it stands in the file: first row at the bottom. The CCDs of a mosaic lie beside each other.
"""

from __future__ import annotations

import io
import math
import os
import sys
from array import array
from collections.abc import Sequence
from typing import Any

from spicad import fits
from spicaweb.capsules import Gone

CODES = {8: "B", 16: "h", 32: "i", 64: "q", -32: "f", -64: "d"}
SIDE = 640
MOST_IMAGES = 64
STEPS = 4096  # of the curve
SOFTNESS = 0.08  # where the arcsinh turns from straight to logarithmic, as a share of the range


def preview(descriptor: int, side: int = SIDE) -> bytes:
    """PNG of at most `side` pixels. Raises Gone when there is no image in it that can be shown."""
    from PIL import Image

    images = _images(descriptor)
    columns = math.ceil(math.sqrt(len(images)))
    lines = -(-len(images) // columns)
    width, height = max(hdu.shape[0] for hdu in images), max(hdu.shape[1] for hdu in images)
    step = max(1, math.ceil(max(width * columns, height * lines) / side))
    sampled = [_sampled(descriptor, hdu, step) for hdu in images]
    low, high = _range([row for rows in sampled for row in rows])
    curve = _curve()
    gap = 2 if len(images) > 1 else 0
    cell = (-(-width // step) + gap, -(-height // step) + gap)
    picture = Image.new("L", (cell[0] * columns - gap, cell[1] * lines - gap), 255)
    for number, rows in enumerate(sampled):
        tile = _tile(rows, low, high, curve)
        picture.paste(tile, ((number % columns) * cell[0], (lines - 1 - number // columns) * cell[1]))
    packed = io.BytesIO()
    picture.save(packed, "PNG")
    return packed.getvalue()


def _images(descriptor: int) -> list[fits.Hdu]:
    try:
        file = fits.scan(descriptor, keys=("BSCALE", "BZERO", "BLANK"))
    except fits.FitsProblem as problem:
        raise Gone(problem.what) from None
    if file.packing != "fits":
        raise Gone("a packed image is not shown here; fetch it.")
    found = [hdu for hdu in file.hdus if hdu.is_image and len(hdu.shape) >= 2 and hdu.shape[0] > 1]
    if not found:
        raise Gone("there is no image in this file.")
    return found[:MOST_IMAGES]


def _sampled(descriptor: int, hdu: fits.Hdu, step: int) -> list[array[float]]:
    """Every `step`th pixel of every `step`th row, the bottom row first; of a cube its first plane."""
    width, height = hdu.shape[:2]
    code = CODES[hdu.bitpix]
    bytes_of_row = width * array(code).itemsize
    rows = []
    for number in range(step // 2 if height > step else 0, height, step):
        raw = os.pread(descriptor, bytes_of_row, hdu.data_offset + number * bytes_of_row)
        if len(raw) < bytes_of_row:
            raise Gone("the file ends within its pixels.")
        pixels = array(code, raw)[::step]
        if sys.byteorder == "little":
            pixels.byteswap()
        rows.append(array("d", pixels))
    return rows


def _range(rows: Sequence[array[float]]) -> tuple[float, float]:
    """From a little below the background to the stars: percentiles of pixels that are finite and not empty sky."""
    thin = max(1, sum(map(len, rows)) // 40_000)
    values = sorted(value for row in rows for value in row[::thin] if value != 0 and math.isfinite(value))
    if not values:
        return 0.0, 1.0
    low, high = values[int(0.02 * (len(values) - 1))], values[int(0.995 * (len(values) - 1))]
    return (low, high) if high > low else (min(low, 0.0), max(low, 0.0) or low + 1.0)


def _curve() -> bytes:
    top = math.asinh(1 / SOFTNESS)
    return bytes(round(255 * math.asinh(at / (STEPS - 1) / SOFTNESS) / top) for at in range(STEPS))


def _tile(rows: Sequence[array[float]], low: float, high: float, curve: bytes) -> Any:
    from PIL import Image

    factor, most = (STEPS - 1) / (high - low), STEPS - 1.0
    # max(0.0, x) is 0.0 for a NaN too, since it compares with nothing.
    shades = [bytes(curve[int(min(most, max(0.0, (value - low) * factor)))] for value in row) for row in reversed(rows)]
    return Image.frombytes("L", (len(rows[0]), len(rows)), b"".join(shades))

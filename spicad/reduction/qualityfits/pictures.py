"""The previews: the exposure and its weight map as PNG, CCDs where mosaic.py has them, each with its name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from spicad.reduction.qualityfits.ccd import CcdResult
from spicad.reduction.qualityfits.mosaic import Layout

BACKDROP, LINES, TEXT, VOID = 24, 120, 255, 70  # grey, as the sky is: a third of the bytes of colour
STRETCH = 12.0  # of the arcsinh: how much faint light is lifted
NAMED_FROM = 28  # pixels of a CCD's side


def write_previews(results: Sequence[CcdResult], layout: Layout, size: int, preview: Path, weight: Path) -> None:
    layout = layout.scaled(size)
    low, high = _range([each.preview for each in results if not each.problem])

    def stretched(values: NDArray[np.float32]) -> NDArray[np.float64]:
        share = np.clip((values - low) / max(high - low, 1e-30), 0, 1)
        return np.asarray(np.arcsinh(STRETCH * share) / np.arcsinh(STRETCH))

    top = max([1e-30, *(float(each.weight_preview.max()) for each in results if each.weight_preview is not None)])
    _write(results, layout, preview, lambda result: result.preview, stretched)
    _write(results, layout, weight, lambda result: result.weight_preview, lambda values: np.clip(values / top, 0, 1))


def _range(previews: list[NDArray[np.float32] | None]) -> tuple[float, float]:
    """From a little below the sky to where one pixel in 300 is brighter."""
    seen = [each.ravel()[:: max(1, each.size // 20000)] for each in previews if each is not None and each.size]
    if not seen:
        return 0.0, 1.0
    values = np.concatenate(seen)
    values = values[np.isfinite(values)]
    if not len(values):
        return 0.0, 1.0
    low, middle, high = np.percentile(values, [1, 50, 99.7])
    return float(low - 0.5 * (middle - low)), float(max(high, middle + 3 * (middle - low)))


def _write(
    results: Sequence[CcdResult],
    layout: Layout,
    path: Path,
    of: Callable[[CcdResult], NDArray[np.float32] | None],
    shown: Callable[[NDArray[np.float32]], NDArray[Any]],
) -> None:
    picture = Image.new("L", (max(1, round(layout.width)), max(1, round(layout.height))), BACKDROP)
    draw = ImageDraw.Draw(picture)
    for number, each in enumerate(results):
        values = of(each)
        corners = layout.corners(number, each.ccd)
        if values is None or each.is_void:
            draw.polygon(corners, fill=VOID)
            for one, other in ((0, 2), (1, 3)):
                draw.line([corners[one], corners[other]], fill=LINES)
        else:
            _paste(picture, layout, number, each, shown(np.nan_to_num(values)))
    for number, each in enumerate(results):
        corners = layout.corners(number, each.ccd)
        draw.polygon(corners, outline=LINES)
        _name(draw, corners, each.ccd.name)
    picture.save(path, compress_level=3)  # noise hardly packs better with more


def _paste(picture: Image.Image, layout: Layout, number: int, result: CcdResult, shares: NDArray[Any]) -> None:
    """The CCD's reduced pixels, row 0 at its bottom, by the affine map from the picture back to them."""
    ccd = result.ccd
    shrink_x, shrink_y = ccd.width / shares.shape[1], ccd.height / shares.shape[0]
    corners = np.array(layout.corners(number, ccd))
    left, top = (int(np.floor(side)) for side in corners.min(axis=0))
    right, bottom = (int(np.ceil(side)) for side in corners.max(axis=0))
    size = max(1, right - left), max(1, bottom - top)
    m = layout.matrices[number]
    back = np.linalg.inv(m[:, :2])
    start = back @ (np.array([left, top]) - m[:, 2]) - 0.5  # of the picture's corner, in pixels from the CCD's corner
    data = (
        *(back[0] / shrink_x),
        start[0] / shrink_x,
        *(back[1] / shrink_y),
        start[1] / shrink_y,
    )
    grey = Image.fromarray(np.rint(255 * shares).astype(np.uint8))
    here = Image.new("L", grey.size, 255)
    mapped = grey.transform(size, Image.Transform.AFFINE, data, Image.Resampling.BILINEAR)
    covered = here.transform(size, Image.Transform.AFFINE, data, Image.Resampling.NEAREST)
    picture.paste(mapped, (left, top), covered)


def _name(draw: ImageDraw.ImageDraw, corners: list[tuple[float, float]], name: str) -> None:
    left, top = (min(corner[axis] for corner in corners) for axis in (0, 1))
    right = max(corner[0] for corner in corners)
    if right - left < NAMED_FROM:
        return
    plain = "".join(sign for sign in name if " " <= sign <= "~")[:12]
    size = max(9, min(14, int((right - left) / 7)))
    font = ImageFont.load_default(size)
    draw.text((left + 4, top + 3), plain, fill=TEXT, font=font, stroke_width=2, stroke_fill=0)

"""Where each CCD lies in a picture of the whole: by its WCS, north up, east to the left; else by DETSEC; else in rows.

Pictures and plots share it, so that a CCD is at the same place in all of them. A test proves orientation and identity.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spicad.reduction.qualityfits.exposure import Ccd
from spicad.reduction.tangent import projected

Array = NDArray[np.float64]

MOST_EMPTY = 8.0  # area of the whole over that of its CCDs: beyond, a WCS is wrong
GAP = 0.04  # of a CCD's side, where they are laid in rows


@dataclass(frozen=True)
class Layout:
    """`matrices` take a CCD's pixels (x, y, 1) to the picture's units, from its left and its top."""

    width: float
    height: float
    matrices: tuple[Array, ...]  # (2, 3) each
    unit_arcsec: float | None  # of a unit on the sky; None where the picture is not one of the sky

    def at(self, number: int, x: Array | float, y: Array | float) -> tuple[Array, Array]:
        """Where pixels of the CCD lie."""
        m = self.matrices[number]
        x_, y_ = np.asarray(x, float), np.asarray(y, float)
        return m[0, 0] * x_ + m[0, 1] * y_ + m[0, 2], m[1, 0] * x_ + m[1, 1] * y_ + m[1, 2]

    def corners(self, number: int, ccd: Ccd) -> list[tuple[float, float]]:
        x, y = self.at(number, *_corners(ccd))
        return list(zip(map(float, x), map(float, y), strict=True))

    def scaled(self, longer_side: float) -> Layout:
        """The same with another unit."""
        factor = longer_side / max(self.width, self.height)
        unit = None if self.unit_arcsec is None else self.unit_arcsec / factor
        return Layout(self.width * factor, self.height * factor, tuple(m * factor for m in self.matrices), unit)


def layout_of(ccds: Sequence[Ccd], centre: tuple[float, float] | None) -> Layout:
    found = _by_sky(ccds, centre) if centre is not None else None
    return found or _by_detector(ccds) or _in_rows(ccds)


def _corners(ccd: Ccd) -> tuple[Array, Array]:
    """Lower left, lower right, upper right, upper left."""
    right, top = ccd.width + 0.5, ccd.height + 0.5
    return np.array([0.5, right, right, 0.5]), np.array([0.5, 0.5, top, top])


def _by_sky(ccds: Sequence[Ccd], centre: tuple[float, float]) -> Layout | None:
    """On the tangent plane, arcsec; None when a CCD has no WCS or they lie absurdly far apart."""
    matrices: list[Array] = []
    for ccd in ccds:
        if ccd.tangent is None:
            return None
        x, y = _corners(ccd)
        xi, eta = projected(centre, *ccd.tangent.sky(x, y))
        if not (np.isfinite(xi).all() and np.isfinite(eta).all()):
            return None
        design = np.column_stack([x, y, np.ones(4)])
        plane = 3600 * np.column_stack([-xi, -eta])  # to the right is west, down is south
        matrices.append(np.asarray(np.linalg.lstsq(design, plane, rcond=None)[0].T, float))
    area = sum(
        abs(float(np.linalg.det(m[:, :2]))) * ccd.width * ccd.height for m, ccd in zip(matrices, ccds, strict=True)
    )
    found = _from_corner(ccds, matrices, 1.0)
    return found if area > 0 and found.width * found.height < MOST_EMPTY * area else None


def _by_detector(ccds: Sequence[Ccd]) -> Layout | None:
    """By DETSEC, which counts pixels of the mosaic without its gaps; backwards where a CCD is turned."""
    matrices = []
    for ccd in ccds:
        if ccd.detsec is None:
            return None
        x1, x2, y1, y2 = ccd.detsec
        along_x = (x2 - x1) / max(ccd.width - 1, 1)
        along_y = (y2 - y1) / max(ccd.height - 1, 1)
        matrices.append(np.array([[along_x, 0.0, x1 - along_x], [0.0, -along_y, -(y1 - along_y)]]))
    area = sum(ccd.width * ccd.height for ccd in ccds)
    found = _from_corner(ccds, matrices, None)
    return found if found.width * found.height < MOST_EMPTY * area else None


def _in_rows(ccds: Sequence[Ccd]) -> Layout:
    """As they stand in the file, from the top left, none turned."""
    columns = math.ceil(math.sqrt(len(ccds)))
    wide, tall = (max(getattr(ccd, side) for ccd in ccds) * (1 + GAP) for side in ("width", "height"))
    matrices = [
        np.array([[1.0, 0.0, number % columns * wide], [0.0, -1.0, number // columns * tall + ccd.height + 1]])
        for number, ccd in enumerate(ccds)
    ]
    return _from_corner(ccds, matrices, None)


def _from_corner(ccds: Sequence[Ccd], matrices: Sequence[Array], unit_arcsec: float | None) -> Layout:
    """Moved so that the picture begins at 0, 0."""
    points = np.concatenate(
        [(m[:, :2] @ np.array(_corners(ccd)) + m[:, 2:]).T for m, ccd in zip(matrices, ccds, strict=True)]
    )
    low, high = points.min(axis=0), points.max(axis=0)
    moved = [np.column_stack([m[:, :2], m[:, 2] - low]) for m in matrices]
    return Layout(float(high[0] - low[0]), float(high[1] - low[1]), tuple(moved), unit_arcsec)

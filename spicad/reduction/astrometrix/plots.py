"""Draws a solution as SVG: residuals over the focal plane and against magnitude, the pixel scale, the distortion.

SVG is written here by hand: four plain pictures are not worth a plotting library in every step's memory.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path
from xml.sax.saxutils import escape

import numpy as np

from spicad.reduction.astrometrix.exposures import Exposure
from spicad.reduction.astrometrix.model import Camera
from spicad.reduction.astrometrix.products import folder
from spicad.reduction.astrometrix.settings import Settings
from spicad.reduction.astrometrix.solve import Solved
from spicad.reduction.astrometrix.verdict import internal_residuals

SIDE, MARGIN = 640, 70
CELLS = 12  # of the focal plane, a side
MOST_POINTS = 4000
INK, SECOND, GRID = "#1f3b5c", "#c1440e", "#cccccc"


def write(solved: Solved, settings: Settings) -> list[Path]:
    """Four pictures for each camera. Returns their paths."""
    if solved.problem is None or not settings.is_set("WRITE_PLOTS"):
        return []
    here = folder(settings) or Path(".")
    written = []
    for index, camera in enumerate(solved.problem.model.cameras):
        number = f"-{index + 1}" if len(solved.problem.model.cameras) > 1 else ""
        pictures = {
            "residuals": _residuals(solved, camera),
            "magnitude": _magnitude(solved, camera),
            "scale": _scale(solved, camera),
            "distortion": _distortion(camera),
        }
        for name, picture in pictures.items():
            path = here / f"{settings.word('PLOT_NAME')}{number}-{name}.svg"
            path.write_text(picture, encoding="utf-8")
            written.append(path)
    return written


# Canvas


def _svg(
    title: str, below: str, parts: Iterable[str], extent: tuple[float, float, float, float], labels: Sequence[str]
) -> str:
    """`extent`: left, right, bottom, top in the units of the axes."""
    left, right, bottom, top = extent
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {SIDE + 2 * MARGIN} {SIDE + 2 * MARGIN}"'
        ' font-family="sans-serif" font-size="14">',
        '<rect width="100%" height="100%" fill="white"/>',
        f'<rect x="{MARGIN}" y="{MARGIN}" width="{SIDE}" height="{SIDE}" fill="none" stroke="black"/>',
        _text(MARGIN, MARGIN - 40, title, 17),
        _text(MARGIN, MARGIN - 16, below, 12),
        _text(MARGIN + SIDE / 2, MARGIN * 2 + SIDE - 14, labels[0], 14, "middle"),
        f'<g transform="rotate(-90 18 {MARGIN + SIDE / 2})">',
        _text(18, MARGIN + SIDE / 2, labels[1], 14, "middle"),
        "</g>",
    ]
    for value in _ticks(*sorted((left, right))):
        x = MARGIN + (value - left) / (right - left) * SIDE
        out.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{MARGIN + SIDE}" y2="{MARGIN + SIDE + 6}" stroke="black"/>')
        out.append(_text(x, MARGIN + SIDE + 22, f"{value:g}", 12, "middle"))
    for value in _ticks(*sorted((bottom, top))):
        y = MARGIN + (top - value) / (top - bottom) * SIDE
        out.append(f'<line x1="{MARGIN - 6}" x2="{MARGIN}" y1="{y:.1f}" y2="{y:.1f}" stroke="black"/>')
        out.append(_text(MARGIN - 9, y + 4, f"{value:g}", 12, "end"))
    return "\n".join([*out, *parts, "</svg>", ""])


def _text(x: float, y: float, words: str, size: int, anchor: str = "start") -> str:
    plain = escape("".join(sign if sign.isprintable() else " " for sign in words))
    return f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}">{plain}</text>'


def _ticks(low: float, high: float) -> list[float]:
    step = 10 ** math.floor(math.log10((high - low) / 4))
    step *= next(each for each in (5, 2, 1) if (high - low) / (step * each) >= 3 or each == 1)
    return [round(n * step, 10) for n in range(math.ceil(low / step), math.floor(high / step) + 1)]


class _Axes:
    def __init__(self, extent: tuple[float, float, float, float]) -> None:
        self.left, self.right, self.bottom, self.top = extent

    def at(self, x: float, y: float) -> tuple[float, float]:
        return (
            MARGIN + (x - self.left) / (self.right - self.left) * SIDE,
            MARGIN + (self.top - y) / (self.top - self.bottom) * SIDE,
        )

    def line(self, x1: float, y1: float, x2: float, y2: float, colour: str = INK) -> str:
        (a, b), (c, d) = self.at(x1, y1), self.at(x2, y2)
        return f'<line x1="{a:.1f}" y1="{b:.1f}" x2="{c:.1f}" y2="{d:.1f}" stroke="{colour}"/>'

    def dot(self, x: float, y: float, colour: str = INK, radius: float = 1.5) -> str:
        a, b = self.at(x, y)
        return f'<circle cx="{a:.1f}" cy="{b:.1f}" r="{radius}" fill="{colour}" fill-opacity="0.5"/>'

    def polygon(self, points: Sequence[complex], fill: str) -> str:
        text = " ".join("{:.1f},{:.1f}".format(*self.at(p.real, p.imag)) for p in points)
        return f'<polygon points="{text}" fill="{fill}" stroke="{GRID}" stroke-width="0.5"/>'


def _focal(camera: Camera) -> tuple[tuple[float, float, float, float], _Axes]:
    """East to the left, as on the sky."""
    side = camera.radius * 1.08 / 60
    extent = (side, -side, -side, side)
    return extent, _Axes(extent)


FOCAL_LABELS = ("East (arcmin)", "North (arcmin)")


def _outlines(camera: Camera, axes: _Axes) -> list[str]:
    found = []
    for ccd, (width, height) in enumerate(camera.sizes):
        x, y = np.array([0.5, width + 0.5, width + 0.5, 0.5]), np.array([0.5, 0.5, height + 0.5, height + 0.5])
        found.append(axes.polygon(list(camera.placed(ccd, x, y) / 60), "none"))
    return found


# Pictures


def _members(solved: Solved, camera: Camera) -> list[Exposure]:
    assert solved.problem is not None
    return [exposure for exposure in solved.problem.exposures if exposure.number in camera.exposures]


def _chosen(solved: Solved, camera: Camera) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Detections of a camera that are in use; residuals among exposures and against the reference, NaN for none."""
    problem, links, found = solved.problem, solved.links, solved.residuals
    assert problem is not None
    assert links is not None
    assert found is not None
    rows = np.concatenate([np.arange(e.here.start, e.here.stop) for e in _members(solved, camera)])
    rows = rows[found.used[rows]]
    internal, has_others = internal_residuals(problem, links, found)
    has_star = (links.source[rows] >= 0) & (links.source[rows] < len(problem.references))
    inner = np.where(has_others[rows], internal[rows], complex(math.nan, math.nan))
    outer = np.where(has_star, found.place[rows], complex(math.nan, math.nan))
    return rows, inner, outer


def _residuals(solved: Solved, camera: Camera) -> str:
    """Mean residuals in cells of the focal plane: what a polynomial has left over."""
    assert solved.residuals is not None
    rows, inner, outer = _chosen(solved, camera)
    extent, axes = _focal(camera)
    w = solved.residuals.w0[rows] / 60
    side, parts, means = camera.radius * 1.08 / 60, _outlines(camera, axes), []
    column = np.floor((w.real + side) / (2 * side) * CELLS).astype(int)
    row = np.floor((w.imag + side) / (2 * side) * CELLS).astype(int)
    for values, colour in ((outer, SECOND), (inner, INK)):
        for cell in np.unique(row * CELLS + column):
            mine = (row * CELLS + column == cell) & np.isfinite(values.real)
            if mine.sum() >= 4:
                means.append((complex(w[mine].mean()), complex(values[mine].mean()), colour))
    longest = float(np.percentile([abs(each) for _, each, _ in means], 95)) if means else 0.01
    zoom = side / CELLS * 1.6 / max(longest, 1e-4)
    for where, each, colour in means:
        parts += [axes.dot(where.real, where.imag, colour, 2.5)]
        parts += [
            axes.line(where.real, where.imag, where.real + each.real * zoom, where.imag + each.imag * zoom, colour)
        ]
    below = (
        f"mean in cells; the 95 % longest is {longest * 1000:.1f} mas; blue among exposures, red against the reference"
    )
    return _svg(f"Residuals over the focal plane, {camera.name}", below, parts, extent, FOCAL_LABELS)


def _magnitude(solved: Solved, camera: Camera) -> str:
    assert solved.problem is not None
    rows, inner, outer = _chosen(solved, camera)
    mag = solved.problem.detections.mag[rows]
    known = np.isfinite(mag) & (np.isfinite(inner.real) | np.isfinite(outer.real))
    low, high = (float(np.percentile(mag[known], each)) for each in (0, 100)) if known.any() else (0.0, 1.0)
    spread = np.concatenate([np.abs(values[np.isfinite(values)]) for values in (inner, outer)])
    top = 1.2 * float(np.percentile(spread, 97)) if len(spread) else 1.0
    extent = (low - 0.2, high + 0.2, -top, top)
    axes, parts = _Axes(extent), []
    step = max(1, len(rows) // MOST_POINTS)
    for values, colour in ((outer, SECOND), (inner, INK)):
        for m, value in zip(mag[::step], values[::step], strict=True):
            if math.isfinite(m) and abs(value.real) < top and abs(value.imag) < top:
                parts += [axes.dot(m, value.real, colour), axes.dot(m, value.imag, colour)]
    parts.append(axes.line(low - 0.2, 0, high + 0.2, 0, "black"))
    below = "both axes; blue among exposures, red against the reference"
    labels = ("Instrumental magnitude", "Residual (arcsec)")
    return _svg(f"Residuals against magnitude, {camera.name}", below, parts, extent, labels)


def _scale(solved: Solved, camera: Camera) -> str:
    """The side of a pixel on the sky, by the determinant of the WCS's derivatives."""
    assert solved.problem is not None
    exposure = _members(solved, camera)[0]
    extent, axes = _focal(camera)
    tiles = []
    for ccd, (width, height) in enumerate(camera.sizes):
        tangent = solved.problem.model.tangent(exposure, ccd)
        xs, ys = np.linspace(0.5, width + 0.5, 7), np.linspace(0.5, height + 0.5, 7)
        for x1, x2 in pairwise(xs):
            for y1, y2 in pairwise(ys):
                x, y = np.array([x1, x2, x2, x1]), np.array([y1, y1, y2, y2])
                xi, eta = tangent.plane(x, y)
                area = abs(float((xi[2] - xi[0]) * (eta[3] - eta[1]) - (xi[3] - xi[1]) * (eta[2] - eta[0]))) / 2
                tiles.append((camera.placed(ccd, x, y) / 60, 3600 * math.sqrt(area / float((x2 - x1) * (y2 - y1)))))
    low, high = min(scale for _, scale in tiles), max(scale for _, scale in tiles)
    parts = [axes.polygon(list(points), _colour((scale - low) / max(high - low, 1e-12))) for points, scale in tiles]
    below = f"blue {low:.6f} to red {high:.6f} arcsec a pixel, {exposure.name}"
    return _svg(f"Pixel scale, {camera.name}", below, parts, extent, FOCAL_LABELS)


def _colour(share: float) -> str:
    blue, red = (38, 84, 160), (200, 60, 30)
    middle = (240, 240, 235)
    first, second, at = (blue, middle, share * 2) if share < 0.5 else (middle, red, share * 2 - 1)
    mixed = [round(a + (b - a) * at) for a, b in zip(first, second, strict=True)]
    return "#{:02x}{:02x}{:02x}".format(*mixed)


def _distortion(camera: Camera) -> str:
    """What the polynomials add to a plane, beyond its best linear part."""
    extent, axes = _focal(camera)
    places, moves = [], []
    for ccd, (width, height) in enumerate(camera.sizes):
        x, y = (each.ravel() for each in np.meshgrid(*(np.linspace(0.1, 0.9, 5) * side for side in (width, height))))
        w0, w = camera.distorted(ccd, x, y)
        places.append(w0)
        moves.append(w - w0)
    w0, move = np.concatenate(places), np.concatenate(moves)
    design = np.column_stack([np.ones_like(w0), w0, np.conj(w0)])
    move = move - design @ np.linalg.lstsq(design, move, rcond=None)[0]
    longest = max(float(np.abs(move).max()), 1e-6)
    zoom = camera.radius / 60 * 0.12 / longest
    parts = _outlines(camera, axes)
    for where, each in zip(w0 / 60, move, strict=True):
        parts.append(axes.dot(where.real, where.imag, INK, 2))
        parts.append(axes.line(where.real, where.imag, where.real + each.real * zoom, where.imag + each.imag * zoom))
    below = f"longest {longest:.3f} arcsec"
    return _svg(f"Distortion, {camera.name}", below, parts, extent, FOCAL_LABELS)

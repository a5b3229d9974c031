"""Draws what was measured, as SVG: the PSF, ellipticity and background over the field, radii, counts, histograms."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spicad.archive.quality import PICTURES
from spicad.reduction.medians import medians
from spicad.reduction.qualityfits.measure import Measured, Whole, cells_a_side, ellipticities, in_cells
from spicad.reduction.qualityfits.mosaic import Layout
from spicad.reduction.qualityfits.stack import Comparison, depth_of
from spicad.reduction.qualityfits.svg import (
    BLUE,
    GREEN,
    GREY,
    INK,
    ORANGE,
    RED,
    Axis,
    Canvas,
    Panel,
    axis_of,
    colours,
    legend,
    polygon,
    segment,
    short,
    text,
)

Array = NDArray[np.float64]

FIELD = 660.0  # the longer side of the field in its pictures
LEFT, TOP = 30.0, 76.0
SCALE_WIDTH = 150.0
LEAST_WIDTH = 640.0  # so that the title has room over a narrow field
MOST_POINTS = 5000
MOST_TILES = 2500
WHISKER = 0.05  # ellipticity that is drawn WHISKER_LENGTH long
WHISKER_LENGTH = 30.0
BINS = 30


def write_plots(whole: Whole, comparison: Comparison | None, layout: Layout, folder: Path, name: str) -> None:
    """Those that have something to show."""
    layout = layout.scaled(FIELD)
    drawn = {
        "psf": _psf(whole, layout),
        "ellipticity": _ellipticity(whole, layout),
        "background": _background(whole, layout),
        "radius": _radius(whole),
        "counts": _counts(whole),
        "histograms": _histograms(whole),
        "astrometry": _astrometry(whole),
    }
    if whole.exposure.is_stack:
        drawn |= {
            "depth": _depth(whole, layout),
            "coverage": _coverage(whole, layout),
            "comparison": _comparison(whole, comparison) if comparison is not None else None,
        }
    for kind, canvas in drawn.items():
        if canvas is not None:
            canvas.write(folder / f"{name}{PICTURES[kind][0]}")


def _said(whole: Whole) -> str:
    told = whole.exposure.told
    words = [whole.exposure.instrument, whole.exposure.filter, told.object if told else "", told.obs_id if told else ""]
    return ", ".join(word for word in words if word) or whole.exposure.source.name


# Over the field


def _field(whole: Whole, layout: Layout, title: str, below: str, has_scale: bool) -> Canvas:
    width = max(LEAST_WIDTH, LEFT * 2 + layout.width + (SCALE_WIDTH if has_scale else 0))
    canvas = Canvas(width, TOP + layout.height + 60, f"{title}: {_said(whole)}", below)
    for number, each in enumerate(whole.ccds):
        is_void = each.table is None
        corners = [(LEFT + x, TOP + y) for x, y in layout.corners(number, each.ccd)]
        canvas.parts.append(polygon(corners, "#e4e4e4" if is_void else "#f7f7f7", GREY, 0.8))
    return canvas


def _close_field(canvas: Canvas, whole: Whole, layout: Layout, has_names: bool) -> Canvas:
    """Names of CCDs, the directions, and a bar of arcminutes."""
    if has_names:
        for number, each in enumerate(whole.ccds):
            corners = np.array(layout.corners(number, each.ccd))
            (left, top), (right, _) = corners.min(axis=0), corners.max(axis=0)
            if right - left > 26:
                size = int(max(9, min(13, (right - left) / 6)))
                canvas.parts.append(
                    text(LEFT + left + 3, TOP + top + size + 1, each.ccd.name[:12], size, colour="#333")
                )
    bottom = TOP + layout.height + 34
    if layout.unit_arcsec is None:
        canvas.parts.append(
            text(LEFT, bottom, "CCDs as the detector has them, or in their order: no WCS places them", 13)
        )
        return canvas
    arcmin = 60 / layout.unit_arcsec
    length = next((each for each in (60, 30, 20, 10, 5, 2, 1, 0.5, 0.2, 0.1) if each * arcmin < layout.width / 3), 0.05)
    canvas.parts += [
        segment(LEFT, bottom - 6, LEFT + length * arcmin, bottom - 6, INK, 3),
        text(LEFT + length * arcmin + 8, bottom, f"{length:g} arcmin; north is up, east to the left", 13),
    ]
    return canvas


@dataclass(frozen=True)
class Tiles:
    """Areas of a CCD: x and y of the four corners of each, in pixels, and its value."""

    corners: Array  # (2, tiles, 4)
    values: Array


def _tiles(
    whole: Whole, layout: Layout, title: str, below: str, label: str, tiles: Mapping[int, Tiles]
) -> Canvas | None:
    """Coloured areas, by the number of their CCD."""
    values = np.concatenate([each.values for each in tiles.values()]) if tiles else np.empty(0)
    if not len(values):
        return None
    low, high = (float(each) for each in np.percentile(values, [2, 98]))
    if high - low < 1e-3 * abs(high):
        low, high = low - 5e-3 * abs(low), high + 5e-3 * abs(high)
    canvas = _field(whole, layout, title, below, True)
    for number, here in tiles.items():
        x, y = layout.at(number, *here.corners)
        corners = np.stack([LEFT + x, TOP + y], axis=-1).tolist()
        fills = colours((here.values - low) / max(high - low, 1e-30))
        canvas.parts += [polygon(points, fill, fill, 0.6) for points, fill in zip(corners, fills, strict=True)]
    for number, each in enumerate(whole.ccds):
        corners_ = [(LEFT + x, TOP + y) for x, y in layout.corners(number, each.ccd)]
        canvas.parts.append(polygon(corners_, "none", "white", 1.2))
    canvas.scale(LEFT + layout.width + 24, TOP + 24, min(260, layout.height - 40), low, high, label)
    return _close_field(canvas, whole, layout, has_names=False)


def _psf(whole: Whole, layout: Layout) -> Canvas | None:
    tiles = {number: _of_stars(each) for number, each in enumerate(whole.ccds)}
    figures = whole.figures
    below = "Twice the half-light radius of stars, the median in cells"
    if figures.get("fwhm") is not None:
        below += f"; PSFEx has a FWHM of {figures['fwhm']:.3g} arcsec, {_range(figures)}"
    unit = "arcsec" if all(each.scale for each in whole.ccds) else "pixels"
    return _tiles(whole, layout, "PSF over the field", below, unit, tiles)


def _range(figures: dict[str, float | None]) -> str:
    low, high = figures.get("fwhm_min"), figures.get("fwhm_max")
    return "" if low is None or high is None else f"{low:.3g} to {high:.3g} over it"


def _of_stars(each: Measured) -> Tiles:
    """Their half-light diameter in cells."""
    corners, values = [], []
    wide, tall = each.ccd.width / cells_a_side(each) / 2, each.ccd.height / cells_a_side(each) / 2
    for x, y, here in in_cells(each):
        assert each.table is not None
        corners.append(_rectangles(x - wide, x + wide, y - tall, y + tall))
        values.append(2 * float(np.median(each.table["FLUX_RADIUS"][here])) * (each.scale or 1.0))
    return Tiles(np.stack(corners, axis=1) if corners else np.empty((2, 0, 4)), np.array(values))


def _rectangles(left: Any, right: Any, low: Any, high: Any) -> Array:
    """Corners in their order, x and y; numbers, or arrays of them."""
    return np.array([np.stack([left, right, right, left], axis=-1), np.stack([low, low, high, high], axis=-1)])


def _background(whole: Whole, layout: Layout) -> Canvas | None:
    meshes = [each.result.background for each in whole.ccds if each.result.background is not None]
    by = _coarseness(sum(mesh.size for mesh in meshes))
    tiles = {
        number: _mesh_tiles(each, each.result.background.astype(float), by)
        for number, each in enumerate(whole.ccds)
        if each.result.background is not None and not each.problem.startswith("no light in it")
    }
    figures = whole.figures
    below = "SExtractor's background"
    if figures.get("background") is not None and figures.get("noise") is not None:
        below += f"; median {short(figures['background'] or 0.0)} ADU, noise {short(figures['noise'] or 0.0)} ADU"
    return _tiles(whole, layout, "Background over the field", below, "ADU", tiles)


def _mesh_tiles(each: Measured, mesh: Array, by: int) -> Tiles:
    """Areas of a mesh over the whole CCD, `by` x `by` of its cells in one; those without a value are left out."""
    values = _medians_of_blocks(mesh, by)
    row, column = np.nonzero(~np.isnan(values))

    def edges(first: NDArray[np.intp], cells: int, pixels: int) -> tuple[Array, Array]:
        low, high = (np.minimum(edge * by, cells) / cells * pixels + 0.5 for edge in (first, first + 1))
        return low, high

    across, up = edges(column, mesh.shape[1], each.ccd.width), edges(row, mesh.shape[0], each.ccd.height)
    return Tiles(_rectangles(*across, *up), values[row, column])


def _medians_of_blocks(mesh: Array, by: int) -> Array:
    """Of the finite values of `by` x `by` cells each, fewer at the far rims; NaN where there are none."""
    rows, columns = (math.ceil(side / by) for side in mesh.shape)
    blocks = np.full((rows * by, columns * by), np.nan)
    blocks[: mesh.shape[0], : mesh.shape[1]] = np.where(np.isfinite(mesh), mesh, np.nan)
    one_a_row = blocks.reshape(rows, by, columns, by).swapaxes(1, 2).reshape(rows * columns, by * by)
    return medians(one_a_row).reshape(rows, columns)


def _coarseness(cells: int) -> int:
    return max(1, math.ceil(math.sqrt(cells / MOST_TILES)))


def _depth(whole: Whole, layout: Layout) -> Canvas | None:
    meshes = [depth_of(whole, each) for each in whole.ccds]
    by = _coarseness(sum(mesh.size for mesh in meshes))
    tiles = {
        number: _mesh_tiles(each, mesh, by) for number, (each, mesh) in enumerate(zip(whole.ccds, meshes, strict=True))
    }
    limit, spread = whole.figures.get("limiting_magnitude"), whole.figures.get("depth_spread")
    below = "Magnitude of a point source at 5 sigmas, by the noise of the background"
    if limit is not None and spread is not None:
        below += f"; median {limit:.2f}, scatter {spread:.2f}"
    return _tiles(whole, layout, "Depth", below, "mag", tiles)


def _coverage(whole: Whole, layout: Layout) -> Canvas | None:
    weights = [each.result.weight_preview for each in whole.ccds]
    top = max([1e-30, *(float(weight.max()) for weight in weights if weight is not None)])
    by = _coarseness(sum(weight.size for weight in weights if weight is not None))
    tiles = {
        number: _mesh_tiles(each, np.where(weight > 0, weight / top, np.nan).astype(float), by)
        for number, (each, weight) in enumerate(zip(whole.ccds, weights, strict=True))
        if weight is not None
    }
    covered = whole.figures.get("coverage_fraction")
    below = "" if covered is None else f"{covered:.1%} of the pixels have any weight"
    return _tiles(whole, layout, "Coverage", below, "weight", tiles)


def _comparison(whole: Whole, comparison: Comparison) -> Canvas | None:
    """Magnitudes and places less those of the earlier stack."""
    if not len(comparison.difference):
        return None
    figures = whole.figures
    below = (
        f"{len(comparison.difference)} sources of both; {figures['comparison_magnitude']:+.3f} mag, offset"
        f" {figures['comparison_offset']:.3f} arcsec, scatter {figures['comparison_scatter']:.3f} arcsec"
    )
    canvas = Canvas(1180, 640, f"Beside an earlier stack: {_said(whole)}", below)
    step = max(1, len(comparison.difference) // MOST_POINTS)
    magnitude, difference = comparison.magnitude[::step], comparison.difference[::step]
    reach = max(0.02, 1.3 * float(np.percentile(np.abs(comparison.difference), 97)))
    x = axis_of([float(each) for each in np.percentile(magnitude, [0, 100])], "Magnitude")
    panel = Panel(canvas, 100, 90, 460, 470, x, Axis(-reach, reach, "Magnitude less the earlier one"))
    panel.line([(x.low, 0), (x.high, 0)], GREY, "", 1)
    panel.dots(magnitude, difference, BLUE)
    east, north = comparison.east[::step], comparison.north[::step]
    side = max(0.01, 1.3 * float(np.percentile(np.abs(np.concatenate([east, north])), 97)))
    panel = Panel(canvas, 680, 90, 460, 470, Axis(side, -side, "East (arcsec)"), Axis(-side, side, "North (arcsec)"))
    panel.line([(0, -side), (0, side)], GREY, "", 1)
    panel.line([(side, 0), (-side, 0)], GREY, "", 1)
    panel.dots(east, north, BLUE)
    return canvas


def _ellipticity(whole: Whole, layout: Layout) -> Canvas | None:
    whiskers = []
    for number, each in enumerate(whole.ccds):
        for x, y, here in in_cells(each):
            assert each.table is not None
            e1, e2 = (float(np.mean(part)) for part in ellipticities(each, each.table[here], whole.centre))
            at_x, at_y = layout.at(number, x, y)
            whiskers.append((float(at_x), float(at_y), math.hypot(e1, e2), 0.5 * math.atan2(e2, e1)))
    if not whiskers:
        return None
    mean = whole.figures.get("ellipticity") or 0.0
    below = f"Means of stars in cells; the field's is {mean:.3f}, the bar is {WHISKER:g}"
    canvas = _field(whole, layout, "Ellipticity over the field", below, False)
    for x, y, length, angle in whiskers:
        half = 0.5 * WHISKER_LENGTH * min(length / WHISKER, 2.5)
        # The angle goes from north (up) through east (left).
        dx, dy = -math.sin(angle) * half, -math.cos(angle) * half
        canvas.parts.append(segment(LEFT + x - dx, TOP + y - dy, LEFT + x + dx, TOP + y + dy, BLUE, 2.5))
    right, bottom = LEFT + layout.width, TOP + layout.height + 28
    canvas.parts += [
        segment(right - WHISKER_LENGTH, bottom, right, bottom, BLUE, 3),
        text(right - WHISKER_LENGTH - 8, bottom + 5, f"{WHISKER:g}", 13, "end"),
    ]
    return _close_field(canvas, whole, layout, has_names=True)


# Sources


def _radius(whole: Whole) -> Canvas | None:
    """Half-light radius against magnitude, with the locus of stars."""
    kinds: dict[str, list[Array]] = {"star": [], "galaxy": [], "other": []}
    loci = []
    for each in whole.ccds:
        if each.table is None or each.star is None or each.galaxy is None or each.locus is None:
            continue
        loci.append(each.locus.radius)
        pairs = np.column_stack([each.table["MAG_AUTO"], each.table["FLUX_RADIUS"]]).astype(float)
        kinds["star"].append(pairs[each.star])
        kinds["galaxy"].append(pairs[each.galaxy])
        kinds["other"].append(pairs[~each.star & ~each.galaxy])
    points = {kind: np.concatenate(parts) if parts else np.empty((0, 2)) for kind, parts in kinds.items()}
    shown = np.concatenate(list(points.values()))
    shown = shown[(shown[:, 0] < 90) & np.isfinite(shown).all(axis=1)]
    if len(shown) < 5:
        return None
    canvas = Canvas(860, 640, f"Half-light radius against magnitude: {_said(whole)}", "The line is the locus of stars")
    low, high = (float(each) for each in np.percentile(shown[:, 0], [0.1, 99.9]))
    top = max(3.0 * float(np.median(loci)), float(np.percentile(shown[:, 1], 97)))
    label = "Magnitude" if whole.exposure.zero_point is not None else "Instrumental magnitude"
    panel = Panel(
        canvas, 80, 76, 740, 490, Axis(low - 0.3, high + 0.3, label), Axis(0, top, "Half-light radius (pixels)")
    )
    step = max(1, len(shown) // MOST_POINTS)
    for kind, fill in (("other", GREY), ("galaxy", ORANGE), ("star", BLUE)):
        panel.dots(points[kind][::step, 0], points[kind][::step, 1], fill)
    locus = float(np.median(loci))
    panel.line([(panel.x.low, locus), (panel.x.high, locus)], RED, "8 5")
    numbers = {kind: len(parts) for kind, parts in points.items()}
    canvas.parts += legend(
        100,
        100,
        [
            (BLUE, f"{numbers['star']} stars"),
            (ORANGE, f"{numbers['galaxy']} galaxies"),
            (GREY, "saturated, faint or spoiled"),
        ],
    )
    return canvas


def _counts(whole: Whole) -> Canvas | None:
    counts = whole.counts
    if not len(counts.magnitude):
        return None
    seen = [each for each in (*counts.galaxies, *counts.stars) if each > 0]
    if not seen:
        return None
    bottom = 10 ** math.floor(math.log10(min(seen)))
    top = 10 ** math.ceil(math.log10(1.3 * max([*seen, *[e for e in counts.expected if e < 30 * max(seen)]])))
    half = 0.5 * (counts.magnitude[1] - counts.magnitude[0]) if len(counts.magnitude) > 1 else 0.25
    ratio = whole.figures.get("galaxy_counts_ratio")
    below = "" if ratio is None else f"Galaxies counted are {ratio:.2f} of those expected in {whole.exposure.filter}"
    canvas = Canvas(860, 640, f"Counts: {_said(whole)}", below)
    label = "Magnitude" if whole.exposure.zero_point is not None else "Instrumental magnitude"
    x = Axis(counts.magnitude[0] - half, counts.magnitude[-1] + half, label)
    panel = Panel(canvas, 90, 76, 730, 490, x, Axis(bottom, top, "Number by square degree and magnitude", is_log=True))
    for numbers, stroke in ((counts.stars, BLUE), (counts.galaxies, ORANGE)):
        found = [(m, n) for m, n in zip(counts.magnitude, numbers, strict=True) if n > 0]
        panel.line(found, stroke, width=2.5)
        panel.dots([m for m, _ in found], [n for _, n in found], stroke, 4)
    entries = [(BLUE, "stars"), (ORANGE, "galaxies")]
    if counts.expected:
        panel.line(list(zip(counts.magnitude, counts.expected, strict=True)), GREEN, "8 5")
        entries.append((GREEN, "galaxies expected"))
    limit = whole.figures.get("limiting_magnitude")
    if limit is not None and x.low < limit < x.high:
        panel.line([(limit, bottom), (limit, top)], INK, "2 4", 1.5)
        entries.append((INK, f"limit of 5 sigmas, {limit:.2f}"))
    canvas.parts += legend(112, 102, entries)
    return canvas


def _histograms(whole: Whole) -> Canvas | None:
    pooled: dict[str, list[Array]] = {"background": [], "width": [], "elongation": [], "ellipticity": []}
    for each in whole.ccds:
        if each.result.background is not None:
            pooled["background"].append(each.result.background.ravel().astype(float))
        if each.table is None or each.bright is None:
            continue
        bright = each.table[each.bright]
        pooled["width"].append(2 * bright["FLUX_RADIUS"].astype(float) * (each.scale or 1.0))
        pooled["elongation"].append(bright["ELONGATION"].astype(float))
        a, b = bright["A_IMAGE"].astype(float), bright["B_IMAGE"].astype(float)
        pooled["ellipticity"].append((a - b) / np.maximum(a + b, 1e-6))
    unit = "arcsec" if all(each.scale for each in whole.ccds) else "pixels"
    labels = {
        "background": "Background (ADU)",
        "width": f"Half-light diameter of stars ({unit})",
        "elongation": "Elongation of stars",
        "ellipticity": "Ellipticity of stars",
    }
    if not any(pooled.values()):
        return None
    canvas = Canvas(900, 760, f"Histograms: {_said(whole)}", "The line is the median")
    for number, (kind, label) in enumerate(labels.items()):
        values = np.concatenate(pooled[kind]) if pooled[kind] else np.empty(0)
        values = values[np.isfinite(values)]
        if len(values) < 3:
            continue
        low, high = (float(each) for each in np.percentile(values, [1, 99]))
        x = axis_of([low, high], label, 0.1)
        heights, edges = np.histogram(values, BINS, (x.low, x.high))
        left, top = 90 + number % 2 * 430, 80 + number // 2 * 340
        panel = Panel(
            canvas, left, top, 350, 240, x, Axis(0, 1.1 * float(heights.max()), "Number" if number % 2 == 0 else "")
        )
        panel.bars(list(map(float, edges)), list(map(float, heights)), BLUE)
        middle = float(np.median(values))
        panel.line([(middle, 0), (middle, panel.y.high)], RED, "8 5")
        canvas.parts.append(text(left + 344, top + 20, short(middle), 14, "end", RED))
    return canvas


def _astrometry(whole: Whole) -> Canvas | None:
    """Sources less reference stars, as the header has them: a cloud for each CCD."""
    found = [each for each in whole.ccds if each.place is not None and each.place.is_found and not each.place.turn]
    if not found:
        return None
    clouds = [
        each.place.residuals + np.array([each.place.ra_offset, each.place.dec_offset]) for each in found if each.place
    ]
    points = np.concatenate(clouds)
    reach = 1.15 * float(np.percentile(np.abs(points), 99.5))
    place = whole.place
    below = (
        f"Offset {place.ra_offset:+.2f}, {place.dec_offset:+.2f} arcsec; scatter within CCDs {place.ra_scatter:.2f},"
        f" {place.dec_scatter:.2f}; {place.matched} stars"
    )
    canvas = Canvas(760, 790, f"Sources less reference catalogue: {_said(whole)}", below)
    x, y = (
        Axis(reach, -reach, "Right ascension (arcsec), east to the left"),
        Axis(-reach, reach, "Declination (arcsec)"),
    )
    panel = Panel(canvas, 90, 76, 630, 630, x, y)
    panel.line([(0, -reach), (0, reach)], GREY, "", 1)
    panel.line([(reach, 0), (-reach, 0)], GREY, "", 1)
    step = max(1, len(points) // MOST_POINTS)
    panel.dots(points[::step, 0], points[::step, 1], BLUE)
    for each in found:
        assert each.place is not None
        panel.dots([each.place.ra_offset], [each.place.dec_offset], RED, 4)
    canvas.parts += legend(112, 102, [(BLUE, "a star"), (RED, "the median of a CCD")])
    return canvas

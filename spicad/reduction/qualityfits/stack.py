"""What is told of a stack besides (QualityFITS "out"): its origins, depth and coverage over the field, and how it
compares with an earlier stack of the same field.

A stack has no PSF of its own, only one at each place: it is drawn over the field as for an exposure, in finer cells.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from spicad.reduction import ldac
from spicad.reduction.ldac import Table
from spicad.reduction.neighbours import nearest_within
from spicad.reduction.qualityfits.measure import Measured, Whole
from spicad.reduction.tangent import projected
from spicad.words import BadInput, Problem, SpicaError

Array = NDArray[np.float64]

COLUMNS = ("exposure", "used", "why")
MATCH_ARCSEC = 1.0
MATCH_PIXELS = 2.0
FEWEST = 10
SOUND_SNR = 20.0
LIMIT_SNR = (12.0, 18.0)  # magnitudes there tell the limit, from catalogues alone
USED = {"yes": True, "y": True, "true": True, "1": True, "no": False, "n": False, "false": False, "0": False}


@dataclass(frozen=True)
class Origin:
    """An exposure of the stack, or one that was left out, and why."""

    exposure: str
    is_used: bool
    why: str = ""


@dataclass(frozen=True)
class Comparison:
    """This stack less the earlier one, source by source: arcsec and magnitudes."""

    east: Array
    north: Array
    magnitude: Array  # of this one
    difference: Array
    depth: float | None


def read_origins(path: Path) -> list[Origin]:
    """Raises BadInput when it is no table of origins."""
    try:
        with path.open(newline="", encoding="utf-8", errors="replace") as file:
            reader = csv.DictReader(file)
            rows, names = list(reader), reader.fieldnames or ()
    except (OSError, csv.Error) as error:
        raise BadInput(Problem(str(path), f"cannot be read: {error}.")) from None
    if not set(COLUMNS[:2]) <= set(names):
        raise BadInput(Problem(str(path), f"its first line must name the columns {', '.join(COLUMNS)}."))
    for line, row in enumerate(rows, 2):
        if (row["used"] or "").strip().lower() not in USED:
            raise BadInput(Problem(str(path), f"used is {row['used']!r}, yes or no was expected.", line=line))
    return [Origin(row["exposure"] or "", USED[row["used"].strip().lower()], row.get("why") or "") for row in rows]


def write_origins(path: Path, origins: Sequence[Origin]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        out = csv.writer(file, lineterminator="\n")
        out.writerow(COLUMNS)
        out.writerows((each.exposure, "yes" if each.is_used else "no", each.why) for each in origins)


def add_figures(whole: Whole, origins: Sequence[Origin] | None, comparison: Comparison | None) -> None:
    """To the figures of the whole."""
    figures = whole.figures
    if origins is not None:
        figures["exposures"] = float(sum(each.is_used for each in origins))
        figures["exposures_dropped"] = float(sum(not each.is_used for each in origins))
    figures["coverage_fraction"] = 1.0 - (figures.get("bad_pixel_fraction") or 0.0)
    figures["bad_pixel_fraction"] = None  # what lies outside is no defect
    depths = np.concatenate([depth[np.isfinite(depth)] for each in whole.ccds for depth in [depth_of(whole, each)]])
    if len(depths) > 1:
        figures["limiting_magnitude"] = float(np.median(depths))
        figures["depth_spread"] = float(np.std(depths))
    if comparison is None or not len(comparison.difference):
        return
    east, north = float(np.median(comparison.east)), float(np.median(comparison.north))
    figures["comparison_offset"] = math.hypot(east, north)
    away = np.hypot(comparison.east - east, comparison.north - north)
    figures["comparison_scatter"] = float(1.4826 * np.median(away))
    figures["comparison_magnitude"] = float(np.median(comparison.difference))
    figures["comparison_depth"] = comparison.depth


def depth_of(whole: Whole, each: Measured) -> Array:
    """The limiting magnitude in the cells of SExtractor's background; NaN where nothing covers the stack."""
    noise, zero_point = each.result.background_noise, whole.exposure.zero_point
    if noise is None or zero_point is None or each.locus is None:
        return np.empty((0, 0))
    fwhm = each.result.psf.get("FWHM_Mean") or 1.8 * each.locus.radius
    with np.errstate(divide="ignore", invalid="ignore"):
        depth = zero_point - 2.5 * np.log10(5 * noise.astype(float) * fwhm / 2.3548 * math.sqrt(4 * math.pi))
    return np.where((coverage_of(each) > 0.5) & np.isfinite(depth) & (noise > 0), depth, np.nan)


def coverage_of(each: Measured) -> Array:
    """The part of each cell of the background's mesh that has any weight."""
    mesh, weight = each.result.background, each.result.weight_preview
    if mesh is None or weight is None:
        return np.empty((0, 0))
    covered = (weight > 0).astype(float)
    rows = np.minimum(np.arange(covered.shape[0]) * mesh.shape[0] // covered.shape[0], mesh.shape[0] - 1)
    columns = np.minimum(np.arange(covered.shape[1]) * mesh.shape[1] // covered.shape[1], mesh.shape[1] - 1)
    total, count = np.zeros(mesh.shape), np.zeros(mesh.shape)
    np.add.at(total, (rows[:, None], columns[None, :]), covered)
    np.add.at(count, (rows[:, None], columns[None, :]), 1.0)
    return np.asarray(total / np.maximum(count, 1))


# Beside an earlier stack


def compared(whole: Whole, earlier: Path) -> Comparison:
    """Raises BadInput when the earlier catalogue cannot be read."""
    try:
        before = [each.table for each in ldac.read(earlier)]
    except SpicaError as error:
        raise BadInput(Problem(str(earlier), f"is no catalogue of an earlier stack: {error}")) from None
    now = [each.table for each in whole.ccds if each.table is not None]
    scales = [each.scale for each in whole.ccds if each.scale]
    needed = {"ALPHAWIN_J2000", "DELTAWIN_J2000", "MAG_AUTO", "SNR_WIN", "FLAGS"}
    if any(not needed <= set(table.dtype.names or ()) for table in before):
        raise BadInput(Problem(str(earlier), f"lacks one of the columns {', '.join(sorted(needed))}."))
    none = np.empty(0)
    nothing = Comparison(none, none, none, none, None)
    if not now or not scales or whole.centre is None:
        return nothing
    mine, other = _sound(now), _sound(before)
    if len(mine) < FEWEST or len(other) < FEWEST:
        return nothing
    radius = max(MATCH_ARCSEC, MATCH_PIXELS * float(np.median(scales)))
    places, theirs = (_plane(each, whole.centre) for each in (mine, other))
    here, there = nearest_within(places, theirs, radius)
    if len(here) < FEWEST:
        return nothing
    away = places[here] - theirs[there]
    depths = [_limit(tables) for tables in (now, before)]
    depth = None if None in depths else float(depths[0] or 0.0) - float(depths[1] or 0.0)
    magnitude = mine[here, 2]
    return Comparison(away[:, 0], away[:, 1], magnitude, magnitude - other[there, 2], depth)


def _sound(tables: Sequence[Table]) -> Array:
    """Right ascension, declination and magnitude of the good sources."""
    rows = []
    for table in tables:
        good = (table["SNR_WIN"] > SOUND_SNR) & (table["FLAGS"] < 4) & (table["MAG_AUTO"] < 90)
        rows.append(np.column_stack([table[name][good] for name in ("ALPHAWIN_J2000", "DELTAWIN_J2000", "MAG_AUTO")]))
    return np.asarray(np.concatenate(rows), float)


def _plane(sources: Array, centre: tuple[float, float]) -> Array:
    xi, eta = projected(centre, sources[:, 0], sources[:, 1])
    return np.nan_to_num(3600 * np.column_stack([xi, eta]), nan=1e9)


def _limit(tables: Sequence[Table]) -> float | None:
    """Magnitude of signal-to-noise 5, by those that are somewhat brighter."""
    low, high = LIMIT_SNR
    near = []
    for table in tables:
        good = table[(table["SNR_WIN"] > low) & (table["SNR_WIN"] < high) & (table["FLAGS"] < 4)]
        near.append(good["MAG_AUTO"] + 2.5 * np.log10(good["SNR_WIN"] / 5))
    joined = np.concatenate(near)
    return float(np.median(joined)) if len(joined) >= FEWEST else None

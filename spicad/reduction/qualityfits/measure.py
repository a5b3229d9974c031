"""From what the tools found on each CCD to the figures of CCDs and of the whole, and the grade they come to."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spicad.archive.quality import FIGURES, CcdReport, Counts, Trail
from spicad.archive.thresholds import Expected, Thresholds
from spicad.reduction.ldac import Table
from spicad.reduction.qualityfits.ccd import CcdResult
from spicad.reduction.qualityfits.exposure import Ccd, Exposure
from spicad.reduction.qualityfits.reference import LEAST_MATCHED, Place, place_of, shifted, together
from spicad.reduction.qualityfits.stars import (
    Locus,
    is_bright_star,
    is_galaxy,
    is_star,
    locus_of,
    twins,
)
from spicad.reduction.references import References
from spicad.reduction.tangent import projected

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]
Figures = dict[str, float | None]

DARK = 0.3  # of the others' background: a CCD, or a part of one, that no light reaches
LIGHT = 10.0  # noise sigmas of background above which that can be told
MOST_CELLS = 4  # of a CCD, a side, in which shapes are averaged
MOST_CELLS_OF_STACK = 12
FEWEST_IN_CELL = 4
BIN_MAG = 0.5
FEWEST_EXPECTED = 30  # galaxies for a ratio that means something
COMPLETE_MAG = 1.5  # above the limiting magnitude galaxies are all counted
SHIFTED_ARCSEC = 5.0
SHIFTED_PIXELS = 8.0
FWHM_PER_RADIUS = 1.8  # of a Moffat or a Gaussian, where there is no model of the PSF
ASTRAY = 0.1  # of a CCD's side, beside where DETSEC has it
FEWEST_FOR_MATCH = 20  # sources, and reference stars, of a CCD that must match
NO_REFERENCE_DEG = 2.0  # from the middle: a catalogue as far away is of another field, nearer the pointing is wrong
OVERLAP = 0.05  # of a CCD's area that another may cover


@dataclass
class Measured:
    """A CCD with its stars and galaxies told apart, its figures, and its place on the sky."""

    result: CcdResult
    scale: float | None  # arcsec a pixel
    locus: Locus | None = None
    star: Mask | None = None
    bright: Mask | None = None
    galaxy: Mask | None = None
    place: Place | None = None
    problem: str = ""
    figures: Figures = field(default_factory=dict)

    @property
    def ccd(self) -> Ccd:
        return self.result.ccd

    @property
    def table(self) -> Table | None:
        return self.result.catalogue.table if self.result.catalogue is not None else None


@dataclass
class Whole:
    """All CCDs, and what is said of them together."""

    exposure: Exposure
    ccds: list[Measured]
    figures: Figures
    counts: Counts
    place: Place
    centre: tuple[float, float] | None
    notes: list[str] = field(default_factory=list)

    def reports(self) -> tuple[CcdReport, ...]:
        return tuple(CcdReport(each.ccd.name, each.ccd.hdu.index, each.figures, each.problem) for each in self.ccds)

    def trails(self) -> tuple[Trail, ...]:
        found = []
        for each in self.ccds:
            for line in each.result.trails:
                x1, y1, x2, y2 = line.ends(each.ccd.width, each.ccd.height)
                found.append(Trail(each.ccd.name, x1 + 1, y1 + 1, x2 + 1, y2 + 1, 2 * line.half_width))
        return tuple(found)


def measured(
    exposure: Exposure,
    results: Sequence[CcdResult],
    stars: References | None,
    thresholds: Thresholds,
    values: Mapping[str, Any],
) -> Whole:
    ccds = [Measured(result, _scale(result.ccd), problem=result.problem) for result in results]
    _tell_apart(ccds)
    _find_dark(ccds)
    centre = exposure.centre
    for each in ccds:
        each.figures = _of_ccd(each, exposure.zero_point, centre)
    notes = []
    if stars is not None and centre is not None and (away := _nearest_deg(stars, centre)) > NO_REFERENCE_DEG:
        notes.append(f"no reference here: the nearest star of the reference catalogue is {away:.1f} degrees away")
        stars = None
    if stars is not None:
        _place(ccds, stars, values["MATCH_RADIUS"])
    whole = Whole(exposure, ccds, {}, Counts(), together([each.place for each in ccds if each.place]), centre)
    whole.figures = _of_whole(whole, thresholds, has_reference=stars is not None)
    whole.counts = _counts(whole, thresholds.counts.get(exposure.filter))
    whole.figures["galaxy_counts_ratio"] = _ratio(whole, thresholds.counts.get(exposure.filter))
    whole.notes += [*notes, *(note for result in results for note in result.notes)]
    return whole


def _scale(ccd: Ccd) -> float | None:
    scale = ccd.tangent.scale_arcsec if ccd.tangent else None
    return scale if scale and 1e-3 < scale < 3600 else None


# Stars and galaxies


def _tell_apart(ccds: Sequence[Measured]) -> None:
    """By the locus of each CCD; that of the whole where a CCD has too few stars of its own."""
    tables = [each.table for each in ccds if each.table is not None and len(each.table)]
    if not tables:
        return
    names = ("FLUX_RADIUS", "SNR_WIN", "FLAGS", "IMAFLAGS_ISO", "FLUX_AUTO")
    pooled = np.empty(sum(map(len, tables)), [(name, tables[0].dtype[name]) for name in names])
    for name in names:
        pooled[name] = np.concatenate([table[name] for table in tables])
    whole = locus_of(pooled)
    for each in ccds:
        if each.table is None or not len(each.table) or whole is None:
            continue
        each.locus = locus_of(each.table, whole) or whole
        each.star, each.galaxy = is_star(each.table, each.locus), is_galaxy(each.table, each.locus)
        each.bright = is_bright_star(each.table, each.locus)


def _find_dark(ccds: Sequence[Measured]) -> None:
    """CCDs, and parts of them, with far less sky than the others: nothing but read-out noise in them."""
    levels = [
        (float(np.nanmedian(m.result.sky.level)), float(np.nanmedian(m.result.sky.noise)))
        for m in ccds
        if m.result.sky is not None and np.isfinite(m.result.sky.level).any()
    ]
    if not levels:
        return
    level, noise = (float(np.median(each)) for each in zip(*levels, strict=True))
    if level < LIGHT * noise:
        return
    for each in ccds:
        sky = each.result.sky
        if sky is None:
            continue
        with np.errstate(invalid="ignore"):
            is_dark = ~(sky.level > DARK * level)
        each.result.fractions["dead"] = float(is_dark.mean())
        if is_dark.all() and not each.problem:
            each.problem = "no light in it: its background is far below that of the other CCDs"
        elif is_dark.mean() > 0.2 and not each.problem:
            each.problem = f"no light in {is_dark.mean():.0%} of it"


def _of_ccd(each: Measured, zero_point: float | None, centre: tuple[float, float] | None) -> Figures:
    """Figures of one CCD, by the names of FIGURES; None where there is nothing to tell."""
    found: Figures = {figure.name: None for figure in FIGURES if figure.of_ccd}
    fractions = each.result.fractions
    found |= {
        "pixel_scale": each.scale,
        "saturation": each.ccd.saturation,
        "saturated_fraction": fractions.get("saturated"),
        "bad_pixel_fraction": fractions.get("bad"),
        "cosmic_rays": float(each.result.cosmic_rays),
        "cosmic_pixel_fraction": fractions.get("cosmic"),
        "dead_fraction": fractions.get("dead"),
        "trails": float(len(each.result.trails)),
        "zero_point": zero_point,
    }
    _add_background(each, found)
    if each.table is None:
        return found
    found |= {"sources": float(len(each.table)), "stars": 0.0, "galaxies": 0.0}
    if each.locus is None or each.star is None or each.bright is None or each.galaxy is None:
        return found
    scale = each.scale
    found["stars"], found["galaxies"] = (float(np.count_nonzero(mask)) for mask in (each.star, each.galaxy))
    bright = each.table[each.bright]
    if len(bright) >= FEWEST_IN_CELL:
        diameter = 2 * float(np.median(bright["FLUX_RADIUS"]))
        found["seeing_pixels"], found["seeing"] = diameter, diameter * scale if scale else None
        found["elongation"] = float(np.median(bright["ELONGATION"]))
        e1, e2 = ellipticities(each, bright, centre)
        found |= _ellipticity(float(np.median(e1)), float(np.median(e2)))
    _add_psf(each, found)
    noise = found["noise"]
    if zero_point is not None and noise and noise > 0:
        fwhm = each.result.psf.get("FWHM_Mean") or FWHM_PER_RADIUS * each.locus.radius
        # The best a fit of the PSF can do: the noise in 4 pi sigma^2 pixels.
        found["limiting_magnitude"] = zero_point - 2.5 * math.log10(5 * noise * fwhm / 2.3548 * math.sqrt(4 * math.pi))
    return found


def _add_background(each: Measured, found: Figures) -> None:
    mesh, noise = each.result.background, each.result.background_noise
    if mesh is not None and noise is not None and mesh.size:
        found["background"], found["noise"] = float(np.median(mesh)), float(np.median(noise))
        low, high = np.percentile(mesh, [2, 98]) if mesh.size > 8 else (mesh.min(), mesh.max())
    elif each.result.sky is not None and np.isfinite(each.result.sky.level).any():
        level = each.result.sky.level
        found["background"], found["noise"] = float(np.nanmedian(level)), float(np.median(each.result.sky.noise))
        low, high = np.nanpercentile(level, [2, 98])
    else:
        return
    level_, noise_ = found["background"], found["noise"]
    if level_ and noise_ and level_ > LIGHT * noise_:
        found["background_unevenness"] = float(high - low) / level_


def _add_psf(each: Measured, found: Figures) -> None:
    psf = each.result.psf
    if not psf.get("NStars_Accepted_Total"):
        return
    scale = each.scale
    for name, of_psfex in (("fwhm", "FWHM_Mean"), ("fwhm_min", "FWHM_Min"), ("fwhm_max", "FWHM_Max")):
        found[name] = psf[of_psfex] * scale if scale and of_psfex in psf else None
    found |= {
        "psf_stars": psf.get("NStars_Accepted_Total"),
        "psf_chi2": psf.get("Chi2_Mean"),
        "psf_residuals": psf.get("Residuals_Mean"),
        "psf_asymmetry": psf.get("Asymmetry_Mean"),
    }


# Shapes


def ellipticities(each: Measured, table: Table, centre: tuple[float, float] | None) -> tuple[Array, Array]:
    """Ellipticity (a-b)/(a+b) of sources along east and north: e1 is positive along north, e2 along north-east.

    Without a WCS, as if north were up and east to the left.
    """
    a, b = table["A_IMAGE"].astype(float), np.maximum(table["B_IMAGE"].astype(float), 1e-6)
    e = (a - b) / (a + b)
    theta = np.radians(table["THETA_IMAGE"].astype(float))
    x, y = np.cos(theta), np.sin(theta)
    cd = np.array([[-1.0, 0.0], [0.0, 1.0]]) if each.ccd.tangent is None else each.ccd.tangent.cd
    east, north = cd[0, 0] * x + cd[0, 1] * y, cd[1, 0] * x + cd[1, 1] * y
    angle = np.arctan2(east, north)
    return e * np.cos(2 * angle), e * np.sin(2 * angle)


def _ellipticity(e1: float, e2: float) -> Figures:
    return {
        "ellipticity": math.hypot(e1, e2),
        "ellipticity_angle": math.degrees(0.5 * math.atan2(e2, e1)) % 180.0,
    }


def in_cells(each: Measured) -> list[tuple[float, float, Mask]]:
    """The bright stars of a CCD in cells: the middle of each cell in pixels, and which they are."""
    if each.table is None or each.bright is None:
        return []
    x, y, side = each.table["XWIN_IMAGE"], each.table["YWIN_IMAGE"], cells_a_side(each)
    column = np.clip((x - 0.5) / each.ccd.width * side, 0, side - 1).astype(int)
    row = np.clip((y - 0.5) / each.ccd.height * side, 0, side - 1).astype(int)
    found = []
    for number in range(side * side):
        here = each.bright & (row * side + column == number)
        if np.count_nonzero(here) >= FEWEST_IN_CELL:
            middle_x = (number % side + 0.5) * each.ccd.width / side + 0.5
            middle_y = (number // side + 0.5) * each.ccd.height / side + 0.5
            found.append((middle_x, middle_y, here))
    return found


def cells_a_side(each: Measured) -> int:
    """As many as have some stars each, MOST_CELLS at most."""
    stars = 0 if each.bright is None else int(np.count_nonzero(each.bright))
    most = MOST_CELLS_OF_STACK if each.ccd.is_stack else MOST_CELLS
    return max(1, min(most, int(math.sqrt(stars / (1.3 * FEWEST_IN_CELL)))))


def _pattern(ccds: Sequence[Measured], centre: tuple[float, float] | None) -> float | None:
    """Scatter of the mean ellipticity of cells about that of the field, less what the stars' own scatter makes."""
    means, errors = [], []
    for each in ccds:
        for _, _, here in in_cells(each):
            assert each.table is not None
            e1, e2 = ellipticities(each, each.table[here], centre)
            means.append((float(np.mean(e1)), float(np.mean(e2))))
            errors.append((np.var(e1) + np.var(e2)) / len(e1))
    if len(means) < 4:
        return None
    cells = np.array(means)
    spread = np.mean(np.sum((cells - np.median(cells, axis=0)) ** 2, axis=1)) - float(np.mean(errors))
    return math.sqrt(max(float(spread), 0.0))


# Astrometry


def _nearest_deg(stars: References, centre: tuple[float, float]) -> float:
    """From `centre` to the nearest of them; 180 of none."""
    dec, middle = np.radians(stars.dec), math.radians(centre[1])
    turn = np.cos(np.radians(stars.ra - centre[0]))
    cosines = math.sin(middle) * np.sin(dec) + math.cos(middle) * np.cos(dec) * turn
    return math.degrees(math.acos(min(1.0, float(cosines.max(initial=-1.0)))))


def _place(ccds: Sequence[Measured], stars: References, radius_arcsec: float) -> None:
    for each in ccds:
        if each.table is None:
            continue
        good = (each.table["FLAGS"] & 252 == 0) & (each.table["SNR_WIN"] > 10)
        x, y, snr = (each.table[name][good].astype(float) for name in ("XWIN_IMAGE", "YWIN_IMAGE", "SNR_WIN"))
        each.place = place_of(each.ccd, x, y, snr, stars, radius_arcsec)
        place = each.place
        each.figures["reference_stars"] = float(place.matched)
        if place.is_found and not place.turn:
            each.figures |= {
                "ra_offset": place.ra_offset,
                "dec_offset": place.dec_offset,
                "ra_scatter": place.ra_scatter,
                "dec_scatter": place.dec_scatter,
            }
        if place.turn:
            each.problem = each.problem or f"it is {place.turn} beside what its header says"


def _out_of_place(whole: Whole) -> tuple[set[str], set[str]]:
    """CCDs that lie elsewhere than their header says, and those that no reference star is found again on."""
    places = {each.ccd.name: each.place for each in whole.ccds if each.place is not None}
    scales = [each.scale for each in whole.ccds if each.scale]
    limit = max(SHIFTED_ARCSEC, SHIFTED_PIXELS * float(np.median(scales))) if scales else SHIFTED_ARCSEC
    away = shifted(places, limit)
    in_place = {name for name, place in places.items() if place.is_found and not place.turn} - away.keys()
    by_layout = {name: words for name, words in _astray(whole).items() if name not in in_place}
    # A catalogue is near: where it has no star at all, the field is elsewhere.
    is_elsewhere = sum(place.expected for place in places.values()) < LEAST_MATCHED
    unmatched = {
        each.ccd.name
        for each in whole.ccds
        if each.place is not None
        and not each.place.is_found
        and (is_elsewhere or each.place.expected >= FEWEST_FOR_MATCH)
        and each.table is not None
        and len(each.table) >= FEWEST_FOR_MATCH
    }
    for each in whole.ccds:
        name = each.ccd.name
        if name in away:
            each.problem = each.problem or f"it lies {away[name]:.1f} arcsec from where its header says"
        elif name in by_layout:
            each.problem = each.problem or by_layout[name]
        elif name in unmatched:
            words = (
                "the reference catalogue has no star" if is_elsewhere else "none of the reference stars is found again"
            )
            each.problem = each.problem or f"{words} where its header has it"
    return away.keys() | by_layout.keys(), unmatched


def _astray(whole: Whole) -> dict[str, str]:
    """CCDs whose header puts them on another, or elsewhere among the others than DETSEC does."""
    if whole.centre is None:
        return {}
    boxes = {}
    for each in whole.ccds:
        box = _box(each.ccd, whole.centre)
        if box is not None:
            boxes[each.ccd.name] = box
    found = {}
    names = list(boxes)
    for number, name in enumerate(names):
        for other in names[number + 1 :]:
            if _overlap(boxes[name], boxes[other]) > OVERLAP:
                found[name] = found[other] = "its header puts it on another CCD"
    if len(found) == 2 and len(names) > 2:  # which of the two it is, the layout may tell
        return _beside_layout(whole, boxes) or found
    return {**found, **_beside_layout(whole, boxes)}


def _box(ccd: Ccd, centre: tuple[float, float]) -> Array | None:
    """Left, right, bottom, top on the tangent plane, degrees; of CCDs that lie along its axes only."""
    if ccd.tangent is None:
        return None
    x, y = (
        np.array([0.5, ccd.width + 0.5, ccd.width + 0.5, 0.5]),
        np.array([0.5, 0.5, ccd.height + 0.5, ccd.height + 0.5]),
    )
    xi, eta = projected(centre, *ccd.tangent.sky(x, y))
    if not np.isfinite(xi).all() or not np.isfinite(eta).all():
        return None
    box = np.array([xi.min(), xi.max(), eta.min(), eta.max()])
    area = 0.5 * abs(float(np.dot(xi, np.roll(eta, 1)) - np.dot(eta, np.roll(xi, 1))))
    return box if area > 0.9 * (box[1] - box[0]) * (box[3] - box[2]) else None


def _overlap(one: Array, other: Array) -> float:
    """As a part of the smaller."""
    wide = min(one[1], other[1]) - max(one[0], other[0])
    tall = min(one[3], other[3]) - max(one[2], other[2])
    areas = [(box[1] - box[0]) * (box[3] - box[2]) for box in (one, other)]
    return float(wide * tall / min(areas)) if wide > 0 and tall > 0 else 0.0


def _beside_layout(whole: Whole, boxes: Mapping[str, Array]) -> dict[str, str]:
    """Where DETSEC has each CCD, by a plane through all others on each axis, against where its WCS has it.

    A plane goes through any three, so that all of four CCDs would seem astray: four get a line along each axis, and it
    is the one without which DETSEC's pixels are as large as those of the CCDs.
    """
    told = [each.ccd for each in whole.ccds if each.ccd.detsec is not None and each.ccd.name in boxes]
    if len(told) < 4:
        return {}
    sections = np.array([ccd.detsec for ccd in told], float)
    detector = np.column_stack([sections[:, :2].mean(axis=1), sections[:, 2:].mean(axis=1), np.ones(len(told))])
    sky = np.array([[boxes[ccd.name][:2].mean(), boxes[ccd.name][2:].mean()] for ccd in told])
    designs = [detector, detector]
    if len(told) == 4:
        along, across = np.abs((detector[:, :2] - detector[:, :2].mean(axis=0)).T @ (sky - sky.mean(axis=0)))
        lines = [detector[:, [0, 2]], detector[:, [1, 2]]]
        designs = lines if along[0] + across[1] > along[1] + across[0] else lines[::-1]
    side = np.array(
        [min(boxes[ccd.name][1] - boxes[ccd.name][0], boxes[ccd.name][3] - boxes[ccd.name][2]) for ccd in told]
    )
    found, stretched = {}, {}
    for number, ccd in enumerate(told):
        others = np.arange(len(told)) != number
        if np.linalg.matrix_rank(detector[others] - detector[others].mean(axis=0)) < 2:
            continue
        fits = [
            np.linalg.lstsq(design[others], at[others], rcond=None)[0]
            for design, at in zip(designs, sky.T, strict=True)
        ]
        off = np.hypot(*(at - design @ fit for at, design, fit in zip(sky.T, designs, fits, strict=True)))
        away, rest = float(off[number]), float(np.median(off[others]))
        if away > ASTRAY * side[number] + 4 * rest:
            found[ccd.name] = "its WCS has it elsewhere among the CCDs than DETSEC does"
            assert ccd.tangent is not None
            stretched[ccd.name] = sum(abs(abs(float(fit[0])) - ccd.tangent.scale_arcsec / 3600) for fit in fits)
    if len(told) == 4 and found:
        name = min(stretched, key=lambda name: stretched[name])
        return {name: found[name]}
    return found


# The whole


def _of_whole(whole: Whole, thresholds: Thresholds, has_reference: bool) -> Figures:
    found: Figures = {figure.name: None for figure in FIGURES if figure.of_whole}
    ccds = whole.ccds

    def column(name: str) -> Array:
        values = [each.figures.get(name) for each in ccds]
        return np.array([value for value in values if value is not None], float)

    for name in MEDIANS:
        if len(column(name)):
            found[name] = float(np.median(column(name)))
    for name in SUMS:
        if len(column(name)):
            found[name] = float(column(name).sum())
    for name, take, of in EXTREMES:
        if len(column(of)):
            found[name] = float(take(column(of)))
    pixels = np.array([each.ccd.width * each.ccd.height for each in ccds], float)
    for name in FRACTIONS:
        parts = np.array([each.figures.get(name) or 0.0 for each in ccds])
        found[name] = float((parts * pixels).sum() / pixels.sum())
    found["seeing"] = _seeing(ccds)
    _add_shapes(whole, found)
    expected = thresholds.ccds or whole.exposure.expected_ccds or len(ccds)
    found["ccds"] = float(len(ccds))
    found["ccds_missing"] = float(max(0, expected - len(ccds))) if not whole.exposure.is_stack else 0.0
    found["ccds_dead"] = float(sum((each.figures.get("dead_fraction") or 0.0) > 0.2 or _is_void(each) for each in ccds))
    away, unmatched = _out_of_place(whole)
    found["ccds_shifted"] = float(len(away))
    found["ccds_inverted"] = (
        float(sum(bool(each.place and each.place.turn) for each in ccds)) if has_reference else None
    )
    found["ccds_unmatched"] = float(len(unmatched)) if has_reference else None
    if has_reference:
        place = whole.place
        found["reference_stars"] = float(place.matched)
        if place.is_found:
            found |= {
                "ra_offset": place.ra_offset,
                "dec_offset": place.dec_offset,
                "ra_scatter": place.ra_scatter,
                "dec_scatter": place.dec_scatter,
                "pointing_offset": math.hypot(place.ra_offset, place.dec_offset),
            }
    return found


def _is_void(each: Measured) -> bool:
    return bool(each.result.problem) and each.table is None


MEDIANS = (
    *("fwhm", "seeing_pixels", "elongation", "background", "background_unevenness", "noise", "saturation", "psf_chi2"),
    *("psf_residuals", "psf_asymmetry", "limiting_magnitude", "zero_point", "pixel_scale"),
)
SUMS = ("stars", "galaxies", "sources", "psf_stars", "cosmic_rays", "trails")
FRACTIONS = ("saturated_fraction", "bad_pixel_fraction", "cosmic_pixel_fraction")
EXTREMES = (
    ("seeing_min", np.min, "seeing"),
    ("seeing_max", np.max, "seeing"),
    ("fwhm_min", np.min, "fwhm_min"),
    ("fwhm_max", np.max, "fwhm_max"),
    ("elongation_max", np.max, "elongation"),
    ("background_min", np.min, "background"),
    ("background_max", np.max, "background"),
)


def _seeing(ccds: Sequence[Measured]) -> float | None:
    """Twice the median half-light radius of all stars together."""
    radii = [
        each.table["FLUX_RADIUS"][each.bright] * each.scale
        for each in ccds
        if each.table is not None and each.bright is not None and each.scale
    ]
    joined = np.concatenate(radii) if radii else np.empty(0)
    return 2 * float(np.median(joined)) if len(joined) >= FEWEST_IN_CELL else None


def _add_shapes(whole: Whole, found: Figures) -> None:
    e1, e2, twin, weights = [], [], [], []
    for each in whole.ccds:
        if each.table is None or each.bright is None or each.locus is None:
            continue
        one, two = ellipticities(each, each.table[each.bright], whole.centre)
        e1.append(one)
        e2.append(two)
        good = (each.table["FLAGS"] & 252 == 0) & (each.table["SNR_WIN"] > 10)
        x, y, snr = (each.table[name][good].astype(float) for name in ("XWIN_IMAGE", "YWIN_IMAGE", "SNR_WIN"))
        twin.append((twins(x, y, snr, each.locus.radius), each.scale))
        weights.append(np.count_nonzero(good))
    if e1 and len(np.concatenate(e1)) >= FEWEST_IN_CELL:
        found |= _ellipticity(float(np.median(np.concatenate(e1))), float(np.median(np.concatenate(e2))))
        found["ellipticity_pattern"] = _pattern(whole.ccds, whole.centre)
    if sum(weights):
        found["doubled_fraction"] = float(np.average([each.fraction for each, _ in twin], weights=weights))
        doubled = [math.hypot(each.dx, each.dy) * scale for each, scale in twin if each.fraction and scale]
        if doubled:
            found["doubled_distance"] = float(np.median(doubled))


# Counts


def _counts(whole: Whole, expected: Expected | None) -> Counts:
    """In bins of BIN_MAG, by square degree and magnitude."""
    magnitudes, area = _magnitudes(whole)
    if not area or not len(magnitudes["star"]) + len(magnitudes["galaxy"]):
        return Counts()
    both = np.concatenate(list(magnitudes.values()))
    first = math.floor(float(both.min()) / BIN_MAG) * BIN_MAG
    count = max(1, math.ceil((float(both.max()) - first) / BIN_MAG + 1e-9))
    edges = first + BIN_MAG * np.arange(count + 1)
    middles = edges[:-1] + BIN_MAG / 2
    numbers = {kind: np.histogram(each, edges)[0] / (area * BIN_MAG) for kind, each in magnitudes.items()}
    return Counts(
        tuple(map(float, middles)),
        tuple(map(float, numbers["galaxy"])),
        tuple(map(float, numbers["star"])),
        tuple(expected.density(float(each)) for each in middles) if expected and whole.exposure.zero_point else (),
    )


def _magnitudes(whole: Whole) -> tuple[dict[str, Array], float]:
    """Of stars and galaxies, and the area they are on in square degrees."""
    found: dict[str, list[Array]] = {"star": [], "galaxy": []}
    area = 0.0
    for each in whole.ccds:
        if each.table is None or each.star is None or each.galaxy is None or not each.scale:
            continue
        usable = 1.0 - (each.figures.get("bad_pixel_fraction") or 0.0)
        area += each.ccd.width * each.ccd.height * usable * (each.scale / 3600) ** 2
        for kind, mask in (("star", each.star), ("galaxy", each.galaxy)):
            found[kind].append(each.table["MAG_AUTO"][mask].astype(float))
    return {kind: np.concatenate(each) if each else np.empty(0) for kind, each in found.items()}, area


def _ratio(whole: Whole, expected: Expected | None) -> float | None:
    """Galaxies counted over those expected, between the brightest magnitude and where the exposure is complete."""
    limit = whole.figures.get("limiting_magnitude")
    magnitudes, area = _magnitudes(whole)
    if expected is None or limit is None or not area:
        return None
    faintest = min(expected.faintest, limit - COMPLETE_MAG)
    if faintest <= expected.brightest:
        return None
    steps = np.linspace(expected.brightest, faintest, 50)
    density = np.array([expected.density(float(each)) for each in steps])
    wanted = area * float(np.sum((density[1:] + density[:-1]) / 2 * np.diff(steps)))
    if wanted < FEWEST_EXPECTED:
        return None
    galaxies = magnitudes["galaxy"]
    return float(np.count_nonzero((galaxies >= expected.brightest) & (galaxies < faintest)) / wanted)


def quiet() -> warnings.catch_warnings[None]:
    """Medians of nothing are told by None, not by numpy."""
    return warnings.catch_warnings(action="ignore", category=RuntimeWarning)

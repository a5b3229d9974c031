"""Reads what photometrix works on: LDAC catalogues, the astrometry beside them, the cards of their exposures.

All problems of all catalogues are found before anything is solved. Matching and solving come after.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spicad.fits import FitsProblem, Value
from spicad.reduction import heads, ldac
from spicad.reduction.heads import Head
from spicad.reduction.photometrix.apertures import Profile, profile_of
from spicad.reduction.tangent import NoWcs, tangent_of, vectors
from spicad.words import BadInput, Problem, nearest

Array = NDArray[np.float64]
Numbers = NDArray[np.int64]

SATURATED = 4  # SExtractor's FLAGS
MASKS = (("FLAGS", "FLAGS_MASK"), ("FLAGS_WEIGHT", "WEIGHTFLAGS_MASK"), ("IMAFLAGS_ISO", "IMAFLAGS_MASK"))
BRIGHT = 50.0  # signal-to-noise of stars whose profile counts
# Ratio of widths by profile and by FWHM_IMAGE beyond which APERTURES are not those of the catalogue. Real ones were up
# to 2.3 apart where stars are narrower than all apertures (VIRCAM, 2.5 pixels).
MOST_APART = 3.0
LEAST_LOSS_ERROR = 0.0003  # mag; a Moffat profile is no nearer to a star in pixels, measured on made skies
PREFILTER = 0.5  # of SN_THRESHOLD: the threshold itself is for a star's median, so that noise chooses no measures


@dataclass(frozen=True)
class Exposure:
    """One exposure: its cards, and the heads that its CCDs came with (without cards where there was no .head).

    `expected` is the zero point that its header promises, for 1 ADU/s at its airmass; None when it has no such card.
    """

    name: str
    path: Path
    instrument: str
    exptime_s: float
    airmass: float | None
    nominal: float | None
    extinction: float | None
    is_flagged: bool | None
    heads: tuple[Head, ...]
    sizes: tuple[tuple[int, int], ...]
    profile: Profile | None = None  # of its stars, when fluxes were corrected for the light beyond the aperture
    loss_mag: float = 0.0  # that light, mag
    loss_error_mag: float = 0.0

    @property
    def expected(self) -> float | None:
        return None if self.nominal is None else self.nominal + self.dimming

    @property
    def dimming(self) -> float:
        """What the air takes beyond airmass 1 by the header, mag, usually negative."""
        return (self.extinction or 0.0) * ((self.airmass or 1.0) - 1.0)


@dataclass(frozen=True)
class Sources:
    """n sources, arrays (n,) and `place` (n, 3), unit vectors. `mag` is for 1 s, `error` 1 sigma, both mag."""

    exposure: Numbers
    ccd: Numbers
    x: Array
    y: Array
    place: Array
    mag: Array
    error: Array

    def of(self, rows: Any) -> Sources:
        return Sources(*(getattr(self, name)[rows] for name in self.__dataclass_fields__))


def read_set(paths: Sequence[Path], values: Mapping[str, Any]) -> tuple[list[Exposure], Sources]:
    """All exposures and their good sources. `values` are photometrix's keywords.

    Raises BadInput with every catalogue that cannot be used, and why.
    """
    exposures: list[Exposure] = []
    parts: list[Sources] = []
    problems: list[Problem] = []
    for path in paths:
        try:
            exposure, sources = _read(path, len(exposures), values)
        except BadInput as error:
            problems += error.problems
        except FitsProblem as error:
            problems.append(Problem(str(path), str(error).removeprefix(f"{path}: ")))
        else:
            exposures.append(exposure)
            parts.append(sources)
    names = [exposure.name for exposure in exposures]
    problems += [
        Problem(name, "two catalogues have this name.") for name in sorted({n for n in names if names.count(n) > 1})
    ]
    if not paths:
        problems.append(Problem("photometrix", "no catalogue is given.", "Give SExtractor's LDAC catalogues."))
    if problems:
        raise BadInput(problems)
    exposures = _with_usual_losses(exposures)
    parts = [replace(part, mag=part.mag - each.loss_mag) for each, part in zip(exposures, parts, strict=True)]
    joined = (np.concatenate([getattr(part, name) for part in parts]) for name in Sources.__dataclass_fields__)
    return exposures, Sources(*joined)


def _read(path: Path, number: int, values: Mapping[str, Any]) -> tuple[Exposure, Sources]:
    flux, error = _column(values["PHOTFLUX_KEY"]), _column(values["PHOTFLUXERR_KEY"])
    wanted = {flux[0], error[0], *values["CENTROID_KEYS"], "FWHM_IMAGE", *(column for column, _ in MASKS)}
    ccds = ldac.read(path, wanted)
    _require_columns(path, ccds, [flux, error], values["CENTROID_KEYS"])
    solved = _heads_of(path, values["HEADER_SUFFIX"], len(ccds))
    exposure = _exposure(path, ccds, solved, values)
    parts = []
    for ccd, (catalogue, head) in enumerate(zip(ccds, exposure.heads, strict=True)):
        rows = _good(catalogue.table, flux, error, values)
        table = catalogue.table[rows]
        parts.append(_sources(path, number, ccd, catalogue, head, table, flux, error, values, exposure.exptime_s))
    sources = Sources(
        *(np.concatenate([getattr(part, name) for part in parts]) for name in Sources.__dataclass_fields__)
    )
    if len(sources.mag) < values["OVERLAP_NMIN"]:
        raise BadInput(_too_few(path, ccds, len(sources.mag), flux, error, values))
    profile = _profile(path, ccds, flux, error, values)
    if profile is None:
        return exposure, sources
    radius = values["APERTURES"][flux[1]] / 2
    loss, loss_error = profile.loss_mag(radius), profile.loss_error_mag(radius)
    return replace(exposure, profile=profile, loss_mag=loss, loss_error_mag=loss_error), sources


def _with_usual_losses(exposures: Sequence[Exposure]) -> list[Exposure]:
    """Losses drawn towards the mean of their instrument as far as their errors are larger than their spread.

    A profile known to 5 mmag only would bring in more than it takes away (Efron and Morris 1973, JASA 68, 117). An
    exposure without one is given the mean: some corrected and some not would differ by all that is lost.
    """
    made = list(exposures)
    for instrument in {exposure.instrument for exposure in exposures}:
        at = [n for n, each in enumerate(exposures) if each.instrument == instrument]
        known = [n for n in at if exposures[n].profile]
        if not known:
            continue
        loss = np.array([exposures[n].loss_mag for n in known])
        variance = np.array([max(exposures[n].loss_error_mag, LEAST_LOSS_ERROR) ** 2 for n in known])
        spread = max(float(loss.var(ddof=1) - variance.mean()) if len(known) > 1 else 0.0, 0.1 * float(variance.mean()))
        mean = float(np.average(loss, weights=1 / (variance + spread)))
        for n in at:
            made[n] = replace(exposures[n], loss_mag=mean, loss_error_mag=math.sqrt(spread))
        for n, own, noise in zip(known, loss.tolist(), variance.tolist(), strict=True):
            share = spread / (spread + noise)
            made[n] = replace(made[n], loss_mag=mean + share * (own - mean), loss_error_mag=math.sqrt(share * noise))
    return made


def _profile(
    path: Path,
    ccds: Sequence[ldac.CcdCatalogue],
    flux: tuple[str, int],
    error: tuple[str, int],
    values: Mapping[str, Any],
) -> Profile | None:
    """Of bright sources without flags. None when no apertures are given, or the flux is of none."""
    diameters = values["APERTURES"]
    shape = ccds[0].table.dtype[flux[0]].shape
    if not diameters or not shape:
        return None
    if shape[0] != len(diameters):
        what = f"{len(diameters)} diameters are given, and {flux[0]} of {path.name} has {shape[0]} apertures."
        raise BadInput(Problem("APERTURES", what, "Give SExtractor's PHOT_APERTURES, or nothing."))
    strict = {**values, "FLAGS_MASK": 65535, "SN_THRESHOLD": BRIGHT / PREFILTER}
    bright = [catalogue.table[_good(catalogue.table, flux, error, strict)] for catalogue in ccds]
    profile = profile_of(np.concatenate([np.asarray(table[flux[0]], float) for table in bright]), diameters)
    widths = [table["FWHM_IMAGE"] for table in bright if "FWHM_IMAGE" in (table.dtype.names or ())]
    width = float(np.median(np.concatenate(widths))) if widths and sum(map(len, widths)) else 0.0
    if profile is not None and width > 0 and not 1 / MOST_APART < profile.fwhm / width < MOST_APART:
        what = f"by {flux[0]} of {path.name} stars are {profile.fwhm:.1f} pixels wide, by FWHM_IMAGE {width:.1f}."
        raise BadInput(Problem("APERTURES", what, "Give the diameters of SExtractor's PHOT_APERTURES, or nothing."))
    return profile


def _sources(
    path: Path,
    number: int,
    ccd: int,
    catalogue: ldac.CcdCatalogue,
    head: Head,
    table: ldac.Table,
    flux: tuple[str, int],
    error: tuple[str, int],
    values: Mapping[str, Any],
    exptime_s: float,
) -> Sources:
    x, y = (np.asarray(table[name], float) for name in values["CENTROID_KEYS"])
    try:
        has_wcs = "CRVAL1" in head.header
        tangent = head.tangent if has_wcs else tangent_of(catalogue.header, catalogue.cards, catalogue.size)
    except NoWcs as problem:
        mend = f"Give its astrometry as a {values['HEADER_SUFFIX']} file beside it."
        raise BadInput(Problem(str(path), f"CCD {ccd + 1}: {problem}", mend)) from None
    fluxes, errors = _numbers(table, flux), _numbers(table, error)
    return Sources(
        exposure=np.full(len(table), number, np.int64),
        ccd=np.full(len(table), ccd, np.int64),
        x=x,
        y=y,
        place=vectors(*tangent.sky(x, y)),
        mag=-2.5 * np.log10(fluxes / exptime_s),
        error=2.5 / math.log(10) * errors / fluxes,
    )


def _column(key: str) -> tuple[str, int]:
    """A column and the place in its vector (from 0): FLUX_APER(3) is ("FLUX_APER", 2)."""
    found = re.fullmatch(r"(\w+)(?:\((\d+)\)|\[(\d+)\])?", key)
    if found is None:
        raise BadInput(
            Problem(key, "this is no column.", "Example: FLUX_AUTO, or FLUX_APER(3) for the third aperture.")
        )
    return found[1], max(int(found[2] or found[3] or 1) - 1, 0)


def _require_columns(
    path: Path, ccds: Sequence[ldac.CcdCatalogue], vectors_: Sequence[tuple[str, int]], centroids: Sequence[str]
) -> None:
    for ccd, catalogue in enumerate(ccds, 1):
        names = catalogue.table.dtype.names or ()
        for name in (*centroids, *(name for name, _ in vectors_)):
            if name not in names:
                what = f"CCD {ccd} has no column {name}."
                raise BadInput(
                    Problem(str(path), what, nearest(name, names) or "Let SExtractor write it (PARAMETERS_NAME).")
                )
        for name in ldac.not_plain(catalogue.table, centroids):
            mend = "CENTROID_KEYS names columns as XWIN_IMAGE."
            raise BadInput(Problem(str(path), f"column {name} is not one number for each source.", mend))
        for name, index in vectors_:
            shape = catalogue.table.dtype[name].shape
            if index >= (shape[0] if shape else 1):
                what = f"{name} has {shape[0] if shape else 1} apertures, and number {index + 1} is asked for."
                raise BadInput(
                    Problem(str(path), what, "Set PHOTFLUX_KEY and PHOTFLUXERR_KEY, or SExtractor's PHOT_APERTURES.")
                )


def _numbers(table: ldac.Table, column: tuple[str, int]) -> Array:
    name, index = column
    values = np.asarray(table[name], float)
    return values if values.ndim == 1 else values[:, index]


def _good(
    table: ldac.Table, flux: tuple[str, int], error: tuple[str, int], values: Mapping[str, Any]
) -> NDArray[np.bool_]:
    fluxes, errors = _numbers(table, flux), _numbers(table, error)
    with np.errstate(invalid="ignore"):
        good = (fluxes > 0) & (errors > 0) & (fluxes >= PREFILTER * values["SN_THRESHOLD"] * errors)
    good &= np.isfinite(fluxes) & np.isfinite(errors)
    for name in values["CENTROID_KEYS"]:
        good &= np.isfinite(table[name])
    for column, mask in MASKS:
        if column in (table.dtype.names or ()):
            good &= (np.asarray(table[column], np.int64) & values[mask]) == 0
    return np.asarray(good)


def _too_few(
    path: Path,
    ccds: Sequence[ldac.CcdCatalogue],
    found: int,
    flux: tuple[str, int],
    error: tuple[str, int],
    values: Mapping[str, Any],
) -> Problem:
    """Why an exposure has hardly a star: saturated ones only, flagged ones only, faint ones only, or none at all."""
    needed = f"{values['OVERLAP_NMIN']} are needed (OVERLAP_NMIN)."
    total = sum(len(catalogue.table) for catalogue in ccds)
    open_masks = {**values, "FLAGS_MASK": 0, "WEIGHTFLAGS_MASK": 0, "IMAFLAGS_MASK": 0}
    bright = [catalogue.table[_good(catalogue.table, flux, error, open_masks)] for catalogue in ccds]
    of_bright = sum(map(len, bright))
    full = sum(
        int((np.asarray(table["FLAGS"]) & SATURATED > 0).sum())
        for table in bright
        if "FLAGS" in (table.dtype.names or ())
    )
    if of_bright and full > 0.5 * of_bright:
        what = f"its stars are saturated: {full} of {of_bright} bright enough; {found} are left, and {needed}"
        return Problem(str(path), what, "A shorter exposure is needed, or a right SATUR_LEVEL in SExtractor.")
    if of_bright >= values["OVERLAP_NMIN"]:
        what = f"{of_bright - found} of its {of_bright} bright sources are flagged; {found} are left, and {needed}"
        return Problem(str(path), what, "Look at its FLAGS and FLAGS_WEIGHT: a wrong weight map flags everything.")
    what = f"too few stars: {found} of {total} sources have a signal-to-noise near SN_THRESHOLD, and {needed}"
    return Problem(str(path), what)


# Cards


def _heads_of(path: Path, suffix: str, ccds: int) -> list[Head]:
    """The heads beside a catalogue, one a CCD; without cards when there is no such file."""
    beside = heads.head_path(path, suffix)
    if not beside.exists():
        return [Head(())] * ccds
    found = heads.read(beside)
    if len(found) != ccds:
        what = f"it has heads of {len(found)} CCDs, and the catalogue has {ccds} CCDs."
        raise BadInput(Problem(str(beside), what, "Both must come from the same exposure."))
    return found


def _exposure(
    path: Path, ccds: Sequence[ldac.CcdCatalogue], solved: Sequence[Head], values: Mapping[str, Any]
) -> Exposure:
    headers = [catalogue.header for catalogue in ccds]

    def card(keyword: str) -> Value:
        return next((header[values[keyword]] for header in headers if header.get(values[keyword]) is not None), None)

    exptime = _number(card("EXPOTIME_KEY"))
    if exptime is None or exptime <= 0:
        shown = values["EXPOTIME_KEY"]
        what = f"its header has no {shown}." if exptime is None else f"its header has {shown} = {exptime:g}."
        raise BadInput(Problem(str(path), what, "Magnitudes need the exposure time; EXPOTIME_KEY names its card."))
    words = [
        str(next((h[key] for h in headers if h.get(key) is not None), "")).strip() for key in values["PHOTINSTRU_KEY"]
    ]
    return Exposure(
        name=path.stem,
        path=path,
        instrument=" ".join(word for word in words if word),
        exptime_s=exptime,
        airmass=_number(card("AIRMASS_KEY")),
        nominal=_number(card("MAGZERO_KEY")),
        extinction=_number(card("EXTINCT_KEY")),
        is_flagged=_truth(card("PHOTOMFLAG_KEY")),
        heads=tuple(solved),
        sizes=tuple(catalogue.size for catalogue in ccds),
    )


def _number(value: Value) -> float | None:
    try:
        number = float(str(value))
    except ValueError:
        return None
    return number if math.isfinite(number) and not isinstance(value, bool) else None


def _truth(value: Value) -> bool | None:
    if value is None:
        return None
    if isinstance(value, str):
        return value.strip().upper()[:1] in ("T", "Y", "1")
    return bool(value)

"""Reads the catalogues to be solved: exposures, their CCDs and headers, and the detections that can be used.

All detections of all exposures lie in one set of arrays, sorted by exposure and CCD, so that thousands of CCDs fit
into memory. Where they are on the sky is found elsewhere.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from spicad.fits import FitsProblem, Value
from spicad.reduction import ldac
from spicad.reduction.astrometrix.settings import Settings
from spicad.reduction.tangent import NoWcs, Tangent, middle_of, tangent_of
from spicad.words import BadInput, Problem, SpicaError

Array = NDArray[np.float64]
SATURATED = 4  # of SExtractor's FLAGS
TRUNCATED = 8 + 16 + 32 + 64 + 128  # at the border, or its aperture or memory was cut
OUTSIDE_SHARE = 0.5  # of its sides that a detection may lie outside of a CCD


@dataclass(frozen=True)
class Ccd:
    """One CCD as its header tells it."""

    name: str
    size: tuple[int, int]
    tangent: Tangent


@dataclass(frozen=True)
class Exposure:
    """One catalogue. `epoch` is in years; `first` and `end` bound its detections, `bounds` those of each CCD."""

    number: int
    path: Path
    name: str
    ccds: tuple[Ccd, ...]
    instrument: str
    epoch: float
    scale: float  # arcsec a pixel
    fwhm: float  # pixels, the median; NaN when the catalogue does not tell
    bounds: tuple[int, ...]
    has_errors: bool = True  # of positions; else they are guessed

    @property
    def here(self) -> slice:
        return slice(self.bounds[0], self.bounds[-1])

    def on(self, ccd: int) -> slice:
        return slice(self.bounds[ccd], self.bounds[ccd + 1])

    @property
    def pivot(self) -> tuple[float, float]:
        """Where its headers' planes touch the sky when they agree about it; else the middle of its CCDs."""
        crvals = np.array([ccd.tangent.crval for ccd in self.ccds])
        middle = middle_of(crvals[:, 0], crvals[:, 1])
        spread = np.hypot((crvals[:, 0] - middle[0] + 180) % 360 - 180, crvals[:, 1] - middle[1]).max()
        return middle if spread < 1 / 3600 else self.middle

    @property
    def middle(self) -> tuple[float, float]:
        """Of its CCDs, by its headers."""
        centres = [c.tangent.sky(*(np.array([(side + 1) / 2]) for side in c.size)) for c in self.ccds]
        ra, dec = np.concatenate(centres, axis=1)
        return middle_of(ra, dec)


@dataclass(frozen=True)
class Detections:
    """Of all exposures. Positions and errors (one axis) in pixels, magnitudes instrumental."""

    x: Array
    y: Array
    error: NDArray[np.float32]
    snr: NDArray[np.float32]
    mag: NDArray[np.float32]
    number: NDArray[np.int32]  # the row in its CCD's table, from 0
    good: NDArray[np.bool_]  # may take part in the fit; the others, saturated, only help to match


@dataclass(frozen=True)
class Refused:
    """An exposure for which nothing is written, and why. `name` is the failure's own, one of verdict.FAILURES."""

    exposure: str
    name: str
    why: str


@dataclass(frozen=True)
class Set:
    exposures: tuple[Exposure, ...]
    detections: Detections
    refused: tuple[Refused, ...]


def check_names(paths: Sequence[Path]) -> None:
    """Raises BadInput when there is no catalogue, or two would share one .head."""
    if not paths:
        raise BadInput(Problem("astrometrix", "no catalogue is given.", "Give SExtractor's LDAC catalogues."))
    count = Counter(path.stem for path in paths)
    what = "two catalogues have this name: their .head files would be one."
    twice = [Problem(stem, what, "Give each once, or rename one.") for stem, times in count.items() if times > 1]
    if twice:
        raise BadInput(twice)


def load(paths: Sequence[Path], settings: Settings) -> Set:
    """What is wrong with one catalogue refuses that one only."""
    exposures: list[Exposure] = []
    parts: list[list[Array]] = []
    refused: list[Refused] = []
    first = 0
    for path in paths:
        try:
            exposure, found = _loaded(path, len(exposures), first, settings)
        except (SpicaError, OSError) as error:
            refused.append(Refused(path.stem, "unreadable", str(error)))
            continue
        except _NoPlace as error:
            refused.append(Refused(path.stem, "no WCS", str(error)))
            continue
        exposures.append(exposure)
        parts += found
        first = exposure.bounds[-1]
    kinds = (np.float64, np.float64, np.float32, np.float32, np.float32, np.int32, np.bool_)
    arrays = [
        np.concatenate([np.asarray(part[index], kind) for part in parts] or [np.empty(0, kind)])
        for index, kind in enumerate(kinds)
    ]
    return Set(tuple(exposures), Detections(*arrays), tuple(refused))


class _NoPlace(Exception):
    """Not a failure of reading."""


def _loaded(path: Path, number: int, first: int, settings: Settings) -> tuple[Exposure, list[list[Array]]]:
    columns = _columns_wanted(settings)
    catalogues = ldac.read(path, columns)
    ccds, parts, bounds, widths = [], [], [first], []
    for index, catalogue in enumerate(catalogues):
        _check_columns(path, catalogue, settings)
        name = str(catalogue.header.get("EXTNAME") or f"ccd{index + 1}")
        try:
            tangent = tangent_of(catalogue.header, catalogue.cards, catalogue.size)
        except NoWcs as error:
            raise _NoPlace(f"{name}: {error}") from None
        ccds.append(Ccd(name, catalogue.size, tangent))
        parts.append(_usable(catalogue, settings))
        bounds.append(bounds[-1] + len(parts[-1][0]))
        widths.append(_fwhm(catalogue))
    header = catalogues[0].header
    sizes = ",".join(f"{ccd.size[0]}x{ccd.size[1]}" for ccd in ccds)
    keys = [str(header.get(key, "")).strip() for key in settings.words("ASTRINSTRU_KEY")]
    instrument = "/".join([*(key for key in keys if key), f"{len(ccds)} CCD" + ("s" if len(ccds) > 1 else "")])
    scale = float(np.median([ccd.tangent.scale_arcsec for ccd in ccds]))
    fwhm = float(np.nanmedian(widths)) if np.isfinite(widths).any() else math.nan
    exposure = Exposure(
        number,
        path,
        path.stem,
        tuple(ccds),
        f"{instrument}\0{sizes}",
        epoch_of(header),
        scale,
        fwhm,
        tuple(bounds),
        all(_error_columns(catalogue, settings) for catalogue in catalogues),
    )
    return exposure, parts


def _columns_wanted(settings: Settings) -> list[str]:
    return [
        *settings.words("CENTROID_KEYS"),
        *settings.words("CENTROIDERR_KEYS"),
        settings.word("PHOTFLUX_KEY"),
        settings.word("PHOTFLUXERR_KEY"),
        *("FLAGS", "FWHM_IMAGE", "ELLIPTICITY", "FLUX_RADIUS", "NUMBER"),
    ]


def _check_columns(path: Path, catalogue: ldac.CcdCatalogue, settings: Settings) -> None:
    needed = [*settings.words("CENTROID_KEYS"), settings.word("PHOTFLUX_KEY"), settings.word("PHOTFLUXERR_KEY")]
    names = catalogue.table.dtype.names or ()
    lacking = [name for name in needed if name not in names]
    if lacking:
        raise FitsProblem(path, f"has no column {', '.join(lacking)}.", "Add it to SExtractor's PARAMETERS_NAME.")
    several = ldac.not_plain(catalogue.table, [*needed, *settings.words("CENTROIDERR_KEYS")])
    if several:
        what = f"column {', '.join(several)} is not one number for each source."
        raise FitsProblem(path, what, "Name another column, as FLUX_AUTO or XWIN_IMAGE.")


def _error_columns(catalogue: ldac.CcdCatalogue, settings: Settings) -> list[str]:
    return [name for name in settings.words("CENTROIDERR_KEYS") if name in (catalogue.table.dtype.names or ())]


def _usable(catalogue: ldac.CcdCatalogue, settings: Settings) -> list[Array]:
    """Columns of Detections for the sources of one CCD that are worth keeping."""
    table = catalogue.table
    names = table.dtype.names or ()
    x_key, y_key = settings.words("CENTROID_KEYS")
    x, y = table[x_key].astype(float), table[y_key].astype(float)
    flux, flux_error = table[settings.word("PHOTFLUX_KEY")], table[settings.word("PHOTFLUXERR_KEY")]
    with np.errstate(all="ignore"):
        snr = np.where(flux_error > 0, flux / flux_error, 0.0)
        mag = np.where(flux > 0, -2.5 * np.log10(np.maximum(flux, 1e-30)), np.nan)
    axes = [table[name].astype(float) ** 2 for name in _error_columns(catalogue, settings)]
    fwhm = table["FWHM_IMAGE"] if "FWHM_IMAGE" in names else np.full(len(table), np.nan)
    # Where there is no error: that of a centroid, about FWHM / (2.35 S/N) (King 1983, PASP 95, 163).
    guess = np.where(np.isfinite(fwhm) & (fwhm > 0), fwhm, 3.0) / 2.35 / np.maximum(snr, 1.0)
    error = np.sqrt(np.mean(axes, axis=0)) if axes else guess
    error = np.where(np.isfinite(error) & (error > 0), error, guess)
    flags = table["FLAGS"].astype(int) if "FLAGS" in names else np.zeros(len(table), int)
    width, height = catalogue.size
    kept = (snr >= settings.numbers("SN_THRESHOLDS")[0]) & np.isfinite(snr) & np.isfinite(x) & np.isfinite(y)
    kept &= (np.abs(x / width - 0.5) < 0.5 + OUTSIDE_SHARE) & (np.abs(y / height - 0.5) < 0.5 + OUTSIDE_SHARE)
    kept &= (flags & TRUNCATED & ~SATURATED) == 0
    narrow, wide = settings.numbers("FWHM_THRESHOLDS")
    if "FWHM_IMAGE" in names:
        kept &= ((fwhm >= narrow) & (fwhm <= wide)) | ((flags & SATURATED) > 0)
    if "ELLIPTICITY" in names:
        kept &= (table["ELLIPTICITY"] <= settings.number("ELLIPTICITY_MAX")) | ((flags & SATURATED) > 0)
    good = (flags & settings.integer("FLAGS_MASK")) == 0
    return [column[kept] for column in (x, y, error, snr, mag, np.arange(len(table)), good)]


def _fwhm(catalogue: ldac.CcdCatalogue) -> float:
    names = catalogue.table.dtype.names or ()
    if "FWHM_IMAGE" not in names or not len(catalogue.table):
        return math.nan
    return float(np.median(catalogue.table["FWHM_IMAGE"]))


def epoch_of(header: Mapping[str, Value]) -> float:
    """When the exposure was taken, in years; NaN when its header does not tell."""
    for key in ("MJD-OBS", "MJD", "MJDATE"):
        value = header.get(key)
        if isinstance(value, int | float) and 10_000 < value < 100_000:
            return 2000.0 + (float(value) - 51544.5) / 365.25
    for key in ("DATE-OBS", "DATEOBS", "DATE_OBS"):
        told = re.match(r"(\d{4})-(\d{2})-(\d{2})", str(header.get(key) or ""))
        if told and 1 <= int(told[2]) <= 12:
            return int(told[1]) + (int(told[2]) - 1) / 12 + (int(told[3]) - 1) / 365.25
    value = header.get("EPOCH")
    return float(value) if isinstance(value, int | float) and 1850 < value < 2200 and value != 2000 else math.nan

"""What qualityfits leaves of an exposure or a stack: its figures with their units, its files, the grade it proposes.

This is the contract between the program that writes (reduction/qualityfits/) and those who register, show and grade;
qualityfits(1) tells the same for people. How a grade comes about is in thresholds.py.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from spicad.words import SpicaError

FORMAT = 1
GRADES = ("A", "B", "C", "D")
MAX_BYTES = 16 << 20
MAX_CCDS = 4096

# TERAPIX's, offered to who grades and proposed with a grade.
COMMENTS = (
    "poor seeing",
    "astrometric keyword problem, some CCDs off",
    "galaxy counts below expectations",
    "galaxy counts above expectations",
    "CCDs or half-CCDs missing",
    "defocus",
    "doubled objects",
    "diffuse light contamination",
    "unusual PSF anisotropy pattern",
    "elongated image",
    "unusual radius-magnitude diagram",
    "unusual background",
    "telescope lost guiding",
    "satellite trail",
    "saturated",
)


@dataclass(frozen=True)
class Figure:
    """A number that is told of the whole, of each CCD, or of both. `unit` is as FITS and VOTable write it."""

    name: str
    unit: str
    help: str
    of_whole: bool = True
    of_ccd: bool = True


FIGURES = (
    Figure("seeing", "arcsec", "Twice the median half-light radius of stars, as TERAPIX had it"),
    Figure("seeing_pixels", "pix", "The same in pixels"),
    Figure("seeing_min", "arcsec", "The least of the CCDs", of_ccd=False),
    Figure("seeing_max", "arcsec", "The largest of the CCDs", of_ccd=False),
    Figure("fwhm", "arcsec", "Full width at half maximum of PSFEx's model, mean over the field"),
    Figure("fwhm_min", "arcsec", "The least over the field"),
    Figure("fwhm_max", "arcsec", "The largest over the field"),
    Figure("elongation", "", "Axis ratio A/B of stars, median"),
    Figure("elongation_max", "", "The largest median of a CCD", of_ccd=False),
    Figure("ellipticity", "", "Length of the stars' mean ellipticity (a-b)/(a+b), with its direction"),
    Figure("ellipticity_angle", "deg", "Its position angle on the sky, from north through east"),
    Figure("ellipticity_pattern", "", "Scatter of the ellipticity in cells: an uneven PSF", of_ccd=False),
    Figure("background", "adu", "Level of the background, median"),
    Figure("background_min", "adu", "The least of the CCDs", of_ccd=False),
    Figure("background_max", "adu", "The largest of the CCDs", of_ccd=False),
    Figure(
        "background_unevenness", "", "Peak to valley of the background over a CCD, as a part of its level; the median"
    ),
    Figure("noise", "adu", "Noise of the background, median"),
    Figure("saturation", "adu", "Level of saturation"),
    Figure("saturated_fraction", "", "Part of the pixels that are saturated"),
    Figure("stars", "", "Stars: point-like, not saturated, signal-to-noise of 20 or more"),
    Figure("galaxies", "", "Galaxies: larger than stars, signal-to-noise of 10 or more"),
    Figure("sources", "", "Sources of the low threshold"),
    Figure("galaxy_counts_ratio", "", "Galaxies counted over those expected in the filter", of_ccd=False),
    Figure("psf_stars", "", "Stars that PSFEx's model is made from"),
    Figure("psf_chi2", "", "Reduced chi2 of PSFEx's model"),
    Figure("psf_residuals", "", "Residuals of PSFEx's model"),
    Figure("psf_asymmetry", "", "Asymmetry of PSFEx's model"),
    Figure("ra_offset", "arcsec", "Sources less reference catalogue, along right ascension, median"),
    Figure("dec_offset", "arcsec", "The same along declination"),
    Figure("ra_scatter", "arcsec", "Scatter about it"),
    Figure("dec_scatter", "arcsec", "Scatter about it"),
    Figure("pointing_offset", "arcsec", "Length of that offset, of the whole", of_ccd=False),
    Figure("reference_stars", "", "Stars of the reference catalogue that were found again"),
    Figure("limiting_magnitude", "mag", "Point source of signal-to-noise 5"),
    Figure("zero_point", "mag", "Magnitude of 1 ADU in this image, by the header"),
    Figure("bad_pixel_fraction", "", "Part of the pixels that have no weight"),
    Figure("cosmic_rays", "", "Cosmic rays masked"),
    Figure("cosmic_pixel_fraction", "", "Part of the pixels masked for cosmic rays"),
    Figure("trails", "", "Satellite trails seen"),
    Figure("doubled_fraction", "", "Part of the sources with a twin at one same distance", of_ccd=False),
    Figure("doubled_distance", "arcsec", "That distance", of_ccd=False),
    Figure("pixel_scale", "arcsec", "Side of a pixel"),
    Figure("ccds", "", "CCDs in the file", of_ccd=False),
    Figure("ccds_missing", "", "CCDs of the instrument that are not in the file", of_ccd=False),
    Figure("ccds_dead", "", "CCDs with nothing in them, or a half of nothing", of_ccd=False),
    Figure("ccds_shifted", "", "CCDs that are not where their header says", of_ccd=False),
    Figure("ccds_inverted", "", "CCDs that are upside down or mirrored", of_ccd=False),
    Figure("ccds_unmatched", "", "CCDs where reference stars lie and none is found again", of_ccd=False),
    Figure("dead_fraction", "", "Part of the CCD that holds nothing", of_whole=False),
    Figure("exposures", "", "Exposures in a stack", of_ccd=False),
    Figure("exposures_dropped", "", "Exposures that were left out of a stack", of_ccd=False),
    Figure("coverage_fraction", "", "Part of a stack's pixels that any exposure covers", of_ccd=False),
    Figure("depth_spread", "mag", "Scatter of the limiting magnitude over a stack", of_ccd=False),
    Figure("comparison_offset", "arcsec", "Distance from an earlier stack, median", of_ccd=False),
    Figure("comparison_scatter", "arcsec", "Scatter about it", of_ccd=False),
    Figure("comparison_magnitude", "mag", "Magnitudes less those of the earlier stack, median", of_ccd=False),
    Figure("comparison_depth", "mag", "Limiting magnitude less that of the earlier stack", of_ccd=False),
)
BY_NAME = {figure.name: figure for figure in FIGURES}

# What is left, by what comes after the exposure's name: 900001p.quality.json and so on. A job's products have these
# names; pictures that have nothing to show are not there.
TABLES = {
    "json": ".quality.json",  # a Report, all the rest in one
    "fits": ".quality.fits",  # a row for each CCD
    "csv": ".quality.csv",
    "votable": ".quality.xml",
    "catalogue": ".ldac",  # of the low threshold, for SCAMP
    "psf": ".psf",  # PSFEx's model
    "weight": ".weight.fits.fz",
    "flag": ".flag.fits.fz",
    "origins": ".quality-origins.csv",  # of a stack: exposures used, dropped and why
}
PICTURES = {  # in the order of a page: suffix, title
    "preview": (".quality-preview.png", "The exposure, CCDs as they lie on the sky, north up, east to the left"),
    "weight": (".quality-weight.png", "Its weight map: black is masked"),
    "psf": (".quality-psf.svg", "Width of the PSF over the field"),
    "ellipticity": (".quality-ellipticity.svg", "Ellipticity of stars over the field"),
    "background": (".quality-background.svg", "Background over the field"),
    "radius": (".quality-radius.svg", "Half-light radius against magnitude"),
    "counts": (".quality-counts.svg", "Counts of stars and galaxies"),
    "histograms": (".quality-histograms.svg", "Histograms of background, width, elongation and radius"),
    "astrometry": (".quality-astrometry.svg", "Sources less reference catalogue"),
    "depth": (".quality-depth.svg", "Limiting magnitude over a stack"),
    "coverage": (".quality-coverage.svg", "Weight over a stack, as a part of the largest"),
    "comparison": (".quality-comparison.svg", "A stack beside an earlier one"),
}
FLAGS = {
    1: "bad in the flat or the weight map given",
    2: "bad in the mask given",
    4: "cosmic ray",
    8: "satellite trail",
    16: "saturated",
    32: "nothing in it: zero, NaN or blank",
}


@dataclass(frozen=True)
class Reason:
    """Why the grade is not better. `comment` is one of COMMENTS; `ccd` is '' for the whole."""

    grade: str
    figure: str
    words: str
    comment: str
    value: float | None = None
    limit: float | None = None
    ccd: str = ""


@dataclass(frozen=True)
class CcdReport:
    """One CCD. `hdu` counts from 0 as FITS readers do; `problem` says why there are no figures, or what is wrong."""

    name: str
    hdu: int
    figures: Mapping[str, float | None]
    problem: str = ""


@dataclass(frozen=True)
class Trail:
    """A satellite's, from end to end in pixels of the CCD, counted from 1."""

    ccd: str
    x1: float
    y1: float
    x2: float
    y2: float
    width: float


@dataclass(frozen=True)
class Counts:
    """Numbers in bins of magnitude, by square degree and magnitude; `expected` is empty where nothing is known."""

    magnitude: Sequence[float] = ()
    galaxies: Sequence[float] = ()
    stars: Sequence[float] = ()
    expected: Sequence[float] = ()


@dataclass(frozen=True)
class ToolRun:
    """A tool that was used: how often, and the seconds of all its runs together."""

    name: str
    version: str
    runs: int
    seconds: float


@dataclass(frozen=True)
class Report:
    """All that is in the .quality.json. `problem` says why nothing could be measured: then figures are None."""

    exposure: str  # the name of the file that was looked at, without folders
    kind: str  # "exposure" or "stack"
    instrument: str
    filter: str
    object: str
    obs_id: str
    grade: str
    reasons: Sequence[Reason]
    figures: Mapping[str, float | None]  # by the names of FIGURES; None where it is not known
    ccds: Sequence[CcdReport]
    counts: Counts = Counts()
    trails: Sequence[Trail] = ()
    tools: Sequence[ToolRun] = ()
    thresholds: str = ""  # the file of etc/quality/ that the grade is by
    notes: Sequence[str] = ()  # what is odd but not counted, for people
    problem: str = ""
    program: str = ""
    format: int = field(default=FORMAT)

    @property
    def comments(self) -> tuple[str, ...]:
        """Those of COMMENTS that explain the grade, each once."""
        return tuple(dict.fromkeys(reason.comment for reason in self.reasons if reason.comment))


def write_report(path: Path, report: Report) -> None:
    """Writes the .quality.json, whole or not at all."""
    part = path.with_name(f".{path.name[:200]}.part")
    try:
        part.write_text(json.dumps(_plain(asdict(report)), indent=1, allow_nan=False) + "\n", encoding="utf-8")
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _plain(value: Any) -> Any:
    """JSON knows no NaN; six digits are enough for a figure."""
    if isinstance(value, Mapping):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if isinstance(value, float):
        return float(f"{value:.7g}") if math.isfinite(value) else None
    return value


def record_of(report: Report) -> dict[str, Any]:
    """What of a report goes into the archive; plain values. Figures of CCDs stand in columns: a third of the bytes."""
    names = [name for name in report.figures if any(name in ccd.figures for ccd in report.ccds)]
    names += sorted({name for ccd in report.ccds for name in ccd.figures} - set(names))
    ccds: dict[str, list[Any]] = {name: [ccd.figures.get(name) for ccd in report.ccds] for name in names}
    return {
        "grade": report.grade,
        "reasons": _plain([asdict(reason) for reason in report.reasons]),
        "figures": _plain(report.figures),
        "ccds": {
            "names": [ccd.name for ccd in report.ccds],
            "hdus": [ccd.hdu for ccd in report.ccds],
            "problems": [ccd.problem for ccd in report.ccds],
            "figures": _plain(ccds),
        },
        "problem": report.problem,
    }


def read_report(path: Path) -> Report:
    """Raises SpicaError when it is no such file: what a tool left is not believed unseen."""
    try:
        with path.open("rb") as file:
            text = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise SpicaError(f"{path}: cannot be read: {error.strerror}.") from None
    return report_from(text, str(path))


def report_from(text: bytes, source: str) -> Report:
    """Of what stands in the .quality.json. Raises SpicaError."""
    try:
        return _report(json.loads(text) if len(text) <= MAX_BYTES else None)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise SpicaError(f"{source}: is no report of qualityfits (format {FORMAT}).") from None


def _report(told: Any) -> Report:
    if told["format"] != FORMAT or len(told["ccds"]) > MAX_CCDS:
        raise ValueError
    names = ("exposure", "kind", "instrument", "filter", "object", "obs_id", "thresholds", "problem", "program")
    texts: dict[str, Any] = {name: _text(told[name]) for name in names}
    return Report(
        **texts,
        grade=_grade(told["grade"]),
        reasons=tuple(
            Reason(
                grade=_grade(each["grade"]),
                figure=_text(each["figure"]),
                words=_text(each["words"]),
                comment=_text(each["comment"]),
                value=_number(each["value"]),
                limit=_number(each["limit"]),
                ccd=_text(each["ccd"]),
            )
            for each in told["reasons"]
        ),
        figures=_figures(told["figures"]),
        ccds=tuple(
            CcdReport(_text(each["name"]), int(each["hdu"]), _figures(each["figures"]), _text(each["problem"]))
            for each in told["ccds"]
        ),
        counts=Counts(
            *(tuple(map(_known, told["counts"][name])) for name in ("magnitude", "galaxies", "stars", "expected"))
        ),
        trails=tuple(
            Trail(_text(each["ccd"]), *(_known(each[name]) for name in ("x1", "y1", "x2", "y2", "width")))
            for each in told["trails"]
        ),
        tools=tuple(
            ToolRun(_text(each["name"]), _text(each["version"]), int(each["runs"]), _known(each["seconds"]))
            for each in told["tools"]
        ),
        notes=tuple(map(_text, told["notes"])),
    )


def _figures(told: Mapping[str, Any]) -> dict[str, float | None]:
    return {name: _number(told[name]) for name in BY_NAME if name in told}


def _number(told: Any) -> float | None:
    return None if told is None else _known(told)


def _known(told: Any) -> float:
    if isinstance(told, bool) or not isinstance(told, int | float) or not math.isfinite(told):
        raise ValueError
    return float(told)


def _text(told: Any) -> str:
    if not isinstance(told, str):
        raise TypeError
    return "".join(sign if sign.isprintable() else " " for sign in told[:2000])


def _grade(told: Any) -> str:
    if told not in GRADES:
        raise ValueError
    return str(told)

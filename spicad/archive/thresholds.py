"""The thresholds of etc/quality/ and the grade that figures come to by them, with its reasons.

generic.toml is for all; a file with `instrument` adds to it and changes it for one, a file with `filter` too for one of
its filters. A person's grade wins over what is proposed here: that is the archive's affair.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from spicad.archive.quality import BY_NAME, COMMENTS, GRADES, CcdReport, Reason
from spicad.config import shipped_folder
from spicad.schema import REQUIRED, Document, Key, checked, read_toml
from spicad.words import BadInput, Problem, SpicaError, nearest

THRESHOLD_KEYS = (
    Key("title", "text", REQUIRED, "What it is for, for people"),
    Key("instrument", "text", "", "The file of etc/instruments/ that it is for, without .toml; empty: all"),
    Key("filter", "text or list of texts", [], "The filters that it is for, as Spica calls them; none: all"),
    Key("ccds", "integer", 0, "CCDs of the instrument; 0: as many as NEXTEND says", minimum=0, maximum=4096),
    Key("limit", "list of tables", [], "[[limit]]: a figure and the grades that it comes to"),
    Key("counts", "table of tables", {}, "[counts.FILTER]: the galaxies to be expected"),
)
LIMIT_KEYS = (
    Key("figure", "text", REQUIRED, "Name of a figure, see qualityfits(1)"),
    Key("above", "table", {}, "For each grade the value beyond which it is not better"),
    Key("below", "table", {}, "The same for values that are too small"),
    Key("of", "text", "whole", "Whether the whole is held to it or each CCD", choices=("whole", "ccds")),
    Key("comment", "text", "", "One of the usual comments"),
)
COUNTS_KEYS = (
    Key("at", "number", REQUIRED, "A magnitude"),
    Key("galaxies", "number", REQUIRED, "Galaxies in a square degree and a magnitude there", minimum=0),
    Key("slope", "number", REQUIRED, "How the log10 of the number grows with the magnitude"),
    Key("from", "number", REQUIRED, "The brightest magnitude counted"),
    Key("to", "number", REQUIRED, "The faintest magnitude counted"),
)


@dataclass(frozen=True)
class Limit:
    """`grades` are pairs of grade and value, the worst first. `is_above`: larger values are worse."""

    figure: str
    is_above: bool
    is_of_ccds: bool
    grades: tuple[tuple[str, float], ...]
    comment: str = ""

    def broken_by(self, value: float) -> tuple[str, float] | None:
        """The worst grade that the value comes to, with the limit."""
        for grade, limit in self.grades:
            if value > limit if self.is_above else value < limit:
                return grade, limit
        return None


@dataclass(frozen=True)
class Expected:
    """Galaxies in a square degree and a magnitude: 10 to the power of a straight line."""

    at: float
    galaxies: float
    slope: float
    brightest: float
    faintest: float

    def density(self, magnitude: float) -> float:
        return float(self.galaxies * 10 ** (self.slope * (magnitude - self.at)))


@dataclass(frozen=True)
class Thresholds:
    """What holds for an instrument and a filter. `name` is the file that is nearest."""

    name: str
    ccds: int = 0
    limits: Mapping[tuple[str, bool, bool], Limit] = field(default_factory=dict)
    counts: Mapping[str, Expected] = field(default_factory=dict)


@dataclass(frozen=True)
class _File:
    name: str
    instrument: str
    filters: tuple[str, ...]
    thresholds: Thresholds


def shipped_thresholds() -> Path:
    """The folder that came with this Spica."""
    return shipped_folder() / "quality"


def thresholds_for(folder: Path, instrument: str, band: str) -> Thresholds:
    """What holds for the instrument (its file's name) and the filter. Raises BadInput with all that is wrong."""
    problems: list[Problem] = []
    files = []
    for path in sorted(folder.glob("*.toml")):
        try:
            files.append(_read(path))
        except BadInput as error:
            problems += error.problems
    if problems:
        raise BadInput(problems)
    fitting = [
        each
        for each in files
        if each.instrument in ("", instrument) and (not each.filters or band.casefold() in each.filters)
    ]
    if not any(not each.instrument and not each.filters for each in files):
        raise BadInput(Problem(str(folder), "holds no thresholds for any instrument.", "Look for generic.toml."))
    fitting.sort(key=lambda each: (bool(each.instrument), bool(each.filters)))
    found = Thresholds(fitting[-1].name)
    for each in fitting:
        mine = each.thresholds
        found = replace(
            found,
            ccds=mine.ccds or found.ccds,
            limits={**found.limits, **mine.limits},
            counts={**found.counts, **mine.counts},
        )
    return found


def _read(path: Path) -> _File:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SpicaError(f"{path}: cannot be read: {error}") from None
    return parse_thresholds(text, str(path), path.stem)


def parse_thresholds(text: str, source: str, name: str) -> _File:
    """Raises BadInput with every problem: line, what is wrong, nearest spelling."""
    document = read_toml(text, source)
    problems: list[Problem] = []
    values = checked(document, THRESHOLD_KEYS, (), problems)
    if problems:
        raise BadInput(problems)
    limits = {}
    for number in range(len(values["limit"])):
        for limit in _limits(document, number, problems):
            limits[limit.figure, limit.is_above, limit.is_of_ccds] = limit
    counts = {}
    for band in values["counts"]:
        told = checked(document, COUNTS_KEYS, ("counts", band), problems)
        if not problems:
            counts[band] = Expected(*(told[key.name] for key in COUNTS_KEYS))
    if problems:
        raise BadInput(problems)
    bands = [values["filter"]] if isinstance(values["filter"], str) else values["filter"]
    lower = tuple(band.casefold() for band in bands)
    return _File(name, values["instrument"], lower, Thresholds(name, values["ccds"], limits, counts))


def _limits(document: Document, number: int, problems: list[Problem]) -> list[Limit]:
    path = ("limit", number)
    told = checked(document, LIMIT_KEYS, path, problems)
    figure = BY_NAME.get(told.get("figure", ""))
    is_of_ccds = told.get("of") == "ccds"
    if figure is None or not (figure.of_ccd if is_of_ccds else figure.of_whole):
        of = "a CCD" if is_of_ccds else "the whole"
        what = f'"{told.get("figure")}" is no figure of {of}.'
        problems.append(document.problem((*path, "figure"), what, nearest(str(told.get("figure")), BY_NAME)))
    if told.get("comment") and told["comment"] not in COMMENTS:
        what = f'"{told["comment"]}" is none of the usual comments.'
        problems.append(document.problem((*path, "comment"), what, nearest(told["comment"], COMMENTS)))
    made = []
    for side in ("above", "below"):
        grades = _grades(document, (*path, side), told.get(side) or {}, problems)
        if grades:
            made.append(Limit(told["figure"], side == "above", is_of_ccds, grades, told["comment"]))
    return made


def _grades(
    document: Document, path: tuple[str | int, ...], told: Mapping[str, Any], problems: list[Problem]
) -> tuple[tuple[str, float], ...]:
    """The worst grade first."""
    for grade, value in told.items():
        if grade not in GRADES[1:] or isinstance(value, bool) or not isinstance(value, int | float):
            what = f"{grade} = {value!r} is no limit of a grade."
            problems.append(document.problem((*path, grade), what, "Write such as { B = 1.0, C = 1.2, D = 2.0 }."))
    if problems:
        return ()
    values = [float(told[grade]) for grade in sorted(told)]
    if values != sorted(values, reverse=path[-1] == "below"):
        problems.append(document.problem(path, "a worse grade must have the limit further off."))
    return tuple((grade, float(told[grade])) for grade in sorted(told, reverse=True))


def proposed(
    figures: Mapping[str, float | None], ccds: Sequence[CcdReport], thresholds: Thresholds
) -> tuple[str, tuple[Reason, ...]]:
    """The grade, and all that keeps it from being better, the worst first. What is not known is not held against it."""
    reasons = []
    for limit in thresholds.limits.values():
        for ccd, known in [(each.name, each.figures) for each in ccds] if limit.is_of_ccds else [("", figures)]:
            value = known.get(limit.figure)
            broken = None if value is None else limit.broken_by(value)
            if broken and value is not None:
                words = _words(limit, value, broken[1], ccd)
                reasons.append(Reason(broken[0], limit.figure, words, limit.comment, value, broken[1], ccd))
    reasons.sort(key=lambda reason: reason.grade, reverse=True)
    return (reasons[0].grade if reasons else "A"), tuple(reasons)


def _words(limit: Limit, value: float, beyond: float, ccd: str) -> str:
    """Such as: seeing is 1.31 arcsec, more than 1.2."""
    unit = BY_NAME[limit.figure].unit
    unit = {"": "", "pix": " pixels", "adu": " ADU", "deg": " degrees"}.get(unit, f" {unit}")
    name = limit.figure.replace("_", " ").replace("ccds", "CCDs").replace("psf", "PSF")
    side = "more" if limit.is_above else "less"
    where = f"{ccd}: " if ccd else ""
    return f"{where}{name} is {value:.3g}{unit}, {side} than {beyond:g}."

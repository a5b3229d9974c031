"""Figures taken from the outputs of a step: as the descriptor's metrics say, or by a named function of FUNCTIONS.

A figure that cannot be had is None, never a guess. The limits on figures are judged in outputs.py.
"""

from __future__ import annotations

import math
import re
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean, median
from xml.etree import ElementTree

from spicad import fits
from spicad.applications.descriptor import Application, Metric
from spicad.applications.kinds import object_tables, read_json, votable

Files = Sequence[tuple[str, str | None, Path]]  # output's name, stem, path

FEWEST_EXPECTED = 5  # reference stars on a CCD below which its share of matches says nothing
NEARLY_NOTHING = 0.1  # of the usual matches
CHANCE = 1e-6  # that so few matches are bad luck, with Poisson's noise
POSITION_COLUMNS = (  # of a reference catalogue, the first pair that is there
    ("X_WORLD", "Y_WORLD"),
    ("ALPHA_J2000", "DELTA_J2000"),
    ("RA_ICRS", "DE_ICRS"),
    ("RAJ2000", "DEJ2000"),
    ("RA", "DEC"),
    ("ra", "dec"),
)


@dataclass(frozen=True)
class Figure:
    value: float | None
    each: tuple[tuple[float, str | None], ...] = ()  # of least and most: every value with its exposure
    detail: str = ""


@dataclass
class MatchCount:
    """Of one CCD: detections, those with a reference star, and the reference stars that there are."""

    detections: int = 0
    matched: int = 0
    expected: int = 0


@dataclass(frozen=True)
class Step:
    """What a named function may look at."""

    job_folder: Path
    files: Files
    stems: tuple[str, ...]
    matches: dict[str, dict[tuple[int, int], MatchCount]] = field(default_factory=dict)  # by output: counted once

    def paths(self, output: str) -> list[Path]:
        return [path for name, _, path in self.files if name == output]

    def stem(self, number: int) -> str:
        """Of the exposure that a tool counts as `number`, from 1."""
        return self.stems[number - 1]

    @property
    def inputs(self) -> Path:
        return self.job_folder.parent / "in"


def figures(application: Application, job_folder: Path, files: Files, stems: Sequence[str]) -> dict[str, Figure]:
    """Every metric of the descriptor, in its order."""
    step = Step(job_folder, files, tuple(stems))
    reports: dict[Path, ElementTree.Element] = {}
    taken = {}
    for metric in application.metrics.values():
        figure = FUNCTIONS[metric.function](step, metric) if metric.function else _taken(metric, step, reports)
        taken[metric.name] = _scaled(figure, metric.scale)
    return taken


def _scaled(figure: Figure, scale: float) -> Figure:
    if figure.value is None or not math.isfinite(figure.value):
        return Figure(None, (), figure.detail)
    return Figure(figure.value * scale, tuple((v * scale, stem) for v, stem in figure.each), figure.detail)


def _taken(metric: Metric, step: Step, reports: dict[Path, ElementTree.Element]) -> Figure:
    values: list[tuple[float, str | None]] = []
    for name, stem, path in step.files:
        if name != metric.output:
            continue
        if path.suffix == ".json":
            values += _from_json(path, metric, step.stems)
        elif metric.table:
            if path not in reports:
                reports[path] = votable(path)
            values += [(value, stem or row) for value, row in _from_report(reports[path], metric, step.stems)]
        else:
            values += [(value, stem) for value in _from_fits(path, metric)]
    return _summary(metric.take, values)


def _summary(take: str, values: Sequence[tuple[float, str | None]]) -> Figure:
    finite = [each for each in values if math.isfinite(each[0])]
    if not finite:
        return Figure(0.0 if take in ("rows", "sum") and values else None)
    numbers = [value for value, _ in finite]
    if take in ("least", "most"):
        return Figure((min if take == "least" else max)(numbers), tuple(finite))
    summaries: dict[str, Callable[[Sequence[float]], float]] = {
        "first": lambda n: n[0],
        "sum": math.fsum,
        "rows": math.fsum,
        "mean": fmean,
        "median": median,
        "rms": lambda n: math.sqrt(math.fsum(each * each for each in n) / len(n)),
    }
    return Figure(summaries[take](numbers))


def _from_fits(path: Path, metric: Metric) -> Iterable[float]:
    file = fits.scan(path)
    tables = object_tables(file) or [hdu for hdu in file.hdus if hdu.kind == "bintable"]
    if metric.take == "rows":
        return [float(fits.row_count(hdu)) for hdu in tables]
    if any(metric.field in fits.table_columns(hdu) for hdu in tables):
        return [
            value
            for hdu in tables
            if metric.field in fits.table_columns(hdu)
            for value in fits.columns(path, hdu, [metric.field])[metric.field]
        ]
    values = (hdu.header.get(metric.field) for hdu in file.hdus)
    return [float(value) for value in values if isinstance(value, int | float) and not isinstance(value, bool)]


def _from_json(path: Path, metric: Metric, stems: Sequence[str]) -> Iterable[tuple[float, str | None]]:
    """The number of that name; with `table`, one from each row of that list, with the exposure that the row names."""
    read = read_json(path)
    rows = read.get(metric.table, []) if metric.table else [read]
    for row in rows if isinstance(rows, list) else ():
        value = row.get(metric.field) if isinstance(row, dict) else None
        if isinstance(value, int | float):
            yield float(value), _named((each for each in row.values() if isinstance(each, str)), stems)


def _from_report(root: ElementTree.Element, metric: Metric, stems: Sequence[str]) -> Iterable[tuple[float, str | None]]:
    """The numbers of a field, one or more a row, with the exposure that the row names; or of a parameter."""
    for table in (*root.iter("TABLE"), *root.iter("RESOURCE")):
        if table.get("ID") != metric.table and table.get("name") != metric.table:
            continue
        for param in table.findall("PARAM"):
            if param.get("name") == metric.field:
                yield from ((value, None) for value in _numbers(param.get("value")))
        names = [field.get("name") for field in table.findall("FIELD")]
        if metric.field not in names:
            continue
        at = names.index(metric.field)
        over = names.index(metric.over) if metric.over in names else None
        for row in table.iter("TR"):
            cells = row.findall("TD")
            if len(cells) > at:
                divisor = fmean(_numbers(cells[over].text) or [math.nan]) if over is not None else 1.0
                stem = _named((cell.text or "" for cell in cells[:4]), stems)
                yield from ((value / divisor, stem) for value in _numbers(cells[at].text) if divisor)


def _numbers(text: str | None) -> list[float]:
    numbers = []
    for word in (text or "").split():
        try:
            numbers.append(float(word))
        except ValueError:
            continue
    return numbers


def _named(texts: Iterable[str], stems: Sequence[str]) -> str | None:
    known = set(stems)
    return next((word for text in texts for word in re.findall(r"\w+", text) if word in known), None)


def ccds_astray(step: Step, metric: Metric) -> Figure:
    """Number of CCDs whose solution misses the reference stars: far fewer are matched there than elsewhere.

    Reads a full catalogue of all detections, in which a source's reference star has catalogue number 0. A small
    rms proves nothing: stars that do not match are not in it (corner CCDs were 5 to 12 arcsec off at 0.03 rms).
    """
    counts = _matches(step, metric)
    shares = defaultdict(list)
    for (exposure, _), count in counts.items():
        if count.expected >= FEWEST_EXPECTED:
            shares[exposure].append(count.matched / count.expected)
    if not shares:
        return Figure(None)
    everywhere = median(share for each in shares.values() for share in each)
    astray = []
    for (exposure, ccd), count in counts.items():
        share = max(median(shares[exposure]) if shares[exposure] else 0.0, everywhere / 2)
        usual = min(count.expected, count.detections) * share
        if count.matched < usual / 2 and _chance_of_at_most(count.matched, usual) < CHANCE:
            words = f"CCD {ccd} of {step.stem(exposure)}: {count.matched} of {count.expected} reference stars"
            astray.append((count.matched / usual, step.stem(exposure), words))
    astray.sort()
    detail = "; ".join(words for _, _, words in astray[:4]) + (f"; and {len(astray) - 4} more" if astray[4:] else "")
    return Figure(float(len(astray)), _blamed(step, astray), detail)


def _blamed(step: Step, astray: Sequence[tuple[float, str, str]]) -> tuple[tuple[float, str | None], ...]:
    """CCDs astray by exposure. One that is quite off drags its like along, since exposures share polynomials: where
    some match nearly nothing, those that match in part are not blamed."""
    lost = [stem for share, stem, _ in astray if share < NEARLY_NOTHING]
    blamed = lost or [stem for _, stem, _ in astray]
    return tuple((float(blamed.count(stem)), stem) for stem in step.stems)


def reference_matches(step: Step, metric: Metric) -> Figure:
    """Reference stars matched on the exposure that has the fewest."""
    counts = _matches(step, metric)
    if not counts:
        return Figure(None)
    totals = dict.fromkeys(step.stems, 0)
    for (exposure, _), count in counts.items():
        totals[step.stem(exposure)] += count.matched
    return Figure(float(min(totals.values())), tuple((float(total), stem) for stem, total in totals.items()))


def _matches(step: Step, metric: Metric) -> dict[tuple[int, int], MatchCount]:
    if metric.output not in step.matches:
        step.matches[metric.output] = _counted_matches(step, metric.output)
    return step.matches[metric.output]


def _counted_matches(step: Step, output: str) -> dict[tuple[int, int], MatchCount]:
    """For each (exposure, CCD), both from 1."""
    counts: dict[tuple[int, int], MatchCount] = defaultdict(MatchCount)
    references = [each for path in sorted(step.inputs.glob("reference*")) for each in reference_positions(path)]
    for path in step.paths(output):  # one for each group of exposures that overlap
        points: dict[tuple[int, int], list[tuple[float, float]]] = defaultdict(list)
        for rows in _detections(path):
            known = {source for source, catalogue, *_ in rows if catalogue == 0}
            for source, catalogue, extension, ra, dec in rows:
                if 0 < catalogue <= len(step.stems):
                    key = (int(catalogue), int(extension))
                    counts[key].detections += 1
                    counts[key].matched += source in known
                    points[key].append((ra, dec))
        if points:
            sky = _Plane(next(iter(points.values()))[0])
            stars = sorted((y, x) for x, y in (sky.of(*each) for each in references))
            for key, each in points.items():
                counts[key].expected = _within(stars, [sky.of(*point) for point in each])
    return counts


def _detections(path: Path) -> Iterable[list[tuple[float, ...]]]:
    names = ["SOURCE_NUMBER", "CATALOG_NUMBER", "EXTENSION", "ALPHA_J2000", "DELTA_J2000"]
    for hdu in object_tables(fits.scan(path)):
        table = fits.columns(path, hdu, names)
        yield list(zip(*(table[name] for name in names), strict=True))


def _within(references: list[tuple[float, float]], points: Sequence[tuple[float, float]]) -> int:
    """Reference stars (y, x) in the box around the points."""
    low, high = min(y for _, y in points), max(y for _, y in points)
    left, right = min(x for x, _ in points), max(x for x, _ in points)
    first, last = bisect_left(references, (low, -math.inf)), bisect_left(references, (high, math.inf))
    return sum(left <= x <= right for _, x in references[first:last])


class _Plane:
    """The sky around a point, flat: degrees along x and y, without trouble at 0h or the poles."""

    def __init__(self, centre: tuple[float, float]) -> None:
        self.ra, dec = math.radians(centre[0]), math.radians(centre[1])
        self.sin, self.cos = math.sin(dec), math.cos(dec)

    def of(self, ra_deg: float, dec_deg: float) -> tuple[float, float]:
        ra, dec = math.radians(ra_deg) - self.ra, math.radians(dec_deg)
        depth = self.sin * math.sin(dec) + self.cos * math.cos(dec) * math.cos(ra)
        if depth < 0.01:
            return (math.inf, math.inf)
        x = math.cos(dec) * math.sin(ra) / depth
        y = (self.cos * math.sin(dec) - self.sin * math.cos(dec) * math.cos(ra)) / depth
        return math.degrees(x), math.degrees(y)


def reference_positions(path: Path) -> list[tuple[float, float]]:
    """(ra, dec) in degrees of every star of a reference catalogue, FITS LDAC or a plain FITS table.

    Raises FitsProblem when it has no columns of positions.
    """
    file = fits.scan(path)
    tables = object_tables(file) or [hdu for hdu in file.hdus if hdu.kind == "bintable" and fits.row_count(hdu) > 1]
    found: list[tuple[float, float]] = []
    is_understood = False
    for hdu in tables:
        pair = next((each for each in POSITION_COLUMNS if set(each) <= set(fits.table_columns(hdu))), None)
        if pair:
            is_understood = True
            table = fits.columns(path, hdu, pair)
            found += zip(table[pair[0]], table[pair[1]], strict=True)
    if not is_understood:
        wanted = " or ".join("/".join(pair) for pair in POSITION_COLUMNS)
        raise fits.FitsProblem(path, "has no table with positions.", f"Columns looked for: {wanted}.")
    return [(ra, dec) for ra, dec in found if math.isfinite(ra) and math.isfinite(dec)]


def _chance_of_at_most(count: int, mean: float) -> float:
    """Poisson's."""
    if mean <= 0:
        return 1.0
    return math.fsum(math.exp(k * math.log(mean) - mean - math.lgamma(k + 1)) for k in range(count + 1))


FUNCTIONS: dict[str, Callable[[Step, Metric], Figure]] = {
    "ccds_astray": ccds_astray,
    "reference_matches": reference_matches,
}

"""What photometrix leaves: .head files with FLXSCALE, a JSON of figures, tables as CSV, and what it says at the end.

All figures are made once, in Report.of; plots are drawn from it by plots.py.
"""

from __future__ import annotations

import csv
import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spicad import __version__
from spicad.reduction import heads
from spicad.reduction.heads import Card
from spicad.reduction.photometrix.result import BRIGHT_SIGNAL_TO_NOISE, OfInstrument, Result
from spicad.reduction.photometrix.set import Exposure

Array = NDArray[np.float64]

Points = tuple[str, Array, Array, NDArray[np.bool_]]  # instrument, magnitudes, residuals, whether clipped

CELLS = 8  # along each axis of a CCD, for residuals by position
MAG_STEP = 0.5
KEPT_POINTS = 4000  # for plots


@dataclass(frozen=True)
class ExposureRow:
    """Of one exposure. Magnitudes; `scatter_mag` is of its measures about the means of their stars, `uneven_mag` the
    scatter of its CCDs' mean residuals beyond their noise: what a patchy cloud or a bad flat field leaves.
    `loss_mag` is the light outside the aperture that was added, by the profile of `fwhm_pixels`."""

    name: str
    instrument: str
    group: int
    zero_point_mag: float
    relative_mag: float
    error_mag: float | None
    fixed_by: str
    photometric: bool
    cloud_mag: float | None
    airmass: float | None
    exptime_s: float
    stars: int
    clipped: int
    overlaps: int
    scatter_mag: float | None
    uneven_mag: float | None
    fwhm_pixels: float | None
    loss_mag: float
    flxscale: float


@dataclass(frozen=True)
class CcdRow:
    """Of one CCD over the set. `applied` tells whether its term is in FLXSCALE."""

    instrument: str
    ccd: int
    term_mag: float
    error_mag: float | None
    applied: bool
    stars: int
    scatter_mag: float | None


@dataclass(frozen=True)
class CellRow:
    """Residuals in one cell of a CCD: its place (from 0), its centre in pixels, their mean by weight, its error, their
    number."""

    instrument: str
    ccd: int
    column: int
    row: int
    x: float
    y: float
    mean_mag: float
    error_mag: float
    measures: int


@dataclass(frozen=True)
class MagRow:
    """Residuals of measures around one magnitude (for 1 s, on the scale of the zero points)."""

    instrument: str
    mag: float
    scatter_mag: float
    expected_mag: float
    measures: int


@dataclass(frozen=True)
class Report:
    exposures: Sequence[Exposure]
    result: Result
    magzero_out: float
    rows: tuple[ExposureRow, ...]
    ccds: tuple[CcdRow, ...]
    cells: tuple[CellRow, ...]
    mags: tuple[MagRow, ...]
    points: tuple[Points, ...]
    figures: Mapping[str, Any]

    @classmethod
    def of(cls, exposures: Sequence[Exposure], result: Result, values: Mapping[str, Any]) -> Report:
        rows: dict[int, ExposureRow] = {}
        ccds: list[CcdRow] = []
        cells: list[CellRow] = []
        mags: list[MagRow] = []
        points = []
        first_group = 1
        for found in result.instruments:
            for row_of, number in zip(
                _exposure_rows(found, exposures, result, values, first_group), found.exposures, strict=True
            ):
                rows[int(number)] = row_of
            first_group += int(found.solution.group.max(initial=-1)) + 1
            ccds += _ccd_rows(found, result)
            cells += _cell_rows(found, exposures, result, values["PHOT_ACCURACY"])
            mags += _mag_rows(found, result)
            points.append(_points(found, result))
        ordered = tuple(rows[number] for number in sorted(rows))
        figures = _figures(result, ordered, ccds)
        return cls(
            exposures,
            result,
            values["MAGZERO_OUT"],
            ordered,
            tuple(ccds),
            tuple(cells),
            tuple(mags),
            tuple(points),
            figures,
        )

    def write_heads(self, folder: Path, suffix: str) -> None:
        """A .head for each exposure, the cards it came with and FLXSCALE of each CCD."""
        paths = [heads.head_path(exposure.path, suffix, folder) for exposure in self.exposures]
        terms = {int(n): found for found in self.result.instruments for n in found.exposures}
        for number, (exposure, row) in enumerate(zip(self.exposures, self.rows, strict=True)):
            found = terms[number]
            made = []
            for ccd, head in enumerate(exposure.heads):
                term = float(found.ccd[ccd])
                scale = flxscale(row.zero_point_mag + term, exposure.exptime_s, self.magzero_out)
                made.append(head.with_cards(_cards(scale, row, term, self.magzero_out)))
            heads.write(paths[number], made)

    def write_json(self, path: Path) -> None:
        content = {
            "program": "photometrix",
            "version": __version__,
            **self.figures,
            "exposures": [asdict(row) for row in self.rows],
            "ccds": [asdict(row) for row in self.ccds],
            "notes": list(self.result.notes),
        }
        _write(path, json.dumps(_plain(content), indent=1, allow_nan=False) + "\n")

    def write_tables(self, folder: Path) -> None:
        tables: tuple[tuple[str, Any, Sequence[Any]], ...] = (
            ("exposures", ExposureRow, self.rows),
            ("ccds", CcdRow, self.ccds),
            ("positions", CellRow, self.cells),
            ("magnitudes", MagRow, self.mags),
        )
        for name, kind, rows in tables:
            path = folder / f"photometrix_{name}.csv"
            with path.open("w", newline="") as file:
                table = csv.DictWriter(file, [field.name for field in fields(kind)], lineterminator="\n")
                table.writeheader()
                table.writerows(_plain(asdict(row)) for row in rows)


def flxscale(zero_point_mag: float, exptime_s: float, magzero_out: float = 0.0) -> float:
    """What SWarp multiplies pixels by: 10^(-0.4 ZP)/EXPTIME, for a zero point `magzero_out` of the result."""
    return float(10 ** (-0.4 * (zero_point_mag - magzero_out)) / exptime_s)


def said(report: Report) -> list[str]:
    """The result for people."""
    figures = report.figures
    lines = [
        f"{row.name}: zero point {row.relative_mag:+.4f}"
        + (f" +- {row.error_mag:.4f} mag" if row.error_mag is not None else " mag, not measured")
        + f", {row.stars} stars, group {row.group}"
        + ("" if row.photometric else f", not photometric: {row.cloud_mag:.3f} mag dimmer" if row.cloud_mag else "")
        for row in report.rows
    ]
    lines += [f"note: {note}" for note in report.result.notes]
    scatter = figures["scatter_bright_mag"]
    shown = f", scatter {scatter:.4f} mag (bright)" if scatter is not None else ""
    return [*lines, f"{len(report.rows)} exposures, {figures['groups']} groups, {figures['stars']} stars{shown}"]


def _cards(scale: float, row: ExposureRow, term: float, magzero_out: float) -> list[Card]:
    return [
        Card("FLXSCALE", scale, "Photometric scaling factor"),
        Card("MAGZEROP", magzero_out, "[mag] Zero point after FLXSCALE"),
        Card("PHOTZP", row.zero_point_mag + term, "[mag] Zero point, 1 ADU/s"),
        Card("PHOTZPER", row.error_mag if row.error_mag is not None else -1.0, "[mag] Its error, -1: not measured"),
        Card("PHOTIRMS", row.scatter_mag or 0.0, "[mag] Scatter among exposures"),
        Card("PHOTGRP", row.group, "Group of exposures that overlap"),
        Card("PHOTLINK", row.photometric, "Taken under a photometric sky?"),
    ]


# Rows


def _exposure_rows(
    found: OfInstrument, exposures: Sequence[Exposure], result: Result, values: Mapping[str, Any], first_group: int
) -> list[ExposureRow]:
    solution, rows = found.solution, []
    local = np.searchsorted(found.exposures, result.sources.exposure[found.rows])
    linked = np.triu(solution.shared >= values["OVERLAP_NMIN"], 1)
    overlaps = linked.sum(axis=0) + linked.sum(axis=1)
    usable = np.isfinite(solution.residual)
    for n, number in enumerate(found.exposures):
        exposure, mine = exposures[number], local == n
        used = mine & solution.used
        group = solution.group == solution.group[n]
        error = math.hypot(float(solution.zero_error[n]), exposure.loss_error_mag)
        cloud = float(found.cloud_mag[n])
        rows.append(
            ExposureRow(
                name=exposure.name,
                instrument=found.name,
                group=first_group + int(solution.group[n]),
                zero_point_mag=float(found.zero[n]),
                relative_mag=float(found.zero[n] - found.zero[group].mean()),
                error_mag=error if math.isfinite(error) else None,
                fixed_by=found.why[n],
                photometric=bool(found.photometric[n]),
                cloud_mag=cloud if math.isfinite(cloud) else None,
                airmass=exposure.airmass,
                exptime_s=exposure.exptime_s,
                stars=int(used.sum()),
                clipped=int((mine & usable & ~solution.used).sum()),
                overlaps=int(overlaps[n]),
                scatter_mag=_rms(solution.residual[used]),
                uneven_mag=_uneven(solution.residual[used], result.sources.ccd[found.rows[used]]),
                fwhm_pixels=exposure.profile.fwhm if exposure.profile else None,
                loss_mag=exposure.loss_mag,
                flxscale=flxscale(float(found.zero[n]), exposure.exptime_s, values["MAGZERO_OUT"]),
            )
        )
    return rows


def _uneven(residual: Array, ccd: NDArray[np.int64]) -> float | None:
    """Scatter of the mean residuals of CCDs beyond what their noise explains."""
    count = np.bincount(ccd) if len(ccd) else np.zeros(0)
    enough = np.flatnonzero(count >= 5)
    if len(enough) < 2:
        return None
    means = np.array([residual[ccd == n].mean() for n in enough])
    noise = np.array([residual[ccd == n].var(ddof=1) / count[n] for n in enough])
    return math.sqrt(max(float(means.var(ddof=1) - noise.mean()), 0.0))


def _ccd_rows(found: OfInstrument, result: Result) -> list[CcdRow]:
    solution, ccd, rows = found.solution, result.sources.ccd[found.rows], []
    solved = bool((solution.ccd_error > 0).any())
    for n in range(len(solution.ccd)):
        used = (ccd == n) & solution.used
        error = float(solution.ccd_error[n]) if solved else None
        rows.append(
            CcdRow(
                found.name,
                n + 1,
                float(solution.ccd[n]),
                error,
                bool(found.ccd_known[n]),
                int(used.sum()),
                _rms(solution.residual[used]),
            )
        )
    return rows


def _cell_rows(
    found: OfInstrument, exposures: Sequence[Exposure], result: Result, accuracy_mag: float
) -> list[CellRow]:
    solution, sources, rows = found.solution, result.sources, []
    used = found.rows[solution.used]
    residual = solution.residual[solution.used]
    weight = 1 / (sources.error[used] ** 2 + accuracy_mag**2)
    sizes = max((exposures[n].sizes for n in found.exposures), key=len)
    for ccd, (width, height) in enumerate(sizes):
        mine = sources.ccd[used] == ccd
        column = np.clip((sources.x[used][mine] - 0.5) / width * CELLS, 0, CELLS - 1).astype(int)
        row = np.clip((sources.y[used][mine] - 0.5) / height * CELLS, 0, CELLS - 1).astype(int)
        cell, values, counts = row * CELLS + column, residual[mine], weight[mine]
        count, total = np.bincount(cell, minlength=CELLS * CELLS), np.bincount(cell, counts, CELLS * CELLS)
        means = np.bincount(cell, counts * values, CELLS * CELLS) / np.maximum(total, 1e-300)
        squares = np.bincount(cell, (counts * (values - means[cell])) ** 2, CELLS * CELLS)
        for n in np.flatnonzero(count >= 3):
            mean, error = float(means[n]), float(np.sqrt(squares[n]) / total[n])
            x, y = (n % CELLS + 0.5) / CELLS * width + 0.5, (n // CELLS + 0.5) / CELLS * height + 0.5
            place = (int(n % CELLS), int(n // CELLS), float(x), float(y))
            rows.append(CellRow(found.name, ccd + 1, *place, mean, error, int(count[n])))
    return rows


def _calibrated(found: OfInstrument, result: Result) -> Array:
    local = np.searchsorted(found.exposures, result.sources.exposure[found.rows])
    return np.asarray(result.sources.mag[found.rows] + found.zero[local] + found.ccd[result.sources.ccd[found.rows]])


def _mag_rows(found: OfInstrument, result: Result) -> list[MagRow]:
    solution, used = found.solution, found.solution.used
    mag, residual = _calibrated(found, result)[used], solution.residual[used]
    error = result.sources.error[found.rows][used]
    step = np.floor(mag / MAG_STEP).astype(int)
    rows = []
    for n in np.unique(step):
        mine = step == n
        if mine.sum() >= 5:
            scatter, expected = _rms(residual[mine]) or 0.0, float(np.median(error[mine]))
            rows.append(MagRow(found.name, (float(n) + 0.5) * MAG_STEP, scatter, expected, int(mine.sum())))
    return rows


def _points(found: OfInstrument, result: Result) -> Points:
    usable = np.flatnonzero(np.isfinite(found.solution.residual))
    chosen = usable[:: max(1, math.ceil(len(usable) / KEPT_POINTS))]
    return found.name, _calibrated(found, result)[chosen], found.solution.residual[chosen], ~found.solution.used[chosen]


# Figures


def _figures(result: Result, rows: Sequence[ExposureRow], ccds: Sequence[CcdRow]) -> dict[str, Any]:
    """The figures by name; None for what was not measured."""
    every = [(found, found.solution.used) for found in result.instruments]
    residual = np.concatenate([found.solution.residual[used] for found, used in every])
    bright = np.concatenate(
        [1.0857 / result.sources.error[found.rows][used] >= BRIGHT_SIGNAL_TO_NOISE for found, used in every]
    )
    errors = [row.error_mag for row in rows if row.error_mag is not None]
    chi2, freedom = (sum(getattr(found.solution, name) for found, _ in every) for name in ("chi2", "freedom"))
    measured = sum(int(np.isfinite(found.solution.residual).sum()) for found, _ in every)
    extinction = {found.name: found.extinction for found in result.instruments if found.extinction}
    return {
        "instruments": len(result.instruments),
        "groups": len({row.group for row in rows}),
        "alone": sum(row.error_mag is None for row in rows),
        "not_photometric": sum(not row.photometric for row in rows),
        "stars": sum(len(np.unique(found.star[used])) for found, used in every),
        "measures": len(residual),
        "clipped_share": 1 - len(residual) / measured if measured else None,
        "scatter_mag": _rms(residual),
        "scatter_bright_mag": _rms(residual[bright]),
        "chi2_of_freedom": chi2 / freedom if freedom else None,
        "error_most_mag": max(errors, default=None),
        "spread_mag": _rms(np.array([row.relative_mag for row in rows])),
        "ccd_spread_mag": _rms(np.array([row.term_mag for row in ccds if row.applied])),
        "uneven_most_mag": max((row.uneven_mag for row in rows if row.uneven_mag is not None), default=None),
        "rounds": max((found.solution.rounds for found, _ in every), default=0),
        "converged": all(found.solution.converged for found, _ in every),
        "extinction": {name: {"mag_per_airmass": k, "error": error} for name, (k, error) in extinction.items()},
        "colour_terms": {
            found.name: {"terms": found.solution.colour, "errors": found.solution.colour_error}
            for found, _ in every
            if len(found.solution.colour)
        },
    }


def _rms(values: Array) -> float | None:
    return float(np.sqrt(np.mean(values**2))) if len(values) else None


def _plain(value: Any) -> Any:
    """What JSON can hold."""
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, np.ndarray | list | tuple):
        return [_plain(each) for each in value]
    if isinstance(value, np.generic):
        return _plain(value.item())
    if isinstance(value, float):
        return float(f"{value:.9g}") if math.isfinite(value) else None
    return value


def _write(path: Path, text: str) -> None:
    part = path.with_name(f".{path.name}.part")
    try:
        with part.open("w") as out:
            out.write(text)
            out.flush()
            os.fsync(out.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)

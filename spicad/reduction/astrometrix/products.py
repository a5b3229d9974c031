"""Writes what a solution brings: .head files, a table of residuals, figures as JSON and as a VOTable.

Only exposures that are believed get a .head. Those of an earlier run were removed before.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape, quoteattr

import numpy as np

from spicad import __version__
from spicad.reduction import heads, ldac
from spicad.reduction.astrometrix.exposures import Exposure
from spicad.reduction.astrometrix.model import powers, terms
from spicad.reduction.astrometrix.settings import Settings
from spicad.reduction.astrometrix.solve import Solved
from spicad.reduction.astrometrix.verdict import CcdFigures, internal_residuals
from spicad.reduction.heads import Card, Head
from spicad.reduction.tangent import Tangent
from spicad.reduction.tpv import TERMS
from spicad.words import SpicaError

SIP_WORST_PIXELS = 1e-3
Row = dict[str, Any]


def folder(settings: Settings) -> Path | None:
    """OUTPUT_DIR, made when it is not there; None when everything goes where it goes by itself."""
    if settings.word("OUTPUT_DIR") == "AUTO":
        return None
    path = Path(settings.word("OUTPUT_DIR"))
    path.mkdir(parents=True, exist_ok=True)
    return path


def write(solved: Solved, settings: Settings) -> list[Path]:
    """All products that the settings ask for. Returns the paths of the .head files."""
    here = folder(settings) or Path(".")
    written = _write_heads(solved, settings)
    if settings.word("METRICS_NAME") != "NONE":
        _write_text(here / settings.word("METRICS_NAME"), json.dumps(_finite(metrics(solved)), indent=1) + "\n")
    if settings.is_set("WRITE_XML"):
        _write_text(here / settings.word("XML_NAME"), votable(metrics(solved)))
    if settings.word("RESIDUALS_NAME") != "NONE" and solved.problem is not None:
        _write_residuals(here / settings.word("RESIDUALS_NAME"), solved)
    return written


def _write_text(path: Path, text: str) -> None:
    part = path.with_name(f".{path.name[:200]}.part")
    try:
        part.write_text(text, encoding="utf-8")
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


# .head files


def head_path(catalogue: Path, settings: Settings) -> Path:
    return heads.head_path(catalogue, settings.word("HEADER_SUFFIX"), folder(settings))


def _write_heads(solved: Solved, settings: Settings) -> list[Path]:
    """All are made before the first is written: when one cannot be made, there is none."""
    believed = {exposure.number for exposure in solved.problem.exposures} if solved.problem else set()
    made = {
        head_path(exposure.path, settings): heads_of(solved, exposure, settings)
        for exposure in solved.set.exposures
        if exposure.number in believed
    }
    for path, content in made.items():
        heads.write(path, content)
    return list(made)


def heads_of(solved: Solved, exposure: Exposure, settings: Settings) -> list[Head]:
    """One for each CCD of an exposure, in its order."""
    assert solved.problem is not None
    model = solved.problem.model
    figures = {each.ccd: each for each in solved.ccds if each.exposure == exposure.number}
    label = model.camera_of[exposure.number] + 1
    as_sip = settings.word("PROJECTION_TYPE") == "SIP"
    found = []
    for ccd, one in enumerate(exposure.ccds):
        tangent = model.tangent(exposure, ccd)
        wcs = sip_cards(tangent, one.size) if as_sip else heads.wcs_cards(tangent)
        found.append(Head((Card("HISTORY", f"Astrometric solution by Astrometrix of Spica {__version__}"), *wcs,
                           *_quality_cards(figures[ccd], label))))  # fmt: skip
    return found


def _quality_cards(figures: CcdFigures, label: int) -> Iterable[Card]:
    pairs = ((figures.internal, "ASTIRMS", "(intern., high S/N)"), (figures.external, "ASTRRMS", "(ref., high S/N)"))
    for values, key, what in pairs:
        for axis, value in enumerate(values, 1):
            if math.isfinite(value):
                yield Card(f"{key}{axis}", value / 3600, f"[deg] Astrom. dispersion RMS {what}")
    yield Card("ASTNREF", figures.matched, "Reference stars matched")
    yield Card("ASTNOVER", figures.overlaps, "Detections shared with other exposures")
    yield Card("ASTSIGMA", figures.uncertainty / 3600, "[deg] Uncertainty of the middle, one axis")
    yield Card("ASTBAD", figures.takes_mean, "Too few stars: place is the instrument's mean")
    yield Card("ASTINST", label, "Label of the astrometric instrument")


def sip_cards(tangent: Tangent, size: tuple[int, int]) -> list[Card]:
    """The same WCS as TAN-SIP (Shupe et al. 2005, ASP 347, 491). Raises SpicaError where it cannot be so written."""
    x0, y0 = (float(each[0]) for each in tangent.pixels(*(np.array([each]) for each in tangent.crval)))
    step = 0.5
    columns = [
        np.diff(tangent.plane(x0 + np.array([-dx, dx]), y0 + np.array([-dy, dy])), axis=1).ravel() / (2 * step)
        for dx, dy in ((step, 0.0), (0.0, step))
    ]
    cd = np.column_stack(columns)
    x, y = (each.ravel() for each in np.meshgrid(*(np.linspace(0.5, side + 0.5, 16) for side in size)))
    plane = np.array(tangent.plane(x, y))
    u, v = x - x0, y - y0
    extra = np.linalg.solve(cd, plane) - np.array([u, v])
    degree = max(2, *(sum(TERMS[number]) for axis in tangent.pv for number in axis))
    which = terms(2, degree)
    scale = float(max(np.abs(u).max(), np.abs(v).max()))
    design = powers(u / scale, v / scale, which)
    cards = _sip_structure(tangent, (x0, y0), cd, degree)
    for letter, values in zip("AB", extra, strict=True):
        solution, *_ = np.linalg.lstsq(design, values, rcond=None)
        if np.abs(design @ solution - values).max() > SIP_WORST_PIXELS:
            raise SpicaError("this solution cannot be written as SIP: use PROJECTION_TYPE TPV.")
        for (p, q), value in zip(which, solution, strict=True):
            cards.append(Card(f"{letter}_{p}_{q}", float(value / scale ** (p + q)), "SIP distortion coefficient"))
    return cards


def _sip_structure(tangent: Tangent, crpix: tuple[float, float], cd: np.ndarray, degree: int) -> list[Card]:
    plain = Tangent(tangent.crval, crpix, cd)
    kinds = {"CTYPE1": "RA---TAN-SIP", "CTYPE2": "DEC--TAN-SIP"}
    cards = [Card(card.key, kinds.get(card.key, card.value), card.comment) for card in heads.wcs_cards(plain)]
    return [*cards, Card("A_ORDER", degree, "SIP degree"), Card("B_ORDER", degree, "SIP degree")]


# Figures


def metrics(solved: Solved) -> Row:
    """Everything in one dictionary of plain values; NaN where there is nothing to tell."""
    problem = solved.problem
    believed = {exposure.number for exposure in problem.exposures} if problem else set()
    blamed = [asdict(each) for each in solved.refused]
    return {
        "program": f"Astrometrix of Spica {__version__}",
        "converged": bool(believed) and not blamed,
        "verdict": verdict_words(solved),
        "blamed": blamed,
        "warnings": list(solved.warnings),
        "exposures": [
            _exposure_row(solved, exposure, exposure.number in believed) for exposure in solved.set.exposures
        ],
        "cameras": [_camera_row(solved, index) for index in range(len(problem.model.cameras) if problem else 0)],
        "ccds": [_ccd_row(solved, each) for each in solved.ccds if each.exposure in believed],
        "layout": [asdict(each) for each in solved.settled],
    }


def verdict_words(solved: Solved) -> str:
    count = len(solved.problem.exposures) if solved.problem else 0
    if not solved.refused:
        return f"converged: {count} exposures solved."
    names = "; ".join(f"{each.exposure}: {each.name}" for each in solved.refused[:8])
    more = f"; and {len(solved.refused) - 8} more" if len(solved.refused) > 8 else ""
    return f"{'not converged' if not count else f'{count} exposures solved'}; refused: {names}{more}."


def _pooled(figures: Sequence[CcdFigures], which: str) -> tuple[float, float]:
    """rms of both axes over CCDs, by their numbers of stars."""
    values = [(getattr(each, which), each.matched if which == "external" else each.overlaps) for each in figures]
    known = [(value, count) for value, count in values if math.isfinite(value[0]) and count]
    if not known:
        return math.nan, math.nan
    total = sum(count for _, count in known)
    first, second = (math.sqrt(sum(value[axis] ** 2 * n for value, n in known) / total) for axis in (0, 1))
    return first, second


def overall(solved: Solved) -> tuple[tuple[float, float], tuple[float, float]]:
    """rms of bright stars on both axes among exposures, and against the reference (arcsec)."""
    return _pooled(solved.ccds, "internal"), _pooled(solved.ccds, "external")


def _exposure_row(solved: Solved, exposure: Exposure, is_believed: bool) -> Row:
    match = solved.matches.get(exposure.number)
    figures = [each for each in solved.ccds if each.exposure == exposure.number]
    refusal = next((each for each in solved.refused if each.exposure == exposure.name), None)
    internal, external = _pooled(figures, "internal"), _pooled(figures, "external")
    crval = solved.problem.model.pointings[exposure.number].crval if solved.problem and is_believed else (math.nan,) * 2
    return {
        "exposure": exposure.name,
        "solved": is_believed,
        "failure": refusal.name if refusal else "",
        "why": refusal.why if refusal else "",
        "camera": exposure.instrument.partition("\0")[0],
        "epoch_yr": exposure.epoch,
        "ra_deg": crval[0],
        "dec_deg": crval[1],
        "pixel_scale_arcsec": exposure.scale,
        "detections": exposure.here.stop - exposure.here.start,
        "match_sure": match.sure if match else math.nan,
        "match_contrast": match.contrast if match else math.nan,
        "match_shift_arcsec": abs(match.shift) if match else math.nan,
        "match_angle_deg": match.angle_deg if match else math.nan,
        "match_scale": match.scale if match else math.nan,
        "match_side": match.side if match else "",
        "reference_stars": sum(each.matched for each in figures) if is_believed else 0,
        "reference_stars_expected": sum(each.expected for each in figures) if is_believed else 0,
        "internal_arcsec": math.sqrt((internal[0] ** 2 + internal[1] ** 2) / 2),
        "reference_arcsec": math.sqrt((external[0] ** 2 + external[1] ** 2) / 2),
        "rms_internal_arcsec": [*internal],
        "rms_reference_arcsec": [*external],
        "uncertainty_arcsec": max((each.uncertainty for each in figures), default=math.nan)
        if is_believed
        else math.nan,
        "ccds_on_mean": sum(each.takes_mean for each in figures) if is_believed else 0,
    }


def _camera_row(solved: Solved, index: int) -> Row:
    assert solved.problem is not None
    camera = solved.problem.model.cameras[index]
    return {
        "camera": camera.name,
        "exposures": len(camera.exposures),
        "ccds": len(camera.sizes),
        "degree": camera.degree,
        "ccd_degree": camera.ccd_degree if camera.own_terms else 1,
        "radius_arcsec": camera.radius,
        "floor_arcsec": solved.problem.floor.get(index, math.nan),
        "distortion_largest_arcsec": float(np.abs(camera.distortion).sum()),
    }


def _ccd_row(solved: Solved, figures: CcdFigures) -> Row:
    row = asdict(figures)
    row["exposure"] = solved.set.exposures[figures.exposure].name
    return {**row, "internal": [*figures.internal], "external": [*figures.external]}


def _finite(value: Any) -> Any:
    """JSON has no NaN: null stands for it."""
    if isinstance(value, Mapping):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(each) for each in value]
    if isinstance(value, float | np.floating):
        return float(value) if math.isfinite(value) else None
    return value


def votable(told: Row) -> str:
    """The same figures, a table each for exposures, cameras and CCDs."""
    lines = [
        '<?xml version="1.0" encoding="UTF-8"?>',
        '<VOTABLE version="1.4" xmlns="http://www.ivoa.net/xml/VOTable/v1.3">',
    ]
    lines += ['<RESOURCE ID="Astrometrix" name="Astrometrix">', f"<DESCRIPTION>{_plain(told['program'])}</DESCRIPTION>"]
    for name in ("program", "verdict"):
        lines.append(f'<PARAM name="{name}" datatype="char" arraysize="*" value={quoteattr(_plain(told[name]))}/>')
    lines.append(f'<PARAM name="converged" datatype="boolean" value="{str(told["converged"]).lower()}"/>')
    for table in ("exposures", "cameras", "ccds"):
        lines += _table(table.capitalize(), told[table])
    return "\n".join([*lines, "</RESOURCE>", "</VOTABLE>", ""])


def _table(name: str, rows: Sequence[Row]) -> list[str]:
    lines = [f'<TABLE ID="{name}" name="{name}">']
    for key, value in rows[0].items() if rows else ():
        lines.append(f"<FIELD name={quoteattr(key)} {_datatype(value)}/>")
    lines.append("<DATA><TABLEDATA>")
    for row in rows:
        cells = "".join(f"<TD>{escape(_cell(value))}</TD>" for value in row.values())
        lines.append(f"<TR>{cells}</TR>")
    return [*lines, "</TABLEDATA></DATA>", "</TABLE>"]


def _datatype(value: Any) -> str:
    if isinstance(value, list):
        return f'datatype="double" arraysize="{len(value)}"'
    kinds = {bool: "boolean", int: "int", float: "double"}
    kind = next((word for kind, word in kinds.items() if isinstance(value, kind)), "")
    return f'datatype="{kind}"' if kind else 'datatype="char" arraysize="*"'


def _cell(value: Any) -> str:
    if isinstance(value, list):
        return " ".join(_cell(each) for each in value)
    if isinstance(value, bool):
        return "T" if value else "F"
    if isinstance(value, float):
        return f"{value:.9g}" if math.isfinite(value) else "NaN"
    return _plain(str(value))


def _plain(text: str) -> str:
    return "".join(sign if sign.isprintable() else " " for sign in text)


# Residuals


def _write_residuals(path: Path, solved: Solved) -> None:
    """One row for each detection that is tied to another or to a reference star. Columns: man page."""
    problem, links, found = solved.problem, solved.links, solved.residuals
    assert problem is not None
    assert links is not None
    assert found is not None
    internal, has_others = internal_residuals(problem, links, found)
    total, stars = problem.total, len(problem.references)
    ccd = np.zeros(total, np.int16)
    number = np.zeros(total, np.int32)
    for exposure in problem.exposures:
        number[exposure.here] = exposure.number + 1
        for index in range(len(exposure.ccds)):
            ccd[exposure.on(index)] = index + 1
    has_star = (links.source[:total] >= 0) & (links.source[:total] < stars)
    rows = np.flatnonzero(has_others | has_star)
    table = np.zeros(len(rows), [(name, kind) for name, kind, _ in RESIDUALS])
    detections = problem.detections
    table["EXPOSURE"], table["CCD"], table["NUMBER"] = number[rows], ccd[rows], detections.number[rows] + 1
    table["SOURCE"], table["X_IMAGE"], table["Y_IMAGE"] = links.source[rows], detections.x[rows], detections.y[rows]
    table["SNR"], table["MAG"], table["USED"] = detections.snr[rows], detections.mag[rows], found.used[rows]
    table["X_FIELD"], table["Y_FIELD"] = found.w0[rows].real, found.w0[rows].imag
    table["ERROR"] = np.sqrt(found.variance[rows])
    table["DEAST_INT"] = np.where(has_others[rows], internal[rows].real, np.nan)
    table["DNORTH_INT"] = np.where(has_others[rows], internal[rows].imag, np.nan)
    table["DEAST_REF"] = np.where(has_star[rows], found.place[rows].real, np.nan)
    table["DNORTH_REF"] = np.where(has_star[rows], found.place[rows].imag, np.nan)
    units = {name: unit for name, _, unit in RESIDUALS if unit}
    ldac.write_hdus(path, [ldac.table_bytes("RESIDUALS", table, units)])


RESIDUALS = (
    ("EXPOSURE", "i4", ""),
    ("CCD", "i2", ""),
    ("NUMBER", "i4", ""),
    ("SOURCE", "i4", ""),
    ("X_IMAGE", "f4", "pixel"),
    ("Y_IMAGE", "f4", "pixel"),
    ("X_FIELD", "f4", "arcsec"),
    ("Y_FIELD", "f4", "arcsec"),
    ("MAG", "f4", "mag"),
    ("SNR", "f4", ""),
    ("ERROR", "f4", "arcsec"),
    ("DEAST_INT", "f4", "arcsec"),
    ("DNORTH_INT", "f4", "arcsec"),
    ("DEAST_REF", "f4", "arcsec"),
    ("DNORTH_REF", "f4", "arcsec"),
    ("USED", "?", ""),
)

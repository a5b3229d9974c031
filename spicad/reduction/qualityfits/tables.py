"""Writes the figures as tables, a row for each CCD: FITS, CSV and VOTable. The last two tell the whole too."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from html import escape
from pathlib import Path

import numpy as np

from spicad.archive.quality import FIGURES, Figure, Report
from spicad.reduction import ldac

OF_CCD = tuple(figure for figure in FIGURES if figure.of_ccd)
UNITS = {"adu": "adu", "pix": "pix", "arcsec": "arcsec", "mag": "mag", "deg": "deg", "": ""}


def write_tables(report: Report, fits_path: Path, csv_path: Path, votable_path: Path) -> None:
    _write_fits(report, fits_path)
    _write_csv(report, csv_path)
    _write_votable(report, votable_path)


def _write_fits(report: Report, path: Path) -> None:
    width = max([1, *(len(_ascii(ccd.name)) for ccd in report.ccds)])
    words = max([1, *(len(_ascii(ccd.problem)) for ccd in report.ccds)])
    kinds = [("ccd", f"S{width}"), ("hdu", "i4"), *((figure.name, "f8") for figure in OF_CCD), ("problem", f"S{words}")]
    table = np.empty(len(report.ccds), kinds)
    for row, ccd in enumerate(report.ccds):
        numbers = (_number(ccd.figures.get(figure.name)) for figure in OF_CCD)
        table[row] = (_ascii(ccd.name), ccd.hdu, *numbers, _ascii(ccd.problem))
    units = {figure.name: UNITS[figure.unit] for figure in OF_CCD if figure.unit}
    ldac.write_hdus(path, [ldac.table_bytes("QUALITY", table, units)])


def _number(value: float | None) -> float:
    return float("nan") if value is None else value


def _ascii(text: str) -> bytes:
    return text.encode("ascii", "replace")


def _rows(report: Report, columns: Sequence[Figure]) -> list[list[str]]:
    whole = ["", "", *(_text(report.figures.get(figure.name)) for figure in columns), report.problem]
    ccds = [
        [ccd.name, str(ccd.hdu), *(_text(ccd.figures.get(figure.name)) for figure in columns), ccd.problem]
        for ccd in report.ccds
    ]
    return [*ccds, whole]


def _text(value: float | None) -> str:
    return "" if value is None else f"{value:.7g}"


def _write_csv(report: Report, path: Path) -> None:
    """The last line, without a CCD, is the whole."""
    with path.open("w", newline="", encoding="utf-8") as file:
        out = csv.writer(file, lineterminator="\n")
        out.writerow(["ccd", "hdu", *(figure.name for figure in FIGURES), "problem"])
        out.writerows(_rows(report, FIGURES))


def _write_votable(report: Report, path: Path) -> None:
    parts = [
        '<?xml version="1.0" encoding="UTF-8"?>',
        '<VOTABLE version="1.4" xmlns="http://www.ivoa.net/xml/VOTable/v1.3">',
        '<RESOURCE name="QualityFITS">',
    ]
    facts = {
        "exposure": report.exposure,
        "instrument": report.instrument,
        "filter": report.filter,
        "object": report.object,
        "grade": report.grade,
    }
    parts += [
        f'<PARAM name="{name}" datatype="char" arraysize="*" value={_attribute(value)}/>'
        for name, value in facts.items()
    ]
    for figure in FIGURES:
        value = report.figures.get(figure.name)
        if value is not None:
            parts.append(f'<PARAM name="{figure.name}" datatype="double"{_unit(figure)} value="{value:.9g}"/>')
    parts += [
        '<TABLE name="ccds">',
        '<FIELD name="ccd" datatype="char" arraysize="*"/>',
        '<FIELD name="hdu" datatype="int"/>',
    ]
    for figure in OF_CCD:
        parts.append(f'<FIELD name="{figure.name}" datatype="double"{_unit(figure)}>')
        parts.append(f"<DESCRIPTION>{escape(figure.help)}</DESCRIPTION></FIELD>")
    parts += ['<FIELD name="problem" datatype="char" arraysize="*"/>', "<DATA><TABLEDATA>"]
    for row in _rows(report, OF_CCD)[:-1]:
        cells = [row[0], row[1], *(cell or "NaN" for cell in row[2:-1]), row[-1]]
        parts.append("<TR>" + "".join(f"<TD>{escape(_printable(cell))}</TD>" for cell in cells) + "</TR>")
    parts += ["</TABLEDATA></DATA>", "</TABLE>", "</RESOURCE>", "</VOTABLE>", ""]
    path.write_text("\n".join(parts), encoding="utf-8")


def _unit(figure: Figure) -> str:
    return f' unit="{figure.unit}"' if figure.unit else ""


def _attribute(text: str) -> str:
    return f'"{escape(_printable(text))}"'


def _printable(text: str) -> str:
    return "".join(sign if sign.isprintable() else " " for sign in text)

"""What a search has found in the formats that other programs read: CSV, VOTable, ds9 regions, MOC.

Tables for people are the commands' and the pages'. Texts come from headers, so each format escapes them its own way.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Mapping
from typing import Any
from xml.sax.saxutils import escape

from spicad.archive import cells, moc
from spicad.archive.overlaps import footprint_of
from spicad.archive.skymap import colours_of

Row = Mapping[str, Any]  # by the names of tables.Exposure

# name, VOTable type, unit, UCD, what it is
COLUMNS: tuple[tuple[str, str, str, str, str], ...] = (
    ("obs_id", "char", "", "meta.id", "The instrument's own number or name of it"),
    ("name", "char", "", "meta.id;meta.file", "File name"),
    ("instrument_name", "char", "", "meta.id;instr", "Instrument"),
    ("facility_name", "char", "", "meta.id;instr.tel", "Telescope"),
    ("filter", "char", "", "meta.id;instr.filter", "Filter"),
    ("runid", "char", "", "meta.id;obs.proposal", "Observing run"),
    ("target_name", "char", "", "meta.id;src", "Object"),
    ("kind", "char", "", "meta.code.class", "science, bias, dark, flat, weight, flag, mask, stack, or a master frame"),
    ("s_ra", "double", "deg", "pos.eq.ra", "Right ascension (ICRS) of the middle"),
    ("s_dec", "double", "deg", "pos.eq.dec", "Declination (ICRS) of the middle"),
    ("s_fov", "double", "deg", "phys.angSize;instr.fov", "Diameter of the circle round all CCDs"),
    ("s_region", "char", "", "pos.outline;obs.field", "Footprint, STC-S"),
    ("t_min", "double", "d", "time.start;obs.exposure", "Start, MJD (UTC)"),
    ("t_max", "double", "d", "time.end;obs.exposure", "End, MJD (UTC)"),
    ("t_exptime", "double", "s", "time.duration;obs.exposure", "Exposure time"),
    ("em_min", "double", "m", "em.wl;stat.min", "Shortest wavelength"),
    ("em_max", "double", "m", "em.wl;stat.max", "Longest wavelength"),
    ("airmass", "double", "", "obs.airMass", "Airmass"),
    ("seeing", "double", "arcsec", "instr.obsty.seeing", "Seeing"),
    ("elongation", "double", "", "phys.size.axisRatio", "Axis ratio of stars"),
    ("background", "double", "adu", "instr.background", "Background"),
    ("limiting_magnitude", "double", "mag", "phot.mag;stat.max", "Limiting magnitude"),
    ("stars", "int", "", "meta.number;src", "Stars"),
    ("grade", "char", "", "meta.code.qual", "Grade, A to D"),
    ("graded_by", "char", "", "meta.id", "Whose grade that is; empty: proposed"),
    ("ccd_count", "int", "", "meta.number", "CCDs"),
    ("bytes", "long", "byte", "phys.size;meta.file", "Size of the file"),
    ("sha256", "char", "", "meta.checksum", "SHA-256 of the file"),
    ("node", "char", "", "meta.id", "Node that stores it"),
    ("path", "char", "", "meta.ref", "Path on that node"),
)
NAMES = tuple(name for name, *_ in COLUMNS)
FORMULA = ("=", "+", "-", "@", "\t", "\r")  # OWASP, "CSV Injection"


def as_record(row: Row) -> dict[str, Any]:
    return {name: row[name] for name in NAMES}


def as_csv(rows: Iterable[Row]) -> Iterator[str]:
    yield csv_line(NAMES)
    for row in rows:
        yield csv_line(["" if row[name] is None else row[name] for name in NAMES])


def csv_line(values: Iterable[Any]) -> str:
    """A text that a spreadsheet would take for a formula gets a quote in front."""
    line = io.StringIO()
    safe = [f"'{value}" if isinstance(value, str) and value[:1] in FORMULA else value for value in values]
    csv.writer(line, lineterminator="\n").writerow(safe)
    return line.getvalue()


def as_votable(rows: Iterable[Row], words: str = "Exposures of the archive") -> Iterator[str]:
    """VOTable 1.4."""
    yield '<?xml version="1.0" encoding="UTF-8"?>\n'
    yield '<VOTABLE version="1.4" xmlns="http://www.ivoa.net/xml/VOTable/v1.3">\n'
    yield '<RESOURCE type="results">\n<INFO name="QUERY_STATUS" value="OK"/>\n'
    yield f'<TABLE name="exposures">\n<DESCRIPTION>{escape(_plain(words))}</DESCRIPTION>\n'
    for name, kind, unit, ucd, told in COLUMNS:
        size = ' arraysize="*"' if kind == "char" else ""
        units = f' unit="{unit}"' if unit else ""
        yield (
            f'<FIELD name="{name}" datatype="{"unicodeChar" if size else kind}"{size}{units} ucd="{ucd}">'
            f"<DESCRIPTION>{escape(told)}</DESCRIPTION></FIELD>\n"
        )
    yield "<DATA><TABLEDATA>\n"
    for row in rows:
        cells_ = (f"<TD>{'' if row[name] is None else escape(_plain(str(row[name])))}</TD>" for name in NAMES)
        yield f"<TR>{''.join(cells_)}</TR>\n"
    yield "</TABLEDATA></DATA>\n</TABLE>\n</RESOURCE>\n</VOTABLE>\n"


def as_ds9(rows: Iterable[Row]) -> Iterator[str]:
    """A region file: the footprint of each CCD in the colour of its filter."""
    yield "# Region file format: DS9 version 4.1\n"
    yield "global width=1 select=1 edit=0 move=0\nicrs\n"
    listed = list(rows)
    colours = colours_of([row["filter"] for row in listed])
    for row in listed:
        words = "".join(" " if c in "{}" else c for c in _plain(f"{row['name']} {row['filter']}"))
        for polygon in footprint_of(row["s_region"]).polygons:
            numbers = ",".join(f"{ra:.6f},{dec:.6f}" for ra, dec in polygon)
            yield f"polygon({numbers}) # color={colours[row['filter']]} text={{{words.strip()}}}\n"


def coverage(rows: Iterable[Row]) -> moc.Moc:
    covered: set[int] = set()
    for row in rows:
        covered |= cells.cells_of_polygons(footprint_of(row["s_region"]).polygons)
    return moc.moc_of(covered)


def _plain(text: str) -> str:
    return "".join(c if c.isprintable() else " " for c in text)

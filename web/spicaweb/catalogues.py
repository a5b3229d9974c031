"""FITS catalogues as tables on a page: which there are in a file, their columns, rows in any order, a page at a time.

The reading of FITS is spicad/fits.py's; plots of two columns are plots.py's.
"""

from __future__ import annotations

import math
import os
import re
import struct
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from spicad import fits
from spicaweb.capsules import Gone

ROWS_PER_PAGE = 50
MOST_SORTED = 500_000  # rows; one column of them is read and ordered in about a second
MOST_COLUMNS = 200
MOST_ELEMENTS = 4  # of a column with several values a row
TEXT = re.compile(r"([0-9]*)A")


@dataclass(frozen=True)
class Table:
    """One table in a file: of a CCD, where it is a catalogue of a mosaic."""

    number: int  # from 1
    words: str
    rows: int
    hdu: fits.Hdu

    @property
    def columns(self) -> dict[str, fits.Column]:
        return dict(list(fits.table_columns(self.hdu).items())[:MOST_COLUMNS])

    @property
    def plottable(self) -> list[str]:
        """Columns with one number a row."""
        return [name for name, column in self.columns.items() if column.code and column.repeat == 1]

    def unit(self, name: str) -> str:
        number = self._number_of(name)
        return str(self.hdu.header.get(f"TUNIT{number}") or "") if number else ""

    def help(self, name: str) -> str:
        number = self._number_of(name)
        return str(self.hdu.header.get(f"TCOMM{number}") or "") if number else ""

    def _number_of(self, name: str) -> int:
        fields = self.hdu.header.get("TFIELDS", 0)
        numbers = range(1, min(fields, 999) + 1 if isinstance(fields, int) else 1)
        return next((each for each in numbers if str(self.hdu.header.get(f"TTYPE{each}")).strip() == name), 0)

    def text_length(self, name: str) -> int:
        """Of a column of texts; 0 for any other."""
        form = TEXT.match(str(self.hdu.header.get(f"TFORM{self._number_of(name)}") or "").strip())
        return int(form[1] or 1) if form else 0


@dataclass(frozen=True)
class Shown:
    """A page of a table: its rows, each with its number and a cell for each column."""

    table: Table
    columns: tuple[str, ...]
    rows: tuple[tuple[int, tuple[str, ...]], ...]
    page: int
    order: str
    is_downward: bool

    @property
    def pages(self) -> int:
        return max(1, -(-self.table.rows // ROWS_PER_PAGE))


def tables_in(descriptor: int) -> list[Table]:
    """The tables of a file that have rows; of LDAC files the copies of the headers are left out. Raises Gone."""
    try:
        file = fits.scan(descriptor)
    except fits.FitsProblem as problem:
        raise Gone(problem.what) from None
    if file.packing != "fits":
        raise Gone("a packed catalogue is not shown here; fetch it.")
    found: list[Table] = []
    for hdu in file.hdus:
        if hdu.kind == "bintable" and hdu.header.get("TTYPE1") != fits.LDAC_HEADER and fits.table_columns(hdu):
            number = len(found) + 1
            words = f"CCD {number}" if hdu.extname == "LDAC_OBJECTS" else hdu.extname or f"table {number}"
            found.append(Table(number, words, fits.row_count(hdu), hdu))
    return found


def shown(descriptor: int, table: Table, order: str = "", is_downward: bool = False, page: int = 1) -> Shown:
    """One page, in the order of a column or of the file. Raises Gone."""
    names = tuple(table.columns)
    order = order if order in table.plottable and table.rows <= MOST_SORTED else ""
    page = min(max(page, 1), max(1, -(-table.rows // ROWS_PER_PAGE)))
    start = (page - 1) * ROWS_PER_PAGE
    numbers: Sequence[int] = range(table.rows)
    try:
        if order:
            values = fits.columns(descriptor, table.hdu, [order])[order]
            numbers = _ordered(values, is_downward)
        rows = _rows(descriptor, table, numbers[start : start + ROWS_PER_PAGE])
    except fits.FitsProblem as problem:
        raise Gone(problem.what) from None
    return Shown(table, names, tuple(rows), page, order, is_downward)


def pair(descriptor: int, table: Table, x: str, y: str, most: int) -> tuple[array[float], array[float]]:
    """Two columns, at most `most` rows of them taken evenly over the table. Raises Gone."""
    known = table.plottable
    if x not in known or y not in known:
        raise Gone("there is no such column.")
    try:
        both = fits.columns(descriptor, table.hdu, [x, y])
    except fits.FitsProblem as problem:
        raise Gone(problem.what) from None
    step = max(1, -(-table.rows // most))
    return both[x][::step], both[y][::step]


def _ordered(values: array[float], is_downward: bool) -> list[int]:
    """Row numbers by value; what is not a number comes last either way."""
    good = [number for number, value in enumerate(values) if value == value]
    good.sort(key=values.__getitem__, reverse=is_downward)
    return good + [number for number, value in enumerate(values) if value != value]


def _rows(descriptor: int, table: Table, numbers: Sequence[int]) -> list[tuple[int, tuple[str, ...]]]:
    width = table.hdu.shape[0]
    texts = {name: table.text_length(name) for name, column in table.columns.items() if not column.code}
    found = []
    for number in numbers:
        raw = os.pread(descriptor, width, table.hdu.data_offset + number * width)
        if len(raw) < width:
            raise fits.FitsProblem(descriptor, "the file ends within its rows.")
        found.append((number + 1, tuple(_cell(raw, column, texts) for column in table.columns.values())))
    return found


def _cell(raw: bytes, column: fits.Column, texts: Mapping[str, int]) -> str:
    if not column.code:
        length = texts[column.name]
        cut = raw[column.offset : column.offset + length].partition(b"\0")[0]
        return "".join(c if c.isprintable() else "?" for c in cut.decode("ascii", "replace")).strip()
    count = min(column.repeat, MOST_ELEMENTS)
    size = struct.calcsize(f"={column.code}")
    if column.offset + count * size > len(raw):
        return ""
    values = struct.unpack_from(f">{count}{column.code}", raw, column.offset)
    words = [_number(value * column.scale + column.zero, column) for value in values]
    return ", ".join(words) + (", …" if column.repeat > count else "")


def _number(value: float, column: fits.Column) -> str:
    """As many digits as the column holds: 7 of a float, 10 of a double."""
    if not math.isfinite(value):
        return "–"
    if column.code not in "fd" and column.scale == 1.0:
        return str(int(value))
    return f"{value:.10g}" if column.code == "d" else f"{value:.6g}"

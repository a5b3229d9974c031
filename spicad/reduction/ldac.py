"""Reads and writes SExtractor's LDAC catalogues: for each CCD the image's header and a table of sources.

A table is a numpy structured array, columns by name, in the machine's byte order. What columns mean, and which
sources are good, is the affair of those who read them.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spicad import fits
from spicad.fits import BLOCK, CARD, FitsProblem, Hdu, Value

Table = NDArray[np.void]

# TFORM letters and numpy's types in both directions; X (bits) and P, Q (lengths vary) do not occur in LDAC.
TYPES = {"L": "S1", "B": "u1", "I": ">i2", "J": ">i4", "K": ">i8", "E": ">f4", "D": ">f8", "A": "S"}
LETTERS = {"u1": "B", "i2": "I", "i4": "J", "i8": "K", "f4": "E", "f8": "D", "b1": "L"}
FORM = re.compile(r"([0-9]*)([LBIJKEDA])")
SHAPE = re.compile(r"\(([0-9, ]+)\)")


@dataclass(frozen=True)
class CcdCatalogue:
    """One CCD: `cards` of the image that its sources were found on (80 bytes each, no END), and the sources."""

    cards: tuple[bytes, ...]
    table: Table
    units: Mapping[str, str] = field(default_factory=dict)  # of the columns that have one

    @cached_property
    def header(self) -> dict[str, Value]:
        return header_of(self.cards)

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the CCD in pixels; those of the outermost sources when the header does not tell."""
        width, height = (self.header.get(key) for key in ("NAXIS1", "NAXIS2"))
        if isinstance(width, int) and isinstance(height, int) and width > 0 and height > 0:
            return width, height
        return _extent(self.table, "X"), _extent(self.table, "Y")


def _extent(table: Table, axis: str) -> int:
    names = [name for name in (f"{axis}WIN_IMAGE", f"{axis}_IMAGE") if name in (table.dtype.names or ())]
    places = table[names[0]] if names else np.empty(0)
    places = places[np.isfinite(places)]
    return max(int(places.max()) + 1, 1) if len(places) else 1


def header_of(cards: Sequence[bytes]) -> dict[str, Value]:
    """{keyword: value} of cards that have one, the first of each."""
    values: dict[str, Value] = {}
    for card in cards:
        if card[8:10] == b"= ":
            key = card[:8].decode("ascii", "replace").rstrip()
            values.setdefault(key, fits.card_value(card[10:].decode("ascii", "replace").rstrip())[0])
    return values


def read(path: Path, columns: Collection[str] | None = None) -> list[CcdCatalogue]:
    """The CCDs of a catalogue in their order, with all `columns` or those named that are there.

    Raises FitsProblem when it is cut short or no LDAC catalogue.
    """
    file = fits.check_whole(path)
    found: list[CcdCatalogue] = []
    cards: tuple[bytes, ...] = ()
    for hdu in file.hdus:
        if hdu.extname == "LDAC_IMHEAD":
            cards = _image_cards(path, hdu)
        elif hdu.extname == "LDAC_OBJECTS":
            found.append(CcdCatalogue(cards, table_of(path, hdu, columns), units_of(hdu)))
            cards = ()
    if not found:
        raise FitsProblem(path, "holds no LDAC table of sources.", "Use SExtractor's CATALOG_TYPE FITS_LDAC.")
    return found


def _image_cards(path: Path, hdu: Hdu) -> tuple[bytes, ...]:
    with fits.opened(path) as descriptor:
        raw = os.pread(descriptor, hdu.data_bytes, hdu.data_offset)
    cards = [fits.cleaned(raw[start : start + CARD].ljust(CARD)) for start in range(0, len(raw), CARD)]
    ends = [number for number, card in enumerate(cards) if card.startswith(b"END     ")]
    return tuple(cards[: ends[0]] if ends else cards)


def not_plain(table: Table, names: Iterable[str]) -> list[str]:
    """Those of the columns that there are which do not hold one number for each source."""
    kinds = {name: table.dtype[name] for name in names if name in (table.dtype.names or ())}
    return [name for name, kind in kinds.items() if kind.shape or kind.kind not in "fiu"]


def units_of(hdu: Hdu) -> dict[str, str]:
    numbers = range(1, int(str(hdu.header.get("TFIELDS", 0))) + 1)
    named = ((hdu.header.get(f"TTYPE{n}"), hdu.header.get(f"TUNIT{n}")) for n in numbers)
    return {str(name).strip(): str(unit).strip() for name, unit in named if name and unit}


def table_of(path: Path, hdu: Hdu, columns: Collection[str] | None = None) -> Table:
    """The rows of a binary table; `columns` that it does not have are left out."""
    stored = _stored_type(path, hdu)
    count = fits.row_count(hdu)
    rows: Table = np.memmap(path, stored, "r", hdu.data_offset, (count,)) if count else np.empty(0, stored)
    names = [name for name in stored.names or () if not name.startswith("\0")]
    wanted = [name for name in names if columns is None or name in columns]
    native = np.dtype([(name, stored[name].base.newbyteorder("="), stored[name].shape) for name in wanted])
    table = np.empty(len(rows), native)
    for name in wanted:
        table[name] = _scaled(hdu, name, rows[name])
    return table


def _scaled(hdu: Hdu, name: str, values: Any) -> Any:
    column = fits.table_columns(hdu).get(name)
    if column is None or (column.scale == 1.0 and column.zero == 0.0):
        return values
    return values * column.scale + column.zero


def _stored_type(path: Path, hdu: Hdu) -> np.dtype[Any]:
    fields: list[tuple[str, Any, tuple[int, ...]]] = []
    for number in range(1, int(str(hdu.header.get("TFIELDS", 0))) + 1):
        form = FORM.fullmatch(str(hdu.header.get(f"TFORM{number}") or "").strip())
        if form is None:
            raise FitsProblem(path, f"column {number} of HDU {hdu.index} is of a kind that is not read here.")
        name = str(hdu.header.get(f"TTYPE{number}") or f"column {number}").strip()
        repeat = int(form[1] or 1)
        if form[2] == "A":
            fields.append((name, f"S{repeat}", ()) if repeat else (f"\0{number}", "S0", ()))
        else:
            fields.append((name, TYPES[form[2]], _shape(hdu, number, repeat)))
    names = [name for name, _, _ in fields]
    if len(set(names)) < len(names):
        raise FitsProblem(path, f"HDU {hdu.index} has two columns of one name.")
    stored = np.dtype(fields)
    if stored.itemsize != hdu.header.get("NAXIS1"):
        raise FitsProblem(path, f"the columns of HDU {hdu.index} do not fill its rows.")
    return stored


def _shape(hdu: Hdu, number: int, repeat: int) -> tuple[int, ...]:
    """TDIM counts from the fastest axis, numpy from the slowest."""
    told = SHAPE.search(str(hdu.header.get(f"TDIM{number}") or ""))
    shape = tuple(int(each) for each in reversed(told[1].split(","))) if told else (repeat,)
    return () if repeat == 1 else shape if int(np.prod(shape)) == repeat else (repeat,)


# Writing


def write(path: Path, catalogues: Sequence[CcdCatalogue]) -> None:
    """Writes the catalogue whole or not at all; the same content gives the same bytes."""
    parts = (
        hdu
        for catalogue in catalogues
        for hdu in (_image_head(catalogue.cards), table_bytes("LDAC_OBJECTS", catalogue.table, catalogue.units))
    )
    write_hdus(path, parts)


def write_hdus(path: Path, hdus: Iterable[bytes]) -> None:
    """Writes a FITS file of an empty primary and these HDUs, whole or not at all."""
    part = path.with_name(f".{path.name[:200]}.part")
    primary = ["SIMPLE  =                    T", _number("BITPIX", 8), _number("NAXIS", 0)]
    try:
        with open(part, "wb") as out:
            for hdu in chain([_header(primary)], hdus):
                out.write(hdu)
            out.flush()
            os.fsync(out.fileno())
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def _image_head(cards: Sequence[bytes]) -> bytes:
    text = b"".join([*(card.ljust(CARD)[:CARD] for card in cards), b"END".ljust(CARD)])
    head = _header(
        [
            *_table_structure(len(text), 1, 1),
            "EXTNAME = 'LDAC_IMHEAD'",
            "TTYPE1  = 'Field Header Card'",
            f"TFORM1  = '{len(text)}A'",
            f"TDIM1   = '(80, {len(text) // CARD})'",
        ]
    )
    return head + text + b" " * (-len(text) % BLOCK)


def table_bytes(extname: str, table: Table, units: Mapping[str, str]) -> bytes:
    """A whole HDU: a binary table with its header."""
    names = table.dtype.names or ()
    fields = [(name, table.dtype[name].base, table.dtype[name].shape) for name in names]
    stored = np.dtype([(name, base.newbyteorder(">"), shape) for name, base, shape in fields])
    cards = [*_table_structure(stored.itemsize, len(table), len(fields)), f"EXTNAME = '{extname:<8}'"]
    for number, (name, base, shape) in enumerate(fields, 1):
        repeat = int(np.prod(shape)) if shape else 1
        form = f"{base.itemsize}A" if base.kind == "S" else f"{repeat}{LETTERS[base.str[1:]]}"
        cards += [_text(f"TTYPE{number}", name), _text(f"TFORM{number}", form)]
        if len(shape) > 1:
            cards.append(_text(f"TDIM{number}", f"({','.join(map(str, reversed(shape)))})"))
        if units.get(name):
            cards.append(_text(f"TUNIT{number}", units[name]))
    data = _as_stored(table, stored).tobytes()
    return _header(cards) + data + b"\0" * (-len(data) % BLOCK)


def _as_stored(table: Table, stored: np.dtype[Any]) -> Table:
    """FITS writes truth as T and F."""
    if not any(stored[name].base.kind == "b" for name in stored.names or ()):
        return table.astype(stored)
    lettered = [(name, "u1" if stored[name].base.kind == "b" else stored[name]) for name in stored.names or ()]
    out = np.empty(table.shape, np.dtype(lettered))
    for name in stored.names or ():
        is_truth = stored[name].base.kind == "b"
        out[name] = np.where(table[name], ord("T"), ord("F")) if is_truth else table[name]
    return out


def _table_structure(width: int, rows: int, columns: int) -> list[str]:
    numbers = (("BITPIX", 8), ("NAXIS", 2), ("NAXIS1", width), ("NAXIS2", rows), ("PCOUNT", 0), ("GCOUNT", 1))
    return ["XTENSION= 'BINTABLE'", *(_number(key, value) for key, value in numbers), _number("TFIELDS", columns)]


def _number(key: str, value: int) -> str:
    return f"{key:<8}= {value:>20}"


def _text(key: str, value: str) -> str:
    return f"{key:<8}= '{value.replace(chr(39), chr(39) * 2):<8}'"


def _header(cards: Sequence[str]) -> bytes:
    text = "".join(card.ljust(CARD) for card in [*cards, "END"]).encode("ascii", "replace")
    return text + b" " * (-len(text) % BLOCK)

"""The kinds of output files: each is opened and looked into, so that what is cut short or hollow does not pass.

One function per kind, in the table KINDS. Limits on quality are in the descriptor's checks, see outputs.py.
"""

from __future__ import annotations

import json
import math
import os
import re
import struct
import sys
from array import array
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from spicad import fits
from spicad.applications.descriptor import Require

MAX_XML = 64 * 1024 * 1024
MAX_TEXT = 64 * 1024 * 1024
SAMPLED_ROWS = 64
LDAC_ROWS_JUDGED = 10  # a CCD with fewer sources may have columns of zeros by chance
VOTABLE_TAGS = (
    "VOTABLE|RESOURCE|TABLE|FIELD|PARAM|PARAMref|FIELDref|INFO|COOSYS|DATA|TABLEDATA|TR|TD|DESCRIPTION|FITS|STREAM"
    "|BINARY|GROUP|VALUES|MIN|MAX|OPTION|LINK|DEFINITIONS"
)


def fault_of(kind: str, path: Path, require: Require, ccds: int | None) -> str:
    """What is wrong with an output, '' when it passes. `ccds` is the number of CCDs that it should have."""
    if path.stat().st_size == 0:
        return "it is empty."
    try:
        return KINDS[kind](path, require, ccds)
    except fits.FitsProblem as problem:
        return problem.what
    except (ValueError, KeyError, struct.error, UnicodeDecodeError, ElementTree.ParseError) as error:
        return f"it cannot be read: {error}."


def head_blocks(text: str) -> list[dict[str, fits.Value]]:
    """The header of each CCD in a .head file; raises ValueError when the last block has no END."""
    blocks: list[dict[str, fits.Value]] = []
    cards: dict[str, fits.Value] = {}
    is_open = False
    for line in text.split("\n"):
        name = line[:8].rstrip()
        if name == "END":
            blocks.append(cards)
            cards, is_open = {}, False
        elif line.strip():
            is_open = True
            if line[8:10] == "= ":
                cards[name] = fits.card_value(line[10:].rstrip())[0]
    if is_open:
        raise ValueError("the last header has no END: it is cut short")
    return blocks


def votable(path: Path) -> ElementTree.Element:
    """The root of a VOTable without namespaces. Header texts reach it unescaped from the tools: those are mended."""
    size = path.stat().st_size
    if size > MAX_XML:
        raise ValueError(f"{size} bytes are more than a report has")
    text = path.read_text(encoding="utf-8", errors="replace")
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise ValueError("it declares a document type, which no tool does")
    text = re.sub(r'\sxmlns(:\w+)?="[^"]*"|\sxsi:\w+="[^"]*"', "", text)
    try:
        return ElementTree.fromstring(text)  # noqa: S314  no entities can be declared
    except ElementTree.ParseError:
        return ElementTree.fromstring(_escaped(text))  # noqa: S314


def read_json(path: Path) -> dict[str, Any]:
    """Figures as our own programs write them: one object."""
    read = json.loads(_text(path))
    if not isinstance(read, dict):
        raise ValueError("it holds no figures by name")
    return read


def object_tables(file: fits.FitsFile) -> list[fits.Hdu]:
    """The tables of sources of a LDAC file, one per CCD."""
    return [hdu for hdu in file.hdus if hdu.extname == "LDAC_OBJECTS"]


def _escaped(text: str) -> str:
    text = re.sub(r"[\x00-\x08\x0b\x0c\x0e-\x1f]", "?", text)
    text = re.sub(r"&(?!(?:amp|lt|gt|quot|apos|#\d{1,6}|#x[0-9a-fA-F]{1,5});)", "&amp;", text)
    return re.sub(rf"<(?!/?(?:{VOTABLE_TAGS})\b|!--|\?xml)", "&lt;", text)


def _fits_fault(path: Path, require: Require, ccds: int | None) -> str:
    file = fits.check_whole(path)
    images = [hdu for hdu in file.hdus if hdu.is_image]
    if not images:
        return "it has no image."
    if require.ccds and ccds is not None and len(images) != ccds:
        return f"it has {len(images)} images for {ccds} CCDs."
    for hdu in images:
        missing = _missing_card(hdu.header, require)
        if missing:
            return missing
    if require.pixels and not any(_has_pixels(path, hdu) for hdu in images):
        return "its pixels are all zero or not finite."
    if require.varied and not any(_has_pixels(path, hdu, varied=True) for hdu in images):
        return "its pixels are all the same."
    return ""


def _ldac_fault(path: Path, require: Require, ccds: int | None) -> str:
    file = fits.check_whole(path)
    tables = object_tables(file)
    if not tables:
        return "it has no table of sources."
    if require.ccds and ccds is not None and len(tables) != ccds:
        return f"it has sources of {len(tables)} CCDs, of {ccds}."
    for number, hdu in enumerate(tables, 1):
        known = fits.table_columns(hdu)
        lacking = [name for name in (*require.columns, *require.not_all_zero) if name not in known]
        if lacking:
            return f"CCD {number} has no column {', '.join(lacking)}."
    rows = sum(fits.row_count(hdu) for hdu in tables)
    if rows < require.rows:
        return f"it has {rows} sources, and {require.rows} are needed."
    for number, hdu in enumerate(tables, 1):
        if fits.row_count(hdu) >= min(LDAC_ROWS_JUDGED, max(rows, 1)):
            for name in require.not_all_zero:
                if fits.column_is_all_zero(path, hdu, name):
                    return f"it is hollow: {name} is zero for all {fits.row_count(hdu)} sources of CCD {number}."
    return ""


def _head_fault(path: Path, require: Require, ccds: int | None) -> str:
    blocks = head_blocks(_text(path))
    if not blocks:
        return "it has no header in it."
    if require.ccds and ccds is not None and len(blocks) != ccds:
        return f"it has headers of {len(blocks)} CCDs, of {ccds}."
    for number, cards in enumerate(blocks, 1):
        missing = _missing_card(cards, require)
        if missing:
            return f"CCD {number}: {missing}"
    return ""


def _votable_fault(path: Path, require: Require, ccds: int | None) -> str:
    root = votable(path)
    if root.tag != "VOTABLE":
        return f"it is no VOTable but {root.tag[:40]}."
    if require.ccds and ccds is not None:
        rows = sum(1 for table in root.iter("TABLE") if table.get("ID") == require.table for _ in table.iter("TR"))
        if rows < ccds:
            return f"only {rows} of {ccds} CCDs were used."
    return ""


def _text_fault(path: Path, require: Require, ccds: int | None) -> str:
    lines = [line for line in _text(path).split("\n") if line.strip() and not line.startswith("#")]
    return "" if len(lines) >= max(require.rows, 1) else f"it has {len(lines)} lines, and {require.rows} are needed."


def _psf_fault(path: Path, require: Require, ccds: int | None) -> str:
    file = fits.check_whole(path)
    models = [hdu for hdu in file.hdus if hdu.extname == "PSF_DATA"]
    if not models:
        return "it has no PSF model."
    if require.ccds and ccds is not None and len(models) != ccds:
        return f"it has models of {len(models)} CCDs, of {ccds}."
    for number, hdu in enumerate(models, 1):
        missing = _missing_card(hdu.header, require)
        if missing:
            return f"CCD {number}: {missing}"
        for name in ("PSF_MASK",):
            if fits.column_is_all_zero(path, hdu, name):
                return f"it is hollow: the model of CCD {number} is zero."
    return ""


def _tiff_fault(path: Path, require: Require, ccds: int | None) -> str:
    """Walks the directories: every strip and tile must lie within the file."""
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(16)
        order = {b"II": "<", b"MM": ">"}.get(start[:2])
        if order is None:
            return "it is no TIFF file."
        is_big = struct.unpack(order + "H", start[2:4])[0] == 43
        word, entry, count = ("Q", "HHQ8s", "Q") if is_big else ("I", "HHI4s", "H")
        at = struct.unpack_from(order + word, start, 8 if is_big else 4)[0]
        for _ in range(64):
            if at == 0:
                return ""
            file.seek(at)
            number = struct.unpack(order + count, file.read(struct.calcsize(count)))[0]
            raw = file.read(number * struct.calcsize("=" + entry) + struct.calcsize(word))
            tags = {
                tag[0]: tag for tag in struct.iter_unpack(order + entry, raw[: number * struct.calcsize("=" + entry)])
            }
            for offsets, lengths in ((273, 279), (324, 325)):
                if offsets in tags:
                    starts = _tiff_values(file.fileno(), order, word, tags[offsets])
                    ends = _tiff_values(file.fileno(), order, word, tags[lengths])
                    if any(a + b > size for a, b in zip(starts, ends, strict=True)):
                        return "it is cut short."
            at = struct.unpack(order + word, raw[-struct.calcsize(word) :])[0]
    return ""


def _tiff_values(descriptor: int, order: str, word: str, tag: tuple[int, int, int, bytes]) -> tuple[int, ...]:
    _, kind, count, value = tag
    form = {3: "H", 4: "I", 16: "Q"}[kind]
    wanted = struct.calcsize(form) * count
    if wanted > len(value):
        value = os.pread(descriptor, wanted, struct.unpack(order + word, value)[0])
    return struct.unpack(f"{order}{count}{form}", value[:wanted])


def _pdf_fault(path: Path, require: Require, ccds: int | None) -> str:
    with path.open("rb") as file:
        start = file.read(5)
        file.seek(max(0, path.stat().st_size - 1024))
        end = file.read()
    if start == b"%PDF-" and b"%%EOF" in end:
        return ""
    return "it is cut short." if start == b"%PDF-" else "it is no PDF file."


def _json_fault(path: Path, require: Require, ccds: int | None) -> str:
    read_json(path)
    return ""


def _any_fault(path: Path, require: Require, ccds: int | None) -> str:
    return ""


KINDS: dict[str, Callable[[Path, Require, int | None], str]] = {
    "fits": _fits_fault,
    "ldac": _ldac_fault,
    "head": _head_fault,
    "votable": _votable_fault,
    "text": _text_fault,
    "psf": _psf_fault,
    "tiff": _tiff_fault,
    "pdf": _pdf_fault,
    "json": _json_fault,
    "any": _any_fault,
}


def _text(path: Path) -> str:
    if path.stat().st_size > MAX_TEXT:
        raise ValueError("it is too large")
    return path.read_text(encoding="latin-1")


def _missing_card(header: object, require: Require) -> str:
    cards = dict(header)  # type: ignore[call-overload]
    for name in require.cards:
        value = cards.get(name)
        if value is None:
            return f"its header has no {name}."
        is_odd = isinstance(value, float) and not math.isfinite(value)
        if is_odd or (isinstance(value, str) and value.strip().lower().lstrip("+-") in ("nan", "inf", "infinity")):
            return f"its header has {name} = {value}."
    return ""


def _has_pixels(path: Path, hdu: fits.Hdu, varied: bool = False) -> bool:
    """Whether a sample of rows, or else all of them, holds a finite pixel that is not 0; `varied`: two values."""
    if hdu.kind == "compressed" or len(hdu.shape) < 2:
        return hdu.data_bytes > 0
    rows = math.prod(hdu.shape[1:])
    step = max(1, rows // SAMPLED_ROWS)
    return _any_good(path, hdu, range(step // 2, rows, step), varied) or _any_good(path, hdu, range(rows), varied)


def _any_good(path: Path, hdu: fits.Hdu, rows: range, varied: bool) -> bool:
    code = {8: "B", 16: "h", 32: "i", 64: "q", -32: "f", -64: "d"}[hdu.bitpix]
    width = hdu.shape[0] * array(code).itemsize
    least: float | None = None
    with fits.opened(path) as descriptor:
        for row in rows:
            pixels = array(code, os.pread(descriptor, width, hdu.data_offset + row * width))
            if sys.byteorder == "little":
                pixels.byteswap()
            values = {value for value in set(pixels) if math.isfinite(value)}
            if not varied and values - {0}:
                return True
            if least is None and values:
                least = min(values)
            if varied and values - {least}:
                return True
    return False

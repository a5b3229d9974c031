"""Reads the structure, headers and table columns of FITS files without astropy or numpy, quickly and trusting nothing.

It serves the daemon's threads: every size is checked against the file's own and against a cap, nothing blocks,
and whatever is wrong is a FitsProblem. What keywords mean is archive/headers.py's; pixels are spicad/reduction's.
"""

from __future__ import annotations

import bz2
import hashlib
import math
import os
import re
import stat
import struct
import zlib
from array import array
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import lru_cache
from operator import itemgetter
from typing import Any, BinaryIO, cast

from spicad.words import SpicaError

BLOCK = 2880
CARD = 80
MAX_HEADER = 4000 * BLOCK  # of one HDU; 30,000 COMMENT cards, seen in the wild, are 834 blocks
MAX_HEADERS = 12000 * BLOCK  # of all HDUs together
MAX_HDUS = 4096
MAX_DATA = 1 << 50
MAX_UNPACKED = {"fits.gz": 4 << 30, "fits.bz2": 1 << 30}  # bzip2 unpacks at some 30 MB/s
MAX_RATIO = 500  # MegaCam's bad-pixel masks reach 363; deflate itself ends at 1032, bzip2 does not end
RATIO_COUNTS_FROM = 64 << 20
CHUNK = 256 << 10
MAX_WARNINGS = 40
MAX_ROWS = 5_000_000

BITPIX = (8, 16, 32, 64, -32, -64)
STRUCTURE = frozenset({"SIMPLE", "XTENSION", "BITPIX", "NAXIS", "PCOUNT", "GCOUNT", "GROUPS", "EXTNAME"})
STRUCTURE |= {"ZIMAGE", "ZBITPIX", "ZNAXIS", "HIERARCH", "CONTINUE"}
STRUCTURE |= {f"{z}NAXIS{axis}" for z in ("", "Z") for axis in range(1, 1000)}
NOT_ASCII = "holds bytes that are not plain ASCII"
TWICE = "stands twice"
NEVER_READ = frozenset({"COMMENT ", "HISTORY ", "        "})

Value = str | int | float | bool | None
Noted = list[tuple[str, str]]  # where in the file ('' for all of it), and what is odd there
Source = str | os.PathLike[str] | int


class FitsProblem(SpicaError):
    """What is wrong with a file, for the person who brought it: `what` is the fault, `mend` what to do."""

    def __init__(self, source: Source, what: str, mend: str = "") -> None:
        self.what, self.mend = what, mend
        super().__init__(f"{_shown(source)}: {what}" + (f" {mend}" if mend else ""))


@dataclass(frozen=True)
class Hdu:
    """One header and data unit. `shape` is in NAXIS order (x, y); of the image inside when it is tile-compressed."""

    index: int
    kind: str  # "primary", "image", "bintable", "compressed", "table" or "other"
    header: Mapping[str, Value] = field(repr=False)
    header_offset: int
    data_offset: int
    data_bytes: int  # without the padding
    shape: tuple[int, ...]

    @property
    def is_image(self) -> bool:
        """Whether there are pixels in it."""
        return self.kind in ("primary", "image", "compressed") and bool(self.shape) and 0 not in self.shape

    @property
    def bitpix(self) -> int:
        """Of the image inside when it is tile-compressed."""
        return int(self.header["ZBITPIX" if self.kind == "compressed" else "BITPIX"])  # type: ignore[arg-type]

    @property
    def extname(self) -> str:
        name = str(self.header.get("EXTNAME") or "")
        return "" if self.kind == "compressed" and name == "COMPRESSED_IMAGE" else name  # fpack's, where there was none


@dataclass(frozen=True)
class FitsFile:
    """What a scan found. The offsets are into the unpacked stream where the file is gzip or bzip2."""

    packing: str  # "fits", "fits.fz", "fits.gz" or "fits.bz2"
    size: int  # bytes on disk
    mtime_ns: int
    hdus: tuple[Hdu, ...]
    warnings: tuple[str, ...]


def packing(path: Source) -> str:
    """How the file is packed, judged by its content and not by its name."""
    with opened(path) as descriptor:
        outer = _outer_packing(os.pread(descriptor, 4, 0))
        if outer != "fits":
            return outer
        for hdu in _hdus(_Plain(path, descriptor), path, [], frozenset()):
            if hdu.kind == "compressed":
                return "fits.fz"
    return "fits"


def scan(path: Source, *, keys: Collection[str] | None = None, follow_links: bool = True) -> FitsFile:
    """All headers, or only the cards `keys` of each and those of the structure; a frozenset is in capitals.

    Data that reach beyond the end of the file are a warning here: a file may still be growing.
    """
    return _scanned(path, keys, follow_links, must_be_whole=False)


def check_whole(path: Source, *, keys: Collection[str] | None = None, follow_links: bool = True) -> FitsFile:
    """As scan, and refuses a file that ends early; only padding may be missing, with a warning."""
    return _scanned(path, keys, follow_links, must_be_whole=True)


def unpack(path: Source, out: BinaryIO) -> None:
    """Writes what is inside of a gzip or bzip2 file, within the same caps as all reading here."""
    with opened(path) as descriptor:
        stream, at = _stream(path, descriptor), 0
        while piece := stream.read(at, CHUNK):
            out.write(piece)
            at += len(piece)


@contextmanager
def opened(path: Source, follow_links: bool = True) -> Iterator[int]:
    """A descriptor of a regular file that cannot block; one given as a number stays open."""
    if isinstance(path, int):
        descriptor = path
    else:
        flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | (0 if follow_links else os.O_NOFOLLOW)
        try:
            descriptor = os.open(path, flags)
        except (OSError, ValueError) as error:
            raise FitsProblem(
                path, f"cannot be opened: {_reason(error)}.", "Look at the path and its rights."
            ) from None
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise FitsProblem(path, "is not a regular file.", "Give the FITS file itself.")
        yield descriptor
    except (OSError, EOFError) as error:
        raise FitsProblem(path, f"cannot be read: {_reason(error)}.", "Look at the disk or the network.") from None
    finally:
        if not isinstance(path, int):
            os.close(descriptor)


def merged(noted: Noted) -> list[str]:
    """One text for each oddity: "HDU 1 and 35 more: GAIN is 0."."""
    places: dict[str, list[str]] = {}
    for where, what in noted:
        places.setdefault(what, []).append(where)
    texts = []
    for what, wheres in places.items():
        more = f" and {len(wheres) - 1} more" if len(wheres) > 1 else ""
        texts.append(f"{wheres[0]}{more}: {what}" if wheres[0] else what)
    if len(texts) > MAX_WARNINGS:
        texts[MAX_WARNINGS:] = [f"and {len(texts) - MAX_WARNINGS} more oddities."]
    return texts


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)


def _shown(source: Source) -> str:
    if isinstance(source, int):
        return f"descriptor {source}"
    return "".join(c if c.isprintable() else "?" for c in os.fsdecode(source))


# The bytes, from a plain file or an unpacked stream


class _Plain:
    """A file as it lies on disk."""

    def __init__(self, source: Source, descriptor: int) -> None:
        self.source, self.descriptor = source, descriptor
        self.end = os.fstat(descriptor).st_size

    def read(self, offset: int, count: int) -> bytes:
        return os.pread(self.descriptor, count, offset)

    def reach(self, offset: int) -> int:
        """How far towards `offset` the bytes go."""
        return min(offset, self.end)


class _Unpacked:
    """A gzip or bzip2 stream, read forward only and never held as a whole."""

    def __init__(self, source: Source, descriptor: int, kind: str) -> None:
        self.source, self.descriptor, self.kind = source, descriptor, kind
        self.packed_at = self.offset = 0  # what was read of the file; where `held` begins in the unpacked stream
        self.packed = self.held = b""
        self.ended = False
        self.junk = False
        self.machine = self._new_machine()

    def _new_machine(self) -> Any:
        return zlib.decompressobj(wbits=31) if self.kind == "fits.gz" else bz2.BZ2Decompressor()

    def read(self, offset: int, count: int) -> bytes:
        self.reach(offset)
        while len(self.held) < count and not self.ended:
            self.held += self._more()
        return self.held[:count]

    def reach(self, offset: int) -> int:
        while self.offset + len(self.held) < offset and not self.ended:
            self.offset += len(self.held)
            self.held = self._more()
        step = min(offset - self.offset, len(self.held))
        if step > 0:
            self.held, self.offset = self.held[step:], self.offset + step
        return self.offset

    def _more(self) -> bytes:
        try:
            out = self._unpack_some()
        except (zlib.error, OSError, ValueError) as error:
            name = "gzip" if self.kind == "fits.gz" else "bzip2"
            raise FitsProblem(self.source, f"the {name} data are damaged ({error}).", "Fetch the file again.") from None
        total = self.offset + len(self.held) + len(out)
        if total > MAX_UNPACKED[self.kind]:
            most = MAX_UNPACKED[self.kind] >> 30
            raise FitsProblem(
                self.source, f"unpacks to more than {most} GiB.", "Unpack it yourself before you give it."
            )
        if total > RATIO_COUNTS_FROM and total > MAX_RATIO * self.packed_at:
            raise FitsProblem(self.source, f"unpacks to more than {MAX_RATIO} times its size: no image does.")
        return out

    def _unpack_some(self) -> bytes:
        if self.machine.eof:
            self.packed = self.machine.unused_data or self._fetch()
            if _outer_packing(self.packed[:4]) != self.kind:
                self.ended = True
                self.junk = bool(self.packed.strip(b"\0"))
                return b""
            self.machine = self._new_machine()
        elif not self.packed and getattr(self.machine, "needs_input", True):
            self.packed = self._fetch()
            if not self.packed:
                raise FitsProblem(self.source, "is cut short: the packed data end early.", "Fetch the file again.")
        out = self.machine.decompress(self.packed, CHUNK)
        self.packed = getattr(self.machine, "unconsumed_tail", b"")
        return bytes(out)

    def _fetch(self) -> bytes:
        piece = os.pread(self.descriptor, CHUNK, self.packed_at)
        self.packed_at += len(piece)
        return piece


def _outer_packing(magic: bytes) -> str:
    if magic[:3] == b"\x1f\x8b\x08":
        return "fits.gz"
    return "fits.bz2" if magic[:3] == b"BZh" else "fits"


def _stream(source: Source, descriptor: int) -> _Plain | _Unpacked:
    kind = _outer_packing(os.pread(descriptor, 4, 0))
    return _Plain(source, descriptor) if kind == "fits" else _Unpacked(source, descriptor, kind)


# From bytes to HDUs


def _scanned(path: Source, keys: Collection[str] | None, follow_links: bool, must_be_whole: bool) -> FitsFile:
    wanted = keys if keys is None or isinstance(keys, frozenset) else frozenset(key.upper() for key in keys)
    warnings: Noted = []
    with opened(path, follow_links) as descriptor:
        about = os.fstat(descriptor)
        stream = _stream(path, descriptor)
        hdus = tuple(_hdus(stream, path, warnings, wanted, must_be_whole))
        if isinstance(stream, _Unpacked) and stream.junk:
            warnings.append(("", "stray bytes follow the packed data."))
    inner = "fits.fz" if any(hdu.kind == "compressed" for hdu in hdus) else "fits"
    kind = stream.kind if isinstance(stream, _Unpacked) else inner
    return FitsFile(kind, about.st_size, about.st_mtime_ns, hdus, tuple(merged(warnings)))


def _hdus(
    stream: _Plain | _Unpacked,
    source: Source,
    warnings: Noted,
    wanted: frozenset[str] | None,
    must_be_whole: bool = False,
) -> Iterator[Hdu]:
    offset = headers = 0
    usual = BLOCK * 4  # bytes of a header: most are as long as the one before
    for index in range(MAX_HDUS):
        start = stream.read(offset, usual)
        if not _begins_hdu(start, index):
            _refuse_or_pass_junk(stream, source, index, offset, start, warnings)
            return
        raw = _header_bytes(stream, source, index, offset, start, usual)
        usual = _padded(len(raw) + CARD)
        headers += len(raw)
        if headers > MAX_HEADERS:
            raise FitsProblem(source, f"has more than {MAX_HEADERS >> 20} MiB of headers.", "Split it.")
        hdu = _hdu(source, index, offset, raw, wanted, warnings)
        yield hdu
        if stream.reach(hdu.data_offset) < hdu.data_offset:
            raise FitsProblem(source, f"ends within the header of HDU {index}.", "Fetch the file again.")
        end = hdu.data_offset + hdu.data_bytes
        reached = stream.reach(end)
        if reached < end:
            what = f"ends within the data of HDU {index}: {end - reached} of {hdu.data_bytes} bytes are missing."
            if must_be_whole:
                raise FitsProblem(source, what, "Fetch the file again.")
            warnings.append(("", what))
            return
        offset = hdu.data_offset + _padded(hdu.data_bytes)
        if stream.reach(offset) < offset:
            warnings.append((f"HDU {index}", f"its last block is not filled up to {BLOCK} bytes; the data are whole."))
            return
    if stream.read(offset, 1):
        raise FitsProblem(source, f"has more than {MAX_HDUS} HDUs.", "Split it.")


def _begins_hdu(start: bytes, index: int) -> bool:
    return start[:9] == (b"XTENSION=" if index else b"SIMPLE  =")


def _refuse_or_pass_junk(
    stream: _Plain | _Unpacked, source: Source, index: int, offset: int, start: bytes, warnings: Noted
) -> None:
    if index == 0:
        again = "Give a FITS file."
        if not start:
            raise FitsProblem(source, "is empty (0 bytes).", "Fetch the file again.")
        if start[:6] == b"SIMPLE":
            raise FitsProblem(source, 'is not FITS: it does not begin with "SIMPLE  = T" as FITS headers do.', again)
        raise FitsProblem(source, f"is not FITS but {_looks_like(start)}.", again)
    if start and isinstance(stream, _Plain):
        warnings.append(("", f"{stream.end - offset} stray bytes follow the last HDU; they are left out."))
    elif start:
        warnings.append(("", "stray bytes follow the last HDU; they are left out."))


def _looks_like(start: bytes) -> str:
    low = start[:512].lstrip().lower()
    for magic, name in ((b"\x89png", "a PNG picture"), (b"\xff\xd8\xff", "a JPEG picture"), (b"%pdf", "a PDF")):
        if low.startswith(magic):
            return name
    if low.startswith((b"<!doctype", b"<html", b"<?xml")):
        return "a web page: often the error page of a download"
    if start[:4] == b"\xfd7zX" or start[:2] in (b"\x1f\x9d", b"PK"):
        return "packed in a way that is not read here (gzip, bzip2 and fpack are)"
    return "something else" if b"\0" in start or not start.isascii() else "plain text"


def _header_bytes(
    stream: _Plain | _Unpacked, source: Source, index: int, offset: int, start: bytes, size: int
) -> bytes:
    """The header up to and without its END card, read in growing pieces; `start` is what reading `size` gave."""
    raw, looked = start, 0
    while True:
        found = _end_of_header(raw, looked)
        blocks = range(max(looked // BLOCK * BLOCK, BLOCK), found if found >= 0 else len(raw), BLOCK)
        if b"XTENSION=" in [raw[at : at + 9] for at in blocks]:
            raise FitsProblem(source, f"the header of HDU {index} has no END card.", "Have it written anew.")
        if found >= 0:
            return raw[:found]
        if len(raw) < size:
            raise FitsProblem(source, f"ends within the header of HDU {index}.", "Fetch the file again.")
        if size >= MAX_HEADER:
            raise FitsProblem(source, f"the header of HDU {index} is over {MAX_HEADER >> 20} MiB or has no END card.")
        looked = len(raw) // CARD * CARD
        size = min(MAX_HEADER, size * 3)
        raw = stream.read(offset, size)


def _end_of_header(raw: bytes, start: int) -> int:
    """Where its END card stands, -1 without one; `start` is a card's."""
    initials = raw[start::CARD]
    number = initials.find(b"E")
    while number >= 0:
        at = start + number * CARD
        if raw[at : at + 8] == b"END     ":
            return at
        number = initials.find(b"E", number + 1)
    return -1


def _padded(size: int) -> int:
    return -(-size // BLOCK) * BLOCK


def _hdu(source: Source, index: int, offset: int, raw: bytes, wanted: frozenset[str] | None, warnings: Noted) -> Hdu:
    header = _cards(raw, wanted, lambda text: warnings.append((f"HDU {index}", text)))
    data_offset = offset + _padded(len(raw) + CARD)
    if index == 0 and header.get("SIMPLE") not in (True, False):
        raise FitsProblem(source, 'is not FITS: it does not begin with "SIMPLE  = T".', "Give a FITS file.")
    axes, size, groups = _plain_image(header) or _structure(source, index, header)
    if size > MAX_DATA:
        raise FitsProblem(source, f"HDU {index}: claims {size} bytes of data, which cannot be.", "Mend NAXISn.")
    kind = _kind(index, header)
    shape = axes
    if kind == "compressed":
        x, y = header.get("ZNAXIS1"), header.get("ZNAXIS2")
        is_plain = header.get("ZNAXIS") == 2 and type(x) is int and type(y) is int and x >= 0 and y >= 0
        shape = (x, y) if is_plain else _axes(source, index, header, "Z")  # type: ignore[assignment]
        if header.get("ZBITPIX") not in BITPIX or isinstance(header["ZBITPIX"], bool):
            raise FitsProblem(source, f"HDU {index}: ZBITPIX is not one of {BITPIX}.", "Have it packed anew.")
    return Hdu(index, kind, header, offset, data_offset, size, () if groups else shape)


def _plain_image(header: Mapping[str, Value]) -> tuple[tuple[int, ...], int, bool] | None:
    """As _structure, of headers with two axes and nothing odd, which most are; None for others."""
    get = header.get
    x, y, pcount, gcount = get("NAXIS1"), get("NAXIS2"), get("PCOUNT", 0), get("GCOUNT", 1)
    bitpix = get("BITPIX")
    if type(x) is int and type(y) is int and type(pcount) is int and type(bitpix) is int:  # noqa: SIM102
        if get("NAXIS") == 2 and x > 0 and y >= 0 and pcount >= 0 and gcount == 1 and bitpix in BITPIX:
            return (x, y), abs(bitpix) // 8 * (pcount + x * y), False
    return None


def _structure(source: Source, index: int, header: Mapping[str, Value]) -> tuple[tuple[int, ...], int, bool]:
    """Axes, bytes of data, and whether they are random groups."""
    bitpix = _whole(source, index, header, "BITPIX")
    if bitpix not in BITPIX:
        raise FitsProblem(source, f"HDU {index}: BITPIX is {bitpix}, one of {BITPIX} was expected.", "Mend the header.")
    axes = _axes(source, index, header, "")
    pcount = _whole(source, index, header, "PCOUNT", 0)
    gcount = _whole(source, index, header, "GCOUNT", 1)
    groups = bool(axes) and axes[0] == 0 and header.get("GROUPS") is True
    count = _product(axes[1:] if groups else axes)
    return axes, abs(bitpix) // 8 * gcount * (pcount + count) if axes else 0, groups


def _kind(index: int, header: Mapping[str, Value]) -> str:
    if index == 0:
        return "primary"
    extension = str(header.get("XTENSION") or "").strip()
    if extension in ("BINTABLE", "A3DTABLE"):
        return "compressed" if header.get("ZIMAGE") is True else "bintable"
    return {"IMAGE": "image", "IUEIMAGE": "image", "TABLE": "table"}.get(extension, "other")


def _axes(source: Source, index: int, header: Mapping[str, Value], z: str) -> tuple[int, ...]:
    count = _whole(source, index, header, f"{z}NAXIS")
    if count > 999:
        raise FitsProblem(source, f"HDU {index}: {z}NAXIS is {count}, at most 999 was expected.", "Mend the header.")
    return tuple(_whole(source, index, header, f"{z}NAXIS{axis}") for axis in range(1, count + 1))


def _whole(source: Source, index: int, header: Mapping[str, Value], key: str, default: int | None = None) -> int:
    value = header.get(key, default)
    least = -64 if key == "BITPIX" else 0
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        if key not in header:
            raise FitsProblem(source, f"HDU {index}: {key} is missing.", "Have the header written anew.")
        raise FitsProblem(source, f"HDU {index}: {key} is {value!r}, a whole number was expected.", "Mend the header.")
    return value


def _product(numbers: Sequence[int]) -> int:
    result = 1 if numbers else 0
    for number in numbers:
        result *= number
        if result > MAX_DATA:
            return MAX_DATA + 1
    return result


# Cards


def header_cards(path: Source, hdu: Hdu) -> list[bytes]:
    """The cards of an HDU as they stand, 80 bytes each, without END and the filling."""
    with opened(path) as descriptor:
        raw = _stream(path, descriptor).read(hdu.header_offset, hdu.data_offset - hdu.header_offset)
    cards = [raw[start : start + CARD] for start in range(0, len(raw), CARD)]
    ends = [number for number, card in enumerate(cards) if card.startswith(b"END     ")]
    return cards[: ends[0]] if ends else cards


def cleaned(card: bytes) -> bytes:
    """The card with ? for each byte that a header must not hold."""
    return card.translate(_CLEAN)


_CLEAN = bytes(byte if 32 <= byte < 127 else ord("?") for byte in range(256))
_STRING = re.compile(r" *'((?:[^']|'')*)'")
_INTEGER = re.compile(r"[+-]?[0-9]+$")
_REAL = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([ED][+-]?[0-9]{1,4})?$")
_KEYWORD = re.compile(r"[A-Z0-9_-]{1,8}$")


def _cards(raw: bytes, wanted: frozenset[str] | None, warn: Callable[[str], None]) -> dict[str, Value]:
    """The cards of a header. Of a keyword that comes twice the first counts. What is not plain ASCII becomes "?"."""
    places = _card_places(b"".join([raw[column::CARD] for column in range(9)]), wanted)
    header = None if places is None else places.read(raw)
    return _cards_one_by_one(raw, wanted, warn) if header is None else header


class _CardPlaces:
    """Where the values stand in headers whose keywords come in the same order, as those of a mosaic's CCDs do."""

    def __init__(self, keys: Sequence[str], starts: Sequence[int]) -> None:
        self.keys, self.starts = tuple(keys), tuple(starts)
        self.values = _struct_of((start, 71) for start in starts)
        self.reals: _Reals | None = None  # once a header has shown which they are

    def read(self, raw: bytes) -> dict[str, Value] | None:
        """None when a value asks for a warning."""
        if self.reals is not None:
            try:
                return dict(zip(self.keys, self.reals.read(raw), strict=True))
            except (ValueError, _Odd):
                pass
        try:
            header = dict(zip(self.keys, map(_VALUES.__getitem__, self.values.unpack_from(raw)), strict=True))
        except _Odd:
            return None
        if self.reals is None and len(header) > 1:
            self.reals = _Reals(self.starts, [type(value) is float for value in header.values()])
        return header


class _Reals:
    """Reads all reals of a header at once, and what else there is from _VALUES.

    Of a real, 21 bytes hold the number, and 50 the comment, which is mostly the same for all CCDs.
    """

    def __init__(self, starts: Sequence[int], is_real: Sequence[bool]) -> None:
        order = sorted(range(len(starts)), key=lambda number: not is_real[number])
        self.count = sum(is_real)
        self.numbers = _struct_of((starts[number], 21) for number in order[: self.count])
        self.comments = _struct_of((starts[number] + 21, 50) for number in order[: self.count])
        self.others = _struct_of((start, 71) for start, real in zip(starts, is_real, strict=True) if not real)
        self.in_order = itemgetter(*(order.index(number) for number in range(len(starts))))

    def read(self, raw: bytes) -> Iterable[Value]:
        """Raises ValueError or _Odd when it takes another look."""
        numbers = self.numbers.unpack_from(raw)
        together = b"".join(numbers)
        if together.translate(None, _OF_NUMBERS) or together.count(b".") != self.count:
            raise ValueError
        if not _ARE_COMMENTS[b"".join(self.comments.unpack_from(raw))]:
            raise ValueError
        values: list[Value] = [*map(float, numbers)]
        if math.inf in values or -math.inf in values:
            raise ValueError
        values += map(_VALUES.__getitem__, self.others.unpack_from(raw))
        return cast(Iterable[Value], self.in_order(values))


def _struct_of(fields: Iterable[tuple[int, int]]) -> struct.Struct:
    """Of fields in a header: start and length."""
    form, end = "=", 0
    for start, length in fields:
        form += f"{start - end}x{length}s"
        end = start + length
    return struct.Struct(form)


@lru_cache(maxsize=256)
def _card_places(columns: bytes, wanted: frozenset[str] | None) -> _CardPlaces | None:
    """Of headers with these first nine columns, one after the other; None where a keyword is odd or comes twice."""
    count = len(columns) // 9
    words = zip(*(columns[column * count : (column + 1) * count] for column in range(9)), strict=True)
    read = None if wanted is None else _padded_keys(wanted)
    keys: list[str] = []
    starts: list[int] = []
    for number, word in enumerate(words):
        key = bytes(word[:8]).translate(_CLEAN).decode("ascii")
        if key in NEVER_READ if read is None else key not in read:
            continue
        if key.startswith(("HIERARCH", "CONTINUE")):
            return None
        if word[8] != ord("="):
            continue
        if not _KEYWORD.match(key.rstrip()) or key.rstrip() in keys:
            return None
        keys.append(key.rstrip())
        starts.append(number * CARD + 9)
    return _CardPlaces(keys, starts)


class _Odd(Exception):
    """A value that asks for a warning."""


class _Values(dict[bytes, Value]):
    """The value of a card by what follows its "=": the CCDs of a mosaic say most things alike."""

    MOST = 8192

    def __missing__(self, field: bytes) -> Value:
        value = _value_of(field)
        if len(self) >= self.MOST:
            self.clear()
        self[field] = value
        return value


class _AreComments(dict[bytes, bool]):
    """Whether what follows each of some numbers, 50 bytes of each, is nothing, or a comment."""

    MOST = 512

    def __missing__(self, rests: bytes) -> bool:
        each = [rests[start : start + 50] for start in range(0, len(rests), 50)]
        if len(self) >= self.MOST:
            self.clear()
        self[rests] = rests.translate(_CLEAN) == rests and all(
            rest[:1] in (b" ", b"/") and rest.strip(b" ")[:1] in (b"", b"/") for rest in each
        )
        return self[rests]


_VALUES = _Values()
_ARE_COMMENTS = _AreComments()
_OF_NUMBERS = b"0123456789+-.E "


def _value_of(field: bytes) -> Value:
    if field.translate(_CLEAN) != field:
        raise _Odd
    number = field.partition(b"/")[0]
    if not number.translate(None, _OF_NUMBERS):
        with suppress(ValueError):
            value = float(number) if b"." in number or b"E" in number else int(number)
            if -math.inf < value < math.inf:
                return value
    found, oddity = card_value(field.decode("ascii"))
    if oddity:
        raise _Odd
    return found


def _cards_one_by_one(raw: bytes, wanted: frozenset[str] | None, warn: Callable[[str], None]) -> dict[str, Value]:
    clean = raw.translate(_CLEAN)
    text = clean.decode("ascii")
    header: dict[str, Value] = {}
    open_key = ""  # a string that ends in & and may be continued
    for start in _starts(text, wanted):
        key = text[start : start + 8].rstrip()
        if key == "CONTINUE":
            if open_key:
                open_key = _continued(header, open_key, text[start + 10 : start + CARD])
            continue
        open_key = ""
        if key == "HIERARCH":
            name, equals, rest = text[start + 9 : start + CARD].partition("=")
            key = " ".join(name.split()).upper()
            if not equals or not key or (wanted is not None and key not in wanted):
                continue
        elif text[start + 8] == "=":
            rest = text[start + 9 : start + CARD]
        else:
            continue
        if key != key.upper():
            warn(f'the keyword "{key}" is written in lower case.')
            key = key.upper()
        value, oddity = card_value(rest)
        if oddity:
            warn(f"{key} {oddity}")
        if clean[start : start + CARD] != raw[start : start + CARD]:
            warn(f"{key} {NOT_ASCII}; they are read as ?.")
        if key in header:
            if header[key] != value:
                warn(f"{key} {TWICE}, {header[key]!r} and {value!r}: the first is used.")
            continue
        header[key] = value
        if isinstance(value, str) and value.endswith("&"):
            open_key = key
    return header


def _starts(text: str, wanted: frozenset[str] | None) -> list[int]:
    """Where the cards begin that are to be read: the one loop over all cards, so it is a short one."""
    if wanted is None:
        return [at for at in range(0, len(text), CARD) if text[at : at + 8] not in NEVER_READ]
    padded = _padded_keys(wanted)
    return [at for at in range(0, len(text), CARD) if text[at : at + 8] in padded]


@lru_cache(maxsize=16)
def _padded_keys(wanted: frozenset[str]) -> frozenset[str]:
    keys = {key for key in wanted if len(key) <= 8} | STRUCTURE
    return frozenset(key.ljust(8) for word in keys for key in (word, word.lower()))


def _continued(header: dict[str, Value], key: str, rest: str) -> str:
    more, _ = card_value(rest)
    if not isinstance(more, str):
        return ""
    header[key] = str(header[key])[:-1] + more
    return key if more.endswith("&") else ""


def card_value(rest: str) -> tuple[Value, str]:
    """The value of a card from what follows its "=", and what is odd about it ('' when nothing is).

    A number that is no finite one (NaN, 1E999) is text: whoever wants a number sees that it is none.
    """
    string = _STRING.match(rest)
    if string:
        return string[1].replace("''", "'").rstrip(), ""
    plain = rest.partition("/")[0].strip()
    if plain.startswith("'"):
        return rest.strip()[1:].rstrip(), "is a text whose closing quote is missing."
    if plain == "":
        return None, ""
    if plain in ("T", "F"):
        return plain == "T", ""
    if _INTEGER.match(plain):
        return int(plain), ""
    upper = plain.upper()
    if _REAL.match(upper):
        number = float(upper.replace("D", "E"))
        if abs(number) < float("inf"):
            return number, ""
    if plain.startswith("("):
        return plain, ""
    return plain, f"is {plain!r}: neither a number nor a text in quotes."


# Tables

_TFORM = re.compile(r"([0-9]*)([LXBIJKAEDCMPQ])")
_CODES = {"L": "B", "B": "B", "I": "h", "J": "i", "K": "q", "E": "f", "D": "d"}
_WIDTHS = {"L": 1, "X": 1, "B": 1, "I": 2, "J": 4, "K": 8, "A": 1, "E": 4, "D": 8, "C": 8, "M": 16, "P": 8, "Q": 16}


@dataclass(frozen=True)
class Column:
    """Where a column lies within the rows of a binary table."""

    name: str
    code: str  # of struct, '' for what is not read here
    repeat: int
    offset: int
    scale: float = 1.0
    zero: float = 0.0


def table_columns(hdu: Hdu) -> dict[str, Column]:
    """The columns of a binary table by name; {} for anything else. Needs a scan of all keys."""
    found: dict[str, Column] = {}
    offset = 0
    header = hdu.header
    fields = header.get("TFIELDS", 0)
    for number in range(1, min(fields, 999) + 1 if isinstance(fields, int) and hdu.kind == "bintable" else 1):
        form = _TFORM.match(str(header.get(f"TFORM{number}") or "").strip())
        if form is None:
            return {}
        repeat, letter = int(form[1] or 1), form[2]
        name = str(header.get(f"TTYPE{number}") or f"column {number}").strip()
        scale, zero = header.get(f"TSCAL{number}", 1.0), header.get(f"TZERO{number}", 0.0)
        if isinstance(scale, int | float) and isinstance(zero, int | float):
            found.setdefault(name, Column(name, _CODES.get(letter, ""), repeat, offset, scale, zero))
        offset += -(-repeat // 8) if letter == "X" else repeat * _WIDTHS[letter]
    return found


def row_count(hdu: Hdu) -> int:
    return hdu.shape[1] if len(hdu.shape) > 1 else 0


def columns(path: Source, hdu: Hdu, names: Sequence[str], *, rows: int = MAX_ROWS) -> dict[str, array[float]]:
    """Numeric columns of a binary table, at most `rows` rows; one with several values a row is laid out flat."""
    layout = _layout(path, hdu, names)
    result = {name: array("d") for name in names}
    for row in _rows(path, hdu, layout, rows):
        at = 0
        for column in layout:
            values = row[at : at + column.repeat]
            at += column.repeat
            if column.scale == 1.0 and column.zero == 0.0:
                result[column.name].extend(values)
            else:
                result[column.name].extend(value * column.scale + column.zero for value in values)
    return result


def column_is_all_zero(path: Source, hdu: Hdu, name: str, *, rows: int = MAX_ROWS) -> bool:
    """Whether nothing but zeros and NaNs stands in a column; so too when it has no rows."""
    layout = _layout(path, hdu, [name])
    scale, zero = layout[0].scale, layout[0].zero
    for row in _rows(path, hdu, layout, rows):
        for value in row:
            scaled = value * scale + zero
            if scaled != 0 and scaled == scaled:
                return False
    return True


def _layout(path: Source, hdu: Hdu, names: Sequence[str]) -> list[Column]:
    known = table_columns(hdu)
    width = hdu.shape[0] if hdu.shape else 0
    for name in names:
        if name not in known:
            raise FitsProblem(
                path, f'HDU {hdu.index} has no column "{name}".', f"It has: {', '.join(known) or 'none'}."
            )
        column = known[name]
        if not column.code:
            raise FitsProblem(path, f'HDU {hdu.index}: the column "{name}" does not hold plain numbers.')
        if column.offset + column.repeat * struct.calcsize(f"={column.code}") > width:
            raise FitsProblem(path, f'HDU {hdu.index}: the column "{name}" lies outside of the rows.', "Make it anew.")
    return sorted((known[name] for name in dict.fromkeys(names)), key=lambda column: column.offset)


def _rows(path: Source, hdu: Hdu, layout: Sequence[Column], rows: int) -> Iterator[tuple[float, ...]]:
    width = hdu.shape[0] if hdu.shape else 0
    count = min(rows, row_count(hdu))
    if not count or not layout:
        return
    if width > CHUNK * 64:
        raise FitsProblem(path, f"HDU {hdu.index}: a row of {width} bytes is more than is read here.")
    form, at = ">", 0
    for column in layout:
        form += f"{column.offset - at}x{column.repeat}{column.code}"
        at = column.offset + column.repeat * struct.calcsize(f"={column.code}")
    unpack = struct.Struct(form + f"{width - at}x")
    per_read = max(1, CHUNK // width)
    with opened(path) as descriptor:
        stream = _stream(path, descriptor)
        for first in range(0, count, per_read):
            wanted = min(per_read, count - first) * width
            piece = stream.read(hdu.data_offset + first * width, wanted)
            if len(piece) < wanted:
                raise FitsProblem(path, f"ends within the rows of HDU {hdu.index}.", "Make it anew.")
            yield from unpack.iter_unpack(piece)


# Digests

VOLATILE = (
    frozenset(  # what differed between two equal runs of the tools, seen by running each twice (2.25, 2.10, 2.41)
        {"DATE", "CHECKSUM", "DATASUM", "ZHECKSUM", "ZDATASUM", "HISTORY", "COMMENT", "CONTINUE", ""}
        | {"SEXDATE", "SEXTIME", "SEXELAPS"}  # SExtractor, within the LDAC's copy of the header
        | {"AUTHOR", "ORIGIN"}  # SWarp: the user and the host
    )
)
LDAC_HEADER = "Field Header Card"
TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_TIFF_DATE = re.compile(rb"\d{4}:\d\d:\d\d \d\d:\d\d:\d\d")
_XML_RUN_FACTS = re.compile(
    rb'<PARAM name="(Date|Time|Duration|User|Host|Path)"[^>]*>|\d{4}-\d\d-\d\d|\d\d/\d\d/\d{4}'
    rb"|\d\d:\d\d:\d\d(\.\d+)?(</TD><TD>\d+(\.\d+)?</TD>)?"  # SExtractor: of each extension its time, then the seconds
)


def file_digest(path: Source) -> str:
    """sha256 of all bytes."""
    with opened(path) as descriptor:
        return _sha256_of(descriptor).hexdigest()


def science_digest(path: Source) -> str:
    """sha256 of what two equal runs of a tool must give equally.

    Of FITS files: data and cards, without dates, checksums and history (also in the header copies of an LDAC, and
    without gzip's own header). Of .head files: the cards. Of VOTables: without the facts of the run. Of TIFF: without
    its date. Else all bytes.
    """
    with opened(path) as descriptor:
        start = os.pread(descriptor, CHUNK, 0)
        if start.startswith(b"SIMPLE  =") or _outer_packing(start) != "fits":
            return _fits_digest(path, descriptor)
        digest = hashlib.sha256()
        if start.startswith(b"<?xml"):
            for line in _lines(descriptor):
                digest.update(_XML_RUN_FACTS.sub(b"", line))
            return digest.hexdigest()
        if re.match(rb"(HISTORY|COMMENT|[A-Z0-9_-]{1,8} *=) ", start):
            for line in _lines(descriptor):
                if line[:8].strip().decode("ascii", "replace") not in VOLATILE:
                    digest.update(line.rstrip() + b"\n")
            return digest.hexdigest()
        if start[:4] in TIFF:
            return _tiff_digest(descriptor)
        return _sha256_of(descriptor).hexdigest()


def _tiff_digest(descriptor: int) -> str:
    """Without the date and time that STIFF writes."""
    digest, at, held = hashlib.sha256(), 0, b""
    while piece := os.pread(descriptor, CHUNK, at):
        at += len(piece)
        held = _TIFF_DATE.sub(b"", held + piece)
        digest.update(held[:-19])
        held = held[-19:]
    digest.update(held)
    return digest.hexdigest()


def _sha256_of(descriptor: int) -> Any:
    digest, at = hashlib.sha256(), 0
    while piece := os.pread(descriptor, CHUNK, at):
        digest.update(piece)
        at += len(piece)
    return digest


def _lines(descriptor: int) -> Iterator[bytes]:
    with open(os.dup(descriptor), "rb") as file:
        file.seek(0)
        while line := file.readline(CHUNK):
            yield line


def _fits_digest(path: Source, descriptor: int) -> str:
    digest = hashlib.sha256()
    stream = _stream(path, descriptor)
    second = _stream(path, descriptor) if isinstance(stream, _Unpacked) else stream
    for hdu in _hdus(stream, path, [], None, must_be_whole=True):
        _digest_cards(digest, second.read(hdu.header_offset, hdu.data_offset - hdu.header_offset))
        ldac = _ldac_header(hdu)
        at, end = hdu.data_offset, hdu.data_offset + hdu.data_bytes
        if ldac and hdu.data_bytes <= MAX_HEADER:
            _digest_cards(digest, second.read(at, hdu.data_bytes))
            continue
        while at < end:
            piece = second.read(at, min(CHUNK, end - at))
            digest.update(piece)
            at += len(piece)
            if not piece:
                raise FitsProblem(path, f"ends within the data of HDU {hdu.index}.", "Make it anew.")
    return digest.hexdigest()


def _ldac_header(hdu: Hdu) -> bool:
    return hdu.kind == "bintable" and hdu.header.get("TTYPE1") == LDAC_HEADER and row_count(hdu) == 1


def _digest_cards(digest: Any, cards: bytes) -> None:
    for start in range(0, len(cards), CARD):
        if cards[start : start + 8].rstrip().decode("latin-1") not in VOLATILE:
            digest.update(cards[start : start + CARD])


def disagreeing_sums(path: Source) -> list[str]:
    """A text for each HDU whose data do not add up to its DATASUM; reads all data."""
    found: list[str] = []
    with opened(path) as descriptor:
        stream = _stream(path, descriptor)
        second = _stream(path, descriptor) if isinstance(stream, _Unpacked) else stream
        for hdu in _hdus(stream, path, [], frozenset({"DATASUM"})):
            said = hdu.header.get("DATASUM")
            if not isinstance(said, str) or not said.isdigit() or len(said) > 10:
                continue
            total, at, end = 0, hdu.data_offset, hdu.data_offset + _padded(hdu.data_bytes)
            while at < end and (piece := second.read(at, min(CHUNK, end - at))):
                total += int.from_bytes(piece.ljust(-(-len(piece) // 4) * 4, b"\0"), "big") % 0xFFFFFFFF
                at += len(piece)
            if total % 0xFFFFFFFF != int(said) % 0xFFFFFFFF:
                found.append(f"the data of HDU {hdu.index} do not add up to its DATASUM: they were changed or damaged.")
    return found

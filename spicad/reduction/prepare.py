"""Makes an exposure readable by the tools: `python -m spicad.reduction.prepare INPUT OUTPUT`.

Unpacks .fz, .gz and .bz2, makes 64-bit integers floats, takes off axes of length 1, writes projections that SCAMP
misreads as TPV about one point of the sky, and refuses pixels of which nothing can be made. All else stays as it is,
pixels bit for bit.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from spicad import fits
from spicad.archive.headers import PLAIN_EXTNAME, READ_BY_THE_TOOLS, projection_of, share_a_tangent
from spicad.archive.wcs import centre_of
from spicad.fits import BLOCK, CARD, CHUNK, FitsProblem, Hdu
from spicad.reduction.judge import Pixels, Verdict, judged
from spicad.words import SpicaError

STORED = {8: ">u1", 16: ">i2", 32: ">i4", 64: ">i8", -32: ">f4", -64: ">f8"}
OF_THE_STRUCTURE = re.compile(
    rb"(SIMPLE|XTENSION|BITPIX|NAXIS\d*|PCOUNT|GCOUNT|EXTEND|BLOCKED|CHECKSUM|DATASUM|WCSAXES) *(=|$)"
)
OF_THE_PACKING = re.compile(
    rb"(TFIELDS|T(TYPE|FORM|DIM|UNIT|NULL|SCAL|ZERO|DISP)\d+|THEAP|ZIMAGE|ZSIMPLE|ZTENSION|ZEXTEND|ZBLOCKED|ZBITPIX"
    rb"|ZNAXIS\d*|ZPCOUNT|ZGCOUNT|ZTILE\d+|ZCMPTYPE|ZNAME\d+|ZVAL\d+|ZMASKCMP|ZQUANTIZ|ZDITHER0|ZBLANK|ZHECKSUM"
    rb"|ZDATASUM|FZALGOR|FZTILE|FZQVALUE|FZQMETHD|FZDTHRSD) *="
)
OF_MORE_AXES = re.compile(
    rb"((CTYPE|CRVAL|CRPIX|CDELT|CUNIT|CROTA|CNAME)[3-9]|(CD|PC)(\d_[3-9]|[3-9]_\d)|P[VS][3-9]_\d+) *="
)
OF_THE_SCALE = re.compile(rb"(BSCALE|BZERO|BLANK) *=")
FUNPACK_SECONDS = 900
Tangent = tuple[float, float] | None
MESSAGES = 8


class CannotPrepare(SpicaError):
    """Why an exposure cannot be made readable, in one line."""


@dataclass(frozen=True)
class Wish:
    """What to do: `floats` makes all integer pixels floats, `any_pixels` takes hopeless ones too (weight maps)."""

    floats: bool = False
    any_pixels: bool = False


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="spica-prepare", description="Makes an exposure readable by the tools.")
    parser.add_argument("input", type=Path)
    parser.add_argument("output", type=Path, nargs="?")
    parser.add_argument("--floats", action="store_true", help="make all integer pixels 32-bit floats")
    parser.add_argument("--any-pixels", action="store_true", help="do not judge pixels: for weight maps and masks")
    parser.add_argument("--check", action="store_true", help="judge only, write nothing")
    wanted = parser.parse_args(argv)
    if wanted.check == (wanted.output is not None):
        parser.error("give OUTPUT, or --check without one")
    wish = Wish(wanted.floats, wanted.any_pixels)
    try:
        said = check(wanted.input) if wanted.check else prepare(wanted.input, wanted.output, wish)
    except SpicaError as error:
        return _failed(str(error))
    except MemoryError:
        return _failed(f"{wanted.input}: needs more memory than this step may use.")
    except OSError as error:
        return _failed(f"{wanted.input}: {error.strerror or error} ({error.filename or wanted.output}).")
    for line in said:
        print(line)
    return 0


def _failed(text: str) -> int:
    print(" ".join("".join(sign if sign.isprintable() else " " for sign in text).split()), file=sys.stderr)
    return 1


def check(source: Path) -> list[str]:
    """What is odd about the pixels. Raises CannotPrepare when nothing can be made of any CCD."""
    with _unpacked(source) as exposure:
        verdicts = [(ccd, _verdict(ccd, exposure.pixels(ccd))) for ccd in exposure.images]
    return _sentence(source, verdicts)


def prepare(source: Path, output: Path, wish: Wish = Wish()) -> list[str]:
    """Writes `output`, whole or not at all, and returns what was done and what is odd, a line each."""
    done: list[str] = []
    verdicts: list[tuple[Hdu, Verdict]] = []
    part = output.with_name(f".{output.name[:200]}.part")
    try:
        with _unpacked(source, output.parent) as exposure, open(part, "wb") as out:
            tangent = _tangent(exposure)
            for hdu in exposure.kept:
                if not hdu.is_image:
                    _copy(exposure, hdu, out)
                    continue
                pixels = exposure.pixels(hdu)
                if not wish.any_pixels:
                    verdicts.append((hdu, _verdict(hdu, pixels)))
                done += _write_image(exposure, hdu, pixels, tangent, out, wish)
            odd = _sentence(source, verdicts)
            out.flush()
            os.fsync(out.fileno())
        os.replace(part, output)
    finally:
        part.unlink(missing_ok=True)
    return [*_shortened(done), *odd]


# What comes in


@dataclass(frozen=True)
class _Exposure:
    """A FITS file without outer packing, its HDUs, and where the pixels of those inside are found."""

    source: Path  # as the user knows it
    plain: Path
    hdus: tuple[Hdu, ...]
    unpack: Callable[[Hdu], Pixels]

    @property
    def images(self) -> list[Hdu]:
        return [hdu for hdu in self.hdus if hdu.is_image]

    @property
    def kept(self) -> tuple[Hdu, ...]:
        """Without the empty primary that fpack puts before an image that was the primary."""
        return self.hdus[1:] if self.first_was_primary else self.hdus

    @property
    def first_was_primary(self) -> bool:
        return (
            len(self.hdus) > 1
            and self.hdus[1].kind == "compressed"
            and self.hdus[1].header.get("ZSIMPLE") is True
            and not self.hdus[0].is_image
        )

    def pixels(self, hdu: Hdu) -> Pixels:
        """As stored, two axes, not scaled."""
        width, height = _flat_shape(self.source, hdu)
        if hdu.kind == "compressed":
            return self.unpack(hdu).reshape(height, width)
        return np.memmap(self.plain, STORED[hdu.bitpix], "r", hdu.data_offset, (height, width))


@contextmanager
def _unpacked(source: Path, beside: Path | None = None) -> Iterator[_Exposure]:
    """The exposure as plain FITS; what had to be unpacked lies in a folder beside the output and goes away again."""
    with tempfile.TemporaryDirectory(prefix=".prepare-", dir=beside) as made:
        folder, plain = Path(made), source
        packing = fits.packing(source)
        if packing in ("fits.gz", "fits.bz2"):
            plain = folder / "plain.fits"
            with open(plain, "wb") as out:
                fits.unpack(source, out)
        file = fits.check_whole(plain)
        if not any(hdu.is_image for hdu in file.hdus):
            raise CannotPrepare(f"{source}: holds no image.")
        yield _Exposure(source, plain, file.hdus, _Unpacker(source, plain, folder, file.hdus))


class _Unpacker:
    """Pixels of tile-compressed HDUs: by funpack when it is there and does well, else by astropy."""

    def __init__(self, source: Path, plain: Path, folder: Path, hdus: Sequence[Hdu]) -> None:
        self.source, self.path, self.folder, self.hdus = source, plain, folder, hdus
        self.by_funpack: dict[int, Hdu] | None = None
        self.opened: Any = None

    def __call__(self, hdu: Hdu) -> Pixels:
        if self.by_funpack is None:
            self.by_funpack = self._funpacked()
        found = self.by_funpack.get(hdu.index)
        if found is None:
            return self._astropied(hdu)
        count = int(np.prod(found.shape))
        return np.memmap(self.folder / "funpacked.fits", STORED[found.bitpix], "r", found.data_offset, (count,))

    def _funpacked(self) -> dict[int, Hdu]:
        """{index: where it lies in the file that funpack wrote}; {} when it did not do all."""
        program = shutil.which("funpack")
        if program is None:
            return {}
        link, out = self.folder / "packed.fits.fz", self.folder / "funpacked.fits"
        link.symlink_to(self.path.absolute())  # cfitsio reads [ and ( in a name as orders
        # Never with -F, which writes over the input.
        command = [program, "-O", str(out), str(link)]
        try:
            subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=True, timeout=FUNPACK_SECONDS)
            found = [hdu for hdu in fits.check_whole(out).hdus if hdu.is_image]
        except (OSError, subprocess.SubprocessError, FitsProblem):
            return {}
        asked = [hdu for hdu in self.hdus if hdu.is_image]
        if [(hdu.shape, hdu.bitpix) for hdu in found] != [(hdu.shape, hdu.bitpix) for hdu in asked]:
            return {}
        return {hdu.index: one for hdu, one in zip(asked, found, strict=True)}

    def _astropied(self, hdu: Hdu) -> Pixels:
        import warnings

        from astropy.io import fits as astropy_fits

        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                if self.opened is None:
                    self.opened = astropy_fits.open(self.path, do_not_scale_image_data=True, memmap=True)
                data = np.asarray(self.opened[hdu.index].data)
        except MemoryError:
            raise
        except Exception as error:  # whatever astropy says about packed data of any kind
            said = " ".join(str(error).split())[:200]
            raise CannotPrepare(f"{self.source}: HDU {hdu.index} cannot be unpacked: {said}.") from None
        if data.size != np.prod(hdu.shape):
            raise CannotPrepare(f"{self.source}: HDU {hdu.index} unpacks to another size than its header says.")
        return np.asarray(data, dtype=STORED[hdu.bitpix]).reshape(-1)


def _flat_shape(source: Path, hdu: Hdu) -> tuple[int, int]:
    if len(hdu.shape) < 2 or any(length > 1 for length in hdu.shape[2:]):
        shown = " x ".join(map(str, hdu.shape))
        raise CannotPrepare(f"{source}: HDU {hdu.index} is no image of two axes but {shown}.")
    return hdu.shape[0], hdu.shape[1]


# The pixels


def _number(hdu: Hdu, key: str, default: float) -> float:
    value = hdu.header.get(key)
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else default


def _verdict(hdu: Hdu, pixels: Pixels) -> Verdict:
    scale, zero = _number(hdu, "BSCALE", 1.0) or 1.0, _number(hdu, "BZERO", 0.0)
    saturate = _number(hdu, "SATURATE", 0.0)
    blank = hdu.header.get("BLANK")
    return judged(
        pixels,
        saturate=(saturate - zero) / scale if saturate > 0 and scale > 0 else None,
        blank=blank if isinstance(blank, int) and hdu.bitpix > 0 else None,
        scale=scale,
        zero=zero,
    )


def _sentence(source: Path, verdicts: Sequence[tuple[Hdu, Verdict]]) -> list[str]:
    """What is odd, a line each. Raises CannotPrepare when every CCD is hopeless."""
    hopeless = [(hdu, verdict) for hdu, verdict in verdicts if verdict.hopeless]
    if verdicts and len(hopeless) == len(verdicts):
        raise CannotPrepare(
            f"{source}: {_named(hopeless[0][0])}: {hopeless[0][1].hopeless}; nothing can be made of it."
        )
    said = [(_named(hdu), f"{verdict.hopeless or verdict.odd}.") for hdu, verdict in verdicts if verdict != Verdict()]
    return [f"warning: {line}" for line in fits.merged(said)]


def _shortened(lines: list[str]) -> list[str]:
    return lines if len(lines) <= MESSAGES else [*lines[:MESSAGES], f"and {len(lines) - MESSAGES} more of the kind."]


def _named(hdu: Hdu) -> str:
    return hdu.extname or f"HDU {hdu.index}"


# What goes out


def _write_image(
    exposure: _Exposure, hdu: Hdu, pixels: Pixels, tangent: Tangent, out: BinaryIO, wish: Wish
) -> list[str]:
    cards = fits.header_cards(exposure.plain, hdu)
    done: list[str] = []
    to_float = hdu.bitpix == 64 or (wish.floats and hdu.bitpix > 0)
    height, width = pixels.shape
    cards = list(_other_cards(hdu, cards, to_float))
    if len(hdu.shape) > 2:
        cards = [card for card in cards if not OF_MORE_AXES.match(card)]
        done.append(f"{_named(hdu)}: axes of length 1 taken off.")
    cards, projected = _mended_wcs(exposure.source, hdu, cards, width, height, tangent)
    done += projected
    if to_float:
        done.append(f"{_named(hdu)}: integers of {hdu.bitpix} bits made floats.")
    bitpix = -32 if to_float else hdu.bitpix
    as_primary = hdu.index == 0 or (hdu.index == 1 and exposure.first_was_primary)
    _write_header(out, [*_structure(bitpix, width, height, as_primary, len(exposure.kept) > 1), *cards])
    for strip in _rows(pixels):
        out.write(_floats(hdu, strip).tobytes() if to_float else np.ascontiguousarray(strip).data)
    _fill(out, b"\0")
    return done


def _rows(pixels: Pixels) -> Iterator[Pixels]:
    rows = max(1, (16 << 20) // max(1, pixels.shape[1] * pixels.itemsize))
    for start in range(0, pixels.shape[0], rows):
        yield pixels[start : start + rows]


def _floats(hdu: Hdu, strip: Pixels) -> Pixels:
    values = strip.astype(np.float64) * _number(hdu, "BSCALE", 1.0) + _number(hdu, "BZERO", 0.0)
    blank = hdu.header.get("BLANK")
    if isinstance(blank, int):
        values[strip == blank] = np.nan
    return values.astype(">f4")


def _structure(bitpix: int, width: int, height: int, as_primary: bool, more_follow: bool) -> Iterator[bytes]:
    yield _card("SIMPLE", "T") if as_primary else b"XTENSION= 'IMAGE   '".ljust(CARD)
    for key, value in (("BITPIX", bitpix), ("NAXIS", 2), ("NAXIS1", width), ("NAXIS2", height)):
        yield _card(key, value)
    if not as_primary:
        yield _card("PCOUNT", 0)
        yield _card("GCOUNT", 1)
    elif more_follow:
        yield _card("EXTEND", "T")


def _card(key: str, value: object) -> bytes:
    return f"{key:<8}= {value!s:>20}".ljust(CARD).encode("ascii")


def _other_cards(hdu: Hdu, cards: Sequence[bytes], to_float: bool) -> Iterator[bytes]:
    """The cards that stay, clean; an EXTNAME that no tool should meet gets plain signs."""
    for card in cards:
        if OF_THE_STRUCTURE.match(card) or (to_float and OF_THE_SCALE.match(card)):
            continue
        if hdu.kind == "compressed" and (
            OF_THE_PACKING.match(card) or card.startswith(b"EXTNAME = 'COMPRESSED_IMAGE'")
        ):
            continue
        if (
            card.startswith(b"EXTNAME =")
            and hdu.extname
            and (not PLAIN_EXTNAME.match(hdu.extname) or ".." in hdu.extname)
        ):
            plain = re.sub(r"[^A-Za-z0-9_-]+", "_", hdu.extname)[:60]
            yield f"EXTNAME = '{plain:<8}'".ljust(CARD).encode("ascii")
            continue
        yield fits.cleaned(card.ljust(CARD))


def _tangent(exposure: _Exposure) -> Tangent:
    """Where the plane of the new TPV headers touches the sky: the middle of all CCDs; None when none is needed."""
    placed = [hdu for hdu in exposure.images if projection_of(hdu.header)]
    crvals = [(_number(hdu, "CRVAL1", 0.0), _number(hdu, "CRVAL2", 0.0)) for hdu in placed]
    if all(projection_of(hdu.header) in READ_BY_THE_TOOLS for hdu in placed) and share_a_tangent(crvals):
        return None
    from spicad.reduction import tpv

    middles = []
    for hdu in placed:
        cards = list(_other_cards(hdu, fits.header_cards(exposure.plain, hdu), False))
        try:
            middles.append(tpv.middle(cards, *_flat_shape(exposure.source, hdu)))
        except tpv.NoTpv as error:
            raise CannotPrepare(f"{exposure.source}: {_named(hdu)}: {error}") from None
    longitude, latitude = centre_of(middles)
    return round(longitude, 6), round(latitude, 6)


def _mended_wcs(
    source: Path, hdu: Hdu, cards: list[bytes], width: int, height: int, tangent: Tangent
) -> tuple[list[bytes], list[str]]:
    """With TPV about `tangent` in the place of what the tools misread; the old cards become HISTORY."""
    projection = projection_of(hdu.header)
    if tangent is None or not projection:
        return cards, []
    from spicad.reduction import tpv

    try:
        new = tpv.fitted(cards, width, height, tangent)
    except tpv.NoTpv as error:
        raise CannotPrepare(f"{source}: {_named(hdu)}, projection {projection}: {error}") from None
    old = [card for card in cards if tpv.WCS_CARD.match(card) and not tpv.KEPT.match(card)]
    rest = [card for card in cards if card not in old]
    history = [(b"HISTORY was " + card[:68]).ljust(CARD) for card in old]
    said = f"{projection} made TPV of degree {new.degree}, worst {new.worst_pixels:.4f} pixel"
    history.insert(0, f"HISTORY Spica: {said}".ljust(CARD).encode("ascii"))
    return [*rest, *new.cards(), *history], [f"{_named(hdu)}: {said}."]


def _copy(exposure: _Exposure, hdu: Hdu, out: BinaryIO) -> None:
    """A table or an empty primary, as it is."""
    _write_header(out, [fits.cleaned(card) for card in fits.header_cards(exposure.plain, hdu)])
    with open(exposure.plain, "rb") as file:
        file.seek(hdu.data_offset)
        left = hdu.data_bytes
        while left and (piece := file.read(min(left, CHUNK))):
            out.write(piece)
            left -= len(piece)
    _fill(out, b"\0")


def _write_header(out: BinaryIO, cards: Sequence[bytes]) -> None:
    out.write(b"".join(cards) + b"END".ljust(CARD))
    _fill(out, b" ")


def _fill(out: BinaryIO, byte: bytes) -> None:
    out.write(byte * (-out.tell() % BLOCK))


if __name__ == "__main__":
    sys.exit(main())

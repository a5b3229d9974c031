"""Makes an exposure readable by the tools: `python -m spicad.reduction.prepare INPUT OUTPUT`.

Unpacks .fz, .gz and .bz2, makes 64-bit integers floats, takes off axes of length 1, writes projections that SCAMP
misreads as TPV about one point of the sky, and refuses pixels of which nothing can be made. All else stays as it is,
pixels bit for bit.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from spicad import fits
from spicad.archive.headers import READ_BY_THE_TOOLS, projection_of, share_a_tangent
from spicad.archive.wcs import centre_of
from spicad.fits import CARD, CHUNK, Hdu
from spicad.reduction.judge import Pixels, Verdict, judged
from spicad.reduction.packed import (
    CannotUnpack,
    Packed,
    fill,
    flat_shape,
    number,
    other_cards,
    structure,
    true_pixels,
    unpacked,
    write_header,
)
from spicad.words import SpicaError

OF_MORE_AXES = re.compile(
    rb"((CTYPE|CRVAL|CRPIX|CDELT|CUNIT|CROTA|CNAME)[3-9]|(CD|PC)(\d_[3-9]|[3-9]_\d)|P[VS][3-9]_\d+) *="
)
Tangent = tuple[float, float] | None
MESSAGES = 8


class CannotPrepare(CannotUnpack):
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
    with unpacked(source) as exposure:
        verdicts = [(ccd, _verdict(ccd, exposure.pixels(ccd))) for ccd in exposure.images]
    return _sentence(source, verdicts)


def prepare(source: Path, output: Path, wish: Wish = Wish()) -> list[str]:
    """Writes `output`, whole or not at all, and returns what was done and what is odd, a line each."""
    done: list[str] = []
    verdicts: list[tuple[Hdu, Verdict]] = []
    part = output.with_name(f".{output.name[:200]}.part")
    try:
        with unpacked(source, output.parent) as exposure, open(part, "wb") as out:
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


# The pixels


def _verdict(hdu: Hdu, pixels: Pixels) -> Verdict:
    scale, zero = number(hdu, "BSCALE", 1.0) or 1.0, number(hdu, "BZERO", 0.0)
    saturate = number(hdu, "SATURATE", 0.0)
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


def _write_image(exposure: Packed, hdu: Hdu, pixels: Pixels, tangent: Tangent, out: BinaryIO, wish: Wish) -> list[str]:
    cards = fits.header_cards(exposure.plain, hdu)
    done: list[str] = []
    to_float = hdu.bitpix == 64 or (wish.floats and hdu.bitpix > 0)
    height, width = pixels.shape
    cards = list(other_cards(hdu, cards, to_float))
    if len(hdu.shape) > 2:
        cards = [card for card in cards if not OF_MORE_AXES.match(card)]
        done.append(f"{_named(hdu)}: axes of length 1 taken off.")
    cards, projected = _mended_wcs(exposure.source, hdu, cards, width, height, tangent)
    done += projected
    if to_float:
        done.append(f"{_named(hdu)}: integers of {hdu.bitpix} bits made floats.")
    bitpix = -32 if to_float else hdu.bitpix
    as_primary = hdu.index == 0 or (hdu.index == 1 and exposure.first_was_primary)
    write_header(out, [*structure(bitpix, width, height, as_primary, len(exposure.kept) > 1), *cards])
    for strip in _rows(pixels):
        out.write(true_pixels(hdu, strip).astype(">f4").data if to_float else np.ascontiguousarray(strip).data)
    fill(out, b"\0")
    return done


def _rows(pixels: Pixels) -> Iterator[Pixels]:
    rows = max(1, (16 << 20) // max(1, pixels.shape[1] * pixels.itemsize))
    for start in range(0, pixels.shape[0], rows):
        yield pixels[start : start + rows]


def _tangent(exposure: Packed) -> Tangent:
    """Where the plane of the new TPV headers touches the sky: the middle of all CCDs; None when none is needed."""
    placed = [hdu for hdu in exposure.images if projection_of(hdu.header)]
    crvals = [(number(hdu, "CRVAL1", 0.0), number(hdu, "CRVAL2", 0.0)) for hdu in placed]
    if all(projection_of(hdu.header) in READ_BY_THE_TOOLS for hdu in placed) and share_a_tangent(crvals):
        return None
    from spicad.reduction import tpv

    middles = []
    for hdu in placed:
        cards = list(other_cards(hdu, fits.header_cards(exposure.plain, hdu), False))
        try:
            middles.append(tpv.middle(cards, *flat_shape(exposure.source, hdu)))
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


def _copy(exposure: Packed, hdu: Hdu, out: BinaryIO) -> None:
    """A table or an empty primary, as it is."""
    write_header(out, [fits.cleaned(card) for card in fits.header_cards(exposure.plain, hdu)])
    with open(exposure.plain, "rb") as file:
        file.seek(hdu.data_offset)
        left = hdu.data_bytes
        while left and (piece := file.read(min(left, CHUNK))):
            out.write(piece)
            left -= len(piece)
    fill(out, b"\0")


if __name__ == "__main__":
    sys.exit(main())

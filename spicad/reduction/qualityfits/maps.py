"""Writes the small FITS files that go between the tools, and joins those of single CCDs to one of the exposure."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spicad import fits
from spicad.fits import BLOCK, CARD, Hdu

BITPIX = {"uint8": 8, "float32": -32}


def write_image(path: Path, pixels: NDArray[Any], name: str) -> None:
    """An image as the primary HDU, with the CCD's name."""
    plain = "".join(sign if " " <= sign <= "~" and sign != "'" else "_" for sign in name)[:60]
    values = [("SIMPLE", "T"), ("BITPIX", BITPIX[str(pixels.dtype)]), ("NAXIS", 2)]
    values += [("NAXIS1", pixels.shape[1]), ("NAXIS2", pixels.shape[0])]
    cards = [f"{key:<8}= {value:>20}" for key, value in values] + [f"EXTNAME = '{plain:<8}'", "END"]
    text = "".join(card.ljust(CARD) for card in cards)
    stored = pixels.astype(pixels.dtype.newbyteorder(">"), copy=False)
    with path.open("wb") as out:
        out.write(text.ljust(-(-len(text) // BLOCK) * BLOCK).encode("ascii"))
        out.write(np.ascontiguousarray(stored).data)
        out.write(b"\0" * (-out.tell() % BLOCK))


def first_image(path: Path) -> Hdu:
    return next(hdu for hdu in fits.check_whole(path).hdus if hdu.is_image)


def join(path: Path, parts: Iterable[Path]) -> None:
    """One file of the extensions of `parts`, each of which has an empty primary before them."""
    beginning = path.with_name(f".{path.name[:200]}.part")
    try:
        with beginning.open("wb") as out:
            for part in parts:
                first = fits.check_whole(part).hdus[1]
                with part.open("rb") as file:
                    if not out.tell():
                        out.write(file.read(first.header_offset))
                    file.seek(first.header_offset)
                    while piece := file.read(1 << 20):
                        out.write(piece)
        beginning.replace(path)
    finally:
        beginning.unlink(missing_ok=True)

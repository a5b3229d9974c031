"""Writes what preprocess makes: FITS HDU by HDU as it comes, whole or not at all, and figures as JSON.

Headers are those of the exposure, with what was done to it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from astropy.io.fits import Card
from numpy.typing import NDArray

from spicad import fits
from spicad.fits import CARD
from spicad.reduction.packed import Packed, fill, other_cards, structure, write_header
from spicad.reduction.preprocess.frames import RawCcd
from spicad.words import BadInput, Problem

Cards = Sequence[tuple[str, Any, str]]
BITPIX = {"f4": -32, "u1": 8}


class Written:
    """A FITS file on its way. Pixels of an image follow its header."""

    def __init__(self, out: BinaryIO, file: Packed) -> None:
        self.out, self.file = out, file
        self.images = len(file.images)

    def begin(self, cards: Cards = ()) -> None:
        """The primary, where it holds no image."""
        first = self.file.kept[0]
        if not first.is_image and not self.file.first_was_primary:
            kept = [fits.cleaned(card) for card in fits.header_cards(self.file.plain, first)]
            plain = [
                card for card in kept if not _is_named(card, {name for name, _, _ in cards} | {"CHECKSUM", "DATASUM"})
            ]
            write_header(self.out, [*plain, *images_of(cards)])

    def image(self, ccd: RawCcd, shape: tuple[int, int], kind: str, cards: Cards, gone: Iterable[str] = ()) -> None:
        """Its header; then `rows` until it is full, then `end`."""
        hdu = ccd.hdu
        as_primary = hdu.index == 0 or (hdu.index == 1 and self.file.first_was_primary)
        names = {name for name, _, _ in cards} | set(gone)
        own = other_cards(hdu, fits.header_cards(self.file.plain, hdu), True)
        kept = [card for card in own if not _is_named(card, names)]
        head = structure(BITPIX[kind], shape[1], shape[0], as_primary, self.images > 1)
        write_header(self.out, [*head, *kept, *images_of(cards)])

    def rows(self, pixels: NDArray[Any], kind: str) -> None:
        self.out.write(np.ascontiguousarray(pixels, f">{kind}").data)

    def end(self) -> None:
        fill(self.out, b"\0")


def _is_named(card: bytes, names: Iterable[str]) -> bool:
    return card[:8].decode("ascii", "replace").strip() in names


def images_of(cards: Cards) -> Iterator[bytes]:
    """Cards as they stand in a header. What is no number FITS knows is left out."""
    for name, value, comment in cards:
        if value is None or (isinstance(value, float) and not np.isfinite(value)):
            continue
        if isinstance(value, str):  # FITS has no other signs, names of files have
            value = "".join(sign if " " <= sign <= "~" else "_" for sign in value)
        text = Card(name, value, comment).image
        for start in range(0, len(text), CARD):
            yield text[start : start + CARD].encode("ascii").ljust(CARD)


@contextmanager
def written(path: Path, file: Packed) -> Iterator[Written]:
    """Raises BadInput where the exposure itself would be overwritten."""
    if path.exists() and path.samefile(file.source):
        raise BadInput(Problem(str(path), "this would overwrite the exposure.", "OUTPUT_DIR names another folder."))
    part = path.with_name(f".{path.name[:200]}.part")
    try:
        with part.open("wb") as out:
            yield Written(out, file)
            out.flush()
            os.fsync(out.fileno())
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    part = path.with_name(f".{path.name}.part")
    part.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n")
    part.replace(path)

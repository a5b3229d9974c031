"""Reads and writes .head files: cards that replace those of each CCD's header, as SCAMP writes and SWarp reads them.

Which cards, and what stands in them, is the affair of those who solve: `wcs_cards` makes those of a solution.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from spicad import fits
from spicad.fits import CARD, Value
from spicad.reduction.tangent import Tangent, tangent_of
from spicad.words import BadInput, Problem

TEXTS = ("HISTORY", "COMMENT", "")
MAX_BYTES = 64 << 20


@dataclass(frozen=True)
class Card:
    """One line. Texts of HISTORY and COMMENT are in `value`."""

    key: str
    value: Value
    comment: str = ""

    def __str__(self) -> str:
        if self.key in TEXTS:
            return f"{self.key:<8}  {self.value}"[:CARD]
        return f"{self.key:<8}= {_written(self.value)} / {self.comment}"[:CARD].ljust(CARD)


@dataclass(frozen=True)
class Head:
    """The cards of one CCD, in their order."""

    cards: tuple[Card, ...]

    @property
    def header(self) -> dict[str, Value]:
        return {card.key: card.value for card in reversed(self.cards) if card.key not in TEXTS}

    @property
    def tangent(self) -> Tangent:
        """Its WCS. Raises NoWcs."""
        return tangent_of(self.header, [str(card).encode("ascii", "replace") for card in self.cards])

    def with_cards(self, new: Iterable[Card]) -> Head:
        """With `new` in the places of those of the same keyword, or at the end."""
        by_key = {card.key: card for card in new}
        kept = [by_key.pop(card.key, card) for card in self.cards]
        return Head((*kept, *by_key.values()))


def head_path(catalogue: Path, suffix: str, folder: Path | None = None) -> Path:
    """Where the .head file of a catalogue is: beside it, or in `folder`.

    Raises BadInput when a FITS file is there, as an image or the catalogue itself: no .head may take its place.
    """
    mend = "HEADER_SUFFIX is what .head files end in: .head."
    if not suffix.strip(".") or "/" in suffix:
        raise BadInput(Problem(str(catalogue), f"a .head file cannot end in {suffix or 'nothing'}.", mend))
    path = (folder or catalogue.parent) / f"{catalogue.stem}{suffix}"
    if path.is_file():
        with path.open("rb") as file:
            if file.read(9) == b"SIMPLE  =":
                raise BadInput(Problem(str(path), "this is a FITS file, and a .head file would replace it.", mend))
    return path


def read(path: Path) -> list[Head]:
    """One head for each CCD. Raises BadInput when the file is no .head file or cut short."""
    try:
        if path.stat().st_size > MAX_BYTES:
            raise BadInput(Problem(str(path), "is too large for a .head file."))
        text = path.read_bytes().decode("utf-8", "replace")
    except OSError as error:
        raise BadInput(Problem(str(path), f"cannot be read: {error.strerror}.")) from None
    heads: list[Head] = []
    cards: list[Card] = []
    for line in text.split("\n"):
        if line.rstrip() == "END":
            heads.append(Head(tuple(cards)))
            cards = []
        elif line.strip():
            cards.append(_card(line.rstrip()))
    if cards or not heads:
        raise BadInput(Problem(str(path), "its last header has no END: it is cut short, or no .head file."))
    return heads


def _card(line: str) -> Card:
    key = line[:8].rstrip()
    if line[8:10] != "= ":
        return Card(key, line[10:])
    value, _ = fits.card_value(line[10:])
    rest = line[10:].partition(" / ")[2] if not isinstance(value, str) else line.rpartition("' ")[2].partition("/ ")[2]
    return Card(key, value, rest.strip())


def write(path: Path, heads: Sequence[Head]) -> None:
    """Writes the file whole or not at all."""
    text = "".join(f"{card}\n" for head in heads for card in (*head.cards, "END     "))
    part = path.with_name(f".{path.name[:200]}.part")
    try:
        with open(part, "w", encoding="ascii", errors="replace") as out:
            out.write(text)
            out.flush()
            os.fsync(out.fileno())
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def wcs_cards(tangent: Tangent) -> list[Card]:
    """A WCS as TPV; as TAN when it has no polynomial."""
    kind = "TPV" if tangent.pv[0] or tangent.pv[1] else "TAN"
    numbers = [
        ("CRVAL1", tangent.crval[0], "[deg] World coordinate on this axis"),
        ("CRVAL2", tangent.crval[1], "[deg] World coordinate on this axis"),
        ("CRPIX1", tangent.crpix[0], "[pixel] Reference pixel on this axis"),
        ("CRPIX2", tangent.crpix[1], "[pixel] Reference pixel on this axis"),
        *(
            (f"CD{i}_{j}", float(tangent.cd[i - 1, j - 1]), "[deg/pixel] Linear projection matrix")
            for i in (1, 2)
            for j in (1, 2)
        ),
        *_polynomial_cards(tangent.pv),
    ]
    return [
        Card("EQUINOX", 2000.0, "[yr] Mean equinox"),
        Card("RADESYS", "ICRS", "Astrometric system"),
        Card("CTYPE1", f"RA---{kind}", "WCS projection type for this axis"),
        Card("CTYPE2", f"DEC--{kind}", "WCS projection type for this axis"),
        Card("CUNIT1", "deg", "Axis unit"),
        Card("CUNIT2", "deg", "Axis unit"),
        *(Card(key, value, comment) for key, value, comment in numbers),
    ]


def _polynomial_cards(pv: tuple[Mapping[int, float], Mapping[int, float]]) -> Iterable[tuple[str, float, str]]:
    for axis in (1, 2):
        for number, value in sorted(pv[axis - 1].items()):
            yield f"PV{axis}_{number}", float(value), "Projection distortion parameter"


def _written(value: Value) -> str:
    if isinstance(value, bool):
        return f"{'T' if value else 'F':>20}"
    if isinstance(value, float):
        return f"{value:>20.12E}"
    if isinstance(value, int):
        return f"{value:>20}"
    text = str(value if value is not None else "").replace("'", "''")
    return f"'{text:<8}'".ljust(20)

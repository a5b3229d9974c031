"""What is looked at: an exposure's CCDs, readable by the tools, and what its headers say. Maps that come with it too.

Packed files are unpacked in a scratch folder. What is odd becomes a note; what is no FITS file raises FitsProblem.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spicad import fits
from spicad.archive.headers import Exposure as Told
from spicad.archive.headers import keys_of, needs_preparing, read_exposure
from spicad.archive.instruments import Instrument, Instruments
from spicad.fits import Hdu, Value
from spicad.reduction.cosmics import Pixels
from spicad.reduction.packed import STORED, true_pixels
from spicad.reduction.prepare import CannotPrepare, Wish, prepare
from spicad.reduction.tangent import NoWcs, Tangent, middle_of, tangent_of
from spicad.words import BadInput, Problem, SpicaError

SATURATION_ADU = 65000.0  # where no header tells: the end of 16 bits, nearly
OVERSCAN = "BIASSEC"  # the card that raw frames of most observatories have
SECTION = re.compile(r"\[(\d+):(\d+),(\d+):(\d+)\]")


@dataclass(frozen=True)
class Ccd:
    """One image. `index` counts from 0; `hdu` is its place in `path`, the file that the tools read."""

    index: int
    name: str
    path: Path
    hdu: Hdu
    cards: tuple[bytes, ...]
    header: Mapping[str, Value]
    tangent: Tangent | None
    gain: float
    saturation: float
    is_stack: bool
    detsec: tuple[int, int, int, int] | None  # x1, x2, y1, y2: backwards where the CCD is turned

    @property
    def width(self) -> int:
        return self.hdu.shape[0]

    @property
    def height(self) -> int:
        return self.hdu.shape[1]

    @property
    def readable(self) -> str:
        """As SExtractor is told which image it is."""
        return f"{self.path}[{self.hdu.index}]" if self.hdu.index else str(self.path)

    def pixels(self) -> Pixels:
        """True values; NaN where blank."""
        return scaled_pixels(self.path, self.hdu)


@dataclass(frozen=True)
class Exposure:
    """All of them, with what is known of the whole; `told` is None when its headers cannot be understood."""

    source: Path
    ccds: tuple[Ccd, ...]
    told: Told | None
    instrument: str
    filter: str
    known_as: str  # the file of etc/instruments/ that it was read by
    is_stack: bool
    zero_point: float | None  # magnitude of 1 ADU in the image
    expected_ccds: int | None  # by NEXTEND
    notes: tuple[str, ...]

    @cached_property
    def centre(self) -> tuple[float, float] | None:
        """Its middle on the sky, degrees; None where no CCD has a WCS."""
        middles = [
            [float(each[0]) for each in ccd.tangent.sky(np.array([ccd.width / 2.0]), np.array([ccd.height / 2.0]))]
            for ccd in self.ccds
            if ccd.tangent
        ]
        sane = [each for each in middles if all(map(math.isfinite, each))]
        return middle_of(*np.array(sane).T) if sane else None


def open_exposure(source: Path, scratch: Path, instruments: Instruments, values: Mapping[str, Any]) -> Exposure:
    """Raises FitsProblem or BadInput when nothing can be made of the file."""
    notes: list[str] = []
    file = fits.check_whole(source, keys=keys_of(instruments))
    if not any(hdu.is_image for hdu in file.hdus):
        raise BadInput(Problem(str(source), "holds no image."))
    told = _told(source, instruments, notes)
    plain = _readable(source, scratch, told, notes)
    hdus = fits.check_whole(plain).hdus
    if told and not told.is_processed and any(OVERSCAN in hdu.header for hdu in hdus):
        notes.append(f"{OVERSCAN} tells of an overscan and nothing of pre-processing: a raw frame; see preprocess(1)")
    images = [hdu for hdu in hdus if hdu.is_image]
    known = instruments.of([hdu.header for hdu in hdus])
    primary = hdus[0].header
    is_stack = values["STACK"] == "Y" or (
        values["STACK"] == "AUTO" and (bool(told and told.kind == "stack") or primary.get("SOFTNAME") == "SWarp")
    )
    ccds = tuple(_ccd(index, hdu, plain, primary, known, told, values, is_stack) for index, hdu in enumerate(images))
    extensions = primary.get("NEXTEND")
    return Exposure(
        source=source,
        ccds=ccds,
        told=told,
        instrument=told.instrument if told else known.title,
        filter=told.filter if told else "",
        known_as=told.known_as if told else known.name,
        is_stack=is_stack,
        zero_point=_zero_point(told, is_stack, values["MAG_ZEROPOINT"]),
        expected_ccds=extensions if isinstance(extensions, int) and extensions > 0 else None,
        notes=tuple(dict.fromkeys([*notes, *(told.warnings if told else ())])),
    )


def _told(source: Path, instruments: Instruments, notes: list[str]) -> Told | None:
    try:
        return read_exposure(source, instruments)
    except BadInput as error:
        notes += [" ".join(filter(None, (problem.what, problem.mend))) for problem in error.problems]
        return None


def _readable(source: Path, scratch: Path, told: Told | None, notes: list[str]) -> Path:
    """The exposure under a plain name, plain FITS; what cannot be mended stays as it is when it is plain already."""
    link = scratch / "exposure.fits"
    why = needs_preparing(told, ["fits"]) if told else "its headers are not understood"
    if why:
        try:
            notes += prepare(source, link, Wish(any_pixels=True))
            return link
        except CannotPrepare as error:
            if fits.packing(source) != "fits":
                raise
            notes.append(str(error))
    link.symlink_to(source.absolute())
    return link


def _ccd(
    index: int,
    hdu: Hdu,
    plain: Path,
    primary: Mapping[str, Value],
    known: Instrument,
    told: Told | None,
    values: Mapping[str, Any],
    is_stack: bool,
) -> Ccd:
    cards = tuple(fits.header_cards(plain, hdu))
    headers = (hdu.header, primary)
    saturation = _asked(values["SATUR_LEVEL"])
    if saturation is None:
        saturation = _first(headers, known.cards.get("saturation", ())) or (told.saturation if told else None)
    return Ccd(
        index=index,
        name=_name(index, hdu, told),
        path=plain,
        hdu=hdu,
        cards=cards,
        header=hdu.header,
        tangent=_tangent(hdu, cards, _asked(values["PIXEL_SCALE"])),
        gain=_first(headers, known.cards.get("gain", ())) or (told.gain if told else None) or 1.0,
        saturation=saturation or SATURATION_ADU,
        is_stack=is_stack,
        detsec=_section(hdu.header.get("DETSEC")),
    )


def _name(index: int, hdu: Hdu, told: Told | None) -> str:
    name = told.ccds[index].name if told and index < len(told.ccds) else hdu.extname
    return name or f"HDU {hdu.index}"


def _tangent(hdu: Hdu, cards: Sequence[bytes], scale_arcsec: float | None) -> Tangent | None:
    try:
        found = tangent_of(hdu.header, cards, (hdu.shape[0], hdu.shape[1]))
    except NoWcs:
        return None
    if scale_arcsec:
        return Tangent(found.crval, found.crpix, found.cd * scale_arcsec / found.scale_arcsec, found.pv)
    return found


def _first(headers: Sequence[Mapping[str, Value]], cards: Sequence[str]) -> float | None:
    """A positive number from the first card that has one."""
    for card in cards:
        for header in headers:
            value = header.get(card)
            if isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < 1e9:
                return float(value)
    return None


def _section(value: Value) -> tuple[int, int, int, int] | None:
    found = SECTION.fullmatch(str(value or "").replace(" ", ""))
    return (int(found[1]), int(found[2]), int(found[3]), int(found[4])) if found else None


def check_keywords(values: Mapping[str, Any]) -> None:
    """Raises BadInput for those that are AUTO or something of their own, and are neither."""
    for name in ("MAG_ZEROPOINT", "SATUR_LEVEL", "PIXEL_SCALE"):
        try:
            number = _asked(values[name])
        except ValueError:
            number = math.nan
        if number is not None and not math.isfinite(number):
            raise BadInput(Problem(f"-{name}", f"{values[name]} must be AUTO or a number."))
        if number is not None and number <= 0 and name != "MAG_ZEROPOINT":
            raise BadInput(Problem(f"-{name}", f"{values[name]} must be more than 0."))
    if not values["OUTPUT_NAME"] or "/" in values["OUTPUT_NAME"]:
        raise BadInput(Problem("-OUTPUT_NAME", "this is no name of a file.", "OUTPUT_DIR names the folder."))


def _asked(text: str) -> float | None:
    if text.upper() == "AUTO":
        return None
    return float(text)


def _zero_point(told: Told | None, is_stack: bool, asked: str) -> float | None:
    """Headers tell that of 1 ADU/s for an exposure, of 1 ADU for a stack, which has been scaled to it."""
    given = _asked(asked)
    if given is not None:
        return given
    if told is None or told.zero_point is None or not 0 < told.zero_point < 60:
        return None
    if is_stack:
        return told.zero_point
    return told.zero_point + 2.5 * math.log10(told.t_exptime) if told.t_exptime else None


def scaled_pixels(path: Path, hdu: Hdu) -> Pixels:
    """True values in two axes; NaN where blank."""
    width, height = hdu.shape[:2]
    stored = np.memmap(path, STORED[hdu.bitpix], "r", hdu.data_offset, (height, width))
    return true_pixels(hdu, stored)


class Companion:
    """A flat, weight map or mask that comes with the exposure: one image for each CCD, in the same order or by name."""

    def __init__(self, source: Path, scratch: Path, kind: str) -> None:
        self.source, self.kind = source, kind
        self.path = source
        try:
            hdus = fits.check_whole(source).hdus
            if fits.packing(source) != "fits" or any(hdu.kind == "compressed" or hdu.bitpix == 64 for hdu in hdus):
                self.path = scratch / f"{kind}.fits"
                prepare(source, self.path, Wish(any_pixels=True))
                hdus = fits.check_whole(self.path).hdus
        except SpicaError as error:
            raise BadInput(Problem(source.name, f"cannot be taken as {kind}: {error}")) from None
        self.images = [hdu for hdu in hdus if hdu.is_image]
        self.by_name = {hdu.extname: hdu for hdu in self.images if hdu.extname}

    def pixels_of(self, ccd: Ccd, count: int) -> NDArray[Any]:
        """Bytes stay bytes, all else becomes floats."""
        hdu = self.hdu_of(ccd, count)
        if hdu.bitpix == 8 and not {"BSCALE", "BZERO", "BLANK"} & hdu.header.keys():
            return np.asarray(np.memmap(self.path, STORED[8], "r", hdu.data_offset, hdu.shape[1::-1]))
        return scaled_pixels(self.path, hdu)

    def hdu_of(self, ccd: Ccd, count: int) -> Hdu:
        """That of `ccd`, of `count`. Raises BadInput when it has none, or one of another size."""
        hdu = self.by_name.get(ccd.name) if len(self.by_name) == len(self.images) else None
        if hdu is None and len(self.images) == count:
            hdu = self.images[ccd.index]
        if hdu is None:
            raise BadInput(Problem(self.source.name, f"has no image for {ccd.name}."))
        if tuple(hdu.shape[:2]) != (ccd.width, ccd.height):
            size = f"{hdu.shape[0]} x {hdu.shape[1]} pixels, not {ccd.width} x {ccd.height}"
            raise BadInput(Problem(self.source.name, f"its image for {ccd.name} has {size}."))
        return hdu

"""Opens an exposure whatever it is packed in, and writes FITS HDU by HDU: pixels are mapped, never all in memory.

What is done to the pixels between is the affair of prepare.py and of preprocess/.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from spicad import fits
from spicad.archive.headers import PLAIN_EXTNAME
from spicad.fits import BLOCK, CARD, FitsProblem, Hdu
from spicad.reduction.judge import Pixels
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
OF_THE_SCALE = re.compile(rb"(BSCALE|BZERO|BLANK) *=")
FUNPACK_SECONDS = 900


class CannotUnpack(SpicaError):
    """Why an exposure cannot be read, in one line."""


@dataclass(frozen=True)
class Packed:
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
        width, height = flat_shape(self.source, hdu)
        if hdu.kind == "compressed":
            return self.unpack(hdu).reshape(height, width)
        return np.memmap(self.plain, STORED[hdu.bitpix], "r", hdu.data_offset, (height, width))


@contextmanager
def unpacked(source: Path, beside: Path | None = None) -> Iterator[Packed]:
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
            raise CannotUnpack(f"{source}: holds no image.")
        yield Packed(source, plain, file.hdus, _Unpacker(source, plain, folder, file.hdus))


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
            raise CannotUnpack(f"{self.source}: HDU {hdu.index} cannot be unpacked: {said}.") from None
        if data.size != np.prod(hdu.shape):
            raise CannotUnpack(f"{self.source}: HDU {hdu.index} unpacks to another size than its header says.")
        return np.asarray(data, dtype=STORED[hdu.bitpix]).reshape(-1)


def flat_shape(source: Path, hdu: Hdu) -> tuple[int, int]:
    if len(hdu.shape) < 2 or any(length > 1 for length in hdu.shape[2:]):
        shown = " x ".join(map(str, hdu.shape))
        raise CannotUnpack(f"{source}: HDU {hdu.index} is no image of two axes but {shown}.")
    return hdu.shape[0], hdu.shape[1]


def true_pixels(hdu: Hdu, stored: Pixels) -> NDArray[np.float32]:
    """Floats in the unit of the image; NaN where blank. Integers that floats cannot hold are scaled as doubles."""
    scale, zero = number(hdu, "BSCALE", 1.0) or 1.0, number(hdu, "BZERO", 0.0)
    blank = hdu.header.get("BLANK") if hdu.bitpix > 0 else None
    is_wide = hdu.bitpix > 16 or (hdu.bitpix > 0 and scale != 1.0)
    true: NDArray[Any] = stored.astype(np.float64 if is_wide else np.float32)
    if scale != 1.0:
        true *= scale
    if zero:
        true += zero
    if isinstance(blank, int):
        true[stored == blank] = np.nan
    return np.asarray(true, np.float32)


# What goes out


def number(hdu: Hdu, key: str, default: float) -> float:
    value = hdu.header.get(key)
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else default


def structure(bitpix: int, width: int, height: int, as_primary: bool, more_follow: bool) -> Iterator[bytes]:
    yield card_of("SIMPLE", "T") if as_primary else b"XTENSION= 'IMAGE   '".ljust(CARD)
    for key, value in (("BITPIX", bitpix), ("NAXIS", 2), ("NAXIS1", width), ("NAXIS2", height)):
        yield card_of(key, value)
    if not as_primary:
        yield card_of("PCOUNT", 0)
        yield card_of("GCOUNT", 1)
    elif more_follow:
        yield card_of("EXTEND", "T")


def card_of(key: str, value: object) -> bytes:
    return f"{key:<8}= {value!s:>20}".ljust(CARD).encode("ascii")


def other_cards(hdu: Hdu, cards: Sequence[bytes], to_float: bool) -> Iterator[bytes]:
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


def write_header(out: BinaryIO, cards: Sequence[bytes]) -> None:
    out.write(b"".join(cards) + b"END".ljust(CARD))
    fill(out, b" ")


def fill(out: BinaryIO, byte: bytes) -> None:
    out.write(byte * (-out.tell() % BLOCK))

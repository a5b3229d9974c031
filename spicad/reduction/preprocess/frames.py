"""A raw frame as it is read: its CCDs, their amplifiers, the overscan taken off and trimmed, some rows at a time.

Pixels are mapped from the disk; what is asked for becomes floats. Which frame is combined with which is told elsewhere.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spicad.fits import Hdu, Value
from spicad.reduction.packed import Packed, flat_shape, true_pixels, unpacked
from spicad.words import BadInput, Problem

Floats = NDArray[np.float32]
SECTION = re.compile(r"\s*\[\s*(\d+)\s*:\s*(\d+)\s*,\s*(\d+)\s*:\s*(\d+)\s*\]\s*")
BLANK_SECTION = re.compile(r"\s*(\[\s*0\s*:\s*0\s*,\s*0\s*:\s*0\s*\])?\s*")
SAMPLE = 400_000  # pixels for a level
STRIP_BYTES = 32 << 20


@dataclass(frozen=True)
class Section:
    """Part of a CCD's pixels, counted from 0, ends left out."""

    left: int
    right: int
    bottom: int
    top: int

    @property
    def width(self) -> int:
        return self.right - self.left

    @property
    def height(self) -> int:
        return self.top - self.bottom


@dataclass(frozen=True)
class Amplifier:
    data: Section
    overscan: Section | None
    gain: float | None
    read_noise_e: float | None


@dataclass
class RawCcd:
    """One CCD of a frame. `rows` gives it in ADU, trimmed, without its overscan."""

    file: Packed
    hdu: Hdu
    name: str
    header: Mapping[str, Value]  # with the primary's cards where it has none of its own
    amplifiers: tuple[Amplifier, ...]
    smooth: int
    _levels: list[NDArray[np.float64]] = field(default_factory=list)

    @property
    def source(self) -> Path:
        return self.file.source

    @property
    def stored(self) -> Any:
        """Mapped anew each time: mosaics that stay mapped would fill the address space that a step may use."""
        return self.file.pixels(self.hdu)

    @property
    def bands(self) -> list[list[int]]:
        """The amplifiers' numbers from bottom to top, in each band from left to right."""
        order = sorted(range(len(self.amplifiers)), key=lambda n: (self._data(n).bottom, self._data(n).left))
        found: list[list[int]] = []
        for n in order:
            if found and self._data(found[-1][0]).bottom == self._data(n).bottom:
                found[-1].append(n)
            else:
                found.append([n])
        return found

    def _data(self, amplifier: int) -> Section:
        return self.amplifiers[amplifier].data

    @property
    def shape(self) -> tuple[int, int]:
        """(height, width) without overscan."""
        bands = self.bands
        return sum(self._data(band[0]).height for band in bands), sum(self._data(n).width for n in bands[0])

    @property
    def is_rectangle(self) -> bool:
        """Whether the amplifiers' sections, put together, leave neither gaps nor steps."""
        bands = [[self._data(n) for n in band] for band in self.bands]
        is_even = all(data.height == band[0].height for band in bands for data in band)
        return is_even and len({sum(data.width for data in band) for band in bands}) == 1

    @property
    def levels(self) -> list[NDArray[np.float64]]:
        """For each amplifier its overscan along its rows (or columns, where it lies above or below); 0 without one."""
        if not self._levels:
            self._levels = [self._level(amplifier) for amplifier in self.amplifiers]
        return self._levels

    @property
    def level(self) -> float:
        return float(np.mean([np.mean(level) for level in self.levels]))

    def _level(self, amplifier: Amplifier) -> NDArray[np.float64]:
        """As a column, a row, or one number."""
        data, over = amplifier.data, amplifier.overscan
        if over is None:
            return np.zeros((1, 1))
        pixels = true_pixels(self.hdu, self.stored[over.bottom : over.top, over.left : over.right]).astype(np.float64)
        if self.smooth == 0:
            return np.full((1, 1), _clipped_mean(pixels.reshape(1, -1))[0])
        if over.bottom <= data.bottom and over.top >= data.top:
            along = _clipped_mean(pixels[data.bottom - over.bottom : data.top - over.bottom])
            return _smoothed(along, self.smooth)[:, None]
        if over.left <= data.left and over.right >= data.right:
            along = _clipped_mean(pixels[:, data.left - over.left : data.right - over.left].T)
            return _smoothed(along, self.smooth)[None, :]
        return np.full((1, 1), _clipped_mean(pixels.reshape(1, -1))[0])

    def rows(self, first: int = 0, last: int | None = None) -> Floats:
        """Of the trimmed CCD, in ADU, without the overscan."""
        last = self.shape[0] if last is None else last
        found = np.empty((last - first, self.shape[1]), np.float32)
        whole = self.stored
        for band, start, stop, out in self._parts(first, last):
            left = 0
            for n in band:
                data, level = self._data(n), self.levels[n]
                pixels = true_pixels(self.hdu, whole[data.bottom + start : data.bottom + stop, data.left : data.right])
                pixels -= (level[start:stop] if level.shape[0] > 1 else level).astype(np.float32)
                found[out : out + stop - start, left : left + data.width] = pixels
                left += data.width
        return found

    def reaching(self, level: float) -> NDArray[np.bool_]:
        """Pixels of the trimmed CCD that are stored with at least this value."""
        found = np.zeros(self.shape, bool)
        whole = self.stored
        for band, start, stop, out in self._parts(0, self.shape[0]):
            left = 0
            for n in band:
                data = self._data(n)
                stored = whole[data.bottom + start : data.bottom + stop, data.left : data.right]
                found[out : out + stop - start, left : left + data.width] = true_pixels(self.hdu, stored) >= level
                left += data.width
        return found

    def _parts(self, first: int, last: int) -> Iterator[tuple[list[int], int, int, int]]:
        """Of these rows: the band, its own rows from and to, and the row where they come to lie."""
        bottom = 0
        for band in self.bands:
            height = self._data(band[0]).height
            start, stop = max(first - bottom, 0), min(last - bottom, height)
            if start < stop:
                yield band, start, stop, bottom + start - first
            bottom += height

    def per_amplifier(self, values: Sequence[float]) -> Floats:
        """A row (or, with bands, an image) with each amplifier's value."""
        if len(set(values)) == 1:
            return np.full((1, 1), values[0], np.float32)
        found = np.empty(self.shape, np.float32)
        bottom = 0
        for band in self.bands:
            height, left = self._data(band[0]).height, 0
            for n in band:
                found[bottom : bottom + height, left : left + self._data(n).width] = values[n]
                left += self._data(n).width
            bottom += height
        return found

    def sampled_rows(self) -> range:
        """Rows that tell of the whole: every so many."""
        return range(0, self.shape[0], max(1, self.shape[0] * self.shape[1] // SAMPLE))


@dataclass(frozen=True)
class Frame:
    """A file of raw pixels, open as long as `opened_frame` lasts."""

    path: Path
    file: Packed
    ccds: tuple[RawCcd, ...]

    @property
    def name(self) -> str:
        """What the observatory called it."""
        said = self.ccds[0].header.get("FILENAME")
        return str(said).strip() if isinstance(said, str) and said.strip() else self.path.name

    def seconds(self, card: str) -> float:
        value = self.ccds[0].header.get(card)
        if isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
            what = f"{card} is {value!r}, the exposure time in seconds was expected."
            raise BadInput(Problem(str(self.path), what, "EXPOTIME_KEY names the card."))
        return float(value)

    def done_by(self, cards: Sequence[str]) -> str:
        """The card that says that it is pre-processed already; '' for a raw one."""
        return _card_of_done(self.ccds[0].header, cards)


def _card_of_done(header: Mapping[str, Value], cards: Sequence[str]) -> str:
    return next((card for card in cards if header.get(card) not in (None, "", False)), "")


@contextmanager
def opened_frame(path: Path, values: Mapping[str, Any], folder: Path, is_raw: bool = True) -> Iterator[Frame]:
    """Raises BadInput where a section is none.

    Without `is_raw`, and in what is pre-processed already, sections are not looked for: Elixir leaves the raw ones.
    """
    with unpacked(path, folder) as file:
        primary = file.hdus[0].header
        is_raw = is_raw and not _card_of_done(dict(primary) | dict(file.images[0].header), values["DONE_KEYS"])
        ccds = tuple(_ccd(file, hdu, dict(primary) | dict(hdu.header), values, is_raw) for hdu in file.images)
        yield Frame(path, file, ccds)


def _ccd(file: Packed, hdu: Hdu, header: dict[str, Value], values: Mapping[str, Any], is_raw: bool) -> RawCcd:
    width, height = flat_shape(file.source, hdu)
    amplifiers = _amplifiers(file.source, hdu, header, values, (height, width)) if is_raw else ()
    whole = Amplifier(Section(0, width, 0, height), None, *_noise(header, values, 0))
    name = hdu.extname or f"HDU {hdu.index}"
    ccd = RawCcd(file, hdu, name, header, amplifiers or (whole,), values["OVERSCAN_SMOOTH"])
    if not ccd.is_rectangle:
        sizes = ", ".join(f"{each.data.width} x {each.data.height}" for each in amplifiers)
        what = f"{name}: the sections of {', '.join(values['DATA_KEYS'])} ({sizes} pixels) make up no rectangle."
        raise BadInput(Problem(str(file.source), what, "DATA_KEYS names the cards of the section with light."))
    return ccd


def _amplifiers(
    source: Path, hdu: Hdu, header: Mapping[str, Value], values: Mapping[str, Any], shape: tuple[int, int]
) -> tuple[Amplifier, ...]:
    found = []
    over = values["OVERSCAN_KEYS"]
    for n, card in enumerate(values["DATA_KEYS"]):
        data = _section(source, hdu, header, card, shape)
        if data is not None:
            overscan = _section(source, hdu, header, over[n], shape) if n < len(over) else None
            found.append(Amplifier(data, overscan, *_noise(header, values, n)))
    if not found and len(over) == 1 and (overscan := _section(source, hdu, header, over[0], shape)):
        what = f"{hdu.extname or f'HDU {hdu.index}'} has {over[0]} but none of {', '.join(values['DATA_KEYS'])}."
        raise BadInput(Problem(str(source), what, "DATA_KEYS names the cards of the section with light."))
    return tuple(found)


def _section(source: Path, hdu: Hdu, header: Mapping[str, Value], card: str, shape: tuple[int, int]) -> Section | None:
    said = header.get(card)
    if said is None or BLANK_SECTION.fullmatch(str(said)):
        return None
    found = SECTION.fullmatch(str(said))
    if found:
        x1, x2, y1, y2 = (int(each) for each in found.groups())
        section = Section(min(x1, x2) - 1, max(x1, x2), min(y1, y2) - 1, max(y1, y2))
        if section.left >= 0 and section.bottom >= 0 and section.right <= shape[1] and section.top <= shape[0]:
            return section
    size = f"{shape[1]} x {shape[0]}"
    what = f"{hdu.extname or f'HDU {hdu.index}'}: {card} is {said!r}, which is no part of its {size} pixels."
    raise BadInput(Problem(str(source), what, "A section such as [33:2080,1:4612] was expected."))


def _noise(header: Mapping[str, Value], values: Mapping[str, Any], n: int) -> tuple[float | None, float | None]:
    """Gain and read noise of an amplifier; the last card named stands for those after it."""
    return tuple(  # type: ignore[return-value]
        _positive(header.get(cards[min(n, len(cards) - 1)])) if (cards := values[key]) else None
        for key in ("GAIN_KEYS", "RDNOISE_KEYS")
    )


def _positive(value: Value) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) and value > 0 else None


def median_of_known(pixels: NDArray[Any], otherwise: float = 0.0) -> float:
    """The median of those that are no NaN; `otherwise` where there are none."""
    known = pixels[np.isfinite(pixels)]
    return float(np.median(known)) if known.size else otherwise


def _clipped_mean(lines: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of each line, without what cosmic rays and trails of charge leave in an overscan.

    A line without any value gets that of the whole.
    """
    known = np.isfinite(lines)
    if not known.all():
        lines = np.where(known, lines, median_of_known(lines, np.nan))
    middle = np.median(lines, axis=1, keepdims=True)
    noise = 1.4826 * np.median(np.abs(lines - middle)) + 1e-6
    kept = known & (np.abs(lines - middle) <= 4 * noise)
    count = np.maximum(kept.sum(axis=1), 1)
    mean: NDArray[np.float64] = np.where(kept, lines, 0).sum(axis=1) / count
    return np.where(kept.any(axis=1), mean, middle[:, 0])


def _smoothed(line: NDArray[np.float64], width: int) -> NDArray[np.float64]:
    """A running mean; narrower at the ends."""
    half = max(0, width // 2)
    total = np.concatenate([[0.0], np.cumsum(line)])
    index = np.arange(len(line))
    low, high = np.maximum(index - half, 0), np.minimum(index + half + 1, len(line))
    smoothed: NDArray[np.float64] = (total[high] - total[low]) / (high - low)
    return smoothed


def strips(height: int, width: int, frames: int = 1) -> Iterator[tuple[int, int]]:
    """Rows from and to, so that those of all frames together stay within STRIP_BYTES."""
    rows = max(1, STRIP_BYTES // (4 * width * frames))
    for first in range(0, height, rows):
        yield first, min(first + rows, height)

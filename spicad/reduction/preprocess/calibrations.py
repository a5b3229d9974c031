"""The calibrations that are given: master frames and the like, opened, held against the exposure, applied to its rows.

Where they come from, and which of several, is not decided here: the command line names them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from spicad.fits import file_digest
from spicad.reduction.preprocess.frames import Floats, Frame, RawCcd, opened_frame
from spicad.reduction.preprocess.settings import CALIBRATIONS
from spicad.words import BadInput, Problem

MADE_FOR = {"BIAS": "bias", "DARK": "dark", "FLAT": "flat"}


@dataclass(frozen=True)
class Calibrations:
    """Those that are given, by the words of CALIBRATIONS, with the sha256 of each file."""

    frames: Mapping[str, Frame]
    digests: Mapping[str, str]
    crosstalk: Mapping[str, tuple[tuple[str, float], ...]] = field(
        default_factory=dict
    )  # victim: (source, coefficient)

    def rows(self, what: str, ccd: RawCcd, index: int, first: int, last: int) -> Floats | None:
        """Those rows of it for that CCD; None when it is not given."""
        frame = self.frames.get(what)
        return None if frame is None else self._of(what, frame, ccd, index).rows(first, last)

    def whole(self, what: str, ccd: RawCcd, index: int) -> Floats | None:
        return self.rows(what, ccd, index, 0, ccd.shape[0])

    def _of(self, what: str, frame: Frame, ccd: RawCcd, index: int) -> RawCcd:
        """By its name, else by its place in the file."""
        named = [other for other in frame.ccds if other.hdu.extname and other.hdu.extname == ccd.hdu.extname]
        found = named[0] if named else frame.ccds[index] if index < len(frame.ccds) else None
        if found is None:
            what = f"this {what.lower()} has no CCD {ccd.name}, which {ccd.source.name} has."
            raise BadInput(Problem(str(frame.path), what, "Give one of the same camera."))
        if found.shape != ccd.shape:
            size, other = (f"{shape[1]} x {shape[0]}" for shape in (found.shape, ccd.shape))
            what = f"its {found.name} has {size} pixels, that of {ccd.source.name} {other} without its overscan."
            raise BadInput(Problem(str(frame.path), what, "Give one of the same camera and binning."))
        return found

    def light(self, ccd: RawCcd, index: int, seconds: float, first: int, last: int) -> Floats:
        """Rows without bias and dark, all amplifiers at their mean gain."""
        light = ccd.rows(first, last)
        if (bias := self.rows("BIAS", ccd, index, first, last)) is not None:
            light -= bias
        if seconds and (dark := self.rows("DARK", ccd, index, first, last)) is not None:
            light -= dark * np.float32(seconds)
        factors = gain_factors(ccd)
        if factors.size > 1:
            light *= factors[first:last] if factors.shape[0] > 1 else factors
        return light


def gain_factors(ccd: RawCcd) -> Floats:
    gains = [amplifier.gain for amplifier in ccd.amplifiers]
    if None in gains or len(gains) < 2:
        return np.ones((1, 1), np.float32)
    mean = sum(gain for gain in gains if gain) / len(gains)
    return ccd.per_amplifier([gain / mean for gain in gains if gain])


@contextmanager
def opened_calibrations(values: Mapping[str, Any], folder: Path, wanted: tuple[str, ...]) -> Iterator[Calibrations]:
    with ExitStack() as stack:
        frames, digests = {}, {}
        for what in wanted:
            if name := values[f"{what}_NAME"]:
                frame = stack.enter_context(opened_frame(Path(name), values, folder, is_raw=False))
                _require_kind(what, frame)
                frames[what], digests[what] = frame, file_digest(Path(name))
        crosstalk = values["CROSSTALK_NAME"]
        yield Calibrations(frames, digests, read_crosstalk(Path(crosstalk)) if crosstalk else {})


def _require_kind(what: str, frame: Frame) -> None:
    said = frame.ccds[0].header.get("MASTER")
    if said and what in MADE_FOR and said != MADE_FOR[what]:
        mend = f"Give it as {str(said).upper()}_NAME."
        raise BadInput(Problem(str(frame.path), f"this is a master {said}, not a {what.lower()}.", mend))


def require_needed(values: Mapping[str, Any]) -> None:
    """Raises BadInput naming each calibration that is needed and not given."""
    unknown = [word for word in values["NEEDED"] if word.upper() not in (*CALIBRATIONS, "NONE")]
    if unknown:
        raise BadInput(
            Problem("NEEDED", f"{unknown[0]} is no calibration.", f"Known: {', '.join(CALIBRATIONS)}, NONE.")
        )
    missing = [
        word.upper() for word in values["NEEDED"] if word.upper() != "NONE" and not values[f"{word.upper()}_NAME"]
    ]
    if missing:
        raise BadInput(
            Problem(f"{word}_NAME", f"there is no {word.lower()}.", "Name one, or take it out of NEEDED.")
            for word in missing
        )


def read_crosstalk(path: Path) -> dict[str, tuple[tuple[str, float], ...]]:
    """Lines of source, victim, coefficient; # begins a comment."""
    found: dict[str, list[tuple[str, float]]] = {}
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(Problem(str(path), f"the table of crosstalk cannot be read: {error}.")) from None
    for number, line in enumerate(lines, 1):
        words = line.partition("#")[0].split()
        if not words:
            continue
        try:
            source, victim, text = words
            coefficient = float(text)
            if not abs(coefficient) < 1:
                raise ValueError
        except ValueError:
            what = f"{line.strip()[:60]!r} is no line of source, victim and coefficient."
            raise BadInput(Problem(str(path), what, "For example: ccd01 ccd00 0.0003", number)) from None
        found.setdefault(victim, []).append((source, coefficient))
    return {victim: tuple(each) for victim, each in found.items()}


def without_crosstalk(
    frame: Frame, ccd: RawCcd, table: Mapping[str, tuple[tuple[str, float], ...]], light: Floats
) -> None:
    """Takes off, in place, what the other CCDs have left on this one."""
    by_name = {other.name: other for other in frame.ccds}
    for source, coefficient in table.get(ccd.name, ()):
        other = by_name.get(source)
        if other is None or other.shape != ccd.shape:
            what = f"there is no {source} of the size of {ccd.name}, whose crosstalk is listed."
            raise BadInput(Problem(str(frame.path), what, "Mend the table of CROSSTALK_NAME."))
        light -= np.float32(coefficient) * np.nan_to_num(other.rows()).clip(min=0)

"""What must hold before a tool is started: conditions under which one is known to hang, crash or waste a night.

The descriptor names them; each is a function of the table CHECKS. What came out is judged in outputs.py.
"""

from __future__ import annotations

import math
import os
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from spicad import fits
from spicad.applications.configuration import Effective, columns_needed
from spicad.applications.descriptor import Application, Before, Input
from spicad.applications.figures import reference_positions
from spicad.applications.kinds import object_tables
from spicad.applications.tools import NUMBER, items
from spicad.words import SpicaError

MARGIN_DEG = 1 / 60  # pointings are off by some arcsec to an arcmin
MAX_HEADER_COPY = 4 << 20

Given = Sequence[tuple[str, Path]]  # (stem, file) of one input


class Position(Protocol):
    """What is known of an exposure's place on the sky; archive/headers.py's Exposure is one."""

    @property
    def s_ra(self) -> float | None: ...
    @property
    def s_dec(self) -> float | None: ...
    @property
    def radius_deg(self) -> float | None: ...


@dataclass(frozen=True)
class Question:
    """All that a check may look at."""

    before: Before
    given: Given
    exposures: Mapping[str, Position]
    settings: Effective | None

    def number(self, text: str) -> float:
        """A number written in the descriptor, or the first of a {KEYWORD}'s value."""
        if text.startswith("{") and self.settings is not None:
            text = (items(self.settings.value(text.strip("{}"))) or ("",))[0]
        return float(text) if NUMBER.fullmatch(text) else 0.0


def precheck(
    application: Application,
    files: Mapping[str, Given],
    exposures: Mapping[str, Position],
    settings: Effective | None = None,
) -> tuple[str, str]:
    """Why the tool must not be started on these inputs, and the exposure to blame; two empty texts when it may."""
    try:
        for input_ in application.inputs.values():
            for stem, path in files.get(input_.name, ()):
                why = _unfit_table(input_, path, settings)
                if why:
                    return f"{path.name}: {why}", stem
        for before in application.before:
            question = Question(before, files.get(before.input, ()), exposures, settings)
            why, stem = CHECKS[before.check](question)
            if why:
                return f"{before.words}: {why}", stem
    except fits.FitsProblem as problem:
        return f"{application.title} cannot be started: {problem}", ""
    return "", ""


def adjusted(application: Application, files: Mapping[str, Given], settings: Effective) -> Effective:
    """The settings of this step: some keywords mean something else when a card is in none of the headers.

    What rules, a job, or a user's or group's configuration set stays: only what the system set is adjusted.
    """
    changed: dict[str, tuple[str, str]] = {}
    for adjust in application.adjust:
        card = settings.value(adjust.card.strip("{}")) if adjust.card.startswith("{") else adjust.card
        copies = [cards for _, path in files.get(adjust.input, ()) for cards in header_copies(path)]
        if copies and not any(card in cards for cards in copies):
            origin = f"{adjust.words} ({card})"
            changed |= {name: (value, origin) for name, value in adjust.set.items() if _is_default(settings, name)}
    return replace(settings, settings=dict(settings.settings) | changed, forced=settings.forced | frozenset(changed))


def _is_default(settings: Effective, keyword: str) -> bool:
    _, origin = settings.settings.get(keyword, ("", ""))
    return origin.startswith(("system:", "the tool's default"))


def _unfit_table(input_: Input, path: Path, settings: Effective | None) -> str:
    if not input_.minimum_rows and not input_.columns:
        return ""
    tables = object_tables(fits.check_whole(path))
    rows = sum(fits.row_count(hdu) for hdu in tables)
    if not tables or rows < input_.minimum_rows:
        return f"it has {rows} sources, and {input_.minimum_rows} are needed."
    known = fits.table_columns(tables[0])
    needed = columns_needed(input_, settings) if settings is not None else ()
    lacking = [column for column in needed if column not in known]
    return f"it has no column {', '.join(lacking)}." if lacking else ""


def usable_detections(question: Question) -> tuple[str, str]:
    """Enough detections with a flux that stands out of its error."""
    flux_name, error_name = (_column(question, each) for each in question.before.columns)
    ratio = question.number(question.before.ratio)
    for stem, path in question.given:
        usable = 0
        for hdu in object_tables(fits.scan(path)):
            columns = fits.table_columns(hdu)
            table = fits.columns(path, hdu, [flux_name, error_name])
            fluxes = table[flux_name][:: max(1, columns[flux_name].repeat)]
            errors = table[error_name][:: max(1, columns[error_name].repeat)]
            usable += sum(
                flux > 0 and error > 0 and flux >= ratio * error for flux, error in zip(fluxes, errors, strict=False)
            )
        if usable < question.before.least:
            return f"{stem} has {usable}, and {question.before.least:g} are needed.", stem
    return "", ""


def _column(question: Question, name: str) -> str:
    if name.startswith("{") and question.settings is not None:
        name = question.settings.value(name.strip("{}"))
    return name.partition("(")[0]


def stars_on_field(question: Question) -> tuple[str, str]:
    """Enough reference stars on the field of each exposure."""
    stars = sorted((dec, ra) for _, path in question.given for ra, dec in reference_positions(path))
    if len(stars) < question.before.least:
        return f"the catalogue has {len(stars)} stars.", ""
    for stem, exposure in question.exposures.items():
        if exposure.s_ra is None or exposure.s_dec is None or not math.isfinite(exposure.s_ra + exposure.s_dec):
            return f"where {stem} points is not known.", stem
        radius = (exposure.radius_deg or 0.5) + MARGIN_DEG
        count = _count_within(stars, exposure.s_ra, exposure.s_dec, radius, int(question.before.least))
        if count < question.before.least:
            where = f"RA {exposure.s_ra:.4f}, Dec {exposure.s_dec:+.4f}, radius {radius:.3f} degrees"
            return f"{stem} ({where}) has {count} of them, and {question.before.least:g} are needed.", stem
    return "", ""


def _count_within(stars: list[tuple[float, float]], ra: float, dec: float, radius: float, enough: int) -> int:
    """Stars (dec, ra), sorted, within `radius`; counting ends when there are enough."""
    count = 0
    limit = math.cos(math.radians(min(radius, 180.0)))
    sin_dec, cos_dec = math.sin(math.radians(dec)), math.cos(math.radians(dec))
    first = bisect_left(stars, (dec - radius, -math.inf))
    last = bisect_right(stars, (dec + radius, math.inf))
    for star_dec, star_ra in stars[first:last]:
        d, r = math.radians(star_dec), math.radians(star_ra - ra)
        if sin_dec * math.sin(d) + cos_dec * math.cos(d) * math.cos(r) >= limit:
            count += 1
            if count >= enough:
                break
    return count


def readable_positions(question: Question) -> tuple[str, str]:
    """A finite position in one of the projections `values`, in the header copy of each CCD of a LDAC catalogue."""
    for stem, path in question.given:
        for number, cards in enumerate(header_copies(path), 1):
            for axis in (1, 2):
                value = cards.get(f"CRVAL{axis}")
                if not isinstance(value, int | float) or not math.isfinite(value):
                    return f"CCD {number} of {stem} has CRVAL{axis} = {value}.", stem
                kind = str(cards.get(f"CTYPE{axis}") or "")
                if kind[5:8] not in question.before.values and "-" in kind:
                    return f"CCD {number} of {stem} has the projection {kind}.", stem
                if "-" not in kind:
                    return f"CCD {number} of {stem} has no celestial coordinates (CTYPE{axis} = {kind!r}).", stem
    return "", ""


def header_copies(path: Path) -> list[dict[str, fits.Value]]:
    """The image headers that a LDAC catalogue carries, one per CCD."""
    copies = []
    with fits.opened(path) as descriptor:
        for hdu in fits.scan(descriptor).hdus:
            if hdu.extname == "LDAC_IMHEAD" and hdu.data_bytes <= MAX_HEADER_COPY:
                copies.append(_cards(os.pread(descriptor, hdu.data_bytes, hdu.data_offset)))
    if not copies:
        raise fits.FitsProblem(path, "carries no image header.", "It must be a FITS_LDAC catalogue.")
    return copies


def _cards(raw: bytes) -> dict[str, fits.Value]:
    cards: dict[str, fits.Value] = {}
    for start in range(0, len(raw), fits.CARD):
        card = raw[start : start + fits.CARD].decode("latin-1")
        if card[8:10] == "= ":
            try:
                cards.setdefault(card[:8].rstrip(), fits.card_value(card[10:])[0])
            except SpicaError:
                continue
    return cards


CHECKS: dict[str, Callable[[Question], tuple[str, str]]] = {
    "usable_detections": usable_detections,
    "stars_on_field": stars_on_field,
    "readable_positions": readable_positions,
}

"""The instruments that Spica knows: a file of etc/instruments/ for each says how to recognise it, what its cards mean.

Reading and checking these files is done here, also what a filter or a type of exposure is called. Headers themselves
are read by headers.py.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import cached_property, lru_cache
from itertools import chain, zip_longest
from pathlib import Path
from typing import Any

from spicad.config import shipped_folder
from spicad.fits import Value
from spicad.schema import KINDS, REQUIRED, Document, Key, checked, read_toml, shown
from spicad.words import BadInput, Problem, SpicaError, nearest

RAW_CALIBRATIONS = ("bias", "dark", "flat")
MASTERS = ("master-bias", "master-dark", "master-flat", "master-skyflat", "master-fringe")  # by their card MASTER
TYPES = ("science", *RAW_CALIBRATIONS, "weight", "flag", "mask", "stack", "other")

MAPS = ("weight", "flag", "mask")  # that may come with an exposure, as files of their own

FIELDS = {  # what Spica wants to know of an exposure: what it is, for people
    "instrument": "the instrument's name",
    "telescope": "the telescope's name",
    "filter": "the filter",
    "runid": "the run, or the programme",
    "object": "what was observed",
    "obs_id": "the exposure's own number or name",
    "kind": "the type of the exposure",
    "t_exptime": "the exposure time in seconds",
    "airmass": "the airmass",
    "mjd": "the start, as a Modified Julian Date (UTC)",
    "mjd_end": "the end, as a Modified Julian Date (UTC)",
    "date": "the start, as a date with or without a time (UTC)",
    "time": "the start's time of the day, where the date has none",
    "ra": "the right ascension of the pointing",
    "dec": "the declination of the pointing",
    "gain": "the gain in electrons per ADU",
    "saturation": "the level of saturation in ADU",
    "zero_point": "the photometric zero point in magnitudes",
    "seeing": "the seeing in arcsec",
    "detector": "the name of a CCD that has no EXTNAME",
}
TEXTS = ("instrument", "telescope", "filter", "runid", "object", "obs_id", "kind", "date", "time", "detector")
UNITS: dict[str, dict[str, float]] = {  # how much of ours one of theirs is
    "t_exptime": {"s": 1.0, "ms": 1e-3, "min": 60.0, "h": 3600.0},
    "seeing": {"arcsec": 1.0, "deg": 3600.0},
    "ra": {"deg": 1.0, "h": 15.0, "rad": 57.29577951308232},
    "dec": {"deg": 1.0, "rad": 57.29577951308232},
    "mjd": {"day": 1.0, "s": 1 / 86400},
    "mjd_end": {"day": 1.0, "s": 1 / 86400},
}
ZEROS = {"mjd": 0.0, "jd": 2_400_000.5, "unix": -40_587.0}  # of which scale of days, as MJD = days - zero

INSTRUMENT_KEYS = (
    Key("title", "text", REQUIRED, "The instrument's name for people"),
    Key("summary", "text", REQUIRED, "One line: which exposures these are"),
    Key(
        "recognise",
        "list of tables",
        [],
        "[[recognise]]: cards and the values they have, with * and ?; all of one table must hold, of any one table",
    ),
    Key("cards", "table", REQUIRED, "For each thing to know the card that says it, or a list: the first that is there"),
    Key("otherwise", "table", {}, "For each thing to know what it is when no card says it"),
    Key("units", "table of texts", {}, "For each thing to know the unit of its cards, when it is not Spica's"),
    Key("types", "table", {}, "For each type of exposure the words of the card `kind` for it, with * and ?"),
    Key("filters", "table of tables", {}, "For each filter its names in the headers and its edges in nm"),
    Key(
        "sky",
        "text",
        "needed",
        "Whether a science exposure must say by a WCS where it is",
        choices=("needed", "optional"),
    ),
    Key(
        "companions",
        "table",
        {},
        "How an exposure and its maps are called, each with * for what their names share",
    ),
    Key(
        "processed",
        "list of tables",
        [],
        "[[processed]]: cards, as in [[recognise]], of exposures whose pixels are pre-processed already",
    ),
    Key("longitude_deg", "number", 0.0, "East longitude of the telescope, for nights", minimum=-360, maximum=360),
    Key("ahead", "table", {}, "Cards that SCAMP is given in a .ahead file; {runid} and the like are filled in"),
)
FILTER_KEYS = (
    Key("names", "text or list of texts", [], "Its names in the headers, with * and ?; none: as the filter is called"),
    Key("from_nm", "number", None, "Its blue edge", minimum=0, maximum=1e9),
    Key("to_nm", "number", None, "Its red edge", minimum=0, maximum=1e9),
)
COMPANION_KEYS = (
    Key("exposure", "text", REQUIRED, "The name of an exposure, without .fits and the like"),
    *(Key(kind, "text", "", f"The name of its {kind} map") for kind in MAPS),
)
CARD_KEYS = tuple(Key(name, "text or list of texts", (), f"Cards for {words}") for name, words in FIELDS.items())
OTHERWISE_KEYS = tuple(
    Key(name, "text" if name in TEXTS else "number", None, f"Literally, {words}") for name, words in FIELDS.items()
)
UNIT_KEYS = tuple(
    Key(
        name,
        "text",
        "",
        f"The unit of {FIELDS[name]}",
        choices=(*units, *(ZEROS if name.startswith("mjd") else ())),
    )
    for name, units in UNITS.items()
)
TYPE_KEYS = tuple(Key(name, "text or list of texts", [], f"Words for {name}") for name in TYPES if name != "other")

_CARD = re.compile(r"[A-Z0-9_-]{1,8}|[A-Z0-9_-]+( [A-Z0-9_-]+)+")


@dataclass(frozen=True)
class Filter:
    """A filter as Spica calls it; its edges in metres, None where they are not known."""

    name: str
    names: tuple[str, ...] = ()
    em_min: float | None = None
    em_max: float | None = None


@dataclass(frozen=True)
class Instrument:
    """How an instrument is recognised and what its cards mean. `name` is the file's."""

    name: str
    title: str
    summary: str
    recognise: tuple[Mapping[str, tuple[str, ...]], ...]
    cards: Mapping[str, tuple[str, ...]]
    otherwise: Mapping[str, Value] = field(default_factory=dict)
    units: Mapping[str, str] = field(default_factory=dict)
    types: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    filters: tuple[Filter, ...] = ()
    needs_sky: bool = True
    companions: Mapping[str, str] = field(default_factory=dict)  # by exposure, weight, flag, mask: a pattern of names
    ahead: Mapping[str, Value] = field(default_factory=dict)
    processed: tuple[Mapping[str, tuple[str, ...]], ...] = ()
    longitude_deg: float = 0.0

    def has_processed(self, headers: Sequence[Mapping[str, Value]]) -> bool:
        """Whether the headers say that somebody has taken the instrument's signature off the pixels."""
        return any(_all_hold(table, headers) for table in (*self.processed, {"PREPROC": ("*",)}))

    def filter_named(self, said: str) -> Filter:
        """What a header's word for a filter means; the word itself when the file does not list it."""
        word = said.casefold()
        for one in self.filters:
            if any(fnmatchcase(word, name.casefold()) for name in one.names):
                return one
        return Filter(said)

    def type_named(self, said: str) -> str:
        """science, bias, ...; "other" when the file does not list the word, "" when there is none."""
        if not said:
            return ""
        word = said.casefold()
        return next(
            (kind for kind, words in self.types.items() if any(fnmatchcase(word, each.casefold()) for each in words)),
            "other",
        )

    def companion(self, stem: str) -> tuple[str, str]:
        """(stem of its exposure, "weight", "flag" or "mask") of a map by its stem; both "" for any other."""
        for kind in MAPS:
            if found := _renamed(stem, self.companions.get(kind, ""), self.companions.get("exposure", "")):
                return found, kind
        return "", ""

    def map_of(self, stem: str, kind: str) -> str:
        """What the map of an exposure is called; "" when the file does not say so."""
        return _renamed(stem, self.companions.get("exposure", ""), self.companions.get(kind, ""))

    def in_our_unit(self, name: str, number: float) -> float:
        unit = self.units.get(name, "")
        if unit in ZEROS:
            return (number / 86400 if unit == "unix" else number) - ZEROS[unit]
        return number * UNITS[name][unit] if unit else number


@dataclass(frozen=True)
class Instruments:
    """All of them. The one that recognises most about a file has it; what nobody recognises is the generic one's."""

    folder: str
    known: tuple[Instrument, ...]

    @cached_property
    def keys(self) -> frozenset[str]:
        """Every card that any of them looks at."""
        found: set[str] = set()
        for one in self.known:
            found.update(*one.cards.values(), *one.recognise, *one.processed)
        return frozenset(found)

    def companion(self, stem: str) -> tuple[str, str]:
        """(stem of its exposure, its kind) of a map whose name one of them knows; both "" for any other."""
        return next((found for one in self.known if (found := one.companion(stem))[1]), ("", ""))

    def named(self, name: str) -> Instrument:
        """By the name of its file; the generic one when there is none."""
        return next((one for one in self.known if one.name == name), self.generic)

    def of(self, headers: Sequence[Mapping[str, Value]]) -> Instrument:
        holding = [_recognised(one, headers) for one in self.known]
        most = max(holding)
        return self.known[holding.index(most)] if most else self.generic

    @cached_property
    def generic(self) -> Instrument:
        return next(one for one in self.known if not one.recognise)

    def __hash__(self) -> int:
        return hash(self.folder)


def _renamed(stem: str, pattern: str, other: str) -> str:
    """The stem with what each * of a pattern stands for put into the other; "" when it does not fit."""
    found = _stars(pattern).fullmatch(stem) if pattern and other else None
    return "".join(chain.from_iterable(zip_longest(other.split("*"), found.groups(), fillvalue=""))) if found else ""


@lru_cache(maxsize=64)
def _stars(pattern: str) -> re.Pattern[str]:
    return re.compile("(.*?)".join(map(re.escape, pattern.split("*"))))


def _recognised(one: Instrument, headers: Sequence[Mapping[str, Value]]) -> int:
    """How many conditions of its best table hold; 0 when none holds as a whole."""
    return max((len(table) for table in one.recognise if _all_hold(table, headers)), default=0)


def _all_hold(table: Mapping[str, tuple[str, ...]], headers: Sequence[Mapping[str, Value]]) -> bool:
    for card, patterns in table.items():
        value = next((header[card] for header in headers if header.get(card) is not None), None)
        said = "" if value is None else str(value).strip().casefold()
        if not any(fnmatchcase(said, pattern.casefold()) if said else not pattern for pattern in patterns):
            return False
    return True


@lru_cache(maxsize=8)
def shipped() -> Instruments:
    """Those that came with this Spica, for who has no spica.conf at hand."""
    return load_instruments(shipped_folder() / "instruments")


def instruments_in(folder: Path) -> Instruments:
    """Those of the folder that spica.conf names; those that came with Spica where there is no such folder."""
    return load_instruments(folder) if folder.is_dir() else shipped()


def load_instruments(folder: Path) -> Instruments:
    """Every *.toml of `folder`. Raises BadInput with all that is wrong in them."""
    problems: list[Problem] = []
    known = []
    for path in sorted(Path(folder).glob("*.toml")):
        try:
            known.append(load_instrument(path))
        except BadInput as error:
            problems += error.problems
    if not problems and sum(not one.recognise for one in known) != 1:
        what = "exactly one instrument must be for what no other recognises: without [[recognise]]."
        problems.append(Problem(str(folder), what, "Look for generic.toml."))
    if problems:
        raise BadInput(problems)
    return Instruments(str(folder), tuple(known))


def load_instrument(path: Path) -> Instrument:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SpicaError(f"{path}: cannot be read: {error}") from None
    return parse_instrument(text, str(path), path.stem)


def parse_instrument(text: str, source: str, name: str) -> Instrument:
    """Raises BadInput with every problem: line, what is wrong, nearest spelling."""
    document = read_toml(text, source)
    problems: list[Problem] = []
    values = checked(document, INSTRUMENT_KEYS, (), problems)
    if problems:
        raise BadInput(problems)

    def section(part: str, keys: Sequence[Key]) -> dict[str, Any]:
        return checked(document, keys, (part,), problems) if part in document.table else {}

    cards = section("cards", CARD_KEYS)
    otherwise = section("otherwise", OTHERWISE_KEYS)
    units = section("units", UNIT_KEYS)
    types = section("types", TYPE_KEYS)
    companions = {name: said for name, said in section("companions", COMPANION_KEYS).items() if said}
    filters = {each: checked(document, FILTER_KEYS, ("filters", each), problems) for each in values["filters"]}
    recognise, processed = (
        [_conditions(document, table, number, problems) for number in range(len(values[table]))]
        for table in ("recognise", "processed")
    )
    for each, said in companions.items():
        if said.count("*") != companions["exposure"].count("*"):
            what = f'"{each}" must have as many * as "exposure".'
            problems.append(document.problem(("companions", each), what))
    if problems:
        raise BadInput(problems)
    made = Instrument(
        name=name,
        title=values["title"],
        summary=values["summary"],
        recognise=tuple(recognise),
        cards={each: tuple(_cards_of(document, each, said, problems)) for each, said in cards.items() if said},
        otherwise={each: said for each, said in otherwise.items() if said is not None},
        units={each: said for each, said in units.items() if said},
        types={each: _list(said) for each, said in types.items() if said},
        filters=tuple(_filter(document, each, said, problems) for each, said in filters.items()),
        needs_sky=values["sky"] == "needed",
        companions=companions,
        ahead=_ahead(document, values["ahead"], problems),
        processed=tuple(processed),
        longitude_deg=values["longitude_deg"],
    )
    kind = otherwise.get("kind")
    if kind is not None and kind not in TYPES:
        what = f'"kind" is {shown(kind)} but must be one of {", ".join(TYPES)}.'
        problems.append(document.problem(("otherwise", "kind"), what, nearest(kind, TYPES)))
    if problems:
        raise BadInput(problems)
    return made


def _list(said: str | Sequence[str]) -> tuple[str, ...]:
    return (said,) if isinstance(said, str) else tuple(said)


def _cards_of(document: Document, name: str, said: str | Sequence[str], problems: list[Problem]) -> Iterable[str]:
    for card in _list(said):
        plain = _plain_card(card)
        if not _CARD.fullmatch(plain):
            problems.append(document.problem(("cards", name), *_no_card(card)))
        yield plain


def _plain_card(card: str) -> str:
    return " ".join(card.split()).removeprefix("HIERARCH ")


def _no_card(card: str) -> tuple[str, str]:
    what = f"{shown(card)} is no name of a FITS card."
    if _CARD.fullmatch(_plain_card(card.upper())):
        return what, f'Did you mean "{card.upper()}"?'
    return what, 'Eight capitals or digits at most, or words as in "ESO INS FILT1 NAME".'


def _conditions(document: Document, name: str, number: int, problems: list[Problem]) -> dict[str, tuple[str, ...]]:
    table = {}
    for card, said in document.table[name][number].items():
        plain = _plain_card(card)
        if not _CARD.fullmatch(plain):
            problems.append(document.problem((name, number, card), *_no_card(card)))
        if not KINDS["text or list of texts"](said):
            what = f'"{card}" is {shown(said)} but must be a text or list of texts.'
            problems.append(document.problem((name, number, card), what, 'Such as "Mega*".'))
        else:
            table[plain] = _list(said)
    if not table:
        problems.append(document.problem((name, number), f"[[{name}]] names no card.", "Name one, or none."))
    return table


def _filter(document: Document, name: str, said: Mapping[str, Any], problems: list[Problem]) -> Filter:
    blue, red = said["from_nm"], said["to_nm"]
    if (blue is None) != (red is None) or (blue is not None and blue >= red):
        what = "from_nm and to_nm belong together, the smaller first."
        problems.append(document.problem(("filters", name), what))
        blue = red = None
    edges = (None, None) if blue is None else (blue * 1e-9, red * 1e-9)
    return Filter(name, _list(said["names"]) or (name,), *edges)


def _ahead(document: Document, said: Mapping[str, Any], problems: list[Problem]) -> dict[str, Value]:
    for card, value in said.items():
        if not re.fullmatch(r"[A-Z0-9_-]{1,8}", card):
            problems.append(document.problem(("ahead", card), *_no_card(card)))
        if not isinstance(value, str | int | float):
            problems.append(document.problem(("ahead", card), f'"{card}" must be a text or a number.'))
        for name in re.findall(r"\{(.*?)\}", value) if isinstance(value, str) else []:
            if name not in FIELDS:
                mend = nearest(name, FIELDS) or f"Known: {', '.join(FIELDS)}."
                problems.append(document.problem(("ahead", card), f"nothing is called {{{name}}}.", mend))
    return dict(said)


def ahead_text(instrument: Instrument, understood: Callable[[str], Value], ccds: int) -> str:
    """A .ahead file for SCAMP: for each of `ccds` the cards that its catalogue's header lacks; "" when there are none.

    A card whose value is unknown is left out.
    """
    lines = []
    for card, value in instrument.ahead.items():
        if isinstance(value, str):
            names = re.findall(r"\{(.*?)\}", value)
            known = {name: understood(name) for name in names}
            if None in known.values() or "" in known.values():
                continue
            value = known[names[0]] if value == "{" + "".join(names[:1]) + "}" else value.format(**known)
        lines.append(_card_line(card, value))
    return ("\n".join(lines) + "\nEND     \n") * ccds if lines else ""


def _card_line(card: str, value: Value) -> str:
    if isinstance(value, bool):
        return f"{card:<8}= {'T' if value else 'F':>20}"
    if isinstance(value, str):
        plain = "".join(sign if " " <= sign <= "~" else "?" for sign in value)[:68].replace("'", "''")
        return f"{card:<8}= '{plain:<8}'"[:80]
    return f"{card:<8}= {value!r:>20}"

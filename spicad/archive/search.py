"""Finds exposures in the archive: by place, columns, tags, names and selections, all of them together.

The tables must be open (tables.connect). Pages, `spica find`, job files and rules all search through here; how what is
found is shown is theirs. A place is tried in two steps: by outlines.py's index, then by overlaps.py's exact test.
"""

from __future__ import annotations

import json
import math
import operator
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from itertools import compress
from typing import Any, Protocol, TypeVar

import peewee

from spicad.archive import cells, conditions, coordinates, outlines
from spicad.archive.cells import Cap
from spicad.archive.instruments import MASTERS, TYPES
from spicad.archive.overlaps import Box, Cone, Footprint, footprint_of, spot
from spicad.schema import shown
from spicad.tables import COUNTED_BY_ID, LONGEST_TEXT, Exposure, Ingredient, Selected, Tagged, database
from spicad.words import BadInput, Problem, nearest

KINDS = (*(kind for kind in TYPES if kind != "other"), *MASTERS)
SORTS: dict[str, Any] = {**conditions.COLUMNS, "name": Exposure.name, "obs_id": Exposure.obs_id, "kind": Exposure.kind,
                         "registered": Exposure.registered}  # fmt: skip
FACETS: dict[str, Any] = {
    "instrument": Exposure.instrument_name,
    "filter": Exposure.filter,
    "runid": Exposure.runid,
    "grade": Exposure.grade,
    "kind": Exposure.kind,
    "object": Exposure.target_name,
}
USUAL_FACETS = ("filter", "runid", "grade")
CLOSENESS = "x * {0} + y * {0} + z * {0}"  # of an outline to a cap, see outlines.py
EACH_SIZE = "SELECT DISTINCT size FROM outline"  # MySQL goes from one to the next in the index
EACH_SIZE_STEP_BY_STEP = """
    WITH RECURSIVE each(size) AS (
        SELECT MIN(size) FROM outline
        UNION ALL SELECT (SELECT MIN(size) FROM outline WHERE size > each.size) FROM each WHERE size IS NOT NULL
    )
    SELECT size FROM each
"""
MOST_AT_ONCE = 400  # cells of one query
JSON_TABLE_SINCE = (10, 6)  # MariaDB; EL 9 has 10.5
MOST_ASKED = 20  # queries of one statement
LONG_RUN = 64  # cells; what is longer is asked for by itself
MOST_BOUND = 500  # values of one statement
LIKE_POSITION = re.compile(r"[-+0-9.,:\s°'\"hmsdeg]*")
FITS_NAMES = (".fits", ".fits.fz", ".fits.gz", ".fit")
WIDEST_OBJECT_DEG = 5.0  # farther apart than this, exposures of one name show no one place


T = TypeVar("T")


class Place(Protocol):
    is_all_of_pieces: bool

    def pieces(self) -> list[list[Cap]]: ...
    def touched(self, polygons: Sequence[str]) -> list[bool]: ...


@dataclass(frozen=True)
class OfObject:
    """Where the exposures of that name are: they themselves, and no point that may lie in a gap between their CCDs."""

    name: str


@dataclass(frozen=True)
class Range:
    """From `least` to `most`, both taken; None: no such end."""

    least: float | None = None
    most: float | None = None


@dataclass(frozen=True)
class Wanted:
    """What to look for; what is empty does not narrow. In texts, * stands for any characters."""

    place: Place | OfObject | None = None
    kinds: tuple[str, ...] = ("science",)  # empty: all
    instruments: tuple[str, ...] = ()
    filters: tuple[str, ...] = ()
    runids: tuple[str, ...] = ()
    objects: tuple[str, ...] = ()
    names: tuple[str, ...] = ()  # of files
    tags: tuple[str, ...] = ()  # all of them
    selections: tuple[int, ...] = ()  # any of them; see selections.py
    exposures: tuple[int, ...] | None = None  # these alone
    mjd: Range = field(default_factory=Range)  # of the start
    t_exptime: Range = field(default_factory=Range)
    airmass: Range = field(default_factory=Range)
    seeing: Range = field(default_factory=Range)
    grade: str = ""  # the worst that is taken; what has none passes only with is_ungraded_taken
    is_ungraded_taken: bool = False
    condition: str = ""
    made_of: str = ""  # master frames that hold the frame of this name: of its file, or its own


# What touches a place


def exposures_at(place: Place) -> list[int]:
    """The numbers of all exposures whose footprint touches the place, in order."""
    asked = [
        query for size in _sizes() for caps in place.pieces() for query in _near(caps, size, place.is_all_of_pieces)
    ]
    words = [word for some in _portions(asked, MOST_ASKED) for word in _words(some)]
    found = {int(word) for word in words if " " not in word}
    unsure = [word.split(" ", 1) for word in words if " " in word]
    numbers = [int(number) for number, _ in unsure]
    left = [number not in found for number in numbers]
    touched = place.touched([corners for _, corners in compress(unsure, left)])
    return sorted(found.union(compress(compress(numbers, left), touched)))


def _sizes() -> list[int]:
    """Those that some outline has."""
    there = database.execute_sql(EACH_SIZE if _is_mysql() else EACH_SIZE_STEP_BY_STEP)
    return [size for (size,) in there if size is not None]


@dataclass(frozen=True)
class Query:
    """Of outlines: what is `told` of each that is `chosen`."""

    told: str
    chosen: str  # SQL from FROM on
    values: list[Any]


def _near(caps: Sequence[Cap], size: int, is_all: bool) -> Iterator[Query]:
    """Of all outlines of that size that may touch what the caps have in common."""
    told, sure = _told(caps, size, is_all)
    may = " AND ".join(["size = {0}"] + [f"{CLOSENESS} >= {{0}}"] * len(caps))
    near = [value for centre, radius in outlines.wider(caps, size) for value in (*centre, outlines.least(radius))]
    short: list[int] = []
    for first, last in outlines.cells_near(caps, size):
        if last - first < LONG_RUN:
            short += range(first, last + 1)
        else:
            chosen = f"outline WHERE cell BETWEEN {{0}} AND {{0}} AND {may}"
            yield Query(told, chosen, [*sure, first, last, size, *near])
    listed = _list_of_cells()
    for some in _portions(short, MOST_AT_ONCE):
        if listed:
            chosen = f"{listed} outline ON cell = value WHERE {may}"
            yield Query(told, chosen, [*sure, json.dumps(some), size, *near])
        else:
            chosen = f"outline WHERE cell IN ({', '.join(['{0}'] * len(some))}) AND {may}"
            yield Query(told, chosen, [*sure, *some, size, *near])


def _list_of_cells() -> str:
    """SQL that joins a JSON list to what follows, its text always the same; '' where the database cannot."""
    if not _is_mysql():
        return "json_each({0}) AS listed CROSS JOIN"
    has_it = database.server_version >= JSON_TABLE_SINCE
    return "JSON_TABLE({0}, '$[*]' COLUMNS (value INT PATH '$')) AS listed STRAIGHT_JOIN" if has_it else ""


def _told(caps: Sequence[Cap], size: int, is_all: bool) -> tuple[str, list[float]]:
    """SQL for an outline's exposure, with the corners after it where only they can tell."""
    both = "CONCAT(exposure, ' ', corners)" if _is_mysql() else "exposure || ' ' || corners"
    if not is_all:
        return both, []
    touches = " AND ".join(["held >= 0"] + [f"{CLOSENESS} + held * {{0}} >= {{0}}"] * len(caps))
    sure = [value for cap in caps for value in (*cap.centre, *outlines.sure_of(caps, cap, size))]
    return f"CASE WHEN {touches} THEN exposure ELSE {both} END", sure


def _words(queries: Sequence[Query]) -> list[str]:
    """They come as one text for each query: a row for each word would take longer than to find it."""
    texts = _asked("GROUP_CONCAT({})", queries)
    if any(len(text) >= LONGEST_TEXT for text in texts):  # MySQL has cut it off
        return _asked("{}", queries)
    return ",".join(texts).split(",") if texts else []


def _asked(form: str, queries: Sequence[Query]) -> list[str]:
    each = (f"SELECT {form.format(query.told)} FROM {query.chosen}" for query in queries)  # noqa: S608
    values = [value for query in queries for value in query.values]
    rows = database.execute_sql(" UNION ALL ".join(each).format(database.param), values)
    return [str(answer) for (answer,) in rows if answer is not None]  # none: of no row


def _is_mysql() -> bool:
    return isinstance(database.obj, peewee.MySQLDatabase)


def ingredients_of(numbers: Sequence[int]) -> dict[int, list[str]]:
    """The names of the frames that each of these master frames is made of."""
    found: dict[int, list[str]] = {}
    for some in _portions(numbers, MOST_BOUND):
        query: Any = Ingredient.select().where(Ingredient.exposure.in_(list(some))).order_by(Ingredient.name)
        for each in query:
            found.setdefault(each.exposure, []).append(each.name)
    return found


def _portions(values: Sequence[T], most: int) -> Iterator[Sequence[T]]:
    return (values[start : start + most] for start in range(0, len(values), most))


def place_of_exposure(number: int) -> Footprint | None:
    """To look for what overlaps it; None when it has no place on the sky."""
    columns: list[Any] = [Exposure.s_region, Exposure.s_ra, Exposure.s_dec]
    row: Any = Exposure.select(*columns).where(Exposure.id == number).tuples().first() or ("", None, None)
    region, ra, dec = row
    found = footprint_of(region) if region or ra is None else spot(ra, dec)
    return found if found.polygons else None


def place_of_object(name: str) -> Cone:
    """The middle of the exposures of that name. Raises BadInput when there are none, or they lie far apart."""
    query: Any = Exposure.select(Exposure.s_ra, Exposure.s_dec).where(
        (Exposure.target_name == name) & Exposure.s_ra.is_null(False) & Exposure.s_dec.is_null(False)
    )
    places = [cells.vector(ra, dec) for ra, dec in query.tuples()]
    if not places:
        raise _no_object(name, "exposure with a place")
    cap = cells.enclosing(places)
    if math.degrees(cap.radius) > WIDEST_OBJECT_DEG:
        what = f"the exposures of {shown(name)} lie up to {2 * math.degrees(cap.radius):.0f} degrees apart."
        raise BadInput(Problem("archive", what, "Give a position."))
    return Cone(*cells.position(cap.centre))


def _no_object(name: str, what: str) -> BadInput:
    known: Any = Exposure.select(Exposure.target_name).distinct().limit(5000)
    mend = nearest(name, [word for (word,) in known.tuples()]) or "Give a position."
    return BadInput(Problem("archive", f"no {what} is of the object {shown(name)}.", mend))


# All conditions together


def matching(wanted: Wanted) -> list[Any]:
    """Conditions for peewee's where(*...). Raises BadInput when one of them cannot be."""
    found: list[Any] = []
    if isinstance(wanted.place, OfObject):
        found.append(Exposure.target_name == wanted.place.name)
    elif wanted.place is not None:
        found.append(among(exposures_at(wanted.place)))
    if wanted.exposures is not None:
        found.append(among(wanted.exposures))
    if wanted.kinds:
        found.append(Exposure.kind.in_(wanted.kinds))
    texts = {
        Exposure.instrument_name: wanted.instruments,
        Exposure.filter: wanted.filters,
        Exposure.runid: wanted.runids,
        Exposure.target_name: wanted.objects,
        Exposure.name: wanted.names,
    }
    found += [_any_of(column, words) for column, words in texts.items() if words]
    for tag in wanted.tags:
        found.append(Exposure.id.in_(Tagged.select(Tagged.exposure).where(Tagged.tag == tag)))
    if wanted.selections:
        found.append(Exposure.id.in_(Selected.select(Selected.exposure).where(Selected.selection << wanted.selections)))
    for name in ("mjd", "t_exptime", "airmass", "seeing"):
        found += _within(conditions.COLUMNS[name], getattr(wanted, name))
    if wanted.grade:
        graded = (Exposure.grade != "") & (Exposure.grade <= wanted.grade)
        found.append(graded | (Exposure.grade == "") if wanted.is_ungraded_taken else graded)
    if wanted.made_of:
        frames = Exposure.select(Exposure.sha256).where(Exposure.name.in_(_spellings(wanted.made_of)))
        holds = (Ingredient.name == wanted.made_of) | Ingredient.sha256.in_(frames)
        found.append(Exposure.id.in_(Ingredient.select(Ingredient.exposure).where(holds)))
    if wanted.condition:
        try:
            found.append(conditions.where(wanted.condition))
        except ValueError as error:
            raise BadInput(Problem("condition", str(error))) from None
    return found


def among(numbers: Collection[int]) -> Any:
    """`id IN (these)`, as one bound value however many they are."""
    if len(numbers) <= MOST_BOUND:
        return Exposure.id.in_(list(numbers))
    if _is_mysql():
        sql = "(SELECT id FROM JSON_TABLE(%s, '$[*]' COLUMNS (id BIGINT PATH '$')) AS listed)"
    else:
        sql = "(SELECT value FROM json_each(?))"
    listed = peewee.SQL(sql, (json.dumps(list(numbers), separators=(",", ":")),))
    return peewee.Expression(Exposure.id, peewee.OP.IN, listed)


def _any_of(column: Any, words: Sequence[str]) -> Any:
    exact = [word for word in words if "*" not in word]
    parts = [column.in_(exact)] if exact else []
    for word in words:
        if "*" in word:
            escaped = word.replace("!", "!!").replace("%", "!%").replace("_", "!_").replace("*", "%")
            lowered = peewee.fn.LOWER(column)
            parts.append(
                peewee.Expression(
                    lowered, peewee.OP.ILIKE, peewee.SQL(f"{database.param} ESCAPE '!'", (escaped.lower(),))
                )
            )
    return reduce(operator.or_, parts)


def _within(column: Any, limits: Range) -> list[Any]:
    found = []
    if limits.least is not None:
        found.append(column >= limits.least)
    if limits.most is not None:
        found.append(column <= limits.most)
    return found


# Answers


@dataclass(frozen=True)
class Page:
    rows: Sequence[Mapping[str, Any]]  # one for each exposure, by the names of tables.Exposure
    total: int


class Found:
    """What a search has found; the place is looked at once, whatever is asked of it."""

    def __init__(self, wanted: Wanted) -> None:
        self.where = matching(wanted)
        self.is_by_id = bool(wanted.place is not None or wanted.exposures is not None or wanted.selections)

    def _narrowed(self, query: Any) -> Any:
        return query.where(*self.where) if self.where else query

    def count(self) -> int:
        return int(self._narrowed(Exposure.select()).count())

    def numbers(self) -> list[int]:
        return [number for (number,) in self._narrowed(Exposure.select(Exposure.id)).order_by(Exposure.id).tuples()]

    def page(self, sort: str = "mjd", limit: int = 50, offset: int = 0) -> Page:
        """Sorted by one of SORTS, "-" before it for the greatest first. Raises BadInput for another word."""
        return Page(list(self.rows(sort, limit, offset)), self.count())

    def rows(self, sort: str = "mjd", limit: int = 0, offset: int = 0) -> Iterator[dict[str, Any]]:
        query = self._narrowed(Exposure.select()).order_by(*_order(sort))
        if limit or offset:
            query = query.limit(limit or 2**62).offset(offset)
        yield from query.dicts().iterator()

    def facets(self, names: Sequence[str] = USUAL_FACETS) -> dict[str, dict[str, int]]:
        """For each of `names` how many there are of each value, the commonest first; in one pass over the rows."""
        columns = [_known("facet", name, FACETS) for name in names]
        query = self._narrowed(Exposure.select(*columns, peewee.fn.COUNT(peewee.SQL("*"))))
        if self.is_by_id and set(names) <= set(USUAL_FACETS):
            query = query.from_(exposures_by(COUNTED_BY_ID))
        found: dict[str, dict[str, int]] = {name: {} for name in names}
        for *values, count in query.group_by(*columns).tuples():
            for name, value in zip(names, values, strict=True):
                found[name][value] = found[name].get(value, 0) + count
        return {name: dict(sorted(each.items(), key=lambda item: (-item[1], item[0]))) for name, each in found.items()}


def exposures_by(index: str) -> Any:
    """The table, under the name that peewee gives to the first one of a query, to be read by that index."""
    hint = "FORCE INDEX ({})" if _is_mysql() else "INDEXED BY {}"
    return peewee.SQL(f"exposure AS t1 {hint.format(index)}")


def _order(sort: str) -> list[Any]:
    column = _known("sort", sort.removeprefix("-"), SORTS)
    return [column.desc(), Exposure.id.desc()] if sort.startswith("-") else [column, Exposure.id]


def _known(what: str, name: str, table: Mapping[str, Any]) -> Any:
    if name not in table:
        mend = nearest(name, table) or f"Known: {', '.join(table)}."
        raise BadInput(Problem(what, f"unknown column {shown(name)}.", mend))
    return table[name]


# Lists of names


@dataclass(frozen=True)
class Named:
    """What a list of names has found: numbers of exposures by name, and the names of none."""

    found: Mapping[str, tuple[int, ...]]
    missing: tuple[str, ...]

    @property
    def numbers(self) -> tuple[int, ...]:
        return tuple(dict.fromkeys(number for numbers in self.found.values() for number in numbers))


def named(words: Iterable[str]) -> Named:
    """Exposures by file name (also without its .fits), path, or observation number; each word once."""
    listed = list(dict.fromkeys(word.strip() for word in words if word.strip()))
    spellings = {word: _spellings(word) for word in listed}
    numbers = _by_name(sorted({spelling for each in spellings.values() for spelling in each}))
    found = {word: tuple(dict.fromkeys(n for s in spellings[word] for n in numbers.get(s, ()))) for word in listed}
    return Named(
        {word: each for word, each in found.items() if each}, tuple(word for word in listed if not found[word])
    )


def words_of(text: str) -> list[str]:
    """The names of an uploaded list: one a line (a # begins a comment) or between commas or spaces."""
    lines = (line.partition("#")[0].replace(",", " ") for line in text.splitlines())
    return [word for line in lines for word in line.split()]


def _spellings(word: str) -> list[str]:
    plain = word.rpartition("/")[2]
    return [plain, *(plain + suffix for suffix in FITS_NAMES if not plain.endswith(FITS_NAMES)), word]


def _by_name(names: Sequence[str]) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for start in range(0, len(names), MOST_BOUND):
        some = names[start : start + MOST_BOUND]
        query: Any = Exposure.select(Exposure.id, Exposure.name, Exposure.obs_id).where(
            Exposure.name.in_(some) | Exposure.obs_id.in_(some)
        )
        for number, name, obs_id in query.order_by(Exposure.id).tuples():
            for word in {name, obs_id}:
                found.setdefault(word, []).append(number)
    return found


def place(text: str, radius: str = "0") -> Cone | OfObject:
    """From what a person wrote: a cone round a position or round an object of the archive, or without a radius that
    object itself. Raises BadInput."""
    try:
        size = coordinates.size(radius)
    except ValueError as error:
        raise BadInput(Problem("radius", str(error))) from None
    try:
        return Cone(*coordinates.position(text), size)
    except ValueError as error:
        if LIKE_POSITION.fullmatch(text):
            raise BadInput(Problem("position", str(error))) from None
    name = text.strip()
    if not size:
        if not Exposure.select().where(Exposure.target_name == name).exists():
            raise _no_object(name, "exposure")
        return OfObject(name)
    middle = place_of_object(name)
    return Cone(middle.ra, middle.dec, size)


def box(words: Sequence[str]) -> Box:
    """West, east, south, north, in degrees or sexagesimal. Raises BadInput."""
    if len(words) != 4:
        raise BadInput(Problem("box", f"{shown(' '.join(words))} is no box.", "Write west, east, south and north."))
    west, east, south, north = words
    try:
        is_all_round = east in ("360", "360.0") and west in ("0", "0.0")
        sides = (coordinates.right_ascension(west), 360.0 if is_all_round else coordinates.right_ascension(east))
        ends = (coordinates.declination(south), coordinates.declination(north))
    except ValueError as error:
        raise BadInput(Problem("box", str(error))) from None
    if ends[0] > ends[1]:
        raise BadInput(Problem("box", f"the southern end {south} lies north of {north}.", "Exchange them."))
    return Box(*sides, *ends)


def overlapping(name: str) -> Footprint:
    """The place of the exposure of that name. Raises BadInput."""
    numbers = named([name]).numbers
    found = place_of_exposure(numbers[0]) if numbers else None
    if found is None:
        what = f"{shown(name)} has no place on the sky." if numbers else f"there is no exposure {shown(name)}."
        raise BadInput(Problem("overlaps", what, "See: spica find --name"))
    return found

"""What a job asks of the archive: exposures by name, a [select] table, neighbours that its tasks are widened with.

The search is archive/search.py's. Whether a picked file may be read by the job's owner is judged at the desk.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields, replace
from datetime import date, datetime
from typing import Any

import peewee

from spicad import rows, tables
from spicad.archive import cells, coordinates, search, selections
from spicad.archive.headers import Exposure
from spicad.archive.instruments import RAW_CALIBRATIONS
from spicad.archive.overlaps import Cone
from spicad.archive.picks import Picked, Picks
from spicad.archive.search import Found, OfObject, Place, Range, Wanted
from spicad.config import Settings
from spicad.jobfile import Job
from spicad.people import Person
from spicad.rules import Rules, Widen
from spicad.words import BadInput, Problem, SpicaError

AT_ONCE = 500
MEASURED = ("seeing", "elongation", "background", "limiting_magnitude", "stars")  # of Picked and of headers.Exposure
PICKED = tuple(each.name for each in fields(Picked))

_current: dict[str, Any] = {}  # the database that was open when its schema was last looked at


@contextmanager
def open_archive(settings: Settings) -> Iterator[None]:
    """For this thread, as long as it lasts. Raises SpicaError when it cannot be read."""
    database = tables.database
    is_ours = database.obj is None
    opened = None if is_ours or database.is_closed() else database.obj  # for longer, by the daemon or the site
    if is_ours:
        tables.connect_to_read(settings.database)
    try:
        with _as_it_is() if is_ours or opened else database.obj.connection_context():
            if opened is None or opened is not _current.get("database"):
                tables.require_current()
                _current["database"] = opened
            yield
    except peewee.PeeweeException as error:
        raise SpicaError(f"The archive cannot be searched now: {error}") from None
    finally:
        if is_ours:
            database.close()
            database.initialize(None)


@contextmanager
def _as_it_is() -> Iterator[None]:
    yield


def asks(job: Job) -> bool:
    return job.select is not None or any(not name.startswith("/") for name in (*job.exposures, *job.calibration))


def unasked(job: Job, why: SpicaError) -> list[Problem]:
    """When there is no archive to ask."""
    lists = {"exposures": job.exposures, "calibration": job.calibration}
    names = [(key, word) for key, words in lists.items() for word in words if not word.startswith("/")]
    said = [
        Problem(job.source, f'"{key}": {word}: give the whole path, from /.', f"As a name it is not known: {why}")
        for key, word in names
    ]
    return said if job.select is None else [*said, Problem(job.source, f"[select]: {why}")]


def asked(job: Job, owner: Person, node: str) -> Picks:
    """What the job names or selects. The archive is open. Raises BadInput."""
    chosen = _named(job, "exposures", job.exposures, node)
    if job.select is not None:
        chosen += _selected(job, job.select, owner, node)
    return Picks(_each_once(chosen), _each_once(_named(job, "calibration", job.calibration, node)))


def _named(job: Job, key: str, words: Sequence[str], node: str) -> list[Picked]:
    found: list[Picked] = []
    problems = []
    for word in (word for word in words if not word.startswith("/")):
        numbers = Found(Wanted(names=(word,))).numbers() if "*" in word else search.named([word]).numbers
        if not numbers:
            what = f'"{key}": {word} is neither a whole path, from /, nor the name of an exposure of the archive.'
            problems.append(Problem(job.source, what, "See: spica find --name"))
        found += _rows(Wanted(exposures=tuple(numbers), kinds=()), node)
    if problems:
        raise BadInput(problems)
    return found


def _selected(job: Job, table: Mapping[str, Any], owner: Person, node: str) -> list[Picked]:
    try:
        found = _rows(wanted(table, owner), node)
    except BadInput as error:
        raise BadInput([Problem(f"{job.source}, [select]", str(each)) for each in error.problems]) from None
    if not found:
        what = "no exposure of the archive is so."
        raise BadInput(Problem(f"{job.source}, [select]", what, "Try the same with: spica find"))
    return found


def wanted(table: Mapping[str, Any], owner: Person) -> Wanted:
    """A [select] table, checked, as a search. Raises BadInput."""
    kinds = _several(table["kind"])
    return Wanted(
        place=_place(table),
        kinds=() if "any" in kinds else kinds,
        instruments=_several(table["instrument"]),
        filters=_several(table["filter"]),
        runids=_several(table["runid"]),
        objects=_several(table["object"]),
        tags=_several(table["tag"]),
        selections=tuple(int(selections.find(owner, name).id) for name in _several(table["selection"])),
        mjd=Range(_mjd(table["after"]), _mjd(table["before"], is_end=True)),
        grade=table["grade"],
        condition=table["where"],
    )


def _several(value: str | Sequence[str]) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else tuple(value)


def _mjd(moment: date | None, is_end: bool = False) -> float | None:
    if moment is None:
        return None
    return coordinates.mjd(moment.isoformat(), is_end and not isinstance(moment, datetime))


def _place(table: Mapping[str, Any]) -> Place | OfObject | None:
    if sum(bool(table[key]) for key in ("around", "box", "overlaps")) > 1:
        raise BadInput(Problem("select", "more than one place is given.", "Keep one of around, box and overlaps."))
    if table["around"]:
        return search.place(table["around"], f"{table['radius_deg']:.9f}")
    if table["box"]:
        return search.box(table["box"].replace(",", " ").split())
    if table["overlaps"]:
        return search.overlapping(table["overlaps"])
    return None


def _rows(what: Wanted, node: str) -> list[Picked]:
    """Of one name the copy on this node, else any; the newest of those."""
    best: dict[tuple[str, str], Mapping[str, Any]] = {}
    for row in Found(what).rows():
        key = (row["name"], row["sha256"])
        if key not in best or row["node"] == node:
            best[key] = row
    return [_picked(row) for row in best.values()]


def _picked(row: Mapping[str, Any]) -> Picked:
    return Picked(**{name: row[name] for name in PICKED})


def _each_once(picked: Iterable[Picked]) -> tuple[Picked, ...]:
    return tuple({each.path: each for each in picked}.values())


def neighbours(
    rules: Rules, chosen: Sequence[Exposure], node: str, masters: Mapping[str, Sequence[str]]
) -> tuple[Picked, ...]:
    """What the tasks of these rules may be widened and calibrated with, and some more: plan() measures.

    The archive is open.
    """
    found: list[Picked] = []
    for task in rules.tasks:
        if task.widen is not None and set(task.kinds) & set(RAW_CALIBRATIONS):
            found += _rows(_calibrations(task.kinds, task.widen.same, task.widen.within_days, chosen), node)
        elif task.widen is not None:
            for cone in _cones(chosen, task.widen.within_deg):
                found += _rows(replace(_alike(task.widen, chosen, cone), kinds=task.kinds or ("science",)), node)
        if kinds := masters.get(task.application):
            how = task.calibrate
            found += _rows(_calibrations(kinds, how.same, how.within_days, chosen), node)
    paths = {str(exposure.path) for exposure in chosen}
    return tuple(each for each in _each_once(found) if each.path not in paths)


def _calibrations(kinds: Iterable[str], same: Iterable[str], within_days: float, chosen: Sequence[Exposure]) -> Wanted:
    """Whatever may calibrate one of these exposures, wherever on the sky."""
    moments = [each.mjd for each in chosen if each.mjd is not None]
    is_timed = bool(within_days) and len(moments) == len(chosen)
    return Wanted(
        kinds=tuple(kinds),
        instruments=tuple(sorted({each.instrument for each in chosen})),
        runids=tuple(sorted({each.runid for each in chosen})) if "run" in same else (),
        mjd=Range(min(moments) - within_days, max(moments) + within_days) if is_timed else Range(),
    )


def _cones(chosen: Sequence[Exposure], within: float) -> list[Cone]:
    """Round all of them where they lie together, else round each place."""
    places = {
        (round(each.s_ra, 2), round(each.s_dec, 2)): cells.vector(each.s_ra, each.s_dec)
        for each in chosen
        if each.s_ra is not None and each.s_dec is not None
    }
    if not places:
        return []
    cap = cells.enclosing(list(places.values()))
    if cap.radius < 3.0 * max(math.radians(within), math.radians(1.0)):
        return [Cone(*cells.position(cap.centre), min(180.0, within + math.degrees(cap.radius) + 0.02))]
    return [Cone(ra, dec, min(180.0, within + 0.02)) for ra, dec in places]


def _alike(widen: Widen, chosen: Sequence[Exposure], cone: Cone) -> Wanted:
    def alike(word: str, name: str) -> tuple[str, ...]:
        return tuple(sorted({str(getattr(each, name)) for each in chosen})) if word in widen.same else ()

    return Wanted(
        place=cone,
        instruments=alike("instrument", "instrument"),
        filters=alike("filter", "filter"),
        objects=alike("object", "object"),
        runids=alike("run", "runid"),
        grade=widen.grade,
        is_ungraded_taken=True,
    )


def judged(exposures: Sequence[Exposure], picks: Picks) -> list[Exposure]:
    """With the seeing and the grade that the archive knows, where the file is the one that it knows: the same path on
    whatever node, since what is read here under that path is what is stored there."""
    known = {(each.path, each.bytes, each.mtime_ns): each for each in (*picks.exposures, *picks.calibration)}
    rest = [each for each in exposures if (str(each.path), each.size, each.mtime_ns) not in known]
    for start in range(0, len(rest), AT_ONCE):
        names = list({each.path.name for each in rest[start : start + AT_ONCE]})
        found = [Picked(*row) for row in rows.find_all(tables.Exposure, PICKED, "name", names)]
        known |= {(each.path, each.bytes, each.mtime_ns): each for each in found}
    return [with_judgement(each, known.get((str(each.path), each.size, each.mtime_ns))) for each in exposures]


def with_judgement(exposure: Exposure, picked: Picked | None) -> Exposure:
    if picked is None:
        return exposure
    known = {name: getattr(picked, name) for name in MEASURED if getattr(picked, name) is not None}
    return replace(exposure, **known, grade=picked.grade or exposure.grade, graded_by=picked.graded_by)

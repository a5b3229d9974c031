"""Brings exposures into the tables of the archive: what their headers say, where their CCDs lie, where the file is.

`read_for_archive` is stricter than headers.py: what a search could not find, or could find wrongly, is refused. Foreign
files are read through reading.py, in a process of its own. Copying and digests are the affair of who calls.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import peewee

from spicad import fits, tables
from spicad.archive.cells import position
from spicad.archive.headers import Exposure, read_exposure
from spicad.archive.instruments import MASTERS, Instruments
from spicad.archive.outlines import Outline, outlines_of, outlines_of_polygons
from spicad.archive.wcs import polygon_of, region_of
from spicad.fits import FitsProblem
from spicad.tables import Ccd as CcdRow
from spicad.tables import Exposure as ExposureRow
from spicad.tables import Ingredient, database
from spicad.tables import Outline as OutlineRow
from spicad.words import BadInput, Problem, SpicaError

OUTLINED_AT_ONCE = 10_000  # exposures of an upgrade; their rows are written in the order of the table
BATCH = 50  # exposures of one transaction: its sync costs as much as ten of them
LOCK_PATIENCE_S = 60
ON_SKY = ("science", "stack")  # the types of exposure that nobody could find without their place
WIDEST_DEG = 60.0
REFUSED = (fits.TWICE, fits.NOT_ASCII)  # oddities of cards that the archive must not guess about
_CORNERS = "[[%s, %s], [%s, %s], [%s, %s], [%s, %s]]"
_DEFAULTS = {
    name: ExposureRow._meta.defaults.get(field) for name, field in ExposureRow._meta.fields.items() if name != "id"
}
CCD_COLUMNS = ("exposure", "number", "name", "width", "height", "s_ra", "s_dec", "corners")
OUTLINE_COLUMNS = ("size", "cell", "exposure", "number", "x", "y", "z", "held", "corners")


@dataclass(frozen=True)
class Record:
    """What the headers of one file give the archive; plain values, which travel through a pipe."""

    path: str  # where it was read
    bytes: int
    mtime_ns: int
    values: dict[str, Any]  # columns of tables.Exposure
    ccds: tuple[tuple[int, str, int, int, str], ...]  # number, name, width, height; corners as in tables.Outline, or ""
    warnings: tuple[str, ...]
    ingredients: tuple[tuple[str, str], ...] = ()  # of a master frame: name and sha256 of each


@dataclass(frozen=True)
class Arrival:
    """A file that is whole and in its place: what its headers say, its node and path there, its digest."""

    record: Record
    node: str
    path: str
    sha256: str

    @property
    def path_key(self) -> str:
        return path_key(self.node, self.path)


@dataclass(frozen=True)
class Registered:
    """What became of an arrival. `exposure` is the row that holds it, or held it before."""

    arrival: Arrival
    outcome: str  # "registered", "known": this very file was, "duplicate" of another, "changed" under its name
    exposure: int
    words: str  # for people; "" when all is well


def path_key(node: str, path: str) -> str:
    return hashlib.sha256(f"{node}:{path}".encode(errors="surrogateescape")).hexdigest()


# Reading


def read_for_archive(path: Path | str, instruments: Instruments) -> Record:
    """Raises BadInput or FitsProblem with the reason for which the archive does not take it."""
    name = os.fspath(path)
    _require_plain_name(name)
    exposure = read_exposure(Path(name), instruments)
    _require_steady(exposure)
    _require_clear(exposure, instruments)
    return _record(exposure)


def _require_plain_name(name: str) -> None:
    try:
        name.encode()
    except UnicodeEncodeError:
        raise FitsProblem(name, "its name is not UTF-8.", "Rename it.") from None


def _require_steady(exposure: Exposure) -> None:
    try:
        now = os.stat(exposure.path)
    except OSError:
        raise FitsProblem(exposure.path, "vanished while it was read.", "Bring it again.") from None
    if (now.st_size, now.st_mtime_ns) != (exposure.size, exposure.mtime_ns):
        raise FitsProblem(exposure.path, "changed while it was read.", "Bring it when it is whole.")


def _require_clear(exposure: Exposure, instruments: Instruments) -> None:
    path = str(exposure.path)
    unclear = [text for text in exposure.warnings if any(words in text for words in REFUSED)]
    if unclear:
        raise BadInput(Problem(path, text, "Mend the header.") for text in unclear)
    if exposure.kind not in ON_SKY:
        return
    if not any(ccd.corners for ccd in exposure.ccds):
        used = next((one for one in instruments.known if one.name == exposure.known_as), instruments.generic)
        if used.needs_sky or exposure.s_ra is None:
            what = "does not say where it is on the sky: it has no usable WCS (CTYPEi, CRVALi, CRPIXi, CDi_j)."
            mend = f'Solve it first; calibrations need none, if {exposure.known_as}.toml knows their word for "kind".'
            raise BadInput(Problem(path, what, mend))
    elif exposure.radius_deg is not None and exposure.radius_deg > WIDEST_DEG:
        what = f"its CCDs lie up to {2 * exposure.radius_deg:.0f} degrees apart, by their WCS."
        raise BadInput(Problem(path, what, "Look at CRVALi and CRPIXi of each."))


def _record(exposure: Exposure) -> Record:
    return Record(
        path=str(exposure.path),
        bytes=exposure.size,
        mtime_ns=exposure.mtime_ns,
        values=_values(exposure),
        ccds=tuple([(ccd.hdu, ccd.name[:68], ccd.width, ccd.height, polygon_of(ccd.corners)) for ccd in exposure.ccds]),
        warnings=exposure.warnings,
        ingredients=_ingredients(exposure) if exposure.kind in MASTERS else (),
    )


def _ingredients(exposure: Exposure) -> tuple[tuple[str, str], ...]:
    """As preprocess writes them: INGR0001 and ISHA0001, and so on."""
    header = fits.scan(exposure.path).hdus[0].header
    found = {}
    for number in range(1, 10_000):
        name, digest = header.get(f"INGR{number:04d}"), header.get(f"ISHA{number:04d}")
        if not isinstance(digest, str) or not re.fullmatch("[0-9a-f]{64}", digest):
            break
        found[digest] = str(name or "")[:68]
    return tuple((name, digest) for digest, name in found.items())


def _values(exposure: Exposure) -> dict[str, Any]:
    return {
        "obs_id": exposure.obs_id[:100],
        "instrument_name": exposure.instrument[:64],
        "facility_name": exposure.telescope[:64],
        "filter": exposure.filter[:32],
        "runid": exposure.runid[:64],
        "target_name": exposure.object[:100],
        "kind": exposure.kind,
        "s_ra": exposure.s_ra,
        "s_dec": exposure.s_dec,
        "s_fov": None if exposure.radius_deg is None else 2 * exposure.radius_deg,
        "t_min": exposure.mjd,
        "t_max": exposure.mjd_end,
        "t_exptime": exposure.t_exptime,
        "em_min": exposure.em_min,
        "em_max": exposure.em_max,
        "airmass": exposure.airmass,
        "gain": exposure.gain,
        "saturation": exposure.saturation,
        "zero_point": exposure.zero_point,
        "seeing": exposure.seeing,
        "ccd_count": len(exposure.ccds),
    }


# Registering


def register(arrivals: Sequence[Arrival]) -> list[Registered]:
    """Writes each whose path and content are new, in transactions of BATCH; says of each what became of it, in order.

    It may be called again with the same arrivals, after a crash too: what is known is not written twice.
    """
    done: list[Registered] = []
    for start in range(0, len(arrivals), BATCH):
        done += _registered(arrivals[start : start + BATCH])
    return done


def _registered(arrivals: Sequence[Arrival]) -> list[Registered]:
    try:
        return _in_one_transaction(arrivals)
    except peewee.IntegrityError:  # another process was first with one of them
        return _in_one_transaction(arrivals)


def _in_one_transaction(arrivals: Sequence[Arrival]) -> list[Registered]:
    with _alone():
        known = _known(arrivals)
        return [_taken(arrival, known) for arrival in arrivals]


@contextmanager
def _alone() -> Iterator[None]:
    """A transaction in which no other registers: two would each find that the other's exposure is not there yet."""
    if isinstance(database.obj, peewee.SqliteDatabase):
        with database.atomic("IMMEDIATE"):
            yield
        return
    name = f"spica.register.{database.database}"[:64]
    if not database.execute_sql("SELECT GET_LOCK(%s, %s)", (name, LOCK_PATIENCE_S)).fetchone()[0]:
        raise SpicaError(f"The archive is being written by another for more than {LOCK_PATIENCE_S} s. Try again later.")
    try:
        with database.atomic():
            yield
    finally:
        database.execute_sql("SELECT RELEASE_LOCK(%s)", (name,))


@dataclass
class _Known:
    by_path: dict[str, tuple[int, str]]  # path_key: row, digest
    by_digest: dict[str, tuple[int, str]]  # digest: row, "node:path"


def _known(arrivals: Sequence[Arrival]) -> _Known:
    columns: list[Any] = [ExposureRow.id, ExposureRow.path_key, ExposureRow.sha256, ExposureRow.node, ExposureRow.path]
    known = _Known({}, {})
    # Two queries: MySQL uses no index for an OR of two lists.
    for among in (
        ExposureRow.path_key.in_([arrival.path_key for arrival in arrivals]),
        ExposureRow.sha256.in_([arrival.sha256 for arrival in arrivals]),
    ):
        rows: Any = ExposureRow.select(*columns).where(among).tuples()
        for row, key, digest, node, path in rows:
            known.by_path[key] = (row, digest)
            known.by_digest.setdefault(digest, (row, f"{node}:{path}"))
    return known


def _taken(arrival: Arrival, known: _Known) -> Registered:
    here, there = known.by_path.get(arrival.path_key), known.by_digest.get(arrival.sha256)
    if here is not None and here[1] == arrival.sha256:
        return Registered(arrival, "known", here[0], "")
    if here is not None:
        words = f"{arrival.path} is registered with another content; what is registered stays as it is."
        return Registered(arrival, "changed", here[0], words)
    if there is not None:
        return Registered(arrival, "duplicate", there[0], f"{arrival.path} is the same, byte by byte, as {there[1]}.")
    row = _insert(arrival)
    known.by_path[arrival.path_key] = (row, arrival.sha256)
    known.by_digest[arrival.sha256] = (row, f"{arrival.node}:{arrival.path}")
    return Registered(arrival, "registered", row, "")


def _insert(arrival: Arrival) -> int:
    record = arrival.record
    polygons = [corners for *_, corners in record.ccds if corners]
    values = _DEFAULTS | record.values | {"s_region": region_of(polygons)}
    values |= {"name": os.path.basename(arrival.path)[:255], "node": arrival.node, "path": arrival.path}
    values |= {"path_key": arrival.path_key, "sha256": arrival.sha256, "registered": time.time()}
    values |= {"bytes": record.bytes, "mtime_ns": record.mtime_ns}
    cursor = database.obj.cursor()
    cursor.execute(_statement(ExposureRow, tuple(_DEFAULTS), database.obj), [values[name] for name in _DEFAULTS])
    row = int(cursor.lastrowid)
    outlines = outlines_of_polygons(polygons, values["s_ra"], values["s_dec"])
    _execute_many(CcdRow, CCD_COLUMNS, [(row, *ccd) for ccd in _ccd_values(record, outlines)])
    _execute_many(OutlineRow, OUTLINE_COLUMNS, [(size, cell, row, *rest) for size, cell, *rest in outlines])
    _execute_many(Ingredient, ("exposure", "sha256", "name"), [(row, sha, name) for name, sha in record.ingredients])
    return row


def _ccd_values(record: Record, outlines: Iterable[Outline]) -> Iterator[tuple[Any, ...]]:
    """Columns of tables.Ccd after `exposure`."""
    coming = iter(outlines)
    for *values, corners in record.ccds:
        if corners:
            outline = next(coming)
            ra, dec = position((outline.x, outline.y, outline.z))
            yield *values, ra, dec, _CORNERS % tuple(corners.split())
        else:
            yield *values, None, None, "[]"


def write_outlines() -> None:
    """Of all exposures, anew: to upgrade an older database, also after an upgrade that was killed."""
    OutlineRow.delete().execute()
    columns: list[Any] = [ExposureRow.id, ExposureRow.s_region, ExposureRow.s_ra, ExposureRow.s_dec]
    last = 0
    while True:
        some: Any = ExposureRow.select(*columns).where(ExposureRow.id > last).order_by(ExposureRow.id)
        rows = list(some.limit(OUTLINED_AT_ONCE).tuples())
        if not rows:
            return
        last = rows[-1][0]
        outlines = ((row, outline) for row, *where in rows for outline in outlines_of(*where))
        in_order = sorted((size, cell, row, *rest) for row, (size, cell, *rest) in outlines)
        _execute_many(OutlineRow, OUTLINE_COLUMNS, in_order)


# peewee takes longer to build the statement for each row than the database to write it: built once, executed plainly.


def _execute_many(table: type[tables.Table], columns: tuple[str, ...], rows: Sequence[tuple[Any, ...]]) -> None:
    if rows:
        database.obj.cursor().executemany(_statement(table, columns, database.obj), rows)


@lru_cache(maxsize=16)
def _statement(table: type[tables.Table], columns: tuple[str, ...], _database: peewee.Database) -> str:
    """peewee puts the columns into the order of the table's fields."""
    return str(table.insert(dict.fromkeys(columns, 0)).sql()[0])


def as_line(record: Record) -> str:
    """As JSON in one line."""
    return json.dumps(
        [
            record.path,
            record.bytes,
            record.mtime_ns,
            record.values,
            record.ccds,
            record.warnings,
            record.ingredients,
        ],
        separators=(",", ":"),
    )


def from_line(line: str) -> Record:
    """Raises ValueError when it is none."""
    path, size, mtime_ns, values, ccds, warnings, ingredients = json.loads(line)
    return Record(
        path,
        size,
        mtime_ns,
        values,
        tuple(map(tuple, ccds)),
        tuple(warnings),
        tuple(map(tuple, ingredients)),
    )

"""An exposure that landed as it enters the archive: read once where it landed, registered where it is kept.

What headers mean is headers.py's, how rows are written registering.py's affair; that a file is whole, and where it is
kept, is found out before.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import peewee

from spicad.archive.landing import companion_of, names_for
from spicad.archive.registering import Arrival, Record, register
from spicad.tables import Exposure, database
from spicad.words import SpicaError


@dataclass(frozen=True)
class Entry:
    name: str
    record: Record

    @property
    def runid(self) -> str:
        return str(self.record.values["runid"])

    @property
    def filter(self) -> str:
        return str(self.record.values["filter"])

    @property
    def t_min(self) -> float | None:
        moment = self.record.values["t_min"]
        return None if moment is None else float(moment)


def read_entry(path: Path, read: Callable[[Path], Record]) -> Entry:
    """Raises BadInput or FitsProblem with the reason why it cannot be registered. What is called a map is one."""
    record = read(path)
    if kind := companion_of(path.name)[1]:
        record = replace(record, values=record.values | {"kind": kind})
    return Entry(path.name, record)


def register_entry(entry: Entry, node: str, path: str, sha256: str, size: int, mtime_ns: int) -> int:
    """The number of the exposure; of the one that is there when this very file was registered before.

    Raises SpicaError when another one has it meanwhile.
    """
    record = replace(entry.record, path=path, bytes=size, mtime_ns=mtime_ns)
    (done,) = register([Arrival(record, node, path, sha256)])
    if done.outcome not in ("registered", "known"):
        raise SpicaError(done.words)
    return done.exposure


def all_or_nothing() -> Any:
    """A transaction that holds the right to write from its beginning: SQLite gives it to no reader later on."""
    return database.atomic("IMMEDIATE") if isinstance(database.obj, peewee.SqliteDatabase) else database.atomic()


def same_bytes(sha256: str) -> Exposure | None:
    found: Exposure | None = Exposure.select().where(Exposure.sha256 == sha256).first()
    return found


def earlier_version(entry: Entry) -> Exposure | None:
    """An exposure of the same name that claims to be the same observation."""
    for one in Exposure.select().where(Exposure.name == entry.name):
        if one.t_min is None or entry.t_min is None or abs(one.t_min - entry.t_min) < 1 / 86400:
            return one  # type: ignore[no-any-return]
    return None


def with_stem(stem: str) -> Exposure | None:
    """The exposure that a companion belongs to; the newest where several have its name."""
    names: Sequence[str] = list(names_for(stem))
    found: Exposure | None = (
        Exposure.select().where(Exposure.name.in_(names)).order_by(Exposure.registered.desc()).first()
    )
    return found


def siblings(runid: str, filter_: str) -> list[tuple[str, str]]:
    """(node, path) of those of the same run and filter, the newest hundred."""
    query = (
        Exposure.select()
        .where((Exposure.runid == runid[:64]) & (Exposure.filter == filter_[:32]))
        .order_by(Exposure.id.desc())
        .limit(100)
    )
    return [(str(one.node), str(one.path)) for one in query]


def is_taken(key: str) -> bool:
    """Whether an exposure is registered at the place of this path_key."""
    return bool(Exposure.select().where(Exposure.path_key == key).exists())


def kept_elsewhere(number: int | None, sha256: str, path: str) -> bool:
    """Whether the exposure of that number holds these bytes in another place than `path`."""
    if number is None:
        return False
    there = Exposure.get_or_none(Exposure.id == number)
    return there is not None and there.sha256 == sha256 and there.path != path

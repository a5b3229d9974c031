"""The daemon's pen: all that it writes to the tables goes through here, in batches that wait while they are away.

The spool leads and the rows follow, so a batch that is written late loses nothing. Reading is the callers' affair.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import peewee

from spicad import rows
from spicad.archive.judgements import File, Source, register
from spicad.spool import Accepted
from spicad.tables import Digest, Event, Process, Step, database, without_sync
from spicad.words import Phase, StepState

log = logging.getLogger("spicad.ledger")

AWAY = (peewee.OperationalError, peewee.InterfaceError)
# MySQL's errors that PyMySQL calls operational although the row is at fault: no default, cut, wrong value, wrong letter
OF_THE_ROW = (1364, 1265, 1292, 1366)


@dataclass(frozen=True)
class NewProcess:
    accepted: Accepted
    name: str
    mail: str
    not_before: float
    forecast_bytes: int
    steps_total: int
    workload: str | None = None  # see eta.py


class Ledger:
    def __init__(self) -> None:
        self._waiting: list[Callable[[], object]] = []
        self.above = 0  # new numbers are higher than this, whatever the database remembers
        self.away_since: float | None = None

    # ------------------------------------------------------------------ acceptance: at once

    def accept(self, new: Sequence[NewProcess]) -> list[int] | None:
        """Numbers for new processes, in one transaction; the same number again for a token that has one.

        None when the database is away: nothing is accepted then, and the drops stay where they are.
        """
        try:
            with without_sync(), database.atomic():
                return [self._accept_one(each) for each in new]
        except AWAY as error:
            log.warning("Nothing can be accepted: the database is away (%s). Drops stay in incoming/.", error)
            self._reconnect()
            return None

    def number_of(self, token: str) -> int:
        """The number of the process that was accepted with this token; 0 when there is none, or nobody can say."""
        try:
            return int(rows.find(Process, "id", token=token) or 0)
        except AWAY:
            return 0

    def _accept_one(self, new: NewProcess) -> int:
        known = rows.find(Process, "id", token=new.accepted.token)
        if known is not None:
            return int(known)
        highest = int(Process.select(peewee.fn.MAX(Process.id)).scalar() or 0) if self.above else 0
        number = self.above + 1 if highest < self.above else None
        made = insert_process(new, Phase.QUEUED, f"taken from {new.accepted.drop}", number)
        self.above = 0 if number is None else self.above
        return made

    # ------------------------------------------------------------------ everything else: in batches

    def phase(self, process: int, before: Phase, after: Phase, who: str, why: str, now: float, **values: Any) -> None:
        def write() -> None:
            seen = {"id": process, "phase": before.value}
            if not rows.update(Process, seen, phase=after.value, why=why, **values):
                # The spool leads: a row that says otherwise is brought into line.
                log.info("process %d: the row did not say %s; it says %s now.", process, before.value, after.value)
                rows.update(Process, {"id": process}, phase=after.value, why=why, **values)
            rows.insert(Event, process=process, time=now, who=who, before=before.value, phase=after.value, why=why)

        self._waiting.append(write)

    def again(self, process: int, accepted: Accepted, name: str, why: str, now: float) -> None:
        """A process whose job file had left the spool is queued again; its row is made when it was lost."""

        def write() -> None:
            before = rows.find(Process, "phase", id=process)
            if before is None:
                insert_process(NewProcess(accepted, name, "", 0.0, 0, 0), Phase.QUEUED, why, process)
                return
            values = {"phase": Phase.QUEUED.value, "why": why, "run": accepted.run, "steps_done": 0}
            rows.update(Process, {"id": process}, ended=None, started=None, expires=None, **values)
            values = {"who": accepted.owner, "before": str(before), "phase": Phase.QUEUED.value, "why": why}
            rows.insert(Event, process=process, time=now, **values)

        self._waiting.append(write)

    def event(self, process: int, phase: Phase, who: str, why: str, now: float) -> None:
        self._waiting.append(lambda: rows.insert(Event, process=process, time=now, who=who, phase=phase.value, why=why))

    def process_values(self, process: int, **values: Any) -> None:
        self._waiting.append(lambda: rows.update(Process, {"id": process}, **values))

    def steps(self, steps: Sequence[Mapping[str, Any]]) -> None:
        """New steps of a run; earlier rows of the same run are replaced."""
        if not steps:
            return

        def write() -> None:
            rows.delete(Step, process=steps[0]["process"], run=steps[0]["run"])
            rows.insert_many(Step, steps)

        self._waiting.append(write)

    def step(self, process: int, run: int, number: int, state: StepState, **values: Any) -> None:
        for name in ("metrics", "outputs"):
            if name in values:
                values[name] = json.dumps(values[name])
        where = {"process": process, "run": run, "number": number}
        self._waiting.append(lambda: rows.update(Step, where, state=state.value, **values))

    def judgement(self, file: File, record: Mapping[str, Any], source: Source) -> None:
        """What a step has found of an exposure, into the archive."""
        self._waiting.append(lambda: register(file, record, source))

    def digest(self, path_key: str, identity: str, sha256: str) -> None:
        def write() -> None:
            rows.delete(Digest, path=path_key)
            rows.insert(Digest, path=path_key, identity=identity, sha256=sha256)

        self._waiting.append(write)

    @property
    def has_rows(self) -> bool:
        """Whether any wait to be written."""
        return bool(self._waiting)

    def flush(self, now: float) -> bool:
        """Writes what waits, in one transaction. False while the database is away."""
        if not self._waiting:
            return True
        batch = list(self._waiting)
        try:
            try:
                with database.atomic():
                    for write in batch:
                        write()
            except (peewee.PeeweeException, ValueError) as error:
                if _is_away(error):
                    raise
                self._write_one_by_one(batch)
        except AWAY as error:
            if self.away_since is None:
                self.away_since = now
                log.error("The database is away (%s). Work goes on; rows are written when it is back.", error)
            self._reconnect()
            return False
        del self._waiting[: len(batch)]
        if self.away_since is not None:
            log.warning("The database is back after %.0f s.", now - self.away_since)
            self.away_since = None
        return True

    def _write_one_by_one(self, batch: Sequence[Callable[[], object]]) -> None:
        """One row that the database will not have must not keep all others, or the daemon, from going on."""
        for write in batch:
            try:
                with database.atomic():
                    write()
            except (peewee.PeeweeException, ValueError) as error:
                if _is_away(error):
                    raise
                log.exception("A row was not written; the spool and the capsules know better.")

    def _reconnect(self) -> None:
        try:
            database.close()
            database.connect(reuse_if_open=True)
        except (peewee.PeeweeException, OSError) as error:
            log.debug("still away: %s", error)


def _is_away(error: Exception) -> bool:
    return isinstance(error, AWAY) and not (error.args and error.args[0] in OF_THE_ROW)


def insert_process(new: NewProcess, phase: Phase, why: str, number: int | None = None) -> int:
    """A row for an accepted process; with `number`, under that number (the database had lost it)."""
    accepted = new.accepted
    values: dict[str, Any] = {
        "token": accepted.token,
        "name": new.name,
        "owner": accepted.owner,
        "group": accepted.group,
        "rank": accepted.rank,
        "phase": phase.value,
        "run": accepted.run,
        "submitted": accepted.submitted,
        "not_before": new.not_before,
        "mail": new.mail,
        "forecast_bytes": new.forecast_bytes,
        "steps_total": new.steps_total,
        "locality": accepted.locality,
        "workload": new.workload,
    }
    if number is not None:
        values["id"] = number
    made = rows.insert(Process, **values) or number or 0
    rows.insert(Event, process=made, time=accepted.submitted, who=accepted.owner, phase=phase.value, why=why)
    return made

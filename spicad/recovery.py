"""What the daemon mends when it starts: the spool leads, the rows follow, runs go on where they were.

Every legal state of files and rows stands in the table of spica-spool(7); each branch here is one of its lines.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from spicad import closing
from spicad.backends import slurm
from spicad.capsule import Capsule, folder_of
from spicad.fair_share import recent_use
from spicad.jobfile import Job, parse
from spicad.ledger import NewProcess, insert_process
from spicad.newcomers import tokens_to_come
from spicad.orders import waiting_of
from spicad.people import person_named
from spicad.run import Run
from spicad.spool import Accepted, NotYet, Spool
from spicad.tables import Event, Process, database
from spicad.waiting import Waiting
from spicad.words import IN_SPOOL, Phase, SpicaError, StepState
from spicad.workshop import Workshop, note_judgements, step_row

log = logging.getLogger("spicad")

LIVE = ("QUEUED", "EXECUTING", "HELD")
LATEST_FIRST = (Phase.ABORTED, Phase.ERROR, Phase.COMPLETED, Phase.HELD, Phase.EXECUTING, Phase.QUEUED)


@dataclass(frozen=True)
class Row:
    process: int
    phase: str
    rank: int
    owner: str
    group: str
    submitted: float
    not_before: float
    run: int
    token: str
    locality: float


def recover(workshop: Workshop, now: float) -> None:
    """Agreement of folders and rows, the queue in memory, executing runs adopted."""
    spool = workshop.floor.spool
    workshop.queue.use = recent_use(now)
    places = _one_place_each(spool)
    rows = _rows(places)
    to_be_taken = cache(lambda: _tokens(spool))  # drops are read only when something is amiss
    _set_damaged_aside(spool, places, rows, to_be_taken, now)
    workshop.floor.ledger.above = max(_highest_of(workshop.results), max(places, default=0))
    with database.atomic():
        for process, phase in places.items():
            row = rows.get(process)
            if row is None:
                _make_row(spool, process, phase, now)
            elif row.phase != phase.value and not _is_archived(row, phase):
                _follow(spool, process, row.phase, phase, now)
        lost = [row for process, row in rows.items() if process not in places and row.phase in LIVE]
        for row in lost:
            _lost(row, to_be_taken(), now)
    for process, phase in places.items():
        if phase is Phase.QUEUED:
            workshop.queue.add(_waiting(spool, process, rows.get(process)), now)
    for process, phase in places.items():
        if phase is Phase.EXECUTING:
            _adopt(workshop, process, now)
        elif process not in rows or rows[process].phase != phase.value:
            _note_steps(workshop, process, phase)
    log.info("start: %d queued, %d executing", len(workshop.queue), len(workshop.runs))


def _is_archived(row: Row, phase: Phase) -> bool:
    """Its products are gone, and its job file waits for its own time in the folder of how it had ended."""
    return row.phase == Phase.ARCHIVED.value and phase.is_over


def _one_place_each(spool: Spool) -> dict[int, Phase]:
    """Each process's folder. Two copies come from a rerun that was cut short: the higher run stays."""
    places: dict[int, Phase] = {}
    for phase in reversed(LATEST_FIRST):
        for process in spool.copies(phase):
            if process in places:
                places[process] = _keep_newer(spool, process, places[process], phase)
            else:
                places[process] = phase
    return places


def _keep_newer(spool: Spool, process: int, one: Phase, other: Phase) -> Phase:
    keep = max((one, other), key=lambda phase: _run_of(spool, process, phase))
    gone = other if keep is one else one
    log.warning("process %d: also in %s/, with an earlier run: that copy is removed", process, gone.folder)
    os.unlink(spool.path(process, gone))
    return keep


def _run_of(spool: Spool, process: int, phase: Phase) -> int:
    try:
        return spool.read_copy(process, phase)[1].run
    except SpicaError:
        return 0


def _set_damaged_aside(
    spool: Spool,
    places: dict[int, Phase],
    rows: dict[int, Row],
    to_be_taken: Callable[[], frozenset[str]],
    now: float,
) -> None:
    """Copies that are to go on, or that have no row, are read at start: one that cannot be must not stop the others."""
    for process, phase in list(places.items()):
        row = rows.get(process)
        if row is not None and (phase.is_over or (_agree(row, phase) and spool.looks_sound(process, phase))):
            continue
        try:
            spool.read_copy(process, phase)
        except SpicaError as error:
            del places[process]
            if row is not None and row.token in to_be_taken():  # a power cut before the copy was synced
                os.unlink(spool.path(process, phase))
                continue
            why = f"{error} Mend it and drop it again without its [accepted] part."
            log.error("process %d: %s It is set aside as %s", process, error, spool.set_aside(process, phase, why))
            if rows.pop(process, None) and row is not None:
                _note(process, row.phase, Phase.ERROR, str(error), now)


def _agree(row: Row, phase: Phase) -> bool:
    """Nothing more than waiting is asked of it now; a start reads it through."""
    return phase is not Phase.EXECUTING and row.phase == phase.value


def _highest_of(results: Path) -> int:
    """The highest processid that has a folder: a database that was lost must not give its number away again."""
    found = (path.name.partition("-")[0] for path in results.glob("*/*-*"))
    return max((int(number) for number in found if number.isdecimal()), default=0)


def _tokens(spool: Spool) -> frozenset[str]:
    """Of the drops that can be read now, and of what is asked for again."""
    found = set()
    for name in spool.drops():
        with suppress(SpicaError, NotYet, OSError):
            found.add(spool.read_drop(name).token)
    return frozenset(found) | tokens_to_come()


def _rows(places: dict[int, Phase]) -> dict[int, Row]:
    """Rows of what is in the spool, and of what should be."""
    query = Process.select(
        Process.id, Process.phase, Process.rank, Process.owner, Process.group, Process.submitted,
        Process.not_before, Process.run, Process.token, Process.locality,
    )  # fmt: skip
    live = query.where(Process.phase.in_(LIVE))
    rows = _by_process(live)
    missing = [process for process in places if process not in rows]
    for start in range(0, len(missing), 500):
        chunk = missing[start : start + 500]
        rows |= _by_process(query.where(Process.id.in_(chunk)))
    return rows


def _by_process(query: Any) -> dict[int, Row]:
    statement, values = query.sql()
    return {row[0]: Row(*row) for row in database.execute_sql(statement, values)}  # a third of the time of objects


def _make_row(spool: Spool, process: int, phase: Phase, now: float) -> None:
    """The database has lost this process: its row is made from the durable copy."""
    text, accepted = spool.read_copy(process, phase)
    name, mail, not_before = "unreadable", "", 0.0
    with suppress(SpicaError):
        job = parse(text, accepted.drop)
        if isinstance(job, Job):
            name, mail, not_before = job.name, job.mail, job.not_before
    new = NewProcess(accepted, name, mail, not_before, 0, 0)
    log.warning("process %d: not in the database; its row is made from %s/", process, phase.folder)
    insert_process(new, phase, f"row made anew from the spool's {phase.folder}/", number=process)


def _follow(spool: Spool, process: int, before: str, phase: Phase, now: float) -> None:
    log.info("process %d: the row said %s, the spool says %s", process, before, phase.value)
    why = "brought into line with the spool at start"
    run = {} if phase.is_over else {"run": spool.read_copy(process, phase)[1].run}
    _note(process, before, phase, why, now, **run)


def _note(process: int, before: str, phase: Phase, why: str, now: float, **values: Any) -> None:
    values["ended"] = now if phase.is_over else None
    Process.update(phase=phase.value, why=why, **values).where(Process.id == process).execute()
    Event.insert(process=process, time=now, who="spicad", before=before, phase=phase.value, why=why).execute()


def _lost(row: Row, to_be_taken: frozenset[str], now: float) -> None:
    """A row without a file: its drop is still there (killed between row and copy), or somebody removed the file."""
    if row.phase in ("QUEUED", "EXECUTING") and row.token in to_be_taken:
        log.info("process %d: no copy in the spool yet; taken with its drop", row.process)
        return
    why = "its job file is gone from the spool"
    log.error("process %d: %s", row.process, why)
    _note(row.process, row.phase, Phase.ABORTED, why, now)


def _waiting(spool: Spool, process: int, row: Row | None) -> Waiting:
    if row is not None:
        return Waiting(row.submitted, process, row.rank, row.owner, row.group, row.not_before, row.locality)
    return waiting_of(process, *spool.read_copy(process, Phase.QUEUED))


def _adopt(workshop: Workshop, process: int, now: float) -> None:
    spool = workshop.floor.spool
    text, accepted = spool.read_copy(process, Phase.EXECUTING)
    capsule, run, why = None, None, "nothing of it had begun"  # killed between the rename and the capsule
    try:
        capsule = _capsule(workshop, process, text, accepted)
        run = capsule.load() if capsule and capsule.is_sealed else None
    except Exception as error:
        why = f"its capsule was damaged and is kept as {_put_aside(workshop, capsule)}" if capsule else str(error)
        log.error("process %d: %s: %s", process, why, error, exc_info=not isinstance(error, SpicaError))
    if run is None or capsule is None:
        spool.move(process, Phase.EXECUTING, Phase.QUEUED)
        workshop.floor.ledger.phase(process, Phase.EXECUTING, Phase.QUEUED, "spicad", why, now)
        workshop.queue.add(waiting_of(process, text, accepted), now)
        return
    _write_steps(workshop, run, capsule)
    order, who = capsule.standing_order()
    run.cancelled_by = who if order == "cancel" else ""
    run.held_why = f"held by {who}" if order == "hold" else ""
    if workshop.floor.settings.daemon.backend != "slurm":
        for folder in (capsule.folder / "steps").glob("*"):
            slurm.withdraw(folder, workshop.floor.settings)
    workshop.adopt(run, capsule, now)
    if run.cancelled_by and process in workshop.runs:
        workshop.cancel(process, run.cancelled_by)


def _put_aside(workshop: Workshop, capsule: Capsule) -> Path:
    """What can be read by nobody any more must not stand in the way of a new run, nor go on beside it."""
    for folder in (capsule.folder / "steps").glob("*"):
        workshop.floor.backend.forget(folder)
    number, target = 1, capsule.folder.with_name(f"damaged-{capsule.folder.name}")
    while target.exists():
        number += 1
        target = capsule.folder.with_name(f"damaged-{capsule.folder.name}-{number}")
    os.rename(capsule.folder, target)
    return target


def _note_steps(workshop: Workshop, process: int, phase: Phase) -> None:
    """The rows of a run's steps, as far as it has come; of a process that had not begun there are none."""
    with suppress(SpicaError):
        capsule = _capsule(workshop, process, *workshop.floor.spool.read_copy(process, phase))
        if capsule and capsule.is_sealed:
            _write_steps(workshop, capsule.load(), capsule)


def _write_steps(workshop: Workshop, run: Run, capsule: Capsule) -> None:
    ledger = workshop.floor.ledger
    ledger.steps([step_row(run, step) for step in run.plan.steps])
    for number, outcome in run.outcome.items():
        values: dict[str, Any] = {"why": outcome.why, "metrics": dict(outcome.metrics), "attempt": outcome.attempt}
        if run.state[number] is StepState.DONE:
            values |= {"content_key": outcome.key, "outputs": closing.reusable(outcome, capsule.folder)}
        values |= {"node": outcome.node, "started": outcome.started or None, "ended": outcome.ended or None}
        ledger.step(run.process, run.number, number, run.state[number], **values)
        note_judgements(ledger, run, run.step(number), outcome, capsule)
    done = run.count((StepState.DONE, StepState.REUSED))
    ledger.process_values(run.process, capsule=str(capsule.folder), steps_done=done, steps_total=run.total)


def _capsule(workshop: Workshop, process: int, text: str, accepted: Accepted) -> Capsule | None:
    job = parse(text, accepted.drop)
    if not isinstance(job, Job):
        return None
    owner = person_named(accepted.owner, accepted.group, accepted.rank)
    return Capsule(folder_of(workshop.results, owner.user, process, job.name, accepted.run))


assert set(LATEST_FIRST) == set(IN_SPOOL)

"""Orders about processes, as hold, rerun, keep. The kernel says whose they are, as of job files.

Each returns '' when it was obeyed, else the reason why not.
"""

from __future__ import annotations

import logging
import os
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from spicad import quota, rows, sweeping
from spicad.archive import grade_lists, grades, selections
from spicad.capsule import Capsule
from spicad.durable import sync_folder
from spicad.jobfile import GRADE_ORDERS, NODE_ORDERS, SELECTION_ORDERS, TAG_ORDERS, Order, parse
from spicad.ledger import AWAY
from spicad.node import DRAINED
from spicad.people import MAY, OF_A_MEMBER, Person, Thing, may
from spicad.retention import Terms
from spicad.spool import Accepted
from spicad.tables import Process
from spicad.waiting import Waiting
from spicad.words import Phase, Rank, SpicaError
from spicad.workshop import Workshop

log = logging.getLogger("spicad")


def obey(order: Order, actor: Person, workshop: Workshop, now: float) -> str:
    if order.order == "sweep":
        return _sweep(actor, workshop, now)
    if order.order in NODE_ORDERS:
        return _drain(order, actor, workshop)
    if order.order in SELECTION_ORDERS:
        return _about_selection(order, actor)
    if order.order in TAG_ORDERS:
        return _about_tag(order, actor)
    if order.order in GRADE_ORDERS:
        return _about_grades(order, actor, now)
    if order.order == "keep":
        return _keep(order, actor, workshop, now)
    if order.order == "delete":
        return _delete(order, actor, workshop, now)
    if order.order == "rebuild":
        return _rebuild(order, actor, workshop, now)
    phase = workshop.floor.spool.phase_of(order.process)
    if phase is None:
        return f"there is no process {order.process}."
    try:
        text, accepted = workshop.floor.spool.read_copy(order.process, phase)
    except (SpicaError, OSError) as error:
        return str(error)
    if not may(actor, order.order, Thing("process", accepted.owner, accepted.group)):
        return _forbidden(order, actor, accepted.owner)
    log.info("process %d: %s by %s %s", order.process, order.order, actor.user, order.why)
    verb = {"hold": _hold, "release": _release, "cancel": _cancel, "rerun": _rerun}[order.order]
    return verb(order, actor, workshop, phase, text, accepted, now)


def _forbidden(order: Order, actor: Person, owner: str) -> str:
    """To the site, unknown and forbidden answer alike; on the machine itself `spica show` tells anybody whose it is."""
    if actor.account or order.web:
        return f"there is no process {order.process}."
    by_group = order.order in MAY["process"][OF_A_MEMBER]
    who = "its owner, its group's administrator and administrators" if by_group else "its owner and administrators"
    return f"process {order.process} belongs to {owner}; only {who} may {order.order} it."


def _sweep(actor: Person, workshop: Workshop, now: float) -> str:
    """Deletion that was stopped goes on."""
    if actor.rank < Rank.ADMINISTRATOR:
        return "only administrators may let products be deleted."
    log.warning("deletion goes on by %s", actor.user)
    return sweeping.go_on(workshop.floor.spool, sweeping.moment_now(now))


def _about_selection(order: Order, actor: Person) -> str:
    """Those who may not write to the database have their selections saved by the daemon."""
    verb = order.order.removesuffix("-selection")
    try:
        if verb == "save":
            numbers = selections.from_ranges(order.exposures)
            selections.save(actor, order.selection, numbers, order.why, order.share, order.replace, is_retried=True)
        elif verb == "delete":
            selections.delete(actor, order.selection)
        else:
            selections.share(actor, order.selection, verb == "share")
    except SpicaError as error:
        return str(error)
    except AWAY:
        return "the database does not answer. Try again later."
    return ""


def _about_tag(order: Order, actor: Person) -> str:
    """Those who may not write to the database tag through the daemon; said twice, it is said once."""
    try:
        change = selections.tag if order.order == "put-tag" else selections.untag
        change(actor, order.tag, selections.from_ranges(order.exposures))
    except SpicaError as error:
        return str(error)
    except AWAY:
        return "the database does not answer. Try again later."
    return ""


def _about_grades(order: Order, actor: Person, now: float) -> str:
    """Those who may not write to the database grade through the daemon; said twice, it is said once."""
    try:
        if order.order == "take-grades":
            grade_lists.take(actor, order.list, "the list", now)
            return ""
        numbers = selections.from_ranges(order.exposures)
        if len(numbers) > grades.MOST_IN_AN_ORDER:
            return f"at most {grades.MOST_IN_AN_ORDER} exposures are graded by one order."
        grades.give(actor, numbers, order.grade, order.comments, order.why, now)
    except SpicaError as error:
        return str(error)
    except AWAY:
        return "the database does not answer. Try again later."
    return ""


def _keep(order: Order, actor: Person, workshop: Workshop, now: float) -> str:
    """Its job file may have left the spool long ago: the capsule says whose it is."""
    folder = _ended_folder(order, actor, workshop)
    if folder is None:
        return f"there is no process {order.process}."
    is_limited = actor.rank < Rank.ADMINISTRATOR
    terms = Terms.of(workshop.floor.settings)
    until, why = sweeping.keep(folder, workshop.floor.spool, terms, order.days, now, is_limited)
    if why:
        return why
    words = f"{actor.user} keeps its products until {sweeping.day(until)}" + (f": {order.why}" if order.why else "")
    phase = workshop.floor.spool.phase_of(order.process) or Phase.COMPLETED
    workshop.floor.ledger.event(order.process, phase, actor.user, words, now)
    workshop.floor.ledger.process_values(order.process, expires=until)
    log.info("process %d: %s", order.process, words)
    return ""


def _delete(order: Order, actor: Person, workshop: Workshop, now: float) -> str:
    """The products go at once, by the wish of whom they belong to; what takes long is done in a thread."""
    folder = _ended_folder(order, actor, workshop)
    if folder is None:
        return f"there is no process {order.process} that has run."
    kept, why = sweeping.let_go_now(workshop.results, folder, workshop.floor.spool, now, order.token)
    if kept is None:
        return why
    workshop.floor.background.do(
        sweeping.clear, workshop.results, kept, then=lambda _: workshop.cleared.add(kept.owner), process=order.process
    )
    words = f"its products were deleted by {actor.user}" + (f": {order.why}" if order.why else "")
    workshop.floor.ledger.phase(order.process, kept.phase, Phase.ARCHIVED, actor.user, words, now, expires=None)
    log.info("process %d: %s", order.process, words)
    return ""


def _known_folder(process: int, results: Path) -> Path | None:
    """As the row has it: looking through the folders of all users takes its time."""
    with suppress(*AWAY):
        folder = Path(rows.find(Process, "capsule", id=process) or "/").parent
        if folder.parent.parent == results and folder.is_dir() and not folder.is_symlink():
            return folder
    return None


def _ended_folder(order: Order, actor: Person, workshop: Workshop) -> Path | None:
    """None too when `actor` may not give this order."""
    folder = _known_folder(order.process, workshop.results) or sweeping.folder_of(workshop.results, order.process)
    run = sweeping.last_run(folder) if folder else None
    if folder is None or run is None:
        return None
    try:
        group = str(Capsule(run).read_json("run.json")["group"])
    except (SpicaError, KeyError):
        return None
    return folder if may(actor, order.order, Thing("process", folder.parent.name, group)) else None


def _rebuild(order: Order, actor: Person, workshop: Workshop, now: float) -> str:
    """The recipe is run again, also when the job file has left the spool: the capsule has it."""
    folder = _ended_folder(order, actor, workshop)
    spool = workshop.floor.spool
    phase = spool.phase_of(order.process)
    if folder is None:
        return f"there is no process {order.process} that has run."
    if phase is None or phase.is_over:
        with suppress(*AWAY):
            forecast = int(rows.find(Process, "forecast_bytes", id=order.process) or 0)
            group = str(rows.find(Process, "group", id=order.process) or "")
            if why := quota.refusal_for(workshop.floor.settings, folder.parent.name, group, forecast):
                return why
    if phase is not None:
        text, accepted = spool.read_copy(order.process, phase)
        return _rerun(replace(order, fresh=True), actor, workshop, phase, text, accepted, now)
    try:
        text, accepted = _from_capsule(order, folder)
    except (SpicaError, KeyError, OSError) as error:
        return f"the recipe of process {order.process} cannot be read: {error}"
    again = replace(accepted, run=accepted.run + 1, fresh=True, asked=order.token)
    spool.place(spool.prepare_copy(again.token, text, again), order.process)
    spool.sync(Phase.QUEUED)
    why = f"run {again.run} asked for by {actor.user}"
    workshop.floor.ledger.again(order.process, again, getattr(parse(text, accepted.drop), "name", ""), why, now)
    workshop.queue.add(waiting_of(order.process, text, again), now)
    return ""


def _from_capsule(order: Order, folder: Path) -> tuple[str, Accepted]:
    run = sweeping.last_run(folder)
    assert run is not None
    facts = Capsule(run).read_json("run.json")
    accepted = Accepted(
        token=f"rebuild-{order.token[:40]}",
        owner=facts["owner"],
        group=facts["group"],
        rank=facts["rank"],
        submitted=facts["submitted"],
        drop="job.spica",
        run=facts["run"],
        locality=facts.get("locality", 1.0),
    )
    return Capsule(run).read("job.spica").decode(), accepted


def _drain(order: Order, actor: Person, workshop: Workshop) -> str:
    """Steps that run go on; no other starts on this node until it is undrained, whatever daemon is here by then."""
    if actor.rank < Rank.ADMINISTRATOR:
        return "only administrators may drain the node."
    spool = workshop.floor.spool
    path = spool.root / DRAINED
    if order.order == "drain":
        spool.write(path, f"drained by {actor.user}" + (f": {order.why}" if order.why else "") + "\n")
        path.chmod(0o644)
    else:
        path.unlink(missing_ok=True)
    sync_folder(spool.root)
    log.warning("%s: %sed by %s %s", workshop.floor.node, order.order, actor.user, order.why)
    return ""


def _hold(
    order: Order, actor: Person, workshop: Workshop, phase: Phase, text: str, accepted: Accepted, now: float
) -> str:
    if phase is Phase.HELD:
        return ""
    why = f"held by {actor.user}" + (f": {order.why}" if order.why else "")
    if phase is Phase.EXECUTING and order.process in workshop.runs:
        workshop.capsules[order.process].let_stand(order.order, actor.user)
        workshop.hold(order.process, actor.user)
        return ""
    if phase is not Phase.QUEUED:
        return f"process {order.process} is {phase.value}; only what waits or runs can be held."
    return _move(workshop, order.process, phase, Phase.HELD, actor, why, now)


def _release(
    order: Order, actor: Person, workshop: Workshop, phase: Phase, text: str, accepted: Accepted, now: float
) -> str:
    if phase is Phase.EXECUTING and order.process in workshop.runs:
        workshop.capsules[order.process].withdraw_order()
        workshop.runs[order.process].held_why = ""
        return ""
    if phase is not Phase.HELD:
        return "" if phase is Phase.QUEUED else f"process {order.process} is {phase.value}, not HELD."
    why = f"released by {actor.user}"
    problem = _move(workshop, order.process, phase, Phase.QUEUED, actor, why, now)
    if not problem:
        workshop.queue.add(waiting_of(order.process, text, accepted), now)
    return problem


def _cancel(
    order: Order, actor: Person, workshop: Workshop, phase: Phase, text: str, accepted: Accepted, now: float
) -> str:
    if phase is Phase.EXECUTING and order.process in workshop.runs:
        workshop.capsules[order.process].let_stand(order.order, actor.user)
        workshop.cancel(order.process, actor.user)
        return ""
    if phase not in (Phase.QUEUED, Phase.HELD):
        return "" if phase is Phase.ABORTED else f"process {order.process} is {phase.value}: it is over."
    return _move(workshop, order.process, phase, Phase.ABORTED, actor, f"cancelled by {actor.user}", now, ended=now)


def _rerun(
    order: Order, actor: Person, workshop: Workshop, phase: Phase, text: str, accepted: Accepted, now: float
) -> str:
    if order.token and accepted.asked == order.token:
        return ""  # obeyed already, right before the daemon went down
    if not phase.is_over:
        return f"process {order.process} is {phase.value}: it is not over yet."
    spool = workshop.floor.spool
    again = replace(accepted, run=accepted.run + 1, fresh=order.fresh, asked=order.token)
    copy = spool.prepare_copy(again.token, text, again)
    spool.place(copy, order.process)
    spool.sync(Phase.QUEUED)
    os.unlink(spool.path(order.process, phase))
    why = f"run {again.run} asked for by {actor.user}"
    workshop.floor.ledger.phase(
        order.process,
        phase,
        Phase.QUEUED,
        actor.user,
        why,
        now,
        run=again.run,
        ended=None,
        started=None,
        steps_done=0,
        expires=None,
    )
    workshop.queue.add(waiting_of(order.process, text, again), now)
    return ""


def _move(
    workshop: Workshop, process: int, before: Phase, after: Phase, actor: Person, why: str, now: float, **values: float
) -> str:
    if not workshop.floor.spool.move(process, before, after):
        return f"process {process} has just changed. Try again."
    workshop.floor.spool.sync(after)
    if before is Phase.QUEUED:
        workshop.queue.remove(process)
        workshop.starting.pop(process, None)
    workshop.floor.ledger.phase(process, before, after, actor.user, why, now, **values)
    return ""


def waiting_of(process: int, text: str, accepted: Accepted) -> Waiting:
    not_before = 0.0
    try:
        not_before = getattr(parse(text, accepted.drop), "not_before", 0.0)
    except SpicaError as error:
        log.warning("process %d: its job file cannot be read any more: %s", process, error)
    return accepted.as_waiting(process, not_before)


def note_hand_moves(workshop: Workshop, now: float) -> None:
    """Files moved by hand between queued/ and held/, or removed: the folder leads."""
    spool = workshop.floor.spool
    queued, held = set(spool.copies(Phase.QUEUED)), set(spool.copies(Phase.HELD))
    known = {waiting.process for waiting in workshop.queue} | set(workshop.starting)
    for process in queued - known - set(workshop.runs):
        try:
            text, accepted = spool.read_copy(process, Phase.QUEUED)
        except (SpicaError, OSError) as error:
            log.error("process %d: %s", process, error)
            continue
        workshop.queue.add(waiting_of(process, text, accepted), now)
        workshop.floor.ledger.phase(process, Phase.HELD, Phase.QUEUED, "by hand", "moved to queued/", now)
        log.info("process %d: moved to queued/ by hand", process)
    for process in known - queued:
        workshop.queue.remove(process)
        workshop.starting.pop(process, None)
        if process in held:
            workshop.floor.ledger.phase(process, Phase.QUEUED, Phase.HELD, "by hand", "moved to held/", now)
            log.info("process %d: moved to held/ by hand", process)
        else:
            why = "its job file was taken out of queued/ by hand"
            workshop.floor.ledger.phase(process, Phase.QUEUED, Phase.ABORTED, "by hand", why, now, ended=now)
            log.warning("process %d: %s", process, why)

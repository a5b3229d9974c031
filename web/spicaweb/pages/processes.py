"""The list of processes, and what is done with many of them at once.

How the list is narrowed and ordered is spicaweb/processes.py's affair; one process is pages/process.py's.
"""

from __future__ import annotations

from spicad.tables import Process
from spicad.words import Phase, SpicaError
from spicaweb import drafts, processes
from spicaweb.answers import Answer
from spicaweb.drawing import draw
from spicaweb.processes import Viewer, Wish
from spicaweb.visit import Visit

MOST_AT_ONCE = 200
BULK = {"cancel": "cancelled", "hold": "held", "release": "released", "delete": "cleared of their products"}
WORDS = {"delete": "delete the results of"}


def listing(visit: Visit) -> Answer:
    viewer = viewer_of(visit)
    names = ("whose", "phase", "search", "order", "direction", "page")
    page = processes.page_of(Wish.of({name: visit.query(name) for name in names}, viewer), viewer)
    own_drafts = drafts.all_of(visit.own_account.id) if page.wish.whose == "mine" else []
    return draw(
        visit, "processes", "Processes", page=page, wish=page.wish, viewer=viewer, phases=tuple(processes.PHASES),
        bulk={verb: WORDS.get(verb, verb) for verb in BULK}, drafts=own_drafts, told=_told(visit),
    )  # fmt: skip


def many(visit: Visit) -> Answer:
    """Orders for each process that was ticked; those that are none of the visitor's are left out without a word."""
    from spicaweb import handing

    verb = visit.form("verb", 20)
    numbers = [int(each) for each in visit.chosen("process", MOST_AT_ONCE) if each.isascii() and each.isdecimal()]
    if verb not in BULK or not numbers:
        return visit.see_other("/processes", told="none")
    query = Process.select().where(Process.id.in_([each for each in numbers if each <= processes.LARGEST]))
    rows = [row for row in query.order_by(Process.id) if visit.may_process(verb, row) and _fits(verb, row)]
    if verb == "delete" and rows and visit.form("sure") != "yes":
        return draw(
            visit, "delete", "Delete results", rows=rows, action="/processes", back="/processes", files=0, bytes_=0,
            runs=0,
        )  # fmt: skip
    given = 0
    for row in rows:
        try:
            handing.order(visit, verb, row.id)
            given += 1
        except SpicaError:
            return visit.see_other("/processes", told="spool")
    return visit.see_other("/processes", told=verb, of=given, whose=visit.form("whose", 10))


def _fits(verb: str, row: Process) -> bool:
    phase = Phase(row.phase)
    if verb == "delete":
        return phase.is_over and phase is not Phase.ARCHIVED and bool(row.capsule)
    return not phase.is_over


def _told(visit: Visit) -> str:
    """What the last order to many came to; the address carries the key, never the words."""
    key, count = visit.query("told"), visit.query("of", 6)
    if key in BULK and count.isdecimal():
        return f"{int(count)} to be {BULK[key]}. It shows here as soon as the daemon has obeyed."
    return {"none": "Nothing was chosen.", "spool": "The spool cannot be written to just now. Try again."}.get(key, "")


def viewer_of(visit: Visit) -> Viewer:
    user = visit.user
    administered = tuple(sorted(user.administers)) or ((user.group,) if user.is_administrator_of(user.group) else ())
    return Viewer(user.user, administered, user.rank)

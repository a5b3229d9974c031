"""What landed and what became of it: registered, waiting, refused with the reason; and what is on its way, with bars.

Rows are written by snooppix, which the daemon runs. The search of the archive is pages/archive.py's.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import peewee

from spicad.archive.datatransfer import FAILED, OPEN
from spicad.archive.snooppix import REFUSED, STATES
from spicad.people import Thing
from spicad.tables import Seen, Transfer
from spicad.words import Rank
from spicaweb.answers import Answer
from spicaweb.drawing import draw
from spicaweb.visit import Visit

PER_PAGE = 50
MOST_MOVING = 50
MOST_PAGES = 100_000
KINDS = {"fetch": "fetched", "store": "stored", "export": "exported"}


def page(visit: Visit) -> Answer:
    """?state=refused (as without), waiting or registered; ?search= a part of a file's name; ?page=2."""
    visit.require("see", Thing("archive"))
    is_administrator = visit.user.rank >= Rank.ADMINISTRATOR
    state = visit.query("state", 12)
    state = state if state in STATES else REFUSED
    search = visit.query("search", 100)
    counts = _counts()
    query = _listed(state, search)
    total = query.count() if search else counts[state]
    pages = max(1, -(-total // PER_PAGE))
    this = min(_whole(visit.query("page", 6)), pages)
    moving, more_moving = _moving(is_administrator)
    return draw(
        visit,
        "landed",
        "Archive",
        counts=counts,
        seen=sum(counts.values()),
        states=STATES,
        state=state,
        search=search,
        files=list(query.order_by(Seen.id.desc()).paginate(this, PER_PAGE)),
        total=total,
        first=(this - 1) * PER_PAGE + 1,
        this=this,
        pages=pages,
        moving=moving,
        more_moving=more_moving,
        kinds=KINDS,
        is_administrator=is_administrator,
        refresh=10 if moving else None,
    )


def _counts() -> Mapping[str, int]:
    query: Any = Seen.select(Seen.state, peewee.fn.COUNT(Seen.id)).group_by(Seen.state)
    found = {str(state): int(count) for state, count in query.tuples()}
    return {state: found.get(state, 0) for state in STATES}


def _listed(state: str, search: str) -> Any:
    query = Seen.select().where(Seen.state == state)
    return query.where(Seen.name.contains(search)) if search else query


def _moving(is_administrator: bool) -> tuple[list[Transfer], int]:
    """What is on its way or failed, the oldest first. What is exported are products, which are not everybody's."""
    query = Transfer.select().where(Transfer.state.in_((*OPEN, FAILED)))
    if not is_administrator:
        query = query.where(Transfer.kind != "export")
    rows = list(query.order_by(Transfer.id).limit(MOST_MOVING))
    return rows, max(0, query.count() - len(rows)) if len(rows) == MOST_MOVING else 0


def _whole(words: str) -> int:
    return min(max(int(words), 1), MOST_PAGES) if words.isascii() and words.isdecimal() else 1

"""The list of processes: who may see which, filters, search, order, pages. It reads the tables, nothing else.

What may be done with a process is may()'s affair, how the list looks the page's.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple
from urllib.parse import urlencode

from spicad.tables import database
from spicad.words import Phase, Rank

PER_PAGE = 50
LONGEST_SEARCH = 100
LARGEST = 2**31 - 1
SPECIAL = re.compile("(?=[!%_])")  # where a ! goes, so that what follows is a letter like others
ORDERS = {  # word in the address: column, and whether the usual direction is downward
    "number": ("id", True),
    "name": ("name", False),
    "owner": ("owner", False),
    "group": ("owner_group", False),
    "phase": ("phase", False),
    "submitted": ("submitted", True),
    "ended": ("ended", True),
    "kept": ("expires", True),
}
PHASES = {  # what the filter offers: phases
    "": tuple(Phase),
    "waiting": (Phase.PENDING, Phase.QUEUED, Phase.HELD),
    "running": (Phase.EXECUTING,),
    "over": (Phase.COMPLETED, Phase.ERROR, Phase.ABORTED, Phase.ARCHIVED),
    **{phase.value.lower(): (phase,) for phase in Phase},
}
WHOSE = ("mine", "group", "all")


class Row(NamedTuple):
    """What the list shows of a process."""

    id: int
    name: str
    owner: str
    phase: str
    why: str
    steps_done: int
    steps_total: int
    submitted: float
    ended: float | None
    expires: float | None


@dataclass(frozen=True)
class Viewer:
    """Who looks, as far as the list needs it."""

    name: str
    administers: tuple[str, ...]  # groups
    rank: Rank

    @property
    def choices(self) -> tuple[str, ...]:
        """Whose processes may be asked for, the widest last."""
        if self.rank >= Rank.ADMINISTRATOR:
            return WHOSE if self.administers else ("mine", "all")
        return WHOSE[:2] if self.administers else WHOSE[:1]


@dataclass(frozen=True)
class Wish:
    """What was asked for; `of` never fails, whatever the address says."""

    whose: str = "mine"
    phase: str = ""
    search: str = ""
    order: str = "number"
    is_downward: bool = True
    page: int = 1

    @classmethod
    def of(cls, query: Mapping[str, str], viewer: Viewer) -> Wish:
        order = query.get("order", "number")
        order = order if order in ORDERS else "number"
        direction = query.get("direction", "")
        page = query.get("page", "1")
        return cls(
            whose=query.get("whose", "") if query.get("whose", "") in viewer.choices else "mine",
            phase=query.get("phase", "") if query.get("phase", "") in PHASES else "",
            search=query.get("search", "").strip()[:LONGEST_SEARCH],
            order=order,
            is_downward=direction == "down" if direction in ("up", "down") else ORDERS[order][1],
            page=min(max(int(page), 1), LARGEST // PER_PAGE) if page.isascii() and page.isdecimal() else 1,
        )

    def address(self, **changes: Any) -> str:
        """The query part of a link to the same list, changed."""
        wish = replace(self, **changes)
        values = {
            "whose": wish.whose if wish.whose != "mine" else "",
            "phase": wish.phase,
            "search": wish.search,
            "order": wish.order if wish.order != "number" else "",
            "direction": "" if wish.is_downward == ORDERS[wish.order][1] else "down" if wish.is_downward else "up",
            "page": wish.page if wish.page > 1 else "",
        }
        return "?" + urlencode({name: value for name, value in values.items() if value})

    def ordered_by(self, order: str) -> str:
        """The link of a column's head: a second click turns the order around."""
        turned = not self.is_downward if order == self.order else ORDERS[order][1]
        return self.address(order=order, is_downward=turned, page=1)


@dataclass(frozen=True)
class Page:
    wish: Wish
    rows: tuple[Row, ...]
    total: int
    counts: Mapping[str, int]  # phase: how many of what was asked for but for the phase

    @property
    def pages(self) -> int:
        return max(1, -(-self.total // PER_PAGE))

    @property
    def first(self) -> int:
        return (self.wish.page - 1) * PER_PAGE + 1 if self.rows else 0

    @property
    def last(self) -> int:
        return self.first + len(self.rows) - 1 if self.rows else 0


def page_of(wish: Wish, viewer: Viewer) -> Page:
    """The tables are open. In SQL, since peewee takes longer to write these statements than the database to answer."""
    searched, values = _searched(wish, viewer)
    count = f"SELECT phase, COUNT(*) FROM process WHERE {searched} GROUP BY phase"  # noqa: S608
    counts = dict(database.execute_sql(count, values).fetchall())
    phases = [phase.value for phase in PHASES[wish.phase]]
    total = sum(count for phase, count in counts.items() if phase in phases)
    wish = replace(wish, page=min(wish.page, max(1, -(-total // PER_PAGE))))
    chosen = f"{searched} AND {_one_of('phase', phases)}" if wish.phase else searched
    order = f"{ORDERS[wish.order][0]} {'DESC' if wish.is_downward else 'ASC'}"
    rows = database.execute_sql(
        f"SELECT {', '.join(Row._fields)} FROM process WHERE {chosen} "  # noqa: S608
        f"ORDER BY {order}, id DESC LIMIT {PER_PAGE} OFFSET {(wish.page - 1) * PER_PAGE}",
        values + phases if wish.phase else values,
    )
    return Page(wish, tuple(map(Row._make, rows.fetchall())), total, counts)


def _searched(wish: Wish, viewer: Viewer) -> tuple[str, list[Any]]:
    """A condition with its values: those that `viewer` may see and that the search names by a number, or a part of a
    name, owner or reason."""
    mark = database.param
    conditions: list[str] = []
    values: list[Any] = []
    if wish.whose == "mine":
        conditions.append(f"owner = {mark}")
        values.append(viewer.name)
    elif wish.whose == "group":
        conditions.append(_one_of("owner_group", viewer.administers))
        values += viewer.administers
    for word in wish.search.split():
        looked_at = [f"{column} LIKE {mark} ESCAPE '!'" for column in ("name", "owner", "why")]
        values += [f"%{SPECIAL.sub('!', word)}%"] * len(looked_at)
        if word.isascii() and word.isdecimal() and int(word) <= LARGEST:
            looked_at.append(f"id = {mark}")
            values.append(int(word))
        conditions.append(f"({' OR '.join(looked_at)})")
    return " AND ".join(conditions) or "1 = 1", values


def _one_of(column: str, values: Sequence[str]) -> str:
    return f"{column} IN ({', '.join([database.param] * len(values))})"

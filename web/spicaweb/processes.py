"""The list of processes: who may see which, filters, search, order, pages. It reads the tables, nothing else.

What may be done with a process is may()'s affair, how the list looks the page's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple
from urllib.parse import urlencode

from spicad.tables import Process
from spicad.words import Phase, Rank

PER_PAGE = 50
LONGEST_SEARCH = 100
LARGEST = 2**31 - 1
ORDERS = {  # word in the address: column, and whether the usual direction is downward
    "number": (Process.id, True),
    "name": (Process.name, False),
    "owner": (Process.owner, False),
    "group": (Process.group, False),
    "phase": (Process.phase, False),
    "submitted": (Process.submitted, True),
    "ended": (Process.ended, True),
    "kept": (Process.expires, True),
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
    """The tables are open."""
    import peewee

    found = _searched(Process.select(*(getattr(Process, name) for name in Row._fields)), wish, viewer)
    counted = _searched(Process.select(Process.phase, peewee.fn.COUNT(Process.id)), wish, viewer)
    counts = {str(phase): int(count) for phase, count in counted.group_by(Process.phase).tuples()}
    phases = [phase.value for phase in PHASES[wish.phase]]
    total = sum(count for phase, count in counts.items() if phase in phases)
    wish = replace(wish, page=min(wish.page, max(1, -(-total // PER_PAGE))))
    column: Any = ORDERS[wish.order][0]
    order = [column.desc() if wish.is_downward else column.asc()]
    if column is not Process.id:
        order.append(Process.id.desc())
    if wish.phase:
        found = found.where(Process.phase.in_(phases))
    rows = tuple(map(Row._make, found.order_by(*order).paginate(wish.page, PER_PAGE).tuples()))
    return Page(wish, rows, total, counts)


def _searched(query: Any, wish: Wish, viewer: Viewer) -> Any:
    """Those that `viewer` may see and that the search names: a number, or a part of a name, owner or reason."""
    if wish.whose == "mine":
        query = query.where(Process.owner == viewer.name)
    elif wish.whose == "group":
        query = query.where(Process.group.in_(viewer.administers))
    for word in wish.search.split():
        found = Process.name.contains(word) | Process.owner.contains(word) | Process.why.contains(word)
        if word.isascii() and word.isdecimal() and int(word) <= LARGEST:
            found = found | (Process.id == int(word))
        query = query.where(found)
    return query

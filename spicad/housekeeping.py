"""What the daemon does beside its runs: sweeps of products whose time is over, and the rows that tell of it.

The sweep itself is sweeping.py's and runs in a thread; here is when it runs, and what follows from it.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any, TypeVar

import peewee

from spicad import accounts, sweeping
from spicad.ledger import AWAY
from spicad.measuring import Measuring
from spicad.sweeping import Swept
from spicad.tables import Process
from spicad.words import Phase
from spicad.workshop import Workshop

log = logging.getLogger("spicad")

AT_ONCE = 500
SAME_S = 1.0
Item = TypeVar("Item")


class Housekeeping:
    def __init__(self, workshop: Workshop, measuring: Measuring) -> None:
        self.workshop = workshop
        self.measuring = measuring
        self.next_sweep = 0.0
        self.is_sweeping = False
        self.archived: dict[int, int] = {}  # process -> run: their rows say so
        self.said = ""

    def look(self, now: float) -> None:
        floor = self.workshop.floor
        if now < self.next_sweep and self.next_sweep - now <= floor.settings.retention.sweep_s:
            return
        self.next_sweep = now + floor.settings.retention.sweep_s
        if self.is_sweeping:
            return
        self.is_sweeping = True
        moment = sweeping.moment_now(now)
        floor.background.do(
            sweeping.sweep, floor.settings, floor.spool, moment, administrators(), then=lambda found: self._swept(found)
        )

    def _swept(self, swept: Any) -> None:
        self.is_sweeping = False
        if isinstance(swept, BaseException):
            log.error("the sweep failed; nothing more is deleted until the next", exc_info=swept)
            return
        self.measuring.due |= swept.owners
        if swept.why and swept.why != self.said:
            log.warning("products stay, since %s", swept.why)
        self.said = swept.why
        with suppress(*AWAY):
            self._note(swept)

    def _note(self, swept: Swept) -> None:
        """Rows that say otherwise are brought into line with the capsules."""
        ledger = self.workshop.floor.ledger
        for kept, days, at in swept.accepted:
            words = f"the warning {days} days before its products go was accepted for delivery"
            ledger.event(kept.process, kept.phase, "spicad", words, at)
        for process, phase, run in _rows(self._news(swept), Process.phase, Process.run):
            gone_run, at = swept.archived[process]
            if run == gone_run and Phase(phase).is_over:
                if phase != Phase.ARCHIVED:
                    words = "its time was over: products gone, recipe kept"
                    ledger.phase(process, Phase(phase), Phase.ARCHIVED, "spicad", words, at, expires=None)
                self.archived[process] = run
        for process, expires in _rows(list(swept.expires), Process.expires):
            if abs((expires or 0.0) - swept.expires[process]) > SAME_S:
                ledger.process_values(process, expires=swept.expires[process])

    def _news(self, swept: Swept) -> list[int]:
        return [process for process, (run, _) in swept.archived.items() if self.archived.get(process) != run]


def _rows(processes: Sequence[int], *columns: peewee.Field) -> Iterator[tuple[Any, ...]]:
    for start in range(0, len(processes), AT_ONCE):
        chunk = processes[start : start + AT_ONCE]
        query: Any = Process.select(Process.id, *columns).where(Process.id.in_(chunk))
        yield from query.tuples()


def administrators() -> tuple[str, ...]:
    """Mail addresses of those with an account."""
    with suppress(peewee.PeeweeException):
        return tuple(account.mail for account in accounts.administrators())
    return ()

"""Drops become accepted processes, orders, or refusals with a reason: everything between incoming/ and queued/.

A drop is looked over by the desk in a thread; until its durable copy and its row are there it stays untouched.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from spicad import closing
from spicad.background import Background
from spicad.config import Settings
from spicad.desk import Desk, Vetted, companions_of
from spicad.jobfile import Job, Order, parse
from spicad.ledger import Ledger, NewProcess
from spicad.orders import obey
from spicad.people import Person, person
from spicad.spool import Accepted, Drop, NotYet, Refused, Spool
from spicad.waiting import Waiting
from spicad.words import IN_SPOOL, Phase, SpicaError
from spicad.workshop import Workshop

log = logging.getLogger("spicad")

MOST_AT_ONCE = 500  # drops taken in one pass, so that a flood does not keep steps waiting


@dataclass(frozen=True)
class Passed:
    """A drop that the desk let pass."""

    drop: Drop
    owner: Person
    job: Job
    vetted: Vetted
    texts: dict[str, str]


class Intake:
    def __init__(
        self,
        settings: Settings,
        desk: Desk,
        spool: Spool,
        ledger: Ledger,
        background: Background,
        workshop: Workshop,
        clock: Callable[[], float],
    ) -> None:
        self.settings = settings
        self.desk = desk
        self.spool = spool
        self.ledger = ledger
        self.background = background
        self.workshop = workshop
        self.clock = clock
        self.at_the_desk: set[str] = set()
        self.passed: list[Passed] = []
        self.unfinished: dict[str, float] = {}  # drops without [end]: since when
        self.has_more = False

    def look(self, now: float) -> None:
        """Takes what lies in incoming/."""
        names = [name for name in self.spool.drops() if name not in self.at_the_desk]
        self.has_more = len(names) > MOST_AT_ONCE
        for name in names[:MOST_AT_ONCE]:
            try:
                self._take(name, now)
            except FileNotFoundError:
                continue
            except NotYet:
                self._wait_for_the_rest(name, now)
            except SpicaError as error:
                self._refuse(name, str(error), now)
            except OSError as error:
                log.error("%s cannot be taken now: %s. It stays in incoming/.", name, error)
        for name in set(self.unfinished) - set(names):
            del self.unfinished[name]
        self.accept(now)

    def _wait_for_the_rest(self, name: str, now: float) -> None:
        since = self.unfinished.setdefault(name, now)
        if now - since > self.settings.daemon.incomplete_s:
            del self.unfinished[name]
            self._refuse(name, f"{name}: the last line is not [end]. Add it: half a copy is never taken.", now)

    def _take(self, name: str, now: float) -> None:
        drop = self.spool.read_drop(name)
        owner = person(drop.uid, self.settings)
        parsed = parse(drop.text, name)
        if isinstance(parsed, Order):
            self._order(drop, parsed, owner, now)
            return
        texts = companions_of(parsed, lambda other: self.spool.read_companion(other, drop.uid))
        job = replace(parsed, texts={**parsed.texts, **texts}) if texts else parsed
        self.at_the_desk.add(name)
        self.background.do(
            self.desk.vet,
            job,
            owner,
            self.workshop.is_sandboxed,
            then=lambda answer: self._answered(drop, owner, job, texts, answer),
        )

    def _answered(self, drop: Drop, owner: Person, job: Job, texts: dict[str, str], answer: Any) -> None:
        self.at_the_desk.discard(drop.name)
        if isinstance(answer, SpicaError):
            self._refuse(drop.name, str(answer), self.clock(), job.mail)
        elif isinstance(answer, BaseException):
            log.error("%s: the desk failed", drop.name, exc_info=answer)
            self._refuse(drop.name, f"{drop.name}: an error of Spica itself: {answer}", self.clock(), job.mail)
        else:
            self.passed.append(Passed(drop, owner, job, answer, texts))

    def accept(self, now: float) -> None:
        """Copies and rows for all that the desk let pass: one transaction, one sync, then the drops go."""
        if not self.passed:
            return
        batch, self.passed = self.passed, []
        prepared: list[tuple[Passed, NewProcess, Path]] = []
        for each in batch:
            new = _new_process(each, now)
            try:
                copy = self.spool.prepare_copy(each.drop.token, each.drop.text, new.accepted)
            except OSError as error:
                log.error("%s cannot be taken now: %s. It stays in incoming/.", each.drop.name, error)
                continue
            prepared.append((each, new, copy))
        numbers = self.ledger.accept([new for _, new, _ in prepared])
        if numbers is None:
            for _, _, copy in prepared:
                copy.unlink(missing_ok=True)
            return
        taken = [
            (number, each, new)
            for number, (each, new, copy) in zip(numbers, prepared, strict=True)
            if self._place(number, copy)
        ]
        self.spool.sync(Phase.QUEUED)
        for number, each, new in taken:
            self.spool.discard_drop(each.drop.name)
            self._forget_companions(each)
            owner = each.owner
            waiting = Waiting(
                new.accepted.submitted, number, int(owner.rank), owner.user, owner.group, each.job.not_before
            )
            self.workshop.remember(number, each.vetted)
            self.workshop.queue.add(waiting, now)
            log.info("process %d %s: taken from %s, of %s", number, each.job.name, each.drop.name, owner.user)

    def _place(self, number: int, copy: Path) -> bool:
        """Puts the copy in place, unless an earlier life of the daemon has done so already."""
        if any(self.spool.path(number, phase).exists() for phase in IN_SPOOL):
            copy.unlink()
            return number not in self.workshop.queue and self.spool.path(number, Phase.QUEUED).exists()
        self.spool.place(copy, number)
        return True

    def _forget_companions(self, each: Passed) -> None:
        for name in each.texts:
            with suppress(OSError):
                self.spool.discard_drop(name)

    def _order(self, drop: Drop, order: Order, owner: Person, now: float) -> None:
        """Raises Refused with the reason when it cannot be obeyed."""
        why = obey(order, owner, self.workshop, now)
        if why:
            raise Refused(f"{drop.name}: {why}")
        self.spool.discard_drop(drop.name)

    def _refuse(self, name: str, why: str, now: float, mail: str = "") -> None:
        log.warning("%s: refused: %s", name, why.splitlines()[0])
        try:
            self.spool.refuse(name, why)
        except OSError as error:
            log.error("%s cannot be put in rejected/: %s", name, error)
            return
        with suppress(SpicaError, OSError):
            closing.mail_refused(self.settings, self.spool, name, mail, why, now)


def _new_process(each: Passed, now: float) -> NewProcess:
    owner = each.owner
    accepted = Accepted(
        token=each.drop.token,
        owner=owner.user,
        group=owner.group,
        rank=int(owner.rank),
        submitted=now,
        drop=each.drop.name,
        texts=each.texts,
    )
    steps = sum(1 for step in each.vetted.plan.steps if not step.is_lazy)
    return NewProcess(
        accepted, each.job.name, each.job.mail, each.job.not_before, each.vetted.plan.forecast_bytes, steps
    )

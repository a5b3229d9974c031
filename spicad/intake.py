"""Drops become accepted processes, orders, or refusals with a reason: everything between incoming/ and queued/.

A drop is looked over by the desk in a thread; until its durable copy and its row are there it stays untouched.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from spicad import closing, quota
from spicad.archive.locality import shares_of
from spicad.desk import Vetted, companions_of
from spicad.eta import workload
from spicad.handover import sender, site_uid
from spicad.jobfile import Job, Order, parse
from spicad.ledger import AWAY, NewProcess
from spicad.orders import obey
from spicad.people import Person, person
from spicad.spool import Accepted, Drop, Identity, NotYet, Refused
from spicad.words import Phase, SpicaError
from spicad.workbench import Floor
from spicad.workshop import Known, Workshop

log = logging.getLogger("spicad")

MOST_AT_THE_DESK = 100  # drops looked over at a time: what a run wrote at its end waits in the same line
LIMITS_S = 2.0
MOST_AT_ONCE = 500  # drops read in one pass, so that a flood does not keep steps waiting


@dataclass(frozen=True)
class Passed:
    """A drop that the desk let pass."""

    drop: Drop
    owner: Person
    job: Job
    vetted: Vetted
    texts: dict[str, str]
    beside: dict[str, Identity]  # the files that `texts` were read from


class Intake:
    def __init__(self, floor: Floor, workshop: Workshop) -> None:
        self.floor = floor
        self.workshop = workshop
        self.at_the_desk: set[str] = set()
        self.passed: list[Passed] = []
        self.unsettled: dict[int, Passed] = {}  # by processid: taken, with its drop still there
        self.taken: dict[str, Drop] = {}  # their drops, by name
        self.is_settling = False  # some of them
        self.unfinished: dict[str, float] = {}  # drops without [end]: since when
        self.immovable: set[str] = set()  # refused drops that the daemon may not move away
        self.backlog: list[str] = []  # seen in incoming/, not looked at yet
        self.limits: dict[tuple[str, str], tuple[float, tuple[int, int]]] = {}  # when it was looked up, and what
        self.limits_are_by = floor.settings
        self.has_moved = False  # something came of one of them
        self.is_stale = False  # all were gone through: more may have come meanwhile
        self.left_over = set(floor.spool.drops())  # by an earlier life of the daemon, which may have taken them

    def look(self, now: float) -> None:
        """Takes what lies in incoming/."""
        is_new = not self.backlog
        if is_new:
            self._fill_backlog()
        for _ in range(MOST_AT_ONCE):
            if not self.backlog or len(self.at_the_desk) >= MOST_AT_THE_DESK:
                break
            name = self.backlog.pop()
            if name not in self.at_the_desk and name not in self.immovable and not self._is_taken(name):
                self.has_moved |= self._look_at(name, now)
        self.is_stale = self.has_moved and not is_new and not self.backlog
        self.accept(now)

    def _is_taken(self, name: str) -> bool:
        """The very same drop, which is still there because its copy is being synced."""
        drop = self.taken.get(name)
        return drop is not None and self.floor.spool.is_still(drop)

    @property
    def has_more(self) -> bool:
        """Whether another look now would find something to do."""
        return self.is_stale or bool(self.backlog and len(self.at_the_desk) <= MOST_AT_THE_DESK // 2)

    def _fill_backlog(self) -> None:
        self.backlog, self.has_moved = self.floor.spool.drops(), False
        self.immovable.intersection_update(self.backlog)
        for name in set(self.unfinished).difference(self.backlog):
            del self.unfinished[name]

    def _look_at(self, name: str, now: float) -> bool:
        """Whether something came of the drop; one that is not whole yet must not keep others waiting."""
        try:
            self._take(name, now)
        except FileNotFoundError:
            return False
        except NotYet:
            return self._wait_for_the_rest(name, now)
        except SpicaError as error:
            self._refuse(name, str(error), now)
        except OSError as error:
            log.error("%s cannot be taken now: %s. It stays in incoming/.", name, error)
            return False
        except Exception as error:
            log.exception("%s cannot be taken", name)
            self._refuse(name, f"{name}: an error of Spica itself: {error}", now)
        return True

    def _wait_for_the_rest(self, name: str, now: float) -> bool:
        since = self.unfinished.setdefault(name, now)
        if now - since <= self.floor.settings.daemon.incomplete_s:
            return False
        del self.unfinished[name]
        self._refuse(name, f"{name}: the last line is not [end]. Add it: half a copy is never taken.", now)
        return True

    def _take(self, name: str, now: float) -> None:
        drop = self.floor.spool.read_drop(name)
        parsed = parse(drop.text, name)
        owner = self._whose(drop, parsed)
        if isinstance(parsed, Order):
            self._order(drop, parsed, owner, now)
            return
        number = self._number_of(drop)
        if number and self.floor.spool.phase_of(number):
            log.info("%s: was taken as process %d before the daemon went down", name, number)
            self._let_go(drop)
            return
        beside: dict[str, Identity] = {}
        texts = companions_of(parsed, self.floor.desk.applications, lambda each: self._read(each, drop.uid, beside))
        job = replace(parsed, texts={**parsed.texts, **texts}) if texts else parsed
        self.at_the_desk.add(name)
        self.floor.background.do(
            self.floor.desk.vet,
            job,
            owner,
            self.floor.is_sandboxed,
            then=lambda answer: self._answered(drop, owner, job, texts, beside, answer),
            at_once=self.floor.desk.has_at_hand(job, owner),
        )

    def _whose(self, drop: Drop, parsed: Job | Order) -> Person:
        """By the kernel's uid; of a drop of the site, by the row that the site wrote for it."""
        if parsed.web:
            return sender(drop, parsed.web.get("token", ""), self.floor.settings, isinstance(parsed, Job))
        if self.floor.settings.web.user and drop.uid == site_uid(self.floor.settings):
            raise Refused(f"{drop.name}: {self.floor.settings.web.user} drops in the name of accounts alone.")
        return person(drop.uid, self.floor.settings)

    def _read(self, name: str, uid: int, beside: dict[str, Identity]) -> str:
        text, beside[name] = self.floor.spool.read_companion(name, uid)
        return text

    def _answered(
        self, drop: Drop, owner: Person, job: Job, texts: dict[str, str], beside: dict[str, Identity], answer: Any
    ) -> None:
        self.at_the_desk.discard(drop.name)
        if not self.floor.spool.is_still(drop):
            log.info("%s: changed while it was looked over; it is looked at again", drop.name)
        elif isinstance(answer, SpicaError):
            self._refuse(drop.name, str(answer), self.floor.clock(), job.mail)
            self._forget_row(drop, str(answer))
        elif isinstance(answer, BaseException):
            log.error("%s: the desk failed", drop.name, exc_info=answer)
            self._refuse(drop.name, f"{drop.name}: an error of Spica itself: {answer}", self.floor.clock(), job.mail)
        elif why := self._no_room(drop, owner, answer):
            self._refuse(drop.name, f"{drop.name}: {why}", self.floor.clock(), job.mail)
            self._forget_row(drop, why)
        else:
            self.passed.append(Passed(drop, owner, job, answer, texts, beside))

    def _no_room(self, drop: Drop, owner: Person, vetted: Vetted) -> str:
        """Why the quota has no room for it; one that was taken in an earlier life has its room."""
        if self._number_of(drop) or not any(self._limits(owner)):
            return ""
        also = sum(each.vetted.plan.forecast_bytes for each in self.passed if each.owner.user == owner.user)
        with suppress(*AWAY):
            return quota.refusal_for(self.floor.settings, owner.user, owner.group, vetted.plan.forecast_bytes, also)
        return ""

    def _limits(self, owner: Person) -> tuple[int, int]:
        """Of the user and the group, remembered for a moment: a flood of drops asks the same again and again."""
        key, now = (owner.user, owner.group), self.floor.clock()
        if self.limits_are_by is not self.floor.settings:
            self.limits, self.limits_are_by = {}, self.floor.settings
        at, limits = self.limits.get(key, (0.0, (0, 0)))
        if not 0 <= now - at < LIMITS_S:
            limits = quota.limits_now(self.floor.settings, *key)
            self.limits = {each: found for each, found in self.limits.items() if 0 <= now - found[0] < LIMITS_S}
            self.limits[key] = now, limits
        return limits

    def _number_of(self, drop: Drop) -> int:
        """Of a drop that an earlier life of the daemon gave a row; 0 for any other."""
        if drop.name not in self.left_over:
            return 0
        return self.floor.ledger.number_of(drop.token)

    def _forget_row(self, drop: Drop, why: str) -> None:
        """A row without a copy, whose drop is refused now: nobody was told of that process."""
        if number := self._number_of(drop):
            now = self.floor.clock()
            self.floor.ledger.phase(number, Phase.QUEUED, Phase.ABORTED, "spicad", f"refused: {why}", now, ended=now)

    def accept(self, now: float) -> None:
        """Copies and rows for all that the desk let pass, in one transaction; `settle` lets the drops go."""
        if not self.passed:
            return
        batch, self.passed = self.passed, []
        try:
            self._accept(batch, now)
        except Exception as error:
            if len(batch) > 1:  # one that cannot be stored must not keep the others, nor end the daemon
                for each in batch:
                    self.passed = [each]
                    self.accept(now)
                return
            log.exception("%s cannot be accepted", batch[0].drop.name)
            why = f"{batch[0].drop.name}: an error of Spica itself: {error}"
            self._refuse(batch[0].drop.name, why, now, batch[0].job.mail)

    def _accept(self, batch: list[Passed], now: float) -> None:
        prepared: list[tuple[Passed, NewProcess, Path]] = []
        for each in batch:
            new = _new_process(each, self._locality(each), now)
            try:
                copy = self.floor.spool.prepare_copy(each.drop.token, each.drop.text, new.accepted, is_synced=False)
            except OSError as error:
                log.error("%s cannot be taken now: %s. It stays in incoming/.", each.drop.name, error)
                continue
            prepared.append((each, new, copy))
        numbers = self.floor.ledger.accept([new for _, new, _ in prepared])
        if numbers is None:
            for _, _, copy in prepared:
                copy.unlink(missing_ok=True)
            return
        placed = [
            (number, each, new)
            for number, (each, new, copy) in zip(numbers, prepared, strict=True)
            if self._place(number, copy, each.drop.name)
        ]
        for number, each, new in placed:
            self._queue(number, each, new, now)
            self.unsettled[number] = each
            self.taken[each.drop.name] = each.drop

    def _locality(self, each: Passed) -> float:
        """On the node that stores most of its input."""
        files = {str(exposure.path): exposure.size for exposure in each.vetted.plan.exposures.values()}
        with suppress(*AWAY):
            shares = shares_of(files, self.floor.places_of(files))
            nodes = [node.name for node in self.floor.backend.nodes() if node.name] or list(shares.by_node)
            return max(map(shares.on, nodes), default=shares.anywhere)
        return 1.0

    def _place(self, number: int, copy: Path, name: str) -> bool:
        """Puts the copy in place, unless an earlier try or life has done so already."""
        try:
            if self.floor.spool.phase_of(number) is None:
                self.floor.spool.place(copy, number)
            else:
                copy.unlink(missing_ok=True)
        except OSError as error:
            log.error("%s cannot be taken now: %s. It stays in incoming/.", name, error)
            copy.unlink(missing_ok=True)
            return False
        return True

    def settle(self) -> None:
        """The copies are made to outlive a power cut, and only then the drops go; steps may have begun meanwhile.

        In a thread, since each sync takes its time: what is taken meanwhile is synced together.
        """
        if not self.unsettled or self.is_settling:
            return
        self.is_settling, taken = True, dict(self.unsettled)
        self.floor.background.do(
            self.floor.spool.secure, tuple(taken), then=lambda answer: self._settled(taken, answer)
        )

    def _settled(self, taken: dict[int, Passed], answer: Any) -> None:
        self.is_settling = False
        for number, each in taken.items():
            self.unsettled.pop(number, None)
            self.taken.pop(each.drop.name, None)
        if isinstance(answer, BaseException):
            log.error("The spool cannot be synced: %s. What was taken stays in incoming/ too.", answer)
            return
        for each in taken.values():
            self._let_go(each.drop, each.beside)

    def _queue(self, number: int, each: Passed, new: NewProcess, now: float) -> None:
        workshop, owner = self.workshop, each.owner
        is_known = number in workshop.queue or number in workshop.starting
        if is_known or self.floor.spool.phase_of(number) is not Phase.QUEUED:
            return  # its drop was left over by an earlier life
        workshop.remember(number, Known(each.vetted, new.accepted))
        workshop.queue.add(new.accepted.as_waiting(number, each.job.not_before), now)
        log.info("process %d %s: taken from %s, of %s", number, each.job.name, each.drop.name, owner.user)

    def _let_go(self, drop: Drop, beside: Mapping[str, Identity] | None = None) -> None:
        try:
            self.floor.spool.discard_drop(drop)
            for name, identity in (beside or {}).items():
                if not self._is_named_again(name, drop):
                    self.floor.spool.discard_companion(name, identity)
        except OSError as error:
            self.immovable.add(drop.name)
            log.error("%s was taken but cannot be removed: %s", drop.name, error)

    def _is_named_again(self, name: str, drop: Drop) -> bool:
        """Whether another drop of that owner waits for the file too; in a flood the last ones of it clear up."""
        others = self.floor.spool.drops()
        return len(others) > MOST_AT_THE_DESK or any(self.floor.spool.mentions(each, name, drop.uid) for each in others)

    def _order(self, drop: Drop, order: Order, owner: Person, now: float) -> None:
        """Raises Refused with the reason when it cannot be obeyed."""
        if order.process in self.workshop.ending:
            return  # its end is being written: the next look asks again
        why = obey(replace(order, token=drop.token), owner, self.workshop, now)
        if why:
            raise Refused(f"{drop.name}: {why}")
        self._let_go(drop)

    def _refuse(self, name: str, why: str, now: float, mail: str = "") -> None:
        log.warning("%s: refused: %s", name, why.splitlines()[0])
        with suppress(SpicaError, OSError):
            closing.mail_refused(self.floor.settings, self.floor.spool, name, mail, why, now)
        try:
            self.floor.spool.refuse(name, why)
        except OSError as error:
            self.immovable.add(name)
            log.error("%s cannot be moved to rejected/: %s. It is left where it is.", name, error)


def _new_process(each: Passed, locality: float, now: float) -> NewProcess:
    owner = each.owner
    accepted = Accepted(
        token=each.drop.token,
        owner=owner.user,
        group=owner.group,
        rank=int(owner.rank),
        submitted=now,
        drop=each.drop.name,
        texts=each.texts,
        picks=each.vetted.picks.as_text(),
        locality=round(locality, 4),
    )
    plan = each.vetted.plan
    steps = [step for step in plan.steps if not step.is_lazy]
    return NewProcess(
        accepted,
        each.job.name,
        each.job.mail,
        each.job.not_before,
        min(plan.forecast_bytes, 1 << 60),
        len(steps),
        workload((step.application, plan.input_bytes(step)) for step in steps),
    )

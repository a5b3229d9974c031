"""A process of the pipeline for each exposure that is new in the archive, where [newcomers] of spica.conf names rules.

Each is asked for once, whatever ends the daemon: its token is made from the exposure, and the mark up to which all
were asked for moves when their job files are safe. What the process does is the affair of the rules.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import peewee

from spicad import people, rows
from spicad.intake import Intake, Passed
from spicad.jobfile import Job, parse
from spicad.ledger import AWAY
from spicad.people import Person
from spicad.schema import as_toml
from spicad.spool import Drop
from spicad.tables import Exposure, Mark, Process
from spicad.words import BadInput, Phase, Rank, SpicaError
from spicad.workbench import Floor

log = logging.getLogger("spicad")

GROUP = "newcomers"  # of these processes: [retention] and [quota] may speak of it
MARK = "newcomers"
MOST_AT_ONCE = 1000
LIVE = (Phase.QUEUED.value, Phase.EXECUTING.value)
PAUSE_S = 60.0
NOBODY = (0, 0, 0, 0, 0)  # the identity of a drop that never was a file


@dataclass
class Asked:
    """An exposure whose process is on its way into the spool."""

    exposure: int
    name: str
    path: str
    token: str
    is_at_desk: bool = False
    is_refused: bool = False
    text: str = field(default="", repr=False)


class Newcomers:
    def __init__(self, floor: Floor, intake: Intake) -> None:
        self.floor = floor
        self.intake = intake
        self.asked: dict[int, Asked] = {}  # in the order of registration, all beyond the mark
        self.is_known_off = False
        self.next_try = 0.0
        self.said = ""

    def look(self, now: float) -> None:
        with suppress(*AWAY):
            if not self.floor.settings.newcomers.rules:
                self._forget()
            elif now >= self.next_try or self.next_try - now > PAUSE_S:
                self._look(now)

    def _forget(self) -> None:
        """So that what is registered meanwhile is not begun when the wish comes back."""
        if not self.is_known_off:
            rows.delete(Mark, name=MARK)
            self.is_known_off = True
            self.asked.clear()

    def _look(self, now: float) -> None:
        self.is_known_off = False
        mark = self._moved(_mark())
        if why := self._lacking():
            self._wait(why)
            return
        for each in self.asked.values():
            if not each.is_at_desk and not each.is_refused and not self._is_passed(each):
                self._ask(each)
        room = self.floor.settings.newcomers.at_once - max(len(self.asked), _live(self._owner))
        if room > 0:
            for each in _beyond(max([mark, *self.asked]), room):
                self.asked[each.exposure] = each
                self._ask(each)

    def _moved(self, mark: int) -> int:
        """The mark, past all whose job files are safe."""
        before = mark
        while self.asked and self._is_done(first := next(iter(self.asked.values()))):
            mark = first.exposure
            del self.asked[mark]
        if mark != before:
            rows.update(Mark, {"name": MARK}, number=mark)
        return mark

    def _is_done(self, each: Asked) -> bool:
        if each.is_refused:
            return True
        if each.is_at_desk or self._is_passed(each):
            return False
        process = self.floor.ledger.number_of(each.token)
        return bool(process) and self._is_safe(process)

    def _is_safe(self, process: int) -> bool:
        if self.floor.spool.phase_of(process) is not None:
            self.floor.spool.secure([process])
            return True
        return str(rows.find(Process, "phase", id=process)) not in LIVE  # it is over since long ago

    def _is_passed(self, each: Asked) -> bool:
        return any(passed.drop.token == each.token for passed in (*self.intake.passed, *self.intake.unsettled.values()))

    @property
    def _owner(self) -> Person:
        """The daemon itself, for the observatory's pipeline."""
        own = people.person(os.geteuid(), self.floor.settings)
        return Person(own.uid, own.user, GROUP, Rank.PIPELINE, runs_spica=True)

    # ------------------------------------------------------------------ one exposure

    def _ask(self, each: Asked) -> None:
        process = self.floor.ledger.number_of(each.token)
        if process and self._is_safe(process):
            return  # an earlier life had come that far; the next look moves the mark
        name = f"{GROUP}-{each.exposure}.spica"
        each.text = _job_text(each, self.floor.settings.newcomers.rules)
        job = parse(each.text, name)
        assert isinstance(job, Job)
        drop = Drop(name, each.text, os.geteuid(), os.getegid(), each.token, NOBODY)
        each.is_at_desk = True
        then = partial(self._answered, each, drop, job)
        self.floor.background.do(self.floor.desk.vet, job, self._owner, self.floor.is_sandboxed, then=then)

    def _answered(self, each: Asked, drop: Drop, job: Job, answer: Any) -> None:
        each.is_at_desk = False
        if self.asked.get(each.exposure) is not each:
            return
        if isinstance(answer, BadInput) and not self._lacking():
            self._refuse(each, drop, str(answer))
        elif isinstance(answer, BaseException):
            self._wait(str(answer), None if isinstance(answer, SpicaError) else answer)
        else:
            self.said = ""
            self.intake.passed.append(Passed(drop, self._owner, job, answer, {}, {}))

    def _lacking(self) -> str:
        """What is no fault of an exposure that cannot be begun; '' when there is nothing."""
        path = self.floor.settings.paths.rules / f"{self.floor.settings.newcomers.rules}.toml"
        return "" if path.is_file() else f"there is no file {path}"

    def _wait(self, why: str, error: BaseException | None = None) -> None:
        """The rules or a tool are missing: for all of them, and for as long as that is so."""
        self.next_try = self.floor.clock() + PAUSE_S
        if why != self.said:
            self.said = why
            log.error("[newcomers]: nothing can be begun, tried again and again: %s", why, exc_info=error)

    def _refuse(self, each: Asked, drop: Drop, why: str) -> None:
        """Told like a job file of a user: it can be mended and dropped."""
        log.warning("%s: %s is not begun: %s", drop.name, each.name, why.splitlines()[0])
        try:
            target = self.floor.spool.refuse(drop.name, why)
            self.floor.spool.write(target, each.text)
            each.is_refused = True
        except OSError as error:
            self._wait(str(error))


def _job_text(each: Asked, rules: str) -> str:
    stem = re.sub(r"[^A-Za-z0-9._+-]", "_", each.name.partition(".")[0])[:60]
    lines = [
        f"name = {as_toml(f'new-{stem}')}",
        f"exposures = [{as_toml(_escaped(each.path))}]",
        f"rules = {as_toml(rules)}",
    ]
    return "\n".join([*lines, "", "[end]", ""])


def _escaped(path: str) -> str:
    """In a job file * ? and [ stand for others."""
    return re.sub(r"([*?[])", r"[\1]", path)


def _mark() -> int:
    """How far all were asked for; what was there before anybody wished it is not new."""
    found = rows.find(Mark, "number", name=MARK)
    if found is None:
        found = Exposure.select(peewee.fn.MAX(Exposure.id)).scalar() or 0
        rows.insert(Mark, name=MARK, number=found)
    return int(found)


def _live(owner: Person) -> int:
    query = Process.select().where((Process.owner == owner.user) & Process.phase.in_(LIVE) & (Process.group == GROUP))
    return int(query.count())


def _beyond(mark: int, most: int) -> list[Asked]:
    query: Any = Exposure.select(Exposure.id, Exposure.name, Exposure.path, Exposure.sha256)
    query = query.where((Exposure.id > mark) & (Exposure.kind == "science")).order_by(Exposure.id).limit(most)
    return [Asked(number, name, path, _token(number, sha256)) for number, name, path, sha256 in query.tuples()]


def _token(exposure: int, sha256: str) -> str:
    return hashlib.sha256(f"{MARK} {exposure} {sha256}".encode()).hexdigest()[:40]


def tokens_to_come() -> frozenset[str]:
    """Of those that an earlier life may have given a row, and that are asked for again by this one."""
    found = rows.find(Mark, "number", name=MARK)
    return frozenset() if found is None else frozenset(each.token for each in _beyond(int(found), MOST_AT_ONCE))

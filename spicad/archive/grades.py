"""Grades of exposures, A to D: who gave them and when, which one counts, what waits for one, how many there are.

The tables must be open. A person's grade wins over a proposed one (judgements.py), the latest over earlier ones. How
they travel as CSV is grade_lists.py's affair.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import peewee

from spicad import people, rows
from spicad.archive.entries import all_or_nothing
from spicad.archive.quality import COMMENTS
from spicad.archive.search import exposures_by
from spicad.people import Person, Thing
from spicad.rules import GRADES
from spicad.schema import shown
from spicad.tables import COUNTED_BY_GRADES, Exposure, Grading, Quality, database
from spicad.words import BadInput, Problem, SpicaError, nearest

ARCHIVE = Thing("archive")
MOST_WORDS = 2000
MOST_IN_AN_ORDER = 500  # the daemon grades them between two looks
MOST_OF_ONE_TIME = 10_000  # exposures that are graded together


@dataclass(frozen=True)
class Given:
    """One grade as it was given; with an empty `grade`, as it was taken back."""

    who: str
    time: float
    grade: str
    comments: tuple[str, ...] = ()  # of COMMENTS
    words: str = ""

    @property
    def said(self) -> str:
        """Comments and words in one line."""
        return "; ".join(filter(None, [*self.comments, self.words]))


def standing(history: Iterable[Given], proposed: str) -> tuple[str, str]:
    """The grade that counts and whose it is: the latest of what each person said last, else the proposed one."""
    counting = [given for given in last_words(history) if given.grade]
    if not counting:
        return proposed, ""
    return counting[0].grade, counting[0].who


def last_words(history: Iterable[Given]) -> list[Given]:
    """What each person said last, the latest first. Of the same moment, what comes first in `history` is later."""
    found: dict[str, Given] = {}
    for given in sorted(history, key=lambda each: -each.time):
        found.setdefault(given.who, given)
    return list(found.values())


def is_disputed(history: Iterable[Given]) -> bool:
    """Whether persons differ, each by what they said last."""
    return len({given.grade for given in last_words(history) if given.grade}) > 1


# Giving


def give(
    actor: Person,
    exposures: Sequence[int],
    grade: str,
    comments: Sequence[str] = (),
    words: str = "",
    now: float | None = None,
) -> int:
    """A grade of `actor` for each; '' takes theirs back. How many of them are another than `actor` said last.

    Raises BadInput with what cannot be, SpicaError when `actor` may not.
    """
    if not people.may(actor, "grade", ARCHIVE):
        raise SpicaError("you may not grade exposures.")
    given = checked(actor.user, time.time() if now is None else now, grade, comments, words)
    if len(exposures) > MOST_OF_ONE_TIME:
        raise BadInput(Problem("grade", f"more than {MOST_OF_ONE_TIME} exposures at once.", "Grade fewer."))
    with all_or_nothing():
        return sum(_add(number, given) for number in dict.fromkeys(exposures))


def checked(who: str, moment: float, grade: str, comments: Sequence[str], words: str) -> Given:
    """Raises BadInput."""
    problems = []
    if grade not in ("", *GRADES):
        problems.append(Problem("grade", f"{shown(grade)} is no grade.", f"Give one of {', '.join(GRADES)}."))
    usual = {comment: _usual(comment) for comment in comments}
    for comment in (comment for comment, known in usual.items() if not known):
        mend = nearest(comment, COMMENTS) or f"Known: {'; '.join(COMMENTS)}. Anything else goes into the words."
        problems.append(Problem("comment", f"there is no comment {shown(comment)}.", mend))
    if len(words) > MOST_WORDS:
        problems.append(Problem("words", f"{len(words)} characters are too many.", f"Keep to {MOST_WORDS}."))
    if problems:
        raise BadInput(problems)
    plain = " ".join("".join(c if c.isprintable() else " " for c in words).split())
    return Given(who, round(moment, 3), grade, tuple(dict.fromkeys(usual.values())), plain)


def _usual(comment: str) -> str:
    """One of COMMENTS, of which the beginning is enough; '' when it is none, or begins several."""
    wanted = comment.strip().lower()
    found = [each for each in COMMENTS if each.lower() == wanted]
    found = found or [each for each in COMMENTS if wanted and each.lower().startswith(wanted)]
    return found[0] if len(found) == 1 else ""


def _add(exposure: int, given: Given) -> bool:
    """In a transaction. Whether it says something new: the same once more, by a form sent twice, is said once."""
    _lock(exposure)
    if is_said(exposure, given):
        return False
    record(exposure, given)
    settle(exposure)
    return True


def is_said(exposure: int, given: Given) -> bool:
    """Whether it is what this person has said of it last; who has said nothing has given no grade."""
    own = next((each for each in history(exposure) if each.who == given.who), Given(given.who, 0.0, ""))
    return (own.grade, own.comments, own.words) == (given.grade, given.comments, given.words)


def record(exposure: int, given: Given) -> bool:
    """A row; False when the very same is there already. The caller settles."""
    key = hashlib.sha256(repr((exposure, given)).encode()).hexdigest()
    if rows.find(Grading, "id", key=key) is not None:
        return False
    rows.insert(
        Grading, key=key, exposure=exposure, who=given.who, time=given.time, grade=given.grade,
        comments=json.dumps(given.comments), words=given.words,
    )  # fmt: skip
    return True


def _lock(exposure: int) -> None:
    """Until the end of the transaction: two graders at once must both see what the other said."""
    if not isinstance(database.obj, peewee.SqliteDatabase):  # there the transaction itself is alone
        Exposure.update(graded_by=Exposure.graded_by).where(Exposure.id == exposure).execute()


def settle(exposure: int) -> None:
    """Brings the exposure's grade into line with what was said of it; in a transaction."""
    _lock(exposure)
    grade, who = standing(history(exposure), str(rows.find(Quality, "grade", exposure=exposure) or ""))
    rows.update(Exposure, {"id": exposure}, grade=grade, graded_by=who)
    rows.update(Quality, {"exposure": exposure}, is_graded=bool(who))


# What was said


def history(exposure: int) -> list[Given]:
    """The latest first."""
    return histories([exposure]).get(exposure, [])


def histories(exposures: Sequence[int]) -> dict[int, list[Given]]:
    """Of each that anybody has graded, the latest first."""
    found: dict[int, list[Given]] = {}
    for start in range(0, len(exposures), 500):
        query: Any = Grading.select().where(Grading.exposure.in_(list(exposures[start : start + 500])))
        for row in query.order_by(Grading.time.desc(), Grading.id.desc()):
            found.setdefault(int(row.exposure), []).append(_given(row))
    return found


def _given(row: Any) -> Given:
    return Given(row.who, row.time, row.grade, tuple(json.loads(row.comments)), row.words)


# What waits for a grade


@dataclass(frozen=True)
class Among:
    """Which exposures a grader looks at."""

    runid: str = ""
    filter: str = ""
    state: str = "ungraded"  # or graded, all
    is_judged: bool = True  # only those that QualityFITS, or another application, has judged

    @property
    def number(self) -> Any:
        """The column to order them by: the one that an index has in this order."""
        return Quality.exposure if self.is_judged else Exposure.id

    def exposures(self, *columns: Any) -> Any:
        """A query of them, without an order."""
        query: Any = Exposure.select(*columns)
        if self.is_judged:
            query = query.join(Quality, on=Quality.exposure == Exposure.id)
        else:
            query = query.where(Exposure.kind == "science")
        if self.state != "all":
            is_graded = self.state == "graded"
            by = (Exposure.graded_by != "") if is_graded else (Exposure.graded_by == "")
            query = query.where(Quality.is_graded == is_graded if self.is_judged else by)
        if self.runid:
            query = query.where(Exposure.runid == self.runid)
        if self.filter:
            query = query.where(Exposure.filter == self.filter)
        return query


STATES = ("ungraded", "graded", "all")


def next_of(among: Among, after: int = 0, is_back: bool = False) -> int:
    """The number of the exposure after (before) that one, in the order of registration; 0 when there is none."""
    number = among.number
    query = among.exposures(number).where(number < after if is_back else number > after)
    row = query.order_by(number.desc() if is_back else number).limit(1).tuples().first()
    return int(row[0]) if row else 0


def how_many(among: Among) -> int:
    return int(among.exposures(Exposure.id).count())


def graded(runid: str = "", filter_: str = "") -> list[int]:
    """The numbers of all exposures that anybody has ever graded."""
    query: Any = Grading.select(Grading.exposure).distinct()
    if runid or filter_:
        query = query.join(Exposure, on=Exposure.id == Grading.exposure)
        query = query.where(Exposure.runid == runid) if runid else query
        query = query.where(Exposure.filter == filter_) if filter_ else query
    return [number for (number,) in query.order_by(Grading.exposure).tuples()]


# How many there are


@dataclass(frozen=True)
class Tally:
    """Exposures of a run and filter: by persons' grades, by proposed ones where no person has said, without any."""

    runid: str
    filter: str
    graded: dict[str, int]
    proposed: dict[str, int]
    without: int

    @property
    def total(self) -> int:
        return sum(self.graded.values()) + sum(self.proposed.values()) + self.without


def tallies(runid: str = "", filter_: str = "") -> list[Tally]:
    """Of all science exposures, by run and filter."""
    columns = (Exposure.runid, Exposure.filter, Exposure.grade)
    by_persons = peewee.fn.SUM(Exposure.graded_by != "")
    query: Any = Exposure.select(*columns, peewee.fn.COUNT(peewee.SQL("*")), by_persons)
    query = query.from_(exposures_by(COUNTED_BY_GRADES)).where(Exposure.kind == "science")
    query = query.where(Exposure.runid == runid) if runid else query
    query = query.where(Exposure.filter == filter_) if filter_ else query
    found: dict[tuple[str, str], Tally] = {}
    for run, band, grade, count, graded in query.group_by(*columns).tuples():
        tally = found.get((run, band), Tally(run, band, {}, {}, 0))
        if not grade:
            found[(run, band)] = replace(tally, without=count)
            continue
        given, proposed = {grade: int(graded)}, {grade: count - int(graded)}
        found[(run, band)] = replace(
            tally, graded=tally.graded | _some(given), proposed=tally.proposed | _some(proposed)
        )
    return [found[key] for key in sorted(found)]


def _some(counts: dict[str, int]) -> dict[str, int]:
    return {grade: count for grade, count in counts.items() if count}


def graders() -> list[tuple[str, int, float]]:
    """Who has graded, how often, when last; the most active first."""
    query: Any = Grading.select(Grading.who, peewee.fn.COUNT(Grading.id), peewee.fn.MAX(Grading.time))
    return sorted(query.group_by(Grading.who).tuples(), key=lambda each: (-each[1], each[0]))

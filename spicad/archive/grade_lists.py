"""Lists of grades as CSV: written for people and spreadsheets, read back whole or not at all.

    exposure,sha256,runid,filter,grade,grader,time,comments,words
    900001p.fits,6ca1...,03AF12,r,B,alice,2004-03-21T18:00:00.000Z,poor seeing; defocus,at low altitude

What a grade means is grades.py's. Only `exposure` (or `sha256`) and `grade` must be there.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from spicad import people
from spicad.archive import grades, search
from spicad.archive.entries import all_or_nothing
from spicad.archive.formats import FORMULA, csv_line
from spicad.archive.grades import ARCHIVE, Given, checked
from spicad.people import Person
from spicad.schema import shown
from spicad.tables import Exposure
from spicad.words import BadInput, Problem, SpicaError, nearest

COLUMNS = ("exposure", "sha256", "runid", "filter", "grade", "grader", "time", "comments", "words")
TOLD_ONLY = ("runid", "filter")  # for people; not read back
MOST_LINES = 200_000
MOST_PROBLEMS = 50
AT_ONCE = 500
FUTURE_S = 300.0  # clocks differ


def as_csv(exposures: Sequence[int], is_whole: bool = False) -> Iterator[str]:
    """The grade of a person that counts for each; or, whole, all that was ever said of them, the oldest first."""
    yield csv_line(COLUMNS)
    for start in range(0, len(exposures), AT_ONCE):
        some = list(exposures[start : start + AT_ONCE])
        histories = grades.histories(some)
        query: Any = Exposure.select(
            Exposure.id, Exposure.name, Exposure.sha256, Exposure.runid, Exposure.filter, Exposure.graded_by
        ).where(Exposure.id.in_(list(histories)))
        for number, *known, who in query.order_by(Exposure.id).tuples():
            said = histories[number]
            counting = [next(each for each in said if each.who == who)] if who else []
            for given in reversed(said) if is_whole else counting:
                moment = _written(given.time)
                yield csv_line([*known, given.grade, given.who, moment, "; ".join(given.comments), given.words])


@dataclass(frozen=True)
class Taken:
    new: int
    known: int


@dataclass(frozen=True)
class _Line:
    number: int
    word: str  # name or digest of the exposure
    given: Given
    is_timed: bool


def take(actor: Person, text: str, source: str, now: float) -> Taken:
    """Reads a list; writes all of it, or nothing. Raises BadInput with what is wrong, line by line.

    A line without a grader is `actor`'s; only who administers Spica may bring what others have said.
    """
    if not people.may(actor, "grade", ARCHIVE):
        raise SpicaError("you may not grade exposures.")
    problems: list[Problem] = []
    lines = list(_lines(actor, text, source, now, problems))
    known = _exposures_of({line.word for line in lines})
    for line in lines:
        found = known.get(line.word, ())
        if len(found) != 1:
            what = "is the name of several exposures" if found else "is no exposure of the archive"
            mend = "Add its sha256." if found else "See: spica find --name"
            problems.append(_problem(source, line.number, f"{shown(line.word)} {what}.", mend))
    if problems:
        raise BadInput(problems[:MOST_PROBLEMS])
    with all_or_nothing():
        written = [(known[line.word][0], _record(known[line.word][0], line)) for line in lines]
        for exposure in dict.fromkeys(number for number, is_new in written if is_new):
            grades.settle(exposure)
    new = sum(is_new for _, is_new in written)
    return Taken(new, len(written) - new)


def _record(exposure: int, line: _Line) -> bool:
    """Without a time, what somebody has said last already is not said again."""
    if not line.is_timed and grades.is_said(exposure, line.given):
        return False
    return grades.record(exposure, line.given)


def _lines(actor: Person, text: str, source: str, now: float, problems: list[Problem]) -> Iterator[_Line]:
    reader = csv.reader(io.StringIO(text.lstrip("\ufeff"), newline=""), strict=True)
    try:
        head = [word.strip().lower() for word in next(reader, [])]
        if wrong := list(_wrong_head(head, source)):
            problems += wrong
            return
        for cells in reader:
            if not any(cell.strip() for cell in cells):
                continue
            at = reader.line_num
            if at > MOST_LINES:
                problems.append(_problem(source, at, f"the list has more than {MOST_LINES} lines.", "Split it."))
                return
            if len(cells) != len(head):
                problems.append(_problem(source, at, f"{len(cells)} values for {len(head)} columns.", "Mend it."))
                continue
            values = {name: _plain(cell) for name, cell in zip(head, cells, strict=True)}
            try:
                word = values.get("sha256") or values.get("exposure") or ""
                yield _Line(at, word, _given(actor, values, now), bool(values.get("time")))
            except BadInput as error:
                problems += [_problem(source, at, each.what, each.mend) for each in error.problems]
            if len(problems) > MOST_PROBLEMS:
                return
    except csv.Error as error:
        problems.append(_problem(source, reader.line_num, f"this is no CSV: {error}.", "Save it as CSV, UTF-8."))


def _wrong_head(head: Sequence[str], source: str) -> Iterator[Problem]:
    for name in head:
        if name not in COLUMNS:
            mend = nearest(name, COLUMNS) or f"Known: {', '.join(COLUMNS)}."
            yield _problem(source, 1, f"unknown column {shown(name)}.", mend)
    if len(set(head)) != len(head):
        yield _problem(source, 1, "a column stands there twice.", "Keep one.")
    if "grade" not in head or not {"exposure", "sha256"} & set(head):
        yield _problem(source, 1, "columns are missing.", "The first line names them: exposure,grade at least.")


def _given(actor: Person, values: dict[str, str], now: float) -> Given:
    who = values.get("grader") or actor.user
    if who != actor.user and not people.may(actor, "grade for others", ARCHIVE):
        what = f"{shown(who)} has said this; you may bring only grades of your own."
        raise BadInput(Problem("grader", what, f"Leave the grader empty, or {actor.user}."))
    if len(who) > 64:
        raise BadInput(Problem("grader", "the name is too long.", "At most 64 characters."))
    comments = [each for each in map(str.strip, values.get("comments", "").split(";")) if each]
    moment = _moment(values.get("time", ""), now)
    return checked(who, moment, values["grade"].upper(), comments, values.get("words", ""))


def _moment(text: str, now: float) -> float:
    if not text:
        return now
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise BadInput(Problem("time", f"{shown(text)} is no time.", "Write 2004-03-21T18:00:00Z.")) from None
    seconds = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    if not 0 <= seconds <= now + FUTURE_S:
        raise BadInput(Problem("time", f"{shown(text)} has not been yet.", "Mend it, or leave it empty for now."))
    return seconds


def _written(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _plain(cell: str) -> str:
    """Without the quote that keeps a spreadsheet from taking it for a formula."""
    word = cell.strip()
    return word[1:] if word[:1] == "'" and word[1:2] in FORMULA else word


def _exposures_of(words: Iterable[str]) -> dict[str, tuple[int, ...]]:
    listed = sorted(filter(None, words))
    digests = [word for word in listed if len(word) == 64 and set(word) <= set("0123456789abcdef")]
    found: dict[str, tuple[int, ...]] = {}
    for start in range(0, len(digests), AT_ONCE):
        some = digests[start : start + AT_ONCE]
        query: Any = Exposure.select(Exposure.sha256, Exposure.id).where(Exposure.sha256.in_(some))
        found |= {digest: (number,) for digest, number in query.tuples()}
    return found | dict(search.named([word for word in listed if word not in found]).found)


def _problem(source: str, line: int, what: str, mend: str) -> Problem:
    return Problem(source, what, mend, line)

"""Grading: counts and pies by run and filter, the queue of what waits, lists of grades out and in.

An exposure and the form that grades it stand on its own page, pages/exposure.py; which grade counts is
spicad/archive/grades.py's affair.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bottle import request

from spicad.archive import grade_lists, grades
from spicad.archive.grades import ARCHIVE, Given, Tally
from spicad.archive.quality import COMMENTS
from spicad.archive.search import SORTS
from spicad.rules import GRADES
from spicad.tables import Exposure
from spicad.words import BadInput, SpicaError
from spicaweb import downloads
from spicaweb.answers import Answer
from spicaweb.drawing import draw
from spicaweb.pies import pie
from spicaweb.quality import in_words
from spicaweb.queue import among_of, fields_of
from spicaweb.visit import Visit

MOST_LIST = 64 << 10  # bytes of a list that is brought
MOST_SHOWN = 300  # runs and filters on the page
PER_PAGE = 100
LISTED = (  # what the table of exposures shows: column, words
    ("name", "Exposure"), ("runid", "Run"), ("filter", "Filter"), ("seeing", "Seeing"), ("elongation", "Elongation"),
    ("background", "Background"), ("limiting_magnitude", "Limiting magnitude"), ("stars", "Stars"),
)  # fmt: skip


def page(visit: Visit, problems: Sequence[str] = ()) -> Answer:
    """?runid=03AF12&filter=r; ?taken=5&known=3 of a list that was brought."""
    visit.require("see", ARCHIVE)
    among = among_of(visit)
    tallies = grades.tallies(among.runid, among.filter)
    whole = _together(tallies)
    return draw(
        visit, "grades", "Grades", status=422 if problems else 200, problems=problems,
        taken=_count(visit, "taken"), known=_count(visit, "known"),
        among=among, fields=fields_of(among), tallies=tallies[:MOST_SHOWN], more=len(tallies) - MOST_SHOWN,
        whole=whole, waiting=grades.how_many(among), slices=slices_of(whole), pie=_pie,
        graders=grades.graders(), may_grade=visit.may("grade", ARCHIVE), grades=GRADES,
    )  # fmt: skip


def slices_of(tally: Tally) -> list[tuple[str, str, int]]:
    """Class, words and count, in the order of the pie."""
    found = [(f"grade-{each.lower()}", each, tally.graded.get(each, 0)) for each in GRADES]
    found += [
        (f"grade-{each.lower()} proposed", f"{each} proposed", tally.proposed.get(each, 0)) for each in reversed(GRADES)
    ]
    return [*found, ("grade-none", "no grade", tally.without)]


def _pie(tally: Tally, is_small: bool = False) -> str:
    return pie(slices_of(tally), is_small)


def _together(tallies: Sequence[Tally]) -> Tally:
    whole = Tally("", "", dict.fromkeys(GRADES, 0), dict.fromkeys(GRADES, 0), sum(each.without for each in tallies))
    for tally in tallies:
        for into, of in ((whole.graded, tally.graded), (whole.proposed, tally.proposed)):
            for grade, count in of.items():
                into[grade] += count
    return whole


def listing(visit: Visit, problems: Sequence[str] = ()) -> Answer:
    """The queue as a table, ?sort=seeing or -seeing; those that are ticked are graded together."""
    visit.require("see", ARCHIVE)
    among, sort = among_of(visit), visit.query("sort", 30)
    sort = sort if sort.removeprefix("-") in SORTS else "registered"
    total = grades.how_many(among)
    pages = max(1, -(-total // PER_PAGE))
    this = min(max(_count(visit, "page") or 1, 1), pages)
    first = [] if sort == "registered" else [SORTS[sort.removeprefix("-")]]
    order = [column.desc() if sort.startswith("-") else column for column in (*first, among.number)]
    rows = list(among.exposures().order_by(*order).paginate(this, PER_PAGE))
    said = grades.histories([row.id for row in rows])
    return draw(
        visit, "grades_list", "Exposures to grade", status=422 if problems else 200, problems=problems, rows=rows,
        among=among, fields=fields_of(among), sort=sort, total=total, this=this, pages=pages, columns=LISTED,
        in_words=in_words, said={row.id: _counting(row, said.get(row.id, [])) for row in rows}, grades=GRADES,
        comments=COMMENTS, may_grade=visit.may("grade", ARCHIVE),
    )  # fmt: skip


def _counting(row: Exposure, history: Sequence[Given]) -> str:
    """What was said with the grade that counts."""
    return next((each.said for each in history if each.who == row.graded_by), "") if row.graded_by else ""


def many(visit: Visit) -> Answer:
    """One grade for all that are ticked."""
    visit.require("grade", ARCHIVE)
    ticked = [each for each in visit.chosen("exposure", PER_PAGE) if each.isascii() and each.isdecimal()]
    query: Any = Exposure.select(Exposure.id).where(Exposure.id.in_([int(each) for each in ticked if len(each) < 19]))
    known = [number for (number,) in query.tuples()]
    comment = visit.form("comment", 100)
    try:
        grades.give(visit.user, known, visit.form("grade", 10), [comment] if comment else [], now=visit.now)
    except BadInput as error:
        return listing(visit, [str(problem) for problem in error.problems])
    fields = fields_of(among_of(visit))
    return visit.see_other("/grades/exposures", done="graded", sort=visit.query("sort", 30), **fields)


def following(visit: Visit) -> Answer:
    """On to the next exposure of the queue after ?after=NUMBER, with ?back=1 to the one before it."""
    visit.require("see", ARCHIVE)
    among = among_of(visit)
    after = _count(visit, "after", 18) or 0
    number = grades.next_of(among, after, visit.query("back", 1) == "1")
    if not number and after:
        number = grades.next_of(among, 0 if visit.query("back", 1) != "1" else 1 << 62, visit.query("back", 1) == "1")
        number = 0 if number == after else number  # round once, to what was passed over
    if not number:
        return visit.see_other("/grades", done="none-waits", **fields_of(among))
    return visit.see_other(f"/exposure/{number}", queue="1", **fields_of(among))


def export(visit: Visit) -> Answer:
    """What counts, or with ?history=1 all that was said, as CSV."""
    visit.require("see", ARCHIVE)
    among, is_whole = among_of(visit), visit.query("history", 1) == "1"
    text = "".join(grade_lists.as_csv(grades.graded(among.runid, among.filter), is_whole))
    sent = downloads.as_text(text, "grades-history.csv" if is_whole else "grades.csv")
    headers: dict[str, Any] = dict(sent.headers)
    return Answer(sent.body, kind=headers.pop("Content-Type"), headers=headers)


def bring(visit: Visit) -> Answer:
    """A list as a file or as text: taken whole, or not at all."""
    visit.require("grade", ARCHIVE)
    try:
        text, source = _brought(visit)
        taken = grade_lists.take(visit.user, text, source, visit.now)
    except BadInput as error:
        return page(visit, [str(problem) for problem in error.problems])
    except SpicaError as error:
        return page(visit, [str(error)])
    return visit.see_other("/grades", taken=taken.new, known=taken.known)


def _brought(visit: Visit) -> tuple[str, str]:
    """The text and what it is called."""
    upload = request.files.get("file")
    if upload is None or not upload.raw_filename:
        text = visit.form("text", MOST_LIST + 1)
        if not text:
            raise SpicaError("Choose a file, or put the lines of a list into the field.")
        source, size = "list", len(text.encode())
    else:
        data = upload.file.read(MOST_LIST + 1)
        source, size = "".join(c for c in upload.raw_filename if c.isprintable())[:100], len(data)
        try:
            text = data.decode("utf-8")
        except UnicodeDecodeError:
            raise SpicaError(f"{source}: this is no UTF-8 text. Save it as CSV, UTF-8.") from None
    if size > MOST_LIST:
        raise SpicaError(f"A list may have {MOST_LIST // 1024} kB here. Take longer ones in with: spica grade import")
    return text, source


def _count(visit: Visit, name: str, most: int = 9) -> int | None:
    given = visit.query(name, most)
    return int(given) if given.isascii() and given.isdecimal() else None

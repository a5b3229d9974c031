"""One exposure: what QualityFITS or its like has seen of it, its grades, and the form that grades it.

Figures come from the tables and outlive the files; pictures and files come from the capsule of the step that judged.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from spicad.archive import grades, judgements
from spicad.archive.formats import csv_line
from spicad.archive.grades import ARCHIVE
from spicad.archive.judgements import Judgement
from spicad.archive.quality import COMMENTS, FIGURES
from spicad.rules import GRADES
from spicad.tables import Exposure
from spicad.words import BadInput
from spicaweb import downloads, pictures
from spicaweb.answers import Answer, NotThere
from spicaweb.capsules import Capsule, Gone, capsule_at
from spicaweb.drawing import draw
from spicaweb.quality import Shown, of_products
from spicaweb.queue import among_of, fields_of
from spicaweb.visit import Visit


def page(visit: Visit, number: str, problems: tuple[str, ...] = ()) -> Answer:
    """?queue=1 and the fields of queue.py: as one of those that a grader goes through."""
    visit.require("see", ARCHIVE)
    row = _found(number)
    judgement = judgements.judgement_of(row.id)
    shown = _left(visit, judgement)[1] if judgement else None
    history, among = grades.history(row.id), among_of(visit)
    own = next((each for each in history if each.who == visit.user.user), None)
    proposed = {reason.comment for reason in judgement.reasons} if judgement else set()
    return draw(
        visit, "exposure", str(row.name), status=422 if problems else 200, problems=problems, row=row,
        judgement=judgement, shown=shown, history=history, is_disputed=grades.is_disputed(history), own=own,
        comments=COMMENTS, proposed=proposed, grades=GRADES, may_grade=visit.may("grade", ARCHIVE),
        is_queued=visit.query("queue", 1) == "1", fields=fields_of(among), among=among,
        waiting=grades.how_many(among) if visit.query("queue", 1) == "1" else 0,
    )  # fmt: skip


def _found(number: str) -> Exposure:
    if not (number.isascii() and number.isdecimal()) or len(number) > 18:
        raise NotThere
    row: Exposure | None = Exposure.get_or_none(Exposure.id == int(number))
    if row is None:
        raise NotThere
    return row


def _left(visit: Visit, judgement: Judgement) -> tuple[Capsule | None, Shown]:
    """What is still there of what the step left."""
    capsule = capsule_at(visit.settings.paths.results, judgement.source.capsule)
    there = set(capsule.names("products")) if capsule else set()
    names = [path.removeprefix("products/") for path in judgement.source.products]
    return capsule, of_products(judgement, (name for name in names if name in there))


# ---------------------------------------------------------------------- the form


def grade(visit: Visit, number: str) -> Answer:
    """A to D, or '' to take it back; then to the next of the queue, or back to the exposure."""
    visit.require("grade", ARCHIVE)
    row = _found(number)
    try:
        grades.give(
            visit.user, [row.id], visit.form("grade", 10), visit.chosen("comment", len(COMMENTS)), visit.form("words"),
            visit.now,
        )  # fmt: skip
    except BadInput as error:
        return page(visit, number, tuple(str(problem) for problem in error.problems))
    if visit.query("queue", 1) == "1":
        return visit.see_other("/grades/next", after=row.id, **fields_of(among_of(visit)))
    return visit.see_other(f"/exposure/{row.id}", done="graded")


# ---------------------------------------------------------------------- what the step left


def picture(visit: Visit, number: str, which: str) -> Answer:
    _, capsule, shown = _judged(visit, number)
    return pictures.picture(capsule, shown.pictures.get(which))


def file(visit: Visit, number: str, which: str) -> Answer:
    _, capsule, shown = _judged(visit, number)
    name = shown.files.get(which)
    if capsule is None or name is None:
        raise NotThere
    try:
        return _fetched(downloads.one_file(capsule, "products", name))
    except Gone:
        raise NotThere from None


def _fetched(sent: downloads.Sent) -> Answer:
    headers = dict(sent.headers)
    return Answer(sent.body, kind=headers.pop("Content-Type"), headers=headers)


def figures(visit: Visit, number: str, form: str) -> Answer:
    """The figures as the tables have them, json or csv: they are there when the files are gone."""
    row, judgement = _found(number), _judged(visit, number)[0]
    if form == "json":
        text = json.dumps(_record(row, judgement), indent=1, ensure_ascii=False) + "\n"
    elif form == "csv":
        text = "".join(_lines(judgement))
    else:
        raise NotThere
    return _fetched(downloads.as_text(text, f"{str(row.name).partition('.')[0]}.figures.{form}"))


def _judged(visit: Visit, number: str) -> tuple[Judgement, Capsule | None, Shown]:
    visit.require("see", ARCHIVE)
    judgement = judgements.judgement_of(_found(number).id)
    if judgement is None:
        raise NotThere
    return judgement, *_left(visit, judgement)


def _record(row: Exposure, judgement: Judgement) -> dict[str, Any]:
    return {
        "exposure": row.name,
        "sha256": row.sha256,
        "grade": row.grade,
        "graded_by": row.graded_by,
        "proposed": judgement.grade,
        "reasons": [asdict(reason) for reason in judgement.reasons],
        "figures": judgement.figures,
        "units": {each.name: each.unit for each in FIGURES if each.name in judgement.figures and each.unit},
        "ccds": [asdict(ccd) for ccd in judgement.ccds],
    }


def _lines(judgement: Judgement) -> list[str]:
    """A line for the whole, then one for each CCD."""
    names = [each.name for each in FIGURES if each.name in judgement.figures]
    names += [
        each.name for each in FIGURES if each.name not in names and any(each.name in c.figures for c in judgement.ccds)
    ]
    lines = [csv_line(["ccd", "hdu", *names])]
    lines.append(csv_line(["", "", *(_cell(judgement.figures.get(name)) for name in names)]))
    for ccd in judgement.ccds:
        lines.append(csv_line([ccd.name, ccd.hdu, *(_cell(ccd.figures.get(name)) for name in names)]))
    return lines


def _cell(value: float | None) -> float | str:
    return "" if value is None else value

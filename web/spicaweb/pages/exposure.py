"""One exposure: what QualityFITS or its like has seen of it, its grades, and the form that grades it.

Figures come from the tables and outlive the files; pictures and files come from the capsule of the step that judged.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from spicad.archive import grades, judgements
from spicad.archive.formats import csv_line
from spicad.archive.grades import ARCHIVE
from spicad.archive.judgements import Judgement
from spicad.archive.quality import BY_NAME, COMMENTS, FIGURES, PICTURES, TABLES, Figure
from spicad.rules import GRADES
from spicad.tables import Exposure
from spicad.words import BadInput
from spicaweb import downloads
from spicaweb.answers import Answer, NotThere
from spicaweb.capsules import Capsule, Gone, capsule_at
from spicaweb.drawing import draw
from spicaweb.queue import among_of, fields_of
from spicaweb.visit import Visit

MOST_PICTURE = 16 << 20
KINDS = {".png": "image/png", ".svg": "image/svg+xml"}
# A picture is drawn by a program of ours; whatever stood in it, nothing of it could run or fetch.
SEALED = {"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; sandbox"}
FIRST = ("seeing", "fwhm", "elongation", "background", "noise", "limiting_magnitude", "stars", "galaxies", "ccds")
OF_CCD = ("seeing", "fwhm", "elongation", "background", "noise", "stars", "galaxies", "limiting_magnitude",
          "psf_chi2", "ra_offset", "dec_offset", "bad_pixel_fraction")  # fmt: skip
FILES = {
    "json": "JSON", "csv": "CSV", "votable": "VOTable", "fits": "FITS table", "catalogue": "Catalogue (LDAC)",
    "psf": "PSF model", "weight": "Weight map", "flag": "Flag map", "origins": "Exposures of the stack",
}  # fmt: skip


@dataclass(frozen=True)
class Left:
    """What is still there of what the step left: names of files in its capsule, by the keys of TABLES and PICTURES."""

    capsule: Capsule | None
    files: Mapping[str, str]
    pictures: Mapping[str, str]


def page(visit: Visit, number: str, problems: tuple[str, ...] = ()) -> Answer:
    """?queue=1 and the fields of queue.py: as one of those that a grader goes through."""
    visit.require("see", ARCHIVE)
    row = _found(number)
    judgement = judgements.judgement_of(row.id)
    history, among = grades.history(row.id), among_of(visit)
    own = next((each for each in history if each.who == visit.user.user), None)
    proposed = {reason.comment for reason in judgement.reasons} if judgement else set()
    return draw(
        visit, "exposure", str(row.name), status=422 if problems else 200, problems=problems, row=row,
        judgement=judgement, left=_left(visit, judgement), pictures=PICTURES, files=FILES, figures=_figures(judgement),
        of_ccd=_of_ccd(judgement), shown=shown, history=history, is_disputed=grades.is_disputed(history), own=own,
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


def _left(visit: Visit, judgement: Judgement | None) -> Left:
    capsule = capsule_at(visit.settings.paths.results, judgement.source.capsule) if judgement else None
    if judgement is None or capsule is None:
        return Left(None, {}, {})
    there = set(capsule.names("products"))
    names = [name for path in judgement.source.products if (name := path.removeprefix("products/")) in there]
    return Left(
        capsule, _by_suffix(names, TABLES), _by_suffix(names, {key: each for key, (each, _) in PICTURES.items()})
    )


def _by_suffix(names: list[str], suffixes: Mapping[str, str]) -> dict[str, str]:
    return {key: name for key, suffix in suffixes.items() for name in names if name.endswith(suffix)}


def _figures(judgement: Judgement | None) -> tuple[list[tuple[Figure, str]], list[tuple[Figure, str]]]:
    """Those that are looked at first, and the others, in words."""
    told = judgement.figures if judgement else {}
    first = [(BY_NAME[name], shown(told[name])) for name in FIRST if told.get(name) is not None]
    rest = [
        (each, shown(told[each.name])) for each in FIGURES if each.name not in FIRST and told.get(each.name) is not None
    ]
    return first, rest


def _of_ccd(judgement: Judgement | None) -> list[Figure]:
    """The columns of the table of CCDs that any of them has a figure for."""
    ccds = judgement.ccds if judgement else ()
    return [BY_NAME[name] for name in OF_CCD if any(ccd.figures.get(name) is not None for ccd in ccds)]


def shown(value: float | None) -> str:
    """To four digits, or as a count."""
    if value is None:
        return ""
    text = f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
    return text.replace("-", "\N{MINUS SIGN}")


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
    left = _judged(visit, number)[1]
    name = left.pictures.get(which)
    if left.capsule is None or name is None:
        raise NotThere
    try:
        handle = left.capsule.open("products", name)
    except Gone:
        raise NotThere from None
    with open(handle, "rb") as file:
        if os.fstat(handle).st_size > MOST_PICTURE:
            raise NotThere
        return Answer(file.read(), kind=KINDS[os.path.splitext(name)[1]], headers=SEALED)


def file(visit: Visit, number: str, which: str) -> Answer:
    left = _judged(visit, number)[1]
    name = left.files.get(which)
    if left.capsule is None or name is None:
        raise NotThere
    try:
        sent = downloads.one_file(left.capsule, "products", name)
    except Gone:
        raise NotThere from None
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
    sent = downloads.as_text(text, f"{str(row.name).partition('.')[0]}.figures.{form}")
    headers = dict(sent.headers)
    return Answer(sent.body, kind=headers.pop("Content-Type"), headers=headers)


def _judged(visit: Visit, number: str) -> tuple[Judgement, Left]:
    visit.require("see", ARCHIVE)
    judgement = judgements.judgement_of(_found(number).id)
    if judgement is None:
        raise NotThere
    return judgement, _left(visit, judgement)


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

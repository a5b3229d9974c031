"""The archive's search within a draft: facets, a map of the sky, and the basket, which is the draft itself.

What a form means is finding.py's affair; selections that are kept beyond a draft are spicad/archive/selections.py's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from spicad.archive import selections
from spicad.archive.search import Found
from spicad.archive.skymap import skymap
from spicad.people import Thing
from spicad.words import BadInput, SpicaError
from spicaweb import drafts, finding
from spicaweb.answers import Answer, NotThere
from spicaweb.drafts import Kept
from spicaweb.drawing import draw
from spicaweb.finding import FACETS, FIELDS, MOST_ON_MAP, PER_PAGE, Question
from spicaweb.pages.new import STEPS, draft_of, is_open
from spicaweb.visit import Visit

MOST_KEPT = 100_000
SETS = {"exposures": "exposures", "calibration": "calibration set"}


def search(visit: Visit, number: str, problems: Sequence[str] = ()) -> Answer:
    visit.require("see", Thing("archive"))
    kept, question = draft_of(visit, number), _question(visit)
    page, facets, found_problems = None, {}, list(problems)
    if not question.is_empty:
        try:
            found = Found(question.wanted(visit.user))
            page = found.page(question.sort, PER_PAGE, (question.page - 1) * PER_PAGE)
            facets = found.facets(FACETS)
        except BadInput as error:
            found_problems += [str(problem) for problem in error.problems]
    return draw(
        visit, "draft_archive", f"{kept.recipe.name}: from the archive", kept=kept, recipe=kept.recipe, steps=STEPS,
        this="data", question=question, page=page, facets=facets, problems=found_problems, per_page=PER_PAGE,
        most_on_map=MOST_ON_MAP, sets=SETS, saved=selections.visible(visit.user),
        status=422 if found_problems else 200, in_basket=_in_basket(kept),
    )  # fmt: skip


def _question(visit: Visit) -> Question:
    return Question({name: visit.query(name, finding.MOST_WORDS) for name in FIELDS})


def _in_basket(kept: Kept) -> dict[str, str]:
    """Names and paths, each with its set."""
    return {each: name for name in SETS for each in getattr(kept.recipe, name)}


def sky(visit: Visit, number: str) -> Answer:
    """The footprints of what is found, the first of very many."""
    visit.require("see", Thing("archive"))
    draft_of(visit, number)
    question = _question(visit)
    try:
        rows = Found(question.wanted(visit.user)).rows(question.sort, MOST_ON_MAP)
    except BadInput:
        raise NotThere from None
    return Answer(skymap(rows), kind="image/svg+xml")


def add(visit: Visit, number: str) -> Answer:
    """Those ticked, or all that is found, into one of the two sets; or all of it kept as a selection."""
    visit.require("see", Thing("archive"))
    kept, question = draft_of(visit, number), _question(visit)
    if not is_open(visit, kept):
        raise NotThere
    try:
        numbers = _chosen(visit, question)
        if visit.form("verb", 20) == "save":
            selections.save(visit.user, visit.form("selection", 100), numbers)
            return visit.see_other(f"/draft/{kept.id}/archive", done="saved", **question.fields())
        recipe = _added(visit, kept, numbers)
    except BadInput as error:
        return search(visit, number, [str(problem) for problem in error.problems])
    except SpicaError as error:
        return search(visit, number, [str(error)])
    drafts.kept(kept.id, recipe, visit.now)
    if visit.form("then", 10) == "data":
        return visit.see_other(f"/draft/{kept.id}/data")
    return visit.see_other(f"/draft/{kept.id}/archive", **question.fields())


def _chosen(visit: Visit, question: Question) -> list[int]:
    if visit.form("all", 3) == "yes":
        found = Found(question.wanted(visit.user))
        if found.count() > MOST_KEPT:
            raise SpicaError(f"More than {MOST_KEPT} are found. Narrow the search.")
        return found.numbers()
    ticked = visit.chosen("exposure", PER_PAGE)
    return [int(each) for each in ticked if each.isascii() and each.isdecimal() and len(each) < 19]


def _added(visit: Visit, kept: Kept, numbers: Sequence[int]) -> drafts.Recipe:
    """An exposure stands in one of the sets; more than a process may have are refused."""
    into = visit.form("into", 20)
    if into not in SETS:
        raise NotThere
    most = visit.settings.limits.exposures
    if len(numbers) > most:
        raise SpicaError(
            f"{len(numbers)} exposures are more than the {most} that a process may have. Narrow the search."
        )
    added = finding.names_of(numbers)
    other = next(name for name in SETS if name != into)
    left = tuple(each for each in getattr(kept.recipe, other) if each not in set(added))
    joined = tuple(dict.fromkeys([*getattr(kept.recipe, into), *added]))
    if into == "exposures":
        return replace(kept.recipe, exposures=joined, calibration=left)
    return replace(kept.recipe, calibration=joined, exposures=left)

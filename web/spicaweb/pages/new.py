"""A new process, step by step: name, data, tasks, configurations, check, run. Each step has its address and is kept.

What is filled in lies in a draft (drafts.py); the check is the daemon's own (spicad/desk.py), run for this visitor.
"""

from __future__ import annotations

import glob
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from spicad import quota
from spicad.archive import search
from spicad.archive.search import Found, Wanted
from spicad.commands.dropping import daemon_runs
from spicad.desk import Desk, Vetted
from spicad.fair_share import recent_use
from spicad.jobfile import Job, parse
from spicad.node import has_sandbox, seen, weights_of
from spicad.people import Thing
from spicad.plan import PREPARERS
from spicad.rules import Rules
from spicad.waiting import Waiting, terms_of
from spicad.words import BadInput, SpicaError
from spicaweb import drafts, handing, job_writing
from spicaweb.answers import Answer, NotThere
from spicaweb.capsules import capsule_of
from spicaweb.configurations import Visible
from spicaweb.drafts import Kept, Recipe
from spicaweb.drawing import draw
from spicaweb.pages.process import as_number, found
from spicaweb.visit import Visit

STEPS = ("name", "data", "tasks", "configurations", "check")
MOST_LIST = 64 << 10  # of an uploaded list
MOST_FIELD = 200_000
MOST_SHOWN = 200


# ---------------------------------------------------------------------- beginning


def form(visit: Visit) -> Answer:
    """A new name, or that of a copy: ?copy=12.1 copies run 1 of process 12."""
    copied = visit.query("copy", 30)
    name = ""
    if copied:
        row = found(visit, copied.partition(".")[0])
        name = job_writing.free_name(row.name, visit.user.user)
    return draw(visit, "new", "New process", name=name, copied=copied, drafts=drafts.all_of(visit.own_account.id))


def begin(visit: Visit) -> Answer:
    name, copied = visit.form("name", 200), visit.form("copy", 30)
    problem = job_writing.name_problem(name, visit.user.user)
    if problem:
        values = {"name": name, "copied": copied, "drafts": drafts.all_of(visit.own_account.id)}
        return draw(visit, "new", "New process", status=422, problems=(problem,), **values)
    recipe = _copied(visit, copied, name) if copied else Recipe(name=name, mail=visit.own_account.mail)
    number = drafts.begun(visit.own_account.id, recipe, visit.now)
    return visit.see_other(f"/draft/{number}/{'check' if copied else 'data'}")


def _copied(visit: Visit, words: str, name: str) -> Recipe:
    number, _, run = words.partition(".")
    row = found(visit, number)
    capsule = capsule_of(row, visit.settings.paths.results, as_number(run) if run else None)
    if capsule is None:
        raise NotThere
    text = capsule.text("job.spica")
    job = parse(text, words)
    return _with_own_versions(
        job_writing.recipe_from(text, words, name), job.texts if isinstance(job, Job) else {}, visit
    )


def _with_own_versions(recipe: Recipe, texts: Mapping[str, str], visit: Visit) -> Recipe:
    """Configurations that travelled within the job file are chosen again by their versions, also when renamed since."""
    versions = _every_version(visit)
    carried = {each.carried_as: each.choice for each in versions}
    by_text = {(each.application, each.text): each.choice for each in reversed(versions)}  # the nearest level first
    chosen = {
        application: carried.get(name) or by_text.get((application, texts.get(name, "")), name)
        for application, name in recipe.configuration.items()
    }
    return replace(recipe, configuration=chosen)


def _every_version(visit: Visit) -> list[Any]:
    from spicaweb.configurations import versions_of

    visible = Visible(visit.settings, visit.user)
    return [
        each for head in visible.newest("configuration", with_retired=True) if head.id for each in versions_of(head)
    ]


# ---------------------------------------------------------------------- the steps


def step(visit: Visit, number: str, step: str) -> Answer:
    """The form of a step; whatever is wrong so far is told by the check alone."""
    kept = draft_of(visit, number)
    if step not in STEPS:
        raise NotThere
    return _check(visit, kept) if step == "check" else _drawn(visit, kept, step)


def fill(visit: Visit, number: str, step: str) -> Answer:
    """What a step's form says is kept, right or wrong; then on to the next, or back with what is wrong."""
    kept = draft_of(visit, number)
    if step not in STEPS[:-1] or not is_open(visit, kept):
        raise NotThere
    recipe, problems = FILLERS[step](visit, kept.recipe)
    drafts.kept(kept.id, recipe, visit.now)
    if problems:
        return _drawn(visit, replace(kept, recipe=recipe), step, problems)
    wanted = visit.form("to", 20)
    return visit.see_other(f"/draft/{kept.id}/{wanted if wanted in STEPS else STEPS[STEPS.index(step) + 1]}")


def draft_of(visit: Visit, number: str) -> Kept:
    kept = drafts.draft(as_number(number), visit.own_account.id)
    if kept is None or not visit.may("edit", Thing("process", visit.user.user, visit.user.group)):
        raise NotThere
    return kept


def _drawn(visit: Visit, kept: Kept, step: str, problems: Sequence[str] = ()) -> Answer:
    more: dict[str, Any] = {}
    visible = Visible(visit.settings, visit.user)
    if step == "data":
        more = {"archive": [str(root) for root in visit.settings.paths.archive]}
    if step == "tasks":
        more = {"rules": visible.all_rules(), "applications": visible.applications}
    if step == "configurations":
        applications = _applications_of(visible, kept.recipe)
        more = {
            "applications": [visible.applications[name] for name in applications if name in visible.applications],
            "choices": {name: visible.newest("configuration", name) for name in applications},
            "defaults": _defaults(visible, kept.recipe),
        }
    status = 422 if problems else 200
    title = f"{kept.recipe.name}: {step}"
    return draw(
        visit, f"draft_{step}" if step in STEPS else "", title, status=status, problems=problems, kept=kept,
        recipe=kept.recipe, steps=STEPS, this=step, **more,
    )  # fmt: skip


# ---------------------------------------------------------------------- what the forms say


def _fill_name(visit: Visit, recipe: Recipe) -> tuple[Recipe, list[str]]:
    name = visit.form("name", 200)
    problem = job_writing.name_problem(name, visit.user.user)
    return replace(recipe, name=name, mail=visit.form("mail", 254)), [problem] if problem else []


def _fill_data(visit: Visit, recipe: Recipe) -> tuple[Recipe, list[str]]:
    problems: list[str] = []
    lists = {}
    for name in ("exposures", "calibration"):
        typed = visit.form(name, MOST_FIELD).splitlines()
        lists[name] = _names(visit, [*typed, *_uploaded(name, problems)], problems)
    if not lists["exposures"] and not problems:
        problems.append("Name at least one exposure to be reduced.")
    weight, reference = visit.form("weight") or "auto", visit.form("reference")
    filled = replace(
        recipe, exposures=lists["exposures"], calibration=lists["calibration"], weight=weight, reference=reference
    )
    return filled, problems


def _names(visit: Visit, lines: Sequence[str], problems: list[str]) -> tuple[str, ...]:
    """Each once, in order; what is no whole path and no name of the archive's own is taken below its one folder."""
    roots = visit.settings.paths.archive
    typed = [name for line in lines if (name := line.partition("#")[0].strip().strip('"'))]
    plain = [name for name in typed if "/" not in name]
    known = set(search.named([name for name in plain if not glob.has_magic(name)]).found)
    known |= {name for name in plain if glob.has_magic(name) and Found(Wanted(kinds=(), names=(name,))).count()}
    found: dict[str, None] = {}
    for name in typed:
        if name.startswith("/") or name in known:
            found[name] = None
        elif len(roots) == 1:
            found[f"{roots[0]}/{name}"] = None
        else:
            problems.append(f"{name[:80]}: the archive has no exposure of this name. Give the whole path, from /.")
    return tuple(found)


def _uploaded(name: str, problems: list[str]) -> list[str]:
    """The lines of an uploaded list; of a table its first column."""
    from bottle import request

    upload = request.files.get(f"{name}_list")
    if upload is None or not upload.raw_filename:
        return []
    data = upload.file.read(MOST_LIST + 1)
    if len(data) > MOST_LIST:
        problems.append(f"The list has more than {MOST_LIST // 1024} kB: use patterns, or split it.")
        return []
    if b"\0" in data:
        problems.append("The list is no text: one name a line was expected.")
        return []
    return [re.split(r"[,;\t]", line)[0] for line in data.decode("utf-8", "replace").splitlines()]


def _fill_tasks(visit: Visit, recipe: Recipe) -> tuple[Recipe, list[str]]:
    name = visit.form("rules", 100)
    known = {version.name for version, _ in Visible(visit.settings, visit.user).all_rules()}
    return replace(recipe, rules=name), [] if name in known else ["Choose one of the rules."]


def _fill_configurations(visit: Visit, recipe: Recipe) -> tuple[Recipe, list[str]]:
    visible = Visible(visit.settings, visit.user)
    chosen: dict[str, str] = {}
    keywords: dict[str, str] = {}
    problems: list[str] = []
    for name in _applications_of(visible, recipe):
        chosen[name] = visit.form(f"configuration.{name}", 120)
        text = visit.form(f"keywords.{name}", drafts.KEYWORDS_TEXT)
        if text:
            keywords[name] = text
            found = visible.problems("configuration", name, f"Keywords of {name}", text)
            problems += [str(problem) for problem in found]
    return replace(recipe, configuration=chosen, keywords=keywords), problems


FILLERS = {
    "name": _fill_name,
    "data": _fill_data,
    "tasks": _fill_tasks,
    "configurations": _fill_configurations,
}


def _rules_of(visible: Visible, recipe: Recipe) -> Rules | None:
    return next((rules for version, rules in visible.all_rules() if version.name == recipe.rules), None)


def _applications_of(visible: Visible, recipe: Recipe) -> list[str]:
    """Those of the rules that take a configuration, in order, each once."""
    rules = _rules_of(visible, recipe)
    names = dict.fromkeys(task.application for task in rules.tasks) if rules else {}
    return [name for name in names if name in visible.applications and visible.applications[name].list_keywords]


def _defaults(visible: Visible, recipe: Recipe) -> dict[str, str]:
    """What a task takes when nothing is chosen."""
    rules = _rules_of(visible, recipe)
    tasks = rules.tasks if rules else ()
    return {
        task.application: task.configuration or visible.applications[task.application].configuration
        for task in tasks
        if task.application in visible.applications
    }


# ---------------------------------------------------------------------- check, and run


def _check(visit: Visit, kept: Kept) -> Answer:
    if kept.handed_over:
        return _fate(visit, kept)
    try:
        text = job_writing.job_text(kept.recipe, Visible(visit.settings, visit.user))
        vetted = _vetted(visit, text, kept.recipe.name)
    except BadInput as error:
        return _drawn_check(visit, kept, None, error.problems)
    except SpicaError as error:
        return _drawn_check(visit, kept, None, (str(error),))
    name_problem = job_writing.name_problem(kept.recipe.name, visit.user.user)
    wrong = [problem for problem in (name_problem, _quota_problem(visit, vetted)) if problem]
    return _drawn_check(visit, kept, vetted, wrong, text)


def _quota_problem(visit: Visit, vetted: Vetted) -> str:
    """In the daemon's words; it looks once more when it takes the job."""
    why = quota.refusal_for(visit.settings, visit.user.user, visit.user.group, vetted.plan.forecast_bytes)
    return why[:1].upper() + why[1:]


def _vetted(visit: Visit, text: str, name: str) -> Vetted:
    """As the daemon will look it over, for this visitor. Raises BadInput with all that is wrong."""
    job = parse(text, name)
    assert isinstance(job, Job)
    return Desk.of(visit.settings).vet(job, visit.user, has_sandbox(visit.settings))


def _drawn_check(
    visit: Visit, kept: Kept, vetted: Vetted | None, problems: Sequence[object] = (), text: str = ""
) -> Answer:
    return draw(
        visit,
        "draft_check",
        f"{kept.recipe.name}: check",
        kept=kept,
        recipe=kept.recipe,
        steps=STEPS,
        this="check",
        vetted=vetted,
        wrong=[str(problem) for problem in problems],
        text=text,
        tasks=_tasks(vetted) if vetted else [],
        rank=visit.user.rank.words,
        terms=_terms(visit),
        free_bytes=_free_bytes(visit),
        rooms=quota.rooms(visit.settings, visit.user.user, visit.user.group) if vetted else [],
        most_shown=MOST_SHOWN,
        runs=daemon_runs(visit.settings),
    )


def _tasks(vetted: Vetted) -> list[dict[str, Any]]:
    """The plan by task: how many steps on how many exposures; what only prepares files comes first."""
    found: dict[int, dict[str, Any]] = {}
    for step in vetted.plan.steps:
        of = found.setdefault(
            step.task, {"application": step.application, "steps": 0, "exposures": set(), "labels": []}
        )
        of["steps"] += 1
        of["exposures"] |= set(step.stems)
        of["labels"].append((step.label, len(step.stems)))
        of["is_preparing"] = step.task in PREPARERS
    return [found[task] for task in sorted(found)]


def _terms(visit: Visit) -> dict[str, float]:
    """Of its score, were it handed over now with all its input on this node."""
    user, settings = visit.user, visit.settings
    waiting = Waiting(visit.now, 0, int(user.rank), user.user, user.group)
    return terms_of(waiting, visit.now, recent_use(visit.now), weights_of(settings), seen(settings).idle)


def _free_bytes(visit: Visit) -> int:
    import shutil

    folder = visit.settings.paths.results
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free


def run(visit: Visit, number: str) -> Answer:
    """Looks it over once more and hands it over; a second click finds it handed over already."""
    kept = draft_of(visit, number)
    if not is_open(visit, kept):
        return visit.see_other(f"/draft/{kept.id}/check")
    problem = job_writing.name_problem(kept.recipe.name, visit.user.user)
    if problem:
        return visit.see_other(f"/draft/{kept.id}/check")
    try:
        text = job_writing.job_text(kept.recipe, Visible(visit.settings, visit.user))
        vetted = _vetted(visit, text, kept.recipe.name)
    except SpicaError:
        return visit.see_other(f"/draft/{kept.id}/check")
    if _quota_problem(visit, vetted):
        return visit.see_other(f"/draft/{kept.id}/check")
    if drafts.is_claimed(kept.id, visit.now):
        try:
            token = handing.hand_over(visit, text, kept.recipe.name)
        except BaseException:
            drafts.was_refused(kept.id)
            raise
        drafts.is_known_as(kept.id, token)
    return visit.see_other(f"/draft/{kept.id}/check")


def _fate(visit: Visit, kept: Kept) -> Answer:
    """What the daemon made of it: on to the process; back to the draft when it was refused; else wait."""
    fate = handing.fate_of(visit, kept.handed_over)
    if fate.why:
        return _drawn_check(visit, replace(kept, handed_over=""), None, fate.why.splitlines())
    if fate.process:
        return visit.see_other(f"/process/{fate.process}")
    runs = daemon_runs(visit.settings)
    return draw(visit, "handed", kept.recipe.name, kept=kept, recipe=kept.recipe, refresh=2, runs=runs)


def is_open(visit: Visit, kept: Kept) -> bool:
    """Whether it can still be changed: not handed over, or refused by the daemon."""
    if not kept.handed_over:
        return True
    if not handing.fate_of(visit, kept.handed_over).why:
        return False
    drafts.was_refused(kept.id)
    return True


def throw_away(visit: Visit, number: str) -> Answer:
    kept = draft_of(visit, number)
    if is_open(visit, kept):
        drafts.thrown_away(kept.id)
    return visit.see_other("/processes")

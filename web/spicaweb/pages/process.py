"""One process: its progress with what may be done with it, then its results; and the orders about it.

What a run has brought is gathered by results.py, how far it is by progress.py; files go out by pages/files.py.
"""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

from spicad import retention
from spicad.commands.show import record_of
from spicad.retention import Kept, Terms
from spicad.tables import Process
from spicad.words import Phase, Rank
from spicaweb import difference, handing, results
from spicaweb.answers import Answer, NotThere, Refusal
from spicaweb.capsules import Capsule, capsule_of
from spicaweb.drawing import draw
from spicaweb.processes import LARGEST
from spicaweb.progress import progress
from spicaweb.quality import report_of
from spicaweb.visit import Visit

MOST_STEPS = 40  # on the page itself; all are on a page of their own
MOST_LISTED = 60
STEPS_PER_PAGE = 200
MOST_DAYS = 36525  # of a wish to keep, by an Administrator
ORDERS = {  # verb: phases in which it makes sense, what the button says
    "hold": ((Phase.QUEUED, Phase.EXECUTING), "Hold"),
    "release": ((Phase.HELD,), "Release"),
    "cancel": ((Phase.QUEUED, Phase.EXECUTING, Phase.HELD), "Cancel"),
    "rerun": ((Phase.COMPLETED, Phase.ERROR, Phase.ABORTED), "Run again"),
    "keep": ((Phase.COMPLETED, Phase.ERROR, Phase.ABORTED), "Keep longer"),
    "delete": ((Phase.COMPLETED, Phase.ERROR, Phase.ABORTED), "Delete results"),  # of what has a capsule
    "rebuild": ((Phase.ARCHIVED,), "Make the products again"),
}


def found(visit: Visit, number: str, verb: str = "see") -> Process:
    """The row, when the visitor may. Raises NotThere."""
    row = Process.get_or_none(Process.id == as_number(number))
    if row is None or not visit.may_process(verb, row):
        raise NotThere
    return row


def as_number(word: str) -> int:
    """Of a part of a path. Raises NotThere."""
    if not (word.isascii() and word.isdecimal()) or not 0 < int(word[:12]) <= LARGEST:
        raise NotThere
    return int(word)


def found_run(visit: Visit, number: str, run: str) -> tuple[Process, Capsule]:
    """Raises NotThere."""
    row = found(visit, number)
    capsule = capsule_of(row, visit.settings.paths.results, as_number(run))
    if capsule is None:
        raise NotThere
    return row, capsule


# ---------------------------------------------------------------------- the page


def page(visit: Visit, number: str) -> Answer:
    row = found(visit, number)
    return _page(visit, row, capsule_of(row, visit.settings.paths.results))


def _judged(capsule: Capsule | None, products: list[results.Product]) -> list[tuple[results.Product, Any]]:
    """Quality reports among the products, those of stacks first."""
    listed = [each for each in products if each.kind == "quality"][:MOST_LISTED]
    found = [(each, report) for each in listed if capsule and (report := report_of(capsule, each.name))]
    return sorted(found, key=lambda pair: (pair[1].kind != "stack", pair[0].name))


def run_page(visit: Visit, number: str, run: str) -> Answer:
    return _page(visit, *found_run(visit, number, run))


def _page(visit: Visit, row: Process, capsule: Capsule | None) -> Answer:
    products = results.products_of(capsule) if capsule else []
    is_latest = capsule is None or capsule.number == row.run
    order = handing.fate_of(visit, visit.query("order", 64)) if visit.query("order") else None
    return draw(
        visit,
        "process",
        f"{row.name}, process {row.id}",
        row=row,
        capsule=capsule,
        run_path=f"/process/{row.id}/run/{capsule.number}" if capsule else "",
        progress=progress(visit.settings, row, capsule, visit.now),
        is_latest=is_latest,
        refresh=None if Phase(row.phase).is_over and not (order and not order.is_taken and not order.why) else 5,
        order=order,
        record=record_of(row, capsule),
        products=results.in_order(products),
        judged=_judged(capsule, products),
        configured=results.configured(capsule) if capsule else [],
        provenance=results.provenance(capsule) if capsule else {},
        report=capsule.text("report.txt") if capsule and products else "",
        runs=capsule.runs if capsule else [],
        orders=[
            (verb, words)
            for verb, (phases, words) in ORDERS.items()
            if row.phase in phases
            and visit.may_process(verb, row)
            and (verb != "keep" or row.expires)
            and (verb != "delete" or capsule)
        ],
        most_days=_most_days(visit, row),
        most_steps=MOST_STEPS,
        most_listed=MOST_LISTED,
    )


def progress_part(visit: Visit, number: str) -> Answer:
    """The part of the page that changes, for the script that puts it in place; 204 when there is nothing to refresh."""
    row = found(visit, number)
    capsule = capsule_of(row, visit.settings.paths.results)
    drawn = progress(visit.settings, row, capsule, visit.now)
    return draw(visit, "progress", "", row=row, progress=drawn)


def progress_record(visit: Visit, number: str) -> Answer:
    """The same for programs."""
    row = found(visit, number)
    found_progress = progress(visit.settings, row, capsule_of(row, visit.settings.paths.results), visit.now)
    return Answer(json.dumps(found_progress, ensure_ascii=False), kind="application/json")


def steps(visit: Visit, number: str, run: str) -> Answer:
    """All steps of a run, page by page."""
    row, capsule = found_run(visit, number, run)
    every = record_of(row, capsule)["steps"]
    state = visit.query("state", 20)
    shown = [step for step in every if not state or step["state"] == state]
    at = visit.query("page", 8)
    pages = max(1, -(-len(shown) // STEPS_PER_PAGE))
    this = min(max(int(at), 1), pages) if at.isascii() and at.isdecimal() else 1
    states = Counter(step["state"] for step in every)
    part = shown[(this - 1) * STEPS_PER_PAGE : this * STEPS_PER_PAGE]
    run_path = f"/process/{row.id}/run/{capsule.number}"
    return draw(
        visit, "steps", f"Steps of {row.name}", row=row, capsule=capsule, run_path=run_path, steps=part,
        total=len(every), states=states, state=state, this=this, pages=pages,
    )  # fmt: skip


def step(visit: Visit, number: str, run: str, step: str) -> Answer:
    """What one step was, said and came to."""
    row, capsule = found_run(visit, number, run)
    record = next((each for each in record_of(row, capsule)["steps"] if each["number"] == as_number(step)), None)
    if record is None:
        raise NotThere
    name = f"{record['number']:04d}-{record['application']}"
    outcome = capsule.json(f"steps/{name}/outcome.json") or {}
    plan = capsule.json("plan.json") or {}
    planned: dict[str, Any] = next((each for each in plan.get("steps", ()) if each["number"] == record["number"]), {})
    return draw(
        visit,
        "step",
        f"{record['application']} {record['label']}",
        row=row,
        capsule=capsule,
        run_path=f"/process/{row.id}/run/{capsule.number}",
        step=record,
        outcome=outcome,
        argv=capsule.step_record(name).get("argv", []),
        stems=[(stem, plan.get("labels", {}).get(stem, stem)) for stem in planned.get("stems", ())],
        lines=capsule.log(name),
        refresh=5 if record["state"] == "running" else None,
    )


# ---------------------------------------------------------------------- orders


def order(visit: Visit, number: str, verb: str) -> Answer:
    """Dropped for the daemon, which judges once more. What cannot be taken back is asked for twice."""
    if verb not in ORDERS:
        raise NotThere
    row = found(visit, number)
    if not visit.may_process(verb, row):
        raise NotThere
    if row.phase not in ORDERS[verb][0]:
        raise Refusal(
            409, "Too late", f"Process {row.id} is {row.phase} by now: {ORDERS[verb][1].lower()} does not fit."
        )
    if verb == "delete" and visit.form("sure") != "yes":
        return _sure(visit, row)
    days = _days_wished(visit, row) if verb == "keep" else 0.0
    token = handing.order(visit, verb, row.id, visit.form("why", 200), visit.form("fresh") == "yes", days)
    return visit.see_other(f"/process/{row.id}", order=token)


def _days_wished(visit: Visit, row: Process) -> float:
    """Of the form, 0 for as long as may be. Raises Refusal with the words that the daemon would refuse it with."""
    words = visit.form("days", 10)
    if not words:
        return 0.0
    if not words.isascii() or not words.isdecimal() or not 0 < int(words) <= MOST_DAYS:
        raise Refusal(422, "So many days", f"Give a whole number of days from now, 1 to {MOST_DAYS}.")
    terms, is_limited = Terms.of(visit.settings), visit.user.rank < Rank.ADMINISTRATOR
    _, why = retention.keep_until(_as_kept(row), terms, int(words), visit.now, is_limited)
    if why:
        raise Refusal(422, "So many days", why[0].upper() + why[1:])
    return float(words)


def _most_days(visit: Visit, row: Process) -> int:
    """How many days from now the products may be kept; 0 when they are for ever, gone, or already at the limit."""
    terms, phase = Terms.of(visit.settings), Phase(row.phase)
    usual = retention.usual_end(phase, row.group, row.ended, terms) if row.ended and phase.is_over else None
    if usual is None or phase is Phase.ARCHIVED or not row.expires:
        return 0
    if visit.user.rank >= Rank.ADMINISTRATOR:
        return MOST_DAYS
    return max(0, int((usual - visit.now) / retention.DAY_S + terms.keep_longer_days))


def _as_kept(row: Process) -> Kept:
    return Kept(row.id, row.run, row.owner, row.group, row.name, Phase(row.phase), row.ended or 0.0, 0)


def delete_form(visit: Visit, number: str) -> Answer:
    row = found(visit, number)
    if not visit.may_process("delete", row):
        raise NotThere
    if row.phase not in ORDERS["delete"][0]:
        return visit.see_other(f"/process/{row.id}")
    return _sure(visit, row)


def _sure(visit: Visit, row: Process) -> Answer:
    capsule = capsule_of(row, visit.settings.paths.results)
    products = results.products_of(capsule) if capsule else []
    return draw(
        visit, "delete", f"Delete the results of {row.name}", rows=[row], action=f"/process/{row.id}/delete",
        back=f"/process/{row.id}", files=len(products), bytes_=sum(each.bytes for each in products),
        runs=len(capsule.runs) if capsule else 0,
    )  # fmt: skip


# ---------------------------------------------------------------------- differences


def differences(visit: Visit) -> Answer:
    """?one=12.1&other=13.2: run 1 of process 12 beside run 2 of process 13."""
    one, other = visit.query("one", 30), visit.query("other", 30)
    if not one:
        raise NotThere
    first = _side(visit, one)
    if not other:
        return draw(visit, "compare", "Compare two runs", one=one, row=first[0], capsule=first[1])
    second = _side(visit, other)
    return draw(
        visit, "difference", "Difference of two runs", one=first, other=second,
        found=difference.between(first[1], second[1]),
    )  # fmt: skip


def _side(visit: Visit, words: str) -> tuple[Process, Capsule]:
    """12.1, or 12 for the last run of process 12."""
    number, _, run = words.partition(".")
    row = found(visit, number)
    capsule = capsule_of(row, visit.settings.paths.results, as_number(run) if run else None)
    if capsule is None:
        raise NotThere
    return row, capsule

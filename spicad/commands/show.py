"""`spica show`: one process with its phases, steps, figures, dropped exposures and products; --watch follows it."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from typing import Any

from spicad import config
from spicad.commands import DONE
from spicad.commands.capsules import RunFolder, run_folder
from spicad.commands.printing import (
    BOLD,
    clock,
    coloured,
    columns,
    iso,
    one_line,
    print_json,
    print_table,
    printable_line,
    styled,
    took,
)
from spicad.commands.tables import open_tables, processid, row_of, steps_of
from spicad.config import Settings
from spicad.report import number, size
from spicad.tables import Event, Process
from spicad.words import Phase, Rank

MOST_STEPS = 30  # shown without --all; failed and running ones always are
MOST_LISTED = 20  # of products and dropped exposures, without --all
FIGURES_OF_A_STEP = 3


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("process", metavar="PROCESSID", help="such as 12 or 000012")
    parser.add_argument("--run", dest="of_run", type=int, metavar="N", help="an earlier run; without this the last one")
    parser.add_argument("--all", action="store_true", help="every step, product and dropped exposure of a long list")
    parser.add_argument("--watch", action="store_true", help="show the progress until it ends; its end is the status")
    parser.add_argument("--json", action="store_true", help="for programs; with --watch one object a line")


def run(arguments: argparse.Namespace) -> int:
    settings, process = config.load(), processid(arguments.process)
    if arguments.watch:
        from spicad.commands.watching import watch

        return watch(settings, process, is_json=arguments.json)
    record = gathered(settings, process, arguments.of_run)
    if arguments.json:
        print_json(record)
    else:
        _print(record, arguments.all)
    return DONE


def gathered(settings: Settings, process: int, run: int | None = None) -> dict[str, Any]:
    """All that is known of the process, from the tables and what may be read of the capsule."""
    with open_tables(settings):
        row = row_of(process)
        return record_of(row, run_folder(row, run) if row.capsule or run else None)


def record_of(row: Process, capsule: RunFolder | None) -> dict[str, Any]:
    """The same of a row; the tables are open."""
    shown = capsule.number if capsule else row.run
    steps = [_step_record(step) for step in steps_of(row.id, shown)]
    events = list(Event.select().where(Event.process == row.id).order_by(Event.time, Event.id))
    facts = (capsule and capsule.seen("run.json")) or {}
    outcome = (capsule and capsule.seen("outcome.json")) or {}
    manifest = (capsule and capsule.seen("manifest.json")) or {}
    stacking, calibration = _sets((capsule and capsule.seen("plan.json")) or {})
    return {
        "process": row.id,
        "name": row.name,
        "owner": row.owner,
        "group": row.group,
        "rank": Rank(row.rank).words,
        "phase": row.phase,
        "why": row.why,
        "run": row.run,
        "shown_run": shown,
        "rules": facts.get("rules", ""),
        "node": facts.get("node", ""),
        "mail": row.mail,
        "submitted": iso(row.submitted),
        "not_before": iso(row.not_before),
        "started": iso(row.started),
        "ended": iso(row.ended),
        "expires": iso(row.expires),
        "steps_done": row.steps_done,
        "steps_total": row.steps_total,
        "forecast_bytes": row.forecast_bytes,
        "folder": str(capsule.folder) if capsule else "",
        "phases": [_event_record(event, at == 0) for at, event in enumerate(events)],
        "steps": steps,
        "stacking_set": stacking,
        "calibration_set": calibration,
        "figures": [
            {"label": label, "value": value, "unit": unit} for label, value, unit in outcome.get("figures", [])
        ],
        "dropped": _dropped(capsule, outcome, row),
        "products": [{"name": name, "bytes": size_, "digest": digest} for name, (size_, digest) in manifest.items()],
        "times": {"submitted": row.submitted, "started": row.started, "ended": row.ended, "expires": row.expires},
    }


def _step_record(step: dict[str, Any]) -> dict[str, Any]:
    seconds = step["ended"] - step["started"] if step["started"] and step["ended"] else None
    return {
        "number": step["number"],
        "application": step["application"],
        "label": step["label"],
        "state": step["state"],
        "node": step["node"],
        "attempt": step["attempt"],
        "started": iso(step["started"]),
        "ended": iso(step["ended"]),
        "seconds": round(seconds, 3) if seconds is not None and seconds >= 0 else None,
        "why": step["why"],
        "metrics": json.loads(step["metrics"] or "{}"),
    }


def _event_record(event: Event, is_first: bool) -> dict[str, Any]:
    return {
        "time": iso(event.time),
        "seconds": event.time,
        "who": event.who,
        "before": event.before,
        "phase": event.phase,
        "is_change": is_first or bool(event.before),
        "why": event.why,
    }


def _sets(plan: dict[str, Any]) -> tuple[list[str], list[str]]:
    """The exposures that were chosen, and those that only widen tasks."""
    beside = plan.get("calibration", [])
    labels = plan.get("labels", {})
    return [labels[stem] for stem in labels if stem not in beside], [labels[stem] for stem in beside]


def _dropped(capsule: RunFolder | None, outcome: dict[str, Any], row: Process) -> list[dict[str, str]]:
    """From the outcome; while there is none, what the plan left out."""
    if outcome:
        return [{"exposure": exposure, "why": why} for exposure, why in outcome.get("dropped", [])]
    plan = (capsule and capsule.seen("plan.json")) or {}
    return [
        {"exposure": each["exposure"], "why": f"{each['task']}: {each['why']}" if each["task"] else each["why"]}
        for each in plan.get("dropped", [])
    ]


# ---------------------------------------------------------------------- for people


def _print(record: dict[str, Any], is_all: bool) -> None:
    title = f"Process {record['process']}, {record['name']}"
    print(f"{styled(title, BOLD)}: {coloured(record['phase'])}")
    if record["why"] and record["phase"] not in (Phase.QUEUED, Phase.EXECUTING):
        print(one_line(record["why"]))
    print()
    for label, value in _facts(record):
        print(f"{label:<10} {one_line(value)}")
    _print_phases(record["phases"])
    _print_steps(record["steps"], is_all)
    _print_figures(record["figures"])
    if record["calibration_set"]:  # else what is stacked is all there is
        print("\nstacking set: " + _few(record["stacking_set"], is_all))
        print("calibration set, beside it: " + _few(record["calibration_set"], is_all))
    _print_some("Exposures dropped", [f"{each['exposure']}: {each['why']}" for each in record["dropped"]], is_all)
    _print_products(record["products"], is_all)


def _facts(record: dict[str, Any]) -> list[tuple[str, str]]:
    times = record["times"]
    run = str(record["shown_run"]) + (f" on {record['node']}" if record["node"] else "")
    if record["shown_run"] != record["run"]:
        run += f"; run {record['run']} is {record['phase']}"
    facts = [
        ("owner", f"{record['owner']}, group {record['group']}, rank {record['rank']}"),
        ("rules", record["rules"]),
        ("run", run),
        ("submitted", clock(times["submitted"])),
        ("started", clock(times["started"]) if times["started"] else ""),
        ("ended", _ended(times)),
        ("kept until", clock(times["expires"]) if times["expires"] else ""),
        ("mail", record["mail"]),
        ("folder", record["folder"]),
    ]
    return [(label, value) for label, value in facts if value]


def _ended(times: dict[str, Any]) -> str:
    if times["ended"]:
        return clock(times["ended"]) + (
            f", after {took(times['ended'] - times['started'])}" if times["started"] else ""
        )
    return f"not yet, {took(time.time() - times['started'])} so far" if times["started"] else ""


def _print_phases(events: Sequence[dict[str, Any]]) -> None:
    if events:
        print()
        rows = [
            [clock(event["seconds"]), event["phase"] if event["is_change"] else "", event["who"], event["why"]]
            for event in events
        ]
        print_table(rows, ("time", "phase", "by", "why"))


def _print_steps(steps: Sequence[dict[str, Any]], is_all: bool) -> None:
    if not steps:
        return
    shown = [step for step in steps if is_all or len(steps) <= MOST_STEPS or step["state"] in ("failed", "running")]
    shown = shown or list(steps[:MOST_STEPS])
    are_many = len({step["node"] for step in steps} - {""}) > 1
    print()
    rows = [
        [
            str(step["number"]),
            step["application"],
            step["label"],
            step["state"],
            f"{step['seconds']:.1f}" if step["seconds"] is not None and step["state"] != "waiting" else "-",
            *([step["node"]] if are_many else []),
            step["why"] or _figures_of(step["metrics"]),
        ]
        for step in shown
    ]
    head = ("step", "application", "on", "state", "seconds", *(["node"] if are_many else []), "figures")
    print_table(rows, head, right=("step", "seconds"))
    if len(shown) < len(steps):
        print(f"... and {_counted(steps, shown)}; all with --all")


def _counted(steps: Sequence[dict[str, Any]], shown: Sequence[dict[str, Any]]) -> str:
    numbers = {step["number"] for step in shown}
    states = [step["state"] for step in steps if step["number"] not in numbers]
    return ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states))


def _figures_of(metrics: dict[str, Any]) -> str:
    some = list(metrics.items())[:FIGURES_OF_A_STEP]
    return ", ".join(f"{name.replace('_', ' ')} {number(value)}" for name, value in some)


def _print_figures(figures: Sequence[dict[str, Any]]) -> None:
    if not figures:
        return
    values = [f"{number(figure['value'])} {figure['unit']}".strip() for figure in figures]
    widest = max(map(len, values))
    print("\n" + styled("Figures", BOLD))
    for figure, value in zip(figures, values, strict=True):
        label = one_line(figure["label"])
        indent = " " * (widest + 4)
        for at, line in enumerate(_wrapped(label, max(columns() - len(indent), 30))):
            print(f"  {value.rjust(widest)}  {line}" if at == 0 else indent + line)


def _wrapped(text: str, width: int) -> list[str]:
    import textwrap

    return textwrap.wrap(text, width) or [""]


def _few(names: Sequence[str], is_all: bool) -> str:
    listed = ", ".join(names if is_all else names[:MOST_LISTED])
    more = 0 if is_all else max(len(names) - MOST_LISTED, 0)
    return one_line(listed) + (f" and {more} more; all with --all" if more else "")


def _print_some(title: str, lines: Sequence[str], is_all: bool) -> None:
    if not lines:
        return
    print("\n" + styled(f"{title} ({len(lines)})", BOLD))
    for line in lines if is_all else lines[:MOST_LISTED]:
        print("  " + printable_line(line))
    if len(lines) > MOST_LISTED and not is_all:
        print(f"  ... and {len(lines) - MOST_LISTED} more; all with --all")


def _print_products(products: Sequence[dict[str, Any]], is_all: bool) -> None:
    if products:
        total = size(sum(each["bytes"] for each in products))
        lines = [f"{size(each['bytes']):>8}  {each['name']}" for each in products]
        _print_some(f"Products, {total}", lines, is_all)

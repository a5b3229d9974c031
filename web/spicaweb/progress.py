"""How far a process is: bars for each task, what runs now with the tail of its log, what it waits for, who is ahead.

One record serves the page and the little script that refreshes it.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from spicad.applications.logs import plain
from spicad.commands.explain import standing
from spicad.commands.printing import iso, took
from spicad.commands.tables import step_folder, steps_of
from spicad.config import Settings
from spicad.tables import Process
from spicad.words import Phase
from spicaweb.capsules import Capsule

STATES = ("done", "reused", "running", "failed", "skipped", "waiting")
TAIL_LINES = 12
TAIL_BYTES = 16 << 10
MOST_RUNNING = 8


def progress(settings: Settings, row: Process, capsule: Capsule | None, now: float | None = None) -> dict[str, Any]:
    """The tables are open."""
    now = time.time() if now is None else now
    steps = steps_of(row.id, row.run)
    running = [step for step in steps if step["state"] == "running"]
    has_begun = capsule is not None and capsule.number == row.run
    return {
        "process": row.id,
        "name": row.name,
        "phase": row.phase,
        "run": row.run,
        "why": row.why,
        "is_over": Phase(row.phase).is_over,
        "steps_done": row.steps_done,
        "steps_total": row.steps_total,
        "started": iso(row.started),
        "ended": iso(row.ended),
        "elapsed": _elapsed(row, now),
        "tasks": bars(steps),
        "running": [_running(step, now) for step in running[:MOST_RUNNING]],
        "more_running": max(0, len(running) - MOST_RUNNING),
        "tail": tail(capsule, running) if capsule and has_begun else {},
        "standing": _standing(settings, row, now),
    }


def bars(steps: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """For each application, in the order of its first step: how many steps are in each state."""
    found: dict[str, dict[str, Any]] = {}
    for step in steps:
        of = found.setdefault(
            step["application"], {"application": step["application"], "total": 0, **dict.fromkeys(STATES, 0)}
        )
        of["total"] += 1
        of[step["state"]] = of.get(step["state"], 0) + 1
    return list(found.values())


def tail(capsule: Capsule, running: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The last lines of the step that began last."""
    if not running:
        return {}
    step = max(running, key=lambda each: (each["started"] or 0, each["number"]))
    name = step_folder(dict(step))
    lines = [line for line in plain(capsule.text("steps", name, "log", most=TAIL_BYTES)) if line.strip()]
    words = f"{step['application']} {step['label']}"
    return {"step": name, "number": step["number"], "words": words, "lines": lines[-TAIL_LINES:]}


def _running(step: Mapping[str, Any], now: float) -> dict[str, Any]:
    so_far = took(now - step["started"]) if step["started"] else ""
    return {
        "number": step["number"],
        "application": step["application"],
        "label": step["label"],
        "node": step["node"],
        "waits": step["why"] if not step["started"] else "",
        "attempt": step["attempt"],
        "so_far": so_far,
    }


def _elapsed(row: Process, now: float) -> str:
    if not row.started:
        return ""
    return took((row.ended or now) - row.started)


def _standing(settings: Settings, row: Process, now: float) -> dict[str, Any]:
    """Of a process that is not over: what holds it and who goes before it."""
    if row.phase == Phase.PENDING or Phase(row.phase).is_over:
        return {}
    found = standing(settings, row, now)
    return {
        "holds": list(found.holds),
        "score": {name: round(value, 2) for name, value in found.terms.items()},
        "ahead_queued": found.ahead_queued,
        "ahead_executing": found.ahead_executing,
        "slots": found.slots_in_words,
        "eta": [took(seconds) for seconds in found.done_s or ()],
    }

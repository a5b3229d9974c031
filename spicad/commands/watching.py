"""The progress of a process as it happens: a bar on a terminal, a line for each change elsewhere, JSON lines on demand.

It polls the tables; nothing in the daemon knows that somebody watches.
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass, field
from typing import Any

from spicad.commands import DONE, FAILED
from spicad.commands.dropping import daemon_runs
from spicad.commands.printing import (
    clipped,
    clock,
    coloured,
    columns,
    complain,
    iso,
    one_line,
    print_json_line,
    took,
)
from spicad.commands.tables import open_tables, row_of, step_folder, steps_of
from spicad.config import Settings
from spicad.tables import Event, Process
from spicad.words import Phase, SpicaError

LOOK_S = 0.2
ASK_FOR_DAEMON_S = 5.0
BAR = 24
MOST_NAMED = 2  # running steps named beside the bar


@dataclass
class Seen:
    """One look at the process, and what is new in it since the look before."""

    row: Process
    steps: list[dict[str, Any]]
    events: list[Event]
    new_steps: list[dict[str, Any]] = field(default_factory=list)
    new_events: list[Event] = field(default_factory=list)

    @property
    def is_over(self) -> bool:
        return self.row.phase == Phase.HELD or Phase(self.row.phase).is_over


def watch(settings: Settings, process: int, run: int = 0, is_json: bool = False) -> int:
    """Follows the process until its run (number `run` at least) has ended or is held; that end is the status."""
    view: View = JsonView() if is_json else Bar() if sys.stdout.isatty() else Lines()
    since, has_asked, before = time.monotonic(), False, None
    try:
        while True:
            seen = look(settings, process, before)
            view.show(seen, is_first=before is None)
            before = seen
            if seen.is_over and seen.row.run >= run:
                break
            if not has_asked and seen.row.phase == Phase.QUEUED and time.monotonic() - since > ASK_FOR_DAEMON_S:
                has_asked = True
                _say_what_is_missing(settings, process, view)
            time.sleep(LOOK_S)
    finally:
        view.clear()
    view.end(seen)
    return DONE if seen.row.phase == Phase.COMPLETED else FAILED


def look(settings: Settings, process: int, before: Seen | None) -> Seen:
    with open_tables(settings):
        row = row_of(process)
        steps = steps_of(process, row.run)
        query = Event.select().where(Event.process == process).order_by(Event.id)
        if before and before.events:
            query = query.where(Event.id > before.events[-1].id)
        new = list(query)
    known = {step["number"]: step["state"] for step in before.steps} if before else {}
    if before and before.row.run != row.run:
        known = {}
    changed = [step for step in steps if step["state"] != known.get(step["number"], "waiting")] if before else []
    return Seen(row, steps, (before.events if before else []) + new, changed, new if before else [])


def _say_what_is_missing(settings: Settings, process: int, view: View) -> None:
    view.clear()
    if daemon_runs(settings):
        complain(f"process {process} waits; spica explain {process} says what for.")
    else:
        complain(f"no spicad runs on {settings.paths.spool}; process {process} waits until one does.")


class View:
    def show(self, seen: Seen, is_first: bool) -> None:
        raise NotImplementedError

    def clear(self) -> None:
        pass

    def end(self, seen: Seen) -> None:
        row = seen.row
        print(f"process {row.id} {row.name}: {coloured(row.phase)}{_after(row)}")
        if row.why:
            print(f"  {one_line(row.why)}")
        has_begun = row.capsule.endswith(f"/run-{row.run}")
        if has_begun and (next_command := NEXT.get(row.phase)):
            print(f"  next: spica {next_command} {row.id}")
        sys.stdout.flush()


NEXT = {"COMPLETED": "results", "ERROR": "log", "HELD": "explain"}


class Lines(View):
    """For a pipe or a log file: a line for each change, with its time."""

    def show(self, seen: Seen, is_first: bool) -> None:
        row = seen.row
        if is_first:
            if not seen.is_over:
                print(f"process {row.id} {row.name}: {row.phase}, {_count(row)}", flush=True)
            return
        changes = [(event.time, _event_words(event)) for event in seen.new_events]
        changes += [(_moment(step), _words(step)) for step in seen.new_steps]
        for moment, words in sorted(changes):
            print(f"{clock(moment)}  {words}")
        sys.stdout.flush()


class JsonView(View):
    def show(self, seen: Seen, is_first: bool) -> None:
        row = seen.row
        if is_first or seen.new_steps or seen.new_events:
            print_json_line(
                {
                    "process": row.id,
                    "phase": row.phase,
                    "run": row.run,
                    "steps_done": row.steps_done,
                    "steps_total": row.steps_total,
                    "why": row.why,
                    "steps": [
                        {"number": s["number"], "application": s["application"], "label": s["label"]}
                        | {"state": s["state"], "why": s["why"], "time": iso(_moment(s))}
                        for s in seen.new_steps
                    ],
                }
            )

    def end(self, seen: Seen) -> None:
        pass


class Bar(View):
    """For a terminal: one line that is written anew; what failed stays above it."""

    def show(self, seen: Seen, is_first: bool) -> None:
        failed = [step for step in seen.new_steps if step["state"] == "failed"]
        if failed:
            self.clear()
            for step in failed:
                print(clipped(f"{_words(step)}", 4 * columns()))
        row = seen.row
        drawn = bar(row.steps_done, row.steps_total)
        text = f" {row.steps_done}/{row.steps_total}{_elapsed(row)}  {_running(seen.steps)}".rstrip()
        room = columns() - 1 - len(row.phase) - len(drawn) - 1
        print(f"\r\x1b[K{coloured(row.phase)} {drawn}{clipped(text, max(room, 0))}", end="", flush=True)

    def clear(self) -> None:
        print("\r\x1b[K", end="", flush=True)


def bar(done: int, total: int) -> str:
    full = round(BAR * min(done, total) / total) if total else 0
    has_blocks = "utf" in (sys.stdout.encoding or "").lower()
    return ("█" * full + "░" * (BAR - full)) if has_blocks else "[" + "#" * full + "." * (BAR - full) + "]"


def _elapsed(row: Process) -> str:
    return f"  {took(time.time() - row.started)}" if row.started and row.phase == Phase.EXECUTING else ""


def _running(steps: list[dict[str, Any]]) -> str:
    running = [f"{step['application']} {step['label']}" for step in steps if step["state"] == "running"]
    more = f" and {len(running) - MOST_NAMED} more" if len(running) > MOST_NAMED else ""
    return ", ".join(running[:MOST_NAMED]) + more


def _after(row: Process) -> str:
    return f", after {took(row.ended - row.started)}" if row.started and row.ended else ""


def _count(row: Process) -> str:
    return f"{row.steps_done} of {row.steps_total} steps done"


def _moment(step: dict[str, Any]) -> float:
    return float((step["started"] if step["state"] == "running" else step["ended"]) or time.time())


def _words(step: dict[str, Any]) -> str:
    why = f": {one_line(step['why'])}" if step["why"] else ""
    return f"{step_folder(step)} {step['label']} {step['state']}{why}"


def _event_words(event: Event) -> str:
    """Events that change no phase are notes: the report was sent."""
    return one_line(f"{event.phase} {event.why}" if event.before else f"note: {event.why}")


def wait_for_run(settings: Settings, process: int, run: int, patience_s: float = 10.0) -> None:
    """Until the tables know of that run: the daemon writes rows a moment after it has obeyed."""
    until = time.monotonic() + patience_s
    while time.monotonic() < until:
        with open_tables(settings):
            if row_of(process).run >= run:
                return
        time.sleep(0.02)
    raise SpicaError(f"process {process}: the tables do not show run {run} yet. Look later: spica show {process}")

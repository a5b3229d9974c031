"""`spica explain`: what holds a process, each term of its score, and how many go before it.

The order and the limits are those of spicad/waiting.py; what is counted comes from the tables, the disk and the load.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spicad import config
from spicad.commands import DONE
from spicad.commands.capsules import RunFolder
from spicad.commands.dropping import daemon_runs
from spicad.commands.printing import BOLD, clock, coloured, one_line, print_json, styled, took
from spicad.commands.tables import open_tables, processid, row_of, step_folder, steps_of
from spicad.config import Settings
from spicad.node import node_limit
from spicad.tables import Event, Process, Step
from spicad.waiting import Limits, Waiting, ahead_of, binding_limit, score
from spicad.words import Phase

WORDS_OF_TERMS = {"rank": "rank of its owner", "age": "days since it was submitted, of 30"}


@dataclass(frozen=True)
class Standing:
    """Everything that the explanation is made of."""

    row: Process
    holds: tuple[str, ...]
    terms: dict[str, float]
    ahead_queued: int
    ahead_executing: int
    slots_used: int
    slots: int
    running: tuple[str, ...]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("process", metavar="PROCESSID", help="such as 12 or 000012")
    parser.add_argument("--json", action="store_true", help="for programs")


def run(arguments: argparse.Namespace) -> int:
    standing = standing_of(config.load(), processid(arguments.process), time.time())
    if arguments.json:
        print_json(as_record(standing))
    else:
        _print(standing)
    return DONE


def standing_of(settings: Settings, process: int, now: float) -> Standing:
    with open_tables(settings):
        return standing(settings, row_of(process), now)


def standing(settings: Settings, row: Process, now: float) -> Standing:
    """Where the process of a row stands; the tables are open."""
    waiting, executing = _candidates(now, row)
    in_use = slots_in_use()
    steps = steps_of(row.id, row.run)
    event = Event.select().where((Event.process == row.id) & (Event.before != "")).order_by(Event.id.desc()).first()
    is_waiting = row.phase in (Phase.QUEUED, Phase.EXECUTING)
    return Standing(
        row=row,
        holds=tuple(_holds(settings, row, event, in_use, now)),
        terms=score(row.rank, row.submitted, now),
        ahead_queued=(ahead_of(row.id, [*waiting, _waiting(row)], now) or 0) if is_waiting else 0,
        ahead_executing=(ahead_of(row.id, [*executing, _waiting(row)], now) or 0) if is_waiting else 0,
        slots_used=in_use.total,
        slots=settings.daemon.slots,
        running=tuple(f"{step_folder(step)} {step['label']}" for step in steps if step["state"] == "running"),
    )


def _candidates(now: float, row: Process) -> tuple[list[Waiting], list[Waiting]]:
    """All others that wait for their start, and those that are executing."""
    fields = (Process.submitted, Process.id, Process.rank, Process.owner, Process.group, Process.not_before)
    others: Any = Process.select(*fields).where(Process.id != row.id).tuples()
    waiting = others.where((Process.phase == Phase.QUEUED.value) & (Process.not_before <= now))
    executing = others.where(Process.phase == Phase.EXECUTING.value)
    return [Waiting(*each) for each in waiting], [Waiting(*each) for each in executing]


def _waiting(row: Process) -> Waiting:
    return Waiting(row.submitted, row.id, row.rank, row.owner, row.group, row.not_before)


@dataclass(frozen=True)
class InUse:
    total: int
    by_user: Counter[str]
    by_group: Counter[str]


def slots_in_use() -> InUse:
    rows: Any = (
        Step.select(Step.process, Step.number, Process.owner, Process.group, Process.capsule)
        .join(Process, on=((Process.id == Step.process) & (Process.run == Step.run)))
        .where((Step.state == "running") & (Process.phase == Phase.EXECUTING.value))
        .tuples()
    )
    by_user: Counter[str] = Counter()
    by_group: Counter[str] = Counter()
    plans: dict[str, dict[int, int]] = {}
    for _, number, owner, group, capsule in rows:
        slots = _threads(capsule, plans).get(number, 1)
        by_user[owner] += slots
        by_group[group] += slots
    return InUse(sum(by_user.values()), by_user, by_group)


def _threads(capsule: str, plans: dict[str, dict[int, int]]) -> dict[int, int]:
    """A step takes as many slots as it has threads; that stands in the plan, where it may be read."""
    if capsule not in plans:
        plan = RunFolder(Path(capsule)).seen("plan.json") or {}
        plans[capsule] = {step["number"]: max(int(step["threads"]), 1) for step in plan.get("steps", ())}
    return plans[capsule]


# ---------------------------------------------------------------------- what holds it


def _holds(settings: Settings, row: Process, event: Event | None, in_use: InUse, now: float) -> list[str]:
    """In words; the first is what must go first."""
    if Phase(row.phase).is_over:
        return []
    if row.phase == Phase.HELD:
        since = f" since {clock(event.time)}" if event else ""
        return [f"HELD{since}: {row.why or 'no reason was given'}. To let it go on: spica release {row.id}"]
    found = []
    if not daemon_runs(settings):
        found.append(f"no spicad runs on {settings.paths.spool}. To start one: spicad start")
    if row.phase == Phase.QUEUED and row.not_before > now:
        found.append(f"its job file says not_before {clock(row.not_before)}, in {took(row.not_before - now)}")
    if why := node_limit(settings):
        found.append(why)
    limits = Limits(settings.daemon.slots, settings.limits.slots_per_user, settings.limits.slots_per_group)
    why = binding_limit(row.owner, row.group, 1, in_use.total, in_use.by_user, in_use.by_group, limits)
    return [*found, why] if why else found


def as_record(standing: Standing) -> dict[str, Any]:
    row = standing.row
    return {
        "process": row.id,
        "name": row.name,
        "phase": row.phase,
        "holds": standing.holds,
        "score": {**standing.terms, "total": sum(standing.terms.values())},
        "ahead_queued": standing.ahead_queued,
        "ahead_executing": standing.ahead_executing,
        "slots_used": standing.slots_used,
        "slots": standing.slots,
        "steps_done": row.steps_done,
        "steps_total": row.steps_total,
        "running": standing.running,
    }


def _print(standing: Standing) -> None:
    row = standing.row
    print(f"{styled(f'Process {row.id}, {row.name}', BOLD)}: {coloured(row.phase)}")
    if Phase(row.phase).is_over:
        print(f"It is over, since {clock(row.ended)}." + (f" {one_line(row.why)}" if row.why else ""))
        return
    _print_holds(standing)
    print(f"\nScore {sum(standing.terms.values()):.2f}, more goes first:")
    for name, value in standing.terms.items():
        print(f"  {value:>8.2f}  {name}: {WORDS_OF_TERMS.get(name, name)}")
    if row.phase != Phase.HELD:
        print(f"\nAhead of it: {standing.ahead_queued} queued, {standing.ahead_executing} executing.")
    print(f"Slots: {standing.slots_used} of {standing.slots} in use.")


def _print_holds(standing: Standing) -> None:
    row = standing.row
    if row.phase == Phase.EXECUTING:
        print(f"{row.steps_done} of {row.steps_total} steps done, {len(standing.running)} running now.")
        for step in standing.running[:10]:
            print(f"  {step}")
        if standing.holds:
            print("Its next steps wait, since")
    elif standing.holds:
        print("It waits, since")
    else:
        print("Nothing holds it but its turn." if _is_behind(standing) else "Nothing holds it: it is about to start.")
    for hold in standing.holds:
        print(f"  {one_line(hold)}")


def _is_behind(standing: Standing) -> bool:
    return standing.ahead_queued + standing.ahead_executing > 0

"""`spica explain`: what holds a process, each term of its score, and how many go before it.

The order and the limits are those of spicad/waiting.py; what is counted comes from the tables, the disk and the load.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass
from typing import Any

from spicad import config
from spicad.commands import DONE
from spicad.commands.dropping import daemon_runs
from spicad.commands.printing import BOLD, clock, coloured, one_line, print_json, styled, took
from spicad.commands.tables import open_tables, processid, row_of, step_folder, steps_of
from spicad.config import Settings
from spicad.eta import time_before, time_left
from spicad.fair_share import recent_use
from spicad.node import hours_limit, limits_of, node_limit, node_words, seen, slots_at_once, weights_of
from spicad.tables import Event, Process, Step
from spicad.waiting import InUse, Queue, Waiting, Wish, ahead_of, binding_limit, kept_free, terms_of
from spicad.words import Phase, Rank

WORDS_OF_TERMS = {
    "rank": "the rank of its owner, {rank}",
    "locality": "share of its input that is stored on {node}",
    "load": "share of {node} that is idle",
    "age": "days since it was submitted, of {days:g}",
    "fair share": "how little its owner and his group have used lately",
}


OF_WAITING = (
    Process.submitted,
    Process.id,
    Process.rank,
    Process.owner,
    Process.group,
    Process.not_before,
    Process.locality,
)


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
    at_once: int  # slots that the nodes run; with what waits in the queue of a cluster there are more
    running: tuple[str, ...]
    node: str
    age_days: float
    eta_s: tuple[float, float] | None  # from, to; none where too few steps like these have run
    turn_s: tuple[float, float] | None  # the same of those before it

    @property
    def slots_in_words(self) -> str:
        beyond = f"; the cluster runs {self.at_once} at the same time" if self.at_once < self.slots else ""
        return f"{self.slots_used} of {self.slots} in use{beyond}"

    @property
    def done_s(self) -> tuple[float, float] | None:
        """Until it is done, with those before it."""
        if self.eta_s is None or self.turn_s is None:
            return None
        return self.turn_s[0] + self.eta_s[0], self.turn_s[1] + self.eta_s[1]


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
    by = Queue(weights_of(settings), recent_use(now))
    in_use, at_once = slots_in_use(), slots_at_once(settings)
    steps = steps_of(row.id, row.run)
    event = Event.select().where((Event.process == row.id) & (Event.before != "")).order_by(Event.id.desc()).first()
    is_waiting = row.phase in (Phase.QUEUED, Phase.EXECUTING)
    before_it, beside_it = (
        ahead_of(row.id, [*others, as_waiting(row)], now, by) if is_waiting else [] for others in (waiting, executing)
    )
    return Standing(
        row=row,
        holds=tuple(_holds(settings, row, event, in_use, now)),
        terms=terms_of(as_waiting(row), now, by.use, by.weights, seen(settings).idle),
        ahead_queued=len(before_it),
        ahead_executing=len(beside_it),
        slots_used=in_use.total,
        slots=limits_of(settings).slots,
        at_once=at_once,
        running=tuple(_in_words(step) for step in steps if step["state"] == "running"),
        node=node_words(settings),
        age_days=by.weights.age_days,
        eta_s=time_left(row.id, row.run, now, at_once) if is_waiting else None,
        turn_s=time_before(beside_it, before_it, now, at_once) if row.phase == Phase.QUEUED else (0.0, 0.0),
    )


def _in_words(step: dict[str, Any]) -> str:
    where = f" on {step['node']}" if step["node"] else f", {step['why']}" if step["why"] else ""
    return f"{step_folder(step)} {step['label']}{where}"


def _candidates(now: float, row: Process) -> tuple[list[Waiting], list[Waiting]]:
    """All others that wait for their start, and those that are executing."""
    others: Any = Process.select(*OF_WAITING).where(Process.id != row.id).tuples()
    waiting = others.where((Process.phase == Phase.QUEUED.value) & (Process.not_before <= now))
    executing = others.where(Process.phase == Phase.EXECUTING.value)
    return [Waiting(*each) for each in waiting], [Waiting(*each) for each in executing]


def as_waiting(row: Process) -> Waiting:
    return Waiting(row.submitted, row.id, row.rank, row.owner, row.group, row.not_before, row.locality)


def slots_in_use() -> InUse:
    rows: Any = (
        Step.select(Process.owner, Process.group, Process.rank, Step.slots, Step.application)
        .join(Process, on=((Process.id == Step.process) & (Process.run == Step.run)))
        .where((Step.state == "running") & (Process.phase == Phase.EXECUTING.value))
        .tuples()
    )
    found = InUse()
    for row in rows:
        found.add(Wish(*row))
    return found


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
    if why := hours_limit(settings, row.rank, now):
        found.append(why)
    limits = limits_of(settings)
    kept = kept_free(row.rank, _waiting_ranks(now), in_use, limits)
    why = binding_limit(Wish(row.owner, row.group, row.rank), in_use, limits, kept=kept)
    return [*found, why] if why else found


def _waiting_ranks(now: float) -> set[int]:
    phases = (Phase.QUEUED.value, Phase.EXECUTING.value)
    rows: Any = Process.select(Process.rank).where(Process.phase.in_(phases) & (Process.not_before <= now)).distinct()
    return {rank for (rank,) in rows.tuples()}


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
        "slots_at_once": standing.at_once,
        "steps_done": row.steps_done,
        "steps_total": row.steps_total,
        "running": standing.running,
        "eta_s": standing.eta_s,
        "done_s": standing.done_s,
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
        words = WORDS_OF_TERMS[name].format(rank=Rank(row.rank).words, node=standing.node, days=standing.age_days)
        print(f"  {value:>8.2f}  {name}: {words}")
    if row.phase != Phase.HELD:
        print(f"\nAhead of it: {standing.ahead_queued} queued, {standing.ahead_executing} executing.")
    print(f"Slots: {standing.slots_in_words}.")
    if standing.eta_s:
        least, most = (took(each) for each in standing.eta_s)
        print(f"Once it is its turn, what is left takes {least} to {most}, as steps like these have taken.")
    if standing.done_s and standing.done_s != standing.eta_s:
        least, most = (took(each) for each in standing.done_s)
        print(f"With what is before it, it should be done in {least} to {most}.")


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

"""How long a process may take, and those before it, from what steps like theirs have taken; nothing where too few have.

What has not begun is told by its workload: how many steps of each application, and what they read.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from statistics import quantiles
from typing import Any

from spicad.tables import Process, Step

LEAST = 5  # past steps that are ground for a word on the next one
MOST_PAST = 200
MOST_AHEAD = 2000  # processes before one, beyond which nobody can tell
SAME_SIZE = 2.0  # inputs that differ by less than this factor are alike

Past = Sequence[tuple[float, int]]  # seconds, input bytes
Range = tuple[float, float]  # seconds, from and to


@dataclass(frozen=True)
class Piece:
    """Steps of one application that are still to be done, alike in what they read."""

    application: str
    input_bytes: int
    count: int = 1
    had_s: float = 0.0  # that one of them has run already


def range_of(past: Past, input_bytes: int) -> Range | None:
    """The quartiles of what steps with as much input have taken, else of all; None for fewer than LEAST."""
    alike = [seconds for seconds, size in past if size <= input_bytes * SAME_SIZE and input_bytes <= size * SAME_SIZE]
    if len(alike) < LEAST:
        alike = [seconds for seconds, _ in past]
    if len(alike) < LEAST:
        return None
    low, _, high = quantiles(alike, n=4, method="inclusive")
    return low, high


def workload(steps: Iterable[tuple[str, int]]) -> str:
    """Of a process that has not begun: (application, input bytes) of each step, as its row keeps it."""
    found: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    for application, size in steps:
        found[application][0] += 1
        found[application][1] += size
    return json.dumps(found)


def time_left(process: int, run: int, now: float, slots: int) -> Range | None:
    """Of what is not over of a process, on `slots` slots; the tables are open."""
    return _taken(_left(process, run, now) or _to_come([process]), slots)


def time_before(executing: Collection[int], queued: Collection[int], now: float, slots: int) -> Range | None:
    """Until it is the turn of somebody who has these before him; the tables are open."""
    if len(queued) > MOST_AHEAD:
        return None
    pieces = _to_come(queued)
    runs: Any = Process.select(Process.id, Process.run).where(Process.id.in_(list(executing))).tuples()
    for process, run in runs:
        pieces += _left(process, run, now)
    return _taken(pieces, slots, longest_counts=False) if pieces else (0.0, 0.0)


def _left(process: int, run: int, now: float) -> list[Piece]:
    rows: Any = (
        Step.select(Step.application, Step.input_bytes, Step.started, Step.state)
        .where((Step.process == process) & (Step.run == run) & Step.state.in_(("waiting", "running")))
        .tuples()
    )
    return [
        Piece(application, size, had_s=now - started if state == "running" and started else 0.0)
        for application, size, started, state in rows
    ]


def _to_come(queued: Collection[int]) -> list[Piece]:
    """Of processes that have not begun; one of which nobody knows the workload is a piece of no application."""
    found = []
    wanted = list(queued)
    for start in range(0, len(wanted), 500):
        rows: Any = Process.select(Process.workload).where(Process.id.in_(wanted[start : start + 500])).tuples()
        for (text,) in rows:
            pieces = [Piece(name, size // count, count) for name, (count, size) in json.loads(text or "{}").items()]
            found += pieces or [Piece("", 0)]
    return found


def _taken(pieces: Sequence[Piece], slots: int, longest_counts: bool = True) -> Range | None:
    past: dict[str, Past] = {}
    total, longest = [0.0, 0.0], [0.0, 0.0]
    for piece in pieces:
        if piece.application not in past:
            past[piece.application] = _past_of(piece.application)
        found = range_of(past[piece.application], piece.input_bytes)
        if found is None:
            return None
        left = [max(each - piece.had_s, 0.0) for each in found]
        total = [sum_ + each * piece.count for sum_, each in zip(total, left, strict=True)]
        longest = [max(pair) for pair in zip(longest, left, strict=True)]
    if not total[1]:
        return None
    if not longest_counts:
        longest = [0.0, 0.0]
    from_s, to_s = (max(each / max(slots, 1), most) for each, most in zip(total, longest, strict=True))
    return from_s, to_s


def _past_of(application: str) -> Past:
    rows: Any = (
        Step.select(Step.started, Step.ended, Step.input_bytes)
        .where((Step.application == application) & (Step.state == "done") & Step.started.is_null(False))
        .order_by(Step.id.desc())
        .limit(MOST_PAST)
        .tuples()
    )
    return [(ended - started, size) for started, ended, size in rows]

"""How long what is left of a process may take, from what steps like these have taken; nothing when there are too few.

Waiting for its turn is not in it: that is for the score and the number ahead to tell.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import quantiles
from typing import Any

from spicad.tables import Step

LEAST = 5  # past steps that are ground for a word on the next one
MOST_PAST = 200
SAME_SIZE = 2.0  # inputs that differ by less than this factor are alike

Past = Sequence[tuple[float, int]]  # seconds, input bytes


def range_of(past: Past, input_bytes: int) -> tuple[float, float] | None:
    """The quartiles of what steps with as much input have taken, else of all; None for fewer than LEAST."""
    alike = [seconds for seconds, size in past if size <= input_bytes * SAME_SIZE and input_bytes <= size * SAME_SIZE]
    if len(alike) < LEAST:
        alike = [seconds for seconds, _ in past]
    if len(alike) < LEAST:
        return None
    low, _, high = quantiles(alike, n=4, method="inclusive")
    return low, high


def time_left(process: int, run: int, now: float, slots: int) -> tuple[float, float] | None:
    """Seconds, from and to, of the steps that are not over, on `slots` slots; the tables are open."""
    rows: Any = (
        Step.select(Step.application, Step.input_bytes, Step.started, Step.state)
        .where((Step.process == process) & (Step.run == run) & Step.state.in_(("waiting", "running")))
        .tuples()
    )
    past: dict[str, Past] = {}
    total, longest = [0.0, 0.0], [0.0, 0.0]
    for application, size, started, state in rows:
        if application not in past:
            past[application] = _past_of(application)
        found = range_of(past[application], size)
        if found is None:
            return None
        had = now - started if state == "running" and started else 0.0
        left = [max(each - had, 0.0) for each in found]
        total = [sum(pair) for pair in zip(total, left, strict=True)]
        longest = [max(pair) for pair in zip(longest, left, strict=True)]
    if not total[1]:
        return None
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

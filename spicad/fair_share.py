"""What users and groups have had of the slots lately, read from the steps' rows.

How use counts in the score is waiting.py's affair. Read at the daemon's start, and by those who explain a score.
"""

from __future__ import annotations

from typing import Any

from spicad.tables import Process, Step
from spicad.waiting import DAY_S, Use

REMEMBERED_DAYS = 10.0  # after that a thousandth is left


def recent_use(now: float) -> Use:
    """From the steps that have ended lately; the tables are open."""
    use = Use()
    rows: Any = (
        Step.select(Step.owner, Process.group, Step.started, Step.ended, Step.slots)
        .join(Process, on=(Process.id == Step.process))
        .where((Step.ended > now - REMEMBERED_DAYS * DAY_S) & Step.started.is_null(False) & (Step.state != "reused"))
        .order_by(Step.ended)
        .tuples()
    )
    for user, group, started, ended, slots in rows:
        use.add(user, group, max(ended - started, 0.0) * slots, ended)
    return use

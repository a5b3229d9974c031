"""How the daemon is, gathered for a page: whether it runs and since when not, what runs, what waits, nodes, load, disk.

The lock tells whether it runs; its time is set at each look at the spool, so that it tells since when there is none.
"""

from __future__ import annotations

import os
import shutil
import time
from dataclasses import dataclass
from typing import Any

from spicad.commands.explain import as_waiting, slots_in_use
from spicad.config import Settings
from spicad.fair_share import recent_use
from spicad.heartbeat import life
from spicad.node import limits_of, node_limit, seen, weights_of
from spicad.tables import Process, Step
from spicad.waiting import Queue, terms_of
from spicad.words import Phase

MOST_QUEUED = 50
MOST_SCORED = 1000
MOST_RUNNING = 100


@dataclass(frozen=True)
class Disk:
    path: str
    total: int
    free: int

    @property
    def used_percent(self) -> int:
        return round(100 * (self.total - self.free) / self.total) if self.total else 0


def state(settings: Settings, now: float | None = None) -> dict[str, Any]:
    """The tables are open."""
    now = time.time() if now is None else now
    in_use = slots_in_use()
    queued = Process.select().where(Process.phase == Phase.QUEUED.value)
    return {
        "now": now,
        "life": life(settings, now),
        "spool": str(settings.paths.spool),
        "node": settings.daemon.node,
        "slots": limits_of(settings).slots,
        "slots_used": in_use.total,
        "by_user": dict(in_use.by_user.most_common()),
        "by_group": dict(in_use.by_group.most_common()),
        "load": os.getloadavg(),
        "load_limit": settings.daemon.load,
        "holds": node_limit(settings),
        "disks": _disks(settings),
        "nodes": _nodes(),
        "cluster": _cluster(settings),
        "running": _running(),
        "counts": _counts(),
        "queued": _queued(settings, queued, now),
        "queued_total": queued.count(),
    }


def _queued(settings: Settings, waiting: Any, now: float) -> list[dict[str, Any]]:
    """The first in line with the terms of their scores; of a very long queue the oldest of each rank are looked at."""
    by, idle = Queue(weights_of(settings), recent_use(now)), seen(settings).idle
    found = []
    for row in waiting.order_by(Process.rank.desc(), Process.submitted, Process.id).limit(MOST_SCORED):
        terms = terms_of(as_waiting(row), now, by.use, by.weights, idle)
        later = row.not_before if row.not_before > now else 0.0
        found.append({"row": row, "terms": terms, "score": sum(terms.values()), "not_before": later})
    return sorted(found, key=lambda each: -each["score"])[:MOST_QUEUED]


def _running() -> list[dict[str, Any]]:
    query: Any = (
        Step.select(
            Step.process, Step.number, Step.application, Step.label, Step.node, Step.started, Step.attempt, Step.why,
            Process.name, Process.owner, Process.group,
        )
        .join(Process, on=((Process.id == Step.process) & (Process.run == Step.run)))
        .where((Step.state == "running") & (Process.phase == Phase.EXECUTING.value))
        .order_by(Step.started)
        .limit(MOST_RUNNING)
    )  # fmt: skip
    return list(query.dicts())


def _counts() -> dict[str, int]:
    import peewee

    query: Any = Process.select(Process.phase, peewee.fn.COUNT(Process.id)).group_by(Process.phase).tuples()
    return {str(phase): int(count) for phase, count in query}


def _nodes() -> dict[str, int]:
    """Nodes with how many steps run on each now."""
    import peewee

    query: Any = (
        Step.select(Step.node, peewee.fn.COUNT(Step.id)).where(Step.state == "running").group_by(Step.node).tuples()
    )
    return {str(node) or "none yet": int(count) for node, count in query}


def _cluster(settings: Settings) -> list[str]:
    """In words, each node where there are many."""
    if settings.daemon.backend != "slurm":
        return []
    nodes = [node for node in seen(settings).nodes if node.name]
    return [node.why_not or f"{node.name}: {node.taken} of {node.slots} slots taken" for node in nodes]


def _disks(settings: Settings) -> list[Disk]:
    found: dict[int, Disk] = {}
    for words, path in (("results", settings.paths.results), ("spool", settings.paths.spool)):
        try:
            usage, device = shutil.disk_usage(path), os.stat(path).st_dev
        except OSError:
            continue
        name = f"{found[device].path} and {words}" if device in found else words
        found[device] = Disk(name, usage.total, usage.free)
    return list(found.values())

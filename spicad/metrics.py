"""Figures of a living Spica for Prometheus: gathered from the tables and this node, written in its text format 0.0.4.

Histograms and counts of failures begin anew at each midnight UTC, which a scraper takes for a restart: so only the
events of one day are read, and nothing has to be kept between two questions.
"""

from __future__ import annotations

import os
import re
import shutil
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import peewee

from spicad import __version__, outbox
from spicad.config import Settings
from spicad.heartbeat import life
from spicad.node import drained
from spicad.tables import Event, Process, Seen, Step
from spicad.words import Phase, Rank

KIND = "text/plain; version=0.0.4; charset=utf-8"
DAY_S = 86400.0
BUCKETS_S = (1, 10, 60, 300, 900, 3600, 4 * 3600, 12 * 3600, 86400, 3 * 86400)
AT_ONCE = 500
RUN_ENDS = (Phase.COMPLETED, Phase.ERROR, Phase.ABORTED, Phase.HELD)
# What an ERROR is for, by the words of the report; the first that is found counts.
REASONS = (
    ("time limit", "time limit"),
    ("memory limit", "memory limit"),
    ("disk full", "disk was full|No space left"),
    ("quota", "quota"),
    ("crash of the tool", "crashed by a signal"),
    ("ended from outside", "ended from outside"),
    ("fault of Spica", "error of Spica itself"),
    ("product missing", "is missing"),
    ("quality", r"should be at (least|most)"),
    ("exit status", "exit status|ended with"),
    ("not started", "cannot be started|no step could run"),
)
OTHER = "other"


@dataclass(frozen=True)
class Happened:
    """An event, as far as it counts here."""

    process: int
    time: float
    phase: str
    before: str = ""
    why: str = ""


@dataclass
class Histogram:
    buckets: Counter[float] = field(default_factory=Counter)
    count: int = 0
    total: float = 0.0

    def add(self, value: float) -> None:
        self.count += 1
        self.total += value
        for most in BUCKETS_S:
            if value <= most:
                self.buckets[most] += 1


@dataclass
class Day:
    """What the events since midnight come to."""

    waited: dict[str, Histogram] = field(default_factory=dict)  # by rank
    ran: dict[tuple[str, str], Histogram] = field(default_factory=dict)  # by rank and phase at the end
    failed: Counter[str] = field(default_factory=Counter)  # by reason


def reason(why: str) -> str:
    return next((name for name, pattern in REASONS if re.search(pattern, why, re.IGNORECASE)), OTHER)


def day_of(events: Iterable[Happened], earlier: Mapping[tuple[int, str], float], ranks: Mapping[int, int]) -> Day:
    """`earlier`: when processes came into their phase before these events began; `ranks` by process."""
    day, since = Day(), dict(earlier)
    for each in events:
        rank = rank_words(ranks.get(each.process, 0))
        if each.before == Phase.QUEUED and each.phase == Phase.EXECUTING:
            if begun := since.get((each.process, Phase.QUEUED)):
                day.waited.setdefault(rank, Histogram()).add(max(0.0, each.time - begun))
        elif each.before == Phase.EXECUTING and each.phase in RUN_ENDS:
            if begun := since.get((each.process, Phase.EXECUTING)):
                day.ran.setdefault((rank, each.phase), Histogram()).add(max(0.0, each.time - begun))
            if each.phase == Phase.ERROR:
                day.failed[reason(each.why)] += 1
        if each.before != each.phase:
            since[(each.process, each.phase)] = each.time
    return day


def rank_words(rank: int) -> str:
    return Rank(rank).words if rank in set(Rank) else str(rank)


# ---------------------------------------------------------------------- gathered


def text(settings: Settings, now: float) -> str:
    """The tables are open."""
    lines: list[str] = []
    for name, kind, words, samples in (*_daemon(settings, now), *_tables(now), *_node(settings)):
        _family(lines, name, kind, words, samples)
    day = today(now)
    _histogram(lines, "process_waiting_seconds", "Time in the queue before a run began, since midnight UTC",
               [({"rank": rank}, each) for rank, each in sorted(day.waited.items())])  # fmt: skip
    _histogram(lines, "process_running_seconds", "Time of a run from its begin to its end, since midnight UTC",
               [({"rank": rank, "phase": phase}, each) for (rank, phase), each in sorted(day.ran.items())])  # fmt: skip
    reasons = [*(name for name, _ in REASONS), OTHER]
    failed = [({"reason": name}, float(day.failed[name])) for name in reasons]
    _family(lines, "process_failures_total", "counter", "Runs that ended in ERROR, since midnight UTC", failed)
    return "\n".join(lines) + "\n"


Samples = list[tuple[dict[str, str], float]]
Families = list[tuple[str, str, str, Samples]]


def _daemon(settings: Settings, now: float) -> Families:
    living = life(settings, now)
    return [
        ("info", "gauge", "The version of Spica", [({"version": __version__, "node": settings.daemon.node}, 1.0)]),
        ("daemon_up", "gauge", "Whether spicad runs and looks at its spool",
         [({}, float(living.is_running and not living.is_late))]),
        ("daemon_heartbeat_timestamp_seconds", "gauge", "When spicad last looked at its spool",
         [({}, living.seen)] if living.seen else []),
        ("node_drained", "gauge", "Whether no further step starts here", [({}, float(bool(drained(settings))))]),
        ("slots", "gauge", "Steps that may run at the same time", [({}, float(settings.daemon.slots))]),
        ("mails_waiting", "gauge", "Mails in the outbox", _mails(settings)),
    ]  # fmt: skip


def _mails(settings: Settings) -> Samples:
    try:
        return [({}, float(len(outbox.waiting(settings.paths.spool / "outbox"))))]
    except PermissionError:  # the site's user need not see it
        return []


def _tables(now: float) -> Families:
    phases = _counted(Process, Process.phase)
    landed = _counted(Seen, Seen.state)
    query: Any = (
        Process.select(Process.rank, peewee.fn.COUNT(Process.id), peewee.fn.MIN(Process.submitted))
        .where(Process.phase == Phase.QUEUED.value)
        .group_by(Process.rank)
    )
    queued = {int(rank): (int(count), float(oldest)) for rank, count, oldest in query.tuples()}
    by_rank = [({"rank": rank.words}, *queued.get(int(rank), (0, now))) for rank in Rank]
    running: Any = (
        Step.select(Step.node, Step.application, peewee.fn.COUNT(Step.id), peewee.fn.SUM(Step.slots))
        .join(Process, on=((Process.id == Step.process) & (Process.run == Step.run)))
        .where((Step.state == "running") & (Process.phase == Phase.EXECUTING.value))
        .group_by(Step.node, Step.application)
    )
    steps = list(running.tuples())
    of = [{"node": str(node), "application": str(application)} for node, application, _, _ in steps]
    return [
        ("processes", "gauge", "Processes by phase",
         [({"phase": phase.value}, phases.get(phase.value, 0.0)) for phase in Phase if phase is not Phase.PENDING]),
        ("queue_processes", "gauge", "Processes that wait, by rank",
         [(labels, float(count)) for labels, count, _ in by_rank]),
        ("queue_oldest_seconds", "gauge", "How long the oldest that waits has been waiting, by rank",
         [(labels, max(0.0, now - oldest)) for labels, _, oldest in by_rank]),
        ("steps_running", "gauge", "Steps that run",
         [(labels, float(each[2])) for labels, each in zip(of, steps, strict=True)]),
        ("slots_used", "gauge", "Slots that they take",
         [(labels, float(each[3])) for labels, each in zip(of, steps, strict=True)]),
        ("landed_files", "gauge", "Files that landed, by what became of them",
         [({"state": state}, count) for state, count in sorted(landed.items())]),
    ]  # fmt: skip


def _counted(table: Any, column: Any) -> dict[str, float]:
    query: Any = table.select(column, peewee.fn.COUNT(table.id)).group_by(column)
    return {str(name): float(count) for name, count in query.tuples()}


def _node(settings: Settings) -> Families:
    total: Samples = []
    free: Samples = []
    for name, path in (("results", settings.paths.results), ("spool", settings.paths.spool)):
        try:
            usage = shutil.disk_usage(path)
        except OSError:
            continue
        total.append(({"of": name}, float(usage.total)))
        free.append(({"of": name}, float(usage.free)))
    load = [({"minutes": minutes}, each) for minutes, each in zip(("1", "5", "15"), os.getloadavg(), strict=True)]
    return [
        ("disk_bytes", "gauge", "Size of the disk that holds it", total),
        ("disk_free_bytes", "gauge", "What is free there", free),
        ("node_load", "gauge", "Load average of this node", load),
    ]


def today(now: float) -> Day:
    midnight = now - now % DAY_S
    events = _events_since(midnight)
    processes = sorted({each.process for each in events})
    earlier: dict[tuple[int, str], float] = {}
    ranks: dict[int, int] = {}
    for start in range(0, len(processes), AT_ONCE):
        some = processes[start : start + AT_ONCE]
        of: Any = Process.select(Process.id, Process.rank).where(Process.id.in_(some)).tuples()
        ranks.update((int(process), int(rank)) for process, rank in of)
        query: Any = (
            Event.select(Event.process, Event.phase, peewee.fn.MAX(Event.time))
            .where(Event.process.in_(some) & (Event.time < midnight) & (Event.before != Event.phase))
            .group_by(Event.process, Event.phase)
        )
        earlier.update({(int(process), str(phase)): float(time) for process, phase, time in query.tuples()})
    return day_of(events, earlier, ranks)


def _events_since(moment: float) -> list[Happened]:
    """The oldest first. Rows are written in the order of time: the first older one ends the search."""
    found = []
    query: Any = Event.select(Event.process, Event.time, Event.phase, Event.before, Event.why).order_by(Event.id.desc())
    for row in query.tuples().iterator():
        if row[1] < moment:
            break
        found.append(Happened(*row))
    return found[::-1]


# ---------------------------------------------------------------------- written


def _family(lines: list[str], name: str, kind: str, words: str, samples: Samples) -> None:
    if samples:
        lines += [f"# HELP spica_{name} {words}.", f"# TYPE spica_{name} {kind}"]
        lines += [f"spica_{name}{_labels(labels)} {_number(value)}" for labels, value in samples]


def _histogram(lines: list[str], name: str, words: str, found: Sequence[tuple[dict[str, str], Histogram]]) -> None:
    if not found:
        return
    lines += [f"# HELP spica_{name} {words}.", f"# TYPE spica_{name} histogram"]
    for labels, each in found:
        for most in BUCKETS_S:
            lines.append(f"spica_{name}_bucket{_labels({**labels, 'le': str(most)})} {each.buckets[most]}")
        lines.append(f"spica_{name}_bucket{_labels({**labels, 'le': '+Inf'})} {each.count}")
        lines.append(f"spica_{name}_sum{_labels(labels)} {_number(each.total)}")
        lines.append(f"spica_{name}_count{_labels(labels)} {each.count}")


def _labels(labels: Mapping[str, str]) -> str:
    return "{" + ",".join(f'{name}="{_escaped(value)}"' for name, value in labels.items()) + "}" if labels else ""


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else repr(round(value, 6))

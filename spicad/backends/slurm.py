"""Steps on the nodes of a Slurm cluster: each attempt is one job, known by a name that no other job ever has.

The daemon's loop never waits for Slurm: one round at a time runs in a thread (submit, cancel, squeue, sinfo, a look at
the steps' folders) and comes back as values. What a node is told and answers are files of the step's folder, see
on_node.py. A job is looked for before it is submitted again: Slurm forgets jobs, and gives their numbers to others.
"""

from __future__ import annotations

import json
import logging
import math
import secrets
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from spicad.backends import local
from spicad.backends.backend import End, News, Task
from spicad.backends.on_node import ENDED, TASK, take
from spicad.backends.slurm_commands import (
    OVER,
    OVERHEAD_MB,
    PREFIX,
    Away,
    Errand,
    Report,
    ask,
    partitions,
    path_of,
    read_record,
    round_trip,
    scancel,
)
from spicad.background import Background
from spicad.config import Settings
from spicad.durable import write_file
from spicad.node import Seen, note_seen
from spicad.waiting import BAND, Node
from spicad.words import SpicaError

log = logging.getLogger("spicad")

NOTE = "slurm.json"  # in a step's folder: the name and the command of its job
SCRIPT = "slurm.sh"
FILES_S = 0.5  # between two looks into the folders of steps
IDLE_S = 30.0  # between two looks at the nodes while nothing is there to do
GRACE_S = 15.0  # for a shared file system to show what a node has written; NFS keeps attributes 3 to 60 s
PINNED_S = 20.0  # that a job waits for the node it was meant for, before any will do
SPARE_S = 120  # beyond a step's own time, before Slurm ends it too
TOP = 4 * BAND  # no score reaches it: nice is what is missing to it

LOST = frozenset(("BOOT_FAIL", "LAUNCH_FAILED", "NODE_FAIL"))


@dataclass
class Job:
    """One attempt of a step, as it stands in Slurm."""

    name: str
    folder: Path
    command: list[str]
    slots: int
    node: str  # that it was meant for; then that it runs on
    is_submitted: bool = False  # an answer has said so, or squeue
    is_unsure: bool = False  # whether Slurm has it: nobody knows before squeue has answered
    is_killed: bool = False
    number: str = ""
    state: str = ""
    reason: str = ""
    since: float = 0.0  # when it came to Slurm, or when its state there last changed
    started: float = 0.0  # taken up by its node
    odd_since: float = 0.0  # Slurm says that it is over, or knows nothing of it, and its folder does not
    said: str = ""


class Slurm:
    """The cluster as a backend."""

    def __init__(self, settings: Settings, background: Background) -> None:
        self.settings = settings
        self._background = background
        self._jobs: dict[str, Job] = {}
        self._by_folder: dict[Path, str] = {}
        self._nodes: list[Node] | None = None  # not asked yet
        self._told: list[News | End] = []
        self._is_under_way = False
        self._next_files = self._next_ask = 0.0
        self._away, self._away_since, self._full = "", 0.0, ""
        self._freed: dict[str, int] = {}  # by node, slots of ours that have ended since sinfo was asked

    # ------------------------------------------------------------------ what the daemon asks

    def nodes(self) -> Sequence[Node]:
        """With what was begun and has ended since sinfo was asked; and, last, the queue of Slurm itself."""
        coming = [job for job in self._jobs.values() if job.state not in ("RUNNING", "COMPLETING")]
        found = []
        for node in self._nodes or ():
            pinned = sum(job.slots for job in coming if job.node == node.name)
            taken = max(0, node.taken + pinned - self._freed.get(node.name, 0))
            found.append(Node(node.name, node.slots, taken, node.idle, node.memory_mb, node.why_not))
        anywhere = sum(job.slots for job in coming if not job.node)
        usable = "" if any(not node.why_not for node in found) else "no node of the cluster can be used"
        return [*found, Node("", self.settings.slurm.in_flight, anywhere, 0.0, 0, usable)]

    def held_up(self) -> str:
        if self._away:
            since = time.strftime("%H:%M:%S", time.localtime(self._away_since))
            return f"Slurm does not answer since {since}: {self._away}"
        if self._full:
            return f"Slurm takes no more jobs for now: {self._full}"
        if not self._nodes:
            return "Slurm has not been asked yet" if self._nodes is None else "Slurm tells of no nodes"
        return ""

    @property
    def next_time(self) -> float | None:
        if self._is_under_way:
            return None
        return min(self._next_files, self._next_ask) if self._jobs else self._next_ask

    # ------------------------------------------------------------------ steps

    def start(self, task: Task, now: float) -> News:
        name = f"{PREFIX}-{task.name}-{secrets.token_hex(4)}"
        for file, text in task.papers.items():
            write_file(task.folder / file, text)
        write_file(task.folder / TASK, json.dumps(_told_to_node(task, name)))
        write_file(task.folder / SCRIPT, '#!/bin/sh\nexec "$@"\n')
        command = _sbatch(task, name, self.settings.slurm.options)
        write_file(task.folder / NOTE, json.dumps({"name": name, "command": command, "time": now}), is_synced=True)
        self._add(Job(name, task.folder, command, task.slots, task.node))
        return News(task.folder, waits="on its way to Slurm")

    def _add(self, job: Job) -> None:
        self._jobs[job.name] = job
        self._by_folder[job.folder] = job.name
        self._next_ask = 0.0

    def adopt(self, folder: Path, slots: int, time_s: float) -> News | None:
        """Whether it was ever submitted, and runs or waits or has ended, is what the next round finds out."""
        note = read_record(folder / NOTE)
        if note is None:
            return None
        self._add(Job(note["name"], folder, note["command"], slots, "", is_unsure=True))
        return News(folder, waits="looked for in Slurm", who=note["name"])

    def left_undone(self, folder: Path) -> End | None:
        """Begun on this machine, before the cluster became the backend: here it is ended."""
        if local.launched_in(folder) is None:
            return None
        local.kill(folder)
        return End(folder, interrupted="steps run on the cluster by now")

    def kill(self, folder: Path) -> None:
        if name := self._by_folder.get(folder):
            self._jobs[name].is_killed = True
            self._next_ask = 0.0

    def forget(self, folder: Path) -> None:
        if folder not in self._by_folder and (note := read_record(folder / NOTE)):
            self._add(Job(note["name"], folder, note["command"], 1, "", is_unsure=True))
        self.kill(folder)

    # ------------------------------------------------------------------ rounds

    def look(self, now: float) -> Sequence[News | End]:
        is_due = now >= (self.next_time or 0.0) or self._next_ask > now + IDLE_S + self.settings.slurm.poll_s
        if is_due and not self._is_under_way:  # the clock may have been put back
            self._begin_round(now)
        told, self._told = self._told, []
        return told

    def _begin_round(self, now: float) -> None:
        asks = not now < self._next_ask <= now + IDLE_S + self.settings.slurm.poll_s
        jobs = self._jobs.values()
        errand = Errand(
            submit={job.name: job.command for job in jobs if _is_to_be_submitted(job)} if asks else {},
            cancel=[job.name for job in jobs if job.is_killed and job.is_submitted] if asks else [],
            free=[job.number for job in jobs if _waits_in_vain(job, now)] if asks else [],
            folders={job.name: job.folder for job in jobs if job.is_submitted or job.is_unsure},
            asks=asks,
            partitions=partitions(self.settings.slurm.options),
            path=path_of(self.settings),
        )
        self._is_under_way = True
        self._next_files = now + FILES_S
        if asks:
            self._next_ask = now + (self.settings.slurm.poll_s if self._jobs else IDLE_S)
        self._background.do(round_trip, errand, then=lambda report: self._heard(report, errand, now))

    def _heard(self, report: Any, errand: Errand, now: float) -> None:
        self._is_under_way = False
        if isinstance(report, BaseException):
            log.error("Slurm: a round failed; the next one is tried", exc_info=report)
            self._next_ask = now + self.settings.slurm.poll_s
            return
        self._note_away(report, now)
        for name in errand.free:
            _forget_node(self._jobs.values(), name)
        for name in errand.submit:
            if name in self._jobs:
                self._answered(self._jobs[name], report, now)
        for job in list(self._jobs.values()):
            self._follow(job, report, now)
        if report.nodes is not None:
            self._nodes, self._freed = report.nodes, {}
        with suppress(OSError):
            note_seen(self.settings, Seen(tuple(self.nodes()), self.held_up()))
        if any(_is_to_be_submitted(job) for job in self._jobs.values()) and not (self._away or self._full):
            self._next_ask = 0.0  # came while the round was under way

    def _note_away(self, report: Report, now: float) -> None:
        if report.away:
            self._next_ask = max(self._next_ask, now + self.settings.slurm.poll_s)
            if not self._away:
                self._away_since = now
                log.error(
                    "Slurm does not answer: %s. Steps that run go on; nothing starts before it is back.", report.away
                )
            self._away = report.away
            return
        if report.full and not self._full:
            log.warning("Slurm takes no more jobs for now: %s", report.full)
        if report.jobs is not None:
            self._full = report.full
        if report.jobs is not None and self._away:
            log.warning("Slurm is back after %.0f s", now - self._away_since)
            self._away = ""

    def _answered(self, job: Job, report: Report, now: float) -> None:
        """What sbatch has said."""
        if words := report.refused.get(job.name):
            self._end(job, End(job.folder, refused=f"Slurm refuses it: {words}"))
        elif number := report.submitted.get(job.name):
            job.number, job.is_submitted, job.since = number, True, now
        elif job.name in report.unsure:
            job.is_unsure = True

    def _follow(self, job: Job, report: Report, now: float) -> None:
        if job.name not in self._jobs:
            return
        ended = report.ended.get(job.name)
        taken = report.taken.get(job.name) or ended
        if taken and not job.started:
            job.started, job.node = float(taken["time"]), str(taken["node"])
            self._told.append(News(job.folder, job.node, job.started, who=f"Slurm job {taken['job']}"))
        if ended:
            self._end(job, _end_of(job, ended))
        elif report.jobs is not None and (job.is_submitted or job.is_unsure):
            line = report.jobs.get(job.name)
            if line is None:
                self._is_unknown(job, now)
            else:
                self._is_known(job, line, now)
        elif job.is_killed and not (job.is_submitted or job.is_unsure):
            self._end(job, End(job.folder, interrupted="it was stopped before it was submitted"))

    def _is_known(self, job: Job, line: tuple[str, str, str, str], now: float) -> None:
        if job.state != line[1]:
            job.since = now
        job.number, job.state, node, job.reason = line
        job.is_submitted, job.is_unsure = True, False
        if job.state == "RUNNING" and node:
            job.node = node
        if job.state == "PENDING" and job.started:
            self._is_to_begin_anew(job, now)
        elif job.state not in OVER:
            job.odd_since = 0.0
            self._tell_of_waiting(job, now)
        elif job.state in LOST or self._has_been_odd(job, now):
            self._end(job, _end_in_slurm(job, node or job.node))

    def _is_to_begin_anew(self, job: Job, now: float) -> None:
        """Slurm would: an administrator wants it, or a slurmctld that died has forgotten that it had begun."""
        if self._has_been_odd(job, now):
            job.is_killed = True  # no node takes it up again; Spica begins the step anew

    def _is_unknown(self, job: Job, now: float) -> None:
        """Slurm has answered, and this job is not among what it told; what asked for it may still be on its way."""
        if job.is_killed and not job.started:
            if take(job.folder, {"name": "", "why": "stopped before it had begun"}):  # a late job begins nothing
                self._end(job, End(job.folder, interrupted="it was stopped before it had begun"))
        elif not job.started and job.is_unsure:
            job.is_submitted = job.is_unsure = False  # it never came there: the next round submits it
        elif not job.started:
            job.is_unsure = True  # a slurmctld that died right after it had taken it; looked for once more
        elif self._has_been_odd(job, now):
            why = f"Slurm does not know it any more, and {job.node} has not written how it ended"
            self._end(job, End(job.folder, interrupted=why, node=job.node, started=job.started, elsewhere=True))

    def _has_been_odd(self, job: Job, now: float) -> bool:
        """For as long as a shared file system may take to show what a node has written."""
        job.odd_since = job.odd_since or now
        return job.is_killed or now - job.odd_since >= GRACE_S

    def _tell_of_waiting(self, job: Job, now: float) -> None:
        said = _waits_for(job, now)
        if said and said != job.said:
            self._told.append(News(job.folder, waits=said))
        job.said = said or job.said

    def _end(self, job: Job, end: End) -> None:
        del self._jobs[job.name]
        self._by_folder.pop(job.folder, None)
        if job.state == "RUNNING":
            self._freed[job.node] = self._freed.get(job.node, 0) + job.slots
        self._told.append(end)


def _is_to_be_submitted(job: Job) -> bool:
    return not (job.is_submitted or job.is_unsure or job.is_killed)


def _waits_in_vain(job: Job, now: float) -> bool:
    """For the node that it was meant for: others have taken it, or it went away."""
    return job.state == "PENDING" and bool(job.node) and now - job.since > PINNED_S


def _waits_for(job: Job, now: float) -> str:
    """'' or why it has not begun, though it has come to Slurm."""
    if job.state == "PENDING":
        return f"waits in Slurm: {job.reason}" if job.reason not in ("", "None") else ""
    is_late = not job.started and now - job.since >= GRACE_S
    return f"{job.node} has not taken it up; Slurm says {job.state}" if is_late else ""


def _forget_node(jobs: Any, number: str) -> None:
    for job in jobs:
        if job.number == number:
            job.node = ""


def _end_of(job: Job, ended: Mapping[str, Any]) -> End:
    """By what the node has written."""
    code = ended.get("exit_code")
    why = str(ended.get("why", ""))
    if not why and code is None and not ended.get("timed_out"):
        why = f"it was killed from outside on {job.node}"
    return End(
        job.folder,
        code,
        why,
        timed_out=bool(ended.get("timed_out")),
        node=job.node,
        started=job.started,
        elsewhere=bool(ended.get("elsewhere")),
    )


def _end_in_slurm(job: Job, node: str) -> End:
    """By what Slurm says, where the node has written nothing."""
    if job.state == "TIMEOUT":
        return End(job.folder, timed_out=True, node=node, started=job.started)
    if job.state in LOST:
        why = f"the node {node} was lost"
    elif job.state == "CANCELLED" and job.started and job.is_killed:
        why = f"Slurm was about to begin it anew, and {node} has not written how it ended"
    elif not job.started:
        said = _last_words(job.folder / "slurm.log")
        why = f"Slurm says {job.state}, and {node or 'its node'} has not taken it up" + (f": {said}" if said else "")
    else:
        why = f"Slurm says {job.state}, and {node} has not written how it ended"
    is_elsewhere = job.state != "CANCELLED" or job.is_killed
    return End(job.folder, interrupted=why, node=node, started=job.started, elsewhere=is_elsewhere)


def _last_words(path: Path) -> str:
    with suppress(OSError):
        lines = [line.strip() for line in path.read_text(errors="replace").splitlines() if line.strip()]
        return lines[-1][:300] if lines else ""
    return ""


# ---------------------------------------------------------------------- what a job is told


def _told_to_node(task: Task, name: str) -> dict[str, Any]:
    return {
        "name": name,
        "argv": list(task.argv),
        "inputs": {each: str(path) for each, path in task.inputs.items()},
        "limits": asdict(task.limits),
        "sandboxed": task.sandboxed,
        "read_only": [str(place) for place in task.read_only],
    }


def _sbatch(task: Task, name: str, options: Sequence[str]) -> list[str]:
    """--no-requeue: what is begun again is begun by Spica, in a folder of its own, where nobody else writes."""
    limits = task.limits
    minutes = math.ceil((min(limits.time_s, 1e9) + SPARE_S) / 60)
    command = ["sbatch", "--parsable", "--no-requeue", "--export=ALL", "--chdir=/", f"--job-name={name}"]
    command += ["--nodes=1", "--ntasks=1", f"--cpus-per-task={task.slots}", f"--mem={limits.memory_mb + OVERHEAD_MB}M"]
    command += [f"--time={minutes}", f"--nice={nice_of(task.points)}"]
    command += [f"--output={str(task.folder / 'slurm.log').replace('%', '%%')}", "--open-mode=append", *options]
    if task.node:
        command.append(f"--nodelist={task.node}")
    if task.avoided:
        command.append(f"--exclude={','.join(sorted(task.avoided))}")
    program = [sys.executable, "-P", "-m", "spicad.backends.on_node"]
    return [*command, str(task.folder / SCRIPT), *program, str(task.folder), name]


def nice_of(points: float) -> int:
    """What Slurm puts a job back by: nothing for the best score that there is, more for less."""
    return max(0, round(TOP - points))


def withdraw(folder: Path, settings: Settings) -> None:
    """Cancels the job of a step that was begun on the cluster, where that is not the backend any more.

    Raises SpicaError when Slurm does not answer: the job may still run.
    """
    note = read_record(folder / NOTE)
    if note is None or (folder / ENDED).exists() or (folder / "outcome.json").exists():
        return
    try:
        ask(scancel(note["name"]), path_of(settings))
    except Away as error:
        mend = 'Set backend = "slurm" again, or wait until Slurm answers'
        raise SpicaError(f"{note['name']} may still run in Slurm, which does not answer: {error}. {mend}.") from None
    log.warning("%s: cancelled in Slurm, since steps run on this machine by now", note["name"])

"""What is asked of Slurm in one round: submit, cancel, squeue, sinfo, and a look into the folders of steps.

It runs in a thread, from values to values; what follows from them is slurm.py's affair.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from spicad.backends.on_node import ENDED, TAKEN
from spicad.config import Settings
from spicad.waiting import Node
from spicad.words import SpicaError

PACKAGE = Path(__file__).resolve().parents[1]
PREFIX = "spica"
ANSWER_S = 60  # that a command of Slurm may take: it gives up by itself before
OVERHEAD_MB = 160  # of a step's own memory: its scratch folders (sandbox.py), and on_node.py
USABLE = frozenset(("IDLE", "MIXED", "ALLOCATED", "COMPLETING", "PLANNED"))
OVER = frozenset(
    (
        "BOOT_FAIL",
        "CANCELLED",
        "COMPLETED",
        "DEADLINE",
        "FAILED",
        "LAUNCH_FAILED",
        "NODE_FAIL",
        "OUT_OF_MEMORY",
        "PREEMPTED",
        "REVOKED",
        "TIMEOUT",
    )
)  # states of squeue(1) that a job does not leave
# What Slurm's commands say where they may have another answer later; all else is said of the job itself.
AWAY = re.compile(
    r"contact slurm controller|communication|connection|timed out|socket|not respond|zero bytes|in standby"
    r"|munge|authentication|configuration source|fetch config",
    re.IGNORECASE,
)
FULL = re.compile(r"temporarily unable to accept|MaxSubmitJob|MaxJobCount", re.IGNORECASE)
JOB = "%i|%j|%T|%N|%r"
NODE = "%N|%T|%C|%m|%O"


@dataclass(frozen=True)
class Errand:
    """What a round has to do. Values only: it runs in a thread."""

    path: str
    submit: Mapping[str, Sequence[str]] = field(default_factory=dict)  # name -> command
    cancel: Sequence[str] = ()
    free: Sequence[str] = ()  # numbers of jobs that may run on any node from now on
    folders: Mapping[str, Path] = field(default_factory=dict)
    asks: bool = False  # squeue and sinfo too
    partitions: Sequence[str] = ()


@dataclass
class Report:
    """What a round has brought. `jobs` is None when squeue did not answer."""

    submitted: dict[str, str] = field(default_factory=dict)  # name -> number
    refused: dict[str, str] = field(default_factory=dict)  # name -> Slurm's words
    unsure: set[str] = field(default_factory=set)
    full: str = ""  # Slurm's words when it takes no more jobs for now
    jobs: dict[str, tuple[str, str, str, str]] | None = None  # name -> number, state, node, reason
    nodes: list[Node] | None = None
    taken: dict[str, dict[str, Any]] = field(default_factory=dict)
    ended: dict[str, dict[str, Any]] = field(default_factory=dict)
    away: str = ""  # Slurm's words when it did not answer


class Away(Exception):
    """Slurm does not answer."""


class Full(Exception):
    """It takes no more jobs for now."""


def round_trip(errand: Errand) -> Report:
    """Commands in this order, so that squeue knows of what was submitted; the folders last, so that they know most."""
    report = Report()
    try:
        for name, command in errand.submit.items():
            if not report.full:
                _submit(name, command, errand, report)
        for name in errand.cancel:
            ask(scancel(name), errand.path)
        for number in errand.free:
            with suppress(SpicaError):  # it has begun meanwhile
                ask(["scontrol", "update", f"JobId={number}", "ReqNodeList="], errand.path)
        if errand.asks:
            report.jobs = _squeue(errand) if errand.folders or errand.submit else {}
            report.nodes = _sinfo(errand)
    except (Away, SpicaError) as error:
        report.away = str(error)
    for name, folder in errand.folders.items():
        _look_into(name, folder, report)
    return report


def _submit(name: str, command: Sequence[str], errand: Errand, report: Report) -> None:
    try:
        report.submitted[name] = ask(command, errand.path).strip().partition(";")[0]
    except Full as error:
        report.full = str(error)
    except SpicaError as error:
        report.refused[name] = str(error)
    except Away:
        report.unsure.add(name)
        raise


def scancel(name: str) -> list[str]:
    return ["scancel", f"--user={os.geteuid()}", f"--name={name}"]


def _squeue(errand: Errand) -> dict[str, tuple[str, str, str, str]]:
    said = ask(["squeue", "--noheader", "--states=all", f"--user={os.geteuid()}", f"--format={JOB}"], errand.path)
    found: dict[str, tuple[str, str, str, str]] = {}
    for line in said.splitlines():
        number, name, state, node, reason = (line.split("|", 4) + [""] * 5)[:5]
        if name.startswith(PREFIX) and (name not in found or found[name][1] in OVER):
            found[name] = number, state, node, reason
    return found


def _sinfo(errand: Errand) -> list[Node]:
    said = ask(["sinfo", "--noheader", "--Node", f"--format={NODE}", *errand.partitions], errand.path)
    lines = [line.split("|") for line in said.splitlines()]
    return [_node_of(*line) for line in {line[0]: line for line in lines if len(line) == 5}.values()]


def _node_of(name: str, state: str, cpus: str, memory: str, load: str) -> Node:
    allocated, idle, _, total = (int(each) for each in cpus.split("/"))
    plain = state.rstrip("*~#!%$@^-+").upper()  # marks of sinfo(1); * is a node that does not answer
    is_usable = plain in USABLE and "*" not in state
    share = idle / max(total, 1)
    with suppress(ValueError):
        share = min(share, max(0.0, 1.0 - float(load) / max(total, 1)))
    why_not = "" if is_usable else f"{name} is {state} in Slurm"
    memory_mb = max(1, int(memory) - OVERHEAD_MB) if memory.isdecimal() else 0
    return Node(name, allocated + idle, allocated, share, memory_mb, why_not)


def ask(command: Sequence[str], path: str) -> str:
    """What it prints. Raises SpicaError with its words when it refuses, Full or Away when it may not later."""
    keep = ("SLURM_CONF", "HOME", "USER", "LOGNAME", "KRB5CCNAME")
    env = {name: os.environ[name] for name in keep if name in os.environ}
    env |= {"PATH": path, "LC_ALL": "C", "PYTHONPATH": str(PACKAGE.parent), "PYTHONDONTWRITEBYTECODE": "1"}
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", timeout=ANSWER_S,
            check=False, env=env,
        )  # fmt: skip
    except FileNotFoundError:
        raise Away(f"there is no program {command[0]}: install Slurm's commands on this machine") from None
    except subprocess.TimeoutExpired:
        raise Away(f"{command[0]} has not come back for {ANSWER_S} s") from None
    if done.returncode == 0:
        return done.stdout
    words = "; ".join(line.partition("error: ")[2] or line for line in done.stderr.splitlines()).strip()
    words = words or f"{command[0]} ended with {done.returncode}"
    if FULL.search(words):
        raise Full(words)
    if AWAY.search(words):
        raise Away(words)
    raise SpicaError(words)


def _look_into(name: str, folder: Path, report: Report) -> None:
    with suppress(OSError):
        os.listdir(folder)  # a network file system looks again who is asked for the whole folder
    for file, found in ((TAKEN, report.taken), (ENDED, report.ended)):
        record = read_record(folder / file)
        if record is not None and record.get("name") == name:
            found[name] = record


def read_record(path: Path) -> dict[str, Any] | None:
    with suppress(OSError, ValueError):
        record = json.loads(path.read_text(encoding="utf-8"))
        return record if isinstance(record, dict) else None
    return None


def path_of(settings: Settings) -> str:
    return os.pathsep.join([*map(str, settings.paths.programs), os.environ.get("PATH", os.defpath)])


def partitions(options: Sequence[str]) -> list[str]:
    return [option for option in options if option.startswith(("--partition=", "-p"))]

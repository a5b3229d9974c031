"""What the nodes allow at the moment: load and free disk, held against the limits of spica.conf; the sandbox.

Nodes of a cluster are as the daemon has last seen them: it notes that in the spool, for commands and pages. Also
whether a folder lies on another machine, where changes go unnoticed here.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

from spicad import sandbox
from spicad.config import APPLICATION_SLOTS, HOURS, Settings
from spicad.durable import replace_file
from spicad.waiting import Limits, Node, Weights
from spicad.words import Rank

log = logging.getLogger("spicad")

NODES = "nodes.json"  # in the spool: the nodes of a cluster, and why nothing can be begun there
DRAINED = "drained"  # in the spool: who let the node run empty, and why
NO_SANDBOX = "no-sandbox"  # in the spool: why the daemon runs steps without one

NETWORK_FILE_SYSTEMS = ("nfs", "nfs4", "cifs", "smb3", "lustre", "gpfs", "beegfs", "ceph", "fuse.sshfs", "afs", "9p")


def drained(settings: Settings) -> str:
    """'' or by whom and why no further step starts on this node."""
    with suppress(OSError):
        return (settings.paths.spool / DRAINED).read_text(encoding="utf-8").strip() or "the node is drained"
    return ""


def try_sandbox(settings: Settings) -> bool:
    """Whether the daemon encloses steps, tried here and now; noted in the spool for those who ask `has_sandbox`."""
    why = sandbox.user_namespaces_work() if settings.sandbox.kind != "none" else ""
    note = settings.paths.spool / NO_SANDBOX
    if why:
        log.error(
            "the sandbox does not work here (%s): steps run without it, users' own configurations are refused", why
        )
        note.write_text(f"{why}\n", encoding="utf-8")
        return False
    note.unlink(missing_ok=True)
    if settings.sandbox.kind == "none":
        log.warning('steps run without a sandbox: kind = "none" in [sandbox]')
        return False
    return True


def has_sandbox(settings: Settings) -> bool:
    """Whether the daemon on this spool encloses steps, by its own word: the site may be shut off from namespaces."""
    return settings.sandbox.kind != "none" and not (settings.paths.spool / NO_SANDBOX).exists()


@dataclass(frozen=True)
class Seen:
    """The nodes that steps run on, and '' or why the backend can begin nothing at the moment."""

    nodes: tuple[Node, ...]
    held_up: str = ""

    @property
    def idle(self) -> float:
        """Of the node that is idle most."""
        return max((node.idle for node in self.nodes if not node.why_not), default=0.0)


def seen(settings: Settings) -> Seen:
    """As the daemon sees them; it need not run any more."""
    if settings.daemon.backend != "slurm":
        return Seen((Node(settings.daemon.node, settings.daemon.slots, idle=idle_share()),))
    try:
        record = json.loads((settings.paths.spool / NODES).read_text(encoding="utf-8"))
        return Seen(tuple(Node(**each) for each in record["nodes"]), str(record["held_up"]))
    except (OSError, ValueError, TypeError, KeyError):
        return Seen((), "Slurm has not been asked yet")


def note_seen(settings: Settings, found: Seen) -> None:
    """For `seen` in other programs."""
    record = {"nodes": [asdict(node) for node in found.nodes], "held_up": found.held_up}
    replace_file(settings.paths.spool / NODES, json.dumps(record).encode(), is_synced=False)


def node_words(settings: Settings) -> str:
    """What a term of the score is about."""
    return str(settings.daemon.node) if settings.daemon.backend != "slurm" else "the best node"


def node_limit(settings: Settings, held_up: str | None = None) -> str:
    """'' or the limit that holds every step, in words; `held_up` is what the backend says, where it can be asked."""
    if words := drained(settings):
        return words
    if words := seen(settings).held_up if held_up is None else held_up:
        return words
    most, load = settings.daemon.load, os.getloadavg()[0]
    if settings.daemon.backend != "slurm" and most and load > most:
        return f"the load average is {load:.1f}, above {most:g} nothing starts ([daemon] load)"
    least, free = settings.limits.free_disk_mb, shutil.disk_usage(_existing(settings.paths.results)).free >> 20
    if free < least:
        return f"{free} MiB are free for results, {least} MiB must stay free ([limits] free_disk_mb)"
    return ""


def hours_limit(settings: Settings, rank: int, now: float) -> str:
    """'' or, outside of [limits] hours, why steps of `rank` do not start."""
    found = HOURS.fullmatch(settings.limits.hours)
    if not found or rank == Rank.PIPELINE:
        return ""
    clock = time.strftime("%H:%M", time.localtime(now))
    begin, end = found["from"], found["to"]
    is_open = begin <= clock < end if begin <= end else clock >= begin or clock < end
    return "" if is_open else f"steps start from {begin} to {end} local time only ([limits] hours)"


def limits_of(settings: Settings, nodes: Sequence[Node] | None = None) -> Limits:
    """How many slots may be taken at the same time, by spica.conf and by what the nodes have."""
    limits, priority = settings.limits, settings.priority
    nodes = seen(settings).nodes if nodes is None else nodes
    there = sum(node.slots for node in nodes if not node.why_not)
    found = [APPLICATION_SLOTS.fullmatch(text) for text in limits.slots_per_application]
    reserved = {
        int(Rank.USER): priority.slots_for_users,
        int(Rank.GROUP_ADMINISTRATOR): priority.slots_for_group_administrators,
        int(Rank.ADMINISTRATOR): priority.slots_for_administrators,
    }
    return Limits(
        min(settings.daemon.slots, there) if settings.daemon.slots else there,
        limits.slots_per_user,
        limits.slots_per_group,
        {each["application"]: int(each["slots"]) for each in found if each},
        {rank: slots for rank, slots in reserved.items() if slots},
        max((node.slots for node in nodes if node.name and not node.why_not), default=0),
    )


def slots_at_once(settings: Settings) -> int:
    """Of all slots those that nodes run; the others are for steps that wait in the queue of a cluster."""
    there = sum(node.slots for node in seen(settings).nodes if node.name and not node.why_not)
    return min(limits_of(settings).slots, there)


def weights_of(settings: Settings) -> Weights:
    wanted = settings.priority
    return Weights(wanted.age, wanted.age_days, wanted.fair_share, wanted.share_hours, wanted.locality, wanted.load)


def idle_share() -> float:
    """How much of the node is idle, 0 to 1, by its load average."""
    return max(0.0, 1.0 - os.getloadavg()[0] / _cores())


@cache
def _cores() -> int:
    return os.cpu_count() or 1


def _existing(path: Path) -> Path:
    while not path.exists():
        path = path.parent
    return path


def is_on_network(path: Path) -> bool:
    """Whether another machine may change the folder without the kernel here noticing; from /proc/mounts."""
    best, kind = "", ""
    real = str(path.resolve())
    with open("/proc/mounts", encoding="utf-8", errors="surrogateescape") as mounts:
        for line in mounts:
            words = line.split()
            point = words[1].replace("\\040", " ")
            if len(point) >= len(best) and (real == point or real.startswith(point.rstrip("/") + "/")):
                best, kind = point, words[2]
    return kind in NETWORK_FILE_SYSTEMS

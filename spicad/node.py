"""What this machine allows at the moment: load and free disk, held against the limits of spica.conf; the sandbox.

Also whether a folder lies on another machine, where changes go unnoticed here.
"""

from __future__ import annotations

import logging
import os
import shutil
import time
from contextlib import suppress
from pathlib import Path

from spicad import sandbox
from spicad.config import APPLICATION_SLOTS, HOURS, Settings
from spicad.waiting import Limits, Weights
from spicad.words import Rank

log = logging.getLogger("spicad")

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


def node_limit(settings: Settings) -> str:
    """'' or the limit of the whole node that holds every step, in words."""
    if words := drained(settings):
        return words
    most, load = settings.daemon.load, os.getloadavg()[0]
    if settings.daemon.backend == "local" and most and load > most:
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


def limits_of(settings: Settings) -> Limits:
    """How many slots may be taken at the same time, by spica.conf."""
    limits, priority = settings.limits, settings.priority
    found = [APPLICATION_SLOTS.fullmatch(text) for text in limits.slots_per_application]
    reserved = {
        int(Rank.USER): priority.slots_for_users,
        int(Rank.GROUP_ADMINISTRATOR): priority.slots_for_group_administrators,
        int(Rank.ADMINISTRATOR): priority.slots_for_administrators,
    }
    return Limits(
        settings.daemon.slots,
        limits.slots_per_user,
        limits.slots_per_group,
        {each["application"]: int(each["slots"]) for each in found if each},
        {rank: slots for rank, slots in reserved.items() if slots},
    )


def weights_of(settings: Settings) -> Weights:
    wanted = settings.priority
    return Weights(wanted.age, wanted.age_days, wanted.fair_share, wanted.share_hours, wanted.locality, wanted.load)


def idle_share() -> float:
    """How much of the node is idle, 0 to 1, by its load average."""
    return max(0.0, 1.0 - os.getloadavg()[0] / (os.cpu_count() or 1))


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

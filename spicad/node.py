"""What this machine allows at the moment: load and free disk, held against the limits of spica.conf.

Also whether a folder lies on another machine, where changes go unnoticed here.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from spicad.config import Settings

NETWORK_FILE_SYSTEMS = ("nfs", "nfs4", "cifs", "smb3", "lustre", "gpfs", "beegfs", "ceph", "fuse.sshfs", "afs", "9p")


def node_limit(settings: Settings) -> str:
    """'' or the limit of the whole node that holds every step, in words."""
    most, load = settings.daemon.load, os.getloadavg()[0]
    if most and load > most:
        return f"the load average is {load:.1f}, above {most:g} nothing starts ([daemon] load)"
    least, free = settings.limits.free_disk_mb, shutil.disk_usage(_existing(settings.paths.results)).free >> 20
    if free < least:
        return f"{free} MiB are free for results, {least} MiB must stay free ([limits] free_disk_mb)"
    return ""


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

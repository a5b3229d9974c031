"""What this machine allows at the moment: load and free disk, held against the limits of spica.conf."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from spicad.config import Settings


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

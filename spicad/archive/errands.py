"""One file to be carried: the errand, the means, its progress, and the ways in which it can fail.

How it is carried is told in carrying.py and downloading.py.
"""

from __future__ import annotations

import os
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

from spicad.words import SpicaError

CHUNK = 1 << 20


class Lost(SpicaError):
    """A source or a target cannot be reached, or is full: later it may go on. Keeps what was carried so far."""

    is_full = False


class Full(Lost):
    is_full = True


class Damaged(SpicaError):
    """What arrived is not what was sent."""


class Gone(SpicaError):
    """There is nothing to carry."""


class Occupied(SpicaError):
    """Another file lies at the target: nothing is ever overwritten."""


class Interrupted(SpicaError):
    """It was told to stop."""


@dataclass(frozen=True)
class Errand:
    """`source` and `target` are a path, HOST:/PATH, or (the source only) an http(s) address."""

    number: int
    source: str
    target: str
    digest: str = ""  # sha256:HEX or md5:HEX; "": that of the source as it is
    validator: str = ""
    keep_free: int = 0
    mode: int = 0o444
    root: str = ""  # must be there, and is never made: an unmounted disk is not a place to write to


@dataclass
class Progress:
    """What the errand's thread tells, and hears, while it works."""

    bytes: int = 0
    bytes_done: int = 0
    validator: str = ""
    stop: threading.Event = field(default_factory=threading.Event)

    def require_going_on(self) -> None:
        if self.stop.is_set():
            raise Interrupted("It was told to stop.")


@dataclass(frozen=True)
class Carried:
    sha256: str
    bytes: int
    mtime_ns: int


class Rate:
    """At most so many bytes a second of all errands together; 0: as fast as it goes."""

    def __init__(self, bytes_per_s: float) -> None:
        self.bytes_per_s = bytes_per_s
        self._lock = threading.Lock()
        self._free_at = 0.0

    def take(self, count: int, stop: threading.Event) -> None:
        if not self.bytes_per_s:
            return
        with self._lock:
            start = max(self._free_at, time.monotonic())
            self._free_at = start + count / self.bytes_per_s
        stop.wait(max(0.0, start - time.monotonic()))


@dataclass(frozen=True)
class Means:
    """How things are carried here, from spica.conf."""

    rate: Rate
    parallel: int = 1
    timeout_s: float = 60.0
    ssh_options: tuple[str, ...] = ()

    @property
    def ssh(self) -> list[str]:
        return ["ssh", "-o", "BatchMode=yes", "-o", f"ConnectTimeout={max(1, int(self.timeout_s))}", *self.ssh_options]


def require_room(errand: Errand, folder: Path, size: int) -> None:
    """For `size` more bytes in `folder`. Raises Full."""
    room = os.statvfs(folder)
    free = room.f_bavail * room.f_frsize
    if size > 0 and free - size < errand.keep_free:
        raise Full(
            f"The disk of {folder} is full: {size} more bytes are to come, {free >> 20} MiB are free, "
            f"{errand.keep_free >> 20} MiB must stay free."
        )


def write_all(descriptor: int, piece: bytes) -> None:
    left = memoryview(piece)
    while left:
        left = left[os.write(descriptor, left) :]

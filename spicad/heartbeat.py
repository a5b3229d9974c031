"""Whether the daemon lives, seen from outside: by its lock, and by the lock's time, which it sets at each look.

Who shows it is the affair of the site, of `spica doctor` and of `spica metrics`.
"""

from __future__ import annotations

import fcntl
import os
from dataclasses import dataclass
from pathlib import Path

from spicad.config import Settings

LOCK = "spicad.lock"  # in the spool
LATE_FACTOR, LATE_S = 5, 30.0


@dataclass(frozen=True)
class Life:
    is_running: bool
    seen: float | None  # when it last gave a sign of life; None when there never was a daemon here
    is_late: bool = False  # it holds its lock, but has not looked at the spool for long


def life(settings: Settings, now: float) -> Life:
    late_s = max(LATE_S, LATE_FACTOR * settings.daemon.look_s)
    try:
        handle = os.open(Path(settings.paths.spool) / LOCK, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return Life(False, None)
    try:
        seen = os.fstat(handle).st_mtime
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return Life(True, seen, now - seen > late_s)
    except OSError:  # locks of another machine's file system
        return Life(now - seen < late_s, seen)
    finally:
        os.close(handle)
    return Life(False, seen)

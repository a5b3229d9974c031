"""snooppix as the daemon's child: begun when spica.conf has work for it, and begun again when it died.

It ends when the pipe to the daemon does, however the daemon ended.
"""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import spicad
from spicad.config import Settings

log = logging.getLogger("spicad")

PATIENCE_S = 20.0
LONGEST_PAUSE_S = 300.0


class Keeper:
    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.child: subprocess.Popen[bytes] | None = None
        self.next_start = self.pause_s = 0.0
        self.is_ending = False

    @property
    def is_wanted(self) -> bool:
        return bool(self.settings.landing.folders or self.settings.storage.roots or self.settings.storage.export)

    def look(self, now: float) -> None:
        """Starts it, or starts it again: after a longer and longer pause when it does not live for long."""
        if self.is_ending and self.child is not None and self.child.poll() is not None:
            self.is_ending, self.child = False, None
        if self.child is not None and self.child.poll() is not None:
            log.error("snooppix ended with status %d; it is started again", self.child.returncode)
            self._forget()
            self.pause_s = min(max(2 * self.pause_s, self.settings.daemon.look_s), LONGEST_PAUSE_S)
            self.next_start = now + self.pause_s
        if self.is_wanted and self.child is None and now >= self.next_start:
            self.child = self._started()

    def _started(self) -> subprocess.Popen[bytes]:
        home = str(Path(spicad.__file__).parent.parent)
        path = os.pathsep.join(filter(None, (home, os.environ.get("PYTHONPATH", ""))))
        command = [sys.executable, "-m", "spicad.snooping", "--config", str(self.settings.source), "--child"]
        return subprocess.Popen(command, stdin=subprocess.PIPE, cwd="/", env={**os.environ, "PYTHONPATH": path})

    def renew(self, settings: Settings) -> None:
        """With other settings: the child ends in its own time, and the next one begins with the look after that."""
        self.settings = settings
        if self.child is not None and self.child.stdin is not None:
            self.is_ending = True
            with suppress(OSError):
                self.child.stdin.close()

    def end(self) -> None:
        if self.child is None:
            return
        child = self.child
        self._forget()
        try:
            child.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()

    def _forget(self) -> None:
        if self.child is not None and self.child.stdin is not None:
            with suppress(OSError):
                self.child.stdin.close()
        self.child = None

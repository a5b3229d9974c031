"""Hints that something changed in a folder, from watchdog: a byte in a pipe that a loop listens to.

Hints may be lost or come twice: looking at the folder is the truth, and is the affair of those who are woken.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

HINT = b"w"
PATIENCE_S = 2.0


class Hints:
    """From `start` to `stop`, a HINT in `wake` for each file that is written or moved into one of the folders."""

    def __init__(self, wake: int) -> None:
        self._wake = wake
        self._observer: Any = None

    def start(self, folders: Sequence[Path], suffix: str = "", recursive: bool = False) -> None:
        """Raises OSError when the kernel watches no more folders."""
        from watchdog.events import (  # a daemon that only looks does without
            FileClosedEvent,
            FileCreatedEvent,
            FileMovedEvent,
            FileSystemEvent,
            FileSystemEventHandler,
        )
        from watchdog.observers.api import BaseObserver
        from watchdog.observers.inotify import InotifyEmitter

        wake, wanted = self._wake, (FileClosedEvent, FileCreatedEvent, FileMovedEvent)

        class Emitter(InotifyEmitter):
            """Tells at once, instead of by way of the observer's queue and thread."""

            def queue_event(self, event: FileSystemEvent) -> None:
                if isinstance(event, wanted) and os.fsdecode(event.dest_path or event.src_path).endswith(suffix):
                    with suppress(BlockingIOError, OSError):
                        os.write(wake, HINT)

        observer = BaseObserver(Emitter)
        for folder in folders:
            observer.schedule(FileSystemEventHandler(), str(folder), recursive=recursive, event_filter=list(wanted))
        observer.start()
        self._observer = observer

    def stop(self) -> None:
        if self._observer is not None:
            with suppress(OSError, RuntimeError):
                self._observer.stop()
                self._observer.join(PATIENCE_S)
            self._observer = None

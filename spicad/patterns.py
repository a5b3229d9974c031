"""Files that a pattern such as /archive/*/r/*.fits names, found with a budget: a pattern can lead through a whole disk.

Which of them may be read is the affair of people.py.
"""

from __future__ import annotations

import fnmatch
import os
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from spicad.background import Stopped
from spicad.words import SpicaError

MOST_NAMES = 1_000_000  # looked at for one job; a local disk gives that many in a few seconds
MOST_SECONDS = 20.0
MOST_WILD_PARTS = 20  # of one pattern
WILD = re.compile(r"[*?\[]")


@dataclass
class Budget:
    """What all patterns of one job may cost together."""

    is_stopped: Callable[[], bool] = lambda: False
    names: int = field(default_factory=lambda: MOST_NAMES)
    until: float = field(default_factory=lambda: time.monotonic() + MOST_SECONDS)

    def spend(self, pattern: str) -> None:
        """One name looked at. Raises SpicaError when there was too much of it, Stopped when the daemon stops."""
        self.names -= 1
        if self.is_stopped():
            raise Stopped
        if self.names < 0 or time.monotonic() > self.until:
            raise SpicaError(f"{pattern}: too many files and folders to look through. Name the folders themselves.")


def is_pattern(path: str) -> bool:
    return bool(WILD.search(path))


def beginning(pattern: str) -> Path:
    """The folder where looking begins: the parts before the first that is wild."""
    parts = Path(pattern).parts
    return Path(*parts[: next((number for number, part in enumerate(parts) if is_pattern(part)), len(parts))])


def matching(pattern: str, budget: Budget) -> Iterator[str]:
    """Paths that match, in no order. As in a shell a wild part matches one name; a hidden one only where it says so."""
    parts = [part for part in pattern.split("/") if part]
    wild = [number for number, part in enumerate(parts) if is_pattern(part)]
    if len(wild) > MOST_WILD_PARTS:
        raise SpicaError(f"{pattern}: more than {MOST_WILD_PARTS} parts with * ? or [. Name the folders themselves.")
    if wild and ".." in parts[wild[0] :]:
        raise SpicaError(f"{pattern}: .. has no meaning behind * ? or [. Leave it out.")
    yield from _below("", parts, pattern, budget)


def _below(folder: str, parts: list[str], pattern: str, budget: Budget) -> Iterator[str]:
    count = next((number for number, part in enumerate(parts) if is_pattern(part)), len(parts))
    folder = "/".join([folder, *parts[:count]])
    if count == len(parts):
        budget.spend(pattern)
        if os.path.lexists(folder):
            yield folder
        return
    is_wanted = re.compile(fnmatch.translate(parts[count])).match
    shows_hidden, rest = parts[count].startswith("."), parts[count + 1 :]
    for name, is_folder in _names(folder or "/", pattern, budget):
        if is_wanted(name) and (shows_hidden or not name.startswith(".")):
            if not rest:
                yield f"{folder}/{name}"
            elif is_folder():
                yield from _below(f"{folder}/{name}", rest, pattern, budget)


def _names(folder: str, pattern: str, budget: Budget) -> Iterator[tuple[str, Callable[[], bool]]]:
    """Of a folder that cannot be read, none."""
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                budget.spend(pattern)
                yield entry.name, entry.is_dir
    except OSError:
        return

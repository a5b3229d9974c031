"""A run's capsule as pages read it: below the results folder only, and no link is followed at any component.

Which capsule somebody may see is decided before; what its files mean is told at the head of spicad/capsule.py.
"""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spicad.applications.logs import plain
from spicad.commands.capsules import RunFolder
from spicad.parts import RECIPE, is_of_recipe, place_of, places_in
from spicad.tables import Process
from spicad.words import SpicaError

MOST_TEXT = 1 << 20
MOST_RECORD = 256 << 20  # a plan of 4,000 exposures with 36 CCDs each has some 60 MB
TAIL_BYTES = 64 << 10
FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
PLAIN = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
RUN = re.compile(r"run-([1-9][0-9]{0,6})")


class Gone(SpicaError):
    """What was asked for is not there (any more), or is nothing that is shown."""


def opened_below(root: Path, parts: Sequence[str]) -> int:
    """A descriptor of the regular file root/parts. `root` is spica.conf's; no part of the rest may be a link."""
    _require_plain(parts)
    handle = _folder_below(root, parts[:-1])
    try:
        file = os.open(parts[-1], PLAIN, dir_fd=handle)
    except OSError as error:
        raise Gone(f"{parts[-1]}: {error.strerror}.") from None
    finally:
        os.close(handle)
    if not stat.S_ISREG(os.fstat(file).st_mode):
        os.close(file)
        raise Gone(f"{parts[-1]}: this is not a regular file.")
    return file


def names_below(root: Path, parts: Sequence[str]) -> list[str]:
    try:
        handle = _folder_below(root, parts)
    except Gone:
        return []
    try:
        return sorted(os.listdir(handle))
    finally:
        os.close(handle)


def _require_plain(parts: Sequence[str]) -> None:
    if not parts or any("/" in part or part in ("", ".", "..") or "\0" in part for part in parts):
        raise Gone("there is no such file.")


def _folder_below(root: Path, parts: Sequence[str]) -> int:
    if parts:
        _require_plain(parts)
    try:
        handle = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise Gone(f"{root}: {error.strerror}.") from None
    for part in parts:
        try:
            following = os.open(part, FOLDER, dir_fd=handle)
        except OSError as error:
            raise Gone(f"{part}: {error.strerror}.") from None
        finally:
            os.close(handle)
        handle = following
    return handle


@dataclass(frozen=True)
class Capsule(RunFolder):
    """`folder` is `root` / `parts`; all reading goes through opened_below."""

    root: Path
    parts: tuple[str, ...]

    def open(self, *names: str) -> int:
        return opened_below(self.root, (*self.parts, *names))

    def opened(self, *names: str) -> tuple[int, int]:
        """A descriptor that stands where the file, or the part of the recipe, of that name begins; and its size."""
        if is_of_recipe("/".join(names)):
            with suppress(Gone):
                return self._opened_part("/".join(names))
        handle = self.open(*names)
        return handle, os.fstat(handle).st_size

    def _opened_part(self, name: str) -> tuple[int, int]:
        handle = self.open(RECIPE)
        try:
            with open(handle, "rb", closefd=False) as file:
                place, size = place_of(file, name)
            os.lseek(handle, place, os.SEEK_SET)
        except OSError as error:
            os.close(handle)
            raise Gone(f"{name}: {error.strerror}.") from None
        return handle, size

    def names(self, *folder: str) -> list[str]:
        """What lies in the folder; of the configurations, what the recipe has of them."""
        found = names_below(self.root, (*self.parts, *folder))
        return found if found or not folder else self._names_in_recipe(folder)

    def _names_in_recipe(self, folder: Sequence[str]) -> list[str]:
        try:
            handle = self.open(RECIPE)
        except Gone:
            return []
        begin = "/".join(folder) + "/"
        with open(handle, "rb") as file:
            rest = [name.removeprefix(begin) for name, _, _ in places_in(file) if name.startswith(begin)]
        return sorted({name.partition("/")[0] for name in rest})

    def json(self, name: str) -> Any:
        """None where it is not there, or is nothing that can be read."""
        try:
            return json.loads(self.read(*name.split("/"), most=MOST_RECORD))
        except (Gone, ValueError):
            return None

    def read(self, *names: str, most: int = MOST_TEXT) -> bytes:
        """The file's bytes, at most so many from its end. Raises Gone."""
        handle, size = self.opened(*names)
        with open(handle, "rb") as file:
            file.seek(max(0, size - most), os.SEEK_CUR)
            return file.read(min(size, most))

    def text(self, *names: str, most: int = MOST_TEXT) -> str:
        """'' where it is not there."""
        try:
            return self.read(*names, most=most).decode("utf-8", "replace")
        except Gone:
            return ""

    def log(self, step: str, most: int = TAIL_BYTES) -> list[str]:
        """What the tool of a step said, as a terminal would show it; of a reused step, what it said in its own run."""
        text = self.text("steps", step, "log", most=most) or self._log_of_origin(step, most)
        lines = plain(text)
        while lines and not lines[-1]:
            lines = lines[:-1]
        return lines

    def _log_of_origin(self, step: str, most: int) -> str:
        outcome = self.json(f"steps/{step}/outcome.json") or {}
        origin = capsule_at(self.root, str(outcome.get("reused_from") or ""))
        for name in origin.names("steps") if origin else ():
            if origin and origin.key_of(name) == outcome.get("key"):
                return origin.text("steps", name, "log", most=most)
        return ""

    @property
    def runs(self) -> list[int]:
        """The numbers of all runs of the process whose capsules are there."""
        found = (RUN.fullmatch(name) for name in names_below(self.root, self.parts[:-1]))
        return sorted(int(each[1]) for each in found if each)


def capsule_at(root: Path, folder: str) -> Capsule | None:
    """None for what does not lie below `root`."""
    with suppress(ValueError):
        parts = Path(folder).relative_to(root).parts
        if len(parts) == 3 and RUN.fullmatch(parts[-1]):
            return Capsule(Path(folder), root, parts)
    return None


def capsule_of(row: Process, root: Path, run: int | None = None) -> Capsule | None:
    """Of the last run that began, or of run number `run`; None when there is none (yet)."""
    folder = Path(row.capsule) if row.capsule else None
    if folder is None:
        return None
    capsule = capsule_at(root, str(folder if run is None else folder.with_name(f"run-{run}")))
    return capsule if capsule and (run is None or run in capsule.runs) else None

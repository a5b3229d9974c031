"""The folders that exposures land in, as one look finds them: the files, what is promised of them, who goes with whom.

What has become of each file is kept in the table Seen, by snooppix.py. Nothing is written here.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from spicad.archive.headers import stem_of
from spicad.archive.instruments import Instruments
from spicad.archive.wholeness import identity_of, is_about_others, read_promises

UNFINISHED = re.compile(r"\..*|.*~|.*\.(part|partial|filepart|crdownload|download|tmp|temp|aria2|swp)", re.IGNORECASE)
COMPANION = re.compile(r"(?P<stem>.+)[._](?P<kind>weight|flag|mask)s?", re.IGNORECASE)
LONGEST_NAME = 200  # what the column of the archive holds
MOST_DEEP = 40  # folders in folders
PACKINGS = ("", ".fz", ".gz", ".bz2")


@dataclass(frozen=True)
class Found:
    """A file as it lies there. `fault` says why it cannot be an exposure, whatever is in it."""

    path: Path
    identity: str
    bytes: int
    fault: str = ""


@dataclass
class Look:
    """What one look saw. Of a folder that could not be read nothing is known: `blind` names it, and why."""

    files: dict[Path, Found] = field(default_factory=dict)
    promises: dict[Path, frozenset[str]] = field(default_factory=dict)
    blind: dict[Path, str] = field(default_factory=dict)

    def can_tell_of(self, path: Path) -> bool:
        """Whether the absence of `path` means that it is not there."""
        return not any(path.is_relative_to(folder) for folder in self.blind)


def look_into(folders: Iterable[Path]) -> Look:
    """All files below `folders` that are not hidden, unfinished by their name, or about others. No link is followed."""
    look = Look()
    for folder in folders:
        _look_below(folder, look)
    return look


def _look_below(folder: Path, look: Look, depth: int = 0, parent: int | None = None) -> None:
    """Each folder is opened in its parent: one that is exchanged for a link meanwhile is not entered."""
    if depth > MOST_DEEP:
        look.blind[folder] = f"it lies more than {MOST_DEEP} folders deep"
        return
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | (0 if parent is None else os.O_NOFOLLOW)
    try:
        handle = os.open(folder if parent is None else folder.name, flags, dir_fd=parent)
    except OSError as error:
        look.blind[folder] = error.strerror or str(error)
        return
    try:
        for each in _look_in(folder, handle, look):
            _look_below(each, look, depth + 1, handle)
    finally:
        os.close(handle)


def _look_in(folder: Path, handle: int, look: Look) -> list[Path]:
    """The folders in it, in order."""
    about_others, below = [], []
    try:
        with os.scandir(handle) as entries:
            for entry in entries:
                if UNFINISHED.fullmatch(entry.name):
                    continue
                if entry.is_dir(follow_symlinks=False):
                    below.append(folder / entry.name)
                elif is_about_others(entry.name):
                    about_others.append(entry.name)
                elif found := _found(folder / entry.name, entry):
                    look.files[found.path] = found
    except OSError as error:
        look.blind[folder] = error.strerror or str(error)
        return []
    for name, digests in read_promises(folder, about_others).items():
        look.promises[folder / name] = digests
    return sorted(below)


def _found(path: Path, entry: os.DirEntry[str]) -> Found | None:
    try:
        status = entry.stat(follow_symlinks=False)
    except OSError:
        return None
    return Found(path, identity_of(status), status.st_size, _fault(entry.name, status))


def _fault(name: str, status: os.stat_result) -> str:
    if stat.S_ISLNK(status.st_mode):
        return "it is a symbolic link. Put the file itself here."
    if not stat.S_ISREG(status.st_mode):
        return "it is no regular file. Put a FITS file here."
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        return "its name is not UTF-8. Give it another one."
    if not name.isprintable():
        return "its name holds control characters. Give it another one."
    if len(name) > LONGEST_NAME:
        return f"its name has {len(name)} characters, at most {LONGEST_NAME} are taken. Give it a shorter one."
    return ""


def companion_of(name: str, instruments: Instruments | None = None) -> tuple[str, str]:
    """(stem of its exposure, "weight", "flag" or "mask"), both "" for what is an exposure itself."""
    stem = stem_of(Path(name))
    found = COMPANION.fullmatch(stem)
    if found:
        return found["stem"], found["kind"].lower()
    return instruments.companion(stem) if instruments else ("", "")


def names_for(stem: str) -> Iterator[str]:
    """The file names that an exposure of this stem may have."""
    for ending in (".fits", ".fit", ".fts", ".FITS", ""):
        for packing in PACKINGS:
            yield stem + ending + packing


def shown(path: Path | str) -> str:
    """A path for tables and terminals, whatever bytes it holds."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")

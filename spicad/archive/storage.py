"""Where exposures are kept: the roots of [storage], and which of them, and which folder on it, an exposure goes to.

Decisions on values. How a file gets there is carrying.py's affair, when, datatransfer.py's.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from spicad.words import BadInput, Problem

ROOT = re.compile(
    r"(?:(?P<node>[A-Za-z0-9][A-Za-z0-9._-]*)=)?(?:(?P<host>[A-Za-z0-9_][A-Za-z0-9@._-]*):)?(?P<folder>/.*)"
)
UNUSUAL = re.compile(r"[^A-Za-z0-9._+-]+")
LONGEST_FOLDER = 80


@dataclass(frozen=True)
class Root:
    """`host` is who is asked over ssh, "" where the folder is reached here."""

    node: str
    host: str
    folder: str

    @property
    def words(self) -> str:
        return f"{self.host}:{self.folder}" if self.host else self.folder

    def holds(self, path: str) -> bool:
        return PurePosixPath(path).is_relative_to(self.folder)


def roots_of(words: Sequence[str], this_node: str, source: str = "spica.conf") -> tuple[Root, ...]:
    """Raises BadInput naming each that is none."""
    problems = []
    roots = []
    for word in words:
        found = ROOT.fullmatch(word)
        if not found:
            mend = "Write /FOLDER, NODE=/FOLDER or NODE=HOST:/FOLDER."
            problems.append(Problem(source, f"[storage] roots: {word!r} is no place to keep exposures.", mend))
            continue
        node = found["node"] or (found["host"] or this_node).rpartition("@")[2].split(".")[0]
        roots.append(Root(node, found["host"] or "", os.path.normpath(found["folder"])))
    if problems:
        raise BadInput(problems)
    return tuple(roots)


def require_apart(folders: Sequence[Path], roots: Sequence[str], source: str) -> None:
    """Raises BadInput where what is stored would land again, or what lands lies among what is stored."""
    problems = []
    for root in roots_of(roots, "here", source):
        for folder in folders if not root.host else ():
            if root.holds(str(folder)) or Path(root.folder).is_relative_to(folder):
                what = f"the landing folder {folder} and the root {root.folder} lie one in the other."
                problems.append(Problem(source, what, "Keep them apart."))
    if problems:
        raise BadInput(problems)


def place_of(runid: str, filter_: str) -> str:
    """The folder, below a root, of what is reduced together. Header texts lead nowhere else."""
    return f"{_folder(runid, 'no-runid')}/{_folder(filter_, 'no-filter')}"


def _folder(text: str, otherwise: str) -> str:
    return UNUSUAL.sub("_", text.strip()).strip("._-")[:LONGEST_FOLDER] or otherwise


@dataclass(frozen=True)
class Choice:
    """`root` None: nowhere is room, and `why` says so."""

    root: Root | None
    why: str


def choose(
    roots: Sequence[Root],
    free: Mapping[Root, int],
    promised: Mapping[Root, int],
    siblings: Mapping[Root, int],
    size: int,
    keep_free: int,
) -> Choice:
    """The root for `size` bytes: where most siblings lie, then where most is free.

    `free` lacks the roots that cannot be reached now; `promised` are bytes on their way to each. What belongs together
    is waited for together: a root with siblings that cannot be reached is not passed over.
    """
    room = {root: free[root] - promised.get(root, 0) - keep_free for root in roots if root in free}
    with_siblings = [root for root in roots if siblings.get(root)]
    for root in sorted(with_siblings, key=lambda each: -siblings[each]):
        if root not in free:
            return Choice(None, f"{root.words}, where its siblings lie, cannot be reached.")
        if room[root] >= size:
            return Choice(root, f"{siblings[root]} of its run and filter lie there")
    best = max(room, key=lambda each: room[each], default=None)
    if best is None:
        return Choice(None, "no root can be reached.")
    if room[best] < size:
        return Choice(None, f"no root has room for {size} bytes beside the {keep_free >> 20} MiB that stay free.")
    return Choice(best, "its siblings' root is full" if with_siblings else "most is free there")

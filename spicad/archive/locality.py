"""Where the input of a process lies: the share of its bytes that are stored on each node, by the archive's tables.

What a file is to the score is waiting.py's affair; who puts files on nodes is datatransfer's.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from spicad.tables import Exposure

AT_ONCE = 500


def share_on(node: str, files: Mapping[str, int]) -> float:
    """The share, 0 to 1, of the bytes of `files` (path -> bytes) that `node` stores.

    A file that the archive does not know counts as stored here: it was read from here.
    """
    total = sum(files.values())
    if not total or not _has_other_nodes(node):
        return 1.0
    elsewhere = _places_but(node, files)
    return 1.0 - sum(files[path] for path in elsewhere) / total


def _has_other_nodes(node: str) -> bool:
    return bool(Exposure.select().where(Exposure.node != node).exists())


def _places_but(node: str, files: Mapping[str, int]) -> set[str]:
    """Those of `files` that are known on other nodes only."""
    here: set[str] = set()
    there: set[str] = set()
    for names in _chunks({path.rpartition("/")[2] for path in files}):
        rows: Any = Exposure.select(Exposure.path, Exposure.node).where(Exposure.name.in_(names)).tuples()
        for path, where in rows:
            (here if where == node else there).add(path)
    return (there - here) & set(files)


def _chunks(names: Iterable[str]) -> Iterable[list[str]]:
    ordered = sorted(names)
    return (ordered[start : start + AT_ONCE] for start in range(0, len(ordered), AT_ONCE))

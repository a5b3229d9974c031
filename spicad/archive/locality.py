"""Where the input of a process lies: the share of its bytes that are stored on each node, by the archive's tables.

What a file is to the score is waiting.py's affair; who puts files on nodes is datatransfer's.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from spicad.tables import Exposure

AT_ONCE = 500

Places = Mapping[str, frozenset[str]]  # file -> nodes that store it; a file that no node is known for is left out


@dataclass(frozen=True)
class Shares:
    """The share, 0 to 1, of the bytes of some files that is stored on each node.

    What the archive does not know counts as stored on every node: it is read from where all of them see it.
    """

    by_node: Mapping[str, float]
    anywhere: float  # on a node that is not in by_node

    def on(self, node: str) -> float:
        return self.by_node.get(node, self.anywhere)


def shares_of(files: Mapping[str, int], places: Places) -> Shares:
    """Of `files` (name -> bytes)."""
    total = sum(files.values())
    if not total or not places:
        return Shares({}, 1.0)
    known: dict[str, int] = defaultdict(int)
    for name in files.keys() & places.keys():
        for node in places[name]:
            known[node] += files[name]
    anywhere = sum(size for name, size in files.items() if name not in places)
    return Shares({node: (anywhere + size) / total for node, size in known.items()}, anywhere / total)


def places_of(paths: Collection[str], here: str) -> Places:
    """The nodes that store each file, by its path; nothing where the archive knows no node but `here`."""
    if not paths or not has_other_nodes(here):
        return {}
    found: dict[str, set[str]] = defaultdict(set)
    for names in _chunks({path.rpartition("/")[2] for path in paths}):
        rows: Any = Exposure.select(Exposure.path, Exposure.node).where(Exposure.name.in_(names)).tuples()
        for path, node in rows:
            found[path].add(node)
    return {path: frozenset(found[path]) for path in found.keys() & set(paths)}


def has_other_nodes(here: str) -> bool:
    """Whether the archive knows of any node but `here`."""
    return bool(Exposure.select().where(Exposure.node != here).exists())


def _chunks(names: Iterable[str]) -> Iterable[list[str]]:
    ordered = sorted(names)
    return (ordered[start : start + AT_ONCE] for start in range(0, len(ordered), AT_ONCE))

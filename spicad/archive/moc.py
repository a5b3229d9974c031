"""Multi-order coverage maps: which part of the sky exposures cover, as Aladin, TOPCAT and mocpy read it.

IVOA Recommendation MOC 2.0 (2022), sections 4.3.2 (JSON) and 4.3.3 (ASCII); order 8, so that its rim lies up to a
quarter of a degree outside of the footprints.
"""

from __future__ import annotations

import json
from collections.abc import Iterable

from spicad.archive.cells import ORDER

Moc = dict[int, list[int]]  # cells by order, each part of the sky once


def moc_of(cells: Iterable[int]) -> Moc:
    """Four cells that make up a larger one are that one, up to the twelve faces."""
    found: Moc = {}
    left = set(cells)
    for order in range(ORDER, 0, -1):
        whole = {cell >> 2 for cell in left if cell & 3 == 0 and {cell + 1, cell + 2, cell + 3} <= left}
        rest = sorted(cell for cell in left if cell >> 2 not in whole)
        if rest:
            found[order] = rest
        left = whole
    if left:
        found[0] = sorted(left)
    return dict(sorted(found.items()))


def as_json(moc: Moc) -> str:
    """The deepest order is named even when it is empty: it says how fine the map is."""
    return json.dumps({str(order): cells for order, cells in {**moc, ORDER: moc.get(ORDER, [])}.items()})


def as_ascii(moc: Moc) -> str:
    parts = [f"{order}/{' '.join(_runs(cells))}" for order, cells in moc.items()]
    return " ".join(parts if ORDER in moc else [*parts, f"{ORDER}/"])


def _runs(cells: list[int]) -> list[str]:
    runs: list[tuple[int, int]] = []
    for cell in cells:
        if runs and runs[-1][1] + 1 == cell:
            runs[-1] = (runs[-1][0], cell)
        else:
            runs.append((cell, cell))
    return [str(first) if first == last else f"{first}-{last}" for first, last in runs]


def share_of_sky(moc: Moc) -> float:
    return sum(len(cells) / (12 * 4**order) for order, cells in moc.items())

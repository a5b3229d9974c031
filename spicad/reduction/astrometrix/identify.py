"""Which detections, and which reference star, are one source: nearest within a radius, one of each exposure.

Sources grow exposure by exposure, so that memory and time go with the number of detections; SCAMP compares all pairs.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

Array = NDArray[np.float64]
Indices = NDArray[np.intp]


class Sources:
    """Unit vectors of all sources so far, in a large tree that is renewed seldom and a small one of what is new."""

    def __init__(self, first: Array) -> None:
        self.points = [first]
        self.count = self.in_large = len(first)
        self.large = cKDTree(first) if len(first) else None
        self.small: cKDTree | None = None
        self.recent: list[Array] = []

    def nearest(self, points: Array, reach: float) -> tuple[Array, Indices]:
        """Distances, infinite where there is none, and numbers."""
        distance = np.full(len(points), np.inf)
        number = np.full(len(points), -1, np.intp)
        for tree, first in ((self.large, 0), (self.small, self.in_large)):
            if tree is not None:
                d, n = tree.query(points, distance_upper_bound=reach)
                nearer = d < distance
                distance[nearer], number[nearer] = d[nearer], n[nearer] + first
        return distance, number

    def add(self, points: Array) -> Indices:
        numbers = np.arange(self.count, self.count + len(points))
        self.points.append(points)
        self.recent.append(points)
        self.count += len(points)
        if self.count - self.in_large > max(self.in_large, 50_000) // 2:
            whole = np.concatenate(self.points)
            self.points, self.recent = [whole], []
            self.large, self.small, self.in_large = cKDTree(whole), None, len(whole)
        elif self.recent:
            self.small = cKDTree(np.concatenate(self.recent))
        return numbers


def identified(
    references: Array, exposures: Iterable[tuple[slice, Array]], total: int, radius_arcsec: float
) -> Indices:
    """The source of each of `total` detections; reference stars are the sources 0 to len(references) - 1.

    `exposures`: for each, where its detections are and their unit vectors (n, 3). Of two detections that would be one
    source in one exposure, the nearer is; the other is a source of its own.
    """
    sources = Sources(references)
    reach = 2 * math.sin(math.radians(radius_arcsec / 3600) / 2)
    found = np.full(total, -1, np.intp)
    for here, points in exposures:
        distance, number = sources.nearest(points, reach)
        order = np.argsort(distance, kind="stable")
        order = order[np.isfinite(distance[order])]
        _, first = np.unique(number[order], return_index=True)
        mine = order[first]
        numbers = np.full(len(points), -1, np.intp)
        numbers[mine] = number[mine]
        new = np.flatnonzero(numbers < 0)
        numbers[new] = sources.add(points[new])
        found[here] = numbers
    return found

"""Points of a plane that lie near each other, by numpy alone: loading scipy's trees takes longer than most matches."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.float64]  # (n, 2), finite
Places = NDArray[np.intp]


def pairs_within(points: Points, others: Points, reach: float) -> tuple[Places, Places]:
    """Which of `points` lie up to `reach` from which of `others`; pairs are in the order of `points`."""
    if not len(points) or not len(others):
        return np.empty(0, np.intp), np.empty(0, np.intp)
    low = np.maximum(points.min(axis=0), others.min(axis=0))
    high = np.maximum(low, np.minimum(points.max(axis=0), others.max(axis=0)))
    across = int((high - low)[1] / reach) + 3

    def cells(these: Points) -> NDArray[np.int64]:
        """Squares with sides of `reach`, in rows along the second axis. Points outside the box that both have in common
        count as on its edge, so that few squares do: that brings them no further from any other.
        """
        row, column = ((np.clip(these, low, high) - low) / reach).astype(np.int64).T
        return (row + 1) * across + column + 1

    there = cells(others)
    order = np.argsort(there, kind="stable")
    there = there[order]
    # Of the three cells beside each other in each of three rows: one stretch of what is sorted by cells.
    middle = cells(points)[:, None] + across * np.array([-1, 0, 1])
    first, last = np.searchsorted(there, middle - 1).ravel(), np.searchsorted(there, middle + 1, "right").ravel()
    counts = last - first
    mine = np.repeat(np.repeat(np.arange(len(points)), 3), counts)
    theirs = order[np.arange(len(mine)) + np.repeat(first - np.cumsum(counts) + counts, counts)]
    near = np.hypot(*(points[mine] - others[theirs]).T) <= reach
    return mine[near], theirs[near]


def nearest_within(points: Points, others: Points, reach: float) -> tuple[Places, Places]:
    """Those of `points` that have any of `others` up to `reach` from them, and which of these is the nearest."""
    mine, theirs = pairs_within(points, others, reach)
    by_distance = np.lexsort((np.hypot(*(points[mine] - others[theirs]).T), mine))
    mine, theirs = mine[by_distance], theirs[by_distance]
    first = np.diff(mine, prepend=-1) > 0
    return mine[first], theirs[first]

"""Medians of many short rows, many times quicker than numpy's median and nanmedian."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def medians(values: NDArray[Any]) -> NDArray[Any]:
    """Of the finite numbers along the last axis; NaN of none. `values` holds no infinities."""
    ordered = np.sort(values, axis=-1)  # NaN come last
    counts = np.count_nonzero(np.isfinite(ordered), axis=-1)[..., None]
    lower, upper = (np.take_along_axis(ordered, place, -1) for place in (np.maximum(counts - 1, 0) // 2, counts // 2))
    return np.asarray((lower + upper)[..., 0] / 2)

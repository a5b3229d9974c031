"""Reads the reference catalogue of photometrix: known magnitudes by filter, their errors and the colours of stars.

Files of all kinds, and places, are read by references.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spicad.fits import FitsProblem
from spicad.reduction import references
from spicad.reduction.photometrix.result import KnownStars
from spicad.reduction.tangent import vectors
from spicad.words import BadInput, Problem

Array = NDArray[np.float64]


def read_known_stars(path: Path, values: Mapping[str, Any]) -> KnownStars:
    """The stars of a catalogue, at its own epoch. `values` are photometrix's keywords.

    Raises BadInput when the catalogue, or a column that is asked for, cannot be read.
    """
    try:
        stars = references.read(path)
        by_filter = [key.rpartition(":") for key in values["REFMAG_KEYS"]]
        mag = {name: _column(path, key, "REFMAG_KEYS") for name, _, key in by_filter}
        error = _column(path, values["REFMAGERR_KEY"], "REFMAGERR_KEY")
        colours = [_column(path, key, "REFCOLOUR_KEYS") for key in values["REFCOLOUR_KEYS"]]
    except FitsProblem as problem:
        raise BadInput(Problem("REFERENCE_NAME", str(problem))) from None
    return KnownStars(
        place=vectors(stars.ra, stars.dec),
        mag=mag,
        error=np.where(error > 0, error, np.inf),
        colour=colours[0] - colours[1] if len(colours) == 2 else np.full(len(stars), np.nan),
    )


def _column(path: Path, name: str, keyword: str) -> Array:
    """A column of numbers, for the stars that have a position."""
    found = references.read(path, references.Keys(mag=name)).mag
    if not np.isfinite(found).any():
        raise BadInput(Problem(str(path), f"has no numbers in a column {name}.", f"{keyword} names it."))
    return found

"""Reads the reference catalogue of photometrix: known magnitudes by filter, their errors and the colours of stars.

Files of all kinds, and places, are read by references.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from spicad.fits import FitsProblem
from spicad.reduction import references
from spicad.reduction.photometrix.result import KnownStars
from spicad.reduction.tangent import vectors
from spicad.words import BadInput, Problem


def read_known_stars(path: Path, values: Mapping[str, Any]) -> KnownStars:
    """The stars of a catalogue, at its own epoch. `values` are photometrix's keywords.

    Raises BadInput when the catalogue, or a column that is asked for, cannot be read.
    """
    by_filter = [key.rpartition(":") for key in values["REFMAG_KEYS"]]
    asked = {key: "REFMAG_KEYS" for _, _, key in by_filter} | {values["REFMAGERR_KEY"]: "REFMAGERR_KEY"}
    asked |= dict.fromkeys(values["REFCOLOUR_KEYS"], "REFCOLOUR_KEYS")
    try:
        stars, columns = references.read_with(path, list(asked))
    except FitsProblem as problem:
        raise BadInput(Problem("REFERENCE_NAME", str(problem))) from None
    for name, keyword in asked.items():
        if not np.isfinite(columns[name]).any():
            raise BadInput(Problem(str(path), f"has no numbers in a column {name}.", f"{keyword} names it."))
    error = columns[values["REFMAGERR_KEY"]]
    colours = [columns[name] for name in values["REFCOLOUR_KEYS"]]
    return KnownStars(
        place=vectors(stars.ra, stars.dec),
        mag={name: columns[key] for name, _, key in by_filter},
        error=np.where(error > 0, error, np.inf),
        colour=colours[0] - colours[1] if len(colours) == 2 else np.full(len(stars), np.nan),
    )

"""Reads the reference catalogue of photometrix: known magnitudes by filter, their errors and the colours of stars.

Files are read by ldac.py; places of catalogues are the affair of those who do astrometry.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spicad.applications.figures import POSITION_COLUMNS
from spicad.fits import FitsProblem
from spicad.reduction import ldac
from spicad.reduction.photometrix_result import KnownStars
from spicad.reduction.tangent import vectors
from spicad.words import BadInput, Problem, nearest

Array = NDArray[np.float64]


def read_known_stars(path: Path, values: Mapping[str, Any]) -> KnownStars:
    """The stars of an LDAC catalogue. `values` are photometrix's keywords.

    Raises BadInput when the catalogue, or a column that is asked for, cannot be read.
    """
    try:
        tables = [catalogue.table for catalogue in ldac.read(path)]
    except FitsProblem as error:
        raise BadInput(Problem("REFERENCE_NAME", str(error))) from None
    except OSError as error:
        raise BadInput(Problem("REFERENCE_NAME", f"{path} cannot be read: {error.strerror}.")) from None
    names = tables[0].dtype.names or ()
    pair = next((each for each in POSITION_COLUMNS if set(each) <= set(names)), None)
    if pair is None:
        wanted = " or ".join("/".join(each) for each in POSITION_COLUMNS)
        raise BadInput(Problem(str(path), "has no positions.", f"Columns looked for: {wanted}."))

    def column(name: str) -> Array:
        if name not in names:
            raise BadInput(Problem(str(path), f"has no column {name}.", nearest(name, names)))
        return np.concatenate([np.asarray(table[name], float) for table in tables])

    by_filter = [key.rpartition(":") for key in values["REFMAG_KEYS"]]
    colours = [column(name) for name in values["REFCOLOUR_KEYS"]]
    ra, dec = column(pair[0]), column(pair[1])
    errors = column(values["REFMAGERR_KEY"])
    return KnownStars(
        place=vectors(ra, dec),
        mag={name: column(key) for name, _, key in by_filter},
        error=np.where(errors > 0, errors, np.inf),
        colour=colours[0] - colours[1] if len(colours) == 2 else np.full(len(ra), np.nan),
    )

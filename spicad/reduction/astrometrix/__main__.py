"""The command astrometrix: reads what is asked for, runs the solution, writes what is believed and says how it went.

`python -m spicad.reduction.astrometrix CATALOGUE ... [-c FILE] [-KEYWORD VALUE] ...`. Solving is solve.py's affair.
"""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spicad.reduction.astrometrix.settings import ASTROMETRIX, Settings, checked
from spicad.reduction.keywords import fail, status_of
from spicad.words import SpicaError

if TYPE_CHECKING:
    from spicad.reduction.astrometrix.solve import Solved

SOLVED, SOME_REFUSED, NOT_TRIED = 0, 1, 2


def main(argv: Sequence[str] | None = None) -> int:
    words = sys.argv[1:] if argv is None else argv
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # before numpy: as much for every process of a node
    return status_of(ASTROMETRIX, words, lambda orders: _run(orders.files, checked(orders.values)), NOT_TRIED)


def _run(paths: Sequence[Path], chosen: Settings) -> int:
    # Imported here, so that -dd answers at once.
    from spicad.reduction import references
    from spicad.reduction.astrometrix import exposures, plots, products
    from spicad.reduction.astrometrix.solve import solved

    exposures.check_names(paths)
    for head in [products.head_path(path, chosen) for path in paths]:  # of an earlier run: not taken for this one's
        head.unlink(missing_ok=True)
    stars = references.read(Path(chosen.word("ASTREFCAT_NAME")), references.Keys(**_keys(chosen)))
    _say(f"{chosen.word('ASTREFCAT_NAME')}: {len(stars)} reference stars")
    given = exposures.load(paths, chosen)
    _say(f"{len(given.exposures)} exposures, {len(given.detections.x)} detections that can be used")
    found = solved(given, stars, chosen, _say)
    try:
        written = products.write(found, chosen)
        plots.write(found, chosen)
    except OSError as error:
        fail(ASTROMETRIX, f"{error.filename or 'a file'}: {error.strerror or error}.")
        return SOME_REFUSED
    except SpicaError as error:
        fail(ASTROMETRIX, str(error))
        return SOME_REFUSED
    return _told(found, len(written))


def _keys(chosen: Settings) -> dict[str, Any]:
    def words(name: str) -> list[str]:
        return [] if chosen.words(name) == ["AUTO"] else chosen.words(name)

    def word(name: str) -> str:
        return "" if chosen.word(name) == "AUTO" else chosen.word(name)

    return {
        "position": words("ASTREFCENT_KEYS"),
        "error": words("ASTREFERR_KEYS"),
        "motion": words("ASTREFPROP_KEYS"),
        "mag": word("ASTREFMAG_KEY"),
        "epoch": word("ASTREFOBSDATE_KEY"),
        "fixed_epoch": chosen.number("ASTREF_EPOCH"),
        "no_error_arcsec": chosen.number("ASTREF_ERROR"),
    }


def _told(found: Solved, written: int) -> int:
    from spicad.reduction.astrometrix import products

    for warning in found.warnings:
        _say(f"WARNING: {warning}")
    for row in products.metrics(found)["cameras"]:
        _say(f"{row['camera']}: {row['exposures']} exposures, {row['ccds']} CCDs, degree {row['degree']}")
    if found.problem is not None:
        internal, external = products.overall(found)
        among = f'{internal[0]:.4f}" {internal[1]:.4f}"' if math.isfinite(internal[0]) else "not measured"
        _say(
            f'rms of bright stars: {among} among exposures, {external[0]:.4f}" {external[1]:.4f}" against the reference'
        )
    for each in found.refused:
        print(f"error: {each.exposure}: {each.name}: {each.why}", file=sys.stderr)
    _say(f"{products.verdict_words(found)} {written} .head files written.")
    return SOME_REFUSED if found.refused or not written else SOLVED


def _say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    raise SystemExit(main())

"""The command preprocess: takes the instrument's signature off raw exposures, and makes master frames.

`python -m spicad.reduction.preprocess EXPOSURE ... [-c FILE] [-KEYWORD VALUE] ...`. Here is the order of things; the
work is in the other modules of this folder. See preprocess(1).
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from spicad.reduction.keywords import Orders, status_of
from spicad.reduction.preprocess.settings import PREPROCESS
from spicad.words import BadInput, Problem


def main(argv: Sequence[str] | None = None) -> int:
    """0: made. 1: it cannot be made of these pixels. 2: what was asked for, or a file, cannot be taken."""
    return status_of(PREPROCESS, sys.argv[1:] if argv is None else argv, _done)


def _done(orders: Orders) -> int:
    for line in run(orders):
        print(line)
    return 0


def run(orders: Orders) -> Iterator[str]:
    """Makes everything; what is said about it, a line each."""
    from spicad.reduction.preprocess.masters import make_master
    from spicad.reduction.preprocess.science import make_science

    values = orders.values
    if not orders.files:
        raise BadInput(Problem("command line", "no exposure is given.", "preprocess -h tells how."))
    if not Path(values["OUTPUT_DIR"]).is_dir():
        raise BadInput(Problem(values["OUTPUT_DIR"], "there is no such folder.", "OUTPUT_DIR names where results go."))
    if values["MAKE"] != "SCIENCE":
        yield from make_master(orders.files, values)
        return
    for path in orders.files:
        yield from make_science(path, values)


if __name__ == "__main__":
    raise SystemExit(main())

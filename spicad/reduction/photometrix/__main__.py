"""The command photometrix: sets relative photometry in a set of exposures that overlap, and writes .head files.

`python -m spicad.reduction.photometrix CATALOGUE ... [-c FILE] [-KEYWORD VALUE] ...`. Here is the order of things;
reading, matching, solving, reporting and drawing are in the other modules of this folder. See photometrix(1).
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from spicad.reduction.keywords import Orders, status_of
from spicad.reduction.photometrix.settings import PHOTOMETRIX
from spicad.words import BadInput, Problem


def main(argv: Sequence[str] | None = None) -> int:
    """0: solved. 1: the set has no relative photometry. 2: what was asked for, or a catalogue, cannot be taken."""
    return status_of(PHOTOMETRIX, sys.argv[1:] if argv is None else argv, _done)


def _done(orders: Orders) -> int:
    for line in run(orders):
        print(line)
    return 0


def run(orders: Orders) -> list[str]:
    """Solves the set and writes everything; returns what is said about it, a line each."""
    from spicad.reduction.photometrix.plots import write_plots
    from spicad.reduction.photometrix.report import Report, said
    from spicad.reduction.photometrix.result import photometry
    from spicad.reduction.photometrix.set import read_set

    values = orders.values
    _check_together(values)
    folder = Path(values["OUTPUT_DIR"])
    if not folder.is_dir():
        raise BadInput(Problem(str(folder), "there is no such folder.", "OUTPUT_DIR names where results go."))
    exposures, sources = read_set(orders.files, values)
    known = _known_stars(values)
    report = Report.of(exposures, photometry(exposures, sources, values, known), values)
    report.write_heads(folder, values["HEADER_SUFFIX"])
    report.write_json(folder / "photometrix.json")
    report.write_tables(folder)
    if values["CHECKPLOTS"]:
        write_plots(folder, report)
    return said(report)


def _check_together(values: Mapping[str, Any]) -> None:
    """What no keyword alone can tell."""
    problems = []
    if values["ANCHOR"] == "REFERENCE" and not values["REFERENCE_NAME"]:
        problems.append(Problem("ANCHOR", "REFERENCE needs a catalogue.", "REFERENCE_NAME names it."))
    if values["COLOUR_TERMS"] != "NONE" and not (values["REFERENCE_NAME"] and len(values["REFCOLOUR_KEYS"]) == 2):
        mend = "REFERENCE_NAME names a catalogue, REFCOLOUR_KEYS two of its columns."
        problems.append(Problem("COLOUR_TERMS", f"{values['COLOUR_TERMS']} needs the colours of stars.", mend))
    if problems:
        raise BadInput(problems)


def _known_stars(values: Mapping[str, Any]) -> Any:
    if not values["REFERENCE_NAME"]:
        return None
    from spicad.reduction.photometrix.reference import read_known_stars

    return read_known_stars(Path(values["REFERENCE_NAME"]), values)


if __name__ == "__main__":
    raise SystemExit(main())

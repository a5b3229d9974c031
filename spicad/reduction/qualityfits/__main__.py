"""The command qualityfits: judges an exposure or a stack before it is used.

`python -m spicad.reduction.qualityfits EXPOSURE [-c FILE] [-KEYWORD VALUE] ...`. Here is the order of things; what is
done to a CCD is in ccd.py, what is made of it in measure.py. See qualityfits(1).
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from spicad.archive.quality import Report
from spicad.reduction.keywords import Orders, fail, status_of
from spicad.reduction.qualityfits.settings import QUALITYFITS
from spicad.words import BadInput, Problem

# Many CCDs are on their way at once: libraries of linear algebra with threads of their own would only be in the way.
for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(_name, "1")


def main(argv: Sequence[str] | None = None) -> int:
    """0: looked at, whatever the grade. 1: nothing could be measured. 2: what was asked for cannot be taken."""
    return status_of(QUALITYFITS, sys.argv[1:] if argv is None else argv, _done)


def _done(orders: Orders) -> int:
    report = run(orders)
    if report.problem:
        fail(QUALITYFITS, f"{report.exposure}: {report.problem}")
        return 1
    for line in said(report):
        print(line)
    return 0


def run(orders: Orders) -> Report:
    """Looks at the exposure and writes everything. Of one that cannot be read, a report that says why."""
    from spicad.reduction.qualityfits.work import look_at

    folder = Path(orders.values["OUTPUT_DIR"])
    if len(orders.files) != 1:
        raise BadInput(Problem("command line", f"one exposure is looked at, not {len(orders.files)}."))
    if not folder.is_dir():
        raise BadInput(Problem(str(folder), "there is no such folder.", "OUTPUT_DIR names where results go."))
    with tempfile.TemporaryDirectory(prefix=".qualityfits-", dir=folder) as scratch:
        return look_at(orders.files[0], folder.absolute(), Path(scratch).absolute(), orders.values)


def said(report: Report) -> list[str]:
    """The grade with its reasons, and the figures that people ask for first."""
    shown = (
        ("seeing", "{:.2f} arcsec", "seeing"),
        ("fwhm", "{:.2f} arcsec", "PSF"),
        ("elongation", "{:.2f}", "elongation"),
        ("background", "{:.1f} ADU", "background"),
        ("stars", "{:.0f}", "stars"),
        ("galaxies", "{:.0f}", "galaxies"),
        ("limiting_magnitude", "{:.2f}", "limiting magnitude"),
    )
    known = [
        (words, form.format(report.figures[name]))
        for name, form, words in shown
        if report.figures.get(name) is not None
    ]
    told = "; ".join(filter(None, [f"grade {report.grade}", ", ".join(f"{words} {text}" for words, text in known)]))
    lines = [f"{report.exposure}: {told}."]
    lines += [f"  {reason.grade}: {reason.words}" for reason in report.reasons]
    lines += [f"  {ccd.name}: {ccd.problem}." for ccd in report.ccds if ccd.problem]
    return lines


if __name__ == "__main__":
    raise SystemExit(main())

"""What a run has found of its exposures and stacks: the page of a quality report among its products.

The report of an exposure of the archive that counts for everybody is shown by pages/exposure.py.
"""

from __future__ import annotations

import csv
import io
from itertools import islice

from spicad.archive.quality import TABLES
from spicad.tables import Process
from spicaweb import pictures, results
from spicaweb.answers import Answer, NotThere
from spicaweb.capsules import Capsule
from spicaweb.drawing import draw
from spicaweb.pages.process import as_number, found_run
from spicaweb.quality import Shown, of_products, report_of
from spicaweb.visit import Visit

MOST_ORIGINS = 2000


def page(visit: Visit, number: str, run: str, product: str) -> Answer:
    row, capsule, stem, shown = _shown(visit, number, run, product)
    run_path = f"/process/{row.id}/run/{capsule.number}"
    fetched = {each.name: f"{run_path}/product/{each.number}/file" for each in results.products_of(capsule)}
    return draw(
        visit, "quality", f"Quality of {stem}", row=row, capsule=capsule, run_path=run_path,
        shown=shown, report=shown.report, stem=stem, here=f"{run_path}/quality/{as_number(product)}",
        files=[(words, fetched[shown.files[key]]) for key, words in shown.file_words.items() if key in shown.files],
        origins=_origins(capsule, shown.files.get("origins")),
    )  # fmt: skip


def picture(visit: Visit, number: str, run: str, product: str, which: str) -> Answer:
    _, capsule, _, shown = _shown(visit, number, run, product)
    return pictures.picture(capsule, shown.pictures.get(which))


def _shown(visit: Visit, number: str, run: str, product: str) -> tuple[Process, Capsule, str, Shown]:
    """With what the products call it: in its step an exposure was called img0001."""
    row, capsule = found_run(visit, number, run)
    products = results.products_of(capsule)
    chosen = next((each for each in products if each.number == as_number(product)), None)
    if chosen is None or chosen.kind != "quality":
        raise NotThere
    report = report_of(capsule, chosen.name)
    if report is None:
        raise NotThere
    stem = chosen.name.removesuffix(TABLES["json"])
    names = (each.name for each in products if each.name.startswith(f"{stem}."))
    return row, capsule, stem, of_products(report, names)


def _origins(capsule: Capsule, name: str | None) -> list[list[str]]:
    """The lines of a stack's table of exposures, the names of the columns first."""
    if name is None:
        return []
    return list(islice(csv.reader(io.StringIO(capsule.text("products", name))), MOST_ORIGINS))

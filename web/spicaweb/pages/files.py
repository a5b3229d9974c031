"""What a run has made, one by one: a catalogue as a table with a plot, an image as a preview, texts; and all as files.

A file is asked for by its number in the list of products, never by a path.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from spicad.tables import Process
from spicaweb import catalogues, downloads, pictures, plots, previews, results
from spicaweb.answers import Answer, NotThere
from spicaweb.capsules import Capsule, Gone
from spicaweb.downloads import Sent
from spicaweb.drawing import draw
from spicaweb.pages.process import as_number, found_run
from spicaweb.results import Product
from spicaweb.visit import Visit

RECIPE = {
    "job": "job.spica",
    "rules": "rules.toml",
    "report": "report.txt",
    "plan": "plan.json",
    "manifest": "manifest.json",
}
SIDES = {"small": 320, "large": 1200}


def product(visit: Visit, number: str, run: str, product: str) -> Answer:
    row, capsule, chosen = _product(visit, number, run, product)
    drawn: dict[str, Any] = {
        "row": row,
        "capsule": capsule,
        "product": chosen,
        "run_path": f"/process/{row.id}/run/{capsule.number}",
        "quality": results.report_on(chosen, results.products_of(capsule)),
    }
    try:
        if chosen.kind == "catalogue":
            return _catalogue(visit, capsule, chosen, drawn)
        text = capsule.text("products", chosen.name, most=results.MOST_TEXT) if chosen.kind == "text" else ""
    except Gone as gone:
        return draw(visit, "product", chosen.name, text="", trouble=str(gone), **drawn)
    return draw(visit, "product", chosen.name, text=text, trouble="", **drawn)


def _catalogue(visit: Visit, capsule: Capsule, chosen: Product, drawn: dict[str, Any]) -> Answer:
    with _opened(capsule, chosen) as handle:
        tables = catalogues.tables_in(handle)
        if not tables:
            raise Gone("there is no table with rows in this file.")
        at = visit.query("table", 6)
        table = tables[min(max(int(at), 1), len(tables)) - 1 if at.isascii() and at.isdecimal() else 0]
        page = visit.query("page", 8)
        shown = catalogues.shown(
            handle,
            table,
            visit.query("order"),
            visit.query("direction") == "down",
            int(page) if page.isdecimal() else 1,
        )
        plot = _plot(visit, handle, table)
    wish = {name: visit.query(name) for name in ("order", "direction", "x", "y", "xlog", "ylog")}
    here = f"/process/{drawn['row'].id}/run/{capsule.number}/product/{chosen.number}"

    def link(**changes: object) -> str:
        return visit.link(here, **{**wish, "table": table.number, "page": shown.page, **changes})

    return draw(
        visit, "catalogue", chosen.name, tables=tables, shown=shown, plot=plot, wish=wish, link=link, here=here, **drawn
    )


def _plot(visit: Visit, handle: int, table: catalogues.Table) -> str:
    x, y = visit.query("x"), visit.query("y")
    if not x or not y:
        return ""
    values = catalogues.pair(handle, table, x, y, plots.MOST_POINTS)
    labels = [f"{name} [{table.unit(name)}]" if table.unit(name) else name for name in (x, y)]
    return plots.scatter(*values, *labels, x_log=visit.query("xlog") == "1", y_log=visit.query("ylog") == "1")


def preview(visit: Visit, number: str, run: str, product: str, size: str) -> Answer:
    _, capsule, chosen = _product(visit, number, run, product)
    if chosen.kind != "image" or size not in SIDES:
        raise NotThere
    try:
        with _opened(capsule, chosen) as handle:
            return Answer(previews.preview(handle, SIDES[size]), kind="image/png")
    except Gone:
        raise NotThere from None


def plot(visit: Visit, number: str, run: str, product: str) -> Answer:
    _, capsule, chosen = _product(visit, number, run, product)
    return pictures.picture(capsule, chosen.name)


# ---------------------------------------------------------------------- downloads


def product_file(visit: Visit, number: str, run: str, product: str) -> Answer:
    _, capsule, chosen = _product(visit, number, run, product)
    return _sent(lambda: downloads.one_file(capsule, "products", chosen.name))


def everything(visit: Visit, number: str, run: str) -> Answer:
    row, capsule = found_run(visit, number, run)
    names = [each.name for each in results.products_of(capsule)]
    return _sent(lambda: downloads.everything(row, capsule, names))


def recipe(visit: Visit, number: str, run: str, which: str) -> Answer:
    row, capsule = found_run(visit, number, run)
    if which not in RECIPE:
        raise NotThere
    called = f"{row.name}-run-{capsule.number}-{RECIPE[which]}"
    return _sent(lambda: downloads.one_file(capsule, RECIPE[which], called=called))


def log(visit: Visit, number: str, run: str, step: str) -> Answer:
    """The whole log of a step as it was written."""
    row, capsule = found_run(visit, number, run)
    folder = _one_of(capsule, "steps", lambda name: name.startswith(f"{as_number(step):04d}-") and "." not in name)
    called = f"{row.name}-run-{capsule.number}-{folder}.log"
    return _sent(lambda: downloads.one_file(capsule, "steps", folder, "log", called=called))


def configuration(visit: Visit, number: str, run: str, task: str) -> Answer:
    """What a task's tool was told: the configuration in force, and the files that it names."""
    row, capsule = found_run(visit, number, run)
    chosen = next((each for each in results.configured(capsule) if each.folder == task), None)
    if chosen is None:
        raise NotThere
    files = [(name, capsule.text("configuration", chosen.folder, name)) for name in chosen.files]
    run_path = f"/process/{row.id}/run/{capsule.number}"
    title = f"{chosen.application} as used"
    return draw(visit, "configured", title, row=row, capsule=capsule, run_path=run_path, setup=chosen, files=files)


def _one_of(capsule: Capsule, folder: str, fits: Callable[[str], bool]) -> str:
    found = next((name for name in capsule.names(folder) if fits(name)), "")
    if not found:
        raise NotThere
    return found


def _sent(make: Callable[[], Sent]) -> Answer:
    try:
        sent = make()
    except Gone:
        raise NotThere from None
    headers = dict(sent.headers)
    return Answer(sent.body, kind=headers.pop("Content-Type"), headers=headers)


def _product(visit: Visit, number: str, run: str, product: str) -> tuple[Process, Capsule, Product]:
    row, capsule = found_run(visit, number, run)
    try:
        return row, capsule, results.product(capsule, as_number(product))
    except Gone:
        raise NotThere from None


@contextmanager
def _opened(capsule: Capsule, chosen: Product) -> Iterator[int]:
    handle = capsule.open("products", chosen.name)
    try:
        yield handle
    finally:
        os.close(handle)

"""From an exposure to all that qualityfits leaves: opened, each CCD looked at, measured, graded, written."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from spicad import __version__
from spicad.archive.headers import stem_of
from spicad.archive.instruments import instruments_in, shipped
from spicad.archive.quality import PICTURES, TABLES, Reason, Report, write_report
from spicad.archive.thresholds import Thresholds, proposed, shipped_thresholds, thresholds_for
from spicad.reduction import ldac
from spicad.reduction.ldac import CcdCatalogue
from spicad.reduction.qualityfits import maps
from spicad.reduction.qualityfits.ccd import CcdResult, Orders, looked_at
from spicad.reduction.qualityfits.exposure import Companion, Exposure, check_keywords, open_exposure
from spicad.reduction.qualityfits.measure import Whole, measured, quiet
from spicad.reduction.qualityfits.mosaic import layout_of
from spicad.reduction.qualityfits.reference import read_reference
from spicad.reduction.qualityfits.stack import (
    Comparison,
    Origin,
    add_figures,
    compared,
    read_origins,
    write_origins,
)
from spicad.reduction.qualityfits.tables import write_tables
from spicad.reduction.qualityfits.tools import Tools, low_columns
from spicad.reduction.references import References
from spicad.words import SpicaError

PROGRAM = f"qualityfits {__version__}"
COMPANIONS = {"flat": "FLAT_NAME", "weight": "WEIGHT_NAME", "mask": "MASK_NAME"}


def look_at(source: Path, folder: Path, scratch: Path, values: Mapping[str, Any]) -> Report:
    """Everything. An exposure that cannot be read gets a report with the problem, and nothing else."""
    name = stem_of(source) if values["OUTPUT_NAME"].upper() == "AUTO" else values["OUTPUT_NAME"]
    instruments = shipped() if _is_auto(values["INSTRUMENTS_DIR"]) else instruments_in(Path(values["INSTRUMENTS_DIR"]))
    check_keywords(values)
    tools = Tools(scratch)
    companions = {
        kind: Companion(Path(values[keyword]), scratch, kind) for kind, keyword in COMPANIONS.items() if values[keyword]
    }
    try:
        exposure = open_exposure(source, scratch, instruments, values)
    except SpicaError as error:
        report = _unreadable(source, str(error))
        write_report(folder / f"{name}{TABLES['json']}", report)
        return report
    for companion in companions.values():
        for ccd in exposure.ccds:
            companion.hdu_of(ccd, len(exposure.ccds))
    rules = shipped_thresholds() if _is_auto(values["QUALITY_DIR"]) else Path(values["QUALITY_DIR"])
    thresholds = thresholds_for(rules, exposure.known_as, exposure.filter)
    orders = Orders(
        values=values,
        tools=tools,
        count=len(exposure.ccds),
        companions=companions,
        zero_point=exposure.zero_point if exposure.zero_point is not None else 0.0,
        is_stack=exposure.is_stack,
        shrink=_shrink(exposure, values["PREVIEW_SIZE"]),
    )
    threads = values["NTHREADS"] or len(os.sched_getaffinity(0))
    with ThreadPoolExecutor(min(threads, len(exposure.ccds))) as pool, quiet():
        looking = [pool.submit(looked_at, ccd, orders) for ccd in exposure.ccds]
        # The thread that has no CCD left draws them, beside all that follows.
        previews = (
            pool.submit(_preview, exposure, looking, folder, name, values["PREVIEW_SIZE"])
            if values["WRITE_PLOTS"]
            else None
        )
        results = [each.result() for each in looking]
        stars = _reference(exposure, values["ASTREFCAT_NAME"])
        whole = measured(exposure, results, stars, thresholds, values)
        origins, comparison = _stacked(whole, values) if exposure.is_stack else (None, None)
        report = _report(whole, thresholds, tools)
        _write(whole, report, folder, name)
        if previews is not None:
            _plot(whole, comparison, folder, name)
            previews.result()
    if origins is not None:
        write_origins(folder / f"{name}{TABLES['origins']}", origins)
    return report


def _reference(exposure: Exposure, name: str) -> References | None:
    """Its stars at the time of the exposure."""
    if not name:
        return None
    told = exposure.told
    return read_reference(Path(name), 2000.0 + (told.mjd - 51544.5) / 365.25 if told and told.mjd else None)


def _stacked(whole: Whole, values: Mapping[str, Any]) -> tuple[list[Origin] | None, Comparison | None]:
    """What is told of a stack besides."""
    origins = read_origins(Path(values["ORIGINS_NAME"])) if values["ORIGINS_NAME"] else None
    comparison = compared(whole, Path(values["EARLIER_NAME"])) if values["EARLIER_NAME"] else None
    add_figures(whole, origins, comparison)
    return origins, comparison


def _is_auto(text: str) -> bool:
    return text.upper() == "AUTO"


def _shrink(exposure: Exposure, preview: int) -> int:
    """Pixels of a CCD, a side, for one of the preview: several CCDs lie beside each other."""
    across = max(1.0, len(exposure.ccds) ** 0.5) * max(max(ccd.width, ccd.height) for ccd in exposure.ccds)
    return max(1, int(across / preview))


def _unreadable(source: Path, why: str) -> Report:
    words = why.removeprefix(f"{source}: ")
    return Report(
        exposure=source.name,
        kind="exposure",
        instrument="",
        filter="",
        object="",
        obs_id="",
        grade="D",
        reasons=(Reason("D", "", words, ""),),
        figures={},
        ccds=(),
        problem=words,
        program=PROGRAM,
    )


def _report(whole: Whole, thresholds: Thresholds, tools: Tools) -> Report:
    exposure, told = whole.exposure, whole.exposure.told
    ccds = whole.reports()
    grade, reasons = proposed(whole.figures, ccds, thresholds)
    problem = ""
    if all(each.table is None for each in whole.ccds):
        problem = next((each.problem for each in whole.ccds if each.result.is_failure), "")
        words = "nothing could be measured on any of its CCDs."
        grade, reasons = "D", (Reason("D", "ccds_dead", words, "CCDs or half-CCDs missing"), *reasons)
    return Report(
        exposure=exposure.source.name,
        kind="stack" if exposure.is_stack else "exposure",
        instrument=exposure.instrument,
        filter=exposure.filter,
        object=told.object if told else "",
        obs_id=told.obs_id if told else "",
        grade=grade,
        reasons=reasons,
        figures=whole.figures,
        ccds=ccds,
        counts=whole.counts,
        trails=whole.trails(),
        tools=tools.runs(),
        thresholds=thresholds.name,
        notes=(*exposure.notes, *whole.notes),
        problem=problem,
        program=PROGRAM,
    )


def _write(whole: Whole, report: Report, folder: Path, name: str) -> None:
    paths = {kind: folder / f"{name}{suffix}" for kind, suffix in TABLES.items()}
    results = [each.result for each in whole.ccds]
    ldac.write(paths["catalogue"], _catalogues(results))
    for kind in ("weight", "flag", "psf"):
        parts = [result.files[kind] for result in results if kind in result.files]
        if len(parts) == len(results) or (parts and kind == "psf"):
            maps.join(paths[kind], parts)
    write_tables(report, paths["fits"], paths["csv"], paths["votable"])
    write_report(paths["json"], report)


def _preview(exposure: Exposure, looking: Sequence[Future[CcdResult]], folder: Path, name: str, size: int) -> None:
    from spicad.reduction.qualityfits.pictures import write_previews

    results = [each.result() for each in looking]
    preview, weight = (folder / f"{name}{PICTURES[kind][0]}" for kind in ("preview", "weight"))
    write_previews(results, layout_of(exposure.ccds, exposure.centre), size, preview, weight)


def _plot(whole: Whole, comparison: Comparison | None, folder: Path, name: str) -> None:
    from spicad.reduction.qualityfits.plots import write_plots

    write_plots(whole, comparison, layout_of(whole.exposure.ccds, whole.centre), folder, name)


def _catalogues(results: list[CcdResult]) -> list[CcdCatalogue]:
    """One for each CCD; those without sources have an empty table of the same columns."""
    like = next((result.catalogue for result in results if result.catalogue is not None), None)
    table = like.table[:0] if like is not None else np.empty(0, low_columns())
    units = like.units if like is not None else {}
    return [result.catalogue or CcdCatalogue(result.ccd.cards, table, units) for result in results]

"""Exposures of the made sky with planted defects, for the tests of QualityFITS."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits

from spicad.archive.quality import Report
from spicad.reduction import sky, sky_truth
from spicad.reduction.keywords import read_orders
from spicad.reduction.qualityfits.__main__ import run
from spicad.reduction.qualityfits.settings import QUALITYFITS
from spicad.reduction.sky_options import SkyOptions
from spicad.reduction.sky_truth import Truth

OPTIONS = SkyOptions(exposures=1, ccds=4, size=520, filters=("r",), stars=140, seed=11, scale=0.3)
STEM = "900001p"


def judged(exposure: Path, folder: Path, **keywords: object) -> Report:
    """What qualityfits says of the exposure."""
    folder.mkdir(parents=True, exist_ok=True)
    words = [str(exposure), "-OUTPUT_DIR", str(folder)]
    for name, value in keywords.items():
        words += [f"-{name}", str(value)]
    orders = read_orders(QUALITYFITS, words)
    assert orders is not None
    return run(orders)


def made(folder: Path, options: SkyOptions, change: Callable[[Truth], Truth] = lambda truth: truth) -> Path:
    """A sky in `folder`, its truth changed before it is painted."""
    (folder / "truth").mkdir(parents=True)
    truth = change(sky_truth.planted(options))
    sky._write_all(folder, truth, lambda done, of, what: None)
    return folder


def with_exposures(truth: Truth, **changes: Any) -> Truth:
    exposures = tuple(dataclasses.replace(each, **changes) for each in truth.exposures)
    return dataclasses.replace(truth, exposures=exposures)


def doubled(truth: Truth, arcsec: float, fainter_mag: float) -> Truth:
    """Every source a second time, to the north: the telescope jumped during the exposure."""
    sources = truth.sources
    twice: dict[str, Any] = {
        field.name: np.concatenate([getattr(sources, field.name)] * 2)
        for field in dataclasses.fields(sources)
        if field.name != "mag"
    }
    twice["dec"][len(sources.dec) :] += arcsec / 3600
    twice["mag"] = {name: np.concatenate([mag, mag + fainter_mag]) for name, mag in sources.mag.items()}
    return dataclasses.replace(truth, sources=dataclasses.replace(sources, **twice))


def spoiled(clean: Path, path: Path, spoil: Callable[[fits.HDUList], None]) -> Path:
    """A copy of the exposure with its HDUs changed."""
    with fits.open(clean) as hdus:
        for hdu in hdus[1:]:
            hdu.data = hdu.data.astype(np.float32)
        spoil(hdus)
        hdus.writeto(path, overwrite=True, output_verify="ignore")
    return path


def rows_of(path: Path, **where: int) -> Any:
    table = fits.getdata(path)
    kept = np.ones(len(table), bool)
    for name, value in where.items():
        kept &= table[name] == value
    return table[kept]


def figure(report: Report, name: str) -> float:
    value = report.figures[name]
    assert value is not None, name
    return value

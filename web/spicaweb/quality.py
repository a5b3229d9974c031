"""What a page shows of a quality report: figures in their order, the columns of CCDs, pictures and files that are left.

The report may be one of the tables (of an exposure, spicad/archive/judgements.py) or a product of a run.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from spicad.archive.judgements import Judgement
from spicad.archive.quality import BY_NAME, FIGURES, MAX_BYTES, PICTURES, TABLES, Figure, Report, report_from
from spicad.words import SpicaError
from spicaweb.capsules import Capsule

FIRST = ("seeing", "fwhm", "elongation", "background", "noise", "limiting_magnitude", "stars", "galaxies", "ccds",
         "exposures", "exposures_dropped", "coverage_fraction")  # fmt: skip
OF_CCD = ("seeing", "fwhm", "elongation", "background", "noise", "stars", "galaxies", "limiting_magnitude",
          "psf_chi2", "ra_offset", "dec_offset", "bad_pixel_fraction")  # fmt: skip
FILES = {
    "json": "JSON", "csv": "CSV", "votable": "VOTable", "fits": "FITS table", "catalogue": "Catalogue (LDAC)",
    "psf": "PSF model", "weight": "Weight map", "flag": "Flag map", "origins": "Exposures of the stack",
}  # fmt: skip
SUFFIXES = {key: suffix for key, (suffix, _) in PICTURES.items()}


def in_words(value: Any) -> str:
    """To four digits, or as a count."""
    if value is None:
        return ""
    text = f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
    return text.replace("-", "\N{MINUS SIGN}")


@dataclass(frozen=True)
class Shown:
    """All that the templates of quality ask for."""

    report: Judgement | Report
    files: Mapping[str, str]  # that are there, by the keys of TABLES
    pictures: Mapping[str, str]  # the same by the keys of PICTURES, in their order

    @property
    def first(self) -> list[tuple[Figure, str]]:
        """Figures that are looked at first, in words."""
        told = self.report.figures
        return [(BY_NAME[name], in_words(told[name])) for name in FIRST if told.get(name) is not None]

    @property
    def rest(self) -> list[tuple[Figure, str]]:
        told = self.report.figures
        others = [each for each in FIGURES if each.name not in FIRST and told.get(each.name) is not None]
        return [(each, in_words(told[each.name])) for each in others]

    @property
    def columns(self) -> list[Figure]:
        """Of the table of CCDs: what any of them has a figure for."""
        ccds = self.report.ccds
        return [BY_NAME[name] for name in OF_CCD if any(ccd.figures.get(name) is not None for ccd in ccds)]

    def title(self, picture: str) -> str:
        return PICTURES[picture][1]

    in_words = staticmethod(in_words)
    file_words = FILES


def of_products(report: Judgement | Report, names: Iterable[str]) -> Shown:
    """With those of the products `names` that belong to it."""
    listed = list(names)
    return Shown(report, _by_suffix(listed, TABLES), _by_suffix(listed, SUFFIXES))


def report_of(capsule: Capsule, name: str) -> Report | None:
    """None when it is gone, or is none."""
    try:
        return report_from(capsule.read("products", name, most=MAX_BYTES), name)
    except SpicaError:
        return None


def _by_suffix(names: list[str], suffixes: Mapping[str, str]) -> dict[str, str]:
    return {key: name for key, suffix in suffixes.items() for name in names if name.endswith(suffix)}

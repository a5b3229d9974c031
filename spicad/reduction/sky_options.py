"""What can be asked of the sky maker: SkyOptions, and the same as command-line arguments.

Light to import, so that the `spica` command can show its help without loading numpy.
The making itself is in sky.py.
"""

from __future__ import annotations

import argparse
import re
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from spicad.words import BadInput, Problem

FORMATS = ("fits", "fits.fz", "fits.gz")
HELP = "make a small sky of FITS exposures whose truth is known"
DESCRIPTION = """\
Makes seeded FITS exposures of a multi-CCD camera, with a reference catalogue, a map of bad pixels and tables of the
truth. Headers look like those of a pre-processed archive: the WCS is only approximate. The same options and seed
give the same bytes; a folder that already holds the sky asked for is left as it is.
"""
EPILOG = """\
In FOLDER: NUMBERp.fits (exposures), badpix.fits (1 good, 0 bad), refcat.cat (for scamp -ASTREF_CATALOG FILE
-ASTREFCAT_NAME), truth/ (sources.fits, exposures.csv, ccds.csv, detections.fits, cosmics.fits, params.json).
With --raw also raw/: NUMBERo (raw exposures), b, d, f (biases, darks, flats), crosstalk.txt; NUMBERp is what a perfect
pre-processing makes of NUMBERo.
Zero points: magnitude = zeropoint (exposures.csv) + dzp (ccds.csv) - 2.5 log10(flux in ADU). Pixels count from 1,1.
neighbour in sources.fits: arcsec to the nearest source that is at most 2 mag fainter (20: none so near).
Exit status: 0 made or already there, 1 it could not be written, 2 wrong options or FOLDER holds something else.
"""


@dataclass(frozen=True)
class SkyOptions:
    """Everything that decides the bytes of a sky."""

    exposures: int = 3
    ccds: int = 4
    size: int = 720
    filters: tuple[str, ...] = ("g", "r")
    fields: int = 1
    seed: int = 1
    scale: float = 0.186  # MegaCam's
    stars: int = 250
    format: str = "fits"
    single: bool = False
    cosmics: bool = True
    bad_pixels: bool = True
    trail: bool = False
    raw: bool = False

    def __post_init__(self) -> None:
        problems = [
            *(_outside(self, name, least, most) for name, (least, most) in LIMITS.items()),
            _wrong_filters(self.filters),
            _wrong_format(self.format),
            _wrong_single(self),
            _too_many(self),
        ]
        found = [problem for problem in problems if problem]
        if found:
            raise BadInput(found)


LIMITS: dict[str, tuple[float, float]] = {
    "exposures": (1, 999),
    "ccds": (1, 99),
    "size": (64, 16384),
    "fields": (1, 99),
    "seed": (0, 2**63 - 1),
    "scale": (0.02, 30.0),
    "stars": (0, 1_000_000),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    default = SkyOptions()
    parser.description, parser.epilog = DESCRIPTION, EPILOG
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    add = parser.add_argument
    add("folder", type=Path, metavar="FOLDER", help="where the sky goes; made when it is not there")
    add("--exposures", type=int, metavar="N", default=default.exposures, help="of each filter and field (%(default)s)")
    add("--ccds", type=int, metavar="N", help=f"in the mosaic, laid out in a grid ({default.ccds}; 1 with --single)")
    add("--size", type=int, metavar="PIXELS", default=default.size, help="side of a CCD (%(default)s)")
    add("--filters", metavar="LIST", default=",".join(default.filters), help="names between commas (%(default)s)")
    add("--fields", type=int, metavar="N", default=default.fields, help="pointings far apart (%(default)s)")
    add("--stars", type=int, metavar="N", default=default.stars, help="on each CCD, about (%(default)s)")
    add("--scale", type=float, metavar="ARCSEC", default=default.scale, help="of a pixel (%(default)s)")
    add("--seed", type=int, metavar="N", default=default.seed, help="another number, another sky (%(default)s)")
    add("--format", choices=FORMATS, default=default.format, help="fits.fz is tile-compressed (%(default)s)")
    add("--single", action="store_true", help="one CCD, its image in the primary HDU, no extensions")
    add("--no-cosmics", dest="cosmics", action="store_false", help="leave out cosmic rays")
    add("--no-bad-pixels", dest="bad_pixels", action="store_false", help="leave out bad pixels and columns")
    add("--trail", action="store_true", help="a satellite crosses the last exposure of each filter")
    add("--raw", action="store_true", help="the same as raw frames too, with biases, darks and flats, in raw/")
    add("--force", action="store_true", help="write into FOLDER although it holds something else")


def options_from(arguments: argparse.Namespace) -> SkyOptions:
    """Raises BadInput with all that is wrong."""
    given: dict[str, Any] = {field.name: getattr(arguments, field.name) for field in fields(SkyOptions)}
    given["filters"] = tuple(name.strip() for name in arguments.filters.split(","))
    if arguments.ccds is None:
        given["ccds"] = 1 if arguments.single else SkyOptions.ccds
    return SkyOptions(**given)


def _outside(options: SkyOptions, name: str, least: float, most: float) -> Problem | None:
    value = getattr(options, name)
    if least <= value <= most:
        return None
    return Problem(f"--{name}", f"{value} is outside {least:g} to {most:g}.")


def _wrong_filters(filters: tuple[str, ...]) -> Problem | None:
    if not all(re.fullmatch(r"[A-Za-z][A-Za-z0-9]{0,7}", name) for name in filters) or not filters:
        return Problem("--filters", f'"{",".join(filters)}" must be short names between commas.', "Example: g,r.")
    if len(set(filters)) < len(filters):
        return Problem("--filters", f'"{",".join(filters)}" names a filter twice.')
    return None


def _wrong_format(name: str) -> Problem | None:
    return None if name in FORMATS else Problem("--format", f'"{name}" must be one of {", ".join(FORMATS)}.')


def _too_many(options: SkyOptions) -> Problem | None:
    """Numbers have six digits, 900001 to 999999."""
    total = options.exposures * options.fields * len(options.filters)
    return Problem("--exposures", f"{total} in all is more than 99999.") if total > 99999 else None


def _wrong_single(options: SkyOptions) -> Problem | None:
    if options.single and options.ccds != 1:
        return Problem("--single", f"an exposure without extensions has one CCD, not {options.ccds}.", "Use --ccds 1.")
    return None

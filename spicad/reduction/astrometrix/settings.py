"""The keywords of Astrometrix, with SCAMP's names where they mean the same.

Light to import, so that `astrometrix -dd` answers at once. Reading and checking them is the affair of keywords.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from spicad.reduction.keywords import Keyword, Program
from spicad.words import BadInput, Problem

KEYWORDS = (
    Keyword("ASTREFCAT_NAME", "astrefcat.cat", "text", "Reference catalogue: FITS, LDAC, VOTable or CSV"),
    Keyword("ASTREFCENT_KEYS", "AUTO", "list of texts", "Its columns of RA and Dec (deg)"),
    Keyword("ASTREFERR_KEYS", "AUTO", "list of texts", "Its columns of errors (SCAMP's ellipse, or one an axis)"),
    Keyword("ASTREFPROP_KEYS", "AUTO", "list of texts", "Its columns of proper motions"),
    Keyword("ASTREFMAG_KEY", "AUTO", "text", "Its column of magnitudes"),
    Keyword("ASTREFOBSDATE_KEY", "AUTO", "text", "Its column of epochs (yr)"),
    Keyword("ASTREF_EPOCH", "0", "number", "Epoch of its positions (yr); 0: as it tells", minimum=0, maximum=2200),
    Keyword("ASTREF_ERROR", "0.3", "number", "Error where it tells none (arcsec)", minimum=1e-4, maximum=10),
    Keyword("ASTREF_WEIGHT", "1.0", "number", "Weight of the reference stars", minimum=1e-6, maximum=1e6),
    Keyword("POSITION_MAXERR", "2.0", "number", "Most that the pointing is off (arcmin)", minimum=0.01, maximum=60),
    Keyword("POSANGLE_MAXERR", "3.0", "number", "Most that the angle is off (deg)", minimum=0, maximum=180),
    Keyword("PIXSCALE_MAXERR", "1.02", "number", "Most that the pixel scale is off (factor)", minimum=1, maximum=2),
    Keyword("MATCH_FLIPPED", "Y", "yes or no", "Try mirrored and turned fields too"),
    Keyword("MATCH_TOLERANCE", "0", "number", "Of the first match (arcsec); 0: automatic", minimum=0, maximum=600),
    Keyword("MATCH_MIN_STARS", "5", "integer", "Fewest reference stars to match an exposure", minimum=4, maximum=1000),
    Keyword("MATCH_SURE", "6.0", "number", "How sure a match must be: log10 of the odds", minimum=2, maximum=100),
    Keyword("CROSSID_RADIUS", "0", "number", "Between detections of a star (arcsec); 0: auto", minimum=0, maximum=600),
    Keyword("CCD_MIN_STARS", "10", "integer", "Reference stars below which a CCD takes the mean", minimum=3),
    Keyword("ASTRINSTRU_KEY", "FILTER,QRUNID", "list of texts", "Header keywords that tell instruments apart"),
    Keyword("DISTORT_DEGREE", "3", "integer", "Degree of the focal plane's polynomial", minimum=1, maximum=7),
    Keyword("CCD_DEGREE", "3", "integer", "Degree of each CCD's own polynomial", minimum=0, maximum=3),
    Keyword("EXPOSURE_DEGREE", "2", "integer", "Degree of each exposure's own polynomial", minimum=1, maximum=2),
    Keyword("ASTRCLIP_NSIGMA", "3.0", "number", "Clipping (sigmas)", minimum=2, maximum=20),
    Keyword("ASTR_ACCURACY", "0", "number", "Least error of a position (pixels); 0: measured", minimum=0, maximum=10),
    Keyword("CENTROID_KEYS", "XWIN_IMAGE,YWIN_IMAGE", "list of texts", "Columns of positions (pixels)", count=2),
    Keyword("CENTROIDERR_KEYS", "ERRAWIN_IMAGE,ERRBWIN_IMAGE", "list of texts", "Columns of their errors (pixels)"),
    Keyword("PHOTFLUX_KEY", "FLUX_AUTO", "text", "Column of fluxes"),
    Keyword("PHOTFLUXERR_KEY", "FLUXERR_AUTO", "text", "Column of their errors"),
    Keyword(
        "SN_THRESHOLDS",
        "10.0,100.0",
        "list of numbers",
        "S/N of those used, and of those called bright",
        minimum=1,
        count=2,
    ),
    Keyword("FWHM_THRESHOLDS", "0.0,100.0", "list of numbers", "FWHM of those used (pixels)", minimum=0, count=2),
    Keyword("ELLIPTICITY_MAX", "0.5", "number", "Most ellipticity of those used", minimum=0, maximum=1),
    Keyword("FLAGS_MASK", "252", "integer", "Bits of FLAGS that bar a detection", minimum=0, maximum=255),
    Keyword("ASTRREF_RMSMAX", "0.7", "number", "Most rms against the reference (arcsec or pixels)", minimum=0.001),
    Keyword("BAD_CCD_TYPE", "REFUSE", "choice", "A CCD that contradicts", ("REFUSE", "MEAN")),
    Keyword("PROJECTION_TYPE", "TPV", "choice", "What the .head holds", ("TPV", "SIP")),
    Keyword("HEADER_SUFFIX", ".head", "text", "Replaces the suffix of a catalogue"),
    Keyword("OUTPUT_DIR", "AUTO", "text", "Where all is written; AUTO: .head beside catalogues"),
    Keyword("RESIDUALS_NAME", "astrometrix.residuals.fits", "text", "Table of residuals; NONE for none"),
    Keyword("METRICS_NAME", "astrometrix.json", "text", "Figures and verdict; NONE for none"),
    Keyword("WRITE_XML", "Y", "yes or no", "Write a VOTable of the figures"),
    Keyword("XML_NAME", "astrometrix.xml", "text", "Its name"),
    Keyword("WRITE_PLOTS", "Y", "yes or no", "Draw plots"),
    Keyword("PLOT_NAME", "astrometrix", "text", "How their names begin"),
)

ASTROMETRIX = Program(
    "astrometrix",
    "solves the astrometry of many exposures together, and writes a .head file for each that can be believed",
    "CATALOGUE ... [-c FILE] [-KEYWORD VALUE] ...",
    KEYWORDS,
    "CATALOGUE is SExtractor's LDAC; @FILE names a list of them. See astrometrix(1).",
)


@dataclass(frozen=True)
class Settings:
    """What is in force, by the types of the keywords."""

    values: Mapping[str, Any]

    def number(self, name: str) -> float:
        return float(self.values[name])

    def integer(self, name: str) -> int:
        return int(self.values[name])

    def numbers(self, name: str) -> list[float]:
        return list(self.values[name])

    def word(self, name: str) -> str:
        return str(self.values[name])

    def words(self, name: str) -> list[str]:
        return list(self.values[name])

    def is_set(self, name: str) -> bool:
        return bool(self.values[name])


def checked(values: Mapping[str, Any]) -> Settings:
    """Raises BadInput for texts that are empty, the only thing that their kind does not tell."""
    empty = [k for k in KEYWORDS if k.kind in ("text", "list of texts") and not values[k.name]]
    if empty:
        raise BadInput([Problem(f"-{k.name}", f"{k.name} is empty.", f"{k.help}; default {k.default}.") for k in empty])
    return Settings(values)

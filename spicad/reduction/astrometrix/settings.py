"""The keywords of Astrometrix: one table, read from a configuration file and the command line, printed by -dd.

They are written as those of SExtractor and SCAMP are, and bear SCAMP's names where they mean the same.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from spicad.words import BadInput, Problem, nearest


@dataclass(frozen=True)
class Keyword:
    """`kind`: number, integer, numbers, word, words, yes. `choices`: the words that are taken; () for any."""

    name: str
    kind: str
    default: str
    help: str
    choices: tuple[str, ...] = ()
    minimum: float | None = None
    maximum: float | None = None


KEYWORDS = (
    Keyword("ASTREFCAT_NAME", "word", "astrefcat.cat", "Reference catalogue: FITS, LDAC, VOTable or CSV"),
    Keyword("ASTREFCENT_KEYS", "words", "AUTO", "Its columns of RA and Dec (deg)"),
    Keyword("ASTREFERR_KEYS", "words", "AUTO", "Its columns of errors (SCAMP's ellipse, or one an axis)"),
    Keyword("ASTREFPROP_KEYS", "words", "AUTO", "Its columns of proper motions"),
    Keyword("ASTREFMAG_KEY", "word", "AUTO", "Its column of magnitudes"),
    Keyword("ASTREFOBSDATE_KEY", "word", "AUTO", "Its column of epochs (yr)"),
    Keyword("ASTREF_EPOCH", "number", "0", "Epoch of its positions (yr); 0: as it tells", minimum=0, maximum=2200),
    Keyword("ASTREF_ERROR", "number", "0.3", "Error where it tells none (arcsec)", minimum=1e-4, maximum=10),
    Keyword("ASTREF_WEIGHT", "number", "1.0", "Weight of the reference stars", minimum=1e-6, maximum=1e6),
    Keyword("POSITION_MAXERR", "number", "2.0", "Most that the pointing is off (arcmin)", minimum=0.01, maximum=60),
    Keyword("POSANGLE_MAXERR", "number", "3.0", "Most that the angle is off (deg)", minimum=0, maximum=180),
    Keyword("PIXSCALE_MAXERR", "number", "1.02", "Most that the pixel scale is off (factor)", minimum=1, maximum=2),
    Keyword("MATCH_FLIPPED", "yes", "Y", "Try mirrored and turned fields too (Y/N)?"),
    Keyword("MATCH_TOLERANCE", "number", "0", "Of the first match (arcsec); 0: automatic", minimum=0, maximum=600),
    Keyword("MATCH_MIN_STARS", "integer", "5", "Fewest reference stars to match an exposure", minimum=4, maximum=1000),
    Keyword("MATCH_SURE", "number", "6.0", "How sure a match must be: log10 of the odds", minimum=2, maximum=100),
    Keyword("CROSSID_RADIUS", "number", "0", "Between detections of a star (arcsec); 0: auto", minimum=0, maximum=600),
    Keyword("CCD_MIN_STARS", "integer", "10", "Reference stars below which a CCD takes the mean", minimum=3),
    Keyword("ASTRINSTRU_KEY", "words", "FILTER,QRUNID", "Header keywords that tell instruments apart"),
    Keyword("DISTORT_DEGREE", "integer", "3", "Degree of the focal plane's polynomial", minimum=1, maximum=7),
    Keyword("CCD_DEGREE", "integer", "3", "Degree of each CCD's own polynomial", minimum=0, maximum=3),
    Keyword("EXPOSURE_DEGREE", "integer", "2", "Degree of each exposure's own polynomial", minimum=1, maximum=2),
    Keyword("ASTRCLIP_NSIGMA", "number", "3.0", "Clipping (sigmas)", minimum=2, maximum=20),
    Keyword("ASTR_ACCURACY", "number", "0", "Least error of a position (pixels); 0: measured", minimum=0, maximum=10),
    Keyword("CENTROID_KEYS", "words", "XWIN_IMAGE,YWIN_IMAGE", "Columns of positions (pixels)"),
    Keyword("CENTROIDERR_KEYS", "words", "ERRAWIN_IMAGE,ERRBWIN_IMAGE", "Columns of their errors (pixels)"),
    Keyword("PHOTFLUX_KEY", "word", "FLUX_AUTO", "Column of fluxes"),
    Keyword("PHOTFLUXERR_KEY", "word", "FLUXERR_AUTO", "Column of their errors"),
    Keyword("SN_THRESHOLDS", "numbers", "10.0,100.0", "S/N of those used, and of those called bright", minimum=1),
    Keyword("FWHM_THRESHOLDS", "numbers", "0.0,100.0", "FWHM of those used (pixels)", minimum=0),
    Keyword("ELLIPTICITY_MAX", "number", "0.5", "Most ellipticity of those used", minimum=0, maximum=1),
    Keyword("FLAGS_MASK", "integer", "252", "Bits of FLAGS that bar a detection", minimum=0, maximum=255),
    Keyword("ASTRREF_RMSMAX", "number", "0.7", "Most rms against the reference (arcsec or pixels)", minimum=0.001),
    Keyword("BAD_CCD_TYPE", "word", "REFUSE", "A CCD that contradicts: REFUSE or MEAN", ("REFUSE", "MEAN")),
    Keyword("PROJECTION_TYPE", "word", "TPV", "What the .head holds: TPV or SIP", ("TPV", "SIP")),
    Keyword("HEADER_SUFFIX", "word", ".head", "Replaces the suffix of a catalogue"),
    Keyword("OUTPUT_DIR", "word", "AUTO", "Where all is written; AUTO: .head beside catalogues"),
    Keyword("RESIDUALS_NAME", "word", "astrometrix.residuals.fits", "Table of residuals; NONE for none"),
    Keyword("METRICS_NAME", "word", "astrometrix.json", "Figures and verdict; NONE for none"),
    Keyword("WRITE_XML", "yes", "Y", "Write a VOTable of the figures (Y/N)?"),
    Keyword("XML_NAME", "word", "astrometrix.xml", "Its name"),
    Keyword("WRITE_PLOTS", "yes", "Y", "Draw plots (Y/N)?"),
    Keyword("PLOT_NAME", "word", "astrometrix", "How their names begin"),
)
BY_NAME = {keyword.name: keyword for keyword in KEYWORDS}
LINE = re.compile(r"([A-Za-z0-9_]+)(?:\s+(.*))?$")


@dataclass(frozen=True)
class Settings:
    """What is in force, as texts; the typed ways to ask are below."""

    values: Mapping[str, str]

    def number(self, name: str) -> float:
        return float(self.values[name])

    def integer(self, name: str) -> int:
        return int(self.values[name], 0)

    def numbers(self, name: str) -> list[float]:
        return [float(each) for each in _items(self.values[name])]

    def word(self, name: str) -> str:
        return self.values[name]

    def words(self, name: str) -> list[str]:
        return _items(self.values[name])

    def is_set(self, name: str) -> bool:
        return self.values[name].upper() == "Y"


def _items(value: str) -> list[str]:
    return [item for item in re.split(r"[,\s]+", value) if item]


def defaults() -> Settings:
    return Settings({keyword.name: keyword.default for keyword in KEYWORDS})


def settings_from(file: Path | None, given: Mapping[str, str]) -> Settings:
    """Of a file, with keywords `given` on the command line on top. Raises BadInput with all that is wrong."""
    problems: list[Problem] = []
    values = dict(defaults().values)
    if file is not None:
        values.update(_from_file(file, problems))
    for name, value in given.items():
        wrong = what_is_wrong(name, value)
        if wrong:
            problems.append(Problem("the command line", *wrong))
        values[name] = value
    if problems:
        raise BadInput(problems)
    return Settings(values)


def _from_file(file: Path, problems: list[Problem]) -> dict[str, str]:
    try:
        lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError as error:
        raise BadInput(Problem(str(file), f"cannot be read: {error.strerror}.")) from None
    found: dict[str, str] = {}
    for number, line in enumerate(lines, 1):
        text = line.partition("#")[0].strip()
        if not text:
            continue
        parts = LINE.match(text)
        name, value = (parts[1].upper(), (parts[2] or "").strip()) if parts else (text, "")
        wrong = what_is_wrong(name, value)
        if wrong:
            problems.append(Problem(str(file), *wrong, line=number))
        found[name] = value
    return found


def what_is_wrong(name: str, value: str) -> tuple[str, str] | None:
    """(what, mend) of a keyword and its value; None when all is well."""
    keyword = BY_NAME.get(name)
    if keyword is None:
        return f"unknown keyword {name}.", nearest(name, BY_NAME)
    mend = f"{keyword.help}; default {keyword.default}."
    if not value:
        return f"{name} has no value.", mend
    if keyword.kind == "yes":
        return None if value.upper() in ("Y", "N") else (f"{name} is {value} but must be Y or N.", mend)
    if keyword.choices and value not in keyword.choices:
        return f"{name} is {value} but must be one of {', '.join(keyword.choices)}.", mend
    if keyword.kind in ("word", "words"):
        return None
    for item in _items(value):
        try:
            number = float(int(item, 0)) if keyword.kind == "integer" else float(item)
        except ValueError:
            return f"{name} is {value} but must be a {keyword.kind.removesuffix('s')}.", mend
        if not (keyword.minimum is None or number >= keyword.minimum):
            return f"{name} is {item} but must be at least {keyword.minimum:g}.", mend
        if not (keyword.maximum is None or number <= keyword.maximum):
            return f"{name} is {item} but must be at most {keyword.maximum:g}.", mend
    if keyword.kind == "numbers" and len(_items(value)) != len(_items(keyword.default)):
        return f"{name} needs {len(_items(keyword.default))} numbers.", mend
    return None


def listed() -> str:
    """The default configuration, as -dd prints it."""
    return "\n".join(f"{keyword.name:<18} {keyword.default:<28} # {keyword.help}" for keyword in KEYWORDS) + "\n"


def from_command_line(words: Sequence[str]) -> dict[str, str]:
    """-KEYWORD VALUE pairs. Raises BadInput."""
    given: dict[str, str] = {}
    for name, value in zip(words[::2], [*words[1::2], ""][: len(words[::2])], strict=True):
        if not re.fullmatch(r"-[A-Z0-9_]+", name):
            raise BadInput(Problem("the command line", f"{name} is not expected here.", "Keywords are -NAME VALUE."))
        given[name[1:]] = value
    return given

"""Reads from an exposure's headers what rules, plans and the archive need, and says what is odd or wrong about them.

The files of etc/instruments/ are the translation (instruments.py); pixels are not looked at (reduction/prepare.py
judges them), nothing is written, and for any bytes whatsoever the answer is an Exposure, BadInput or FitsProblem.
"""

from __future__ import annotations

import math
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from functools import lru_cache
from operator import itemgetter
from pathlib import Path

from spicad import fits
from spicad.archive import wcs
from spicad.archive.instruments import (
    FIELDS,
    MASTERS,
    RAW_CALIBRATIONS,
    Filter,
    Instrument,
    Instruments,
    ahead_text,
    shipped,
)
from spicad.archive.wcs import Vector, circle_round, place_of, separation_deg, vector_of
from spicad.fits import FitsFile, FitsProblem, Hdu, Noted, Value
from spicad.words import BadInput, Problem

WCS_CD = tuple(f"CD{i}_{j}" for i in (1, 2) for j in (1, 2))
WCS_NUMBERS = (
    *(f"{name}{axis}" for name in ("CRVAL", "CRPIX", "CDELT", "CROTA") for axis in (1, 2)),
    *(f"{name}{i}_{j}" for name in ("CD", "PC") for i in (1, 2) for j in (1, 2)),
    *(f"PC00{i}00{j}" for i in (1, 2) for j in (1, 2)),  # as it was written before the standard
)
EQUINOX = ("RADESYS", "RADECSYS", "EQUINOX", "EPOCH")  # by the standard, and as they were called before it
KEYS = wcs.KEYS | {*WCS_NUMBERS, *EQUINOX, "CTYPE1", "CTYPE2", "EXTNAME", "NEXTEND", "MASTER", "PREPROC"}

READ_BY_THE_TOOLS = frozenset(("TAN", "TPV"))  # SCAMP 2.10 hangs on ZPN and leaves SIP coefficients out
SMALLEST_SIDE = 16  # pixels; on 1 x 1 SCAMP loops for ever
OLDEST_YEAR = 1950
FAR_FROM_OTHERS_DEG = 10.0
SAME_TANGENT_DEG = 1e-4
FIRST_OF_FK5 = 1984.0  # what is of an earlier equinox is of FK4, unless it says otherwise: FITS standard 4.0, 8.3
J2000_WITHIN = 1.0  # years; 50 arcsec
NAMES_NOT_OF_FITS = re.compile(r"\.(fits?|fts)$", re.IGNORECASE)
PACKED_NAMES = {".fz": "fits.fz", ".gz": "fits.gz", ".bz2": "fits.bz2"}
PLAIN_EXTNAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9 _.+\[\]:-]*$")
COMPANION = re.compile(r"[._-](weight|flag|mask)$", re.IGNORECASE)
HOSTILE = re.compile(r"[<>`$;|\\{}]|\.\./")
NO_PLACE = "no sky coordinates (CTYPE1, CTYPE2): SCAMP cannot use it."
NO_POINTING = "where it points is unknown: no usable WCS, no RA and DEC."
MJD_EPOCH = datetime(1858, 11, 17)


@dataclass(frozen=True)
class Ccd:
    """One image of an exposure. `corners` are (ra, dec) in degrees, () where the header does not say where it is."""

    hdu: int
    extname: str
    width: int
    height: int
    projection: str  # "TAN", "TPV", "SIP", "ZPN"...; "" without
    crval: tuple[float, float] | None
    bitpix: int
    corners: tuple[tuple[float, float], ...] = ()
    mirrored: bool | None = None  # east to the left of north is False
    extra_axes: int = 0  # of length 1, beyond x and y
    name: str = ""  # EXTNAME, else what the instrument's file says that a CCD is called by


@dataclass(frozen=True)
class Exposure:
    """What rules and plans need to know of one FITS file. Unknown numbers are None, unknown texts ''."""

    path: Path
    size: int
    mtime_ns: int
    packing: str
    stem: str
    instrument: str
    filter: str
    object: str
    runid: str
    t_exptime: float | None
    airmass: float | None
    mjd: float | None
    s_ra: float | None
    s_dec: float | None
    radius_deg: float | None
    seeing: float | None
    grade: str | None
    ccds: tuple[Ccd, ...]
    warnings: tuple[str, ...]
    kind: str = "science"  # or bias, dark, flat, weight, flag, mask, stack, other, or one of MASTERS
    telescope: str = ""
    obs_id: str = ""
    mjd_end: float | None = None
    gain: float | None = None
    saturation: float | None = None
    zero_point: float | None = None
    em_min: float | None = None  # metres
    em_max: float | None = None
    known_as: str = ""  # the file of etc/instruments/ that it was read by
    ahead: str = ""  # a .ahead file for SCAMP; "" when the instrument needs none
    elongation: float | None = None  # this and those below as the archive has them
    background: float | None = None  # ADU
    limiting_magnitude: float | None = None
    stars: float | None = None
    graded_by: str = ""  # who gave the grade; empty: it is proposed
    is_processed: bool = False  # its pixels are without the instrument's signature already
    night: str = ""  # the date of its evening, where the telescope stands


def read_exposure(
    path: Path, instruments: Instruments | None = None, *, today: date | None = None, check_sums: bool = False
) -> Exposure:
    """Raises BadInput or FitsProblem with what is wrong and the mend; what is only odd becomes a warning.

    `instruments` are those that came with Spica where none are given. `check_sums` reads all data to hold them against
    DATASUM.
    """
    path = Path(path)
    instruments = instruments or shipped()
    file = fits.check_whole(path, keys=keys_of(instruments))
    images = [hdu for hdu in file.hdus if hdu.is_image]
    found = _Findings()
    if not images:
        found.refuse("", _why_no_image(file), "Give an exposure with at least one image.")
    vectors: list[Vector] = []
    said = _said(file, instruments, found)
    ccds = tuple(_ccd(hdu, said.instrument, vectors, found) for hdu in images)
    exposure = _understood(path, file, ccds, said, today or date.today())
    is_of_sky = exposure.kind not in (*RAW_CALIBRATIONS, *MASTERS)
    if is_of_sky:
        _judge_equinox(file.hdus[0].header, images, found)
    if found.refused:
        raise BadInput(Problem(_shown(path), what, mend) for what, mend in found.problems())
    exposure = _placed(exposure, vectors, said)
    if not is_of_sky:
        found.noted[:] = [noted for noted in found.noted if noted[1] not in (NO_PLACE, NO_POINTING)]
    texts = [*file.warnings, *fits.merged(found.noted), *_odd_name(path, file.packing), *_odd_layout(file, ccds)]
    if check_sums:
        texts += fits.disagreeing_sums(path)
    return replace(exposure, warnings=tuple(dict.fromkeys(texts)))


def what_is_said(path: Path, instruments: Instruments) -> tuple[Instrument, dict[str, tuple[str, Value]]]:
    """How the exposure is recognised, and for each thing to know the card that says it and its value as it stands."""
    file = fits.scan(path, keys=keys_of(instruments))
    said = _said(file, instruments, _Findings())
    return said.instrument, {name: said.first(name) for name in FIELDS}


@lru_cache(maxsize=16)
def keys_of(instruments: Instruments) -> frozenset[str]:
    """Every card that reading with these instruments looks at."""
    return KEYS | instruments.keys


def _understood(path: Path, file: FitsFile, ccds: tuple[Ccd, ...], said: _Said, today: date) -> Exposure:
    band = said.filter()
    mjd = _mjd(said, today)
    t_exptime = said.number("t_exptime", "the exposure time in seconds", least=0.0)
    end = said.number("mjd_end", "the end", quiet=True)
    if mjd is not None and t_exptime is not None and (end is None or not 0 <= end - mjd <= 2):
        end = mjd + t_exptime / 86400
    exposure = Exposure(
        path=path,
        size=file.size,
        mtime_ns=file.mtime_ns,
        packing=file.packing,
        stem=stem_of(path),
        instrument=said.text("instrument", quiet=True),
        filter=band.name,
        object=said.text("object", quiet=True),
        runid=said.text("runid", quiet=True),
        t_exptime=t_exptime,
        airmass=said.number("airmass", "the airmass", quiet=True),
        mjd=mjd,
        s_ra=None,
        s_dec=None,
        radius_deg=None,
        seeing=said.number("seeing", "the seeing", quiet=True),
        grade=None,
        ccds=ccds,
        warnings=(),
        kind=_kind(said, stem_of(path)),
        telescope=said.text("telescope", quiet=True),
        obs_id=said.text("obs_id", quiet=True) or stem_of(path),
        mjd_end=end,
        gain=_gain(said),
        saturation=said.number("saturation", "the level of saturation", quiet=True),
        zero_point=said.number("zero_point", "the zero point", quiet=True),
        em_min=band.em_min,
        em_max=band.em_max,
        known_as=said.instrument.name,
        is_processed=said.instrument.has_processed(said.headers),
        night=_night(mjd, said.instrument.longitude_deg),
    )
    if said.instrument.ahead:
        cards = ahead_text(said.instrument, lambda name: getattr(exposure, name, said.first(name)[1]), len(ccds))
        exposure = replace(exposure, ahead=cards)
    return exposure


def needs_preparing(exposure: Exposure, reads: Sequence[str]) -> str:
    """Why a tool that reads the packings `reads` cannot take the file as it is; '' when it can."""
    if exposure.packing not in reads:
        return {
            "fits.fz": "it is tile-compressed (fpack)",
            "fits.gz": "it is packed with gzip",
            "fits.bz2": "it is packed with bzip2",
        }.get(exposure.packing, f"it is {exposure.packing}")
    for ccd in exposure.ccds:
        if ccd.bitpix == 64:
            return "its pixels are 64-bit integers"
        if ccd.extra_axes:
            return "its images have axes of length 1 beyond x and y"
        if ccd.projection and ccd.projection not in READ_BY_THE_TOOLS:
            return f"its projection {ccd.projection} is misread by SCAMP"
    if not share_a_tangent([ccd.crval for ccd in exposure.ccds if ccd.crval]):
        return "its CCDs have tangent points (CRVAL) of their own, with which SCAMP solves badly"
    return ""


def share_a_tangent(crvals: Sequence[tuple[float, float]]) -> bool:
    """Whether all CCDs refer to one point of the sky.

    SCAMP 2.10 on a made mosaic of four CCDs, internal rms in arcsec: 0.021 with one tangent point, 0.039 with points
    scattered by 11 arcsec, 0.16 with each CCD's own middle.
    """
    return all(separation_deg(crval, crvals[0]) < SAME_TANGENT_DEG for crval in set(crvals) - set(crvals[:1]))


def stem_of(path: Path) -> str:
    """The file's name without .fits, .fz, .gz and .bz2."""
    name = path.name
    while os.path.splitext(name)[1].lower() in PACKED_NAMES:
        name = os.path.splitext(name)[0]
    return NAMES_NOT_OF_FITS.sub("", name) or path.name


@dataclass(frozen=True)
class _Findings:
    """What is odd and what is wrong, each with its place in the file ('' for the file as a whole)."""

    noted: Noted = field(default_factory=list)
    refused: list[tuple[str, str, str]] = field(default_factory=list)

    def warn(self, where: str, what: str) -> None:
        self.noted.append((where, what))

    def refuse(self, where: str, what: str, mend: str) -> None:
        self.refused.append((where, what, mend))

    def problems(self) -> Iterator[tuple[str, str]]:
        """(what, mend), one for each kind of fault."""
        mends = {what: mend for _, what, mend in self.refused}
        for what, mend in mends.items():
            yield fits.merged([(where, what) for where, other, _ in self.refused if other == what])[0], mend


# One CCD


def _ccd(hdu: Hdu, instrument: Instrument, vectors: list[Vector], found: _Findings) -> Ccd:
    """`vectors` gets the directions of its corners."""
    shape, name = hdu.shape, hdu.extname
    where = f"HDU {hdu.index} ({name})" if name else f"HDU {hdu.index}"
    width, height = shape[:2] if len(shape) > 1 else (*shape, 1, 1)[:2]
    if len(shape) != 2 or min(width, height) < SMALLEST_SIDE:
        _judge_shape(where, shape, found)
    if hdu.bitpix == 64:
        found.warn(where, "64-bit integers, which SExtractor does not read: they are made floats.")
    projection, crval, corners, mirrored = _on_the_sky(where, width, height, hdu.header, vectors, found)
    if not name:
        name = _detector(hdu.header, instrument)
    extra = max(0, len(shape) - 2)
    return Ccd(hdu.index, hdu.extname, width, height, projection, crval, hdu.bitpix, corners, mirrored, extra, name)


def _detector(header: Mapping[str, Value], instrument: Instrument) -> str:
    said = (header.get(card) for card in instrument.cards.get("detector", ()))
    return next((" ".join(str(value).split()) for value in said if value not in (None, "")), "")


def _judge_shape(where: str, shape: Sequence[int], found: _Findings) -> None:
    width, height = (*shape, 1, 1)[:2]
    if len(shape) == 1 or len([length for length in shape if length > 1]) == 1:
        found.refuse(where, "this is no image: it has one axis.", "Give exposures, not spectra.")
    elif any(length > 1 for length in shape[2:]):
        shown = " x ".join(map(str, shape))
        found.refuse(where, f"this is a cube of {shown}.", "Give its planes as images of their own.")
    elif min(width, height) < SMALLEST_SIDE:
        what = f"this image has {width} x {height} pixels, at least {SMALLEST_SIDE} a side were expected."
        found.refuse(where, what, "Give whole CCDs.")
    if len(shape) > 2:
        found.warn(where, f"NAXIS = {len(shape)} with axes of length 1: they are taken off for the tools.")


OnSky = tuple[str, tuple[float, float] | None, tuple[tuple[float, float], ...], bool | None]


def _on_the_sky(
    where: str, width: int, height: int, header: Mapping[str, Value], vectors: list[Vector], found: _Findings
) -> OnSky:
    """Projection, reference point, corners and whether it is mirrored: as much of it as the header says."""
    projection = projection_of(header)
    if not projection:
        found.warn(where, NO_PLACE)
        return "", None, (), None
    if other := _other_system(str(header["CTYPE1"])):
        what = f"its WCS is in {other} coordinates ({header['CTYPE1']}); right ascension and declination were expected."
        found.refuse(where, what, "Have its WCS written anew: the tools would take them for equatorial ones.")
        return projection, None, (), None
    if projection not in READ_BY_THE_TOOLS:
        found.warn(where, f"the projection {projection}, which SCAMP misreads: it is converted to TPV.")
    swapped = _latitude_first(header)
    crval, crpix, matrix = _plain_numbers(header, swapped) or _linear_part(where, header, swapped, found)
    if crval is None:
        return projection, None, (), None
    if matrix is None:
        found.warn(where, "no pixel scale (CD or CDELT): where it is on the sky is a guess.")
        return projection, crval, (), None
    determinant = matrix[0] * matrix[3] - matrix[1] * matrix[2]
    scale = math.sqrt(abs(determinant)) * 3600
    if not 1e-4 < scale < 36000:
        found.refuse(where, f"pixels of {scale:g} arcsec, by CDi_j or CDELT, cannot be.", "Mend the header.")
        return projection, crval, (), None
    if not 1e-3 < scale < 300:
        found.warn(where, f"its pixels have {scale:g} arcsec.")
    solution = wcs.Wcs(projection, crval, crpix, matrix, header, swapped)
    edges = ((0.5, 0.5), (width + 0.5, 0.5), (width + 0.5, height + 0.5), (0.5, height + 0.5))
    try:
        corners = wcs.directions(solution, edges)
    except (OverflowError, ValueError, ZeroDivisionError):
        corners = []
    places = tuple([place_of(corner) for corner in corners])
    if not corners or not all(0.99 < x * x + y * y + z * z < 1.01 for x, y, z in corners):
        found.refuse(where, "its WCS leads nowhere: its terms of distortion are absurd.", "Mend or remove them.")
        return projection, crval, (), None
    vectors += corners
    return projection, crval, places, (determinant > 0) != swapped


Linear = tuple[tuple[float, float] | None, tuple[float, float], tuple[float, float, float, float] | None]
_plain_wcs = itemgetter(*(f"{name}{axis}" for name in ("CRVAL", "CRPIX") for axis in (1, 2)), *WCS_CD)


def _plain_numbers(header: Mapping[str, Value], swapped: bool) -> Linear | None:
    """As _linear_part, of headers with a whole CD matrix and nothing odd, which most are; None for others."""
    try:
        ra, dec, x, y, *cd = _plain_wcs(header)
    except KeyError:
        return None
    if set(map(type, (ra, dec, x, y, *cd))) != {float} or swapped:
        return None
    if not (-720 <= ra <= 720 and -90 <= dec <= 90 and -1e15 < x < 1e15 and -1e15 < y < 1e15):
        return None
    return (ra % 360, dec), (x, y), (cd[0], cd[1], cd[2], cd[3])


def _linear_part(where: str, header: Mapping[str, Value], swapped: bool, found: _Findings) -> Linear:
    numbers = _wcs_numbers(where, header, found)
    crval = _crval(where, header, numbers, swapped, found)
    return crval, (numbers.get("CRPIX1", 0.0), numbers.get("CRPIX2", 0.0)), _matrix(numbers)


def _wcs_numbers(where: str, header: Mapping[str, Value], found: _Findings) -> dict[str, float]:
    numbers: dict[str, float] = {}
    for key in WCS_NUMBERS:
        value = header.get(key)
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int | float) or abs(value) > 1e15:
            mend = "Write it in decimal degrees, without quotes." if key.startswith("CRVAL") else "Write a number."
            found.refuse(where, f"{key} is {value!r}, a number was expected.", mend)
        else:
            numbers[key] = float(value)
    return numbers


def _crval(
    where: str, header: Mapping[str, Value], numbers: Mapping[str, float], swapped: bool, found: _Findings
) -> tuple[float, float] | None:
    """The reference point (longitude, latitude); None with a word about it where it is none."""
    if "CRVAL1" not in numbers or "CRVAL2" not in numbers:
        if header.get("CRVAL1") is None or header.get("CRVAL2") is None:
            found.warn(where, "no CRVAL1 and CRVAL2: SCAMP cannot use it.")
        return None
    longitude, latitude = numbers["CRVAL1"], numbers["CRVAL2"]
    if swapped:
        longitude, latitude = latitude, longitude
    for name, value, most in (("declination", latitude, 90.0), ("right ascension", longitude, 720.0)):
        if abs(value) > most:
            least = -90 if most == 90 else 0
            what = f"the {name} of its CRVAL is {value:g}, {least} to {min(most, 360):g} degrees were expected."
            found.refuse(where, what, "Mend the header.")
            return None
    return longitude % 360, latitude


def projection_of(header: Mapping[str, Value]) -> str:
    """The code of the projection as the tools understand the header, "SIP" where it has SIP terms; "" without a WCS."""
    first, second = header.get("CTYPE1"), header.get("CTYPE2")
    return _projection(str(first or ""), str(second or ""), "A_ORDER" in header, "PV1_1" in header or "PV1_0" in header)


@lru_cache(maxsize=64)
def _projection(first: str, second: str, has_sip: bool, has_pv: bool) -> str:
    first, second = first.strip().upper(), second.strip().upper()
    celestial = ("RA", "DEC", "GLON", "GLAT", "ELON", "ELAT")
    if first.split("-")[0] not in celestial or second.split("-")[0] not in celestial:
        return ""
    code = first[5:8].strip("-")
    if first.endswith("-SIP") or has_sip:
        return "SIP"
    return "TPV" if code == "TAN" and has_pv else code  # as SCAMP 1 and Elixir wrote it; the tools read it so


@lru_cache(maxsize=64)
def _other_system(ctype: str) -> str:
    """Of a celestial axis that is not equatorial: the name of its coordinates."""
    return {"G": "galactic", "E": "ecliptic"}.get(ctype.strip().upper()[:1], "")


def _judge_equinox(primary: Mapping[str, Value], images: Sequence[Hdu], found: _Findings) -> None:
    """Positions of 1950 are 0.6 degrees from those of 2000, and neither the archive nor the tools would know."""
    of_all = tuple(map(primary.get, EQUINOX))
    for cards in {tuple(map(image.header.get, EQUINOX)) for image in images}:
        card, said, year = _equinox(*(cards if any(cards) else of_all))
        if year < FIRST_OF_FK5:
            what = f"its positions are of another equinox: {card} is {said!r}, J2000 (FK5 or ICRS) was expected."
            found.refuse("", what, "Have its WCS written anew: the tools would take it for one of J2000.")
        elif abs(year - 2000) > J2000_WITHIN:
            found.warn("", f"{card} is {said!r}: its positions are taken for those of J2000.")


def _equinox(radesys: Value, radecsys: Value, equinox: Value, epoch: Value) -> tuple[str, Value, float]:
    """The card that tells the equinox, what it says, and the year; without one it is 2000.

    EPOCH is mostly the date of the observation: only one of 1950 is taken for the equinox.
    """
    card, frame = ("RADESYS", radesys) if radesys else ("RADECSYS", radecsys)
    system = str(frame or "").strip().upper()
    if system.startswith("FK4"):
        return card, frame, 1950.0
    if system == "ICRS":
        return card, frame, 2000.0
    if year := _year(equinox):
        return "EQUINOX", equinox, year
    return "EPOCH", epoch, 1950.0 if _year(epoch) == 1950 else 2000.0


def _year(value: Value) -> float:
    """Of a number, or of a text such as J2000.0 or B1950; 0 of anything else."""
    found = re.fullmatch(r"[BJ]?([12][0-9]{3}(?:\.[0-9]{0,9})?)", str(value or "").strip().upper())
    return float(found[1]) if found else 0.0


def _latitude_first(header: Mapping[str, Value]) -> bool:
    return str(header.get("CTYPE1")).strip().upper().split("-")[0] in ("DEC", "GLAT", "ELAT")


def _matrix(numbers: Mapping[str, float]) -> tuple[float, float, float, float] | None:
    """CD1_1, CD1_2, CD2_1, CD2_2 in degrees a pixel."""
    if any(f"CD{i}_{j}" in numbers for i in (1, 2) for j in (1, 2)):
        return (
            numbers.get("CD1_1", 0.0),
            numbers.get("CD1_2", 0.0),
            numbers.get("CD2_1", 0.0),
            numbers.get("CD2_2", 0.0),
        )
    if "CDELT1" not in numbers or "CDELT2" not in numbers:
        return None
    step1, step2 = numbers["CDELT1"], numbers["CDELT2"]
    if any(key.startswith("PC") for key in numbers):
        axes = ((i, j) for i in (1, 2) for j in (1, 2))
        pc = [numbers.get(f"PC{i}_{j}", numbers.get(f"PC00{i}00{j}", float(i == j))) for i, j in axes]
        return step1 * pc[0], step1 * pc[1], step2 * pc[2], step2 * pc[3]
    turn = math.radians(numbers.get("CROTA2", 0.0))
    return step1 * math.cos(turn), -step2 * math.sin(turn), step1 * math.sin(turn), step2 * math.cos(turn)


# The exposure as a whole


@dataclass(frozen=True)
class _Said:
    """The headers of a file, asked by meaning: the primary's word goes before those of the CCDs."""

    headers: Sequence[Mapping[str, Value]]
    instrument: Instrument
    found: _Findings

    def first(self, name: str) -> tuple[str, Value]:
        """The card that says it and its value; without a card what the instrument's file says otherwise."""
        for key in self.instrument.cards.get(name, ()):
            for header in self.headers:
                value = header.get(key)
                if value is not None and value != "":
                    return key, value
        return "", self.instrument.otherwise.get(name)

    def text(self, name: str, *, quiet: bool = False) -> str:
        key, value = self.first(name)
        if value is None:
            if not quiet:
                self.found.warn("", f"no {name} is named ({self._cards(name)}).")
            return ""
        shown = " ".join(str(value).split())
        if HOSTILE.search(shown):
            self.found.warn(
                "", f"{key} = {shown!r} holds signs of markup or of a shell; it is only ever shown as text."
            )
        if key:
            others = {header.get(key) for header in self.headers} - {None, "", value}
            if others:
                other = min(map(str, others))
                self.found.warn("", f"{key} differs between the HDUs: {value!r} is taken, not {other!r}.")
        return shown

    def filter(self) -> Filter:
        return self.instrument.filter_named(self.text("filter"))

    def number(self, name: str, meaning: str, *, least: float | None = None, quiet: bool = False) -> float | None:
        key, value = self.first(name)
        if value is None and not quiet:
            self.found.warn("", f"{meaning} is missing ({self._cards(name)}).")
        if isinstance(value, str):
            begins = re.match(r"\s*([+-]?[0-9]{1,300}(?:\.[0-9]*)?(?:[eE][+-]?[0-9]{1,2})?)", value)
            self.found.warn("", f"{key} is the text {value!r}; {begins[1] if begins else 'nothing'} was read from it.")
            value = float(begins[1]) if begins else None
        if value is None or isinstance(value, bool) or abs(value) > 1e300:
            return None
        if least is not None and value < least:
            self.found.refuse("", f"{key} is {value:g}: {meaning} must be at least {least:g}.", "Mend the header.")
        return self.instrument.in_our_unit(name, float(value)) if key else float(value)

    def _cards(self, name: str) -> str:
        return ", ".join(self.instrument.cards.get(name, ())[:3])


def _said(file: FitsFile, instruments: Instruments, found: _Findings) -> _Said:
    headers = [file.hdus[0].header] + [hdu.header for hdu in file.hdus[1:] if hdu.is_image]
    return _Said(headers, instruments.of(headers), found)


def _kind(said: _Said, stem: str) -> str:
    """science, bias, ...; a companion says so by its name, since its cards are those of its exposure."""
    companion = COMPANION.search(stem)
    if companion:
        return companion[1].lower()
    master = f"master-{said.headers[0].get('MASTER')}"
    if master in MASTERS:
        return master
    if kind := said.instrument.companion(stem)[1]:
        return kind
    key, value = said.first("kind")
    kind = said.instrument.type_named(" ".join(str(value).split())) if key else str(value or "science")
    if kind == "other":
        said.found.warn("", f"{key} is {value!r}, a type of exposure that {said.instrument.name}.toml does not list.")
    return kind


def _gain(said: _Said) -> float | None:
    key, value = said.first("gain")
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if value <= 0:
        said.found.warn("", f"{key} is {value:g}: errors of fluxes will be wrong.")
    return float(value)


def _mjd(said: _Said, today: date) -> float | None:
    """Of the start of the exposure: its MJD, else from its date. Odd dates are warnings."""
    warn = said.found.warn
    mjd = said.number("mjd", "the date", quiet=True)
    key, value = said.first("date")
    when = None if value is None else _moment(str(value))
    if value is None and mjd is None:
        warn("", "the date is missing (MJD-OBS, DATE-OBS).")
    elif value is not None and when is None:
        warn("", f"{key} is {value!r}, a date like 2020-01-31T12:00:00 was expected: it is left out.")
    elif when is not None and "/" in str(value):
        warn("", f"{key} is {value!r}, in the old form of two-digit years: read as {when.date()}.")
    if mjd is None and when is not None:
        if "T" not in str(value):
            hours = _angle(said.first("time")[1], 1.0)
            when += timedelta(hours=hours if hours is not None and 0 <= hours < 24 else 0)
        mjd = (when - MJD_EPOCH) / timedelta(days=1)
    earliest = (datetime(OLDEST_YEAR, 1, 1) - MJD_EPOCH).days
    latest = (datetime(today.year, today.month, today.day) - MJD_EPOCH).days + 2
    if mjd is not None and not earliest <= mjd <= latest:
        side = "lies in the future" if mjd > latest else f"lies before {OLDEST_YEAR}"
        warn("", f"its date, MJD {mjd:.2f}, {side}: look at DATE-OBS and MJD-OBS.")
    return mjd


def _night(mjd: float | None, longitude_deg: float) -> str:
    """From noon to noon by the sun."""
    if mjd is None or not 0 <= mjd < 1e6:
        return ""
    return (MJD_EPOCH + timedelta(days=math.floor(mjd + longitude_deg / 360 - 0.5))).date().isoformat()


def _moment(text: str) -> datetime | None:
    old = re.match(r"\s*(\d\d)/(\d\d)/(\d\d)\s*$", text)
    if old:
        text = f"19{old[3]}-{old[2]}-{old[1]}"
    found = re.match(r"\s*(\d{4})-(\d\d)-(\d\d)(?:T(\d\d):(\d\d):(\d\d)(\.\d{1,12})?)?", text)
    if not found:
        return None
    parts = [int(part or 0) for part in found.groups()[:6]]
    try:
        return datetime(*parts[:5]) + timedelta(seconds=parts[5] + float(found[7] or 0))  # type: ignore[arg-type]
    except (ValueError, OverflowError):
        return None


def _placed(exposure: Exposure, vectors: Sequence[Vector], said: _Said) -> Exposure:
    """With the centre and radius of a circle around all CCDs."""
    vectors = vectors or [vector_of(*ccd.crval) for ccd in exposure.ccds if ccd.crval]
    if not vectors:
        pointing = _pointing(said)
        if pointing is None:
            said.found.warn("", NO_POINTING)
            return exposure
        return replace(exposure, s_ra=pointing[0], s_dec=pointing[1], radius_deg=0.0)
    centre, radius = circle_round(vectors)
    return replace(exposure, s_ra=round(centre[0], 7) % 360, s_dec=round(centre[1], 7), radius_deg=round(radius, 7))


def _pointing(said: _Said) -> tuple[float, float] | None:
    ra = _pointed(said, "ra", 15.0)
    dec = _pointed(said, "dec", 1.0)
    return (ra % 360, dec) if ra is not None and dec is not None and abs(dec) <= 90 else None


def _pointed(said: _Said, name: str, per_unit: float) -> float | None:
    """Degrees; the unit is for plain numbers, sexagesimal right ascensions are hours unless the unit is deg."""
    key, value = said.first(name)
    if isinstance(value, str):
        return _angle(value, 1.0 if said.instrument.units.get(name) == "deg" else per_unit)
    angle = _angle(value, per_unit)
    return said.instrument.in_our_unit(name, angle) if angle is not None and key else angle


def _angle(value: Value, per_unit: float) -> float | None:
    """Degrees of a number of degrees or of sexagesimal text (whose unit is `per_unit` degrees)."""
    if isinstance(value, bool) or value is None:
        return None
    if isinstance(value, int | float):
        return float(value) if abs(value) < 1e6 else None
    found = re.match(r"\s*([+-]?)(\d{1,3})[:h d](\d{1,2})[:m ](\d{1,2}(?:\.\d{0,12})?)", value)
    if not found:
        return None
    size = int(found[2]) + int(found[3]) / 60 + float(found[4]) / 3600
    return (-size if found[1] == "-" else size) * per_unit


# What is odd


def _why_no_image(file: FitsFile) -> str:
    if any(hdu.kind in ("bintable", "table") for hdu in file.hdus):
        return "holds a table and no image."
    return "holds no image: its HDUs have no data."


def _shown(path: Path) -> str:
    return "".join(sign if sign.isprintable() else "?" for sign in str(path))


def _odd_name(path: Path, packing: str) -> list[str]:
    ending = os.path.splitext(path.name)[1].lower()
    named = PACKED_NAMES.get(ending, "fits")
    if packing == "fits.bz2":
        return ["it is packed with bzip2, which is slow to unpack: .fits.fz is better."]
    if packing != named:
        shown = {"fits": "not packed", "fits.fz": "tile-compressed (fpack)", "fits.gz": "packed with gzip"}[packing]
        return [f"it is {shown}, which its name does not say."]
    return []


def _odd_layout(file: FitsFile, ccds: Sequence[Ccd]) -> list[str]:
    found: list[str] = []
    images = [hdu.index for hdu in file.hdus if hdu.is_image]
    for hdu in file.hdus:
        if hdu.kind in ("bintable", "table", "other"):
            found.append(f"HDU {hdu.index} is a table: the tools pass it by.")
    if len({(ccd.width, ccd.height) for ccd in ccds}) > 1:
        found.append("its CCDs are of unequal size.")
    if len({ccd.mirrored for ccd in ccds if ccd.mirrored is not None}) > 1:
        found.append("some of its CCDs are mirrored and some are not: look at the CD matrices.")
    if not share_a_tangent([ccd.crval for ccd in ccds if ccd.crval]):
        found.append("its CCDs have tangent points (CRVAL) of their own: they are given one, for SCAMP.")
    said = file.hdus[0].header.get("NEXTEND")
    if isinstance(said, int) and not isinstance(said, bool) and said != len(file.hdus) - 1:
        found.append(f"NEXTEND says {said} extensions, there are {len(file.hdus) - 1}.")
    if len(images) > 1:
        found += _odd_extnames(tuple([ccd.extname for ccd in ccds]))
    elif ccds[0].extname:
        found += _odd_signs([ccds[0].extname])
    return found


@lru_cache(maxsize=64)
def _odd_extnames(names: tuple[str, ...]) -> list[str]:
    if not all(names):
        return ["not all of its CCDs have an EXTNAME: they are told apart by their order.", *_odd_signs(names)]
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        return [f"several of its CCDs have the EXTNAME {twice[0]!r}: they are told apart by their order."]
    found = _odd_signs(names)
    numbers = [re.fullmatch(r"(.*?)(\d{1,6})", name) for name in names]
    if all(numbers) and len({number[1] for number in numbers if number}) == 1:
        order = [int(number[2]) for number in numbers if number]
        if order != sorted(order):
            found.append("its CCDs are not in the order of their EXTNAMEs.")
        elif order[-1] - order[0] + 1 != len(order):
            found.append(f"the numbers of its EXTNAMEs have gaps ({names[0]} to {names[-1]}): CCDs may be missing.")
    return found


def _odd_signs(names: Iterable[str]) -> list[str]:
    odd = [name for name in names if name and (not PLAIN_EXTNAME.match(name) or ".." in name)]
    return [f"the EXTNAME {odd[0]!r} holds odd signs; it is never used as a file name."] if odd else []


def odd_beside_others(exposures: Sequence[Exposure]) -> dict[Path, tuple[str, ...]]:
    """What is odd only beside the other exposures of the same instrument: CCDs, orientation, pointing."""
    result: dict[Path, tuple[str, ...]] = {}
    for instrument in {exposure.instrument for exposure in exposures}:
        same = [exposure for exposure in exposures if exposure.instrument == instrument]
        usual_names = _usual(tuple(ccd.extname for ccd in one.ccds) for one in same)
        usual_mirror = _usual(one.ccds[0].mirrored for one in same if one.ccds[0].mirrored is not None)
        for one in same:
            found = _odd_one(one, same, usual_names, usual_mirror)
            if found:
                result[one.path] = tuple(found)
    return result


def _usual(values: Iterable[object]) -> object:
    """The commonest value; None when there is no majority."""
    counted = Counter(values).most_common(2)
    if not counted or (len(counted) > 1 and counted[0][1] == counted[1][1]):
        return None
    return counted[0][0]


def _odd_one(one: Exposure, same: Sequence[Exposure], usual_names: object, usual_mirror: object) -> list[str]:
    found: list[str] = []
    names = tuple(ccd.extname for ccd in one.ccds)
    if isinstance(usual_names, tuple) and names != usual_names:
        missing = [name for name in usual_names if name not in names]
        if len(names) != len(usual_names):
            found.append(f"it has {len(names)} CCDs where the others of {one.instrument} have {len(usual_names)}.")
        elif missing:
            found.append(f"it has no CCD {missing[0]!r} as the others of {one.instrument} have.")
        else:
            found.append(f"its CCDs stand in another order than in the others of {one.instrument}.")
    if usual_mirror is not None and one.ccds[0].mirrored not in (None, usual_mirror):
        found.append(f"it is mirrored beside the others of {one.instrument}: look at its CD matrices.")
    peers = [other for other in same if other.object == one.object and other.s_ra is not None and other is not one]
    if one.s_ra is not None and one.s_dec is not None and len(peers) > 1:
        away = sorted(separation_deg((one.s_ra, one.s_dec), (p.s_ra or 0.0, p.s_dec or 0.0)) for p in peers)
        if away[(len(away) - 1) // 2] > FAR_FROM_OTHERS_DEG:
            found.append(f"it points {away[(len(away) - 1) // 2]:.0f} degrees from the others of {one.object}.")
    return found


__all__ = [
    "Ccd",
    "Exposure",
    "FitsProblem",
    "needs_preparing",
    "odd_beside_others",
    "projection_of",
    "read_exposure",
    "separation_deg",
    "share_a_tangent",
    "stem_of",
    "what_is_said",
]

"""Reference catalogues: Gaia, 2MASS, USNO, SDSS and users' own, from FITS, LDAC, VOTable or text, at any epoch.

Columns are known by their names in the archives' files, units by the file's own word. Which stars lie on a field and
are matched is the affair of those who solve.
"""

from __future__ import annotations

import csv
import re
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from spicad import fits
from spicad.reduction import ldac
from spicad.words import BadInput, Problem

Array = NDArray[np.float64]
Columns = dict[str, Array]

# The first pair that is there counts. Names: SCAMP's own files, Gaia archive, VizieR, IRSA (2MASS), SDSS CasJobs.
POSITIONS = (
    ("X_WORLD", "Y_WORLD"),
    ("ALPHA_J2000", "DELTA_J2000"),
    ("RA_ICRS", "DE_ICRS"),
    ("RAJ2000", "DEJ2000"),
    ("_RAJ2000", "_DEJ2000"),
    ("ra", "dec"),
    ("alpha", "delta"),
)
ERRORS = (  # and their unit where the file has none, in arcsec
    ("ERRA_WORLD", "ERRB_WORLD", 3600.0),
    ("e_RA_ICRS", "e_DE_ICRS", 1e-3),
    ("e_RAJ2000", "e_DEJ2000", 1e-3),
    ("ra_error", "dec_error", 1e-3),
    ("errMaj", "errMin", 1.0),
    ("err_maj", "err_min", 1.0),
    ("raErr", "decErr", 1.0),
    ("raErr", "deErr", 1.0),
)
MOTIONS = (  # mas a year, that in right ascension times cos(dec); and the columns of their errors
    ("PMALPHA_J2000", "PMDELTA_J2000", "PMALPHAERR_J2000", "PMDELTAERR_J2000"),
    ("pmRA", "pmDE", "e_pmRA", "e_pmDE"),
    ("pmra", "pmdec", "pmra_error", "pmdec_error"),
    ("pmRA", "pmDec", "pmRAErr", "pmDecErr"),
)
EPOCHS = ("OBSDATE", "ref_epoch", "Epoch", "epoch", "_date", "ObsDate", "jdate", "mjd")
MAGNITUDES = (
    "MAG",
    "phot_g_mean_mag",
    "phot_rp_mean_mag",
    "Gmag",
    "RPmag",
    "rmag",
    "psfMag_r",
    "r",
    "imag",
    "R1mag",
    "R2mag",
    "Jmag",
    "j_m",
    "Kmag",
    "k_m",
    "VTmag",
    "VTMAG",
    "BTmag",
    "mag",
    "gmag",
)
# Published after which only proper motions keep a catalogue good; VizieR's files do not tell their epoch.
EPOCH_OF = {"RA_ICRS": 2016.0, "ra": 2016.0}
J2000 = 2000.0
UNITS = {"deg": 3600.0, "arcmin": 60.0, "arcsec": 1.0, "mas": 1e-3, "uas": 1e-6, "rad": 206264.806}
RATES = {"mas": 1.0, "arcsec": 1e3, "deg": 3.6e6, "uas": 1e-3}
COUNTED_AS_NO_ERROR = 1e-5  # arcsec
MAX_TEXT = 4 << 30


@dataclass(frozen=True)
class References:
    """Stars at their own epochs. Angles in degrees, errors (one axis) in arcsec, motions in mas a year."""

    ra: Array
    dec: Array
    error: Array
    motion_ra: Array  # times cos(dec); 0 where unknown
    motion_dec: Array
    motion_error: Array
    epoch: Array  # yr; NaN where unknown
    mag: Array  # NaN where unknown

    def __len__(self) -> int:
        return len(self.ra)

    def where(self, mask: NDArray[np.bool_] | NDArray[np.intp]) -> References:
        return References(*(getattr(self, name)[mask] for name in self.__dataclass_fields__))

    def at(self, epoch: float) -> References:
        """Taken to `epoch` (yr) along their proper motions, with what these add to the errors."""
        years = np.where(np.isfinite(self.epoch), epoch - self.epoch, 0.0)
        dec = self.dec + self.motion_dec * years / 3.6e6
        ra = self.ra + self.motion_ra * years / 3.6e6 / np.maximum(np.cos(np.radians(self.dec)), 1e-6)
        error = np.hypot(self.error, self.motion_error * years / 1e3)
        epochs = np.where(np.isfinite(self.epoch), epoch, self.epoch)
        motions = (self.motion_ra, self.motion_dec, self.motion_error)
        return References(ra % 360.0, np.clip(dec, -90, 90), error, *motions, epochs, self.mag)


@dataclass(frozen=True)
class Keys:
    """Columns that a user names; empty for those found by themselves."""

    position: Sequence[str] = ()
    error: Sequence[str] = ()
    motion: Sequence[str] = ()
    mag: str = ""
    epoch: str = ""
    fixed_epoch: float = 0.0  # yr; 0 for what the file tells
    no_error_arcsec: float = 0.3  # where it tells none: TERAPIX's value for USNO and GSC


def read(path: Path, keys: Keys = Keys()) -> References:
    """Raises BadInput or FitsProblem when it cannot be read or has no positions."""
    columns, units = _columns(path)
    return _understood(path, columns, units, keys)


def read_with(path: Path, names: Sequence[str]) -> tuple[References, dict[str, Array]]:
    """The stars, and what they have in the columns of these names. Raises as `read` does."""
    columns, units = _columns(path)
    found = {name: _understood(path, columns, units, Keys(mag=name)).mag for name in names}
    return _understood(path, columns, units, Keys()), found


# The kinds of files


def _columns(path: Path) -> tuple[Columns, Mapping[str, str]]:
    try:
        with path.open("rb") as file:
            start = file.read(4096)
    except OSError as error:
        raise BadInput(Problem(str(path), f"cannot be read: {error.strerror}.")) from None
    if start[:9] == b"SIMPLE  =" or start[:2] == b"\x1f\x8b" or start[:3] == b"BZh":
        return _from_fits(path)
    if b"<VOTABLE" in start or b":VOTABLE" in start:
        return _from_votable(path)
    return _from_text(path)


def _from_fits(path: Path) -> tuple[Columns, Mapping[str, str]]:
    file = fits.check_whole(path)
    tables = [hdu for hdu in file.hdus if hdu.extname == "LDAC_OBJECTS"]
    tables = tables or [hdu for hdu in file.hdus if hdu.kind == "bintable" and hdu.extname != "LDAC_IMHEAD"]
    if not tables or file.packing in ("fits.gz", "fits.bz2"):
        raise BadInput(Problem(str(path), "holds no table that can be read.", "Give a plain FITS or LDAC table."))
    parts = [ldac.table_of(path, hdu) for hdu in tables]
    units = {name: unit for hdu in tables for name, unit in ldac.units_of(hdu).items()}
    names = [n for n in parts[0].dtype.names or () if parts[0].dtype[n].kind in "fiu" and not parts[0].dtype[n].shape]
    shared = [name for name in names if all(name in (part.dtype.names or ()) for part in parts)]
    return {name: np.concatenate([part[name] for part in parts]).astype(float) for name in shared}, units


def _from_votable(path: Path) -> tuple[Columns, Mapping[str, str]]:
    from astropy.io.votable import parse_single_table

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            table = parse_single_table(path)
    except Exception as error:  # whatever astropy says about XML of any kind
        raise BadInput(Problem(str(path), f"cannot be read: {' '.join(str(error).split())[:200]}.")) from None
    columns, units = {}, {}
    for field in table.fields:
        values = table.array[field.ID]
        if values.dtype.kind in "fiu" and values.ndim == 1:
            columns[str(field.name)] = np.ma.filled(values.astype(float), np.nan)
            units[str(field.name)] = str(field.unit or "")
    return columns, units


def _from_text(path: Path) -> tuple[Columns, Mapping[str, str]]:
    """CSV, and what VizieR and others call TSV: # begins a comment, a line of units or dashes is passed over."""
    if path.stat().st_size > MAX_TEXT:
        raise BadInput(Problem(str(path), "is too large a text.", "Give it as FITS."))
    with path.open(encoding="utf-8", errors="replace", newline="") as file:
        lines = [line for line in file if line.strip() and not line.startswith("#")]
    if not lines:
        raise BadInput(Problem(str(path), "is empty."))
    separator = next((sign for sign in (",", ";", "\t", "|") if sign in lines[0]), " ")
    rows = list(csv.reader(lines, delimiter=separator, skipinitialspace=True))
    names = [name.strip().strip('"') for name in rows[0]]
    body = [row for row in rows[1:] if len(row) == len(names)]
    if not body:
        raise BadInput(Problem(str(path), "has no rows under its line of names.", "The first line names the columns."))
    columns = {name: _numbers(row[index] for row in body) for index, name in enumerate(names)}
    is_row = np.any([np.isfinite(values) for values in columns.values()], axis=0)
    return {name: values[is_row] for name, values in columns.items()}, {}


def _numbers(texts: Iterable[str]) -> Array:
    def number(text: str) -> float:
        try:
            return float(text)
        except ValueError:
            return np.nan

    return np.array([number(text) for text in texts])


# What the columns mean


def _understood(path: Path, columns: Columns, units: Mapping[str, str], keys: Keys) -> References:
    pair = _asked(path, columns, keys.position, 2) or next((p for p in map(_seek(columns), POSITIONS) if p), None)
    if pair is None:
        wanted = ", ".join("/".join(each) for each in POSITIONS)
        raise BadInput(
            Problem(str(path), "has no columns of positions.", f"Known: {wanted}; ASTREFCENT_KEYS names others.")
        )
    ra, dec = (columns[name] for name in pair)
    error = _errors(path, columns, units, keys)
    motion_ra, motion_dec, motion_error = _motions(path, columns, units, keys)
    mag_name = _asked(path, columns, [keys.mag] if keys.mag else [], 1) or MAGNITUDES
    mag = next((columns[name] for name in mag_name if name in columns), np.full(len(ra), np.nan))
    found = References(ra, dec, error, motion_ra, motion_dec, motion_error, _epochs(path, columns, pair[0], keys), mag)
    good = np.isfinite(ra) & np.isfinite(dec) & (np.abs(dec) <= 90) & (ra >= -360) & (ra <= 720)
    if not good.any():
        raise BadInput(Problem(str(path), f"has no star with a position in {'/'.join(pair)} (degrees)."))
    found = found.where(good)
    return found if (found.ra < 360).all() and (found.ra >= 0).all() else _turned(found)


def _turned(found: References) -> References:
    return References(*(found.ra % 360 if n == "ra" else getattr(found, n) for n in found.__dataclass_fields__))


def _asked(path: Path, columns: Columns, names: Sequence[str], count: int) -> Sequence[str] | None:
    if not names:
        return None
    missing = [name for name in names if name not in columns]
    if missing or len(names) < count:
        what = f"has no column {', '.join(missing)}." if missing else f"needs {count} columns, not {len(names)}."
        raise BadInput(Problem(str(path), what, f"It has {', '.join(list(columns)[:40])}."))
    return names


def _seek(columns: Columns):  # type: ignore[no-untyped-def]
    """Exact names first, then those that differ in capitals only."""
    by_lower = {name.lower(): name for name in reversed(columns)}

    def found(names: Sequence[str]) -> tuple[str, ...] | None:
        if all(name in columns for name in names):
            return tuple(names)
        lowered = tuple(by_lower.get(name.lower(), "") for name in names)
        return lowered if all(lowered) else None

    return found


def _errors(path: Path, columns: Columns, units: Mapping[str, str], keys: Keys) -> Array:
    seek, factor = _seek(columns), 3600.0
    pair: Sequence[str] | None = _asked(path, columns, keys.error[:2], 1)
    if pair is None:
        for first, second, usual in ERRORS:
            pair, factor = seek((first, second)), usual
            if pair:
                break
    count = len(next(iter(columns.values())))
    if not pair:
        return np.full(count, keys.no_error_arcsec)
    squares = [(columns[name] * _unit(units.get(name, ""), UNITS, factor)) ** 2 for name in pair]
    error = np.sqrt(np.mean(squares, axis=0))
    return np.where(np.isfinite(error) & (error > COUNTED_AS_NO_ERROR), error, keys.no_error_arcsec)


def _unit(told: str, known: Mapping[str, float], otherwise: float) -> float:
    word = re.split(r"[/. *]", told.strip().lower().replace("milliarcsec", "mas"))[0]
    return known.get(word, otherwise)


def _motions(path: Path, columns: Columns, units: Mapping[str, str], keys: Keys) -> tuple[Array, Array, Array]:
    seek, count = _seek(columns), len(next(iter(columns.values())))
    pair: Sequence[str] | None = _asked(path, columns, keys.motion, 2)
    errors: Sequence[str] | None = None
    if pair is None:
        for first, second, *of_errors in MOTIONS:
            pair = seek((first, second))
            if pair:
                errors = seek(of_errors)
                break
    if not pair:
        return np.zeros(count), np.zeros(count), np.zeros(count)
    ra, dec = (np.nan_to_num(columns[name]) * _unit(units.get(name, ""), RATES, 1.0) for name in pair)
    if not errors:
        return ra, dec, np.zeros(count)
    squares = [(np.nan_to_num(columns[name]) * _unit(units.get(name, ""), RATES, 1.0)) ** 2 for name in errors]
    return ra, dec, np.sqrt(np.mean(squares, axis=0))


def _epochs(path: Path, columns: Columns, position: str, keys: Keys) -> Array:
    count = len(columns[position])
    if keys.fixed_epoch:
        return np.full(count, keys.fixed_epoch)
    _asked(path, columns, [keys.epoch] if keys.epoch else [], 1)
    name = keys.epoch or next((name for name in EPOCHS if name in columns), "")
    if name not in columns:
        return np.full(count, EPOCH_OF.get(position, J2000))
    told = columns[name]
    years = np.where(told > 2_000_000, J2000 + (told - 2451545.0) / 365.25, told)  # a Julian date
    years = np.where((told > 10_000) & (told < 2_000_000), J2000 + (told - 51544.5) / 365.25, years)  # a modified one
    return np.where((years > 1850) & (years < 2200), years, np.nan)

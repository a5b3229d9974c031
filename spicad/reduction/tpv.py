"""Fits a TPV polynomial to any projection that astropy's WCS can evaluate (ZPN, SIP and others).

AstrOmatic's tools read TAN and TPV well and the rest badly or not at all. Which HDUs need it and writing the file
are prepare.py's.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spicad.fits import cleaned
from spicad.words import SpicaError

WORST_PIXELS = 0.1  # over this the conversion is refused
GOOD_PIXELS = 0.005  # the lowest degree that reaches this is taken
DEGREES = (3, 4, 5, 6, 7)  # TPV ends at 7
GRID = 33  # points a side for the fit; the check uses others between them

# The exponents of (x, y) of PV1_n (of PV2_n with x and y swapped); the odd powers of r, 3, 11, 23, 39, are not used.
TERMS = {0: (0, 0), 1: (1, 0), 2: (0, 1)}
TERMS |= {4 + n: (2 - n, n) for n in range(3)} | {7 + n: (3 - n, n) for n in range(4)}
TERMS |= {12 + n: (4 - n, n) for n in range(5)} | {17 + n: (5 - n, n) for n in range(6)}
TERMS |= {24 + n: (6 - n, n) for n in range(7)} | {31 + n: (7 - n, n) for n in range(8)}

WCS_CARD = re.compile(
    rb"(WCSAXES|WCSNAME|CTYPE[12]|CRVAL[12]|CRPIX[12]|CDELT[12]|CROTA[12]|CUNIT[12]|LONPOLE|LATPOLE|RADESYS|RADECSYS"
    rb"|EQUINOX|PV[12]_\d+|PS[12]_\d+|PROJP\d+|CD[12]_[12]|PC[12]_[12]|PC00[12]00[12]|WAT\d_\d{3}|[AB]P?_ORDER"
    rb"|[AB]P?_\d_\d|[AB]_DMAX) *="
)
KEPT = re.compile(rb"(RADESYS|RADECSYS|EQUINOX) *=")

Array = NDArray[np.float64]
Sky = Callable[[Array], Array]


class NoTpv(SpicaError):
    """Why a WCS cannot be written as TPV."""


@dataclass(frozen=True)
class Tpv:
    """A tangent plane about the middle of the CCD, with its polynomial, and how far it is from the original."""

    prefix: tuple[str, str]  # ("RA--", "DEC-") as they stand in CTYPE
    crpix: tuple[float, float]
    crval: tuple[float, float]
    cd: Array
    pv: tuple[dict[int, float], dict[int, float]]
    degree: int
    worst_pixels: float

    def cards(self) -> list[bytes]:
        lines = [
            f"CTYPE1  = '{self.prefix[0]}-TPV'           / Tangent plane with a polynomial",
            f"CTYPE2  = '{self.prefix[1]}-TPV'           / Tangent plane with a polynomial",
            "CUNIT1  = 'deg     '           / Unit of axis 1",
            "CUNIT2  = 'deg     '           / Unit of axis 2",
        ]
        numbers = [("CRVAL1", self.crval[0], "[deg] Sky at the reference pixel")]
        numbers += [("CRVAL2", self.crval[1], "[deg] Sky at the reference pixel")]
        numbers += [("CRPIX1", self.crpix[0], "[pixel] Reference pixel"), ("CRPIX2", self.crpix[1], "[pixel]")]
        numbers += [(f"CD{i}_{j}", self.cd[i - 1, j - 1], "[deg/pixel]") for i in (1, 2) for j in (1, 2)]
        numbers += [
            (f"PV{axis}_{n}", value, "Polynomial term") for axis in (1, 2) for n, value in self.pv[axis - 1].items()
        ]
        lines += [f"{key:<8}= {value:>20.13E} / {comment}" for key, value, comment in numbers]
        return [line.ljust(80).encode("ascii") for line in lines]


def fitted(cards: Sequence[bytes], width: int, height: int, tangent: tuple[float, float] | None = None) -> Tpv:
    """The TPV nearest to the WCS in `cards` over a CCD, on the plane that touches the sky at `tangent`.

    All CCDs of an exposure need the same `tangent`: with one for each, SCAMP 2.10's internal rms went from 0.02 to
    0.16 arcsec on a mosaic of four. Raises NoTpv when there is no solution, or none near enough.
    """
    sky, prefix = _evaluator(cards)
    centre = tangent or middle(cards, width, height)
    pixels, plane = _tangent_grid(sky, centre, width, height, GRID)
    check_pixels, check_plane = _tangent_grid(sky, centre, width, height, GRID + 8)
    linear, *_ = np.linalg.lstsq(np.column_stack([pixels, np.ones(len(pixels))]), plane, rcond=None)
    cd: Array = _rounded(np.asarray(linear[:2].T, dtype=np.float64), np.abs(linear[:2]).max() * 1e-9)
    if not np.isfinite(cd).all() or abs(np.linalg.det(cd)) < 1e-20:
        raise NoTpv("its WCS does not map pixels to the sky one by one.")
    crpix: Array = _rounded(-np.linalg.solve(cd, linear[2]), 1e-6)
    best: Tpv | None = None
    for degree in DEGREES:
        pv = tuple(_polynomial((pixels - crpix) @ cd.T, plane[:, axis], axis, degree) for axis in (0, 1))
        model = np.column_stack([_evaluate(pv[axis], (check_pixels - crpix) @ cd.T, axis) for axis in (0, 1)])
        worst = float(np.abs((model - check_plane) @ np.linalg.inv(cd).T).max())
        if best is None or worst < best.worst_pixels:
            best = Tpv(prefix, (float(crpix[0]), float(crpix[1])), centre, cd, (pv[0], pv[1]), degree, worst)
        if worst <= GOOD_PIXELS:
            break
    if best is None or not best.worst_pixels <= WORST_PIXELS:
        off = "not finite" if best is None else f"{best.worst_pixels:.2f} pixel off"
        raise NoTpv(f"its WCS cannot be written as TPV: the best is {off}, at most {WORST_PIXELS} were expected.")
    return best


def middle(cards: Sequence[bytes], width: int, height: int) -> tuple[float, float]:
    """Where the middle of a CCD lies on the sky."""
    sky, _ = _evaluator(cards)
    centre = sky(np.array([[(width + 1) / 2, (height + 1) / 2]]))[0]
    return float(centre[0]), float(centre[1])


def _evaluator(cards: Sequence[bytes]) -> tuple[Sky, tuple[str, str]]:
    """A function from pixels (counted from 1) to (longitude, latitude), and the CTYPE prefixes."""
    from astropy.io.fits import Header
    from astropy.wcs import WCS

    first: dict[bytes, bytes] = {}
    for card in cards:
        if WCS_CARD.match(card):
            first.setdefault(card[:8], cleaned(card))
    first.pop(b"WCSAXES ", None)
    if b"A_ORDER " in first:
        for key in (b"CTYPE1  ", b"CTYPE2  "):  # SIP terms count, whether CTYPE says so or not
            first[key] = re.sub(rb"('[A-Z]+-+TAN) *'", rb"\1-SIP'", first.get(key, b""))[:80].ljust(80)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            wcs = WCS(Header.fromstring(b"".join(first.values()).decode("ascii")), naxis=2)
            longitude, latitude = wcs.wcs.lng, wcs.wcs.lat
            names = [str(name) for name in wcs.wcs.ctype]
    except Exception as error:  # whatever astropy and wcslib say about a header of any kind
        raise NoTpv(f"its WCS cannot be understood: {_one_line(error)}") from None
    if longitude < 0 or latitude < 0:
        raise NoTpv("its WCS has no celestial axes.")

    def sky(pixels: Array) -> Array:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                world = np.asarray(wcs.all_pix2world(pixels, 1))
        except Exception as error:  # as above
            raise NoTpv(f"its WCS cannot be evaluated: {_one_line(error)}") from None
        if not np.isfinite(world).all():
            raise NoTpv("its WCS does not reach all of the CCD.")
        return world[:, [longitude, latitude]]

    return sky, (names[longitude][:4], names[latitude][:4])


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]


def _tangent_grid(sky: Sky, centre: tuple[float, float], width: int, height: int, side: int) -> tuple[Array, Array]:
    """Pixels of a grid over the CCD, and where they lie on the plane tangent at `centre`, in degrees."""
    x, y = np.meshgrid(np.linspace(0.5, width + 0.5, side), np.linspace(0.5, height + 0.5, side))
    pixels = np.column_stack([x.ravel(), y.ravel()])
    ra, dec = np.radians(sky(pixels)).T
    ra0, dec0 = np.radians(centre)
    away = np.sin(dec0) * np.sin(dec) + np.cos(dec0) * np.cos(dec) * np.cos(ra - ra0)
    if not (away > 0.1).all():
        raise NoTpv("it covers too much of the sky for a tangent plane.")
    xi = np.cos(dec) * np.sin(ra - ra0) / away
    eta = (np.cos(dec0) * np.sin(dec) - np.sin(dec0) * np.cos(dec) * np.cos(ra - ra0)) / away
    return pixels, np.degrees(np.column_stack([xi, eta]))


def _polynomial(plane: Array, wanted: Array, axis: int, degree: int) -> dict[int, float]:
    scale = np.abs(plane).max()
    terms = [n for n, powers in TERMS.items() if sum(powers) <= degree]
    design = np.column_stack([_term(plane / scale, n, axis) for n in terms])
    solution, *_ = np.linalg.lstsq(design, wanted, rcond=None)
    smallest = scale / max(len(plane), 1) * 1e-8  # far below any pixel, far above the noise of the arithmetic
    steps = [smallest / scale ** sum(TERMS[n]) for n in terms]
    values = [
        _rounded(value / scale ** sum(TERMS[n]), step) for n, value, step in zip(terms, solution, steps, strict=True)
    ]
    return {n: float(value) for n, value in zip(terms, values, strict=True) if value}


def _rounded(value: Any, step: float) -> Any:
    """To a power of ten below `step`, so that another machine's last digits make no other file."""
    return np.round(value, int(np.ceil(-np.log10(step))))


def _term(plane: Array, n: int, axis: int) -> Array:
    first, second = (plane[:, 0], plane[:, 1]) if axis == 0 else (plane[:, 1], plane[:, 0])
    return np.asarray(first ** TERMS[n][0] * second ** TERMS[n][1])


def _evaluate(pv: dict[int, float], plane: Array, axis: int) -> Array:
    return np.asarray(sum(value * _term(plane, n, axis) for n, value in pv.items()))

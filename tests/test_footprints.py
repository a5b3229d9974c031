"""Footprints are where astropy.wcs puts them, for each projection, at the poles and across 0h."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from astropy.coordinates import angular_separation
from astropy.io import fits as astropy_fits
from astropy.wcs import WCS
from broken import HEIGHT, WIDTH, exposure
from test_fits import written

from spicad.archive.headers import read_exposure, separation_deg
from spicad.archive.wcs import circle_round, place_of, polygon_of, region_of, vector_of

EDGES = [[0.5, 0.5], [WIDTH + 0.5, 0.5], [WIDTH + 0.5, HEIGHT + 0.5], [0.5, HEIGHT + 0.5]]
WIDE = {"CD1_1": -0.004, "CD2_2": 0.004, "CD1_2": 0.0003, "CD2_1": -0.0002}  # half a degree across
CUBIC = {f"PV{i}_{k}": v * (1 + 0.1 * i) for i in (1, 2) for k, v in enumerate(
    (1e-3, 1.002, -5e-3, 0.0, 4e-4, -4e-4, 2e-4, -2e-2, 2e-3, -2e-2, 5e-4)
)}  # fmt: skip
QUINTIC = CUBIC | {"PV1_3": 1e-4, "PV1_11": -2e-4, "PV2_12": 3e-3, "PV1_17": 1e-3, "PV2_22": -2e-3, "PV1_23": 1e-4}
SEVENTH = QUINTIC | {"PV1_31": 2e-3, "PV2_38": -1e-3, "PV1_39": 1e-4, "PV2_27": 1e-3}
SIP = {"CTYPE1": "RA---TAN-SIP", "CTYPE2": "DEC--TAN-SIP", "A_ORDER": 3, "B_ORDER": 2}
SIP |= {"A_2_0": 2e-4, "A_1_1": -1e-4, "A_0_3": 3e-7, "A_3_0": -2e-7, "B_0_2": 1e-4, "B_1_1": 2e-4}
TPV = {"CTYPE1": "RA---TPV", "CTYPE2": "DEC--TPV"}
SOLUTIONS = {
    "TAN": WIDE,
    "TPV": WIDE | TPV | CUBIC,
    "TPV, as SCAMP 1 and Elixir write it": WIDE | CUBIC,
    "TPV, order 5": WIDE | TPV | QUINTIC,
    "TPV, order 7": WIDE | TPV | SEVENTH,
    "SIP": WIDE | SIP,
    "ZPN": {"CTYPE1": "RA---ZPN", "CTYPE2": "DEC--ZPN", "PV2_1": 1.0, "PV2_3": 42.0} | WIDE,
    "SIN": {"CTYPE1": "RA---SIN", "CTYPE2": "DEC--SIN"} | WIDE,
    "STG": {"CTYPE1": "RA---STG", "CTYPE2": "DEC--STG"} | WIDE,
    "ZEA": {"CTYPE1": "RA---ZEA", "CTYPE2": "DEC--ZEA"} | WIDE,
    "LONPOLE": {"LONPOLE": 150.0} | WIDE,
}
PLACES = [(150.0, 2.2), (0.01, -30.0), (359.99, 60.0), (200.0, 89.9), (10.0, -89.95), (77.0, 90.0), (77.0, -90.0)]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::astropy.wcs.FITSFixedWarning")
@pytest.mark.parametrize("place", PLACES, ids=str)
@pytest.mark.parametrize("name", SOLUTIONS)
def test_the_corners_of_a_ccd_are_where_astropy_puts_them(tmp_path: Path, name: str, place: tuple) -> None:
    raw = exposure(CRVAL1=place[0], CRVAL2=place[1], CRPIX1=80.0, **as_reals(SOLUTIONS[name]))

    found = read_exposure(written(tmp_path, raw))

    wcs = WCS(astropy_fits.getheader(found.path, 1))
    theirs = np.radians(wcs.all_pix2world(EDGES, 1))
    ours = np.radians(np.array(found.ccds[0].corners))
    away = np.degrees(angular_separation(ours[:, 0], ours[:, 1], theirs[:, 0], theirs[:, 1])) * 3600
    assert away.max() < 1e-4  # arcsec


@pytest.mark.parametrize("place", PLACES, ids=str)
def test_the_circle_goes_round_all_ccds_and_is_hardly_larger_than_need_be(tmp_path: Path, place: tuple) -> None:
    raw = exposure(CRVAL1=place[0], CRVAL2=place[1], **WIDE)

    found = read_exposure(written(tmp_path, raw))

    assert found.s_ra is not None
    corners = [corner for ccd in found.ccds for corner in ccd.corners]
    away = [separation_deg((found.s_ra, found.s_dec or 0.0), corner) for corner in corners]
    widest = max(separation_deg(a, b) for a in corners for b in corners)
    assert max(away) == pytest.approx(found.radius_deg, abs=1e-6)
    assert found.radius_deg == pytest.approx(widest / 2, rel=0.16)


def test_places_and_directions_are_the_same_thing() -> None:
    for place in PLACES:
        assert separation_deg(place_of(vector_of(*place)), place) < 1e-12
    (ra, dec), radius = circle_round([vector_of(359.0, 0.0), vector_of(1.0, 0.0)])
    assert (min(ra, 360 - ra), dec, radius) == pytest.approx((0.0, 0.0, 1.0), abs=1e-9)
    assert math.isfinite(radius)


def test_a_region_is_written_as_stc_s() -> None:
    one = polygon_of([(1.0, 2.0), (3.0, 4.0), (5.0, 6.0)])
    other = polygon_of([(7.0, 8.0), (9.0, 1.0), (2.0, 3.0)])

    assert (polygon_of([]), region_of([])) == ("", "")
    assert region_of([one]) == "POLYGON ICRS 1.000000 2.000000 3.000000 4.000000 5.000000 6.000000"
    assert region_of([one, other]) == (
        "UNION ICRS (POLYGON 1.000000 2.000000 3.000000 4.000000 5.000000 6.000000"
        " POLYGON 7.000000 8.000000 9.000000 1.000000 2.000000 3.000000)"
    )


def as_reals(cards: dict) -> dict:
    """With exponents in capitals, as FITS has them."""
    return {key: f"{value:>20.13G}".encode() if isinstance(value, float) else value for key, value in cards.items()}

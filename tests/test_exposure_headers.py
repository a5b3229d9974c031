"""What an exposure's headers are understood to say: translation, place on the sky, oddities, and whether to prepare it.

Each broken or odd file has its own line in test_broken_files.py.
"""

from __future__ import annotations

import gzip
from datetime import date
from pathlib import Path

import numpy as np
import pytest
from astropy.coordinates import angular_separation
from astropy.io import fits as astropy_fits
from astropy.wcs import WCS
from broken import HEIGHT, WIDTH, ZPN, everywhere, exposure, header, image, one_ccd, packed, primary, single, sky
from broken import WCS as WCS_KEYS
from test_fits import mutated, written

from spicad.archive.headers import (
    Exposure,
    needs_preparing,
    odd_beside_others,
    read_exposure,
    separation_deg,
    stem_of,
)
from spicad.fits import FitsProblem
from spicad.words import BadInput

TODAY = date(2026, 1, 1)


def read(folder: Path, raw: bytes, name: str = "a.fits") -> Exposure:
    return read_exposure(written(folder, raw, name), today=TODAY)


def mosaic(head: dict, **changes) -> bytes:
    """Two CCDs whose own headers say nothing but the WCS."""
    silent = dict.fromkeys(("FILTER", "EXPTIME", "OBJECT", "DATE-OBS", "AIRMASS", "QRUNID"))
    return exposure(head, **silent, **changes)


def test_a_good_exposure_is_read_whole_and_without_a_word(tmp_path: Path) -> None:
    raw = exposure()

    found = read(tmp_path, raw, "900001p.fits")

    assert (found.packing, found.stem, found.size) == ("fits", "900001p", len(raw))
    assert (found.instrument, found.filter, found.object, found.runid) == ("SpicaSim", "r", "BROKEN", "20AS01")
    assert (found.t_exptime, found.airmass) == (40.0, 1.1)
    assert found.mjd == pytest.approx(58849.3)
    assert [(ccd.extname, ccd.width, ccd.height, ccd.projection, ccd.crval, ccd.bitpix) for ccd in found.ccds] == [
        ("ccd00", 160, 128, "TAN", (150.0, 2.2), 16),
        ("ccd01", 160, 128, "TAN", (150.0, 2.2), 16),
    ]
    assert found.mtime_ns == (tmp_path / "900001p.fits").stat().st_mtime_ns
    assert found.warnings == ()


@pytest.mark.parametrize(
    ("key", "value", "field", "expected"),
    [
        ("DETECTOR", "MegaCam", "instrument", "MegaCam"),
        ("FILTER1", "r.MP9601", "filter", "r.MP9601"),
        ("FILTNAM", "i", "filter", "i"),
        ("HIERARCH ESO INS FILT1 NAME", "Ks", "filter", "Ks"),
        ("TARGNAME", "M 101", "object", "M 101"),
        ("RUNID", "03AF12", "runid", "03AF12"),
        ("EXPOSURE", 12, "t_exptime", 12.0),
        ("EXPTIME", "12.5 s", "t_exptime", 12.5),
        ("HIERARCH ESO TEL AIRM START", 1.3, "airmass", 1.3),
        ("MJD-OBS", 53000.25, "mjd", 53000.25),
        ("DATE-OBS", "2003-12-27T06:00:00.000", "mjd", 53000.25),
        ("DATE-OBS", "27/12/98", "mjd", 51174.0),
    ],
)
def test_each_camera_says_it_with_its_own_keyword(tmp_path: Path, key: str, value, field: str, expected) -> None:
    card = f"{key:<8}= {value!r}".encode()
    bare = {"SIMPLE": True, "BITPIX": 8, "NAXIS": 0, "EXTEND": True}

    found = read(tmp_path, header(bare, card) + mosaic(bare)[2880:])

    assert getattr(found, field) == expected


def test_the_primary_is_heard_before_the_ccds(tmp_path: Path) -> None:
    found = read(tmp_path, exposure(FILTER="other"))

    assert found.filter == "r"
    assert found.warnings == ("FILTER differs between the HDUs: 'r.SIM03' is taken, not 'other'.",)


def test_a_future_date_depends_on_today(tmp_path: Path) -> None:
    path = written(tmp_path, everywhere(DATE__OBS="2025-06-01T00:00:00"))

    assert read_exposure(path, today=TODAY).warnings == ()
    assert "future" in read_exposure(path, today=date(2024, 1, 1)).warnings[0]


@pytest.mark.parametrize("name", ["a.fits", "a.fits.fz", "a.FITS.gz", "a.fits.fz.gz", "a.fit", "a", "a.fts.bz2"])
def test_the_stem_is_the_name_without_its_endings(name: str) -> None:
    assert stem_of(Path("/somewhere") / name) == "a"


def test_a_stem_keeps_dots_that_are_no_endings_and_is_never_empty() -> None:
    assert [stem_of(Path(name)) for name in ("c4d.ooi.fits", ".fits")] == ["c4d.ooi", ".fits"]


# Where it is

LINEAR = [
    {"CRVAL1": 359.99},
    {"CRVAL2": 89.99},
    {"CRVAL2": -89.995, "CD1_1": 0.0, "CD1_2": -0.00011, "CD2_1": 0.00011, "CD2_2": 0.0},
    {"CRVAL1": -10.0},
    {"CD1_1": None, "CD1_2": None, "CD2_1": None, "CD2_2": None, "CDELT1": -0.0002, "CDELT2": 0.0001, "CROTA2": 30.0},
    dict.fromkeys(("CD1_1", "CD1_2", "CD2_1", "CD2_2"))
    | {"CDELT1": -1e-4, "CDELT2": 2e-4, "PC1_1": 0.8, "PC1_2": 0.6, "PC2_1": -0.6, "PC2_2": 0.8},
    dict.fromkeys(("CD1_1", "CD1_2", "CD2_1", "CD2_2"))
    | {"CDELT1": -1e-4, "CDELT2": 2e-4, "PC001001": 0.8, "PC001002": 0.6, "PC002001": -0.6, "PC002002": 0.8},
    {"CTYPE1": "DEC--TAN", "CTYPE2": "RA---TAN", "CRVAL1": -30.0, "CRVAL2": 20.0},
    {"CTYPE1": "RA---CAR", "CTYPE2": "DEC--CAR", "CRVAL2": 0.0},
    {"CTYPE1": "RA---ARC", "CTYPE2": "DEC--ARC"},
]


@pytest.mark.filterwarnings("ignore::astropy.wcs.FITSFixedWarning")
@pytest.mark.parametrize("changes", LINEAR, ids=str)
def test_the_corners_are_where_astropy_puts_them(tmp_path: Path, changes: dict) -> None:
    found = read(tmp_path, exposure(**changes))

    for number, ccd in enumerate(found.ccds):
        wcs = WCS(astropy_fits.getheader(found.path, number + 1))
        edges = [[0.5, 0.5], [WIDTH + 0.5, 0.5], [WIDTH + 0.5, HEIGHT + 0.5], [0.5, HEIGHT + 0.5]]
        theirs = np.radians(wcs.all_pix2world(edges, 1)[:, [wcs.wcs.lng, wcs.wcs.lat]])
        ours = np.radians(np.array(ccd.corners))
        away = np.degrees(angular_separation(ours[:, 0], ours[:, 1], theirs[:, 0], theirs[:, 1])) * 3600
        assert away.max() < 0.02


@pytest.mark.parametrize("changes", LINEAR[:4], ids=str)
def test_the_circle_around_all_ccds_is_right_across_0h_and_at_the_poles(tmp_path: Path, changes: dict) -> None:
    found = read(tmp_path, exposure(**changes))

    assert found.s_ra is not None
    assert found.s_dec is not None
    assert found.radius_deg is not None
    away = [separation_deg((found.s_ra, found.s_dec), corner) for ccd in found.ccds for corner in ccd.corners]
    assert max(away) == pytest.approx(found.radius_deg, abs=1e-6)
    assert 0.01 < found.radius_deg < 0.025
    assert 0 <= found.s_ra < 360


def test_without_a_wcs_the_pointing_of_the_telescope_is_taken(tmp_path: Path) -> None:
    blind = dict.fromkeys(WCS_KEYS)

    found = read(tmp_path, exposure(primary(RA="10:00:00.0", DEC="-02:30:00"), **blind))

    assert (found.s_ra, found.s_dec, found.radius_deg) == (150.0, -2.5, 0.0)
    assert read(tmp_path, exposure(**blind)).s_ra is None


def test_separations_are_exact_near_and_far() -> None:
    assert separation_deg((359.9999, 0.0), (0.0001, 0.0)) == pytest.approx(0.0002, rel=1e-9)
    assert separation_deg((10.0, 89.0), (190.0, 89.0)) == pytest.approx(2.0)
    assert separation_deg((150.0, 2.0), (150.0, 2.0)) == 0.0
    assert separation_deg((0.0, 90.0), (77.0, -90.0)) == pytest.approx(180.0)
    assert separation_deg((150.0, 2.0), (150.0, 2.0 + 1e-9)) == pytest.approx(1e-9, rel=1e-3)


@pytest.mark.parametrize(
    ("changes", "projection"),
    [
        ({}, "TAN"),
        ({"PV1_1": 1.0}, "TPV"),
        ({"CTYPE1": "RA---TPV", "CTYPE2": "DEC--TPV"}, "TPV"),
        ({"CTYPE1": "RA---TAN-SIP", "CTYPE2": "DEC--TAN-SIP"}, "SIP"),
        ({"A_ORDER": 2, "B_ORDER": 2}, "SIP"),
        (ZPN, "ZPN"),
        ({"CTYPE1": "RA---CAR", "CTYPE2": "DEC--CAR"}, "CAR"),
        ({"CTYPE1": "WAVE", "CTYPE2": "DEC--TAN"}, ""),
    ],
)
def test_the_projection_is_what_the_tools_would_take_it_for(tmp_path: Path, changes: dict, projection: str) -> None:
    assert {ccd.projection for ccd in read(tmp_path, exposure(**changes)).ccds} == {projection}


@pytest.mark.parametrize(
    ("longitude", "latitude", "words"),
    [("GLON-TAN", "GLAT-TAN", "galactic"), ("GLAT-TAN", "GLON-TAN", "galactic"), ("ELON-TAN", "ELAT-TAN", "ecliptic")],
)
def test_other_coordinates_than_equatorial_ones_are_refused(
    tmp_path: Path, longitude: str, latitude: str, words: str
) -> None:
    with pytest.raises(BadInput, match=f"in {words} coordinates \\({longitude}\\); right ascension"):
        read(tmp_path, exposure(CTYPE1=longitude, CTYPE2=latitude))


@pytest.mark.parametrize(
    ("cards", "words"),
    [
        ({"RADESYS": "FK4"}, "RADESYS is 'FK4'"),
        ({"RADECSYS": "FK4", "EQUINOX": 1950.0}, "RADECSYS is 'FK4'"),
        ({"EQUINOX": 1950.0}, "EQUINOX is 1950.0"),
        ({"RADESYS": "FK5", "EQUINOX": "B1950"}, "EQUINOX is 'B1950'"),
        ({"EPOCH": 1950}, "EPOCH is 1950"),
    ],
)
def test_positions_of_another_equinox_than_2000_are_refused(tmp_path: Path, cards: dict, words: str) -> None:
    with pytest.raises(BadInput, match=f"{words}, J2000 \\(FK5 or ICRS\\) was expected"):
        read(tmp_path, exposure(**cards))
    with pytest.raises(BadInput, match="another equinox"):
        read(tmp_path, exposure(primary(**cards)))

    assert read(tmp_path, exposure(primary(OBSTYPE="BIAS", **cards), **cards)).kind == "bias"


@pytest.mark.parametrize(
    "cards",
    [
        {"RADESYS": "ICRS", "EQUINOX": 1950.0},
        {"RADESYS": "FK5", "EQUINOX": 2000.0},
        {"EQUINOX": "J2000.0"},
        {"EPOCH": 2003.2},
        {"EQUINOX": "unknown"},
    ],
)
def test_positions_of_2000_are_taken_as_they_are(tmp_path: Path, cards: dict) -> None:
    assert read(tmp_path, exposure(**cards)).warnings == ()
    assert read(tmp_path, exposure(primary(EQUINOX=1950.0), **{"EQUINOX": 2000.0} | cards)).warnings == ()


def test_an_equinox_of_the_date_is_a_warning(tmp_path: Path) -> None:
    assert read(tmp_path, exposure(EQUINOX=2013.4)).warnings == (
        "EQUINOX is 2013.4: its positions are taken for those of J2000.",
    )


# Whether to prepare it


@pytest.mark.parametrize(
    ("raw", "reads", "reason"),
    [
        (exposure(), ["fits"], ""),
        (packed(), ["fits"], "tile-compressed"),
        (packed(), ["fits", "fits.fz"], ""),
        (gzip.compress(exposure()), ["fits", "fits.fz"], "gzip"),
        (exposure(kind="i8"), ["fits"], "64-bit"),
        (exposure(**ZPN), ["fits"], "ZPN"),
        (exposure(A_ORDER=2), ["fits"], "SIP"),
        (single(sky(0).astype("i2")[None]), ["fits"], "length 1"),
        (header(primary()) + one_ccd(0) + one_ccd(1, CRVAL1=150.001), ["fits"], "tangent points"),
        (exposure(**dict.fromkeys(WCS_KEYS)), ["fits"], ""),
    ],
)
def test_what_a_tool_cannot_read_is_prepared_for_a_reason(
    tmp_path: Path, raw: bytes, reads: list[str], reason: str
) -> None:
    said = needs_preparing(read(tmp_path, raw), reads)

    assert bool(said) == bool(reason)
    assert reason in said


# Beside others


def test_an_exposure_is_only_odd_beside_others_of_its_instrument_and_object(tmp_path: Path) -> None:
    contents = {"a": exposure(), "b": exposure(), "c": exposure(), "far": exposure(CRVAL1=180.0)}
    contents |= {"mirrored": exposure(CD1_1=0.00011), "one": header(primary()) + one_ccd(0)}
    contents |= {"camera": everywhere(INSTRUME="Other", CRVAL1=180.0), "target": everywhere(OBJECT="X", CRVAL1=180.0)}

    odd = odd_beside_others([read(tmp_path, raw, name) for name, raw in contents.items()])

    assert {path.name: len(said) for path, said in odd.items()} == {"far": 1, "mirrored": 1, "one": 1}
    assert "30 degrees from the others of BROKEN" in odd[tmp_path / "far"][0]
    assert odd[tmp_path / "one"] == ("it has 1 CCDs where the others of SpicaSim have 2.",)


def test_of_two_that_differ_neither_is_called_odd(tmp_path: Path) -> None:
    two = [read(tmp_path, exposure(), "a"), read(tmp_path, exposure(CRVAL1=180.0, CD1_1=0.00011), "b")]

    assert odd_beside_others(two) == {}


# Trouble


def test_the_same_fault_of_all_ccds_is_told_once(tmp_path: Path) -> None:
    raw = header(primary()) + b"".join(one_ccd(number, CRVAL2=123.0) for number in range(5))

    with pytest.raises(BadInput) as refusal:
        read(tmp_path, raw)

    assert len(refusal.value.problems) == 1
    assert "HDU 1 (ccd00) and 4 more: the declination" in str(refusal.value)


def test_a_name_with_control_signs_is_shown_without_them(tmp_path: Path) -> None:
    with pytest.raises(FitsProblem) as refusal:
        read(tmp_path, b"nothing", "a\x1b[31m\n.fits")
    assert str(refusal.value).isprintable()


def test_a_mosaic_of_37_hdus_with_long_headers_is_read(tmp_path: Path) -> None:
    filler = [f"KEY{number:<5}= {number:>20}".encode() for number in range(300)]
    raw = header(primary(), *filler)
    for number in range(36):
        cards, stored = image(number, np.zeros((45, 64), "i2"))
        raw += header(cards, *filler) + stored
    path = written(tmp_path, raw)

    assert len(read_exposure(path).ccds) == 36


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(1, 6))])
def test_mutated_exposures_are_read_or_refused_and_nothing_else(tmp_path: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    goods = [exposure(), packed(), exposure(**ZPN), single(sky(0).astype("i2"))]
    read_well = refused = 0
    for number in range(200):
        try:
            read(tmp_path, mutated(goods[number % len(goods)], rng))
            read_well += 1
        except (BadInput, FitsProblem):
            refused += 1
    assert read_well > 20
    assert refused > 20

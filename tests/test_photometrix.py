"""Photometrix as a command: on catalogues written here, on the made sky by the real tools, and as a task of a job.

The solver on plain numbers is tried in test_photometrix_solve.py.
"""

from __future__ import annotations

import csv
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from astropy.io import fits
from conftest import ROOT, SpicaWithTools

from spicad.reduction import heads, ldac
from spicad.reduction.photometrix.__main__ import main
from spicad.reduction.photometrix.settings import KEYWORDS
from spicad.reduction.sky import SkyMade, make_sky
from spicad.reduction.sky_options import SkyOptions

SIZE = 1000  # pixels, of a CCD of the catalogues written here
SCALE_DEG = 0.2 / 3600
COLUMNS = [
    ("XWIN_IMAGE", "f8"), ("YWIN_IMAGE", "f8"), ("FLUX_AUTO", "f4"), ("FLUXERR_AUTO", "f4"), ("FLUX_APER", "f4", (3,)),
    ("FLUXERR_APER", "f4", (3,)), ("FWHM_IMAGE", "f4"), ("FLAGS", "i2"), ("FLAGS_WEIGHT", "i2"),
]  # fmt: skip
DEFAULT_CARDS = {"EXPTIME": 100.0, "FILTER": "'r'", "AIRMASS": 1.2, "PHOT_C": 26.0, "PHOT_K": -0.1}
CONFIGURATIONS = ROOT / "etc/configurations"


@dataclass(frozen=True)
class Field:
    """Stars on the sky (degrees) with their magnitudes."""

    ra: np.ndarray
    dec: np.ndarray
    mag: np.ndarray
    colour: np.ndarray


def field_of_stars(seed: int = 1, stars: int = 400, centre: tuple[float, float] = (150.0, 2.0)) -> Field:
    rng = np.random.default_rng(seed)
    half = 1.3 * SIZE * SCALE_DEG
    ra, dec = (rng.uniform(-half, half, stars) + middle for middle in centre)
    return Field(ra, dec, rng.uniform(17, 21, stars), rng.normal(0.8, 0.3, stars))


def write_catalogue(
    path: Path,
    stars: Field,
    zero: float = 0.0,
    terms: tuple[float, ...] = (0.0, 0.0),
    pointing: tuple[float, float] = (150.0, 2.0),
    cards: dict[str, Any] | None = None,
    flags: int = 0,
    fwhm: float = 4.0,
    colour_term: float = 0.0,
) -> Path:
    """An exposure of two CCDs side by side, as SExtractor would catalogue it: zero point 26 + zero + the CCD's term."""
    rng = np.random.default_rng(int(path.stem[-2:]))
    ccds = []
    alpha = fwhm / 2 / np.sqrt(2**0.25 - 1)
    within = 1 - (1 + (np.array([2.5, 5.0, 10.0]) / alpha) ** 2) ** -3
    for number, term in enumerate(terms):
        crpix = (SIZE * (1 - number) + 0.5, SIZE / 2)
        x = crpix[0] - (stars.ra - pointing[0]) * np.cos(np.radians(stars.dec)) / SCALE_DEG
        y = crpix[1] + (stars.dec - pointing[1]) / SCALE_DEG
        on = (x > 1) & (x < SIZE) & (y > 1) & (y < SIZE)
        table = np.zeros(int(on.sum()), COLUMNS)
        exptime = (cards or {}).get("EXPTIME", 100.0)
        mag = stars.mag[on] + colour_term * stars.colour[on]
        flux = 10 ** (-0.4 * (mag - 26.0 - zero - term)) * (exptime if isinstance(exptime, float) else 100.0)
        error = np.sqrt(flux) + 20
        for name, share in (("FLUX_AUTO", 1.0), ("FLUX_APER", within)):
            values = np.multiply.outer(flux + rng.normal(0, error), share)
            table[name], table[name.replace("FLUX", "FLUXERR")] = values, np.multiply.outer(error, np.ones_like(share))
        table["XWIN_IMAGE"], table["YWIN_IMAGE"] = x[on], y[on]
        table["FWHM_IMAGE"], table["FLAGS"] = fwhm, flags
        header = {**DEFAULT_CARDS, "NAXIS1": SIZE, "NAXIS2": SIZE}
        header |= {"CTYPE1": "'RA---TAN'", "CTYPE2": "'DEC--TAN'", "CRVAL1": pointing[0], "CRVAL2": pointing[1]}
        header |= {"CRPIX1": crpix[0], "CRPIX2": crpix[1], "CD1_1": -SCALE_DEG, "CD2_2": SCALE_DEG}
        header |= cards or {}
        lines = [f"{key:<8}= {value}".ljust(80).encode() for key, value in header.items() if value is not None]
        ccds.append(ldac.CcdCatalogue(tuple(lines), table))
    ldac.write(path, ccds)
    return path


DITHERS = ((150.0, 2.0), (150.004, 2.003), (149.995, 1.998), (150.006, 1.996), (149.992, 2.005))
ZEROS = (0.05, -0.02, 0.03, -0.15, 0.04)  # the fourth through cloud
TERMS = (0.02, -0.02)


@pytest.fixture
def five(tmp_path: Path) -> list[Path]:
    return [
        write_catalogue(tmp_path / f"exp{n:02d}.ldac", field_of_stars(), zero, TERMS, pointing)
        for n, (zero, pointing) in enumerate(zip(ZEROS, DITHERS, strict=True))
    ]


def run(capsys: pytest.CaptureFixture[str], *arguments: object, status: int = 0) -> str:
    """What photometrix says; it must end with `status`."""
    ended = main([str(each) for each in arguments])
    said = capsys.readouterr()
    assert ended == status, said.out + said.err
    return said.out + said.err


def figures(folder: Path) -> dict[str, Any]:
    return dict(json.loads((folder / "photometrix.json").read_text()))


def scales(path: Path) -> np.ndarray:
    return np.array([head.header["FLXSCALE"] for head in heads.read(path)], float)


# Zero points


def test_zero_points_and_terms_are_found_and_written(
    five: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    said = run(capsys, *five, "-OUTPUT_DIR", tmp_path)

    planted = np.array(ZEROS) - np.mean(ZEROS)
    found = figures(tmp_path)
    assert np.abs([row["relative_mag"] for row in found["exposures"]] - planted).max() < 0.003
    assert np.abs([row["term_mag"] for row in found["ccds"]] - np.array(TERMS)).max() < 0.005
    assert all(0 < row["error_mag"] < 0.003 for row in found["exposures"])
    assert found["groups"] == 1
    assert found["converged"] is True
    assert "5 exposures, 1 groups" in said
    for n, zero in enumerate(planted):
        expected = 10 ** (-0.4 * (zero + np.array(TERMS))) / 100.0
        assert np.abs(scales(tmp_path / f"exp{n:02d}.head") / expected - 1).max() < 0.006


def test_exposure_times_count(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    paths = [
        write_catalogue(tmp_path / f"exp{n:02d}.ldac", field_of_stars(), pointing=DITHERS[n], cards={"EXPTIME": time_s})
        for n, time_s in enumerate((100.0, 10.0, 300.0))
    ]

    run(capsys, *paths, "-OUTPUT_DIR", tmp_path)

    assert max(abs(row["relative_mag"]) for row in figures(tmp_path)["exposures"]) < 0.004
    assert scales(tmp_path / "exp01.head").mean() / scales(tmp_path / "exp00.head").mean() == pytest.approx(
        10, rel=0.01
    )


def test_a_cloudy_exposure_is_recognised_and_the_photometric_ones_give_the_zero(
    five: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    options = ("-ANCHOR", "PHOTOMETRIC", "-PHOTOMETRIC_TOL", "0.08", "-MAGZERO_OUT", "30")

    said = run(capsys, *five, "-OUTPUT_DIR", tmp_path, *options)

    rows = figures(tmp_path)["exposures"]
    assert [row["photometric"] for row in rows] == [True, True, True, False, True]
    assert 0.17 < rows[3]["cloud_mag"] < 0.21
    assert "exp03: zero point" in said
    assert "not photometric" in said
    expected = 26.0 - 0.1 * 0.2 + np.array(ZEROS) - np.median([ZEROS[n] for n in (0, 1, 2, 4)])
    assert np.abs([row["zero_point_mag"] for row in rows] - expected).max() < 0.004
    assert np.abs(-2.5 * np.log10(scales(tmp_path / "exp03.head").mean() * 100) + 30 - expected[3]).max() < 0.004


def test_the_reference_gives_the_zero_and_ties_fields_that_do_not_overlap(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    near, far = field_of_stars(1), field_of_stars(2, centre=(170.0, -5.0))
    paths = [write_catalogue(tmp_path / f"exp{n:02d}.ldac", near, ZEROS[n], pointing=DITHERS[n]) for n in range(2)]
    paths += [
        write_catalogue(tmp_path / f"exp{n:02d}.ldac", far, ZEROS[n], pointing=(170.0, -5.0)) for n in range(2, 4)
    ]
    reference = write_reference(tmp_path / "refcat.cat", [near, far])
    options = ("-ANCHOR", "REFERENCE", "-REFERENCE_NAME", reference, "-CCD_TERMS", "N")

    run(capsys, *paths, "-OUTPUT_DIR", tmp_path, *options)

    rows = figures(tmp_path)["exposures"]
    assert {row["fixed_by"] for row in rows} == {"reference"}
    assert np.abs([row["zero_point_mag"] - 26 for row in rows] - np.array(ZEROS[:4])).max() < 0.005


def test_a_reference_may_be_a_text(five: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    stars = field_of_stars()
    lines = [f"{ra},{dec},{mag:.4f},0.01" for ra, dec, mag in zip(stars.ra, stars.dec, stars.mag, strict=True)]
    (tmp_path / "known.csv").write_text("\n".join(["RAJ2000,DEJ2000,rmag,e_rmag", *lines]) + "\n")
    options = ("-ANCHOR", "REFERENCE", "-REFERENCE_NAME", tmp_path / "known.csv", "-REFMAGERR_KEY", "e_rmag")

    run(capsys, *five, "-OUTPUT_DIR", tmp_path, *options, "-REFMAG_KEYS", "g:e_rmag,r:rmag")

    rows = figures(tmp_path)["exposures"]
    assert np.abs([row["zero_point_mag"] - 26 for row in rows] - np.array(ZEROS)).max() < 0.005


def test_a_colour_term_is_found_and_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    stars = field_of_stars()
    paths = [
        write_catalogue(tmp_path / f"exp{n:02d}.ldac", stars, pointing=DITHERS[n], colour_term=-0.06) for n in range(3)
    ]
    reference = write_reference(tmp_path / "refcat.cat", [stars])
    options = ("-REFERENCE_NAME", reference, "-COLOUR_TERMS", "INSTRUMENT", "-REFCOLOUR_KEYS", "MAG_B,MAG_R")

    run(capsys, *paths, "-OUTPUT_DIR", tmp_path, *options)

    (found,) = figures(tmp_path)["colour_terms"].values()
    assert abs(found["terms"][0] - 0.06) < 0.01


def write_reference(path: Path, fields: list[Field]) -> Path:
    every = Field(
        *(np.concatenate([getattr(each, name) for each in fields]) for name in ("ra", "dec", "mag", "colour"))
    )
    names = ("X_WORLD", "Y_WORLD", "MAG", "MAGERR", "MAG_B", "MAG_R")
    table = np.zeros(len(every.ra), [(name, "f8") for name in names])
    values = (every.ra, every.dec, every.mag, np.full(len(every.ra), 0.02), every.mag + every.colour, every.mag)
    for name, value in zip(names, values, strict=True):
        table[name] = value
    ldac.write(path, [ldac.CcdCatalogue((), table)])
    return path


def test_seeing_does_not_pass_for_a_change_of_zero_point(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    widths = (3.5, 5.0, 6.5)
    paths = [
        write_catalogue(tmp_path / f"exp{n:02d}.ldac", field_of_stars(), pointing=DITHERS[n], fwhm=width)
        for n, width in enumerate(widths)
    ]

    run(capsys, *paths, "-OUTPUT_DIR", tmp_path)
    corrected = [row["relative_mag"] for row in figures(tmp_path)["exposures"]]
    run(capsys, *paths, "-OUTPUT_DIR", tmp_path, "-APERTURES", "")
    as_they_are = [row["relative_mag"] for row in figures(tmp_path)["exposures"]]

    assert np.abs(corrected).max() < 0.004
    assert np.ptp(as_they_are) > 0.015


# Groups


def test_two_fields_are_two_groups_and_said_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    far = field_of_stars(2, centre=(170.0, -5.0))
    paths = [write_catalogue(tmp_path / f"exp{n:02d}.ldac", field_of_stars(), ZEROS[n]) for n in range(2)]
    paths += [
        write_catalogue(tmp_path / f"exp{n:02d}.ldac", far, ZEROS[n], pointing=(170.0, -5.0)) for n in range(2, 4)
    ]

    said = run(capsys, *paths, "-OUTPUT_DIR", tmp_path)

    found = figures(tmp_path)
    assert found["groups"] == 2
    assert [row["group"] for row in found["exposures"]] == [1, 1, 2, 2]
    assert "2 groups that do not overlap, each with a zero of its own: exp00, exp01; exp02, exp03" in said
    for pair in ((0, 1), (2, 3)):
        assert abs(sum(found["exposures"][n]["relative_mag"] for n in pair)) < 1e-6


def test_filters_are_never_compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    paths = [
        write_catalogue(tmp_path / f"exp{n:02d}.ldac", field_of_stars(), ZEROS[n], cards={"FILTER": f"'{band}'"})
        for n, band in enumerate("ggrr")
    ]

    run(capsys, *paths, "-OUTPUT_DIR", tmp_path)

    found = figures(tmp_path)
    assert found["instruments"] == found["groups"] == 2
    assert [row["instrument"] for row in found["exposures"]] == ["g", "g", "r", "r"]


def test_an_exposure_that_overlaps_no_other_is_named_and_has_no_error(
    five: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    alone = write_catalogue(tmp_path / "far09.ldac", field_of_stars(3, centre=(10.0, 40.0)), pointing=(10.0, 40.0))

    said = run(capsys, *five, alone, "-OUTPUT_DIR", tmp_path)

    row = figures(tmp_path)["exposures"][-1]
    assert "far09 overlaps no other exposure, its zero point is not measured" in said
    assert row["error_mag"] is None
    assert row["relative_mag"] == 0
    assert np.allclose(scales(tmp_path / "far09.head"), 0.01, rtol=0.05)


# What cannot be done is said


def test_no_overlaps_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    paths = [
        write_catalogue(tmp_path / f"exp{n:02d}.ldac", field_of_stars(n, centre=(ra, 2.0)), pointing=(ra, 2.0))
        for n, ra in enumerate((10.0, 20.0))
    ]

    said = run(capsys, *paths, "-OUTPUT_DIR", tmp_path, status=1)

    assert "no overlaps: no two of 2 exposures have 10 stars in common within 0.5 arcsec; the most is 0." in said
    assert not list(tmp_path.glob("*.head"))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"cards": {"EXPTIME": None}}, "its header has no EXPTIME."),
        ({"cards": {"EXPTIME": 0.0}}, "its header has EXPTIME = 0."),
        ({"cards": {"CTYPE1": None}}, "CCD 1: its header has no WCS"),
        ({"flags": 4}, "its stars are saturated: "),
        ({"flags": 16}, "bright sources are flagged; 0 are left, and 10 are needed"),
        ({"stars": field_of_stars(stars=8)}, "too few stars: "),
    ],
)
def test_a_catalogue_that_cannot_be_used_is_named_with_the_reason(
    changes: dict[str, Any], words: str, five: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    bad = write_catalogue(tmp_path / "bad07.ldac", **{"stars": field_of_stars(), **changes})

    said = run(capsys, *five, bad, "-OUTPUT_DIR", tmp_path, status=2)

    assert f"photometrix: {bad}: " in said
    assert words in said
    assert not list(tmp_path.glob("*.head"))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("-PHOTFLUX_KEY", "FLUX_BEST"), "CCD 1 has no column FLUX_BEST."),
        (("-PHOTFLUX_KEY", "FLUX_APER(4)"), "FLUX_APER has 3 apertures, and number 4 is asked for."),
        (("-APERTURES", "5,10"), "2 diameters are given, and FLUX_APER of exp00.ldac has 3 apertures."),
        (("-APERTURES", "50,100,200"), "Give the diameters of SExtractor's PHOT_APERTURES, or nothing."),
        (("-CENTROID_KEYS", "XWIN_IMAGE"), "CENTROID_KEYS is XWIN_IMAGE but needs 2 items"),
        (("-ANCHOR", "REFERENCE"), "ANCHOR: REFERENCE needs a catalogue."),
        (("-COLOUR_TERMS", "CCD"), "COLOUR_TERMS: CCD needs the colours of stars."),
        (("-REFERENCE_NAME", "nowhere.cat"), "nowhere.cat"),
        (("-REFERENCE_NAME", "{folder}/refcat.cat", "-REFMAG_KEYS", "MAG_X"), "has no column MAG_X."),
        (("-OUTPUT_DIR", "nowhere"), "nowhere: there is no such folder."),
        (("-CENTROID_KEYS", "FLUX_APER,YWIN_IMAGE"), "column FLUX_APER is not one number for each source."),
        (("-HEADER_SUFFIX", ".ldac"), "this is a FITS file, and a .head file would replace it."),
        (("-HEADER_SUFFIX", ""), "a .head file cannot end in nothing."),
    ],
)
def test_a_wrong_wish_is_named_with_the_mend(
    options: tuple[str, ...], words: str, five: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    write_reference(tmp_path / "refcat.cat", [field_of_stars()])

    said = run(capsys, *five, *(word.format(folder=tmp_path) for word in options), status=2)

    assert words in said


def test_a_head_of_another_exposure_is_refused(five: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    heads.write(tmp_path / "exp01.head", [heads.Head((heads.Card("FLXSCALE", 1.0),))])

    said = run(capsys, *five, status=2)

    assert "exp01.head: it has heads of 1 CCDs, and the catalogue has 2 CCDs." in said


def test_a_catalogue_that_is_cut_short_is_refused(five: list[Path], capsys: pytest.CaptureFixture[str]):
    five[2].write_bytes(five[2].read_bytes()[:-4000])

    assert str(five[2]) in run(capsys, *five, status=2)


# Astrometry beside the catalogues


def test_the_head_beside_a_catalogue_goes_before_its_header_and_stays_in_what_is_written(
    five: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    off = {"CRVAL1": 150.1, "CRVAL2": 2.1}
    stars = field_of_stars()
    right = write_catalogue(tmp_path / "exp04.ldac", stars, ZEROS[4], TERMS, DITHERS[4])
    solved = [heads.wcs_cards(_tangent(ccd)) for ccd in ldac.read(right)]
    wrong = [ldac.CcdCatalogue(tuple(_with(card, off) for card in ccd.cards), ccd.table) for ccd in ldac.read(right)]
    ldac.write(right, wrong)
    (tmp_path / "out").mkdir()

    without = run(capsys, *five, "-OUTPUT_DIR", tmp_path / "out")
    heads.write(tmp_path / "exp04.head", [heads.Head((*cards, heads.Card("FLXSCALE", 5.0))) for cards in solved])
    run(capsys, *five, "-OUTPUT_DIR", tmp_path / "out")

    assert "exp04 overlaps no other exposure" in without
    assert figures(tmp_path / "out")["groups"] == 1
    written = heads.read(tmp_path / "out/exp04.head")[0].header
    assert written["CRVAL1"] == pytest.approx(DITHERS[4][0])
    assert written["FLXSCALE"] == pytest.approx(0.01, rel=0.1)
    assert [key for key in heads.read(tmp_path / "out/exp00.head")[0].header if key.startswith("CRVAL")] == []


def _tangent(ccd: ldac.CcdCatalogue) -> Any:
    from spicad.reduction.tangent import tangent_of

    return tangent_of(ccd.header)


def _with(card: bytes, values: dict[str, float]) -> bytes:
    key = card[:8].decode().strip()
    return f"{key:<8}= {values[key]}".ljust(80).encode() if key in values else card


# What is left


def test_tables_and_plots_are_whole(five: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    run(capsys, *five, "-OUTPUT_DIR", tmp_path)

    for name, least in (("exposures", 5), ("ccds", 2), ("positions", 50), ("magnitudes", 5)):
        with (tmp_path / f"photometrix_{name}.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
        assert len(rows) >= least
        assert all(None not in row.values() for row in rows)
    for name in ("magnitude", "position", "zeropoint"):
        drawing = ElementTree.parse(tmp_path / f"photometrix_{name}.svg").getroot()
        assert drawing.tag.endswith("svg")
        assert len(list(drawing)) > 15
        assert "nan" not in (tmp_path / f"photometrix_{name}.svg").read_text()


def test_the_same_catalogues_give_the_same_bytes(five: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        run(capsys, *five, "-OUTPUT_DIR", tmp_path / name)

    made = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert len(made) == 5 + 1 + 4 + 3
    assert all((tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes() for name in made)


def test_the_manual_tells_every_keyword_with_its_default():
    text = (ROOT / "man/photometrix.1").read_text()

    told = dict(re.findall(r"^\.It Ic (\w+) Ns \\ =(.*)$", text, re.MULTILINE))

    assert {name: value.replace("\\&", "").strip() for name, value in told.items()} == {
        keyword.name: keyword.default for keyword in KEYWORDS
    }


def test_the_command_answers_without_numpy():
    program = "import sys; from spicad.reduction.photometrix.__main__ import main; main(['-dd']);"

    done = subprocess.run(
        [sys.executable, "-c", program + "print('numpy' in sys.modules)"], cwd=ROOT, capture_output=True, text=True
    )

    assert done.stdout.splitlines()[-1] == "False"
    assert subprocess.run([ROOT / "bin/photometrix", "-v"], capture_output=True, check=False).returncode == 0


# The made sky, catalogued by SExtractor and solved by SCAMP


def catalogued(sky: SkyMade, folder: Path) -> list[Path]:
    """LDAC catalogues with SCAMP's .head beside them."""
    folder.mkdir()
    for name in ("default.conv", "default.param"):
        shutil.copy(CONFIGURATIONS / "sextractor" / name, folder)
    extractor = shutil.which("source-extractor") or shutil.which("sex")
    assert extractor
    paths = []
    for exposure in sky.exposures:
        paths.append(folder / f"{exposure.stem}.ldac")
        command = [
            extractor, exposure, "-c", CONFIGURATIONS / "sextractor/default.conf", "-CATALOG_TYPE", "FITS_LDAC",
            "-CATALOG_NAME", paths[-1], "-WEIGHT_TYPE", "MAP_WEIGHT", "-WEIGHT_IMAGE", sky.bad_pixels,
        ]  # fmt: skip
        subprocess.run(list(map(str, command)), cwd=folder, check=True, capture_output=True)
    command = [
        "scamp", *paths, "-c", CONFIGURATIONS / "scamp/default.conf", "-ASTREF_CATALOG", "FILE", "-ASTREFCAT_NAME",
        sky.reference, "-CHECKPLOT_DEV", "NULL", "-WRITE_XML", "N", "-MERGEDOUTCAT_TYPE", "NONE",
    ]  # fmt: skip
    subprocess.run(list(map(str, command)), cwd=folder, check=True, capture_output=True, timeout=120)
    return paths


def truth(sky: SkyMade, name: str) -> list[dict[str, str]]:
    with (sky.truth / f"{name}.csv").open(newline="") as table:
        return list(csv.DictReader(table))


@pytest.mark.slow
@pytest.mark.parametrize("seed", [21, 22])
def test_on_the_made_sky_exposures_are_within_5_and_ccds_within_10_mmag(
    seed: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    options = SkyOptions(exposures=5, ccds=2, size=800, filters=("r",), stars=400, seed=seed)
    sky = make_sky(tmp_path / "sky", options)
    paths = catalogued(sky, tmp_path / "catalogues")
    by_scamp = np.array([-2.5 * np.log10(scales(path.with_suffix(".head"))) for path in paths])

    run(capsys, *paths, "-OUTPUT_DIR", tmp_path)

    found = figures(tmp_path)
    planted = np.array([float(row["zeropoint"]) for row in truth(sky, "exposures")])
    terms = np.array([float(row["dzp"]) for row in truth(sky, "ccds")])
    assert np.abs([row["relative_mag"] for row in found["exposures"]] - (planted - planted.mean())).max() < 0.005
    assert np.abs([row["term_mag"] for row in found["ccds"]] - terms).max() < 0.010
    assert np.ptp(by_scamp, axis=1).max() < 1e-6, "SCAMP gives the CCDs of an exposure one scale"
    clouds = np.array([float(row["cloud_mag"]) for row in truth(sky, "exposures")])
    clear = (clouds > 0.03) | (clouds < 0.01)  # nearer to the limit of 0.02 noise decides
    assert (
        np.array([row["photometric"] for row in found["exposures"]])[clear].tolist() == (clouds < 0.02)[clear].tolist()
    )
    assert found["not_photometric"] >= 1


# A job


@pytest.fixture
def spica(tmp_path: Path) -> Iterator[SpicaWithTools]:
    spica = SpicaWithTools(tmp_path / "spica")
    spica.start()
    yield spica
    spica.end()


@pytest.mark.slow
def test_a_job_stacks_with_our_photometry_and_the_stack_has_the_magnitudes_of_the_truth(
    spica: SpicaWithTools, tmp_path: Path
):
    sky = make_sky(spica.archive / "sky", SkyOptions(exposures=5, ccds=2, size=600, filters=("r",), stars=500, seed=31))
    text = (
        f'name = "stacked"\nexposures = ["{sky.folder}/9*p.fits"]\nreference = "{sky.reference}"\n'
        f'weight = "{sky.bad_pixels}"\nrules = "photometric-stack"\n[end]\n'
    )

    process = spica.drop(text, "stacked")

    assert spica.wait_for(process) == "COMPLETED", spica.report(process)
    terms = np.array([float(row["dzp"]) for row in truth(sky, "ccds")])
    for path, row in zip(sky.exposures, truth(sky, "exposures"), strict=True):
        written = [head.header for head in heads.read(spica.product(process, f"{path.stem}.photometric.head"))]
        found = np.array([header["PHOTZP"] for header in written], float)
        planted = float(row["zeropoint"]) - 2.5 * np.log10(float(row["exptime_s"])) + terms
        assert np.abs(found - planted).max() < 0.012
        assert np.allclose([header["FLXSCALE"] for header in written], 10 ** (-0.4 * (found - 30)) / 120, rtol=1e-6)
        assert all("CRVAL1" in header for header in written)
    assert "Scatter of bright stars' magnitudes among exposures".lower() in spica.report(process).lower()
    assert spica.product(process, "*zeropoint.svg").stat().st_size > 1000
    off = magnitudes_less_truth(spica.product(process, "stacked.fits"), sky, tmp_path)
    assert abs(np.median(off)) < 0.03  # crowded, and the background was taken off twice


def magnitudes_less_truth(stack: Path, sky: SkyMade, folder: Path) -> np.ndarray:
    """Of bright, lonely stars of the stack, whose zero point is 30."""
    for name in ("default.conv", "default.param"):
        shutil.copy(CONFIGURATIONS / "sextractor" / name, folder)
    catalogue = folder / "stack.ldac"
    command = [
        shutil.which("source-extractor") or "sex", stack, "-c", CONFIGURATIONS / "sextractor/default.conf",
        "-CATALOG_TYPE", "FITS_LDAC", "-CATALOG_NAME", catalogue, "-MAG_ZEROPOINT", "30",
    ]  # fmt: skip
    subprocess.run(list(map(str, command)), cwd=folder, check=True, capture_output=True)
    found, sources = ldac.read(catalogue)[0].table, fits.getdata(sky.truth / "sources.fits")
    stars = sources[sources["star"] & (sources["neighbour"] > 6) & (sources["mag_r"] < 21) & (sources["mag_r"] > 17)]
    east = (found["ALPHAWIN_J2000"][None] - stars["ra"][:, None]) * np.cos(np.radians(stars["dec"]))[:, None]
    away = np.hypot(east, found["DELTAWIN_J2000"][None] - stars["dec"][:, None]) * 3600
    nearest = away.argmin(axis=1)
    good = (away.min(axis=1) < 0.5) & (found["FLAGS"][nearest] == 0)
    assert good.sum() > 30
    return np.asarray(found["MAG_APER"][nearest[good], 2] - stars["mag_r"][good])

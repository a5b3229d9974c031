"""QualityFITS on the made sky: its figures against the truth, planted defects found and graded down, clean ones not."""

from __future__ import annotations

import csv
import math
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from PIL import Image
from quality_sky import OPTIONS, STEM, doubled, figure, judged, made, rows_of, spoiled, with_exposures
from scipy.spatial import cKDTree

from spicad.archive.quality import FIGURES, FLAGS, PICTURES, TABLES, Counts, Report, read_report
from spicad.reduction import ldac
from spicad.reduction.keywords import read_orders
from spicad.reduction.qualityfits.settings import KEYWORDS, QUALITYFITS
from spicad.reduction.qualityfits.work import look_at
from spicad.reduction.sky import make_sky
from spicad.reduction.sky_options import SkyOptions

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parent.parent
WORSE = ("C", "D")


@pytest.fixture(scope="module")
def sky(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made(tmp_path_factory.mktemp("quality") / "sky", OPTIONS)


@pytest.fixture(scope="module")
def clean(sky: Path) -> Path:
    return sky / f"{STEM}.fits"


@pytest.fixture(scope="module")
def seen(sky: Path, clean: Path) -> tuple[Report, Path]:
    """The clean exposure, judged with all that comes with it, and where the products are."""
    folder = sky.parent / "seen"
    report = judged(clean, folder, MASK_NAME=sky / "badpix.fits", ASTREFCAT_NAME=sky / "refcat.cat")
    return report, folder


@pytest.fixture(scope="module")
def truth(sky: Path) -> dict[str, float]:
    with (sky / "truth/exposures.csv").open() as file:
        row = next(csv.DictReader(file))
    return {name: float(value) for name, value in row.items() if name not in ("object", "filter")}


# ---------------------------------------------------------------------- figures against the truth


def test_the_seeing_is_that_of_the_truth(seen: tuple[Report, Path], truth: dict[str, float]):
    report, _ = seen
    fwhm = truth["seeing_arcsec"]
    # The pixel widens the profile; a Moffat of beta 4 has a half-light diameter of 1.172 of its width.
    with_pixel = math.hypot(fwhm, OPTIONS.scale * math.sqrt(8 * math.log(2) / 12))

    assert figure(report, "fwhm") == pytest.approx(with_pixel, rel=0.03)
    assert figure(report, "seeing") == pytest.approx(1.172 * with_pixel, rel=0.03)


def test_the_background_is_that_of_the_truth(seen: tuple[Report, Path], truth: dict[str, float]):
    report, _ = seen

    assert figure(report, "background") == pytest.approx(truth["sky_adu"], rel=0.01)
    noise = math.sqrt(truth["sky_adu"] / 1.6 + (5 / 1.6) ** 2)
    assert figure(report, "noise") == pytest.approx(noise, rel=0.05)


def test_stars_are_counted(tmp_path: Path):
    """To where their signal-to-noise is 20, on a field that is not crowded, with galaxies among them."""
    options = SkyOptions(exposures=1, ccds=1, size=1500, filters=("r",), stars=600, seed=21)
    sky = made(tmp_path / "sky", options)

    report = judged(sky / f"{STEM}.fits", tmp_path, MASK_NAME=sky / "badpix.fits", WRITE_PLOTS="N")

    (catalogue,) = ldac.read(tmp_path / f"{STEM}.ldac")
    table, stars = catalogue.table, rows_of(sky / "truth/detections.fits", exposure=900001)
    places = np.column_stack([table["XWIN_IMAGE"], table["YWIN_IMAGE"]])
    distance, which = cKDTree(np.column_stack([stars["x"], stars["y"]])).query(places)
    same = (distance < 1) & (np.abs(table["SNR_WIN"] - 20) < 2) & (table["FLAGS"] == 0)
    faintest = np.median(stars["flux"][which[same]] / table["SNR_WIN"][same] * 20)
    wanted = np.count_nonzero((stars["flux"] > faintest) & ~stars["saturated"])
    assert figure(report, "stars") == pytest.approx(wanted, rel=0.05)


def test_magnitudes_and_the_limit_are_those_of_the_zero_point(seen: tuple[Report, Path]):
    report, folder = seen

    # PHOT_C is that of 1 ADU/s: 26 in r, 120 s.
    assert figure(report, "zero_point") == pytest.approx(26 + 2.5 * math.log10(120))
    table = np.concatenate([each.table for each in ldac.read(folder / f"{STEM}.ldac")])
    near = (table["SNR_WIN"] > 12) & (table["SNR_WIN"] < 18) & (table["FLAGS"] == 0)
    fainter = 2.5 * math.log10(15 / 5)
    limit = float(np.median(table["MAG_AUTO"][near])) + fainter
    assert figure(report, "limiting_magnitude") == pytest.approx(limit, abs=0.4)


def test_the_astrometry_is_held_against_the_reference(seen: tuple[Report, Path], truth: dict[str, float]):
    report, _ = seen

    east = (truth["header_ra"] - truth["ra"]) * 3600 * math.cos(math.radians(truth["dec"]))
    north = (truth["header_dec"] - truth["dec"]) * 3600
    # The CCDs lie some pixels off besides.
    assert figure(report, "ra_offset") == pytest.approx(east, abs=1.0)
    assert figure(report, "dec_offset") == pytest.approx(north, abs=1.0)
    assert figure(report, "reference_stars") > 100
    assert 0 < figure(report, "ra_scatter") < 0.5


def test_cosmic_rays_are_masked_and_stars_are_not(sky: Path, seen: tuple[Report, Path]):
    _, folder = seen
    hit = found = core = lost = 0
    for ccd, hdu in enumerate(fits.open(folder / f"{STEM}.flag.fits.fz")[1:]):
        flags, bad = hdu.data, fits.getdata(sky / "badpix.fits", ccd + 1) == 0
        cosmics = rows_of(sky / "truth/cosmics.fits", exposure=900001, ccd=ccd)
        x, y = cosmics["x"] - 1, cosmics["y"] - 1
        hit, found = hit + len(x), found + np.count_nonzero(flags[y, x] != 0)
        touched = bad.copy()
        touched[y, x] = True
        touched = _grown(touched, 2)
        stars = rows_of(sky / "truth/detections.fits", exposure=900001, ccd=ccd)
        rows, columns = np.mgrid[: flags.shape[0], : flags.shape[1]]
        on_star = np.zeros(flags.shape, bool)
        for star in stars[~stars["saturated"]]:
            on_star |= np.hypot(columns - star["x"] + 1, rows - star["y"] + 1) < 2.5
        core += np.count_nonzero(on_star & ~touched)
        lost += np.count_nonzero(on_star & ~touched & (flags & 4 != 0))

    assert hit > 300
    assert found >= 0.95 * hit
    assert core > 5000
    assert lost < 0.001 * core


def _grown(mask: np.ndarray, by: int) -> np.ndarray:
    grown = mask.copy()
    for row, column in zip(*np.nonzero(mask), strict=True):
        grown[max(0, row - by) : row + by + 1, max(0, column - by) : column + by + 1] = True
    return grown


def test_bad_pixels_of_the_mask_have_no_weight(sky: Path, seen: tuple[Report, Path]):
    report, folder = seen
    weights, flags = (fits.open(folder / f"{STEM}.{kind}.fits.fz") for kind in ("weight", "flag"))

    for ccd in range(OPTIONS.ccds):
        bad = fits.getdata(sky / "badpix.fits", ccd + 1) == 0
        assert (weights[ccd + 1].data[bad] == 0).all()
        assert (flags[ccd + 1].data[bad] & 2 == 2).all()
        assert weights[ccd + 1].header["ZCMPTYPE" if "ZCMPTYPE" in weights[ccd + 1].header else "BITPIX"]
    share = np.mean([np.mean(hdu.data == 0) for hdu in weights[1:]])
    assert figure(report, "bad_pixel_fraction") == pytest.approx(share, rel=1e-3)


def test_galaxies_are_counted_against_what_is_expected(sky: Path, clean: Path, tmp_path: Path):
    quality = tmp_path / "quality"
    quality.mkdir()
    (quality / "generic.toml").write_text(
        'title = "x"\n[[limit]]\nfigure = "galaxy_counts_ratio"\nbelow = { C = 0.5 }\n'
        'comment = "galaxy counts below expectations"\n'
        "[counts.r]\nat = 21\ngalaxies = 90000\nslope = 0.4\nfrom = 18\nto = 23\n"
    )

    report = judged(clean, tmp_path, MASK_NAME=sky / "badpix.fits", QUALITY_DIR=quality, WRITE_PLOTS="N")

    assert 0 < figure(report, "galaxy_counts_ratio") < 0.5
    assert (report.grade, report.comments) == ("C", ("galaxy counts below expectations",))
    assert len(report.counts.expected) == len(report.counts.magnitude) > 3


def test_a_clean_exposure_is_an_a_and_everything_is_there(seen: tuple[Report, Path]):
    report, folder = seen

    assert (report.grade, report.reasons, report.problem) == ("A", (), "")
    read = read_report(folder / f"{STEM}.quality.json")
    assert replace(read, figures={}, ccds=(), counts=Counts()) == replace(report, figures={}, ccds=(), counts=Counts())
    assert {name: pytest.approx(value) for name, value in read.figures.items()} == report.figures
    assert {tool.name for tool in report.tools} == {"SExtractor", "WeightWatcher", "PSFEx", "fpack"}
    of_exposures = set(PICTURES) - {"depth", "coverage", "comparison"}
    for suffix in [TABLES[kind] for kind in TABLES if kind != "origins"] + [PICTURES[kind][0] for kind in of_exposures]:
        assert (folder / f"{STEM}{suffix}").stat().st_size > 0, suffix
    assert not list(folder.glob(".*"))


def test_only_products_stay_in_the_scratch_folder(clean: Path, tmp_path: Path):
    scratch, out = tmp_path / "scratch", tmp_path / "out"
    scratch.mkdir()
    out.mkdir()
    orders = read_orders(QUALITYFITS, [str(clean), "-WRITE_PLOTS", "N"])
    assert orders is not None

    look_at(clean, out, scratch, orders.values)

    for ccd in range(OPTIONS.ccds):
        left = {path.name for path in (scratch / f"ccd{ccd:03d}").iterdir()}
        assert left == {"weight.fits.fz", "flag.fits.fz", "high.psf"}


def test_the_tables_tell_the_same(seen: tuple[Report, Path]):
    report, folder = seen
    table = fits.getdata(folder / f"{STEM}.quality.fits", "QUALITY")
    with (folder / f"{STEM}.quality.csv").open() as file:
        rows = list(csv.DictReader(file))

    assert [row["ccd"] for row in rows] == [ccd.name for ccd in report.ccds] + [""]
    for number, ccd in enumerate(report.ccds):
        assert table["seeing"][number] == pytest.approx(ccd.figures["seeing"])
        assert float(rows[number]["seeing"]) == pytest.approx(ccd.figures["seeing"])
    assert float(rows[-1]["stars"]) == report.figures["stars"]
    from astropy.io.votable import parse_single_table

    votable = parse_single_table(folder / f"{STEM}.quality.xml")
    assert list(votable.array["ccd"]) == [ccd.name for ccd in report.ccds]


# ---------------------------------------------------------------------- pictures


def test_ccds_lie_in_the_preview_as_on_the_sky(clean: Path, tmp_path: Path):
    """Each CCD has its own grey, and a mark in the corner of it that is the north-east: upper left on the sky."""
    greys = (1000.0, 1400.0, 1800.0, 2200.0)

    def paint(hdus: fits.HDUList) -> None:
        for number, hdu in enumerate(hdus[1:]):
            rng = np.random.default_rng(number)
            hdu.data = rng.normal(greys[number], 5, hdu.data.shape).astype(np.float32)
            turned = hdu.header["CD1_1"] > 0
            corner = np.s_[:150, -150:] if turned else np.s_[-150:, :150]  # rows from below, east to the left
            hdu.data[corner] = 4000
            hdu.data[200:210, 200:210] = 9000

    pattern = spoiled(clean, tmp_path / "pattern.fits", paint)

    judged(pattern, tmp_path, PREVIEW_SIZE=800, COSMIC_RAYS="N", TRAILS="N")

    picture = np.asarray(Image.open(tmp_path / "pattern.quality-preview.png"), float)
    height, width = picture.shape
    # On the sky: ccd02 north-east (upper left), ccd03 north-west, ccd00 south-east, ccd01 south-west.
    quadrants = {
        2: picture[: height // 2, : width // 2],
        3: picture[: height // 2, width // 2 :],
        0: picture[height // 2 :, : width // 2],
        1: picture[height // 2 :, width // 2 :],
    }
    levels = {number: float(np.median(part)) for number, part in quadrants.items()}
    assert sorted(levels, key=lambda number: levels[number]) == [0, 1, 2, 3]
    for number, part in quadrants.items():
        rows, columns = np.nonzero(part > 0.5 * (levels[number] + part.max()))
        side_y, side_x = part.shape
        assert np.median(rows) < 0.35 * side_y, f"the mark of ccd{number:02d} is not in the north"
        assert np.median(columns) < 0.35 * side_x, f"the mark of ccd{number:02d} is not in the east"


# ---------------------------------------------------------------------- planted defects


def _shift(hdus: fits.HDUList) -> None:
    hdus[2].header["CRPIX1"] += 60


def _invert(hdus: fits.HDUList) -> None:
    hdus[3].data = hdus[3].data[::-1, ::-1].copy()


def _mirror(hdus: fits.HDUList) -> None:
    hdus[3].data = hdus[3].data[:, ::-1].copy()


def _kill(hdus: fits.HDUList) -> None:
    hdus[4].data[:] = 0


def _darken(hdus: fits.HDUList) -> None:
    hdus[1].data[:] = np.random.default_rng(1).normal(0, 3, hdus[1].data.shape)


def _darken_half(hdus: fits.HDUList) -> None:
    half = hdus[1].data[:, :260]
    half[:] = np.random.default_rng(1).normal(0, 3, half.shape)


def _move_pointing(hdus: fits.HDUList) -> None:
    for hdu in hdus[1:]:
        hdu.header["CRVAL2"] += 0.4


def _blow_up(hdus: fits.HDUList) -> None:
    for hdu in hdus[1:]:
        hdu.header["CD1_1"] *= 1.4
        hdu.header["CD2_2"] *= 1.4


def _flip_sign(hdus: fits.HDUList) -> None:
    for hdu in hdus[1:]:
        hdu.header["CD1_1"] *= -1


def _drop_one(hdus: fits.HDUList) -> None:
    del hdus[4]


DEFECTS: dict[str, tuple[Callable[[fits.HDUList], None], str, str]] = {
    "a shifted CCD": (_shift, "ccds_shifted", "astrometric keyword problem, some CCDs off"),
    "an inverted CCD": (_invert, "ccds_inverted", "astrometric keyword problem, some CCDs off"),
    "a mirrored CCD": (_mirror, "ccds_inverted", "astrometric keyword problem, some CCDs off"),
    "a dead CCD": (_kill, "ccds_dead", "CCDs or half-CCDs missing"),
    "a CCD without light": (_darken, "ccds_dead", "CCDs or half-CCDs missing"),
    "half a CCD without light": (_darken_half, "ccds_dead", "CCDs or half-CCDs missing"),
    "a CCD that is not there": (_drop_one, "ccds_missing", "CCDs or half-CCDs missing"),
    "a wrong pointing": (_move_pointing, "ccds_unmatched", "astrometric keyword problem, some CCDs off"),
    "a wrong scale": (_blow_up, "ccds_unmatched", "astrometric keyword problem, some CCDs off"),
    "a wrong sign": (_flip_sign, "ccds_unmatched", "astrometric keyword problem, some CCDs off"),
}


@pytest.mark.parametrize("defect", DEFECTS)
def test_a_planted_defect_is_found_and_graded_down(sky: Path, clean: Path, tmp_path: Path, defect: str):
    spoil, name, comment = DEFECTS[defect]
    exposure = spoiled(clean, tmp_path / "spoiled.fits", spoil)

    report = judged(exposure, tmp_path, ASTREFCAT_NAME=sky / "refcat.cat", WRITE_PLOTS="N")

    assert figure(report, name) >= 1
    assert report.grade in WORSE
    assert comment in report.comments


def test_a_reference_catalogue_of_another_field_counts_neither_for_nor_against_an_exposure(
    sky: Path, clean: Path, tmp_path: Path
):
    def move_far(hdus: fits.HDUList) -> None:
        for hdu in hdus[1:]:
            hdu.header["CRVAL1"] += 40

    exposure = spoiled(clean, tmp_path / "elsewhere.fits", move_far)

    report = judged(exposure, tmp_path, ASTREFCAT_NAME=sky / "refcat.cat", WRITE_PLOTS="N")

    without = judged(exposure, tmp_path, OUTPUT_NAME="without", WRITE_PLOTS="N")
    assert report.grade == without.grade
    assert report.figures == without.figures
    assert report.figures["ccds_unmatched"] is None
    assert any(note.startswith("no reference here") for note in report.notes)


def test_a_ccd_whose_header_puts_it_on_another_is_found_without_a_catalogue(clean: Path, tmp_path: Path):
    def shift(hdus: fits.HDUList) -> None:
        hdus[2].header["CRPIX1"] += 200

    exposure = spoiled(clean, tmp_path / "spoiled.fits", shift)

    report = judged(exposure, tmp_path, WRITE_PLOTS="N")

    assert figure(report, "ccds_shifted") >= 1
    assert report.grade in WORSE


@pytest.mark.parametrize("has_catalogue", [True, False])
@pytest.mark.parametrize(("card", "pixels"), [("CRPIX1", 70), ("CRPIX1", -150), ("CRPIX2", 120)])
def test_the_ccd_that_is_shifted_is_named_and_no_other(
    sky: Path, clean: Path, tmp_path: Path, card: str, pixels: float, has_catalogue: bool
):
    def shift(hdus: fits.HDUList) -> None:
        hdus[2].header[card] += pixels

    exposure = spoiled(clean, tmp_path / "shifted.fits", shift)
    given = {"ASTREFCAT_NAME": sky / "refcat.cat"} if has_catalogue else {}

    report = judged(exposure, tmp_path, WRITE_PLOTS="N", **given)

    assert [ccd.name for ccd in report.ccds if ccd.problem] == ["ccd01"]
    assert figure(report, "ccds_shifted") == 1
    assert report.grade == "C"


def test_elongated_images_are_found(tmp_path: Path):
    sky = made(tmp_path / "sky", OPTIONS, lambda truth: with_exposures(truth, e1=0.3, e2=0.1))

    report = judged(sky / f"{STEM}.fits", tmp_path, WRITE_PLOTS="N")

    assert "elongated image" in report.comments
    assert report.grade in WORSE
    # e1 along the focal plane's x axis, which is west; half of atan2(0.1, 0.3) from it towards north.
    assert figure(report, "ellipticity_angle") == pytest.approx(90 - 9.2, abs=6) or figure(
        report, "ellipticity_angle"
    ) == pytest.approx(90 + 9.2, abs=6)


def test_doubled_images_are_found(tmp_path: Path):
    sky = made(tmp_path / "sky", OPTIONS, lambda truth: doubled(truth, arcsec=6.0, fainter_mag=0.4))

    report = judged(sky / f"{STEM}.fits", tmp_path, WRITE_PLOTS="N")

    assert "doubled objects" in report.comments
    assert report.grade in WORSE
    assert figure(report, "doubled_distance") == pytest.approx(6.0, abs=0.4)


def test_a_satellite_trail_is_found_and_masked(tmp_path: Path):
    sky = made(tmp_path / "sky", replace(OPTIONS, trail=True))

    report = judged(sky / f"{STEM}.fits", tmp_path, WRITE_PLOTS="N")

    assert 1 <= figure(report, "trails") <= 4
    assert "satellite trail" in report.comments
    assert report.grade in ("B", *WORSE)
    flags = [hdu.data for hdu in fits.open(tmp_path / f"{STEM}.flag.fits.fz")[1:]]
    assert sum(np.count_nonzero(each & 8) for each in flags) > 5 * OPTIONS.size


@pytest.mark.parametrize("seed", [3, 4])
def test_other_clean_exposures_are_not_graded_down(tmp_path: Path, seed: int):
    sky = made(tmp_path / "sky", replace(OPTIONS, seed=seed, filters=("g", "r")))

    for exposure in sorted(sky.glob("9*p.fits")):
        report = judged(exposure, tmp_path, ASTREFCAT_NAME=sky / "refcat.cat", WRITE_PLOTS="N")
        assert (report.grade, report.reasons) == ("A", ())


# ---------------------------------------------------------------------- broken inputs


def _command(*words: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "spicad.reduction.qualityfits", *map(str, words)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_raw_frame_is_called_one(tmp_path: Path, clean: Path, seen: tuple[Report, Path]):
    sky = make_sky(tmp_path / "sky", replace(OPTIONS, ccds=1, size=300, raw=True))

    report = judged(sky.raw[0], tmp_path, WRITE_PLOTS="N")

    assert any("a raw frame; see preprocess(1)" in note for note in report.notes)
    assert not any("raw frame" in note for note in seen[0].notes)


def _cut(clean: Path, path: Path) -> None:
    path.write_bytes(clean.read_bytes()[: clean.stat().st_size // 2])


def _text(clean: Path, path: Path) -> None:
    path.write_text("no image at all\n" * 300)


def _no_image(clean: Path, path: Path) -> None:
    fits.HDUList([fits.PrimaryHDU()]).writeto(path)


def _nothing(clean: Path, path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize("spoil", [_cut, _text, _no_image, _nothing])
def test_what_is_no_exposure_ends_with_a_report_that_says_why(clean: Path, tmp_path: Path, spoil):
    path = tmp_path / "broken.fits"
    spoil(clean, path)

    done = _command(path, "-OUTPUT_DIR", tmp_path)

    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    report = read_report(tmp_path / "broken.quality.json")
    assert report.grade == "D"
    assert report.problem
    assert f"qualityfits: broken.fits: {report.problem[:60]}" in done.stderr
    assert "broken.fits" not in report.problem


def _all_nan(hdus: fits.HDUList) -> None:
    for hdu in hdus[1:]:
        hdu.data[:] = np.nan


def _all_saturated(hdus: fits.HDUList) -> None:
    for hdu in hdus[1:]:
        hdu.data[:] = 65535


def _no_wcs(hdus: fits.HDUList) -> None:
    for hdu in hdus[1:]:
        for card in ("CTYPE1", "CTYPE2", "CRVAL1", "CRVAL2", "CRPIX1", "CRPIX2", "CD1_1", "CD2_2"):
            del hdu.header[card]


def _bad_wcs(hdus: fits.HDUList) -> None:
    for hdu in hdus[1:]:
        hdu.header["CD1_1"] = hdu.header["CD2_2"] = 0.0


@pytest.mark.parametrize(
    ("spoil", "grades"),
    [(_all_nan, "D"), (_all_saturated, "D"), (_no_wcs, "ABCD"), (_bad_wcs, "ABCD")],
)
def test_an_odd_exposure_is_judged_all_the_same(sky: Path, clean: Path, tmp_path: Path, spoil, grades: str):
    exposure = spoiled(clean, tmp_path / "odd.fits", spoil)

    report = judged(exposure, tmp_path, ASTREFCAT_NAME=sky / "refcat.cat")

    assert report.grade in grades
    assert (tmp_path / "odd.quality-preview.png").stat().st_size > 0
    assert read_report(tmp_path / "odd.quality.json").problem == ""


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["-SEEING", "1"], "no such keyword"),
        (["-BACK_SIZE", "2"], "must be at least 16"),
        (["-OUTPUT_DIR", "nowhere"], "there is no such folder"),
        (["-MASK_NAME", "absent.fits"], "absent.fits"),
        (["-SATUR_LEVEL", "high"], "must be AUTO or a number"),
        (["-MAG_ZEROPOINT", "inf"], "must be AUTO or a number"),
        (["-PIXEL_SCALE", "-1"], "must be more than 0"),
        (["-OUTPUT_NAME", "../other"], "no name of a file"),
    ],
)
def test_a_wrong_keyword_is_refused_in_words(clean: Path, tmp_path: Path, words: list[str], said: str):
    more = [] if "-OUTPUT_DIR" in words else ["-OUTPUT_DIR", str(tmp_path)]

    done = _command(clean, *words, *more)

    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_a_mask_of_another_size_is_named(sky: Path, clean: Path, tmp_path: Path):
    mask = tmp_path / "mask.fits"
    fits.HDUList([fits.PrimaryHDU(), *(fits.ImageHDU(np.ones((9, 9), np.uint8)) for _ in range(4))]).writeto(mask)

    done = _command(clean, "-MASK_NAME", mask, "-OUTPUT_DIR", tmp_path)

    assert done.returncode == 2
    assert "9 x 9 pixels, not 520 x 520" in done.stderr


# ---------------------------------------------------------------------- the manual


def test_the_manual_tells_every_keyword_figure_and_file():
    text = (ROOT / "man/qualityfits.1").read_text()

    for keyword in KEYWORDS:
        default = {"": "", ".": " .\\&"}.get(keyword.default, f" {keyword.default}")
        assert f".It Ic {keyword.name} Ns \\ ={default}\n" in text
    for one in FIGURES:
        assert f".It Ic {one.name}\n{one.help}" in text
    for suffix in [*TABLES.values(), *(suffix for suffix, _ in PICTURES.values())]:
        assert f"NAME{suffix}" in text
    for bit, words in FLAGS.items():
        assert f".It {bit}\n{words}\n" in text

"""The made sky: its truth is in its pixels and headers, its bytes come from the seed, and half a sky is none.

What the reduction tools make of such a sky is tested end to end elsewhere.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import hashlib
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS

from spicad.commands import sky as command
from spicad.reduction import sky_files
from spicad.reduction.sky import main, make_sky
from spicad.reduction.sky_options import FORMATS, SkyOptions
from spicad.reduction.sky_truth import planted, reference_of
from spicad.words import BadInput

TINY = SkyOptions(exposures=2, ccds=3, size=160, stars=12, filters=("r",), seed=7)
QUIET = dataclasses.replace(TINY, cosmics=False, bad_pixels=False, stars=30, seed=2)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return make_sky(tmp_path_factory.mktemp("sky") / "tiny", TINY)


@pytest.fixture(scope="module")
def quiet(tmp_path_factory):
    return make_sky(tmp_path_factory.mktemp("sky") / "quiet", QUIET)


def digests(folder: Path) -> dict[str, str]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def truth_of(sky, name):
    return fits.getdata(sky.truth / name)


def rows_of(sky, name):
    with (sky.truth / name).open() as file:
        return list(csv.DictReader(file))


def pixels_of(sky, exposure, ccd):
    path = next(path for path in sky.exposures if path.name.startswith(str(exposure)))
    return fits.getdata(path, f"ccd{ccd:02d}").astype(float)


def centroid(image, x, y):
    """Gaussian-weighted and iterated, with FITS pixels in and out."""
    rows, columns = np.indices(image.shape) + 1
    light = image - np.median(image)
    for _ in range(20):
        weight = light * np.exp(-0.5 * ((columns - x) ** 2 + (rows - y) ** 2) / 2.0**2)
        x += 2 * (weight * (columns - x)).sum() / weight.sum()
        y += 2 * (weight * (rows - y)).sum() / weight.sum()
    return x, y


def isolated_bright_stars(sky, arcsec=3.0):
    """Detections far from other sources and from the borders, bright and not saturated."""
    sources, size = truth_of(sky, "sources.fits"), TINY.size
    for star in truth_of(sky, "detections.fits"):
        inside = 15 < star["x"] < size - 14 and 15 < star["y"] < size - 14
        lonely = sources["neighbour"][star["id"]] > arcsec
        if inside and lonely and not star["saturated"] and star["flux"] > 20000:
            yield star


def test_the_same_options_and_seed_give_the_same_bytes(made, tmp_path):
    again = make_sky(tmp_path / "elsewhere", TINY)

    assert digests(again.folder) == digests(made.folder)


@pytest.mark.parametrize("format", ["fits.fz", "fits.gz"])
def test_compressed_skies_are_reproducible_too(format, tmp_path):
    small = dataclasses.replace(TINY, ccds=1, size=64, format=format)

    first, second = (make_sky(tmp_path / name, small) for name in ("first", "second"))

    assert digests(first.folder) == digests(second.folder)


def test_another_seed_is_another_sky(made, tmp_path):
    other = make_sky(tmp_path / "other", dataclasses.replace(TINY, seed=8))

    ours, theirs = digests(made.folder), digests(other.folder)
    assert ours.keys() == theirs.keys()
    assert not set(ours.values()) & set(theirs.values())


def test_more_exposures_leave_the_stars_and_the_camera_as_they_were(made, tmp_path):
    wider = make_sky(tmp_path / "wider", dataclasses.replace(TINY, exposures=3))

    ours, theirs = digests(made.folder), digests(wider.folder)
    same = ("truth/sources.fits", "truth/ccds.csv", "badpix.fits", "refcat.cat")
    assert [theirs[name] for name in same] == [ours[name] for name in same]


def test_stars_are_in_the_pixels_where_the_truth_says(quiet):
    stars = list(isolated_bright_stars(quiet))

    assert len(stars) >= 5
    for star in stars:
        x, y = centroid(pixels_of(quiet, star["exposure"], star["ccd"]), star["x"], star["y"])
        assert np.hypot(x - star["x"], y - star["y"]) < 0.1


def test_magnitudes_zero_points_and_fluxes_in_the_pixels_agree(quiet):
    sources = truth_of(quiet, "sources.fits")
    zero_point = {int(row["number"]): float(row["zeropoint"]) for row in rows_of(quiet, "exposures.csv")}
    sky = {int(row["number"]): float(row["sky_adu"]) for row in rows_of(quiet, "exposures.csv")}
    dzp = {int(row["number"]): float(row["dzp"]) for row in rows_of(quiet, "ccds.csv")}

    stars = list(isolated_bright_stars(quiet, arcsec=4.5))

    assert len(stars) >= 5
    for star in stars:
        image = pixels_of(quiet, star["exposure"], star["ccd"]) - sky[star["exposure"]]
        rows, columns = np.indices(image.shape) + 1
        flux = image[np.hypot(columns - star["x"], rows - star["y"]) < 10].sum()
        measured = zero_point[star["exposure"]] + dzp[star["ccd"]] - 2.5 * np.log10(flux)
        assert star["flux"] == pytest.approx(flux, rel=0.05)
        assert measured == pytest.approx(sources["mag_r"][star["id"]], abs=0.05)


def test_saturated_stars_reach_the_saturation_level_and_no_others_do(quiet):
    seen = {True: 0, False: 0}

    for star in truth_of(quiet, "detections.fits"):
        value = pixels_of(quiet, star["exposure"], star["ccd"])[round(star["y"]) - 1, round(star["x"]) - 1]
        # Noise is 200 ADU at this level.
        assert value > 61000 if star["saturated"] else value < 63000
        seen[bool(star["saturated"])] += 1

    assert seen[True] > 0
    assert seen[False] > 10


def test_planted_cosmic_rays_are_where_the_truth_says(made, tmp_path):
    without = make_sky(tmp_path / "without", dataclasses.replace(TINY, cosmics=False))
    cosmics = truth_of(made, "cosmics.fits")

    assert len(cosmics) > 20
    assert cosmics["adu"].max() > 500
    for number in (900001, 900002):
        for ccd in range(TINY.ccds):
            here = cosmics[(cosmics["exposure"] == number) & (cosmics["ccd"] == ccd)]
            planted = np.zeros((TINY.size, TINY.size))
            planted[here["y"] - 1, here["x"] - 1] = here["adu"]
            with_them = pixels_of(made, number, ccd)
            difference = with_them - pixels_of(without, number, ccd)
            tellable = (fits.getdata(made.bad_pixels, f"ccd{ccd:02d}") == 1) & (with_them < 60000)
            assert np.abs(difference - planted)[tellable].max() <= 1
    assert len(truth_of(without, "cosmics.fits")) == 0


def test_bad_pixels_are_where_the_map_says_and_the_same_in_all_exposures(made, tmp_path):
    clean = make_sky(tmp_path / "clean", dataclasses.replace(TINY, bad_pixels=False))

    for ccd in range(TINY.ccds):
        bad = fits.getdata(made.bad_pixels, f"ccd{ccd:02d}") == 0
        assert 50 < bad.sum() < 500
        assert bad.sum(axis=0).max() >= TINY.size // 2, "a bad column"
        for path in made.exposures:
            number = int(path.name[:6])
            altered = pixels_of(made, number, ccd) != pixels_of(clean, number, ccd)
            assert (altered <= bad).all()
            assert altered.sum() > 0.9 * bad.sum()
    assert (fits.getdata(clean.bad_pixels, "ccd00") == 1).all()


def test_the_header_wcs_is_off_by_what_was_planted_and_no_more(made):
    sources, detections = truth_of(made, "sources.fits"), truth_of(made, "detections.fits")
    offsets = []
    for path, exposure in zip(made.exposures, rows_of(made, "exposures.csv"), strict=True):
        shift = np.array([float(exposure["ra"]) - float(exposure["header_ra"]), 0.0])
        shift[0] *= 3600 * np.cos(np.radians(float(exposure["dec"])))
        shift[1] = 3600 * (float(exposure["dec"]) - float(exposure["header_dec"]))
        for ccd in range(TINY.ccds):
            here = detections[(detections["exposure"] == int(path.name[:6])) & (detections["ccd"] == ccd)]
            star = sources[here["id"]]
            ra, dec = WCS(fits.getheader(path, f"ccd{ccd:02d}")).all_pix2world(here["x"], here["y"], 1)
            off = np.c_[(ra - star["ra"]) * np.cos(np.radians(dec)), dec - star["dec"]] * 3600
            offsets.append(np.hypot(*(off + shift).T))
            assert np.hypot(*shift) > 0.1

    # What is left without the pointing error: CCD shifts (0.4 arcsec an axis), distortion (0.4 in the corner here).
    left = np.concatenate(offsets)
    assert 0.1 < np.median(left) < 1.5
    assert left.max() < 2.5


def test_a_turned_ccd_says_so_in_its_header(made):
    turned = [row["turned"] == "1" for row in rows_of(made, "ccds.csv")]

    signs = [fits.getheader(made.exposures[0], row["name"])["CD2_2"] for row in rows_of(made, "ccds.csv")]

    assert True in turned
    assert False in turned
    assert [sign < 0 for sign in signs] == turned


@pytest.mark.parametrize("format", FORMATS)
def test_every_keyword_has_its_comment_and_no_date_of_writing(format, tmp_path):
    sky = make_sky(tmp_path / "sky", dataclasses.replace(TINY, ccds=1, size=64, exposures=1, format=format))

    for path in (*sky.exposures, sky.bad_pixels):
        with fits.open(path, disable_image_compression=True) as hdus:
            cards = [card for hdu in hdus for card in hdu.header.cards]
    assert [card.keyword for card in cards if not card.comment] == []
    assert "DATE" not in {card.keyword for card in cards}


def test_the_checksums_hold(made):
    for path in (*made.exposures, made.bad_pixels, *made.truth.glob("*.fits")):
        with fits.open(path, checksum=True) as hdus:
            assert all(hdu.verify_checksum() == 1 and hdu.verify_datasum() == 1 for hdu in hdus)


def test_the_headers_are_those_of_a_pre_processed_exposure(made):
    with fits.open(made.exposures[0]) as hdus:
        assert hdus[0].data is None
        for keyword in ("INSTRUME", "TELESCOP", "FILTER", "OBJECT", "RUNID", "EXPTIME", "AIRMASS", "DATE-OBS"):
            assert hdus[0].header[keyword] == hdus[1].header[keyword]
        assert [hdu.header["EXTNAME"] for hdu in hdus[1:]] == ["ccd00", "ccd01", "ccd02"]
        assert {"GAIN", "SATURATE", "RDNOISE", "CRVAL1", "CD2_2"} <= set(hdus[1].header)
        assert re.fullmatch(r"\d\d:\d\d:\d\d\.\d+", hdus[0].header["RA"])
        assert hdus[0].header["DEC"][0] in "+-"


@pytest.mark.parametrize("format", ["fits.fz", "fits.gz"])
def test_compressed_exposures_hold_the_same_pixels(format, made, tmp_path):
    packed = make_sky(tmp_path / "packed", dataclasses.replace(TINY, format=format))

    assert all(path.name.endswith(f".{format}") for path in (*packed.exposures, packed.bad_pixels))
    for ours, theirs in zip((*made.exposures, made.bad_pixels), (*packed.exposures, packed.bad_pixels), strict=True):
        with fits.open(ours) as plain, fits.open(theirs) as other:
            assert len(plain) == len(other) == TINY.ccds + 1
            for ccd in range(1, len(plain)):
                assert (plain[ccd].data == other[ccd].data).all()


@pytest.mark.parametrize("format", FORMATS)
def test_a_single_exposure_has_its_image_without_extensions(format, tmp_path):
    sky = make_sky(
        tmp_path / "sky", SkyOptions(1, ccds=1, size=64, filters=("g",), single=True, format=format, stars=3)
    )

    with fits.open(sky.exposures[0]) as hdus:
        images = [hdu for hdu in hdus if hdu.data is not None]
        assert len(hdus) == (2 if format == "fits.fz" else 1)
        assert len(images) == 1
        assert images[0].data.shape == (64, 64)
        assert images[0].header["FILTER"] == "g.SIM01"
        assert "CRVAL1" in images[0].header


def test_a_trail_crosses_only_the_last_exposure_of_a_filter(tmp_path):
    plain, crossed = (
        make_sky(tmp_path / str(trail), dataclasses.replace(QUIET, trail=trail)) for trail in (False, True)
    )

    changed = [
        max(np.abs(pixels_of(crossed, number, ccd) - pixels_of(plain, number, ccd)).max() for ccd in range(TINY.ccds))
        for number in (900001, 900002)
    ]

    assert changed[0] == 0
    assert changed[1] > 50
    assert [row["trail"] for row in rows_of(crossed, "exposures.csv")] == ["0", "1"]


def test_fields_are_far_apart_and_named(tmp_path):
    sky = make_sky(tmp_path / "sky", SkyOptions(exposures=1, ccds=1, size=64, filters=("r",), fields=8, stars=4))

    centres = {
        row["object"]: (float(row["header_ra"]), float(row["header_dec"])) for row in rows_of(sky, "exposures.csv")
    }
    ra, dec = np.radians(np.array(list(centres.values()))).T
    directions = np.array([np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)])
    assert list(centres)[:3] == ["SPICA-A", "SPICA-B", "SPICA-C"]
    assert len(centres) == 8
    assert np.degrees(np.arccos(np.sort(directions.T @ directions)[:, -2])).min() > 5


def test_the_reference_catalogue_is_true_to_its_errors():
    truth = planted(SkyOptions())

    reference = reference_of(truth)

    stars, errors = truth.sources.star, reference.error_arcsec
    ra, dec, mag = truth.sources.ra[stars], truth.sources.dec[stars], truth.sources.mag["r"][stars]
    dx = (reference.ra[:, None] - ra) * np.cos(np.radians(dec)) * 3600
    distance = np.hypot(dx, (reference.dec[:, None] - dec) * 3600)
    junk = distance.min(axis=1) > 0.5
    absent = distance[:, mag < reference.mag.max() - 0.2].min(axis=0) > 0.5
    pulls = distance.min(axis=1)[~junk] / errors[~junk]
    assert 0.002 < junk.mean() < 0.02
    assert 0.05 < absent.mean() < 0.12
    assert 0.03 <= errors.min() < errors.max() <= 0.06
    assert np.sqrt((pulls**2).mean() / 2) == pytest.approx(1, abs=0.1)


def test_the_reference_catalogue_is_ldac(made):
    with fits.open(made.reference) as hdus:
        assert [hdu.name for hdu in hdus] == ["PRIMARY", "LDAC_IMHEAD", "LDAC_OBJECTS"]
        assert hdus[1].columns.formats == ["2880A"]
        assert hdus[2].columns.names[:4] == ["X_WORLD", "Y_WORLD", "ERRA_WORLD", "ERRB_WORLD"]
        assert hdus[2].columns.names[4:] == ["ERRTHETA_WORLD", "MAG", "MAGERR", "OBSDATE"]
        assert len(hdus[2].data) > 20


def test_the_same_sky_is_found_and_not_made_again(made):
    before = {path: path.stat().st_mtime_ns for path in made.folder.rglob("*")}

    again = make_sky(made.folder, TINY)

    assert again == dataclasses.replace(made, reused=True)
    assert {path: path.stat().st_mtime_ns for path in made.folder.rglob("*")} == before


SMALL = dataclasses.replace(TINY, ccds=1, size=64, exposures=1)


@pytest.fixture
def interrupted(monkeypatch):
    """A making that ends after its exposures, as by Control-C."""

    def cut(*_):
        raise KeyboardInterrupt

    def make(*arguments, **more):
        with monkeypatch.context() as patch:
            patch.setattr(sky_files, "write_reference", cut)
            with pytest.raises(KeyboardInterrupt):
                make_sky(*arguments, **more)

    return make


def test_a_folder_that_holds_something_else_is_left_alone(tmp_path):
    (tmp_path / "900001p.fits").write_text("mine")

    with pytest.raises(BadInput, match=r"not empty.*--force"):
        make_sky(tmp_path, SMALL)

    assert [path.name for path in tmp_path.iterdir()] == ["900001p.fits"]
    assert (tmp_path / "900001p.fits").read_text() == "mine"


def test_another_sky_is_replaced_only_by_force_and_leaves_nothing_behind(tmp_path):
    make_sky(tmp_path, SMALL)
    (tmp_path / "notes.txt").write_text("mine")
    before, two = digests(tmp_path), dataclasses.replace(SMALL, exposures=1, format="fits.gz")

    with pytest.raises(BadInput, match=r"other options.*--force"):
        make_sky(tmp_path, two)
    assert digests(tmp_path) == before

    make_sky(tmp_path, two, force=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "900001p.fits.gz",
        "badpix.fits.gz",
        "notes.txt",
        "refcat.cat",
        "truth",
    ]


def test_force_removes_only_what_a_sky_consists_of(tmp_path):
    sky = make_sky(tmp_path / "sky", SMALL)
    (tmp_path / "precious").write_text("mine")
    params = json.loads((sky.truth / "params.json").read_text())
    (sky.truth / "params.json").write_text(json.dumps({**params, "files": {"../precious": 4}}))

    make_sky(sky.folder, SMALL, force=True)

    assert (tmp_path / "precious").read_text() == "mine"


def test_an_interrupted_making_is_no_sky_and_is_made_again(tmp_path, interrupted):
    whole = make_sky(tmp_path / "whole", SMALL)

    interrupted(tmp_path / "half", SMALL)
    assert (tmp_path / "half/900001p.fits").exists()
    assert not (tmp_path / "half/truth/params.json").exists()
    with pytest.raises(BadInput, match="--force"):
        make_sky(tmp_path / "half", TINY)

    again = make_sky(tmp_path / "half", SMALL)

    assert not again.reused
    assert digests(again.folder) == digests(whole.folder)


def test_an_interrupted_replacement_does_not_pass_for_the_old_sky(tmp_path, interrupted):
    make_sky(tmp_path, SMALL)

    interrupted(tmp_path, dataclasses.replace(SMALL, seed=99), force=True)

    with pytest.raises(BadInput, match="--force"):
        make_sky(tmp_path, SMALL)


@pytest.mark.parametrize("harm", [Path.unlink, lambda path: path.write_bytes(path.read_bytes()[:-2880])])
def test_a_sky_with_a_missing_or_cut_file_is_named_and_not_reused(harm, tmp_path):
    sky = make_sky(tmp_path, SMALL)
    harm(sky.exposures[0])

    with pytest.raises(BadInput, match=r"900001p\.fits.*--force"):
        make_sky(tmp_path, SMALL)

    assert not make_sky(tmp_path, SMALL, force=True).reused


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"exposures": 0}, "--exposures: 0 is outside 1 to 999"),
        ({"size": 10}, "--size: 10"),
        ({"filters": ("g", "g")}, "twice"),
        ({"filters": ("../r",)}, "--filters"),
        ({"format": "png"}, "--format"),
        ({"single": True}, "--single.*Use --ccds 1"),
        ({"exposures": 999, "fields": 99, "filters": ("g", "r")}, "more than 99999"),
    ],
)
def test_wrong_options_are_refused_with_the_mend(wrong, says):
    with pytest.raises(BadInput, match=says):
        SkyOptions(**wrong)


def test_the_command_makes_a_sky_and_says_where(tmp_path, capsys):
    arguments = [str(tmp_path / "sky"), "--exposures=1", "--size=64", "--single", "--filters=r", "--stars=3"]

    assert main(arguments) == 0
    made = capsys.readouterr()
    assert main(arguments) == 0
    reused = capsys.readouterr()

    assert "1 exposures made" in made.out
    assert "1 exposures already there" in reused.out
    assert made.err == ""
    assert (tmp_path / "sky/900001p.fits").exists()


def test_the_command_refuses_with_status_2_and_the_reason(tmp_path, capsys):
    (tmp_path / "mine").write_text("mine")

    assert main([str(tmp_path)]) == 2
    assert "--force" in capsys.readouterr().err
    assert main([str(tmp_path / "sky"), "--ccds=0", "--size=1"]) == 2
    said = capsys.readouterr().err
    assert "--ccds" in said
    assert "--size" in said
    assert not (tmp_path / "sky").exists()


def test_a_sky_that_cannot_be_written_ends_with_status_1(tmp_path, capsys):
    (tmp_path / "file").write_text("")

    assert main([str(tmp_path / "file/sky"), "--size=64"]) == 1
    assert "cannot be written" in capsys.readouterr().err


def test_the_help_of_the_sub_command_comes_without_numpy(tmp_path):
    code = (
        "import argparse, sys\n"
        "from spicad.commands import sky\n"
        "parser = argparse.ArgumentParser(prog='spica sky', description=sky.HELP)\n"
        "sky.add_arguments(parser)\n"
        "print(parser.format_help())\n"
        "print('HEAVY', sorted({'numpy', 'astropy', 'scipy'} & set(sys.modules)))\n"
    )

    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout

    assert "HEAVY []" in said
    for option in (
        "--exposures",
        "--ccds",
        "--size",
        "--filters",
        "--fields",
        "--seed",
        "--scale",
        "--format",
        "--force",
    ):
        assert option in said
    assert "Exit status" in said


def test_the_sub_command_runs_the_maker(tmp_path):
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    arguments = [str(tmp_path / "sky"), "--exposures=1", "--single", "--size=64", "--stars=3"]

    status = command.run(parser.parse_args(arguments))

    assert status == 0
    assert (tmp_path / "sky/truth/params.json").exists()


def test_raw_frames_come_with_the_calibrations_and_leave_the_exposures_as_they_were(made, tmp_path):
    raw = make_sky(tmp_path / "raw", dataclasses.replace(TINY, raw=True))

    ours, theirs = digests(made.folder), digests(raw.folder)
    assert {name: theirs[name] for name in ours if "params" not in name} == {
        name: ours[name] for name in ours if "params" not in name
    }
    assert [path.stem[-1] for path in raw.raw] == [*"oo", *"bbbbb", *"ddd", *"fffff"]
    said = {path.stem[-1]: fits.getheader(path)["OBSTYPE"] for path in raw.raw}
    assert said == {"o": "OBJECT", "b": "BIAS", "d": "DARK", "f": "FLAT"}


def test_a_raw_exposure_is_the_true_one_under_the_flat_and_the_bias(tmp_path):
    sky = make_sky(tmp_path / "raw", dataclasses.replace(QUIET, raw=True))
    name = next(path for path in sky.raw if path.stem.endswith("o"))
    raw, true = fits.getdata(name, 1).astype(float), pixels_of(sky, 900001, 0)
    flats = [fits.getdata(path, 1) for path in sky.raw if path.stem.endswith("f")]

    light = raw[:, 32:] - np.median(raw[:, :32], axis=1)[:, None]
    flat = np.median([each[:, 32:] - np.median(each[:, :32]) for each in flats], axis=0)

    assert raw.shape == (TINY.size, TINY.size + 32)
    ratio = light / (flat / np.median(flat)) / true
    assert np.std(ratio / np.median(ratio)) < 0.02
    assert 0.85 < np.median(ratio) < 1.15

"""Raw frames of the made sky become the true pre-processed exposures again; what is missing or wrong is named.

A process that makes and uses master frames is tried in test_preprocess_job.py.
"""

from __future__ import annotations

import csv
import dataclasses
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from astropy.io import fits
from conftest import ROOT

from spicad.archive.headers import read_exposure
from spicad.reduction.cosmics import grown
from spicad.reduction.preprocess.__main__ import main
from spicad.reduction.preprocess.masters import clipped_mean
from spicad.reduction.preprocess.science import take_fringes_off
from spicad.reduction.preprocess.settings import PREPROCESS
from spicad.reduction.sky import make_sky
from spicad.reduction.sky_options import SkyOptions

RAW = SkyOptions(exposures=2, ccds=3, size=400, filters=("r",), stars=100, seed=11, raw=True)
BAD, COSMIC, SATURATED = 1, 2, 4


def preprocess(*words: object) -> int:
    return main([str(word) for word in words])


def made_masters(sky, out: Path) -> dict[str, Path]:
    """Bias, dark and flat, each made with those before it."""
    made: dict[str, Path] = {}
    for kind, letter in (("BIAS", "b"), ("DARK", "d"), ("FLAT", "f")):
        frames = [path for path in sky.raw if path.name.split(".")[0].endswith(letter)]
        given = [word for name, path in made.items() for word in (f"-{name}_NAME", path)]
        name = f"{kind.lower()}.fits"
        assert preprocess(*frames, "-MAKE", kind, "-MASTER_NAME", name, "-OUTPUT_DIR", out, *given) == 0
        made[kind] = out / name
    return made


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A sky with raw frames, its masters, its exposures pre-processed."""
    folder = tmp_path_factory.mktemp("preprocess")
    sky, out = make_sky(folder / "sky", RAW), folder / "out"
    out.mkdir()
    masters = made_masters(sky, out)
    given = [word for name, path in masters.items() for word in (f"-{name}_NAME", path)]
    exposures = [path for path in sky.raw if path.stem.endswith("o")]
    crosstalk = sky.folder / "raw/crosstalk.txt"
    assert preprocess(*exposures, "-OUTPUT_DIR", out, "-CROSSTALK_NAME", crosstalk, *given) == 0
    return SimpleNamespace(sky=sky, out=out, masters=masters, given=given, exposures=exposures, crosstalk=crosstalk)


def compared(world):
    """For each CCD of each exposure: ours, weight, flags, the truth, its good pixels, the sky."""
    with (world.sky.truth / "exposures.csv").open() as file:
        rows = list(csv.DictReader(file))
    with fits.open(world.sky.bad_pixels) as masks:
        good = [mask.data == 1 for mask in masks[1:]]
    for row in rows:
        ours = world.out / f"{row['number']}o.fits"
        for ccd in range(RAW.ccds):
            yield SimpleNamespace(
                exposure=int(row["number"]),
                ccd=ccd,
                ours=fits.getdata(ours, ccd + 1),
                weight=fits.getdata(ours.with_suffix(".weight.fits"), ccd + 1),
                flags=fits.getdata(ours.with_suffix(".flag.fits"), ccd + 1),
                true=fits.getdata(world.sky.folder / f"{row['number']}p.fits", ccd + 1).astype(float),
                good=good[ccd],
                sky=float(row["sky_adu"]),
            )


def scatter(values) -> float:
    return float(1.4826 * np.median(np.abs(values - np.median(values))))


@pytest.mark.slow
def test_pre_processed_exposures_are_the_true_ones_within_a_fifth_of_the_noise(world):
    for each in compared(world):
        usual = each.good & (each.true < 60000)
        off = (each.ours - each.true)[usual]
        noise = scatter(each.true[each.good])
        assert abs(np.median(off)) < 0.02 * noise
        assert scatter(off) < 0.2 * noise
        assert np.mean(np.abs(off) > 5 * noise) < 2e-3  # bright stars: the flat's own noise on tens of thousands


@pytest.mark.slow
def test_what_the_flat_leaves_on_the_sky_is_less_than_a_part_in_five_hundred(world):
    for each in compared(world):
        usual = each.good & (each.true < 60000)
        off = np.where(usual, each.ours - each.true, np.nan)[:384, :384].reshape(12, 32, 12, 32)
        structure = np.nanmedian(off, axis=(1, 3)) / each.sky
        assert structure.std() < 0.001
        assert np.abs(structure - np.median(structure)).max() < 0.002


def planted_cosmics(world):
    table = fits.getdata(world.sky.truth / "cosmics.fits")
    stars = fits.getdata(world.sky.truth / "detections.fits")
    for each in compared(world):
        mine = table[(table["exposure"] == each.exposure) & (table["ccd"] == each.ccd)]
        planted = np.zeros(each.flags.shape, bool)
        planted[mine["y"] - 1, mine["x"] - 1] = True
        on_star = np.zeros(each.flags.shape, bool)
        for star in stars[(stars["exposure"] == each.exposure) & (stars["ccd"] == each.ccd)]:
            x, y = round(star["x"]) - 1, round(star["y"]) - 1
            on_star[max(0, y - 8) : y + 9, max(0, x - 8) : x + 9] = True
        yield each, planted, on_star


def test_cosmic_rays_are_masked_and_stars_are_not(world):
    found = planted_pixels = spoilt = star_pixels = 0
    for each, planted, on_star in planted_cosmics(world):
        hit = (each.flags & COSMIC) > 0
        looked_at = planted & ((each.flags & (BAD | SATURATED)) == 0)
        found, planted_pixels = found + hit[looked_at].sum(), planted_pixels + looked_at.sum()
        clean = on_star & ~grown(planted, 2)
        spoilt, star_pixels = spoilt + hit[clean].sum(), star_pixels + clean.sum()

    assert planted_pixels > 300
    assert found / planted_pixels >= 0.95
    assert spoilt / star_pixels < 0.001


def test_bad_pixels_are_found_by_the_masters_and_weigh_nothing(world):
    for each in compared(world):
        bad = (each.flags & BAD) > 0
        assert np.array_equal(bad, ~each.good)
        assert not each.weight[bad | ((each.flags & COSMIC) > 0)].any()
        dead = bad & (each.true == 0)
        assert np.abs(each.ours[dead]).max() < 60  # the flat's zeros blow nothing up


def test_weights_are_the_inverse_variance_of_the_sky(world):
    for each in compared(world):
        usual = each.good & (each.flags == 0)
        assert np.median(each.weight[usual]) ** -0.5 == pytest.approx(scatter(each.true[each.good]), rel=0.1)


def test_saturated_pixels_are_flagged(world):
    flagged = [(each.flags & SATURATED) > 0 for each in compared(world)]
    full = [each.good & (each.true >= 63000) for each in compared(world)]

    assert sum(map(np.sum, full)) > 0
    assert all(flag[pixel].all() for flag, pixel in zip(flagged, full, strict=True))


def test_headers_lose_the_overscan_and_say_what_was_done(world):
    ours, true = fits.open(world.out / "900001o.fits"), fits.open(world.sky.folder / "900001p.fits")

    assert len(ours) == len(true)
    for one, other in zip(ours[1:], true[1:], strict=True):
        assert one.data.shape == other.data.shape
        for card in ("CRPIX1", "CRPIX2", "CRVAL1", "EXTNAME", "DETSEC", "FILTER", "EXPTIME"):
            assert one.header[card] == other.header[card]
        assert "BIASSEC" not in one.header
        assert "DATASEC" not in one.header
        assert one.header["BUNIT"] == "ADU"
        assert 995 < one.header["OVERSCAN"] < 1100
    head = ours[0].header
    assert head["PREPROC"].startswith("Spica ")
    assert head["FLATNAME"] == fits.getheader(world.masters["FLAT"])["FILENAME"]
    assert len(head["FLATSHA"]) == 64


def test_masters_carry_their_ingredients_by_name_and_digest(world):
    head = fits.getheader(world.masters["FLAT"])

    assert (head["MASTER"], head["NCOMBINE"]) == ("flat", 5)
    assert [head[f"INGR{n:04d}"] for n in (1, 5)] == ["900011f", "900015f"]
    assert len(head["ISHA0001"]) == 64
    assert len(head["BIASSHA"]) == 64


def test_the_archive_knows_raw_frames_masters_and_what_is_processed(world):
    raw, bias = (read_exposure(path) for path in (world.exposures[0], world.sky.raw[2]))
    true, ours, flat = map(read_exposure, (world.sky.exposures[0], world.out / "900001o.fits", world.masters["FLAT"]))

    assert [each.kind for each in (raw, bias, true, ours, flat)] == [
        "science",
        "bias",
        "science",
        "science",
        "master-flat",
    ]
    assert [each.is_processed for each in (raw, true, ours)] == [False, True, True]
    assert (flat.instrument, flat.filter, flat.runid) == (raw.instrument, raw.filter, raw.runid)
    assert not any("sky coordinates" in words for words in bias.warnings)
    assert raw.night == bias.night == "2003-10-12"


@pytest.mark.slow
def test_the_same_frames_give_the_same_bytes(world, tmp_path):
    again = made_masters(world.sky, tmp_path)

    assert again["FLAT"].read_bytes() == world.masters["FLAT"].read_bytes()


def test_what_one_frame_alone_has_is_clipped():
    rng = np.random.default_rng(3)
    cube = rng.normal(100, 3, (3, 200, 200)).astype(np.float32)
    cube[1, 50, 50:60] += 500

    mean, clipped = clipped_mean(cube, 4.0)

    assert np.abs(mean[50, 50:60] - 100).max() < 12
    assert mean.std() == pytest.approx(3 / np.sqrt(3), rel=0.02)
    assert 10 <= clipped < 60


def test_a_pixel_without_a_value_in_one_frame_is_made_of_the_others():
    cube = np.random.default_rng(3).normal(100, 3, (4, 50, 50)).astype(np.float32)
    usual, _ = clipped_mean(cube, 4.0)
    cube[1, 20, 30] = np.nan
    cube[:, 7, 8] = np.nan

    mean, clipped = clipped_mean(cube, 4.0)

    assert mean[20, 30] == pytest.approx(cube[[0, 2, 3], 20, 30].mean(), rel=1e-5)
    assert np.isnan(mean[7, 8])
    mean[20, 30], mean[7, 8] = usual[20, 30], usual[7, 8]
    assert np.array_equal(mean, usual)
    assert clipped < 15


def test_a_calibration_that_is_missing_is_named(world, tmp_path, capsys):
    status = preprocess(world.exposures[0], "-OUTPUT_DIR", tmp_path, "-BIAS_NAME", world.masters["BIAS"])

    assert status == 2
    assert "FLAT_NAME: there is no flat. Name one, or take it out of NEEDED." in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_master_of_another_kind_or_camera_is_refused_by_name(world, tmp_path, capsys):
    other = make_sky(tmp_path / "sky", dataclasses.replace(RAW, exposures=1, ccds=1, size=300))
    out = tmp_path / "out"
    out.mkdir()

    wrong = preprocess(world.exposures[0], "-OUTPUT_DIR", out, *world.given, "-FLAT_NAME", world.masters["DARK"])
    other_camera = preprocess(other.raw[0], "-OUTPUT_DIR", out, *world.given)

    said = capsys.readouterr().err
    assert (wrong, other_camera) == (2, 2)
    assert "dark.fits: this is a master dark, not a flat. Give it as DARK_NAME." in said
    assert "its ccd00 has 400 x 400 pixels, that of 900001o.fits 300 x 300 without its overscan." in said
    assert [path for path in out.iterdir() if path.suffix == ".fits"] == []


@pytest.mark.slow
def test_flats_that_are_too_faint_are_left_out_and_said(world, tmp_path, capsys):
    flats = [path for path in world.sky.raw if path.stem.endswith("f")]
    faint = tmp_path / "faint.fits"
    shutil.copy(flats[0], faint)
    with fits.open(faint, mode="update") as file:
        for hdu in file[1:]:
            hdu.data = np.minimum(hdu.data, hdu.data[:, :32].max())
        file[0].header["FILENAME"] = "faint"
        for hdu in file[1:]:
            hdu.header["FILENAME"] = "faint"

    status = preprocess(faint, *flats[1:], "-MAKE", "FLAT", "-OUTPUT_DIR", tmp_path, *world.given[:2])

    assert status == 0
    assert "warning: faint is left out: its level of" in capsys.readouterr().out
    assert fits.getval(tmp_path / "master.fits", "NCOMBINE") == 4
    assert "faint" in json.loads((tmp_path / "master.json").read_text())["left_out"]


def test_an_exposure_is_never_overwritten(world, tmp_path, capsys):
    mine = Path(shutil.copy(world.exposures[0], tmp_path))

    status = preprocess(mine, "-OUTPUT_DIR", tmp_path, *world.given)

    assert status == 2
    assert "this would overwrite the exposure." in capsys.readouterr().err
    assert mine.read_bytes() == world.exposures[0].read_bytes()


@pytest.mark.slow
def test_packed_raw_frames_are_read_as_they_are(tmp_path):
    options = dataclasses.replace(RAW, exposures=1, ccds=1, size=200)
    plain, packed = (
        make_sky(tmp_path / suffix, dataclasses.replace(options, format=suffix)) for suffix in ("fits", "fits.fz")
    )
    outs = []
    for sky in (plain, packed):
        out = sky.folder / "out"
        out.mkdir()
        masters = made_masters(sky, out)
        given = [word for name, path in masters.items() for word in (f"-{name}_NAME", path)]
        assert preprocess(sky.raw[0], "-OUTPUT_DIR", out, *given) == 0
        outs.append(fits.getdata(out / "900001o.fits", 1))

    assert np.array_equal(*outs)


def test_what_elixir_has_processed_is_left_alone_and_its_zero_point_read(world, tmp_path, capsys):
    elixir = Path(shutil.copy(world.sky.exposures[0], tmp_path / "1616681p.fits"))
    with fits.open(elixir, mode="update") as file:
        for hdu in file:
            hdu.header["CRUNID"] = "13AQ05"
            hdu.header["DATASEC"] = "[33:2080,1:4612]"  # that of the raw frame, as Elixir leaves it
    out = tmp_path / "out"
    out.mkdir()

    status = preprocess(elixir, "-OUTPUT_DIR", out)

    assert status == 0
    assert "left alone, CRUNID says that it is pre-processed, zero point 26" in capsys.readouterr().out
    assert (out / elixir.name).read_bytes() == elixir.read_bytes()
    assert json.loads((out / "1616681p.json").read_text())["zero_point"] == 26.0
    assert fits.getdata(out / "1616681p.weight.fits", 3).shape == (RAW.size, RAW.size)


def test_a_processed_exposure_is_no_ingredient_of_a_master(world, tmp_path, capsys):
    status = preprocess(world.out / "900001o.fits", "-MAKE", "BIAS", "-OUTPUT_DIR", tmp_path)

    assert status == 2
    assert "PREPROC says that it is no raw frame." in capsys.readouterr().err


def test_a_mask_marks_bad_pixels_where_there_is_no_dark(world, tmp_path):
    words = ["-OUTPUT_DIR", tmp_path, "-MASK_NAME", world.sky.bad_pixels, "-COSMIC_RAYS", "N"]

    assert preprocess(world.exposures[0], *words, "-NEEDED", "NONE") == 0

    for ccd in range(RAW.ccds):
        bad = fits.getdata(tmp_path / "900001o.flag.fits", ccd + 1) & BAD
        assert np.array_equal(bad > 0, fits.getdata(world.sky.bad_pixels, ccd + 1) == 0)


def raw_file(path: Path, pixels: np.ndarray, **cards: object) -> Path:
    hdu = fits.PrimaryHDU(pixels.astype(np.uint16))
    hdu.header.update(cards | {"EXPTIME": 10.0, "SATURATE": 60000})
    hdu.writeto(path)
    return path


NOISE = np.random.default_rng(8).normal(1000, 5, (40, 40))


def test_a_flat_with_a_nan_spoils_that_pixel_only(tmp_path):
    flat = np.ones((40, 40), np.float32)
    flat[3, 4] = np.nan
    fits.PrimaryHDU(flat).writeto(tmp_path / "flat.fits")
    raw, out = raw_file(tmp_path / "raw.fits", NOISE), tmp_path / "out"
    out.mkdir()

    assert preprocess(raw, "-FLAT_NAME", tmp_path / "flat.fits", "-NEEDED", "NONE", "-OUTPUT_DIR", out) == 0

    bad = fits.getdata(out / "raw.flag.fits") & BAD
    assert [*zip(*np.nonzero(bad), strict=True)] == [(3, 4)]


@pytest.mark.parametrize("what", ["the exposure", "the flat", "biases", "flats"])
def test_frames_without_a_value_are_refused_in_words(tmp_path, capsys, what):
    raw = raw_file(tmp_path / "raw.fits", NOISE)
    nothing, out = tmp_path / "nothing.fits", tmp_path / "out"
    fits.PrimaryHDU(np.full((40, 40), np.nan, np.float32)).writeto(nothing)
    out.mkdir()
    words, said = {
        "the exposure": ([nothing], "nothing.fits: none of its pixels can be used."),
        "the flat": ([raw, "-FLAT_NAME", nothing], "raw.fits: none of its pixels can be used with nothing.fits."),
        "biases": ([nothing, "-MAKE", "BIAS"], "master.fits: none of the frames has a pixel that is a number."),
        "flats": ([nothing, "-MAKE", "FLAT"], "no flat can be used. nothing.fits: its level of 0 ADU is outside"),
    }[what]

    assert preprocess(*words, "-NEEDED", "NONE", "-OUTPUT_DIR", out) == 1

    assert said in capsys.readouterr().err
    assert list(out.iterdir()) == []


def test_names_that_fits_cannot_hold_are_written_with_other_signs(tmp_path):
    bias = raw_file(tmp_path / "bïas's.fits", NOISE)
    assert preprocess(bias, bias, "-MAKE", "BIAS", "-OUTPUT_DIR", tmp_path, "-MASTER_NAME", "büro.fits") == 0

    raw, out = raw_file(tmp_path / "raw.fits", NOISE), tmp_path / "out"
    out.mkdir()
    assert preprocess(raw, "-BIAS_NAME", tmp_path / "büro.fits", "-NEEDED", "NONE", "-OUTPUT_DIR", out) == 0

    assert fits.getval(tmp_path / "büro.fits", "INGR0001") == "b_as's.fits"
    assert fits.getval(out / "raw.fits", "BIASNAME") == "b_ro.fits"


@pytest.mark.parametrize("other", ["[1:30,21:40]", "[21:40,1:30]"])
def test_amplifiers_that_do_not_fit_together_are_named(tmp_path, capsys, other):
    path = raw_file(tmp_path / "odd.fits", NOISE, DSECA="[1:20,1:20]", DSECB=other)

    assert preprocess(path, "-DATA_KEYS", "DSECA,DSECB", "-NEEDED", "NONE", "-OUTPUT_DIR", tmp_path) == 2

    assert "HDU 0: the sections of DSECA, DSECB (20 x 20, " in capsys.readouterr().err


def test_a_file_cut_off_between_two_ccds_is_told(world, tmp_path, capsys):
    cut = tmp_path / "cut.fits"
    with fits.open(world.exposures[0]) as file:
        file[0].header["NEXTEND"] = RAW.ccds
        file[:2].writeto(cut, output_verify="ignore")
    out = tmp_path / "out"
    out.mkdir()

    assert preprocess(cut, "-OUTPUT_DIR", out, *world.given) == 0

    assert "warning: cut.fits: NEXTEND says 3 extensions, 1 are there" in capsys.readouterr().out


def test_blank_pixels_of_a_raw_frame_are_bad(tmp_path):
    pixels = NOISE.astype(np.int16)
    pixels[5, 6] = -999
    hdu = fits.PrimaryHDU(pixels)
    hdu.header.update({"EXPTIME": 10.0, "BLANK": -999})
    hdu.writeto(tmp_path / "raw.fits")
    (tmp_path / "out").mkdir()

    assert preprocess(tmp_path / "raw.fits", "-NEEDED", "NONE", "-OUTPUT_DIR", tmp_path / "out") == 0

    bad = fits.getdata(tmp_path / "out/raw.flag.fits") & BAD
    assert [*zip(*np.nonzero(bad), strict=True)] == [(5, 6)]
    assert "BLANK" not in fits.getheader(tmp_path / "out/raw.fits")


def test_an_overscan_is_told_by_its_pixels_that_have_a_value(tmp_path):
    pixels = np.full((40, 48), 1250, np.float32)
    pixels[:, :8] = 1000
    pixels[5, 3] = pixels[9, :8] = np.nan
    hdu = fits.PrimaryHDU(pixels)
    hdu.header.update({"EXPTIME": 10.0, "BIASSEC": "[1:8,1:40]", "DATASEC": "[9:48,1:40]"})
    hdu.writeto(tmp_path / "raw.fits")
    (tmp_path / "out").mkdir()

    assert preprocess(tmp_path / "raw.fits", "-NEEDED", "NONE", "-OUTPUT_DIR", tmp_path / "out") == 0

    assert np.allclose(fits.getdata(tmp_path / "out/raw.fits"), 250)
    assert not (fits.getdata(tmp_path / "out/raw.flag.fits") & BAD).any()


def test_two_amplifiers_lose_their_own_overscan_and_get_one_gain(tmp_path):
    pixels = np.zeros((40, 56))
    pixels[:, :28], pixels[:, 28:] = 1000, 1100
    pixels[:, 8:28] += 600  # 600 e- at 1 e-/ADU
    pixels[:, 28:48] += 300  # at 2
    sections = {"BSECA": "[1:8,1:40]", "DSECA": "[9:28,1:40]", "DSECB": "[48:29,1:40]", "BSECB": "[49:56,1:40]"}
    path = raw_file(tmp_path / "two.fits", pixels, GAINA=1.0, GAINB=2.0, **sections)
    keys = ["-OVERSCAN_KEYS", "BSECA,BSECB", "-DATA_KEYS", "DSECA,DSECB", "-GAIN_KEYS", "GAINA,GAINB"]
    (tmp_path / "out").mkdir()

    assert preprocess(path, *keys, "-NEEDED", "NONE", "-OUTPUT_DIR", tmp_path / "out") == 0

    ours = fits.getdata(tmp_path / "out/two.fits")
    assert ours.shape == (40, 40)
    assert np.allclose(ours, 400)
    assert fits.getval(tmp_path / "out/two.fits", "GAIN") == 1.5


def test_an_overscan_below_is_taken_off_column_by_column(tmp_path):
    columns = 1000 + 10 * np.arange(30)
    pixels = np.tile(columns, (44, 1))
    pixels[4:] += 250
    path = raw_file(tmp_path / "below.fits", pixels, BIASSEC="[1:30,1:4]", DATASEC="[1:30,5:44]", CRPIX2=24.0)
    (tmp_path / "out").mkdir()

    words = ["-NEEDED", "NONE", "-OVERSCAN_SMOOTH", "1", "-OUTPUT_DIR", tmp_path / "out"]
    assert preprocess(path, *words) == 0

    assert np.allclose(fits.getdata(tmp_path / "out/below.fits"), 250)
    assert fits.getval(tmp_path / "out/below.fits", "CRPIX2") == 20.0


def test_a_section_outside_the_ccd_is_named(tmp_path, capsys):
    path = raw_file(tmp_path / "odd.fits", np.ones((40, 40)), BIASSEC="[1:8,1:40]", DATASEC="[9:48,1:40]")

    assert preprocess(path, "-NEEDED", "NONE", "-OUTPUT_DIR", tmp_path) == 2

    assert "DATASEC is '[9:48,1:40]', which is no part of its 40 x 40 pixels." in capsys.readouterr().err


def test_fringes_are_taken_off_at_the_strength_that_they_have():
    rng = np.random.default_rng(4)
    fringe = np.sin(np.arange(300) / 7)[None, :] * np.cos(np.arange(300) / 11)[:, None]
    light = (800 + 12 * fringe + rng.normal(0, 5, (300, 300))).astype(np.float32)
    light[100:110, 100:110] += 5000  # a star

    amplitude = take_fringes_off(light, fringe.astype(np.float32), np.zeros(light.shape, np.uint8), 800.0, 8.0)

    assert amplitude == pytest.approx(12, rel=0.03)
    assert scatter(light) == pytest.approx(5, rel=0.05)


def test_a_table_of_crosstalk_that_is_none_is_named_with_its_line(world, tmp_path, capsys):
    table = tmp_path / "bad.crosstalk"
    table.write_text("# source victim share\nccd00 ccd01 0.0003\nccd01 ccd00\n")

    assert preprocess(world.exposures[0], "-OUTPUT_DIR", tmp_path, *world.given, "-CROSSTALK_NAME", table) == 2

    assert "line 3: 'ccd01 ccd00' is no line of source, victim and coefficient." in capsys.readouterr().err


@pytest.mark.slow
def test_more_ccds_need_no_more_memory(tmp_path):
    """The peak of the address space is what a step is limited by."""

    def mosaic(path: Path, ccds: int) -> Path:
        pixels = np.random.default_rng(1).normal(1000, 10, (1200, 1032)).astype(np.uint16)
        cards = {"BIASSEC": "[1:32,1:1200]", "DATASEC": "[33:1032,1:1200]", "GAIN": 1.6, "RDNOISE": 5.0}
        header = fits.Header(cards)
        images = [fits.ImageHDU(pixels, header, name=f"ccd{n:02d}") for n in range(ccds)]
        fits.HDUList([fits.PrimaryHDU(header=fits.Header({"EXPTIME": 10.0})), *images]).writeto(path)
        return path

    peaks = []
    for ccds in (2, 24):
        folder = tmp_path / str(ccds)
        folder.mkdir()
        exposure = mosaic(folder / "raw.fits", ccds)
        assert preprocess(exposure, exposure, "-MAKE", "BIAS", "-MASTER_NAME", "bias.fits", "-OUTPUT_DIR", folder) == 0
        (folder / "out").mkdir()
        words = [exposure, "-BIAS_NAME", folder / "bias.fits", "-NEEDED", "BIAS", "-COSMIC_RAYS", "N"]
        program = (
            "import sys; from spicad.reduction.preprocess.__main__ import main; status = main(sys.argv[1:]);"
            "print(next(line.split()[1] for line in open('/proc/self/status') if line.startswith('VmPeak')));"
            "sys.exit(status)"
        )
        command = [sys.executable, "-c", program, *map(str, words), "-OUTPUT_DIR", str(folder / "out")]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
        peaks.append(int(done.stdout.split()[-1]) // 1024)

    assert peaks[1] < peaks[0] + 25  # MiB; 22 more CCDs have 110 MiB of pixels


def test_the_manual_tells_every_keyword_with_its_default():
    text = (ROOT / "man/preprocess.1").read_text()

    entries = re.findall(r"^\.It Ic ([A-Z_ ,]+?)(?: Ns .*)?$", text, re.MULTILINE)
    defaults = dict(re.findall(r"^\.It Ic (\w+) Ns \\ = (.*)$", text, re.MULTILINE))

    assert {name for entry in entries for name in re.split("[ ,]+", entry)} == {
        each.name for each in PREPROCESS.keywords
    }
    assert {name: value.replace("\\&", "") for name, value in defaults.items()} == {
        each.name: each.default for each in PREPROCESS.keywords if each.default
    }

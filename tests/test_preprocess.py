"""Raw frames of the made sky become the true pre-processed exposures again; what is missing or wrong is named.

A process that makes and uses master frames is tried in test_preprocess_job.py.
"""

from __future__ import annotations

import csv
import dataclasses
import json
import re
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from astropy.io import fits
from conftest import ROOT

from spicad.reduction.cosmics import grown
from spicad.reduction.preprocess.__main__ import main
from spicad.reduction.preprocess.masters import clipped_mean
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


def test_pre_processed_exposures_are_the_true_ones_within_a_fifth_of_the_noise(world):
    for each in compared(world):
        usual = each.good & (each.true < 60000)
        off = (each.ours - each.true)[usual]
        noise = scatter(each.true[each.good])
        assert abs(np.median(off)) < 0.02 * noise
        assert scatter(off) < 0.2 * noise
        assert np.mean(np.abs(off) > 5 * noise) < 2e-3  # bright stars: the flat's own noise on tens of thousands


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

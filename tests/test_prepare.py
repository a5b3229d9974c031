"""Exposures made readable by the tools: pixels bit for bit, WCS to a fraction of a pixel, refusals in one line.

Each broken or odd file goes through prepare in test_broken_files.py too.
"""

from __future__ import annotations

import bz2
import gzip
import io
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from astropy.coordinates import angular_separation
from astropy.io import fits as astropy_fits
from astropy.wcs import WCS
from broken import ZPN, constant, exposure, header, one_ccd, packed, primary, single, sky, table
from test_fits import mutated, written

from spicad import fits
from spicad.archive.headers import needs_preparing, read_exposure
from spicad.reduction import prepare, tpv
from spicad.reduction.judge import judged

pytestmark = [
    pytest.mark.filterwarnings("ignore::astropy.wcs.FITSFixedWarning"),
    pytest.mark.filterwarnings("ignore::astropy.io.fits.verify.VerifyWarning"),
]

SIP = {"A_ORDER": 3, "B_ORDER": 3, "A_2_0": 2e-6, "A_1_1": -3e-6, "A_0_3": 1e-9, "B_0_2": 4e-6, "B_2_1": -2e-9}
STRONG = {"A_ORDER": 2, "B_ORDER": 2, "A_2_0": 1.0, "B_0_2": -1.0}


def prepared(folder: Path, raw: bytes, *options: str) -> Path:
    path = folder / "out.fits"
    assert prepare.main([str(written(folder, raw, "in.fits")), str(path), *options]) == 0
    return path


def images(path: Path) -> list[astropy_fits.ImageHDU]:
    with astropy_fits.open(path, do_not_scale_image_data=True, memmap=False) as hdus:
        found = [hdu for hdu in hdus if hdu.is_image]
        return [hdu for hdu in found if hdu.data is not None]


def is_the_same(path: Path, raw: bytes) -> bool:
    """In pixels and cards, whatever comments packing has put to the cards."""
    ours, theirs = images(path), images(written(path.parent, raw, "same.fits"))
    return [(dict(hdu.header), hdu.data.tolist()) for hdu in ours] == [
        (dict(hdu.header), hdu.data.tolist()) for hdu in theirs
    ]


def worst_pixels(before: astropy_fits.Header, after: astropy_fits.Header) -> float:
    """How far apart two headers place random pixels of the CCD on the sky; wcslib evaluates both."""
    pixels = np.random.default_rng(1).uniform([0.5, 0.5], [after["NAXIS1"] + 0.5, after["NAXIS2"] + 0.5], (500, 2))
    place = []
    for one in (before, after):
        wcs = WCS(one, naxis=2)
        place.append(np.radians(wcs.all_pix2world(pixels, 1))[:, [wcs.wcs.lng, wcs.wcs.lat]])
    away = np.degrees(angular_separation(place[0][:, 0], place[0][:, 1], place[1][:, 0], place[1][:, 1]))
    return float(away.max() / np.sqrt(abs(np.linalg.det(WCS(after).pixel_scale_matrix))))


# Unpacking


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lambda raw: raw], ids=["gzip", "bzip2", "plain"])
@pytest.mark.parametrize("kind", ["i2", "u2", "f4"])
def test_what_needs_no_change_stays_as_it_is(tmp_path: Path, pack, kind: str) -> None:
    raw = exposure(kind=kind)

    path = prepared(tmp_path, pack(raw))

    assert fits.science_digest(path) == fits.science_digest(written(tmp_path, raw))


def test_fpacked_exposures_come_out_as_they_went_in(tmp_path: Path) -> None:
    assert is_the_same(prepared(tmp_path, packed()), exposure())


def test_fpack_within_gzip_is_unpacked_twice(tmp_path: Path) -> None:
    assert is_the_same(prepared(tmp_path, gzip.compress(packed())), exposure())


@pytest.mark.parametrize("kind", ["u2", "i4", "f4"])
def test_with_and_without_funpack_the_bytes_are_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    if not shutil.which("fpack") or not shutil.which("funpack"):
        pytest.skip("fpack and funpack are not installed")
    subprocess.run(["fpack", str(written(tmp_path, exposure(kind=kind), "a.fits"))], check=True)
    first = prepared(tmp_path, (tmp_path / "a.fits.fz").read_bytes()).read_bytes()
    monkeypatch.setenv("PATH", str(tmp_path))

    second = prepared(tmp_path, (tmp_path / "a.fits.fz").read_bytes()).read_bytes()

    assert first == second
    assert (kind == "f4") != (fits.science_digest(tmp_path / "out.fits") == fits.science_digest(tmp_path / "a.fits"))


def test_an_image_that_was_the_primary_is_so_again(tmp_path: Path) -> None:
    if not shutil.which("fpack"):
        pytest.skip("fpack is not installed")
    raw = single(sky(0).astype("i2"))
    subprocess.run(["fpack", str(written(tmp_path, raw, "a.fits"))], check=True)

    path = prepared(tmp_path, (tmp_path / "a.fits.fz").read_bytes())

    assert [hdu.kind for hdu in fits.scan(path).hdus] == ["primary"]
    assert fits.scan(path).hdus[0].shape == (160, 128)
    assert np.array_equal(images(path)[0].data, sky(0))


def test_a_broken_funpack_does_no_harm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "funpack").write_text("#!/bin/sh\nexit 3\n")
    (tmp_path / "funpack").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)

    assert is_the_same(prepared(tmp_path, packed()), exposure())


def test_the_input_is_never_touched(tmp_path: Path) -> None:
    (tmp_path / "archive").mkdir()
    path = written(tmp_path / "archive", packed(), "wild[1]* a.fits.fz")
    path.chmod(0o400)
    before = (path.stat().st_mtime_ns, path.stat().st_ino, fits.file_digest(path))

    prepare.prepare(path, tmp_path / "out.fits")

    assert (path.stat().st_mtime_ns, path.stat().st_ino, fits.file_digest(path)) == before
    assert os.listdir(tmp_path / "archive") == [path.name]


def test_tables_between_the_ccds_are_kept_as_they_are(tmp_path: Path) -> None:
    rows = table()[2880:]

    path = prepared(tmp_path, gzip.compress(header(primary()) + one_ccd(0) + rows + one_ccd(1)))

    assert rows in path.read_bytes()
    assert [hdu.kind for hdu in fits.check_whole(path).hdus] == ["primary", "image", "bintable", "image"]


# Pixels and axes


def test_64_bit_integers_become_floats_of_the_same_value(tmp_path: Path) -> None:
    path = prepared(tmp_path, exposure(kind="i8", BSCALE=2.0, BZERO=10.0))

    for number, hdu in enumerate(images(path)):
        assert hdu.header["BITPIX"] == -32
        assert "BSCALE" not in hdu.header
        assert np.array_equal(hdu.data, sky(number) * 2 + 10)


def test_floats_are_made_of_integers_when_asked(tmp_path: Path) -> None:
    path = prepared(tmp_path, exposure(kind="u2", BLANK=-32768), "--floats")

    for number, hdu in enumerate(images(path)):
        assert hdu.header["BITPIX"] == -32
        assert np.array_equal(hdu.data, sky(number))


def test_axes_of_length_1_are_taken_off_with_their_cards(tmp_path: Path) -> None:
    raw = single(sky(0).astype("i2")[None, None], CTYPE3="FREQ", CRVAL3=1.4e9, CD3_3=1.0, WCSAXES=4)

    found = images(prepared(tmp_path, raw))[0]

    assert found.data.shape == (128, 160)
    assert np.array_equal(found.data, sky(0))
    assert not {"CTYPE3", "CRVAL3", "CD3_3", "WCSAXES", "NAXIS3"} & set(found.header)
    assert found.header["CRVAL1"] == 150.0


def test_a_hostile_extname_gets_plain_signs_and_a_sane_one_stays(tmp_path: Path) -> None:
    raw = header(primary()) + one_ccd(0, EXTNAME="../../x") + one_ccd(1, EXTNAME="SCI,1 [a]")

    assert [hdu.header["EXTNAME"] for hdu in images(prepared(tmp_path, raw))] == ["_x", "SCI_1_a_"]
    assert [hdu.header["EXTNAME"] for hdu in images(prepared(tmp_path, exposure()))] == ["ccd00", "ccd01"]


@pytest.mark.parametrize(
    ("pixels", "kind", "reason"),
    [
        (constant(np.nan), "f4", "ccd00: all its pixels are NaN"),
        (constant(0), "i2", "ccd00: all its pixels are zero"),
        (constant(0), "u2", "ccd00: all its pixels are zero"),
        (constant(1000), "i4", "ccd00: all its pixels have the same value, 1000"),
        (constant(65535), "u2", "ccd00: 100% of its pixels are saturated"),
        (lambda number: sky(number) + 60_000, "f4", "of its pixels are saturated"),
    ],
)
def test_hopeless_pixels_are_refused_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], pixels, kind: str, reason: str
) -> None:
    path = written(tmp_path, exposure(pixels=pixels, kind=kind), "in.fits")

    status = prepare.main([str(path), str(tmp_path / "out.fits")])

    said = capsys.readouterr()
    assert status == 1
    assert said.out == ""
    assert reason in said.err
    assert str(path) in said.err
    assert said.err.count("\n") == 1
    assert os.listdir(tmp_path) == ["in.fits"]


def test_one_dead_ccd_of_several_is_only_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    prepared(tmp_path, exposure(pixels=lambda number: sky(number) * number))

    assert capsys.readouterr().out == "warning: ccd00: all its pixels are zero.\n"


def test_a_weight_map_may_be_constant(tmp_path: Path) -> None:
    assert images(prepared(tmp_path, exposure(pixels=constant(1)), "--any-pixels"))[0].data.min() == 1


def test_pixels_can_be_judged_without_writing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    noise = written(tmp_path, exposure(pixels=lambda number: sky(number, sources=0)))

    assert prepare.main([str(noise), "--check"]) == 0
    assert "ccd00 and 1 more: nothing stands out from its noise" in capsys.readouterr().out
    assert prepare.main([str(written(tmp_path, exposure(pixels=constant(0)))), "--check"]) == 1
    assert os.listdir(tmp_path) == ["a.fits"]


def test_blank_pixels_are_not_counted() -> None:
    pixels = sky(0).astype(">i2")
    pixels[:64] = -32768

    assert judged(pixels, blank=-32768).odd == "50.0% of its pixels are NaN or infinite"
    assert judged(np.full((64, 64), -32768, ">i2"), blank=-32768).hopeless == "all its pixels are NaN"


# Projections


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [
        ZPN,
        SIP,
        SIP | {"CTYPE1": "RA---TAN-SIP", "CTYPE2": "DEC--TAN-SIP"},
        {"CTYPE1": "RA---SIN", "CTYPE2": "DEC--SIN"},
        {"CTYPE1": "RA---ARC", "CTYPE2": "DEC--ARC", "CRVAL1": 0.001},
        {"CTYPE1": "RA---ZEA", "CTYPE2": "DEC--ZEA", "CRVAL2": 89.99},
        {"CTYPE1": "RA---STG", "CTYPE2": "DEC--STG", "CD1_1": 0.0, "CD1_2": 1e-4, "CD2_1": 1e-4, "CD2_2": 0.0},
        {"CTYPE1": "DEC--ARC", "CTYPE2": "RA---ARC", "CRVAL1": -30.0, "CRVAL2": 20.0},
        {"CTYPE1": "RA---CAR", "CTYPE2": "DEC--CAR", "CRVAL2": 0.0},
        {"CTYPE1": "RA---AIT", "CTYPE2": "DEC--AIT"},
    ],
    ids=lambda changes: changes.get("CTYPE1", "SIP under TAN"),
)
def test_projections_that_scamp_misreads_become_tpv(tmp_path: Path, changes: dict) -> None:
    raw = exposure(**changes)
    before = [hdu.header for hdu in images(written(tmp_path, raw))]
    for one in before:
        if "A_ORDER" in one:
            one["CTYPE1"], one["CTYPE2"] = "RA---TAN-SIP", "DEC--TAN-SIP"

    path = prepared(tmp_path, raw)

    after = [hdu.header for hdu in images(path)]
    assert all(one["CTYPE1"][5:] == "TPV" for one in after)
    assert max(map(worst_pixels, before, after)) < 0.01
    assert needs_preparing(read_exposure(path), ["fits"]) == ""


def test_tan_and_tpv_are_left_alone(tmp_path: Path) -> None:
    raw = exposure(CTYPE1="RA---TPV", CTYPE2="DEC--TPV", PV1_1=1.0, PV2_1=1.0, PV1_7=0.3)

    assert fits.science_digest(prepared(tmp_path, raw)) == fits.science_digest(written(tmp_path, raw))


def test_ccds_with_tangent_points_of_their_own_are_given_one(tmp_path: Path) -> None:
    raw = header(primary()) + one_ccd(0) + one_ccd(1, CRVAL1=150.01, CRVAL2=2.21)
    before = [hdu.header for hdu in images(written(tmp_path, raw))]

    path = prepared(tmp_path, raw)

    after = [hdu.header for hdu in images(path)]
    assert after[0]["CRVAL1"] == after[1]["CRVAL1"]
    assert after[0]["CRVAL2"] == after[1]["CRVAL2"]
    assert max(map(worst_pixels, before, after)) < 0.001
    assert needs_preparing(read_exposure(path), ["fits"]) == ""


def test_the_old_wcs_is_kept_as_history(tmp_path: Path) -> None:
    after = images(prepared(tmp_path, exposure(**ZPN, RADESYS="FK5")))[0].header

    history = list(after["HISTORY"])
    assert history[0].startswith("Spica: ZPN made TPV of degree 3, worst 0.")
    assert "was PV2_3   =                 44.0" in history
    assert "A_ORDER" not in after
    assert after["RADESYS"] == "FK5"


def test_the_residual_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    prepared(tmp_path, exposure(**ZPN))

    assert re.match(r"ccd00: ZPN made TPV of degree 3, worst 0\.\d{4} pixel\.\n", capsys.readouterr().out)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"CTYPE1": "RA---ZZZ", "CTYPE2": "DEC--ZZZ"}, "projection"),
        ({"CTYPE1": "RA---CAR", "CTYPE2": "DEC--CAR", "CD1_1": 1.0, "CD2_2": 1.0}, "tangent plane|reach all"),
        (STRONG, "WCS"),
    ],
)
def test_a_wcs_that_cannot_be_converted_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], changes: dict, reason: str
) -> None:
    status = prepare.main([str(written(tmp_path, exposure(**changes))), str(tmp_path / "out.fits")])

    assert status == 1
    assert re.search(reason, capsys.readouterr().err)
    assert not (tmp_path / "out.fits").exists()


@pytest.mark.slow
def test_a_fit_that_is_off_by_more_than_a_tenth_of_a_pixel_is_refused() -> None:
    cards = fits_cards(exposure(**SIP | {"A_ORDER": 9, "B_ORDER": 9, "A_9_0": 3e-19}))

    with pytest.raises(tpv.NoTpv, match=r"pixel off, at most 0\.1"):
        tpv.fitted(cards, 1600, 1280)


def fits_cards(raw: bytes) -> list[bytes]:
    ends = raw[2880:].index(b"END".ljust(80))
    return [raw[2880 + at : 2880 + at + 80] for at in range(0, ends, 80)]


# As a program


def test_twice_the_same_input_gives_the_same_bytes(tmp_path: Path) -> None:
    first = prepared(tmp_path, exposure(**ZPN)).read_bytes()

    assert prepared(tmp_path, exposure(**ZPN)).read_bytes() == first


@pytest.mark.slow
def test_it_runs_as_a_program_with_its_words_on_the_right_streams(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "spicad.reduction.prepare"]
    good = [str(written(tmp_path, packed())), str(tmp_path / "out.fits")]

    environment = os.environ | {"PYTHONPATH": str(Path(fits.__file__).parents[1])}
    done = subprocess.run([*command, *good], capture_output=True, text=True, check=False, env=environment)
    bad = ["/nowhere", str(tmp_path / "x.fits")]
    failed = subprocess.run([*command, *bad], capture_output=True, text=True, check=False, env=environment)

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert (failed.returncode, failed.stdout) == (1, "")
    assert failed.stderr == "/nowhere: cannot be opened: No such file or directory. Look at the path and its rights.\n"


def test_a_full_disk_is_told_and_leaves_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import resource

    path = written(tmp_path, exposure(kind="f8"))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        status = prepare.main([str(path), str(tmp_path / "out.fits")])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)

    assert status == 1
    assert "File too large" in capsys.readouterr().err
    assert os.listdir(tmp_path) == ["a.fits"]


@pytest.mark.slow
def test_no_bytes_make_it_do_more_than_refuse(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(11)
    goods = [exposure(), exposure(**SIP), packed(), gzip.compress(exposure()), exposure(kind="i8")]
    statuses = []
    for number in range(150):
        path = written(tmp_path, mutated(goods[number % len(goods)], rng))
        statuses.append(prepare.main([str(path), str(tmp_path / "out.fits")]))
        assert (tmp_path / "out.fits").exists() == (statuses[-1] == 0)
        assert len(capsys.readouterr().err.splitlines()) == statuses[-1]
        (tmp_path / "out.fits").unlink(missing_ok=True)
    assert {0, 1} == set(statuses)


@pytest.mark.slow
def test_source_extractor_reads_what_was_prepared(tmp_path: Path) -> None:
    source_extractor = shutil.which("source-extractor") or shutil.which("sex")
    if not source_extractor:
        pytest.skip("source-extractor is not installed")
    (tmp_path / "columns").write_text("NUMBER\nALPHA_J2000\nDELTA_J2000\n")
    found = {}
    for name, changes in (("plain", {}), ("zpn", ZPN), ("sip", SIP), ("long", {"kind": "i8"})):
        raw = exposure(**changes)
        path = prepared(tmp_path, gzip.compress(raw))
        command = [source_extractor, str(path), "-PARAMETERS_NAME", str(tmp_path / "columns"), "-FILTER", "N"]
        command += ["-CATALOG_TYPE", "FITS_1.0", "-CATALOG_NAME", f"{name}.cat"]
        subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
        wcs = WCS(images(path)[0].header)
        with astropy_fits.open(tmp_path / f"{name}.cat") as hdus:
            found[name] = len(hdus[1].data)
            x, y = wcs.all_world2pix(hdus[1].data["ALPHA_J2000"], hdus[1].data["DELTA_J2000"], 1)
        assert ((x > -400) & (x < 400) & (y > 0) & (y < 129)).all()
    assert found["plain"] >= 25
    assert set(found.values()) == {found["plain"]}


@pytest.mark.slow
def test_a_big_image_is_judged_and_written_in_little_memory(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    raw = io.BytesIO()
    astropy_fits.PrimaryHDU(rng.integers(0, 1000, (6000, 6000), dtype="i2")).writeto(raw)
    path = written(tmp_path, raw.getvalue())
    # Not ru_maxrss: a child inherits that from the process that started it.
    script = (
        "import re, sys; from spicad.reduction import prepare; status = prepare.main(sys.argv[1:]);"
        "print(re.search('VmHWM: *\\t *([0-9]+)', open('/proc/self/status').read())[1]); sys.exit(status)"
    )
    command = [sys.executable, "-c", script, str(path), str(tmp_path / "out.fits")]

    environment = os.environ | {"PYTHONPATH": str(Path(fits.__file__).parents[1])}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)

    assert int(done.stdout.split()[-1]) < 300_000

"""The light FITS reader: structure, cards, tables and digests, on good, odd, hostile and mutated files.

What keywords mean for an exposure is in test_exposure_headers.py.
"""

from __future__ import annotations

import bz2
import gzip
import os
import shutil
import subprocess
import time
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits as astropy_fits
from broken import card, exposure, header, image, in_primary, packed, primary, sky, table, with_sums

from spicad import fits
from spicad.fits import FitsProblem

ENDLESS = 1 << 33


def written(folder: Path, raw: bytes, name: str = "a.fits") -> Path:
    (folder / name).write_bytes(raw)
    return folder / name


# Structure


def test_the_hdus_of_a_mosaic_are_found_where_astropy_finds_them(tmp_path: Path) -> None:
    path = written(tmp_path, exposure(kind="i4"))

    found = fits.scan(path)

    with astropy_fits.open(path) as hdus:
        places = [(info["hdrLoc"], info["datLoc"]) for info in (hdu.fileinfo() for hdu in hdus)]
    assert [(hdu.header_offset, hdu.data_offset) for hdu in found.hdus] == places
    assert [(hdu.kind, hdu.shape, hdu.data_bytes) for hdu in found.hdus] == [
        ("primary", (), 0),
        ("image", (160, 128), 160 * 128 * 4),
        ("image", (160, 128), 160 * 128 * 4),
    ]
    assert found.size == path.stat().st_size
    assert found.warnings == ()


def test_packing_is_judged_by_content_and_not_by_name(tmp_path: Path) -> None:
    contents = {
        "fits": exposure(),
        "fits.fz": packed(),
        "fits.gz": gzip.compress(exposure()),
        "fits.bz2": bz2.compress(exposure()),
    }
    assert {fits.packing(written(tmp_path, raw, "any.name")) for raw in contents.values()} == set(contents)
    for packing, raw in contents.items():
        path = written(tmp_path, raw, "any.name")
        assert (fits.packing(path), fits.scan(path).packing) == (packing, packing)


def test_a_compressed_image_has_the_shape_of_what_is_inside(tmp_path: Path) -> None:
    found = fits.scan(written(tmp_path, packed())).hdus[1]

    assert (found.kind, found.shape, found.bitpix, found.extname) == ("compressed", (160, 128), 16, "ccd00")


def test_a_packed_file_of_several_members_is_read_as_one(tmp_path: Path) -> None:
    raw = exposure()
    halves = gzip.compress(raw[:30_000]) + gzip.compress(raw[30_000:])

    assert fits.check_whole(written(tmp_path, halves)).hdus == fits.check_whole(written(tmp_path, raw, "b")).hdus


def test_a_growing_file_is_a_warning_to_scan_and_refused_by_check_whole(tmp_path: Path) -> None:
    path = written(tmp_path, exposure()[:-20_000])

    assert "ends within the data of HDU 2" in fits.scan(path).warnings[0]
    with pytest.raises(FitsProblem, match="ends within the data of HDU 2"):
        fits.check_whole(path)


def test_data_are_skipped_and_not_read(tmp_path: Path) -> None:
    path = tmp_path / "sparse.fits"
    cards, _ = image(0, sky(0).astype("i2"), NAXIS1=65_536, NAXIS2=65_536)
    with open(path, "wb") as file:
        file.write(header(primary()) + header(cards))
        file.truncate(file.tell() + ENDLESS + (-ENDLESS % 2880))
    before = bytes_read()

    assert fits.check_whole(path).hdus[1].data_bytes == ENDLESS
    assert bytes_read() - before < 1 << 20


def bytes_read() -> int:
    """By this process so far; proc(5)."""
    return int(Path("/proc/self/io").read_text().split()[1])


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (header(primary(BITPIX=24)), "BITPIX is 24"),
        (header(primary(BITPIX=None)), "BITPIX is missing"),
        (header(primary(NAXIS="2")), "NAXIS is '2'"),
        (header(primary(NAXIS=1000)), "at most 999"),
        (header(primary(NAXIS=2, NAXIS1=2**40, NAXIS2=2**40)), "which cannot be"),
        (header(primary(NAXIS=1, NAXIS1=5, GCOUNT=-1)), "GCOUNT is -1"),
        (header(primary(), *[b"COMMENT"] * (fits.MAX_HEADER // 80)), "MiB"),
    ],
)
def test_a_header_that_cannot_be_is_refused_with_its_reason(tmp_path: Path, raw: bytes, reason: str) -> None:
    with pytest.raises(FitsProblem) as refusal:
        fits.scan(written(tmp_path, raw))
    assert reason in refusal.value.what
    assert str(tmp_path / "a.fits") in str(refusal.value)


def test_more_hdus_than_any_camera_has_are_refused(tmp_path: Path) -> None:
    one = header({"XTENSION": "IMAGE", "BITPIX": 8, "NAXIS": 0, "PCOUNT": 0, "GCOUNT": 1})

    with pytest.raises(FitsProblem, match="HDUs"):
        fits.scan(written(tmp_path, header(primary()) + one * fits.MAX_HDUS))


def test_a_fifo_a_folder_and_a_device_are_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    for path in (tmp_path / "fifo", tmp_path, Path("/dev/zero")):
        with pytest.raises(FitsProblem, match=r"not a regular file|cannot be opened"):
            fits.scan(path)


def test_a_link_is_followed_only_when_allowed(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(written(tmp_path, exposure()))

    assert len(fits.scan(tmp_path / "link").hdus) == 3
    with pytest.raises(FitsProblem, match="cannot be opened"):
        fits.scan(tmp_path / "link", follow_links=False)


def test_a_descriptor_is_read_without_being_moved_or_closed(tmp_path: Path) -> None:
    with open(written(tmp_path, exposure()), "rb") as file:
        assert len(fits.check_whole(file.fileno()).hdus) == 3
        assert file.read(6) == b"SIMPLE"


# Packed with malice


@pytest.mark.slow
@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress])
def test_a_packed_file_that_swells_beyond_reason_is_refused_in_little_memory(tmp_path: Path, pack) -> None:
    cards, _ = image(0, sky(0).astype("i2"), NAXIS1=6000, NAXIS2=8000)
    path = written(tmp_path, pack(header(primary()) + header(cards) + bytes(6000 * 8000 * 2)))
    tracemalloc.start()

    with pytest.raises(FitsProblem, match="times its size"):
        fits.check_whole(path)

    assert tracemalloc.get_traced_memory()[1] < 16 << 20
    tracemalloc.stop()


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress])
def test_a_packed_file_that_is_cut_or_damaged_is_refused(tmp_path: Path, pack) -> None:
    whole = pack(exposure())
    changed = bytearray(whole)
    changed[len(whole) // 2] ^= 0xFF
    for raw in (whole[:-9], whole[:2000], bytes(changed)):
        with pytest.raises(FitsProblem):
            fits.check_whole(written(tmp_path, raw))


# Cards


def test_every_way_to_write_a_value_is_read(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        in_primary(
            b"QUOTES  = 'it''s   '           / a comment with 'quotes'",
            b"EMPTY   =                      / nothing",
            b"BLANKS  = '        '",
            b"DEXP    =            1.5D-03",
            b"TINY    = .5",
            b"FALSE   =                    F",
            b"PLUS    =                  +12",
            b"COMPLEX = (1.0, 2.0)",
            b"HIERARCH ESO INS  FILT1 NAME = 'K''s' / a filter",
            b"LONG    = 'first &'",
            b"CONTINUE  'second &'",
            b"CONTINUE  'third' / the end",
            b"COMMENT = 'no value'",
            b"OPEN    = 'no end",
            b"INFINITE=              1.0E999",
        ),
    )

    found = fits.scan(path)

    header = found.hdus[0].header
    expected = {"QUOTES": "it's", "EMPTY": None, "BLANKS": "", "DEXP": 0.0015, "TINY": 0.5, "FALSE": False, "PLUS": 12}
    expected |= {"COMPLEX": "(1.0, 2.0)", "ESO INS FILT1 NAME": "K's", "LONG": "first second third", "OPEN": "no end"}
    expected |= {"INFINITE": "1.0E999"}
    assert {key: header[key] for key in expected} == expected
    assert "COMMENT" not in header
    assert [text for text in found.warnings if "OPEN" in text]


def test_astropy_reads_the_same_values(tmp_path: Path) -> None:
    path = written(tmp_path, exposure(kind="f4"))

    for ours, theirs in zip(fits.scan(path).hdus, astropy_fits.open(path), strict=True):
        assert dict(ours.header) == dict(theirs.header)


def test_only_the_keys_asked_for_are_kept_beside_the_structure(tmp_path: Path) -> None:
    found = fits.scan(written(tmp_path, exposure()), keys={"GAIN", "ESO INS NAME"}).hdus[1]

    assert found.header["GAIN"] == 5.0
    assert found.shape == (160, 128)
    assert "EXPTIME" not in found.header


def test_of_a_keyword_that_stands_twice_the_first_counts_and_is_told(tmp_path: Path) -> None:
    found = fits.scan(written(tmp_path, in_primary(card("OBJECT", "OTHER"))))

    assert found.hdus[0].header["OBJECT"] == "BROKEN"
    assert found.warnings == ("HDU 0: OBJECT stands twice, 'BROKEN' and 'OTHER': the first is used.",)


def test_no_more_warnings_are_told_than_a_person_reads(tmp_path: Path) -> None:
    cards = [f"KEY{number:<5}= word".encode() for number in range(500)]

    assert len(fits.scan(written(tmp_path, in_primary(*cards))).warnings) == fits.MAX_WARNINGS + 1


# Tables


@pytest.fixture
def catalogue(tmp_path: Path) -> Path:
    rng = np.random.default_rng(5)
    columns = [
        astropy_fits.Column("NAME", "7A", array=[f"star{n}" for n in range(5000)]),
        astropy_fits.Column("FLAGS", "I", array=rng.integers(0, 9, 5000)),
        astropy_fits.Column("X", "D", array=rng.normal(0, 1, 5000)),
        astropy_fits.Column("APER", "3E", array=rng.normal(0, 1, (5000, 3))),
        astropy_fits.Column("COUNT", "J", array=rng.integers(0, 2**32, 5000), bzero=2**31),
        astropy_fits.Column("ZERO", "E", array=np.zeros(5000)),
        astropy_fits.Column("LAST", "E", array=np.eye(1, 5000, 4999)[0]),
        astropy_fits.Column("NOTHING", "E", array=np.full(5000, np.nan)),
    ]
    astropy_fits.BinTableHDU.from_columns(columns).writeto(tmp_path / "cat.fits")
    return tmp_path / "cat.fits"


def test_columns_hold_what_astropy_reads(catalogue: Path) -> None:
    hdu = fits.scan(catalogue).hdus[1]

    found = fits.columns(catalogue, hdu, ["COUNT", "X", "APER", "FLAGS"])

    with astropy_fits.open(catalogue) as hdus:
        for name in found:
            assert np.array_equal(np.asarray(found[name]), np.asarray(hdus[1].data[name]).ravel()), name


def test_rows_can_be_limited_and_packed_tables_are_read_too(catalogue: Path, tmp_path: Path) -> None:
    path = written(tmp_path, gzip.compress(catalogue.read_bytes()))
    hdu = fits.scan(path).hdus[1]

    assert fits.columns(path, hdu, ["X"], rows=7)["X"] == fits.columns(catalogue, hdu, ["X"])["X"][:7]


def test_a_hollow_column_is_told_from_one_whose_last_value_counts(catalogue: Path) -> None:
    hdu = fits.scan(catalogue).hdus[1]

    hollow = {name: fits.column_is_all_zero(catalogue, hdu, name) for name in ("ZERO", "NOTHING", "LAST", "X")}

    assert hollow == {"ZERO": True, "NOTHING": True, "LAST": False, "X": False}


@pytest.mark.parametrize(("name", "reason"), [("Y", "has no column"), ("NAME", "plain numbers")])
def test_a_column_that_cannot_be_read_is_refused_by_name(catalogue: Path, name: str, reason: str) -> None:
    with pytest.raises(FitsProblem, match=reason):
        fits.columns(catalogue, fits.scan(catalogue).hdus[1], [name])


# Digests


def test_dates_history_and_checksums_do_not_change_the_science_digest(tmp_path: Path) -> None:
    plain = written(tmp_path, in_primary(card("DATE", "2020-01-01")), "a")
    dated = written(tmp_path, in_primary(card("DATE", "2021-02-02"), b"HISTORY again", b"COMMENT too"), "b")

    assert fits.science_digest(plain) == fits.science_digest(dated)
    assert fits.file_digest(plain) != fits.file_digest(dated)


def test_a_pixel_and_a_card_change_the_science_digest(tmp_path: Path) -> None:
    raw = bytearray(exposure())
    raw[-30_000] ^= 1
    contents = [exposure(), bytes(raw), exposure(GAIN=5.1), exposure(kind="i4")]

    digests = {fits.science_digest(written(tmp_path, content)) for content in contents}

    assert len(digests) == len(contents)


def test_packing_again_does_not_change_the_science_digest(tmp_path: Path) -> None:
    first = written(tmp_path, gzip.compress(exposure(), 1, mtime=1), "a.gz")
    second = written(tmp_path, gzip.compress(exposure(), 9, mtime=2), "b.gz")

    assert (
        fits.science_digest(first) == fits.science_digest(second) == fits.science_digest(written(tmp_path, exposure()))
    )


def test_a_head_file_is_compared_by_its_cards(tmp_path: Path) -> None:
    cards = b"CRVAL1  =   2.0E+02\nEND     \n"
    first = written(tmp_path, b"HISTORY   solved on Monday\nCOMMENT x\n" + cards, "a.head")
    second = written(tmp_path, b"HISTORY   solved on Tuesday\n" + cards, "b.head")
    other = written(tmp_path, cards.replace(b"2.0", b"2.1"), "c.head")

    assert fits.science_digest(first) == fits.science_digest(second) != fits.science_digest(other)


def test_how_long_an_extension_took_is_no_science_but_what_was_found_in_it_is(tmp_path: Path) -> None:
    def digest_with(seconds: int, found: int) -> str:
        row = f"<TD>1</TD><TD>01/12/2026</TD><TD>17:29:54</TD><TD>{seconds}</TD><TD>{found}</TD><TD>26</TD>"
        return fits.science_digest(written(tmp_path, f'<?xml version="1.0"?>\n{row}\n'.encode(), "c.xml"))

    assert digest_with(1, 30) == digest_with(0, 30)
    assert digest_with(1, 30) != digest_with(1, 31)


@pytest.mark.slow
def test_two_equal_runs_of_the_tools_have_equal_science_digests(tmp_path: Path) -> None:
    source_extractor = shutil.which("source-extractor") or shutil.which("sex")
    swarp = shutil.which("SWarp") or shutil.which("swarp")
    if not source_extractor or not swarp:
        pytest.skip("source-extractor and SWarp are not installed")
    pixels = written(tmp_path, exposure(kind="f4"), "img0001.fits")
    (tmp_path / "columns").write_text("NUMBER\nX_IMAGE\nY_IMAGE\nFLUX_AUTO\nVIGNET(9,9)\n")
    catalogue = [source_extractor, str(pixels), "-PARAMETERS_NAME", str(tmp_path / "columns"), "-FILTER", "N"]
    stiff = shutil.which("stiff")
    stack = [swarp, str(pixels), "-IMAGEOUT_NAME", "stack.fits", "-WRITE_XML", "N", "-NTHREADS", "1"]
    runs = []
    for number in (1, 2):
        folder = tmp_path / f"run{number}"
        folder.mkdir()
        began = int(time.time())
        for kind, name in (("FITS_LDAC", "c.ldac"), ("ASCII_VOTABLE", "c.xml")):
            subprocess.run([*catalogue, "-CATALOG_TYPE", kind, "-CATALOG_NAME", name], cwd=folder, check=True)
        subprocess.run(stack, cwd=folder, check=True)
        if stiff:
            subprocess.run([stiff, "stack.fits", "-OUTFILE_NAME", "p.tif", "-WRITE_XML", "N"], cwd=folder, check=True)
        while int(time.time()) == began:
            time.sleep(0.01)
        runs.append(folder)

    for name in ("c.ldac", "c.xml", "stack.fits", *(("p.tif",) if stiff else ())):
        assert fits.science_digest(runs[0] / name) == fits.science_digest(runs[1] / name), name


def test_sums_that_disagree_are_told_by_hdu(tmp_path: Path) -> None:
    raw = bytearray(with_sums())
    assert fits.disagreeing_sums(written(tmp_path, bytes(raw))) == []
    raw[-20_000] ^= 0xFF

    told = fits.disagreeing_sums(written(tmp_path, bytes(raw)))

    assert len(told) == 1
    assert "HDU 2" in told[0]


# Any bytes whatsoever


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(1, 6))])
def test_mutated_files_are_read_or_refused_and_nothing_else(tmp_path: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    goods = [exposure(), packed(), table(), gzip.compress(with_sums()), exposure(kind="f8")]
    refused = 0
    for number in range(150):
        path = written(tmp_path, mutated(goods[number % len(goods)], rng))
        for read in (fits.check_whole, fits.science_digest, fits.disagreeing_sums, fits.packing, read_table):
            try:
                read(path)
            except FitsProblem:
                refused += 1
    assert 50 < refused < 700


def read_table(path: Path) -> None:
    for hdu in fits.scan(path).hdus:
        for name in fits.table_columns(hdu):
            fits.column_is_all_zero(path, hdu, name)


def mutated(raw: bytes, rng: np.random.Generator) -> bytes:
    """One of: changed bytes in the headers, a digit blown up, cards exchanged, a piece cut out, cut short."""
    changed = bytearray(raw)
    way = rng.integers(5)
    for _ in range(rng.integers(1, 6)):
        at = int(rng.integers(0, min(len(changed), 9000)))
        start = at // 80 * 80
        if way == 0:
            changed[at] = rng.integers(256)
        elif way == 1:
            changed[start + 10 : start + 30] = str(rng.integers(-(10**12), 10**12)).rjust(20).encode()
        elif way == 2:
            other = int(rng.integers(0, 60)) * 80
            changed[start : start + 80], changed[other : other + 80] = (
                changed[other : other + 80],
                changed[start : start + 80],
            )
        elif way == 3:
            del changed[at : at + int(rng.integers(1, 3000))]
        else:
            del changed[int(rng.integers(0, len(changed))) :]
            break
    return bytes(changed)

"""Makes broken and odd exposures anew, each with what a careful program does with it: ok, warn or reject.

`BROKEN` is the table, `make_broken` writes the files. Whether Spica does so is tested in test_broken_files.py.
"""

# ruff: noqa: E501  (the table reads best with one file a line)

from __future__ import annotations

import bz2
import gzip
import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits

WIDTH, HEIGHT = 160, 128
BITPIX = {"u1": 8, "i2": 16, "i4": 32, "i8": 64, "f4": -32, "f8": -64}
Cards = dict[str, Any]


@dataclass(frozen=True)
class Broken:
    """`seen` is where it shows: in the "headers", in the "pixels", or only "beside" other exposures."""

    name: str
    what: str
    expect: str
    reason: str  # a part of the warning or refusal
    make: Callable[[], bytes]
    seen: str = "headers"


def primary(**changes: Any) -> Cards:
    cards: Cards = {"SIMPLE": True, "BITPIX": 8, "NAXIS": 0, "EXTEND": True}
    cards |= {"OBJECT": "BROKEN", "FILTER": "r.SIM03", "EXPTIME": 40.0, "DATE-OBS": "2020-01-01T07:12:00"}
    cards |= {"INSTRUME": "SpicaSim"}
    return changed(cards, changes)


def image(number: int, pixels: np.ndarray, **changes: Any) -> tuple[Cards, bytes]:
    kind = pixels.dtype.newbyteorder("=").str[1:]
    unsigned = kind == "u2"
    cards: Cards = {"XTENSION": "IMAGE", "BITPIX": 16 if unsigned else BITPIX[kind], "NAXIS": pixels.ndim}
    cards |= {f"NAXIS{axis}": size for axis, size in enumerate(reversed(pixels.shape), 1)}
    cards |= {"PCOUNT": 0, "GCOUNT": 1}
    if unsigned:
        cards |= {"BSCALE": 1, "BZERO": 32768}
        pixels = (pixels.astype(np.int32) - 32768).astype("i2")
    cards |= {"EXTNAME": f"ccd{number:02d}", "FILTER": "r.SIM03", "EXPTIME": 40.0, "GAIN": 5.0, "SATURATE": 60000.0}
    cards |= {"OBJECT": "BROKEN", "DATE-OBS": "2020-01-01T07:12:00", "AIRMASS": 1.1, "QRUNID": "20AS01"}
    cards |= {"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRVAL1": 150.0, "CRVAL2": 2.2}
    cards |= {"CRPIX1": 170.0 - 180.0 * number, "CRPIX2": 64.0}
    cards |= {"CD1_1": -0.00011, "CD1_2": 0.0, "CD2_1": 0.0, "CD2_2": 0.00011}
    return changed(cards, changes), pixels.astype(pixels.dtype.newbyteorder(">")).tobytes()


def changed(cards: Cards, changes: Mapping[str, Any]) -> Cards:
    """With `changes` on top; __ in a name is -, and None takes a card away."""
    merged = cards | {key.replace("__", "-"): value for key, value in changes.items()}
    return {key: value for key, value in merged.items() if value is not None}


def header(cards: Cards, *more: bytes, end: bool = True) -> bytes:
    lines = [card(key, value) for key, value in cards.items()]
    raw = b"".join(lines) + b"".join(line.ljust(80) for line in more) + (b"END".ljust(80) if end else b"")
    return raw + b" " * (-len(raw) % 2880)


def card(key: str, value: Any) -> bytes:
    if isinstance(value, bytes):
        return (f"{key:<8}= ".encode() + value).ljust(80)[:80]
    if isinstance(value, bool):
        shown = f"{'T' if value else 'F':>20}"
    elif isinstance(value, str):
        shown = "'" + value.replace("'", "''").ljust(8) + "'"
    else:
        shown = f"{value!r:>20}"
    return f"{key:<8}= {shown}".ljust(80).encode("ascii")


def data(raw: bytes) -> bytes:
    return raw + b"\0" * (-len(raw) % 2880)


def sky(number: int, kind: str = "i2", sources: int = 25) -> np.ndarray:
    """A CCD with noise and stars; the same for the same number."""
    rng = np.random.default_rng(20_040_101 + number)
    pixels = rng.normal(100.0, 5.0, (HEIGHT, WIDTH))
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    for x0, y0, peak in rng.uniform([8, 8, 100], [WIDTH - 8, HEIGHT - 8, 3000], (sources, 3)):
        pixels += peak * np.exp(-((x - x0) ** 2 + (y - y0) ** 2) / (2 * 1.5**2))
    if kind == "u1":
        pixels /= 16
    return pixels if kind.startswith("f") else np.clip(np.rint(pixels), 0, 255 if kind == "u1" else 32767)


def exposure(
    head: Cards | None = None, pixels: Callable[[int], np.ndarray] | None = None, kind: str = "i2", **changes: Any
) -> bytes:
    """A mosaic of two CCDs; `changes` are for the headers of both."""
    raw = header(primary() if head is None else head)
    for number in (0, 1):
        values = (pixels(number) if pixels else sky(number, kind)).astype(kind)
        cards, stored = image(number, values, **changes)
        raw += header(cards) + data(stored)
    return raw


def everywhere(**changes: Any) -> bytes:
    """With `changes` in the primary and in both CCDs."""
    return exposure(primary(**changes), **changes)


def in_primary(*more: bytes, **changes: Any) -> bytes:
    """With raw cards and `changes` in the primary only."""
    return header(primary(**changes), *more) + exposure()[2880:]


def one_ccd(number: int = 0, **changes: Any) -> bytes:
    cards, stored = image(number, sky(number).astype("i2"), **changes)
    return header(cards) + data(stored)


def first_ccd(**changes: Any) -> bytes:
    return header(primary()) + one_ccd(0, **changes) + one_ccd(1)


def two_named(first: str | None, second: str | None) -> bytes:
    return header(primary()) + one_ccd(0, EXTNAME=first) + one_ccd(1, EXTNAME=second)


def single(pixels: np.ndarray, **changes: Any) -> bytes:
    """One image, in the primary HDU."""
    cards, stored = image(0, pixels, **changes)
    for key in ("XTENSION", "PCOUNT", "GCOUNT"):
        del cards[key]
    return header({"SIMPLE": True} | cards) + data(stored)


def packed() -> bytes:
    """Tile-compressed with Rice, as fpack does."""
    with fits.open(io.BytesIO(exposure())) as hdus:
        images = [fits.CompImageHDU(hdu.data, hdu.header, compression_type="RICE_1") for hdu in hdus[1:]]
        out = io.BytesIO()
        fits.HDUList([hdus[0], *images]).writeto(out)
    return out.getvalue()


def table() -> bytes:
    column = fits.Column("X", "E", array=np.arange(10, dtype="f4"))
    out = io.BytesIO()
    fits.HDUList([fits.PrimaryHDU(), fits.BinTableHDU.from_columns([column])]).writeto(out)
    return out.getvalue()


def with_sums() -> bytes:
    with fits.open(io.BytesIO(exposure())) as hdus:
        out = io.BytesIO()
        hdus.writeto(out, checksum=True)
    return out.getvalue()


def changed_byte() -> bytes:
    raw = bytearray(with_sums())
    raw[-20_000] ^= 0xFF
    return bytes(raw)


def half_nan(number: int) -> np.ndarray:
    pixels = sky(number, "f4")
    if number == 0:
        pixels[: HEIGHT // 2] = np.nan
    pixels[70:80, 10:20] = np.inf
    pixels[90:100, 10:20] = -np.inf
    return pixels


def constant(value: float) -> Callable[[int], np.ndarray]:
    return lambda number: np.full((HEIGHT, WIDTH), value)


def shift(raw: bytes, old: bytes, new: bytes) -> bytes:
    """With each card that begins with `old` in the place of which stands `new`."""
    at = raw.find(old)
    while at >= 0:
        if at % 80 == 0:
            raw = raw[:at] + new.ljust(80) + raw[at + 80 :]
        at = raw.find(old, at + 80)
    return raw


def doubled(raw: bytes) -> bytes:
    """FILTER and CRVAL1 a second time, with other values, in place of two cards nobody needs."""
    raw = shift(raw, b"QRUNID  =", card("FILTER", "g.SIM02"))
    return shift(raw, b"AIRMASS =", card("CRVAL1", 200.0))


def cut_in_block() -> bytes:
    """The last block not filled; the pixels are whole."""
    return exposure()[: len(exposure()) - (-WIDTH * HEIGHT * 2 % 2880)]


def bomb() -> bytes:
    """A header, then 80 MB of zeros, which gzip makes a thousandth of."""
    head = header(primary()) + header(image(0, np.zeros((1, 1), "i2"), NAXIS1=10_000, NAXIS2=4_000)[0])
    return gzip.compress(head + bytes(80_000_000), mtime=0)


def many_extensions() -> bytes:
    empty = {"XTENSION": "IMAGE", "BITPIX": 8, "NAXIS": 0, "PCOUNT": 0, "GCOUNT": 1}
    return header(primary()) + header(empty) * 10_000


ZPN = {"CTYPE1": "RA---ZPN", "CTYPE2": "DEC--ZPN", "PV2_1": 1.0, "PV2_3": 44.0, "PV2_5": -10300.0}
HOSTILE = {
    "OBJECT": "<script>alert(1)</script>",
    "FILTER": "$(touch /tmp/pwn);`id`",
    "OBSERVER": "'; DROP TABLE images; --",
    "PROGRAM": "../../../etc/passwd",
}
NOISE = np.random.default_rng(7)
PNG = b"\x89PNG\r\n\x1a\n" + NOISE.bytes(6000)
HTML = b"<!DOCTYPE html><html><body><h1>404 Not Found</h1></body></html>\n" * 60
WCS = ("CTYPE1", "CTYPE2", "CRVAL1", "CRVAL2", "CRPIX1", "CRPIX2", "CD1_1", "CD1_2", "CD2_1", "CD2_2")

BROKEN = (
    Broken("good.fits", "good exposure, 2 CCDs", "ok", "", exposure),
    Broken("good_checksum.fits", "good, with CHECKSUM and DATASUM", "ok", "", with_sums),
    Broken("type_u8.fits", "good, pixels of type u8", "ok", "", lambda: exposure(kind="u1")),
    Broken("type_i32.fits", "good, pixels of type i32", "ok", "", lambda: exposure(kind="i4")),
    Broken("type_i64.fits", "good, pixels of type i64", "warn", "64-bit integers", lambda: exposure(kind="i8")),
    Broken("type_f32.fits", "good, pixels of type f32", "ok", "", lambda: exposure(kind="f4")),
    Broken("type_f64.fits", "good, pixels of type f64", "ok", "", lambda: exposure(kind="f8")),
    Broken("type_u16.fits", "good, pixels of type u16", "ok", "", lambda: exposure(kind="u2")),
    Broken("good.fits.gz", "gzip", "ok", "", lambda: gzip.compress(exposure(), mtime=0)),
    Broken("gzip_named_fits.fits", "gzip data in a file called .fits", "warn", "packed with gzip", lambda: gzip.compress(exposure(), mtime=0)),
    Broken("good.fits.bz2", "bzip2", "warn", "bzip2", lambda: bz2.compress(exposure())),
    Broken("good.fits.fz", "fpack, Rice", "ok", "", packed),
    Broken("fz_named_fits.fits", "tile-compressed HDUs in a file called .fits", "warn", "tile-compressed", packed),
    Broken("single.fits", "one image, in the primary HDU", "ok", "", lambda: single(sky(0).astype("i2"))),
    Broken("zero_byte.fits", "zero bytes", "reject", "0 bytes", lambda: b""),
    Broken("truncated_header.fits", "ends within the primary header", "reject", "ends within the header of HDU 0", lambda: exposure()[:1000]),
    Broken("truncated_data.fits", "ends within the data of the last CCD", "reject", "ends within the data of HDU 2", lambda: exposure()[:-20_000]),
    Broken("truncated_block.fits", "last block not padded to 2880 bytes, pixels whole", "warn", "not filled", cut_in_block),
    Broken("missing_end.fits", "no END card in the primary header", "reject", "no END card", lambda: header(primary(), end=False) + exposure()[2880:]),
    Broken("trailing_junk.fits", "5000 stray bytes after the last HDU", "warn", "5000 stray bytes", lambda: exposure() + b"\x01\x02\x03\x04\x05" * 1000),
    Broken("png.fits", "a PNG named .fits", "reject", "a PNG picture", lambda: PNG),
    Broken("html.fits", "an HTML error page named .fits", "reject", "a web page", lambda: HTML),
    Broken("random.fits", "random bytes", "reject", "is not FITS", lambda: np.random.default_rng(8).bytes(20_000)),
    Broken("text.fits", "text that begins with SIMPLE", "reject", "ends within the header", lambda: b"SIMPLE  = T is how FITS begins, this does not go on so.\n"),
    Broken("all_nan.fits", "all pixels NaN", "reject", "NaN", lambda: exposure(pixels=constant(np.nan), kind="f4"), "pixels"),
    Broken("some_nan.fits", "half of a CCD NaN, patches of +Inf and -Inf", "warn", "NaN or infinite", lambda: exposure(pixels=half_nan, kind="f4"), "pixels"),
    Broken("all_zero.fits", "all pixels zero", "reject", "zero", lambda: exposure(pixels=constant(0)), "pixels"),
    Broken("constant.fits", "all pixels 1000", "reject", "the same value, 1000", lambda: exposure(pixels=constant(1000)), "pixels"),
    Broken("only_noise.fits", "no sources, only noise", "warn", "no sources", lambda: exposure(pixels=lambda number: sky(number, sources=0)), "pixels"),
    Broken("saturated.fits", "all pixels at 65535", "reject", "saturated", lambda: exposure(pixels=constant(65535), kind="u2"), "pixels"),
    Broken("one_d.fits", "a spectrum, NAXIS = 1", "reject", "one axis", lambda: single(sky(0)[0].astype("i2"))),
    Broken("cube.fits", "a cube, NAXIS = 3", "reject", "a cube", lambda: single(np.stack([sky(0)] * 3).astype("i2"))),
    Broken("degenerate_4d.fits", "NAXIS = 4 with two axes of length 1", "warn", "NAXIS = 4", lambda: single(sky(0).astype("i2")[None, None])),
    Broken("no_data.fits", "a primary HDU without data, nothing else", "reject", "holds no image", lambda: header(primary())),
    Broken("one_pixel.fits", "1 x 1 pixel", "reject", "1 x 1 pixels", lambda: single(np.ones((1, 1), "i2"))),
    Broken("table_only.fits", "a table, no image", "reject", "a table and no image", table),
    Broken("table_between.fits", "a table between the two CCDs", "warn", "is a table", lambda: header(primary()) + one_ccd(0) + table()[2880:] + one_ccd(1)),
    Broken("huge_naxis.fits", "NAXIS1 says 2000000000 in the first CCD", "reject", "bytes are missing", lambda: first_ccd(NAXIS1=2_000_000_000)),
    Broken("negative_naxis.fits", "NAXIS1 says -160 in the first CCD", "reject", "NAXIS1 is -160", lambda: first_ccd(NAXIS1=-160)),
    Broken("bad_bitpix.fits", "BITPIX = 24", "reject", "BITPIX is 24", lambda: first_ccd(BITPIX=24)),
    Broken("bomb.fits.gz", "a gzip bomb: 80 MB in 80 kB", "reject", "times its size", bomb),
    Broken("many_extensions.fits", "10,000 extensions", "reject", "more than 4096 HDUs", many_extensions),
    Broken("absurd_pv.fits", "terms of distortion beyond all numbers", "reject", "leads nowhere", lambda: exposure(PV1_0=b"1.0E+200", PV1_1=b"1.0E+300", PV1_7=b"1.0E+300")),
    Broken("no_wcs.fits", "no WCS at all", "warn", "no sky coordinates", lambda: exposure(**dict.fromkeys(WCS))),
    Broken("half_wcs.fits", "CTYPE and CRVAL, no CD or CDELT", "warn", "no pixel scale", lambda: exposure(**dict.fromkeys(WCS[6:]))),
    Broken("singular_cd.fits", "CD matrix all zero", "reject", "pixels of 0 arcsec", lambda: exposure(CD1_1=0.0, CD2_2=0.0)),
    Broken("dec_123.fits", "CRVAL2 = 123 degrees", "reject", "declination", lambda: exposure(CRVAL2=123.0)),
    Broken("wrong_pointing.fits", "CRVAL1 wrong by 30 degrees", "warn", "30 degrees from the others", lambda: exposure(CRVAL1=180.0), "beside"),
    Broken("mirrored.fits", "CD1_1 with the wrong sign", "warn", "mirrored", lambda: exposure(CD1_1=0.00011), "beside"),
    Broken("sexagesimal_crval.fits", "CRVALs are strings, 10:00:00.0", "reject", "CRVAL1 is '10:00:00.0'", lambda: exposure(CRVAL1="10:00:00.0", CRVAL2="+02:12:00")),
    Broken("zpn.fits", "ZPN projection (VISTA, WFCAM): scamp 2.10 misreads it", "warn", "ZPN", lambda: exposure(**ZPN)),
    Broken("huge_header.fits", "30000 COMMENT cards in the primary header (2.4 MB)", "ok", "", lambda: in_primary(*[b"COMMENT nothing to say"] * 30_000)),
    Broken("nonascii.fits", "Latin-1 bytes in the OBJECT card", "warn", "OBJECT holds bytes", lambda: in_primary(OBJECT="'Géminides à l''œil'".encode("latin-1", "replace"))),
    Broken("utf8.fits", "UTF-8 bytes in the OBJECT card", "warn", "OBJECT holds bytes", lambda: in_primary(OBJECT="'星 α'".encode())),
    Broken("nul_in_header.fits", "NUL and control bytes in a card", "warn", "OBJECT holds bytes", lambda: in_primary(OBJECT=b"'A\x00B\x1b[31mC'")),
    Broken("duplicate_keys.fits", "FILTER and CRVAL1 twice, with other values", "warn", "FILTER stands twice", lambda: doubled(exposure())),
    Broken("bad_checksum.fits", "a data byte changed, so DATASUM and CHECKSUM disagree", "warn", "DATASUM", changed_byte),
    Broken("lowercase_key.fits", "keyword in lower case: filter", "warn", "lower case", lambda: in_primary(card("filter", "r.SIM03"), FILTER=None)),
    Broken("unquoted_string.fits", "FILTER = r.SIM03 without quotes", "warn", "neither a number nor a text", lambda: in_primary(FILTER=b"r.SIM03")),
    Broken("hostile_text.fits", "OBJECT, FILTER hold markup and shell text", "warn", "markup", lambda: everywhere(**HOSTILE)),
    Broken("hostile_extname.fits", "EXTNAME = ../../x and a;b", "warn", "odd signs", lambda: two_named("../../x", "a;b|c")),
    Broken("wrong_extname.fits", "EXTNAMEs of another camera (im1, im7)", "warn", "gaps", lambda: two_named("im1", "im7")),
    Broken("same_extname.fits", "both CCDs have EXTNAME ccd00", "warn", "'ccd00'", lambda: two_named("ccd00", "ccd00")),
    Broken("no_extname.fits", "no EXTNAME", "warn", "EXTNAME", lambda: two_named(None, None)),
    Broken("swapped_ccds.fits", "ccd01 before ccd00", "warn", "not in the order", lambda: header(primary()) + one_ccd(1) + one_ccd(0)),
    Broken("missing_ccd.fits", "one of the two CCDs is not there", "warn", "1 CCDs where", lambda: header(primary()) + one_ccd(0), "beside"),
    Broken("unequal_ccds.fits", "CCDs of unequal size", "warn", "unequal size", lambda: exposure(pixels=lambda n: sky(n)[: HEIGHT // (n + 1)])),
    Broken("no_filter.fits", "no FILTER", "warn", "no filter", lambda: everywhere(FILTER=None)),
    Broken("no_exptime.fits", "no EXPTIME", "warn", "EXPTIME", lambda: everywhere(EXPTIME=None)),
    Broken("negative_exptime.fits", "EXPTIME = -40", "reject", "EXPTIME is -40", lambda: everywhere(EXPTIME=-40.0)),
    Broken("string_exptime.fits", "EXPTIME = '40 s'", "warn", "'40 s'", lambda: everywhere(EXPTIME="40 s")),
    Broken("zero_gain.fits", "GAIN = 0", "warn", "GAIN is 0", lambda: exposure(GAIN=0.0)),
    Broken("bad_date.fits", "DATE-OBS = 2020-13-45", "warn", "2020-13-45", lambda: everywhere(DATE__OBS="2020-13-45T99:00:00")),
    Broken("old_date.fits", "DATE-OBS = 31/12/99", "warn", "1999-12-31", lambda: everywhere(DATE__OBS="31/12/99")),
    Broken("future_date.fits", "DATE-OBS = 2999-01-01", "warn", "future", lambda: everywhere(DATE__OBS="2999-01-01T00:00:00")),
    Broken("nan_key.fits", "CRVAL1 = NaN", "reject", "CRVAL1 is 'NaN'", lambda: first_ccd(CRVAL1=b"                 NaN")),
    Broken("own_tangents.fits", "each CCD with a CRVAL of its own", "warn", "tangent points", lambda: header(primary()) + one_ccd(0) + one_ccd(1, CRVAL1=150.02)),
    Broken("with space.fits", "good, a space in the name", "ok", "", exposure),
    Broken("-dash.fits", "good, name starts with -", "ok", "", exposure),
    Broken("quote'\"s.fits", "good, quotes in the name", "ok", "", exposure),
    Broken("étoile.fits", "good, UTF-8 name", "ok", "", exposure),
    Broken("a;touch x.fits", "good, a semicolon in the name", "ok", "", exposure),
    Broken("x" * 240 + ".fits", "good, a name of 245 bytes", "ok", "", exposure),
    Broken("UPPER.FITS", "good, upper-case ending", "ok", "", exposure),
    Broken("noending", "good, no ending", "ok", "", exposure),
    Broken("wild[1]*.fits", "good, brackets and a star: cfitsio reads [..] as a section", "ok", "", exposure),
)  # fmt: skip


def make_broken(folder: Path) -> dict[str, Path]:
    """Writes every file of BROKEN; {name: path}."""
    for one in BROKEN:
        (folder / one.name).write_bytes(one.make())
    return {one.name: folder / one.name for one in BROKEN}

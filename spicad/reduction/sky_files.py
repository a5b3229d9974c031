"""Writes the sky maker's files: exposures, bad-pixel map, LDAC reference catalogue, tables of the truth.

The same input gives the same bytes: no dates of writing, fixed comments of checksums. What stands in them
comes from sky_truth.py and sky_pixels.py.
"""

from __future__ import annotations

import csv
import dataclasses
import gzip
import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits
from astropy.time import Time

from spicad.reduction.sky_options import SkyOptions
from spicad.reduction.sky_pixels import CcdImage
from spicad.reduction.sky_raw import OVERSCAN, Calibration
from spicad.reduction.sky_truth import (
    BANDS,
    OTHER_BAND,
    RUNID,
    SATURATION_ADU,
    Camera,
    Ccd,
    Exposure,
    ReferenceCatalogue,
    Truth,
)

Card = tuple[str, Any, str]

STRUCTURE = {
    "SIMPLE": "conforms to the FITS standard",
    "XTENSION": "image extension",
    "BITPIX": "[bit] array data type",
    "NAXIS": "number of axes",
    "NAXIS1": "[pixel] length of axis 1",
    "NAXIS2": "[pixel] length of axis 2",
    "PCOUNT": "number of parameters",
    "GCOUNT": "number of groups",
    "EXTEND": "extensions may follow",
    "BSCALE": "[ADU] value of one unit",
    "BZERO": "[ADU] value of zero",
    "ZNAXIS1": "[pixel] length of axis 1",
    "ZNAXIS2": "[pixel] length of axis 2",
    "ZTILE1": "[pixel] length of a tile on axis 1",
    "ZTILE2": "[pixel] length of a tile on axis 2",
    "TTYPE1": "compressed tiles",
    "TFORM1": "variable length",
}


def write_exposure(path: Path, options: SkyOptions, camera: Camera, exposure: Exposure, images: list[CcdImage]) -> None:
    common = exposure_cards(exposure, 0 if options.single else len(images))
    hdus: list[Any] = []
    for ccd, image in zip(camera.ccds, images, strict=True):
        cards = [*common[:-1], *ccd_cards(ccd, camera), *wcs_cards(ccd, camera, exposure)]
        hdus.append(image_hdu(image.pixels, cards, primary=options.single, compressed=options.format == "fits.fz"))
    write_hdus(path, hdus if options.single and options.format != "fits.fz" else [primary_hdu(common), *hdus])


def write_raw_exposure(
    path: Path, options: SkyOptions, camera: Camera, exposure: Exposure, frames: Iterable[np.ndarray]
) -> None:
    common = exposure_cards(exposure, 0 if options.single else len(camera.ccds))
    common = [card for card in common if card[0] not in ("FILENAME", "NEXTEND")]
    common += [("FILENAME", f"{exposure.number}o", "name of the exposure")]
    _write_raw(path, options, camera, common, [wcs_cards(ccd, camera, exposure) for ccd in camera.ccds], frames)


def write_calibration(
    path: Path, options: SkyOptions, camera: Camera, frame: Calibration, frames: Iterable[np.ndarray]
) -> None:
    date = Time(frame.mjd, format="mjd").isot
    common: list[Card] = [
        *origin_cards(),
        ("OBJECT", frame.kind.capitalize(), "type of the exposure"),
        ("OBSTYPE", frame.kind, "type of the exposure"),
        ("IMAGETYP", frame.kind, "type of the exposure"),
        ("EXPNUM", frame.number, "number of the exposure"),
        ("FILENAME", frame.name, "name of the exposure"),
        ("RUNID", RUNID, "observing programme"),
        ("QRUNID", RUNID, "run of the instrument"),
        ("FILTER", _filter_word(frame.filter) if frame.filter else "NONE", "filter"),
        ("EXPTIME", frame.exptime_s, "[s] exposure time"),
        ("DATE-OBS", date, "[UTC] start of the exposure"),
        ("UTC-OBS", date[11:], "[UTC] start of the exposure"),
        ("MJD-OBS", round(frame.mjd, 8), "[d] start of the exposure"),
    ]
    _write_raw(path, options, camera, common, [[] for _ in camera.ccds], frames)


def _write_raw(
    path: Path,
    options: SkyOptions,
    camera: Camera,
    common: list[Card],
    places: Sequence[list[Card]],
    frames: Iterable[np.ndarray],
) -> None:
    packed, size = options.format == "fits.fz", camera.size
    hdus: list[Any] = []
    for ccd, place, frame in zip(camera.ccds, places, frames, strict=True):
        cards = [*common, *ccd_cards(ccd, camera), ("BIASSEC", f"[1:{OVERSCAN},1:{size}]", "[pixel] overscan")]
        cards += [("DATASEC", f"[{OVERSCAN + 1}:{OVERSCAN + size},1:{size}]", "[pixel] light")]
        cards += [(key, value + OVERSCAN if key == "CRPIX1" else value, words) for key, value, words in place]
        hdus.append(image_hdu(frame, cards, primary=options.single, compressed=packed))
    extensions = ("NEXTEND", 0 if options.single else len(hdus), "number of extensions")
    write_hdus(path, hdus if options.single and not packed else [primary_hdu([*common, extensions]), *hdus])


def write_bad_pixels(path: Path, options: SkyOptions, camera: Camera, bad: Iterable[np.ndarray]) -> None:
    common: list[Card] = [*origin_cards(), ("IMAGETYP", "BADPIX", "1 where a pixel is good, 0 where it is bad")]
    compressed = options.format == "fits.fz"
    hdus: list[Any] = []
    for ccd, mask in zip(camera.ccds, bad, strict=True):
        cards = [*common, ("EXTNAME", ccd.name, "CCD of the mosaic"), ("IMAGEID", ccd.number, "number of the CCD")]
        hdus.append(image_hdu((~mask).astype(np.uint8), cards, primary=options.single, compressed=compressed))
    write_hdus(path, hdus if options.single and not compressed else [primary_hdu(common), *hdus])


def write_reference(path: Path, catalogue: ReferenceCatalogue) -> None:
    cards = [f"{name:8}= {value:>20}" for name, value in (("SIMPLE", "T"), ("BITPIX", "8"), ("NAXIS", "0"))]
    text = "".join(card.ljust(80) for card in [*cards, "END"]).ljust(2880).encode()
    head = fits.BinTableHDU(np.array([(text,)], [("Field Header Card", "S2880")]), name="LDAC_IMHEAD")
    head.header["TDIM1"] = "(80, 36)"
    degrees, n = catalogue.error_arcsec / 3600, len(catalogue.ra)
    columns = [
        fits.Column("X_WORLD", "D", "deg", array=catalogue.ra),
        fits.Column("Y_WORLD", "D", "deg", array=catalogue.dec),
        fits.Column("ERRA_WORLD", "E", "deg", array=degrees),
        fits.Column("ERRB_WORLD", "E", "deg", array=degrees),
        fits.Column("ERRTHETA_WORLD", "E", "deg", array=np.zeros(n)),
        fits.Column("MAG", "E", "mag", array=catalogue.mag),
        fits.Column("MAGERR", "E", "mag", array=catalogue.magerr),
        fits.Column("OBSDATE", "D", "yr", array=np.full(n, 2003.78)),
    ]
    objects = fits.BinTableHDU.from_columns(columns, name="LDAC_OBJECTS")
    write_hdus(
        path, [primary_hdu([]), head, objects], signed=False
    )  # as all LDAC files; astropy strips the header's text


def write_sources(path: Path, truth: Truth) -> None:
    sources = truth.sources
    columns = [
        fits.Column("id", "J", array=np.arange(len(sources.ra))),
        fits.Column("field", "J", array=sources.field),
        fits.Column("star", "L", array=sources.star),
        fits.Column("ra", "D", "deg", array=sources.ra),
        fits.Column("dec", "D", "deg", array=sources.dec),
        *(fits.Column(f"mag_{name}", "E", "mag", array=mag) for name, mag in sources.mag.items()),
        fits.Column("fwhm", "E", "arcsec", array=sources.fwhm_arcsec),
        fits.Column("e1", "E", array=sources.e1),
        fits.Column("e2", "E", array=sources.e2),
        fits.Column("neighbour", "E", "arcsec", array=sources.neighbour_arcsec),
    ]
    write_hdus(path, [primary_hdu([]), fits.BinTableHDU.from_columns(columns, name="SOURCES")])


def write_detections(path: Path, rows: Sequence[tuple[int, int, CcdImage]]) -> None:
    columns = [
        *_where(rows, "star_ids"),
        fits.Column("id", "J", array=_joined(rows, "star_ids")),
        fits.Column("x", "D", "pixel", array=_joined(rows, "x")),
        fits.Column("y", "D", "pixel", array=_joined(rows, "y")),
        fits.Column("flux", "E", "adu", array=_joined(rows, "flux_adu")),
        fits.Column("saturated", "L", array=_joined(rows, "saturated")),
    ]
    write_hdus(path, [primary_hdu([]), fits.BinTableHDU.from_columns(columns, name="DETECTIONS")])


def write_cosmics(path: Path, rows: Sequence[tuple[int, int, CcdImage]]) -> None:
    columns = [
        *_where(rows, "cosmic_x"),
        fits.Column("x", "J", "pixel", array=_joined(rows, "cosmic_x") + 1),
        fits.Column("y", "J", "pixel", array=_joined(rows, "cosmic_y") + 1),
        fits.Column("adu", "E", "adu", array=_joined(rows, "cosmic_adu")),
    ]
    write_hdus(path, [primary_hdu([]), fits.BinTableHDU.from_columns(columns, name="COSMICS")])


def write_csv(path: Path, records: Sequence[Any]) -> None:
    """Frozen dataclasses, one a line, a column for each field."""
    names = [field.name for field in dataclasses.fields(records[0])]
    with path.open("w", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(names)
        table.writerows([_plain(getattr(record, name)) for name in names] for record in records)


def _plain(value: Any) -> Any:
    return (
        int(value) if isinstance(value, bool | np.bool_) else value.item() if isinstance(value, np.generic) else value
    )


def _where(rows: Sequence[tuple[int, int, CcdImage]], name: str) -> list[fits.Column]:
    lengths = [len(getattr(image, name)) for _, _, image in rows]
    return [
        fits.Column("exposure", "J", array=np.repeat([number for number, _, _ in rows], lengths)),
        fits.Column("ccd", "I", array=np.repeat([ccd for _, ccd, _ in rows], lengths)),
    ]


def _joined(rows: Sequence[tuple[int, int, CcdImage]], name: str) -> np.ndarray:
    return np.concatenate([getattr(image, name) for _, _, image in rows])


def origin_cards() -> list[Card]:
    return [
        ("ORIGIN", "SPICASKY", "made by spica sky: simulated data"),
        ("TELESCOP", "SIM 3.6m", "telescope"),
        ("INSTRUME", "SpicaSim", "instrument"),
        ("DETECTOR", "SpicaSim", "camera"),
    ]


def exposure_cards(exposure: Exposure, extensions: int) -> list[Card]:
    zero, _, extinction, _ = BANDS.get(exposure.filter, OTHER_BAND)
    date = Time(exposure.mjd, format="mjd").isot
    return [
        *origin_cards(),
        ("OBJECT", exposure.object, "name of the field"),
        ("OBSTYPE", "OBJECT", "type of the exposure"),
        ("IMAGETYP", "OBJECT", "type of the exposure"),
        ("EXPNUM", exposure.number, "number of the exposure"),
        ("FILENAME", f"{exposure.number}p", "name of the exposure"),
        ("RUNID", RUNID, "observing programme"),
        ("QRUNID", RUNID, "run of the instrument"),
        ("PI_NAME", "Simulated", "principal investigator"),
        ("FILTER", _filter_word(exposure.filter), "filter"),
        ("EXPTIME", exposure.exptime_s, "[s] exposure time"),
        ("DATE-OBS", date, "[UTC] start of the exposure"),
        ("UTC-OBS", date[11:], "[UTC] start of the exposure"),
        ("MJD-OBS", round(exposure.mjd, 8), "[d] start of the exposure"),
        ("AIRMASS", exposure.airmass, "airmass"),
        ("RA", _sexagesimal(exposure.header_ra / 15, 3), "[h:m:s] right ascension asked for"),
        ("DEC", _sexagesimal(exposure.header_dec, 2, "+"), "[deg:m:s] declination asked for"),
        ("RA_DEG", round(exposure.header_ra, 8), "[deg] right ascension asked for"),
        ("DEC_DEG", round(exposure.header_dec, 8), "[deg] declination asked for"),
        ("EQUINOX", 2000.0, "[yr] equinox of the coordinates"),
        ("RADESYS", "ICRS", "reference frame"),
        ("PHOT_C", zero, "[mag] nominal zero point, 1 ADU/s, airmass 1"),
        ("PHOT_K", -extinction, "[mag] extinction, times AIRMASS - 1"),
        ("PHOTFLAG", exposure.cloud_mag == 0, "was the sky photometric?"),
        ("NEXTEND", extensions, "number of extensions"),
    ]


def _filter_word(name: str) -> str:
    return f"{name}.SIM{sorted(BANDS).index(name) + 1 if name in BANDS else 0:02d}"


def ccd_cards(ccd: Ccd, camera: Camera) -> list[Card]:
    return [
        ("EXTNAME", ccd.name, "CCD of the mosaic"),
        ("IMAGEID", ccd.number, "number of the CCD"),
        ("GAIN", ccd.gain, "[electron/ADU] gain"),
        ("RDNOISE", ccd.rdnoise_e, "[electron] read noise"),
        ("SATURATE", SATURATION_ADU, "[ADU] saturation level"),
        ("DETSEC", _place(ccd, camera), "[pixel] place in the mosaic"),
    ]


def wcs_cards(ccd: Ccd, camera: Camera, exposure: Exposure) -> list[Card]:
    """What the telescope believes: no distortion, no rotation, CCDs at their nominal places."""
    sign = -1 if ccd.turned else 1
    centre, degrees = (camera.size + 1) / 2, sign * camera.scale / 3600
    return [
        ("CTYPE1", "RA---TAN", "projection of axis 1"),
        ("CTYPE2", "DEC--TAN", "projection of axis 2"),
        ("CUNIT1", "deg", "unit of axis 1"),
        ("CUNIT2", "deg", "unit of axis 2"),
        ("CRVAL1", round(exposure.header_ra, 8), "[deg] right ascension at the reference"),
        ("CRVAL2", round(exposure.header_dec, 8), "[deg] declination at the reference"),
        ("CRPIX1", centre - sign * ccd.u0, "[pixel] reference on axis 1"),
        ("CRPIX2", centre - sign * ccd.v0, "[pixel] reference on axis 2"),
        ("CD1_1", -degrees, "[deg/pixel] transformation matrix"),
        ("CD1_2", 0.0, "[deg/pixel] transformation matrix"),
        ("CD2_1", 0.0, "[deg/pixel] transformation matrix"),
        ("CD2_2", degrees, "[deg/pixel] transformation matrix"),
    ]


def _place(ccd: Ccd, camera: Camera) -> str:
    """DETSEC counts CCDs without their gaps; a turned one runs backwards."""
    step = camera.ccds[1].u0 - camera.ccds[0].u0 if len(camera.ccds) > 1 else 1.0
    left, bottom = camera.ccds[0].u0, camera.ccds[0].v0
    ranges = []
    for offset in (ccd.u0 - left, ccd.v0 - bottom):
        first = round(offset / step) * camera.size + 1
        ends = (first, first + camera.size - 1)
        ranges.append("{}:{}".format(*(reversed(ends) if ccd.turned else ends)))
    return f"[{','.join(ranges)}]"


def _sexagesimal(value: float, decimals: int, plus: str = "") -> str:
    units = round(abs(value) * 3600 * 10**decimals)
    seconds, fraction = divmod(units, 10**decimals)
    sign = "-" if value < 0 else plus
    return f"{sign}{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}.{fraction:0{decimals}d}"


def primary_hdu(cards: Sequence[Card]) -> fits.PrimaryHDU:
    return _described(fits.PrimaryHDU(), cards)


def image_hdu(pixels: np.ndarray, cards: Sequence[Card], primary: bool, compressed: bool) -> Any:
    hdu = _described((fits.PrimaryHDU if primary else fits.ImageHDU)(pixels), cards)
    return _compressed(hdu) if compressed else hdu


def _compressed(hdu: Any) -> fits.BinTableHDU:
    """The table that holds the tiles, so that its own checksum can be written without a date."""
    _sign(hdu)
    file = io.BytesIO()
    fits.HDUList([fits.PrimaryHDU(), fits.CompImageHDU(hdu.data, hdu.header, compression_type="RICE_1")]).writeto(file)
    table = fits.open(io.BytesIO(file.getvalue()), disable_image_compression=True)[1]
    _explain(table)
    return table


def _described(hdu: Any, cards: Sequence[Card]) -> Any:
    for name, value, comment in cards:
        hdu.header[name] = (value, comment)
    hdu.update_header()
    _explain(hdu)
    return hdu


def _explain(hdu: Any) -> None:
    """astropy leaves some structural cards without a comment."""
    for name, comment in STRUCTURE.items():
        if name in hdu.header and not hdu.header.comments[name]:
            hdu.header.comments[name] = comment


def _sign(hdu: Any) -> None:
    hdu.add_datasum(when="checksum of the data")
    hdu.add_checksum(when="checksum of the whole HDU", override_datasum=True)


def write_hdus(path: Path, hdus: Sequence[Any], signed: bool = True) -> None:
    for hdu in hdus if signed else ():
        _sign(hdu)
    file = io.BytesIO()
    fits.HDUList(list(hdus)).writeto(file)
    raw = file.getvalue()
    path.write_bytes(gzip.compress(raw, compresslevel=1, mtime=0) if path.suffix == ".gz" else raw)

"""Makes LDAC catalogues of the made sky without painting it: true positions with a centroid's errors, rough headers.

Hundreds of CCDs in seconds, for tests and benchmarks of astrometry. What the sky holds is in sky_truth.py.
"""

from __future__ import annotations

import csv
import dataclasses
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from astropy.io import fits

from spicad.reduction import ldac, sky_files, sky_pixels, sky_truth
from spicad.reduction.sky_options import SkyOptions
from spicad.reduction.tangent import Tangent, projected


@dataclass(frozen=True)
class Rough:
    """How wrong the headers are: pointing (arcmin), angle, scale (a factor), mirrored."""

    east_arcmin: float = 0.0
    north_arcmin: float = 0.0
    angle_deg: float = 0.0
    scale: float = 1.0
    mirrored: bool = False
    ccds: tuple[int, ...] = ()  # the CCDs that are mirrored about their own middle; others are right


@dataclass(frozen=True)
class MadeSet:
    folder: Path
    truth: sky_truth.Truth
    catalogues: tuple[Path, ...]
    reference: Path


def make(
    folder: Path,
    options: SkyOptions,
    rough: Rough = Rough(),
    *,
    turbulence_arcsec: float = 0.01,
    reference_error: float | None = None,
    least_snr: float = 8.0,
) -> MadeSet:
    """`reference_error` (arcsec) instead of that of the sky's own reference catalogue; 0: a perfect one."""
    truth = sky_truth.planted(options)
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for exposure in truth.exposures:
        rng = np.random.default_rng([options.seed, 77, exposure.number])
        ccds = [_ccd(truth, exposure, ccd, rough, rng, turbulence_arcsec, least_snr) for ccd in truth.camera.ccds]
        paths.append(folder / f"{exposure.number}p.cat")
        ldac.write(paths[-1], ccds)
    catalogue = sky_truth.reference_of(truth)
    if reference_error is not None:
        catalogue = perfect_reference(truth, reference_error)
    sky_files.write_reference(folder / "refcat.cat", catalogue)
    return MadeSet(folder, truth, tuple(paths), folder / "refcat.cat")


def perfect_reference(truth: sky_truth.Truth, error_arcsec: float) -> sky_truth.ReferenceCatalogue:
    sources = truth.sources
    band = "r" if "r" in sources.mag else next(iter(sources.mag))
    kept = np.flatnonzero(sources.star & (sources.mag[band] < sky_truth.depth_of(truth.options) - 1.5))
    rng = np.random.default_rng(truth.options.seed)
    ra, dec = sky_truth.unprojected(
        sources.ra[kept], sources.dec[kept], *(rng.normal(0, error_arcsec, len(kept)) for _ in "xy")
    )
    error = np.full(len(kept), max(error_arcsec, 0.001))
    return sky_truth.ReferenceCatalogue(ra, dec, error, sources.mag[band][kept], np.full(len(kept), 0.02))


def _ccd(
    truth: sky_truth.Truth,
    exposure: sky_truth.Exposure,
    ccd: sky_truth.Ccd,
    rough: Rough,
    rng: np.random.Generator,
    turbulence_arcsec: float,
    least_snr: float,
) -> ldac.CcdCatalogue:
    options, size = truth.options, truth.camera.size
    x, y = sky_pixels.positions(truth, exposure, ccd)
    flux = 10 ** (0.4 * (exposure.zeropoint + ccd.dzp - truth.sources.mag[exposure.filter]))
    sigma = np.hypot(exposure.seeing_arcsec, truth.sources.fwhm_arcsec) / 2.355 / options.scale
    background = exposure.sky_adu / ccd.gain + (ccd.rdnoise_e / ccd.gain) ** 2
    noise = np.sqrt(flux / ccd.gain + 4 * math.pi * sigma**2 * background)
    inside = (truth.sources.field == exposure.field) & (flux / noise > least_snr)
    inside &= (x > 0.5) & (x < size + 0.5) & (y > 0.5) & (y < size + 0.5)
    at = np.flatnonzero(inside)
    error = sigma[at] * noise[at] / flux[at]
    spread = np.hypot(error, turbulence_arcsec / options.scale)
    table = np.zeros(len(at), [(name, kind) for name, kind, _ in COLUMNS])
    table["NUMBER"], table["FLUX_AUTO"], table["FLUXERR_AUTO"] = np.arange(1, len(at) + 1), flux[at], noise[at]
    table["XWIN_IMAGE"], table["YWIN_IMAGE"] = rng.normal(x[at], spread), rng.normal(y[at], spread)
    table["X_IMAGE"], table["Y_IMAGE"] = table["XWIN_IMAGE"], table["YWIN_IMAGE"]
    table["ERRAWIN_IMAGE"] = table["ERRBWIN_IMAGE"] = error
    table["FWHM_IMAGE"], table["FLUX_RADIUS"] = 2.355 * sigma[at], 1.2 * sigma[at]
    table["ELONGATION"], table["TRUE_ID"] = 1.05, at
    table["FLAGS"] = np.where(flux[at] / (2 * math.pi * sigma[at] ** 2) > sky_truth.SATURATION_ADU, 4, 0)
    units = {name: unit for name, _, unit in COLUMNS if unit}
    return ldac.CcdCatalogue(_cards(truth, exposure, ccd, rough), table, units)


COLUMNS = (
    ("NUMBER", "i4", ""),
    ("X_IMAGE", "f4", "pixel"),
    ("Y_IMAGE", "f4", "pixel"),
    ("XWIN_IMAGE", "f8", "pixel"),
    ("YWIN_IMAGE", "f8", "pixel"),
    ("ERRAWIN_IMAGE", "f4", "pixel"),
    ("ERRBWIN_IMAGE", "f4", "pixel"),
    ("ERRTHETAWIN_IMAGE", "f4", "deg"),
    ("FLUX_AUTO", "f4", "count"),
    ("FLUXERR_AUTO", "f4", "count"),
    ("FLUX_RADIUS", "f4", "pixel"),
    ("FWHM_IMAGE", "f4", "pixel"),
    ("ELONGATION", "f4", ""),
    ("ELLIPTICITY", "f4", ""),
    ("FLAGS", "i2", ""),
    ("TRUE_ID", "i4", ""),
)


def _cards(truth: sky_truth.Truth, exposure: sky_truth.Exposure, ccd: sky_truth.Ccd, rough: Rough) -> tuple[bytes, ...]:
    wcs = {key: value for key, value, _ in sky_files.wcs_cards(ccd, truth.camera, exposure)}
    wcs["CRVAL2"] += rough.north_arcmin / 60
    wcs["CRVAL1"] += rough.east_arcmin / 60 / math.cos(math.radians(wcs["CRVAL2"]))
    cd = np.array([[wcs["CD1_1"], wcs["CD1_2"]], [wcs["CD2_1"], wcs["CD2_2"]]]) * rough.scale
    c, s = math.cos(math.radians(rough.angle_deg)), math.sin(math.radians(rough.angle_deg))
    cd = np.array([[c, -s], [s, c]]) @ cd
    if rough.mirrored:
        cd[0] *= -1
    if ccd.number in rough.ccds:  # about the middle of the CCD
        middle = np.full(2, (truth.camera.size + 1) / 2)
        plane = cd @ (middle - [wcs["CRPIX1"], wcs["CRPIX2"]])
        cd = cd @ np.diag([-1.0, 1.0])
        wcs["CRPIX1"], wcs["CRPIX2"] = middle - np.linalg.solve(cd, plane)
    wcs |= {f"CD{i}_{j}": cd[i - 1, j - 1] for i in (1, 2) for j in (1, 2)}
    header = fits.Header()
    header["SIMPLE"], header["BITPIX"] = True, 16
    header["NAXIS"], header["NAXIS1"], header["NAXIS2"] = 2, truth.camera.size, truth.camera.size
    for key, value, _ in (*sky_files.exposure_cards(exposure, 1), *sky_files.ccd_cards(ccd, truth.camera)):
        header[key] = value
    header.update({key: float(value) if not isinstance(value, str) else value for key, value in wcs.items()})
    return tuple(str(card).encode("ascii") for card in header.cards)


def miss_of_true_stars(
    made: MadeSet, exposure: sky_truth.Exposure, tangents: list[Tangent], brightest: float = math.inf
) -> np.ndarray:
    """(n, 2) arcsec east and north: true places through the WCS less those on the sky, stars brighter than r = ..."""
    truth, parts = made.truth, []
    star = truth.sources.star & (truth.sources.field == exposure.field)
    star &= truth.sources.mag[exposure.filter] < brightest
    for ccd, tangent in zip(truth.camera.ccds, tangents, strict=True):
        x, y = sky_pixels.positions(truth, exposure, ccd)
        size = truth.camera.size
        on = star & (x > 0.5) & (x < size + 0.5) & (y > 0.5) & (y < size + 0.5)
        centre = (exposure.ra, exposure.dec)
        found = np.column_stack(projected(centre, *tangent.sky(x[on], y[on])))
        parts.append((found - np.column_stack(projected(centre, truth.sources.ra[on], truth.sources.dec[on]))) * 3600)
    return np.concatenate(parts)


def write_csv_reference(made: MadeSet, path: Path) -> None:
    """The reference stars as a file from Gaia's archive would have them."""
    stars = sky_truth.reference_of(made.truth)
    with path.open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["ra", "dec", "ra_error", "dec_error", "phot_g_mean_mag"])
        columns = (stars.ra, stars.dec, 1e3 * stars.error_arcsec, 1e3 * stars.error_arcsec, stars.mag)
        table.writerows(zip(*columns, strict=True))


def smaller(options: SkyOptions, **changes: object) -> SkyOptions:
    return dataclasses.replace(options, **changes)  # type: ignore[arg-type]

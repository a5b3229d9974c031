"""What the sky maker plants: sources, camera, exposures, cosmic rays. All drawn from the seed, nothing from a disk.

Painting it into pixels is in sky_pixels.py, writing it in sky_files.py.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spicad.reduction.sky_options import SkyOptions

Array = NDArray[np.float64]

EXPTIME_S = 120.0
FIRST_NUMBER = 900001
FIRST_MJD = 52925.25
OVERHEAD_S = 40.0  # MegaCam's readout
RUNID = "03BS01"
SATURATION_ADU = 62000.0
GAIN = 1.6
READ_NOISE_E = 5.0
MOFFAT_BETA = 4.0
NEIGHBOURHOOD_ARCSEC = 20.0

# Per filter: zero point for 1 ADU/s, sky mag/arcsec2, extinction mag/airmass, colour term on (g-r). About MegaCam's.
BANDS = {
    "u": (25.3, 22.7, 0.35, 2.4),
    "g": (26.4, 22.0, 0.15, 1.0),
    "r": (26.0, 21.3, 0.10, 0.0),
    "i": (25.7, 20.3, 0.05, -0.5),
    "z": (24.8, 19.4, 0.04, -0.8),
}
OTHER_BAND = BANDS["r"]

# The four CFHTLS Deep fields, then one across 0h and one close to the pole, where coordinates are easily got wrong.
CENTRES = ((36.4958, -4.4944), (150.1192, 2.2058), (214.8608, 52.6783), (333.8788, -17.7322), (0.0, 0.9), (100.0, 88.6))

# The first number of a stream of random numbers; options that touch one stream leave the others as they were.
CAMERA, SOURCES, EXPOSURE, NOISE, COSMICS, BAD_PIXELS, REFERENCE, RAW = range(8)


def stream(options: SkyOptions, *which: int) -> np.random.Generator:
    return np.random.default_rng([options.seed, *which])


@dataclass(frozen=True)
class Ccd:
    """`u0, v0`: nominal centre in the focal plane (pixels); `du, dv, rotation_deg`: where it really is."""

    number: int
    name: str
    u0: float
    v0: float
    du: float
    dv: float
    rotation_deg: float
    turned: bool  # mounted turned by 180 degrees
    dzp: float
    gain: float
    rdnoise_e: float


@dataclass(frozen=True)
class Camera:
    """Radial (k1, k2) and decentring (p1, p2) distortion of the focal plane, in units of `rmax_arcsec`."""

    size: int
    scale: float
    half_u: float
    half_v: float
    k1: float
    k2: float
    p1: float
    p2: float
    ccds: tuple[Ccd, ...]

    @property
    def rmax_arcsec(self) -> float:
        return math.hypot(self.half_u, self.half_v) * self.scale

    def focal_plane(self, xi: Array, eta: Array) -> tuple[Array, Array]:
        """Tangent plane (arcsec) to focal plane (pixels), right ascension growing to the left."""
        x, y = xi / self.rmax_arcsec, eta / self.rmax_arcsec
        r2 = x * x + y * y
        radial = 1 + self.k1 * r2 + self.k2 * r2 * r2
        xd = x * radial + 2 * self.p1 * x * y + self.p2 * (r2 + 2 * x * x)
        yd = y * radial + self.p1 * (r2 + 2 * y * y) + 2 * self.p2 * x * y
        pixels = self.rmax_arcsec / self.scale
        return -xd * pixels, yd * pixels

    def on_ccd(self, ccd: Ccd, u: Array, v: Array) -> tuple[Array, Array]:
        """Focal plane to the pixels of `ccd`, counted from 1,1."""
        du, dv = u - ccd.u0 - ccd.du, v - ccd.v0 - ccd.dv
        sign = -1.0 if ccd.turned else 1.0
        x, y = turned(du, dv, -ccd.rotation_deg)
        centre = (self.size + 1) / 2
        return sign * x + centre, sign * y + centre


@dataclass(frozen=True)
class Sources:
    """Stars and galaxies of all fields; `fwhm_arcsec`, `e1`, `e2` are the galaxies' own shapes.

    `neighbour_arcsec`: to the nearest source at most 2 mag fainter; far neighbours count as NEIGHBOURHOOD_ARCSEC.
    """

    field: NDArray[np.int32]
    star: NDArray[np.bool_]
    ra: Array
    dec: Array
    mag: dict[str, Array]
    fwhm_arcsec: Array
    e1: Array
    e2: Array
    neighbour_arcsec: Array


@dataclass(frozen=True)
class Exposure:
    """One exposure as it was commanded (`header_*`) and as it really was."""

    number: int
    field: int
    object: str
    filter: str
    k: int
    header_ra: float
    header_dec: float
    ra: float
    dec: float
    rotation_deg: float
    seeing_arcsec: float
    e1: float
    e2: float
    airmass: float
    cloud_mag: float
    exptime_s: float
    mjd: float
    sky_adu: float
    zeropoint: float
    trail: bool
    trail_angle_deg: float
    trail_offset_pixels: float


@dataclass(frozen=True)
class Truth:
    options: SkyOptions
    camera: Camera
    sources: Sources
    exposures: tuple[Exposure, ...]


def planted(options: SkyOptions) -> Truth:
    camera = camera_of(options)
    return Truth(options, camera, sources_of(options, camera), tuple(exposures_of(options)))


def camera_of(options: SkyOptions) -> Camera:
    rng = stream(options, CAMERA)
    columns = math.ceil(math.sqrt(options.ccds))
    rows = math.ceil(options.ccds / columns)
    step = options.size + gap_pixels(options)
    half_u, half_v = columns * step / 2, rows * step / 2
    rmax_arcsec = math.hypot(half_u, half_v) * options.scale
    # 1.7 arcsec in the corner, and a tenth of it in higher and decentred terms; less where the field is tiny.
    corner = min(1.7, 0.012 * rmax_arcsec) / rmax_arcsec
    shapes = rng.uniform(0.05, 0.10, 3) * rng.choice([-1.0, 1.0], 3) * corner
    zero_points = rng.normal(0.0, 0.03, options.ccds).clip(-0.06, 0.06)
    zero_points -= zero_points.mean()
    ccds = tuple(
        Ccd(
            number=n,
            name=f"ccd{n:02d}",
            u0=(n % columns - (columns - 1) / 2) * step,
            v0=(n // columns - (rows - 1) / 2) * step,
            du=rng.normal(0.0, 2.0),
            dv=rng.normal(0.0, 2.0),
            rotation_deg=rng.normal(0.0, 0.03),
            turned=n // columns >= (rows + 1) // 2,  # the upper rows, as in MegaCam
            dzp=float(zero_points[n]),
            gain=round(GAIN * rng.uniform(0.95, 1.05), 3),
            rdnoise_e=round(READ_NOISE_E * rng.uniform(0.9, 1.1), 2),
        )
        for n in range(options.ccds)
    )
    k2, p1, p2 = (float(shape) for shape in shapes)
    return Camera(options.size, options.scale, half_u, half_v, corner, k2, p1, p2, ccds)


def gap_pixels(options: SkyOptions) -> int:
    return max(4, round(0.06 * options.size))


def dither_pixels(options: SkyOptions) -> float:
    """Some gaps wide, so that a star falls on other CCDs and SCAMP can tie them together."""
    return 0.15 * options.size


def exposures_of(options: SkyOptions) -> Iterator[Exposure]:
    index = 0
    for field in range(options.fields):
        for band, name in enumerate(options.filters):
            for k in range(options.exposures):
                yield _exposure(options, index, field, band, name, k)
                index += 1


def _exposure(options: SkyOptions, index: int, field: int, band: int, name: str, k: int) -> Exposure:
    rng = stream(options, EXPOSURE, field, band, k)
    zero, sky_mag, extinction, _ = BANDS.get(name, OTHER_BAND)
    # A golden-angle spiral covers the dither circle evenly for any number of exposures.
    radius = dither_pixels(options) * options.scale * math.sqrt(k / max(1, options.exposures - 1))
    angle = math.radians(137.508 * k + 40 * band)
    header_ra, header_dec = unprojected(*centre_of(field), radius * math.cos(angle), radius * math.sin(angle))
    error = rng.normal(0.0, 1.5, 2).clip(-4.0, 4.0)
    ra, dec = unprojected(float(header_ra), float(header_dec), error[0], error[1])
    airmass = round(rng.uniform(1.0, 1.6), 4)
    cloud = 0.0 if k == 0 else rng.uniform(0.02, 0.15)
    sky = 10 ** (0.4 * (zero - sky_mag)) * options.scale**2 * EXPTIME_S * rng.uniform(0.9, 1.1)
    return Exposure(
        number=FIRST_NUMBER + index,
        field=field,
        object=object_of(field),
        filter=name,
        k=k,
        header_ra=float(header_ra),
        header_dec=float(header_dec),
        ra=float(ra),
        dec=float(dec),
        rotation_deg=rng.normal(0.0, 0.02),
        seeing_arcsec=rng.uniform(0.62, 0.82) * coarseness(options),
        e1=rng.normal(0.0, 0.015),
        e2=rng.normal(0.0, 0.015),
        airmass=airmass,
        cloud_mag=cloud,
        exptime_s=EXPTIME_S,
        mjd=FIRST_MJD + index * (EXPTIME_S + OVERHEAD_S) / 86400,
        sky_adu=min(sky, SATURATION_ADU / 3),
        zeropoint=zero + 2.5 * math.log10(EXPTIME_S) - extinction * (airmass - 1) - cloud,
        trail=options.trail and k == options.exposures - 1,
        trail_angle_deg=rng.uniform(20.0, 70.0),
        trail_offset_pixels=rng.uniform(-0.3, 0.3) * options.size,
    )


def coarseness(options: SkyOptions) -> float:
    """Widens the seeing (arcsec) where pixels are coarse: below 2.5 pixels centroids and SCAMP's matches go bad."""
    return max(1.0, options.scale / 0.24)


def object_of(field: int) -> str:
    return f"SPICA-{chr(ord('A') + field)}" if field < 26 else f"SPICA-{field + 1}"


def centre_of(field: int) -> tuple[float, float]:
    """Pointings of the table first, then evenly over the sphere by the golden angle, at least 7 degrees apart."""
    if field < len(CENTRES):
        return CENTRES[field]
    n = field - len(CENTRES)
    height = 0.8 - 1.6 * (n + 0.5) / 93  # the sine of the declination, for 99 fields in all
    return round((137.508 * n + 110) % 360, 4), round(math.degrees(math.asin(height)), 4)


def depth_of(options: SkyOptions) -> float:
    """Magnitude of a point source at 5 sigma in the reference band (r), in the middle of the seeing."""
    zero, sky_mag, _, _ = BANDS["r"]
    sky = 10 ** (0.4 * (zero - sky_mag)) * options.scale**2 * EXPTIME_S
    noise = math.sqrt(sky / GAIN + (READ_NOISE_E / GAIN) ** 2)
    sigma_pixels = 0.72 * coarseness(options) / 2.355 / options.scale
    return zero + 2.5 * math.log10(EXPTIME_S) - 2.5 * math.log10(5 * noise * sigma_pixels * math.sqrt(4 * math.pi))


def sources_of(options: SkyOptions, camera: Camera) -> Sources:
    parts = [_sources_of_field(options, camera, field) for field in range(options.fields)]

    def joined(name: str) -> Any:
        return np.concatenate([getattr(part, name) for part in parts])

    mag = {name: np.concatenate([part.mag[name] for part in parts]) for name in options.filters}
    field, star, ra, dec = map(joined, ("field", "star", "ra", "dec"))
    return Sources(field, star, ra, dec, mag, *map(joined, ("fwhm_arcsec", "e1", "e2", "neighbour_arcsec")))


def _sources_of_field(options: SkyOptions, camera: Camera, field: int) -> Sources:
    rng = stream(options, SOURCES, field)
    margin = (dither_pixels(options) + 0.03 * camera.half_u) * options.scale + 8.0
    width, height = (2 * (half * options.scale + margin) for half in (camera.half_u, camera.half_v))
    stars = round(options.stars * width * height / (options.size * options.scale) ** 2)
    galaxies = round(0.35 * stars)
    n, depth = stars + galaxies, depth_of(options)
    star = np.arange(n) < stars
    xi, eta = (rng.uniform(-0.5, 0.5, n) * side for side in (width, height))
    ra, dec = unprojected(*centre_of(field), xi, eta)
    r_mag = np.concatenate([counts(rng, stars, 0.20, depth - 10.5, depth + 0.7), counts(rng, galaxies, 0.4, 18, depth)])
    colour = rng.uniform(0.2, 1.4, n)
    fwhm = np.where(star, 0.0, rng.lognormal(-0.3, 0.4, n) * coarseness(options))
    ellipticity, angle = np.where(star, 0.0, rng.uniform(0.0, 0.55, n)), rng.uniform(0, 2 * np.pi, n)
    mag = {name: r_mag + BANDS.get(name, OTHER_BAND)[3] * colour for name in options.filters}
    e1, e2 = ellipticity * np.cos(angle), ellipticity * np.sin(angle)
    return Sources(np.full(n, field, np.int32), star, ra, dec, mag, fwhm, e1, e2, neighbours(xi, eta, r_mag))


def neighbours(xi: Array, eta: Array, mag: Array) -> Array:
    """How far (arcsec) from each source the nearest is that could disturb it."""
    order = np.argsort(eta)
    xi, eta, mag = xi[order], eta[order], mag[order]
    nearest = np.full(len(xi), NEIGHBOURHOOD_ARCSEC)
    for step in range(1, len(xi)):
        rise = eta[step:] - eta[:-step]
        if rise.min() > NEIGHBOURHOOD_ARCSEC:
            break
        distance = np.hypot(rise, xi[step:] - xi[:-step])
        for here, other in ((slice(step, None), slice(None, -step)), (slice(None, -step), slice(step, None))):
            disturbs = mag[other] < mag[here] + 2
            nearest[here] = np.where(disturbs, np.minimum(nearest[here], distance), nearest[here])
    unsorted = np.empty_like(nearest)
    unsorted[order] = nearest
    return unsorted


def counts(rng: np.random.Generator, n: int, slope: float, bright: float, faint: float) -> Array:
    """Magnitudes whose numbers grow as 10^(slope * magnitude)."""
    low, high = 10 ** (slope * (min(bright, faint - 1) - faint)), 1.0
    return faint + np.log10(rng.uniform(low, high, n)) / slope


def cosmics_of(truth: Truth, exposure: Exposure, ccd: Ccd) -> tuple[NDArray[np.int64], NDArray[np.int64], Array]:
    """Pixels hit (column, row, from 0) and what each received (ADU)."""
    size = truth.options.size
    rng = stream(truth.options, COSMICS, exposure.number, ccd.number)
    n = rng.poisson(20 * (size / 512) ** 2) if truth.options.cosmics else 0
    length = 1 + rng.exponential(5.0, n)
    angle, charge = rng.uniform(0, np.pi, n), rng.lognormal(6.7, 0.6, n)
    x0, y0 = rng.uniform(0, size, n), rng.uniform(0, size, n)
    steps = np.ceil(4 * length).astype(int)
    hit = np.repeat(np.arange(n), steps)
    along = (np.arange(len(hit)) - np.repeat(np.cumsum(steps) - steps, steps)) / 4
    x = np.floor(x0[hit] + along * np.cos(angle[hit])).astype(int)
    y = np.floor(y0[hit] + along * np.sin(angle[hit])).astype(int)
    inside = (x >= 0) & (x < size) & (y >= 0) & (y < size)
    pixel, which = np.unique(y[inside] * size + x[inside], return_inverse=True)
    adu: Array = np.bincount(which, charge[hit[inside]] / 4, len(pixel)).astype(float)
    return pixel % size, pixel // size, adu


def bad_pixels_of(options: SkyOptions, ccd: Ccd) -> tuple[NDArray[np.bool_], NDArray[np.float32]]:
    """The bad pixels of a CCD, the same in all exposures, and the level (ADU) of the hot ones; others are dead."""
    rng = stream(options, BAD_PIXELS, ccd.number)
    size = options.size
    bad, hot = np.zeros((size, size), bool), np.zeros((size, size), np.float32)
    if not options.bad_pixels:
        return bad, hot
    n = max(4, round(1e-4 * size * size))
    x, y = rng.integers(0, size, n), rng.integers(0, size, n)
    bad[y, x] = True
    hot[y[::2], x[::2]] = rng.uniform(200, 1000, len(x[::2]))
    for column in rng.integers(0, size, 2):
        bad[int(rng.integers(0, size // 2)) :, column] = True
    return bad, hot


@dataclass(frozen=True)
class ReferenceCatalogue:
    ra: Array
    dec: Array
    error_arcsec: Array
    mag: Array
    magerr: Array


def reference_of(truth: Truth) -> ReferenceCatalogue:
    """Stars down to 1.5 mag above the depth; 8 % are absent, 1 % are junk, positions are off by their errors."""
    options, sources = truth.options, truth.sources
    rng = stream(options, REFERENCE)
    band = "r" if "r" in options.filters else options.filters[0]
    limit = depth_of(options) - 1.5
    kept = np.flatnonzero(sources.star & (sources.mag[band] < limit) & (rng.uniform(size=len(sources.ra)) > 0.08))
    mag = sources.mag[band][kept]
    error = 0.03 + 0.03 * np.clip((mag - limit + 4) / 4, 0, 1)
    ra, dec = unprojected(sources.ra[kept], sources.dec[kept], *(rng.normal(0, error) for _ in "xy"))
    # Junk: an entry 3 to 20 arcsec away from a true one, as artefacts of bright stars are.
    junk = rng.choice(len(kept), round(0.01 * len(kept)), replace=False)
    away, angle = rng.uniform(3, 20, len(junk)), rng.uniform(0, 2 * np.pi, len(junk))
    junk_ra, junk_dec = unprojected(ra[junk], dec[junk], away * np.cos(angle), away * np.sin(angle))
    ra, dec, error, mag = (
        np.concatenate(pair)
        for pair in ((ra, junk_ra), (dec, junk_dec), (error, error[junk]), (mag, rng.permutation(mag[junk])))
    )
    return ReferenceCatalogue(ra, dec, error, mag + rng.normal(0, 0.02, len(mag)), np.full(len(mag), 0.02))


def turned(x: Array, y: Array, angle_deg: float) -> tuple[Array, Array]:
    c, s = math.cos(math.radians(angle_deg)), math.sin(math.radians(angle_deg))
    return c * x - s * y, s * x + c * y


def projected(ra0: float, dec0: float, ra: Array, dec: Array) -> tuple[Array, Array]:
    """Gnomonic (TAN) projection about ra0, dec0: degrees to arcsec."""
    d, d0, da = np.radians(dec), math.radians(dec0), np.radians(ra - ra0)
    w = np.sin(d) * math.sin(d0) + np.cos(d) * math.cos(d0) * np.cos(da)
    xi = np.cos(d) * np.sin(da) / w
    eta = (np.sin(d) * math.cos(d0) - np.cos(d) * math.sin(d0) * np.cos(da)) / w
    return np.degrees(xi) * 3600, np.degrees(eta) * 3600


def unprojected(ra0: float | Array, dec0: float | Array, xi: float | Array, eta: float | Array) -> tuple[Array, Array]:
    """The inverse of `projected`."""
    x, y, d0 = np.radians(np.asarray(xi) / 3600), np.radians(np.asarray(eta) / 3600), np.radians(dec0)
    below = np.cos(d0) - y * np.sin(d0)
    ra = (ra0 + np.degrees(np.arctan2(x, below))) % 360
    return ra, np.degrees(np.arctan2(np.sin(d0) + y * np.cos(d0), np.hypot(x, below)))

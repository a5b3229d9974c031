"""The global fit: all cameras, exposures and sources in one clipped, weighted least squares.

Every detection of a source should lie on its mean, and the mean on its reference star. The unknown places of the
sources are eliminated (Schur's complement), so that what is solved for is the model alone: hundreds of complex
numbers, by the Cholesky decomposition of normal equations that are summed over sparse rows. As in SCAMP (Bertin 2006,
ASP 351, 112), distortion is shared and exposures are tied by their overlaps; unlike there, CCDs move as wholes.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve
from scipy.sparse import csr_matrix

from spicad.reduction.astrometrix.exposures import Detections, Exposure
from spicad.reduction.astrometrix.identify import identified
from spicad.reduction.astrometrix.model import Camera, Model, Plane, powers, terms
from spicad.reduction.astrometrix.settings import Settings
from spicad.reduction.references import References
from spicad.reduction.tangent import vectors
from spicad.words import SpicaError

Array = NDArray[np.float64]
Indices = NDArray[np.intp]
Mask = NDArray[np.bool_]

DENSE_CELLS = 3_000_000  # of one chunk of rows of sources by parameters
FIRST_FLOOR_PIXELS = 0.05
LEAST_FLOOR_PIXELS = 0.002
# How far a fit may move parts of the model in one go (arcsec at the edge of field or CCD): wide, to fix what
# exposures and CCDs could both take up, and nothing else.
LOOSE, TIGHT = 30.0, 1e-5
# How large a CCD's own curvature and an exposure's bend are likely to be (pixels at the edge): effects of flatness and
# refraction. Where stars are many they follow the stars; where few, these keep them from fitting the noise.
LIKELY_OWN, LIKELY_BEND = 0.03, 0.05


class Unsolvable(SpicaError):
    """The equations have no one solution."""


@dataclass
class Problem:
    """What is fitted, and which parts are held: CCDs (camera, ccd) and exposures with too few stars."""

    model: Model
    exposures: Sequence[Exposure]
    detections: Detections
    references: References  # at `epoch`
    epoch: float
    settings: Settings
    held_ccds: set[tuple[int, int]] = field(default_factory=set)
    held_exposures: set[int] = field(default_factory=set)
    floor: dict[int, float] = field(default_factory=dict)  # by camera, arcsec: least error of a position

    @property
    def total(self) -> int:
        return len(self.detections.x)


@dataclass(frozen=True)
class Links:
    """Sources: of each detection (-1: of no exposure here), then of each reference star; sorted for sums."""

    source: Indices  # detections, then references
    count: int
    order: Indices  # observations by source
    starts: Indices  # where each source begins in `order`
    of: Indices  # the source that begins there


@dataclass
class Residuals:
    """Of each observation (detections, then references). Complex: east + i north, arcsec, from its source's anchor."""

    place: Plane
    phase: Plane  # the turn from the tangent plane to east and north there
    w0: Plane
    variance: Array  # one axis
    used: Mask
    mean: Plane  # of its source, by `used`
    weight_sum: Array  # of its source
    members: NDArray[np.int64]  # of its source, used


@dataclass(frozen=True)
class Solution:
    """`covariance` of the parameters (one axis, arcsec squared); `columns` of each frame (exposure, CCD)."""

    covariance: NDArray[np.complex128]
    columns: Mapping[tuple[int, int], Indices]
    parameters: int


def link(problem: Problem, radius_arcsec: float) -> Links:
    """Which observations are one source, with the model as it is."""
    references = vectors(problem.references.ra, problem.references.dec)

    def each():  # type: ignore[no-untyped-def]
        for exposure in problem.exposures:
            _, ra, dec = problem.model.sky(exposure, problem.detections)
            yield exposure.here, vectors(ra, dec)

    found = identified(references, each(), problem.total, radius_arcsec)
    source = np.concatenate([found, np.arange(len(references))])
    order = np.argsort(source, kind="stable")
    order = order[np.searchsorted(source[order], 0) :]
    of, starts = np.unique(source[order], return_index=True)
    return Links(source, int(source.max(initial=-1)) + 1, order, starts, of)


def measure(problem: Problem, links: Links) -> Residuals:
    """Where all observations are with the model as it is."""
    total, stars = problem.total, problem.references
    count = total + len(stars)
    ra, dec = np.zeros(count), np.zeros(count)
    w0, variance = np.zeros(count, complex), np.full(count, np.inf)
    crval = np.zeros((count, 2))
    errors = problem.detections.error
    for exposure in problem.exposures:
        here = exposure.here
        w0[here], ra[here], dec[here] = problem.model.sky(exposure, problem.detections)
        crval[here] = problem.model.pointings[exposure.number].crval
        camera = problem.model.camera_of[exposure.number]
        floor = problem.floor.get(camera, FIRST_FLOOR_PIXELS * exposure.scale)
        variance[here] = (errors[here].astype(float) * exposure.scale) ** 2 + floor**2
    ra[total:], dec[total:] = stars.ra, stars.dec
    variance[total:] = stars.error**2 / problem.settings.number("ASTREF_WEIGHT")
    phase = np.exp(-1j * _convergence(crval, ra, dec))
    place = _from_anchors(problem, links, ra, dec)
    used = np.ones(count, bool)
    used[:total] = problem.detections.good & (links.source[:total] >= 0)
    found = Residuals(place, phase, w0, variance, used, np.zeros(count, complex), np.zeros(count), np.zeros(count, int))
    average(links, found)
    return found


def _convergence(crval: Array, ra: Array, dec: Array) -> Array:
    """How much north there is turned against north at crval, along the great circle (Napier's analogy)."""
    half = np.radians(ra - crval[:, 0]) / 2
    mean, half_dec = np.radians(dec + crval[:, 1]) / 2, np.radians(dec - crval[:, 1]) / 2
    return np.asarray(2 * np.arctan2(np.sin(half) * np.sin(mean), np.cos(half) * np.cos(half_dec)))


def _from_anchors(problem: Problem, links: Links, ra: Array, dec: Array) -> Plane:
    """From the reference star at the exposure's epoch; else from the source's first detection."""
    total, stars = problem.total, problem.references
    anchor = np.zeros(links.count, np.intp)
    anchor[links.of] = links.order[links.starts]
    anchor[: len(stars)] = total + np.arange(len(stars))
    which = anchor[links.source]
    ra0, dec0 = ra[which], dec[which]
    if stars.motion_ra.any() or stars.motion_dec.any():
        for exposure in problem.exposures:
            here = np.arange(exposure.here.start, exposure.here.stop)
            here = here[(links.source[here] >= 0) & (links.source[here] < len(stars))]
            star = links.source[here]
            years = np.where(np.isfinite(stars.epoch[star]), exposure.epoch - problem.epoch, 0.0)
            years = np.nan_to_num(years)
            dec0[here] = stars.dec[star] + stars.motion_dec[star] * years / 3.6e6
            ra0[here] = stars.ra[star] + stars.motion_ra[star] * years / 3.6e6 / np.cos(np.radians(stars.dec[star]))
    da = np.radians((ra - ra0 + 180) % 360 - 180)
    d, d0 = np.radians(dec), np.radians(dec0)
    east = np.cos(d) * np.sin(da)
    north = np.sin(d - d0) + np.sin(d0) * np.cos(d) * (1 - np.cos(da))
    return np.asarray((east + 1j * north) * (math.degrees(1) * 3600))


def average(links: Links, found: Residuals) -> None:
    """Renews the weighted means of all sources over the observations in use."""
    weight = np.where(found.used, 1 / found.variance, 0.0)
    source = np.maximum(links.source, 0)
    weight[links.source < 0] = 0.0
    sums = np.bincount(source, weight, links.count)
    safe = np.where(sums > 0, sums, 1.0)
    real = np.bincount(source, weight * found.place.real, links.count) / safe
    imag = np.bincount(source, weight * found.place.imag, links.count) / safe
    members = np.bincount(source[weight > 0], minlength=links.count)
    found.mean = (real + 1j * imag)[source]
    found.weight_sum = np.asarray(sums[source], float)
    found.members = members[source].astype(np.int64)


def deviation(found: Residuals) -> tuple[Array, Array]:
    """Squared distance from the mean of the source's other observations, and its expected variance (one axis).

    Infinite variance where there are no others.
    """
    weight = 1 / found.variance
    others = np.maximum(found.weight_sum - np.where(found.used, weight, 0.0), 0.0)
    alone = others <= 1e-9 * found.weight_sum
    share = np.where(alone | ~found.used, 1.0, found.weight_sum / np.where(others > 0, others, 1.0))
    squared = np.abs((found.place - found.mean) * share) ** 2
    variance = np.where(alone, np.inf, found.variance + 1 / np.where(others > 0, others, 1.0))
    return squared, variance


def clip(problem: Problem, links: Links, found: Residuals, rounds: int = 3) -> None:
    """Leaves out what is too far from its source, the worst of each source first."""
    most = -2 * math.log(math.erfc(problem.settings.number("ASTRCLIP_NSIGMA") / math.sqrt(2)))
    total = problem.total
    for _ in range(rounds):
        squared, variance = deviation(found)
        chi = np.where(found.used & np.isfinite(variance), squared / variance, 0.0)
        for part in (slice(0, total), slice(total, None)):
            inside = chi[part][chi[part] > 0]
            if len(inside) > 20:
                chi[part] /= max(1.0, float(np.median(inside)) / (2 * math.log(2)))
        worst = np.zeros(links.count)
        worst[links.of] = np.maximum.reduceat(chi[links.order], links.starts) if len(links.order) else 0.0
        bad = (chi > most) & (chi >= worst[links.source])
        if not bad.any():
            return
        found.used &= ~bad
        average(links, found)


def renew_floors(problem: Problem, found: Residuals) -> None:
    """The least error of bright stars' positions (turbulence, centring), from their scatter among exposures."""
    given = problem.settings.number("ASTR_ACCURACY")
    bright = problem.detections.snr >= problem.settings.numbers("SN_THRESHOLDS")[1]
    squared, variance = deviation(found)
    for index, camera in enumerate(problem.model.cameras):
        members = [exposure for exposure in problem.exposures if exposure.number in camera.exposures]
        if not members:
            continue
        scale = float(np.median([exposure.scale for exposure in members]))
        if given > 0:
            problem.floor[index] = given * scale
            continue
        here = np.concatenate([np.arange(e.here.start, e.here.stop) for e in members])
        few = found.members[here] >= 3
        here = here[bright[here] & found.used[here] & few & np.isfinite(variance[here])]
        if len(here) < 30:
            continue
        old = problem.floor.get(index, FIRST_FLOOR_PIXELS * scale) ** 2
        excess = float(np.median(squared[here] / variance[here])) / (2 * math.log(2))
        typical = float(np.median(variance[here]))
        problem.floor[index] = math.sqrt(
            max((LEAST_FLOOR_PIXELS * scale) ** 2, old + 0.7 * (excess - 1) * typical, 0.1 * old)
        )


# The equations


@dataclass(frozen=True)
class _Columns:
    """Where the parameters of cameras, CCDs and exposures are among all."""

    camera: dict[int, Indices]
    ccd: dict[tuple[int, int], Indices]
    exposure: dict[int, Indices]
    prior: Array  # 1 / arcsec squared
    value: Plane  # what the prior draws to zero, as it is now; 0 where it only holds back a change
    width: int  # most parameters that one detection has


def _columns(problem: Problem) -> _Columns:
    camera_at: dict[int, Indices] = {}
    ccd_at: dict[tuple[int, int], Indices] = {}
    exposure_at: dict[int, Indices] = {}
    priors: list[float] = []
    values: list[complex] = []

    def taken(
        which: Sequence[tuple[int, int]], held: float, likely: float = LOOSE, now: Iterable[complex] = ()
    ) -> Indices:
        """`held`: from this degree on; `likely` and `now` are those of the terms of degree 2 and more."""
        first = len(priors)
        usual = [LOOSE if sum(each) < 2 else likely for each in which]
        priors.extend(1 / (TIGHT if sum(each) >= held else most) ** 2 for each, most in zip(which, usual, strict=True))
        known = list(now)
        values.extend([0j] * (len(which) - len(known)) + known)
        return np.arange(first, len(priors))

    for index, camera in enumerate(problem.model.cameras):
        camera_at[index] = taken(camera.distortion_terms, math.inf)
        scale = float(np.median(np.abs(camera.place[:, 1:]).max(axis=1)))
        for ccd in range(len(camera.sizes) if len(camera.sizes) > 1 else 0):
            held = 0 if (index, ccd) in problem.held_ccds else math.inf
            likely, now = LIKELY_OWN * scale, camera.own[ccd] if camera.own_terms else ()
            ccd_at[index, ccd] = taken(_ccd_terms(camera), held, likely, now)
    degree = problem.settings.integer("EXPOSURE_DEGREE")
    for exposure in problem.exposures:
        held = 1 if exposure.number in problem.held_exposures else math.inf
        now = problem.model.pointings[exposure.number].bend if degree > 1 else ()
        exposure_at[exposure.number] = taken(terms(0, degree), held, LIKELY_BEND * exposure.scale, now)
    width = max(
        len(camera_at[problem.model.camera_of[e.number]])
        + (len(_ccd_terms(problem.model.camera(e.number))) if len(e.ccds) > 1 else 0)
        + len(exposure_at[e.number])
        for e in problem.exposures
    )
    return _Columns(camera_at, ccd_at, exposure_at, np.array(priors), np.array(values), width)


def _ccd_terms(camera: Camera) -> tuple[tuple[int, int], ...]:
    return terms(0, max(camera.ccd_degree, 0))


def solve(problem: Problem, links: Links, found: Residuals) -> Solution:
    """One step of the fit: changes the model, and tells how well it is known."""
    columns = _columns(problem)
    count = len(columns.prior)
    matrix = np.diag(columns.prior).astype(complex)
    right = columns.prior * columns.value
    takes_part = found.used & (found.members >= 2) & (links.source >= 0)
    takes_part[problem.total :] = False
    basis = np.zeros((problem.total, columns.width))
    frame = np.zeros(problem.total, np.int32)
    frames: dict[tuple[int, int], Indices] = {}
    turns = np.ones(problem.total, complex)
    for exposure in problem.exposures:
        turns[exposure.here] = problem.model.pointings[exposure.number].turn
        for ccd in range(len(exposure.ccds)):
            here = exposure.on(ccd)
            values, at = _basis(problem, columns, exposure, ccd, found.w0[here])
            frame[here] = len(frames)
            frames[exposure.number, ccd] = at
            basis[here, : len(at)] = values
            _add_frame(matrix, right, values, at, here, found, takes_part, turns[here])
    table = np.full((len(frames), columns.width), -1, np.int32)
    for row, at in enumerate(frames.values()):
        table[row, : len(at)] = at
    _take_sources_off(matrix, right, problem, links, found, takes_part, basis, turns, frame, table)
    try:
        factor = cho_factor(matrix, lower=True)
    except (np.linalg.LinAlgError, ValueError) as error:
        raise Unsolvable(f"the equations of the fit cannot be solved: {error}. Are there stars in common?") from None
    change = cho_solve(factor, -right)
    _apply(problem, columns, change)
    return Solution(cho_solve(factor, np.eye(count, dtype=complex)), frames, count)


def _basis(
    problem: Problem, columns: _Columns, exposure: Exposure, ccd: int, w0: Plane
) -> tuple[NDArray[np.float64], Indices]:
    """Real functions (n, k) that a detection's place depends on linearly, and which parameters they go with."""
    index = problem.model.camera_of[exposure.number]
    camera = problem.model.cameras[index]
    here = exposure.on(ccd)
    u, v = w0.real / camera.radius, w0.imag / camera.radius
    parts = [powers(u, v, camera.distortion_terms)]
    at = [columns.camera[index]]
    if (index, ccd) in columns.ccd:
        z = camera.offsets(ccd, problem.detections.x[here], problem.detections.y[here]) / camera.half(ccd)
        parts.append(powers(z.real, z.imag, _ccd_terms(camera)))
        at.append(columns.ccd[index, ccd])
    parts.append(powers(u, v, terms(0, problem.settings.integer("EXPOSURE_DEGREE"))))
    at.append(columns.exposure[exposure.number])
    return np.hstack(parts), np.concatenate(at)


def _add_frame(
    matrix: NDArray[np.complex128],
    right: Plane,
    values: Array,
    at: Indices,
    here: slice,
    found: Residuals,
    takes_part: Mask,
    turns: Plane,
) -> None:
    """The detections of one CCD of one exposure, as if their sources were known."""
    mine = takes_part[here]
    if not mine.any():
        return
    weight = 1 / found.variance[here][mine]
    chosen, turn = values[mine], turns[mine]
    weighted = chosen * weight[:, None]
    matrix[np.ix_(at, at)] += (chosen * np.abs(turn[:, None]) ** 2).T @ weighted
    right[at] += weighted.T @ (np.conj(found.phase[here][mine] * turn) * found.place[here][mine])


def _take_sources_off(
    matrix: NDArray[np.complex128],
    right: Plane,
    problem: Problem,
    links: Links,
    found: Residuals,
    takes_part: Mask,
    basis: Array,
    turns: Plane,
    frame: NDArray[np.int32],
    table: NDArray[np.int32],
) -> None:
    """What the unknown places of the sources take away, by chunks of sources."""
    rows = links.order[takes_part[links.order]]
    if not len(rows):
        return
    source = links.source[rows]
    begins = np.flatnonzero(np.diff(source, prepend=-1))
    ends = np.append(begins[1:], len(rows))
    count, width = len(matrix), table.shape[1]
    chunk = max(200, DENSE_CELLS // count)
    for first in range(0, len(begins), chunk):
        last = min(first + chunk, len(begins))
        mine = rows[begins[first] : ends[last - 1]]
        lengths = ends[first:last] - begins[first:last]
        which = np.repeat(np.arange(last - first), lengths)
        sums = found.weight_sum[mine[np.cumsum(lengths) - lengths]]
        root = 1 / (found.variance[mine] * np.sqrt(sums)[which])
        data = basis[mine] * (found.phase[mine] * turns[mine] * root)[:, None]
        at = table[frame[mine]]
        data[at < 0] = 0
        at = np.maximum(at, 0)
        indices = (np.repeat(which, width), at.ravel())
        real = csr_matrix((data.real.ravel(), indices), (last - first, count))
        imag = csr_matrix((data.imag.ravel(), indices), (last - first, count))
        dense = real.toarray() + 1j * imag.toarray()
        matrix -= dense.conj().T @ dense
        # The reference star lies at its anchor: it adds to the weights and nothing here.
        total = found.mean[mine[np.cumsum(lengths) - lengths]] * np.sqrt(sums)
        right -= dense.conj().T @ total


def _apply(problem: Problem, columns: _Columns, change: Plane) -> None:
    """Folds a change of the parameters into the model."""
    for index, camera in enumerate(problem.model.cameras):
        camera.distortion = camera.distortion + change[columns.camera[index]]
        for ccd in range(len(camera.sizes)):
            if (index, ccd) not in columns.ccd:
                continue
            found = change[columns.ccd[index, ccd]]
            half = camera.half(ccd)
            camera.place[ccd][0] += found[0]
            if camera.ccd_degree >= 1:
                camera.place[ccd][1] += (found[1] - 1j * found[2]) / 2 / half
                camera.place[ccd][2] += (found[1] + 1j * found[2]) / 2 / half
            if camera.own_terms:
                camera.own[ccd] = camera.own[ccd] + found[3:]
    for number, at in columns.exposure.items():
        pointing, camera = problem.model.pointings[number], problem.model.camera(number)
        found = change[at]
        one = (found[1] - 1j * found[2]) / 2 / camera.radius
        other = (found[1] + 1j * found[2]) / 2 / camera.radius
        turn = pointing.turn
        pointing.shift += turn * found[0]
        pointing.turn += turn * one
        pointing.shear += turn * other
        if len(found) > 3:
            pointing.bend = pointing.bend + found[3:]


def uncertainty(problem: Problem, solution: Solution, exposure: Exposure, ccd: int) -> float:
    """Of the middle of a CCD on the sky, one axis, arcsec."""
    camera = problem.model.camera(exposure.number)
    width, height = camera.sizes[ccd]
    x, y = np.array([(width + 1) / 2]), np.array([(height + 1) / 2])
    w0 = camera.placed(ccd, x, y)
    u, v = w0.real / camera.radius, w0.imag / camera.radius
    parts = [powers(u, v, camera.distortion_terms)]
    if len(camera.sizes) > 1:
        parts.append(powers(np.zeros(1), np.zeros(1), _ccd_terms(camera)))
    parts.append(powers(u, v, terms(0, problem.settings.integer("EXPOSURE_DEGREE"))))
    row = np.hstack(parts)[0]
    at = solution.columns[exposure.number, ccd]
    return math.sqrt(max(float(np.real(row @ solution.covariance[np.ix_(at, at)] @ row)), 0.0))

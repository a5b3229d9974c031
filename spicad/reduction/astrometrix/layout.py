"""Cameras from headers and first matches; then CCD by CCD: a shift and a linear solution against the reference stars.

An outlying CCD is looked for again, turned or mirrored if need be; one with few reference stars keeps the place that
the headers of all exposures give it together, as in the original Astrometrix.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree

from spicad.reduction.astrometrix.exposures import Detections, Exposure
from spicad.reduction.astrometrix.match import SIDES, Limits, Match, Plane, first_match, nearest_pairs, similarity
from spicad.reduction.astrometrix.model import Camera, Model, Pointing, terms
from spicad.reduction.astrometrix.settings import Settings
from spicad.reduction.references import References
from spicad.reduction.tangent import deprojected, projected

GRID = (0.1, 0.5, 0.9)
CCD_REACH_ARCSEC = 20.0  # how far a CCD may be from where its header puts it
CCD_BRIGHT = 250
ALIKE = 0.02  # of the camera's radius: how well layouts of one camera agree


@dataclass(frozen=True)
class Settled:
    """What the step CCD by CCD found. `stars`: reference stars; `sure`: log10 of the odds of its match."""

    camera: str
    ccd: str
    stars: int
    sure: float
    moved_arcsec: float
    side: str
    takes_mean: bool


def rough_plane(exposure: Exposure, detections: Detections) -> Plane:
    """Where its headers put its detections, about its pivot (arcsec)."""
    parts = []
    for number, ccd in enumerate(exposure.ccds):
        here = exposure.on(number)
        xi, eta = projected(exposure.pivot, *ccd.tangent.sky(detections.x[here], detections.y[here]))
        parts.append((xi + 1j * eta) * 3600)
    return np.concatenate(parts)


def plane_of(centre: tuple[float, float], ra: np.ndarray, dec: np.ndarray) -> Plane:
    xi, eta = projected(centre, ra, dec)
    return np.asarray((xi + 1j * eta) * 3600)


def model_from(exposures: Mapping[int, Exposure], matches: Mapping[int, Match], settings: Settings) -> Model:
    """Cameras, one for each instrument, and pointings as the first matches have them."""
    grids, crvals = {}, {}
    for number, match in matches.items():
        crvals[number], grids[number] = _grid_on_sky(exposures[number], match)
    cameras: list[Camera] = []
    camera_of: dict[int, int] = {}
    pointings: dict[int, Pointing] = {}
    for group in _groups(exposures, grids):
        camera = _camera(group, exposures, grids, settings)
        for number in group:
            turn, shift = similarity(_placed_grid(camera), grids[number], camera.radius * 0.01)
            pointings[number] = Pointing(crvals[number], shift, turn, 0j, np.zeros(3, complex))
            camera_of[number] = len(cameras)
        cameras.append(camera)
    return Model(cameras, camera_of, pointings)


def _grid_pixels(size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    x, y = np.meshgrid([size[0] * each + 0.5 for each in GRID], [size[1] * each + 0.5 for each in GRID])
    return x.ravel(), y.ravel()


def _grid_on_sky(exposure: Exposure, match: Match) -> tuple[tuple[float, float], Plane]:
    """Its middle, and points of all its CCDs on the plane that touches there."""
    pivot = exposure.pivot
    parts = [plane_of(pivot, *ccd.tangent.sky(*_grid_pixels(ccd.size))) for ccd in exposure.ccds]
    plane = match.apply(np.concatenate(parts))
    middle = complex((plane.real.min() + plane.real.max()) / 2, (plane.imag.min() + plane.imag.max()) / 2)
    ra0, dec0 = deprojected(pivot, np.array(middle.real / 3600), np.array(middle.imag / 3600))
    crval = (round(float(ra0), 8) % 360.0, round(float(dec0), 8))
    ra, dec = deprojected(pivot, plane.real / 3600, plane.imag / 3600)
    return crval, plane_of(crval, ra, dec)


def _groups(exposures: Mapping[int, Exposure], grids: Mapping[int, Plane]) -> list[list[int]]:
    """Exposures of one instrument whose CCDs lie alike; files mirrored against the others are a camera of their own."""
    groups: list[list[int]] = []
    for number, grid in grids.items():
        for group in groups:
            if exposures[group[0]].instrument == exposures[number].instrument:
                turn, shift = similarity(grids[group[0]], grid, np.inf)
                away = np.abs(turn * grids[group[0]] + shift - grid)
                if np.median(away) < ALIKE * np.abs(grid).max():
                    group.append(number)
                    break
        else:
            groups.append([number])
    return groups


def _camera(
    group: Sequence[int], exposures: Mapping[int, Exposure], grids: Mapping[int, Plane], settings: Settings
) -> Camera:
    first = grids[group[0]]
    aligned = [first]
    for number in group[1:]:
        turn, shift = similarity(grids[number], first, float(np.abs(first).max()) * 0.01)
        aligned.append(turn * grids[number] + shift)
    layout = np.median(np.real(aligned), axis=0) + 1j * np.median(np.imag(aligned), axis=0)
    exposure = exposures[group[0]]
    sizes, names = tuple(ccd.size for ccd in exposure.ccds), tuple(ccd.name for ccd in exposure.ccds)
    degree, own = settings.integer("DISTORT_DEGREE"), settings.integer("CCD_DEGREE")
    camera = Camera(
        exposure.instrument,
        list(group),
        sizes,
        names,
        np.zeros((len(sizes), 3), complex),
        float(np.abs(layout).max()),
        degree,
        own,
        np.zeros(len(terms(2, degree)), complex),
        np.zeros((len(sizes), len(terms(2, own))), complex),
    )
    for ccd, size in enumerate(sizes):
        z = camera.offsets(ccd, *_grid_pixels(size))
        design = np.column_stack([np.ones_like(z), z, np.conj(z)])
        points = layout[ccd * len(z) : (ccd + 1) * len(z)]
        camera.place[ccd] = np.linalg.lstsq(design, points, rcond=None)[0]
    return camera


def _placed_grid(camera: Camera) -> Plane:
    return np.concatenate([camera.placed(ccd, *_grid_pixels(size)) for ccd, size in enumerate(camera.sizes)])


# CCD by CCD


@dataclass(frozen=True)
class _Field:
    """Reference stars on one exposure, brought back to the focal plane."""

    stars: Plane
    brightness: np.ndarray
    tree: cKDTree


def settle(
    model: Model,
    exposures: Mapping[int, Exposure],
    detections: Detections,
    references: References,
    settings: Settings,
    tolerance: float,
) -> list[Settled]:
    """Moves each CCD of each camera to where its reference stars are."""
    found = []
    for camera in model.cameras:
        if len(camera.sizes) < 2:
            continue
        fields = {n: _field(model.pointings[n], camera, references) for n in camera.exposures}
        for ccd in range(len(camera.sizes)):
            found.append(_settled(camera, ccd, fields, exposures, detections, settings, tolerance))
    return found


def _field(pointing: Pointing, camera: Camera, references: References) -> _Field:
    near = plane_of(pointing.crval, references.ra, references.dec)
    inside = np.abs(near) < 1.1 * camera.radius + CCD_REACH_ARCSEC
    stars = pointing.back(near[inside])
    return _Field(stars, -references.mag[inside], cKDTree(np.column_stack([stars.real, stars.imag])))


def _settled(
    camera: Camera,
    ccd: int,
    fields: Mapping[int, _Field],
    exposures: Mapping[int, Exposure],
    detections: Detections,
    settings: Settings,
    tolerance: float,
) -> Settled:
    offsets, planes, chosen, stars = [], [], [], 0
    for number, field in fields.items():
        here = exposures[number].on(ccd)
        bright = np.argsort(np.nan_to_num(detections.mag[here], nan=99.0), kind="stable")[:CCD_BRIGHT]
        x, y = detections.x[here][bright], detections.y[here][bright]
        offsets.append(camera.offsets(ccd, x, y))
        planes.append(camera.distorted(ccd, x, y)[1])
        chosen.append(field)
    shift, sure = _common_shift(planes, chosen, tolerance)
    minimum = settings.integer("CCD_MIN_STARS")
    if sure >= settings.number("MATCH_SURE"):
        place, stars = _linear(camera, ccd, offsets, planes, chosen, shift, tolerance)
        if stars >= minimum and place is not None:
            moved = abs(place[0] - camera.place[ccd][0])
            camera.place[ccd] = place
            return Settled(camera.name, camera.names[ccd], stars, sure, float(moved), "as it is", False)
    turned = _turned_back(camera, ccd, fields, exposures, detections, settings, tolerance)
    if turned is not None:
        return turned
    return Settled(camera.name, camera.names[ccd], stars, sure, 0.0, "as it is", True)


def _common_shift(planes: Sequence[Plane], fields: Sequence[_Field], tolerance: float) -> tuple[complex, float]:
    """The shift that most pairs of all exposures have in common, and log10 of the odds against chance."""
    parts = []
    for plane, field in zip(planes, fields, strict=True):
        if not len(plane) or not len(field.stars):
            continue
        lists = field.tree.query_ball_point(np.column_stack([plane.real, plane.imag]), CCD_REACH_ARCSEC)
        counts = [len(each) for each in lists]
        if sum(counts):
            parts.append(
                field.stars[np.concatenate([np.asarray(e, int) for e in lists if e])] - np.repeat(plane, counts)
            )
    if not parts:
        return 0j, 0.0
    d = np.concatenate(parts)
    points = np.column_stack([d.real, d.imag])
    counts = cKDTree(points).query_ball_point(points, tolerance, return_length=True)
    best = int(np.argmax(counts))
    mean = len(d) * tolerance**2 / CCD_REACH_ARCSEC**2
    near = np.abs(d - d[best]) < tolerance
    peak, trials = int(counts[best]), math.log10(max((CCD_REACH_ARCSEC / tolerance) ** 2, 1))
    sure = (peak * math.log(peak / mean) - peak + mean) / math.log(10) - trials if peak > mean else 0.0
    # The same star on many exposures is one witness.
    return complex(d[near].mean()), sure / max(1, len(parts)) if len(parts) > 1 else sure


def _linear(
    camera: Camera,
    ccd: int,
    offsets: Sequence[Plane],
    planes: Sequence[Plane],
    fields: Sequence[_Field],
    shift: complex,
    tolerance: float,
) -> tuple[Plane | None, int]:
    """Place of the CCD by pairs within the tolerance, clipped; and how many there were."""
    change = np.array([shift, 0j, 0j])
    half = camera.half(ccd)
    count = 0
    for reach in (1.5 * tolerance, tolerance, tolerance, tolerance):
        z_all, d_all = [], []
        for z, plane, field in zip(offsets, planes, fields, strict=True):
            moved = plane + change[0] + change[1] * z / half + change[2] * np.conj(z) / half
            if not len(field.stars) or not len(moved):
                continue
            one, other = nearest_pairs(moved, field.tree, reach)
            z_all.append(z[one])
            d_all.append(field.stars[other] - plane[one])
        if not z_all or sum(map(len, z_all)) < 3:
            return None, count
        z, d = np.concatenate(z_all) / half, np.concatenate(d_all)
        count = len(z)
        change = _robust_fit(z, d, change, tolerance / 2, count)
    shift_, turn, shear = camera.place[ccd]
    return np.array([shift_ + change[0], turn + change[1] / half, shear + change[2] / half]), count


def _robust_fit(z: Plane, d: Plane, start: Plane, soft: float, count: int) -> Plane:
    design = np.column_stack([np.ones_like(z), z, np.conj(z)])[:, : 3 if count >= 12 else 1]
    change = np.zeros(3, complex)
    away = np.abs(d - np.median(d.real) - 1j * np.median(d.imag))
    for _ in range(4):
        weight = 1 / (1 + (away / soft) ** 2)
        solution = np.linalg.lstsq(design * weight[:, None], d * weight, rcond=None)[0]
        change[: len(solution)] = solution
        away = np.abs(d - design @ solution)
    return change


def _turned_back(
    camera: Camera,
    ccd: int,
    fields: Mapping[int, _Field],
    exposures: Mapping[int, Exposure],
    detections: Detections,
    settings: Settings,
    tolerance: float,
) -> Settled | None:
    """A CCD that its header turns or mirrors wrongly, found by itself on the exposure that shows it best."""
    if not settings.is_set("MATCH_FLIPPED"):
        return None
    sure, least = settings.number("MATCH_SURE"), settings.integer("CCD_MIN_STARS")
    limits = Limits(CCD_REACH_ARCSEC, settings.number("POSANGLE_MAXERR"), 1.01, tolerance, tuple(SIDES)[1:])
    votes: dict[str, list[tuple[Match, complex]]] = defaultdict(list)
    for number, field in list(fields.items())[:3]:
        here = exposures[number].on(ccd)
        middle, turn, shear = camera.place[ccd]
        z = camera.offsets(ccd, detections.x[here], detections.y[here])
        plane = turn * z + shear * np.conj(z)
        reach = float(np.abs(plane).max(initial=0)) + CCD_REACH_ARCSEC
        near = np.abs(field.stars - middle) < reach
        if near.sum() < least or len(z) < least:
            continue
        match = first_match(
            plane,
            -detections.mag[here].astype(float),
            field.stars[near] - middle,
            field.brightness[near],
            limits,
            sure,
            least,
        )
        if match is not None:
            votes[match.side].append((match, middle))
    if not votes:
        return None
    side = max(votes, key=lambda each: max(match.sure for match, _ in votes[each]))
    match, middle = max(votes[side], key=lambda each: each[0].sure)
    corner = np.array([0j, 1 + 0j, 1j])
    _, turn, shear = camera.place[ccd]
    z0, z1, z2 = match.apply(turn * corner + shear * np.conj(corner))
    a, b = z1 - z0, z2 - z0
    camera.place[ccd] = [middle + z0, (a - 1j * b) / 2, (a + 1j * b) / 2]
    return Settled(camera.name, camera.names[ccd], len(match.detections), match.sure, abs(match.shift), side, False)

"""Finds the stars that several exposures have in common, and which exposures hang together by them.

Sources come as plain arrays; whose they are, and what their magnitudes say, is the affair of solve.py.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

Array = NDArray[np.float64]
Numbers = NDArray[np.int64]


def chord(arcsec: float) -> float:
    """The straight distance of two unit vectors that are `arcsec` apart."""
    return 2 * math.sin(math.radians(arcsec / 3600) / 2)


def matched(place: Array, exposure: Numbers, mag: Array, radius_arcsec: float, gate_mag: float) -> Numbers:
    """The number (from 0) of the star that each source is, (n,).

    `place` (n, 3) are unit vectors, `exposure` (n,) numbers, `mag` (n,) magnitudes for one second. A source is the
    nearest known star within the radius when its magnitude differs from that star's by no more than the gate, beyond
    what is usual between the two exposures (a cloud dims all alike); else it is a new star. No exposure has one twice.
    """
    star = np.full(len(place), -1, np.int64)
    order = np.argsort(exposure, kind="stable")
    starts = np.flatnonzero(np.diff(exposure[order], prepend=-1))
    known_place, known_mag = np.empty((0, 3)), np.empty(0)
    for rows in np.split(order, starts[1:]):
        found = _known(place[rows], mag[rows], known_place, known_mag, chord(radius_arcsec), gate_mag)
        new = found < 0
        found[new] = len(known_mag) + np.arange(int(new.sum()))
        star[rows] = found
        known_place = np.concatenate([known_place, place[rows[new]]])
        known_mag = np.concatenate([known_mag, mag[rows[new]]])
    return star


def nearest(place: Array, among: Array, radius_arcsec: float) -> Numbers:
    """For each of `place` (n, 3) the index of the nearest of `among` (m, 3), -1 when none is within the radius."""
    if not len(among) or not len(place):
        return np.full(len(place), -1, np.int64)
    distance, index = cKDTree(among).query(place, distance_upper_bound=chord(radius_arcsec))
    return np.where(np.isfinite(distance), index, -1).astype(np.int64)


def _known(place: Array, mag: Array, stars: Array, star_mag: Array, reach: float, gate_mag: float) -> Numbers:
    """The star that each source of one exposure is, -1 for none."""
    found = np.full(len(place), -1, np.int64)
    near = _around(place, stars, reach)
    if not len(near):
        return found
    distance, index = cKDTree(stars[near]).query(place, distance_upper_bound=reach)
    hit = np.flatnonzero(np.isfinite(distance))
    if not len(hit):
        return found
    which = near[index[hit]]
    difference = mag[hit] - star_mag[which]
    within = np.abs(difference - np.median(difference)) <= gate_mag
    hit, which = hit[within], which[within]
    closest = np.argsort(distance[hit], kind="stable")
    _, first = np.unique(which[closest], return_index=True)
    chosen = closest[first]
    found[hit[chosen]] = which[chosen]
    return found


def _around(place: Array, stars: Array, reach: float) -> Numbers:
    """The stars in the cap that holds all of `place`: trees stay small however wide the set is."""
    if not len(stars) or not len(place):
        return np.empty(0, np.int64)
    middle = place.mean(axis=0)
    away = np.linalg.norm(place - middle, axis=1).max() + reach
    return np.flatnonzero(np.einsum("ij,ij->i", stars - middle, stars - middle) <= away * away)


def common_stars(star: Numbers, node: Numbers, nodes: int) -> NDArray[np.int64]:
    """(nodes, nodes): how many stars each two nodes share; on the diagonal how many each has."""
    stars = int(star.max(initial=-1)) + 1
    seen = csr_array((np.ones(len(star), np.int32), (node, star)), shape=(nodes, stars))
    seen.data[:] = 1
    return np.asarray((seen @ seen.T).todense(), np.int64)


def groups_of(shared: NDArray[np.int64], fewest: int) -> Numbers:
    """The group (from 0) of each node: nodes hang together by pairs with at least `fewest` stars in common."""
    _, group = connected_components(csr_array(shared >= fewest), directed=False)
    return np.asarray(group, np.int64)

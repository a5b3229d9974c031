"""Photometrix's solver on plain numbers: matching, groups, least squares, clipping, clouds, apertures.

Files and the command are tried in test_photometrix.py.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
import pytest

from spicad.reduction.photometrix.apertures import Profile, profile_of
from spicad.reduction.photometrix.clouds import extinguished, recognised
from spicad.reduction.photometrix.match import common_stars, groups_of, matched
from spicad.reduction.photometrix.solve import Measures, Reference, Solution, Wish, solve
from spicad.reduction.tangent import vectors

EXACT = Wish(accuracy=0.0)


@dataclass(frozen=True)
class Made:
    measures: Measures
    zero: np.ndarray
    ccd: np.ndarray
    star_mag: np.ndarray
    colour: np.ndarray


def made(
    seed: int,
    exposures: int = 6,
    side: int = 2,
    stars: int = 600,
    noise: float = 0.01,
    outliers: float = 0.0,
    colour_term: float = 0.0,
) -> Made:
    """A camera of side x side CCDs dithered over a field of stars, with planted zero points and CCD terms."""
    rng = np.random.default_rng(seed)
    zero, ccd = rng.normal(0, 0.1, exposures), rng.normal(0, 0.03, side * side)
    zero, ccd = zero - zero.mean(), ccd - ccd.mean()
    mag, colour = rng.uniform(16, 20, stars), rng.normal(0.8, 0.3, stars)
    x, y = rng.uniform(0, side, (2, stars))
    parts = []
    for exposure in range(exposures):
        dx, dy = rng.uniform(-0.25, 0.25, 2)
        column, row = np.floor(x + dx).astype(int), np.floor(y + dy).astype(int)
        seen = np.flatnonzero((column >= 0) & (column < side) & (row >= 0) & (row < side))
        on = (row * side + column)[seen]
        error = noise * 10 ** (0.2 * (mag[seen] - 18))
        value = mag[seen] - zero[exposure] - ccd[on] - colour_term * colour[seen] + rng.normal(0, error)
        wild = rng.uniform(size=len(seen)) < outliers
        value[wild] += rng.normal(0, 0.5, int(wild.sum()))
        parts.append((np.full(len(seen), exposure), on, seen, value, error, colour[seen]))
    return Made(Measures(*map(np.concatenate, zip(*parts, strict=True))), zero, ccd, mag, colour)


def solved(one: Made, wish: Wish = EXACT, **more: object) -> Solution:
    return solve(one.measures, len(one.zero), len(one.ccd), wish, **more)  # type: ignore[arg-type]


# Least squares


@pytest.mark.parametrize("seed", range(6))
def test_planted_zero_points_and_ccd_terms_come_back_within_their_errors(seed: int):
    one = made(seed)

    found = solved(one)

    assert found.converged
    assert found.zero_error.max() < 0.002
    assert found.ccd_error.max() < 0.003
    assert np.abs((found.zero - one.zero) / found.zero_error).max() < 4
    assert np.abs((found.ccd - one.ccd) / found.ccd_error).max() < 4
    assert abs(found.zero.mean()) < 1e-6
    assert abs(found.ccd.mean()) < 1e-6


def test_errors_are_those_that_repeated_sets_scatter_by():
    every = [(one, solved(one)) for one in (made(seed, stars=200) for seed in range(100, 160))]

    pulls = np.concatenate([(found.zero - one.zero) / found.zero_error for one, found in every])

    assert 0.85 < pulls.std() < 1.2


def test_the_solution_is_that_of_least_squares_over_all_pairs():
    one = made(3, exposures=3, stars=60)
    measures = one.measures
    weight = 1 / measures.error**2
    total = np.bincount(measures.star, weight)
    rows, values = [], []
    for star in np.unique(measures.star):
        for i, j in itertools.combinations(np.flatnonzero(measures.star == star), 2):
            row = np.zeros(3 + 4)
            row[measures.exposure[i]] += 1
            row[measures.exposure[j]] -= 1
            row[3 + measures.ccd[i]] += 1
            row[3 + measures.ccd[j]] -= 1
            root = np.sqrt(weight[i] * weight[j] / total[star])
            rows.append(row * root)
            values.append((measures.mag[j] - measures.mag[i]) * root)
    means = [np.repeat([1.0, 0.0], (3, 4)) * 1e6, np.repeat([0.0, 1.0], (3, 4)) * 1e6]
    pairs, *_ = np.linalg.lstsq(np.array(rows + means), np.array([*values, 0.0, 0.0]), rcond=None)

    found = solved(one, Wish(accuracy=0.0, clip_sigmas=100, ccd_spread=1e3))

    assert np.abs(found.zero - pairs[:3]).max() < 1e-6
    assert np.abs(found.ccd - pairs[3:]).max() < 1e-6


def test_wild_measures_are_clipped_and_do_no_harm():
    one = made(5, outliers=0.05)

    found = solved(one)

    assert 0.03 < (~found.used).mean() < 0.12
    assert np.abs(found.zero - one.zero).max() < 0.004
    assert found.rounds <= 50


def test_nothing_changes_when_the_measures_come_in_another_order():
    one = made(6, outliers=0.03)
    order = np.random.default_rng(1).permutation(len(one.measures))

    first, second = solved(one), solve(one.measures.of(order), 6, 4, EXACT)

    assert np.abs(first.zero - second.zero).max() < 1e-9
    assert (first.used[order] == second.used).all()


def test_without_ccd_terms_none_are_given():
    found = solved(made(7), Wish(accuracy=0.0, ccd_terms=False))

    assert (found.ccd == 0).all()
    assert (found.ccd_error == 0).all()


def test_a_ccd_that_nothing_ties_has_an_error_as_wide_as_ignorance():
    one = made(8, side=1)
    lonely = one.measures
    far = Measures(
        lonely.exposure, np.ones(len(lonely), int), lonely.star + 10_000, lonely.mag, lonely.error, lonely.colour
    )
    both = Measures(*(np.concatenate(pair) for pair in zip(vars(lonely).values(), vars(far).values(), strict=True)))

    found = solve(both, 6, 2, EXACT)

    assert (found.ccd_error > 0.05).all()


# Groups


def test_groups_without_overlap_stay_apart_each_with_the_mean_zero():
    one, other = made(9, exposures=3), made(10, exposures=3)
    shifted = Measures(
        other.measures.exposure + 3, other.measures.ccd, other.measures.star + 1000, other.measures.mag + 5,
        other.measures.error, other.measures.colour,
    )  # fmt: skip
    both = Measures(
        *(np.concatenate(pair) for pair in zip(vars(one.measures).values(), vars(shifted).values(), strict=True))
    )

    found = solve(both, 6, 4, Wish(accuracy=0.0, ccd_terms=False))

    assert found.group.tolist() == [0, 0, 0, 1, 1, 1]
    assert np.abs(found.zero[:3] - one.zero).max() < 0.01
    assert np.abs(found.zero[3:] - other.zero).max() < 0.01


@pytest.mark.parametrize(("common", "groups"), [(9, 2), (10, 1)])
def test_two_exposures_hang_together_by_ten_stars(common: int, groups: int):
    stars = np.concatenate([np.arange(30), np.arange(30 - common, 60 - common)])
    exposure = np.repeat([0, 1], 30)
    nothing = np.zeros(60)
    measures = Measures(exposure, np.zeros(60, int), stars, nothing + exposure, nothing + 0.01, nothing)

    found = solve(measures, 2, 1, Wish(ccd_terms=False))

    assert len(set(found.group)) == groups
    assert found.shared[0, 1] == common
    assert np.isfinite(found.zero_error).all() == (groups == 1)
    assert (np.abs(found.zero) < 1e-6).all() == (groups == 2)


def test_the_reference_ties_groups_and_gives_their_zero():
    one = made(11, exposures=3)
    away = made(12, exposures=3)
    stars = len(one.star_mag)
    shifted = Measures(
        away.measures.exposure + 3, away.measures.ccd, away.measures.star + stars, away.measures.mag - 25.0,
        away.measures.error, away.measures.colour,
    )  # fmt: skip
    both = Measures(
        *(np.concatenate(pair) for pair in zip(vars(one.measures).values(), vars(shifted).values(), strict=True))
    )
    known = Reference(np.concatenate([one.star_mag, away.star_mag]), np.full(2 * stars, 0.01))

    found = solve(both, 6, 4, Wish(accuracy=0.0, ccd_terms=False), known)

    assert found.tied.all()
    assert np.abs(found.zero[:3] - one.zero).max() < 0.01
    assert np.abs(found.zero[3:] - 25.0 - away.zero).max() < 0.01


def test_a_colour_term_is_found_against_the_reference():
    one = made(13, colour_term=0.05)
    known = Reference(one.star_mag, np.full(len(one.star_mag), 0.02))

    found = solved(one, Wish(accuracy=0.0, colour="INSTRUMENT"), reference=known)

    assert abs(found.colour[0] - 0.05) < 4 * found.colour_error[0]
    assert found.colour_error[0] < 0.01


# Matching


def test_sources_are_matched_across_0h_and_near_the_pole():
    ra, dec = np.array([359.99995, 0.00003, 10.0, 190.0]), np.array([0.0, 0.0, 89.99998, 89.99998])
    place = vectors(ra, dec)

    star = matched(place, np.array([0, 1, 0, 1]), np.zeros(4), 0.5, 2.0)

    assert star[0] == star[1]
    assert star[2] == star[3]
    assert star[0] != star[2]


def test_a_match_that_differs_by_more_than_the_gate_is_another_star_but_a_cloud_is_none():
    rng = np.random.default_rng(1)
    place = vectors(rng.uniform(10, 10.1, 50), rng.uniform(0, 0.1, 50))
    mag = rng.uniform(15, 20, 50)
    cloudy = mag + 3.0
    cloudy[7] += 2.5

    star = matched(np.concatenate([place, place]), np.repeat([0, 1], 50), np.concatenate([mag, cloudy]), 0.5, 2.0)

    same = star[:50] == star[50:]
    assert np.flatnonzero(~same).tolist() == [7]


def test_an_exposure_has_a_star_once():
    ra = np.array([10.0, 10.0, 10.0 + 0.3 / 3600])

    star = matched(vectors(ra, np.zeros(3)), np.array([0, 1, 1]), np.zeros(3), 0.5, 2.0)

    assert star[0] == star[1]
    assert star[2] != star[0]


def test_groups_go_through_common_neighbours():
    star = np.array([0, 1, 0, 1, 2, 3, 2, 3, 9])
    node = np.array([0, 0, 1, 1, 1, 1, 2, 2, 3])

    group = groups_of(common_stars(star, node, 4), 2)

    assert group[0] == group[1] == group[2] != group[3]


# Clouds


def test_a_cloudy_exposure_is_told_from_airmass():
    airmass = np.array([1.0, 1.2, 1.5, 1.3])
    zero = -0.1 * (airmass - 1)
    zero[3] -= 0.08

    clouds = recognised(zero, np.full(4, 0.001), -0.1 * (airmass - 1), np.zeros(4, bool), 0.02)

    assert clouds.photometric.tolist() == [True, True, True, False]
    assert abs(clouds.cloud_mag[3] - 0.08) < 1e-9


def test_the_header_flag_sets_the_level_but_is_not_believed_of_a_dim_exposure():
    zero = np.array([0.0, 0.0, -0.3, 0.005])

    clouds = recognised(zero, np.full(4, 0.001), np.zeros(4), np.array([True, False, True, False]), 0.02)

    assert clouds.photometric.tolist() == [True, True, False, True]


@pytest.mark.parametrize("seed", range(5))
def test_the_extinction_is_found_under_clouds(seed: int):
    rng = np.random.default_rng(seed)
    airmass = rng.uniform(1.0, 1.8, 20)
    zero = 25.0 - 0.12 * (airmass - 1) + rng.normal(0, 0.002, 20)
    cloudy = np.arange(20) % 2 == 0
    zero[cloudy] -= rng.uniform(0.04, 0.5, int(cloudy.sum()))

    clouds = extinguished(zero, np.full(20, 0.002), np.zeros(20), airmass, 0.02)

    assert clouds is not None
    assert clouds.extinction is not None
    assert abs(clouds.extinction + 0.12) < 0.03
    assert (clouds.photometric == ~cloudy).all()
    assert abs(clouds.level - 25.0) < 0.01


def test_at_one_airmass_no_extinction_is_claimed():
    assert extinguished(np.zeros(6), np.full(6, 0.001), np.zeros(6), np.full(6, 1.1), 0.02) is None


# Apertures


@pytest.mark.parametrize(("alpha", "beta"), [(4.0, 4.0), (3.0, 2.8), (6.0, 3.5)])
def test_the_light_outside_an_aperture_is_told_from_three(alpha: float, beta: float):
    rng = np.random.default_rng(2)
    true = Profile(alpha, beta)
    diameters = (5.0, 10.0, 20.0)
    light = rng.uniform(1e4, 1e5, (300, 1)) * true.within(np.array(diameters) / 2)
    light *= 1 + rng.normal(0, 0.005, light.shape)
    light[:30] *= np.array([0.7, 0.9, 1.0])  # galaxies

    found = profile_of(light, diameters)

    assert found is not None
    assert abs(found.loss_mag(10) - true.loss_mag(10)) < max(4 * found.loss_error_mag(10), 0.001)
    assert abs(found.fwhm / true.fwhm - 1) < 0.02


def test_no_profile_is_claimed_of_what_is_none():
    rng = np.random.default_rng(3)

    assert profile_of(rng.uniform(1, 2, (5, 3)), (5, 10, 20)) is None
    assert profile_of(rng.uniform(1, 2, (50, 2)), (5, 10)) is None
    assert profile_of(np.tile([1.0, 0.2, 0.5], (50, 1)), (5, 10, 20)) is None

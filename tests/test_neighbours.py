"""Points near each other, held against every pair there is."""

from __future__ import annotations

import numpy as np
import pytest

from spicad.reduction.neighbours import nearest_within, pairs_within


def distances(points, others):
    return np.hypot(*(points[:, None] - others[None]).T).T


@pytest.mark.parametrize(
    ("count", "other_count", "reach"), [(300, 200, 10.0), (50, 400, 0.5), (40, 3, 200.0), (1, 1, 1.0)]
)
def test_all_pairs_within_reach_are_found_and_no_others(count, other_count, reach):
    rng = np.random.default_rng(count)
    points, others = rng.uniform(-50, 50, (count, 2)), rng.uniform(-80, 60, (other_count, 2))

    mine, theirs = pairs_within(points, others, reach)

    expected = np.argwhere(distances(points, others) <= reach)
    assert sorted(zip(mine, theirs, strict=True)) == [tuple(pair) for pair in expected]


def test_the_nearest_is_found_once_for_each_point_that_has_one():
    rng = np.random.default_rng(3)
    points, others = rng.uniform(0, 100, (200, 2)), rng.uniform(0, 100, (150, 2))

    mine, theirs = nearest_within(points, others, 5.0)

    away = distances(points, others)
    has_one = away.min(axis=1) <= 5.0
    assert mine.tolist() == np.flatnonzero(has_one).tolist()
    assert theirs.tolist() == away.argmin(axis=1)[has_one].tolist()


def test_points_far_from_all_others_have_no_neighbours_and_cost_nothing():
    points = np.array([[0.0, 0.0], [1e12, -1e12], [-1e15, 3.0]])
    others = np.array([[0.5, 0.0], [1e9, 1e9]])

    assert [each.tolist() for each in pairs_within(points, others, 1.0)] == [[0], [0]]


def test_of_no_points_there_are_no_pairs():
    none, some = np.empty((0, 2)), np.zeros((3, 2))

    assert not len(pairs_within(none, some, 1.0)[0])
    assert not len(nearest_within(some, none, 1.0)[0])

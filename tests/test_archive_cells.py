"""HEALPix cells: the numbers that everybody else gives them, and no footprint, cone or box that one of them misses.

Compared with astropy-healpix 1.1 on 35,000 positions by hand: the same numbers, but for one exact corner of four faces.
"""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from spicad.archive import cells
from spicad.archive.cells import Position, vector

AWKWARD = (
    (0.0, 90.0),
    (77.0, -90.0),
    (10.0, 89.99),
    (200.0, -89.9),
    (0.0, 0.0),
    (359.999, -20.0),
    (45.0, 0.0),  # where four faces meet
    (0.0, 41.8103),  # where three do, and the projection's parts
    (30.0, 41.81),
    (120.0, -41.81),
    (90.0, 60.0),
    (268.0, -41.0),
)
SIZES = (1e-4, 0.01, 0.1, 0.24, 1.0, 4.0, 20.0)
places = some.one_of(
    some.sampled_from(AWKWARD),
    some.tuples(some.floats(0, 360, exclude_max=True), some.floats(-90, 90)),
)
turns = some.floats(0, 360)


def offset(place: Position, angle: float, distance: float) -> Position:
    """The position at `distance` degrees in the direction `angle`."""
    x, y, z = vector(*place)
    east = vector(place[0] + 90, 0)
    north = (y * east[2] - z * east[1], z * east[0] - x * east[2], x * east[1] - y * east[0])
    a, d = math.radians(angle), math.radians(distance)
    mixed = [
        math.cos(d) * p + math.sin(d) * (math.sin(a) * e + math.cos(a) * n)
        for p, e, n in zip((x, y, z), east, north, strict=True)
    ]
    return cells.position((mixed[0], mixed[1], mixed[2]))


def rectangle(place: Position, turn: float, size: float, ratio: float = 2.2) -> list[Position]:
    half = math.degrees(math.atan(ratio))
    return [offset(place, turn + way, size / 2) for way in (half, 180 - half, 180 + half, -half)]


def points_in(polygon: list[Position], count: int, seed: int = 1) -> list[Position]:
    """Corners, points of the edges and of the inside."""
    dice = random.Random(seed)
    corners = [vector(*corner) for corner in polygon]
    points = list(polygon)
    for number in range(count):
        shares = [dice.expovariate(1) for _ in corners]
        if number % 2:  # an edge
            first = dice.randrange(len(corners))
            shares = [s if (k - first) % len(corners) < 2 else 0.0 for k, s in enumerate(shares)]
        mixed = [sum(s * c[axis] for s, c in zip(shares, corners, strict=True)) for axis in range(3)]
        length = math.hypot(*mixed)
        points.append(cells.position((mixed[0] / length, mixed[1] / length, mixed[2] / length)))
    return points


def runs_of_box(west: float, east: float, south: float, north: float) -> list[cells.Run]:
    return [run for caps in cells.caps_of_box(west, east, south, north) for run in cells.runs_of_caps(caps)]


@pytest.mark.parametrize(
    ("place", "cell"),
    [
        ((0, 0), 311296),
        ((0, 90), 65535),
        ((0, -90), 524288),
        ((359.999, 89.9), 262143),
        ((83.633, 22.0145), 386969),  # Crab nebula
        ((210.8025, 54.3489), 182953),  # M 101
        ((10.6847, 41.2688), 43345),  # M 31
        ((266.4168, -29.0078), 461282),  # the centre of the Galaxy
    ],
)
def test_a_position_has_the_number_that_other_programs_give_it(place: Position, cell: int) -> None:
    assert cells.cell_of(*place) == cell


def test_the_centre_of_each_cell_lies_in_it_and_all_numbers_are_used() -> None:
    for cell in range(0, cells.CELLS, 97):
        assert cells.cell_of(*cells.centre_of(cell)) == cell


def test_cells_have_equal_areas() -> None:
    dice = random.Random(1)
    counts = [0] * 12
    for _ in range(24_000):
        place = (dice.uniform(0, 360), math.degrees(math.asin(dice.uniform(-1, 1))))
        counts[cells.cell_of(*place) >> 2 * cells.ORDER] += 1

    assert all(abs(count - 2000) < 5 * math.sqrt(2000) for count in counts)


def test_no_corner_is_farther_from_the_centre_than_is_taken_for_granted() -> None:
    for cell in range(0, cells.CELLS, 997):
        centre = vector(*cells.centre_of(cell))
        for corner in cells.corners_of(cell):
            assert cells.angle(centre, vector(*corner)) <= cells._radius_of_cells(cells.ORDER)


@given(places, turns, some.sampled_from(SIZES), some.floats(0.2, 5))
@settings(max_examples=120, deadline=None)
def test_a_footprint_has_no_point_outside_of_its_cells(place: Position, turn: float, size: float, ratio: float) -> None:
    polygon = rectangle(place, turn, size, ratio)

    covered = cells.cells_of_polygons([polygon])

    assert {cells.cell_of(*point) for point in points_in(polygon, 40)} <= covered
    assert covered == cells.cells_of_polygons([polygon[::-1]])


@given(places, turns, some.sampled_from(SIZES[:5]))
@settings(max_examples=80, deadline=None)
def test_a_footprint_has_few_cells_that_it_does_not_touch(place: Position, turn: float, size: float) -> None:
    polygon = rectangle(place, turn, size, 1.0)
    middle = vector(*place)

    covered = cells.cells_of_polygons([polygon])

    farthest = math.radians(size / 2) + 2 * cells._radius_of_cells(cells.ORDER)
    assert all(cells.angle(middle, vector(*cells.centre_of(cell))) < farthest * 1.001 for cell in covered)


@pytest.mark.slow
def test_a_ccd_in_the_open_has_exactly_the_cells_that_a_fine_grid_of_its_points_finds() -> None:
    dice = random.Random(5)
    spare = total = 0
    for _ in range(60):
        polygon = rectangle((dice.uniform(0, 360), dice.uniform(-38, 38)), dice.uniform(0, 360), 0.6, 1.3)
        covered = cells.cells_of_polygons([polygon])
        seen = {cells.cell_of(*point) for point in points_in(polygon, 3000)}
        assert seen <= covered
        spare, total = spare + len(covered - seen), total + len(covered)

    assert spare < 0.03 * total  # corners that are only grazed


def test_what_is_no_convex_polygon_is_covered_with_all_that_it_encloses() -> None:
    arrow = [(10.0, 10.0), (12.0, 10.0), (10.6, 10.6), (10.0, 12.0)]
    twisted = [(10.0, 10.0), (12.0, 12.0), (12.0, 10.0), (10.0, 12.0)]
    point = [(83.633, 22.0145)] * 4

    for polygon in (arrow, twisted, point):
        covered = cells.cells_of_polygons([polygon])
        assert {cells.cell_of(*corner) for corner in polygon} <= covered
    assert cells.cell_of(10.1, 11.5) in cells.cells_of_polygons([arrow])


def test_many_ccds_have_the_cells_of_each() -> None:
    ccds = [rectangle((k * 0.2, 0.1 * k), 10 * k, 0.2) for k in range(36)]

    assert cells.cells_of_polygons(ccds) == set().union(*(cells.cells_of_polygons([ccd]) for ccd in ccds))


@given(places, some.sampled_from((0.0, 1e-6, *SIZES, 89.0, 90.0, 120.0, 179.9, 180.0)), turns, some.floats(0, 1))
@settings(max_examples=100, deadline=None)
def test_a_cone_has_no_point_outside_of_its_cells(place: Position, radius: float, angle: float, part: float) -> None:
    runs = cells.runs_of_cone(*place, radius)

    covered = cells.joined(runs)
    for distance in (0.0, radius * part, radius):
        cell = cells.cell_of(*offset(place, angle, distance))
        assert any(first <= cell <= last for first, last in covered)


@given(places, some.sampled_from((0.5, 1.0, 4.0, 20.0, 120.0)), some.integers(0, 10**9))
@settings(max_examples=60, deadline=None)
def test_cells_said_to_be_inside_of_a_cone_are(place: Position, radius: float, seed: int) -> None:
    dice = random.Random(seed)
    middle = vector(*place)

    inside = [run for run in cells.runs_of_cone(*place, radius) if run.is_inside]

    for run in dice.sample(inside, min(len(inside), 20)):
        for corner in cells.corners_of(dice.randint(run.first, run.last)):
            assert cells.angle(middle, vector(*corner)) <= math.radians(radius)


@given(
    places,
    some.sampled_from((1e-6, 0.05, 0.3, 2.0, 15.0, 90.0)),
    some.integers(0, cells.ORDER),
    turns,
    some.floats(0, 1),
)
@settings(max_examples=400, deadline=None)
def test_a_block_of_a_face_holds_the_whole_of_a_cap(
    place: Position, radius: float, order: int, way: float, part: float
) -> None:
    block = cells.block_round(cells.Cap(vector(*place), math.radians(radius)), order)

    for far in (1.0, part):
        cell = cells.cell_of(*offset(place, way, far * radius))
        assert not block or any(run.first <= cell <= run.last for run in block)


@pytest.mark.parametrize("place", [(20.0, 10.0), (70.0, 38.0), (45.0, 55.0), (15.0, -60.0)])
def test_a_block_is_hardly_larger_than_what_is_found_by_looking_at_each_cell(place: Position) -> None:
    cap = cells.Cap(vector(*place), math.radians(0.32))

    block = {run.first for run in cells.block_round(cap, cells.ORDER)}

    assert 0 < len(block) < 36


def test_the_whole_sky_is_one_run() -> None:
    assert cells.joined(cells.runs_of_cone(12, 34, 180)) == [(0, cells.CELLS - 1)]
    assert cells.joined(runs_of_box(0, 360, -90, 90)) == [(0, cells.CELLS - 1)]


@pytest.mark.slow
@given(
    some.floats(0, 360),
    some.sampled_from((0.0, 0.1, 5.0, 100.0, 180.0, 200.0, 359.0, 360.0)),
    some.floats(-90, 90),
    some.sampled_from((0.0, 0.1, 10.0, 180.0)),
    some.floats(0, 1),
    some.floats(0, 1),
)
@settings(max_examples=120, deadline=None)
def test_a_box_has_no_point_outside_of_its_cells(
    west: float, width: float, south: float, height: float, across: float, up: float
) -> None:
    north = min(90.0, south + height)
    east = west + 360 if width == 360 else (west + width) % 360

    covered = cells.joined(runs_of_box(west, east, south, north))

    cell = cells.cell_of(west + across * width, south + up * (north - south))
    assert any(first <= cell <= last for first, last in covered)

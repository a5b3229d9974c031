"""Outlines of CCDs tell nothing but the truth: what is said to be in one is, and none is larger than its size."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some
from test_archive_cells import SIZES, offset, places, rectangle, turns

from spicad.archive import cells
from spicad.archive.cells import Cap, Position, vector
from spicad.archive.outlines import SIZES_DEG, cells_near, outlines_of, sure_of
from spicad.archive.overlaps import Cone, footprint_of


def region(polygon: list[Position]) -> str:
    return "POLYGON ICRS " + " ".join(f"{ra:.9f} {dec:.9f}" for ra, dec in polygon)


@given(places, turns, some.sampled_from(SIZES), some.floats(0.2, 5))
@settings(max_examples=100, deadline=None)
def test_all_is_in_an_outline_as_far_from_its_middle_as_it_says(
    place: Position, turn: float, size: float, ratio: float
) -> None:
    s_region = region(rectangle(place, turn, size, ratio))

    [outline] = outlines_of(s_region)

    middle = cells.position((outline.x, outline.y, outline.z))
    assert outline.cell == cells.cell_of(*middle)
    assert outline.held > 0
    for way in range(0, 360, 30):
        point = offset(middle, way, math.degrees(outline.held))
        assert Cone(*point).touches(footprint_of(s_region))
        assert not Cone(*offset(middle, way, 1.001 * SIZES_DEG[outline.size])).touches(footprint_of(s_region))


@given(
    places, turns, some.sampled_from(SIZES), some.sampled_from((0.0, 1e-5, 0.2, 3.0, 80.0, 180.0)), some.floats(0, 3)
)
@settings(max_examples=150, deadline=None)
def test_an_outline_that_is_said_to_touch_a_cone_does_and_one_that_does_is_looked_for(
    place: Position, way: float, size: float, radius: float, far: float
) -> None:
    s_region = region(rectangle(offset(place, way, min(radius + (far - 1) * size, 180.0)), way, size))
    cone = Cone(*place, radius)
    caps = [Cap(vector(*place), math.radians(radius))]

    [outline] = outlines_of(s_region)
    factor, least = sure_of(caps, caps[0], outline.size)
    closeness = cells.dot((outline.x, outline.y, outline.z), vector(*place))

    if closeness + factor * outline.held >= least:
        assert cone.touches(footprint_of(s_region))
    if cone.touches(footprint_of(s_region)):
        assert any(first <= outline.cell <= last for first, last in cells_near(caps, outline.size))


@pytest.mark.parametrize(
    "polygon",
    [
        [(10.0, 10.0), (12.0, 10.0), (10.6, 10.6), (10.0, 12.0)],
        [(10.0, 10.0), (12.0, 12.0), (12.0, 10.0), (10.0, 12.0)],
        [(83.633, 22.0145)] * 4,
    ],
)
def test_of_what_is_no_convex_polygon_nothing_is_said(polygon: list[Position]) -> None:
    [outline] = outlines_of(region(polygon))

    assert outline.held < 0


def test_an_exposure_of_which_only_the_position_is_known_has_an_outline_there() -> None:
    [outline] = outlines_of("", 359.99, 89.5)

    assert outline.cell == cells.cell_of(359.99, 89.5)
    assert list(outlines_of("")) == []

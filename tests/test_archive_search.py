"""Searches of the archive find exactly what lies at a place and what its columns say, on SQLite and on a real MariaDB.

Held against brute force: every exposure tried by itself.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Iterator
from hashlib import sha256
from types import SimpleNamespace
from typing import Any

import peewee
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some
from services import mariadb
from test_archive_cells import AWKWARD, offset, places, points_in, rectangle, turns

from spicad import tables
from spicad.archive import cells, conditions, coordinates, search
from spicad.archive.cells import Position, vector
from spicad.archive.outlines import outlines_of
from spicad.archive.overlaps import Box, Cone, Footprint, footprint_of, polygons_of, positions_of
from spicad.archive.search import Found, Range, Wanted
from spicad.rules import condition
from spicad.tables import Exposure, Outline, Selected, Selection, Tagged
from spicad.words import BadInput

__all__ = ["mariadb"]

COUNT = 260
FILTERS = ("g", "r", "R", "i.MP9702", "")


def region(polygons: Any) -> str:
    parts = ["POLYGON ICRS " + " ".join(f"{ra:.9f} {dec:.9f}" for ra, dec in polygon) for polygon in polygons]
    return parts[0] if len(parts) == 1 else f"UNION ICRS ({' '.join(parts)})"


def made_exposures() -> list[dict[str, Any]]:
    """Single CCDs and small mosaics, many at awkward places."""
    dice = random.Random(7)
    rows = []
    for number in range(1, COUNT + 1):
        place = AWKWARD[number % len(AWKWARD)]
        if number % 3:
            place = offset(place, dice.uniform(0, 360), dice.expovariate(1.5))
        turn, size = dice.uniform(0, 360), dice.choice((0.05, 0.3, 1.0, 3.0))
        centres = [place] if number % 4 else [offset(place, turn + 90 * k, size) for k in range(4)]
        polygons = [rectangle(each, turn, size, dice.uniform(0.5, 2)) for each in centres]
        rows.append(
            {
                "id": number,
                "obs_id": str(900_000 + number),
                "name": f"{900_000 + number}p.fits",
                "node": "node1",
                "path": f"/data/{number}p.fits",
                "path_key": sha256(str(number).encode()).hexdigest(),
                "sha256": sha256(b"x%d" % number).hexdigest(),
                "bytes": 1000 * number,
                "mtime_ns": 0,
                "instrument_name": dice.choice(("MegaPrime", "WIRCam")),
                "filter": dice.choice(FILTERS),
                "runid": dice.choice(("03AF12", "03BF08", "04A%")),
                "target_name": dice.choice(("M101", "D1", "deep field", "")),
                "kind": "flat" if number % 13 == 0 else "science",
                "s_ra": place[0] % 360,
                "s_dec": place[1],
                "s_region": region(polygons),
                "t_min": dice.choice((None, 53_000 + number / 10)),
                "t_exptime": dice.choice((None, 60.0, 600.0)),
                "airmass": dice.choice((None, 1.0, 1.5)),
                "seeing": dice.choice((None, 0.6, 0.9, 1.3)),
                "grade": dice.choice(("", "A", "B", "C")),
                "graded_by": ("", "alice@web")[number % 2],
                "elongation": (None, 1.04, 1.31)[number % 3],
                "background": (None, 140.0)[number % 2],
                "limiting_magnitude": (None, 23.1, 24.6)[number % 3],
                "stars": (None, 90, 1200, 3000)[number % 4],
                "registered": 0.0,
            }
        )
    return rows


ROWS = made_exposures()
BY_NUMBER = {row["id"]: row for row in ROWS}
FOOTPRINTS = {row["id"]: footprint_of(row["s_region"]) for row in ROWS}


def fill() -> None:
    with tables.database.atomic():
        for start in range(0, COUNT, 50):
            Exposure.insert_many(ROWS[start : start + 50]).execute()
        outline(*ROWS)
        Tagged.insert_many([{"tag": "good", "exposure": n, "who": "alice", "time": 0} for n in (1, 2, 3)]).execute()
        Tagged.insert_many([{"tag": "ring", "exposure": n, "who": "alice", "time": 0} for n in (2, 3, 4)]).execute()
        mine = Selection.create(name="mine", owner="alice", group="lens", changed=0.0)
        Selected.insert_many([{"selection": mine.id, "exposure": n} for n in (5, 6)]).execute()


def outline(*rows: dict[str, Any]) -> None:
    for row in rows:
        for each in outlines_of(row["s_region"], row["s_ra"], row["s_dec"]):
            Outline.insert(exposure=row["id"], **each._asdict()).execute()


@pytest.fixture(scope="module", params=["sqlite", pytest.param("mariadb", marks=pytest.mark.slow)])
def archive(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    url = f"sqlite:///{tmp_path_factory.mktemp('archive') / 'spica.db'}"
    if request.param == "mariadb":
        url = request.getfixturevalue("mariadb").url("archive")
    opened = tables.connect(url)
    tables.require_current(make_if_empty=True)
    fill()
    yield
    opened.close()


def apart(one: Position, two: Position) -> float:
    return math.degrees(cells.angle(vector(*one), vector(*two)))


def numbers(**wanted: Any) -> list[int]:
    return Found(Wanted(**{"kinds": (), **wanted})).numbers()


def tried(holds: Any) -> list[int]:
    return [row["id"] for row in ROWS if holds(row)]


def test_a_database_that_reads_no_lists_finds_the_same(archive: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Such as the MariaDB of EL 9."""
    cones = [Cone(row["s_ra"], row["s_dec"], radius) for row in ROWS if row["s_region"] for radius in (0.01, 2.0)]
    found = [numbers(place=cone) for cone in cones]
    monkeypatch.setattr(search, "_list_of_cells", lambda: "")

    assert [numbers(place=cone) for cone in cones] == found
    assert max(map(len, found)) > 10


@pytest.mark.parametrize(("version", "reads_lists"), [((10, 5, 22), False), ((10, 6, 0), True), ((10, 11, 19), True)])
def test_mariadb_is_asked_by_lists_since_it_reads_them(
    monkeypatch: pytest.MonkeyPatch, version: tuple[int, ...], reads_lists: bool
) -> None:
    monkeypatch.setattr(search, "_is_mysql", lambda: True)
    monkeypatch.setattr(search, "database", SimpleNamespace(server_version=version))

    assert ("JSON_TABLE" in search._list_of_cells()) == reads_lists


# Footprints, one by one


@pytest.mark.slow
@given(places, some.sampled_from((0.0, 1e-5, 0.01, 0.3, 3.0, 20.0, 70.0, 120.0)), some.integers(0, 10**9))
@settings(max_examples=100, deadline=None)
def test_a_cone_tells_of_many_polygons_at_once_what_it_tells_of_each(place: Position, radius: float, seed: int) -> None:
    dice = random.Random(seed)
    cone = Cone(*place, radius)
    sizes = [dice.choice((0.01, 0.2, 2.0)) for _ in range(9)]
    middles = [offset(place, dice.uniform(0, 360), radius + size * dice.uniform(-1.2, 1.2)) for size in sizes]
    made = [rectangle(m, dice.uniform(0, 360), s) for m, s in zip(middles, sizes, strict=True)]
    triangle, five = made[0][:3], [*made[1], made[1][0]]

    for listed in (made, [*made, triangle, five], [], [triangle]):
        polygons = polygons_of(region(listed))
        assert cone.touched(polygons) == [cone.touches(Footprint((positions_of(each),))) for each in polygons]


@pytest.mark.slow
@given(places, turns, some.sampled_from((0.01, 0.3, 3.0, 20.0)), turns, some.floats(0, 2))
@settings(max_examples=150, deadline=None)
def test_a_cone_touches_what_has_a_point_within_its_radius(
    place: Position, turn: float, size: float, way: float, far: float
) -> None:
    polygon = rectangle(place, turn, size, 1.3)
    footprint = Footprint((tuple(polygon),))
    middle = offset(place, way, far * size)

    nearest = min(apart(middle, point) for point in points_in(polygon, 600))

    assert Cone(*middle, nearest + 1e-9).touches(footprint)
    if far > 0.51:  # outside: the nearest point is one of an edge, and the grid is fine
        assert not Cone(*middle, max(nearest - 0.05 * size, 0)).touches(footprint)
    if far < 0.25:
        assert Cone(*middle).touches(footprint)


@pytest.mark.slow
@given(places, places, turns, some.sampled_from((0.1, 1.0, 10.0)), some.floats(0, 2.5), turns)
@settings(max_examples=150, deadline=None)
def test_footprints_touch_when_they_share_a_point(
    place: Position, other: Position, turn: float, size: float, far: float, way: float
) -> None:
    one = Footprint((tuple(rectangle(place, turn, size)),))
    near = Footprint((tuple(rectangle(offset(place, way, far * size), way, size)),))
    shared = any(Cone(*point).touches(one) for point in points_in(list(near.polygons[0]), 300))

    assert one.touches(near) == near.touches(one)
    if shared:
        assert one.touches(near)
    if far > 1.01 or apart(place, other) > 1.01 * size:
        away = near if far > 1.01 else Footprint((tuple(rectangle(other, turn, size)),))
        assert not one.touches(away)


@pytest.mark.slow
@given(
    places,
    turns,
    some.sampled_from((0.1, 2.0, 20.0)),
    some.floats(0, 360),
    some.sampled_from((0.2, 30.0, 190.0, 360.0)),
    some.floats(-90, 89),
    some.sampled_from((0.5, 20.0, 180.0)),
)
@settings(max_examples=200, deadline=None)
def test_a_box_touches_what_has_a_point_in_it(
    place: Position, turn: float, size: float, west: float, width: float, south: float, height: float
) -> None:
    polygon = rectangle(place, turn, size, 1.1)
    east = west + 360 if width == 360 else (west + width) % 360
    box = Box(west, east, south, min(90.0, south + height))
    inside = [p for p in points_in(polygon, 400) if box.holds(vector(*p))]

    touches = box.touches(Footprint((tuple(polygon),)))

    if inside:
        assert touches
    elif touches:  # only grazed: a slightly larger polygon has points in it
        larger = rectangle(place, turn, size * 1.3, 1.1)
        grown = Box(west - size / 4, west + width + size / 4, max(-90, south - size / 4), min(90, box.north + size / 4))
        assert any(grown.holds(vector(*p)) for p in points_in(larger, 3000)) or size < 0.2


def test_a_box_inside_of_a_footprint_touches_it() -> None:
    wide = Footprint((tuple(rectangle((0.0, 89.5), 10, 8.0)),))

    assert Box(100, 101, 89.9, 89.95).touches(wide)
    assert Box(0, 360, 89.99, 90).touches(wide)
    assert not Box(0, 360, -90, 80).touches(wide)


def test_the_antipodes_of_a_footprint_are_not_in_it() -> None:
    footprint = Footprint((tuple(rectangle((10.0, 20.0), 0, 3.0)),))

    assert Cone(10, 20).touches(footprint)
    assert not Cone(190, -20).touches(footprint)


# Places, in the tables


@pytest.mark.slow
@pytest.mark.parametrize("radius", [0.0, 1e-5, 0.2, 1.0, 5.0, 40.0, 120.0, 180.0])
@pytest.mark.parametrize("middle", AWKWARD)
def test_a_cone_finds_what_touches_it_and_nothing_else(archive: None, middle: Position, radius: float) -> None:
    cone = Cone(*middle, radius)

    assert search.exposures_at(cone) == tried(lambda row: cone.touches(FOOTPRINTS[row["id"]]))


@pytest.mark.slow
@given(places, some.sampled_from((0.0, 0.1, 0.7, 4.0)))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_cone_finds_what_brute_force_finds(archive: None, middle: Position, radius: float) -> None:
    cone = Cone(*middle, radius)

    assert search.exposures_at(cone) == tried(lambda row: cone.touches(FOOTPRINTS[row["id"]]))


@pytest.mark.parametrize("place", [(210.8, 54.3), (0.0, 90.0), (359.9999, -90.0), (0.0, 0.0)])
def test_an_exposure_of_which_only_the_position_is_known_is_found_there(archive: None, place: Position) -> None:
    number = COUNT + 1000
    row = {**ROWS[0], "id": number, "path_key": "x", "s_ra": place[0], "s_dec": place[1], "s_region": ""}
    with tables.database.atomic() as change:
        Exposure.insert(row).execute()
        outline(row)

        found = [number in search.exposures_at(Cone(*each, 0.001)) for each in (place, (place[0] + 90, place[1] / 2))]
        change.rollback()

    assert found == [True, False]


def test_so_many_exposures_that_one_text_would_not_hold_them_are_found_too(
    archive: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    cone = Cone(0.0, 90.0, 4.0)
    found = search.exposures_at(cone)

    monkeypatch.setattr(search, "LONGEST_TEXT", 3)

    assert len(found) > 3
    assert search.exposures_at(cone) == found


@pytest.mark.slow
@pytest.mark.parametrize(
    "box",
    [
        Box(350, 10, -5, 5),
        Box(10, 350, -5, 5),
        Box(0, 360, 88, 90),
        Box(0, 360, -90, 90),
        Box(40, 50, -90, -85),
        Box(300, 301, 41, 42),
        Box(44.999, 45.001, -0.001, 0.001),
    ],
)
def test_a_box_finds_what_touches_it_and_nothing_else(archive: None, box: Box) -> None:
    assert search.exposures_at(box) == tried(lambda row: box.touches(FOOTPRINTS[row["id"]]))


@pytest.mark.parametrize("number", [4, 12, 13, 48])
def test_what_overlaps_an_exposure_is_found_with_itself(archive: None, number: int) -> None:
    place = search.place_of_exposure(number)

    assert place is not None
    found = search.exposures_at(place)
    assert number in found
    assert found == tried(lambda row: FOOTPRINTS[number].touches(FOOTPRINTS[row["id"]]))


def test_an_object_is_where_its_exposures_are(archive: None) -> None:
    for row in ROWS[:3]:
        Exposure.update(target_name="near the pole", s_ra=120.0 * row["id"], s_dec=89.5).where(
            Exposure.id == row["id"]
        ).execute()

    around = search.place("near the pole", "30'")
    assert isinstance(around, Cone)
    assert around.dec == pytest.approx(90)
    assert around.radius == 0.5
    with pytest.raises(BadInput, match=r'Did you mean "near the pole"'):
        search.place("near te pole")
    with pytest.raises(BadInput, match="degrees apart"):
        search.place("M101", "30'")
    with pytest.raises(BadInput, match="14:03"):
        search.place("12 13 14")
    for row in ROWS[:3]:
        Exposure.update(target_name=row["target_name"], s_ra=row["s_ra"], s_dec=row["s_dec"]).where(
            Exposure.id == row["id"]
        ).execute()


@pytest.mark.parametrize("name", ["M101", "deep field"])
def test_an_object_without_a_radius_is_its_exposures_wherever_they_lie(archive: None, name: str) -> None:
    found = Found(Wanted(place=search.place(f" {name} "))).numbers()

    assert found == [row["id"] for row in ROWS if row["kind"] == "science" and row["target_name"] == name]
    assert found


# Columns


@pytest.mark.parametrize(
    ("wanted", "holds"),
    [
        ({"filters": ("r",)}, lambda row: row["filter"] == "r"),
        ({"filters": ("r", "R")}, lambda row: row["filter"] in ("r", "R")),
        ({"filters": ("I.*",)}, lambda row: row["filter"].lower().startswith("i.")),
        ({"runids": ("04A%",)}, lambda row: row["runid"] == "04A%"),
        ({"runids": ("0*%",)}, lambda row: row["runid"] == "04A%"),
        ({"names": ("90000*p.fits", "900017p.fits")}, lambda row: row["id"] < 10 or row["id"] == 17),
        ({"objects": ("deep field",), "instruments": ("WIRCam",)},
         lambda row: row["target_name"] == "deep field" and row["instrument_name"] == "WIRCam"),
        ({"kinds": ("flat",)}, lambda row: row["kind"] == "flat"),
        ({"mjd": Range(53_005, 53_010)}, lambda row: row["t_min"] and 53_005 <= row["t_min"] <= 53_010),
        ({"t_exptime": Range(least=100)}, lambda row: (row["t_exptime"] or 0) >= 100),
        ({"airmass": Range(most=1.2)}, lambda row: (row["airmass"] or 9) <= 1.2),
        ({"seeing": Range(0.7, 1.0)}, lambda row: 0.7 <= (row["seeing"] or 0) <= 1.0),
        ({"grade": "B"}, lambda row: row["grade"] in ("A", "B")),
        ({"grade": "B", "is_ungraded_taken": True}, lambda row: row["grade"] in ("A", "B", "")),
        ({"tags": ("good", "ring")}, lambda row: row["id"] in (2, 3)),
        ({"selections": (1,)}, lambda row: row["id"] in (5, 6)),
        ({"exposures": ()}, lambda row: False),
        ({"exposures": tuple(range(1, 5000))}, lambda row: True),
        ({"place": Cone(0, 90, 3), "filters": ("g",), "exposures": tuple(range(1, 1000))},
         lambda row: row["filter"] == "g" and Cone(0, 90, 3).touches(FOOTPRINTS[row["id"]])),
    ],
)  # fmt: skip
def test_columns_narrow_a_search(archive: None, wanted: dict[str, Any], holds: Any) -> None:
    assert numbers(**wanted) == tried(holds)


CONDITIONS = (
    "seeing < 0.9",
    "not seeing < 0.9",
    "seeing < 0.9 and grade <= 'B'",
    "seeing < 0.9 or not (filter == 'r' and airmass > 1.2)",
    "0.5 < seeing <= 0.9",
    "elongation < 1.2 and not stars < 100",
    "limiting_magnitude >= 24 or background < 100",
    "grade <= 'B' and graded_by != 'nobody'",
    "filter != 'r'",
    "filter == ''",
    "not filter == ''",
    "'A' <= grade <= 'B'",
    "1 < 2 and size > 100000",
    "2 < 1 or mjd > 53010",
    "grade == 'A' and object == 'deep field' and runid == '04A%'",
    "s_dec < -30 and t_exptime == 600",
    "filter == object",
)


@pytest.mark.parametrize("text", CONDITIONS)
def test_a_condition_means_in_the_archive_what_it_means_in_rules(archive: None, text: str) -> None:
    names = {word: column.name for word, column in conditions.COLUMNS.items()}
    holds = condition(text)

    expected = tried(lambda row: holds(SimpleNamespace(**{word: row[name] for word, name in names.items()})))

    assert numbers(condition=text) == expected


@pytest.mark.parametrize("text", ["seeing <", "seing < 1", "filter < 1", "__import__('os')", "grade in ('A')"])
def test_what_is_no_condition_is_refused(archive: None, text: str) -> None:
    with pytest.raises(BadInput, match="condition"):
        Found(Wanted(condition=text))


@pytest.mark.parametrize("hostile", ["' OR 1=1 --", 'x"; DROP TABLE exposure; --', "\\' OR 1=1 #", "%", "_"])
def test_hostile_texts_are_only_texts(archive: None, hostile: str) -> None:
    for key in ("filters", "runids", "objects", "names", "instruments", "tags"):
        assert numbers(**{key: (hostile,)}) == []
    assert search.named([hostile]).missing == (hostile,)
    assert Exposure.select().count() == COUNT


# Answers


def test_rows_come_sorted_and_in_pages(archive: None) -> None:
    found = Found(Wanted())
    whole = list(found.rows(sort="-size"))

    pages = [found.page("-size", 40, start) for start in range(0, COUNT, 40)]

    assert [row["id"] for page in pages for row in page.rows] == [row["id"] for row in whole]
    assert {page.total for page in pages} == {len(whole)} == {found.count()}
    assert [row["bytes"] for row in whole] == sorted((row["bytes"] for row in whole), reverse=True)
    with pytest.raises(BadInput, match=r'Did you mean "seeing"'):
        found.page("seing")


def test_facets_count_each_value(archive: None) -> None:
    facets = Found(Wanted(kinds=())).facets(("filter", "runid", "grade", "kind"))

    assert list(facets) == ["filter", "runid", "grade", "kind"]
    for name, column in (("filter", "filter"), ("runid", "runid"), ("grade", "grade"), ("kind", "kind")):
        assert facets[name] == Counter(row[column] for row in ROWS)
        assert list(facets[name].values()) == sorted(facets[name].values(), reverse=True)


@pytest.mark.parametrize(
    "wanted",
    [{"place": Cone(0, 90, 3)}, {"selections": (1,)}, {"exposures": tuple(range(3, 1000))}, {"tags": ("good",)}],
)
def test_facets_count_what_is_found(archive: None, wanted: dict[str, Any]) -> None:
    chosen = Found(Wanted(grade="B", is_ungraded_taken=True, **wanted))
    rows = [BY_NUMBER[number] for number in chosen.numbers()]

    assert rows
    for names in (("filter", "runid", "grade"), ("filter", "object")):
        facets = chosen.facets(names)
        assert facets["filter"] == Counter(row["filter"] for row in rows)
        assert sum(facets[names[-1]].values()) == len(rows)


def test_an_index_alone_counts_what_a_selection_holds(archive: None) -> None:
    if not isinstance(tables.database.obj, peewee.SqliteDatabase):
        plan = "EXPLAIN SELECT filter, COUNT(*) FROM exposure AS t1 FORCE INDEX (%s) WHERE id IN (5, 6) GROUP BY filter"
        assert "Using index" in str(tables.database.execute_sql(plan % tables.COUNTED_BY_ID).fetchall())
        return
    said = "EXPLAIN QUERY PLAN SELECT filter, COUNT(*) FROM exposure INDEXED BY %s WHERE id IN (5, 6) GROUP BY filter"
    assert "COVERING INDEX" in str(tables.database.execute_sql(said % tables.COUNTED_BY_ID).fetchall())


def test_a_list_of_names_says_what_was_not_found(archive: None) -> None:
    listed = search.words_of(
        "900001p.fits, 900002p  # two of them\n\n900003\n/else/where/900004p.fits\nno-such\n900001p.fits"
    )

    named = search.named(listed)

    assert named.found == {
        "900001p.fits": (1,),
        "900002p": (2,),
        "900003": (3,),
        "/else/where/900004p.fits": (4,),
    }
    assert named.numbers == (1, 2, 3, 4)
    assert named.missing == ("no-such",)


def test_a_list_of_thousands_of_names_is_looked_up(archive: None) -> None:
    named = search.named([f"{900_000 + n}p" for n in range(1, 2001)])

    assert len(named.found) == COUNT
    assert len(named.missing) == 2000 - COUNT


# Positions as people write them


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("210.80 +54.35", (210.8, 54.35)),
        ("14:03:12.6 +54:20:57", (210.8025, 54.349167)),
        ("14h03m12.6s -54d20m57s", (210.8025, -54.349167)),
        ("14 03 12.6 -00 20 57", (210.8025, -0.349167)),
        ("10:20 -1:30", (155.0, -1.5)),
        ("12.5-3.5", (12.5, -3.5)),
        ("0, -90", (0.0, -90.0)),
        ("83d38m00s +22d0m0s", (83.633333, 22.0)),
        ("360 90", (0.0, 90.0)),
    ],
)
def test_positions_are_read_in_degrees_and_sexagesimal(text: str, expected: Position) -> None:
    assert coordinates.position(text) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    "text", ["", "12", "400 1", "10 91", "14:61:00 +1:00:00", "nan nan", "1e400 0", "a b", "1,2,3"]
)
def test_what_is_no_position_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match="14:03:12"):
        coordinates.position(text)


def test_sizes_and_dates_are_read_in_their_units() -> None:
    assert coordinates.size("30'") == coordinates.size("0.5") == coordinates.size("30 arcmin") == 0.5
    assert coordinates.mjd("2004-03-21") == coordinates.mjd("2453085.5") == 53_085
    assert coordinates.mjd("2004-03-21", is_end=True) == pytest.approx(53_086)
    assert coordinates.mjd("2004-03-21T06:00+06:00") == 53_085
    for wrong in ("x", "181", "-1", "1 parsec"):
        with pytest.raises(ValueError, match=r"Write|180"):
            coordinates.size(wrong)

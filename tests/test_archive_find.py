"""`spica find` and `spica selection`: what was typed, what is written in each format, who may use which selection."""

from __future__ import annotations

import csv
import io
import itertools
import json
import re
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from services import mariadb
from test_archive_search import FOOTPRINTS, ROWS, fill, region

from spicad import commands, tables
from spicad.archive import cells, formats, moc, search, selections, skymap
from spicad.archive.overlaps import Cone
from spicad.people import Person
from spicad.tables import Exposure
from spicad.words import BadInput, Rank

__all__ = ["mariadb"]

SCIENCE = [row for row in ROWS if row["kind"] == "science"]
Command = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("find")
    (made / "spica.conf").write_text('[paths]\nspool = "spool"\nresults = "results"\n')
    opened = tables.connect(f"sqlite:///{made / 'spool/spica.db'}")
    tables.upgrade()
    fill()
    opened.close()
    return made


@pytest.fixture
def spica(folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    monkeypatch.setenv("SPICA_CONF", str(folder / "spica.conf"))

    def run(*arguments: str) -> tuple[int, str, str]:
        status = commands.main(arguments)
        printed = capsys.readouterr()
        return status, printed.out, printed.err

    return run


def names_of(rows: list[dict[str, object]]) -> list[object]:
    return sorted(str(row["name"]) for row in rows)


@pytest.mark.slow
def test_a_cone_in_sexagesimal_finds_what_touches_it(spica: Command) -> None:
    _, out, _ = spica("find", "08:00:00 -41:48:36", "--radius", "180'", "--json", "--limit", "0")

    cone = Cone(120.0, -41.81, 3)
    expected = [row for row in SCIENCE if cone.touches(FOOTPRINTS[row["id"]])]
    assert expected
    assert names_of(json.loads(out)) == names_of(expected)


def test_options_narrow_each_other(spica: Command) -> None:
    _, out, _ = spica(
        "find", "--filter", "r", "--filter", "g", "--seeing", ":0.9", "--grade", "B", "--exptime", "600", "--count"
    )  # fmt: skip

    assert int(out) == sum(
        row["filter"] in ("r", "g")
        and (row["seeing"] or 9) <= 0.9
        and row["grade"] in ("A", "B")
        and row["t_exptime"] == 600
        for row in SCIENCE
    )


def test_a_table_is_sorted_and_says_that_there_is_more(spica: Command) -> None:
    status, out, err = spica("find", "--sort", "size", "--reverse", "--limit", "3")

    lines = out.splitlines()
    expected = sorted(SCIENCE, key=lambda row: -row["bytes"])[:3]
    assert status == 0
    assert lines[0].split() == [
        "name",
        "instrument",
        "filter",
        "object",
        "runid",
        "start",
        "s",
        "airmass",
        "seeing",
        "grade",
        "ra",
        "dec",
    ]
    assert [line.split()[0] for line in lines[1:]] == [row["name"] for row in expected]
    assert f"3 of {len(SCIENCE)}" in err


def test_nothing_found_is_said_with_its_own_status(spica: Command) -> None:
    assert spica("find", "--filter", "no such")[0] == commands.NOTHING
    assert spica("find", "--filter", "no such", "--count")[:2] == (commands.NOTHING, "0\n")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("10", "91"), "declination"),
        (("--overlaps", "no-such"), "no exposure"),
        (("M1O1",), "Did you mean"),
        (("10", "10", "--radius", "3 ells"), "30'"),
        (("--box", "1", "2", "5", "3"), "north of"),
        (("--box", "1", "2", "5", "9", "--overlaps", "x"), "more than one place"),
        (("--after", "yesterday"), "2004-03-21"),
        (("--seeing", "good"), "0.5:0.9"),
        (("--kind", "image"), "Known: any, science"),
        (("--where", "seing < 1"), "seeing"),
        (("--sort", "seing"), "seeing"),
        (("--facets", "filtre"), "filter"),
        (("--selection", "min"), '"mine"'),
        (("--radius", "1"), "there is no place to look round"),
        (("--box", "0", "10", "0", "10", "--radius", "1"), "there is no place to look round"),
        (("--airmass", "2:1"), "Write 1:2."),
        (("--airmass", "nan"), "no range"),
        (("--facets", "kind", "--csv"), "Only --json goes with --facets."),
    ],
)
def test_what_was_typed_wrong_is_named_with_the_mend(spica: Command, arguments: tuple[str, ...], words: str) -> None:
    status, _, err = spica("find", *arguments)

    assert status == commands.WRONG
    assert words in err


@pytest.mark.parametrize("option", ["--limit", "--offset"])
@pytest.mark.parametrize("number", ["-3", "many"])
def test_a_number_below_nought_is_refused_in_words(
    spica: Command, capsys: pytest.CaptureFixture[str], option: str, number: str
) -> None:
    with pytest.raises(SystemExit) as ended:
        spica("find", option, number)

    assert ended.value.code == commands.WRONG
    assert f"{option}: {number!r} is no count. Write a whole number from 0 up." in capsys.readouterr().err


def test_facets_count_values(spica: Command) -> None:
    _, out, _ = spica("find", "--kind", "any", "--facets", "kind")

    counts = {line.split()[1]: int(line.split()[2]) for line in out.splitlines()[1:]}
    assert counts == {"science": len(SCIENCE), "flat": len(ROWS) - len(SCIENCE)}
    assert json.loads(spica("find", "--kind", "any", "--facets", "kind", "--json")[1]) == {"kind": counts}


def test_a_list_of_names_says_what_was_not_found(spica: Command, tmp_path: Path) -> None:
    (tmp_path / "list").write_text("900001p.fits\n900002 # comment\nno-such.fits\n")

    _, out, err = spica("find", "--names", str(tmp_path / "list"), "--kind", "any", "--paths")

    assert sorted(out.split()) == ["/data/1p.fits", "/data/2p.fits"]
    assert "not found: no-such.fits" in err
    assert "1 of 3 names" in err


# Formats


def test_csv_holds_every_row_and_no_formula(spica: Command, folder: Path) -> None:
    _, out, _ = spica("find", "--csv")

    read = list(csv.DictReader(io.StringIO(out)))
    assert names_of(read) == names_of(SCIENCE)  # type: ignore[arg-type]
    formulas = {"name": "=cmd()", "target_name": "+cmd", "runid": "-1+2"}
    hostile = {**dict.fromkeys(formats.NAMES), **formulas, "filter": 'a,"b"\n'}
    line = list(formats.as_csv([hostile]))[1]
    assert all(f"'{text}" in line for text in formulas.values())
    assert next(csv.reader(io.StringIO(line)))[4] == 'a,"b"\n'


@pytest.mark.parametrize("form", ["--csv", "--votable", "--paths"])
def test_however_many_rows_there_are_they_are_written_as_they_come(
    spica: Command, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    drawn: list[Mapping[str, Any]] = []
    told: list[int] = []

    def rows(*_: object) -> Iterator[Mapping[str, Any]]:
        for row in SCIENCE:
            drawn.append(row)
            yield {**dict.fromkeys(formats.NAMES), **row}

    class Paper(io.StringIO):
        def writelines(self, lines: Iterable[str]) -> None:
            told.extend(len(drawn) for line in lines if "/data/" in line)

    monkeypatch.setattr(search.Found, "rows", rows)
    monkeypatch.setattr(sys, "stdout", Paper())

    commands.main(["find", form])

    assert told == list(range(1, len(SCIENCE) + 1))


def test_a_votable_is_read_by_others_and_escapes_texts(spica: Command) -> None:
    from astropy.io.votable import parse_single_table

    _, out, _ = spica("find", "--votable")
    table = parse_single_table(io.BytesIO(out.encode())).to_table()

    assert len(table) == len(SCIENCE)
    assert table["s_ra"].unit == "deg"
    by_name = {row["name"]: row for row in SCIENCE}
    for row in table:
        assert row["s_dec"] == by_name[str(row["name"])]["s_dec"]
    hostile = {**dict.fromkeys(formats.NAMES), "name": "<script>\x00&\x1b"}
    ElementTree.fromstring("".join(formats.as_votable([hostile], "a < b")))


def test_ds9_regions_have_a_polygon_for_each_ccd(spica: Command) -> None:
    _, out, _ = spica("find", "--ds9")

    polygons = re.findall(r"^polygon\(([^)]*)\) # color=#[0-9A-F]{6} text=\{[^{}]*\}$", out, re.M)
    assert len(polygons) == sum(len(FOOTPRINTS[row["id"]].polygons) for row in SCIENCE)
    assert out.startswith("# Region file format: DS9")
    hostile = {"name": "}\npolygon(", "filter": "{x", "s_region": ROWS[0]["s_region"]}
    assert len(list(formats.as_ds9([hostile]))) == 2 + len(FOOTPRINTS[1].polygons)


@pytest.mark.slow
def test_a_moc_holds_each_footprint_and_each_part_of_the_sky_once(spica: Command) -> None:
    _, out, _ = spica("find", "--moc")
    _, text, _ = spica("find", "--moc-ascii")

    made = {int(order): numbers for order, numbers in json.loads(out).items()}
    deep: list[int] = []
    for order, numbers in made.items():
        shift = 2 * (cells.ORDER - order)
        deep += [cell for number in numbers for cell in range(number << shift, (number + 1) << shift)]
    wanted = set().union(*(cells.cells_of_polygons(FOOTPRINTS[row["id"]].polygons) for row in SCIENCE))
    assert sorted(deep) == sorted(wanted)
    read: dict[int, list[int]] = {}
    for word in text.split():
        head, slash, tail = word.rpartition("/")
        if slash:
            order = int(head)
        if tail:
            first, _, last = tail.partition("-")
            read.setdefault(order, []).extend(range(int(first), int(last or first) + 1))
    assert read == {order: numbers for order, numbers in made.items() if numbers}


def test_the_moc_of_the_whole_sky_is_twelve_faces() -> None:
    whole = moc.moc_of(range(cells.CELLS))

    assert whole == {0: list(range(12))}
    assert moc.as_ascii(whole) == "0/0-11 8/"
    assert moc.share_of_sky(whole) == 1


# The map


def square(ra: float, dec: float, half: float) -> list[tuple[float, float]]:
    return [(ra + x * half, dec + y * half) for x, y in ((1, -1), (-1, -1), (-1, 1), (1, 1))]


def svg_of(rows: list[dict[str, object]]) -> ElementTree.Element:
    return ElementTree.fromstring(skymap.skymap(rows, 'a "map" <of> & more'))


def outlines(svg: ElementTree.Element) -> list[list[tuple[float, float]]]:
    paths = [each for each in svg.iter() if each.tag.endswith("path") and list(each)]
    return [
        [tuple(map(float, pair.split())) for pair in part.strip("Z").split("L")]  # type: ignore[misc]
        for path in paths
        for part in path.attrib["d"].split("M")[1:]
    ]


@pytest.mark.parametrize("middle", [(0.0, 0.0), (210.8, 54.35), (33.0, 90.0), (359.99, -89.7), (12.0, -45.0)])
def test_a_map_has_each_footprint_within_its_frame_north_up_and_east_left(middle: tuple[float, float]) -> None:
    from test_archive_cells import offset, rectangle

    places = [middle, offset(middle, 0, 0.5), offset(middle, 90, 0.5)]
    rows = [
        {"name": f"{k}p.fits", "filter": "rgi"[k], "s_region": region([rectangle(place, 0, 0.2)])}
        for k, place in enumerate(places)
    ]

    drawn = outlines(svg_of(rows))

    centres = [(sum(x for x, _ in each) / 4, sum(y for _, y in each) / 4) for each in drawn]
    assert len(drawn) == 3
    assert all(skymap.LEFT < x < skymap.WIDTH - skymap.RIGHT for each in drawn for x, _ in each)
    assert all(skymap.TOP < y < skymap.HEIGHT - skymap.BOTTOM for each in drawn for _, y in each)
    if abs(middle[1]) < 89:
        assert centres[1][1] < centres[0][1] - 50  # north is up
        assert centres[2][0] < centres[0][0] - 50  # east is left


def test_a_map_says_how_deep_the_sky_was_covered() -> None:
    rows = [{"name": str(k), "filter": "r", "s_region": ROWS[0]["s_region"]} for k in range(7)]

    svg = svg_of(rows)  # type: ignore[arg-type]

    assert [each.attrib["data-most"] for each in svg.iter() if "data-most" in each.attrib] == ["7"]
    assert "7 exposures" in "".join(svg.itertext())
    assert "Declination (ICRS)" in "".join(svg.itertext())


def test_small_exposures_far_apart_are_seen_on_the_map_of_the_whole_sky() -> None:
    rows = [{"name": f"{ra}", "filter": "g", "s_region": region([square(ra, 5, 0.05)])} for ra in (30, 150, 270)]

    svg = svg_of(rows)  # type: ignore[arg-type]

    drawn = outlines(svg)
    assert len(drawn) == 3
    assert all(max(x for x, _ in each) - min(x for x, _ in each) == 2 * skymap.LEAST_SHOWN for each in drawn)
    assert "exposures deep" not in "".join(svg.itertext())


def test_lines_of_a_map_stand_at_the_numbers_beside_them() -> None:
    svg = svg_of([{"name": "a", "filter": "g", "s_region": region([square(36.4958, -4.4944, 0.02)])}])  # type: ignore[list-item]

    shown = [float(each.text[:-1]) for each in svg.iter() if each.text and each.text.endswith("°")]
    decs = sorted(number for number in shown if number < 0)
    steps = [round(b - a, 6) for a, b in itertools.pairwise(decs)]
    assert len(decs) > 2
    assert set(steps) <= set(skymap.STEPS_DEG)
    assert len(set(steps)) == 1


def test_maps_of_the_whole_sky_of_one_and_of_nothing_are_drawn(spica: Command) -> None:
    status, out, _ = spica("find", "--svg")

    assert status == 0
    assert len(outlines(ElementTree.fromstring(out))) >= len(SCIENCE)
    assert outlines(svg_of([ROWS[4]]))
    assert "No exposure" in "".join(svg_of([]).itertext())
    assert outlines(svg_of([{"name": "\x1b<b>", "filter": "<i>", "s_region": ROWS[0]["s_region"]}]))


def test_filters_have_colours_of_their_own() -> None:
    colours = skymap.colours_of(["u", "g", "r", "i", "z", "R", "K"])

    assert len(set(colours.values())) == 7
    assert skymap.colours_of(["r.MP9601"])["r.MP9601"] == skymap.colours_of(["g", "r"])["r"]


# Selections and tags


ALICE = Person(1001, "alice", "lens", Rank.USER)
BOB = Person(1002, "bob", "lens", Rank.USER)
CAROL = Person(1003, "carol", "comets", Rank.USER)
DAN = Person(1004, "dan", "staff", Rank.ADMINISTRATOR)


@pytest.fixture(params=["sqlite", pytest.param("mariadb", marks=pytest.mark.slow)])
def archive(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[None]:
    url = f"sqlite:///{tmp_path / 'spica.db'}"
    if request.param == "mariadb":
        url = request.getfixturevalue("mariadb").url("selections")
    opened = tables.connect(url)
    tables.upgrade()
    yield
    opened.close()


def test_a_selection_is_kept_merged_and_subtracted(archive: None) -> None:
    selections.save(ALICE, "deep", range(1, 200), "--object D1")
    selections.save(ALICE, "bad", [3, 4, 500])

    assert selections.merged(ALICE, ["deep", "bad"]) == [*range(1, 200), 500]
    assert selections.subtracted(ALICE, "deep", ["bad"]) == [1, 2, *range(5, 200)]
    with pytest.raises(BadInput, match="already"):
        selections.save(ALICE, "deep", [1])
    selections.save(ALICE, "deep", [7], replaces=True)
    assert selections.exposures_of(selections.find(ALICE, "deep")) == [7]
    assert [(each.name, each.count, each.words) for each in selections.visible(ALICE)] == [
        ("bad", 3, ""),
        ("deep", 1, "--object D1"),
    ]


def test_who_may_use_a_selection(archive: None) -> None:
    selections.save(ALICE, "mine", [1])
    selections.save(ALICE, "ours", [2], is_shared=True)

    assert [each.name for each in selections.visible(ALICE)] == ["mine", "ours"]
    assert [each.name for each in selections.visible(BOB)] == ["ours"]
    assert selections.visible(CAROL) == []
    assert [each.name for each in selections.visible(DAN)] == ["mine", "ours"]
    assert selections.exposures_of(selections.find(BOB, "alice/ours")) == [2]
    for actor, name in ((BOB, "mine"), (CAROL, "ours"), (CAROL, "alice/mine"), (BOB, "none")):
        with pytest.raises(BadInput, match="there is no selection"):
            selections.find(actor, name)
    for forbidden in (selections.delete, selections.share):
        with pytest.raises(BadInput, match="belongs to alice"):
            forbidden(BOB, "ours")
    selections.share(ALICE, "ours", is_shared=False)
    assert selections.visible(BOB) == []
    selections.delete(DAN, "alice/mine")
    assert [each.name for each in selections.visible(ALICE)] == ["ours"]


def test_two_people_may_use_the_same_name(archive: None) -> None:
    for person, number in ((ALICE, 1), (BOB, 2)):
        selections.save(person, "deep", [number], is_shared=True)

    assert selections.exposures_of(selections.find(BOB, "deep")) == [2]
    assert selections.exposures_of(selections.find(BOB, "alice/deep")) == [1]
    with pytest.raises(BadInput, match="alice/deep, bob/deep"):
        selections.find(DAN, "deep")


@pytest.mark.parametrize("name", ["", "a/b", "a b", "-x", "x" * 101, "é", "a\n"])
def test_a_name_that_cannot_be_is_refused(archive: None, name: str) -> None:
    with pytest.raises(BadInput, match="cannot be the name"):
        selections.save(ALICE, name, [1])


def test_a_tag_is_put_once_and_taken_by_who_put_it(archive: None) -> None:
    assert selections.tag(ALICE, "ghost", [1, 2, 3]) == 3
    assert selections.tag(BOB, "ghost", [3, 4]) == 1
    assert selections.tags() == {"ghost": 4}
    assert selections.untag(BOB, "ghost", [1, 2, 3, 4]) == 1
    assert selections.tags_of([1, 4]) == {1: ["ghost"]}
    assert selections.untag(DAN, "ghost", [1, 2, 3]) == 3
    assert selections.tag(ALICE, "many", range(1, 1201)) == 1200
    assert selections.tag(BOB, "many", range(1101, 1301)) == 100
    assert selections.untag(ALICE, "many", range(1, 1301)) == 1200
    with pytest.raises(BadInput, match="cannot be a tag"):
        selections.tag(ALICE, "two words", [1])


def test_numbers_of_exposures_travel_as_ranges(archive: None) -> None:
    Exposure.insert_many(ROWS[:9]).execute()

    assert selections.as_ranges([7, 1, 2, 3, 9, 2]) == "1-3,7,9"
    assert selections.from_ranges("1-3, 7,9,100000-100003") == [1, 2, 3, 7, 9]
    for text in ("", "3-1", "x", "1-99999999", "1,,2"):
        with pytest.raises(BadInput, match="no numbers of exposures"):
            selections.from_ranges(text)


def test_what_is_found_is_saved_tagged_and_merged_from_the_command_line(spica: Command) -> None:
    assert spica("find", "--filter", "r", "--save", "red", "--put-tag", "red")[0] == 0
    assert spica("find", "--filter", "g", "--grade", "A", "--save", "green")[0] == 0
    red = sum(row["filter"] == "r" for row in SCIENCE)
    green = sum(row["filter"] == "g" and row["grade"] == "A" for row in SCIENCE)

    status, out, _ = spica("selection", "merge", "both", "red", "green")

    assert (status, out) == (0, f"both: {red + green} exposures\n")
    assert spica("find", "--selection", "both", "--count")[1] == f"{red + green}\n"
    assert spica("find", "--tag", "red", "--count")[1] == f"{red}\n"
    assert spica("selection", "subtract", "rest", "both", "red")[1] == f"rest: {green} exposures\n"
    assert {"red", "green", "both", "rest"} <= {
        each["name"] for each in json.loads(spica("selection", "list", "--json")[1])
    }
    assert spica("selection", "share", "rest")[0] == spica("selection", "delete", "red")[0] == 0
    assert spica("selection", "delete", "red")[0] == commands.WRONG
    assert spica("find", "--tag", "red", "--take-tag", "red")[0] == 0
    assert spica("find", "--tag", "red", "--count")[0] == commands.NOTHING

"""Grades: a person's wins over a proposed one, the latest over earlier ones; history, counts, lists as CSV.

On SQLite and on a real MariaDB, with the exposures of test_archive_search.py; and `spica grade` as it is typed.
"""

from __future__ import annotations

import csv
import io
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from conftest import RunningSpica
from hypothesis import given
from hypothesis import strategies as some
from services import mariadb
from test_archive_search import ROWS, fill

from spicad import commands, config, tables
from spicad.archive import grade_lists, grades, judgements
from spicad.archive.grades import Among, Given, is_disputed, standing
from spicad.archive.judgements import File, Source
from spicad.archive.quality import Reason, Report, record_of
from spicad.commands import grade
from spicad.people import Person
from spicad.tables import Exposure, Grading, Quality
from spicad.words import BadInput, Rank, SpicaError

__all__ = ["mariadb"]

ALICE = Person(-1, "alice@web", "lensing", Rank.USER)
BOB = Person(-1, "bob@web", "lensing", Rank.USER)
DAN = Person(60_004, "dan", "staff", Rank.ADMINISTRATOR)
SCIENCE = [row for row in ROWS if row["kind"] == "science"]
ONE, TWO, THREE = (row["id"] for row in SCIENCE[:3])
NOW = 1_080_000_000.0


@pytest.fixture(scope="module", params=["sqlite", pytest.param("mariadb", marks=pytest.mark.slow)])
def filled(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    url = f"sqlite:///{tmp_path_factory.mktemp('grades') / 'spica.db'}"
    if request.param == "mariadb":
        url = request.getfixturevalue("mariadb").url("grades")
    opened = tables.connect(url)
    tables.require_current(make_if_empty=True)
    fill()
    for row in SCIENCE[:3]:
        Exposure.update(path=f"/data/{row['name']}").where(Exposure.id == row["id"]).execute()
    yield
    opened.close()


@pytest.fixture
def archive(filled: None) -> None:
    """Nobody has graded or judged anything."""
    Grading.delete().execute()
    Quality.delete().execute()
    Exposure.update(grade="", graded_by="").execute()


def judge(number: int, grade: str, ended: float = NOW) -> None:
    row = next(row for row in ROWS if row["id"] == number)
    file = File(f"/data/{row['name']}", row["bytes"], row["mtime_ns"])
    source = Source("qualityfits", 1, 1, 1, ended, "/results/x")
    reason = Reason(grade, "seeing", f"Seeing is {grade}.", "poor seeing")
    report = Report(row["name"], "exposure", "", "", "", "", grade, [reason], {"seeing": 0.8}, [])
    assert judgements.register(file, record_of(report), source)


def grade_of(number: int) -> tuple[str, str]:
    row = Exposure.get_by_id(number)
    return row.grade, row.graded_by


# ---------------------------------------------------------------------- which grade counts


@pytest.mark.parametrize(
    ("history", "proposed", "expected"),
    [
        ([], "", ("", "")),
        ([], "C", ("C", "")),
        ([Given("alice", 1, "B")], "C", ("B", "alice")),
        ([Given("alice", 1, "B"), Given("bob", 2, "D")], "A", ("D", "bob")),
        ([Given("alice", 1, "B"), Given("bob", 2, "D"), Given("bob", 3, "")], "A", ("B", "alice")),
        ([Given("alice", 1, "B"), Given("alice", 2, "")], "A", ("A", "")),
        ([Given("alice", 3, "A"), Given("alice", 1, "B"), Given("bob", 2, "D")], "", ("A", "alice")),
    ],
)
def test_the_grade_that_counts_is_the_latest_of_a_person_else_the_proposed_one(
    history: list[Given], proposed: str, expected: tuple[str, str]
) -> None:
    assert standing(history, proposed) == expected


@given(some.lists(some.tuples(some.sampled_from("abc"), some.sampled_from(["", "A", "B", "C", "D"])), max_size=12))
def test_no_order_of_grades_makes_one_count_that_nobody_stands_by(said: list[tuple[str, str]]) -> None:
    history = [Given(who, float(moment), grade) for moment, (who, grade) in enumerate(said)]

    grade, who = standing(history, "")

    last = {given.who: given.grade for given in history}
    assert last.get(who, "") == grade
    assert bool(grade) == any(last.values())


def test_graders_who_differ_are_seen_to_differ() -> None:
    assert is_disputed([Given("alice", 1, "A"), Given("bob", 2, "C")])
    assert not is_disputed([Given("alice", 1, "A"), Given("bob", 2, "C"), Given("bob", 3, "A")])
    assert not is_disputed([Given("alice", 1, "A"), Given("bob", 2, "C"), Given("bob", 3, "")])


# ---------------------------------------------------------------------- given


def test_a_persons_grade_wins_over_the_proposed_one_and_gives_way_when_it_is_taken_back(archive: None) -> None:
    judge(ONE, "C")
    assert grade_of(ONE) == ("C", "")

    grades.give(ALICE, [ONE], "A", now=NOW)
    assert grade_of(ONE) == ("A", "alice@web")

    judge(ONE, "D", ended=NOW + 5)
    assert grade_of(ONE) == ("A", "alice@web")

    grades.give(ALICE, [ONE], "", now=NOW + 10)
    assert grade_of(ONE) == ("D", "")


def test_all_that_was_said_is_kept(archive: None) -> None:
    grades.give(ALICE, [ONE], "A", now=NOW)
    grades.give(BOB, [ONE], "C", ["defocus", "telescope"], "see\nthe corners ", now=NOW + 1)
    grades.give(ALICE, [ONE], "B", now=NOW + 2)

    assert grades.history(ONE) == [
        Given("alice@web", NOW + 2, "B"),
        Given("bob@web", NOW + 1, "C", ("defocus", "telescope lost guiding"), "see the corners"),
        Given("alice@web", NOW, "A"),
    ]
    assert grade_of(ONE) == ("B", "alice@web")


def test_a_form_that_is_sent_twice_says_it_once(archive: None) -> None:
    assert grades.give(ALICE, [ONE, TWO, ONE], "B", ["defocus"], now=NOW) == 2
    assert grades.give(ALICE, [ONE, TWO], "B", ["defocus"], now=NOW + 1) == 0
    assert grades.give(ALICE, [THREE], "", now=NOW) == 0

    assert Grading.select().count() == 2


def test_what_is_no_grade_or_no_comment_is_refused_with_the_mend(archive: None) -> None:
    with pytest.raises(BadInput) as refused:
        grades.give(ALICE, [ONE], "E", ["defocsu"], "x" * 3000)

    said = str(refused.value)
    assert '"E" is no grade' in said
    assert 'Did you mean "defocus"?' in said
    assert "3000 characters" in said
    assert grade_of(ONE) == ("", "")


def test_who_may_not_grade_is_refused(archive: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(grades.people.MAY, "archive", {grades.people.SOMEBODY: ("see",)})

    with pytest.raises(SpicaError, match="may not grade"):
        grades.give(ALICE, [ONE], "A")
    with pytest.raises(SpicaError, match="may not grade"):
        grade_lists.take(ALICE, "exposure,grade\n", "list.csv", NOW)

    assert grades.give(DAN, [ONE], "A") == 1


# ---------------------------------------------------------------------- what waits


def test_the_queue_holds_what_is_judged_and_no_person_has_graded(archive: None) -> None:
    for number in (ONE, TWO, THREE):
        judge(number, "B")
    grades.give(ALICE, [TWO], "A")

    assert [grades.next_of(Among(), after) for after in (0, ONE, THREE)] == [ONE, THREE, 0]
    assert grades.next_of(Among(), THREE, is_back=True) == ONE
    assert grades.next_of(Among(state="all"), ONE) == TWO
    assert grades.next_of(Among(state="graded")) == TWO
    assert grades.how_many(Among()) == 2
    assert grades.how_many(Among(is_judged=False)) == len(SCIENCE) - 1


def test_the_queue_is_narrowed_by_run_and_filter(archive: None) -> None:
    wanted = [row["id"] for row in SCIENCE if row["runid"] == "03AF12" and row["filter"] == "r"]

    among = Among("03AF12", "r", is_judged=False)

    assert grades.how_many(among) == len(wanted)
    assert grades.next_of(among) == wanted[0]


def test_grades_are_counted_by_run_and_filter_persons_and_proposed_apart(archive: None) -> None:
    judge(ONE, "B")
    judge(TWO, "D")
    grades.give(ALICE, [TWO], "A")

    found = grades.tallies()

    assert sum(each.total for each in found) == len(SCIENCE)
    assert sum(each.graded.get("A", 0) for each in found) == 1
    assert sum(each.proposed.get("B", 0) for each in found) == 1
    assert sum(each.without for each in found) == len(SCIENCE) - 2
    row = SCIENCE[0]
    assert [each.filter for each in grades.tallies(row["runid"], row["filter"])] == [row["filter"]]
    assert [each[:2] for each in grades.graders()] == [("alice@web", 1)]


# ---------------------------------------------------------------------- lists


def exported(is_whole: bool = True) -> str:
    return "".join(grade_lists.as_csv(grades.graded(), is_whole))


def test_a_list_that_was_exported_comes_back_the_same(archive: None) -> None:
    grades.give(ALICE, [ONE, TWO], "A", now=NOW)
    grades.give(
        BOB, [ONE], "C", ["defocus", "astrometric keyword problem, some CCDs off"], '=1+2, "quoted"; é', now=NOW + 1.5
    )
    grades.give(BOB, [TWO], "D", now=NOW + 2)
    grades.give(BOB, [TWO], "", now=NOW + 3)
    before = {number: (grades.history(number), grade_of(number)) for number in (ONE, TWO)}
    text = exported()

    assert grade_lists.take(DAN, text, "list.csv", time.time()) == grade_lists.Taken(0, 5)
    Grading.delete().execute()
    Exposure.update(grade="", graded_by="").execute()
    taken = grade_lists.take(DAN, text, "list.csv", time.time())

    assert taken == grade_lists.Taken(5, 0)
    assert {number: (grades.history(number), grade_of(number)) for number in (ONE, TWO)} == before
    assert exported() == text


def test_without_history_a_list_holds_what_counts(archive: None) -> None:
    grades.give(ALICE, [ONE], "A", now=NOW)
    grades.give(BOB, [ONE], "C", now=NOW + 1)
    grades.give(BOB, [TWO], "C", now=NOW)
    grades.give(BOB, [TWO], "", now=NOW + 1)

    rows = list(csv.DictReader(io.StringIO(exported(is_whole=False))))

    assert [(row["exposure"], row["grade"], row["grader"]) for row in rows] == [(SCIENCE[0]["name"], "C", "bob@web")]


def test_a_list_needs_no_more_than_names_and_grades(archive: None) -> None:
    stem = SCIENCE[0]["name"].removesuffix(".fits")

    taken = grade_lists.take(ALICE, f"grade,exposure\nb,{stem}\n\n", "list.csv", NOW)

    assert taken.new == 1
    assert grades.history(ONE) == [Given("alice@web", NOW, "B")]


def test_of_a_list_with_a_wrong_line_nothing_is_taken_and_each_wrong_line_is_named(archive: None) -> None:
    name = SCIENCE[0]["name"]
    text = (
        f"exposure,grade,grader,time,comments\n{name},A,,,\nnowhere.fits,B,,,\n{name},E,,,\n{name},B,bob@web,,\n"
        f"{name},B,,3004-01-01,\n{name},B,,,defocsu\n{name},B\n"
    )

    with pytest.raises(BadInput) as refused:
        grade_lists.take(ALICE, text, "list.csv", NOW)

    lines = str(refused.value).splitlines()
    assert {line.split(":")[0].rpartition(" ")[2] for line in lines} == {"3", "4", "5", "6", "7", "8"}
    assert "grades of your own" in str(refused.value)
    assert Grading.select().count() == 0


@pytest.mark.parametrize(
    "text", ["", "exposure\nx\n", "grade,exposre\n", "exposure,grade,grade\n", 'exposure,grade\n"x']
)
def test_what_is_no_such_list_is_refused(archive: None, text: str) -> None:
    with pytest.raises(BadInput, match=r"list\.csv, line 1|list\.csv, line 2"):
        grade_lists.take(ALICE, text, "list.csv", NOW)


def test_only_who_administers_brings_what_others_have_said(archive: None) -> None:
    text = f"exposure,grade,grader\n{SCIENCE[0]['name']},B,bob@web\n"

    with pytest.raises(BadInput, match="of your own"):
        grade_lists.take(ALICE, text, "list.csv", NOW)
    grade_lists.take(DAN, text, "list.csv", NOW)

    assert grade_of(ONE) == ("B", "bob@web")


# ---------------------------------------------------------------------- the command


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("grade")
    (made / "spica.conf").write_text('[paths]\nspool = "spool"\nresults = "results"\n')
    opened = tables.connect(f"sqlite:///{made / 'spool/spica.db'}")
    tables.upgrade()
    fill()
    Exposure.update(grade="", graded_by="").execute()
    opened.close()
    return made


@pytest.fixture
def spica(folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    monkeypatch.setenv("SPICA_CONF", str(folder / "spica.conf"))

    def run(*arguments: str, status: int = 0) -> str:
        assert commands.main(arguments) == status
        printed = capsys.readouterr()
        return printed.out + printed.err

    return run


@pytest.mark.slow
def test_what_is_graded_on_the_command_line_is_shown_listed_counted_and_found(
    spica: Callable[..., str], tmp_path: Path
) -> None:
    name, stem = SCIENCE[0]["name"], SCIENCE[1]["name"].removesuffix(".fits")

    assert "2 exposures are graded B now" in spica("grade", "give", "B", name, stem, "--comment", "defocus")
    assert "1 were not before" in spica("grade", "give", "C", name, "--words", "clouds")

    shown = json.loads(spica("grade", "show", name, "--json"))
    assert (shown["grade"], [each["grade"] for each in shown["history"]]) == ("C", ["C", "B"])
    assert "clouds" in spica("grade", "show", name)
    listed = json.loads(spica("grade", "list", "--state", "graded", "--all", "--json"))
    assert [row["grade"] for row in listed] == ["C", "B"]
    assert "--limit" in spica("grade", "list", "--all", "--limit", "2")
    assert sum(each["total"] for each in json.loads(spica("grade", "counts", "--json"))) == len(SCIENCE)
    assert "brackets" in spica("grade", "counts")
    assert json.loads(spica("find", "--grade", "B", "--json"))[0]["name"] == SCIENCE[1]["name"]
    list_file = tmp_path / "grades.csv"
    list_file.write_text(spica("grade", "export", "--history"))
    assert "0 grades taken; 3 were known" in spica("grade", "import", str(list_file))
    spica("grade", "take-back", name, stem)
    assert spica("grade", "list", "--state", "graded", "--all", status=3)


def test_an_exposure_that_is_not_there_is_said_and_nothing_is_graded(spica: Callable[..., str]) -> None:
    assert "nowhere.fits" in spica("grade", "give", "A", SCIENCE[2]["name"], "nowhere.fits", status=3)
    assert json.loads(spica("grade", "show", SCIENCE[2]["name"], "--json"))["history"] == []


@pytest.mark.slow
def test_who_may_not_write_to_the_database_grades_by_the_daemon(
    running_spica: RunningSpica, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("SPICA_CONF", str(running_spica.conf))
    monkeypatch.setattr(grade, "may_change", lambda settings: False)  # root, who may run the tests, may
    opened = tables.connect(config.load().database.url)
    Exposure.insert_many([{**row, "grade": "", "graded_by": ""} for row in SCIENCE[:3]]).execute()
    opened.close()
    names = [row["name"] for row in SCIENCE[:3]]
    list_file = tmp_path / "list.csv"
    list_file.write_text(f"exposure,grade,comments\n{names[2]},C,poor seeing\n")

    def spica(*words: str) -> tuple[int, str]:
        status = commands.main(words)
        printed = capsys.readouterr()
        return status, printed.out + printed.err

    assert spica("grade", "give", "B", *names[:2], "--comment", "defo", "--words", "wind, 'north'")[0] == 0
    assert spica("grade", "take-back", names[1])[0] == 0
    assert spica("grade", "import", str(list_file))[0] == spica("grade", "import", str(list_file))[0] == 0
    assert "no comment" in spica("grade", "give", "B", names[0], "--comment", "wrong")[1]
    list_file.write_text("exposure,grade\nnowhere,C\n")
    assert "line 2" in spica("grade", "import", str(list_file))[1]

    listed = json.loads(spica("grade", "list", "--state", "graded", "--all", "--json")[1])
    assert [(row["name"], row["grade"]) for row in listed] == [(names[0], "B"), (names[2], "C")]
    said = json.loads(spica("grade", "show", names[0], "--json")[1])["history"]
    assert [(each["comments"], each["words"]) for each in said] == [(["defocus"], "wind, 'north'")]
    assert len(json.loads(spica("grade", "show", names[2], "--json")[1])["history"]) == 1

"""Grading on the site: the queue, the form, histories, counts with their pie, lists out and in, pictures and figures.

Who may ask for which page is told in test_site_rights.py.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from made_judgements import POOR, add_exposure, judge, report
from site_processes import furnish, with_processes
from site_world import Browser, Page, Site, people_the_world, settings_of

from spicad.archive import grades
from spicad.tables import Exposure, Grading, Quality
from spicaweb.pies import pie

NAMES = ("900001p.fits", "900002p.fits", "900003p.fits")


class World:
    def __init__(self, folder: Path) -> None:
        self.site = Site(settings_of(folder))
        self.capsule = self.site.settings.paths.results / "spica" / "000007-quality" / "run-1"

    def as_new(self) -> None:
        """Three exposures, of which the first two are judged: B, and C for its seeing."""
        self.site.open()
        for table in (Exposure, Quality, Grading):
            table.delete().execute()
        people_the_world()
        shutil.rmtree(self.capsule, ignore_errors=True)  # a test may have put a link there
        self.numbers = [add_exposure(name) for name in NAMES]
        judge(self.numbers[0], report(NAMES[0]), self.capsule)
        judge(self.numbers[1], report(NAMES[1], "C", (POOR,), seeing=1.31), self.capsule)

    def grade_of(self, number: int) -> tuple[str, str]:
        self.site.open()
        row = Exposure.get_by_id(number)
        return row.grade, row.graded_by


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("site"))


@pytest.fixture
def world(made: World) -> World:
    made.as_new()
    return made


@pytest.fixture
def alice(world: World) -> Browser:
    return world.site.logged_in("alice")


def post(browser: Browser, path: str, **fields: str | list[str]) -> Page:
    return browser.post(path, **fields)


# ---------------------------------------------------------------------- an exposure


def test_the_page_of_an_exposure_has_its_figures_reasons_pictures_and_files(world: World, alice: Browser) -> None:
    two = world.numbers[1]

    page = alice.get(f"/exposure/{two}")

    assert page.status == 200
    for words in ("1.31", "arcsec", "Seeing is 1.31 arcsec, more than 1.2.", "ccd03", "limiting magnitude", "24.37"):
        assert words in page.words, words
    assert f'src="/exposure/{two}/picture/preview"' in page.text
    assert f'href="/exposure/{two}/file/fits"' in page.text
    assert f"/exposure/{two}/file/psf" not in page.text
    picture = alice.get(f"/exposure/{two}/picture/preview")
    assert picture.headers["Content-Type"] == "image/png"
    assert picture.body.startswith(b"\x89PNG")


def test_a_picture_can_run_and_fetch_nothing_and_other_files_are_never_shown(world: World, alice: Browser) -> None:
    one = world.numbers[0]

    plot = alice.get(f"/exposure/{one}/picture/psf")
    table = alice.get(f"/exposure/{one}/file/fits")

    assert plot.headers["Content-Type"] == "image/svg+xml"
    assert plot.headers["Content-Security-Policy"] == "default-src 'none'; style-src 'unsafe-inline'; sandbox"
    assert plot.headers["X-Content-Type-Options"] == "nosniff"
    assert table.headers["Content-Type"] == "application/octet-stream"
    assert table.headers["Content-Disposition"].startswith("attachment")
    assert table.headers["Content-Security-Policy"] == "default-src 'none'; sandbox"
    for name in ("../../run.json", "catalogue", "nonsense", "json.fits"):
        assert alice.get(f"/exposure/{one}/file/{name}").status == 404
        assert alice.get(f"/exposure/{one}/picture/{name}").status == 404


def test_a_link_in_the_capsule_is_not_followed(world: World, alice: Browser) -> None:
    plot = world.capsule / "products" / "900001p.quality-psf.svg"
    secret = world.capsule.parent / "secret"
    secret.write_text("<svg/>")
    plot.unlink()
    plot.symlink_to(secret)

    assert alice.get(f"/exposure/{world.numbers[0]}/picture/psf").status == 404


def test_figures_are_there_as_json_and_csv_when_the_files_are_gone(world: World, alice: Browser) -> None:
    one = world.numbers[0]
    for path in (world.capsule / "products").iterdir():
        path.unlink()

    page = alice.get(f"/exposure/{one}")
    told = json.loads(alice.get(f"/exposure/{one}/figures.json").text)
    lines = alice.get(f"/exposure/{one}/figures.csv").text.splitlines()

    assert "the figures have stayed" in page.words
    assert "/picture/" not in page.text
    assert (told["figures"]["seeing"], told["units"]["seeing"], len(told["ccds"])) == (0.72, "arcsec", 4)
    assert lines[0].startswith("ccd,hdu,seeing,")
    assert [line.split(",")[:3] for line in lines[1:3]] == [["", "", "0.72"], ["ccd00", "1", "0.72"]]


def test_an_exposure_that_nothing_has_judged_can_be_graded_too(world: World, alice: Browser) -> None:
    three = world.numbers[2]

    assert "no pictures of it" in alice.get(f"/exposure/{three}").words
    assert alice.get(f"/exposure/{three}/figures.json").status == 404
    assert post(alice, f"/exposure/{three}/grade", grade="D").status == 303

    assert world.grade_of(three) == ("D", "alice@web")


# ---------------------------------------------------------------------- grading


def test_grades_are_given_one_after_the_other_until_none_waits(world: World, alice: Browser) -> None:
    one, two, _ = world.numbers

    first = alice.follow(alice.get("/grades/next"))
    assert "2 of these wait" in first.words
    sent = post(alice, f"/exposure/{one}/grade?queue=1", grade="A", words="fine")
    sent = alice.get(sent.place)
    assert sent.place == f"/exposure/{two}?queue=1"
    alice.get(sent.place)
    sent = post(alice, f"/exposure/{two}/grade?queue=1", grade="D", comment=["poor seeing", "defocus"])
    end = alice.follow(alice.get(sent.place))

    assert "Nothing of these waits" in end.words
    assert (world.grade_of(one), world.grade_of(two)) == (("A", "alice@web"), ("D", "alice@web"))
    assert grades.history(two)[0].comments == ("poor seeing", "defocus")


def test_the_queue_goes_round_to_what_was_passed_over_and_back(world: World, alice: Browser) -> None:
    one, two, three = world.numbers

    assert alice.get(f"/grades/next?after={two}").place == f"/exposure/{one}?queue=1"
    assert alice.get(f"/grades/next?after={two}&back=1").place == f"/exposure/{one}?queue=1"
    assert alice.get(f"/grades/next?after={two}&unjudged=1").place == f"/exposure/{three}?queue=1&unjudged=1"
    assert alice.get("/grades/next?filter=i").place == "/grades?done=none-waits&filter=i"
    assert alice.get(f"/grades/next?after=x{two}").place == f"/exposure/{one}?queue=1"


def test_graders_that_differ_are_shown_with_all_that_they_said(world: World, alice: Browser) -> None:
    one = world.numbers[0]
    bob = world.site.logged_in("bob")

    post(alice, f"/exposure/{one}/grade", grade="A", words="<b>lovely</b>")
    post(bob, f"/exposure/{one}/grade", grade="C", comment=["defocus"])
    page = bob.get(f"/exposure/{one}")

    assert "Graders differ" in page.words
    assert "&lt;b&gt;lovely&lt;/b&gt;" in page.text
    assert page.words.index("bob@web") < page.words.index("alice@web")
    assert world.grade_of(one) == ("C", "bob@web")
    post(bob, f"/exposure/{one}/grade", grade="")
    assert world.grade_of(one) == ("A", "alice@web")


def test_the_queue_is_a_table_too_and_what_is_ticked_is_graded_together(world: World, alice: Browser) -> None:
    one, two, three = world.numbers

    listed = alice.get("/grades/exposures?sort=-seeing")
    sent = post(alice, "/grades/exposures?sort=-seeing", exposure=[str(one), str(two)], grade="B", comment="defocus")
    after = alice.follow(sent)
    whole = alice.get("/grades/exposures?state=all&unjudged=1")

    assert listed.words.index(NAMES[1]) < listed.words.index(NAMES[0])
    assert NAMES[2] not in listed.words
    assert "There is no such exposure that QualityFITS has seen" in after.words
    assert "900002p.fits 03AF12 r 1.31 1.06 1,432 24.37 1,210 B alice@web defocus" in whole.words
    assert f"/exposure/{three}?" in whole.text
    assert world.grade_of(one) == world.grade_of(two) == ("B", "alice@web")
    wrong = post(alice, "/grades/exposures", exposure=[str(one), "x", "9" * 30], grade="A", comment="no such")
    assert (wrong.status, world.grade_of(one)) == (422, ("B", "alice@web"))


def test_a_grade_that_is_none_is_refused_in_words(world: World, alice: Browser) -> None:
    one = world.numbers[0]

    page = post(alice, f"/exposure/{one}/grade", grade="E", comment="made up")

    assert page.status == 422
    assert "is no grade" in page.words
    assert "no comment" in page.words
    assert world.grade_of(one) == ("B", "")


# ---------------------------------------------------------------------- stacks


def test_a_stack_is_shown_with_its_exposures_on_the_page_of_its_run(world: World) -> None:
    furnish(world.site)
    places = with_processes(world.site)
    process = places["process"]
    alice = world.site.logged_in("alice")
    here = f"/process/{process}/run/1/quality/{places['stack']}"

    listed = alice.get(f"/process/{process}")
    page = alice.get(here)

    assert f'href="{here}"' in listed.text
    assert "m101 , a stack B 0.72 1.06 24.37 1210" in listed.words
    assert "&lt;b&gt;seeing&lt;/b&gt;" in page.text
    assert f'src="{here}/picture/preview"' in page.text
    assert alice.get(f"{here}/picture/depth").headers["Content-Type"] == "image/svg+xml"
    assert "a stack" in page.words


# ---------------------------------------------------------------------- counts and lists


def test_grades_are_counted_by_run_and_filter_with_a_pie(world: World, alice: Browser) -> None:
    world.site.open()
    add_exposure("900004p.fits", runid="03BF08", filter="g")
    post(alice, f"/exposure/{world.numbers[0]}/grade", grade="A")

    page = alice.get("/grades")
    narrowed = alice.get("/grades?runid=03BF08")

    assert 'aria-label="A 1, C proposed 1, no grade 2"' in page.text
    assert "All science exposures 4" in page.words
    assert "Grade: 1 wait" in page.words
    assert "All science exposures 1" in narrowed.words
    assert "03AF12" not in narrowed.words


def test_a_list_that_was_fetched_can_be_brought_back(world: World, alice: Browser) -> None:
    one, two, _ = world.numbers
    post(alice, f"/exposure/{one}/grade", grade="A")
    post(alice, f"/exposure/{two}/grade", grade="B", comment=["defocus"], words="see, CCD 3")
    text = alice.get("/grades/list.csv?history=1").text
    world.site.open()
    Grading.delete().execute()

    again = alice.follow(post(alice, "/grades/list", text=text))

    assert "2 grades taken" in again.words
    assert alice.get("/grades/list.csv?history=1").text == text
    assert alice.get("/grades/list.csv?filter=g").text.count("\n") == 1
    assert "0 grades taken, 2 were known" in alice.follow(post(alice, "/grades/list", text=text)).words


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (f"exposure,grade\r\n{NAMES[0]},D\r\n".encode(), "1 grades taken"),
        (b"\xef\xbb\xbfexposure,grade\n900001p,D\n", "1 grades taken"),
        (b"exposure,grade\n\xff,D\n", "no UTF-8 text"),
        (b"exposure,grade\n" + b"900001p,D\n" * 8000, "64 kB here"),
    ],
)
def test_a_list_comes_as_a_file_too(alice: Browser, data: bytes, said: str) -> None:
    mark = "----a-mark"
    head = 'Content-Disposition: form-data; name="file"; filename="<b>my list.csv"\r\nContent-Type: text/csv'
    parts = [f'Content-Disposition: form-data; name="csrf"\r\n\r\n{alice.csrf}\r\n'.encode(), head.encode()]
    body = b"".join(b"--" + mark.encode() + b"\r\n" + part for part in parts)
    body += b"\r\n\r\n" + data + f"\r\n--{mark}--\r\n".encode()
    alice.kind = f"multipart/form-data; boundary={mark}"

    page = alice.ask("POST", "/grades/list", body, {"Origin": alice.address})

    page = alice.follow(page) if page.status == 303 else page
    assert said in page.words
    assert "<b>" not in page.text


def test_a_wrong_list_is_refused_line_by_line(world: World, alice: Browser) -> None:
    page = post(alice, "/grades/list", text=f"exposure,grade\n{NAMES[0]},A\nnowhere,B\n{NAMES[1]},F\n")

    assert page.status == 422
    assert "list, line 3" in page.words
    assert "list, line 4" in page.words
    assert world.grade_of(world.numbers[0]) == ("B", "")


def test_a_pie_is_round() -> None:
    assert pie([("grade-a", "A", 0)]) == ""
    assert "<circle" in pie([("grade-a", "A", 3), ("grade-b", "B", 0)])
    whole = pie([("grade-a", "A", 3), ("grade-b", "B", 1)])
    assert "M50 50L50.00 0.00A50 50 0 1 1 0.00 50.00Z" in whole
    assert "M50 50L0.00 50.00A50 50 0 0 1 50.00 0.00Z" in whole

"""What the site reads before it shows anything: lists, capsules, catalogues, plots, previews, downloads, differences.

The pages themselves are tried in test_pages_process.py and its neighbours.
"""

from __future__ import annotations

import io
import os
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import made_capsules
import pytest
from PIL import Image
from services import mariadb  # noqa: F401

from spicad import config, heartbeat, rows, tables
from spicad.config import Settings
from spicad.tables import Process, Step
from spicad.words import Phase, Rank
from spicaweb import catalogues, daemon_state, difference, downloads, plots, previews, processes, progress, results
from spicaweb.capsules import Capsule, Gone, capsule_at, capsule_of, opened_below
from spicaweb.processes import Viewer, Wish

ALICE = Viewer("alice", (), Rank.USER)
DAN = Viewer("dan", ("galaxies",), Rank.GROUP_ADMINISTRATOR)
ROOT = Viewer("root", ("staff",), Rank.ADMINISTRATOR)


@pytest.fixture
def settings(tmp_path: Path) -> Iterator[Settings]:
    """A spica.conf whose tables are open and empty."""
    conf = tmp_path / "spica.conf"
    conf.write_text('[paths]\nspool = "spool"\nresults = "results"\n')
    (tmp_path / "results").mkdir()
    settings = config.load(conf)
    opened = tables.connect(settings.database.url)
    tables.upgrade()
    yield settings
    opened.close()


@pytest.fixture
def capsule(settings: Settings) -> Capsule:
    found = capsule_at(settings.paths.results, str(made_capsules.capsule(settings.paths.results)))
    assert found
    return found


def process(name: str = "m101", owner: str = "alice", group: str = "galaxies", **values: Any) -> Process:
    row = {"token": f"{name}-{owner}-{time.time_ns()}", "rank": 0, "phase": "COMPLETED", "submitted": 1000.0}
    number = rows.insert(Process, name=name, owner=owner, group=group, **{**row, **values})
    return Process.get_by_id(number)


def listed(viewer: Viewer, **query: str) -> list[str]:
    return [row.name for row in processes.page_of(Wish.of(query, viewer), viewer).rows]


# ---------------------------------------------------------------------- the list


@pytest.fixture(params=["sqlite", pytest.param("mariadb", marks=pytest.mark.slow)])
def listing(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[None]:
    """Tables on each kind of database, open and empty."""
    is_mariadb = request.param == "mariadb"
    url = request.getfixturevalue("mariadb").url("listed") if is_mariadb else f"sqlite:///{tmp_path}/spica.db"
    opened = tables.connect(url)
    tables.upgrade()
    yield
    opened.close()


@pytest.fixture
def several(listing: None) -> None:
    process("ngc1", "alice", phase="QUEUED", submitted=3.0)
    process("ngc2", "bob", phase="COMPLETED", submitted=2.0)
    process("m31", "carol", "lensing", phase="ERROR", submitted=1.0, why="the disk is full")


def test_a_user_sees_her_own_processes_and_no_wish_shows_her_more(several: None):
    assert listed(ALICE) == ["ngc1"]
    assert listed(ALICE, whose="all") == ["ngc1"]
    assert listed(ALICE, whose="group") == ["ngc1"]


def test_a_groups_administrator_sees_the_group_and_an_administrator_all(several: None):
    assert listed(DAN, whose="group") == ["ngc2", "ngc1"]
    assert listed(DAN, whose="all") == []
    assert listed(ROOT, whose="all") == ["m31", "ngc2", "ngc1"]


def test_the_list_is_narrowed_by_phase_and_words_and_the_counts_ignore_the_phase(several: None):
    assert listed(ROOT, whose="all", phase="over", search="full") == ["m31"]
    assert listed(ROOT, whose="all", search="ngc bob") == ["ngc2"]
    page = processes.page_of(Wish.of({"whose": "all", "phase": "queued"}, ROOT), ROOT)
    assert (page.total, page.counts) == (1, {"QUEUED": 1, "COMPLETED": 1, "ERROR": 1})


def test_percent_and_underscore_are_letters_like_others_in_a_search(several: None):
    process("a_b!", "alice")

    assert listed(ALICE, search="%") == []
    assert listed(ALICE, search="_") == listed(ALICE, search="B!") == ["a_b!"]


def test_a_number_finds_the_process_of_that_number_too(several: None):
    process("ngc3", "alice", id=777)

    assert listed(ROOT, whose="all", search="777") == listed(ROOT, whose="all", search="777 alice") == ["ngc3"]
    assert listed(ROOT, whose="all", search="777 bob") == listed(ROOT, whose="all", search="7" * 40) == []


def test_a_column_orders_the_list_and_its_link_turns_it_around(several: None):
    assert listed(ROOT, whose="all", order="submitted", direction="up") == ["m31", "ngc2", "ngc1"]
    wish = Wish.of({"order": "name"}, ROOT)
    assert wish.ordered_by("name") == "?order=name&direction=down"
    assert Wish.of({"order": "name", "direction": "down"}, ROOT).ordered_by("name") == "?order=name"


def test_pages_of_a_long_list_follow_each_other(listing: None):
    for number in range(processes.PER_PAGE + 3):
        process(f"n{number:03d}")

    page = processes.page_of(Wish.of({"page": "2"}, ALICE), ALICE)

    assert (page.pages, page.first, page.last) == (2, 51, 53)
    assert [row.name for row in page.rows] == ["n002", "n001", "n000"]
    assert processes.page_of(Wish.of({"page": "99"}, ALICE), ALICE).wish.page == 2


@pytest.mark.parametrize("page", ["0", "-1", "x", "9" * 40, "²", ""])
def test_an_odd_page_number_is_no_error(listing: None, page: str):
    assert processes.page_of(Wish.of({"page": page, "order": "'", "phase": "'"}, ALICE), ALICE).rows == ()


# ---------------------------------------------------------------------- capsules


def test_a_link_is_followed_at_no_component_of_a_path(tmp_path: Path):
    (tmp_path / "root/a").mkdir(parents=True)
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "root/a/file").symlink_to(tmp_path / "secret")
    (tmp_path / "root/b").symlink_to(tmp_path)
    os.mkfifo(tmp_path / "root/a/fifo")

    for parts in (("a", "file"), ("b", "secret"), ("..", "secret"), ("a/../../secret",), ("a", "fifo"), ("a",), ("",)):
        with pytest.raises(Gone):
            opened_below(tmp_path / "root", parts)


def test_a_capsule_outside_the_results_folder_is_none(settings: Settings):
    assert capsule_at(settings.paths.results, "/etc") is None
    assert capsule_at(settings.paths.results, f"{settings.paths.results}/../../etc/run-1") is None
    assert capsule_of(process(capsule="/etc/x/run-1"), settings.paths.results) is None


def test_a_run_that_is_not_there_is_none(settings: Settings, capsule: Capsule):
    row = process(capsule=str(capsule.folder))

    assert capsule_of(row, settings.paths.results, 2) is None
    assert capsule_of(row, settings.paths.results, 1) == capsule
    assert capsule.runs == [1]


def test_a_log_reads_as_a_terminal_shows_it_also_of_a_reused_step(settings: Settings, capsule: Capsule):
    again = made_capsules.capsule(settings.paths.results, process=2)
    (again / "steps/0001-swarp/log").unlink()
    (again / "steps/0001-swarp/outcome.json").write_text(f'{{"key": "k", "reused_from": "{capsule.folder}"}}')
    (capsule.folder / "steps/0001-swarp/outcome.json").write_text('{"key": "k"}')
    second = capsule_at(settings.paths.results, str(again))

    assert capsule.log("0001-swarp") == ["> Reading done", "> All done"]
    assert second
    assert second.log("0001-swarp") == capsule.log("0001-swarp")


# ---------------------------------------------------------------------- results


def test_results_have_their_products_figures_and_configurations(capsule: Capsule):
    found = results.in_order(results.products_of(capsule))

    assert [(each.name, each.kind, each.number) for each in found] == [
        ("m101.fits", "image", 1), ("a.ldac", "catalogue", 2), ("a.head", "text", 3),
        ("a.svg", "plot", 4),
    ]  # fmt: skip
    (swarp,) = results.configured(capsule)
    assert [(each.name, each.value, each.level) for each in swarp.chosen] == [
        ("COMBINE_TYPE", "MEDIAN", "system: default")
    ]
    assert results.provenance(capsule)["exposures"][0]["path"] == "/data/900001p.fits"
    assert results.digests_of_inputs(capsule) == {"/data/900001p.fits": "a" * 64}


def test_a_product_has_the_quality_report_of_its_own_exposure():
    names = ("a.quality.json", "a.b.quality.json", "a.b.weight.fits.fz", "a.flag.fits.fz", "ab.weight.fits.fz")
    kinds = ("quality", "quality", "packed", "packed", "packed")
    products = [results.Product(number, name, 1, "", kinds[number], "") for number, name in enumerate(names)]

    found = [results.report_on(each, products) for each in products[2:]]

    assert found == [products[1], products[0], None]


def test_a_product_is_known_by_its_number_only(capsule: Capsule):
    assert results.product(capsule, 2).name == "a.ldac"
    for number in (0, 5, -1):
        with pytest.raises(Gone):
            results.product(capsule, number)


# ---------------------------------------------------------------------- catalogues, plots, previews


@pytest.fixture
def table_file(tmp_path: Path) -> Iterator[int]:
    columns: dict[str, Any] = {
        "MAG": [float((7 * n) % 120) for n in range(120)],
        "NAME": [f"star{n}" for n in range(120)],
        "BAD": [float("nan")] * 60 + [float(n) for n in range(60)],
    }
    handle = os.open(made_capsules.catalogue(tmp_path / "a.cat", columns), os.O_RDONLY)
    yield handle
    os.close(handle)


def test_a_catalogue_is_shown_page_by_page_in_the_order_of_a_column(table_file: int):
    (table,) = catalogues.tables_in(table_file)

    first = catalogues.shown(table_file, table, order="MAG")
    last = catalogues.shown(table_file, table, order="MAG", is_downward=True, page=3)

    assert (table.rows, first.pages, len(first.rows), len(last.rows)) == (120, 3, 50, 20)
    assert [cells[0] for _, cells in first.rows[:3]] == ["0", "1", "2"]
    assert [cells[0] for _, cells in last.rows[-2:]] == ["1", "0"]
    assert first.rows[1] == (104, ("1", "star103", "43"))


def test_what_is_no_number_comes_last_in_either_order(table_file: int):
    (table,) = catalogues.tables_in(table_file)

    for is_downward in (False, True):
        shown = catalogues.shown(table_file, table, order="BAD", is_downward=is_downward)
        assert all(cells[2] != "–" for _, cells in shown.rows)
        assert catalogues.shown(table_file, table, order="BAD", page=3).rows[-1][1][2] == "–"


def test_an_unknown_column_orders_nothing_and_plots_nothing(table_file: int):
    (table,) = catalogues.tables_in(table_file)

    assert catalogues.shown(table_file, table, order="NAME").order == ""
    with pytest.raises(Gone):
        catalogues.pair(table_file, table, "MAG", "NAME", 100)


def test_a_plot_has_a_dot_for_each_row_that_stands_on_its_axes(table_file: int):
    (table,) = catalogues.tables_in(table_file)
    x, y = catalogues.pair(table_file, table, "MAG", "BAD", 8000)

    svg = plots.scatter(x, y, "MAG", "<b>BAD</b>", y_log=True)

    assert svg.count("h0") == 59
    assert "&lt;b&gt;BAD&lt;/b&gt; against MAG, 59 points" in svg
    assert "<b>" not in svg


def test_a_plot_of_nothing_is_no_plot():
    assert plots.scatter([float("nan")], [1.0], "a", "b") == ""
    assert plots.scatter([-1.0], [1.0], "a", "b", x_log=True) == ""
    assert plots.scatter([5.0], [1.0], "a", "b").count("h0") == 1


def test_a_preview_is_upright_and_shows_what_is_bright(tmp_path: Path):
    sky = [[100.0 + (x * y) % 7 for x in range(200)] for y in range(100)]
    for y in range(85, 95):
        for x in range(10, 30):
            sky[y][x] = 5000.0
    with open(made_capsules.image(tmp_path / "a.fits", sky), "rb") as file:
        png = previews.preview(file.fileno(), side=100)

    picture = Image.open(io.BytesIO(png))
    brightest = max(((x, y) for x in range(100) for y in range(50)), key=picture.getpixel)
    assert picture.size == (100, 50)
    assert brightest[0] in range(5, 15)  # left in the file, left here
    assert brightest[1] in range(2, 9)  # near the last row, so near the top


def test_a_preview_of_blank_or_broken_pixels_is_a_picture_or_a_reason(tmp_path: Path):
    blank = made_capsules.image(tmp_path / "a.fits", [[float("nan")] * 20] * 20)
    with open(blank, "rb") as file:
        assert Image.open(io.BytesIO(previews.preview(file.fileno()))).size == (20, 20)
    blank.write_bytes(blank.read_bytes()[:3000])
    with open(blank, "rb") as file, pytest.raises(Gone):
        previews.preview(file.fileno())


# ---------------------------------------------------------------------- downloads


def test_one_product_goes_out_whole_as_an_attachment_that_nothing_shows(capsule: Capsule):
    sent = downloads.one_file(capsule, "products", "a.head", called='a"\r\nX: y.head')

    assert b"".join(sent.body) == b"CRVAL1  = 210.8\nEND\n"
    assert sent.headers["Content-Disposition"].startswith('attachment; filename="a___X__y.head"; filename*=UTF-8')
    assert (sent.headers["Content-Type"], sent.headers["Content-Length"]) == ("application/octet-stream", "20")
    assert "sandbox" in sent.headers["Content-Security-Policy"]


def test_everything_comes_as_one_tar_of_the_length_that_was_told(settings: Settings, capsule: Capsule):
    (capsule.folder / "products/linked").symlink_to("/etc/passwd")
    row = process(capsule=str(capsule.folder))

    sent = downloads.everything(row, capsule, ["m101.fits", "a.ldac", "linked", "gone"])
    data = b"".join(sent.body)

    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        names = tar.getnames()
    top = f"{row.id:06d}-m101-run-1"
    assert len(data) == int(sent.headers["Content-Length"])
    assert f"{top}/products/m101.fits" in names
    assert {f"{top}/job.spica", f"{top}/configuration/00-swarp/swarp.conf", f"{top}/steps/0001-swarp/log"} <= set(names)
    assert not any("linked" in name or "gone" in name for name in names)


def test_a_file_that_shrinks_while_it_is_sent_breaks_the_download_off(capsule: Capsule):
    (capsule.folder / "products/a.head").write_bytes(b"x" * 600_000)
    sent = downloads.one_file(capsule, "products", "a.head")
    next(sent.body)
    os.truncate(capsule.folder / "products/a.head", 10)

    with pytest.raises(Gone):
        b"".join(sent.body)


# ---------------------------------------------------------------------- differences


def test_two_runs_differ_by_a_keyword_a_version_a_figure_and_a_product_and_by_nothing_else(settings: Settings):
    folders = [
        made_capsules.capsule(settings.paths.results),
        made_capsules.capsule(
            settings.paths.results,
            process=2,
            name="m101-average",
            settings={"COMBINE_TYPE": ("AVERAGE", "job file"), "PIXEL_SCALE": ("0.0", "the tool's default")},
            version="2.42",
            figures=[("SWarp: width of the stack", 1000.0, "pixels")],
            digest="9" * 64,
        ),
    ]
    one, other = (capsule_at(settings.paths.results, str(folder)) for folder in folders)
    assert one
    assert other

    found = {section.title: section for section in difference.between(one, other).sections}

    assert [(line.what, line.one, line.other) for line in found["Configurations"].lines] == [
        ("swarp COMBINE_TYPE", "MEDIAN", "AVERAGE")
    ]
    assert [line.what for line in found["Versions"].lines] == ["swarp"]
    assert [(line.one, line.other, line.change) for line in found["Key figures"].lines] == [
        ("928 pixels", "1,000 pixels", "+7.76 %")
    ]
    assert [line.what for line in found["Products"].lines] == ["NAME.fits"]
    assert (found["Exposures"].lines, found["Exposures"].same) == ((), 1)


def test_a_run_does_not_differ_from_itself(capsule: Capsule):
    assert difference.between(capsule, capsule).is_none


# ---------------------------------------------------------------------- progress, and the daemon


def test_progress_tells_bars_the_tail_of_the_running_log_and_who_is_ahead(settings: Settings, capsule: Capsule):
    process("before", phase="QUEUED", submitted=1.0)
    row = process("m101", phase="EXECUTING", capsule=str(capsule.folder), started=1000.0, steps_total=2, steps_done=1)
    for number, state in ((1, "running"), (2, "waiting")):
        rows.insert(Step, process=row.id, run=1, number=number, application="swarp", label="m101", state=state,
                    owner="alice", started=1010.0)  # fmt: skip

    found = progress.progress(settings, row, capsule, now=1070.0)

    assert [(bar["application"], bar["total"], bar["running"], bar["waiting"]) for bar in found["tasks"]] == [
        ("swarp", 2, 1, 1)
    ]
    assert found["tail"]["lines"] == ["> Reading done", "> All done"]
    assert found["running"][0]["so_far"] == "1 min"
    assert found["elapsed"] == "1 min 10 s"
    assert found["standing"]["ahead_queued"] == 1
    assert "no spicad runs" in found["standing"]["holds"][0]


def test_a_process_that_is_over_waits_for_nothing(settings: Settings, capsule: Capsule):
    assert progress.progress(settings, process(capsule=str(capsule.folder)), capsule)["standing"] == {}


def test_a_daemon_that_never_was_one_that_runs_and_one_that_is_gone_are_told_apart(settings: Settings):
    now = time.time()
    assert heartbeat.life(settings, now) == heartbeat.Life(False, None)
    from spicad.daemon import hold_lock

    handle = hold_lock(settings)
    os.utime(handle, (now - 3600, now - 3600))
    assert heartbeat.life(settings, now).is_late
    os.utime(handle, (now - 1, now - 1))
    running = heartbeat.life(settings, now)
    assert (running.is_running, running.is_late) == (True, False)
    os.close(handle)
    gone = heartbeat.life(settings, now)
    assert (gone.is_running, round(now - (gone.seen or 0))) == (False, 1)


def test_the_daemons_state_lists_what_runs_and_what_waits_in_order(settings: Settings):
    process("young", phase="QUEUED", submitted=2000.0)
    process("old", phase="QUEUED", submitted=1000.0)
    process("first", phase="QUEUED", submitted=3000.0, rank=int(Rank.PIPELINE))
    row = process("runs", phase=Phase.EXECUTING.value)
    rows.insert(Step, process=row.id, run=1, number=1, application="swarp", label="a", state="running", owner="alice")

    found = daemon_state.state(settings)

    assert [each["row"].name for each in found["queued"]] == ["first", "old", "young"]
    assert (found["slots_used"], found["by_user"], found["counts"]["QUEUED"]) == (1, {"alice": 1}, 3)
    assert [each["application"] for each in found["running"]] == ["swarp"]

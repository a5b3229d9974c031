"""Figures for Prometheus: what the events of a day come to, the text format, and who may read the page.

How many processes there are and wait is told from real tables, on SQLite and MariaDB.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import RunningSpica, running_spica  # noqa: F401
from services import mariadb  # noqa: F401
from site_world import Site, settings_of

from spicad import metrics, tables
from spicad.metrics import DAY_S, Happened, day_of, reason
from spicad.tables import Event, Process
from spicad.words import BadInput, Phase, Rank

MIDNIGHT = 20_000 * DAY_S
SAMPLE = re.compile(r'spica_[a-z0-9_]+(\{[a-z]+="[^"]*"(,[a-z]+="[^"]*")*\})? -?[0-9.e+-]+')


@pytest.fixture(autouse=True)
def tables_closed_afterwards() -> Iterator[None]:
    """Other tests of this process must not find them open."""
    yield
    for proxy in (tables.database, tables.private):
        if proxy.obj is not None and not proxy.obj.is_closed():
            proxy.obj.close()
        proxy.initialize(None)


def moved(process: int, at: float, before: str, phase: str, why: str = "") -> Happened:
    return Happened(process, MIDNIGHT + at, phase, before, why)


# ---------------------------------------------------------------------- a day


def test_waiting_and_running_are_measured_for_each_run_of_a_process():
    events = [
        moved(1, 0, "", "QUEUED"),
        moved(1, 30, "QUEUED", "EXECUTING"),
        moved(1, 100, "EXECUTING", "COMPLETED"),
        moved(1, 200, "COMPLETED", "QUEUED"),
        moved(1, 205, "QUEUED", "EXECUTING"),
        moved(1, 206, "EXECUTING", "ERROR", "scamp: SCAMP was stopped at its time limit."),
    ]

    day = day_of(events, {}, {1: Rank.PIPELINE})

    assert (day.waited["pipeline"].count, day.waited["pipeline"].total) == (2, 35.0)
    assert {key: each.total for key, each in day.ran.items()} == {
        ("pipeline", "COMPLETED"): 70,
        ("pipeline", "ERROR"): 1,
    }
    assert day.failed == {"time limit": 1}


def test_what_began_before_midnight_is_measured_from_its_begin():
    day = day_of([moved(7, 60, "EXECUTING", "COMPLETED")], {(7, "EXECUTING"): MIDNIGHT - 40}, {})

    assert day.ran[("user", "COMPLETED")].total == 100


def test_a_note_that_changes_no_phase_is_no_run():
    events = [moved(1, 0, "QUEUED", "EXECUTING"), moved(1, 9, "", "COMPLETED", "the report was accepted for delivery")]

    assert day_of(events, {}, {}).ran == {}


def test_a_bucket_holds_all_below_its_limit():
    found = metrics.Histogram()
    for seconds in (0.5, 60, 61, 10**9):
        found.add(seconds)

    assert [found.buckets[most] for most in (1, 60, 300)] == [1, 2, 3]
    assert found.buckets[metrics.BUCKETS_S[-1]] == 3
    assert found.count == 4


@pytest.mark.parametrize(
    ("why", "wanted"),
    [
        ("swarp: the disk was full while SWarp ran.", "disk full"),
        ("sextractor on 900001p: SExtractor crashed by a signal (SIGSEGV): a fault of the tool.", "crash of the tool"),
        ("an error of Spica itself: KeyError: 1. See the daemon's log.", "fault of Spica"),
        ("scamp: the solution did not converge (contrast is 1.2, should be at least 5).", "quality"),
        ("something new", "other"),
    ],
)
def test_a_failure_is_counted_by_its_reason(why: str, wanted: str):
    assert reason(why) == wanted


# ---------------------------------------------------------------------- tables


@pytest.fixture(params=["sqlite", pytest.param("mariadb", marks=pytest.mark.slow)])
def site(request: pytest.FixtureRequest, tmp_path: Path) -> Site:
    url = "" if request.param == "sqlite" else request.getfixturevalue("mariadb").url("figures")
    return Site(settings_of(tmp_path, url, more='metrics = ["192.0.2.0/24", "2001:db8::7"]'))


def a_day(now: float) -> None:
    midnight = now - now % DAY_S
    for number, (rank, phase) in enumerate(
        [(Rank.PIPELINE, Phase.QUEUED), (Rank.USER, Phase.QUEUED), (Rank.USER, Phase.COMPLETED)], 1
    ):
        Process.create(
            id=number,
            token=str(number),
            name="a",
            owner="alice",
            group="lensing",
            rank=rank,
            phase=phase,
            submitted=now - 90,
        )
    Event.create(process=3, time=midnight - 50, who="x", before="", phase="QUEUED")
    Event.create(process=3, time=midnight - 20, who="x", before="QUEUED", phase="EXECUTING")  # yesterday's
    Event.create(process=3, time=midnight, who="x", before="EXECUTING", phase="COMPLETED")


def test_the_text_tells_queue_times_and_node_in_the_format_of_prometheus(site: Site):
    now = time.time()
    a_day(now)

    text = metrics.text(site.settings, now)

    lines = text.splitlines()
    assert [line for line in lines if not line.startswith("# ") and not SAMPLE.fullmatch(line)] == []
    for line in (
        'spica_queue_processes{rank="pipeline"} 1',
        'spica_queue_processes{rank="administrator"} 0',
        'spica_queue_oldest_seconds{rank="user"} 90',
        'spica_processes{phase="COMPLETED"} 1',
        "spica_daemon_up 0",
        'spica_process_running_seconds_bucket{rank="user",phase="COMPLETED",le="60"} 1',
        'spica_process_running_seconds_sum{rank="user",phase="COMPLETED"} 20',
        'spica_process_failures_total{reason="time limit"} 0',
        'spica_node_load{minutes="1"}',
        'spica_disk_free_bytes{of="spool"}',
    ):
        assert any(each.startswith(line) for each in lines), line
    assert "spica_process_waiting_seconds_count" not in text  # it began to run yesterday
    declared = [line.split()[2] for line in lines if line.startswith("# TYPE")]
    assert len(declared) == len(set(declared)) >= 13


def test_the_figures_of_a_day_are_found_among_many_older_events(site: Site):
    a_day(time.time())

    before = [each.process for each in metrics._events_since(time.time() - time.time() % DAY_S)]

    assert before == [3]


# ---------------------------------------------------------------------- who may


@pytest.mark.parametrize(
    ("address", "status"),
    [
        ("192.0.2.99", 200),
        ("::ffff:192.0.2.1", 200),
        ("2001:db8::7", 200),
        ("198.51.100.1", 404),
        ("", 404),
        ("x", 404),
    ],
)
def test_the_page_is_for_the_addresses_that_spica_conf_names(tmp_path: Path, address: str, status: int):
    site = Site(settings_of(tmp_path, more='metrics = ["192.0.2.0/24", "2001:db8::7"]'))
    visitor = site.visitor()
    visitor.came_from = address

    page = visitor.get("/metrics")

    assert page.status == status
    if status == 200:
        assert page.headers["Content-Type"] == metrics.KIND
        assert page.text.startswith("# HELP spica_info")
        assert "alice" not in page.text


def test_who_names_no_address_shows_it_to_administrators_alone(tmp_path: Path):
    site = Site(settings_of(tmp_path))

    assert site.visitor().get("/metrics").status == 404
    assert site.logged_in("alice").get("/metrics").status == 404
    assert site.logged_in("dan").get("/metrics").status == 200


def test_a_header_makes_nobody_come_from_elsewhere(site: Site):
    visitor = site.visitor()
    visitor.came_from = "198.51.100.1"

    assert visitor.get("/metrics", X_Forwarded_For="192.0.2.1").status == 404


def test_what_is_no_network_is_refused_with_its_line(tmp_path: Path):
    with pytest.raises(BadInput, match=r"line \d+: \"inside\" is no address or network"):
        settings_of(tmp_path, more='metrics = ["inside"]')


# ---------------------------------------------------------------------- the command


@pytest.mark.slow
def test_a_living_daemon_is_told_by_the_command_and_into_a_file(running_spica: RunningSpica):  # noqa: F811
    process = running_spica.submit("fail")
    running_spica.wait_for(process)
    running_spica.stop()
    running_spica.start()
    file = running_spica.folder / "spica.prom"

    told = running_spica.spica("metrics").stdout
    running_spica.spica("metrics", "--output", file)

    assert "spica_daemon_up 1\n" in told
    assert 'spica_processes{phase="ERROR"} 1\n' in told
    assert 'spica_process_failures_total{reason="exit status"} 1\n' in told
    assert re.search(r"spica_daemon_heartbeat_timestamp_seconds \d{10}", told)
    assert file.stat().st_mode & 0o777 == 0o644
    assert file.read_text().count("# TYPE") == told.count("# TYPE")

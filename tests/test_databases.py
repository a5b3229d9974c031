"""The tables and the daemon's pen, the same on SQLite and on a real MariaDB: numbers, phases, rows that wait.

How folders and rows are brought into line at start is told in test_recovery.py.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import peewee
import pytest
from services import MariaDB, mariadb

from spicad import commands, quota, tables
from spicad.ledger import Ledger, NewProcess
from spicad.spool import Accepted
from spicad.tables import Digest, Event, Process, Step
from spicad.words import Phase, SpicaError, StepState

__all__ = ["mariadb"]

NOW = 1_080_000_000.0


@pytest.fixture(params=["sqlite", pytest.param("mariadb", marks=pytest.mark.slow)])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'spica.db'}"
    return str(request.getfixturevalue("mariadb").url())


@pytest.fixture
def pen(url: str) -> Iterator[Ledger]:
    opened = tables.connect(url)
    tables.require_current(make_if_empty=True)
    yield Ledger()
    opened.close()


def new(token: str = "t1", name: str = "try", **values: Any) -> NewProcess:
    accepted = Accepted(token, "alice", "lens", 0, NOW, "try.spica", **values)
    return NewProcess(accepted, name, "alice@example.org", 0.0, 10, 1)


def rows() -> list[tuple[int, str]]:
    return list(Process.select(Process.id, Process.phase).order_by(Process.id).tuples())


# The schema


def test_an_empty_database_is_upgraded_once(url: str) -> None:
    opened = tables.connect(url)

    assert tables.schema_version() == 0
    assert len(tables.upgrade()) == len(tables.MIGRATIONS)
    assert tables.upgrade() == []
    tables.require_current()
    opened.close()


def test_an_upgrade_that_was_killed_is_made_whole(url: str) -> None:
    opened = tables.connect(url)
    tables.upgrade()
    tables.SchemaVersion.delete().execute()
    on = "" if url.startswith("sqlite") else " ON process"
    opened.execute_sql(f"DROP INDEX process_token{on}")

    tables.upgrade()

    assert "process_token" in {index.name for index in opened.get_indexes("process") if index.unique}
    opened.close()


def test_each_migration_has_a_number_of_its_own() -> None:
    numbers = [number for number, _, _ in tables.MIGRATIONS]

    assert numbers == sorted(set(numbers))


def upgraded(url: str, folder: Path, monkeypatch: pytest.MonkeyPatch, more: str = "") -> int:
    """By the command; its status."""
    conf = folder / "spica.conf"
    conf.write_text(f'[paths]\nspool = "spool"\nresults = "results"\n[database]\nurl = "{url}"\n{more}')
    monkeypatch.setenv("SPICA_CONF", str(conf))
    return commands.main(["database", "upgrade"])


@pytest.mark.slow
def test_an_upgrade_is_given_the_time_that_it_takes(
    mariadb: MariaDB, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def a_long_one() -> None:
        tables.database.execute_sql("DO SLEEP(0.6)")

    monkeypatch.setattr(tables, "PATIENCE_S", 0.3)
    monkeypatch.setattr(tables, "MIGRATIONS", (*tables.MIGRATIONS, (99, "an index of a large archive", a_long_one)))
    monkeypatch.setattr(tables, "NEWEST", 99)

    assert upgraded(mariadb.url(), tmp_path, monkeypatch) == 0


@pytest.mark.slow
@pytest.mark.parametrize("section", ["", "[web]\n"])
def test_an_upgrade_says_who_else_needs_rights_on_new_tables(
    mariadb: MariaDB,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    section: str,
) -> None:
    url = mariadb.url()
    more = f'{section}{"database" if section else "readers"} = "{url}"\n'

    assert upgraded(url, tmp_path, monkeypatch, more) == 0

    assert "spica setup" in capsys.readouterr().out


def test_an_archive_without_grades_by_persons_and_figures_gets_them(url: str) -> None:
    opened = tables.connect(url)
    tables.upgrade()
    tables.SchemaVersion.delete().execute()
    tables.SchemaVersion.create(number=11)
    name = tables.COUNTED_BY_GRADES
    opened.execute_sql(f"DROP INDEX {name}" + ("" if url.startswith("sqlite") else " ON exposure"))
    for column in ("graded_by", "elongation", "background", "limiting_magnitude", "stars"):
        opened.execute_sql(f"ALTER TABLE exposure DROP COLUMN {column}")
    opened.drop_tables([tables.Quality, tables.Grading])

    tables.upgrade()

    assert tables.schema_version() == tables.NEWEST
    assert name in {index.name for index in opened.get_indexes("exposure")}
    assert list(tables.Exposure.select().where(tables.Exposure.graded_by == "")) == []
    assert tables.Quality.select().count() == tables.Grading.select().count() == 0
    opened.close()


def test_a_database_of_schema_16_gets_the_column_that_its_upgrade_left_out(url: str) -> None:
    opened = tables.connect(url)
    tables.upgrade()
    tables.SchemaVersion.delete().where(tables.SchemaVersion.number > 16).execute()
    opened.execute_sql("ALTER TABLE process DROP COLUMN workload")

    tables.upgrade()

    assert "workload" in {column.name for column in opened.get_columns("process")}
    opened.close()


@pytest.mark.parametrize(("version", "words"), [(0, "spica database upgrade"), (99, "Install the newer Spica")])
def test_another_schema_is_refused_with_what_to_do(pen: Ledger, version: int, words: str) -> None:
    tables.SchemaVersion.update(number=version).execute()

    with pytest.raises(SpicaError, match=words):
        tables.require_current()


def test_a_file_that_is_no_database_is_named_with_the_mend(tmp_path: Path) -> None:
    (tmp_path / "spica.db").write_bytes(b"no database " * 1000)

    with pytest.raises(SpicaError, match=r"damaged.*Move it away"):
        tables.connect(f"sqlite:///{tmp_path / 'spica.db'}")


def test_sqlite_writes_so_that_a_power_cut_takes_nothing(tmp_path: Path) -> None:
    opened = tables.connect(f"sqlite:///{tmp_path / 'spica.db'}")

    pragmas = [opened.execute_sql(f"PRAGMA {name}").fetchone()[0] for name in ("journal_mode", "synchronous")]

    assert pragmas == ["wal", 2]
    opened.close()


def test_a_password_that_others_may_read_is_refused(tmp_path: Path) -> None:
    secret = tmp_path / "password"
    secret.write_text("x")
    secret.chmod(0o644)

    with pytest.raises(SpicaError, match="chmod o-rwx"):
        tables.connect("mysql://spica@localhost/spica", str(secret))


def test_an_unreachable_server_is_named_without_the_password(tmp_path: Path) -> None:
    with pytest.raises(SpicaError) as error:
        tables.connect(f"mysql://spica:geheim@localhost/spica?socket={tmp_path / 'none'}")

    assert "cannot be opened" in str(error.value)
    assert "geheim" not in str(error.value)


# Numbers


def test_the_same_token_has_the_same_number_however_often_it_is_accepted(pen: Ledger) -> None:
    first = pen.accept([new("t1"), new("t2")])

    assert first == [1, 2]
    assert pen.accept([new("t2"), new("t3"), new("t1")]) == [2, 3, 1]
    assert rows() == [(1, "QUEUED"), (2, "QUEUED"), (3, "QUEUED")]
    assert Event.select().count() == 3


def test_a_commit_that_was_stored_but_answered_with_an_error_makes_no_second_process(
    pen: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = tables.database.obj
    commit = real.commit

    def stored_then_lost() -> None:
        commit()
        raise peewee.OperationalError(2013, "Lost connection to MySQL server during query")

    with monkeypatch.context() as patched:
        patched.setattr(real, "commit", stored_then_lost)
        assert pen.accept([new("t1")]) is None

    assert pen.accept([new("t1")]) == [1]
    assert rows() == [(1, "QUEUED")]


def test_numbers_go_on_above_those_that_the_database_has_forgotten(pen: Ledger) -> None:
    pen.above = 41

    assert pen.accept([new("t1"), new("t2")]) == [42, 43]
    assert pen.accept([new("t3")]) == [44]


# Rows


def test_a_change_of_phase_is_a_row_and_an_event(pen: Ledger) -> None:
    pen.accept([new()])
    pen.phase(1, Phase.QUEUED, Phase.EXECUTING, "spicad", "run 1", NOW + 1, started=NOW + 1)
    assert rows() == [(1, "QUEUED")]

    assert pen.flush(NOW)

    assert rows() == [(1, "EXECUTING")]
    found = Event.select(Event.before, Event.phase, Event.who, Event.why).order_by(Event.id).tuples()
    assert list(found)[1] == ("QUEUED", "EXECUTING", "spicad", "run 1")


def test_a_row_that_says_otherwise_follows_the_spool(pen: Ledger) -> None:
    pen.accept([new()])
    pen.phase(1, Phase.EXECUTING, Phase.COMPLETED, "spicad", "", NOW)

    pen.flush(NOW)

    assert rows() == [(1, "COMPLETED")]


def test_steps_of_a_run_replace_those_of_an_earlier_try_of_it(pen: Ledger) -> None:
    step = {"process": 1, "run": 1, "application": "noop", "label": "a", "state": "waiting", "owner": "alice"}
    for count in (120, 70):
        pen.steps([{**step, "number": number + 1} for number in range(count)])
        pen.flush(NOW)

    assert Step.select().count() == 70


def test_a_gathering_step_may_have_thousands_of_outputs_and_any_letter(pen: Ledger) -> None:
    row = {"process": 1, "run": 1, "number": 1, "application": "scamp", "label": "M101 ☄🌌", "state": "x", "owner": "a"}
    outputs = {"made": [f"products/{number:04d}.head" for number in range(20_000)]}
    pen.steps([row])
    pen.step(1, 1, 1, StepState.DONE, outputs=outputs, why="é🌌" * 50_000)

    assert pen.flush(NOW)

    found = Step.select(Step.label, Step.outputs, Step.why).tuples().get()
    assert (found[0], len(found[1]) > 400_000, found[2]) == ("M101 ☄🌌", True, "é🌌" * 50_000)


def test_one_row_that_cannot_be_does_not_keep_the_others(pen: Ledger) -> None:
    pen.accept([new("t1"), new("t2")])
    pen.phase(1, Phase.QUEUED, Phase.HELD, "alice", "", NOW)
    pen._waiting.append(lambda: Process.insert(token="t1", name=None).execute())
    pen.event(1, Phase.QUEUED, "alice", "a file name of odd bytes: \udcff", NOW)
    pen.phase(2, Phase.QUEUED, Phase.HELD, "alice", "", NOW)

    assert pen.flush(NOW)

    assert rows() == [(1, "HELD"), (2, "HELD")]


def test_a_digest_is_remembered_by_the_last_word(pen: Ledger) -> None:
    pen.digest("p" * 64, "1:2:3:4", "a" * 64)
    pen.digest("p" * 64, "1:2:3:5", "b" * 64)
    pen.flush(NOW)

    assert list(Digest.select(Digest.identity, Digest.sha256).tuples()) == [("1:2:3:5", "b" * 64)]


def test_what_another_program_commits_is_seen(url: str, pen: Ledger) -> None:
    pen.accept([new()])
    assert rows() == [(1, "QUEUED")]

    child = os.fork()
    if child == 0:
        try:
            tables.connect(url)
            Process.update(phase="HELD").execute()
        finally:
            os._exit(0)
    os.waitpid(child, 0)

    assert rows() == [(1, "HELD")]


# The database goes away


def lock_sqlite(url: str) -> tuple[Callable[[], None], Callable[[], None]]:
    other = sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None)
    tables.database.obj.pragma("busy_timeout", 20, permanent=True)
    return lambda: other.execute("BEGIN EXCLUSIVE") and None, lambda: other.execute("COMMIT") and None


@pytest.fixture
def away(url: str, pen: Ledger, request: pytest.FixtureRequest) -> tuple[Callable[[], None], Callable[[], None]]:
    """Two verbs: take the database away, give it back."""
    if url.startswith("sqlite"):
        return lock_sqlite(url)
    server: MariaDB = request.getfixturevalue("mariadb")
    return server.kill, server.start


def test_rows_wait_while_the_database_is_away_and_nothing_is_accepted(
    pen: Ledger, away: tuple[Callable[[], None], Callable[[], None]]
) -> None:
    go, come_back = away
    pen.accept([new("t1")])
    go()

    assert pen.accept([new("t2")]) is None
    pen.phase(1, Phase.QUEUED, Phase.EXECUTING, "spicad", "run 1", NOW)
    assert not pen.flush(NOW)
    pen.phase(1, Phase.EXECUTING, Phase.COMPLETED, "spicad", "", NOW)
    assert not pen.flush(NOW + 1)
    come_back()

    pen.flush(NOW + 2)
    assert pen.flush(NOW + 3)
    assert rows() == [(1, "COMPLETED")]
    assert pen.accept([new("t2")]) == [2]
    assert Event.select().count() == 4


# What users and groups have on the disk


def test_use_and_standing_are_noted_and_replaced(pen: Ledger) -> None:
    assert quota.note_use("alice", {"": 4096, "lens": 100, "stars": 50}) == {"lens", "stars"}
    quota.note_use("bob", {"": 4096, "lens": 7})
    for used in (107, 107, 90):
        quota.note_standing(quota.Standing(quota.GROUP, "lens", used, 1000), 80, NOW)

    assert quota.note_use("alice", {"": 4096, "lens": 83}) == {"lens", "stars"}

    assert quota.used_by(quota.GROUP, "lens") == 90
    assert quota.used_by(quota.USER, "alice") == 4179
    assert quota.standing_of(quota.GROUP, "lens") == quota.Standing(quota.GROUP, "lens", 90, 1000)
    assert quota.standings("lens", "nobody") == [quota.Standing(quota.GROUP, "lens", 90, 1000)]


def test_the_forecasts_of_what_waits_and_runs_are_counted(pen: Ledger) -> None:
    first, second, _ = pen.accept([new("t1"), new("t2"), new("t3")]) or []
    pen.phase(first, Phase.QUEUED, Phase.COMPLETED, "spicad", "", NOW)
    pen.phase(second, Phase.QUEUED, Phase.EXECUTING, "spicad", "", NOW)
    pen.flush(NOW)

    assert quota.pending_bytes(quota.USER, "alice") == 20
    assert quota.pending_bytes(quota.GROUP, "lens") == 20
    assert quota.pending_bytes(quota.USER, "bob") == 0

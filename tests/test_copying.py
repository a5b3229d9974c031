"""`spica database copy`: each table from SQLite to MariaDB and back without loss; what is refused; backup beside work.

How it is used for backup, restore and moving stands in spica-backup(7), and is tried in test_backup.py.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import peewee
import pytest
from conftest import ROOT
from services import MariaDB, mariadb  # noqa: F401

from spicad import copying, tables
from spicad.copying import TABLES
from spicad.daemon import LOCK, hold_lock
from spicad.tables import Event, Process, Seen
from spicad.words import SpicaError

pytestmark = pytest.mark.slow

ODD = ("", "a b", "é ☃ 🔭", "'\"`\\%s?", "line\nend\ttab", "\x00 nul", "trailing  ", "NULL", "{}")
FLOATS = (0.0, -0.0, 1 / 3, 2.2250738585072014e-308, 1.7976931348623157e308, 1e15 + 0.5, -210.802267)


@pytest.fixture(autouse=True)
def tables_closed_afterwards() -> Iterator[None]:
    """Other tests of this process must not find them open."""
    yield
    for proxy in (tables.database, tables.private):
        if proxy.obj is not None and not proxy.obj.is_closed():
            proxy.obj.close()
        proxy.initialize(None)


def value(field: peewee.Field, number: int, dice: random.Random) -> Any:
    """Anything that the column may hold; never twice the same where it must not be."""
    if isinstance(field, peewee.BooleanField):
        return dice.random() < 0.5
    if isinstance(field, peewee.BigIntegerField | peewee.BigAutoField):
        return number if field.primary_key or field.name in ("exposure", "account") else dice.choice((0, 1, 2**62, -5))
    if isinstance(field, peewee.IntegerField):
        return number
    if isinstance(field, peewee.DoubleField):
        return None if field.null and dice.random() < 0.3 else dice.choice(FLOATS)
    text = dice.choice(ODD)
    most = getattr(field, "max_length", None)
    is_key = field.primary_key or field.unique or field.name in ("tag", "name", "path_key", "owner", "kind")
    if isinstance(field, tables.LongText) and dice.random() < 0.3:
        return text + "x" * 70_000
    return (f"{number}" + text if is_key else text)[:most].rstrip() if is_key else text[:most]


def fill(where: copying.Opened, rows: int = 7) -> None:
    dice = random.Random(2004)
    for table in TABLES:
        with table.bind_ctx(where.of(table)):
            for number in range(rows):
                values = {name: value(field, number, dice) for name, field in table._meta.fields.items()}
                table.insert(**values).execute()


def sqlite(folder: Path, name: str = "from") -> str:
    return f"sqlite:///{folder / name}.db"


def test_every_table_is_copied_whatever_it_holds_there_and_back(tmp_path: Path, mariadb: MariaDB):  # noqa: F811
    source = copying.opened_empty(sqlite(tmp_path), "")
    fill(source)
    server = copying.opened_empty(mariadb.url("copied"), "")
    source = copying.opened(sqlite(tmp_path), "")

    there = copying.copy(source, server)
    back = copying.opened_empty(sqlite(tmp_path, "back"), "")
    again = copying.copy(server, back)

    assert there == again == [copying.summed(table, source) for table in TABLES]
    assert {each.table for each in there if each.rows != 7} == set()
    for each in (source, server, back):
        each.close()


def test_every_table_of_spica_is_among_them():
    written = {table for base in (tables.Table, tables.Private) for table in base.__subclasses__()}

    assert set(TABLES) == written - {tables.SchemaVersion}


@pytest.fixture
def source(tmp_path: Path) -> copying.Opened:
    found = copying.opened_empty(sqlite(tmp_path), "")
    Process.create(token="t", name="m101", owner="alice", group="staff", rank=0, phase="QUEUED", submitted=1.5)
    return found


def test_a_target_that_holds_a_row_is_refused_and_left_as_it_is(tmp_path: Path, source: copying.Opened):
    target = copying.opened_empty(sqlite(tmp_path, "to"), "")
    Event.create(process=1, time=1.0, who="x", phase="QUEUED")
    target.close()

    with pytest.raises(SpicaError, match=r"is not empty: there are rows in event. Nothing was copied"):
        copying.opened_empty(sqlite(tmp_path, "to"), "")

    tables.connect(sqlite(tmp_path, "to"))
    assert Event.select().count() == 1


def test_what_does_not_fit_as_it_is_leaves_the_target_empty(tmp_path: Path, mariadb: MariaDB):  # noqa: F811
    source = copying.opened_empty(sqlite(tmp_path), "")
    Process.create(
        token="t", name="m" * 300, owner="a", group="g", rank=0, phase="QUEUED", submitted=1.5
    )  # 200 at most
    url = mariadb.url("tight")
    target = copying.opened_empty(url, "")
    source = copying.opened(sqlite(tmp_path), "")

    with pytest.raises(SpicaError, match=r"the table process cannot be copied, the target is empty again: .*too long"):
        copying.copy(source, target)

    copying.opened_empty(url, "").close()  # it is
    source.close()
    target.close()


def test_a_copy_is_of_one_moment_whatever_is_written_meanwhile(tmp_path: Path, source: copying.Opened):
    target = copying.opened_empty(sqlite(tmp_path, "to"), "")
    source = copying.opened(sqlite(tmp_path), "")
    other = copying.opened(sqlite(tmp_path), "")
    written = []

    def write(each: copying.Sum) -> None:
        if each.table == "process":  # a later table gets a row that belongs to it
            with Event.bind_ctx(other.main), Seen.bind_ctx(other.main):
                written.append(Event.create(process=1, time=1.0, who="x", phase="QUEUED"))

    done = {each.table: each.rows for each in copying.copy(source, target, write)}

    assert written
    assert (done["process"], done["event"]) == (1, 0)
    for each in (source, target, other):
        each.close()


# ---------------------------------------------------------------------- the command


def command(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    conf = folder / "spica.conf"
    conf.write_text(f'[paths]\nspool = "spool"\n[database]\nurl = "{sqlite(folder)}"\n')
    line = [sys.executable, str(ROOT / "bin/spica"), "--config", str(conf), "database", "copy", *words]
    return subprocess.run(line, capture_output=True, text=True, check=False)


def test_the_command_says_what_was_copied_and_what_to_write(tmp_path: Path, source: copying.Opened):
    source.close()
    (tmp_path / "spool").mkdir()

    done = command(tmp_path, sqlite(tmp_path, "to"))
    twice = command(tmp_path, sqlite(tmp_path, "to"))
    itself = command(tmp_path, sqlite(tmp_path))

    assert done.returncode == 0, done.stderr
    assert "hold the same." in done.stdout
    assert f'[database]: url = "{sqlite(tmp_path, "to")}"' in done.stdout
    assert (twice.returncode, itself.returncode) == (1, 1)
    assert "is not empty" in twice.stderr
    assert "is the database itself" in itself.stderr


def test_beside_a_daemon_only_a_backup_is_made(tmp_path: Path, source: copying.Opened):
    from spicad import config

    source.close()
    command(tmp_path)
    (tmp_path / "spool").mkdir(exist_ok=True)
    lock = hold_lock(config.load(tmp_path / "spica.conf"))
    try:
        refused = command(tmp_path, sqlite(tmp_path, "to"))
        backup = command(tmp_path, "--backup", "--json", sqlite(tmp_path, "backup"))
    finally:
        os.close(lock)

    assert refused.returncode == 1
    assert f"(pid {os.getpid()}). Run spicad stop first." in refused.stderr
    assert (tmp_path / "spool" / LOCK).exists()
    assert not (tmp_path / "to.db").exists()
    assert {each["table"]: each["rows"] for each in json.loads(backup.stdout)}["process"] == 1

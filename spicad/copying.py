"""All rows of one database into another, empty one, SQLite or MariaDB alike; count and digest of each table compared.

A table's digest is the sum of its rows' digests, since the two do not sort texts alike. Who may copy what and when is
the affair of commands/database.py.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import peewee

from spicad import tables
from spicad.tables import PRIVATE, Private, SchemaVersion, Table
from spicad.words import SpicaError

AT_ONCE = 2000  # rows
TABLES: tuple[type[Table] | type[Private], ...] = (
    *(table for table in Table.__subclasses__() if table is not SchemaVersion),
    *PRIVATE,
)
# No value is bent to fit, and the number 0 is a number.
STRICT = "SET SESSION sql_mode = 'STRICT_ALL_TABLES,NO_AUTO_VALUE_ON_ZERO', net_write_timeout = 3600"


@dataclass(frozen=True)
class Sum:
    """What a table holds."""

    table: str
    rows: int
    digest: str


@dataclass(frozen=True)
class Opened:
    """Both parts of a database: on MariaDB they are one."""

    url: str
    main: peewee.Database
    private: peewee.Database

    def of(self, table: type[Table] | type[Private]) -> peewee.Database:
        return self.private if issubclass(table, Private) else self.main

    @property
    def is_mysql(self) -> bool:
        return isinstance(self.main, peewee.MySQLDatabase)

    def close(self) -> None:
        for each in (self.main, self.private):
            if not each.is_closed():
                each.close()


def opened(url: str, password_file: str) -> Opened:
    tables.connect(url, password_file)
    found = Opened(tables.shown_url(url), tables.database.obj, tables.private.obj)
    found.private.connect(reuse_if_open=True)
    return found


def opened_empty(url: str, password_file: str) -> Opened:
    """The target, with tables of this Spica's schema. Raises SpicaError when it holds a single row."""
    target = opened(url, password_file)
    try:
        tables.require_current(make_if_empty=True)
        tables.make_private()
        for table in TABLES:
            if table.select().exists():
                what = f"{target.url} is not empty: there are rows in {table._meta.table_name}."
                raise SpicaError(f"{what} Nothing was copied. Name a database that holds nothing.")
    except BaseException:
        target.close()
        raise
    return target


def copy(source: Opened, target: Opened, tell: Callable[[Sum], None] = lambda each: None) -> list[Sum]:
    """What was copied. On any fault the target is emptied again, and SpicaError tells which table it was."""
    done: list[Sum] = []
    with _one_moment(source):
        try:
            if target.is_mysql:
                target.main.execute_sql(STRICT)
            for table in TABLES:
                given = _copy(table, source, target)
                taken = summed(table, target)
                if given != taken:
                    raise SpicaError(f"{given.table}: {given.rows} rows were given, {taken.rows} are other ones.")
                done.append(given)
                tell(given)
        except BaseException as error:
            _empty(target)
            if isinstance(error, peewee.PeeweeException | UnicodeError | OSError | SpicaError):
                name = TABLES[len(done)]._meta.table_name
                raise SpicaError(f"the table {name} cannot be copied, the target is empty again: {error}") from None
            raise
    return done


def summed(table: type[Table] | type[Private], where: Opened) -> Sum:
    total = _Total()
    for row in _rows(table, where):
        total.add(row)
    return total.sum(table)


class _Total:
    def __init__(self) -> None:
        self.rows, self.digest = 0, 0

    def add(self, row: Sequence[Any]) -> None:
        self.rows += 1
        words = json.dumps(row, ensure_ascii=True, separators=(",", ":")).encode()
        self.digest += int.from_bytes(hashlib.sha256(words).digest(), "big")

    def sum(self, table: type[Table] | type[Private]) -> Sum:
        return Sum(table._meta.table_name, self.rows, f"{self.digest % (1 << 256):064x}")


def _copy(table: type[Table] | type[Private], source: Opened, target: Opened) -> Sum:
    total, rows = _Total(), _rows(table, source)
    mark = "%s" if target.is_mysql else "?"
    columns = _columns(table)
    marks = ", ".join([mark] * len(columns))
    statement = f"INSERT INTO `{table._meta.table_name}` ({_quoted(columns)}) VALUES ({marks})"  # noqa: S608
    with target.of(table).atomic():
        cursor = target.of(table).connection().cursor()
        while batch := list(islice(rows, AT_ONCE)):
            for row in batch:
                total.add(row)
            try:
                cursor.executemany(statement, batch)
            except Exception as error:  # of whichever driver
                raise SpicaError(" ".join(str(each) for each in error.args)[:500]) from None
    return total.sum(table)


def _rows(table: type[Table] | type[Private], where: Opened) -> Iterator[list[Any]]:
    """As they come, not all in memory; each value as its field has it, whichever database it is from."""
    connection = where.of(table).connection()
    if where.is_mysql:
        from pymysql.cursors import SSCursor

        cursor = connection.cursor(SSCursor)
    else:
        cursor = connection.cursor()
    kinds = [_kind(field) for field in table._meta.sorted_fields]
    cursor.execute(f"SELECT {_quoted(_columns(table))} FROM `{table._meta.table_name}`")  # noqa: S608
    try:
        while batch := cursor.fetchmany(AT_ONCE):
            for row in batch:
                yield [None if value is None else kind(value) for kind, value in zip(kinds, row, strict=True)]
    finally:
        cursor.close()


def _kind(field: peewee.Field) -> type:
    if isinstance(field, peewee.BooleanField | peewee.IntegerField):
        return int
    return float if isinstance(field, peewee.DoubleField) else str


def _columns(table: type[Table] | type[Private]) -> list[str]:
    return [field.column_name for field in table._meta.sorted_fields]


def _quoted(columns: Sequence[str]) -> str:
    return ", ".join(f"`{name}`" for name in columns)


class _one_moment:
    """Everything is read as it is at one moment, whatever others write meanwhile."""

    def __init__(self, source: Opened) -> None:
        self.source = source

    def __enter__(self) -> None:
        if self.source.is_mysql:
            self.source.main.execute_sql("SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            self.source.main.execute_sql("START TRANSACTION WITH CONSISTENT SNAPSHOT")
            return
        for each in (self.source.main, self.source.private):
            each.execute_sql("BEGIN")
            each.execute_sql("SELECT COUNT(*) FROM sqlite_master")  # from now on

    def __exit__(self, *error: object) -> None:
        for each in dict.fromkeys((self.source.main, self.source.private)):
            each.execute_sql("ROLLBACK")


def _empty(target: Opened) -> None:
    for table in TABLES:
        target.of(table).execute_sql(f"DELETE FROM `{table._meta.table_name}`")  # noqa: S608

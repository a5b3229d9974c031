"""Statements on one row with their SQL remembered: peewee builds each anew, at ten times the cost of running it.

Tables and their columns are tables.py's; who writes what is the ledger's affair.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from spicad.tables import Table, database

AT_ONCE = 50  # rows of one statement


def insert(table: type[Table], **values: Any) -> int:
    """The new row's number."""
    row = {**_defaults(table), **values}
    cursor = database.execute_sql(_insert(table, tuple(row), 1, database.param), tuple(row.values()))
    return int(database.last_insert_id(cursor) or 0)


def insert_many(table: type[Table], rows: Sequence[Mapping[str, Any]]) -> None:
    """Rows that all have the same columns."""
    for start in range(0, len(rows), AT_ONCE):
        full = [{**_defaults(table), **row} for row in rows[start : start + AT_ONCE]]
        values = [value for row in full for value in row.values()]
        database.execute_sql(_insert(table, tuple(full[0]), len(full), database.param), values)


def update(table: type[Table], where: Mapping[str, Any], **values: Any) -> int:
    """How many rows were changed."""
    statement = _update(table, tuple(where), tuple(values), database.param)
    cursor = database.execute_sql(statement, (*values.values(), *where.values()))
    return int(cursor.rowcount)


def delete(table: type[Table], **where: Any) -> int:
    cursor = database.execute_sql(_delete(table, tuple(where), database.param), tuple(where.values()))
    return int(cursor.rowcount)


def find(table: type[Table], wanted: str, **where: Any) -> Any:
    """One value of the row, None when there is no such row."""
    cursor = database.execute_sql(_select(table, wanted, tuple(where), database.param), tuple(where.values()))
    row = cursor.fetchone()
    return row[0] if row else None


def find_all(table: type[Table], wanted: tuple[str, ...], of: str, values: Sequence[Any]) -> list[tuple[Any, ...]]:
    """These columns of all rows in which column `of` has one of `values`."""
    statement = _select_all(table, wanted, of, len(values), database.param)
    return list(database.execute_sql(statement, tuple(values)).fetchall()) if values else []


@lru_cache
def _defaults(table: type[Table]) -> dict[str, Any]:
    return {field.name: value for field, value in table._meta.defaults.items()}


@lru_cache
def _insert(table: type[Table], names: tuple[str, ...], count: int, param: str) -> str:
    columns = ", ".join(_column(table, name) for name in names)
    values = ", ".join([f"({', '.join([param] * len(names))})"] * count)
    return f"INSERT INTO {_quoted(table._meta.table_name)} ({columns}) VALUES {values}"  # noqa: S608


@lru_cache
def _update(table: type[Table], where: tuple[str, ...], names: tuple[str, ...], param: str) -> str:
    changes = ", ".join(f"{_column(table, name)} = {param}" for name in names)
    return f"UPDATE {_quoted(table._meta.table_name)} SET {changes} WHERE {_all_of(table, where, param)}"  # noqa: S608


@lru_cache
def _delete(table: type[Table], where: tuple[str, ...], param: str) -> str:
    return f"DELETE FROM {_quoted(table._meta.table_name)} WHERE {_all_of(table, where, param)}"  # noqa: S608


@lru_cache
def _select(table: type[Table], wanted: str, where: tuple[str, ...], param: str) -> str:
    return (
        f"SELECT {_column(table, wanted)} FROM {_quoted(table._meta.table_name)} WHERE {_all_of(table, where, param)}"  # noqa: S608
    )


@lru_cache
def _select_all(table: type[Table], wanted: tuple[str, ...], of: str, count: int, param: str) -> str:
    columns, values = ", ".join(_column(table, name) for name in wanted), ", ".join([param] * count)
    return f"SELECT {columns} FROM {_quoted(table._meta.table_name)} WHERE {_column(table, of)} IN ({values})"  # noqa: S608


def _all_of(table: type[Table], where: tuple[str, ...], param: str) -> str:
    return " AND ".join(f"{_column(table, name)} = {param}" for name in where)


def _column(table: type[Table], name: str) -> str:
    return _quoted(table._meta.fields[name].column_name)


def _quoted(name: str) -> str:
    left, right = database.quote
    return f"{left}{name}{right}"

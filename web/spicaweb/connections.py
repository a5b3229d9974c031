"""The site's connections to its tables: opened for a request, and kept by its thread for the next.

Setting one up costs as much as all questions of a page. One to SQLite is kept while the file under its name is the one
that it opened, one to a server while it answers.
"""

from __future__ import annotations

import os
import threading

import peewee

from spicad import tables
from spicad.config import Settings

_kept = threading.local()  # .files: which file this thread's connections were opened on, by its name


def site_tables(settings: Settings) -> peewee.Database:
    """The database that the site uses. Raises SpicaError when it cannot be used."""
    opened = tables.connect(*tables.place_for_site(settings))
    try:
        tables.require_current(make_if_empty=True)
        tables.make_private()
    finally:
        for each in _both(opened):
            _close(each)
    return opened


def begin(opened: peewee.Database) -> None:
    for each in _both(opened):
        if not each.is_closed() and not _is_good(each):
            _close(each)
        if each.is_closed() and isinstance(each, peewee.SqliteDatabase):
            _files()[each.database] = _file(each)  # before it is opened: one put there meanwhile is seen next time
    opened.connect(reuse_if_open=True)


def end(opened: peewee.Database) -> None:
    """Nothing of a request is left for the next one."""
    for each in _both(opened):
        if each.in_transaction():
            _close(each)


def leave() -> None:
    """This thread ends. A server told nothing of that logs each of its connections as aborted."""
    for each in _both(tables.database.obj):
        _close(each)


def _is_good(each: peewee.Database) -> bool:
    if isinstance(each, peewee.SqliteDatabase):
        return _file(each) is not None and _files().get(each.database) == _file(each)
    return bool(each.is_connection_usable())


def _both(opened: peewee.Database) -> tuple[peewee.Database, ...]:
    return (opened, tables.private.obj) if tables.private.obj is not opened else (opened,)


def _close(each: peewee.Database) -> None:
    _files().pop(each.database, None)
    if not each.is_closed():
        each.close()


def _files() -> dict[str, tuple[int, int] | None]:
    if not hasattr(_kept, "files"):
        _kept.files = {}
    found: dict[str, tuple[int, int] | None] = _kept.files
    return found


def _file(each: peewee.Database) -> tuple[int, int] | None:
    try:
        found = os.stat(each.database)
    except OSError:
        return None
    return found.st_dev, found.st_ino

"""`spica database`: how the tables stand, their upgrade, which waits until no daemon runs, and a copy into another."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from spicad import config, tables
from spicad.commands import DONE, FAILED
from spicad.commands.printing import print_json, print_table
from spicad.config import Settings
from spicad.words import SpicaError

ACTIONS = {
    "status": "say which schema there is and which one this Spica needs (exit status 1 when they differ)",
    "upgrade": "bring the tables to the schema of this Spica; stop spicad first",
    "copy": "copy all rows into another, empty database, and compare; stop spicad first, unless it is a backup",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(required=True, metavar="ACTION", dest="action")
    for name, words in ACTIONS.items():
        action = actions.add_parser(name, help=words, description=words)
        if name == "copy":
            action.add_argument("url", metavar="URL", help="where to: sqlite:///FILE or mysql://USER@HOST/NAME")
            action.add_argument("--password-file", metavar="FILE", default="", help="the password there, for mysql")
            action.add_argument("--backup", action="store_true", help="also while spicad runs, as of one moment")
        if name != "upgrade":
            action.add_argument("--json", action="store_true", help="for programs")


def run(arguments: argparse.Namespace) -> int:
    settings = config.load()
    if arguments.action == "upgrade":
        return _upgrade(settings)
    return _copy(settings, arguments) if arguments.action == "copy" else _status(settings, arguments.json)


def _status(settings: Settings, is_json: bool) -> int:
    opened = tables.connect(settings.database.url, settings.database.password_file, read_only=True)
    try:
        version = tables.schema_version()
    finally:
        opened.close()
    is_current = version == tables.NEWEST
    shown = tables.shown_url(settings.database.url)
    if is_json:
        print_json({"database": shown, "schema": version, "needed": tables.NEWEST, "is_current": is_current})
    else:
        mend = (
            "" if is_current else " Run: spica database upgrade" if version < tables.NEWEST else " Install a newer one."
        )
        print(f"{shown}: schema {version}, this Spica needs {tables.NEWEST}.{mend}")
    return DONE if is_current else FAILED


def _upgrade(settings: Settings) -> int:
    from spicad.archive.registering import write_outlines

    _require_no_daemon(settings)
    require_owner(settings)
    # Indexes of a large archive take MariaDB minutes.
    opened = tables.connect(settings.database.url, settings.database.password_file, is_patient=True)
    try:
        if tables.schema_version() > tables.NEWEST:
            tables.require_current()
        done = tables.upgrade(write_outlines)
        for words in done:
            print(f"schema {words}")
    finally:
        opened.close()
    print(f"{tables.shown_url(settings.database.url)}: schema {tables.NEWEST}" + ("" if done else ", nothing to do"))
    if done and (settings.web.database or settings.database.readers):
        print("The accounts of the site and of readers need rights on new tables. As root: spica setup --yes --no-mail")
    return DONE


def _copy(settings: Settings, arguments: argparse.Namespace) -> int:
    from dataclasses import asdict

    from spicad import copying

    if not arguments.backup:
        _require_no_daemon(settings)
    require_owner(settings)
    if arguments.url == settings.database.url:
        raise SpicaError(f"{tables.shown_url(arguments.url)} is the database itself.")
    target = copying.opened_empty(arguments.url, arguments.password_file)
    source = copying.opened(settings.database.url, settings.database.password_file)
    try:
        tables.require_current()
        done = copying.copy(source, target)
    finally:
        source.close()
        target.close()
    if arguments.json:
        print_json([asdict(each) for each in done])
        return DONE
    print_table(
        [[each.table, str(each.rows), each.digest[:16]] for each in done], ("TABLE", "ROWS", "DIGEST"), ("ROWS",)
    )
    print(f"{source.url} and {target.url} hold the same.")
    if not arguments.backup:
        print(f'To use it, write in {settings.source}, [database]: url = "{target.url}"')
    return DONE


def _require_no_daemon(settings: Settings) -> None:
    from spicad.daemon import running_pid

    pid = running_pid(settings)
    if pid:
        raise SpicaError(f"spicad runs on {settings.paths.spool} (pid {pid}). Run spicad stop first.")


def require_owner(settings: Settings) -> None:
    """An SQLite file written by another user than the daemon's would be closed to the daemon."""
    spool = Path(settings.paths.spool)
    if settings.database.url.startswith("sqlite:") and spool.exists() and spool.stat().st_uid != os.geteuid():
        raise SpicaError(f"{spool} belongs to {spool.owner()}. Run this as that user: sudo -u {spool.owner()} ...")

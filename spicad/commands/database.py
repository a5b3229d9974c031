"""`spica database`: how the tables stand, and their upgrade, which waits until no daemon runs."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from spicad import config, tables
from spicad.commands import DONE, FAILED
from spicad.commands.printing import print_json
from spicad.config import Settings
from spicad.words import SpicaError

ACTIONS = {
    "status": "say which schema there is and which one this Spica needs (exit status 1 when they differ)",
    "upgrade": "bring the tables to the schema of this Spica; stop spicad first",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(required=True, metavar="ACTION", dest="action")
    for name, words in ACTIONS.items():
        action = actions.add_parser(name, help=words, description=words)
        if name == "status":
            action.add_argument("--json", action="store_true", help="for programs")


def run(arguments: argparse.Namespace) -> int:
    settings = config.load()
    return _upgrade(settings) if arguments.action == "upgrade" else _status(settings, arguments.json)


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
    from spicad.daemon import running_pid

    pid = running_pid(settings)
    if pid:
        raise SpicaError(f"spicad runs on {settings.paths.spool} (pid {pid}). Run spicad stop first.")
    require_owner(settings)
    opened = tables.connect(settings.database.url, settings.database.password_file)
    try:
        if tables.schema_version() > tables.NEWEST:
            tables.require_current()
        done = tables.upgrade()
    finally:
        opened.close()
    for words in done:
        print(f"schema {words}")
    print(f"{tables.shown_url(settings.database.url)}: schema {tables.NEWEST}" + ("" if done else ", nothing to do"))
    return DONE


def require_owner(settings: Settings) -> None:
    """An SQLite file written by another user than the daemon's would be closed to the daemon."""
    spool = Path(settings.paths.spool)
    if settings.database.url.startswith("sqlite:") and spool.exists() and spool.stat().st_uid != os.geteuid():
        raise SpicaError(f"{spool} belongs to {spool.owner()}. Run this as that user: sudo -u {spool.owner()} ...")

"""`spica retention`: which products go next, and why deletion pauses; --go-on has a stopped deletion go on.

What goes when is decided in spicad/retention.py; the days come from the tables, which the sweeps keep up to date.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from spicad import config, sweeping
from spicad.commands import DONE
from spicad.commands.dropping import drop, order_text, wait_until_taken
from spicad.commands.printing import clock, how_many, iso, print_json, print_table
from spicad.commands.tables import open_tables
from spicad.spool import Spool
from spicad.tables import Process

USUAL_LIMIT = 50


def add_arguments(parser: argparse.ArgumentParser) -> None:
    words = "delete what was asked for, and believe the clock; for administrators"
    parser.add_argument("--go-on", action="store_true", help=words)
    words = "at most so many; 0: all (%(default)s)"
    parser.add_argument("--limit", metavar="N", type=how_many, default=USUAL_LIMIT, help=words)
    parser.add_argument("--json", action="store_true", help="for programs")


def run(arguments: argparse.Namespace) -> int:
    settings = config.load()
    if arguments.go_on:
        wait_until_taken(settings, drop(settings, "sweep", order_text("sweep")))
        print("deletion goes on with the next sweep")
        return DONE
    with open_tables(settings):
        query: Any = Process.select().where(Process.expires.is_null(False)).order_by(Process.expires, Process.id)
        rows = list(query.limit(arguments.limit) if arguments.limit > 0 else query)
    state = sweeping.read_state(Spool(Path(settings.paths.spool)))
    if arguments.json:
        going = [{"process": row.id, "name": row.name, "owner": row.owner, "expires": iso(row.expires)} for row in rows]
        print_json({"paused": state.paused, "asked": [process for process, _ in state.asked], "going": going})
        return DONE
    if state.paused:
        print(f"Nothing is deleted: {state.paused}. When the clock is right: spica retention --go-on")
    if state.asked:
        numbers = ", ".join(str(process) for process, _ in state.asked)
        print(f"These wait for a word of an administrator: {numbers}. To let them go: spica retention --go-on")
    cells = [[str(row.id), row.name, row.owner, row.group, clock(row.expires)] for row in rows]
    if cells:
        print_table(cells, ("id", "name", "user", "group", "goes"), right=("id",))
    return DONE

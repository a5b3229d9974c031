"""What `snooppix` says and does beside watching: the refused with their reasons, the counts, another try."""

from __future__ import annotations

import argparse
import time
from typing import Any

from spicad.archive.snooppix import REFUSED, WAITING, counts
from spicad.commands import DONE, NOTHING, NothingFound
from spicad.commands.printing import clock, complain, iso, print_json, print_table
from spicad.commands.tables import change_tables, open_tables
from spicad.config import Settings
from spicad.report import size
from spicad.tables import Seen, Transfer

MOST_SHOWN = 200


def answer(settings: Settings, arguments: argparse.Namespace) -> int:
    try:
        if arguments.retry or arguments.accept:
            with change_tables(settings, "Run this as the user of spicad."):
                return try_again(arguments.retry or arguments.accept, is_accepted=bool(arguments.accept))
        with open_tables(settings):
            return refused(arguments.json) if arguments.refused else report(arguments.json)
    except NothingFound as error:
        complain(str(error))
        return NOTHING


def refused(is_json: bool) -> int:
    rows = [as_record(row) for row in Seen.select().where(Seen.state == REFUSED).order_by(Seen.id)]
    if is_json:
        print_json(rows)
    elif rows:
        print_table([[clock(row["ended_s"]), row["path"], row["why"]] for row in rows], ("refused", "file", "why"))
    return DONE if rows else NOTHING


def as_record(row: Seen) -> dict[str, Any]:
    return {
        "file": row.name,
        "path": row.path,
        "state": row.state,
        "why": row.why,
        "bytes": row.bytes,
        "first_seen": iso(row.first_seen),
        "ended": iso(row.ended),
        "ended_s": row.ended,
        "exposure": row.exposure,
    }


def report(is_json: bool) -> int:
    found = counts()
    waits = [as_record(row) for row in Seen.select().where(Seen.state == WAITING).order_by(Seen.id)]
    moving = Transfer.select().where(Transfer.state.in_(("waiting", "moving", "paused"))).count()
    if is_json:
        print_json({**found, "transfers": moving, "files": waits})
        return DONE
    print(
        f"{found['seen']} seen = {found['registered']} registered + {found['refused']} refused "
        f"+ {found['waiting']} waiting"
    )
    if waits:
        print()
        shown = [[size(row["bytes"]), row["path"], row["why"]] for row in waits[:MOST_SHOWN]]
        print_table(shown, ("size", "waits", "for"), right=("size",))
    if len(waits) > MOST_SHOWN:
        print(f"and {len(waits) - MOST_SHOWN} more")
    if found["refused"]:
        print("\nWhat was refused, and why: snooppix --refused")
    if moving:
        print("\nWhat is on its way: spica transfer")
    return DONE


def try_again(names: list[str], is_accepted: bool) -> int:
    """Refused files are waited for anew; with `is_accepted` also as another version of a name that is known."""
    for name in names:
        of_name = (Seen.state == REFUSED) & ((Seen.name == name) | (Seen.path == name)) & (Seen.identity != "")
        row = Seen.select().where(of_name).order_by(Seen.id.desc()).first()
        if row is None:
            raise NothingFound(f"no file {name} was refused that is still there. See: snooppix --refused")
        changes: dict[str, Any] = {"state": WAITING, "why": "it is looked at again.", "ended": None}
        changes |= {"changed": time.time(), "is_accepted": is_accepted}
        Seen.update(**changes).where((Seen.id == row.id) & (Seen.state == REFUSED)).execute()
        print(f"{row.path} is looked at again")
    return DONE

"""`spica list`: processes, the newest first, everybody's unless --user or --mine narrows it."""

from __future__ import annotations

import argparse
import getpass
import re
import sys
import time
from datetime import UTC, datetime, timedelta
from typing import Any

from peewee import SQL, NodeList, Value

from spicad import config
from spicad.commands import DONE, NOTHING
from spicad.commands.printing import clipped, complain, how_many, iso, print_json, print_table
from spicad.commands.tables import open_tables
from spicad.tables import Process
from spicad.words import BadInput, Phase, Problem, nearest

USUAL_LIMIT = 50
LONGEST_NAME = 24  # on a terminal
UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--phase", metavar="PHASE", help="only these phases, between commas, such as queued,executing")
    who = parser.add_mutually_exclusive_group()
    who.add_argument("--user", metavar="USER", help="only the processes of this user")
    who.add_argument("--mine", action="store_true", help="only your own")
    add("--name", metavar="NAME", help="only processes of this name; * stands for any characters")
    add("--since", metavar="TIME", help="only those submitted since: 3h, 2d, 2004-03-21 or 2004-03-21T18:00 (UTC)")
    add("--limit", metavar="N", type=how_many, default=USUAL_LIMIT, help="at most so many; 0: all (%(default)s)")
    add("--json", action="store_true", help="for programs")


def run(arguments: argparse.Namespace) -> int:
    query = _query(arguments)
    with open_tables(config.load()):
        limit = arguments.limit
        rows = list(query.limit(limit + 1) if limit else query)
    shown = rows[:limit] if limit else rows
    if arguments.json:
        print_json([as_record(row) for row in shown])
    elif shown:
        _print(shown)
    if not shown:
        if not arguments.json:
            complain("there is no such process." if _is_narrowed(arguments) else "there is no process yet.")
        return NOTHING
    if len(rows) > len(shown) and sys.stderr.isatty():
        complain(f"these are the newest {limit}; more with --limit N, all with --limit 0.")
    return DONE


def _is_narrowed(arguments: argparse.Namespace) -> bool:
    return any((arguments.phase, arguments.user, arguments.mine, arguments.name, arguments.since))


def _query(arguments: argparse.Namespace) -> Any:
    query = Process.select().order_by(Process.id.desc())
    if arguments.phase:
        query = query.where(Process.phase.in_([phase.value for phase in _phases(arguments.phase)]))
    if arguments.user or arguments.mine:
        query = query.where(Process.owner == (arguments.user or getpass.getuser()))
    if arguments.name:
        query = query.where(Process.name ** NodeList((Value(like(arguments.name)), SQL("ESCAPE '!'"))))
    if arguments.since:
        query = query.where(Process.submitted >= since(arguments.since, time.time()))
    return query


def like(pattern: str) -> str:
    """An SQL pattern, escaped with !, that has * for any characters and nothing else that is special."""
    return re.sub("([!%_])", r"!\1", pattern).replace("*", "%")


def _phases(words: str) -> list[Phase]:
    found, problems = [], []
    for word in words.upper().split(","):
        try:
            found.append(Phase(word.strip()))
        except ValueError:
            mend = nearest(word, Phase) or f"Known: {', '.join(Phase)}."
            problems.append(Problem("--phase", f'there is no phase "{word.strip()}".', mend))
    if problems:
        raise BadInput(problems)
    return found


def since(words: str, now: float) -> float:
    """Seconds since 1970 of '2d' ago or of a date, UTC unless it says otherwise. Raises BadInput."""
    ago = re.fullmatch(r"(\d{1,6})\s*([mhdw])", words)
    if ago:
        return now - timedelta(**{UNITS[ago[2]]: int(ago[1])}).total_seconds()
    try:
        moment = datetime.fromisoformat(words)
    except ValueError:
        mend = "Write 3h, 2d, 2004-03-21 or 2004-03-21T18:00."
        raise BadInput(Problem("--since", f'"{words}" is not a time.', mend)) from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def as_record(row: Process) -> dict[str, Any]:
    return {
        "process": row.id,
        "name": row.name,
        "owner": row.owner,
        "group": row.group,
        "phase": row.phase,
        "run": row.run,
        "steps_done": row.steps_done,
        "steps_total": row.steps_total,
        "submitted": iso(row.submitted),
        "started": iso(row.started),
        "ended": iso(row.ended),
        "expires": iso(row.expires),
        "why": row.why,
        "folder": row.capsule,
    }


def _print(rows: list[Process]) -> None:
    longest = LONGEST_NAME if sys.stdout.isatty() else 200
    cells = [
        [
            str(row.id),
            clipped(row.name, longest),
            row.owner,
            row.phase,
            f"{row.steps_done}/{row.steps_total}",
            datetime.fromtimestamp(row.submitted).strftime("%m-%d %H:%M"),
            datetime.fromtimestamp(row.expires).strftime("%m-%d") if row.expires else "",
            "" if row.phase == Phase.QUEUED and row.why.startswith("taken from") else row.why,
        ]
        for row in rows
    ]
    print_table(cells, ("id", "name", "user", "phase", "steps", "submitted", "kept to", "why"), right=("id", "steps"))

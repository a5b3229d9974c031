"""`spica queue`: who goes first: what executes and what waits, in the order of the scores, with what holds each.

The order and the terms are those of spicad/waiting.py; one process by itself is told by `spica explain`.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

from spicad import config
from spicad.commands import DONE, NOTHING
from spicad.commands.explain import OF_WAITING, slots_in_use
from spicad.commands.printing import clipped, clock, coloured, complain, how_many, print_json, print_table
from spicad.commands.tables import open_tables
from spicad.fair_share import recent_use
from spicad.node import drained, hours_limit, limits_of, node_limit, seen, weights_of
from spicad.tables import Process
from spicad.waiting import Queue, Waiting, Wish, binding_limit, order, terms_of
from spicad.words import Phase, Rank

USUAL_LIMIT = 50
LONGEST_NAME = 24
TERMS = ("locality", "load", "age", "fair share")  # beside the rank, which has a column


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--scores", action="store_true", help="each term of the score")
    add("--limit", metavar="N", type=how_many, default=USUAL_LIMIT, help="at most so many; 0: all (%(default)s)")
    add("--json", action="store_true", help="for programs")


def run(arguments: argparse.Namespace) -> int:
    settings, now = config.load(), time.time()
    with open_tables(settings):
        line = in_line(settings, now, arguments.limit)
    if arguments.json:
        print_json(line)
    elif line:
        _print(line, arguments.scores)
    else:
        complain("nothing waits.")
    if words := drained(settings):
        complain(f"no further step starts on {settings.daemon.node}: {words}")
    return DONE if line else NOTHING


def in_line(settings: config.Settings, now: float, limit: int = 0) -> list[dict[str, Any]]:
    """The processes that execute or wait, the first to go first; the tables are open."""
    by = Queue(weights_of(settings), recent_use(now))
    phases = (Phase.QUEUED.value, Phase.EXECUTING.value)
    rows: Any = Process.select(Process.name, Process.phase, *OF_WAITING).where(Process.phase.in_(phases)).tuples()
    about = {row[3]: (row[0], row[1], Waiting(*row[2:])) for row in rows}
    ordered = order([waiting for _, _, waiting in about.values()], now, by)
    holds = _holds(settings, now)
    idle = seen(settings).idle
    found = []
    for place, waiting in enumerate(ordered[: limit or None], 1):
        name, phase, _ = about[waiting.process]
        terms = terms_of(waiting, now, by.use, by.weights, idle)
        found.append(
            {
                "place": place,
                "process": waiting.process,
                "name": name,
                "owner": waiting.user,
                "group": waiting.group,
                "rank": Rank(waiting.rank).words,
                "phase": phase,
                "score": {**terms, "total": sum(terms.values())},
                "holds": holds(waiting) if phase == Phase.QUEUED else "",
            }
        )
    return found


def _holds(settings: config.Settings, now: float) -> Any:
    """For a queued process, what keeps it from starting, in words."""
    node, in_use, limits = node_limit(settings), slots_in_use(), limits_of(settings)

    def why(waiting: Waiting) -> str:
        if waiting.not_before > now:
            return f"not before {clock(waiting.not_before)}"
        hours = hours_limit(settings, waiting.rank, now)
        return node or hours or binding_limit(Wish(waiting.user, waiting.group, waiting.rank), in_use, limits)

    return why


def _print(line: list[dict[str, Any]], with_scores: bool) -> None:
    head = ["place", "id", "name", "user", "rank", "phase", "score", *(TERMS if with_scores else ("waits since",))]
    rows = []
    for each in line:
        score = each["score"]
        row = [each["place"], each["process"], clipped(each["name"], LONGEST_NAME), each["owner"], each["rank"]]
        row += [coloured(each["phase"]), f"{score['total']:.1f}"]
        row += [f"{score[term]:.1f}" for term in TERMS] if with_scores else [each["holds"]]
        rows.append([str(cell) for cell in row])
    print_table(rows, head, right=("place", "id", "score", *TERMS))

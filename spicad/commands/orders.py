"""`spica hold`, `release` and `cancel`: an order dropped for each process, then what became of it.

The daemon judges who may; here is only what is asked, and what its row says afterwards.
"""

from __future__ import annotations

import argparse
import time

from spicad import config
from spicad.commands import DONE, FAILED, NOTHING, NothingFound
from spicad.commands.dropping import drop, order_text, wait_until_taken
from spicad.commands.printing import coloured, complain
from spicad.commands.tables import open_tables, processids, row_of
from spicad.config import Settings
from spicad.tables import Process
from spicad.words import Phase, SpicaError

LOOK_S = 0.02
PATIENCE_S = 5.0
HOLD_PATIENCE_S = 1.0  # a hold of a running process waits for its steps, which may take hours
WANTED = {"hold": (Phase.HELD,), "release": (Phase.QUEUED, Phase.EXECUTING), "cancel": (Phase.ABORTED,)}
LATER = {
    "hold": "will be HELD when the steps that run now have ended",
    "release": "is to be released",
    "cancel": "is being ended",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    words = "such as 12, 000012 or 14-20; of a range, those that exist"
    parser.add_argument("processes", metavar="PROCESSID", nargs="+", help=words)
    parser.add_argument("--why", metavar="TEXT", default="", help="the reason, kept with the process")


def run(arguments: argparse.Namespace) -> int:
    settings, verb = config.load(), arguments.command
    with open_tables(settings):
        processes = processids(arguments.processes)
    dropped: dict[int, str] = {}
    failures: list[int] = []
    for process in processes:
        try:
            dropped[process] = give(settings, verb, process, arguments.why)
        except NothingFound as error:
            complain(str(error))
            failures.append(NOTHING)
    for process, name in dropped.items():
        try:
            wait_until_taken(settings, name)
            print(f"process {process} {_result(settings, verb, process)}", flush=True)
        except SpicaError as error:
            complain(str(error))
            failures.append(FAILED)
    return max(failures) if len(failures) == len(processes) else FAILED if failures else DONE


def give(settings: Settings, verb: str, process: int, why: str = "", is_fresh: bool = False, days: float = 0.0) -> str:
    """Drops the order; returns the name of the drop. Raises NothingFound."""
    with open_tables(settings):
        row_of(process)
    return drop(settings, f"{verb}-{process:06d}", order_text(verb, process, why, is_fresh, days))


def _result(settings: Settings, verb: str, process: int) -> str:
    """What the row says once the order was obeyed: the tables are written a moment later."""
    until = time.monotonic() + PATIENCE_S
    hold_until = time.monotonic() + HOLD_PATIENCE_S
    while time.monotonic() < until:
        row = _row(settings, process)
        if row.phase in WANTED[verb]:
            return f"is {coloured(row.phase)}"
        if verb == "hold" and row.phase == Phase.EXECUTING and time.monotonic() > hold_until:
            break
        time.sleep(LOOK_S)
    return LATER[verb]


def _row(settings: Settings, process: int) -> Process:
    with open_tables(settings):
        return row_of(process)

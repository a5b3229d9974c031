"""`spica delete`: the products of processes go at once, and make room; their recipes stay.

An order is dropped for each; who may is judged by the daemon.
"""

from __future__ import annotations

import argparse
import sys

from spicad import config
from spicad.commands import DONE, FAILED
from spicad.commands.dropping import wait_until_taken
from spicad.commands.orders import give
from spicad.commands.printing import complain
from spicad.commands.tables import open_tables, processids
from spicad.words import BadInput, Problem, SpicaError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("processes", metavar="PROCESSID", nargs="+", help="such as 12, 000012 or 14-20")
    parser.add_argument("--yes", action="store_true", help="do not ask")
    parser.add_argument("--why", metavar="TEXT", default="", help="the reason, kept with the process")


def run(arguments: argparse.Namespace) -> int:
    settings = config.load()
    with open_tables(settings):
        processes = processids(arguments.processes)
    if not arguments.yes and not _is_meant(processes):
        return FAILED
    dropped = {process: give(settings, "delete", process, arguments.why) for process in processes}
    status = DONE
    for process, name in dropped.items():
        try:
            wait_until_taken(settings, name)
            print(f"process {process}: its products are deleted. To make them again: spica rebuild {process}")
        except SpicaError as error:
            complain(str(error))
            status = FAILED
    return status


def _is_meant(processes: list[int]) -> bool:
    """Raises BadInput where nobody can be asked."""
    if not sys.stdin.isatty():
        raise BadInput(Problem("spica delete", "there is no terminal to ask on.", "Add --yes."))
    shown = ", ".join(map(str, processes[:20])) + (f" and {len(processes) - 20} more" if len(processes) > 20 else "")
    return input(f"Delete the products of {shown}? Type yes: ").strip().lower() in ("yes", "y")

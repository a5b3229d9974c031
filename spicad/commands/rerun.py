"""`spica rerun`: another run of a process that is over. Finished steps whose inputs are the same are reused."""

from __future__ import annotations

import argparse

from spicad import config
from spicad.commands import DONE
from spicad.commands.dropping import wait_until_taken
from spicad.commands.orders import give
from spicad.commands.tables import open_tables, processid, row_of
from spicad.commands.watching import wait_for_run, watch
from spicad.config import Settings


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("process", metavar="PROCESSID", help="such as 12 or 000012")
    parser.add_argument(
        "--fresh", action="store_true", help="from the recipe of the last run, reusing no finished step"
    )
    parser.add_argument("--why", metavar="TEXT", default="", help="the reason, kept with the process")
    parser.add_argument("--watch", action="store_true", help="then show its progress until it ends")


def run(arguments: argparse.Namespace) -> int:
    settings, process = config.load(), processid(arguments.process)
    number = begin(settings, process, arguments.why, arguments.fresh)
    print(f"process {process}, run {number}", flush=True)
    return watch(settings, process, number) if arguments.watch else DONE


def begin(settings: Settings, process: int, why: str, is_fresh: bool) -> int:
    """Orders another run and returns its number. Raises SpicaError when the daemon refuses."""
    with open_tables(settings):
        number = row_of(process).run + 1
    wait_until_taken(settings, give(settings, "rerun", process, why, is_fresh))
    wait_for_run(settings, process, number)
    return number

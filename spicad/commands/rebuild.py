"""`spica rebuild`: the products of a process are made again from its recipe, also long after they have gone.

The same as `spica rerun --fresh`, but a job file that has left the spool is taken from the capsule.
"""

from __future__ import annotations

import argparse

from spicad import config
from spicad.commands import DONE
from spicad.commands.dropping import wait_until_taken
from spicad.commands.orders import give
from spicad.commands.tables import open_tables, processid, row_of
from spicad.commands.watching import wait_for_run, watch


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("process", metavar="PROCESSID", help="such as 12 or 000012")
    parser.add_argument("--why", metavar="TEXT", default="", help="the reason, kept with the process")
    parser.add_argument("--watch", action="store_true", help="then show its progress until it ends")


def run(arguments: argparse.Namespace) -> int:
    settings, process = config.load(), processid(arguments.process)
    with open_tables(settings):
        number = row_of(process).run + 1
    wait_until_taken(settings, give(settings, "rebuild", process, arguments.why))
    wait_for_run(settings, process, number)
    print(f"process {process}, run {number}", flush=True)
    return watch(settings, process, number) if arguments.watch else DONE

"""`spica keep`: the products of a process live longer than usual, within the limits of spica.conf.

An order is dropped; who may, and until when, is judged by the daemon.
"""

from __future__ import annotations

import argparse

from spicad import config
from spicad.commands import DONE
from spicad.commands.dropping import wait_until_taken
from spicad.commands.orders import give
from spicad.commands.tables import processid


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("process", metavar="PROCESSID", help="such as 12 or 000012")
    parser.add_argument("--days", metavar="N", type=float, default=0.0, help="from now; without this as long as may be")
    parser.add_argument("--why", metavar="TEXT", default="", help="the reason, kept with the process")


def run(arguments: argparse.Namespace) -> int:
    settings, process = config.load(), processid(arguments.process)
    wait_until_taken(settings, give(settings, "keep", process, arguments.why, days=arguments.days))
    print(f"process {process}: its products are kept; spica show {process} tells until when")
    return DONE

"""`spica quota`: what users and groups have on the disk, and how much they may have.

The daemon measures after each end of a run and each deletion; decisions are in spicad/quota.py.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict

from spicad import config, quota
from spicad.commands import DONE, NOTHING
from spicad.commands.printing import complain, print_json, print_table
from spicad.commands.tables import open_tables


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("names", metavar="NAME", nargs="*", help="only these users and groups")
    parser.add_argument("--json", action="store_true", help="for programs")


def run(arguments: argparse.Namespace) -> int:
    with open_tables(config.load()):
        found = quota.standings(*arguments.names)
    if arguments.json:
        print_json([{**asdict(each), "percent": round(each.percent, 2)} for each in found])
    elif found:
        cells = [
            [
                each.kind,
                each.name,
                quota.gigabytes(each.used),
                quota.gigabytes(each.most) if each.most else "no limit",
                f"{each.percent:.0f}%" if each.most else "",
            ]
            for each in found
        ]
        print_table(cells, ("of", "name", "used", "quota", "share"), right=("used", "quota", "share"))
    else:
        complain("nothing has been measured yet.")
    return DONE if found else NOTHING

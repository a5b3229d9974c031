"""`spica selection`: what is done with saved selections of exposures; they are made by `spica find --save`."""

from __future__ import annotations

import argparse
import os
from typing import Any

from spicad import config, people
from spicad.archive import selections
from spicad.commands import DONE, NOTHING
from spicad.commands.printing import clock, complain, print_json, print_table
from spicad.commands.tables import change_tables, open_tables
from spicad.people import Person


def add_arguments(parser: argparse.ArgumentParser) -> None:
    verbs = parser.add_subparsers(required=True, metavar="VERB", dest="verb")
    listing = verbs.add_parser("list", help="those that you may use")
    listing.add_argument("--json", action="store_true", help="for programs")
    for verb, words in (("merge", "make a selection of all that is in others"), ("subtract", "of one without others")):
        each = verbs.add_parser(verb, help=words)
        each.add_argument("name", help="of the new selection")
        each.add_argument("others", nargs="+", metavar="selection", help="NAME, or OWNER/NAME of another's")
        each.add_argument("--replace", action="store_true", help="instead of the selection of that name")
    for verb, words in (
        ("share", "let your group use it"),
        ("unshare", "let your group no longer use it"),
        ("delete", "delete it; the exposures stay"),
    ):
        verbs.add_parser(verb, help=words).add_argument("name", help="of the selection")


def run(arguments: argparse.Namespace) -> int:
    settings = config.load()
    actor = people.person(os.getuid(), settings)
    if arguments.verb == "list":
        with open_tables(settings):
            return _list(actor, arguments.json)
    with change_tables(settings):
        _do(arguments, actor)
    return DONE


def _do(arguments: argparse.Namespace, actor: Person) -> None:
    if arguments.verb in ("share", "unshare"):
        selections.share(actor, arguments.name, arguments.verb == "share")
    elif arguments.verb == "delete":
        selections.delete(actor, arguments.name)
    else:
        first, *rest = arguments.others
        is_merge = arguments.verb == "merge"
        numbers = selections.merged(actor, arguments.others) if is_merge else selections.subtracted(actor, first, rest)
        words = f"{arguments.verb} {' '.join(arguments.others)}"[:200]
        selections.save(actor, arguments.name, numbers, words, replaces=arguments.replace)
        print(f"{arguments.name}: {len(numbers)} exposures")


def _list(actor: Person, is_json: bool) -> int:
    saved = selections.visible(actor)
    if is_json:
        print_json([_record(each) for each in saved])
    elif saved:
        cells = [
            [
                each.name if each.owner == actor.user else f"{each.owner}/{each.name}",
                str(each.count), each.group if each.is_shared else "-", clock(each.changed), each.words,
            ]
            for each in saved
        ]  # fmt: skip
        print_table(cells, ("selection", "exposures", "shared with", "changed", "from"), right=("exposures",))
    else:
        complain("there is no selection yet. Save one: spica find ... --save NAME")
    return DONE if saved else NOTHING


def _record(each: selections.Saved) -> dict[str, Any]:
    return {
        "name": each.name,
        "owner": each.owner,
        "group": each.group,
        "shared": each.is_shared,
        "exposures": each.count,
        "from": each.words,
        "changed": each.changed,
    }

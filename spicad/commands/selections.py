"""`spica selection`: what is done with saved selections of exposures; they are made by `spica find --save`."""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping, Sequence
from typing import Any

from spicad import config, people
from spicad.archive import selections
from spicad.commands import DONE, NOTHING
from spicad.commands.dropping import drop, wait_until_taken
from spicad.commands.printing import clock, complain, print_json, print_table
from spicad.commands.tables import change_tables, may_change, open_tables
from spicad.config import Settings
from spicad.jobfile import MOST_BYTES
from spicad.people import Person
from spicad.schema import as_toml
from spicad.words import SpicaError

TAGGED_AT_ONCE = 5000  # exposures of one order: their numbers must fit into a job file


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
    with (change_tables if may_change(settings) and arguments.verb != "list" else open_tables)(settings):
        if arguments.verb == "list":
            return _list(actor, arguments.json)
        _do(arguments, actor, settings)
    return DONE


def save(
    settings: Settings, actor: Person, name: str, numbers: Sequence[int], words: str, is_shared: bool, replaces: bool
) -> None:
    """Into the tables, or where they are not for `actor` to write by the daemon. Raises SpicaError."""
    if may_change(settings):
        selections.save(actor, name, numbers, words, is_shared, replaces)
        return
    order(settings, "save", name, exposures=selections.as_ranges(numbers), share=is_shared, replace=replaces, why=words)


def put_tag(settings: Settings, actor: Person, tag: str, numbers: Sequence[int]) -> str:
    """As `save`; returns what is to be said of it."""
    if may_change(settings):
        return f"{selections.tag(actor, tag, numbers)} exposures have the tag {tag} now."
    _order_about_tag(settings, "put-tag", tag, numbers)
    return f"{len(numbers)} exposures have the tag {tag} now."


def take_tag(settings: Settings, actor: Person, tag: str, numbers: Sequence[int]) -> str:
    if may_change(settings):
        return f"{selections.untag(actor, tag, numbers)} exposures have lost the tag."
    _order_about_tag(settings, "take-tag", tag, numbers)
    return "those that had the tag by you have lost it."


def _order_about_tag(settings: Settings, verb: str, tag: str, numbers: Sequence[int]) -> None:
    for start in range(0, len(numbers), TAGGED_AT_ONCE):
        some = selections.as_ranges(numbers[start : start + TAGGED_AT_ONCE])
        _drop_order(settings, {"order": verb, "tag": tag, "exposures": some}, tag)


def order(settings: Settings, verb: str, name: str, **more: str | bool) -> None:
    values = {"order": f"{verb}-selection", "selection": name, **{key: each for key, each in more.items() if each}}
    _drop_order(settings, values, name)


def _drop_order(settings: Settings, values: Mapping[str, str | bool], name: str) -> None:
    text = "".join(f"{key} = {as_toml(each)}\n" for key, each in values.items()) + "[end]\n"
    if len(text) > MOST_BYTES:
        what = f"{name}: so many exposures can only be saved by who may write to the database."
        raise SpicaError(f"{what} Save it on the web pages, or ask who runs Spica.")
    wait_until_taken(settings, drop(settings, str(values["order"]), text))


def _do(arguments: argparse.Namespace, actor: Person, settings: Settings) -> None:
    if arguments.verb in ("share", "unshare", "delete") and not may_change(settings):
        order(settings, arguments.verb, arguments.name)
    elif arguments.verb in ("share", "unshare"):
        selections.share(actor, arguments.name, arguments.verb == "share")
    elif arguments.verb == "delete":
        selections.delete(actor, arguments.name)
    else:
        first, *rest = arguments.others
        is_merge = arguments.verb == "merge"
        numbers = selections.merged(actor, arguments.others) if is_merge else selections.subtracted(actor, first, rest)
        words = f"{arguments.verb} {' '.join(arguments.others)}"[:200]
        save(settings, actor, arguments.name, numbers, words, False, arguments.replace)
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

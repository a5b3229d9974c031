"""`spica group`: reduction groups of the site, made and filled on the machine; the site's pages do the same."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

from spicad import accounts
from spicad.commands import DONE, NOTHING
from spicad.commands.accounts import account_named, group_named, open_accounts, typist
from spicad.commands.printing import complain, print_json, print_table
from spicad.schema import REQUIRED, Key, checked, read_toml
from spicad.words import SpicaError

ACTIONS = {
    "add": "make a group",
    "load": "make the groups in a file that are not there yet; etc/examples/groups.toml is one",
    "list": "list the groups",
    "join": "put an account into a group",
    "leave": "take an account out of a group; its processes stay",
}
GROUP_KEYS = (
    Key("name", "text", REQUIRED, "Small letters, digits and -; it stands in folders and files"),
    Key("title", "text", REQUIRED, "The name for people"),
    Key("description", "text", "", "What it is for"),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(required=True, metavar="ACTION", dest="action")
    for name, words in ACTIONS.items():
        action = actions.add_parser(name, help=words, description=words)
        if name == "list":
            action.add_argument("--json", action="store_true", help="for programs")
        elif name == "load":
            action.add_argument("file", metavar="FILE", help="TOML with one [[group]] for each")
        else:
            action.add_argument("group", metavar="GROUP", help="the group's name")
        if name == "add":
            action.add_argument("--title", metavar="WORDS", default="", help="the name for people")
            action.add_argument("--description", metavar="WORDS", default="", help="what it is for")
        if name in ("join", "leave"):
            action.add_argument("name", metavar="NAME", help="the user name")
        if name == "join":
            action.add_argument("--administrator", action="store_true", help="administers the group from now on")


def run(arguments: argparse.Namespace) -> int:
    with open_accounts():
        if arguments.action == "list":
            return _list(arguments.json)
        if arguments.action == "load":
            return _load(Path(arguments.file))
        if arguments.action == "add":
            _add(arguments.group, arguments.title, arguments.description)
            return DONE
        return _member(arguments)


def _add(name: str, title: str, description: str) -> None:
    now = time.time()
    accounts.add_group(name, title, description, now)
    accounts.note(typist(), "group made", name, name, now=now)
    print(f"group {name}")


def _load(path: Path) -> int:
    try:
        document = read_toml(path.read_text(encoding="utf-8"), str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise SpicaError(f"{path}: {error}") from None
    checked(document, (Key("group", "list of tables", REQUIRED, "One [[group]] for each"),))
    for index in range(len(document.table["group"])):
        values = checked(document, GROUP_KEYS, ("group", index))
        if accounts.group_named(values["name"]) is None:
            _add(values["name"], values["title"], values["description"])
    return DONE


def _list(is_json: bool) -> int:
    records: list[dict[str, Any]] = []
    for each in accounts.groups():
        people = accounts.members(each.name)
        names = [account.name for account, membership in people if membership.is_administrator]
        records.append({"name": each.name, "title": each.title, "members": len(people), "administrators": names})
    if is_json:
        print_json(records)
    elif records:
        rows = [
            [each["name"], each["title"], str(each["members"]), ", ".join(each["administrators"])] for each in records
        ]
        print_table(rows, ("NAME", "TITLE", "MEMBERS", "ADMINISTRATORS"), right=("MEMBERS",))
    else:
        complain("there is no group yet. Make some with: spica group load etc/examples/groups.toml")
    return DONE if records else NOTHING


def _member(arguments: argparse.Namespace) -> int:
    group, account, now = group_named(arguments.group), account_named(arguments.name), time.time()
    if arguments.action == "join":
        accounts.join(account, group.name, now, arguments.administrator)
        said = "joined as administrator" if arguments.administrator else "joined"
    elif accounts.leave(account, group.name):
        said = "left"
    else:
        raise SpicaError(f"{account.name} is not in {group.name}.")
    accounts.note(typist(), f"{said} group", account.name, group.name, now=now)
    print(f"group {group.name}: {account.name} {said}")
    return DONE

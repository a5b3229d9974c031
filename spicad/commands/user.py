"""`spica user`: accounts of the site, made and changed on the machine. The first Administrator is made here."""

from __future__ import annotations

import argparse
import time

from spicad import accounts, passwords
from spicad.commands import DONE, NOTHING
from spicad.commands.accounts import account_named, group_named, new_password, open_accounts, typist
from spicad.commands.printing import complain, print_json, print_table
from spicad.outbox import address_problem
from spicad.tables import Account
from spicad.words import Rank, SpicaError

ACTIONS = {
    "add": "make an account that can be used at once",
    "list": "list the accounts",
    "password": "set a password, and end all sessions",
    "suspend": "let nobody log in any more; all data are kept",
    "restore": "let a suspended account be used again",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(required=True, metavar="ACTION", dest="action")
    for name, words in ACTIONS.items():
        action = actions.add_parser(name, help=words, description=words)
        if name == "list":
            action.add_argument("--json", action="store_true", help="for programs")
            continue
        action.add_argument("name", metavar="NAME", help="the user name")
        if name in ("add", "password"):
            action.add_argument("--stdin", action="store_true", help="read the password from standard input")
        if name == "add":
            _add_details(action)


def _add_details(action: argparse.ArgumentParser) -> None:
    add = action.add_argument
    add("--mail", metavar="ADDRESS", required=True, help="the mail address")
    add("--full-name", metavar="WORDS", default="", help="the person's name")
    add("--group", metavar="GROUP", default="", help="the reduction group")
    add("--administrator", action="store_true", help="an Administrator, who may everything on the site")
    add("--group-administrator", action="store_true", help="administers the group")
    add("--unix", metavar="USER", default="", help="the same person as this Unix user: their processes are one")


def run(arguments: argparse.Namespace) -> int:
    with open_accounts():
        if arguments.action == "list":
            return _list(arguments.json)
        if arguments.action == "add":
            return _add(arguments)
        return _change(arguments)


def _add(arguments: argparse.Namespace) -> int:
    if problem := address_problem(arguments.mail):
        raise SpicaError(problem)
    if arguments.group_administrator and not arguments.group:
        raise SpicaError("--group-administrator needs --group GROUP.")
    now = time.time()
    account = accounts.add(
        arguments.name,
        arguments.full_name,
        arguments.mail,
        new_password(arguments.stdin),
        Rank.ADMINISTRATOR if arguments.administrator else Rank.USER,
        arguments.group,
        arguments.unix,
        now,
    )
    if arguments.group_administrator:
        accounts.set_administrator(account, group_named(arguments.group).name, True)
    rank = accounts.person_of(account).rank.words
    accounts.note(typist(), "account made", account.name, arguments.group, rank, now=now)
    print(f"account {account.name}: {rank}" + (f" in {arguments.group}" if arguments.group else ""))
    return DONE


def _list(is_json: bool) -> int:
    found = list(Account.select().where(Account.state != accounts.State.UNCONFIRMED).order_by(Account.name))
    records = [
        {
            "name": each.name,
            "full_name": each.full_name,
            "mail": each.mail,
            "group": each.group,
            "rank": accounts.person_of(each).rank.words,
            "state": each.state,
            "owner": each.owner,
        }
        for each in found
    ]
    if is_json:
        print_json(records)
    elif records:
        shown = ("name", "full_name", "mail", "group", "rank", "state")
        head = ("NAME", "FULL NAME", "MAIL", "GROUP", "RANK", "STATE")
        print_table([[str(record[key]) for key in shown] for record in records], head)
    else:
        complain("there is no account yet. Make the first with: spica user add NAME --mail ADDRESS --administrator")
    return DONE if records else NOTHING


def _change(arguments: argparse.Namespace) -> int:
    account, action = account_named(arguments.name), arguments.action
    if action == "password":
        password = new_password(arguments.stdin)
        if problem := passwords.problem(password, account.name, *account.full_name.split()):
            raise SpicaError(problem)
        accounts.set_password(account, password)
        said = "password set"
    elif accounts.suspend(account) if action == "suspend" else accounts.restore(account):
        said = "suspended" if action == "suspend" else "restored"
    else:
        raise SpicaError(f"the account {account.name} is {account.state}.")
    accounts.note(typist(), said, account.name, account.group, now=time.time())
    print(f"account {account.name}: {said}")
    return DONE

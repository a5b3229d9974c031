"""What `spica user` and `spica group` share: the tables opened for writing, who types, and a password read in.

What may be done is not asked here: who may write the tables of accounts administers the machine.
"""

from __future__ import annotations

import getpass
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import peewee

from spicad import config, tables
from spicad.commands import NothingFound
from spicad.commands.database import require_owner
from spicad.config import Settings
from spicad.tables import Account, Group
from spicad.words import SpicaError


@contextmanager
def open_accounts() -> Iterator[Settings]:
    """Raises SpicaError when this person may not write them."""
    settings = config.load()
    require_owner(settings)
    opened = tables.connect(settings.database.url, settings.database.password_file)
    try:
        tables.require_current(make_if_empty=True)
        tables.make_private()
        yield settings
    except peewee.DatabaseError as error:
        raise SpicaError(f"the tables of accounts: {error}") from None
    finally:
        opened.close()


def typist() -> str:
    """Who stands in the audit trail."""
    return f"unix:{getpass.getuser()}"


def account_named(name: str) -> Account:
    found = Account.get_or_none(Account.name == name)
    if found is None:
        raise NothingFound(f"there is no account {name}.")
    return found


def group_named(name: str) -> Group:
    found = Group.get_or_none(Group.name == name)
    if found is None:
        raise NothingFound(f"there is no group {name}.")
    return found


def new_password(from_input: bool) -> str:
    """Typed twice on a terminal, or the first line of standard input."""
    if from_input:
        return sys.stdin.readline().rstrip("\n")
    if not sys.stdin.isatty():
        raise SpicaError("there is no terminal to ask for the password. With --stdin it is read from standard input.")
    password = getpass.getpass("Password: ")
    if getpass.getpass("The same once more: ") != password:
        raise SpicaError("the two passwords differ.")
    return password

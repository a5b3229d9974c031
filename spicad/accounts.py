"""Accounts and reduction groups: made, asked for, approved, suspended; and the audit trail of it.

Who may do what is people.py's affair, the pages and mails are the site's, `spica user` and `spica group` call the same.
Times are arguments; every change that could be made twice at once names the state that it expects.
"""

from __future__ import annotations

import logging
import pwd
import re
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any

import peewee

from spicad import passwords
from spicad.people import OF_THE_SITE, Person, Thing
from spicad.tables import Account, Audit, Group, Membership, Session, Token, private
from spicad.words import CONTROL, Rank, SpicaError

log = logging.getLogger("spicad.accounts")

NAME = re.compile(r"[a-z][a-z0-9._-]{1,30}[a-z0-9]")
GROUP_NAME = re.compile(r"[a-z][a-z0-9-]{1,62}")
RESERVED = frozenset({"root", "spica", "spicad", "admin", "administrator", "pipeline", "nobody"})
HOUR_S, DAY_S = 3600.0, 86400.0
TOKEN_S = HOUR_S
ASKED, MEMBER = "asked", "member"


class State(StrEnum):
    UNCONFIRMED = "unconfirmed"  # the link in the mail has not been followed yet
    ASKED = "asked"  # waits for a word of the group's administrator
    ACTIVE = "active"
    DECLINED = "declined"
    SUSPENDED = "suspended"  # may not log in; all data are kept


# ---------------------------------------------------------------------- who somebody is


def person_of(account: Account, group: str = "") -> Person:
    """Of an active account; with `group`, for what is made in that group instead of its own."""
    rows = Membership.select().where((Membership.account == account.id) & (Membership.state == MEMBER))
    return person_with({each.group: each.is_administrator for each in rows}, account, group)


def person_with(memberships: Mapping[str, bool], account: Account, group: str = "") -> Person:
    """`memberships`: each group that the account is a member of, and whether it administers it."""
    home = group or account.group
    administers = frozenset(each for each, is_administrator in memberships.items() if is_administrator)
    rank = Rank(min(account.rank, Rank.ADMINISTRATOR))
    if rank is Rank.USER and (home in administers if group else administers):
        rank = Rank.GROUP_ADMINISTRATOR
    return Person(
        uid=_uid(account.owner),
        user=account.owner,
        group=home,
        rank=rank,
        account=account.id,
        groups=frozenset(memberships),
        administers=administers,
    )


def _uid(owner: str) -> int:
    if owner.endswith(OF_THE_SITE):
        return -1
    try:
        return pwd.getpwnam(owner).pw_uid
    except KeyError:
        return -1


def thing_of(account: Account) -> Thing:
    """For `may`."""
    return Thing("account", account.owner, account.group, person_of(account).rank)


def by_id(number: int) -> Account | None:
    return Account.get_or_none(Account.id == number)


def named(name: str) -> Account | None:
    return Account.get_or_none(Account.name == name.strip().lower()) if name.strip() else None


def known_as(word: str) -> Account | None:
    """By name or by mail address, as people type them."""
    word = word.strip().lower()
    return Account.get_or_none(Account.mail == word) if "@" in word else named(word)


def name_problem(name: str) -> str:
    if not NAME.fullmatch(name):
        return "A user name has 3 to 32 characters: small letters, digits and . _ -, beginning with a letter."
    if name in RESERVED:
        return f"The name {name} is reserved. Take another one."
    if named(name):
        return f"The name {name} is taken. Take another one."
    return ""


def clean(text: str, most: int) -> str:
    """One line without control characters, never longer than its column."""
    return " ".join(CONTROL.sub(" ", text).split())[:most]


def clean_lines(text: str, most: int) -> str:
    lines = (CONTROL.sub(" ", line).rstrip() for line in text.replace("\r\n", "\n").split("\n"))
    return "\n".join(lines).strip()[:most]


# ---------------------------------------------------------------------- the audit trail


def note(
    who: str, verb: str, what: str = "", group: str = "", words: str = "", address: str = "", *, now: float
) -> None:
    """Who did what: a row, and a line of the log."""
    words = clean(words, 1000)
    Audit.create(
        time=now,
        who=clean(who, 64),
        address=clean(address, 45),
        verb=verb,
        what=clean(what, 200),
        group=group,
        words=words,
    )
    log.info("%s: %s %r %s %r from %s", clean(who, 64), verb, what[:200], group, words, address or "this machine")


# ---------------------------------------------------------------------- accounts


def add(
    name: str, full_name: str, mail: str, password: str, rank: Rank, group: str, unix_user: str, now: float
) -> Account:
    """An active account at once: for `spica user add`. Raises SpicaError saying what is wrong."""
    if problem := name_problem(name):
        raise SpicaError(problem)
    if Account.get_or_none(Account.mail == mail.lower()):
        raise SpicaError(f"{mail} belongs to another account.")
    if unix_user:
        _require_unix_user(unix_user)
    if group and not Group.get_or_none(Group.name == group):
        raise SpicaError(f"There is no group {group}. Make it first: spica group add {group}")
    if problem := passwords.problem(password, name, *full_name.split()):
        raise SpicaError(problem)
    with private.atomic():
        account: Account = Account.create(
            name=name,
            owner=unix_user or name + OF_THE_SITE,
            full_name=clean(full_name, 120) or name,
            mail=mail.lower(),
            rank=int(rank),
            group=group,
            state=State.ACTIVE,
            password=passwords.kept(password),
            made=now,
        )
        if group:
            Membership.create(account=account.id, group=group, state=MEMBER, since=now)
    return account


def _require_unix_user(user: str) -> None:
    try:
        pwd.getpwnam(user)
    except KeyError:
        raise SpicaError(f"There is no Unix user {user} on this machine.") from None
    if Account.get_or_none(Account.owner == user):
        raise SpicaError(f"The Unix user {user} has an account already.")


def ask(full_name: str, institute: str, mail: str, purpose: str, group: str, now: float) -> Account | None:
    """A request for an account, not confirmed yet. None when the address has an account."""
    Account.delete().where((Account.state == State.UNCONFIRMED) & (Account.made < now - DAY_S)).execute()
    known = Account.get_or_none(Account.mail == mail.lower())
    if known and known.state not in (State.UNCONFIRMED, State.DECLINED):
        return None
    values = {
        "full_name": clean(full_name, 120),
        "institute": clean(institute, 200),
        "purpose": clean_lines(purpose, 2000),
        "group": group,
        "state": State.UNCONFIRMED,
        "made": now,
    }
    if known:
        Account.update(**values).where(Account.id == known.id).execute()
        return by_id(known.id)
    return Account.create(mail=mail.lower(), **values)


def confirm(account: Account, name: str, password: str, now: float) -> bool:
    """The address is right: the request goes to the group's administrator. False when it was confirmed before."""
    with private.atomic():
        changed = (
            Account.update(
                name=name,
                owner=name + OF_THE_SITE,
                password=passwords.kept(password),
                state=State.ASKED,
            )
            .where((Account.id == account.id) & (Account.state == State.UNCONFIRMED))
            .execute()
        )
        if changed:
            ask_to_join(account.id, account.group, account.purpose, now)
    return bool(changed)


def decide(membership: Membership, is_approved: bool, now: float) -> bool:
    """The group's answer to a wish. False when it was given before."""
    this = (Membership.id == membership.id) & (Membership.state == ASKED)
    with private.atomic():
        if not is_approved:
            changed = Membership.delete().where(this).execute()
            after = State.DECLINED
        else:
            changed = Membership.update(state=MEMBER, since=now).where(this).execute()
            after = State.ACTIVE
        if changed:
            waiting = (Account.id == membership.account) & (Account.state == State.ASKED)
            Account.update(state=after, group=membership.group if is_approved else "").where(waiting).execute()
            if is_approved:
                homeless = (Account.id == membership.account) & (Account.group == "")
                Account.update(group=membership.group).where(homeless).execute()
    return bool(changed)


def set_password(account: Account, password: str) -> None:
    """Ends all sessions and all links."""
    Account.update(password=passwords.kept(password)).where(Account.id == account.id).execute()
    end_sessions(account.id)


def set_rank(account: Account, rank: Rank) -> None:
    if rank not in (Rank.USER, Rank.ADMINISTRATOR):
        raise SpicaError("An account is a user or an administrator. Administrators of a group are named by the group.")
    Account.update(rank=int(rank)).where(Account.id == account.id).execute()
    end_sessions(account.id)


def suspend(account: Account) -> bool:
    """Nothing of the account is deleted; its processes go on. False when it is not active."""
    changed = _change_state(account, State.ACTIVE, State.SUSPENDED)
    end_sessions(account.id)
    return changed


def restore(account: Account) -> bool:
    return _change_state(account, State.SUSPENDED, State.ACTIVE)


def _change_state(account: Account, before: State, after: State) -> bool:
    query = Account.update(state=after).where((Account.id == account.id) & (Account.state == before))
    return bool(query.execute())


def end_sessions(account: int) -> int:
    """And the links that would begin others."""
    Token.delete().where(Token.account == account).execute()
    return int(Session.delete().where(Session.account == account).execute())


def administrators() -> list[Account]:
    return list(Account.select().where((Account.rank == Rank.ADMINISTRATOR) & (Account.state == State.ACTIVE)))


# ---------------------------------------------------------------------- groups


def groups() -> list[Group]:
    return list(Group.select().order_by(Group.title))


def group_named(name: str) -> Group | None:
    return Group.get_or_none(Group.name == name)


def add_group(name: str, title: str, description: str, now: float) -> Group:
    if not GROUP_NAME.fullmatch(name):
        raise SpicaError("A group's name has 2 to 63 characters: small letters, digits and -, beginning with a letter.")
    if group_named(name):
        raise SpicaError(f"There is a group {name} already.")
    values = {"title": clean(title, 120) or name, "description": clean_lines(description, 4000)}
    group: Group = Group.create(name=name, made=now, **values)
    return group


def members(group: str) -> list[tuple[Account, Membership]]:
    """By name."""
    rows = list(Membership.select().where((Membership.group == group) & (Membership.state == MEMBER)))
    return _with_accounts(rows)


def wishes(of_groups: Sequence[str] | None) -> list[tuple[Account, Membership]]:
    """Those who ask to be in one of some groups (None: in any), the longest waiting first."""
    query = Membership.select().where(Membership.state == ASKED).order_by(Membership.since)
    if of_groups is not None:
        query = query.where(Membership.group.in_(list(of_groups)))
    return sorted(_with_accounts(list(query)), key=lambda each: each[1].since)


def _with_accounts(rows: list[Membership]) -> list[tuple[Account, Membership]]:
    by_number = {each.id: each for each in Account.select().where(Account.id.in_([row.account for row in rows]))}
    found = [(by_number[row.account], row) for row in rows if row.account in by_number]
    return sorted(found, key=lambda each: each[0].name)


def administrators_of(group: str) -> list[Account]:
    return [account for account, row in members(group) if row.is_administrator and account.state == State.ACTIVE]


def memberships_of(account: int) -> list[Membership]:
    return list(Membership.select().where(Membership.account == account).order_by(Membership.group))


def ask_to_join(account: int, group: str, purpose: str, now: float) -> bool:
    """False when it is a member, or has asked before."""
    values: dict[str, Any] = {"account": account, "group": group, "state": ASKED, "since": now}
    try:
        with private.atomic():
            Membership.create(purpose=clean_lines(purpose, 2000), **values)
    except peewee.IntegrityError:
        return False
    return True


def join(account: Account, group: str, now: float, is_administrator: bool = False) -> None:
    """At once: for `spica group`."""
    with private.atomic():
        Membership.delete().where((Membership.account == account.id) & (Membership.group == group)).execute()
        Membership.create(account=account.id, group=group, state=MEMBER, since=now, is_administrator=is_administrator)
        Account.update(group=group).where((Account.id == account.id) & (Account.group == "")).execute()
    end_sessions(account.id)


def leave(account: Account, group: str) -> bool:
    """Its processes stay; another of its groups becomes its own."""
    with private.atomic():
        gone = Membership.delete().where((Membership.account == account.id) & (Membership.group == group)).execute()
        if gone and account.group == group:
            left = [each.group for each in memberships_of(account.id) if each.state == MEMBER]
            Account.update(group=left[0] if left else "").where(Account.id == account.id).execute()
    end_sessions(account.id)
    return bool(gone)


def set_administrator(account: Account, group: str, is_administrator: bool) -> bool:
    """False when it is no member."""
    this = (Membership.account == account.id) & (Membership.group == group) & (Membership.state == MEMBER)
    changed = Membership.update(is_administrator=is_administrator).where(this).execute()
    end_sessions(account.id)
    return bool(changed)


def settle(account: Account, group: str) -> bool:
    """Its processes are made for `group` from now on. False when it is no member."""
    this = (Membership.account == account.id) & (Membership.group == group) & (Membership.state == MEMBER)
    if not Membership.get_or_none(this):
        return False
    Account.update(group=group).where(Account.id == account.id).execute()
    return True

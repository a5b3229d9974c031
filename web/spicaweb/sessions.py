"""Sessions, the links in mails, and how often something may be tried: all in the database, since CGI has no memory.

The cookie holds a random id, the tables hold its sha256: who reads the tables can be nobody. Times are arguments.
"""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass
from functools import lru_cache

from peewee import JOIN

from spicad import accounts
from spicad.people import Person
from spicad.tables import Account, Attempt, Membership, Session, Token, private

IDLE_S = 8 * 3600.0
LONGEST_S = 7 * 86400.0
NOTE_EVERY_S = 60.0  # how exactly it is kept when a session was last seen
KEEP_ATTEMPTS_S = 86400.0


@dataclass(frozen=True)
class Limit:
    """At most `most` of a kind within `within_s`."""

    most: int
    within_s: float


LIMITS = {
    "login of": Limit(10, 900.0),  # by account, whether it exists or not
    "login from": Limit(50, 900.0),  # by address
    "mail to": Limit(3, 3600.0),
    "mail from": Limit(20, 3600.0),
    "password of": Limit(10, 900.0),  # the old password asked for again in a session
}


def new_secret() -> str:
    return secrets.token_hex(16)


def digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def csrf_of(secret: str) -> str:
    """What each form of a session carries; it tells nothing of the session's id."""
    return digest(f"csrf:{secret}") if secret else ""


# ---------------------------------------------------------------------- sessions


def begin(account: Account, address: str, browser: str, now: float) -> str:
    """A new session; returns what the cookie holds."""
    Session.delete().where((Session.seen < now - IDLE_S) | (Session.made < now - LONGEST_S)).execute()
    secret = new_secret()
    Session.create(
        id=digest(secret),
        account=account.id,
        made=now,
        seen=now,
        address=address[:45],
        browser=accounts.clean(browser, 200),
    )
    return secret


def whose(secret: str, now: float) -> tuple[Account, Person] | None:
    """Who this session is of, when it is still good, as all the tables say now; notes that it was seen."""
    if not secret:
        return None
    key = digest(secret)
    found = private.execute_sql(_whose(private.param), (accounts.MEMBER, key)).fetchall()
    if not found:
        return None
    made, seen, _, _, *values = found[0]
    if now - seen > IDLE_S or now - made > LONGEST_S:
        return None
    account = Account(**dict(zip(Account._meta.sorted_field_names, values, strict=True)))
    if account.state != accounts.State.ACTIVE:
        return None
    if now - seen > NOTE_EVERY_S:
        Session.update(seen=now).where(Session.id == key).execute()
    memberships = {group: bool(is_administrator) for _, _, group, is_administrator, *_ in found if group is not None}
    return account, accounts.person_with(memberships, account)


@lru_cache
def _whose(_param: str) -> str:
    """The session with its account, once for each group that it is a member of, or once without any. Kept: peewee
    builds it at five times the cost of asking it."""
    is_member = (Membership.account == Account.id) & (Membership.state == accounts.MEMBER)
    columns = Session.made, Session.seen, Membership.group, Membership.is_administrator, *Account._meta.sorted_fields
    query = (
        Session.select(*columns)
        .join(Account, on=(Session.account == Account.id))
        .join(Membership, JOIN.LEFT_OUTER, on=is_member)
        .where(Session.id == "")
    )
    return str(query.sql()[0])


def end(secret: str) -> None:
    Session.delete().where(Session.id == digest(secret)).execute()


def sessions_of(account: int, now: float) -> list[Session]:
    """Those that are still good, the last seen first."""
    good = (Session.account == account) & (Session.seen >= now - IDLE_S) & (Session.made >= now - LONGEST_S)
    return list(Session.select().where(good).order_by(Session.seen.desc()))


def end_one(account: int, session: str) -> bool:
    """By the id in the tables, of this account alone."""
    return bool(Session.delete().where((Session.account == account) & (Session.id == session)).execute())


def end_others(account: int, secret: str) -> int:
    others = (Session.account == account) & (Session.id != digest(secret))
    return int(Session.delete().where(others).execute())


# ---------------------------------------------------------------------- links in mails


def new_link(kind: str, account: int, now: float, value: str = "") -> str:
    """What the link holds; earlier links of the same kind are good no more. Account 0: of nobody."""
    Token.delete().where(Token.made < now - accounts.TOKEN_S).execute()
    Token.delete().where((Token.kind == kind) & (Token.account == account)).execute()
    secret = new_secret()
    Token.create(id=digest(secret), kind=kind, account=account, value=value, made=now)
    return secret


def link(kind: str, secret: str, now: float) -> Token | None:
    """When it is still good. Looking at it does not use it up: programs follow links before people do."""
    found = Token.get_or_none((Token.id == digest(secret)) & (Token.kind == kind))
    return found if found and found.account and now - found.made <= accounts.TOKEN_S else None


def use_up(token: Token) -> bool:
    """False when it was used at the same moment."""
    return bool(Token.delete().where(Token.id == token.id).execute())


# ---------------------------------------------------------------------- how often


def try_once(kind: str, of: str, now: float) -> bool:
    """Notes an attempt first and counts then, so that many at once do not pass together. False: too many."""
    key, limit = digest(of.strip().lower()), LIMITS[kind]
    Attempt.delete().where(Attempt.time < now - KEEP_ATTEMPTS_S).execute()
    Attempt.create(kind=kind, of=key, time=now)
    recent = (Attempt.kind == kind) & (Attempt.of == key) & (Attempt.time > now - limit.within_s)
    return int(Attempt.select().where(recent).count()) <= limit.most


def forgive(kind: str, of: str) -> None:
    """After a success."""
    Attempt.delete().where((Attempt.kind == kind) & (Attempt.of == digest(of.strip().lower()))).execute()

"""Sessions, the links in mails, and how often something may be tried: all in the database, since CGI has no memory.

The cookie holds a random id, the tables hold its sha256: who reads the tables can be nobody. Times are arguments.
"""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass
from typing import Any

from spicad import accounts
from spicad.tables import Account, Attempt, Session, Token

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


def account_of(secret: str, now: float) -> Account | None:
    """Who this session is of, when it is still good; notes that it was seen."""
    if not secret:
        return None
    joined = Session.select(Session, Account).join(Account, on=(Session.account == Account.id), attr="of")
    session: Any = next(iter(joined.where(Session.id == digest(secret))), None)
    if session is None or now - session.seen > IDLE_S or now - session.made > LONGEST_S:
        return None
    account: Account = session.of
    if account.state != accounts.State.ACTIVE:
        return None
    if now - session.seen > NOTE_EVERY_S:
        Session.update(seen=now).where(Session.id == session.id).execute()
    return account


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

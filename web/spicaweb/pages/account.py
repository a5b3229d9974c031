"""One's own account: details, password, mail address, groups, sessions.

Other people's accounts are administration.py's affair.
"""

from __future__ import annotations

from collections.abc import Sequence

import peewee

from spicad import accounts, passwords, quota
from spicad.outbox import address_problem
from spicad.people import Thing
from spicad.quota import Room
from spicad.tables import Account, Membership, Token, private
from spicaweb import mails, sessions
from spicaweb.answers import Answer, NotThere, Refusal
from spicaweb.drawing import draw
from spicaweb.pages.joining import OLD_LINK, TOO_MANY, new_password_problem
from spicaweb.visit import Visit

WRONG_PASSWORD = "The password that you have now is another one."  # noqa: S105


def page(visit: Visit, problems: tuple[str, ...] = ()) -> Answer:
    own = visit.own_account
    memberships = accounts.memberships_of(own.id)
    mine = {each.group for each in memberships}
    return draw(
        visit,
        "account",
        "Your account",
        status=422 if problems else 200,
        account=own,
        memberships=memberships,
        rooms=_rooms(visit, memberships),
        titles={each.name: each.title for each in accounts.groups()},
        others=[each for each in accounts.groups() if each.name not in mine],
        sessions=sessions.sessions_of(own.id, visit.now),
        this_session=sessions.digest(visit.secret),
        problems=problems,
    )


def _rooms(visit: Visit, memberships: Sequence[Membership]) -> list[Room]:
    """One's own, then those of one's groups."""
    groups = [each.group for each in memberships if each.state == accounts.MEMBER]
    own = quota.rooms(visit.settings, visit.own_account.owner, groups[0] if groups else "")
    return [*own, *(room_of_group(visit, group) for group in groups[1:])]


def room_of_group(visit: Visit, group: str) -> Room:
    return quota.room_of(quota.GROUP, group, quota.limits_now(visit.settings, "", group)[1])


def details(visit: Visit) -> Answer:
    own = visit.own_account
    full_name, institute = accounts.clean(visit.form("full_name"), 120), accounts.clean(visit.form("institute"), 200)
    if not full_name:
        return page(visit, ("Your name is missing.",))
    Account.update(full_name=full_name, institute=institute).where(Account.id == own.id).execute()
    return visit.see_other("/account", done="details")


def password(visit: Visit) -> Answer:
    own = visit.own_account
    if problem := _own_password_problem(visit) or new_password_problem(visit, own.name, *own.full_name.split()):
        return page(visit, (problem,))
    with private.atomic():
        accounts.set_password(own, visit.password("password"))
        mails.password_changed(visit, own)
        visit.renew(sessions.begin(own, visit.address, visit.browser, visit.now))
    accounts.note(own.name, "password changed", address=visit.address, now=visit.now)
    return visit.see_other("/account", done="password")


def _own_password_problem(visit: Visit) -> str:
    """A session that somebody left open does not give the account away."""
    own = visit.own_account
    if not sessions.try_once("password of", own.name, visit.now):
        return "Too many attempts. Wait a quarter of an hour and try again."
    if not passwords.is_right(visit.password("now"), own.password):
        return WRONG_PASSWORD
    sessions.forgive("password of", own.name)
    return ""


# ---------------------------------------------------------------------- the mail address


def ask_for_address(visit: Visit) -> Answer:
    own, mail = visit.own_account, visit.form("mail", 254).lower()
    if problem := address_problem(mail) or _own_password_problem(visit):
        return page(visit, (problem,))
    if not sessions.try_once("mail to", mail, visit.now):
        raise Refusal(429, "Too many attempts", TOO_MANY)
    with private.atomic():
        secret = sessions.new_link("address", own.id, visit.now, mail)
        if accounts.known_as(mail):  # nobody learns here who has an account
            mails.has_account(visit, mail)
        else:
            mails.new_address(visit, own, mail, secret)
    return visit.see_other("/account", done="address-asked")


def address_form(visit: Visit, secret: str) -> Answer:
    token, account = _changing(visit, secret)
    return draw(visit, "address", "Confirm your new address", account=account, mail=token.value)


def change_address(visit: Visit, secret: str) -> Answer:
    token, account = _changing(visit, secret)
    before = account.mail
    try:
        with private.atomic():
            if not sessions.use_up(token):
                raise Refusal(410, "An old link", OLD_LINK)
            Account.update(mail=token.value).where(Account.id == account.id).execute()
            account.mail = token.value
            mails.address_changed(visit, account, before)
    except peewee.IntegrityError:
        raise Refusal(410, "An old link", OLD_LINK) from None
    accounts.note(account.name, "address changed", f"{before} to {account.mail}", address=visit.address, now=visit.now)
    return visit.see_other("/account" if visit.actor else "/login", done="address")


def _changing(visit: Visit, secret: str) -> tuple[Token, Account]:
    token = sessions.link("address", secret, visit.now)
    account = accounts.by_id(token.account) if token else None
    if token is None or account is None or account.state != accounts.State.ACTIVE:
        raise Refusal(410, "An old link", OLD_LINK)
    return token, account


# ---------------------------------------------------------------------- groups


def settle(visit: Visit) -> Answer:
    """The group that new processes are made for: one of one's own."""
    if not accounts.settle(visit.own_account, visit.form("group", 64)):
        raise NotThere
    return visit.see_other("/account", done="home")


def join(visit: Visit) -> Answer:
    own, group = visit.own_account, visit.form("group", 64)
    if not accounts.group_named(group):
        raise NotThere
    visit.require("ask", Thing("group", group=group))
    purpose = visit.form("purpose")
    if len(purpose) < 10:
        return page(visit, ("Say in a sentence what you want to do in the group: its administrator decides on it.",))
    if accounts.ask_to_join(own.id, group, purpose, visit.now):
        mails.asked(visit, own, group, purpose, accounts.administrators_of(group) or accounts.administrators())
        accounts.note(own.name, "asked to join", group, group, purpose, visit.address, now=visit.now)
    return visit.see_other("/account", done="asked")


# ---------------------------------------------------------------------- sessions


def end_session(visit: Visit) -> Answer:
    """One, by the id of its row; or all others."""
    own, session = visit.own_account, visit.form("session", 64)
    if session:
        if not sessions.end_one(own.id, session):
            raise NotThere
        accounts.note(own.name, "session ended", address=visit.address, now=visit.now)
        return visit.see_other("/account", done="session")
    sessions.end_others(own.id, visit.secret)
    accounts.note(own.name, "other sessions ended", address=visit.address, now=visit.now)
    return visit.see_other("/account", done="sessions")

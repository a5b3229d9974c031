"""Requests for accounts and wishes to join a group, answered by those who may, with a word."""

from __future__ import annotations

from spicad import accounts
from spicad.people import Thing
from spicad.tables import Membership, private
from spicad.words import Rank
from spicaweb import mails
from spicaweb.answers import Answer, NotThere
from spicaweb.drawing import draw
from spicaweb.visit import Visit


def index(visit: Visit) -> Answer:
    user = visit.user
    of_groups = None if user.rank >= Rank.ADMINISTRATOR else sorted(user.administers)
    return draw(visit, "requests", "Requests", wishes=accounts.wishes(of_groups))


def answer(visit: Visit, number: str) -> Answer:
    wish = Membership.get_or_none(Membership.id == int(number)) if number.isdecimal() and len(number) < 10 else None
    if wish is None:
        raise NotThere
    visit.require("decide", Thing("group", group=wish.group))
    account, verb = accounts.by_id(wish.account), visit.form("verb", 20)
    if account is None or verb not in ("approve", "decline"):
        raise NotThere
    is_new, is_approved = account.state == accounts.State.ASKED, verb == "approve"
    word = accounts.clean_lines(visit.form("word"), 1000)
    with private.atomic():
        if not accounts.decide(wish, is_approved, visit.now):
            return visit.see_other("/requests", done="late")
        mails.answered(visit, account, wish.group, is_approved, word, is_new)
    verb_done = "approved" if is_approved else "declined"
    what = "account" if is_new else "membership"
    accounts.note(
        visit.own_account.name, f"{what} {verb_done}", account.name, wish.group, word, visit.address, now=visit.now
    )
    return visit.see_other("/requests", done=verb_done)

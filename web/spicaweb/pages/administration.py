"""Other people's accounts, for who administers them; and the audit trail."""

from __future__ import annotations

from spicad import accounts
from spicad.accounts import State
from spicad.commands.listing import like
from spicad.people import Thing
from spicad.tables import Account, Audit
from spicad.words import Rank, SpicaError
from spicaweb import mails, sessions
from spicaweb.answers import Answer, NotThere
from spicaweb.drawing import draw
from spicaweb.visit import Visit

PER_PAGE = 100
STATES = (State.ASKED, State.ACTIVE, State.DECLINED, State.SUSPENDED)


def index(visit: Visit) -> Answer:
    """All accounts."""
    state, words = visit.query("state", 20), visit.query("search", 100)
    query = Account.select().where(Account.state != State.UNCONFIRMED).order_by(Account.name)
    if state in STATES:
        query = query.where(Account.state == state)
    if words:
        pattern = like(f"*{words}*")
        query = query.where((Account.name**pattern) | (Account.full_name**pattern) | (Account.mail**pattern))
    found = list(query.limit(PER_PAGE + 1))
    return draw(
        visit,
        "accounts",
        "Accounts",
        accounts=found[:PER_PAGE],
        has_more=len(found) > PER_PAGE,
        state=state,
        search=words,
        states=STATES,
    )


def page(visit: Visit, name: str, problems: tuple[str, ...] = ()) -> Answer:
    account, thing = _seen(visit, name)
    return draw(
        visit,
        "person",
        account.full_name,
        status=422 if problems else 200,
        account=account,
        person=accounts.person_of(account),
        memberships=accounts.memberships_of(account.id),
        is_online=bool(sessions.sessions_of(account.id, visit.now)),
        may={verb: visit.may(verb, thing) for verb in ("suspend", "rank")},
        is_own=account.id == visit.user.account,
        problems=problems,
    )


def change(visit: Visit, name: str) -> Answer:
    """Suspends and restores, gives and takes the rank of an Administrator."""
    account, thing = _seen(visit, name)
    verb, word = visit.form("verb", 20), accounts.clean_lines(visit.form("word"), 1000)
    if verb not in ("suspend", "restore", "promote", "demote"):
        raise NotThere
    visit.require("suspend" if verb in ("suspend", "restore") else "rank", thing)
    if account.id == visit.user.account:
        raise SpicaError("Your own account is changed by another Administrator, or on the machine with: spica user")
    done = {"suspend": "suspended", "restore": "restored"}.get(verb, "saved")
    if verb in ("suspend", "restore"):
        is_done = accounts.suspend(account) if verb == "suspend" else accounts.restore(account)
        if not is_done:
            return page(visit, name, (f"The account is {account.state}.",))
        mails.suspended(visit, account, verb == "suspend", word)
    else:
        accounts.set_rank(account, Rank.ADMINISTRATOR if verb == "promote" else Rank.USER)
    said = {"suspend": "suspended", "restore": "restored", "promote": "made Administrator", "demote": "made user"}[verb]
    accounts.note(visit.own_account.name, said, name, account.group, word, visit.address, now=visit.now)
    return visit.see_other(f"/accounts/{name}", done=done)


def _seen(visit: Visit, name: str) -> tuple[Account, Thing]:
    account = accounts.named(name)
    if account is None or account.state == State.UNCONFIRMED:
        raise NotThere
    thing = accounts.thing_of(account)
    visit.require("see", thing)
    return account, thing


def audit(visit: Visit) -> Answer:
    """The newest first; a group's administrator sees what concerns the group."""
    user, who, before = visit.user, visit.query("who", 64), visit.query("before", 18)
    query = Audit.select().order_by(Audit.id.desc()).limit(PER_PAGE + 1)
    if user.rank < Rank.ADMINISTRATOR:
        groups = [each for each in sorted(user.administers) if visit.may("see", Thing("audit", group=each))]
        query = query.where(Audit.group.in_(groups))
    if who:
        query = query.where((Audit.who == who) | (Audit.what == who))
    if before.isdecimal():
        query = query.where(Audit.id < int(before))
    rows = list(query)
    return draw(visit, "audit", "Audit trail", rows=rows[:PER_PAGE], has_more=len(rows) > PER_PAGE, who=who)

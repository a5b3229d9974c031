"""How somebody comes to have an account: the request, the confirmed address, the choice of a password, a new password.

Who approves it is asking.py's affair. Unknown and known addresses get the same words, from as much work.
"""

from __future__ import annotations

import peewee

from spicad import accounts, passwords
from spicad.accounts import State
from spicad.outbox import address_problem
from spicad.tables import Account, Token, private
from spicaweb import mails, sessions
from spicaweb.answers import Answer, Refusal
from spicaweb.drawing import draw
from spicaweb.visit import Visit

TOO_MANY = "Too many mails were asked for. Wait an hour and try again."
OLD_LINK = "This link has been used, or it is more than an hour old. Ask for another one."


def request_form(visit: Visit) -> Answer:
    return _request_page(visit, {})


def _request_page(visit: Visit, values: dict[str, str], problems: list[str] | None = None) -> Answer:
    return draw(
        visit,
        "request",
        "Ask for an account",
        status=422 if problems else 200,
        values=values,
        groups=accounts.groups(),
        problems=problems or (),
    )


def request(visit: Visit) -> Answer:
    values = {name: visit.form(name) for name in ("full_name", "institute", "mail", "purpose", "group")}
    if problems := _request_problems(values):
        return _request_page(visit, values, problems)
    _require_room(visit, values["mail"])
    with private.atomic():  # one commit whatever is found: the time tells nothing
        account = accounts.ask(**values, now=visit.now)
        secret = sessions.new_link("confirm", account.id if account else 0, visit.now)
        if account:
            mails.confirm(visit, account, secret)
        else:
            mails.has_account(visit, values["mail"])
    accounts.note("", "account asked for", values["mail"], values["group"], address=visit.address, now=visit.now)
    return _sent(visit, values["mail"])


def _request_problems(values: dict[str, str]) -> list[str]:
    problems = []
    if not values["full_name"]:
        problems.append("Your name is missing.")
    if what := address_problem(values["mail"]):
        problems.append(f"Mail address: {what}")
    if len(values["purpose"]) < 10:
        problems.append("Say in a sentence or two what you want to reduce: an administrator decides on it.")
    if not accounts.group_named(values["group"]):
        problems.append("Choose a group.")
    return problems


def _require_room(visit: Visit, mail: str) -> None:
    """How many mails may be asked for, to an address and from an address."""
    has_room = sessions.try_once("mail from", visit.address, visit.now)
    if not (sessions.try_once("mail to", mail, visit.now) and has_room):
        raise Refusal(429, "Too many attempts", TOO_MANY)


def _sent(visit: Visit, mail: str) -> Answer:
    words = f"A mail with a link is on its way to {mail}. The link is good for one hour."
    return draw(visit, "sent", "Look into your mail", words=words)


# ---------------------------------------------------------------------- confirming


def confirm_form(visit: Visit, secret: str) -> Answer:
    _, account = _unconfirmed(visit, secret)
    return _confirm_page(visit, account, _suggested(account))


def _confirm_page(visit: Visit, account: Account, name: str, problems: list[str] | None = None) -> Answer:
    return draw(
        visit,
        "confirm",
        "Choose a name and a password",
        status=422 if problems else 200,
        account=account,
        name=name,
        problems=problems or (),
    )


def confirm(visit: Visit, secret: str) -> Answer:
    token, account = _unconfirmed(visit, secret)
    name, password = visit.form("name", 40).lower(), visit.password("password")
    problems = [accounts.name_problem(name), new_password_problem(visit, name, *account.full_name.split())]
    if any(problems):
        return _confirm_page(visit, account, name, [each for each in problems if each])
    try:
        with private.atomic():
            if not (sessions.use_up(token) and accounts.confirm(account, name, password, visit.now)):
                raise Refusal(410, "An old link", OLD_LINK)
    except peewee.IntegrityError:  # taken at the same moment
        return _confirm_page(visit, account, name, [f"The name {name} is taken. Take another one."])
    account = _again(account)
    deciders = accounts.administrators_of(account.group) or accounts.administrators()
    mails.asked(visit, account, account.group, account.purpose, deciders)
    accounts.note(name, "address confirmed", account.mail, account.group, address=visit.address, now=visit.now)
    words = "Your request is with the administrator of the group now. A mail tells you the answer."
    return draw(visit, "sent", "Thank you", words=words)


def _unconfirmed(visit: Visit, secret: str) -> tuple[Token, Account]:
    token = sessions.link("confirm", secret, visit.now)
    account = accounts.by_id(token.account) if token else None
    if token is None or account is None or account.state != State.UNCONFIRMED:
        raise Refusal(410, "An old link", OLD_LINK)
    return token, account


def _suggested(account: Account) -> str:
    """The part of the address before the @, when it is free."""
    name = account.mail.partition("@")[0]
    return "" if accounts.name_problem(name) else name


def _again(account: Account) -> Account:
    found = accounts.by_id(account.id)
    return found or account


def new_password_problem(visit: Visit, *own_words: str) -> str:
    """Of the two fields of a form that asks for a new one."""
    password = visit.password("password")
    if password != visit.password("again"):
        return "The two passwords differ. Type the same one twice."
    return passwords.problem(password, *own_words)


# ---------------------------------------------------------------------- a forgotten password


def forgot_form(visit: Visit) -> Answer:
    return draw(visit, "forgot", "A new password", name="")


def forgot(visit: Visit) -> Answer:
    mail = visit.form("mail", 254)
    if what := address_problem(mail):
        return draw(visit, "forgot", "A new password", status=422, name=mail, problems=(what,))
    _require_room(visit, mail)
    account = accounts.known_as(mail)
    if account and account.state != State.ACTIVE:
        account = None
    with private.atomic():
        mails.reset(visit, account, sessions.new_link("reset", account.id if account else 0, visit.now))
    accounts.note("", "password asked for", mail, address=visit.address, now=visit.now)
    return draw(visit, "sent", "Look into your mail", words=_if_known(mail))


def _if_known(mail: str) -> str:
    return f"If {mail} has an account here, a mail with a link is on its way. The link is good for one hour."


def reset_form(visit: Visit, secret: str) -> Answer:
    _, account = _resettable(visit, secret)
    return draw(visit, "reset", "Choose a new password", account=account)


def reset(visit: Visit, secret: str) -> Answer:
    token, account = _resettable(visit, secret)
    if problem := new_password_problem(visit, account.name, *account.full_name.split()):
        return draw(visit, "reset", "Choose a new password", status=422, account=account, problems=(problem,))
    with private.atomic():
        if not sessions.use_up(token):
            raise Refusal(410, "An old link", OLD_LINK)
        accounts.set_password(account, visit.password("password"))
        mails.password_changed(visit, account)
    sessions.forgive("login of", account.name)
    accounts.note(account.name, "password reset", address=visit.address, now=visit.now)
    visit.renew("")
    return visit.see_other("/login", done="reset")


def _resettable(visit: Visit, secret: str) -> tuple[Token, Account]:
    token = sessions.link("reset", secret, visit.now)
    account = accounts.by_id(token.account) if token else None
    if token is None or account is None or account.state != State.ACTIVE:
        raise Refusal(410, "An old link", OLD_LINK)
    return token, account

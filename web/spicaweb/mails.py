"""What the mails of the site say. They go by letters.py and the daemon's outbox; links are of the configured address.

When they are sent is the affair of the pages.
"""

from __future__ import annotations

from collections.abc import Iterable

from spicad import accounts, letters
from spicad.tables import Account
from spicaweb.visit import Visit

CLOSE = "\n\nSpica\n"
NOT_YOU = "If this was not you, nothing needs to be done: nothing changes unless the link is followed."


def _write(visit: Visit, to: str, subject: str, *paragraphs: str) -> None:
    text = "\n\n".join(each for each in paragraphs if each)
    letters.write(to, subject, f"{text}{CLOSE}{visit.settings.web.address}\n", visit.now)


def confirm(visit: Visit, account: Account, secret: str) -> None:
    _write(
        visit,
        account.mail,
        "Confirm your address",
        f"Somebody, probably you, asks for an account with Spica for {account.full_name}.",
        f"To confirm this address, and to choose a user name and a password, open within one hour:\n\n"
        f"{visit.whole_link(f'/confirm/{secret}')}",
        "After that an administrator answers the request, and you get a mail.",
        NOT_YOU,
    )


def has_account(visit: Visit, mail: str) -> None:
    """For who asks for a second account: the page says the same as always."""
    account = accounts.known_as(mail)
    name = account.name if account and account.state != accounts.State.UNCONFIRMED else ""
    _write(
        visit,
        mail,
        "You have an account",
        f"Somebody, probably you, asks for an account with this address. There is one already. {name}".rstrip(),
        f"Forgotten the password? {visit.whole_link('/forgot')}",
    )


def reset(visit: Visit, account: Account | None, secret: str) -> None:
    """To nobody when there is no account: as much work, and no mail."""
    _write(
        visit,
        account.mail if account else "",
        "A new password",
        f"Somebody, probably you, asks for a new password for the account {account.name if account else ''}.",
        f"To choose one, open within one hour:\n\n{visit.whole_link(f'/reset/{secret}')}",
        NOT_YOU,
    )


def password_changed(visit: Visit, account: Account) -> None:
    _write(
        visit,
        account.mail,
        "Your password was changed",
        f"The password of the account {account.name} has been changed, and all sessions were ended.",
        f"If this was not you, ask for a new one at once: {visit.whole_link('/forgot')}",
    )


def new_address(visit: Visit, account: Account, mail: str, secret: str) -> None:
    _write(
        visit,
        mail,
        "Confirm your new address",
        f"The account {account.name} asks for its mails to go to {mail}.",
        f"To confirm it, open within one hour:\n\n{visit.whole_link(f'/address/{secret}')}",
        NOT_YOU,
    )


def address_changed(visit: Visit, account: Account, before: str) -> None:
    _write(
        visit,
        before,
        "Your mail address was changed",
        f"Mails for the account {account.name} go to {account.mail} from now on.",
        "If this was not you, write to the administrator.",
    )


def asked(visit: Visit, account: Account, group: str, purpose: str, deciders: Iterable[Account]) -> None:
    for each in deciders:
        _write(
            visit,
            each.mail,
            f"{account.full_name} asks to join {group}",
            f"{account.full_name} ({account.name}), {account.institute or 'no institute given'}, {account.mail}",
            f"Purpose:\n{purpose}",
            f"To answer: {visit.whole_link('/requests')}",
        )


def answered(visit: Visit, account: Account, group: str, is_approved: bool, word: str, is_new: bool) -> None:
    what = "account" if is_new else "wish"
    if is_approved:
        opening = (
            f"Your account {account.name} is open, in the group {group}: {visit.whole_link('/login')}"
            if is_new
            else f"You are in the group {group} now."
        )
    elif is_new:
        opening = "Your request for an account was declined."
    else:
        opening = f"Your wish to join the group {group} was declined."
    subject = f"Your {what}: {'approved' if is_approved else 'declined'}"
    _write(visit, account.mail, subject, opening, f"A word from {visit.own_account.full_name}:\n{word}" if word else "")


def suspended(visit: Visit, account: Account, is_suspended: bool, word: str) -> None:
    _write(
        visit,
        account.mail,
        "Your account is suspended" if is_suspended else "Your account is active again",
        f"The account {account.name} "
        + ("is suspended. All its data are kept." if is_suspended else "is active again. Log in as before."),
        f"A word from {visit.own_account.full_name}:\n{word}" if word else "",
    )

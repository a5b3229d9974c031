"""What the site drops in the name of an account: a row by the site, a word in the drop, and how intake believes it.

    [web]
    token = "0123456789abcdef0123456789abcdef"

The drop is believed when its file belongs to the site's Unix user ([web] user in spica.conf), the row of that token
exists and holds the digest of exactly these words, the account is active, and no other drop came with that token.
So the uid alone gives no rank, the words of a file alone give none, and a copied drop is no second process.
"""

from __future__ import annotations

import hashlib
import os
import pwd
import secrets

import peewee

from spicad import accounts
from spicad.config import Settings
from spicad.jobfile import without_end
from spicad.people import Person
from spicad.spool import Drop, Refused
from spicad.tables import Account, Handover, private
from spicad.words import Rank, SpicaError

KEEP_S = 30 * 86400.0


def announced(text: str, account: int, group: str, now: float) -> tuple[str, str]:
    """Writes the row for a drop of `text`; returns its token and the words to drop. The site calls this."""
    token = secrets.token_hex(16)
    words = f'{without_end(text)}\n[web]\ntoken = "{token}"\n\n[end]\n'
    with private.atomic():
        Handover.delete().where(Handover.made < now - KEEP_S).execute()
        Handover.create(token=token, account=account, group=group, digest=_digest(words), made=now)
    return token, words


def dropped(token: str, name: str) -> None:
    """Under which name the drop lies in incoming/, for whoever asks what became of it."""
    Handover.update(name=name).where(Handover.token == token).execute()


def site_uid(settings: Settings) -> int:
    """The uid whose drops may say whose they are. Raises SpicaError when spica.conf names nobody."""
    user = settings.web.user
    if not user:
        return os.geteuid()
    try:
        return pwd.getpwnam(user).pw_uid
    except KeyError:
        raise SpicaError(f'[web] user = "{user}": there is no such Unix user.') from None


def sender(drop: Drop, token: str, settings: Settings, is_job: bool) -> Person:
    """Whose drop of the site this is. Raises Refused; OSError while the database is away: the drop waits then."""
    if drop.uid != site_uid(settings):
        raise Refused(f"{drop.name}: [web] is written by the site alone. Take it out.")
    try:
        found = Handover.get_or_none(Handover.token == token)
        account = Account.get_or_none(Account.id == found.account) if found else None
        if found is None or account is None or found.digest != _digest(drop.text):
            raise Refused(f"{drop.name}: the site has not handed this over.")
        if account.state != accounts.State.ACTIVE:
            raise Refused(f"{drop.name}: the account {account.name} is {account.state}.")
        person = accounts.person_of(account, found.group)
        if is_job and found.group not in person.groups and person.rank is not Rank.ADMINISTRATOR:
            raise Refused(f"{drop.name}: {account.name} is not in the group {found.group!r}.")
        if not _take(token, drop.token):
            raise Refused(f"{drop.name}: this was handed over before.")
    except peewee.PeeweeException as error:
        raise OSError(f"the database is away ({error})") from None
    return person


def _take(token: str, drop_token: str) -> bool:
    """Whether this drop is the one of its token; the same drop may come again after a crash."""
    free = (Handover.token == token) & (Handover.drop_token == "")
    if Handover.update(drop_token=drop_token).where(free).execute():
        return True
    return bool(Handover.get(Handover.token == token).drop_token == drop_token)


def _digest(words: str) -> str:
    return hashlib.sha256(words.encode()).hexdigest()

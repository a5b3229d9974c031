"""Mails of the site: rows until the daemon has put them into its outbox, since the site may not write there.

What they say is the site's affair, how they are sent outbox.py's. A row goes only after the outbox has its mail: after
a crash between the two the mail is put again, under the same key.
"""

from __future__ import annotations

import logging
import secrets
from pathlib import Path

import peewee

from spicad import outbox
from spicad.config import Settings
from spicad.tables import Letter
from spicad.words import SpicaError

log = logging.getLogger("spicad")

MOST_AT_ONCE = 100


def write(to: str, subject: str, text: str, now: float) -> None:
    """Kept from now on. With an empty `to` as much work is done and nothing is sent."""
    Letter.create(id=secrets.token_hex(16), to=to, subject=subject[:200], text=text, made=now)


def pass_on(folder: Path, settings: Settings, now: float) -> int:
    """How many went into the outbox. A database that is away is left alone: the rows wait."""
    try:
        letters = list(Letter.select().order_by(Letter.made).limit(MOST_AT_ONCE))
        for letter in letters:
            _pass_on(letter, folder, settings, now)
    except (peewee.PeeweeException, OSError) as error:
        log.warning("mails of the site wait: %s", error)
        return 0
    return len(letters)


def _pass_on(letter: Letter, folder: Path, settings: Settings, now: float) -> None:
    if letter.to:
        try:
            message = outbox.compose(settings, letter.to, letter.subject, letter.text)
        except SpicaError as error:
            log.error("a mail of the site is dropped: %s", error)
        else:
            outbox.put(folder, f"site-{letter.id}", message, now)
    Letter.delete().where(Letter.id == letter.id).execute()

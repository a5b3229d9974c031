"""One request as the pages see it: who asks, what the form says, and how links are made.

Nothing that a client can forge decides anything here: Host, X-Forwarded-* and Remote-User are never looked at.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from bottle import request

from spicad.config import Settings
from spicad.people import Person, Thing, may
from spicad.tables import Account
from spicaweb import sessions
from spicaweb.answers import Answer, NotThere

LONGEST_FIELD = 4000


class Visit:
    def __init__(self, settings: Settings, now: float, secret: str) -> None:
        self.settings = settings
        self.now = now
        self.secret = secret  # what the cookie holds; of a visitor who has not logged in, of no session
        self.has_new_secret = False
        self.account: Account | None
        self.actor: Person | None
        self.account, self.actor = sessions.whose(secret, now) or (None, None)
        self.path = request.path

    # ------------------------------------------------------------------ who

    @property
    def user(self) -> Person:
        """On pages that ask for a login."""
        if self.actor is None:
            raise NotThere
        return self.actor

    @property
    def own_account(self) -> Account:
        if self.account is None:
            raise NotThere
        return self.account

    def may(self, verb: str, thing: Thing) -> bool:
        return may(self.actor, verb, thing)

    def require(self, verb: str, thing: Thing) -> None:
        """Raises NotThere."""
        if not self.may(verb, thing):
            raise NotThere

    def may_process(self, verb: str, row: Any) -> bool:
        """`row`: whatever has the owner and the group of a process."""
        return self.may(verb, Thing("process", row.owner, row.group))

    @property
    def address(self) -> str:
        """Where the visitor comes from, by the connection."""
        return str(request.environ.get("REMOTE_ADDR") or "")[:45]

    @property
    def browser(self) -> str:
        return str(request.environ.get("HTTP_USER_AGENT") or "")[:200]

    # ------------------------------------------------------------------ forms

    def form(self, name: str, most: int = LONGEST_FIELD) -> str:
        """A field of the form, '' when it is missing, never longer than `most`."""
        return str(request.forms.getunicode(name) or "")[:most].strip()

    def password(self, name: str) -> str:
        """As typed, blanks and all."""
        return str(request.forms.getunicode(name) or "")[:1000]

    def chosen(self, name: str, most: int = 1000) -> list[str]:
        """The boxes of this name that were ticked."""
        return [str(value) for value in request.forms.decode().getall(name)[:most]]

    def query(self, name: str, most: int = 200) -> str:
        return str(request.query.getunicode(name) or "")[:most].strip()

    def queries(self, name: str, most: int = 100) -> list[str]:
        return [str(value)[:200] for value in request.query.decode().getall(name)[:most]]

    @cached_property
    def csrf(self) -> str:
        """What each form carries as the field `csrf`."""
        if not self.secret:
            self.renew(sessions.new_secret())
        return sessions.csrf_of(self.secret)

    def renew(self, secret: str) -> None:
        """Another cookie goes out with the answer; '' takes it away."""
        self.secret, self.has_new_secret = secret, True
        self.__dict__.pop("csrf", None)

    # ------------------------------------------------------------------ links

    @property
    def prefix(self) -> str:
        """The part of the site's address after the host."""
        return urlsplit(self.settings.web.address).path.rstrip("/")

    def link(self, path: str, **query: Any) -> str:
        """Within the site: for href, action and redirects."""
        words = urlencode({name: value for name, value in query.items() if value not in ("", None)}, doseq=True)
        return self.prefix + quote(path, safe="/@:+-._~") + (f"?{words}" if words else "")

    def whole_link(self, path: str) -> str:
        """For mails: from the configured address, whatever Host says."""
        return str(self.settings.web.address).rstrip("/") + quote(path, safe="/@:+-._~")

    def see_other(self, path: str, **query: Any) -> Answer:
        """The answer to a form that was good: go and look there."""
        return Answer(status=303, headers={"Location": self.link(path, **query)})

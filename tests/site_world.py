"""The site in a test: a small world of accounts and groups, and a browser that talks WSGI to the application.

Alice owns it, Bob is in her group, Carol is not, Gina administers the group, Dan administers Spica. What each of them
may do is told by the tests.
"""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from http.cookies import SimpleCookie
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit
from wsgiref.util import setup_testing_defaults

from spicad import accounts, passwords, tables
from spicad.config import Settings, parse
from spicad.people import OF_THE_SITE
from spicad.tables import PRIVATE, Account, Group, Letter, Membership
from spicad.words import Rank
from spicaweb import sessions
from spicaweb.app import make_app

ADDRESS = "https://spica.example.org"
PASSWORD = "kettle drum sonata 9"
KEPT = passwords.kept(PASSWORD, cost=4, parallel=1)  # as cheap as it gets: the real cost is for real passwords
FORM = "application/x-www-form-urlencoded"
NOW = 1_000_000_000.0
# Group, and how they stand in it.
PEOPLE = {
    "alice": ("lensing", "member"),
    "bob": ("lensing", "member"),
    "carol": ("solar", "member"),
    "gina": ("lensing", "administrator"),
    "dan": ("staff", "Administrator"),
}
CONF = """\
[paths]
spool = "spool"
results = "results"
archive = ["archive"]
[database]
url = "{url}"
[web]
address = "{address}"
{more}
"""


def settings_of(folder: Path, url: str = "", address: str = ADDRESS, more: str = "") -> Settings:
    (folder / "spool").mkdir(exist_ok=True)
    return parse(CONF.format(url=url, address=address, more=more), folder / "spica.conf")


def people_the_world() -> None:
    """Everybody of PEOPLE with their groups, and nothing else in the tables of the site."""
    with tables.private.atomic():
        for table in PRIVATE:
            table.delete().execute()
        for group in ("lensing", "solar", "staff"):
            Group.create(name=group, title=group.title(), description=f"All about {group}.", made=NOW)
        for name, (group, standing) in PEOPLE.items():
            add_account(name, group, standing)


def add_account(name: str, group: str = "", standing: str = "member", state: str = accounts.State.ACTIVE) -> Account:
    tables.database.connect(reuse_if_open=True)
    account: Account = Account.create(
        name=name,
        owner=name + OF_THE_SITE,
        full_name=f"{name.title()} of {group.title()}",
        mail=f"{name}@example.org",
        group=group,
        rank=int(Rank.ADMINISTRATOR if standing == "Administrator" else Rank.USER),
        state=state,
        password=KEPT,
        made=NOW,
    )
    if group:
        Membership.create(
            account=account.id,
            group=group,
            state=accounts.MEMBER,
            is_administrator=standing == "administrator",
            since=NOW,
        )
    return account


def account(name: str) -> Account:
    tables.database.connect(reuse_if_open=True)  # requests close them
    found = accounts.named(name)
    assert found is not None
    return found


@dataclass(frozen=True)
class Page:
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode(errors="replace")

    @property
    def words(self) -> str:
        """Without tags, on one line."""
        return " ".join(re.sub(r"<[^>]*>", " ", self.text.partition("<main")[2] or self.text).split())

    @property
    def place(self) -> str:
        return self.headers.get("Location", "")

    @property
    def csrf(self) -> str:
        found = re.search(r'name="csrf" value="([0-9a-f]+)"', self.text)
        return found[1] if found else ""


@dataclass
class Browser:
    """Keeps cookies, sends Origin with forms and the token of the page that it saw last, as browsers do."""

    app: Any
    address: str = ADDRESS
    cookies: dict[str, str] = field(default_factory=dict)
    csrf: str = ""
    came_from: str = "192.0.2.1"
    kind: str = FORM  # of what is sent
    set_cookies: list[str] = field(default_factory=list)  # of the last answer

    def get(self, path: str, **headers: str) -> Page:
        return self.ask("GET", path, headers=headers)

    def post(self, path: str, headers: Mapping[str, str] | None = None, **fields: str | Sequence[str]) -> Page:
        """With the token of the last page, and the Origin of the site, unless told otherwise."""
        form = {"csrf": self.csrf, **fields}
        sent = {"Origin": origin_of(self.address), **(headers or {})}
        body = urlencode(form, doseq=True).encode()
        return self.ask("POST", path, body, {name: value for name, value in sent.items() if value})

    def ask(self, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None) -> Page:
        environ = self._environ(method, path, body, headers or {})
        answer: dict[str, Any] = {}

        def start_response(status: str, found: list[tuple[str, str]], exc_info: Any = None) -> None:
            answer.update(status=int(status.split()[0]), headers=found)

        sent = self.app(environ, start_response)
        page = Page(answer["status"], dict(answer["headers"]), b"".join(sent))
        if hasattr(sent, "close"):
            sent.close()
        self._keep([value for name, value in answer["headers"] if name.lower() == "set-cookie"])
        self.csrf = page.csrf or self.csrf
        return page

    def _environ(self, method: str, path: str, body: bytes, headers: Mapping[str, str]) -> dict[str, Any]:
        parts = urlsplit(path)
        environ: dict[str, Any] = {
            "REQUEST_METHOD": method,
            "PATH_INFO": parts.path,
            "QUERY_STRING": parts.query,
            "CONTENT_LENGTH": str(len(body)),
            "CONTENT_TYPE": self.kind,
            "REMOTE_ADDR": self.came_from,
            "HTTP_COOKIE": "; ".join(f"{name}={value}" for name, value in self.cookies.items()),
            "wsgi.input": io.BytesIO(body),
            "wsgi.url_scheme": "https",
        }
        for name, value in headers.items():
            environ["HTTP_" + name.upper().replace("-", "_")] = value
        setup_testing_defaults(environ)
        return environ

    def _keep(self, set_cookies: list[str]) -> None:
        self.set_cookies = set_cookies
        for header in set_cookies:
            for name, morsel in SimpleCookie(header).items():
                if morsel["max-age"] in ("-1", "0") or not morsel.value:
                    self.cookies.pop(name, None)
                else:
                    self.cookies[name] = morsel.value

    def follow(self, page: Page) -> Page:
        assert page.status == 303, (page.status, page.words)
        return self.get(page.place)

    def log_in(self, name: str, password: str = PASSWORD) -> Page:
        self.get("/login")
        return self.post("/login", name=name, password=password)


def origin_of(address: str) -> str:
    parts = urlsplit(address)
    return f"{parts.scheme}://{parts.netloc}"


class Site:
    """The application on a database of its own; `people_the_world` has been done."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.app = make_app(settings)
        self.open()
        people_the_world()

    def open(self) -> None:
        """The tables, for the test itself: each request closes them."""
        tables.database.connect(reuse_if_open=True)

    def visitor(self) -> Browser:
        return Browser(self.app, self.settings.web.address)

    def logged_in(self, name: str, now: float | None = None) -> Browser:
        """By a row, without the cost of a password; the token of the session is known at once."""
        import time

        self.open()
        browser = self.visitor()
        secret = sessions.begin(account(name), "192.0.2.1", "a test", now or time.time())
        browser.cookies[self.cookie] = secret
        browser.csrf = sessions.csrf_of(secret)
        return browser

    @property
    def cookie(self) -> str:
        return "__Host-spica" if self.settings.web.address.startswith("https:") else "spica"

    def letters(self) -> list[Letter]:
        """The oldest first, without those that are sent to nobody."""
        self.open()
        return list(Letter.select().where(Letter.to != "").order_by(Letter.made))

    def link_in_last_letter(self) -> str:
        """The path of the first link."""
        text = self.letters()[-1].text
        found = re.search(rf"{re.escape(self.settings.web.address)}(/\w+/[0-9a-f]+)", text)
        assert found, text
        return found[1]

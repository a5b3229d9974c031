"""The site behind real servers: lighttpd with CGI, waitress by `spica serve`, and spica.wsgi; on SQLite and on MariaDB.

What the pages say is told in the other test_site files.
"""

from __future__ import annotations

import http.client
import os
import runpy
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from http.cookies import SimpleCookie
from pathlib import Path
from urllib.parse import urlencode

import pytest
from conftest import ROOT, wait_until
from services import MariaDB, mariadb, missing  # noqa: F401
from site_world import PASSWORD, Browser, Page, Site, settings_of
from web_servers import free_port, server_of

from spicad import config
from spicaweb import connections

pytestmark = pytest.mark.slow

CONF = """\
[paths]
spool = "spool"
results = "results"
archive = ["archive"]
[database]
url = "{url}"
[web]
address = "http://127.0.0.1:{port}{path}"
linger_s = {linger_s}
"""


@dataclass
class Client:
    """A browser over a socket, with the same few words as site_world.Browser."""

    port: int
    path: str = ""
    cookies: dict[str, str] = field(default_factory=dict)
    csrf: str = ""

    def get(self, path: str, **headers: str) -> Page:
        return self._ask("GET", path, "", headers)

    def post(self, path: str, headers: dict[str, str] | None = None, **fields: str) -> Page:
        sent = {"Origin": f"http://127.0.0.1:{self.port}", "Content-Type": "application/x-www-form-urlencoded"}
        return self._ask("POST", path, urlencode({"csrf": self.csrf, **fields}), {**sent, **(headers or {})})

    def _ask(self, method: str, path: str, body: str, headers: dict[str, str]) -> Page:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        cookies = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        connection.request(method, self.path + path, body.encode(), {"Cookie": cookies, **headers})
        answer = connection.getresponse()
        page = Page(answer.status, dict(answer.getheaders()), answer.read())
        connection.close()
        for name, morsel in SimpleCookie(page.headers.get("Set-Cookie", "")).items():
            self.cookies[name] = morsel.value
        self.csrf = page.csrf or self.csrf
        return page

    def answers(self) -> bool:
        try:
            return self.get("/static/spica.css").status == 200
        except OSError:
            return False


@dataclass
class Server:
    kind: str
    client: Client
    site: Site
    process: subprocess.Popen[bytes]


def started(kind: str, folder: Path, url: str = "", path: str = "") -> Server:
    """`kind`: serve, cgi, or warm, which is CGI that leaves a site behind."""
    port = free_port()
    (folder / "spica.conf").write_text(CONF.format(url=url, port=port, path=path, linger_s=300 * (kind == "warm")))
    site = Site(config.load(folder / "spica.conf"))
    process = server_of(kind, folder / "spica.conf", port, path)
    client = Client(port, path)
    wait_until(lambda: client.answers() or process.poll() is not None, f"{kind} to answer")
    assert process.poll() is None, (folder / "server.log").read_text()
    return Server(kind, client, site, process)


SERVERS = [f"{kind}-{engine}" for kind in ("cgi", "warm", "serve") for engine in ("sqlite", "mariadb")]


@pytest.fixture(scope="module", params=SERVERS)
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    kind, _, engine = request.param.partition("-")
    url = request.getfixturevalue("mariadb").url(f"site_{kind}") if engine == "mariadb" else ""
    folder = tmp_path_factory.mktemp("server")
    found = started(kind, folder, url)
    yield found
    found.process.send_signal(signal.SIGTERM)
    found.process.wait(30)
    (folder / "spica.conf").unlink()  # what was left behind ends without it


def test_one_logs_in_changes_something_and_logs_out(server: Server) -> None:
    client = Client(server.client.port)
    assert client.get("/account").headers["Location"] == "/login?next=%2Faccount"
    client.get("/login")
    assert client.post("/login", name="alice", password="a wrong guess").status == 401
    assert client.post("/login", name="alice", password=PASSWORD, next="/account").headers["Location"] == "/account"

    page = client.get("/account")
    assert "alice@example.org" in page.text
    assert client.post("/account/details", full_name="Alice Archér, 1m80", institute="IAP").status == 303
    assert "Alice Archér, 1m80" in client.get("/account").text

    assert client.post("/logout").status == 303
    assert client.get("/account").status == 303


def test_headers_and_unknown_paths_are_the_same_behind_every_server(server: Server) -> None:
    client = Client(server.client.port)

    page, nowhere = client.get("/"), client.get("/no%2Fwhere/..")

    assert "default-src 'none'" in page.headers["Content-Security-Policy"]
    assert page.headers["X-Content-Type-Options"] == nowhere.headers["X-Content-Type-Options"] == "nosniff"
    assert nowhere.status == 404
    assert "Python" not in str(page.headers) + str(nowhere.headers)


def test_headers_of_a_client_are_nobody_and_no_other_host(server: Server) -> None:
    client = Client(server.client.port)
    forged = {"Remote-User": "dan", "X-Forwarded-Host": "evil.org", "X-Forwarded-Proto": "https", "Proxy": "evil.org"}

    page = client.get("/account", **forged)

    assert page.headers["Location"] == "/login?next=%2Faccount"
    client.get("/login")
    assert client.post("/login", {"Origin": "http://evil.org"}, name="alice", password=PASSWORD).status == 403


def test_a_form_that_is_too_large_is_refused(server: Server) -> None:
    client = Client(server.client.port)
    client.get("/login")

    assert client.post("/login", name="x" * 300_000, password="y").status == 413


def test_many_at_once_are_answered_each_with_their_own(server: Server) -> None:
    names = ["alice", "bob", "carol", "gina"]
    visitors = [Client(server.client.port, cookies=server.site.logged_in(name).cookies) for name in names] * 3

    with ThreadPoolExecutor(len(visitors)) as pool:
        pages = list(pool.map(lambda visitor: visitor.get("/account").text, visitors))

    assert [f"<dd>{name}@example.org</dd>" in page for name, page in zip(names * 3, pages, strict=True)] == [True] * 12


@pytest.mark.parametrize("kind", ["cgi", "warm", "serve"])
def test_the_site_lives_under_a_path_too(kind: str, tmp_path: Path) -> None:
    server = started(kind, tmp_path, path="/reduction/spica")
    try:
        page = server.client.get("/login")
        assert 'action="/reduction/spica/login"' in page.text
        answer = server.client.post("/login", name="alice", password=PASSWORD)
        assert answer.headers["Location"] == "/reduction/spica/"
        assert server.client.get("/account").status == 200
    finally:
        server.process.terminate()
        server.process.wait(30)
        (tmp_path / "spica.conf").unlink()


def test_the_site_goes_on_after_its_database_server_was_away(
    mariadb: MariaDB,  # noqa: F811
    tmp_path: Path,
) -> None:
    server = started("serve", tmp_path, mariadb.url("away"))
    client = Client(server.client.port, cookies=server.site.logged_in("alice").cookies)
    try:
        assert client.get("/account").status == 200

        mariadb.kill()
        away = client.get("/account")
        mariadb.start()

        assert away.status == 503
        assert client.get("/account").status == 200
    finally:
        server.process.terminate()
        server.process.wait(30)


def test_another_database_file_under_the_same_name_is_seen_at_once(tmp_path: Path) -> None:
    server = started("serve", tmp_path)
    client = Client(server.client.port, cookies=server.site.logged_in("alice").cookies)
    try:
        assert client.get("/account").status == 200

        for path in (tmp_path / "spool").glob("spica*.db*"):
            path.rename(path.with_name(path.name + ".away"))

        assert client.get("/account").status == 503
        for path in (tmp_path / "spool").glob("spica*.away"):
            path.replace(path.with_suffix(""))
        assert client.get("/account").status == 200
    finally:
        server.process.terminate()
        server.process.wait(30)


def test_a_database_file_that_is_replaced_during_a_request_is_seen_by_the_next(tmp_path: Path) -> None:
    other = tmp_path / "other.db"
    with sqlite3.connect(other) as connection:
        connection.execute("CREATE TABLE other (id INTEGER)")
    opened = connections.site_tables(settings_of(tmp_path))

    connections.begin(opened)
    for path in (tmp_path / "spool").glob("spica.db*"):
        path.rename(path.with_name(path.name + ".away"))
    other.rename(opened.database)
    connections.end(opened)
    connections.begin(opened)

    assert opened.get_tables() == ["other"]
    connections.leave()


def test_spica_wsgi_is_the_application(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "spica.conf").write_text(CONF.format(url="", port=8080, path="", linger_s=0))
    site = Site(config.load(tmp_path / "spica.conf"))
    monkeypatch.setenv("SPICA_CONF", str(tmp_path / "spica.conf"))

    application = runpy.run_path(str(ROOT / "web/spica.wsgi"))["application"]

    assert Browser(application, site.settings.web.address).log_in("alice").status == 303


def test_a_site_that_is_not_set_up_says_so_without_its_insides(tmp_path: Path) -> None:
    (tmp_path / "spica.conf").write_text('[web]\naddres = "x"\n')
    environment = {**os.environ, "SPICA_CONF": str(tmp_path / "spica.conf"), "REQUEST_METHOD": "GET"}

    done = subprocess.run([ROOT / "web/spica.cgi"], env=environment, capture_output=True, text=True, check=True)

    assert done.stdout.startswith("Status: 503")
    assert "addres" not in done.stdout
    assert 'unknown key "addres"' in done.stderr


def test_spica_serve_says_what_is_wrong_with_a_place(tmp_path: Path) -> None:
    (tmp_path / "spica.conf").write_text("")
    command = [sys.executable, ROOT / "bin/spica", "--config", tmp_path / "spica.conf", "serve", "--listen", "nowhere"]

    done = subprocess.run(command, capture_output=True, text=True, check=False)

    assert done.returncode == 1
    assert "'nowhere' is no place to listen" in done.stderr


def test_a_page_loads_nothing_heavy() -> None:
    """CGI pays for each import with every request."""
    program = "import sys; sys.path[:0] = ['web', '.']; import spicaweb.app; print(*sys.modules)"

    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)

    heavy = {"astropy", "numpy", "watchdog", "PIL", "asyncio", "smtplib", "waitress", "psutil"}
    loaded = done.stdout.split()
    assert set(loaded) & heavy == set()
    assert [name for name in loaded if name.startswith(("spicaweb.pages", "spicad.applications", "spicad.desk"))] == []

"""A site that stays in memory after a request by CGI: it answers the next ones, and nobody notices but by the clock.

What it answers like is told by test_site_servers.py, which runs all its tests on it too.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from conftest import COMPILED, ROOT, wait_until
from site_world import Site

from spicad import config
from spicaweb import warm

pytestmark = pytest.mark.slow

CONF = """\
[paths]
spool = "spool"
results = "results"
archive = ["archive"]
[web]
address = "http://127.0.0.1:8080{path}"
linger_s = {linger_s}
"""


class Cgi:
    """A site that is asked by one process for each request, as a web server would."""

    def __init__(self, folder: Path, linger_s: float = 300) -> None:
        self.folder = folder
        self.conf = folder / "spica.conf"
        self.configure(linger_s)
        (folder / "spool").mkdir()
        self.site = Site(config.load(self.conf))
        self.environment = {**os.environ, **COMPILED, "SPICA_CONF": str(self.conf)}

    def configure(self, linger_s: float, path: str = "") -> None:
        self.conf.write_text(CONF.format(linger_s=linger_s, path=path))

    def get(self, path: str = "/login", cookie: str = "") -> str:
        answer = self.ask(path, cookie)
        assert answer.startswith("Status: 200 OK"), answer[:400]
        return answer

    def ask(self, path: str, cookie: str = "", **more: str) -> str:
        request = {"REQUEST_METHOD": "GET", "PATH_INFO": path, "HTTP_COOKIE": cookie, "SERVER_NAME": "localhost"}
        request |= {"SERVER_PORT": "80", "SERVER_PROTOCOL": "HTTP/1.1", "REMOTE_ADDR": "192.0.2.7"}
        request |= more
        command = [sys.executable, str(ROOT / "web/spica.cgi")]
        done = subprocess.run(
            command,
            env={**self.environment, **request},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout

    def lingering(self) -> list[int]:
        """The processes that were left behind by this site."""
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            try:
                words = (process / "cmdline").read_bytes()
                mine = f"SPICA_CONF={self.conf}".encode() in (process / "environ").read_bytes()
            except OSError:
                continue
            if b"spicaweb.lingering" in words and mine:
                found.append(int(process.name))
        return found

    @property
    def socket(self) -> Path:
        was, os.environ["SPICA_CONF"] = os.environ.get("SPICA_CONF"), str(self.conf)
        try:
            return Path(warm.socket_path(str(ROOT)))
        finally:
            os.environ.pop("SPICA_CONF") if was is None else os.environ.update(SPICA_CONF=was)

    def warmed(self) -> int:
        """Asked once; the process that it left behind."""
        self.get()
        wait_until(self.socket.exists, "a site to be left behind")
        (pid,) = self.lingering()
        return pid


@pytest.fixture
def cgi(tmp_path: Path) -> Iterator[Cgi]:
    made = Cgi(tmp_path)
    yield made
    for pid in made.lingering():
        os.kill(pid, signal.SIGKILL)


def test_what_is_left_behind_answers_the_next_request_in_the_name_of_its_visitor(cgi: Cgi) -> None:
    cold = cgi.get()
    wait_until(cgi.socket.exists, "a site to be left behind")
    (pid,) = cgi.lingering()
    before = Path(f"/proc/{pid}/io").read_text()

    cookies = {name: cgi.site.logged_in(name).cookies["spica"] for name in ("alice", "carol")}
    pages = {name: cgi.get("/account", f"spica={cookie}") for name, cookie in cookies.items()}
    warm_login = cgi.get()

    assert all(f"<dd>{name}@example.org</dd>" in page for name, page in pages.items())
    without_secrets = [re.sub(r"\b[0-9a-f]{32,}\b", "", page) for page in (cold, warm_login)]
    assert without_secrets[0] == without_secrets[1]
    assert Path(f"/proc/{pid}/io").read_text() != before
    assert cgi.lingering() == [pid]


def test_a_changed_configuration_holds_from_the_next_request_on(cgi: Cgi) -> None:
    old = cgi.warmed()

    cgi.configure(300, path="/elsewhere")

    assert 'action="/elsewhere/login"' in cgi.get()
    wait_until(lambda: old not in cgi.lingering(), "the old site to end")


def test_it_ends_by_itself_when_nobody_comes_and_takes_its_socket_along(cgi: Cgi) -> None:
    cgi.configure(0.5)
    cgi.warmed()

    wait_until(lambda: not cgi.lingering(), "the site to end")

    assert not cgi.socket.exists()
    cgi.get()


def test_killed_it_is_missed_by_nobody(cgi: Cgi) -> None:
    os.kill(cgi.warmed(), signal.SIGKILL)
    wait_until(lambda: not cgi.lingering(), "the site to end")

    page = cgi.get()

    assert "Log in" in page
    wait_until(cgi.lingering, "another one to be left behind")


def test_many_first_requests_leave_one_behind(cgi: Cgi) -> None:
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: cgi.get(), range(4)))

    wait_until(lambda: cgi.socket.exists() and len(cgi.lingering()) == 1, "one to be left")


def test_with_linger_s_0_nothing_is_left_behind(cgi: Cgi) -> None:
    cgi.configure(0)

    cgi.get()

    assert cgi.lingering() == []
    assert not cgi.socket.exists()


def test_a_path_of_any_letters_is_answered_as_without_it(cgi: Cgi) -> None:
    cold = cgi.ask("/help/\u0101")
    wait_until(cgi.socket.exists, "a site to be left behind")

    assert cold.startswith("Status: 404 Not Found")
    assert cgi.ask("/help/\u0101") == cold


def test_half_a_form_and_half_a_head_are_not_acted_on(cgi: Cgi, monkeypatch: pytest.MonkeyPatch) -> None:
    cgi.warmed()
    monkeypatch.setattr(os, "environ", {"SPICA_CONF": str(cgi.conf), "CONTENT_LENGTH": "100", "PATH_INFO": "/login"})
    head = warm._netstring(str(ROOT))

    assert [_said(cgi.socket, sent) for sent in (head + b"name=alice", head[:-20], b"9" * 40)] == [b"+", b"", b""]
    assert "Log in" in cgi.get()


def test_a_form_that_is_broken_off_is_answered_at_once(cgi: Cgi) -> None:
    cgi.warmed()

    assert cgi.ask("/login", REQUEST_METHOD="POST", CONTENT_LENGTH="1000").startswith("Status: 503")


def _said(path: Path, sent: bytes) -> bytes:
    """What the far end says to it when nothing more comes."""
    with socket.socket(socket.AF_UNIX) as near:
        near.connect(str(path))
        near.sendall(sent)
        near.shutdown(socket.SHUT_WR)
        with contextlib.suppress(ConnectionResetError):
            return b"".join(iter(lambda: near.recv(4096), b""))
        return b""


def test_one_that_says_nothing_holds_up_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as folder, socket.socket(socket.AF_UNIX) as stopped:
        monkeypatch.setattr(warm, "folder", lambda: folder)
        monkeypatch.setattr(warm, "READY_S", 0.05)
        stopped.bind(warm.socket_path(str(ROOT)))
        stopped.listen()

        assert not warm.is_answered(str(ROOT))


def test_a_folder_that_others_can_write_to_is_not_trusted(tmp_path: Path) -> None:
    private, open_to_all, link = tmp_path / "private", tmp_path / "open", tmp_path / "link"
    private.mkdir(0o700)
    open_to_all.mkdir()
    open_to_all.chmod(0o777)
    link.symlink_to(private)

    assert [warm.is_ours(str(each)) for each in (private, open_to_all, link, tmp_path / "none")] == [
        True, False, False, False,
    ]  # fmt: skip

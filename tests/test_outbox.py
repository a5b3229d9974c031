"""The outbox against a real SMTP server on loopback that refuses, delays, cuts and hangs; sendmail; Maildir; kill -9.

What the mails say is test_report.py's affair.
"""

from __future__ import annotations

import asyncio
import email
import email.policy
import mailbox
import os
import re
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, LoginPassword

from spicad import config, outbox
from spicad.outbox import Delivery
from spicad.words import Ending, SpicaError

NOON = 1_763_812_800.0
DAY = 86400.0
KEY = "000012-run1-completed"
SENDER = "spica@example.org"
ALICE = "alice@example.org"
BOB = "bob@example.org"
REPOSITORY = Path(__file__).parent.parent


class Server(SMTP):
    async def smtp_DATA(self, arg: str) -> None:
        if self.event_handler.behaviour == "cut at DATA":
            self.transport.abort()
        else:
            await super().smtp_DATA(arg)


class Relay(Controller):
    """What a relay may do to a mail is its `behaviour`; `got` is what it took, in order."""

    def __init__(self, hostname: str = "127.0.0.1", port: int = 0, **options: Any) -> None:
        self.got: list[tuple[str, list[str], bytes]] = []
        self.connections = 0
        self.behaviour: str = ""
        self.only: str = ""
        self.before_answer: Callable[[], None] = lambda: None
        self.released = threading.Event()
        super().__init__(self, hostname=hostname, port=port, **options)

    def factory(self) -> SMTP:
        self.connections += 1
        return Server(self.handler, **self.SMTP_kwargs)

    def _trigger_server(self) -> None:
        self.port = self.server.sockets[0].getsockname()[1]
        super()._trigger_server()
        self.connections = 0

    @property
    def address(self) -> str:
        return f"{self.hostname}:{self.port}"

    def messages(self) -> list[EmailMessage]:
        contents = [content.replace(b"\r\n", b"\n") for _, _, content in self.got]
        return [email.message_from_bytes(content, policy=email.policy.default) for content in contents]

    def stop(self, no_assert: bool = False) -> None:
        if self._thread is not None:
            super().stop(no_assert)

    async def handle_MAIL(self, server: SMTP, session: Any, envelope: Any, sender: str, options: list[str]) -> str:
        if self.behaviour == "three a session" and session.__dict__.setdefault("mails", 0) >= 3:
            server.transport.write(b"421 4.7.0 too many mails in one session\r\n")
            server.transport.close()
        if self.behaviour.startswith("sender "):
            return self.behaviour.removeprefix("sender ")
        envelope.mail_from = sender
        return "250 OK"

    async def handle_RCPT(self, server: SMTP, session: Any, envelope: Any, address: str, options: list[str]) -> str:
        if re.match(r"[45]\d\d ", self.behaviour) and self.only in ("", address):
            return self.behaviour
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: SMTP, session: Any, envelope: Any) -> str:
        if self.behaviour == "hang":
            await asyncio.get_running_loop().run_in_executor(None, self.released.wait)
        if self.behaviour.startswith("data "):
            return self.behaviour.removeprefix("data ")
        session.mails = session.__dict__.get("mails", 0) + 1
        self.got.append((envelope.mail_from, envelope.rcpt_tos, envelope.content))
        self.before_answer()
        if self.behaviour == "cut after DATA" and self.only.encode() in envelope.content:
            server.transport.abort()
        return "250 queued"


@pytest.fixture
def relays() -> Iterator[Callable[..., Relay]]:
    started: list[Relay] = []

    def start(**options: Any) -> Relay:
        started.append(Relay(**options))
        started[-1].start()
        return started[-1]

    yield start
    for relay in started:
        relay.released.set()
        relay.stop(no_assert=True)


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("certificate")
    cert, key = folder / "cert.pem", folder / "key.pem"
    request = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    subprocess.run([*request, *names, "-keyout", key, "-out", cert, "-days", "2"], check=True, capture_output=True)
    return cert, key


@pytest.fixture
def tls(certificate: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> ssl.SSLContext:
    """The relay's side; on ours the certificate is known as an administrator would make it known."""
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate[0]))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    return context


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "outbox"


@pytest.fixture
def settings(tmp_path: Path) -> Callable[..., config.Settings]:
    def make(relay: Relay | str = "", **options: Any) -> config.Settings:
        mail = {
            "relay": relay if isinstance(relay, str) else relay.address,
            "security": "none",
            "sender": SENDER,
            "timeout_s": 20,
            "maildir": str(tmp_path / "Maildir"),
            **options,
        }
        lines = [f"{name} = {value if isinstance(value, int | float) else repr(value)}" for name, value in mail.items()]
        return config.parse("[mail]\n" + "\n".join(lines), tmp_path / "spica.conf")

    return make


def a_mail(to: str = ALICE, text: str = "Process 12 is completed.\n", subject: str = "m101-r") -> EmailMessage:
    mail = EmailMessage()
    mail["From"], mail["To"], mail["Subject"] = f"Spica <{SENDER}>", to, subject
    mail.set_content(text)
    return mail


def put_many(folder: Path, count: int, now: float = NOON) -> None:
    for number in range(count):
        outbox.put(folder, f"{number:06}-run1-completed", a_mail(), now)


def endings(deliveries: list[Delivery]) -> list[Ending]:
    return [delivery.ending for delivery in deliveries]


def keys(folder: Path) -> list[str]:
    return [mail.key for mail in outbox.waiting(folder)]


def why(folder: Path, key: str = KEY) -> str:
    return (folder / "failed" / f"{key}.why").read_text()


# Addresses and headers


@pytest.mark.parametrize(
    "address",
    ["observer@example.org", "o.b-s_e+r@sub.example.org", "alice@fcix2", "a'b@example.org", "1@2.example", "_x@y.org"],
)
def test_a_plain_address_is_taken(address: str):
    assert outbox.address_problem(address) == ""


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("", "is empty"),
        ("  ", "is empty"),
        ("Alice <alice@example.org>", "Write the address alone"),
        ("alice@example.org, bob@example.org", "Write exactly one"),
        ("alice@example.org;bob@example.org", "Write exactly one"),
        ("alice @example.org", "Write exactly one"),
        ("alice@example.org\nBcc: bob@example.org", "Write exactly one"),
        ("alice@example.org\n", "Write exactly one"),
        ("alice\x00@example.org", "plain ASCII"),
        ("alicé@example.org", "plain ASCII"),
        ("-f@example.org", "starts with a dash"),
        ("-OQueueDirectory=/tmp@example.org", "starts with a dash"),
        ("|program@example.org", "is not a mail address"),
        ("/var/mail/root@example.org", "is not a mail address"),
        ("alice", "is not a mail address"),
        ("alice@", "is not a mail address"),
        ("@example.org", "is not a mail address"),
        ("alice@-example.org", "is not a mail address"),
        ("alice@example..org", "is not a mail address"),
        ("alice@example.org.", "is not a mail address"),
        ("a..b@example.org", "is not a mail address"),
        ("a.@example.org", "is not a mail address"),
        ("alice@bob@example.org", "is not a mail address"),
        ("alice@[127.0.0.1]", "is not a mail address"),
        ('"a b"@example.org', "Write exactly one"),
        ("a" * 65 + "@example.org", "is not a mail address"),
        ("a@" + "b." * 126 + "org", "is not a mail address"),
        ("a" * 100_000, "is not a mail address"),
    ],
)
def test_what_is_not_one_plain_address_is_refused_with_words(address: str, words: str):
    problem = outbox.address_problem(address)

    assert words in problem
    assert problem.isprintable()
    assert len(problem) < 200


def test_a_mail_to_what_is_no_address_is_not_composed(settings):
    with pytest.raises(SpicaError, match="exactly one"):
        outbox.compose(settings(), f"{ALICE}\nBcc: {BOB}", "m101-r", "text")


@pytest.mark.parametrize(
    "name", [f"x\r\nBcc: {BOB}", f"=?utf-8?q?x=0D=0ABcc:_{BOB}?=", f"x\u2028Bcc: {BOB}", "=?utf-8?q?=00=1b[31m?="]
)
def test_a_name_cannot_add_a_header(folder: Path, settings, name: str):
    outbox.put(folder, KEY, outbox.compose(settings(), ALICE, name, "text"), NOON)

    raw = (folder / f"{KEY}.eml").read_bytes()
    head = email.message_from_bytes(raw, policy=email.policy.default)
    assert head["Bcc"] is None
    assert b"\nBcc:" not in raw
    assert str(head["Subject"]).isprintable()
    assert raw.replace(b"\n", b"").decode("ascii").isprintable()
    assert set(head.keys()) >= {"From", "To", "Subject", "Date", "Message-ID", "Auto-Submitted"}


@pytest.mark.parametrize("text", ["plain\n", "é\n", "x" * 3000 + "\n", "é" * 3000 + "\n", ".\n..\nFrom here\n\n.\n"])
def test_any_text_arrives_as_it_was_written_and_no_line_is_overlong(folder, settings, relays, text: str):
    relay = relays()
    outbox.put(folder, KEY, outbox.compose(settings(relay), ALICE, "m101-r ☆", text), NOON)

    assert endings(outbox.deliver(folder, settings(relay), NOON)) == [Ending.DONE]

    (sender, to, raw), (message,) = relay.got[0], relay.messages()
    assert (sender, to) == (SENDER, [ALICE])
    assert message.get_content().replace("\r\n", "\n") == text
    assert message["Subject"] == "m101-r ☆"
    assert raw.isascii()
    assert max(map(len, raw.splitlines())) <= 998


# Keeping


def test_the_message_id_comes_from_the_key_and_the_spool(tmp_path: Path):
    ids = []
    for spool, key in ((1, KEY), (1, KEY), (1, "000013-run1-error"), (2, KEY)):
        outbox.put(tmp_path / str(spool), key, a_mail(), NOON)
        ids.append(email.message_from_bytes((tmp_path / str(spool) / f"{key}.eml").read_bytes())["Message-ID"])

    assert ids[0] == ids[1]
    assert len(set(ids)) == 3
    assert re.fullmatch(rf"<{KEY}\.[0-9a-f]{{16}}@example.org>", ids[0])


def test_a_long_key_still_makes_a_whole_message_id(folder: Path):
    outbox.put(folder, "k" * 120, a_mail(), NOON)

    raw = (folder / f"{'k' * 120}.eml").read_bytes()
    assert re.search(rb"Message-ID:\s+<k{120}\.[0-9a-f]{16}@example.org>\n", raw)


@pytest.mark.parametrize("key", ["", ".x", "a/b", "../x", "a b", "a\n", "k" * 121, "é"])
def test_a_key_that_is_no_plain_file_name_is_refused(folder: Path, key: str):
    with pytest.raises(ValueError, match="cannot be the key"):
        outbox.put(folder, key, a_mail(), NOON)
    assert not folder.exists()


def test_the_same_key_replaces_the_mail_while_it_waits(folder, settings, relays):
    relay = relays()
    outbox.put(folder, KEY, a_mail(text="first\n"), NOON)
    outbox.put(folder, KEY, a_mail(text="second\n"), NOON)

    outbox.deliver(folder, settings(relay), NOON)

    assert [message.get_content() for message in relay.messages()] == ["second\n"]


def test_a_mail_put_anew_does_not_inherit_the_pause_of_the_old_one(folder, settings, relays):
    relay = relays()
    relay.behaviour = "451 later"
    outbox.put(folder, KEY, a_mail(), NOON)
    outbox.deliver(folder, settings(relay), NOON)
    assert outbox.due(folder, NOON + 1) == []

    outbox.put(folder, KEY, a_mail(), NOON + 1)

    assert [mail.key for mail in outbox.due(folder, NOON + 1)] == [KEY]


def test_waiting_mails_are_for_nobody_else_to_read(folder: Path):
    outbox.put(folder, KEY, a_mail(), NOON)

    assert (folder / f"{KEY}.eml").stat().st_mode & 0o777 == 0o600
    assert folder.stat().st_mode & 0o777 == 0o700


def test_an_acceptance_is_told_until_it_is_noted(folder, settings, relays):
    relay = relays()
    outbox.put(folder, KEY, a_mail(), NOON)
    outbox.deliver(folder, settings(relay), NOON + 5)

    assert outbox.accepted(folder) == [(KEY, NOON + 5)]
    outbox.forget(folder, KEY)
    outbox.forget(folder, KEY)
    assert outbox.accepted(folder) == []


def test_an_empty_or_missing_outbox_has_nothing_to_do(folder, settings):
    assert outbox.deliver(folder, settings("127.0.0.1:1"), NOON) == []
    assert outbox.accepted(folder) == []
    outbox.try_all_now(folder)
    assert not folder.exists()


def test_files_that_are_no_mails_are_left_alone(folder, settings, relays):
    relay = relays()
    outbox.put(folder, KEY, a_mail(), NOON)
    (folder / "a folder.eml").mkdir()
    (folder / "folder.eml").mkdir()
    (folder / "link.eml").symlink_to("/etc/passwd")
    (folder / "README").write_text("hand-made")

    outbox.deliver(folder, settings(relay), NOON)

    assert [message["To"] for message in relay.messages()] == [ALICE]
    assert (folder / "link.eml").is_symlink()


@pytest.mark.parametrize(
    "damaged", [b"", b"\n", b"To:\n\nx", b"To: -f@x\n\nx", b"To: a b c\n\nx", b"To: x:;\n\nx", b"\xff\x00" * 500]
)
def test_a_mail_that_names_nobody_is_set_aside_and_the_next_goes(folder, settings, relays, damaged: bytes):
    relay = relays()
    put_many(folder, 2)
    (folder / "000000-run1-completed.eml").write_bytes(damaged)

    found = outbox.deliver(folder, settings(relay), NOON)

    assert {each.key[:6]: each.ending for each in found} == {"000000": Ending.NEVER_AGAIN, "000001": Ending.DONE}
    assert "names no mail address" in why(folder, "000000-run1-completed")


def test_what_a_power_cut_tore_is_tried_at_once(folder, settings, relays):
    relay = relays()
    outbox.put(folder, KEY, a_mail(), NOON)
    (folder / f"{KEY}.try").write_bytes(b'{"tries": 3, "ne')
    (folder / "way").write_bytes(b"")
    (folder / "gone.try").write_bytes(b"")

    assert endings(outbox.deliver(folder, settings(relay), NOON)) == [Ending.DONE]
    assert not list(folder.glob("*.try"))


# The relay


def test_many_mails_go_over_one_connection(folder, settings, relays):
    relay = relays()
    put_many(folder, 20)

    found = outbox.deliver(folder, settings(relay), NOON)

    assert endings(found) == [Ending.DONE] * 20
    assert found[0] == Delivery("000000-run1-completed", Ending.DONE, (ALICE,), "", NOON)
    assert (len(relay.got), relay.connections) == (20, 1)
    assert keys(folder) == []


def login(server: Any, session: Any, envelope: Any, mechanism: str, data: Any) -> AuthResult:
    is_known = isinstance(data, LoginPassword) and (data.login, data.password) == (b"spica", b"correct")
    return AuthResult(success=is_known, handled=False)


def a_password(tmp_path: Path, password: str = "correct", mode: int = 0o600) -> str:
    file = tmp_path / "password"
    file.write_text(password + "\n")
    file.chmod(mode)
    return str(file)


def strict(tls: ssl.SSLContext) -> dict[str, Any]:
    return {"tls_context": tls, "require_starttls": True, "authenticator": login, "auth_required": True}


def test_a_relay_that_demands_starttls_and_a_login_gets_both(folder, settings, relays, tls, tmp_path):
    relay = relays(**strict(tls))
    outbox.put(folder, KEY, a_mail(), NOON)
    mine = settings(relay, security="starttls", user="spica", password_file=a_password(tmp_path))

    assert endings(outbox.deliver(folder, mine, NOON)) == [Ending.DONE]


def test_a_relay_that_speaks_tls_from_the_start_is_understood(folder, settings, relays, certificate, monkeypatch):
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate[0]))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    relay = relays(ssl_context=context)
    outbox.put(folder, KEY, a_mail(), NOON)

    assert endings(outbox.deliver(folder, settings(relay, security="tls"), NOON)) == [Ending.DONE]


def assert_waits(folder: Path, relay: Relay, found: list[Delivery], caplog: pytest.LogCaptureFixture, words: str):
    """The matter is the administrator's: nothing was sent, nothing is lost, the log says what to mend."""
    assert found == []
    assert relay.got == []
    assert keys(folder) == [KEY]
    assert outbox.due(folder, NOON + 59) == []
    assert [mail.key for mail in outbox.due(folder, NOON + 60)] == [KEY]
    (record,) = [record for record in caplog.records if record.name == "spicad.outbox"]
    assert words in record.getMessage()
    assert "1 mails wait, next try at 2025-11-22 12:01:00 UTC" in record.getMessage()


@pytest.mark.parametrize(
    ("host", "trusted", "words"),
    [("127.0.0.1", False, "certificate verify failed"), ("127.0.0.2", True, "certificate is not valid for")],
)
def test_a_relay_with_a_strange_certificate_gets_no_mail(
    folder, settings, relays, tls, caplog, monkeypatch, host, trusted, words
):
    relay = relays(hostname=host, tls_context=tls)
    if not trusted:
        monkeypatch.delenv("SSL_CERT_FILE")
    outbox.put(folder, KEY, a_mail(), NOON)

    found = outbox.deliver(folder, settings(relay, security="starttls"), NOON)

    assert_waits(folder, relay, found, caplog, words)


def test_a_relay_without_the_wanted_starttls_gets_no_mail_in_the_clear(folder, settings, relays, caplog):
    relay = relays()
    outbox.put(folder, KEY, a_mail(), NOON)

    found = outbox.deliver(folder, settings(relay, security="starttls"), NOON)

    assert_waits(folder, relay, found, caplog, "STARTTLS extension not supported")


@pytest.mark.parametrize(
    ("password", "mode", "words"),
    [
        ("wrong", 0o600, "the login is refused, mend mail.user or mail.password_file: 535"),
        ("correct", 0o644, "others may read this password. Run: chmod o-rwx"),
        ("pässword", 0o600, "not plain ASCII"),
    ],
)
def test_a_login_that_fails_waits_for_the_administrator(
    folder, settings, relays, tls, tmp_path, caplog, password, mode, words
):
    relay = relays(**strict(tls))
    outbox.put(folder, KEY, a_mail(), NOON)
    mine = settings(relay, security="starttls", user="spica", password_file=a_password(tmp_path, password, mode))

    found = outbox.deliver(folder, mine, NOON)

    assert_waits(folder, relay, found, caplog, words)


def test_a_missing_password_file_is_named(folder, settings, relays, tls, tmp_path, caplog):
    relay = relays(**strict(tls))
    outbox.put(folder, KEY, a_mail(), NOON)
    mine = settings(relay, security="starttls", user="spica", password_file=str(tmp_path / "nowhere"))

    found = outbox.deliver(folder, mine, NOON)

    assert_waits(folder, relay, found, caplog, f"No such file or directory: '{tmp_path / 'nowhere'}'")


def test_a_password_is_never_sent_in_the_clear_to_another_machine(folder, settings, relays, tmp_path, caplog):
    relay = relays(hostname="127.0.0.2", authenticator=login, auth_require_tls=False)
    outbox.put(folder, KEY, a_mail(), NOON)
    mine = settings(relay, user="spica", password_file=a_password(tmp_path))

    found = outbox.deliver(folder, mine, NOON)

    assert_waits(folder, relay, found, caplog, "the password is not sent in the clear")


@pytest.mark.parametrize(
    ("behaviour", "words"),
    [
        ("530 5.7.0 login first", "the relay wants a login: 530 5.7.0 login first"),
        ("sender 550 5.1.8 unknown sender", f"refuses the sender {SENDER}: 550 5.1.8"),
        ("sender 452 4.3.1 no room", "452 4.3.1 no room"),
    ],
)
def test_a_relay_that_refuses_us_rather_than_the_mail_is_the_administrators_matter(
    folder, settings, relays, caplog, behaviour, words
):
    relay = relays()
    relay.behaviour = behaviour
    outbox.put(folder, KEY, a_mail(), NOON)

    found = outbox.deliver(folder, settings(relay), NOON)

    assert relay.got == []
    assert found == []
    assert keys(folder) == [KEY]
    assert words in caplog.text


def test_a_relay_that_is_not_host_and_port_is_said(folder, settings, caplog):
    outbox.put(folder, KEY, a_mail(), NOON)

    assert outbox.deliver(folder, settings("smtp://relay:25"), NOON) == []
    assert "mail.relay is not HOST or HOST:PORT" in caplog.text
    assert keys(folder) == [KEY]


@pytest.mark.parametrize(
    "behaviour", ["550 5.1.1 no such user", "data 554 5.6.0 not wanted", "sender 552 5.3.4 too big"]
)
def test_a_mail_that_is_refused_is_set_aside_with_its_reason(folder, settings, relays, behaviour: str):
    relay = relays()
    relay.behaviour = behaviour
    outbox.put(folder, KEY, a_mail(), NOON)

    (found,) = outbox.deliver(folder, settings(relay), NOON)

    assert found.ending is Ending.NEVER_AGAIN
    reply = re.sub(r"^(data|sender) ", "", behaviour)
    assert f"{ALICE}: {reply}" in why(folder)
    assert keys(folder) == []
    assert not list(folder.glob("*.try"))
    assert b"Process 12 is completed." in (folder / "failed" / f"{KEY}.eml").read_bytes()


def test_a_mail_set_aside_goes_when_it_is_moved_back_as_its_reason_says(folder, settings, relays):
    relay = relays()
    relay.behaviour = "550 no such user"
    outbox.put(folder, KEY, a_mail(), NOON)
    outbox.deliver(folder, settings(relay), NOON)
    relay.behaviour = ""

    command = why(folder).rpartition("To try it again: ")[2].split()
    subprocess.run(command, check=True)

    assert endings(outbox.deliver(folder, settings(relay), NOON + 1)) == [Ending.DONE]


@pytest.mark.parametrize("behaviour", ["451 4.7.1 greylisted", "data 451 4.3.0 try later"])
def test_a_mail_that_is_delayed_is_tried_after_pauses_that_double_up_to_six_hours(folder, settings, relays, behaviour):
    relay = relays()
    relay.behaviour = behaviour
    outbox.put(folder, KEY, a_mail(), NOON)
    now, pauses = NOON, []
    for _ in range(12):
        (found,) = outbox.deliver(folder, settings(relay), now)
        assert found.ending is Ending.TRY_AGAIN
        pause_s = outbox.waiting(folder)[0].pause.next - now
        assert outbox.deliver(folder, settings(relay), now + pause_s - 1) == []
        pauses.append(pause_s)
        now += pause_s

    assert pauses == [60.0 * 2**n for n in range(9)] + [6 * 3600.0] * 3

    relay.behaviour = ""
    assert endings(outbox.deliver(folder, settings(relay), now)) == [Ending.DONE]


def test_a_delayed_mail_does_not_hold_back_the_others(folder, settings, relays):
    relay = relays()
    relay.behaviour, relay.only = "451 later", BOB
    outbox.put(folder, "000001-bob", a_mail(BOB), NOON)
    outbox.put(folder, "000002-alice", a_mail(ALICE), NOON + 1)

    assert endings(outbox.deliver(folder, settings(relay), NOON + 1)) == [Ending.TRY_AGAIN, Ending.DONE]


def test_a_mail_that_two_readers_wait_for_is_sent_again_only_to_the_one_who_was_delayed(folder, settings, relays):
    relay = relays()
    relay.behaviour, relay.only = "451 later", BOB
    outbox.put(folder, KEY, a_mail(f"{ALICE}, {BOB}"), NOON)

    (first,) = outbox.deliver(folder, settings(relay), NOON)
    relay.behaviour = ""
    (second,) = outbox.deliver(folder, settings(relay), NOON + 60)

    assert (first.ending, first.to) == (Ending.TRY_AGAIN, (ALICE,))
    assert (second.ending, second.to) == (Ending.DONE, (BOB,))
    assert [to for _, to, _ in relay.got] == [[ALICE], [BOB]]


def test_a_mail_that_one_of_two_readers_cannot_get_is_set_aside_and_says_who(folder, settings, relays):
    relay = relays()
    relay.behaviour, relay.only = "550 gone", BOB
    outbox.put(folder, KEY, a_mail(f"{ALICE}, {BOB}"), NOON)

    (found,) = outbox.deliver(folder, settings(relay), NOON)

    assert (found.ending, found.to) == (Ending.NEVER_AGAIN, (ALICE,))
    assert f"{BOB}: 550 gone" in why(folder)
    assert ALICE not in why(folder)
    assert [to for _, to, _ in relay.got] == [[ALICE]]


@pytest.mark.parametrize("behaviour", ["cut at DATA", "cut after DATA"])
def test_a_mail_that_was_cut_off_is_sent_again_under_the_same_message_id(folder, settings, relays, behaviour: str):
    relay = relays()
    relay.behaviour = behaviour
    outbox.put(folder, KEY, a_mail(), NOON)

    assert outbox.deliver(folder, settings(relay), NOON) == []
    assert keys(folder) == [KEY]
    relay.behaviour = ""
    assert endings(outbox.deliver(folder, settings(relay), NOON + 60)) == [Ending.DONE]

    assert len(relay.got) == (1 if behaviour == "cut at DATA" else 2)
    assert len({message["Message-ID"] for message in relay.messages()}) == 1


def test_a_mail_that_always_breaks_the_connection_does_not_hold_back_the_others_for_ever(folder, settings, relays):
    relay = relays()
    relay.behaviour, relay.only = "cut after DATA", "poison"
    outbox.put(folder, "000001-poison", a_mail(text="poison\n"), NOON)
    outbox.put(folder, "000002-fine", a_mail(), NOON)

    outbox.deliver(folder, settings(relay), NOON)
    found = outbox.deliver(folder, settings(relay), NOON + 60)

    assert [(each.key, each.ending) for each in found] == [("000002-fine", Ending.DONE)]
    assert keys(folder) == ["000001-poison"]


def test_a_relay_that_ends_the_session_after_some_mails_is_asked_again_at_once(folder, settings, relays):
    relay = relays()
    relay.behaviour = "three a session"
    put_many(folder, 8)

    found = outbox.deliver(folder, settings(relay), NOON)

    assert endings(found) == [Ending.DONE] * 8
    assert (len(relay.got), relay.connections) == (8, 3)


def test_a_relay_that_hangs_is_waited_for_once_not_for_every_mail(folder, settings, relays, caplog):
    relay = relays()
    relay.behaviour = "hang"
    put_many(folder, 5)

    assert outbox.deliver(folder, settings(relay, timeout_s=0.3), NOON) == []

    assert relay.connections == 1
    assert "timed out" in caplog.text
    assert len(keys(folder)) == 5


@pytest.mark.slow
def test_a_dead_relay_is_asked_once_for_two_hundred_mails_and_gets_them_all_when_it_is_back(folder, settings, relays):
    relay = relays()
    mine = settings(relay)
    relay.stop()
    put_many(folder, 200)
    asked = []
    connected = outbox.way_out(mine.mail).__class__._connected

    def counted(self: Any) -> Any:
        asked.append(1)
        return connected(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("spicad.sending.Relay._connected", counted)
        assert outbox.deliver(folder, mine, NOON) == []
        assert outbox.deliver(folder, mine, NOON + 59) == []
    assert len(asked) == 1
    assert len(keys(folder)) == 200

    back = relays(port=relay.port)
    assert endings(outbox.deliver(folder, mine, NOON + 60)) == [Ending.DONE] * 200
    assert back.connections == 1
    assert len({message["Message-ID"] for message in back.messages()}) == 200


def test_a_new_mail_asks_a_dead_relay_at_once_and_when_it_is_back_the_old_ones_follow(folder, settings, relays):
    relay = relays()
    mine = settings(relay)
    relay.stop()
    outbox.put(folder, "000001-old", a_mail(), NOON)
    outbox.deliver(folder, mine, NOON)
    relays(port=relay.port)

    outbox.put(folder, "000002-new", a_mail(), NOON + 10)

    assert [each.key for each in outbox.deliver(folder, mine, NOON + 10)] == ["000002-new"]
    assert [each.key for each in outbox.deliver(folder, mine, NOON + 11)] == ["000001-old"]


def test_new_mails_do_not_lengthen_the_pauses_of_a_dead_relay(folder, settings):
    mine = settings("127.0.0.1:1")
    for second in range(30):
        outbox.put(folder, f"{second:06}-mail", a_mail(), NOON + second)
        outbox.deliver(folder, mine, NOON + second)

    assert outbox.due(folder, NOON + 59) == []
    assert len(outbox.due(folder, NOON + 60)) == 30


def test_the_pauses_of_a_dead_relay_double_up_to_six_hours_and_end_on_wish(folder, settings):
    mine = settings("127.0.0.1:1")
    outbox.put(folder, KEY, a_mail(), NOON)
    now, pauses = NOON, []
    for _ in range(11):
        outbox.deliver(folder, mine, now)
        pause_s = next(s for s in (60.0 * 2**n for n in range(20)) if outbox.due(folder, now + min(s, 6 * 3600.0)))
        pauses.append(min(pause_s, 6 * 3600.0))
        now += pauses[-1]

    assert pauses == [60.0 * 2**n for n in range(9)] + [6 * 3600.0] * 2
    outbox.deliver(folder, mine, now)
    assert outbox.due(folder, now + 1) == []
    outbox.try_all_now(folder)
    assert [mail.key for mail in outbox.due(folder, now + 1)] == [KEY]


def test_a_clock_that_was_set_back_does_not_hold_mails_for_days(folder, settings):
    mine = settings("127.0.0.1:1")
    outbox.put(folder, KEY, a_mail(), NOON)
    outbox.deliver(folder, mine, NOON)

    assert [mail.key for mail in outbox.due(folder, NOON - 30 * DAY)] == [KEY]


def test_mails_that_a_dead_relay_keeps_waiting_for_too_long_are_set_aside(folder, settings):
    mine = settings("127.0.0.1:1")
    outbox.put(folder, "000001-old", a_mail(), NOON)
    outbox.deliver(folder, mine, NOON)
    outbox.put(folder, "000002-young", a_mail(), NOON + 4 * DAY)

    found = outbox.deliver(folder, mine, NOON + 5 * DAY)

    assert [(each.key, each.ending) for each in found] == [("000001-old", Ending.NEVER_AGAIN)]
    assert why(folder, "000001-old").startswith(
        "Given up after 5 days. relay 127.0.0.1:1: [Errno 111] Connection refused"
    )
    assert keys(folder) == ["000002-young"]


def test_a_mail_that_is_delayed_for_too_long_is_set_aside(folder, settings, relays):
    relay = relays()
    relay.behaviour = "451 greylisted"
    outbox.put(folder, KEY, a_mail(), NOON)
    outbox.deliver(folder, settings(relay), NOON)

    (found,) = outbox.deliver(folder, settings(relay), NOON + 5 * DAY)

    assert found.ending is Ending.NEVER_AGAIN
    assert why(folder).startswith(f"Given up after 5 days. {ALICE}: 451 greylisted")


def test_mails_that_waited_while_the_daemon_was_off_are_not_given_up_at_their_first_failure(folder, settings):
    put_many(folder, 3)

    assert outbox.deliver(folder, settings("127.0.0.1:1"), NOON + 30 * DAY) == []
    assert len(keys(folder)) == 3


def test_a_mail_put_while_its_older_self_is_being_sent_still_goes(folder, settings, relays):
    relay = relays()
    outbox.put(folder, KEY, a_mail(text="older\n"), NOON)
    relay.before_answer = lambda: outbox.put(folder, KEY, a_mail(text="newer\n"), NOON + 1)

    assert outbox.deliver(folder, settings(relay), NOON) == []
    relay.before_answer = lambda: None
    assert endings(outbox.deliver(folder, settings(relay), NOON + 1)) == [Ending.DONE]

    assert [message.get_content() for message in relay.messages()] == ["older\n", "newer\n"]


def test_two_deliverers_at_once_do_not_send_a_mail_twice(folder, settings, relays):
    relay = relays()
    put_many(folder, 3)
    second: list[list[Delivery]] = []
    relay.before_answer = lambda: second.append(outbox.deliver(folder, settings(relay), NOON))

    assert endings(outbox.deliver(folder, settings(relay), NOON)) == [Ending.DONE] * 3
    assert second == [[], [], []]
    assert len(relay.got) == 3


# sendmail


def a_sendmail(tmp_path: Path, body: str) -> str:
    program = tmp_path / "sendmail"
    program.write_text(f"#!/bin/sh\n{body}\n")
    program.chmod(0o755)
    return str(program)


def test_sendmail_gets_the_usual_flags_and_the_mail_as_it_is(folder, settings, tmp_path, monkeypatch):
    monkeypatch.setenv("SPICA_PASSWORD", "secret")
    program = a_sendmail(
        tmp_path, f'printf "%s\\n" "$@" > {tmp_path}/argv; cat > {tmp_path}/mail; env > {tmp_path}/env'
    )
    outbox.put(folder, KEY, a_mail(text="x\n.\ny\n"), NOON)
    whole = (folder / f"{KEY}.eml").read_bytes()

    assert endings(outbox.deliver(folder, settings(sendmail=program), NOON)) == [Ending.DONE]

    assert (tmp_path / "argv").read_text().split("\n")[:-1] == ["-i", "-f", SENDER, "--", ALICE]
    assert (tmp_path / "mail").read_bytes() == whole
    assert "secret" not in (tmp_path / "env").read_text()


@pytest.mark.parametrize(
    ("status", "ending"),
    [(75, Ending.TRY_AGAIN), (67, Ending.NEVER_AGAIN), (68, Ending.NEVER_AGAIN), (65, Ending.NEVER_AGAIN)],
)
def test_the_exit_status_of_sendmail_decides(folder, settings, tmp_path, status: int, ending: Ending):
    program = a_sendmail(tmp_path, f"cat > /dev/null; echo 'in a word: no' >&2; exit {status}")
    outbox.put(folder, KEY, a_mail(), NOON)

    (found,) = outbox.deliver(folder, settings(sendmail=program), NOON)

    assert found.ending is ending
    assert f"{ALICE}: exit status {status} in a word: no" in found.why
    assert (keys(folder) == [KEY]) == (ending is Ending.TRY_AGAIN)


@pytest.mark.parametrize("body", ["exit 78", "exit 1", "kill -9 $$", "cat > /dev/null; exit 69"])
def test_a_sendmail_that_is_set_up_wrongly_is_the_administrators_matter(folder, settings, tmp_path, caplog, body: str):
    put_many(folder, 3)

    assert outbox.deliver(folder, settings(sendmail=a_sendmail(tmp_path, body)), NOON) == []

    assert len(keys(folder)) == 3
    assert "exit status" in caplog.text
    assert "3 mails wait" in caplog.text


def test_a_sendmail_that_is_not_there_is_the_administrators_matter(folder, settings, tmp_path, caplog):
    outbox.put(folder, KEY, a_mail(), NOON)

    assert outbox.deliver(folder, settings(sendmail=str(tmp_path / "nowhere")), NOON) == []
    assert "it is not there or cannot be run" in caplog.text
    assert keys(folder) == [KEY]


def test_a_sendmail_that_hangs_is_ended_with_all_that_it_started(folder, settings, tmp_path, caplog):
    lifeline = tmp_path / "lifeline"
    os.mkfifo(lifeline)
    reader = os.open(lifeline, os.O_RDONLY | os.O_NONBLOCK)
    program = a_sendmail(tmp_path, f"sleep 1000 > {lifeline} & wait")
    outbox.put(folder, KEY, a_mail(), NOON)

    assert outbox.deliver(folder, settings(sendmail=program, timeout_s=0.5), NOON) == []

    assert "no end within 0.5 s" in caplog.text
    os.set_blocking(reader, True)
    assert os.read(reader, 1) == b""  # comes only when the last holder of the other end is gone
    os.close(reader)


# Maildir


def test_without_relay_and_sendmail_a_mail_is_kept_in_a_maildir(folder, settings, tmp_path):
    outbox.put(folder, KEY, outbox.compose(settings(), ALICE, "m101-r ☆", "é\n"), NOON)

    assert endings(outbox.deliver(folder, settings(), NOON)) == [Ending.DONE]

    factory = email.message_from_binary_file
    (message,) = mailbox.Maildir(tmp_path / "Maildir", factory=lambda file: factory(file, policy=email.policy.default))
    assert message["Subject"] == "m101-r ☆"
    assert message.get_content() == "é\n"


def test_a_maildir_that_cannot_be_made_is_tried_again(folder, settings, tmp_path, caplog):
    (tmp_path / "Maildir").write_text("in the way")
    outbox.put(folder, KEY, a_mail(), NOON)

    assert outbox.deliver(folder, settings(), NOON) == []
    assert "Maildir" in caplog.text
    (tmp_path / "Maildir").unlink()
    assert endings(outbox.deliver(folder, settings(), NOON + 60)) == [Ending.DONE]


# Killed at any system call

DRIVER = """
import os, sys
from pathlib import Path
from email.message import EmailMessage
from email import message_from_bytes, policy
from spicad import config, outbox

verb, folder, conf, text = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), sys.argv[4]
settings = config.load(conf)
mail = outbox.compose(settings, "alice@example.org", "m101-r", text)
outbox.put(Path(sys.argv[5]), "warm-up", mail, 1763812800.0)
outbox.deliver(Path(sys.argv[5]), settings, 1763812800.0)
try:
    os.access("/begin", os.F_OK)
    if verb == "put":
        outbox.put(folder, "000012-run1-completed", mail, 1763812800.0)
    else:
        outbox.deliver(folder, settings, 1763812800.0)
    os.access("/end", os.F_OK)
except OSError as error:
    sys.exit(f"refused: {error}")
"""
CHANGES = "mkdir,openat,write,fsync,utimensat,rename,unlink,flock,close,newfstatat,fstat"
TEXTS = {"old": "old text " * 2000 + "\n", "new": "new text " * 2000 + "\n"}


class Driver:
    """A process that puts or delivers one mail in a folder of its own, under strace."""

    def __init__(self, tmp_path: Path, verb: str, conf: str = "") -> None:
        self.verb, self.root = verb, tmp_path
        self.script = tmp_path / "driver.py"
        self.script.write_text(DRIVER)
        self.conf = tmp_path / "spica.conf"
        self.conf.write_text(f'[mail]\nsender = "{SENDER}"\nmaildir = "{tmp_path}/Maildir"\n{conf}')
        self.runs = 0

    def injected(self, folder: Path, name: str, number: int, what: str) -> subprocess.CompletedProcess[str]:
        """A run in which the `number`-th system call `name` meets `what`."""
        # A signal is lost where strace filters by seccomp: the stop there takes none.
        quicker = [] if what.startswith("signal") else ["--seccomp-bpf", "-e", f"trace={name}"]
        return self.run(folder, *quicker, "-e", f"inject={name}:{what}:when={number}")

    def run(self, folder: Path, *strace: str) -> subprocess.CompletedProcess[str]:
        self.runs += 1
        warm_up = self.root / f"warm-up-{self.runs}"
        command = ["strace", "-f", "-qq", "-o", str(self.root / "trace"), *strace]
        arguments = [self.verb, str(folder), str(self.conf), TEXTS["new"], str(warm_up)]
        environment = {**os.environ, "PYTHONHASHSEED": "0", "PYTHONPATH": str(REPOSITORY)}
        python = [sys.executable, "-S", str(self.script)]
        return subprocess.run(
            [*command, *python, *arguments], env=environment, capture_output=True, text=True, check=False
        )

    def points(self, folder: Path) -> list[tuple[str, int]]:
        """Each system call between /begin and /end, and which of its name it is since the start."""
        run = self.run(folder, "--seccomp-bpf", "-e", f"trace=access,{CHANGES}")
        assert run.returncode == 0, run.stderr
        counts: dict[str, int] = {}
        points, is_within = [], False
        for line in (self.root / "trace").read_text().splitlines():
            name = line.split(maxsplit=1)[1].partition("(")[0]
            counts[name] = counts.get(name, 0) + 1
            if name == "access":
                is_within = '"/begin"' in line or (is_within and '"/end"' not in line)
            elif is_within:
                points.append((name, counts[name]))
        return points


def a_sample(points: list[tuple[str, int]], share: int) -> list[tuple[str, int]]:
    """Every `share`-th, and each renaming and syncing."""
    return [point for n, point in enumerate(points) if n % share == 0 or point[0] in ("rename", "fsync")]


def body(path: Path) -> str:
    return email.message_from_bytes(path.read_bytes(), policy=email.policy.default).get_content()


def kill_put_everywhere(tmp_path: Path, share: int, before: str) -> None:
    driver = Driver(tmp_path, "put")

    def fresh(name: str) -> Path:
        folder = tmp_path / name
        if before:
            outbox.put(folder, KEY, a_mail(text=TEXTS[before]), NOON - 1)
        return folder

    points = a_sample(driver.points(fresh("traced")), share)
    assert len([point for point in points if point[0] in ("rename", "fsync")]) >= 2
    outcomes = set()
    for name, number in points:
        folder = fresh(f"{name}-{number}")
        killed = driver.injected(folder, name, number, "signal=KILL")
        assert killed.returncode == -9, (name, number, killed.stderr)

        found = [body(path) for path in folder.glob("*.eml")] if folder.exists() else []
        assert found in ([TEXTS[before]] if before else [], [TEXTS["new"]]), (name, number)
        outcomes.add(tuple(found))
        outbox.put(folder, KEY, a_mail(text=TEXTS["new"]), NOON + 1)
        assert [body(path) for path in folder.glob("*.eml")] == [TEXTS["new"]], (name, number)
    assert len(outcomes) == 2  # the kills fell before and after the mail was there


def kill_deliver_everywhere(tmp_path: Path, share: int) -> None:
    driver = Driver(tmp_path, "deliver")
    settings = config.load(driver.conf)

    def fresh(name: str) -> Path:
        outbox.put(tmp_path / name, KEY, a_mail(subject=name), NOON)
        return tmp_path / name

    points = a_sample(driver.points(fresh("traced")), share)
    for name, number in points:
        folder = fresh(f"{name}-{number}")
        killed = driver.injected(folder, name, number, "signal=KILL")
        assert killed.returncode == -9, (name, number, killed.stderr)

        outbox.try_all_now(folder)
        outbox.deliver(folder, settings, NOON + 1)
        assert [key for key, _ in outbox.accepted(folder)] == [KEY], (name, number)
        box = mailbox.Maildir(tmp_path / "Maildir")
        assert [mail["Subject"] for mail in box if mail["Subject"] == folder.name] == [folder.name], (name, number)
        box.clear()


@pytest.mark.slow
@pytest.mark.parametrize("before", ["", "old"])
def test_put_killed_anywhere_leaves_a_whole_mail_or_none(tmp_path: Path, before: str):
    kill_put_everywhere(tmp_path, share=1, before=before)


@pytest.mark.slow
def test_put_killed_at_some_places_leaves_a_whole_mail_or_none(tmp_path: Path):
    kill_put_everywhere(tmp_path, share=20, before="old")


@pytest.mark.slow
def test_deliver_killed_anywhere_loses_nothing_and_a_maildir_gets_each_mail_once(tmp_path: Path):
    kill_deliver_everywhere(tmp_path, share=1)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "error", "words"),
    [("write", "ENOSPC", "No space left"), ("fsync", "EIO", "Input/output error"), ("rename", "EDQUOT", "quota")],
)
def test_a_mail_that_cannot_be_kept_is_an_error_and_leaves_the_old_one(tmp_path: Path, name, error, words):
    driver = Driver(tmp_path, "put")
    folders = [tmp_path / "traced", tmp_path / "full"]
    for folder in folders:
        outbox.put(folder, KEY, a_mail(text=TEXTS["old"]), NOON - 1)
    first = next(point for point in driver.points(folders[0]) if point[0] == name)

    refused = driver.injected(folders[1], *first, f"error={error}")

    assert refused.returncode == 1
    assert words in refused.stderr
    assert body(folders[1] / f"{KEY}.eml") == TEXTS["old"]
    assert list((folders[1] / "tmp").iterdir()) == []


def test_a_deliverer_killed_after_the_relay_accepted_sends_again_under_the_same_message_id(folder, relays, tmp_path):
    relay = relays()
    driver = Driver(tmp_path, "deliver", conf=f'relay = "{relay.address}"\nsecurity = "none"\n')
    traced = tmp_path / "traced"
    for each in (traced, folder):
        outbox.put(each, KEY, a_mail(), NOON)
    to_sent = [point for point in driver.points(traced) if point[0] == "rename"][-1]
    relay.got.clear()

    killed = driver.injected(folder, *to_sent, "signal=KILL")

    assert killed.returncode == -9
    assert keys(folder) == [KEY]
    mine = [message for message in relay.messages() if KEY in message["Message-ID"]]
    assert len(mine) == 1
    assert outbox.accepted(folder) == []
    assert endings(outbox.deliver(folder, config.load(driver.conf), NOON + 60)) == [Ending.DONE]
    ids = [message["Message-ID"] for message in relay.messages() if KEY in message["Message-ID"]]
    assert len(ids) == 2
    assert len(set(ids)) == 1


def test_leftovers_of_killed_writers_are_swept_after_a_day(folder, settings, relays):
    relay = relays()
    outbox.put(folder, KEY, a_mail(), NOON)
    old, young = folder / "tmp" / "old.eml.1", folder / "tmp" / "young.eml.2"
    for path in (old, young):
        path.write_bytes(b"half")
    os.utime(old, (NOON - 10 * DAY, NOON - 10 * DAY))

    outbox.deliver(folder, settings(relay), NOON)

    assert list((folder / "tmp").iterdir()) == [young]


def test_the_daemon_and_the_pages_do_not_pay_for_mail_until_one_is_sent():
    heavy = "print(*[name for name in ('smtplib', 'ssl', 'email', 'mailbox', 'subprocess') if name in sys.modules])"
    run = subprocess.run(
        [sys.executable, "-S", "-c", f"import sys, spicad.outbox; {heavy}"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
    )

    assert run.stdout.strip() == ""


def test_whether_a_mail_waits_is_seen_at_a_glance(tmp_path: Path, settings: Callable[..., config.Settings]) -> None:
    assert not outbox.has_mail(tmp_path / "outbox")

    outbox.put(tmp_path / "outbox", "000001-run1-completed", outbox.compose(settings(), ALICE, "m101-r", "text"), NOON)

    assert outbox.has_mail(tmp_path / "outbox")


def test_mails_of_a_way_that_is_left_alone_are_not_even_opened(
    tmp_path: Path, settings: Callable[..., config.Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "outbox"
    for number in range(1, 4):
        outbox.put(
            folder, f"{number:06d}-run1-completed", outbox.compose(settings(), ALICE, "m101-r", "text"), NOON + number
        )
    outbox._write_pause(folder, folder / "way", outbox.Pause(tries=1, since=NOON, last=NOON + 2, next=NOON + 60))
    opened: list[str] = []
    look = outbox._waiting
    monkeypatch.setattr(outbox, "_waiting", lambda folder, key: [opened.append(key), look(folder, key)][1])

    due = outbox.due(folder, NOON + 10)

    assert [mail.key for mail in due] == opened == ["000003-run1-completed"]
    assert len(outbox.due(folder, NOON + 100)) == 3

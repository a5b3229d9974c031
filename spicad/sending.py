"""The three ways out of Spica's outbox: an SMTP relay, a sendmail program, a Maildir on this machine.

Each answers, for every address, in the three endings. Which mail goes when is outbox.py's affair.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import stat
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from spicad.config import Section
from spicad.durable import write_durably
from spicad.words import Ending

if TYPE_CHECKING:
    import smtplib

PORTS = {"none": 25, "starttls": 587, "tls": 465}
LOOPBACK = ("localhost", "127.0.0.1", "::1")


class Unreachable(Exception):
    """No mail can be sent now, whichever it is; the text is for the administrator."""


Answers = dict[str, tuple[Ending, str]]  # for each address


class Way(Protocol):
    """A way out. `open` and `send` raise Unreachable when it is of no use to try further mails."""

    name: str

    def open(self) -> None: ...
    def send(self, name: str, to: tuple[str, ...], raw: bytes) -> Answers: ...
    def close(self) -> None: ...


def way_out(mail: Section) -> Way:
    if mail.relay:
        return Relay(mail)
    if mail.sendmail:
        return Sendmail(mail)
    return LocalMaildir(mail)


def one_line(text: str) -> str:
    """`text` on one line, without anything that could steer a terminal, a log or a mail header."""
    shown = text if text.isprintable() else "".join(c if c.isprintable() else " " for c in text)
    return " ".join(shown.split())


class _Gone(Exception):
    """The relay ended the session before it was given the mail."""


class Relay:
    """An SMTP relay; one connection is used for many mails."""

    def __init__(self, mail: Section) -> None:
        self.mail = mail
        self.name = f"relay {mail.relay}"
        self.session: smtplib.SMTP | None = None
        self.was_used = False

    def open(self) -> None:
        if self.session is not None:
            return
        try:
            self.session = self._connected()
            self.was_used = False
        except (OSError, ValueError) as error:  # smtplib's and ssl's own errors are OSErrors
            raise Unreachable(_cause(error)) from error

    def _connected(self) -> smtplib.SMTP:
        import smtplib
        import ssl

        host, port = _host_and_port(self.mail.relay, PORTS[self.mail.security])
        options: dict[str, Any] = {
            "local_hostname": self.mail.sender.rpartition("@")[2],  # else smtplib asks the name server first
            "timeout": self.mail.timeout_s,
        }
        if self.mail.security == "tls":
            session: smtplib.SMTP = smtplib.SMTP_SSL(host, port, context=ssl.create_default_context(), **options)
        else:
            session = smtplib.SMTP(host, port, **options)
        try:
            if self.mail.security == "starttls":
                session.starttls(context=ssl.create_default_context())
            session.ehlo_or_helo_if_needed()
            if self.mail.user:
                session.login(self.mail.user, self._password(host))
        except BaseException:
            session.close()
            raise
        return session

    def _password(self, host: str) -> str:
        if self.mail.security == "none" and host not in LOOPBACK:
            raise Unreachable('the password is not sent in the clear: set mail.security to "starttls" or "tls"')
        path = Path(self.mail.password_file)
        if not self.mail.password_file:
            raise Unreachable("mail.user is set but mail.password_file is not")
        if stat.S_IMODE(path.stat().st_mode) & 0o007:
            raise Unreachable(f"{path}: others may read this password. Run: chmod o-rwx {path}")
        return path.read_text(encoding="utf-8").strip()

    def send(self, name: str, to: tuple[str, ...], raw: bytes) -> Answers:
        """A relay may end a session after some mails: then once more over a new one, as it has not seen this mail."""
        try:
            return self._transaction(to, raw)
        except _Gone as error:
            self.close()
            if not self.was_used:
                raise Unreachable(str(error)) from error
        self.open()
        try:
            return self._transaction(to, raw)
        except _Gone as error:
            raise Unreachable(str(error)) from error

    def close(self) -> None:
        if self.session is not None:
            with contextlib.suppress(OSError):
                self.session.quit()
            self.session.close()
        self.session = None

    def _transaction(self, to: tuple[str, ...], raw: bytes) -> Answers:
        import smtplib

        assert self.session is not None
        session, content = self.session, re.sub(rb"\r\n?|\n", b"\r\n", raw)
        try:
            answers = self._envelope(session, to, len(content))
        except smtplib.SMTPServerDisconnected as error:
            if isinstance(error.__context__, TimeoutError):
                raise Unreachable(f"no answer within {self.mail.timeout_s:g} s") from error
            raise _Gone("the relay ended the session") from error
        except (OSError, ValueError) as error:
            raise Unreachable(_cause(error)) from error
        if takers := [address for address, (ending, _) in answers.items() if ending is Ending.DONE]:
            answers.update(dict.fromkeys(takers, self._content(session, content)))
            self.was_used = True
        else:
            with contextlib.suppress(OSError):
                session.rset()
        return answers

    def _envelope(self, session: smtplib.SMTP, to: tuple[str, ...], size: int) -> Answers:
        code, words = session.mail(self.mail.sender, [f"size={size}"] if session.has_extn("size") else [])
        if code == 552:
            return dict.fromkeys(to, (Ending.NEVER_AGAIN, _reply(code, words)))
        if code == 421:
            raise _Gone(_reply(code, words))
        if code // 100 != 2:
            raise Unreachable(f"the relay refuses the sender {self.mail.sender}: {_reply(code, words)}")
        answers = {}
        for address in to:
            code, words = session.rcpt(address)
            if code == 421:
                raise _Gone(_reply(code, words))
            if code in (530, 535, 538):  # RFC 4954: it wants a login first
                raise Unreachable(f"the relay wants a login: {_reply(code, words)}")
            answers[address] = (_ending(code), _reply(code, words))
        return answers

    def _content(self, session: smtplib.SMTP, content: bytes) -> tuple[Ending, str]:
        """A session that breaks here may have delivered the mail: it is sent again, under the same Message-ID."""
        import smtplib

        try:
            code, words = session.data(content)
        except smtplib.SMTPDataError as error:
            code, words = error.smtp_code, error.smtp_error if isinstance(error.smtp_error, bytes) else b""
        except (OSError, ValueError) as error:
            raise Unreachable(f"broken off while it took a mail: {_cause(error)}") from error
        if code == 421:
            raise Unreachable(_reply(code, words))
        return _ending(code), _reply(code, words)


class Sendmail:
    """A sendmail program, as Postfix, Exim, msmtp and others bring it; it is run once for each address."""

    TRY_AGAIN = 75  # EX_TEMPFAIL of sysexits.h
    NEVER_AGAIN = (65, 67, 68)  # EX_DATAERR, EX_NOUSER, EX_NOHOST; the others are the administrator's to mend

    def __init__(self, mail: Section) -> None:
        self.mail = mail
        self.name = f"program {mail.sendmail}"

    def open(self) -> None:
        if not os.access(self.mail.sendmail, os.X_OK):
            raise Unreachable("it is not there or cannot be run")

    def send(self, name: str, to: tuple[str, ...], raw: bytes) -> Answers:
        return {address: self._sent(address, raw) for address in to}

    def close(self) -> None:
        pass

    def _sent(self, address: str, raw: bytes) -> tuple[Ending, str]:
        import subprocess

        # -i: a line with a single dot does not end the mail.
        command = [self.mail.sendmail, "-i", "-f", self.mail.sender, "--", address]
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        clean = {"PATH": os.defpath, "LC_ALL": "C"}
        try:
            run = subprocess.Popen(command, env=clean, start_new_session=True, **pipes)
        except OSError as error:
            raise Unreachable(_cause(error)) from error
        with run:
            try:
                said, _ = run.communicate(raw, timeout=self.mail.timeout_s)
            except subprocess.TimeoutExpired as error:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(run.pid, signal.SIGKILL)  # with all that a wrapper script started
                raise Unreachable(f"no end within {self.mail.timeout_s:g} s") from error
        if run.returncode == 0:
            return Ending.DONE, ""
        why = f"exit status {run.returncode} {_said(said)}".strip()
        if run.returncode in self.NEVER_AGAIN:
            return Ending.NEVER_AGAIN, why
        if run.returncode == self.TRY_AGAIN:
            return Ending.TRY_AGAIN, why
        raise Unreachable(why)


class LocalMaildir:
    """A Maildir on this machine, for places without any mail. The name is the mail's own: twice is once."""

    def __init__(self, mail: Section) -> None:
        self.folder = Path(mail.maildir)
        self.name = f"Maildir {mail.maildir}"

    def open(self) -> None:
        try:
            for each in (self.folder, self.folder / "tmp", self.folder / "new", self.folder / "cur"):
                each.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise Unreachable(_cause(error)) from error

    def send(self, name: str, to: tuple[str, ...], raw: bytes) -> Answers:
        try:
            write_durably(self.folder / "tmp", self.folder / "new" / name, raw, time.time())
        except OSError as error:
            raise Unreachable(_cause(error)) from error
        return dict.fromkeys(to, (Ending.DONE, ""))

    def close(self) -> None:
        pass


def _host_and_port(relay: str, usual: int) -> tuple[str, int]:
    """HOST, HOST:PORT, [IPv6] or [IPv6]:PORT."""
    found = re.fullmatch(r"(?:\[(?P<v6>[^\]]+)\]|(?P<host>[^\[\]:]+))(?::(?P<port>\d{1,5}))?", relay.strip())
    if not found:
        raise Unreachable("mail.relay is not HOST or HOST:PORT")
    return found["v6"] or found["host"], int(found["port"] or usual)


def _ending(code: int) -> Ending:
    return {2: Ending.DONE, 5: Ending.NEVER_AGAIN}.get(code // 100, Ending.TRY_AGAIN)


def _reply(code: int, words: bytes) -> str:
    return f"{code} {_said(words)}".strip()


def _cause(error: Exception) -> str:
    """An error of smtplib, ssl or the system in one line; a login that failed is named as such."""
    import smtplib

    if isinstance(error, smtplib.SMTPAuthenticationError):
        said = error.smtp_error if isinstance(error.smtp_error, bytes) else b""
        return f"the login is refused, mend mail.user or mail.password_file: {_reply(error.smtp_code, said)}"
    if isinstance(error, smtplib.SMTPResponseException) and isinstance(error.smtp_error, bytes):
        return _reply(error.smtp_code, error.smtp_error)
    if isinstance(error, UnicodeError):
        return "the login or its password is not plain ASCII"
    return one_line(str(error))[:300] or type(error).__name__


def _said(words: bytes) -> str:
    return one_line(words.decode("utf-8", "replace"))[:300]

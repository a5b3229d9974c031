"""Spica's outgoing mail: a folder of waiting mails that outlives a dead relay, and the three ways out of it.

What a mail says is report.py's affair. When to send, and noting in the event table what was accepted, is the daemon's:
it calls `accepted`, notes, then `forget`.

    KEY.eml          waits; its mtime says since when
    KEY.try          how the tries so far went and when the next is due; losing it only brings the next try forward
    way              the same for the relay as a whole, so that a dead relay is not asked once for each mail
    sent/KEY.eml     accepted (mtime says when), not yet noted by the daemon
    failed/KEY.eml   given up, with KEY.why beside it; `mv failed/KEY.eml .` tries it again
    tmp/             being written
    id               makes this spool's Message-IDs its own; a mail sent twice carries the same one
"""

from __future__ import annotations

import contextlib
import json
import logging
import math
import os
import re
import secrets
import stat
import time
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from spicad.config import Section, Settings
from spicad.durable import locked, sync_folder, write_durably, write_tmp
from spicad.sending import Answers, Unreachable, Way, one_line, way_out
from spicad.words import Ending, SpicaError

if TYPE_CHECKING:
    from email.message import EmailMessage

LONGEST_PAUSE_S = 6 * 3600.0
LEFTOVER_S = 24 * 3600.0
LONGEST_PLAIN_LINE = 900  # RFC 5322 allows 998 octets
KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,119}")
ADDRESS = re.compile(
    r"[A-Za-z0-9_](?:[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]|\.(?=[^.@]))*"
    r"@[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?(?:\.[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?)*"
)

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Delivery:
    """How one try to send one mail ended. `to` are the addresses that it was accepted for in this try."""

    key: str
    ending: Ending
    to: tuple[str, ...]
    why: str
    at: float


@dataclass(frozen=True)
class Pause:
    """What failed tries left behind: of one mail, or of the way out as a whole."""

    of: str = ""  # the mail it belongs to: a newer one under the same key starts afresh
    tries: int = 0
    since: float = 0.0
    last: float = 0.0
    next: float = 0.0
    why: str = ""
    left: tuple[str, ...] = ()  # who still waits for it, when others have it already
    refused: tuple[str, ...] = ()

    def longer(self, now: float, retry_s: float) -> Pause:
        pause_s = min(retry_s * 2.0 ** min(self.tries, 60), LONGEST_PAUSE_S)
        return replace(self, tries=self.tries + 1, since=self.since or now, last=now, next=now + pause_s)

    def is_over(self, now: float) -> bool:
        return self.next <= now or self.next > now + LONGEST_PAUSE_S  # the latter: the clock was set back


@dataclass(frozen=True)
class Waiting:
    key: str
    path: Path
    put_at: float
    identity: str
    pause: Pause


def address_problem(text: str) -> str:
    """What is wrong with a mail address, as a sentence; '' when it is one plain address."""
    shown = repr(one_line(text)[:80])
    if not text.strip():
        return "the mail address is empty."
    if "<" in text:
        return f"{shown} has a name or brackets around the address. Write the address alone."
    if re.search(r"[,;\s]", text):
        return f"{shown} is not one mail address. Write exactly one, without spaces."
    if not text.isascii() or not text.isprintable():
        return f"{shown} has characters that a mail address cannot have here: only plain ASCII is sent."
    if text.startswith("-"):
        return f"{shown} starts with a dash. A mail address starts with a letter, a digit or _."
    if not ADDRESS.fullmatch(text) or len(text) > 254 or len(text.partition("@")[0]) > 64:
        return f"{shown} is not a mail address. For example: observer@example.org"
    return ""


def compose(settings: Settings, to: str, subject: str, text: str) -> EmailMessage:
    """A plain mail from Spica. Raises SpicaError when `to` is not an address."""
    if problem := address_problem(to):
        raise SpicaError(f"A mail cannot be addressed: {problem}")
    from email.headerregistry import Address
    from email.message import EmailMessage

    message = EmailMessage()
    message["From"] = Address("Spica", addr_spec=settings.mail.sender)
    message["To"] = to
    # The email package decodes "=?utf-8?q?..." in a subject: control characters could be smuggled in so.
    message["Subject"] = one_line(subject).replace("=?", "= ?")
    message["Auto-Submitted"] = "auto-generated"
    is_plain = text.isascii() and all(len(line) < LONGEST_PLAIN_LINE for line in text.splitlines())
    message.set_content(text, cte="7bit" if is_plain else "quoted-printable")
    return message


def put(folder: Path, key: str, message: EmailMessage, now: float) -> None:
    """Keeps `message` until it is delivered; when this returns, it outlives a power cut.

    Putting the same key again replaces the mail while it waits. Raises OSError when it cannot be kept.
    """
    if not KEY.fullmatch(key):
        raise ValueError(f"{key!r} cannot be the key of a mail.")
    _make_folders(folder)
    with locked(folder / "lock"):
        raw = _as_bytes(message, key, _spool_id(folder), now)
        write_durably(folder / "tmp", folder / f"{key}.eml", raw, now)


def has_mail(folder: Path) -> bool:
    """Whether any waits, at a glance."""
    with contextlib.suppress(FileNotFoundError), os.scandir(folder) as entries:
        return any(entry.name.endswith(".eml") for entry in entries)
    return False


def waiting(folder: Path, newer_than: float = -math.inf) -> list[Waiting]:
    """All mails that wait, due or not, or those put later than that; first those tried least, then the oldest."""
    if not folder.is_dir():
        return []
    found = []
    with os.scandir(folder) as entries:
        for entry in entries:
            key = entry.name.removesuffix(".eml")
            if not entry.name.endswith(".eml") or not KEY.fullmatch(key) or not _is_newer(entry, newer_than):
                continue
            if one := _waiting(folder, key):
                found.append(one)
    return sorted(found, key=lambda mail: (mail.pause.tries, mail.put_at, mail.key))


def _is_newer(entry: os.DirEntry[str], moment: float) -> bool:
    with contextlib.suppress(FileNotFoundError):
        return moment == -math.inf or entry.stat(follow_symlinks=False).st_mtime_ns / 1e9 > moment
    return False


def due(folder: Path, now: float) -> list[Waiting]:
    """The mails to try now. While a dead relay is left alone, only a mail that is newer than its last failure is."""
    way = _pause_in(folder / "way")
    newer_than = -math.inf if way.is_over(now) else way.last
    return [mail for mail in waiting(folder, newer_than) if mail.pause.is_over(now)]


def deliver(folder: Path, settings: Settings, now: float) -> list[Delivery]:
    """Tries the mails that are due, over one connection; stops at the first failure that would meet them all.

    A second call at the same time, from another thread or process, does nothing.
    """
    mails = due(folder, now)
    if not mails:
        return []
    _make_folders(folder)
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(locked(folder / "delivering", wait=False))
        except BlockingIOError:
            return []
        _sweep(folder, now)
        way = way_out(settings.mail)
        stack.callback(way.close)
        return _one_pass(folder, mails, way, settings.mail, now)


def accepted(folder: Path) -> list[tuple[str, float]]:
    """Keys of mails that were accepted, and when, until `forget` says that it has been noted."""
    found = [(path.stem, path.stat().st_mtime) for path in (folder / "sent").glob("*.eml")]
    return sorted(found, key=lambda each: each[1])


def forget(folder: Path, key: str) -> None:
    """The acceptance of `key` is noted elsewhere: its copy may go."""
    (folder / "sent" / f"{key}.eml").unlink(missing_ok=True)


def try_all_now(folder: Path) -> None:
    """Ends all pauses: for the start of the daemon and after a change of settings. The age of failures is kept."""
    for path in (folder / "way", *folder.glob("*.try")):
        if path.exists():
            _write_pause(folder, path, replace(_pause_in(path), next=0.0))


# One pass


def _one_pass(folder: Path, mails: list[Waiting], way: Way, mail: Section, now: float) -> list[Delivery]:
    deliveries: list[Delivery] = []
    for each in mails:
        try:
            way.open()
            delivery = _try(folder, each, way, mail, now)
        except Unreachable as error:
            return deliveries + _put_off(folder, way, str(error), mail, now)
        deliveries += [delivery] if delivery else []
        (folder / "way").unlink(missing_ok=True)
    return deliveries


def _try(folder: Path, one: Waiting, way: Way, mail: Section, now: float) -> Delivery | None:
    """None when the mail went away or was replaced meanwhile."""
    try:
        raw = one.path.read_bytes()
    except FileNotFoundError:
        return None
    to = one.pause.left or _recipients(raw)
    if not to:
        return _set_aside(folder, one, "Its To header names no mail address that can be sent to.", now)
    # Written down before it is made: whatever happens next, no mail is sent more often than its pauses allow.
    pause = replace(one.pause, of=one.identity).longer(now, mail.retry_s)
    _write_pause(folder, _try_file(one), replace(pause, why="The try was cut short."))
    answers = way.send(f"{one.put_at:.0f}.{one.key}.spica", to, raw)
    return _settled(folder, replace(one, pause=pause), answers, way, mail, now)


def _settled(folder: Path, one: Waiting, answers: Answers, way: Way, mail: Section, now: float) -> Delivery | None:
    taken = tuple(address for address, (ending, _) in answers.items() if ending is Ending.DONE)
    left = tuple(address for address, (ending, _) in answers.items() if ending is Ending.TRY_AGAIN)
    never = [f"{address}: {why}" for address, (ending, why) in answers.items() if ending is Ending.NEVER_AGAIN]
    refused = (*one.pause.refused, *never)
    if left:
        why = "; ".join(f"{address}: {answers[address][1]}" for address in left)
        pause = replace(one.pause, why=why, left=left, refused=refused)
        if _is_too_long(pause.since, mail, now):
            return _set_aside(folder, one, f"Given up after {mail.give_up_days:g} days. {why}", now, taken)
        _write_pause(folder, _try_file(one), pause)
        log.warning("mail %s: %s puts it off, next try at %s: %s", one.key, way.name, _clock(pause.next), why)
        return Delivery(one.key, Ending.TRY_AGAIN, taken, why, now)
    if refused:
        return _set_aside(folder, one, f"Refused. {'; '.join(refused)}", now, taken)
    if not _move(folder, one, folder / "sent", now):
        return None
    log.info("mail %s: accepted by %s for %s", one.key, way.name, ", ".join(taken))
    return Delivery(one.key, Ending.DONE, taken, "", now)


def _put_off(folder: Path, way: Way, why: str, mail: Section, now: float) -> list[Delivery]:
    """The way out is closed: leaves it alone for a while, and gives up the mails that it has failed for too long."""
    before = _pause_in(folder / "way")
    pause = before.longer(now, mail.retry_s) if before.is_over(now) else replace(before, last=now)
    _write_pause(folder, folder / "way", replace(pause, why=why))
    waits = waiting(folder)
    log.error("%s: %s; %d mails wait, next try at %s", way.name, why, len(waits), _clock(pause.next))
    given_up = []
    for one in waits:
        if _is_too_long(one.pause.since or max(one.put_at, pause.since), mail, now):
            delivery = _set_aside(folder, one, f"Given up after {mail.give_up_days:g} days. {way.name}: {why}", now)
            given_up += [delivery] if delivery else []
    return given_up


def _is_too_long(since: float, mail: Section, now: float) -> bool:
    return now - since >= mail.give_up_days * 86400


def _set_aside(folder: Path, one: Waiting, why: str, now: float, taken: tuple[str, ...] = ()) -> Delivery | None:
    mend = f"To try it again: mv {folder / 'failed' / one.path.name} {folder}/"
    write_durably(folder / "tmp", folder / "failed" / f"{one.key}.why", f"{why}\n{mend}\n".encode(), now)
    if not _move(folder, one, folder / "failed", now):
        return None
    log.error("mail %s: set aside in %s: %s", one.key, folder / "failed", why)
    return Delivery(one.key, Ending.NEVER_AGAIN, taken, why, now)


# Files


def _make_folders(folder: Path) -> None:
    for each in (folder, folder / "tmp", folder / "sent", folder / "failed"):
        with contextlib.suppress(FileExistsError):
            each.mkdir(mode=0o700)
            sync_folder(each.parent)


def _move(folder: Path, one: Waiting, to: Path, now: float) -> bool:
    """False when another mail was put under the same key meanwhile: that one waits for its own turn."""
    with locked(folder / "lock"):
        if _identity(one.path) != one.identity:
            return False
        if to.name == "sent":
            os.utime(one.path, ns=(int(now * 1e9), int(now * 1e9)))
        os.rename(one.path, to / one.path.name)
        _try_file(one).unlink(missing_ok=True)
    sync_folder(to)
    sync_folder(folder)
    return True


def _waiting(folder: Path, key: str) -> Waiting | None:
    path = folder / f"{key}.eml"
    identity = _identity(path)
    if not identity:
        return None
    pause = _pause_in(path.with_name(f"{key}.try"))
    put_at = int(identity.partition("-")[2]) / 1e9
    return Waiting(key, path, put_at, identity, pause if pause.of == identity else Pause(of=identity))


def _identity(path: Path) -> str:
    """Inode and mtime of a waiting mail; '' when it is gone or is no regular file."""
    try:
        status = path.lstat()
    except FileNotFoundError:
        return ""
    return f"{status.st_ino}-{status.st_mtime_ns}" if stat.S_ISREG(status.st_mode) else ""


def _try_file(one: Waiting) -> Path:
    return one.path.with_name(f"{one.key}.try")


def _pause_in(path: Path) -> Pause:
    """No pause when the file is missing or was torn by a power cut: the mail is then tried earlier."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        return Pause(**{**values, "left": tuple(values["left"]), "refused": tuple(values["refused"])})
    except (OSError, ValueError, TypeError, KeyError):
        return Pause()


def _write_pause(folder: Path, path: Path, pause: Pause) -> None:
    tmp = write_tmp(folder / "tmp", path.name, json.dumps(asdict(pause)).encode(), is_synced=bool(pause.left))
    os.rename(tmp, path)


def _sweep(folder: Path, now: float) -> None:
    """Removes what a killed writer left in tmp/, and pauses whose mail has gone."""
    for path in (folder / "tmp").iterdir():
        with contextlib.suppress(FileNotFoundError):
            if path.stat().st_mtime < time.time() - LEFTOVER_S:
                path.unlink()
    for path in folder.glob("*.try"):
        if not path.with_suffix(".eml").exists():
            path.unlink(missing_ok=True)


# The mail as bytes


def _spool_id(folder: Path) -> str:
    path = folder / "id"
    if not path.exists():
        write_durably(folder / "tmp", path, f"{secrets.token_hex(8)}\n".encode(), time.time())
    return path.read_text().strip()


def _as_bytes(message: EmailMessage, key: str, spool_id: str, now: float) -> bytes:
    """With Date and a Message-ID that is always the same for this key; lines end in LF, bytes are ASCII."""
    from copy import deepcopy
    from email.policy import SMTP
    from email.utils import format_datetime, parseaddr

    whole = deepcopy(message)
    domain = parseaddr(str(whole["From"] or ""))[1].rpartition("@")[2] or "localhost"
    for header, value in (
        ("Date", format_datetime(datetime.fromtimestamp(now, UTC))),
        ("Message-ID", f"<{key}.{spool_id}@{domain}>"),
    ):
        del whole[header]
        whole[header] = value
    return whole.as_bytes(policy=SMTP.clone(linesep="\n", cte_type="7bit"))


def _recipients(raw: bytes) -> tuple[str, ...]:
    from email.parser import BytesHeaderParser
    from email.policy import default

    try:
        headers = BytesHeaderParser(policy=default).parsebytes(raw)
        found = [str(each.addr_spec) for header in headers.get_all("To", []) for each in header.addresses]
    except Exception:  # the parser of Python 3.11 raises nearly anything on a header that a hand has damaged
        return ()
    return () if any(address_problem(address) for address in found) else tuple(dict.fromkeys(found))


def _clock(at: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(at))

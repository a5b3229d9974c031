"""Files of a run on their way to the browser: one by its number in the list of products, or all as a streamed tar.

Everything goes out as an attachment that no browser shows. Who may fetch is decided before.
"""

from __future__ import annotations

import io
import os
import re
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from urllib.parse import quote

from spicad.tables import Process
from spicaweb.capsules import Capsule, Gone

CHUNK = 256 << 10
RECIPE = ("job.spica", "rules.toml", "run.json", "plan.json", "outcome.json", "manifest.json", "report.txt")
MOST_LOGS = 2000
HEADERS = {
    "Content-Type": "application/octet-stream",
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; sandbox",
}


@dataclass(frozen=True)
class Sent:
    """What a page answers with: its headers, and its body piece by piece."""

    headers: dict[str, str]
    body: Iterator[bytes]


def one_file(capsule: Capsule, *names: str, called: str = "") -> Sent:
    """Raises Gone."""
    handle, size = capsule.opened(*names)
    headers = {**HEADERS, "Content-Length": str(size), "Content-Disposition": attachment(called or names[-1])}
    return Sent(headers, _pieces(handle, size))


def as_text(text: str, called: str) -> Sent:
    data = text.encode()
    headers = {**HEADERS, "Content-Length": str(len(data)), "Content-Disposition": attachment(called)}
    return Sent(headers, iter((data,)))


def everything(row: Process, capsule: Capsule, products: Sequence[str]) -> Sent:
    """The products with the recipe, the configurations and the logs, below one folder. What is gone is left out."""
    folder = f"{row.id:06d}-{row.name}-run-{capsule.number}"
    members = [_member(capsule, folder, names) for names in _all_names(capsule, products)]
    there = [member for member in members if member is not None]
    length = sum(len(member.head) + _padded(member.size) for member in there) + 2 * tarfile.BLOCKSIZE
    headers = {
        **HEADERS,
        "Content-Type": "application/x-tar",
        "Content-Length": str(length),
        "Content-Disposition": attachment(f"{folder}.tar"),
    }
    return Sent(headers, _tarred(capsule, there))


def attachment(name: str) -> str:
    """Content-Disposition for any name, as in RFC 6266."""
    plain = re.sub(r"[^A-Za-z0-9._+-]", "_", name) or "file"
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}"


@dataclass(frozen=True)
class _Member:
    names: tuple[str, ...]
    head: bytes
    size: int


def _all_names(capsule: Capsule, products: Sequence[str]) -> Iterator[tuple[str, ...]]:
    yield from ((name,) for name in RECIPE)
    for folder in capsule.names("configuration"):
        yield from (("configuration", folder, name) for name in capsule.names("configuration", folder))
    yield from (("steps", step, "log") for step in capsule.names("steps")[:MOST_LOGS])
    yield from (("products", name) for name in products)


def _member(capsule: Capsule, folder: str, names: tuple[str, ...]) -> _Member | None:
    try:
        handle, size = capsule.opened(*names)
    except Gone:
        return None
    try:
        about = os.fstat(handle)
    finally:
        os.close(handle)
    info = tarfile.TarInfo("/".join((folder, *names)))
    info.size, info.mtime, info.mode = size, int(about.st_mtime), 0o644
    return _Member(names, info.tobuf(tarfile.PAX_FORMAT), size)


def _tarred(capsule: Capsule, members: Sequence[_Member]) -> Iterator[bytes]:
    for member in members:
        yield member.head
        yield from _pieces(capsule.opened(*member.names)[0], member.size)
        yield bytes(_padded(member.size) - member.size)
    yield bytes(2 * tarfile.BLOCKSIZE)


def _padded(size: int) -> int:
    return -(-size // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE


def _pieces(handle: int, size: int) -> Iterator[bytes]:
    """Exactly `size` bytes; a file that has shrunk meanwhile breaks the download off, so that it is noticed."""
    with io.FileIO(handle) as file:
        left = size
        while left:
            piece = file.read(min(CHUNK, left))
            if not piece:
                raise Gone("the file became shorter while it was sent.")
            left -= len(piece)
            yield piece

"""Whether a file that landed is whole: closed, complete to its last block, and what its checksums say.

Reads, and writes nothing. When to look, and what becomes of a file that is not whole, is snooppix.py's affair.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import re
import stat
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spicad import fits
from spicad.remembered import remembered
from spicad.words import SpicaError

CHUNK = 1 << 20
LARGEST_LIST = 64 << 20  # bytes: half a million names
MOST_LISTS = 20_000  # that are remembered: of many folders each exposure has its own
HEX = re.compile(r"[0-9a-fA-F]{32}(?:[0-9a-fA-F]{32})?")
DIGEST_SUFFIXES = (".md5", ".sha256")
LIST_NAMES = re.compile(r"(md5sums?|sha256sums?|checksums?)(\.txt)?$|.*\.(csv|md5sums?|sha256sums?)$", re.IGNORECASE)


class NotWhole(SpicaError):
    """What is missing or wrong in it, in words; it may still be mended by more bytes."""


class Vanished(SpicaError):
    pass


@dataclass(frozen=True)
class Whole:
    sha256: str
    bytes: int
    identity: str


def identity_of(status: os.stat_result) -> str:
    """Another one when a file was changed or another one put in its place."""
    return f"{status.st_dev}-{status.st_ino}-{status.st_size}-{status.st_mtime_ns}"


def is_about_others(name: str) -> bool:
    """Files that hold the digests of others."""
    return name.lower().endswith(DIGEST_SUFFIXES) or bool(LIST_NAMES.fullmatch(name))


def examine(path: Path, promised: frozenset[str], is_stopped: Callable[[], bool] = lambda: False) -> Whole:
    """Reads all of it. `promised` are digests (hexadecimal md5 or sha256) that its bytes must have.

    Raises NotWhole, Vanished, or PermissionError where it cannot be read.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ESTALE):
            raise Vanished(f"{path}: it has vanished.") from None
        raise
    try:
        before = os.fstat(descriptor)
        if not stat.S_ISREG(before.st_mode):
            raise NotWhole("it is no regular file.")
        if _is_written_to(descriptor):
            raise NotWhole("a program still has it open for writing.")
        _require_structure(path, descriptor)
        digests = digests_of(descriptor, promised, is_stopped)
        for said in sorted(promised):
            if said not in digests:
                raise NotWhole(
                    f"its {_kind(said)} is {_of_kind(digests, said)}, the list beside it says {said}: it is damaged."
                )
        if wrong := fits.disagreeing_sums(descriptor):
            raise NotWhole("; ".join(wrong))
        if wrong := disagreeing_checksums(descriptor):
            raise NotWhole("; ".join(wrong))
        after = os.stat(path, follow_symlinks=False)
    except FileNotFoundError:
        raise Vanished(f"{path}: it vanished while it was read.") from None
    finally:
        os.close(descriptor)
    if identity_of(before) != identity_of(after):
        raise NotWhole("it changed while it was read.")
    return Whole(next(each for each in digests if len(each) == 64), after.st_size, identity_of(after))


def _require_structure(path: Path, descriptor: int) -> None:
    try:
        fits.check_whole(descriptor, keys=())
    except fits.FitsProblem as error:
        raise NotWhole(f"{error.what} {error.mend}".strip()) from None


def _is_written_to(descriptor: int) -> bool:
    """A read lease is not given while a writer is there. Where the kernel cannot tell, steadiness has to do."""
    try:
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    except OSError as error:
        return error.errno == errno.EAGAIN
    return False


def digests_of(
    descriptor: int, promised: Iterable[str] = (), is_stopped: Callable[[], bool] = lambda: False
) -> frozenset[str]:
    """Its sha256, and its md5 where one was promised; in hexadecimal, read in one go."""
    sums: list[Any] = [hashlib.sha256()]
    if any(len(said) == 32 for said in promised):
        sums.append(hashlib.md5(usedforsecurity=False))
    at = 0
    while piece := os.pread(descriptor, CHUNK, at):
        at += len(piece)
        for each in sums:
            each.update(piece)
        if is_stopped():
            raise NotWhole("its examination was interrupted.")
    return frozenset(each.hexdigest() for each in sums)


def _kind(digest: str) -> str:
    return "md5" if len(digest) == 32 else "sha256"


def _of_kind(digests: frozenset[str], like: str) -> str:
    return next(each for each in digests if len(each) == len(like))


def disagreeing_checksums(source: int | Path) -> list[str]:
    """A text for each HDU that does not add up as its CHECKSUM says (FITS standard 4.0, section 4.4.2.7).

    Of packed files nothing is said: their HDUs are not what lies on the disk.
    """
    found: list[str] = []
    if fits.packing(source) not in ("fits", "fits.fz"):
        return found
    with fits.opened(source) as descriptor:
        for hdu in fits.scan(descriptor, keys=("CHECKSUM",)).hdus:
            said = hdu.header.get("CHECKSUM")
            if not isinstance(said, str) or len(said) != 16:
                continue
            end = hdu.data_offset + -(-hdu.data_bytes // fits.BLOCK) * fits.BLOCK
            if _ones_complement_sum(descriptor, hdu.header_offset, end) not in (0, 0xFFFFFFFF):
                what = (
                    f"HDU {hdu.index} does not add up to its CHECKSUM: its header or its data were changed or damaged."
                )
                found.append(what)
    return found


def _ones_complement_sum(descriptor: int, at: int, end: int) -> int:
    total = 0
    while at < end and (piece := os.pread(descriptor, min(CHUNK, end - at), at)):
        total += int.from_bytes(piece.ljust(-(-len(piece) // 4) * 4, b"\0"), "big") % 0xFFFFFFFF
        at += len(piece)
    return total % 0xFFFFFFFF


# What is promised beside a file


def read_promises(folder: Path, names: Iterable[str]) -> dict[str, frozenset[str]]:
    """By file name, the digests that NAME.md5, NAME.sha256 and lists in `folder` promise; `names` are what lies in it.

    What cannot be read promises nothing.
    """
    found: dict[str, frozenset[str]] = {}
    for name in filter(is_about_others, names):
        with suppress(OSError):
            for about, digests in _promises_of(folder / name).items():
                found[about] = found[about] | digests if about in found else digests
    return found


def _read_list(path: Path) -> dict[str, frozenset[str]]:
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return {}
        text = os.fsdecode(file.read(LARGEST_LIST))
    alone = path.name.rpartition(".")[0] if path.name.lower().endswith(DIGEST_SUFFIXES) else ""
    found: dict[str, frozenset[str]] = {}
    for about, digest in promises_in(text, alone):
        found[about] = found.get(about, frozenset()) | {digest}
    return found


_promises_of = remembered(_read_list, MOST_LISTS)


def promises_in(text: str, alone: str = "") -> list[tuple[str, str]]:
    """(name, digest) of lines `name,digest`, `digest  name` as md5sum writes them, and `MD5 (name) = digest`.

    `alone` is whom a digest without a name is about.
    """
    found = []
    for line in text.splitlines():
        words = line.strip()
        if bsd := re.fullmatch(r"(?:MD5|SHA256) \((.+)\) = ([0-9a-fA-F]+)", words):
            name, digest = bsd[1], bsd[2]
        elif "," in words:
            name, _, digest = (part.strip().strip('"') for part in words.rpartition(","))
        else:
            digest, _, name = words.partition(" ")
            name = name.lstrip(" *")
        if HEX.fullmatch(digest) and (name or alone):
            found.append((os.path.basename(name) or alone, digest.lower()))
    return found

"""Carries one file: a plain copy, rsync over ssh, or http with resume; verified, and never half under its final name.

What is carried when, and what follows when it fails, is datatransfer.py's affair. The tables are not touched here.
"""

from __future__ import annotations

import errno
import os
import re
import select
import shlex
import subprocess
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from spicad.archive.downloading import download
from spicad.archive.errands import (
    CHUNK,
    Carried,
    Damaged,
    Errand,
    Full,
    Gone,
    Interrupted,
    Lost,
    Means,
    Occupied,
    Progress,
    require_room,
    write_all,
)
from spicad.archive.wholeness import NotWhole, digests_of
from spicad.durable import sync_folder
from spicad.words import SpicaError

REMOTE = re.compile(
    r"(?P<host>[A-Za-z0-9_][A-Za-z0-9@._-]*):(?P<path>/(?!/).*)", re.DOTALL
)  # no address such as http://
FULL = (errno.ENOSPC, errno.EDQUOT)
NOT_THERE = ("No such file or directory", "vanished")
NO_SPACE = ("No space left on device", "Disk quota exceeded")
POLL_S = 0.2


def carry(errand: Errand, means: Means, progress: Progress) -> Carried:
    """Returns when the whole file lies durably at the target, with the digest that it must have."""
    to_host = REMOTE.fullmatch(errand.target)
    try:
        return _push(errand, means, progress) if to_host else _bring(errand, means, progress)
    except OSError as error:
        raise _of(error) from None


def _of(error: OSError) -> SpicaError:
    words = f"{error.filename or 'the disk'}: {error.strerror or error}."
    if error.errno in FULL:
        return Full(f"The disk is full: {words}")
    return Lost(words[0].upper() + words[1:])


def partial_of(number: int, target: str) -> str:
    """The hidden name beside the target under which it grows."""
    return f"{os.path.dirname(target)}/.spica-{number}.part"


# To a folder that is reached here


def _bring(errand: Errand, means: Means, progress: Progress) -> Carried:
    target, partial = Path(errand.target), Path(partial_of(errand.number, errand.target))
    if target.exists():
        carried = _settled(errand, target, means, progress)
        partial.unlink(missing_ok=True)
        return carried
    if errand.root and not os.path.isdir(errand.root):
        raise Lost(f"{errand.root} is not there.")
    _make_folders(target.parent)
    expected, mtime_ns = errand.digest, 0
    if REMOTE.fullmatch(errand.source):
        expected = expected or f"sha256:{remote_sha256(errand.source, means)}"
        progress.bytes = progress.bytes or _remote_size(errand.source, means)
        require_room(errand, target.parent, progress.bytes - _size(partial))
        _rsync(errand.source, str(partial), means, progress, lambda: require_room(errand, target.parent, 1))
    elif errand.source.startswith(("http://", "https://")):
        require_room(errand, target.parent, progress.bytes - _size(partial))
        download(errand, partial, means, progress)
    else:
        expected, mtime_ns = _copy(errand, partial, means, progress)
    return _finish(partial, target, expected, errand, mtime_ns, progress)


def _copy(errand: Errand, partial: Path, means: Means, progress: Progress) -> tuple[str, int]:
    """Goes on where an earlier try ended; what it left is verified with the rest."""
    try:
        source = os.open(errand.source, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        raise Gone(f"{errand.source} is not there any more.") from None
    try:
        status = os.fstat(source)
        expected = errand.digest or f"sha256:{_sha256(source, progress)}"
        have = _size(partial)
        if have > status.st_size:
            partial.unlink()
            have = 0
        require_room(errand, partial.parent, status.st_size - have)
        progress.bytes, progress.bytes_done = status.st_size, have
        with open(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600), "wb", 0) as out:
            while piece := os.pread(source, CHUNK, progress.bytes_done):
                progress.require_going_on()
                means.rate.take(len(piece), progress.stop)
                write_all(out.fileno(), piece)
                progress.bytes_done += len(piece)
    finally:
        os.close(source)
    return expected, status.st_mtime_ns


def _finish(partial: Path, target: Path, expected: str, errand: Errand, mtime_ns: int, progress: Progress) -> Carried:
    """Synced, read back from the disk, then named: by a link, which overwrites nothing."""
    sha256 = _verified(partial, expected, progress)
    os.chmod(partial, errand.mode)
    if mtime_ns:
        os.utime(partial, ns=(mtime_ns, mtime_ns))
    with suppress(FileExistsError):
        try:
            os.link(partial, target)
        except PermissionError:  # a file system without hard links
            if not target.exists():
                os.rename(partial, target)
    sync_folder(target.parent)
    if sha256 != _sha256_of(target, progress):
        raise Occupied(f"{target}: another file lies there. Nothing was overwritten.")
    partial.unlink(missing_ok=True)
    status = target.stat()
    return Carried(sha256, status.st_size, status.st_mtime_ns)


def _verified(partial: Path, expected: str, progress: Progress) -> str:
    descriptor = os.open(partial, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)  # what is read back comes from the disk
        kind, _, wanted = expected.rpartition(":")
        promised = frozenset([wanted]) if kind == "md5" else frozenset()
        found = _digests(descriptor, promised, progress)
    finally:
        os.close(descriptor)
    if wanted and wanted not in found:
        partial.unlink(missing_ok=True)
        got = next(each for each in found if len(each) == len(wanted))
        raise Damaged(f"Its {kind} is {got} after copying, {wanted} was expected: it is copied again.")
    return next(each for each in found if len(each) == 64)


def _settled(errand: Errand, target: Path, means: Means, progress: Progress) -> Carried:
    """The target is there already: from an earlier life that ended before it could say so, or it is another's."""
    expected = errand.digest
    if not expected and REMOTE.fullmatch(errand.source):
        expected = f"sha256:{remote_sha256(errand.source, means)}"
    elif not expected and os.path.isfile(errand.source):
        expected = f"sha256:{_sha256_of(Path(errand.source), progress)}"
    wanted = expected.rpartition(":")[2]
    descriptor = os.open(target, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        found = _digests(descriptor, frozenset([wanted]), progress)
        status = os.fstat(descriptor)
    finally:
        os.close(descriptor)
    if wanted not in found:
        raise Occupied(f"{target}: another file lies there. Nothing was overwritten.")
    sync_folder(target.parent)
    return Carried(next(each for each in found if len(each) == 64), status.st_size, status.st_mtime_ns)


def _sha256_of(path: Path, progress: Progress) -> str:
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        return _sha256(descriptor, progress)
    finally:
        os.close(descriptor)


def _sha256(descriptor: int, progress: Progress) -> str:
    return next(iter(_digests(descriptor, frozenset(), progress)))


def _digests(descriptor: int, promised: frozenset[str], progress: Progress) -> frozenset[str]:
    try:
        return digests_of(descriptor, promised, progress.stop.is_set)
    except NotWhole:
        raise Interrupted("It was told to stop.") from None


def _make_folders(folder: Path) -> None:
    missing = []
    while not folder.exists():
        missing.append(folder)
        folder = folder.parent
    for each in reversed(missing):
        with suppress(FileExistsError):
            each.mkdir(mode=0o755)
        sync_folder(each.parent)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


# Over ssh


def _push(errand: Errand, means: Means, progress: Progress) -> Carried:
    found = REMOTE.fullmatch(errand.target)
    assert found
    host, target = found["host"], found["path"]
    partial = partial_of(errand.number, target)
    try:
        descriptor = os.open(errand.source, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        raise Gone(f"{errand.source} is not there any more.") from None
    with open(descriptor, "rb"):
        sha256, status = _sha256(descriptor, progress), os.fstat(descriptor)
    if errand.digest not in ("", f"sha256:{sha256}"):
        raise Damaged(f"The sha256 of {errand.source} is {sha256}, {errand.digest} was expected.")
    progress.bytes = status.st_size
    if _ready_on(host, target, errand.root, means) != sha256:
        _rsync(errand.source, f"{host}:{partial}", means, progress)
        if _remote_digest(host, partial, means) != sha256:
            on_host(means, host, ["rm", "-f", "--", partial])
            raise Damaged(f"Its sha256 on {host} is not {sha256}: it is copied again.")
        _name_on(host, partial, target, f"{errand.mode:o}", sha256, means)
    progress.bytes_done = status.st_size
    return Carried(sha256, status.st_size, status.st_mtime_ns // 10**9 * 10**9)


def _ready_on(host: str, target: str, root: str, means: Means) -> str:
    """Makes the folder, not its root; the digest of what lies there already, '' when nothing does."""
    checks = [["test", "-d", root]] if root else []
    making = ["mkdir", "-p", "--", os.path.dirname(target)]
    answer = on_host(means, host, *checks, making, ["sha256sum", "-z", "--", target], may_fail=NOT_THERE)
    return _digest_in(answer)


def _name_on(host: str, partial: str, target: str, mode: str, sha256: str, means: Means) -> None:
    """Synced, then named by a link, which overwrites nothing; what refuses it is looked at."""
    synced = [["chmod", mode, "--", partial], ["sync", "--", partial]]
    named = [["ln", "-T", "--", partial, target], ["sync", "--", os.path.dirname(target)], ["rm", "--", partial]]
    try:
        on_host(means, host, *synced, *named)
    except Lost:
        there = _remote_digest(host, target, means)
        if not there:
            raise
        if there != sha256:
            raise Occupied(f"{host}:{target}: another file lies there. Nothing was overwritten.") from None
        on_host(means, host, ["rm", "-f", "--", partial])


def remote_sha256(place: str, means: Means) -> str:
    found = REMOTE.fullmatch(place)
    assert found
    digest = _remote_digest(found["host"], found["path"], means)
    if not digest:
        raise Gone(f"{place} is not there.")
    return digest


def _remote_size(place: str, means: Means) -> int:
    """0 when it is not there, or what is told is no number."""
    found = REMOTE.fullmatch(place)
    assert found
    answer = on_host(means, found["host"], ["stat", "-L", "-c", "%s", "--", found["path"]], may_fail=NOT_THERE).strip()
    return int(answer) if answer.isdecimal() else 0


def _remote_digest(host: str, path: str, means: Means) -> str:
    """'' when it is not there."""
    answer = on_host(means, host, ["sha256sum", "-z", "--", path], may_fail=NOT_THERE)
    return _digest_in(answer)


def _digest_in(answer: str) -> str:
    return answer[:64] if re.match(r"[0-9a-f]{64} ", answer) else ""


def remote_free(host: str, folder: str, means: Means) -> int:
    words = on_host(means, host, ["df", "--output=avail", "-B1", "--", folder]).split()
    return int(words[-1])


def on_host(means: Means, host: str, *commands: Sequence[str], may_fail: tuple[str, ...] = ()) -> str:
    """What the commands print there, one after the other as long as they succeed. ssh hands one text to a shell on the
    other side, so each word is quoted."""
    text = " && ".join(shlex.join(command) for command in commands)
    try:
        done = subprocess.run(
            [*means.ssh, "--", host, text],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=None if "sha256sum" in text else means.timeout_s * 2,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise Lost(f"{host} does not answer.") from None
    if done.returncode and not any(words in done.stderr for words in may_fail):
        raise _failure(host, done.returncode, done.stderr)
    return done.stdout


def _failure(who: str, status: int, words: str) -> SpicaError:
    last = next(
        (line.strip() for line in reversed(words.splitlines()) if "rsync error" not in line and line.strip()), ""
    )
    if any(each in words for each in NO_SPACE):
        return Full(f"The disk is full on the way to or from {who}: {last}")
    return Lost(f"{who}: {last or 'its root is not there'}")


def _rsync(
    source: str, target: str, means: Means, progress: Progress, watch: Callable[[], None] = lambda: None
) -> None:
    """`source` or `target` is HOST:/PATH. What an earlier try left at the target is used. `watch` may raise."""
    command = ["rsync", "-s", "--times", "--inplace", "--partial", "--no-whole-file", "--no-human-readable"]
    command += [
        "--info=progress2",
        "--outbuf=L",
        f"--timeout={max(1, int(means.timeout_s))}",
        "-e",
        shlex.join(means.ssh),
    ]
    if means.rate.bytes_per_s:
        command.append(f"--bwlimit={max(1, int(means.rate.bytes_per_s / means.parallel / 1024))}")
    child = subprocess.Popen(
        [*command, "--", _as_named(source), _as_named(target)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        words = _followed(child, progress, watch)
    except BaseException:
        child.terminate()
        raise
    finally:
        status = child.wait()
        for pipe in (child.stdout, child.stderr):
            if pipe:
                pipe.close()
    if status:
        if status in (23, 24) and any(each in words for each in NOT_THERE):
            raise Gone(f"{source} is not there.")
        raise _failure("rsync", status, words)


def _as_named(place: str) -> str:
    """Of HOST:/PATH, what rsync there takes for this one name: also with -s it expands patterns, by itself. It reads a
    backslash as an escape only beside a pattern."""
    found = REMOTE.fullmatch(place)
    if not found or not re.search(r"[*?[]", found["path"]):
        return place
    escaped = re.sub(r"([*?[\\])", r"\\\1", found["path"])
    return f"{found['host']}:{escaped}"


def _followed(child: subprocess.Popen[bytes], progress: Progress, watch: Callable[[], None]) -> str:
    """What it says on standard error; its progress is noted on the way."""
    assert child.stdout
    assert child.stderr
    streams: dict[int, bytes] = {child.stdout.fileno(): b"", child.stderr.fileno(): b""}
    out, left = child.stdout.fileno(), list(streams)
    while left:
        progress.require_going_on()
        watch()
        for handle in select.select(left, [], [], POLL_S)[0]:
            piece = os.read(handle, 65536)
            if not piece:
                left.remove(handle)
            streams[handle] = (streams[handle] + piece)[-20_000:]
        shown = re.findall(rb"(?:^|[\r\n]) *(\d+) +\d+%", streams[out])
        if shown:
            progress.bytes_done = max(progress.bytes_done, int(shown[-1]))
    return streams[child.stderr.fileno()].decode(errors="replace")


def listed(place: str, means: Means) -> list[tuple[str, int, str]]:
    """(name, bytes, time as rsync writes it) of the regular files in HOST:/FOLDER."""
    command = ["rsync", "-s", "--list-only", "--no-human-readable", f"--timeout={max(1, int(means.timeout_s))}"]
    try:
        done = subprocess.run(
            [*command, "-e", shlex.join(means.ssh), "--", _as_named(place.rstrip("/")) + "/"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=means.timeout_s * 4,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise Lost(f"{place} does not answer.") from None
    if done.returncode:
        raise _failure(place, done.returncode, done.stderr.decode(errors="replace"))
    line = re.compile(r"-\S+ +(\d+) (\S+ \S+) (.+)")
    found = map(line.fullmatch, done.stdout.decode(errors="replace").splitlines())
    return [(each[3], int(each[1]), each[2]) for each in found if each and "\\#" not in each[3]]

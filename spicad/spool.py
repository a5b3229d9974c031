"""The spool: one class owns its folders, with the opening ritual for foreign files and one rename per change of phase.

The table of legal states is spica-spool(7); what is mended at start is decided in recovery.py. No database here.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import stat
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from spicad.durable import sync_file, sync_folder, write_tmp
from spicad.jobfile import MOST_BYTES, is_whole, without_end
from spicad.schema import as_toml
from spicad.waiting import Waiting
from spicad.words import IN_SPOOL, Phase, SpicaError, visible

SUFFIX = ".spica"
FOLDERS = ("incoming", *(phase.folder for phase in IN_SPOOL), "rejected", "tmp", "outbox")
# sticky: nobody removes another's drop; setgid: what is dropped or refused belongs to the group
SETGID_MODES = {"incoming": 0o3770, "rejected": 0o2750}
LONGEST_NAME = 200
COMPANION_MOST_BYTES = 256 * 1024
GLANCE_BYTES = 32 * 1024


class Refused(SpicaError):
    """A drop that will never be taken; the text says why and the mend."""


class NotYet(Exception):
    """A drop that may still be being written."""


Identity = tuple[int, int, int, int, int]  # device, inode, both times, owner: another for any other or later file


@dataclass(frozen=True)
class Drop:
    """A file from incoming/, read once."""

    name: str
    text: str = field(repr=False)
    uid: int
    gid: int
    token: str  # the same for the same drop after a crash, another for any other drop
    identity: Identity


@dataclass(frozen=True)
class Accepted:
    """What the daemon knows of a process beside the user's own words; kept at the end of its durable copy."""

    token: str
    owner: str
    group: str
    rank: int
    submitted: float
    drop: str
    run: int = 1
    fresh: bool = False
    asked: str = ""  # token of the order that this run obeys
    texts: Mapping[str, str] = field(default_factory=dict)  # files dropped beside the job file
    picks: str = ""  # what was chosen from the archive, with digests
    locality: float = 1.0  # share of its input bytes that are stored on the daemon's node

    def as_waiting(self, process: int, not_before: float = 0.0) -> Waiting:
        return Waiting(self.submitted, process, self.rank, self.owner, self.group, not_before, self.locality)


class Spool:
    def __init__(self, root: Path) -> None:
        self.root = root
        self._folders = {name: root / name for name in FOLDERS}

    def folder(self, name: str) -> Path:
        return self._folders[name]

    def make(self, group_id: int | None = None) -> None:
        """Makes the folders that are missing, with their modes."""
        self.root.mkdir(parents=True, exist_ok=True)
        for name in FOLDERS:
            path = self.folder(name)
            made = not path.exists()
            path.mkdir(exist_ok=True)
            if made and name not in SETGID_MODES:
                path.chmod(0o750)
        if group_id is not None:
            for path in (self.root, *(self.folder(name) for name in FOLDERS)):
                os.chown(path, -1, group_id)
        for name, mode in SETGID_MODES.items():  # under systemd no setgid bit can be given: the package has set them
            if stat.S_IMODE(self.folder(name).stat().st_mode) != mode:
                self.folder(name).chmod(mode)
        for leftover in self.folder("tmp").iterdir():
            if leftover.is_dir() and not leftover.is_symlink():
                shutil.rmtree(leftover)
            else:
                leftover.unlink()

    # ------------------------------------------------------------------ drops

    def drops(self) -> list[str]:
        """Names in incoming/, the oldest look first being the caller's affair."""
        with os.scandir(self.folder("incoming")) as entries:
            return [entry.name for entry in entries if entry.name.endswith(SUFFIX) and not entry.name.startswith(".")]

    def _drop(self, name: str) -> str:
        return f"{self.root}/incoming/{name}"

    def read_drop(self, name: str) -> Drop:
        """The opening ritual. Raises Refused, NotYet, or FileNotFoundError when it vanished."""
        data, status = self._read_foreign(name, MOST_BYTES)
        try:
            text = data.decode("utf-8")
        except UnicodeDecodeError as error:
            line = data[: error.start].count(b"\n") + 1
            raise Refused(f"{name}, line {line}: this is not UTF-8 text. Save the file as UTF-8.") from None
        if not is_whole(text):
            raise NotYet
        identity = _identity(status)
        token = hashlib.sha256(repr(identity).encode() + data).hexdigest()[:40]
        return Drop(name, text, status.st_uid, status.st_gid, token, identity)

    def read_companion(self, name: str, uid: int) -> tuple[str, Identity]:
        """A configuration or rules file dropped beside a job file. One of another owner is as good as none."""
        data, status = self._read_foreign(name, COMPANION_MOST_BYTES, uid)
        return data.decode("utf-8", "replace"), _identity(status)

    def mentions(self, name: str, word: str, uid: int) -> bool:
        """Whether the drop `name` of this owner has `word` in it."""
        try:
            return word.encode() in self._read_foreign(name, MOST_BYTES, uid)[0]
        except (Refused, OSError):
            return False

    def _read_foreign(self, name: str, most: int, uid: int | None = None) -> tuple[bytes, os.stat_result]:
        """With `uid`, of a file of that owner only: raises FileNotFoundError for any other."""
        if len(name) > LONGEST_NAME or "/" in name or not name.isprintable():
            raise Refused(f"the name of this file cannot be used. Use at most {LONGEST_NAME} printable characters.")
        path = self._drop(name)
        try:
            handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            if uid is not None and os.lstat(path).st_uid != uid:
                raise FileNotFoundError(name) from None
            raise _cannot_open(name, error) from None
        try:
            status = os.fstat(handle)
            if uid not in (None, status.st_uid):
                raise FileNotFoundError(name)
            if not stat.S_ISREG(status.st_mode):
                raise Refused(f"{name} is not a regular file. Drop a plain file.")
            if status.st_nlink != 1:
                raise Refused(f"{name} has {status.st_nlink} names (hard links). Copy the file instead of linking it.")
            data = b"" if status.st_size > most else os.read(handle, most + 1)
            if max(status.st_size, len(data)) > most:
                size = max(status.st_size, len(data))
                raise Refused(f"{name} has {size} bytes; a file dropped here has at most {most}.")
            return data, status
        finally:
            os.close(handle)

    def is_still(self, drop: Drop) -> bool:
        """Whether the very file that was read lies there: its owner may have put another in its place meanwhile."""
        try:
            return _identity(os.lstat(self._drop(drop.name))) == drop.identity
        except OSError:
            return False

    def discard_drop(self, drop: Drop) -> None:
        if self.is_still(drop):
            self.discard(drop.name)

    def discard(self, name: str) -> None:
        with suppress(FileNotFoundError):
            os.unlink(self._drop(name))

    def discard_companion(self, name: str, identity: Identity) -> None:
        """Only the very file that was read."""
        with suppress(FileNotFoundError):
            if _identity(os.lstat(self._drop(name))) == identity:
                self.discard(name)

    def refuse(self, name: str, why: str) -> Path:
        """Moves a drop to rejected/ with its .why beside, overwriting nothing there. Returns the new path.

        Raises OSError when the drop cannot be moved; its .why stands in rejected/ then, and is not written again.
        """
        rejected, text = self.folder("rejected"), visible(why).rstrip() + "\n"
        stem, number = _shortened(name.removesuffix(SUFFIX)), 1
        target = rejected / f"{stem}{SUFFIX}"
        while os.path.lexists(target) or not _is_absent_or(Path(f"{target}.why"), text):
            number += 1
            target = rejected / f"{stem}-{number}{SUFFIX}"
        self.explain(target, text)
        with suppress(FileNotFoundError):
            os.rename(self._drop(name), target)
        sync_folder(rejected)
        return target

    def explain(self, target: Path, text: str) -> None:
        """The .why beside a refused file: for all to read who may look into rejected/."""
        why = Path(f"{target}.why")
        if not why.exists():
            self.write(why, text)
        why.chmod(0o644)

    def forget_refused(self, before: float) -> None:
        """Those that have been in rejected/ since before a time, each by itself; a folder there stays."""
        with os.scandir(self.folder("rejected")) as entries:
            for entry in entries:
                with suppress(FileNotFoundError):
                    if not entry.is_dir(follow_symlinks=False) and entry.stat(follow_symlinks=False).st_ctime < before:
                        os.unlink(entry.path)

    def set_aside(self, process: int, phase: Phase, why: str) -> Path:
        """A durable copy that cannot be read any more goes to rejected/, so that the others can go on."""
        path, number = self.path(process, phase), 1
        target = self.folder("rejected") / path.name
        while os.path.lexists(target):
            number += 1
            target = target.with_name(f"{process:06d}-{number}{SUFFIX}")
        self.explain(target, visible(why).rstrip() + "\n")
        os.rename(path, target)
        sync_folder(target.parent)
        return target

    # ------------------------------------------------------------------ the durable copies

    def path(self, process: int, phase: Phase) -> Path:
        return Path(self._name(process, phase))

    def _name(self, process: int, phase: Phase) -> str:
        return f"{self.root}/{phase.folder}/{process:06d}{SUFFIX}"

    def prepare_copy(self, token: str, text: str, accepted: Accepted, is_synced: bool = True) -> Path:
        """The first half of acceptance: a copy in tmp/, to be put in place once the process has its number."""
        return write_tmp(self.folder("tmp"), token, with_accepted(text, accepted).encode(), is_synced)

    def place(self, prepared: Path, process: int, phase: Phase = Phase.QUEUED) -> None:
        """The second half: one rename. The caller syncs the folder, once for many."""
        os.rename(prepared, self._name(process, phase))

    def phase_of(self, process: int) -> Phase | None:
        return next((phase for phase in IN_SPOOL if os.path.exists(self._name(process, phase))), None)

    def secure(self, processes: Iterable[int]) -> None:
        """The copies of these processes outlive a power cut, wherever they have got to."""
        phases = {Phase.QUEUED, Phase.EXECUTING}  # it may move from the one to the other meanwhile
        for process in processes:
            phases |= self._secured(process)
        self.sync(*phases)

    def _secured(self, process: int) -> set[Phase]:
        """The phase in which the copy was synced: one that moves meanwhile is looked for again."""
        for _ in IN_SPOOL:
            with suppress(FileNotFoundError):
                if phase := self.phase_of(process):
                    sync_file(self._name(process, phase))
                    return {phase}
        return set()

    def move(self, process: int, before: Phase, after: Phase) -> bool:
        """One rename; False when the file is not where `before` says."""
        try:
            os.rename(self._name(process, before), self._name(process, after))
        except FileNotFoundError:
            return False
        return True

    def sync(self, *phases: Phase) -> None:
        for phase in phases:
            sync_folder(self.folder(phase.folder))

    def copies(self, phase: Phase) -> Iterator[int]:
        """Processids in the folder of a phase."""
        with os.scandir(self.folder(phase.folder)) as entries:
            for entry in entries:
                number = entry.name.removesuffix(SUFFIX)
                if number.isdecimal() and entry.name.endswith(SUFFIX):
                    yield int(number)

    def changed(self, phases: Iterable[Phase]) -> tuple[int, ...]:
        """Something that differs when a folder of `phases` has been changed since."""
        return tuple(os.stat(self.folder(phase.folder)).st_mtime_ns for phase in phases)

    def read_copy(self, process: int, phase: Phase) -> tuple[str, Accepted]:
        """The user's words and the daemon's. Raises SpicaError when the copy is damaged."""
        path = self.path(process, phase)
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            raise SpicaError(f"{path}: this is not UTF-8 text any more.") from None
        return split_accepted(text, str(path))

    def looks_sound(self, process: int, phase: Phase) -> bool:
        """At a glance: its end is there, with the daemon's part. A hundred thousand are looked at in seconds."""
        handle = os.open(self._name(process, phase), os.O_RDONLY | os.O_CLOEXEC)
        try:
            size = os.lseek(handle, 0, os.SEEK_END)
            data = os.pread(handle, GLANCE_BYTES, max(0, size - GLANCE_BYTES))
        finally:
            os.close(handle)
        return data.endswith(b"\n[end]\n") and b"\n[accepted]" in data and b"\0" not in data

    def write(self, path: Path, text: str) -> None:
        """A whole new file at `path`, by way of tmp/."""
        os.rename(write_tmp(self.folder("tmp"), "text", text.encode(errors="surrogateescape"), is_synced=True), path)


def _identity(status: os.stat_result) -> Identity:
    return status.st_dev, status.st_ino, status.st_mtime_ns, status.st_ctime_ns, status.st_uid


def _shortened(stem: str) -> str:
    """Room for -NUMBER.spica.why and for the random end of a name in tmp/: file names have at most 255 bytes."""
    return os.fsdecode(os.fsencode(stem)[:LONGEST_NAME])


def _is_absent_or(path: Path, text: str) -> bool:
    try:
        return path.read_bytes() == text.encode(errors="surrogateescape")
    except FileNotFoundError:
        return True


def _cannot_open(name: str, error: OSError) -> Exception:
    if error.errno == errno.ENOENT:
        return FileNotFoundError(name)
    if error.errno == errno.ELOOP:
        return Refused(f"{name} is a symbolic link. Copy the file instead of linking it.")
    if error.errno == errno.EACCES:
        return Refused(f"{name} cannot be read by the daemon. Run chmod g+r on your file and drop it again.")
    if error.errno in (errno.ENXIO, errno.ENODEV):
        return Refused(f"{name} is not a regular file. Drop a plain file.")
    return error


def with_accepted(text: str, accepted: Accepted) -> str:
    lines = [without_end(text).rstrip("\n"), "", "[accepted]  # by spicad; not for hand-written files"]
    for key, value in vars(accepted).items():
        lines.append(f"{key} = {as_toml(value)}")
    return "\n".join([*lines, "", "[end]", ""])


def split_accepted(text: str, source: str) -> tuple[str, Accepted]:
    words, found, rest = text.rpartition("\n[accepted]")
    try:
        table: dict[str, Any] = tomllib.loads(found + rest)["accepted"]
        return words.rstrip("\n") + "\n[end]\n", Accepted(**table)
    except (KeyError, TypeError, tomllib.TOMLDecodeError) as error:
        raise SpicaError(f"{source}: the daemon's own part of this job file is damaged: {error}") from None

"""Files that are there whole or not at all, also after a power cut; and locks that end with their holder.

What is written, and which folder means what, is the affair of those who call.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def locked(path: Path, wait: bool = True) -> Iterator[None]:
    """Raises BlockingIOError when another holds it and `wait` is False."""
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        yield
    finally:
        os.close(handle)


def write_durably(tmp_folder: Path, path: Path, content: bytes, at: float) -> None:
    tmp = write_tmp(tmp_folder, path.name, content, is_synced=True)
    try:
        os.utime(tmp, ns=(int(at * 1e9), int(at * 1e9)))
        os.rename(tmp, path)
    except OSError:
        tmp.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def write_tmp(tmp_folder: Path, name: str, content: bytes, is_synced: bool) -> Path:
    tmp = tmp_folder / f"{name}.{secrets.token_hex(6)}"
    try:
        with open(os.open(tmp, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as file:
            file.write(content)
            file.flush()
            if is_synced:
                os.fsync(file.fileno())
    except OSError:
        tmp.unlink(missing_ok=True)
        raise
    return tmp


def sync_folder(folder: str | Path) -> None:
    _sync(folder, os.O_DIRECTORY)


def sync_file(path: str | Path) -> None:
    _sync(path, os.O_NOFOLLOW)


def _sync(path: str | Path, how: int) -> None:
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | how)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def remove_tree(folder: str | Path) -> None:
    """As far as it goes; quick for a folder that is empty."""
    try:
        os.rmdir(folder)
    except OSError:
        shutil.rmtree(folder, ignore_errors=True)


def replace_file(path: Path, content: bytes, is_synced: bool = True) -> None:
    """A new `path` in one rename, by way of a hidden file beside it; with `is_synced` it outlives a power cut."""
    folder, name = os.path.split(path)
    tmp = f"{folder}/.{name}.new"
    write_file(tmp, content, is_synced)
    os.rename(tmp, path)
    if is_synced:
        sync_folder(folder)


def write_file(path: str | Path, content: str | bytes, is_synced: bool = False) -> None:
    """Without a rename: for files that count for nothing until another one is there."""
    data = memoryview(content.encode() if isinstance(content, str) else content)
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
    try:
        while data:
            data = data[os.write(handle, data) :]
        if is_synced:
            os.fsync(handle)
    finally:
        os.close(handle)

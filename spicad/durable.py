"""Files that are there whole or not at all, also after a power cut; and locks that end with their holder.

What is written, and which folder means what, is the affair of those who call.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
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


def make_folders(*folders: str | Path) -> None:
    """Those that are missing, from the outermost to the innermost."""
    for folder in folders:
        with contextlib.suppress(FileExistsError):
            os.mkdir(folder)


def remove_tree(folder: str | Path) -> None:
    """As far as it goes; quick for a folder that is empty or not there."""
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        try:
            os.rmdir(folder)
        except FileNotFoundError:
            return
        except OSError:
            parent = os.open(os.path.dirname(folder) or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                with contextlib.suppress(OSError):
                    remove_below(parent, os.path.basename(folder))
            finally:
                os.close(parent)


def remove_below(parent: int, name: str) -> None:
    """A file, a link, or a whole folder, in the folder that `parent` is open on; nothing is where it is not there.

    No link is followed, whoever makes one meanwhile. Folders in folders are brought up one by one before they are
    emptied: a tool may have left ten thousand of them in each other, or some that nobody may enter.
    """
    try:
        handle = _entered(parent, name)
    except FileNotFoundError:
        return
    except OSError:  # no folder, or a link
        os.unlink(name, dir_fd=parent)
        return
    try:
        while inner := _without_files(handle):
            for each in inner:
                _emptied(handle, each)
    finally:
        os.close(handle)
    os.rmdir(name, dir_fd=parent)


def _without_files(handle: int) -> list[str]:
    """The folders in a folder, once everything else in it is gone."""
    with os.scandir(handle) as entries:
        found = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]
    for name, is_folder in found:
        if not is_folder:
            os.unlink(name, dir_fd=handle)
    return [name for name, is_folder in found if is_folder]


def _emptied(top: int, name: str) -> None:
    try:
        handle = _entered(top, name)
    except (FileNotFoundError, NotADirectoryError):  # it has become a link: the next look at `top` sees that
        return
    try:
        for each in _without_files(handle):
            os.close(_entered(handle, each))
            os.rename(each, f"up-{secrets.token_hex(8)}", src_dir_fd=handle, dst_dir_fd=top)
    finally:
        os.close(handle)
    os.rmdir(name, dir_fd=top)


def _entered(parent: int, name: str) -> int:
    """A folder opened, no link followed; one that its owner may not enter is made so that he may."""
    look = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    seen = os.open(name, look, dir_fd=parent)
    try:
        if os.fstat(seen).st_mode & 0o700 != 0o700:
            os.chmod(f"/proc/self/fd/{seen}", 0o700)
        return os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=seen)
    finally:
        os.close(seen)


def replace_file(path: str | Path, content: bytes, is_synced: bool = True) -> None:
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

"""The one way from the command into the spool: a file dropped in incoming/, and what the daemon made of it.

Job files and orders are dropped alike. Who may what is judged by the daemon, from the owner of the file.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from spicad.config import Settings
from spicad.durable import sync_folder
from spicad.schema import as_toml
from spicad.spool import SUFFIX
from spicad.words import SpicaError

PATIENCE_S = 30.0
LOOK_S = 0.02
ASK_FOR_DAEMON_S = 2.0


class NotTaken(SpicaError):
    """The drop still lies in incoming/."""


def drop(settings: Settings, stem: str, text: str) -> str:
    """Writes into incoming/ under a name of its own, by one rename; returns the name."""
    incoming = Path(settings.paths.spool) / "incoming"
    if not incoming.is_dir():
        raise SpicaError(f"{incoming} is not there. Start spicad once, or mend paths.spool in {settings.source}.")
    name = f"{stem}-{time.time_ns():x}-{os.getpid()}{SUFFIX}"
    hidden = incoming / f".{name}"
    try:
        handle = os.open(hidden, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o640)
        with open(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(handle)
        os.rename(hidden, incoming / name)
    except PermissionError as error:
        raise SpicaError(f"{incoming}: {error.strerror}. Are you in the Unix group that may drop job files?") from None
    except OSError as error:
        raise SpicaError(f"{incoming}: {error.strerror}.") from None
    sync_folder(incoming)
    return name


def order_text(order: str, process: int = 0, why: str = "", is_fresh: bool = False, days: float = 0.0) -> str:
    lines = [f"order = {as_toml(order)}"]
    if process:
        lines.append(f"process = {process}")
    if why:
        lines.append(f"why = {as_toml(why)}")
    if is_fresh:
        lines.append("fresh = true")
    if days:
        lines.append(f"days = {days:g}")
    return "\n".join([*lines, "", "[end]", ""])


def wait_until_taken(settings: Settings, name: str, shown: str = "") -> None:
    """Returns when the daemon has taken the drop. Raises SpicaError with its reason when it was refused, NotTaken when
    nobody takes it. `shown` is what the person knows the file by."""
    spool = Path(settings.paths.spool)
    since = time.monotonic()
    has_asked = False
    while True:
        is_gone = not _lies(spool / "incoming" / name)
        why = _why_refused(spool / "rejected" / f"{name}.why")
        if why:
            raise SpicaError(why.replace(name, shown) if shown else why.removeprefix(f"{name}: "))
        if is_gone:
            return
        waited = time.monotonic() - since
        if waited > ASK_FOR_DAEMON_S and not has_asked:
            has_asked = True
            if not daemon_runs(settings):
                raise NotTaken(f"no spicad runs on {spool}. {name} lies in incoming/ until one does.")
        if waited > PATIENCE_S:
            raise NotTaken(f"{name} lies in {spool}/incoming; spicad has not taken it yet. Its log may say why.")
        if sys.stderr.isatty() and has_asked:
            print(".", end="", file=sys.stderr, flush=True)
        time.sleep(LOOK_S)


def _lies(path: Path) -> bool:
    try:
        return path.exists()
    except PermissionError as error:
        raise SpicaError(f"{path.parent}: {error.strerror}.") from None


def _why_refused(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        return ""
    except PermissionError:
        return f"{path.name.removesuffix('.why')}: refused; the reason in {path} is not for you to read."


def daemon_runs(settings: Settings) -> bool:
    """Whether a daemon holds the spool's lock; True where this cannot be seen."""
    from spicad.daemon import running_pid

    try:
        return running_pid(settings) is not None
    except OSError:
        return True

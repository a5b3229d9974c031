"""`spica submit`: a job file, with the files it names beside it, into the spool's incoming/.

The check is that of the desk, as in `spica lint`; the daemon checks again what it takes.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

from spicad import config
from spicad.commands.lint import job_from, looked_over
from spicad.commands.tables import open_tables
from spicad.config import Settings
from spicad.durable import sync_folder
from spicad.jobfile import without_end
from spicad.spool import SUFFIX, _toml
from spicad.tables import Event, Process
from spicad.words import SpicaError

HELP = "hand a job file over to the daemon"
PATIENCE_S = 30.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", help="the job file, see spica-job(5); - reads standard input")
    parser.add_argument("--no-check", action="store_true", help="do not look it over here; the daemon does")
    parser.add_argument("--no-wait", action="store_true", help="do not wait until the daemon has taken it")


def run(arguments: argparse.Namespace) -> int:
    settings = config.load()
    job, texts = job_from(arguments.file)
    if not arguments.no_check:
        looked_over(job, settings)
    name = drop(settings, job.name, with_texts(job.text, texts))
    if arguments.no_wait:
        print(name)
        return 0
    process = wait_for(settings, name)
    if process is None:
        print(f"{name} lies in {settings.paths.spool}/incoming; no daemon has taken it yet. Is spicad running?")
        return 1
    print(f"process {process}")
    return 0


def with_texts(text: str, texts: dict[str, str]) -> str:
    """The job with the files beside it carried along."""
    if not texts:
        return text
    lines = [f"{_toml(name)} = {_toml(content)}" for name, content in texts.items()]
    return "\n".join([without_end(text).rstrip("\n"), "", "[texts]", *lines, "", "[end]", ""])


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
    sync_folder(incoming)
    return name


def wait_for(settings: Settings, name: str) -> int | None:
    """The processid that a drop became; None when nobody takes it. Raises SpicaError when it was refused."""
    spool = Path(settings.paths.spool)
    until = time.monotonic() + PATIENCE_S
    while time.monotonic() < until:
        why = spool / "rejected" / f"{name}.why"
        if why.exists():
            raise SpicaError(why.read_text(encoding="utf-8").strip())
        if not (spool / "incoming" / name).exists():
            process = _process_of(settings, name)
            if process is not None:
                return process
        print(".", end="", file=sys.stderr, flush=True) if sys.stderr.isatty() else None
        time.sleep(0.05)
    return None


def _process_of(settings: Settings, name: str) -> int | None:
    with open_tables(settings):
        row = (
            Event.select(Event.process)
            .join(Process, on=(Process.id == Event.process))
            .where(Event.why == f"taken from {name}")
            .order_by(Event.id.desc())
            .tuples()
            .first()
        )
    return int(row[0]) if row else None

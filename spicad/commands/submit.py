"""`spica submit`: a job file, with the files it names beside it, into the spool's incoming/.

The check is that of the desk, as in `spica lint`; the daemon checks again what it takes.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from spicad import config
from spicad.commands import DONE, FAILED
from spicad.commands.dropping import PATIENCE_S, NotTaken, drop, wait_until_taken
from spicad.commands.lint import job_from, looked_over
from spicad.commands.printing import complain
from spicad.commands.tables import open_tables
from spicad.config import Settings
from spicad.jobfile import without_end
from spicad.schema import as_toml
from spicad.tables import Event
from spicad.words import SpicaError

LOOK_S = 0.02


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", help="the job file, see spica-job(5); - reads standard input")
    parser.add_argument("--no-check", action="store_true", help="do not look it over here; the daemon does")
    waiting = parser.add_mutually_exclusive_group()
    waiting.add_argument("--no-wait", action="store_true", help="do not wait until the daemon has taken it")
    waiting.add_argument("--watch", action="store_true", help="then show its progress until it ends")


def run(arguments: argparse.Namespace) -> int:
    settings = config.load()
    job, texts = job_from(arguments.file, settings)
    if not arguments.no_check:
        looked_over(job, settings)
    name = drop(settings, job.name, with_texts(job.text, texts))
    if arguments.no_wait:
        print(name)
        return DONE
    shown = "standard input" if arguments.file == "-" else Path(arguments.file).name
    try:
        wait_until_taken(settings, name, shown)
    except NotTaken as error:
        complain(str(error))
        return FAILED
    process = process_of(settings, name)
    print(f"process {process}", flush=True)
    if arguments.watch:
        from spicad.commands.watching import watch

        return watch(settings, process)
    return DONE


def with_texts(text: str, texts: dict[str, str]) -> str:
    """The job with the files beside it carried along."""
    if not texts:
        return text
    carried = [f"{as_toml(name)} = {as_toml(content)}" for name, content in texts.items()]
    head, header, rest = text.partition("\n[texts]\n")
    if header:  # the file carries some already: a table stands only once in a file
        return "".join([head, header, "\n".join(carried), "\n", rest])
    return "\n".join([without_end(text).rstrip("\n"), "", "[texts]", *carried, "", "[end]", ""])


def process_of(settings: Settings, name: str) -> int:
    """The processid that a drop became: its first event names it."""
    until = time.monotonic() + PATIENCE_S
    while time.monotonic() < until:
        with open_tables(settings):
            query = Event.select(Event.process).where(Event.why == f"taken from {name}").order_by(Event.id.desc())
            row = query.tuples().first()
        if row:
            return int(row[0])
        time.sleep(LOOK_S)
    raise SpicaError(f"{name} was taken, but the tables do not name its process yet. Look later: spica list")

"""`spica lint`: checks a job file as the daemon will, and names every line that is wrong, with its mend."""

from __future__ import annotations

import argparse
import os
import sys
from dataclasses import replace
from pathlib import Path

from spicad import config, people, sandbox
from spicad.applications.descriptor import load_applications
from spicad.config import Settings
from spicad.desk import Desk, Vetted, companions_of
from spicad.jobfile import Job, Order, parse
from spicad.words import BadInput, Problem, SpicaError, visible


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", help="the job file, see spica-job(5); - reads standard input")


def run(arguments: argparse.Namespace) -> int:
    settings = config.load()
    job, _ = job_from(arguments.file, settings)
    vetted = looked_over(job, settings)
    for dropped in vetted.plan.dropped:
        print(visible(f"dropped: {dropped.exposure}: {dropped.why}"), file=sys.stderr)
    for exposure in vetted.plan.exposures.values():
        for warning in exposure.warnings:
            print(visible(f"note: {exposure.path.name}: {warning}"), file=sys.stderr)
    print(f"{arguments.file}: fine")
    return 0


def job_from(file: str, settings: Settings) -> tuple[Job, dict[str, str]]:
    """The job in `file` with the files it names beside it, and those files alone, by name. Raises SpicaError."""
    path = Path(file)
    try:
        text = sys.stdin.read() if file == "-" else _text_of(path)
    except (OSError, UnicodeDecodeError) as error:
        what = getattr(error, "strerror", None) or "this is not UTF-8 text"
        raise SpicaError(f"{file}: cannot be read: {what}.") from None
    parsed = parse(text, path.name if file != "-" else "standard input")
    if isinstance(parsed, Order):
        raise BadInput(Problem(file, "this is an order, not a job.", "Use spica hold, release, cancel or rerun."))
    beside = path.parent if file != "-" else Path.cwd()
    applications = load_applications(settings.paths.applications)
    texts = companions_of(parsed, applications, lambda name: _text_of(beside / name))
    return replace(parsed, texts={**parsed.texts, **texts}), texts


def _text_of(path: Path) -> str:
    """Raises FileNotFoundError and IsADirectoryError as they are: then it may be the name of something kept."""
    try:
        data = path.read_bytes()
    except (FileNotFoundError, IsADirectoryError):
        raise
    except (OSError, ValueError) as error:
        raise SpicaError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}.") from None
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise BadInput(Problem(path.name, "this is not UTF-8 text.", "Save the file as UTF-8.", line)) from None


def looked_over(job: Job, settings: Settings) -> Vetted:
    """What the desk says of the job for the person who runs this command."""
    owner = people.person(os.getuid(), settings)
    is_sandboxed = settings.sandbox.kind != "none" and not sandbox.user_namespaces_work()
    return Desk.of(settings).vet(job, owner, is_sandboxed)

"""`spica lint`: checks a job file as the daemon will, and names every line that is wrong, with its mend."""

from __future__ import annotations

import argparse
import os
import sys
from dataclasses import replace
from pathlib import Path

from spicad import config, people, sandbox
from spicad.config import Settings
from spicad.desk import Desk, Vetted, companions_of
from spicad.jobfile import Job, Order, parse
from spicad.words import BadInput, Problem, SpicaError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", help="the job file, see spica-job(5); - reads standard input")


def run(arguments: argparse.Namespace) -> int:
    settings = config.load()
    job, _ = job_from(arguments.file)
    vetted = looked_over(job, settings)
    for dropped in vetted.plan.dropped:
        print(f"dropped: {dropped.exposure}: {dropped.why}", file=sys.stderr)
    for exposure in vetted.plan.exposures.values():
        for warning in exposure.warnings:
            print(f"note: {exposure.path.name}: {warning}", file=sys.stderr)
    print(f"{arguments.file}: fine")
    return 0


def job_from(file: str) -> tuple[Job, dict[str, str]]:
    """The job in `file` with the files it names beside it, and those files alone, by name. Raises SpicaError."""
    path = Path(file)
    try:
        text = sys.stdin.read() if file == "-" else path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SpicaError(f"{file}: cannot be read: {error}") from None
    parsed = parse(text, path.name if file != "-" else "standard input")
    if isinstance(parsed, Order):
        raise BadInput(Problem(file, "this is an order, not a job.", "Use spica hold, release, cancel or rerun."))
    beside = path.parent if file != "-" else Path.cwd()
    texts = companions_of(parsed, lambda name: _text_of(beside / name))
    return replace(parsed, texts={**parsed.texts, **texts}), texts


def _text_of(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        mend = "The job file names it; only texts are carried along."
        raise BadInput(Problem(path.name, "this is not UTF-8 text.", mend)) from None


def looked_over(job: Job, settings: Settings) -> Vetted:
    """What the desk says of the job for the person who runs this command."""
    owner = people.person(os.getuid(), settings)
    is_sandboxed = settings.sandbox.kind != "none" and not sandbox.user_namespaces_work()
    return Desk.of(settings).vet(job, owner, is_sandboxed)

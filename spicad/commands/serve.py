"""`spica serve`: the site on one machine, until Ctrl-C. This program becomes another one for it, spicaweb."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from spicad.words import SpicaError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--listen", metavar="HOST:PORT", help="instead of [web] listen")


def run(arguments: argparse.Namespace) -> int:
    beside = Path(__file__).resolve().parents[2] / "web"
    if beside.is_dir():  # a checkout
        parts = [str(beside), str(beside.parent), os.environ.get("PYTHONPATH", "")]
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, parts))
    words = ["--listen", arguments.listen] if arguments.listen else []
    sys.stdout.flush()
    try:
        os.execv(sys.executable, [sys.executable, "-m", "spicaweb", *words])  # noqa: S606
    except OSError as error:
        raise SpicaError(f"the site cannot be started: {error}") from None

"""`spica metrics`: figures for Prometheus, on standard output or into a file that a node exporter picks up.

The same figures are the site's page /metrics.
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path

from spicad import config, metrics, tables
from spicad.commands import DONE
from spicad.durable import replace_file


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--output", metavar="FILE", help="write there, whole at once, for a textfile collector")


def run(arguments: argparse.Namespace) -> int:
    settings = config.load()
    opened = tables.connect(settings.database.url, settings.database.password_file, read_only=True)
    try:
        tables.require_current()
        text = metrics.text(settings, time.time())
    finally:
        opened.close()
    if not arguments.output:
        print(text, end="")
        return DONE
    replace_file(Path(arguments.output), text.encode())
    os.chmod(arguments.output, 0o644)  # the exporter is another user
    return DONE

"""`spica drain`: lets a node run empty, for its maintenance; with --off steps start again. For administrators."""

from __future__ import annotations

import argparse

from spicad import config
from spicad.commands import DONE
from spicad.commands.dropping import drop, order_text, wait_until_taken


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--off", action="store_true", help="let steps start again")
    parser.add_argument("--why", metavar="TEXT", default="", help="the reason, shown to all who wait")


def run(arguments: argparse.Namespace) -> int:
    settings = config.load()
    verb = "undrain" if arguments.off else "drain"
    wait_until_taken(settings, drop(settings, verb, order_text(verb, why=arguments.why)))
    now = "steps start again" if arguments.off else "no further step starts; those that run go on"
    print(f"{settings.daemon.node}: {now}")
    return DONE

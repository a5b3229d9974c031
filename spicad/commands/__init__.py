"""The command `spica`: one file for each sub-command, listed here by hand and loaded when it is asked for.

A sub-command's file has HELP, add_arguments(parser) and run(arguments), which returns the exit status:
0 done, 1 it did not succeed, 2 wrong use or wrong input, 3 nothing was found.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence

from spicad import __version__
from spicad.words import BadInput, SpicaError

COMMANDS = {
    "submit": "hand a job file over to the daemon",
    "lint": "check a job file, naming lines and mends",
    "check": "check a tool's configuration",
    "plan": "show what a job would do, without running it",
    "sky": "make a small sky of FITS exposures whose truth is known",
}
DONE, FAILED, WRONG, NOTHING = 0, 1, 2, 3


def main(argv: Sequence[str] | None = None) -> int:
    arguments = list(sys.argv[1:] if argv is None else argv)
    parser = build_parser(_named(arguments))
    parsed = parser.parse_args(arguments)
    if parsed.config:
        os.environ["SPICA_CONF"] = parsed.config
    try:
        return int(parsed.run(parsed))
    except BadInput as error:
        for problem in error.problems:
            print(problem, file=sys.stderr)
        return WRONG
    except SpicaError as error:
        print(f"spica: {error}", file=sys.stderr)
        return FAILED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except KeyboardInterrupt:
        return 130


def _named(arguments: Sequence[str]) -> str:
    return next((word for word in arguments if word in COMMANDS), "")


def build_parser(only: str = "") -> argparse.ArgumentParser:
    """The parser of `spica`; with `only`, the arguments of that sub-command alone are loaded."""
    parser = argparse.ArgumentParser(prog="spica", description="Reduce archived FITS images. See spica(1).")
    parser.add_argument("--version", action="version", version=f"spica {__version__}")
    parser.add_argument("--config", metavar="FILE", help="the configuration file instead of the usual spica.conf")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, words in COMMANDS.items():
        command = commands.add_parser(name, help=words)
        if only in ("", name):
            module = importlib.import_module(f"spicad.commands.{name}")
            module.add_arguments(command)
            command.set_defaults(run=module.run)
    return parser

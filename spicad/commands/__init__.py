"""The command `spica`: one file for each sub-command, listed here by hand and loaded when it is asked for.

A sub-command's file has add_arguments(parser) and run(arguments), which returns the exit status; the statuses below
are the only ones, and spica(1) repeats them. The other files here hold what several sub-commands share.
"""

from __future__ import annotations

import argparse
import importlib
import io
import os
import sys
from collections.abc import Sequence

from spicad import __version__
from spicad.words import BadInput, SpicaError, nearest, visible

COMMANDS = {
    "submit": "hand a job file over to the daemon",
    "lint": "check a job file, naming lines and mends",
    "check": "check a tool's configuration",
    "headers": "show what is understood of FITS headers, and what they lack",
    "plan": "show what a job would do, without running it",
    "find": "search the archive for exposures",
    "grade": "grade exposures, show and count grades, import and export them",
    "selection": "list, merge, subtract, share and delete saved selections of exposures",
    "list": "list processes, the newest first",
    "show": "show a process: its phases, steps, figures and products",
    "log": "show what a tool said in a step",
    "explain": "say what holds a process, its score, and how many are ahead",
    "queue": "show who goes first, and what holds each",
    "drain": "let no further step start on this node, or let them start again",
    "hold": "let nothing more of a process start",
    "release": "let a held process go on",
    "cancel": "end a process",
    "rerun": "run a process again that is over",
    "rebuild": "make the products of an archived process again, from its recipe",
    "delete": "delete the products of processes; their recipes stay",
    "keep": "keep the products of a process longer",
    "quota": "show what users and groups have on the disk, and may have",
    "retention": "show what is deleted when, or let a stopped deletion go on",
    "metrics": "print figures for Prometheus: queue, times, failures, disk, load, heartbeat",
    "results": "list the products of a process, or fetch them",
    "verify": "run a completed process again and compare the products",
    "transfer": "show and steer what is on its way to storage, or out of the house",
    "sky": "make a small sky of FITS exposures whose truth is known",
    "setup": "set Spica up on this machine: users, folders, database, first Administrator",
    "doctor": "look at a living installation, and say what is wrong and the mend",
    "serve": "run the site on this machine",
    "user": "make, list and change accounts of the site",
    "group": "make and fill reduction groups",
    "database": "show or upgrade the tables",
    "completion": "print a completion script for bash, zsh or fish",
}
FILES = {  # those whose file is not called as they are; a file called list.py would hide the word `list` here
    "list": "listing",
    "hold": "orders",
    "release": "orders",
    "cancel": "orders",
    "selection": "selections",
}

DONE = 0  # done; with --watch: the process is COMPLETED; with verify: all products are identical
FAILED = 1  # it did not succeed; with --watch: the process is in ERROR, ABORTED or HELD
WRONG = 2  # wrong use, or something wrong in a file that was given
NOTHING = 3  # nothing was found: no such process, step, run or product, or an empty list
INTERRUPTED = 130  # by Ctrl-C, as shells have it; what was handed over goes on


class NothingFound(SpicaError):
    """What was asked for is not there."""


def main(argv: Sequence[str] | None = None) -> int:
    arguments = list(sys.argv[1:] if argv is None else argv)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # file names may hold any bytes
    named = _named(arguments)
    if named and named not in COMMANDS:
        mend = nearest(named, COMMANDS) or "spica --help lists what there is."
        print(visible(f"spica: there is no sub-command {named!r}. {mend}"), file=sys.stderr)
        return WRONG
    parser = build_parser(named)
    parsed = parser.parse_args(arguments)
    if parsed.config:
        os.environ["SPICA_CONF"] = parsed.config
    try:
        status = int(parsed.run(parsed))
        sys.stdout.flush()
    except BadInput as error:
        for problem in error.problems:
            print(problem, file=sys.stderr)
        return WRONG
    except NothingFound as error:
        print(f"spica: {error}", file=sys.stderr)
        return NOTHING
    except SpicaError as error:
        print(f"spica: {error}", file=sys.stderr)
        return FAILED
    except PermissionError as error:
        print(visible(f"spica: {error.filename}: {error.strerror}"), file=sys.stderr)
        return FAILED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except KeyboardInterrupt:
        return INTERRUPTED
    return status


def _named(arguments: Sequence[str]) -> str:
    """The sub-command: the first word that is neither an option nor the value of --config."""
    words = iter(arguments)
    for word in words:
        if word == "--config":
            next(words, None)
        elif not word.startswith("-"):
            return word
    return ""


def build_parser(only: str | None = None) -> argparse.ArgumentParser:
    """The parser of `spica`; with `only`, the arguments of that sub-command alone are loaded ('': of none)."""
    parser = argparse.ArgumentParser(
        prog="spica", description="Reduce archived FITS images. See spica(1).", allow_abbrev=False
    )
    parser.add_argument("--version", action="version", version=f"spica {__version__}")
    parser.add_argument("--config", metavar="FILE", help="the configuration file instead of the usual spica.conf")
    commands = parser.add_subparsers(required=True, metavar="COMMAND", dest="command")
    for name, words in COMMANDS.items():
        command = commands.add_parser(name, help=words, description=words[0].upper() + words[1:] + ".")
        if only in (None, name):
            module = importlib.import_module(f"spicad.commands.{FILES.get(name, name)}")
            module.add_arguments(command)
            command.set_defaults(run=module.run)
    return parser

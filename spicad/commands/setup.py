"""`spica setup`: asks, or takes answers from a file, and sets Spica up on this machine. Harmless when repeated.

What is done for each answer stands in setting_up.py; how all of it is afterwards is told by the checks of doctor.
"""

from __future__ import annotations

import argparse
import getpass
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from spicad import config
from spicad.commands import DONE, FAILED
from spicad.commands.checks import DAEMON, WRONG
from spicad.commands.printing import complain
from spicad.commands.setting_up import ANSWERS, Plan, answers_from, carried_out, current
from spicad.words import BadInput, SpicaError

MARIADB_ONLY = ("database_server", "database_name", "database_root", "database_root_password_file")
SITE_ONLY = ("web_server", "site_user", "administrator", "administrator_mail", "administrator_password_file")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--answers", metavar="FILE", help="take the answers from a TOML file; what it leaves out stays as it is")
    add("--yes", action="store_true", help="ask nothing: take what is there, and the usual for the rest")
    add("--no-mail", action="store_true", help="send no mail to try the relay")


def run(arguments: argparse.Namespace) -> int:
    settings = config.load()
    usual = current(settings)
    if arguments.answers:
        answers = answers_from(Path(arguments.answers), usual)
    elif arguments.yes:
        answers = usual
    else:
        answers = _asked(usual)
    plan = Plan(settings, answers, _secret_of(answers, is_asking=not (arguments.answers or arguments.yes)))
    for words in carried_out(plan):
        print(words, flush=True)
    return _looked_over(answers, "" if arguments.no_mail else answers["administrator_mail"])


def _looked_over(answers: Mapping[str, Any], mail: str) -> int:
    """How it is now, and what is left to do by hand."""
    from spicad.commands.doctor import examined, show

    print("\nHow it is now:")
    wrong = 0
    for each in examined(config.load(), [DAEMON], mail):
        show(each)
        wrong += each.state == WRONG
    print("\nNext: start spicad (systemctl enable --now spicad, or: spicad start), then: spica doctor")
    return FAILED if wrong else DONE


# ---------------------------------------------------------------------- asking


def _asked(usual: Mapping[str, Any]) -> dict[str, Any]:
    if not sys.stdin.isatty():
        raise SpicaError(
            "there is no terminal to ask on. Give the answers with --answers FILE, or take the usual: --yes"
        )
    print("Enter takes what stands in brackets, - empties it. Lists are separated by spaces.\n")
    answers = dict(usual)
    for key in ANSWERS:
        if not _is_asked(key.name, answers):
            continue
        answers[key.name] = _answer(key.name, key.help, key.choices, answers)
    return answers


def _is_asked(name: str, answers: Mapping[str, Any]) -> bool:
    """What other answers have made idle is not, nor for a file with a password that can be typed."""
    if name in MARIADB_ONLY:
        return bool(answers["database"] == "mariadb")
    if name in SITE_ONLY:
        return bool(answers["address"]) and name != "administrator_password_file"
    return bool(answers["relay"]) if name == "relay_security" else True


def _answer(name: str, question: str, choices: tuple[Any, ...], answers: Mapping[str, Any]) -> Any:
    before = answers[name]
    is_list = isinstance(before, list)
    shown = " ".join(before) if is_list else before
    among = f" ({', '.join(filter(None, choices))})" if choices else ""
    while True:
        said = input(f"{question}{among} [{shown}]: ").strip()
        value: Any = before if not said else said.split() if is_list else "" if said == "-" else said
        try:
            answers_from({**answers, name: value}, answers)
            return value
        except BadInput as error:
            complain(error.problems[0].what)


def _secret_of(answers: Mapping[str, Any], is_asking: bool) -> str:
    """The first Administrator's password: from the file that is named, else typed, else '' for a new random one."""
    file = answers["administrator_password_file"]
    if file:
        path = Path(file)
        try:
            if path.stat().st_mode & 0o077:
                raise SpicaError(f"{path}: others may read this password. Run: chmod 600 {path}")
            return path.read_text(encoding="utf-8").rstrip("\n")
        except OSError as error:
            raise SpicaError(f"administrator_password_file {path}: {error.strerror}") from None
    if not is_asking or not answers["administrator"] or not answers["address"]:
        return ""
    password = getpass.getpass(f"Password of {answers['administrator']} (empty: one is made up and shown once): ")
    if password and getpass.getpass("The same once more: ") != password:
        raise SpicaError("the two passwords differ.")
    return password

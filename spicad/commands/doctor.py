"""`spica doctor`: looks at a living installation and says what is wrong, with the mend; also after upgrades.

What is looked at stands in checks.py. As root each part is looked at by a process of the user whose part it is.
"""

from __future__ import annotations

import argparse
import json
import os
import pwd
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from spicad import config
from spicad.commands import DONE, FAILED
from spicad.commands.checks import CHECKS, DAEMON, MACHINE, NOTE, SITE, WRONG, Finding, findings, mail_to
from spicad.commands.printing import GREEN, RED, YELLOW, print_json, printable, styled
from spicad.config import Settings

START = "import sys; from spicad.commands import main; sys.exit(main())"
COLOURS = {"ok": GREEN, "note": YELLOW, "wrong": RED}
PATIENCE_S = 120


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--part", choices=tuple(CHECKS), default="", help="this part alone, with the rights of whoever types it")
    add("--mail", metavar="ADDRESS", default="", help="send a mail there too")
    add("--json", action="store_true", help="for programs")


def run(arguments: argparse.Namespace) -> int:
    settings = config.load()
    parts = [arguments.part] if arguments.part else list(CHECKS)
    found = []
    for each in examined(settings, parts, arguments.mail, is_alone=bool(arguments.part)):
        found.append(each)
        if not arguments.json:
            show(each)
    wrong = sum(each.state == WRONG for each in found)
    if arguments.json:
        print_json([asdict(each) for each in found])
    else:
        print(f"{wrong} wrong." if wrong else "Nothing is wrong.")
    return FAILED if wrong else DONE


def show(found: Finding) -> None:
    state = styled(found.state.ljust(5), COLOURS[found.state])
    print(printable(f"{state}  {found.check}: {found.words}"), flush=True)
    if found.mend:
        print(printable(f"       {' ' * len(found.check)}  {found.mend}"), flush=True)


def examined(settings: Settings, parts: list[str], mail: str = "", is_alone: bool = False) -> Iterator[Finding]:
    """Each part with the rights of its user: by a process of that user where this one is root."""
    for part in parts:
        user = part_user(settings, part)
        if part == MACHINE or is_alone or user == os.geteuid():
            yield from findings(part, settings)
            if part == DAEMON and mail:
                yield from (Finding("mail", *each) for each in mail_to(settings, mail))
        elif os.geteuid() == 0:
            yield from _by(user, settings, part, mail)
        else:
            yield Finding(part, NOTE, f"only root and {_name(user)} can look at what the {part} may", "run it as root")


def part_user(settings: Settings, part: str) -> int:
    """Whose rights count for it. Raises SpicaError when spica.conf names nobody who exists."""
    from spicad.handover import site_uid
    from spicad.people import spica_uid

    if part == SITE and settings.web.user:
        return site_uid(settings)
    return spica_uid(settings)


def _by(user: int, settings: Settings, part: str, mail: str) -> Iterator[Finding]:
    """The findings of a process of that user; that there is none is a finding too."""
    words = ["--config", str(settings.source), "doctor", "--json", "--part", part]
    try:
        done = as_user(user, [*words, *(["--mail", mail] if mail and part == DAEMON else [])])
    except (OSError, subprocess.TimeoutExpired) as error:
        yield _not_run(user, settings, part, str(error))
        return
    try:
        yield from (Finding(**each) for each in json.loads(done.stdout))
    except ValueError:
        yield _not_run(user, settings, part, (done.stderr.strip().splitlines() or ["it says nothing"])[-1])


def _not_run(user: int, settings: Settings, part: str, said: str) -> Finding:
    mend = f"{_name(user)} must be able to read {settings.source} and {Path(__file__).parents[1]}"
    return Finding(part, WRONG, f"Spica cannot be run by {_name(user)}: {said}", mend)


def as_user(user: int, words: list[str], given: str = "") -> subprocess.CompletedProcess[str]:
    """`spica` with these arguments, run by another user; this process is root."""
    entry = pwd.getpwuid(user)
    package = Path(__file__).resolve().parents[2]
    return subprocess.run(
        [sys.executable, "-c", START, *words],
        user=user,
        group=entry.pw_gid,
        extra_groups=os.getgrouplist(entry.pw_name, entry.pw_gid),
        cwd="/",
        env={"PATH": os.environ.get("PATH", os.defpath), "HOME": entry.pw_dir, "PYTHONPATH": str(package)},
        input=given,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )


def _name(user: int) -> str:
    return pwd.getpwuid(user).pw_name

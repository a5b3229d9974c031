"""`spica transfer`: what is on its way, with progress; pause, resume, retry; fetching and exporting by hand.

Files are carried by snooppix, which the daemon runs; here rows are read and written.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from spicad import config
from spicad.archive.carrying import REMOTE
from spicad.archive.datatransfer import DONE as CARRIED
from spicad.archive.datatransfer import FAILED as GIVEN_UP
from spicad.archive.datatransfer import MOVING, OPEN, PAUSED, WAITING, ask_export, pause_file
from spicad.archive.sources import Offer, ask_for, is_source, is_wanted
from spicad.commands import DONE, FAILED, NothingFound
from spicad.commands.capsules import RunFolder, run_folder
from spicad.commands.printing import clipped, columns, has_colours, iso, print_json, print_table, took
from spicad.commands.results import manifest_of
from spicad.commands.tables import change_tables, open_tables, processid, row_of
from spicad.commands.watching import LOOK_S, bar
from spicad.config import Settings
from spicad.fits import science_digest
from spicad.report import size
from spicad.tables import Process, Transfer
from spicad.words import BadInput, Problem, SpicaError

ACTIONS = {
    "list": "list what is on its way, what pauses and what failed (also without an action)",
    "pause": "let these transfers rest until they are resumed; all, and all to come, when none is named",
    "resume": "let paused transfers go on",
    "retry": "try failed transfers again, and those that pause without waiting",
    "fetch": "bring a file into the first landing folder, from HOST:/PATH or an http(s) address",
    "export": "send the products of a process to the place of [storage] export, with their checksums",
}
LISTED_DONE = 50
AS_DAEMON = "Run this as the user of spicad."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    _add_list_options(parser)
    actions = parser.add_subparsers(metavar="ACTION", dest="action")
    for name, words in ACTIONS.items():
        action = actions.add_parser(name, help=words, description=words)
        if name == "list":
            _add_list_options(action)
        elif name == "fetch":
            action.add_argument("source", nargs="+", metavar="SOURCE")
        elif name == "export":
            action.add_argument("process", metavar="PROCESSID")
            action.add_argument("--run", dest="of_run", type=int, metavar="N", help="an earlier run")
        else:
            action.add_argument("number", nargs="*" if name != "retry" else "+", metavar="NUMBER")


def _add_list_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--all", action="store_true", default=argparse.SUPPRESS, help="also what is done")
    parser.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help="for programs")
    parser.add_argument("--watch", action="store_true", default=argparse.SUPPRESS, help="until nothing moves any more")


def run(arguments: argparse.Namespace) -> int:
    settings = config.load()
    match arguments.action:
        case "pause" | "resume" | "retry":
            return _steer(settings, arguments.action, arguments.number)
        case "fetch":
            return _fetch(settings, arguments.source)
        case "export":
            return _export(settings, arguments)
    if getattr(arguments, "watch", False):
        return _watch(settings)
    return _list(settings, getattr(arguments, "all", False), getattr(arguments, "json", False))


# Listing


def _rows(is_all: bool) -> list[Transfer]:
    rows = list(Transfer.select().where(Transfer.state.in_((*OPEN, GIVEN_UP))).order_by(Transfer.id))
    if is_all:
        ended = Transfer.select().where(Transfer.state == CARRIED).order_by(Transfer.id.desc()).limit(LISTED_DONE)
        rows = sorted([*rows, *ended], key=lambda row: row.id)
    return rows


def _list(settings: Settings, is_all: bool, is_json: bool) -> int:
    with open_tables(settings):
        rows = _rows(is_all)
    if is_json:
        print_json([as_record(row) for row in rows])
    elif rows:
        head = ("transfer", "state", "progress", "size", "file", "to", "why")
        print_table([_cells(row) for row in rows], head, right=("transfer", "size"))
    stopped = _all_paused(settings)
    if stopped and not is_json:
        print(f"Nothing is started: {stopped} To go on: spica transfer resume")
    if not rows:
        raise NothingFound("nothing is on its way.")
    return DONE


def _all_paused(settings: Settings) -> str:
    try:
        return pause_file(settings).read_text().strip()
    except OSError:
        return ""


def as_record(row: Transfer) -> dict[str, Any]:
    return {
        "transfer": row.id,
        "kind": row.kind,
        "state": row.state,
        "file": row.name,
        "source": row.source,
        "target": row.target,
        "node": row.node,
        "bytes": row.bytes,
        "bytes_done": row.bytes_done,
        "why": row.why,
        "is_paused_by_hand": bool(row.is_by_hand),
        "asked": iso(row.asked),
        "started": iso(row.started),
        "ended": iso(row.ended),
        "sha256": row.sha256,
    }


def _cells(row: Transfer) -> list[str]:
    return [
        str(row.id),
        row.state,
        bar(row.bytes_done, row.bytes),
        size(row.bytes) if row.bytes else "?",
        row.name,
        row.target or row.batch,
        _why(row),
    ]


def _why(row: Transfer) -> str:
    if row.state == PAUSED and not row.is_by_hand and row.not_before > time.time():
        why = row.why.rstrip(".")
        return f"{why}. Tried again in {took(row.not_before - time.time())}."
    return str(row.why)


# Watching


def _watch(settings: Settings) -> int:
    """Bars that grow on a terminal, a line for each change elsewhere. Ends when nothing is on its way."""
    is_drawn = sys.stdout.isatty() and has_colours()
    known: dict[int, str] = {}
    drawn = 0
    while True:
        with open_tables(settings):
            rows = list(Transfer.select().where(Transfer.state.in_(OPEN)).order_by(Transfer.id))
            numbers = [number for number in known if number not in {row.id for row in rows}]
            ended = list(Transfer.select().where(Transfer.id.in_(numbers)))
        if drawn:
            print(f"\x1b[{drawn}F\x1b[J", end="")
        for row in [*ended, *rows]:
            words = f"{row.state}: {row.why}" if row.why else str(row.state)
            if known.get(row.id) != words and (row in ended or not is_drawn):
                print(clipped(f"{row.id} {row.name} {words}", 4 * columns()), flush=True)
            known[row.id] = words
        for row in ended:
            del known[row.id]
        drawn = _draw(rows) if is_drawn else 0
        if not rows:
            return DONE if not any(row.state == GIVEN_UP for row in ended) else FAILED
        time.sleep(LOOK_S)


def _draw(rows: list[Transfer]) -> int:
    moving = [row for row in rows if row.state == MOVING]
    lines = [clipped(f"{bar(row.bytes_done, row.bytes)} {_speed(row)}  {row.name}", columns() - 1) for row in moving]
    rest = len(rows) - len(moving)
    lines.append(f"{rest} wait or pause" if rest else "")
    print("\n".join(lines), flush=True)
    return len(lines)


def _speed(row: Transfer) -> str:
    seconds = max(time.time() - (row.started or time.time()), 0.1)
    return f"{size(row.bytes_done)} of {size(row.bytes)}, {size(round(row.bytes_done / seconds))}/s"


# Steering


def _steer(settings: Settings, action: str, words: list[str]) -> int:
    with change_tables(settings, AS_DAEMON):
        numbers = [_number(word) for word in words]
        for number in numbers:
            if Transfer.get_or_none(Transfer.id == number) is None:
                raise NothingFound(f"there is no transfer {number}. See: spica transfer")
        if action == "pause" and not numbers:
            pause_file(settings).write_text(f"all transfers were paused by {_who()}.\n")
        elif action == "pause":
            _pause(numbers)
        elif action == "resume":
            if not numbers:
                pause_file(settings).unlink(missing_ok=True)
            _resume(numbers)
        else:
            _retry(numbers)
    return DONE


def _number(word: str) -> int:
    if not word.isdecimal() or not 0 < int(word) < 2**63:
        raise BadInput(Problem("spica", f"{word!r} is no transfer's number.", "See: spica transfer"))
    return int(word)


def _who() -> str:
    import pwd

    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return f"uid {os.getuid()}"


def _pause(numbers: list[int]) -> None:
    """One that moves is stopped at its next piece; what was carried stays."""
    is_meant = Transfer.id.in_(numbers) & Transfer.state.in_(OPEN)
    Transfer.update(is_by_hand=True, why=f"paused by {_who()}.").where(is_meant).execute()
    Transfer.update(state=PAUSED).where(is_meant & (Transfer.state != MOVING)).execute()


def _resume(numbers: list[int]) -> None:
    is_meant = Transfer.is_by_hand if not numbers else Transfer.id.in_(numbers)
    changes: dict[str, Any] = {"is_by_hand": False, "why": "", "not_before": 0}
    Transfer.update(**changes).where(is_meant & Transfer.state.in_(OPEN)).execute()


def _retry(numbers: list[int]) -> None:
    changes: dict[str, Any] = {"is_by_hand": False, "why": "", "not_before": 0, "attempts": 0, "ended": None}
    is_meant = Transfer.id.in_(numbers)
    Transfer.update(**changes).where(is_meant & Transfer.state.in_(OPEN)).execute()
    for row in Transfer.select().where(is_meant & (Transfer.state == GIVEN_UP)):
        if row.kind == "store":
            raise SpicaError(f"{row.name} was refused when transfer {row.id} failed. Run: snooppix --retry {row.name}")
        Transfer.update(state=WAITING, bytes_done=0, **changes).where(Transfer.id == row.id).execute()


# Asking


def _fetch(settings: Settings, sources: list[str]) -> int:
    if not settings.landing.folders:
        raise SpicaError(f"{settings.source}: no folders in [landing]: there is no place to fetch to.")
    wrong = [each for each in sources if not is_source(each) or not is_wanted(_name_of(each))]
    if wrong:
        mend = "Write HOST:/PATH/NAME or an http or https address that ends in the file's name."
        raise BadInput(Problem("spica", f"{each!r} names no file of a source.", mend) for each in wrong)
    with change_tables(settings, AS_DAEMON):
        for source in sources:
            offer = Offer(_name_of(source), source, f"by hand {time.time()}")
            print(f"transfer {ask_for(offer, 'by hand', settings)}")
    return DONE


def _name_of(source: str) -> str:
    remote = REMOTE.fullmatch(source)
    return os.path.basename(remote["path"] if remote else unquote(urlsplit(source).path))


def _export(settings: Settings, arguments: argparse.Namespace) -> int:
    process = processid(arguments.process)
    place = settings.storage.export
    if not place:
        raise SpicaError("there is no place to export to. Set export in [storage] of spica.conf.")
    if not REMOTE.fullmatch(place) and not place.startswith("/"):
        raise BadInput(
            Problem(str(settings.source), f"[storage] export: {place!r} is no place.", "Write /FOLDER or HOST:/FOLDER.")
        )
    with change_tables(settings, AS_DAEMON):
        row = row_of(process)
        capsule = run_folder(row, arguments.of_run)
        products = _verified(capsule, process)
        target = f"{place.rstrip('/')}/{_folder_of(row, capsule)}"
        batch = f"export {process} run {capsule.number}"
        numbers = [ask_export(batch, capsule.products / name, target) for name in products]
    print(f"transfers {numbers[0]}-{numbers[-1]}: {len(numbers)} products go to {target}")
    return DONE


def _verified(capsule: RunFolder, process: int) -> list[str]:
    """The products' names; only what is still as it was verified goes out."""
    products = manifest_of(capsule)
    if not products:
        raise NothingFound(f"run {capsule.number} of process {process} has no products.")
    for name, (_, digest) in products.items():
        path = capsule.products / name
        if not path.is_file():
            raise SpicaError(f"{path} is not there any more. Run it again: spica rerun {process}")
        if science_digest(path) != digest:
            raise SpicaError(f"{path} is not what it was when it was made. Run it again: spica rerun {process}")
    return sorted(products)


def _folder_of(row: Process, capsule: RunFolder) -> str:
    return str(Path(capsule.folder.parent.name) / capsule.folder.name)

"""`spica grade`: grades of exposures given, shown, listed, counted, written as CSV and read back.

What a grade means and which one counts is archive/grades.py's; the list as CSV is archive/grade_lists.py's.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from spicad import config, people
from spicad.archive import grade_lists, grades, judgements, search, selections
from spicad.archive.grades import Among
from spicad.archive.quality import COMMENTS
from spicad.commands import DONE, NOTHING, NothingFound
from spicad.commands.dropping import drop, wait_until_taken
from spicad.commands.printing import clock, complain, how_many, iso, print_json, print_table
from spicad.commands.tables import change_tables, may_change, open_tables
from spicad.config import Settings
from spicad.jobfile import MOST_BYTES
from spicad.people import Person
from spicad.rules import GRADES
from spicad.schema import as_toml
from spicad.tables import Exposure
from spicad.words import SpicaError

USUAL_LIMIT = 50


def add_arguments(parser: argparse.ArgumentParser) -> None:
    verbs = parser.add_subparsers(required=True, metavar="VERB", dest="verb")
    give = verbs.add_parser("give", help="grade exposures")
    give.add_argument("grade", choices=GRADES, help="A to D")
    _add_saying(give)
    _add_saying(verbs.add_parser("take-back", help="take your grade of exposures back"))
    show = verbs.add_parser("show", help="show the grades of an exposure, with their history")
    show.add_argument("exposure", help="its name")
    show.add_argument("--json", action="store_true", help="for programs")
    listing = verbs.add_parser("list", help="list exposures that wait for a grade")
    _add_which(listing)
    listing.add_argument("--state", choices=grades.STATES, default="ungraded", help="which ones (%(default)s)")
    listing.add_argument("--all", action="store_true", help="also those that no application has judged yet")
    listing.add_argument("--limit", metavar="N", type=how_many, default=USUAL_LIMIT, help="at most so many; 0: all")
    listing.add_argument("--json", action="store_true", help="for programs")
    counts = verbs.add_parser("counts", help="count grades by run and filter")
    _add_which(counts)
    counts.add_argument("--json", action="store_true", help="for programs")
    export = verbs.add_parser("export", help="write the grades that persons gave as CSV")
    _add_which(export)
    export.add_argument("--history", action="store_true", help="all that was ever said, not only what counts")
    bring = verbs.add_parser("import", help="read grades from CSV: all of the list, or nothing")
    bring.add_argument("file", help="as export writes it; -: standard input")


def _add_saying(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("exposure", nargs="+", help="names of exposures, or of their files")
    comment = f"one of the usual ones, or its beginning: {'; '.join(COMMENTS)}"
    parser.add_argument("--comment", metavar="COMMENT", action="append", default=[], help=comment)
    parser.add_argument("--words", metavar="TEXT", default="", help="anything else")


def _add_which(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--runid", metavar="RUN", default="", help="only of this run")
    parser.add_argument("--filter", metavar="FILTER", default="", help="only of this filter")


def run(arguments: argparse.Namespace) -> int:
    settings = config.load()
    actor = people.person(os.getuid(), settings)
    changes = {"give": _give, "take-back": _give, "import": _import}
    looks = {"show": _show, "list": _list, "counts": _counts, "export": _export}
    if arguments.verb in changes:
        with (change_tables if may_change(settings) else open_tables)(settings):
            return changes[arguments.verb](arguments, actor, settings)
    with open_tables(settings):
        return looks[arguments.verb](arguments)


def _give(arguments: argparse.Namespace, actor: Person, settings: Settings) -> int:
    numbers = _numbers(arguments.exposure)
    grade = getattr(arguments, "grade", "")
    what = f"graded {grade}" if grade else "without a grade of yours"
    if may_change(settings):
        changed = grades.give(actor, numbers, grade, arguments.comment, arguments.words)
        complain(f"{len(numbers)} exposures are {what} now; {changed} were not before.")
        return DONE
    given = grades.checked(actor.user, 0.0, grade, arguments.comment, arguments.words)
    more: dict[str, Any] = {"grade": grade, "comments": list(given.comments), "why": given.words}
    for start in range(0, len(numbers), grades.MOST_IN_AN_ORDER):
        exposures = selections.as_ranges(numbers[start : start + grades.MOST_IN_AN_ORDER])
        _order(settings, "grade" if grade else "take-grade-back", exposures=exposures, **more)
    complain(f"{len(numbers)} exposures are {what} now.")
    return DONE


def _order(settings: Settings, order: str, **values: Any) -> None:
    """By the daemon, for those who may not write to the database. Raises SpicaError."""
    lines = [f"{key} = {as_toml(each)}" for key, each in {"order": order, **values}.items() if each]
    text = "\n".join([*lines, "[end]", ""])
    if len(text) > MOST_BYTES:
        raise SpicaError("so long a list can only be taken in by who may write to the database. Split it.")
    wait_until_taken(settings, drop(settings, order, text))


def _numbers(words: Sequence[str]) -> list[int]:
    named = search.named(words)
    if named.missing:
        raise NothingFound(f"there is no exposure {', '.join(named.missing)}. See: spica find --name")
    return list(named.numbers)


def _show(arguments: argparse.Namespace) -> int:
    numbers = _numbers([arguments.exposure])
    records = [_record(number) for number in numbers]
    if arguments.json:
        print_json(records if len(records) > 1 else records[0])
        return DONE
    for record in records:
        by = f" by {record['graded_by']}" if record["graded_by"] else ", proposed" if record["grade"] else ""
        print(f"{record['name']}: {record['grade'] or 'no grade'}{by}")
        if record["proposed"]:
            print(f"proposed: {record['proposed']}. {' '.join(record['reasons'])}")
        if record["history"]:
            rows = [
                [clock(each.time), each.who, each.grade or "(taken back)", each.said]
                for each in grades.history(record["number"])
            ]
            print_table(rows, ("time", "grader", "grade", "said"))
    return DONE


def _record(number: int) -> dict[str, Any]:
    row = Exposure.get_by_id(number)
    judged = judgements.judgement_of(number)
    return {
        "number": number,
        "name": row.name,
        "path": row.path,
        "grade": row.grade,
        "graded_by": row.graded_by,
        "proposed": judged.grade if judged else "",
        "reasons": [reason.words for reason in judged.reasons] if judged else [],
        "history": [
            {"grader": each.who, "time": iso(each.time), "grade": each.grade, "comments": each.comments,
             "words": each.words}
            for each in grades.history(number)
        ],
    }  # fmt: skip


def _list(arguments: argparse.Namespace) -> int:
    among = Among(arguments.runid, arguments.filter, arguments.state, not arguments.all)
    query = among.exposures().order_by(among.number)
    rows = list((query.limit(arguments.limit) if arguments.limit else query).dicts())
    if arguments.json:
        names = ("name", "path", "runid", "filter", "seeing", "grade", "graded_by")
        print_json([{name: row[name] for name in names} for row in rows])
    elif rows:
        cells = [
            [row["name"], row["runid"], row["filter"], "-" if row["seeing"] is None else f"{row['seeing']:.2f}",
             row["grade"] or "-", row["graded_by"] or ("(proposed)" if row["grade"] else "-")]
            for row in rows
        ]  # fmt: skip
        print_table(cells, ("name", "runid", "filter", "seeing", "grade", "by"), right=("seeing",))
        if len(rows) == arguments.limit and (total := grades.how_many(among)) > len(rows):
            complain(f"{len(rows)} of {total}; more with --limit N, all with --limit 0.")
    else:
        complain("there is no such exposure.")
    return DONE if rows else NOTHING


def _counts(arguments: argparse.Namespace) -> int:
    found = grades.tallies(arguments.runid, arguments.filter)
    if arguments.json:
        print_json([vars(each) | {"total": each.total} for each in found])
    elif found:
        head = ("runid", "filter", *GRADES, *(f"({each})" for each in GRADES), "none", "exposures")
        cells = [
            [each.runid or "-", each.filter or "-", *(_count(each.graded, grade) for grade in GRADES),
             *(_count(each.proposed, grade) for grade in GRADES), str(each.without), str(each.total)]
            for each in found
        ]  # fmt: skip
        print_table(cells, head, right=head[2:])
        complain("letters: graded by persons; in brackets: proposed, and nobody has looked yet.")
    else:
        complain("there is no exposure yet.")
    return DONE if found else NOTHING


def _count(counts: dict[str, int], grade: str) -> str:
    return str(counts.get(grade, "-"))


def _export(arguments: argparse.Namespace) -> int:
    numbers = grades.graded(arguments.runid, arguments.filter)
    sys.stdout.writelines(grade_lists.as_csv(numbers, arguments.history))
    return DONE if numbers else NOTHING


def _import(arguments: argparse.Namespace, actor: Person, settings: Settings) -> int:
    try:
        data = sys.stdin.buffer.read() if arguments.file == "-" else Path(arguments.file).read_bytes()
        text = data.decode("utf-8")
    except OSError as error:
        raise SpicaError(f"{arguments.file}: cannot be read: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise SpicaError(f"{arguments.file}: this is no UTF-8 text. Save it as CSV, UTF-8.") from None
    if not may_change(settings):
        _order(settings, "take-grades", list=text)
        complain(f"{arguments.file}: taken.")
        return DONE
    taken = grade_lists.take(actor, text, arguments.file, time.time())
    complain(f"{taken.new} grades taken; {taken.known} were known.")
    return DONE

"""`spica find`: searches the archive by place, columns, tags, names and selections, and writes what it finds.

The search is archive/search.py's, the formats are archive/formats.py's; this reads what was typed.
"""

from __future__ import annotations

import argparse
import math
import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import Any

from spicad import config, people
from spicad.archive import coordinates, formats, moc, search, selections
from spicad.archive.instruments import MASTERS
from spicad.archive.search import (
    FACETS,
    KINDS,
    SORTS,
    USUAL_FACETS,
    Found,
    OfObject,
    Place,
    Range,
    Wanted,
    ingredients_of,
)
from spicad.archive.skymap import skymap
from spicad.commands import DONE, NOTHING
from spicad.commands.printing import complain, how_many, print_json, print_table
from spicad.commands.selections import put_tag, save, take_tag
from spicad.commands.tables import change_tables, may_change, open_tables
from spicad.config import Settings
from spicad.people import Person
from spicad.rules import GRADES
from spicad.words import BadInput, Problem, SpicaError

USUAL_LIMIT = 50
HEAD = ("name", "instrument", "filter", "object", "runid", "start", "s", "airmass", "seeing", "grade", "ra", "dec")
NUMBERS = ("s", "airmass", "seeing", "ra", "dec")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    _add_places(parser)
    _add_columns(parser)
    add = parser.add_argument
    add("--sort", metavar="COLUMN", default="mjd", help=f"by one of {', '.join(SORTS)}")
    add("--reverse", action="store_true", help="with the greatest first")
    add("--limit", metavar="N", type=how_many, help=f"at most so many (tables and JSON: {USUAL_LIMIT}); 0: all")
    add("--offset", metavar="N", type=how_many, default=0, help="without the first so many")
    how = parser.add_mutually_exclusive_group()
    for name, words in (
        ("json", "for programs; --facets too"),
        ("csv", "comma-separated values"),
        ("votable", "a VOTable, for TOPCAT and the like"),
        ("ds9", "a region file of the footprints"),
        ("moc", "the part of the sky that is covered, as a MOC in JSON"),
        ("moc-ascii", "the same as a MOC string"),
        ("svg", "a map of the footprints"),
        ("paths", "paths alone, one a line"),
        ("count", "how many there are"),
    ):
        how.add_argument(f"--{name}", action="store_true", help=words)
    add(
        "--facets", metavar="COLUMNS", nargs="?", const=",".join(USUAL_FACETS),
        help=f"how many there are of each value, of {', '.join(FACETS)} (%(const)s)",
    )  # fmt: skip
    add("--save", metavar="NAME", help="save what is found as a selection of yours")
    add("--share", action="store_true", help="with --save: your group may use the selection")
    add("--replace", action="store_true", help="with --save: instead of the selection of that name")
    add("--put-tag", metavar="TAG", help="put a tag on what is found")
    add("--take-tag", metavar="TAG", help="take a tag of yours away from what is found")


def _add_places(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("place", nargs="*", help="a position in degrees or sexagesimal, or the name of an object of the archive")
    add(
        "--radius",
        metavar="SIZE",
        default="0",
        help="round the place: 1.5 (degrees), 30' or 20\"; 0: what covers it, or is of the object",
    )
    add("--box", metavar=("WEST", "EAST", "SOUTH", "NORTH"), nargs=4, help="between these, degrees, east being upwards")
    add("--overlaps", metavar="NAME", help="what overlaps the exposure of this name")


def _add_columns(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    for name in ("instrument", "filter", "runid", "object", "name"):
        what = "file name" if name == "name" else name
        add(
            f"--{name}",
            metavar="WORDS",
            action="append",
            default=[],
            help=f"only this {what}; * stands for any letters",
        )
    add("--kind", metavar="KIND", action="append", default=[], help=f"any, {', '.join(KINDS)} (science)")
    add("--made-of", metavar="NAME", default="", help="only the master frames that hold this frame")
    add("--tag", metavar="TAG", action="append", default=[], help="only what has this tag")
    add("--selection", metavar="NAME", action="append", default=[], help="only what is in this selection")
    add(
        "--names",
        metavar="FILE",
        help="only the exposures named in this list; what is not found is said; -: standard input",
    )
    add("--after", metavar="DATE", help="only what began at this date, time (UTC) or Julian date, or later")
    add("--before", metavar="DATE", help="only what began at it or earlier; a date: until its end")
    for name in ("exptime", "airmass", "seeing"):
        add(f"--{name}", metavar="FROM:TO", help="only between these; either may be left out")
    add("--grade", metavar="GRADE", choices=GRADES, help="only of this grade or better")
    add("--ungraded", action="store_true", help="with --grade: also what has none")
    add(
        "--where", metavar="CONDITION", default="", help="only where this holds, such as: seeing < 0.9 and grade <= 'B'"
    )


def run(arguments: argparse.Namespace) -> int:
    _require_one_form(arguments)
    settings = config.load()
    actor = people.person(os.getuid(), settings)
    changes = arguments.save or arguments.put_tag or arguments.take_tag
    with (change_tables if changes and may_change(settings) else open_tables)(settings):
        found = Found(_wanted(arguments, actor))
        count = found.count() if changes or not _writes(arguments) else None
        if changes and count:
            found = _change(arguments, settings, actor, found)
        status = _print(arguments, found)
    return NOTHING if count == 0 else status


def _writes(arguments: argparse.Namespace) -> bool:
    return any((arguments.csv, arguments.votable, arguments.ds9, arguments.moc, arguments.moc_ascii, arguments.paths))


def _wanted(arguments: argparse.Namespace, actor: Person) -> Wanted:
    kinds = tuple(arguments.kind) or (MASTERS if arguments.made_of else ("science",))
    for kind in kinds:
        if kind not in (*KINDS, "any"):
            raise BadInput(Problem("--kind", f"there is no kind {kind!r}.", f"Known: any, {', '.join(KINDS)}."))
    return Wanted(
        place=_place(arguments),
        kinds=() if "any" in kinds else kinds,
        instruments=tuple(arguments.instrument),
        filters=tuple(arguments.filter),
        runids=tuple(arguments.runid),
        objects=tuple(arguments.object),
        names=tuple(arguments.name),
        tags=tuple(arguments.tag),
        selections=tuple(int(selections.find(actor, name).id) for name in arguments.selection),
        exposures=_listed(arguments.names) if arguments.names else None,
        mjd=Range(_mjd("--after", arguments.after), _mjd("--before", arguments.before, is_end=True)),
        t_exptime=_range("--exptime", arguments.exptime),
        airmass=_range("--airmass", arguments.airmass),
        seeing=_range("--seeing", arguments.seeing),
        grade=arguments.grade or "",
        is_ungraded_taken=arguments.ungraded,
        condition=arguments.where,
        made_of=arguments.made_of,
    )


def _require_one_form(arguments: argparse.Namespace) -> None:
    if arguments.facets and (_writes(arguments) or arguments.svg or arguments.count):
        raise BadInput(Problem("--facets", "these are counts, not exposures.", "Only --json goes with --facets."))


def _place(arguments: argparse.Namespace) -> Place | OfObject | None:
    words = " ".join(arguments.place)
    if sum((bool(words), bool(arguments.box), bool(arguments.overlaps))) > 1:
        raise BadInput(Problem("spica find", "more than one place is given.", "Give a position, --box or --overlaps."))
    if not words and arguments.radius != "0":
        raise BadInput(Problem("--radius", "there is no place to look round.", "Give a position or an object."))
    if arguments.box:
        return search.box(arguments.box)
    if arguments.overlaps:
        return search.overlapping(arguments.overlaps)
    return search.place(words, arguments.radius) if words else None


def _listed(file: str) -> tuple[int, ...]:
    try:
        text = sys.stdin.read() if file == "-" else Path(file).read_text(encoding="utf-8")
    except OSError as error:
        raise SpicaError(f"{file}: cannot be read: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise SpicaError(f"{file}: this is no UTF-8 text.") from None
    named = search.named(search.words_of(text))
    for word in named.missing:
        complain(f"not found: {word}")
    if named.missing:
        complain(f"{len(named.missing)} of {len(named.missing) + len(named.found)} names were not found.")
    return named.numbers


def _mjd(option: str, text: str | None, is_end: bool = False) -> float | None:
    try:
        return None if text is None else coordinates.mjd(text, is_end)
    except ValueError as error:
        raise BadInput(Problem(option, str(error))) from None


def _range(option: str, text: str | None) -> Range:
    if not text:
        return Range()
    least, colon, most = text.partition(":")
    mend = "Write 0.5:0.9, :0.9 or 0.5: (both ends are taken)."
    try:
        ends = [float(end) if end else None for end in (least, most if colon else least)]
    except ValueError:
        raise BadInput(Problem(option, f"{text!r} is no range.", mend)) from None
    low, high = ends
    if any(end is not None and not math.isfinite(end) for end in ends):
        raise BadInput(Problem(option, f"{text!r} is no range.", mend))
    if low is not None and high is not None and low > high:
        raise BadInput(Problem(option, f"{text!r} begins above its end.", f"Write {most}:{least}."))
    return Range(low, high)


def _change(arguments: argparse.Namespace, settings: Settings, actor: Person, found: Found) -> Found:
    """What was found, whatever its tags are now."""
    numbers = found.numbers()
    if arguments.save:
        save(settings, actor, arguments.save, numbers, _typed(arguments), arguments.share, arguments.replace)
        complain(f"saved as the selection {arguments.save}: {len(numbers)} exposures.")
    if arguments.put_tag:
        complain(put_tag(settings, actor, arguments.put_tag, numbers))
    if arguments.take_tag:
        complain(take_tag(settings, actor, arguments.take_tag, numbers))
    return Found(Wanted(kinds=(), exposures=tuple(numbers)))


def _typed(arguments: argparse.Namespace) -> str:
    return " ".join(sys.argv[1:])[:200] if arguments.save else ""


def _print(arguments: argparse.Namespace, found: Found) -> int:
    if arguments.count:
        print(found.count())
        return DONE
    if arguments.facets:
        facets = found.facets(arguments.facets.split(","))
        (print_json if arguments.json else _print_facets)(facets)
        return DONE
    usual = 0 if _writes(arguments) or arguments.svg else USUAL_LIMIT
    limit = usual if arguments.limit is None else arguments.limit
    coming = found.rows("-" * arguments.reverse + arguments.sort, limit, arguments.offset)
    first = list(islice(coming, 1))
    writers: dict[str, Callable[[Iterable[formats.Row]], Iterable[str]]] = {
        "csv": formats.as_csv,
        "votable": formats.as_votable,
        "ds9": formats.as_ds9,
        "moc": lambda rows: [moc.as_json(formats.coverage(rows)) + "\n"],
        "moc_ascii": lambda rows: [moc.as_ascii(formats.coverage(rows)) + "\n"],
        "svg": lambda rows: [skymap(list(rows), " ".join(arguments.place))],
        "paths": lambda rows: (f"{row['path']}\n" for row in rows),
    }
    for name, lines in writers.items():
        if getattr(arguments, name):
            sys.stdout.writelines(lines(chain(first, coming)))
            return DONE if first else NOTHING
    rows = [*first, *coming]
    if arguments.json:
        numbers = [row["id"] for row in rows]
        tags, made_of = selections.tags_of(numbers), ingredients_of(numbers)
        told = [{**formats.as_record(row), "tags": tags.get(row["id"], [])} for row in rows]
        for row, record in zip(rows, told, strict=True):
            record |= {"ingredients": made_of[row["id"]]} if row["id"] in made_of else {}
        print_json(told)
    elif rows:
        _print_rows(rows)
        if len(rows) == limit and found.count() > limit + arguments.offset:
            complain(f"{len(rows)} of {found.count()}; more with --limit N, all with --limit 0.")
    else:
        complain("there is no such exposure.")
    return DONE if rows else NOTHING


def _print_rows(rows: Sequence[Mapping[str, Any]]) -> None:
    cells = []
    for row in rows:
        words = [row[name] for name in ("name", "instrument_name", "filter", "target_name", "runid")]
        measured = [("t_exptime", ".6g"), ("airmass", ".2f"), ("seeing", ".2f")]
        figures = [_shown(row[name], form) for name, form in measured]
        place = [_shown(row["s_ra"], ".4f"), _shown(row["s_dec"], "+.4f")]
        cells.append([*words, coordinates.moment(row["t_min"]), *figures, row["grade"] or "-", *place])
    print_table(cells, HEAD, right=NUMBERS)


def _shown(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def _print_facets(facets: Mapping[str, Mapping[str, int]]) -> None:
    lines = [[name, value or "(none)", str(count)] for name, each in facets.items() for value, count in each.items()]
    print_table(lines, ("column", "value", "exposures"), right=("exposures",))

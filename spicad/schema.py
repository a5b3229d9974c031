"""Reads TOML that people write against a table of keys: line numbers, nearest spellings, all problems at once.

spica.conf, job files, rules and application descriptors are all read through here. What the keys mean is
the affair of the module that lists them; `KEYS` tables are also what the manual and the samples are checked against.
"""

from __future__ import annotations

import math
import re
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, time
from functools import cached_property
from typing import Any

from spicad.words import BadInput, Problem, nearest

REQUIRED = object()

KINDS: dict[str, Callable[[Any], bool]] = {
    "text": lambda v: isinstance(v, str),
    "number": lambda v: (isinstance(v, int) and not isinstance(v, bool)) or (isinstance(v, float) and math.isfinite(v)),
    "integer": lambda v: isinstance(v, int) and not isinstance(v, bool),
    "yes or no": lambda v: isinstance(v, bool),
    "list of texts": lambda v: isinstance(v, list) and all(isinstance(item, str) for item in v),
    "list of numbers": lambda v: isinstance(v, list) and all(KINDS["number"](item) for item in v),
    "text or list of texts": lambda v: isinstance(v, str) or KINDS["list of texts"](v),
    "date and time": lambda v: isinstance(v, date),  # a datetime is one too, a time of day is not
    "table": lambda v: isinstance(v, dict),
    "table of texts": lambda v: isinstance(v, dict) and all(isinstance(item, str) for item in v.values()),
    "table of tables": lambda v: isinstance(v, dict) and all(isinstance(item, dict) for item in v.values()),
    "list of tables": lambda v: isinstance(v, list) and all(isinstance(item, dict) for item in v),
}
IN_WORDS = {
    "yes or no": "true or false",
    "integer": "a whole number",
    "date and time": "a date, with or without a time",
}
MOST_TOLD = 20  # unknown keys
MOST_PARTS = 100  # of a dotted key
BYTE_ORDER_MARK = "\ufeff"  # Windows' Notepad writes it; str.isprintable and tomllib do not take it
TO_ESCAPE = re.compile(r"[^ !#-\[\]-~]+")
LARGEST = 1 << 53  # what every float, database column and system call on the way can hold


@dataclass(frozen=True)
class Key:
    """One key that a person may write. `kind` is one of KINDS; `default` REQUIRED means that it must be there."""

    name: str
    kind: str
    default: Any
    help: str
    choices: tuple[Any, ...] = ()
    minimum: float | None = None
    maximum: float | None = None


@dataclass(frozen=True)
class Document:
    """A parsed TOML text that still knows its name and its lines."""

    source: str
    text: str
    table: dict[str, Any] = field(repr=False)

    def line_of(self, *path: str | int) -> int | None:
        """The line (from 1) where `path`, or what holds it, is written; an int picks one of an array of tables."""
        wanted = tuple(map(str, path))
        depths = range(len(wanted), 0, -1)
        return next((self._lines[wanted[:depth]] for depth in depths if wanted[:depth] in self._lines), None)

    def line_of_keyword(self, *path: str | int) -> int | None:
        """The same, however the last part is spelt: the tools' keywords may be written in small letters too."""
        wanted = tuple(map(str, path))
        for found, line in self._lines.items():
            if found[:-1] == wanted[:-1] and found[-1].upper() == wanted[-1].upper():
                return line
        return self.line_of(*path[:-1])

    @cached_property
    def _lines(self) -> dict[tuple[str, ...], int]:
        return _lines(self.text)

    def problem(self, path: Sequence[str | int], what: str, mend: str = "") -> Problem:
        return Problem(self.source, what, mend, self.line_of(*path))


def read_toml(text: str, source: str) -> Document:
    """Raises BadInput that names the line when `text` is not TOML."""
    if text.startswith(BYTE_ORDER_MARK):
        mend = 'Save it as "UTF-8", not as "UTF-8 with BOM".'
        raise BadInput(Problem(source, "the file begins with a byte order mark, which is no TOML.", mend, 1))
    if _has_endless_key(text):
        raise BadInput(Problem(source, "this is not TOML that a person wrote: a key has too many parts."))
    try:
        return Document(source, text, tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        at = re.search(r"\(at line (\d+), column (\d+)\)", str(error))
        line = int(at[1]) if at else len(text.splitlines())
        raise BadInput(Problem(source, *_why_no_toml(str(error), text.split("\n")[line - 1]), line)) from None
    except RecursionError:
        raise BadInput(Problem(source, "this is not TOML that a person wrote: nested too deeply.")) from None
    except ValueError:  # Python turns no text of more than 4300 digits into a number
        raise BadInput(Problem(source, "this is not TOML that a person wrote: a number is too long.")) from None


def _why_no_toml(said: str, line: str) -> tuple[str, str]:
    """tomllib's words for people, with the mend; `line` is the one that it stopped at."""
    name = re.match(rf"\s*(?:({DOTTED})=|\[\[?({DOTTED})\])", line)
    if name and said.startswith(("Cannot overwrite", "Cannot declare")):
        return f"{shown((name[1] or name[3]).strip())} stands here for the second time.", "Keep one of them."
    return f"this is not TOML: {re.sub(r' [(]at .*[)]', '', said)}.", 'Texts need quotes: key = "value".'


def _has_endless_key(text: str) -> bool:
    """tomllib takes 15 s for a key of 30,000 parts, which fits into a job file."""
    pieces = (piece.split(".") for piece in re.split(r"[={},\n]", text))
    return any(len(parts) > MOST_PARTS and sum(bool(each.strip()) for each in parts) > MOST_PARTS for parts in pieces)


def checked(
    document: Document, keys: Sequence[Key], path: tuple[str | int, ...] = (), problems: list[Problem] | None = None
) -> dict[str, Any]:
    """The table at `path` with defaults filled in.

    Raises BadInput with every problem found; with `problems` given, adds them to that list instead, so that
    a caller can go on and find more.
    """
    found: list[Problem] = []
    table: Any = document.table
    for part in path:
        table = table[part]
    by_name = {key.name: key for key in keys}
    unknown = [name for name in table if name not in by_name]
    where = f" in [{'.'.join(part for part in path if isinstance(part, str))}]" if path else ""
    for name in unknown[:MOST_TOLD]:
        mend = nearest(name, by_name) or f"Known here: {', '.join(by_name)}."
        found.append(document.problem((*path, name), f"unknown key {shown(name)}{where}.", mend))
    if len(unknown) > MOST_TOLD:
        found.append(document.problem(path, f"{len(unknown) - MOST_TOLD} more unknown keys{where}."))
    values = {}
    for key in keys:
        if key.name in table:
            values[key.name] = table[key.name]
            what, item = _what_is_wrong(key, table[key.name])
            if what:
                found.append(document.problem((*path, key.name, *item), f'"{key.name}" {what}.', key.help + "."))
        elif key.default is REQUIRED:
            found.append(document.problem(path, f'"{key.name}" is missing.', key.help + "."))
        else:
            values[key.name] = key.default
    if problems is not None:
        problems.extend(found)
    elif found:
        raise BadInput(found)
    return values


def _what_is_wrong(key: Key, value: Any) -> tuple[str, tuple[str, ...]]:
    """In words, with the name of the item that it is about, if it is about one."""
    if not KINDS[key.kind](value):
        return _wrong_kind(key.kind, value)
    if key.choices and value not in key.choices:
        known = ", ".join(str(choice) for choice in key.choices if choice != "")
        return f"is {shown(value)} but must be one of {known}", ()
    if key.minimum is not None and value < key.minimum:
        return f"is {shown(value)} but must be at least {key.minimum:g}", ()
    if key.maximum is not None and value > key.maximum:
        return f"is {shown(value)} but must be at most {key.maximum:.15g}", ()
    if isinstance(value, int) and abs(value) > LARGEST:
        return "is a huge number, more than anything here can hold", ()
    return "", ()


def _wrong_kind(kind: str, value: Any) -> tuple[str, tuple[str, ...]]:
    inner = {"table of texts": "text", "table of tables": "table"}.get(kind)
    if inner and isinstance(value, dict):
        name = next(name for name in value if not KINDS[inner](value[name]))
        return f"has {shown(value[name])} for {shown(name)}, which must be a {inner}", (name,)
    return f"is {shown(value)} but must be {IN_WORDS.get(kind, f'a {kind}')}", ()


def shown(value: Any) -> str:
    """A value as a person may have written it, and never long."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int) and abs(value) > LARGEST:
        return "a huge number"
    if isinstance(value, date | time):
        return str(value)
    if isinstance(value, str):
        return f'"{_short(repr(value)[1:-1])}"'
    try:
        return _short(repr(value))
    except ValueError:  # a huge number inside
        return f"a {type(value).__name__}"


def _escaped(found: re.Match[str]) -> str:
    return "".join(c if c.isprintable() and c not in '"\\' else f"\\U{ord(c):08x}" for c in found[0])


def as_toml(value: Any) -> str:
    """A value as it stands in a TOML file behind the = sign."""
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{as_toml(key)} = {as_toml(each)}" for key, each in value.items()) + " }"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return f'"{TO_ESCAPE.sub(_escaped, value)}"'
    return repr(value)


def _short(text: str, most: int = 80) -> str:
    return text if len(text) <= most else text[: most - 3] + "..."


PART = r"""(?:"(?:\\.|[^"\\])*"|'[^']*'|[A-Za-z0-9_-]+)"""
DOTTED = rf"\s*({PART}(?:\s*\.\s*{PART})*)\s*"


def _lines(text: str) -> dict[tuple[str, ...], int]:
    """The first line of each table and key, by a plain scan: good enough to point a person at it."""
    found: dict[tuple[str, ...], int] = {}
    here: list[str] = []
    counts: dict[tuple[str, ...], int] = {}
    for number, line in _lines_outside_texts(text):
        if header := re.match(rf"\s*(\[\[?){DOTTED}\]", line):
            here = full = _numbered(_parts(header[2]), counts, header[1] == "[[")
        elif assignment := re.match(DOTTED + "=", line):
            full = here + _parts(assignment[1])
        else:
            continue
        for depth in range(1, len(full) + 1):
            found.setdefault(tuple(full[:depth]), number)
    return found


def _lines_outside_texts(text: str) -> Iterator[tuple[int, str]]:
    """The lines that may hold a header or a key: not those inside a text of several lines."""
    quote = ""
    for number, line in enumerate(text.split("\n"), 1):
        was_inside = bool(quote)
        for mark in re.findall(r"\"\"\"|\'\'\'", line):
            quote = mark if not quote else "" if mark == quote else quote
        if not was_inside:
            yield number, line


def _numbered(header: list[str], counts: dict[tuple[str, ...], int], is_array: bool) -> list[str]:
    """The path of a table, with the number of each array of tables that it goes through."""
    here: list[str] = []
    for depth, part in enumerate(header, 1):
        here.append(part)
        name = tuple(here)
        if is_array and depth == len(header):
            counts[name] = counts.get(name, -1) + 1
        if name in counts:
            here.append(str(counts[name]))
    return here


def _parts(dotted: str) -> list[str]:
    return [part[1:-1] if part[0] in "\"'" else part for part in re.findall(PART, dotted)]

"""Reads TOML that people write against a table of keys: line numbers, nearest spellings, all problems at once.

spica.conf, job files, rules and application descriptors are all read through here. What the keys mean is
the affair of the module that lists them; `KEYS` tables are also what the manual and the samples are checked against.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from spicad.words import BadInput, Problem, nearest

REQUIRED = object()

KINDS: dict[str, Callable[[Any], bool]] = {
    "text": lambda v: isinstance(v, str),
    "number": lambda v: isinstance(v, int | float) and not isinstance(v, bool),
    "integer": lambda v: isinstance(v, int) and not isinstance(v, bool),
    "yes or no": lambda v: isinstance(v, bool),
    "list of texts": lambda v: isinstance(v, list) and all(isinstance(item, str) for item in v),
    "text or list of texts": lambda v: isinstance(v, str) or KINDS["list of texts"](v),
    "date and time": lambda v: hasattr(v, "isoformat"),
    "table": lambda v: isinstance(v, dict),
    "table of texts": lambda v: isinstance(v, dict) and all(isinstance(item, str) for item in v.values()),
    "table of tables": lambda v: isinstance(v, dict) and all(isinstance(item, dict) for item in v.values()),
    "list of tables": lambda v: isinstance(v, list) and all(isinstance(item, dict) for item in v),
    "anything": lambda v: True,
}


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
        """The line (from 1) where the key or table `path` is written; an int picks one of an array of tables."""
        return _line_of(self.text, path)

    def problem(self, path: Sequence[str | int], what: str, mend: str = "") -> Problem:
        return Problem(self.source, what, mend, self.line_of(*path))


def read_toml(text: str, source: str) -> Document:
    """Raises BadInput that names the line when `text` is not TOML."""
    try:
        return Document(source, text, tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        at = re.search(r"\(at line (\d+), column (\d+)\)", str(error))
        line = int(at[1]) if at else len(text.splitlines())
        what = re.sub(r" \(at .*\)", "", str(error))
        raise BadInput(
            Problem(source, f"this is not TOML: {what}.", 'Texts need quotes: key = "value".', line)
        ) from None
    except RecursionError:
        raise BadInput(Problem(source, "this is not TOML that a person wrote: nested too deeply.")) from None


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
    for name in table:
        if name not in by_name:
            where = f" in [{path[0]}]" if path else ""
            mend = nearest(name, by_name) or f"Known here: {', '.join(by_name)}."
            found.append(document.problem((*path, name), f'unknown key "{name}"{where}.', mend))
    values = {}
    for key in keys:
        if key.name in table:
            values[key.name] = table[key.name]
            what = _what_is_wrong(key, table[key.name])
            if what:
                found.append(document.problem((*path, key.name), f'"{key.name}" {what}.', key.help + "."))
        elif key.default is REQUIRED:
            found.append(document.problem(path, f'"{key.name}" is missing.', key.help + "."))
        else:
            values[key.name] = key.default
    if problems is not None:
        problems.extend(found)
    elif found:
        raise BadInput(found)
    return values


def _what_is_wrong(key: Key, value: Any) -> str:
    if not KINDS[key.kind](value):
        return f"is {value!r} but must be a {key.kind}"
    if key.choices and value not in key.choices:
        return f"is {value!r} but must be one of {', '.join(map(str, key.choices))}"
    if key.minimum is not None and value < key.minimum:
        return f"is {value} but must be at least {key.minimum:g}"
    if key.maximum is not None and value > key.maximum:
        return f"is {value} but must be at most {key.maximum:g}"
    return ""


def _line_of(text: str, path: Sequence[str | int]) -> int | None:
    """A plain scan for table headers and `key =`; good enough to point a person at the line."""
    wanted = [str(part) for part in path]
    here: list[str] = []
    counts: dict[str, int] = {}
    best: int | None = None
    for number, raw in enumerate(text.splitlines(), 1):
        header = re.match(r"\s*(\[\[?)\s*([^\]]+?)\s*\]\]?", raw)
        if header:
            here = [_bare(part) for part in header[2].split(".")]
            if header[1] == "[[":
                name = ".".join(here)
                counts[name] = counts.get(name, -1) + 1
                here.append(str(counts[name]))
            if here == wanted[: len(here)]:
                best = number
            if here == wanted:
                return number
            continue
        assignment = re.match(r"\s*([^=#]+?)\s*=", raw)
        if assignment:
            full = here + [_bare(part) for part in assignment[1].split(".")]
            if full == wanted[: len(full)]:
                return number
    return best


def _bare(part: str) -> str:
    return part.strip().strip("\"'")

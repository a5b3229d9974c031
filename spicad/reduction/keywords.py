"""The command line of our own programs, in the AstrOmatic manner: FILE ... -c CONFIGURATION -KEYWORD VALUE, -dd, -v.

A program lists its keywords in a table; here they are read, checked and shown. What they do is the program's affair.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from spicad import __version__
from spicad.words import BadInput, Problem, SpicaError, nearest

MAX_BYTES = 1 << 20
KINDS = ("number", "integer", "yes or no", "choice", "text", "list of texts", "list of numbers")


@dataclass(frozen=True)
class Keyword:
    """One keyword of a configuration. `kind` is one of KINDS; choices are in capitals; a list has `count` items."""

    name: str
    default: str
    kind: str
    help: str
    choices: tuple[str, ...] = ()
    minimum: float | None = None
    maximum: float | None = None
    count: int | None = None


@dataclass(frozen=True)
class Program:
    """A program as people see it: `usage` stands after its name, `notes` is said at the end of its help."""

    name: str
    summary: str
    usage: str
    keywords: tuple[Keyword, ...]
    notes: str = ""


@dataclass(frozen=True)
class Orders:
    """A command line that was understood: files in their order, and each keyword's value in its own type."""

    files: tuple[Path, ...]
    values: Mapping[str, Any] = field(default_factory=dict)


def read_orders(program: Program, argv: Sequence[str]) -> Orders | None:
    """What a command line asks for; None when it only asked for help, version or keywords, which is printed.

    The command line goes before the configuration file, the file before the defaults. Raises BadInput with all that
    is wrong.
    """
    if set(argv) & {"-h", "--help"} or not argv:
        print(help_of(program))
        return None
    if set(argv) & {"-v", "--version"}:
        print(f"{program.name} version {__version__}")
        return None
    if set(argv) & {"-d", "-dd"}:
        print(sample(program), end="")
        return None
    problems: list[Problem] = []
    files, given, configuration = _split(program, argv, problems)
    texts = {keyword.name: keyword.default for keyword in program.keywords}
    where = {name: Problem(f"-{name}", "") for name in texts}
    if configuration is not None:
        for name, (value, line) in _read_configuration(program, configuration, problems).items():
            texts[name], where[name] = value, Problem(str(configuration), "", line=line)
    for name, value in given.items():
        texts[name], where[name] = value, Problem(f"-{name}", "")
    values = {}
    for keyword in program.keywords:
        try:
            values[keyword.name] = _value(keyword, texts[keyword.name])
        except ValueError as error:
            place = where[keyword.name]
            problems.append(Problem(place.source, f"{keyword.name} {error}.", keyword.help + ".", place.line))
    if problems:
        raise BadInput(problems)
    return Orders(tuple(files), values)


def status_of(program: Program, argv: Sequence[str], work: Callable[[Orders], int], failed: int = 1) -> int:
    """The exit status of `work` on what the command line asks for; what goes wrong is said in words.

    2: what was asked for, or a file, cannot be taken. `failed`: the work cannot be done.
    """
    try:
        orders = read_orders(program, argv)
        if orders is None:
            return 0 if argv else 2
        return work(orders)
    except BadInput as error:
        fail(program, str(error))
        return 2
    except SpicaError as error:
        fail(program, str(error))
    except MemoryError:
        fail(program, "more memory is needed than this process may use.")
    except OSError as error:
        fail(program, f"{error.filename or 'a file'}: {error.strerror or error}.")
    return failed


def sample(program: Program) -> str:
    """All keywords with their defaults: a configuration file to begin with."""
    lines = [f"# Default configuration of {program.name} {__version__}", ""]
    for keyword in program.keywords:
        choices = f": {', '.join(keyword.choices)}" if keyword.choices else ""
        lines.append(f"{keyword.name:<20} {keyword.default:<20} # {keyword.help}{choices}")
    return "\n".join(lines) + "\n"


def help_of(program: Program) -> str:
    lines = [f"{program.name}: {program.summary}", "", f"usage: {program.name} {program.usage}", ""]
    lines += ["  -c FILE        configuration: KEYWORD VALUE # comment, one a line"]
    lines += ["  -KEYWORD VALUE a keyword, over the configuration"]
    lines += ["  -dd            list all keywords with their defaults", "  -v             say which version this is"]
    return "\n".join([*lines, *(["", program.notes] if program.notes else [])])


def fail(program: Program, text: str) -> None:
    """Says on standard error why a program ends, each line printable and with the program's name."""
    for line in text.splitlines():
        print(f"{program.name}: {''.join(sign if sign.isprintable() else ' ' for sign in line)}", file=sys.stderr)


def _split(
    program: Program, argv: Sequence[str], problems: list[Problem]
) -> tuple[list[Path], dict[str, str], Path | None]:
    known = {keyword.name for keyword in program.keywords}
    files: list[Path] = []
    given: dict[str, str] = {}
    configuration = None
    rest = list(argv)
    while rest:
        word = rest.pop(0)
        if word.startswith("@"):
            files += _listed(Path(word[1:]), problems)
        elif not word.startswith("-"):
            files.append(Path(word))
        elif not rest:
            problems.append(Problem(word, "this needs a value."))
        elif word == "-c":
            configuration = Path(rest.pop(0))
        elif word[1:].upper() in known:
            given[word[1:].upper()] = rest.pop(0)
        else:
            rest.pop(0)
            mend = nearest(word[1:], known) or f"{program.name} -dd lists what there is."
            problems.append(Problem(word, f"{program.name} has no such keyword.", mend))
    return files, given, configuration


def _listed(path: Path, problems: list[Problem]) -> list[Path]:
    """The files that a list names, one a line."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        problems.append(Problem(f"@{path}", f"the list cannot be read: {error}."))
        return []
    return [Path(line.strip()) for line in lines if line.strip() and not line.startswith("#")]


def _read_configuration(program: Program, path: Path, problems: list[Problem]) -> dict[str, tuple[str, int]]:
    known = {keyword.name for keyword in program.keywords}
    try:
        with path.open("rb") as file:
            lines = file.read(MAX_BYTES).decode("utf-8", "replace").splitlines()
    except OSError as error:
        problems.append(Problem(str(path), f"the configuration cannot be read: {error.strerror}."))
        return {}
    found: dict[str, tuple[str, int]] = {}
    for number, line in enumerate(lines, 1):
        words = re.split(r"\s*=\s*|\s+", line.partition("#")[0].strip(), maxsplit=1)
        name = words[0].upper()
        if not name:
            continue
        if name in known:
            found[name] = (words[1].strip() if len(words) > 1 else "", number)
        else:
            mend = nearest(name, known) or f"{program.name} -dd lists what there is."
            problems.append(Problem(str(path), f"{program.name} has no keyword {words[0][:40]}.", mend, number))
    return found


def _value(keyword: Keyword, text: str) -> Any:
    """The value in its type; ValueError says what is wrong with it."""
    items = [item for item in re.split(r"[,\s]+", text) if item]
    if keyword.count is not None and len(items) != keyword.count:
        raise ValueError(f"is {text or 'empty'} but needs {keyword.count} items, commas between them")
    if keyword.kind == "list of texts":
        return tuple(items)
    if keyword.kind == "list of numbers":
        numbers = tuple(_number(keyword, item) for item in items)
        if keyword.count == 2 and numbers[0] > numbers[1]:  # all pairs are a least and a most
            raise ValueError(f"is {text} but must begin with the smaller number")
        return numbers
    if keyword.kind == "text":
        return text
    if keyword.kind == "yes or no":
        if text.upper() not in ("Y", "N"):
            raise ValueError(f"is {text or 'empty'} but must be Y or N")
        return text.upper() == "Y"
    if keyword.kind == "choice":
        if text.upper() not in keyword.choices:
            raise ValueError(f"is {text or 'empty'} but must be one of {', '.join(keyword.choices)}")
        return text.upper()
    number = _number(keyword, text)
    if keyword.kind == "integer":
        if number != int(number):
            raise ValueError(f"is {text} but must be a whole number")
        return int(number)
    return number


def _number(keyword: Keyword, text: str) -> float:
    try:
        number = float(int(text, 16) if keyword.kind == "integer" and text.lower().startswith("0x") else float(text))
    except ValueError:
        raise ValueError(f"is {text or 'empty'} but must be a number") from None
    if not abs(number) <= 1e30:
        raise ValueError(f"is {text}, which is no finite number")
    if keyword.minimum is not None and number < keyword.minimum:
        raise ValueError(f"is {text} but must be at least {keyword.minimum:g}")
    if keyword.maximum is not None and number > keyword.maximum:
        raise ValueError(f"is {text} but must be at most {keyword.maximum:g}")
    return number

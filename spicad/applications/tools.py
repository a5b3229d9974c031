"""Tools as installed: where a program is, its version, and the keywords and columns it knows by its own word.

The answers of `-dd` and the like are kept in memory, and in a cache folder when one is given, for as long as the
program file stays the same. What the keywords may be set to is decided in configuration.py.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from spicad import __version__
from spicad.applications.descriptor import Application
from spicad.remembered import remembered
from spicad.words import SpicaError

ASK_TIMEOUT_S = 20.0
CACHE_VERSION = 2
PACKAGE = Path(__file__).resolve().parent.parent
WORD = re.compile(r"(?<![\w.+-])-?[A-Z][A-Z0-9_.+-]*(?<![.+-])(?![\w+-])")
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|0[xX][0-9a-fA-F]+")


@dataclass(frozen=True)
class Tool:
    """An application's program on this machine. `path` has no links left; `program` is how it is started."""

    name: str
    path: Path
    version: str
    program: tuple[str, ...]


@dataclass(frozen=True)
class Keyword:
    """What a tool says about one of its keywords. `kind`: number, yes or no, choice, text."""

    name: str
    default: str
    comment: str
    allowed: tuple[str, ...] | None
    kind: str


@dataclass(frozen=True)
class _Place:
    program: str  # as it was found
    real: Path
    identity: tuple[int, int, int]


_answers: dict[tuple[tuple[str, ...], str, int, int], str] = {}
_places: dict[tuple[str, str], _Place] = {}


def find_tool(application: Application, folders: Sequence[Path] = (), cache: Path | None = None) -> Tool:
    """The application's program, looked for in `folders` and then in PATH.

    Raises SpicaError with the names looked for and the package to install.
    """
    if application.is_our_own:
        program = (sys.executable, *application.command[1:])
        return Tool(application.name, Path(os.path.realpath(sys.executable)), __version__, program)
    path = os.pathsep.join([*map(str, folders), os.environ.get("PATH", os.defpath)])
    for name in application.command:
        found = _place_of(name, path)
        if found:
            version = _version(application, found.real, found.program, cache)
            return Tool(name, found.real, version, (found.program,))
    packages = "; ".join(f"{distribution}: {package}" for distribution, package in application.packages.items())
    raise SpicaError(
        f"{application.title} is not installed: none of {', '.join(application.command)} is in PATH."
        + (f" Install the package ({packages})." if packages else "")
    )


def tool_keywords(tool: Tool, application: Application, cache: Path | None = None) -> Mapping[str, Keyword]:
    """Every keyword that this installed tool knows, by its own list; empty for a tool that has none."""
    if not application.list_keywords:
        return {}
    text = _answer(tool.path, tool.program, application.list_keywords, cache)
    keywords = parse_keywords(text)
    if not keywords:
        raise SpicaError(
            f"{tool.path} {application.list_keywords} lists no keywords, so that no configuration can be checked."
            f" Is this really {application.title}?"
        )
    return keywords


def tool_columns(tool: Tool, application: Application, cache: Path | None = None) -> frozenset[str]:
    """Every column that this installed tool can write in a catalogue; empty when it does not tell."""
    if not application.list_columns:
        return frozenset()
    text = _answer(tool.path, tool.program, application.list_columns, cache)
    return frozenset(re.findall(r"^#?([A-Z][A-Z0-9_]+)\b", text, re.MULTILINE))


def parse_keywords(text: str) -> dict[str, Keyword]:
    """Keywords from a tool's own sample configuration: KEYWORD value # comment, the comment over several lines."""
    rows: list[list[str]] = []
    for line in text.splitlines():
        setting, _, comment = line.partition("#")
        words = setting.split(None, 1)
        if words and re.fullmatch(r"\*?[A-Z][A-Z0-9_]*", words[0]):
            rows.append([words[0].lstrip("*"), words[1].strip() if len(words) > 1 else "", comment.strip()])
        elif rows and not words and line[:1].isspace() and comment.strip():
            rows[-1][2] += " " + comment.strip()
    return {name: _keyword(name, default, comment) for name, default, comment in rows}


def items(value: str) -> tuple[str, ...]:
    """The items of a value as the tools cut it: at commas and spaces."""
    return tuple(item for item in re.split(r"[,\s]+", value) if item)


def _keyword(name: str, default: str, comment: str) -> Keyword:
    parts = items(default)
    if default in ("Y", "N"):
        return Keyword(name, default, comment, None, "yes or no")
    if parts and all(NUMBER.fullmatch(part) for part in parts):
        return Keyword(name, default, comment, None, "number")
    allowed = _choices(name, parts, comment)
    return Keyword(name, default, comment, allowed, "choice" if allowed else "text")


def _choices(name: str, parts: tuple[str, ...], comment: str) -> tuple[str, ...] | None:
    """The capital words of a comment are its keyword's values when the default is among them."""
    listed = [word for word in WORD.findall(comment.rpartition(":")[2]) if word not in ("N",)]
    if len(set(listed)) < 2:
        listed = WORD.findall(comment)
    is_enumeration = parts and len(listed) > 1 and (name.endswith(("_TYPE", "_DEV")) or set(parts) <= set(listed))
    if not is_enumeration or not all(WORD.fullmatch(part) for part in parts):
        return None
    return tuple(dict.fromkeys([*parts, *listed]))


def _place_of(name: str, path: str) -> _Place | None:
    """The first program of that name on `path`; looked for anew when the one that was found is not there any more."""
    known = _places.get((name, path))
    if known and _identity(known.program) == known.identity:
        return known
    found = shutil.which(name, path=path)
    if not found:
        return None
    program = os.path.abspath(found)
    _places[(name, path)] = _Place(program, Path(os.path.realpath(found)), _identity(program))
    return _places[(name, path)]


def _identity(program: str) -> tuple[int, int, int]:
    try:
        status = os.stat(program)
    except OSError:
        return (0, 0, 0)
    return status.st_dev, status.st_ino, status.st_mtime_ns


def _version(application: Application, path: Path, program: str, cache: Path | None) -> str:
    if application.version:
        try:
            answer = _answer(path, (program,), application.version, cache)
        except SpicaError:
            answer = ""
        found = re.search(r"version\s+v?(\S+)", answer) or re.search(r"(\d+(?:\.\d+)+\S*)", answer)
        if found:
            return found[1]
    return _digest(path)


@partial(remembered, most=100)
def _digest(path: Path) -> str:
    """The version of a program that names none."""
    return "sha256:" + hashlib.sha256(path.read_bytes()).hexdigest()[:12]


def _answer(path: Path, program: tuple[str, ...], argument: str, cache: Path | None) -> str:
    """What the program prints for `argument`: from memory, from the cache folder, or by asking it."""
    status = (path if len(program) == 1 else _newest_of_our_own()).stat()
    key = (program, argument, status.st_mtime_ns, status.st_size)
    if key in _answers:
        return _answers[key]
    file = (
        cache / f"tool-{hashlib.sha256(repr((CACHE_VERSION, key)).encode()).hexdigest()[:24]}.json" if cache else None
    )
    text = _from_cache(file)
    if text is None:
        text = _ask(program, argument)
        _to_cache(file, text)
    _answers[key] = text
    return text


def _newest_of_our_own() -> Path:
    """What one of our own programs answers may change with any file of theirs."""
    return max((PACKAGE / "reduction").rglob("*.py"), key=lambda file: file.stat().st_mtime_ns)


def _ask(program: tuple[str, ...], argument: str) -> str:
    environment = {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", "HOME": "/"}
    if len(program) > 1:
        environment["PYTHONPATH"] = str(PACKAGE.parent)  # a checkout
    shown = " ".join(program)
    with tempfile.TemporaryDirectory(prefix="spica-ask-") as folder:
        try:
            done = subprocess.run(
                [*program, argument],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=ASK_TIMEOUT_S,
                env=environment,
                cwd=folder,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise SpicaError(f"{shown} {argument} gave no answer within {ASK_TIMEOUT_S:g} s.") from None
        except OSError as error:
            raise SpicaError(f"{shown} cannot be started: {error}") from None
    text = (done.stdout + done.stderr).decode("utf-8", "replace")
    if done.returncode < 0:
        raise SpicaError(f"{shown} {argument} was ended by signal {-done.returncode}.")
    return text


def _from_cache(file: Path | None) -> str | None:
    if file is None:
        return None
    try:
        text = json.loads(file.read_text(encoding="utf-8"))["answer"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return text if isinstance(text, str) else None


def _to_cache(file: Path | None, text: str) -> None:
    """A cache that cannot be written is no reason to stop."""
    if file is None:
        return
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=file.parent, delete=False, encoding="utf-8") as new:
            json.dump({"answer": text}, new)
        os.replace(new.name, file)
    except OSError:
        return


def as_record(tool: Tool) -> dict[str, object]:
    """The tool for the capsule of a run."""
    return vars(tool) | {"path": str(tool.path)}

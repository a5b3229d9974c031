"""Configuration files of the tools: parsed, checked against the installed tool, layered, and written out anew.

A tool never reads what a person wrote: it reads the file that `Effective.text` gives. Which keywords are open,
owned or limited stands in the descriptor. The command line is built in command.py.
"""

from __future__ import annotations

import fnmatch
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from spicad.applications.descriptor import Application, Input, Owned, Range
from spicad.applications.tools import NUMBER, Keyword, items
from spicad.words import BadInput, Problem, SpicaError, nearest

MAX_LINE_BYTES = 400  # a value of 12,000 characters overflows a buffer in five of the seven tools
MAX_LINES = 2000
MAX_BYTES = 256 * 1024
MAX_STORED_BYTES = 64 * 1024 * 1024
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
KEYWORD = re.compile(r"[A-Z][A-Z0-9_]{0,39}")
WORD = re.compile(
    r"[A-Za-z0-9_.:+#*()\[\]-]{1,200}"
)  # no / ~ @ $ % ' ` ; = nor anything a tool or a shell would act on
SUFFIX = ".conf"


@dataclass(frozen=True)
class Setting:
    keyword: str
    value: str
    line: int | None = None


@dataclass(frozen=True)
class Configuration:
    """What a person wrote, keyword by keyword, with its lines."""

    source: str
    settings: Mapping[str, Setting]

    @classmethod
    def of(cls, values: Mapping[str, str], source: str, lines: Mapping[str, int | None] | None = None) -> Configuration:
        """From a table, such as [set.NAME] of a job file; `lines` says where each keyword stands."""
        settings = {}
        problems = []
        for keyword, value in values.items():
            line = (lines or {}).get(keyword)
            text = str(value)
            what = _what_is_wrong_with_a_line(f"{keyword} {text}")
            if what:
                problems.append(Problem(source, f"{_printable(keyword)}: {what}.", line=line))
            settings[keyword.upper()] = Setting(keyword.upper(), _joined(text), line)
        if problems:
            raise BadInput(problems)
        return cls(source, settings)

    @property
    def values(self) -> dict[str, str]:
        return {name: setting.value for name, setting in self.settings.items()}


@dataclass(frozen=True)
class Effective:
    """Each keyword's value in a run, and which level set it."""

    application: str
    settings: Mapping[str, tuple[str, str]]  # keyword: (value, origin)
    written: frozenset[str] = field(repr=False)  # those that go to the tool's file
    forced: frozenset[str] = frozenset()  # those that a step sets otherwise, on the command line

    def value(self, keyword: str) -> str:
        return self.settings[keyword][0] if keyword in self.settings else ""

    @property
    def values(self) -> dict[str, str]:
        return {name: value for name, (value, _) in self.settings.items()}

    def text(self) -> str:
        """The file that the tool reads; the same settings give the same bytes."""
        lines = [f"# {self.application}: the configuration in force, written by Spica", ""]
        for name in sorted(self.settings):
            value, origin = self.settings[name]
            if name in self.written and value:
                lines.append(f"{name:<22} {value:<30} # {_printable(origin)[:100]}")
        return "\n".join(lines) + "\n"

    def digest(self) -> str:
        """Of the values that decide the outcome, wherever they come from."""
        decisive = sorted((name, value) for name, value in self.values.items() if value)
        return hashlib.sha256(json.dumps(decisive).encode()).hexdigest()


def read_configuration(path: Path, source: str = "") -> Configuration:
    """Raises BadInput for what cannot be taken, SpicaError when the file cannot be read.

    `source` is the name that its user knows it by.
    """
    source = source or str(path)
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise SpicaError(f"{source}: the configuration cannot be read: {error.strerror}.") from None
    if len(data) > MAX_BYTES:
        raise BadInput(Problem(source, f"this is no configuration: larger than {MAX_BYTES // 1024} kB."))
    return parse(data.decode("latin-1"), source)


def parse(text: str, source: str) -> Configuration:
    """KEYWORD value[,value...] # comment, one a line. Raises BadInput with every line that cannot be taken."""
    settings: dict[str, Setting] = {}
    problems: list[Problem] = []
    lines = text.split("\n", MAX_LINES)
    if len(lines) > MAX_LINES:
        raise BadInput(Problem(source, f"this is no configuration: more than {MAX_LINES} lines."))
    for number, raw in enumerate(lines, 1):
        line = raw.removesuffix("\r")
        setting = line.partition("#")[0].strip()
        what = _what_is_wrong_with_a_line(line, setting)
        if what:
            named = re.match(rf"\s*({KEYWORD.pattern})\b", line.upper())
            problems.append(Problem(source, f"{named[1]}: {what}." if named else f"{what}.", line=number))
            continue
        if not setting:
            continue
        words = re.split(r"\s*=\s*|\s+", setting, maxsplit=1)
        keyword = words[0].upper()
        if not KEYWORD.fullmatch(keyword):
            mend = "A line is KEYWORD value # comment; a value does not go on in the next line."
            problems.append(Problem(source, f'"{words[0][:40]}" is not a keyword.', mend, number))
        elif keyword in settings:
            first = settings[keyword].line
            problems.append(Problem(source, f"{keyword} was already set in line {first}.", "Keep one of them.", number))
        else:
            settings[keyword] = Setting(keyword, _joined(words[1] if len(words) > 1 else ""), number)
    if problems:
        raise BadInput(problems)
    return Configuration(source, settings)


def check(
    application: Application,
    configuration: Configuration,
    keywords: Mapping[str, Keyword],
    folders: Sequence[tuple[str, Path]] | None = None,
) -> list[Problem]:
    """All that is wrong with a configuration for this installed tool; `folders`, if given, must hold its stored files.

    A keyword that is not open passes with the tool's own default, so that a full dump of the tool's
    defaults can be pasted and edited; it takes no effect.
    """
    problems = []
    for setting in configuration.settings.values():
        what, mend = _what_is_wrong(application, setting, keywords, folders)
        if what:
            problems.append(Problem(configuration.source, what, mend, setting.line))
    return problems


def _what_is_wrong(
    application: Application,
    setting: Setting,
    keywords: Mapping[str, Keyword],
    folders: Sequence[tuple[str, Path]] | None,
) -> tuple[str, str]:
    name, value = setting.keyword, setting.value
    if name not in keywords:
        known = nearest(name, application.open_keywords & keywords.keys())
        return f"{application.title} has no keyword {name}.", known or "Its keywords are listed in its manual."
    if _same(value, keywords[name].default) and name not in application.open_keywords:
        return "", ""
    if name in application.passed_over:
        return "", ""
    if name in application.owned:
        return _wrong_with_owned(name, value, application.owned[name], keywords[name])
    if name in application.stored:
        return _wrong_with_stored(application, name, value, keywords[name], folders)
    if name not in application.open_keywords:
        return (
            f"{name} is not open to configurations.",
            f"It keeps its default ({keywords[name].default or 'empty'}): remove this line.",
        )
    return _wrong_with_value(application, name, value, keywords[name])


def _wrong_with_owned(name: str, value: str, owned: Owned, keyword: Keyword) -> tuple[str, str]:
    if _same(value, keyword.default) or value.upper() in (choice.upper() for choice in owned.choices):
        return "", ""
    if owned.is_chosen:
        return f"{name} cannot be {value or 'empty'}.", f"It can be {', '.join(owned.choices)}."
    shown = f"to {owned.value[0] or 'nothing'}" if "{" not in owned.value[0] else "anew for each step"
    return f"{name} is set by Spica ({shown}), not by configurations.", "Remove this line."


def _wrong_with_stored(
    application: Application, name: str, value: str, keyword: Keyword, folders: Sequence[tuple[str, Path]] | None
) -> tuple[str, str]:
    pattern = application.stored[name].file
    if not value or value == application.stored[name].none:
        return "", ""
    if not NAME.fullmatch(value) or not fnmatch.fnmatchcase(value, pattern):
        return (
            f"{name} takes the bare name of a stored file like {pattern}, not {_printable(value)[:60]}.",
            "Keep the file beside the configuration.",
        )
    if folders is not None and not _same(value, keyword.default):
        known = stored_names(application, name, folders)
        if value not in known:
            return f"there is no stored file {value} for {name}.", nearest(value, known) or _some(known)
    return "", ""


def _wrong_with_value(application: Application, name: str, value: str, keyword: Keyword) -> tuple[str, str]:
    parts = items(value)
    if not parts:
        return ("", "") if not keyword.default else (f"{name} has no value.", f"The default is {keyword.default}.")
    if name in application.allowed:
        return _wrong_with_choice(name, parts, application.allowed[name])
    if name in application.ranges:
        return _wrong_with_range(name, parts, application.ranges[name])
    if keyword.kind == "yes or no":
        fine = len(parts) > 0 and all(part in ("Y", "N", "y", "n") for part in parts)
        return ("", "") if fine else (f"{name} is {value} but must be Y or N.", "")
    if keyword.kind == "number":
        return _wrong_with_range(name, parts, Range())
    if keyword.kind == "choice" and keyword.allowed and name not in application.any_word:
        return _wrong_with_choice(name, parts, keyword.allowed)
    bad = [part for part in parts if not WORD.fullmatch(part)]
    return (f"{name}: {_printable(bad[0])[:60]} is not a plain word.", "") if bad else ("", "")


def _wrong_with_choice(name: str, parts: Sequence[str], allowed: Sequence[str]) -> tuple[str, str]:
    by_upper = {choice.upper() for choice in allowed}
    for part in parts:
        if part.upper() not in by_upper:
            mend = nearest(part, allowed) or f"It can be {', '.join(allowed)}."
            return f"{name} cannot be {_printable(part)[:60]}.", mend
    return "", ""


def _wrong_with_range(name: str, parts: Sequence[str], range_: Range) -> tuple[str, str]:
    for part in parts:
        if part in range_.also:
            continue
        if not NUMBER.fullmatch(part):
            return f"{name}: {_printable(part)[:60]} is not a number.", ""
        number = _number(part)
        if range_.minimum is not None and number < range_.minimum:
            return f"{name} is {part} but must be at least {range_.minimum:.10g}.", _besides(range_)
        if range_.maximum is not None and number > range_.maximum:
            return f"{name} is {part} but must be at most {range_.maximum:.10g}.", _besides(range_)
        if abs(number) > 1e30:
            return f"{name} is {part}, which no tool can hold.", ""
    return "", ""


def effective(
    application: Application,
    keywords: Mapping[str, Keyword],
    layers: Sequence[tuple[str, Configuration | Mapping[str, str]]],
) -> Effective:
    """Each open keyword's value: the tool's default, then each layer over the one before; (origin, settings) each.

    Keywords that are not open stay out, whatever a layer says; so does a stored file that is only named by
    the tool's own default.
    """
    found = {name: (_joined(each.default), "the tool's default") for name, each in keywords.items()}
    found = {
        name: value for name, value in found.items() if name in application.open_keywords - application.stored.keys()
    }
    for origin, layer in layers:
        values = layer.values if isinstance(layer, Configuration) else dict(layer)
        for name, value in values.items():
            if name in application.open_keywords & keywords.keys():
                found[name] = (_joined(str(value)), origin)
    found = {name: each for name, each in found.items() if _is_open_value(application, name, each[0])}
    written = frozenset(found) - application.owned.keys() - application.stored.keys()
    return Effective(application.name, found, written)


def _is_open_value(application: Application, name: str, value: str) -> bool:
    """Whether a configuration may choose this value of a keyword shared with Spica, or names a stored file at all."""
    if name in application.stored:
        return value not in ("", application.stored[name].none)
    owned = application.owned.get(name)
    return owned is None or value.upper() in (choice.upper() for choice in owned.choices)


def find_configuration(name: str, application: Application, folders: Sequence[tuple[str, Path]]) -> tuple[str, Path]:
    """(level, path) of the configuration of that name in the first of `folders` that has it, nearest level first.

    A level's folder holds one folder per application. Raises BadInput for a bad or unknown name.
    """
    return _find(name + SUFFIX, name, application, folders, configuration_names(application, folders), "configuration")


def find_stored(name: str, application: Application, folders: Sequence[tuple[str, Path]]) -> tuple[str, Path]:
    """(level, path) of a stored file; after the levels come the folders that the tool's own package installs."""
    known = {each.name for folder in _places(application, folders) for each in _files(folder[1])}
    return _find(name, name, application, folders, sorted(known), "stored file", installed=True)


def configuration_names(application: Application, folders: Sequence[tuple[str, Path]]) -> list[str]:
    names = {
        each.name.removesuffix(SUFFIX)
        for _, folder in folders
        for each in _files(folder / application.name)
        if each.name.endswith(SUFFIX)
    }
    return sorted(names)


def stored_names(application: Application, keyword: str, folders: Sequence[tuple[str, Path]]) -> list[str]:
    pattern = application.stored[keyword].file
    names = {each.name for _, folder in _places(application, folders) for each in _files(folder)}
    return sorted(name for name in names if fnmatch.fnmatchcase(name, pattern) and NAME.fullmatch(name))


def stored_files(
    application: Application, settings: Effective, folders: Sequence[tuple[str, Path]]
) -> dict[str, tuple[str, Path]]:
    """For each stored keyword that is set: its (level, path). Raises BadInput naming what is missing."""
    return {
        keyword: find_stored(settings.value(keyword), application, folders)
        for keyword in application.stored
        if settings.value(keyword)
    }


def stored_target(application: Application, keyword: str) -> str:
    """The name that a stored file gets in cfg/: made by Spica, whatever the user's name for it."""
    return keyword.lower() + application.stored[keyword].file.replace("*", "")


def check_stored(
    application: Application, keyword: str, path: Path, columns: frozenset[str] = frozenset()
) -> list[Problem]:
    """What is wrong with the content of a stored file; `columns` are those that the installed tool can write."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_STORED_BYTES + 1)
    except OSError as error:
        return [Problem(str(path), f"the file cannot be read: {error.strerror}.")]
    holds = application.stored[keyword].holds
    if len(data) > (MAX_STORED_BYTES if holds == "binary" else MAX_BYTES):
        return [Problem(str(path), "the file is too large for what it should hold.")]
    if holds == "binary":
        return []
    lines = data.decode("latin-1").split("\n")
    judge = {"columns": _wrong_with_column, "numbers": _wrong_with_numbers, "cards": _wrong_with_card}.get(holds)
    problems = []
    for number, raw in enumerate(lines, 1):
        line = raw.removesuffix("\r")
        what = _what_is_wrong_with_a_line(line, "") or (judge(application, line, columns) if judge else "")
        if what:
            problems.append(Problem(str(path), what + ".", line=number))
    return problems[:20]


def columns_asked(text: str) -> frozenset[str]:
    """The columns named in a list of output columns, sizes left out."""
    words = (line.partition("#")[0].strip() for line in text.splitlines())
    return frozenset(word.partition("(")[0].strip() for word in words if word)


def columns_needed(input_: Input, settings: Effective) -> tuple[str, ...]:
    """The columns that `input_` must have under these settings, {KEYWORD} replaced by what that keyword names."""
    needed: list[str] = []
    for column in input_.columns:
        keyword = re.fullmatch(r"\{(\w+)\}", column)
        named = items(settings.value(keyword[1])) if keyword else (column,)
        needed += [re.sub(r"\(.*\)$", "", each) for each in named if not each.startswith(":")]
    return tuple(dict.fromkeys(needed))


def _wrong_with_column(application: Application, line: str, columns: frozenset[str]) -> str:
    text = line.partition("#")[0].strip()
    if not text:
        return ""
    asked = re.fullmatch(r"([A-Z][A-Z0-9_]*)\s*(?:\(\s*(\d{1,6})\s*(?:,\s*(\d{1,6})\s*)?\))?", text)
    if not asked:
        return f'"{_printable(text)[:40]}" is not an output column'
    name, elements = asked[1], int(asked[2] or 1) * int(asked[3] or 1)
    if columns and name not in columns:
        return f"{application.title} has no output column {name}. {nearest(name, columns)}".strip().rstrip(".")
    for pattern, limit in application.columns.items():
        if fnmatch.fnmatchcase(name, pattern) and not 0 < elements <= limit.elements:
            return f"{text} cannot be asked for: {limit.why}" + (
                f"; at most {limit.elements} elements" if limit.elements else ""
            )
    return ""


def _wrong_with_numbers(application: Application, line: str, columns: frozenset[str]) -> str:
    words = line.partition("#")[0].split()
    bad = [word for word in words if not NUMBER.fullmatch(word) and not re.fullmatch(r"[A-Z]{2,20}", word)]
    return f'"{_printable(bad[0])[:40]}" is not a number' if bad else ""


def _wrong_with_card(application: Application, line: str, columns: frozenset[str]) -> str:
    """A FITS card; a size that no image has would fill the disk."""
    card = re.fullmatch(r"([A-Z0-9_-]{1,8}) *=\s*([^/]*).*|(COMMENT|HISTORY|END)\b.*|\s*(#.*)?", line)
    if not card:
        return f'"{line[:20]}" is not a FITS card'
    if (card[1] or "").startswith("NAXIS") and not re.fullmatch(r"\d{1,5}\s*", card[2]):
        return f"{card[1]} is {card[2].strip()[:20]} but must be less than 100000"
    return ""


def _what_is_wrong_with_a_line(line: str, setting: str | None = None) -> str:
    """`setting` is what stands before a comment; a comment may hold anything printable."""
    if len(line) > MAX_LINE_BYTES:
        return f"longer than {MAX_LINE_BYTES} characters"
    odd = re.search(r"[^\t\x20-\x7e]", line)
    if odd:
        return f"holds {odd[0]!r}, which is not plain ASCII"
    held = re.search(r"[$@`;\\~|&<>!]", line if setting is None else setting)
    if held:
        return f"holds {held[0]}, which a tool would not take as text"
    return ""


def _joined(value: str) -> str:
    """A value as Spica writes it: its items joined by commas, quotes gone."""
    text = value.strip()
    quoted = re.fullmatch(r'"([^"]*)"', text)
    return quoted[1].strip() if quoted else ",".join(items(text))


def _same(value: str, default: str) -> bool:
    ours, theirs = items(value), items(_joined(default))
    return len(ours) == len(theirs) and all(_same_item(a, b) for a, b in zip(ours, theirs, strict=True))


def _same_item(one: str, other: str) -> bool:
    if NUMBER.fullmatch(one) and NUMBER.fullmatch(other):
        return _number(one) == _number(other)
    return one.upper() == other.upper()


def _number(text: str) -> float:
    return float(int(text, 16)) if text[:2].lower() == "0x" else float(text)


def _besides(range_: Range) -> str:
    return f"Or {', '.join(range_.also)}." if range_.also else ""


def _some(known: Sequence[str]) -> str:
    return f"There are: {', '.join(known[:12])}." if known else "There are none."


def _printable(text: str) -> str:
    return re.sub(r"[^\x20-\x7e]", "?", text)


def _files(folder: Path) -> list[Path]:
    try:
        return [each for each in folder.iterdir() if each.is_file()]
    except OSError:
        return []


def _places(application: Application, folders: Sequence[tuple[str, Path]]) -> list[tuple[str, Path]]:
    own = [(level, folder / application.name) for level, folder in folders]
    return own + [("installed", folder) for folder in application.installed]


def _find(
    file: str,
    name: str,
    application: Application,
    folders: Sequence[tuple[str, Path]],
    known: Sequence[str],
    noun: str,
    installed: bool = False,
) -> tuple[str, Path]:
    if not NAME.fullmatch(name):
        what = f'"{_printable(name)[:60]}" cannot be the name of a {noun}.'
        raise BadInput(Problem(application.name, what, "Letters, digits, dots, _ and - only."))
    places = _places(application, folders) if installed else [(level, f / application.name) for level, f in folders]
    for level, folder in places:
        if (folder / file).is_file():
            return level, folder / file
    raise BadInput(Problem(application.name, f'there is no {noun} "{name}".', nearest(name, known) or _some(known)))

"""Rules files: which tasks run, how exposures are gathered, selected and widened, within what limits.

A Rules value says what is wanted; what comes of it for given exposures is decided in plan.py.
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from spicad.archive.instruments import MASTERS, TYPES
from spicad.schema import REQUIRED, Document, Key, checked, read_toml, shown
from spicad.words import BadInput, Problem, nearest

GATHER_FIELDS = {
    "filter": "filter",
    "object": "object",
    "run": "runid",
    "instrument": "instrument",
    "night": "night",
}
CONDITION_FIELDS = {
    "instrument": "text",
    "filter": "text",
    "object": "text",
    "runid": "text",
    "t_exptime": "number",
    "airmass": "number",
    "mjd": "number",
    "s_ra": "number",
    "s_dec": "number",
    "seeing": "number",
    "elongation": "number",
    "background": "number",
    "limiting_magnitude": "number",
    "stars": "number",
    "grade": "text",
    "graded_by": "text",
    "size": "number",
}
MOST_CONDITION = 1000  # characters; also keeps the nesting within what Python can walk
MOST_MEMORY_MB = 1 << 24  # 16 TiB
MOST_TIME_S = 100 * 86_400
GRADES = ("A", "B", "C", "D")
CALIBRATIONS = ("bias", "dark", "flat", "skyflat", "fringe", "mask")  # by the inputs of applications

RULES_KEYS = (
    Key("title", "text", REQUIRED, "What people call these rules"),
    Key("summary", "text", "", "What they do, in a sentence"),
    Key("task", "list of tables", REQUIRED, "The tasks, in order"),
)
TASK_KEYS = (
    Key("application", "text", REQUIRED, "The application to run, see spica-application(5)"),
    Key("each", "text", "", "Run once for each exposure", choices=("", "exposure")),
    Key(
        "gather",
        "list of texts",
        [],
        "Run once for all exposures that share these: filter, object, run, instrument, night; or all",
    ),
    Key("kind", "text or list of texts", [], "Only these types of exposures; none named: all but calibrations"),
    Key("calibrate", "table", None, "How the calibrations of each exposure are found"),
    Key("select", "text", "", "Only exposures for which this condition holds"),
    Key("widen", "table", None, "Further exposures for this task alone"),
    Key("configuration", "text", "", "Name of the configuration unless the job names another"),
    Key("set", "table", {}, "Single keywords, on top of the configuration"),
    Key("threads", "integer", 0, "Threads of a step; 0: what the application asks for", minimum=0, maximum=256),
    Key(
        "memory_mb",
        "integer",
        0,
        "Memory of a step, MiB; 0: what the application asks for",
        minimum=0,
        maximum=MOST_MEMORY_MB,
    ),
    Key(
        "time_s",
        "number",
        0,
        "Seconds a step may take; 0: what the application asks for",
        minimum=0,
        maximum=MOST_TIME_S,
    ),
    Key(
        "on_bad_exposure",
        "text",
        "drop",
        "When one exposure fails: go on without it, or end in error",
        choices=("drop", "stop"),
    ),
    Key("least", "integer", 1, "Fewest exposures that a group makes sense with", minimum=1, maximum=1_000_000),
)
WIDEN_KEYS = (
    Key("within_deg", "number", 1.0, "Farthest from any chosen exposure, degrees", minimum=0, maximum=180),
    Key("same", "list of texts", ["instrument", "filter"], "What must be the same as a chosen exposure's"),
    Key("grade", "text", "", "Worst grade taken; exposures without one pass", choices=("", *GRADES)),
    Key("within_days", "number", 0, "Farthest in time from any chosen exposure, days; 0: any time", minimum=0),
)
CALIBRATE_KEYS = (
    Key("needs", "list of texts", ["bias", "flat"], "Calibrations without which an exposure is dropped"),
    Key("same", "list of texts", [], "What must be the same beside the instrument, and the filter of flats"),
    Key("within_days", "number", 0, "Farthest in time, days; 0: any time", minimum=0),
)


@dataclass(frozen=True)
class Widen:
    within_deg: float
    same: tuple[str, ...]
    grade: str = ""
    within_days: float = 0


@dataclass(frozen=True)
class Calibrate:
    """How the calibrations of an exposure are found: the nearest in time of those that fit."""

    needs: tuple[str, ...] = ("bias", "flat")
    same: tuple[str, ...] = ()
    within_days: float = 0


@dataclass(frozen=True)
class Task:
    application: str
    gather: tuple[str, ...] = ()  # empty: once for each exposure
    select: str = ""
    widen: Widen | None = None
    configuration: str = ""
    set: Mapping[str, str] = field(default_factory=dict)
    threads: int = 0
    memory_mb: int = 0
    time_s: float = 0
    on_bad_exposure: str = "drop"
    least: int = 1
    kinds: tuple[str, ...] = ()  # empty: all but calibrations
    calibrate: Calibrate = Calibrate()  # frozen

    @property
    def is_each(self) -> bool:
        return not self.gather


@dataclass(frozen=True)
class Rules:
    title: str
    summary: str
    tasks: tuple[Task, ...]
    text: str = field(default="", repr=False)


def load_rules(path: Path) -> Rules:
    """Raises BadInput naming file and line."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(Problem(str(path), f"the rules cannot be read: {error}.")) from None
    return parse_rules(text, path.name)


def parse_rules(text: str, source: str) -> Rules:
    document = read_toml(text, source)
    values = checked(document, RULES_KEYS)
    return rules_from(document, values["title"], values["summary"])


def rules_from(document: Document, title: str, summary: str) -> Rules:
    """The [[task]] tables of a rules file or of a job file."""
    problems: list[Problem] = []
    tasks = [_task(document, number, problems) for number in range(len(document.table["task"]))]
    if not tasks:
        problems.append(Problem(document.source, "there is no [[task]].", "Write at least one."))
    if problems:
        raise BadInput(problems)
    return Rules(title, summary, tuple(tasks), document.text)


def _task(document: Document, number: int, problems: list[Problem]) -> Task:
    path = ("task", number)
    found: list[Problem] = []
    values = checked(document, TASK_KEYS, path, found)
    problems += found
    if found:
        return Task(application=str(values.get("application")))
    if bool(values["each"]) == bool(values["gather"]):
        what = 'needs one of each = "exposure" and gather = [...].'
        mend = 'For example: gather = ["object", "filter"]'
        problems.append(document.problem(path, f"the task {shown(values['application'])} {what}", mend))
    for word in values["gather"]:
        if word not in GATHER_FIELDS and word != "all":
            known = (*GATHER_FIELDS, "all")
            mend = nearest(word, known) or f"Known: {', '.join(known)}."
            problems.append(document.problem((*path, "gather"), f"cannot gather by {shown(word)}.", mend))
    if "all" in values["gather"] and len(values["gather"]) > 1:
        what = 'cannot gather by "all" and something else.'
        problems.append(document.problem((*path, "gather"), what, 'Write gather = ["all"], or leave "all" out.'))
    if values["each"] and values["least"] > 1:
        what = f'"least" is {values["least"]}, but each step of this task has one exposure.'
        problems.append(document.problem((*path, "least"), what, '"least" belongs to a task with gather.'))
    if values["select"]:
        try:
            condition(values["select"])
        except ValueError as error:
            problems.append(document.problem((*path, "select"), f"select: {error}"))
    return Task(
        application=values["application"],
        gather=tuple(values["gather"]),
        select=values["select"],
        widen=_widen(document, path, problems) if values["widen"] is not None else None,
        configuration=values["configuration"],
        set=keyword_settings(document, (*path, "set"), values["set"], problems),
        threads=values["threads"],
        memory_mb=values["memory_mb"],
        time_s=values["time_s"],
        on_bad_exposure=values["on_bad_exposure"],
        least=values["least"],
        kinds=_kinds(document, path, values["kind"], problems),
        calibrate=_calibrate(document, path, problems) if values["calibrate"] is not None else Calibrate(),
    )


def _kinds(
    document: Document, path: tuple[str | int, ...], said: str | list[str], problems: list[Problem]
) -> tuple[str, ...]:
    kinds = (said,) if isinstance(said, str) else tuple(said)
    for word in kinds:
        if word not in (*TYPES, *MASTERS):
            mend = nearest(word, TYPES) or f"Known: {', '.join((*TYPES, *MASTERS))}."
            problems.append(document.problem((*path, "kind"), f"there is no type {shown(word)} of exposures.", mend))
    return kinds


def _calibrate(document: Document, path: tuple[str | int, ...], problems: list[Problem]) -> Calibrate:
    values = checked(document, CALIBRATE_KEYS, (*path, "calibrate"), problems)
    for key, known in (("needs", CALIBRATIONS), ("same", tuple(GATHER_FIELDS))):
        for word in values[key]:
            if word not in known:
                mend = nearest(word, known) or f"Known: {', '.join(known)}."
                problems.append(document.problem((*path, "calibrate"), f'"{key}" cannot hold {shown(word)}.', mend))
    return Calibrate(tuple(values["needs"]), tuple(values["same"]), values["within_days"])


def _widen(document: Document, path: tuple[str | int, ...], problems: list[Problem]) -> Widen:
    values = checked(document, WIDEN_KEYS, (*path, "widen"), problems)
    for word in values["same"]:
        if word not in GATHER_FIELDS:
            mend = nearest(word, GATHER_FIELDS) or f"Known: {', '.join(GATHER_FIELDS)}."
            problems.append(document.problem((*path, "widen"), f'"same" cannot hold {shown(word)}.', mend))
    return Widen(values["within_deg"], tuple(values["same"]), values["grade"], values["within_days"])


def keyword_settings(
    document: Document, path: tuple[str | int, ...], table: Mapping[str, Any], problems: list[Problem]
) -> dict[str, str]:
    """Keywords set in TOML as the tools write them: texts, numbers, yes/no as Y/N, lists joined by commas."""
    settings: dict[str, str] = {}
    for keyword, value in table.items():
        try:
            text = _tool_value(value)
        except ValueError:
            what = f"{shown(keyword)} must be a text, a number, true, false, or a list of these."
            problems.append(document.problem((*path, keyword), what, f'For example: {keyword[:40]} = "value"'))
            continue
        if keyword.upper() in settings:
            problems.append(document.problem((*path, keyword), f"{keyword} is set twice.", "Keep one of them."))
        settings[keyword.upper()] = text
    return settings


def _tool_value(value: Any) -> str:
    if isinstance(value, bool):
        return "Y" if value else "N"
    if isinstance(value, str | int | float):
        return str(value)
    if isinstance(value, list) and not any(isinstance(item, list | dict) for item in value):
        return ",".join(_tool_value(item) for item in value)
    raise ValueError


COMPARE: dict[type, Callable[[Any, Any], bool]] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
}


def condition(text: str) -> Callable[[Any], bool]:
    """A condition such as `seeing < 0.9 and grade <= 'B'` as a function of an exposure.

    Columns are compared with numbers or texts, joined by and, or, not, and parentheses; nothing else is understood.
    An exposure whose value is unknown does not fulfil a comparison. Raises ValueError saying what is wrong.
    """
    refusal = f"{shown(text)} is not a condition. For example: \"seeing < 0.9 and filter == 'r'\"."
    if len(text) > MOST_CONDITION:
        raise ValueError(f"the condition is longer than {MOST_CONDITION} characters.")
    try:
        tree = ast.parse(text.strip(), mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise ValueError(refusal) from None
    try:
        return _compiled(tree.body)
    except RecursionError:
        raise ValueError(refusal) from None


def _compiled(node: ast.AST) -> Callable[[Any], bool]:
    if isinstance(node, ast.BoolOp):
        parts = [_compiled(part) for part in node.values]
        every = isinstance(node.op, ast.And)
        return lambda exposure: (all if every else any)(part(exposure) for part in parts)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        inner = _compiled(node.operand)
        return lambda exposure: not inner(exposure)
    if isinstance(node, ast.Compare):
        return _comparison(node)
    raise ValueError(f"{shown(ast.unparse(node))} is not a comparison of a column.")


def _comparison(node: ast.Compare) -> Callable[[Any], bool]:
    sides = [node.left, *node.comparators]
    kinds = [_kind(side) for side in sides]
    for (one, kind), (other, its) in pairwise(zip(sides, kinds, strict=True)):
        if kind != its:
            raise ValueError(f"{ast.unparse(one)} is a {kind} and {ast.unparse(other)} is a {its}.")
    if any(type(op) not in COMPARE for op in node.ops):
        raise ValueError("only <, <=, >, >=, == and != compare.")
    compares = [COMPARE[type(op)] for op in node.ops]
    values = [_value(side) for side in sides]
    return lambda exposure: _holds(compares, [value(exposure) for value in values])


def _kind(node: ast.AST) -> str:
    """ "number" or "text"."""
    if isinstance(node, ast.Name):
        if node.id not in CONDITION_FIELDS:
            mend = nearest(node.id, CONDITION_FIELDS) or f"Known: {', '.join(CONDITION_FIELDS)}."
            raise ValueError(f"unknown column {shown(node.id)}. {mend}")
        return CONDITION_FIELDS[node.id]
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub) and _is_number(node.operand):
        return "number"
    if _is_number(node):
        return "number"
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return "text"
    raise ValueError(f"{shown(ast.unparse(node))} is neither a column nor a value.")


def _is_number(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and type(node.value) in (int, float)


def _value(node: ast.AST) -> Callable[[Any], Any]:
    """Of a node that _kind knows."""
    if isinstance(node, ast.Name):
        return operator.attrgetter(node.id)
    constant = ast.literal_eval(node)  # type: ignore[arg-type]
    return lambda exposure: constant


def _holds(compares: list[Callable[[Any, Any], bool]], values: list[Any]) -> bool:
    if any(value is None or value == "" for value in values):
        return False
    return all(compare(a, b) for compare, (a, b) in zip(compares, pairwise(values), strict=True))

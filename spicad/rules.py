"""Rules files: which tasks run, how exposures are gathered, selected and widened, within what limits.

A Rules value says what is wanted; what comes of it for given exposures is decided in plan.py.
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from spicad.schema import REQUIRED, Document, Key, checked, read_toml
from spicad.words import BadInput, Problem, nearest

GATHER_FIELDS = {
    "filter": "filter",
    "object": "object",
    "run": "runid",
    "instrument": "instrument",
}
CONDITION_FIELDS = (
    "instrument", "filter", "object", "runid", "t_exptime", "airmass", "mjd",
    "s_ra", "s_dec", "seeing", "grade", "size",
)  # fmt: skip
GRADES = ("A", "B", "C", "D")

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
        "Run once for all exposures that share these: filter, object, run, instrument; or all",
    ),
    Key("select", "text", "", "Only exposures for which this condition holds"),
    Key("widen", "table", {}, "Further exposures for this task alone"),
    Key("configuration", "text", "", "Name of the configuration unless the job names another"),
    Key("set", "table", {}, "Single keywords, on top of the configuration"),
    Key("threads", "integer", 0, "Threads of a step; 0: what the application asks for", minimum=0, maximum=256),
    Key("memory_mb", "integer", 0, "Memory of a step, MiB; 0: what the application asks for", minimum=0),
    Key("time_s", "number", 0, "Seconds a step may take; 0: what the application asks for", minimum=0),
    Key(
        "on_bad_exposure",
        "text",
        "drop",
        "When one exposure fails: go on without it, or end in error",
        choices=("drop", "stop"),
    ),
    Key("least", "integer", 1, "Fewest exposures that this task makes sense with", minimum=1),
)
WIDEN_KEYS = (
    Key("within_deg", "number", 1.0, "Farthest from any chosen exposure, degrees", minimum=0, maximum=180),
    Key("same", "list of texts", ["instrument", "filter"], "What must be the same as a chosen exposure's"),
    Key("grade", "text", "", "Worst grade taken; ungraded exposures pass", choices=("", *GRADES)),
)


@dataclass(frozen=True)
class Widen:
    within_deg: float
    same: tuple[str, ...]
    grade: str = ""


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
        problems.append(document.problem(path, f"the task {values['application']} {what}"))
    for word in values["gather"]:
        if word not in GATHER_FIELDS and word != "all":
            known = (*GATHER_FIELDS, "all")
            mend = nearest(word, known) or f"Known: {', '.join(known)}."
            problems.append(document.problem((*path, "gather"), f'cannot gather by "{word}".', mend))
    if values["select"]:
        try:
            condition(values["select"])
        except ValueError as error:
            problems.append(document.problem((*path, "select"), f"select: {error}"))
    return Task(
        application=values["application"],
        gather=tuple(values["gather"]),
        select=values["select"],
        widen=_widen(document, path, problems) if values["widen"] else None,
        configuration=values["configuration"],
        set={keyword: str(value) for keyword, value in values["set"].items()},
        threads=values["threads"],
        memory_mb=values["memory_mb"],
        time_s=values["time_s"],
        on_bad_exposure=values["on_bad_exposure"],
        least=values["least"],
    )


def _widen(document: Document, path: tuple[str | int, ...], problems: list[Problem]) -> Widen:
    values = checked(document, WIDEN_KEYS, (*path, "widen"), problems)
    for word in values["same"]:
        if word not in GATHER_FIELDS:
            mend = nearest(word, GATHER_FIELDS) or f"Known: {', '.join(GATHER_FIELDS)}."
            problems.append(document.problem((*path, "widen"), f'"same" cannot hold "{word}".', mend))
    return Widen(values["within_deg"], tuple(values["same"]), values["grade"])


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
    try:
        tree = ast.parse(text, mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise ValueError(f"{text!r} is not a condition. For example: \"seeing < 0.9 and filter == 'r'\".") from None
    return _compiled(tree.body)


def _compiled(node: ast.AST) -> Callable[[Any], bool]:
    if isinstance(node, ast.BoolOp):
        parts = [_compiled(part) for part in node.values]
        every = isinstance(node.op, ast.And)
        return lambda exposure: (all if every else any)(part(exposure) for part in parts)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        inner = _compiled(node.operand)
        return lambda exposure: not inner(exposure)
    if isinstance(node, ast.Compare):
        values = [_value(part) for part in (node.left, *node.comparators)]
        for kind in node.ops:
            if type(kind) not in COMPARE:
                raise ValueError("only <, <=, >, >=, == and != compare.")
        compares = [COMPARE[type(kind)] for kind in node.ops]
        return lambda exposure: _holds(compares, [value(exposure) for value in values])
    raise ValueError(f"{ast.unparse(node)!r} is not a comparison of a column.")


def _value(node: ast.AST) -> Callable[[Any], Any]:
    if isinstance(node, ast.Name):
        if node.id not in CONDITION_FIELDS:
            mend = nearest(node.id, CONDITION_FIELDS) or f"Known: {', '.join(CONDITION_FIELDS)}."
            raise ValueError(f'unknown column "{node.id}". {mend}')
        name = node.id
        return lambda exposure: getattr(exposure, name)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub) and isinstance(node.operand, ast.Constant):
        negative = -node.operand.value  # type: ignore[operator]
        return lambda exposure: negative
    if isinstance(node, ast.Constant) and isinstance(node.value, str | int | float):
        constant = node.value
        return lambda exposure: constant
    raise ValueError(f"{ast.unparse(node)!r} is neither a column nor a value.")


def _holds(compares: list[Callable[[Any, Any], bool]], values: list[Any]) -> bool:
    if any(value is None or value == "" for value in values):
        return False
    try:
        return all(compare(a, b) for compare, a, b in zip(compares, values, values[1:], strict=False))
    except TypeError:  # a text beside a number
        return False

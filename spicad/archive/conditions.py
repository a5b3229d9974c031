"""Conditions such as `seeing < 0.9 and grade <= 'B'` as SQL over the archive's columns, with the same meaning.

What may be written is told by rules.condition, which judges one exposure at a time.
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable
from functools import reduce
from itertools import pairwise
from typing import Any

import peewee

from spicad.rules import CONDITION_FIELDS, condition
from spicad.tables import Exposure

COLUMNS: dict[str, Any] = {  # by the words of rules and job files
    "instrument": Exposure.instrument_name,
    "filter": Exposure.filter,
    "object": Exposure.target_name,
    "runid": Exposure.runid,
    "t_exptime": Exposure.t_exptime,
    "airmass": Exposure.airmass,
    "mjd": Exposure.t_min,
    "s_ra": Exposure.s_ra,
    "s_dec": Exposure.s_dec,
    "seeing": Exposure.seeing,
    "elongation": Exposure.elongation,
    "background": Exposure.background,
    "limiting_magnitude": Exposure.limiting_magnitude,
    "stars": Exposure.stars,
    "grade": Exposure.grade,
    "graded_by": Exposure.graded_by,
    "size": Exposure.bytes,
}
NEVER, ALWAYS = peewee.SQL("(1 = 0)"), peewee.SQL("(1 = 1)")
COMPARE: dict[type, Callable[[Any, Any], Any]] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
}


def where(text: str) -> Any:
    """An expression for peewee's where(). Raises ValueError saying what is wrong with the text."""
    condition(text)
    return _expression(ast.parse(text.strip(), mode="eval").body)


def _expression(node: ast.AST) -> Any:
    if isinstance(node, ast.BoolOp):
        join = operator.and_ if isinstance(node.op, ast.And) else operator.or_
        return reduce(join, [_expression(part) for part in node.values])
    if isinstance(node, ast.UnaryOp):
        return ~_expression(node.operand)
    assert isinstance(node, ast.Compare)
    return _comparison(node)


def _comparison(node: ast.Compare) -> Any:
    """False where a value is unknown, so that `not` turns it into true, as in rules."""
    sides = [node.left, *node.comparators]
    if any(isinstance(side, ast.Constant) and side.value == "" for side in sides):
        return peewee.Expression(NEVER, peewee.OP.AND, ALWAYS)
    known = [_is_known(side.id) for side in sides if isinstance(side, ast.Name)]
    held = [
        _compared(COMPARE[type(op)], one, other) for op, (one, other) in zip(node.ops, pairwise(sides), strict=True)
    ]
    return reduce(operator.and_, [*known, *held])


def _is_known(name: str) -> Any:
    column = COLUMNS[name]
    return column != "" if CONDITION_FIELDS[name] == "text" else column.is_null(False)


def _compared(compare: Callable[[Any, Any], Any], one: ast.AST, other: ast.AST) -> Any:
    left, right = _side(one), _side(other)
    if not isinstance(one, ast.Name) and not isinstance(other, ast.Name):
        return peewee.Expression(ALWAYS if compare(left, right) else NEVER, peewee.OP.AND, ALWAYS)
    if not isinstance(one, ast.Name):  # peewee's operators stand on its columns
        return compare(peewee.Value(left), right)
    return compare(left, right)


def _side(node: ast.AST) -> Any:
    return COLUMNS[node.id] if isinstance(node, ast.Name) else ast.literal_eval(node)  # type: ignore[arg-type]

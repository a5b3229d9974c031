"""Drafts of processes: what was filled in so far, kept in the tables.

A draft gets its processid when the daemon has taken its job file; what stands in that is job_writing.py's affair.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import NamedTuple

from spicad.tables import Draft, private
from spicad.words import BadInput, Problem

CLAIMED = "being handed over"
MOST_DRAFTS = 100  # of one account
KEYWORDS_TEXT = 8000
KEEP_S = 30 * 86_400.0  # of one that was handed over


@dataclass(frozen=True)
class Recipe:
    """What the steps of a new process have filled in; all as typed, checked when it is looked over."""

    name: str = ""
    exposures: tuple[str, ...] = ()
    calibration: tuple[str, ...] = ()
    weight: str = "auto"
    reference: str = ""
    rules: str = ""
    configuration: Mapping[str, str] = field(default_factory=dict)  # application: "#12" of the tables, or a name
    keywords: Mapping[str, str] = field(default_factory=dict)  # application: lines KEYWORD value
    mail: str = ""
    copied_from: str = ""  # 12.1


@dataclass(frozen=True)
class Kept:
    """A draft as it lies in the tables."""

    id: int
    account: int
    name: str
    changed: float
    recipe: Recipe
    handed_over: str = ""  # the token, once it was; see handing.py


class Listed(NamedTuple):
    """What lists show of a draft."""

    id: int
    name: str
    changed: float


def begun(account: int, recipe: Recipe, now: float) -> int:
    """Raises BadInput when there are too many."""
    Draft.delete().where((Draft.handed_over != "") & (Draft.changed < now - KEEP_S)).execute()
    if Draft.select().where((Draft.account == account) & (Draft.handed_over == "")).count() >= MOST_DRAFTS:
        raise BadInput(Problem("drafts", f"you have {MOST_DRAFTS} already.", "Throw some away first."))
    made: Draft = Draft.create(account=account, name=recipe.name, recipe=_words(recipe), made=now, changed=now)
    return int(made.id)


def draft(number: int, account: int) -> Kept | None:
    row = Draft.get_or_none((Draft.id == number) & (Draft.account == account))
    return _kept(row) if row else None


def all_of(account: int) -> list[Listed]:
    """Those that are not handed over, the last changed first."""
    mark = private.param
    statement = (
        f"SELECT id, name, changed FROM draft WHERE account = {mark} AND handed_over = '' "  # noqa: S608
        f"ORDER BY changed DESC LIMIT {MOST_DRAFTS}"
    )
    return [Listed(*row) for row in private.execute_sql(statement, (account,)).fetchall()]


def kept(number: int, recipe: Recipe, now: float) -> None:
    Draft.update(name=recipe.name, recipe=_words(recipe), changed=now).where(Draft.id == number).execute()


def is_claimed(number: int, now: float) -> bool:
    """Whether this request is the one that hands it over: two clicks on Run make one process."""
    free = (Draft.id == number) & (Draft.handed_over == "")
    return bool(Draft.update(handed_over=CLAIMED, changed=now).where(free).execute())


def is_known_as(number: int, token: str) -> None:
    """The token to ask what became of it."""
    Draft.update(handed_over=token).where(Draft.id == number).execute()


def was_refused(number: int) -> None:
    """It can be mended and handed over again."""
    Draft.update(handed_over="").where(Draft.id == number).execute()


def thrown_away(number: int) -> None:
    Draft.delete().where(Draft.id == number).execute()


def _kept(row: Draft) -> Kept:
    known = {each.name for each in fields(Recipe)}
    said = {name: value for name, value in json.loads(row.recipe).items() if name in known}
    lists = {name: tuple(said.get(name, ())) for name in ("exposures", "calibration")}
    return Kept(row.id, row.account, row.name, row.changed, Recipe(**{**said, **lists}), row.handed_over)


def _words(recipe: Recipe) -> str:
    return json.dumps(asdict(recipe), ensure_ascii=False)

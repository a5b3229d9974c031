"""Saved selections of exposures, shared with a group, merged, subtracted; and tags.

Who may do what is asked of people.may. What is in a selection is fixed when it is saved: it is a list, not a search.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import peewee

from spicad import people, rows
from spicad.people import Person, Thing
from spicad.schema import shown
from spicad.tables import Exposure, Selected, Selection, Tagged, database
from spicad.words import BadInput, Problem, SpicaError, nearest

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,99}")
MOST_IN_AN_ORDER = 20_000  # the daemon saves them between two looks
TAG = re.compile(r"[\w.+-]{1,64}")


@dataclass(frozen=True)
class Saved:
    number: int
    name: str
    owner: str
    group: str
    is_shared: bool
    words: str
    changed: float
    count: int


def may(actor: Person, verb: str, selection: Selection) -> bool:
    thing = Thing("selection", str(selection.owner), str(selection.group), is_shared=bool(selection.is_shared))
    return people.may(actor, verb, thing)


def visible(actor: Person) -> list[Saved]:
    """What `actor` may see, own ones first, then by owner and name."""
    counts: Any = Selected.select(Selected.selection, peewee.fn.COUNT(Selected.exposure)).group_by(Selected.selection)
    counted = dict(counts.tuples())
    seen = [each for each in Selection.select() if may(actor, "see", each)]
    seen.sort(key=lambda each: (each.owner != actor.user, each.owner, each.name))
    return [
        Saved(
            each.id,
            each.name,
            each.owner,
            each.group,
            each.is_shared,
            each.words,
            each.changed,
            counted.get(each.id, 0),
        )
        for each in seen
    ]


def find(actor: Person, name: str, verb: str = "see") -> Selection:
    """By "name" (one's own before others') or "owner/name". What may not be seen is as unknown as what is not there."""
    owner, slash, plain = name.rpartition("/")
    query: Any = Selection.select().where(Selection.name == plain)
    found = [each for each in query if (not slash or each.owner == owner) and may(actor, "see", each)]
    found.sort(key=lambda each: each.owner != actor.user)
    if not found:
        known = [f"{each.owner}/{each.name}" if slash else each.name for each in visible(actor)]
        mend = nearest(name, known) or "See: spica selection list"
        raise BadInput(Problem("selection", f"there is no selection {shown(name)}.", mend))
    if found[0].owner != actor.user and len(found) > 1:
        owners = ", ".join(f"{each.owner}/{plain}" for each in found)
        raise BadInput(
            Problem("selection", f"several people have a selection {shown(plain)}.", f"Write one of {owners}.")
        )
    if not may(actor, verb, found[0]):
        what = f"the selection {shown(plain)} belongs to {found[0].owner}."
        raise BadInput(Problem("selection", what, "Save one of your own that holds it: spica selection merge"))
    return found[0]  # type: ignore[no-any-return]


def exposures_of(selection: Selection) -> list[int]:
    query: Any = (
        Selected.select(Selected.exposure).where(Selected.selection == selection.id).order_by(Selected.exposure)
    )
    return [number for (number,) in query.tuples()]


def save(
    actor: Person,
    name: str,
    exposures: Iterable[int],
    words: str = "",
    is_shared: bool = False,
    replaces: bool = False,
    is_retried: bool = False,
) -> int:
    """A selection of `actor`'s own; its number. One of that name is replaced only with `replaces`.

    With `is_retried` one that holds these exposures already is as good as saved.
    """
    listed = sorted(set(exposures))
    if not NAME.fullmatch(name):
        mend = "Use letters, digits and . _ + -, at most 100."
        raise BadInput(Problem("selection", f"{shown(name)} cannot be the name of a selection.", mend))
    with database.atomic():
        there = Selection.get_or_none((Selection.owner == actor.user) & (Selection.name == name))
        if there is not None and is_retried and exposures_of(there) == listed:
            return int(there.id)
        if there is not None and not replaces:
            mend = "Take another name, or replace it: --replace"
            raise BadInput(Problem("selection", f"you have a selection {shown(name)} already.", mend))
        if there is not None:
            _empty(there.id)
            values = {"words": words or there.words, "is_shared": is_shared or there.is_shared, "changed": time.time()}
            rows.update(Selection, {"id": there.id}, **values)
        number = (
            there.id
            if there is not None
            else Selection.insert(
                name=name, owner=actor.user, group=actor.group, is_shared=is_shared, words=words, changed=time.time()
            ).execute()
        )
        rows.insert_many(Selected, [{"selection": number, "exposure": each} for each in listed])
    return int(number)


def as_ranges(numbers: Iterable[int]) -> str:
    """As 1-3,7; what `from_ranges` reads."""
    runs: list[list[int]] = []
    for number in sorted(set(numbers)):
        if runs and runs[-1][1] + 1 == number:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in runs)


def from_ranges(text: str) -> list[int]:
    """The numbers of exposures that are there. Raises BadInput when these are no numbers, or too many."""
    found: list[int] = []
    for word in text.split(","):
        run = re.fullmatch(r" *([0-9]{1,15})(?:-([0-9]{1,15}))? *", word)
        first, last = (int(run[1]), int(run[2] or run[1])) if run else (1, 0)
        if first > last or len(found) + last - first >= MOST_IN_AN_ORDER:
            what = f"{shown(word)} are no numbers of exposures such as 12,40-55, or more than {MOST_IN_AN_ORDER}."
            raise BadInput(Problem("exposures", what))
        found += range(first, last + 1)
    known: list[int] = []
    for start in range(0, len(found), 500):
        query: Any = Exposure.select(Exposure.id).where(Exposure.id.in_(found[start : start + 500]))
        known += [number for (number,) in query.tuples()]
    return sorted(known)


def merged(actor: Person, names: Sequence[str]) -> list[int]:
    """The exposures that are in any of them."""
    return sorted({number for name in names for number in exposures_of(find(actor, name))})


def subtracted(actor: Person, name: str, others: Sequence[str]) -> list[int]:
    """The exposures of the first that are in none of the others."""
    return sorted(set(exposures_of(find(actor, name))) - set(merged(actor, others)))


def share(actor: Person, name: str, is_shared: bool = True) -> None:
    selection = find(actor, name, "share")
    rows.update(Selection, {"id": selection.id}, is_shared=is_shared, changed=time.time())


def delete(actor: Person, name: str) -> None:
    selection = find(actor, name, "delete")
    with database.atomic():
        _empty(selection.id)
        rows.delete(Selection, id=selection.id)


def _empty(number: int) -> None:
    rows.delete(Selected, selection=number)


# Tags: words for everybody


def tag(actor: Person, word: str, exposures: Iterable[int]) -> int:
    """How many exposures did not have it before."""
    if not TAG.fullmatch(word):
        raise BadInput(
            Problem("tag", f"{shown(word)} cannot be a tag.", "Use letters, digits and . _ + -, at most 64.")
        )
    if not people.may(actor, "tag", Thing("archive")):
        raise SpicaError("you may not tag exposures.")
    wanted = set(exposures)
    with database.atomic():
        new = sorted(wanted - {number for number, _ in _having(word, wanted)})
        now = time.time()
        rows.insert_many(Tagged, [{"tag": word, "exposure": each, "who": actor.user, "time": now} for each in new])
    return len(new)


def untag(actor: Person, word: str, exposures: Iterable[int]) -> int:
    """Takes away what `actor` put there, or anybody's for who administers; how many."""
    gone = 0
    with database.atomic():
        for number, who in _having(word, exposures):
            if people.may(actor, "untag", Thing("tag", who)):
                gone += rows.delete(Tagged, tag=word, exposure=number)
    return gone


def _having(word: str, exposures: Iterable[int]) -> list[tuple[int, str]]:
    """Which of the exposures have the tag, and by whom; a tag may be on a million others."""
    wanted = sorted(set(exposures))
    found: list[tuple[int, str]] = []
    for start in range(0, len(wanted), 500):
        is_one = (Tagged.tag == word) & Tagged.exposure.in_(wanted[start : start + 500])
        query: Any = Tagged.select(Tagged.exposure, Tagged.who).where(is_one)
        found.extend(query.tuples())
    return found


def tags() -> dict[str, int]:
    """How many exposures have each."""
    query: Any = Tagged.select(Tagged.tag, peewee.fn.COUNT(Tagged.exposure)).group_by(Tagged.tag).order_by(Tagged.tag)
    return dict(query.tuples())


def tags_of(exposures: Sequence[int]) -> dict[int, list[str]]:
    found: dict[int, list[str]] = {}
    for start in range(0, len(exposures), 500):
        query: Any = Tagged.select().where(Tagged.exposure.in_(exposures[start : start + 500])).order_by(Tagged.tag)
        for each in query:
            found.setdefault(each.exposure, []).append(each.tag)
    return found

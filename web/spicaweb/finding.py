"""The archive's search as a form says it: fields of an address into what to look for, and back into links.

The search itself is spicad/archive/search.py's; what is done with what is found is the pages'.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import peewee

from spicad.archive import coordinates, search, selections
from spicad.archive.search import Range, Wanted
from spicad.people import Person
from spicad.rules import GRADES
from spicad.tables import Exposure
from spicad.words import BadInput, Problem, SpicaError

PER_PAGE = 100
MOST_ON_MAP = 500
FACETS = ("instrument", "filter", "runid", "object", "grade")
LISTS = {"filter": "filters", "instrument": "instruments", "runid": "runids", "object": "objects", "name": "names",
         "tag": "tags"}  # fmt: skip
FIELDS = (
    "place", "radius", *LISTS, "selection", "after", "before", "exptime_from", "exptime_to", "airmass_to", "seeing_to",
    "grade", "ungraded", "where", "sort", "page",
)  # fmt: skip
MOST_WORDS = 500
AT_ONCE = 500  # values of one statement


@dataclass(frozen=True)
class Question:
    """What the fields say, as typed."""

    said: Mapping[str, str]

    def __getitem__(self, name: str) -> str:
        return self.said.get(name, "")

    @property
    def is_empty(self) -> bool:
        return not any(value for name, value in self.said.items() if name not in ("sort", "page", "radius"))

    @property
    def page(self) -> int:
        at = self["page"]
        return min(max(int(at), 1), 10**6) if at.isascii() and at.isdecimal() else 1

    @property
    def sort(self) -> str:
        return self["sort"] if self["sort"].removeprefix("-") in search.SORTS else "mjd"

    def fields(self, **changes: Any) -> dict[str, Any]:
        """For a link to the same search, changed."""
        return {name: value for name, value in {**self.said, **changes}.items() if value not in ("", None)}

    def wanted(self, actor: Person) -> Wanted:
        """Raises BadInput with all that cannot be understood."""
        problems: list[Problem] = []
        made = {
            "place": _tried(problems, lambda: _place(self["place"], self["radius"])),
            "selections": _tried(problems, lambda: _selections(self["selection"], actor)) or (),
            "mjd": Range(_mjd(problems, "after", self["after"]), _mjd(problems, "before", self["before"], True)),
            "t_exptime": Range(self._number(problems, "exptime_from"), self._number(problems, "exptime_to")),
            "airmass": Range(None, self._number(problems, "airmass_to")),
            "seeing": Range(None, self._number(problems, "seeing_to")),
            **{attribute: _words(self[name]) for name, attribute in LISTS.items()},
        }
        if problems:
            raise BadInput(problems)
        grade = self["grade"] if self["grade"] in GRADES else ""
        return Wanted(grade=grade, is_ungraded_taken=self["ungraded"] == "1", condition=self["where"], **made)

    def _number(self, problems: list[Problem], name: str) -> float | None:
        try:
            return float(self[name]) if self[name] else None
        except ValueError:
            problems.append(Problem(name.partition("_")[0], f"{self[name]!r} is not a number."))
            return None


def _tried(problems: list[Problem], make: Any) -> Any:
    try:
        return make()
    except BadInput as error:
        problems += error.problems
    except SpicaError as error:
        problems.append(Problem("archive", str(error)))
    return None


def _place(words: str, radius: str) -> Any:
    return search.place(words, radius or "0") if words else None


def _selections(words: str, actor: Person) -> tuple[int, ...]:
    return tuple(int(selections.find(actor, name).id) for name in _words(words))


def _mjd(problems: list[Problem], name: str, words: str, is_end: bool = False) -> float | None:
    try:
        return coordinates.mjd(words, is_end) if words else None
    except ValueError as error:
        problems.append(Problem(name, str(error)))
        return None


def _words(text: str) -> tuple[str, ...]:
    """Between commas, so that names may hold blanks."""
    return tuple(word.strip() for word in text.split(",") if word.strip())


def names_of(numbers: Sequence[int]) -> list[str]:
    """What a job file calls these exposures: by name where that is one exposure's alone, else by path."""
    found: list[tuple[str, str]] = []
    shared: set[str] = set()
    for start in range(0, len(numbers), AT_ONCE):
        query: Any = Exposure.select(Exposure.name, Exposure.path).where(
            Exposure.id.in_(list(numbers[start : start + AT_ONCE]))
        )
        some = list(query.order_by(Exposure.id).tuples())
        counted: Any = Exposure.select(Exposure.name).where(Exposure.name.in_([name for name, _ in some]))
        counts = counted.group_by(Exposure.name).having(peewee.fn.COUNT(Exposure.id) > 1)
        shared |= {name for (name,) in counts.tuples()}
        found += some
    return [path if name in shared else name for name, path in found]

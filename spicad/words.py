"""The words of Spica: phases, ranks, step states, and the errors that tell a person what to mend.

Everything else imports from here; this file imports nothing of Spica.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum, StrEnum


class Phase(StrEnum):
    """Where a process stands, in the words of the IVOA's Universal Worker Service 1.1 (section 2.1.3)."""

    PENDING = "PENDING"  # a draft, not handed over yet
    QUEUED = "QUEUED"
    EXECUTING = "EXECUTING"
    HELD = "HELD"
    COMPLETED = "COMPLETED"
    ERROR = "ERROR"
    ABORTED = "ABORTED"
    ARCHIVED = "ARCHIVED"  # products gone, recipe kept

    @property
    def folder(self) -> str:
        """The spool folder of this phase."""
        return self.value.lower()

    @property
    def is_over(self) -> bool:
        return self in ENDED


ENDED = frozenset({Phase.COMPLETED, Phase.ERROR, Phase.ABORTED, Phase.ARCHIVED})
IN_SPOOL = (Phase.QUEUED, Phase.EXECUTING, Phase.HELD, Phase.COMPLETED, Phase.ERROR, Phase.ABORTED)


class Rank(IntEnum):
    """Who goes first. It comes from the account or the kernel's uid, never from a file's words."""

    USER = 0
    GROUP_ADMINISTRATOR = 1
    ADMINISTRATOR = 2
    PIPELINE = 3

    @property
    def words(self) -> str:
        return self.name.lower().replace("_", " ")


class StepState(StrEnum):
    WAITING = "waiting"
    RUNNING = "running"
    DONE = "done"
    REUSED = "reused"
    FAILED = "failed"
    SKIPPED = "skipped"  # an exposure it needed was dropped, or the run ended first


class Ending(StrEnum):
    """The three ways an attempt ends."""

    DONE = "done"
    TRY_AGAIN = "try again"
    NEVER_AGAIN = "never again"


CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f]")  # shown, not obeyed


def visible(text: str) -> str:
    """Control characters but tabs and line ends as \\x1b and the like: no terminal acts on them."""
    return CONTROL.sub(lambda found: repr(found[0])[1:-1], text)


def printable(text: str) -> str:
    """On one line: what cannot be printed, line ends and bytes that are no text too, as \\n or \\udce9."""
    return text if text.isprintable() else "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


class SpicaError(Exception):
    """An error whose text is written for the person who meets it. No traceback is shown for it."""

    def __str__(self) -> str:
        return visible(super().__str__())


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong in something a person wrote: where, what, and the mend."""

    source: str
    what: str
    mend: str = ""
    line: int | None = None

    def __str__(self) -> str:
        where = self.source if self.line is None else f"{self.source}, line {self.line}"
        text = f"{where}: {self.what}" + (f" {self.mend}" if self.mend else "")
        return visible(text)


class BadInput(SpicaError):
    """Something a person wrote cannot be taken; `problems` says all that is wrong with it, not the first thing only."""

    def __init__(self, problems: Problem | Iterable[Problem]) -> None:
        self.problems = (problems,) if isinstance(problems, Problem) else tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


def nearest(word: str, known: Iterable[str]) -> str:
    """'Did you mean "exposures"?' when one of `known` is close to `word`, else ''."""
    by_lower = {name.lower(): name for name in known}
    close = difflib.get_close_matches(word.lower(), by_lower, n=1, cutoff=0.6)
    return f'Did you mean "{by_lower[close[0]]}"?' if close else ""

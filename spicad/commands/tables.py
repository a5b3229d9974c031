"""How sub-commands read the tables: read-only, and which processes are meant by what a person typed."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from spicad import tables
from spicad.commands import NothingFound
from spicad.config import Settings
from spicad.tables import Process, Step
from spicad.words import BadInput, Problem, SpicaError

MOST_AT_ONCE = 10_000
LARGEST = 2**31 - 1  # what an INTEGER column of MySQL holds


@contextmanager
def open_tables(settings: Settings) -> Iterator[None]:
    """Read-only. Raises SpicaError when there is no database, it may not be read, or it is of another version."""
    _require_readable(settings.database.url)
    opened = tables.connect_to_read(settings.database)
    try:
        tables.require_current()
        yield
    finally:
        opened.close()


@contextmanager
def change_tables(
    settings: Settings, mend: str = "Save selections on the web pages, or ask who runs Spica."
) -> Iterator[None]:
    """Raises SpicaError when the person who runs this may not write to the database."""
    url = settings.database.url
    _require_readable(url)
    if not may_change(settings):
        raise SpicaError(f"{unquote(urlsplit(url).path.removeprefix('/'))}: you may not write to it. {mend}")
    opened = tables.connect(url, settings.database.password_file)
    try:
        tables.require_current()
        yield
    finally:
        opened.close()


def may_change(settings: Settings) -> bool:
    """Whether the person who runs this may write to the database; to a server's, who may read the daemon's password."""
    url, password_file = settings.database.url, settings.database.password_file
    if not url.startswith("sqlite:"):
        return not password_file or os.access(password_file, os.R_OK)
    path = Path(unquote(urlsplit(url).path.removeprefix("/")))
    return path.exists() and os.access(path, os.W_OK) and os.access(path.parent, os.W_OK)


def _require_readable(url: str) -> None:
    if url.startswith("sqlite:"):
        path = Path(unquote(urlsplit(url).path.removeprefix("/")))
        if path.exists() and not os.access(path, os.R_OK):
            raise SpicaError(f"{path}: you may not read it. Its Unix group, {path.group()}, may: ask to be in it.")


def processid(word: str) -> int:
    """12 or 000012. Raises BadInput."""
    if not re.fullmatch(r"0*[1-9][0-9]{0,9}", word) or int(word) > LARGEST:
        raise BadInput(Problem("spica", f"{word!r} is not a processid.", "It is a number such as 12; see: spica list"))
    return int(word)


def row_of(process: int) -> Process:
    """The row; the tables are open. Raises NothingFound."""
    row: Process | None = Process.get_or_none(Process.id == process)
    if row is None:
        raise NothingFound(f"there is no process {process}.")
    return row


def processids(words: Sequence[str]) -> list[int]:
    """Numbers as typed, and of ranges such as 14-20 those that exist, each once; the tables are open."""
    found: dict[int, None] = {}
    for word in words:
        first, dash, last = word.partition("-")
        if not dash:
            found[processid(word)] = None
            continue
        low, high = processid(first), processid(last)
        rows: Any = Process.select(Process.id).where(Process.id.between(low, high)).order_by(Process.id)
        known = [int(each) for (each,) in rows.limit(MOST_AT_ONCE + 1).tuples()]
        if low > high or not known:
            raise NothingFound(f"there is no process in {word}.")
        if len(known) > MOST_AT_ONCE:
            raise BadInput(Problem("spica", f"{word} are more than {MOST_AT_ONCE} processes.", "Ask for fewer."))
        found.update(dict.fromkeys(known))
    return list(found)


def steps_of(process: int, run: int) -> list[dict[str, Any]]:
    """The steps of a run, in order, as the tables have them."""
    query: Any = (
        Step.select(
            Step.number, Step.application, Step.label, Step.state, Step.node, Step.attempt,
            Step.started, Step.ended, Step.why, Step.metrics,
        )
        .where((Step.process == process) & (Step.run == run))
        .order_by(Step.number)
    )  # fmt: skip
    return list(query.dicts())


def step_folder(step: dict[str, Any]) -> str:
    """The name of the step's folder in its capsule."""
    return f"{step['number']:04d}-{step['application']}"

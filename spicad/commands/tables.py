"""How sub-commands read the tables, and how they print what they read: aligned columns, or JSON for programs."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from spicad import tables
from spicad.config import Settings


@contextmanager
def open_tables(settings: Settings) -> Iterator[None]:
    """Read-only. Raises SpicaError when there is no database or it is of another version."""
    opened = tables.connect(settings.database.url, settings.database.password_file, read_only=True)
    try:
        tables.require_current()
        yield
    finally:
        opened.close()


def print_json(value: Any) -> None:
    print(json.dumps(value, indent=2, ensure_ascii=False, default=str))


def print_table(rows: Sequence[Sequence[str]], head: Sequence[str]) -> None:
    widths = [max(len(row[i]) for row in (head, *rows)) for i in range(len(head))]
    print(styled("  ".join(word.ljust(width) for word, width in zip(head, widths, strict=True)).rstrip(), "1"))
    for row in rows:
        print("  ".join(word.ljust(width) for word, width in zip(row, widths, strict=True)).rstrip())


def styled(text: str, code: str) -> str:
    """In colour or bold on a terminal only, and not where NO_COLOR asks for none."""
    if not sys.stdout.isatty() or os.environ.get("NO_COLOR"):
        return text
    return f"\x1b[{code}m{text}\x1b[0m"


def clock(seconds: float | None) -> str:
    return datetime.fromtimestamp(seconds).strftime("%Y-%m-%d %H:%M:%S") if seconds else "-"


def key_figures(figures: Sequence[Sequence[Any]]) -> Mapping[str, str]:
    return {label: f"{value} {unit}".strip() for label, value, unit in figures}

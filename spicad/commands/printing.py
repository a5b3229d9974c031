"""How sub-commands print: aligned columns cut to the terminal, colours only there, JSON for programs.

What is printed comes from tools, file names and other users, so control characters never reach the terminal.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from collections.abc import Collection, Sequence
from datetime import UTC, datetime
from typing import Any

BOLD, GREEN, RED, YELLOW, CYAN, PURPLE = "1", "32", "31", "33", "36", "35"
COLOURS = {
    "COMPLETED": GREEN,
    "ERROR": RED,
    "ABORTED": PURPLE,
    "HELD": YELLOW,
    "EXECUTING": CYAN,
    "done": GREEN,
    "reused": GREEN,
    "failed": RED,
    "running": CYAN,
}
LEAST_LAST_COLUMN = 12


def how_many(text: str) -> int:
    """The type of --limit and the like, for argparse."""
    try:
        count = int(text)
    except ValueError:
        count = -1
    if count < 0:
        raise argparse.ArgumentTypeError(f"{text!r} is no count. Write a whole number from 0 up.")
    return count


def print_json(value: Any) -> None:
    print(json.dumps(value, indent=2, ensure_ascii=False, default=str))


def print_json_line(value: Any) -> None:
    print(json.dumps(value, ensure_ascii=False, default=str), flush=True)


def print_table(rows: Sequence[Sequence[str]], head: Sequence[str], right: Collection[str] = ()) -> None:
    """Columns with the names `right` are aligned to the right; on a terminal the last one is cut to fit."""
    clean = [[one_line(cell) for cell in row] for row in rows]
    widths = [max(len(row[i]) for row in (head, *clean)) for i in range(len(head))]
    if sys.stdout.isatty():
        room = columns() - sum(widths[:-1]) - 2 * (len(widths) - 1)
        widths[-1] = min(widths[-1], max(room, LEAST_LAST_COLUMN))
    print(styled(_line(head, widths, head, right).rstrip(), BOLD))
    for row in clean:
        print(_line(row, widths, head, right, is_coloured=True).rstrip())


def _line(
    row: Sequence[str], widths: Sequence[int], head: Sequence[str], right: Collection[str], is_coloured: bool = False
) -> str:
    cells = []
    for cell, width, name in zip(row, widths, head, strict=True):
        cut = clipped(cell, width)
        padded = cut.rjust(width) if name in right else cut.ljust(width)
        cells.append(styled(padded, COLOURS[cell]) if is_coloured and cell in COLOURS else padded)
    return "  ".join(cells)


def columns() -> int:
    return shutil.get_terminal_size().columns


def clipped(text: str, width: int) -> str:
    return text if len(text) <= width else text[: max(width - 1, 0)] + "…"


def one_line(text: str) -> str:
    """Without line ends and control characters, nor spaces around."""
    return printable_line(text).strip()


def printable_line(text: str) -> str:
    return "".join(c if c.isprintable() else " " for c in text)


def printable(text: str) -> str:
    """Without control characters but line ends."""
    return "\n".join(printable_line(line) for line in text.split("\n"))


def has_colours() -> bool:
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def styled(text: str, code: str) -> str:
    """In colour or bold on a terminal only, and not where NO_COLOR asks for none."""
    return f"\x1b[{code}m{text}\x1b[0m" if has_colours() else text


def coloured(word: str) -> str:
    """A phase or a step's state in its colour."""
    return styled(word, COLOURS[word]) if word in COLOURS else word


def complain(text: str) -> None:
    print(f"spica: {printable(text)}", file=sys.stderr)


def clock(seconds: float | None) -> str:
    """Local time, for people."""
    return datetime.fromtimestamp(seconds).strftime("%Y-%m-%d %H:%M:%S") if seconds else "-"


def iso(seconds: float | None) -> str | None:
    """UTC, for programs."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds") if seconds else None


def took(seconds: float) -> str:
    """'12 s', '3 min 5 s', '2 h 4 min', '3 d 2 h'."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    for unit, word, part, part_word in ((60, "min", 1, "s"), (3600, "h", 60, "min"), (86400, "d", 3600, "h")):
        if whole < unit * {60: 60, 3600: 24, 86400: 1 << 40}[unit]:
            rest = whole % unit // part
            return f"{whole // unit} {word}" + (f" {rest} {part_word}" if rest else "")
    raise AssertionError("unreachable")

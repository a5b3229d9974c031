"""What a tool said at its end: its log without terminal codes and overwritten lines, and its own error lines.

Which of them goes into a report is the caller's choice.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

MAX_LOG = 4 * 1024 * 1024  # of a longer log, the end is read
MAX_WORDS = 5
MAX_LINE = 300
ESCAPE = re.compile(r"\x1b\[(\d*)([A-Za-z])|\x1b[^\[]?")
TROUBLE = re.compile(
    r"error|fatal|cannot|can't|could not|not found|no such|not enough|insufficient|abort|fault|killed|exception"
    r"|no space|quota|unknown|invalid|unable|failed",
    re.IGNORECASE,
)


def plain(log: str) -> list[str]:
    """The lines as a terminal would show them in the end: cursor moves followed, overwritten lines gone."""
    rows = [""]
    row = 0
    for raw in log[-MAX_LOG:].split("\n"):
        at = column = 0
        for code in ESCAPE.finditer(raw):
            rows[row], column = _written(rows[row], column, raw[at : code.start()])
            at = code.end()
            if code[2] == "A":
                row = max(0, row - int(code[1] or 1))
            elif code[2] == "M":
                rows[row], column = "", 0
        rows[row], _ = _written(rows[row], column, raw[at:])
        row += 1
        if row == len(rows):
            rows.append("")
    return [_printable(line) for line in rows]


def last_words(log: str, only_trouble: bool = False) -> tuple[str, ...]:
    """The lines in which the tool names its trouble, else its last lines; at most five."""
    lines = [line.strip().removeprefix("> ").strip() for line in plain(log)]
    spoken = [line[:MAX_LINE] for line in lines if len(line) > 2]
    trouble = [line for line in spoken if TROUBLE.search(line) and "WARNING" not in line.upper()]
    return tuple(list(dict.fromkeys(trouble or ([] if only_trouble else spoken)))[-MAX_WORDS:])


def culprit_in(words: Sequence[str], stems: Sequence[str]) -> str | None:
    """The one exposure that these words name."""
    named = {stem for line in words for stem in stems if re.search(rf"\b{re.escape(stem)}\b", line)}
    return named.pop() if len(named) == 1 else None


def _written(line: str, column: int, text: str) -> tuple[str, int]:
    """The line with `text` written over it from `column` on; a carriage return goes back to its start."""
    for number, part in enumerate(text.split("\r")):
        column = 0 if number else column
        line = line[:column].ljust(column) + part + line[column + len(part) :]
        column += len(part)
    return line, column


def _printable(line: str) -> str:
    return "".join(c if c.isprintable() else " " for c in line).rstrip()

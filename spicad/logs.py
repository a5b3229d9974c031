"""How a line of the log looks: when, how grave, on which node, then which process, run and task, and what happened.

For the journal a line begins with its gravity as <N> instead (sd-daemon(3)), since the journal knows the time.
What is logged is the affair of each part; `about` gives the words that a line about a run begins with.
"""

from __future__ import annotations

import logging
import logging.handlers
import os
import sys
from typing import Protocol

from spicad.words import printable

GRAVITY = {logging.CRITICAL: 2, logging.ERROR: 3, logging.WARNING: 4, logging.INFO: 6, logging.DEBUG: 7}  # of syslog(3)


class _Run(Protocol):
    @property
    def process(self) -> int: ...
    @property
    def number(self) -> int: ...


class _Step(Protocol):
    @property
    def folder(self) -> str: ...


def about(run: _Run, step: _Step | None = None) -> str:
    """'process 12 run 1 003-scamp': the same words in every line, so that grep finds all of a process, run or task."""
    return f"process {run.process} run {run.number}" + (f" {step.folder}" if step else "")


def set_up(level: str, node: str, file: str = "") -> None:
    """Everything goes to standard error; with `file` there, which may be rotated away at any time."""
    handler: logging.Handler = logging.StreamHandler(sys.stderr)
    if file:
        handler = logging.handlers.WatchedFileHandler(file)
    handler.setFormatter(Line(node, is_journal=not file and _is_journal()))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False  # no line tells of these
    set_level(level)
    logging.getLogger("watchdog").setLevel(logging.WARNING)


def set_level(level: str) -> None:
    logging.getLogger().setLevel(level.upper())


def reopen() -> None:
    """After the file was rotated away: what our children write goes to the new one too."""
    for handler in logging.getLogger().handlers:
        if isinstance(handler, logging.handlers.WatchedFileHandler) and not os.isatty(2):
            handler.reopenIfNeeded()
            with open(handler.baseFilename, "ab") as opened:
                for number in (1, 2):
                    os.dup2(opened.fileno(), number)


def _is_journal() -> bool:
    """JOURNAL_STREAM names the device and inode of the journal's socket; it is inherited also where stderr is not."""
    try:
        status = os.fstat(2)
    except OSError:
        return False
    return os.environ.get("JOURNAL_STREAM", "") == f"{status.st_dev}:{status.st_ino}"


class Line(logging.Formatter):
    """One line a record, with what users could put into it escaped; a traceback keeps its lines."""

    def __init__(self, node: str, is_journal: bool) -> None:
        super().__init__("%(message)s" if is_journal else "%(asctime)s %(levelname)s %(message)s")
        self.node, self.is_journal = node, is_journal

    def formatMessage(self, record: logging.LogRecord) -> str:
        record.message = f"{self.node} {printable(record.getMessage())}"
        return super().formatMessage(record)

    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        if not self.is_journal:
            return text
        mark = f"<{GRAVITY.get(record.levelno, 6)}>"
        return "\n".join(mark + line for line in text.split("\n"))

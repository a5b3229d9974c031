"""The text of a report: what an astronomer reads when a process is completed, ended in error, was aborted or is held.

Values in, text out: nothing is looked up here. When it is sent and to whom is the daemon's affair, how, outbox.py's.
"""

from __future__ import annotations

import math
import re
import textwrap
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from spicad.outbox import compose, one_line
from spicad.words import Phase

if TYPE_CHECKING:
    from email.message import EmailMessage

    from spicad.config import Settings

WIDTH = 76
MOST_LINES = 40  # of a list; the rest is counted
MOST_LAST_WORDS = 15
NARROWEST_LABEL = 30  # of a key figure
LAST_WORDS_READ = 16_000  # characters; more is never looked at
ESCAPES = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]"  # colours and cursor, as in ECMA-48
    r"|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)?"  # window titles
    r"|\x1b[ -/]*[0-~]?"
)
CURSOR_UP = re.compile(r"[^\n]*\n\x1b\[\d*A")  # SExtractor, SCAMP and SWarp show progress by overwriting a line


@dataclass(frozen=True)
class Dropped:
    exposure: str
    why: str


@dataclass(frozen=True)
class Figure:
    """A key figure; None stands for what could not be measured."""

    label: str
    value: float | str | None
    unit: str = ""


@dataclass(frozen=True)
class Product:
    path: str  # below the results folder
    size_bytes: int


@dataclass(frozen=True)
class Steps:
    done: int = 0
    reused: int = 0
    failed: int = 0
    skipped: int = 0


@dataclass(frozen=True)
class Failure:
    """Why a process did not get through; of one held or aborted by hand only `why` is known."""

    why: str
    task: str = ""
    last_words: str = ""
    exposure: str = ""
    log: str = ""


@dataclass(frozen=True)
class Report:
    process: int
    name: str
    owner: str
    run: int
    phase: Phase
    rules: str
    submitted: datetime
    started: datetime | None = None
    ended: datetime | None = None
    nodes: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()
    dropped: tuple[Dropped, ...] = ()
    steps: Steps = Steps()
    figures: tuple[Figure, ...] = ()
    products: tuple[Product, ...] = ()
    folder: str = ""
    expiry: datetime | None = None
    failure: Failure | None = None
    warnings: tuple[str, ...] = ()


OUTCOMES = {
    Phase.COMPLETED: "is completed",
    Phase.ERROR: "ended in error",
    Phase.ABORTED: "was aborted",
    Phase.HELD: "is held",
}

NEXT = {
    Phase.COMPLETED: (
        ("spica results {process}", "lists and fetches the products"),
        ("spica show {process}", "shows every step, its figures and its log"),
        ("spica rerun {process}", "runs it again; after a change only what it touches"),
    ),
    Phase.ERROR: (
        ("spica log {process}", "shows the whole log of the step that failed"),
        ("spica show {process}", "shows every step and how it ended"),
        ("spica rerun {process}", "runs it again; finished steps are reused"),
    ),
    Phase.ABORTED: (
        ("spica show {process}", "shows how far it came"),
        ("spica rerun {process}", "runs it again; finished steps are reused"),
    ),
    Phase.HELD: (
        ("spica explain {process}", "says what holds it"),
        ("spica log {process}", "shows the log of the last step"),
        ("spica release {process}", "lets it go on; finished steps are reused"),
        ("spica cancel {process}", "ends it"),
    ),
}


def message(report: Report, settings: Settings, to: str) -> EmailMessage:
    return compose(settings, to, subject(report), text(report, settings.web.address))


def subject(report: Report) -> str:
    task = f" in {_task(report)}" if report.phase is Phase.ERROR and _task(report) else ""
    run = f", run {report.run}" if report.run > 1 else ""
    return f"{_plain(report.name)} {OUTCOMES[report.phase]}{task} (process {report.process}{run})"


def text(report: Report, address: str = "") -> str:
    """The mail's body; `address` is that of the site, for the one link."""
    sections = (
        _outcome(report),
        _failure(report.failure, report.phase),
        _bullets("Please note", report.warnings),
        _figures(report.figures),
        _dropped(report.dropped),
        _products(report),
        _facts(report),
        _next(report, address),
    )
    return "\n\n".join(section for section in sections if section) + "\n"


# Sections


def _outcome(report: Report) -> str:
    run = f", run {report.run}" if report.run > 1 else ""
    return _filled(f"Process {report.process}, {_plain(report.name)}{run}, {OUTCOMES[report.phase]}{_because(report)}.")


def _because(report: Report) -> str:
    total = len(report.kept) + len(report.dropped)
    if report.phase is Phase.COMPLETED:
        went_in = f"{len(report.kept)} of {total} exposures went in" if report.dropped else _count(total, "exposure")
        return f": {went_in}, {_count(len(report.products), 'product')}"
    if not report.failure:
        return ""
    if _task(report):
        culprit = f" on {_plain(report.failure.exposure)}" if report.failure.exposure else ""
        return f": {_task(report)} failed{culprit}"
    return f": {_plain(report.failure.why).rstrip('.')}"


def _failure(failure: Failure | None, phase: Phase) -> str:
    if failure is None:
        return ""
    lines = [_filled(_sentence(failure.why))] if failure.task else []
    if words := last_words(failure.last_words):
        speaker = _plain(failure.task) or "the tool"
        lines += [f"The last words of {speaker}:", *(f"  | {line}" for line in words)]
    if failure.log:
        lines += [_with_path("The whole log:", failure.log)]
    return "\n".join(lines)


def _figures(figures: Sequence[Figure]) -> str:
    if not figures:
        return ""
    labels = [_plain(figure.label) for figure in figures]
    values = [number(figure.value) for figure in figures]
    before = max((len(value.partition(".")[0]) for value in values if _is_number(value)), default=0)
    after = max((len(value) - len(value.partition(".")[0]) for value in values if _is_number(value)), default=0)
    told = []
    for value, figure in zip(values, figures, strict=True):
        whole = len(value.partition(".")[0])
        aligned = (" " * (before - whole) + value).ljust(before + after) if _is_number(value) else value
        told.append(f"{aligned}  {_plain(figure.unit)}".rstrip())
    room = max(WIDTH - 4 - max(map(len, told)), NARROWEST_LABEL)
    wrapped = [textwrap.wrap(label, room, subsequent_indent="  ", break_on_hyphens=False) or [""] for label in labels]
    width = max(len(line) for label in wrapped for line in label)
    lines = []
    for label, words in zip(wrapped, told, strict=True):  # the number stands at the end of its name
        *above, last = label
        lines.append("\n".join([*(f"  {line}" for line in above), _hanging(f"  {last.ljust(width)}  {words}")]))
    return "\n".join(["Key figures", *_shortened(lines)])


def _dropped(dropped: Sequence[Dropped]) -> str:
    lines = [_hanging(f"  {_plain(each.exposure)}: {_plain(each.why)}") for each in dropped]
    return "\n".join([f"{_count(len(lines), 'exposure')} left out", *_shortened(lines)]) if lines else ""


def _products(report: Report) -> str:
    if not report.products:
        return _with_path("What there is so far is in", report.folder) if report.folder else ""
    sizes = [size(product.size_bytes) for product in report.products]
    width = max(map(len, sizes))
    lines = [
        f"  {each.rjust(width)}  {_plain(product.path)}" for each, product in zip(sizes, report.products, strict=True)
    ]
    total = size(sum(product.size_bytes for product in report.products))
    kept = f"They are kept until {_date(report.expiry)}." if report.expiry else ""
    head = f"{_count(len(lines), 'product')}, {total} in all"
    head = _with_path(f"{head}, in", report.folder) if report.folder else head
    return "\n".join([head, *_shortened(lines), *([kept] if kept else [])])


def _facts(report: Report) -> str:
    steps = report.steps
    counts = (
        (steps.done, "done"),
        (steps.reused, "reused from earlier runs"),
        (steps.failed, "failed"),
        (steps.skipped, "skipped"),
    )
    facts = (
        ("Owner", _plain(report.owner)),
        ("Rules", _plain(report.rules)),
        ("Steps", ", ".join(f"{count} {word}" for count, word in counts if count)),
        ("Submitted", _moment(report.submitted)),
        ("Started", _moment(report.started)),
        ("Ended" if report.phase is not Phase.HELD else "Held since", _ended(report)),
        ("Nodes" if len(report.nodes) > 1 else "Node", ", ".join(map(_plain, report.nodes))),
    )
    known = [(label, value) for label, value in facts if value]
    width = max(len(label) for label, _ in known)
    return "\n".join(_hanging(f"{label.ljust(width)}  {value}", width + 2) for label, value in known)


def _next(report: Report, address: str) -> str:
    commands = [(command.format(process=report.process), help_) for command, help_ in NEXT[report.phase]]
    width = max(len(command) for command, _ in commands)
    lines = ["What you can do next", *(f"  {command.ljust(width)}  {help_}" for command, help_ in commands)]
    if address:
        lines.append(f"  {address.rstrip('/')}/process/{report.process}")
    return "\n".join(lines)


def _bullets(head: str, lines: Sequence[str]) -> str:
    shown = [_hanging(f"  - {_sentence(line)}") for line in lines]
    return "\n".join([head, *_shortened(shown)]) if lines else ""


# Words and numbers


def last_words(said: str) -> list[str]:
    """The last lines of a tool's output without cursor codes, overwritten lines, controls or overlong lines."""
    seen = CURSOR_UP.sub("", said[-LAST_WORDS_READ:].replace("\r\n", "\n"))
    lines = [_plain(ESCAPES.sub("", line.rstrip("\r").rpartition("\r")[2])) for line in seen.split("\n")]
    width = WIDTH - len("  | ")
    spoken = [line if len(line) <= width else f"{line[: width - 4]} ..." for line in lines if line]
    return spoken[-MOST_LAST_WORDS:]


def size(size_bytes: int) -> str:
    """In the units of disks: 1 kB is 1000 bytes."""
    value = float(size_bytes)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 999.5:
            return f"{value:.0f} {unit}" if unit == "B" or value >= 99.95 else f"{value:.3g} {unit}"
        value /= 1000
    return f"{value:.3g} TB" if value < 999.5 else f"{value:,.0f} TB"


def number(value: float | str | None) -> str:
    """Four significant digits, whole numbers whole; texts stay as they are."""
    if isinstance(value, str):
        return _plain(value)
    if value is None or not math.isfinite(value):
        return "not measured"
    if isinstance(value, int) or abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.4g}"


def duration(seconds: float) -> str:
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def _is_number(shown: str) -> bool:
    return re.fullmatch(r"[+-]?[\d,]+(\.\d+)?(e[+-]?\d+)?", shown) is not None


def _plain(words: str) -> str:
    """On one line, without controls, direction marks or halves of characters."""
    if words.isascii() and words.isprintable():
        return one_line(words)
    shown = words.encode("utf-8", "replace").decode("utf-8")
    return one_line("".join(" " if unicodedata.category(c) in ("Cc", "Cf", "Cs", "Co", "Cn") else c for c in shown))


def _task(report: Report) -> str:
    return _plain(report.failure.task) if report.failure else ""


def _sentence(words: str) -> str:
    plain = _plain(words)
    return plain if plain.endswith((".", "!", "?")) or not plain else f"{plain}."


def _count(count: int, noun: str) -> str:
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def _filled(words: str) -> str:
    return _hanging(words, 0)


def _hanging(line: str, indent: int = 6) -> str:
    if len(line) <= WIDTH:
        return line.rstrip()
    return textwrap.fill(line, WIDTH, subsequent_indent=" " * indent, break_long_words=False, break_on_hyphens=False)


def _with_path(words: str, path: str) -> str:
    """A path is never broken: it has its own line where it is long."""
    line = f"{words} {_plain(path)}"
    return line if len(line) <= WIDTH else f"{words}\n  {_plain(path)}"


def _shortened(lines: Iterable[str]) -> list[str]:
    shown = list(lines)
    if len(shown) <= MOST_LINES:
        return shown
    return [*shown[:MOST_LINES], f"  and {len(shown) - MOST_LINES:,} more"]


def _moment(moment: datetime | None) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC" if moment else ""


def _date(moment: datetime) -> str:
    utc = moment.astimezone(UTC)
    return f"{utc.day} {utc:%B %Y}, {utc:%H:%M} UTC"


def _ended(report: Report) -> str:
    if not report.ended:
        return ""
    took = duration((report.ended - report.started).total_seconds()) if report.started else ""
    return _moment(report.ended) + (f", after {took}" if took else "")

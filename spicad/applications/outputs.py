"""Says how an attempt of a step ended: exit status, every output present, whole and not hollow, quality in its limits.

The kinds of files are opened in kinds.py, figures are taken in figures.py; what happens next is the daemon's affair.
"""

from __future__ import annotations

import fnmatch
import os
import shutil
import signal
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from spicad import fits
from spicad.applications.descriptor import QUALITY, Application, Check, Output
from spicad.applications.figures import Figure, figures
from spicad.applications.kinds import fault_of
from spicad.applications.logs import culprit_in, last_words
from spicad.archive.quality import read_report, record_of
from spicad.words import Ending, SpicaError

SENT_BY_PEOPLE = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGKILL, signal.SIGQUIT)
MAX_FILES = 20_000
CAUGHT_SIGNAL = 255
CAUGHT = {
    "segmentation fault": signal.SIGSEGV,
    "bus error": signal.SIGBUS,
    "floating exception": signal.SIGFPE,
    "^c": signal.SIGINT,
}
DISK_WORDS = ("no space left", "disk quota exceeded", "*error* while writing")  # the last: the AstrOmatic tools
MEMORY_WORDS = (
    "not enough memory",
    "cannot allocate memory",
    "could not allocate",
    "out of memory",
    "memoryerror",
    "pthread_create() failed",  # SWarp that finds no room for a thread's stack
    "failed to map segment",  # the loader that finds none for a library
)


@dataclass(frozen=True)
class Produced:
    """One output file that passed. `product` is the template of its name among the products, '' when not kept."""

    name: str
    stem: str | None
    path: Path
    bytes: int
    digest: str
    product: str = ""


@dataclass(frozen=True)
class Verdict:
    ending: Ending
    why: str = ""
    culprit: str | None = None
    last_words: tuple[str, ...] = ()
    metrics: Mapping[str, float] = field(default_factory=dict)
    outputs: tuple[Produced, ...] = ()
    judgements: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # by stem, for the archive


@dataclass(frozen=True)
class _Fault:
    why: str
    culprit: str | None = None
    ending: Ending = Ending.NEVER_AGAIN


def verify(
    application: Application,
    job_folder: Path,
    stems: Sequence[str],
    log_text: str,
    exit_code: int | None,
    *,
    timed_out: bool = False,
    disk_full: bool = False,
    ccds: Mapping[str, int] | None = None,
) -> Verdict:
    """The verdict on one attempt. `exit_code` 128 + N or -N is signal N, None unknown; `ccds` says how many there are.

    Whatever in the folder is not a plain file is removed first: only our own links to inputs stay.
    """
    words = last_words(log_text, only_trouble=exit_code == 0)
    tidy(application, job_folder)
    try:
        fault = _what_stopped_it(application, words, exit_code, timed_out, disk_full)
        found = [] if fault else _found(application, job_folder, stems)
        fault = fault or _missing(application, found, stems, words) or _broken(application, found, stems, ccds or {})
        if fault:
            return _refused(fault, words, stems)
        taken = figures(application, job_folder, [(output.name, stem, path) for output, stem, path in found], stems)
        metrics = {name: figure.value for name, figure in taken.items() if figure.value is not None}
        fault = _out_of_limits(application, taken)
        if fault:
            return _refused(fault, (), stems, metrics)
        produced = tuple(_produced(output, stem, path) for output, stem, path in found)
        judgements = {
            stem: record_of(read_report(path)) for output, stem, path in found if output.registers == QUALITY and stem
        }
    except (SpicaError, OSError) as error:
        return _refused(_Fault(f"the outputs of {application.title} cannot be read: {error}"), words, stems)
    return Verdict(Ending.DONE, metrics=metrics, outputs=produced, judgements=judgements)


def tidy(application: Application, job_folder: Path) -> tuple[str, ...]:
    """Leaves only regular files with one link and plain rights, and our links to inputs; names what was removed."""
    ours = {input_.file for input_ in application.inputs.values() if input_.place == "job"}
    removed = []
    for number, entry in enumerate(os.scandir(job_folder)):
        status = entry.stat(follow_symlinks=False)
        is_ours = stat.S_ISLNK(status.st_mode) and os.readlink(entry.path) == f"../in/{entry.name}" and bool(ours)
        is_plain = stat.S_ISREG(status.st_mode) and status.st_nlink == 1 and number < MAX_FILES
        if is_plain and status.st_mode & 0o7133:
            os.chmod(entry.path, 0o644)
        elif entry.is_dir(follow_symlinks=False):
            shutil.rmtree(entry.path)
        elif not is_plain and not is_ours:
            os.unlink(entry.path)
        if not is_plain and not is_ours:
            removed.append(entry.name)
    return tuple(removed)


def _what_stopped_it(
    application: Application,
    words: Sequence[str],
    exit_code: int | None,
    timed_out: bool,
    disk_full: bool,
) -> _Fault | None:
    title = application.title
    if disk_full or _is_said(DISK_WORDS, words):
        return _Fault(f"the disk was full while {title} ran.", ending=Ending.TRY_AGAIN)
    if timed_out:
        return _Fault(f"{title} was stopped at its time limit.")
    if exit_code != 0 and _is_said(MEMORY_WORDS, words):
        return _Fault(f"{title} was stopped at its memory limit; memory_mb of the task or the application raises it.")
    if exit_code is None:
        return _Fault(f"how {title} ended is not known.", ending=Ending.TRY_AGAIN)
    number = _signal_of(exit_code, words)
    if number:
        return _ended_by_signal(title, number)
    if exit_code != 0:
        said = f", and said: {words[-1].rstrip('.')}" if words else ""
        return _Fault(f"{title} ended with exit status {exit_code}{said}.")
    return None


def _signal_of(exit_code: int, words: Sequence[str]) -> int:
    """0 for none. The AstrOmatic tools catch these signals, say so and end with 255."""
    if exit_code == CAUGHT_SIGNAL:
        return next((number for phrase, number in CAUGHT.items() if _is_said((phrase,), words)), 0)
    if exit_code < 0:
        return -exit_code
    return exit_code - 128 if 128 < exit_code <= 128 + signal.NSIG else 0


def _is_said(phrases: Sequence[str], words: Sequence[str]) -> bool:
    return any(phrase in line.lower() for line in words for phrase in phrases)


def _ended_by_signal(title: str, number: int) -> _Fault:
    try:
        name = signal.Signals(number).name
        what = f"{name}, {signal.strsignal(number)}"
    except ValueError:
        what = str(number)
    if number in SENT_BY_PEOPLE:
        return _Fault(f"{title} was ended from outside by a signal ({what}).", ending=Ending.TRY_AGAIN)
    if number == signal.SIGXFSZ:
        return _Fault(f"{title} wrote a larger file than a step may ({what}).")
    if number == signal.SIGXCPU:
        return _Fault(f"{title} was stopped at its time limit ({what}).")
    return _Fault(f"{title} crashed by a signal ({what}): a fault of the tool, often on an odd input.")


_Found = tuple[Output, str | None, Path]


def _found(application: Application, job_folder: Path, stems: Sequence[str]) -> list[_Found]:
    plain = (entry.name for entry in os.scandir(job_folder) if entry.is_file(follow_symlinks=False))
    names = dict.fromkeys(sorted(plain))  # thousands, and asked for each exposure
    found: list[_Found] = []
    for output in application.outputs.values():
        if output.is_per_exposure:
            found += [
                (output, stem, job_folder / output.file_for(stem)) for stem in stems if output.file_for(stem) in names
            ]
        else:
            found += [(output, None, job_folder / name) for name in names if fnmatch.fnmatchcase(name, output.file)]
    return found


def _missing(
    application: Application, found: Sequence[_Found], stems: Sequence[str], words: Sequence[str]
) -> _Fault | None:
    have = {(output.name, stem) for output, stem, _ in found}
    for output in application.outputs.values():
        if output.optional:
            continue
        for stem in stems if output.is_per_exposure else (None,):
            if (output.name, stem) not in have:
                name = output.file_for(stem or "")
                why = f"{application.title} ended as if all were well, but its {output.name} ({name}) is missing."
                return _Fault(why, stem or culprit_in(words, stems))
    return None


def _broken(
    application: Application, found: Sequence[_Found], stems: Sequence[str], ccds: Mapping[str, int]
) -> _Fault | None:
    for output, stem, path in found:
        known = [ccds[each] for each in ([stem] if stem else stems) if each in ccds]
        why = fault_of(output.kind, path, output.require, sum(known) if known else None)
        if why:
            return _Fault(f"the {output.name} of {application.title} ({path.name}): {why}", stem)
    return None


def _out_of_limits(application: Application, taken: Mapping[str, Figure]) -> _Fault | None:
    for check in application.checks:
        figure = taken[check.metric]
        if figure.value is None or _passes(check, figure.value) or _is_excused(check, taken):
            continue
        limit = f"at least {check.minimum:g}" if check.minimum is not None else ""
        limit += f"at most {check.maximum:g}" if check.maximum is not None else ""
        blamed = sorted({stem for value, stem in figure.each if stem and not _passes(check, value)})
        detail = figure.detail or ", ".join(blamed[:6]) + (f" and {len(blamed) - 6} more" if len(blamed) > 6 else "")
        why = f"{check.words} ({check.metric} is {figure.value:.4g}, should be {limit})"
        return _Fault(f"{why}: {detail}." if detail else f"{why}.", blamed[0] if len(blamed) == 1 else None)
    return None


def _passes(check: Check, value: float) -> bool:
    above = check.minimum is None or value >= check.minimum
    return above and (check.maximum is None or value <= check.maximum)


def _is_excused(check: Check, taken: Mapping[str, Figure]) -> bool:
    other = taken[check.unless].value if check.unless else None
    return other is not None and other <= check.unless_at_most


def _produced(output: Output, stem: str | None, path: Path) -> Produced:
    return Produced(
        output.name,
        stem,
        path,
        path.stat().st_size,
        fits.science_digest(path),
        output.product if output.keep else "",
    )


def _refused(
    fault: _Fault, words: tuple[str, ...], stems: Sequence[str], metrics: Mapping[str, float] | None = None
) -> Verdict:
    culprit = fault.culprit or (stems[0] if len(stems) == 1 else culprit_in(words, stems))
    return Verdict(fault.ending, fault.why, culprit, words, metrics or {})

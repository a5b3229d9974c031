"""`spica verify`: a completed process is run again, from its recipe and reusing nothing, and the products compared.

They are compared by science digest, which leaves out dates and the like: see spicad/fits.py.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from spicad import config
from spicad.commands import DONE, FAILED, NothingFound
from spicad.commands.capsules import RunFolder, run_folder
from spicad.commands.printing import GREEN, RED, complain, one_line, print_json, styled
from spicad.commands.rerun import begin
from spicad.commands.results import Manifest, manifest_of
from spicad.commands.tables import open_tables, processid, row_of
from spicad.commands.watching import watch
from spicad.config import Settings
from spicad.parts import setups_in
from spicad.words import Phase, SpicaError


@dataclass(frozen=True)
class Comparison:
    process: int
    first_run: int
    second_run: int
    identical: list[str]
    different: list[str]
    missing: list[str]  # in the second run
    new: list[str]
    tools: dict[str, list[str]]  # those that changed: what each run used

    @property
    def is_same(self) -> bool:
        return not (self.different or self.missing or self.new)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("process", metavar="PROCESSID", help="such as 12 or 000012; it must be COMPLETED")
    parser.add_argument("--runs", nargs=2, type=int, metavar=("N", "M"), help="compare these two runs, and run nothing")
    parser.add_argument("--json", action="store_true", help="for programs; progress then goes to standard error")


def run(arguments: argparse.Namespace) -> int:
    settings, process = config.load(), processid(arguments.process)
    if arguments.runs:
        first, second = (_capsule(settings, process, number) for number in arguments.runs)
    else:
        first = _completed(settings, process)
        second = _run_again(settings, process, arguments.json)
    comparison = compared(process, first, second)
    if arguments.json:
        print_json(asdict(comparison) | {"is_same": comparison.is_same})
    else:
        _print(comparison)
    return DONE if comparison.is_same else FAILED


def _completed(settings: Settings, process: int) -> RunFolder:
    with open_tables(settings):
        row = row_of(process)
    if row.phase not in (Phase.COMPLETED, Phase.ARCHIVED):
        raise SpicaError(f"process {process} is {row.phase}; only what is COMPLETED can be verified.")
    capsule = run_folder(row)
    if not manifest_of(capsule):
        raise NothingFound(f"run {capsule.number} of process {process} has no products to compare with.")
    return capsule


def _run_again(settings: Settings, process: int, is_quiet: bool) -> RunFolder:
    number = begin(settings, process, "to verify its products", is_fresh=True)
    words = f"process {process} runs again, as run {number}"
    print(words, file=sys.stderr if is_quiet else sys.stdout, flush=True)
    status = _watched(settings, process, number, is_quiet)
    if status != DONE:
        raise SpicaError(f"run {number} of process {process} did not complete, so there is nothing to compare.")
    return _capsule(settings, process, number)


def _watched(settings: Settings, process: int, number: int, is_quiet: bool) -> int:
    """With --json the progress leaves standard output to the one object at the end."""
    if not is_quiet:
        return watch(settings, process, number)
    stdout, sys.stdout = sys.stdout, sys.stderr
    try:
        return watch(settings, process, number)
    finally:
        sys.stdout = stdout


def _capsule(settings: Settings, process: int, number: int) -> RunFolder:
    with open_tables(settings):
        return run_folder(row_of(process), number)


def compared(process: int, first: RunFolder, second: RunFolder) -> Comparison:
    one, other = _products(process, first), _products(process, second)
    both = sorted(one.keys() & other.keys())
    return Comparison(
        process=process,
        first_run=first.number,
        second_run=second.number,
        identical=[name for name in both if one[name][1] == other[name][1]],
        different=[name for name in both if one[name][1] != other[name][1]],
        missing=sorted(one.keys() - other.keys()),
        new=sorted(other.keys() - one.keys()),
        tools={
            name: [before, after]
            for name, before, after in _both_tools(tools_of(first), tools_of(second))
            if before != after
        },
    )


def _products(process: int, capsule: RunFolder) -> Manifest:
    found = manifest_of(capsule)
    if found is None:
        raise NothingFound(f"run {capsule.number} of process {process} is not over.")
    return found


def tools_of(capsule: RunFolder) -> dict[str, str]:
    """By application, the installed tool and its version that the run used."""
    found = {}
    for name in setups_in(capsule.folder):
        record: dict[str, Any] = capsule.json(name) or {}
        if record:
            found[record["application"]] = f"{record['tool']['path']} {record['tool']['version']}".strip()
    return found


def _both_tools(one: dict[str, str], other: dict[str, str]) -> list[tuple[str, str, str]]:
    return [(name, one.get(name, "none"), other.get(name, "none")) for name in sorted(one.keys() | other.keys())]


def _print(comparison: Comparison) -> None:
    total = len(comparison.identical) + len(comparison.different) + len(comparison.missing)
    words = f"{len(comparison.identical)} of {total} products are identical"
    runs = f"(run {comparison.first_run} and run {comparison.second_run})"
    print(f"{styled(words, GREEN if comparison.is_same else RED)} {runs}")
    for name in comparison.different:
        print(f"  differs: {one_line(name)}")
    for name in comparison.missing:
        print(f"  missing in run {comparison.second_run}: {one_line(name)}")
    for name in comparison.new:
        print(f"  only in run {comparison.second_run}: {one_line(name)}")
    for name, (before, after) in comparison.tools.items():
        complain(_changed(name, before, after, comparison))


def _changed(name: str, before: str, after: str, comparison: Comparison) -> str:
    """Of a program in the same place, the versions alone."""
    (path, _, old), (same, _, new) = before.rpartition(" "), after.rpartition(" ")
    if path and path == same:
        name, before, after = Path(path).name, old, new
    return f"{name} was {before} in run {comparison.first_run}, is now {after} in run {comparison.second_run}"

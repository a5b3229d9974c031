"""`spica log`: what a tool said in a step, as a terminal would show it in the end; --follow while it runs."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from spicad import config
from spicad.applications.logs import MAX_LOG, plain
from spicad.commands import DONE, NothingFound
from spicad.commands.capsules import RunFolder, run_folder
from spicad.commands.printing import printable_line
from spicad.commands.tables import open_tables, processid, row_of, step_folder, steps_of
from spicad.config import Settings
from spicad.words import Phase, SpicaError, nearest

LOOK_S = 0.2
MOST_NAMES = 4
HELD_BACK = 4  # lines at the end that a running tool may still overwrite


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("process", metavar="PROCESSID", help="such as 12 or 000012")
    add(
        "step",
        metavar="STEP",
        nargs="?",
        default="",
        help="number or application; else the failed, running or last one",
    )
    add("--run", dest="of_run", type=int, metavar="N", help="an earlier run; without this the last one")
    add("--follow", "-f", action="store_true", help="go on while the step runs")
    add("--raw", action="store_true", help="with the tool's own terminal codes and overwritten lines")
    add("--path", action="store_true", help="print where the log lies, not what it says")


def run(arguments: argparse.Namespace) -> int:
    settings, process = config.load(), processid(arguments.process)
    with open_tables(settings):
        row = row_of(process)
        capsule = run_folder(row, arguments.of_run)
        steps = steps_of(process, capsule.number)
    if not arguments.of_run and row.run > capsule.number and row.phase == Phase.ERROR:
        raise NothingFound(f"run {row.run} was not started: {row.why} For the run before: --run {capsule.number}")
    step = chosen(steps, arguments.step)
    path = log_of(capsule, step)
    if arguments.path:
        print(path)
        return DONE
    where = f"process {process}, run {capsule.number}, {step_folder(step)}"
    print(f"==> {where}, {step['label']}: {step['state']} <==", file=sys.stderr, flush=True)
    if names := _names(capsule, step):
        print(f"==> {names} <==", file=sys.stderr, flush=True)
    if arguments.follow and step["state"] == "running":
        _follow(settings, process, capsule.number, step["number"], path)
    elif arguments.raw:
        sys.stdout.flush()
        sys.stdout.buffer.write(_read(path))
    else:
        _print(plain(_read(path).decode("utf-8", "replace")))
    return DONE


def chosen(steps: Sequence[dict[str, Any]], word: str) -> dict[str, Any]:
    """The step that a person means; without a word the failed, the running, or the last that has begun."""
    if not steps:
        raise NothingFound("this run has no step yet.")
    if word.isdecimal():
        found = [step for step in steps if step["number"] == int(word)]
    elif word:
        named = [step for step in steps if word in (step["application"], step_folder(step))]
        found = _in_order_of_interest(named)
    else:
        found = _in_order_of_interest([step for step in steps if step["state"] != "waiting"])
    if not found:
        known = dict.fromkeys(step["application"] for step in steps)
        mend = nearest(word, known) or f"There are 1 to {len(steps)}, of {', '.join(known)}."
        raise NothingFound(f'there is no step "{word}" in this run. {mend}' if word else "no step has begun yet.")
    return found[0]


def _in_order_of_interest(steps: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The first that failed, then the running, then the others, the last first."""
    failed = [step for step in steps if step["state"] == "failed"]
    running = [step for step in steps if step["state"] == "running"]
    ended = [step for step in steps if step["state"] in ("done", "reused")]
    return [*failed, *running, *sorted(ended, key=lambda step: -(step["ended"] or 0)), *steps]


def log_of(capsule: RunFolder, step: dict[str, Any]) -> Path:
    """Where the step's log lies; of a reused step that of the run that made it. Raises NothingFound."""
    folder = capsule.step(step_folder(step))
    if _is_file(folder / "log"):
        return folder / "log"
    outcome = capsule.json(f"steps/{folder.name}/outcome.json") or {}
    if outcome.get("reused_from"):
        origin = RunFolder(Path(outcome["reused_from"]))
        for log in sorted(origin.folder.glob("steps/*/log")):
            if origin.key_of(log.parent.name) == outcome["key"]:
                return log
        raise NothingFound(f"the step was reused from {outcome['reused_from']}, whose log is gone.")
    earlier = sorted(folder.parent.glob(f"{folder.name}.attempt-*/log"), key=os.path.getmtime)
    if earlier:
        return earlier[-1]
    why = f": {step['why']}" if step["why"] else ""
    raise NothingFound(f"{folder.name} is {step['state']}{why}. It was not started, so it has no log.")


def _names(capsule: RunFolder, step: dict[str, Any]) -> str:
    """Which exposures the tool knows as img0001 and so on."""
    plan = capsule.seen("plan.json") or {}
    planned: dict[str, Any] = next((each for each in plan.get("steps", ()) if each["number"] == step["number"]), {})
    stems = [stem for stem in planned.get("stems", ()) if stem in plan["labels"]]
    names = [f"{stem} is {plan['labels'][stem]}" for stem in stems[:MOST_NAMES]]
    return ", ".join(names) + (f", {len(stems) - MOST_NAMES} more" if len(stems) > MOST_NAMES else "")


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError as error:
        raise SpicaError(f"{path}: {error.strerror}.") from None


def _read(path: Path) -> bytes:
    """The log; of a very long one the end."""
    try:
        with path.open("rb") as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(0, file.tell() - MAX_LOG))
            return file.read()
    except OSError as error:
        raise SpicaError(f"{path}: {error.strerror}.") from None


def _print(lines: Sequence[str]) -> None:
    while lines and not lines[-1]:
        lines = lines[:-1]
    for line in lines:
        print(printable_line(line))


def _follow(settings: Settings, process: int, run: int, number: int, path: Path) -> None:
    """Lines as they are settled; the last few wait, since tools go back and overwrite them."""
    shown = 0
    while True:
        with open_tables(settings):
            state = next(step["state"] for step in steps_of(process, run) if step["number"] == number)
        lines = plain(_read(path).decode("utf-8", "replace")) if path.exists() else []
        settled = len(lines) - HELD_BACK if state == "running" else len(lines)
        for line in lines[shown:settled]:
            print(printable_line(line))
        sys.stdout.flush()
        shown = max(shown, settled)
        if state != "running":
            return
        time.sleep(LOOK_S)

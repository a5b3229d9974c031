"""A run's capsule as sub-commands read it: with the rights of the person who asks, never writing.

What lies in it is told at the head of spicad/capsule.py, which the daemon writes it with.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spicad import parts
from spicad.commands import NothingFound
from spicad.tables import Process
from spicad.words import SpicaError


@dataclass(frozen=True)
class RunFolder:
    folder: Path

    @property
    def number(self) -> int:
        return int(self.folder.name.removeprefix("run-"))

    @property
    def products(self) -> Path:
        return self.folder / "products"

    def step(self, name: str) -> Path:
        return self.folder / "steps" / name

    def json(self, name: str) -> Any:
        """The record; None where it is not there (yet). Raises SpicaError when it may not be read."""
        try:
            return json.loads(parts.read(self.folder, name))
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (OSError, ValueError) as error:
            raise SpicaError(f"{self.folder / name}: {getattr(error, 'strerror', None) or error}.") from None

    def manifest(self) -> dict[str, Any] | None:
        """Size and digest of each product; None while the run is not over."""
        found = self.json("manifest.json")
        return {} if found is None and self.json("outcome.json") is not None else found

    def step_record(self, name: str) -> dict[str, Any]:
        """What was written down of a step when it began: its command, its inputs, its content key."""
        found = self.json(f"steps/{name}/step.json")
        if found is None:  # before there was step.json
            found = {each: self.json(f"steps/{name}/{each}.json") for each in ("argv", "inputs")}
        return {each: value for each, value in found.items() if value is not None}

    def key_of(self, step: str) -> str:
        """The content key of a step of this run that is done; '' of any other."""
        return str((self.json(f"steps/{step}/outcome.json") or {}).get("key", ""))

    def seen(self, name: str) -> Any:
        """As json(), but None too where it may not be read."""
        try:
            return self.json(name)
        except SpicaError:
            return None


def run_folder(row: Process, run: int | None = None) -> RunFolder:
    """The capsule of the last run that began, or of run number `run`. Raises NothingFound."""
    if not row.capsule:
        raise NothingFound(f"process {row.id} is {row.phase} and has not begun yet.")
    folder = Path(row.capsule)
    if run is None:
        return RunFolder(folder)
    chosen = folder.with_name(f"run-{run}")
    try:
        is_there = chosen.is_dir()
    except OSError as error:
        raise SpicaError(f"{chosen}: {error.strerror}.") from None
    if not is_there:
        raise NothingFound(f"process {row.id} has no run {run}; its last is {folder.name}.")
    return RunFolder(chosen)

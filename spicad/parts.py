"""Several texts in one file that people read from top to bottom: each after a line with its name and its length.

The capsule of a run keeps what decides its outcome so, in recipe.txt: one file is made much sooner than twenty. Before
Spica 1.0 each part was a file of its own; whoever reads a part by its name finds both.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

RECIPE = "recipe.txt"
HEAD = re.compile(rb"==> (?P<name>[^\n]{1,300}), (?P<size>\d{1,15}) bytes\n")
LONGEST_HEAD = 400
OF_RECIPE = frozenset(("run.json", "job.spica", "rules.toml", "plan.json"))  # and what is in configuration/
SETUP = re.compile(r"configuration/[^/]+/setup\.json")


def joined(title: str, parts: Mapping[str, bytes]) -> bytes:
    pieces = [f"{title}\n".encode()]
    for name, content in parts.items():
        pieces += [f"\n==> {name}, {len(content)} bytes\n".encode(), content, b"" if content.endswith(b"\n") else b"\n"]
    return b"".join(pieces)


def places_in(file: BinaryIO) -> Iterator[tuple[str, int, int]]:
    """Name, place and size of each part; the parts themselves are passed over. Ends where the file is cut."""
    file.readline(LONGEST_HEAD)
    while line := file.readline(LONGEST_HEAD):
        if head := HEAD.fullmatch(line):
            place, size = file.tell(), int(head["size"])
            yield head["name"].decode("utf-8", "replace"), place, size
            file.seek(place + size)


def place_of(file: BinaryIO, name: str) -> tuple[int, int]:
    """Where the part begins, and its size. Raises FileNotFoundError."""
    for each, place, size in places_in(file):
        if each == name:
            return place, size
    raise FileNotFoundError(2, "No such file or directory", name)


def is_of_recipe(name: str) -> bool:
    return name in OF_RECIPE or name.startswith("configuration/")


def read(folder: Path, name: str) -> bytes:
    """What the folder of a run holds under this name, be it a file or a part of the recipe. Raises OSError."""
    if is_of_recipe(name):
        with suppress(FileNotFoundError), open(folder / RECIPE, "rb") as file:
            place, size = place_of(file, name)
            file.seek(place)
            return file.read(size)
    return (folder / name).read_bytes()


def setups_in(folder: Path) -> list[str]:
    """The names of the records on all applications that the run of this folder was made ready for."""
    try:
        with open(folder / RECIPE, "rb") as file:
            return [name for name, _, _ in places_in(file) if SETUP.fullmatch(name)]
    except FileNotFoundError:
        return [str(file.relative_to(folder)) for file in sorted(folder.glob("configuration/*/setup.json"))]

"""`spica results`: the products of a process, listed or fetched.

Fetching verifies each copy against the digest in manifest.json, follows no link and overwrites nothing.
"""

from __future__ import annotations

import argparse
import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from spicad import config
from spicad.commands import DONE, FAILED, NothingFound
from spicad.commands.capsules import RunFolder, run_folder
from spicad.commands.printing import complain, print_json, print_table
from spicad.commands.tables import open_tables, processid, row_of
from spicad.fits import science_digest
from spicad.report import size
from spicad.words import SpicaError

CHUNK = 1 << 20
FOLDER_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
Manifest = Mapping[str, tuple[int, str]]  # name -> bytes, digest


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("process", metavar="PROCESSID", help="such as 12 or 000012")
    add("--run", dest="of_run", type=int, metavar="N", help="an earlier run; without this the last one")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--path", action="store_true", help="print the folder of the products")
    what.add_argument("--fetch", metavar="DIR", type=Path, help="copy the products there, each verified")
    what.add_argument("--json", action="store_true", help="for programs")


def run(arguments: argparse.Namespace) -> int:
    process = processid(arguments.process)
    with open_tables(config.load()):
        row = row_of(process)
        capsule = run_folder(row, arguments.of_run)
    if arguments.path:
        print(capsule.products)
        return DONE
    products = manifest_of(capsule)
    if products is None:
        raise NothingFound(f"run {capsule.number} of process {process} is not over: {row.phase}. There is no list yet.")
    if products and not os.path.lexists(capsule.products):
        raise NothingFound(
            f"the products of run {capsule.number} of process {process} are gone: their time was over. "
            f"To make them again: spica rebuild {process}"
        )
    if arguments.fetch:
        return _fetch(capsule, products, arguments.fetch)
    if arguments.json:
        print_json(as_record(process, capsule, products))
    if not products:
        raise NothingFound(f"run {capsule.number} of process {process} has no products ({row.phase}).")
    if not arguments.json:
        _print(capsule, products)
    return DONE


def manifest_of(capsule: RunFolder) -> Manifest | None:
    """None while the run is not over."""
    record = capsule.manifest()
    return None if record is None else {name: (int(size_), str(digest)) for name, (size_, digest) in record.items()}


def as_record(process: int, capsule: RunFolder, products: Manifest) -> dict[str, Any]:
    return {
        "process": process,
        "run": capsule.number,
        "folder": str(capsule.products),
        "products": [{"name": name, "bytes": size_, "digest": digest} for name, (size_, digest) in products.items()],
    }


def _print(capsule: RunFolder, products: Manifest) -> None:
    rows = [[size(size_), name] for name, (size_, _) in sorted(products.items())]
    print_table(rows, ("size", "product"), right=("size",))
    total = size(sum(size_ for size_, _ in products.values()))
    noun = "product" if len(products) == 1 else "products"
    print(f"\n{len(products)} {noun}, {total}, in {capsule.products}")


# ---------------------------------------------------------------------- fetching


def _fetch(capsule: RunFolder, products: Manifest, target: Path) -> int:
    failed = 0
    try:
        target.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SpicaError(f"{target}: {error.strerror}.") from None
    with _folder(capsule.products) as source, _folder(target.resolve()) as there:
        for name, (size_, digest) in sorted(products.items()):
            try:
                word = fetch_one(source, there, name, digest, target / name)
                print(f"{word:<8} {size(size_):>8}  {name}", flush=True)
            except (SpicaError, OSError) as error:
                failed += 1
                complain(f"{name}: {error}")
    total = size(sum(size_ for size_, _ in products.values()))
    print(f"{len(products) - failed} of {len(products)} products, {total} in all, verified in {target}")
    return FAILED if failed else DONE


@contextmanager
def _folder(path: Path) -> Iterator[int]:
    try:
        handle = os.open(path, FOLDER_FLAGS)
    except OSError as error:
        raise SpicaError(f"{path}: {error.strerror}.") from None
    try:
        yield handle
    finally:
        os.close(handle)


def fetch_one(source: int, there: int, name: str, digest: str, shown: Path) -> str:
    """Copies `name` between two open folders; returns what was done. Raises SpicaError, OSError."""
    if "/" in name or name in (".", "..", ""):
        raise SpicaError("this is not a plain name; the manifest was changed.")
    if _exists(there, name):
        if science_digest(Path(f"/proc/self/fd/{there}") / name) == digest:
            return "is there"
        raise SpicaError(f"{shown} is there already and differs. Nothing is overwritten.")
    part = f".{name}.{os.getpid()}.part"
    reading = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=source)
    try:
        if not stat.S_ISREG(os.fstat(reading).st_mode):
            raise SpicaError("this is not a regular file.")
        writing = os.open(
            part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644, dir_fd=there
        )
        try:
            while piece := os.read(reading, CHUNK):
                _write_all(writing, piece)
        finally:
            os.close(writing)
        if science_digest(Path(f"/proc/self/fd/{there}") / part) != digest:
            raise SpicaError("its content is not that of the manifest: it was changed or damaged after the run.")
        _put_in_place(there, part, name)
    finally:
        os.close(reading)
        with suppress(FileNotFoundError):
            os.unlink(part, dir_fd=there)
    return "fetched"


def _write_all(handle: int, piece: bytes) -> None:
    view = memoryview(piece)
    while view:
        view = view[os.write(handle, view) :]


def _put_in_place(there: int, part: str, name: str) -> None:
    """A second name by link(2), which never overwrites; where the file system has no links, the rename is looked at."""
    try:
        os.link(part, name, src_dir_fd=there, dst_dir_fd=there, follow_symlinks=False)
    except FileExistsError:
        raise SpicaError("it has just come there from elsewhere. Nothing is overwritten.") from None
    except OSError:
        if _exists(there, name):
            raise SpicaError("it has just come there from elsewhere. Nothing is overwritten.") from None
        os.rename(part, name, src_dir_fd=there, dst_dir_fd=there)


def _exists(folder: int, name: str) -> bool:
    try:
        os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True

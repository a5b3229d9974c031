"""What was made of a file, kept in memory for as long as the file stays the same."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

Made = TypeVar("Made")


def remembered(read: Callable[[Path], Made], most: int) -> Callable[[Path], Made]:
    """`read` for any thread, with its answers on the `most` files that were asked for last. Errors are not kept, nor is
    what a file was before it changed."""
    known: OrderedDict[Path, tuple[tuple[int, ...], Made]] = OrderedDict()
    lock = threading.Lock()

    def recall(path: Path) -> Made:
        try:
            status = os.stat(path)
        except OSError:
            return read(path)  # which says it in its own words
        identity = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
        with lock:
            if path in known and known[path][0] == identity:
                known.move_to_end(path)
                return known[path][1]
        made = read(path)
        with lock:
            known[path] = identity, made
            known.move_to_end(path)
            if len(known) > most:
                known.popitem(last=False)
        return made

    return recall

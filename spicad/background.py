"""Work that may block, done in a few threads; what comes of it is handed back in the daemon's own loop.

Threads never touch the tables or the daemon's state: they get values and return values.
"""

from __future__ import annotations

import logging
import os
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import Any

log = logging.getLogger("spicad.background")

Then = Callable[[Any], None]


class Stopped(Exception):
    """Raised by long work when it finds that the daemon stops: nothing follows from it."""


class Background:
    """`wake` is the writing end of a pipe that the loop listens to."""

    def __init__(self, wake: int, threads: int) -> None:
        self.failed: Callable[[int, Exception], None] = lambda process, error: None
        self._wake = wake
        self._threads = ThreadPoolExecutor(threads, "spicad")
        self._ended: deque[tuple[Future[Any], Then, int]] = deque()
        self.under_way = 0
        self.is_stopped = False

    def do(self, work: Callable[..., Any], *values: Any, then: Then, process: int = 0, at_once: bool = False) -> None:
        """`then` gets what `work` returns, or the exception that it raised, from inside `hand_back`.

        `at_once`: work that takes less time than a thread would to begin; it is done here and now.

        When `then` itself fails, `failed` is told, with the process that the work was for. After `stop` nothing is
        begun: the next life of the daemon finds what was left.
        """
        if self.is_stopped:
            return
        self.under_way += 1
        if at_once:
            self._ended.append((_done(work, *values), then, process))
            return
        future = self._threads.submit(work, *values)
        future.add_done_callback(lambda ended: self._note(ended, then, process))

    def _note(self, future: Future[Any], then: Then, process: int) -> None:
        self._ended.append((future, then, process))
        with suppress(BlockingIOError, OSError):
            os.write(self._wake, b"t")

    @property
    def has_answers(self) -> bool:
        return bool(self._ended)

    def hand_back(self) -> int:
        """Runs what follows from work that has ended; how much there was."""
        count = 0
        while self._ended:
            future, then, process = self._ended.popleft()
            self.under_way -= 1
            count += 1
            if future.cancelled() or isinstance(future.exception(), Stopped):
                continue
            error = future.exception()
            try:
                then(error if error is not None else future.result())
            except Exception as fault:
                self.failed(process, fault)
        return count

    def stop(self) -> None:
        """Returns when nothing is under way any more; what has not begun never will."""
        self.is_stopped = True
        self._threads.shutdown(wait=True, cancel_futures=True)


def _done(work: Callable[..., Any], *values: Any) -> Future[Any]:
    future: Future[Any] = Future()
    try:
        future.set_result(work(*values))
    except Exception as error:
        future.set_exception(error)
    return future

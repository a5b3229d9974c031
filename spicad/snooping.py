"""The program snooppix: watches the landing folders, or tells what became of the files. See snooppix(8).

What is done with a file is archive/snooppix.py's affair. spicad runs this as its child, see archive/keeping.py.
"""

from __future__ import annotations

import argparse
import logging
import os
import select
import signal
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import peewee

from spicad import __version__, config, logs, tables
from spicad.archive.snooppix import Snooppix
from spicad.archive.sources import Sources
from spicad.archive.storage import require_apart
from spicad.background import Background
from spicad.config import Settings
from spicad.durable import locked
from spicad.hints import HINT, Hints
from spicad.node import is_on_network
from spicad.words import BadInput, SpicaError

log = logging.getLogger("snooppix")

OK, FAILED, WRONG, NOTHING = 0, 1, 2, 3
READERS = 2
LOCK = "snooppix.lock"
WHILE_BUSY_S = 0.5
LOOK_SHARE = 0.01  # of the time, at most, is spent looking when nothing happens
HINT_SHARE = 0.2  # and when something does
AFTER_A_FAULT_S = 5.0


def main(argv: Sequence[str] | None = None) -> int:
    arguments = _parser().parse_args(argv)
    try:
        settings = config.load(arguments.config)
        if arguments.refused or arguments.report or arguments.retry or arguments.accept:
            return _answer(settings, arguments)
        if not (settings.landing.folders or settings.storage.roots or settings.storage.export):
            raise SpicaError(f"{settings.source}: no folders in [landing]: there is nothing to look into.")
        require_apart(settings.landing.folders, settings.storage.roots, str(settings.source))
        return _run(settings, arguments)
    except BadInput as error:
        print("\n".join(map(str, error.problems)), file=sys.stderr)
        return WRONG
    except SpicaError as error:
        print(f"snooppix: {error}", file=sys.stderr)
        return FAILED


def _answer(settings: Settings, arguments: argparse.Namespace) -> int:
    from spicad.commands.landed import answer

    try:
        status = answer(settings, arguments)
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="snooppix", description="Takes exposures that land. See snooppix(8).")
    parser.add_argument("--version", action="version", version=f"snooppix {__version__}")
    parser.add_argument("--config", metavar="FILE", help="the configuration file instead of the usual spica.conf")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--once", action="store_true", help="take what is whole now, and end")
    what.add_argument("--refused", action="store_true", help="list the files that were refused, with the reasons")
    what.add_argument("--report", action="store_true", help="count what was seen, registered, refused, and waits")
    what.add_argument("--retry", metavar="NAME", nargs="+", help="look at refused files again")
    what.add_argument("--accept", metavar="NAME", nargs="+", help="take refused files as new versions of known names")
    what.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--json", action="store_true", help="for programs")
    return parser


def _run(settings: Settings, arguments: argparse.Namespace) -> int:
    logs.set_up(settings.daemon.log_level, settings.daemon.node)
    Path(settings.paths.spool).mkdir(parents=True, exist_ok=True)
    try:
        with locked(Path(settings.paths.spool) / LOCK, wait=False):
            return _live(settings, arguments)
    except BlockingIOError:
        raise SpicaError(f"snooppix already runs on {settings.paths.spool}.") from None
    except PermissionError as error:
        raise SpicaError(f"{error.filename}: {error.strerror}. Run this as the user of spicad.") from None


def _live(settings: Settings, arguments: argparse.Namespace) -> int:
    """Life after life: whatever one could not finish, because of a lost database for instance, the next takes up."""
    signals: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda given, frame: signals.append(given))
    lives = 0
    while True:
        program = Program(settings, signals, parent=sys.stdin.fileno() if arguments.child else None)
        try:
            program.run(is_once=arguments.once)
        except BadInput:
            raise
        except (peewee.PeeweeException, SpicaError) as error:
            if arguments.once or (lives == 0 and isinstance(error, SpicaError)):
                raise SpicaError(f"{error} What was not finished is taken up next time.") from None
            log.error("%s; going on in %g s", error, AFTER_A_FAULT_S)
        finally:
            program.close()
        lives += 1
        if not arguments.once and not program.is_over:
            program.rest(AFTER_A_FAULT_S)
        program.forget()
        if arguments.once or program.is_over:
            return OK


class Program:
    """One life: threads, hints, the clock."""

    def __init__(
        self, settings: Settings, signals: list[int], parent: int | None = None, clock: Callable[[], float] = time.time
    ) -> None:
        self.settings, self.signals, self.clock = settings, signals, clock
        self.parent = parent
        self.parent_is_gone = False
        self.wake_in, self.wake_out = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self.old_wakeup = signal.set_wakeup_fd(self.wake_out, warn_on_full_buffer=False)
        self.readers = Background(self.wake_out, READERS)
        self.carriers = Background(self.wake_out, settings.storage.parallel + 1)
        self.life: Snooppix | None = None
        self.hints = Hints(self.wake_out)
        self.database: peewee.Database | None = None

    @property
    def is_over(self) -> bool:
        return bool(self.signals) or self.parent_is_gone

    def run(self, is_once: bool = False) -> None:
        self.database = tables.connect(self.settings.database.url, self.settings.database.password_file)
        tables.require_current(make_if_empty=True)
        if self.settings.database.url.startswith("sqlite:"):
            tables.may_share(Path(self.database.database))
        self.life = life = Snooppix(self.settings, self.readers, self.carriers, self.clock)
        for each in (self.readers, self.carriers):
            each.failed = _raise
        sources = Sources(self.settings, life.mover.means, self.readers, self.clock)
        life.recover()
        if not is_once:
            self._watch()
            log.info("snooppix watches %s", ", ".join(map(str, self.settings.landing.folders)) or "transfers")
        next_look, earliest = 0.0, 0.0
        has_hint = False
        while not self.is_over:
            now = self.clock()
            is_look = now >= next_look or (has_hint and now >= earliest)
            started = time.monotonic()
            life.once(is_look)
            sources.once()
            if not life.is_busy:
                life.reader.close()  # begun again with the next file
            if is_look:
                cost = time.monotonic() - started
                has_hint = False
                next_look = now + max(self.settings.daemon.look_s, cost / LOOK_SHARE)
                earliest = now + cost / HINT_SHARE
            if is_once and not sources.asking and not self._has_work(life):
                return
            wait_s = min(self._wait_s(life, sources), max(0.0, (earliest if has_hint else next_look) - self.clock()))
            has_hint = self.rest(wait_s) or has_hint

    def _has_work(self, life: Snooppix) -> bool:
        """Whether anything goes on, or will once files have been steady for long enough."""
        now = self.clock()
        due = life.next_due()
        is_due = due is not None and due <= now + self.settings.landing.steady_s
        return life.is_busy or is_due or life.mover.is_startable()

    def _wait_s(self, life: Snooppix, sources: Sources) -> float:
        now = self.clock()
        if life.is_busy:
            return WHILE_BUSY_S
        moments = [moment for moment in (life.next_due(), life.mover.next_due()) if moment is not None]
        if self.settings.landing.sources:
            moments.append(sources.next_look)
        return max(0.02, min(moments, default=now + 3600) - now)

    def rest(self, seconds: float) -> bool:
        """Until something happens; whether it was a hint of a file."""
        handles = [self.wake_in] + ([self.parent] if self.parent is not None else [])
        ready: list[int] = []
        with suppress(InterruptedError):
            ready = select.select(handles, [], [], min(seconds, self.settings.daemon.look_s))[0]
        if self.parent in ready and not os.read(self.parent or 0, 4096):
            self.parent_is_gone = True
        hints = b""
        with suppress(BlockingIOError):
            hints = os.read(self.wake_in, 65536)
        return HINT in hints

    def _watch(self) -> None:
        """Events are hints. Where the kernel cannot see all changes there are none, and looks have to do."""
        wanted = self.settings.daemon.watch
        local = [each for each in self.settings.landing.folders if each.is_dir() and not is_on_network(each)]
        if wanted == "looks" or (wanted == "auto" and not local):
            return
        try:
            self.hints.start(local if wanted == "auto" else self.settings.landing.folders, recursive=True)
        except OSError as error:
            log.warning("the landing folders cannot be watched (%s): they are looked at", error)

    def close(self) -> None:
        """Threads end at their next piece; what was carried stays, and the next life goes on with it."""
        if self.life:
            self.life.stop()
        self.hints.stop()
        self.readers.stop()
        self.carriers.stop()
        if self.life:
            self.life.reader.close()
        if self.database is not None:
            with suppress(peewee.PeeweeException):
                self.database.close()

    def forget(self) -> None:
        signal.set_wakeup_fd(self.old_wakeup)
        os.close(self.wake_in)
        os.close(self.wake_out)


def _raise(process: int, error: Exception) -> None:
    raise error


if __name__ == "__main__":
    sys.exit(main())

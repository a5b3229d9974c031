"""spicad's loop: hints from watchdog, ends of steps, answers of threads, signals, the clock: each to its part.

What is done with a drop is intake.py's affair, with a run workshop.py's, with a mail outbox.py's.
"""

from __future__ import annotations

import fcntl
import logging
import os
import re
import select
import signal
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from spicad import config, letters, logs, outbox, sweeping, tables
from spicad.archive.keeping import Keeper
from spicad.backends.backend import Backend
from spicad.backends.local import Local
from spicad.backends.slurm import Slurm
from spicad.background import Background
from spicad.config import Settings
from spicad.desk import Desk
from spicad.heartbeat import LOCK
from spicad.hints import HINT, Hints
from spicad.housekeeping import Housekeeping
from spicad.intake import Intake
from spicad.ledger import Ledger
from spicad.measuring import Measuring
from spicad.newcomers import Newcomers
from spicad.node import is_on_network, try_sandbox, weights_of
from spicad.orders import note_hand_moves
from spicad.people import daemon_group
from spicad.recovery import recover
from spicad.spool import SUFFIX, Spool
from spicad.words import Phase, SpicaError
from spicad.workbench import Floor
from spicad.workshop import Workshop

log = logging.getLogger("spicad")

THREADS = 4
HOUR_S = 3600.0
CANNOT_CHANGE = (("paths", "spool"), ("paths", "results"), ("database", "url"), ("daemon", "backend"))
ROWS_S = 0.05  # rows wait so long for others
LOCK_PATIENCE_S = 0.2
REPORT_KEY = re.compile(r"(?P<process>\d+)-run\d+-(?P<phase>completed|error|aborted|held)")


class AlreadyRunning(SpicaError):
    pass


class Daemon:
    """One life of the daemon. `run` returns when it was told to stop."""

    def __init__(self, settings: Settings, clock: Callable[[], float] = time.time) -> None:
        self.settings = settings
        self.clock = clock
        self.lock = hold_lock(settings)
        self.wake_in, self.wake_out = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self.spool = Spool(settings.paths.spool)
        self.spool.make(daemon_group(settings))
        self.database = tables.connect(settings.database.url, settings.database.password_file)
        tables.require_current(make_if_empty=True)
        tables.make_private()
        if settings.database.url.startswith("sqlite:"):
            tables.may_share(Path(self.database.database))
        self.poll = select.epoll()
        self.poll.register(self.wake_in, select.EPOLLIN)
        self.background = Background(self.wake_out, THREADS)
        self.ledger = Ledger()
        self.floor = Floor(
            settings=settings,
            desk=self._desk(settings),
            spool=self.spool,
            ledger=self.ledger,
            background=self.background,
            is_sandboxed=try_sandbox(settings),
            clock=clock,
            backend=self._backend(settings),
        )
        self.workshop = Workshop(self.floor)
        self.intake = Intake(self.floor, self.workshop)
        self.hints = Hints(self.wake_out)
        self.signals: list[int] = []
        self.is_stopping = False
        self.is_mailing = False
        self.has_hint = True
        self.next_look = self.next_mail = self.next_tidy = self.rows_due = 0.0
        self.seen_change: tuple[int, ...] = ()
        self.notify = Notify()
        self.snooppix = Keeper(settings)
        self.newcomers = Newcomers(self.floor, self.intake)
        self.measuring = Measuring(self.workshop)
        self.housekeeping = Housekeeping(self.workshop, self.measuring)

    # ------------------------------------------------------------------ life

    def run(self, when_ready: Callable[[], None] = lambda: None) -> None:
        old = signal.set_wakeup_fd(self.wake_out, warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD):
            signal.signal(number, self._signalled)
        try:
            recover(self.workshop, self.clock())
            self._note_accepted_mails()
            outbox.try_all_now(self.spool.folder("outbox"))
            self._watch_incoming()
            self.notify("READY=1", f"MAINPID={os.getpid()}", self._status())
            slots = sum(node.slots for node in self.floor.backend.nodes() if node.name)
            has = f"{slots} slots" if slots else "steps by Slurm"  # which has not been asked yet
            log.info("spicad is ready on %s, %s, spool %s", self.floor.node, has, self.spool.root)
            when_ready()
            while not self.is_stopping:
                self.once()
                self._wait()
        finally:
            self._stop()
            signal.set_wakeup_fd(old)

    def _desk(self, settings: Settings) -> Desk:
        return Desk.of(settings, lambda: self.background.is_stopped)

    def _backend(self, settings: Settings) -> Backend:
        if settings.daemon.backend == "slurm":
            return Slurm(settings, self.background)
        return Local(settings, lambda handle: self.poll.register(handle, select.EPOLLIN), self.poll.unregister)

    def _signalled(self, number: int, frame: Any) -> None:
        self.signals.append(number)

    def once(self) -> None:
        """One pass. Safe at any time: it looks, and does what there is to do."""
        now = self.clock()
        self._obey_signals()
        self.background.hand_back()
        self.workshop.bench.look_at_steps(now)
        self.intake.accept(now)
        is_look = now >= self.next_look
        if is_look or self.has_hint:
            self.has_hint = False
            self._look(now, is_look)
            self.background.hand_back()  # what was looked over at once
            self.intake.accept(now)
        self.workshop.dispatch(now)
        self.workshop.end_runs()
        self.intake.settle()
        self._write_rows(now)
        self._mail(now)
        self.housekeeping.look(now)
        self.measuring.look(now)
        if now >= self.next_tidy:
            self.next_tidy = now + HOUR_S
            self._tidy(now)

    def _write_rows(self, now: float) -> None:
        """Not at once, but those of a moment together: each time costs a sync."""
        if self.ledger.has_rows and not self.rows_due and self.ledger.away_since is None:
            self.rows_due = now + ROWS_S
        if not self.rows_due - ROWS_S <= now < self.rows_due:
            self.rows_due = 0.0
            self.ledger.flush(now)

    def _look(self, now: float, is_thorough: bool) -> None:
        self.intake.look(now)
        if not is_thorough:
            return
        self.next_look = now + self.settings.daemon.look_s
        os.utime(self.lock)  # the sign of life that tells, once there is no daemon, since when
        change = self.spool.changed((Phase.QUEUED, Phase.HELD))
        if change != self.seen_change:
            note_hand_moves(self.workshop, now)
            self.seen_change = change
        self.workshop.finish_late()
        self.snooppix.look(now)
        self.newcomers.look(now)
        self.notify("WATCHDOG=1", self._status())

    def _wait(self) -> None:
        """Until something happens or is due."""
        now = self.clock()
        due = [self.next_look, self.floor.backend.next_time, self.workshop.queue.next_time, self.measuring.next_time]
        due.append(self.rows_due)
        if not self.is_mailing:
            due.append(self.next_mail)
        timeout = min((max(0.0, moment - now) for moment in due if moment), default=1.0)
        if self.signals or self.background.has_answers or self.intake.has_more:
            timeout = 0.0
        with suppress(InterruptedError):
            self.poll.poll(min(timeout, self.settings.daemon.look_s))
        hints = b""
        with suppress(BlockingIOError):
            hints = os.read(self.wake_in, 65536)
        if HINT in hints or self.intake.has_more:
            self.has_hint = True

    def _obey_signals(self) -> None:
        while self.signals:
            number = self.signals.pop(0)
            if number in (signal.SIGTERM, signal.SIGINT):
                self.is_stopping = True
            elif number == signal.SIGHUP:
                self._reload()

    def _reload(self) -> None:
        """A bad configuration is refused and the old one kept."""
        self.notify("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")
        logs.reopen()
        try:
            settings = config.load(self.settings.source)
            fixed = [
                f"[{section}] {name}"
                for section, name in CANNOT_CHANGE
                if getattr(getattr(settings, section), name) != getattr(getattr(self.settings, section), name)
            ]
            if fixed:
                raise SpicaError(f"{', '.join(fixed)} cannot change while spicad runs: stop it and start it again.")
            desk = self._desk(settings)
            is_sandboxed = try_sandbox(settings)
            outbox.try_all_now(self.spool.folder("outbox"))
        except (SpicaError, OSError) as error:
            log.error("reload refused, the old configuration stays: %s", error)
        else:
            self.settings = self.floor.settings = self.floor.backend.settings = settings
            self.snooppix.renew(settings)
            self.floor.desk = desk
            self.floor.is_sandboxed = is_sandboxed
            self.workshop.queue.weights = weights_of(settings)
            logs.set_level(settings.daemon.log_level)
            log.info("configuration reloaded from %s", settings.source)
        self.notify("READY=1", self._status())

    def _stop(self) -> None:
        """Orderly: nothing new starts, rows are written. Steps go on and the next daemon adopts them."""
        self.notify("STOPPING=1")
        log.info("spicad stops; %d steps go on by themselves", len(self.workshop.bench.running))
        self.workshop.is_draining = True
        self.snooppix.end()
        self.hints.stop()
        self.background.stop()  # the lock is kept until no thread works on a run any more
        self.background.hand_back()
        self.ledger.flush(self.clock())
        self.database.close()
        os.close(self.lock)

    # ------------------------------------------------------------------ parts

    def _watch_incoming(self) -> None:
        """Events are hints: they only say `look now`."""
        wanted = self.settings.daemon.watch
        incoming = self.spool.folder("incoming")
        if wanted == "looks" or (wanted == "auto" and is_on_network(incoming)):
            log.info("%s is looked at every %g s", incoming, self.settings.daemon.look_s)
            return
        try:
            self.hints.start([incoming], SUFFIX)
        except OSError as error:
            log.warning("%s cannot be watched (%s): it is looked at every %g s", incoming, error, self._look_s)

    @property
    def _look_s(self) -> float:
        return float(self.settings.daemon.look_s)

    def _mail(self, now: float) -> None:
        if self.is_mailing or now < self.next_mail:
            return
        folder = self.spool.folder("outbox")
        self.next_mail = now + self.settings.daemon.look_s
        letters.pass_on(folder, self.settings, now)
        if outbox.has_mail(folder):  # which of them are due is found out in the thread: they may be thousands
            self.is_mailing = True
            self.background.do(outbox.deliver, folder, self.settings, now, then=self._mailed)

    def _mailed(self, deliveries: Any) -> None:
        self.is_mailing = False
        if isinstance(deliveries, BaseException):
            log.error("mail: the outbox failed", exc_info=deliveries)
        self._note_accepted_mails()

    def _note_accepted_mails(self) -> None:
        """An event for each report that was accepted for delivery; then the outbox may forget it."""
        folder = self.spool.folder("outbox")
        accepted = outbox.accepted(folder)
        for key, at in accepted:
            report = REPORT_KEY.fullmatch(key)
            if report:
                phase = Phase(report["phase"].upper())
                self.ledger.event(int(report["process"]), phase, "spicad", "the report was accepted for delivery", at)
        if self.ledger.flush(self.clock()):
            for key, _ in accepted:
                if not sweeping.WARNING_KEY.fullmatch(key):  # the sweep notes these in the capsules
                    outbox.forget(folder, key)

    def _tidy(self, now: float) -> None:
        """Job files that have been over, or refused, for long enough leave the spool; rows and capsules stay."""
        if sweeping.why_paused(self.spool, sweeping.moment_now(now)):
            return
        keep_s, keep_refused_s = (
            days * 86400 for days in (self.settings.daemon.keep_job_files_days, self.settings.daemon.keep_rejected_days)
        )
        if keep_refused_s:
            self.spool.forget_refused(now - keep_refused_s)
        for phase in (Phase.COMPLETED, Phase.ERROR, Phase.ABORTED):
            for process in list(self.spool.copies(phase)):
                path = self.spool.path(process, phase)
                with suppress(FileNotFoundError):
                    if keep_s and now - path.stat().st_ctime > keep_s:
                        path.unlink()

    def _status(self) -> str:
        shop = self.workshop
        return f"STATUS={len(shop.bench.running)} steps run, {len(shop.runs)} executing, {len(shop.queue)} queued"


class Notify:
    """systemd's sd_notify(3) protocol: datagrams to $NOTIFY_SOCKET; nothing without one."""

    def __init__(self) -> None:
        self.address = os.environ.pop("NOTIFY_SOCKET", "")
        if self.address.startswith("@"):
            self.address = "\0" + self.address[1:]

    def __call__(self, *lines: str) -> None:
        if not self.address:
            return
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
            channel.sendto("\n".join(lines).encode(), self.address)


def hold_lock(settings: Settings) -> int:
    """The one daemon's lock, held for life: flock(2) ends with its holder, however that ends."""
    spool = Path(settings.paths.spool)
    spool.mkdir(parents=True, exist_ok=True)
    handle = os.open(spool / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    if not _locked(handle):
        pid = os.read(handle, 20).decode().strip()
        os.close(handle)
        raise AlreadyRunning(f"spicad already runs on {spool} (pid {pid}).")
    os.ftruncate(handle, 0)
    os.write(handle, f"{os.getpid()}\n".encode())
    return handle


def _locked(handle: int) -> bool:
    """Those who only ask who holds the lock (running_pid) have it for a moment: it is tried for a while."""
    until = time.monotonic() + LOCK_PATIENCE_S
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if time.monotonic() > until:
                return False
            time.sleep(LOCK_PATIENCE_S / 20)


def running_pid(settings: Settings) -> int | None:
    """The pid of the daemon that holds the lock now."""
    try:
        handle = os.open(Path(settings.paths.spool) / LOCK, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return int(os.read(handle, 20) or b"0")
    else:
        return None
    finally:
        os.close(handle)

"""The program spicad: start, stop, status, reload, run. What the daemon does is in daemon.py."""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import suppress

import daemon as python_daemon
from daemon.pidfile import PIDLockFile

from spicad import __version__, config, logs
from spicad.config import Settings
from spicad.daemon import AlreadyRunning, Daemon, running_pid
from spicad.node import drained
from spicad.words import SpicaError, visible

OK, FAILED, USAGE, NOT_RUNNING = 0, 1, 2, 3  # 3 as the Linux Standard Base asks of `status`
PATIENCE_S = 90.0  # as systemd has: a mail on its way to a slow relay is not cut
VERBS = {
    "start": "start the daemon in the background",
    "stop": "stop it; steps that run go on and are taken up by the next start",
    "status": "say whether it runs (exit status 0: yes, 3: no)",
    "reload": "read spica.conf again; a bad one is refused and the old one kept",
    "run": "run in the foreground, for systemd",
}


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="spicad", description="The Spica spool daemon. See spicad(8).")
    parser.add_argument("--version", action="version", version=f"spicad {__version__}")
    parser.add_argument("--config", metavar="FILE", help="the configuration file instead of the usual spica.conf")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    for verb, words in VERBS.items():
        verbs.add_parser(verb, help=words, description=f"spicad {verb}: {words}.")
    arguments = parser.parse_args(argv)
    try:
        settings = config.load(arguments.config)
        run = {"start": start, "stop": stop, "status": status, "reload": reload, "run": run_here}[arguments.verb]
        return run(settings)
    except SpicaError as error:
        print(f"spicad: {error}", file=sys.stderr)
        return FAILED


def run_here(settings: Settings) -> int:
    """In the foreground until SIGTERM."""
    file = settings.daemon.log if os.isatty(sys.stderr.fileno()) else ""
    logs.set_up(settings.daemon.log_level, settings.daemon.node, file)
    try:
        Daemon(settings).run()
    except SpicaError as error:
        logging.getLogger("spicad").critical("%s", error)
        raise
    return OK


def start(settings: Settings) -> int:
    """Returns when the daemon is ready, or says why it is not."""
    if pid := running_pid(settings):
        raise AlreadyRunning(f"spicad already runs on {settings.paths.spool} (pid {pid}).")
    settings.paths.spool.mkdir(parents=True, exist_ok=True)
    log_file = settings.daemon.log or str(settings.paths.spool / "spicad.log")
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        _detach(settings, log_file, writing)
    os.close(writing)
    with open(reading, encoding="utf-8") as answer:
        words = answer.read()
    os.waitpid(child, 0)
    if words.strip() != "ready":
        raise SpicaError(words.strip() or f"it ended before it was ready. Its log: {log_file}")
    print(f"spicad runs (pid {running_pid(settings)}), log {log_file}")
    return OK


def _detach(settings: Settings, log_file: str, answer: int) -> None:
    """In the forked child: becomes the daemon, and tells the parent once how that went."""
    log = open(log_file, "ab", buffering=0)  # noqa: SIM115 - the daemon's own for life
    os.set_inheritable(answer, False)
    context = python_daemon.DaemonContext(
        files_preserve=[answer, log.fileno()],
        stdout=log,
        stderr=log,
        umask=0o022,
        working_directory="/",
        signal_map={},
        pidfile=None,
    )
    with context:
        try:
            logs.set_up(settings.daemon.log_level, settings.daemon.node, log_file)
            life = Daemon(settings)
            pid_file = PIDLockFile(str(settings.paths.spool / "spicad.pid"))  # for people; the flock is the guard
            with suppress(OSError):
                os.unlink(pid_file.path)
            with suppress(OSError):
                pid_file.acquire(timeout=0)
            life.run(lambda: _tell(answer, "ready"))
            with suppress(OSError):
                os.unlink(pid_file.path)
        except SpicaError as error:
            _tell(answer, str(error))
            os._exit(FAILED)
        except BaseException as error:
            logging.getLogger("spicad").critical("spicad ends", exc_info=True)
            _tell(answer, f"{type(error).__name__}: {error}. See {log_file}")
            os._exit(FAILED)
    os._exit(OK)


def _tell(answer: int, words: str) -> None:
    """To the starter, if it still waits. The handle stays open: its number must never come to mean another file."""
    with suppress(OSError):
        os.write(answer, words.encode())
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, answer, inheritable=False)
        os.close(null)


def stop(settings: Settings) -> int:
    pid = running_pid(settings)
    if not pid:
        print("spicad does not run")
        return OK
    os.kill(pid, signal.SIGTERM)
    until = time.monotonic() + PATIENCE_S
    while running_pid(settings) == pid:
        if time.monotonic() > until:
            raise SpicaError(f"spicad (pid {pid}) has not stopped within {PATIENCE_S:g} s; see its log.")
        time.sleep(0.02)
    print("spicad has stopped")
    return OK


def status(settings: Settings) -> int:
    pid = running_pid(settings)
    print(
        f"spicad runs (pid {pid}) on {settings.paths.spool}"
        if pid
        else f"spicad does not run on {settings.paths.spool}"
    )
    if words := drained(settings):
        print(f"no further step starts on {settings.daemon.node}: {visible(words)}")
    return OK if pid else NOT_RUNNING


def reload(settings: Settings) -> int:
    """`settings` were just read, so a configuration that is bad in itself is told here already."""
    pid = running_pid(settings)
    if not pid:
        raise SpicaError("spicad does not run.")
    os.kill(pid, signal.SIGHUP)
    print("spicad reads its configuration again; its log says how that went")
    return OK

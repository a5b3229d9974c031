"""Fixtures that several test files share: a spool with a real daemon on it, and applications that need no astronomy.

What the daemon does with a job is told by the tests that use it.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

ROOT = Path(__file__).parent.parent
PATIENCE_S = 40.0
settings.register_profile("steady", derandomize=True, deadline=None)  # property tests go the same way every time
settings.load_profile("steady")
if (
    signal.getsignal(signal.SIGINT) is signal.SIG_IGN
):  # a shell that has begun the tests with & has it so, for all children
    signal.signal(signal.SIGINT, signal.default_int_handler)
# Compiled files are kept even where the shell asks for none: a start of `spica` takes half the time.
COMPILED = {"PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": str(ROOT / ".pytest_cache/compiled")}

CONF = """\
[paths]
spool = "spool"
results = "results"
archive = ["archive"]
applications = "applications"
rules = "rules"
configurations = "configurations"

[daemon]
slots = {slots}
look_s = 0.2

[mail]
sender = "spica@example.org"
"""


@pytest.fixture(scope="module", autouse=True)
def tables_of_its_own() -> Iterator[None]:
    """Tables that a file of tests has opened are not there for the next one: some answers depend on that."""
    yield
    from spicad import tables

    for each in (tables.database, tables.private):
        if each.obj is not None:
            if not each.obj.is_closed():
                each.obj.close()
            each.initialize(None)


# The stand-ins: `noop` does nothing, `copy` makes a product of each exposure, `idle` runs until it is ended, `fail`
# complains and fails.
APPLICATIONS = {
    "noop": ('["true"]', "[]", ""),
    "copy": (
        '["cp"]',
        '["{exposure}", "{stem}.copy.fits"]',
        '[output.image]\nfile = "{stem}.copy.fits"\nkind = "fits"\nproduct = "{exposure}.copy.fits"\n',
    ),
    "idle": ('["sleep"]', '["3600"]', ""),
    "fail": ('["ls"]', '["--", "{exposure}", "no-such-file"]', ""),
}
DESCRIPTOR = """\
title = "{name}"
summary = "A stand-in for a reduction tool"
command = {command}
version = ""
arguments = {arguments}
memory_mb = 256

[input.exposure]
kind = "exposure"
file = "{{stem}}.fits"

{output}"""
CARDS = (
    "SIMPLE  =                    T",
    "BITPIX  =                   16",
    "NAXIS   =                    2",
    "NAXIS1  =                   16",
    "NAXIS2  =                   16",
    "INSTRUME= 'TESTCAM '",
    "FILTER  = 'r       '",
    "OBJECT  = 'M101    '",
    "EXPTIME =                120.0",
    "AIRMASS =                  1.1",
    "DATE-OBS= '2004-03-21T05:00:00'",
    "CTYPE1  = 'RA---TAN'",
    "CTYPE2  = 'DEC--TAN'",
    "CRVAL1  =                210.8",
    "CRVAL2  =                 54.3",
    "CRPIX1  =                  8.0",
    "CRPIX2  =                  8.0",
    "CD1_1   =             -5.17E-5",
    "CD1_2   =                  0.0",
    "CD2_1   =                  0.0",
    "CD2_2   =              5.17E-5",
    "GAIN    =                  1.6",
    "SATURATE=              65000.0",
)


def write_exposure(path: Path, level: int = 100) -> Path:
    """The smallest FITS exposure that Spica takes: 16 x 16 pixels around `level`, with a WCS."""
    header = "".join(card.ljust(80) for card in (*CARDS, "END")).encode()
    pixels = b"".join((level + i % 7).to_bytes(2, "big") for i in range(256))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(header.ljust(2880) + pixels.ljust(2880, b"\0"))
    return path


class RunningSpica:
    """A folder with spica.conf, spool and archive of its own, and the daemon on it as a child process.

    `spica(...)` runs the command, `job(...)` writes a job file, `submit(...)` hands one over and returns its processid,
    `wait_for(...)` waits until a process is in one of some phases. `start` and `stop` may be called at any time.
    """

    def __init__(self, folder: Path, slots: int = 2, conf: str = "") -> None:
        self.folder = folder
        self.conf = folder / "spica.conf"
        self.spool, self.results, self.archive = folder / "spool", folder / "results", folder / "archive"
        self.log = folder / "spicad.log"
        self.daemon: subprocess.Popen[bytes] | None = None
        for name in ("archive", "applications", "rules", "configurations"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        self.conf.write_text(CONF.format(slots=slots) + conf)
        for name, (command, arguments, output) in APPLICATIONS.items():
            self.application(name, DESCRIPTOR.format(name=name, command=command, arguments=arguments, output=output))
        self.exposures = [write_exposure(self.archive / f"90000{n}p.fits", 100 * n) for n in (1, 2, 3)]

    def application(self, name: str, descriptor: str) -> None:
        (self.folder / "applications" / f"{name}.toml").write_text(descriptor)

    def start(self) -> None:
        """Returns when the daemon is ready."""
        before = self.log.stat().st_size if self.log.exists() else 0
        with self.log.open("ab") as log:
            command = [sys.executable, str(ROOT / "bin/spicad"), "--config", str(self.conf), "run"]
            self.daemon = subprocess.Popen(
                command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, env={**os.environ, **COMPILED}
            )
        wait_until(lambda: "spicad is ready" in self._log_since(before) or self._has_ended(), "the daemon to be ready")
        assert not self._has_ended(), self._log_since(before)

    def stop(self) -> None:
        """An orderly stop; steps that run go on."""
        if self.daemon is not None:
            self.daemon.terminate()
            self.daemon.wait(PATIENCE_S)
            self.daemon = None

    def _has_ended(self) -> bool:
        return self.daemon is None or self.daemon.poll() is not None

    def _log_since(self, position: int) -> str:
        return self.log.read_bytes()[position:].decode()

    def command(self, *arguments: object) -> list[str]:
        return [sys.executable, str(ROOT / "bin/spica"), "--config", str(self.conf), *map(str, arguments)]

    def spica(
        self, *arguments: object, status: int = 0, stdin: str | None = None, env: dict[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Runs `spica`; fails the test unless it ends with `status`."""
        done = subprocess.run(
            self.command(*arguments),
            input=stdin if stdin is not None else "",
            capture_output=True,
            text=True,
            timeout=2 * PATIENCE_S,
            env={**os.environ, **COMPILED, **(env or {})},
            check=False,
        )
        assert done.returncode == status, (
            f"exit {done.returncode}\n{done.stdout}\n{done.stderr}\n{self.log.read_text()}"
        )
        return done

    def job(self, *applications: str, name: str = "try", exposures: list[Path] | None = None, more: str = "") -> Path:
        """A job file with one task on each exposure for each of `applications`."""
        paths = ", ".join(f'"{path}"' for path in exposures or self.exposures)
        tasks = "".join(f'[[task]]\napplication = "{each}"\neach = "exposure"\n\n' for each in applications)
        path = self.folder / f"{name}.spica"
        path.write_text(f'name = "{name}"\nexposures = [{paths}]\n{more}\n\n{tasks}[end]\n')
        return path

    def submit(self, *applications: str, **values: object) -> int:
        done = self.spica("submit", self.job(*applications, **values))  # type: ignore[arg-type]
        return int(done.stdout.split()[-1])

    def phase(self, process: int) -> str:
        """By the spool: the folder that holds the job file."""
        return next((path.parent.name.upper() for path in self.spool.glob(f"*/{process:06d}.spica")), "")

    def wait_for(self, process: int, *phases: str) -> str:
        wanted = phases or ("COMPLETED", "ERROR", "ABORTED")
        wait_until(lambda: self.phase(process) in wanted, f"process {process} to be {' or '.join(wanted)}")
        return self.phase(process)

    def end(self) -> None:
        """Ends the daemon and every step that it left running."""
        from spicad.backends import local

        self.stop()
        for launch in self.results.glob("*/*/run-*/steps/*/launch.json"):
            local.kill(launch.parent)


class SpicaWithTools(RunningSpica):
    """With the shipped applications, rules and configurations too, copied so that a test may add to them.

    `drop` puts a job file into incoming/ as a user does and returns its processid; `refused` returns the reason.
    """

    def __init__(self, folder: Path, slots: int = 2, conf: str = "") -> None:
        super().__init__(folder, slots, conf)
        for name in ("applications", "rules", "configurations"):
            shutil.copytree(ROOT / "etc" / name, folder / name, dirs_exist_ok=True)

    def drop(self, text: str, name: str) -> int:
        answer = self._answer_to(text, name)
        assert isinstance(answer, int), answer
        return answer

    def refused(self, text: str, name: str) -> str:
        answer = self._answer_to(text, name)
        assert isinstance(answer, str), f"{name} was taken as process {answer}:\n{text}"
        return answer

    def _answer_to(self, text: str, name: str) -> int | str:
        (self.spool / "incoming" / f"{name}.spica").write_text(text)
        answers: list[int | str] = []

        def answered() -> bool:
            assert not self._has_ended(), self.log.read_text()[-3000:]
            answers.append(self.answer(name))
            return bool(answers[-1])

        wait_until(answered, f"{name}.spica to be taken or refused")
        return answers[-1]

    def answer(self, name: str) -> int | str:
        """The processid of a drop that was taken, the reason for one that was refused, else ''."""
        return self._taken_as(name) or self._why(name)

    def _taken_as(self, name: str) -> int:
        for path in self.spool.glob("*/[0-9]*.spica"):
            with suppress(FileNotFoundError):
                if f'drop = "{name}.spica"' in path.read_text():
                    return int(path.stem)
        return 0

    def _why(self, name: str) -> str:
        path = self.spool / "rejected" / f"{name}.spica.why"
        return path.read_text() if path.exists() else ""

    def run_folder(self, process: int, run: int = 1) -> Path:
        return next(self.results.glob(f"*/{process:06d}-*/run-{run}"))

    def outcome(self, process: int, run: int = 1) -> dict[str, Any]:
        return dict(json.loads((self.run_folder(process, run) / "outcome.json").read_text()))

    def report(self, process: int, run: int = 1) -> str:
        """On one line, so that a test may look for a sentence."""
        return " ".join((self.run_folder(process, run) / "report.txt").read_text().split())

    def product(self, process: int, name: str, run: int = 1) -> Path:
        (path,) = (self.run_folder(process, run) / "products").glob(name)
        return path


def wait_until(holds: Callable[[], object], what: str, patience_s: float = PATIENCE_S) -> None:
    until = time.monotonic() + patience_s
    while not holds():
        assert time.monotonic() < until, f"waited {patience_s:g} s in vain for {what}"
        time.sleep(0.01)


@pytest.fixture
def running_spica(tmp_path: Path) -> Iterator[RunningSpica]:
    """A daemon on a fresh spool, for one test. For a whole module use RunningSpica in a fixture of its own."""
    spica = RunningSpica(tmp_path)
    spica.start()
    yield spica
    spica.end()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--all-crash-points", action="store_true", help="end the daemon at every system call, no sample")
    parser.addoption("--downloads", action="store_true", help="also what downloads much: the self-contained packages")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not config.getoption("--downloads"):
        items[:] = [each for each in items if each.get_closest_marker("downloads") is None]

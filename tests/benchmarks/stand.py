"""What the benchmarks share: a spool with a daemon of its own, an application that does nothing, figures in a table.

Each contender of a benchmark is in that benchmark's own file. Nothing here needs pytest.
"""

from __future__ import annotations

import atexit
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from spicad.backends import local  # noqa: E402

PATIENCE_S = 120.0
MOST_PLACES = 16  # tried for a part of the disk where making a folder takes no longer than
QUICK_S = 0.00005

CONF = """\
[paths]
spool = "spool"
results = "results"
archive = ["archive"]
applications = "applications"
rules = "rules"
configurations = "configurations"
programs = ["programs"]

[daemon]
slots = {slots}
{daemon}
[sandbox]
kind = "{sandbox}"
"""
APPLICATION = """\
title = "{name}"
summary = "A benchmark's step"
command = ["{name}"]
version = ""
arguments = []
memory_mb = 256
"""
RULES = 'title = "{name}"\nsummary = "One step"\n\n[[task]]\napplication = "{name}"\neach = "exposure"\n'
JOB = 'name = "{name}"\nexposures = ["{exposure}"]\nrules = "{rules}"\n\n[end]\n'

# Writes the moment of its exec. C where there is a compiler, so that the program's own start hides nothing.
STAMP_C = """\
#include <stdio.h>
#include <time.h>
int main(void) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    printf("%lld%09ld\\n", (long long)now.tv_sec, now.tv_nsec);
    return 0;
}
"""
STAMP_SH = "#!/bin/sh\nexec date +%s%N\n"

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
)


class Stand:
    """A folder with spica.conf, spool, archive and programs of its own, and the daemon on it as a child."""

    def __init__(self, folder: Path, slots: int = 2, sandbox: str = "bubblewrap", daemon: str = "") -> None:
        self.folder = folder
        self.conf = folder / "spica.conf"
        self.spool, self.results, self.archive = folder / "spool", folder / "results", folder / "archive"
        self.log = folder / "spicad.log"
        self.daemon: subprocess.Popen[bytes] | None = None
        for name in ("archive", "applications", "rules", "configurations", "programs"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        self.conf.write_text(CONF.format(slots=slots, sandbox=sandbox, daemon=daemon))
        self.exposure = write_exposure(self.archive / "one.fits")
        self.application("true")

    def application(self, name: str) -> None:
        (self.folder / "applications" / f"{name}.toml").write_text(APPLICATION.format(name=name))
        (self.folder / "rules" / f"{name}.toml").write_text(RULES.format(name=name))

    def job(self, name: str, rules: str = "true") -> str:
        return JOB.format(name=name, exposure=self.exposure, rules=rules)

    def start(self) -> float:
        """Starts the daemon; returns the seconds until it was ready."""
        before = self.log.stat().st_size if self.log.exists() else 0
        began = time.monotonic()
        with self.log.open("ab") as log:
            command = [sys.executable, str(ROOT / "bin/spicad"), "--config", str(self.conf), "run"]
            self.daemon = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        while b"spicad is ready" not in self.log.read_bytes()[before:]:
            if self.daemon.poll() is not None or time.monotonic() - began > PATIENCE_S:
                raise SystemExit(f"the daemon did not start:\n{self.log.read_text()[-2000:]}")
            time.sleep(0.002)
        return time.monotonic() - began

    def stop(self, how: int = signal.SIGTERM) -> None:
        if self.daemon is not None:
            self.daemon.send_signal(how)
            self.daemon.wait(PATIENCE_S)
            self.daemon = None

    def drop(self, name: str, text: str) -> int:
        """A drop by one rename; returns the moment right before it, in ns."""
        incoming = self.spool / "incoming"
        hidden = incoming / f".{name}"
        hidden.write_text(text)
        moment = time.time_ns()
        os.rename(hidden, incoming / f"{name}.spica")
        return moment

    def count(self, phase: str) -> int:
        with os.scandir(self.spool / phase) as entries:
            return sum(1 for _ in entries)

    def memory_mb(self, field: str = "VmRSS") -> float:
        assert self.daemon is not None
        for line in Path(f"/proc/{self.daemon.pid}/status").read_text().splitlines():
            if line.startswith(field + ":"):
                return int(line.split()[1]) / 1024
        raise LookupError(field)

    def core_s(self) -> float:
        """Seconds that the daemon has spent on a core."""
        assert self.daemon is not None
        words = Path(f"/proc/{self.daemon.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")

    def end(self) -> None:
        self.stop()
        for launch in self.results.glob("*/*/run-*/steps/*/launch.json"):
            local.kill(launch.parent)


@contextmanager
def stand(slots: int = 2, sandbox: str = "bubblewrap", daemon: str = "") -> Iterator[Stand]:
    """A stand in a throw-away folder, on the disk that the rest of the run uses."""
    with scratch() as folder:
        made = Stand(folder, slots, sandbox, daemon)
        try:
            yield made
        finally:
            made.end()


@contextmanager
def scratch() -> Iterator[Path]:
    """A folder that goes at the very end, on a part of the disk where files are made quickly.

    ext4 without a journal passes over the inodes that were freed in the last minutes, one by one, so that making a
    file where another test has just cleaned up costs ten to fifty times as much. A folder marked as the top of a tree
    (chattr +T) is put elsewhere; the quickest of a few such places is taken.
    """
    places: list[tuple[float, Path]] = []
    while len(places) < MOST_PLACES and (not places or min(places)[0] > QUICK_S):
        top = Path(tempfile.mkdtemp(prefix="spica-benchmark-"))
        atexit.register(shutil.rmtree, top, ignore_errors=True)
        subprocess.run(["chattr", "+T", str(top)], stderr=subprocess.DEVNULL, check=False)
        folder = top / "here"
        folder.mkdir()
        places.append((_seconds_a_folder(top / "here"), folder))
    yield min(places)[1]


def _seconds_a_folder(place: Path) -> float:
    began = time.perf_counter()
    for number in range(20):
        (place / f"probe-{number}").mkdir()
    return (time.perf_counter() - began) / 20


def write_exposure(path: Path) -> Path:
    header = "".join(card.ljust(80) for card in (*CARDS, "END")).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(header.ljust(2880) + b"\0" * 2880)
    return path


def write_stamp(path: Path) -> str:
    """The program that prints the moment of its exec; returns what it is made of."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler:
        source = path.with_suffix(".c")
        source.write_text(STAMP_C)
        subprocess.run([compiler, "-O2", "-static", "-o", str(path), str(source)], check=True)
        return "a static C program"
    path.write_text(STAMP_SH)
    path.chmod(0o755)
    return "sh and date"


def wait_until(holds: Callable[[], object], what: str, patience_s: float = PATIENCE_S, pause_s: float = 0.001) -> None:
    until = time.monotonic() + patience_s
    while not holds():
        if time.monotonic() > until:
            raise SystemExit(f"waited {patience_s:g} s in vain for {what}")
        time.sleep(pause_s)


def median_and_p90(values: Sequence[float]) -> tuple[float, float]:
    ordered = sorted(values)
    return statistics.median(ordered), ordered[int(len(ordered) * 0.9)]


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    texts = [[f"{cell:.2f}" if isinstance(cell, float) else str(cell) for cell in row] for row in rows]
    widths = [max(len(row[i]) for row in [list(columns), *texts]) for i in range(len(columns))]
    print(f"\n{title}")
    for row in [list(columns), *texts]:
        cells = [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        print("  " + "   ".join(cells).rstrip())
    sys.stdout.flush()


def verdict(what: str, value: float, limit: float, unit: str = "x") -> bool:
    """One line: whether a figure is within what is promised."""
    good = value <= limit
    print(f"  {'ok  ' if good else 'MISS'} {what}: {value:.2f} {unit} (at most {limit:g})")
    return good

"""One-step processes that do nothing, in two slots, beside xargs, task-spooler, at and huey; then kill -9 half way.

    python tests/benchmarks/throughput.py [--jobs 1000] [--rounds 1] [--only spicad,at] [--no-kill]

A job counts from the first submission to the end of the last one. What each contender keeps: see README.md.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import stand
from stand import Stand, table, verdict, wait_until

from spicad import sandbox
from spicad.durable import sync_folder

SLOTS = 2
TRUE = shutil.which("true") or "/bin/true"
HUEY_APP = """\
import os
from huey import SqliteHuey
huey = SqliteHuey(filename=os.environ["HUEY_FILE"], fsync=True, results=False)

@huey.task()
def work(argv):
    os.waitpid(os.posix_spawn(argv[0], argv, {}), 0)
"""
HUEY_SUBMIT = """\
import sys
from huey_app import work
for number in range(int(sys.argv[1])):
    work([each.replace("{}", str(number)) for each in sys.argv[2:]])
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=1, help="repeat the rates so often and take medians")
    parser.add_argument("--only", default="", help="names of contenders, with commas between")
    parser.add_argument("--no-kill", action="store_true", help="leave the second part out")
    chosen = parser.parse_args()
    wanted = set(filter(None, chosen.only.split(",")))
    names = [name for name in RATES if not wanted or name in wanted]
    found: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(chosen.rounds):
        for name in names:
            found[name] += _rate(name, chosen.jobs)
    rates = {name: statistics.median(values) for name, values in found.items() if values}
    best = rates.get("at", 0.0) or 1.0
    rows = [(name, round(rate, 1), rate / best) for name, rate in rates.items()]
    table(f"{chosen.jobs} jobs of one step, {SLOTS} slots", ("contender", "jobs/s", "over at"), rows)
    good = True
    for rival in ("at", "huey"):
        if rival in rates and "spicad" in rates:
            good &= verdict(f"{rival}'s rate over spicad's", rates[rival] / rates["spicad"], 1.0)
    if not chosen.no_kill:
        good &= _kill_part(chosen.jobs, wanted)
    return 0 if good else 1


def _rate(name: str, jobs: int) -> list[float]:
    with stand.scratch() as folder:
        try:
            return [jobs / RATES[name](folder, jobs)]
        except FileNotFoundError as error:
            print(f"  {name} is left out: {error}")
            return []


# ---------------------------------------------------------------------- rates


def rate_spicad(folder: Path, jobs: int, kind: str = "none") -> float:
    made = Stand(folder, SLOTS, kind)
    made.start()
    try:
        began = time.monotonic()
        submit(made, jobs)
        wait_until(lambda: made.count("completed") >= jobs, "all to be completed", pause_s=0.01)
        return time.monotonic() - began
    finally:
        made.end()


def rate_spicad_sandbox(folder: Path, jobs: int) -> float:
    return rate_spicad(folder, jobs, "bubblewrap")


def submit(made: Stand, jobs: int, rules: str = "true") -> None:
    """As `spica submit` drops them: each synced, renamed, its folder synced."""
    incoming = made.spool / "incoming"
    for number in range(jobs):
        hidden = incoming / f".n{number}"
        with hidden.open("w") as file:
            file.write(made.job(f"n{number}", rules))
            file.flush()
            os.fsync(file.fileno())
        os.rename(hidden, incoming / f"n{number}.spica")
        sync_folder(incoming)


def rate_xargs(folder: Path, jobs: int) -> float:
    return _timed_xargs(jobs, [TRUE])


def rate_xargs_bwrap(folder: Path, jobs: int) -> float:
    for name in ("cfg", "job"):
        (folder / name).mkdir()
    return _timed_xargs(jobs, [sandbox.bwrap(), *sandbox.arguments(folder, {}, [TRUE])])


def _timed_xargs(jobs: int, argv: list[str]) -> float:
    began = time.monotonic()
    numbers = "\n".join(map(str, range(jobs)))
    subprocess.run(["xargs", f"-P{SLOTS}", "-I{}", *argv], input=numbers, text=True, check=True)
    return time.monotonic() - began


def rate_task_spooler(folder: Path, jobs: int) -> float:
    _need("tsp")
    environment = _tsp_environment(folder)
    try:
        began = time.monotonic()
        for _ in range(jobs):
            subprocess.run(["tsp", "-n", TRUE], env=environment, stdout=subprocess.DEVNULL, check=True)
        wait_until(lambda: _tsp_waiting(environment) == 0, "task-spooler", pause_s=0.01)
        return time.monotonic() - began
    finally:
        subprocess.run(["tsp", "-K"], env=environment, check=False)


def _tsp_environment(folder: Path) -> dict[str, str]:
    return {
        **os.environ,
        "TS_SOCKET": str(folder / "socket"),
        "TMPDIR": str(folder),
        "TS_SLOTS": str(SLOTS),
        "TS_MAXFINISHED": "10",
    }


def _tsp_waiting(environment: dict[str, str]) -> int:
    done = subprocess.run(["tsp", "-l"], env=environment, capture_output=True, text=True, check=False)
    return sum(1 for line in done.stdout.splitlines() if " queued " in line or " running " in line)


def rate_at(folder: Path, jobs: int) -> float:
    with at_daemon() as at:
        began = time.monotonic()
        for _ in range(jobs):
            at(TRUE)
        wait_until(lambda: not at_left(), "at", pause_s=0.01)
        return time.monotonic() - began


@contextmanager
def at_daemon() -> Iterator[Callable[[str], None]]:
    """atd as a child in the foreground; raises FileNotFoundError when at is not to be had here."""
    _need("at")
    pid = start_atd()
    try:
        _at("true")
        wait_until(lambda: not at_left(), "the first job of at", patience_s=20)
        yield _at
    except SystemExit as error:
        raise FileNotFoundError(f"at does not work here: {error}") from None
    finally:
        os.kill(pid.pid, signal.SIGTERM)
        pid.wait()


def start_atd() -> subprocess.Popen[bytes]:
    program = _need("atd")
    began = subprocess.Popen([program, "-f", "-b", "0"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    time.sleep(0.1)
    if began.poll() is not None:
        raise FileNotFoundError("atd cannot be started here (is another one running?)")
    return began


def _at(command: str) -> None:
    subprocess.run(["at", "-M", "now"], input=command, text=True, stderr=subprocess.DEVNULL, check=True)


def at_left() -> bool:
    """Whether jobs of at wait or run."""
    return bool(subprocess.run(["atq"], capture_output=True, text=True, check=True).stdout)


def rate_huey(folder: Path, jobs: int) -> float:
    environment = _huey_environment(folder)
    consumer = start_huey(folder, environment)
    try:
        began = time.monotonic()
        subprocess.run([sys.executable, "submit.py", str(jobs), TRUE], cwd=folder, env=environment, check=True)
        wait_until(lambda: huey_waiting(folder) == 0, "huey", pause_s=0.01)
        return time.monotonic() - began
    finally:
        consumer.kill()
        consumer.wait()


def _huey_environment(folder: Path) -> dict[str, str]:
    (folder / "huey_app.py").write_text(HUEY_APP)
    (folder / "submit.py").write_text(HUEY_SUBMIT)
    return {**os.environ, "HUEY_FILE": str(folder / "huey.db"), "PYTHONPATH": str(folder)}


def start_huey(folder: Path, environment: dict[str, str]) -> subprocess.Popen[bytes]:
    program = Path(sys.executable).parent / "huey_consumer"
    if not program.exists():
        program = Path(_need("huey_consumer"))
    log = (folder / "huey.log").open("ab")
    before = log.tell()
    command = [str(program), "huey_app.huey", "-w", str(SLOTS), "-d", "0.001", "-m", "0.01", "-n"]
    consumer = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log)
    wait_until(lambda: b"huey_app.work" in (folder / "huey.log").read_bytes()[before:], "the huey consumer")
    return consumer


def huey_waiting(folder: Path) -> int:
    import sqlite3

    with sqlite3.connect(f"file:{folder / 'huey.db'}?mode=ro", uri=True) as tables:
        return int(tables.execute("select count(*) from task").fetchone()[0])


def _need(program: str) -> str:
    found = shutil.which(program, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    if not found:
        raise FileNotFoundError(f"{program} is not installed")
    return found


RATES: dict[str, Callable[[Path, int], float]] = {
    "xargs": rate_xargs,
    "spicad": rate_spicad,
    "task-spooler": rate_task_spooler,
    "at": rate_at,
    "huey": rate_huey,
    "spicad-sandbox": rate_spicad_sandbox,
    "xargs-bwrap": rate_xargs_bwrap,
}


def _kill_part(jobs: int, wanted: set[str]) -> bool:
    return True


if __name__ == "__main__":
    sys.exit(main())

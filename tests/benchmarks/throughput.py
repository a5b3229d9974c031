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


def at_left() -> int:
    """How many jobs of at wait or run."""
    while (asked := subprocess.run(["atq"], capture_output=True, text=True, check=False)).returncode:
        time.sleep(0.001)  # a job went away while atq looked at it
    return len(asked.stdout.splitlines())


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


# ---------------------------------------------------------------------- kill -9 half way

MARK = 'sleep 0.02; echo "$1" >>"$0"'  # a job that leaves its number behind: sh -c MARK FILE NUMBER


def _kill_part(jobs: int, wanted: set[str]) -> bool:
    """All are accepted, half have run, kill -9 of the daemon, start it again: what is left of them."""
    rows = []
    for name, kill in KILLS.items():
        if wanted and name not in wanted:
            continue
        with stand.scratch() as folder:
            try:
                ran, twice, left = kill(folder, jobs)
            except FileNotFoundError as error:
                print(f"  {name} is left out: {error}")
                continue
        rows.append((name, ran, twice, left, jobs - ran - left))
    table(f"kill -9 after half of {jobs} jobs, and a new start", ("contender", "ran", "twice", "waits", "lost"), rows)
    return all(row[4] == 0 for row in rows if row[0] == "spicad")


def marks(path: Path) -> list[str]:
    return path.read_text().split() if path.exists() else []


def settled(path: Path, left: Callable[[], int], patience_s: float = 5.0) -> tuple[int, int, int]:
    """Waits until no more marks come; different ones, repeated ones, and how many still wait."""
    seen, since = -1, time.monotonic()
    while len(marks(path)) != seen or (left() and time.monotonic() - since < patience_s):
        if len(marks(path)) != seen:
            seen, since = len(marks(path)), time.monotonic()
        time.sleep(0.05)
    return len(set(marks(path))), seen - len(set(marks(path))), left()


def kill_spicad(folder: Path, jobs: int) -> tuple[int, int, int]:
    """The marks are the logs of the steps: one for each that ran, one more for each attempt begun before the kill."""
    made = Stand(folder, SLOTS, "none")
    stand.write_stamp(made.folder / "programs" / "stamp")
    made.application("stamp")
    made.start()
    try:
        submit(made, jobs, "stamp")
        wait_until(lambda: made.count("completed") >= jobs // 2, "half of them", pause_s=0.002)
        made.stop(signal.SIGKILL)
        made.start()
        wait_until(lambda: made.count("completed") >= jobs, "all to be completed", pause_s=0.01)
        ran = {log.parents[3].name for log in made.results.glob("*/*/run-1/steps/0001-stamp/log") if log.read_text()}
        again = list(made.results.glob("*/*/run-1/steps/0001-stamp.attempt-*"))
        print(f"  spicad: {made.count('completed')} completed; begun again after the kill: {len(again)}")
        return len(ran), len(again), jobs - made.count("completed")
    finally:
        made.end()


def kill_task_spooler(folder: Path, jobs: int) -> tuple[int, int, int]:
    _need("tsp")
    environment, path = _tsp_environment(folder), folder / "marks"
    for number in range(jobs):
        _tsp(environment, "-n", "sh", "-c", MARK, str(path), str(number))
    wait_until(lambda: len(marks(path)) >= jobs // 2, "half of them")
    os.kill(_tsp_server(environment), signal.SIGKILL)
    (folder / "socket").unlink(missing_ok=True)
    _tsp(environment, "-n", "true")
    try:
        return settled(path, lambda: _tsp_waiting(environment), 1.0)
    finally:
        subprocess.run(["tsp", "-K"], env=environment, check=False)


def _tsp(environment: dict[str, str], *arguments: str) -> None:
    subprocess.run(["tsp", *arguments], env=environment, stdout=subprocess.DEVNULL, check=True)


def _tsp_server(environment: dict[str, str]) -> int:
    """The pid of the process that listens on the socket."""
    wanted = environment["TS_SOCKET"]
    for entry in filter(str.isdecimal, os.listdir("/proc")):
        try:
            is_it = f"TS_SOCKET={wanted}".encode() in Path(f"/proc/{entry}/environ").read_bytes().split(b"\0")
            if is_it and Path(f"/proc/{entry}/comm").read_text().strip() in ("tsp", "ts"):
                return int(entry)
        except OSError:
            continue
    raise FileNotFoundError("the server of task-spooler cannot be found")


def kill_at(folder: Path, jobs: int) -> tuple[int, int, int]:
    path = folder / "marks"
    with at_daemon() as at:
        pass
    for number in range(jobs):  # accepted while no atd runs: at keeps them
        at(f"sleep 0.02; echo {number} >>{path}")
    daemon = start_atd()
    wait_until(lambda: len(marks(path)) >= jobs // 2, "half of them")
    daemon.kill()
    daemon.wait()
    daemon = start_atd()
    try:
        return settled(path, at_left, 5.0)
    finally:
        daemon.terminate()
        daemon.wait()


def kill_huey(folder: Path, jobs: int) -> tuple[int, int, int]:
    path, environment = folder / "marks", _huey_environment(folder)
    submit_huey = [sys.executable, "submit.py", str(jobs), "/bin/sh", "-c", MARK, str(path), "{}"]
    subprocess.run(submit_huey, cwd=folder, env=environment, check=True)
    consumer = start_huey(folder, environment)
    wait_until(lambda: len(marks(path)) >= jobs // 2, "half of them")
    consumer.kill()
    consumer.wait()
    consumer = start_huey(folder, environment)
    try:
        return settled(path, lambda: huey_waiting(folder))
    finally:
        consumer.kill()
        consumer.wait()


KILLS: dict[str, Callable[[Path, int], tuple[int, int, int]]] = {
    "spicad": kill_spicad,
    "task-spooler": kill_task_spooler,
    "at": kill_at,
    "huey": kill_huey,
}


if __name__ == "__main__":
    sys.exit(main())

"""From the rename into incoming/ to the exec of the tool: the daemon beside a bare inotify loop and task-spooler.

    python tests/benchmarks/latency.py [--trials 150]

Each contender starts the same program, which prints the moment of its exec. One job at a time, the daemon idle before.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import stand
from stand import Stand, median_and_p90, table, verdict, wait_until

from spicad import sandbox

RAW = """\
import ctypes, os, struct, sys
incoming, out, program = sys.argv[1:]
libc = ctypes.CDLL(None)
handle = libc.inotify_init1(os.O_CLOEXEC)
libc.inotify_add_watch(handle, incoming.encode(), 0x80)  # IN_MOVED_TO
print("ready", flush=True)
while True:
    data, at = os.read(handle, 65536), 0
    while at < len(data):
        length = struct.unpack_from("iIII", data, at)[3]
        name = os.fsdecode(data[at + 16 : at + 16 + length].rstrip(b"\\0"))
        at += 16 + length
        actions = [(os.POSIX_SPAWN_OPEN, 1, f"{out}/{name}", os.O_WRONLY | os.O_CREAT, 0o644)]
        os.waitpid(os.posix_spawn(program, [program], {}, file_actions=actions), 0)
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=150)
    trials = parser.parse_args().trials
    with stand.scratch() as folder:
        program = folder / "stamp"
        made_of = stand.write_stamp(program)
        print(f"latency, {trials} jobs one at a time; the tool is {made_of}")
        found = {
            "inotify + posix_spawn": raw(folder / "raw", program, trials),
            "spicad, no sandbox": spicad(program, "none", trials),
            "task-spooler": task_spooler(folder / "tsp", program, trials),
            "bwrap alone": bare_bwrap(folder / "bwrap", program, trials),
            "spicad, sandbox": spicad(program, "bubblewrap", trials),
            "inotify again": raw(folder / "again", program, trials),
        }
    floor = median_and_p90([*found["inotify + posix_spawn"], *found["inotify again"]])[0]
    rows = []
    for name, values in found.items():
        if values:
            middle, late = median_and_p90(values)
            rows.append((name, middle, late, middle / floor))
    table("ms from rename (of a launch: from its call) to exec", ("contender", "median", "90%", "ratio"), rows)
    middle = {name: median_and_p90(values)[0] for name, values in found.items() if values}
    good = verdict("spicad without sandbox, over inotify + posix_spawn", middle["spicad, no sandbox"] / floor, 2.5)
    if "task-spooler" in middle:
        good &= verdict("the same over task-spooler", middle["spicad, no sandbox"] / middle["task-spooler"], 1.0)
    extra = middle["spicad, sandbox"] - middle["spicad, no sandbox"]
    good &= verdict("what the sandbox adds, over bwrap alone", extra / middle["bwrap alone"], 1.3)
    return 0 if good else 1


def each_trial(trials: int, one: Callable[[int], int], begin: Callable[[int], int]) -> list[float]:
    """ms between `begin` and the stamp that `one` reads, with an odd pause before each."""
    pauses = random.Random(4)
    found = []
    for number in range(-10, trials):
        time.sleep(pauses.uniform(0.02, 0.04))
        began = begin(number)
        exec_ns = one(number)
        if number >= 0:
            found.append((exec_ns - began) / 1e6)
    return found


def raw(folder: Path, program: Path, trials: int) -> list[float]:
    incoming, out = folder / "incoming", folder / "out"
    incoming.mkdir(parents=True)
    out.mkdir()
    command = [sys.executable, "-c", RAW, str(incoming), str(out), str(program)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as loop:
        assert loop.stdout is not None
        loop.stdout.readline()

        def begin(number: int) -> int:
            hidden = folder / f"{number}"
            hidden.write_text("x")
            moment = time.time_ns()
            os.rename(hidden, incoming / f"{number}")
            return moment

        found = each_trial(trials, lambda number: stamp_in(out / f"{number}"), begin)
        loop.kill()
    return found


def stamp_in(path: Path) -> int:
    wait_until(lambda: path.exists() and path.stat().st_size, f"a stamp in {path}")
    return int(path.read_text())


def spicad(program: Path, kind: str, trials: int) -> list[float]:
    with stand.stand(sandbox=kind) as made:
        shutil.copy(program, made.folder / "programs" / "stamp")
        made.application("stamp")
        made.start()

        def begin(number: int) -> int:
            return made.drop(f"job{number + 10}", made.job(f"job{number + 10}", "stamp"))

        def stamp(number: int) -> int:
            process = number + 11
            wait_until(lambda: (made.spool / "completed" / f"{process:06d}.spica").exists(), f"process {process}")
            return stamp_in(log_of(made, process, f"job{number + 10}"))

        return each_trial(trials, stamp, begin)


def log_of(made: Stand, process: int, name: str) -> Path:
    return next(made.results.glob(f"*/{process:06d}-{name}/run-1/steps/0001-stamp*/log"))


def task_spooler(folder: Path, program: Path, trials: int) -> list[float]:
    if not shutil.which("tsp"):
        print("  task-spooler is not installed: left out")
        return []
    folder.mkdir()
    environment = {**os.environ, "TS_SOCKET": str(folder / "socket"), "TMPDIR": str(folder), "TS_SLOTS": "2"}

    def begin(number: int) -> int:
        moment = time.time_ns()
        subprocess.run(["tsp", str(program)], env=environment, stdout=subprocess.DEVNULL, check=True)
        return moment

    def stamp(number: int) -> int:
        subprocess.run(["tsp", "-w"], env=environment, stdout=subprocess.DEVNULL, check=True)
        done = subprocess.run(["tsp", "-c"], env=environment, capture_output=True, text=True, check=True)
        return int(done.stdout)

    try:
        return each_trial(trials, stamp, begin)
    finally:
        subprocess.run(["tsp", "-K"], env=environment, check=False)


def bare_bwrap(folder: Path, program: Path, trials: int) -> list[float]:
    for name in ("cfg", "job"):
        (folder / name).mkdir(parents=True)
    arguments = sandbox.arguments(folder, {}, [str(program)], [program.parent])
    log = folder / "log"

    def begin(number: int) -> int:
        log.unlink(missing_ok=True)
        moment = time.time_ns()
        actions = [(os.POSIX_SPAWN_OPEN, 1, str(log), os.O_WRONLY | os.O_CREAT, 0o644)]
        os.waitpid(os.posix_spawn(sandbox.bwrap(), ["bwrap", *arguments], {}, file_actions=actions), 0)
        return moment

    return each_trial(trials, lambda number: stamp_in(log), begin)


if __name__ == "__main__":
    sys.exit(main())

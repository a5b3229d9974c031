"""What a ready daemon costs while nothing happens: share of a core, wake-ups a second, memory.

Prints figures and asserts nothing: python tests/benchmarks/idle.py [SECONDS]
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

import psutil

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[2])]

from conftest import RunningSpica  # noqa: E402
from life import drop, job_text  # noqa: E402


def measured(pid: int, seconds: float) -> str:
    daemon = psutil.Process(pid)
    before, switches = daemon.cpu_times(), daemon.num_ctx_switches().voluntary
    time.sleep(seconds)
    after = daemon.cpu_times()
    busy = after.user + after.system - before.user - before.system
    memory = daemon.memory_full_info()
    wakes = (daemon.num_ctx_switches().voluntary - switches) / seconds
    return (
        f"{100 * busy / seconds:5.2f} % of a core  {wakes:5.1f} wake-ups/s (main thread)  "
        f"RSS {memory.rss / 1e6:5.1f} MB  of its own {memory.uss / 1e6:5.1f} MB"
    )


def main() -> None:
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 20.0
    with tempfile.TemporaryDirectory(prefix="spica-idle-") as folder:
        spica = RunningSpica(Path(folder))
        spica.conf.write_text(spica.conf.read_text().replace("look_s = 0.2", "look_s = 5"))
        spica.start()
        assert spica.daemon is not None
        print("just started:       ", measured(spica.daemon.pid, seconds))
        drop(spica, "try.spica", job_text(spica, "copy", exposures=3))
        spica.wait_for(1)
        print("after a process:    ", measured(spica.daemon.pid, seconds))
        for number in range(500):
            drop(spica, f"{number}.spica", job_text(spica, more="not_before = 2100-01-01"))
        while list((spica.spool / "incoming").iterdir()):
            time.sleep(0.1)
        print("with 500 that wait: ", measured(spica.daemon.pid, seconds))
        spica.end()


if __name__ == "__main__":
    main()

"""A hundred thousand queued processes: choosing the next, starting with them, memory, and taking as many drops.

    python tests/benchmarks/backlog.py [--processes 100000] [--drops 5000] [--full]

The queue for the start is made by inserting rows and copies. No step is started: the free disk asked for is not there.
(Not called queue.py: a script's folder comes first in the path, and the standard library has that name.)
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from itertools import islice

import stand
from stand import Stand, median_and_p90, table, verdict, wait_until

from spicad import config, tables
from spicad.rows import insert_many
from spicad.spool import Accepted, with_accepted
from spicad.tables import Process
from spicad.waiting import Queue, Waiting

USERS = 500
NOTHING_STARTS = "\n[limits]\nfree_disk_mb = 1_000_000_000\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--processes", type=int, default=100_000)
    parser.add_argument("--drops", type=int, default=5_000, help="dropped files to take")
    parser.add_argument("--full", action="store_true", help="take as many drops as there are processes")
    chosen = parser.parse_args()
    drops = chosen.processes if chosen.full else chosen.drops
    good = choosing(chosen.processes)
    good &= starting(chosen.processes)
    good &= taking(drops, chosen.processes)
    return 0 if good else 1


def waiting(count: int) -> Iterator[Waiting]:
    for number in range(1, count + 1):
        user = number * 7919 % USERS
        locality = number % 3 / 2
        yield Waiting(1.7e9 + number, number, user % 4, f"user{user}", f"group{user % 5}", locality=locality)


def choosing(count: int) -> bool:
    queue, now = Queue(), 1.7e9 + 2 * count
    for user in range(USERS):
        queue.use.add(f"user{user}", f"group{user % 5}", user * 60.0, now)
    for each in waiting(count):
        queue.add(each, now)
    took = []
    for _ in range(500):
        began = time.perf_counter()
        first = next(queue.in_order(now, lambda each: True))
        took.append((time.perf_counter() - began) * 1e3)
        queue.remove(first.process)
    began = time.perf_counter()
    list(islice(queue.in_order(now, lambda each: True), 1000))
    thousand = (time.perf_counter() - began) * 1e3
    middle, late = median_and_p90(took)
    title = f"choosing among {count} of {USERS} users"
    table(title, ("", "median ms", "90% ms"), [("the next", middle, late), ("the first thousand", thousand, thousand)])
    return verdict("choosing the next", late, 5.0, "ms")


def starting(count: int) -> bool:
    with stand.scratch() as folder:
        made = Stand(folder)
        made.conf.write_text(made.conf.read_text() + NOTHING_STARTS)
        fill(made, count)
        took = made.start()
        core = made.core_s()
        memory, peak = made.memory_mb(), made.memory_mb("VmHWM")
        stop_began = time.monotonic()
        made.stop()
        rows = [
            ("until ready, s", took),
            ("of it on a core, s", core),
            ("memory, MB", memory),
            ("memory at most, MB", peak),
        ]
        table(f"start with {count} queued", ("", ""), [*rows, ("stop, s", time.monotonic() - stop_began)])
    return verdict("start", took, 5.0, "s") & verdict("memory", peak, 300.0, "MB")


def fill(made: Stand, count: int) -> None:
    """Rows and durable copies as acceptance makes them, without its syncs."""
    settings = config.load(made.conf)
    (made.spool / "queued").mkdir(parents=True)
    opened = tables.connect(settings.database.url)
    tables.require_current(make_if_empty=True)
    rows = []
    for each in waiting(count):
        accepted = Accepted(f"{each.process:040x}", each.user, each.group, each.rank, each.submitted, "made.spica")
        text = with_accepted(made.job(f"n{each.process}"), accepted)
        (made.spool / "queued" / f"{each.process:06d}.spica").write_text(text)
        rows.append(
            {
                "id": each.process,
                "token": accepted.token,
                "name": f"n{each.process}",
                "owner": each.user,
                "group": each.group,
                "rank": each.rank,
                "phase": "QUEUED",
                "submitted": each.submitted,
            }
        )
    with opened.atomic():
        insert_many(Process, rows)
    opened.close()


def taking(count: int, goal: int) -> bool:
    with stand.scratch() as folder:
        made = Stand(folder)
        made.conf.write_text(made.conf.read_text() + NOTHING_STARTS)
        made.start()
        waiting_room = made.spool / "tmp" / "drops"
        waiting_room.mkdir()
        for number in range(count):
            (waiting_room / f"n{number}.spica").write_text(made.job(f"n{number}"))
        began = time.monotonic()
        for path in waiting_room.iterdir():
            path.rename(made.spool / "incoming" / path.name)
        dropped = time.monotonic() - began
        wait_until(lambda: made.count("incoming") == 0, "all to be taken", 1800, 0.05)
        took = time.monotonic() - began
        rate, peak = count / took, made.memory_mb("VmHWM")
        kept = made.count("queued")
        made.stop()
    minutes = goal / rate / 60
    rows = [("dropping, s", dropped), ("taking, s", took), ("a second", rate), ("memory at most, MB", peak)]
    table(f"{count} drops", ("", ""), [*rows, ("queued", kept)])
    return verdict(f"{goal} drops at that rate", minutes, 10.0, "min") & verdict("not queued", count - kept, 0, "")


if __name__ == "__main__":
    sys.exit(main())

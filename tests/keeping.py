"""Capsules of ended runs, a clock and a relay of paper, for the tests of retention and quota.

What is asserted is the affair of test_retention.py, test_sweeping.py and test_quota.py.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

from spicad import config, outbox, sweeping
from spicad.config import Settings
from spicad.retention import DAY_S, Moment
from spicad.spool import Spool
from spicad.sweeping import Swept
from spicad.words import Phase

START = 1_100_000_000.0  # of all these tests: a day in November 2004
CONF = """\
[paths]
spool = "spool"
results = "results"

[retention]
administrator = "dan@example.org"
{more}
"""


@dataclass
class Keeping:
    """A spool and results without a daemon, and a time of day that is put forward by hand."""

    folder: Path
    settings: Settings
    spool: Spool
    wall: float = START
    boottime: float = 10 * DAY_S
    boot: str = "one"

    @property
    def results(self) -> Path:
        return Path(self.settings.paths.results)

    @property
    def moment(self) -> Moment:
        return Moment(self.wall, self.boottime, self.boot)

    def later(self, days: float) -> None:
        self.wall += days * DAY_S
        self.boottime += days * DAY_S

    def sweep(self) -> Swept:
        return sweeping.sweep(self.settings, self.spool, self.moment)

    def relay_takes(self) -> list[str]:
        """All mails that wait are accepted, now; their keys."""
        folder = self.spool.folder("outbox")
        keys = sorted(path.stem for path in folder.glob("*.eml"))
        for key in keys:
            os.utime(folder / f"{key}.eml", (self.wall, self.wall))
            os.rename(folder / f"{key}.eml", folder / "sent" / f"{key}.eml")
        return keys

    def waiting_mails(self) -> list[str]:
        return [mail.path.read_text() for mail in outbox.waiting(self.spool.folder("outbox"))]

    def days(self, number: int, relay: bool = True) -> list[str]:
        """A sweep each day, whose mails are taken or not; the keys of those that were."""
        taken = []
        for _ in range(number):
            self.later(1)
            self.sweep()
            taken += self.relay_takes() if relay else []
        return taken


def keeping(folder: Path, more: str = "") -> Keeping:
    """After the first, quiet day of a boot."""
    folder.mkdir(exist_ok=True)
    conf = folder / "spica.conf"
    conf.write_text(CONF.format(more=more))
    settings = config.load(conf)
    spool = Spool(Path(settings.paths.spool))
    spool.make()
    made = Keeping(folder, settings, spool)
    made.results.mkdir()
    made.sweep()
    made.later(1.1)
    return made


def ended_run(
    at: Keeping,
    process: int,
    owner: str = "alice",
    run: int = 1,
    files: int = 2,
    bytes_: int = 10_000,
    phase: Phase = Phase.COMPLETED,
    group: str = "galaxies",
    mail: str = "alice@example.org",
    ended: float | None = None,
) -> Path:
    """The capsule of a run that has just ended, with what a step left; the folder."""
    folder = at.results / owner / f"{process:06d}-try" / f"run-{run}"
    for name in ("products", "configuration/00-copy", "steps/0001-copy/job"):
        (folder / name).mkdir(parents=True)
    for number in range(files):
        (folder / "products" / f"{number}.fits").write_bytes(os.urandom(bytes_))
    (folder / "steps/0001-copy/job/left.over").write_bytes(b"x" * 5000)
    (folder / "steps/0001-copy/log").write_text("said\n")
    facts = {"process": process, "run": run, "name": "try", "owner": owner, "group": group, "rank": 0, "mail": mail}
    records = {
        "run.json": {**facts, "submitted": at.wall, "started": at.wall, "locality": 1.0},
        "manifest.json": {f"{number}.fits": [bytes_, "0" * 64] for number in range(files)},
        "outcome.json": {"phase": phase.value, "ended": at.wall if ended is None else ended},
    }
    (folder / "job.spica").write_text('name = "try"\nexposures = ["/a.fits"]\nrules = "stack"\n[end]\n')
    for name, record in records.items():
        (folder / name).write_text(json.dumps(record))
    return folder


def has_products(run: Path) -> bool:
    return (run / "products").is_dir() and any((run / "products").iterdir())

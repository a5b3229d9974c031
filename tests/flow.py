"""Landing folders, two storage roots and one life of snooppix inside the test's own process, with a clock of its own.

The program as a process of its own is tried in test_flow.py; what is asserted is the affair of the tests.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from broken import exposure as exposure_bytes
from broken import primary
from conftest import ROOT
from crashing import InTheLoop

from spicad import config, tables
from spicad.archive.instruments import instruments_in
from spicad.archive.reading import Reader
from spicad.archive.registering import Record, read_for_archive
from spicad.archive.snooppix import Snooppix, counts
from spicad.tables import Exposure, Seen, Transfer

CONF = """\
[paths]
spool = "spool"
results = "results"
archive = ["one", "two"]
instruments = "{instruments}"

[daemon]
node = "here"
look_s = 0.2
watch = "looks"

[landing]
folders = ["land"]
steady_s = {steady_s}
patience_s = {patience_s}
{landing}

[storage]
roots = [{roots}]
mode = "{mode}"
free_mb = {free_mb}
retry_s = {retry_s}
timeout_s = 5
{storage}
"""


def sky_file(number: int, filter_: str = "r", runid: str = "20AS01", **changes: Any) -> bytes:
    """A mosaic of two CCDs; another number is another observation with other pixels."""
    said = {"FILTER": filter_, "QRUNID": runid, "EXPTIME": 40.0 + number, "OBJECT": f"field {number}"} | changes
    said |= {"DATE__OBS": f"2020-01-{number % 28 + 1:02d}T07:{number // 28 % 60:02d}:00"}
    return exposure_bytes(primary(**said), **said)


class Stand:
    def __init__(self, folder: Path, mode: str = "move", roots: str = '"{one}", "there={two}"', **options: Any) -> None:
        self.folder = folder
        self.land, self.one, self.two = folder / "land", folder / "one", folder / "two"
        for each in (self.land, self.one, self.two):
            each.mkdir(parents=True)
        self.conf = folder / "spica.conf"
        values = {"steady_s": 5, "patience_s": 60, "landing": "", "storage": "", "free_mb": 1, "retry_s": 10} | options
        named = roots.format(one=self.one, two=self.two)
        self.conf.write_text(CONF.format(roots=named, mode=mode, instruments=ROOT / "etc/instruments", **values))
        self.settings = config.load(self.conf)
        self.ahead_s = 0.0
        self.life: Snooppix | None = None

    def clock(self) -> float:
        return time.time() + self.ahead_s

    def drop(self, name: str, content: bytes) -> Path:
        path = self.land / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
        return path

    @contextmanager
    def open(self) -> Iterator[Stand]:
        """A life; a second one afterwards finds what the first has left."""
        opened = tables.connect(self.settings.database.url)
        tables.require_current(make_if_empty=True)
        reading, self.wake = os.pipe2(os.O_NONBLOCK)
        readers, carriers = InTheLoop(self.wake, 1), InTheLoop(self.wake, 1)
        for each in (readers, carriers):
            each.failed = _raise
        self.life = Snooppix(self.settings, readers, carriers, self.clock)
        self.life.reader = ReadsHere(self.settings.paths.instruments)
        self.life.recover()
        try:
            yield self
        finally:
            self.life.reader.close()
            opened.close()
            os.close(reading)
            os.close(self.wake)

    def look(self, after_s: float = 0.0) -> None:
        """A look `after_s` later, and all that follows from it at once."""
        assert self.life
        self.ahead_s += after_s
        self.life.once()
        for _ in range(200):
            before = self.state()
            self.life.once(is_look=False)
            if before == self.state() and not self.life.is_busy:
                return
        raise AssertionError("it does not come to rest")

    def state(self) -> Any:
        seen = list(Seen.select(Seen.id, Seen.state, Seen.why).order_by(Seen.id).tuples())
        return seen, list(Transfer.select(Transfer.id, Transfer.state, Transfer.bytes_done).tuples())

    def take(self) -> None:
        """What has landed is seen, and steady when it is looked at again."""
        self.look()
        self.look(self.settings.landing.steady_s + 1)

    def lose_patience(self) -> None:
        self.take()
        self.look(self.settings.landing.patience_s + 1)

    def ended(self, name: str) -> tuple[str, str]:
        """(state, why) of the last file seen under that name."""
        row = Seen.select().where(Seen.name == name).order_by(Seen.id.desc()).get()
        return row.state, row.why

    def registered(self) -> dict[str, str]:
        """{name: path} of what the archive holds."""
        return dict(Exposure.select(Exposure.name, Exposure.path).tuples())

    def counts(self) -> dict[str, int]:
        return counts()


class ReadsHere(Reader):
    """Without the process of its own that test_flow.py has: each life begins at once."""

    def read(self, path: Path | str) -> Record:
        return read_for_archive(path, instruments_in(self.instruments))


def _raise(process: int, error: Exception) -> None:
    raise error


def hidden(folder: Path) -> list[Path]:
    return [path for path in folder.rglob(".*") if path.is_file()]

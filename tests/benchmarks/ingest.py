"""What bringing a 36-CCD mosaic into the archive costs, beside a raw scan of its headers for 16 keys, and astropy.

Run it by hand: python tests/benchmarks/ingest.py [ROUNDS]. In each round all contenders read the same files, which are
in memory, in turns file by file, so that whatever else the machine does is shared; they write into SQLite (WAL,
synchronous=FULL) with a commit every 50 files. The digest, which reads all pixels, is not part of it. Made files: 36
CCDs with 250 cards each, TPV terms and values that differ from CCD to CCD and from file to file, as Elixir's do.
"""

from __future__ import annotations

import gc
import shutil
import sqlite3
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import stand
from stand import ROOT, scratch, table, verdict

sys.path.insert(0, str(ROOT / "tests"))

import numpy as np
from astropy.io import fits as astropy_fits
from broken import data, header, image, primary

from spicad import tables
from spicad.archive.reading import Reader
from spicad.archive.registering import BATCH, Arrival, register

MOST, MOST_OF_FZ = 1.5, 1.2
ROUNDS = 30
KEYS = (
    "OBJECT", "FILTER", "EXPTIME", "AIRMASS", "QRUNID", "DATE-OBS", "EXTNAME", "GAIN", "SATURATE", "CRVAL1", "CRVAL2",
    "CRPIX1", "CRPIX2", "CD1_1", "CD2_2", "CTYPE1",
)  # fmt: skip
INSERT = f"INSERT INTO hdu VALUES ({', '.join('?' * (2 + len(KEYS)))})"
PV = [1e-4, 1.001, -5e-4, 1e-6, 4e-5, -4e-5, 2e-5, -2e-2, 2e-4, -2e-2, 5e-5]
FILLER = [f"KEY{number:<5}= {number:>20} / something that nobody asks for".encode() for number in range(195)]
FACTS = {"INSTRUME": "MegaPrime", "DETECTOR": "MegaCam", "CRUNID": "13Am03"}


def mosaic(number: int) -> bytes:
    rng = np.random.default_rng(number)
    raw = header(primary(**FACTS), *FILLER)
    pixels = np.zeros((64, 64), "i2")
    for ccd in range(36):
        cards, stored = image(ccd, pixels, **FACTS, GAIN=round(float(rng.uniform(1.5, 1.7)), 3))
        cards |= {f"PV{i}_{k}": real(v * rng.normal(1, 1e-3)) for i in (1, 2) for k, v in enumerate(PV)}
        cards |= {"CRVAL1": 150.0 + number / 50, "CRPIX1": 5000.25 - 1050 * (ccd % 9)}
        cards |= {"CRPIX2": 4600.5 - 2300 * (ccd // 9) + float(rng.normal())}
        cards |= {f"CD{i}_{j}": real(5e-5 * (i == j) + 1e-7 * rng.normal()) for i in (1, 2) for j in (1, 2)}
        raw += header(cards, *FILLER) + data(stored)
    return raw


def real(number: float) -> bytes:
    return f"{number:>20.12E}".encode()


# The contenders: each takes one file at a time


class RawScan:
    """From header to header by seeking; sixteen keys of each HDU into a table, as they stand."""

    def __init__(self, folder: Path) -> None:
        self.database = _plain_database(folder / "raw.db")
        self.wanted = {key.ljust(8).encode() for key in KEYS}

    def take(self, path: Path) -> None:
        rows = []
        with path.open("rb", buffering=0) as file:
            size, offset = path.stat().st_size, 0
            while offset < size:
                kept, data_bytes, length = _scanned(file, offset, self.wanted)
                rows.append([str(path), len(rows), *(kept.get(key) for key in self.wanted)])
                offset += length + -(-data_bytes // 2880) * 2880
        self.database.executemany(INSERT, rows)

    def commit(self) -> None:
        self.database.commit()


def _scanned(file, offset: int, wanted: set[bytes]) -> tuple[dict[bytes, str], int, int]:
    kept: dict[bytes, str] = {}
    facts = {b"BITPIX  ": 8, b"NAXIS   ": 0, b"NAXIS1  ": 0, b"NAXIS2  ": 0, b"PCOUNT  ": 0}
    length = 0
    file.seek(offset)
    while True:
        block = file.read(2880)
        length += 2880
        for start in range(0, 2880, 80):
            key = block[start : start + 8]
            if key in wanted:
                kept[key] = block[start + 10 : start + 80].decode().partition("/")[0].strip(" '")
            elif key in facts:
                facts[key] = int(block[start + 10 : start + 30])
            elif key == b"END     ":
                count = facts[b"NAXIS1  "] * facts[b"NAXIS2  "] if facts[b"NAXIS   "] else 0
                return kept, abs(facts[b"BITPIX  "]) // 8 * (count + facts[b"PCOUNT  "]), length


class Astropy:
    def __init__(self, folder: Path) -> None:
        self.database = _plain_database(folder / "astropy.db")

    def take(self, path: Path) -> None:
        with astropy_fits.open(path, disable_image_compression=True) as hdus:
            rows = [[str(path), n, *(hdu.header.get(key) for key in KEYS)] for n, hdu in enumerate(hdus)]
        self.database.executemany(INSERT, rows)

    def commit(self) -> None:
        self.database.commit()


def _plain_database(path: Path) -> sqlite3.Connection:
    database = sqlite3.connect(path)
    database.execute("PRAGMA journal_mode=WAL")
    database.execute("PRAGMA synchronous=FULL")
    database.execute(f"CREATE TABLE hdu (path TEXT, number INTEGER, {', '.join(f'[{key}]' for key in KEYS)})")
    return database


class Spica:
    """As with foreign files: read by a process of its own, which is at work already."""

    def __init__(self, folder: Path) -> None:
        self.batch: list[Arrival] = []

    def take(self, path: Path) -> None:
        record = READER.read(path)
        self.batch.append(Arrival(record, "n1", record.path, f"{record.path:>64}"[-64:]))

    def commit(self) -> None:
        done = register(self.batch)
        assert {each.outcome for each in done} == {"registered"}
        self.batch = []


READER = Reader(ROOT / "etc/instruments")


# The rounds

RAW, PLAIN, FZ, ASTROPY = "raw scan of 16 keys", "Spica", "Spica, .fits.fz of the same", "astropy, the same 16 keys"
Contender = RawScan | Astropy | Spica
Turns = Sequence[tuple[str, type[Contender], Sequence[Path]]]
Times = dict[str, list[float]]  # by contender, ms on the core of one mosaic, round by round


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS
    with scratch() as folder:
        plain = [folder / f"{number:06}p.fits" for number in range(BATCH)]
        for number, path in enumerate(plain):
            path.write_bytes(mosaic(number))
        subprocess.run(["fpack", *map(str, plain)], check=True)
        fz = [path.with_suffix(".fits.fz") for path in plain]
        gc.collect()
        gc.freeze()  # astropy and numpy, which the daemon has not
        turns = [(RAW, RawScan, plain), (PLAIN, Spica, plain), (FZ, Spica, fz)]
        _ms_of_rounds(turns, 1, folder)  # all is in memory, and at work
        times = _ms_of_rounds(turns, rounds, folder)
        times |= _ms_of_rounds([(ASTROPY, Astropy, plain)], 1, folder)
    READER.close()
    rows = [(name, *_quartiles(ms), *_quartiles(_ratios(ms, times[RAW]))) for name, ms in times.items()]
    columns = ("ms of one mosaic on the core", "median", "25 %", "75 %", "x reference", "25 %", "75 %")
    table(f"{BATCH} mosaics of 36 CCDs, {rounds} rounds", columns, rows)
    good = [
        verdict("Spica beside the raw scan", statistics.median(_ratios(times[PLAIN], times[RAW])), MOST),
        verdict(".fits.fz beside plain", statistics.median(_ratios(times[FZ], times[PLAIN])), MOST_OF_FZ),
    ]
    sys.exit(0 if all(good) else 1)


def _ms_of_rounds(turns: Turns, rounds: int, folder: Path) -> Times:
    times: Times = {name: [] for name, *_ in turns}
    for _ in range(rounds):
        for name, spent_s in _round(turns, folder / "databases").items():
            times[name].append(1000 * spent_s / BATCH)
    return times


def _round(turns: Turns, folder: Path) -> dict[str, float]:
    """Into new databases; by contender, seconds on the core."""
    folder.mkdir()
    tables.connect(f"sqlite:///{folder / 'archive.db'}")
    tables.upgrade()
    contenders = {name: contender(folder) for name, contender, _ in turns}
    spent_s = dict.fromkeys(contenders, 0.0)
    gc.collect()
    for number in range(BATCH):
        for name, _, paths in turns if number % 2 else reversed(turns):
            began = _core_s()
            contenders[name].take(paths[number])
            if number == BATCH - 1:
                contenders[name].commit()
            spent_s[name] += _core_s() - began
    tables.database.close()
    shutil.rmtree(folder)
    return spent_s


def _core_s() -> float:
    """Of this process and of the one that reads."""
    child = READER._child
    words = [] if child is None else Path(f"/proc/{child.pid}/schedstat").read_text().split()
    return time.process_time() + (int(words[0]) / 1e9 if words else 0.0)


def _ratios(ours: Sequence[float], reference: Sequence[float]) -> list[float]:
    """Round by round, as far as both go."""
    return [one / other for one, other in zip(ours, reference, strict=False)]


def _quartiles(values: Sequence[float]) -> tuple[float, float, float]:
    """The median first."""
    low, middle, high = statistics.quantiles(values, n=4) if len(values) > 1 else [values[0]] * 3
    return middle, low, high


if __name__ == "__main__":
    assert stand.ROOT == ROOT
    main()

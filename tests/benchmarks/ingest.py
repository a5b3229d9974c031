"""What bringing a 36-CCD mosaic into the archive costs, beside a raw scan of its headers for 16 keys, and astropy.

Run it by hand: python tests/benchmarks/ingest.py [MOSAICS]. All contenders read the same files, from memory, and write
into SQLite with a commit every 50 files; the digest, which reads all pixels, is not part of it. Made files: 36 CCDs
with 250 cards each, TPV terms and values that differ from CCD to CCD and from file to file, as Elixir's do.
"""

from __future__ import annotations

import gc
import shutil
import sqlite3
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import stand
from stand import ROOT, scratch, table, verdict

sys.path.insert(0, str(ROOT / "tests"))

import numpy as np
from astropy.io import fits as astropy_fits
from broken import data, header, image, primary

from spicad import tables
from spicad.archive.instruments import shipped
from spicad.archive.reading import Reader
from spicad.archive.registering import BATCH, Arrival, Record, read_for_archive, register

MOST, MOST_OF_FZ = 1.5, 1.2
ROUNDS = 5
KEYS = (
    "OBJECT", "FILTER", "EXPTIME", "AIRMASS", "QRUNID", "DATE-OBS", "EXTNAME", "GAIN", "SATURATE", "CRVAL1", "CRVAL2",
    "CRPIX1", "CRPIX2", "CD1_1", "CD2_2", "CTYPE1",
)  # fmt: skip
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


def packed(path: Path) -> None:
    with astropy_fits.open(path.with_suffix("")) as hdus:
        images = [astropy_fits.CompImageHDU(hdu.data, hdu.header, compression_type="RICE_1") for hdu in hdus[1:]]
        astropy_fits.HDUList([hdus[0], *images]).writeto(path)


def real(number: float) -> bytes:
    return f"{number:>20.12E}".encode()


# The references


def raw_scan(paths: Sequence[Path], folder: Path) -> None:
    """From header to header by seeking; sixteen keys of each HDU into a table, as they stand."""
    database = sqlite3.connect(folder / "plain.db")
    database.execute("PRAGMA synchronous=FULL")
    wanted = {key.ljust(8).encode() for key in KEYS}
    for number, path in enumerate(paths):
        rows = []
        with path.open("rb", buffering=0) as file:
            size, offset = path.stat().st_size, 0
            while offset < size:
                kept, data_bytes, length = _scanned(file, offset, wanted)
                rows.append([str(path), len(rows), *(kept.get(key) for key in wanted)])
                offset += length + -(-data_bytes // 2880) * 2880
        database.executemany(f"INSERT INTO hdu VALUES ({', '.join('?' * (2 + len(KEYS)))})", rows)
        if number % BATCH == BATCH - 1:
            database.commit()
    database.commit()
    database.close()


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


def by_astropy(paths: Sequence[Path], folder: Path) -> None:
    database = sqlite3.connect(folder / "plain.db")
    for path in paths:
        with astropy_fits.open(path, disable_image_compression=True) as hdus:
            rows = [[str(path), n, *(hdu.header.get(key) for key in KEYS)] for n, hdu in enumerate(hdus)]
        database.executemany(f"INSERT INTO hdu VALUES ({', '.join('?' * (2 + len(KEYS)))})", rows)
    database.commit()
    database.close()


# Spica


def here(paths: Sequence[Path], folder: Path) -> None:
    """Read within this process."""
    _registered((read_for_archive(path, shipped()) for path in paths), folder)


def apart(paths: Sequence[Path], folder: Path) -> None:
    """As Spica does it with foreign files: read by a process of its own, which is at work already."""
    _registered((record for _, record in READER.read_all(paths)), folder)  # type: ignore[misc]


READER = Reader(ROOT / "etc/instruments")


def _registered(records, folder: Path) -> None:  # type: ignore[no-untyped-def]
    opened = tables.connect(f"sqlite:///{folder / 'archive.db'}")
    batch: list[Arrival] = []
    count = 0
    for record in records:
        assert isinstance(record, Record), record
        batch.append(Arrival(record, "n1", record.path, f"{record.path:>64}"[-64:]))
        if len(batch) == BATCH:
            count += len(register(batch))
            batch = []
    count += len(register(batch))
    assert tables.Ccd.select().count() == 36 * count
    opened.close()


RAW, HERE, APART = "raw scan of 16 keys", "Spica, read within the process", "Spica, read in a process of its own"
PLAIN, FZ = "Spica, plain, the first of them", "Spica, .fits.fz of the same"
CONTENDERS: dict[str, Callable[[Sequence[Path], Path], None]] = {
    RAW: raw_scan,
    HERE: here,
    APART: apart,
}


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 50
    with scratch() as folder:
        plain = [folder / f"{number:06}p.fits" for number in range(count)]
        for number, path in enumerate(plain):
            path.write_bytes(mosaic(number))
        fz = [path.with_suffix(".fits.fz") for path in plain[: max(5, count // 5)]]
        for path in fz:
            packed(path)
        READER.read(plain[0])  # it is at work already
        _compare(plain, fz, folder)
    READER.close()


def _compare(plain: Sequence[Path], fz: Sequence[Path], folder: Path) -> None:
    few = plain[: len(fz)]
    times: dict[str, list[tuple[float, float]]] = {}
    for _ in range(ROUNDS):  # in turns, so that whatever else the machine does is shared
        for name, contender in CONTENDERS.items():
            times.setdefault(name, []).append(_ms(contender, plain, folder))
        times.setdefault(PLAIN, []).append(_ms(apart, few, folder))
        times.setdefault(FZ, []).append(_ms(apart, fz, folder))
    times["astropy, the same 16 keys"] = [_ms(by_astropy, few[:5], folder)]
    core = {name: min(core for core, _ in each) for name, each in times.items()}
    rows = [
        (name, core[name], core[name] / core[RAW], min(wall for _, wall in each), statistics.median(w for _, w in each))
        for name, each in times.items()
    ]
    columns = ("ms of one mosaic", "best core", "x reference", "best wall", "median wall")
    table(f"{len(plain)} mosaics of 36 CCDs", columns, rows)
    good = [  # by time on the core: the wall is also that of whatever else runs
        verdict(APART, core[APART] / core[RAW], MOST),
        verdict(".fits.fz beside plain", core[FZ] / core[PLAIN], MOST_OF_FZ),
    ]
    sys.exit(0 if all(good) else 1)


def _make_databases(folder: Path) -> None:
    tables.connect(f"sqlite:///{folder / 'archive.db'}")
    tables.upgrade()
    tables.database.close()
    database = sqlite3.connect(folder / "plain.db")
    database.execute("PRAGMA journal_mode=WAL")
    database.execute(f"CREATE TABLE hdu (path TEXT, number INTEGER, {', '.join(f'[{key}]' for key in KEYS)})")
    database.close()


def _ms(contender: Callable[[Sequence[Path], Path], None], paths: Sequence[Path], folder: Path) -> tuple[float, float]:
    """Core time, the reading process's included, and wall time of one file.

    The databases are new, with their tables made before the clock starts.
    """
    own = folder / "database"
    own.mkdir()
    _make_databases(own)
    gc.collect()
    began, core = time.perf_counter(), _core_s()
    contender(paths, own)
    took, core = time.perf_counter() - began, _core_s() - core
    shutil.rmtree(own)
    return 1000 * core / len(paths), 1000 * took / len(paths)


def _core_s() -> float:
    child = READER._child
    words = [] if child is None else Path(f"/proc/{child.pid}/schedstat").read_text().split()
    return time.process_time() + (int(words[0]) / 1e9 if words else 0.0)


if __name__ == "__main__":
    assert stand.ROOT == ROOT
    main()

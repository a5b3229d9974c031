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
    database = _plain_database(folder)
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
    database = _plain_database(folder)
    for path in paths:
        with astropy_fits.open(path, disable_image_compression=True) as hdus:
            rows = [[str(path), n, *(hdu.header.get(key) for key in KEYS)] for n, hdu in enumerate(hdus)]
        database.executemany(f"INSERT INTO hdu VALUES ({', '.join('?' * (2 + len(KEYS)))})", rows)
    database.commit()
    database.close()


def _plain_database(folder: Path) -> sqlite3.Connection:
    database = sqlite3.connect(folder / "plain.db")
    database.execute("PRAGMA journal_mode=WAL")
    database.execute("PRAGMA synchronous=FULL")
    database.execute(f"CREATE TABLE hdu (path TEXT, number INTEGER, {', '.join(f'[{key}]' for key in KEYS)})")
    return database


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
    tables.upgrade()
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


CONTENDERS: dict[str, Callable[[Sequence[Path], Path], None]] = {
    "raw scan of 16 keys (the reference)": raw_scan,
    "Spica, read within the process": here,
    "Spica, read in a process of its own": apart,
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
        _compare(plain, fz, folder)
    READER.close()


def _compare(plain: Sequence[Path], fz: Sequence[Path], folder: Path) -> None:
    few = plain[: len(fz)]
    times: dict[str, list[float]] = {}
    for _ in range(ROUNDS):  # in turns, so that whatever else the machine does is shared
        for name, contender in CONTENDERS.items():
            times.setdefault(name, []).append(_ms(contender, plain, folder))
        times.setdefault("Spica, plain, fewer", []).append(_ms(here, few, folder))
        times.setdefault("Spica, .fits.fz of the same", []).append(_ms(here, fz, folder))
    times["astropy, the same 16 keys"] = [_ms(by_astropy, few[:5], folder)]
    best = {name: min(each) for name, each in times.items()}
    reference = best["raw scan of 16 keys (the reference)"]
    rows = [(name, best[name], statistics.median(each), best[name] / reference) for name, each in times.items()]
    table(f"{len(plain)} mosaics of 36 CCDs", ("", "best ms", "median ms", "x reference"), rows)
    good = [
        verdict("within the process", best["Spica, read within the process"] / reference, MOST),
        verdict("in a process of its own", best["Spica, read in a process of its own"] / reference, MOST),
        verdict(".fits.fz beside plain", best["Spica, .fits.fz of the same"] / best["Spica, plain, fewer"], MOST_OF_FZ),
    ]
    sys.exit(0 if all(good) else 1)


def _ms(contender: Callable[[Sequence[Path], Path], None], paths: Sequence[Path], folder: Path) -> float:
    """Of one file. The folder for the database is new, and made before the clock starts."""
    own = folder / "database"
    own.mkdir()
    gc.collect()
    began = time.perf_counter()
    contender(paths, own)
    took = time.perf_counter() - began
    shutil.rmtree(own)
    return 1000 * took / len(paths)


if __name__ == "__main__":
    assert stand.ROOT == ROOT
    main()

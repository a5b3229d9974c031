"""Cone searches and counted facets in a large archive, beside the best index alone and a naive query, in one run.

    python tests/benchmarks/search.py [--footprints 300000] [--database sqlite] [--database mariadb] [--keep FOLDER]

The reference is the covering HEALPix index asked for numbers alone, by whole cells, through the bare driver: it
finds also what is only near. Spica's answer is exact. The footprints are made here: squares of 0.2 degrees, evenly
over the sky, the index written in its own order. Ten million take half an hour and 9 GB for each database. The first
cones after that read their pages from the disk.
"""

from __future__ import annotations

import argparse
import math
import random
import shutil
import statistics
import sys
import tempfile
import time
from array import array
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))  # services.py

import numpy as np
import peewee
from stand import table, verdict

from spicad import tables
from spicad.archive import cells, overlaps, search
from spicad.archive.overlaps import Cone
from spicad.archive.search import Found, Range, Wanted
from spicad.tables import Cell, Exposure, Selection, database

SIDE_DEG = 0.2
SKY_DEG2 = 41_252.96
TARGETS = (60, 1000)  # rows of a cone
TRIES = 60
MOST = 1.5  # times the reference
FACETS = 100_000
MOST_FACETS_MS = 200.0
FILTERS = ("u", "g", "r", "i", "z")
BATCH = 20_000
COLUMNS = (
    "id", "obs_id", "name", "node", "path", "path_key", "sha256", "bytes", "mtime_ns", "instrument_name",
    "facility_name", "filter", "runid", "target_name", "kind", "s_ra", "s_dec", "s_fov", "s_region", "t_min", "t_max",
    "t_exptime", "airmass", "seeing", "grade", "graded_by", "ccd_count", "registered",
)  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--footprints", type=int, default=300_000)
    parser.add_argument("--database", action="append", choices=("sqlite", "mariadb"), default=[])
    parser.add_argument("--keep", type=Path, help="leave the SQLite file there, or use the one of an earlier run")
    chosen = parser.parse_args()
    good = True
    for name in chosen.database or ("sqlite", "mariadb"):
        good &= (sqlite if name == "sqlite" else mariadb)(chosen.footprints, chosen.keep)
    return 0 if good else 1


def sqlite(count: int, keep: Path | None) -> bool:
    folder = keep or Path(tempfile.mkdtemp(prefix="spica-search-"))
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"archive-{count}.db"
    try:
        is_new = not path.exists()
        opened = tables.connect(f"sqlite:///{path}")
        if is_new:
            opened.execute_sql("PRAGMA synchronous=OFF")
            opened.execute_sql("PRAGMA cache_size=-500000")
            fill(count)
            opened.close()
            opened.connect()
        size = path.stat().st_size
        sizes = dict(opened.execute_sql("SELECT name, SUM(pgsize) FROM dbstat GROUP BY name")) if has_dbstat() else {}
        cell = sizes.get("cell", 0) + sizes.get("cell_exposure", 0)
        print(f"SQLite: {size / 1e6:.0f} MB in all, the index on the sky {cell / 1e6:.0f} MB of it")
        good = measured("SQLite", count)
        opened.close()
        return good
    finally:
        if keep is None:
            shutil.rmtree(folder)


def has_dbstat() -> bool:
    try:
        database.execute_sql("SELECT 1 FROM dbstat LIMIT 1")
    except peewee.DatabaseError:
        return False
    return True


def mariadb(count: int, keep: Path | None) -> bool:
    from services import MariaDB

    server = MariaDB(
        "--innodb-buffer-pool-size=2G", "--innodb-log-file-size=512M", "--innodb-flush-log-at-trx-commit=0",
        "--innodb-doublewrite=OFF",
    )  # fmt: skip
    try:
        server.start()
        opened = tables.connect(server.url("archive"))
        fill(count)
        sql = "SELECT table_name, data_length + index_length FROM information_schema.tables WHERE table_schema = %s"
        sizes = {name: float(size) / 1e6 for name, size in opened.execute_sql(sql, ("archive",))}
        print(f"MariaDB: {sum(sizes.values()):.0f} MB in all, the index on the sky {sizes['cell']:.0f} MB of it")
        good = measured("MariaDB", count)
        opened.close()
        return good
    finally:
        server.remove()


# Made footprints


def fill(count: int) -> None:
    tables.upgrade()
    began = time.monotonic()
    dropped = [*without_indexes(Exposure), *without_indexes(Cell)]
    dice = random.Random(1)
    keys, bits = array("q"), array("q")  # cell and exposure in one number
    for start in range(0, count, BATCH):
        rows = []
        for number in range(start + 1, min(start + BATCH, count) + 1):
            row, polygon = exposure(number, count, dice)
            rows.append(row)
            parts = cells.parts_of_polygons([polygon])
            keys.extend([(cell << 32) + number for cell in parts])
            bits.extend(parts.values())
        insert("exposure", COLUMNS, rows)
    by_cell, of_cell = np.frombuffer(keys, "i8"), np.frombuffer(bits, "i8")
    for some in np.array_split(np.argsort(by_cell), 1 + len(by_cell) // BATCH):  # in order: each page is written once
        pairs = zip(by_cell[some].tolist(), of_cell[some].tolist(), strict=True)
        insert("cell", ("cell", "exposure", "parts"), [(key >> 32, key & 0xFFFFFFFF, parts) for key, parts in pairs])
    with database.atomic():
        for statement in dropped:
            database.execute_sql(statement)
    chosen = Selection.create(name="hundred-thousand", owner="alice", group="lens", changed=0.0)
    some = sorted(dice.sample(range(1, count + 1), min(FACETS, count)))
    insert("selected", ("selection", "exposure"), [(chosen.id, number) for number in some])
    database.execute_sql("ANALYZE" if is_sqlite() else "ANALYZE TABLE exposure, cell, selected")
    print(f"{count} footprints made in {time.monotonic() - began:.0f} s")


def is_sqlite() -> bool:
    return isinstance(database.obj, peewee.SqliteDatabase)


def without_indexes(made: Any) -> list[str]:
    """Drops them and says how they are made again: one sorted pass instead of a place for each row."""
    name = made._meta.table_name
    again = []
    for index in database.get_indexes(name):
        if index.name in ("PRIMARY", "sqlite_autoindex_cell_1"):
            continue
        kind = "UNIQUE INDEX" if index.unique else "INDEX"
        again.append(index.sql or f"CREATE {kind} {index.name} ON `{name}` (`{'`, `'.join(index.columns)}`)")
        database.execute_sql(f"DROP INDEX {index.name}" + ("" if is_sqlite() else f" ON `{name}`"))
    return again


def exposure(number: int, count: int, dice: random.Random) -> tuple[tuple[Any, ...], list[tuple[float, float]]]:
    ra, dec = dice.uniform(0, 360), math.degrees(math.asin(dice.uniform(-1, 1)))
    half = SIDE_DEG / 2
    across = min(half / math.cos(math.radians(dec)), 20.0) if abs(dec) < 89.5 else 20.0
    low, high = max(dec - half, -90.0), min(dec + half, 90.0)
    polygon = [((ra + a) % 360, d) for a, d in ((-across, low), (across, low), (across, high), (-across, high))]
    region = "POLYGON ICRS " + " ".join(f"{a:.6f} {d:.6f}" for a, d in polygon)
    start = 52_000 + 4000 * number / count
    run, object_ = f"{number * 200 // count:03d}A", f"F{number % 997}"
    row = (
        number, str(number), f"{number}p.fits", "node1", f"/archive/{number}p.fits", f"{number:064x}",
        f"{number * 7919:064x}", 10_000_000, 0, "MegaPrime", "CFHT", FILTERS[number * 7919 % 5], run, object_,
        "science", ra, dec, SIDE_DEG * 1.4143, region, start, start + 0.01, 600.0, 1.2, 0.8, "ABCD"[number * 31 % 4],
        "", 1, 0.0,
    )  # fmt: skip
    return row, polygon


def insert(name: str, columns: tuple[str, ...], rows: list[tuple[Any, ...]]) -> None:
    connection = database.connection()
    quoted = ", ".join(f"`{column}`" for column in columns)
    places = ", ".join([database.param] * len(columns))
    sql = f"INSERT INTO `{name}` ({quoted}) VALUES ({places})"
    with database.atomic():
        connection.cursor().executemany(sql, rows)


# Measured


def measured(words: str, count: int) -> bool:
    good = True
    lines = []
    for target in TARGETS:
        radius = radius_for(target, count)
        cones = list(middles(radius))
        for cone in cones[:5]:
            search.exposures_at(cone)
            best_index(cone)
        ours, theirs, found, near = [], [], [], []
        for cone in cones[5:]:
            took, answer = timed(lambda cone=cone: search.exposures_at(cone))
            ours.append(took)
            found.append(len(answer))
            took, candidates = timed(lambda cone=cone: best_index(cone))
            theirs.append(took)
            near.append(len(candidates))
        ratio = statistics.median(ours) / statistics.median(theirs)
        good &= verdict(f"{words}, cone of about {target} rows: times the best index alone", ratio, MOST)
        lines.append([
            f"{radius:.2f}", f"{statistics.mean(found):.0f}", f"{statistics.mean(near):.0f}",
            f"{statistics.median(ours):.2f}", f"{statistics.median(theirs):.2f}", f"{ratio:.2f}",
        ])  # fmt: skip
    table(
        f"{words}, {count} footprints", ("radius", "rows", "candidates", "exact, ms", "index alone, ms", "ratio"), lines
    )
    took, naive = timed(lambda: naively(cones[5]))
    print(
        f"{words}: a naive query (every row, by declination, then tried one by one): {took:.0f} ms, {len(naive)} rows"
    )
    assert naive == search.exposures_at(cones[5])
    return good & faceted(words, count)


def faceted(words: str, count: int) -> bool:
    good = True
    part = min(FACETS / count, 1.0)
    for what, wanted in (
        ("by date", Wanted(mjd=Range(53_000, 53_000 + 4000 * part))),
        ("a saved selection", Wanted(selections=(1,))),
    ):
        took = []
        for _ in range(7):
            ms, facets = timed(lambda wanted=wanted: Found(wanted).facets())
            took.append(ms)
        size = sum(facets["grade"].values())
        good &= verdict(f"{words}, facets of {size} exposures {what}", statistics.median(took), MOST_FACETS_MS, "ms")
    return good


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    began = time.perf_counter()
    answer = work()
    return (time.perf_counter() - began) * 1e3, answer


def radius_for(rows: int, count: int) -> float:
    """pi r^2 + 4 r s + s^2 is the area in which middles of squares lie that touch a circle."""
    area = rows / (count / SKY_DEG2)
    return (-4 * SIDE_DEG + math.sqrt(16 * SIDE_DEG**2 - 4 * math.pi * min(SIDE_DEG**2 - area, 0))) / (2 * math.pi)


def middles(radius: float) -> Iterator[Cone]:
    dice = random.Random(2)
    for _ in range(TRIES + 5):
        yield Cone(dice.uniform(0, 360), math.degrees(math.asin(dice.uniform(-0.98, 0.98))), radius)


def best_index(cone: Cone) -> list[int]:
    """Numbers alone from the covering index, through the bare driver."""
    runs = cells.joined(cells.runs_of_cone(cone.ra, cone.dec, cone.radius))
    listed = [cell for first, last in runs for cell in range(first, last + 1)]
    mark = database.param
    sql = f"SELECT DISTINCT exposure FROM cell WHERE cell IN ({', '.join([mark] * len(listed))})"
    cursor = database.connection().cursor()
    cursor.execute(sql, listed)
    return [number for (number,) in cursor.fetchall()]


def naively(cone: Cone) -> list[int]:
    reach = cone.radius + SIDE_DEG
    sql = f"SELECT id, s_region FROM exposure WHERE s_dec BETWEEN {database.param} AND {database.param}"
    rows = database.execute_sql(sql, (cone.dec - reach, cone.dec + reach))
    return sorted(number for number, region in rows if cone.touches(overlaps.footprint_of(region)))


if __name__ == "__main__":
    sys.exit(main())

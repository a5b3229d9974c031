"""Cone searches and counted facets in a large archive, beside the best index alone and a naive query, in one run.

    python tests/benchmarks/search.py [--footprints 300000] [--database sqlite] [--database mariadb]
    python tests/benchmarks/search.py --footprints 10000000 --at URL [--only-fill]

The reference is a covering HEALPix index in a table of its own, asked for numbers alone, by whole cells, through the
bare driver: it finds also what is only near. Spica's answer is exact. The footprints are made here: squares of 0.2
degrees, evenly over the sky, both indexes written in their own order. Ten million take half an hour and 10 GB for each
database; `--at` fills one and leaves it, to be measured at another time; a filling that was ended goes on. The first
cones after that read their pages from the disk.
"""

from __future__ import annotations

import argparse
import math
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))  # services.py

import numpy as np
import peewee
from stand import table, verdict

from spicad import tables
from spicad.archive import cells, overlaps, search
from spicad.archive.cells import Position
from spicad.archive.outlines import Outline, outlines_of
from spicad.archive.overlaps import Cone
from spicad.archive.search import Found, Range, Wanted
from spicad.tables import Exposure, Mark, Selection, database

SIDE_DEG = 0.2
SKY_DEG2 = 41_252.96
TARGETS = (60, 1000)  # rows of a cone
BEST = "best_index"
FILLED = "filled"
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
    parser.add_argument("--at", metavar="URL", help="use this database, which is filled as far as it is not, and left")
    parser.add_argument("--only-fill", action="store_true", help="do not measure")
    chosen = parser.parse_args()
    if chosen.at:
        return 0 if at(chosen.at, chosen.footprints, chosen.only_fill) else 1
    good = True
    for name in chosen.database or ("sqlite", "mariadb"):
        good &= (sqlite if name == "sqlite" else mariadb)(chosen.footprints)
    return 0 if good else 1


def sqlite(count: int) -> bool:
    with tempfile.TemporaryDirectory(prefix="spica-search-") as folder:
        return at(f"sqlite:///{folder}/archive.db", count)


def mariadb(count: int) -> bool:
    from services import MariaDB

    server = MariaDB(
        "--innodb-buffer-pool-size=2G", "--innodb-log-file-size=512M", "--innodb-flush-log-at-trx-commit=0",
        "--innodb-doublewrite=OFF",
    )  # fmt: skip
    try:
        server.start()
        return at(server.url("archive"), count)
    finally:
        server.remove()


def at(url: str, count: int, is_only_filled: bool = False) -> bool:
    opened = tables.connect(url, is_patient=True)
    if is_sqlite():
        opened.execute_sql("PRAGMA synchronous=OFF")
        opened.execute_sql("PRAGMA cache_size=-500000")
    fill(count)
    opened.close()
    opened.connect()
    words = "SQLite" if is_sqlite() else "MariaDB"
    of = sizes()
    print(
        f"{words}: {sum(of.values()):.0f} MB in all, {of['outline']:.0f} the index on the sky, {of[BEST]:.0f} the best"
    )
    good = is_only_filled or measured(words, count)
    opened.close()
    return good


def sizes() -> dict[str, float]:
    """MB of each table."""
    sql = "SELECT table_name, data_length + index_length FROM information_schema.tables WHERE table_schema = 'archive'"
    if is_sqlite():
        sql = "SELECT tbl_name, SUM(pgsize) FROM dbstat JOIN sqlite_schema USING (name) GROUP BY tbl_name"
    return {name: float(size) / 1e6 for name, size in database.execute_sql(sql)}


# Made footprints


def fill(count: int) -> None:
    """Goes on where an earlier one was ended."""
    began = time.monotonic()
    tables.upgrade()
    dice = np.random.default_rng(1)
    ra, dec = dice.uniform(0, 360, count), np.degrees(np.arcsin(dice.uniform(-1, 1, count)))
    parts = np.array_split(np.arange(count), -(-count // BATCH))
    if done() == 0:
        with database.atomic():
            drop_indexes()
            Mark.insert(name=FILLED, number=1).execute()
    for number in range(done(), len(parts) + 1):
        with step(number + 1):
            fill_exposures(ra, dec, parts[number - 1], count)
    if done() <= 2 * len(parts):
        home = [cells.cell_of(*place) for place in zip(ra.tolist(), dec.tolist(), strict=True)]
        in_order = np.array_split(np.argsort(home), len(parts))  # from cell to cell: nearly all pages are written once
        for number in range(done() - len(parts), len(parts) + 1):
            with step(len(parts) + number + 1):
                fill_indexes(ra, dec, in_order[number - 1])
    if done() > 2 * len(parts) + 1:
        return
    tables._make_missing_indexes(Exposure)
    database.execute_sql("ANALYZE" if is_sqlite() else f"ANALYZE TABLE exposure, outline, {BEST}")
    with step(2 * len(parts) + 2):
        chosen = Selection.create(name="hundred-thousand", owner="alice", group="lens", changed=0.0)
        some = 1 + np.sort(dice.permutation(count)[:FACETS])
        insert("selected", ("selection", "exposure"), [(chosen.id, number) for number in some.tolist()])
    print(f"{count} footprints made in {time.monotonic() - began:.0f} s")


def done() -> int:
    """How many steps of the filling."""
    return Mark.select(peewee.fn.MAX(Mark.number)).where(Mark.name == FILLED).scalar() or 0


@contextmanager
def step(number: int) -> Iterator[None]:
    with database.atomic():
        yield
        Mark.update(number=number).where(Mark.name == FILLED).execute()


def fill_exposures(ra: Any, dec: Any, some: Any, count: int) -> None:
    places = zip(some.tolist(), ra[some].tolist(), dec[some].tolist(), strict=True)
    insert("exposure", COLUMNS, [exposure(index + 1, count, a, d) for index, a, d in places])


def fill_indexes(ra: Any, dec: Any, some: Any) -> None:
    """Spica's and the reference."""
    outlines, pairs = [], []
    for index, a, d in zip(some.tolist(), ra[some].tolist(), dec[some].tolist(), strict=True):
        polygon = square(a, d)
        outlines += [(index + 1, *outline) for outline in outlines_of(region(polygon))]
        pairs += [(cell, index + 1) for cell in cells.cells_of_polygons([polygon])]
    insert("outline", ("exposure", *Outline._fields), sorted(outlines, key=lambda row: (row[1], row[2], row[0])))
    insert(BEST, ("cell", "exposure"), sorted(pairs))


def is_sqlite() -> bool:
    return isinstance(database.obj, peewee.SqliteDatabase)


def drop_indexes() -> None:
    """Those of exposures, which are made again in one sorted pass; the reference's table comes into being."""
    for index in database.get_indexes("exposure"):
        if index.name != "PRIMARY":
            database.execute_sql(f"DROP INDEX {index.name}" + ("" if is_sqlite() else " ON exposure"))
    columns = "cell INTEGER NOT NULL, exposure BIGINT NOT NULL, PRIMARY KEY (cell, exposure)"
    database.execute_sql(f"CREATE TABLE {BEST} ({columns})" + (" WITHOUT ROWID" if is_sqlite() else ""))


def square(ra: float, dec: float) -> list[Position]:
    half = SIDE_DEG / 2
    across = min(half / math.cos(math.radians(dec)), 20.0) if abs(dec) < 89.5 else 20.0
    low, high = max(dec - half, -90.0), min(dec + half, 90.0)
    return [((ra + a) % 360, d) for a, d in ((-across, low), (across, low), (across, high), (-across, high))]


def region(polygon: list[Position]) -> str:
    return "POLYGON ICRS " + " ".join(f"{a:.6f} {d:.6f}" for a, d in polygon)


def exposure(number: int, count: int, ra: float, dec: float) -> tuple[Any, ...]:
    start = 52_000 + 4000 * number / count
    run, object_ = f"{number * 200 // count:03d}A", f"F{number % 997}"
    return (
        number, str(number), f"{number}p.fits", "node1", f"/archive/{number}p.fits", f"{number:064x}",
        f"{number * 7919:064x}", 10_000_000, 0, "MegaPrime", "CFHT", FILTERS[number * 7919 % 5], run, object_,
        "science", ra, dec, SIDE_DEG * 1.4143, region(square(ra, dec)), start, start + 0.01, 600.0, 1.2, 0.8,
        "ABCD"[number * 31 % 4], "", 1, 0.0,
    )  # fmt: skip


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
    sql = f"SELECT DISTINCT exposure FROM {BEST} WHERE cell IN ({', '.join([mark] * len(listed))})"
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

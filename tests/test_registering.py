"""Exposures come into the tables of the archive once, with all that their headers say, or are refused with a reason."""

from __future__ import annotations

import hashlib
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import peewee
import pytest
from broken import WCS as WCS_KEYS
from broken import exposure, primary
from services import mariadb
from test_fits import written
from test_manual import ROOT

from spicad import tables
from spicad.archive import registering
from spicad.archive.cells import position
from spicad.archive.headers import separation_deg
from spicad.archive.instruments import shipped
from spicad.archive.overlaps import polygons_of
from spicad.archive.registering import Arrival, Record, as_line, from_line, read_for_archive, register, write_outlines
from spicad.tables import Ccd, Exposure, Outline
from spicad.words import SpicaError

__all__ = ["mariadb"]


@pytest.fixture(params=["sqlite", pytest.param("mariadb", marks=pytest.mark.slow)])
def archive(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    is_sqlite = request.param == "sqlite"
    url = f"sqlite:///{tmp_path / 'archive.db'}" if is_sqlite else request.getfixturevalue("mariadb").url()
    opened = tables.connect(url)
    tables.upgrade()
    yield url
    opened.close()


def read(folder: Path, raw: bytes, name: str = "900001p.fits") -> Record:
    return read_for_archive(written(folder, raw, name), shipped())


def arrival(record: Record, node: str = "n1", path: str = "", content: bytes = b"") -> Arrival:
    digest = hashlib.sha256(content or Path(record.path).read_bytes()).hexdigest()
    return Arrival(record, node, path or record.path, digest)


def test_an_exposure_comes_into_the_tables_with_its_ccds_and_their_outlines(tmp_path: Path, archive: str) -> None:
    record = read(tmp_path, exposure(primary(EXPNUM=900001)))

    [done] = register([arrival(record, path="/n1/20AS01/r/900001p.fits")])

    assert (done.outcome, done.words) == ("registered", "")
    row = Exposure.get_by_id(done.exposure)
    assert (row.obs_id, row.name, row.node, row.path) == ("900001", "900001p.fits", "n1", "/n1/20AS01/r/900001p.fits")
    assert (row.instrument_name, row.filter, row.runid, row.kind) == ("SpicaSim", "r", "20AS01", "science")
    assert (row.t_exptime, row.airmass, row.gain, row.saturation) == (40.0, 1.1, 5.0, 60000.0)
    assert row.t_max - row.t_min == pytest.approx(40 / 86400)
    assert (row.em_min, row.em_max) == (pytest.approx(564e-9), pytest.approx(685e-9))
    assert row.ccd_count == 2
    assert row.s_region.startswith("UNION ICRS (POLYGON 15")
    ccds = list(Ccd.select().where(Ccd.exposure == row.id).order_by(Ccd.number))
    assert [(ccd.number, ccd.name, ccd.width, ccd.height) for ccd in ccds] == [
        (1, "ccd00", 160, 128),
        (2, "ccd01", 160, 128),
    ]
    for ccd in ccds:
        away = [separation_deg((ccd.s_ra, ccd.s_dec), tuple(corner)) for corner in json.loads(ccd.corners)]
        assert away == pytest.approx([away[0]] * 4, rel=1e-3)
        assert separation_deg((ccd.s_ra, ccd.s_dec), (row.s_ra, row.s_dec)) < row.s_fov / 2
    written = list(Outline.select().where(Outline.exposure == row.id).order_by(Outline.number))
    assert [(each.number, each.corners) for each in written] == list(enumerate(polygons_of(row.s_region)))
    for each, ccd in zip(written, ccds, strict=True):
        assert separation_deg(position((each.x, each.y, each.z)), (ccd.s_ra, ccd.s_dec)) < 1e-5


def test_what_is_registered_already_is_known_and_not_written_again(tmp_path: Path, archive: str) -> None:
    one = arrival(read(tmp_path, exposure()))
    [first] = register([one])

    [again] = register([one])

    assert (again.outcome, again.exposure) == ("known", first.exposure)
    assert Exposure.select().count() == 1


def test_the_same_content_elsewhere_is_told_as_a_duplicate(tmp_path: Path, archive: str) -> None:
    record = read(tmp_path, exposure())

    first, second = register([arrival(record, path="/a/1.fits"), arrival(record, path="/b/1.fits")])

    assert (first.outcome, second.outcome, second.exposure) == ("registered", "duplicate", first.exposure)
    assert second.words == "/b/1.fits is the same, byte by byte, as n1:/a/1.fits."
    assert Exposure.select().count() == 1


def test_a_changed_file_under_a_known_name_is_told_and_changes_nothing(tmp_path: Path, archive: str) -> None:
    record = read(tmp_path, exposure())
    [first] = register([arrival(record)])

    [changed] = register([arrival(record, content=b"other")])

    assert (changed.outcome, changed.exposure) == ("changed", first.exposure)
    assert "another content" in changed.words
    assert Exposure.get().sha256 == first.arrival.sha256


def test_a_record_travels_as_one_line_and_comes_back_the_same(tmp_path: Path) -> None:
    record = read(tmp_path, exposure())

    line = as_line(record)

    assert "\n" not in line
    assert from_line(line) == record


def test_a_science_exposure_without_a_place_on_the_sky_is_refused_and_a_bias_is_not(tmp_path: Path) -> None:
    blind = dict.fromkeys(WCS_KEYS)

    with pytest.raises(SpicaError, match="does not say where it is on the sky"):
        read(tmp_path, exposure(**blind))
    bias = read(tmp_path, exposure(primary(OBSTYPE="BIAS"), **blind))

    assert (bias.values["kind"], bias.values["s_ra"], [ccd[-1] for ccd in bias.ccds]) == ("bias", None, ["", ""])


def test_an_older_database_gets_the_outlines_of_what_is_in_it(tmp_path: Path, archive: str) -> None:
    register([arrival(read(tmp_path, exposure()))])
    whole = list(Outline.select().order_by(Outline.number).tuples())
    tables.database.execute_sql("DROP TABLE outline")
    tables.database.execute_sql("CREATE TABLE cell (cell INTEGER)")
    tables.SchemaVersion.delete().where(tables.SchemaVersion.number >= tables.OUTLINES).execute()

    tables.upgrade(write_outlines)

    assert list(Outline.select().order_by(Outline.number).tuples()) == whole
    assert len(whole) == 2
    is_sqlite = isinstance(tables.database.obj, peewee.SqliteDatabase)
    assert tables.database.table_exists("cell") != is_sqlite


def test_an_upgrade_that_was_killed_while_it_wrote_outlines_is_made_whole(tmp_path: Path, archive: str) -> None:
    register([arrival(read(tmp_path, exposure()))])
    whole = list(Outline.select().order_by(Outline.number).tuples())
    tables.database.execute_sql("DROP TABLE outline")
    tables.SchemaVersion.delete().where(tables.SchemaVersion.number >= tables.OUTLINES).execute()

    def killed() -> None:
        write_outlines()
        raise RuntimeError("power cut")

    with pytest.raises(RuntimeError):
        tables.upgrade(killed)
    with pytest.raises(SpicaError, match="spica database upgrade"):
        tables.require_current()
    tables.upgrade(write_outlines)

    assert list(Outline.select().order_by(Outline.number).tuples()) == whole


def test_a_batch_is_registered_as_a_whole_or_not_at_all(
    tmp_path: Path, archive: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = read(tmp_path, exposure())
    batch = [arrival(record, path=f"/n1/{number}.fits", content=b"%d" % number) for number in range(3)]
    insert = registering._insert

    def fail_at_the_last(one: Arrival) -> int:
        if one is batch[-1]:
            raise RuntimeError("power cut")
        return insert(one)

    monkeypatch.setattr(registering, "_insert", fail_at_the_last)
    with pytest.raises(RuntimeError):
        register(batch)
    assert (Exposure.select().count(), Ccd.select().count(), Outline.select().count()) == (0, 0, 0)
    monkeypatch.undo()

    assert [done.outcome for done in register(batch)] == ["registered"] * 3
    assert Ccd.select().count() == 6


KILLED = """
import os, sys
from spicad import tables
from spicad.archive import registering
from spicad.archive.instruments import shipped

url, path, when = sys.argv[1], sys.argv[2], int(sys.argv[3])
tables.connect(url)
record = registering.read_for_archive(path, shipped())
batch = [registering.Arrival(record, "n1", f"/n1/{n}.fits", f"{n:064}") for n in range(120)]
calls = 0
insert = registering._insert
def counted(one):
    global calls
    calls += 1
    if calls == when:
        os.kill(os.getpid(), 9)
    return insert(one)
registering._insert = counted
registering.register(batch)
"""


@pytest.mark.slow
def test_whoever_is_killed_while_registering_loses_none_and_registers_none_twice(tmp_path: Path, archive: str) -> None:
    path = written(tmp_path, exposure())
    record = read_for_archive(path, shipped())
    batch = [Arrival(record, "n1", f"/n1/{number}.fits", f"{number:064}") for number in range(120)]

    for when, there in ((30, 0), (60, 50)):  # within the first and the second transaction
        done = subprocess.run([sys.executable, "-c", KILLED, archive, path, str(when)], cwd=ROOT, check=False)
        assert done.returncode == -signal.SIGKILL
        assert Exposure.select().count() == there
    outcomes = [done.outcome for done in register(batch)]

    assert set(outcomes) <= {"registered", "known"}
    assert Exposure.select().count() == 120
    assert Ccd.select().count() == 240
    assert sorted(row.path for row in Exposure.select()) == sorted(one.path for one in batch)


@pytest.mark.slow
def test_two_that_register_the_same_at_once_write_it_once(tmp_path: Path, archive: str) -> None:
    path = written(tmp_path, exposure())
    command = [sys.executable, "-c", KILLED, archive, path, "0"]

    both = [subprocess.Popen(command, cwd=ROOT) for _ in range(2)]

    assert [process.wait(60) for process in both] == [0, 0]
    assert Exposure.select().count() == 120
    assert Ccd.select().count() == 240

"""Exposures come into the tables of the archive once, with all that their headers say, or are refused with a reason."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from broken import WCS as WCS_KEYS
from broken import exposure, primary
from test_fits import written

from spicad import tables
from spicad.archive.headers import separation_deg
from spicad.archive.instruments import shipped
from spicad.archive.registering import Arrival, Record, as_line, from_line, read_for_archive, register
from spicad.tables import Ccd, Cell, Exposure
from spicad.words import SpicaError


@pytest.fixture
def archive(tmp_path: Path) -> Iterator[None]:
    opened = tables.connect(f"sqlite:///{tmp_path / 'archive.db'}")
    tables.upgrade()
    yield
    opened.close()


def read(folder: Path, raw: bytes, name: str = "900001p.fits") -> Record:
    return read_for_archive(written(folder, raw, name), shipped())


def arrival(record: Record, node: str = "n1", path: str = "", content: bytes = b"") -> Arrival:
    digest = hashlib.sha256(content or Path(record.path).read_bytes()).hexdigest()
    return Arrival(record, node, path or record.path, digest)


def test_an_exposure_comes_into_the_tables_with_its_ccds_and_cells(tmp_path: Path, archive: None) -> None:
    record = read(tmp_path, exposure(primary(EXPNUM=900001)))

    [done] = register([arrival(record, path="/n1/20AS01/r/900001p.fits")])

    assert (done.outcome, done.words) == ("registered", "")
    row = Exposure.get_by_id(done.exposure)
    assert (row.obs_id, row.name, row.node, row.path) == ("900001", "900001p.fits", "n1", "/n1/20AS01/r/900001p.fits")
    assert (row.instrument_name, row.filter, row.runid, row.kind) == ("SpicaSim", "r.SIM03", "20AS01", "science")
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
    assert Cell.select().where(Cell.exposure == row.id).count() == len(record.cells) > 0


def test_what_is_registered_already_is_known_and_not_written_again(tmp_path: Path, archive: None) -> None:
    one = arrival(read(tmp_path, exposure()))
    [first] = register([one])

    [again] = register([one])

    assert (again.outcome, again.exposure) == ("known", first.exposure)
    assert Exposure.select().count() == 1


def test_the_same_content_elsewhere_is_told_as_a_duplicate(tmp_path: Path, archive: None) -> None:
    record = read(tmp_path, exposure())

    first, second = register([arrival(record, path="/a/1.fits"), arrival(record, path="/b/1.fits")])

    assert (first.outcome, second.outcome, second.exposure) == ("registered", "duplicate", first.exposure)
    assert second.words == "/b/1.fits is the same, byte by byte, as n1:/a/1.fits."
    assert Exposure.select().count() == 1


def test_a_changed_file_under_a_known_name_is_told_and_changes_nothing(tmp_path: Path, archive: None) -> None:
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

    assert (bias.values["kind"], bias.values["s_ra"], bias.cells) == ("bias", None, ())

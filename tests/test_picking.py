"""Jobs that choose from the archive: names, [select], neighbours, grades; what was chosen is fixed at acceptance."""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import RunningSpica, wait_until, write_exposure

from spicad import config, parts, tables
from spicad.archive import selections
from spicad.archive.instruments import shipped
from spicad.archive.picks import picks_from
from spicad.archive.registering import Arrival, read_for_archive, register
from spicad.desk import Desk, Vetted
from spicad.jobfile import Job, parse
from spicad.people import Person, person
from spicad.tables import Exposure
from spicad.words import BadInput

WIDEN = """
[[task]]
application = "noop"
gather = ["instrument"]
widen = { within_deg = 1.0, same = ["instrument", "filter"], grade = "B" }
"""
EACH = '[[task]]\napplication = "noop"\neach = "exposure"\n'


def moved(path: Path, ra: float, dec: float) -> None:
    text = path.read_bytes()
    for card, value in ((b"CRVAL1  =", ra), (b"CRVAL2  =", dec)):
        at = text.index(card)
        text = text[:at] + (card.decode() + f"{value:21.8f}").ljust(80).encode() + text[at + 80 :]
    path.write_bytes(text)


@contextmanager
def opened(spica: RunningSpica) -> Iterator[config.Settings]:
    settings = config.load(spica.conf)
    database = tables.connect(settings.database.url)
    tables.upgrade()
    try:
        yield settings
    finally:
        database.close()
        tables.database.initialize(None)


def registered(spica: RunningSpica, *paths: Path) -> None:
    with opened(spica) as settings:
        for path in paths:
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            arrival = Arrival(read_for_archive(path, shipped()), settings.daemon.node, str(path), digest)
            assert [each.outcome for each in register([arrival])] == ["registered"]


@pytest.fixture
def archive(tmp_path: Path) -> RunningSpica:
    """Exposures 1 to 3 at one place, 4 half a degree away, 5 far away; 3 is of grade C, 4 of B. No daemon runs."""
    spica = RunningSpica(tmp_path)
    spica.exposures = [write_exposure(spica.archive / f"90000{n}p.fits", 100 * n) for n in range(1, 6)]
    for number, path in enumerate(spica.exposures, 1):
        moved(path, 210.0 if number < 4 else 210.8, 54.0 if number < 5 else -20.0)
    registered(spica, *spica.exposures)
    with opened(spica):
        for name, grade in (("900001p.fits", "A"), ("900003p.fits", "C"), ("900004p.fits", "B")):
            Exposure.update(grade=grade, seeing=0.7).where(Exposure.name == name).execute()
    return spica


def job_of(chosen: str, tasks: str = EACH) -> Job:
    lists, table, select = chosen.partition("[select]")
    job = parse(f'name = "try"\n{lists}\n{tasks}\n{table}{select}\n[end]', "try.spica")
    assert isinstance(job, Job)
    return job


def vet(spica: RunningSpica, job: Job, owner: Person | None = None) -> Vetted:
    settings = config.load(spica.conf)
    return Desk.of(settings).vet(job, owner or person(os.getuid(), settings))


def sets(vetted: Vetted) -> tuple[list[str], list[str]]:
    """The stacking set, and what the calibration set has beside it."""
    labels = vetted.plan.labels
    calibration = sorted(labels[stem] for stem in vetted.plan.calibration)
    return sorted(set(labels.values()) - set(calibration)), calibration


@pytest.mark.slow
@pytest.mark.parametrize(
    ("chosen", "found"),
    [
        ('exposures = ["900001p.fits"]', ["900001p"]),
        ('exposures = ["900001p", "90000[2]p.fits"]', None),
        ('exposures = ["90000*p.fits"]', ["900001p", "900002p", "900003p", "900004p", "900005p"]),
        ('[select]\naround = "14:00:00 +54:00:00"', ["900001p", "900002p", "900003p"]),
        ('[select]\naround = "210 54"\nradius_deg = 1', ["900001p", "900002p", "900003p", "900004p"]),
        ('[select]\naround = "M101"\nradius_deg = 0', ["900001p", "900002p", "900003p", "900004p", "900005p"]),
        ('[select]\nbox = "205 215 50 60"\ngrade = "B"', ["900001p", "900004p"]),
        ('[select]\noverlaps = "900002p.fits"\nwhere = "seeing < 0.9"', ["900001p", "900003p"]),
        ('[select]\nselection = "mine"', ["900002p", "900005p"]),
        ('[select]\ntag = "odd"\nfilter = ["r", "i"]\nafter = 2004-03-21\nbefore = 2004-03-21', ["900005p"]),
        ('exposures = ["900005p.fits"]\n[select]\naround = "210 54"\ngrade = "A"', ["900001p", "900005p"]),
    ],
)
def test_a_job_names_or_selects_exposures_of_the_archive(
    archive: RunningSpica, chosen: str, found: list[str] | None
) -> None:
    with opened(archive) as settings:
        me = person(os.getuid(), settings)
        numbers = {row.name: row.id for row in Exposure.select()}
        selections.save(me, "mine", [numbers["900002p.fits"], numbers["900005p.fits"]])
        selections.tag(me, "odd", [numbers["900005p.fits"]])

    if found is None:
        with pytest.raises(BadInput, match=r"90000\[2\]p.fits is neither a whole path"):
            vet(archive, job_of(chosen))
        return
    assert sets(vet(archive, job_of(chosen))) == (found, [])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("chosen", "words"),
    [
        ('exposures = ["no-such"]', "nor the name of an exposure"),
        ('[select]\naround = "210 54"\nfilter = "z"', "no exposure of the archive is so"),
        ('[select]\naround = "no such object"', "no such object"),
        ('[select]\naround = "210 91"', "declination"),
        ('[select]\nselection = "none"', "there is no selection"),
        ('[select]\nbox = "1 2 3"', "west, east, south and north"),
        ('[select]\naround = "1 2"\noverlaps = "900001p.fits"', "more than one place"),
    ],
)
def test_what_the_archive_does_not_have_is_named(archive: RunningSpica, chosen: str, words: str) -> None:
    with pytest.raises(BadInput, match=words):
        vet(archive, job_of(chosen))


@pytest.mark.parametrize(
    "select", ["arround = 'x'", "radius_deg = -1", "where = 'seing < 1'", "grade = 'E'", "after = 3"]
)
def test_a_wrong_select_is_refused_without_the_archive_with_its_line(select: str) -> None:
    with pytest.raises(BadInput, match=r"try.spica, line"):
        job_of(f"[select]\n{select}")


def test_a_task_is_widened_with_neighbours_of_the_archive(archive: RunningSpica) -> None:
    job = job_of('exposures = ["900001p.fits"]', WIDEN)

    vetted = vet(archive, job)

    assert sets(vetted) == (["900001p"], ["900002p", "900004p"])  # 3 is of grade C, 5 is far away


def test_conditions_of_rules_see_what_the_archive_knows(archive: RunningSpica) -> None:
    paths = ", ".join(f'"{path}"' for path in archive.exposures)
    task = EACH + "select = \"grade <= 'B' and seeing < 0.9\"\n"

    assert sets(vet(archive, job_of(f"exposures = [{paths}]", task))) == (["900001p", "900004p"], [])


def test_the_archive_gives_no_access_to_what_its_owner_may_not_read(archive: RunningSpica, tmp_path: Path) -> None:
    away = write_exposure(tmp_path / "private/900009p.fits", 7)
    registered(archive, away)

    with pytest.raises(BadInput, match=r"outside the archive"):
        vet(archive, job_of('exposures = ["900009p.fits"]'))


def test_what_was_chosen_is_fixed_when_the_job_is_accepted(archive: RunningSpica) -> None:
    job = job_of('[select]\naround = "210 54"', WIDEN)
    first = vet(archive, job)
    assert sets(first) == (["900001p", "900002p", "900003p"], ["900004p"])
    late = write_exposure(archive.archive / "900006p.fits", 600)
    moved(late, 210.0, 54.0)
    registered(archive, late)
    with opened(archive):
        Exposure.update(grade="D").execute()

    frozen = replace(job, picks=picks_from(first.picks.as_text()))

    assert "900006p" in sets(vet(archive, job))[0]
    assert sets(vet(archive, frozen)) == sets(first)
    assert {each.sha256 for each in first.picks.exposures} == {
        hashlib.sha256(path.read_bytes()).hexdigest() for path in archive.exposures[:3]
    }


def test_a_file_that_has_changed_since_it_was_registered_is_dropped(archive: RunningSpica) -> None:
    write_exposure(archive.exposures[1], 999)

    vetted = vet(archive, job_of('[select]\naround = "210 54"'))

    assert sets(vetted)[0] == ["900001p", "900003p"]
    assert [(each.exposure, each.why) for each in vetted.plan.dropped] == [
        ("900002p.fits", "it is not any more the file that was registered")
    ]


def test_a_job_of_paths_needs_no_archive(archive: RunningSpica) -> None:
    for path in archive.spool.glob("spica.db*"):
        path.unlink()

    vetted = vet(archive, job_of(f'exposures = ["{archive.exposures[0]}"]', WIDEN))

    assert sets(vetted) == (["900001p"], [])
    assert any("widened with nothing of the archive" in note for note in vetted.plan.notes)
    with pytest.raises(BadInput, match="there is no database yet"):
        vet(archive, job_of('[select]\naround = "210 54"'))


@pytest.mark.slow
def test_the_daemon_runs_what_was_selected_and_shows_both_sets(archive: RunningSpica) -> None:
    tasks = EACH.replace("noop", "copy") + WIDEN
    text = 'name = "both"\nrules = "both"\n[select]\naround = "210 54"\nradius_deg = 0.2\ngrade = "A"\n[end]\n'
    (archive.folder / "rules/both.toml").write_text(f'title = "Both"\n{tasks}')
    (archive.folder / "both.spica").write_text(text)
    archive.start()
    try:
        plan = json.loads(archive.spica("plan", "--json", archive.folder / "both.spica").stdout)
        process = int(archive.spica("submit", archive.folder / "both.spica").stdout.split()[-1])
        wait_until(lambda: archive.phase(process) == "COMPLETED", "the process to be completed")
        shown = archive.spica("show", process).stdout
    finally:
        archive.end()

    assert (plan["stacking_set"], plan["calibration_set"]) == (["900001p"], ["900002p", "900004p"])
    (folder,) = archive.results.glob("*/*-both/run-1")
    assert [path.name for path in (folder / "products").glob("*.fits")] == ["900001p.copy.fits"]
    assert len(json.loads(parts.read(folder, "plan.json"))["calibration"]) == 2
    assert "stacking set: 900001p" in shown
    assert "calibration set, beside it: 900002p, 900004p" in shown
    with closing(sqlite3.connect(archive.spool / "spica.db")) as database:
        assert database.execute("SELECT phase FROM process").fetchall() == [("COMPLETED",)]
    copy = next(archive.spool.glob("completed/*.spica")).read_text()
    assert hashlib.sha256(archive.exposures[0].read_bytes()).hexdigest() in copy

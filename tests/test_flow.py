"""The flow end to end: exposures drop into a landing folder while the daemon runs, and a process works on them.

Single parts are tried in test_snooppix.py and test_datatransfer.py.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from broken import BROKEN
from conftest import COMPILED, ROOT, RunningSpica, wait_until
from flow import sky_file
from services import MariaDB, mariadb

from spicad import config, snooping, tables
from spicad.archive.snooppix import counts
from spicad.tables import Exposure

__all__ = ["mariadb"]

LANDING = """
[landing]
folders = ["land"]
steady_s = 0.3
patience_s = 1.5

[storage]
roots = ["archive/one", "there=archive/two"]
mode = "move"
free_mb = 1
"""
NAMES = (
    "zero_byte.fits", "truncated_header.fits", "truncated_data.fits", "missing_end.fits", "html.fits", "random.fits",
    "dec_123.fits", "nan_key.fits", "bad_checksum.fits", "table_only.fits",
)  # fmt: skip
TEN_BROKEN = [one for one in BROKEN if one.name in NAMES]


def good(number: int) -> tuple[str, bytes]:
    """Thirty exposures of two runs and three filters; those of i lie elsewhere on the sky."""
    filter_ = "gri"[number % 3]
    where = {"CRVAL1": 30.0, "CRVAL2": -5.0} if filter_ == "i" else {}
    return f"{900 + number}p.fits", sky_file(number, filter_, "20AS01" if number < 15 else "20BF02", **where)


@pytest.fixture(params=["sqlite", "mariadb"])
def spica(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[RunningSpica]:
    landing = LANDING.replace("archive/", f"{tmp_path}/archive/")
    if request.param == "mariadb":
        server: MariaDB = request.getfixturevalue("mariadb")
        landing += f'\n[database]\nurl = "{server.url()}"\n'
    made = RunningSpica(tmp_path, conf=landing)
    for name in ("land", "archive/one", "archive/two"):
        (tmp_path / name).mkdir()
    yield made
    made.end()


def drop(spica: RunningSpica, name: str, content: bytes) -> None:
    """In two pieces, as a slow copy comes."""
    path = spica.folder / "land" / name
    with path.open("wb") as file:
        file.write(content[: len(content) // 2])
        file.flush()
        file.write(content[len(content) // 2 :])


def snooppix(spica: RunningSpica, *arguments: str, status: int = 0) -> str:
    command = [sys.executable, str(ROOT / "bin/snooppix"), "--config", str(spica.conf), *arguments]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, **COMPILED}, timeout=60
    )
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout


def report(spica: RunningSpica) -> dict[str, int]:
    return dict(json.loads(snooppix(spica, "--report", "--json")))


def ended(spica: RunningSpica) -> int:
    """How many are registered or refused."""
    with database_of(spica):
        found = counts()
    return found["registered"] + found["refused"]


@contextmanager
def database_of(spica: RunningSpica) -> Iterator[None]:
    opened = tables.connect(config.load(spica.conf).database.url)
    try:
        yield
    finally:
        opened.close()


def archived(spica: RunningSpica) -> list[tuple[str, str, str, str, str, str]]:
    columns = (Exposure.name, Exposure.node, Exposure.path, Exposure.runid, Exposure.filter, Exposure.sha256)
    with database_of(spica):
        return list(Exposure.select(*columns).order_by(Exposure.name).tuples())


@pytest.mark.slow
def test_forty_exposures_land_ten_of_them_broken_and_a_process_works_on_those_of_a_cone_and_a_filter(
    spica: RunningSpica,
):
    whole = dict(map(good, range(30)))
    assert len(TEN_BROKEN) == 10
    spica.start()
    broken = iter(TEN_BROKEN)
    for number, (name, content) in enumerate(whole.items()):
        drop(spica, name, content)
        if number % 3 == 0:
            one = next(broken)
            drop(spica, one.name, one.make())

    wait_until(lambda: ended(spica) == 40, "all forty to end")

    assert {key: report(spica)[key] for key in ("seen", "registered", "refused", "waiting")} == {
        "seen": 40, "registered": 30, "refused": 10, "waiting": 0,
    }  # fmt: skip
    rows = archived(spica)
    assert [name for name, *_ in rows] == sorted(whole)
    places: dict[tuple[str, str], set[tuple[str, str]]] = {}
    for name, node, path, runid, filter_, sha256 in rows:
        assert hashlib.sha256(Path(path).read_bytes()).hexdigest() == sha256
        assert Path(path).read_bytes() == whole[name]
        assert Path(path).is_relative_to(spica.archive / ("two" if node == "there" else "one"))
        places.setdefault((runid, filter_), set()).add((node, str(Path(path).parent)))
    assert len(places) == 6
    assert all(len(each) == 1 for each in places.values())
    refused = {row["file"]: row["why"] for row in json.loads(snooppix(spica, "--refused", "--json"))}
    assert {one.name for one in TEN_BROKEN if one.reason in refused.get(one.name, "")} == set(NAMES)
    assert sorted(path.name for path in (spica.folder / "land").iterdir()) == sorted(NAMES)

    found = spica.spica("find", "150.0", "2.2", "--radius", "0.5", "--filter", "r", "--paths").stdout.split()
    chosen = [path for _, _, path, _, filter_, _ in rows if filter_ == "r"]
    process = spica.submit("copy", exposures=[Path(path) for path in found])
    assert spica.wait_for(process) == "COMPLETED"
    assert sorted(found) == sorted(chosen)
    products = spica.spica("results", str(process)).stdout
    assert products.count(".copy.fits") == 10


@pytest.mark.slow
@pytest.mark.parametrize("spica", ["sqlite"], indirect=True)
def test_the_child_of_the_daemon_ends_with_it_and_is_begun_again_when_it_dies(spica: RunningSpica):
    spica.start()
    wait_until(lambda: "snooppix watches" in spica.log.read_text(), "snooppix to watch")
    child = the_child(spica)
    os.kill(child, signal.SIGKILL)
    wait_until(lambda: spica.log.read_text().count("snooppix watches") == 2, "it to be begun again")
    again = the_child(spica)
    name, content = good(1)
    drop(spica, name, content)
    wait_until(lambda: ended(spica) == 1, "the exposure to be registered")

    assert spica.daemon
    spica.daemon.kill()
    spica.daemon.wait()

    wait_until(lambda: not Path(f"/proc/{again}").exists(), "it to end after the daemon was killed")
    assert again != child


def the_child(spica: RunningSpica) -> int:
    assert spica.daemon
    for task in Path(f"/proc/{spica.daemon.pid}/task").iterdir():
        for word in (task / "children").read_text().split():
            if b"spicad.snooping" in Path(f"/proc/{word}/cmdline").read_bytes():
                return int(word)
    raise AssertionError("the daemon has no such child")


@pytest.mark.slow
@pytest.mark.parametrize("spica", ["sqlite"], indirect=True)
def test_without_a_daemon_it_takes_what_is_whole_and_ends_and_there_is_one_of_it(spica: RunningSpica):
    name, content = good(1)
    drop(spica, name, content)
    drop(spica, "half.fits", content[:9000])

    snooppix(spica, "--once")

    assert report(spica)["registered"] == 1
    assert "2 seen = 1 registered + 0 refused + 1 waiting" in snooppix(spica, "--report")
    snooppix(spica, "--refused", status=3)
    spica.start()
    wait_until(lambda: "snooppix watches" in spica.log.read_text(), "snooppix to watch")
    snooppix(spica, "--once", status=1)


def test_without_landing_folders_there_is_nothing_to_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    conf = tmp_path / "spica.conf"
    conf.write_text('[paths]\nspool = "spool"\n')

    assert snooping.main(["--config", str(conf), "--once"]) == snooping.FAILED
    assert "there is nothing to look into" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("spica", ["sqlite"], indirect=True)
def test_after_a_reload_the_new_landing_folders_are_watched(spica: RunningSpica):
    spica.start()
    wait_until(lambda: "snooppix watches" in spica.log.read_text(), "snooppix to watch")
    (spica.folder / "other").mkdir()
    spica.conf.write_text(spica.conf.read_text().replace('folders = ["land"]', 'folders = ["land", "other"]'))

    assert spica.daemon
    spica.daemon.send_signal(signal.SIGHUP)
    wait_until(lambda: f"{spica.folder}/other" in spica.log.read_text(), "the other folder to be watched")
    name, content = good(2)
    (spica.folder / "other" / name).write_bytes(content)

    wait_until(lambda: ended(spica) == 1, "the exposure to be registered")


@pytest.mark.slow
@pytest.mark.parametrize("spica", ["mariadb"], indirect=True)
def test_a_database_that_is_lost_for_a_while_costs_no_file(spica: RunningSpica, mariadb: MariaDB):
    spica.start()
    wait_until(lambda: "snooppix watches" in spica.log.read_text(), "snooppix to watch")
    for number in range(4):
        drop(spica, *good(number))
    mariadb.kill()
    for number in range(4, 8):
        drop(spica, *good(number))
    wait_until(lambda: "going on in" in spica.log.read_text(), "snooppix to notice")

    mariadb.start()

    wait_until(lambda: ended(spica) == 8, "all to be registered")
    assert [name for name, *_ in archived(spica)] == sorted(name for name, _ in map(good, range(8)))

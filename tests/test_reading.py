"""Foreign headers are read apart: whatever a file does to the process that reads it, it is refused and others go on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from broken import BROKEN, exposure, make_broken
from conftest import wait_until
from test_fits import written
from test_manual import ROOT

from spicad.archive import reading
from spicad.archive.instruments import shipped
from spicad.archive.reading import Limits, Reader
from spicad.archive.registering import Record, read_for_archive
from spicad.words import SpicaError

pytestmark = pytest.mark.slow

INSTRUMENTS = ROOT / "etc/instruments"


@pytest.fixture
def reader() -> Iterator[Reader]:
    with Reader(INSTRUMENTS) as made:
        yield made


@pytest.fixture
def good(tmp_path: Path) -> Path:
    return written(tmp_path, exposure(), "good.fits")


def refused(answer: Record | SpicaError) -> str:
    assert isinstance(answer, SpicaError)
    return str(answer)


def doing(program: str, name: str) -> str:
    """The PROGRAM of a reader that does something to itself when it meets a file of that name."""
    return (
        "import os, signal, time\nfrom spicad.archive import reading, registering\n"
        "whole = reading.read_for_archive\n"
        f"def read(path, instruments):\n    if path.endswith({name!r}):\n        {program}\n"
        "    return whole(path, instruments)\n"
        "reading.read_for_archive = read\nreading.serve()"
    )


def test_what_is_read_apart_is_what_is_read_here(reader: Reader, good: Path) -> None:
    assert reader.read(good) == read_for_archive(good, shipped())


def test_every_broken_file_has_its_reason_and_all_whole_ones_come_through(reader: Reader, tmp_path: Path) -> None:
    made = make_broken(tmp_path)
    lacks_a_place = {"no_wcs.fits", "half_wcs.fits"}
    unclear = {"nonascii.fits", "utf8.fits", "nul_in_header.fits", "duplicate_keys.fits"}

    answers = dict(reader.read_all(made.values()))

    assert list(answers) == [str(path) for path in made.values()]
    for one in BROKEN:
        answer = answers[str(made[one.name])]
        wants_refusal = one.name in lacks_a_place | unclear or (one.expect == "reject" and one.seen == "headers")
        assert isinstance(answer, SpicaError) == wants_refusal, one.name
        if wants_refusal:
            assert str(made[one.name]) in str(answer)
            assert one.name in lacks_a_place or one.reason in str(answer)


@pytest.mark.parametrize(
    ("program", "limits", "words"),
    [
        ("os.kill(os.getpid(), signal.SIGSEGV)", Limits(), "ended the program that read it (SIGSEGV)"),
        ("os._exit(3)", Limits(), "ended the program that read it (status 3)"),
        ("bytearray(2 << 30)", Limits(), "takes more memory"),
        ("signal.pause()", Limits(time_s=1.0), "takes longer than 1 s"),
        pytest.param(
            "[None for _ in iter(int, 1)]", Limits(cpu_s=1), "takes more than 1 s of computing", marks=pytest.mark.slow
        ),
        ("raise RuntimeError", Limits(), "ended the program that read it (status 1)"),
    ],
)
def test_a_file_that_kills_its_reader_is_refused_by_name_and_the_next_is_read(
    good: Path, monkeypatch: pytest.MonkeyPatch, program: str, limits: Limits, words: str
) -> None:
    killer = good.with_name("killer.fits")
    killer.write_bytes(good.read_bytes())
    monkeypatch.setattr(reading, "PROGRAM", doing(program, "killer.fits"))

    with Reader(INSTRUMENTS, limits) as reader:
        answers = list(reader.read_all([good, killer, good, killer, good]))

    assert [isinstance(answer, Record) for _, answer in answers] == [True, False, True, False, True]
    assert words in refused(answers[1][1])
    assert str(killer) in refused(answers[1][1])


def test_a_reader_that_died_between_two_files_is_no_fault_of_the_next(reader: Reader, good: Path) -> None:
    reader.read(good)
    assert reader._child is not None
    reader._child.kill()
    reader._child.wait()

    assert reader.read(good).path == str(good)


def test_a_file_that_is_not_there_or_may_not_be_read_is_refused(reader: Reader, tmp_path: Path, good: Path) -> None:
    (tmp_path / "folder.fits").mkdir()
    os.mkfifo(tmp_path / "pipe.fits")
    os.symlink(tmp_path / "nothing", tmp_path / "link.fits")
    names = ["gone.fits", "folder.fits", "pipe.fits", "link.fits", "name\n.fits"]

    answers = [refused(answer) for _, answer in reader.read_all([tmp_path / name for name in names])]

    words = ["No such file", "not a regular file", "not a regular file", "No such file", "No such file"]
    assert [part for part, answer in zip(words, answers, strict=True) if part not in answer] == [], answers


def test_a_file_without_rights_is_refused(tmp_path: Path, good: Path) -> None:
    """In a process that is not root, whom rights do not hold."""
    good.chmod(0)
    os.chmod(tmp_path, 0o755)
    program = (
        "import os, sys; from spicad.archive.instruments import shipped; "
        "from spicad.archive.registering import read_for_archive; shipped()\n"
        "if os.getuid() == 0: os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
        "try: read_for_archive(sys.argv[1], shipped())\nexcept Exception as error: print(error)"
    )

    done = subprocess.run([sys.executable, "-c", program, good], cwd=ROOT, capture_output=True, text=True, check=True)

    assert "Permission denied" in done.stdout


def test_a_file_that_vanishes_or_changes_while_it_is_read_is_refused(
    good: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for program, words in (
        ("os.unlink(path)", "vanished while it was read"),
        ("os.truncate(path, 50_000)", "changed while it was read"),
    ):
        victim = good.with_name("victim.fits")
        victim.write_bytes(good.read_bytes())
        monkeypatch.setattr(reading, "PROGRAM", at_the_end_of_reading(program))
        with Reader(INSTRUMENTS) as reader:
            [(_, answer)] = reader.read_all([victim])
        assert words in refused(answer)


def at_the_end_of_reading(program: str) -> str:
    return (
        "import os\nfrom spicad.archive import reading, registering\nwhole = registering.read_exposure\n"
        f"def read(path, instruments):\n    found = whole(path, instruments)\n    {program}\n    return found\n"
        "registering.read_exposure = read\nreading.serve()"
    )


def test_who_stops_listening_leaves_nothing_for_the_next_to_hear(reader: Reader, good: Path, tmp_path: Path) -> None:
    other = written(tmp_path, exposure(OBJECT="OTHER"), "other.fits")
    for _ in reader.read_all([good, good, good]):
        break

    assert reader.read(other).path == str(other)


def test_threads_take_turns(reader: Reader, good: Path) -> None:
    found: list[Record] = []
    threads = [threading.Thread(target=lambda: found.append(reader.read(good))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)

    assert [record.path for record in found] == [str(good)] * 4


def test_the_reader_ends_with_who_asked(good: Path) -> None:
    program = (
        "import os, sys; from pathlib import Path; from spicad.archive.reading import Reader\n"
        "reader = Reader(Path(sys.argv[1])); reader.read(sys.argv[2]); print(reader._child.pid, flush=True)\n"
        "os.kill(os.getpid(), 9)"
    )
    asked = subprocess.run(
        [sys.executable, "-c", program, INSTRUMENTS, good], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False
    )
    assert asked.returncode == -signal.SIGKILL

    child = int(asked.stdout)

    wait_until(lambda: not is_running(child), "the reader to end")


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False

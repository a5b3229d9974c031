"""SNOOPPIX: each file that lands ends registered or refused with its reason, whatever happens to it meanwhile.

How files are carried is told in test_datatransfer.py, the program and the daemon around it in test_flow.py.
"""

from __future__ import annotations

import argparse
import errno
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from broken import BROKEN, changed_byte, table, with_sums
from conftest import ROOT
from flow import Stand, hidden, sky_file
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from spicad import fits, snooping
from spicad.archive import wholeness
from spicad.archive.instruments import shipped
from spicad.archive.landing import MOST_DEEP, companion_of, look_into
from spicad.archive.snooppix import REFUSED, REGISTERED, WAITING
from spicad.archive.wholeness import NotWhole, disagreeing_checksums, examine, promises_in
from spicad.commands import landed
from spicad.tables import Ccd, Exposure, Outline, Seen, Transfer


@pytest.fixture
def stand(tmp_path: Path) -> Iterator[Stand]:
    with Stand(tmp_path / "stand").open() as made:
        yield made


@pytest.fixture
def in_place(tmp_path: Path) -> Iterator[Stand]:
    with Stand(tmp_path / "stand", mode="leave").open() as made:
        yield made


# ---------------------------------------------------------------------- one file


def test_a_whole_exposure_is_stored_by_run_and_filter_and_registered(stand: Stand):
    content = sky_file(1)
    landed_at = stand.drop("1p.fits", content)

    stand.take()

    (one,) = Exposure.select()
    kept = Path(one.path)
    assert stand.ended("1p.fits") == (REGISTERED, "")
    assert kept.relative_to(stand.one if one.node == "here" else stand.two) == Path("20AS01/r/1p.fits")
    assert kept.read_bytes() == content
    assert one.sha256 == hashlib.sha256(content).hexdigest()
    assert kept.stat().st_mode & 0o777 == 0o444
    assert not landed_at.exists()
    assert (Ccd.select().count(), Outline.select().count()) == (2, 2)
    assert hidden(stand.folder / "one") + hidden(stand.folder / "two") == []


def test_in_the_mode_copy_the_file_stays_where_it_landed_and_is_not_taken_twice(tmp_path: Path):
    with Stand(tmp_path / "stand", mode="copy").open() as stand:
        landed_at = stand.drop("1p.fits", sky_file(1))
        stand.take()
        stand.take()

        assert landed_at.exists()
        assert stand.counts() == {"seen": 1, WAITING: 0, REGISTERED: 1, REFUSED: 0}
        assert Exposure.select().count() == 1


def test_in_the_mode_leave_it_is_registered_where_it_lies(in_place: Stand):
    path = in_place.drop("1p.fits", sky_file(1))

    in_place.take()

    assert in_place.registered() == {"1p.fits": str(path)}
    assert Transfer.select().count() == 0


def test_a_file_that_grows_is_waited_for(in_place: Stand):
    content = sky_file(1)
    in_place.drop("1p.fits", content[:30_000])
    in_place.take()
    assert in_place.ended("1p.fits")[0] == WAITING
    assert "ends within the data" in in_place.ended("1p.fits")[1]

    in_place.drop("1p.fits", content)
    in_place.take()

    assert in_place.ended("1p.fits")[0] == REGISTERED
    assert in_place.counts()["seen"] == 1


def test_a_file_that_stays_incomplete_is_refused_once_patience_is_over_and_stays_where_it_is(in_place: Stand):
    path = in_place.drop("1p.fits", sky_file(1)[:30_000])

    in_place.lose_patience()

    state, why = in_place.ended("1p.fits")
    assert (state, "bytes are missing" in why) == (REFUSED, True)
    assert path.stat().st_size == 30_000


def test_a_refused_file_that_is_completed_later_is_seen_anew(in_place: Stand):
    in_place.drop("1p.fits", sky_file(1)[:30_000])
    in_place.lose_patience()

    in_place.drop("1p.fits", sky_file(1))
    in_place.take()

    assert in_place.counts() == {"seen": 2, WAITING: 0, REGISTERED: 1, REFUSED: 1}


def test_a_file_that_a_program_has_open_for_writing_waits(in_place: Stand):
    path = in_place.drop("1p.fits", sky_file(1))
    with path.open("r+b"):
        in_place.take()
        assert in_place.ended("1p.fits") == (
            WAITING,
            "it is not whole yet: a program still has it open for writing.",
        )

    in_place.look(in_place.settings.landing.patience_s + 1)

    assert in_place.ended("1p.fits")[0] == REGISTERED


@pytest.mark.slow
@pytest.mark.parametrize("name", [".hidden.fits", "x.fits.part", "x.fits~", "x.fits.filepart", "x.TMP"])
def test_a_name_that_says_unfinished_is_passed_over(in_place: Stand, name: str):
    in_place.drop(name, sky_file(1))

    in_place.take()

    assert in_place.counts()["seen"] == 0


@pytest.fixture
def landing(in_place: Stand) -> Iterator[Path]:
    """A landing folder of which nothing is left: pytest's own cleaning fails in a tree that is too deep."""
    folder = in_place.settings.landing.folders[0]
    yield folder
    subprocess.run(["rm", "-rf", folder], check=True)


def test_folders_without_end_stop_nobody(in_place: Stand, landing: Path):
    folder = os.open(landing, os.O_RDONLY)
    for _ in range(1200):  # deeper than Python calls itself
        os.mkdir("a", dir_fd=folder)
        below = os.open("a", os.O_RDONLY, dir_fd=folder)
        os.close(folder)
        folder = below
    os.close(folder)
    in_place.drop("1p.fits", sky_file(1))

    in_place.take()

    assert in_place.ended("1p.fits") == (REGISTERED, "")
    assert list(in_place.life.blind.values()) == [f"it lies more than {MOST_DEEP} folders deep"]
    subprocess.run(["rm", "-r", str(in_place.land / "a")], check=True)  # pytest, in Python, could never


def test_a_folder_that_becomes_a_link_during_the_look_is_not_entered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "landing/night").mkdir(parents=True)
    (tmp_path / "others").mkdir()
    (tmp_path / "others/1p.fits").write_bytes(sky_file(1))

    def exchange(folder: Path, names: object) -> dict[str, frozenset[str]]:
        (folder / "night").rmdir()
        (folder / "night").symlink_to(tmp_path / "others")
        return {}

    monkeypatch.setattr("spicad.archive.landing.read_promises", exchange)

    look = look_into([tmp_path / "landing"])

    assert look.files == {}
    assert list(look.blind) == [tmp_path / "landing/night"]


def test_files_in_folders_below_are_seen_and_links_are_refused(in_place: Stand):
    path = in_place.drop("night1/1p.fits", sky_file(1))
    (in_place.land / "link.fits").symlink_to(path)
    os.mkfifo(in_place.land / "pipe.fits")

    in_place.take()

    assert list(in_place.registered()) == ["1p.fits"]
    assert in_place.ended("link.fits") == (REFUSED, "it is a symbolic link. Put the file itself here.")
    assert in_place.ended("pipe.fits")[0] == REFUSED


def test_a_file_that_vanishes_while_it_waits_is_refused_and_seen_anew_when_it_comes_back(in_place: Stand):
    path = in_place.drop("1p.fits", sky_file(1))
    in_place.look()
    path.rename(in_place.folder / "away")
    in_place.look()
    assert in_place.ended("1p.fits") == (REFUSED, "it vanished before it was taken.")

    (in_place.folder / "away").rename(path)
    in_place.take()

    assert in_place.counts() == {"seen": 2, WAITING: 0, REGISTERED: 1, REFUSED: 1}


def test_a_landing_folder_that_is_gone_says_nothing_about_the_files_in_it(in_place: Stand):
    in_place.drop("1p.fits", sky_file(1))
    in_place.look()
    in_place.land.rename(in_place.folder / "unmounted")
    in_place.look()
    assert in_place.ended("1p.fits")[0] == WAITING

    (in_place.folder / "unmounted").rename(in_place.land)
    in_place.take()

    assert in_place.ended("1p.fits")[0] == REGISTERED


# ---------------------------------------------------------------------- sums


def test_the_digest_beside_a_file_must_agree(in_place: Stand):
    for number, suffix in ((1, ".md5"), (2, ".sha256"), (3, ".md5")):
        content = sky_file(number)
        digest = hashlib.new(suffix[1:], content if number < 3 else b"another").hexdigest()
        in_place.drop(f"{number}p.fits", content)
        in_place.drop(f"{number}p.fits{suffix}", f"{digest}  {number}p.fits\n".encode())

    in_place.lose_patience()

    assert sorted(in_place.registered()) == ["1p.fits", "2p.fits"]
    state, why = in_place.ended("3p.fits")
    assert state == REFUSED
    assert hashlib.md5(b"another").hexdigest() in why
    assert in_place.counts()["seen"] == 3


def test_a_list_of_names_and_digests_must_agree(in_place: Stand):
    one, two = sky_file(1), sky_file(2)
    in_place.drop("1p.fits", one)
    in_place.drop("2p.fits", two)
    in_place.drop("list.csv", f"1p.fits,{hashlib.md5(one).hexdigest()}\n2p.fits,{'0' * 32}\n".encode())

    in_place.lose_patience()

    assert in_place.ended("1p.fits")[0] == REGISTERED
    assert "0" * 32 in in_place.ended("2p.fits")[1]


def test_a_digest_that_comes_after_the_file_was_found_damaged_lets_it_be_read_again(in_place: Stand):
    content = sky_file(1)
    in_place.drop("1p.fits", content)
    in_place.drop("1p.fits.md5", b"0" * 32)
    in_place.take()
    assert in_place.ended("1p.fits")[0] == WAITING

    in_place.drop("1p.fits.md5", hashlib.md5(content).hexdigest().encode())
    in_place.look()

    assert in_place.ended("1p.fits")[0] == REGISTERED


def test_a_list_of_digests_is_read_once_and_again_when_it_has_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    one, other = "1" * 32, "2" * 32
    read: list[str] = []

    def counting(text: str, alone: str = "") -> list[tuple[str, str]]:
        read.append(text)
        return promises_in(text, alone)

    monkeypatch.setattr(wholeness, "promises_in", counting)
    (tmp_path / "md5sums").write_text(f"{one}  a.fits\n{one}  b.fits\n")
    (tmp_path / "a.fits.md5").write_text(other)
    names = ["md5sums", "a.fits.md5", "a.fits", "gone.md5"]
    expected = {"a.fits": frozenset([one, other]), "b.fits": frozenset([one])}
    for _ in range(3):
        assert wholeness.read_promises(tmp_path, names) == expected
    assert len(read) == 2

    (tmp_path / "md5sums").write_text(f"{other}  b.fits\n")
    for _ in range(3):
        found = wholeness.read_promises(tmp_path, names)
    assert found == {"a.fits": frozenset([other]), "b.fits": frozenset([other])}
    assert len(read) == 3

    with monkeypatch.context() as patched:  # what could not be read once is read the next time
        (tmp_path / "md5sums").write_text(f"{one}  cc.fits\n")
        patched.setattr(wholeness, "promises_in", fails)
        assert "cc.fits" not in wholeness.read_promises(tmp_path, names)
    assert wholeness.read_promises(tmp_path, names)["cc.fits"] == frozenset([one])


def fails(*values: object) -> None:
    raise OSError(errno.EIO, "a bad moment")


def test_lines_of_digests_are_read_in_every_usual_form():
    md5, sha = "0123456789abcdef" * 2, "0123456789ABCDEF" * 4

    assert promises_in(f"a.fits,{md5}") == [("a.fits", md5)]
    assert promises_in(f'"a b.fits", {md5}') == [("a b.fits", md5)]
    assert promises_in(f"{md5}  a b.fits") == [("a b.fits", md5)]
    assert promises_in(f"{sha} *dir/a.fits") == [("a.fits", sha.lower())]
    assert promises_in(f"MD5 (a.fits) = {md5}") == [("a.fits", md5)]
    assert promises_in(md5, "x.fits") == [("x.fits", md5)]
    assert promises_in("# nothing\n\nname,md5\n") == []


def test_a_header_that_was_changed_disagrees_with_its_checksum(tmp_path: Path):
    path = tmp_path / "x.fits"
    path.write_bytes(with_sums())
    assert disagreeing_checksums(path) == []

    path.write_bytes(with_sums().replace(b"'BROKEN  '", b"'BROKER  '", 1))

    assert fits.disagreeing_sums(path) == []
    with pytest.raises(NotWhole, match="HDU 0 does not add up to its CHECKSUM"):
        examine(path, frozenset())


# ---------------------------------------------------------------------- twins, versions, companions


def test_the_same_bytes_under_another_name_are_told_as_a_duplicate(stand: Stand):
    stand.drop("1p.fits", sky_file(1))
    stand.drop("copy.fits", sky_file(1))

    stand.take()

    assert stand.counts() == {"seen": 2, WAITING: 0, REGISTERED: 1, REFUSED: 1}
    assert "the same bytes are registered already: 1p.fits" in stand.ended("copy.fits")[1]
    assert (stand.land / "copy.fits").exists()


def test_a_changed_file_under_a_known_name_is_told_apart_and_overwrites_nothing(stand: Stand):
    stand.drop("1p.fits", sky_file(1))
    stand.take()
    first = Path(stand.registered()["1p.fits"])
    before = first.read_bytes()

    stand.drop("1p.fits", sky_file(1, AIRMASS=1.2))
    stand.take()

    state, why = stand.ended("1p.fits")
    assert (state, "registered already with other bytes" in why) == (REFUSED, True)
    assert first.read_bytes() == before
    assert Exposure.select().count() == 1


def test_an_accepted_version_lies_beside_the_earlier_one(stand: Stand):
    stand.drop("1p.fits", sky_file(1))
    stand.take()
    stand.drop("1p.fits", sky_file(1, AIRMASS=1.2))
    stand.take()

    landed.try_again(["1p.fits"], is_accepted=True)
    stand.take()

    paths = [Path(one.path) for one in Exposure.select().order_by(Exposure.id)]
    assert [path.read_bytes() for path in paths] == [sky_file(1), sky_file(1, AIRMASS=1.2)]
    assert paths[0].parent == paths[1].parent.parent
    assert stand.counts() == {"seen": 2, WAITING: 0, REGISTERED: 2, REFUSED: 0}


def test_another_observation_may_have_a_known_name(stand: Stand):
    stand.drop("image.fits", sky_file(1))
    stand.take()

    stand.drop("image.fits", sky_file(2))
    stand.take()

    assert {Path(one.path).read_bytes() for one in Exposure.select()} == {sky_file(1), sky_file(2)}


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("1p.weight.fits", ("1p", "weight")),
        ("1p_weight.fits.fz", ("1p", "weight")),
        ("1p.flag.fits", ("1p", "flag")),
        ("1p_mask.fits.gz", ("1p", "mask")),
        ("1p.flags.fits", ("1p", "flag")),
        ("1p.fits", ("", "")),
        ("weight.fits", ("", "")),
    ],
)
def test_a_companion_is_known_by_its_name(name: str, what: tuple[str, str]):
    assert companion_of(name) == companion_of(name, shipped()) == what


def test_a_companion_is_known_by_its_instruments_names_too():
    assert companion_of("c4d_1_2_oow_g_v1.fits.fz", shipped()) == ("c4d_1_2_ooi_g_v1", "weight")


def test_companions_travel_to_the_place_of_their_exposure_and_wait_for_it(stand: Stand):
    stand.drop("9p.fits", sky_file(9, "g", "20BF02"))
    stand.take()
    stand.drop("1p.weight.fits", sky_file(101, "none", "weights"))
    stand.drop("1p_mask.fits", sky_file(102, "none", "masks"))
    stand.take()
    assert stand.ended("1p.weight.fits") == (WAITING, "this weight map waits for its exposure, 1p.")

    stand.drop("1p.fits", sky_file(1))
    stand.take()

    assert {Path(path).parent.name for name, path in stand.registered().items() if name.startswith("1p")} == {"r"}
    assert len({Path(path).parent for name, path in stand.registered().items() if name.startswith("1p")}) == 1
    kinds = dict(Exposure.select(Exposure.name, Exposure.kind).tuples())
    assert (kinds["1p.weight.fits"], kinds["1p_mask.fits"]) == ("weight", "mask")


# ---------------------------------------------------------------------- what is refused


@pytest.mark.slow
def test_every_broken_file_ends_registered_or_refused_with_a_reason(in_place: Stand):
    for one in BROKEN:
        in_place.drop(one.name, one.make())

    in_place.lose_patience()

    rows = {row.name: row for row in Seen.select()}
    assert set(rows) == {one.name for one in BROKEN}
    for one in BROKEN:
        if one.expect == "reject" and one.seen == "headers":
            assert rows[one.name].state == REFUSED, one.name
            assert one.reason in rows[one.name].why, one.name
    assert all(row.why for row in rows.values() if row.state == REFUSED)
    assert in_place.counts()[WAITING] == 0
    assert Exposure.select().count() == in_place.counts()[REGISTERED] > 30


def test_a_gzip_bomb_is_refused_and_stops_nobody(in_place: Stand):
    import gzip

    in_place.drop("bomb.fits.gz", gzip.compress(b" " * (64 << 20), compresslevel=1))
    in_place.drop("1p.fits", sky_file(1))

    in_place.lose_patience()

    assert in_place.ended("bomb.fits.gz")[0] == REFUSED
    assert in_place.ended("1p.fits")[0] == REGISTERED


def test_a_file_that_cannot_be_read_is_refused_and_taken_after_its_rights_were_mended(in_place: Stand, monkeypatch):
    path = in_place.drop("1p.fits", sky_file(1))
    real_open = os.open

    def denied(name, *rest, **more):  # a test run by root can read everything
        if name == path:
            raise PermissionError(13, "Permission denied", str(path))
        return real_open(name, *rest, **more)

    with monkeypatch.context() as patched:
        patched.setattr("spicad.archive.wholeness.os.open", denied)
        in_place.lose_patience()
        assert in_place.ended("1p.fits") == (REFUSED, "it cannot be read: Permission denied.")

    landed.try_again(["1p.fits"], is_accepted=False)
    in_place.take()

    assert in_place.counts() == {"seen": 1, WAITING: 0, REGISTERED: 1, REFUSED: 0}


@pytest.mark.slow
def test_names_of_any_bytes_are_listed_in_printable_words(in_place: Stand):
    (in_place.land / os.fsdecode(b"caf\xe9.fits")).write_bytes(sky_file(1))
    (in_place.land / "line\nend.fits").write_bytes(sky_file(2))

    in_place.take()

    assert sorted(row.state for row in Seen.select()) == [REFUSED, REFUSED]
    assert {row.why for row in Seen.select()} == {
        "its name is not UTF-8. Give it another one.",
        "its name holds control characters. Give it another one.",
    }


def test_a_reader_of_the_report_who_has_heard_enough_sees_no_traceback(in_place: Stand):
    command = [sys.executable, str(ROOT / "bin/snooppix"), "--config", str(in_place.settings.source), "--report"]
    reading, writing = os.pipe()
    os.close(reading)

    done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, text=True, check=False, timeout=60)
    os.close(writing)

    assert (done.returncode, done.stderr) == (snooping.FAILED, "")


def test_the_report_and_the_list_of_refused_files_say_it_all(in_place: Stand, capsys: pytest.CaptureFixture[str]):
    in_place.drop("1p.fits", sky_file(1))
    in_place.drop("table.fits", table())
    in_place.take()
    in_place.drop("late.fits", sky_file(2)[:9000])
    in_place.take()

    landed.report(is_json=False)
    landed.refused(is_json=False)

    said = capsys.readouterr().out
    assert "3 seen = 1 registered + 1 refused + 1 waiting" in said
    assert "late.fits" in said
    assert "a table and no image" in said


def test_a_name_that_was_never_refused_cannot_be_tried_again(in_place: Stand):
    with pytest.raises(landed.NothingFound, match=r"no file x\.fits was refused"):
        landed.try_again(["x.fits"], is_accepted=False)


def test_somebody_else_who_would_watch_is_told_whose_task_it_is(
    in_place: Stand, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    def refused(path: Path, wait: bool) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(snooping, "locked", refused)  # root, who may run the tests, is refused nothing
    monkeypatch.setattr("spicad.logs.set_up", lambda level, node: None)

    assert snooping.main(["--config", str(in_place.settings.source), "--once"]) == snooping.FAILED
    said = capsys.readouterr().err
    assert said.endswith("snooppix.lock: Permission denied. Run this as the user of spicad.\n")


def test_the_options_that_answer_do_so_by_themselves(in_place: Stand, capsys: pytest.CaptureFixture[str]):
    in_place.drop("table.fits", table())
    in_place.take()
    asked = argparse.Namespace(refused=True, report=False, retry=None, accept=None, json=True)

    assert landed.answer(in_place.settings, asked) == 0
    assert '"state": "refused"' in capsys.readouterr().out


# ---------------------------------------------------------------------- whatever happens


NAMES = ("a.fits", "b.fits", "a.weight.fits")
CONTENTS = {
    "one": sky_file(1),
    "two": sky_file(2),
    "other version of one": sky_file(1, AIRMASS=1.3),
    "half": sky_file(1)[:30_000],
    "table": table(),
    "empty": b"",
    "bad sums": changed_byte(),
}
ACTS = st.one_of(
    st.tuples(st.just("write"), st.sampled_from(NAMES), st.sampled_from(sorted(CONTENTS))),
    st.tuples(st.just("remove"), st.sampled_from(NAMES), st.just("")),
    st.tuples(st.just("swap"), st.sampled_from(NAMES), st.sampled_from(NAMES)),
    st.tuples(st.sampled_from(["look", "wait", "long", "new life"]), st.just(""), st.just("")),
)


@pytest.mark.slow
@settings(max_examples=25, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(acts=st.lists(ACTS, min_size=3, max_size=14), mode=st.sampled_from(["move", "copy", "leave"]))
def test_seen_is_registered_and_refused_and_waiting_after_any_sequence(tmp_path_factory, acts, mode):
    stand = Stand(tmp_path_factory.mktemp("any") / "stand", mode=mode)
    seen: set[tuple[str, int, int, int]] = set()

    def note() -> None:
        for path in look_into([stand.land]).files:
            status = path.stat()
            seen.add((path.name, status.st_ino, status.st_size, status.st_mtime_ns))

    def holds() -> None:
        found = stand.counts()
        assert found["seen"] == found[REGISTERED] + found[REFUSED] + found[WAITING]
        assert found["seen"] <= len(seen)
        assert {row.name for row in Seen.select()} == {name for name, *_ in seen}
        assert Exposure.select().count() == found[REGISTERED]
        digests = [one.sha256 for one in Exposure.select()]
        assert len(digests) == len(set(digests))
        if mode != "leave":
            for one in Exposure.select():
                assert hashlib.sha256(Path(one.path).read_bytes()).hexdigest() == one.sha256
        assert all(row.why for row in Seen.select().where(Seen.state != REGISTERED))

    for life in _lives(acts):
        with stand.open():
            for act, name, what in life:
                path = stand.land / name
                if act == "write":
                    stand.drop(name, CONTENTS[what])
                elif act == "remove":
                    path.unlink(missing_ok=True)
                elif act == "swap" and path.exists():
                    path.rename(stand.land / what)
                elif act in ("look", "wait", "long"):
                    note()
                    stand.look({"look": 0, "wait": 6, "long": 70}[act])
                    holds()
    with stand.open():
        note()
        stand.lose_patience()
        note()
        stand.lose_patience()
        holds()
        waits = Seen.select().where(Seen.state == WAITING)
        assert {row.name for row in waits} <= {"a.weight.fits"}
    shutil.rmtree(stand.folder)


def _lives(acts):
    """The acts between two ends of a life."""
    life = []
    for act in acts:
        if act[0] == "new life":
            yield life
            life = []
        else:
            life.append(act)
    yield life

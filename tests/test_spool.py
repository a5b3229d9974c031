"""The spool by itself: the opening ritual for foreign files, the refusal beside its reason, the durable copies.

What becomes of a drop that passes is told in test_intake.py.
"""

from __future__ import annotations

import os
import random
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from spicad.jobfile import MOST_BYTES
from spicad.spool import Accepted, NotYet, Refused, Spool, split_accepted, with_accepted
from spicad.words import Phase, SpicaError

JOB = 'name = "try"\nexposures = ["/a.fits"]\nrules = "stack"\n[end]\n'


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    made = Spool(tmp_path / "spool")
    made.make()
    return made


def drop(spool: Spool, name: str, content: bytes = JOB.encode()) -> Path:
    path = spool.folder("incoming") / name
    path.write_bytes(content)
    return path


def test_the_drop_box_is_sticky_and_closed_to_others(spool: Spool) -> None:
    assert stat.S_IMODE(spool.folder("incoming").stat().st_mode) == 0o3770
    for name in ("queued", "executing", "held", "completed", "tmp", "rejected"):
        assert not stat.S_IMODE(spool.folder(name).stat().st_mode) & 0o007


def test_a_drop_is_read_with_its_owner_and_a_token_of_its_own(spool: Spool) -> None:
    drop(spool, "one.spica")
    drop(spool, "two.spica")

    one, two = spool.read_drop("one.spica"), spool.read_drop("two.spica")

    assert (one.text, one.uid) == (JOB, os.getuid())
    assert one.token == spool.read_drop("one.spica").token
    assert one.token != two.token


def symlink(path: Path) -> None:
    path.symlink_to("/etc/passwd")


def hard_link(path: Path) -> None:
    elsewhere = path.parent.parent / "elsewhere"
    elsewhere.write_text(JOB)
    os.link(elsewhere, path)


def device(path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root makes devices")
    os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(1, 5))


def socket_file(path: Path) -> None:
    os.mknod(path, stat.S_IFSOCK | 0o666)


ODD: dict[str, tuple[Callable[[Path], object], str]] = {
    "symlink": (symlink, "Copy the file instead of linking it"),
    "dangling": (lambda path: path.symlink_to("nowhere"), "Copy the file instead of linking it"),
    "hardlink": (hard_link, "Copy the file instead of linking it"),
    "fifo": (os.mkfifo, "Drop a plain file"),
    "device": (device, "Drop a plain file"),
    "socket": (socket_file, "Drop a plain file"),
    "folder": (os.mkdir, "Drop a plain file"),
    "huge": (lambda path: path.write_bytes(b"#" * (MOST_BYTES + 1)), f"at most {MOST_BYTES}"),
    "latin1": (lambda path: path.write_bytes(b'name = "x"\nmail = "\xe9"\n[end]\n'), "Save the file as UTF-8"),
    "new\nline": (lambda path: path.write_text(JOB), "printable characters"),
    "escape\x1b[2J": (lambda path: path.write_text(JOB), "printable characters"),
    "x" * 201: (lambda path: path.write_text(JOB), "at most 200"),
    os.fsdecode(b"\xff\xfe"): (lambda path: path.write_text(JOB), "printable characters"),
}


@pytest.mark.parametrize("name", ODD, ids=lambda name: repr(name)[1:15])
def test_an_odd_drop_is_refused_with_the_mend_and_kept(spool: Spool, name: str) -> None:
    make, mend = ODD[name]
    path = spool.folder("incoming") / f"{name}.spica"
    make(path)

    with pytest.raises(Refused, match=mend) as refused:
        spool.read_drop(path.name)
    target = spool.refuse(path.name, str(refused.value))

    assert os.path.lexists(target)
    assert not os.path.lexists(path)
    assert mend in Path(f"{target}.why").read_text()


def test_a_sparse_file_of_a_terabyte_is_refused_unread(spool: Spool) -> None:
    path = drop(spool, "big.spica")
    os.truncate(path, 1 << 40)

    with pytest.raises(Refused, match="1099511627776 bytes"):
        spool.read_drop("big.spica")


def test_a_leading_dash_and_odd_letters_are_no_obstacle(spool: Spool) -> None:
    for name in ("-rf.spica", "--help.spica", "M101 Überblick.spica", "$(id).spica", "'; drop table.spica"):
        drop(spool, name)
        assert spool.read_drop(name).text == JOB


@pytest.mark.parametrize("half", [b"", b'name = "x"', JOB.encode()[:-2], b"[end]\nname = 1\n", b"[end", b"# [end]\n"])
def test_a_drop_without_its_last_line_waits(spool: Spool, half: bytes) -> None:
    drop(spool, "half.spica", half)

    with pytest.raises(NotYet):
        spool.read_drop("half.spica")


def test_a_drop_that_vanished_is_told_from_one_that_is_bad(spool: Spool) -> None:
    with pytest.raises(FileNotFoundError):
        spool.read_drop("gone.spica")


def test_hidden_files_and_other_names_are_no_drops(spool: Spool) -> None:
    for name in (".hidden.spica", "notes.txt", "spica", "try.spica~"):
        drop(spool, name)
    drop(spool, "try.spica")

    assert spool.drops() == ["try.spica"]


def test_a_file_put_in_the_place_of_a_drop_is_not_discarded_with_it(spool: Spool) -> None:
    drop(spool, "try.spica")
    read = spool.read_drop("try.spica")
    another = drop(spool, "new", JOB.replace("try", "another").encode())
    os.rename(another, spool.folder("incoming") / "try.spica")

    spool.discard_drop(read)

    assert "another" in spool.read_drop("try.spica").text


def test_a_reason_holds_no_control_characters_whatever_was_asked_for(spool: Spool) -> None:
    drop(spool, "try.spica")

    target = spool.refuse("try.spica", "first line\n/data/\x1b[2J\x9b1m.fits: no such file")

    said = Path(f"{target}.why").read_text()
    assert said == "first line\n/data/\\x1b[2J\\x9b1m.fits: no such file\n"


def test_nothing_in_rejected_is_overwritten(spool: Spool) -> None:
    targets = []
    for number in range(4):
        drop(spool, "same.spica", b"%d" % number)
        targets.append(spool.refuse("same.spica", f"reason {number % 2}"))

    assert len(set(targets)) == 4
    assert [target.read_bytes() for target in targets] == [b"0", b"1", b"2", b"3"]
    assert [Path(f"{target}.why").read_text() for target in targets] == [f"reason {n % 2}\n" for n in range(4)]


def test_a_refusal_cut_short_is_taken_up_where_it_was(spool: Spool) -> None:
    """Killed between the .why and the move, or not allowed to move it: no second .why appears."""
    (spool.folder("rejected") / "try.spica.why").write_text("too bad\n")
    drop(spool, "try.spica", b"x")

    target = spool.refuse("try.spica", "too bad")

    assert target.name == "try.spica"
    assert len(list(spool.folder("rejected").iterdir())) == 2


@pytest.mark.parametrize("stem", ["☄" * 82, "é" * 120, "x" * 249, "-" * 200])
def test_the_longest_names_fit_into_rejected(spool: Spool, stem: str) -> None:
    drop(spool, f"{stem}.spica", b"1")
    spool.refuse(f"{stem}.spica", "no")
    drop(spool, f"{stem}.spica", b"2")

    target = spool.refuse(f"{stem}.spica", "no")

    assert target.read_bytes() == b"2"
    assert len(list(spool.folder("rejected").iterdir())) == 4


def test_a_reason_can_be_read_by_those_who_may_look_into_rejected(spool: Spool) -> None:
    drop(spool, "try.spica", b"x")

    why = Path(f"{spool.refuse('try.spica', 'no')}.why")

    assert stat.S_IMODE(why.stat().st_mode) == 0o644


def accepted(**values: object) -> Accepted:
    known = {"token": "t", "owner": "alice", "group": "lens", "rank": 0, "submitted": 1.5, "drop": "a.spica"}
    return Accepted(**{**known, **values})  # type: ignore[arg-type]


def test_a_durable_copy_gives_back_every_word_whatever_it_holds() -> None:
    chance = random.Random(101)
    letters = "a\"\\\n\r\t\x00\x1b[]=#{}'☄é\u2028 "
    for _ in range(300):
        texts = {
            "".join(chance.choices(letters, k=5)): "".join(chance.choices(letters, k=chance.randrange(40)))
            for _ in range(chance.randrange(3))
        }
        wanted = accepted(drop="".join(chance.choices(letters, k=8)), fresh=chance.random() < 0.5, texts=texts)

        text, found = split_accepted(with_accepted(JOB, wanted), "copy")

        assert (text, found) == (JOB, wanted)


@pytest.mark.parametrize(
    "damage", ["", JOB, JOB + "[accepted]\ntoken = 1\n[end]\n", JOB + "[accepted]\nzz = 1\n[end]\n"]
)
def test_a_damaged_durable_copy_is_named(spool: Spool, damage: str) -> None:
    spool.path(7, Phase.QUEUED).write_text(damage)

    with pytest.raises(SpicaError, match=r"000007\.spica"):
        spool.read_copy(7, Phase.QUEUED)


def test_a_durable_copy_of_random_bytes_is_named_too(spool: Spool) -> None:
    spool.path(7, Phase.QUEUED).write_bytes(random.Random(1).randbytes(500))

    with pytest.raises(SpicaError, match=r"000007\.spica"):
        spool.read_copy(7, Phase.QUEUED)


def test_a_change_of_phase_is_one_rename_and_says_when_it_could_not(spool: Spool) -> None:
    spool.place(spool.prepare_copy("t", JOB, accepted()), 12)

    assert spool.move(12, Phase.QUEUED, Phase.HELD)
    assert not spool.move(12, Phase.QUEUED, Phase.EXECUTING)
    assert list(spool.copies(Phase.HELD)) == [12]
    assert list(spool.copies(Phase.QUEUED)) == []


def test_what_an_earlier_life_left_in_tmp_goes(spool: Spool) -> None:
    spool.prepare_copy("t", JOB, accepted())

    spool.make()

    assert list(spool.folder("tmp").iterdir()) == []

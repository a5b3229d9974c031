"""Who somebody is comes from the kernel and spica.conf; one gate decides which files a process may read.

Who may give which order is told in test_intake.py as well; here are the decisions alone.
"""

from __future__ import annotations

import grp
import os
import pwd
import stat
from pathlib import Path

import pytest

from spicad.config import Settings, parse
from spicad.people import Person, Thing, make_results_folder, may, permitted, person, person_named
from spicad.words import Rank, SpicaError

ALICE = Person(60_001, "alice", "lensing", Rank.USER)
BOB = Person(60_002, "bob", "lensing", Rank.GROUP_ADMINISTRATOR)
CAROL = Person(60_003, "carol", "solar", Rank.USER)
DAN = Person(60_004, "dan", "staff", Rank.ADMINISTRATOR)
CRON = Person(60_005, "cron", "staff", Rank.PIPELINE)
ME = Person(os.geteuid(), pwd.getpwuid(os.geteuid()).pw_name, "staff", Rank.USER, runs_spica=True)


def settings_of(tmp_path: Path, text: str = '[paths]\narchive = ["archive"]\n') -> Settings:
    return parse(text, tmp_path / "spica.conf")


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    folder = tmp_path / "archive" / "03AF12"
    folder.mkdir(parents=True)
    (folder / "1p.fits").write_text("pixels")
    return folder


def refusal(path: object, settings: Settings, owner: Person = ALICE) -> str:
    with pytest.raises(SpicaError) as refused:
        permitted(str(path), owner, settings)
    return str(refused.value)


def test_a_file_of_the_archive_is_permitted_whoever_owns_it(archive: Path, tmp_path: Path) -> None:
    assert permitted(f"{archive}/1p.fits", ALICE, settings_of(tmp_path)) == archive / "1p.fits"


def test_a_link_inside_the_archive_is_followed_to_its_file(archive: Path, tmp_path: Path) -> None:
    (archive / "link.fits").symlink_to("1p.fits")
    (archive / "folder").symlink_to("../03AF12")

    assert permitted(f"{archive}/folder/link.fits", ALICE, settings_of(tmp_path)) == archive / "1p.fits"


def test_an_archive_that_is_a_link_itself_holds_its_files(archive: Path, tmp_path: Path) -> None:
    (tmp_path / "data").symlink_to(archive)
    settings = settings_of(tmp_path, '[paths]\narchive = ["data"]\n')

    assert permitted(f"{tmp_path}/data/1p.fits", ALICE, settings) == archive / "1p.fits"


@pytest.mark.parametrize(
    "path",
    [
        "{archive}/../../secret",
        "{archive}/../../../../../../../../etc/passwd",
        "{archive}/out",
        "{archive}/out-folder/secret",
        "{tmp}/archive-2/x.fits",
        "/etc/passwd",
        "/proc/self/environ",
        "/dev/zero",
        "/nowhere/at/all",
        "{tmp}/nothing",
    ],
)
def test_what_lies_outside_the_archive_is_refused_whether_it_exists_or_not(
    path: str, archive: Path, tmp_path: Path
) -> None:
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "archive-2").mkdir()
    (tmp_path / "archive-2/x.fits").write_text("pixels")
    (archive / "out").symlink_to(tmp_path / "secret")
    (archive / "out-folder").symlink_to(tmp_path)
    asked = path.format(archive=archive, tmp=tmp_path)

    assert refusal(asked, settings_of(tmp_path)) == (
        f"{asked}: outside the archive ({tmp_path}/archive; paths.archive in spica.conf)."
    )


@pytest.mark.parametrize("path", ["", "1p.fits", "./1p.fits", "~/1p.fits", "-rf", "file:///archive/1p.fits"])
def test_a_path_that_does_not_begin_at_the_root_is_refused(path: str, tmp_path: Path) -> None:
    assert refusal(path, settings_of(tmp_path)) == f"{path}: give the whole path, from /."


def test_what_is_no_regular_file_is_refused(archive: Path, tmp_path: Path) -> None:
    os.mkfifo(archive / "pipe.fits")
    (archive / "loop.fits").symlink_to("loop.fits")
    (archive / "gone.fits").symlink_to("nothing.fits")
    settings = settings_of(tmp_path)

    assert refusal(archive, settings).endswith("03AF12: this is not a regular file.")
    assert refusal(archive / "pipe.fits", settings).endswith("pipe.fits: this is not a regular file.")
    assert refusal(archive / "gone.fits", settings).endswith("gone.fits: No such file or directory.")
    assert "loop.fits" in refusal(archive / "loop.fits", settings)
    assert refusal(archive / "none.fits", settings).endswith("none.fits: No such file or directory.")
    assert refusal(archive / ("x" * 300), settings).endswith("File name too long.")
    assert "null byte" in refusal(f"{archive}/a\0b", settings)
    assert refusal(archive / "1p.fits" / "x", settings).endswith("Not a directory.")


def test_without_an_archive_only_ones_own_files_are_permitted_and_others_are_not_told_from_none(
    archive: Path, tmp_path: Path
) -> None:
    settings = settings_of(tmp_path, "")
    (tmp_path / "mine").symlink_to("/etc/passwd")
    os.mkfifo(archive / "pipe.fits")
    asked = [archive / "1p.fits", tmp_path / "mine", archive, archive / "pipe.fits", archive / "none.fits"]

    said = {refusal(path, settings).replace(str(path), "PATH") for path in asked}

    assert permitted(f"{archive}/1p.fits", ME, settings) == archive / "1p.fits"
    assert refusal(f"{archive}/a\0b", settings).startswith(f"{archive}/a\\x00b: there is no such file that belongs")
    assert said == {
        "PATH: there is no such file that belongs to alice, and paths.archive in spica.conf names no folder."
    }


@pytest.mark.parametrize("verb", ["see", "hold", "release", "cancel", "rerun", "anything"])
def test_everybody_may_all_with_their_own_and_nothing_with_a_strangers(verb: str) -> None:
    assert may(ALICE, verb, Thing("process", "alice", "lensing"))
    assert not may(CAROL, verb, Thing("process", "alice", "lensing"))
    assert not may(ALICE, verb, Thing("process", "bob", "lensing"))
    assert may(DAN, verb, Thing("process", "alice", "lensing"))
    assert may(CRON, verb, Thing("process", "alice", "lensing"))
    assert may(ME, verb, Thing("process", "alice", "lensing"))


@pytest.mark.parametrize(("verb", "allowed"), [("see", True), ("hold", True), ("cancel", True), ("rerun", False)])
def test_a_group_administrator_rules_the_own_group_alone(verb: str, allowed: bool) -> None:
    assert may(BOB, verb, Thing("process", "alice", "lensing")) is allowed
    assert not may(BOB, verb, Thing("process", "carol", "solar"))


def test_the_rank_is_the_highest_that_spica_conf_gives(tmp_path: Path) -> None:
    me = ME.user
    everything = f'[ranks]\npipeline = ["{me}"]\nadministrator = ["{me}"]\n'

    assert person(ME.uid, settings_of(tmp_path, everything)).rank is Rank.PIPELINE
    assert person(ME.uid, settings_of(tmp_path, f'[ranks]\nadministrator = ["{me}"]\n')).rank is Rank.ADMINISTRATOR
    assert (
        person(ME.uid, settings_of(tmp_path, f'[ranks]\nadministrator=[]\ngroup_administrator = ["{me}"]\n')).rank
        is Rank.GROUP_ADMINISTRATOR
    )
    assert person(ME.uid, settings_of(tmp_path, "[ranks]\nadministrator = []\n")).rank is Rank.USER


def test_a_uid_without_a_name_is_somebody_too(tmp_path: Path) -> None:
    somebody = person(3_999_999_999, settings_of(tmp_path))

    assert (somebody.user, somebody.group, somebody.rank) == ("uid3999999999", "nobody", Rank.USER)
    assert person_named(somebody.user, somebody.group, int(somebody.rank)) == somebody


def test_a_copy_keeps_the_rank_that_was_found_at_acceptance() -> None:
    assert person_named("root", "staff", 3) == Person(0, "root", "staff", Rank.PIPELINE)
    assert not person_named("nobody-at-all", "staff", 0).runs_spica
    assert person_named("nobody-at-all", "staff", 0).uid == -1


def test_results_are_read_by_the_daemons_group_and_nobody_else_unless_the_administrator_wishes_so(
    tmp_path: Path,
) -> None:
    group = grp.getgrgid(os.getgid())
    asked = f'[daemon]\ngroup = "{group.gr_name}"\n[paths]\nresults = "results"\n'
    make_results_folder("alice", settings_of(tmp_path, asked))
    make_results_folder("bob", settings_of(tmp_path, asked + 'results_mode = "0755"\n'))
    make_results_folder("alice", settings_of(tmp_path, asked + 'results_mode = "0700"\n'))

    alice, bob = (os.stat(tmp_path / "results" / user) for user in ("alice", "bob"))

    assert (stat.S_IMODE(alice.st_mode), alice.st_gid) == (0o750, group.gr_gid)
    assert stat.S_IMODE(bob.st_mode) == 0o755


# ---------------------------------------------------------------------- accounts of the site

WEB_ALICE = Person(-1, "alice@web", "lensing", Rank.USER, 1, frozenset({"lensing", "solar"}))
WEB_GINA = Person(
    -1, "gina@web", "lensing", Rank.GROUP_ADMINISTRATOR, 2, frozenset({"lensing", "solar"}), frozenset({"lensing"})
)
WEB_DAN = Person(-1, "dan@web", "staff", Rank.ADMINISTRATOR, 3, frozenset({"staff"}))


def verbs(actor: Person | None, thing: Thing, *asked: str) -> str:
    return " ".join(verb for verb in asked if may(actor, verb, thing))


@pytest.mark.parametrize(
    ("thing", "alice", "gina", "dan"),
    [
        (Thing("process", "alice@web", "lensing"), "see cancel rerun", "see cancel", "see cancel rerun"),
        (Thing("process", "alice@web", "solar"), "see cancel rerun", "", "see cancel rerun"),
        (Thing("process", "alice", "lensing"), "", "see cancel", "see cancel rerun"),
    ],
)
def test_an_account_has_its_own_processes_and_an_administrator_those_of_the_group(
    thing: Thing, alice: str, gina: str, dan: str
) -> None:
    asked = ("see", "cancel", "rerun")

    assert [verbs(actor, thing, *asked) for actor in (WEB_ALICE, WEB_GINA, WEB_DAN)] == [alice, gina, dan]
    assert verbs(None, thing, *asked) == ""


def test_configurations_are_everybodys_the_groups_or_ones_own() -> None:
    asked = ("see", "use", "edit")
    levels = {
        "system": Thing("configuration"),
        "group": Thing("configuration", group="lensing"),
        "other group": Thing("configuration", group="stars"),
        "user": Thing("configuration", "alice@web", "lensing"),
    }

    found = {level: [verbs(actor, thing, *asked) for actor in (WEB_ALICE, WEB_GINA)] for level, thing in levels.items()}

    assert found["system"] == ["see use", "see use"]
    assert found["group"] == ["see use", "see use edit"]
    assert found["other group"] == ["", ""]
    assert found["user"] == ["see use edit", "see use"]
    assert all(may(WEB_DAN, "edit", thing) for thing in levels.values())


def test_nobody_acts_on_an_account_of_the_same_or_a_higher_rank() -> None:
    user, peer = Thing("account", "bob@web", "lensing"), Thing("account", "x", "lensing", Rank.GROUP_ADMINISTRATOR)

    assert may(WEB_GINA, "suspend", user)
    assert not may(WEB_GINA, "suspend", peer)
    assert not may(WEB_GINA, "suspend", Thing("account", "dan@web", "lensing", Rank.ADMINISTRATOR))
    assert not may(WEB_GINA, "suspend", Thing("account", "carol@web", "solar"))
    assert not may(WEB_ALICE, "see", user)
    assert may(WEB_ALICE, "edit", Thing("account", "alice@web", "lensing"))
    assert may(WEB_DAN, "rank", peer)


def test_only_an_administrator_of_spica_names_those_of_a_group_and_sets_its_quota() -> None:
    group = Thing("group", group="lensing")

    assert verbs(WEB_ALICE, group, "see", "members", "edit", "decide", "name", "quota", "make") == "see members"
    assert (
        verbs(WEB_GINA, group, "members", "edit", "decide", "remove", "name", "quota") == "members edit decide remove"
    )
    assert verbs(WEB_GINA, Thing("group", group="solar"), "members", "edit", "decide") == "members"
    assert verbs(WEB_DAN, group, "name", "quota", "make") == "name quota make"


def test_only_the_owner_of_the_spool_runs_spica_whoever_asks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = settings_of(tmp_path / "etc", "[ranks]\nadministrator = []\n")
    settings.paths.spool.mkdir(parents=True)
    monkeypatch.setattr(os, "geteuid", lambda: 60_009)  # a command of theirs, not the daemon

    typist, daemon = person(60_009, settings), person(settings.paths.spool.stat().st_uid, settings)

    assert not may(typist, "see", Thing("selection", "alice", "lensing"))
    assert may(daemon, "see", Thing("selection", "alice", "lensing"))


def test_an_owner_of_the_site_is_never_a_unix_user(tmp_path: Path) -> None:
    assert person_named("root@web", "lensing", 0).uid == -1
    assert person_named("uid0@web", "lensing", 0).uid == -1


def test_the_account_of_the_daemons_own_user_has_the_rank_of_the_account_alone() -> None:
    tied = Person(os.geteuid(), ME.user, "staff", Rank.USER, account=9)

    assert not may(tied, "see", Thing("process", "alice", "lensing"))
    assert may(ME, "see", Thing("process", "alice", "lensing"))

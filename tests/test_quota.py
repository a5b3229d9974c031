"""What is used is what du says; who has no room is refused, warned or stopped; whatever happens, nothing goes early.

Retention alone is in test_retention.py.
"""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import RunningSpica, wait_until
from keeping import ended_run, has_products, keeping
from life import Life, drop, job_text, made_ready, rows, why

from spicad import accounts, config, quota, sweeping
from spicad.quota import GB, GROUP, MIB, USER, Standing
from spicad.retention import DAY_S, Terms
from spicad.tables import Account, Group, Quota
from spicad.words import BadInput, Phase, Rank


def du(folder: Path) -> int:
    done = subprocess.run(["du", "-s", "--block-size=1", folder], capture_output=True, text=True, check=True)
    return int(done.stdout.split()[0])


# ---------------------------------------------------------------------- decisions


def test_a_process_that_fits_is_not_refused_and_one_byte_more_is() -> None:
    standing = Standing(USER, "alice", used=6 * GB, most=10 * GB)

    assert quota.refusal(standing, pending=GB, forecast=3 * GB) == ""
    refused = quota.refusal(standing, pending=GB, forecast=3 * GB + 1)
    for words in ("the quota of alice is 10 GB", "6 GB are used", "1 GB are forecast", "3 GB for this", "Fetch and"):
        assert words in refused


def test_without_a_limit_nothing_is_refused_warned_or_over() -> None:
    standing = Standing(GROUP, "lensing", used=10**15)

    assert quota.refusal(standing, 10**15, 10**15) == ""
    assert quota.warning_due(standing, 0) == 0
    assert not standing.is_over


@pytest.mark.parametrize(
    ("used", "warned", "due"), [(79, 0, 0), (80, 0, 80), (94, 80, 0), (95, 80, 95), (99, 95, 0), (96, 0, 95)]
)
def test_each_warning_is_due_once(used: int, warned: int, due: int) -> None:
    assert quota.warning_due(Standing(USER, "alice", used, 100), warned) == due


def test_the_nearest_figure_counts(tmp_path: Path) -> None:
    text = '[quota]\nuser_gb = 1\ngroup_gb = 2\nusers = ["alice=5", "bob=0"]\ngroups = ["lensing=7.5"]\n'
    settings = config.parse(text, tmp_path / "spica.conf")

    assert quota.most_of_user(settings, "alice", account_mb=3, member_mb=4) == 5 * GB
    assert quota.most_of_user(settings, "bob", account_mb=3) == 0
    assert quota.most_of_user(settings, "carol", account_mb=3, member_mb=4) == 3 * MIB
    assert quota.most_of_user(settings, "carol", member_mb=4) == 4 * MIB
    assert quota.most_of_user(settings, "carol") == GB
    assert quota.most_of_group(settings, "lensing", group_mb=9) == 7_500_000_000
    assert quota.most_of_group(settings, "galaxies", group_mb=9) == 9 * MIB
    assert quota.most_of_group(settings, "galaxies") == 2 * GB


def test_a_figure_without_a_name_is_refused_with_its_line(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match='line 2: "alice" is not NAME=NUMBER'):
        config.parse('[quota]\nusers = ["alice"]\n', tmp_path / "spica.conf")


# ---------------------------------------------------------------------- du


def test_what_is_measured_is_what_du_says(tmp_path: Path) -> None:
    at = keeping(tmp_path)
    run = ended_run(at, 12, files=3, bytes_=70_001)
    other = ended_run(at, 13, group="lensing")
    os.link(run / "products/0.fits", other / "products/same.fits")
    os.link(run / "products/0.fits", run / "products/again.fits")
    (run / "products/link").symlink_to("/etc/passwd")
    with (run / "products/sparse").open("wb") as file:
        file.truncate(1 << 30)
    (at.results / "alice" / "note").write_text("not of a process")

    found = quota.measure(at.results / "alice")

    assert sum(found.values()) == du(at.results / "alice")
    assert set(found) == {"", "galaxies", "lensing"}
    assert found["galaxies"] > 3 * 70_001
    assert quota.measure(at.results / "nobody") == {}


def deep_folder(inside: Path, depth: int = 2500) -> None:
    """Folders in folders, whose path no system call takes."""
    handle = os.open(inside, os.O_RDONLY)
    for _ in range(depth):
        os.mkdir("d", dir_fd=handle)
        inner = os.open("d", os.O_RDONLY, dir_fd=handle)
        os.close(handle)
        handle = inner
    os.close(os.open("bottom", os.O_CREAT | os.O_WRONLY, dir_fd=handle))
    os.close(handle)


def test_a_tool_that_leaves_thousands_of_folders_in_each_other_is_measured_and_cleared(tmp_path: Path) -> None:
    at = keeping(tmp_path, "most_share = 1")
    run = ended_run(at, 12)
    deep_folder(run / "steps/0001-copy/job")
    os.chmod(run / "steps/0001-copy/job/d/d", 0)

    assert sum(quota.measure(at.results / "alice").values()) == du(at.results / "alice")
    at.days(17)

    assert not (run / "steps/0001-copy/job").exists()
    assert not (run / "products.going").exists()


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2))
def test_after_any_sequence_use_equals_du_and_nothing_went_early(tmp_path: Path, seed: int) -> None:
    """Runs with shared products, wishes to keep and to delete, dead relays, days, clocks that jump."""
    dice = random.Random(seed)
    at = keeping(tmp_path, "most_share = 1\nfailed_days = 8\nwarn_days = [3, 1]\ndays = 10\nkeep_longer_days = 10")
    terms = Terms.of(at.settings)
    promised: dict[Path, float] = {}  # the last run of a process -> not before this moment
    deleted: set[Path] = set()
    gone = 0

    def begin() -> None:
        owner, group = dice.choice([("alice", "galaxies"), ("alice", "lensing"), ("bob", "lensing")])
        phase = dice.choice([Phase.COMPLETED, Phase.COMPLETED, Phase.ERROR])
        number = len(promised) + 1
        run = ended_run(at, number, owner=owner, group=group, phase=phase, bytes_=dice.randrange(1, 40_000))
        earlier = [each for each in promised if each.parts[-3] == owner and has_products(each)]
        if earlier:
            os.link(dice.choice(earlier) / "products/0.fits", run / "products/shared.fits")
        promised[run] = at.wall + (8 if phase is Phase.ERROR else 10) * DAY_S

    def wish() -> None:
        run = dice.choice(list(promised))
        until, _ = sweeping.keep(run.parent, at.spool, terms, dice.randrange(1, 20), at.wall, is_limited=True)
        promised[run] = max(promised[run], until)

    def delete() -> None:
        run = dice.choice(list(promised))
        kept, _ = sweeping.let_go_now(at.results, run.parent, at.spool, at.wall)
        if kept:
            deleted.add(run)
            sweeping.clear(at.results, kept)

    def jump() -> None:
        at.wall += dice.choice([-3, 4]) * DAY_S
        at.sweep()
        at.wall -= at.wall - (begun + at.boottime)  # it is set right, and an administrator looks
        sweeping.go_on(at.spool, at.moment)

    begun = at.wall - at.boottime
    for _ in range(60):
        dice.choice([begin, begin, wish, jump, delete, lambda: None, lambda: None])() if promised else begin()
        at.later(dice.choice([0.3, 1.0, 1.0]))
        at.sweep()
        if dice.random() < 0.8:
            at.relay_takes()
        for run, moment in promised.items():
            if run in deleted:
                assert not (run / "products").exists()
            elif not (run / "products").exists():
                accepted = sweeping.read_record(run).warned["1"].accepted
                assert at.wall >= moment, f"{run}: too early"
                assert sweeping.read_record(run).archived >= max(moment, accepted + DAY_S)
                assert accepted
            else:
                assert len(list((run / "products").iterdir())) >= 2
        for owner in ("alice", "bob"):
            if (at.results / owner).exists():
                assert sum(quota.measure(at.results / owner).values()) == du(at.results / owner)
        gone = sum(not (run / "products").exists() for run in promised.keys() - deleted)
    assert deleted
    assert 0 < gone < len(promised) - len(deleted)


# ---------------------------------------------------------------------- with a daemon

WRITER = """\
title = "writer"
summary = "Writes without end"
command = ["dd"]
version = ""
arguments = ["if=/dev/zero", "of=written", "bs=64k", "count=40000", "oflag=dsync"]
memory_mb = 256

[input.exposure]
kind = "exposure"
file = "{stem}.fits"
"""


@pytest.fixture
def life(tmp_path: Path) -> Iterator[Life]:
    spica = made_ready(tmp_path)
    spica.conf.write_text(spica.conf.read_text() + '[retention]\nmost_share = 1\nadministrator = "dan@example.org"\n')
    made = Life(spica)
    yield made
    made.stop()


def with_quota(life: Life, line: str) -> None:
    conf = life.spica.conf
    conf.write_text(conf.read_text().partition("\n[quota]")[0] + f"\n[quota]\n{line}\n")
    life.daemon._reload()


def owner_of(life: Life) -> str:
    return next(path.name for path in life.spica.results.iterdir())


def settled(life: Life) -> Standing:
    """What the tables say once it is what du says."""
    folder = next(life.spica.results.iterdir())
    life.until(lambda: quota.standing_of(USER, folder.name).used == du(folder), "the use to be measured")
    return quota.standing_of(USER, folder.name)


@pytest.mark.slow
def test_use_equals_du_after_each_run_and_is_shown(life: Life) -> None:
    for number in (1, 2):
        drop(life.spica, "try.spica", job_text(life.spica, "copy", exposures=3))
        life.until(lambda: rows().get(number) == "COMPLETED", "the process to end")  # noqa: B023
        standing = settled(life)
    group = quota.standings()[-1] if quota.standings()[-1].kind == GROUP else quota.standings()[0]

    shown = life.spica.spica("quota", standing.name).stdout

    assert standing.used > 3 * 5760
    assert quota.used_by(GROUP, group.name) == group.used
    assert quota.gigabytes(standing.used) in shown
    assert "no limit" in shown


def test_a_process_whose_forecast_does_not_fit_is_refused_with_figures_and_mend(life: Life) -> None:
    drop(life.spica, "try.spica", job_text(life.spica, "copy"))
    life.until_over(1)
    owner = settled(life).name
    with_quota(life, "user_gb = 0.000001")

    drop(life.spica, "more.spica", job_text(life.spica, "copy", exposures=3))
    life.until_quiet()

    assert f"the quota of {owner} is 1 kB" in why(life.spica, "more.spica")
    assert "ask an administrator" in why(life.spica, "more.spica")
    assert list(rows()) == [1]
    with_quota(life, f'user_gb = 0.000001\nusers = ["{owner}=1"]')
    drop(life.spica, "more.spica", job_text(life.spica, "copy", exposures=3))
    life.until(lambda: rows().get(2) == "COMPLETED", "the process to run")


def test_mails_warn_at_80_and_95_per_cent_once_each(life: Life) -> None:
    def mails() -> list[str]:
        return sorted(
            line
            for path in (life.spica.spool / "mail/new").glob("*")
            for line in path.read_text().splitlines()
            if line.startswith("Subject:") and "quota" in line
        )

    drop(life.spica, "try.spica", job_text(life.spica, "copy", more='mail = "alice@example.org"'))
    life.until_over(1)
    standing = settled(life)
    for share in (0.85, 0.85, 0.97, 0.97):
        with_quota(life, f"user_gb = {standing.used / share / GB:.6f}".rstrip("0"))
        life.daemon.measuring.due.add(standing.name)
        life.daemon.measuring.not_before.clear()
        life.until(lambda: not life.daemon.measuring.due and not life.daemon.measuring.measured, "it to be measured")
        life.daemon.next_mail = 0.0
        life.until(lambda: not list((life.spica.spool / "outbox").glob("*.eml")), "the mails to go")

    subject = f"% of the quota of {standing.name} are used"
    assert mails() == [f"Subject: 80{subject}", f"Subject: 95{subject}"]
    assert Quota.get(Quota.name == standing.name).warned == 95


def test_the_figures_of_accounts_and_groups_count(life: Life) -> None:
    Group.create(name="galaxies", title="Galaxies", quota_mb=70, user_quota_mb=40, made=0.0)
    accounts.add("alice", "Alice", "alice@example.org", "seven grey seals", Rank.USER, "galaxies", "", 0.0)
    settings = life.daemon.settings

    assert quota.limits_now(settings, "alice@web", "galaxies") == (40 * MIB, 70 * MIB)
    Account.update(quota_mb=50).execute()
    assert quota.limits_now(settings, "alice@web", "galaxies") == (50 * MIB, 70 * MIB)


@pytest.mark.slow
@pytest.mark.parametrize("of", ["user", "group"])
def test_a_step_that_writes_past_the_quota_is_stopped_within_five_seconds(tmp_path: Path, of: str) -> None:
    spica = RunningSpica(tmp_path, conf=f"\n[quota]\n{of}_gb = 0.02\n")
    spica.application("writer", WRITER)
    spica.start()
    try:
        process = spica.submit("writer", exposures=spica.exposures[:1])
        wait_until(lambda: list(spica.results.glob("*/*/run-1/steps/*/job/written")), "the step to write")
        (written,) = spica.results.glob("*/*/run-1/steps/*/job/written")
        wait_until(lambda: not written.exists() or written.stat().st_size > 20_000_000, "it to be too much")
        passed = time.monotonic()
        wait_until(lambda: spica.phase(process) in ("ERROR", "COMPLETED"), "the process to end")
        took = time.monotonic() - passed
        owner = next(spica.results.iterdir())
        wait_until(lambda: f'"used": {du(owner)}' in spica.spica("quota", "--json").stdout, "the use to be measured")

        record = spica.spica("show", str(process)).stdout
        print(f"stopped and ended {took:.2f} s after it passed the quota of the {of}")
        assert "of a quota of 0.02 GB" in record
        assert spica.phase(process) == "ERROR"
        assert took < 5.0
        assert du(owner) < 1_000_000
    finally:
        spica.end()


def test_what_is_deleted_is_used_no_more(life: Life, monkeypatch: pytest.MonkeyPatch) -> None:
    drop(life.spica, "try.spica", job_text(life.spica, "copy", exposures=3))
    life.until_over(1)
    before = settled(life).used
    run = next(life.spica.results.glob("*/*/run-1"))
    shutil.move(run / "products", run / "products.going")  # as a sweep leaves it that was killed
    life.daemon.measuring.not_before.clear()
    life.daemon.housekeeping.next_sweep = 0.0

    life.until(lambda: not (run / "products.going").exists(), "the sweep to go on")
    after = settled(life).used

    assert after < before

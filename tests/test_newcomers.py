"""What a step finds of an exposure goes into the archive; a new exposure is judged by itself, once, whatever happens.

With a stand-in that judges (judging.py); qualityfits itself is in test_quality_registered.py.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from conftest import RunningSpica
from crashing import PATIENCE_S, ShortLife, fork, traced_work
from judging import grades, judge_with, open_tables, register
from life import Life, drop, job_text, users
from peewee import fn
from services import MariaDB, mariadb, missing

from spicad.archive import grades as archive_grades
from spicad.archive import judgements
from spicad.people import Person
from spicad.tables import Exposure, Mark, Process, Quality
from spicad.words import Rank

__all__ = ["mariadb"]

JUDGED = ("C", "", 1.31)
NEWCOMERS = '\n[newcomers]\nrules = "judge"\n'


@pytest.fixture
def spica(tmp_path: Path) -> RunningSpica:
    """A spool without a daemon, with three exposures that the archive does not know yet."""
    made = RunningSpica(tmp_path / "stand")
    judge_with(made)
    return made


@pytest.fixture
def life(spica: RunningSpica) -> Iterator[Life]:
    made = Life(spica)
    yield made
    made.stop()


@pytest.fixture
def watchful(spica: RunningSpica) -> Iterator[Life]:
    """With [newcomers]; it has looked once."""
    spica.conf.write_text(spica.conf.read_text() + NEWCOMERS)
    made = Life(spica)
    made.passes(1)
    yield made
    made.stop()


def processes() -> dict[str, tuple[str, str, int, str]]:
    """By name: phase, owner's group, rank, why."""
    query = Process.select(Process.name, Process.phase, Process.group, Process.rank, Process.why)
    return {name: rest for name, *rest in query.tuples()}


# ---------------------------------------------------------------------- into the archive


def test_what_a_step_finds_is_known_to_conditions_and_pages(spica: RunningSpica, life: Life) -> None:
    one, two, _ = register(spica.exposures)
    drop(spica, "try.spica", job_text(spica, "judge", exposures=2))

    life.until(lambda: Quality.select().count() == 2, "two judgements")
    life.until_over(1)

    assert grades() == {"900001p.fits": JUDGED, "900002p.fits": JUDGED, "900003p.fits": ("", "", None)}
    row = Exposure.get_by_id(one)
    assert (row.elongation, row.background, row.limiting_magnitude, row.stars) == (1.06, 1432.5, 24.37, 1210)
    judgement = judgements.judgement_of(two)
    assert judgement
    assert [reason.words for reason in judgement.reasons] == ["Seeing is 1.31 arcsec, more than 1.2."]
    assert (judgement.source.application, judgement.source.process) == ("judge", 1)
    assert judgement.source.products == ("products/900002p.quality.json",)
    assert judgement.ccds[0].figures["seeing"] == 1.31
    found = json.loads(
        spica.spica("find", "--where", "seeing > 1.2 and grade <= 'C' and stars > 1000", "--json").stdout
    )
    assert [each["name"] for each in found] == ["900001p.fits", "900002p.fits"]
    job = spica.folder / "picked.spica"
    job.write_text('name = "x"\nrules = "judge"\n[select]\nwhere = "seeing > 1.2 and grade == \'C\'"\n[end]\n')
    plan = json.loads(spica.spica("plan", job, "--json").stdout)
    assert sorted(plan["exposures"]) == ["900001p", "900002p"]


def test_rules_select_by_what_was_measured(spica: RunningSpica, life: Life) -> None:
    register(spica.exposures)
    drop(spica, "first.spica", job_text(spica, "judge", name="first", exposures=1))
    life.until(lambda: Quality.select().count() == 1, "a judgement")
    text = job_text(spica, "copy", name="second", exposures=3)
    condition = 'each = "exposure"\nselect = "elongation < 1.2 and limiting_magnitude > 24"'
    drop(spica, "second.spica", text.replace('each = "exposure"', condition))

    life.until_over(2)

    copies = [path.name for path in spica.results.glob("*/*-second/run-1/products/*")]
    assert copies == ["900001p.copy.fits"]


def test_a_persons_grade_outlives_a_later_judgement(spica: RunningSpica, life: Life) -> None:
    (one,) = register(spica.exposures[:1])
    archive_grades.give(Person(-1, "alice@web", "lensing", Rank.USER), [one], "A")
    drop(spica, "try.spica", job_text(spica, "judge"))

    life.until(lambda: Quality.select().count() == 1, "a judgement")

    assert grades() == {"900001p.fits": ("A", "alice@web", 1.31)}


@pytest.mark.skipif(users() is None, reason="drops cannot be given away here")
def test_what_a_user_lets_run_does_not_change_the_archive(spica: RunningSpica, life: Life) -> None:
    register(spica.exposures)
    known = users()
    assert known
    drop(spica, "try.spica", job_text(spica, "judge"), uid=known.alice.pw_uid)

    assert life.until_over(1) == "COMPLETED"
    life.passes(2)

    assert Quality.select().count() == 0
    assert grades()["900001p.fits"] == ("", "", None)


def test_a_step_that_is_reused_says_the_same_of_its_exposure(spica: RunningSpica, life: Life) -> None:
    register(spica.exposures)
    for number in (1, 2):
        text = job_text(spica, "judge", name=f"try{number}", exposures=4 - number)
        drop(spica, f"try{number}.spica", text)
        life.until_over(number)
    life.passes(2)

    source = judgements.judgement_of(1)
    assert source
    assert source.source.process == 2
    assert source.figures["seeing"] == 1.31


def test_what_is_no_report_fails_the_step(spica: RunningSpica) -> None:
    text = (spica.folder / "applications" / "judge.toml").read_text()  # of another format
    spica.application("judge", re.sub("echo [^ ]+", "echo eyJmb3JtYXQiOiAyfQ==", text))
    life = Life(spica)
    register(spica.exposures)
    drop(spica, "try.spica", job_text(spica, "judge"))

    assert life.until_over(1) == "ERROR"
    life.passes(2)

    assert "is no report of qualityfits" in processes()["try"][3]
    assert Quality.select().count() == 0
    life.stop()


def test_a_later_judgement_wins_whatever_the_order_of_writing(spica: RunningSpica, life: Life) -> None:
    (one,) = register(spica.exposures[:1])
    row = Exposure.get_by_id(one)
    file = judgements.File(row.path, row.bytes, row.mtime_ns)
    record = {"grade": "B", "reasons": [], "figures": {"seeing": 0.7}, "problem": ""}
    record["ccds"] = {"names": [], "hdus": [], "problems": [], "figures": {}}

    def source(ended: float) -> judgements.Source:
        return judgements.Source("judge", 1, 1, 1, ended, "")

    assert judgements.register(file, record, source(20.0))
    assert not judgements.register(file, record | {"grade": "D"}, source(10.0))
    assert judgements.register(file, record, source(20.0))
    assert not judgements.register(judgements.File(row.path, row.bytes, 1), record, source(30.0))

    assert grades() == {"900001p.fits": ("B", "", 0.7)}


# ---------------------------------------------------------------------- by itself


def test_a_new_exposure_is_judged_by_itself_with_the_rank_of_the_pipeline(spica: RunningSpica, watchful: Life) -> None:
    register(spica.exposures[:2])

    watchful.until(lambda: Quality.select().count() == 2, "two judgements")
    watchful.until_over(1)
    watchful.until_over(2)
    watchful.passes(2)

    names = {name: rest[1:3] for name, rest in processes().items()}
    assert names == {f"new-90000{n}p": ["newcomers", int(Rank.PIPELINE)] for n in (1, 2)}
    assert Mark.get().number == 2
    assert grades() == {"900001p.fits": JUDGED, "900002p.fits": JUDGED}


def test_what_was_there_before_the_wish_is_not_new(spica: RunningSpica, life: Life) -> None:
    register(spica.exposures[:1])
    life.passes(2)
    assert Mark.select().count() == 0
    spica.conf.write_text(spica.conf.read_text() + NEWCOMERS)
    life.daemon._reload()
    life.passes(2)
    register(spica.exposures[1:2])

    life.until(lambda: Quality.select().count() == 1, "a judgement")

    assert list(processes()) == ["new-900002p"]
    spica.conf.write_text(spica.conf.read_text().replace(NEWCOMERS, ""))
    life.daemon._reload()
    life.passes(2)
    register(spica.exposures[2:])
    life.passes(3)
    assert Mark.select().count() == 0
    assert list(processes()) == ["new-900002p"]


def test_no_more_run_together_than_is_wished(spica: RunningSpica, watchful: Life) -> None:
    spica.conf.write_text(spica.conf.read_text() + "at_once = 1\n")
    watchful.daemon._reload()
    register(spica.exposures)

    watchful.until(lambda: Process.select().count() == 1, "the first")
    watchful.passes(1)
    assert Process.select().where(Process.phase.in_(["QUEUED", "EXECUTING"])).count() <= 1

    watchful.until(lambda: Quality.select().count() == 3, "all judgements")


def test_one_that_cannot_be_begun_is_told_and_keeps_no_other(spica: RunningSpica, watchful: Life) -> None:
    register(spica.exposures[:2])
    spica.exposures[0].write_bytes(b"no exposure any more")

    watchful.until(lambda: Quality.select().count() == 1, "a judgement")
    watchful.passes(2)

    assert "900001p" in (spica.spool / "rejected" / "newcomers-1.spica.why").read_text()
    assert "900001p.fits" in (spica.spool / "rejected" / "newcomers-1.spica").read_text()
    assert Mark.get().number == 2


def test_a_missing_tool_keeps_all_waiting_until_it_is_there(
    spica: RunningSpica, watchful: Life, caplog: pytest.LogCaptureFixture
) -> None:
    rules = spica.folder / "rules" / "judge.toml"
    away = rules.with_suffix(".away")
    rules.rename(away)
    register(spica.exposures[:2])
    watchful.until(lambda: "nothing can be begun" in caplog.text, "a word of it")
    assert not list((spica.spool / "rejected").iterdir())

    away.rename(rules)
    watchful.clock.ahead_s += 61

    watchful.until(lambda: Quality.select().count() == 2, "both judgements")


# ---------------------------------------------------------------------- whatever happens


@dataclass
class Trial:
    spica: RunningSpica
    template: Path

    def afresh(self) -> None:
        """Two exposures are new, and nothing has been begun."""
        shutil.rmtree(self.spica.folder, ignore_errors=True)
        shutil.copytree(self.template, self.spica.folder)

    def live(self) -> None:
        Short(self.spica.conf, PATIENCE_S).run()

    def clean_life(self) -> None:
        pid, go = fork(self.live, self.spica.folder / "second.log")
        os.write(go, b"g")
        os.close(go)
        assert os.waitpid(pid, 0)[1] == 0, (self.spica.folder / "second.log").read_text()

    def after(self) -> tuple[dict[str, str], dict[str, tuple[str, str, float | None]], int]:
        """Phases by name, grades, judgements; read by a process of its own, since tables are opened once in each."""
        answer = self.spica.folder / "after.json"

        def work() -> None:
            open_tables(self.spica)
            phases = [(row.name, row.phase) for row in Process.select()]
            answer.write_text(json.dumps([phases, grades(), Quality.select().count()]))

        pid, go = fork(work, self.spica.folder / "third.log")
        os.write(go, b"g")
        os.close(go)
        os.waitpid(pid, 0)
        phases, graded, count = json.loads(answer.read_text())
        return sorted(map(tuple, phases)), {name: tuple(each) for name, each in graded.items()}, count


class Short(ShortLife):
    """Ends when nothing is left to do, new exposures included."""

    def _wait(self) -> None:
        mark = Mark.get_or_none()
        if mark is not None and mark.number < (Exposure.select(fn.MAX(Exposure.id)).scalar() or 0):
            self.next_look = self.next_mail = 0.0
            self.poll.poll(0.005)
            return
        super()._wait()


@pytest.fixture
def trial(spica: RunningSpica, tmp_path: Path) -> Trial:
    for tool in ("strace", "bwrap"):
        if not shutil.which(tool):
            missing(tool)
    spica.conf.write_text(spica.conf.read_text() + NEWCOMERS)

    def prepare() -> None:
        Short(spica.conf, PATIENCE_S).run()  # the tables, the mark, and what the tools are
        open_tables(spica)
        register(spica.exposures[:2])

    pid, go = fork(prepare, spica.folder / "prepare.log")
    os.write(go, b"g")
    os.close(go)
    assert os.waitpid(pid, 0)[1] == 0, (spica.folder / "prepare.log").read_text()
    shutil.copytree(spica.folder, tmp_path / "template")
    return Trial(spica, tmp_path / "template")


@pytest.mark.slow
def test_on_mariadb_a_new_exposure_is_judged_and_graded_the_same(spica: RunningSpica, mariadb: MariaDB) -> None:
    spica.conf.write_text(f'{spica.conf.read_text()}{NEWCOMERS}[database]\nurl = "{mariadb.url()}"\n')
    life = Life(spica)
    life.passes(1)
    one, two = register(spica.exposures[:2])

    life.until(lambda: Quality.select().count() == 2, "two judgements")
    life.until_over(2)
    archive_grades.give(Person(-1, "alice@web", "lensing", Rank.USER), [one], "A")
    life.passes(2)

    assert grades() == {"900001p.fits": ("A", "alice@web", 1.31), "900002p.fits": JUDGED}
    assert archive_grades.next_of(archive_grades.Among()) == two
    assert Mark.get().number == two
    life.stop()


@pytest.mark.slow
def test_killed_at_any_call_each_new_exposure_is_judged_once_and_registered(
    trial: Trial, request: pytest.FixtureRequest
) -> None:
    trial.afresh()
    status, calls = traced_work(trial.live, trial.spica.folder, [])
    assert status == 0, (trial.spica.folder / "first.log").read_text()
    names = [call.split("(")[0] for call in calls if call[0] not in "+-"]
    is_thorough = bool(request.config.getoption("--all-crash-points"))
    expected = (
        [("new-900001p", "COMPLETED"), ("new-900002p", "COMPLETED")],
        {
            "900001p.fits": JUDGED,
            "900002p.fits": JUDGED,
        },
        2,
    )
    assert trial.after() == expected

    failed = {}
    places = range(len(names)) if is_thorough else range(3, len(names), max(1, len(names) // 16))
    for place in places:
        trial.afresh()
        name = names[place]
        inject = f"inject={name}:signal=SIGKILL:when={names[: place + 1].count(name)}"
        traced_work(trial.live, trial.spica.folder, [inject])
        trial.clean_life()
        if (found := trial.after()) != expected:
            failed[inject] = found
    print(f"{len(places)} of {len(names)} points, {len(failed)} with a broken promise")
    assert len(places) >= 10
    assert not failed, "\n".join(f"{where}: {found}" for where, found in failed.items())

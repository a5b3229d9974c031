"""What a new daemon finds and mends: one test for each line of the table of states in spica-spool(7).

The states are made by hand here; that kills lead to these and to no others is told in test_crash.py.
"""

from __future__ import annotations

import errno
import json
import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from conftest import RunningSpica, wait_until
from life import (
    WAIT,
    Life,
    Lives,
    drop,
    events,
    job_text,
    let_go,
    made_ready,
    order_text,
    places,
    rows,
    step_states,
    steps,
    why,
)  # fmt: skip
from life import live as live

from spicad import parts
from spicad.backends import local
from spicad.spool import Accepted
from spicad.tables import Process
from spicad.words import Phase

pytestmark = pytest.mark.slow


@pytest.fixture
def spica(tmp_path: Path) -> Iterator[RunningSpica]:
    ready = made_ready(tmp_path)
    yield ready
    ready.end()


def accepted(token: str = "t", run: int = 1) -> Accepted:
    return Accepted(token, "root", "root", 2, 1_080_000_000.0, "try.spica", run)


def copy(life: Life, process: int, phase: Phase, text: str, run: int = 1) -> None:
    """A durable copy as if an earlier life had made it."""
    prepared = life.daemon.spool.prepare_copy("t", text, accepted(f"t{process}", run))
    life.daemon.spool.place(prepared, process, phase)


def row(process: int, phase: str, token: str = "") -> None:
    Process.insert(
        id=process, token=token or f"t{process}", name="try", owner="root", group="root", rank=2, phase=phase,
        submitted=1_080_000_000.0,
    ).execute()  # fmt: skip


# Files and rows


def test_a_copy_without_a_row_gets_its_row_and_is_worked_off(spica: RunningSpica, live: Lives) -> None:
    copy(live(), 5, Phase.QUEUED, job_text(spica))

    life = live()

    assert rows() == {5: "QUEUED"}
    assert life.until_over(5) == "COMPLETED"
    life.passes(1)
    assert rows() == {5: "COMPLETED"}


@pytest.mark.parametrize("phase", [Phase.HELD, Phase.COMPLETED, Phase.ERROR, Phase.ABORTED])
def test_a_database_that_was_lost_is_made_anew_from_the_spool(spica: RunningSpica, live: Lives, phase: Phase) -> None:
    life = live()
    copy(life, 5, phase, job_text(spica, name="kept"))
    life.stop()
    for path in spica.spool.glob("spica.db*"):
        path.unlink()

    life.daemon = Life(spica).daemon

    assert rows() == {5: phase.value}
    assert Process.get_by_id(5).name == "kept"


def test_a_number_of_which_only_results_are_left_is_not_given_again(spica: RunningSpica, live: Lives) -> None:
    (spica.results / "root" / "000041-try" / "run-1").mkdir(parents=True)
    life = live()
    drop(spica, "try.spica", job_text(spica))

    life.until_quiet()

    assert list(places(spica)) == [42]


def test_a_row_whose_drop_is_still_there_is_taken_with_it(spica: RunningSpica, live: Lives) -> None:
    life = live()
    drop(spica, "try.spica", job_text(spica))
    row(7, "QUEUED", life.daemon.spool.read_drop("try.spica").token)

    life = live()
    life.until_quiet()

    assert life.until_over(7) == "COMPLETED"
    assert rows() == {7: "COMPLETED"}


def test_a_row_whose_file_is_gone_is_aborted_whatever_else_lies_in_incoming(spica: RunningSpica, live: Lives) -> None:
    live()
    row(7, "QUEUED")
    row(8, "EXECUTING")
    drop(spica, "another.spica", job_text(spica))

    live()

    assert rows() == {7: "ABORTED", 8: "ABORTED"}
    assert Process.get_by_id(7).why == "its job file is gone from the spool"


def test_a_drop_that_was_taken_before_the_crash_goes_and_is_not_taken_twice(spica: RunningSpica, live: Lives) -> None:
    life = live()
    drop(spica, "try.spica", job_text(spica))
    token = life.daemon.spool.read_drop("try.spica").token
    row(7, "QUEUED", token)
    life.daemon.spool.place(life.daemon.spool.prepare_copy(token, job_text(spica), accepted(token)), 7)

    life = live()
    life.until_quiet()

    assert life.until_over(7) == "COMPLETED"
    assert list((spica.spool / "incoming").iterdir()) == []
    assert places(spica) == {7: ["COMPLETED"]}
    assert len(list(spica.results.glob("*/*/run-*"))) == 1


@pytest.mark.parametrize(
    ("folder", "said"), [(Phase.COMPLETED, "EXECUTING"), (Phase.HELD, "QUEUED"), (Phase.QUEUED, "COMPLETED")]
)
def test_a_row_that_says_otherwise_follows_the_folder(
    spica: RunningSpica, live: Lives, folder: Phase, said: str
) -> None:
    copy(live(), 5, folder, job_text(spica), run=2)
    row(5, said)

    live()

    found = Process.get_by_id(5)
    assert (found.phase, found.ended is None) == (folder.value, not folder.is_over)
    assert found.run == (1 if folder.is_over else 2)
    assert events(5)[-1] == (said, folder.value, "spicad")


def test_of_two_copies_the_later_run_stays(spica: RunningSpica, live: Lives) -> None:
    life = live()
    copy(life, 5, Phase.COMPLETED, job_text(spica), run=1)
    copy(life, 5, Phase.QUEUED, job_text(spica), run=2)

    life = live()

    assert places(spica) == {5: ["QUEUED"]}
    assert life.until_over(5) == "COMPLETED"
    assert [path.name for path in spica.results.glob("*/*/run-*")] == ["run-2"]


@pytest.mark.parametrize("phase", [Phase.QUEUED, Phase.EXECUTING, Phase.HELD])
def test_a_damaged_copy_is_set_aside_with_its_reason_and_stops_nobody(
    spica: RunningSpica, live: Lives, phase: Phase
) -> None:
    life = live()
    copy(life, 6, Phase.QUEUED, job_text(spica))
    (spica.spool / phase.folder / "000005.spica").write_bytes(b"\xff\xfe\0 not a job")
    row(5, phase.value)

    life = live()

    assert rows()[5] == "ERROR"
    assert "not UTF-8" in why(spica, "000005.spica")
    assert life.until_over(6) == "COMPLETED"


@pytest.mark.parametrize("is_begun", [False, True])
def test_a_process_that_had_not_begun_is_queued_again(spica: RunningSpica, live: Lives, is_begun: bool) -> None:
    """Killed between the rename to executing/ and the seal of its capsule."""
    copy(live(), 5, Phase.EXECUTING, job_text(spica, "copy"))
    row(5, "QUEUED")
    if is_begun:
        (spica.results / "root" / "000005-try" / "run-1" / "products").mkdir(parents=True)
        (spica.results / "root" / "000005-try" / "run-1" / ".recipe.txt.new").write_text("What")

    life = live()

    assert places(spica) == {5: ["QUEUED"]}
    assert life.until_over(5) == "COMPLETED"


@pytest.mark.parametrize("name", ["plan.json", "run.json", "configuration/00-wait/setup.json"])
@pytest.mark.parametrize("content", ["", "{", "{}", "[1]"])
@pytest.mark.parametrize("is_of_before", [False, True])
def test_a_damaged_capsule_is_put_aside_with_its_steps_and_the_run_begun_anew(
    spica: RunningSpica, live: Lives, name: str, content: str, is_of_before: bool
) -> None:
    process = running(live(), spica)
    pid = launched(spica).pid
    (capsule,) = spica.results.glob("*/*/run-1")
    if is_of_before:
        as_before_there_were_recipes(capsule)
        (capsule / name).write_text(content)
    else:
        (capsule / parts.RECIPE).write_bytes(recipe_with(capsule, name, content))

    life = live()
    life.until(lambda: life.daemon.workshop.bench.running, "the step to begin anew")
    wait_until(lambda: is_gone(pid), "the step of before to be gone")
    let_go(spica)

    assert life.until_over(process) == "COMPLETED"
    assert sorted(path.name for path in capsule.parent.iterdir()) == ["damaged-run-1", "run-1"]


@pytest.mark.parametrize("share", [0.0, 0.2, 0.5, 0.9, 0.999])
def test_a_recipe_that_a_power_cut_has_shortened_is_put_aside(spica: RunningSpica, live: Lives, share: float) -> None:
    process = running(live(), spica)
    pid = launched(spica).pid
    (capsule,) = spica.results.glob("*/*/run-1")
    recipe = (capsule / parts.RECIPE).read_bytes()
    (capsule / parts.RECIPE).write_bytes(recipe[: int(len(recipe) * share)])

    life = live()
    life.until(lambda: life.daemon.workshop.bench.running, "the step to begin anew")
    wait_until(lambda: is_gone(pid), "the step of before to be gone")
    let_go(spica)

    assert life.until_over(process) == "COMPLETED"
    assert sorted(path.name for path in capsule.parent.iterdir()) == ["damaged-run-1", "run-1"]


def test_what_runs_outlives_the_upgrade_from_a_spica_that_knew_no_recipes(spica: RunningSpica, live: Lives) -> None:
    process = running(live(), spica, exposures=2)
    (capsule,) = spica.results.glob("*/*/run-1")
    as_before_there_were_recipes(capsule)

    life = live()
    life.until(lambda: len(life.daemon.workshop.bench.running) == 2, "the steps to be adopted")
    let_go(spica)

    assert life.until_over(process) == "COMPLETED"
    assert [path.name for path in capsule.parent.iterdir()] == ["run-1"]
    assert all("attempt" not in folder.name for folder in steps(spica))
    shown = json.loads(spica.spica("show", process, "--json").stdout)
    assert shown["rules"]
    assert shown["stacking_set"]


def as_before_there_were_recipes(capsule: Path) -> None:
    """The same capsule, each part a file of its own; of a step, too."""
    with (capsule / parts.RECIPE).open("rb") as file:
        for name, _, _ in list(parts.places_in(file)):
            (capsule / name).parent.mkdir(parents=True, exist_ok=True)
            (capsule / name).write_bytes(parts.read(capsule, name))
    (capsule / parts.RECIPE).unlink()
    for step in capsule.glob("steps/*/step.json"):
        record = json.loads(step.read_text())
        step.unlink()
        step.with_name("key").write_text(record["key"])
        for name in ("argv", "inputs"):
            step.with_name(f"{name}.json").write_text(json.dumps(record[name]))


def recipe_with(capsule: Path, name: str, content: str) -> bytes:
    """Its recipe, one part of it another."""
    with (capsule / parts.RECIPE).open("rb") as file:
        names = [each for each, _, _ in parts.places_in(file)]
    return parts.joined("", {each: content.encode() if each == name else parts.read(capsule, each) for each in names})


# Runs


def running(life: Life, spica: RunningSpica, exposures: int = 1, more: str = "") -> int:
    """A process whose steps run until they are let go."""
    drop(spica, "try.spica", job_text(spica, "wait", exposures=exposures, more=more))
    life.until(lambda: len(life.daemon.workshop.bench.running) == exposures, "the steps to run")
    (process,) = places(spica)
    return process


def launched(spica: RunningSpica) -> local.Launched:
    """Of the one step that runs."""
    found = [each for folder in steps(spica) if (each := local.launched_in(folder)) and local.is_alive(each)]
    assert len(found) == 1
    return found[0]


def is_gone(pid: int) -> bool:
    with suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)
    return not Path(f"/proc/{pid}").exists()


def test_a_step_outlives_its_daemon_and_is_adopted_by_the_next(spica: RunningSpica, live: Lives) -> None:
    process = running(live(), spica)
    pid = launched(spica).pid

    life = live()
    assert [local.launched_in(each.folder).pid for each in life.daemon.workshop.bench.running.values()] == [pid]
    let_go(spica)

    assert life.until_over(process) == "COMPLETED"
    assert [folder.name for folder in steps(spica)] == ["0001-wait"]


def test_an_adopted_step_that_is_wider_than_the_machine_takes_all_slots_and_no_more(
    spica: RunningSpica, live: Lives
) -> None:
    spica.application("wait", WAIT.replace("memory_mb", "threads = 64\nmemory_mb"))
    process = running(live(), spica)

    life = live()
    assert [each.slots for each in life.daemon.workshop.bench.running.values()] == [2]
    let_go(spica)

    assert life.until_over(process) == "COMPLETED"


@pytest.mark.parametrize("damaged", ["", "{", '{"key": "k", "inputs": {"in/img0001.fits": {"colour": "red"}}}'])
def test_a_step_whose_record_cannot_be_read_is_begun_anew(spica: RunningSpica, live: Lives, damaged: str) -> None:
    process = running(live(), spica)
    pid = launched(spica).pid
    (steps(spica)[0] / "step.json").write_text(damaged)

    life = live()
    wait_until(lambda: is_gone(pid), "the step of before to be gone")
    life.until(lambda: life.daemon.workshop.bench.running, "the second attempt")
    let_go(spica)

    assert life.until_over(process) == "COMPLETED"
    assert [folder.name for folder in steps(spica)] == ["0001-wait", "0001-wait.attempt-1"]


def test_a_step_that_ended_while_no_daemon_ran_is_judged_and_not_repeated(spica: RunningSpica, live: Lives) -> None:
    life = live()
    process = running(life, spica)
    pid = launched(spica).pid
    life.daemon.workshop.bench.look_at_steps = lambda now: None  # type: ignore[method-assign]
    let_go(spica)
    wait_until(lambda: is_gone(pid), "the step to end")

    life = live()

    assert life.until_over(process) == "COMPLETED"
    assert [folder.name for folder in steps(spica)] == ["0001-wait"]


def test_a_step_killed_while_no_daemon_ran_is_tried_again_alone(spica: RunningSpica, live: Lives) -> None:
    life = live()
    process = running(life, spica)
    pid = launched(spica).pid
    life.daemon.workshop.bench.look_at_steps = lambda now: None  # type: ignore[method-assign]
    os.kill(pid, signal.SIGKILL)  # bwrap alone: the tool inside goes on
    wait_until(lambda: is_gone(pid), "bwrap to be gone")

    life = live()
    life.until(lambda: life.daemon.workshop.bench.running, "the second attempt")
    let_go(spica)

    assert life.until_over(process) == "COMPLETED"  # the tool's lock would have refused a second one beside the first
    assert [folder.name for folder in steps(spica)] == ["0001-wait", "0001-wait.attempt-1"]


def test_a_step_without_a_sandbox_is_ended_and_begun_anew(spica: RunningSpica, live: Lives) -> None:
    spica.conf.write_text(spica.conf.read_text() + '[sandbox]\nkind = "none"\n')
    process = running(live(), spica)
    pid = launched(spica).pid

    life = live()
    life.until(lambda: life.daemon.workshop.bench.running, "the second attempt")
    wait_until(lambda: is_gone(pid), "the step of before to be gone")
    let_go(spica)

    assert life.until_over(process) == "COMPLETED"


def test_a_step_without_a_sandbox_that_nobody_noted_is_ended_too(spica: RunningSpica, live: Lives) -> None:
    spica.conf.write_text(spica.conf.read_text() + '[sandbox]\nkind = "none"\n')
    process = running(live(), spica)
    pid = launched(spica).pid
    next(spica.results.glob("*/*/run-1/steps/*/launch.json")).unlink()  # killed right after the start

    life = live()
    life.until(lambda: life.daemon.workshop.bench.running, "the second attempt")
    wait_until(lambda: is_gone(pid), "the step of before to be gone")
    let_go(spica)

    assert life.until_over(process) == "COMPLETED"


def test_a_third_interruption_holds_the_process_and_mails(spica: RunningSpica, live: Lives) -> None:
    life = live()
    process = running(life, spica, more='mail = "alice@example.org"')

    for attempt in (1, 2, 3):
        life.until(lambda: life.daemon.workshop.bench.running, f"attempt {attempt}")
        os.kill(launched(spica).pid, signal.SIGKILL)
        life.until(lambda: not life.daemon.workshop.bench.running, "its end to be noticed")

    life.until(lambda: spica.phase(process) == "HELD", "the process to be held")
    life.until(lambda: list((spica.spool / "mail" / "new").glob("*")), "the mail")
    assert len(steps(spica)) == 3
    mail = next((spica.spool / "mail" / "new").iterdir()).read_text()
    assert "held" in mail.lower()
    assert "was interrupted 3 times" in mail.replace("=\n", "").replace("\n", " ")
    life.passes(1)
    assert rows() == {process: "HELD"}


def interrupted_three_times(spica: RunningSpica, live: Lives) -> Life:
    process = running(live(), spica)
    for _ in range(3):
        life = live()
        life.until(life.daemon.workshop.bench.running.values, "the step to run")
        pid = launched(spica).pid
        life.daemon.workshop.bench.look_at_steps = lambda now: None  # type: ignore[method-assign]
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda pid=pid: is_gone(pid), "it to be gone")
    life = live()
    life.until(lambda: spica.phase(process) == "HELD", "the process to be held")
    return life


def test_interruptions_are_counted_over_daemons(spica: RunningSpica, live: Lives) -> None:
    interrupted_three_times(spica, live)

    assert len(steps(spica)) == 3


def test_a_held_process_that_is_released_has_its_attempts_anew(spica: RunningSpica, live: Lives) -> None:
    life = interrupted_three_times(spica, live)

    drop(spica, "go.spica", order_text("release", 1))
    life.until(lambda: life.daemon.workshop.bench.running, "the fourth attempt")
    let_go(spica)

    assert life.until_over(1) == "COMPLETED"


@pytest.mark.parametrize(("verb", "end"), [("hold", "HELD"), ("cancel", "ABORTED")])
def test_an_order_to_a_running_process_outlives_the_daemon(
    spica: RunningSpica, live: Lives, monkeypatch: pytest.MonkeyPatch, verb: str, end: str
) -> None:
    life = live()
    process = running(life, spica)
    with monkeypatch.context() as patched:
        patched.setattr(local, "kill", lambda folder: None)  # as if the daemon were killed before it could
        drop(spica, "order.spica", order_text(verb, process))
        life.until_quiet()
    life = live()
    if verb == "hold":
        assert spica.phase(process) == "EXECUTING"
        let_go(spica)

    life.until(lambda: spica.phase(process) == end, f"it to be {end}")

    life.passes(1)
    assert rows() == {process: end}
    assert step_states(process)


def test_what_was_ready_is_started_by_the_next_daemon(spica: RunningSpica, live: Lives) -> None:
    life = live()
    drop(spica, "try.spica", job_text(spica, "wait", exposures=3))
    life.until(lambda: len(life.daemon.workshop.bench.running) == 2, "two steps to run")

    life = live()
    let_go(spica)
    life.until(lambda: (let_go(spica), spica.phase(1) == "COMPLETED")[1], "the third to be done")
    life.passes(1)

    assert step_states(1) == ["done"] * 3
    assert len(steps(spica)) == 3


def test_a_drop_that_was_taken_before_the_crash_is_not_refused_because_an_exposure_is_gone_now(tmp_path):
    spica = made_ready(tmp_path)
    first = Life(spica)
    kept = drop(spica, "a.spica", job_text(spica, "wait"))
    text, status = kept.read_bytes(), kept.stat()
    first.daemon.floor.spool.discard_drop = lambda name: None  # killed right before the drop is removed
    first.until(lambda: spica.phase(1), "the process to be taken")
    first.stop()
    assert kept.read_bytes() == text
    assert kept.stat().st_ctime_ns == status.st_ctime_ns
    spica.exposures[0].unlink()

    second = Life(spica)
    second.until(lambda: not kept.exists(), "the drop to be removed")

    assert list((spica.spool / "rejected").iterdir()) == []
    assert list(places(spica)) == [1]
    second.stop()
    spica.end()


def test_a_rerun_obeyed_right_before_the_crash_is_not_obeyed_twice_nor_refused(tmp_path):
    spica = made_ready(tmp_path)
    first = Life(spica)
    drop(spica, "a.spica", job_text(spica))
    assert first.until_over(1) == "COMPLETED"
    first.daemon.floor.spool.discard_drop = lambda name: None
    order = drop(spica, "order.spica", order_text("rerun", 1))
    first.until(lambda: spica.phase(1) in ("QUEUED", "EXECUTING"), "the rerun to be queued")
    first.stop()

    second = Life(spica)
    second.until(lambda: not order.exists(), "the order to be removed")

    assert second.until_over(1) == "COMPLETED"
    assert list((spica.spool / "rejected").iterdir()) == []
    assert sorted(path.name for path in spica.results.glob("*/*/run-*")) == ["run-1", "run-2"]
    second.stop()
    spica.end()


@pytest.mark.parametrize("phase", [Phase.QUEUED, Phase.EXECUTING])
def test_a_copy_that_a_power_cut_left_empty_is_made_anew_from_its_drop(
    spica: RunningSpica, live: Lives, phase: Phase
) -> None:
    life = live()
    drop(spica, "try.spica", job_text(spica))
    token = life.daemon.spool.read_drop("try.spica").token
    row(7, phase.value, token)
    life.daemon.spool.path(7, phase).write_bytes(b"")

    life = live()
    life.until_quiet()

    assert life.until_over(7) == "COMPLETED"
    assert places(spica) == {7: ["COMPLETED"]}
    assert list((spica.spool / "rejected").iterdir()) == []
    assert len(list(spica.results.glob("*/*/run-*"))) == 1


def test_the_drop_stays_until_its_copy_is_synced(
    spica: RunningSpica, live: Lives, monkeypatch: pytest.MonkeyPatch
) -> None:
    life = live()
    with monkeypatch.context() as patched:
        patched.setattr("spicad.spool.sync_file", _full_disk)
        drop(spica, "try.spica", job_text(spica))
        life.until(lambda: life.daemon.spool.phase_of(1), "the copy")
        assert (spica.spool / "incoming/try.spica").exists()

    life.until_quiet()

    assert life.until_over(1) == "COMPLETED"
    assert list((spica.spool / "incoming").iterdir()) == []
    assert len(list(spica.results.glob("*/*/run-*"))) == 1


def _full_disk(path: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

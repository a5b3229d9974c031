"""What every backend does alike: steps on this machine and on a real Slurm of three nodes, by the same tests.

What only one of them has to do is told in test_local_backend.py and test_slurm.py.
"""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import life
import pytest
from cluster import Cluster, on_cluster
from cluster import cluster as cluster
from conftest import RunningSpica, wait_until
from life import Life, Lives, drop, job_text, let_go, made_ready, order_text, steps
from life import live as live

from spicad.backends import local


@pytest.fixture(params=["local", pytest.param("slurm", marks=pytest.mark.slow)])
def spica(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[RunningSpica]:
    ready = made_ready(tmp_path)
    if request.param == "slurm":
        on_cluster(ready, request.getfixturevalue("cluster"), monkeypatch)
    yield ready
    ready.end()


def launched(spica: RunningSpica) -> list[local.Launched]:
    """Those that run now."""
    found = [local.launched_in(folder) for folder in steps(spica)]
    return [each for each in found if each and not is_gone(each)]


def running(life: Life, spica: RunningSpica, *applications: str, exposures: int = 1) -> int:
    """A process whose steps really run."""
    drop(spica, "try.spica", job_text(spica, *(applications or ("wait",)), exposures=exposures))
    life.until(lambda: len(launched(spica)) == exposures, "the steps to run")
    return 1


def is_gone(each: local.Launched) -> bool:
    """Whether somebody has asked for its exit status or not: the first process of a test machine may ask for none."""
    with suppress(ChildProcessError):
        os.waitpid(each.pid, os.WNOHANG)
    with suppress(OSError):
        return not local.is_alive(each) or ") Z " in Path(f"/proc/{each.pid}/stat").read_text()
    return True


def names(spica: RunningSpica) -> list[str]:
    return [folder.name for folder in steps(spica)]


def test_products_come_back(spica: RunningSpica, live: Lives) -> None:
    alive = live()
    drop(spica, "try.spica", job_text(spica, "copy", "noop", exposures=3))

    assert alive.until_over(1) == "COMPLETED"
    assert len(list(spica.results.glob("*/*/run-1/products/*.copy.fits"))) == 3


def test_the_words_of_a_tool_that_fails_reach_its_user(spica: RunningSpica, live: Lives) -> None:
    alive = live()
    drop(spica, "try.spica", job_text(spica, "fail"))

    assert alive.until_over(1) == "ERROR"
    assert "no-such-file" in next(spica.results.glob("*/*/run-1/report.txt")).read_text()


def test_a_program_that_is_not_there_holds_the_process_with_the_reason(spica: RunningSpica, live: Lives) -> None:
    spica.application("gone", life.WAIT.replace('["flock"]', '["true"]').replace('"wait"', '"gone"'))
    alive = live()
    question = alive.daemon.workshop.bench._question
    drop(spica, "try.spica", job_text(spica, "noop"))

    def with_another_program(run, step):  # type: ignore[no-untyped-def]
        found = question(run, step)
        object.__setattr__(found.setup.tool, "program", ("/usr/bin/no-such-tool",))
        return found

    alive.daemon.workshop.bench._question = with_another_program  # type: ignore[method-assign]

    alive.until(lambda: spica.phase(1) == "HELD", "the process to be held")
    assert len(names(spica)) == 3
    assert "no-such-tool" in (steps(spica)[0] / "log").read_text()


def test_the_limits_of_a_step_are_those_of_its_tool(spica: RunningSpica, live: Lives) -> None:
    alive = live()
    job = job_text(spica, "wait").replace('each = "exposure"', 'each = "exposure"\nmemory_mb = 300')
    drop(spica, "try.spica", job)
    alive.until(lambda: launched(spica), "the step to run")

    (step,) = launched(spica)
    limits = Path(f"/proc/{step.pid}/limits").read_text()
    let_go(spica)

    assert f"{300 << 20}" in next(line for line in limits.splitlines() if line.startswith("Max address space"))
    assert alive.until_over(1) == "COMPLETED"


def test_a_step_whose_time_is_over_is_stopped_and_said_to_have(spica: RunningSpica, live: Lives) -> None:
    alive = live()
    drop(spica, "try.spica", job_text(spica, "idle").replace('each = "exposure"', 'each = "exposure"\ntime_s = 1'))

    assert alive.until_over(1) == "ERROR"
    assert "time" in life.Process.get_by_id(1).why


def test_a_cancelled_process_leaves_nothing_running(spica: RunningSpica, live: Lives) -> None:
    alive = live()
    running(alive, spica, "idle", exposures=2)
    before = launched(spica)

    drop(spica, "order.spica", order_text("cancel", 1))

    assert alive.until_over(1) == "ABORTED"
    assert [each for each in before if not is_gone(each)] == []


def test_a_failure_that_ends_the_run_ends_its_other_steps(spica: RunningSpica, live: Lives) -> None:
    alive = live()
    running(alive, spica, "idle", exposures=2)

    alive.daemon.workshop.bench.stop(next(iter(alive.daemon.workshop.bench.running.values())), "it was too much")

    assert alive.until_over(1) == "ERROR"
    assert launched(spica) == []


def test_a_step_outlives_its_daemon_and_is_adopted_by_the_next(spica: RunningSpica, live: Lives) -> None:
    running(live(), spica)
    (before,) = launched(spica)

    alive = live()
    alive.until(lambda: alive.daemon.workshop.bench.running[1, 1].started, "the step to be found")
    assert launched(spica) == [before]
    let_go(spica)

    assert alive.until_over(1) == "COMPLETED"
    assert names(spica) == ["0001-wait"]


def test_a_step_that_ended_while_no_daemon_ran_is_judged_and_not_repeated(spica: RunningSpica, live: Lives) -> None:
    alive = live()
    running(alive, spica)
    (before,) = launched(spica)
    alive.daemon.workshop.bench.look_at_steps = lambda now: None  # type: ignore[method-assign]
    let_go(spica)
    wait_until(lambda: is_gone(before), "the step to end")

    assert live().until_over(1) == "COMPLETED"
    assert names(spica) == ["0001-wait"]


def test_a_step_killed_from_outside_is_tried_again_alone(spica: RunningSpica, live: Lives) -> None:
    alive = live()
    running(alive, spica)
    (before,) = launched(spica)

    os.kill(before.pid, signal.SIGKILL)
    alive.until(lambda: len(names(spica)) == 2 and launched(spica), "the second attempt")
    let_go(spica)

    assert alive.until_over(1) == "COMPLETED"  # the tool's lock would have refused a second one beside the first
    assert names(spica) == ["0001-wait", "0001-wait.attempt-1"]


def test_where_and_when_a_step_ran_is_noted(spica: RunningSpica, live: Lives) -> None:
    alive = live()
    drop(spica, "try.spica", job_text(spica, "copy"))
    assert alive.until_over(1) == "COMPLETED"

    row = life.Step.get(life.Step.process == 1)
    outcome = json.loads((steps(spica)[0] / "outcome.json").read_text())

    assert row.node in [node.name for node in alive.daemon.floor.backend.nodes()]
    assert outcome["node"] == row.node
    assert 0 < row.started <= row.ended


def test_a_group_of_steps_waits_for_those_before(spica: RunningSpica, live: Lives) -> None:
    alive = live()
    drop(spica, "try.spica", job_text(spica, "copy", "copy", "noop", exposures=2))

    assert alive.until_over(1) == "COMPLETED"
    assert len(names(spica)) == 6


def test_a_drained_node_begins_nothing_and_goes_on_when_it_is_undrained(spica: RunningSpica, live: Lives) -> None:
    alive = live()
    drop(spica, "drain.spica", order_text("drain", 0).replace("process = 0\n", ""))
    alive.until_quiet()
    drop(spica, "try.spica", job_text(spica, "copy"))
    alive.until_quiet()
    alive.passes()
    assert steps(spica) == []

    drop(spica, "undrain.spica", order_text("undrain", 0).replace("process = 0\n", ""))

    assert alive.until_over(1) == "COMPLETED"


@pytest.mark.usefixtures("cluster")
def test_the_cluster_is_empty_after_all_that(cluster: Cluster) -> None:
    wait_until(lambda: not any(cluster.processes(node) for node in cluster.nodes), "all jobs to be gone")

"""A real Slurm of three nodes under Spica: where steps go, and what becomes of them when a part of the cluster fails.

What it does like any other backend is told in test_backends.py.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import life
import pytest
from cluster import CPUS, Cluster, on_cluster
from cluster import cluster as cluster
from conftest import RunningSpica, wait_until
from life import Life, Lives, drop, job_text, let_go, made_ready, order_text, steps
from life import live as live

from spicad import config
from spicad.backends import on_node, slurm
from spicad.backends.slurm import nice_of
from spicad.commands import checks
from spicad.tables import Exposure

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parent.parent
LIVE = ("PENDING", "RUNNING", "COMPLETING")

# Waits like `wait`, but locks nothing: a lost one and its successor may run beside each other.
LINGER = life.WAIT.replace('"wait"', '"linger"').replace('["flock"]', '["sh"]')
LINGER = LINGER.replace('"-n", "-E", "99", "{exposure}", "sh", ', "")


@pytest.fixture
def spica(tmp_path: Path, cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> Iterator[RunningSpica]:
    ready = made_ready(tmp_path)
    ready.application("linger", LINGER)
    on_cluster(ready, cluster, monkeypatch)
    monkeypatch.setattr(life, "PATIENCE_S", 80.0)  # Slurm takes its time after a fault: to lose a job, to find a node
    monkeypatch.setattr(slurm, "PINNED_S", 5.0)
    yield ready
    ready.end()


@pytest.fixture
def alive(live: Lives) -> Life:
    return live()


def taken(folder: Path) -> dict[str, object]:
    """Which node has taken a step up."""
    try:
        return dict(json.loads((folder / on_node.TAKEN).read_text()))
    except (OSError, ValueError):
        return {}


def running(alive: Life, spica: RunningSpica, application: str, exposures: int = 1, more: str = "") -> list[str]:
    """The nodes that the steps of a process run on."""
    drop(spica, "try.spica", job_text(spica, application, exposures=exposures, more=more))
    alive.until(lambda: len([1 for each in steps(spica) if taken(each)]) == exposures, "the steps to run")
    alive.until(
        lambda: all(each.started for each in alive.daemon.workshop.bench.running.values()), "that to be noticed"
    )
    return sorted(str(taken(each)["node"]) for each in steps(spica))


# ---------------------------------------------------------------------- where steps go


def test_steps_go_to_the_nodes_that_store_what_they_read(spica: RunningSpica, alive: Life) -> None:
    homes = {spica.exposures[0]: "n2", spica.exposures[1]: "n3", spica.exposures[2]: "n2"}
    for path, node in homes.items():
        Exposure.insert(
            obs_id=path.name, name=path.name, node=node, path=str(path), path_key=path.name, sha256=path.name,
            bytes=path.stat().st_size, mtime_ns=0, registered=0,
        ).execute()  # fmt: skip

    drop(spica, "try.spica", job_text(spica, "copy", exposures=3))
    assert alive.until_over(1) == "COMPLETED"

    went = {(each.label, each.node) for each in life.Step.select().where(life.Step.process == 1)}
    assert went == {(path.name.removesuffix(".fits"), node) for path, node in homes.items()}


def test_what_lies_nowhere_in_particular_is_spread_over_the_nodes(spica: RunningSpica, alive: Life) -> None:
    nodes = running(alive, spica, "wait", exposures=3)
    let_go(spica)

    assert alive.until_over(1) == "COMPLETED"
    assert set(nodes) <= {"n1", "n2", "n3"}


def test_few_jobs_wait_in_slurm_and_the_others_in_spicas_order(
    spica: RunningSpica, alive: Life, cluster: Cluster
) -> None:
    for number in range(4):
        drop(spica, f"{number}.spica", job_text(spica, "linger", name=f"n{number}", exposures=3))
    room = CPUS * len(cluster.nodes) + 2

    alive.until(lambda: len(alive.daemon.workshop.bench.running) == room, "all nodes and two places to be taken")
    alive.until_quiet()
    alive.passes(5)

    assert len(alive.daemon.workshop.bench.running) == room
    alive.until(lambda: sum(job[2] == "RUNNING" for job in ours(cluster, alive)) == room - 2, "all nodes to be taken")
    assert sum(job[2] == "PENDING" for job in ours(cluster, alive)) == 2
    said = spica.spica("explain", 1).stdout
    assert f"Slots: {room} of {room} in use; the cluster runs {room - 2} at the same time." in said
    for number in range(4):
        drop(spica, f"c{number}.spica", order_text("cancel", number + 1))
    alive.until(lambda: not alive.daemon.workshop.runs and not len(alive.daemon.workshop.queue), "all to be cancelled")


def ours(cluster: Cluster, alive: Life) -> list[list[str]]:
    names = set(alive.daemon.floor.backend._jobs)
    return [job for job in cluster.jobs() if job[1] in names]


def test_a_better_score_is_put_back_less() -> None:
    assert nice_of(3999.0) < nice_of(3000.0) < nice_of(0.0)
    assert nice_of(5000.0) == 0


def test_a_node_that_does_not_take_up_what_slurm_gave_it_is_named() -> None:
    job = slurm.Job("a", Path(), [], 1, "n2", state="RUNNING", since=100.0)

    assert not slurm._waits_for(job, 101.0)
    assert slurm._waits_for(job, 100.0 + slurm.GRACE_S) == "n2 has not taken it up; Slurm says RUNNING"


def test_doctor_says_what_the_cluster_has(spica: RunningSpica, cluster: Cluster) -> None:
    settings = config.load(spica.conf)
    cluster.run("scontrol", "update", "NodeName=n3", "State=DRAIN", "Reason=test")
    try:
        wait_until(lambda: cluster.states()["n3"] == "drained", "what ended on the node before to be cleared away")
        found = list(checks.cluster(settings))
    finally:
        cluster.run("scontrol", "update", "NodeName=n3", "State=RESUME")

    assert [(state, words) for state, words, _ in found][:2] == [
        (checks.NOTE, "n3 is drained in Slurm"),
        (checks.OK, f"Slurm: 2 nodes with {2 * CPUS} CPUs can be used"),
    ]


def test_doctor_says_that_slurm_does_not_answer(
    spica: RunningSpica, cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nobody_listens = re.sub("^SlurmctldPort=.*", "SlurmctldPort=1", cluster.conf.read_text(), flags=re.MULTILINE)
    (tmp_path / "slurm.conf").write_text(nobody_listens)
    monkeypatch.setenv("SLURM_CONF", str(tmp_path / "slurm.conf"))

    ((state, words, _),) = checks.cluster(config.load(spica.conf))

    assert state == checks.WRONG
    assert words.startswith("Slurm does not answer: ")


# ---------------------------------------------------------------------- what fails


def test_what_slurm_refuses_is_told_in_its_own_words(spica: RunningSpica, alive: Life) -> None:
    text = job_text(spica, "copy").replace('each = "exposure"', 'each = "exposure"\nmemory_mb = 900000')

    drop(spica, "try.spica", text)

    assert alive.until_over(1) == "ERROR"
    report = " ".join(next(spica.results.glob("*/*/run-1/report.txt")).read_text().split())
    assert "Slurm refuses it: " in report
    assert "Requested node configuration is not available" in report


def test_a_step_of_a_lost_node_runs_again_elsewhere_and_the_lost_ones_late_result_is_refused(
    spica: RunningSpica, alive: Life, cluster: Cluster
) -> None:
    (lost,) = running(alive, spica, "linger")
    cluster.unplug(lost)
    cluster.give_up(lost)
    try:
        alive.until(lambda: len(steps(spica)) == 2 and taken(steps(spica)[0]), "the second attempt")
        second, first = steps(spica)
        assert taken(second)["node"] != lost

        (first / "job/go").touch()  # the lost one goes on, and comes to its end
        alive.until((first / on_node.ENDED).exists, "its late result")
        alive.passes(5)
        assert spica.phase(1) == "EXECUTING"
        assert not (second / on_node.ENDED).exists()

        (second / "job/go").touch()
        assert alive.until_over(1) == "COMPLETED"
        assert len(steps(spica)) == 2
        assert life.Step.get(life.Step.process == 1).node == taken(second)["node"]
    finally:
        cluster.bring_back(lost)


def test_a_step_waits_for_slurm_while_its_controller_is_away_and_goes_on_after(
    spica: RunningSpica, alive: Life, cluster: Cluster
) -> None:
    running(alive, spica, "linger")
    cluster.kill_controller()
    try:
        drop(spica, "more.spica", job_text(spica, "copy", name="more"))
        alive.until(alive.daemon.floor.backend.held_up, "it to be noticed")
        alive.until_quiet()
        assert "Slurm does not answer" in spica.spica("explain", 2).stdout

        let_go(spica)
        assert alive.until_over(1) == "COMPLETED"  # its end is seen without Slurm
        assert spica.phase(2) != "COMPLETED"
    finally:
        cluster.start_controller()

    assert alive.until_over(2) == "COMPLETED"


def test_jobs_that_reach_slurm_after_their_process_was_cancelled_begin_nothing(
    spica: RunningSpica, alive: Life, cluster: Cluster
) -> None:
    alive.until(lambda: alive.daemon.floor.backend._nodes, "the nodes to be known")
    cluster.freeze_controller()
    drop(spica, "try.spica", job_text(spica, "linger", exposures=2))
    jobs = alive.daemon.floor.backend._jobs
    alive.until(lambda: len(jobs) == 2 and all(job.is_unsure for job in jobs.values()), "all to be asked for")
    names = set(jobs)
    drop(spica, "order.spica", order_text("cancel", 1))
    alive.passes()
    cluster.thaw_controller()

    assert alive.until_over(1) == "ABORTED"
    wait_until(lambda: not any(job[2] in LIVE for job in cluster.jobs() if job[1] in names), "late jobs to end")
    assert [each for each in steps(spica) if (each / "launch.json").exists()] == []


def test_jobs_that_reach_slurm_late_are_not_run_beside_those_submitted_again(
    spica: RunningSpica, alive: Life, cluster: Cluster
) -> None:
    alive.until(lambda: alive.daemon.floor.backend._nodes, "the nodes to be known")
    cluster.freeze_controller()
    drop(spica, "try.spica", job_text(spica, "wait", exposures=2))
    alive.until(lambda: "Slurm does not answer" in alive.daemon.floor.backend.held_up(), "it to be noticed")
    cluster.thaw_controller()

    def is_over() -> bool:
        let_go(spica)
        return spica.phase(1) in ("COMPLETED", "ERROR")

    alive.until(is_over, "the process to end")
    assert spica.phase(1) == "COMPLETED"  # the tool's lock would have refused a second one beside the first
    wait_until(lambda: not any(job[2] in LIVE for job in cluster.jobs()), "late jobs to end")


def test_jobs_that_a_dying_controller_forgot_are_submitted_again_once(
    spica: RunningSpica, alive: Life, cluster: Cluster
) -> None:
    """It answers that it has taken them, and dies before it writes that down."""
    backend = alive.daemon.floor.backend
    drop(spica, "try.spica", job_text(spica, "copy", exposures=3))
    alive.until(lambda: alive.daemon.workshop.bench.running, "the steps to be handed over")
    alive.until(lambda: any(job.is_submitted for job in backend._jobs.values()), "Slurm to take them")
    cluster.kill_controller()
    (cluster.folder / "state" / "job_state").unlink(missing_ok=True)
    (cluster.folder / "state" / "job_state.old").unlink(missing_ok=True)
    cluster.start_controller()

    assert alive.until_over(1) == "COMPLETED"
    assert {len(list(each.parent.glob(f"{each.name}*"))) for each in steps(spica)} <= {1, 2}
    assert len(list(spica.results.glob("*/*/run-1/products/*"))) == 3


def test_a_job_that_never_came_to_slurm_is_submitted_by_the_next_daemon(spica: RunningSpica, live: Lives) -> None:
    alive = live()
    alive.daemon.floor.backend._is_under_way = True  # killed before its first round
    drop(spica, "try.spica", job_text(spica, "copy"))
    alive.daemon.floor.backend._nodes = [life_node()]
    alive.until(lambda: steps(spica), "the step to be laid out")

    assert live().until_over(1) == "COMPLETED"
    assert len(steps(spica)) == 1


def life_node():  # type: ignore[no-untyped-def]
    from spicad.waiting import Node

    return Node("n1", CPUS)


def test_a_job_that_somebody_cancels_in_slurm_is_tried_again(
    spica: RunningSpica, alive: Life, cluster: Cluster
) -> None:
    running(alive, spica, "linger")
    (job,) = ours(cluster, alive)

    assert cluster.run("scancel", job[0]).returncode == 0
    alive.until(lambda: len(steps(spica)) == 2 and taken(steps(spica)[0]), "the second attempt")
    let_go(spica)

    assert alive.until_over(1) == "COMPLETED"


def test_a_job_that_slurm_starts_anew_by_itself_is_begun_anew_by_spica(
    spica: RunningSpica, alive: Life, cluster: Cluster
) -> None:
    """An administrator may have any job queued again; what the first of them leaves behind is not mixed with that."""
    running(alive, spica, "linger")
    (job,) = ours(cluster, alive)

    cluster.run("scontrol", "update", f"JobId={job[0]}", "Requeue=1")
    assert cluster.run("scontrol", "requeue", job[0]).returncode == 0
    alive.until(lambda: len(steps(spica)) == 2 and taken(steps(spica)[0]), "the second attempt")
    cluster.run("scontrol", "update", f"JobId={job[0]}", "StartTime=now")
    wait_until(lambda: [each for each in cluster.jobs() if each[0] == job[0] and each[2] == "FAILED"], "its refusal")
    let_go(spica)

    assert alive.until_over(1) == "COMPLETED"
    second, first = steps(spica)
    assert (taken(first)["job"], taken(second)["job"] != int(job[0])) == (int(job[0]), True)


def test_a_job_of_a_lost_node_that_slurm_would_start_anew_is_withdrawn_and_begun_anew_by_spica(
    spica: RunningSpica, alive: Life, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slurm, "GRACE_S", 0.3)
    (lost,) = running(alive, spica, "linger")
    (job,) = ours(cluster, alive)
    cluster.run("scontrol", "update", f"JobId={job[0]}", "Requeue=1")
    cluster.lose(lost)
    cluster.give_up(lost)
    try:
        alive.until(lambda: len(steps(spica)) == 2 and taken(steps(spica)[0]), "the second attempt")
        assert taken(steps(spica)[0])["node"] != lost
        assert [each[2] for each in cluster.jobs() if each[1] == job[1]] == ["CANCELLED"]
        let_go(spica)
        assert alive.until_over(1) == "COMPLETED"
    finally:
        cluster.bring_back(lost)


def test_a_job_that_waits_in_slurm_is_adopted_and_cancelled(spica: RunningSpica, live: Lives, cluster: Cluster) -> None:
    cluster.run("scontrol", "update", "PartitionName=main", "State=DOWN")
    try:
        alive = live()
        drop(spica, "try.spica", job_text(spica, "linger"))
        alive.until(lambda: any(job[2] == "PENDING" for job in ours(cluster, alive)), "the job to wait")
        alive.until(lambda: "PartitionDown" in life.Step.get(life.Step.process == 1).why, "what it waits for")

        alive = live()
        alive.until(lambda: ours(cluster, alive), "it to be followed")
        drop(spica, "order.spica", order_text("cancel", 1))
        assert alive.until_over(1) == "ABORTED"
        assert not [job for job in cluster.jobs() if job[2] in ("PENDING", "RUNNING")]
    finally:
        cluster.run("scontrol", "update", "PartitionName=main", "State=UP")


def test_a_job_meant_for_a_node_that_has_gone_runs_on_another(
    spica: RunningSpica, alive: Life, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("spicad.backends.slurm.PINNED_S", 0.5)
    alive.until(lambda: len(alive.daemon.floor.backend._nodes or ()) == 3, "the nodes to be known")
    cluster.run("scontrol", "update", "NodeName=n3", "State=DRAIN", "Reason=test")
    try:
        alive.daemon.floor.backend._nodes = [each for each in alive.daemon.floor.backend._nodes if each.name == "n3"]
        drop(spica, "try.spica", job_text(spica, "copy"))

        assert alive.until_over(1) == "COMPLETED"
        assert life.Step.get(life.Step.process == 1).node in ("n1", "n2")
    finally:
        cluster.run("scontrol", "update", "NodeName=n3", "State=RESUME")
        cluster.wait_until_idle()


def test_slurm_is_asked_once_for_all_steps_at_each_poll(
    spica: RunningSpica, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, polls = tmp_path / "asked", []
    programs = tmp_path / "programs"
    programs.mkdir()
    for program in ("squeue", "sinfo", "sbatch", "scancel", "scontrol"):
        (programs / program).write_text(f'#!/bin/sh\necho {program} >> {asked}\nexec {shutil.which(program)} "$@"\n')
        (programs / program).chmod(0o755)
    spica.conf.write_text(spica.conf.read_text().replace("[paths]", f'[paths]\nprograms = ["{programs}"]'))
    go_round = slurm.round_trip
    monkeypatch.setattr(slurm, "round_trip", lambda errand: [go_round(errand), polls.append(errand.asks)][0])
    alive = Life(spica)
    try:
        running(alive, spica, "linger", exposures=3)
        before = sum(polls)
        alive.until(lambda: sum(polls) >= before + 5, "five polls")
        let_go(spica)
        assert alive.until_over(1) == "COMPLETED"
    finally:
        alive.stop()

    calls = asked.read_text().split()
    assert calls.count("sbatch") == 3
    assert calls.count("squeue") <= sum(polls)
    assert calls.count("sinfo") <= sum(polls)
    assert set(calls) == {"sbatch", "squeue", "sinfo"}


def test_a_step_begun_on_the_cluster_is_withdrawn_where_steps_run_here_again(
    spica: RunningSpica, live: Lives, cluster: Cluster
) -> None:
    alive = live()
    running(alive, spica, "wait")
    (job,) = ours(cluster, alive)
    spica.conf.write_text(spica.conf.read_text().replace('backend = "slurm"', 'backend = "local"'))

    alive = live()
    wait_until(lambda: [each[2] for each in cluster.jobs() if each[1] == job[1]] == ["CANCELLED"], "the job to be gone")
    alive.until(lambda: len(steps(spica)) == 2 and (steps(spica)[0] / "launch.json").exists(), "it to begin here")
    let_go(spica)

    assert alive.until_over(1) == "COMPLETED"


def test_a_step_begun_here_is_ended_where_steps_run_on_the_cluster_by_now(spica: RunningSpica, live: Lives) -> None:
    conf = spica.conf.read_text()
    spica.conf.write_text(conf.replace('backend = "slurm"', 'backend = "local"'))
    alive = live()
    drop(spica, "try.spica", job_text(spica, "wait"))
    alive.until(lambda: alive.daemon.workshop.bench.running, "the step to run")
    spica.conf.write_text(conf)

    alive = live()
    alive.until(lambda: any(taken(each) for each in steps(spica)), "it to begin there")
    let_go(spica)

    assert alive.until_over(1) == "COMPLETED"  # the tool's lock would have refused a second one beside the first


# ---------------------------------------------------------------------- on the node


def on_a_node(folder: Path, name: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "spicad.backends.on_node", str(folder), name]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)


@pytest.fixture
def laid_out(tmp_path: Path) -> Path:
    for name in ("cfg", "in", "job"):
        (tmp_path / "step" / name).mkdir(parents=True)
    limits = {"memory_mb": 500, "disk_mb": 10, "time_s": 60, "threads": 1}
    task = {"name": "a", "argv": ["/usr/bin/touch", "done"], "inputs": {}, "limits": limits, "sandboxed": True}
    (tmp_path / "step" / on_node.TASK).write_text(json.dumps({**task, "read_only": []}))
    return tmp_path / "step"


def test_an_attempt_is_taken_up_once_whatever_slurm_does(laid_out: Path) -> None:
    assert on_a_node(laid_out, "a").returncode == 0
    ended = (laid_out / on_node.ENDED).read_text()

    again = on_a_node(laid_out, "a")

    assert again.returncode != 0
    assert "it was taken up before" in again.stderr
    assert (laid_out / on_node.ENDED).read_text() == ended


def test_a_job_of_an_attempt_that_was_put_aside_does_not_touch_the_next(laid_out: Path) -> None:
    late = on_a_node(laid_out, "an-earlier-one")

    assert late.returncode != 0
    assert "the step is at a by now" in late.stderr
    assert not (laid_out / on_node.TAKEN).exists()


def test_a_tool_neither_forges_how_it_ended_nor_sees_the_cluster(
    laid_out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (laid_out.parent / "another").write_text("of somebody else")
    task = json.loads((laid_out / on_node.TASK).read_text())
    forge = "for each in task taken ended launch slurm; do echo '{}' >%s/$each.json; done; "
    script = (forge * 2) % ("..", laid_out) + f"cat {laid_out.parent}/another; env; ls ..; exit 3"
    (laid_out / on_node.TASK).write_text(json.dumps({**task, "argv": ["/usr/bin/sh", "-c", script]}))
    monkeypatch.setenv("SLURM_JOB_ID", "12")
    before = (laid_out / on_node.TASK).read_bytes()

    on_a_node(laid_out, "a")

    ended, said = json.loads((laid_out / on_node.ENDED).read_text()), (laid_out / "log").read_text()
    assert (ended["name"], ended["job"], ended["exit_code"]) == ("a", 12, 3)
    assert (laid_out / on_node.TASK).read_bytes() == before
    assert not (laid_out / "slurm.json").exists()
    assert "HOME=/job" in said
    assert not re.search("somebody else|SLURM_|task.json$", said, re.MULTILINE)


def test_a_node_without_the_results_folder_says_so(tmp_path: Path) -> None:
    assert "Is the results folder mounted" in on_a_node(tmp_path / "nothing", "a").stderr

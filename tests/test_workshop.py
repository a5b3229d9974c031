"""Runs in the workshop: who is taken next, what ends with what, and that a fault of ours stays with one process."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import life
import pytest
from conftest import RunningSpica
from life import Life, drop, job_text, made_ready, order_text

from spicad import steps
from spicad.backends import local


@pytest.fixture
def spica(tmp_path: Path) -> Iterator[RunningSpica]:
    ready = made_ready(tmp_path)
    yield ready
    ready.end()


@pytest.fixture
def life_of(spica: RunningSpica) -> Iterator[Life]:
    alive = Life(spica)
    yield alive
    alive.stop()


def configured(spica: RunningSpica, text: str) -> Life:
    spica.conf.write_text(spica.conf.read_text() + text)
    return Life(spica)


def test_an_error_of_spica_itself_holds_one_process_and_no_other(spica, life_of, monkeypatch):
    good = steps.lay_out

    def breaks_for_one(folder, looked, setup, application):
        if "-unlucky" in str(folder):
            raise ValueError("a fault of ours")
        good(folder, looked, setup, application)

    monkeypatch.setattr(steps, "lay_out", breaks_for_one)
    drop(spica, "a.spica", job_text(spica, name="unlucky"))
    drop(spica, "b.spica", job_text(spica, name="lucky"))

    life_of.until(lambda: {spica.phase(1), spica.phase(2)} == {"HELD", "COMPLETED"}, "both to end")

    (held,) = [number for number in (1, 2) if spica.phase(number) == "HELD"]
    assert "a fault of ours" in life.Process.get_by_id(held).why
    assert life_of.daemon.workshop.runs == {}


def test_a_process_held_by_an_error_of_spica_goes_on_when_it_is_released(spica, life_of, monkeypatch):
    with monkeypatch.context() as patch:

        def breaks(*values):
            raise ValueError("a fault of ours")

        patch.setattr(steps, "lay_out", breaks)
        drop(spica, "a.spica", job_text(spica))
        life_of.until(lambda: spica.phase(1) == "HELD", "the process to be held")

    drop(spica, "order.spica", order_text("release", 1))

    assert life_of.until_over(1) == "COMPLETED"


def test_a_pipeline_process_overtakes_a_users_at_the_next_step(spica):
    people = life.users()
    if people is None:
        pytest.skip("files cannot be given to other users here")
    alive = configured(spica, f'\n[ranks]\npipeline = ["{people.dan.pw_name}"]\nadministrator = []\n')
    try:
        alive.daemon.settings.daemon.__dict__["slots"] = 1
        for path in spica.exposures:
            path.chmod(0o644)
        drop(spica, "user.spica", job_text(spica, "wait", exposures=3), uid=people.carol.pw_uid)
        alive.until(lambda: len(life.steps(spica)) == 1, "the user's first step")

        drop(spica, "night.spica", job_text(spica, "noop", name="night", exposures=3), uid=people.dan.pw_uid)
        alive.until_quiet()
        life.let_go(spica)

        assert alive.until_over(2) == "COMPLETED"
        assert spica.phase(1) == "EXECUTING"
        begun = [json.loads((folder / "launch.json").read_text())["time"] for folder in life.steps(spica)]
        of_user = sorted(
            json.loads((folder / "launch.json").read_text())["time"]
            for folder in life.steps(spica)
            if "-try" in str(folder)
        )
        of_night = [time for time in begun if time not in of_user]
        assert len(of_night) == 3
        assert len(of_user) == 1 or max(of_night) < of_user[1]
    finally:
        life.let_go(spica)
        alive.stop()


def test_a_users_limit_holds_his_steps_and_nobody_elses(spica):
    people = life.users()
    if people is None:
        pytest.skip("files cannot be given to other users here")
    alive = configured(spica, "\n[limits]\nslots_per_user = 1\n")
    try:
        drop(spica, "a.spica", job_text(spica, "wait", exposures=3), uid=people.carol.pw_uid)
        alive.until(lambda: len(life.steps(spica)) == 1, "the first step")

        drop(spica, "b.spica", job_text(spica, "noop", name="other", exposures=2), uid=people.dan.pw_uid)

        assert alive.until_over(2) == "COMPLETED"
        assert len([folder for folder in life.steps(spica) if "-try" in str(folder)]) == 1
    finally:
        life.let_go(spica)
        alive.stop()


def test_a_cancelled_run_leaves_no_process_behind(spica, life_of):
    drop(spica, "a.spica", job_text(spica, "wait"))
    life_of.until(lambda: life_of.daemon.workshop.bench.running, "the step to run")
    (running,) = life_of.daemon.workshop.bench.running.values()

    drop(spica, "order.spica", order_text("cancel", 1))

    assert life_of.until_over(1) == "ABORTED"
    assert not Path(f"/proc/{local.launched_in(running.folder).pid}").exists()


def test_a_step_that_takes_too_long_is_stopped_and_said_to_have(spica, life_of):
    drop(spica, "a.spica", job_text(spica, "wait").replace('each = "exposure"', 'each = "exposure"\ntime_s = 5'))
    life_of.until(lambda: life_of.daemon.workshop.bench.running, "the step to run")

    life_of.clock.ahead_s = 60

    assert life_of.until_over(1) == "ERROR"
    assert "time" in life.Process.get_by_id(1).why


@pytest.mark.slow
def test_a_full_disk_keeps_steps_waiting_and_is_said(spica):
    alive = configured(spica, "\n[limits]\nfree_disk_mb = 1000000000\n")
    try:
        drop(spica, "a.spica", job_text(spica))
        alive.until_quiet()
        alive.passes()
        assert spica.phase(1) == "QUEUED"
        assert "must stay free" in spica.spica("explain", 1).stdout
    finally:
        alive.stop()


def test_a_link_put_in_the_place_of_an_exposure_after_it_was_taken_is_not_followed(spica, life_of):
    secret = spica.folder / "secret.fits"
    secret.write_bytes(spica.exposures[0].read_bytes())
    os.utime(secret, ns=(spica.exposures[0].stat().st_atime_ns, spica.exposures[0].stat().st_mtime_ns))
    drop(spica, "a.spica", job_text(spica, "copy", more="not_before = 2037-01-01"))
    life_of.until(lambda: spica.phase(1), "the process to be taken")
    spica.exposures[0].unlink()
    spica.exposures[0].symlink_to(secret)
    life_of.daemon.workshop.bench.floor.clock.ahead_s = 30 * 365 * 86400

    assert life_of.until_over(1) == "ERROR"
    assert life.steps(spica) == [] or not any((folder / "launch.json").exists() for folder in life.steps(spica))

"""spicad as a program: one at a time, its verbs and signals, what it tells systemd, and kills of it and of its steps.

What a pass of the daemon does is told in test_intake.py and test_recovery.py.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from conftest import COMPILED, ROOT, RunningSpica, wait_until
from life import WAIT, drop, job_text, let_go, made_ready, order_text, places, steps, users, why
from services import MariaDB, mariadb

from spicad import config
from spicad.backends import local
from spicad.daemon import AlreadyRunning, hold_lock, running_pid

pytestmark = pytest.mark.slow

__all__ = ["mariadb"]


@pytest.fixture
def spica(tmp_path: Path) -> Iterator[RunningSpica]:
    made = made_ready(tmp_path)
    yield made
    spicad(made, "stop")
    made.end()


def spicad(spica: RunningSpica, *verbs: str, conf: Path | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "bin/spicad"), "--config", str(conf or spica.conf), *verbs]
    env = {**os.environ, **COMPILED}
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=env)


def log_of(spica: RunningSpica) -> str:
    return spica.log.read_text()


def step_runs(spica: RunningSpica) -> list[local.Launched]:
    found = [local.launched_in(folder) for folder in steps(spica)]
    return [each for each in found if each and local.is_alive(each)]


def begun(spica: RunningSpica, exposures: int = 1, more: str = "") -> tuple[int, list[int]]:
    """A process whose steps run until they are let go: its number, their pids."""
    drop(spica, "try.spica", job_text(spica, "wait", exposures=exposures, more=more))
    wait_until(lambda: len(step_runs(spica)) == exposures, "the steps to run")
    (process,) = places(spica)
    return process, sorted(each.pid for each in step_runs(spica))


def end_of(spica: RunningSpica, process: int) -> str:
    """Steps are let go as they come."""

    def is_over() -> bool:
        let_go(spica)
        return spica.phase(process) in ("COMPLETED", "ERROR", "ABORTED", "HELD")

    wait_until(is_over, f"process {process} to end")
    return spica.phase(process)


# One daemon


def test_of_two_starters_exactly_one_wins_in_forty_rounds(spica: RunningSpica, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("spicad.daemon.LOCK_PATIENCE_S", 0.02)
    settings = config.load(spica.conf)
    for _ in range(40):
        go_read, go_write = os.pipe()
        answer_read, answer_write = os.pipe()
        end_read, end_write = os.pipe()
        pids = []
        for _ in range(2):
            pid = os.fork()
            if pid == 0:
                os.close(end_write)
                os.close(go_write)
                os.read(go_read, 1)
                with suppress(AlreadyRunning):
                    hold_lock(settings)
                    os.write(answer_write, b"1")
                    os.read(end_read, 1)
                    os._exit(0)
                os.write(answer_write, b"0")
                os._exit(0)
            pids.append(pid)
        os.close(go_write)
        os.close(end_read)
        os.close(answer_write)
        answers = b"".join(sorted(os.read(answer_read, 1) for _ in range(2)))
        assert answers == b"01"
        assert running_pid(settings) in pids
        os.close(end_write)
        for pid in pids:
            os.waitpid(pid, 0)
        for handle in (go_read, answer_read):
            os.close(handle)


def test_asking_who_runs_never_keeps_a_daemon_from_starting(spica: RunningSpica) -> None:
    settings = config.load(spica.conf)
    spica.spool.mkdir()
    (spica.spool / "spicad.lock").touch()
    pid = os.fork()
    if pid == 0:
        while True:
            running_pid(settings)
    try:
        for _ in range(50):
            os.close(hold_lock(settings))
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


@pytest.mark.parametrize("content", ["", "1\n", "99999999\n", "garbage\n"])
def test_a_lock_file_or_pid_file_left_behind_is_no_obstacle(spica: RunningSpica, content: str) -> None:
    spica.spool.mkdir()
    for name in ("spicad.lock", "spicad.pid"):
        (spica.spool / name).write_text(content)  # 1 is a pid that lives: a recycled one
    assert running_pid(config.load(spica.conf)) is None

    os.close(hold_lock(config.load(spica.conf)))


def test_the_verbs_answer_by_their_exit_status(spica: RunningSpica) -> None:
    assert spicad(spica, "status").returncode == 3
    assert spicad(spica, "stop").returncode == 0
    assert spicad(spica, "reload").returncode == 1
    (spica.folder / "spool").mkdir(exist_ok=True)
    (spica.spool / "spicad.pid").write_text("1\n")

    started = spicad(spica, "start")
    assert started.returncode == 0, started.stderr
    pid = int(re.findall(r"pid (\d+)", started.stdout)[0])
    assert (spica.spool / "spicad.pid").read_text().strip() == str(pid)
    assert spicad(spica, "status").stdout.startswith(f"spicad runs (pid {pid})")
    for verb in ("start", "run"):
        again = spicad(spica, verb)
        assert again.returncode == 1
        assert "already runs" in again.stderr
    assert spicad(spica, "reload").returncode == 0
    drop(spica, "try.spica", job_text(spica))
    assert spica.wait_for(1) == "COMPLETED"

    assert spicad(spica, "stop").returncode == 0
    assert not Path(f"/proc/{pid}").exists() or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    assert not (spica.spool / "spicad.pid").exists()
    assert spicad(spica, "status").returncode == 3


def test_a_start_that_fails_says_why_to_the_one_who_starts(spica: RunningSpica) -> None:
    good = spica.conf.read_text()
    spica.conf.write_text(good.replace("slots = 2", "slots = many"))
    assert spicad(spica, "start").returncode == 1

    spica.conf.write_text(good)
    spica.spool.mkdir()
    (spica.spool / "spica.db").write_bytes(b"rubbish " * 500)
    failed = spicad(spica, "start")

    assert failed.returncode == 1
    assert "Move it away" in failed.stderr
    assert spicad(spica, "status").returncode == 3


# Signals


def test_a_bad_configuration_is_refused_on_reload_and_a_good_one_taken(spica: RunningSpica) -> None:
    spica.start()
    assert spica.daemon is not None
    good = spica.conf.read_text()
    for bad in ("slots = many", 'slots = 2\ncolour = "red"', "slots = ["):
        before = len(log_of(spica))
        spica.conf.write_text(good.replace("slots = 2", bad))
        spica.daemon.send_signal(signal.SIGHUP)
        wait_until(lambda before=before: "reload refused" in log_of(spica)[before:], "the refusal")
    spica.conf.write_text(good.replace('spool = "spool"', 'spool = "elsewhere"'))
    spica.daemon.send_signal(signal.SIGHUP)
    wait_until(lambda: "cannot change while spicad runs" in log_of(spica), "the refusal of another spool")
    drop(spica, "try.spica", job_text(spica))
    assert spica.wait_for(1) == "COMPLETED"

    spica.conf.write_text(good.replace("slots = 2", "slots = 3"))
    spica.daemon.send_signal(signal.SIGHUP)
    wait_until(lambda: "configuration reloaded" in log_of(spica), "the reload")
    drop(spica, "try.spica", job_text(spica, "wait", exposures=3))
    wait_until(lambda: len(step_runs(spica)) == 3, "three steps at once")


def test_steps_outlive_a_stop_and_are_adopted_each_started_once(spica: RunningSpica) -> None:
    spica.start()
    process, pids = begun(spica, exposures=2)

    spica.stop()
    assert sorted(each.pid for each in step_runs(spica)) == pids
    spica.start()
    wait_until(lambda: log_of(spica).count("adopted, pid") == 2, "the adoption")

    assert end_of(spica, process) == "COMPLETED"
    assert sorted(int(pid) for pid in re.findall(r"started, pid (\d+)", log_of(spica))) == pids
    assert [folder.name for folder in steps(spica)] == ["0001-wait", "0002-wait"]


def test_a_second_and_third_term_do_no_harm(spica: RunningSpica) -> None:
    spica.start()
    process, pids = begun(spica)
    assert spica.daemon is not None
    daemon = spica.daemon

    for _ in range(3):
        daemon.terminate()
    assert daemon.wait(30) == 0
    spica.daemon = None

    assert [each.pid for each in step_runs(spica)] == pids
    spica.start()
    assert end_of(spica, process) == "COMPLETED"
    assert "Traceback" not in log_of(spica)


def test_systemd_is_told_of_readiness_life_and_end(spica: RunningSpica, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
        address = tempfile.mktemp(prefix="spica-notify-", dir="/tmp")
        channel.bind(address)
        channel.settimeout(30)
        monkeypatch.setenv("NOTIFY_SOCKET", address)
        spica.start()
        daemon = spica.daemon
        assert daemon is not None

        ready = channel.recv(4096).decode().splitlines()
        assert ready[:2] == ["READY=1", f"MAINPID={daemon.pid}"]
        assert ready[2].startswith("STATUS=0 steps run")
        assert channel.recv(4096).decode().startswith("WATCHDOG=1\nSTATUS=")
        daemon.send_signal(signal.SIGHUP)
        told = [channel.recv(4096).decode().split("\n")[0] for _ in range(3)]
        while "READY=1" not in told:
            told.append(channel.recv(4096).decode().split("\n")[0])
        assert told.index("RELOADING=1") < told.index("READY=1")
        spica.stop()
        while told[-1] != "STOPPING=1":
            told.append(channel.recv(4096).decode().split("\n")[0])
        os.unlink(address)


# Kills


def test_the_daemon_killed_outright_is_followed_by_one_that_adopts(spica: RunningSpica) -> None:
    spica.start()
    process, pids = begun(spica, exposures=2)
    assert spica.daemon is not None
    spica.daemon.kill()
    spica.daemon.wait()
    spica.daemon = None

    spica.start()

    assert end_of(spica, process) == "COMPLETED"
    launches = spica.results.glob("*/*/run-*/steps/*/launch.json")  # of every attempt
    assert sorted(json.loads(path.read_text())["pid"] for path in launches) == pids


def test_the_daemon_and_every_step_killed_at_once_begin_again(spica: RunningSpica) -> None:
    spica.start()
    process, pids = begun(spica, exposures=2)
    assert spica.daemon is not None
    inside = [child.pid for pid in pids for child in psutil.Process(pid).children(recursive=True)]
    for pid in (spica.daemon.pid, *pids, *inside):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    spica.daemon.wait()
    spica.daemon = None

    spica.start()

    assert end_of(spica, process) == "COMPLETED"
    assert len(steps(spica)) == 4
    assert not any(psutil.pid_exists(pid) and psutil.Process(pid).status() != "zombie" for pid in inside)


def is_running(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() not in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)
    except psutil.NoSuchProcess:
        return False


def test_a_sandbox_killed_from_outside_takes_its_tool_with_it_and_is_tried_again(spica: RunningSpica) -> None:
    spica.start()
    process, (pid,) = begun(spica)
    wait_until(lambda: psutil.Process(pid).children(recursive=True), "the sandbox to be entered")
    inside = [child.pid for child in psutil.Process(pid).children(recursive=True)]

    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: len(steps(spica)) == 2 and step_runs(spica), "the second attempt")

    wait_until(lambda: not any(map(is_running, inside)), "what was inside to be gone")
    assert end_of(spica, process) == "COMPLETED"  # the tool's lock would have refused a second one beside the first


def test_a_tool_killed_from_outside_is_tried_three_times_and_then_held(spica: RunningSpica) -> None:
    spica.start()
    process, _ = begun(spica, more='mail = "alice@example.org"')
    for attempt in (1, 2, 3):
        wait_until(lambda attempt=attempt: len(steps(spica)) == attempt and step_runs(spica), f"attempt {attempt}")
        (bwrap,) = step_runs(spica)
        wait_until(lambda bwrap=bwrap: tool_of(bwrap.pid), "the tool")
        os.kill(tool_of(bwrap.pid)[0], signal.SIGKILL)
        wait_until(lambda bwrap=bwrap: not local.is_alive(bwrap), "its end")

    wait_until(lambda: spica.phase(process) in ("HELD", "ERROR"), "the end")

    assert spica.phase(process) == "HELD", log_of(spica)
    wait_until(lambda: list((spica.spool / "mail" / "new").glob("*")), "the mail")
    assert "HELD" in next((spica.spool / "mail" / "new").iterdir()).read_text().upper()


def tool_of(bwrap: int) -> list[int]:
    """flock itself: below bwrap and its init."""
    with suppress(psutil.NoSuchProcess):
        return [each.pid for each in psutil.Process(bwrap).children(recursive=True) if each.name() == "flock"]
    return []


# As another user, with another database, and at rest


def test_a_daemon_that_is_not_root_explains_what_it_cannot_read() -> None:
    who = users()
    if who is None:
        pytest.skip("needs root and some Unix users")
    folder = Path(tempfile.mkdtemp(prefix="spica-user-", dir="/tmp"))  # where that user may go
    try:
        spica = RunningSpica(folder)
        spica.application("wait", WAIT)
        for path in (folder, *folder.rglob("*")):
            os.chown(path, who.dan.pw_uid, who.dan.pw_gid)
        folder.chmod(0o755)
        command = [sys.executable, str(ROOT / "bin/spicad"), "--config", str(spica.conf), "run"]
        with spica.log.open("ab") as log:
            spica.daemon = subprocess.Popen(
                command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, user=who.dan.pw_uid,
                group=who.dan.pw_gid, extra_groups=[], env={"PYTHONDONTWRITEBYTECODE": "1", "PATH": os.environ["PATH"]},
            )  # fmt: skip
        wait_until(lambda: "spicad is ready" in log_of(spica), "the daemon")

        secret = drop(spica, "secret.spica", job_text(spica), who.alice.pw_uid)
        os.chmod(secret, 0o600)
        closed = spica.spool / "incoming" / "closed.spica"
        closed.mkdir(mode=0o700)
        os.chown(closed, who.alice.pw_uid, who.alice.pw_gid)
        wait_until(lambda: (spica.spool / "rejected" / "secret.spica.why").exists(), "the refusal")
        drop(spica, "good.spica", job_text(spica, "copy"), who.alice.pw_uid)

        wait_until(lambda: places(spica), "the good one to be taken")
        assert spica.wait_for(1) == "COMPLETED", log_of(spica)
        assert "chmod g+r" in why(spica, "secret.spica")
        assert len(list((spica.spool / "rejected").glob("closed*.why"))) == 1
        drop(spica, "wait.spica", job_text(spica, "wait"), who.alice.pw_uid)
        wait_until(lambda: len(places(spica)) == 2 and step_runs(spica), "a step")
        (bwrap,) = step_runs(spica)
        wait_until(lambda: len(tool_of(bwrap.pid)) == 1, "the tool, past its own fork,")
        (tool,) = tool_of(bwrap.pid)
        os.kill(bwrap.pid, signal.SIGKILL)
        wait_until(lambda: not psutil.pid_exists(tool), "the tool to be ended too")
        assert end_of(spica, 2) == "COMPLETED", log_of(spica)
        assert 'owner = "' + who.alice.pw_name in (spica.spool / "completed" / "000001.spica").read_text()
        spica.stop()
    finally:
        shutil.rmtree(folder)


def test_work_goes_on_while_mariadb_is_killed_and_rows_follow(spica: RunningSpica, mariadb: MariaDB) -> None:
    spica.conf.write_text(spica.conf.read_text() + f'[database]\nurl = "{mariadb.url()}"\n')
    spica.start()
    process, _ = begun(spica)

    mariadb.kill()
    late = drop(spica, "late.spica", job_text(spica, name="late"))
    assert end_of(spica, process) == "COMPLETED"
    wait_until(lambda: "Nothing can be accepted" in log_of(spica), "the drop to be refused for now")
    assert late.exists()
    mariadb.start()
    wait_until(lambda: not late.exists(), "the drop to be taken")
    assert end_of(spica, 2) == "COMPLETED"
    spica.stop()

    with mariadb.connect() as connection, connection.cursor() as cursor:
        cursor.execute("SELECT id, phase FROM spica.process ORDER BY id")
        assert cursor.fetchall() == ((1, "COMPLETED"), (2, "COMPLETED"))
        cursor.execute("SELECT state FROM spica.step")
        assert set(cursor.fetchall()) == {("done",)}


def test_a_ready_daemon_is_small(spica: RunningSpica) -> None:
    spica.start()
    drop(spica, "try.spica", job_text(spica, "copy", exposures=3))
    assert spica.wait_for(1) == "COMPLETED"
    assert spica.daemon is not None

    assert psutil.Process(spica.daemon.pid).memory_info().rss < 80 << 20


def test_results_that_cannot_be_written_make_no_busy_loop(spica: RunningSpica) -> None:
    spica.results.write_text("this is no folder")
    spica.start()
    drop(spica, "try.spica", job_text(spica))
    wait_until(lambda: "its results folder cannot be made" in log_of(spica), "the first try")
    assert spica.daemon is not None
    daemon = psutil.Process(spica.daemon.pid)
    before = daemon.cpu_times().user
    drop(spica, "mark.spica", order_text("hold", 4711))
    wait_until(lambda: "mark.spica" in log_of(spica), "some passes")

    with suppress(psutil.TimeoutExpired):
        daemon.wait(1.0)

    assert daemon.cpu_times().user - before < 0.5
    spica.results.unlink()
    assert spica.wait_for(1) == "COMPLETED"

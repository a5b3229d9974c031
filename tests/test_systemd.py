"""The units of systemd, in a real systemd on a machine of its own: the daemon, the site, and the sandbox below them.

What the packages bring is told in test_rpm.py.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import DESCRIPTOR, ROOT, wait_until, write_exposure
from machine import Installed, packages_of_this
from services import missing

from spicad.reduction.sky import make_sky
from spicad.reduction.sky_options import SkyOptions

pytestmark = pytest.mark.slow

UNITS = sorted(path for path in (ROOT / "etc/systemd").iterdir() if path.is_file())
SERVICES = [path for path in UNITS if path.suffix == ".service"]
MOST_EXPOSED = 25  # of 100


CONF = """\
[paths]
archive = ["/srv/archive"]
[daemon]
slots = 2
look_s = 0.2
[web]
address = "https://spica.example.org"
"""
JOB = """\
name = "try"
exposures = ["/srv/archive/900001p.fits"]

[[task]]
application = "{application}"
each = "exposure"

[end]
"""
STACK = """\
name = "{rules}"
exposures = ["/srv/archive/sky/9*p.fits"]
reference = "/srv/archive/sky/refcat.cat"
rules = "{rules}"

[end]
"""


class Running(Installed):
    """spicad is a running service on it."""

    def __init__(self, packages: Path) -> None:
        super().__init__(packages)
        self.path("/etc/spica/spica.conf").write_text(CONF)
        for name, arguments in (("sleep", "3600"), ("true", "")):
            descriptor = DESCRIPTOR.format(name=name, command=[name], arguments=[arguments], output="")
            self.path(f"/etc/spica/applications/{name}.toml").write_text(descriptor.replace("'", '"'))
        write_exposure(self.path("/srv/archive/900001p.fits"))
        self.run("systemctl", "start", "spicad.service")

    def submitted(self, text: str) -> int:
        """By alice, as she does it."""
        self.path("/home/alice/job.spica").write_text(text)
        return int(self.run("spica", "submit", "/home/alice/job.spica", user="alice").split()[-1])

    def phase(self, process: int) -> str:
        return next((path.parent.name for path in self.path("/var/spool/spica").glob(f"*/{process:06d}.spica")), "")

    def sleepers(self) -> list[str]:
        """The pids of tools that sleep."""
        return self.tried("pgrep", "--full", "^(/usr/bin/)?sleep 3600").stdout.split()

    def with_lines(self, *lines: str) -> None:
        """In the unit of the daemon, which is begun again with them."""
        folder = self.path("/etc/systemd/system/spicad.service.d")
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "test.conf").write_text("[Service]\n" + "\n".join(lines) + "\n")
        self.run("systemctl", "daemon-reload")
        self.run("systemctl", "restart", "spicad.service")


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    machine = Running(packages_of_this(tmp_path_factory))
    yield machine
    machine.end()


@pytest.fixture(scope="module")
def sleeper(machine: Running) -> str:
    """The pid of the tool of a step that runs."""
    process = machine.submitted(JOB.format(application="sleep"))
    wait_until(lambda: machine.phase(process) == "executing" and machine.sleepers(), "the step to run")
    (pid,) = machine.sleepers()
    return pid


@pytest.mark.parametrize("unit", SERVICES, ids=lambda path: path.name)
def test_a_service_gives_little_away(unit: Path) -> None:
    if not shutil.which("systemd-analyze"):
        missing("systemd-analyze")
    command = ["systemd-analyze", "security", "--offline=true", f"--threshold={MOST_EXPOSED}", "--no-pager", unit]

    done = subprocess.run(command, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stdout[-300:] + done.stderr


def test_systemd_finds_nothing_to_say_of_the_units(machine: Running) -> None:
    done = machine.tried(
        "systemd-analyze", "verify", "--man=no", *(f"/lib/systemd/system/{each.name}" for each in UNITS)
    )

    assert done.stderr.splitlines() == []
    assert done.returncode == 0


def test_the_site_is_begun_by_its_first_visitor_and_reached_through_nginx(machine: Running) -> None:
    if not shutil.which("nginx"):
        missing("nginx")
    shutil.copy(ROOT / "etc/nginx/spica.conf", machine.path("/etc/nginx/conf.d/spica.conf"))
    for folder in ("certs", "private"):
        machine.path(f"/etc/pki/tls/{folder}").mkdir(parents=True)
    machine.run(
        "openssl", "req", "-x509", "-nodes", "-newkey", "rsa:2048", "-subj", "/CN=spica.example.org",
        "-keyout", "/etc/pki/tls/private/spica.key", "-out", "/etc/pki/tls/certs/spica.pem",
    )  # fmt: skip
    machine.run("usermod", "--append", "--groups", "spica-web", "www-data")
    machine.run("systemctl", "start", "spica-web.socket", "nginx.service")
    assert machine.unit("spica-web.service", "ActiveState") == "inactive"

    page = machine.run("curl", "-sk", "--resolve", "spica.example.org:443:127.0.0.1", "https://spica.example.org/login")

    assert 'action="/login"' in page
    stranger = machine.tried("curl", "-s", "--unix-socket", "/run/spica/web.socket", "http://x/", user="carol")
    assert stranger.returncode != 0


# ---------------------------------------------------------------------- the daemon


def test_systemd_is_told_how_the_daemon_is(machine: Running) -> None:
    assert machine.unit("spicad.service", "ActiveState") == "active"
    wait_until(lambda: "steps run" in machine.unit("spicad.service", "StatusText"), "the status")
    assert "spicad is ready" in machine.journal("spicad")
    assert machine.run("ps", "-o", "user=", "-p", machine.unit("spicad.service", "MainPID")).strip() == "spica"


def test_the_main_job_and_our_own_programs_run_in_the_sandbox_of_the_hardened_service(machine: Running) -> None:
    make_sky(
        machine.path("/srv/archive/sky"), SkyOptions(exposures=3, ccds=2, size=500, filters=("r",), stars=300, seed=8)
    )

    processes = [machine.submitted(STACK.format(rules=rules)) for rules in ("stack", "own-stack")]

    for process in processes:
        wait_until(lambda process=process: machine.phase(process) in ("completed", "error"), "its end")  # type: ignore[misc]
        (run,) = machine.path("/var/lib/spica/results").glob(f"*/{process:06d}-*/run-1")
        assert machine.phase(process) == "completed", (run / "report.txt").read_text()
        launches = [json.loads(path.read_text()) for path in run.glob("steps/*/launch.json")]
        assert launches
        assert all(each["sandboxed"] for each in launches)
        assert list((run / "products").glob("*.fits"))
        assert machine.run(
            "cat", *("/" + str(path).partition("/root/")[2] for path in run.glob("report.txt")), user="alice"
        )
        assert machine.tried("ls", "/" + str(run).partition("/root/")[2], user="carol").returncode != 0


def test_a_step_is_enclosed_by_sandbox_and_service(machine: Running, sleeper: str) -> None:
    status = dict(line.split(":", 1) for line in machine.path(f"/proc/{sleeper}/status").read_text().splitlines())

    assert {name: status[name].strip() for name in ("NoNewPrivs", "Seccomp", "CapEff", "CapBnd")} == {
        "NoNewPrivs": "1",
        "Seccomp": "2",
        "CapEff": "0" * 16,
        "CapBnd": "0" * 16,
    }
    assert machine.run("ls", f"/proc/{sleeper}/root/in").split() == ["img0001.fits"]
    assert "passwd" not in machine.run("ls", f"/proc/{sleeper}/root/etc")


def test_the_copy_of_proc_for_the_sandboxes_is_out_of_reach(machine: Running) -> None:
    daemon = machine.unit("spicad.service", "MainPID")
    inside = [
        "nsenter",
        "--target",
        daemon,
        "--mount",
        "setpriv",
        "--reuid",
        "spica",
        "--regid",
        "spica",
        "--clear-groups",
    ]

    assert machine.tried(*inside, "ls", "/proc/sys/kernel").returncode == 0
    assert machine.tried(*inside, "ls", "/run/spica-proc/whole").returncode != 0
    assert "ro," in machine.run("nsenter", "--target", daemon, "--mount", "findmnt", "-no", "OPTIONS", "/proc/sys")


def test_a_reload_is_taken_and_a_bad_one_refused(machine: Running) -> None:
    conf = machine.path("/etc/spica/spica.conf")
    conf.write_text(CONF.replace("slots = 2", "slots = 3"))
    machine.run("systemctl", "reload", "spicad.service")
    wait_until(lambda: "configuration reloaded" in machine.journal("spicad"), "the new configuration")

    conf.write_text(CONF.replace("slots", "slotz"))
    machine.run("systemctl", "reload", "spicad.service")

    wait_until(lambda: "reload refused" in machine.journal("spicad"), "the refusal")
    assert machine.unit("spicad.service", "ActiveState") == "active"
    conf.write_text(CONF)


@pytest.mark.parametrize("how", ["restart", "stop and start", "kill"])
def test_a_step_that_runs_outlives_the_daemon_and_is_taken_up_by_the_next(
    machine: Running, sleeper: str, how: str
) -> None:
    machine.with_lines("RestartSec=100ms")
    before = machine.unit("spicad.service", "MainPID")

    if how == "kill":
        machine.run("kill", "-KILL", before)
    else:
        for verb in how.split(" and "):
            machine.run("systemctl", verb, "spicad.service")

    wait_until(lambda: machine.unit("spicad.service", "MainPID") not in ("0", before), "the next daemon")
    wait_until(lambda: "1 steps run" in machine.unit("spicad.service", "StatusText"), "it to follow the step")
    assert machine.sleepers() == [sleeper]


def test_a_daemon_that_hangs_is_ended_and_begun_again(machine: Running, sleeper: str) -> None:
    machine.with_lines("WatchdogSec=1", "RestartSec=100ms", "TimeoutAbortSec=1")
    before = machine.unit("spicad.service", "MainPID")

    machine.run("kill", "-STOP", before)

    wait_until(lambda: machine.unit("spicad.service", "MainPID") not in ("0", before), "the next daemon")
    assert "Watchdog timeout" in machine.journal("spicad")
    assert machine.sleepers() == [sleeper]


def test_a_step_that_is_out_of_memory_does_not_end_the_service(machine: Running) -> None:
    assert machine.unit("spicad.service", "OOMPolicy") == "continue"


def test_all_of_it_stops_and_starts_as_one(machine: Running) -> None:
    machine.run("systemctl", "stop", "spica.target")

    wait_until(lambda: machine.unit("spicad.service", "ActiveState") == "inactive", "the daemon to stop")
    assert machine.unit("spica-web.socket", "ActiveState") == "inactive"
    machine.run("systemctl", "enable", "spicad.service", "spica-web.socket")
    machine.run("systemctl", "start", "spica.target")
    wait_until(lambda: machine.unit("spicad.service", "ActiveState") == "active", "the daemon to start")
    assert machine.unit("spica-web.socket", "ActiveState") == "active"


def test_setup_tells_the_units_of_folders_elsewhere_and_doctor_finds_all_of_it_well(machine: Running) -> None:
    answers = {
        "results": "/data/results",
        "archive": ["/srv/archive"],
        "address": "https://spica.example.org",
        "web_server": "nginx",
        "administrator": "dan",
        "administrator_mail": "dan@example.org",
    }
    lines = "".join(f"{name} = {json.dumps(value)}\n" for name, value in answers.items())
    machine.path("/root/answers.toml").write_text(lines)
    machine.run("systemctl", "stop", "spicad.service")

    words = machine.tried("spica", "setup", "--answers", "/root/answers.toml", "--no-mail")

    assert "systemctl enable --now spica-web.socket" in words.stdout, words
    assert "unix:/run/spica/web.socket:" in machine.path("/etc/spica/site.nginx.conf").read_text()
    machine.run("systemctl", "restart", "spicad.service")
    process = machine.submitted(JOB.format(application="true"))
    wait_until(lambda: machine.phase(process) in ("completed", "error"), "its end")
    assert machine.phase(process) == "completed"
    assert list(machine.path("/data/results").glob(f"*/{process:06d}-*/run-1/report.txt"))
    findings = json.loads(machine.tried("spica", "doctor", "--json").stdout)
    wrong = [each for each in findings if each["state"] == "wrong" and each["check"] not in ("tools", "mail", "site")]
    assert wrong == []
    assert [each["state"] for each in findings if each["check"] == "systemd"] == ["ok"]

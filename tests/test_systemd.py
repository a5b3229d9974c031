"""The units of systemd, in a real systemd on a machine of its own: the daemon, the site, and the sandbox below them.

What the packages bring is told in test_rpm.py.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import ROOT
from machine import Installed, built
from services import missing

pytestmark = pytest.mark.slow

UNITS = sorted(path for path in (ROOT / "etc/systemd").iterdir() if path.is_file())
SERVICES = [path for path in UNITS if path.suffix == ".service"]
MOST_EXPOSED = 25  # of 100


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installed]:
    given = tmp_path_factory.mktemp("given")
    machine = Installed(given, built(ROOT, given))
    yield machine
    machine.end()


@pytest.mark.parametrize("unit", SERVICES, ids=lambda path: path.name)
def test_a_service_gives_little_away(unit: Path) -> None:
    if not shutil.which("systemd-analyze"):
        missing("systemd-analyze")
    command = ["systemd-analyze", "security", "--offline=true", f"--threshold={MOST_EXPOSED}", "--no-pager", unit]

    done = subprocess.run(command, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stdout[-300:] + done.stderr


def test_systemd_finds_nothing_to_say_of_the_units(machine: Installed) -> None:
    done = machine.tried(
        "systemd-analyze", "verify", "--man=no", *(f"/lib/systemd/system/{each.name}" for each in UNITS)
    )

    assert done.stderr.splitlines() == []
    assert done.returncode == 0


def test_the_site_is_begun_by_its_first_visitor_and_reached_through_nginx(machine: Installed) -> None:
    if not shutil.which("nginx"):
        missing("nginx")
    shutil.copy(ROOT / "etc/nginx/spica.conf", machine.path("/etc/nginx/conf.d/spica.conf"))
    for folder in ("certs", "private"):
        machine.path(f"/etc/pki/tls/{folder}").mkdir(parents=True)
    machine.run(
        "openssl", "req", "-x509", "-nodes", "-newkey", "rsa:2048", "-subj", "/CN=spica.example.org",
        "-keyout", "/etc/pki/tls/private/spica.key", "-out", "/etc/pki/tls/certs/spica.pem",
    )  # fmt: skip
    machine.path("/etc/spica/spica.conf").write_text('[web]\naddress = "https://spica.example.org"\n')
    machine.run("usermod", "--append", "--groups", "spica-web", "www-data")
    machine.run("systemctl", "start", "spicad.service", "spica-web.socket", "nginx.service")
    assert machine.run("systemctl", "show", "--property=ActiveState", "--value", "spica-web.service") == "inactive\n"

    page = machine.run("curl", "-sk", "--resolve", "spica.example.org:443:127.0.0.1", "https://spica.example.org/login")

    assert 'action="/login"' in page
    stranger = machine.tried("curl", "-s", "--unix-socket", "/run/spica/web.socket", "http://x/", user="carol")
    assert stranger.returncode != 0

"""Backup, restore on a new machine, the change to MariaDB: the commands of spica-backup(7), run as they stand there.

What a copy of a database is worth is tested in test_copying.py.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from conftest import APPLICATIONS, DESCRIPTOR, ROOT, wait_until, write_exposure
from installed import Machine, machine  # noqa: F401
from services import MariaDB, mariadb  # noqa: F401

from spicad.commands.setting_up import with_option

PAGE = (ROOT / "man/spica-backup.7").read_text()
JOB = """\
name = "{name}"
exposures = ["/mnt/data/900001p.fits"]
{more}

[[task]]
application = "copy"
each = "exposure"

[end]
"""

WRAPPER = """\
#!/bin/sh
export SPICA_CONF=/etc/spica/spica.conf
exec /mnt/venv/bin/python /mnt/spica/bin/spica "$@"
"""
FOLDER = "/mnt/backup"  # which is this machine's own, as /backup is not

pytestmark = pytest.mark.slow


def commands(section: str, display: int = 0) -> list[str]:
    """Those of a section of the page, one a line, as somebody types them."""
    text = PAGE.partition(f".Sh {section}\n")[2].partition("\n.Sh ")[0]
    shown = re.findall(r"^\.Bd -literal -offset indent\n(.*?)^\.Ed", text, re.MULTILINE | re.DOTALL)[display]
    lines = re.sub(r"\\e\n\s*", " ", shown).splitlines()
    return [line.removeprefix("# ").partition("   ")[0] for line in lines]


def type_in(machine: Machine, typed: list[str]) -> str:  # noqa: F811
    said = ""
    for line in typed:
        if line.startswith("cd "):
            continue
        done = machine.run("bash", "-c", f"cd {FOLDER} && {line.replace('/backup', FOLDER)}", status=None)
        assert done.returncode == 0 or line == "spica doctor", f"{line}\n{done.stdout}\n{done.stderr}"
        said += done.stdout
    return said


@pytest.fixture(scope="module")
def old(machine: Machine) -> Machine:  # noqa: F811
    """A machine with a life behind it: a completed process, a held one, an account, a stand-in for a tool."""
    inside = Path(f"/proc/{machine.holder.pid}/root")
    write_exposure(inside / "mnt/data/900001p.fits")
    command, arguments, output = APPLICATIONS["copy"]
    text = DESCRIPTOR.format(name="copy", command=command, arguments=arguments, output=output)
    machine.write("/etc/spica/applications/copy.toml", text)
    machine.write("/mnt/keep/bin/spica", WRAPPER, mode="755")
    machine.write("/mnt/keep/answers.toml", 'archive = ["/mnt/data"]\naddress = "http://127.0.0.1:1"\n')
    machine.path = "/mnt/keep/bin"
    machine.spica("setup", "--answers", "/mnt/keep/answers.toml", "--no-mail")
    machine.spica("user", "add", "dan", "--mail", "d@example.org", "--stdin", user="spica", stdin="nine blue kettles\n")
    machine.run("chown", "spica", FOLDER)
    machine.start_daemon()
    for number, (name, more) in enumerate((("done", ""), ("waits", "not_before = 2150-01-01")), 1):
        machine.write(f"/mnt/keep/{name}.spica", JOB.format(name=name, more=more))
        machine.spica("submit", f"/mnt/keep/{name}.spica")
        wait_until(lambda n=number: phase(machine, n) == ("COMPLETED", "QUEUED")[n - 1], name)
    machine.spica("hold", "2", "--why", "the disk moves")
    wait_until(lambda: phase(machine, 2) == "HELD", "it to be held")
    return machine


def phase(machine: Machine, process: int) -> str:  # noqa: F811
    done = machine.spica("show", str(process), "--json", status=None)
    return str(json.loads(done.stdout)["phase"]) if done.returncode == 0 else ""


def test_a_backup_beside_the_daemon_comes_back_on_an_empty_machine(old: Machine):
    before = json.loads(old.spica("list", "--json").stdout)
    type_in(old, commands("BACKUP"))
    old.stop_daemon()
    old.run("bash", "-c", "rm -rf /var/spool/spica /var/lib/spica/* /etc/spica; cp -r /mnt/spica/etc /etc/spica")

    said = type_in(old, commands("RESTORE"))

    assert "wrong  daemon: spicad does not run" in said
    assert said.count("wrong  ") == 2  # neither does the site
    old.start_daemon()
    after = json.loads(old.spica("list", "--json").stdout)
    told = ("process", "name", "phase", "owner", "submitted")
    assert [[each[name] for name in told] for each in after] == [[each[name] for name in told] for each in before]
    people = json.loads(old.spica("user", "list", "--json", user="spica").stdout)
    assert [each["name"] for each in people] == ["dan"]
    assert old.run("bash", "-c", "ls /var/lib/spica/results/*/000001-done/run-1/products", status=None).stdout == ""
    old.spica("rerun", "1", "--fresh", "--watch")  # the recipe is enough
    assert "900001p.copy.fits" in old.run("bash", "-c", "ls /var/lib/spica/results/*/000001-done/run-2/products").stdout
    old.spica("release", "2")
    wait_until(lambda: phase(old, 2) == "QUEUED", "the held one to go on")
    old.spica("cancel", "2")
    wait_until(lambda: phase(old, 2) == "ABORTED", "its end")
    old.stop_daemon()


def test_the_database_becomes_mariadb_with_everything_in_it(old: Machine, mariadb: MariaDB):  # noqa: F811
    before = json.loads(old.spica("list", "--json").stdout)
    old.run("useradd", "observer")
    server = 'members = ["observer"]\n'
    server += f'database = "mariadb"\ndatabase_server = "{mariadb.socket}"\ndatabase_name = "moved"\n'
    answers = old.read("/mnt/keep/answers.toml") + server
    old.write("/mnt/keep/maria.toml", answers)
    copy = commands("FROM SQLITE TO MARIADB, OR BACK")[-1]
    url = f"mysql://moved@localhost/moved?socket={mariadb.socket}"

    first = old.spica("setup", "--answers", "/mnt/keep/maria.toml", "--no-mail").stdout
    old.stop_daemon()
    said = type_in(old, [copy.replace("mysql://spica@localhost/spica", f"'{url}'")])
    written = re.search(r'\[database\]: url = "(.*)"', said)
    assert written
    conf = with_option(old.read(old.conf), "database", "url", written[1])
    conf = with_option(conf, "database", "password_file", "database.password")
    old.write(old.conf, conf)
    old.spica("setup", "--answers", "/mnt/keep/maria.toml", "--no-mail")

    assert "spica database copy" in first
    assert f"and {url} hold the same." in said
    old.start_daemon()
    assert json.loads(old.spica("list", "--json", user="spica").stdout) == before
    assert len(json.loads(old.spica("list", "--json", user="observer").stdout)) == len(before)
    assert old.run("cat", "/etc/spica/database.password", user="observer", status=None).returncode == 1
    found = json.loads(old.spica("doctor", "--json", status=None).stdout)
    assert [each["words"] for each in found if each["state"] == "wrong"] == [
        "http://127.0.0.1:1 does not answer: [Errno 111] Connection refused"
    ]
    assert any(each["words"].startswith("mysql://moved@localhost/moved") for each in found)


def test_every_command_of_the_page_is_one_that_is_tried_here():
    shown = re.findall(r"^# ((?:\S+ )?\S*spica.*)$", PAGE, re.MULTILINE)

    tried = [
        *commands("BACKUP"),
        *commands("RESTORE"),
        *commands("RESTORE", 1),
        *commands("FROM SQLITE TO MARIADB, OR BACK"),
    ]
    for line in shown:
        assert any(line.removesuffix(" \\e").split("  ")[0] in each for each in tried), line

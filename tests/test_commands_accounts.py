"""`spica user` and `spica group`: the first Administrator, the groups, and what they leave in the audit trail.

The same on the pages of the site is told in test_site_security.py.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import COMPILED, ROOT
from services import mariadb  # noqa: F401
from site_world import Browser

from spicad import accounts, config, tables
from spicad.tables import Account, Audit
from spicaweb.app import make_app

pytestmark = pytest.mark.slow

CONF = '[database]\nurl = "{url}"\n[web]\naddress = "https://spica.example.org"\n'
PASSWORD = "umbrella tango 44 quartz"


class Machine:
    def __init__(self, folder: Path, url: str = "") -> None:
        self.conf = folder / "etc/spica.conf"
        self.conf.parent.mkdir()
        self.conf.write_text(CONF.format(url=url))

    def spica(self, *arguments: str, status: int = 0, stdin: str = "") -> str:
        """Both streams."""
        command = [sys.executable, str(ROOT / "bin/spica"), "--config", str(self.conf), *arguments]
        done = subprocess.run(
            command, input=stdin, capture_output=True, text=True, check=False, env={**os.environ, **COMPILED}
        )
        assert done.returncode == status, done.stdout + done.stderr
        return done.stdout + done.stderr

    def add(self, name: str, *options: str, status: int = 0, password: str = PASSWORD) -> str:
        options = ("--mail", f"{name}@example.org", "--stdin", *options)
        return self.spica("user", "add", name, *options, stdin=f"{password}\n", status=status)

    def open(self) -> None:
        settings = config.load(self.conf)
        tables.connect(settings.database.url)


@pytest.fixture(params=["sqlite", "mariadb"])
def machine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Machine]:
    yield Machine(tmp_path, request.getfixturevalue("mariadb").url("machine") if request.param == "mariadb" else "")
    if tables.database.obj is not None:
        tables.database.close()


def test_the_first_administrator_is_made_on_the_machine_and_logs_in(machine: Machine) -> None:
    assert "spica user add" in machine.spica("user", "list", status=3)
    machine.spica("group", "load", str(ROOT / "etc/examples/groups.toml"))

    said = machine.add("dan", "--administrator", "--group", "galaxies", "--full-name", "Dan Dale")

    assert said == "account dan: administrator in galaxies\n"
    browser = Browser(make_app(config.load(machine.conf)))
    assert browser.log_in("dan", PASSWORD).status == 303
    assert browser.get("/accounts").status == 200
    (record,) = json.loads(machine.spica("user", "list", "--json"))
    assert record == {
        "name": "dan",
        "full_name": "Dan Dale",
        "mail": "dan@example.org",
        "group": "galaxies",
        "rank": "administrator",
        "state": "active",
        "owner": "dan@web",
    }


def test_there_is_no_password_by_default_and_no_weak_one(machine: Machine) -> None:
    assert "at least 12 characters" in machine.add("dan", password="", status=1)
    assert "tried first" in machine.add("dan", password="password1234", status=1)
    assert "no terminal to ask" in machine.spica("user", "add", "dan", "--mail", "dan@example.org", status=1)
    assert "no account yet" in machine.spica("user", "list", status=3)


def test_what_is_wrong_with_an_account_is_said(machine: Machine) -> None:
    machine.add("dan")

    assert "is taken" in machine.add("dan", status=1)
    assert "small letters" in machine.add("Dan.Dale-", status=1)
    assert "is reserved" in machine.add("root", status=1)
    assert "belongs to another account" in machine.spica(
        "user", "add", "erin", "--mail", "DAN@example.org", "--stdin", stdin=f"{PASSWORD}\n", status=1
    )
    assert "not a mail address" in machine.spica("user", "add", "erin", "--mail", "erin", "--stdin", status=1)
    assert "There is no group lensing" in machine.add("erin", "--group", "lensing", status=1)
    assert "There is no Unix user" in machine.add("erin", "--unix", "no-such-user", status=1)
    assert "there is no account erin" in machine.spica("user", "suspend", "erin", status=3)


def test_an_account_tied_to_a_unix_user_owns_what_that_user_owns(machine: Machine) -> None:
    machine.add("dan", "--unix", "daemon")

    (record,) = json.loads(machine.spica("user", "list", "--json"))
    assert record["owner"] == "daemon"
    assert "has an account already" in machine.add("erin", "--unix", "daemon", status=1)


def test_a_password_is_set_and_accounts_are_suspended_and_restored(machine: Machine) -> None:
    machine.add("dan")
    app = make_app(config.load(machine.conf))
    browser = Browser(app)
    browser.log_in("dan", PASSWORD)

    machine.spica("user", "password", "dan", "--stdin", stdin="quartz 44 tango umbrella\n")
    assert browser.get("/account").status == 303
    assert Browser(app).log_in("dan", PASSWORD).status == 401
    assert Browser(app).log_in("dan", "quartz 44 tango umbrella").status == 303
    machine.spica("user", "suspend", "dan")
    assert Browser(app).log_in("dan", "quartz 44 tango umbrella").status == 401
    assert "is suspended" in machine.spica("user", "suspend", "dan", status=1)
    machine.spica("user", "restore", "dan")
    assert Browser(app).log_in("dan", "quartz 44 tango umbrella").status == 303

    machine.open()
    who = {row.who for row in Audit.select().where(Audit.verb.in_(["suspended", "restored", "password set"]))}
    assert len(who) == 1
    assert who.pop().startswith("unix:")


def test_groups_are_loaded_once_filled_and_listed(machine: Machine) -> None:
    examples = str(ROOT / "etc/examples/groups.toml")
    assert "group lensing" in machine.spica("group", "load", examples)
    assert machine.spica("group", "load", examples) == ""
    machine.spica("group", "add", "quasars", "--title", "Quasars")
    machine.add("gina", "--group", "lensing", "--group-administrator")
    machine.add("alice")
    machine.spica("group", "join", "lensing", "alice")
    machine.spica("group", "join", "quasars", "alice", "--administrator")

    groups = {each["name"]: each for each in json.loads(machine.spica("group", "list", "--json"))}

    assert {"solar-system", "lensing", "galaxies"} <= set(groups)
    assert (groups["lensing"]["members"], groups["lensing"]["administrators"]) == (2, ["gina"])
    assert groups["quasars"]["administrators"] == ["alice"]
    machine.open()
    assert Account.get(Account.name == "alice").group == "lensing"
    machine.spica("group", "leave", "lensing", "alice")
    machine.open()
    assert Account.get(Account.name == "alice").group == "quasars"
    assert "is not in lensing" in machine.spica("group", "leave", "lensing", "alice", status=1)
    assert "there is no group none" in machine.spica("group", "join", "none", "alice", status=3)


def test_a_file_of_groups_that_is_wrong_names_the_line(machine: Machine, tmp_path: Path) -> None:
    path = tmp_path / "groups.toml"
    path.write_text('[[group]]\nname = "lensing"\ntitel = "Lensing"\n')

    said = machine.spica("group", "load", str(path), status=2)

    assert 'groups.toml, line 3: unknown key "titel"' in said


def test_a_lost_file_of_accounts_is_made_anew_and_the_rest_stays(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    machine.add("dan")
    for path in (tmp_path / "spool").glob("spica-accounts.db*"):
        path.unlink()

    assert "no account yet" in machine.spica("user", "list", status=3)
    machine.add("dan", "--administrator")
    machine.open()
    assert [each.name for each in accounts.administrators()] == ["dan"]


def test_the_site_may_have_its_own_way_into_the_database(mariadb, tmp_path: Path) -> None:  # type: ignore[no-untyped-def] # noqa: F811
    """With rights on what it needs alone: it reads processes, and writes accounts."""
    url = mariadb.url("least")
    machine = Machine(tmp_path, url)
    machine.add("dan", "--administrator")
    page = (ROOT / "man/spica.conf.5").read_text()
    grants = [line.replace("spica.", "least.") for line in page.splitlines() if line.startswith("GRANT")]
    assert len(grants) > 3
    mariadb.execute("CREATE USER 'spica_site'@'localhost' IDENTIFIED BY 'site'", *grants)
    own = f"mysql://spica_site:site@localhost/least?socket={mariadb.socket}"
    machine.conf.write_text(CONF.format(url="mysql://nobody:none@localhost/none") + f'database = "{own}"\n')

    browser = Browser(make_app(config.load(machine.conf)))

    assert browser.log_in("dan", PASSWORD).status == 303
    for path in ("/", "/account", "/groups", "/requests", "/accounts", "/audit", "/processes", "/daemon"):
        assert browser.get(path).status == 200, path
    assert browser.post("/groups", name="quasars", title="Quasars").status == 303

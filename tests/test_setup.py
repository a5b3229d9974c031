"""`spica setup`: the answers, spica.conf as it edits it, and the whole of it on a machine of its own, twice.

What `spica doctor` says of the result is tested here too where it needs that machine; the rest in test_doctor.py.
"""

from __future__ import annotations

import getpass
import grp
import json
import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import peewee
import psutil
import pytest
from conftest import COMPILED, ROOT, wait_until
from installed import Machine, machine  # noqa: F401
from services import MariaDB, mariadb, missing  # noqa: F401
from site_world import Site, account, people_the_world

from spicad import config, tables
from spicad.accounts import person_of
from spicad.archive import grades
from spicad.commands import checks, setting_up
from spicad.commands.setting_up import ANSWERS, answers_from, current, with_option
from spicad.commands.snippets import SERVERS, TEXTS, snippet
from spicad.commands.tables import may_change, open_tables
from spicad.tables import Exposure, Process
from spicad.words import BadInput
from spicaweb.app import make_app

SAMPLE = (ROOT / "etc/spica.conf").read_text()
ANSWERED = """\
members = ["{member}"]
archive = ["/mnt/data"]
address = "https://spica.example.org/reduce"
web_server = "nginx"
administrator = "dan"
administrator_mail = "dan@example.org"
administrator_password_file = "/mnt/keep/password"
"""
PASSWORD = "nine blue kettles sing"


@pytest.fixture(autouse=True)
def tables_closed_afterwards() -> Iterator[None]:
    """Other tests of this process must not find them open."""
    yield
    for proxy in (tables.database, tables.private):
        if proxy.obj is not None and not proxy.obj.is_closed():
            proxy.obj.close()
        proxy.initialize(None)


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def usual() -> dict[str, object]:
    return {key.name: key.default for key in ANSWERS}


# ---------------------------------------------------------------------- answers


def test_a_file_of_answers_is_read_over_what_is_there(tmp_path: Path):
    path = tmp_path / "answers.toml"
    path.write_text('user = "reducer"\n')

    answers = answers_from(path, usual() | {"relay": "mail.example.org"})

    assert (answers["user"], answers["relay"], answers["group"]) == ("reducer", "mail.example.org", "spica")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('user = "Spica!"', "no name of a Unix user"),
        ('adress = "https://x.org"', 'Did you mean "address"?'),
        ('address = "spica.example.org"', "For example: https://spica.example.org"),
        ('administrator = "dan"', "needs a mail address"),
        ('web_server = "nginx"', "without an address"),
        ('database = "oracle"', "must be one of sqlite, mariadb"),
        ('site_user = "apache"', "with SQLite the site runs as the daemon's user"),
        ('database_name = "spica`; DROP"', "small letters"),
    ],
)
def test_a_wrong_answer_is_named_with_its_line_and_its_mend(tmp_path: Path, line: str, said: str):
    path = tmp_path / "answers.toml"
    path.write_text(f"# answers\n{line}\n")

    with pytest.raises(BadInput) as caught:
        answers_from(path, usual())

    assert f"{path}, line 2: " in str(caught.value)
    assert said.lower() in str(caught.value).lower()


def test_what_stands_in_spica_conf_is_the_usual_answer(tmp_path: Path):
    path = tmp_path / "spica.conf"
    path.write_text('[mail]\nrelay = "mx.example.org"\nsecurity = "tls"\n[web]\naddress = "https://s.example.org"\n')

    answers = current(config.load(path))

    assert (answers["relay"], answers["relay_security"]) == ("mx.example.org", "tls")
    assert answers["address"] == "https://s.example.org"


# ---------------------------------------------------------------------- spica.conf


def test_an_option_takes_the_place_of_its_default_and_nothing_else_changes():
    text = with_option(SAMPLE, "web", "address", "https://spica.example.org")

    changed = [pair for pair in zip(SAMPLE.split("\n"), text.split("\n"), strict=True) if pair[0] != pair[1]]
    assert changed == [('#address = ""', 'address = "https://spica.example.org"')]


def test_an_option_that_was_written_by_hand_is_replaced_also_over_several_lines():
    before = '[paths]\narchive = [\n  "/a",  # old\n  "/b",\n]\nspool = "/s"\n\n[mail]\nrelay = "x"\n'

    text = with_option(before, "paths", "archive", ["/data"])

    assert text == '[paths]\narchive = ["/data"]\nspool = "/s"\n\n[mail]\nrelay = "x"\n'


def test_an_option_of_the_same_name_in_another_section_stays():
    text = with_option('[web]\nuser = "a"\n[mail]\nuser = "b"\n', "mail", "user", "c")

    assert text == '[web]\nuser = "a"\n[mail]\nuser = "c"\n'


def test_a_section_that_is_missing_is_added():
    assert with_option("", "web", "user", "apache").strip() == '[web]\nuser = "apache"'


def test_what_is_the_default_already_needs_no_line():
    assert with_option(SAMPLE, "mail", "security", "starttls") == SAMPLE


# ---------------------------------------------------------------------- the web server's lines


MODULES = Path("/usr/lib/apache2/modules")  # of Debian


def server_files(folder: Path, server: str, lines: str, port: int) -> list[str]:
    """A server's own configuration around the lines of setup; the command that runs it in the foreground."""
    (folder / "site.conf").write_text(lines)
    names = ("mpm_event", "alias", "env", "cgid", "proxy", "proxy_http", "authz_core")
    loaded = "".join(f"LoadModule {name}_module {MODULES}/mod_{name}.so\n" for name in names)
    at = f"127.0.0.1:{port}"
    whole = {
        "httpd": f"{loaded}ServerRoot {folder}\nServerName x\nListen {at}\n"
        "ErrorLog log\nPidFile pid\nInclude site.conf\n",
        "lighttpd": f'server.document-root = "{folder}"\nserver.bind = "127.0.0.1"\nserver.port = {port}\n'
        f'server.errorlog = "{folder}/log"\ninclude "{folder}/site.conf"\n',
        "nginx": f"daemon off;\nevents {{}}\npid {folder}/pid;\nerror_log {folder}/log;\n"
        f"http {{ access_log off; server {{ listen {at}; include {folder}/site.conf; }} }}\n",
    }[server]
    (folder / "server.conf").write_text(whole)
    program, *words = {
        "httpd": ["apache2", "-D", "FOREGROUND", "-f"],
        "lighttpd": ["lighttpd", "-D", "-f"],
        "nginx": ["nginx", "-c"],
    }[server]
    found = shutil.which(program, path="/usr/sbin:/usr/bin:/sbin")
    if not found or (server == "httpd" and not MODULES.is_dir()):
        missing(program)
    return [str(found), *words, str(folder / "server.conf")]


@pytest.mark.parametrize("path", ["", "/reduce"])
@pytest.mark.parametrize(("server", "way"), TEXTS)
def test_the_lines_for_a_web_server_are_taken_by_it(tmp_path: Path, server: str, way: str, path: str):
    (tmp_path / "spica.conf").write_text(f'[web]\naddress = "https://spica.example.org{path}"\n')
    lines = snippet(server, way, config.load(tmp_path / "spica.conf"), ROOT / "web/spica.cgi")
    command = server_files(tmp_path, server, lines, 1)
    only_look = {"httpd": ["-t"], "lighttpd": ["-tt"], "nginx": ["-t"]}[server]
    program, *rest = [word for word in command if word not in ("-D", "FOREGROUND")]

    done = subprocess.run([program, *only_look, *rest], capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr + lines


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, int]]:
    """An installation with `spica serve` behind a port that belongs to no web server yet."""
    folder = tmp_path_factory.mktemp("served")
    port, listen = free_port(), free_port()
    conf = folder / "spica.conf"
    conf.write_text(
        f'[web]\naddress = "http://127.0.0.1:{port}/reduce"\nlisten = "127.0.0.1:{listen}"\nproxy = "127.0.0.1"\n'
    )
    log = folder / "site.log"
    command = [sys.executable, str(ROOT / "bin/spica"), "--config", str(conf), "serve"]
    with log.open("wb") as opened:
        site = subprocess.Popen(command, stdout=opened, stderr=opened, env={**os.environ, **COMPILED})
    wait_until(lambda: "The site is on" in log.read_text() or site.poll() is not None, "the site")
    yield conf, port
    site.terminate()
    site.wait(20)


@pytest.mark.slow
@pytest.mark.parametrize(("server", "way"), [*((each, "proxy") for each in SERVERS), ("lighttpd", "cgi")])
def test_the_site_answers_behind_a_web_server_with_these_lines(
    tmp_path: Path, served: tuple[Path, int], server: str, way: str
):
    """The socket is systemd's; httpd started by root runs no CGI without a user of its own."""
    conf, port = served
    settings = config.load(conf)
    command = server_files(tmp_path, server, snippet(server, way, settings, ROOT / "web/spica.cgi"), port)
    running = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        found: list[tuple[str, str, str]] = []

        def answers() -> bool:
            assert running.poll() is None
            found[:] = list(checks._answers(settings.web.address))
            return found[0][0] == checks.OK

        wait_until(answers, f"{server} to answer")
    finally:
        running.terminate()
        running.wait(20)

    assert found == [("ok", f"{settings.web.address} answers", "")]


# ---------------------------------------------------------------------- a machine, with SQLite


@pytest.mark.slow
def test_a_bare_machine_becomes_one_that_runs_spica(machine: Machine):  # noqa: F811
    machine.run("useradd", "observer")
    machine.write("/mnt/keep/password", PASSWORD + "\n", mode="600")
    machine.write("/mnt/keep/answers.toml", ANSWERED.format(member="observer"))

    first = machine.spica("setup", "--answers", "/mnt/keep/answers.toml")
    conf = machine.read(machine.conf)
    second = machine.spica("setup", "--answers", "/mnt/keep/answers.toml")

    stat = machine.run(
        "stat", "-c", "%a %U %G", "/var/spool/spica/incoming", "/var/spool/spica/queued", "/var/lib/spica/results"
    )
    assert stat.stdout.splitlines() == ["3770 spica spica", "750 spica spica", "755 spica spica"]
    assert "spica" in machine.run("id", "-nG", "observer").stdout.split()
    assert machine.run("stat", "-c", "%a %U", "/var/spool/spica/spica-accounts.db").stdout.split() == ["600", "spica"]
    people = json.loads(machine.spica("user", "list", "--json", user="spica").stdout)
    assert [(each["name"], each["rank"], each["mail"]) for each in people] == [
        ("dan", "administrator", "dan@example.org")
    ]
    assert PASSWORD not in first.stdout + first.stderr + conf
    assert "Maildir /var/spool/spica/mail has taken a mail for dan@example.org" in first.stdout
    assert "location /reduce/ {" in machine.read("/etc/spica/site.nginx.conf")
    # The second time nothing is another than before.
    assert machine.read(machine.conf) == conf
    assert f"{machine.conf}: as it was" in second.stdout
    assert "Administrator: dan\n" in second.stdout
    assert "made" not in second.stdout.partition("How it is now")[0]


@pytest.fixture(scope="module")
def set_up(machine: Machine) -> Machine:  # noqa: F811
    """With the answers above, whichever test comes first."""
    if machine.run("id", "observer", status=None).returncode:
        machine.run("useradd", "observer")
    machine.write("/mnt/keep/password", PASSWORD + "\n", mode="600")
    machine.write("/mnt/keep/answers.toml", ANSWERED.format(member="observer"))
    machine.spica("setup", "--answers", "/mnt/keep/answers.toml")
    return machine


@pytest.mark.slow
def test_the_machine_takes_a_job_of_a_member_of_the_group_and_doctor_is_content(set_up: Machine):
    set_up.start_daemon()
    set_up.write("/mnt/data/odd.spica", 'name = "odd"\n')
    try:
        set_up.run("cp", "/mnt/data/odd.spica", "/var/spool/spica/incoming/", user="observer")
        found = json.loads(set_up.spica("doctor", "--json", status=None).stdout)
        again = set_up.spica("setup", "--answers", "/mnt/keep/answers.toml")  # beside a living daemon
    finally:
        set_up.stop_daemon()

    wrong = [each["words"] for each in found if each["state"] == "wrong"]
    assert [words for words in wrong if "does not answer" not in words] == []  # no web server runs here
    assert len(wrong) == 1
    assert {"sandbox", "database", "tools", "spool", "daemon", "site"} <= {each["check"] for each in found}
    assert "spicad runs on it and keeps it in order" in again.stdout


@pytest.mark.slow
def test_doctor_names_what_was_spoilt_with_the_mend(set_up: Machine):
    set_up.run("chmod", "777", "/var/spool/spica/incoming")
    set_up.run("chown", "root", "/var/spool/spica/queued")
    set_up.run("chmod", "644", "/var/spool/spica/spica-accounts.db")
    set_up.run("chmod", "700", "/mnt/data")
    set_up.write("/etc/spica/spica.conf.rpmnew", "")
    set_up.run("gpasswd", "-d", "observer", "spica")

    done = set_up.spica("doctor", status=1)

    said = done.stdout
    for words in (
        "wrong  daemon: spicad does not run on /var/spool/spica",
        "wrong  spool: /var/spool/spica/incoming has the mode 2777\n              chmod 3770 /var/spool/spica/incoming",
        "wrong  spool: /var/spool/spica/queued is closed to the daemon",
        "wrong  archive: /mnt/data cannot be read by spica ([paths] archive)",
        "wrong  database: /var/spool/spica/spica-accounts.db may be read by others",
        "note   configuration: /etc/spica/spica.conf.rpmnew lies beside a file that was edited here",
    ):
        assert words in said, words
    set_up.spica("setup", "--answers", "/mnt/keep/answers.toml", status=1)  # mends what is its own to mend
    mended = set_up.spica("doctor", status=1).stdout
    assert "spool: /var/spool/spica/queued" not in mended
    assert "incoming has the mode" not in mended
    assert "observer" in set_up.run("id", "-nG", "observer").stdout
    assert "/mnt/data cannot be read" in mended  # an archive is not Spica's to open


@pytest.mark.slow
def test_setup_as_root_follows_no_link_that_the_daemons_user_has_made(set_up: Machine):
    set_up.write("/mnt/keep/roots/own", "precious")
    set_up.run("bash", "-c", "rm -r /var/spool/spica/tmp && ln -s /mnt/keep/roots /var/spool/spica/tmp", user="spica")

    done = set_up.spica("setup", "--answers", "/mnt/keep/answers.toml", status=1)

    assert "/var/spool/spica/tmp is not given to spica" in done.stderr
    assert set_up.read("/mnt/keep/roots/own") == "precious"
    assert set_up.run("stat", "-c", "%U", "/mnt/keep/roots").stdout == "root\n"
    set_up.run("rm", "/var/spool/spica/tmp")
    set_up.spica("setup", "--answers", "/mnt/keep/answers.toml", status=None)
    assert set_up.run("stat", "-c", "%U %a", "/var/spool/spica/tmp").stdout == "spica 750\n"


@pytest.mark.slow
def test_doctor_says_so_when_the_daemons_user_cannot_even_read_the_configuration(set_up: Machine):
    set_up.run("chmod", "600", set_up.conf)
    try:
        found = json.loads(set_up.spica("doctor", "--json", status=1).stdout)
        own = set_up.spica("doctor", "--part", "daemon", user="spica", status=1)
    finally:
        set_up.run("chmod", "644", set_up.conf)

    wrong = {each["check"]: each for each in found if each["state"] == "wrong"}
    assert "Spica cannot be run by spica" in wrong["daemon"]["words"] + wrong["site"]["words"]
    assert f"spica must be able to read {set_up.conf}" in wrong["site"]["mend"]
    assert "the configuration cannot be read" in own.stderr


def test_setup_for_another_user_needs_root(tmp_path: Path):
    if os.geteuid() != 0:
        pytest.skip("this is seen from root")
    shutil.copytree(ROOT / "etc", tmp_path / "etc")
    plan = setting_up.Plan(config.load(tmp_path / "etc/spica.conf"), usual() | {"user": "spica"}, "")

    def nobody() -> int:
        return 65534

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "geteuid", nobody)
        with pytest.raises(Exception, match="only root can set Spica up for the user spica"):
            list(setting_up.carried_out(plan))


def test_without_a_terminal_nothing_is_asked(tmp_path: Path):
    shutil.copytree(ROOT / "etc", tmp_path / "etc")
    command = [sys.executable, str(ROOT / "bin/spica"), "--config", str(tmp_path / "etc/spica.conf"), "setup"]

    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)

    assert done.returncode == 1
    assert "--answers FILE" in done.stderr


class Terminal:
    def isatty(self) -> bool:
        return True


def test_questions_are_asked_again_until_the_answer_can_be_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from spicad.commands import setup

    to_the_site = [""] * 6
    about_the_site = ["spica.org", "https://spica.org", "", "", "d", "d@x.org", "dan"]
    said = iter(["Reducer!", "", "", "alice bob", *to_the_site, *about_the_site])
    monkeypatch.setattr("builtins.input", lambda question: next(said))
    monkeypatch.setattr(sys, "stdin", Terminal())

    answers = setup._asked(usual())

    assert answers["user"] == "spica"
    assert answers["members"] == ["alice", "bob"]
    assert (answers["address"], answers["administrator"]) == ("https://spica.org", "dan")


# ---------------------------------------------------------------------- MariaDB


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """An installation below a folder, for whoever runs the tests."""
    shutil.copytree(ROOT / "etc", tmp_path / "etc/spica")
    return tmp_path / "etc/spica/spica.conf"


def answered(place: Path, mariadb: MariaDB, **more: object) -> subprocess.CompletedProcess[str]:  # noqa: F811
    lines = {
        "user": getpass.getuser(),
        "group": "",
        "database": "mariadb",
        "database_server": str(mariadb.socket),
        "database_name": "spica_setup",
        **more,
    }
    answers = place.parent / "answers.toml"
    answers.write_text("".join(f"{name} = {json.dumps(value)}\n" for name, value in lines.items()))
    return spica(place, "setup", "--answers", str(answers), "--no-mail")


def spica(place: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "bin/spica"), "--config", str(place), *words]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_mariadb_gets_two_accounts_that_may_no_more_than_they_need(place: Path, mariadb: MariaDB):  # noqa: F811
    import pymysql

    first = answered(place, mariadb, address="http://127.0.0.1:1")
    passwords = [(place.parent / name).read_text() for name in ("database.password", "site.password")]
    second = answered(place, mariadb, address="http://127.0.0.1:1")

    assert (first.returncode, second.returncode) == (0, 0), first.stdout + first.stderr + second.stderr
    before = place.read_text()
    again = spica(place, "setup", "--yes", "--no-mail")
    assert place.read_text() == before, again.stderr
    assert "database mysql://spica_setup@localhost/spica_setup" in again.stdout
    assert "its password is in" not in again.stdout  # what works is left alone
    assert [(place.parent / name).read_text() for name in ("database.password", "site.password")] == passwords
    settings = config.load(place)
    assert settings.database.url == f"mysql://spica_setup@localhost/spica_setup?socket={mariadb.socket}"
    assert "schema" in first.stdout
    assert "spica_setup_web@localhost: reads all tables" in second.stdout

    def asked(account: str, password: str, *statements: str) -> list[str]:
        refused = []
        with (
            pymysql.connect(
                unix_socket=str(mariadb.socket),
                user=account,
                password=password.strip(),
                database="spica_setup",
                autocommit=True,
            ) as connection,
            connection.cursor() as cursor,
        ):
            for statement in statements:
                try:
                    cursor.execute(statement)
                except pymysql.err.MySQLError as error:
                    refused.append(f"{statement}: {error.args[0]}")
        return [re.sub(r":.*", "", each) for each in refused]

    site = asked(
        "spica_setup_web", passwords[1],
        "SELECT * FROM process", "SELECT * FROM account", "DELETE FROM session", "DELETE FROM grading",
        "UPDATE exposure SET graded_by = graded_by WHERE id = 1", "UPDATE exposure SET seeing = 1",
        "UPDATE quality SET is_graded = 1", "UPDATE quality SET grade = 'A'",
        "UPDATE process SET rank = 3", "DELETE FROM event", "DELETE FROM audit", "DROP TABLE audit",
        "CREATE TABLE x (a INT)", "SELECT * FROM mysql.user",
    )  # fmt: skip
    daemon = asked(
        "spica_setup", passwords[0], "DELETE FROM event", "SELECT * FROM mysql.user", "DROP DATABASE spica_setup"
    )
    assert site == [
        "DELETE FROM grading",
        "UPDATE exposure SET seeing = 1",
        "UPDATE quality SET grade = 'A'",
        "UPDATE process SET rank = 3",
        "DELETE FROM event",
        "DELETE FROM audit",
        "DROP TABLE audit",
        "CREATE TABLE x (a INT)",
        "SELECT * FROM mysql.user",
    ]
    assert daemon == ["SELECT * FROM mysql.user", "DROP DATABASE spica_setup"]


@pytest.mark.slow
def test_members_of_the_group_read_by_an_account_that_only_reads(place: Path, mariadb: MariaDB):  # noqa: F811
    group = grp.getgrgid(os.getegid())
    answered(place, mariadb)
    daemons = place.parent / "database.password"
    daemons.chmod(0o640)  # as setup left it once
    os.chown(daemons, -1, group.gr_gid)
    place.write_text(with_option(place.read_text(), "daemon", "group", group.gr_name))
    assert [(state, mend) for state, _, mend in checks._open_to_the_group(config.load(place))] == [
        ("wrong", "spica setup")
    ]

    done = answered(place, mariadb, group=group.gr_name)
    again = answered(place, mariadb, group=group.gr_name)

    assert (done.returncode, again.returncode) == (0, 0), done.stderr + again.stderr
    assert f"{place}: as it was" in again.stdout
    modes = {
        name: (place.parent / f"{name}.password").stat().st_mode & 0o777 for name in ("database", "site", "readers")
    }
    assert modes == {"database": 0o600, "site": 0o600, "readers": 0o640}
    settings = config.load(place)
    assert not list(checks._open_to_the_group(settings))
    daemons.rename(daemons.with_name("hidden"))  # as for somebody who may not read it
    assert not may_change(settings)
    with open_tables(settings):
        assert Process.select().count() == 0
        for statement in ("SELECT * FROM account", "SELECT * FROM session", "UPDATE process SET rank = 3"):
            with pytest.raises(peewee.OperationalError, match="denied"):
                tables.database.execute_sql(statement)
    assert "there is no process yet" in spica(place, "list").stderr
    refused = spica(place, "user", "add", "mallory", "--mail", "m@example.org", "--administrator", "--stdin")
    assert refused.returncode != 0
    assert "database.password" in refused.stderr
    assert not list(checks._readers(settings))
    mariadb.execute("REVOKE SELECT ON spica_setup.exposure FROM spica_setup_read@localhost")
    assert list(checks._readers(settings)) == [
        ("wrong", "the account of readers may not read exposure", "spica setup --yes --no-mail")
    ]


@pytest.mark.slow
def test_the_site_works_with_its_own_account(place: Path, mariadb: MariaDB):  # noqa: F811
    """Logging in, pages, a draft, a grade: all with the rights that setup gave, and doctor misses none."""
    answered(place, mariadb, address="https://spica.example.org")
    settings = config.load(place)
    tables.connect(settings.database.url, settings.database.password_file)
    people_the_world()
    exposure = Exposure.create(
        obs_id="1",
        name="1.fits",
        node="n",
        path="/1.fits",
        path_key="1",
        sha256="0",
        bytes=1,
        mtime_ns=1,
        registered=1.0,
    )
    site = Site.__new__(Site)  # whose world is made already
    site.settings, site.app = settings, make_app(settings)
    tables.database.connect(reuse_if_open=True)

    visitor = site.visitor()

    assert visitor.log_in("alice").status == 303
    for path in ("/", "/processes", "/daemon", "/archive", "/new", "/groups", "/account", "/configurations", "/grades"):
        assert visitor.get(path).status == 200, path
    assert visitor.post("/new", name="mine", group="lensing").status in (200, 303)
    tables.database.connect(reuse_if_open=True)
    grades.give(person_of(account("alice")), [exposure.id], "B", ("defocus",))
    assert Exposure.get_by_id(exposure.id).grade == "B"
    grants = checks._grants(tables.database)
    assert checks._not_granted(grants, tables.SITE_WRITES) == []
    assert "account" in checks._not_granted([line for line in grants if "account" not in line], tables.SITE_WRITES)


@pytest.mark.slow
def test_accounts_that_were_made_by_hand_keep_their_names_and_passwords(place: Path, mariadb: MariaDB):  # noqa: F811
    url = mariadb.url("by_hand")  # of an account called spica, with its password in the address
    mariadb.execute(
        "CREATE USER IF NOT EXISTS 'clerk'@'%' IDENTIFIED BY 'of the site'", "GRANT SELECT ON by_hand.* TO 'clerk'@'%'"
    )
    (place.parent / "clerk").write_text("of the site\n")
    (place.parent / "clerk").chmod(0o600)
    site = f"mysql://clerk@localhost/by_hand?socket={mariadb.socket}"
    more = {("database", "url"): url, ("web", "database"): site, ("web", "password_file"): "clerk"}
    for (section, name), value in more.items():
        place.write_text(with_option(place.read_text(), section, name, value))

    config.load(place).paths.spool.mkdir(parents=True)  # of whoever runs this: no user is made for a test

    done = spica(place, "setup", "--yes", "--no-mail")

    assert done.returncode == 0, done.stderr
    assert "account clerk@%: reads all tables" in done.stdout
    assert config.load(place).database.url == url
    assert not (place.parent / "database.password").exists()


@pytest.mark.slow
def test_a_database_in_use_is_not_left_behind_without_a_word(place: Path, mariadb: MariaDB):  # noqa: F811
    command = [sys.executable, str(ROOT / "bin/spica"), "--config", str(place), "database", "upgrade"]
    subprocess.run(command, check=True, capture_output=True)

    done = answered(place, mariadb, database_name="spica_late")

    assert "it is in use" in done.stdout
    assert "spica database copy 'mysql://spica_late@localhost/spica_late?socket=" in done.stdout
    assert config.load(place).database.url.startswith("sqlite:")


def test_a_daemon_that_is_older_than_its_program_is_told_apart():
    """By the start of the process, not by the age of its entry in /proc, which begins when somebody looks."""
    assert not checks._is_older_than_the_program(os.getpid())
    assert checks.began(1) < checks.began(os.getpid())
    assert abs(checks.began(os.getpid()) - psutil.Process().create_time()) < 2

"""What `spica setup` does with its answers: users, folders, database, spica.conf, first Administrator, web server.

Each part looks first and does what is missing, so that all of it can be done again. Nothing is ever taken away.
"""

from __future__ import annotations

import grp
import json
import os
import pwd
import re
import secrets
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spicad import config, tables
from spicad.commands import mariadb, units
from spicad.commands.doctor import as_user
from spicad.commands.snippets import CGI, PROXY, SERVERS, SOCKET, snippet
from spicad.config import Settings
from spicad.durable import replace_file
from spicad.outbox import address_problem
from spicad.schema import Document, Key, as_toml, checked, read_toml
from spicad.words import BadInput, Problem, SpicaError

NAME = re.compile(r"[a-z_][a-z0-9_-]{0,31}")
DATABASE_NAME = re.compile(r"[a-z][a-z0-9_]{0,31}")
SITE_USERS = {"httpd": ("apache", "www-data"), "lighttpd": ("lighttpd", "www-data"), "nginx": ("nginx", "www-data")}
NO_SHELLS = ("/usr/sbin/nologin", "/sbin/nologin", "/bin/false")
CGI_PLACES = ("share/spica/spica.cgi", "libexec/spica/spica.cgi")
# Of all tables; the site's account writes the private ones and what people say of exposures, and reads the others.
SITE_GRANTS = "SELECT, INSERT, UPDATE, DELETE"

ANSWERS = (
    Key("user", "text", "spica", "The Unix user that spicad runs as"),
    Key("group", "text", "spica", "The Unix group of those who may drop job files and read results"),
    Key("members", "list of texts", [], "Unix users to put into that group"),
    Key("spool", "text", "", "The spool folder; empty: the usual one"),
    Key("results", "text", "", "The results folder; empty: the usual one"),
    Key("archive", "list of texts", [], "Folders that exposures may come from"),
    Key("database", "text", "sqlite", "The database", choices=("sqlite", "mariadb")),
    Key("database_server", "text", "localhost", "MariaDB's HOST, HOST:PORT or socket"),
    Key("database_name", "text", "spica", "The name of the database there"),
    Key("database_root", "text", "root", "An account there that may make databases and accounts"),
    Key("database_root_password_file", "text", "", "File that holds its password; empty: it needs none"),
    Key("relay", "text", "", "The SMTP relay for reports, HOST or HOST:PORT; empty: mail stays on this machine"),
    Key("relay_security", "text", "starttls", "How the relay is talked to", choices=("none", "starttls", "tls")),
    Key("sender", "text", "", "The address that reports come from; empty: spica@ this host"),
    Key("address", "text", "", "The address of the web site, https://HOST/PATH; empty: no site"),
    Key("web_server", "text", "", "The web server before it; empty: none, spica serve answers", ("", *SERVERS)),
    Key("site_user", "text", "", "The Unix user that the site runs as; empty: the daemon's, behind spica serve"),
    Key("administrator_mail", "text", "", "Mail address of the first Administrator of the site"),
    Key("administrator", "text", "", "The Administrator's user name; empty: none is made"),
    Key("administrator_password_file", "text", "", "File that holds the first password; empty: a new one is shown"),
)


@dataclass(frozen=True)
class Plan:
    settings: Settings  # as they were before
    answers: Mapping[str, Any]
    password: str  # of the first Administrator; '': a random one is made

    @property
    def is_root(self) -> bool:
        return os.geteuid() == 0

    @property
    def site_user(self) -> str:
        """'' when it is the daemon's."""
        named = self.answers["site_user"]
        return "" if named == self.answers["user"] else str(named)


# ---------------------------------------------------------------------- answers


def current(settings: Settings) -> dict[str, Any]:
    """The answers that would leave everything as it is; where nothing is set up yet, the usual ones."""
    spool, url = settings.paths.spool, settings.database.url
    is_new = not spool.exists() and os.geteuid() == 0  # whose spool it is has been decided otherwise
    me = pwd.getpwuid(os.geteuid()).pw_name
    user = spool.owner() if spool.exists() else "spica" if is_new else me
    usual = {key.name: key.default for key in ANSWERS}
    found = {
        "user": user,
        "group": settings.daemon.group or ("spica" if is_new else ""),
        "archive": [str(each) for each in settings.paths.archive],
        "database": "sqlite" if url.startswith("sqlite:") else "mariadb",
        "relay": settings.mail.relay,
        "relay_security": settings.mail.security,
        "address": settings.web.address,
        "site_user": settings.web.user,
    }
    return usual | found | ({} if url.startswith("sqlite:") else mariadb.answers_of(url))


def answers_from(given: Path | Mapping[str, Any], usual: Mapping[str, Any]) -> dict[str, Any]:
    """Those of a TOML file over the usual ones. Raises BadInput naming each wrong line."""
    if isinstance(given, Path):
        try:
            document = read_toml(given.read_text(encoding="utf-8"), str(given))
        except (OSError, UnicodeDecodeError) as error:
            raise SpicaError(f"{given}: the answers cannot be read: {error}") from None
    else:
        document = Document("the answers", "", dict(given))
    document.table.update({name: value for name, value in usual.items() if name not in document.table})
    problems: list[Problem] = []
    answers = checked(document, ANSWERS, problems=problems)
    if not problems:
        problems = [document.problem((name,), *words) for name, words in _wrong(answers).items()]
    if problems:
        raise BadInput(problems)
    return answers


def _wrong(answers: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    found: dict[str, tuple[str, str]] = {}
    for name in ("user", "group", "site_user"):
        if answers[name] and not NAME.fullmatch(answers[name]):
            found[name] = (
                f"{name} is {answers[name]!r}, which is no name of a Unix user or group.",
                "For example: spica",
            )
    if not DATABASE_NAME.fullmatch(answers["database_name"]):
        found["database_name"] = "database_name has small letters, digits and _ only.", "For example: spica"
    address = answers["address"]
    if address and not re.fullmatch(r"https?://[A-Za-z0-9.:\[\]-]+(/[A-Za-z0-9._~/-]*)?", address):
        found["address"] = f"address is {address!r}.", "For example: https://spica.example.org"
    mail = answers["administrator_mail"]
    if mail and (problem := address_problem(mail)):
        found["administrator_mail"] = problem[0].upper() + problem[1:], ""
    if answers["administrator"] and not mail:
        found["administrator"] = "an Administrator needs a mail address.", "Say administrator_mail too."
    if answers["web_server"] and not address:
        found["web_server"] = "a web server without an address of the site.", 'Say address = "https://HOST/PATH" too.'
    if answers["site_user"] and answers["site_user"] != answers["user"] and answers["database"] == "sqlite":
        what = "with SQLite the site runs as the daemon's user."
        found["site_user"] = what, 'Leave site_user empty, or take database = "mariadb".'
    return found


# ---------------------------------------------------------------------- carried out


def carried_out(plan: Plan) -> Iterator[str]:
    """A line for each thing that was done or found; the order matters. Raises SpicaError at the first that fails."""
    if not plan.is_root and plan.answers["user"] != pwd.getpwuid(os.geteuid()).pw_name:
        raise SpicaError(f"only root can set Spica up for the user {plan.answers['user']}. Run: sudo spica setup")
    if plan.is_root:
        yield from _users(plan)
    yield from _configuration(plan)
    settings = config.load(plan.settings.source)
    yield from _folders(plan, settings)
    if plan.answers["database"] == "mariadb":
        yield from _mariadb(plan, settings)
        settings = config.load(plan.settings.source)
        if settings.database.url.startswith("sqlite:"):
            return
    yield from _tables(plan, settings)
    if plan.answers["database"] == "mariadb":
        yield from _rights(plan, settings)
    if plan.is_root and units.are_installed(settings):
        yield from _units(plan, settings)
    if settings.web.address:
        yield from _administrator(plan, settings)
        yield from _web_server(plan, settings)


def _users(plan: Plan) -> Iterator[str]:
    user, group, answers = plan.answers["user"], plan.answers["group"], plan.answers
    if group and not _has(grp.getgrnam, group):
        _run("groupadd", "--system", group)
        yield f"group {group}: made"
    if not _has(pwd.getpwnam, user):
        shell = next((each for each in NO_SHELLS if os.path.exists(each)), NO_SHELLS[-1])
        first = ["--gid", group] if group else ["--user-group"]
        home = str(plan.settings.paths.results.parent)
        _run("useradd", "--system", *first, "--home-dir", home, "--no-create-home", "--shell", shell, user)
        yield f"user {user}: made"
    else:
        yield f"user {user}: is there"
    for each in dict.fromkeys([user, *answers["members"], *([plan.site_user] if plan.site_user else [])]):
        if not _has(pwd.getpwnam, each):
            raise SpicaError(f"there is no Unix user {each} on this machine. Make it first, or leave it out.")
        if group and not _is_in(each, group):
            _run("usermod", "--append", "--groups", group, each)
            yield f"user {each}: in the group {group} now; it counts from the next login"


def _has(asked: Any, name: str) -> bool:
    try:
        asked(name)
    except KeyError:
        return False
    return True


def _is_in(user: str, group: str) -> bool:
    entry = pwd.getpwnam(user)
    return grp.getgrnam(group).gr_gid in os.getgrouplist(user, entry.pw_gid)


def _configuration(plan: Plan) -> Iterator[str]:
    answers = plan.answers
    wanted: dict[tuple[str, str], Any] = {
        ("daemon", "group"): answers["group"],
        ("paths", "archive"): answers["archive"],
        ("mail", "relay"): answers["relay"],
        ("mail", "security"): answers["relay_security"],
        ("web", "address"): answers["address"],
        ("web", "user"): plan.site_user,
    }
    for pair, name in (
        (("paths", "spool"), "spool"),
        (("paths", "results"), "results"),
        (("mail", "sender"), "sender"),
    ):
        if answers[name]:
            wanted[pair] = answers[name]
    if answers["web_server"] and _way(plan) == PROXY:
        wanted[("web", "proxy")] = plan.settings.web.proxy or "127.0.0.1"
    yield from _written(plan, wanted)


def _written(plan: Plan, wanted: Mapping[tuple[str, str], Any]) -> Iterator[str]:
    path = plan.settings.source
    assert path is not None
    before = path.read_text(encoding="utf-8")
    text = before
    for (section, name), value in wanted.items():
        text = with_option(text, section, name, value)
    config.parse(text, path)  # raises before anything is written
    if text == before:
        yield f"{path}: as it was"
        return
    status = path.stat()
    replace_file(path, text.encode())
    os.chmod(path, status.st_mode & 0o7777)
    if plan.is_root:
        os.chown(path, status.st_uid, status.st_gid)
    yield f"{path}: written"


def with_option(text: str, section: str, name: str, value: Any) -> str:
    """The text of a spica.conf with one option set, everything else as it was; the default needs no line."""
    key = next(key for key in config.OPTIONS[section] if key.name == name)
    document = read_toml(text, "spica.conf")
    now = document.table.get(section, {}).get(name, key.default)
    if now == value:
        return text
    lines = text.split("\n")
    begin = next((i for i, line in enumerate(lines) if line.strip() == f"[{section}]"), None)
    if begin is None:
        return text.rstrip("\n") + f"\n\n[{section}]\n{name} = {_as_toml(value)}\n"
    end = next((i for i in range(begin + 1, len(lines)) if re.match(r"\s*\[", lines[i])), len(lines))
    written = f"{name} = {_as_toml(value)}"
    for pattern in (rf"\s*{name}\s*=", rf"#\s*{name}\s*="):
        for i in range(begin + 1, end):
            if re.match(pattern, lines[i]):
                last = _end_of_value(lines, i) if pattern.startswith(r"\s") else i
                return "\n".join([*lines[:i], written, *lines[last + 1 :]])
    return "\n".join([*lines[: begin + 1], written, *lines[begin + 1 :]])


def _as_toml(value: Any) -> str:
    return f"[{', '.join(map(as_toml, value))}]" if isinstance(value, list) else as_toml(value)


def _end_of_value(lines: Sequence[str], first: int) -> int:
    """A list may go over several lines."""
    import tomllib

    for last in range(first, len(lines)):
        try:
            tomllib.loads("\n".join(lines[first : last + 1]))
            return last
        except tomllib.TOMLDecodeError:
            continue
    return first


def _folders(plan: Plan, settings: Settings) -> Iterator[str]:
    from spicad.daemon import running_pid
    from spicad.spool import FOLDERS, Spool

    spool, results = settings.paths.spool, settings.paths.results
    entry = pwd.getpwnam(plan.answers["user"])
    group = grp.getgrnam(settings.daemon.group).gr_gid if settings.daemon.group else entry.pw_gid
    if running_pid(settings):
        yield f"{spool}: spicad runs on it and keeps it in order"
    else:
        spool.mkdir(parents=True, exist_ok=True)
        for path in (spool, *(spool / name for name in FOLDERS)):
            if path.exists():
                _give(path, entry, group)
        with _rights_of(entry) if plan.is_root else nullcontext():
            Spool(spool).make(group)
        yield f"{spool}: {len(FOLDERS)} folders, incoming/ open to the group"
    is_new = not results.exists()
    results.mkdir(parents=True, exist_ok=True)
    _give(results, entry, group)
    yield f"{results}: {'made' if is_new else 'is there'}"


def _give(path: Path, user: pwd.struct_passwd, group: int) -> None:
    """Never by a link: what lies in a folder of the daemon's user he may have put there himself."""
    status = path.stat()
    if (status.st_uid, status.st_gid) == (user.pw_uid, group):
        return
    try:
        handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        mend = f"Where it is a link, give the folder that it leads to by hand: chown {user.pw_name} {path}"
        raise SpicaError(f"{path} is not given to {user.pw_name}: {error.strerror}. {mend}") from None
    try:
        mode = stat.S_IMODE(os.fstat(handle).st_mode)
        os.fchown(handle, user.pw_uid, group)
        os.fchmod(handle, mode)  # chown takes the setgid bit away
    finally:
        os.close(handle)


@contextmanager
def _rights_of(user: pwd.struct_passwd) -> Iterator[None]:
    """What root does meanwhile is what that user may, whatever he has put into his folders."""
    before = os.getgroups(), os.getegid()
    os.setgroups(os.getgrouplist(user.pw_name, user.pw_gid))
    os.setegid(user.pw_gid)
    os.seteuid(user.pw_uid)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(before[1])
        os.setgroups(before[0])


# ---------------------------------------------------------------------- database


def _mariadb(plan: Plan, settings: Settings) -> Iterator[str]:
    """Accounts that spica.conf names and that work are left alone; so is an SQLite database that is in use."""
    url, want = settings.database.url, mariadb.wanted(plan.answers, settings, plan.site_user)
    if url.startswith("mysql:") and _opens(url, settings.database.password_file):
        yield f"database {tables.shown_url(url)}: is there"
        return
    yield from mariadb.made(want)
    if url.startswith("sqlite:") and tables.sqlite_file(url).exists():
        yield f"{url}: it is in use. Stop spicad, copy it over, then run spica setup again:"
        yield f"    spica database copy '{want.url(want.daemon)}' --password-file {want.daemon.file}"
        return
    yield from _written(
        plan,
        {
            ("database", "url"): want.url(want.daemon),
            ("database", "password_file"): _near(want.daemon.file, plan),
            ("web", "database"): want.url(want.site),
            ("web", "password_file"): _near(want.site.file, plan),
        },
    )


def _rights(plan: Plan, settings: Settings) -> Iterator[str]:
    """Of those accounts that do not make the tables. Readers of their own are for a group, beside a closed password."""
    want = mariadb.wanted(plan.answers, settings, plan.site_user)
    if settings.web.database:
        yield from mariadb.granted(want, settings.web.database, settings.web.password_file)
    mariadb.closed(want)
    own, options = want.url(want.readers), settings.database
    if settings.daemon.group and options.password_file and options.readers in ("", own):
        yield from mariadb.readers_made(want)
        password_file = _near(want.readers.file, plan)
        wanted = {("database", "readers"): own, ("database", "readers_password_file"): password_file}
        yield from _written(plan, wanted)


def _near(file: Path, plan: Plan) -> str:
    """As spica.conf says it: a path that starts at its own folder."""
    folder = plan.settings.source.parent if plan.settings.source else None
    return file.name if file.parent == folder else str(file)


def _opens(url: str, password_file: str) -> bool:
    try:
        tables.connect(url, password_file).close()
    except SpicaError:
        return False
    return True


def _tables(plan: Plan, settings: Settings) -> Iterator[str]:
    state = _spica(plan, settings, ["database", "status", "--json"])
    if state.returncode == 0 and json.loads(state.stdout)["is_current"]:
        yield "tables: as this Spica needs them"
        return
    done = _spica(plan, settings, ["database", "upgrade"])
    if done.returncode:
        raise SpicaError(done.stderr.strip().removeprefix("spica: "))
    yield "tables: " + next(line for line in done.stdout.splitlines()[::-1] if ": schema " in line)


def _spica(plan: Plan, settings: Settings, words: list[str], given: str = "") -> subprocess.CompletedProcess[str]:
    """By the daemon's user, so that what it makes is his."""
    line = ["--config", str(settings.source), *words]
    user = pwd.getpwnam(plan.answers["user"]).pw_uid
    if plan.is_root and user != 0:
        return as_user(user, line, given)
    from spicad.commands.doctor import START

    package = Path(__file__).resolve().parents[2]
    env = {**os.environ, "PYTHONPATH": str(package)}
    command = [sys.executable, "-c", START, *line]
    return subprocess.run(command, input=given, env=env, capture_output=True, text=True, check=False)


# ---------------------------------------------------------------------- systemd


def _units(plan: Plan, settings: Settings) -> Iterator[str]:
    """What the packaged units do not know of this machine; a file that is needed no more goes."""
    changed = False
    for path, text in units.drop_ins(settings, plan.answers["user"], plan.site_user).items():
        before = path.read_text(encoding="utf-8") if path.exists() else ""
        if text == before:
            continue
        changed = True
        if text:
            path.parent.mkdir(parents=True, exist_ok=True)
            replace_file(path, text.encode())
        else:
            path.unlink()
        yield f"{path}: {'written' if text else 'needed no more'}; it counts from the next start"
    if changed and Path("/run/systemd/system").is_dir():
        _run("systemctl", "daemon-reload")


# ---------------------------------------------------------------------- the site


def _administrator(plan: Plan, settings: Settings) -> Iterator[str]:
    """Made once: where there is an Administrator, nothing is changed."""
    listed = _spica(plan, settings, ["user", "list", "--json"])
    people = json.loads(listed.stdout or "[]")
    there = [each["name"] for each in people if each["rank"] == "administrator" and each["state"] == "active"]
    if there:
        yield f"Administrator: {', '.join(there)}"
        return
    name = plan.answers["administrator"]
    if not name:
        yield "Administrator: none yet. Make one: spica user add NAME --mail ADDRESS --administrator"
        return
    password = plan.password or "-".join(secrets.token_hex(3) for _ in range(3))
    words = ["user", "add", name, "--mail", plan.answers["administrator_mail"], "--administrator", "--stdin"]
    done = _spica(plan, settings, words, password + "\n")
    if done.returncode:
        raise SpicaError(f"the account {name}: {done.stderr.strip().removeprefix('spica: ')}")
    shown = "" if plan.password else f", password {password} (shown this once; change it on the site)"
    yield f"Administrator: {name}{shown}"


def _way(plan: Plan) -> str:
    """CGI where the site has a user and an account of its own; else `spica serve`, as a service where there is one."""
    is_own = plan.answers["database"] == "mariadb" and bool(plan.site_user)
    if is_own and plan.answers["web_server"] in ("httpd", "lighttpd"):
        return CGI
    return SOCKET if plan.answers["web_server"] and units.has_sites_socket(plan.settings) else PROXY


def _web_server(plan: Plan, settings: Settings) -> Iterator[str]:
    server = plan.answers["web_server"]
    assert settings.source is not None
    if server:
        path = settings.source.parent / f"site.{server}.conf"
        path.write_text(snippet(server, _way(plan), settings, _cgi_program()), encoding="utf-8")
        yield f"{path}: include it in the virtual host of {settings.web.address}, and reload {server}"
    if _way(plan) == SOCKET:
        for user in filter(lambda each: _has(pwd.getpwnam, each), SITE_USERS[server]):
            if not _is_in(user, units.SITES_GROUP):
                _run("usermod", "--append", "--groups", units.SITES_GROUP, user)
                yield f"user {user}: in the group {units.SITES_GROUP} now; restart {server}"
        yield f"site: systemctl enable --now {units.SITES_SOCKET}"
    elif not server or _way(plan) == PROXY:
        user = plan.site_user or plan.answers["user"]
        yield f"site: run `spica serve` as {user}, it answers on {settings.web.listen}"


def _cgi_program() -> Path:
    checkout = Path(__file__).resolve().parents[2] / "web" / "spica.cgi"
    places = [checkout, *(Path(prefix) / each for prefix in (sys.prefix, "/usr") for each in CGI_PLACES)]
    return next((each for each in places if each.exists()), places[-2])


def _run(program: str, *words: str) -> None:
    found = shutil.which(program, path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin")
    if not found:
        raise SpicaError(f"{program} is not here: make the user and the group by hand, then run spica setup again.")
    done = subprocess.run([found, *words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SpicaError(f"{program} {' '.join(words)}: {done.stderr.strip() or done.returncode}")

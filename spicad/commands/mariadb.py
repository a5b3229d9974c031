"""MariaDB for `spica setup`: the database, and accounts in it of least privilege: the daemon's, the site's, and one of
those who may drop jobs, which reads what `spica list` and its like show.

What is there and works is left as it is. What the site's account may is listed in tables.SITE_WRITES.
"""

from __future__ import annotations

import grp
import os
import pwd
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, quote, unquote, urlsplit

from spicad import tables
from spicad.config import Settings
from spicad.words import SpicaError

DAEMON_MAY = "SELECT, INSERT, UPDATE, DELETE, CREATE, ALTER, INDEX"
SOCKETS = ("/run/mysqld/mysqld.sock", "/var/lib/mysql/mysql.sock", "/run/mariadb/mariadb.sock")
OF_THE_SITE, OF_READERS = "_web", "_read"


@dataclass(frozen=True)
class Login:
    """An account of the database: its name, the file with its password, and the Unix user, or else group, who reads it.

    A user's file is closed to his group: that of the daemon's user is the one of all who may drop jobs.
    """

    account: str
    file: Path
    reader: str = ""
    group: str = ""


@dataclass(frozen=True)
class Wanted:
    """What is to be there, by the answers of setup and by what spica.conf says already."""

    server: str
    name: str
    root: str
    root_password_file: str
    daemon: Login
    site: Login
    readers: Login

    def url(self, login: Login) -> str:
        socket = f"?socket={quote(self.server)}" if self.server.startswith("/") else ""
        return f"mysql://{login.account}@{'localhost' if socket else self.server}/{self.name}{socket}"


def answers_of(url: str) -> dict[str, str]:
    """The answers of setup that a database's address stands for."""
    parts = urlsplit(url)
    socket = dict(parse_qsl(parts.query)).get("socket", "")
    host = (parts.hostname or "localhost") + (f":{parts.port}" if parts.port else "")
    return {"database_server": socket or host, "database_name": parts.path.lstrip("/")}


def wanted(answers: Mapping[str, Any], settings: Settings, site_user: str) -> Wanted:
    folder = settings.source.parent if settings.source else Path("/etc/spica")
    name, user, web = answers["database_name"], answers["user"], settings.web
    return Wanted(
        answers["database_server"],
        name,
        answers["database_root"],
        answers["database_root_password_file"],
        _login(settings.database.url, settings.database.password_file, name, folder / "database.password", user),
        _login(web.database, web.password_file, name + OF_THE_SITE, folder / "site.password", site_user or user),
        Login(name + OF_READERS, folder / "readers.password", group=answers["group"]),
    )


def _login(url: str, file: str, account: str, usual: Path, reader: str) -> Login:
    known = unquote(urlsplit(url).username or "") if url.startswith(("mysql:", "mariadb:")) else ""
    return Login(known or account, Path(file) if known and file else usual, reader)


def closed(want: Wanted) -> None:
    """The passwords that are there, to all but their readers."""
    for login in (want.daemon, want.site):
        if login.file.exists():
            _close(login)


def made(want: Wanted) -> Iterator[str]:
    """The database and both accounts, each with a password of its own in a file."""
    with _as_root(want) as (cursor, host):
        cursor.execute(f"CREATE DATABASE IF NOT EXISTS `{want.name}` CHARACTER SET utf8mb4")
        yield f"database {want.name} on {want.server}: is there"
        for login in (want.daemon, want.site):
            yield _account(cursor, login, host)
        for login, rights in ((want.daemon, DAEMON_MAY), (want.site, "SELECT")):
            cursor.execute(f"GRANT {rights} ON {_pattern(want.name)}.* TO %s@%s", (login.account, host))


def _account(cursor: Any, login: Login, host: str) -> str:
    cursor.execute("CREATE USER IF NOT EXISTS %s@%s", (login.account, host))
    cursor.execute("ALTER USER %s@%s IDENTIFIED BY %s", (login.account, host, _kept_password(login)))
    return f"account {login.account}@{host}: its password is in {login.file}"


def readers_made(want: Wanted) -> Iterator[str]:
    """The account that reads every table but the private ones, once the tables are there."""
    login = want.readers
    with _as_root(want) as (cursor, host):
        words = _account(cursor, login, host)
        for table in tables.Table.__subclasses__():
            name = table._meta.table_name
            cursor.execute(f"GRANT SELECT ON `{want.name}`.`{name}` TO %s@%s", (login.account, host))
    yield f"{words}; it reads what members of the group {login.group} may see"


def granted(want: Wanted, url: str, password_file: str) -> Iterator[str]:
    """What the site's account may, once the tables are there; `url` and its password are the site's own way in."""
    opened = tables.connect(url, password_file)
    account, _, host = str(opened.execute_sql("SELECT CURRENT_USER()").fetchone()[0]).rpartition("@")
    opened.close()
    with _as_root(want) as (cursor, _):
        cursor.execute(f"GRANT SELECT ON {_pattern(want.name)}.* TO %s@%s", (account, host))
        for table, rights in tables.SITE_WRITES.items():
            cursor.execute(f"GRANT {rights} ON `{want.name}`.`{table._meta.table_name}` TO %s@%s", (account, host))
    yield f"account {account}@{host}: reads all tables, writes those of the site"


def _pattern(name: str) -> str:
    """In GRANT, _ before .* stands for any letter."""
    return "`" + name.replace("_", r"\_") + "`"


@contextmanager
def _as_root(want: Wanted) -> Iterator[tuple[Any, str]]:
    """A cursor of the account that may make others, and the host that the server sees us come from."""
    import pymysql

    options: dict[str, Any] = {"user": want.root, "autocommit": True, "charset": "utf8mb4"}
    if want.root_password_file:
        options["password"] = tables.secret(Path(want.root_password_file))
    usual = next((each for each in SOCKETS if os.path.exists(each)), "") if want.server == "localhost" else ""
    if usual or want.server.startswith("/"):
        options["unix_socket"] = usual or want.server
    else:
        host, _, port = want.server.partition(":")
        options |= {"host": host, "port": int(port or 3306)}
    try:
        with pymysql.connect(connect_timeout=10, read_timeout=60, **options) as connection:
            cursor = connection.cursor()
            cursor.execute("SELECT SUBSTRING_INDEX(USER(), '@', -1)")
            row = cursor.fetchone()
            assert row is not None
            yield cursor, str(row[0])
    except pymysql.Error as error:
        raise SpicaError(f"MariaDB on {want.server}, as {want.root}: {error}") from None


def _kept_password(login: Login) -> str:
    """The one of the file, else a new one written there, for its readers alone."""
    if not login.file.exists():
        handle = os.open(login.file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with open(handle, "w", encoding="ascii") as opened:
            opened.write(secrets.token_urlsafe(24) + "\n")
    _close(login)
    return login.file.read_text(encoding="ascii").strip()


def _close(login: Login) -> None:
    if login.group:
        os.chown(login.file, -1, grp.getgrnam(login.group).gr_gid)
        os.chmod(login.file, 0o640)
    elif os.geteuid() == 0:
        os.chmod(login.file, 0o600)
        os.chown(login.file, pwd.getpwnam(login.reader).pw_uid, -1)

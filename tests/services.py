"""Real services for the tests: a MariaDB of its own, in a throw-away folder, started as a direct child.

A missing service skips a test on a desk and fails it where CI=true. What is asked of it is the affair of the tests.
"""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pymysql
import pytest

PATIENCE_S = 30.0
PASSWORD = "spica & co/@:?"  # what a URL must escape
QUOTED = "spica%20%26%20co%2F%40%3A%3F"


def missing(service: str) -> None:
    if os.environ.get("CI") == "true":
        pytest.fail(f"{service} is not installed here, and CI must have it")
    pytest.skip(f"{service} is not installed")


class MariaDB:
    """`url(name)` is a fresh database for Spica; `kill` and `start` may be called at any time."""

    def __init__(self, *options: str) -> None:
        self.options = options or ("--innodb-buffer-pool-size=32M",)
        self.folder = Path(tempfile.mkdtemp(prefix="spica-db-", dir="/tmp"))  # a socket's path has 108 bytes at most
        self.socket = self.folder / "s.sock"
        self.server: subprocess.Popen[bytes] | None = None
        account = _account()
        self.folder.chmod(0o755)
        os.chown(self.folder, account.pw_uid, account.pw_gid)
        self.common = [f"--datadir={self.folder / 'data'}", f"--user={account.pw_name}", "--innodb-log-file-size=8M"]
        with (self.folder / "install.log").open("wb") as log:
            command = ["mariadb-install-db", "--no-defaults", *self.common, "--skip-test-db", "--skip-name-resolve"]
            command += ["--auth-root-authentication-method=normal", "--force"]  # also where no host can be looked up
            own = {**os.environ, "TMPDIR": str(self.folder)}  # in /tmp its tables are called by pid alone
            subprocess.run(command, check=True, stdout=log, stderr=log, env=own)

    def start(self) -> None:
        """Returns when it answers."""
        options = [
            f"--socket={self.socket}", "--skip-networking", f"--pid-file={self.folder / 'pid'}",
            f"--log-error={self.folder / 'err.log'}", f"--tmpdir={self.folder}",
            "--performance-schema=OFF", "--character-set-server=latin1", *self.options,
        ]  # fmt: skip
        self.server = subprocess.Popen(
            ["mariadbd", "--no-defaults", *self.common, *options], start_new_session=True, stdout=subprocess.DEVNULL
        )
        until = time.monotonic() + PATIENCE_S
        while True:
            assert self.server.poll() is None, (self.folder / "err.log").read_text()[-2000:]
            try:
                self.connect().close()
                return
            except pymysql.err.OperationalError:
                assert time.monotonic() < until, "MariaDB does not answer"
                time.sleep(0.02)

    def connect(self) -> pymysql.connections.Connection[pymysql.cursors.Cursor]:
        return pymysql.connect(unix_socket=str(self.socket), user="root", autocommit=True, ssl_disabled=True)

    def execute(self, *statements: str) -> None:
        with self.connect() as connection, connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)

    def url(self, name: str = "spica") -> str:
        quoted = PASSWORD.replace("'", "''")
        self.execute(
            f"DROP DATABASE IF EXISTS {name}",
            f"CREATE DATABASE {name}",
            f"CREATE USER IF NOT EXISTS 'spica'@'localhost' IDENTIFIED BY '{quoted}'",
            f"GRANT ALL ON {name}.* TO 'spica'@'localhost'",
        )
        return f"mysql://spica:{QUOTED}@localhost/{name}?socket={self.socket}"

    def kill(self) -> None:
        assert self.server is not None
        self.server.kill()
        self.server.wait()

    def remove(self) -> None:
        if self.server is not None and self.server.poll() is None:
            self.kill()
        shutil.rmtree(self.folder)


def _account() -> pwd.struct_passwd:
    if os.geteuid() == 0:
        for name in ("mysql", "nobody"):
            try:
                return pwd.getpwnam(name)
            except KeyError:
                continue
    return pwd.getpwuid(os.geteuid())


@pytest.fixture(scope="module")
def mariadb() -> Iterator[MariaDB]:
    if not (shutil.which("mariadbd") and shutil.which("mariadb-install-db")):
        missing("MariaDB")
    server = MariaDB()
    try:
        server.start()
        yield server
    finally:
        server.remove()

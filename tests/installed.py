"""A machine to set Spica up on: /etc and /var of its own over those of this one, in a mount namespace. Needs root.

The checkout is seen at /mnt/spica, where every user may read it. What is done there is told by the tests.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from conftest import COMPILED, ROOT, wait_until

MOUNTS = """\
set -e
mount -t tmpfs none /mnt
mkdir -p /mnt/spica /mnt/venv /mnt/data /mnt/keep /mnt/backup
for each in etc var run; do
    mkdir -p /mnt/layers/$each/upper /mnt/layers/$each/work
    mount -t overlay overlay -o "lowerdir=/$each,upperdir=/mnt/layers/$each/upper,workdir=/mnt/layers/$each/work" /$each
done
chmod 755 /mnt /mnt/layers
mount --bind "$1" /mnt/spica
mount --bind "$2" /mnt/venv
rm -rf /etc/spica /var/spool/spica /var/lib/spica
cp -r "$1/etc" /etc/spica
echo ready
exec sleep 1000000
"""


class Machine:
    """`run` runs a command there, `spica` the command; both give what subprocess.run gives."""

    conf = "/etc/spica/spica.conf"

    def __init__(self) -> None:
        command = [
            "unshare",
            "--mount",
            "--propagation",
            "private",
            "bash",
            "-c",
            MOUNTS,
            "machine",
            str(ROOT),
            sys.prefix,
        ]
        self.holder = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.daemon: subprocess.Popen[bytes] | None = None
        self.path = ""  # before the usual PATH
        assert self.holder.stdout
        if self.holder.stdout.readline().strip() != "ready":
            words = self.holder.communicate()[1]
            if os.environ.get("CI") == "true":
                pytest.fail(f"no namespace with overlays here: {words}")
            pytest.skip(f"no namespace with overlays here: {words}")

    def line(self, *words: str, user: str = "root") -> list[str]:
        enter = ["nsenter", f"--mount=/proc/{self.holder.pid}/ns/mnt"]
        become = ["setpriv", f"--reuid={user}", f"--regid={user}", "--init-groups"] if user != "root" else []
        return [*enter, *become, *words]

    def run(
        self, *words: str, user: str = "root", status: int | None = 0, stdin: str = ""
    ) -> subprocess.CompletedProcess[str]:
        env = {
            "PATH": f"{self.path}:/usr/sbin:/usr/bin:/sbin:/bin".strip(":"),
            "HOME": "/",
            "LC_ALL": "C.UTF-8",
            "PYTHONPYCACHEPREFIX": "/mnt/keep",
        }
        done = subprocess.run(
            self.line(*words, user=user), input=stdin, capture_output=True, text=True, env=env, timeout=120, check=False
        )
        if status is not None:
            assert done.returncode == status, f"exit {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    def spica(
        self, *words: str, user: str = "root", status: int | None = 0, stdin: str = ""
    ) -> subprocess.CompletedProcess[str]:
        return self.run(*self._program("spica"), "--config", self.conf, *words, user=user, status=status, stdin=stdin)

    @staticmethod
    def _program(name: str) -> list[str]:
        return ["/mnt/venv/bin/python", f"/mnt/spica/bin/{name}"]

    def write(self, path: str, text: str, mode: str = "644") -> None:
        self.run("install", "-D", "-m", mode, "/dev/stdin", path, stdin=text)

    def read(self, path: str) -> str:
        return self.run("cat", path).stdout

    def start_daemon(self, user: str = "spica") -> None:
        words = [*self._program("spicad"), "--config", self.conf, "run"]
        log = Path(f"/proc/{self.holder.pid}/root/mnt/keep/spicad.log")
        with log.open("wb") as opened:
            self.daemon = subprocess.Popen(
                self.line(*words, user=user), stdout=opened, stderr=opened, env={**os.environ, **COMPILED, "HOME": "/"}
            )
        daemon = self.daemon
        wait_until(lambda: "spicad is ready" in log.read_text() or daemon.poll() is not None, "the daemon")
        assert daemon.poll() is None, log.read_text()

    def stop_daemon(self) -> None:
        if self.daemon is not None:
            self.daemon.terminate()
            self.daemon.wait(40)
            self.daemon = None

    def end(self) -> None:
        with suppress(Exception):
            self.stop_daemon()
        self.holder.kill()
        self.holder.wait()


@pytest.fixture(scope="module")
def machine() -> Iterator[Machine]:
    if os.geteuid() != 0:
        pytest.skip("only root can have an /etc of its own")
    there = Machine()
    try:
        yield there
    finally:
        there.end()

"""A real sshd on this machine that plays another node, and a web server that breaks off and goes on where it is asked.

What is carried over them is told in test_datatransfer.py.
"""

from __future__ import annotations

import http.server
import os
import shutil
import socket
import subprocess
import threading
from pathlib import Path

from conftest import wait_until
from services import missing


class Node:
    """`name` is a host for ssh with the options `ssh`. It can be stopped and started."""

    name = "nodetwo"

    def __init__(self, folder: Path) -> None:
        program = shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
        if not program or not shutil.which("rsync") or not shutil.which("ssh"):
            missing("sshd, ssh or rsync")
        self.program, self.folder = str(program), folder
        self.child: subprocess.Popen[bytes] | None = None
        folder.mkdir(parents=True)
        folder.chmod(0o700)
        for name in ("host", "user"):
            key = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)]
            subprocess.run(key, check=True)
        shutil.copy(folder / "user.pub", folder / "authorized")
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        (folder / "sshd.conf").write_text(
            f"Port {self.port}\nListenAddress 127.0.0.1\nHostKey {folder}/host\n"
            f"AuthorizedKeysFile {folder}/authorized\n"
            "StrictModes no\nUsePAM no\nPasswordAuthentication no\nPermitRootLogin prohibit-password\n"
            f"PidFile {folder}/pid\nMaxStartups 100\n"
        )
        (folder / "ssh.conf").write_text(
            f"Host {self.name}\n HostName 127.0.0.1\n Port {self.port}\n IdentityFile {folder}/user\n"
            f" IdentitiesOnly yes\n UserKnownHostsFile {folder}/known\n StrictHostKeyChecking accept-new\n"
            " LogLevel ERROR\n"
        )
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        self.start()

    @property
    def option(self) -> str:
        return f'ssh = ["-F", "{self.folder}/ssh.conf"]'

    def start(self) -> None:
        command = [self.program, "-D", "-e", "-f", str(self.folder / "sshd.conf")]
        with (self.folder / "log").open("ab") as log:
            self.child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        wait_until(self._answers, "sshd to answer")

    def _answers(self) -> bool:
        assert self.child
        assert self.child.poll() is None, (self.folder / "log").read_text()
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def stop(self) -> None:
        if self.child:
            self.child.terminate()
            self.child.wait(20)
            self.child = None


class Web:
    """Files by http. `breaks` are bytes after which the next answers break off; `asked` are the ranges asked for."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.breaks: list[int] = []
        self.asked: list[str] = []
        self.redirects: dict[str, str] = {}
        self.knows_ranges = True
        web = self

        class Answer(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                web._answer(self)

            def log_message(self, *words: object) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answer)
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()
        self.address = f"http://127.0.0.1:{self.server.server_port}"

    def _answer(self, to: http.server.BaseHTTPRequestHandler) -> None:
        if there := self.redirects.get(to.path.lstrip("/")):
            to.send_response(302)
            to.send_header("Location", there)
            to.send_header("Content-Length", "0")
            to.end_headers()
            return
        content = self.files.get(to.path.lstrip("/"))
        if content is None:
            to.send_error(404)
            return
        asked = to.headers.get("Range", "")
        self.asked.append(asked)
        tag = f'"{hash(content) & 0xFFFFFFFF:x}"'
        start = 0
        if asked and self.knows_ranges and to.headers.get("If-Range") == tag:
            start = int(asked.removeprefix("bytes=").rstrip("-"))
            to.send_response(206)
            to.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        else:
            to.send_response(200)
        to.send_header("ETag", tag)
        to.send_header("Content-Length", str(len(content) - start))
        to.end_headers()
        most = self.breaks.pop(0) if self.breaks else len(content)
        to.wfile.write(content[start:][:most])
        to.wfile.flush()
        to.close_connection = True

    def stop(self) -> None:
        self.server.shutdown()
        self.server.server_close()

"""The site behind a real server, as a child process: waitress by `spica serve`, or lighttpd with spica.cgi."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

from conftest import COMPILED, ROOT
from services import missing

LIGHTTPD = """\
server.modules = ( "mod_alias", "mod_cgi", "mod_setenv" )
server.document-root = "{folder}"
server.bind = "127.0.0.1"
server.port = {port}
server.errorlog = "{folder}/lighttpd.log"
server.upload-dirs = ( "{folder}" )
alias.url = ( "{path}/" => "{root}/web/spica.cgi/" )
cgi.assign = ( "spica.cgi" => "" )
setenv.set-environment = ( "SPICA_CONF" => "{conf}", "PYTHONPYCACHEPREFIX" => "{cache}" )
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def server_of(kind: str, conf: Path, port: int, path: str = "") -> subprocess.Popen[bytes]:
    """`kind`: serve; all others are CGI. What it says goes to server.log beside spica.conf."""
    folder = conf.parent
    if kind == "serve":
        command = [sys.executable, str(ROOT / "bin/spica"), "serve", "--listen", f"127.0.0.1:{port}"]
    else:
        if not shutil.which("lighttpd"):
            missing("lighttpd")
        cache = COMPILED["PYTHONPYCACHEPREFIX"]
        text = LIGHTTPD.format(folder=folder, conf=conf, port=port, root=ROOT, path=path, cache=cache)
        (folder / "lighttpd.conf").write_text(text)
        command = ["lighttpd", "-D", "-f", str(folder / "lighttpd.conf")]
    with (folder / "server.log").open("wb") as log:
        environment = {**os.environ, **COMPILED, "SPICA_CONF": str(conf)}
        return subprocess.Popen(command, stdout=log, stderr=log, env=environment)

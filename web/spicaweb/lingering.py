"""The far end of a warm site: a process that an earlier CGI request left behind, and that ends when nobody comes.

    python -m spicaweb.lingering ROOT

It answers what warm.py hands over, in threads, as waitress would. It ends once [web] linger_s have passed without a
request, or when spica.conf or the code is not what it started with: then the next request starts another one.
"""

from __future__ import annotations

import fcntl
import io
import logging
import logging.handlers
import os
import socketserver
import sys
import time
from pathlib import Path
from wsgiref.handlers import BaseCGIHandler

from bottle import Bottle

from spicad import config
from spicad.config import Settings
from spicad.words import SpicaError
from spicaweb import connections, warm
from spicaweb.app import make_app
from spicaweb.drawing import TEMPLATES
from spicaweb.gateway import NOT_OURS

LOOK_S = 5.0
MOST_HEAD = 1 << 17
MOST_DIGITS = 7
MOST_INHERITED = 1024
PATIENCE_S = 60.0  # for the near end

log = logging.getLogger("spicaweb")


class Watched:
    """The files that this process is made of: whether they are still those that it has read."""

    def __init__(self, settings: Settings) -> None:
        self.conf = str(settings.source)
        self.known: dict[str, tuple[int, int]] = {}
        self.has_changed()

    def has_changed(self) -> bool:
        """Files that were loaded since the last look are taken as they are now. Once changed, it stays so."""
        for path in self._paths():
            try:
                found = os.stat(path)
            except OSError:
                return True
            if self.known.setdefault(path, (found.st_mtime_ns, found.st_ino)) != (found.st_mtime_ns, found.st_ino):
                return True
        return False

    def _paths(self) -> list[str]:
        modules = [(name, getattr(module, "__file__", None)) for name, module in list(sys.modules.items())]
        ours = [path for name, path in modules if path and name.partition(".")[0] in ("spicad", "spicaweb")]
        return [self.conf, *ours, *map(str, TEMPLATES.iterdir())]


class FarEnd(socketserver.ThreadingUnixStreamServer):
    """One thread for each request; closing it lets those that came in have their answers."""

    daemon_threads = False
    request_queue_size = 64

    def __init__(self, path: str, app: Bottle, watched: Watched, identity: bytes) -> None:
        self.app, self.watched, self.identity = app, watched, identity
        self.last = time.monotonic()
        super().__init__(path, Request)

    def handle_error(self, request: object, client_address: object) -> None:
        log.exception("a request could not be answered")


class Request(socketserver.StreamRequestHandler):
    server: FarEnd
    timeout = PATIENCE_S

    def handle(self) -> None:
        self.server.last = time.monotonic()
        environment = _head(self.rfile)
        meant = environment.pop("SPICA_SITE", "").encode("latin-1")
        if meant != self.server.identity or self.server.watched.has_changed():
            return
        self.wfile.write(warm.READY)
        for name in NOT_OURS:
            environment.pop(name, None)
        environment.setdefault("PATH_INFO", "/")
        body = self.rfile.read(int(environment["CONTENT_LENGTH"]))
        if len(body) < int(environment["CONTENT_LENGTH"]):
            return  # the near end was killed: half a form is none
        try:
            with self.connection.makefile("wb") as output:
                BaseCGIHandler(
                    io.BytesIO(body), output, sys.stderr, environment, multithread=True, multiprocess=True
                ).run(self.server.app)
        finally:
            connections.leave()  # this thread ends


def _head(file: io.BufferedIOBase) -> dict[str, str]:
    """Of an SCGI request: LENGTH:NAME\\0VALUE\\0..., as WSGI wants it (PEP 3333): each byte a character."""
    digits = b""
    while (one := file.read(1)).isdigit() and len(digits) < MOST_DIGITS:
        digits += one
    length = int(digits or b"0")
    if one != b":" or length > MOST_HEAD:
        raise ValueError("this is no SCGI request")
    whole = file.read(length + 1)
    if len(whole) <= length or not whole.endswith(b"\0,"):
        raise ValueError("the head of this SCGI request ends too early")
    words = whole[:-2].decode("latin-1").split("\0")
    return dict(zip(words[::2], words[1::2], strict=False))


def main() -> int:
    root = sys.argv[1]
    os.closerange(3, MOST_INHERITED)  # a web server that is started again would find its port taken
    logging.basicConfig(level=logging.INFO, handlers=[logging.handlers.SysLogHandler(_syslog())])
    try:
        settings = config.load()
        if settings.web.linger_s > 0 and (lock := _alone(warm.socket_path(root))) is not None:
            _linger(settings, root, lock)
    except (SpicaError, OSError) as error:
        log.error("the warm site ends: %s", error)
        return 1
    return 0


def _syslog() -> str | tuple[str, int]:
    return "/dev/log" if os.path.exists("/dev/log") else ("127.0.0.1", 514)


def _alone(path: str) -> int | None:
    """The lock that only one of a site holds; None when there is one already."""
    Path(warm.folder()).mkdir(mode=0o700, exist_ok=True)
    if not warm.is_ours(warm.folder()):
        raise SpicaError(f"{warm.folder()} is not a folder of this user alone. Remove it.")
    lock = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        return None
    return lock


def _linger(settings: Settings, root: str, lock: int) -> None:
    path = warm.socket_path(root)
    app, watched = make_app(settings), Watched(settings)
    if os.path.lexists(path):
        os.unlink(path)  # of one that was killed: the lock is ours
    with FarEnd(path, app, watched, warm.identity(root)) as server:
        server.timeout = min(LOOK_S, settings.web.linger_s)
        while time.monotonic() - server.last < settings.web.linger_s and not watched.has_changed():
            server.handle_request()
        os.unlink(path)
        os.close(lock)  # a long download may go on here; the next request may leave another one behind already


if __name__ == "__main__":
    sys.exit(main())

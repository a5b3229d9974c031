"""The site on waitress, a server in Python for a single machine: what `spica serve` starts.

CGI and other servers come in by spica.cgi and spica.wsgi.
"""

from __future__ import annotations

import argparse
import os
import socket
import sys
from dataclasses import replace
from urllib.parse import urlsplit

from spicad import config, logs
from spicad.config import Section, Settings
from spicad.words import BadInput, Problem, SpicaError

THREADS = 8
FIRST_HANDED_OVER = 3


def main() -> int:
    parser = argparse.ArgumentParser(prog="spica serve")
    parser.add_argument("--listen", metavar="HOST:PORT", default="")
    arguments = parser.parse_args()
    try:
        settings = config.load()
        logs.set_up(settings.daemon.log_level, settings.daemon.node)
        host, port = _place(arguments.listen or settings.web.listen)
        address = settings.web.address or f"http://{host}:{port}"
        settings = replace(settings, web=Section({**vars(settings.web), "address": address}))
        _serve(settings, _where(host, port))
    except (SpicaError, OSError) as error:
        print(f"spica: {error}", file=sys.stderr)
        return 1
    return 0


def _place(listen: str) -> tuple[str, int]:
    host, colon, port = listen.rpartition(":")
    if not colon or not host or not port.isdecimal() or int(port) > 65535:
        raise BadInput(Problem("spica serve", f"{listen!r} is no place to listen.", "For example: 127.0.0.1:8080"))
    return host.strip("[]"), int(port)


def _where(host: str, port: int) -> dict[str, object]:
    """For waitress: sockets that systemd listens on for us, else a port. What comes by a Unix socket comes by the web
    server alone, since nobody else may enter it."""
    sockets = _handed_over()
    if not sockets:
        return {"host": host, "port": port}
    is_unix = all(each.family == socket.AF_UNIX for each in sockets)
    return {"sockets": sockets, **(_believed("localhost") if is_unix else {})}


def _handed_over() -> list[socket.socket]:
    """See sd_listen_fds(3)."""
    if os.environ.pop("LISTEN_PID", "") != str(os.getpid()):
        return []
    return [socket.socket(fileno=FIRST_HANDED_OVER + n) for n in range(int(os.environ.pop("LISTEN_FDS", "0")))]


def _believed(proxy: str) -> dict[str, object]:
    return {"trusted_proxy": proxy, "trusted_proxy_headers": {"x-forwarded-for"}}


def _serve(settings: Settings, where: dict[str, object]) -> None:
    import waitress

    from spicaweb.app import make_app
    from spicaweb.guard import MOST_BYTES

    server = waitress.create_server(
        make_app(settings),
        threads=THREADS,
        ident="Spica",
        url_prefix=urlsplit(settings.web.address).path.rstrip("/"),
        clear_untrusted_proxy_headers=True,
        max_request_body_size=2 * MOST_BYTES,
        **{**(_believed(settings.web.proxy) if settings.web.proxy else {}), **where},
    )
    print(f"The site is on {settings.web.address}", flush=True)
    server.run()


if __name__ == "__main__":
    sys.exit(main())

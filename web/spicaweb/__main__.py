"""The site on waitress, a server in Python for a single machine: what `spica serve` starts.

CGI and other servers come in by spica.cgi and spica.wsgi.
"""

from __future__ import annotations

import argparse
import logging
import sys
from dataclasses import replace
from urllib.parse import urlsplit

from spicad import config
from spicad.config import Section, Settings
from spicad.words import BadInput, Problem, SpicaError

THREADS = 8


def main() -> int:
    parser = argparse.ArgumentParser(prog="spica serve")
    parser.add_argument("--listen", metavar="HOST:PORT", default="")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    try:
        settings = config.load()
        host, port = _place(arguments.listen or settings.web.listen)
        address = settings.web.address or f"http://{host}:{port}"
        settings = replace(settings, web=Section({**vars(settings.web), "address": address}))
        _serve(settings, host, port)
    except (SpicaError, OSError) as error:
        print(f"spica: {error}", file=sys.stderr)
        return 1
    return 0


def _place(listen: str) -> tuple[str, int]:
    host, colon, port = listen.rpartition(":")
    if not colon or not host or not port.isdecimal() or int(port) > 65535:
        raise BadInput(Problem("spica serve", f"{listen!r} is no place to listen.", "For example: 127.0.0.1:8080"))
    return host.strip("[]"), int(port)


def _serve(settings: Settings, host: str, port: int) -> None:
    import waitress

    from spicaweb.app import make_app
    from spicaweb.guard import MOST_BYTES

    options: dict[str, object] = {}
    if settings.web.proxy:
        options = {"trusted_proxy": settings.web.proxy, "trusted_proxy_headers": {"x-forwarded-for"}}
    server = waitress.create_server(
        make_app(settings),
        host=host,
        port=port,
        threads=THREADS,
        ident="Spica",
        url_prefix=urlsplit(settings.web.address).path.rstrip("/"),
        clear_untrusted_proxy_headers=True,
        max_request_body_size=2 * MOST_BYTES,
        **options,
    )
    print(f"The site is on {settings.web.address}", flush=True)
    server.run()


if __name__ == "__main__":
    sys.exit(main())

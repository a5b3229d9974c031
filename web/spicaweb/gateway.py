"""One CGI request: from the environment to the page, and words for the visitor when there is no site.

Of the environment only what the web server makes is used; what a client sends arrives in HTTP_ variables.
"""

from __future__ import annotations

import logging
import os
import sys
from wsgiref.handlers import CGIHandler

from spicad import config
from spicad.words import SpicaError
from spicaweb import warm

# Programs that honour them would go where a request's header says (httpoxy, CVE-2016-5385).
NOT_OURS = ("HTTP_PROXY", "REMOTE_USER", "HTTP_REMOTE_USER")
USUAL_PATH = "/usr/local/bin:/usr/bin:/bin"


def answer_cgi(root: str) -> None:
    """`root`: where spica.cgi is installed, or the checkout."""
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(levelname)s %(name)s: %(message)s")
    for name in NOT_OURS:
        os.environ.pop(name, None)
    os.environ.setdefault("PATH_INFO", "/")
    os.environ.setdefault("PATH", USUAL_PATH)  # lighttpd gives none, and the check of a process looks for its tools
    try:
        from spicaweb import connections
        from spicaweb.app import make_app

        settings = config.load()
        app = make_app(settings, of=os.environ["PATH_INFO"])
    except SpicaError as error:
        logging.getLogger("spicaweb").error("%s", error)
        _no_site()
        return
    CGIHandler().run(app)
    connections.leave()
    if settings.web.linger_s > 0:
        warm.leave_behind(root)


def _no_site() -> None:
    words = "The site is not set up yet, or its database cannot be reached. The log of the web server says why."
    sys.stdout.write(
        "Status: 503 Service Unavailable\r\nContent-Type: text/plain; charset=UTF-8\r\n"
        f"Cache-Control: no-store\r\n\r\n{words}\n"
    )

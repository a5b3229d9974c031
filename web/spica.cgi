#!/usr/bin/env python3
"""The site as CGI, one process for each request. See spica(1), and etc/lighttpd and etc/httpd for a web server's part.

In a checkout it uses the virtual environment there, installed by pip (share/spica/spica.cgi) the one that it is in.
SPICA_CONF names another spica.conf, set by the web server alone. Where an earlier request has left a site running, that
one gives the answer: see [web] linger_s in spica.conf(5).
"""

import os
import sys

here = os.path.dirname(os.path.realpath(__file__))
root = os.path.dirname(here)
is_checkout = os.path.isdir(os.path.join(root, "spicad"))
homes = (os.path.join(root, ".venv"), os.path.dirname(root))
home = next((each for each in homes if os.path.exists(os.path.join(each, "pyvenv.cfg"))), sys.prefix)


def go_home() -> None:
    """Into the virtual environment."""
    if sys.prefix != home:
        python = os.path.join(home, "bin", "python")
        os.execv(python, [python, __file__])


if is_checkout:
    sys.path[:0] = [here, root]
else:
    go_home()

from spicaweb import warm  # noqa: E402

if not warm.is_answered(root):
    go_home()
    from spicaweb.gateway import answer_cgi

    answer_cgi(root)

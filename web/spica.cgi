#!/usr/bin/env python3
"""The site as CGI, one process for each request. See spica(1), and etc/lighttpd and etc/httpd for a web server's part.

In a checkout it uses the virtual environment there, installed by pip (share/spica/spica.cgi) the one that it is in.
SPICA_CONF names another spica.conf, set by the web server alone.
"""

import os
import sys

here = os.path.dirname(os.path.realpath(__file__))
root = os.path.dirname(here)
homes = (os.path.join(root, ".venv"), os.path.dirname(root))
home = next((each for each in homes if os.path.exists(os.path.join(each, "pyvenv.cfg"))), sys.prefix)
if sys.prefix != home:
    python = os.path.join(home, "bin", "python")
    os.execv(python, [python, __file__])
if os.path.isdir(os.path.join(root, "spicad")):
    sys.path[:0] = [here, root]

from spicaweb.gateway import answer_cgi  # noqa: E402

answer_cgi()

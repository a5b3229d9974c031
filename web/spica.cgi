#!/usr/bin/env python3
"""The site as CGI, one process for each request. See spica(1), and etc/lighttpd and etc/httpd for a web server's part.

In a checkout it uses the virtual environment there; SPICA_CONF names another spica.conf, set by the web server alone.
"""

import os
import sys

here = os.path.dirname(os.path.realpath(__file__))
root = os.path.dirname(here)
python = os.path.join(root, ".venv", "bin", "python")
if os.path.exists(python) and sys.prefix != os.path.join(root, ".venv"):
    os.execv(python, [python, __file__])
if os.path.isdir(os.path.join(root, "spicad")):
    sys.path[:0] = [here, root]

from spicaweb.gateway import answer_cgi  # noqa: E402

answer_cgi()

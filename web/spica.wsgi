"""The site as WSGI: `application` for Apache's mod_wsgi, gunicorn and their like. `spica serve` needs none of them."""

import os
import sys

here = os.path.dirname(os.path.realpath(__file__))
root = os.path.dirname(here)
if os.path.isdir(os.path.join(root, "spicad")):
    sys.path[:0] = [here, root]

from spicaweb.app import make_app  # noqa: E402

application = make_app()

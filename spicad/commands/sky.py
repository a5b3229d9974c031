"""`spica sky`: makes a small FITS sky whose truth is known.

The options are in spicad/reduction/sky_options.py, the making in spicad/reduction/sky.py, loaded only when it runs.
"""

from __future__ import annotations

import argparse

from spicad.reduction.sky_options import HELP as HELP
from spicad.reduction.sky_options import add_arguments as add_arguments


def run(arguments: argparse.Namespace) -> int:
    from spicad.reduction import sky

    return sky.run(arguments)

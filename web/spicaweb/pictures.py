"""Plots and pictures that a step has left, shown as they are: sealed, so that nothing in one could run or fetch.

An SVG may come of a tool that writes OBJECT into it unescaped. Previews of FITS images are previews.py's affair.
"""

from __future__ import annotations

import os

from spicaweb.answers import Answer, NotThere
from spicaweb.capsules import Capsule, Gone

MOST_BYTES = 16 << 20
KINDS = {".png": "image/png", ".svg": "image/svg+xml"}
SEALED = {"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; sandbox"}


def picture(capsule: Capsule | None, name: str | None) -> Answer:
    """Raises NotThere when it is gone, too large, or no picture."""
    kind = KINDS.get(os.path.splitext(name or "")[1])
    if capsule is None or name is None or kind is None:
        raise NotThere
    try:
        handle = capsule.open("products", name)
    except Gone:
        raise NotThere from None
    with open(handle, "rb") as file:
        if os.fstat(handle).st_size > MOST_BYTES:
            raise NotThere
        return Answer(file.read(), kind=kind, headers=SEALED)

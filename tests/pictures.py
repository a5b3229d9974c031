"""Makes the pictures of the guides from those that the browser test takes, small enough to be kept with the source:

SPICA_SCREENSHOTS=/tmp/shots bin/run-tests tests/test_site_walk.py
.venv/bin/python tests/pictures.py /tmp/shots
"""

from __future__ import annotations

import sys
from pathlib import Path

from PIL import Image

HELP = Path(__file__).parent.parent / "web/spicaweb/help"
WIDTH, HEIGHT, COLOURS = 880, 720, 64
# Of each page its top; how much of it tells something.
PICTURES = {"archive": 1.0, "check": 0.72, "results": 1.0, "catalogue": 1.0, "difference": 1.0}


def main(shots: Path) -> None:
    for name, share in PICTURES.items():
        whole = Image.open(shots / f"{name}.png").convert("RGB")
        scale = WIDTH / whole.width
        top = whole.crop((0, 0, whole.width, min(whole.height, round(share * HEIGHT / scale))))
        small = top.resize((WIDTH, round(top.height * scale)), Image.Resampling.LANCZOS)
        small.quantize(COLOURS, dither=Image.Dither.NONE).save(HELP / f"{name}.png", optimize=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))

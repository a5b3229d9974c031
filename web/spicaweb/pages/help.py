"""Help: the guides for users and administrators and the tutorial, for anybody; and their pictures.

The guides are files of help/, drawn by guide.py.
"""

from __future__ import annotations

from functools import cache

from spicaweb import guide
from spicaweb.answers import Answer, NotThere
from spicaweb.drawing import draw
from spicaweb.visit import Visit


def index(visit: Visit) -> Answer:
    return draw(visit, "help", "Help", guides=[(name, words, _text(name)) for name, words in guide.GUIDES.items()],
                sections_of=guide.sections_of)  # fmt: skip


def page(visit: Visit, name: str) -> Answer:
    if name not in guide.GUIDES:
        raise NotThere
    text = _text(name)
    body = guide.drawn(text, visit.link)
    return draw(visit, "guide", guide.title_of(text), body=body, sections=guide.sections_of(text), name=name)


def picture(visit: Visit, name: str) -> Answer:
    """One of those in the folder, never by a path."""
    if name not in _pictures():
        raise NotThere
    kept = {"Cache-Control": "public, max-age=86400"}
    return Answer((guide.FOLDER / name).read_bytes(), kind="image/png", headers=kept)


@cache
def _text(name: str) -> str:
    return (guide.FOLDER / f"{name}.md").read_text(encoding="utf-8")


@cache
def _pictures() -> frozenset[str]:
    return frozenset(path.name for path in guide.FOLDER.glob("*.png"))

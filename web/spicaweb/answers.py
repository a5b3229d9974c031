"""What a page gives back: an answer, or the reason why there is none. How it is sent is app.py's affair."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

HTML = "text/html; charset=UTF-8"


@dataclass(frozen=True)
class Answer:
    """`body` may come in pieces; when they are asked for, the tables are closed."""

    body: str | bytes | Iterable[bytes] = ""
    status: int = 200
    kind: str = HTML
    headers: Mapping[str, str] = field(default_factory=dict)


class Refusal(Exception):
    """No page: `status` and words for the person. Raised anywhere in a page."""

    def __init__(self, status: int, title: str, words: str) -> None:
        self.status, self.title, self.words = status, title, words
        super().__init__(words)


class NotThere(Refusal):
    """For what does not exist and for what is not for this visitor alike."""

    def __init__(self) -> None:
        super().__init__(404, "There is no such page", "It does not exist, or it is not for you to see.")

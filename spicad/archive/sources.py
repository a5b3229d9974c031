"""Remote sources that new exposures are fetched from: what is new in them is asked for, once, as a transfer.

Fetched files come to rest in the first landing folder, and go the way of everything that lands there.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any
from urllib.parse import quote, urljoin, urlsplit

from spicad.archive.carrying import REMOTE, listed
from spicad.archive.datatransfer import ask, key_of
from spicad.archive.downloading import fetch_text
from spicad.archive.errands import Means
from spicad.archive.landing import LONGEST_NAME, UNFINISHED
from spicad.archive.wholeness import promises_in
from spicad.background import Background
from spicad.config import Settings
from spicad.words import BadInput, Problem, SpicaError

log = logging.getLogger("spicad.datatransfer")


@dataclass(frozen=True)
class Offer:
    """One file of a source; `identity` is another one when it has changed there."""

    name: str
    source: str
    identity: str
    bytes: int = 0
    digest: str = ""


def offers(source: str, means: Means) -> list[Offer]:
    """What a source has. Raises Lost."""
    if REMOTE.fullmatch(source):
        folder = source.rstrip("/")
        return [Offer(name, f"{folder}/{name}", f"{size} {time}", size) for name, size, time in listed(source, means)]
    found = promises_in(fetch_text(source, means.timeout_s))
    return [
        Offer(name, urljoin(source, quote(name)), digest, 0, f"{'md5' if len(digest) == 32 else 'sha256'}:{digest}")
        for name, digest in found
    ]


def require_known(sources: tuple[str, ...] | list[str], settings_source: str) -> None:
    """Raises BadInput naming each that is neither HOST:/FOLDER nor an http(s) address."""
    mend = "Write HOST:/FOLDER, or the http or https address of a name,md5 list."
    wrong = [each for each in sources if not is_source(each)]
    if wrong:
        raise BadInput(Problem(settings_source, f"{each!r} is no source.", mend) for each in wrong)


def is_source(words: str) -> bool:
    parts = urlsplit(words)
    return bool(REMOTE.fullmatch(words)) or (parts.scheme in ("http", "https") and bool(parts.hostname))


class Sources:
    """Looked at every [landing] source_s seconds. What is asked of them is done in threads."""

    def __init__(self, settings: Settings, means: Means, readers: Background, clock: Callable[[], float]) -> None:
        require_known(settings.landing.sources, str(settings.source))
        self.settings, self.means, self.readers, self.clock = settings, means, readers, clock
        self.next_look = 0.0
        self.asking = 0

    def once(self) -> None:
        now = self.clock()
        if self.asking or now < self.next_look or not self.settings.landing.folders:
            return
        self.next_look = now + self.settings.landing.source_s
        for source in self.settings.landing.sources:
            self.asking += 1
            self.readers.do(offers, source, self.means, then=partial(self._take, source))

    def _take(self, source: str, result: Any) -> None:
        self.asking -= 1
        if isinstance(result, SpicaError | OSError):
            log.warning("the source %s is looked at again in %g s: %s", source, self.settings.landing.source_s, result)
            return
        if isinstance(result, BaseException):
            raise result
        for offer in result:
            if is_wanted(offer.name):
                ask_for(offer, source, self.settings)


def is_wanted(name: str) -> bool:
    return not UNFINISHED.fullmatch(name) and len(name) <= LONGEST_NAME and name.isprintable() and "/" not in name


def ask_for(offer: Offer, batch: str, settings: Settings) -> int:
    """The number of its transfer; that of the one that there is already."""
    row = ask(
        key_of("fetch", offer.source, offer.identity),
        kind="fetch",
        batch=batch[:200],
        name=offer.name,
        source=offer.source,
        target=os.fspath(settings.landing.folders[0] / offer.name),
        bytes=offer.bytes,
        digest=offer.digest,
    )
    return int(row.id)

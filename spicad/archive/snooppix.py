"""SNOOPPIX: every file that lands is seen, waited for until it is whole, and ends registered or refused with a reason.

One pass looks, decides and writes rows; reading and carrying is done in threads. The program around it is
snooping.py; what a look finds is landing.py's, how files are carried datatransfer.py's and carrying.py's affair.
"""

from __future__ import annotations

import hashlib
import logging
import os
import time
from collections.abc import Callable, Iterable
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from spicad.archive import entries
from spicad.archive.datatransfer import FAILED, OPEN, Mover, ask, key_of
from spicad.archive.entries import Entry
from spicad.archive.errands import Carried, Gone
from spicad.archive.instruments import instruments_in
from spicad.archive.landing import Found, Look, companion_of, look_into, shown
from spicad.archive.reading import Reader
from spicad.archive.storage import place_of
from spicad.archive.wholeness import NotWhole, Vanished, Whole, examine, identity_of
from spicad.background import Background
from spicad.config import Settings
from spicad.tables import Seen, Transfer
from spicad.words import BadInput, SpicaError, printable

log = logging.getLogger("snooppix")

WAITING, REGISTERED, REFUSED = "waiting", "registered", "refused"
STATES = (WAITING, REGISTERED, REFUSED)
AT_ONCE = 500  # rows asked for by one statement
MOST_READ_AHEAD = 8  # files that are examined or wait for that in the threads


@dataclass
class Sight:
    """A row of Seen as it is known here, and what was found in its file. `entry` and `whole` are of this identity."""

    id: int
    path: Path
    state: str
    identity: str
    changed: float
    is_accepted: bool = False
    why: str = ""
    bytes: int = 0
    whole: Whole | None = None
    entry: Entry | None = None
    sha256: str = ""
    is_read: bool = False  # now, in a thread
    read_at: float = 0.0
    promised: frozenset[str] = frozenset()
    transfer: int = 0


class Snooppix:
    """One life. Call `once` again and again; it is safe at any time, and after any other life's end."""

    def __init__(
        self, settings: Settings, readers: Background, carriers: Background, clock: Callable[[], float] = time.time
    ) -> None:
        self.settings = settings
        self.clock = clock
        self.readers, self.carriers = readers, carriers
        self.reader = Reader(settings.paths.instruments)
        self.instruments = instruments_in(settings.paths.instruments)
        self.sights: dict[Path, Sight] = {}
        self.by_id: dict[int, Sight] = {}
        self.waiting: dict[int, Sight] = {}
        self.mover = Mover(settings, carriers, clock)
        self.mover.arrived = self._arrived
        self.mover.failed = self._failed
        self.mover.may_start = self._may_start
        self.mover.siblings_of = self._siblings_of
        self.is_stopped = False
        self.blind: dict[Path, str] = {}

    def recover(self) -> None:
        self.mover.recover()
        self._recall_waiting()

    def _recall_waiting(self) -> None:
        """Those that an earlier life left, and those that a person has asked to try again."""
        for row in Seen.select().where(Seen.state == WAITING):
            if row.id not in self.waiting:
                self._know(row)

    def once(self, is_look: bool = True) -> None:
        self.readers.hand_back()
        self.carriers.hand_back()
        if is_look and self.settings.landing.folders:
            self._look()
        self._read_what_is_steady()
        self._settle_what_is_read()
        self.mover.once()

    @property
    def is_busy(self) -> bool:
        """Whether something is being read or carried now."""
        return bool(self.readers.under_way or self.carriers.under_way)

    def next_due(self) -> float | None:
        """When a file will have been steady for long enough, or has had its last chance."""
        moments = [moment for sight in self.waiting.values() if (moment := self._due(sight)) is not None]
        return min(moments, default=None)

    def stop(self) -> None:
        self.is_stopped = True
        self.mover.stop()

    # ------------------------------------------------------------------ looking

    def _look(self) -> None:
        now = self.clock()
        self._recall_waiting()
        look = look_into(self.settings.landing.folders)
        for folder, why in (look.blind.items() - self.blind.items()) if look.blind != self.blind else ():
            log.warning("%s cannot be looked into: %s", folder, why)
        self.blind = dict(look.blind)
        new = [path for path in look.files if path not in self.sights]
        self._recall(new)
        with entries.all_or_nothing() if new else nullcontext():
            for path, found in sorted(look.files.items()):
                self._note(path, found, look, now)
        missing = [path for path in self.sights if path not in look.files]
        for path in missing:
            if look.can_tell_of(path):
                self._note_missing(self.sights[path])

    def _recall(self, paths: Iterable[Path]) -> None:
        """The last row of each path that this life has not met yet."""
        by_key = {path_key(path): path for path in paths}
        keys = list(by_key)
        for start in range(0, len(keys), AT_ONCE):
            query = Seen.select().where(Seen.path_key.in_(keys[start : start + AT_ONCE])).order_by(Seen.version)
            for row in query:
                self._know(row, by_key[row.path_key])

    def _know(self, row: Seen, path: Path | None = None) -> Sight:
        path = path or Path(row.path)
        sight = Sight(row.id, path, row.state, row.identity, row.changed, bool(row.is_accepted), row.why, row.bytes)
        sight.sha256 = row.sha256
        self.sights[path] = self.by_id[row.id] = sight
        if sight.state == WAITING:
            self.waiting[row.id] = sight
        return sight

    def _note(self, path: Path, found: Found, look: Look, now: float) -> None:
        sight = self.sights.get(path)
        if sight is None or (sight.state != WAITING and sight.identity != found.identity):
            sight = self._see(path, found, now)
        elif sight.state == WAITING and sight.identity != found.identity:
            self._forget_reading(sight)
            sight.identity, sight.changed, sight.bytes = found.identity, now, found.bytes
            self._say(sight, "it is still being written.", identity=found.identity, changed=now, bytes=found.bytes)
        elif sight.state == REGISTERED and self.settings.storage.mode == "move":
            self._take_away(sight)
        if sight.state != WAITING:
            return
        if found.fault:
            self._refuse(sight, found.fault)
        promised = look.promises.get(path, frozenset())
        if promised != sight.promised:
            sight.promised = promised
            if not sight.is_read and not sight.transfer:
                sight.whole, sight.read_at = None, 0.0

    def _see(self, path: Path, found: Found, now: float) -> Sight:
        key = path_key(path)
        before = Seen.select().where(Seen.path_key == key).order_by(Seen.version.desc()).first()
        row = Seen.create(
            path_key=key,
            version=before.version + 1 if before else 1,
            path=shown(path),
            name=shown(path.name)[:255],
            identity=found.identity,
            bytes=found.bytes,
            state=WAITING,
            why="it was seen just now.",
            first_seen=now,
            changed=now,
        )
        return self._know(row, path)

    def _note_missing(self, sight: Sight) -> None:
        if sight.state == WAITING:
            self._refuse(sight, "it vanished before it was taken.", identity="")
        del self.sights[sight.path]
        self.by_id.pop(sight.id, None)

    # ------------------------------------------------------------------ reading

    def _due(self, sight: Sight) -> float | None:
        if sight.state != WAITING or sight.is_read or sight.whole is not None:
            return None
        first = sight.changed + self.settings.landing.steady_s
        if sight.read_at < first:
            return first
        return max(first, sight.changed + self.settings.landing.patience_s)

    def _read_what_is_steady(self) -> None:
        now = self.clock()
        for sight in self.waiting.values():
            if self.readers.under_way >= MOST_READ_AHEAD or self.is_stopped:
                return
            due = self._due(sight)
            if due is not None and due <= now:
                sight.is_read, sight.read_at = True, now
                self.readers.do(self._read, sight.path, sight.promised, then=partial(self._was_read, sight))

    def _read(self, path: Path, promised: frozenset[str]) -> tuple[Whole, Entry | SpicaError]:
        """In a thread. A whole file that makes no exposure comes with the reason."""
        whole = examine(path, promised, lambda: self.is_stopped)
        try:
            return whole, entries.read_entry(path, self.reader.read)
        except SpicaError as error:
            return whole, error

    def _was_read(self, sight: Sight, result: Any) -> None:
        sight.is_read = False
        if self.is_stopped or self.by_id.get(sight.id) is not sight or sight.state != WAITING:
            return
        if isinstance(result, Vanished):
            return  # the next look says so
        if isinstance(result, NotWhole | OSError):
            self._not_whole(sight, result)
        elif isinstance(result, BaseException):
            log.error("%s cannot be examined", sight.path, exc_info=result)
            self._refuse(sight, f"it cannot be examined: {result}")
        else:
            whole, entry = result
            if whole.identity != sight.identity:
                return  # the next look sees the change
            if isinstance(entry, SpicaError):
                self._refuse(sight, _reason(entry, sight.path), sha256=whole.sha256)
            else:
                sight.whole, sight.entry, sight.sha256 = whole, entry, whole.sha256

    def _not_whole(self, sight: Sight, error: Exception) -> None:
        """More bytes, or rights, may still mend it, as long as patience lasts."""
        why = f"it cannot be read: {error.strerror}." if isinstance(error, OSError) else str(error)
        if self.clock() - sight.changed >= self.settings.landing.patience_s:
            self._refuse(sight, why)
        else:
            self._say(sight, f"it is not whole yet: {why}")

    # ------------------------------------------------------------------ deciding

    def _settle_what_is_read(self) -> None:
        now_taken: set[str] = set()
        for sight in list(self.waiting.values()):
            if sight.whole and sight.entry and not sight.transfer and not self.is_stopped:
                self._settle(sight, sight.whole, sight.entry, now_taken)

    def _settle(self, sight: Sight, whole: Whole, entry: Entry, now_taken: set[str]) -> None:
        if twin := entries.same_bytes(whole.sha256):
            if self._is_own(twin, sight):
                self._registered(sight, int(twin.id))
            else:
                self._refuse(sight, f"the same bytes are registered already: {twin.name} in {twin.node}:{twin.path}.")
            return
        if not sight.is_accepted and (known := entries.earlier_version(entry)):
            self._refuse(
                sight,
                f"{known.name} is registered already with other bytes, in {known.node}:{known.path}. If this is a "
                f"better version: snooppix --accept {sight.path.name}",
            )
            return
        if self._is_under_way(sight, entry, whole) or whole.sha256 in now_taken or entry.name in now_taken:
            self._say(sight, "a file of the same name or with the same bytes goes first.")
            return
        place = self._place(sight, entry)
        if place is None:
            return
        now_taken |= {whole.sha256, entry.name}
        if self.settings.storage.mode == "leave" or not self.mover.roots:
            self._register_in_place(sight, whole, entry)
        else:
            self._ask_for_transfer(sight, whole, place)

    def _is_own(self, twin: Any, sight: Sight) -> bool:
        """Whether it was registered from this very file, by a life that could not say so any more."""
        if twin.path == str(sight.path):
            return True
        going = Transfer.get_or_none((Transfer.seen == sight.id) & (Transfer.kind == "store"))
        return going is not None and bool(going.target) and going.target.endswith(twin.path)

    def _is_under_way(self, sight: Sight, entry: Entry, whole: Whole) -> bool:
        same = (Transfer.name == entry.name) | (Transfer.digest == f"sha256:{whole.sha256}")
        others = Transfer.select().where((Transfer.kind == "store") & Transfer.state.in_(OPEN) & same)
        return any(other.seen != sight.id for other in others)

    def _place(self, sight: Sight, entry: Entry) -> str | None:
        """The folder below a root; a companion's is that of its exposure, and waits for it."""
        stem, kind = companion_of(entry.name, self.instruments)
        if not kind:
            return place_of(entry.runid, entry.filter)
        own = entries.with_stem(stem)
        if own is None:
            self._say(sight, f"this {kind} map waits for its exposure, {stem}.")
            return None
        return place_of(own.runid, own.filter)

    def _ask_for_transfer(self, sight: Sight, whole: Whole, place: str) -> None:
        row = ask(
            key_of("store", sight.id, whole.sha256),
            kind="store",
            seen=sight.id,
            batch=place,
            name=sight.path.name,
            source=os.fspath(sight.path),
            target="",
            bytes=whole.bytes,
            digest=f"sha256:{whole.sha256}",
        )
        sight.transfer = row.id
        if row.state not in OPEN:  # a person asked to try it again
            anew = {"state": "waiting", "attempts": 0, "why": "", "target": "" if row.state == FAILED else row.target}
            Transfer.update(**anew).where(Transfer.id == row.id).execute()
        self._say(sight, f"it is whole; transfer {row.id} brings it to storage.", sha256=whole.sha256)

    def _may_start(self, row: Transfer) -> bool:
        if row.kind != "store":
            return True
        sight = self.by_id.get(row.seen or 0)
        return sight is not None and sight.transfer == row.id

    def _siblings_of(self, row: Transfer) -> list[tuple[str, str]]:
        sight = self.by_id.get(row.seen or 0)
        if sight is None or sight.entry is None:
            return []
        stem, kind = companion_of(sight.entry.name, self.instruments)
        own = entries.with_stem(stem) if kind else None
        if own is not None:
            return [(own.node, own.path)]
        return entries.siblings(sight.entry.runid, sight.entry.filter)

    # ------------------------------------------------------------------ ending

    def _register_in_place(self, sight: Sight, whole: Whole, entry: Entry) -> None:
        status = sight.path.lstat()
        if identity_of(status) != whole.identity:
            return
        node, path = self.settings.daemon.node, os.fspath(sight.path)
        try:
            with entries.all_or_nothing():
                number = entries.register_entry(entry, node, path, whole.sha256, whole.bytes, status.st_mtime_ns)
                self._registered(sight, number)
        except SpicaError as error:
            self._refuse(sight, str(error))

    def _arrived(self, row: Transfer, carried: Carried) -> None:
        if row.kind != "store":
            self.mover.complete(row, carried)
            return
        sight = self.by_id.get(row.seen or 0)
        if sight is None or sight.entry is None or sight.state != WAITING:
            return  # the next life, or look, takes it up from the start: it lies whole at its place
        path = row.target if row.target.startswith("/") else row.target.partition(":")[2]
        size, mtime_ns = carried.bytes, carried.mtime_ns
        try:
            with entries.all_or_nothing():
                number = entries.register_entry(sight.entry, row.node, path, carried.sha256, size, mtime_ns)
                self._registered(sight, number)
                self.mover.complete(row, carried)
        except SpicaError as error:
            self.mover.fail(row, error)
            return
        if self.settings.storage.mode == "move":
            self._take_away(sight)

    def _registered(self, sight: Sight, number: int) -> None:
        self._say(sight, "", state=REGISTERED, exposure=number, ended=self.clock(), sha256=sight.sha256)
        sight.state = REGISTERED
        self.waiting.pop(sight.id, None)
        log.info("%s: registered as exposure %d", sight.path, number)

    def _failed(self, row: Transfer, error: SpicaError) -> None:
        sight = self.by_id.get(row.seen or 0) if row.kind == "store" else None
        if sight is not None and sight.state == WAITING:
            is_gone = isinstance(error, Gone)
            self._refuse(sight, f"transfer {row.id}: {error}", **({"identity": ""} if is_gone else {}))

    def _refuse(self, sight: Sight, why: str, **values: Any) -> None:
        self._say(sight, why, state=REFUSED, ended=self.clock(), **values)
        self._call_off(sight, why)
        sight.state, sight.identity = REFUSED, values.get("identity", sight.identity)
        self.waiting.pop(sight.id, None)
        log.warning("%s: refused: %s", printable(str(sight.path)), why)

    def _say(self, sight: Sight, why: str, **values: Any) -> None:
        if sight.why != why or values:
            sight.why = why
            Seen.update(why=why, **values).where((Seen.id == sight.id) & (Seen.state == sight.state)).execute()

    def _forget_reading(self, sight: Sight) -> None:
        """It is another file now: what is under way for the old one is called off."""
        sight.whole, sight.entry, sight.read_at = None, None, 0.0
        self._call_off(sight, "the file changed meanwhile.")

    def _call_off(self, sight: Sight, why: str) -> None:
        """Its transfer, also one that an earlier life asked for: others of its name wait for that."""
        is_its = (Transfer.kind == "store") & (Transfer.seen == sight.id) & Transfer.state.in_(OPEN)
        Transfer.update(state=FAILED, why=why, ended=self.clock()).where(is_its).execute()
        if going := self.mover.under_way.get(sight.transfer):
            going.progress.stop.set()
        sight.transfer = 0

    def _take_away(self, sight: Sight) -> None:
        """In the mode move: only the file that was registered, and only when it is kept elsewhere."""
        row = Seen.get_by_id(sight.id)
        kept = entries.kept_elsewhere(row.exposure, row.sha256, os.fspath(sight.path))
        with suppress(FileNotFoundError):
            if kept and identity_of(sight.path.lstat()) == sight.identity:
                sight.path.unlink()
                for suffix in (".md5", ".sha256"):
                    with suppress(OSError):
                        os.unlink(f"{sight.path}{suffix}")


def path_key(path: Path) -> str:
    return hashlib.sha256(os.fsencode(path)).hexdigest()


def _reason(error: SpicaError, path: Path) -> str:
    """Without the path, which stands beside it."""
    if isinstance(error, BadInput):
        return " ".join(f"{problem.what} {problem.mend}".strip() for problem in error.problems)
    what = getattr(error, "what", "")
    return f"{what} {getattr(error, 'mend', '')}".strip() if what else str(error).removeprefix(f"{path}: ")


def counts() -> dict[str, int]:
    """How many were seen, and how they ended: seen = registered + refused + waiting."""
    found = {state: Seen.select().where(Seen.state == state).count() for state in STATES}
    return {"seen": Seen.select().count(), **found}

"""What is on its way: rows of Transfer, started within bounds, paused by lost sources, full disks or people, resumed.

How one file is carried is carrying.py's affair; what follows when an exposure has arrived, snooppix.py's. All of the
tables' work is done in the caller's own thread.
"""

from __future__ import annotations

import hashlib
import logging
import os
import time
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import peewee

from spicad.archive import entries
from spicad.archive.carrying import carry, partial_of, remote_free
from spicad.archive.errands import (
    Carried,
    Damaged,
    Errand,
    Gone,
    Interrupted,
    Lost,
    Means,
    Occupied,
    Progress,
    Rate,
)
from spicad.archive.registering import path_key
from spicad.archive.storage import Choice, Root, choose, roots_of
from spicad.background import Background
from spicad.config import Settings
from spicad.durable import replace_file
from spicad.tables import Transfer
from spicad.words import SpicaError

log = logging.getLogger("spicad.datatransfer")

WAITING, MOVING, PAUSED, DONE, FAILED = "waiting", "moving", "paused", "done", "failed"
OPEN = (WAITING, MOVING, PAUSED)
MOST_DAMAGED = 3  # tries of a file that arrives damaged
LONGEST_PAUSE_S = 3600.0
TELL_S = 0.5
MEASURED_FOR_S = 10.0
MOST_PAUSED_AT_ONCE = 20
SUMS = "SHA256SUMS"
PAUSE_FILE = "transfers-paused"


def means_of(settings: Settings) -> Means:
    storage = settings.storage
    return Means(
        rate=Rate(storage.rate_mb * (1 << 20)),
        parallel=storage.parallel,
        timeout_s=storage.timeout_s,
        ssh_options=tuple(storage.ssh),
    )


def key_of(*what: object) -> str:
    return hashlib.sha256("\0".join(map(str, what)).encode("utf-8", "surrogateescape")).hexdigest()


def ask(key: str, **values: Any) -> Transfer:
    """The transfer of that key; made when there is none."""
    there = Transfer.get_or_none(Transfer.key == key)
    if there is None:
        try:
            there = Transfer.create(key=key, state=WAITING, asked=time.time(), **values)
        except peewee.IntegrityError:
            there = Transfer.get(Transfer.key == key)
    return there  # type: ignore[no-any-return]


def ask_export(batch: str, path: Path, folder: str) -> int:
    """The number of the transfer of one product to PLACE/FOLDER."""
    row = ask(
        key_of("export", batch, folder, path.name, path.stat().st_mtime_ns),
        kind="export",
        batch=batch,
        name=path.name,
        source=os.fspath(path),
        target=f"{folder}/{path.name}",
        bytes=path.stat().st_size,
    )
    return int(row.id)


def pause_file(settings: Settings) -> Path:
    """While it is there, nothing is started; its text says who asked for that."""
    return Path(settings.paths.spool) / PAUSE_FILE


@dataclass
class UnderWay:
    row: Transfer
    progress: Progress
    told_at: float = 0.0


class Mover:
    """`arrived` and `failed` are told, in the caller's thread, of each transfer that ended so.

    Exposures are brought to storage only while `may_start` says yes: whoever registers them must be ready for it.
    """

    def __init__(self, settings: Settings, carriers: Background, clock: Callable[[], float] = time.time) -> None:
        self.settings = settings
        self.clock = clock
        self.means = means_of(settings)
        self.roots = roots_of(settings.storage.roots, settings.daemon.node, str(settings.source))
        self.under_way: dict[int, UnderWay] = {}
        self.arrived: Callable[[Transfer, Carried], None] = lambda row, carried: None
        self.failed: Callable[[Transfer, SpicaError], None] = lambda row, error: None
        self.may_start: Callable[[Transfer], bool] = lambda row: True
        self.siblings_of: Callable[[Transfer], Iterable[tuple[str, str]]] = lambda row: ()
        self._carriers = carriers
        self._free: dict[Root, int] = {}
        self._measured_at = 0.0
        self._is_measuring = False
        self._pauses: Counter[int] = Counter()

    def recover(self) -> None:
        """What an earlier life left under way goes on where it was."""
        Transfer.update(state=WAITING).where(Transfer.state == MOVING).execute()

    def once(self) -> None:
        now = self.clock()
        self._tell_progress(now)
        self._obey_pauses()
        if pause_file(self.settings).exists():
            self._stop_all()
            return
        paused = 0
        for row in self._due(now):
            if len(self.under_way) >= self.means.parallel or paused >= MOST_PAUSED_AT_ONCE:
                break
            if row.id not in self.under_way and self.may_start(row):
                self._start(row, now)
                paused += row.state == PAUSED

    def _due(self, now: float) -> Iterable[Transfer]:
        if len(self.under_way) >= self.means.parallel:
            return []
        is_due = (Transfer.not_before <= now) & ~Transfer.is_by_hand
        query = Transfer.select().where((Transfer.state.in_((WAITING, PAUSED))) & is_due)
        return list(query.order_by(Transfer.id).limit(500))

    def is_startable(self) -> bool:
        """Whether something may start now, or will once a place is free."""
        if pause_file(self.settings).exists():
            return False
        return any(row.id not in self.under_way and self.may_start(row) for row in self._due(self.clock()))

    def next_due(self) -> float | None:
        """When something that pauses may go on."""
        moment = (
            Transfer.select(peewee.fn.MIN(Transfer.not_before))
            .where(Transfer.state.in_((WAITING, PAUSED)) & ~Transfer.is_by_hand)
            .scalar()
        )
        return None if moment is None else float(moment)

    def stop(self) -> None:
        """Threads end at the next piece; what they have carried stays."""
        self._stop_all()

    def _stop_all(self) -> None:
        for each in self.under_way.values():
            each.progress.stop.set()

    # ------------------------------------------------------------------ start

    def _start(self, row: Transfer, now: float) -> None:
        root = self._root_of(row)
        if not row.target:
            chosen = self._choose(row, now)
            if chosen is None:
                return
            if chosen.root is None:
                self._pause(row, chosen.why, now + self.settings.daemon.look_s)
                return
            root = chosen.root
            row.node, row.target = root.node, self._target_on(root, row)
            log.info("%s goes to %s: %s", row.name, root.words, chosen.why)
        taken = Transfer.update(
            state=MOVING, why="", node=row.node, target=row.target, started=row.started or now, bytes_done=0
        ).where((Transfer.id == row.id) & (Transfer.state == row.state) & ~Transfer.is_by_hand)
        if not taken.execute():
            return
        row.state = MOVING
        errand = Errand(
            number=row.id,
            source=row.source,
            target=row.target,
            digest=row.digest,
            validator=row.validator,
            keep_free=self.settings.storage.free_mb << 20 if row.kind != "export" else 0,
            mode=0o444 if row.kind == "store" else 0o644,
            root=root.folder if root else "",
        )
        progress = Progress(bytes=row.bytes)
        self.under_way[row.id] = UnderWay(row, progress, now)
        self._carriers.do(carry, errand, self.means, progress, then=lambda result: self._ended(row, result))

    def _root_of(self, row: Transfer) -> Root | None:
        path = row.target.partition(":")[2] if not row.target.startswith("/") else row.target
        return next((root for root in self.roots if row.kind == "store" and row.target and root.holds(path)), None)

    def _target_on(self, root: Root, row: Transfer) -> str:
        """A place of its own: where another file lies or goes already, a folder named after its digest is between."""
        plain = f"{root.folder}/{row.batch}/{row.name}"
        on_host = f"{root.host}:{plain}" if root.host else plain
        going = Transfer.select().where((Transfer.batch == row.batch) & (Transfer.name == row.name))
        others = {each.target for each in going if each.id != row.id}
        key = path_key(root.node, plain)
        if on_host in others or entries.is_taken(key) or (not root.host and os.path.lexists(plain)):
            plain = f"{root.folder}/{row.batch}/{row.digest.rpartition(':')[2][:12]}/{row.name}"
        return f"{root.host}:{plain}" if root.host else plain

    def _choose(self, row: Transfer, now: float) -> Choice | None:
        """None while it is being found out how much is free."""
        if not self._is_measuring and not self._measured_at <= now < self._measured_at + MEASURED_FOR_S:
            self._is_measuring = True
            self._carriers.do(free_on, self.roots, self.means, then=self._measured)
        if self._is_measuring:
            return None
        promised: Counter[Root] = Counter()
        siblings: Counter[Root] = Counter()
        for other in Transfer.select().where((Transfer.kind == "store") & Transfer.state.in_(OPEN)):
            root = self._root_of(other) if other.target else None
            if root and other.id != row.id:
                promised[root] += max(0, other.bytes - other.bytes_done)
                siblings[root] += other.batch == row.batch
        for node, path in self.siblings_of(row):
            for root in self.roots:
                siblings[root] += root.node == node and root.holds(path)
        keep_free = self.settings.storage.free_mb << 20
        return choose(self.roots, self._free, promised, siblings, row.bytes, keep_free)

    def _measured(self, free: Any) -> None:
        self._is_measuring = False
        self._measured_at = self.clock()
        self._free = free if isinstance(free, dict) else {}

    # ------------------------------------------------------------------ end

    def _ended(self, row: Transfer, result: Any) -> None:
        progress = self.under_way.pop(row.id).progress
        now = self.clock()
        self._measured_at = 0.0
        done = {"bytes_done": progress.bytes_done, "validator": progress.validator or row.validator}
        Transfer.update(**done).where(Transfer.id == row.id).execute()
        if isinstance(result, Carried):
            self._pauses.pop(row.id, None)
            self.arrived(row, result)
        elif Transfer.get_by_id(row.id).state == FAILED:
            self._sweep(row)  # called off meanwhile
        elif isinstance(result, Interrupted):
            Transfer.update(state=WAITING).where((Transfer.id == row.id) & (Transfer.state == MOVING)).execute()
        elif isinstance(result, Lost):
            self._put_off(row, result, now)
        elif isinstance(result, Occupied) and row.kind == "fetch" and row.key[:12] not in row.target:
            target = f"{os.path.dirname(row.target)}/{row.key[:12]}/{row.name}"
            Transfer.update(state=WAITING, target=target).where(Transfer.id == row.id).execute()
        elif isinstance(result, Damaged) and row.attempts + 1 < MOST_DAMAGED:
            log.warning("transfer %d of %s: %s", row.id, row.name, result)
            Transfer.update(state=WAITING, attempts=row.attempts + 1, why=str(result)).where(
                Transfer.id == row.id
            ).execute()
        else:
            if not isinstance(result, Damaged | Gone | Occupied):
                log.error("transfer %d of %s failed", row.id, row.name, exc_info=result)
            self.fail(row, result)

    def complete(self, row: Transfer, carried: Carried) -> None:
        values = {"bytes": carried.bytes, "bytes_done": carried.bytes, "sha256": carried.sha256}
        Transfer.update(state=DONE, why="", ended=self.clock(), **values).where(Transfer.id == row.id).execute()
        if row.kind == "export" and row.name != SUMS:
            self._send_sums(row)

    def _send_sums(self, row: Transfer) -> None:
        """Once all that belongs together is there, its checksums follow."""
        folder = os.path.dirname(row.target)
        together = list(Transfer.select().where((Transfer.batch == row.batch) & (Transfer.kind == "export")))
        products = [each for each in together if os.path.dirname(each.target) == folder and each.name != SUMS]
        if any(each.state != DONE for each in products):
            return
        lines = [f"{each.sha256}  {each.name}\n" for each in sorted(products, key=lambda each: each.name)]
        outgoing = Path(self.settings.paths.spool) / "outgoing"
        outgoing.mkdir(exist_ok=True)
        path = outgoing / key_of(folder, *lines)[:24] / SUMS
        path.parent.mkdir(exist_ok=True)
        replace_file(path, "".join(lines).encode())
        ask_export(row.batch, path, folder)

    def fail(self, row: Transfer, error: Exception) -> None:
        log.error("transfer %d of %s: %s", row.id, row.name, error)
        Transfer.update(state=FAILED, why=str(error), ended=self.clock()).where(Transfer.id == row.id).execute()
        self._sweep(row)
        self.failed(row, error if isinstance(error, SpicaError) else SpicaError(str(error)))

    def _sweep(self, row: Transfer) -> None:
        """What it left half done."""
        if row.target.startswith("/"):
            with suppress(OSError):
                os.unlink(partial_of(row.id, row.target))

    def _put_off(self, row: Transfer, error: Lost, now: float) -> None:
        """A full disk is looked at again at each look; what was lost is left alone for longer and longer."""
        if error.is_full:
            self._pause(row, str(error), now + self.settings.daemon.look_s)
            is_named = os.path.lexists(row.target)  # only the sync of its folder failed
            if row.kind == "store" and row.target.startswith("/") and not is_named:  # another root may have room
                self._sweep(row)
                Transfer.update(target="", bytes_done=0).where(Transfer.id == row.id).execute()
            return
        pause_s = min(self.settings.storage.retry_s * 2.0 ** min(self._pauses[row.id], 30), LONGEST_PAUSE_S)
        self._pauses[row.id] += 1
        self._pause(row, str(error), now + pause_s)

    def _pause(self, row: Transfer, why: str, until: float) -> None:
        if row.why != why:
            log.warning("transfer %d of %s pauses: %s", row.id, row.name, why)
        row.why, row.state = why, PAUSED
        Transfer.update(state=PAUSED, why=why, not_before=until).where(
            (Transfer.id == row.id) & Transfer.state.in_(OPEN)
        ).execute()

    # ------------------------------------------------------------------ between

    def _tell_progress(self, now: float) -> None:
        for number, each in self.under_way.items():
            if not each.told_at <= now < each.told_at + TELL_S:
                each.told_at = now
                Transfer.update(
                    bytes_done=each.progress.bytes_done,
                    bytes=each.progress.bytes or each.row.bytes,
                    validator=each.progress.validator or each.row.validator,
                ).where(Transfer.id == number).execute()

    def _obey_pauses(self) -> None:
        if not self.under_way:
            return
        asked = Transfer.select(Transfer.id).where(Transfer.is_by_hand & (Transfer.id.in_(list(self.under_way))))
        for row in asked:
            self.under_way[row.id].progress.stop.set()


def free_on(roots: Iterable[Root], means: Means) -> dict[Root, int]:
    """Bytes free; without those that cannot be reached."""
    found = {}
    for root in roots:
        try:
            if root.host:
                found[root] = remote_free(root.host, root.folder, means)
            else:
                room = os.statvfs(root.folder)
                found[root] = room.f_bavail * room.f_frsize
        except (SpicaError, OSError, ValueError, IndexError) as error:
            log.warning("%s cannot be reached: %s", root.words, error)
    return found

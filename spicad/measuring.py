"""What the daemon does about quotas: measures after each end and deletion, watches what runs, stops, warns by mail.

What is too much is decided in quota.py. A watch looks at the folders of running steps alone; the whole folder of a user
is measured in a thread, one at a time, and never more often than its size allows.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

import peewee

from spicad import accounts, outbox, quota, rows
from spicad.config import Settings
from spicad.ledger import AWAY
from spicad.quota import GROUP, USER, Standing
from spicad.tables import Account, Process, Quota
from spicad.words import SpicaError
from spicad.workbench import Key, Running
from spicad.workshop import Workshop

log = logging.getLogger("spicad")

WATCH_S = 1.0  # of the five seconds within which a step is stopped
MOST_MEASURED_S = 2.0  # a folder that takes longer is not measured once more before a step is stopped
ALL_S = 86400.0
LEAST_REST_S = 1.0
REST = 10  # times as long as a measurement took, nothing of the same user is measured


class Measuring:
    def __init__(self, workshop: Workshop) -> None:
        self.workshop = workshop
        self.due: set[str] = set()
        self.settings: Settings | None = None
        self.all_due = 0.0
        self.not_before: dict[str, float] = {}
        self.took: dict[str, float] = {}
        self.measured = ""  # whose folder is being measured
        self.is_watching = False
        self.next_watch = 0.0
        self.of_runs: dict[int, str] = {}
        self.sizes: dict[Key, tuple[str, str, int]] = {}  # owner, group, bytes of the steps that run
        self.since: Counter[str] = Counter()  # bytes of steps of an owner that have ended since he was measured

    def look(self, now: float) -> None:
        runs = {process: run.owner.user for process, run in self.workshop.runs.items()}
        self.due |= {owner for process, owner in self.of_runs.items() if process not in runs}
        self.of_runs = runs
        self.due |= self.workshop.cleared
        self.workshop.cleared.clear()
        self._measure_all_now_and_then()
        self._measure_next()
        running = self.workshop.bench.running
        if running and not self.is_watching and (now >= self.next_watch or self.next_watch > now + WATCH_S):
            self.next_watch = now + WATCH_S
            self.is_watching = True
            folders = {key: each.folder / "job" for key, each in running.items()}
            self.workshop.floor.background.do(_sizes, folders, then=self._watched)

    @property
    def next_time(self) -> float | None:
        return self.next_watch if self.workshop.bench.running else None

    # ------------------------------------------------------------------ measuring

    def _measure_all_now_and_then(self) -> None:
        """At start, after a reload, and each day: files may come and go by hand, and quotas on the site."""
        settings, moment = self.workshop.floor.settings, time.monotonic()
        if self.settings is not settings or moment >= self.all_due:
            self.settings, self.all_due = settings, moment + ALL_S
            self.due |= _users_in(Path(settings.paths.results))

    def _measure_next(self) -> None:
        moment = time.monotonic()
        ready = [owner for owner in sorted(self.due) if self.not_before.get(owner, 0.0) <= moment]
        if ready and not self.measured:
            self._measure(ready[0])

    def _measure(self, owner: str) -> None:
        self.measured = owner
        self.due.discard(owner)
        begun, ended_before = time.monotonic(), self.since[owner]

        def then(found: Any) -> None:
            self.measured = ""
            self.took[owner] = time.monotonic() - begun
            self.not_before[owner] = time.monotonic() + max(REST * self.took[owner], LEAST_REST_S)
            if isinstance(found, BaseException):
                log.error("the results of %s cannot be measured: %s", owner, found)
                return
            try:
                self._note(owner, found)
                self.since[owner] -= ended_before
            except AWAY:
                self.due.add(owner)

        folder = Path(self.workshop.floor.settings.paths.results) / owner
        self.workshop.floor.background.do(quota.measure, folder, then=then)

    def _note(self, owner: str, by_group: dict[str, int]) -> None:
        settings, now = self.workshop.floor.settings, self.workshop.floor.clock()
        groups = quota.note_use(owner, by_group)
        own = max(groups, key=lambda group: by_group.get(group, 0), default="")
        most, _ = quota.limits_now(settings, owner, own)
        self._settle(Standing(USER, owner, sum(by_group.values()), most), now)
        for group in groups:
            _, most = quota.limits_now(settings, owner, group)
            self._settle(Standing(GROUP, group, quota.used_by(GROUP, group), most), now)

    def _settle(self, standing: Standing, now: float) -> None:
        """Noted, its owner warned, and what runs stopped when it is too much."""
        warned = int(rows.find(Quota, "warned", kind=standing.kind, name=standing.name) or 0)
        if percent := quota.warning_due(standing, warned):
            _warn(self.workshop.floor.settings, self.workshop.floor.spool.folder("outbox"), standing, percent, now)
        quota.note_standing(standing, quota.reached_percent(standing), now)
        if standing.is_over:
            self._stop_greatest(standing)

    # ------------------------------------------------------------------ watching

    def _watched(self, found: Any) -> None:
        self.is_watching = False
        if isinstance(found, BaseException):
            log.error("what runs cannot be measured: %s", found)
            return
        running = self.workshop.bench.running
        for key, (owner, _, bytes_) in self.sizes.items():
            if key not in running:
                self.since[owner] += bytes_
                self.due.add(owner)
        self.sizes = {
            key: (each.run.owner.user, each.run.owner.group, found[key])
            for key, each in running.items()
            if key in found
        }
        with suppress(*AWAY):
            for owner, group in {(owner, group) for owner, group, _ in self.sizes.values()}:
                self._look_at(owner, group)

    def _look_at(self, owner: str, group: str) -> None:
        settings = self.workshop.floor.settings
        for kind, name, most in zip(
            (USER, GROUP), (owner, group), quota.limits_now(settings, owner, group), strict=True
        ):
            if not most:
                continue
            runs = sum(size for whose, of, size in self.sizes.values() if name == (whose if kind == USER else of))
            used = quota.used_by(kind, name) + runs + self.since[owner]
            if used <= most:
                continue
            if self.took.get(owner, 0.0) > MOST_MEASURED_S:
                self._stop_greatest(Standing(kind, name, used, most))
            elif not self.measured:
                self._measure(owner)
            else:
                self.due.add(owner)
                self.not_before[owner] = 0.0

    def _stop_greatest(self, standing: Standing) -> None:
        """The step that has written most; when that was not enough, the next look stops another."""
        running = [each for each in self.workshop.bench.running.values() if _is_of(each, standing) and not each.killed]
        if running:
            sizes = self.sizes
            greatest = max(running, key=lambda each: sizes.get((each.run.process, each.step.number), ("", "", 0))[2])
            self.workshop.bench.stop(greatest, quota.stopped_words(standing))


def _is_of(running: Running, standing: Standing) -> bool:
    owner = running.run.owner
    return standing.name == (owner.user if standing.kind == USER else owner.group)


def _users_in(results: Path) -> set[str]:
    with suppress(OSError):
        return {path.name for path in results.iterdir() if path.is_dir() and not path.is_symlink()}
    return set()


def _sizes(folders: dict[Key, Path]) -> dict[Key, int]:
    return {key: quota.tree_bytes(folder, set()) for key, folder in folders.items()}


# ---------------------------------------------------------------------- mails


def _warn(settings: Settings, folder: Path, standing: Standing, percent: int, now: float) -> None:
    text = (
        f"The results of {standing.whose} take {quota.gigabytes(standing.used)}, {standing.percent:.0f}% of a quota of "
        f"{quota.gigabytes(standing.most)}.\n"
        "When it is full, nothing more is queued, and steps that go on writing are stopped.\n\n"
        "What you can do\n"
        "  spica quota                            shows what is used\n"
        "  spica results PROCESSID --fetch DIR    copies products to DIR\n"
        "  spica delete PROCESSID                 deletes them; the recipe stays\n"
    )
    if settings.web.address:
        text += f"  {settings.web.address.rstrip('/')}/processes   shows your processes, on the site\n"
    log.warning("%s has used %.0f%% of its quota", standing.whose, standing.percent)
    subject = f"{percent}% of the quota of {standing.whose} are used"
    for number, address in enumerate(_addresses(settings, standing), 1):
        with suppress(SpicaError):
            key = f"quota-{standing.kind}-{standing.name.replace('@', '-at-')[:60]}-{percent}-{now:.0f}-{number}"
            outbox.put(folder, key, outbox.compose(settings, address, subject, text), now)


def _addresses(settings: Settings, standing: Standing) -> list[str]:
    """Of a user, or of those who administer a group; else of who administers Spica."""
    found: list[str] = []
    with suppress(peewee.PeeweeException):
        if standing.kind == GROUP:
            found = [account.mail for account in accounts.administrators_of(standing.name)]
        elif account := Account.get_or_none(Account.owner == standing.name):
            found = [account.mail]
    if standing.kind == USER and not found:
        query: Any = Process.select(Process.mail).where((Process.owner == standing.name) & (Process.mail != ""))
        found = [mail for (mail,) in query.order_by(Process.id.desc()).limit(1).tuples()]
        found = found or ([f"{standing.name}@{settings.mail.domain}"] if settings.mail.domain else [])
    return found or [each for each in [settings.retention.administrator] if each]

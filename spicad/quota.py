"""Disk quotas of users and groups: what is used, what may be, who is refused, warned or stopped.

The first part are decisions on values; then the tables that they rest on; then `measure`, which equals du. When it is
measured and which step is stopped is measuring.py's affair.
"""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import peewee

from spicad import parts, rows
from spicad.config import Settings, figures_of
from spicad.tables import Account, DiskUse, Group, Process, Quota, database
from spicad.words import Phase

GB = 1_000_000_000
MIB = 1 << 20
SMALL = ((1_000_000, "MB"), (1000, "kB"), (1, "B"))
USER, GROUP = "user", "group"
WARN_AT = (95, 80)  # per cent
BLOCK_BYTES = 512  # of st_blocks, whatever the file system's own are
PENDING = (Phase.QUEUED.value, Phase.EXECUTING.value)
LONGEST_PATH = 4000  # bytes; Linux takes 4096
PARTS_AT_ONCE = 15  # of at most 255 bytes each
OF_A_PROCESS = re.compile(r"\d{6,}-.+")


@dataclass(frozen=True)
class Standing:
    """`kind` is user or group; `most` 0 stands for no limit."""

    kind: str
    name: str
    used: int
    most: int = 0

    @property
    def percent(self) -> float:
        return 100.0 * self.used / self.most if self.most else 0.0

    @property
    def is_over(self) -> bool:
        return bool(self.most) and self.used > self.most

    @property
    def whose(self) -> str:
        return self.name if self.kind == USER else f"the group {self.name}"


@dataclass(frozen=True)
class Room:
    """`pending` is forecast for what is queued and runs."""

    standing: Standing
    pending: int

    def percent(self, forecast: int = 0) -> float:
        """Of the quota, once all that is forecast has been made."""
        most = self.standing.most
        return 100.0 * (self.standing.used + self.pending + forecast) / most if most else 0.0


def refusal(standing: Standing, pending: int, forecast: int) -> str:
    """Why a process is not queued: '' or the figures and the mend."""
    if not standing.most or standing.used + pending + forecast <= standing.most:
        return ""
    return (
        f"the quota of {standing.whose} is {gigabytes(standing.most)}: {gigabytes(standing.used)} are used, "
        f"{gigabytes(pending)} are forecast for what is queued and runs, and {gigabytes(forecast)} for this process. "
        f"Fetch and delete products (spica delete), wait for those that run, split the job, or ask an administrator. "
        f"spica quota shows what is used."
    )


def stopped_words(standing: Standing) -> str:
    return (
        f"it was stopped: {standing.whose} has used {gigabytes(standing.used)} of a quota of "
        f"{gigabytes(standing.most)}. Fetch and delete products (spica delete), or ask an administrator; then run it "
        f"again."
    )


def warning_due(standing: Standing, warned: int) -> int:
    """The percentage that is to be warned of now; 0 for none. `warned` is the last that was."""
    reached = reached_percent(standing)
    return reached if reached > warned else 0


def reached_percent(standing: Standing) -> int:
    return next((percent for percent in WARN_AT if standing.most and standing.percent >= percent), 0)


def gigabytes(bytes_: int) -> str:
    """Of what is small, in smaller units."""
    if 0 < bytes_ < GB // 100:
        return next(f"{bytes_ / unit:.3g} {name}" for unit, name in SMALL if bytes_ >= unit)
    return f"{bytes_ / GB:.3g} GB" if bytes_ < 1000 * GB else f"{bytes_ / GB:.0f} GB"


def most_of_user(settings: Settings, user: str, account_mb: int = 0, member_mb: int = 0) -> int:
    """The exception in spica.conf, the account's own figure, that of its group for each member, the usual one."""
    named = figures_of(settings.quota.users)
    if user in named:
        return int(named[user] * GB)
    return (account_mb or member_mb) * MIB or int(settings.quota.user_gb * GB)


def most_of_group(settings: Settings, group: str, group_mb: int = 0) -> int:
    named = figures_of(settings.quota.groups)
    if group in named:
        return int(named[group] * GB)
    return group_mb * MIB or int(settings.quota.group_gb * GB)


# ---------------------------------------------------------------------- the tables


def standing_of(kind: str, name: str) -> Standing:
    """As it was last measured."""
    used = int(rows.find(Quota, "used", kind=kind, name=name) or 0)
    return Standing(kind, name, used, int(rows.find(Quota, "most", kind=kind, name=name) or 0))


def standings(*names: str) -> list[Standing]:
    """Of these users and groups, of all without a name; users first."""
    query: Any = Quota.select().order_by(Quota.kind.desc(), Quota.name)
    if names:
        query = query.where(Quota.name.in_(names))
    return [Standing(row.kind, row.name, row.used, row.most) for row in query]


def limits_now(settings: Settings, owner: str, group: str) -> tuple[int, int]:
    """Of the user and of the group, from spica.conf and the tables of accounts."""
    account_mb = member_mb = group_mb = 0
    with suppress(peewee.PeeweeException):
        account = Account.get_or_none(Account.owner == owner)
        home = account.group if account else group
        of_group = Group.get_or_none(Group.name == group) if group else None
        of_home = of_group if home == group else Group.get_or_none(Group.name == home)
        account_mb, group_mb = (each.quota_mb if each else 0 for each in (account, of_group))
        member_mb = of_home.user_quota_mb if of_home else 0
    user = most_of_user(settings, owner, account_mb, member_mb)
    return user, most_of_group(settings, group, group_mb) if group else 0


def pending_bytes(kind: str, name: str) -> int:
    """The forecasts of what is queued and runs."""
    whose = Process.owner if kind == USER else Process.group
    query: Any = Process.select(peewee.fn.SUM(Process.forecast_bytes)).where(
        (whose == name) & Process.phase.in_(PENDING)
    )
    return int(query.scalar() or 0)


def used_by(kind: str, name: str) -> int:
    whose = DiskUse.owner if kind == USER else DiskUse.group
    return int(DiskUse.select(peewee.fn.SUM(DiskUse.bytes)).where(whose == name).scalar() or 0)


def rooms(settings: Settings, owner: str, group: str) -> list[Room]:
    """Of the user and, when there is one, of the group, as the next process will find them."""
    user, of_group = limits_now(settings, owner, group)
    return [room_of(USER, owner, user), *([room_of(GROUP, group, of_group)] if group else [])]


def room_of(kind: str, name: str, most: int) -> Room:
    return Room(Standing(kind, name, used_by(kind, name), most), pending_bytes(kind, name))


def refusal_for(settings: Settings, owner: str, group: str, forecast: int, also: int = 0) -> str:
    """Whether there is room for one process more; `also` is forecast and in no table yet."""
    for kind, name, most in zip((USER, GROUP), (owner, group), limits_now(settings, owner, group), strict=True):
        if most:
            room = room_of(kind, name, most)
            if why := refusal(room.standing, room.pending + also, forecast):
                return why
    return ""


def note_use(owner: str, by_group: dict[str, int]) -> set[str]:
    """What `measure` has found; returns the groups whose use may have changed."""
    with database.atomic():
        before = {row.group for row in DiskUse.select().where(DiskUse.owner == owner)}
        rows.delete(DiskUse, owner=owner)
        for group, bytes_ in by_group.items():
            rows.insert(DiskUse, owner=owner, group=group, bytes=bytes_)
    return {group for group in before | by_group.keys() if group}


def note_standing(standing: Standing, warned: int, now: float) -> None:
    seen = {"kind": standing.kind, "name": standing.name}
    values = {"used": standing.used, "most": standing.most, "warned": warned, "measured": now}
    if not rows.update(Quota, seen, **values) and rows.find(Quota, "name", **seen) is None:
        rows.insert(Quota, **seen, **values)


# ---------------------------------------------------------------------- what du says


def measure(folder: Path) -> dict[str, int]:
    """Bytes on the disk of all that one user has, by group; together what `du -s --block-size=1` says of the folder."""
    seen: set[tuple[int, int]] = set()
    found: Counter[str] = Counter()
    with suppress(FileNotFoundError):
        found[""] += _blocks(folder.lstat(), seen)
        with os.scandir(folder) as entries:
            for entry in sorted(entries, key=lambda each: each.name):
                found[_group_of(Path(entry.path))] += tree_bytes(entry.path, seen)
    return dict(found)


def tree_bytes(path: str | os.PathLike[str], seen: set[tuple[int, int]]) -> int:
    """Of a file or a folder with all that is in it; what is in `seen` already counts no more."""
    total, waiting = 0, [os.fspath(path)]
    with suppress(FileNotFoundError):
        total += _blocks(os.lstat(path), seen)
    while waiting:
        folder = waiting.pop()
        for name, is_folder, status in _listed(folder):
            total += _blocks(status, seen)
            if is_folder:
                waiting.append(f"{folder}/{name}")
    return total


def _listed(folder: str) -> list[tuple[str, bool, os.stat_result]]:
    """What is in a folder, as far as it may be seen; of a file nothing."""
    try:
        handle = _opened(folder)
    except OSError:
        return []
    found = []
    try:
        with os.scandir(handle) as entries:
            for entry in entries:
                with suppress(FileNotFoundError):
                    found.append((entry.name, entry.is_dir(follow_symlinks=False), entry.stat(follow_symlinks=False)))
    finally:
        os.close(handle)
    return found


def _opened(folder: str) -> int:
    """A tool may leave folders in folders whose path is longer than any system call takes: opened piece by piece."""
    how = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    if len(os.fsencode(folder)) < LONGEST_PATH:
        return os.open(folder, how)
    parts = folder.split("/")
    handle = os.open("/", how)
    for start in range(1, len(parts), PARTS_AT_ONCE):
        try:
            inner = os.open("/".join(parts[start : start + PARTS_AT_ONCE]), how, dir_fd=handle)
        finally:
            os.close(handle)
        handle = inner
    return handle


def _blocks(status: os.stat_result, seen: set[tuple[int, int]]) -> int:
    if status.st_nlink > 1:
        if (status.st_dev, status.st_ino) in seen:
            return 0
        seen.add((status.st_dev, status.st_ino))
    return status.st_blocks * BLOCK_BYTES


def _group_of(folder: Path) -> str:
    """The group that a process was made for, from its capsules."""
    if not OF_A_PROCESS.fullmatch(folder.name):
        return ""
    for run in sorted(folder.glob("run-*"), reverse=True):
        with suppress(OSError, ValueError, KeyError):
            return str(json.loads(parts.read(run, "run.json"))["group"])
    return ""

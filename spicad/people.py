"""Who somebody is, from the kernel's uid and spica.conf or from their account; what they may do; which files a process
of theirs may read, and who may read what comes of it. Accounts themselves are accounts.py's affair and the site's.
"""

from __future__ import annotations

import grp
import os
import pwd
import stat
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from spicad.config import Settings
from spicad.words import Rank, SpicaError

OF_THE_SITE = "@web"  # ends the names of owners that are no Unix users: no Unix user's name holds an @


@dataclass(frozen=True)
class Person:
    uid: int  # -1 for an account that is no Unix user
    user: str  # the owner of what they submit
    group: str
    rank: Rank
    account: int = 0  # 0: known by the uid
    groups: frozenset[str] = frozenset()  # of an account: all that it is in
    administers: frozenset[str] = frozenset()  # of an account
    runs_spica: bool = field(default=False, compare=False)  # the Unix user that spicad runs as

    def is_in(self, group: str) -> bool:
        return bool(group) and (group == self.group or group in self.groups)

    def is_administrator_of(self, group: str) -> bool:
        if self.account:
            return group in self.administers
        return bool(group) and self.rank is Rank.GROUP_ADMINISTRATOR and group == self.group


@dataclass(frozen=True)
class Thing:
    """What somebody may see or change: `kind` is one of MAY; `owner` and `group` say whose it is."""

    kind: str
    owner: str = ""
    group: str = ""
    rank: Rank = Rank.USER  # of an account
    is_shared: bool = False  # by its owner with the group


# The relations in which somebody may stand to a thing, and for each kind of thing what each relation may do with it.
# "*" is everything. Administrators may everything; of a process, its owner too.
SOMEBODY, MEMBER, GROUP_ADMINISTRATOR, OWNER = "somebody", "member", "group administrator", "owner"
OF_A_MEMBER = "group administrator, of what a member owns"
MAY: dict[str, dict[str, tuple[str, ...]]] = {
    "process": {
        OWNER: ("*",),
        OF_A_MEMBER: ("see", "hold", "release", "cancel", "delete", "keep"),
    },
    "group": {
        SOMEBODY: ("see", "ask"),
        MEMBER: ("members", "submit"),
        GROUP_ADMINISTRATOR: ("members", "submit", "edit", "decide", "remove"),
    },
    "account": {
        OWNER: ("see", "edit"),
        OF_A_MEMBER: ("see", "suspend"),
    },
    # A system's configurations and rules have neither owner nor group, a group's have no owner.
    "configuration": {
        OWNER: ("*",),
        MEMBER: ("see", "use", "copy"),
        GROUP_ADMINISTRATOR: ("see", "use", "copy", "edit"),
        OF_A_MEMBER: ("see", "use", "copy"),
    },
    # Who may grade exposures stands here; what others have said, only administrators bring in ("grade for others"),
    # and what they and the pipeline have let QualityFITS find goes into it ("register").
    "archive": {SOMEBODY: ("see", "tag", "grade")},
    "selection": {OWNER: ("*",), MEMBER: ("see",)},
    "tag": {OWNER: ("*",)},
    "daemon": {SOMEBODY: ("see",)},
    "audit": {GROUP_ADMINISTRATOR: ("see",)},
}
MAY["rules"] = MAY["configuration"]


def person(uid: int, settings: Settings) -> Person:
    user, group = _names(uid)
    return Person(uid, user, group, _rank(user, settings), runs_spica=uid == spica_uid(settings))


def spica_uid(settings: Settings) -> int:
    """Commands run as whoever typed them: the spool shows whose it is."""
    try:
        return settings.paths.spool.stat().st_uid  # type: ignore[no-any-return]
    except OSError:
        return os.geteuid()


def person_named(user: str, group: str, rank: int) -> Person:
    """From a durable copy, in the daemon: what was found at acceptance stands."""
    if user.endswith(OF_THE_SITE):
        return Person(-1, user, group, Rank(rank))
    uid = _uid_of(user)
    return Person(uid, user, group, Rank(rank), runs_spica=uid == os.geteuid())


@lru_cache(maxsize=4096)
def _uid_of(user: str) -> int:
    try:
        return pwd.getpwnam(user).pw_uid
    except KeyError:
        return int(user.removeprefix("uid")) if user.removeprefix("uid").isdecimal() else -1


@lru_cache(maxsize=4096)
def _names(uid: int) -> tuple[str, str]:
    try:
        entry = pwd.getpwuid(uid)
    except KeyError:
        return f"uid{uid}", "nobody"
    try:
        return entry.pw_name, grp.getgrgid(entry.pw_gid).gr_name
    except KeyError:
        return entry.pw_name, f"gid{entry.pw_gid}"


def _rank(user: str, settings: Settings) -> Rank:
    for rank in (Rank.PIPELINE, Rank.ADMINISTRATOR, Rank.GROUP_ADMINISTRATOR):
        if user in getattr(settings.ranks, rank.name.lower()):
            return rank
    return Rank.USER


def daemon_group(settings: Settings) -> int | None:
    """The Unix group of those who may drop jobs and read results; None where spica.conf names none."""
    name = settings.daemon.group
    if not name:
        return None
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        raise SpicaError(f'[daemon] group = "{name}": there is no such Unix group. Run: groupadd {name}') from None


def make_results_folder(user: str, settings: Settings) -> None:
    """The folder that holds all results of `user`; one that is there keeps the mode that somebody gave it."""
    folder = Path(settings.paths.results) / user
    folder.parent.mkdir(parents=True, exist_ok=True)
    try:
        folder.mkdir(mode=0o700)
    except FileExistsError:
        return
    if (group := daemon_group(settings)) is not None:
        os.chown(folder, -1, group)
    folder.chmod(int(settings.paths.results_mode, 8))


def may(actor: Person | None, verb: str, thing: Thing) -> bool:
    """Whether `actor` may `verb` a thing; None is nobody. Every way in asks here and nowhere else."""
    if actor is None:
        return False
    if actor.rank in (Rank.ADMINISTRATOR, Rank.PIPELINE) or actor.runs_spica:
        return True
    if thing.kind == "account" and actor.user != thing.owner and actor.rank <= thing.rank:
        return False
    verbs = {each for relation in _relations(actor, thing) for each in MAY[thing.kind].get(relation, ())}
    return verb in verbs or "*" in verbs


def _relations(actor: Person, thing: Thing) -> list[str]:
    found = [SOMEBODY]
    is_shared = not thing.owner or thing.is_shared  # what has an owner is not everybody's in the group
    if thing.owner and actor.user == thing.owner:
        found.append(OWNER)
    if is_shared and (actor.is_in(thing.group) or not thing.group):
        found.append(MEMBER)
    if actor.is_administrator_of(thing.group):
        found.append(GROUP_ADMINISTRATOR if is_shared else OF_A_MEMBER)
    return found


def belongs_to(path: str | Path, owner: Person) -> bool:
    """Whether it is a regular file of `owner`, or a link to one."""
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return False
    return stat.S_ISREG(status.st_mode) and status.st_uid == owner.uid


def permitted(path: str, owner: Person, settings: Settings) -> Path:
    """The one gate for paths that users name: the real path of a regular file below paths.archive.

    Where paths.archive is empty, of a file that the job's owner owns. What lies outside of these is not told apart from
    what does not exist: the daemon may see more than its users. Raises SpicaError saying what is wrong.
    """
    if not path.startswith("/"):
        raise SpicaError(f"{path}: give the whole path, from /.")
    roots = settings.paths.archive
    if not roots:
        return _own_file(path, owner)
    try:
        real = os.path.realpath(path)
        if not any(_is_below(real, os.path.realpath(root)) for root in roots):
            where = ", ".join(map(str, roots))
            raise SpicaError(f"{path}: outside the archive ({where}; paths.archive in spica.conf).")
        status = os.stat(real)
    except (OSError, RuntimeError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise SpicaError(f"{path}: {reason}.") from None
    if not stat.S_ISREG(status.st_mode):
        raise SpicaError(f"{path}: this is not a regular file.")
    return Path(real)


def _is_below(real: str, root: str) -> bool:
    return real == root or real.startswith(root.rstrip("/") + "/")


def _own_file(path: str, owner: Person) -> Path:
    with suppress(OSError, RuntimeError, ValueError):
        real = Path(path).resolve()
        if belongs_to(real, owner):
            return real
    why = "paths.archive in spica.conf names no folder"
    raise SpicaError(f"{path}: there is no such file that belongs to {owner.user}, and {why}.")

"""How the site hands a job or an order to the daemon in the name of an account, and what the daemon made of it.

How the daemon believes it stands in spicad/handover.py; what a job file says is the pages' affair.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from spicad import handover
from spicad.commands.dropping import drop, order_text
from spicad.tables import Handover, Process
from spicaweb.visit import Visit


@dataclass(frozen=True)
class Fate:
    """Of what was handed over: taken as `process` (of an order: obeyed), refused with `why`, else it waits."""

    is_taken: bool = False
    process: int = 0
    why: str = ""


def hand_over(visit: Visit, text: str, stem: str = "form") -> str:
    """Drops a whole job file, [end] and all, for the visitor's group. Returns the token to ask `fate_of` with."""
    return _drop(visit, text, stem, visit.user.group)


def order(visit: Visit, verb: str, process: int, why: str = "", is_fresh: bool = False, days: float = 0.0) -> str:
    """About a process. The daemon judges once more who may."""
    return _drop(visit, order_text(verb, process, why, is_fresh, days), f"{verb}-{process}", "")


def _drop(visit: Visit, text: str, stem: str, group: str) -> str:
    token, words = handover.announced(text, visit.own_account.id, group, visit.now)
    handover.dropped(token, drop(visit.settings, stem, words))
    return token


def fate_of(visit: Visit, token: str) -> Fate:
    """Of something that this visitor handed over."""
    found = Handover.get_or_none((Handover.token == token) & (Handover.account == visit.own_account.id))
    if found is None:
        return Fate()
    spool = Path(visit.settings.paths.spool)
    with suppress(FileNotFoundError):
        why = (spool / "rejected" / f"{found.name}.why").read_text(encoding="utf-8")
        return Fate(why=why.replace(f"{found.name}: ", "").replace(found.name, "the job").strip())
    if not found.drop_token or (spool / "incoming" / found.name).exists():
        return Fate()
    row = Process.get_or_none(Process.token == found.drop_token)
    return Fate(is_taken=True, process=row.id if row else 0)

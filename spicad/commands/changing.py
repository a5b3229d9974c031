"""How sub-commands change the tables themselves, where no job is concerned: only for who may write them anyway."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from spicad import tables
from spicad.config import Settings
from spicad.words import SpicaError


@contextmanager
def change_tables(settings: Settings) -> Iterator[None]:
    """Raises SpicaError for those who are neither the daemon's user nor root."""
    spool = Path(settings.paths.spool)
    if spool.exists() and os.geteuid() not in (0, spool.stat().st_uid):
        raise SpicaError(f"{spool} belongs to {spool.owner()}. Run this as that user: sudo -u {spool.owner()} ...")
    opened = tables.connect(settings.database.url, settings.database.password_file)
    try:
        tables.require_current(make_if_empty=True)
        yield
    finally:
        opened.close()

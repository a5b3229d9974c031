"""What the units of systemd are told of this machine: the folders that spicad may write, and who the site runs as.

The units themselves are the package's, see spicad(8); `spica setup` writes these files beside them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from spicad import tables
from spicad.config import Settings

PACKAGED = Path("/usr/lib/systemd/system")
OWN = Path("/etc/systemd/system")
DROP_IN = "spica-setup.conf"
DAEMON, SITE, SITES_SOCKET = "spicad.service", "spica-web.service", "spica-web.socket"
SITES_GROUP = "spica-web"  # whose members may enter the socket
USER = "spica"  # of the units as they are packaged
WRITABLE = (Path("/var/spool/spica"), Path("/var/lib/spica"))  # in the units as they are packaged
SITE_WRITABLE = WRITABLE[:1]


def are_installed(settings: Settings) -> bool:
    """Of the installation that these settings are of."""
    return settings.source == Path("/etc/spica/spica.conf") and (PACKAGED / DAEMON).exists()


def has_sites_socket(settings: Settings) -> bool:
    return are_installed(settings) and (PACKAGED / SITES_SOCKET).exists()


def drop_ins(settings: Settings, user: str, site_user: str) -> dict[Path, str]:
    """The files with what differs from the packaged units; '' where nothing does, and no file is needed."""
    daemon = _lines(user, _outside(written_by_the_daemon(settings), WRITABLE))
    if settings.paths.results_mode == "0755":
        daemon.append("UMask=0022")
    site = _lines(site_user or user, _outside(_written_by_the_site(settings), SITE_WRITABLE))
    return {OWN / f"{unit}.d" / DROP_IN: _file(lines) for unit, lines in ((DAEMON, daemon), (SITE, site))}


def written_by_the_daemon(settings: Settings) -> Iterator[Path]:
    yield from (settings.paths.spool, settings.paths.results, settings.mail.maildir, *settings.landing.folders)
    yield from _database(settings.database.url)
    for place in (*settings.storage.roots, settings.storage.export):
        folder = place.partition("=")[2] or place
        if folder.startswith("/"):
            yield Path(folder)


def _written_by_the_site(settings: Settings) -> Iterator[Path]:
    yield settings.paths.spool
    yield from _database(settings.web.database or settings.database.url)


def _database(url: str) -> Iterator[Path]:
    if url.startswith("sqlite:"):
        yield tables.sqlite_file(url).parent


def _outside(folders: Iterable[Path], known: Iterable[Path]) -> list[Path]:
    places = list(known)
    return sorted({each for each in folders if not any(each.is_relative_to(place) for place in places)})


def _lines(user: str, folders: Iterable[Path]) -> list[str]:
    lines = [] if user == USER else [f"User={user}", "Group="]
    return lines + [f'ReadWritePaths="-{each}"' for each in folders]


def _file(lines: list[str]) -> str:
    if not lines:
        return ""
    return "\n".join(
        ["# Written by spica setup from spica.conf. Changes of your own: systemctl edit.", "[Service]", *lines, ""]
    )

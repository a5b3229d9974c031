"""Downloads by http and https, going on where an earlier try ended as long as the file is still the same.

Where the bytes go and how they are verified is carrying.py's affair.
"""

from __future__ import annotations

import http.client
import os
import urllib.error
import urllib.request
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

from spicad import __version__
from spicad.archive.errands import CHUNK, Errand, Gone, Lost, Means, Progress, require_room, write_all
from spicad.words import visible

LARGEST_LIST = 64 << 20
AGENT = f"spica/{__version__}"
SCHEMES = ("http://", "https://")


class _WebAlone(urllib.request.HTTPRedirectHandler):
    """Follows no redirect to ftp, file or anything else; urllib itself would go to ftp."""

    def http_error_302(self, req: Any, fp: Any, code: int, msg: str, headers: Any) -> Any:
        there = urljoin(req.full_url, headers.get("Location") or headers.get("URI") or "")
        if not there.lower().startswith(SCHEMES):
            fp.close()
            raise Gone(f"{req.full_url} leads to {visible(there)}, which is no http or https address.")
        return super().http_error_302(req, fp, code, msg, headers)

    http_error_301 = http_error_303 = http_error_307 = http_error_308 = http_error_302


@cache
def _opener() -> urllib.request.OpenerDirector:
    """What urllib uses for http and https, and nothing of ftp, file or data."""
    opener = urllib.request.OpenerDirector()
    of_web = (
        urllib.request.ProxyHandler,
        urllib.request.UnknownHandler,
        urllib.request.HTTPHandler,
        urllib.request.HTTPSHandler,
        urllib.request.HTTPDefaultErrorHandler,
        urllib.request.HTTPErrorProcessor,
        _WebAlone,
    )
    for handler in of_web:
        opener.add_handler(handler())
    return opener


def download(errand: Errand, partial: Path, means: Means, progress: Progress) -> None:
    """Into `partial`. Raises Lost when it broke off, Full when there is no room: what came is kept."""
    progress.validator = errand.validator
    have = partial.stat().st_size if partial.exists() else 0
    headers = {"User-Agent": AGENT, "Accept-Encoding": "identity"}
    if have and errand.validator:
        headers |= {"Range": f"bytes={have}-", "If-Range": errand.validator}
    try:
        with _opened(errand.source, headers, means.timeout_s) as answer:
            _take(answer, errand, partial, have, means, progress)
    except urllib.error.HTTPError as error:
        if error.code == 416:
            partial.unlink(missing_ok=True)
            raise Lost(f"{errand.source}: it has another length now; it is fetched anew.") from None
        if error.code in (404, 410):
            raise Gone(f"{errand.source} is not there ({error.code} {error.reason}).") from None
        raise Lost(f"{errand.source}: {error.code} {error.reason}.") from None
    except (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError) as error:
        raise Lost(f"{errand.source}: {getattr(error, 'reason', None) or error or type(error).__name__}.") from None


def _opened(url: str, headers: dict[str, str], timeout_s: float) -> Any:
    if not url.startswith(SCHEMES):
        raise Gone(f"{url} is no http or https address.")
    return _opener().open(urllib.request.Request(url, headers=headers), timeout=timeout_s)  # noqa: S310


def _take(answer: Any, errand: Errand, partial: Path, have: int, means: Means, progress: Progress) -> None:
    at = _start(answer, have)
    length = answer.headers.get("Content-Length", "")
    progress.bytes = at + int(length) if length.isdigit() else 0
    progress.bytes_done = at
    progress.validator = _validator(answer)
    if not at:
        partial.unlink(missing_ok=True)
    require_room(errand, partial.parent, progress.bytes - at)
    flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_APPEND
    descriptor = os.open(partial, flags, 0o600)
    try:
        while piece := answer.read(CHUNK if not means.rate.bytes_per_s else CHUNK // 16):
            progress.require_going_on()
            require_room(errand, partial.parent, len(piece))
            means.rate.take(len(piece), progress.stop)
            write_all(descriptor, piece)
            progress.bytes_done += len(piece)
    finally:
        os.close(descriptor)
    if progress.bytes and progress.bytes_done < progress.bytes:
        raise ConnectionError(f"it broke off after {progress.bytes_done} of {progress.bytes} bytes")


def _start(answer: Any, have: int) -> int:
    """Where what comes begins: servers that know nothing of ranges send all of it."""
    said = answer.headers.get("Content-Range", "")
    return have if answer.status == 206 and said.startswith(f"bytes {have}-") else 0


def _validator(answer: Any) -> str:
    """A strong ETag, else the date: If-Range takes no weak one (RFC 9110, section 13.1.5)."""
    tag = answer.headers.get("ETag", "")
    return str(tag if tag.startswith('"') else answer.headers.get("Last-Modified", ""))[:255]


def fetch_text(url: str, timeout_s: float) -> str:
    """A small text, such as a list of names. Raises Lost."""
    try:
        with _opened(url, {"User-Agent": AGENT}, timeout_s) as answer:
            return str(answer.read(LARGEST_LIST).decode("utf-8", "replace"))
    except (urllib.error.URLError, http.client.HTTPException, OSError) as error:
        raise Lost(f"{url}: {getattr(error, 'reason', None) or error}.") from None

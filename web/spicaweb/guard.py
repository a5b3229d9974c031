"""What stands before every page: where a form comes from, and the headers that every answer carries.

Who may see what is people.may's affair.
"""

from __future__ import annotations

import hmac
from urllib.parse import urlsplit

from bottle import request

from spicad.config import Settings
from spicaweb.answers import Refusal
from spicaweb.visit import Visit

MOST_BYTES = 256 * 1024  # of a form: uploads are lists of at most 64 kB

POLICY = (
    "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",  # says frame-ancestors again, for old browsers
    # Not no-referrer: with it browsers send `Origin: null` with our own forms (Fetch standard, 3.1).
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=()",
    "Cache-Control": "no-store",
}
TOO_LARGE = f"A form may have at most {MOST_BYTES // 1024} kB."
STALE = (
    "This form cannot be taken: it is too old, or it does not come from this site. Go back, reload it and try again."
)


def headers(settings: Settings) -> dict[str, str]:
    found = dict(HEADERS)
    if is_secure(settings):
        found["Strict-Transport-Security"] = "max-age=31536000"
    return found


def is_secure(settings: Settings) -> bool:
    return str(settings.web.address).startswith("https://")


def cookie_name(settings: Settings) -> str:
    """A __Host- cookie can be set by this host alone, and under https alone."""
    return "__Host-spica" if is_secure(settings) else "spica"


def origin(settings: Settings) -> str:
    parts = urlsplit(settings.web.address)
    return f"{parts.scheme}://{parts.netloc}".lower()


def require_own_form(visit: Visit) -> None:
    """Raises Refusal unless the form was drawn by this site, for this visitor."""
    if (request.content_length or 0) > MOST_BYTES:
        raise Refusal(413, "Too large", TOO_LARGE)
    if not _is_from_here(visit.settings):
        words = f"This form cannot be taken: it does not come from {origin(visit.settings)}, where this site is."
        raise Refusal(403, "Not from here", words)
    given = visit.form("csrf", 64)
    if not visit.secret or not hmac.compare_digest(given.encode(), visit.csrf.encode()):
        raise Refusal(403, "Out of date", STALE)


def _is_from_here(settings: Settings) -> bool:
    """By Origin, which every browser sends with a POST; by Referer where an old one does not."""
    sent = request.get_header("Origin")
    if sent is None:
        parts = urlsplit(request.get_header("Referer") or "")
        sent = f"{parts.scheme}://{parts.netloc}"
    return sent.lower() == origin(settings)

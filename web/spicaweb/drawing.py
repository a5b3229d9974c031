"""Templates: files of templates/ by their literal names, everything in them escaped; and the words of the frame.

What is shown is the pages' affair.
"""

from __future__ import annotations

import hashlib
import time
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

from bottle import SimpleTemplate, html_escape

from spicad.words import Rank
from spicaweb.answers import Answer
from spicaweb.visit import Visit

TEMPLATES = Path(__file__).parent / "templates"
STATIC = Path(__file__).parent / "static"

# The bar at the top: path, words, and from which standing on it is shown.
BAR = (
    ("/processes", "Processes", "user"),
    ("/new", "New process", "user"),
    ("/archive", "Archive", "user"),
    ("/grades", "Grades", "user"),
    ("/configurations", "Configurations", "user"),
    ("/daemon", "Daemon", "user"),
    ("/groups", "Groups", "user"),
    ("/requests", "Requests", "group administrator"),
    ("/accounts", "Accounts", "administrator"),
    ("/audit", "Audit", "group administrator"),
    ("/help", "Help", "user"),
)

# What a page says at its top after a form was good: the address carries the key, never the words.
DONE = {
    "password": "Your password is changed. All other sessions have been ended.",
    "details": "Your details are saved.",
    "address": "Your mail address is changed.",
    "address-asked": "A mail with a link has been sent to the new address. It changes once you follow the link.",
    "home": "New processes are made for this group from now on.",
    "asked": "Your wish has been passed on; you get a mail with the answer.",
    "session": "The session is ended.",
    "sessions": "All other sessions are ended.",
    "logged-out": "You have logged out.",
    "reset": "Your password is set. Log in with it.",
    "approved": "Approved. A mail says so.",
    "declined": "Declined. A mail says so.",
    "late": "Somebody else has answered this request already.",
    "saved": "Saved.",
    "graded": "What you said is kept.",
    "none-waits": "Nothing of these waits for a grade.",
    "made": "The group is made.",
    "removed": "No longer a member. Data and processes are kept.",
    "suspended": "The account is suspended. All its data are kept, its processes go on.",
    "restored": "The account is active again.",
}


class _Template(SimpleTemplate):
    def prepare(self, **options: Any) -> None:
        super().prepare(**options)
        self._escape = _escaped  # Bottle's own calls three functions for each value


def _escaped(value: object) -> str:
    return str(html_escape("" if value is None else str(value)))


@cache
def _template(name: str) -> SimpleTemplate:
    return _Template(name=f"{name}.tpl", lookup=[str(TEMPLATES)])


def draw(visit: Visit, template: str, title: str, /, status: int = 200, **values: Any) -> Answer:
    """A page of templates/. Its name is written in the source, never made from what somebody sent."""
    done = DONE.get(visit.query("done"), "") if status == 200 else ""
    common = {
        "visit": visit,
        "title": title,
        "done": done,
        "problems": (),
        "refresh": None,
        "static": static_link,
        "when": when,
    }
    body = _template(template).render(common | values, get=None, bar=_bar(visit))
    return Answer(body, status)


def _bar(visit: Visit) -> list[tuple[str, str, bool]]:
    """Path, words, and whether the visitor is there."""
    return [
        (visit.link(path), words, visit.path == path or visit.path.startswith(path + "/"))
        for path, words, standing in BAR
        if stands(visit, standing)
    ]


def stands(visit: Visit, standing: str) -> bool:
    """Whether the visitor is anybody, a user, an administrator of some group, an Administrator; see app.py."""
    if standing == "anybody":
        return True
    if visit.actor is None:
        return False
    if standing == "user":
        return True
    least = {"group administrator": Rank.GROUP_ADMINISTRATOR, "administrator": Rank.ADMINISTRATOR}[standing]
    return visit.actor.rank >= least


@cache
def static_digest(name: str) -> str:
    return hashlib.sha256((STATIC / name).read_bytes()).hexdigest()[:12]


def static_link(visit: Visit, name: str) -> str:
    """Changes with the content, so that browsers may keep it for ever."""
    return visit.link(f"/static/{name}", v=static_digest(name))


def when(moment: float | None, with_time: bool = True) -> str:
    """2004-03-21 18:00 UTC"""
    return _when(int(moment // 60), with_time) if moment else ""


@lru_cache(4096)
def _when(minute: int, with_time: bool) -> str:
    return time.strftime("%Y-%m-%d %H:%M UTC" if with_time else "%Y-%m-%d", time.gmtime(60 * minute))

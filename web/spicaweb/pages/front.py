"""The way in and out: the front page, login, logout; and the files of static/.

Asking for an account and lost passwords are joining.py's affair.
"""

from __future__ import annotations

from spicad import accounts, passwords
from spicad.tables import Account, Process
from spicaweb import sessions
from spicaweb.answers import Answer, NotThere, Refusal
from spicaweb.drawing import STATIC, draw, stands, static_digest
from spicaweb.visit import Visit

KINDS = {
    "spica.css": "text/css; charset=UTF-8",
    "star.svg": "image/svg+xml",
    "refresh.js": "text/javascript; charset=UTF-8",
    "grading.js": "text/javascript; charset=UTF-8",
}
LATEST = 8  # processes on the front page
WRONG = "The name and the password do not belong together, or there is no such account."
TOO_MANY = "Too many attempts. Wait a quarter of an hour and try again, or ask for a new password."


def home(visit: Visit) -> Answer:
    if visit.actor is None:
        return draw(visit, "welcome", "Spica")
    own = Process.select().where(Process.owner == visit.actor.user).order_by(Process.id.desc()).limit(LATEST)
    return draw(visit, "home", "Spica", latest=list(own), waiting=_who_waits(visit))


def _who_waits(visit: Visit) -> int:
    """How many ask for an answer that this visitor gives."""
    if not stands(visit, "group administrator"):
        return 0
    of_groups = None if stands(visit, "administrator") else sorted(visit.user.administers)
    return len(accounts.wishes(of_groups))


def nowhere(visit: Visit, path: str) -> Answer:
    raise NotThere


def static(visit: Visit, name: str) -> Answer:
    """From the list above, never by a path."""
    if name not in KINDS:
        raise NotThere
    is_named_by_content = visit.query("v") == static_digest(name)
    keep = "public, max-age=31536000, immutable" if is_named_by_content else "no-cache"
    return Answer((STATIC / name).read_bytes(), kind=KINDS[name], headers={"Cache-Control": keep})


def login_form(visit: Visit) -> Answer:
    if visit.actor:
        return visit.see_other(_place(visit.query("next")))
    return draw(visit, "login", "Log in", name="", next=visit.query("next"))


def login(visit: Visit) -> Answer:
    name, password = visit.form("name", 254), visit.password("password")
    has_room = sessions.try_once("login from", visit.address, visit.now)
    if not (sessions.try_once("login of", name, visit.now) and has_room):
        accounts.note(name, "login refused", words="too many attempts", address=visit.address, now=visit.now)
        raise Refusal(429, "Too many attempts", TOO_MANY)
    account = accounts.known_as(name)
    is_right = passwords.is_right(password, account.password if account else "")
    if not is_right or account is None or account.state != accounts.State.ACTIVE:
        return _not_in(visit, name, account, is_right)
    sessions.forgive("login of", name)
    sessions.end(visit.secret)
    visit.renew(sessions.begin(account, visit.address, visit.browser, visit.now))
    accounts.note(account.name, "login", address=visit.address, now=visit.now)
    return visit.see_other(_place(visit.form("next")))


def _not_in(visit: Visit, name: str, account: Account | None, is_right: bool) -> Answer:
    """Only who knows the password is told that an account waits or is suspended."""
    accounts.note(name, "login failed", address=visit.address, now=visit.now)
    why = WRONG
    if account and is_right:
        why = {
            accounts.State.ASKED: "Your request for an account has not been answered yet.",
            accounts.State.DECLINED: "Your request for an account was declined.",
            accounts.State.SUSPENDED: "This account is suspended. Write to the administrator.",
        }.get(accounts.State(account.state), WRONG)
    return draw(visit, "login", "Log in", status=401, name=name, next=visit.form("next"), problems=(why,))


def logout(visit: Visit) -> Answer:
    sessions.end(visit.secret)
    accounts.note(visit.own_account.name, "logout", address=visit.address, now=visit.now)
    visit.renew("")
    return visit.see_other("/login", done="logged-out")


def _place(path: str) -> str:
    """Where to go after the login: a path of this site, nothing else."""
    return path if path.startswith("/") and not path.startswith(("//", "/\\")) and "\n" not in path else "/"

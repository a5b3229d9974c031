"""The whole site map in one table, and the way of every request through it: session, standing, form, page, headers.

A page is a function of a Visit and of the parts of its path; it gives an Answer or raises a Refusal. What pages show
and do is theirs; that an object is not for somebody is said by people.may, and is answered like an unknown path.
"""

from __future__ import annotations

import importlib
import logging
import time
from collections.abc import Callable
from typing import Any

import peewee
from bottle import BaseRequest, Bottle, HTTPError, HTTPResponse, request

from spicad import config
from spicad.config import Settings
from spicad.words import SpicaError
from spicaweb import connections, guard
from spicaweb.answers import Answer, NotThere, Refusal
from spicaweb.drawing import draw, stands
from spicaweb.visit import Visit

log = logging.getLogger("spicaweb")

BaseRequest.MEMFILE_MAX = guard.MOST_BYTES  # Bottle reads no longer form than this

ANYBODY, USER, GROUP_ADMINISTRATOR, ADMINISTRATOR = "anybody", "user", "group administrator", "administrator"

# Method, path, page (module.function of pages/), and who may ask for it at all. What an object is asked for beyond that
# stands in people.MAY. A visitor who has not logged in is sent to /login by all that is not for anybody.
SITE_MAP: tuple[tuple[str, str, str, str], ...] = (
    ("GET", "/", "front.home", ANYBODY),
    ("GET", "/login", "front.login_form", ANYBODY),
    ("POST", "/login", "front.login", ANYBODY),
    ("POST", "/logout", "front.logout", USER),
    ("GET", "/static/<name>", "front.static", ANYBODY),
    ("GET", "/help", "help.index", ANYBODY),
    ("GET", "/help/picture/<name>", "help.picture", ANYBODY),
    ("GET", "/help/<name>", "help.page", ANYBODY),
    ("GET", "/request", "joining.request_form", ANYBODY),
    ("POST", "/request", "joining.request", ANYBODY),
    ("GET", "/confirm/<secret>", "joining.confirm_form", ANYBODY),
    ("POST", "/confirm/<secret>", "joining.confirm", ANYBODY),
    ("GET", "/forgot", "joining.forgot_form", ANYBODY),
    ("POST", "/forgot", "joining.forgot", ANYBODY),
    ("GET", "/reset/<secret>", "joining.reset_form", ANYBODY),
    ("POST", "/reset/<secret>", "joining.reset", ANYBODY),
    ("GET", "/address/<secret>", "account.address_form", ANYBODY),
    ("POST", "/address/<secret>", "account.change_address", ANYBODY),
    ("GET", "/account", "account.page", USER),
    ("POST", "/account/details", "account.details", USER),
    ("POST", "/account/password", "account.password", USER),
    ("POST", "/account/address", "account.ask_for_address", USER),
    ("POST", "/account/group", "account.settle", USER),
    ("POST", "/account/join", "account.join", USER),
    ("POST", "/account/sessions", "account.end_session", USER),
    ("GET", "/groups", "groups.index", USER),
    ("POST", "/groups", "groups.make", ADMINISTRATOR),
    ("GET", "/groups/<name>", "groups.page", USER),
    ("POST", "/groups/<name>", "groups.edit", GROUP_ADMINISTRATOR),
    ("POST", "/groups/<name>/members", "groups.member", GROUP_ADMINISTRATOR),
    ("GET", "/requests", "asking.index", GROUP_ADMINISTRATOR),
    ("POST", "/requests/<number>", "asking.answer", GROUP_ADMINISTRATOR),
    ("GET", "/accounts", "administration.index", ADMINISTRATOR),
    ("GET", "/accounts/<name>", "administration.page", GROUP_ADMINISTRATOR),
    ("POST", "/accounts/<name>", "administration.change", GROUP_ADMINISTRATOR),
    ("GET", "/audit", "administration.audit", GROUP_ADMINISTRATOR),
    # Processes
    ("GET", "/processes", "processes.listing", USER),
    ("POST", "/processes", "processes.many", USER),
    ("GET", "/process/<number>", "process.page", USER),
    ("GET", "/process/<number>/progress", "process.progress_part", USER),
    ("GET", "/process/<number>/progress.json", "process.progress_record", USER),
    ("GET", "/process/<number>/run/<run>", "process.run_page", USER),
    ("GET", "/process/<number>/run/<run>/steps", "process.steps", USER),
    ("GET", "/process/<number>/run/<run>/step/<step>", "process.step", USER),
    ("GET", "/process/<number>/run/<run>/step/<step>/log", "files.log", USER),
    ("GET", "/process/<number>/run/<run>/product/<product>", "files.product", USER),
    ("GET", "/process/<number>/run/<run>/product/<product>/file", "files.product_file", USER),
    ("GET", "/process/<number>/run/<run>/product/<product>/plot", "files.plot", USER),
    ("GET", "/process/<number>/run/<run>/product/<product>/<size>.png", "files.preview", USER),
    ("GET", "/process/<number>/run/<run>/configuration/<task>", "files.configuration", USER),
    ("GET", "/process/<number>/run/<run>/recipe/<which>", "files.recipe", USER),
    ("GET", "/process/<number>/run/<run>/quality/<product>", "quality.page", USER),
    ("GET", "/process/<number>/run/<run>/quality/<product>/picture/<which>", "quality.picture", USER),
    ("GET", "/process/<number>/run/<run>/all.tar", "files.everything", USER),
    ("GET", "/process/<number>/delete", "process.delete_form", USER),
    ("POST", "/process/<number>/<verb>", "process.order", USER),
    ("GET", "/difference", "process.differences", USER),
    ("GET", "/daemon", "daemon.page", USER),
    ("GET", "/metrics", "metrics.page", ANYBODY),  # of some addresses
    ("GET", "/archive", "landed.page", USER),
    # Exposures and their grades
    ("GET", "/exposure/<number>", "exposure.page", USER),
    ("POST", "/exposure/<number>/grade", "exposure.grade", USER),
    ("GET", "/exposure/<number>/picture/<which>", "exposure.picture", USER),
    ("GET", "/exposure/<number>/file/<which>", "exposure.file", USER),
    ("GET", "/exposure/<number>/figures.<form>", "exposure.figures", USER),
    ("GET", "/grades", "grades.page", USER),
    ("GET", "/grades/next", "grades.following", USER),
    ("GET", "/grades/exposures", "grades.listing", USER),
    ("POST", "/grades/exposures", "grades.many", USER),
    ("GET", "/grades/list.csv", "grades.export", USER),
    ("POST", "/grades/list", "grades.bring", USER),
    # A new process
    ("GET", "/new", "new.form", USER),
    ("POST", "/new", "new.begin", USER),
    ("POST", "/draft/<number>/run", "new.run", USER),
    ("POST", "/draft/<number>/throw-away", "new.throw_away", USER),
    ("GET", "/draft/<number>/archive", "archive.search", USER),
    ("POST", "/draft/<number>/archive", "archive.add", USER),
    ("GET", "/draft/<number>/archive/sky.svg", "archive.sky", USER),
    ("GET", "/draft/<number>/<step>", "new.step", USER),
    ("POST", "/draft/<number>/<step>", "new.fill", USER),
    # Configurations and rules
    ("GET", "/configurations", "configurations.listing", USER),
    ("POST", "/configurations", "configurations.save", USER),
    ("GET", "/configurations/new", "configurations.new", USER),
    ("GET", "/configurations/<kind>/<name>", "configurations.look_on_disk", USER),
    ("GET", "/configuration/<number>", "configurations.look", USER),
    ("GET", "/configuration/<number>/edit", "configurations.edit", USER),
    ("POST", "/configuration/<number>/retire", "configurations.retire", USER),
    ("POST", "/configuration/<number>/rename", "configurations.rename", USER),
)


def make_app(settings: Settings | None = None, of: str = "") -> Bottle:
    """The WSGI application; with `of`, a path, no more of it than a request for that path needs (a CGI process ends).

    Raises SpicaError when the configuration or the database do not allow a site.
    """
    settings = settings or config.load()
    if not settings.web.address:
        raise SpicaError(f"{settings.source}: [web] address is empty. Say where the site is: https://HOST/PATH")
    opened = connections.site_tables(settings)
    app = Bottle()
    for method, path, page, standing in SITE_MAP:
        if not of or _first_part(path) == _first_part(of):
            app.route(path, method, _served(settings, opened, page, standing))
    app.route("/<path:path>", "GET", _served(settings, opened, "front.nowhere", ANYBODY))
    app.default_error_handler = lambda error: _send(settings, None, _plain(error))  # of Bottle itself: no such route
    return app


def _first_part(path: str) -> str:
    return path.split("/", 2)[1] if path.startswith("/") else path


def page_named(name: str) -> Callable[..., Answer]:
    """Loaded when it is asked for: under CGI each request would pay for all pages."""
    module, _, function = name.partition(".")
    found: Callable[..., Answer] = getattr(importlib.import_module(f"spicaweb.pages.{module}"), function)
    return found


def _served(settings: Settings, opened: peewee.Database, page: str, standing: str) -> Callable[..., HTTPResponse]:
    def serve(**path: str) -> HTTPResponse:
        visit = None
        try:
            connections.begin(opened)
            secret = request.get_cookie(guard.cookie_name(settings)) or ""
            visit = Visit(settings, time.time(), secret if len(secret) <= 64 else "")
            return _send(settings, visit, _answered(visit, page, standing, path))
        except HTTPError as error:  # of Bottle, while it reads a form
            return _send(settings, visit, _plain(error))
        except Exception as error:
            return _send(settings, visit, _troubled(error))
        finally:
            connections.end(opened)

    return serve


def _answered(visit: Visit, page: str, standing: str, path: dict[str, str]) -> Answer:
    try:
        if not stands(visit, standing):
            if visit.actor is None:
                return visit.see_other("/login", next=visit.path if request.method == "GET" else "")
            raise NotThere
        if request.method == "POST":
            guard.require_own_form(visit)
        return page_named(page)(visit, **path)
    except Refusal as refusal:
        return draw(visit, "refusal", refusal.title, status=refusal.status, words=refusal.words)
    except SpicaError as error:
        return draw(visit, "refusal", "This cannot be done", status=422, words=str(error))


def _troubled(error: Exception) -> Answer:
    """The one catch-all of the site."""
    if isinstance(error, peewee.OperationalError | peewee.InterfaceError):
        log.error("the database is away: %s", error)
        return _words(503, "The database cannot be reached just now. Try again in a minute.")
    log.error("%s %s failed", request.method, request.path, exc_info=error)
    return _words(500, "An error of Spica itself. It has been written to the log.")


def _plain(error: HTTPError) -> Answer:
    words = {404: NotThere().words, 405: "This address does not take such a request.", 413: guard.TOO_LARGE}
    return _words(error.status_code, words.get(error.status_code, "The request cannot be understood."))


def _words(status: int, words: str) -> Answer:
    """Without templates or tables."""
    page = f"<!doctype html><html lang=en><title>Spica</title><main><h1>Spica</h1><p>{words}</p></main></html>"
    return Answer(page, status)


def _send(settings: Settings, visit: Visit | None, answer: Answer) -> HTTPResponse:
    headers: dict[str, Any] = guard.headers(settings) | {"Content-Type": answer.kind} | dict(answer.headers)
    sent = HTTPResponse(answer.body, answer.status, **headers)
    if visit is not None and visit.has_new_secret:
        options = {"path": "/", "httponly": True, "samesite": "lax", "secure": guard.is_secure(settings)}
        if visit.secret:
            sent.set_cookie(guard.cookie_name(settings), visit.secret, **options)
        else:
            sent.delete_cookie(guard.cookie_name(settings), **options)
    return sent

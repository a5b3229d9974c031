"""Every page, asked for by nobody, by the owner, by the same group, another group, the group's administrator and an
Administrator: each gets what is theirs to see and do, and what is not is answered as if it did not exist.

A page that is not in this table fails the first test here.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from services import mariadb  # noqa: F401
from site_processes import SWARP, furnish, with_processes
from site_world import KEPT, PASSWORD, Site, account, add_account, people_the_world, settings_of

from spicad import accounts, passwords
from spicad.tables import Account, Membership, Session
from spicaweb import sessions
from spicaweb.app import SITE_MAP, page_named

ACTORS = ("nobody", "alice", "bob", "carol", "gina", "dan")
NEW_PASSWORD = {"password": "umbrella tango 44 quartz", "again": "umbrella tango 44 quartz"}
RUN = "/process/<number>/run/<run>"
PLOT = f"{RUN}/product/<product>/plot"
PICTURE = "/exposure/<number>/picture/<which>"
NEW_CONFIGURATION = {"kind": "configuration", "application": "swarp", "name": "fresh", "text": SWARP}
LONG = "to reduce the fields of my thesis"

# Method, path of the site map, what is asked for, the form, and the answer to each of ACTORS.
#   ok: the page, or the form is taken;  login: sent there;  404: neither it nor anything about it
# {wish} {confirm} {reset} {address} {session}: Erin's wish to join lensing, Frank's link, Alice's links and session.
WALK: tuple[tuple[str, str, str, dict[str, str], str], ...] = (
    # -------------------------------------------------------------------------------- nobody alice bob carol gina dan
    ("GET", "/", "/", {}, "ok ok ok ok ok ok"),
    ("GET", "/login", "/login", {}, "ok ok ok ok ok ok"),
    ("POST", "/login", "/login", {"name": "alice", "password": PASSWORD}, "ok ok ok ok ok ok"),
    ("POST", "/logout", "/logout", {}, "login login login login login login"),
    ("GET", "/static/<name>", "/static/spica.css", {}, "ok ok ok ok ok ok"),
    ("GET", "/static/<name>", "/static/layout.tpl", {}, "404 404 404 404 404 404"),
    ("GET", "/help", "/help", {}, "ok ok ok ok ok ok"),
    ("GET", "/help/<name>", "/help/user", {}, "ok ok ok ok ok ok"),
    ("GET", "/help/<name>", "/help/layout", {}, "404 404 404 404 404 404"),
    ("GET", "/help/picture/<name>", "/help/picture/results.png", {}, "ok ok ok ok ok ok"),
    ("GET", "/help/picture/<name>", "/help/picture/user.md", {}, "404 404 404 404 404 404"),
    ("GET", "/request", "/request", {}, "ok ok ok ok ok ok"),
    (
        "POST",
        "/request",
        "/request",
        {"full_name": "Henry", "mail": "henry@example.org", "group": "lensing", "purpose": LONG},
        "ok ok ok ok ok ok",
    ),
    ("GET", "/confirm/<secret>", "/confirm/{confirm}", {}, "ok ok ok ok ok ok"),
    ("GET", "/confirm/<secret>", "/confirm/{reset}", {}, "410 410 410 410 410 410"),
    ("POST", "/confirm/<secret>", "/confirm/{confirm}", {"name": "frank", **NEW_PASSWORD}, "ok ok ok ok ok ok"),
    ("GET", "/forgot", "/forgot", {}, "ok ok ok ok ok ok"),
    ("POST", "/forgot", "/forgot", {"mail": "alice@example.org"}, "ok ok ok ok ok ok"),
    ("GET", "/reset/<secret>", "/reset/{reset}", {}, "ok ok ok ok ok ok"),
    ("GET", "/reset/<secret>", "/reset/{confirm}", {}, "410 410 410 410 410 410"),
    ("POST", "/reset/<secret>", "/reset/{reset}", NEW_PASSWORD, "login login login login login login"),
    ("GET", "/address/<secret>", "/address/{address}", {}, "ok ok ok ok ok ok"),
    ("POST", "/address/<secret>", "/address/{address}", {}, "login ok ok ok ok ok"),
    ("GET", "/account", "/account", {}, "login ok ok ok ok ok"),
    ("POST", "/account/details", "/account/details", {"full_name": "New Name"}, "login ok ok ok ok ok"),
    ("POST", "/account/password", "/account/password", {"now": PASSWORD, **NEW_PASSWORD}, "login ok ok ok ok ok"),
    (
        "POST",
        "/account/address",
        "/account/address",
        {"now": PASSWORD, "mail": "n@example.org"},
        "login ok ok ok ok ok",
    ),
    ("POST", "/account/group", "/account/group", {"group": "lensing"}, "login ok ok 404 ok 404"),
    ("POST", "/account/join", "/account/join", {"group": "solar", "purpose": LONG}, "login ok ok ok ok ok"),
    ("POST", "/account/join", "/account/join", {"group": "none", "purpose": LONG}, "login 404 404 404 404 404"),
    ("POST", "/account/sessions", "/account/sessions", {"session": "{session}"}, "login ok 404 404 404 404"),
    ("POST", "/account/sessions", "/account/sessions", {}, "login ok ok ok ok ok"),
    ("GET", "/groups", "/groups", {}, "login ok ok ok ok ok"),
    ("POST", "/groups", "/groups", {"name": "quasars", "title": "Quasars"}, "login 404 404 404 404 ok"),
    ("GET", "/groups/<name>", "/groups/lensing", {}, "login ok ok ok ok ok"),
    ("GET", "/groups/<name>", "/groups/none", {}, "login 404 404 404 404 404"),
    ("POST", "/groups/<name>", "/groups/lensing", {"title": "Lenses"}, "login 404 404 404 ok ok"),
    ("POST", "/groups/<name>", "/groups/solar", {"title": "Lenses"}, "login 404 404 404 404 ok"),
    (
        "POST",
        "/groups/<name>/members",
        "/groups/lensing/members",
        {"account": "bob", "verb": "remove"},
        "login 404 404 404 ok ok",
    ),
    (
        "POST",
        "/groups/<name>/members",
        "/groups/lensing/members",
        {"account": "bob", "verb": "administrator"},
        "login 404 404 404 404 ok",
    ),
    (
        "POST",
        "/groups/<name>/members",
        "/groups/lensing/members",
        {"account": "gina", "verb": "remove"},
        "login 404 404 404 404 ok",
    ),
    (
        "POST",
        "/groups/<name>/members",
        "/groups/solar/members",
        {"account": "carol", "verb": "remove"},
        "login 404 404 404 404 ok",
    ),
    (
        "POST",
        "/groups/<name>/members",
        "/groups/lensing/members",
        {"account": "carol", "verb": "remove"},
        "login 404 404 404 404 404",
    ),
    ("GET", "/requests", "/requests", {}, "login 404 404 404 ok ok"),
    ("POST", "/requests/<number>", "/requests/{wish}", {"verb": "approve"}, "login 404 404 404 ok ok"),
    ("POST", "/requests/<number>", "/requests/{wish}", {"verb": "decline"}, "login 404 404 404 ok ok"),
    ("POST", "/requests/<number>", "/requests/{other_wish}", {"verb": "approve"}, "login 404 404 404 404 ok"),
    ("POST", "/requests/<number>", "/requests/99999999", {"verb": "approve"}, "login 404 404 404 404 404"),
    ("GET", "/accounts", "/accounts", {}, "login 404 404 404 404 ok"),
    ("GET", "/accounts/<name>", "/accounts/alice", {}, "login 404 404 404 ok ok"),
    ("GET", "/accounts/<name>", "/accounts/carol", {}, "login 404 404 404 404 ok"),
    ("GET", "/accounts/<name>", "/accounts/dan", {}, "login 404 404 404 404 ok"),
    ("GET", "/accounts/<name>", "/accounts/nobody", {}, "login 404 404 404 404 404"),
    ("POST", "/accounts/<name>", "/accounts/alice", {"verb": "suspend"}, "login 404 404 404 ok ok"),
    ("POST", "/accounts/<name>", "/accounts/carol", {"verb": "suspend"}, "login 404 404 404 404 ok"),
    ("POST", "/accounts/<name>", "/accounts/alice", {"verb": "promote"}, "login 404 404 404 404 ok"),
    ("POST", "/accounts/<name>", "/accounts/gina", {"verb": "suspend"}, "login 404 404 404 422 ok"),
    ("GET", "/audit", "/audit", {}, "login 404 404 404 ok ok"),
    # Processes: one of Alice's is completed, one waits.
    ("GET", "/processes", "/processes", {}, "login ok ok ok ok ok"),
    ("GET", "/processes", "/processes?whose=all", {}, "login ok ok ok ok ok"),
    ("POST", "/processes", "/processes", {"verb": "cancel", "process": "{queued}"}, "login ok ok ok ok ok"),
    ("GET", "/process/<number>", "/process/{process}", {}, "login ok 404 404 ok ok"),
    ("GET", "/process/<number>", "/process/99999", {}, "login 404 404 404 404 404"),
    ("GET", "/process/<number>", "/process/x", {}, "login 404 404 404 404 404"),
    ("GET", "/process/<number>/progress", "/process/{queued}/progress", {}, "login ok 404 404 ok ok"),
    ("GET", "/process/<number>/progress.json", "/process/{queued}/progress.json", {}, "login ok 404 404 ok ok"),
    ("GET", "/process/<number>/run/<run>", "/process/{process}/run/1", {}, "login ok 404 404 ok ok"),
    ("GET", "/process/<number>/run/<run>", "/process/{process}/run/2", {}, "login 404 404 404 404 404"),
    ("GET", f"{RUN}/steps", "/process/{process}/run/1/steps", {}, "login ok 404 404 ok ok"),
    ("GET", f"{RUN}/step/<step>", "/process/{process}/run/1/step/1", {}, "login ok 404 404 ok ok"),
    ("GET", f"{RUN}/step/<step>", "/process/{process}/run/1/step/2", {}, "login 404 404 404 404 404"),
    ("GET", f"{RUN}/step/<step>/log", "/process/{process}/run/1/step/1/log", {}, "login ok 404 404 ok ok"),
    ("GET", f"{RUN}/product/<product>", "/process/{process}/run/1/product/1", {}, "login ok 404 404 ok ok"),
    ("GET", f"{RUN}/product/<product>", "/process/{process}/run/1/product/2", {}, "login ok 404 404 ok ok"),
    ("GET", f"{RUN}/product/<product>", "/process/{process}/run/1/product/9", {}, "login 404 404 404 404 404"),
    ("GET", f"{RUN}/quality/<product>", "/process/{process}/run/1/quality/{stack}", {}, "login ok 404 404 ok ok"),
    ("GET", f"{RUN}/quality/<product>", "/process/{process}/run/1/quality/1", {}, "login 404 404 404 404 404"),
    (
        "GET",
        f"{RUN}/quality/<product>/picture/<which>",
        "/process/{process}/run/1/quality/{stack}/picture/depth",
        {},
        "login ok 404 404 ok ok",
    ),
    (
        "GET",
        f"{RUN}/quality/<product>/picture/<which>",
        "/process/{process}/run/1/quality/{stack}/picture/report",
        {},
        "login 404 404 404 404 404",
    ),
    ("GET", f"{RUN}/product/<product>/file", "/process/{process}/run/1/product/3/file", {}, "login ok 404 404 ok ok"),
    ("GET", f"{RUN}/product/<product>/plot", "/process/{process}/run/1/product/4/plot", {}, "login ok 404 404 ok ok"),
    (
        "GET",
        f"{RUN}/product/<product>/plot",
        "/process/{process}/run/1/product/1/plot",
        {},
        "login 404 404 404 404 404",
    ),
    (
        "GET",
        f"{RUN}/product/<product>/<size>.png",
        "/process/{process}/run/1/product/1/small.png",
        {},
        "login ok 404 404 ok ok",
    ),
    (
        "GET",
        f"{RUN}/product/<product>/<size>.png",
        "/process/{process}/run/1/product/1/huge.png",
        {},
        "login 404 404 404 404 404",
    ),
    (
        "GET",
        f"{RUN}/configuration/<task>",
        "/process/{process}/run/1/configuration/00-swarp",
        {},
        "login ok 404 404 ok ok",
    ),
    ("GET", f"{RUN}/recipe/<which>", "/process/{process}/run/1/recipe/job", {}, "login ok 404 404 ok ok"),
    ("GET", f"{RUN}/recipe/<which>", "/process/{process}/run/1/recipe/passwd", {}, "login 404 404 404 404 404"),
    ("GET", f"{RUN}/all.tar", "/process/{process}/run/1/all.tar", {}, "login ok 404 404 ok ok"),
    ("POST", "/process/<number>/<verb>", "/process/{queued}/hold", {}, "login ok 404 404 ok ok"),
    ("POST", "/process/<number>/<verb>", "/process/{queued}/release", {}, "login 409 404 404 409 409"),
    ("POST", "/process/<number>/<verb>", "/process/{process}/rerun", {}, "login ok 404 404 404 ok"),
    ("POST", "/process/<number>/<verb>", "/process/{process}/keep", {}, "login ok 404 404 ok ok"),
    ("GET", "/process/<number>/delete", "/process/{process}/delete", {}, "login ok 404 404 ok ok"),
    ("POST", "/process/<number>/<verb>", "/process/{process}/delete", {"sure": "yes"}, "login ok 404 404 ok ok"),
    ("POST", "/process/<number>/<verb>", "/process/{queued}/delete", {"sure": "yes"}, "login 409 404 404 409 409"),
    ("POST", "/process/<number>/<verb>", "/process/{process}/explode", {}, "login 404 404 404 404 404"),
    ("GET", "/difference", "/difference?one={process}.1", {}, "login ok 404 404 ok ok"),
    ("GET", "/difference", "/difference?one={process}.1&other={process}.1", {}, "login ok 404 404 ok ok"),
    ("GET", "/difference", "/difference?one={process}.1&other={queued}", {}, "login 404 404 404 404 404"),
    ("GET", "/daemon", "/daemon", {}, "login ok ok ok ok ok"),
    ("GET", "/metrics", "/metrics", {}, "404 404 404 404 404 ok"),
    ("GET", "/archive", "/archive", {}, "login ok ok ok ok ok"),
    ("GET", "/archive", "/archive?state=registered&search=9%25&page=x", {}, "login ok ok ok ok ok"),
    # Exposures and their grades: everybody's with an account; lists of what others said are Administrators'.
    ("GET", "/exposure/<number>", "/exposure/{exposure}", {}, "login ok ok ok ok ok"),
    ("GET", "/exposure/<number>", "/exposure/999999", {}, "login 404 404 404 404 404"),
    ("POST", "/exposure/<number>/grade", "/exposure/{exposure}/grade", {"grade": "A"}, "login ok ok ok ok ok"),
    ("POST", "/exposure/<number>/grade", "/exposure/999999/grade", {"grade": "A"}, "login 404 404 404 404 404"),
    ("GET", PICTURE, "/exposure/{exposure}/picture/preview", {}, "login ok ok ok ok ok"),
    ("GET", PICTURE, "/exposure/{exposure}/picture/passwd", {}, "login 404 404 404 404 404"),
    ("GET", "/exposure/<number>/file/<which>", "/exposure/{exposure}/file/fits", {}, "login ok ok ok ok ok"),
    ("GET", "/exposure/<number>/file/<which>", "/exposure/{exposure}/file/run", {}, "login 404 404 404 404 404"),
    ("GET", "/exposure/<number>/figures.<form>", "/exposure/{exposure}/figures.csv", {}, "login ok ok ok ok ok"),
    ("GET", "/exposure/<number>/figures.<form>", "/exposure/{exposure}/figures.xml", {}, "login 404 404 404 404 404"),
    ("GET", "/grades", "/grades", {}, "login ok ok ok ok ok"),
    ("GET", "/grades/next", "/grades/next", {}, "login ok ok ok ok ok"),
    ("GET", "/grades/exposures", "/grades/exposures?state=all&sort=-seeing", {}, "login ok ok ok ok ok"),
    (
        "POST",
        "/grades/exposures",
        "/grades/exposures",
        {"exposure": "{exposure}", "grade": "B"},
        "login ok ok ok ok ok",
    ),
    ("GET", "/grades/list.csv", "/grades/list.csv?history=1", {}, "login ok ok ok ok ok"),
    ("POST", "/grades/list", "/grades/list", {"text": "exposure,grade\n900001p,B"}, "login ok ok ok ok ok"),
    (
        "POST",
        "/grades/list",
        "/grades/list",
        {"text": "exposure,grade,grader\n900001p,B,erin"},
        "login 422 422 422 422 ok",
    ),
    # A new process; Alice has a draft
    ("GET", "/new", "/new", {}, "login ok ok ok ok ok"),
    ("GET", "/new", "/new?copy={process}.1", {}, "login ok 404 404 ok ok"),
    ("POST", "/new", "/new", {"name": "m33"}, "login ok ok ok ok ok"),
    ("POST", "/new", "/new", {"name": "m34", "copy": "{process}.1"}, "login 422 404 404 422 422"),
    ("GET", "/draft/<number>/archive", "/draft/{draft}/archive?filter=r", {}, "login ok 404 404 404 404"),
    ("GET", "/draft/<number>/archive/sky.svg", "/draft/{draft}/archive/sky.svg", {}, "login ok 404 404 404 404"),
    ("POST", "/draft/<number>/archive", "/draft/{draft}/archive", {"into": "exposures"}, "login ok 404 404 404 404"),
    ("GET", "/draft/<number>/<step>", "/draft/{draft}/data", {}, "login ok 404 404 404 404"),
    ("GET", "/draft/<number>/<step>", "/draft/{draft}/tasks", {}, "login ok 404 404 404 404"),
    ("GET", "/draft/<number>/<step>", "/draft/{draft}/configurations", {}, "login ok 404 404 404 404"),
    ("GET", "/draft/<number>/<step>", "/draft/{draft}/check", {}, "login ok 404 404 404 404"),
    ("GET", "/draft/<number>/<step>", "/draft/{draft}/secrets", {}, "login 404 404 404 404 404"),
    ("POST", "/draft/<number>/<step>", "/draft/{draft}/tasks", {"rules": "stack"}, "login ok 404 404 404 404"),
    ("POST", "/draft/<number>/run", "/draft/{draft}/run", {}, "login ok 404 404 404 404"),
    ("POST", "/draft/<number>/throw-away", "/draft/{draft}/throw-away", {}, "login ok 404 404 404 404"),
    # Configurations: Alice's own, her group's, everybody's, and those of the etc/ folder
    ("GET", "/configurations", "/configurations", {}, "login ok ok ok ok ok"),
    ("GET", "/configurations/new", "/configurations/new?application=swarp", {}, "login ok ok ok ok ok"),
    ("GET", "/configurations/new", "/configurations/new?application=swarp&copy={own}", {}, "login ok 404 404 404 ok"),
    ("GET", "/configurations/<kind>/<name>", "/configurations/rules/stack", {}, "login ok ok ok ok ok"),
    ("GET", "/configurations/<kind>/<name>", "/configurations/rules/passwd", {}, "login 404 404 404 404 404"),
    ("GET", "/configuration/<number>", "/configuration/{own}", {}, "login ok 404 404 404 ok"),
    ("GET", "/configuration/<number>", "/configuration/{groups}", {}, "login ok ok 404 ok ok"),
    ("GET", "/configuration/<number>", "/configuration/{systems}", {}, "login ok ok ok ok ok"),
    ("GET", "/configuration/<number>/edit", "/configuration/{own}/edit", {}, "login ok 404 404 404 ok"),
    ("GET", "/configuration/<number>/edit", "/configuration/{groups}/edit", {}, "login 404 404 404 ok ok"),
    ("GET", "/configuration/<number>/edit", "/configuration/{systems}/edit", {}, "login 404 404 404 404 ok"),
    ("POST", "/configurations", "/configurations", {"of": "{own}", "text": SWARP}, "login ok 404 404 404 ok"),
    ("POST", "/configurations", "/configurations", {"of": "{groups}", "text": SWARP}, "login 404 404 404 ok ok"),
    ("POST", "/configurations", "/configurations", {"of": "{systems}", "text": SWARP}, "login 404 404 404 404 ok"),
    ("POST", "/configurations", "/configurations", {**NEW_CONFIGURATION, "level": "user"}, "login ok ok ok ok ok"),
    (
        "POST",
        "/configurations",
        "/configurations",
        {**NEW_CONFIGURATION, "level": "group:lensing"},
        "login 404 404 404 ok ok",
    ),
    (
        "POST",
        "/configurations",
        "/configurations",
        {**NEW_CONFIGURATION, "level": "system"},
        "login 404 404 404 404 ok",
    ),
    (
        "POST",
        "/configuration/<number>/rename",
        "/configuration/{own}/rename",
        {"name": "deeper"},
        "login ok 404 404 404 ok",
    ),
    (
        "POST",
        "/configuration/<number>/rename",
        "/configuration/{groups}/rename",
        {"name": "wider"},
        "login 404 404 404 ok ok",
    ),
    (
        "POST",
        "/configuration/<number>/rename",
        "/configuration/{systems}/rename",
        {"name": "any"},
        "login 404 404 404 404 ok",
    ),
    ("POST", "/configuration/<number>/retire", "/configuration/{own}/retire", {}, "login ok 404 404 404 ok"),
    ("POST", "/configuration/<number>/retire", "/configuration/{groups}/retire", {}, "login 404 404 404 ok ok"),
)


@dataclass
class World:
    """Beside Alice and the others: Erin asks to join lensing, Ivan solar, Frank has not confirmed his address."""

    site: Site
    places: dict[str, Any] | None = None  # None: something was changed

    def as_it_was(self) -> dict[str, Any]:
        if self.places is None:
            self.places = self.make()
        return self.places

    def make(self) -> dict[str, Any]:
        self.site.open()
        now = time.time()
        people_the_world()
        places: dict[str, Any] = {}
        for name, group, key in (("erin", "lensing", "wish"), ("ivan", "solar", "other_wish")):
            add_account(name, state=accounts.State.ASKED)
            accounts.ask_to_join(account(name).id, group, LONG, now)
            places[key] = Membership.get(Membership.account == account(name).id).id
        frank = accounts.ask("Frank", "", "frank@example.org", LONG, "lensing", now)
        assert frank
        places["confirm"] = sessions.new_link("confirm", frank.id, now)
        places["reset"] = sessions.new_link("reset", account("alice").id, now)
        places["address"] = sessions.new_link("address", account("alice").id, now, "new@example.org")
        places["session"] = sessions.digest(sessions.begin(account("alice"), "192.0.2.9", "", now))
        return places | with_processes(self.site)


@pytest.fixture(scope="module", params=["sqlite", pytest.param("mariadb", marks=pytest.mark.slow)])
def world(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    url = request.getfixturevalue("mariadb").url("rights") if request.param == "mariadb" else ""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(passwords, "kept", lambda password: KEPT)  # here it is not about the cost of a password
        site = Site(settings_of(tmp_path_factory.mktemp("site"), url))
        furnish(site)
        yield World(site)


def answer(world: World, actor: str, method: str, path: str, form: dict[str, str]) -> str:
    places = world.as_it_was()
    browser = world.site.visitor() if actor == "nobody" else world.site.logged_in(actor)
    path = path.format(**places)
    if method == "GET":
        page = browser.get(path)
    else:
        if not browser.csrf:
            browser.get("/login")
        page = browser.post(path, **{key: value.format(**places) for key, value in form.items()})
    if method == "POST" and page.status in (200, 303):
        world.places = None
    if page.status == 303:
        return "login" if page.place.startswith("/login") else "ok"
    return "ok" if page.status == 200 else str(page.status)


def test_every_page_that_the_site_map_names_is_there() -> None:
    assert [name for _, _, name, _ in SITE_MAP if not callable(page_named(name))] == []


def test_every_page_of_the_site_map_is_walked() -> None:
    walked = {(method, path) for method, path, *_ in WALK}

    assert walked == {(method, path) for method, path, _, _ in SITE_MAP}


@pytest.mark.parametrize("row", WALK, ids=lambda row: f"{row[0]} {row[2]} {' '.join(row[3].values())[:30]}")
def test_each_gets_what_is_theirs(row: tuple[str, str, str, dict[str, str], str], world: World) -> None:
    method, _, path, form, expected = row

    found = {actor: answer(world, actor, method, path, form) for actor in ACTORS}

    assert found == dict(zip(ACTORS, expected.split(), strict=True))


@pytest.fixture
def fresh(world: World) -> Iterator[World]:
    world.make()
    yield world
    world.places = None


def test_what_is_forbidden_looks_like_what_does_not_exist(fresh: World) -> None:
    gina = fresh.site.logged_in("gina")

    forbidden, unknown, nowhere = (gina.get(f"/{path}") for path in ("accounts/carol", "accounts/none", "nowhere"))

    assert forbidden.status == unknown.status == nowhere.status == 404
    assert forbidden.text == unknown.text == nowhere.text
    assert "carol" not in forbidden.text


def test_a_form_that_is_forbidden_changes_nothing(fresh: World) -> None:
    gina, bob = fresh.site.logged_in("gina"), fresh.site.logged_in("bob")

    assert gina.post("/accounts/carol", verb="suspend").status == 404
    assert bob.post("/accounts/alice", verb="promote").status == 404

    fresh.site.open()
    assert {each.state for each in Account.select().where(Account.name.in_(["alice", "carol"]))} == {"active"}
    assert account("alice").rank == 0


def test_members_are_listed_to_members_alone(fresh: World) -> None:

    seen = {name: "Bob of Lensing" in fresh.site.logged_in(name).get("/groups/lensing").text for name in ACTORS[1:]}

    assert seen == {"alice": True, "bob": True, "carol": False, "gina": True, "dan": True}


def test_a_groups_administrator_sees_the_wishes_and_the_trail_of_the_group_alone(fresh: World) -> None:
    accounts.note("carol", "asked to join", "solar", "solar", "secret plans", now=time.time())
    accounts.note("alice", "asked to join", "lensing", "lensing", "open plans", now=time.time())

    gina, dan = fresh.site.logged_in("gina"), fresh.site.logged_in("dan")

    assert "Erin" in gina.get("/requests").text
    assert "Ivan" not in gina.get("/requests").text
    assert "Ivan" in dan.get("/requests").text
    assert "open plans" in gina.get("/audit").text
    assert "secret plans" not in gina.get("/audit").text
    assert "secret plans" in dan.get("/audit").text


def test_somebody_who_was_suspended_or_lost_a_rank_is_logged_out_at_once(fresh: World) -> None:
    alice, gina, dan = (fresh.site.logged_in(name) for name in ("alice", "gina", "dan"))

    assert dan.post("/accounts/alice", verb="suspend").status == 303
    assert dan.post("/groups/lensing/members", account="gina", verb="member").status == 303

    assert alice.get("/account").place.startswith("/login")
    assert gina.get("/requests").place.startswith("/login")
    fresh.site.open()
    assert Session.select().where(Session.account == account("alice").id).count() == 0
    assert fresh.site.logged_in("gina").get("/requests").status == 404

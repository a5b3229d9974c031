"""What the pages do about space and names: deleting, keeping, quotas, renaming, and what landed.

Who may ask for which page is in test_site_rights.py; that products go and recipes stay in test_retention_live.py.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from site_processes import furnish, with_processes
from site_world import KEPT, Site, people_the_world, settings_of

from spicad import passwords


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

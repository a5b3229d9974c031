"""How the daemon is: whether it runs, what runs and what waits on it, nodes, load, slots, disk."""

from __future__ import annotations

from collections.abc import Mapping

from spicad.people import Thing
from spicaweb.answers import Answer
from spicaweb.daemon_state import state
from spicaweb.drawing import draw
from spicaweb.visit import Visit


def page(visit: Visit) -> Answer:
    """Names of others' processes are shown to those only who may see them."""
    visit.require("see", Thing("daemon"))
    return draw(visit, "daemon", "The daemon", state=state(visit.settings, visit.now), thing_of=_thing_of, refresh=10)


def _thing_of(step: Mapping[str, str]) -> Thing:
    return Thing("process", step["owner"], step["group"])

"""Which exposures a grader goes through, as the address says it: a run, a filter, those that wait or all."""

from __future__ import annotations

from spicad.archive.grades import STATES, Among
from spicaweb.visit import Visit


def among_of(visit: Visit) -> Among:
    """?runid=03AF12&filter=r&state=all&unjudged=1"""
    state = visit.query("state", 10)
    return Among(
        visit.query("runid", 64),
        visit.query("filter", 32),
        state if state in STATES else STATES[0],
        visit.query("unjudged", 1) != "1",
    )


def fields_of(among: Among) -> dict[str, str]:
    """For a link that keeps to them."""
    state = "" if among.state == STATES[0] else among.state
    return {
        "runid": among.runid, "filter": among.filter, "state": state, "unjudged": "" if among.is_judged else "1",
    }  # fmt: skip

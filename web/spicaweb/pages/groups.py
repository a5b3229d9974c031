"""Reduction groups: what they are for, who is in them, who administers them, their quotas.

Wishes to join are asking.py's affair.
"""

from __future__ import annotations

from spicad import accounts
from spicad.people import Thing
from spicad.tables import Group
from spicad.words import SpicaError
from spicaweb.answers import Answer, NotThere
from spicaweb.drawing import draw
from spicaweb.pages.account import room_of_group
from spicaweb.visit import Visit

LARGEST_MB = 10**9
VERBS = {"remove": "remove", "administrator": "name", "member": "name"}  # of the form: what `may` is asked


def index(visit: Visit, problems: tuple[str, ...] = ()) -> Answer:
    found = accounts.groups()
    return draw(
        visit,
        "groups",
        "Groups",
        status=422 if problems else 200,
        groups=[(each, accounts.administrators_of(each.name)) for each in found],
        may_make=visit.may("make", Thing("group")),
        problems=problems,
    )


def make(visit: Visit) -> Answer:
    visit.require("make", Thing("group"))
    name = visit.form("name", 64).lower()
    try:
        accounts.add_group(name, visit.form("title"), visit.form("description"), visit.now)
    except SpicaError as error:
        return index(visit, (str(error),))
    accounts.note(visit.own_account.name, "group made", name, name, address=visit.address, now=visit.now)
    return visit.see_other(f"/groups/{name}", done="made")


def page(visit: Visit, name: str, problems: tuple[str, ...] = ()) -> Answer:
    group, thing = _seen(visit, name)
    shows_members = visit.may("members", thing)
    return draw(
        visit,
        "group",
        group.title,
        status=422 if problems else 200,
        group=group,
        quota=_quota_words(group),
        rooms=[room_of_group(visit, name)] if shows_members else [],
        administrators=accounts.administrators_of(name),
        members=accounts.members(name) if shows_members else [],
        shows_members=shows_members,
        may={verb: visit.may(verb, thing) for verb in ("edit", "quota", "name", "remove")},
        is_in=visit.user.is_in(name),
        problems=problems,
    )


def _quota_words(group: Group) -> str:
    figures = ((group.quota_mb, "for all together"), (group.user_quota_mb, "for each member"))
    return ", ".join(f"{figure} MiB {words}" for figure, words in figures if figure) or "none"


def edit(visit: Visit, name: str) -> Answer:
    group, thing = _seen(visit, name)
    visit.require("edit", thing)
    values: dict[str, object] = {
        "title": accounts.clean(visit.form("title"), 120) or group.title,
        "description": accounts.clean_lines(visit.form("description"), 4000),
    }
    if visit.may("quota", thing):
        for figure in ("quota_mb", "user_quota_mb"):
            given = visit.form(figure, 20) or "0"
            if not given.isdecimal() or int(given) > LARGEST_MB:
                return page(visit, name, (f"A quota is a whole number of MiB up to {LARGEST_MB}; 0 is none.",))
            values[figure] = int(given)
    Group.update(**values).where(Group.name == name).execute()
    words = ", ".join(f"{key}: {value}" for key, value in values.items())
    accounts.note(visit.own_account.name, "group changed", name, name, words, visit.address, now=visit.now)
    return visit.see_other(f"/groups/{name}", done="saved")


def member(visit: Visit, name: str) -> Answer:
    """Removes somebody from the group, or makes them its administrator, or takes that away."""
    _, thing = _seen(visit, name)
    verb = visit.form("verb", 20)
    account = accounts.named(visit.form("account", 40))
    if verb not in VERBS or account is None:
        raise NotThere
    visit.require(VERBS[verb], thing)
    if verb == "remove":
        # An administrator of the group is one until an Administrator says otherwise.
        is_administrator = accounts.person_of(account).is_administrator_of(name)
        if is_administrator and not visit.may("name", thing):
            raise NotThere
        is_done = accounts.leave(account, name)
    else:
        is_done = accounts.set_administrator(account, name, verb == "administrator")
    if not is_done:
        raise NotThere
    words = {"remove": "removed from group", "administrator": "made administrator", "member": "no administrator"}[verb]
    accounts.note(visit.own_account.name, words, account.name, name, address=visit.address, now=visit.now)
    return visit.see_other(f"/groups/{name}", done="removed" if verb == "remove" else "saved")


def _seen(visit: Visit, name: str) -> tuple[Group, Thing]:
    group, thing = accounts.group_named(name), Thing("group", group=name)
    if group is None:
        raise NotThere
    visit.require("see", thing)
    return group, thing

"""Configurations, the files that they name, and rules: listed by level, looked at, written, compared, retired.

What is right in them is judged by configurations.py; every save is a new version. The site map leads rules here too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import peewee

from spicad import accounts
from spicad.applications.configuration import NAME
from spicad.applications.descriptor import Application
from spicad.people import Thing
from spicad.words import Problem, Rank, SpicaError
from spicaweb import configurations
from spicaweb.answers import Answer, NotThere, Refusal
from spicaweb.configurations import KINDS, MOST_BYTES, Version, Visible
from spicaweb.drawing import draw
from spicaweb.visit import Visit

RENAMED = ("configuration", "rules")
WORDS = {"configuration": "configuration", "file": "file", "rules": "rules"}


def listing(visit: Visit) -> Answer:
    visible = Visible(visit.settings, visit.user)
    application = visit.query("application", 64)
    with_retired = visit.query("retired") == "1"
    found = {kind: visible.newest(kind, application if kind != "rules" else "", with_retired) for kind in KINDS}
    names = [name for name, each in visible.applications.items() if each.list_keywords]
    return draw(
        visit, "configurations", "Configurations", found=found, application=application, names=names,
        applications=visible.applications, with_retired=with_retired, kinds=KINDS,
    )  # fmt: skip


def look(visit: Visit, number: str, problems: Sequence[Problem] = ()) -> Answer:
    """One version, with the others and what differs from one of them."""
    visible = Visible(visit.settings, visit.user)
    version = _version(visible, number)
    versions = configurations.versions_of(version)
    against = visit.query("against", 12)
    other = _other(visible, version, versions, against)
    return draw(
        visit,
        "configuration",
        version.shown,
        status=422 if problems else 200,
        problems=[f"{each.source}: {each.what} {each.mend}" for each in problems],
        version=version,
        versions=versions,
        against=against,
        other=other,
        changes=configurations.changes(other.text, version.text) if other else [],
        may_edit=visit.may("edit", version.thing),
        words=WORDS[version.kind],
    )


def look_on_disk(visit: Visit, kind: str, name: str) -> Answer:
    """One of the etc/ folders: ?application=swarp&level=system."""
    visible = Visible(visit.settings, visit.user)
    version = _on_disk(visible, kind, visit.query("application", 64), name, visit.query("level", 10))
    return draw(
        visit, "configuration", version.name, version=version, versions=[], against="", other=None, changes=[],
        may_edit=False, words=WORDS[version.kind],
    )  # fmt: skip


def _version(visible: Visible, number: str) -> Version:
    version = visible.version(f"#{number}")
    if version is None:
        raise NotThere
    return version


def _on_disk(visible: Visible, kind: str, application: str, name: str, level: str) -> Version:
    if kind in KINDS:
        for each in visible.newest(kind, application):
            if not each.id and each.name == name and each.level == (level or "system"):
                return each
    raise NotThere


def _other(visible: Visible, version: Version, versions: Sequence[Version], against: str) -> Version | None:
    """What a version is compared with: an earlier one by its number, or the default."""
    if against == "default":
        return visible.default_of(version.application)
    if against.isdecimal():
        return next((each for each in versions if str(each.number) == against), None)
    earlier = [each for each in versions if each.number < version.number]
    return earlier[0] if earlier and against != "none" else None


# ---------------------------------------------------------------------- writing


def new(visit: Visit) -> Answer:
    """?kind=configuration&application=swarp, from the default; or ?copy=12, or ?copy=deep&level=system."""
    visible = Visible(visit.settings, visit.user)
    kind = visit.query("kind", 20) or "configuration"
    application = visit.query("application", 64)
    if kind not in KINDS or (kind != "rules" and application not in visible.applications):
        raise NotThere
    source = _source(visit, visible, kind, application)
    blank = Version(
        0, kind, application if kind != "rules" else "", "", visit.user.user, "", 0, source.text if source else ""
    )
    return _form(visit, visible, blank, copied=source)


def _source(visit: Visit, visible: Visible, kind: str, application: str) -> Version | None:
    copied = visit.query("copy", 100)
    if copied.isdecimal():
        return _version(visible, copied)
    if copied:
        return _on_disk(visible, kind, application, copied, visit.query("level", 10))
    return visible.default_of(application) if kind == "configuration" else None


def edit(visit: Visit, number: str) -> Answer:
    visible = Visible(visit.settings, visit.user)
    version = _version(visible, number)
    visit.require("edit", version.thing)
    return _form(visit, visible, configurations.versions_of(version)[0])


def save(visit: Visit) -> Answer:
    """A new version; of something new the first. Nothing is kept that could not run."""
    visible = Visible(visit.settings, visit.user)
    version = _from_form(visit, visible)
    visit.require("edit", version.thing)
    problems = _problems(visit, visible, version)
    if problems or visit.form("check") == "yes":
        return _form(visit, visible, version, problems, is_checked=not problems)
    try:
        number = configurations.saved(version, visit.now)
    except peewee.IntegrityError:
        raise Refusal(
            409, "Saved by another", "Somebody saved a version at the same moment. Look at it first."
        ) from None
    return visit.see_other(f"/configuration/{number}", done="saved")


def _from_form(visit: Visit, visible: Visible) -> Version:
    of = visit.form("of", 12)
    text = visit.form("text", 2 * MOST_BYTES)
    words = visit.form("words", 200)
    who = str(visit.own_account.name)
    if of:
        head = configurations.versions_of(_version(visible, of))[0]
        return replace(head, text=text + "\n", words=words, who=who)
    kind, application, level = visit.form("kind", 20), visit.form("application", 64), visit.form("level", 70)
    if kind not in KINDS or (kind != "rules" and application not in visible.applications):
        raise NotThere
    owner, group = _whose(visit, level)
    name = visit.form("name", 100)
    return Version(
        0, kind, "" if kind == "rules" else application, name, owner, group, 0, text + "\n", who=who, words=words
    )


def _whose(visit: Visit, level: str) -> tuple[str, str]:
    """(owner, group) of what is made at a level: user, system, or group:NAME."""
    if level == "system":
        return "", ""
    group = level.removeprefix("group:")
    return ("", group) if level.startswith("group:") and group else (visit.user.user, "")


def levels(visit: Visit, kind: str) -> list[tuple[str, str]]:
    """Where this visitor may make something, with words."""
    thing = "rules" if kind == "rules" else "configuration"
    found = [("user", "for myself")]
    found += [(f"group:{name}", f"for the group {name}") for name in sorted(visit.user.administers)]
    if visit.may("edit", Thing(thing, "", "")) and visit.user.rank >= Rank.ADMINISTRATOR:
        found.append(("system", "for everybody"))
    return found


def _problems(visit: Visit, visible: Visible, version: Version) -> list[Problem]:
    found = _name_problems(visible, version)
    return [*found, *visible.problems(version.kind, version.application, version.name or "text", version.text)]


def _name_problems(visible: Visible, version: Version) -> list[Problem]:
    found = []
    if not NAME.fullmatch(version.name):
        found.append(Problem("Name", "it cannot be used.", "Letters, digits and . _ -, at most 100."))
    elif not version.id and configurations.versions_of(version):
        found.append(
            Problem("Name", f"there is one called {version.name} already.", "Edit that one, or take another name.")
        )
    elif version.kind == "rules" and any(not each.id and each.name == version.name for each in visible.newest("rules")):
        found.append(Problem("Name", "there are rules of the observatory's with that name.", "Take another one."))
    return found


def _form(
    visit: Visit,
    visible: Visible,
    version: Version,
    problems: Sequence[Problem] = (),
    copied: Version | None = None,
    is_checked: bool = False,
) -> Answer:
    application = visible.applications.get(version.application)
    by_line: dict[int, list[Problem]] = {}
    for problem in problems:
        by_line.setdefault(problem.line or 0, []).append(problem)
    return draw(
        visit,
        "configuration_form",
        version.name or f"New {WORDS[version.kind]}",
        status=422 if problems else 200,
        version=version,
        copied=copied,
        by_line=by_line,
        lines=version.text.splitlines(),
        is_checked=is_checked,
        levels=levels(visit, version.kind),
        applications=visible.applications,
        keywords=_help(visible, application) if version.kind == "configuration" and application else [],
        patterns=sorted({each.file for each in application.stored.values()}) if application else [],
        words=WORDS[version.kind],
    )


def _help(visible: Visible, application: Application) -> list[dict[str, Any]]:
    """Keywords that may be set, as the installed tool tells them."""
    try:
        keywords = visible.keywords(application)
    except SpicaError:
        return []
    return [
        {
            "name": name,
            "default": keywords[name].default,
            "comment": keywords[name].comment,
            "allowed": ", ".join(application.allowed.get(name) or keywords[name].allowed or ()),
        }
        for name in sorted(application.open_keywords & keywords.keys())
    ]


def retire(visit: Visit, number: str) -> Answer:
    """Offered no more, or offered again; nothing is deleted."""
    visible = Visible(visit.settings, visit.user)
    version = _version(visible, number)
    visit.require("edit", version.thing)
    configurations.retired(version, visit.form("retired") == "yes")
    return visit.see_other(f"/configuration/{version.id}", done="saved")


def rename(visit: Visit, number: str) -> Answer:
    """All versions get the new name. Files keep theirs: configurations name them."""
    visible = Visible(visit.settings, visit.user)
    version = _version(visible, number)
    visit.require("edit", version.thing)
    if version.kind not in RENAMED:
        raise NotThere
    name = visit.form("name", 100)
    if name != version.name:
        if problems := _name_problems(visible, replace(version, id=0, name=name)):
            return look(visit, number, problems)
        try:
            configurations.renamed(version, name)
        except peewee.IntegrityError:
            raise Refusal(409, "Taken by another", "Somebody took that name at the same moment.") from None
        words = f"{version.application} {version.name} to {name}".strip()
        who = str(visit.own_account.name)
        accounts.note(who, f"{WORDS[version.kind]} renamed", name, version.group, words, visit.address, now=visit.now)
    return visit.see_other(f"/configuration/{version.id}", done="saved")

"""What differs between two runs: rules, configurations, exposures, versions, figures, products.

It compares what the capsules say; what is the same is counted, not told.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from spicad.report import number
from spicaweb.capsules import Capsule
from spicaweb.results import Configured, configured, digests_of_inputs, products_of

MOST_LINES = 400
MISSING = "–"
OF_THE_SITE = re.compile(r'^\[web\]\n(?:\w+ = "[^"\n]*"\n)*\n?', re.MULTILINE)  # whose drop it was; see handing.py


@dataclass(frozen=True)
class Line:
    """One thing, as it is on either side."""

    what: str
    one: str
    other: str
    change: str = ""


@dataclass(frozen=True)
class Section:
    title: str
    lines: tuple[Line, ...]
    same: int  # how many things are the same on both sides


@dataclass(frozen=True)
class Difference:
    sections: tuple[Section, ...]
    rules: tuple[str, ...]  # lines of a unified difference
    job: tuple[str, ...]

    @property
    def same(self) -> str:
        """In words, what is the same on both sides."""
        counts = [f"{section.same} of {section.title.lower()}" for section in self.sections if section.same]
        return ", ".join([*counts, *(["the rules"] if not self.rules else [])])

    @property
    def is_none(self) -> bool:
        return not self.rules and not any(section.lines for section in self.sections)


def between(one: Capsule, other: Capsule) -> Difference:
    setups = configured(one), configured(other)
    return Difference(
        (
            _section("Configurations", *(_keywords(each) for each in setups)),
            _section(
                "Stored files", *(_stored(capsule, each) for capsule, each in zip((one, other), setups, strict=True))
            ),
            _section(
                "Versions", *(_versions(capsule, each) for capsule, each in zip((one, other), setups, strict=True))
            ),
            _section("Exposures", *map(_exposures, (one, other))),
            _figures(_of_outcome(one), _of_outcome(other)),
            _section("Products", *map(_products, (one, other))),
        ),
        _unified(one, other, "rules.toml"),
        _unified(one, other, "job.spica"),
    )


def _section(title: str, one: Mapping[str, str], other: Mapping[str, str]) -> Section:
    names = list(dict.fromkeys([*one, *other]))
    lines = [Line(name, one.get(name, MISSING), other.get(name, MISSING)) for name in names]
    different = tuple(line for line in lines if line.one != line.other)
    return Section(title, different, len(lines) - len(different))


def _keywords(setups: list[Configured]) -> dict[str, str]:
    return {
        f"{setup.application} {keyword.name}": f"{keyword.value or '(empty)'}"
        for setup in setups
        for keyword in setup.keywords
    }


def _stored(capsule: Capsule, setups: list[Configured]) -> dict[str, str]:
    """Files such as lists of columns, told by how many lines they have and a part of their digest."""
    import hashlib

    found = {}
    for setup in setups:
        for name in setup.files:
            if name not in ("descriptor.toml", f"{setup.application}.conf"):
                text = capsule.text("configuration", setup.folder, name)
                digest = hashlib.sha256(text.encode()).hexdigest()[:12]
                found[f"{setup.application} {name}"] = f"{len(text.splitlines())} lines, {digest}"
    return found


def _versions(capsule: Capsule, setups: list[Configured]) -> dict[str, str]:
    facts = capsule.json("run.json") or {}
    tools = {setup.application: f"{setup.version} {setup.path}".strip() for setup in setups}
    return {"Spica": str(facts.get("spica", "")), "node": str(facts.get("node", "")), **tools}


def _exposures(capsule: Capsule) -> dict[str, str]:
    """By name, with a part of the digest of what was read."""
    plan = capsule.json("plan.json") or {}
    digests = digests_of_inputs(capsule)
    dropped = {name: f"left out: {why}" for name, why in (capsule.json("outcome.json") or {}).get("dropped", [])}
    found = {}
    for stem, exposure in plan.get("exposures", {}).items():
        path, label = str(exposure.get("path", "")), plan.get("labels", {}).get(stem, stem)
        digest = digests.get(path, "")
        found[label] = dropped.get(label) or (f"{path}, {digest[:12]}" if digest else path)
    return found


def _products(capsule: Capsule) -> dict[str, str]:
    """Names that begin with the process's own are compared without that beginning."""
    name = str((capsule.json("run.json") or {}).get("name", ""))
    return {_without(each.name, name): each.digest[:12] for each in products_of(capsule)}


def _without(text: str, name: str) -> str:
    return f"NAME{text.removeprefix(name)}" if name and text.startswith(name) else text


def _of_outcome(capsule: Capsule) -> dict[str, Any]:
    record = capsule.json("outcome.json") or {}
    name = str((capsule.json("run.json") or {}).get("name", ""))
    return {
        label.replace(name, "NAME") if name else label: (value, unit)
        for label, value, unit in record.get("figures", [])
    }


def _figures(one: Mapping[str, Any], other: Mapping[str, Any]) -> Section:
    names = list(dict.fromkeys([*one, *other]))
    lines = []
    for name in names:
        (a, unit), (b, unit_b) = one.get(name, (None, "")), other.get(name, (None, ""))
        if a != b:
            unit = unit or unit_b
            words = [f"{number(each)} {unit}".strip() if each is not None else MISSING for each in (a, b)]
            lines.append(Line(name, words[0], words[1], _change(a, b)))
    return Section("Key figures", tuple(lines), len(names) - len(lines))


def _change(one: Any, other: Any) -> str:
    if not isinstance(one, int | float) or not isinstance(other, int | float) or not one:
        return ""
    return f"{100 * (other - one) / abs(one):+.3g} %"


def _unified(one: Capsule, other: Capsule, name: str) -> tuple[str, ...]:
    before, after = (capsule.text(name).splitlines() for capsule in (one, other))
    lines = difflib.unified_diff(before, after, lineterm="", n=2)
    return tuple(line for line in list(lines)[2 : MOST_LINES + 2])

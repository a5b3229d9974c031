"""Configurations, files that they name, and rules, as the site keeps them: every save is a new version.

Beside those of the tables stand the ones of the etc/ folders, only read here. What is right in them is judged by
spicad/applications/configuration.py and spicad/rules.py; who may change what by people.may.
"""

from __future__ import annotations

import difflib
import fnmatch
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spicad.applications import configuration as tool_configuration
from spicad.applications.descriptor import Application, load_applications
from spicad.applications.tools import Keyword, find_tool, tool_columns, tool_keywords
from spicad.config import Settings
from spicad.people import Person, Thing
from spicad.rules import Rules, parse_rules
from spicad.tables import Configuration
from spicad.words import BadInput, Problem, Rank, SpicaError, nearest

KINDS = ("configuration", "file", "rules")
LEVELS = ("user", "group", "system")
MOST_BYTES = 48 << 10  # what a job file still has room for
MOST_WORDS = 200
MOST_CHANGED_LINES = 600
SUFFIX = tool_configuration.SUFFIX


@dataclass(frozen=True)
class Version:
    """One version of something; `id` 0: of the etc/ folders, which know no versions."""

    id: int
    kind: str
    application: str  # '' for rules
    name: str
    owner: str
    group: str
    number: int
    text: str
    made: float = 0.0
    who: str = ""
    words: str = ""
    is_retired: bool = False
    level_on_disk: str = ""

    @property
    def level(self) -> str:
        return self.level_on_disk or ("user" if self.owner else "group" if self.group else "system")

    @property
    def thing(self) -> Thing:
        return Thing("rules" if self.kind == "rules" else "configuration", self.owner, self.group)

    @property
    def choice(self) -> str:
        """What a form says to choose it."""
        return f"#{self.id}" if self.id else self.name

    @property
    def shown(self) -> str:
        return f"{self.name}, version {self.number}" if self.id else self.name

    @property
    def carried_as(self) -> str:
        """Its name within a job file, where it tells where it comes from."""
        return self.name if self.kind != "configuration" else f"{self.application}-{self.name}-v{self.number}{SUFFIX}"


class Visible:
    """What somebody may see: their own, their groups', everybody's, and those of the etc/ folders."""

    def __init__(self, settings: Settings, person: Person) -> None:
        self.settings, self.person = settings, person
        self.applications = load_applications(settings.paths.applications)

    def newest(self, kind: str, application: str = "", with_retired: bool = False) -> list[Version]:
        """The newest version of each, nearest level first; with those of the folders."""
        mine = (Configuration.owner == self.person.user) | (Configuration.owner == "")
        groups = sorted({*self.person.groups, self.person.group, ""})
        query = Configuration.select().where((Configuration.kind == kind) & mine)
        if not self._is_administrator:
            query = query.where((Configuration.owner != "") | Configuration.group.in_(groups))
        if application:
            query = query.where(Configuration.application == application)
        newest: dict[tuple[str, str, str, str], Version] = {}
        for row in query.order_by(Configuration.number):
            version = _version(row)
            newest[(version.application, version.name, version.owner, version.group)] = version
        found = [each for each in newest.values() if with_retired or not each.is_retired]
        found += self._on_disk(kind, application)
        return sorted(found, key=lambda each: (each.application, LEVELS.index(each.level), each.name))

    @property
    def _is_administrator(self) -> bool:
        return self.person.rank >= Rank.ADMINISTRATOR

    def version(self, choice: str) -> Version | None:
        """Of "#12", when it may be seen; of a bare name None: that is looked up by the desk."""
        number = choice.removeprefix("#")
        if not choice.startswith("#") or not (number.isascii() and number.isdecimal()) or len(number) > 9:
            return None
        row = Configuration.get_or_none(Configuration.id == int(number))
        return _version(row) if row and self._may_see(row) else None

    def _may_see(self, row: Configuration) -> bool:
        if self._is_administrator or row.owner == self.person.user:
            return True
        return not row.owner and (not row.group or self.person.is_in(row.group))

    def files_named_in(self, version: Version) -> dict[str, str]:
        """Files of the tables that a configuration names: those of the etc/ folders need not be carried."""
        return self._files_named(version.application, version.text)

    def _files_named(self, application: str, text: str) -> dict[str, str]:
        known = self.applications.get(application)
        try:
            values = tool_configuration.parse(text, application).values
        except BadInput:
            return {}
        wanted = {values[keyword] for keyword in known.stored if keyword in values} if known else set()
        found: dict[str, str] = {}
        for file in self.newest("file", application):
            if file.id and file.name in wanted:
                found.setdefault(file.name, file.text)
        return found

    def rules(self, name: str) -> str | None:
        """The text of rules of the tables; None for those of the etc/ folders."""
        version = next((each for each in self.newest("rules") if each.name == name), None)
        return version.text if version and version.id else None

    def all_rules(self) -> list[tuple[Version, Rules]]:
        """Those that can be read."""
        found = []
        for version in self.newest("rules"):
            with suppress(SpicaError):
                found.append((version, parse_rules(version.text, version.name)))
        return found

    def default_of(self, application: str) -> Version | None:
        """What `new from default` begins with."""
        known = self.applications.get(application)
        name = known.configuration if known else ""
        return next((each for each in self._on_disk("configuration", application) if each.name == name), None)

    # ------------------------------------------------------------------ the folders

    @property
    def folders(self) -> list[tuple[str, Path]]:
        """As the desk has them, nearest level first."""
        root = Path(self.settings.paths.configurations)
        return [
            ("user", root / "users" / self.person.user),
            ("group", root / "groups" / self.person.group),
            ("system", root),
        ]

    def _on_disk(self, kind: str, application: str) -> Iterator[Version]:
        if kind == "rules":
            root = Path(self.settings.paths.rules)
            places = [("user", root / "users" / self.person.user), ("group", root / "groups" / self.person.group)]
            for level, folder in [*places, ("system", root)]:
                yield from self._files(kind, "", level, folder, "*.toml")
            return
        for name in [application] if application else self.applications:
            for level, folder in self.folders:
                pattern = f"*{SUFFIX}" if kind == "configuration" else "*"
                for found in self._files(kind, name, level, folder / name, pattern):
                    if kind == "configuration" or not found.name.endswith(SUFFIX):
                        yield found

    def _files(self, kind: str, application: str, level: str, folder: Path, pattern: str) -> Iterator[Version]:
        for path in sorted(folder.glob(pattern)):
            name = path.name.removesuffix(SUFFIX if kind == "configuration" else ".toml" if kind == "rules" else "")
            if tool_configuration.NAME.fullmatch(name):
                with suppress(OSError):
                    text = path.read_text(encoding="utf-8", errors="replace")
                    owner = self.person.user if level == "user" else ""
                    group = self.person.group if level == "group" else ""
                    yield Version(0, kind, application, name, owner, group, 1, text, level_on_disk=level)

    # ------------------------------------------------------------------ judging

    def problems(self, kind: str, application: str, name: str, text: str) -> list[Problem]:
        """All that is wrong with a text, with its lines. Raises SpicaError when the tool is missing."""
        if len(text.encode()) > MOST_BYTES:
            return [Problem(name, f"larger than {MOST_BYTES // 1024} kB.", "Leave out what is the default anyway.")]
        try:
            if kind == "rules":
                return _problems_of_rules(parse_rules(text, name), self.applications, name)
            known = self.application(application)
            if kind == "file":
                return self._problems_of_file(known, name, text)
            return self._problems_of_configuration(known, name, text)
        except BadInput as error:
            return list(error.problems)

    def application(self, name: str) -> Application:
        """Raises BadInput."""
        if name not in self.applications:
            raise BadInput(
                Problem("application", f'there is no application "{name}".', nearest(name, self.applications))
            )
        return self.applications[name]

    def keywords(self, application: Application) -> Mapping[str, Keyword]:
        return tool_keywords(
            find_tool(application, self.settings.paths.programs, self._cache), application, self._cache
        )

    @property
    def _cache(self) -> Path:
        return Path(self.settings.paths.spool) / "tools"

    def _problems_of_configuration(self, known: Application, name: str, text: str) -> list[Problem]:
        written = tool_configuration.parse(text, name)
        keywords = self.keywords(known)
        with _laid_out(known.name, self._files_named(known.name, text)) as folder:
            folders = [("own", folder), *self.folders]
            found = tool_configuration.check(known, written, keywords, folders)
            if found:
                return found
            effective = tool_configuration.effective(known, keywords, [("own", written)])
            tool_configuration.stored_files(known, effective, folders)
        return []

    def _problems_of_file(self, known: Application, name: str, text: str) -> list[Problem]:
        keyword = next((key for key, each in known.stored.items() if fnmatch.fnmatchcase(name, each.file)), "")
        if not keyword:
            patterns = ", ".join(sorted({each.file for each in known.stored.values()})) or "none"
            return [Problem(name, f"{known.title} reads no file of such a name.", f"It reads: {patterns}.")]
        columns = tool_columns(find_tool(known, self.settings.paths.programs, self._cache), known, self._cache)
        with _laid_out(known.name, {name: text}) as folder:
            found = tool_configuration.check_stored(known, keyword, folder / known.name / name, columns)
        return [Problem(name, each.what, each.mend, each.line) for each in found]


@contextmanager
def _laid_out(application: str, files: Mapping[str, str]) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="spica-site-") as root:
        folder = Path(root) / application
        folder.mkdir()
        for name, text in files.items():
            if tool_configuration.NAME.fullmatch(name):
                (folder / name).write_text(text, encoding="utf-8")
        yield Path(root)


def _problems_of_rules(rules: Rules, applications: Mapping[str, Application], name: str) -> list[Problem]:
    return [
        Problem(name, f'unknown application "{task.application}".', nearest(task.application, applications))
        for task in rules.tasks
        if task.application not in applications
    ]


# ---------------------------------------------------------------------- writing


def versions_of(version: Version) -> list[Version]:
    """All versions of the same thing, the newest first."""
    query = Configuration.select().where(_same(version)).order_by(Configuration.number.desc())
    return [_version(row) for row in query]


def _same(version: Version) -> Any:
    return (
        (Configuration.kind == version.kind)
        & (Configuration.application == version.application)
        & (Configuration.name == version.name)
        & (Configuration.owner == version.owner)
        & (Configuration.group == version.group)
    )


def saved(version: Version, now: float) -> int:
    """A new version with the next number. Two at once: one of them is refused by the index, with IntegrityError."""
    earlier = versions_of(version)
    made: Configuration = Configuration.create(
        kind=version.kind,
        application=version.application,
        name=version.name,
        owner=version.owner,
        group=version.group,
        number=earlier[0].number + 1 if earlier else 1,
        text=version.text.replace("\r\n", "\n"),
        made=now,
        who=version.who,
        words=version.words[:MOST_WORDS],
    )
    return int(made.id)


def retired(version: Version, is_retired: bool) -> None:
    """Offered no more, or again; the versions stay, since runs name them."""
    for each in versions_of(version):
        Configuration.update(is_retired=is_retired).where(Configuration.id == each.id).execute()


def renamed(version: Version, name: str) -> None:
    """All versions, in one statement. Raises IntegrityError when somebody has just taken the name."""
    Configuration.update(name=name).where(_same(version)).execute()


def changes(one: str, other: str) -> Sequence[str]:
    lines = difflib.unified_diff(one.splitlines(), other.splitlines(), lineterm="", n=3)
    return list(lines)[2 : MOST_CHANGED_LINES + 2]


def _version(row: Configuration) -> Version:
    return Version(
        row.id, row.kind, row.application, row.name, row.owner, row.group, row.number, row.text, row.made, row.who,
        row.words, row.is_retired,
    )  # fmt: skip

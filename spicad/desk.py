"""The desk where a job is looked over: exposures found and read, configurations checked, the plan made.

`vet` reads much and writes nothing; all that is wrong comes back at once as BadInput. It runs in a thread of the daemon
and in `spica lint`, `plan` and `submit` alike.
"""

from __future__ import annotations

import os
import tempfile
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from itertools import islice
from pathlib import Path
from typing import Any

from spicad import patterns, picking
from spicad.applications import configuration as configurations
from spicad.applications.configuration import Configuration, Effective
from spicad.applications.descriptor import Application, load_applications
from spicad.applications.tools import Tool, find_tool, tool_columns, tool_keywords
from spicad.archive.headers import Exposure, odd_beside_others, read_exposure, stem_of
from spicad.archive.instruments import Instruments, instruments_in, shipped
from spicad.archive.picks import Picked, Picks
from spicad.background import Stopped
from spicad.config import Settings, shipped_folder
from spicad.jobfile import Job, unknown_applications
from spicad.node import is_on_network
from spicad.people import Person, belongs_to, permitted
from spicad.plan import PREPARERS, Dropped, Ingredients, Plan, plan
from spicad.remembered import remembered
from spicad.rules import Rules, Task, load_rules, parse_rules
from spicad.schema import Document, shown
from spicad.words import BadInput, Problem, Rank, SpicaError, nearest

MOST_COMPANIONS = 20
MOST_COMPANION_CHARACTERS = 1 << 20
MOST_MATCHES = 100_000  # files that a pattern may match, weight maps included
FEW_EXPOSURES = 4
MOST_AT_HAND = 10_000
FITS_SUFFIXES = (".fits", ".fits.fz", ".fits.gz")
WEIGHT_SUFFIXES = (".weight.fits", ".weight.fits.fz", ".weight.fits.gz", "_weight.fits", "_weight.fits.fz")

_rules_in = remembered(load_rules, 100)


@lru_cache(maxsize=4)
def _exposures_by(instruments: Instruments) -> Callable[[Path], Exposure]:
    return remembered(lambda path: read_exposure(path, instruments), 300)


@dataclass(frozen=True)
class Setup:
    """An application made ready for one task: the installed tool, its configuration in force, its stored files."""

    application: str
    tool: Tool
    effective: Effective | None
    stored: Mapping[str, bytes] = field(default_factory=dict, repr=False)  # name in cfg/ -> content


@dataclass(frozen=True)
class Vetted:
    """A job that can run, resolved."""

    job: Job
    rules: Rules
    plan: Plan
    setups: Mapping[int, Setup]  # by task, or by number of PREPARERS
    picks: Picks = Picks()  # noqa: RUF009  # frozen; what came from the archive


@dataclass(frozen=True)
class Desk:
    settings: Settings
    applications: Mapping[str, Application]
    is_stopped: Callable[[], bool] = lambda: False
    instruments: Instruments = field(default_factory=shipped)
    at_hand: OrderedDict[Any, None] = field(default_factory=OrderedDict, compare=False, repr=False)  # see has_at_hand

    @classmethod
    def of(cls, settings: Settings, is_stopped: Callable[[], bool] = lambda: False) -> Desk:
        paths = settings.paths
        return cls(settings, load_applications(paths.applications), is_stopped, instruments_in(paths.instruments))

    def _exposure_in(self, path: Path) -> Exposure:
        return _exposures_by(self.instruments)(path)

    @cached_property
    def cache(self) -> Path:
        return Path(self.settings.paths.spool) / "tools"

    def tool(self, application: Application) -> Tool:
        """As it is installed now. Raises SpicaError when it is not."""
        return find_tool(application, self.settings.paths.programs, self.cache)

    def has_at_hand(self, job: Job, owner: Person) -> bool:
        """Whether all that looking the job over takes was read before and lies on this machine: a matter of a
        millisecond, for which no thread is worth its while."""
        return _is_small(job) and all(each in self.at_hand for each in (_recipe(job, owner), *job.exposures))

    def _put_at_hand(self, job: Job, owner: Person, chosen: Sequence[Exposure]) -> None:
        if not _is_small(job) or any(is_on_network(exposure.path) for exposure in chosen):
            return
        self.at_hand.update(dict.fromkeys((_recipe(job, owner), *job.exposures)))
        while len(self.at_hand) > MOST_AT_HAND:
            with suppress(KeyError):  # another thread did it
                self.at_hand.popitem(last=False)

    def vet(self, job: Job, owner: Person, is_sandboxed: bool = True) -> Vetted:
        """Raises BadInput with all that is wrong with the job, SpicaError when a tool is missing."""
        problems = unknown_applications(job, self.applications)
        is_open = self._takes_users_own(owner, is_sandboxed)
        if not is_open:
            problems += _what_users_brought(job, is_sandboxed)
        problems += _missing_companions(job)
        rules = self._rules(job, owner, is_open, problems)
        with _texts_as_folder(job, self.applications) as own_folder:
            folders = self._levels(self.settings.paths.configurations, owner, is_open)
            if own_folder and is_open:
                folders.insert(0, ("job file", own_folder))
            setups = self._setups(job, rules, folders, problems)
        problems += _missing_columns(rules.tasks, setups, self.applications)
        budget = patterns.Budget(self.is_stopped)
        picks = self._asked(job, owner, problems)
        chosen, dropped = self._exposures(job, "exposures", job.exposures, picks.exposures, owner, budget, problems)
        picks, notes = self._widened(job, rules, picks, chosen)
        pool, unusable = self._exposures(
            job, "calibration", job.calibration, picks.calibration, owner, budget, problems
        )
        chosen, pool = self._judged(picks, chosen), self._judged(picks, pool)
        chosen_paths = {exposure.path for exposure in chosen}
        pool = [exposure for exposure in pool if exposure.path not in chosen_paths]
        weights = self._weights(job, [*chosen, *pool], owner, problems)
        reference = self._reference(job, owner, problems)
        if not chosen and not problems:
            what = "none of the exposures can be used."
            problems.append(Problem(job.source, what, " ".join(f"{each.exposure}: {each.why}" for each in dropped[:5])))
        if problems:
            raise BadInput(problems)
        made = plan(
            Ingredients(job.name, rules, chosen, pool, [*dropped, *unusable], weights, reference, job.source),
            self.applications,
        )
        for task in {step.task for step in made.steps} & PREPARERS.keys():
            setups[task] = self._setup(self.applications[PREPARERS[task]], [], [], [])
        odd = [f"{path.name}: {words}" for path, found in odd_beside_others(chosen).items() for words in found]
        made = replace(made, notes=(*made.notes, *notes, *odd))
        if not self.has_at_hand(job, owner):
            self._put_at_hand(job, owner, chosen)
        return Vetted(job, rules, made, setups, picks)

    # ------------------------------------------------------------------ rules and configurations

    def _takes_users_own(self, owner: Person, is_sandboxed: bool) -> bool:
        """Whether configurations of users and groups are taken: without a sandbox only where that is the wish."""
        sandbox = self.settings.sandbox
        is_safe = is_sandboxed or sandbox.kind == "none"
        return owner.rank in (Rank.ADMINISTRATOR, Rank.PIPELINE) or (is_safe and sandbox.user_configurations)

    def _levels(self, root: Path, owner: Person, is_open: bool) -> list[tuple[str, Path]]:
        """Nearest level first: the user's, the group's, the system's."""
        return [*(_own_levels(root, owner.user, owner.group) if is_open else ()), ("system", root)]

    def _rules(self, job: Job, owner: Person, is_open: bool, problems: list[Problem]) -> Rules:
        """Rules without a task when there are none to be had: then `problems` says why."""
        try:
            return job.own_rules or self._rules_named(job, owner, is_open)
        except BadInput as error:
            problems += error.problems
            return Rules("", "", ())

    def _rules_named(self, job: Job, owner: Person, is_open: bool) -> Rules:
        if job.rules in job.texts:
            return parse_rules(job.texts[job.rules], job.rules)
        name = job.rules.removesuffix(".toml")
        folders = [folder for _, folder in self._levels(self.settings.paths.rules, owner, is_open)]
        for folder in folders:
            path = f"{folder}/{name}.toml"
            if configurations.NAME.fullmatch(name) and os.path.isfile(path):
                return _rules_in(Path(path))
        known = {each.stem for folder in folders for each in folder.glob("*.toml")}
        mend = nearest(job.rules, known) or f"Known: {', '.join(sorted(known))}."
        raise BadInput(Problem(job.source, f"there are no rules {shown(job.rules)}.", mend))

    def _setups(
        self, job: Job, rules: Rules, folders: Sequence[tuple[str, Path]], problems: list[Problem]
    ) -> dict[int, Setup]:
        setups = {}
        for number, task in enumerate(rules.tasks):
            application = self.applications.get(task.application)
            if application is None:
                continue  # plan() says so with the nearest spelling
            try:
                layers = self._layers(job, rules, number, application, folders)
                setups[number] = self._setup(application, layers, folders, problems)
            except BadInput as error:
                problems += error.problems
        return setups

    def _layers(
        self, job: Job, rules: Rules, number: int, application: Application, folders: Sequence[tuple[str, Path]]
    ) -> list[tuple[str, Configuration]]:
        layers, task = [], rules.tasks[number]
        name = job.configuration.get(task.application) or task.configuration or application.configuration
        if name:
            name = name.removesuffix(configurations.SUFFIX)
            level, path = configurations.find_configuration(name, application, folders)
            own = next((each for each in job.texts if each.removesuffix(configurations.SUFFIX) == name), name)
            read = configurations.read_configuration(path, own if level == "job file" else str(path))
            layers.append((f"{level}: {name}", read))
        if task.set:
            source = job.source if job.own_rules else f"rules {job.rules}"
            where = f"{source}, [task.set] of {task.application}"
            layers.append(("rules", _settings_in(rules.text, ("task", number, "set"), task.set, where)))
        if task.application in job.set:
            layers.append(("job file", self._own_settings(job, task.application)))
        return layers

    def _own_settings(self, job: Job, application: str) -> Configuration:
        where = f"{job.source}, [set.{application}]"
        return _settings_in(job.text, ("set", application), job.set[application], where)

    def _setup(
        self,
        application: Application,
        layers: Sequence[tuple[str, Configuration]],
        folders: Sequence[tuple[str, Path]],
        problems: list[Problem],
    ) -> Setup:
        tool = self.tool(application)
        keywords = tool_keywords(tool, application, self.cache)
        if not keywords:
            return Setup(application.name, tool, None)
        for _, layer in layers:
            problems += configurations.check(application, layer, keywords, folders)
        effective = configurations.effective(application, keywords, layers)
        columns = tool_columns(tool, application, self.cache)
        stored = {}
        for keyword, (_, path) in configurations.stored_files(application, effective, folders).items():
            problems += configurations.check_stored(application, keyword, path, columns)
            stored[configurations.stored_target(application, keyword)] = path.read_bytes()
        for name in application.folders:
            stored |= {f"{name}/{path.name}": path.read_bytes() for path in sorted(self._folder(name).glob("*.toml"))}
        return Setup(application.name, tool, effective, stored)

    def _folder(self, name: str) -> Path:
        """The one that spica.conf names, or the one that came with Spica."""
        named = Path(getattr(self.settings.paths, name))
        return named if named.is_dir() else shipped_folder() / name

    # ------------------------------------------------------------------ the archive

    def _asked(self, job: Job, owner: Person, problems: list[Problem]) -> Picks:
        if job.picks is not None or not picking.asks(job):
            return job.picks or Picks()
        try:
            with picking.open_archive(self.settings):
                return picking.asked(job, owner, self.settings.daemon.node)
        except BadInput as error:
            problems += error.problems
        except SpicaError as error:
            problems += picking.unasked(job, error)
        return Picks()

    def _widened(self, job: Job, rules: Rules, picks: Picks, chosen: list[Exposure]) -> tuple[Picks, list[str]]:
        """With the neighbours that tasks are widened with, and what is to be said of it."""
        masters = {name: _masters_of(application) for name, application in self.applications.items()}
        is_wide = any(task.widen or masters.get(task.application) for task in rules.tasks)
        if job.picks is not None or not chosen or not is_wide:
            return picks, []
        try:
            with picking.open_archive(self.settings):
                near = picking.neighbours(rules, chosen, self.settings.daemon.node, masters)
        except SpicaError as error:
            return picks, [f"tasks are widened with nothing of the archive: {error}"]
        return replace(picks, calibration=(*picks.calibration, *near)), []

    def _judged(self, picks: Picks, exposures: list[Exposure]) -> list[Exposure]:
        """Seeing and grades as the archive has them; headers alone where there is none."""
        try:
            with picking.open_archive(self.settings):
                return picking.judged(exposures, picks)
        except SpicaError:
            return exposures

    # ------------------------------------------------------------------ files

    def _exposures(
        self,
        job: Job,
        key: str,
        asked: Sequence[str],
        picked: Sequence[Picked],
        owner: Person,
        budget: patterns.Budget,
        problems: list[Problem],
    ) -> tuple[list[Exposure], list[Dropped]]:
        """The exposures that can be read, and the others with their reasons."""
        found: dict[Path, None] = {}
        dropped: list[Dropped] = []
        for each in picked:
            try:
                found[permitted(each.path, owner, self.settings)] = None
                if each.has_changed:
                    del found[Path(each.path).resolve()]
                    dropped.append(Dropped(Path(each.path).name, "it is not any more the file that was registered"))
            except (SpicaError, OSError) as error:
                dropped.append(Dropped(Path(each.path).name, str(error)))
        for pattern in (word for word in asked if word.startswith("/")):
            try:
                paths, refused = self._expanded(pattern, owner, budget)
            except SpicaError as error:
                problems.append(Problem(job.source, f'"{key}": {error}'))
                continue
            found.update(dict.fromkeys(paths))
            dropped += refused
        if len(found) > self.settings.limits.exposures:
            what = f'"{key}" names {len(found)} exposures; a process has at most {self.settings.limits.exposures}.'
            problems.append(Problem(job.source, what, "Split it."))
            return [], []
        exposures = []
        for path in found:
            if self.is_stopped():
                raise Stopped
            try:
                exposures.append(self._exposure_in(path))
            except SpicaError as error:
                dropped.append(Dropped(path.name, str(error)))
        return exposures, list(dict.fromkeys(dropped))  # two patterns may lead to the same file

    def _expanded(self, pattern: str, owner: Person, budget: patterns.Budget) -> tuple[list[Path], list[Dropped]]:
        """The files that a path or pattern names, weight maps left out, and those that its owner may not read."""
        if not pattern.startswith("/") or not patterns.is_pattern(pattern) or os.path.lexists(pattern):
            return [permitted(pattern, owner, self.settings)], []
        allowed, refused, last = [], [], ""
        for match in self._matches(pattern, owner, budget):
            try:
                allowed.append(permitted(match, owner, self.settings))
            except SpicaError as error:
                last = str(error)
                refused.append(Dropped(os.path.basename(match), last))
        if not allowed:
            raise SpicaError(last or f"{pattern}: no file matches.")
        return allowed, refused

    def _matches(self, pattern: str, owner: Person, budget: patterns.Budget) -> list[str]:
        """Inside the archive only; where there is none, the owner's own files only, so that no others are told of."""
        roots = self.settings.paths.archive
        try:
            begins = patterns.beginning(pattern).resolve()
            if roots and not any(begins.is_relative_to(root.resolve()) for root in roots):
                where = ", ".join(map(str, roots))
                raise SpicaError(f"{pattern}: does not begin in the archive ({where}; paths.archive in spica.conf).")
            found = list(islice(patterns.matching(pattern, budget), MOST_MATCHES))
        except (OSError, RuntimeError, ValueError) as error:
            raise SpicaError(f"{pattern}: {error}.") from None
        matches = sorted(match for match in found if not self._is_map(match))
        if not roots:
            matches = [match for match in matches if belongs_to(match, owner)]
        most = self.settings.limits.exposures
        if len(matches) > most or (roots and len(found) == MOST_MATCHES):
            raise SpicaError(f"{pattern}: more files match than the {most} that a process may have. Split it.")
        return matches

    def _is_map(self, match: str) -> bool:
        return match.endswith(WEIGHT_SUFFIXES) or bool(self.instruments.companion(stem_of(Path(match)))[1])

    def _weights(
        self, job: Job, exposures: Sequence[Exposure], owner: Person, problems: list[Problem]
    ) -> dict[str, Exposure]:
        """By exposure path, the record of its weight map."""
        if job.weight == "none":
            return {}
        known: dict[Path, Exposure] = {}
        weights: dict[str, Exposure] = {}
        for exposure in exposures:
            try:
                path = self._weight_of(job, exposure, owner)
                if path is None:
                    continue
                if path not in known:
                    known[path] = self._exposure_in(path)
            except SpicaError as error:
                mend = 'Write weight = "none" to do without.'
                problems.append(Problem(job.source, f'"weight": {error}', mend))
                return weights
            if len(known[path].ccds) != len(exposure.ccds):
                theirs = f"{path.name} has {len(known[path].ccds)} CCDs"
                what = f'"weight": {theirs}, {exposure.path.name} has {len(exposure.ccds)}.'
                problems.append(Problem(job.source, what, "Give the weight map of the same mosaic."))
                return weights
            weights[str(exposure.path)] = known[path]
        return weights

    def _weight_of(self, job: Job, exposure: Exposure, owner: Person) -> Path | None:
        folder, stem = exposure.path.parent, stem_of(exposure.path)
        if job.weight != "auto":
            return permitted(job.weight.replace("{folder}", str(folder)).replace("{stem}", stem), owner, self.settings)
        names = [stem + suffix for suffix in WEIGHT_SUFFIXES]
        if other := self.instruments.named(exposure.known_as).map_of(stem, "weight"):
            names += [other + suffix for suffix in FITS_SUFFIXES]
        for name in names:
            candidate = f"{folder}/{name}"
            if os.path.isfile(candidate):
                return permitted(candidate, owner, self.settings)
        return None

    def _reference(self, job: Job, owner: Person, problems: list[Problem]) -> str:
        if not job.reference:
            return os.path.realpath(self.settings.paths.reference) if self.settings.paths.reference else ""
        try:
            return str(permitted(job.reference, owner, self.settings))
        except SpicaError as error:
            problems.append(Problem(job.source, f'"reference": {error}'))
            return ""


@lru_cache(maxsize=1000)
def _own_levels(root: Path, user: str, group: str) -> tuple[tuple[str, Path], ...]:
    return ("user", root / "users" / user), ("group", root / "groups" / group)


def _is_small(job: Job) -> bool:
    """A few files, each named by its whole path."""
    is_plain = all(name.startswith("/") and not patterns.is_pattern(name) for name in job.exposures)
    has_more = job.select is not None or job.picks is not None or job.calibration or job.texts or job.reference
    return is_plain and len(job.exposures) <= FEW_EXPOSURES and job.weight in ("auto", "none") and not has_more


def _recipe(job: Job, owner: Person) -> tuple[Any, ...]:
    """What decides which rules and configurations are read."""
    own = tuple((task.application, task.configuration) for task in job.own_rules.tasks) if job.own_rules else ()
    return job.rules, own, tuple(sorted(job.configuration.items())), owner.user, owner.group


def _masters_of(application: Application) -> tuple[str, ...]:
    """The kinds of exposures that calibrate what it works on."""
    return tuple(each.product for each in application.inputs.values() if each.kind == "calibration")


def _what_users_brought(job: Job, is_sandboxed: bool) -> list[Problem]:
    """Settings of the job's own, where only the system's configurations are taken."""
    tasks = job.own_rules.tasks if job.own_rules else ()
    if not (job.set or job.texts or any(task.set for task in tasks)):
        return []
    why = "user_configurations is off in spica.conf" if is_sandboxed else "no sandbox works on this machine"
    what = f"configurations of users are not taken here: {why}."
    return [Problem(job.source, what, "Use a system configuration, or ask the administrator.")]


@contextmanager
def _texts_as_folder(job: Job, applications: Mapping[str, Application]) -> Iterator[Path | None]:
    """The files carried in a job file, laid out as the nearest level of configurations."""
    if not job.texts:
        yield None
        return
    with tempfile.TemporaryDirectory(prefix="spica-job-") as root:
        for application in applications:
            folder = Path(root) / application
            folder.mkdir()
            for name, text in job.texts.items():
                if not configurations.NAME.fullmatch(name):
                    mend = "Use letters, digits and . _ -, at most 100."
                    raise BadInput(Problem(job.source, f"{shown(name)} cannot be the name of a file in [texts].", mend))
                (folder / name).write_text(text, encoding="utf-8")
                if not name.endswith(configurations.SUFFIX):
                    (folder / (name + configurations.SUFFIX)).write_text(text, encoding="utf-8")
        yield Path(root)


def _missing_columns(
    tasks: Sequence[Task], setups: Mapping[int, Setup], applications: Mapping[str, Application]
) -> list[Problem]:
    """Columns that a task needs in the catalogues of an earlier one, and that one's list of columns leaves out."""
    problems = []
    for number, setup in setups.items():
        for wanted in applications[setup.application].inputs.values():
            maker = next(
                (
                    i
                    for i in reversed(range(number))
                    if i in setups and wanted.product in applications[setups[i].application].outputs
                ),
                None,
            )
            if not wanted.product or maker is None or not wanted.columns or setup.effective is None:
                continue
            asked = _columns_of(setups[maker], applications[setups[maker].application])
            if asked is None:
                continue
            for column in configurations.columns_needed(wanted, setup.effective):
                if column not in asked:
                    who = tasks[number].application
                    what = f'the column "{column}" is missing in the list of output columns; {who} needs it.'
                    problems.append(Problem(tasks[maker].application, what, f"Add a line {column}."))
    return problems


def _settings_in(text: str, path: tuple[str | int, ...], values: Mapping[str, str], source: str) -> Configuration:
    """Keywords that are set in TOML, with the lines where they stand there, in whatever case."""
    document = Document(source, text, {})
    return Configuration.of(values, source, {keyword: document.line_of_keyword(*path, keyword) for keyword in values})


def _columns_of(setup: Setup, application: Application) -> frozenset[str] | None:
    for keyword, stored in application.stored.items():
        target = configurations.stored_target(application, keyword)
        if stored.holds == "columns" and target in setup.stored:
            return configurations.columns_asked(setup.stored[target].decode("latin-1"))
    return None


def companions_of(job: Job, applications: Mapping[str, Application], read: Callable[[str], str]) -> dict[str, str]:
    """Files beside a job file that it names as rules, configurations or stored files, read with `read`.

    `read` raises FileNotFoundError for a name that is no file there: then it is a name of the archive's own. Raises
    BadInput when they are too many or too long to be carried along.
    """
    found: dict[str, str] = {}
    for name in dict.fromkeys(_names_of_files(job, applications)):
        if name not in job.texts and "." in name and configurations.NAME.fullmatch(name):
            with suppress(FileNotFoundError, IsADirectoryError):
                found[name] = read(name)
        if len(found) > MOST_COMPANIONS or sum(map(len, found.values())) > MOST_COMPANION_CHARACTERS:
            most = f"at most {MOST_COMPANIONS}, of {MOST_COMPANION_CHARACTERS // 1024} kB together"
            mend = "Keep them as configurations of your own."
            raise BadInput(Problem(job.source, f"too much is named beside this file; {most}.", mend))
    return found


def _names_of_files(job: Job, applications: Mapping[str, Application]) -> Iterator[str]:
    yield job.rules
    yield from job.configuration.values()
    for name, settings in job.set.items():
        stored = applications[name].stored if name in applications else {}
        yield from (value for keyword, value in settings.items() if keyword.upper() in stored)


def _missing_companions(job: Job) -> list[Problem]:
    """A file that is named with its suffix is that file, never the system's of the same name."""
    document = Document(job.source, job.text, {})
    named = [(("configuration", application), name) for application, name in job.configuration.items()]
    wanted = [(path, name, configurations.SUFFIX) for path, name in named] + [(("rules",), job.rules, ".toml")]
    return [
        document.problem(
            path,
            f"there is no file {shown(name)} beside this one.",
            f"Drop it before the job file, or write {shown(name.removesuffix(suffix))} for the one that is kept.",
        )
        for path, name, suffix in wanted
        if name.endswith(suffix) and name not in job.texts
    ]

"""Decides, from a job, its rules and the exposures' records, which steps run on what: a pure function of values.

Nothing is read or written here; job_desk.py collects what goes in, run.py works off what comes out.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from spicad.applications.descriptor import Application, Input
from spicad.archive.headers import Exposure, needs_preparing, separation_deg
from spicad.rules import GATHER_FIELDS, GRADES, Rules, Task, Widen, condition
from spicad.words import BadInput, Problem, nearest

# The applications that make a file readable by the tools, by the task number of their steps.
PREPARERS = {-1: "prepare", -2: "prepare-map"}
OF_EXPOSURES, OF_MAPS = PREPARERS
BYTES_PER_PIXEL = 4
CATALOGUE_SHARE = 0.05  # of the pixels' bytes; measured 0.01 to 0.04 on the made sky


@dataclass(frozen=True)
class Source:
    """Where a step's file comes from: a path given by the user, or the output of an earlier step."""

    path: str = ""
    step: int = 0
    output: str = ""


@dataclass(frozen=True)
class PlannedFile:
    stem: str
    source: Source


@dataclass(frozen=True)
class PlannedStep:
    number: int  # from 1
    task: int  # index into the rules' tasks; one of PREPARERS for preparing
    application: str
    label: str  # for people and for names of products
    stems: tuple[str, ...]  # the exposures it works on
    files: Mapping[str, tuple[PlannedFile, ...]]  # by name of the application's input
    needs: tuple[int, ...]  # steps that must be over before
    threads: int
    memory_mb: int
    time_s: float
    least: int = 1
    stops_run: bool = False  # a failure ends the run, rather than dropping the exposure
    is_lazy: bool = False  # runs only when a step that needs it really runs

    @property
    def folder(self) -> str:
        return f"{self.number:04d}-{self.application}"


@dataclass(frozen=True)
class Dropped:
    exposure: str
    why: str
    task: str = ""  # empty: dropped from the whole process


@dataclass(frozen=True)
class Plan:
    steps: tuple[PlannedStep, ...]
    labels: Mapping[str, str]  # stem -> unique readable name of the exposure
    exposures: Mapping[str, Exposure]  # stem -> record
    dropped: tuple[Dropped, ...]
    notes: tuple[str, ...]
    forecast_bytes: int


@dataclass(frozen=True)
class Ingredients:
    """All that a plan is made of."""

    name: str
    rules: Rules
    chosen: Sequence[Exposure]
    pool: Sequence[Exposure] = ()
    dropped: Sequence[Dropped] = ()
    weights: Mapping[str, Exposure] = field(default_factory=dict)  # exposure path -> its weight map
    reference: str = ""
    source: str = "job"


@dataclass
class _Draft:
    """What plan() gathers while it goes through the tasks."""

    ingredients: Ingredients
    applications: Mapping[str, Application]
    exposures: dict[str, Exposure]
    labels: dict[str, str]
    chosen: list[str]
    steps: list[PlannedStep] = field(default_factory=list)
    makers: dict[tuple[int, str], int] = field(default_factory=dict)  # (task, stem) -> step
    prepared: dict[str, int] = field(default_factory=dict)  # path -> step
    dropped: list[Dropped] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    forecast: float = 0


def plan(ingredients: Ingredients, applications: Mapping[str, Application]) -> Plan:
    """Raises BadInput when the rules cannot work: unknown application, nothing that makes a needed input, ..."""
    everything = [*ingredients.chosen, *ingredients.pool]
    exposures = {f"img{number:04d}": exposure for number, exposure in enumerate(everything, 1)}
    draft = _Draft(
        ingredients,
        applications,
        exposures,
        labels=_unique_labels(exposures),
        chosen=list(exposures)[: len(ingredients.chosen)],
        dropped=list(ingredients.dropped),
    )
    tasks = ingredients.rules.tasks
    _require_known(tasks, applications, ingredients.source)
    groups = _groups_of_all_tasks(draft)
    for number, task in enumerate(tasks):
        for words, stems in groups[number]:
            _add_step(draft, number, task, words, stems, is_only=len(groups[number]) == 1)
    if not any(step.task >= 0 for step in draft.steps):
        raise BadInput(Problem(ingredients.source, "no step is left to run.", _first_reasons(draft.dropped)))
    used = {stem for step in draft.steps for stem in step.stems}
    return Plan(
        tuple(draft.steps),
        {stem: draft.labels[stem] for stem in used if stem in draft.labels},
        {stem: exposure for stem, exposure in exposures.items() if stem in used},
        tuple(draft.dropped),
        tuple(draft.notes),
        int(draft.forecast),
    )


def _first_reasons(dropped: Sequence[Dropped]) -> str:
    return " ".join(f"{each.exposure}: {each.why}" for each in dropped[:3])


def _require_known(tasks: Sequence[Task], applications: Mapping[str, Application], source: str) -> None:
    problems = [
        Problem(source, f'unknown application "{task.application}".', nearest(task.application, applications))
        for task in tasks
        if task.application not in applications
    ]
    for number, task in enumerate(tasks):
        for wanted in _products_of(applications.get(task.application)):
            if _maker_of(number, wanted.product, tasks, applications) is None and not wanted.optional:
                makers = sorted(name for name, each in applications.items() if wanted.product in each.outputs)
                what = f"the task {task.application} needs a {wanted.product}, which no earlier task makes."
                problems.append(Problem(source, what, f"Put one of these before it: {', '.join(makers)}."))
    if problems:
        raise BadInput(problems)


def _products_of(application: Application | None) -> list[Input]:
    return [each for each in application.inputs.values() if each.kind == "product"] if application else []


def _maker_of(number: int, product: str, tasks: Sequence[Task], applications: Mapping[str, Application]) -> int | None:
    """The nearest task before `number` that makes `product`."""
    for earlier in reversed(range(number)):
        application = applications.get(tasks[earlier].application)
        if application and product in application.outputs:
            return earlier
    return None


Group = tuple[str, list[str]]  # words, stems


def _groups_of_all_tasks(draft: _Draft) -> list[list[Group]]:
    """From the last task to the first, since a task also works for what later tasks need of it."""
    tasks = draft.ingredients.rules.tasks
    groups: list[list[Group]] = [[] for _ in tasks]
    wanted: list[set[str]] = [set() for _ in tasks]
    for number in reversed(range(len(tasks))):
        task = tasks[number]
        chosen = _selected(draft, task)
        extra = _widened(draft, chosen, task.widen)
        if task.is_each:
            stems = sorted({*chosen, *extra, *wanted[number]})
            groups[number] = [(draft.labels[stem], [stem]) for stem in stems]
        else:
            groups[number] = [
                group for group in _gathered(draft, task, chosen, extra) if _is_enough(draft, task, group)
            ]
        for input_ in _products_of(draft.applications[task.application]):
            maker = _maker_of(number, input_.product, tasks, draft.applications)
            if maker is not None:
                wanted[maker].update(stem for _, stems in groups[number] for stem in stems)
    return groups


def _selected(draft: _Draft, task: Task) -> list[str]:
    if not task.select:
        return draft.chosen
    holds = condition(task.select)
    stems = []
    for stem in draft.chosen:
        if holds(draft.exposures[stem]):
            stems.append(stem)
        else:
            draft.dropped.append(
                Dropped(draft.labels[stem], f"select = {task.select!r} does not hold", task.application)
            )
    return stems


def _widened(draft: _Draft, chosen: Sequence[str], widen: Widen | None) -> list[str]:
    if widen is None:
        return []
    pool = [stem for stem in draft.exposures if stem not in draft.chosen]
    return [stem for stem in pool if _may_widen(draft, stem, chosen, widen)]


def _may_widen(draft: _Draft, stem: str, chosen: Sequence[str], widen: Widen) -> bool:
    candidate = draft.exposures[stem]
    if widen.grade and candidate.grade and GRADES.index(candidate.grade) > GRADES.index(widen.grade):
        return False
    same = _key_of(widen.same)
    return any(
        same(candidate) == same(other) and _apart_deg(candidate, other) <= widen.within_deg
        for other in (draft.exposures[each] for each in chosen)
    )


def _apart_deg(one: Exposure, other: Exposure) -> float:
    """Between the centres, degrees; infinite when a place is unknown."""
    if one.s_ra is None or one.s_dec is None or other.s_ra is None or other.s_dec is None:
        return math.inf
    return separation_deg((one.s_ra, one.s_dec), (other.s_ra, other.s_dec))


def _key_of(words: Iterable[str]) -> Callable[[Exposure], tuple[str, ...]]:
    fields = [GATHER_FIELDS[word] for word in words if word != "all"]
    return lambda exposure: tuple(str(getattr(exposure, name) or "") for name in fields)


def _gathered(draft: _Draft, task: Task, chosen: Sequence[str], extra: Sequence[str]) -> list[Group]:
    key = _key_of(task.gather)
    groups: dict[tuple[str, ...], list[str]] = {}
    for stem in chosen:
        groups.setdefault(key(draft.exposures[stem]), []).append(stem)
    for stem in extra:
        if key(draft.exposures[stem]) in groups:
            groups[key(draft.exposures[stem])].append(stem)
    return [("_".join(word for word in words if word), stems) for words, stems in sorted(groups.items())]


def _is_enough(draft: _Draft, task: Task, group: Group) -> bool:
    words, stems = group
    if len(stems) >= task.least:
        return True
    why = f"only {len(stems)} exposures of {words or 'this group'}, {task.least} are needed"
    draft.dropped += [Dropped(draft.labels[stem], why, task.application) for stem in stems]
    return False


def _add_step(draft: _Draft, number: int, task: Task, words: str, stems: list[str], is_only: bool) -> None:
    application = draft.applications[task.application]
    files: dict[str, tuple[PlannedFile, ...]] = {}
    for name, wanted in application.inputs.items():
        sources = _sources(draft, number, task, wanted, stems)
        if sources:
            files[name] = tuple(sources)
    if not task.is_each:
        _note_overlaps(draft, task, stems)
    name = draft.ingredients.name
    label = words if task.is_each else clean(name if is_only or not words else f"{name}_{words}")
    step = PlannedStep(
        number=len(draft.steps) + 1,
        task=number,
        application=task.application,
        label=label,
        stems=tuple(stems),
        files=files,
        needs=tuple(sorted({file.source.step for each in files.values() for file in each if file.source.step})),
        threads=task.threads or application.threads,
        memory_mb=task.memory_mb or application.memory_for(len(stems)),
        time_s=task.time_s or application.time_for(len(stems)),
        least=task.least,
        stops_run=task.on_bad_exposure == "stop" or not task.is_each,
    )
    draft.steps.append(step)
    draft.forecast += _forecast(draft, application, stems)
    for stem in stems:
        draft.makers[(number, stem)] = step.number


def _sources(draft: _Draft, number: int, task: Task, wanted: Input, stems: list[str]) -> list[PlannedFile]:
    ingredients = draft.ingredients
    if wanted.kind == "exposure":
        return [
            PlannedFile(stem, _readable(draft, stem, draft.exposures[stem], wanted, OF_EXPOSURES)) for stem in stems
        ]
    if wanted.kind == "weight":
        weights = {stem: ingredients.weights.get(str(draft.exposures[stem].path)) for stem in stems}
        return [
            PlannedFile(stem, _readable(draft, "", weight, wanted, OF_MAPS))
            for stem, weight in weights.items()
            if weight
        ]
    if wanted.kind == "reference":
        if ingredients.reference:
            return [PlannedFile("", Source(path=ingredients.reference))]
        if wanted.optional:
            return []
        what = f"the task {task.application} needs a reference catalogue."
        raise BadInput(Problem(ingredients.source, what, 'Add: reference = "/path/to/catalogue.cat" (FITS LDAC).'))
    if wanted.kind == "product":
        maker = _maker_of(number, wanted.product, ingredients.rules.tasks, draft.applications)
        if maker is None:
            return []
        output = draft.applications[ingredients.rules.tasks[maker].application].outputs[wanted.product]
        return _made(draft, maker, wanted.product, stems, output.is_per_exposure)
    return []


def _made(draft: _Draft, maker: int, product: str, stems: list[str], per_exposure: bool) -> list[PlannedFile]:
    if per_exposure:
        return [
            PlannedFile(stem, Source(step=draft.makers[(maker, stem)], output=product))
            for stem in stems
            if (maker, stem) in draft.makers
        ]
    steps = sorted({draft.makers[(maker, stem)] for stem in stems if (maker, stem) in draft.makers})
    return [PlannedFile(f"part{step:04d}", Source(step=step, output=product)) for step in steps]


def _readable(draft: _Draft, stem: str, exposure: Exposure, wanted: Input, preparer: int) -> Source:
    """The file itself, or the step that makes it readable: one for each file, run only when it is needed."""
    path = str(exposure.path)
    if not needs_preparing(exposure, wanted.reads):
        return Source(path=path)
    application = draft.applications[PREPARERS[preparer]]
    (output,) = application.outputs
    if path not in draft.prepared:
        stem = stem or f"map{len(draft.prepared) + 1:04d}"
        (input_name,) = application.inputs
        step = PlannedStep(
            number=len(draft.steps) + 1,
            task=preparer,
            application=application.name,
            label=draft.labels.get(stem, clean(exposure.stem)),
            stems=(stem,),
            files={input_name: (PlannedFile(stem, Source(path=path)),)},
            needs=(),
            threads=1,
            memory_mb=application.memory_mb,
            time_s=application.time_s,
            is_lazy=True,
        )
        draft.steps.append(step)
        draft.prepared[path] = step.number
        draft.forecast += _pixel_bytes(exposure)
    return Source(step=draft.prepared[path], output=output)


def _pixel_bytes(exposure: Exposure) -> int:
    return sum(ccd.width * ccd.height for ccd in exposure.ccds) * BYTES_PER_PIXEL


def _forecast(draft: _Draft, application: Application, stems: Sequence[str]) -> float:
    """Bytes that a step's outputs may take: catalogues a share of the pixels, images at most their sum."""
    pixels = sum(_pixel_bytes(draft.exposures[stem]) for stem in stems)
    images = sum(1 for output in application.outputs.values() if output.kind == "fits")
    return pixels * (images + CATALOGUE_SHARE)


def _note_overlaps(draft: _Draft, task: Task, stems: Sequence[str]) -> None:
    """Names the exposures that touch no other one of their group: what ties them to it is the reference alone."""
    if len(stems) < 2:
        return
    for stem in stems:
        one = draft.exposures[stem]
        others = (draft.exposures[other] for other in stems if other != stem)
        if not any(_touch(one, other) for other in others):
            draft.notes.append(f"{draft.labels[stem]} overlaps no other exposure of its {task.application} step")


def _touch(one: Exposure, other: Exposure) -> bool:
    return _apart_deg(one, other) < (one.radius_deg or 0) + (other.radius_deg or 0)


def clean(words: str) -> str:
    """Words of the archive as a part of a file name: letters, digits and . _ + -, at most 100."""
    return re.sub(r"[^A-Za-z0-9._+-]+", "_", words).lstrip(".-_")[:100] or "unnamed"


def _unique_labels(exposures: Mapping[str, Exposure]) -> dict[str, str]:
    labels: dict[str, str] = {}
    taken: set[str] = set()
    for stem, exposure in exposures.items():
        plain = label = clean(exposure.stem)
        number = 1
        while label in taken:
            number += 1
            label = f"{plain}-{number}"
        taken.add(label)
        labels[stem] = label
    return labels

"""Decides, from a job, its rules and the exposures' records, which steps run on what: a pure function of values.

Nothing is read or written here; desk.py collects what goes in, run.py works off what comes out.
"""

from __future__ import annotations

import itertools
import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from spicad.applications.descriptor import Application, Input
from spicad.archive.headers import Exposure, needs_preparing, separation_deg
from spicad.archive.instruments import MASTERS, RAW_CALIBRATIONS
from spicad.calibrations import Candidate, best, days_apart, fits, is_calibration, is_given, looked_for
from spicad.rules import GATHER_FIELDS, GRADES, Rules, Task, Widen, condition
from spicad.schema import shown
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
    gathers: bool = False  # works for a group: its failure is the run's, and others go on without what it makes
    stops_run: bool = False  # a failure ends the run at once, and no exposure is dropped for it
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
    calibration: tuple[str, ...] = ()  # stems that widen tasks or become masters; the others are the stacking set

    def input_bytes(self, step: PlannedStep) -> int:
        """Of the exposures that it works on."""
        return sum(self.exposures[stem].size for stem in step.stems if stem in self.exposures)


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
    candidates: list[Candidate] = field(default_factory=list)  # masters that are there, then those that steps make
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
        candidates=[Candidate(each.kind, each) for each in everything if is_given(each)],
        dropped=list(ingredients.dropped),
    )
    tasks = ingredients.rules.tasks
    _require_known(tasks, applications, ingredients.source)
    groups = _groups_of_all_tasks(draft)
    for number, task in enumerate(tasks):
        supplied = [(words, _supplied(draft, number, task, stems)) for words, stems in groups[number]]
        left = [group for group in supplied if _is_enough(draft, task, group)]
        for words, stems in left:
            _add_step(draft, number, task, words, stems, is_only=len(left) == 1)
    _note_unused(draft)
    if not any(step.task >= 0 for step in draft.steps):
        raise BadInput(Problem(ingredients.source, "no step is left to run.", _first_reasons(draft.dropped)))
    used = {stem for step in draft.steps for stem in step.stems}
    return Plan(
        _with_stops(draft.steps),
        {stem: label for stem, label in draft.labels.items() if stem in used},
        {stem: exposure for stem, exposure in exposures.items() if stem in used},
        tuple(draft.dropped),
        tuple(draft.notes),
        int(draft.forecast),
        tuple(
            stem
            for stem, each in exposures.items()
            if stem in used and (stem not in draft.chosen or is_calibration(each))
        ),
    )


def _note_unused(draft: _Draft) -> None:
    """Calibrations that were chosen and that no task works on."""
    used = {stem for step in draft.steps for stem in step.stems}
    said = {each.exposure for each in draft.dropped}
    for stem in draft.chosen:
        exposure, label = draft.exposures[stem], draft.labels[stem]
        if is_calibration(exposure) and not is_given(exposure) and stem not in used and label not in said:
            draft.dropped.append(Dropped(label, f"it is a {exposure.kind}, which no task here works on"))


def _with_stops(steps: Sequence[PlannedStep]) -> tuple[PlannedStep, ...]:
    """Preparing an exposure ends the run where the task that wants it would."""
    wanted = {number for step in steps if step.stops_run for number in step.needs}
    return tuple(replace(step, stops_run=True) if step.is_lazy and step.number in wanted else step for step in steps)


def _supplied(draft: _Draft, number: int, task: Task, stems: list[str]) -> list[str]:
    """Those of `stems` for which the earlier tasks make what this one reads: a stack never holds unsolved exposures."""
    tasks = draft.ingredients.rules.tasks
    for wanted in draft.applications[task.application].inputs.values():
        if wanted.kind == "calibration":
            stems = _calibrated(draft, task, wanted, stems)
        is_from_earlier = wanted.kind == "product" or (wanted.kind == "exposure" and wanted.product)
        maker = _maker_of(number, wanted, tasks, draft.applications) if is_from_earlier else None
        if maker is not None:
            why = f"the task {tasks[maker].application} makes no {wanted.product} for it"
            missing = [stem for stem in stems if (maker, stem) not in draft.makers]
            draft.dropped += [Dropped(draft.labels[stem], why, task.application) for stem in missing]
            stems = [stem for stem in stems if (maker, stem) in draft.makers]
    return stems


def _calibrated(draft: _Draft, task: Task, wanted: Input, stems: list[str]) -> list[str]:
    """Those that have this calibration, or can do without; a group is judged by its first exposure."""
    if wanted.name not in task.calibrate.needs:
        return stems
    left = []
    for stem in stems if task.is_each else stems[:1]:
        exposure = draft.exposures[stem]
        if exposure.is_processed or best(wanted.product, exposure, task.calibrate, draft.candidates):
            left.append(stem)
            continue
        why = looked_for(wanted.product, exposure, task.calibrate, draft.candidates)
        lacking = [stem] if task.is_each else stems
        draft.dropped += [Dropped(draft.labels[each], why, task.application) for each in lacking]
    return left if task.is_each else (stems if left else [])


def _first_reasons(dropped: Sequence[Dropped]) -> str:
    return " ".join(f"{each.exposure}: {each.why}" for each in dropped[:3])


def _require_known(tasks: Sequence[Task], applications: Mapping[str, Application], source: str) -> None:
    problems = [
        Problem(
            source,
            f"unknown application {shown(task.application)}.",
            nearest(task.application, applications) or f"Known: {', '.join(sorted(applications))}.",
        )
        for task in tasks
        if task.application not in applications
    ]
    for number, task in enumerate(tasks):
        for wanted in _products_of(applications.get(task.application)):
            if wanted.kind == "exposure":
                continue
            if _maker_of(number, wanted, tasks, applications) is None and not wanted.optional:
                makers = sorted(name for name, each in applications.items() if wanted.product in each.outputs)
                what = f"the task {task.application} needs a {wanted.product}, which no earlier task makes."
                mend = (
                    f"Put one of these before it: {', '.join(makers)}." if makers else "No application here makes it."
                )
                problems.append(Problem(source, what, mend))
    if problems:
        raise BadInput(problems)


def _products_of(application: Application | None) -> list[Input]:
    """What it may read of earlier tasks, master frames apart."""
    inputs = application.inputs.values() if application else ()
    return [each for each in inputs if each.product and each.kind != "calibration"]


def _maker_of(number: int, wanted: Input, tasks: Sequence[Task], applications: Mapping[str, Application]) -> int | None:
    """The nearest task before `number` that makes what is wanted; the map of a stack is no map of its exposures."""
    for earlier in reversed(range(number)):
        application = applications.get(tasks[earlier].application)
        made = application.outputs.get(wanted.product) if application else None
        if made and (made.is_per_exposure or wanted.kind in ("product", "calibration")):
            return earlier
    return None


Group = tuple[str, list[str]]  # words, stems


def _groups_of_all_tasks(draft: _Draft) -> list[list[Group]]:
    """From the last task to the first, since a task also works for what later tasks need of it."""
    tasks = draft.ingredients.rules.tasks
    groups: list[list[Group]] = [[] for _ in tasks]
    wanted: list[set[str]] = [set() for _ in tasks]
    wishes: list[_Wish] = []
    for number in reversed(range(len(tasks))):
        task = tasks[number]
        chosen, left_out = _selected(draft, task)
        extra = _widened(draft, task, chosen)
        if task.is_each:
            stems = sorted({*chosen, *extra, *wanted[number]})
            groups[number] = [(draft.labels[stem], [stem]) for stem in stems]
        else:
            groups[number] = [
                group
                for group in _gathered(draft, task, chosen, extra)
                if _is_wished(draft, task, group, wishes) and _is_enough(draft, task, group)
            ]
        working = {stem for _, stems in groups[number] for stem in stems}
        why = f"select = {shown(task.select)} does not hold"
        draft.dropped += [
            Dropped(draft.labels[stem], why, task.application) for stem in left_out if stem not in working
        ]
        wishes += _lacking(draft, task, working)
        for input_ in _products_of(draft.applications[task.application]):
            maker = _maker_of(number, input_, tasks, draft.applications)
            if maker is not None:
                wanted[maker] |= working
    return groups


@dataclass(frozen=True)
class _Wish:
    """A calibration that an exposure takes, and that is not there yet: frames of the archive may be made into it."""

    product: str
    exposure: Exposure
    task: Task


def _lacking(draft: _Draft, task: Task, working: Iterable[str]) -> list[_Wish]:
    return [
        _Wish(wanted.product, draft.exposures[stem], task)
        for wanted in draft.applications[task.application].inputs.values()
        if wanted.kind == "calibration"
        for stem in sorted(working)
        if not draft.exposures[stem].is_processed
        and best(wanted.product, draft.exposures[stem], task.calibrate, draft.candidates) is None
    ]


def _is_wished(draft: _Draft, task: Task, group: Group, wishes: Sequence[_Wish]) -> bool:
    """Frames that nobody chose are only made into a master for whom there is none yet."""
    _, stems = group
    if not _works_on_calibrations(task) or any(stem in draft.chosen for stem in stems):
        return True
    made = draft.applications[task.application].outputs
    first = draft.exposures[stems[0]]
    return any(wish.product in made and fits(first, wish.exposure, wish.task.calibrate) for wish in wishes)


def _works_on_calibrations(task: Task) -> bool:
    return bool(task.kinds) and set(task.kinds) <= set(RAW_CALIBRATIONS)


def _is_of_kind(task: Task, exposure: Exposure) -> bool:
    return exposure.kind in task.kinds if task.kinds else not is_calibration(exposure)


def _selected(draft: _Draft, task: Task) -> tuple[list[str], list[str]]:
    """The chosen exposures of the task's kind that fulfil its condition, and those of its kind that do not."""
    of_kind = [stem for stem in draft.chosen if _is_of_kind(task, draft.exposures[stem])]
    if not task.select:
        return of_kind, []
    holds = condition(task.select)
    fits = {stem: holds(draft.exposures[stem]) for stem in of_kind}
    return [stem for stem in fits if fits[stem]], [stem for stem in fits if not fits[stem]]


def _widened(draft: _Draft, task: Task, chosen: Sequence[str]) -> list[str]:
    """Of the pool: what lies round the task's exposures; for calibrations, what is like any chosen exposure."""
    widen = task.widen
    if widen is None:
        return []
    same = _key_of(widen.same)
    pool = [
        (stem, each) for stem, each in list(draft.exposures.items())[len(draft.chosen) :] if _is_of_kind(task, each)
    ]
    if _works_on_calibrations(task):
        return [stem for stem, each in pool if _is_like(each, widen, map(draft.exposures.__getitem__, draft.chosen))]
    alike: dict[tuple[str, ...], list[Exposure]] = {}
    for stem in chosen:
        alike.setdefault(same(draft.exposures[stem]), []).append(draft.exposures[stem])
    skies = {key: _Sky(exposures, widen.within_deg) for key, exposures in alike.items()}
    return [stem for stem, each in pool if same(each) in skies and _may_widen(each, skies[same(each)], widen)]


def _may_widen(candidate: Exposure, sky: _Sky, widen: Widen) -> bool:
    if widen.grade and candidate.grade and GRADES.index(candidate.grade) > GRADES.index(widen.grade):
        return False
    return any(
        _apart_deg(candidate, other) <= widen.within_deg
        and (not widen.within_days or days_apart(candidate, other) <= widen.within_days)
        for other in sky.around(candidate)
    )


def _is_like(candidate: Exposure, widen: Widen, chosen: Iterable[Exposure]) -> bool:
    """A bias or dark has no filter of its own."""
    words = [word for word in widen.same if word != "filter" or candidate.kind == "flat"]
    key = _key_of(words)
    return any(
        key(candidate) == key(each) and (not widen.within_days or days_apart(candidate, each) <= widen.within_days)
        for each in chosen
    )


class _Sky:
    """Exposures in cells of their unit vectors, so that those near a place are found without trying all."""

    def __init__(self, exposures: Iterable[Exposure], radius_deg: float) -> None:
        self.side = max(2 * math.sin(math.radians(min(radius_deg, 180.0)) / 2), 1e-6) * 1.000001
        self.cells: dict[tuple[int, ...], list[Exposure]] = {}
        for exposure in exposures:
            if (cell := self._cell(exposure)) is not None:
                self.cells.setdefault(cell, []).append(exposure)

    def _cell(self, exposure: Exposure) -> tuple[int, ...] | None:
        if exposure.s_ra is None or exposure.s_dec is None:
            return None
        ra, dec = math.radians(exposure.s_ra), math.radians(exposure.s_dec)
        vector = (math.cos(dec) * math.cos(ra), math.cos(dec) * math.sin(ra), math.sin(dec))
        return tuple(math.floor(part / self.side) for part in vector)

    def around(self, exposure: Exposure) -> Iterator[Exposure]:
        """All within the radius, and some beyond it."""
        cell = self._cell(exposure)
        if cell is not None:
            for shift in itertools.product((0, -1, 1), repeat=3):
                yield from self.cells.get(tuple(map(sum, zip(cell, shift, strict=True))), ())


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
        if key(draft.exposures[stem]) in groups or _works_on_calibrations(task):
            groups.setdefault(key(draft.exposures[stem]), []).append(stem)
    return [("_".join(word for word in words if word), stems) for words, stems in sorted(groups.items())]


def _is_enough(draft: _Draft, task: Task, group: Group) -> bool:
    words, stems = group
    if len(stems) >= max(task.least, 1):
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
    label = words
    if not task.is_each:
        taken = {step.label for step in draft.steps if step.task == number}
        label = _free_label(clean(name if is_only or not words else f"{name}_{words}"), taken)
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
        gathers=not task.is_each,
        stops_run=task.on_bad_exposure == "stop",
    )
    draft.steps.append(step)
    made = [name for name in application.outputs if name in MASTERS]
    draft.candidates += [Candidate(name, draft.exposures[stems[0]], step.number) for name in made]
    draft.forecast += _forecast(draft, application, stems)
    for stem in stems:
        draft.makers[(number, stem)] = step.number


def _sources(draft: _Draft, number: int, task: Task, wanted: Input, stems: list[str]) -> list[PlannedFile]:
    ingredients = draft.ingredients
    if wanted.kind == "calibration":
        return _calibration(draft, task, wanted, draft.exposures[stems[0]])
    if wanted.kind == "exposure":
        if made := _made(draft, number, wanted, stems) if wanted.product else []:
            return made
        return [
            PlannedFile(stem, _readable(draft, stem, draft.exposures[stem], wanted, OF_EXPOSURES)) for stem in stems
        ]
    if wanted.product:
        made = _made(draft, number, wanted, stems)
        if made or wanted.kind == "product":
            return made
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
    return []


def _calibration(draft: _Draft, task: Task, wanted: Input, exposure: Exposure) -> list[PlannedFile]:
    if exposure.is_processed and wanted.product != "mask":
        return []
    found = best(wanted.product, exposure, task.calibrate, draft.candidates)
    if found is None:
        return []
    if found.step:
        return [PlannedFile("", Source(step=found.step, output=wanted.product))]
    return [PlannedFile("", _readable(draft, "", found.like, wanted, OF_MAPS))]


def _made(draft: _Draft, number: int, wanted: Input, stems: list[str]) -> list[PlannedFile]:
    """What the nearest earlier task makes for these exposures; nothing when none does."""
    tasks = draft.ingredients.rules.tasks
    maker = _maker_of(number, wanted, tasks, draft.applications)
    if maker is None:
        return []
    product = wanted.product
    if draft.applications[tasks[maker].application].outputs[product].is_per_exposure:
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
    if len(stems) < 2 or _works_on_calibrations(task):
        return
    exposures = [draft.exposures[stem] for stem in stems]
    sky = _Sky(exposures, 2 * max(exposure.radius_deg or 0 for exposure in exposures))
    for stem, one in zip(stems, exposures, strict=True):
        if not any(other is not one and _touch(one, other) for other in sky.around(one)):
            draft.notes.append(f"{draft.labels[stem]} overlaps no other exposure of its {task.application} step")


def _touch(one: Exposure, other: Exposure) -> bool:
    return _apart_deg(one, other) < (one.radius_deg or 0) + (other.radius_deg or 0)


def clean(words: str) -> str:
    """Words of the archive as a part of a file name: letters, digits and . _ + -, at most 100."""
    return re.sub(r"[^A-Za-z0-9._+-]+", "_", words).lstrip(".-_")[:100] or "unnamed"


def _free_label(plain: str, taken: set[str]) -> str:
    """Groups that differ in signs that no file name holds must not share the names of their products."""
    labels = itertools.chain([plain], (f"{plain}-{number}" for number in itertools.count(2)))
    return next(label for label in labels if label not in taken)


def _unique_labels(exposures: Mapping[str, Exposure]) -> dict[str, str]:
    labels: dict[str, str] = {}
    taken: set[str] = set()
    numbers: Counter[str] = Counter()
    for stem, exposure in exposures.items():
        plain = label = clean(exposure.stem)
        while label in taken:
            numbers[plain] += 1
            label = f"{plain}-{numbers[plain] + 1}"
        taken.add(label)
        labels[stem] = label
    return labels

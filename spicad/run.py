"""One run in memory: which steps may go on, what a step's end means for the others, how the run as a whole has ended.

Pure bookkeeping on values: files, processes and tables are the affair of capsule.py, workshop.py and ledger.py.
"""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from spicad.applications.descriptor import Application
from spicad.desk import Setup
from spicad.people import Person
from spicad.plan import Plan, PlannedFile, PlannedStep
from spicad.words import Ending, Phase, StepState


@dataclass(frozen=True)
class Made:
    """A file that a step made and that was verified. `path` is seen from the run's folder."""

    output: str
    stem: str
    path: str
    bytes: int
    mtime_ns: int
    digest: str
    keep: bool = True


@dataclass(frozen=True)
class Outcome:
    """How one attempt of a step ended; outcome.json in its folder."""

    state: StepState
    ending: Ending
    why: str = ""
    culprit: str = ""
    last_words: tuple[str, ...] = ()
    metrics: Mapping[str, Any] = field(default_factory=dict)
    made: tuple[Made, ...] = ()
    stems: tuple[str, ...] = ()
    key: str = ""
    attempt: int = 1
    started: float = 0.0
    ended: float = 0.0
    exit_code: int | None = None
    node: str = ""  # where it ran
    reused_from: str = ""
    ends_run: bool = False  # whatever the rules say of a step that fails
    judgements: Mapping[str, Any] = field(default_factory=dict)  # by stem: what goes into the archive


_Shelf = Mapping[tuple[str, str | None], Made]  # by output and stem; a single file of an output by None as well
STEM = re.compile(r"\bimg\d{4,}")
ENDED_STATES = frozenset({StepState.DONE, StepState.REUSED, StepState.FAILED, StepState.SKIPPED})
GOOD_STATES = frozenset({StepState.DONE, StepState.REUSED})


@dataclass
class Run:
    """A run that is being worked off."""

    process: int
    number: int
    name: str
    owner: Person
    plan: Plan
    setups: Mapping[int, Setup]
    applications: Mapping[str, Application]
    started: float
    submitted: float
    is_fresh: bool = False
    mail: str = ""
    locality: float = 1.0
    rules: str = ""  # their title
    state: dict[int, StepState] = field(default_factory=dict)
    outcome: dict[int, Outcome] = field(default_factory=dict)
    attempt: dict[int, int] = field(default_factory=dict)
    lost: dict[str, str] = field(default_factory=dict)  # stem -> why it was dropped
    wanted: set[int] = field(default_factory=set)  # lazy steps that a step really needs
    in_hand: set[int] = field(default_factory=set)  # being looked over, started, or verified
    avoided: dict[int, frozenset[str]] = field(default_factory=dict)  # nodes that were lost with an attempt of a step
    places: Mapping[str, frozenset[str]] = field(default_factory=dict)  # stem -> nodes that store it, where it is known
    failure: tuple[int, Outcome] | None = None
    held_why: str = ""
    cancelled_by: str = ""

    def __post_init__(self) -> None:
        self._made: dict[int, tuple[Outcome, _Shelf]] = {}
        self._read_later: dict[int, set[str]] = {}
        self._users: dict[int, set[str]] = {}
        for step in self.plan.steps:
            self.state.setdefault(step.number, StepState.WAITING)
            for files in step.files.values():
                for file in files:
                    self._read_later.setdefault(file.source.step, set()).add(file.source.output)
                    self._users.setdefault(file.source.step, set()).add(file.stem)

    def in_words(self, text: str) -> str:
        """A text of the tools with img0001 and the like replaced by the exposures' own names."""
        return STEM.sub(lambda found: self.plan.labels.get(found[0], found[0]), text)

    def step(self, number: int) -> PlannedStep:
        return self.plan.steps[number - 1]

    def setup(self, step: PlannedStep) -> Setup:
        return self.setups[step.task]

    def application(self, step: PlannedStep) -> Application:
        return self.applications[step.application]

    # ------------------------------------------------------------------ what may go on

    def open_steps(self) -> Iterator[PlannedStep]:
        """Waiting steps of which everything they need is over, lazy steps only when wanted."""
        if self.is_stopping:
            return
        for step in self.plan.steps:
            if self.state[step.number] is not StepState.WAITING or step.number in self.in_hand:
                continue
            if step.is_lazy and step.number not in self.wanted:
                continue
            if all(self._is_over_or_lazy(number) for number in step.needs):
                yield step

    @property
    def is_stopping(self) -> bool:
        return bool(self.cancelled_by or self.held_why) or self._must_stop

    @property
    def _must_stop(self) -> bool:
        if self.failure is None:
            return False
        number, outcome = self.failure
        return outcome.ends_run or self.step(number).stops_run

    def _is_over_or_lazy(self, number: int) -> bool:
        """A lazy step that nobody wanted yet does not keep its user from being looked over."""
        state = self.state[number]
        if state in ENDED_STATES:
            return True
        return self.step(number).is_lazy and number not in self.wanted

    def lazy_needs(self, step: PlannedStep) -> list[int]:
        """Lazy steps that must still run before `step` can."""
        return [n for n in step.needs if self.step(n).is_lazy and self.state[n] not in ENDED_STATES]

    def files(self, step: PlannedStep) -> dict[str, tuple[PlannedFile, ...]]:
        """The step's files without those of exposures that were dropped meanwhile."""
        kept = {name: tuple(file for file in files if file.stem not in self.lost) for name, files in step.files.items()}
        return {name: files for name, files in kept.items() if files}

    def was_not_made(self, file: PlannedFile) -> bool:
        """An optional output that the earlier step, which has ended well, had nothing to put into."""
        return bool(file.source.step) and file.source.step in self.outcome and self.made_by(file) is None

    def stems(self, step: PlannedStep) -> tuple[str, ...]:
        return tuple(stem for stem in step.stems if stem not in self.lost)

    def origins(self, step: PlannedStep) -> str:
        """A table of the exposures that the step works on, and of those of the process that were dropped, and why."""
        used = [(self.plan.labels[stem], "yes", "") for stem in self.stems(step)]
        dropped = {each.exposure: each.why for each in self.plan.dropped}
        dropped |= {self.plan.labels[stem]: why for stem, why in self.lost.items()}
        names = {name for name, _, _ in used}
        left = [(name, "no", why) for name, why in dropped.items() if name not in names]
        table = io.StringIO()
        csv.writer(table, lineterminator="\n").writerows([("exposure", "used", "why"), *used, *left])
        return table.getvalue()

    def outputs_read_later(self, step: PlannedStep) -> frozenset[str]:
        return frozenset(self._read_later.get(step.number, ()))

    def made_by(self, file: PlannedFile) -> Made | None:
        """What an earlier step made for `file`."""
        outcome = self.outcome.get(file.source.step)
        if outcome is None:
            return None
        if file.source.step not in self._made or self._made[file.source.step][0] is not outcome:
            self._made[file.source.step] = outcome, _shelved(outcome.made)
        shelf, output = self._made[file.source.step][1], file.source.output
        return shelf.get((output, None)) or shelf.get((output, file.stem))

    # ------------------------------------------------------------------ what an end means

    def end(self, step: PlannedStep, outcome: Outcome, attempts: int) -> StepState:
        """Notes the end of an attempt; returns the state the step is in now."""
        self.in_hand.discard(step.number)
        if outcome.ending is Ending.TRY_AGAIN:
            if outcome.attempt >= attempts:
                words = f"{step.folder} was interrupted {outcome.attempt} times; the last time: {outcome.why}"
                self.held_why = self.held_why or words
            self.state[step.number] = StepState.WAITING
            return StepState.WAITING
        culprit = outcome.culprit if outcome.state is StepState.FAILED else ""
        if culprit and self._can_do_without(step, culprit):
            self.lost[culprit] = f"{step.application}: {outcome.why}"
            self.state[step.number] = StepState.WAITING
            self._skip_hopeless()
            return StepState.WAITING
        self.state[step.number] = outcome.state
        self.outcome[step.number] = outcome
        if outcome.state is StepState.FAILED:
            self._fail(step, outcome)
        elif outcome.state in GOOD_STATES and outcome.stems:
            for stem in set(self.stems(step)).difference(outcome.stems):  # a culprit of an attempt before a restart
                self.lost[stem] = f"{step.application} did without it"
        return outcome.state

    def _can_do_without(self, step: PlannedStep, culprit: str) -> bool:
        left = self.stems(step)
        return step.gathers and not step.stops_run and culprit in left and len(left) > max(step.least, 1)

    def _fail(self, step: PlannedStep, outcome: Outcome) -> None:
        if step.stops_run or step.gathers or outcome.ends_run:
            self._note_failure(step, outcome)
        if not step.gathers:
            for stem in self._users_of(step):
                self.lost.setdefault(stem, f"{step.application}: {outcome.why}")
        self._skip_hopeless()

    def _note_failure(self, step: PlannedStep, outcome: Outcome) -> None:
        """The first one counts, but one that ends the run more than one that does not."""
        if self.failure is None or ((step.stops_run or outcome.ends_run) and not self._must_stop):
            self.failure = (step.number, outcome)

    def _users_of(self, step: PlannedStep) -> set[str]:
        """The exposures that cannot do without what `step` should have made."""
        own = {stem for stem in step.stems if stem in self.plan.exposures}
        return own | self._users.get(step.number, set()) - {""}

    def _skip_hopeless(self) -> None:
        """Steps left with too few exposures, or whose input will never be made."""
        for step in self.plan.steps:
            if self.state[step.number] is not StepState.WAITING or step.number in self.in_hand:
                continue
            if why := self._why_hopeless(step):
                self.state[step.number] = StepState.SKIPPED
                self.outcome[step.number] = Outcome(StepState.SKIPPED, Ending.NEVER_AGAIN, why)
                if step.gathers:
                    self._note_failure(step, self.outcome[step.number])

    def _why_hopeless(self, step: PlannedStep) -> str:
        left = self.stems(step)
        if len(left) < step.least:
            first = next((self.lost[stem] for stem in step.stems if stem in self.lost), "")
            few = f"{len(left)} of {len(step.stems)} exposures are left"
            return f"{few}; {self.plan.labels.get(step.stems[0], '')}: {first}" if first else few
        for files in self.files(step).values():
            for file in files:
                state = self.state.get(file.source.step)
                if state in (StepState.FAILED, StepState.SKIPPED):
                    return f"{self.step(file.source.step).application} gave it no {file.source.output}"
        return ""

    # ------------------------------------------------------------------ the end of the run

    @property
    def is_over(self) -> bool:
        """Nothing runs and nothing can go on."""
        if self.in_hand:
            return False
        return self.is_stopping or next(self.open_steps(), None) is None

    def phase(self) -> Phase:
        """How the run has ended, once it is over."""
        if self.cancelled_by:
            return Phase.ABORTED
        if self.failure is None and self.held_why:
            return Phase.HELD
        done = {step.task for step in self.plan.steps if self.state[step.number] in GOOD_STATES}
        wanted = {step.task for step in self.plan.steps if step.task >= 0}
        return Phase.COMPLETED if self.failure is None and wanted <= done else Phase.ERROR

    def first_failure(self) -> tuple[PlannedStep, Outcome] | None:
        """What to tell of an error: what stopped the run, else the first step that failed."""
        if self.failure:
            return self.step(self.failure[0]), self.failure[1]
        for step in self.plan.steps:
            if self.state[step.number] is StepState.FAILED:
                return step, self.outcome[step.number]
        return None

    def count(self, states: Sequence[StepState] | frozenset[StepState]) -> int:
        return sum(1 for step in self.plan.steps if self.state[step.number] in states)

    @property
    def total(self) -> int:
        return sum(1 for step in self.plan.steps if not step.is_lazy or step.number in self.wanted)


def _shelved(made: Sequence[Made]) -> _Shelf:
    """What one step made, to be asked for by thousands of exposures."""
    shelf: dict[tuple[str, str | None], Made] = {}
    count = Counter(each.output for each in made)
    for each in made:
        shelf.setdefault((each.output, each.stem), each)
        if count[each.output] == 1:
            shelf[each.output, None] = each
    return shelf

"""The workshop: runs that are being worked off, from the first step to the report.

One pass of `dispatch` starts what may start; ends come in through `look_at_steps` and the background's answers. The
queue's order is waiting.py's, a run's bookkeeping run.py's, what is done for one step steps.py's.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

from spicad import closing
from spicad.archive.judgements import File, Source
from spicad.archive.locality import shares_of
from spicad.archive.picks import picks_from
from spicad.capsule import Capsule, folder_of
from spicad.closing import End
from spicad.desk import Vetted
from spicad.jobfile import Job, parse
from spicad.ledger import AWAY, Ledger
from spicad.logs import about
from spicad.node import hours_limit, limits_of, node_limit, weights_of
from spicad.people import Thing, make_results_folder, may, person_named
from spicad.plan import PlannedStep
from spicad.run import GOOD_STATES, Outcome, Run
from spicad.spool import Accepted
from spicad.steps import read_in, step_record
from spicad.waiting import (
    InUse,
    Limits,
    Node,
    Queue,
    Ready,
    Waiting,
    Wish,
    binding_limit,
    choice,
    kept_free,
    merged,
    order,
)
from spicad.words import Phase, SpicaError, StepState
from spicad.workbench import Floor, Running, Workbench

log = logging.getLogger("spicad")

FEW_STEPS = 8  # of a run whose end is written together with others
MOST_VETTED = 2000  # plans remembered between acceptance and start,
MOST_VETTED_PARTS = 20_000  # with so many steps and exposures in all
TRY_AGAIN_S = 5.0
AHEAD = 2  # steps looked over for each slot, so that checking overlaps computing


@dataclass(frozen=True)
class Known:
    """What acceptance leaves in memory for the start: the plan, and the daemon's own part of the copy."""

    vetted: Vetted
    accepted: Accepted

    @property
    def parts(self) -> int:
        return len(self.vetted.plan.steps) + len(self.vetted.plan.exposures)


@dataclass(frozen=True)
class Room:
    """What there is for steps, in one pass."""

    nodes: Sequence[Node]
    limits: Limits
    in_use: InUse
    about_to: Mapping[int, int]  # steps that are being readied, by rank
    ranks: Collection[int]  # of which somebody may wait
    held_up: Callable[[int], str]  # '' or why nothing of a rank may start

    def why_not(self, wish: Wish) -> str:
        """'' when a step may start, as far as limits go."""
        higher = sum(count for rank, count in self.about_to.items() if rank > wish.rank)
        kept = kept_free(wish.rank, self.ranks, self.in_use, self.limits)
        return self.held_up(wish.rank) or binding_limit(wish, self.in_use, self.limits, higher, kept)


class Workshop:
    def __init__(self, floor: Floor) -> None:
        self.floor = floor
        self.bench = Workbench(floor, self._ended, self._go_or_finish)
        self.runs, self.capsules = self.bench.runs, self.bench.capsules
        self.queue = Queue(weights_of(floor.settings))
        self.starting: dict[int, Waiting] = {}  # queued processes whose plan is being made
        self.known: dict[int, Known] = {}
        self.known_parts = 0
        self.ending: set[int] = set()  # runs whose end is being written, or is to be
        self.ends: list[End] = []  # small ones that wait to be written together
        self.is_closing = False  # some are being written
        self.cleared: set[str] = set()  # owners of whom products were deleted
        self.is_draining = False
        floor.background.failed = self.set_aside

    @property
    def results(self) -> Path:
        return Path(self.floor.settings.paths.results)

    # ------------------------------------------------------------------ choosing

    def remember(self, process: int, known: Known) -> None:
        if self._knows_enough(known):
            self.known = {each: plan for each, plan in self.known.items() if each in self.queue}
            self.known_parts = sum(each.parts for each in self.known.values())
        if not self._knows_enough(known):  # the first to come are the first to start
            self.known[process] = known
            self.known_parts += known.parts

    def _knows_enough(self, known: Known) -> bool:
        return len(self.known) >= MOST_VETTED or self.known_parts + known.parts > MOST_VETTED_PARTS

    def dispatch(self, now: float) -> None:
        """Readies what may start, in the order of the scores; then starts the best pairs of a step and a node."""
        if self.is_draining:
            return
        nodes = self.floor.backend.nodes()
        limits = limits_of(self.floor.settings, nodes)
        budget = AHEAD * limits.slots
        held_up = node_limit(self.floor.settings, self.floor.backend.held_up())
        in_use, active = self._in_use(), self._active()
        about_to: Counter[int] = Counter()  # steps that are being readied, by rank

        def why_not(rank: int) -> str:
            return held_up or hours_limit(self.floor.settings, rank, now)

        def may_start(waiting: Waiting) -> bool:
            return budget > 0 and not why_not(waiting.rank) and not self._limit_of_owner(waiting, in_use, limits)

        ranks = self.queue.ranks() | {each.rank for each in active}
        for candidate in merged(order(active, now, self.queue), self.queue.in_order(now, may_start), now, self.queue):
            if budget <= 0:
                break
            process = candidate.process
            try:
                if process not in self.runs and process not in self.starting and may_start(candidate):
                    self._activate(candidate, now)
                if run := self.runs.get(process):  # there at once when its plan was remembered
                    is_held = why_not(run.owner.rank) or self._limit_of_owner(candidate, in_use, limits)
                    readied = self._ready_steps(run, 0 if is_held else budget)
                    budget -= self._could_start(run, in_use, limits)
                else:
                    readied = int(process in self.starting)
                budget -= readied
                about_to[candidate.rank] += readied
            except Exception as error:
                self.set_aside(process, error)
        self._start_pairs(Room(nodes, limits, in_use, about_to, ranks, why_not), now)

    def _start_pairs(self, room: Room, now: float) -> None:
        def may_start(ready: Ready) -> bool:
            return (ready.process.process, ready.step) in self.bench.ready and not room.why_not(ready.wish)

        for points, ready, node in choice(self._all_ready(room.limits), room.nodes, now, self.queue, may_start):
            room.in_use.add(ready.wish)
            process = ready.process.process
            try:
                run = self.runs[process]
                self.bench.start(run, run.step(ready.step), ready.wish.slots, node, points)
            except Exception as error:
                self.set_aside(process, error)

    def _all_ready(self, limits: Limits) -> list[Ready]:
        found = []
        for process, number in list(self.bench.ready):
            try:
                found.append(self._as_ready(process, number, limits))
            except Exception as error:
                self.set_aside(process, error)
        return found

    def _as_ready(self, process: int, number: int, limits: Limits) -> Ready:
        run = self.runs[process]
        step = run.step(number)
        files = {stem: run.plan.exposures[stem].size for stem in step.stems if stem in run.plan.exposures}
        shares = shares_of(files, run.places)
        return Ready(
            process=_as_waiting(run),
            step=number,
            wish=self._wish(run, step, limits.slots_of(step.threads)),
            shares=shares.by_node,
            elsewhere=shares.anywhere,
            avoided=run.avoided.get(number, frozenset()),
            memory_mb=self.bench.step_limits(step).memory_mb,
        )

    def _active(self) -> list[Waiting]:
        going_on = (run for process, run in self.runs.items() if process not in self.ending)
        return [*map(_as_waiting, going_on), *self.starting.values()]

    def _in_use(self) -> InUse:
        found = InUse()
        for running in self.bench.running.values():
            found.add(self._wish(running.run, running.step, running.slots))
        return found

    def _wish(self, run: Run, step: PlannedStep, slots: int) -> Wish:
        return Wish(run.owner.user, run.owner.group, int(run.owner.rank), slots, step.application)

    def _limit_of_owner(self, waiting: Waiting, in_use: InUse, limits: Limits) -> str:
        """What holds a process back however many slots are free."""
        wish = Wish(waiting.user, waiting.group, waiting.rank)
        return binding_limit(wish, in_use, limits.of_owners)

    def _ready_steps(self, run: Run, budget: int) -> int:
        """Has steps of one run looked over, as far as the budget goes; how many are being looked over."""
        budget -= sum(1 for key in (*self.bench.looking, *self.bench.ready) if key[0] == run.process)
        for step in list(islice(run.open_steps(), max(budget, 0))):
            self.bench.look_over(run, step)
        return sum(1 for key in self.bench.looking if key[0] == run.process)

    def _could_start(self, run: Run, in_use: InUse, limits: Limits) -> int:
        """Steps of it that only wait for slots; those that a share of slots holds keep nobody from being readied."""
        steps = [run.step(number) for process, number in self.bench.ready if process == run.process]
        wishes = [self._wish(run, step, limits.slots_of(step.threads)) for step in steps]
        return sum(1 for wish in wishes if not binding_limit(wish, in_use, limits.of_owners))

    # ------------------------------------------------------------------ from queued to executing

    def _activate(self, waiting: Waiting, now: float) -> None:
        process = waiting.process
        self.queue.remove(process)
        self.starting[process] = waiting
        known = self.known.pop(process, None)
        if known is not None:
            self.known_parts -= known.parts
            if not self._begin(process, known.accepted, known.vetted, now):
                self.queue.add(waiting, now)  # moved away by hand: the next look notes it
            return
        self.floor.background.do(
            self._reopened, process, then=lambda found: self._reopen(process, found), process=process
        )

    def _copy(self, process: int) -> tuple[str, Accepted]:
        return self.floor.spool.read_copy(process, Phase.QUEUED)

    def _reopened(self, process: int) -> tuple[str, Accepted, Vetted | Run]:
        """In a thread: the run as its capsule has it, else the plan made anew."""
        text, accepted = self._copy(process)
        owner = person_named(accepted.owner, accepted.group, accepted.rank)
        job = carried(parse(text, accepted.drop), accepted)
        capsule = Capsule(folder_of(self.results, owner.user, process, job.name, accepted.run))
        if capsule.is_sealed:
            return text, accepted, capsule.load()
        if accepted.fresh and (recipe := closing.last_recipe(self.results, process, job, accepted, self.floor.desk)):
            return text, accepted, recipe
        return text, accepted, self.floor.desk.vet(job, owner, self.floor.is_sandboxed)

    def _reopen(self, process: int, found: Any) -> None:
        now = self.floor.clock()
        if isinstance(found, BaseException):
            self._refuse_to_start(process, found, now)
            return
        _, accepted, resolved = found
        if isinstance(resolved, Run):
            self._resume(process, resolved, now)
        else:
            self._begin(process, accepted, resolved, now)

    def _refuse_to_start(self, process: int, error: BaseException, now: float) -> None:
        """What was fine when it was accepted is not any more: an exposure gone, rules changed, a tool missing."""
        if not isinstance(error, SpicaError):
            log.error("process %d: cannot be started", process, exc_info=error)
        spool = self.floor.spool
        waiting = self.starting.pop(process, None)
        try:
            text, accepted = self._copy(process)
        except FileNotFoundError:
            return
        except SpicaError as damage:
            spool.set_aside(process, Phase.QUEUED, str(damage))
            self.floor.ledger.phase(process, Phase.QUEUED, Phase.ERROR, "spicad", str(damage), now, ended=now)
            return
        if waiting is None:
            return
        why = (
            str(error) if isinstance(error, SpicaError) else f"an error of Spica itself: {error}. See the daemon's log."
        )
        log.warning("process %d: not started: %s", process, why.splitlines()[0])
        # The mail comes first: after the rename nobody would know any more that it was owed. Its key keeps it single.
        closing.mail_unstarted(self.floor.settings, spool, process, text, accepted, Phase.ERROR, why, now)
        if not spool.move(process, Phase.QUEUED, Phase.ERROR):
            return
        spool.sync(Phase.QUEUED, Phase.ERROR)
        self.floor.ledger.phase(process, Phase.QUEUED, Phase.ERROR, "spicad", why, now, ended=now)

    def _begin(self, process: int, accepted: Accepted, vetted: Vetted, now: float) -> bool:
        """False when its copy is not in queued/ any more."""
        is_wanted = self.starting.pop(process, None) is not None
        if not is_wanted or not self.floor.spool.move(process, Phase.QUEUED, Phase.EXECUTING):
            return not is_wanted
        owner = person_named(accepted.owner, accepted.group, accepted.rank)
        run = Run(
            process=process,
            number=accepted.run,
            name=vetted.job.name,
            owner=owner,
            plan=vetted.plan,
            setups=vetted.setups,
            applications=self.floor.desk.applications,
            started=now,
            submitted=accepted.submitted,
            is_fresh=accepted.fresh,
            mail=closing.address_of(vetted.job.mail, owner, self.floor.settings),
            locality=accepted.locality,
            rules=vetted.rules.title,
        )
        capsule = Capsule(folder_of(self.results, owner.user, process, run.name, run.number))
        try:
            make_results_folder(owner.user, self.floor.settings)
            capsule.write(vetted, run, self.floor.desk.applications, self.floor.node)
        except OSError as error:
            log.error("process %d: its results folder cannot be made: %s. Tried again later.", process, error)
            self.floor.spool.move(process, Phase.EXECUTING, Phase.QUEUED)
            later = now + TRY_AGAIN_S
            self.queue.add(accepted.as_waiting(process, later), now)
            return True
        self._take_up(run, capsule, f"run {run.number} on {self.floor.node}", now)
        self.floor.ledger.steps([step_row(run, step) for step in run.plan.steps])
        return True

    def _resume(self, process: int, run: Run, now: float) -> None:
        """A process that was held, or interrupted with the daemon, goes on where it was."""
        if self.starting.pop(process, None) is None or not self.floor.spool.move(
            process, Phase.QUEUED, Phase.EXECUTING
        ):
            return
        capsule = Capsule(folder_of(self.results, run.owner.user, process, run.name, run.number))
        capsule.withdraw_order()
        for number in run.attempt:
            run.attempt[number] = 0  # a person released it: it gets its attempts anew
        self._take_up(run, capsule, f"run {run.number} goes on on {self.floor.node}", now)

    def _take_up(self, run: Run, capsule: Capsule, why: str, now: float) -> None:
        self.runs[run.process], self.capsules[run.process] = run, capsule
        self._find_places(run)
        log.info("%s %s: %s", about(run), run.name, why)
        self.floor.ledger.phase(
            run.process,
            Phase.QUEUED,
            Phase.EXECUTING,
            "spicad",
            why,
            now,
            started=now,
            run=run.number,
            capsule=str(capsule.folder),
        )
        if run.is_over:
            self._finish(run)

    def adopt(self, run: Run, capsule: Capsule, now: float) -> None:
        """A run found in executing/: steps that still run are followed, ended ones judged, lost ones begun anew."""
        self.runs[run.process], self.capsules[run.process] = run, capsule
        self._find_places(run)
        for step in run.plan.steps:
            folder = capsule.step(step)
            if run.state[step.number] is StepState.WAITING and not (folder / "interrupted.json").exists():
                self._adopt_step(run, step, folder, capsule.attempts(step), now)
        if run.is_over:
            self._finish(run)

    def _adopt_step(self, run: Run, step: PlannedStep, folder: Path, attempt: int, now: float) -> None:
        backend = self.floor.backend
        slots = limits_of(self.floor.settings, backend.nodes()).slots_of(step.threads)
        time_s = self.bench.step_limits(step).time_s
        try:
            noted = step_record(folder)
            key, read = str(noted.get("key", "")), read_in(noted)
        except (OSError, ValueError, TypeError, AttributeError) as error:  # cut short, or another Spica's
            log.warning("%s: it is begun anew: what it began with cannot be read: %s", about(run, step), error)
            backend.forget(folder)
            return
        running = Running(run, step, folder, slots, key, read, attempt)
        if news := backend.adopt(folder, slots, time_s):
            self.bench.follow(running, news, "adopted")
        elif end := backend.left_undone(folder):
            run.in_hand.add(step.number)
            self.bench.judge(running, end, now)

    def _find_places(self, run: Run) -> None:
        stems = {str(exposure.path): stem for stem, exposure in run.plan.exposures.items()}
        with suppress(*AWAY):
            places = self.floor.places_of(stems.keys())
            run.places = {stems[path]: nodes for path, nodes in places.items()}

    # ------------------------------------------------------------------ the end of a step

    def _ended(self, run: Run, step: PlannedStep, outcome: Outcome, now: float) -> None:
        capsule = self.capsules[run.process]
        last_words = tuple(run.in_words(line) for line in outcome.last_words)
        outcome = replace(outcome, why=run.in_words(outcome.why), last_words=last_words)
        state = run.end(step, outcome, self.floor.settings.daemon.attempts)
        if state is StepState.WAITING:
            log.warning("%s: %s; goes on", about(run, step), outcome.why)
            with suppress(OSError):
                capsule.put_aside(step, outcome)
        else:
            capsule.close_step(step, outcome)
            words = outcome.why or ", ".join(f"{name} {value}" for name, value in list(outcome.metrics.items())[:3])
            log.info("%s %s: %s %s", about(run, step), step.label, state.value, words)
        if outcome.started and state is not StepState.REUSED:
            seconds = (outcome.ended - outcome.started) * max(step.threads, 1)
            self.queue.use.add(run.owner.user, run.owner.group, max(seconds, 0.0), now)
        values: dict[str, Any] = {"ended": now, "why": outcome.why, "metrics": dict(outcome.metrics)}
        if state is StepState.DONE:
            record = closing.reusable(outcome, capsule.folder)
            values |= {"content_key": outcome.key, "outputs": record}
        self.floor.ledger.step(run.process, run.number, step.number, state, **values)
        note_judgements(self.floor.ledger, run, step, outcome, capsule)
        if not run.is_over:  # its end tells the same
            self.floor.ledger.process_values(run.process, **_progress(run))
        self._go_or_finish(run)

    def _go_or_finish(self, run: Run) -> None:
        if run.is_stopping:
            self._stop(run)
        if run.is_over:
            self._finish(run)

    def _stop(self, run: Run) -> None:
        """A run that must not go on: what waits is put back, what runs for nothing is ended."""
        for key in [key for key in self.bench.ready if key[0] == run.process]:
            del self.bench.ready[key]
            run.in_hand.discard(key[1])
        if run.cancelled_by or run.failure is not None:
            for key, running in self.bench.running.items():
                if key[0] == run.process:
                    self.bench.kill(running)

    # ------------------------------------------------------------------ the end of a run

    def _finish(self, run: Run) -> None:
        """In a thread: a report, syncs and files to remove must not keep the others waiting."""
        if self.runs.get(run.process) is not run or run.process in self.ending:
            return
        self.ending.add(run.process)
        end = End(run, self.capsules[run.process], run.phase(), self.floor.node, self.floor.clock())
        if len(run.plan.steps) <= FEW_STEPS:
            self.ends.append(end)
        else:
            self._write_ends([end])

    def end_runs(self) -> None:
        """Small ends that have come meanwhile are written together, so that they share what syncs cost."""
        if self.ends and not self.is_closing:
            self.is_closing, ends, self.ends = True, self.ends, []
            self._write_ends(ends, is_small=True)

    def _write_ends(self, ends: list[End], is_small: bool = False) -> None:
        settings, spool = self.floor.settings, self.floor.spool

        def then(answers: Any) -> None:
            if is_small:
                self.is_closing = False
            self._finished_all(ends, [answers] * len(ends) if isinstance(answers, BaseException) else answers)

        self.floor.background.do(closing.close_all, settings, spool, ends, then=then)

    def _finished_all(self, ends: list[End], answers: list[Any]) -> None:
        is_over = {id(end): not isinstance(why, BaseException) for end, why in zip(ends, answers, strict=True)}
        for end in (each for each in ends if is_over[id(each)]):
            if not self.floor.spool.move(end.run.process, Phase.EXECUTING, end.phase):
                log.error("%s: its job file is not in executing/", about(end.run))
        self.floor.spool.sync(*{end.phase for end in ends if is_over[id(end)]})
        for end, why in zip(ends, answers, strict=True):
            try:
                self._finished(end, why)
            except Exception as error:
                self.set_aside(end.run.process, error)

    def _finished(self, end: End, why: Any) -> None:
        run, phase, now = end.run, end.phase, end.at
        self.ending.discard(run.process)
        if isinstance(why, OSError):
            log.error("%s: its end cannot be written: %s. Tried again at the next look.", about(run), why)
            return
        if isinstance(why, BaseException):
            raise why
        del self.runs[run.process], self.capsules[run.process]
        log.info("%s %s: %s %s", about(run), run.name, phase.value, why)
        self.floor.ledger.phase(
            run.process, Phase.EXECUTING, phase, run.cancelled_by or "spicad", why, now,
            ended=None if phase is Phase.HELD else now, expires=closing.expiry(self.floor.settings, run, phase, now),
            **_progress(run),
        )  # fmt: skip

    def finish_late(self) -> None:
        """Runs whose end could not be written when it came (a full disk)."""
        for run in list(self.runs.values()):
            if run.is_over:
                self._go_or_finish(run)

    def set_aside(self, process: int, error: Exception) -> None:
        """An error of Spica itself around one process: it is held, told to a person, and all others go on."""
        log.error("process %d: an error of Spica itself", process, exc_info=error)
        why = f"an error of Spica itself: {type(error).__name__}: {error}. See the daemon's log."
        now = self.floor.clock()
        run = self.runs.pop(process, None)
        self.ending.discard(process)
        self.capsules.pop(process, None)
        self.starting.pop(process, None)
        self.queue.remove(process)
        self.bench.clear(process)
        settings, spool = self.floor.settings, self.floor.spool
        before = spool.phase_of(process)
        if before not in (Phase.EXECUTING, Phase.QUEUED):
            return
        try:
            with suppress(SpicaError):  # a copy that cannot be read has no address
                text, accepted = spool.read_copy(process, before)
                closing.mail_unstarted(settings, spool, process, text, accepted, Phase.HELD, why, now)
            if spool.move(process, before, Phase.HELD):
                self.floor.ledger.phase(process, before, Phase.HELD, "spicad", why, now)
                log.warning("%s: HELD", about(run) if run else f"process {process}")
        except OSError as trouble:
            log.error("process %d: cannot be put aside whole: %s. The next start mends it.", process, trouble)

    # ------------------------------------------------------------------ orders

    def hold(self, process: int, who: str) -> None:
        run = self.runs[process]
        run.held_why = f"held by {who}"
        self._go_or_finish(run)

    def cancel(self, process: int, who: str) -> None:
        run = self.runs[process]
        run.cancelled_by = who
        self._go_or_finish(run)


def _progress(run: Run) -> dict[str, int]:
    return {"steps_done": run.count(GOOD_STATES), "steps_total": run.total}


def _as_waiting(run: Run) -> Waiting:
    owner = run.owner
    return Waiting(run.submitted, run.process, int(owner.rank), owner.user, owner.group, locality=run.locality)


def carried(job: Any, accepted: Accepted) -> Job:
    """The job with the files that were dropped beside it, and with what it was given of the archive."""
    assert isinstance(job, Job)
    picks = picks_from(accepted.picks) if accepted.picks else None
    return replace(job, texts={**job.texts, **accepted.texts}, picks=picks)


def note_judgements(ledger: Ledger, run: Run, step: PlannedStep, outcome: Outcome, capsule: Capsule) -> None:
    """What the step found of exposures goes into the archive, when its owner may speak for everybody."""
    if not outcome.judgements or not may(run.owner, "register", Thing("archive")):
        return
    for stem, record in outcome.judgements.items():
        exposure = run.plan.exposures[stem]
        ledger.judgement(
            File(str(exposure.path), exposure.size, exposure.mtime_ns),
            record,
            Source(
                application=step.application,
                process=run.process,
                run=run.number,
                step=step.number,
                ended=outcome.ended,
                capsule=str(capsule.folder),
                products=tuple(made.path for made in outcome.made if made.stem == stem and made.keep),
            ),
        )


def step_row(run: Run, step: PlannedStep) -> dict[str, Any]:
    return {
        "process": run.process,
        "run": run.number,
        "number": step.number,
        "application": step.application,
        "label": step.label[:200],
        "slots": max(step.threads, 1),
        "input_bytes": run.plan.input_bytes(step),
        "state": StepState.WAITING.value,
        "owner": run.owner.user,
    }

"""The workshop: runs that are being worked off, from the first step to the report.

One pass of `dispatch` starts what may start; ends come in through `look_at_steps` and the background's answers. The
queue's order is waiting.py's, a run's bookkeeping run.py's, what is done for one step steps.py's.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import select
import shutil
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from spicad import closing, steps
from spicad.backends import local
from spicad.background import Background
from spicad.capsule import Capsule, folder_of, outcome_from
from spicad.config import Settings
from spicad.desk import Desk, Vetted
from spicad.jobfile import Job, parse
from spicad.ledger import AWAY, Ledger
from spicad.people import Person, person_named
from spicad.plan import PlannedStep
from spicad.run import Outcome, Run
from spicad.sandbox import python_places
from spicad.spool import Accepted, Spool
from spicad.tables import Digest, Step
from spicad.waiting import Limits, Queue, Waiting, binding_limit, order
from spicad.words import Ending, Phase, SpicaError, StepState

log = logging.getLogger("spicad")

MOST_VETTED = 200  # plans remembered between acceptance and start
AHEAD = 2  # steps looked over for each slot, so that checking overlaps computing

Key = tuple[int, int]  # process, step


@dataclass
class Running:
    """A step that runs. `handle` is a pidfd: readable when the process ends, whoever its parent is."""

    run: Run
    step: PlannedStep
    folder: Path
    launched: local.Launched
    handle: int
    slots: int
    key: str
    attempt: int
    deadline: float
    timed_out: bool = False
    killed: bool = False


class Workshop:
    def __init__(
        self,
        settings: Settings,
        desk: Desk,
        spool: Spool,
        ledger: Ledger,
        background: Background,
        is_sandboxed: bool,
        clock: Callable[[], float],
        watch: Callable[[int], None] = lambda handle: None,
        unwatch: Callable[[int], None] = lambda handle: None,
    ) -> None:
        self.settings = settings
        self.desk = desk
        self.spool = spool
        self.ledger = ledger
        self.background = background
        self.is_sandboxed = is_sandboxed
        self.clock = clock
        self.watch, self.unwatch = watch, unwatch
        self.queue = Queue()
        self.runs: dict[int, Run] = {}
        self.capsules: dict[int, Capsule] = {}
        self.running: dict[Key, Running] = {}
        self.ready: dict[Key, tuple[steps.Question, steps.Looked]] = {}
        self.looking: set[Key] = set()
        self.starting: dict[int, Waiting] = {}  # queued processes whose plan is being made
        self.vetted: OrderedDict[int, Vetted] = OrderedDict()
        self.is_draining = False
        self._digests: OrderedDict[str, tuple[str, str]] = OrderedDict()

    @property
    def node(self) -> str:
        return str(self.settings.daemon.node)

    @property
    def results(self) -> Path:
        return Path(self.settings.paths.results)

    # ------------------------------------------------------------------ choosing

    def remember(self, process: int, vetted: Vetted) -> None:
        self.vetted[process] = vetted
        while len(self.vetted) > MOST_VETTED:
            self.vetted.popitem(last=False)

    def dispatch(self, now: float) -> None:
        """Starts what may start, in the order of the scores."""
        if self.is_draining:
            return
        budget = AHEAD * self.settings.daemon.slots
        held_up = self.why_nothing_starts()
        by_user, by_group = self._slots_in_use()
        reserved = 0  # slots kept free for steps of a higher rank that are being looked over
        last_rank: int | None = None
        pending = 0
        for candidate in order(self._candidates(now), now):
            if last_rank is not None and candidate.rank < last_rank:
                reserved, pending = reserved + pending, 0
            last_rank = candidate.rank
            run = self.runs.get(candidate.process)
            if (
                run is None
                and budget > 0
                and not held_up
                and not self._limit(candidate.user, candidate.group, 1, by_user, by_group)
            ):
                self._activate(candidate, now)
                budget -= 1
                pending += 1
                run = self.runs.get(candidate.process)  # there at once when its plan was remembered
            if run is not None:
                budget, waiting = self._go_on(run, budget, reserved, held_up, by_user, by_group)
                pending += waiting
            if budget <= 0 and not self.ready:
                break

    def _candidates(self, now: float) -> list[Waiting]:
        active = [
            Waiting(run.submitted, run.process, int(run.owner.rank), run.owner.user, run.owner.group)
            for run in self.runs.values()
        ]
        return [*active, *self.queue.heads(now), *self.starting.values()]

    def _slots_in_use(self) -> tuple[Counter[str], Counter[str]]:
        by_user: Counter[str] = Counter()
        by_group: Counter[str] = Counter()
        for running in self.running.values():
            by_user[running.run.owner.user] += running.slots
            by_group[running.run.owner.group] += running.slots
        return by_user, by_group

    @property
    def slots_used(self) -> int:
        return sum(running.slots for running in self.running.values())

    def limits(self) -> Limits:
        wanted = self.settings.limits
        return Limits(self.settings.daemon.slots, wanted.slots_per_user, wanted.slots_per_group)

    def why_nothing_starts(self) -> str:
        """'' or the limit of the whole node that holds every step."""
        load = self.settings.daemon.load
        if load and os.getloadavg()[0] > load:
            return f"the load average is above {load:g}"
        free = shutil.disk_usage(_existing(self.results)).free >> 20
        if free < self.settings.limits.free_disk_mb:
            return f"{free} MiB are free for results, {self.settings.limits.free_disk_mb} MiB must stay free"
        return ""

    def _limit(self, user: str, group: str, slots: int, by_user: Counter[str], by_group: Counter[str]) -> str:
        limits = replace(self.limits(), slots=1 << 30)
        return binding_limit(user, group, slots, 0, by_user, by_group, limits)

    def _go_on(
        self, run: Run, budget: int, reserved: int, held_up: str, by_user: Counter[str], by_group: Counter[str]
    ) -> tuple[int, int]:
        """Starts and looks over steps of one run; what is left of the budget, and how many are being looked over."""
        budget -= self._start_ready(run, reserved, held_up, by_user, by_group)
        looking = sum(1 for key in self.looking if key[0] == run.process)
        budget -= looking
        if budget > 0 and not held_up:
            for step in list(run.open_steps()):
                if budget <= 0:
                    break
                self._look_over(run, step)
                budget -= 1
                looking += 1
            self._start_ready(run, reserved, held_up, by_user, by_group)  # those with nothing to read
        return budget, looking

    def _start_ready(self, run: Run, reserved: int, held_up: str, by_user: Counter[str], by_group: Counter[str]) -> int:
        """Starts the steps that were looked over, as far as the limits go; how many are left."""
        owner, left = run.owner, 0
        for key in sorted(key for key in self.ready if key[0] == run.process):
            step = run.step(key[1])
            slots = min(max(step.threads, 1), self.settings.daemon.slots)
            in_use = self.slots_used + reserved
            limits = self.limits()
            if not held_up and not binding_limit(owner.user, owner.group, slots, in_use, by_user, by_group, limits):
                self._start(run, step, slots)
                by_user[owner.user] += slots
                by_group[owner.group] += slots
            else:
                left += 1
        return left

    # ------------------------------------------------------------------ from queued to executing

    def _activate(self, waiting: Waiting, now: float) -> None:
        process = waiting.process
        self.queue.remove(process)
        self.starting[process] = waiting
        vetted = self.vetted.pop(process, None)
        if vetted is not None:
            self._begin(process, *self._copy(process), vetted, now)
            return
        self.background.do(self._reopened, process, then=lambda found: self._reopen(process, found))

    def _copy(self, process: int) -> tuple[str, Accepted]:
        return self.spool.read_copy(process, Phase.QUEUED)

    def _reopened(self, process: int) -> tuple[str, Accepted, Vetted | Run]:
        """In a thread: the run as its capsule has it, else the plan made anew."""
        text, accepted = self._copy(process)
        owner = person_named(accepted.owner, accepted.group, accepted.rank)
        job = carried(parse(text, accepted.drop), accepted)
        capsule = Capsule(folder_of(self.results, owner.user, process, job.name, accepted.run))
        if capsule.is_sealed:
            return text, accepted, capsule.load()
        if accepted.fresh:
            before = Capsule(folder_of(self.results, owner.user, process, job.name, accepted.run - 1))
            if before.is_sealed:
                return text, accepted, closing.recipe_of(before, job)
        return text, accepted, self.desk.vet(job, owner, self.is_sandboxed)

    def _reopen(self, process: int, found: Any) -> None:
        now = self.clock()
        if isinstance(found, BaseException):
            self._refuse_to_start(process, found, now)
            return
        text, accepted, resolved = found
        if isinstance(resolved, Run):
            self._resume(process, resolved, now)
        else:
            self._begin(process, text, accepted, resolved, now)

    def _refuse_to_start(self, process: int, error: BaseException, now: float) -> None:
        """What was fine when it was accepted is not any more: an exposure gone, rules changed, a tool missing."""
        if not isinstance(error, SpicaError):
            log.error("process %d: cannot be started", process, exc_info=error)
        waiting = self.starting.pop(process, None)
        if waiting is None or not self.spool.move(process, Phase.QUEUED, Phase.ERROR):
            return
        self.spool.sync(Phase.QUEUED, Phase.ERROR)
        why = (
            str(error) if isinstance(error, SpicaError) else f"an error of Spica itself: {error}. See the daemon's log."
        )
        log.warning("process %d: not started: %s", process, why.splitlines()[0])
        text, accepted = self.spool.read_copy(process, Phase.ERROR)
        closing.mail_unstarted(self.settings, self.spool, process, text, accepted, Phase.ERROR, why, now)
        self.ledger.phase(process, Phase.QUEUED, Phase.ERROR, "spicad", why, now, ended=now)

    def _begin(self, process: int, text: str, accepted: Accepted, vetted: Vetted, now: float) -> None:
        if self.starting.pop(process, None) is None or not self.spool.move(process, Phase.QUEUED, Phase.EXECUTING):
            return
        owner = person_named(accepted.owner, accepted.group, accepted.rank)
        run = Run(
            process=process,
            number=accepted.run,
            name=vetted.job.name,
            owner=owner,
            plan=vetted.plan,
            setups=vetted.setups,
            applications=self.desk.applications,
            started=now,
            submitted=accepted.submitted,
            is_fresh=accepted.fresh,
            mail=closing.address_of(vetted.job.mail, owner, self.settings),
        )
        capsule = Capsule(folder_of(self.results, owner.user, process, run.name, run.number))
        try:
            capsule.write(vetted, run, self.desk.applications, self.node)
        except OSError as error:
            log.error("process %d: its results folder cannot be made: %s. Tried again later.", process, error)
            self.spool.move(process, Phase.EXECUTING, Phase.QUEUED)
            self.queue.add(Waiting(accepted.submitted, process, accepted.rank, owner.user, owner.group), now)
            return
        self._take_up(run, capsule, f"run {run.number} on {self.node}", now)
        self.ledger.steps([_step_row(run, step) for step in run.plan.steps])

    def _resume(self, process: int, run: Run, now: float) -> None:
        """A process that was held, or interrupted with the daemon, goes on where it was."""
        if self.starting.pop(process, None) is None or not self.spool.move(process, Phase.QUEUED, Phase.EXECUTING):
            return
        capsule = Capsule(folder_of(self.results, run.owner.user, process, run.name, run.number))
        for number in run.attempt:
            run.attempt[number] = 0  # a person released it: it gets its attempts anew
        self._take_up(run, capsule, f"run {run.number} goes on on {self.node}", now)

    def _take_up(self, run: Run, capsule: Capsule, why: str, now: float) -> None:
        self.runs[run.process], self.capsules[run.process] = run, capsule
        log.info("process %d %s: %s", run.process, run.name, why)
        self.ledger.phase(
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
        for step in run.plan.steps:
            if run.state[step.number] is not StepState.WAITING:
                continue
            folder = capsule.step(step)
            launched = local.launched_in(folder)
            if launched is None or (folder / "interrupted.json").exists():
                continue
            run.in_hand.add(step.number)
            running = Running(
                run, step, folder, launched, -1, min(step.threads, self.settings.daemon.slots),
                key=_noted_key(folder), attempt=capsule.attempts(step), deadline=launched.time + step.time_s,
            )  # fmt: skip
            if launched.sandboxed and local.is_alive(launched):
                self._follow(running)
                log.info("process %d %s: adopted, pid %d", run.process, step.folder, launched.pid)
            else:
                interrupted = launched.sandboxed is False or local.exit_code(folder) is None
                local.kill(folder)
                self._judge(running, "the machine or the daemon went down while it ran" if interrupted else "", now)
        if run.is_over:
            self._finish(run)

    # ------------------------------------------------------------------ a step: looked over, started, judged

    def _look_over(self, run: Run, step: PlannedStep) -> None:
        key = (run.process, step.number)
        run.in_hand.add(step.number)
        self.looking.add(key)
        question = self._question(run, step)
        if not question.files and not question.application.before:
            self._looked(key, question, steps.look_over(question))  # nothing to read: no thread is worth it
            return
        self.background.do(steps.look_over, question, then=lambda looked: self._looked(key, question, looked))

    def _question(self, run: Run, step: PlannedStep) -> steps.Question:
        capsule = self.capsules[run.process]
        files = []
        for name, planned in run.files(step).items():
            for file in planned:
                files.append(self._step_file(run, capsule, name, file))
        originals = [str(file.prepared_from or file.path) for file in files if not file.identity]
        known = {path: found for path in originals if (found := self._known_digest(path))}
        return steps.Question(
            step,
            run.application(step),
            run.setup(step),
            tuple(files),
            run.stems(step),
            run.plan.exposures,
            max(step.threads, 1),
            known,
            run.outputs_read_later(step),
        )

    def _step_file(self, run: Run, capsule: Capsule, name: str, file: Any) -> steps.StepFile:
        if not file.source.step:
            exposure = run.plan.exposures.get(file.stem)
            is_it = exposure is not None and str(exposure.path) == file.source.path
            packing = exposure.packing if exposure and is_it else "fits"
            return steps.StepFile(
                name, file.stem, Path(file.source.path), packing, exposure=exposure if is_it else None
            )
        maker = run.step(file.source.step)
        made = run.made_by(file)
        if maker.is_lazy:
            output = run.application(maker).outputs[file.source.output]
            path = capsule.folder / made.path if made else capsule.work / output.file_for(maker.stems[0])
            source = next(iter(maker.files.values()))[0].source.path
            return steps.StepFile(name, file.stem, path, prepared_from=Path(source))
        assert made is not None
        return steps.StepFile(name, file.stem, capsule.folder / made.path, identity=made.digest)

    def _known_digest(self, path: str) -> tuple[str, str] | None:
        if path in self._digests:
            return self._digests[path]
        with suppress(*AWAY):
            row = Digest.select(Digest.identity, Digest.sha256).where(Digest.path == path_key(path)).tuples().first()
            if row:
                self._digests[path] = (row[0], row[1])
                return self._digests[path]
        return None

    def _learn(self, path: str, digest: tuple[str, str]) -> None:
        self._digests[path] = digest
        self.ledger.digest(path_key(path), *digest)
        while len(self._digests) > 20_000:
            self._digests.popitem(last=False)

    def _looked(self, key: Key, question: steps.Question, looked: Any) -> None:
        now = self.clock()
        self.looking.discard(key)
        run = self.runs.get(key[0])
        if run is None:
            return
        step = run.step(key[1])
        if isinstance(looked, BaseException):
            log.error("process %d %s: cannot be looked over", run.process, step.folder, exc_info=looked)
            why = f"an error of Spica itself: {looked}. See the daemon's log."
            self._ended(run, step, Outcome(StepState.FAILED, Ending.NEVER_AGAIN, why), now)
            return
        for path, digest in looked.digests.items():
            self._learn(path, digest)
        if run.is_stopping:
            run.in_hand.discard(step.number)
            self._go_or_finish(run)
            return
        if looked.refused:
            outcome = Outcome(
                StepState.FAILED, Ending.NEVER_AGAIN, looked.refused, looked.culprit, stems=question.stems, ended=now
            )
            self._ended(run, step, outcome, now)
            return
        if self._reused(run, step, question, looked, now):
            return
        lazy = run.lazy_needs(step)
        if lazy:
            run.wanted.update(lazy)
            run.in_hand.discard(step.number)  # it comes again when they are over
            return
        self.ready[key] = (question, looked)

    def _reused(self, run: Run, step: PlannedStep, question: steps.Question, looked: steps.Looked, now: float) -> bool:
        """Whether a finished step of the same owner and content key could stand in."""
        if run.is_fresh or step.is_lazy or not question.application.outputs:
            return False
        if step.number in run.wanted:
            return False
        with suppress(*AWAY):
            rows = (
                Step.select(Step.outputs)
                .where(
                    (Step.content_key == looked.key)
                    & (Step.owner == run.owner.user)
                    & (Step.state == StepState.DONE.value)
                )
                .order_by(Step.id.desc())
                .limit(3)
                .tuples()
            )
            for text in [str(row[0]) for row in rows]:  # type: ignore[index]
                record = json.loads(text)
                if not isinstance(record, dict):
                    continue
                earlier = steps.Earlier(outcome_from(record["outcome"]), Path(record["folder"]))
                outcome = steps.reuse(earlier, question, looked.key, self._place(run, step), now)
                if outcome:
                    self._ended(run, step, outcome, now)
                    return True
        return False

    def _start(self, run: Run, step: PlannedStep, slots: int) -> None:
        key = (run.process, step.number)
        question, looked = self.ready.pop(key)
        capsule, now = self.capsules[run.process], self.clock()
        assert looked.command is not None
        try:
            folder, attempt = capsule.open_step(step)
            run.attempt[step.number] = run.attempt.get(step.number, 0) + 1
            steps.lay_out(folder, looked, question.setup, question.application)
            (folder / "key").write_text(looked.key)
            limits = self._step_limits(step)
            launched = local.start(
                folder, looked.command.argv, looked.inputs, limits, self.is_sandboxed, now, self._places(question)
            )
        except OSError as error:
            why = f"it cannot be started: {error}"
            outcome = Outcome(
                StepState.WAITING, Ending.TRY_AGAIN, why, attempt=run.attempt.get(step.number, 1), ended=now
            )
            self._ended(run, step, outcome, now)
            return
        run.state[step.number] = StepState.RUNNING
        running = Running(run, step, folder, launched, -1, slots, looked.key, attempt, now + limits.time_s)
        self._follow(running)
        log.info(
            "process %d %s %s on %s: started, pid %d", run.process, step.folder, step.label, self.node, launched.pid
        )
        self.ledger.step(
            run.process, run.number, step.number, StepState.RUNNING, node=self.node, attempt=attempt, started=now
        )

    def _step_limits(self, step: PlannedStep) -> local.Limits:
        limits = self.settings.limits
        memory = min(step.memory_mb, limits.memory_mb) if limits.memory_mb else step.memory_mb
        time_s = min(step.time_s, limits.time_s) if limits.time_s else step.time_s
        return local.Limits(memory, limits.disk_mb, time_s, max(step.threads, 1))

    def _places(self, question: steps.Question) -> tuple[Path, ...]:
        """Folders outside /usr that this tool needs to see in its sandbox."""
        if question.application.is_our_own:
            return python_places()
        program = Path(question.setup.tool.program[0])
        places = {program.parent, question.setup.tool.path.parent}
        return tuple(sorted(place for place in places if not place.is_relative_to("/usr")))

    def _follow(self, running: Running) -> None:
        try:
            running.handle = os.pidfd_open(running.launched.pid)
        except ProcessLookupError:
            running.handle = -1
        self.running[(running.run.process, running.step.number)] = running
        running.run.state[running.step.number] = StepState.RUNNING
        running.run.in_hand.add(running.step.number)
        if running.handle >= 0:
            self.watch(running.handle)

    def look_at_steps(self, now: float) -> None:
        """Steps that have ended, and those that take too long."""
        waiting = {running.handle: key for key, running in self.running.items() if running.handle >= 0}
        poll = select.poll()
        for handle in waiting:
            poll.register(handle, select.POLLIN)
        ended = [waiting[handle] for handle, _ in poll.poll(0)]
        ended += [key for key, running in self.running.items() if running.handle < 0]
        for key in ended:
            self._step_ended(self.running.pop(key), now)
        for running in list(self.running.values()):
            if now > running.deadline and not running.killed:
                running.timed_out = running.killed = True
                log.warning("process %d %s: stopped, its time is over", running.run.process, running.step.folder)
                local.kill(running.folder)

    def _step_ended(self, running: Running, now: float) -> None:
        if running.handle >= 0:
            self.unwatch(running.handle)
            os.close(running.handle)
        status = None
        with suppress(ChildProcessError):
            _, status = os.waitpid(running.launched.pid, os.WNOHANG)
        code = local.exit_code(running.folder)
        if code is None and not running.launched.sandboxed and status is not None:
            code = os.waitstatus_to_exitcode(status)
            code = 128 - code if code < 0 else code
        interrupted = ""
        if code is None and not running.killed:
            local.kill(running.folder)  # the sandbox was killed from outside: nothing of it may go on
            interrupted = "it was killed from outside"
        self._judge(running, interrupted, now, code)

    def _judge(self, running: Running, interrupted: str, now: float, code: int | None = None) -> None:
        run, step = running.run, running.step
        if code is None:
            code = local.exit_code(running.folder)
        if run.cancelled_by:
            self._ended(
                run, step, Outcome(StepState.SKIPPED, Ending.NEVER_AGAIN, f"cancelled by {run.cancelled_by}"), now
            )
            return
        exposures = run.plan.exposures
        evidence = steps.Evidence(
            step=step,
            application=run.application(step),
            folder=running.folder,
            place=self._place(run, step),
            stems=run.stems(step),
            ccds={stem: len(exposures[stem].ccds) for stem in step.stems if stem in exposures},
            key=running.key,
            attempt=run.attempt.get(step.number) or running.attempt,
            started=running.launched.time,
            ended=now,
            exit_code=code,
            timed_out=running.timed_out,
            interrupted=interrupted,
        )
        if not evidence.application.outputs and not interrupted and code == 0:
            self._judged(run, step, steps.judge(evidence))
            return
        self.background.do(steps.judge, evidence, then=lambda outcome: self._judged(run, step, outcome))

    def _place(self, run: Run, step: PlannedStep) -> steps.Place:
        return steps.Place(self.capsules[run.process].folder, step.label, run.plan.labels)

    def _judged(self, run: Run, step: PlannedStep, outcome: Any) -> None:
        now = self.clock()
        if isinstance(outcome, BaseException):
            log.error("process %d %s: cannot be judged", run.process, step.folder, exc_info=outcome)
            why = f"an error of Spica itself: {outcome}. See the daemon's log."
            outcome = Outcome(StepState.FAILED, Ending.NEVER_AGAIN, why, ended=now)
        self._ended(run, step, outcome, now)

    def _ended(self, run: Run, step: PlannedStep, outcome: Outcome, now: float) -> None:
        capsule = self.capsules[run.process]
        outcome = replace(outcome, why=run.in_words(outcome.why))
        state = run.end(step, outcome, self.settings.daemon.attempts)
        if state is StepState.WAITING:
            log.warning("process %d %s: %s; goes on", run.process, step.folder, outcome.why)
            with suppress(OSError):
                capsule.put_aside(step, outcome)
        else:
            capsule.close_step(step, outcome)
            words = outcome.why or ", ".join(f"{name} {value}" for name, value in list(outcome.metrics.items())[:3])
            log.info("process %d %s %s: %s %s", run.process, step.folder, step.label, state.value, words)
        values: dict[str, Any] = {"ended": now, "why": outcome.why, "metrics": dict(outcome.metrics)}
        if state is StepState.DONE:
            record = closing.reusable(outcome, capsule.folder)
            values |= {"content_key": outcome.key, "outputs": record}
        self.ledger.step(run.process, run.number, step.number, state, **values)
        self.ledger.process_values(
            run.process, steps_done=run.count((StepState.DONE, StepState.REUSED)), steps_total=run.total
        )
        self._go_or_finish(run)

    def _go_or_finish(self, run: Run) -> None:
        if run.is_stopping:
            self._stop(run)
        if run.is_over:
            self._finish(run)

    def _stop(self, run: Run) -> None:
        """A run that must not go on: what waits is put back, what runs for nothing is ended."""
        for key in [key for key in self.ready if key[0] == run.process]:
            del self.ready[key]
            run.in_hand.discard(key[1])
        if run.cancelled_by or run.failure is not None:
            for key, running in self.running.items():
                if key[0] == run.process and not running.killed:
                    running.killed = True
                    run.cancelled_by = run.cancelled_by or ""
                    local.kill(running.folder)

    # ------------------------------------------------------------------ the end of a run

    def _finish(self, run: Run) -> None:
        now = self.clock()
        if self.runs.get(run.process) is not run:
            return
        capsule, phase = self.capsules[run.process], run.phase()
        try:
            why = closing.close(self.settings, self.spool, run, capsule, phase, self.node, now)
        except OSError as error:
            log.error("process %d: its end cannot be written: %s. Tried again at the next look.", run.process, error)
            return
        if not self.spool.move(run.process, Phase.EXECUTING, phase):
            log.error("process %d: its job file is not in executing/", run.process)
        self.spool.sync(phase)
        del self.runs[run.process], self.capsules[run.process]
        log.info("process %d %s: %s %s", run.process, run.name, phase.value, why)
        self.ledger.phase(
            run.process, Phase.EXECUTING, phase, run.cancelled_by or "spicad", why, now,
            ended=None if phase is Phase.HELD else now, steps_total=run.total,
            steps_done=run.count((StepState.DONE, StepState.REUSED)),
        )  # fmt: skip

    def finish_late(self) -> None:
        """Runs whose end could not be written when it came (a full disk)."""
        for run in list(self.runs.values()):
            if run.is_over:
                self._go_or_finish(run)

    # ------------------------------------------------------------------ orders

    def hold(self, process: int, who: str) -> None:
        run = self.runs[process]
        run.held_why = f"held by {who}"
        self._go_or_finish(run)

    def cancel(self, process: int, who: str) -> None:
        run = self.runs[process]
        run.cancelled_by = who
        self._go_or_finish(run)

    def next_deadline(self) -> float | None:
        return min((running.deadline for running in self.running.values() if not running.killed), default=None)

    def of_user(self, owner: Person) -> Iterator[Run]:
        return (run for run in self.runs.values() if run.owner.user == owner.user)


def carried(job: Any, accepted: Accepted) -> Job:
    """The job with the files that were dropped beside it."""
    assert isinstance(job, Job)
    return replace(job, texts={**job.texts, **accepted.texts}) if accepted.texts else job


def path_key(path: str) -> str:
    return hashlib.sha256(path.encode("utf-8", "surrogateescape")).hexdigest()


def _existing(path: Path) -> Path:
    while not path.exists():
        path = path.parent
    return path


def _noted_key(folder: Path) -> str:
    with suppress(OSError):
        return (folder / "key").read_text()
    return ""


def _step_row(run: Run, step: PlannedStep) -> dict[str, Any]:
    return {
        "process": run.process,
        "run": run.number,
        "number": step.number,
        "application": step.application,
        "label": step.label[:200],
        "state": StepState.WAITING.value,
        "owner": run.owner.user,
    }

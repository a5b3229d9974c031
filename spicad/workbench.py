"""The workbench: one step at a time is looked over, replaced by an earlier one, started, followed and judged.

Which step comes next, and what its end means for the run, is the workshop's affair; what needs a thread is in steps.py.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spicad import steps
from spicad.archive.locality import Places, has_other_nodes, places_of
from spicad.backends.backend import Backend, End, Limits, News, Task
from spicad.background import Background
from spicad.capsule import Capsule, outcome_from
from spicad.config import Settings
from spicad.desk import Desk
from spicad.durable import remove_tree
from spicad.ledger import AWAY, Ledger
from spicad.logs import about
from spicad.plan import PlannedStep
from spicad.run import Outcome, Run
from spicad.sandbox import python_places
from spicad.spool import Spool
from spicad.tables import Digest, Step
from spicad.waiting import Node
from spicad.words import Ending, StepState

log = logging.getLogger("spicad")

MOST_DIGESTS = 20_000
OTHER_NODES_S = 2.0

Key = tuple[int, int]  # process, step


@dataclass
class Floor:
    """What the workshop and its bench share; a reload puts other settings here."""

    settings: Settings
    desk: Desk
    spool: Spool
    ledger: Ledger
    background: Background
    is_sandboxed: bool
    clock: Callable[[], float]
    backend: Backend
    other_nodes: tuple[float, bool] = (0.0, True)  # when it was asked last, and whether the archive knows any

    @property
    def node(self) -> str:
        return str(self.settings.daemon.node)

    def places_of(self, paths: Collection[str]) -> Places:
        """The nodes that store each file. Whether there is any other node is asked now and then only."""
        now, (at, are_there) = self.clock(), self.other_nodes
        if not 0 <= now - at < OTHER_NODES_S:
            are_there = has_other_nodes(self.node)
            self.other_nodes = now, are_there
        return places_of(paths, self.node) if are_there else {}


@dataclass
class Running:
    """A step that was handed to the backend. Until it has begun there it has no node and no time."""

    run: Run
    step: PlannedStep
    folder: Path
    slots: int
    key: str
    read: Mapping[str, steps.Read]
    attempt: int
    node: str = ""
    started: float = 0.0
    killed: bool = False
    stopped_why: str = ""  # by the daemon itself, for good


class Workbench:
    """`ended` is told each end of an attempt, `put_back` each step that a stopping run leaves undone."""

    def __init__(
        self, floor: Floor, ended: Callable[[Run, PlannedStep, Outcome, float], None], put_back: Callable[[Run], None]
    ) -> None:
        self.floor = floor
        self.ended = ended
        self.put_back = put_back
        self.runs: dict[int, Run] = {}
        self.capsules: dict[int, Capsule] = {}
        self.running: dict[Key, Running] = {}
        self.ready: dict[Key, tuple[steps.Question, steps.Looked]] = {}
        self.looking: set[Key] = set()
        self._digests: OrderedDict[str, tuple[str, str]] = OrderedDict()

    @property
    def slots_used(self) -> int:
        return sum(running.slots for running in self.running.values())

    def look_over(self, run: Run, step: PlannedStep) -> None:
        key = (run.process, step.number)
        run.in_hand.add(step.number)
        self.looking.add(key)
        question = self._question(run, step)
        if not question.files and not question.application.before:
            self._looked(key, question, steps.look_over(question))  # nothing to read: no thread is worth it
            return
        self.floor.background.do(
            steps.look_over,
            question,
            then=lambda looked: self._looked(key, question, looked),
            process=run.process,
        )

    def _question(self, run: Run, step: PlannedStep) -> steps.Question:
        capsule = self.capsules[run.process]
        files = []
        for name, planned in run.files(step).items():
            files += [self._step_file(run, capsule, name, file) for file in planned if not run.was_not_made(file)]
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
            run.origins(step) if run.application(step).asks_for_origins else "",
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
        self.floor.ledger.digest(path_key(path), *digest)
        while len(self._digests) > MOST_DIGESTS:
            self._digests.popitem(last=False)

    def _looked(self, key: Key, question: steps.Question, looked: Any) -> None:
        now = self.floor.clock()
        self.looking.discard(key)
        run = self.runs.get(key[0])
        if run is None:
            return
        step = run.step(key[1])
        if isinstance(looked, BaseException):
            log.error("%s: cannot be looked over", about(run, step), exc_info=looked)
            why = f"an error of Spica itself: {looked}. See the daemon's log."
            self.ended(run, step, Outcome(StepState.FAILED, Ending.NEVER_AGAIN, why), now)
            return
        for path, digest in looked.digests.items():
            self._learn(path, digest)
        if run.is_stopping:
            run.in_hand.discard(step.number)
            self.put_back(run)
            return
        if looked.refused:
            outcome = Outcome(
                StepState.FAILED, Ending.NEVER_AGAIN, looked.refused, looked.culprit, stems=question.stems, ended=now
            )
            self.ended(run, step, outcome, now)
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
        self.floor.ledger.flush(now)  # what has just ended can stand in too
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
                    self.ended(run, step, outcome, now)
                    return True
        return False

    def start(self, run: Run, step: PlannedStep, slots: int, node: Node, points: float) -> None:
        key = (run.process, step.number)
        question, looked = self.ready.pop(key)
        capsule, now = self.capsules[run.process], self.floor.clock()
        assert looked.command is not None
        try:
            folder, attempt = capsule.open_step(step)
            run.attempt[step.number] = run.attempt.get(step.number, 0) + 1
            steps.lay_out(folder, looked, question.setup, question.application)
            task = Task(
                folder=folder,
                argv=looked.command.argv,
                inputs=looked.inputs,
                limits=self.step_limits(step),
                sandboxed=self.floor.is_sandboxed,
                read_only=self._places(question),
                papers=steps.papers(looked),
                name=f"{run.process:06d}-{run.number}-{step.folder}-{attempt}",
                slots=slots,
                node=node.name,
                avoided=run.avoided.get(step.number, frozenset()),
                points=points,
            )
            news = self.floor.backend.start(task, now)
        except OSError as error:
            why = f"it cannot be started: {error}"
            outcome = Outcome(
                StepState.WAITING, Ending.TRY_AGAIN, why, attempt=run.attempt.get(step.number, 1), ended=now
            )
            self.ended(run, step, outcome, now)
            return
        self.follow(Running(run, step, folder, slots, looked.key, looked.read, attempt), news)

    def step_limits(self, step: PlannedStep) -> Limits:
        limits = self.floor.settings.limits
        memory = min(step.memory_mb, limits.memory_mb) if limits.memory_mb else step.memory_mb
        time_s = min(step.time_s, limits.time_s) if limits.time_s else step.time_s
        return Limits(memory, limits.disk_mb, time_s, max(step.threads, 1))

    def _places(self, question: steps.Question) -> tuple[Path, ...]:
        """Folders outside /usr that this tool needs to see in its sandbox."""
        if question.application.is_our_own:
            return python_places()
        program = Path(question.setup.tool.program[0])
        places = {program.parent, question.setup.tool.path.parent}
        return tuple(sorted(place for place in places if not place.is_relative_to("/usr")))

    def follow(self, running: Running, news: News, verb: str = "started") -> None:
        run, step = running.run, running.step
        self.running[(run.process, step.number)] = running
        run.state[step.number] = StepState.RUNNING
        run.in_hand.add(step.number)
        self._note(running, news, verb)

    def _note(self, running: Running, news: News, verb: str = "started") -> None:
        """Where and when it has begun, or what it waits for."""
        run, step = running.run, running.step
        running.node, running.started = news.node, news.started
        words = f"{verb}, {news.who} on {news.node}" if news.started else news.waits
        log.info("%s %s: %s", about(run, step), step.label, words)
        values = {"node": news.node, "started": news.started or None, "why": news.waits, "attempt": running.attempt}
        self.floor.ledger.step(run.process, run.number, step.number, StepState.RUNNING, **values)

    def look_at_steps(self, now: float) -> None:
        """What the backend has to tell of steps: begun, waiting, ended."""
        keys = {running.folder: key for key, running in self.running.items()}
        for each in self.floor.backend.look(now):
            key = keys.get(each.folder)
            if key is None:
                continue
            try:
                if isinstance(each, News):
                    self._note(self.running[key], each)
                else:
                    self.judge(self.running.pop(key), each, now)
            except Exception as error:
                self.floor.background.failed(key[0], error)

    def judge(self, running: Running, end: End, now: float) -> None:
        run, step = running.run, running.step
        running.started, running.node = end.started or running.started, end.node or running.node
        if end.elsewhere and end.node:
            run.avoided[step.number] = run.avoided.get(step.number, frozenset()) | {end.node}
        if end.timed_out:
            log.warning("%s: stopped, its time is over", about(run, step))
        if running.stopped_why and not run.cancelled_by:
            self._end_stopped(running, now)
            return
        if run.cancelled_by or (running.killed and not end.timed_out):
            why = f"cancelled by {run.cancelled_by}" if run.cancelled_by else "stopped: the run had failed"
            self.ended(run, step, Outcome(StepState.SKIPPED, Ending.NEVER_AGAIN, why), now)
            return
        if end.refused:
            self.ended(run, step, Outcome(StepState.FAILED, Ending.NEVER_AGAIN, end.refused, ended=now), now)
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
            read=running.read,
            attempt=run.attempt.get(step.number) or running.attempt,
            started=running.started,
            ended=now,
            exit_code=end.exit_code,
            timed_out=end.timed_out,
            interrupted=end.interrupted,
            node=running.node,
        )
        if not evidence.application.outputs and not end.interrupted and end.exit_code == 0:
            self._judged(run, step, steps.judge(evidence))
            return
        self.floor.background.do(
            steps.judge, evidence, then=lambda outcome: self._judged(run, step, outcome), process=run.process
        )

    def kill(self, running: Running) -> None:
        if not running.killed:
            running.killed = True
            self.floor.backend.kill(running.folder)

    def stop(self, running: Running, why: str) -> None:
        """For good, and the whole run with it."""
        log.warning("%s: %s", about(running.run, running.step), why)
        running.stopped_why = why
        self.kill(running)

    def _end_stopped(self, running: Running, now: float) -> None:
        """What it has written goes at once: half of a product is none, and room is wanted."""
        run, step = running.run, running.step
        outcome = Outcome(
            StepState.FAILED,
            Ending.NEVER_AGAIN,
            running.stopped_why,
            stems=run.stems(step),
            key=running.key,
            attempt=run.attempt.get(step.number) or running.attempt,
            started=running.started,
            ended=now,
            node=running.node,
            ends_run=True,
        )
        self.floor.background.do(
            remove_tree,
            running.folder / "job",
            then=lambda _: self._judged(run, step, outcome),
            process=run.process,
        )

    def clear(self, process: int) -> None:
        """Nothing of this process is left on the bench."""
        self.looking = {key for key in self.looking if key[0] != process}
        for key in [key for key in self.ready if key[0] == process]:
            del self.ready[key]
        for key in [key for key in self.running if key[0] == process]:
            self.floor.backend.forget(self.running.pop(key).folder)

    def _place(self, run: Run, step: PlannedStep) -> steps.Place:
        return steps.Place(self.capsules[run.process].folder, step.label, run.plan.labels)

    def _judged(self, run: Run, step: PlannedStep, outcome: Any) -> None:
        now = self.floor.clock()
        if isinstance(outcome, BaseException):
            log.error("%s: cannot be judged", about(run, step), exc_info=outcome)
            why = f"an error of Spica itself: {outcome}. See the daemon's log."
            outcome = Outcome(StepState.FAILED, Ending.NEVER_AGAIN, why, ended=now)
        self.ended(run, step, outcome, now)


def path_key(path: str) -> str:
    return hashlib.sha256(path.encode("utf-8", "surrogateescape")).hexdigest()

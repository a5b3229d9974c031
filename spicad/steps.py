"""What is done for one step outside the daemon's loop: looking it over before it starts, judging it after its end.

Both are functions from values to values that run in a thread; nothing here touches tables or the state of a run.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from spicad import fits
from spicad.applications.before import adjusted, precheck
from spicad.applications.command import CommandLine, command_line, configuration_target
from spicad.applications.configuration import Effective
from spicad.applications.descriptor import Application
from spicad.applications.outputs import Verdict, verify
from spicad.archive.headers import Exposure
from spicad.capsule import outcome_from, outcome_record
from spicad.desk import Setup
from spicad.durable import remove_tree, replace_file, sync_folder
from spicad.plan import PlannedStep
from spicad.run import Made, Outcome
from spicad.words import Ending, SpicaError, StepState

DISK_FULL_BYTES = 8 << 20
VERIFIED = "verified.json"
STEP = "step.json"
CANNOT_KEEP = "the products cannot be kept"
_ONE_AT_A_TIME = threading.Lock()  # two steps may want the same name for a product
MOST_LOG_BYTES = 256 << 10  # of a longer log the end; 4 MiB took 2 s to put into words


@dataclass(frozen=True)
class StepFile:
    """A file that the step reads: where it is, and what makes it the same file in another run."""

    input: str
    stem: str
    path: Path
    packing: str = "fits"
    identity: str = ""  # digest of what an earlier step made; empty: the digest of `path`
    prepared_from: Path | None = None  # `path` is, or will be, made from this
    exposure: Exposure | None = None


@dataclass(frozen=True)
class Question:
    """All that looking a step over needs."""

    step: PlannedStep
    application: Application
    setup: Setup
    files: tuple[StepFile, ...]
    stems: tuple[str, ...]
    exposures: Mapping[str, Exposure]
    threads: int
    digests: Mapping[str, tuple[str, str]] = field(default_factory=dict)  # path -> (identity, sha256)
    read_later: frozenset[str] = frozenset()  # outputs that later steps of the run read
    origins: str = ""  # CSV of the exposures that the step uses, and of those that were dropped


@dataclass(frozen=True)
class Read:
    """A file as it was when the step was looked over; step.json keeps it in the capsule."""

    stem: str
    path: str
    identity: str  # empty: a file of the capsule's own
    digest: str


@dataclass(frozen=True)
class Looked:
    """A step that can start, or `refused` with the reason."""

    command: CommandLine | None
    inputs: Mapping[str, Path]  # name in in/ -> file
    links: Mapping[str, str]  # name in job/ -> target
    cards: Mapping[str, str]  # name in job/ -> what the instrument of an exposure adds to its header
    key: str
    digests: Mapping[str, tuple[str, str]]  # new ones only
    refused: str = ""
    culprit: str = ""
    settings: Effective | None = None  # the configuration in force for this step
    read: Mapping[str, Read] = field(default_factory=dict)  # name in in/ -> what it is


def look_over(question: Question) -> Looked:
    """Digests, the conditions known to hang the tool, the command line, the content key."""
    application = question.application
    inputs: dict[str, Path] = {}
    links: dict[str, str] = {}
    files: dict[str, list[tuple[str, str]]] = {}
    identities: list[tuple[str, str, str]] = []
    digests: dict[str, tuple[str, str]] = {}
    read: dict[str, Read] = {}
    for file in question.files:
        wanted = application.inputs[file.input]
        name = wanted.file_for(file.stem, file.packing)
        inputs[name] = file.path
        if wanted.place == "job":
            links[name] = f"../in/{name}"
        files.setdefault(file.input, []).append((file.stem, wanted.path_for(file.stem, file.packing)))
        try:
            identity = file.identity or _digest(file, question.digests, digests)
        except SpicaError as error:
            return _refused(digests, str(error), file.stem)
        identities.append((file.input, file.stem, identity))
        path = str(file.path)
        seen = digests.get(path) or question.digests.get(path) or ("", "")
        read[name] = Read(file.stem, path, seen[0], identity)
    paths = _paths(question)
    why, culprit = precheck(application, paths, _exposures(question), question.setup.effective)
    if why:
        return _refused(digests, why, culprit)
    try:
        settings = question.setup.effective
        settings = adjusted(application, paths, settings) if settings else None
        command = command_line(
            application,
            question.setup.tool.program,
            files,
            settings,
            threads=question.threads,
            memory_mb=question.step.memory_mb,
            origins=question.origins,
        )
    except SpicaError as error:
        return _refused(digests, str(error))
    key = _content_key(question, command, identities, settings)
    return Looked(command, inputs, links, _cards(question), key, digests, settings=settings, read=read)


def _refused(digests: Mapping[str, tuple[str, str]], why: str, culprit: str = "") -> Looked:
    return Looked(None, {}, {}, {}, "", digests, why, culprit)


def _cards(question: Question) -> dict[str, str]:
    found = {}
    for file in question.files:
        wanted, exposure = question.application.inputs[file.input], question.exposures.get(file.stem)
        if wanted.ahead and exposure and exposure.ahead:
            found[wanted.ahead.replace("{stem}", file.stem)] = exposure.ahead
    return found


def _digest(file: StepFile, known: Mapping[str, tuple[str, str]], new: dict[str, tuple[str, str]]) -> str:
    """sha256 of the file, remembered while its identity stays the same. Raises SpicaError when it has changed."""
    path = str(file.prepared_from or file.path)
    if os.path.realpath(path) != path:  # the gate for paths let the real file pass, not what a link leads to now
        raise SpicaError(f"{path}: a symbolic link has taken the place of what was planned.")
    try:
        status = os.stat(path)
    except OSError as error:
        raise SpicaError(f"{path}: {error.strerror}.") from None
    if file.exposure and (status.st_size, status.st_mtime_ns) != (file.exposure.size, file.exposure.mtime_ns):
        raise SpicaError(f"{path}: the file has changed since the process was planned. Run it again.")
    prefix = "prepared:" if file.prepared_from else ""
    identity = _identity(status)
    for table in (known, new):
        if path in table and table[path][0] == identity:
            return prefix + table[path][1]
    new[path] = (identity, fits.file_digest(path))
    return prefix + new[path][1]


def _paths(question: Question) -> dict[str, list[tuple[str, Path]]]:
    """By input, the files that are there: what is prepared for the step may still have to be made."""
    found: dict[str, list[tuple[str, Path]]] = {}
    for file in question.files:
        if not file.prepared_from or file.path.exists():
            found.setdefault(file.input, []).append((file.stem, file.path))
    return found


def _exposures(question: Question) -> dict[str, Exposure]:
    return {stem: question.exposures[stem] for stem in question.stems if stem in question.exposures}


def _identity(status: os.stat_result) -> str:
    return f"{status.st_dev}:{status.st_ino}:{status.st_size}:{status.st_mtime_ns}"


def _content_key(
    question: Question, command: CommandLine, identities: Sequence[tuple[str, str, str]], settings: Effective | None
) -> str:
    """The same for two steps that must come to the same: tool, arguments, configuration, inputs in their order."""
    setup = question.setup
    stems = dict.fromkeys([*question.stems, *(file.stem for file in question.files if file.stem)])
    plain = {stem: f"exposure{number}" for number, stem in enumerate(stems)}
    template = [_with_plain_stems(argument, plain) for argument in command.template]
    record: list[object] = [
        setup.application,
        setup.tool.version,
        template,
        settings.digest() if settings else "",
        sorted((name, hashlib.sha256(content).hexdigest()) for name, content in setup.stored.items()),
        [(name, plain.get(stem, stem), identity) for name, stem, identity in identities],
        [[name, each.file, each.kind, repr(each.require)] for name, each in question.application.outputs.items()],
        repr(question.application.checks),
    ]
    if cards := _cards(question):
        record.append([(_with_plain_stems(name, plain), text) for name, text in cards.items()])
    if question.application.asks_for_origins:
        record.append(question.origins)
    return hashlib.sha256(json.dumps(record).encode()).hexdigest()


def _with_plain_stems(argument: str, plain: Mapping[str, str]) -> str:
    for stem, name in plain.items():
        argument = argument.replace(stem, name)
    return argument


def lay_out(folder: Path, looked: Looked, setup: Setup, application: Application) -> None:
    """cfg/, where there is anything for it, and the links of job/, right before the start."""
    assert looked.command is not None
    texts = {name: text.encode() for name, text in looked.command.lists.items()}
    if looked.settings is not None:
        texts[configuration_target(application)] = looked.settings.text().encode("ascii")
    for name, content in {**setup.stored, **texts}.items():
        path = folder / "cfg" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    for name, target in looked.links.items():
        os.symlink(target, folder / "job" / name)
    for name, text in looked.cards.items():
        (folder / "job" / name).write_text(text, encoding="ascii")


def papers(looked: Looked) -> dict[str, str]:
    """What the step's folder says of it, by file name."""
    assert looked.command is not None
    inputs = {name: vars(each) for name, each in looked.read.items()}
    return {STEP: json.dumps({"argv": looked.command.argv, "key": looked.key, "inputs": inputs})}


@dataclass(frozen=True)
class Place:
    """Where a step's products go, and what they are called there."""

    run_folder: Path
    label: str
    labels: Mapping[str, str]

    def name(self, template: str, stem: str, file: str) -> str:
        wanted = template or "{step}.{file}"
        wanted = wanted.replace("{exposure}", self.labels.get(stem, stem)).replace("{step}", self.label)
        return wanted.replace("{file}", file)


@dataclass(frozen=True)
class Evidence:
    """What is known of a step that has ended."""

    step: PlannedStep
    application: Application
    folder: Path  # of the step
    place: Place
    stems: tuple[str, ...]
    ccds: Mapping[str, int]
    key: str
    read: Mapping[str, Read]
    attempt: int
    started: float
    ended: float
    exit_code: int | None
    timed_out: bool = False
    interrupted: str = ""
    node: str = ""


def judge(evidence: Evidence) -> Outcome:
    """Verifies what the step left, and puts what is good where it belongs."""
    if evidence.interrupted:
        return _outcome(evidence, StepState.WAITING, Ending.TRY_AGAIN, evidence.interrupted)
    try:
        if outcome := _taken_up(evidence):
            return outcome
    except OSError as error:
        return _outcome(evidence, StepState.WAITING, Ending.TRY_AGAIN, f"{CANNOT_KEEP}: {error.strerror}")
    verdict = verify(
        evidence.application,
        evidence.folder / "job",
        evidence.stems,
        _log_text(evidence.folder / "log"),
        evidence.exit_code,
        timed_out=evidence.timed_out,
        disk_full=shutil.disk_usage(evidence.folder).free < DISK_FULL_BYTES,
        ccds=evidence.ccds,
    )
    if changed := _changed_since(evidence.read):
        why = f"{changed.path}: the file has changed while {evidence.application.title} read it. Run it again."
        verdict = Verdict(Ending.NEVER_AGAIN, why, changed.stem)
    if verdict.ending is not Ending.DONE:
        state = StepState.WAITING if verdict.ending is Ending.TRY_AGAIN else StepState.FAILED
        return _outcome(evidence, state, verdict.ending, verdict.why, verdict)
    try:
        return _put_away(evidence, verdict)
    except OSError as error:
        why = f"{CANNOT_KEEP}: {error.strerror}"
        return _outcome(evidence, StepState.WAITING, Ending.TRY_AGAIN, why, verdict)


def step_record(folder: Path) -> dict[str, Any]:
    """What was written down of the step in `folder` when it began: argv, key, inputs; {} when it has not."""
    try:
        return dict(json.loads((folder / STEP).read_text(encoding="utf-8")))
    except FileNotFoundError:
        return _step_record_before(folder)


def _step_record_before(folder: Path) -> dict[str, Any]:
    """The same in three files, as steps had it that began before there was step.json."""
    found: dict[str, Any] = {}
    with suppress(FileNotFoundError):
        found["key"] = (folder / "key").read_text()
        found["argv"] = json.loads((folder / "argv.json").read_text(encoding="utf-8"))
        found["inputs"] = json.loads((folder / "inputs.json").read_text(encoding="utf-8"))
    return found


def read_in(record: Mapping[str, Any]) -> dict[str, Read]:
    return {name: Read(**each) for name, each in record.get("inputs", {}).items()}


def _changed_since(read: Mapping[str, Read]) -> Read | None:
    """An input that is not the file any more that was looked over: what was made of it belongs to no digest."""
    for each in read.values():
        if each.identity and not _is_still(each):
            return each
    return None


def _is_still(read: Read) -> bool:
    try:
        return _identity(os.stat(read.path)) == read.identity
    except OSError:
        return False


def _outcome(
    evidence: Evidence,
    state: StepState,
    ending: Ending,
    why: str,
    verdict: Verdict | None = None,
    made: tuple[Made, ...] = (),
) -> Outcome:
    return Outcome(
        state=state,
        ending=ending,
        why=why,
        culprit=(verdict.culprit or "") if verdict else "",
        last_words=tuple(verdict.last_words) if verdict else (),
        metrics=dict(verdict.metrics) if verdict else {},
        made=made,
        judgements=dict(verdict.judgements) if made and verdict else {},
        stems=evidence.stems,
        key=evidence.key,
        attempt=evidence.attempt,
        started=evidence.started,
        ended=evidence.ended,
        exit_code=evidence.exit_code,
        node=evidence.node,
    )


def _log_text(path: Path) -> str:
    """The log; of a very long one the end."""
    try:
        with open(path, "rb", buffering=0) as log:
            end = log.seek(0, os.SEEK_END)
            log.seek(max(0, end - MOST_LOG_BYTES))
            return log.read().decode("utf-8", "replace")
    except OSError:
        return ""


def _put_away(evidence: Evidence, verdict: Verdict) -> Outcome:
    """Outputs to products/ or work/; products are synced, to outlive a power cut once something says they are there.

    What was verified, and where it goes, is written down before the first move: who is killed in the middle of it has
    lost nothing.
    """
    made, moves = [], []
    with _ONE_AT_A_TIME:
        taken: set[Path] = set()
        for produced in verdict.outputs:
            output = evidence.application.outputs[produced.name]
            folder = "products" if output.keep else "work"
            os.makedirs(evidence.place.run_folder / folder, exist_ok=True)
            template = output.product if output.keep else "{file}"
            stem = produced.stem or ""
            name = evidence.place.name(template, stem, produced.path.name)
            target = _free_name(evidence.place.run_folder / folder, name, taken)
            status = _settle(produced.path, output.keep)
            path = f"{folder}/{target.name}"
            moves.append((produced.path.name, path))
            keep, digest = output.keep, produced.digest
            made.append(Made(produced.name, stem, path, status.st_size, status.st_mtime_ns, digest, keep))
        outcome = _outcome(evidence, StepState.DONE, Ending.DONE, "", verdict, tuple(made))
        if moves:
            record = json.dumps({"moves": moves, "outcome": outcome_record(outcome)}).encode()
            replace_file(evidence.folder / VERIFIED, record)
        _move(evidence, moves)
    _sweep(evidence.folder / "job")
    return outcome


def _move(evidence: Evidence, moves: Sequence[Sequence[str]]) -> None:
    try:
        for name, path in moves:
            source, target = evidence.folder / "job" / name, evidence.place.run_folder / path
            if source.exists() or not target.exists():
                os.rename(source, target)
        if any(path.startswith("products/") for _, path in moves):
            sync_folder(evidence.place.run_folder / "products")
    except OSError:
        for _, path in moves:  # the next attempt makes them anew, under the same names
            (evidence.place.run_folder / path).unlink(missing_ok=True)
        raise


def _taken_up(evidence: Evidence) -> Outcome | None:
    """The outcome of a step whose products were being put away when the daemon was killed."""
    try:
        record = json.loads((evidence.folder / VERIFIED).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None
    _move(evidence, record["moves"])
    _sweep(evidence.folder / "job")
    return outcome_from(record["outcome"])


def _settle(path: Path, is_synced: bool) -> os.stat_result:
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        os.fchmod(handle, 0o644)
        if is_synced:
            os.fsync(handle)
        return os.fstat(handle)
    finally:
        os.close(handle)


def _free_name(folder: Path, name: str, taken: set[Path]) -> Path:
    """A name that no file has, nor any of `taken`; it is taken then."""
    stem, dot, suffix = name.partition(".")
    number, target = 1, folder / name
    while os.path.lexists(target) or target in taken:
        number += 1
        target = folder / f"{stem}-{number}{dot}{suffix}"
    taken.add(target)
    return target


def _sweep(job: Path) -> None:
    """What a finished step leaves beside its outputs is not kept."""
    remove_tree(job)


@dataclass(frozen=True)
class Earlier:
    """A finished step with the same content key: what came of it, and its run's folder."""

    outcome: Outcome
    folder: Path


def reuse(earlier: Earlier, question: Question, key: str, place: Place, now: float) -> Outcome | None:
    """The products of a finished step with the same content key, linked into this run; None when they are gone."""
    stems = dict(zip(earlier.outcome.stems, question.stems, strict=False))
    made: list[Made] = []
    try:
        for old in earlier.outcome.made:
            if old.keep or old.output in question.read_later:
                made.append(_linked(earlier, old, stems.get(old.stem, ""), question, place))
    except (OSError, KeyError):
        for each in made:
            with suppress(OSError):
                (place.run_folder / each.path).unlink()
        return None
    return replace(
        earlier.outcome,
        state=StepState.REUSED,
        made=tuple(made),
        judgements={stems[stem]: each for stem, each in earlier.outcome.judgements.items() if stem in stems},
        stems=question.stems,
        key=key,
        attempt=0,
        started=now,
        ended=now,
        node="",
        reused_from=str(earlier.folder),
    )


def _linked(earlier: Earlier, old: Made, stem: str, question: Question, place: Place) -> Made:
    """Raises OSError when the product is not there as it was."""
    path = earlier.folder / old.path
    status = os.lstat(path)
    if (status.st_size, status.st_mtime_ns) != (old.bytes, old.mtime_ns):
        raise FileNotFoundError(path)
    folder = "products" if old.keep else "work"
    os.makedirs(place.run_folder / folder, exist_ok=True)
    template = question.application.outputs[old.output].product if old.keep else "{file}"
    target = _free_name(place.run_folder / folder, place.name(template, stem, path.name), set())
    try:
        os.link(path, target, follow_symlinks=False)
    except FileExistsError:
        raise
    except OSError:
        shutil.copy2(path, target, follow_symlinks=False)
    return replace(old, stem=stem, path=f"{folder}/{target.name}")

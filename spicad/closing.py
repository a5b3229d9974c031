"""How a run ends: its figures gathered, the report written and put in the outbox, the capsule closed.

Also what later runs take from it: the record by which a finished step is reused, the recipe for an exact rerun.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from spicad import archiving, outbox, report, retention
from spicad.capsule import Capsule, folder_of, outcome_record
from spicad.config import Settings
from spicad.desk import Desk, Vetted
from spicad.jobfile import Job, parse
from spicad.key_figures import key_figures
from spicad.logs import about
from spicad.people import OF_THE_SITE, Person
from spicad.report import Product, Report, Steps
from spicad.rules import Rules
from spicad.run import GOOD_STATES, Made, Outcome, Run
from spicad.spool import Accepted, Spool
from spicad.words import Phase, SpicaError, StepState

log = logging.getLogger("spicad")


def address_of(mail: str, owner: Person, settings: Settings) -> str:
    """Where reports on a process go; '' for nowhere."""
    domain = settings.mail.domain
    return mail or (f"{owner.user}@{domain}" if domain and not owner.user.endswith(OF_THE_SITE) else "")


@dataclass(frozen=True)
class End:
    """A run that is over, whose end is to be written."""

    run: Run
    capsule: Capsule
    phase: Phase
    node: str
    at: float


def close_all(settings: Settings, spool: Spool, ends: Sequence[End]) -> list[str | Exception]:
    """Of each the reason of its phase, or what kept its end from being written."""
    answers: list[str | Exception] = []
    for end in ends:
        try:
            answers.append(close(settings, spool, end.run, end.capsule, end.phase, end.node, end.at))
        except Exception as error:  # one must not keep the others
            answers.append(error)
    return answers


def close(settings: Settings, spool: Spool, run: Run, capsule: Capsule, phase: Phase, node: str, now: float) -> str:
    """Closes the capsule and puts the mail in the outbox; returns the reason of the phase. May be done twice."""
    why = _why(run, phase)
    said = archiving.hand_in(settings, run, capsule.folder) if phase is Phase.COMPLETED else []
    made = _report(run, capsule, phase, why, node, now)
    made = replace(made, warnings=(*made.warnings, *said))
    if (end := expiry(settings, run, phase, now)) and made.products:
        made = replace(made, expiry=moment(end))
    text = report.text(made, settings.web.address)
    record = {
        "phase": phase.value,
        "why": why,
        "ended": now,
        "subject": report.subject(made),
        "figures": [[figure.label, figure.value, figure.unit] for figure in made.figures],
        "dropped": [[each.exposure, each.why] for each in made.dropped],
        "steps": {step.folder: run.state[step.number].value for step in run.plan.steps},
    }
    if phase is not Phase.HELD:
        capsule.close(record, text, products(run))
    if run.mail:
        _mail(settings, spool, run, phase, made, now)
    return why


def _mail(settings: Settings, spool: Spool, run: Run, phase: Phase, made: Report, now: float) -> None:
    key = f"{run.process:06d}-run{run.number}-{phase.folder}"
    try:
        outbox.put(spool.folder("outbox"), key, report.message(made, settings, run.mail), now)
    except SpicaError as error:
        log.error("%s: no report can be mailed: %s", about(run), error)


def _why(run: Run, phase: Phase) -> str:
    if phase is Phase.ABORTED:
        return f"cancelled by {run.cancelled_by}"
    if phase is Phase.HELD:
        return run.held_why
    if phase is Phase.ERROR:
        failed = run.first_failure()
        if failed is None:
            return "; ".join(dict.fromkeys(run.lost.values())) or "no step could run"
        step, outcome = failed
        culprit = run.plan.labels.get(outcome.culprit or (step.stems[0] if len(step.stems) == 1 else ""), "")
        return f"{step.application}{f' on {culprit}' if culprit else ''}: {outcome.why}"
    dropped = len(run.lost)
    return f"{dropped} of {len(run.plan.exposures)} exposures dropped" if dropped else ""


def expiry(settings: Settings, run: Run, phase: Phase, now: float) -> float | None:
    """When the products of a run that ends now will go, unless somebody keeps them."""
    if phase is Phase.HELD:
        return None
    return retention.usual_end(phase, run.owner.group, now, retention.Terms.of(settings))


def products(run: Run) -> list[Made]:
    return [
        made
        for step in run.plan.steps
        if run.state[step.number] in GOOD_STATES
        for made in run.outcome[step.number].made
        if made.keep
    ]


def dropped_exposures(run: Run) -> list[report.Dropped]:
    planned = [
        report.Dropped(each.exposure, f"{each.task}: {each.why}" if each.task else each.why)
        for each in run.plan.dropped
    ]
    return planned + [report.Dropped(run.plan.labels.get(stem, stem), why) for stem, why in run.lost.items()]


def _report(run: Run, capsule: Capsule, phase: Phase, why: str, node: str, now: float) -> Report:
    made = sorted(products(run), key=lambda each: -each.bytes)
    return Report(
        process=run.process,
        name=run.name,
        owner=run.owner.user,
        run=run.number,
        phase=phase,
        rules=run.rules,
        submitted=moment(run.submitted),
        started=moment(run.started),
        ended=moment(now),
        nodes=tuple(sorted({outcome.node for outcome in run.outcome.values() if outcome.node})) or (node,),
        kept=tuple(
            label for stem, label in run.plan.labels.items() if stem not in run.lost and stem in run.plan.exposures
        ),
        dropped=tuple(dropped_exposures(run)),
        steps=Steps(
            run.count((StepState.DONE,)),
            run.count((StepState.REUSED,)),
            run.count((StepState.FAILED,)),
            run.count((StepState.SKIPPED,)),
        ),
        figures=tuple(key_figures(run)),
        products=tuple(Product(each.path, each.bytes) for each in made),
        folder=str(capsule.folder),
        failure=_failure(run, capsule, phase, why),
        warnings=run.plan.notes[:20],
    )


def _failure(run: Run, capsule: Capsule, phase: Phase, why: str) -> report.Failure | None:
    if phase is Phase.COMPLETED:
        return None
    failed = run.first_failure()
    if failed is None or phase is not Phase.ERROR:
        return report.Failure(why)
    step, outcome = failed
    culprit = outcome.culprit or (step.stems[0] if len(step.stems) == 1 else "")
    return report.Failure(
        why=outcome.why,
        task=f"{step.application} ({step.label})",
        last_words="\n".join(outcome.last_words),
        exposure=run.plan.labels.get(culprit, ""),
        log=str(capsule.step(step) / "log"),
    )


def reusable(outcome: Outcome, folder: Path) -> dict[str, Any]:
    return {"folder": str(folder), "outcome": outcome_record(outcome)}


def last_recipe(results: Path, process: int, job: Job, accepted: Accepted, desk: Desk) -> Vetted | None:
    """What the last run that got a recipe was made of, for an exact repetition; None when there was none."""
    for number in range(accepted.run - 1, 0, -1):
        capsule = Capsule(folder_of(results, accepted.owner, process, job.name, number))
        if capsule.is_sealed:
            return recipe_of(capsule, job, desk)
    return None


def recipe_of(capsule: Capsule, job: Job, desk: Desk) -> Vetted:
    """The same plan and configurations, with the tools as they are installed now: the new run's record names these."""
    setups, applications = capsule.load_setups()
    setups = {task: replace(setup, tool=desk.tool(applications[setup.application])) for task, setup in setups.items()}
    run = capsule.load()
    facts = capsule.read_json("run.json")
    rules = Rules(facts["rules"], facts["summary"], (), capsule.read("rules.toml").decode())
    return Vetted(job, rules, run.plan, setups)


def mail_unstarted(
    settings: Settings, spool: Spool, process: int, text: str, accepted: Accepted, phase: Phase, why: str, now: float
) -> None:
    """The report of a process that ended without a run."""
    from spicad.people import person_named

    try:
        job = parse(text, accepted.drop)
    except SpicaError:
        return
    assert isinstance(job, Job)
    owner = person_named(accepted.owner, accepted.group, accepted.rank)
    to = address_of(job.mail, owner, settings)
    if not to:
        return
    made = Report(
        process=process,
        name=job.name,
        owner=owner.user,
        run=accepted.run,
        phase=phase,
        rules=job.rules,
        submitted=moment(accepted.submitted),
        ended=moment(now),
        failure=report.Failure(why),
    )
    key = f"{process:06d}-run{accepted.run}-{phase.folder}"
    try:
        outbox.put(spool.folder("outbox"), key, report.message(made, settings, to), now)
    except SpicaError as error:
        log.error("process %d: no report can be mailed: %s", process, error)


def mail_refused(settings: Settings, spool: Spool, name: str, to: str, why: str, now: float) -> None:
    """A drop that names an address is answered there too, not only in rejected/."""
    if not to or outbox.address_problem(to):
        return
    text = f"Your job file {name} was not taken.\n\n{why}\n\nMend it and drop it again.\n"
    message = outbox.compose(settings, to, f"Spica: {name} was not taken", text)
    key = f"refused-{hashlib.sha256(repr((name, to, why)).encode()).hexdigest()[:12]}"
    outbox.put(spool.folder("outbox"), key, message, now)


def moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)

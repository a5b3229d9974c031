"""The capsule of a run: the folder that holds everything that decides its outcome, then what came of it.

recipe.txt              one part after another, see parts.py:
                          run.json job.spica rules.toml                what was asked for
                          configuration/00-sextractor/...              descriptor, configuration in force, stored files,
                                                                       who set what
                          plan.json                                    what was made of it
steps/0001-sextractor/  step.json (command, digests of its inputs, content key), launch.json, status, log, outcome.json;
                        while it runs cfg/ in/ job/
work/                   prepared exposures, gone when the run is over
products/               what is kept, with its list in manifest.json; made with the first of them
outcome.json report.txt how the run ended, for programs and in words
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spicad import __version__
from spicad.applications.configuration import Effective
from spicad.applications.descriptor import Application, parse_application
from spicad.applications.tools import Tool, as_record
from spicad.archive.headers import Ccd, Exposure
from spicad.desk import Setup, Vetted
from spicad.durable import make_folders, remove_tree, replace_file, write_file
from spicad.parts import RECIPE, joined, read, setups_in
from spicad.people import person_named
from spicad.plan import Dropped, Plan, PlannedFile, PlannedStep, Source
from spicad.run import Made, Outcome, Run
from spicad.words import Ending, SpicaError, StepState


@dataclass(frozen=True)
class Capsule:
    folder: Path

    @property
    def products(self) -> Path:
        return self.folder / "products"

    @property
    def work(self) -> Path:
        return self.folder / "work"

    def step(self, step: PlannedStep) -> Path:
        return self.folder / "steps" / step.folder

    # ------------------------------------------------------------------ at the start

    def write(self, vetted: Vetted, run: Run, applications: Mapping[str, Application], node: str) -> None:
        """Everything that decides the outcome, before the first step begins: one file, which seals it."""
        facts = {
            "spica": __version__,
            "process": run.process,
            "run": run.number,
            "name": run.name,
            "owner": run.owner.user,
            "group": run.owner.group,
            "rank": int(run.owner.rank),
            "submitted": run.submitted,
            "started": run.started,
            "fresh": run.is_fresh,
            "mail": run.mail,
            "locality": run.locality,
            "node": node,
            "rules": run.rules,
            "summary": vetted.rules.summary,
        }
        parts = {"run.json": _json(facts), "job.spica": vetted.job.text.encode()}
        parts["rules.toml"] = vetted.rules.text.encode()
        for task, setup in vetted.setups.items():
            parts |= _setup_parts(task, setup, applications[setup.application])
        parts["plan.json"] = _json(_plan_record(vetted.plan))
        title = f"What decides the outcome of process {run.process}, {run.name}, run {run.number}"
        make_folders(self.folder.parent, self.folder)
        replace_file(f"{self.folder}/{RECIPE}", joined(title, parts), is_synced=False)

    # ------------------------------------------------------------------ after a restart

    @property
    def is_sealed(self) -> bool:
        return any((self.folder / name).exists() for name in (RECIPE, "plan.json"))

    def read(self, name: str) -> bytes:
        """What decides the outcome, by its name; what came of it too. Raises SpicaError."""
        try:
            return read(self.folder, name)
        except OSError as error:
            raise SpicaError(f"{self.folder / name}: cannot be read: {error}") from None

    def read_json(self, name: str) -> Any:
        try:
            return json.loads(self.read(name))
        except ValueError as error:
            raise SpicaError(f"{self.folder / name}: cannot be read: {error}") from None

    def load(self) -> Run:
        """The run as it stood when the daemon went away: ended steps with their outcomes, the others waiting."""
        facts = self.read_json("run.json")
        plan = _plan_from(self.read_json("plan.json"))
        setups, applications = self.load_setups()
        run = Run(
            process=facts["process"],
            number=facts["run"],
            name=facts["name"],
            owner=person_named(facts["owner"], facts["group"], facts["rank"]),
            plan=plan,
            setups=setups,
            applications=applications,
            started=facts["started"],
            submitted=facts["submitted"],
            is_fresh=facts["fresh"],
            mail=facts["mail"],
            locality=facts.get("locality", 1.0),
            rules=facts.get("rules", ""),
        )
        begun = self._begun()
        for step in plan.steps:
            outcome = self.outcome(step)
            run.attempt[step.number] = begun[step.folder]
            if outcome and outcome.ending is not Ending.TRY_AGAIN:
                run.end(step, outcome, attempts=1 << 30)
        return run

    def load_setups(self) -> tuple[dict[int, Setup], dict[str, Application]]:
        setups, applications = {}, {}
        for name in setups_in(self.folder):
            folder = name.rpartition("/")[0]
            record = self.read_json(name)
            application = record["application"]
            text = self.read(f"{folder}/descriptor.toml").decode()
            applications[application] = parse_application(text, self.folder / folder / f"{application}.toml")
            tool = record["tool"]
            effective = None
            if "settings" in record:
                settings = {keyword: (value, origin) for keyword, (value, origin) in record["settings"].items()}
                effective = Effective(application, settings, frozenset(record["written"]))
            setups[_task_of(folder.partition("/")[2])] = Setup(
                application,
                Tool(tool["name"], Path(tool["path"]), tool["version"], tuple(tool["program"])),
                effective,
                {each: self.read(f"{folder}/{each}") for each in record["stored"]},
            )
        return setups, applications

    # ------------------------------------------------------------------ told to stop

    def let_stand(self, order: str, who: str) -> None:
        """A run ends its steps before it is held or aborted: until then the order outlives the daemon here."""
        _write_record(self.folder / "order.json", {"order": order, "who": who}, is_durable=True)

    def standing_order(self) -> tuple[str, str]:
        """("hold" or "cancel", who), or two empty texts."""
        try:
            record = self.read_json("order.json")
            return str(record["order"]), str(record["who"])
        except (SpicaError, KeyError, TypeError):
            return "", ""

    def withdraw_order(self) -> None:
        (self.folder / "order.json").unlink(missing_ok=True)

    # ------------------------------------------------------------------ steps

    def open_step(self, step: PlannedStep) -> tuple[Path, int]:
        """An empty folder for the next attempt, and its number; an earlier one is put aside, never reused."""
        folder = self.step(step)
        attempt = self.attempts(step) + 1
        if attempt > 1:
            with suppress(FileNotFoundError):
                os.rename(folder, folder.with_name(f"{folder.name}.attempt-{attempt - 1}"))
        make_folders(folder.parent, folder)
        os.mkdir(f"{folder}/job")
        return folder, attempt

    def attempts(self, step: PlannedStep) -> int:
        """How often the step has been begun."""
        return self._begun()[step.folder]

    def _begun(self) -> Counter[str]:
        """The same of all steps, by folder."""
        found: Counter[str] = Counter()
        with suppress(FileNotFoundError):
            found.update(name.partition(".attempt-")[0] for name in os.listdir(self.folder / "steps"))
        return found

    def put_aside(self, step: PlannedStep, outcome: Outcome) -> None:
        _write_record(self.step(step) / "interrupted.json", outcome_record(outcome), is_durable=False)

    def close_step(self, step: PlannedStep, outcome: Outcome) -> None:
        """The step has ended for good: outcome.json, durable."""
        folder = self.step(step)
        os.makedirs(folder, exist_ok=True)
        _write_record(folder / "outcome.json", outcome_record(outcome), is_durable=bool(outcome.made))

    def outcome(self, step: PlannedStep) -> Outcome | None:
        try:
            record = json.loads((self.step(step) / "outcome.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return outcome_from(record)

    # ------------------------------------------------------------------ at the end

    def close(self, record: Mapping[str, Any], report: str, products: Iterable[Made]) -> None:
        """manifest, where there are products, report and outcome; the working files go."""
        manifest = {made.path.removeprefix("products/"): [made.bytes, made.digest] for made in products}
        if manifest:
            write_file(f"{self.folder}/manifest.json", _json(manifest))
        write_file(f"{self.folder}/report.txt", report)
        _write_record(self.folder / "outcome.json", record, is_durable=True)
        remove_tree(self.work)


def folder_of(results: Path, user: str, process: int, name: str, run: int) -> Path:
    return results / user / f"{process:06d}-{name}" / f"run-{run}"


def _setup_parts(task: int, setup: Setup, application: Application) -> dict[str, bytes]:
    folder = f"configuration/{_setup_name(task, setup.application)}"
    record: dict[str, Any] = {"application": setup.application, "tool": as_record(setup.tool)}
    parts = {f"{folder}/descriptor.toml": application.text.encode()}
    if setup.effective is not None:
        record["settings"] = setup.effective.settings
        record["written"] = sorted(setup.effective.written)
        parts[f"{folder}/{setup.application}.conf"] = setup.effective.text().encode()
    record["stored"] = sorted(setup.stored)
    parts |= {f"{folder}/{name}": content for name, content in setup.stored.items()}
    return parts | {f"{folder}/setup.json": _json(record)}


def _setup_name(task: int, application: str) -> str:
    return f"{task:02d}-{application}" if task >= 0 else f"p{-task}-{application}"


def _task_of(name: str) -> int:
    number = name.partition("-")[0]
    return -int(number[1:]) if number.startswith("p") else int(number)


def _write_record(path: Path, record: Any, is_durable: bool) -> None:
    replace_file(path, _json(record), is_durable)


def _json(record: Any) -> bytes:
    return json.dumps(record, default=str).encode()


def outcome_record(outcome: Outcome) -> dict[str, Any]:
    return vars(outcome) | {"metrics": dict(outcome.metrics), "made": [vars(made) for made in outcome.made]}


def outcome_from(record: Mapping[str, Any]) -> Outcome:
    values = dict(record)
    values["state"] = StepState(values["state"])
    values["ending"] = Ending(values["ending"])
    values["made"] = tuple(Made(**made) for made in values["made"])
    values["stems"] = tuple(values["stems"])
    values["last_words"] = tuple(values["last_words"])
    return Outcome(**values)


def _plan_record(plan: Plan) -> dict[str, Any]:
    return {
        "steps": [vars(step) | {"files": _files_record(step)} for step in plan.steps],
        "labels": dict(plan.labels),
        "exposures": {stem: _exposure_record(exposure) for stem, exposure in plan.exposures.items()},
        "dropped": [vars(dropped) for dropped in plan.dropped],
        "notes": plan.notes,
        "forecast_bytes": plan.forecast_bytes,
        "calibration": plan.calibration,
    }


def _files_record(step: PlannedStep) -> dict[str, list[list[Any]]]:
    return {
        name: [[file.stem, file.source.path, file.source.step, file.source.output] for file in files]
        for name, files in step.files.items()
    }


def _exposure_record(exposure: Exposure) -> dict[str, Any]:
    return vars(exposure) | {"ccds": [vars(ccd) for ccd in exposure.ccds]}


def _plan_from(record: Mapping[str, Any]) -> Plan:
    return Plan(
        steps=tuple(_step_from(each) for each in record["steps"]),
        labels=record["labels"],
        exposures={stem: _exposure_from(each) for stem, each in record["exposures"].items()},
        dropped=tuple(Dropped(**each) for each in record["dropped"]),
        notes=tuple(record["notes"]),
        forecast_bytes=record["forecast_bytes"],
        calibration=tuple(record.get("calibration", ())),
    )


def _step_from(record: Mapping[str, Any]) -> PlannedStep:
    values = dict(record)
    values["files"] = {
        name: tuple(PlannedFile(stem, Source(path, step, output)) for stem, path, step, output in files)
        for name, files in record["files"].items()
    }
    values["stems"] = tuple(record["stems"])
    values["needs"] = tuple(record["needs"])
    return PlannedStep(**values)


def _exposure_from(record: Mapping[str, Any]) -> Exposure:
    values = dict(record)
    values["path"] = Path(values["path"])
    values["warnings"] = tuple(values["warnings"])
    values["ccds"] = tuple(_ccd_from(ccd) for ccd in values["ccds"])
    return Exposure(**values)


def _ccd_from(record: Mapping[str, Any]) -> Ccd:
    values = dict(record)
    values["crval"] = tuple(values["crval"]) if values["crval"] else None
    values["corners"] = tuple(tuple(corner) for corner in values["corners"])
    return Ccd(**values)

"""`spica plan`: the steps a job would run, exposures kept and dropped with reasons, the disk forecast; nothing runs."""

from __future__ import annotations

import argparse
from dataclasses import asdict

from spicad import config, report
from spicad.commands.lint import job_from, looked_over
from spicad.commands.printing import one_line, print_json, print_table, styled
from spicad.desk import Vetted


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", help="the job file, see spica-job(5); - reads standard input")
    parser.add_argument("--json", action="store_true", help="for programs")


def run(arguments: argparse.Namespace) -> int:
    settings = config.load()
    job, _ = job_from(arguments.file, settings)
    vetted = looked_over(job, settings)
    if arguments.json:
        print_json(as_record(vetted))
    else:
        _print(vetted)
    return 0


def as_record(vetted: Vetted) -> dict[str, object]:
    plan = vetted.plan
    return {
        "name": vetted.job.name,
        "rules": vetted.rules.title,
        "steps": [
            {
                "number": step.number,
                "application": step.application,
                "label": step.label,
                "exposures": [plan.labels.get(stem, stem) for stem in step.stems],
                "after": step.needs,
                "threads": step.threads,
                "memory_mb": step.memory_mb,
                "time_s": step.time_s,
            }
            for step in plan.steps
        ],
        "exposures": {label: str(plan.exposures[stem].path) for stem, label in sorted(plan.labels.items())},
        "stacking_set": [label for stem, label in sorted(plan.labels.items()) if stem not in plan.calibration],
        "calibration_set": [plan.labels[stem] for stem in plan.calibration],
        "dropped": [asdict(each) for each in plan.dropped],
        "notes": plan.notes,
        "forecast_bytes": plan.forecast_bytes,
        "tools": {setup.application: f"{setup.tool.path} {setup.tool.version}" for setup in vetted.setups.values()},
    }


def _print(vetted: Vetted) -> None:
    plan = vetted.plan
    print(styled(f"{vetted.job.name}: {vetted.rules.title}", "1"))
    if vetted.rules.summary:
        print(vetted.rules.summary)
    print()
    rows = []
    for step in plan.steps:
        after = ", ".join(map(str, step.needs[:6])) + (", ..." if len(step.needs) > 6 else "")
        rows.append([str(step.number), step.application, step.label, str(len(step.stems)), after or "-"])
    print_table(rows, ("step", "application", "on", "exposures", "after"), right=("step", "exposures"))
    stacking, calibration = len(plan.labels) - len(plan.calibration), len(plan.calibration)
    print(f"\nstacking set: {stacking} exposures; calibration set: these and {calibration} more")
    print(f"{len(plan.labels)} exposures kept, {len({each.exposure for each in plan.dropped})} dropped")
    for each in plan.dropped:
        print(one_line(f"{each.exposure}: " + (f"not in {each.task}: " if each.task else "") + each.why))
    for note in plan.notes:
        print(one_line(f"note: {note}"))
    print(f"disk forecast: at most about {report.size(plan.forecast_bytes)}")

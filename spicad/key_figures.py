"""The key figures of a run: what its applications' descriptors say should be told, over all steps of each task."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import median

from spicad.applications.descriptor import Metric
from spicad.plan import PlannedStep
from spicad.report import Figure
from spicad.run import GOOD_STATES, Run

OVER_STEPS: dict[str, tuple[str, Callable[[Sequence[float]], float]]] = {
    "sum": ("in all", sum),
    "median": ("median of the exposures", median),
    "least": ("least", min),
    "most": ("most", max),
}


def key_figures(run: Run) -> list[Figure]:
    """In the order of the tasks and of their descriptors."""
    found: list[Figure] = []
    for task in sorted({step.task for step in run.plan.steps if step.task >= 0}):
        steps = [step for step in run.plan.steps if step.task == task and run.state[step.number] in GOOD_STATES]
        for metric in run.application(steps[0]).metrics.values() if steps else ():
            if metric.report:
                found += _told(
                    metric, run.application(steps[0]).title, [(step, _value(run, step, metric)) for step in steps]
                )
    return found


def _value(run: Run, step: PlannedStep, metric: Metric) -> float | None:
    value = run.outcome[step.number].metrics.get(metric.name)
    return float(value) if isinstance(value, int | float) else None


def _told(metric: Metric, title: str, values: Sequence[tuple[PlannedStep, float | None]]) -> list[Figure]:
    first = metric.help[:1] if metric.help[1:2].isupper() else metric.help[:1].lower()  # CCDs, SNR
    label = f"{title}: {first}{metric.help[1:]}"
    known = [(step, value) for step, value in values if value is not None]
    if len(values) == 1 or metric.report == "each":
        several = len(values) > 1
        return [Figure(f"{label}, {step.label}" if several else label, value, metric.unit) for step, value in known]
    words, over = OVER_STEPS[metric.report]
    return [Figure(f"{label}, {words}", over([value for _, value in known]), metric.unit)] if known else []

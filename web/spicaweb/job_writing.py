"""The name and the job file of a new process, from what its draft holds; and back, to copy an earlier one.

What is right is judged by spicad/desk.py, as for any job file; which configurations there are is configurations.py's
affair, where drafts lie drafts.py's.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from spicad.applications import configuration as tool_configuration
from spicad.jobfile import MOST_BYTES, NAME, Job, parse
from spicad.schema import as_toml
from spicad.tables import Process
from spicad.words import BadInput, Problem
from spicaweb import configurations
from spicaweb.drafts import Recipe

ROOM = 1024  # for what the site adds to a job file


# ---------------------------------------------------------------------- names


def as_name(words: str) -> str:
    """Free text as the name of a process: what cannot stand in one becomes _."""
    return re.sub(r"[^A-Za-z0-9._+-]+", "_", words.strip()).strip("._-+")[:100]


def name_problem(name: str, owner: str) -> str:
    """'' or why this name cannot be taken."""
    if not NAME.fullmatch(name):
        mend = as_name(name)
        return "A name has letters, digits and . _ + -, at most 100." + (f" For example: {mend}" if mend else "")
    if Process.select().where((Process.owner == owner) & (Process.name == name)).exists():
        return f"You have a process {name} already. For example: {free_name(name, owner)}"
    return ""


def free_name(name: str, owner: str) -> str:
    """NAME-2 and so on, the first that is free."""
    plain = re.sub(r"-\d{1,6}$", "", name)[:92]
    query: Any = Process.select(Process.name).where((Process.owner == owner) & Process.name.startswith(plain))
    taken = {each for (each,) in query.tuples()}
    return next(f"{plain}-{number}" for number in range(2, 10**6) if f"{plain}-{number}" not in taken)


# ---------------------------------------------------------------------- the job file


def job_text(recipe: Recipe, visible: configurations.Visible) -> str:
    """The whole job file. Raises BadInput naming what cannot be put into one."""
    chosen, texts = _carried(recipe, visible)
    lines = [
        f"name = {as_toml(recipe.name)}",
        f"exposures = {_list(recipe.exposures)}",
        *([f"calibration = {_list(recipe.calibration)}"] if recipe.calibration else []),
        f"rules = {as_toml(recipe.rules)}",
        *(f"{key} = {as_toml(value)}" for key in ("weight", "reference", "mail") if (value := getattr(recipe, key))),
    ]
    if chosen:
        lines += ["", "[configuration]", *(f"{_key(name)} = {as_toml(value)}" for name, value in chosen.items())]
    for application, keywords in settings_of(recipe).items():
        lines += ["", f"[set.{_key(application)}]", *(f"{name} = {as_toml(value)}" for name, value in keywords.items())]
    if texts:
        lines += ["", "[texts]", *(f"{_key(name)} = {as_toml(text)}" for name, text in texts.items())]
    whole = "\n".join([*lines, "", "[end]", ""])
    if len(whole.encode()) > MOST_BYTES - ROOM:
        what = f"the job file has {len(whole.encode())} bytes; at most {MOST_BYTES - ROOM} fit."
        raise BadInput(
            Problem(recipe.name, what, "Use patterns instead of single exposures, or shorter configurations.")
        )
    return whole


def settings_of(recipe: Recipe) -> dict[str, dict[str, str]]:
    """Keywords on top of the configurations, by application. Raises BadInput with their lines."""
    problems: list[Problem] = []
    found: dict[str, dict[str, str]] = {}
    for application, text in recipe.keywords.items():
        try:
            values = tool_configuration.parse(text.replace("\r\n", "\n"), f"keywords of {application}").values
        except BadInput as error:
            problems += error.problems
            continue
        if values:
            found[application] = dict(values)
    if problems:
        raise BadInput(problems)
    return found


def _carried(recipe: Recipe, visible: configurations.Visible) -> tuple[dict[str, str], dict[str, str]]:
    """What [configuration] names, and the texts that travel within the job file."""
    chosen: dict[str, str] = {}
    texts: dict[str, str] = {}
    problems: list[Problem] = []
    for application, choice in recipe.configuration.items():
        if not choice:
            continue
        version = visible.version(choice)
        if version is None and choice.startswith("#"):
            problems.append(Problem(application, "the configuration chosen is not there any more.", "Choose another."))
            continue
        chosen[application] = version.carried_as if version else choice
        if version:
            texts[version.carried_as] = version.text
            texts |= visible.files_named_in(version)
    if recipe.rules:
        rules = visible.rules(recipe.rules)
        if rules is not None:
            texts[recipe.rules] = rules
    if problems:
        raise BadInput(problems)
    return chosen, texts


def _list(values: Sequence[str]) -> str:
    return "[\n" + "".join(f"  {as_toml(each)},\n" for each in values) + "]"


def _key(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else as_toml(name)


# ---------------------------------------------------------------------- copying


def recipe_from(text: str, source: str, name: str) -> Recipe:
    """Of an earlier process's job file: to be changed and run again. What it carried within stays out."""
    job = parse(text, source)
    if not isinstance(job, Job):
        raise BadInput(Problem(source, "this is an order, not a job."))
    keywords = {
        application: "".join(f"{keyword} {value}\n" for keyword, value in values.items())
        for application, values in job.set.items()
    }
    return Recipe(
        name=name,
        exposures=job.exposures,
        calibration=job.calibration,
        weight=job.weight,
        reference=job.reference,
        rules=job.rules,
        configuration=dict(job.configuration),
        keywords=keywords,
        mail=job.mail,
        copied_from=source,
    )

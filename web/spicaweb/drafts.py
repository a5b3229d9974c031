"""Drafts of processes: what was filled in so far, kept in the tables, and the job file that comes of it.

A draft gets its processid when the daemon has taken its job file. What is right is judged by spicad/desk.py, as for any
job file; which configurations there are is configurations.py's affair.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from spicad.applications import configuration as tool_configuration
from spicad.jobfile import MOST_BYTES, NAME, Job, parse
from spicad.spool import as_toml
from spicad.tables import Draft, Process
from spicad.words import BadInput, Phase, Problem
from spicaweb import configurations

CLAIMED = "being handed over"
MOST_DRAFTS = 100  # of one account
KEYWORDS_TEXT = 8000
KEEP_S = 30 * 86_400.0  # of one that was handed over
ROOM = 1024  # for what the site adds to a job file


@dataclass(frozen=True)
class Recipe:
    """What the steps of a new process have filled in; all as typed, checked when it is looked over."""

    name: str = ""
    exposures: tuple[str, ...] = ()
    calibration: tuple[str, ...] = ()
    weight: str = "auto"
    reference: str = ""
    rules: str = ""
    configuration: Mapping[str, str] = field(default_factory=dict)  # application: "#12" of the tables, or a name
    keywords: Mapping[str, str] = field(default_factory=dict)  # application: lines KEYWORD value
    mail: str = ""
    copied_from: str = ""  # 12.1


@dataclass(frozen=True)
class Kept:
    """A draft as it lies in the tables."""

    id: int
    account: int
    name: str
    changed: float
    recipe: Recipe
    handed_over: str = ""  # the token, once it was; see handing.py

    @property
    def phase(self) -> str:
        return Phase.PENDING.value


def begun(account: int, recipe: Recipe, now: float) -> int:
    """Raises BadInput when there are too many."""
    Draft.delete().where((Draft.handed_over != "") & (Draft.changed < now - KEEP_S)).execute()
    if Draft.select().where((Draft.account == account) & (Draft.handed_over == "")).count() >= MOST_DRAFTS:
        raise BadInput(Problem("drafts", f"you have {MOST_DRAFTS} already.", "Throw some away first."))
    made: Draft = Draft.create(account=account, name=recipe.name, recipe=_words(recipe), made=now, changed=now)
    return int(made.id)


def draft(number: int, account: int) -> Kept | None:
    row = Draft.get_or_none((Draft.id == number) & (Draft.account == account))
    return _kept(row) if row else None


def all_of(account: int) -> list[Kept]:
    """Those that are not handed over, the last changed first."""
    query = Draft.select().where((Draft.account == account) & (Draft.handed_over == ""))
    return [_kept(row) for row in query.order_by(Draft.changed.desc()).limit(MOST_DRAFTS)]


def kept(number: int, recipe: Recipe, now: float) -> None:
    Draft.update(name=recipe.name, recipe=_words(recipe), changed=now).where(Draft.id == number).execute()


def is_claimed(number: int, now: float) -> bool:
    """Whether this request is the one that hands it over: two clicks on Run make one process."""
    free = (Draft.id == number) & (Draft.handed_over == "")
    return bool(Draft.update(handed_over=CLAIMED, changed=now).where(free).execute())


def is_known_as(number: int, token: str) -> None:
    """The token to ask what became of it."""
    Draft.update(handed_over=token).where(Draft.id == number).execute()


def was_refused(number: int) -> None:
    """It can be mended and handed over again."""
    Draft.update(handed_over="").where(Draft.id == number).execute()


def thrown_away(number: int) -> None:
    Draft.delete().where(Draft.id == number).execute()


def _kept(row: Draft) -> Kept:
    known = {each.name for each in fields(Recipe)}
    said = {name: value for name, value in json.loads(row.recipe).items() if name in known}
    lists = {name: tuple(said.get(name, ())) for name in ("exposures", "calibration")}
    return Kept(row.id, row.account, row.name, row.changed, Recipe(**{**said, **lists}), row.handed_over)


def _words(recipe: Recipe) -> str:
    return json.dumps(asdict(recipe), ensure_ascii=False)


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

"""Job files and order files: what a user may write in NAME.spica, parsed and checked without looking at any image.

spica-job(5) is checked against JOB_KEYS. Taking a file from the spool is spool.py's affair, planning it is plan.py's.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time
from typing import Any

from spicad.archive.picks import SELECT_KEYS, Picks
from spicad.outbox import address_problem
from spicad.rules import Rules, condition, keyword_settings, rules_from
from spicad.schema import LARGEST, REQUIRED, Document, Key, checked, read_toml, shown
from spicad.words import BadInput, Problem, nearest

MOST_BYTES = 64 * 1024
YEARS = range(1970, 2201)
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,99}")

JOB_KEYS = (
    Key("name", "text", REQUIRED, "A name for the process: letters, digits and . _ + -, at most 100"),
    Key("exposures", "list of texts", [], "Paths, globs, or names in the archive, of the exposures to reduce"),
    Key("select", "table", None, "Exposures of the archive by place and columns, see SELECTING"),
    Key(
        "calibration",
        "list of texts",
        [],
        "Paths, globs, or names in the archive, of further exposures that a task may be widened with",
    ),
    Key("rules", "text", "", "Name of a rules file, or a file beside this one"),
    Key("task", "list of tables", [], "Tasks written here instead of in a rules file"),
    Key(
        "configuration", "table of texts", {}, "For an application: name of a configuration, or a file beside this one"
    ),
    Key("set", "table of tables", {}, "For an application: single keywords, on top of its configuration"),
    Key("weight", "text", "auto", 'Weight map: a path, a pattern with {stem} and {folder}, "auto" or "none"'),
    Key("reference", "text", "", "Reference catalogue (FITS LDAC) for the astrometric solution"),
    Key("mail", "text", "", "Where the report goes"),
    Key(
        "not_before", "date and time", None, "The process does not start before this time (UTC unless it has an offset)"
    ),
    Key("texts", "table of texts", {}, "Configurations and rules carried in this file, by file name"),
    Key("web", "table of texts", {}, "Written by the site alone: whose drop this is"),
    Key("end", "table", REQUIRED, "The last line of a whole job file is [end]"),
)

ORDERS = ("hold", "release", "cancel", "rerun", "keep", "rebuild", "delete")  # about a process
NODE_ORDERS = ("drain", "undrain", "sweep")  # about the node, and about all that is to be deleted
SELECTION_ORDERS = ("save-selection", "share-selection", "unshare-selection", "delete-selection")
TAG_ORDERS = ("put-tag", "take-tag")
GRADE_ORDERS = ("grade", "take-grade-back", "take-grades")
ORDER_KEYS = (
    Key(
        "order",
        "text",
        REQUIRED,
        "What to do",
        choices=ORDERS + NODE_ORDERS + SELECTION_ORDERS + TAG_ORDERS + GRADE_ORDERS,
    ),
    Key("process", "integer", 0, "The processid; for drain, undrain and sweep none", minimum=1, maximum=LARGEST),
    Key("fresh", "yes or no", False, "For rerun: from the recipe of the last run, reusing no finished step"),
    Key("days", "number", 0, "For keep: days from now; 0: as long as may be", minimum=0, maximum=36525),
    Key("selection", "text", "", "For orders about one of the archive: its name"),
    Key("tag", "text", "", "For put-tag and take-tag: the tag"),
    Key("exposures", "text", "", "For save-selection, tags and grade: numbers of exposures, such as 12,40-55"),
    Key("share", "yes or no", False, "For save-selection: the group may use it"),
    Key("replace", "yes or no", False, "For save-selection: instead of the one of that name"),
    Key("grade", "text", "", "For grade: A, B, C or D"),
    Key("comments", "list of texts", [], "For grade: some of the usual ones"),
    Key("list", "text", "", "For take-grades: lines as spica grade export writes them"),
    Key("why", "text", "", "The reason, kept with the event or the selection; for grade: the grader's own words"),
    Key("web", "table of texts", {}, "Written by the site alone: whose drop this is"),
    Key("end", "table", REQUIRED, "The last line of a whole file is [end]"),
)


@dataclass(frozen=True)
class Job:
    """A job file as its user wrote it, checked."""

    source: str
    text: str = field(repr=False)
    name: str
    exposures: tuple[str, ...]
    select: Mapping[str, Any] | None = None
    calibration: tuple[str, ...] = ()
    rules: str = ""
    own_rules: Rules | None = None
    configuration: Mapping[str, str] = field(default_factory=dict)
    set: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    weight: str = "auto"
    reference: str = ""
    mail: str = ""
    not_before: float = 0.0
    texts: Mapping[str, str] = field(default_factory=dict)
    web: Mapping[str, str] = field(default_factory=dict)
    picks: Picks | None = None  # of the archive, as they were when the job was accepted


@dataclass(frozen=True)
class Order:
    """A wish about an existing process, dropped like a job file."""

    source: str
    order: str
    process: int
    fresh: bool = False
    why: str = ""
    token: str = ""  # of its drop
    days: float = 0.0
    selection: str = ""
    tag: str = ""
    exposures: str = ""
    share: bool = False
    replace: bool = False
    grade: str = ""
    comments: tuple[str, ...] = ()
    list: str = ""
    web: Mapping[str, str] = field(default_factory=dict)


def is_whole(text: str) -> bool:
    """Whether the last line that says anything is [end]."""
    return text.rstrip().rpartition("\n")[2].strip() == "[end]"


def without_end(text: str) -> str:
    return text.rstrip().rpartition("\n")[0] + "\n"


def parse(text: str, source: str) -> Job | Order:
    """Raises BadInput with all problems. `source` is the name that a person knows the file by."""
    if not is_whole(text):
        raise BadInput(
            Problem(source, "the last line is not [end].", "Add a last line [end]: half a copy is never taken.")
        )
    document = read_toml(text, source)
    if "order" in document.table:
        values = checked(document, ORDER_KEYS)
        if values["order"] in ORDERS and not values["process"]:
            raise BadInput(document.problem(("order",), 'the key "process" is missing.', "Add: process = PROCESSID"))
        if values["order"] in SELECTION_ORDERS and not values["selection"]:
            raise BadInput(document.problem(("order",), 'the key "selection" is missing.', 'Add: selection = "NAME"'))
        if values["order"] in TAG_ORDERS and not values["tag"]:
            raise BadInput(document.problem(("order",), 'the key "tag" is missing.', 'Add: tag = "NAME"'))
        if values["order"] == "grade" and not values["grade"]:
            raise BadInput(document.problem(("order",), 'the key "grade" is missing.', 'Add: grade = "B"'))
        given = {key.name: values[key.name] for key in ORDER_KEYS if key.name != "end"}
        return Order(source, **given | {"comments": tuple(values["comments"])})
    return _job(document)


def _job(document: Document) -> Job:
    problems: list[Problem] = []
    values = checked(document, JOB_KEYS, problems=problems)
    if not document.table.keys() & {"exposures", "select"}:
        what = '"exposures" is missing.'
        problems.append(Problem(document.source, what, "Name at least one, or write a [select] table."))
    if problems:
        raise BadInput(problems)
    problems += _name_problems(document, values["name"])
    if not values["rules"] and not values["task"]:
        problems.append(
            Problem(document.source, 'neither "rules" nor a [[task]] is given.', 'For example: rules = "stack"')
        )
    if values["rules"] and values["task"]:
        problems.append(document.problem(("task",), '"rules" and [[task]] are both given.', "Keep one of them."))
    if not values["exposures"] and values["select"] is None:
        problems.append(document.problem(("exposures",), "the list of exposures is empty.", "Name at least one."))
    select = _select(document, problems) if values["select"] is not None else None
    if values["mail"] and (what := address_problem(values["mail"])):
        problems.append(document.problem(("mail",), f'"mail": {what}'))
    if (moment := values["not_before"]) and moment.year not in YEARS:
        what = f'"not_before" is {shown(moment)}, which is not between {YEARS[0]} and {YEARS[-1]}.'
        problems.append(document.problem(("not_before",), what, "Write a day to come, such as 2031-05-17."))
    own_rules = None
    if values["task"]:
        try:
            own_rules = rules_from(document, title=values["name"], summary="")
        except BadInput as error:
            problems += error.problems
    settings = {
        application: keyword_settings(document, ("set", application), table, problems)
        for application, table in values["set"].items()
    }
    if problems:
        raise BadInput(problems)
    return Job(
        source=document.source,
        text=document.text,
        name=values["name"],
        exposures=tuple(values["exposures"]),
        select=select,
        calibration=tuple(values["calibration"]),
        rules=values["rules"],
        own_rules=own_rules,
        configuration=values["configuration"],
        set=settings,
        weight=values["weight"],
        reference=values["reference"],
        mail=values["mail"],
        not_before=_seconds(values["not_before"]),
        texts=values["texts"],
        web=values["web"],
    )


def _select(document: Document, problems: list[Problem]) -> dict[str, Any]:
    table = checked(document, SELECT_KEYS, ("select",), problems)
    if not isinstance(table["where"], str) or not table["where"]:
        return table
    try:
        condition(table["where"])
    except ValueError as error:
        problems.append(document.problem(("select", "where"), f"where: {error}"))
    return table


def _name_problems(document: Document, name: str) -> list[Problem]:
    if NAME.fullmatch(name):
        return []
    mend = "Use letters, digits and . _ + -, starting with a letter or digit, at most 100."
    return [document.problem(("name",), f"the name {shown(name)} cannot be used.", mend)]


def _seconds(moment: date | None) -> float:
    """Seconds since 1970 of a TOML date or date and time; UTC unless it says otherwise."""
    if moment is None:
        return 0.0
    if not isinstance(moment, datetime):
        moment = datetime.combine(moment, time())
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def unknown_applications(job: Job, known: Mapping[str, object]) -> list[Problem]:
    """[configuration] and [set] tables that name no application."""
    document = Document(job.source, job.text, {})
    return [
        document.problem(
            (section, name),
            f"unknown application {shown(name)}.",
            nearest(name, known) or f"Known: {', '.join(sorted(known))}.",
        )
        for section, table in (("configuration", job.configuration), ("set", job.set))
        for name in table
        if name not in known
    ]

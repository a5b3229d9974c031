"""Application descriptors: etc/applications/*.toml read into frozen records, every mistake named by file and line.

What a descriptor's words do is the affair of configuration.py, command.py and outputs.py. The keys are in KEYS
tables, which spica-application(5) is checked against.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from spicad.schema import REQUIRED, Document, Key, checked, read_toml
from spicad.words import BadInput, Problem, SpicaError, nearest

INPUT_KINDS = ("exposure", "weight", "flag", "reference", "product", "calibration")
OUTPUT_KINDS = ("fits", "ldac", "votable", "head", "text", "tiff", "psf", "pdf", "json", "any")
PACKINGS = ("fits", "fits.fz", "fits.gz", "fits.bz2")
TAKES = ("first", "sum", "least", "most", "mean", "median", "rms", "rows")
FUNCTIONS = ("ccds_astray", "reference_matches")  # those of figures.py
BEFORE_CHECKS = ("usable_detections", "stars_on_field", "readable_positions")  # those of before.py
QUALITY = "quality"  # a report as archive/quality.py has it
MASTER = "master"  # a master frame, see archiving.py
TOLD = ("", "sum", "median", "least", "most", "each")
FOLDERS = ("instruments", "quality")  # of [paths] in spica.conf
STORED_KINDS = ("columns", "numbers", "cards", "text", "binary")

TOP_KEYS = (
    Key("title", "text", REQUIRED, "The tool's name as people write it"),
    Key("summary", "text", REQUIRED, "What it does, in one line"),
    Key("command", "list of texts", REQUIRED, "Names looked for in PATH, the first found wins; {python} is our own"),
    Key("packages", "table of texts", {}, "The package that installs it, by distribution"),
    Key("version", "text", "-v", "Argument that prints the version; empty: there is none"),
    Key("list_keywords", "text", "", "Argument that prints all keywords with their defaults; empty: it has none"),
    Key("list_columns", "text", "", "Argument that prints all columns a catalogue can have; empty: it has none"),
    Key("arguments", "list of texts", REQUIRED, "Command line after the program, with {inputs} and {configuration}"),
    Key("configuration", "text", "", "Name of the configuration used when none is asked for; empty: it takes none"),
    Key("memory_mb", "integer", 1024, "Most memory of a step, MiB", minimum=16),
    Key("memory_mb_per_exposure", "number", 0, "MiB to add for each exposure of the step", minimum=0),
    Key("time_s", "number", 3600, "Most seconds of a step", minimum=1),
    Key("time_s_per_exposure", "number", 0, "Seconds to add for each exposure of the step", minimum=0),
    Key("threads", "integer", 1, "Threads of a step", minimum=1, maximum=256),
    Key("folders", "list of texts", [], f"Folders of etc/ that it reads, copied to cfg/: {', '.join(FOLDERS)}"),
    Key("free", "list of texts", [], "Keywords that a configuration may set to any value of their kind"),
    Key("any_word", "list of texts", [], "Keywords that take words beyond those the tool lists"),
    Key("passed_over", "list of texts", [], "Owned keywords that a configuration may hold without effect or complaint"),
    Key("installed", "list of texts", [], "Folders of the tool's package that hold stored files"),
    Key("input", "table of tables", {}, "What a step reads"),
    Key("output", "table of tables", {}, "What a step writes"),
    Key("owned", "table", {}, "Keywords that Spica sets, whatever a configuration says"),
    Key("stored", "table of tables", {}, "Keywords that take the bare name of a stored file"),
    Key("capped", "table", {}, "Keywords with a largest value, each item of a list"),
    Key("range", "table of tables", {}, "Keywords with a least and a largest value, each item of a list"),
    Key("allowed", "table", {}, "Keywords with the values they may have, each item of a list"),
    Key("columns", "table of tables", {}, "Columns of a catalogue that are limited or not open"),
    Key("metrics", "table of tables", {}, "Figures harvested from the outputs"),
    Key("check", "list of tables", [], "Limits on metrics, with the words said when one is broken"),
    Key("before", "list of tables", [], "What must hold before the tool is started"),
    Key("adjust", "list of tables", [], "Keywords set otherwise when a card is missing in the headers"),
)
PLAIN_KEYS = [key.name for key in TOP_KEYS].index("free")  # those that go into the record as they are
INPUT_KEYS = (
    Key("kind", "text", REQUIRED, "What it is", choices=INPUT_KINDS),
    Key("product", "text", "", "Name of the output of an earlier task that this is"),
    Key("file", "text", REQUIRED, "Its name in the step's folder; {stem} stands for img0001 and so on"),
    Key("reads", "list of texts", ["fits"], "Packings the tool reads as they are"),
    Key("optional", "yes or no", False, "Whether the tool runs without it"),
    Key("place", "text", "in", "Where it is put; job: as a link in the working folder", choices=("in", "job")),
    Key("ahead", "text", "", "Name in the working folder of cards that the exposure's instrument adds"),
    Key("minimum_rows", "integer", 0, "Rows that a catalogue must have", minimum=0),
    Key("columns", "list of texts", [], "Columns that a catalogue must have; {KEYWORD} is that keyword's value"),
)
OUTPUT_KEYS = (
    Key("file", "text", REQUIRED, "Its name in the working folder; with {stem} one per exposure, with * any number"),
    Key("kind", "text", REQUIRED, "How it is opened and checked", choices=OUTPUT_KINDS),
    Key("require", "table", {}, "What its content must have"),
    Key("product", "text", "", "Its name among the products; {exposure}, {step}, {file}"),
    Key("optional", "yes or no", False, "Whether it may be missing"),
    Key("keep", "yes or no", True, "Whether it goes to the products"),
    Key("registers", "text", "", "What of it goes into the archive", choices=("", QUALITY, MASTER)),
)
REQUIRE_KEYS = (
    Key("rows", "integer", 0, "Least number of rows over all CCDs", minimum=0),
    Key("not_all_zero", "list of texts", [], "Columns that must exist and not be zero in every row"),
    Key("columns", "list of texts", [], "Columns that must exist"),
    Key("cards", "list of texts", [], "Header keywords that must be present and finite"),
    Key("ccds", "yes or no", False, "One part per CCD: an extension, a block, or a row of `table`"),
    Key("table", "text", "", "That table of a VOTable"),
    Key("pixels", "yes or no", False, "An image with a finite pixel that is not 0"),
    Key("varied", "yes or no", False, "An image whose pixels are not all the same"),
)
OWNED_KEYS = (
    Key("value", "text or list of texts", REQUIRED, "The value; of a list a configuration may choose one"),
    Key("when", "text", "", "An optional input: the value is used when it is there"),
    Key(
        "otherwise", "text or list of texts", [], "The value when it is not there; without this the keyword is left out"
    ),
    Key("mixed", "yes or no", False, "A list, one item per exposure, when only some exposures have that input"),
)
STORED_KEYS = (
    Key("file", "text", REQUIRED, "Pattern of the names, such as *.param"),
    Key("holds", "text", REQUIRED, "What such a file holds", choices=STORED_KINDS),
    Key("none", "text", "", "A name that stands for no file: the tool's own default"),
)
RANGE_KEYS = (
    Key("minimum", "number", None, "Least value"),
    Key("maximum", "number", None, "Largest value"),
    Key("also", "list of texts", [], "Values taken besides"),
)
COLUMN_KEYS = (
    Key("elements", "integer", 0, "Most elements of a vector column", minimum=0),
    Key("why", "text", "", "Why the column is not open, or limited"),
)
METRIC_KEYS = (
    Key("output", "text", "", "The output it is read from"),
    Key("table", "text", "", "The table of a VOTable"),
    Key(
        "field",
        "text",
        "",
        "The field or parameter of that table, the column, the header keyword, or the name in a json",
    ),
    Key("take", "text", "first", "What is made of the values", choices=TAKES),
    Key("over", "text", "", "A field of the same row to divide by"),
    Key("scale", "number", 1.0, "Factor"),
    Key("function", "text", "", "A named function instead", choices=("", *FUNCTIONS)),
    Key("help", "text", REQUIRED, "What the figure says"),
    Key("unit", "text", "", "Its unit"),
    Key("report", "text", "", "How reports tell it over all steps of a task; empty: not", choices=TOLD),
)
CHECK_KEYS = (
    Key("metric", "text", REQUIRED, "The figure"),
    Key("minimum", "number", None, "Least value that passes"),
    Key("maximum", "number", None, "Largest value that passes"),
    Key("unless", "text", "", "Another figure that excuses it when it is small"),
    Key("unless_at_most", "number", 0.0, "How small"),
    Key("words", "text", REQUIRED, "What is said when it does not pass"),
)
BEFORE_KEYS = (
    Key("check", "text", REQUIRED, "Name of the check", choices=BEFORE_CHECKS),
    Key("input", "text", REQUIRED, "The input looked at"),
    Key("least", "number", 1, "The number that must be there"),
    Key("columns", "list of texts", [], "Columns looked at; {KEYWORD} is that keyword's value"),
    Key("ratio", "text", "0", "Least ratio of the two columns, or {KEYWORD}"),
    Key("values", "list of texts", [], "What is taken"),
    Key("words", "text", REQUIRED, "What is said when it does not hold"),
)
ADJUST_KEYS = (
    Key("input", "text", REQUIRED, "The catalogues looked at"),
    Key("card", "text", REQUIRED, "The card that none of their headers has, or {KEYWORD}"),
    Key("set", "table of texts", REQUIRED, "Keywords and values for that case, unless the process sets them itself"),
    Key("words", "text", REQUIRED, "Why, for the report"),
)


@dataclass(frozen=True)
class Input:
    name: str
    kind: str
    product: str
    file: str
    reads: tuple[str, ...]
    optional: bool
    place: str
    ahead: str
    minimum_rows: int
    columns: tuple[str, ...]

    @property
    def is_per_exposure(self) -> bool:
        return "{stem}" in self.file

    def file_for(self, stem: str, packing: str = "fits") -> str:
        """Its name inside the step for `stem`; `packing` is one of `reads`."""
        name = self.file.replace("{stem}", stem)
        return name if packing == "fits" else name + packing.removeprefix("fits")

    def path_for(self, stem: str, packing: str = "fits") -> str:
        """Its path on the command line, seen from the working folder."""
        name = self.file_for(stem, packing)
        return name if self.place == "job" else f"../in/{name}"


@dataclass(frozen=True)
class Require:
    rows: int = 0
    not_all_zero: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    cards: tuple[str, ...] = ()
    ccds: bool = False
    table: str = ""
    pixels: bool = False
    varied: bool = False


@dataclass(frozen=True)
class Output:
    name: str
    file: str
    kind: str
    require: Require
    product: str
    optional: bool
    keep: bool
    registers: str = ""

    @property
    def is_per_exposure(self) -> bool:
        return "{stem}" in self.file

    def file_for(self, stem: str) -> str:
        return self.file.replace("{stem}", stem)


@dataclass(frozen=True)
class Owned:
    """A keyword that Spica sets: to the first of `value`, or the one among them that the configuration has."""

    value: tuple[str, ...]
    when: str = ""
    otherwise: tuple[str, ...] | None = None
    mixed: bool = False

    @property
    def choices(self) -> tuple[str, ...]:
        """The fixed values that it can end with."""
        return tuple(v for v in self.value + (self.otherwise or ()) if "{" not in v)

    @property
    def is_chosen(self) -> bool:
        """Whether a configuration has a say."""
        return len(self.value) > 1 or len(self.otherwise or ()) > 1


@dataclass(frozen=True)
class Stored:
    file: str
    holds: str
    none: str = ""


@dataclass(frozen=True)
class Range:
    minimum: float | None = None
    maximum: float | None = None
    also: tuple[str, ...] = ()


@dataclass(frozen=True)
class Column:
    """A limit on a column that a user may ask for: at most `elements` in its vector; 0: not open at all."""

    elements: int
    why: str


@dataclass(frozen=True)
class Metric:
    name: str
    output: str
    table: str
    field: str
    take: str
    over: str
    scale: float
    function: str
    help: str
    unit: str
    report: str


@dataclass(frozen=True)
class Check:
    metric: str
    minimum: float | None
    maximum: float | None
    unless: str
    unless_at_most: float
    words: str


@dataclass(frozen=True)
class Before:
    check: str
    input: str
    least: float
    columns: tuple[str, ...]
    ratio: str
    values: tuple[str, ...]
    words: str


@dataclass(frozen=True)
class Adjust:
    input: str
    card: str
    set: Mapping[str, str]
    words: str


@dataclass(frozen=True)
class Application:
    name: str
    title: str
    summary: str
    command: tuple[str, ...]
    packages: Mapping[str, str]
    version: str
    list_keywords: str
    list_columns: str
    arguments: tuple[str, ...]
    configuration: str
    memory_mb: int
    memory_mb_per_exposure: float
    time_s: float
    time_s_per_exposure: float
    threads: int
    folders: tuple[str, ...]
    free: frozenset[str]
    any_word: frozenset[str]
    passed_over: frozenset[str]
    installed: tuple[Path, ...]
    inputs: Mapping[str, Input]
    outputs: Mapping[str, Output]
    owned: Mapping[str, Owned]
    stored: Mapping[str, Stored]
    ranges: Mapping[str, Range]
    allowed: Mapping[str, tuple[str, ...]]
    columns: Mapping[str, Column]
    metrics: Mapping[str, Metric]
    checks: tuple[Check, ...]
    before: tuple[Before, ...]
    adjust: tuple[Adjust, ...]
    source: Path = field(compare=False)
    text: str = field(compare=False, repr=False)

    @property
    def is_our_own(self) -> bool:
        return self.command[0] == "{python}"

    @property
    def asks_for_origins(self) -> bool:
        """Whether it wants a table of the exposures that were used and dropped."""
        return any("{origins}" in value for owned in self.owned.values() for value in owned.value)

    @property
    def open_keywords(self) -> frozenset[str]:
        """Keywords that a configuration may set."""
        chosen = {name for name, owned in self.owned.items() if owned.is_chosen}
        return self.free | self.any_word | chosen | self.stored.keys() | self.ranges.keys() | self.allowed.keys()

    def memory_for(self, exposures: int) -> int:
        return int(self.memory_mb + self.memory_mb_per_exposure * exposures)

    def time_for(self, exposures: int) -> float:
        return self.time_s + self.time_s_per_exposure * exposures


def load_applications(folder: Path) -> dict[str, Application]:
    """All applications described in `folder`, by name. Raises BadInput with the problems of all files at once."""
    try:
        sources = sorted(folder.glob("*.toml"))
    except OSError as error:
        raise SpicaError(f"{folder}: the applications cannot be read: {error}") from None
    if not sources:
        raise SpicaError(
            f'{folder}: there is no application here. "paths.applications" in spica.conf names the folder.'
        )
    applications: dict[str, Application] = {}
    problems: list[Problem] = []
    for source in sources:
        try:
            applications[source.stem] = load_application(source)
        except BadInput as error:
            problems.extend(error.problems)
    if problems:
        raise BadInput(problems)
    return applications


def load_application(source: Path) -> Application:
    try:
        text = source.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(Problem(str(source), f"the descriptor cannot be read: {error}.")) from None
    return parse_application(text, source)


def parse_application(text: str, source: Path) -> Application:
    document = read_toml(text, str(source))
    problems: list[Problem] = []
    top = checked(document, TOP_KEYS, (), problems)
    if problems:
        raise BadInput(problems)

    def tables(name: str, keys: Sequence[Key]) -> dict[str, dict[str, Any]]:
        return {each: checked(document, keys, (name, each), problems) for each in top[name]}

    def listed(name: str, keys: Sequence[Key]) -> list[dict[str, Any]]:
        return [checked(document, keys, (name, number), problems) for number in range(len(top[name]))]

    read = {
        "input": tables("input", INPUT_KEYS),
        "output": _outputs(document, top, problems),
        "owned": _owned(document, top, problems),
        "stored": tables("stored", STORED_KEYS),
        "range": tables("range", RANGE_KEYS) | _capped(document, top, problems),
        "columns": tables("columns", COLUMN_KEYS),
        "metrics": tables("metrics", METRIC_KEYS),
    }
    checks, before = listed("check", CHECK_KEYS), listed("before", BEFORE_KEYS)
    adjust = listed("adjust", ADJUST_KEYS)
    allowed = _allowed(document, top, problems)
    if problems:
        raise BadInput(problems)
    plain: dict[str, Any] = _tuples({key.name: top[key.name] for key in TOP_KEYS[:PLAIN_KEYS]})
    application = Application(
        name=source.stem,
        **plain,
        free=frozenset(top["free"]),
        any_word=frozenset(top["any_word"]),
        passed_over=frozenset(top["passed_over"]),
        installed=tuple(Path(each) for each in top["installed"]),
        inputs={name: Input(name, **_tuples(values)) for name, values in read["input"].items()},
        outputs={name: Output(name, **values) for name, values in read["output"].items()},
        owned={name: Owned(**values) for name, values in read["owned"].items()},
        stored={name: Stored(**values) for name, values in read["stored"].items()},
        ranges={name: Range(**_tuples(values)) for name, values in read["range"].items()},
        allowed=allowed,
        columns={name: Column(**values) for name, values in read["columns"].items()},
        metrics={name: Metric(name, **values) for name, values in read["metrics"].items()},
        checks=tuple(Check(**values) for values in checks),
        before=tuple(Before(**_tuples(values)) for values in before),
        adjust=tuple(Adjust(**values) for values in adjust),
        source=source,
        text=text,
    )
    problems.extend(_inconsistencies(document, application))
    if problems:
        raise BadInput(problems)
    return application


def _tuples(values: dict[str, Any]) -> dict[str, Any]:
    return {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}


def _outputs(document: Document, top: dict[str, Any], problems: list[Problem]) -> dict[str, dict[str, Any]]:
    found = {}
    for name in top["output"]:
        values = checked(document, OUTPUT_KEYS, ("output", name), problems)
        if isinstance(values.get("require"), dict) and values["require"]:
            values["require"] = checked(document, REQUIRE_KEYS, ("output", name, "require"), problems)
        values["require"] = Require(**_tuples(values.get("require") or {})) if not problems else Require()
        found[name] = values
    return found


def _owned(document: Document, top: dict[str, Any], problems: list[Problem]) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for name, value in top["owned"].items():
        if isinstance(value, str):
            found[name] = {"value": (value,)}
        elif isinstance(value, list) and value and all(isinstance(item, str) for item in value):
            found[name] = {"value": tuple(value)}
        elif isinstance(value, dict):
            values = checked(document, OWNED_KEYS, ("owned", name), problems)
            given = values.get("otherwise") if "otherwise" in value else None
            found[name] = values | {"value": _several(values.get("value")), "otherwise": _several(given)}
        else:
            what = f'"{name}" must be a text, a list of texts or a table.'
            problems.append(document.problem(("owned", name), what, 'Write KEYWORD = "value".'))
    return found


def _several(value: Any) -> tuple[str, ...] | None:
    if value is None:
        return None
    return (value,) if isinstance(value, str) else tuple(value)


def _capped(document: Document, top: dict[str, Any], problems: list[Problem]) -> dict[str, dict[str, Any]]:
    for name, value in top["capped"].items():
        if not isinstance(value, int | float) or isinstance(value, bool):
            problems.append(document.problem(("capped", name), f'"{name}" must be a number.'))
    return {name: {"maximum": value} for name, value in top["capped"].items()}


def _allowed(document: Document, top: dict[str, Any], problems: list[Problem]) -> dict[str, tuple[str, ...]]:
    found = {}
    for name, value in top["allowed"].items():
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            problems.append(document.problem(("allowed", name), f'"{name}" must be a list of texts.'))
        else:
            found[name] = tuple(value)
    return found


def _inconsistencies(document: Document, application: Application) -> list[Problem]:
    return [
        *_unknown_placeholders(document, application),
        *_keywords_with_two_masters(document, application),
        *_unknown_references(document, application),
        *_bad_names(document, application),
    ]


def _unknown_placeholders(document: Document, application: Application) -> list[Problem]:
    known = {*application.inputs, "configuration", "stem", "threads", "memory_mb", "python", "origins"}
    places: list[tuple[tuple[str, ...], str]] = [(("arguments",), argument) for argument in application.arguments]
    for name, owned in application.owned.items():
        places += [(("owned", name), value) for value in owned.value + (owned.otherwise or ())]
        if owned.when and owned.when not in application.inputs:
            places.append((("owned", name), f"{{{owned.when}}}"))
    return [
        document.problem(path, f'"{{{word}}}" is not an input of this application.', nearest(word, known))
        for path, text in places
        for word in re.findall(r"\{([^}]*)\}", text)
        if word not in known
    ]


def _keywords_with_two_masters(document: Document, application: Application) -> list[Problem]:
    masters: dict[str, str] = {}
    problems = []
    for table, names in (
        ("owned", application.owned),
        ("stored", application.stored),
        ("range", application.ranges),
        ("allowed", application.allowed),
        ("free", application.free),
        ("any_word", application.any_word),
    ):
        for name in names:
            if name in masters:
                what = f'keyword "{name}" stands in {table} and in {masters[name]}.'
                problems.append(document.problem((table,), what, "Keep one of them."))
            masters[name] = table
    return problems


def _unknown_references(document: Document, application: Application) -> list[Problem]:
    problems = []
    for name, metric in application.metrics.items():
        if metric.output and metric.output not in application.outputs:
            what = f'metric "{name}" reads "{metric.output}", which is not an output.'
            problems.append(document.problem(("metrics", name), what, nearest(metric.output, application.outputs)))
        if not metric.output and not metric.function:
            problems.append(document.problem(("metrics", name), f'metric "{name}" needs an output or a function.'))
    for number, check in enumerate(application.checks):
        for word in filter(None, (check.metric, check.unless)):
            if word not in application.metrics:
                what = f'"{word}" is not a metric of this application.'
                problems.append(document.problem(("check", number), what, nearest(word, application.metrics)))
    for name, output in application.outputs.items():
        if output.registers == QUALITY and not (output.kind == "json" and output.is_per_exposure):
            what = f'output "{name}" registers {output.registers}, which is a json for each exposure.'
            problems.append(document.problem(("output", name), what, 'Give it kind = "json" and {stem} in its file.'))
    for name in application.passed_over - application.owned.keys():
        what = f'"{name}" is passed over but not owned.'
        problems.append(document.problem(("passed_over",), what, nearest(name, application.owned)))
    looked_at = [("before", number, each.input) for number, each in enumerate(application.before)]
    looked_at += [("adjust", number, each.input) for number, each in enumerate(application.adjust)]
    for table, number, word in looked_at:
        if word not in application.inputs:
            what = f'"{word}" is not an input of this application.'
            problems.append(document.problem((table, number), what, nearest(word, application.inputs)))
    return problems


def _bad_names(document: Document, application: Application) -> list[Problem]:
    """Names inside a step are plain: a tool cuts them at spaces and commas and takes a leading - for an option."""
    problems = [
        document.problem(("folders",), f'"{name}" is no folder that a tool may read.', nearest(name, FOLDERS))
        for name in application.folders
        if name not in FOLDERS
    ]
    for kind, files in (("input", application.inputs), ("output", application.outputs)):
        for name, each in files.items():
            plain = each.file.replace("{stem}", "img0001").replace("*", "x" if kind == "output" else "*")
            if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", plain):
                what = f'"{each.file}" is not a plain file name.'
                problems.append(document.problem((kind, name, "file"), what, "Letters, digits, dots, _ and - only."))
    for name, read in application.inputs.items():
        if not set(read.reads) <= set(PACKINGS):
            mend = f"Known: {', '.join(PACKINGS)}."
            problems.append(document.problem(("input", name, "reads"), f"unknown packing in {list(read.reads)}.", mend))
    return problems

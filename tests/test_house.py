"""The house is in order: imports point one way, the daemon stays light, nothing goes through a shell.

The layers are listed by hand below; a new module takes its place in one of them.
"""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
HEAVY = ("astropy", "numpy", "scipy", "matplotlib", "astroscrappy")

# From the ground up. A module may import from lower layers and from its own, but never in a circle.
LAYERS = {
    "words, and what needs nothing of Spica": (
        "spicad", "spicad.words", "spicad.durable", "spicad.background", "spicad.remembered", "spicad.waiting",
        "spicad.parts", "spicad.hints", "spicad.patterns", "spicad.sandbox", "spicad.passwords", "spicad.logs",
        "spicad.schema", "spicad.fits", "spicad.applications", "spicad.applications.logs", "spicad.archive",
        "spicad.backends",
    ),
    "settings, tables, people": (
        "spicad.config", "spicad.node", "spicad.tables", "spicad.rows", "spicad.people", "spicad.accounts",
        "spicad.copying", "spicad.heartbeat", "spicad.fair_share", "spicad.eta", "spicad.retention", "spicad.quota",
    ),
    "applications, exposures, engines": (
        "spicad.applications.*", "spicad.archive.*", "spicad.backends.*", "spicad.rules",
    ),
    "our own science programs": (
        "spicad.reduction", "spicad.reduction.*", "spicad.reduction.astrometrix.*", "spicad.reduction.photometrix.*",
        "spicad.reduction.preprocess.*",
        "spicad.reduction.qualityfits.*",
    ),
    "mail": ("spicad.sending", "spicad.outbox", "spicad.report", "spicad.letters"),
    "jobs and decisions": ("spicad.calibrations", "spicad.jobfile", "spicad.picking", "spicad.plan", "spicad.desk"),
    "the spool and the runs": (
        "spicad.spool", "spicad.ledger", "spicad.run", "spicad.capsule", "spicad.steps", "spicad.key_figures",
        "spicad.archiving", "spicad.closing", "spicad.handover", "spicad.sweeping",
    ),
    "the daemon's parts": (
        "spicad.workbench", "spicad.workshop", "spicad.orders", "spicad.intake", "spicad.recovery",
        "spicad.housekeeping", "spicad.measuring", "spicad.metrics", "spicad.newcomers",
    ),
    "programs": ("spicad.daemon", "spicad.service", "spicad.snooping", "spicad.commands", "spicad.commands.*"),
    "the site": ("spicaweb", "spicaweb.*", "spicaweb.pages.*"),
}  # fmt: skip

SOURCES = {
    ".".join(path.relative_to(home).with_suffix("").parts).removesuffix(".__init__"): path
    for home, package in ((ROOT, "spicad"), (ROOT / "web", "spicaweb"))
    for path in sorted((home / package).rglob("*.py"))
}
TREES = {module: ast.parse(path.read_text(encoding="utf-8")) for module, path in SOURCES.items()}


def layers_of(module: str) -> list[int]:
    """By its own name; else by that of its folder."""
    exact = [number for number, names in enumerate(LAYERS.values()) if module in names]
    folder = module.rpartition(".")[0] + ".*"
    return exact or [number for number, names in enumerate(LAYERS.values()) if folder in names]


def imported(module: str) -> Iterator[str]:
    """Every module that is named in an import anywhere in `module`, also inside of functions."""
    for node in ast.walk(TREES[module]):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: relative imports hide where a name comes from"
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                yield whole if whole in SOURCES else str(node.module)


def ours(module: str) -> set[str]:
    """What `module` imports of Spica. That the packages above it are loaded too is Python's affair."""
    return {name for name in imported(module) if name.partition(".")[0] in ("spicad", "spicaweb")} - {
        module,
        "spicad",
        "spicaweb",
    }


def test_every_module_stands_in_exactly_one_layer():
    placed = {module: layers_of(module) for module in SOURCES}

    assert {module: layers for module, layers in placed.items() if len(layers) != 1} == {}


def test_every_module_named_in_a_layer_exists():
    named = {name for names in LAYERS.values() for name in names}
    folders = {module.rpartition(".")[0] + ".*" for module in SOURCES}

    assert named - set(SOURCES) - folders == set()


def test_imports_point_from_the_programs_down_to_the_words():
    upward = [
        f"{module} imports {other}"
        for module in SOURCES
        for other in ours(module)
        if layers_of(other) > layers_of(module) and not other.startswith("spicad.reduction")
    ]

    assert upward == []


def test_nothing_imports_in_a_circle():
    left = {module: ours(module) for module in SOURCES}
    while free := [module for module, others in left.items() if not others & left.keys()]:
        for module in free:
            del left[module]

    assert left == {}


def test_only_the_science_programs_import_astropy_and_its_like():
    named = {
        (module, name)
        for module in SOURCES
        if not module.startswith("spicad.reduction")
        for name in imported(module)
        if name.partition(".")[0] in HEAVY
    }

    assert named == set()


def test_no_part_of_the_daemon_imports_a_science_program():
    allowed = {"spicad.commands.sky"}  # loads it when the sky is made

    users = {
        module
        for module in SOURCES
        if not module.startswith("spicad.reduction")
        and any(name.startswith("spicad.reduction") for name in ours(module))
    }

    assert users <= allowed


@pytest.mark.slow
@pytest.mark.parametrize("start", ["spicad.daemon, spicad.service", "the commands"])
def test_the_daemon_and_the_commands_start_without_astropy(start: str):
    modules = start.split(", ")
    if start == "the commands":
        modules = [module for module in SOURCES if module.startswith("spicad.commands")]
    program = f"import sys, {', '.join(modules)}; print(*sorted(set({HEAVY!r}) & set(sys.modules)))"

    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)

    assert done.stdout.split() == []


def test_the_spica_command_loads_one_sub_command_only():
    program = "import sys; from spicad.commands import build_parser; build_parser('lint'); print(*sys.modules)"

    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)

    loaded = set(done.stdout.split())
    assert "spicad.commands.lint" in loaded
    assert "spicad.commands.verify" not in loaded
    assert "watchdog" not in loaded


def test_nothing_goes_through_a_shell_or_runs_a_text():
    forbidden = {"eval", "exec", "system", "popen", "getoutput", "getstatusoutput"}
    found = []
    for module, tree in TREES.items():
        for node in ast.walk(tree):
            if not isinstance(node, ast.Call):
                continue
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            has_shell = any(keyword.arg == "shell" for keyword in node.keywords)
            if name in forbidden or has_shell:
                found.append(f"{module}, line {node.lineno}: {ast.unparse(node.func)}")

    assert found == []


def test_nothing_is_pickled():
    picklers = {"pickle", "marshal", "shelve", "dill", "cPickle"}

    assert {(module, name) for module in SOURCES for name in imported(module) if name in picklers} == set()


def test_every_module_says_what_it_is_for():
    silent = [
        module for module, tree in TREES.items() if SOURCES[module].stat().st_size and not ast.get_docstring(tree)
    ]

    assert silent == []


def test_every_file_in_bin_can_be_run():
    names = [path for path in (ROOT / "bin").iterdir() if path.is_file()]

    assert [path.name for path in names if not os.access(path, os.X_OK)] == []
    assert [path.name for path in names if not path.read_text().startswith("#!")] == []


def test_what_is_imported_is_required_and_the_other_way_round():
    by_import = {"daemon": "python-daemon", "pymysql": "PyMySQL", "PIL": "Pillow", "playhouse": "peewee"}
    by_peewee = {"PyMySQL"}  # imported when a database is MySQL
    standard = set(sys.stdlib_module_names) | {"spicad", "spicaweb"}
    used = {name.partition(".")[0] for module in SOURCES for name in imported(module)} - standard
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    required = {re.split(r"[<>=]", line)[0] for line in lines if line and not line.startswith("#")}

    assert {by_import.get(name, name) for name in used} <= required
    # python-daemon's pid files are lockfile's
    assert required - {by_import.get(name, name) for name in used} <= by_peewee | {"lockfile"}


def test_every_requirement_has_an_upper_bound():
    for name in ("requirements.txt", "requirements-test.txt"):
        lines = [line for line in (ROOT / name).read_text().splitlines() if line and not line.startswith("#")]

        assert [line for line in lines if "<" not in line and "==" not in line] == []


def test_each_benchmark_stands_in_their_readme():
    told = (ROOT / "tests/benchmarks/README.md").read_text()

    assert [path.name for path in (ROOT / "tests/benchmarks").glob("*.py") if f"`{path.name}`" not in told] == []


def test_what_the_benchmarks_are_measured_against_can_be_installed():
    text = (ROOT / "bin/setup-machine").read_text()
    measured = text.partition("TOOLS_TO_MEASURE='")[2].partition("'")[0].split()

    assert {"tsp|ts", "task-spooler", "at", "cc", "make"} <= set(measured)
    assert 'need_programs "$TOOLS_TO_RUN$TOOLS_TO_MEASURE"' in text.partition("--benchmarks)")[2]


def test_the_machine_is_set_up_with_the_packages_that_the_applications_name():
    text = (ROOT / "bin/setup-machine").read_text()
    rows = [line.split() for line in text.splitlines() if len(line.split()) == 3]
    packages = {(row[1], row[2]) for row in rows}

    named = set()
    for path in (ROOT / "etc/applications").glob("*.toml"):
        wanted = tomllib.loads(path.read_text()).get("packages")
        if wanted:
            named.add((wanted["debian"], wanted["fedora"]))

    assert len(named) >= 7
    assert named - packages == set()


def test_no_template_writes_over_what_its_frame_shows() -> None:
    """Bottle draws the frame with all names that the page has left: a loop over `title` names the window too."""
    names = "visit|title|done|problems|refresh|static|when|bar"
    found = []
    for path in sorted((ROOT / "web/spicaweb/templates").glob("*.tpl")):
        for line in path.read_text().splitlines():
            if re.match(rf"\s*%\s*(for\b[^:]*\b({names})\b[^:]*\bin\b|(\w+, *)*({names})\b[\w, ]*=[^=])", line):
                found.append((path.name, line.strip()))

    assert found == []

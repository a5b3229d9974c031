"""`spica check`: a tool's configuration, or a file that it names, held against the installed tool.

The judging is in spicad/applications/configuration.py; here is only what is asked and what is printed.
"""

from __future__ import annotations

import argparse
import fnmatch
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from spicad import config
from spicad.applications import configuration as configurations
from spicad.applications.descriptor import Application, load_applications
from spicad.applications.tools import Tool, find_tool, tool_columns, tool_keywords
from spicad.words import BadInput, Problem, SpicaError, nearest

FINE, CANNOT, WRONG = 0, 1, 2


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("application", help="whose configuration it is, such as sextractor")
    parser.add_argument("file", type=Path, help="the configuration, or a file that one names, such as mine.param")


def run(arguments: argparse.Namespace) -> int:
    try:
        settings = config.load()
        applications = load_applications(settings.paths.applications)
        application = _known(arguments.application, applications)
        tool = find_tool(application, settings.paths.programs)
        problems = _problems(application, tool, arguments.file, settings.paths.configurations)
    except SpicaError as error:
        print(error, file=sys.stderr)
        return WRONG if isinstance(error, BadInput) else CANNOT
    for problem in problems:
        print(problem)
    if not problems:
        print(f"{arguments.file}: fine for {application.title} {tool.version}")
    return WRONG if problems else FINE


def _known(name: str, applications: dict[str, Application]) -> Application:
    if name not in applications:
        mend = nearest(name, applications) or f"Known: {', '.join(applications)}."
        raise BadInput(Problem("spica check", f'unknown application "{name}".', mend))
    if not applications[name].list_keywords:
        raise SpicaError(f"{applications[name].title} takes no configuration.")
    return applications[name]


def _problems(application: Application, tool: Tool, file: Path, system: Path) -> Sequence[Problem]:
    if not file.is_file():
        raise SpicaError(f"{file}: there is no such file.")
    columns = tool_columns(tool, application)
    keyword = next((key for key, each in application.stored.items() if fnmatch.fnmatchcase(file.name, each.file)), "")
    if keyword:
        return configurations.check_stored(application, keyword, file, columns)
    keywords = tool_keywords(tool, application)
    try:
        written = configurations.read_configuration(file)
        with _levels(application, file, system) as folders:
            problems = configurations.check(application, written, keywords, folders)
            if problems:
                return problems
            settings = configurations.effective(application, keywords, [("file", written)])
            for keyword, (_, path) in configurations.stored_files(application, settings, folders).items():
                problems += configurations.check_stored(application, keyword, path.resolve(), columns)
    except BadInput as error:
        return error.problems
    return problems


@contextmanager
def _levels(application: Application, file: Path, system: Path) -> Iterator[list[tuple[str, Path]]]:
    """Where files named by the configuration are looked for: beside it, then among the system's."""
    with tempfile.TemporaryDirectory(prefix="spica-check-") as folder:
        beside = Path(folder)
        (beside / application.name).symlink_to(file.absolute().parent)
        yield [("beside", beside), ("system", system)]

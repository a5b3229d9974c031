"""Builds the command line of a step from an application's descriptor: a list of arguments, never a shell string.

Pure: nothing is read or written. All names in it are made by Spica; paths are seen from the working folder job/.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from spicad.applications.configuration import Effective, stored_target
from spicad.applications.descriptor import Application, Owned
from spicad.words import SpicaError

MAX_VALUE = 4000  # a longer value overflows a buffer in five of the seven tools
MAX_ARGUMENTS_BYTES = 1_000_000
ORIGINS = "origins.csv"

Files = Mapping[str, Sequence[tuple[str, str]]]  # input's name: (stem, path seen from job/) of each file


@dataclass(frozen=True)
class CommandLine:
    """`argv` to start; `lists` are files to write in cfg/; `template` is argv without what depends on the machine."""

    argv: tuple[str, ...]
    lists: Mapping[str, str]
    template: tuple[str, ...]


def configuration_target(application: Application) -> str:
    """The name of the effective configuration in cfg/."""
    return f"{application.name}.conf"


def command_line(
    application: Application,
    program: Sequence[str],
    files: Files,
    settings: Effective | None = None,
    *,
    threads: int | None = None,
    memory_mb: int | None = None,
    origins: str = "",
) -> CommandLine:
    """The command line of one step. Every owned keyword and every stored file is forced: it beats the file.

    `origins` is a table of the exposures used and dropped, for who asks for it.
    """
    _check_files(application, files)
    machine = {"threads": str(threads or application.threads), "memory_mb": str(memory_mb or application.memory_mb)}
    lists: dict[str, str] = {}
    argv = _arguments(application, files, lists, machine) + _forced(application, files, settings, machine)
    if application.asks_for_origins:
        lists[ORIGINS] = origins
    symbols = {name: f"{{{name}}}" for name in machine}
    template = _arguments(application, files, {}, symbols) + _forced(application, files, settings, symbols)
    if sum(map(len, argv)) > MAX_ARGUMENTS_BYTES:
        raise SpicaError(f"{application.title}: too many files for one command line.")
    return CommandLine((*program, *argv), lists, (application.name, *template))


def stems_of(application: Application, files: Files) -> tuple[str, ...]:
    """The exposures of the step: the stems of its inputs that are one file each exposure, in order."""
    stems: dict[str, None] = {}
    for name, input_ in application.inputs.items():
        if input_.is_per_exposure:
            stems.update(dict.fromkeys(stem for stem, _ in files.get(name, ())))
    return tuple(stems)


def _check_files(application: Application, files: Files) -> None:
    for name, input_ in application.inputs.items():
        if not files.get(name) and not input_.optional:
            raise SpicaError(f'{application.title} needs its input "{name}" ({input_.kind}), and there is none.')
    for name, given in files.items():
        if name not in application.inputs:
            raise SpicaError(f'{application.title} has no input "{name}".')
        for _, path in given:
            if not re.fullmatch(r"(\.\./in/)?[A-Za-z0-9][A-Za-z0-9._-]*", path):
                raise SpicaError(f"{application.title}: {path!r} is not a name made by Spica.")


def _arguments(
    application: Application, files: Files, lists: dict[str, str], machine: Mapping[str, str]
) -> tuple[str, ...]:
    argv: list[str] = []
    for argument in application.arguments:
        name = argument.strip("@{}")
        if argument == f"@{{{name}}}" and name in application.inputs:
            argv.append(f"@../cfg/{name}.list")
            lists[f"{name}.list"] = "".join(path + "\n" for _, path in files.get(name, ()))
        elif argument == f"{{{name}}}" and name in application.inputs:
            argv.extend(path for _, path in files.get(name, ()))
        else:
            argv.append(_filled(argument, application, files, machine))
    return tuple(argv)


def _forced(
    application: Application, files: Files, settings: Effective | None, machine: Mapping[str, str]
) -> tuple[str, ...]:
    argv: list[str] = []
    for keyword, owned in application.owned.items():
        value = _owned_value(application, keyword, owned, files, settings, machine)
        if value is not None:
            argv += [f"-{keyword}", value]
    for keyword in application.stored:
        if settings is not None and settings.value(keyword):
            argv += [f"-{keyword}", f"../cfg/{stored_target(application, keyword)}"]
    if settings is not None:
        for keyword in sorted(settings.forced):
            argv += [f"-{keyword}", settings.value(keyword)]
    return tuple(argv)


def _owned_value(
    application: Application,
    keyword: str,
    owned: Owned,
    files: Files,
    settings: Effective | None,
    machine: Mapping[str, str],
) -> str | None:
    asked = settings.value(keyword) if settings is not None else ""
    with_input = _filled(_chosen(owned.value, asked), application, files, machine) if owned.value else ""
    if not owned.when:
        return _short(keyword, with_input)
    without = None if owned.otherwise is None else _chosen(owned.otherwise, asked)
    have = {stem for stem, _ in files.get(owned.when, ())}
    stems = stems_of(application, files)
    if not have:
        return without
    if have >= set(stems) or not application.inputs[owned.when].is_per_exposure:
        return _short(keyword, with_input)
    if not owned.mixed or without is None:
        raise SpicaError(
            f'{application.title}: only {len(have)} of {len(stems)} exposures have the input "{owned.when}".'
            " Give it for all of them or for none."
        )
    return _short(keyword, ",".join(with_input if stem in have else without for stem in stems))


def _chosen(values: Sequence[str], asked: str) -> str:
    """The one of `values` that the configuration asks for, else the first."""
    return next((value for value in values if value.upper() == asked.upper()), values[0])


def _filled(text: str, application: Application, files: Files, machine: Mapping[str, str]) -> str:
    def put(found: re.Match[str]) -> str:
        name = found[1]
        if name in machine:
            return machine[name]
        if name == "origins":
            return f"../cfg/{ORIGINS}"
        if name == "configuration":
            return f"../cfg/{configuration_target(application)}"
        if name == "stem":
            stems = stems_of(application, files)
            if len(stems) != 1:
                raise SpicaError(f"{application.title} takes one exposure a step, not {len(stems)}.")
            return stems[0]
        return ",".join(path for _, path in files.get(name, ()))

    return re.sub(r"\{(\w+)\}", put, text)


def _short(keyword: str, value: str) -> str:
    if len(value) > MAX_VALUE:
        raise SpicaError(
            f"{keyword} would be {len(value)} characters long, more than a tool can hold. Use fewer files."
        )
    return value

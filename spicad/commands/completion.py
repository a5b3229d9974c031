"""`spica completion`: a completion script for bash, zsh or fish, made from the parsers; processids from the tables.

`spica completion processids` is what the scripts call: it loads little and never complains.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from spicad import config
from spicad.commands import COMMANDS, DONE
from spicad.words import Phase, SpicaError

NEWEST = 100
FILES = ("FILE", "DIR", "FOLDER", "file")  # metavars and names of arguments that are paths
PROCESSES = ("PROCESSID",)
PHASES = [phase.value.lower() for phase in Phase]


@dataclass(frozen=True)
class Option:
    names: tuple[str, ...]
    help: str
    takes: str  # '' no value; 'files'; 'any'; or the values, between spaces


@dataclass(frozen=True)
class Command:
    name: str
    help: str
    options: tuple[Option, ...]
    positional: str  # 'processids', 'files', 'any' or the values, between spaces


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("shell", choices=(*SCRIPTS, "processids"), help="the shell; processids is what the scripts ask")
    parser.epilog = (
        'bash: eval "$(spica completion bash)" in ~/.bashrc; zsh: spica completion zsh > a folder of $fpath/_spica; '
        "fish: spica completion fish > ~/.config/fish/completions/spica.fish"
    )


def run(arguments: argparse.Namespace) -> int:
    if arguments.shell == "processids":
        print("\n".join(_processids()))
    else:
        print(SCRIPTS[arguments.shell](list(_commands())), end="")
    return DONE


def _processids() -> list[str]:
    from spicad.commands.tables import open_tables
    from spicad.tables import Process

    try:
        with open_tables(config.load()):
            rows: Any = Process.select(Process.id).order_by(Process.id.desc()).limit(NEWEST).tuples()
            return [str(each) for (each,) in rows]
    except SpicaError:
        return []


def _commands() -> Iterator[Command]:
    from spicad.commands import build_parser

    parsers = _subparsers(build_parser())
    for name, words in COMMANDS.items():
        actions = [action for action in parsers[name]._actions if action.help != argparse.SUPPRESS]
        options = tuple(_option(action) for action in actions if action.option_strings)
        positionals = [_values(action) for action in actions if not action.option_strings]
        yield Command(name, words, options, next((each for each in positionals if each != "any"), "any"))


def _subparsers(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    action: Any = next(each for each in parser._actions if isinstance(each, argparse._SubParsersAction))
    return dict(action.choices)


def _option(action: argparse.Action) -> Option:
    takes = "" if action.nargs == 0 else _values(action)
    return Option(tuple(action.option_strings), _plain(action.help % vars(action) if action.help else ""), takes)


def _values(action: argparse.Action) -> str:
    if action.choices is not None:
        return " ".join(str(each) for each in action.choices if each != "processids")
    if action.metavar in PROCESSES:
        return "processids"
    if action.metavar == "PHASE":
        return " ".join(PHASES)
    return "files" if action.metavar in FILES or action.dest in FILES else "any"


def _plain(text: str) -> str:
    """Without what a shell or zsh's _arguments would read as its own."""
    return "".join(c for c in text if c not in "'\"`$\\[]").replace(":", ",")


# ---------------------------------------------------------------------- bash


def _bash(commands: list[Command]) -> str:
    names = " ".join(command.name for command in commands)
    lines = [
        "# bash completion of spica, made by: spica completion bash",
        "_spica() {",
        "    local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD-1]} command= i",
        "    for ((i = 1; i < COMP_CWORD; i++)); do",
        "        case ${COMP_WORDS[i]} in",
        "            --config) ((i++)) ;;",
        "            -*) ;;",
        "            *) command=${COMP_WORDS[i]}; break ;;",
        "        esac",
        "    done",
        "    COMPREPLY=()",
        "    if [[ -z $command ]]; then",
        "        [[ $before == --config ]] && { compopt -o default; return; }",
        f'        COMPREPLY=($(compgen -W "--config --version --help {names}" -- "$word"))',
        "        return",
        "    fi",
        "    local options= values=",
        "    case $command in",
    ]
    for command in commands:
        lines.append(f"        {command.name})")
        lines.append(f'            options="{" ".join(name for option in command.options for name in option.names)}"')
        lines.append(f'            values="{command.positional}"')
        with_value = [option for option in command.options if option.takes]
        if with_value:
            lines.append("            case $before in")
            for option in with_value:
                lines.append(f'                {"|".join(option.names)}) options=; values="{option.takes}" ;;')
            lines.append("            esac")
        lines.append("            ;;")
    lines += [
        "    esac",
        "    [[ $word == -* ]] && values=",
        "    case $values in",
        "        files) compopt -o default; return ;;",
        "        any) values= ;;",
        "        processids) values=$(spica completion processids 2>/dev/null) ;;",
        "    esac",
        "    [[ $word == -* ]] || options=",
        '    COMPREPLY=($(compgen -W "$options $values" -- "$word"))',
        "}",
        "complete -F _spica spica",
        "",
    ]
    return "\n".join(lines)


# ---------------------------------------------------------------------- zsh


def _zsh(commands: list[Command]) -> str:
    lines = [
        "#compdef spica",
        "# zsh completion of spica, made by: spica completion zsh",
        "_spica_processids() {",
        "    local -a ids",
        '    ids=(${(f)"$(spica completion processids 2>/dev/null)"})',
        "    compadd -V processids -a ids",
        "}",
        "_spica() {",
        "    local context state line",
        "    local -a commands",
        "    commands=(",
        *(f"        '{command.name}:{_plain(command.help)}'" for command in commands),
        "    )",
        "    _arguments -C '--config[the configuration file]:file:_files' '--version[say which version this is]' \\",
        "        '--help[show the sub-commands]' '1:command:->command' '*::argument:->arguments'",
        "    case $state in",
        "        command) _describe command commands ;;",
        "        arguments)",
        "            case $line[1] in",
    ]
    for command in commands:
        specs = [
            f"'{name}[{option.help}]{_zsh_value(option.takes)}'" for option in command.options for name in option.names
        ]
        specs.append(f"'*{_zsh_value(command.positional)}'")
        lines.append(f"                {command.name}) _arguments {' '.join(specs)} ;;")
    lines += [
        "            esac ;;",
        "    esac",
        "}",
        'if [[ $funcstack[1] == _spica ]]; then _spica "$@"; else compdef _spica spica; fi',
        "",
    ]
    return "\n".join(lines)


def _zsh_value(takes: str) -> str:
    known = {"": "", "files": ":file:_files", "any": ":value: ", "processids": ":processid:_spica_processids"}
    return known.get(takes, f":value:({takes})")


# ---------------------------------------------------------------------- fish


def _fish(commands: list[Command]) -> str:
    names = " ".join(command.name for command in commands)
    lines = [
        "# fish completion of spica, made by: spica completion fish",
        "complete -c spica -f",
        "complete -c spica -l config -r -F -d 'the configuration file'",
    ]
    for command in commands:
        words = _plain(command.help)
        lines.append(f"complete -c spica -n 'not __fish_seen_subcommand_from {names}' -a {command.name} -d '{words}'")
        seen = f"-n '__fish_seen_subcommand_from {command.name}'"
        for option in command.options:
            flags = " ".join(f"-l {name[2:]}" if name.startswith("--") else f"-s {name[1:]}" for name in option.names)
            lines.append(f"complete -c spica {seen} {flags}{_fish_value(option.takes, True)} -d '{option.help}'")
        if command.positional != "any":
            lines.append(f"complete -c spica {seen}{_fish_value(command.positional, False)}")
    return "\n".join([*lines, ""])


def _fish_value(takes: str, is_option: bool) -> str:
    needs = " -r" if is_option and takes else ""
    known = {"": "", "files": f"{needs} -F", "any": needs, "processids": f"{needs} -a '(spica completion processids)'"}
    return known.get(takes, f"{needs} -a '{takes}'")


SCRIPTS: dict[str, Callable[[list[Command]], str]] = {"bash": _bash, "zsh": _zsh, "fish": _fish}

"""Four groups of (SExtractor, SCAMP, SWarp) on a made sky: the daemon beside a serial script and `make -j2`.

    python tests/benchmarks/stack.py [--fields 4] [--exposures 3] [--ccds 4] [--size 1400] [--format fits] [--fz]

The others run the daemon's own command lines (NTHREADS=1), taken from a first run that also warms the disk cache; they
check nothing, keep no capsule and need no sandbox. Products are compared by science digest.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import stand
from stand import ROOT, Stand, table, verdict, wait_until

from spicad import fits, parts
from spicad.applications.descriptor import Application, load_applications

SLOTS = 2
JOB = """\
name = "{name}"
exposures = ["{folder}/*p.{packing}"]
weight = "{folder}/badpix.fits"
reference = "{folder}/refcat.cat"
rules = "stack"

[end]
"""


@dataclass(frozen=True)
class Command:
    """One step as the others run it: `folder` holds in/, cfg/ and job/; `needs` are folders of earlier steps."""

    folder: Path
    argv: tuple[str, ...]
    needs: tuple[Path, ...]
    made: tuple[tuple[str, str], ...]  # (file in job/, name among the products or '')


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fields", type=int, default=4)
    parser.add_argument("--exposures", type=int, default=3, help="of each filter and field")
    parser.add_argument("--ccds", type=int, default=4)
    parser.add_argument("--size", type=int, default=1400, help="pixels along a CCD")
    parser.add_argument("--stars", type=int, default=800, help="of a CCD")
    parser.add_argument("--fz", action="store_true", help="compressed exposures, which SExtractor cannot read")
    chosen = parser.parse_args()
    with stand.scratch() as folder:
        skies = make_skies(folder, chosen)
        packing = "fits.fz" if chosen.fz else "fits"
        recorded = run_spica(folder / "first", skies, packing, "none")[1]
        groups = {name: commands_of(capsule, folder / "others" / name) for name, capsule in recorded.items()}
        serial_s = run_serial(folder, groups)
        digests = digests_of(groups)
        empty(groups)
        make_s = run_make(folder, groups)
        spica_s, capsules = run_spica(folder / "second", skies, packing, "bubblewrap")
        alike, different = compare(digests, capsules)
    rows = [("serial script", serial_s), ("make -j2", make_s), ("spicad, 2 slots, sandbox", spica_s)]
    title = (
        f"{chosen.fields} groups, {chosen.exposures} exposures a filter, {chosen.ccds} CCDs of {chosen.size}, {packing}"
    )
    table(title, ("contender", "s", "over make"), [(name, took, took / make_s) for name, took in rows])
    good = verdict("spicad over make -j2", spica_s / make_s, 1.10)
    print(
        f"  {'ok  ' if alike and not different else 'MISS'} products with the serial script's science digest: {alike}"
    )
    for name in different:
        print(f"       differs: {name}")
    return 0 if good and alike and not different else 1


def make_skies(folder: Path, chosen: argparse.Namespace) -> dict[str, Path]:
    """A sky for each group, so that each has its own SCAMP."""
    skies = {}
    for number in range(chosen.fields):
        name = f"field{number + 1}"
        skies[name] = folder / "archive" / name
        command = [
            sys.executable, str(ROOT / "bin/spica"), "sky", "--exposures", chosen.exposures, "--ccds", chosen.ccds,
            "--size", chosen.size, "--stars", chosen.stars, "--seed", number + 1,
            "--format", "fits.fz" if chosen.fz else "fits", skies[name],
        ]  # fmt: skip
        subprocess.run(list(map(str, command)), check=True, stdout=subprocess.DEVNULL)
    return skies


def run_spica(folder: Path, skies: dict[str, Path], packing: str, kind: str) -> tuple[float, dict[str, Path]]:
    """Seconds from the first drop to the last end, and each group's capsule."""
    made = Stand(folder, SLOTS, kind)
    for name in ("applications", "rules", "configurations"):
        shutil.copytree(ROOT / "etc" / name, folder / name, dirs_exist_ok=True)
    shutil.rmtree(made.archive)
    made.archive.symlink_to(next(iter(skies.values())).parent)
    made.start()
    try:
        began = time.monotonic()
        for name, sky in skies.items():
            made.drop(name, JOB.format(name=name, folder=sky, packing=packing))
        ended = ("completed", "error", "held")
        wait_until(lambda: sum(map(made.count, ended)) == len(skies), "the groups to be over", 3600, 0.02)
        took = time.monotonic() - began
    finally:
        made.end()
    if made.count("completed") != len(skies):
        raise SystemExit(f"not all were completed:\n{made.log.read_text()[-3000:]}")
    return took, {name: next(made.results.glob(f"*/*-{name}/run-1")) for name in skies}


# ---------------------------------------------------------------------- the others' commands


def commands_of(capsule: Path, folder: Path) -> list[Command]:
    """The steps of a finished run without a sandbox, laid out anew in `folder`; what one makes, another links to."""
    applications = load_applications(ROOT / "etc" / "applications")
    steps = json.loads(parts.read(capsule, "plan.json"))["steps"]
    makers: dict[str, tuple[Path, str]] = {}  # path in the capsule -> step that made it, its name in job/
    commands = []
    for number, step in enumerate(steps, 1):
        source = capsule / "steps" / f"{number:04d}-{step['application']}"
        if not (source / "step.json").exists():
            continue
        application = applications[step["application"]]
        target = folder / source.name
        needs = lay_out(source, target, application, makers)
        made = []
        for each in json.loads((source / "outcome.json").read_text())["made"]:
            name = application.outputs[each["output"]].file_for(each["stem"])
            makers[str(capsule / each["path"])] = (target, name)
            made.append((name, Path(each["path"]).name if each["keep"] else ""))
        argv = json.loads((source / "step.json").read_text())["argv"]
        commands.append(Command(target, tuple(argv), needs, tuple(made)))
    return commands


def lay_out(
    source: Path, target: Path, application: Application, makers: dict[str, tuple[Path, str]]
) -> tuple[Path, ...]:
    shutil.copytree(source / "cfg", target / "cfg")
    for name in ("in", "job"):
        (target / name).mkdir()
    needs = {}
    endings = [wanted.file.replace("{stem}", "") for wanted in application.inputs.values() if wanted.place == "job"]
    for link in sorted((source / "in").iterdir()):
        origin = os.readlink(link)
        if origin in makers:
            maker, name = makers[origin]
            needs[maker] = None
            origin = str(maker / "job" / name)
        (target / "in" / link.name).symlink_to(origin)
        if any(link.name.endswith(ending) for ending in endings):
            (target / "job" / link.name).symlink_to(f"../in/{link.name}")
    return tuple(needs)


def empty(groups: dict[str, list[Command]]) -> None:
    """Job folders as they were before the commands ran."""
    for command in [each for group in groups.values() for each in group]:
        for path in (command.folder / "job").iterdir():
            if not path.is_symlink():
                path.unlink()


def shell_line(command: Command) -> str:
    return f"cd {shlex.quote(str(command.folder / 'job'))} && {shlex.join(command.argv)} >../log 2>&1"


def run_serial(folder: Path, groups: dict[str, list[Command]]) -> float:
    script = folder / "serial.sh"
    lines = [f"({shell_line(command)}) || exit 1" for group in groups.values() for command in group]
    script.write_text("\n".join(lines) + "\n")
    return timed(["sh", str(script)])


def run_make(folder: Path, groups: dict[str, list[Command]]) -> float:
    makefile = folder / "Makefile"
    commands = [command for group in groups.values() for command in group]
    lines = ["all: " + " ".join(str(command.folder / "done") for command in commands)]
    for command in commands:
        lines.append(f"{command.folder}/done: " + " ".join(f"{need}/done" for need in command.needs))
        lines.append("\t" + shell_line(command).replace("$", "$$") + " && touch $@")
    makefile.write_text("\n".join(lines) + "\n")
    return timed(["make", "-s", f"-j{SLOTS}", "-f", str(makefile)])


def timed(command: list[str]) -> float:
    environment = {**os.environ, "LC_ALL": "C", "TZ": "UTC"}
    began = time.monotonic()
    subprocess.run(command, check=True, env=environment)
    return time.monotonic() - began


# ---------------------------------------------------------------------- the products


def digests_of(groups: dict[str, list[Command]]) -> dict[tuple[str, str], str]:
    return {
        (group, product): fits.science_digest(command.folder / "job" / name)
        for group, commands in groups.items()
        for command in commands
        for name, product in command.made
        if product
    }


def compare(digests: dict[tuple[str, str], str], capsules: dict[str, Path]) -> tuple[int, list[str]]:
    alike, different = 0, []
    for (group, product), digest in digests.items():
        path = capsules[group] / "products" / product
        if path.exists() and fits.science_digest(path) == digest:
            alike += 1
        else:
            different.append(f"{group}/{product}")
    return alike, different


if __name__ == "__main__":
    sys.exit(main())

"""The bubblewrap sandbox around a step: pure functions from a step's folders to bwrap's arguments.

What it shows, and what that takes, is told in spica-application(5), THE SANDBOX. Starting the process is
backends/local.py's affair.
"""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from spicad.words import SpicaError

LINKS_OF_ROOT = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")
MOST_ONE_BY_ONE = 100  # inputs bound by bwrap itself: more take it longer than many_inputs.py, measured
MOST_WORDS = 9000  # that bwrap takes (MAX_ARGS of bubblewrap.c)
SCRATCH_BYTES = 64 << 20  # of /tmp and /dev/shm each: what lies there is memory of the machine
ETC_OF_LIBRARIES = ("/etc/alternatives", "/etc/ld.so.cache")  # BLAS is found through both
KEPT_APART = (
    "--unshare-all", "--unshare-user", "--new-session", "--clearenv", "--cap-drop", "ALL", "--hostname", "spica",
)  # fmt: skip
PACKAGE = Path(__file__).resolve().parent
ENVIRONMENT = {
    "PATH": "/usr/bin:/bin",
    "HOME": "/job",
    "LC_ALL": "C",
    "TZ": "UTC",
    "PYTHONPATH": str(PACKAGE.parent),  # for our own programs run from a checkout
    "PYTHONDONTWRITEBYTECODE": "1",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
}


@cache
def bwrap() -> str:
    path = shutil.which("bwrap")
    if not path:
        raise SpicaError('bubblewrap (bwrap) is not installed. Install it, or set kind = "none" in [sandbox].')
    return path


@cache
def user_namespaces_work() -> str:
    """'' when the sandbox can be entered here, else what bwrap says."""
    probe = [bwrap(), *KEPT_APART, "--ro-bind", "/usr", "/usr", *_root_links(), "--proc", "/proc", "--dev", "/dev"]
    probe.append("/usr/bin/true")
    done = subprocess.run(probe, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=20, check=False)
    return "" if done.returncode == 0 else done.stderr.strip() or f"exit {done.returncode}"


@cache
def many_inputs_work() -> bool:
    """Whether many_inputs.py may have a mount namespace here: some machines let nobody but bwrap have one."""
    probe = [*_many_inputs(), str(PACKAGE), "-", "/usr/bin/true"]
    return subprocess.run(probe, stdin=subprocess.DEVNULL, capture_output=True, timeout=20, check=False).returncode == 0


@cache
def _knows_sizes() -> bool:
    """bubblewrap before 0.7 has no --size."""
    said = subprocess.run([bwrap(), "--help"], capture_output=True, text=True, timeout=20, check=False)
    return "--size" in said.stdout + said.stderr


def arguments(
    folder: Path, inputs: Mapping[str, Path], argv: Sequence[str], read_only: Sequence[Path] = ()
) -> list[str]:
    """bwrap's arguments for `argv` in the step of `folder`, see `options` and `command`."""
    return [*options(folder, inputs, read_only), *command(argv)]


def options(folder: Path, inputs: Mapping[str, Path], read_only: Sequence[Path] = ()) -> list[str]:
    """What is seen in the sandbox of the step in `folder` (job/, maybe cfg/): `inputs`, no more, in /in.

    `read_only` are further folders seen at their own places, for tools that live outside /usr. /job comes last, and
    then nothing can be written but there and in the scratch folders.
    """
    result = [*KEPT_APART, "--ro-bind", "/usr", "/usr", *_root_links()]
    for library in ETC_OF_LIBRARIES:
        result += ["--ro-bind-try", library, library]
    size = ["--size", str(SCRATCH_BYTES)] if _knows_sizes() else []
    result += ["--proc", "/proc", "--dev", "/dev", *size, "--tmpfs", "/dev/shm"]  # noqa: S108 - inside the sandbox
    result += ["--remount-ro", "/dev", *size, "--tmpfs", "/tmp"]  # noqa: S108
    for key, value in environment(Path("/job")).items():
        result += ["--setenv", key, value]
    for place in read_only:
        result += ["--ro-bind", str(place), str(place)]
    if _are_laid_out(inputs):
        result += ["--ro-bind", str(folder / "in"), "/in"]
    else:
        for name, path in inputs.items():
            result += ["--ro-bind", str(path), f"/in/{name}"]
    result += ["--ro-bind-try", str(folder / "cfg"), "/cfg", "--bind", str(folder / "job"), "/job"]
    result += ["--remount-ro", "/"]
    if len(result) > MOST_WORDS:
        raise OSError(errno.E2BIG, f"{len(inputs)} files for one sandbox, where bwrap alone may make namespaces")
    return result


def _are_laid_out(inputs: Mapping[str, Path]) -> bool:
    return len(inputs) > MOST_ONE_BY_ONE and many_inputs_work()


@contextmanager
def entrance(folder: Path, inputs: Mapping[str, Path], line: Sequence[str]) -> Iterator[tuple[list[str], list[int]]]:
    """What to start for bwrap's command line, and the handles that it needs: many inputs are laid out before."""
    if not _are_laid_out(inputs):
        yield [bwrap(), *line], []
        return
    os.makedirs(folder / "in", exist_ok=True)
    handle = os.memfd_create("inputs")
    try:
        with open(handle, "wb", closefd=False) as table:
            table.writelines(os.fsencode(f"{name}\0{path}\0") for name, path in inputs.items())
        os.lseek(handle, 0, os.SEEK_SET)
        yield [*_many_inputs(), str(folder / "in"), str(handle), bwrap(), *line], [handle]
    finally:
        os.close(handle)


def _many_inputs() -> tuple[str, ...]:
    return sys.executable, "-I", "-S", str(PACKAGE / "backends" / "many_inputs.py")


def command(argv: Sequence[str]) -> list[str]:
    """The end of bwrap's command line. Without the whole of `options` there is no /job, and no tool is begun."""
    return ["--chdir", "/job", "--", *argv]


def environment(home: str | Path) -> dict[str, str]:
    return {**ENVIRONMENT, "HOME": str(home)}


@cache
def _root_links() -> tuple[str, ...]:
    """/bin, /lib and so on as they are on this machine: links into /usr, or folders of their own."""
    result: list[str] = []
    for name in LINKS_OF_ROOT:
        path = Path("/") / name
        if path.is_symlink():
            result += ["--symlink", os.readlink(path), str(path)]
        elif path.is_dir():
            result += ["--ro-bind", str(path), str(path)]
    return tuple(result)


@cache
def python_places() -> tuple[Path, ...]:
    """Folders that our own programs need beside /usr: the virtual environment, its base, and this package."""
    wanted = [Path(sys.prefix), Path(sys.base_prefix), PACKAGE]
    return tuple(dict.fromkeys(path for path in wanted if not path.is_relative_to("/usr")))

"""The bubblewrap sandbox around a step: pure functions from a step's folders to bwrap's arguments.

What was measured of it is told in spica-application(5), SANDBOX. Starting the process is backends/local.py's affair.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

from spicad.words import SpicaError

LINKS_OF_ROOT = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")
ETC_OF_LIBRARIES = ("/etc/alternatives", "/etc/ld.so.cache")  # BLAS is found through both
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
    probe = [bwrap(), "--unshare-all", "--ro-bind", "/usr", "/usr", *_root_links(), "/usr/bin/true"]
    done = subprocess.run(probe, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=20, check=False)
    return "" if done.returncode == 0 else done.stderr.strip() or f"exit {done.returncode}"


def arguments(
    folder: Path, inputs: Mapping[str, Path], argv: Sequence[str], read_only: Sequence[Path] = ()
) -> list[str]:
    """bwrap's arguments for `argv` in the step of `folder`, see `options` and `command`."""
    return [*options(folder, inputs, read_only), *command(argv)]


def options(folder: Path, inputs: Mapping[str, Path], read_only: Sequence[Path] = ()) -> list[str]:
    """What is seen in the sandbox of the step in `folder` (which holds cfg/ and job/): `inputs` one by one in /in.

    `read_only` are further folders seen at their own places, for tools that live outside /usr. /job comes last.
    """
    result = ["--unshare-all", "--unshare-user", "--new-session", "--clearenv", "--cap-drop", "ALL"]
    result += ["--hostname", "spica"]
    result += ["--ro-bind", "/usr", "/usr", *_root_links()]
    for library in ETC_OF_LIBRARIES:
        result += ["--ro-bind-try", library, library]
    result += ["--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp"]  # noqa: S108 - inside the sandbox
    for key, value in environment(Path("/job")).items():
        result += ["--setenv", key, value]
    for place in read_only:
        result += ["--ro-bind", str(place), str(place)]
    for name, path in inputs.items():
        result += ["--ro-bind", str(path), f"/in/{name}"]
    return [*result, "--ro-bind", str(folder / "cfg"), "/cfg", "--bind", str(folder / "job"), "/job"]


def command(argv: Sequence[str]) -> list[str]:
    """The end of bwrap's command line. Without the whole of `options` there is no /job, and no tool is begun."""
    return ["--chdir", "/job", "--", *argv]


def environment(home: Path) -> dict[str, str]:
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

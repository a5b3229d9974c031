"""What runs on a node of the cluster for one attempt of a step: takes it up, runs its tool, writes down how it ended.

All that it is told stands in task.json of the step's folder, which every node sees; slurm.py wrote it and reads the
answers, taken.json and ended.json. An attempt is taken up once, whatever the cluster does: what comes later is refused.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import sys
import time
from pathlib import Path
from typing import Any

from spicad import sandbox
from spicad.backends import local
from spicad.backends.backend import Limits
from spicad.durable import replace_file

TASK, TAKEN, ENDED = "task.json", "taken.json", "ended.json"
HERE = Path()  # the folder stays the same one under our feet when it is put aside meanwhile


class Refused(Exception):
    """This node has nothing to do here."""


class Cancelled(Exception):
    """The cluster wants an end."""


def main(folder: str, name: str) -> None:
    signal.signal(signal.SIGTERM, _cancel)
    who = {
        "name": name,
        "node": _node(),
        "job": int(os.environ.get("SLURM_JOB_ID") or 0),
        "restarts": int(os.environ.get("SLURM_RESTART_COUNT") or 0),
        "time": time.time(),
    }
    try:
        task = _take_up(folder, who)
    except Refused as refusal:
        sys.exit(f"spica: {name} is not begun: {refusal}")
    try:
        end = _run(task)
    except Cancelled:
        end = {"why": "it was cancelled in Slurm, or ran into a limit there"}
    except Exception as error:
        end = {"why": f"it cannot be started on {_node()}: {error}", "elsewhere": True}
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    local.kill(Path.cwd())
    replace_file(f"./{ENDED}", json.dumps(who | end).encode())


def _cancel(number: int, frame: Any) -> None:
    raise Cancelled


def _take_up(folder: str, who: dict[str, Any]) -> dict[str, Any]:
    """The task, which from now on is this node's alone."""
    try:
        os.chdir(folder)
        task = json.loads((HERE / TASK).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise Refused(f"{error}. Is the results folder mounted on {_node()}?") from None
    if task["name"] != who["name"]:
        raise Refused(f"the step is at {task['name']} by now")
    if not take(HERE, who):
        raise Refused(f"it was taken up before: {(HERE / TAKEN).read_text(errors='replace')}")
    return dict(task)


def take(folder: Path, who: dict[str, Any]) -> bool:
    """Of all who try, one takes an attempt up, on whatever machine; everybody else gets False."""
    try:
        handle = os.open(folder / TAKEN, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o640)
    except FileExistsError:
        return False
    with open(handle, "w", encoding="utf-8") as file:
        file.write(json.dumps(who))
    return True


def _node() -> str:
    return os.environ.get("SLURMD_NODENAME") or socket.gethostname().partition(".")[0]


def _run(task: dict[str, Any]) -> dict[str, Any]:
    if task["sandboxed"] and (why := sandbox.user_namespaces_work()):
        raise OSError(f"the sandbox does not work: {why}")
    launched = local.start(
        HERE,
        task["argv"],
        {each: Path(path) for each, path in task["inputs"].items()},
        Limits(**task["limits"]),
        task["sandboxed"],
        time.time(),
        [Path(place) for place in task["read_only"]],
        is_bound=True,
    )
    is_timed_out = not _has_ended(launched.pid, task["limits"]["time_s"])
    if is_timed_out:
        local.kill(HERE)
    status = os.waitstatus_to_exitcode(os.waitpid(launched.pid, 0)[1])
    code = local.exit_code(HERE)
    if code is None and not launched.sandboxed:
        code = 128 - status if status < 0 else status
    return {"exit_code": code, "timed_out": is_timed_out}


def _has_ended(pid: int, within_s: float) -> bool:
    poll, handle = select.poll(), os.pidfd_open(pid)
    try:
        poll.register(handle, select.POLLIN)
        return bool(poll.poll(min(within_s * 1000, 2**31 - 1)))
    finally:
        os.close(handle)


if __name__ == "__main__":
    main(*sys.argv[1:])

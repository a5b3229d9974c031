"""The sandbox around a step, entered for real: what a tool sees, and what it cannot reach.

Starting, limiting and killing are told in test_local_backend.py.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from spicad import sandbox
from spicad.backends import local

LIMITS = local.Limits(memory_mb=1024, disk_mb=64, time_s=60)

pytestmark = pytest.mark.skipif(
    not shutil.which("bwrap") or bool(sandbox.user_namespaces_work()), reason="no sandbox works here"
)

Inside = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def step(tmp_path: Path) -> Path:
    folder = tmp_path / "step"
    for name in ("cfg", "in", "job"):
        (folder / name).mkdir(parents=True)
    (folder / "cfg/tool.conf").write_text("KEY value\n")
    (tmp_path / "1p.fits").write_text("pixels")
    return folder


@pytest.fixture
def inside(step: Path) -> Inside:
    """Runs a Python program in the sandbox of the step, with one exposure bound as img0001.fits."""

    def run(program: str) -> subprocess.CompletedProcess[str]:
        inputs = {"img0001.fits": step.parent / "1p.fits"}
        argv = [sys.executable, "-c", program]
        line = [sandbox.bwrap(), *sandbox.arguments(step, inputs, argv, sandbox.python_places())]
        return subprocess.run(line, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=60, check=False)

    return run


def test_a_step_writes_in_job_and_nowhere_else(inside: Inside, step: Path) -> None:
    done = inside(
        "import os, json\n"
        "open('mine', 'w').write('made')\n"
        "said = {}\n"
        "for path in ('/in/img0001.fits', '/in/new', '/cfg/tool.conf', '/cfg/new', '/usr/new', '/etc/new', '/new',"
        " '/dev/new'):\n"
        "    try:\n        open(path, 'w').write('x'); said[path] = 'written'\n"
        "    except OSError as error:\n        said[path] = error.strerror\n"
        "for action in (os.unlink, lambda p: os.chmod(p, 0o777), lambda p: os.rename(p, '/in/x')):\n"
        "    try:\n        action('/in/img0001.fits'); said['act'] = 'done'\n"
        "    except OSError:\n        pass\n"
        "print(json.dumps(said), os.getcwd())"
    )

    said, _, folder = done.stdout.strip().rpartition(" ")
    assert folder == "/job"
    results = json.loads(said)
    assert "act" not in results
    for path in results:
        assert results[path] == "Read-only file system"
    assert (step / "job/mine").read_text() == "made"
    assert (step.parent / "1p.fits").read_text() == "pixels"
    assert (step / "cfg/tool.conf").read_text() == "KEY value\n"
    assert os.listdir(step / "in") == []


@pytest.mark.skipif(not sandbox._knows_sizes(), reason="bubblewrap before 0.7")
@pytest.mark.parametrize("folder", ["/tmp", "/dev/shm"])
def test_the_scratch_folders_cannot_eat_the_memory_of_the_machine(inside: Inside, folder: str) -> None:
    done = inside(
        f"file = open('{folder}/mine', 'wb', buffering=0)\nwritten = 0\n"
        "try:\n    while written < 100 << 20:\n        written += file.write(bytes(1 << 20))\n"
        "except OSError as error:\n    print(error.strerror)\n"
        "print(written)"
    )

    why, written = done.stdout.splitlines()
    assert why == "No space left on device"
    assert 1 << 20 <= int(written) <= sandbox.SCRATCH_BYTES


def test_the_machine_is_not_seen(inside: Inside, step: Path) -> None:
    secret = step.parent / "secret"
    secret.write_text("secret")

    asked = ["/etc/passwd", "/etc/shadow", "/etc/hosts", "/root", "/home", "/var", "/run", "/sys", "/boot"]
    done = inside(
        f"import os, json\nasked = {[*asked, str(secret), str(step)]!r}\n"
        "print(json.dumps([[p for p in asked if os.path.exists(p)], sorted(os.listdir('/etc')), os.listdir('/tmp'),"
        " sorted(os.listdir('/in')), [p for p in os.listdir('/proc') if p.isdigit()], sorted(os.listdir('/dev'))]))"
    )

    seen, etc, tmp, inputs, processes, devices = json.loads(done.stdout)
    assert seen == []
    assert set(etc) <= {"alternatives", "ld.so.cache"}
    assert set(tmp) <= {place.parts[2] for place in sandbox.python_places() if place.parts[1] == "tmp"}
    assert inputs == ["img0001.fits"]
    assert len(processes) <= 2
    assert not {"sda", "mem", "kmsg", "loop0", "vda"} & set(devices)


def test_the_environment_is_clean_and_nothing_can_be_asked(inside: Inside, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPICA_SECRET", "secret")
    monkeypatch.setenv("LD_PRELOAD_", "x")

    done = inside("import os, sys, json; print(json.dumps([dict(os.environ), sys.stdin.read()]))")

    environment, said = json.loads(done.stdout)
    environment.pop("PWD", None)
    assert environment == sandbox.environment(Path("/job"))
    assert environment["HOME"] == "/job"
    assert said == ""


def test_there_is_no_network_not_even_to_this_machine(inside: Inside) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.socket(socket.AF_UNIX) as local:
        local.bind(f"\0spica-test-{os.getpid()}")
        local.listen()
        arrived: list[object] = []
        thread = threading.Thread(target=lambda: arrived.append(listener.accept()), daemon=True)
        thread.start()
        program = (
            f"import socket\nplaces = [(2, {listener.getsockname()!r}), (1, {local.getsockname()!r})]\n"
            "for family, place in places:\n"
            "    try:\n        socket.socket(family).connect(place); print('connected')\n"
            "    except OSError as error:\n        print(error.strerror)\n"
            "try:\n    socket.create_connection(('192.0.2.1', 80), 5); print('connected')\n"
            "except OSError as error:\n    print(error.strerror)\n"
        )

        done = inside(program)
        bare = subprocess.run(
            [sys.executable, "-c", program.split("try:\n    socket.create")[0]], capture_output=True, text=True
        )

        assert done.stdout.split("\n")[:3] == ["Connection refused", "Connection refused", "Network is unreachable"]
        assert bare.stdout.split() == ["connected", "connected"]
        thread.join(30)
        assert len(arrived) == 1


def test_a_tool_has_no_power_over_the_machine(inside: Inside) -> None:
    done = inside(
        "import os, socket\n"
        "lines = open('/proc/self/status').read().splitlines()\n"
        "print([line.split()[1] for line in lines if line.startswith(('CapEff', 'CapPrm', 'NoNewPrivs'))])\n"
        "print(socket.gethostname(), os.system('mount -t tmpfs x /job 2>/dev/null') != 0)\n"
    )

    assert done.stdout.splitlines() == ["['0000000000000000', '0000000000000000', '1']", "spica True"]


def test_what_begins_with_a_dash_is_no_option_of_bwrap(step: Path) -> None:
    arguments = sandbox.arguments(step, {}, ["--bind", "/", "/host"])

    assert arguments[-4:] == ["--", "--bind", "/", "/host"]
    done = subprocess.run([sandbox.bwrap(), *arguments], capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "execvp --bind" in done.stderr


def test_the_folder_to_work_in_comes_last_so_that_half_the_options_begin_nothing(step: Path) -> None:
    options = sandbox.options(step, {"img0001.fits": step.parent / "1p.fits"}, [Path("/opt")])

    assert options[-5:] == ["--bind", str(step / "job"), "/job", "--remount-ro", "/"]
    assert sandbox.command(["/usr/bin/true"]) == ["--chdir", "/job", "--", "/usr/bin/true"]


def test_places_of_our_own_programs_are_named_once_and_lie_outside_usr() -> None:
    places = sandbox.python_places()

    assert sandbox.PACKAGE in places or sandbox.PACKAGE.is_relative_to("/usr")
    assert len(set(places)) == len(places)
    assert all(place.is_dir() and not place.is_relative_to("/usr") for place in places)


def test_our_own_programs_run_in_the_sandbox(inside: Inside) -> None:
    done = inside("import spicad.words; print(spicad.words.Phase.QUEUED)")

    assert (done.returncode, done.stdout.strip()) == (0, "QUEUED")


@pytest.mark.slow
def test_more_files_than_bwrap_has_words_for_are_seen_one_by_one_and_nothing_beside_them(step: Path) -> None:
    folder = step.parent / "night"
    folder.mkdir()
    inputs = {}
    for number in range(1, 3101):
        path = folder / f"exposure {number}.fits"
        path.write_text(str(number))
        inputs[f"img{number:04d}.fits"] = path
    (folder / "of somebody else.fits").write_text("secret")
    script = (
        "ls /in | wc -l; cat /in/img0001.fits /in/img3100.fits; echo; find / -xdev -name '*else*';"
        "find /in -name '*else*';"
        "for change in 'rm /in/img0002.fits' 'touch /in/new' 'touch /in/img0003.fits' 'umount /in/img0004.fits';"
        " do $change 2>/dev/null && echo done; done; grep -c /in/ /proc/self/mountinfo"
    )

    launched = local.start(step, ("/bin/sh", "-c", script), inputs, LIMITS, True, 1000.0)
    os.waitpid(launched.pid, 0)

    assert (step / "log").read_text().split() == ["3100", "13100", "3100"]
    assert local.exit_code(step) == 0
    assert os.listdir(step / "in") == []
    assert all(path.read_text() == str(number) for number, path in enumerate(inputs.values(), 1))


def test_where_only_bwrap_may_make_namespaces_many_files_are_still_bound_and_too_many_are_refused(
    step: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sandbox, "many_inputs_work", lambda: False)
    path = step.parent / "1p.fits"

    some = sandbox.arguments(step, {f"img{number:04d}.fits": path for number in range(101)}, ["/bin/ls", "/in"])
    done = subprocess.run([sandbox.bwrap(), *some], capture_output=True, text=True, check=False)

    assert len(done.stdout.split()) == 101
    with pytest.raises(OSError, match="4000 files for one sandbox"):
        sandbox.options(step, {f"img{number:04d}.fits": path for number in range(4000)})


def test_a_file_that_went_before_it_could_be_laid_out_is_named_in_the_log(step: Path) -> None:
    path = step.parent / "1p.fits"
    inputs = {f"img{number:04d}.fits": path for number in range(200)}
    inputs["img0150.fits"] = step.parent / "gone.fits"

    launched = local.start(step, ("/bin/touch", "begun"), inputs, LIMITS, True, 1000.0)
    os.waitpid(launched.pid, 0)

    assert f"'{step.parent}/gone.fits' cannot be had for the sandbox: No such file" in (step / "log").read_text()
    assert local.exit_code(step) is None
    assert os.listdir(step / "job") == []


def test_a_machine_without_bubblewrap_is_told_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from spicad.words import SpicaError

    monkeypatch.setenv("PATH", str(tmp_path))
    sandbox.bwrap.cache_clear()
    try:
        with pytest.raises(SpicaError, match=r'not installed. Install it, or set kind = "none" in \[sandbox\]'):
            sandbox.bwrap()
    finally:
        monkeypatch.undo()
        sandbox.bwrap.cache_clear()

"""A line of the log says when, how grave, on which node, which process, run and task; for the journal and for a file.

That a reload changes the level and opens a rotated file is tried with a real daemon.
"""

from __future__ import annotations

import logging
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from conftest import COMPILED, ROOT, RunningSpica, running_spica, wait_until  # noqa: F401

from spicad import logs

pytestmark = pytest.mark.slow

WHEN = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3}"


@dataclass
class Run:
    process: int = 12
    number: int = 3


@dataclass
class Step:
    folder: str = "002-scamp"


def record(words: str, level: int = logging.INFO, error: BaseException | None = None) -> logging.LogRecord:
    about = (type(error), error, None) if error else None
    return logging.LogRecord("spicad", level, "x.py", 1, words, (), about)  # type: ignore[arg-type]


def test_a_line_says_all_that_grep_needs():
    line = logs.Line("n1", is_journal=False).format(record(f"{logs.about(Run(), Step())} 900001p: done"))

    assert re.fullmatch(f"{WHEN} INFO n1 process 12 run 3 002-scamp 900001p: done", line)


def test_the_journal_gets_the_gravity_of_each_line_and_no_second_time():
    form = logs.Line("n1", is_journal=True)

    assert form.format(record("a\nb", logging.WARNING)) == "<4>n1 a\\nb"
    lines = form.format(record("failed", logging.ERROR, ValueError("no"))).split("\n")
    assert lines[0] == "<3>n1 failed"
    assert len(lines) > 1
    assert all(each.startswith("<3>") for each in lines)


@pytest.mark.parametrize("is_ours", [True, False])
def test_the_journal_is_recognised_by_its_socket(is_ours: bool, tmp_path: Path):
    """The variable is inherited also by those whose standard error goes elsewhere."""
    program = (
        "import logging; from spicad import logs; logs.set_up('info', 'n1'); logging.getLogger('spicad').info('x')"
    )
    with (tmp_path / "err").open("wb") as err:
        status = os.fstat(err.fileno())
        stream = f"{status.st_dev}:{status.st_ino if is_ours else 1}"
        env = {**os.environ, **COMPILED, "JOURNAL_STREAM": stream}
        subprocess.run([sys.executable, "-c", program], stderr=err, env=env, cwd=ROOT, check=True)

    assert (tmp_path / "err").read_text().startswith("<6>n1 x") == is_ours


def test_every_line_of_a_run_names_process_run_and_task(running_spica: RunningSpica):  # noqa: F811
    process = running_spica.submit("copy", name="m101")

    running_spica.wait_for(process)

    lines = [line for line in running_spica.log.read_text().splitlines() if f"process {process}" in line]
    node = re.escape(lines[0].split()[3])
    of_steps = [line for line in lines if "-copy" in line]
    assert len(of_steps) >= 6  # three started, three done
    assert all(re.match(rf"{WHEN} INFO {node} process {process} run 1 \d+-copy ", line) for line in of_steps), of_steps


def test_a_reload_changes_the_level_and_goes_on_in_a_new_file(tmp_path: Path):
    """As logrotate does it: the file is renamed, then the daemon is told."""
    spica = RunningSpica(tmp_path)
    daemon = [sys.executable, str(ROOT / "bin/spicad"), "--config", str(spica.conf)]
    log = spica.spool / "spicad.log"
    env = {**os.environ, **COMPILED}
    subprocess.run([*daemon, "start"], check=True, env=env, capture_output=True)
    try:
        spica.conf.write_text(spica.conf.read_text().replace("[daemon]", '[daemon]\nlog_level = "warning"'))
        log.rename(tmp_path / "spicad.log.1")
        subprocess.run([*daemon, "reload"], check=True, env=env, capture_output=True)
        wait_until(lambda: log.exists(), "a new file")
        (spica.spool / "incoming/odd.spica").write_text('name = "odd"\n[end]\n')
        wait_until(lambda: "odd.spica: refused" in log.read_text(), "the refusal in the new file")
        pid = int((spica.spool / "spicad.pid").read_text())
        assert os.readlink(f"/proc/{pid}/fd/2") == str(log)  # for what its children say
    finally:
        subprocess.run([*daemon, "stop"], check=True, env=env, capture_output=True)

    assert " INFO " not in log.read_text()
    assert "spicad is ready" in (tmp_path / "spicad.log.1").read_text()

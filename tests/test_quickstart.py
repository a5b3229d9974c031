"""bin/quickstart as a newcomer types it: in a fresh checkout, twice, and interrupted.

What the reduction is worth is tested with the tools themselves in test_applications_run.py.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PATIENCE_S = 240

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """What a clone holds, with the virtual environment of these tests: nothing is downloaded here."""
    folder = tmp_path_factory.mktemp("quickstart") / "spica"
    folder.mkdir()
    for name in ("bin", "etc", "spicad"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "requirements.txt", folder)
    (folder / ".venv").symlink_to(sys.prefix)
    yield folder
    subprocess.run([folder / "bin/spicad", "stop"], env=environment(folder), capture_output=True, check=False)


def environment(folder: Path) -> dict[str, str]:
    return {**os.environ, "SPICA_CONF": str(folder / "etc/spica.conf")}


def quickstart(folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [folder / "bin/quickstart"], capture_output=True, text=True, timeout=PATIENCE_S, check=False, cwd="/"
    )


def runs(folder: Path) -> bool:
    status = subprocess.run(
        [folder / "bin/spicad", "status"], env=environment(folder), capture_output=True, check=False
    )
    return status.returncode == 0


def test_the_first_and_the_second_time(checkout: Path):
    first = quickstart(checkout)
    second = quickstart(checkout)

    passwords: list[str] = []
    for done, number in ((first, 1), (second, 2)):
        assert done.returncode == 0, done.stdout + done.stderr
        assert f"(process {number})" in done.stdout
        assert re.search(r"Sources found in all exposures +[1-9]", done.stdout)
        assert re.search(r"scatter against the reference +0\.\d+ arcsec", done.stdout)
        assert re.search(r"\.fits +\d+ x \d+ pixels, 3 exposures deep", done.stdout)
        products = re.search(r"Products: +(\S+)", done.stdout)
        assert products
        assert list(Path(products[1]).glob("*.fits"))
        passwords += re.findall(r"Log in as demo, password ([0-9a-f]{6}-[0-9a-f]{6}-[0-9a-f]{6})\n", done.stdout)
    assert len(set(passwords)) == 2  # another one each time
    assert "9 reused from earlier runs" in second.stdout
    assert "Installing" not in second.stdout  # nothing is fetched again
    assert not runs(checkout)


def test_an_interrupted_one_leaves_nothing_running(checkout: Path):
    sky = checkout / "quickstart/sky"
    shutil.rmtree(sky, ignore_errors=True)
    script = checkout / "bin/quickstart"
    script.write_text(script.read_text().replace("quickstart/sky --force", "quickstart/sky --force --seed 7"))
    running = subprocess.Popen(
        [script], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )
    assert running.stdout
    seen = ""
    for line in running.stdout:
        seen += line
        if "sextractor" in line:
            os.killpg(running.pid, signal.SIGINT)
            break

    rest, _ = running.communicate(timeout=PATIENCE_S)

    assert running.returncode == 130, seen + rest
    assert "Cancelling process" in rest
    assert not runs(checkout)
    assert not list(checkout.glob("spool/executing/*.spica"))


def test_a_job_that_is_refused_is_told_with_the_reason(checkout: Path):
    script = checkout / "bin/quickstart"
    before = script.read_text()
    script.write_text(before.replace('rules     = "stack"', 'rules     = "stacc"'))

    done = quickstart(checkout)
    script.write_text(before)

    assert done.returncode == 1
    assert 'there are no rules "stacc"' in done.stderr
    assert 'Did you mean "stack"?' in done.stderr
    assert not runs(checkout)

"""CONTRIBUTING.md followed to the letter: each worked example is typed into a copy of the checkout, and works there."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import COMPILED, ROOT, write_exposure

STEP = re.compile(
    r"^(?:`(?P<new>[^`\s]+)`|(?P<where>After|In place of) `(?P<line>[^`]+)` in `(?P<old>[^`]+)`):\n\n"
    r"```\w+\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
TEXT = (ROOT / "CONTRIBUTING.md").read_text()
KINDS = ("An application", "Rules", "An instrument", "A backend", "A sub-command", "A page", "An option, a key")

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("contributing") / "spica"
    folder.mkdir()
    for name in ("bin", "etc", "man", "spicad", "spool", "tests", "web"):
        ignored = shutil.ignore_patterns("__pycache__", "*.db*", "[0-9]*.spica")
        shutil.copytree(ROOT / name, folder / name, ignore=ignored)
    for name in ("README.md", "CONTRIBUTING.md", "pyproject.toml", "requirements.txt", "requirements-test.txt"):
        shutil.copy(ROOT / name, folder)
    (folder / ".venv").symlink_to(sys.prefix)
    for step in STEP.finditer(TEXT):
        follow(folder, step)
    return folder


def follow(folder: Path, step: re.Match[str]) -> None:
    if step["new"]:
        path = folder / step["new"]
        assert not path.exists(), f"{step['new']} is there already"
        path.write_text(step["text"])
        return
    path = folder / step["old"]
    lines = path.read_text().splitlines(keepends=True)
    found = [at for at, line in enumerate(lines) if line.startswith(step["line"])]
    assert found, f"no line of {step['old']} begins with {step['line']!r}"
    kept = lines[: found[0] + 1] if step["where"] == "After" else lines[: found[0]]
    path.write_text("".join([*kept, step["text"], *lines[found[0] + 1 :]]))


def run(folder: Path, *command: str, status: int = 0) -> str:
    env = {name: value for name, value in os.environ.items() if name not in ("SPICA_CONF", "PYTHONPATH")}
    env |= {"SPICA_CONF": str(folder / "etc/spica.conf"), **COMPILED}
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=90, check=False)
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout


def test_there_is_a_worked_example_of_each_kind():
    sections = dict(re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", TEXT, re.MULTILINE | re.DOTALL))

    assert [kind for kind in KINDS if not STEP.search(sections.get(kind, ""))] == []
    blocks = len(re.findall(r"^```\w+$", TEXT.partition("## Worked examples")[2], re.MULTILINE))
    assert len(list(STEP.finditer(TEXT))) == blocks >= 15


def test_application_rules_and_backend_make_a_product(checkout: Path):
    exposure = write_exposure(checkout / "sky/900001p.fits")
    conf = checkout / "etc/gentle.conf"
    conf.write_text('[daemon]\nbackend = "gentle"\nlook_s = 0.2\n')
    spica, spicad = (["bin/" + name, "--config", str(conf)] for name in ("spica", "spicad"))
    (checkout / "pack.spica").write_text(f'name = "pack"\nexposures = ["{exposure}"]\nrules = "pack"\n[end]\n')
    assert "1  fpack" in run(checkout, *spica, "plan", "pack.spica")

    run(checkout, *spicad, "start")
    try:
        shown = run(checkout, *spica, "submit", "pack.spica", "--watch")
    finally:
        run(checkout, *spicad, "stop")

    assert "COMPLETED" in shown
    (product,) = checkout.glob("results/*/*/run-1/products/900001p.fits.fz")
    assert product.stat().st_size > 0


def test_the_instrument_is_recognised(checkout: Path):
    exposure = write_exposure(checkout / "sky/900002p.fits")

    assert "TESTCAM" in run(checkout, "bin/spica", "headers", str(exposure))


def test_the_sub_command_answers_programs_too(checkout: Path):
    versions = json.loads(run(checkout, "bin/spica", "tools", "--json"))

    assert versions["fpack"]
    assert versions["swarp"][0].isdigit()


def test_page_and_option_are_served_and_all_of_it_is_told_in_the_manual(checkout: Path):
    """By the tests that a contributor runs: those of the manual, of the house, of the command, of the rights."""
    chosen = (
        "welcome or backend or members or sample or manual_tells or stands_in_the_manual or layer or loads_one or pack"
    )
    files = [f"tests/test_{name}.py" for name in ("manual", "house", "commands", "site_rights")]
    python = str(checkout / ".venv/bin/python")

    said = run(checkout, python, "-m", "pytest", "-q", "-n", "0", "-k", chosen, *files)

    assert re.search(r"[1-9]\d* passed", said)

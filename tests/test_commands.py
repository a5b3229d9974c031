"""The command `spica` without a daemon: its parsers, its page in the manual, what it prints and what it refuses.

What it does together with the daemon is told in test_commands_live.py.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT, write_exposure

from spicad import commands, tables
from spicad.commands import completion, log, printing, results, verify
from spicad.commands.capsules import RunFolder
from spicad.commands.listing import like, since
from spicad.commands.results import fetch_one
from spicad.commands.submit import with_texts
from spicad.commands.tables import processid
from spicad.fits import science_digest
from spicad.jobfile import Job, parse
from spicad.words import BadInput, SpicaError

pytestmark = pytest.mark.slow

PAGE = ROOT / "man/spica.1"
CONF = '[paths]\nspool = "spool"\nresults = "results"\n'


def parsers() -> dict[str, argparse.ArgumentParser]:
    return completion._subparsers(commands.build_parser())


def spica(folder: Path, *arguments: str, **values: object) -> subprocess.CompletedProcess[str]:
    (folder / "spica.conf").write_text(CONF)
    command = [sys.executable, str(ROOT / "bin/spica"), "--config", str(folder / "spica.conf"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, **values)  # type: ignore[call-overload, no-any-return]


# ---------------------------------------------------------------------- a drained node


def test_a_drained_node_is_told_also_when_nothing_waits_or_runs(tmp_path: Path) -> None:
    spica(tmp_path, "database", "upgrade")
    assert "drained" not in spica(tmp_path, "queue").stderr
    (tmp_path / "spool/drained").write_text("drained by dan: new disk\n")

    queue = spica(tmp_path, "queue")
    command = [sys.executable, str(ROOT / "bin/spicad"), "--config", str(tmp_path / "spica.conf"), "status"]
    status = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)

    assert queue.returncode == commands.NOTHING
    assert "nothing waits." in queue.stderr
    assert ": drained by dan: new disk" in queue.stderr
    assert (status.returncode, status.stdout.splitlines()[1].partition(": ")[2]) == (3, "drained by dan: new disk")


# ---------------------------------------------------------------------- parsers and manual


def options_of(parser: argparse.ArgumentParser) -> list[str]:
    """Its own, and those of its actions, as in `spica database status`."""
    own = [option for action in parser._actions for option in action.option_strings]
    choices = [action.choices for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    return own + [option for each in choices for action in each.values() for option in options_of(action)]


def test_each_sub_command_and_option_stands_in_the_manual() -> None:
    page = PAGE.read_text()
    of_sky = {"sky"}  # its own --help tells them

    for name, parser in parsers().items():
        assert re.search(rf"^\.It Cm {name}\b", page, re.M), f"spica {name}"
        section = re.search(rf"^\.It Cm {name}\b.*?(?=^\.It Cm (?!{name})|^\.Sh)", page, re.M | re.S)
        assert section
        options = options_of(parser)
        missing = [o for o in options if o.startswith("--") and f"Fl -{o[2:]}" not in section[0] and o != "--help"]
        assert not missing or name in of_sky, f"spica {name}: {missing}"


def test_the_manual_names_no_sub_command_or_option_that_does_not_exist() -> None:
    page = PAGE.read_text()
    known = {option[2:] for parser in parsers().values() for option in options_of(parser)}
    known |= {option[2:] for action in commands.build_parser()._actions for option in action.option_strings}

    assert set(re.findall(r"^\.It Cm (\w+)", page, re.M)) == set(commands.COMMANDS)
    assert set(re.findall(r"Fl -([a-z0-9-]+)", page)) <= known


def test_each_exit_status_stands_in_the_manual() -> None:
    section = PAGE.read_text().partition(".Sh EXIT STATUS")[2].partition(".Sh")[0]

    statuses = {commands.DONE, commands.FAILED, commands.WRONG, commands.NOTHING, commands.INTERRUPTED}

    assert {int(each) for each in re.findall(r"^\.It (\d+)", section, re.M)} == statuses


@pytest.mark.skipif(not shutil.which("mandoc"), reason="mandoc is not installed")
def test_the_manual_page_is_clean_mdoc() -> None:
    done = subprocess.run(["mandoc", "-T", "lint", str(PAGE)], capture_output=True, text=True, check=False)

    assert [line for line in done.stdout.splitlines() if "referenced manual not found" not in line] == []


def test_the_value_of_config_is_not_taken_for_a_sub_command(tmp_path: Path) -> None:
    assert commands._named(["--config", "list", "show", "1"]) == "show"
    assert commands._named(["--config=list", "show", "1"]) == "show"
    assert commands._named(["--version"]) == ""


def test_an_unknown_sub_command_is_wrong_use(tmp_path: Path) -> None:
    assert spica(tmp_path, "lsit").returncode == commands.WRONG


def test_a_misspelt_sub_command_is_told_its_neighbour(tmp_path: Path) -> None:
    done = spica(tmp_path, "shwo", "12")
    odd = spica(tmp_path, "\x1b[2Jxyzzyx")

    assert (done.returncode, odd.returncode) == (commands.WRONG, commands.WRONG)
    assert done.stderr == "spica: there is no sub-command 'shwo'. Did you mean \"show\"?\n"
    assert odd.stderr == "spica: there is no sub-command '\\x1b[2Jxyzzyx'. spica --help lists what there is.\n"


def test_files_beside_a_job_are_carried_beside_those_that_it_carries_already() -> None:
    text = 'name = "a"\nexposures = ["/a.fits"]\nrules = "my.toml"\n{}[end]\n'
    for carried in ("", '[texts]\n"own.conf" = "X 1"\n\n'):
        job = parse(with_texts(text.format(carried), {"my.toml": 'title = "Mine"'}), "a.spica")

        assert isinstance(job, Job)
        assert job.texts["my.toml"] == 'title = "Mine"'
        assert ("own.conf" in job.texts) == bool(carried)


def test_listing_loads_neither_science_nor_the_daemon(tmp_path: Path) -> None:
    code = "import sys; from spicad.commands import build_parser; build_parser('list'); print(*sys.modules)"

    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True).stdout

    heavy = {"numpy", "astropy", "scipy", "matplotlib", "spicad.desk", "spicad.daemon", "spicad.workshop", "watchdog"}
    assert "spicad.commands.listing" in loaded.split()
    assert heavy.isdisjoint(loaded.split())


# ---------------------------------------------------------------------- words that people type


@pytest.mark.parametrize(("word", "number"), [("12", 12), ("000012", 12), ("2147483647", 2147483647)])
def test_a_processid_is_read_with_and_without_zeros(word: str, number: int) -> None:
    assert processid(word) == number


@pytest.mark.parametrize("word", ["0", "-1", "x", "1.5", "", "99999999999", "１２", "2147483648"])
def test_what_is_no_processid_is_refused(word: str) -> None:
    with pytest.raises(BadInput, match="is not a processid"):
        processid(word)


def test_times_are_read_as_dates_and_as_ago() -> None:
    assert since("2d", 1_000_000) == 1_000_000 - 172_800
    assert since("1970-01-02", 0) == 86_400
    assert since("1970-01-02T01:00+01:00", 0) == 86_400
    with pytest.raises(BadInput, match="is not a time"):
        since("yesterday", 0)


def test_a_star_stands_for_any_characters_and_nothing_else_is_special() -> None:
    assert like("m101_*%") == "m101!_%!%"


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.4, "0 s"), (59, "59 s"), (60, "1 min"), (185, "3 min 5 s"), (7500, "2 h 5 min"), (100 * 86400, "100 d")],
)
def test_a_duration_is_told_in_two_units(seconds: float, words: str) -> None:
    assert printing.took(seconds) == words


# ---------------------------------------------------------------------- printing


def test_control_characters_of_tools_and_file_names_do_not_reach_the_terminal(
    capsys: pytest.CaptureFixture[str],
) -> None:
    printing.print_table([["1", "a\x1b]0;evil\x07\nb\x9b31m"]], ("id", "why"))

    assert capsys.readouterr().out == "id  why\n1   a ]0;evil  b 31m\n"


def test_nothing_is_cut_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    printing.print_table([["1", "x" * 300]], ("id", "why"))

    assert "x" * 300 in capsys.readouterr().out


def test_a_missing_database_is_told_with_the_mend(tmp_path: Path) -> None:
    done = spica(tmp_path, "list")

    assert done.returncode == commands.FAILED
    assert "Start spicad once" in done.stderr
    assert done.stdout == ""


def test_the_tables_are_made_by_an_upgrade_and_then_listed_as_empty(tmp_path: Path) -> None:
    made = spica(tmp_path, "database", "upgrade")
    again = spica(tmp_path, "database", "upgrade")
    status = json.loads(spica(tmp_path, "database", "status", "--json").stdout)
    listed = spica(tmp_path, "list", "--json")

    assert f"schema {tables.NEWEST}:" in made.stdout
    assert "nothing to do" in again.stdout
    assert status["is_current"]
    assert status["schema"] == status["needed"]
    assert json.loads(listed.stdout) == []
    assert listed.returncode == commands.NOTHING


def test_a_pipe_that_is_closed_early_leaves_no_traceback(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, str(ROOT / "bin/spica"), "completion", "bash"]

    done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writing)

    assert done.returncode == commands.FAILED
    assert done.stderr == ""


# ---------------------------------------------------------------------- completion


def completed(*words: str) -> list[str]:
    script = subprocess.run(
        [sys.executable, str(ROOT / "bin/spica"), "completion", "bash"], capture_output=True, text=True, check=True
    ).stdout
    ask = 'COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _spica; printf "%s\\n" "${COMPREPLY[@]}"'
    fake = "spica() { echo 12; echo 13; }\n"
    done = subprocess.run(
        ["bash", "-c", script + fake + ask, "bash", *words], capture_output=True, text=True, check=True
    )
    assert done.stderr == ""
    return done.stdout.split()


def test_bash_completes_sub_commands_options_values_and_processids() -> None:
    assert completed("spica", "re") == ["release", "rerun", "rebuild", "retention", "results"]
    assert completed("spica", "show", "--wa") == ["--watch"]
    assert completed("spica", "--config", "x", "hold", "1") == ["12", "13"]
    assert completed("spica", "list", "--phase", "exe") == ["executing"]
    assert completed("spica", "database", "") == ["status", "upgrade", "copy"]


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_the_other_shells_get_every_sub_command_with_balanced_quotes(
    shell: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert commands.main(["completion", shell]) == commands.DONE

    script = capsys.readouterr().out
    assert all(re.search(rf"\b{name}\b", script) for name in commands.COMMANDS)
    assert all(line.count("'") % 2 == 0 for line in script.splitlines())
    if shutil.which(shell):
        subprocess.run([shell, "-n"], input=script, text=True, check=True)


# ---------------------------------------------------------------------- which log


def step(number: int, application: str, state: str, ended: float = 0.0) -> dict[str, object]:
    return {"number": number, "application": application, "state": state, "label": "x", "ended": ended, "why": ""}


def test_the_log_is_that_of_the_failed_then_the_running_then_the_last_step() -> None:
    done, later = step(1, "sextractor", "done", 5.0), step(2, "sextractor", "done", 9.0)
    failed, running, waiting = step(3, "scamp", "failed"), step(4, "swarp", "running"), step(5, "swarp", "waiting")

    assert log.chosen([done, later, failed, running, waiting], "") is failed
    assert log.chosen([done, later, running, waiting], "") is running
    assert log.chosen([later, done, waiting], "") is later
    assert log.chosen([done, later, failed], "sextractor") is later
    assert log.chosen([done, later, failed], "1") is done
    assert log.chosen([done, later, failed], "0003-scamp") is failed
    with pytest.raises(commands.NothingFound, match='Did you mean "scamp"'):
        log.chosen([done, failed], "scmap")
    with pytest.raises(commands.NothingFound, match="no step has begun"):
        log.chosen([waiting], "")


# ---------------------------------------------------------------------- fetching


class Folders:
    def __init__(self, root: Path) -> None:
        self.source, self.target = root / "products", root / "got"
        self.source.mkdir()
        self.target.mkdir()
        self.handles = [os.open(each, os.O_RDONLY | os.O_DIRECTORY) for each in (self.source, self.target)]

    def fetch(self, name: str, digest: str) -> str:
        return fetch_one(*self.handles, name, digest, self.target / name)


@pytest.fixture
def folders(tmp_path: Path):  # type: ignore[no-untyped-def]
    made = Folders(tmp_path)
    yield made
    for handle in made.handles:
        os.close(handle)


def test_a_product_is_fetched_once_and_then_known(folders: Folders) -> None:
    product = write_exposure(folders.source / "a.fits")
    digest = science_digest(product)

    assert folders.fetch("a.fits", digest) == "fetched"
    assert folders.fetch("a.fits", digest) == "is there"
    assert (folders.target / "a.fits").read_bytes() == product.read_bytes()
    assert os.listdir(folders.target) == ["a.fits"]


def test_a_file_that_is_there_is_never_overwritten(folders: Folders) -> None:
    product = write_exposure(folders.source / "a.fits")
    (folders.target / "a.fits").write_text("mine")

    with pytest.raises(SpicaError, match="Nothing is overwritten"):
        folders.fetch("a.fits", science_digest(product))

    assert (folders.target / "a.fits").read_text() == "mine"


def test_a_link_in_the_target_is_not_written_through(folders: Folders, tmp_path: Path) -> None:
    product = write_exposure(folders.source / "a.fits")
    (folders.target / "a.fits").symlink_to(tmp_path / "elsewhere")

    with pytest.raises((SpicaError, OSError)):
        folders.fetch("a.fits", science_digest(product))

    assert not (tmp_path / "elsewhere").exists()


def test_links_fifos_and_paths_among_the_products_are_not_fetched(folders: Folders, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("secret")
    (folders.source / "link").symlink_to(secret)
    os.mkfifo(folders.source / "fifo")

    for name in ("link", "fifo", "../secret", "..", "gone"):
        with pytest.raises((SpicaError, OSError)):
            folders.fetch(name, science_digest(secret))

    assert os.listdir(folders.target) == []


def test_a_product_changed_after_the_run_is_not_fetched(folders: Folders) -> None:
    product = write_exposure(folders.source / "a.fits")
    digest = science_digest(product)
    write_exposure(product, level=7)

    with pytest.raises(SpicaError, match="not that of the manifest"):
        folders.fetch("a.fits", digest)

    assert os.listdir(folders.target) == []


# ---------------------------------------------------------------------- comparing


def capsule(root: Path, number: int, manifest: dict[str, list[object]], version: str) -> RunFolder:
    folder = root / f"run-{number}"
    (folder / "configuration/00-swarp").mkdir(parents=True)
    (folder / "manifest.json").write_text(json.dumps(manifest))
    tool = {"name": "SWarp", "path": "/usr/bin/SWarp", "version": version}
    (folder / "configuration/00-swarp/setup.json").write_text(json.dumps({"application": "swarp", "tool": tool}))
    return RunFolder(folder)


def test_two_runs_are_compared_by_digest_and_changed_tools_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = capsule(tmp_path, 1, {"a": [1, "x"], "b": [1, "y"], "c": [1, "z"]}, "2.41.4")
    second = capsule(tmp_path, 2, {"a": [1, "x"], "b": [1, "other"], "d": [1, "z"]}, "2.41.5")

    found = verify.compared(12, first, second)
    verify._print(found)

    assert (found.identical, found.different, found.missing, found.new) == (["a"], ["b"], ["c"], ["d"])
    assert not found.is_same
    out, err = capsys.readouterr()
    assert out.startswith("1 of 3 products are identical (run 1 and run 2)")
    assert "SWarp was 2.41.4 in run 1, is now 2.41.5 in run 2" in err


def test_equal_runs_are_the_same(tmp_path: Path) -> None:
    first, second = (capsule(tmp_path, number, {"a": [1, "x"]}, "2.41.5") for number in (1, 2))

    found = verify.compared(12, first, second)

    assert found.is_same
    assert found.tools == {}


def test_a_run_that_is_not_over_has_no_list_of_products(tmp_path: Path) -> None:
    assert results.manifest_of(RunFolder(tmp_path / "run-1")) is None

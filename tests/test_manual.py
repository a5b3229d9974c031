"""The manual, the samples and the program say the same.

The pages of the command and of applications are held to theirs in test_commands.py and test_applications.py.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest

from spicad import config, service
from spicad.applications.descriptor import load_applications
from spicad.archive.picks import SELECT_KEYS
from spicad.commands.checks import CHECKS
from spicad.commands.setting_up import ANSWERS
from spicad.config import OPTIONS
from spicad.jobfile import JOB_KEYS, ORDER_KEYS, ORDERS, Job, Order, parse, unknown_applications
from spicad.rules import CONDITION_FIELDS, GATHER_FIELDS, RULES_KEYS, TASK_KEYS, WIDEN_KEYS, load_rules, parse_rules
from spicad.schema import Key
from spicad.spool import FOLDERS
from spicad.tables import SITE_WRITES

ROOT = Path(__file__).parent.parent
PAGES = sorted((ROOT / "man").glob("*.[1-8]"))
OPTION_KEYS = [(section, key) for section, keys in OPTIONS.items() for key in keys]
EXAMPLES = sorted((ROOT / "etc/examples").glob("*.spica"))
RULES = sorted((ROOT / "etc/rules").glob("*.toml"))


def page(name: str) -> str:
    return (ROOT / "man" / name).read_text(encoding="utf-8")


def told(text: str) -> set[str]:
    """Keys that have an entry of their own: .It Ic name, or .It Ic name , other."""
    entries = re.findall(r"^\.It (?:Ic|Cm|Dv|Pa) (.+)$", text, re.MULTILINE)
    return {word for entry in entries for word in re.split(r"[ ,]+", entry.partition(" Ns")[0])}


def displays(text: str) -> list[str]:
    return re.findall(r"^\.Bd -literal -offset indent\n(.*?)^\.Ed", text, re.MULTILINE | re.DOTALL)


def names(keys: tuple[Key, ...]) -> set[str]:
    return {key.name for key in keys}


def written(default: Any) -> str:
    """A default as a person writes it in TOML."""
    if isinstance(default, bool):
        return str(default).lower()
    if isinstance(default, str):
        return f'"{default}"'
    if isinstance(default, list):
        return "[" + ", ".join(map(written, default)) + "]"
    return str(default)


# ---------------------------------------------------------------------- pages


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_a_page_is_clean(path: Path):
    if not shutil.which("mandoc"):
        assert os.environ.get("CI") != "true", "mandoc is not installed"
        pytest.skip("mandoc is not installed")

    done = subprocess.run(["mandoc", "-T", "lint", path], capture_output=True, text=True, check=False)

    about_other_pages = ("referenced manual not found", "mandoc.db")  # pages of ours that are not installed here
    complaints = [line for line in done.stdout.splitlines() if not any(words in line for words in about_other_pages)]
    assert complaints == []


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_a_page_refers_to_pages_that_exist(path: Path):
    of_others = {("mv", "1"), ("bwrap", "1"), ("sd_notify", "3"), ("prlimit", "1"), ("md5sum", "1"), ("du", "1")}
    of_others |= {(name, "1") for name in ("tar", "cp", "python", "sbatch", "squeue", "sinfo")}
    shipped = {(each.stem, each.suffix[1:]) for each in PAGES}

    references = set(re.findall(r"^\.Xr (\S+) (\d)", page(path.name), re.MULTILINE))

    assert references - shipped <= of_others


def test_there_is_a_page_for_each_thing_that_people_write_or_run():
    wanted = {"spica.1", "spicad.8", "spica.conf.5", "spica-job.5", "spica-rules.5", "spica-application.5"}

    assert wanted | {"spica-spool.7"} <= {path.name for path in PAGES}


def test_every_answer_of_setup_and_every_part_of_doctor_is_told():
    text = page("spica-setup.8")

    assert {key.name for key in ANSWERS} == told(text.partition(".Sh ANSWERS")[2].partition(".Sh")[0])
    assert [part for part in CHECKS if f".It Sy {part}\n" not in text] == []


# ---------------------------------------------------------------------- spica.conf


@pytest.mark.parametrize(("section", "key"), OPTION_KEYS, ids=lambda each: getattr(each, "name", each))
def test_an_option_stands_in_the_manual_with_its_default_and_choices(section: str, key: Key):
    text = page("spica.conf.5").replace("\\(dq", '"')
    of_section = re.search(rf"^\.Ss {section}$(.*?)(?=^\.S[sh] )", text, re.MULTILINE | re.DOTALL)
    assert of_section

    entry = re.search(rf"^\.It Ic {key.name} Ns \\ = (.*)\n((?:(?!\.It |\.El).*\n)*)", of_section[1], re.MULTILINE)

    assert entry, f"[{section}] {key.name} is not told"
    assert entry[1] == written(key.default)
    for choice in key.choices:
        assert f".Ql {choice}" in entry[2]


def test_the_manual_tells_no_option_that_does_not_exist():
    options = page("spica.conf.5").partition(".Sh OPTIONS")[2].partition(".Sh FILES")[0]

    assert told(options) == {key.name for _, key in OPTION_KEYS}


def test_the_sample_holds_every_option_with_its_default():
    text = (ROOT / "etc/spica.conf").read_text()
    sample = tomllib.loads(re.sub(r"^#(?=\w+ = )", "", text, flags=re.MULTILINE))

    assert sample == {section: {key.name: key.default for key in keys} for section, keys in OPTIONS.items()}


def test_the_sample_explains_every_option_with_the_words_of_the_program():
    text = " ".join((ROOT / "etc/spica.conf").read_text().replace("\n# ", " ").split())

    assert [key.name for _, key in OPTION_KEYS if " ".join(key.help.split()) not in text] == []


def test_the_sample_as_shipped_is_accepted_and_changes_nothing():
    settings = config.load(ROOT / "etc/spica.conf")

    assert settings.paths.spool == ROOT / "spool"
    assert settings.mail.retry_s == next(key.default for _, key in OPTION_KEYS if key.name == "retry_s")


@pytest.mark.parametrize("example", displays(page("spica.conf.5")))
def test_an_example_of_the_configuration_is_accepted(example: str):
    config.parse(example, Path("/etc/spica/spica.conf"))


def test_the_rights_of_the_sites_own_account_are_told_as_setup_gives_them():
    told = re.findall(r"^GRANT (.+) ON spica\.(\S+) TO", page("spica.conf.5"), re.MULTILINE)

    wanted = [("SELECT", "*"), *((rights, table._meta.table_name) for table, rights in SITE_WRITES.items())]
    assert sorted((rights, name) for rights, name in told) == sorted(wanted)


# ---------------------------------------------------------------------- job files and orders


def test_every_key_of_a_job_file_and_of_an_order_is_told():
    job, _, order = page("spica-job.5").partition(".Sh ORDERS")

    assert names(JOB_KEYS) <= told(job)
    assert names(ORDER_KEYS) <= told(order)
    keys, _, selecting = job.partition(".Sh FILES")[0].partition(".Sh SELECTING")
    assert told(keys) <= names(JOB_KEYS)
    assert told(selecting) == names(SELECT_KEYS)
    assert [verb for verb in ORDERS if f".Ql {verb}\n" not in order] == []


@pytest.mark.parametrize("example", displays(page("spica-job.5")))
def test_an_example_of_a_job_file_is_accepted(example: str):
    parsed = parse(example, "example.spica")

    assert isinstance(parsed, Order) or unknown_applications(parsed, load_applications(ROOT / "etc/applications")) == []


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_a_sample_job_file_is_accepted(path: Path):
    parsed = parse(path.read_text(), path.name)

    if isinstance(parsed, Job):
        assert unknown_applications(parsed, load_applications(ROOT / "etc/applications")) == []
        assert parsed.own_rules or (ROOT / f"etc/rules/{parsed.rules}.toml").exists()


def test_the_job_file_of_the_readme_is_accepted():
    blocks = re.findall(r"```toml\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)

    parsed = [parse(block, "README.md") for block in blocks]

    assert [job.rules for job in parsed if isinstance(job, Job)] == ["stack"]


# ---------------------------------------------------------------------- rules


def test_every_key_of_rules_tasks_and_widening_is_told():
    text = page("spica-rules.5")

    assert names(RULES_KEYS) | names(TASK_KEYS) | names(WIDEN_KEYS) <= told(text)
    assert set(CONDITION_FIELDS) <= told(text)
    assert [word for word in (*GATHER_FIELDS, "all") if f".Ql {word}" not in text] == []
    assert [path.stem for path in RULES if f".It Ql {path.stem}\n" not in text] == []


@pytest.mark.parametrize("path", RULES, ids=lambda path: path.name)
def test_shipped_rules_are_accepted_and_name_known_applications(path: Path):
    rules = load_rules(path)

    assert rules.summary
    assert {task.application for task in rules.tasks} <= set(load_applications(ROOT / "etc/applications"))


@pytest.mark.parametrize("example", [each for each in displays(page("spica-rules.5")) if each.startswith("title")])
def test_an_example_of_rules_is_accepted(example: str):
    assert parse_rules(example, "example.toml").tasks


# ---------------------------------------------------------------------- the daemon and the spool


def test_every_verb_of_the_daemon_is_told():
    assert [verb for verb in service.VERBS if f".It Cm {verb}\n" not in page("spicad.8")] == []


def test_no_page_has_the_daemon_told_a_verb_that_it_lacks():
    typed = {
        verb for path in PAGES for verb in re.findall(r"\bspicad ([a-z]+)\b", "\n".join(displays(page(path.name))))
    }

    assert {"start", "stop"} <= typed <= set(service.VERBS) | {"spicad"}


def test_the_readme_lists_every_page_that_is_no_program_or_file_of_another():
    readme = (ROOT / "README.md").read_text()

    listed = set(re.findall(r"([a-z.-]+)\([1-8]\)", readme))
    assert {path.name[:-2] for path in PAGES} <= listed


def test_every_folder_of_the_spool_is_told_in_the_manual_and_in_the_readme_beside_it():
    manual, readme = page("spica-spool.7"), (ROOT / "spool/README").read_text()

    assert [name for name in FOLDERS if f"{name}/" not in manual] == []
    assert [name for name in FOLDERS if not re.search(rf"^{name}/ ", readme, re.MULTILINE)] == []

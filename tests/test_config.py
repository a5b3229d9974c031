"""spica.conf: every option is checked, and what is left out has a value that works.

What an option does is told by the tests of the part that uses it.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from spicad import config
from spicad.config import OPTIONS, load, parse
from spicad.words import BadInput, SpicaError

ROOT = Path(__file__).parent.parent


def problems_of(text: str) -> list[str]:
    with pytest.raises(BadInput) as refused:
        parse(text, Path("/site/etc/spica.conf"))
    return [str(problem).removeprefix("/site/etc/spica.conf") for problem in refused.value.problems]


def test_an_empty_file_gives_settings_that_work() -> None:
    settings = parse("", Path("/site/etc/spica.conf"))

    assert settings.paths.spool == Path("/site/spool")
    assert settings.paths.results == Path("/site/results")
    assert settings.paths.applications == Path("/site/etc/applications")
    assert settings.paths.archive == ()
    assert settings.paths.reference is None
    assert settings.database.url == "sqlite:////site/spool/spica.db"
    assert settings.daemon.slots == len(os.sched_getaffinity(0))
    assert settings.daemon.node
    assert settings.mail.maildir == Path("/site/spool/mail")
    assert settings.mail.sender.startswith("spica@")
    assert settings.source == Path("/site/etc/spica.conf")


def test_an_installation_works_in_var() -> None:
    settings = parse("", Path("/opt/site/etc/spica/spica.conf"))

    assert settings.paths.spool == Path("/opt/site/var/spool/spica")
    assert settings.paths.results == Path("/opt/site/var/lib/spica/results")


def test_paths_are_seen_from_the_folder_of_the_file() -> None:
    settings = parse(
        '[paths]\nspool = "../x/spool"\nresults = "/r"\narchive = ["a", "/b"]\nprograms = ["../bin"]\n'
        'reference = "ref.cat"\n[mail]\nmaildir = "m"\npassword_file = "secret"\n[database]\npassword_file = "../pw"\n',
        Path("/site/etc/spica.conf"),
    )

    assert settings.paths.spool == Path("/site/x/spool")
    assert settings.paths.results == Path("/r")
    assert settings.paths.archive == (Path("/site/etc/a"), Path("/b"))
    assert settings.paths.programs == (Path("/site/bin"),)
    assert settings.paths.reference == Path("/site/etc/ref.cat")
    assert settings.mail.maildir == Path("/site/etc/m")
    assert settings.mail.password_file == "/site/etc/secret"
    assert settings.database.password_file == "/site/pw"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[daemn]\nslots = 1", ', line 1: unknown section [daemn]. Did you mean "daemon"?'),
        ("[zzz]", ", line 1: unknown section [zzz]. Known: paths, database,"),
        ("slots = 4", ', line 1: "slots" stands outside of any section. It belongs below [daemon].'),
        ("zzz = 4", ', line 1: "zzz" stands outside of any section. The sections are paths, database,'),
        ("daemon = 4", ", line 1: daemon must be a section. Write [daemon]."),
        ("[[daemon]]", ", line 1: daemon must be a section. Write [daemon]."),
        ("[daemon]\nslot = 4", ', line 2: unknown key "slot" in [daemon]. Did you mean "slots"?'),
        ("[daemon]\nslots = 5000", ', line 2: "slots" is 5000 but must be at most 4096.'),
        ("[daemon]\nslots = '4'", ', line 2: "slots" is "4" but must be a whole number.'),
        ("[daemon]\nlook_s = nan", ', line 2: "look_s" is nan but must be a number.'),
        ("[daemon]\nwatch = 'inotify'", ', line 2: "watch" is "inotify" but must be one of auto, events, looks.'),
        ("[limits]\ntime_s = inf", ', line 2: "time_s" is inf but must be a number.'),
        ("[limits]\ndisk_mb = 99999999999999999999", ', line 2: "disk_mb" is a huge number'),
        ("[sandbox]\nkind = 'docker'", ', line 2: "kind" is "docker" but must be one of bubblewrap, none.'),
        ("[ranks]\npipeline = 'cron'", ', line 2: "pipeline" is "cron" but must be a list of texts.'),
        ("[mail]\nrelay = [", ", line 2: this is not TOML"),
    ],
)
def test_a_mistake_is_named_with_file_line_and_mend(text: str, said: str) -> None:
    (found,) = problems_of(text + "\n")

    assert found.startswith(said)


def test_all_mistakes_come_at_once() -> None:
    assert len(problems_of("[daemon]\nslots = -1\nslot = 1\n[mail]\nsecurity = 'ssl'\n[x]\n")) == 4


@pytest.mark.parametrize("section", OPTIONS)
def test_every_default_passes_its_own_check(section: str) -> None:
    lines = [f"{key.name} = {_toml(key.default)}" for key in OPTIONS[section]]

    settings = parse(f"[{section}]\n" + "\n".join(lines), Path("/site/etc/spica.conf"))

    assert settings == parse("", Path("/site/etc/spica.conf"))


def _toml(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else repr(value)


def test_the_sample_can_be_read_and_changes_nothing() -> None:
    settings = load(ROOT / "etc/spica.conf")

    assert settings == parse("", ROOT / "etc/spica.conf")


def test_settings_cannot_be_changed() -> None:
    settings = parse("", Path("/site/etc/spica.conf"))

    with pytest.raises(AttributeError):
        settings.daemon.slots = 99
    with pytest.raises(AttributeError):
        settings.daemon.unheard_of  # noqa: B018


def test_the_file_is_the_one_asked_for_or_named_in_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, slots in (("asked.conf", 3), ("environment.conf", 4)):
        (tmp_path / name).write_text(f"[daemon]\nslots = {slots}\n")
    monkeypatch.setenv("SPICA_CONF", str(tmp_path / "environment.conf"))

    assert load(tmp_path / "asked.conf").daemon.slots == 3
    assert load().daemon.slots == 4


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "odd.conf").write_bytes(b"\xff")

    for name in ("none.conf", "odd.conf", "."):
        with pytest.raises(SpicaError, match=r"the configuration cannot be read"):
            load(tmp_path / name)


def test_without_any_file_it_is_said_where_one_was_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SPICA_CONF", raising=False)
    monkeypatch.setattr(config, "__file__", str(tmp_path / "a/b/c/d/e/spicad/config.py"))
    monkeypatch.setattr(config.sys, "prefix", str(tmp_path / "prefix"))
    if Path("/etc/spica/spica.conf").exists():
        pytest.skip("Spica is installed on this machine")

    with pytest.raises(SpicaError) as refused:
        load()

    assert "/prefix/etc/spica/spica.conf" in str(refused.value)
    assert "--config FILE" in str(refused.value)


@pytest.mark.parametrize("option", ["astro", "--job-name=x", "-Jx", "--requeue", "--output=log", "--array=1-3"])
def test_an_option_of_sbatch_that_would_lose_jobs_is_refused(tmp_path: Path, option: str) -> None:
    with pytest.raises(BadInput) as refusal:
        config.parse(f'[slurm]\noptions = ["--partition=astro", "{option}"]\n', tmp_path / "spica.conf")

    assert option in str(refusal.value)
    assert "line 2" in str(refusal.value)

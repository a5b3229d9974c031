"""The desk: exposures, weights and references found, configurations by level, all that is wrong told at once.

The tools are the installed ones, asked for their keywords only; what a plan is made of is told in test_plan.py.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from conftest import write_exposure

from spicad.applications.descriptor import load_applications
from spicad.background import Stopped
from spicad.config import Settings, parse
from spicad.desk import Desk, Vetted, companions_of
from spicad.jobfile import Job
from spicad.jobfile import parse as parse_job
from spicad.people import Person
from spicad.words import BadInput, Rank

ROOT = Path(__file__).parent.parent
APPLICATIONS = load_applications(ROOT / "etc/applications")
ALICE = Person(60_001, "alice", "lensing", Rank.USER)
DAN = Person(60_004, "dan", "staff", Rank.ADMINISTRATOR)
CATALOGUE = '[[task]]\napplication = "sextractor"\neach = "exposure"\n'
SOLVE = '[[task]]\napplication = "scamp"\ngather = ["all"]\n'
STACK = '[[task]]\napplication = "swarp"\ngather = ["all"]\n'


@pytest.fixture(scope="module")
def tools(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What was learnt of the installed tools, so that each test need not ask them again."""
    return tmp_path_factory.mktemp("tools")


class Site:
    """A desk on an archive of three exposures, with the shipped applications, rules and configurations."""

    def __init__(self, folder: Path, tools: Path) -> None:
        self.folder, self.archive = folder, folder / "archive"
        self.configurations = folder / "configurations"
        shutil.copytree(ROOT / "etc/configurations", self.configurations)
        shutil.copytree(ROOT / "etc/rules", folder / "rules")
        (folder / "spool").mkdir()
        (folder / "spool/tools").symlink_to(tools)
        for number in (1, 2, 3):
            write_exposure(self.archive / f"{number}p.fits")
        (self.archive / "ref.cat").write_bytes(b"reference")

    def settings(self, more: str = "") -> Settings:
        text = (
            f'[paths]\nspool = "spool"\narchive = ["archive"]\napplications = "{ROOT}/etc/applications"\n'
            f'reference = "archive/ref.cat"\n{more}'
        )
        return parse(text, self.folder / "spica.conf")

    def job(self, tasks: str = CATALOGUE, exposures: str = "*p.fits", more: str = "") -> Job:
        pattern = exposures if exposures.startswith("/") else f"{self.archive}/{exposures}"
        text = f'name = "m101"\nexposures = ["{pattern}"]\n{more}\n{tasks}\n[end]\n'
        job = parse_job(text, "m101.spica")
        assert isinstance(job, Job)
        return job

    def vet(self, job: Job, owner: Person = ALICE, more: str = "", is_sandboxed: bool = True) -> Vetted:
        return Desk(self.settings(more), APPLICATIONS).vet(job, owner, is_sandboxed)

    def refusal(self, job: Job, owner: Person = ALICE, more: str = "", is_sandboxed: bool = True) -> list[str]:
        with pytest.raises(BadInput) as refused:
            self.vet(job, owner, more, is_sandboxed)
        return [str(problem) for problem in refused.value.problems]

    def configuration(self, place: str, text: str) -> None:
        path = self.configurations / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


@pytest.fixture
def site(tmp_path: Path, tools: Path) -> Site:
    return Site(tmp_path, tools)


def names(vetted: Vetted) -> list[str]:
    return sorted(exposure.path.name for exposure in vetted.plan.exposures.values())


def test_a_job_is_resolved_into_a_plan_and_its_setups(site: Site) -> None:
    vetted = site.vet(site.job(CATALOGUE + SOLVE))

    assert names(vetted) == ["1p.fits", "2p.fits", "3p.fits"]
    assert [step.application for step in vetted.plan.steps] == ["sextractor"] * 3 + ["scamp"]
    assert vetted.setups[0].effective is not None
    assert vetted.setups[0].effective.settings["DETECT_THRESH"][1] == "system: default"
    assert vetted.setups[0].tool.version
    assert b"XWIN_IMAGE" in vetted.setups[0].stored["parameters_name.param"]
    assert vetted.plan.steps[3].files["reference"][0].source.path == str(site.archive / "ref.cat")


# ---------------------------------------------------------------------- exposures


@pytest.mark.parametrize(
    ("pattern", "said"),
    [
        ("[45]p.fits", "/[45]p.fits: no file matches."),
        ("4p.fits", "/4p.fits: No such file or directory."),
        ("/etc/pass*", "/etc/pass*: does not begin in the archive ("),
        ("/*/*/*/*/*", "/*/*/*/*/*: does not begin in the archive ("),
        ("/etc/passwd", "/etc/passwd: outside the archive ("),
        ("../secret/*", "/../secret/*: does not begin in the archive ("),
        ("x" * 300 + "*", "*: no file matches."),
        ("a\\u0000\\u001b[2J*", "/a\\x00\\x1b[2J*: no file matches."),
    ],
)
def test_exposures_that_are_not_to_be_had_are_named(site: Site, pattern: str, said: str) -> None:
    (site.folder / "secret").mkdir()
    (site.folder / "secret/x.fits").write_text("x")

    (found,) = site.refusal(site.job(exposures=pattern))

    assert found.startswith('m101.spica: "exposures": ')
    assert said in found


def test_a_relative_path_is_refused(site: Site) -> None:
    job = parse_job('name = "a"\nexposures = ["*.fits"]\nrules = "quick-look"\n[end]', "m101.spica")
    assert isinstance(job, Job)

    (said,) = site.refusal(job)
    assert said.startswith('m101.spica: "exposures": *.fits: give the whole path, from /.')


def test_what_a_pattern_matches_but_may_not_be_read_is_dropped_with_its_reason(site: Site) -> None:
    (site.archive / "4p.fits").mkdir()
    (site.archive / "5p.fits").symlink_to("/etc/passwd")
    (site.archive / "6p.fits").write_text("SIMPLE  = no")

    vetted = site.vet(site.job())

    assert names(vetted) == ["1p.fits", "2p.fits", "3p.fits"]
    dropped = {each.exposure: each.why for each in vetted.plan.dropped}
    assert dropped["4p.fits"].endswith("this is not a regular file.")
    assert "outside the archive" in dropped["5p.fits"]
    assert "6p.fits" in dropped


def test_without_an_archive_a_pattern_tells_nothing_of_files_of_others(site: Site) -> None:
    no_archive = "\n[limits]\nexposures = 2\n"
    settings = site.settings(no_archive).source
    assert settings is not None
    own = parse(f'[paths]\napplications = "{ROOT}/etc/applications"\n{no_archive}', settings)

    with pytest.raises(BadInput) as refused:
        Desk(own, APPLICATIONS).vet(site.job(more='weight = "none"'), ALICE)
    for number in (1, 3):
        os.chown(site.archive / f"{number}p.fits", ALICE.uid, -1)
    taken = Desk(own, APPLICATIONS).vet(site.job(more='weight = "none"'), ALICE)

    assert [str(problem) for problem in refused.value.problems] == [
        f'm101.spica: "exposures": {site.archive}/*p.fits: no file matches.'
    ]
    assert names(taken) == ["1p.fits", "3p.fits"]
    assert taken.plan.dropped == ()


def test_patterns_that_match_nothing_in_endless_folders_are_given_up(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(300):
        (site.archive / "deep" / str(number)).mkdir(parents=True)
        (site.archive / "deep" / str(number) / "note").touch()
    monkeypatch.setattr("spicad.patterns.MOST_NAMES", 500)

    (found,) = site.refusal(site.job(exposures="*/*/*.fits"))

    assert found.endswith("/*/*/*.fits: too many files and folders to look through. Name the folders themselves.")


def test_a_desk_that_is_closed_while_it_looks_says_nothing_of_the_job(site: Site) -> None:
    asked: list[int] = []

    def is_stopped() -> bool:
        asked.append(1)
        return len(asked) > 2

    with pytest.raises(Stopped):
        Desk(site.settings(), APPLICATIONS, is_stopped).vet(site.job(), ALICE)


def test_an_exposure_that_two_patterns_lead_to_is_dropped_once(site: Site) -> None:
    (site.archive / "6p.fits").write_text("SIMPLE  = no")
    job = site.job(exposures=f'*p.fits", "{site.archive}/[16]p.fits')

    dropped = [each.exposure for each in site.vet(job).plan.dropped]

    assert dropped == ["6p.fits"]


def test_a_keyword_that_is_wrong_is_named_with_its_line_in_jobs_and_rules(site: Site) -> None:
    (site.folder / "rules/own.toml").write_text(f'title = "Own"\n{STACK}[task.set]\nCOMBINE_TYPE = "MEDIAM"\n')
    job = site.job("", more='rules = "own"\n[set.swarp]\nback_size = 128\nresampling_type = "LANZCOS3"')

    found = site.refusal(job)

    assert [text.partition(": ")[0] for text in found] == [
        "rules own, [task.set] of swarp, line 6",
        "m101.spica, [set.swarp], line 6",
    ]


def test_when_no_exposure_can_be_used_the_reasons_are_told(site: Site) -> None:
    (site.archive / "bad.fits").write_text("SIMPLE  = no")

    (found,) = site.refusal(site.job(exposures="bad.fits"))

    assert found.startswith("m101.spica: none of the exposures can be used. bad.fits: ")


def test_a_file_named_twice_is_one_exposure(site: Site) -> None:
    (site.archive / "4p.fits").symlink_to("1p.fits")

    assert names(site.vet(site.job())) == ["1p.fits", "2p.fits", "3p.fits"]


def test_an_exposure_that_is_chosen_is_not_taken_for_calibration_too(site: Site) -> None:
    more = f'calibration = ["{site.archive}/*p.fits"]'
    job = site.job(CATALOGUE + SOLVE + "widen = {}\n", "1p.fits", more)

    vetted = site.vet(job)

    assert [step.application for step in vetted.plan.steps] == ["sextractor"] * 3 + ["scamp"]
    assert names(vetted) == ["1p.fits", "2p.fits", "3p.fits"]


@pytest.mark.parametrize("pattern", ["*p.fits", "[123]p.fits"])
def test_more_exposures_than_the_limit_are_refused(site: Site, pattern: str) -> None:
    (found,) = site.refusal(site.job(exposures=pattern), more="[limits]\nexposures = 2\n")

    assert "more files match than the 2 that a process may have. Split it." in found


def test_exposures_of_several_patterns_are_counted_together(site: Site) -> None:
    text = f'name = "a"\nexposures = ["{site.archive}/1p*", "{site.archive}/2p*"]\nrules = "quick-look"\n[end]'
    job = parse_job(text, "m101.spica")
    assert isinstance(job, Job)

    assert site.refusal(job, more="[limits]\nexposures = 1\n") == [
        'm101.spica: "exposures" names 2 exposures; a process has at most 1. Split it.'
    ]


# ---------------------------------------------------------------------- weights and reference


def test_weight_maps_beside_the_exposures_are_found_and_are_no_exposures(site: Site) -> None:
    for number in (1, 3):
        write_exposure(site.archive / f"{number}p.weight.fits")

    vetted = site.vet(site.job(STACK, "*p*.fits"), more="[limits]\nexposures = 3\n")

    assert names(vetted) == ["1p.fits", "2p.fits", "3p.fits"]
    (stack,) = vetted.plan.steps
    assert [file.source.path for file in stack.files["weight"]] == [
        str(site.archive / f"{number}p.weight.fits") for number in (1, 3)
    ]


def test_weight_maps_that_an_instrument_names_otherwise_are_found_and_are_no_exposures(site: Site) -> None:
    for what in ("ooi", "oow", "ood"):
        path = write_exposure(site.archive / f"c4d_1_2_{what}_r_v1.fits")
        path.write_bytes(path.read_bytes().replace(b"'TESTCAM '", b"'DECam   '"))

    vetted = site.vet(site.job(STACK, "c4d_*.fits"))

    assert names(vetted) == ["c4d_1_2_ooi_r_v1.fits"]
    (stack,) = vetted.plan.steps
    assert [file.source.path for file in stack.files["weight"]] == [str(site.archive / "c4d_1_2_oow_r_v1.fits")]


def test_weight_maps_may_be_done_without(site: Site) -> None:
    write_exposure(site.archive / "1p.weight.fits")

    (stack,) = site.vet(site.job(STACK, more='weight = "none"')).plan.steps

    assert "weight" not in stack.files


@pytest.mark.parametrize("weight", ["{archive}/maps/all.fits", "{{folder}}/maps/{{stem}}_w.fits"])
def test_a_weight_map_may_be_named_by_path_or_pattern(site: Site, weight: str) -> None:
    (site.archive / "maps").mkdir()
    for name in ("all.fits", "1p_w.fits", "2p_w.fits", "3p_w.fits"):
        write_exposure(site.archive / "maps" / name)

    (stack,) = site.vet(site.job(STACK, more=f'weight = "{weight.format(archive=site.archive)}"')).plan.steps

    assert [file.stem for file in stack.files["weight"]] == ["img0001", "img0002", "img0003"]
    assert all("/maps/" in file.source.path for file in stack.files["weight"])


@pytest.mark.parametrize(
    ("weight", "said"),
    [
        ("/etc/passwd", "/etc/passwd: outside the archive ("),
        ("{{folder}}/../../{{stem}}.fits", "outside the archive ("),
        ("{{folder}}/{{stem}}_w.fits", "1p_w.fits: No such file or directory."),
        ("w.fits", "w.fits: give the whole path, from /."),
    ],
)
def test_a_weight_map_that_is_not_to_be_had_is_named(site: Site, weight: str, said: str) -> None:
    (found,) = site.refusal(site.job(STACK, more=f'weight = "{weight.format()}"'))

    assert found.startswith('m101.spica: "weight": ')
    assert said in found
    assert 'Write weight = "none" to do without.' in found


def test_a_weight_map_of_another_mosaic_is_refused(site: Site) -> None:
    single = write_exposure(site.archive / "1p.weight.fits").read_bytes()
    extension = single.replace(b"SIMPLE  =                    T", b"XTENSION= 'IMAGE   '          ", 1)
    (site.archive / "1p.weight.fits").write_bytes(single + extension)

    assert site.refusal(site.job(STACK)) == [
        'm101.spica: "weight": 1p.weight.fits has 2 CCDs, 1p.fits has 1. Give the weight map of the same mosaic.'
    ]


def test_a_reference_outside_the_archive_is_refused(site: Site) -> None:
    (found,) = site.refusal(site.job(CATALOGUE + SOLVE, more='reference = "/etc/passwd"'))

    assert found.startswith('m101.spica: "reference": /etc/passwd: outside the archive')


# ---------------------------------------------------------------------- rules and configurations by level


def swarp_value(vetted: Vetted, keyword: str = "COMBINE_TYPE") -> tuple[str, str]:
    effective = vetted.setups[0].effective
    assert effective is not None
    return effective.settings[keyword]


def test_the_nearest_configuration_wins(site: Site) -> None:
    job = site.job(STACK, more='[configuration]\nswarp = "deep"')
    places = ("swarp", "groups/lensing/swarp", "users/alice/swarp")
    origins = ("system: deep", "group: deep", "user: deep")
    for place, value, origin in zip(places, ("AVERAGE", "MIN", "MAX"), origins, strict=True):
        site.configuration(f"{place}/deep.conf", f"COMBINE_TYPE {value}\n")

        assert swarp_value(site.vet(job)) == (value, origin)

    carried = site.job(STACK, more='[configuration]\nswarp = "deep"\n[texts]\n"deep.conf" = "COMBINE_TYPE SUM"')
    assert swarp_value(site.vet(carried)) == ("SUM", "job file: deep")


def test_configurations_of_others_are_not_seen(site: Site) -> None:
    site.configuration("users/bob/swarp/deep.conf", "COMBINE_TYPE MIN\n")
    site.configuration("groups/solar/swarp/deep.conf", "COMBINE_TYPE MIN\n")

    (found,) = site.refusal(site.job(STACK, more='[configuration]\nswarp = "deep"'))

    assert '"deep"' in found
    assert "default" in found


@pytest.mark.parametrize(
    "name", ["../../users/bob/swarp/deep", "/etc/passwd", "..", "a/b", "x" * 300, "a\\u0000b", "-c"]
)
def test_a_configurations_name_is_no_path(site: Site, name: str) -> None:
    site.configuration("users/bob/swarp/deep.conf", "COMBINE_TYPE MIN\n")

    assert len(site.refusal(site.job(STACK, more=f'[configuration]\nswarp = "{name}"'))) == 1


def test_single_keywords_go_on_top_the_jobs_over_the_rules(site: Site) -> None:
    task = STACK + 'set = { COMBINE_TYPE = "MIN", BACK_SIZE = 64 }\n'

    ruled = site.vet(site.job(task))
    job = site.vet(site.job(task, more='[set.swarp]\nCOMBINE_TYPE = "MAX"'))

    assert swarp_value(ruled) == ("MIN", "rules")
    assert swarp_value(job) == ("MAX", "job file")
    assert swarp_value(job, "BACK_SIZE") == ("64", "rules")


def test_rules_are_found_by_level_and_may_be_carried(site: Site) -> None:
    def title(more: str = "") -> str:
        return site.vet(site.job("", more=f'rules = "mine"\n{more}')).rules.title

    for folder, name in (("", "system"), ("groups/lensing", "group"), ("users/alice", "user")):
        path = site.folder / "rules" / folder / "mine.toml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f'title = "{name}"\n{CATALOGUE}')
        assert title() == name

    carried = f'title = "carried"\\n{CATALOGUE}'.replace("\n", "\\n").replace('"', '\\"')
    assert title(f'[texts]\nmine = "{carried}"') == "carried"


@pytest.mark.parametrize("name", ["stak", "../rules/stack", "users/alice/x", "x" * 300, "a\\u0000b", ".."])
def test_unknown_rules_are_told_with_the_known_ones(site: Site, name: str) -> None:
    found = site.refusal(site.job("", more=f'rules = "{name}"'))

    assert len(found) == 1
    assert "there are no rules" in found[0]
    assert "stack" in found[0]


def test_a_mistake_in_carried_rules_is_named_with_its_line(site: Site) -> None:
    assert site.refusal(site.job("", more='rules = "my.toml"\n[texts]\n"my.toml" = "title = 1"')) == [
        'my.toml, line 1: "title" is 1 but must be a text. What people call these rules.',
        'my.toml: "task" is missing. The tasks, in order.',
    ]


def test_a_carried_file_keeps_its_name_and_line_in_what_is_said_of_it(site: Site) -> None:
    text = "COMBINE_TYPE MEDIAN\\nCOMBINE_TYP MIN\\n"

    (found,) = site.refusal(site.job(STACK, more=f'[configuration]\nswarp = "my.conf"\n[texts]\n"my.conf" = "{text}"'))

    assert "my" in found.partition(":")[0]
    assert "line 2" in found
    assert "COMBINE_TYPE" in found


@pytest.mark.parametrize("name", ["../x.conf", "a/b.conf", "", "-x", "a b", "x" * 101])
def test_the_name_of_a_carried_file_is_no_path(site: Site, name: str) -> None:
    (found,) = site.refusal(site.job(STACK, more=f'[texts]\n"{name}" = "X"'))

    assert "cannot be the name of a file in [texts]." in found


def test_a_list_of_columns_may_be_carried_and_a_missing_one_is_named(site: Site) -> None:
    columns = (site.configurations / "sextractor/default.param").read_text().replace("XWIN_IMAGE\n", "", 1)
    carried = columns.replace("\n", "\\n").replace('"', "'")
    more = f'[set.sextractor]\nPARAMETERS_NAME = "my.param"\n[texts]\n"my.param" = "{carried}"'

    alone = site.vet(site.job(CATALOGUE, more=more))
    found = site.refusal(site.job(CATALOGUE + SOLVE, more=more))

    assert b"XWIN_IMAGE" not in alone.setups[0].stored["parameters_name.param"].replace(b"ERRAWIN_IMAGE", b"")
    assert found == [
        'sextractor: the column "XWIN_IMAGE" is missing in the list of output columns; scamp needs it.'
        " Add a line XWIN_IMAGE."
    ]


def test_all_that_is_wrong_comes_at_once(site: Site) -> None:
    more = (
        'rules = "stak"\nweight = "w.fits"\nreference = "/etc/passwd"\n'
        f'calibration = ["{site.archive}/none.fits"]\n[configuration]\nswap = "deep"'
    )

    found = site.refusal(site.job("", more=more))

    assert len(found) == 5
    for word in ('"swap"', '"stak"', '"calibration"', '"weight"', '"reference"'):
        assert any(word in each for each in found)


# ---------------------------------------------------------------------- without a sandbox

OWN_SETTINGS = {
    "keywords": (STACK, "[set.swarp]\nBACK_SIZE = 64"),
    "a file": (STACK, '[texts]\n"x.conf" = "BACK_SIZE 64"'),
    "keywords of tasks": (STACK + "set = { BACK_SIZE = 64 }\n", ""),
}
OFF = "[sandbox]\nuser_configurations = false\n"


@pytest.mark.parametrize(("tasks", "more"), OWN_SETTINGS.values(), ids=OWN_SETTINGS.keys())
@pytest.mark.parametrize(
    ("conf", "is_sandboxed", "why"),
    [
        ("", False, "no sandbox works on this machine"),
        (OFF, True, "user_configurations is off in spica.conf"),
        (OFF + 'kind = "none"\n', False, "no sandbox works on this machine"),
    ],
)
def test_settings_of_users_are_refused_where_they_are_not_safe_or_not_wanted(
    site: Site, tasks: str, more: str, conf: str, is_sandboxed: bool, why: str
) -> None:
    assert site.refusal(site.job(tasks, more=more), more=conf, is_sandboxed=is_sandboxed) == [
        f"m101.spica: configurations of users are not taken here: {why}."
        " Use a system configuration, or ask the administrator."
    ]
    assert site.vet(site.job(tasks, more=more), DAN, conf, is_sandboxed).plan.steps


@pytest.mark.parametrize(("tasks", "more"), OWN_SETTINGS.values(), ids=OWN_SETTINGS.keys())
def test_settings_of_users_are_taken_where_the_administrator_says_so(site: Site, tasks: str, more: str) -> None:
    assert site.vet(site.job(tasks, more=more), more='[sandbox]\nkind = "none"\n', is_sandboxed=False).plan.steps


def test_stored_settings_of_users_are_passed_over_where_they_are_not_safe(site: Site) -> None:
    site.configuration("users/alice/swarp/default.conf", "COMBINE_TYPE MIN\n")
    own_rules = site.folder / "rules/users/alice/stack.toml"
    own_rules.parent.mkdir(parents=True)
    own_rules.write_text(f'title = "own"\n{CATALOGUE}')

    assert swarp_value(site.vet(site.job(STACK)))[0] == "MIN"
    assert swarp_value(site.vet(site.job(STACK), is_sandboxed=False))[1] == "system: default"
    assert site.vet(site.job("", more='rules = "stack"')).rules.title == "own"
    assert site.vet(site.job("", more='rules = "stack"'), is_sandboxed=False).rules.title == "Stack"


# ---------------------------------------------------------------------- files beside a job file


def test_files_beside_a_job_file_are_those_that_it_names(site: Site) -> None:
    more = (
        'rules = "my.toml"\n[configuration]\nswarp = "deep.conf"\nscamp = "deep"\n'
        '[set.swarp]\nPIXEL_SCALE = 0.186\n[set.sextractor]\nFILTER_NAME = "my.conv"'
    )
    beside = {
        "my.toml": "title",
        "deep.conf": "X Y",
        "other.conf": "Z",
        "0.186": "no file of anybody's",
        "my.conv": "C",
    }

    def read(name: str) -> str:
        if name not in beside:
            raise FileNotFoundError(name)
        return beside[name]

    found = companions_of(site.job("", more=more), APPLICATIONS, read)

    assert found == {"my.toml": "title", "deep.conf": "X Y", "my.conv": "C"}


def test_names_that_are_paths_are_never_read_beside_a_job_file(site: Site) -> None:
    asked: list[str] = []
    more = 'rules = "../my.toml"\n[configuration]\nswarp = "/etc/x.conf"\nscamp = ".ssh"\npsfex = "plain"'

    companions_of(site.job("", more=more), APPLICATIONS, lambda name: asked.append(name) or "")  # type: ignore[func-returns-value]

    assert asked == []


def test_no_more_is_carried_along_than_a_process_can_hold(site: Site) -> None:
    more = 'rules = "my.toml"\n[configuration]\n' + "\n".join(f'a{number} = "{number}.conf"' for number in range(30))

    for long in ("", "x" * (1 << 19)):
        with pytest.raises(BadInput, match="too much is named beside this file; at most 20, of 1024 kB together"):
            companions_of(site.job("", more=more), APPLICATIONS, lambda name, long=long: long)


def test_a_file_that_is_named_but_not_there_is_not_replaced_by_the_systems(site: Site) -> None:
    more = 'rules = "stack.toml"\n[configuration]\nswarp = "default.conf"'

    assert site.refusal(site.job("", more=more)) == [
        'm101.spica, line 5: there is no file "default.conf" beside this one. Drop it before the job file, or write '
        '"default" for the one that is kept.',
        'm101.spica, line 3: there is no file "stack.toml" beside this one. Drop it before the job file, or write '
        '"stack" for the one that is kept.',
    ]


def test_the_desk_writes_nothing(site: Site) -> None:
    before = sorted(os.walk(site.folder))

    site.vet(site.job(CATALOGUE + SOLVE + STACK))

    assert sorted(os.walk(site.folder)) == before

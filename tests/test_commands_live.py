"""The command `spica` with a real daemon: what is handed over is followed, steered, explained, fetched and verified.

One daemon serves the first tests, so that processids differ; those at the end use the real tools.
"""

from __future__ import annotations

import json
import os
import pty
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from conftest import APPLICATIONS, COMPILED, DESCRIPTOR, ROOT, RunningSpica, wait_until, write_exposure
from test_archive_search import ROWS

from spicad import closing, config, tables
from spicad.commands import find, main, selections
from spicad.desk import Desk, Vetted
from spicad.jobfile import Job, parse
from spicad.spool import Spool
from spicad.tables import Exposure
from spicad.words import Phase

pytestmark = pytest.mark.slow

NEVER = "not_before = 2199-01-01 00:00:00"
CHATTY = ('["printf"]', r"""['first\nprogress 1\033[1A\n\033[1M\rprogress 2\n\033[31mlast\033[0m\n']""", "")
RANDOM = (
    '["cp"]',
    '["/proc/sys/kernel/random/uuid", "{stem}.txt"]',
    '[output.text]\nfile = "{stem}.txt"\nkind = "text"\nproduct = "{exposure}.txt"\n',
)


@pytest.fixture(scope="module")
def spica(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningSpica]:
    made = RunningSpica(tmp_path_factory.mktemp("spica"))
    for name, (command, arguments, output) in {"chatty": CHATTY, "random": RANDOM}.items():
        made.application(name, DESCRIPTOR.format(name=name, command=command, arguments=arguments, output=output))
    made.start()
    yield made
    made.end()


@pytest.fixture(scope="module")
def copied(spica: RunningSpica) -> int:
    """A completed process with three products."""
    process = spica.submit("noop", "copy", name="copied")
    assert spica.wait_for(process) == "COMPLETED"
    return process


@pytest.fixture(scope="module")
def failed(spica: RunningSpica) -> int:
    process = spica.submit("copy", "fail", name="failed")
    assert spica.wait_for(process) == "ERROR"
    return process


@pytest.fixture
def idling(spica: RunningSpica) -> Iterator[int]:
    """A process whose step runs until somebody ends it."""
    process = spica.submit("idle", name="idling", exposures=spica.exposures[:1])
    wait_until(lambda: shown(spica, process)["steps"][0]["state"] == "running", "the step to run")
    yield process
    if spica.phase(process) == "EXECUTING":
        spica.spica("cancel", process)


def shown(spica: RunningSpica, process: int) -> dict:  # type: ignore[type-arg]
    record: dict = json.loads(spica.spica("show", process, "--json").stdout)  # type: ignore[type-arg]
    return record if record["steps"] else record | {"steps": [{"state": "waiting"}]}


def on_terminal(spica: RunningSpica, *arguments: object, env: dict[str, str] | None = None) -> tuple[int, str]:
    """What an 80-column terminal gets."""
    leader, follower = pty.openpty()
    environment = {**os.environ, **COMPILED, "TERM": "xterm", "COLUMNS": "80", **(env or {})}
    environment.pop("NO_COLOR", None) if not env else None
    process = subprocess.Popen(
        spica.command(*arguments), stdin=follower, stdout=follower, stderr=follower, env=environment
    )
    os.close(follower)
    output = b""
    while True:
        try:
            piece = os.read(leader, 65536)
        except OSError:  # EIO: the other side is closed
            break
        if not piece:
            break
        output += piece
    os.close(leader)
    return process.wait(), output.decode()


# ---------------------------------------------------------------------- list and show


def test_processes_are_listed_the_newest_first_and_filtered(spica: RunningSpica, copied: int, failed: int) -> None:
    def ids(*filters: object) -> list[int]:
        return [each["process"] for each in json.loads(spica.spica("list", "--json", *filters).stdout)]

    assert ids()[:2] == [failed, copied] if failed > copied else [copied, failed]
    assert ids("--phase", "error") == [failed]
    assert set(ids("--phase", "error,completed")) >= {failed, copied}
    assert ids("--name", "cop*") == [copied]
    assert copied in ids("--mine", "--since", "1h")
    assert len(ids("--limit", 1)) == 1
    assert spica.spica("list", "--user", "nobody-here", status=3).stdout == ""
    assert 'Did you mean "COMPLETED"' in spica.spica("list", "--phase", "completd", status=2).stderr


def test_a_process_is_shown_with_its_phases_steps_and_products(spica: RunningSpica, copied: int) -> None:
    record = shown(spica, copied)
    text = spica.spica("show", f"{copied:06d}").stdout

    assert [each["phase"] for each in record["phases"]] == ["QUEUED", "EXECUTING", "COMPLETED"]
    assert [step["state"] for step in record["steps"]] == ["done"] * 6
    assert all(step["seconds"] >= 0 for step in record["steps"])
    assert [each["name"] for each in record["products"]] == [f"90000{n}p.copy.fits" for n in (1, 2, 3)]
    assert f"Process {copied}, copied: COMPLETED" in text
    assert "Products, 17.3 kB (3)" in text


def test_dropped_exposures_are_shown_with_their_reasons(spica: RunningSpica) -> None:
    broken = spica.archive / "broken.fits"
    broken.write_bytes(b"SIMPLE  = nothing of the kind")
    process = spica.submit("noop", name="broken", exposures=[*spica.exposures, broken])
    assert spica.wait_for(process) == "COMPLETED"

    dropped = shown(spica, process)["dropped"]

    assert [each["exposure"] for each in dropped] == ["broken.fits"]
    assert dropped[0]["why"] in spica.spica("show", process).stdout


def test_a_process_that_is_not_there_ends_with_status_3(spica: RunningSpica) -> None:
    for command in ("show", "explain", "log", "results", "rerun", "verify", "hold"):
        assert "there is no process 99999" in spica.spica(command, 99999, status=3).stderr


def test_tables_fit_a_terminal_and_have_colours_only_there(spica: RunningSpica, failed: int) -> None:
    status, screen = on_terminal(spica, "list")
    _, plain = on_terminal(spica, "list", env={"NO_COLOR": "1"})

    assert status == 0
    assert "\x1b[31mERROR" in screen
    assert "\x1b" not in plain
    assert "\x1b" not in spica.spica("list").stdout
    assert max(len(line) for line in plain.splitlines()) <= 80


# ---------------------------------------------------------------------- watching


def test_watching_without_a_terminal_prints_a_line_for_each_change(spica: RunningSpica, idling: int) -> None:
    watching = subprocess.Popen(spica.command("show", "--watch", idling), stdout=subprocess.PIPE, text=True)
    assert watching.stdout is not None
    first = watching.stdout.readline()

    spica.spica("cancel", idling)
    rest, _ = watching.communicate(timeout=20)

    assert first == f"process {idling} idling: EXECUTING, 0 of 1 steps done\n"
    assert re.search(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d  0001-idle 900001p skipped: cancelled by \w+$", rest, re.M)
    assert re.search(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d  ABORTED cancelled by \w+$", rest, re.M)
    assert f"process {idling} idling: ABORTED" in rest
    assert not {"\x1b", "\r"} & set(rest)
    assert watching.returncode == 1


def test_a_job_can_be_submitted_and_watched_at_once(spica: RunningSpica) -> None:
    done = spica.spica("submit", "--watch", spica.job("noop", "copy", name="watched"))

    assert re.search(r"^process \d+ watched: COMPLETED", done.stdout, re.M)


def test_watching_ends_with_status_1_when_the_process_does(spica: RunningSpica, failed: int) -> None:
    done = spica.spica("show", "--watch", failed, status=1)

    assert f"next: spica log {failed}" in done.stdout


def test_watching_as_json_gives_an_object_a_line(spica: RunningSpica, copied: int) -> None:
    lines = spica.spica("show", "--watch", "--json", copied).stdout.splitlines()

    assert [json.loads(line)["phase"] for line in lines] == ["COMPLETED"]


def test_watching_on_a_terminal_draws_a_bar_and_clears_it(spica: RunningSpica) -> None:
    status, screen = on_terminal(spica, "submit", "--watch", spica.job("noop", name="bar"))

    assert status == 0
    assert "3/3" in screen
    assert re.search(r"\r\x1b\[Kprocess \d+ bar: \x1b\[32mCOMPLETED", screen)


def test_interrupting_the_watching_leaves_the_process_alone(spica: RunningSpica, idling: int) -> None:
    watching = subprocess.Popen(spica.command("show", "--watch", idling), stdout=subprocess.PIPE, text=True)
    assert watching.stdout is not None
    assert "EXECUTING" in watching.stdout.readline()

    watching.send_signal(signal.SIGINT)

    assert watching.wait(20) == 130
    watching.stdout.close()
    assert spica.phase(idling) == "EXECUTING"


# ---------------------------------------------------------------------- logs


def test_a_log_is_printed_as_a_terminal_would_show_it(spica: RunningSpica) -> None:
    process = spica.submit("chatty", name="chatty", exposures=spica.exposures[:1])
    spica.wait_for(process)

    done = spica.spica("log", process)
    raw = spica.spica("log", process, "--raw").stdout

    assert "\x1b" not in done.stdout
    assert done.stdout.splitlines()[0] == "first"
    assert done.stdout.splitlines()[-1] == "last"
    assert "img0001 is 900001p" in done.stderr
    assert "\x1b[31mlast" in raw


def test_the_log_of_a_process_in_error_is_that_of_the_failed_step(spica: RunningSpica, failed: int) -> None:
    done = spica.spica("log", failed)

    assert "no-such-file" in done.stdout
    assert "-fail, " in done.stderr
    assert "no step" in spica.spica("log", failed, "faill", status=3).stderr


def test_following_a_log_ends_with_the_step(spica: RunningSpica, idling: int) -> None:
    following = subprocess.Popen(spica.command("log", "-f", idling), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert following.stderr is not None
    assert b"running" in following.stderr.readline()

    spica.spica("cancel", idling)

    assert following.wait(20) == 0
    following.communicate()


# ---------------------------------------------------------------------- orders and explanations


def test_a_queued_process_is_held_explained_released_and_cancelled(spica: RunningSpica) -> None:
    process = spica.submit("noop", name="waits", more=NEVER)
    assert "not_before 2199-01-01" in spica.spica("explain", process).stdout

    assert f"process {process} is HELD" in spica.spica("hold", process, "--why", 'clouds "again"').stdout
    held = spica.spica("explain", process).stdout
    assert 'clouds "again"' in held
    assert f"spica release {process}" in held
    assert spica.spica("show", "--watch", process, status=1).stdout.count("HELD") >= 1

    assert f"process {process} is QUEUED" in spica.spica("release", process).stdout
    assert f"process {process} is ABORTED" in spica.spica("cancel", process).stdout
    assert "It is over" in spica.spica("explain", process).stdout


def test_several_processes_and_ranges_are_cancelled_at_once(spica: RunningSpica) -> None:
    first, second, third = (spica.submit("noop", name=f"many{n}", more=NEVER) for n in range(3))

    done = spica.spica("cancel", f"{first}-{second}", f"{third:06d}")

    assert [spica.phase(each) for each in (first, second, third)] == ["ABORTED"] * 3
    assert len(done.stdout.splitlines()) == 3


def test_what_can_be_done_is_done_and_the_rest_named(spica: RunningSpica, copied: int) -> None:
    waits = spica.submit("noop", name="waits", more=NEVER)

    done = spica.spica("cancel", copied, 99999, waits, status=1)

    assert f"process {waits} is ABORTED" in done.stdout
    assert f"process {copied} is COMPLETED: it is over" in done.stderr
    assert "there is no process 99999" in done.stderr


def test_a_running_process_is_cancelled_and_its_tool_ended(spica: RunningSpica, idling: int) -> None:
    assert "1 running now" in spica.spica("explain", idling).stdout

    assert "is ABORTED" in spica.spica("cancel", idling).stdout

    assert spica.spica("show", "--watch", idling, status=1).stdout.count("ABORTED") == 1


def test_a_hold_of_a_running_process_says_what_will_happen(spica: RunningSpica, idling: int) -> None:
    done = spica.spica("hold", idling)

    assert "will be HELD when the steps that run now have ended" in done.stdout


def test_the_score_has_each_of_its_terms_and_how_many_are_ahead(spica: RunningSpica) -> None:
    first, second = (spica.submit("noop", name=f"score{n}", more=NEVER) for n in range(2))

    record = json.loads(spica.spica("explain", second, "--json").stdout)
    spica.spica("cancel", first, second)

    terms = {name: points for name, points in record["score"].items() if name != "total"}
    assert set(terms) == {"rank", "locality", "load", "age", "fair share"}
    assert record["score"]["total"] == pytest.approx(sum(terms.values()))
    assert terms["locality"] == 200  # nothing is stored anywhere else
    assert record["ahead_queued"] == 0  # the other waits for its time as well
    assert record["slots"] == 2


def test_full_slots_are_named_as_what_holds_the_next_steps(spica: RunningSpica) -> None:
    busy = spica.submit("idle", name="busy")
    wait_until(
        lambda: json.loads(spica.spica("explain", busy, "--json").stdout)["slots_used"] == 2, "both slots to be taken"
    )

    words = spica.spica("explain", busy).stdout
    spica.spica("cancel", busy)

    assert "all 2 slots are taken" in words
    assert "0 of 3 steps done, 2 running now" in words


def test_a_queued_process_is_told_how_long_it_will_take_from_five_past_runs_on(spica: RunningSpica) -> None:
    for number in range(2):  # of three steps each
        assert spica.wait_for(spica.submit("noop", name=f"past{number}")) == "COMPLETED"

    process = spica.submit("noop", name="foretold", more=NEVER)
    words, record = spica.spica("explain", process).stdout, json.loads(spica.spica("explain", process, "--json").stdout)
    spica.spica("cancel", process)

    assert "Once it is its turn, what is left takes" in words
    assert 0 < record["eta_s"][0] <= record["eta_s"][1]
    assert record["done_s"] == record["eta_s"]  # nothing is before it


def test_the_queue_shows_who_goes_first_and_what_holds_them(spica: RunningSpica) -> None:
    later, sooner = (spica.submit("noop", name=f"line{n}", more=NEVER) for n in (1, 2))

    line = json.loads(spica.spica("queue", "--json").stdout)
    table, scores = spica.spica("queue").stdout, spica.spica("queue", "--scores").stdout
    spica.spica("cancel", later, sooner)

    assert [each["process"] for each in line if each["process"] in (later, sooner)] == [later, sooner]
    assert "not before" in table
    assert "fair share" in scores
    assert all(each["score"]["total"] >= other["score"]["total"] for each, other in pairwise(line))


def test_a_drained_node_starts_nothing_until_it_is_undrained(spica: RunningSpica) -> None:
    spica.spica("drain", "--why", "new disk")
    process = spica.submit("noop", name="drained")
    queue = spica.spica("queue").stderr
    words = spica.spica("explain", process).stdout
    waits = shown(spica, process)["phase"]

    spica.spica("drain", "--off")
    spica.wait_for(process)

    assert waits == "QUEUED"
    assert "drained by root: new disk" in words
    assert ": drained by root: new disk" in queue
    assert shown(spica, process)["phase"] == "COMPLETED"


def test_a_rerun_reuses_what_is_finished_and_a_fresh_one_does_not(spica: RunningSpica) -> None:
    process = spica.submit("copy", name="again")
    spica.wait_for(process)

    spica.spica("rerun", process, "--watch")
    reused = [step["state"] for step in shown(spica, process)["steps"]]
    spica.spica("rerun", process, "--watch", "--fresh")
    fresh = [step["state"] for step in shown(spica, process)["steps"]]

    assert (reused, fresh) == (["reused"] * 3, ["done"] * 3)
    assert json.loads(spica.spica("show", process, "--run", 2, "--json").stdout)["shown_run"] == 2
    assert "its last is run-3" in spica.spica("show", process, "--run", 9, status=3).stderr


def test_the_log_of_a_reused_step_is_that_of_the_run_that_made_it(spica: RunningSpica) -> None:
    process = spica.submit("copy", name="reusing", exposures=[write_exposure(spica.archive / "reusing.fits", 5)])
    spica.wait_for(process)
    spica.spica("rerun", process, "--watch")

    path = Path(spica.spica("log", process, 1, "--path").stdout.strip())

    assert path.is_file()
    assert path.parent.parent.parent.name == "run-1"


def test_what_runs_cannot_be_run_again(spica: RunningSpica, idling: int) -> None:
    assert "it is not over yet" in spica.spica("rerun", idling, status=1).stderr


# ---------------------------------------------------------------------- results and verification


def test_results_are_listed_and_fetched(spica: RunningSpica, copied: int, tmp_path: Path) -> None:
    listed = json.loads(spica.spica("results", copied, "--json").stdout)
    folder = Path(spica.spica("results", copied, "--path").stdout.strip())
    done = spica.spica("results", copied, "--fetch", tmp_path / "got")

    assert "3 of 3 products" in done.stdout
    for product in listed["products"]:
        assert (tmp_path / "got" / product["name"]).read_bytes() == (folder / product["name"]).read_bytes()


def test_a_run_that_is_not_over_has_no_results_yet(spica: RunningSpica, idling: int) -> None:
    assert "is not over" in spica.spica("results", idling, status=3).stderr


def test_a_process_is_verified_by_another_run(spica: RunningSpica, copied: int) -> None:
    done = spica.spica("verify", copied)

    assert done.stdout.splitlines()[-1].startswith("3 of 3 products are identical")


def test_products_that_differ_are_named_and_the_status_is_1(spica: RunningSpica) -> None:
    process = spica.submit("random", name="random")
    assert spica.wait_for(process) == "COMPLETED"

    done = spica.spica("verify", process, "--json", status=1)
    again = spica.spica("verify", process, "--runs", 1, 2, status=1)

    assert json.loads(done.stdout)["different"] == ["900001p.txt", "900002p.txt", "900003p.txt"]
    assert "0 of 3 products are identical (run 1 and run 2)" in again.stdout
    assert "differs: 900002p.txt" in again.stdout


def test_a_tool_that_was_replaced_since_is_named_with_both_versions(spica: RunningSpica) -> None:
    program = spica.folder / "programs" / "copier"
    program.parent.mkdir()
    script = '#!/bin/sh\n[ "$1" = --version ] && echo "copier version 2.25.0" && exit\nexec cp "$1" "$2"\n'
    program.write_text(script)
    program.chmod(0o755)
    copy = DESCRIPTOR.format(name="copier", command=f'["{program}"]', arguments=APPLICATIONS["copy"][1],
                             output=APPLICATIONS["copy"][2])  # fmt: skip
    spica.application("copier", copy.replace('version = ""', 'version = "--version"'))
    spica.daemon.send_signal(signal.SIGHUP)  # type: ignore[union-attr]
    process = spica.submit("copier", name="copier")
    assert spica.wait_for(process) == "COMPLETED"

    program.write_text(script.replace("2.25.0", "2.26"))
    done = spica.spica("verify", process)

    assert "3 of 3 products are identical" in done.stdout
    assert "spica: copier was 2.25.0 in run 1, is now 2.26 in run 2" in done.stderr


def test_an_exact_repetition_is_of_the_last_run_that_has_a_recipe(spica: RunningSpica, copied: int) -> None:
    settings = config.load(spica.conf)
    spool = Spool(spica.spool)
    text, accepted = spool.read_copy(copied, Phase.COMPLETED)
    job = parse(text, "copied.spica")
    assert isinstance(job, Job)

    def recipe(run: int) -> Vetted | None:
        then = replace(accepted, run=run)
        return closing.last_recipe(spica.results, copied, job, then, Desk.of(settings))

    after_one_that_never_began = recipe(accepted.run + 2)

    assert after_one_that_never_began is not None
    assert len(after_one_that_never_began.plan.steps) == 6
    assert recipe(1) is None


def test_only_what_is_completed_can_be_verified(spica: RunningSpica, failed: int) -> None:
    assert "only what is COMPLETED can be verified" in spica.spica("verify", failed, status=1).stderr


# ---------------------------------------------------------------------- the daemon and the tables


def test_the_tables_are_not_upgraded_under_a_running_daemon(spica: RunningSpica) -> None:
    assert "Run spicad stop first" in spica.spica("database", "upgrade", status=1).stderr


def test_files_beside_a_job_file_are_looked_over_and_carried_along(spica: RunningSpica) -> None:
    (spica.folder / "mine.toml").write_text('title = "Mine"\n\n[[task]]\napplication = "noop"\neach = "exposure"\n')
    job = spica.folder / "beside.spica"
    job.write_text(f'name = "beside"\nexposures = ["{spica.exposures[0]}"]\nrules = "mine.toml"\n\n[end]\n')

    process = int(spica.spica("submit", job).stdout.split()[-1])

    assert spica.wait_for(process) == "COMPLETED"
    (spica.folder / "mine.toml").write_bytes(b"\xff")
    assert "mine.toml, line 1: this is not UTF-8 text." in spica.spica("submit", job, status=2).stderr


def test_a_job_with_mistakes_is_refused_before_and_after_it_is_dropped(spica: RunningSpica) -> None:
    job = spica.job("noop", name="mistakes", more='mial = "a@example.org"')

    before = spica.spica("submit", job, status=2)

    assert "mistakes.spica, line 3" in before.stderr
    assert 'Did you mean "mail"' in before.stderr
    gone = spica.job("noop", name="gone", exposures=[spica.archive / "gone.fits"])
    after = spica.spica("submit", "--no-check", gone, status=1)
    assert "gone.spica: " in after.stderr
    assert "gone.fits" in after.stderr


def test_a_stopped_daemon_is_named_by_submit_and_explain(running_spica: RunningSpica) -> None:
    process = running_spica.submit("noop", more=NEVER)
    running_spica.stop()

    submitted = running_spica.spica("submit", running_spica.job("noop", name="late"), status=1)
    explained = running_spica.spica("explain", process)

    assert "no spicad runs" in submitted.stderr
    assert "no spicad runs" in explained.stdout
    assert "nothing to do" in running_spica.spica("database", "upgrade").stdout
    running_spica.start()
    wait_until(lambda: running_spica.phase(process + 1) == "COMPLETED", "the late one to be taken")


def test_processids_are_completed_from_the_tables(spica: RunningSpica, copied: int) -> None:
    assert str(copied) in spica.spica("completion", "processids").stdout.split()


# ---------------------------------------------------------------------- the real tools

TOOLS = (("source-extractor", "sex"), ("scamp",), ("SWarp", "swarp"))
has_tools = all(any(shutil.which(name) for name in names) for names in TOOLS)


@pytest.mark.skipif(not has_tools, reason="SExtractor, SCAMP or SWarp is not installed")
def test_a_stack_of_a_made_sky_is_followed_shown_fetched_and_verified(tmp_path: Path) -> None:
    real = RunningSpica(tmp_path)
    text = real.conf.read_text()
    for folder in ("applications", "rules", "configurations"):
        text = text.replace(f'{folder} = "{folder}"', f'{folder} = "{ROOT / "etc" / folder}"')
    real.conf.write_text(text)
    sky = real.archive / "sky"
    options = ("--exposures", "2", "--ccds", "2", "--size", "400", "--filters", "r")
    subprocess.run([sys.executable, str(ROOT / "bin/spica"), "sky", str(sky), *options], check=True)
    job = tmp_path / "real.spica"
    job.write_text(
        f'name = "real"\nexposures = ["{sky}/9*.fits"]\nrules = "stack"\nweight = "{sky}/badpix.fits"\n'
        f'reference = "{sky}/refcat.cat"\n\n[end]\n'
    )
    real.start()
    try:
        watched = real.spica("submit", "--watch", job)
        process = int(watched.stdout.split()[1])
        record = json.loads(real.spica("show", process, "--json").stdout)
        fetched = real.spica("results", process, "--fetch", tmp_path / "got")
        verified = real.spica("verify", process)
    finally:
        real.end()

    assert {step["application"] for step in record["steps"]} == {"sextractor", "scamp", "swarp"}
    assert any("arcsec" in each["label"] or each["unit"] == "arcsec" for each in record["figures"])
    assert "7 of 7 products" in fetched.stdout
    assert (tmp_path / "got/real.fits").stat().st_size > 1_000_000
    assert "7 of 7 products are identical (run 1 and run 2)" in verified.stdout


def test_who_may_not_write_to_the_database_has_selections_and_tags_saved_by_the_daemon(
    running_spica: RunningSpica, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SPICA_CONF", str(running_spica.conf))
    for module in (find, selections):
        monkeypatch.setattr(module, "may_change", lambda settings: False)  # root, who may run the tests, may
    opened = tables.connect(config.load().database.url)
    Exposure.insert_many(ROWS[:20]).execute()
    opened.close()

    def spica(*words: str) -> tuple[int, str]:
        status = main([*words])
        return status, capsys.readouterr().err

    assert spica("find", "--kind", "any", "--save", "mine")[1] == "spica: saved as the selection mine: 20 exposures.\n"
    assert "you have a selection" in spica("find", "--kind", "any", "--filter", "r", "--save", "mine")[1]
    assert spica("find", "--kind", "any", "--filter", "r", "--save", "red", "--limit", "1")[0] == 0
    assert spica("selection", "subtract", "rest", "mine", "red")[0] == 0
    assert spica("selection", "share", "rest")[0] == spica("selection", "delete", "red")[0] == 0

    saved = json.loads(running_spica.spica("selection", "list", "--json").stdout)
    red = sum(row["filter"] == "r" for row in ROWS[:20])
    assert {each["name"]: (each["exposures"], each["shared"]) for each in saved} == {
        "mine": (20, False),
        "rest": (20 - red, True),
    }
    assert "there is no selection" in spica("selection", "delete", "red")[1]
    monkeypatch.setattr(selections, "TAGGED_AT_ONCE", 7)
    words = "spica: 20 exposures have the tag good now.\n"
    assert spica("find", "--kind", "any", "--put-tag", "good", "--count") == (0, words)
    assert "cannot be a tag" in spica("find", "--kind", "any", "--put-tag", "two words")[1]
    assert spica("find", "--kind", "any", "--filter", "r", "--take-tag", "good", "--count")[0] == 0
    assert running_spica.spica("find", "--kind", "any", "--tag", "good", "--count").stdout == f"{20 - red}\n"

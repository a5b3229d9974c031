"""One step before its start and after its end: content keys, inputs that changed, products and their names, reuse.

What makes an output good is told in test_applications_outputs.py; here stand-ins make small real FITS files.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import write_exposure

from spicad.applications.configuration import Effective
from spicad.applications.descriptor import Application, parse_application
from spicad.applications.tools import Tool
from spicad.archive.headers import read_exposure
from spicad.capsule import outcome_from, outcome_record
from spicad.desk import Setup
from spicad.plan import PlannedStep, clean
from spicad.run import Made, Outcome
from spicad.steps import (
    Earlier,
    Evidence,
    Place,
    Question,
    StepFile,
    judge,
    lay_out,
    look_over,
    papers,
    read_in,
    reuse,
    step_record,
)
from spicad.words import Ending, StepState

DESCRIPTOR = """\
title = "Copy"
summary = "A stand-in"
command = ["cp"]
arguments = ["@{exposure}", "{stem}.out.fits", "-n", "{threads}", "-m", "{memory_mb}"]
free = ["LEVEL"]

[input.exposure]
kind = "exposure"
file = "{stem}.fits"
place = "job"

[input.model]
kind = "product"
product = "model"
file = "{stem}.model"
optional = true

[stored]
TABLE = { file = "*.tab", holds = "text" }

[output.image]
file = "{stem}.out.fits"
kind = "fits"
product = "{exposure}.out.fits"

[output.aside]
file = "{stem}.aside.fits"
kind = "fits"
keep = false
optional = true

[output.extra]
file = "*.txt"
kind = "text"
optional = true
product = "{step}.{file}"
"""
COPY = parse_application(DESCRIPTOR, Path("copy.toml"))
TOOL = Tool("cp", Path("/usr/bin/cp"), "9.1", ("/usr/bin/cp",))


def effective(level: str = "1", origin: str = "system: default") -> Effective:
    return Effective("copy", {"LEVEL": (level, origin)}, frozenset({"LEVEL"}))


def step(number: int = 1, stem: str = "img0001", **more: object) -> PlannedStep:
    return replace(PlannedStep(number, 0, "copy", stem, (stem,), {}, (), 1, 256, 60.0), **more)


def question(
    path: Path, stem: str = "img0001", number: int = 1, application: Application = COPY, **more: object
) -> Question:
    exposure = read_exposure(path)
    usual = Question(
        step(number, stem),
        application,
        Setup("copy", TOOL, effective(), {"table.tab": b"1 2 3"}),
        (StepFile("exposure", stem, path, exposure=exposure),),
        (stem,),
        {stem: exposure},
        1,
    )
    return replace(usual, **more)


@pytest.fixture
def exposure(tmp_path: Path) -> Path:
    return write_exposure(tmp_path / "1p.fits")


# ---------------------------------------------------------------------- content keys


def test_a_step_is_the_same_under_another_number_and_another_name_of_its_file(exposure: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere" / "copied.fits"
    elsewhere.parent.mkdir()
    elsewhere.write_bytes(exposure.read_bytes())

    key = look_over(question(exposure)).key

    assert len(key) == 64
    assert look_over(question(exposure)).key == key
    assert look_over(question(elsewhere, "img0777", 12)).key == key


def test_what_does_not_matter_leaves_the_key_as_it_is(exposure: Path) -> None:
    usual = question(exposure)
    key = look_over(usual).key

    from_user = Setup("copy", replace(TOOL, path=Path("/opt/cp")), effective(origin="user: mine"), usual.setup.stored)

    assert look_over(replace(usual, setup=from_user)).key == key
    assert look_over(replace(usual, threads=8, step=replace(usual.step, memory_mb=9_999, time_s=7.0))).key == key
    assert look_over(replace(usual, read_later=frozenset({"image"}))).key == key


Change = Callable[[Question], Question]
COPY_OF = {
    "arguments": DESCRIPTOR.replace('"-n"', '"-N"'),
    "an output": DESCRIPTOR.replace("{stem}.out.fits", "{stem}.o.fits"),
    "what is required": DESCRIPTOR.replace(
        'product = "{exposure}', 'require = { pixels = true }\nproduct = "{exposure}'
    ),
    "a limit": DESCRIPTOR
    + '[metrics]\nwidth = { output = "image", field = "NAXIS1", help = "Width" }\n'
    + '[[check]]\nmetric = "width"\nminimum = 1\nwords = "too narrow"\n',
}
CHANGES: dict[str, Change] = {
    "the tool's version": lambda q: replace(q, setup=replace(q.setup, tool=replace(TOOL, version="9.2"))),
    "the configuration": lambda q: replace(q, setup=replace(q.setup, effective=effective("2"))),
    "no configuration": lambda q: replace(q, setup=replace(q.setup, effective=None)),
    "a stored file": lambda q: replace(q, setup=replace(q.setup, stored={"table.tab": b"1 2 4"})),
    "a stored file's name": lambda q: replace(q, setup=replace(q.setup, stored={"other.tab": b"1 2 3"})),
    "the application": lambda q: replace(q, setup=replace(q.setup, application="other")),
    "a further input": lambda q: replace(q, files=(*q.files, StepFile("model", "img0001", Path("/m"), identity="d"))),
    "an input's identity": lambda q: replace(q, files=(replace(q.files[0], identity="another"),)),
    **{
        what: lambda q, text=text: replace(q, application=parse_application(text, Path("copy.toml")))  # type: ignore[misc]
        for what, text in COPY_OF.items()
    },
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_each_thing_that_matters_changes_the_key(exposure: Path, change: Change) -> None:
    usual = question(exposure)

    looked = look_over(change(usual))

    assert looked.refused == ""
    assert looked.key != look_over(usual).key


def test_another_exposure_another_key(exposure: Path, tmp_path: Path) -> None:
    other = write_exposure(tmp_path / "2p.fits", level=200)

    assert look_over(question(exposure)).key != look_over(question(other)).key


def two(first: Path, second: Path, stems: tuple[str, str] = ("img0001", "img0002")) -> Question:
    text = DESCRIPTOR.replace('"{stem}.out.fits", ', "").replace('file = "{stem}.out', 'file = "all.out')
    application = parse_application(text, Path("copy.toml"))
    files = tuple(StepFile("exposure", stem, path) for stem, path in zip(stems, (first, second), strict=True))
    return question(first, application=application, files=files, stems=stems)


def test_the_order_of_the_exposures_matters_but_not_their_numbers(exposure: Path, tmp_path: Path) -> None:
    other = write_exposure(tmp_path / "2p.fits", level=200)

    key = look_over(two(exposure, other)).key

    assert look_over(two(exposure, other, ("img0005", "img0009"))).key == key
    assert look_over(two(other, exposure)).key != key


def test_what_a_whole_group_made_is_the_same_under_another_steps_number(exposure: Path) -> None:
    text = DESCRIPTOR.replace('"{stem}.out.fits", ', "").replace('file = "{stem}.out', 'file = "all.out')
    usual = question(exposure, application=parse_application(text, Path("copy.toml")))

    def with_model(stem: str, digest: str) -> str:
        model = StepFile("model", stem, Path("/m"), identity=digest)
        looked = look_over(replace(usual, files=(*usual.files, model)))
        assert looked.refused == ""
        return looked.key

    assert with_model("part0004", "d") == with_model("part0017", "d")
    assert with_model("part0004", "d") != with_model("part0004", "e")


def test_a_prepared_exposure_is_known_before_it_is_made(exposure: Path, tmp_path: Path) -> None:
    prepared = StepFile("exposure", "img0001", tmp_path / "work/img0001.fits", prepared_from=exposure)

    looked = look_over(question(exposure, files=(prepared,)))

    assert looked.refused == ""
    assert looked.key != look_over(question(exposure)).key
    assert looked.inputs == {"img0001.fits": tmp_path / "work/img0001.fits"}


# ---------------------------------------------------------------------- looking over


def test_a_digest_is_taken_once_and_remembered(exposure: Path) -> None:
    first = look_over(question(exposure))
    again = look_over(question(exposure, digests=first.digests))

    assert list(first.digests) == [str(exposure)]
    assert again.digests == {}
    assert again.key == first.key

    wrong = {path: (identity, "0" * 64) for path, (identity, _) in first.digests.items()}
    assert look_over(question(exposure, digests=wrong)).key != first.key
    stale = dict.fromkeys(first.digests, ("1:2:3:4", "0" * 64))
    assert look_over(question(exposure, digests=stale)).key == first.key


def test_an_exposure_that_changed_since_the_plan_is_refused(exposure: Path) -> None:
    asked = question(exposure)
    write_exposure(exposure, level=300)
    os.utime(exposure, ns=(1, 1))

    looked = look_over(asked)

    assert looked.refused == f"{exposure}: the file has changed since the process was planned. Run it again."
    assert looked.culprit == "img0001"
    assert looked.command is None


def test_an_exposure_that_is_gone_is_refused(exposure: Path) -> None:
    asked = question(exposure)
    exposure.unlink()

    assert look_over(asked).refused == f"{exposure}: No such file or directory."


def test_a_step_is_laid_out_as_it_was_looked_over(exposure: Path, tmp_path: Path) -> None:
    folder = tmp_path / "step"
    for name in ("cfg", "in", "job"):
        (folder / name).mkdir(parents=True)
    asked = question(exposure)
    looked = look_over(asked)

    lay_out(folder, looked, asked.setup, COPY)

    assert sorted(os.listdir(folder / "cfg")) == ["copy.conf", "exposure.list", "table.tab"]
    assert "LEVEL" in (folder / "cfg/copy.conf").read_text()
    assert (folder / "cfg/table.tab").read_bytes() == b"1 2 3"
    assert (folder / "cfg/exposure.list").read_text() == "img0001.fits\n"
    assert os.readlink(folder / "job/img0001.fits") == "../in/img0001.fits"
    assert json.loads(papers(looked)["step.json"])["argv"][:3] == [
        "/usr/bin/cp",
        "@../cfg/exposure.list",
        "img0001.out.fits",
    ]


def test_what_an_instrument_adds_to_headers_is_laid_beside_the_input_and_matters(
    exposure: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "step"
    for name in ("cfg", "in", "job"):
        (folder / name).mkdir(parents=True)
    application = parse_application(
        DESCRIPTOR.replace('place = "job"', 'place = "job"\nahead = "{stem}.ahead"'), Path("copy.toml")
    )
    plain = question(exposure, application=application)
    known = {"img0001": replace(plain.exposures["img0001"], ahead="QRUNID  = '13A     '\nEND     \n")}
    asked = replace(plain, exposures=known)

    looked = look_over(asked)
    lay_out(folder, looked, asked.setup, application)

    assert (folder / "job/img0001.ahead").read_text() == "QRUNID  = '13A     '\nEND     \n"
    assert looked.key not in (look_over(plain).key, look_over(question(exposure)).key)
    assert look_over(plain).key == look_over(question(exposure)).key
    other = question(exposure, "img0002", application=application, exposures={"img0002": known["img0001"]})
    assert look_over(other).key == looked.key


# ---------------------------------------------------------------------- judging, and the names of products


def run_folder(tmp_path: Path, name: str = "run-1") -> Path:
    folder = tmp_path / name
    for each in ("steps", "products", "work"):
        (folder / each).mkdir(parents=True)
    return folder


def evidence(run: Path, label: str = "1p", number: int = 1, stem: str = "img0001", **more: object) -> Evidence:
    """A step that has ended well, with its output in place."""
    folder = run / "steps" / f"{number:04d}-copy"
    (folder / "job").mkdir(parents=True)
    (folder / "log").write_text("all is well\n")
    write_exposure(folder / "job" / f"{stem}.out.fits", level=number)
    usual = Evidence(
        step(number, stem, label=label),
        COPY,
        folder,
        Place(run, label, {stem: label}),
        (stem,),
        {stem: 1},
        key="k",
        read={},
        attempt=1,
        started=1.0,
        ended=2.0,
        exit_code=0,
    )
    return replace(usual, **more)


def test_an_input_that_has_changed_since_it_was_looked_over_is_noticed_also_by_a_later_life(
    exposure: Path, tmp_path: Path
) -> None:
    looked = look_over(question(exposure))
    given = evidence(run_folder(tmp_path), read=looked.read)
    (given.folder / "step.json").write_text(papers(looked)["step.json"])
    later = replace(given, read=read_in(step_record(given.folder)))
    os.utime(exposure, (1.0, 1.0))

    outcome = judge(given)

    assert later == given
    assert (outcome.state, outcome.culprit) == (StepState.FAILED, "img0001")
    assert f"{exposure}: the file has changed while" in outcome.why


def test_good_outputs_become_products_and_the_rest_is_swept(tmp_path: Path) -> None:
    run = run_folder(tmp_path)
    given = evidence(run)
    write_exposure(given.folder / "job/img0001.aside.fits")
    (given.folder / "job/scratch").write_text("x")

    outcome = judge(given)

    assert (outcome.state, outcome.ending, outcome.exit_code) == (StepState.DONE, Ending.DONE, 0)
    assert [(made.output, made.path, made.keep) for made in outcome.made] == [
        ("image", "products/1p.out.fits", True),
        ("aside", "work/img0001.aside.fits", False),
    ]
    for made in outcome.made:
        status = (run / made.path).stat()
        assert (status.st_size, status.st_mtime_ns, status.st_mode & 0o777) == (made.bytes, made.mtime_ns, 0o644)
        assert made.digest
    assert not (given.folder / "job").exists()
    assert outcome_from(json.loads(json.dumps(outcome_record(outcome)))) == outcome


@pytest.mark.parametrize(
    ("more", "state", "ending"),
    [
        ({"exit_code": 1}, StepState.FAILED, Ending.NEVER_AGAIN),
        ({"exit_code": 139}, StepState.FAILED, Ending.NEVER_AGAIN),
        ({"exit_code": 137, "timed_out": True}, StepState.FAILED, Ending.NEVER_AGAIN),
        ({"exit_code": None, "interrupted": "it was killed from outside"}, StepState.WAITING, Ending.TRY_AGAIN),
    ],
)
def test_a_bad_end_leaves_no_product(tmp_path: Path, more: dict[str, object], state: StepState, ending: Ending) -> None:
    run = run_folder(tmp_path)

    outcome = judge(evidence(run, **more))

    assert (outcome.state, outcome.ending) == (state, ending)
    assert outcome.why
    assert outcome.made == ()
    assert os.listdir(run / "products") == []


HOSTILE = [
    "../../evil",
    "/etc/cron.d/evil",
    "..",
    ".",
    "-rf",
    ".hidden",
    "a/b",
    "a\0b",
    "a\nb",
    "é" * 300,
    "",
    "x" * 400,
]


@pytest.mark.parametrize("name", [*HOSTILE, "{step}", "{file}", "{exposure}", "$(reboot)", "a;b", "con cat.fits"])
def test_no_name_of_an_exposure_leads_out_of_the_products(tmp_path: Path, name: str) -> None:
    run = run_folder(tmp_path)
    label = clean(name)

    outcome = judge(evidence(run, label))

    (made,) = outcome.made
    assert (run / made.path).parent == run / "products"
    assert os.listdir(run / "products") == [made.path.removeprefix("products/")]
    assert sorted(os.listdir(tmp_path)) == ["run-1"]


def test_products_of_one_name_do_not_take_each_others_place(tmp_path: Path) -> None:
    run = run_folder(tmp_path)
    given = [evidence(run, "same", number) for number in range(1, 21)]

    with ThreadPoolExecutor(8) as threads:
        outcomes = list(threads.map(judge, given))

    paths = [made.path for outcome in outcomes for made in outcome.made]
    assert len(set(paths)) == len(os.listdir(run / "products")) == 20
    assert "products/same.out.fits" in paths
    assert "products/same-2.out.fits" in paths
    digests = {made.digest for outcome in outcomes for made in outcome.made}
    assert len(digests) == 20


def test_a_file_that_a_tool_named_itself_stays_in_its_folder(tmp_path: Path) -> None:
    run = run_folder(tmp_path)
    given = evidence(run)
    for name in ("a.txt", "-rf.txt", "..txt", "b c.txt"):
        (given.folder / "job" / name).write_text("words\n")
    (given.folder / "job/link.txt").symlink_to("/etc/passwd")

    outcome = judge(given)

    kept = [made.path for made in outcome.made if made.output == "extra"]
    assert "products/1p.a.txt" in kept
    assert all((run / path).parent == run / "products" and not (run / path).is_symlink() for path in kept)
    assert not any((run / path).read_text().startswith("root:") for path in kept)


def test_products_that_cannot_be_kept_are_tried_again(tmp_path: Path) -> None:
    run = run_folder(tmp_path)
    (run / "products").rmdir()
    (run / "products").write_text("somebody's own")

    outcome = judge(evidence(run))

    assert outcome.ending is Ending.TRY_AGAIN
    assert outcome.why == "the products cannot be kept: File exists"


def test_of_a_very_long_log_the_end_is_looked_at(tmp_path: Path) -> None:
    given = evidence(run_folder(tmp_path), exit_code=1)
    (given.folder / "log").write_text("noise\n" * 200_000 + "Error: the last words\n")

    assert "the last words" in " ".join(judge(given).last_words)


# ---------------------------------------------------------------------- reuse


def earlier(tmp_path: Path, **more: object) -> Earlier:
    run = run_folder(tmp_path)
    given = evidence(run, **more)
    write_exposure(given.folder / "job/img0001.aside.fits")
    return Earlier(judge(given), run)


def test_a_finished_step_is_reused_by_links_under_the_new_names(exposure: Path, tmp_path: Path) -> None:
    old = earlier(tmp_path)
    run = run_folder(tmp_path, "run-2")
    asked = question(exposure, "img0007", 3, read_later=frozenset({"aside"}))

    outcome = reuse(old, asked, "k", Place(run, "other", {"img0007": "other"}), 9.0)

    assert outcome is not None
    assert (outcome.state, outcome.ending, outcome.attempt) == (StepState.REUSED, Ending.DONE, 0)
    assert outcome.reused_from == str(old.folder)
    assert outcome.stems == ("img0007",)
    assert [(made.stem, made.path) for made in outcome.made] == [
        ("img0007", "products/other.out.fits"),
        ("img0007", "work/img0001.aside.fits"),
    ]
    for made, before in zip(outcome.made, old.outcome.made, strict=True):
        assert (run / made.path).samefile(old.folder / before.path)
        assert made.digest == before.digest


def test_what_is_not_kept_is_not_needed_when_nobody_reads_it(exposure: Path, tmp_path: Path) -> None:
    old = earlier(tmp_path)
    (old.folder / "work/img0001.aside.fits").unlink()
    place = Place(run_folder(tmp_path, "run-2"), "1p", {"img0001": "1p"})

    assert reuse(old, question(exposure, read_later=frozenset({"aside"})), "k", place, 9.0) is None
    outcome = reuse(old, question(exposure), "k", place, 9.0)

    assert outcome is not None
    assert [made.output for made in outcome.made] == ["image"]


@pytest.mark.parametrize("damage", ["gone", "longer", "touched", "a link"])
def test_a_product_that_is_not_as_it_was_is_not_reused(exposure: Path, tmp_path: Path, damage: str) -> None:
    old = earlier(tmp_path)
    product = old.folder / "products/1p.out.fits"
    if damage == "longer":
        product.write_bytes(product.read_bytes() + b"\0" * 2880)
    elif damage == "touched":
        os.utime(product, ns=(1, 1))
    else:
        product.unlink()
    if damage == "a link":
        product.symlink_to(exposure)
    run = run_folder(tmp_path, "run-2")

    assert reuse(old, question(exposure), "k", Place(run, "1p", {"img0001": "1p"}), 9.0) is None
    assert os.listdir(run / "products") == os.listdir(run / "work") == []


def test_when_one_product_is_gone_none_is_linked(exposure: Path, tmp_path: Path) -> None:
    old = earlier(tmp_path)
    lost = Made("image", "", "products/gone.fits", 1, 1, "d")
    old = replace(old, outcome=replace(old.outcome, made=(*old.outcome.made, lost)))
    run = run_folder(tmp_path, "run-2")

    assert reuse(old, question(exposure), "k", Place(run, "1p", {"img0001": "1p"}), 9.0) is None
    assert os.listdir(run / "products") == []


def test_a_reused_product_does_not_take_the_place_of_another(exposure: Path, tmp_path: Path) -> None:
    old = earlier(tmp_path)
    run = run_folder(tmp_path, "run-2")
    (run / "products/1p.out.fits").write_text("mine")

    outcome = reuse(old, question(exposure), "k", Place(run, "1p", {"img0001": "1p"}), 9.0)

    assert outcome is not None
    assert [made.path for made in outcome.made] == ["products/1p-2.out.fits"]
    assert (run / "products/1p.out.fits").read_text() == "mine"


def test_a_product_on_another_disk_is_copied(exposure: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = earlier(tmp_path)
    run = run_folder(tmp_path, "run-2")

    def refuse(*arguments: object, **more: object) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", refuse)
    outcome = reuse(old, question(exposure), "k", Place(run, "1p", {"img0001": "1p"}), 9.0)

    assert outcome is not None
    (made,) = outcome.made
    assert (run / made.path).read_bytes() == (old.folder / "products/1p.out.fits").read_bytes()
    assert (run / made.path).stat().st_mtime_ns == made.mtime_ns


def test_an_outcome_outlives_the_daemon_in_words() -> None:
    outcome = Outcome(
        StepState.FAILED,
        Ending.NEVER_AGAIN,
        "why",
        "img0001",
        ("last", "words"),
        {"rms": 0.1, "n": 3},
        (),
        ("img0001",),
    )

    assert outcome_from(json.loads(json.dumps(outcome_record(outcome)))) == outcome

"""Job files and orders: taken as meant, or refused with every mistake's line and mend.

How a drop is taken from the spool is told in test_spool.py and test_intake.py.
"""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spicad.jobfile import MOST_BYTES, ORDERS, Job, Order, is_whole, parse, unknown_applications, without_end
from spicad.words import BadInput

STEADY = settings(derandomize=True, deadline=None)

HEAD = 'name = "m101-r"\nexposures = ["/data/03AF12/r/*.fits.fz"]\nrules = "stack"\n'


def job(more: str = "", head: str = HEAD) -> Job:
    parsed = parse(f"{head}{more}\n[end]\n", "m101-r.spica")
    assert isinstance(parsed, Job)
    return parsed


def refusal(text: str) -> list[str]:
    with pytest.raises(BadInput) as refused:
        parse(text, "m101-r.spica")
    return [str(problem).removeprefix("m101-r.spica, ") for problem in refused.value.problems]


def test_a_job_file_is_read_as_it_was_meant() -> None:
    read = job(
        'calibration = ["/data/03AF12/r/cal/*.fits"]\nmail = "observer@example.org"\n'
        'weight = "{folder}/{stem}_w.fits"\nreference = "/data/ref.cat"\n'
        '[configuration]\nswarp = "deep"\n[set.swarp]\nCOMBINE_TYPE = "MEDIAN"\n[texts]\n"deep.conf" = "X Y"\n'
    )

    assert (read.name, read.rules, read.mail) == ("m101-r", "stack", "observer@example.org")
    assert read.exposures == ("/data/03AF12/r/*.fits.fz",)
    assert read.calibration == ("/data/03AF12/r/cal/*.fits",)
    assert (read.weight, read.reference) == ("{folder}/{stem}_w.fits", "/data/ref.cat")
    assert read.configuration == {"swarp": "deep"}
    assert read.set == {"swarp": {"COMBINE_TYPE": "MEDIAN"}}
    assert read.texts == {"deep.conf": "X Y"}
    assert read.not_before == 0


@pytest.mark.parametrize("end", ["[end]", "[end]\n", "[end]\r\n", "[end]\n\n \t\n", "  [end]  "])
def test_a_file_that_ends_in_end_is_whole(end: str) -> None:
    text = HEAD + end

    assert is_whole(text)
    assert without_end(text) == HEAD
    assert isinstance(parse(text, "m101-r.spica"), Job)


@pytest.mark.parametrize("cut", [0, 1, 2, 10, 40, len(HEAD), len(HEAD) + 1, len(HEAD) + 4])
def test_half_a_copy_is_never_taken(cut: int) -> None:
    assert refusal((HEAD + "[end]")[:cut]) == [
        "m101-r.spica: the last line is not [end]. Add a last line [end]: half a copy is never taken."
    ]


@pytest.mark.parametrize("end", ["[end] # done", "# [end]", "[[end]]", "[end]\nmail = 'a@b.org'", '["end"]', "[END]"])
def test_another_last_line_than_end_is_none(end: str) -> None:
    assert not is_whole(HEAD + end)
    assert "the last line is not [end]" in refusal(HEAD + end)[0]


def test_an_end_inside_an_open_text_is_no_end() -> None:
    assert "this is not TOML" in refusal(HEAD + 'mail = """\n[end]')[0]


def test_two_ends_are_one_too_many() -> None:
    assert refusal(HEAD + "[end]\n[end]")[0].startswith('line 5: "end" stands here for the second time.')


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ('exposure = ["/a.fits"]', 'line 4: unknown key "exposure". Did you mean "exposures"?'),
        ("not_befor = 2026-11-22", 'line 4: unknown key "not_befor". Did you mean "not_before"?'),
        ("priority = 9", 'line 4: unknown key "priority". Known here: name,'),
        ("not_before = 21:30:00", 'line 4: "not_before" is 21:30:00 but must be a date, with or without a time.'),
        ('not_before = "tonight"', 'line 4: "not_before" is "tonight" but must be a date, with or without a time.'),
        ("not_before = 1969-12-31", 'line 4: "not_before" is 1969-12-31, which is not between 1970 and 2200.'),
        ("not_before = 9999-12-31T23:59:59-23:59", 'line 4: "not_before" is 9999-12-31 23:59:59-23:59, which is not'),
        ('mail = "a b@c"', 'line 4: "mail": '),
        ('mail = "a@b.org\\nBcc: c@d.org"', 'line 4: "mail": '),
        ("configuration = 1", 'line 4: "configuration" is 1 but must be a table of texts.'),
        ("[set]\nswarp = 1", 'line 5: "set" has 1 for "swarp", which must be a table.'),
        ("[set.swarp]\nA = 2026-11-22", 'line 5: "A" must be a text, a number, true, false, or a list of these.'),
        ("[set.swarp]\nA = { b = 1 }", 'line 5: "A" must be a text, a number, true, false, or a list of these.'),
        ("[set.swarp]\nA = [[1]]", 'line 5: "A" must be a text, a number, true, false, or a list of these.'),
        ("[set.swarp]\nA = 0x" + "F" * 5000, 'line 5: "A" must be a text, a number, true, false, or a list of these.'),
        ("[set.swarp]\nBACK_SIZE = 1\nback_size = 2", "line 6: back_size is set twice. Keep one of them."),
        ('[[task]]\napplication = "swarp"\ngather = ["all"]', 'line 4: "rules" and [[task]] are both given. Keep one'),
        ("[texts]\na = 1", 'line 5: "texts" has 1 for "a", which must be a text.'),
    ],
)
def test_a_mistake_is_named_with_its_line_and_its_mend(more: str, said: str) -> None:
    (found,) = refusal(f"{HEAD}{more}\n[end]")

    assert found.startswith(said)
    assert len(found) < 400


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", "../up", "a/b", "a b", "-rf", ".hidden", "é", "a\\nb", "a\\u0000", "x" * 101, "$HOME", "a;b"],
)
def test_a_name_that_could_be_more_than_a_name_is_refused(name: str) -> None:
    (found,) = refusal(f'name = "{name}"\nexposures = ["/a.fits"]\nrules = "stack"\n[end]')

    assert found.startswith('line 1: the name "')
    assert "Use letters, digits and . _ + -" in found


def test_all_mistakes_come_at_once() -> None:
    found = refusal('name = "a b"\nexposures = []\nmail = "x"\n[[task]]\napplication = "swarp"\ngather = ["x"]\n[end]')

    assert [text.partition(":")[0] for text in found] == ["line 1", "line 2", "line 3", "line 6"]


def test_what_must_be_there_is_asked_for() -> None:
    assert refusal("[end]") == [
        'm101-r.spica: "name" is missing. A name for the process: letters, digits and . _ + -, at most 100.',
        'm101-r.spica: "exposures" is missing. Name at least one, or write a [select] table.',
    ]
    assert refusal('name = "a"\nexposures = ["/a.fits"]\n[end]') == [
        'm101-r.spica: neither "rules" nor a [[task]] is given. For example: rules = "stack"'
    ]


@pytest.mark.parametrize(
    ("moment", "seconds"),
    [
        ("2026-11-22", 1795305600.0),
        ("2026-11-22 21:30:00", 1795383000.0),
        ("2026-11-22T21:30:00Z", 1795383000.0),
        ("2026-11-22T21:30:00+02:00", 1795375800.0),
        ("2026-11-22T21:30:00.5-10:00", 1795419000.5),
        ("1970-01-01", 0.0),
    ],
)
def test_a_date_is_utc_unless_it_says_otherwise(moment: str, seconds: float) -> None:
    assert job(f"not_before = {moment}").not_before == seconds


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ('"MEDIAN"', "MEDIAN"),
        ('""', ""),
        ("1", "1"),
        ("-2", "-2"),
        ("0x10", "16"),
        ("0.186", "0.186"),
        ("1e-7", "1e-07"),
        ("true", "Y"),
        ("false", "N"),
        ("[1, 2.5, 'a', true]", "1,2.5,a,Y"),
        ("[]", ""),
    ],
)
def test_a_keyword_is_written_as_the_tools_write_it(value: str, written: str) -> None:
    assert job(f"[set.swarp]\nBACK_SIZE = {value}").set == {"swarp": {"BACK_SIZE": written}}


def test_tasks_may_stand_in_the_job_file() -> None:
    head = 'name = "a"\nexposures = ["/a.fits"]\n'
    read = job('[[task]]\napplication = "swarp"\ngather = ["all"]\nset = { BACK_SIZE = 64 }\n', head)

    assert read.own_rules is not None
    (task,) = read.own_rules.tasks
    assert (task.application, task.gather, task.set) == ("swarp", ("all",), {"BACK_SIZE": "64"})


def test_tables_for_unknown_applications_are_named_with_the_nearest_one() -> None:
    read = job('[configuration]\nswap = "deep"\nx = "y"\n[set.scamp]\nA = 1\n[set.SWARP]\nA = 1\n')

    assert [str(problem) for problem in unknown_applications(read, {"swarp": 1, "scamp": 1})] == [
        'm101-r.spica, line 5: unknown application "swap". Did you mean "swarp"?',
        'm101-r.spica, line 6: unknown application "x". Known: scamp, swarp.',
        'm101-r.spica, line 9: unknown application "SWARP". Did you mean "swarp"?',
    ]


@pytest.mark.parametrize("order", ORDERS)
def test_an_order_names_what_and_which_process(order: str) -> None:
    assert parse(f'order = "{order}"\nprocess = 12\nwhy = "clouds"\n[end]', "x.spica") == Order(
        "x.spica", order, 12, why="clouds"
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            'order = "stop"\nprocess = 1',
            'line 1: "order" is "stop" but must be one of hold, release, cancel, rerun,',
        ),
        ('order = "hold"', 'line 1: the key "process" is missing.'),
        ('order = "put-tag"', 'line 1: the key "tag" is missing.'),
        ('order = "hold"\nprocess = 0', 'line 2: "process" is 0 but must be at least 1.'),
        ('order = "hold"\nprocess = true', 'line 2: "process" is true but must be a whole number.'),
        ('order = "hold"\nprocess = 0x' + "F" * 9000, 'line 2: "process" is a huge number but must be at most'),
        ('order = "hold"\nprocess = 1\nrank = 3', 'line 3: unknown key "rank".'),
    ],
)
def test_a_wrong_order_is_refused(text: str, said: str) -> None:
    (found,) = refusal(text + "\n[end]")

    assert found.startswith(said)


HOSTILE = {
    "nested lists": "a = " + "[" * 30_000 + "\n[end]",
    "nested tables": "a = " + "{ a = " * 9_000 + "\n[end]",
    "a long key": "a." * 30_000 + "a = 1\n[end]",
    "a huge number": "process = " + "9" * 60_000 + "\n[end]",
    "many keys": "".join(f"k{i} = 1\n" for i in range(6_000)) + "[end]",
    "many tables": "".join(f"[set.a{i}]\nB = [[]]\n" for i in range(3_000)) + "[end]",
    "many tasks": HEAD.replace("rules", "mail") + "[[task]]\n" * 6_000 + "[end]",
    "bad exposures": 'name = "a"\nrules = "b"\nexposures = [' + "1," * 30_000 + "]\n[end]",
    "a control character": "name = 'a\0b'\n[end]",
    "a bare control character": "\0" * 60_000 + "\n[end]",
    "a duplicate key": HEAD + "rules = 'x'\n[end]",
    "a surrogate": "name = '\ud800'\n[end]",
    "an order that is none": "order = [1]\n[end]",
    "a name that is none": HEAD.replace('"m101-r"', "1") + "[end]",
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE.keys())
def test_a_hostile_file_is_refused_in_words(text: str) -> None:
    assert len(text) < MOST_BYTES
    found = refusal(text)

    assert found
    assert all(len(each) < 500 for each in found[:50])


def test_the_largest_file_is_taken() -> None:
    paths = ", ".join(f'"/archive/{number:06d}p.fits"' for number in range(2_000))
    text = f'name = "a"\nrules = "stack"\nexposures = [{paths}]\n[end]'

    assert len(text) < MOST_BYTES
    parsed = parse(text, "a.spica")
    assert isinstance(parsed, Job)
    assert len(parsed.exposures) == 2_000


WORDS = [
    "name",
    "exposures",
    "rules",
    "task",
    "set",
    "texts",
    "mail",
    "not_before",
    "end",
    "order",
    "process",
    '"',
    "'",
]
SIGNS = [" = ", "[", "]", "[[", "]]", "{", "}", "\n", ",", ".", "1", "true", '"""', "\\", "2026-11-22", "nan", "\x1b"]


@pytest.mark.slow
@STEADY
@given(st.text(max_size=80) | st.lists(st.sampled_from(WORDS + SIGNS), max_size=25).map("".join))
def test_any_text_is_taken_or_refused_naming_the_file(text: str) -> None:
    problems = ()
    try:
        parse(f"{text}\n[end]", "m101-r.spica")
    except BadInput as refused:
        problems = refused.problems

    assert all(problem.source == "m101-r.spica" for problem in problems)


def test_a_mutated_job_file_is_taken_or_refused() -> None:
    """500 mutations, the same ones every time."""
    text = HEAD + 'mail = "a@b.org"\n[set.swarp]\nA = 1\n[texts]\n"a.conf" = """\nX Y\n"""\n[end]\n'
    chance = random.Random(20041122)
    outcomes = {"taken": 0, "refused": 0}
    for _ in range(500):
        start, length = chance.randrange(len(text)), chance.randrange(12)
        mutated = text[:start] + chance.choice(['"', "[", "=", "\0", "\n", "", "é", "x"]) + text[start + length :]
        try:
            parse(mutated, "m101-r.spica")
            outcomes["taken"] += 1
        except BadInput:
            outcomes["refused"] += 1

    assert min(outcomes.values()) > 20

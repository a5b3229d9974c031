"""Rules files: conditions are no programs, and every mistake is named with its line.

What comes of rules for given exposures is told in test_plan.py.
"""

from __future__ import annotations

import random
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from spicad.rules import CONDITION_FIELDS, condition, load_rules, parse_rules
from spicad.words import BadInput

STEADY = settings(derandomize=True, deadline=None)

ROOT = Path(__file__).parent.parent
HEAD = 'title = "Try"\n\n[[task]]\napplication = "swarp"\n'


def exposure(**values: object) -> SimpleNamespace:
    usual = {
        "instrument": "MegaPrime",
        "filter": "r",
        "object": "M101",
        "runid": "03AF12",
        "t_exptime": 120.0,
        "airmass": 1.1,
        "mjd": 53085.2,
        "s_ra": 210.8,
        "s_dec": 54.3,
        "seeing": 0.7,
        "grade": "B",
        "size": 1 << 20,
    }
    return SimpleNamespace(**{**usual, **values})


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("seeing < 0.9", True),
        ("seeing < 0.5", False),
        ("0.5 < seeing <= 0.7", True),
        ("seeing < 0.9 and filter == 'r'", True),
        ('filter == "g" or object == "M101"', True),
        ("not filter == 'g'", True),
        ("not (seeing < 0.9 and grade <= 'B')", False),
        ("grade <= 'B'", True),
        ("grade <= 'A'", False),
        ("s_dec > -30", True),
        ("  seeing < 0.9  ", True),
        ("t_exptime >= 60 and airmass < 1.7 and size > 1000", True),
    ],
)
def test_a_condition_says_which_exposures_are_meant(text: str, holds: bool) -> None:
    assert condition(text)(exposure()) is holds


@pytest.mark.parametrize("text", ["seeing < 9", "seeing > 0", "seeing != 3", "object == 'M101'", "object != 'M31'"])
def test_an_unknown_value_fulfils_no_comparison(text: str) -> None:
    assert condition(text)(exposure(seeing=None, object="")) is False


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is not a condition. For example"),
        ("seeing <", "is not a condition. For example"),
        ("seeing = 0.9", "is not a condition. For example"),
        ("seeing", '"seeing" is not a comparison of a column.'),
        ("seing < 0.9", 'unknown column "seing". Did you mean "seeing"?'),
        ("x < 0.9", 'unknown column "x". Known: instrument, filter'),
        ("seeing in (1, 2)", "neither a column nor a value"),
        ("filter in 'gri'", "only <, <=, >, >=, == and != compare."),
        ("seeing < 'a'", "seeing is a number and 'a' is a text."),
        ("filter == 5", "filter is a text and 5 is a number."),
        ("seeing < 0.9 < 'a'", "0.9 is a number and 'a' is a text."),
        ("seeing < -'a'", "neither a column nor a value"),
        ("seeing < True", "neither a column nor a value"),
        ("seeing < 1j", "neither a column nor a value"),
        ("seeing < 1 + 1", "neither a column nor a value"),
        ("__import__('os').system('true') == 0", "neither a column nor a value"),
        ("(lambda: 1)() < 2", "neither a column nor a value"),
        ("seeing.__class__ == 'x'", "neither a column nor a value"),
        ("[seeing for seeing in (1,)] == 1", "neither a column nor a value"),
        ("f'{seeing}' == 'a'", "neither a column nor a value"),
        ("(seeing := 1) < 2", "neither a column nor a value"),
        ("not " * 240 + "1", "is not a comparison"),
        ("-" * 990 + "1 < seeing", "is not a condition"),
        ("(" * 900, "is not a condition"),
        ("seeing < 1 and " * 100 + "seeing < 1", "longer than 1000 characters"),
        ("seeing < 1\0", "is not a condition"),
        ("seeing < 1\ud800", "is not a condition"),
        ("seeing < " + "9" * 900 + "e", "is not a condition"),
    ],
)
def test_what_is_no_condition_is_refused_with_the_reason(text: str, said: str) -> None:
    with pytest.raises(ValueError) as refused:  # noqa: PT011 - said is looked for below
        condition(text)

    assert said in str(refused.value)
    assert len(str(refused.value)) < 400


CODE = ("__import__('os')", ".real", "[0]", "()", "lambda: ", ":=", "\n", "#", "{", "}", "f'", "\\", "1e999", "nan")
SIGNS = ("<", "<=", "==", "!=", " and ", " or ", "not ", "(", ")", "0.9", "-1", "'r'", "x", "is ", " in ")
PIECES = st.sampled_from([*CONDITION_FIELDS, *SIGNS, *CODE])


@STEADY
@given(st.text(max_size=60) | st.lists(PIECES, max_size=12).map("".join))
@example("-'a' < 1")
@example("not not not seeing < 1")
def test_any_text_is_a_condition_or_a_value_error(text: str) -> None:
    with suppress(ValueError):
        holds = condition(text)
        assert holds(exposure()) in (True, False)
        assert holds(exposure(**dict.fromkeys(CONDITION_FIELDS))) in (True, False)


def test_a_condition_never_runs_code(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    attacks = [
        f"open({str(mark)!r}, 'w') == 1",
        f"__import__('pathlib').Path({str(mark)!r}).touch() or seeing < 1",
        f"seeing < [open({str(mark)!r}, 'w') for _ in (1,)][0]",
        f"(lambda p: open(p, 'w'))({str(mark)!r}) == seeing",
    ]
    for attack in attacks:
        with pytest.raises(ValueError, match=r"neither a column nor a value|not a comparison"):
            condition(attack)

    assert not mark.exists()


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('each = "ccd"', '"each" is "ccd" but must be one of exposure.'),
        ("gather = 'all'", '"gather" is "all" but must be a list of texts.'),
        ('gather = ["objct"]', 'cannot gather by "objct". Did you mean "object"?'),
        ('gather = ["all", "filter"]', 'cannot gather by "all" and something else.'),
        ('gather = ["all"]\nselect = "seing < 1"', 'select: unknown column "seing". Did you mean "seeing"?'),
        ('gather = ["all"]\nwiden = 1', '"widen" is 1 but must be a table.'),
        (
            'gather = ["all"]\nwiden = { within = 1 }',
            'unknown key "within" in [task.widen]. Did you mean "within_deg"?',
        ),
        ('gather = ["all"]\nwiden = { within_deg = nan }', '"within_deg" is nan but must be a number.'),
        ('gather = ["all"]\nwiden = { within_deg = 181 }', '"within_deg" is 181 but must be at most 180.'),
        ('gather = ["all"]\nwiden = { same = ["seeing"] }', '"same" cannot hold "seeing".'),
        ('gather = ["all"]\nwiden = { grade = "E" }', '"grade" is "E" but must be one of A, B, C, D.'),
        (
            'gather = ["all"]\nset = { A = 2026-01-01 }',
            '"A" must be a text, a number, true, false, or a list of these.',
        ),
        ('gather = ["all"]\nset = { A = 1, a = 2 }', "a is set twice."),
        (
            'gather = ["all"]\nmemory_mb = 1_000_000_000_000',
            '"memory_mb" is 1000000000000 but must be at most 16777216.',
        ),
        ('gather = ["all"]\ntime_s = inf', '"time_s" is inf but must be a number.'),
        ('gather = ["all"]\ntime_s = 1e300', '"time_s" is 1e+300 but must be at most 8640000.'),
        ('gather = ["all"]\nthreads = -1', '"threads" is -1 but must be at least 0.'),
        ('gather = ["all"]\non_bad_exposure = "go"', '"on_bad_exposure" is "go" but must be one of drop, stop.'),
        ('gather = ["all"]\nleast = 0', '"least" is 0 but must be at least 1.'),
        ('each = "exposure"\nleast = 2', '"least" is 2, but each step of this task has one exposure.'),
    ],
)
def test_a_mistake_in_a_task_is_named_with_its_line(line: str, said: str) -> None:
    with pytest.raises(BadInput) as refused:
        parse_rules(HEAD + line + "\n", "try.toml")

    (problem,) = refused.value.problems
    assert problem.line == 5 + line.count("\n")
    assert said in str(problem)


@pytest.mark.parametrize("line", ["", 'each = "exposure"\ngather = ["all"]'])
def test_a_task_is_run_for_each_exposure_or_for_gathered_ones(line: str) -> None:
    with pytest.raises(BadInput) as refused:
        parse_rules(HEAD + line + "\n", "try.toml")

    assert str(refused.value).startswith(
        'try.toml, line 3: the task "swarp" needs one of each = "exposure" and gather = [...].'
    )


@pytest.mark.parametrize("text", ['title = "Try"\n', 'title = "Try"\ntask = []\n', 'title = "Try"\n[task]\na = 1\n'])
def test_rules_without_a_task_are_refused(text: str) -> None:
    with pytest.raises(BadInput) as refused:
        parse_rules(text, "try.toml")

    assert "task" in str(refused.value)


def test_mistakes_of_all_tasks_come_at_once() -> None:
    text = 'title = "Try"\n' + '[[task]]\napplication = "swarp"\ngather = ["x"]\nselect = "y"\n' * 2

    with pytest.raises(BadInput) as refused:
        parse_rules(text, "try.toml")

    assert [problem.line for problem in refused.value.problems] == [4, 5, 8, 9]


def test_keywords_of_a_task_are_written_as_the_tools_write_them() -> None:
    rules = parse_rules(
        HEAD + 'gather = ["all"]\nset = { write_xml = true, BACK_SIZE = [64, 32], PIXEL_SCALE = 0.186 }\n', "try.toml"
    )

    assert rules.tasks[0].set == {"WRITE_XML": "Y", "BACK_SIZE": "64,32", "PIXEL_SCALE": "0.186"}


def test_an_empty_widen_table_widens_with_the_usual_values() -> None:
    rules = parse_rules(HEAD + 'gather = ["all"]\nwiden = {}\n', "try.toml")

    widen = rules.tasks[0].widen
    assert widen is not None
    assert (widen.within_deg, widen.same, widen.grade) == (1.0, ("instrument", "filter"), "")


@pytest.mark.parametrize("path", sorted((ROOT / "etc/rules").glob("*.toml")), ids=lambda path: path.stem)
def test_rules_that_are_shipped_can_be_read(path: Path) -> None:
    rules = load_rules(path)

    assert rules.title
    assert rules.summary
    assert rules.text == path.read_text()


def test_rules_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    (tmp_path / "odd.toml").write_bytes(b"title = '\xff'")

    for name in ("none.toml", "odd.toml"):
        with pytest.raises(BadInput, match=f"{name}: the rules cannot be read"):
            load_rules(tmp_path / name)


def test_a_mutated_rules_file_is_read_or_refused() -> None:
    """300 mutations of a shipped file, the same ones every time."""
    text = (ROOT / "etc/rules/deep-stack.toml").read_text()
    chance = random.Random(20041122)
    refused, sources = 0, set()
    for _ in range(300):
        start, length = chance.randrange(len(text)), chance.randrange(12)
        mutated = text[:start] + chance.choice(['"', "[", "=", "1", "\n", "", "{", "x"]) + text[start + length :]
        try:
            parse_rules(mutated, "deep-stack.toml")
        except BadInput as error:
            refused += 1
            sources.add(error.problems[0].source)

    assert refused > 100
    assert sources == {"deep-stack.toml"}

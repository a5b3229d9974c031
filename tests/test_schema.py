"""TOML that people write: each mistake is named with its line and its mend, all of them at once.

Which keys there are is told by the tests of the modules that list them.
"""

from __future__ import annotations

import tomllib
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spicad.schema import KINDS, REQUIRED, Key, checked, read_toml
from spicad.words import BadInput, Problem, nearest

STEADY = settings(derandomize=True, deadline=None)

KEYS = (
    Key("name", "text", REQUIRED, "What it is called"),
    Key("slots", "integer", 2, "How many", minimum=0, maximum=8),
    Key("share", "number", 0.5, "How much", minimum=0),
    Key("watch", "text", "auto", "How it is watched", choices=("auto", "events")),
    Key("is_quick", "yes or no", False, "Whether"),
    Key("files", "list of texts", [], "Which"),
    Key("command", "text or list of texts", [], "Command"),
    Key("when", "date and time", None, "When"),
    Key("words", "table of texts", {}, "Words"),
    Key("sets", "table of tables", {}, "Sets"),
    Key("task", "list of tables", [], "Tasks"),
)


def problems_of(text: str, keys: tuple[Key, ...] = KEYS) -> list[str]:
    with pytest.raises(BadInput) as refused:
        checked(read_toml(text, "job.spica"), keys)
    return [str(problem) for problem in refused.value.problems]


def test_a_text_without_mistakes_gives_its_values_and_the_defaults() -> None:
    values = checked(read_toml('name = "m101"\nslots = 3\n', "job.spica"), KEYS)

    assert values["name"] == "m101"
    assert values["slots"] == 3
    assert values["share"] == 0.5
    assert values["files"] == []


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("slots = 'a'", '"slots" is "a" but must be a whole number. How many.'),
        ("slots = 1.5", '"slots" is 1.5 but must be a whole number. How many.'),
        ("slots = true", '"slots" is true but must be a whole number. How many.'),
        ("slots = -1", '"slots" is -1 but must be at least 0. How many.'),
        ("slots = 9", '"slots" is 9 but must be at most 8. How many.'),
        ("share = nan", '"share" is nan but must be a number. How much.'),
        ("share = inf", '"share" is inf but must be a number. How much.'),
        ("share = false", '"share" is false but must be a number. How much.'),
        ("watch = 'looks'", '"watch" is "looks" but must be one of auto, events. How it is watched.'),
        ("is_quick = 1", '"is_quick" is 1 but must be true or false. Whether.'),
        ("files = 'a.fits'", '"files" is "a.fits" but must be a list of texts. Which.'),
        ("files = ['a.fits', 1]", "\"files\" is ['a.fits', 1] but must be a list of texts. Which."),
        ("command = 4", '"command" is 4 but must be a text or list of texts. Command.'),
        ("when = 12:00:00", '"when" is 12:00:00 but must be a date, with or without a time. When.'),
        ("when = 'soon'", '"when" is "soon" but must be a date, with or without a time. When.'),
        ("words = {a = 1}", '"words" has 1 for "a", which must be a text. Words.'),
        ("sets = {a = 1}", '"sets" has 1 for "a", which must be a table. Sets.'),
        ("task = 1", '"task" is 1 but must be a list of tables. Tasks.'),
        ("nmae = 'x'", 'unknown key "nmae". Did you mean "name"?'),
        ("zzz = 1", 'unknown key "zzz". Known here: ' + ", ".join(key.name for key in KEYS) + "."),
    ],
)
def test_each_kind_of_mistake_is_named_with_its_line(line: str, said: str) -> None:
    assert problems_of(f'# a comment\nname = "m101"\n\n{line}\n') == [f"job.spica, line 4: {said}"]


def test_a_missing_key_is_named_with_what_it_is_for() -> None:
    assert problems_of("slots = 1\n") == ['job.spica: "name" is missing. What it is called.']


def test_all_mistakes_come_at_once() -> None:
    found = problems_of("slots = 9\nshare = -1\nfoo = 1\n")

    assert len(found) == 4
    assert [text.partition(":")[0] for text in found] == [
        "job.spica, line 3",
        "job.spica",
        "job.spica, line 1",
        "job.spica, line 2",
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("name = m101\n", "job.spica, line 1: this is not TOML: Invalid value."),
        ("name = 'a'\nname = 'b'\n", 'job.spica, line 2: "name" stands here for the second time. Keep one of them.'),
        ("name = 'a'\n\n[a]\n[a]\n", 'job.spica, line 4: "a" stands here for the second time.'),
        ("\ufeffname = 'a'\n", "job.spica, line 1: the file begins with a byte order mark, which is no TOML. Save it"),
        ("name = 'a\n", "job.spica, line 1: this is not TOML"),
        ("name = 'a\0b'\n", "job.spica, line 1: this is not TOML"),
        ("when = 2026-13-45\n", "job.spica, line 1: this is not TOML"),
        ("a = " + "[" * 50_000, "job.spica: this is not TOML that a person wrote: nested too deeply."),
        ("a = " + "{a=" * 9_000, "job.spica: this is not TOML that a person wrote: nested too deeply."),
        ("a = " + "9" * 60_000, "job.spica: this is not TOML that a person wrote: a number is too long."),
        (".".join("a" * 30_000) + " = 1", "job.spica: this is not TOML that a person wrote: a key has too many parts."),
        ("a = { " + " . ".join("a" * 9_000) + " = 1 }", "job.spica: this is not TOML that a person wrote: a key"),
    ],
)
def test_what_is_no_toml_is_refused_with_its_line(text: str, said: str) -> None:
    with pytest.raises(BadInput) as refused:
        checked(read_toml(text, "job.spica"), KEYS)

    assert str(refused.value).startswith(said)


@pytest.mark.parametrize("key", ["name", "slots", "share", "watch", "files"])
def test_a_huge_number_is_refused_in_few_words(key: str) -> None:
    found = problems_of(f"name = 'a'\n{key} = 0x{'F' * 50_000}\n" if key != "name" else f"name = 0x{'F' * 50_000}\n")

    assert len(found) == 1
    assert len(found[0]) < 200


def test_a_number_larger_than_a_database_holds_is_refused_where_no_limit_is_given() -> None:
    keys = (Key("memory_mb", "integer", 0, "Memory", minimum=0),)

    assert problems_of("memory_mb = 1_000_000_000_000_000_000\n", keys) == [
        'job.spica, line 1: "memory_mb" is a huge number, more than anything here can hold. Memory.'
    ]


def test_of_very_many_unknown_keys_some_are_named_and_the_others_counted() -> None:
    found = problems_of("name = 'a'\n" + "".join(f"k{number} = 1\n" for number in range(6000)))

    assert len(found) == 21
    assert found[19].startswith('job.spica, line 21: unknown key "k19".')
    assert found[20] == "job.spica: 5980 more unknown keys."


def test_dots_that_are_no_keys_are_taken() -> None:
    text = f'name = "a"\n# {"." * 500}\nfiles = ["{"a." * 90}fits"]\n'

    assert checked(read_toml(text, "job.spica"), KEYS)["files"] == ["a." * 90 + "fits"]


def test_a_long_value_is_shown_by_its_beginning() -> None:
    (said,) = problems_of(f'name = "a"\nwatch = "{"x" * 60_000}"\n')

    assert "xxx..." in said
    assert len(said) < 250


def test_a_wrong_item_of_a_table_is_named_with_its_own_line() -> None:
    text = 'name = "a"\n[words]\nfine = "x"\nwrong = 3\n'

    assert problems_of(text) == ['job.spica, line 4: "words" has 3 for "wrong", which must be a text. Words.']


def test_a_keyword_is_found_however_it_is_spelt() -> None:
    document = read_toml("[set.swarp]\nback_size = 1\n[[task]]\n[task.set]\nA = 1\n", "job.spica")

    assert document.line_of_keyword("set", "swarp", "BACK_SIZE") == 2
    assert document.line_of_keyword("task", 0, "set", "A") == 5
    assert document.line_of_keyword("set", "swarp", "OTHER") == 1


def test_control_characters_do_not_reach_the_terminal() -> None:
    (said,) = problems_of('name = "a"\n"\\u001b[2J" = 1\n')

    assert "\x1b" not in said
    assert r"\x1b[2J" in said


@pytest.mark.parametrize(
    ("path", "line"),
    [
        (("name",), 1),
        (("set", "swarp"), 4),
        (("set", "swarp", "COMBINE"), 5),
        (("task", 0, "each"), 8),
        (("task", 1), 10),
        (("task", 1, "widen", "same"), 14),
        (("task", 2, "widen", "same"), 17),
        (("texts", "my.rules.toml"), 20),
        (("end",), 25),
        (("nothing",), None),
        (("set",), 4),
        (("set", "scamp"), 4),
    ],
)
def test_the_line_of_a_key_is_found_in_tables_arrays_and_beside_texts(path: tuple[str | int, ...], line: int) -> None:
    text = (
        'name = "a"\n\n# set.swarp\n[set.swarp]\nCOMBINE = "Y"\n\n'  # 1 to 6
        '[[task]]\neach = "exposure"\n\n[[task]]\n gather = ["a=b",\n "c"]\n[task.widen]\nsame = []\n\n'  # 7 to 15
        "[[task]]\nwiden = { same = [] }\n\n"  # 16 to 18
        '[texts]\n"my.rules.toml" = """\n[set.scamp]\nnothing = 1\n[end]\n"""\n[end]\n'  # 19 to 25
    )

    assert tomllib.loads(text)["task"][1]["widen"] == {"same": []}
    assert read_toml(text, "job.spica").line_of(*path) == line


def test_the_nearest_spelling_ignores_case_and_stays_silent_when_nothing_is_near() -> None:
    assert nearest("EXPOSURE", ["exposures", "name"]) == 'Did you mean "exposures"?'
    assert nearest("zzz", ["exposures", "name"]) == ""


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.datetimes() | st.dates() | st.times(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@STEADY
@given(st.sampled_from([key.name for key in KEYS]), VALUES, st.sampled_from(sorted(KINDS)))
def test_any_value_is_taken_or_refused_in_words(name: str, value: object, kind: str) -> None:
    document = read_toml("name = 'a'\n", "job.spica")
    document.table[name] = value
    keys = (*KEYS[:1], Key(name, kind, None, "Help", minimum=0 if kind in ("number", "integer") else None))

    problems: list[Problem] = []
    checked(document, keys, problems=problems)

    assert all(problem.what and len(str(problem)) < 500 for problem in problems)


@STEADY
@given(st.text(max_size=200))
def test_any_text_is_read_or_refused(text: str) -> None:
    with suppress(BadInput):
        document = read_toml(text, "job.spica")
        for name in document.table:
            assert document.line_of(name) in {None, *range(1, text.count("\n") + 2)}

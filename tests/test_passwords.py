"""Which passwords are taken, and how they are kept.

How often one may be tried is told in test_site_security.py.
"""

from __future__ import annotations

import pytest

from spicad import passwords
from spicad.passwords import is_right, kept, problem


@pytest.mark.parametrize(
    "password",
    [
        "umbrella tango 44 quartz",
        "correct battery of a telescope",
        "Zwölf Boxkämpfer jagen Viktor",
        "xK9#mQ2$vL5n",
        "日本語の長いパスワードです。",
        "the spica and the crow and the cup",
    ],
)
def test_a_good_password_is_taken(password: str) -> None:
    assert problem(password, "alice", "Alice", "Archer") == ""


@pytest.mark.parametrize("password", ["", "short", "elevenchars"])
def test_a_short_password_is_refused(password: str) -> None:
    assert "at least 12 characters" in problem(password)


def test_a_password_of_a_novel_is_refused() -> None:
    assert "at most 200" in problem("many words " * 40)


@pytest.mark.parametrize(
    "password",
    [
        "password1234",
        "Password2004!",
        "P4ssw0rd!!!!",
        "qwertyuiop123",
        "123456789012",
        "iloveyou12345",
        "Welcome2026!!",
        "aaaaaaaaaaaaaaa",
        "abababababab",
        "changeme1234",
        "correct horse battery staple",
        "CorrectHorseBatteryStaple1",
    ],
)
def test_a_common_password_is_refused_however_it_is_dressed(password: str) -> None:
    assert "tried first" in problem(password)


@pytest.mark.parametrize("password", ["alicearcher1", "Archer123456", "spicaspica12", "spica2026!!!"])
def test_ones_own_name_and_spicas_are_no_passwords(password: str) -> None:
    assert problem(password, "alice", "Alice", "Archer") != ""


def test_every_line_of_the_list_of_common_passwords_is_refused_when_figures_are_added() -> None:
    lines = [line for line in passwords.COMMON.read_text().splitlines() if line and not line.startswith("#")]

    words = [line for line in lines if line.isalpha()]
    assert len(words) > 60
    assert [word for word in words if not problem(f"{word}1234567890"[: max(12, len(word) + 3)])] == []
    assert [line for line in lines if len(line) >= 12 and not problem(line)] == []


@pytest.mark.slow
def test_the_right_password_is_right_and_any_other_is_not() -> None:
    stored = kept("umbrella tango 44 quartz")

    assert is_right("umbrella tango 44 quartz", stored)
    assert not is_right("umbrella tango 44 quartZ", stored)
    assert not is_right("", stored)


def test_the_same_password_is_kept_differently_each_time_and_never_in_clear() -> None:
    one, other = kept("umbrella tango 44 quartz", 4, 1), kept("umbrella tango 44 quartz", 4, 1)

    assert one != other
    assert "umbrella" not in one
    assert len(one) <= 200


def test_the_cost_is_what_owasp_asks_for() -> None:
    kind, cost, block, parallel, salt, digest = kept("umbrella tango 44 quartz").split("$")

    assert (kind, 1 << int(cost), int(block), int(parallel)) == ("scrypt", 32768, 8, 3)
    assert (len(salt), len(digest)) == (32, 64)


def test_a_password_of_an_older_cost_is_still_right() -> None:
    assert is_right("umbrella tango 44 quartz", kept("umbrella tango 44 quartz", 10, 1))


def test_letters_that_are_typed_in_two_ways_are_the_same() -> None:
    assert is_right("Zwo\u0308lf Boxka\u0308mpfer jagen", kept("Zwölf Boxkämpfer jagen", 4, 1))


@pytest.mark.parametrize("stored", ["", "scrypt", "scrypt$15$8$3$zz$00", "$$$$$", "plain text"])
def test_nothing_is_right_where_nothing_sound_is_stored(stored: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passwords, "COST", 4)

    assert not is_right("", stored)
    assert not is_right("plain text", stored)

"""What an astronomer reads in a report: one of each kind, and everything that could go wrong in the writing.

How it is delivered is test_outbox.py's affair.
"""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest

from spicad import config, report
from spicad.report import Dropped, Failure, Figure, Product, Report, Steps
from spicad.words import Phase

EVENING = datetime(2025, 11, 22, 18, 0, 0, tzinfo=UTC)

COMPLETED = Report(
    process=12,
    name="m101-r",
    owner="alice",
    run=1,
    phase=Phase.COMPLETED,
    rules="Deep stack",
    submitted=EVENING,
    started=EVENING + timedelta(seconds=3),
    ended=EVENING + timedelta(hours=1, minutes=12, seconds=8),
    nodes=("fcix2", "fcix4"),
    kept=tuple(f"715{n}p.fits" for n in range(7)),
    dropped=(Dropped("7158p.fits", "no star of the reference catalogue falls on it"),),
    steps=Steps(done=9, reused=7),
    figures=(
        Figure("Sources found", 45678),
        Figure("Astrometry, internal", 0.028123, "arcsec rms"),
        Figure("Astrometry, against the reference", 0.1234567, "arcsec rms"),
        Figure("Seeing", None, "arcsec"),
    ),
    products=(Product("stack/m101-r.fits", 1_440_000_000), Product("stack/m101-r.weight.fits", 93_250)),
    folder="/results/alice/12-m101-r/run-1",
    expiry=EVENING + timedelta(days=15),
    warnings=("Exposures 7151p and 7154p hardly overlap",),
)
ERROR = replace(
    COMPLETED,
    phase=Phase.ERROR,
    run=2,
    products=(),
    figures=(),
    expiry=None,
    warnings=(),
    steps=Steps(done=7, failed=1, skipped=1),
    failure=Failure(
        "SCAMP was ended by signal 11 (segmentation fault)",
        task="SCAMP",
        last_words="> Line:  100\n\x1b[1A\x1b[1M> Line:  200\n\x1b[31m*Error*\x1b[0m: no match found\n",
        exposure="7153p.fits",
        log="/results/alice/12-m101-r/run-2/steps/08-scamp/log",
    ),
)
HELD = replace(ERROR, phase=Phase.HELD, failure=Failure("its third attempt was interrupted, by a power cut it seems."))


def lines(text: str) -> list[str]:
    return text.split("\n")


def test_the_report_of_a_completed_process_says_the_outcome_first():
    text = report.text(COMPLETED)

    assert lines(text)[0] == "Process 12, m101-r, is completed: 7 of 8 exposures went in, 2 products."
    assert report.subject(COMPLETED) == "m101-r is completed (process 12)"


def test_figures_stand_in_columns_with_their_points_below_each_other():
    found = lines(report.text(COMPLETED))
    block = found[found.index("Key figures") + 1 :][:4]

    assert block == [
        "  Sources found                      45,678",
        "  Astrometry, internal                    0.02812  arcsec rms",
        "  Astrometry, against the reference       0.1235   arcsec rms",
        "  Seeing                             not measured  arcsec",
    ]


def test_a_long_name_of_a_figure_is_wrapped_and_its_number_stays_in_the_column():
    name = "Astrometry of all exposures of the run together against the reference catalogue"
    found = lines(report.text(replace(COMPLETED, figures=(Figure(name, 0.12, "arcsec rms"), *COMPLETED.figures))))
    block = found[found.index("Key figures") + 1 :][:6]

    assert block == [
        "  Astrometry of all exposures of the run together",
        "    against the reference catalogue                     0.12     arcsec rms",
        "  Sources found                                    45,678",
        "  Astrometry, internal                                  0.02812  arcsec rms",
        "  Astrometry, against the reference                     0.1235   arcsec rms",
        "  Seeing                                           not measured  arcsec",
    ]


def test_dropped_exposures_stand_with_their_reasons():
    text = report.text(COMPLETED)

    assert "1 exposure left out\n  7158p.fits: no star of the reference catalogue falls on it\n" in text


def test_products_stand_with_sizes_folder_and_the_day_they_go():
    text = report.text(COMPLETED)

    assert "2 products, 1.44 GB in all, in /results/alice/12-m101-r/run-1\n" in text
    assert "  1.44 GB  stack/m101-r.fits\n  93.2 kB  stack/m101-r.weight.fits\n" in text
    assert "They are kept until 7 December 2025, 18:00 UTC." in text


def test_the_facts_say_who_when_where_and_what_was_reused():
    text = report.text(COMPLETED)

    assert "Owner      alice\n" in text
    assert "Steps      9 done, 7 reused from earlier runs\n" in text
    assert "Ended      2025-11-22 19:12:08 UTC, after 1 h 12 min\n" in text
    assert "Nodes      fcix2, fcix4" in text
    assert "Please note\n  - Exposures 7151p and 7154p hardly overlap." in text


def test_an_error_names_the_task_the_exposure_the_last_words_and_the_log():
    text = report.text(ERROR)

    assert lines(text)[0] == "Process 12, m101-r, run 2, ended in error: SCAMP failed on 7153p.fits."
    assert report.subject(ERROR) == "m101-r ended in error in SCAMP (process 12, run 2)"
    assert "SCAMP was ended by signal 11 (segmentation fault).\n" in text
    assert "The last words of SCAMP:\n  | > Line: 200\n  | *Error*: no match found\n" in text
    assert "The whole log: /results/alice/12-m101-r/run-2/steps/08-scamp/log\n" in text
    assert "Steps      7 done, 1 failed, 1 skipped\n" in text
    assert "What there is so far is in /results/alice/12-m101-r/run-1" in text


def test_a_held_process_says_why_and_how_to_let_it_go_on():
    text = report.text(HELD)

    assert text.startswith(
        "Process 12, m101-r, run 2, is held: its third attempt was interrupted, by a\npower cut it seems.\n"
    )
    assert "Held since" in text
    assert "\n  spica release 12  lets it go on; finished steps are reused\n" in text


def test_an_aborted_process_says_by_whom():
    aborted = replace(COMPLETED, phase=Phase.ABORTED, failure=Failure("alice cancelled it"), started=None, ended=None)

    assert lines(report.text(aborted))[0] == "Process 12, m101-r, was aborted: alice cancelled it."


@pytest.mark.parametrize("phase", list(report.NEXT))
def test_every_kind_of_report_ends_with_commands_for_this_very_process(phase: Phase):
    text = report.text(replace(COMPLETED, phase=phase))

    found = lines(text.rpartition("What you can do next\n")[2].rstrip())
    assert len(found) >= 2
    assert all(line.startswith("  spica ") and " 12 " in line for line in found)


def test_links_come_from_the_configured_address_only():
    assert "  https://spica.example.org/process/12\n" in report.text(COMPLETED, "https://spica.example.org/")
    assert "://" not in report.text(COMPLETED)


def test_a_message_is_from_spica_to_the_owner_and_tells_machines_not_to_answer(tmp_path: Path):
    settings = config.parse(
        '[mail]\nsender = "spica@example.org"\n[web]\naddress = "https://spica.example.org"', tmp_path / "spica.conf"
    )

    message = report.message(COMPLETED, settings, "alice@example.org")

    assert str(message["From"]) == "Spica <spica@example.org>"
    assert str(message["To"]) == "alice@example.org"
    assert str(message["Subject"]) == "m101-r is completed (process 12)"
    assert str(message["Auto-Submitted"]) == "auto-generated"
    assert message.get_content_type() == "text/plain"
    assert message.get_content() == report.text(COMPLETED, "https://spica.example.org")


def test_only_the_last_fifteen_lines_of_a_tool_are_quoted():
    said = "\n".join(f"line {n}" for n in range(10_000))

    assert report.last_words(said) == [f"line {n}" for n in range(9985, 10_000)]


def test_a_line_that_was_overwritten_is_shown_as_it_was_seen_last():
    assert report.last_words("10%\r50%\r100%\r\ndone\r\n") == ["100%", "done"]


def test_titles_colours_and_cursor_codes_of_a_tool_are_taken_out():
    said = "\x1b]0;title\x07\x1b[1;31mred\x1b[0m \x1b(Bplain\x1b[2J \x9b31m bell\x07 \u202eleft\u202c\x00"

    assert report.last_words(said) == ["red plain 31m bell left"]


def test_an_overlong_line_of_a_tool_is_cut():
    (line,) = report.last_words("x" * 5000)

    assert line == "x" * 68 + " ..."


def test_half_a_character_of_a_broken_log_does_not_stop_the_report():
    broken = b"caf\xe9 ok".decode("utf-8", "surrogateescape")

    assert report.last_words(broken) == ["caf? ok"]


def test_no_tool_whatever_it_writes_gets_a_control_character_or_a_long_line_into_a_mail(tmp_path: Path):
    settings = config.parse('[mail]\nsender = "spica@example.org"', tmp_path / "spica.conf")
    dice = random.Random(12)
    alphabet = [
        *map(chr, range(0x100)),
        "\x1b[",
        "\r\n",
        "\n",
        "\u2028",
        "\u202e",
        "\ud800",
        "\U000e0041",
        "=?utf-8?q?",
    ]
    for _ in range(60):
        noise = "".join(dice.choices(alphabet, k=400))
        noisy = replace(
            ERROR,
            name=noise[:50],
            owner=noise[50:90],
            warnings=(noise,),
            dropped=(Dropped(noise, noise),),
            failure=Failure(noise, task=noise[:20], last_words=noise * 5, exposure=noise, log=noise),
        )

        text = report.text(noisy)
        message = report.message(noisy, settings, "alice@example.org")

        assert all(c.isprintable() for line in lines(text) for c in line)
        assert all(len(line) <= 76 for line in lines(text) if line.startswith("  | "))
        assert message.as_bytes().count(b"\nTo: ") == 1
        assert message.get_content().replace("\r\n", "\n") == text


@pytest.mark.parametrize("phase", list(report.NEXT))
def test_lines_fit_into_a_terminal_but_for_paths(phase: Phase):
    deep = "/home/observatory/spica/results/alice/123456-" + "long" * 10 + "/run-2"
    long = replace(
        ERROR,
        process=1234567,
        phase=phase,
        folder=deep,
        products=COMPLETED.products,
        figures=(Figure("a figure of which very much can be said in very many words so that it is long", 1, "arcsec"),),
        failure=replace(ERROR.failure, why="it is said " * 40, log=f"{deep}/log"),
        warnings=("it is noted " * 40,),
        dropped=(Dropped("7158p.fits", "it is told " * 40),),
        rules="many rules " * 20,
    )

    too_long = [line for line in lines(report.text(long, "https://spica.example.org")) if len(line) > 80]

    assert {line.strip() for line in too_long} <= {deep, f"{deep}/log"}


def test_a_long_list_is_cut_and_counted():
    many = replace(COMPLETED, dropped=tuple(Dropped(f"{n}p.fits", "too bright") for n in range(1200)))
    text = report.text(many)

    assert "1,200 exposures left out\n" in text
    assert "  39p.fits: too bright\n  and 1,160 more\n" in text


@pytest.mark.parametrize(
    ("size_bytes", "words"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1 kB"),
        (99_960, "100 kB"),
        (999_600, "1 MB"),
        (1_440_000_000, "1.44 GB"),
        (15 * 10**12, "15 TB"),
        (10**16, "10,000 TB"),
    ],
)
def test_sizes_are_in_units_that_people_use(size_bytes: int, words: str):
    assert report.size(size_bytes) == words


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (45678, "45,678"),
        (24.8712, "24.87"),
        (123456.7, "123,457"),
        (0.0, "0"),
        (-0.0312345, "-0.03123"),
        (float("nan"), "not measured"),
        (float("-inf"), "not measured"),
        ("3.2 x 3.2", "3.2 x 3.2"),
    ],
)
def test_figures_have_four_digits_and_say_when_they_were_not_measured(value: float | str, words: str):
    assert report.number(value) == words


def test_times_are_in_universal_time_whatever_the_zone_of_the_machine():
    paris = timezone(timedelta(hours=1))
    there = replace(COMPLETED, submitted=datetime(2025, 11, 22, 19, 0, 0, tzinfo=paris))

    assert "Submitted  2025-11-22 18:00:00 UTC\n" in report.text(there)


@pytest.mark.parametrize(
    ("seconds", "words"), [(-3, "0 s"), (59.4, "59 s"), (59.6, "1 min 0 s"), (3600, "1 h 0 min"), (90061, "25 h 1 min")]
)
def test_durations_are_short_words(seconds: float, words: str):
    assert report.duration(seconds) == words

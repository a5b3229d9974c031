"""What Slurm's commands say, put into values; that they say it is told on a real Slurm in test_slurm.py."""

from __future__ import annotations

from pathlib import Path

import pytest

from spicad.backends.slurm_commands import OVERHEAD_MB, Away, Errand, Full, ask, round_trip
from spicad.words import SpicaError


def saying(folder: Path, program: str, text: str, status: int = 0) -> str:
    """A PATH on which `program` says `text`: on standard error when it fails."""
    (folder / "said").write_text(text)
    where = ">&2" if status else ""
    (folder / program).write_text(f"#!/bin/sh\ncat {folder}/said {where}\nexit {status}\n")
    (folder / program).chmod(0o755)
    return f"{folder}:/usr/bin:/bin"


@pytest.mark.parametrize(
    "words",
    [
        "sbatch: error: Batch job submission failed: Unable to contact slurm controller (connect failure)",
        "sbatch: error: Batch job submission failed: Socket timed out on send/recv operation",
        "slurm_load_jobs error: Zero Bytes were transmitted or received",
        "sbatch: error: Munge encode failed: Failed to access socket",
        "sbatch: fatal: Could not establish a configuration source",
    ],
)
def test_a_slurm_that_does_not_answer_is_waited_for(tmp_path: Path, words: str) -> None:
    with pytest.raises(Away):
        ask(["sbatch"], saying(tmp_path, "sbatch", words, 1))


def test_commands_that_are_not_installed_are_waited_for_with_the_mend(tmp_path: Path) -> None:
    with pytest.raises(Away, match="install Slurm's commands"):
        ask(["sbatch"], str(tmp_path))


def test_a_full_slurm_is_asked_again_and_no_other_job_is_tried(tmp_path: Path) -> None:
    said = "sbatch: error: QOSMaxSubmitJobPerUserLimit\nsbatch: error: Batch job submission failed: Job violates policy"
    path = saying(tmp_path, "sbatch", said, 1)

    with pytest.raises(Full, match="QOSMaxSubmitJobPerUserLimit; Batch job submission failed"):
        ask(["sbatch"], path)
    report = round_trip(Errand(path, {"a": ["sbatch"], "b": ["sbatch"]}))

    assert report.full
    assert (report.refused, report.unsure, report.submitted) == ({}, set(), {})


def test_all_else_is_a_refusal_in_slurms_words(tmp_path: Path) -> None:
    said = (
        "sbatch: error: invalid partition specified: astro\nsbatch: error: Batch job submission failed: Invalid name\n"
    )

    with pytest.raises(SpicaError, match=r"^invalid partition specified: astro; Batch job submission failed: Invalid"):
        ask(["sbatch"], saying(tmp_path, "sbatch", said, 1))


@pytest.mark.parametrize(
    ("line", "slots", "taken", "is_usable"),
    [
        ("n1|idle|0/16/0/16|64000|0.10", 16, 0, True),
        ("n1|mixed|4/12/0/16|64000|4.00", 16, 4, True),
        ("n1|allocated|16/0/0/16|64000|15.9", 16, 16, True),
        ("n1|idle~|0/16/0/16|64000|N/A", 16, 0, True),
        ("n1|idle*|0/16/0/16|64000|0.10", 16, 0, False),
        ("n1|down*|0/0/16/16|64000|N/A", 0, 0, False),
        ("n1|draining|4/0/12/16|64000|4.00", 4, 4, False),
    ],
)
def test_a_node_is_what_sinfo_tells(tmp_path: Path, line: str, slots: int, taken: int, is_usable: bool) -> None:
    report = round_trip(Errand(saying(tmp_path, "sinfo", f"{line}\n{line}\n"), asks=True))

    assert report.nodes is not None
    (node,) = report.nodes
    assert (node.name, node.slots, node.taken, node.memory_mb) == ("n1", slots, taken, 64000 - OVERHEAD_MB)
    assert (node.why_not == "") is is_usable
    assert 0 <= node.idle <= 1

"""Patterns name the same files as the shell's, at a cost that is bounded for a job as a whole."""

from __future__ import annotations

import glob
import os
import time
from pathlib import Path

import pytest

from spicad.background import Stopped
from spicad.patterns import Budget, beginning, matching
from spicad.words import SpicaError


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    for name in (
        "03A/r/1p.fits",
        "03A/r/2p.fits",
        "03A/g/1p.fits.fz",
        "03B/r/3p.fits",
        "03A/r/.4p.fits",
        "odd[1].fits",
    ):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (tmp_path / "link").symlink_to("03A")
    (tmp_path / "nowhere").symlink_to("gone")
    return tmp_path


@pytest.mark.parametrize(
    "pattern",
    [
        "*/r/*.fits", "03?/[rg]/*p.fits*", "03A/r/1p.fits", "*/*/[!1]p*", "*", "03A/r/.*", "*/r",
        "link/*/*", "no*", "**/*p.fits", "odd[[]1].fits", "03A//r/*.fits", "*/1p.fits", "03A/r/1p.fits/*", "[a",
    ],
)  # fmt: skip
def test_a_pattern_names_the_files_that_glob_would_name(archive: Path, pattern: str) -> None:
    found = [os.path.normpath(path) for path in matching(f"{archive}/{pattern}", Budget())]

    assert sorted(found) == sorted({os.path.normpath(path) for path in glob.glob(f"{archive}/{pattern}")})


@pytest.mark.parametrize(("pattern", "folder"), [("/a/b*/c", "/a"), ("/*", "/"), ("/a/b/c", "/a/b/c")])
def test_looking_begins_before_the_first_part_that_is_wild(pattern: str, folder: str) -> None:
    assert beginning(pattern) == Path(folder)


def test_all_patterns_of_a_job_share_one_budget_of_names(archive: Path) -> None:
    budget = Budget(names=15)
    assert len(list(matching(f"{archive}/*/r/*p.fits", budget))) == 5

    with pytest.raises(SpicaError, match=r"\*p.fits: too many files and folders to look through"):
        list(matching(f"{archive}/*/r/*p.fits", budget))


def test_a_pattern_is_given_up_when_its_time_is_over_or_the_daemon_stops(archive: Path) -> None:
    with pytest.raises(SpicaError, match="too many files and folders"):
        list(matching(f"{archive}/*", Budget(until=time.monotonic() - 1)))
    with pytest.raises(Stopped):
        list(matching(f"{archive}/*", Budget(is_stopped=lambda: True)))


@pytest.mark.parametrize("pattern", ["/*/../etc/*", "/" + "*/" * 21])
def test_patterns_that_lead_back_or_down_for_ever_are_refused(pattern: str) -> None:
    with pytest.raises(SpicaError, match=r"Leave it out|Name the folders"):
        list(matching(pattern, Budget()))

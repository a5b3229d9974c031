"""Each broken or odd exposure of broken.py is taken, warned of or refused as it should be, with a reason in words.

What the programs do with good exposures is in test_exposure_headers.py and test_prepare.py.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from broken import BROKEN, Broken, make_broken

from spicad.archive.headers import Exposure, odd_beside_others, read_exposure
from spicad.fits import FitsProblem
from spicad.reduction import prepare
from spicad.words import BadInput


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return make_broken(tmp_path_factory.mktemp("broken"))


def test_there_are_82_files_and_ours() -> None:
    assert len({one.name for one in BROKEN}) == len(BROKEN) >= 82


@pytest.mark.slow
@pytest.mark.parametrize("one", BROKEN, ids=lambda one: one.name[:30])
def test_a_file_is_taken_warned_of_or_refused(one: Broken, made: dict[str, Path]) -> None:
    path = made[one.name]

    verdict, said = _read(one, path, made["good.fits"])

    assert (verdict, one.reason in said) == (one.expect, True), said
    if verdict == "reject":
        assert str(path) in said


@pytest.mark.slow
@pytest.mark.parametrize("one", [one for one in BROKEN if one.seen != "headers"], ids=lambda one: one.name)
def test_what_shows_only_in_the_pixels_or_beside_others_is_no_fault_of_the_headers(
    one: Broken, made: dict[str, Path]
) -> None:
    assert read_exposure(made[one.name]).warnings == ()


@pytest.mark.slow
@pytest.mark.parametrize("one", [one for one in BROKEN if one.expect != "reject"], ids=lambda one: one.name[:30])
def test_what_is_taken_is_prepared_into_a_file_without_packing_and_without_faults_of_structure(
    one: Broken, made: dict[str, Path], tmp_path: Path
) -> None:
    prepare.prepare(made[one.name], tmp_path / "img0001.fits")

    prepared = read_exposure(tmp_path / "img0001.fits")
    assert prepared.packing == "fits"
    assert [path.name for path in tmp_path.iterdir()] == ["img0001.fits"]


@pytest.mark.parametrize("one", [one for one in BROKEN if one.expect == "reject"], ids=lambda one: one.name)
def test_preparing_what_is_refused_leaves_a_whole_file_or_nothing(
    one: Broken, made: dict[str, Path], tmp_path: Path
) -> None:
    output = tmp_path / "img0001.fits"

    status = prepare.main([str(made[one.name]), str(output)])

    if one.seen == "pixels":
        assert status == 1
    assert output.exists() == (status == 0)
    assert len(list(tmp_path.iterdir())) == (status == 0)


def _read(one: Broken, path: Path, good: Path) -> tuple[str, str]:
    """("ok", "warn" or "reject", all that was said)."""
    try:
        exposure = read_exposure(path, check_sums=True)
        said = [*exposure.warnings]
        if one.seen == "pixels":
            said += prepare.check(path)
        if one.seen == "beside":
            said += odd_beside_others([*_others(good), exposure]).get(path, ())
    except (BadInput, FitsProblem, prepare.CannotPrepare) as error:
        return "reject", str(error)
    return ("warn" if said else "ok"), "\n".join(said)


def _others(good: Path) -> list[Exposure]:
    exposure = read_exposure(good)
    return [exposure, replace(exposure, path=good.with_name("another.fits"))]

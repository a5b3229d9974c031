"""The main job with the real tools, held against the truth of a made sky: from a dropped job file to stacks and a mail.

One daemon and one sky serve the whole file. What attacks is in test_hostile.py, single verdicts in test_applications_*.
"""

from __future__ import annotations

import csv
import email
import hashlib
import json
import os
import shutil
import signal
import subprocess
import warnings
from collections.abc import Iterator
from email import policy
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from astropy.io import fits
from astropy.wcs import WCS
from conftest import SpicaWithTools, wait_until

from spicad import parts
from spicad.reduction.sky import SkyMade, make_sky
from spicad.reduction.sky_options import SkyOptions
from spicad.steps import step_record

pytestmark = pytest.mark.slow

OPTIONS = SkyOptions(exposures=3, ccds=2, size=500, filters=("g", "r"), stars=200, seed=7)
FILTERS = {"g": "g.SIM01", "r": "r.SIM03"}  # what Spica calls them: as in truth/, as in the headers
# Three exposures reach 25.2 mag at 5 sigma in r. Down to here every star with no near neighbour must be found.
FAINTEST_MAG = {"g": 23.8, "r": 23.3}
FREE_OF_NEIGHBOURS_ARCSEC = 3.0
SAME_STAR_ARCSEC = 0.5
EDGE_PIXELS = 10

STACK_TASKS = """\
[[task]]
application = "sextractor"
each = "exposure"
{sextractor}

[[task]]
application = "scamp"
gather = ["instrument"]
{scamp}

[[task]]
application = "swarp"
gather = ["object", "filter"]
{swarp}
"""


@pytest.fixture(scope="module")
def spica(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SpicaWithTools]:
    spica = SpicaWithTools(tmp_path_factory.mktemp("main"))
    spica.start()
    yield spica
    spica.end()


@pytest.fixture(scope="module")
def sky(spica: SpicaWithTools) -> SkyMade:
    return make_sky(spica.archive / "sky", OPTIONS)


@pytest.fixture(scope="module")
def checksums(sky: SkyMade) -> dict[Path, str]:
    return {path: sha256(path) for path in [*sky.exposures, sky.bad_pixels, sky.reference]}


@pytest.fixture(scope="module")
def stacked(spica: SpicaWithTools, sky: SkyMade, checksums: dict[Path, str]) -> int:
    """The process of a job file dropped by hand, completed."""
    text = job("m101", sky, [f"{sky.folder}/9*p.fits"], more='mail = "observer@example.org"')
    process = spica.drop(text, "by-hand")
    assert spica.wait_for(process) == "COMPLETED", spica.report(process)
    return process


@pytest.fixture(scope="module")
def stars_of_stacks(spica: SpicaWithTools, stacked: int) -> dict[str, Any]:
    """By filter, the catalogue that Spica's own quick look makes of each stack."""
    folder = spica.archive / "stacks"
    folder.mkdir()
    for band in FILTERS:
        shutil.copy(spica.product(stacked, f"*_{band}.fits"), folder / f"{band}.fits")
    process = spica.drop(f'name = "look"\nexposures = ["{folder}/*.fits"]\nrules = "quick-look"\n[end]\n', "look")
    assert spica.wait_for(process) == "COMPLETED", spica.report(process)
    return {band: fits.getdata(spica.product(process, f"{band}.ldac"), 2) for band in FILTERS}


def job(
    name: str,
    sky: SkyMade,
    exposures: list[Any],
    rules: str = "stack",
    weight: bool = True,
    more: str = "",
    tasks: str = "",
) -> str:
    paths = json.dumps([str(path) for path in exposures])
    which = tasks or f'rules = "{rules}"\n'
    weight_line = f'weight = "{sky.bad_pixels}"' if weight else 'weight = "none"'
    head = f'name = "{name}"\nexposures = {paths}\nreference = "{sky.reference}"\n{weight_line}\n'
    return head + ("" if tasks else which) + more + "\n" + tasks + "\n[end]\n"


def of_filter(sky: SkyMade, band: str) -> list[Path]:
    return [sky.folder / f"{row['number']}p.fits" for row in truth_table(sky, "exposures") if row["filter"] == band]


def truth_table(sky: SkyMade, name: str) -> list[dict[str, str]]:
    with (sky.truth / f"{name}.csv").open(newline="") as table:
        return list(csv.DictReader(table))


def heads(path: Path) -> list[fits.Header]:
    """The headers of a .head file of SCAMP, one a CCD."""
    found, cards = [], []
    for line in path.read_text(errors="replace").splitlines():
        if line.startswith("END"):
            found.append(fits.Header(cards))
            cards = []
        elif not line.startswith(("HISTORY", "COMMENT")):
            cards.append(fits.Card.fromstring(line))
    return found


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def states(spica: SpicaWithTools, process: int, run: int = 1) -> dict[str, str]:
    return dict(spica.outcome(process, run)["steps"])


def step_outcome(folder: Path) -> dict[str, Any]:
    return dict(json.loads((folder / "outcome.json").read_text()))


# ---------------------------------------------------------------------- against the truth


@pytest.mark.parametrize("band", FILTERS)
def test_every_star_above_the_limit_is_found_in_the_stack(
    band: str, spica: SpicaWithTools, sky: SkyMade, stacked: int, stars_of_stacks: dict[str, Any]
) -> None:
    stars = stars_expected(band, spica, sky, stacked)

    distance, _ = to_nearest(stars, stars_of_stacks[band])

    lost = stars[distance > SAME_STAR_ARCSEC]
    assert len(stars) > 60
    assert [(star["ra"], star["dec"], star[f"mag_{band}"]) for star in lost] == []


@pytest.mark.parametrize("band", FILTERS)
def test_the_astrometry_of_the_stack_is_true(
    band: str, spica: SpicaWithTools, sky: SkyMade, stacked: int, stars_of_stacks: dict[str, Any]
) -> None:
    stars = stars_expected(band, spica, sky, stacked)

    distance, offset = to_nearest(stars, stars_of_stacks[band])

    assert np.sqrt(np.mean(distance**2)) < 0.05
    assert np.hypot(*offset.mean(axis=0)) < 0.02


def stars_expected(band: str, spica: SpicaWithTools, sky: SkyMade, stacked: int) -> Any:
    """The stars of the truth down to the limit that lie on the stack, away from others and from its edges."""
    wcs = wcs_of(spica.product(stacked, f"*_{band}.fits"))
    weight = fits.getdata(spica.product(stacked, f"*_{band}.weight.fits"))
    sources = fits.getdata(sky.truth / "sources.fits")
    chosen = sources["star"] & (sources[f"mag_{band}"] < FAINTEST_MAG[band])
    stars = sources[chosen & (sources["neighbour"] > FREE_OF_NEIGHBOURS_ARCSEC)]
    x, y = (np.rint(each).astype(int) for each in wcs.all_world2pix(stars["ra"], stars["dec"], 0))
    height, width = weight.shape
    least = [
        weight[max(0, row - EDGE_PIXELS) : row + EDGE_PIXELS, max(0, column - EDGE_PIXELS) : column + EDGE_PIXELS].min()
        if 0 <= row < height and 0 <= column < width
        else 0.0
        for row, column in zip(y, x, strict=True)
    ]
    return stars[np.array(least) > 0.2 * np.median(weight[weight > 0])]


def wcs_of(source: Path | fits.Header) -> WCS:
    header = fits.getheader(source) if isinstance(source, Path) else source
    with warnings.catch_warnings(action="ignore"):  # astropy on dates
        return WCS(header)


def to_nearest(stars: Any, catalogue: Any) -> tuple[np.ndarray, np.ndarray]:
    """Distance and offset of the nearest source of the catalogue, arcsec."""
    east = catalogue["ALPHAWIN_J2000"][None, :] - stars["ra"][:, None]
    east *= 3600 * np.cos(np.radians(stars["dec"]))[:, None]
    north = 3600 * (catalogue["DELTAWIN_J2000"][None, :] - stars["dec"][:, None])
    distance = np.hypot(east, north)
    nearest, rows = distance.argmin(axis=1), np.arange(len(stars))
    return distance[rows, nearest], np.stack([east[rows, nearest], north[rows, nearest]], axis=1)


def test_the_solution_of_every_ccd_puts_the_stars_where_they_are(
    spica: SpicaWithTools, sky: SkyMade, stacked: int
) -> None:
    detections, sources = (fits.getdata(sky.truth / f"{name}.fits") for name in ("detections", "sources"))
    for path in sky.exposures:
        for ccd, head in enumerate(heads(spica.product(stacked, f"{path.stem}.head"))):
            head.update(NAXIS=2, NAXIS1=OPTIONS.size, NAXIS2=OPTIONS.size)
            seen = detections[(detections["exposure"] == int(path.stem[:-1])) & (detections["ccd"] == ccd)]
            stars = sources[seen["id"]]

            ra, dec = wcs_of(head).all_pix2world(seen["x"], seen["y"], 1)

            east = (ra - stars["ra"]) * np.cos(np.radians(stars["dec"])) * 3600
            rms = np.sqrt(np.mean(east**2 + ((dec - stars["dec"]) * 3600) ** 2))
            assert len(stars) > 50
            assert rms < 0.05, f"{path.name}, CCD {ccd}"


@pytest.mark.parametrize("band", FILTERS)
def test_the_relative_zero_points_are_recovered(band: str, spica: SpicaWithTools, sky: SkyMade, stacked: int) -> None:
    rows = [row for row in truth_table(sky, "exposures") if row["filter"] == band]
    planted = np.array([float(row["zeropoint"]) for row in rows])

    found = np.array(
        [30 - 2.5 * np.log10(heads(spica.product(stacked, f"{row['number']}p.head"))[0]["FLXSCALE"]) for row in rows]
    )

    assert np.ptp(planted) > 0.1, "clouds and airmass make a difference to recover"
    assert np.abs(found - planted - np.mean(found - planted)).max() < 0.01


def test_the_archive_is_as_it_was(
    spica: SpicaWithTools, sky: SkyMade, stacked: int, checksums: dict[Path, str], stars_of_stacks: dict[str, Any]
) -> None:
    assert {path: sha256(path) for path in checksums} == checksums
    names = {path.name for path in sky.folder.iterdir()}
    assert names == {path.name for path in checksums} | {"truth"}, "nothing was written beside the inputs"


# ---------------------------------------------------------------------- what is kept and said


def test_the_report_arrives_and_says_what_came_of_it(spica: SpicaWithTools, stacked: int) -> None:
    maildir = spica.spool / "mail/new"
    wait_until(lambda: maildir.is_dir() and any(maildir.iterdir()), "the mail")
    mails = [email.message_from_bytes(path.read_bytes(), policy=policy.default) for path in maildir.iterdir()]
    (mail,) = [mail for mail in mails if mail["To"] == "observer@example.org"]

    text = mail.get_content()

    assert mail["Subject"] == f"m101 is completed (process {stacked})"
    assert f"Process {stacked}, m101, is completed: 6 exposures, 17 products." in text
    assert "9 done" in text
    for name in ("m101_SPICA-A_g.fits", "m101_SPICA-A_r.fits", "900001p.ldac", "900006p.head"):
        assert f"products/{name}\n" in text
    for figure in ("sources found", "against the reference", "exposures on top of each other"):
        assert figure in text
    assert text == (spica.run_folder(stacked) / "report.txt").read_text()


def test_the_capsule_holds_everything_that_decided_the_outcome(
    spica: SpicaWithTools, sky: SkyMade, stacked: int
) -> None:
    folder = spica.run_folder(stacked)
    setups = {
        name: json.loads(parts.read(folder, f"configuration/{name}/setup.json"))
        for name in ("00-sextractor", "01-scamp", "02-swarp")
    }
    plan = json.loads(parts.read(folder, "plan.json"))
    manifest = json.loads((folder / "manifest.json").read_text())

    for setup in setups.values():
        assert Path(setup["tool"]["path"]).is_file()
        assert setup["tool"]["version"][0].isdigit()
        assert {"system: default", "the tool's default"} <= {origin for _, origin in setup["settings"].values()}
    assert parts.read(folder, "configuration/00-sextractor/parameters_name.param").startswith(b"#")
    assert f'reference = "{sky.reference}"' in parts.read(folder, "job.spica").decode()
    assert 'application = "swarp"' in parts.read(folder, "rules.toml").decode()
    assert [step["application"] for step in plan["steps"]] == ["sextractor"] * 6 + ["scamp"] + ["swarp"] * 2
    for step in (folder / "steps").iterdir():
        argv = step_record(step)["argv"]
        assert argv[0] == setups[next(name for name in setups if step.name.endswith(name[3:]))]["tool"]["path"]
        assert (step / "log").stat().st_size > 0
        assert step_outcome(step)["exit_code"] == 0
        read = step_record(step)["inputs"]
        assert {sha256(Path(each["path"])) for each in read.values() if each["identity"]} == {
            each["digest"] for each in read.values() if each["identity"]
        }
        assert all(len(each["digest"]) == 64 for each in read.values())
    used = [step_record(folder / f"steps/{name}")["inputs"] for name in ("0001-sextractor", "0008-swarp")]
    assert [Path(each["path"]) for each in used[0].values()] == [sky.exposures[0], sky.bad_pixels]
    assert {path.name for path in sky.exposures[:3]} <= {Path(each["path"]).name for each in used[1].values()}
    products = {path.name: path.stat().st_size for path in (folder / "products").iterdir()}
    assert {name: size for name, (size, _) in manifest.items()} == products
    assert all(len(digest) == 64 for _, digest in manifest.values())
    assert not (folder / "work").exists()


def test_names_of_the_user_and_of_the_archive_are_not_on_the_command_line(spica: SpicaWithTools, stacked: int) -> None:
    for path in (spica.run_folder(stacked) / "steps").glob("*/step.json"):
        line = " ".join(step_record(path.parent)["argv"])
        assert not [word for word in ("90000", "m101", "refcat", "badpix", "SPICA-A") if word in line]


# ---------------------------------------------------------------------- again


def test_a_rerun_reuses_every_step_and_says_so(spica: SpicaWithTools, stacked: int) -> None:
    before = json.loads((spica.run_folder(stacked) / "manifest.json").read_text())

    spica.spica("rerun", stacked)

    wait_until(lambda: is_over(spica, stacked, 2), "the second run")
    assert set(states(spica, stacked, 2).values()) == {"reused"}
    assert "9 reused from earlier runs" in spica.report(stacked, 2)
    assert json.loads((spica.run_folder(stacked, 2) / "manifest.json").read_text()) == before


def test_after_a_change_for_swarp_only_swarp_runs(spica: SpicaWithTools, sky: SkyMade, stacked: int) -> None:
    more = '[set.swarp]\nCOMBINE_TYPE = "AVERAGE"\n'

    process = spica.drop(job("m101", sky, [f"{sky.folder}/9*p.fits"], more=more), "average")

    assert spica.wait_for(process) == "COMPLETED"
    done = {step for step, state in states(spica, process).items() if state == "done"}
    assert done == {"0008-swarp", "0009-swarp"}
    before, after = (json.loads((spica.run_folder(each) / "manifest.json").read_text()) for each in (stacked, process))
    assert {name for name in before if before[name] != after[name]} == {
        f"m101_SPICA-A_{name}{suffix}.fits" for name in FILTERS for suffix in ("", ".weight")
    }
    setup = json.loads(parts.read(spica.run_folder(process), "configuration/02-swarp/setup.json"))
    assert setup["settings"]["COMBINE_TYPE"] == ["AVERAGE", "job file"]


def test_verify_runs_everything_again_and_finds_the_same_science(spica: SpicaWithTools, stacked: int) -> None:
    done = spica.spica("verify", "--json", stacked)

    comparison = json.loads(done.stdout)
    assert comparison["is_same"]
    assert len(comparison["identical"]) == 17
    assert set(states(spica, stacked, comparison["second_run"]).values()) == {"done"}


def is_over(spica: SpicaWithTools, process: int, run: int) -> bool:
    return bool(list(spica.results.glob(f"*/{process:06d}-*/run-{run}/outcome.json")))


# ---------------------------------------------------------------------- kinds of input


def test_packed_exposures_come_to_the_same_as_plain_ones(spica: SpicaWithTools, sky: SkyMade, stacked: int) -> None:
    folder = spica.archive / "packed"
    plain, gzipped, tiled = of_filter(sky, "r")
    folder.mkdir()
    for path in (plain, gzipped, tiled):
        shutil.copy(path, folder)
    subprocess.run(["gzip", "-1", folder / gzipped.name], check=True)
    subprocess.run(["fpack", "-D", "-Y", folder / tiled.name], check=True)

    process = spica.drop(job("packed", sky, [f"{folder}/*"]), "packed")

    assert spica.wait_for(process) == "COMPLETED", spica.report(process)
    assert sorted(path.name for path in folder.iterdir()) == sorted(
        [plain.name, f"{gzipped.name}.gz", f"{tiled.name}.fz"]
    )
    prepared = [step for step in states(spica, process) if step.endswith("-prepare")]
    assert len(prepared) == 2, "what is plain is not unpacked"
    for path in (plain, gzipped, tiled):
        ours, theirs = (fits.getdata(spica.product(each, f"{path.stem}.ldac"), 2) for each in (process, stacked))
        assert np.array_equal(ours["XWIN_IMAGE"], theirs["XWIN_IMAGE"])
    figures = {label: value for label, value, _ in spica.outcome(process)["figures"]}
    assert figures["SWarp: exposures on top of each other where most are"] == 3


def test_exposures_without_extensions_are_stacked(spica: SpicaWithTools) -> None:
    sky = make_sky(
        spica.archive / "single",
        SkyOptions(exposures=2, ccds=1, size=500, filters=("r",), stars=200, seed=8, single=True),
    )

    process = spica.drop(job("single", sky, [f"{sky.folder}/9*p.fits"]), "single")

    assert spica.wait_for(process) == "COMPLETED", spica.report(process)
    figures = {label: value for label, value, _ in spica.outcome(process)["figures"]}
    assert figures["SCAMP: scatter of bright stars against the reference catalogue, per axis"] < 0.05
    assert figures["SWarp: exposures on top of each other where most are"] == 2


def test_the_weight_map_keeps_bad_pixels_out_of_the_stack(spica: SpicaWithTools, sky: SkyMade, stacked: int) -> None:
    bad = [fits.getdata(sky.bad_pixels, ccd + 1) == 0 for ccd in range(OPTIONS.ccds)]
    name = of_filter(sky, "r")[0].stem
    stack_wcs = wcs_of(spica.product(stacked, "*_r.fits"))
    weight = fits.getdata(spica.product(stacked, "*_r.weight.fits"))
    ratios = []
    for ccd, head in enumerate(heads(spica.product(stacked, f"{name}.head"))):
        (column,) = np.flatnonzero(bad[ccd].mean(axis=0) > 0.4)[:1]
        rows = np.flatnonzero(bad[ccd][:, column])[20:-20:5]
        head.update(NAXIS=2, NAXIS1=OPTIONS.size, NAXIS2=OPTIONS.size)
        wcs = wcs_of(head)
        on = sampled(weight, stack_wcs, *wcs.all_pix2world(np.full(len(rows), column), rows, 0))
        beside = sampled(weight, stack_wcs, *wcs.all_pix2world(np.full(len(rows), column + 12), rows, 0))
        ratios.append(np.median(on) / np.median(beside))

    assert max(ratios) < 0.85, "an exposure less counts there"


def sampled(image: np.ndarray, wcs: WCS, ra: np.ndarray, dec: np.ndarray) -> np.ndarray:
    x, y = wcs.all_world2pix(ra, dec, 0)
    return np.asarray(image[np.rint(y).astype(int), np.rint(x).astype(int)])


def test_deep_stack_solves_with_the_calibration_set_and_stacks_only_the_chosen(
    spica: SpicaWithTools, sky: SkyMade, stacked: int
) -> None:
    one, other, extra = of_filter(sky, "r")
    more = f'calibration = ["{extra}", "{of_filter(sky, "g")[0]}"]'

    process = spica.drop(job("deep", sky, [one, other], rules="deep-stack", more=more), "deep")

    assert spica.wait_for(process) == "COMPLETED", spica.report(process)
    solved = {path.stem for path in (spica.run_folder(process) / "products").glob("*.head")}
    assert solved == {one.stem, other.stem, extra.stem}, "the exposure of another filter does not widen the task"
    figures = {label: value for label, value, _ in spica.outcome(process)["figures"]}
    assert figures["SWarp: exposures on top of each other where most are"] == 2


# ---------------------------------------------------------------------- exposures that do not fit


@pytest.fixture(scope="module")
def unfit(spica: SpicaWithTools, sky: SkyMade) -> dict[str, Path]:
    """Exposures made unfit in one way each."""
    good, folder = of_filter(sky, "r")[0], spica.archive / "unfit"
    folder.mkdir()
    made = {name: folder / f"{name}.fits" for name in REASONS}
    made["cut"].write_bytes(good.read_bytes()[:-300_000])
    for name, change in (("blank", blanked), ("astray", sent_astray), ("unplaced", unplaced), ("poor", impoverished)):
        with fits.open(good, do_not_scale_image_data=False) as hdus:
            for ccd, hdu in enumerate(hdus[1:]):
                change(hdu, np.random.default_rng(ccd))
            hdus.writeto(made[name])
    return made


# By exposure, what its owner is told.
REASONS = {
    "cut": "ends within the data",
    "blank": "sources",
    "astray": "the reference catalogue does not cover the field",
    "unplaced": "no astrometry to start from",
    "poor": "usable detections",
}


def blanked(hdu: Any, rng: np.random.Generator) -> None:
    hdu.data = rng.normal(300, 14, hdu.data.shape).astype(np.uint16)


def sent_astray(hdu: Any, rng: np.random.Generator) -> None:
    hdu.header["CRVAL1"] += 30


def unplaced(hdu: Any, rng: np.random.Generator) -> None:
    for keyword in [*hdu.header["C[TRUD]*"]]:
        if keyword[:5] in ("CTYPE", "CUNIT", "CRVAL", "CRPIX") or keyword.startswith("CD"):
            del hdu.header[keyword]


def impoverished(hdu: Any, rng: np.random.Generator) -> None:
    """Two stars, and too much that is too faint to solve with."""
    image = rng.normal(300, 14, hdu.data.shape)
    y, x = np.mgrid[: image.shape[0], : image.shape[1]]
    places = rng.uniform(30, 470, (32, 2))
    for (x0, y0), peak in zip(places, [8000, 8000] + [45] * 30, strict=True):
        image += peak * np.exp(-((x - x0) ** 2 + (y - y0) ** 2) / 8)
    hdu.data = image.clip(0, 60000).astype(np.uint16)


@pytest.fixture(scope="module")
def mixed(spica: SpicaWithTools, sky: SkyMade, unfit: dict[str, Path], stacked: int) -> int:
    process = spica.drop(job("mixed", sky, [*of_filter(sky, "r"), *unfit.values()]), "mixed")
    assert spica.wait_for(process) == "COMPLETED", spica.report(process)
    return process


@pytest.mark.parametrize("name", REASONS)
def test_an_unfit_exposure_among_good_ones_is_dropped_and_named(name: str, spica: SpicaWithTools, mixed: int) -> None:
    dropped = {exposure.removesuffix(".fits"): why for exposure, why in spica.outcome(mixed)["dropped"]}

    assert dropped.keys() == REASONS.keys()
    assert REASONS[name] in dropped[name]
    assert f"{name}" in spica.report(mixed)


def test_good_exposures_are_stacked_whatever_was_among_them(spica: SpicaWithTools, mixed: int) -> None:
    figures = {label: value for label, value, _ in spica.outcome(mixed)["figures"]}

    assert figures["SWarp: exposures on top of each other where most are"] == 3
    assert "3 of 8 exposures went in" in spica.report(mixed)


@pytest.mark.parametrize("name", REASONS)
def test_an_unfit_exposure_alone_ends_as_an_error_or_is_refused(
    name: str, spica: SpicaWithTools, sky: SkyMade, unfit: dict[str, Path]
) -> None:
    text = job(f"only-{name}", sky, [unfit[name]])
    if name == "cut":
        why = spica.refused(text, f"only-{name}")
        assert f"{name}.fits" in why
    else:
        process = spica.drop(text, f"only-{name}")
        assert spica.wait_for(process) == "ERROR"
        why = spica.outcome(process)["why"]
        assert name in spica.report(process)

    assert REASONS[name] in why


def test_a_bad_exposure_stops_the_run_where_the_rules_say_so(
    spica: SpicaWithTools, sky: SkyMade, unfit: dict[str, Path]
) -> None:
    tasks = STACK_TASKS.format(sextractor='on_bad_exposure = "stop"', scamp="", swarp="")

    process = spica.drop(job("strict", sky, [*of_filter(sky, "r"), unfit["blank"]], tasks=tasks), "strict")

    assert spica.wait_for(process) == "ERROR"
    assert spica.outcome(process)["why"].startswith("sextractor on blank: ")
    assert "failed on blank" in spica.report(process)
    assert not [step for step, state in states(spica, process).items() if "swarp" in step and state == "done"]


# ---------------------------------------------------------------------- ways that a step can end badly

BUSY = 'set = { OVERSAMPLING = "16" }'  # SWarp works for many seconds


def test_a_step_over_its_time_is_stopped_and_the_report_says_so(
    spica: SpicaWithTools, sky: SkyMade, stacked: int
) -> None:
    tasks = STACK_TASKS.format(sextractor="", scamp="", swarp=f"time_s = 0.3\n{BUSY}")

    process = spica.drop(job("slow", sky, of_filter(sky, "r"), tasks=tasks), "slow")

    assert spica.wait_for(process) == "ERROR"
    assert "SWarp was stopped at its time limit" in spica.report(process)
    assert spica.outcome(process)["why"] == "swarp: SWarp was stopped at its time limit."
    assert steps_running(spica) == []


def test_a_step_over_its_memory_ends_and_the_report_says_so(spica: SpicaWithTools, sky: SkyMade, stacked: int) -> None:
    tasks = STACK_TASKS.format(sextractor="", scamp="", swarp='memory_mb = 100\nset = { BACK_SIZE = "64" }')

    process = spica.drop(job("greedy", sky, of_filter(sky, "r"), tasks=tasks), "greedy")

    assert spica.wait_for(process) == "ERROR"
    assert "SWarp was stopped at its memory limit; memory_mb of the task" in spica.report(process)
    assert "The last words of swarp" in spica.report(process)


def test_a_tool_that_crashes_ends_the_run_with_the_signal_named(
    spica: SpicaWithTools, sky: SkyMade, stacked: int
) -> None:
    tasks = STACK_TASKS.format(sextractor="", scamp="", swarp=BUSY)
    process = spica.drop(job("crash", sky, of_filter(sky, "r"), tasks=tasks), "crash")

    os.kill(tool_of(spica, process, "SWarp"), signal.SIGSEGV)  # which SWarp catches, says and ends with 255

    assert spica.wait_for(process) == "ERROR"
    assert "SWarp crashed by a signal (SIGSEGV, Segmentation fault)" in spica.report(process)
    assert steps_running(spica) == []


def test_a_tool_that_is_killed_from_outside_is_tried_again(spica: SpicaWithTools, sky: SkyMade, stacked: int) -> None:
    tasks = STACK_TASKS.format(sextractor="", scamp="", swarp='set = { OVERSAMPLING = "2" }')
    process = spica.drop(job("killed", sky, of_filter(sky, "r"), tasks=tasks), "killed")

    os.kill(tool_of(spica, process, "SWarp"), signal.SIGKILL)

    assert spica.wait_for(process) == "COMPLETED"
    folders = sorted(path.name for path in (spica.run_folder(process) / "steps").glob("*swarp*"))
    assert folders == ["0005-swarp", "0005-swarp.attempt-1"]
    interrupted = json.loads((spica.run_folder(process) / f"steps/{folders[1]}/interrupted.json").read_text())
    assert "SIGKILL" in interrupted["why"]


def test_a_file_larger_than_a_step_may_write_ends_the_run_in_its_own_words(tmp_path: Path, sky: SkyMade) -> None:
    spica = SpicaWithTools(tmp_path, conf="\n[limits]\ndisk_mb = 1\n")
    give_archive(spica, sky)
    spica.start()
    try:
        process = spica.drop(job("large", sky, of_filter(sky, "r")), "large")

        assert spica.wait_for(process) == "ERROR"
        assert "wrote a larger file than a step may" in spica.report(process)
    finally:
        spica.end()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small disk")
def test_a_full_disk_holds_the_process_until_there_is_room(tmp_path: Path, sky: SkyMade) -> None:
    spica = SpicaWithTools(tmp_path, conf="\n[limits]\nfree_disk_mb = 0\n")
    give_archive(spica, sky)
    spica.results.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=10m", "none", spica.results], check=True)
    try:
        spica.start()
        process = spica.drop(job("full", sky, of_filter(sky, "r")), "full")

        assert spica.wait_for(process, "HELD", "ERROR", "COMPLETED") == "HELD"
        wait_until(lambda: "the disk was full" in spica.spica("explain", process).stdout, "the reason")
        subprocess.run(["mount", "-o", "remount,size=100m", spica.results], check=True)
        spica.spica("release", process)

        assert spica.wait_for(process) == "COMPLETED", spica.report(process)
    finally:
        spica.end()
        subprocess.run(["umount", spica.results], check=True)


def give_archive(spica: SpicaWithTools, sky: SkyMade) -> None:
    """Another daemon may read the same sky."""
    text = spica.conf.read_text()
    spica.conf.write_text(text.replace('archive = ["archive"]', f'archive = ["archive", "{sky.folder}"]'))


def tool_of(spica: SpicaWithTools, process: int, name: str) -> int:
    """The pid of the tool itself, once it runs inside the sandbox of a step of this process."""

    def inside() -> list[int]:
        return [
            child.pid
            for launch in spica.results.glob(f"*/{process:06d}-*/run-1/steps/*/launch.json")
            for child in descendants(json.loads(launch.read_text())["pid"])
            if name_of(child) == name
        ]

    wait_until(inside, f"{name} to run")
    return inside()[0]


def descendants(pid: int) -> list[psutil.Process]:
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def name_of(process: psutil.Process) -> str:
    try:
        return process.name()
    except psutil.NoSuchProcess:
        return ""


def steps_running(spica: SpicaWithTools) -> list[psutil.Process]:
    assert spica.daemon is not None
    return descendants(spica.daemon.pid)


# ---------------------------------------------------------------------- more tools

EIGHTH = """\
title = "Sky level"
summary = "The level of the sky of each exposure, as its catalogue has it"
command = ["skylevel"]
version = ""
list_keywords = "-dd"
arguments = ["{exposure}", "-c", "{configuration}"]
configuration = "default"
free = ["SKIP_BYTES"]

[input.exposure]
kind = "exposure"
file = "{stem}.fits"

[owned]
OUTPUT_NAME = "{stem}.sky.txt"

[output.level]
file = "{stem}.sky.txt"
kind = "text"
product = "{exposure}.sky.txt"
"""
SKYLEVEL = """\
#!/bin/sh
# Stands for a tool of the observatory's own: keywords by -dd, a configuration by -c, overrides on the command line.
if [ "$1" = -dd ]; then
    printf '%s\\n' '# Default configuration' 'SKIP_BYTES   0   # bytes left out' 'OUTPUT_NAME   out.txt   # result'
    exit 0
fi
skip=$(sed -n 's/^SKIP_BYTES *\\([0-9]*\\).*/\\1/p' "$3")
tail -c +$((skip + 1)) "$1" | wc -c > "$5"
"""


def test_an_eighth_application_takes_one_descriptor_and_one_configuration(
    spica: SpicaWithTools, sky: SkyMade, stacked: int
) -> None:
    tool = spica.folder / "programs/skylevel"
    tool.parent.mkdir()
    tool.write_text(SKYLEVEL)
    tool.chmod(0o755)
    spica.conf.write_text(spica.conf.read_text().replace("[paths]\n", '[paths]\nprograms = ["programs"]\n'))
    spica.application("skylevel", EIGHTH)
    (spica.folder / "configurations/skylevel").mkdir()
    (spica.folder / "configurations/skylevel/default.conf").write_text("SKIP_BYTES 2880\n")
    reload(spica)
    tasks = '[[task]]\napplication = "skylevel"\neach = "exposure"\n'

    process = spica.drop(job("eighth", sky, [sky.exposures[0]], tasks=tasks), "eighth")

    assert spica.wait_for(process) == "COMPLETED", spica.report(process)
    level = spica.product(process, f"{sky.exposures[0].stem}.sky.txt").read_text()
    assert int(level) == sky.exposures[0].stat().st_size - 2880
    assert "no keyword SKIP_BITES" in spica.refused(
        job("eighth", sky, [sky.exposures[0]], more="[set.skylevel]\nSKIP_BITES = 1\n", tasks=tasks), "misspelt"
    )


def reload(spica: SpicaWithTools) -> None:
    assert spica.daemon is not None
    before = spica.log.stat().st_size
    spica.daemon.send_signal(signal.SIGHUP)
    wait_until(lambda: b"configuration reloaded" in spica.log.read_bytes()[before:], "the reload")


def test_psfex_weightwatcher_missfits_and_stiff_run_too(spica: SpicaWithTools, sky: SkyMade, stacked: int) -> None:
    tasks = "".join(
        f'[[task]]\napplication = "{application}"\n{more}\n\n'
        for application, more in (
            ("weightwatcher", 'each = "exposure"'),
            ("sextractor", 'each = "exposure"\nconfiguration = "psf"'),
            ("psfex", 'each = "exposure"'),
            ("missfits", 'each = "exposure"'),
            ("swarp", 'gather = ["filter"]'),
            ("stiff", 'gather = ["filter"]'),
        )
    )

    process = spica.drop(job("others", sky, of_filter(sky, "r")[:2], tasks=tasks), "others")

    assert spica.wait_for(process) == "COMPLETED", spica.report(process)
    assert set(states(spica, process).values()) <= {"done", "reused"}
    figures = {label: value for label, value, _ in spica.outcome(process)["figures"]}
    label = "PSFEx: width of the PSF at half maximum, mean over the field, median of the exposures"
    seeing = [float(row["seeing_arcsec"]) for row in truth_table(sky, "exposures") if row["filter"] == "r"][:2]
    assert figures[label] == pytest.approx(np.mean(seeing), rel=0.1)
    mended = fits.getdata(spica.product(process, f"{of_filter(sky, 'r')[0].stem}.fits"), 1)
    assert np.array_equal(mended, fits.getdata(of_filter(sky, "r")[0], 1))
    mask = fits.getdata(spica.product(process, f"{of_filter(sky, 'r')[0].stem}.weight.fits"), 1)
    assert np.array_equal(mask > 0, fits.getdata(sky.bad_pixels, 1) > 0)
    assert spica.product(process, "*.tif").read_bytes()[:2] in (b"II", b"MM")

"""The tools themselves, run on a made sky with Spica's command lines and judged by its verdicts.

No sandbox here, and no daemon: a step is laid out in a folder, the program is started, verify() says how it went.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import pytest

from spicad import fits
from spicad.applications.before import precheck
from spicad.applications.command import command_line, configuration_target
from spicad.applications.configuration import (
    Configuration,
    check,
    check_stored,
    effective,
    find_configuration,
    read_configuration,
    stored_files,
    stored_target,
)
from spicad.applications.descriptor import Application, load_applications
from spicad.applications.outputs import Verdict, verify
from spicad.applications.tools import find_tool, tool_columns, tool_keywords
from spicad.archive.instruments import ahead_text, shipped
from spicad.reduction.sky import make_sky
from spicad.reduction.sky_options import SkyOptions
from spicad.words import BadInput, Ending, SpicaError

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parent.parent
APPLICATIONS = load_applications(ROOT / "etc/applications")
SYSTEM = [("system", ROOT / "etc/configurations")]
CCDS = 4


@dataclass(frozen=True)
class Ran:
    """A step that has run in `folder`."""

    application: Application
    folder: Path
    exit_code: int
    stems: tuple[str, ...]
    ccds: int | None

    @property
    def verdict(self) -> Verdict:
        ccds = dict.fromkeys(self.stems, self.ccds) if self.ccds else None
        return verify(self.application, self.folder / "job", self.stems, self.log, self.exit_code, ccds=ccds)

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text(errors="replace")

    def output(self, name: str, stem: str = "") -> Path:
        return self.folder / "job" / self.application.outputs[name].file_for(stem)


def run(
    application: Application,
    folder: Path,
    files: Mapping[str, Sequence[tuple[str, Path]]],
    configuration: str = "",
    settings: Mapping[str, str] | None = None,
    configurations: Sequence[tuple[str, Path]] = SYSTEM,
    programs: Sequence[Path] = (),
    ccds: int | None = CCDS,
    extra_lines: str = "",
    beside: Mapping[str, str] = MappingProxyType({}),
) -> Ran:
    """Lays a step out and runs it; `extra_lines` go into the tool's file past all checks, `beside` into job/."""
    try:
        tool = find_tool(application, programs)
    except SpicaError as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(error))
    for name in ("cfg", "in", "job"):
        (folder / name).mkdir(parents=True)
    keywords = tool_keywords(tool, application)
    level, path = find_configuration(configuration or application.configuration, application, configurations)
    layers = [(level, read_configuration(path)), ("test", Configuration.of(settings or {}, "test"))]
    assert [problem for _, layer in layers for problem in check(application, layer, keywords, configurations)] == []
    in_force = effective(application, keywords, layers)
    (folder / "cfg" / configuration_target(application)).write_text(in_force.text() + extra_lines)
    for keyword, (_, stored) in stored_files(application, in_force, configurations).items():
        assert check_stored(application, keyword, stored, tool_columns(tool, application)) == []
        shutil.copyfile(stored, folder / "cfg" / stored_target(application, keyword))
    given = {}
    for name, each in files.items():
        input_ = application.inputs[name]
        given[name] = [(stem, input_.path_for(stem)) for stem, _ in each]
        for stem, source in each:
            shutil.copyfile(source, folder / "in" / input_.file_for(stem))
            if input_.place == "job":
                (folder / "job" / input_.file_for(stem)).symlink_to(f"../in/{input_.file_for(stem)}")
    for name, text in beside.items():
        (folder / "job" / name).write_text(text)
    line = command_line(application, tool.program, given, in_force)
    for name, text in line.lists.items():
        (folder / "cfg" / name).write_text(text)
    with (folder / "log").open("wb") as log:
        done = subprocess.run(
            line.argv,
            cwd=folder / "job",
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env={"PATH": os.environ["PATH"], "HOME": str(folder / "job"), "LC_ALL": "C"},
            timeout=240,
            check=False,
        )
    stems = tuple(dict.fromkeys(stem for each in files.values() for stem, _ in each if stem))
    return Ran(application, folder, done.returncode, stems, ccds)


@pytest.fixture(scope="module")
def sky(tmp_path_factory):
    options = SkyOptions(exposures=3, ccds=CCDS, size=400, filters=("r",), stars=300, seed=3)
    return make_sky(tmp_path_factory.mktemp("sky") / "sky", options)


@pytest.fixture(scope="module")
def exposures(sky):
    return {f"img{number:04d}": path for number, path in enumerate(sky.exposures, 1)}


@pytest.fixture(scope="module")
def weights(sky, exposures):
    return [(stem, sky.bad_pixels) for stem in exposures]


@pytest.fixture(scope="module")
def catalogues(tmp_path_factory, exposures, sky):
    folder = tmp_path_factory.mktemp("catalogues")
    application = APPLICATIONS["sextractor"]
    return {
        stem: run(application, folder / stem, {"exposure": [(stem, path)], "weight": [(stem, sky.bad_pixels)]})
        for stem, path in exposures.items()
    }


@pytest.fixture(scope="module")
def solution(tmp_path_factory, catalogues, sky):
    files = {
        "catalogue": [(stem, ran.output("catalogue", stem)) for stem, ran in catalogues.items()],
        "reference": [("", sky.reference)],
    }
    return run(APPLICATIONS["scamp"], tmp_path_factory.mktemp("solution") / "step", files)


@pytest.fixture(scope="module")
def stack(tmp_path_factory, exposures, solution, weights):
    files = {
        "exposure": list(exposures.items()),
        "head": [(stem, solution.output("head", stem)) for stem in exposures],
        "weight": weights,
    }
    return run(APPLICATIONS["swarp"], tmp_path_factory.mktemp("stack") / "step", files)


# The chain


def test_every_exposure_gets_a_catalogue_that_passes(catalogues):
    for ran in catalogues.values():
        verdict = ran.verdict
        assert (verdict.ending, verdict.why) == (Ending.DONE, "")
        assert verdict.metrics["sources"] > 100
        assert 200 < verdict.metrics["background"] < 500
        assert {produced.name for produced in verdict.outputs} == {"catalogue", "report"}


def test_the_solution_passes_with_its_figures(solution, exposures):
    verdict = solution.verdict

    assert (verdict.ending, verdict.why) == (Ending.DONE, "")
    assert 0 < verdict.metrics["astrometric_rms_internal_arcsec"] < 0.02
    assert 0 < verdict.metrics["astrometric_rms_reference_arcsec"] < 0.08
    assert verdict.metrics["contrast_position"] > 4
    assert verdict.metrics["ccds_astray"] == 0
    assert verdict.metrics["zero_point_mag"] == 30
    assert {produced.stem for produced in verdict.outputs if produced.name == "head"} == set(exposures)
    assert all((solution.folder / "in" / f"{stem}.ldac").exists() for stem in exposures)
    assert not list((solution.folder / "in").glob("*.head"))


def test_the_stack_passes_and_is_as_deep_as_its_exposures(stack):
    verdict = stack.verdict

    assert (verdict.ending, verdict.why) == (Ending.DONE, "")
    assert verdict.metrics["depth_exposures"] == 3
    assert verdict.metrics["pixel_scale_arcsec"] == pytest.approx(0.186, abs=0.002)
    assert {produced.product for produced in verdict.outputs} == {"{step}.fits", "{step}.weight.fits", ""}
    report = (stack.folder / "job/swarp.xml").read_text()
    assert report.count("<TD>T</TD><TD>") >= 3 * CCDS, "the .head files were not read"


def test_no_tool_warns_about_its_configuration(catalogues, solution, stack):
    for ran in (*catalogues.values(), solution, stack):
        warnings = [line for line in ran.log.splitlines() if "WARNING" in line and "unknown" in line.lower()]
        assert warnings == []


def test_the_same_step_twice_gives_the_same_digests(tmp_path, catalogues, exposures, sky, solution):
    stem = "img0001"
    image = {"exposure": [(stem, exposures[stem])], "weight": [(stem, sky.bad_pixels)]}
    solved = {"reference": [("", sky.reference)]}
    solved["catalogue"] = [(each, ran.output("catalogue", each)) for each, ran in catalogues.items()]

    again = run(APPLICATIONS["sextractor"], tmp_path / "sextractor", image)
    solved_again = run(APPLICATIONS["scamp"], tmp_path / "scamp", solved)

    assert kept(again.verdict) == kept(catalogues[stem].verdict)
    assert kept(solved_again.verdict) == kept(solution.verdict)


def kept(verdict: Verdict) -> dict[tuple[str, str | None], str]:
    assert verdict.outputs
    return {(each.name, each.stem): each.digest for each in verdict.outputs if each.product}


def test_a_stack_takes_exposures_with_and_without_weights(tmp_path, exposures, solution, weights):
    files = {
        "exposure": list(exposures.items()),
        "head": [(stem, solution.output("head", stem)) for stem in exposures],
        "weight": weights[:1],
    }

    ran = run(APPLICATIONS["swarp"], tmp_path / "step", files, settings={"PROJECTION_ERR": "0.1"})

    assert ran.verdict.ending is Ending.DONE
    report = (ran.folder / "job/swarp.xml").read_text()
    assert (report.count("<TD>MAP_WEIGHT</TD>"), report.count("<TD>NONE</TD>")) == (CCDS, 2 * CCDS)


def test_a_psf_model_a_weight_map_a_mended_header_and_a_picture(tmp_path, exposures, sky, solution, stack):
    stem = "img0001"
    image, mask = [(stem, exposures[stem])], [(stem, sky.bad_pixels)]
    bright = run(APPLICATIONS["sextractor"], tmp_path / "bright", {"exposure": image, "weight": mask}, "psf")
    ran = {
        "psfex": run(
            APPLICATIONS["psfex"],
            tmp_path / "psfex",
            {"catalogue": [(stem, bright.output("catalogue", stem))]},
            settings={"PSF_SIZE": "15,15", "PSFVAR_DEGREES": "1"},
        ),
        "weightwatcher": run(APPLICATIONS["weightwatcher"], tmp_path / "ww", {"weight": mask}),
        "missfits": run(
            APPLICATIONS["missfits"],
            tmp_path / "missfits",
            {"exposure": image, "head": [(stem, solution.output("head", stem))]},
        ),
        "stiff": run(APPLICATIONS["stiff"], tmp_path / "stiff", {"stack": [("", stack.output("stack"))]}, ccds=None),
    }

    for name, each in ran.items():
        assert (name, each.verdict.ending, each.verdict.why) == (name, Ending.DONE, "")
    assert 0.4 < ran["psfex"].verdict.metrics["psf_fwhm_arcsec"] < 1.5
    mended = fits.scan(ran["missfits"].output("image", stem)).hdus[1].header
    assert "FLXSCALE" in mended
    original = ran["missfits"].folder / "in" / f"{stem}.fits"
    assert original.read_bytes() == exposures[stem].read_bytes()


# What once passed for success


def test_a_blank_image_is_an_error(tmp_path, exposures):
    blank = tmp_path / "blank.fits"
    data = bytearray(exposures["img0001"].read_bytes())
    for hdu in fits.scan(exposures["img0001"]).hdus:
        data[hdu.data_offset : hdu.data_offset + hdu.data_bytes] = bytes(hdu.data_bytes)
    blank.write_bytes(data)

    ran = run(APPLICATIONS["sextractor"], tmp_path / "step", {"exposure": [("img0001", blank)]})

    assert ran.exit_code == 0
    assert ran.verdict.ending is Ending.NEVER_AGAIN
    assert "it has 0 sources, and 10 are needed." in ran.verdict.why


def test_the_weight_threshold_that_zeroes_every_flux_is_found(tmp_path, exposures, sky):
    files = {"exposure": [("img0001", exposures["img0001"])], "weight": [("img0001", sky.bad_pixels)]}

    ran = run(APPLICATIONS["sextractor"], tmp_path / "step", files, settings={"WEIGHT_THRESH": "0.5"})

    assert ran.exit_code == 0
    assert "it is hollow: FLUX_AUTO is zero for all" in ran.verdict.why
    assert ran.verdict.culprit == "img0001"


def test_an_exposure_that_is_cut_short_is_noticed_although_the_tools_exit_with_0(tmp_path, exposures):
    whole = exposures["img0001"].read_bytes()
    short = tmp_path / "short.fits"
    short.write_bytes(whole[: len(whole) // 2])
    two = {"exposure": [("img0001", short), ("img0002", exposures["img0002"])]}

    found = run(APPLICATIONS["sextractor"], tmp_path / "found", {"exposure": [("img0001", short)]})
    stacked = run(APPLICATIONS["swarp"], tmp_path / "stacked", two, settings={"PROJECTION_ERR": "0.1"})

    assert found.exit_code == stacked.exit_code == 0
    assert "it has sources of" in found.verdict.why
    assert f"of {2 * CCDS} CCDs were used." in stacked.verdict.why


def test_a_file_that_is_no_image_ends_with_the_tools_own_words(tmp_path):
    junk = tmp_path / "junk.fits"
    junk.write_text("hello")

    verdict = run(APPLICATIONS["sextractor"], tmp_path / "step", {"exposure": [("img0001", junk)]}).verdict

    assert verdict.why == "SExtractor ended with exit status 1, and said: *Error*: cannot open ../in/img0001.fits."
    assert verdict.last_words == ("*Error*: cannot open ../in/img0001.fits",)


def moved(catalogue: Path, target: Path, ccd: int, pixels: float) -> Path:
    """A copy of a catalogue in whose header one CCD lies elsewhere."""
    data = catalogue.read_bytes()
    start = -1
    for _ in range(ccd):
        start = data.index(b"CRPIX1  =", start + 1)
    value = float(data[start + 10 : start + 30])
    card = b"CRPIX1  =" + f"{value + pixels:21.4f}".encode()
    target.write_bytes(data[:start] + card.ljust(80) + data[start + 80 :])
    return target


def test_a_ccd_that_misses_the_reference_is_found_although_the_rms_is_small(tmp_path, catalogues, sky):
    paths = {stem: ran.output("catalogue", stem) for stem, ran in catalogues.items()}
    paths["img0002"] = moved(paths["img0002"], tmp_path / "moved.ldac", 3, 40)
    files = {"catalogue": list(paths.items()), "reference": [("", sky.reference)]}

    ran = run(APPLICATIONS["scamp"], tmp_path / "step", files)

    verdict = ran.verdict
    assert ran.exit_code == 0
    assert verdict.metrics["astrometric_rms_internal_arcsec"] < 0.05
    assert verdict.metrics["astrometric_rms_reference_arcsec"] < 0.08
    assert verdict.ending is Ending.NEVER_AGAIN
    assert "CCD 3 of img0002: " in verdict.why
    assert verdict.culprit == "img0002"


def test_scamp_reads_what_an_instrument_adds_to_the_headers(tmp_path, catalogues, sky):
    """By MegaCam's file: exposures through two filters, or of two runs, are of two instruments."""
    wanted = APPLICATIONS["scamp"].inputs["catalogue"].ahead
    files = {
        "catalogue": [(stem, ran.output("catalogue", stem)) for stem, ran in catalogues.items()],
        "reference": [("", sky.reference)],
    }
    megacam = shipped().named("megacam")
    said = {stem: {"filter": "old" if stem == "img0001" else "new", "runid": f"run{stem[-1]}"} for stem in catalogues}
    cards = {wanted.replace("{stem}", stem): ahead_text(megacam, each.get, CCDS) for stem, each in said.items()}

    ran = run(APPLICATIONS["scamp"], tmp_path / "step", files, beside=cards)

    assert ran.verdict.ending is Ending.DONE
    report = (tmp_path / "step/job/scamp.xml").read_text()
    assert set(re.findall(r"<TD>FILTER  = '(\w+)", report)) == {"new", "old"}
    assert set(re.findall(r"QRUNID  = '(\w+)", report)) == {each["runid"] for each in said.values()}


def test_a_chance_match_is_refused_by_its_contrast(tmp_path, catalogues, sky):
    reference = tmp_path / "elsewhere.cat"
    data = bytearray(sky.reference.read_bytes())
    hdu = fits.scan(sky.reference).hdus[-1]
    column = fits.table_columns(hdu)["X_WORLD"]
    width, rows = hdu.shape
    places = [hdu.data_offset + row * width + column.offset for row in range(rows)]
    values = [bytes(data[place : place + 8]) for place in places]
    for place, value in zip(places, values[7:] + values[:7], strict=True):
        data[place : place + 8] = value
    reference.write_bytes(data)
    files = {
        "catalogue": [(stem, ran.output("catalogue", stem)) for stem, ran in catalogues.items()],
        "reference": [("", reference)],
    }

    ran = run(APPLICATIONS["scamp"], tmp_path / "step", files)

    assert ran.exit_code == 0
    assert "did not match the reference catalogue in position" in ran.verdict.why
    assert ran.verdict.culprit is None


@dataclass(frozen=True)
class Place:
    s_ra: float
    s_dec: float
    radius_deg: float


def test_a_wrong_pointing_is_refused_before_the_tool_is_started(catalogues, sky):
    application = APPLICATIONS["scamp"]
    tool = find_tool(application)
    configuration = read_configuration(find_configuration("default", application, SYSTEM)[1])
    settings = effective(application, tool_keywords(tool, application), [("default", configuration)])
    files = {
        "catalogue": [(stem, ran.output("catalogue", stem)) for stem, ran in catalogues.items()],
        "reference": [("", sky.reference)],
    }
    header = fits.scan(sky.exposures[0]).hdus[1].header
    right = Place(float(header["CRVAL1"]), float(header["CRVAL2"]), 0.1)
    wrong = Place(right.s_ra, right.s_dec + 1, 0.1)

    assert precheck(application, files, dict.fromkeys(catalogues, right), settings) == ("", "")
    why, culprit = precheck(application, files, dict.fromkeys(catalogues, right) | {"img0003": wrong}, settings)
    assert why.startswith("the reference catalogue does not cover the field: img0003 (RA ")
    assert culprit == "img0003"


# Attacks, past all checks: the command line beats the file


@pytest.mark.parametrize(
    ("name", "lines"),
    [
        (
            "sextractor",
            "CATALOG_NAME {victim}\nCHECKIMAGE_TYPE BACKGROUND\nCHECKIMAGE_NAME {victim}\nXML_NAME {victim}\n",
        ),
        ("missfits", "SAVE_TYPE REPLACE\nXML_NAME {victim}\nNEW_SUFFIX %n%n%n\n"),
        ("weightwatcher", "OUTWEIGHT_NAME {victim}\nOUTFLAG_NAME {victim}\nXML_NAME {victim}\n"),
        ("stiff", "OUTFILE_NAME {victim}\nXML_NAME {victim}\n"),
        (
            "swarp",
            "IMAGEOUT_NAME {victim}\nWEIGHTOUT_NAME {victim}\nCLIP_WRITELOG Y\nCLIP_LOGNAME {victim}\n",
        ),
        (
            "scamp",
            "CHECKPLOT_DEV PDF\nCHECKPLOT_NAME x;touch${{IFS}}{victim}\nHEADER_SUFFIX {victim}\nXML_NAME {victim}\n",
        ),
        ("psfex", "CHECKPLOT_NAME x;touch${{IFS}}{victim};x\nPSF_DIR {folder}\nXML_NAME {victim}\n"),
    ],
)
def test_what_an_attacker_writes_in_the_file_has_no_effect(tmp_path, exposures, sky, catalogues, stack, name, lines):
    victim = tmp_path / "victim" / "pwned"
    victim.parent.mkdir()
    stem = "img0001"
    catalogue = [(stem, catalogues[stem].output("catalogue", stem))]
    if name == "psfex":
        image = {"exposure": [(stem, exposures[stem])]}
        catalogue = [(stem, run(APPLICATIONS["sextractor"], tmp_path / "psf", image, "psf").output("catalogue", stem))]
    files = {
        "sextractor": {"exposure": [(stem, exposures[stem])]},
        "missfits": {"exposure": [(stem, exposures[stem])]},
        "weightwatcher": {"weight": [(stem, sky.bad_pixels)]},
        "stiff": {"stack": [("", stack.output("stack"))]},
        "swarp": {"exposure": [(stem, exposures[stem])]},
        "scamp": {"catalogue": catalogue, "reference": [("", sky.reference)]},
        "psfex": {"catalogue": catalogue},
    }[name]

    ran = run(
        APPLICATIONS[name],
        tmp_path / "step",
        files,
        ccds=None,
        settings={"PSF_SIZE": "15,15", "PSFVAR_DEGREES": "1"} if name == "psfex" else {},
        extra_lines=lines.format(victim=victim, folder=victim.parent),
    )

    assert (ran.exit_code, list(victim.parent.iterdir())) == (0, [])
    for input_name, each in files.items():
        for file_stem, source in each:
            name_inside = ran.application.inputs[input_name].file_for(file_stem)
            assert (ran.folder / "in" / name_inside).read_bytes() == source.read_bytes()
    assert ran.verdict.ending is Ending.DONE


# An eighth application


def test_an_eighth_application_takes_one_descriptor_and_one_configuration(tmp_path, exposures):
    tool = tmp_path / "bin" / "imcount"
    tool.parent.mkdir()
    tool.write_text(
        "#!/bin/sh\n"
        'case "$1" in\n'
        "  -v) echo 'imcount version 0.9 (2026)'; exit;;\n"
        "  -dd) printf 'UNIT_TYPE BLOCKS # BYTES or BLOCKS\\nFACTOR 1 # factor\\nOUT_NAME o.txt # output\\n'; exit;;\n"
        "esac\n"
        'image=$1; factor=$(sed -n "s/^FACTOR *\\([0-9]*\\).*/\\1/p" "$3")\n'
        'while [ $# -gt 0 ]; do [ "$1" = -OUT_NAME ] && out=$2; shift; done\n'
        'echo "bytes $(( $(wc -c < "$image") * factor ))" > "$out"\n'
    )
    tool.chmod(0o755)
    applications, configurations = tmp_path / "applications", tmp_path / "configurations"
    shutil.copytree(ROOT / "etc/applications", applications)
    shutil.copytree(ROOT / "etc/configurations", configurations)
    (applications / "imcount.toml").write_text(
        """
title = "imcount"
summary = "Size of each exposure"
command = ["no-such-name", "imcount"]
list_keywords = "-dd"
arguments = ["{exposure}", "-c", "{configuration}"]
configuration = "default"
free = ["UNIT_TYPE"]

[input.exposure]
kind = "exposure"
file = "{stem}.fits"

[owned]
OUT_NAME = "{stem}.txt"

[capped]
FACTOR = 10

[output.size]
file = "{stem}.txt"
kind = "text"
product = "{exposure}.txt"
require = { rows = 1 }
"""
    )
    (configurations / "imcount").mkdir()
    (configurations / "imcount" / "default.conf").write_text("FACTOR 2  # twice\n")

    imcount = load_applications(applications)["imcount"]
    levels = [("system", configurations)]
    found = find_tool(imcount, [tool.parent])
    keywords = tool_keywords(found, imcount)
    files = {"exposure": [("img0001", exposures["img0001"])]}
    ran = run(imcount, tmp_path / "step", files, configurations=levels, programs=[tool.parent])

    assert (found.version, set(keywords)) == ("0.9", {"UNIT_TYPE", "FACTOR", "OUT_NAME"})
    wrong = Configuration.of({"FACTOR": "11", "UNIT_TYPE": "BYTE", "OUT_NAME": "/etc/x"}, "mine")
    assert len(check(imcount, wrong, keywords)) == 3
    assert ran.verdict.ending is Ending.DONE
    assert ran.output("size", "img0001").read_text() == f"bytes {2 * exposures['img0001'].stat().st_size}\n"
    with pytest.raises(BadInput):
        find_configuration("deep", imcount, levels)

"""The verdict on an attempt: how it ended, what it left, what the log said; and what is looked at before a start.

Files are made here byte by byte, good ones and broken ones; the tools themselves run in test_applications_run.py.
"""

from __future__ import annotations

import math
import os
import signal
import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits as astropy_fits

from spicad.applications.before import adjusted, precheck
from spicad.applications.command import command_line
from spicad.applications.configuration import effective
from spicad.applications.descriptor import Application, Require, load_applications, parse_application
from spicad.applications.figures import figures, reference_positions
from spicad.applications.kinds import fault_of, head_blocks, votable
from spicad.applications.logs import last_words, plain
from spicad.applications.outputs import tidy, verify
from spicad.applications.tools import parse_keywords
from spicad.words import Ending

ROOT = Path(__file__).parent.parent
APPLICATIONS = load_applications(ROOT / "etc/applications")

STEM = "img0001"
XML = """<?xml version="1.0" encoding="UTF-8"?>
<VOTABLE version="1.1" xmlns="http://www.ivoa.net/xml/VOTable/v1.1">
<RESOURCE ID="X" name="{name}"><RESOURCE ID="MetaData"><PARAM name="Depth" value="3"/>
<TABLE ID="Rows"><FIELD name="Name"/><FIELD name="Size"/><FIELD name="Scale"/><DATA><TABLEDATA>
<TR><TD>img0001.fits</TD><TD>1.0 3.0</TD><TD>2.0 2.0</TD></TR>
<TR><TD>img0002.fits</TD><TD>5.0 nan</TD><TD>4.0</TD></TR>
</TABLEDATA></DATA></TABLE></RESOURCE></RESOURCE></VOTABLE>
"""


def application(text: str) -> Application:
    head = 'title = "Tool"\nsummary = "x"\ncommand = ["tool"]\narguments = []\n'
    return parse_application(head + text, Path("tool.toml"))


IMAGES = (
    '[output.image]\nfile = "{stem}.fits"\nkind = "fits"\nrequire = { pixels = true }\nproduct = "{exposure}.fits"\n'
)


def write_image(path: Path, pixels: np.ndarray | None = None, ccds: int = 1) -> Path:
    pixels = np.arange(400.0, dtype="f4").reshape(20, 20) if pixels is None else pixels
    hdus = [astropy_fits.ImageHDU(pixels) for _ in range(ccds)]
    astropy_fits.HDUList([astropy_fits.PrimaryHDU(), *hdus]).writeto(path)
    return path


def write_ldac(path: Path, rows: int = 20, ccds: int = 1, cards: str = "", **columns: object) -> Path:
    """A LDAC catalogue; a column is given by its value in every row."""
    defaults = {"XWIN_IMAGE": 5.0, "YWIN_IMAGE": 5.0, "FLUX_AUTO": 1000.0, "FLUXERR_AUTO": 10.0, "FLAGS": 0}
    defaults |= {"ERRAWIN_IMAGE": 0.1, "ERRBWIN_IMAGE": 0.1, "ERRTHETAWIN_IMAGE": 0.0}
    hdus = [astropy_fits.PrimaryHDU()]
    header = cards or "CTYPE1  = 'RA---TAN'|CRVAL1  = 10.0|CTYPE2  = 'DEC--TAN'|CRVAL2  = 20.0|END"
    text = "".join(card.ljust(80) for card in header.split("|"))
    for _ in range(ccds):
        card_column = astropy_fits.Column("Field Header Card", f"{len(text)}A", array=[text])
        hdus.append(astropy_fits.BinTableHDU.from_columns([card_column], name="LDAC_IMHEAD"))
        table = [
            astropy_fits.Column(name, "E", array=np.full(rows, value))
            if np.isscalar(value)
            else astropy_fits.Column(name, "D", array=np.asarray(value))
            for name, value in (defaults | columns).items()
        ]
        hdus.append(astropy_fits.BinTableHDU.from_columns(table, name="LDAC_OBJECTS"))
    astropy_fits.HDUList(hdus).writeto(path)
    return path


def cut(path: Path, share: float = 0.5) -> Path:
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    return path


@pytest.fixture
def job(tmp_path):
    for name in ("in", "cfg", "job"):
        (tmp_path / name).mkdir()
    return tmp_path / "job"


# How it ended


@pytest.mark.parametrize(
    ("how", "ending", "said"),
    [
        ({"exit_code": 0}, Ending.DONE, ""),
        ({"exit_code": 1}, Ending.NEVER_AGAIN, "Tool ended with exit status 1."),
        ({"exit_code": 128 + signal.SIGSEGV}, Ending.NEVER_AGAIN, "Tool crashed by a signal (SIGSEGV"),
        ({"exit_code": -signal.SIGFPE}, Ending.NEVER_AGAIN, "Tool crashed by a signal (SIGFPE"),
        ({"exit_code": 128 + signal.SIGKILL}, Ending.TRY_AGAIN, "ended from outside by a signal (SIGKILL"),
        ({"exit_code": 128 + signal.SIGXFSZ}, Ending.NEVER_AGAIN, "wrote a larger file than a step may"),
        ({"exit_code": 128 + signal.SIGXCPU}, Ending.NEVER_AGAIN, "stopped at its time limit"),
        ({"exit_code": 137, "timed_out": True}, Ending.NEVER_AGAIN, "Tool was stopped at its time limit."),
        ({"exit_code": 0, "disk_full": True}, Ending.TRY_AGAIN, "the disk was full while Tool ran."),
        ({"exit_code": None}, Ending.TRY_AGAIN, "how Tool ended is not known."),
        (
            {"exit_code": 1, "log_text": "\n> *Error*: Not enough memory for x\n"},
            Ending.NEVER_AGAIN,
            "its memory limit",
        ),
        ({"exit_code": 1, "log_text": "write: No space left on device\n"}, Ending.TRY_AGAIN, "the disk was full"),
    ],
)
def test_each_way_to_end_has_its_own_words(job, how, ending, said):
    write_image(job / "img0001.fits")

    verdict = verify(application(IMAGES), job, [STEM], how.pop("log_text", ""), how.pop("exit_code"), **how)

    assert verdict.ending is ending
    assert said in verdict.why
    assert bool(verdict.outputs) is (ending is Ending.DONE)


def test_what_passed_comes_back_with_size_digest_and_product(job):
    path = write_image(job / "img0001.fits")

    (produced,) = verify(application(IMAGES), job, [STEM], "", 0).outputs

    assert (produced.name, produced.stem, produced.path, produced.bytes) == ("image", STEM, path, path.stat().st_size)
    assert produced.product == "{exposure}.fits"
    assert len(produced.digest) == 64


def test_a_clean_exit_without_its_output_is_an_error_that_names_the_exposure(job):
    write_image(job / "img0001.fits")

    verdict = verify(application(IMAGES), job, ["img0001", "img0002"], "> All done\n", 0)

    assert verdict.ending is Ending.NEVER_AGAIN
    assert verdict.why == "Tool ended as if all were well, but its image (img0002.fits) is missing."
    assert verdict.culprit == "img0002"


def test_an_optional_output_may_be_missing_but_not_broken(job):
    tool = application(IMAGES + '[output.log]\nfile = "log.xml"\nkind = "votable"\noptional = true\n')
    write_image(job / "img0001.fits")

    assert verify(tool, job, [STEM], "", 0).ending is Ending.DONE
    (job / "log.xml").write_text("<VOTABLE>")
    assert verify(tool, job, [STEM], "", 0).ending is Ending.NEVER_AGAIN


def test_the_tools_own_words_name_the_culprit(job):
    log = "> Reading\n\n> *Error*: ../in/img0002.fits not found\n\n"

    verdict = verify(application(IMAGES), job, ["img0001", "img0002"], log, 1)

    assert verdict.culprit == "img0002"
    assert verdict.last_words == ("*Error*: ../in/img0002.fits not found",)


# Logs


def test_a_log_is_read_as_a_terminal_would_show_it():
    log = "\x1b[1M> Line:    1\n\x1b[1A\x1b[1M> Line:  100\n\x1b[1A\x1b[7mHeader\x1b[0m 12\nabc\rX\n"

    assert [line for line in plain(log) if line] == ["Header 12100", "Xbc"]


def test_last_words_are_the_errors_or_else_the_last_lines():
    quiet = "\n".join(f"step {number}" for number in range(20))

    assert last_words(quiet) == ("step 15", "step 16", "step 17", "step 18", "step 19")
    assert last_words(quiet + "\n> *Error*: cannot open x\nbye") == ("*Error*: cannot open x",)
    assert last_words("> WARNING: file not found, using defaults\nlast") == (
        "WARNING: file not found, using defaults",
        "last",
    )
    assert last_words(quiet, only_trouble=True) == ()


def test_a_hostile_log_stays_short_and_printable():
    words = last_words("error \x07\x9b31m\u202e" + "x" * 100_000 + "\n" + "error\n" * 50_000)

    assert len(words) <= 5
    assert all(word.isprintable() and len(word) <= 300 for word in words)


# What it left


def test_only_plain_files_and_our_own_links_stay(job):
    tool = application(
        '[input.catalogue]\nkind = "product"\nproduct = "catalogue"\nfile = "{stem}.ldac"\nplace = "job"\n' + IMAGES
    )
    outside = job.parent / "in" / "img0001.ldac"
    outside.write_text("input")
    (job / "img0001.ldac").symlink_to("../in/img0001.ldac")
    (job / "img0001.fits").symlink_to("/etc/passwd")
    os.mkfifo(job / "pipe")
    os.link(outside, job / "hard")
    (job / "folder").mkdir()
    (job / "folder" / "img0002.fits").symlink_to("/etc/passwd")
    (job / "tool").write_text("#!/bin/sh")
    (job / "tool").chmod(0o6755)

    removed = tidy(tool, job)

    assert set(removed) == {"img0001.fits", "pipe", "hard", "folder"}
    assert {path.name for path in job.iterdir()} == {"img0001.ldac", "tool"}
    assert (job / "tool").stat().st_mode & 0o7777 == 0o644
    assert outside.read_text() == "input"


def test_an_output_that_is_a_link_is_a_missing_output(job):
    (job / "img0001.fits").symlink_to(write_image(job.parent / "in" / "x.fits"))

    assert "is missing" in verify(application(IMAGES), job, [STEM], "", 0).why


@pytest.mark.parametrize(
    ("pixels", "require", "said"),
    [
        (np.zeros((9, 9), "f4"), Require(pixels=True), "its pixels are all zero or not finite."),
        (np.full((9, 9), np.nan, "f4"), Require(pixels=True), "its pixels are all zero or not finite."),
        (np.full((9, 9), 7, "i2"), Require(pixels=True), ""),
        (np.full((9, 9), 7, "i2"), Require(varied=True), "its pixels are all the same."),
        (np.full((9, 9), 7, "u2"), Require(cards=("CRVAL1",)), "its header has no CRVAL1."),
        (np.full((9, 9), 7, "f8"), Require(ccds=True), "it has 1 images for 2 CCDs."),
    ],
)
def test_an_image_without_content_does_not_pass(tmp_path, pixels, require, said):
    assert fault_of("fits", write_image(tmp_path / "x.fits", pixels), require, 2) == said


def test_a_single_good_pixel_is_found_wherever_it_is(tmp_path):
    pixels = np.zeros((700, 50), "f4")
    pixels[333, 17] = 1

    assert fault_of("fits", write_image(tmp_path / "x.fits", pixels), Require(pixels=True, varied=True), 1) == ""


@pytest.mark.parametrize("kind", ["fits", "ldac", "psf"])
def test_a_fits_file_that_is_cut_short_does_not_pass(tmp_path, kind):
    path = cut(write_ldac(tmp_path / "x.fits", rows=4000))

    assert "missing" in fault_of(kind, path, Require(), None)


@pytest.mark.parametrize(
    ("made", "said"),
    [
        ({}, ""),
        ({"rows": 3}, "it has 6 sources, and 10 are needed."),
        ({"FLUX_AUTO": 0.0}, "it is hollow: FLUX_AUTO is zero for all 20 sources of CCD 1."),
        ({"ERRAWIN_IMAGE": 0.0}, "it is hollow: ERRAWIN_IMAGE is zero for all 20 sources of CCD 1."),
        ({"ERRAWIN_IMAGE": math.nan}, "it is hollow: ERRAWIN_IMAGE is zero for all 20 sources of CCD 1."),
        ({"ccds": 1}, "it has sources of 1 CCDs, of 2."),
    ],
)
def test_a_hollow_catalogue_does_not_pass(tmp_path, made, said):
    path = write_ldac(tmp_path / "x.ldac", **{"ccds": 2, **made})
    require = Require(rows=10, not_all_zero=("FLUX_AUTO", "ERRAWIN_IMAGE"), ccds=True)

    assert fault_of("ldac", path, require, 2) == said


def test_a_catalogue_without_a_needed_column_does_not_pass(tmp_path):
    path = write_ldac(tmp_path / "x.ldac")

    assert fault_of("ldac", path, Require(columns=("VIGNET",)), 1) == "CCD 1 has no column VIGNET."


HEAD = "HISTORY by a tool\nCRVAL1  =  1.5E+02 / deg\nCTYPE1  = 'RA---TPV' / x\nEND     \n"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (HEAD * 2, ""),
        (HEAD, "it has headers of 1 CCDs, of 2."),
        (HEAD + HEAD[:40], "it cannot be read: the last header has no END: it is cut short."),
        (HEAD + HEAD.replace("1.5E+02", "nan"), "CCD 2: its header has CRVAL1 = nan."),
        (HEAD + HEAD.replace("CRVAL1", "CRVAL2"), "CCD 2: its header has no CRVAL1."),
        ("", "it is empty."),
    ],
)
def test_a_head_file_has_a_finite_solution_for_each_ccd(tmp_path, text, said):
    path = tmp_path / "x.head"
    path.write_text(text)

    assert fault_of("head", path, Require(cards=("CRVAL1",), ccds=True), 2) == said


def test_a_head_file_gives_its_cards_by_ccd():
    (cards,) = head_blocks(HEAD)

    assert cards["CRVAL1"] == 150.0
    assert cards["CTYPE1"] == "RA---TPV"


@pytest.mark.parametrize("name", ["M 51 & NGC 5195", "<script>alert(1)</script>", "a < b", "x\x01y"])
def test_a_votable_is_read_although_header_texts_reach_it_unescaped(tmp_path, name):
    path = tmp_path / "x.xml"
    path.write_text(XML.replace("{name}", "x").replace("img0001.fits", f"{name} img0001.fits"))

    assert fault_of("votable", path, Require(), None) == ""


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (XML[: len(XML) // 2], "cannot be read"),
        ("<html></html>", "it is no VOTable but html."),
        ('<!DOCTYPE x [<!ENTITY a "aaaa">]><VOTABLE>&a;</VOTABLE>', "declares a document type"),
    ],
)
def test_a_votable_that_is_cut_short_or_odd_does_not_pass(tmp_path, text, said):
    path = tmp_path / "x.xml"
    path.write_text(text)

    assert said in fault_of("votable", path, Require(), None)


def test_a_stack_that_left_ccds_out_does_not_pass(tmp_path):
    path = tmp_path / "x.xml"
    path.write_text(XML)

    assert fault_of("votable", path, Require(ccds=True, table="Rows"), 2) == ""
    assert fault_of("votable", path, Require(ccds=True, table="Rows"), 3) == "only 2 of 3 CCDs were used."


def tiff(pixels: bytes) -> bytes:
    tags = [(256, 4, 1, 4), (257, 4, 1, 4), (273, 4, 1, 8), (279, 4, 1, len(pixels))]
    directory = struct.pack("<H", len(tags)) + b"".join(struct.pack("<HHII", *tag) for tag in tags)
    return struct.pack("<2sHI", b"II", 42, 8 + len(pixels)) + pixels + directory + struct.pack("<I", 0)


def test_a_picture_whose_pixels_lie_beyond_its_end_does_not_pass(tmp_path):
    path = tmp_path / "x.tif"
    path.write_bytes(tiff(b"x" * 16))
    assert fault_of("tiff", path, Require(), None) == ""

    path.write_bytes(tiff(b"x" * 16).replace(struct.pack("<HHII", 279, 4, 1, 16), struct.pack("<HHII", 279, 4, 1, 999)))
    assert fault_of("tiff", path, Require(), None) == "it is cut short."
    path.write_bytes(tiff(b"x" * 16)[:20])
    assert fault_of("tiff", path, Require(), None) != ""


@pytest.mark.parametrize(
    ("kind", "content", "passes"),
    [
        ("pdf", b"%PDF-1.4\n...\n%%EOF\n", True),
        ("pdf", b"%PDF-1.4\n...", False),
        ("pdf", b"hello", False),
        ("text", b"1 2 3\n", True),
        ("text", b"# only a comment\n", False),
        ("any", b"x", True),
        ("any", b"", False),
    ],
)
def test_other_kinds_are_opened_too(tmp_path, kind, content, passes):
    path = tmp_path / "x"
    path.write_bytes(content)

    assert (fault_of(kind, path, Require(), None) == "") is passes


# Figures and limits

METRICS = """
[output.report]
file = "x.xml"
kind = "votable"
[metrics.largest]
output = "report"
table = "Rows"
field = "Size"
take = "most"
help = "x"
[metrics.rms]
output = "report"
table = "Rows"
field = "Size"
take = "rms"
over = "Scale"
help = "x"
[metrics.depth]
output = "report"
table = "MetaData"
field = "Depth"
scale = 2
help = "x"
[metrics.absent]
output = "report"
table = "Rows"
field = "Nothing"
help = "x"
"""


def test_figures_are_taken_as_the_descriptor_says(job):
    (job / "x.xml").write_text(XML)

    taken = figures(application(METRICS), job, [("report", None, job / "x.xml")], ["img0001", "img0002"])

    assert taken["largest"].value == 5.0
    assert (5.0, "img0002") in taken["largest"].each
    assert taken["rms"].value == pytest.approx(math.sqrt((0.5**2 + 1.5**2 + 1.25**2) / 3))
    assert taken["depth"].value == 6.0
    assert taken["absent"].value is None


def test_a_broken_limit_says_the_figure_the_limit_and_the_one_exposure_to_blame(job):
    (job / "x.xml").write_text(XML)
    stems = ["img0001", "img0002"]

    def verdict(limit: float):
        check = f'[[check]]\nmetric = "largest"\nmaximum = {limit}\nwords = "Too large"\n'
        return verify(application(METRICS + check), job, stems, "", 0)

    assert verdict(5).ending is Ending.DONE
    assert verdict(4).why == "Too large (largest is 5, should be at most 4): img0002."
    assert verdict(4).culprit == "img0002"
    assert verdict(0).culprit is None
    assert verdict(4).metrics["depth"] == 6.0


def test_a_limit_can_be_excused_by_another_figure(job):
    (job / "x.xml").write_text(XML)
    check = '[[check]]\nmetric = "largest"\nmaximum = 0\nunless = "depth"\nunless_at_most = 6\nwords = "Too large"\n'

    assert verify(application(METRICS + check), job, [STEM], "", 0).ending is Ending.DONE


def test_a_figure_of_a_catalogue_is_made_of_all_its_ccds(job):
    text = '[output.catalogue]\nfile = "{stem}.ldac"\nkind = "ldac"\n'
    text += '[metrics]\nsources = { output = "catalogue", take = "rows", help = "x" }\n'
    text += 'flux = { output = "catalogue", field = "FLUX_AUTO", take = "median", help = "x" }\n'
    write_ldac(job / "img0001.ldac", rows=7, ccds=3)

    verdict = verify(application(text), job, [STEM], "", 0)

    assert verdict.metrics == {"sources": 21.0, "flux": 1000.0}


# Before a start


@dataclass(frozen=True)
class Place:
    s_ra: float | None = 10.0
    s_dec: float | None = 20.0
    radius_deg: float | None = 0.5


BEFORE = """
[input.catalogue]
kind = "product"
product = "catalogue"
file = "{stem}.ldac"
minimum_rows = 10
columns = ["{FLUX_KEY}"]
[input.reference]
kind = "reference"
file = "reference.cat"
[[before]]
check = "usable_detections"
input = "catalogue"
columns = ["{FLUX_KEY}", "FLUXERR_AUTO"]
ratio = "{THRESHOLDS}"
least = 5
words = "too few usable detections"
[[before]]
check = "readable_positions"
input = "catalogue"
values = ["TAN", "TPV"]
words = "no astrometry to start from"
[[before]]
check = "stars_on_field"
input = "reference"
least = 5
words = "the reference does not cover the field"
"""


def looked_at(tmp_path: Path, places: dict[str, Place] | None = None, stars=None, **made: object) -> tuple[str, str]:
    tool = application('any_word = ["FLUX_KEY"]\nfree = ["THRESHOLDS"]\n' + BEFORE)
    settings = effective(tool, parse_keywords("FLUX_KEY FLUX_AUTO\nTHRESHOLDS 10.0,100.0\n"), [])
    catalogue = write_ldac(tmp_path / "img0001.ldac", **made)
    ra, dec = zip(*(stars or [(10.0 + step / 100, 20.0) for step in range(8)]), strict=True)
    reference = write_ldac(tmp_path / "reference.cat", X_WORLD=ra, Y_WORLD=dec, rows=len(ra))
    files = {"catalogue": [(STEM, catalogue)], "reference": [("", reference)]}
    return precheck(tool, files, places or {STEM: Place()}, settings)


def test_good_inputs_may_start(tmp_path):
    assert looked_at(tmp_path) == ("", "")


@pytest.mark.parametrize(
    ("made", "said"),
    [
        ({"rows": 5}, "img0001.ldac: it has 5 sources, and 10 are needed."),
        ({"FLUX_AUTO": 0.0}, "too few usable detections: img0001 has 0, and 5 are needed."),
        ({"FLUX_AUTO": 99.0}, "too few usable detections: img0001 has 0"),
        ({"FLUXERR_AUTO": 0.0}, "too few usable detections: img0001 has 0"),
        ({"FLUX_AUTO": math.nan}, "too few usable detections: img0001 has 0"),
        ({"cards": "CTYPE1  = 'RA---TAN'|CRVAL1  = NaN|END"}, "CCD 1 of img0001 has CRVAL1 = "),
        ({"cards": "CTYPE1  = 'RA---ZPN'|CRVAL1  = 1.0|END"}, "CCD 1 of img0001 has the projection RA---ZPN."),
        ({"cards": "CRVAL1  = 1.0|END"}, "CCD 1 of img0001 has no celestial coordinates"),
        ({"places": {STEM: Place(s_ra=12.0)}}, "does not cover the field: img0001 (RA 12.0000, Dec +20.0000"),
        ({"places": {STEM: Place(s_ra=None)}}, "where img0001 points is not known."),
    ],
)
def test_inputs_on_which_a_tool_is_known_to_hang_are_refused_with_the_exposure(tmp_path, made, said):
    why, culprit = looked_at(tmp_path, **made)

    assert said in why
    assert culprit == STEM


@pytest.mark.parametrize(
    ("place", "stars"),
    [
        (Place(s_ra=359.99, s_dec=0.0), [(0.01 * step, 0.0) for step in range(8)]),
        (Place(s_ra=0.0, s_dec=89.9), [(45.0 * step, 89.9) for step in range(8)]),
    ],
)
def test_stars_are_found_across_0h_and_around_the_pole(tmp_path, place, stars):
    assert looked_at(tmp_path, {STEM: place}, stars) == ("", "")


def test_a_reference_catalogue_may_be_a_plain_table_under_other_names(tmp_path):
    columns = [astropy_fits.Column("RA", "D", array=[1.0, 2.0]), astropy_fits.Column("DEC", "D", array=[3.0, np.nan])]
    astropy_fits.BinTableHDU.from_columns(columns).writeto(tmp_path / "x.fits")

    assert reference_positions(tmp_path / "x.fits") == [(1.0, 3.0)]


def test_a_reference_catalogue_without_positions_is_refused_with_the_columns_looked_for(tmp_path):
    path = write_ldac(tmp_path / "reference.cat")
    tool = application(BEFORE.split("[input.reference]")[0].replace('columns = ["{FLUX_KEY}"]', "") +
                       '[input.reference]\nkind = "reference"\nfile = "reference.cat"\n'
                       '[[before]]\ncheck = "stars_on_field"\ninput = "reference"\nwords = "x"\n')  # fmt: skip

    why, culprit = precheck(tool, {"reference": [("", path)]}, {STEM: Place()})

    assert "has no table with positions. Columns looked for: X_WORLD/Y_WORLD" in why
    assert culprit == ""


ADJUST = """
free = ["ZERO_OUT"]
any_word = ["ZERO_KEY"]
arguments = ["{catalogue}"]
[input.catalogue]
kind = "product"
product = "catalogue"
file = "{stem}.ldac"
[[adjust]]
input = "catalogue"
card = "{ZERO_KEY}"
set = { ZERO_OUT = "0.0" }
words = "no zero point"
"""


@pytest.mark.parametrize(
    ("cards", "layers", "value"),
    [
        ("CRVAL1  = 1.0|END", [], "0.0"),
        ("PHOT_C  = 25.0|END", [], "30.0"),
        ("CRVAL1  = 1.0|END", [("job file", {"ZERO_OUT": "25.0"})], "25.0"),
        ("MAGZPT  = 25.0|END", [("job file", {"ZERO_KEY": "MAGZPT"})], "30.0"),
    ],
)
def test_a_default_is_adjusted_when_the_headers_lack_a_card_and_nobody_chose_otherwise(tmp_path, cards, layers, value):
    head = 'title = "Tool"\nsummary = "x"\ncommand = ["tool"]\n'
    tool = parse_application(head + ADJUST, Path("tool.toml"))
    keywords = parse_keywords("ZERO_KEY PHOT_C\nZERO_OUT 0.0\n")
    settings = effective(tool, keywords, [("system: default", {"ZERO_OUT": "30.0"}), *layers])
    catalogue = write_ldac(tmp_path / "img0001.ldac", cards=cards)

    changed = adjusted(tool, {"catalogue": [(STEM, catalogue)]}, settings)
    argv = command_line(tool, ("tool",), {"catalogue": [(STEM, "../in/img0001.ldac")]}, changed).argv

    assert changed.value("ZERO_OUT") == value
    assert ("-ZERO_OUT" in argv) is (value == "0.0")
    assert settings.value("ZERO_OUT") in ("30.0", "25.0")


def test_the_descriptors_that_are_shipped_look_before_they_leap():
    assert {each.check for each in APPLICATIONS["scamp"].before} == {
        "usable_detections",
        "readable_positions",
        "stars_on_field",
    }
    assert {each.metric for each in APPLICATIONS["scamp"].checks} >= {"ccds_astray", "contrast_position"}


def test_a_votable_keeps_its_rows(tmp_path):
    (tmp_path / "x.xml").write_text(XML)

    assert len(list(votable(tmp_path / "x.xml").iter("TR"))) == 2

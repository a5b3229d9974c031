"""Applications on paper: descriptors, configurations and command lines, held against the tools that are installed.

Nothing is reduced here: test_applications_run.py runs the tools, test_applications_outputs.py judges what they leave.
"""

from __future__ import annotations

import argparse
import ast
import os
import re
import stat
from pathlib import Path

import pytest

from spicad.applications import before, figures, kinds
from spicad.applications.command import command_line
from spicad.applications.configuration import (
    Configuration,
    check,
    check_stored,
    columns_asked,
    columns_needed,
    effective,
    find_configuration,
    parse,
    read_configuration,
    stored_files,
    stored_target,
)
from spicad.applications.descriptor import (
    ADJUST_KEYS,
    BEFORE_CHECKS,
    BEFORE_KEYS,
    CHECK_KEYS,
    COLUMN_KEYS,
    FUNCTIONS,
    INPUT_KEYS,
    METRIC_KEYS,
    OUTPUT_KEYS,
    OUTPUT_KINDS,
    OWNED_KEYS,
    RANGE_KEYS,
    REQUIRE_KEYS,
    STORED_KEYS,
    TOP_KEYS,
    Application,
    load_applications,
    parse_application,
)
from spicad.applications.tools import find_tool, parse_keywords, tool_columns, tool_keywords
from spicad.commands import check as check_command
from spicad.words import BadInput, SpicaError

ROOT = Path(__file__).parent.parent
APPLICATIONS = load_applications(ROOT / "etc/applications")
SYSTEM = [("system", ROOT / "etc/configurations")]
TOOLS = [name for name, each in APPLICATIONS.items() if each.list_keywords]

# FACTS, measured with 77 probes: what each tool's configuration can be made to do.
DANGEROUS = {
    "sextractor": """
        CATALOG_NAME CHECKIMAGE_NAME XML_NAME PARAMETERS_NAME FILTER_NAME STARNNW_NAME WEIGHT_IMAGE FLAG_IMAGE
        DGEO_IMAGE ASSOC_NAME PSF_NAME SOM_NAME HEADER_SUFFIX XSL_URL NTHREADS MEMORY_OBJSTACK MEMORY_PIXSTACK
        MEMORY_BUFSIZE DETECT_THRESH
    """,
    "scamp": """
        CHECKPLOT_NAME REF_SERVER ASTREF_CATALOG MERGEDOUTCAT_NAME FULLOUTCAT_NAME HEADER_NAME HEADER_SUFFIX
        CHECKIMAGE_NAME DGEOMAP_NAME XML_NAME REFOUT_CATPATH ASTREFCAT_NAME AHEADER_GLOBAL AHEADER_NAME
        AHEADER_SUFFIX XSL_URL NTHREADS MATCH_RESOL DISTORT_DEGREES CHECKPLOT_RES CHECKPLOT_DEV
    """,
    "swarp": """
        IMAGEOUT_NAME WEIGHTOUT_NAME HEADEROUT_NAME RESAMPLE_DIR RESAMPLE_SUFFIX DELETE_TMPFILES VMEM_DIR
        CLIP_LOGNAME XML_NAME HEADER_NAME HEADER_SUFFIX WEIGHT_IMAGE WEIGHT_SUFFIX XSL_URL NTHREADS MEM_MAX
        VMEM_MAX COMBINE_BUFSIZE IMAGE_SIZE PIXEL_SCALE
    """,
    "psfex": """
        CHECKPLOT_NAME PSF_DIR PSF_SUFFIX OUTCAT_NAME CHECKIMAGE_NAME HOMOKERNEL_DIR HOMOKERNEL_SUFFIX
        XML_NAME BASIS_NAME BASIS_TYPE XSL_URL NTHREADS PSF_SIZE CHECKPLOT_RES CHECKPLOT_DEV
    """,
    "missfits": """
        SAVE_TYPE OUTFILE_TYPE SPLIT_SUFFIX SLICE_SUFFIX SLICEKEY_FORMAT NEW_SUFFIX XML_NAME HEADER_SUFFIX
        XSL_URL NTHREADS
    """,
    "weightwatcher": """
        OUTWEIGHT_NAME OUTFLAG_NAME XML_NAME WEIGHT_NAMES FLAG_NAMES POLY_NAMES XSL_URL NTHREADS
        MEMORY_BUFSIZE
    """,
    "stiff": """
        OUTFILE_NAME VMEM_DIR XML_NAME XSL_URL NTHREADS MEM_MAX VMEM_MAX
    """,
    "astrometrix": """
        ASTREFCAT_NAME HEADER_SUFFIX OUTPUT_DIR RESIDUALS_NAME METRICS_NAME XML_NAME PLOT_NAME WRITE_XML WRITE_PLOTS
    """,
    "photometrix": """
        HEADER_SUFFIX OUTPUT_DIR REFERENCE_NAME CHECKPLOTS ITERATIONS_MAX
    """,
    "qualityfits": """
        FLAT_NAME WEIGHT_NAME MASK_NAME ASTREFCAT_NAME ORIGINS_NAME EARLIER_NAME OUTPUT_DIR OUTPUT_NAME INSTRUMENTS_DIR
        QUALITY_DIR NTHREADS PSFVAR_DEGREES PREVIEW_SIZE
    """,
    "preprocess": """
        OUTPUT_DIR MASTER_NAME BIAS_NAME DARK_NAME FLAT_NAME SKYFLAT_NAME FRINGE_NAME MASK_NAME CROSSTALK_NAME
    """,
    "master-bias": "OUTPUT_DIR MASTER_NAME BIAS_NAME DARK_NAME FLAT_NAME MASK_NAME CROSSTALK_NAME",
    "master-dark": "OUTPUT_DIR MASTER_NAME BIAS_NAME DARK_NAME FLAT_NAME MASK_NAME CROSSTALK_NAME",
    "master-flat": "OUTPUT_DIR MASTER_NAME BIAS_NAME DARK_NAME FLAT_NAME MASK_NAME CROSSTALK_NAME",
    "qualityfits-stack": """
        FLAT_NAME WEIGHT_NAME MASK_NAME ASTREFCAT_NAME STACK ORIGINS_NAME EARLIER_NAME OUTPUT_DIR OUTPUT_NAME
        INSTRUMENTS_DIR QUALITY_DIR NTHREADS PSFVAR_DEGREES PREVIEW_SIZE
    """,
}
ATTACKS = (
    "/etc/passwd",
    "../in/img0001.fits",
    "../../../../tmp/x",
    "x;touch_pwned",
    "`id`",
    "$HOME",
    "@/etc/hosts",
    "|sh",
    "%n%n%n",
    "x,../y",
    "999999999999",
)


def installed(name: str) -> Application:
    """The application, where its tool is installed; only a desk may lack one."""
    try:
        find_tool(APPLICATIONS[name])
    except SpicaError as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(error))
    return APPLICATIONS[name]


def keywords_of(application: Application):
    return tool_keywords(find_tool(application), application)


def problems_of(name: str, text: str) -> list[str]:
    application = installed(name)
    try:
        written = parse(text, "mine.conf")
    except BadInput as error:
        return [str(problem) for problem in error.problems]
    return [str(problem) for problem in check(application, written, keywords_of(application), SYSTEM)]


# Descriptors


def test_seven_tools_and_our_own_program_are_described():
    assert set(TOOLS) == set(DANGEROUS)
    assert {name for name, each in APPLICATIONS.items() if each.is_our_own} == {
        "prepare", "prepare-map", "photometrix", "astrometrix", "qualityfits", "qualityfits-stack", "preprocess",
        "master-bias", "master-dark", "master-flat",
    }  # fmt: skip


def test_no_tool_is_named_in_the_code():
    names = {word.lower() for name in TOOLS for word in (name, *APPLICATIONS[name].command)}

    for source in (ROOT / "spicad/applications").glob("*.py"):
        tree = ast.parse(source.read_text())
        docstrings = {
            node.body[0].value
            for node in ast.walk(tree)
            if isinstance(node, ast.Module | ast.FunctionDef | ast.ClassDef) and ast.get_docstring(node)
        }
        texts = [n.value for n in ast.walk(tree) if isinstance(n, ast.Constant) and n not in docstrings]
        words = {word.lower() for text in texts if isinstance(text, str) for word in re.findall(r"[\w-]+", text)}
        assert not words & names, f"{source.name} names {words & names}"


def test_the_manual_names_every_key_of_a_descriptor():
    manual = (ROOT / "man/spica-application.5").read_text()
    tables = (TOP_KEYS, INPUT_KEYS, OUTPUT_KEYS, REQUIRE_KEYS, OWNED_KEYS, STORED_KEYS, RANGE_KEYS, COLUMN_KEYS)
    keys = {key.name for table in (*tables, METRIC_KEYS, CHECK_KEYS, BEFORE_KEYS, ADJUST_KEYS) for key in table}

    words = set(re.findall(r"\w+", manual))

    assert not keys - words
    assert not set(FUNCTIONS) - words
    assert not set(BEFORE_CHECKS) - words


def test_what_a_descriptor_may_name_is_what_the_code_has():
    assert set(FUNCTIONS) == set(figures.FUNCTIONS)
    assert set(BEFORE_CHECKS) == set(before.CHECKS)
    assert set(OUTPUT_KINDS) == set(kinds.KINDS)


def test_a_wrong_descriptor_is_refused_with_every_line_that_is_wrong(tmp_path):
    text = """title = "x"
summary = "x"
comand = ["x"]
arguments = ["{exposure}", "{expsoure}"]
free = ["A"]

[input.exposure]
kind = "picture"
file = "{stem}.fits"
"""
    with pytest.raises(BadInput) as caught:
        parse_application(text, tmp_path / "x.toml")

    said = str(caught.value)
    assert 'line 3: unknown key "comand". Did you mean "command"?' in said
    assert '"command" is missing' in said


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('arguments = ["{expsoure}"]', '"{expsoure}" is not an input of this application. Did you mean "exposure"?'),
        ('arguments = []\nfree = ["A"]\n[capped]\nA = 1', 'keyword "A" stands in free and in range.'),
        ('arguments = []\n[owned]\nA = { value = "x", when = "wieght" }', '"{wieght}" is not an input'),
        ('arguments = []\n[[check]]\nmetric = "size"\nwords = "x"', '"size" is not a metric'),
        ('arguments = []\n[metrics.size]\noutput = "imgae"\nhelp = "x"', '"imgae", which is not an output'),
        ('arguments = []\n[output.image]\nkind = "fits"\nfile = "../x.fits"', '"../x.fits" is not a plain file name'),
        ('arguments = []\n[output.image]\nkind = "fits"\nfile = "-x.fits"', '"-x.fits" is not a plain file name'),
        (
            'arguments = []\n[[before]]\ncheck = "x"\ninput = "exposure"\nwords = "x"',
            "must be one of usable_detections",
        ),
        ('arguments = []\npassed_over = ["A"]', '"A" is passed over but not owned'),
    ],
)
def test_a_descriptor_that_contradicts_itself_is_refused(tmp_path, line, said):
    head = 'title = "x"\nsummary = "x"\ncommand = ["x"]\n'
    text = head + line + '\n[input.exposure]\nkind = "exposure"\nfile = "{stem}.fits"\n'

    with pytest.raises(BadInput) as caught:
        parse_application(text, tmp_path / "x.toml")

    assert said in str(caught.value)
    assert re.search(r"x\.toml, line \d+: ", str(caught.value))


def test_the_problems_of_all_descriptors_are_told_at_once(tmp_path):
    (tmp_path / "one.toml").write_text("title = 3\n")
    (tmp_path / "two.toml").write_text("title = \n")

    with pytest.raises(BadInput) as caught:
        load_applications(tmp_path)

    assert "one.toml, line 1" in str(caught.value)
    assert "two.toml, line 1" in str(caught.value)


# Tools


def test_a_missing_tool_names_what_was_looked_for_and_the_package():
    text = (
        'title = "T"\nsummary = "x"\ncommand = ["no-such", "nor-this"]\narguments = []\npackages = { debian = "tee" }\n'
    )
    application = parse_application(text, Path("t.toml"))

    with pytest.raises(
        SpicaError, match=r"none of no-such, nor-this is in PATH\. Install the package \(debian: tee\)\."
    ):
        find_tool(application)


@pytest.mark.parametrize("name", TOOLS)
def test_every_keyword_that_a_tool_lists_is_understood(name):
    application = installed(name)
    tool = find_tool(application)

    keywords = tool_keywords(tool, application)

    assert re.match(r"\d+\.\d+", tool.version)
    assert len(keywords) >= 20
    assert not application.owned.keys() - keywords.keys()
    assert not application.open_keywords - keywords.keys()
    assert {each.kind for each in keywords.values()} == {"number", "yes or no", "choice", "text"}


def test_keywords_are_read_with_default_kind_and_allowed_values():
    text = """
# Default configuration file
SKY_TYPE         AUTO           # AUTO or MANUAL
CHECK_TYPE       NONE           # can be NONE, BACKGROUND,
                                # -OBJECTS or APERTURES
MASK             0x00fc         # rejection mask
APERS            2.5, 3.5       # parameters: <FACTOR>,<MIN>
CLEAN            Y              # Clean (Y or N)?
KEY              GAIN           # keyword for gain in e-/ADU
THRESH                          # threshold[s]
FRAME_TYPE       TAN            # Any WCS projection code or NONE
"""
    keywords = parse_keywords(text)

    assert [each.kind for each in keywords.values()] == [
        "choice",
        "choice",
        "number",
        "number",
        "yes or no",
        "text",
        "text",
        "choice",
    ]
    assert keywords["CHECK_TYPE"].allowed == ("NONE", "BACKGROUND", "-OBJECTS", "APERTURES")
    assert keywords["APERS"].default == "2.5, 3.5"


def test_a_tool_is_asked_once_until_its_file_changes(tmp_path):
    tool_file, asked, cache = tmp_path / "tool", tmp_path / "asked", tmp_path / "cache"

    def install(keyword: str) -> None:
        tool_file.write_text(f"#!/bin/sh\necho x >> {asked}\nprintf '{keyword}  1  # x\\n'\n")
        tool_file.chmod(0o755)

    text = 'title = "T"\nsummary = "x"\ncommand = ["tool"]\narguments = []\nlist_keywords = "-dd"\nversion = ""\n'
    application = parse_application(text, Path("t.toml"))
    install("FIRST")

    for _ in range(3):
        keywords = tool_keywords(find_tool(application, [tmp_path]), application, cache)
    assert list(keywords) == ["FIRST"]
    assert asked.read_text().count("x") == 1

    install("SECOND_KEYWORD")
    assert list(tool_keywords(find_tool(application, [tmp_path]), application, cache)) == ["SECOND_KEYWORD"]
    assert asked.read_text().count("x") == 2


def test_a_tool_that_answers_nothing_is_no_tool(tmp_path):
    (tmp_path / "tool").write_text("#!/bin/sh\nexit 0\n")
    (tmp_path / "tool").chmod(0o755)
    text = 'title = "T"\nsummary = "x"\ncommand = ["tool"]\narguments = []\nlist_keywords = "-dd"\n'
    application = parse_application(text, Path("t.toml"))

    with pytest.raises(SpicaError, match="lists no keywords"):
        tool_keywords(find_tool(application, [tmp_path]), application)


# Configurations


@pytest.mark.parametrize("name", TOOLS)
def test_the_configurations_that_are_shipped_pass_with_all_they_name(name):
    application = installed(name)
    tool = find_tool(application)
    shipped = sorted((ROOT / "etc/configurations" / name).glob("*.conf"))
    assert application.configuration in [path.stem for path in shipped]

    for path in shipped:
        written = read_configuration(path)
        assert check(application, written, tool_keywords(tool, application), SYSTEM) == []
        settings = effective(application, tool_keywords(tool, application), [("system", written)])
        for keyword, (_, stored) in stored_files(application, settings, SYSTEM).items():
            assert check_stored(application, keyword, stored, tool_columns(tool, application)) == []


@pytest.mark.parametrize("name", TOOLS)
def test_a_full_dump_of_the_tools_own_defaults_can_be_pasted(name):
    application = installed(name)
    keywords = keywords_of(application)
    dump = "".join(f"{each.name}\t{each.default}   # {each.comment}\n"[:390] for each in keywords.values())

    assert problems_of(name, dump) == []
    written = effective(application, keywords, [("dump", parse(dump, "dump"))]).text()
    assert not re.search(
        rf"^({'|'.join(application.owned.keys() | application.stored.keys())})\s", written, re.MULTILINE
    )


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("DETECT_TRESH 3", 'SExtractor has no keyword DETECT_TRESH. Did you mean "DETECT_THRESH"?'),
        ("MASK_TYPE CORECT", 'MASK_TYPE cannot be CORECT. Did you mean "CORRECT"?'),
        ("BACK_TYPE 3", "BACK_TYPE cannot be 3. It can be AUTO, MANUAL."),
        ("FILTER maybe", "FILTER is maybe but must be Y or N."),
        ("PHOT_APERTURES 5,ten", "PHOT_APERTURES: ten is not a number."),
        ("GAIN nan", "GAIN: nan is not a number."),
        ("GAIN 1e300", "GAIN is 1e300, which no tool can hold."),
        ("THRESH_TYPE", "THRESH_TYPE has no value. The default is RELATIVE."),
        ("MEMORY_PIXSTACK 200000000", "MEMORY_PIXSTACK is 200000000 but must be at most 100000000."),
        ("BACK_SIZE 64,2", "BACK_SIZE is 2 but must be at least 4."),
        ("CATALOG_NAME mine.cat", "CATALOG_NAME is set by Spica (anew for each step), not by configurations."),
        ("CHECKIMAGE_TYPE OBJECTS", "CHECKIMAGE_TYPE is set by Spica (to NONE), not by configurations."),
        (
            "WEIGHT_TYPE MAP_RSM",
            "WEIGHT_TYPE cannot be MAP_RSM. It can be MAP_WEIGHT, MAP_RMS, MAP_VAR, NONE, BACKGROUND.",
        ),
        (
            "PARAMETERS_NAME nodefault.param",
            'no stored file nodefault.param for PARAMETERS_NAME. Did you mean "default.param"?',
        ),
        ("FILTER_NAME ../x.conv", "FILTER_NAME takes the bare name of a stored file like *.conv, not ../x.conv."),
        ("FILTER_NAME default.param", "FILTER_NAME takes the bare name of a stored file like *.conv"),
        ("GAIN_KEY a/b", "GAIN_KEY: a/b is not a plain word."),
    ],
)
def test_what_is_wrong_with_a_setting_is_told_with_its_line_and_the_mend(line, said):
    (problem,) = problems_of("sextractor", f"# mine\n\nDETECT_MINAREA 5\n{line}   # why not\n")

    assert problem.startswith("mine.conf, line 4: ")
    assert said in problem


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("GAIN_KEY $HOME\n", "line 1: GAIN_KEY: holds $"),
        ("GAIN_KEY @list\n", "line 1: GAIN_KEY: holds @"),
        ("GAIN_KEY a;b\n", "line 1: GAIN_KEY: holds ;"),
        ("GAIN_KEY `id`\n", "line 1: GAIN_KEY: holds `"),
        ("GAIN_KEY " + "A" * 400 + "\n", "line 1: GAIN_KEY: longer than 400 characters"),
        ("GAIN_KEY a\x00b\n", "line 1: GAIN_KEY: holds '\\x00', which is not plain ASCII"),
        ("GAIN_KEY a\x1b[2Jb\n", "line 1: GAIN_KEY: holds '\\x1b'"),
        ("# caf\xe9\n", "line 1: holds 'é'"),
        ("GAIN 1\n\nGAIN 2\n", "line 3: GAIN was already set in line 1."),
        ("-NTHREADS 8\n", 'line 1: "-NTHREADS" is not a keyword.'),
        ("GAIN 1\n" * 2001, "more than 2000 lines"),
    ],
)
def test_a_file_that_no_tool_should_read_is_refused_by_line(text, said):
    with pytest.raises(BadInput) as caught:
        parse(text, "mine.conf")

    assert said in str(caught.value)


def test_spaces_tabs_equal_signs_and_case_are_read_as_the_tools_do():
    written = parse("\tgain\t=\t2.5\nPHOT_AUTOPARAMS 2.5,  3.5 # two\r\nBACK_SIZE=64\n\n#x\n", "mine.conf")

    assert written.values == {"GAIN": "2.5", "PHOT_AUTOPARAMS": "2.5,3.5", "BACK_SIZE": "64"}
    assert written.settings["BACK_SIZE"].line == 3


@pytest.mark.parametrize("value", ["a\nCATALOG_NAME /x", "$HOME", "x" * 500])
def test_a_single_setting_of_a_job_file_cannot_smuggle_in_another(value):
    with pytest.raises(BadInput):
        Configuration.of({"GAIN_KEY": value}, "job, [set.sextractor]")


@pytest.mark.parametrize("name", TOOLS)
def test_no_dangerous_keyword_is_left_to_a_configuration(name):
    application = installed(name)
    dangerous = set(DANGEROUS[name].split())
    keywords = keywords_of(application)
    assert not dangerous - keywords.keys()

    assert not dangerous & application.free
    assert not dangerous & application.any_word


@pytest.mark.parametrize("name", TOOLS)
def test_no_open_keyword_has_a_file_for_its_default(name):
    application = installed(name)
    names_a_file = re.compile(r"[\w-]*\.[a-z]{2,}|.*/.*|\.")

    for keyword in keywords_of(application).values():
        if names_a_file.fullmatch(keyword.default) and keyword.kind == "text":
            assert keyword.name not in application.free | application.any_word


@pytest.mark.slow
@pytest.mark.parametrize("name", TOOLS)
def test_an_attack_by_any_dangerous_keyword_is_refused_or_has_no_effect(name):
    application = installed(name)
    keywords = keywords_of(application)
    refused = 0

    for keyword in DANGEROUS[name].split():
        for attack in ATTACKS:
            said = problems_of(name, f"{keyword} {attack}\n")
            refused += bool(said)
            if not said:
                settings = effective(application, keywords, [("mine", Configuration.of({keyword: attack}, "mine"))])
                written_value = re.search(rf"^{keyword}\s+(\S+)", settings.text(), re.MULTILINE)
                assert keyword in application.passed_over
                assert written_value is None

    assert refused >= 0.8 * len(ATTACKS) * len(DANGEROUS[name].split())


def test_a_keyword_that_a_newer_tool_brings_is_closed():
    application = installed("swarp")
    newer = dict(keywords_of(application)) | parse_keywords("HOOK_COMMAND  true  # run after each image\n")

    (problem,) = check(application, parse("HOOK_COMMAND rm\n", "mine.conf"), newer)

    assert "HOOK_COMMAND is not open to configurations." in str(problem)


# Layers, names, stored files


def test_the_later_layer_wins_and_each_keyword_knows_who_set_it():
    application = installed("swarp")
    layers = [
        ("system: default", parse("COMBINE_TYPE MEDIAN\nBACK_SIZE 128\n", "default.conf")),
        ("job file", {"COMBINE_TYPE": "AVERAGE", "IMAGEOUT_NAME": "/tmp/x"}),
    ]

    settings = effective(application, keywords_of(application), layers)

    assert settings.settings["COMBINE_TYPE"] == ("AVERAGE", "job file")
    assert settings.settings["BACK_SIZE"] == ("128", "system: default")
    assert settings.settings["RESAMPLING_TYPE"] == ("LANCZOS3", "the tool's default")
    assert "IMAGEOUT_NAME" not in settings.settings
    assert re.search(r"^COMBINE_TYPE +AVERAGE +# job file$", settings.text(), re.MULTILINE)
    assert max(map(len, settings.text().splitlines())) < 400


def test_the_digest_tells_values_apart_and_not_who_set_them():
    application = installed("swarp")
    keywords = keywords_of(application)

    default = effective(application, keywords, [])
    spelled_out = effective(application, keywords, [("mine", {"COMBINE_TYPE": "MEDIAN"})])
    changed = effective(application, keywords, [("mine", {"COMBINE_TYPE": "AVERAGE"})])

    assert default.digest() == spelled_out.digest()
    assert default.digest() != changed.digest()


def test_the_nearest_level_wins(tmp_path):
    application = APPLICATIONS["swarp"]
    for level in ("user", "group"):
        (tmp_path / level / "swarp").mkdir(parents=True)
        (tmp_path / level / "swarp" / "deep.conf").write_text("BACK_SIZE 64\n")
    folders = [("user", tmp_path / "user"), ("group", tmp_path / "group"), *SYSTEM]

    assert find_configuration("deep", application, folders) == ("user", tmp_path / "user/swarp/deep.conf")
    assert find_configuration("default", application, folders)[0] == "system"


@pytest.mark.parametrize("name", ["../swarp/default", "/etc/passwd", "", ".hidden", "a b", "-x", "a\nb", "x" * 200])
def test_the_name_of_a_configuration_is_no_path(name):
    with pytest.raises(BadInput, match="cannot be the name of a configuration"):
        find_configuration(name, APPLICATIONS["swarp"], SYSTEM)


def test_an_unknown_configuration_names_the_nearest():
    with pytest.raises(BadInput, match=r'there is no configuration "defualt"\. Did you mean "default"\?'):
        find_configuration("defualt", APPLICATIONS["swarp"], SYSTEM)


@pytest.mark.parametrize(
    ("keyword", "name", "content", "said"),
    [
        ("PARAMETERS_NAME", "x.param", "NUMBER\nFLUX_ATUO\n", "line 2: SExtractor has no output column FLUX_ATUO"),
        ("PARAMETERS_NAME", "x.param", "VIGNET(2000,2000)\n", "at most 10201 elements"),
        ("PARAMETERS_NAME", "x.param", "VECTOR_ASSOC(3)\n", "cannot be asked for: it needs a list of positions"),
        ("PARAMETERS_NAME", "x.param", "root:x:0:0:root\n", "is not an output column"),
        ("FILTER_NAME", "x.conv", "CONV NORM\n1 2 1\n2 root 2\n", 'line 3: "root" is not a number'),
        ("FILTER_NAME", "x.conv", "CONV NORM\n" + "1 " * 300, "longer than 400 characters"),
    ],
)
def test_a_stored_file_is_read_before_a_tool_reads_it(tmp_path, keyword, name, content, said):
    application = installed("sextractor")
    (tmp_path / name).write_text(content)

    problems = check_stored(application, keyword, tmp_path / name, tool_columns(find_tool(application), application))

    assert said in str(problems[0])


def test_a_header_that_would_make_a_huge_image_is_refused(tmp_path):
    (tmp_path / "x.ahead").write_text("NAXIS1  =  2000000000\nEND\n")

    (problem,) = check_stored(APPLICATIONS["swarp"], "HEADEROUT_NAME", tmp_path / "x.ahead")

    assert "NAXIS1 is 2000000000 but must be less than 100000" in str(problem)


def test_the_columns_that_a_later_task_needs_follow_its_configuration():
    application = installed("scamp")
    settings = effective(application, keywords_of(application), [("mine", {"PHOTFLUX_KEY": "FLUX_APER(2)"})])

    needed = columns_needed(application.inputs["catalogue"], settings)

    assert {"XWIN_IMAGE", "ERRAWIN_IMAGE", "FLUX_APER", "FLUXERR_AUTO", "FLAGS"} <= set(needed)
    shipped = columns_asked((ROOT / "etc/configurations/sextractor/default.param").read_text())
    assert set(needed) <= shipped


# Command lines


def files(application: Application, *stems: str, **inputs: tuple[str, ...]) -> dict[str, list[tuple[str, str]]]:
    return {
        name: [(stem, application.inputs[name].path_for(stem)) for stem in given]
        for name, given in (inputs or {"exposure": stems}).items()
    }


def value_of(argv: tuple[str, ...], keyword: str) -> str | None:
    return argv[argv.index(f"-{keyword}") + 1] if f"-{keyword}" in argv else None


def test_every_owned_keyword_and_stored_file_is_forced_on_the_command_line():
    application = installed("sextractor")
    settings = effective(application, keywords_of(application), [("mine", {"PARAMETERS_NAME": "mine.param"})])

    line = command_line(application, ("sex",), files(application, "img0007"), settings, threads=2)

    assert line.argv[:4] == ("sex", "../in/img0007.fits", "-c", "../cfg/sextractor.conf")
    for keyword, owned in application.owned.items():
        assert value_of(line.argv, keyword) is not None or owned.when
    assert value_of(line.argv, "CATALOG_NAME") == "img0007.ldac"
    assert value_of(line.argv, "NTHREADS") == "2"
    assert value_of(line.argv, "PARAMETERS_NAME") == "../cfg/" + stored_target(application, "PARAMETERS_NAME")


def test_what_depends_on_the_machine_is_not_in_the_template():
    application = APPLICATIONS["sextractor"]
    one = command_line(application, ("/usr/bin/sex",), files(application, "img0001"), threads=1)
    other = command_line(application, ("/opt/source-extractor",), files(application, "img0001"), threads=8)

    assert one.argv != other.argv
    assert one.template == other.template


def test_a_step_without_weights_does_not_ask_for_them():
    application = APPLICATIONS["sextractor"]

    without = command_line(application, ("sex",), files(application, "img0001")).argv
    given = files(application, exposure=("img0001",), weight=("img0001",))
    with_weight = command_line(application, ("sex",), given).argv

    assert (value_of(without, "WEIGHT_TYPE"), value_of(without, "WEIGHT_IMAGE")) == ("NONE", None)
    assert value_of(with_weight, "WEIGHT_TYPE") == "MAP_WEIGHT"
    assert value_of(with_weight, "WEIGHT_IMAGE") == "../in/img0001.weight.fits"


def test_a_configuration_may_choose_among_the_values_that_spica_offers():
    application = installed("sextractor")
    settings = effective(application, keywords_of(application), [("mine", {"WEIGHT_TYPE": "MAP_VAR"})])
    given = files(application, exposure=("img0001",), weight=("img0001",))

    with_weight = command_line(application, ("sex",), given, settings).argv
    without = command_line(application, ("sex",), files(application, "img0001"), settings).argv

    assert value_of(with_weight, "WEIGHT_TYPE") == "MAP_VAR"
    assert value_of(without, "WEIGHT_TYPE") == "NONE"


def test_hundreds_of_inputs_go_through_a_list():
    application = APPLICATIONS["swarp"]
    stems = tuple(f"img{number:04d}" for number in range(1, 501))

    line = command_line(application, ("SWarp",), files(application, *stems))

    assert line.argv[1] == "@../cfg/exposure.list"
    assert line.lists["exposure.list"].splitlines()[:2] == ["../in/img0001.fits", "../in/img0002.fits"]
    assert len(line.argv) < 60


def test_weights_for_some_exposures_become_a_list_while_it_is_short_enough():
    application = APPLICATIONS["swarp"]
    few = files(application, exposure=("img0001", "img0002", "img0003"), weight=("img0002",))
    stems = tuple(f"img{number:04d}" for number in range(1, 2001))
    many = files(application, exposure=stems, weight=stems[:-1])

    assert value_of(command_line(application, ("SWarp",), few).argv, "WEIGHT_TYPE") == "NONE,MAP_WEIGHT,NONE"
    with pytest.raises(SpicaError, match="more than a tool can hold"):
        command_line(application, ("SWarp",), many)


def test_only_names_made_by_spica_reach_a_command_line():
    application = APPLICATIONS["sextractor"]

    for name in ("-c", "../in/a b.fits", "/data/x.fits", "../in/../x.fits", "@list", "x;y.fits", "x[1]"):
        with pytest.raises(SpicaError, match="is not a name made by Spica"):
            command_line(application, ("sex",), {"exposure": [("img0001", name)]})


def test_a_missing_input_is_named():
    application = APPLICATIONS["scamp"]

    with pytest.raises(SpicaError, match='SCAMP needs its input "reference"'):
        command_line(application, ("scamp",), files(application, catalogue=("img0001",)))


def test_our_own_program_needs_no_configuration():
    application = APPLICATIONS["prepare"]
    tool = find_tool(application)

    line = command_line(application, tool.program, {"exposure": [("img0001", "../in/img0001.fits.fz")]})

    assert line.argv[1:] == ("-m", "spicad.reduction.prepare", "../in/img0001.fits.fz", "img0001.fits")
    assert tool_keywords(tool, application) == {}


def test_limits_grow_with_the_exposures():
    application = APPLICATIONS["scamp"]

    assert application.memory_for(100) > application.memory_for(1) >= application.memory_mb
    assert application.time_for(100) > application.time_for(1) >= application.time_s


# spica check


@pytest.fixture
def spica_check(monkeypatch, capsys):
    monkeypatch.setenv("SPICA_CONF", str(ROOT / "etc/spica.conf"))

    def run(*words: str) -> tuple[int, str, str]:
        parser = argparse.ArgumentParser()
        check_command.add_arguments(parser)
        status = check_command.run(parser.parse_args(words))
        return status, *capsys.readouterr()

    return run


def test_spica_check_passes_a_good_file(spica_check):
    installed("swarp")

    status, out, _ = spica_check("swarp", str(ROOT / "etc/configurations/swarp/default.conf"))

    assert status == 0
    assert "fine for SWarp" in out


def test_spica_check_prints_each_problem_on_a_line(spica_check, tmp_path):
    installed("sextractor")
    mine = tmp_path / "mine.conf"
    mine.write_text("PARAMETERS_NAME mine.param\nDETECT_TRESH 2\nGAIN x\n")
    (tmp_path / "mine.param").write_text("NUMBER\n")

    status, out, _ = spica_check("sextractor", str(mine))

    assert status == 2
    assert [line.split(": ")[0] for line in out.splitlines()] == [f"{mine}, line 2", f"{mine}, line 3"]


def test_spica_check_looks_into_the_files_that_a_configuration_names(spica_check, tmp_path):
    installed("sextractor")
    (tmp_path / "mine.conf").write_text("PARAMETERS_NAME mine.param\n")
    (tmp_path / "mine.param").write_text("NUMBER\nFLUX_ATUO\n")

    named = spica_check("sextractor", str(tmp_path / "mine.conf"))
    alone = spica_check("sextractor", str(tmp_path / "mine.param"))

    assert named[0] == alone[0] == 2
    assert "mine.param, line 2" in named[1]
    assert 'Did you mean "FLUX_AUTO"?' in alone[1]


def test_spica_check_says_what_it_cannot_check(spica_check, tmp_path):
    assert spica_check("sextracto", "x.conf")[::2] == (
        2,
        'spica check: unknown application "sextracto". Did you mean "sextractor"?\n',
    )
    installed("swarp")
    assert spica_check("swarp", str(tmp_path / "none.conf"))[0] == 1


def test_the_files_that_are_shipped_can_be_read_by_everyone():
    for path in [*(ROOT / "etc/applications").iterdir(), *(ROOT / "etc/configurations").rglob("*.*")]:
        assert path.stat().st_mode & stat.S_IROTH

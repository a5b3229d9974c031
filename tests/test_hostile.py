"""What attacks: drops, names, configurations, tools and FITS files, all through a real daemon with the real tools.

Each is refused or contained and named, and the daemon goes on. Single checks are in test_applications.py, test_spool.py
and test_broken_files.py; here it is held that nothing slips through between them.
"""

from __future__ import annotations

import json
import os
import signal
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import broken
import numpy as np
import psutil
import pytest
from broken import BROKEN, make_broken
from conftest import SpicaWithTools, wait_until

from spicad import parts
from spicad.applications.descriptor import load_applications
from spicad.reduction.sky import SkyMade, make_sky
from spicad.reduction.sky_options import SkyOptions
from spicad.steps import step_record

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parent.parent
APPLICATIONS = load_applications(ROOT / "etc/applications")
SEED = 20_040_321


class Canary:
    """A folder outside of everything that Spica may touch, and a port that nobody may call."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        self.file = folder / "canary"
        self.file.write_text("alive")
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.listener.setblocking(False)
        self.port = self.listener.getsockname()[1]

    def is_well(self) -> bool:
        return [path.name for path in self.folder.iterdir()] == ["canary"] and self.file.read_text() == "alive"

    def was_called(self) -> bool:
        try:
            self.listener.accept()[0].close()
        except BlockingIOError:
            return False
        return True


@pytest.fixture(scope="module")
def canary(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Canary]:
    canary = Canary(tmp_path_factory.mktemp("outside") / "cage")
    yield canary
    canary.listener.close()


@pytest.fixture(scope="module")
def spica(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SpicaWithTools]:
    spica = SpicaWithTools(tmp_path_factory.mktemp("hostile"))
    spica.conf.write_text(spica.conf.read_text().replace("[paths]\n", '[paths]\nprograms = ["programs"]\n'))
    for name, (descriptor, program) in OWN_TOOLS.items():
        (spica.folder / "programs").mkdir(exist_ok=True)
        (spica.folder / "programs" / name).write_text(program)
        (spica.folder / "programs" / name).chmod(0o755)
        spica.application(name, descriptor)
    spica.start()
    yield spica
    spica.end()


@pytest.fixture(scope="module")
def sky(spica: SpicaWithTools) -> SkyMade:
    options = SkyOptions(exposures=2, ccds=2, size=300, filters=("r",), stars=120, seed=5)
    return make_sky(spica.archive / "sky", options)


@pytest.fixture(autouse=True)
def _all_is_well(spica: SpicaWithTools, canary: Canary) -> Iterator[None]:
    """After each test: the daemon is up and takes work, nothing got out, nothing is left running."""
    yield
    assert spica.daemon is not None
    assert spica.daemon.poll() is None
    assert canary.is_well()
    assert not canary.was_called()
    wait_until(lambda: not left_running(spica), "everything to have ended")
    assert "Traceback" not in spica.log.read_text()


def left_running(spica: SpicaWithTools) -> list[str]:
    """Children of the daemon, and whatever works in its results folder, whoever its parent is."""
    assert spica.daemon is not None
    found = [child.name() for child in psutil.Process(spica.daemon.pid).children(recursive=True)]
    for process in psutil.process_iter():
        try:
            if process.cwd().startswith(str(spica.results)):
                found.append(process.name())
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return found


def quick_look(name: str, exposures: list[Any], more: str = "") -> str:
    paths = json.dumps([str(path) for path in exposures])
    return f'name = "{name}"\nexposures = {paths}\nrules = "quick-look"\n{more}\n[end]\n'


def own_tool(name: str, exposure: Path) -> str:
    task = f'[[task]]\napplication = "{name}"\neach = "exposure"\n'
    return f'name = "{name}"\nexposures = ["{exposure}"]\n{task}\n[end]\n'


OWN_DESCRIPTOR = """\
title = "{name}"
summary = "A tool of the tests"
command = ["{name}"]
version = ""
arguments = ["{{exposure}}", "{{stem}}.txt"{more}]

[input.exposure]
kind = "exposure"
file = "{{stem}}.fits"

[output.words]
file = "{{stem}}.txt"
kind = "text"
product = "{{exposure}}.{name}.txt"
"""
# Each line that it writes is something it should not have been able to do.
WICKED = """\
#!/bin/bash
out=$2
echo "these got through:" > $out
try() { if eval "$2" 2> /dev/null; then echo "$1" >> $out; fi; }
try "write to the canary" "echo dead > CANARY"
try "write to the input" "echo dead >> $1"
try "write to its configuration" "echo dead > ../cfg/new"
try "read the accounts" "cat /etc/passwd"
try "read the secrets" "cat /etc/shadow"
try "see the archive" "ls ARCHIVE"
try "see the spool" "ls SPOOL"
try "call a port" "exec 3<> /dev/tcp/127.0.0.1/PORT"
try "see other processes" "test \\$(ls -d /proc/[0-9]* | wc -l) -gt 8"
try "hold a secret of the daemon" "env | grep -i -e spica.conf -e password -e NOTIFY"
try "mount" "mount -t tmpfs none /tmp"
try "make a device" "mknod /tmp/null c 1 3"
try "be heard on standard input" "test -p /dev/stdin"
kill -9 -1 2> /dev/null
ln -s /etc/passwd link.txt
ln -s CANARY leak.fits
mkfifo pipe
mkdir -p deep/er
chmod 4777 $out
(setsid sleep 1000 &) > /dev/null 2>&1
exit 0
"""
WAITING = """\
#!/bin/bash
trap 'go=1' USR1
echo waiting
while [ -z "$go" ]; do sleep 0.05; done
head -c 3000 "$1" | tail -c 60 | od -c > "$2"
"""
OWN_TOOLS = {
    name: (OWN_DESCRIPTOR.format(name=name, more=""), program)
    for name, program in (("wicked", WICKED), ("waiting", WAITING))
}

# ---------------------------------------------------------------------- configurations


@dataclass(frozen=True)
class Attack:
    application: str
    keyword: str
    value: str

    @property
    def is_passed_over(self) -> bool:
        """Spica sets it otherwise without complaint: a full dump of the tool's defaults may be pasted."""
        named = (self.application, self.keyword, self.value)
        return self.keyword in APPLICATIONS[self.application].passed_over or named in DEFAULTS_OF_THE_TOOLS

    def __str__(self) -> str:
        return f"{self.application} {self.keyword} {self.value[:30]}"


def attacks(application: str, text: str) -> list[Attack]:
    lines = (line.split(None, 1) for line in text.strip().splitlines())
    return [Attack(application, keyword, value) for keyword, value in lines]


LONG = "A" * 12_000
ATTACKS = [
    *attacks(
        "sextractor",
        f"""
        CATALOG_NAME {{canary}}
        CHECKIMAGE_NAME {{canary}}
        CHECKIMAGE_TYPE BACKGROUND
        XML_NAME {{canary}}
        PARAMETERS_NAME /etc/passwd
        PARAMETERS_NAME ../../../../etc/passwd
        FILTER_NAME /etc/passwd
        STARNNW_NAME /etc/passwd
        WEIGHT_IMAGE /etc/passwd
        WEIGHT_IMAGE {{canary}}
        FLAG_IMAGE /etc/passwd
        DGEO_IMAGE /etc/passwd
        DGEO_TYPE PIXEL
        ASSOC_NAME /etc/passwd
        PSF_NAME /etc/passwd
        SOM_NAME /etc/passwd
        SATUR_KEY $HOME
        GAIN_KEY $(touch${{IFS}}{{canary}}.new)
        SATUR_KEY @/etc/passwd
        GAIN_KEY {LONG}
        PHOT_APERTURES {"5," * 6000}5
        MEMORY_PIXSTACK 1000000000000
        MEMORY_OBJSTACK 99999999999
        MEMORY_BUFSIZE 99999999999
        DETECT_THRESH 0.000001
        DETECT_THRESH nan
        BACK_SIZE 1
        CATALOG_NAMES x
        HEADER_SUFFIX /../../canary
        XSL_URL http://127.0.0.1:{{port}}/x
        NTHREADS 4096
        """,
    ),
    *attacks(
        "scamp",
        f"""
        CHECKPLOT_NAME x;touch${{IFS}}{{canary}}.new;
        CHECKPLOT_NAME |touch${{IFS}}{{canary}}.new
        CHECKPLOT_DEV PNG
        CHECKPLOT_RES 100000,100000
        REF_SERVER 127.0.0.1:{{port}}
        ASTREF_CATALOG GAIA-DR1
        ASTREF_CATALOG 2MASS
        ASTREFCAT_NAME /etc/passwd
        AHEADER_GLOBAL /etc/passwd
        AHEADER_SUFFIX /../../canary
        HEADER_SUFFIX /../../canary
        HEADER_NAME {{canary}}
        MERGEDOUTCAT_NAME {{canary}}
        FULLOUTCAT_NAME {{canary}}
        DGEOMAP_NAME {{canary}}
        SAVE_DGEOMAP Y
        SAVE_REFCATALOG Y
        REFOUT_CATPATH /
        XML_NAME {{canary}}
        CHECKIMAGE_NAME {{canary}}
        CHECKIMAGE_TYPE AS_PAIR
        MATCH_RESOL 0.00001
        DISTORT_DEGREES 99
        POSITION_MAXERR 99999999
        ASTRINSTRU_KEY {LONG}
        PHOTINSTRU_KEY ~/x
        """,
    ),
    *attacks(
        "swarp",
        f"""
        IMAGEOUT_NAME {{canary}}
        WEIGHTOUT_NAME {{canary}}
        HEADEROUT_NAME /etc/passwd
        HEADER_NAME /etc/passwd
        RESAMPLE_DIR /
        RESAMPLE_SUFFIX /../../canary
        VMEM_DIR /
        CLIP_LOGNAME {{canary}}
        XML_NAME {{canary}}
        WEIGHT_IMAGE @/etc/passwd
        DELETE_TMPFILES N
        IMAGE_SIZE 1000000,1000000
        PIXEL_SCALE 0.0000001
        MEM_MAX 99999999
        VMEM_MAX 99999999999
        COMBINE_BUFSIZE 99999999
        OVERSAMPLING 10000
        NNODES 1000
        COPY_KEYWORDS {LONG}
        CENTER `id`
        """,
    ),
    *attacks(
        "psfex",
        """
        CHECKPLOT_NAME x;touch${IFS}{canary}.new;
        CHECKPLOT_NAME $(touch${IFS}{canary}.new)
        CHECKPLOT_NAME `touch${IFS}{canary}.new`
        CHECKPLOT_TYPE FWHM
        CHECKPLOT_DEV XWIN
        BASIS_NAME /etc/passwd
        PSF_DIR /
        PSF_SUFFIX /../../canary
        OUTCAT_NAME {canary}
        CHECKIMAGE_NAME {canary}
        HOMOKERNEL_DIR /
        XML_NAME {canary}
        PSF_SIZE 100001,100001
        PSFVAR_DEGREES 1000
        """,
    ),
    *attacks(
        "missfits",
        """
        SAVE_TYPE REPLACE
        SAVE_TYPE BACKUP
        OUTFILE_TYPE SLICE
        SPLIT_SUFFIX %n%n%n.fits
        SLICE_SUFFIX %s%s%s.fits
        SLICEKEY_FORMAT %n
        NEW_SUFFIX /../../canary
        HEADER_SUFFIX /../../../etc/passwd
        XML_NAME {canary}
        """,
    ),
    *attacks(
        "weightwatcher",
        """
        OUTWEIGHT_NAME {canary}
        OUTFLAG_NAME {canary}
        WEIGHT_NAMES /etc/passwd
        FLAG_NAMES @/etc/passwd
        POLY_NAMES /etc/passwd
        XML_NAME {canary}
        MEMORY_BUFSIZE 99999999999
        """,
    ),
    *attacks(
        "stiff",
        """
        OUTFILE_NAME {canary}
        VMEM_DIR /
        XML_NAME {canary}
        DESCRIPTION $HOME
        COPY_HEADER Y
        TILE_SIZE 1
        MEM_MAX 99999999
        """,
    ),
]
DEFAULTS_OF_THE_TOOLS = (
    ("scamp", "CHECKPLOT_DEV", "PNG"),
    ("scamp", "ASTREF_CATALOG", "2MASS"),
    ("missfits", "SAVE_TYPE", "BACKUP"),
)
WAYS = ("set", "carried", "user")
# What must stand before an application for its task to be possible.
BEFORE = {"scamp": ("sextractor",), "psfex": ("sextractor",), "stiff": ("swarp",)}
GATHERS = ("scamp", "swarp", "stiff")


def attacking_job(name: str, sky: SkyMade, application: str, more: str) -> str:
    chain = (*BEFORE.get(application, ()), application)
    works = {each: 'gather = ["all"]' if each in GATHERS else 'each = "exposure"' for each in chain}
    tasks = "".join(f'[[task]]\napplication = "{each}"\n{work}\n' for each, work in works.items())
    head = f'name = "{name}"\nexposures = ["{sky.exposures[0]}"]\nreference = "{sky.reference}"\n'
    return f'{head}weight = "{sky.bad_pixels}"\n{more}\n{tasks}\n[end]\n'


@pytest.fixture(scope="module")
def answers(spica: SpicaWithTools, sky: SkyMade, canary: Canary) -> dict[tuple[int, str], int | str]:
    """To each attack by each way: the .why, or the process that was taken and is over."""
    incoming = spica.spool / "incoming"
    names = {}
    for number, attack in enumerate(ATTACKS):
        value = attack.value.replace("{canary}", str(canary.file)).replace("{port}", str(canary.port))
        configuration = f"# harmless\n{attack.keyword} {value}\n"
        for way in WAYS:
            name = f"attack-{number}-{way}"
            more = f'[configuration]\n{attack.application} = "{name}"\n'
            if way == "set":
                more = f"[set.{attack.application}]\n{attack.keyword} = {json.dumps(value)}\n"
            elif way == "carried":
                (incoming / f"{name}.conf").write_text(configuration)
                more = more.replace(f'"{name}"', f'"{name}.conf"')
            else:
                folder = spica.folder / "configurations/users/root" / attack.application
                folder.mkdir(parents=True, exist_ok=True)
                (folder / f"{name}.conf").write_text(configuration)
            (incoming / f".{name}").write_text(attacking_job(name, sky, attack.application, more))
            names[(number, way)] = name
    for name in names.values():
        os.rename(incoming / f".{name}", incoming / f"{name}.spica")
    wait_until(lambda: not list(incoming.glob("*.spica")), "all attacks to be taken or refused", 120)
    found = {which: spica.answer(name) for which, name in names.items()}
    for answer in found.values():
        if isinstance(answer, int):
            spica.wait_for(answer)
    return found


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("number", range(len(ATTACKS)), ids=lambda number: str(ATTACKS[number]))
def test_an_attack_by_a_configuration_is_refused_or_has_no_effect(
    number: int, way: str, answers: dict[tuple[int, str], int | str], spica: SpicaWithTools
) -> None:
    attack, answer = ATTACKS[number], answers[(number, way)]

    if attack.is_passed_over:
        assert isinstance(answer, int), answer
        steps = list((spica.run_folder(answer) / "steps").glob(f"*-{attack.application}"))
        assert steps
        for step in steps:
            if spica.outcome(answer)["steps"][step.name] == "reused":
                continue  # the same in every keyword as one that ran
            argv = step_record(step)["argv"]
            assert argv[argv.index(f"-{attack.keyword}") + 1] != attack.value
            assert attack.keyword not in (step / f"cfg/{attack.application}.conf").read_text()
    else:
        assert isinstance(answer, str), "it was taken"
        assert attack.keyword in answer
        named = {
            "set": f"attack-{number}-set.spica, [set.{attack.application}], line ",
            "carried": f"attack-{number}-carried.conf, line 2: ",
            "user": f"/users/root/{attack.application}/attack-{number}-user.conf, line 2: ",
        }
        assert named[way] in answer


def test_what_a_wicked_tool_tries_does_not_get_through(spica: SpicaWithTools, sky: SkyMade, canary: Canary) -> None:
    """Should a tool be taken over by its input, the sandbox holds what the checks could not."""
    program = spica.folder / "programs/wicked"
    places = {"CANARY": canary.file, "ARCHIVE": spica.archive, "SPOOL": spica.spool, "PORT": canary.port}
    text = WICKED
    for word, place in places.items():
        text = text.replace(word, str(place))
    program.write_text(text)
    job = own_tool("wicked", sky.exposures[0])
    before = sky.exposures[0].read_bytes()

    process = spica.drop(job, "wicked")

    assert spica.wait_for(process) == "COMPLETED", spica.report(process)
    product = spica.product(process, "*.wicked.txt")
    assert product.read_text().splitlines() == ["these got through:"]
    assert product.stat().st_mode & 0o7777 == 0o644
    assert [path for path in spica.run_folder(process).rglob("*") if path.is_symlink() or path.is_fifo()] == []
    assert sky.exposures[0].read_bytes() == before
    assert sorted(path.name for path in sky.folder.iterdir()) == sorted(
        [*(path.name for path in sky.exposures), sky.bad_pixels.name, sky.reference.name, "truth"]
    )


# ---------------------------------------------------------------------- drops


NAMES = (
    "a;touch x",
    "$(touch x)",
    "`touch x`",
    "-rf",
    "--help",
    "a b\tc".replace("\t", " "),
    "quote'\"s",
    "étoile",
    "*",
    "%s%n",
    "a|b&c>d",
)


@pytest.mark.parametrize("name", NAMES)
def test_the_name_of_a_drop_is_only_a_name(name: str, spica: SpicaWithTools, sky: SkyMade) -> None:
    (spica.spool / "incoming" / f"{name}.spica").write_text(quick_look("odd-drop", [sky.exposures[0]]))

    wait_until(lambda: not (spica.spool / "incoming" / f"{name}.spica").exists(), "the drop to be taken")

    process = max(int(path.stem) for path in spica.spool.glob("*/[0-9]*.spica"))
    assert spica.wait_for(process) == "COMPLETED"
    assert not (spica.spool / "rejected" / f"{name}.spica").exists()


@pytest.mark.parametrize("name", ["new\nline", "escape\x1b[31m", "x" * 245])
def test_a_name_that_would_spoil_a_list_is_refused_and_kept(name: str, spica: SpicaWithTools, sky: SkyMade) -> None:
    drop = spica.spool / "incoming" / f"{name}.spica"
    drop.write_text(quick_look("odd-drop", [sky.exposures[0]]))

    wait_until(lambda: not drop.exists(), "the drop to be refused")

    (kept,) = [path for path in (spica.spool / "rejected").glob("*.spica") if path.name.startswith(name[:190])]
    assert "printable characters" in Path(f"{kept}.why").read_text()


def test_drops_that_are_no_plain_files_are_refused_and_what_they_point_at_stays(
    spica: SpicaWithTools, sky: SkyMade, canary: Canary, tmp_path: Path
) -> None:
    incoming = spica.spool / "incoming"
    whole = tmp_path / "whole.spica"
    whole.write_text(quick_look("linked", [sky.exposures[0]]))
    os.symlink(canary.file, incoming / "symbolic.spica")
    os.symlink("/etc/shadow", incoming / "secret.spica")
    os.link(whole, incoming / "hard.spica")
    os.mkfifo(incoming / "pipe.spica")
    (incoming / "folder.spica").mkdir()
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(incoming / "socket.spica"))
    with (incoming / "sparse.spica").open("wb") as sparse:
        sparse.truncate(1 << 40)
    (incoming / "binary.spica").write_bytes(b"\0\xff\xfe" * 100 + b"\n[end]\n")

    wait_until(lambda: not list(incoming.glob("*.spica")), "all to be refused")

    listener.close()
    reasons = {path.name.partition(".")[0]: path.read_text() for path in (spica.spool / "rejected").glob("*.why")}
    for name, reason in (
        ("symbolic", "symbolic link"),
        ("secret", "symbolic link"),
        ("hard", "hard links"),
        ("pipe", "not a regular file"),
        ("folder", "not a regular file"),
        ("socket", "not a regular file"),
        ("sparse", "1099511627776 bytes"),
        ("binary", "not UTF-8"),
    ):
        assert reason in reasons[name]
    assert whole.read_text() == quick_look("linked", [sky.exposures[0]])


# ---------------------------------------------------------------------- exposures: names and places


def test_the_name_of_an_exposure_is_only_a_name(spica: SpicaWithTools, sky: SkyMade, canary: Canary) -> None:
    folder = spica.archive / "odd"
    folder.mkdir()
    odd = [*NAMES, "new\nline", "@list", "-c", "[1]", "x" * 240, "escape\x1b[31m", ".head", "img0001"]
    for name in odd:
        (folder / f"{name}.fits").write_bytes(sky.exposures[0].read_bytes())

    process = spica.drop(quick_look("odd", [folder / name for name in (f"{each}.fits" for each in odd)]), "odd")

    assert spica.wait_for(process) == "COMPLETED", spica.report(process)
    products = sorted((spica.run_folder(process) / "products").iterdir())
    assert len(products) == len(odd)
    assert all(path.name.isprintable() and len(path.name) < 256 for path in products)
    for line in (spica.run_folder(process) / "steps").glob("*/step.json"):
        argv = step_record(line.parent)["argv"]
        assert argv[1].startswith("../in/img")
        assert not [word for word in argv if "touch" in word or "list" in word]
    assert sorted(path.name for path in folder.iterdir()) == sorted(f"{name}.fits" for name in odd)


def test_only_files_of_the_archive_are_read_whatever_leads_there(
    spica: SpicaWithTools, sky: SkyMade, canary: Canary, tmp_path: Path
) -> None:
    secret = tmp_path / "secret.fits"
    secret.write_bytes(sky.exposures[0].read_bytes())
    folder = spica.archive / "links"
    folder.mkdir()
    os.symlink(secret, folder / "out.fits")
    os.symlink(tmp_path, folder / "away")
    os.symlink("/etc/passwd", folder / "passwd.fits")
    os.symlink("loop.fits", folder / "loop.fits")
    os.mkfifo(folder / "pipe.fits")
    os.symlink(sky.exposures[0], folder / "inside.fits")
    outside = "outside the archive"
    for number, (path, reason) in enumerate(
        (
            (folder / "out.fits", outside),
            (folder / "away/secret.fits", outside),
            (folder / "passwd.fits", outside),
            (f"{folder}/../../../{secret}", ""),
            (secret, outside),
            (folder / "loop.fits", "loop.fits"),
            (folder / "pipe.fits", "not a regular file"),
            ("/dev/zero", outside),
            ("/proc/self/environ", outside),
            (folder, "not a regular file"),
            ("sky/900001p.fits", "is neither a whole path"),
        )
    ):
        why = spica.refused(quick_look("links", [path]), f"links-{number}")
        assert reason in why
        assert f"links-{number}.spica" in why
    for number, more in enumerate((f'weight = "{secret}"', 'weight = "/etc/passwd"')):
        assert outside in spica.refused(quick_look("links", [sky.exposures[0]], more), f"links-weight-{number}")

    process = spica.drop(quick_look("links", [folder / "inside.fits"]), "links-inside")

    assert spica.wait_for(process) == "COMPLETED"


# ---------------------------------------------------------------------- exposures that change


def test_an_exposure_changed_while_its_process_waits_is_not_reduced(spica: SpicaWithTools, sky: SkyMade) -> None:
    """Both slots are taken; the process is planned and its files are digested, but nothing of it runs yet."""
    taken = [spica.drop(own_tool("waiting", path), f"blocker-{n}") for n, path in enumerate(sky.exposures)]
    pids = [pid_of_own_tool(spica, process) for process in taken]
    path = spica.archive / "changing.fits"
    path.write_bytes(unseen(sky.exposures[0], 1))
    process = spica.drop(quick_look("changing", [path]), "changing")
    spica.wait_for(process, "EXECUTING")
    path.write_bytes(unseen(sky.exposures[0], 2))

    for pid in pids:
        os.kill(pid, signal.SIGUSR1)

    assert spica.wait_for(process) == "ERROR"
    assert "changing.fits: the file has changed " in spica.outcome(process)["why"]
    assert [spica.wait_for(blocker) for blocker in taken] == ["COMPLETED"] * 2
    again = spica.drop(quick_look("changing", [path]), "changed")
    assert spica.wait_for(again) == "COMPLETED"
    assert set(spica.outcome(again)["steps"].values()) == {"done"}, "nothing of the other content is reused"


def test_an_exposure_changed_while_it_is_read_is_not_taken_for_the_one_that_was_planned(
    spica: SpicaWithTools, sky: SkyMade
) -> None:
    path = spica.archive / "written-to.fits"
    path.write_bytes(unseen(sky.exposures[0], 3))
    process = spica.drop(own_tool("waiting", path), "written-to")
    pid = pid_of_own_tool(spica, process)
    with path.open("r+b") as file:
        file.seek(2900)
        file.write(b"changed under its feet")

    os.kill(pid, signal.SIGUSR1)

    assert spica.wait_for(process) == "ERROR"
    assert "written-to.fits: the file has changed while waiting read it" in spica.report(process)
    assert not list((spica.run_folder(process)).glob("products/*"))


def unseen(path: Path, pixel: int) -> bytes:
    """The exposure with another first pixel, so that no finished step is reused for it."""
    raw = bytearray(path.read_bytes())
    at = raw.index(b"XTENSION")
    at += raw[at:].index(b"END".ljust(80))
    at += -at % 2880
    raw[at + 1] = pixel
    return bytes(raw)


def pid_of_own_tool(spica: SpicaWithTools, process: int) -> int:
    """The pid of `waiting` once it has set its trap, which it says."""

    def found() -> list[int]:
        (step,) = [*spica.results.glob(f"*/{process:06d}-*/run-1/steps/0001-waiting")] or [Path("/nowhere")]
        if not (step / "log").exists() or "waiting" not in (step / "log").read_text():
            return []
        sandbox = psutil.Process(json.loads((step / "launch.json").read_text())["pid"])
        return [child.pid for child in sandbox.children(recursive=True) if child.name() == "waiting"]

    wait_until(found, "the tool to wait")
    return found()[0]


# ---------------------------------------------------------------------- broken and mutated files


@pytest.fixture(scope="module")
def broken_files(spica: SpicaWithTools) -> dict[str, Path]:
    folder = spica.archive / "broken"
    folder.mkdir()
    return make_broken(folder)


@pytest.fixture(scope="module")
def all_broken(spica: SpicaWithTools, broken_files: dict[str, Path]) -> int:
    paths = list(broken_files.values())
    process = spica.drop(quick_look("broken", paths), "broken")
    assert spica.wait_for(process) == "COMPLETED", spica.report(process)
    return process


def test_each_broken_file_is_reduced_or_named_with_its_reason(spica: SpicaWithTools, all_broken: int) -> None:
    said = dict(spica.outcome(all_broken)["dropped"])
    labels = json.loads(parts.read(spica.run_folder(all_broken), "plan.json"))["labels"]
    products = list((spica.run_folder(all_broken) / "products").glob("*.ldac"))

    assert len(products) + len(said) == len(BROKEN)
    for one in BROKEN:
        if one.expect == "reject" and one.seen == "headers":
            assert one.reason in said[one.name]
    assert all(said.values())
    assert len(set(labels.values())) == len(labels)
    for one in (one for one in BROKEN if one.expect == "ok"):
        assert one.name not in said


SAMPLE = ("truncated_data.fits", "png.fits", "huge_naxis.fits", "all_nan.fits", "nul_in_header.fits", "-dash.fits")


@pytest.mark.parametrize("name", SAMPLE)
def test_a_broken_file_alone_is_refused_or_ends_with_its_name(
    name: str, spica: SpicaWithTools, broken_files: dict[str, Path]
) -> None:
    one = next(one for one in BROKEN if one.name == name)
    text = quick_look("alone", [broken_files[name]])

    if one.expect == "reject" and one.seen == "headers":
        why = spica.refused(text, f"alone-{SAMPLE.index(name)}")
        assert one.reason in why
        assert name in why
    else:
        process = spica.drop(text, f"alone-{SAMPLE.index(name)}")
        phase = spica.wait_for(process)
        assert phase == ("ERROR" if one.expect == "reject" else "COMPLETED")


STRUCTURE = (b"SIMPLE", b"XTENSION", b"BITPIX", b"NAXIS", b"PCOUNT", b"GCOUNT", b"Z", b"T", b"EXTEND")
ODD_VALUES = (b"0", b"-1", b"1E308", b"NaN", b"99999999999", b"T", b"'x'", b"-0.0", b"1E-300", b"''", b"2147483648")


def mutated(rng: np.random.Generator, raw: bytes, number: int) -> bytes:
    """Some cards with other values, in every fourth file those of the structure too, in some files bytes anywhere."""
    data = bytearray(raw)
    cards = [
        at
        for at in range(0, len(data) - 80, 80)
        if data[at + 8 : at + 10] == b"= "
        and data[at : at + 8].isascii()
        and (number % 4 == 0 or not data[at : at + 8].startswith(STRUCTURE))
    ]
    for at in rng.choice(cards, rng.integers(1, 5), replace=False):
        data[at + 10 : at + 80] = ODD_VALUES[rng.integers(len(ODD_VALUES))].rjust(20).ljust(70)
    if number % 5 == 0:
        for at in rng.integers(0, len(data), 60):
            data[at] = rng.integers(256)
    return bytes(data)


def test_mutated_exposures_are_contained_and_each_ends_with_a_reason(spica: SpicaWithTools) -> None:
    rng = np.random.default_rng(SEED)
    folder = spica.archive / "mutated"
    folder.mkdir()
    kinds = (("fits", broken.exposure()), ("fits.fz", broken.packed()), ("fits", broken.exposure(kind="f4")))
    for number in range(45):
        suffix, raw = kinds[number % len(kinds)]
        (folder / f"m{number:02d}.{suffix}").write_bytes(mutated(rng, raw, number))

    process = spica.drop(quick_look("mutated", [f"{folder}/*"]), "mutated")

    assert spica.wait_for(process) in ("COMPLETED", "ERROR")
    run = spica.run_folder(process)
    said = dict(spica.outcome(process)["dropped"])
    products = list((run / "products").glob("*.ldac"))
    assert len(products) + len(said) == 45
    assert all(said.values())
    for path in (run / "steps").glob("*/outcome.json"):
        outcome = json.loads(path.read_text())
        code = outcome["exit_code"]
        if code is not None and 128 < code <= 128 + signal.NSIG:
            assert signal.Signals(code - 128).name in outcome["why"]
        elif code:
            assert outcome["last_words"][-1].rstrip(".") in outcome["why"]

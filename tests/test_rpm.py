"""The RPM packages, built and installed for real: on a machine of their own with systemd, see machine.py.

Which Python packages they lie upon is checked by name; here those of the tests take their place. What the units do is
told in test_systemd.py.
"""

from __future__ import annotations

import re
import shutil
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import DESCRIPTOR, ROOT, wait_until, write_exposure
from machine import Installed, built, packages_of_this
from services import missing

import spicad
from spicad.spool import FOLDERS

pytestmark = pytest.mark.slow

NEXT = "99.0"
# What each package is for, and what it asks for of Fedora and EL.
NEEDS = {
    "spica": {"python3", "python3-PyMySQL", "python3-peewee", "python3-psutil", "shadow-utils"},
    "spica-daemon": {"spica", "bubblewrap", "systemd", "python3-daemon", "python3-lockfile", "python3-watchdog"},
    "spica-web": {"spica", "spica-daemon", "python3-bottle", "python3-pillow", "python3-waitress"},
    "spica-slurm": {"spica-daemon", "slurm"},
    "spica-apps": {"spica", "python3-astropy", "python3-numpy", "python3-scipy"},
}
RECOMMENDED = {"sextractor", "scamp", "swarp", "logrotate"}
# A file that is in one of the packages alone.
SIGNS = {
    "spica": "usr/bin/spica",
    "spica-daemon": "usr/bin/spicad",
    "spica-web": "usr/lib/systemd/system/spica-web.service",
    "spica-slurm": "usr/share/man/man7/spica-slurm.7",
    "spica-apps": "usr/bin/astrometrix",
}
STAND_IN = """\
Name: stand-ins
Version: 99
Release: 1
Summary: What a Fedora would have
License: None
BuildArch: noarch
Provides: /usr/bin/python3
Provides: /bin/sh
%description
Nothing.
%files
"""
BY_ITSELF = {"/bin/sh", "/usr/bin/python3"}  # found by rpmbuild
JOB = """\
name = "{name}"
exposures = ["/srv/archive/*.fits"]

[[task]]
application = "idle"
each = "exposure"

[end]
"""


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return packages_of_this(tmp_path_factory)


@pytest.fixture(scope="module")
def next_packages(packages: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a later version, with another default in spica.conf and another title of the rules `stack`."""
    tree = tmp_path_factory.mktemp("next") / "spica"
    left_out = (".git", ".venv", ".*_cache", "__pycache__", "spool", "results", "quickstart", "packages")
    shutil.copytree(ROOT, tree, ignore=shutil.ignore_patterns(*left_out))
    (tree / "spool").mkdir()
    shutil.copy(ROOT / "spool/README", tree / "spool")
    for name, pattern, words in (
        ("spicad/__init__.py", r'(__version__ = ").*(")', rf"\g<1>{NEXT}\2"),
        ("rpm/spica.spec", r"(upstream_version ).*()", rf"\g<1>{NEXT}\2"),
        ("rpm/spica.spec", r"(Version: +).*()", rf"\g<1>{NEXT}\2"),
        ("etc/spica.conf", r"(look_s = )5.0()", r"\g<1>6.0\2"),
        ("etc/rules/stack.toml", r'(title = ").*(")', r"\g<1>Stack, later\2"),
    ):
        text = (tree / name).read_text()
        assert re.search(pattern, text)
        (tree / name).write_text(re.sub(pattern, words, text, count=1))
    return built(tree, packages.parent / "next")


def asked(package: Path, *query: str) -> list[str]:
    done = subprocess.run(["rpm", "-qp", *query, package], capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


def package(folder: Path, name: str) -> Path:
    return next(path for path in folder.glob("*.noarch.rpm") if asked(path, "--queryformat", "%{NAME}\n") == [name])


# ---------------------------------------------------------------------- the packages


def test_the_set_is_built(packages: Path) -> None:
    names = {asked(path, "--queryformat", "%{NAME}\n")[0] for path in packages.glob("*.noarch.rpm")}

    assert names == NEEDS.keys()
    assert len(list(packages.glob("spica-*.src.rpm"))) == 1


def test_the_packages_have_the_version_of_the_program(packages: Path) -> None:
    versions = {asked(path, "--queryformat", "%{VERSION}\n")[0] for path in packages.glob("*.rpm")}

    assert versions == {re.sub(r"\.(dev|rc)", r"~\1", spicad.__version__)}


@pytest.mark.parametrize("name", NEEDS)
def test_a_package_asks_for_what_it_needs_and_no_more(packages: Path, name: str) -> None:
    needed = {line.split()[0] for line in asked(package(packages, name), "--requires")}

    assert {each for each in needed if not each.startswith(("rpmlib(", "config("))} - BY_ITSELF == NEEDS[name]


def test_the_python_packages_are_those_of_the_requirements() -> None:
    named = {name.removeprefix("python3-").lower() for needs in NEEDS.values() for name in needs}
    lines = [line for line in (ROOT / "requirements.txt").read_text().splitlines() if not line.startswith("#")]
    required = {re.split("[<>=]", line)[0].lower().removeprefix("python-") for line in lines if line}

    assert required <= named


def test_every_module_comes_compiled(packages: Path) -> None:
    files = {line for path in packages.glob("*.noarch.rpm") for line in asked(path, "--list")}
    modules = {Path(each) for each in files if each.endswith(".py")}
    compiled = {re.sub(r"/__pycache__/(\w+)\.cpython-\d+\.pyc", r"/\1.py", each) for each in files}

    assert len(modules) > 100
    assert {str(each) for each in modules} <= compiled


def test_what_is_in_etc_is_configuration(packages: Path) -> None:
    for path in packages.glob("*.noarch.rpm"):
        files = {line for line in asked(path, "--list", "--queryformat", "") if line.startswith("/etc/")}
        folders = {line.split()[-1] for line in asked(path, "--list", "--verbose") if line.startswith("d")}

        assert files - folders == set(asked(path, "--configfiles"))


def test_licence_documents_and_every_page_of_the_manual_come_along(packages: Path) -> None:
    pages = {path.name for path in (ROOT / "man").glob("*.[1-8]")}
    shipped = [line for path in packages.glob("*.noarch.rpm") for line in asked(path, "--list")]

    assert {Path(line).name.removesuffix(".gz") for line in shipped if "/man/" in line} >= pages
    assert any(line.endswith("/LICENSE") for line in shipped)
    assert any(line.endswith("/CHANGES.md") for line in shipped)


def test_rpmlint_is_quiet(packages: Path) -> None:
    if not shutil.which("rpmlint"):
        missing("rpmlint")
    command = ["rpmlint", "-c", ROOT / "rpm/rpmlint.toml", ROOT / "rpm/spica.spec", *packages.glob("*.rpm")]

    done = subprocess.run(command, capture_output=True, text=True, check=False)

    assert " 0 errors, 0 warnings" in done.stdout, done.stdout


@pytest.fixture(scope="module")
def repository(packages: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """For dnf: the packages of Spica, and beside them an empty one for each that they need."""
    for program in ("dnf", "createrepo_c"):
        if not shutil.which(program):
            missing(program)
    folder = tmp_path_factory.mktemp("repository")
    others = sorted({name for needs in NEEDS.values() for name in needs} | RECOMMENDED - NEEDS.keys())
    spec = STAND_IN + "".join(
        f"%package -n {name}\nSummary: A stand-in\nVersion: 99\n%description -n {name}\nNothing.\n%files -n {name}\n"
        for name in others
        if name not in NEEDS
    )
    (folder / "stand-ins.spec").write_text(spec)
    where = ["--define", f"_topdir {folder}", "--define", f"_dbpath {folder}/db"]
    subprocess.run(["rpmbuild", "-bb", "--quiet", *where, folder / "stand-ins.spec"], check=True, capture_output=True)
    for path in packages.glob("*.noarch.rpm"):
        shutil.copy(path, folder)
    subprocess.run(["createrepo_c", "--quiet", folder], check=True)
    return folder


@pytest.mark.parametrize(
    ("asked_for", "comes"),
    [
        ("spica", {"spica"}),
        ("spica-web", {"spica", "spica-daemon", "spica-apps", "spica-web"}),
        ("spica-slurm", {"spica", "spica-daemon", "spica-apps", "spica-slurm"}),
    ],
)
def test_dnf_brings_what_belongs_together_into_an_empty_root(
    repository: Path, tmp_path: Path, asked_for: str, comes: set[str]
) -> None:
    root = tmp_path / "root"
    options = {"reposdir": "/none", "cachedir": tmp_path / "cache", "logdir": tmp_path, "persistdir": tmp_path / "p"}
    options |= {"pluginpath": "/none", "tsflags": "noscripts"}
    words = [f"--setopt={name}={value}" for name, value in options.items()]
    where = [f"--installroot={root}", "--releasever=40", f"--repofrompath=t,file://{repository}", "--repo=t"]

    done = subprocess.run(
        ["dnf", "--quiet", "--assumeyes", "--nogpgcheck", *where, *words, "install", asked_for],
        capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert done.returncode == 0, done.stderr
    assert {name for name, file in SIGNS.items() if (root / file).exists()} == comes


# ---------------------------------------------------------------------- installed


@pytest.fixture(scope="module")
def machine(packages: Path) -> Iterator[Installed]:
    machine = Installed(packages)
    yield machine
    machine.end()


def test_who_installs_is_told_what_comes_next(machine: Installed) -> None:
    assert "spica setup" in machine.words


def test_every_file_is_as_it_was_packaged(machine: Installed) -> None:
    assert machine.rpm("--verify", "--all", "--nodeps") == ""


def test_every_file_that_came_is_owned_by_a_package(machine: Installed) -> None:
    changes = machine.path("/mnt/changes")
    of_the_machine = r"/(mnt|home|var/(mail|log|cache|lib/(rpm|systemd)))(/|$)|/etc/(?!spica|logrotate)"
    came = [path for path in changes.rglob("*") if "spica" in path.name or path.is_symlink() or not path.is_dir()]
    spicas = [name for path in came if not re.match(of_the_machine, name := f"/{path.relative_to(changes)}")]

    done = machine.tried("rpm", "--dbpath", "/var/lib/rpm", "--query", "--file", *spicas)

    assert len(spicas) > 200
    assert [line for line in done.stdout.splitlines() if not line.startswith("spica-")] == []


def test_the_user_and_the_groups_are_made(machine: Installed) -> None:
    user = machine.run("getent", "passwd", "spica").strip().split(":")

    assert user[5:] == ["/var/lib/spica", "/sbin/nologin"]
    assert int(user[2]) < 1000
    assert machine.run("id", "--name", "--groups", "spica").split() == ["spica"]
    assert machine.run("getent", "group", "spica-web")


def test_the_folders_are_those_that_the_daemon_would_make(machine: Installed) -> None:
    modes = {"incoming": 0o3770, "rejected": 0o2750}
    spool = machine.path("/var/spool/spica")
    uid = int(machine.run("id", "--user", "spica"))

    found = {path.name: stat.S_IMODE(path.stat().st_mode) for path in spool.iterdir() if path.is_dir()}

    assert found == {name: modes.get(name, 0o750) for name in FOLDERS}
    assert {path.stat().st_uid for path in (spool, *spool.iterdir(), machine.path("/var/lib/spica/results"))} == {uid}


def test_folders_that_were_lost_come_again_and_those_that_stayed_keep_their_modes(machine: Installed) -> None:
    shutil.rmtree(machine.path("/var/spool/spica/incoming"))
    machine.path("/var/spool/spica/held").chmod(0o700)

    machine.run("systemd-tmpfiles", "--create", "/usr/lib/tmpfiles.d/spica.conf")

    assert stat.S_IMODE(machine.path("/var/spool/spica/incoming").stat().st_mode) == 0o3770
    assert stat.S_IMODE(machine.path("/var/spool/spica/held").stat().st_mode) == 0o700
    machine.path("/var/spool/spica/held").chmod(0o750)


def test_the_user_of_sysusers_is_the_one_that_the_package_makes(machine: Installed) -> None:
    for name in ("passwd", "group", "shadow", "gshadow"):
        (machine.path("/tmp/empty/etc")).mkdir(parents=True, exist_ok=True)
        (machine.path("/tmp/empty/etc") / name).write_text("")

    machine.run("systemd-sysusers", "--root=/tmp/empty", "/usr/lib/sysusers.d/spica.conf")

    made = machine.run("grep", "--no-filename", "^spica", "/tmp/empty/etc/passwd").strip().split(":")
    assert made[4:] == machine.run("getent", "passwd", "spica").strip().split(":")[4:]
    assert "spica-web" in machine.run("cat", "/tmp/empty/etc/group")


def test_what_runs_is_the_installed_program_not_this_checkout(machine: Installed) -> None:
    where = machine.run("python3", "-c", "import spicad, spicaweb; print(spicad.__file__, spicaweb.__file__)")

    assert str(ROOT) not in where
    assert not machine.path(str(ROOT / "bin")).exists()
    assert machine.run("spica", "--version") == f"spica {spicad.__version__}\n"


# ---------------------------------------------------------------------- upgraded, erased


def test_an_upgrade_keeps_what_was_edited_and_the_work_that_runs_and_an_erasure_what_was_made(
    packages: Path, next_packages: Path
) -> None:
    machine = Installed(packages)
    try:
        _work(machine)
        number = machine.run("spica", "submit", "/home/alice/idle.spica", user="alice").split()[-1]
        waiting = machine.run("spica", "submit", "/home/alice/later.spica", user="alice").split()[-1]
        spool = machine.path("/var/spool/spica")
        wait_until(lambda: list(machine.path("/var/lib/spica/results").rglob("launch.json")), "a step to run")
        step = machine.run("pgrep", "--full", "^(/usr/bin/)?sleep 3600").split()
        daemon = machine.unit("spicad.service", "MainPID")

        words = machine.rpm("--upgrade", "--nodeps", *machine.given(next_packages))

        assert "spica setup" not in words
        assert machine.run("spica", "--version") == f"spica {NEXT}\n"
        wait_until(lambda: machine.unit("spicad.service", "MainPID") not in ("0", daemon), "the next daemon")
        wait_until(lambda: "1 steps run" in machine.unit("spicad.service", "StatusText"), "it to follow the step")
        assert machine.run("pgrep", "--full", "^(/usr/bin/)?sleep 3600").split() == step
        assert (spool / f"executing/{int(number):06d}.spica").exists()
        assert len(list(spool.glob(f"*/{int(waiting):06d}.spica"))) == 1
        assert "keep me" in machine.path("/etc/spica/spica.conf").read_text()
        assert "look_s = 6.0" in machine.path("/etc/spica/spica.conf.rpmnew").read_text()
        assert "Stack, later" in machine.path("/etc/spica/rules/stack.toml").read_text()
        assert machine.path("/etc/spica/applications/idle.toml").exists()
        assert machine.run("systemctl", "is-enabled", "spicad.service").strip() == "enabled"

        words = machine.rpm("--erase", "--nodeps", "spica-web", "spica-apps", "spica-daemon", "spica")

        assert "/var/spool/spica" in words
        assert "/var/lib/spica" in words
        assert machine.tried("systemctl", "is-active", "spicad.service").returncode != 0
        assert (spool / f"executing/{int(number):06d}.spica").exists()
        assert (spool / "spica.db").exists()
        assert list(machine.path("/var/lib/spica/results").rglob("launch.json"))
        assert "keep me" in machine.path("/etc/spica/spica.conf.rpmsave").read_text()
        assert not machine.path("/usr/bin/spica").exists()
    except AssertionError:
        print(machine.tried("journalctl", "--no-pager", "--lines=60").stdout)
        raise
    finally:
        machine.end()


def _work(machine: Installed) -> None:
    """A daemon that runs with edited configuration, and two job files of alice's, of which one can run at a time."""
    descriptor = DESCRIPTOR.format(name="idle", command='["sleep"]', arguments='["3600"]', output="")
    machine.path("/etc/spica/applications/idle.toml").write_text(descriptor)
    conf = machine.path("/etc/spica/spica.conf")
    conf.write_text('# keep me\n[paths]\narchive = ["/srv/archive"]\n[daemon]\nslots = 1\n')
    write_exposure(machine.path("/srv/archive/900001p.fits"))
    for name in ("idle", "later"):
        machine.path(f"/home/alice/{name}.spica").write_text(JOB.format(name=name))
    machine.run("systemctl", "enable", "--now", "spicad.service")


# ---------------------------------------------------------------------- self-contained


@pytest.mark.downloads
def test_self_contained_packages_need_no_python_packages_of_the_machine(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    packages = built(ROOT, tmp_path_factory.mktemp("self-contained") / "now", "--self-contained")
    machine = Installed(packages, has_python_packages=False)
    try:
        assert machine.tried("/usr/bin/python3", "-c", "import peewee").returncode != 0
        assert machine.rpm("--verify", "--all", "--nodeps") == ""
        assert machine.tried("grep", "--recursive", "--files-with-matches", "BUILDROOT", "/opt/spica").stdout == ""
        machine.run("spica", "sky", "/srv/archive/sky", "--exposures", "2", "--size", "400")
        machine.path("/etc/spica/spica.conf").write_text('[paths]\narchive = ["/srv/archive"]\n')
        machine.run("systemctl", "start", "spicad.service", "spica-web.socket")
        machine.path("/home/alice/own.spica").write_text(
            'name = "own"\nexposures = ["/srv/archive/sky/9*p.fits"]\nreference = "/srv/archive/sky/refcat.cat"\n'
            'rules = "own-stack"\n[end]\n'
        )
        words = machine.run("spica", "submit", "/home/alice/own.spica", "--watch", user="alice")
        assert "COMPLETED" in words
        page = machine.run("curl", "-s", "--unix-socket", "/run/spica/web.socket", "http://localhost/")
        assert "<title>Spica</title>" in page
    finally:
        machine.end()

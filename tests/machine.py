"""A machine of its own for the tests: systemd as pid 1 in namespaces, over a copy-on-write view of this one's files.

What is installed and done on it goes with it. It has no network but loopback, and this checkout is hidden from it.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sysconfig
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import pytest
from conftest import ROOT, wait_until
from services import missing

SYSTEMD = "/lib/systemd/systemd"
CGROUPS = Path("/sys/fs/cgroup")
CONTROLLERS = ("memory", "pids", "cpu")
NOT_HERE = (
    "systemd-udevd.service systemd-udevd-control.socket systemd-udevd-kernel.socket systemd-udev-trigger.service "
    "systemd-modules-load.service systemd-sysctl.service systemd-timesyncd.service systemd-remount-fs.service "
    "dev-hugepages.mount sys-kernel-debug.mount sys-kernel-tracing.mount sys-kernel-config.mount "
    "sys-fs-fuse-connections.mount dev-mqueue.mount systemd-ask-password-console.path systemd-random-seed.service "
    "proc-sys-fs-binfmt_misc.automount systemd-binfmt.service systemd-update-utmp.service"
)
TARGET = """\
[Unit]
Description=The machine of a test
Requires=sysinit.target systemd-journald.service dbus.socket
After=sysinit.target systemd-journald.service dbus.socket
AllowIsolate=yes
"""
# The first words of the machine, in its namespaces; they end as systemd.
BOOT = """
set -eu
folder=$1 given=$2 site=$3 checkout=$4 controllers=$5 systemd=$6 new=$1/root
hostname spica-test
ip link set lo up
mount -t tmpfs tmpfs "$folder/changes"
mkdir "$folder/changes/upper" "$folder/changes/work"
mount -t overlay overlay -o "lowerdir=/,upperdir=$folder/changes/upper,workdir=$folder/changes/work" "$new"
rm -rf "$new"/etc/systemd/system/*.wants
cp -a "$folder/etc/." "$new/etc/"
packages=$new/usr/local/lib/$(basename "$(dirname "$site")")/dist-packages
mkdir -p "$new/mnt/given" "$new/mnt/changes" "$packages"
mount --bind "$folder/changes/upper" "$new/mnt/changes"
mount --bind "$given" "$new/mnt/given"
if [ -n "$site" ]; then
    packages=$new/usr/local/lib/$(basename "$(dirname "$site")")/dist-packages
    mkdir -p "$packages"
    mount --bind "$site" "$packages"
fi
mount -t tmpfs tmpfs "$new$checkout"
mount -t proc proc "$new/proc"
mount -t sysfs -o ro sysfs "$new/sys"
mount -t tmpfs -o mode=755 tmpfs "$new/run"
mount -t tmpfs -o mode=1777 tmpfs "$new/tmp"
mount -t tmpfs -o mode=755 tmpfs "$new/dev"
for device in null zero full random urandom tty; do cp -a "/dev/$device" "$new/dev/"; done
mkdir "$new/dev/pts" "$new/dev/shm"
mount -t devpts -o newinstance,ptmxmode=0666 devpts "$new/dev/pts"
mount -t tmpfs -o mode=1777 tmpfs "$new/dev/shm"
ln -s pts/ptmx "$new/dev/ptmx"
ln -s /proc/self/fd "$new/dev/fd"
if [ -z "$controllers" ]; then
    mount -t cgroup2 cgroup2 "$new/sys/fs/cgroup"
else
    mount -t tmpfs -o mode=755 tmpfs "$new/sys/fs/cgroup"
    mkdir "$new/sys/fs/cgroup/systemd" "$new/sys/fs/cgroup/unified"
    mount -t cgroup -o none,name=systemd cgroup "$new/sys/fs/cgroup/systemd"
    mount -t cgroup2 cgroup2 "$new/sys/fs/cgroup/unified"
    for each in $controllers; do
        mkdir "$new/sys/fs/cgroup/$each"
        mount -t cgroup -o "$each" cgroup "$new/sys/fs/cgroup/$each"
    done
fi
cd "$new"
mkdir .old
pivot_root . .old
umount -l /.old
exec env -i container=spica PATH=/usr/sbin:/usr/bin:/sbin:/bin "$systemd" --system --unit=spica-test.target \\
    --log-target=journal --show-status=no
"""
# Before it: into control groups of its own, given by their folders up to "--".
ENTER = 'while [ "$1" != -- ]; do echo $$ >"$1/cgroup.procs"; shift; done; shift; exec "$@"'
NAMESPACES = ("--mount", "--pid", "--uts", "--ipc", "--net", "--cgroup")


class Machine:
    """`run(...)` runs a command on it, as root or as `user`; `path(...)` is one of its files, seen from here.

    The folder `given` is its /mnt/given, and /mnt/changes holds what differs from the machine below. The Python
    packages that the tests run with are its own too, unless it is to have none; Spica never is.
    """

    def __init__(self, given: Path, has_python_packages: bool = True) -> None:
        if os.geteuid() or not Path(SYSTEMD).exists():
            missing("systemd, or root to boot one in namespaces,")
        self.folder = Path(tempfile.mkdtemp(prefix="spica-machine-", dir="/tmp"))
        for name in ("changes", "root"):
            (self.folder / name).mkdir()
        self._write_etc()
        self.cgroups: list[Path] = []
        self.process = self._boot(given, sysconfig.get_path("purelib") if has_python_packages else "")
        self.pid = 0
        wait_until(self._is_up, "the machine to be up")

    def _write_etc(self) -> None:
        """What systemd reads before anything else can be changed."""
        units = self.folder / "etc/systemd/system"
        units.mkdir(parents=True)
        (units / "spica-test.target").write_text(TARGET)
        for name in NOT_HERE.split():
            (units / name).symlink_to("/dev/null")
        (self.folder / "etc/machine-id").write_text("0123456789abcdef0123456789abcdef\n")
        (self.folder / "etc/fstab").write_text("")

    def _boot(self, given: Path, site: str) -> subprocess.Popen[bytes]:
        is_unified = (CGROUPS / "cgroup.controllers").exists()
        controllers = [] if is_unified else [each for each in CONTROLLERS if (CGROUPS / each).is_dir()]
        homes = [CGROUPS] if is_unified else [CGROUPS / each for each in ("systemd", "unified", *controllers)]
        self.cgroups = [home / self.folder.name for home in homes]
        for each in self.cgroups:
            each.mkdir()
        values = [self.folder, given, site, ROOT, " ".join(controllers), SYSTEMD]
        command = ["bash", "-c", ENTER, "enter", *self.cgroups, "--", "unshare", *NAMESPACES]
        command += ["--propagation", "private", "--fork", "--kill-child=SIGKILL", "bash", "-c", BOOT, "boot", *values]
        with (self.folder / "log").open("wb") as log:
            return subprocess.Popen(
                list(map(str, command)), stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )

    def _is_up(self) -> bool:
        assert self.process.poll() is None, (self.folder / "log").read_text(errors="replace")[-3000:]
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        if not children or Path(f"/proc/{children[0]}/comm").read_text().strip() != "systemd":
            return False
        self.pid = int(children[0])
        return self.tried("systemctl", "is-active", "spica-test.target").returncode == 0

    def tried(self, *command: object, user: str = "", stdin: str = "") -> subprocess.CompletedProcess[str]:
        """However it ends."""
        enter = ["nsenter", "--target", self.pid, "--mount", "--pid", "--uts", "--ipc", "--net", "--cgroup", "--wd=/"]
        whose = ["setpriv", "--reuid", user, "--regid", user, "--init-groups"] if user else []
        environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8", "HOME": "/root"}
        return subprocess.run(
            list(map(str, [*enter, *whose, *command])),
            input=stdin, capture_output=True, text=True, timeout=120, env=environment, check=False,
        )  # fmt: skip

    def run(self, *command: object, user: str = "", stdin: str = "") -> str:
        """What it prints; fails the test unless it ends well."""
        done = self.tried(*command, user=user, stdin=stdin)
        assert done.returncode == 0, f"{command}: exit {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def path(self, name: str) -> Path:
        return Path(f"/proc/{self.pid}/root") / name.lstrip("/")

    def journal(self, unit: str) -> str:
        return self.run("journalctl", "--no-pager", "--output=cat", "--unit", unit)

    def end(self) -> None:
        self.process.kill()  # takes pid 1 with it, and pid 1 everything else
        self.process.wait(30)
        for each in self.cgroups:
            _remove_cgroup(each)
        shutil.rmtree(self.folder, ignore_errors=True)


class Installed(Machine):
    """With the RPM packages of a folder, and two users: alice may drop jobs, carol may not."""

    def __init__(self, packages: Path, has_python_packages: bool = True) -> None:
        super().__init__(packages.parent, has_python_packages)
        self.path("/var/lib/rpm").mkdir(exist_ok=True)
        self.words = self.rpm("--install", "--nodeps", *self.given(packages))  # what it rests on is no RPM package here
        for user in ("alice", "carol"):
            self.run("useradd", "--create-home", user)
        self.run("usermod", "--append", "--groups", "spica", "alice")

    def rpm(self, *arguments: object) -> str:
        """What it prints."""
        return self.run("rpm", "--dbpath", "/var/lib/rpm", *arguments)

    def unit(self, unit: str, name: str) -> str:
        """A property of a unit, as `systemctl show` has it."""
        return self.run("systemctl", "show", f"--property={name}", "--value", unit).strip()

    def given(self, packages: Path) -> list[str]:
        return [
            f"/mnt/given/{packages.name}/{path.name}" for path in packages.glob("*.rpm") if ".src." not in path.name
        ]


def packages_of_this(factory: pytest.TempPathFactory) -> Path:
    """The folder with the packages of this checkout, built once for all test files. Those of others may lie beside."""
    is_one_of_several = "PYTEST_XDIST_WORKER" in os.environ
    folder = factory.getbasetemp().parent if is_one_of_several else factory.getbasetemp()
    given = folder / "packages"
    given.mkdir(exist_ok=True)
    with (given / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        return given / "now" if (given / "now").exists() else built(ROOT, given / "now")


def built(tree: Path, folder: Path, *options: str) -> Path:
    """`folder`, with the packages that bin/build-rpm makes of `tree`."""
    if not shutil.which("rpmbuild"):
        missing("rpmbuild")
    command = [tree / "bin/build-rpm", *options, "--output", folder]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def _remove_cgroup(folder: Path) -> None:
    """The kernel lets go of what was in it a moment after its end."""
    for path, _, _ in os.walk(folder, topdown=False):
        for _ in range(200):
            with suppress(OSError):
                os.rmdir(path)
                break
            time.sleep(0.01)

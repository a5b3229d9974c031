"""A real Slurm for the tests: munged, slurmctld and one slurmd for each node, on loopback and in a throw-away folder.

A missing Slurm skips a test on a desk and fails it where CI=true. What is asked of it is the affair of the tests.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest
from conftest import RunningSpica, wait_until
from services import missing

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "scancel", "scontrol", "sinfo")
SBIN = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
CPUS = 2  # that each node claims to have

CONF = """\
ClusterName=spica
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
DefMemPerCPU=100
PriorityType=priority/basic
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=1,bf_interval=1,bf_resolution=1,batch_sched_delay=0
SwitchType=switch/none
MpiDefault=none
ReturnToService=2
SlurmdTimeout=5
SlurmctldTimeout=10
KillWait=2
MinJobAge=300
UnkillableStepTimeout=3600
MessageTimeout=3
TCPTimeout=2
SlurmdParameters=config_overrides
PropagateResourceLimits=NONE
"""


class Cluster:
    """`conf` is its slurm.conf. Nodes are n1, n2, ...; `lose` and `bring_back` a node, `kill_controller` and
    `start_controller` may be called at any time.
    """

    def __init__(self, nodes: int) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="spica-slurm-", dir="/tmp"))  # a socket's path has 108 bytes at most
        self.folder.chmod(0o755)
        self.conf = self.folder / "slurm.conf"
        self.nodes = [f"n{number}" for number in range(1, nodes + 1)]
        self.children: dict[str, subprocess.Popen[bytes]] = {}
        for name in ("state", *(f"spool-{node}" for node in self.nodes)):
            (self.folder / name).mkdir()
        self._write_conf()
        self.env = {**os.environ, "SLURM_CONF": str(self.conf), "PATH": SBIN}

    def _write_conf(self) -> None:
        host = socket.gethostname().split(".")[0]
        ports = _free_ports(len(self.nodes) + 1)
        text = CONF.format(folder=self.folder, host=host, port=ports[0])
        for node, port in zip(self.nodes, ports[1:], strict=True):
            text += f"NodeName={node} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs={CPUS} RealMemory=64000\n"
        self.conf.write_text(text + "PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP\n")

    def start(self) -> None:
        """Returns when every node is idle."""
        self._start_munge()
        self.start_controller(is_first=True)
        for node in self.nodes:
            self._start_node(node)
        self.wait_until_idle()

    def _start_munge(self) -> None:
        key = self.folder / "munge.key"
        key.write_bytes(os.urandom(1024))
        key.chmod(0o400)
        names = {"key-file": "key", "socket": "socket", "pid-file": "pid", "log-file": "log", "seed-file": "seed"}
        options = [f"--{option}={self.folder}/munge.{name}" for option, name in names.items()]
        self._start("munged", "munged", "--foreground", *options)
        wait_until((self.folder / "munge.socket").exists, "munged")

    def _start(self, name: str, *command: str, cwd: Path | None = None) -> None:
        with (self.folder / f"{name}.out").open("ab") as log:
            self.children[name] = subprocess.Popen(
                command, env=self.env, cwd=cwd, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )

    def start_controller(self, is_first: bool = False) -> None:
        self._start("slurmctld", "slurmctld", "-D", "-i", *(["-c"] if is_first else []))
        wait_until(lambda: self.run("scontrol", "ping").returncode == 0, "slurmctld")
        alive = [] if is_first else [node for node in self.nodes if node in self.children]
        known = ("idle", "mixed", "allocated", "completing")

        wait_until(lambda: self._are(known, alive), "its nodes to be known")

    def _are(self, states: tuple[str, ...], nodes: list[str]) -> bool:
        """A node is drained when a number comes again that a forgotten job had: it is told to go on."""
        found = self.states()
        for node in nodes:
            if found.get(node, "").startswith("drain"):
                self.run("scontrol", "update", f"NodeName={node}", "State=RESUME")
        return all(found.get(node) in states for node in nodes)

    def kill_controller(self) -> None:
        self._kill("slurmctld")

    def freeze_controller(self) -> None:
        """It takes what it is sent, and answers when it is thawed."""
        self.children["slurmctld"].send_signal(signal.SIGSTOP)

    def thaw_controller(self) -> None:
        self.children["slurmctld"].send_signal(signal.SIGCONT)

    def _kill(self, name: str) -> None:
        child = self.children.pop(name)
        child.kill()
        child.wait()

    def _start_node(self, node: str) -> None:
        self._start(node, "slurmd", "-D", "-N", node, cwd=self.folder / f"spool-{node}")  # tells its slurmstepd

    def lose(self, node: str) -> None:
        """As when the power goes: its slurmd, and everything that it had begun, are gone at once."""
        self.unplug(node)
        self.kill_jobs(node)

    def unplug(self, node: str) -> None:
        """As when its network goes: Slurm hears nothing of it any more, and what it had begun goes on."""
        self._kill(node)

    def give_up(self, node: str) -> None:
        """What slurmctld decides by itself after SlurmdTimeout."""
        assert self.run("scontrol", "update", f"NodeName={node}", "State=DOWN", "Reason=lost").returncode == 0

    def kill_jobs(self, node: str) -> None:
        for pid in self.processes(node):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def bring_back(self, node: str) -> None:
        """Returns when it is idle."""
        self._start_node(node)
        self.run("scontrol", "update", f"NodeName={node}", "State=RESUME")
        wait_until(lambda: self.states()[node] == "idle", f"{node} to be idle")

    def processes(self, node: str) -> list[int]:
        """Those that run for jobs on a node, slurmstepd first."""
        wanted = f"SLURMD_NODENAME={node}".encode()
        conf = f"SLURM_CONF={self.conf}".encode()
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdecimal():
                with suppress(OSError):
                    words = set((entry / "environ").read_bytes().split(b"\0"))
                    if conf in words and (wanted in words or _is_stepd_of(entry, self.folder / f"spool-{node}")):
                        found.append(int(entry.name))
        return sorted(found)

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(command, env=self.env, capture_output=True, text=True, timeout=60, check=False)

    def states(self) -> dict[str, str]:
        """Of the nodes, as slurmctld says: n1 -> idle."""
        said = self.run("sinfo", "-h", "-N", "-o", "%N %T").stdout
        return dict(line.split() for line in said.splitlines())

    def jobs(self) -> list[list[str]]:
        """Number, name, state and node of every job that slurmctld knows."""
        said = self.run("squeue", "-h", "-t", "all", "-o", "%i|%j|%T|%N").stdout
        return [line.split("|") for line in said.splitlines()]

    def wait_until_idle(self) -> None:
        wait_until(lambda: self._are(("idle",), self.nodes), f"{len(self.nodes)} idle nodes")

    def remove(self) -> None:
        with ExitStack() as stack:
            stack.callback(shutil.rmtree, self.folder)
            for node in self.nodes:
                stack.callback(self.kill_jobs, node)
            for child in self.children.values():
                stack.callback(child.wait)
                stack.callback(child.kill)


def _is_stepd_of(entry: Path, spool: Path) -> bool:
    with suppress(OSError):
        return b"slurmstepd" in (entry / "cmdline").read_bytes() and os.readlink(entry / "cwd") == str(spool)
    return False


def _free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        found = []
        for _ in range(count):
            each = stack.enter_context(socket.socket())
            each.bind(("127.0.0.1", 0))
            found.append(int(each.getsockname()[1]))
        return found


def is_installed() -> bool:
    return all(shutil.which(program, path=SBIN) for program in PROGRAMS)


def on_cluster(spica: RunningSpica, cluster: Cluster, monkeypatch: pytest.MonkeyPatch, more: str = "") -> None:
    """Spica's steps run there from now on, also those of a daemon that is a child of the test."""
    monkeypatch.setenv("SLURM_CONF", str(cluster.conf))
    text = re.sub(r"^slots = .*$", 'backend = "slurm"', spica.conf.read_text(), flags=re.MULTILINE)
    spica.conf.write_text(f"{text}\n[slurm]\npoll_s = 0.2\n{more}")


def started(nodes: int) -> Iterator[Cluster]:
    if os.geteuid() != 0:
        pytest.skip("a Slurm of several nodes on one machine takes root")
    if not is_installed():
        missing("Slurm")
    cluster = Cluster(nodes)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.remove()


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    yield from started(3)

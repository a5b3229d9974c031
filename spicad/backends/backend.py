"""What a backend is to the daemon: the words in which attempts of steps are begun, followed and ended.

local.py is that of this machine, slurm.py that of a cluster. Which step goes where, and what an end means, is the
affair of the workshop and the workbench.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from spicad.config import Settings
from spicad.waiting import Node


@dataclass(frozen=True)
class Limits:
    memory_mb: int
    disk_mb: int
    time_s: float
    threads: int = 1


@dataclass(frozen=True)
class Task:
    """One attempt of a step, laid out in its `folder` and ready to begin."""

    folder: Path
    argv: Sequence[str]
    inputs: Mapping[str, Path]  # name in in/ -> file
    limits: Limits
    sandboxed: bool
    read_only: Sequence[Path] = ()  # folders outside of /usr that the tool needs to see
    papers: Mapping[str, str] = field(default_factory=dict)  # texts about the step, by the names of their files
    name: str = "step"  # unlike that of any other attempt of this daemon
    slots: int = 1
    node: str = ""  # where it should run; empty: anywhere
    avoided: frozenset[str] = frozenset()  # nodes where it must not
    points: float = 0.0  # its score: more goes first


@dataclass(frozen=True)
class News:
    """What has become of the attempt in `folder`: where and when it has begun, or what it waits for."""

    folder: Path
    node: str = ""
    started: float = 0.0
    waits: str = ""
    who: str = ""  # as the machine or the cluster calls it: pid 1234


@dataclass(frozen=True)
class End:
    """The attempt in `folder` runs no more, and nothing that it had begun does."""

    folder: Path
    exit_code: int | None = None  # of the tool; 128+N for signal N
    interrupted: str = ""  # why it did not come to its end: it is tried again
    refused: str = ""  # why it could never begin: it is not
    timed_out: bool = False
    node: str = ""
    started: float = 0.0
    elsewhere: bool = False  # it is tried again on another node


class Backend(Protocol):
    """All verbs return at once; what follows from them is told by `look`."""

    settings: Settings  # a reload puts others here

    def nodes(self) -> Sequence[Node]:
        """Where steps may run, and how much room there is."""

    def held_up(self) -> str:
        """'' or why nothing can be begun at the moment."""

    def start(self, task: Task, now: float) -> News:
        """Begins it. Raises OSError when that cannot be done."""

    def adopt(self, folder: Path, slots: int, time_s: float) -> News | None:
        """Follows an attempt that an earlier life of the daemon had begun; None when there is nothing to follow."""

    def left_undone(self, folder: Path) -> End | None:
        """How an attempt that cannot be adopted has ended; None when it had not begun. Nothing of it goes on."""

    def look(self, now: float) -> Sequence[News | End]:
        """What has happened since the last look."""

    def kill(self, folder: Path) -> None:
        """Ends everything that runs in the step of `folder`; an End follows of what is still followed."""

    def forget(self, folder: Path) -> None:
        """Nobody wants to hear of it any more; what runs of it is ended."""

    @property
    def next_time(self) -> float | None:
        """When it wants to be looked at again, without anything having happened."""

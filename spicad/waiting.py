"""The queue in memory, and the choice of who goes first: decisions on values, no files and no rows.

Classes (rank, user) keep their processes by age, so that a choice looks at the head of each class only.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass


@dataclass(frozen=True, order=True, slots=True)
class Waiting:
    """A queued process, ordered as its class is: the oldest first."""

    submitted: float
    process: int
    rank: int
    user: str
    group: str
    not_before: float = 0.0


@dataclass(frozen=True)
class Limits:
    """How many steps may run at the same time; 0: no such limit."""

    slots: int
    per_user: int = 0
    per_group: int = 0


BAND = 1_000.0  # a rank's band; age and all other terms together stay below it
AGE_FULL_S = 30 * 86_400.0  # age counts up to this


def score(rank: int, submitted: float, now: float) -> dict[str, float]:
    """Each term of the score by name; their sum decides, more goes first."""
    age = min(max(now - submitted, 0.0), AGE_FULL_S) / AGE_FULL_S
    return {"rank": rank * BAND, "age": age * (BAND - 1)}


class Queue:
    """All queued processes. Adding, removing and looking at the heads cost little however many wait."""

    def __init__(self) -> None:
        self._classes: dict[tuple[int, str], list[Waiting]] = {}
        self._members: dict[int, Waiting] = {}
        self._later: list[tuple[float, Waiting]] = []  # by not_before

    def __len__(self) -> int:
        return len(self._members)

    def __contains__(self, process: int) -> bool:
        return process in self._members

    def __iter__(self) -> Iterator[Waiting]:
        return iter(list(self._members.values()))

    def add(self, waiting: Waiting, now: float) -> None:
        self._members[waiting.process] = waiting
        if waiting.not_before > now:
            heapq.heappush(self._later, (waiting.not_before, waiting))
        else:
            heapq.heappush(self._classes.setdefault((waiting.rank, waiting.user), []), waiting)

    def remove(self, process: int) -> Waiting | None:
        return self._members.pop(process, None)

    def in_order(self, now: float, may_start: Callable[[Waiting], bool]) -> Iterator[Waiting]:
        """The highest score first, as far as one asks. A class whose next one may not start yields no more."""
        self._bring_in(now)
        front = []
        for number, key in enumerate(list(self._classes)):
            members = self._of_class(key)
            if first := next(members, None):
                front.append((_place(first, now), number, first, members))
        heapq.heapify(front)
        while front:
            _, number, waiting, members = heapq.heappop(front)
            if not may_start(waiting):
                continue
            yield waiting
            if following := next(members, None):
                heapq.heappush(front, (_place(following, now), number, following, members))

    def _bring_in(self, now: float) -> None:
        """Those whose time has come."""
        while self._later and self._later[0][0] <= now:
            _, waiting = heapq.heappop(self._later)
            if self._members.get(waiting.process) is waiting:  # not removed, nor added anew with another time
                heapq.heappush(self._classes.setdefault((waiting.rank, waiting.user), []), waiting)

    def _of_class(self, key: tuple[int, str]) -> Iterator[Waiting]:
        """The members of a class by age; its heap stays as it is but for the heads that are gone."""
        heap = self._classes[key]
        while heap and self._members.get(heap[0].process) is not heap[0]:
            heapq.heappop(heap)
        if not heap:
            del self._classes[key]
            return
        front = [(heap[0], 0)]
        while front:
            waiting, at = heapq.heappop(front)
            for child in (2 * at + 1, 2 * at + 2):
                if child < len(heap):
                    heapq.heappush(front, (heap[child], child))
            if self._members.get(waiting.process) is waiting:
                yield waiting

    @property
    def next_time(self) -> float | None:
        """When the next process that waits for its time may start."""
        return self._later[0][0] if self._later else None


def order(candidates: Collection[Waiting], now: float) -> list[Waiting]:
    """Who goes first: the highest score, the older of equals."""
    return sorted(candidates, key=lambda each: _place(each, now))


def merged(active: Collection[Waiting], queued: Iterator[Waiting], now: float) -> Iterator[Waiting]:
    """Two lines that are each in order, as one."""
    return heapq.merge(active, queued, key=lambda each: _place(each, now))


def _place(waiting: Waiting, now: float) -> tuple[float, float, int]:
    """Of equal scores the older goes first, as in its class."""
    return -sum(score(waiting.rank, waiting.submitted, now).values()), waiting.submitted, waiting.process


def binding_limit(
    user: str,
    group: str,
    slots_wanted: int,
    running: int,
    by_user: Mapping[str, int],
    by_group: Mapping[str, int],
    limits: Limits,
) -> str:
    """'' when a step may start, else the limit that holds it, in words."""
    if running and running + slots_wanted > limits.slots:
        return f"all {limits.slots} slots of the node are taken"
    if limits.per_user and by_user.get(user, 0) + slots_wanted > limits.per_user:
        return f"{user} has {limits.per_user} slots and uses them"
    if limits.per_group and by_group.get(group, 0) + slots_wanted > limits.per_group:
        return f"the group {group} has {limits.per_group} slots and uses them"
    return ""


def ahead_of(process: int, candidates: Collection[Waiting], now: float) -> int | None:
    """How many of `candidates` go before `process`; None when it is not among them."""
    for number, each in enumerate(order(candidates, now)):
        if each.process == process:
            return number
    return None

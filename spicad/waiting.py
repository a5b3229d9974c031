"""The queue in memory, and the choice of who goes first: decisions on values, no files and no rows.

Classes keep their processes by age, so that a choice looks at the head of each class only.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any


@dataclass(frozen=True, order=True, slots=True)
class Waiting:
    """A queued process, ordered as its class is: the oldest first."""

    submitted: float
    process: int
    rank: int
    user: str
    group: str
    not_before: float = 0.0
    locality: float = 1.0  # share of its input bytes that are stored on the node that stores most of them

    @property
    def of_class(self) -> Class:
        return self.rank, self.user, self.group, round(self.locality * 4)


Class = tuple[int, str, str, int]


@dataclass(frozen=True)
class Limits:
    """How many slots may be taken at the same time; 0: no such limit."""

    slots: int
    per_user: int = 0
    per_group: int = 0
    per_application: Mapping[str, int] = field(default_factory=dict)
    reserved: Mapping[int, int] = field(default_factory=dict)  # by rank: slots that others leave free while it waits
    widest: int = 0  # slots of the largest node

    @cached_property
    def of_owners(self) -> Limits:
        """The same without the one that all share."""
        return replace(self, slots=1 << 30)

    def slots_of(self, threads: int) -> int:
        """A step wider than a limit takes all of it, rather than waiting for ever."""
        limits = (self.slots, self.per_user, self.per_group, self.widest)
        return min(max(threads, 1), *(most for most in limits if most), 1 << 30)


@dataclass
class InUse:
    """Slots that running steps take."""

    total: int = 0
    by_user: Counter[str] = field(default_factory=Counter)
    by_group: Counter[str] = field(default_factory=Counter)
    by_application: Counter[str] = field(default_factory=Counter)
    by_rank: Counter[int] = field(default_factory=Counter)

    def add(self, wish: Wish) -> None:
        self.total += wish.slots
        self.by_user[wish.user] += wish.slots
        self.by_group[wish.group] += wish.slots
        self.by_application[wish.application] += wish.slots
        self.by_rank[wish.rank] += wish.slots


@dataclass(frozen=True)
class Wish:
    """A step that would like to start, or one that runs."""

    user: str
    group: str
    rank: int
    slots: int = 1
    application: str = ""


@dataclass(frozen=True)
class Node:
    """Where steps may run, as it is now."""

    name: str
    slots: int
    taken: int = 0
    idle: float = 1.0  # the share of it that is idle
    memory_mb: int = 0  # 0: not known
    why_not: str = ""  # '' or why nothing can run there

    def has_room(self, wish: Wish) -> bool:
        """In the queue of a cluster, the node without a name, one step always has room."""
        is_open = not self.name and not self.taken and self.slots > 0
        return not self.why_not and (is_open or self.taken + wish.slots <= self.slots)

    @property
    def share_taken(self) -> float:
        return self.taken / max(self.slots, 1)

    def with_more(self, slots: int) -> Node:
        return replace(self, taken=self.taken + slots, idle=max(0.0, self.idle - slots / max(self.slots, 1)))


@dataclass(frozen=True, eq=False)
class Ready:
    """A step that may start, with what its process has on its side."""

    process: Waiting
    step: int
    wish: Wish
    shares: Mapping[str, float] = field(default_factory=dict)  # node -> share of its input bytes that is stored there
    elsewhere: float = 0.0  # the same of a node that is not in `shares`
    avoided: frozenset[str] = frozenset()  # nodes that were lost with an earlier attempt of it
    memory_mb: int = 0

    def share_on(self, node: Node) -> float:
        return self.shares.get(node.name, self.elsewhere)

    def may_run_on(self, node: Node) -> bool:
        return node.name not in self.avoided and not 0 < node.memory_mb < self.memory_mb


BAND = 1_000.0  # a rank's band; all other terms together stay below it
DAY_S = 86_400.0
WEIGH_AGAIN_S = 10.0


@dataclass(frozen=True)
class Weights:
    """What each term of the score is worth at most, in points; [priority] of spica.conf. Together less than BAND."""

    age: float = 400.0
    age_days: float = 30.0
    fair_share: float = 300.0
    share_hours: float = 24.0
    locality: float = 200.0
    load: float = 50.0


USUAL = Weights()


def score(
    rank: int,
    submitted: float,
    now: float,
    share: float = 1.0,
    locality: float = 1.0,
    idle: float = 1.0,
    weights: Weights = USUAL,
) -> dict[str, float]:
    """Each term of the score by name; their sum decides, more goes first.

    `share`: 1 for somebody who has used nothing lately, to 0; `locality`: the share of the input bytes that are stored
    on the node; `idle`: the share of the node that is idle.
    """
    days = max(now - submitted, 0.0) / DAY_S
    return {
        "rank": rank * BAND,
        "locality": locality * weights.locality,
        "load": idle * weights.load,
        "age": min(days / weights.age_days, 1.0) * weights.age,
        "fair share": share * weights.fair_share,
    }


class Use:
    """Slot seconds that users and groups have had of late; half of them are forgotten each day."""

    def __init__(self) -> None:
        self._had: dict[tuple[str, str], tuple[float, float]] = {}  # (user or group, name) -> (seconds, at)

    def add(self, user: str, group: str, seconds: float, at: float) -> None:
        for key in (("user", user), ("group", group)):
            later = max(at, self._had.get(key, (0.0, at))[1])
            self._had[key] = (self._at(key, later) + seconds * _faded(later - at), later)

    def share(self, user: str, group: str, now: float, weights: Weights) -> float:
        """1 for who has used nothing; share_hours of slot time halve it. User and group count the same."""
        hours = [self._at(key, now) / 3600 for key in (("user", user), ("group", group))]
        return sum(0.5 ** (each / weights.share_hours) for each in hours) / 2

    def _at(self, key: tuple[str, str], now: float) -> float:
        seconds, at = self._had.get(key, (0.0, now))
        return seconds * _faded(now - at)


def _faded(seconds: float) -> float:
    return float(0.5 ** (max(seconds, 0.0) / DAY_S))


class Members:
    """Those of one class that wait, by age, with what their scores have in common."""

    __slots__ = ("heap", "weight")

    def __init__(self, weight: float) -> None:
        self.heap: list[Waiting] = []
        self.weight = weight

    def head(self, there: Mapping[int, Waiting]) -> Waiting | None:
        """The oldest; its heap stays as it is but for the heads that are gone."""
        heap = self.heap
        while heap and there.get(heap[0].process) is not heap[0]:
            heapq.heappop(heap)
        return heap[0] if heap else None

    def by_age(self, there: Mapping[int, Waiting]) -> Iterator[Waiting]:
        front = [(self.heap[0], 0)] if self.heap else []
        while front:
            waiting, at = heapq.heappop(front)
            for child in (2 * at + 1, 2 * at + 2):
                if child < len(self.heap):
                    heapq.heappush(front, (self.heap[child], child))
            if there.get(waiting.process) is waiting:
                yield waiting


class Queue:
    """All queued processes. Adding, removing and looking at the heads cost little however many wait.

    A class is what has the same score but for its age: rank, user, group, and locality in quarters.
    """

    def __init__(self, weights: Weights = USUAL, use: Use | None = None) -> None:
        self.weights = weights
        self.use = use or Use()
        self._classes: dict[int, dict[Class, Members]] = {}  # by rank: bands never cross
        self._weight: dict[Class, float] = {}
        self._weighed = 0.0
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
            self._line_up(waiting, now)

    def remove(self, process: int) -> Waiting | None:
        return self._members.pop(process, None)

    def in_order(self, now: float, may_start: Callable[[Waiting], bool]) -> Iterator[Waiting]:
        """The highest score first, as far as one asks. A class whose next one may not start yields no more."""
        self._bring_in(now)
        self._weigh(now)
        for rank in sorted(self._classes, reverse=True):
            yield from self._of_rank(rank, now, may_start)

    def _of_rank(self, rank: int, now: float, may_start: Callable[[Waiting], bool]) -> Iterator[Waiting]:
        there: Mapping[int, Waiting] = self._members
        front: list[Any] = []
        for key, members in list(self._classes[rank].items()):
            head = members.head(there)
            if head is None:
                del self._classes[rank][key]
            else:
                front.append((*self._placed(head, members.weight, now), key, members, None))
        heapq.heapify(front)
        while front:
            *_, process, key, members, rest = heapq.heappop(front)
            waiting = there.get(process)
            if waiting is not None:
                if not may_start(waiting):
                    continue
                yield waiting
            rest = rest or (each for each in members.by_age(there) if each is not waiting)
            if following := next(rest, None):
                heapq.heappush(front, (*self._placed(following, members.weight, now), key, members, rest))

    def place(self, waiting: Waiting, now: float) -> Place:
        """Where it stands: less goes first."""
        self._weigh(now)
        return self._placed(waiting, self._weight_of(waiting, now), now)

    def _placed(self, waiting: Waiting, weight: float, now: float) -> Place:
        """Of equal scores the older goes first, as in its class."""
        age = (now - waiting.submitted) / (self.weights.age_days * DAY_S)
        points = 0.0 if age < 0 else self.weights.age if age > 1 else age * self.weights.age
        return -(weight + points), waiting.submitted, waiting.process

    def _weight_of(self, waiting: Waiting, now: float) -> float:
        """All of the score but age: the same for a class."""
        key = waiting.of_class
        if key not in self._weight:
            terms = terms_of(waiting, now, self.use, self.weights)
            self._weight[key] = sum(terms.values()) - terms["age"]
        return self._weight[key]

    def _weigh(self, now: float) -> None:
        """Recent use changes slowly: the weights of all classes stand for a while."""
        if abs(now - self._weighed) <= WEIGH_AGAIN_S:
            return
        self._weighed = now
        self._weight.clear()
        for classes in self._classes.values():
            for members in classes.values():
                if head := members.head(self._members):
                    members.weight = self._weight_of(head, now)

    def ranks(self) -> set[int]:
        """Ranks of which somebody may wait."""
        return {rank for rank, classes in self._classes.items() if classes}

    def _bring_in(self, now: float) -> None:
        """Those whose time has come."""
        while self._later and self._later[0][0] <= now:
            _, waiting = heapq.heappop(self._later)
            if self._members.get(waiting.process) is waiting:  # not removed, nor added anew with another time
                self._line_up(waiting, now)

    def _line_up(self, waiting: Waiting, now: float) -> None:
        classes, key = self._classes.setdefault(waiting.rank, {}), waiting.of_class
        if key not in classes:
            classes[key] = Members(self._weight_of(waiting, now))
        heapq.heappush(classes[key].heap, waiting)

    @property
    def next_time(self) -> float | None:
        """When the next process that waits for its time may start."""
        return self._later[0][0] if self._later else None


Place = tuple[float, float, int]


def terms_of(waiting: Waiting, now: float, use: Use, weights: Weights, idle: float = 1.0) -> dict[str, float]:
    share = use.share(waiting.user, waiting.group, now, weights)
    locality = round(waiting.locality * 4) / 4
    return score(waiting.rank, waiting.submitted, now, share, locality, idle, weights)


def order(candidates: Collection[Waiting], now: float, by: Queue | None = None) -> list[Waiting]:
    """Who goes first: the highest score, the older of equals."""
    by = by or Queue()
    return sorted(candidates, key=lambda each: by.place(each, now))


def choice(
    ready: Collection[Ready], nodes: Sequence[Node], now: float, by: Queue, may_start: Callable[[Ready], bool]
) -> Iterator[tuple[float, Ready, Node]]:
    """The best pair of a step and a node with its score, again and again, as far as there is room; each step once.

    Of nodes that are worth the same the emptier is taken. What was given to a node counts as its load for those that
    follow. A step that may not start is left out.
    """
    here = {node.name: node for node in nodes}
    plain = {each: _without_node(each.process, now, by) for each in ready}
    line: list[Any] = []

    def best(each: Ready) -> tuple[float, str] | None:
        """The node that is worth most to it now, with the score of that pair."""
        found = [
            (plain[each] + each.share_on(node) * by.weights.locality + node.idle * by.weights.load, node)
            for node in here.values()
            if node.has_room(each.wish) and each.may_run_on(node)
        ]
        points, node = max(found, key=lambda pair: (pair[0], -pair[1].share_taken), default=(0.0, None))
        return (points, node.name) if node else None

    def line_up(each: Ready, points: float) -> None:
        heapq.heappush(line, (-points, each.process.submitted, each.process.process, each.step, each))

    for each in ready:
        if found := best(each):
            line_up(each, found[0])
    while line:
        foreseen, *_, each = heapq.heappop(line)
        found = best(each)
        if found is None:
            continue
        if found[0] < -foreseen:
            line_up(each, found[0])  # its node has more to do by now: others may go before it
        elif may_start(each):
            name = found[1]
            here[name] = here[name].with_more(each.wish.slots)
            yield found[0], each, here[name]


def _without_node(process: Waiting, now: float, by: Queue) -> float:
    """The terms of its score that are the same on every node."""
    terms = terms_of(process, now, by.use, by.weights)
    return sum(terms.values()) - terms["locality"] - terms["load"]


def merged(active: Collection[Waiting], queued: Iterator[Waiting], now: float, by: Queue) -> Iterator[Waiting]:
    """Two lines that are each in order, as one."""
    return heapq.merge(active, queued, key=lambda each: by.place(each, now))


def kept_free(rank: int, waiting: Collection[int], in_use: InUse, limits: Limits) -> int:
    """Slots that a step of `rank` must leave free for other ranks that have slots of their own and wait."""
    return sum(
        max(0, slots - in_use.by_rank[other])
        for other, slots in limits.reserved.items()
        if other != rank and other in waiting
    )


def binding_limit(wish: Wish, in_use: InUse, limits: Limits, pending: int = 0, kept: int = 0) -> str:
    """'' when a step may start, else the limit that holds it, in words.

    `pending`: slots for steps of a higher rank that are about to start; `kept`: see kept_free.
    """
    taken, room = in_use.total + pending, limits.slots - kept
    if taken and taken + wish.slots > limits.slots:
        return f"all {limits.slots} slots are taken"
    if kept and (room <= 0 or taken + min(wish.slots, room) > room):
        return f"{kept} of {limits.slots} slots are kept for others, and all the rest are taken"
    if limits.per_user and in_use.by_user[wish.user] + wish.slots > limits.per_user:
        return f"{wish.user} has {limits.per_user} slots and uses them"
    if limits.per_group and in_use.by_group[wish.group] + wish.slots > limits.per_group:
        return f"the group {wish.group} has {limits.per_group} slots and uses them"
    most = limits.per_application.get(wish.application, 0)
    if most and in_use.by_application[wish.application] and in_use.by_application[wish.application] + wish.slots > most:
        return f"{wish.application} has {most} slots and uses them"
    return ""


def ahead_of(process: int, candidates: Collection[Waiting], now: float, by: Queue | None = None) -> list[int]:
    """Those of `candidates` that go before `process`, which is one of them."""
    numbers = [each.process for each in order(candidates, now, by)]
    return numbers[: numbers.index(process)]

"""A made year of an observatory: who waits how long, and what is read locally, by Spica's score and by other orders.

    python tests/benchmarks/observatory.py [--days 365] [--seed 2003]

Seeded and simulated: score and choice of pairs (process, node) are the daemon's own (spicad/waiting.py). Beside it on
the same arrivals: first come first served, and the score blind to where the input lies. spicad(8) has the table.
"""

from __future__ import annotations

import argparse
import heapq
import random
import statistics
import sys
from collections import defaultdict, deque
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from stand import table

from spicad.waiting import DAY_S, USUAL, Node, Queue, Ready, Waiting, Weights, Wish, choice
from spicad.words import Rank

NODES = 4
SLOTS = 2  # of each node
USERS = 24
GROUPS = 4
OVER_THE_NETWORK = 1.3  # what a process takes longer whose input lies on another node
NIGHT_BATCH = 100  # exposures of a night, reduced by the pipeline in the morning
MORNING_S = 8 * 3600.0
MEDIAN_S = 600.0
SPREAD = 0.9  # of the logarithm of a process's time


@dataclass(frozen=True)
class Request:
    """A process: who wants it and when, where its input lies, how long it takes there, how much it reads."""

    submitted: float
    number: int
    rank: int
    user: str
    group: str
    home: int
    time_s: float
    gigabytes: float

    def as_ready(self, rank: int) -> Ready:
        process = Waiting(self.submitted, self.number, rank, self.user, self.group)
        return Ready(process, 1, Wish(self.user, self.group, rank), {str(self.home): 1.0})


def year(days: int, seed: int) -> list[Request]:
    """The pipeline's batch each morning; users in working hours, one of them with bursts of hundreds."""
    chance, found = random.Random(seed), []
    for day in range(days):
        home = chance.randrange(NODES)  # a night's exposures lie together
        for _ in range(NIGHT_BATCH):
            found.append(_request(chance, day * DAY_S + MORNING_S, Rank.PIPELINE, "pipeline", "pipeline", home))
        for number in range(chance.randint(200, 420)):
            user = int(chance.triangular(0, USERS, 0))
            rank = {0: Rank.ADMINISTRATOR, 1: Rank.GROUP_ADMINISTRATOR}.get(number % 40, Rank.USER)
            moment = day * DAY_S + chance.uniform(7, 20) * 3600
            found.append(
                _request(chance, moment, rank, f"user{user}", f"group{user % GROUPS}", chance.randrange(NODES))
            )
        if chance.random() < 0.1:
            moment = day * DAY_S + chance.uniform(9, 17) * 3600
            found += [_request(chance, moment, Rank.USER, "user0", "group0", 0) for _ in range(400)]
    found.sort(key=lambda each: each.submitted)
    return [replace(each, number=number) for number, each in enumerate(found)]


def _request(chance: random.Random, moment: float, rank: Rank, user: str, group: str, home: int) -> Request:
    time_s = min(MEDIAN_S * chance.lognormvariate(0, SPREAD), DAY_S / 2)
    return Request(moment, 0, int(rank), user, group, home, time_s, time_s / 60)


@dataclass
class Outcome:
    waited: dict[int, list[float]]  # by rank, s
    waited_by_user: dict[str, list[float]]
    local_gb: float = 0.0
    all_gb: float = 0.0


class Line:
    """What waits, by class: only the oldest of each can be next."""

    def __init__(self) -> None:
        self.classes: dict[tuple[int, str, str, int], deque[Request]] = defaultdict(deque)

    def add(self, request: Request) -> None:
        self.classes[(request.rank, request.user, request.group, request.home)].append(request)

    def heads(self) -> Iterator[Request]:
        return (members[0] for members in self.classes.values() if members)

    def take(self, request: Request) -> None:
        key = (request.rank, request.user, request.group, request.home)
        self.classes[key].popleft()
        if not self.classes[key]:
            del self.classes[key]


def simulate(requests: list[Request], weights: Weights, ranks_count: bool = True) -> Outcome:
    """Each time a slot is free, the pair of process and node that is worth most goes first."""
    line, by, outcome = Line(), Queue(weights), Outcome(defaultdict(list), defaultdict(list))
    free = dict.fromkeys(range(NODES), SLOTS)
    ends: list[tuple[float, int, int, Request]] = []
    coming = deque(requests)
    while coming or ends:
        if ends and (not coming or ends[0][0] <= coming[0].submitted):
            now, _, node, request = heapq.heappop(ends)
            free[node] += 1
            by.use.add(request.user, request.group, request.time_s, now)
        else:
            now = coming[0].submitted
            while coming and coming[0].submitted <= now:
                line.add(coming.popleft())
        while line.classes and any(free.values()):
            nodes = [Node(str(node), SLOTS, SLOTS - slots, slots / SLOTS) for node, slots in free.items() if slots]
            ready = [request.as_ready(request.rank * ranks_count) for request in line.heads()]
            _, chosen, on = next(choice(ready, nodes, now, by, lambda _: True))
            request, node = requests[chosen.process.process], int(on.name)
            line.take(request)
            free[node] -= 1
            is_local = request.home == node
            took = request.time_s * (1.0 if is_local else OVER_THE_NETWORK)
            heapq.heappush(ends, (now + took, request.number, node, request))
            outcome.waited[request.rank].append(now - request.submitted)
            if request.rank == Rank.USER:
                outcome.waited_by_user[request.user].append(now - request.submitted)
            outcome.all_gb += request.gigabytes
            outcome.local_gb += request.gigabytes * is_local
    return outcome


def row(name: str, outcome: Outcome) -> tuple[object, ...]:
    cells: list[object] = [name]
    for rank in sorted(Rank, reverse=True):
        waited = sorted(each / 60 for each in outcome.waited[int(rank)])
        cells.append(f"{statistics.median(waited):.0f} / {waited[int(len(waited) * 0.95)]:.0f}")
    by_user = sorted(outcome.waited_by_user.values(), key=len)
    half = len(by_user) // 2
    modest = [each for waited in by_user[:half] for each in waited]
    cells.append(f"{statistics.mean(modest) / 60:.0f} / {statistics.mean(by_user[-1]) / 60:.0f}")
    cells.append(f"{100 * outcome.local_gb / outcome.all_gb:.0f}")
    return tuple(cells)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--days", type=int, default=365)
    parser.add_argument("--seed", type=int, default=2003)
    chosen = parser.parse_args()
    requests = year(chosen.days, chosen.seed)
    busy = sum(each.time_s for each in requests) / (chosen.days * DAY_S * NODES * SLOTS)
    print(f"{len(requests)} processes in {chosen.days} days on {NODES} nodes of {SLOTS} slots, {100 * busy:.0f} % busy")
    policies = {
        "Spica's score": (USUAL,),
        "blind to locality": (replace(USUAL, locality=0.0),),
        "first come, first served": (Weights(fair_share=0.0, locality=0.0, load=0.0), False),
    }
    ranks = [rank.words for rank in sorted(Rank, reverse=True)]
    columns = ("order", *ranks, "modest / greedy", "% local")
    rows = [row(name, simulate(requests, *policy)) for name, policy in policies.items()]
    title = "minutes of waiting: median / 95 % of each rank; mean of the half of users who ask least / of who asks most"
    table(title, columns, rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())

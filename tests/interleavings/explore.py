"""Which orders the scheduler tries: all of them up to a bound, or random ones by a seed."""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from tests.interleavings.scheduler import Choice, Fault, Scheduler

Choose = Callable[[Scheduler, list[int]], Choice]


@dataclass
class Recorded:
    """Follows the first choices, then lets a client go on for as long as it can; notes what else it could have chosen."""

    first: list[int]
    chosen: list[int] = field(default_factory=list)
    ready: list[list[int]] = field(default_factory=list)
    last: list[int | None] = field(default_factory=list)

    def __call__(self, scheduler: Scheduler, ready: list[int]) -> Choice:
        step = len(self.chosen)
        if step < len(self.first):
            place = self.first[step]
            assert place in ready, f"step {step}: client {place} cannot go on, so this is the schedule of another version"
        else:
            place = scheduler.last if scheduler.last in ready else ready[0]
        self.ready.append(ready)
        self.last.append(scheduler.last)
        self.chosen.append(place)
        return Choice(place)

    def preemptions(self, length: int) -> int:
        """Return how often, in the first steps, a client was stopped that could have continued."""
        return sum(
            self.last[step] in self.ready[step] and self.chosen[step] != self.last[step]
            for step in range(length)
            if self.last[step] is not None
        )


def all_orders(run: Callable[[Recorded], None], bound: int) -> Iterator[Recorded]:
    """Run every order in which at most this number of times a client is stopped that could have continued. Yield each."""
    waiting: list[list[int]] = [[]]
    while waiting:
        order = Recorded(waiting.pop())
        run(order)
        yield order
        for step in range(len(order.first), len(order.chosen)):
            used = order.preemptions(step)
            for place in order.ready[step]:
                is_stop = order.last[step] in order.ready[step] and place != order.last[step]
                if place != order.chosen[step] and used + is_stop <= bound:
                    waiting.append([*order.chosen[:step], place])


class RandomOrder:
    """Chooses by a seed: mostly the same client for a while; now and then a connection is lost."""

    def __init__(self, seed: int, most_faults: int) -> None:
        self.rng = random.Random(seed)
        self.stay = self.rng.choice((0.0, 0.5, 0.9))
        self.faults = self.rng.randint(0, most_faults)
        self.fault_chance = self.rng.choice((0.02, 0.1))

    def __call__(self, scheduler: Scheduler, ready: list[int]) -> Choice:
        place = scheduler.last if scheduler.last in ready and self.rng.random() < self.stay else self.rng.choice(ready)
        assert place is not None
        fault = Fault.NONE
        client = scheduler.clients[place]
        if self.faults and client.can_be_lost and self.rng.random() < self.fault_chance:
            self.faults -= 1
            fault = self.rng.choice((Fault.LOST, Fault.UNACKNOWLEDGED)) if client.at == "COMMIT" else Fault.LOST
        return Choice(place, fault)

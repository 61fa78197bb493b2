"""Run interleavings, and print what was illegal: `make test-interleavings SEEDS=2000`.

python tests/interleavings/run.py --seeds 2000           random orders of the seeds 0 to 1999
python tests/interleavings/run.py --seed 17              the order of one seed again, with each step
python tests/interleavings/run.py --bound 2              all orders of two clients, with at most two stops
python tests/interleavings/run.py --pair claim settle --order 0010111   one of them again, with each step
"""

import argparse
import logging
import random
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import structlog

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[2])
    sys.path.insert(1, str(Path(__file__).resolve().parents[2] / "plugins"))
    import tests.conftest  # noqa: F401

from dev import services
from dev.servers import Postgres
from progress_exhaust.hooks.requests import connection
from progress_exhaust.report.request import Batch
from tests.history.events import Run
from tests.history.recorder import record_history
from tests.integration.life import connect, database_of_requests, emptied
from tests.interleavings.explore import Choose, RandomOrder, Recorded, all_orders
from tests.interleavings.fences import FENCES, NOT_FOUND, NOT_TRIED, Fence
from tests.interleavings.scenarios import QUICK_STEPS, STEPS, held_request, pair_of_clients, pairs, situation
from tests.interleavings.scheduler import Client, Scheduler
from tests.interleavings.tasks import run_whole
from tests.interleavings.world import Saved, World

MOST_FAULTS = 3


@dataclass(frozen=True)
class Failure:
    """A schedule with an illegal history."""

    replay: str  # the arguments that run it again
    problems: tuple[str, ...]
    trace: tuple[str, ...]

    def __str__(self) -> str:
        lines = [f"again: python tests/interleavings/run.py {self.replay}", *self.problems, *self.trace]
        return "\n  ".join(lines)


class Interleavings:
    """Runs schedules, one after the other, in one database."""

    def __init__(self, cursor: Any, monitor: Any, folder: Path) -> None:
        self.world = World(cursor, folder, run_whole)
        self._monitor = monitor
        self.schedules = self.steps = 0
        self._sent: dict[str, set[str]] = {}  # the statements of each step
        self._start: tuple[Run, list[Batch], Saved] | None = None  # where each pair starts

    def random_order(self, seed: int) -> Failure | None:
        """Run the situation and the order of a seed."""
        self.world.reset()
        rng = random.Random(f"{seed} situation")
        return self._run(situation(self.world, rng), RandomOrder(seed, MOST_FAULTS), f"--seed {seed}")

    def all_orders(self, pair: tuple[str, str], bound: int) -> Iterator[Failure]:
        """Run all orders of two clients with at most this number of stops."""
        failures: list[Failure | None] = []
        for _ in all_orders(lambda order: failures.append(self.one_order(pair, order)), bound):
            if failure := failures.pop():
                yield failure

    def one_order(self, pair: tuple[str, str], order: Recorded) -> Failure | None:
        if self._start is None:
            self.world.reset()
            self._start = *held_request(self.world), self.world.save()
        run, batches, saved = self._start
        self.world.restore(saved)
        return self._run(pair_of_clients(self.world, run, batches, pair), order, f"--pair {' '.join(pair)}")

    def find(self, fence: Fence, seeds: int, bound: int) -> tuple[Failure | None, int]:
        """Remove a fence; return the first failure that this causes, if any, and the number of schedules that it took."""
        before = self.schedules
        useful = self._pairs_with(fence)
        with fence.removed():
            self.world.forget_statements()
            found = next(self._all(useful, seeds, bound), None)
        self.world.forget_statements()
        return found, self.schedules - before

    def _pairs_with(self, fence: Fence) -> list[tuple[str, str]]:
        """Return the pairs of steps that send the statement of a fence, first those of which both do; all pairs if none does."""
        if not self._sent:
            for step in STEPS:
                self.one_order((step, step), Recorded([]))
                self._sent[step] = {statement for _, statement in self.statements}
        sent = [(sum(fence.statement_name in self._sent[step] for step in pair), pair) for pair in pairs(STEPS)]
        no_step_alone = not any(times for times, _ in sent)
        return [pair for times, pair in sorted(sent, reverse=True) if times or no_step_alone]

    def _all(self, useful: list[tuple[str, str]], seeds: int, bound: int) -> Iterator[Failure]:
        for pair in useful:
            yield from self.all_orders(pair, 0)
        for pair in useful:
            yield from self.all_orders(pair, bound)
        for seed in range(seeds):
            if failure := self.random_order(seed):
                yield failure

    def _run(self, clients: Sequence[Client], choose: Choose, replay: str) -> Failure | None:
        scheduler = Scheduler(self._monitor, choose)
        scheduler.run(clients)
        self.schedules += 1
        self.steps += len(scheduler.trace)
        if isinstance(choose, Recorded):
            replay += f" --order {''.join(str(choice) for choice, _ in scheduler.trace)}"
        crashed = [f"{client.name}: {type(client.error).__name__}: {client.error}" for client in clients if client.error]
        problems = [*scheduler.problems, *crashed, *self.world.find_problems()]
        self.statements = scheduler.trace
        self.trace = tuple(f"{choice!s:<3}{clients[choice.client].name:<24} {at}" for choice, at in scheduler.trace)
        return Failure(replay, tuple(problems), self.trace) if problems else None


@contextmanager
def interleavings(folder: Path, database: str = "progress_exhaust_interleavings") -> Iterator[Interleavings]:
    """Yield what runs schedules in a database of its own; Postgres runs."""
    with database_of_requests(database) as cursor, pytest.MonkeyPatch.context() as patch:
        # The time limit of a statement starts two threads for it.
        patch.setattr(connection, "answer_within", lambda *_: nullcontext())
        emptied(cursor)
        record_history(cursor)
        uri = Postgres(services.Settings.from_environment()).uri
        with closing(connect(f"{uri}/{database}")) as monitor:
            made = Interleavings(cursor, monitor.cursor(), folder)
            yield made
            for idle in made.world.connections:
                idle.really_close()


def main(given: list[str]) -> int:
    parser = argparse.ArgumentParser(description="Run interleavings of clients, and print what was illegal.")
    parser.add_argument("--seeds", type=int, default=0)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--seed", type=int)
    parser.add_argument("--bound", type=int)
    parser.add_argument("--fences", action="store_true", help="remove each fence, and show what finds it")
    parser.add_argument("--quick", action="store_true", help="only the pairs of CI")
    parser.add_argument("--pair", nargs=2)
    parser.add_argument("--order", default="")
    arguments = parser.parse_args(given)
    settings = services.Settings.from_environment()
    settings.data.mkdir(parents=True, exist_ok=True)
    services.bring_up(settings, [Postgres(settings)])
    logging.disable()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    started = time.monotonic()
    failures = []
    with tempfile.TemporaryDirectory() as folder, interleavings(Path(folder)) as made:
        if arguments.seed is not None:
            failures = [made.random_order(arguments.seed)]
            print("\n".join(made.trace))
        elif arguments.pair:
            failures = [made.one_order(tuple(arguments.pair), Recorded([int(one) for one in arguments.order]))]
            print("\n".join(made.trace))
        elif arguments.fences:
            for fence in (*FENCES, *NOT_FOUND, *NOT_TRIED):
                failure, schedules = made.find(fence, arguments.seeds, arguments.bound or 1)
                how = f"{failure.replay}: {failure.problems[0]}" if failure else "NOT FOUND"
                print(f"{fence} | {schedules} | {how}", flush=True)
            return 0
        elif arguments.bound is not None:
            for pair in pairs(QUICK_STEPS if arguments.quick else STEPS):
                failures += made.all_orders(pair, arguments.bound)
        for seed in range(arguments.first_seed, arguments.first_seed + arguments.seeds):
            failures.append(made.random_order(seed))
        found = [failure for failure in failures if failure]
        for failure in found[:20]:
            print(failure)
        seconds = time.monotonic() - started
        print(f"schedules={made.schedules} steps={made.steps} illegal={len(found)} seconds={seconds:.0f}")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

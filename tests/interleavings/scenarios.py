"""What the clients of a schedule do: pairs of steps for the systematic search, and whole situations that a seed chooses."""

import random
from collections.abc import Callable
from dataclasses import replace

from progress_exhaust.report.request import Batch
from progress_exhaust.stages.site_setup import RunParams
from tests.history.events import Run
from tests.interleavings.scheduler import Client
from tests.interleavings.tasks import Tasks, cancel, release, resubmit
from tests.interleavings.world import FIRST, SECOND, World

Work = Callable[[Client], None]

# Two clients


def held_request(world: World) -> tuple[Run, list[Batch]]:
    """Let a run claim a request of two batches, list them, and publish both. Airflow says that it has ended; a task is late."""
    run = FIRST, "one"
    world.submit("r1", "b1", "b2")
    tasks = Tasks(world, world.client("before", lambda _: None), run)
    tasks.claim()
    batches = tasks.list_batches()
    for batch in batches:
        tasks.package(batch)
    world.end(run)
    return run, batches


def steps(world: World, run: Run, batches: list[Batch]) -> dict[str, Work]:
    """Return what a client may do about the request."""
    first, second = batches
    key = first.request_key

    def of(client: Client, attempt: int = 1, run: Run = run, force: bool = False) -> Tasks:
        params = RunParams(request_ids=("r1",), force=True) if force else RunParams()
        return Tasks(world, client, run, params, attempt)

    def claim(client: Client) -> None:
        of(client, run=(FIRST, client.name)).claim_only()

    def force(client: Client) -> None:
        of(client, run=(FIRST, client.name), force=True).claim_only()

    def publish(client: Client) -> None:
        of(client).package(first)

    def retry(client: Client) -> None:
        of(client, attempt=2).package(first)

    def complete(client: Client) -> None:
        of(client).mark_complete(first)

    def complete_other(client: Client) -> None:
        of(client).mark_complete(second)

    def settle(client: Client) -> None:
        of(client).settle()

    def fail(client: Client) -> None:
        of(client).reject(key)

    def list_again(client: Client) -> None:
        of(client, attempt=2).list_batches()

    def claim_elsewhere(client: Client) -> None:
        of(client, run=(SECOND, run[1])).claim_only()

    def settle_elsewhere(client: Client) -> None:
        of(client, run=(SECOND, run[1])).settle()

    def reclaim_elsewhere(client: Client) -> None:
        of(client, run=(SECOND, run[1])).make([first])

    def clear(client: Client) -> None:
        of(client, attempt=2).make([first])

    def release_claim(client: Client) -> None:
        release(world, client, key)

    def cancel_request(client: Client) -> None:
        cancel(world, client, key)

    def submit_again(client: Client) -> None:
        resubmit(world, client, key)

    every = (
        *(claim, force, publish, retry, complete, complete_other, settle, fail, list_again, clear, release_claim, submit_again),
        cancel_request,
        *(claim_elsewhere, settle_elsewhere, reclaim_elsewhere),
    )
    return {step.__name__: step for step in every}


QUICK_STEPS = ("claim", "publish", "complete", "settle", "fail", "release_claim")
STEPS = (
    *(*QUICK_STEPS, "complete_other", "force", "retry", "list_again", "clear", "submit_again", "cancel_request"),
    *("claim_elsewhere", "settle_elsewhere", "reclaim_elsewhere"),
)


def pairs(names: tuple[str, ...]) -> list[tuple[str, str]]:
    """Return each pair of steps; a step with itself, too."""
    return [(one, other) for place, one in enumerate(names) for other in names[place:]]


def pair_of_clients(world: World, run: Run, batches: list[Batch], pair: tuple[str, str]) -> list[Client]:
    every = steps(world, run, batches)
    return [world.client(f"{number} {name}", every[name]) for number, name in enumerate(pair)]


# Two to four clients, chosen by a seed


def situation(world: World, rng: random.Random) -> list[Client]:
    """Make requests, and what earlier runs have done about them; return the clients that meet now."""
    keys = submit_requests(world, rng)
    runs = [(installation, f"run-{number}") for installation in (FIRST, FIRST, SECOND) for number in range(3)]
    runs = list(dict.fromkeys(rng.sample(runs, len(runs))))  # two installations may have runs with the same id
    earlier = [earlier_run(world, rng, runs.pop()) for _ in range(rng.randint(0, 2))]
    if rng.random() < 0.3:
        world.change_policy(1)
    clients: list[tuple[str, Work]] = []
    for run, batches in earlier:
        for late in range(rng.randint(0, 2)):
            clients.append((f"late {late} of {name(run)}", late_work(world, rng, run, batches)))
        if rng.random() < 0.7 and run not in world.ended:
            world.end(run)
    for _ in range(rng.randint(1, 2)):
        run = runs.pop()
        clients.append((name(run), whole_run(world, rng, run, keys)))
    if rng.random() < 0.4:
        clients.append(("requester", again_and_again(world, rng, resubmit, keys)))
    if rng.random() < 0.4:
        clients.append(("person", again_and_again(world, rng, rng.choice((release, cancel)), keys)))
    chosen = rng.sample(clients, min(len(clients), 4))
    return [world.client(name, work) for name, work in chosen]


def submit_requests(world: World, rng: random.Random) -> list[tuple[str, str]]:
    keys = []
    for number in range(rng.randint(1, 3)):
        # Equal batches make duplicates.
        batches = rng.choice((("b1",), ("b1",), ("b1", "b2")))
        failed = rng.random() < 0.2
        columns = {"status": "FAILED", "err_message": "failed before", "iteration": rng.randint(1, 3)} if failed else {}
        keys.append(world.submit(f"r{number}", *batches, minutes=number, **columns))
    return keys


def name(run: Run) -> str:
    return run[1] if run[0] == FIRST else f"{run[1]} elsewhere"


def earlier_run(world: World, rng: random.Random, run: Run) -> tuple[Run, list[Batch]]:
    """Let a run do a part of its tasks, undisturbed."""
    tasks = Tasks(world, world.client("before", lambda _: None), run)
    tasks.claim()
    batches = tasks.list_batches() or []
    rng.shuffle(batches)
    for batch in batches[: rng.randint(0, 2)]:
        tasks.package(batch)
        if rng.random() < 0.5:
            tasks.mark_complete(batch)
    if rng.random() < 0.3:
        tasks.settle()
        world.end(run)
    return run, batches


def late_work(world: World, rng: random.Random, run: Run, batches: list[Batch]) -> Work:
    """Return what a late attempt, a retry, or a task that a person has cleared does: a part of the run, as it was or again."""
    kind, attempt = rng.choice(("list", "batch", "batch", "batch", "settle", "clear")), rng.randint(1, 2)
    batch = rng.choice(batches) if batches else None

    def work(client: Client) -> None:
        tasks = Tasks(world, client, run, RunParams(), attempt)
        if kind == "list":
            tasks.make(tasks.list_batches() or [])
        elif kind == "clear":
            tasks.claim()
            tasks.make(tasks.list_batches() or [])
        elif kind == "batch" and batch is not None:
            tasks.make([batch])
        tasks.settle()

    return work


def whole_run(world: World, rng: random.Random, run: Run, keys: list[tuple[str, str]]) -> Work:
    params = RunParams()
    if rng.random() < 0.25:
        params = RunParams(request_ids=(rng.choice(keys)[1],), force=True)
    elif rng.random() < 0.2:
        params = RunParams(request_ids=(rng.choice(keys)[1],), release_claims=True)
    return lambda client: replace(Tasks(world, client, run), params=params).run_whole()


def again_and_again(world: World, rng: random.Random, act: Callable[..., None], keys: list[tuple[str, str]]) -> Work:
    chosen = [rng.choice(keys) for _ in range(rng.randint(1, 3))]

    def work(client: Client) -> None:
        for key in chosen:
            act(world, client, key)

    return work

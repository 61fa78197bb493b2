"""Many small batches through Airflow's own servers, as `make up` starts them: what one batch costs, and what of it is whose.

    python benchmarks/small_batches.py --batches 400 --learners 50 --batches-per-run 50 100 200 400

Each batch has a request and an org of its own. All requests wait when the first run starts, and the runs that follow it take
what it leaves. The CPU-seconds are those of each server's processes, from the trigger to the last success: the tasks
(LocalExecutor's workers), the scheduler, the API server that they talk to, the dag processor, and the databases beneath them.

With `--empty`, a DAG of the same shape whose tasks do nothing runs before them, in one run: what Airflow itself takes.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import psycopg2

PROJECT = Path(__file__).resolve().parent.parent
if __name__ == "__main__":
    sys.path[0] = str(PROJECT)

from benchmarks.big_batch import Bench
from benchmarks.meters import family, machine, measure, processes, table
from dev import airflow_servers
from dev.load import Places, load_part
from dev.servers import all_services
from dev.world import many_batches_world

DAG_ID = "progress_exhaust"
EMPTY_DAG_ID, EMPTY_DAG_FOLDER = "empty", PROJECT / "benchmarks" / "empty_dag"
TIMEOUT_SECONDS = 4 * 3600
STEP = 100  # batches whose costs are printed together
AIRFLOW_PARTS = ("tasks", "scheduler", "api-server", "dag-processor")


def used(bench: Bench) -> dict[str, float]:
    """Return the CPU-seconds of each kind of process up to now."""
    running = processes()
    found = {}
    for server in airflow_servers.all_servers(bench.settings):
        ours = family(server.pid() or 0, running)
        workers = [pid for pid in ours if running[pid].name.startswith("airflow worker")]
        found[server.words[0]] = sum(running[pid].cpu_seconds for pid in set(ours) - set(workers))
        if workers:
            found["tasks"] = sum(running[pid].cpu_seconds for pid in workers)
    for service in all_services(bench.settings):
        found[service.name] = sum(running[pid].cpu_seconds for pid in family(service.pid() or 0, running))
    return found


def ask(connection: Any, query: str) -> Any:
    """Return the first value of a query about the requests."""
    with connection.cursor() as cursor:
        cursor.execute(query)
        return cursor.fetchone()[0]


def wait_until_none(connection: Any, query: str, watch: Callable[[int], None] = lambda _left: None) -> float:
    """Wait until a count is 0; return the seconds."""
    started = time.monotonic()
    while left := ask(connection, query):
        watch(left)
        if time.monotonic() > started + TIMEOUT_SECONDS:
            sys.exit(f"not done after {TIMEOUT_SECONDS} s")
        time.sleep(2)
    return time.monotonic() - started


def wait_for_all(bench: Bench, connection: Any, batches: int) -> float:
    """Wait until no request waits or is processed; return the seconds. Print what each hundred costs, to see whether it grows."""
    done, started, costs = 0, time.monotonic(), used(bench)

    def watch(left: int) -> None:
        nonlocal done, started, costs
        more = batches - left - done
        if more >= STEP:
            now, spent = time.monotonic(), used(bench)
            cpu_seconds = sum(spent.values()) - sum(costs.values())
            print(f"{done + more} done; the last {more}: {now - started:.0f} s, {cpu_seconds / more:.2f} CPU-s each", flush=True)
            done, started, costs = done + more, now, spent

    unfinished = "SELECT count(*) FROM job_request WHERE status IN ('SUBMITTED', 'PROCESSING')"
    seconds = wait_until_none(connection, unfinished, watch)
    if ask(connection, "SELECT count(*) FROM job_request WHERE status <> 'SUCCESS'"):
        sys.exit("a request failed: see the task logs in the data folder's airflow/logs")
    time.sleep(5)  # the last run is settled
    return seconds


def run(bench: Bench, batches: int, batches_per_run: int) -> tuple[float, dict[str, float], int]:
    """Make all requests of the world; return the seconds, the CPU-seconds by kind of process, and the Postgres connections."""
    os.environ["PROGRESS_EXHAUST_DEV_SETTINGS"] = json.dumps({"batches_per_run": batches_per_run})
    with closing(bench.requests()) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(
                "UPDATE job_request SET status = 'SUBMITTED', iteration = 0, processed_batches = NULL, download_urls = NULL"
            )
            cursor.execute("DROP SCHEMA IF EXISTS progress_exhaust CASCADE")
        sessions = "SELECT sessions FROM pg_stat_database WHERE datname = current_database()"
        with airflow(bench) as costs:
            connections = ask(connection, sessions)
            trigger(DAG_ID)
            seconds = wait_for_all(bench, connection, batches)
        return seconds, costs, ask(connection, sessions) - connections


def run_empty(bench: Bench, batches: int) -> tuple[float, dict[str, float], int]:
    """Run the DAG whose tasks do nothing; return the same, without the connections."""
    os.environ["PROGRESS_EXHAUST_DEV_DAGS"] = str(EMPTY_DAG_FOLDER)
    try:
        with airflow(bench) as costs:
            trigger(EMPTY_DAG_ID, {"batches": batches})
            metadata = airflow_servers.environment()["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"].replace("+psycopg2", "")
            with closing(psycopg2.connect(metadata)) as connection:
                connection.autocommit = True
                unfinished = "SELECT count(*) FROM dag_run WHERE dag_id = 'empty' AND state IN ('queued', 'running')"
                seconds = wait_until_none(connection, unfinished)
        return seconds, costs, 0
    finally:
        del os.environ["PROGRESS_EXHAUST_DEV_DAGS"]


@contextmanager
def airflow(bench: Bench) -> Iterator[dict[str, float]]:
    """Start Airflow's servers for the block; at its end, fill in the CPU-seconds that it took by kind of process."""
    costs: dict[str, float] = {}
    airflow_servers.start()
    try:
        time.sleep(10)  # the DAG is read, and the servers come to rest
        before = used(bench)
        yield costs
        costs |= {name: total - before.get(name, 0) for name, total in used(bench).items()}
    finally:
        airflow_servers.stop()


def trigger(dag_id: str, params: Mapping[str, int] | None = None) -> None:
    """Start a run."""
    run_id = f"bench-{time.time():.0f}"
    command = [*airflow_servers.AIRFLOW, "dags", "trigger", dag_id, "--run-id", run_id, "--conf", json.dumps(params or {})]
    triggered = measure(command, os.environ, PROJECT)
    if triggered.exit_status:
        sys.exit(triggered.output)


def main(given: list[str]) -> int:
    """Run the benchmark; print its tables."""
    parser = argparse.ArgumentParser(description="Time many small batches through Airflow's own servers.")
    parser.add_argument("--batches", type=int, default=200)
    parser.add_argument("--learners", type=int, default=50, help="of each batch")
    parser.add_argument("--batches-per-run", type=int, nargs="+", default=[50])
    parser.add_argument("--empty", action="store_true", help="run a DAG of the same shape first, whose tasks do nothing")
    arguments = parser.parse_args(given)
    # The run is triggered here, and no other one comes between: none is due before the next 29th of February.
    os.environ["PROGRESS_EXHAUST_SCHEDULE"] = "0 0 29 2 *"
    os.environ[airflow_servers.ON_REQUEST] = "false"
    with Bench() as bench:
        bench.empty()
        (bench.settings.data / "loaded").unlink(missing_ok=True)
        world = many_batches_world(arguments.batches, arguments.learners, per_request=1)
        load_part(Places.from_environment(), world, 0, 1)
        bench.settle()
        results = {}
        if arguments.empty:
            results["tasks that do nothing"] = run_empty(bench, arguments.batches)
        for size in arguments.batches_per_run:
            results[str(size)] = run(bench, arguments.batches, size)
            print(f"runs of {size}: {results[str(size)]}", flush=True)
    rows = []
    for size, (seconds, costs, connections) in results.items():
        costs["Airflow"], costs["all of it"] = sum(costs[name] for name in AIRFLOW_PARTS), sum(costs.values())
        rows.append(
            {"batches_per_run": size, "wall s": f"{seconds:.0f}"}
            | {name: f"{cost / arguments.batches:.2f}" for name, cost in costs.items()}
            | {"connections": f"{connections / arguments.batches:.1f}" if connections else ""}
        )
    print(f"\n{machine()}\n\n{arguments.batches} batches of {arguments.learners} learners:\n\n{table(rows)}")
    print("\nCPU-seconds and connections to Postgres are those of one batch.")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

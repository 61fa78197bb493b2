"""From a submitted request to its file, on Airflow's own servers as `make up` starts them, and where the time goes.

    make bench-latency
    python benchmarks/latency.py 20000 --requests 5

The servers are idle, and runs start on request. Each request is submitted after the run of the previous one has ended. The
times are read from Airflow's database. The CPU-seconds are those of all processes of Airflow up to the end of the run,
without what they use while they are idle.
"""

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parent.parent
if __name__ == "__main__":
    sys.path[0] = str(PROJECT)

import psycopg2

from benchmarks.big_batch import Bench
from benchmarks.meters import cpu_seconds, machine, proportional_bytes, sampled, table
from dev import airflow_servers
from dev.load import submit
from dev.world import Row, batch_world, request_row

TIMEOUT_SECONDS = 300
IDLE_SECONDS = 30
POLL_SECONDS = 5  # the default of request_poll_seconds: each request comes at another moment of it

# Return a run that has ended, with the asset event that started it, and their times.
RUN = """
SELECT r.run_id, extract(epoch FROM e.timestamp), extract(epoch FROM r.queued_at), extract(epoch FROM r.start_date)
FROM dag_run r JOIN dagrun_asset_event j ON j.dag_run_id = r.id JOIN asset_event e ON e.id = j.event_id
WHERE r.end_date IS NOT NULL AND e.timestamp > to_timestamp(%s)
"""
# Return the tasks of a run in their order, and when each was queued, started and ended.
TASKS = """
SELECT replace(task_id, 'batch.', ''),
  extract(epoch FROM queued_dttm), extract(epoch FROM start_date), extract(epoch FROM end_date)
FROM task_instance WHERE run_id = %s ORDER BY start_date
"""


def airflow_pids(bench: Bench) -> list[int]:
    return [pid for server in airflow_servers.all_servers(bench.settings) if (pid := server.pid())]


def rows(uri: str, query: str, *values: Any) -> list[tuple[Any, ...]]:
    with closing(psycopg2.connect(uri)) as connection, connection.cursor() as cursor:
        cursor.execute(query, values)
        return cursor.fetchall()


def wait_for(ask: Callable[[], Any], what: str) -> Any:
    """Ask until the answer is true; return it."""
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while not (answer := ask()):
        if time.monotonic() > deadline:
            sys.exit(f"waited {TIMEOUT_SECONDS} s for {what}: see the logs in the data folder")
        time.sleep(0.1)
    return answer


def make(bench: Bench, request: Row) -> dict[str, float]:
    """Submit a request, and wait for its file and the end of its run; return CPU-seconds, and the seconds of each part."""
    requests = os.environ["AIRFLOW_CONN_PROGRESS_EXHAUST_REQUESTS"]
    metadata = os.environ["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"].replace("postgresql+psycopg2://", "postgresql://")
    made = "SELECT FROM job_request WHERE request_id = %s AND status = 'SUCCESS'"
    before, submitted = cpu_seconds(airflow_pids(bench)), time.time()
    with closing(bench.requests()) as connection:
        submit(connection, [request])
    wait_for(lambda: rows(requests, made, request["request_id"]), "SUCCESS")
    success = time.time()
    [[run_id, *moments]] = wait_for(lambda: rows(metadata, RUN, submitted), "the end of the run")
    ended, used = time.time(), cpu_seconds(airflow_pids(bench)) - before
    event, created, started = map(float, moments)
    parts = {
        "CPU-s": used,
        "run s": ended - submitted,
        "total": success - submitted,
        "from the trigger on": success - event,
        "the trigger finds the request": event - submitted,
        "the run is created": created - event,
        "the run starts": started - created,
    }
    tasks = [("", 0.0, 0.0, started)]
    tasks += [(name, float(queued), float(begun), float(end)) for name, queued, begun, end in rows(metadata, TASKS, run_id)]
    for (*_, previous), (name, queued, begun, end) in pairwise(tasks):
        parts |= {f"{name} waits": queued - previous, f"{name} starts": begun - queued, f"{name} runs": end - begun}
    return parts


def measure(bench: Bench, learners: int, count: int) -> None:
    """Make so many requests for one batch; print what each came to, and the table of one size."""
    bench.load(learners, 2 * learners)
    with closing(bench.requests()) as connection, connection, connection.cursor() as cursor:
        cursor.execute("TRUNCATE job_request")
    [first] = batch_world(learners, 2 * learners).requests
    airflow_servers.start()
    try:
        time.sleep(10)
        with sampled(lambda: proportional_bytes(airflow_pids(bench)), 1) as memory:
            make(bench, first)
        before = cpu_seconds(airflow_pids(bench))
        time.sleep(IDLE_SECONDS)
        idle = (cpu_seconds(airflow_pids(bench)) - before) / IDLE_SECONDS
        made = []
        for number in range(count):
            time.sleep(POLL_SECONDS * number / count)
            label, _, channel = first["tag"].partition(":")
            again = {"label": label, "channel": channel, "by": first["requested_by"], "at": datetime.now(UTC)}
            made.append(make(bench, request_row(first["request_data"], **again)))
            print(made[-1], flush=True)
        memory_idle = proportional_bytes(airflow_pids(bench))
    finally:
        airflow_servers.stop()
    print(f"\n{learners:,} learners, {count} requests; idle {idle:.3f} CPU-s a second; ", end="")
    print(f"memory of all processes {memory_idle / 1e6:.0f} MB idle, at most {max(memory) / 1e6:.0f} MB")
    values = {part: [one[part] - (idle * one["run s"] if part == "CPU-s" else 0) for one in made] for part in made[0]}
    shown = [{"what": part, "median": f"{statistics.median(of):.1f}", "worst": f"{max(of):.1f}"} for part, of in values.items()]
    print(f"{machine()}\n\n{table(shown)}", flush=True)


def main(given: list[str]) -> int:
    parser = argparse.ArgumentParser(description="Time requests on idle servers, from INSERT to SUCCESS.")
    parser.add_argument("learners", type=int, nargs="*", default=[1000, 20_000], help="of the batch")
    parser.add_argument("--requests", type=int, default=20, help="of each size")
    arguments = parser.parse_args(given)
    os.environ["PROGRESS_EXHAUST_SCHEDULE"] = "0 0 29 2 *"  # no run of the schedule comes between
    with Bench() as bench:
        for learners in arguments.learners:
            measure(bench, learners, arguments.requests)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

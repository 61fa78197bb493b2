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
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parent.parent
if __name__ == "__main__":
    sys.path[0] = str(PROJECT)

import psycopg2

from benchmarks.big_batch import Bench
from benchmarks.meters import machine, proportional_bytes, sampled, table
from benchmarks.small_batches import AIRFLOW_PARTS, used
from dev import airflow_servers
from dev.load import submit
from dev.world import Row, batch_world, request_row

TIMEOUT_SECONDS = 300
IDLE_SECONDS = 30
SERVERS = (*AIRFLOW_PARTS, "triggerer")
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


def ask(connection: Any, query: str, *values: Any) -> list[Any]:
    with connection, connection.cursor() as cursor:
        cursor.execute(query, values)
        return list(cursor.fetchall())


def wait_for(answer_to: Callable[[], Any], what: str) -> Any:
    """Ask until the answer is true; return it."""
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while not (answer := answer_to()):
        if time.monotonic() > deadline:
            sys.exit(f"waited {TIMEOUT_SECONDS} s for {what}: see the logs in the data folder")
        time.sleep(0.1)
    return answer


def airflow_cpu_seconds(bench: Bench) -> dict[str, float]:
    """Return the CPU-seconds of each of Airflow's servers up to now."""
    return {name: total for name, total in used(bench).items() if name in SERVERS}


def make(bench: Bench, request: Row) -> tuple[dict[str, float], dict[str, float]]:
    """Submit a request, and wait for its file and the end of its run; return the seconds of each part, and CPU-seconds."""
    metadata_uri = os.environ["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"].replace("postgresql+psycopg2://", "postgresql://")
    made = "SELECT FROM job_request WHERE request_id = %s AND status = 'SUCCESS'"
    with closing(bench.requests()) as requests, closing(psycopg2.connect(metadata_uri)) as metadata:
        before, submitted = airflow_cpu_seconds(bench), time.time()
        submit(requests, [request])
        wait_for(lambda: ask(requests, made, request["request_id"]), "SUCCESS")
        success = time.time()
        [[run_id, *moments]] = wait_for(lambda: ask(metadata, RUN, submitted), "the end of the run")
        ended = time.time()
        cpu = {name: total - before.get(name, 0) for name, total in airflow_cpu_seconds(bench).items()}
        tasks = ask(metadata, TASKS, run_id)
    event, created, started = map(float, moments)
    parts = {
        "**INSERT to SUCCESS**": success - submitted,
        "**trigger to SUCCESS**": success - event,
        "INSERT to the end of the run": ended - submitted,
        "the trigger finds the request": event - submitted,
        "the run is created": created - event,
        "the run is started": started - created,
    }
    previous = started
    for name, queued, start, end in ((name, *map(float, moments)) for name, *moments in tasks):
        parts |= {f"{name} waits": queued - previous, f"{name} starts": start - queued, f"{name} runs": end - start}
        previous = end
    for what in ("waits", "starts", "runs"):
        parts[f"**all tasks: {what}**"] = sum(seconds for part, seconds in parts.items() if part.endswith(f" {what}"))
    return parts, cpu


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
        before = airflow_cpu_seconds(bench)
        time.sleep(IDLE_SECONDS)
        idle = {name: (total - before[name]) / IDLE_SECONDS for name, total in airflow_cpu_seconds(bench).items()}
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
    values: dict[str, list[float]] = {f"seconds: {part}": [parts[part] for parts, _ in made] for part in made[0][0]}
    beyond_idle = [
        {name: used - idle[name] * parts["INSERT to the end of the run"] for name, used in cpu.items()} for parts, cpu in made
    ]
    values |= {f"CPU-s beyond idle: {name}": [cpu[name] for cpu in beyond_idle] for name in idle}
    values["**CPU-s beyond idle**"] = [sum(cpu.values()) for cpu in beyond_idle]
    shown = [{"what": what, "median": f"{statistics.median(of):.1f}", "worst": f"{max(of):.1f}"} for what, of in values.items()]
    print(f"\n{machine()}\n\n{learners:,} learners, {count} requests, idle {sum(idle.values()):.3f} CPU-s a second, ", end="")
    print(
        f"memory of all processes {memory_idle / 1e6:.0f} MB idle, at most {max(memory) / 1e6:.0f} MB\n\n{table(shown)}",
        flush=True,
    )


def main(given: list[str]) -> int:
    parser = argparse.ArgumentParser(description="Time requests on idle servers, from INSERT to SUCCESS.")
    parser.add_argument("learners", type=int, nargs="*", default=[1000, 20_000], help="of the batch")
    parser.add_argument("--requests", type=int, default=20, help="of each size")
    arguments = parser.parse_args(given)
    for schedule in ("PROGRESS_EXHAUST_SCHEDULE", "PROGRESS_EXHAUST_RETENTION_SCHEDULE"):
        os.environ[schedule] = "0 0 29 2 *"  # no run of a schedule comes between
    with Bench() as bench:
        for learners in arguments.learners:
            measure(bench, learners, arguments.requests)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

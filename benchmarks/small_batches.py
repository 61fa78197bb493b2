"""Many small batches through Airflow's own servers, as `make up` starts them: what one batch costs, and what of it is whose.

    python benchmarks/small_batches.py --batches 200 --learners 50

The CPU-seconds are those of each server's processes, from the trigger to the end of the run: the tasks (LocalExecutor's
workers), the scheduler, the API server that they talk to, the dag processor, and the databases beneath them.
"""

import argparse
import os
import sys
import time
from contextlib import closing
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
if __name__ == "__main__":
    sys.path[0] = str(PROJECT)

import psycopg2

from benchmarks.big_batch import Bench
from benchmarks.meters import family, machine, measure, processes, table
from dev import airflow_servers
from dev.load import Places, load_part
from dev.servers import all_services
from dev.world import many_batches_world

DAG_ID = "progress_exhaust"
RUN_ID = "bench"
TIMEOUT_SECONDS = 3600
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


def wait_for(run_id: str) -> float:
    """Wait for a run of the DAG to end; return its seconds."""
    deadline = time.monotonic() + TIMEOUT_SECONDS
    metadata = os.environ["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"].replace("postgresql+psycopg2://", "postgresql://")
    while time.monotonic() < deadline:
        with closing(psycopg2.connect(metadata)) as connection, connection.cursor() as cursor:
            cursor.execute(
                "SELECT state, extract(epoch FROM end_date - start_date) FROM dag_run WHERE dag_id = %s AND run_id = %s",
                [DAG_ID, run_id],
            )
            for state, seconds in cursor.fetchall():
                if state == "success":
                    return float(seconds)
                if state == "failed":
                    sys.exit("the run failed: see the task logs in the data folder's airflow/logs")
        time.sleep(2)
    sys.exit(f"the run did not end in {TIMEOUT_SECONDS} s")


def main(given: list[str]) -> int:
    """Run the benchmark; print its table."""
    parser = argparse.ArgumentParser(description="Time many small batches through Airflow's own servers.")
    parser.add_argument("--batches", type=int, default=200)
    parser.add_argument("--learners", type=int, default=50, help="of each batch")
    arguments = parser.parse_args(given)
    # The run is triggered here, and no other one comes between: none is due before the next 29th of February.
    os.environ["PROGRESS_EXHAUST_SCHEDULE"] = "0 0 29 2 *"
    os.environ[airflow_servers.ON_REQUEST] = "false"
    with Bench() as bench:
        bench.empty()
        (bench.settings.data / "loaded").unlink(missing_ok=True)
        load_part(Places.from_environment(), many_batches_world(arguments.batches, arguments.learners), 0, 1)
        bench.settle()
        airflow_servers.start()
        try:
            time.sleep(10)  # the DAG is read, and the servers come to rest
            before = used(bench)
            trigger = [airflow_servers.AIRFLOW, "dags", "trigger", DAG_ID, "--run-id", f"{RUN_ID}-{time.time():.0f}"]
            triggered = measure(trigger, os.environ, PROJECT)
            if triggered.exit_status:
                sys.exit(triggered.output)
            seconds = wait_for(trigger[-1])
            costs = {name: total - before[name] for name, total in used(bench).items()}
        finally:
            airflow_servers.stop()
    costs = dict(sorted(costs.items(), key=lambda item: -item[1]))
    airflow = sum(cost for name, cost in costs.items() if name in AIRFLOW_PARTS)
    costs |= {"**Airflow, tasks included**": airflow, "**all of it**": sum(costs.values())}
    rows = [
        {"what": what, "CPU-s": f"{cost:.0f}", "CPU-s a batch": f"{cost / arguments.batches:.2f}"} for what, cost in costs.items()
    ]
    print(f"\n{machine()}\n\n{arguments.batches} batches of {arguments.learners} learners: {seconds:.0f} s\n\n{table(rows)}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

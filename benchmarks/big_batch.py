"""One batch of so many learners through a whole DAG run, on real servers: time, CPU, memory, and what they went into.

    make bench                                    1,000, 20,000 and 100,000 learners
    make bench SIZES=1000000                      loading takes a quarter of an hour
    python benchmarks/big_batch.py 20000 --strategies point partitions scan
    python benchmarks/big_batch.py 20000 --strategies partitions aggregates
    python benchmarks/big_batch.py 20000 --others 40000 400000
    python benchmarks/big_batch.py 2000 --nested 300 --assessments 1500 --leaves 1500

Each size is loaded alone, with twice as many learners of other batches; then the DAG runs as `make run` does, first to warm
the servers up and then to be measured. Cassandra runs with the heap and compiler of a real node, in a data folder of its own.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import closing
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any, Self

PROJECT = Path(__file__).resolve().parent.parent
if __name__ == "__main__":
    sys.path[0] = str(PROJECT)

import psycopg2
import redis

from benchmarks.meters import cpu_seconds, machine, measure, table
from dev import services
from dev.load import insert
from dev.machine import find_java
from dev.servers import Cassandra, Settings, all_services
from dev.world import Row, batch_world

TABLES = (
    "sunbird_courses.user_enrolments", "sunbird_courses.report_user_enrolments", "sunbird_courses.user_activity_agg",
    "sunbird_courses.assessment_aggregator", "sunbird_courses.course_batch", "dev_hierarchy_store.content_hierarchy",
)  # fmt: skip
STRATEGIES: dict[str, dict[str, Any]] = {
    "auto": {},
    "partitions": {"read_strategy": "partitions"},
    "scan": {"read_strategy": "scan"},
    "aggregates": {"read_strategy": "partitions", "scores_from": "aggregates"},
    "point": {"read_strategy": "partitions", "partitions_per_query": 1, "concurrent_queries": 100},
}
STAGES = ("fetch_hierarchy", "extract", "pivot", "package", "mark_complete")
COMPACTION_TIMEOUT_SECONDS = 1800


class Bench:
    """The services of the benchmark's data folder, and what is loaded in them.

    :param keep: do not stop them at the end of the block
    :param course: how many nested collections, assessments and leaves the big batch's course has, if not the usual numbers
    """

    def __init__(self, *, keep: bool = False, course: Mapping[str, int] | None = None) -> None:
        self.keep, self.course = keep, course or {}
        os.environ.setdefault("PROGRESS_EXHAUST_DEV_DATA", str(PROJECT / ".bench"))
        os.environ.setdefault("PROGRESS_EXHAUST_DEV_CASSANDRA_HEAP", "2G")
        services.start()
        self.settings = Settings.from_environment()
        os.environ.update(services.environment())
        os.environ["PROGRESS_EXHAUST_DEV_CONTENT_DATA"] = str(self.settings.data / "content")
        os.environ["AIRFLOW_HOME"] = str(self.settings.data / "airflow-run")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        if not self.keep:
            services.stop()

    def load(self, learners: int, others: int, *, scores: bool = False) -> None:
        """Put one batch among so many other learners into the servers, and nothing else.

        :param scores: whether the aggregates have the best scores of the batch
        """
        shape = [f"--{name}={number}" for name, number in self.course.items()]
        loaded, wanted = self.settings.data / "loaded", " ".join([str(learners), str(others), *shape, *["scores"] * scores])
        if loaded.exists() and loaded.read_text() == wanted and self.redis().dbsize():
            return
        print(f"loading {learners:,} learners and {others:,} others …", flush=True)
        loaded.unlink(missing_ok=True)
        self.empty()
        load = [sys.executable, "dev/load.py", "--learners", str(learners), "--others", str(others), *shape]
        subprocess.run(load, cwd=PROJECT, check=True, stdout=subprocess.DEVNULL)
        if scores:
            self.load_scores(learners, others)
        self.settle()
        loaded.write_text(wanted)

    def load_scores(self, learners: int, others: int) -> None:
        """Put the best scores of the big batch into the aggregates, as the platform does."""
        world = batch_world(learners, others, **self.course)
        batch = world.batches[0]
        own = (row for row in world.attempts if (row["course_id"], row["batch_id"]) == (batch["courseid"], batch["batchid"]))

        def rows() -> Iterator[Row]:
            for user, attempts in groupby(own, key=itemgetter("user_id")):
                best: dict[str, float] = {}
                for one in attempts:
                    score, most, count = (f"{name}:{one['content_id']}" for name in ("score", "max_score", "attempts_count"))
                    best[score] = max(best.get(score, 0.0), one["total_score"])
                    best |= {most: one["total_max_score"], count: best.get(count, 0.0) + 1}
                key = {"activity_type": "Course", "activity_id": batch["courseid"], "context_id": f"cb:{batch['batchid']}"}
                yield key | {"user_id": user, "aggregates": best}

        with services.connected_cassandra(self.settings.port("cassandra")) as session:
            insert(session, "sunbird_courses.user_activity_agg", rows())

    def empty(self) -> None:
        with services.connected_cassandra(self.settings.port("cassandra")) as session:
            for name in TABLES:
                session.execute(f"TRUNCATE {name}", timeout=120)
        self.redis().flushall()
        with closing(self.requests()) as requests, requests, requests.cursor() as cursor:
            cursor.execute("TRUNCATE job_request")

    def settle(self) -> None:
        """Let Cassandra write and compact what it holds, and estimate its tables again, as an idle cluster has."""
        self.nodetool("flush")
        deadline = time.monotonic() + COMPACTION_TIMEOUT_SECONDS
        while not re.search(r"pending tasks\W+0", self.nodetool("compactionstats")) and time.monotonic() < deadline:
            time.sleep(5)
        self.nodetool("refreshsizeestimates")

    def nodetool(self, command: str) -> str:
        jars = Cassandra(self.settings).jars()
        opened = ("--add-exports=java.base/sun.nio.ch=ALL-UNNAMED", "--add-exports=java.base/jdk.internal.ref=ALL-UNNAMED")
        words = [str(find_java()), *opened, "-cp", f"{jars}/*", "org.apache.cassandra.tools.NodeTool"]
        port = str(self.settings.port("cassandra JMX"))
        return subprocess.run([*words, "-p", port, command], check=True, capture_output=True, text=True).stdout

    def redis(self) -> redis.Redis:
        return redis.Redis(port=self.settings.port("redis"), db=12)

    def requests(self) -> Any:
        return psycopg2.connect(os.environ["AIRFLOW_CONN_PROGRESS_EXHAUST_REQUESTS"])

    def servers_cpu_seconds(self) -> dict[str, float]:
        return {service.name: cpu_seconds([service.pid() or 0]) for service in all_services(self.settings)}

    def run(self, learners: int, others: int, strategy: str) -> dict[str, str]:
        """Run the DAG over the one request; return what it came to."""
        request = batch_world(learners, others, **self.course).requests[0]["request_id"]
        with closing(self.requests()) as requests, requests, requests.cursor() as cursor:
            cursor.execute("UPDATE job_request SET status = 'SUBMITTED', iteration = 0, processed_batches = NULL")
        variable = json.loads(os.environ["AIRFLOW_VAR_PROGRESS_EXHAUST"]) | STRATEGIES[strategy]
        environment = os.environ | {"AIRFLOW_VAR_PROGRESS_EXHAUST": json.dumps(variable)}
        before = self.servers_cpu_seconds()
        done = measure([sys.executable, "dev/run_once.py"], environment | AIRFLOW, PROJECT)
        servers = {name: used - before[name] for name, used in self.servers_cpu_seconds().items()}
        ended = re.search(r"The run ended: success after ([0-9.]+) s", done.output)
        if done.exit_status or not ended:
            sys.exit(f"the run failed:\n{done.output}")
        with closing(self.requests()) as requests, requests.cursor() as cursor:
            cursor.execute(
                "SELECT counts, seconds FROM progress_exhaust.batch_run WHERE request_id = %s ORDER BY run_id DESC", [request]
            )
            counts, seconds = cursor.fetchone()
        wall = float(ended[1])
        shares = ", ".join(f"{stage} {seconds.get(stage, 0):.1f}" for stage in STAGES)
        return {
            "learners": f"{learners:,}",
            "others": f"{others:,}",
            "reads": strategy,
            "wall s": f"{wall:.1f}",
            "learners/s": f"{counts['enrolled'] / wall:,.0f}",
            "client CPU-s": f"{done.cpu_seconds:.1f}",
            "servers CPU-s": ", ".join(f"{name} {used:.1f}" for name, used in servers.items() if used >= 0.05),
            "peak MB": f"{done.peak_bytes / 1e6:.0f}",
            "rows": f"{counts['rows']:,}",
            "csv MB": f"{counts['csv_bytes'] / 1e6:.1f}",
            "zip MB": f"{counts['package_bytes'] / 1e6:.1f}",
            "seconds by stage": shares,
        }


# As the Makefile has it.
AIRFLOW: Mapping[str, str] = {
    "AIRFLOW__CORE__DAGS_FOLDER": str(PROJECT / "dags"),
    "AIRFLOW__CORE__PLUGINS_FOLDER": str(PROJECT / "plugins"),
    "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
    "MALLOC_ARENA_MAX": "1",
}


def main(given: list[str]) -> int:
    """Run the benchmark; print its table."""
    parser = argparse.ArgumentParser(description="Time one big batch through a whole DAG run.")
    parser.add_argument("sizes", type=int, nargs="*", default=[1000, 20_000, 100_000], help="learners of the batch")
    parser.add_argument("--others", type=int, nargs="*", help="learners of other batches (default: twice as many)")
    parser.add_argument("--nested", type=int, default=3, help="nested collections of the batch's course")
    parser.add_argument("--assessments", type=int, default=5, help="its assessments")
    parser.add_argument("--leaves", type=int, default=40, help="its contents, assessments too")
    parser.add_argument("--strategies", nargs="*", default=["auto"], choices=STRATEGIES, help="how tables keyed by user are read")
    parser.add_argument("--runs", type=int, default=1, help="measured runs of each, after one to warm up")
    parser.add_argument("--keep", action="store_true", help="let the servers run on, loaded for the next call")
    arguments = parser.parse_args(given)
    course = {name: getattr(arguments, name) for name in ("nested", "assessments", "leaves")}
    rows = []
    with Bench(keep=arguments.keep, course=course) as bench:
        print(machine(), flush=True)
        for learners in arguments.sizes:
            for others in arguments.others or [2 * learners]:
                bench.load(learners, others, scores="aggregates" in arguments.strategies)
                bench.run(learners, others, arguments.strategies[0])
                for strategy in arguments.strategies * arguments.runs:
                    rows.append(bench.run(learners, others, strategy))
                    print(rows[-1], flush=True)
    print(f"\n{machine()}\n\n{table(rows)}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

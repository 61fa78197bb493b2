"""What the reads alone cost: a yardstick for the client's CPU of a big batch.

    python benchmarks/bare_reads.py 100000

Reads the rows that a report of the batch needs, by the drivers with their own defaults, in one process, and drops them: the
enrolments of the batch, a scan of each table that is keyed by user, and the users. `whole maps`: every column as the driver
decodes it. `least`: the product's own statements and decoding of maps. Then it runs the DAG over the batch, and once without a
request, which is the start-up.
"""

import argparse
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parent.parent
if __name__ == "__main__":
    sys.path[:1] = [str(PROJECT), str(PROJECT / "plugins")]

from cassandra.cluster import ExecutionProfile, Session
from cassandra.query import tuple_factory

from benchmarks.big_batch import AIRFLOW, Bench
from benchmarks.meters import machine, measure, table
from dev import services
from dev.world import World, batch_world
from progress_exhaust.hooks.cassandra.decoding import make_protocol_handler
from progress_exhaust.hooks.cassandra.models import Table, TableSize, context_id
from progress_exhaust.hooks.cassandra.optional_columns import with_whole_maps
from progress_exhaust.hooks.cassandra.token_ranges import cut_ring
from progress_exhaust.sql import learner_tables as cql

NAMES = {"enrolments": "sunbird_courses.report_user_enrolments", "courses": "sunbird_courses"}
FIELDS = ("firstname", "lastname", "state", "district", "rootorgid", "status")
ROWS_PER_PAGE, USERS_PER_ROUND_TRIP = 1000, 2000


class BareReads:
    """The reads of one batch."""

    def __init__(self, bench: Bench, world: World, learners: int) -> None:
        self.bench, self.batch, self.learners = bench, world.batches[0], learners
        self.user_ids: list[str] = []

    def measure(self, *, whole_maps: bool) -> dict[str, float]:
        """Return the CPU-seconds of each source."""
        with services.connected_cassandra(self.bench.settings.port("cassandra")) as connected:
            cluster = connected.cluster
            profile = ExecutionProfile(row_factory=tuple_factory, request_timeout=60)
            cluster.add_execution_profile("bare", profile)
            session = cluster.connect()
            if not whole_maps:
                session.client_protocol_handler = make_protocol_handler()
            shorten = with_whole_maps if whole_maps else str
            batch_id, courses = self.batch["batchid"], self.batch["courseid"]
            return {
                "enrolments": timed(lambda: self.read_enrolments(session, (batch_id, courses))),
                "nested progress": timed(
                    lambda: self.scan(session, shorten(cql.SCAN_NESTED_PROGRESS), Table.AGGREGATES, context_id(batch_id))
                ),
                "attempts": timed(lambda: self.scan(session, cql.SCAN_ATTEMPTS, Table.ATTEMPTS, batch_id)),
                "users": timed(self.read_users),
            }

    def read_enrolments(self, session: Session, key: Sequence[str]) -> None:
        self.user_ids = [row[0] for page in pages(session, cql.ENROLMENTS_OF_BATCH, key) for row in page]

    def scan(self, session: Session, query: str, of: Table, wanted: str) -> None:
        for tokens in cut_ring(of, TableSize(3 * self.learners, 0)):  # with the others of the world
            for _page in pages(session, query, (*tokens, [wanted])):
                pass

    def read_users(self) -> None:
        client = self.bench.redis()
        for start in range(0, len(self.user_ids), USERS_PER_ROUND_TRIP):
            with client.pipeline(transaction=False) as pipeline:
                for user_id in self.user_ids[start : start + USERS_PER_ROUND_TRIP]:
                    pipeline.hmget(f"user:{user_id}", FIELDS)
                pipeline.execute()


def pages(session: Session, query: str, values: Sequence[Any]) -> Iterator[list[tuple[Any, ...]]]:
    """Yield the pages of one query."""
    statement = session.prepare(query.format(**NAMES)).bind(values)
    statement.fetch_size = ROWS_PER_PAGE
    page = session.execute(statement, execution_profile="bare")
    while True:
        yield page.current_rows
        if page.paging_state is None:
            return
        page = session.execute(statement, execution_profile="bare", paging_state=page.paging_state)


def timed(read: Callable[[], None]) -> float:
    started = time.process_time()
    read()
    return time.process_time() - started


def start_up_seconds(bench: Bench) -> float:
    """Return the client's CPU of a run that finds no request."""
    with closing(bench.requests()) as requests, requests, requests.cursor() as cursor:
        cursor.execute("UPDATE job_request SET status = 'SUCCESS'")
    return measure([sys.executable, "dev/run_once.py"], os.environ | AIRFLOW, PROJECT).cpu_seconds


def main(given: list[str]) -> int:
    """Run the benchmark; print its table."""
    parser = argparse.ArgumentParser(description="Compare the client's CPU of a big batch with that of its reads alone.")
    parser.add_argument("learners", type=int)
    parser.add_argument("--keep", action="store_true", help="let the servers run on, loaded for the next call")
    arguments = parser.parse_args(given)
    learners = arguments.learners
    with Bench(keep=arguments.keep) as bench:
        bench.load(learners, 2 * learners)
        reads = BareReads(bench, batch_world(learners, 2 * learners), learners)
        bare: Mapping[str, dict[str, float]] = {
            "whole maps": reads.measure(whole_maps=True),
            "least": reads.measure(whole_maps=False),
        }
        run = bench.run(learners, 2 * learners, "auto")
        used = float(run["client CPU-s"]) - start_up_seconds(bench)
    rows = []
    for name, seconds in bare.items():
        total = sum(seconds.values())
        shown = {source: f"{one / learners * 1e6:.1f}" for source, one in (seconds | {"all reads": total}).items()}
        rows.append(
            {"CPU µs a learner": name, **shown, "product": f"{used / learners * 1e6:.1f}", "ratio": f"{used / total:.2f}"}
        )
    print(f"{machine()}\n\n{table(rows)}\n\n{table([run])}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

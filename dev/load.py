"""Load a world into real servers: Cassandra, Redis, Postgres and the content API's folder.

    python dev/load.py                                    the sample world
    python dev/load.py --learners 20000 --others 20000    one big batch among other people's rows
    python dev/load.py --requests-only                    submit the same world's requests again, as new ones
    python dev/load.py --generation spark-1.1             tables as Sunbird Spark has them, in keyspaces of their own

The rule: every write is an upsert of the world's own rows, so that loading a world twice leaves the same data and its
requests SUBMITTED again; nothing else is touched. The tables must be there; those of Sunbird Spark are made. Where the
servers are is read from Airflow's connection variables AIRFLOW_CONN_PROGRESS_EXHAUST_REQUESTS, _CASSANDRA and _USERS, and
the content API's folder from PROGRESS_EXHAUST_DEV_CONTENT_DATA.
"""

import argparse
import json
import multiprocessing
import os
import sys
import time
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlsplit

if __name__ == "__main__":
    # Run as a file, Python looks for modules in dev/, where folders are named like drivers: look in the project instead.
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

import psycopg2
import psycopg2.extras
import redis
from cassandra import DriverException, OperationTimedOut, WriteTimeout
from cassandra.auth import PlainTextAuthProvider
from cassandra.cluster import Cluster, NoHostAvailable
from cassandra.connection import ConnectionBusy
from cassandra.query import BatchStatement, BatchType
from psycopg2 import sql

from dev.servers import GENERATIONS, apply_schema
from dev.user_tables import organisation_rows, place_rows, relation_rows, user_rows
from dev.world import REQUESTED_AT, Row, Rows, User, World, batch_world, sample_world

# Some 35 KB of enrolments: below the 50 KB at which a Cassandra with its own defaults refuses a batch.
ROWS_A_BATCH = 20
BATCHES_IN_FLIGHT = 16
USERS_A_PIPELINE = 2000
SECONDS_A_LINE = 2.0
ATTEMPTS_A_QUESTION_LIST = 100
USERS_DATABASE, RELATIONS_DATABASE = 12, 5


@dataclass(frozen=True)
class Names:
    """What this install calls its tables."""

    courses: str = "sunbird_courses"
    hierarchies: str = "dev_hierarchy_store"
    enrolments_by_user: str | None = "sunbird_courses.user_enrolments"
    enrolments_by_batch: str | None = "sunbird_courses.report_user_enrolments"
    users: str | None = None  # keyspace of the tables of users, which only Sunbird Spark has here
    job_request: str = "job_request"
    attempt_columns: Mapping[str, str] = field(default_factory=dict)  # what assessment_aggregator calls otherwise

    @classmethod
    def of_spark(cls, generation: str, prefix: str = "") -> "Names":
        """Return the names of the tables of Sunbird Spark. Nothing fills its copy of the enrolments by batch."""
        prefix += generation.replace("-", "_").replace(".", "_")
        renamed = {"course_id": "collection_id", "batch_id": "context_id"} if generation == "spark-1.1" else {}
        courses, hierarchies = f"{prefix}_courses", f"{prefix}_hierarchies"
        return cls(
            courses, hierarchies, f"{courses}.user_enrolments", None, users=f"{courses}_sunbird", attempt_columns=renamed
        )  # fmt: skip

    @property
    def keyspaces(self) -> dict[str, str]:
        """Return the name of each keyspace of dev/cassandra/schema.cql."""
        return {"sunbird_courses": self.courses, "dev_hierarchy_store": self.hierarchies, "sunbird": f"{self.courses}_sunbird"}

    @property
    def settings(self) -> Row:
        """Return the settings of the package that name these tables."""
        return {
            "courses_keyspace": self.courses,
            "enrolments_table": self.enrolments_by_batch or self.enrolments_by_user,
            "hierarchy_table": f"{self.hierarchies}.content_hierarchy",
            **({"users_keyspace": self.users} if self.users else {}),
        }


class LoadError(Exception):
    """The world cannot be loaded; the message says what to do."""


# What a user can fix gets a line, not a traceback.
EXPECTED_ERRORS = (LoadError, ValueError, OSError, psycopg2.Error, redis.RedisError, DriverException, NoHostAvailable)


def load(
    world: World,
    *,
    session: Any,
    redis_users: Any,
    redis_relations: Any,
    pg: Any,
    content_data: Path | None,
    names: Names = Names(),
    part: int = 0,
    parts: int = 1,
    quiet: bool = True,
) -> dict[str, int]:
    """Load a world, requests last; return the rows written by store.

    :param session: a Cassandra session
    :param pg: a psycopg2 connection; committed here
    :param content_data: the content API's folder; None leaves it alone
    :param part, parts: load only this share of the learners; the small stores are part 0's
    """
    counts = {}
    big = {
        "user_activity_agg": (f"{names.courses}.user_activity_agg", world.aggregates),
        "assessment_aggregator": (f"{names.courses}.assessment_aggregator", world.attempts),
        "enrolments by user": (names.enrolments_by_user, world.enrolments),
        "enrolments by batch": (names.enrolments_by_batch, world.enrolments),
    }
    if part == 0:
        counts["course_batch"] = insert(session, f"{names.courses}.course_batch", world.batches)
        stored = [
            {"identifier": identifier, "hierarchy": tree}
            for identifier, tree in world.hierarchies.items()
            if identifier not in world.api_only
        ]
        counts["content_hierarchy"] = insert(session, f"{names.hierarchies}.content_hierarchy", stored)
        counts["optional nodes"] = load_optional_nodes(redis_relations, world.optional_nodes)
        if content_data is not None:
            write_content_data(content_data, world)
    for name, (table, rows) in big.items():
        if table:
            shown = Progress(name, part, parts, quiet)
            mine = share(rows, part, parts)
            if rows is world.attempts:
                mine = renamed(with_questions(mine), names.attempt_columns)
            counts[name] = insert(session, table, mine, shown)
    if names.users:
        counts |= load_user_tables(session, world, names.users, names.hierarchies, part, parts)
    shown = Progress("users", part, parts, quiet)
    counts["users"] = load_users(redis_users, share(world.users, part, parts), shown)
    if part == 0:
        counts["requests"] = submit(pg, world.requests, names.job_request)
    return counts


def share(rows: Iterable[Any], part: int, parts: int) -> Iterable[Any]:
    return rows.share(part, parts) if isinstance(rows, Rows) else islice(rows, part, None, parts)


# Cassandra


def insert(session: Any, table: str, rows: Iterable[Row], progress: "Progress | None" = None) -> int:
    """Upsert rows in unlogged batches, several in flight; a column that a row lacks, or has as None, is not written."""
    keyspace, name = table.split(".")
    prepared: dict[tuple[str, ...], Any] = {}
    in_flight: deque[tuple[Any, Any]] = deque()
    count = 0
    for page in pages(rows, ROWS_A_BATCH):
        # Rows of many partitions in one batch are poor practice on a cluster, but three times as fast on one node.
        batch = BatchStatement(BatchType.UNLOGGED)
        for row in page:
            found = {column: value for column, value in row.items() if value is not None}
            columns = tuple(found)
            if columns not in prepared:
                marks = ", ".join("?" * len(columns))
                prepared[columns] = session.prepare(f"INSERT INTO {keyspace}.{name} ({', '.join(columns)}) VALUES ({marks})")
            batch.add(prepared[columns], tuple(found.values()))
        if len(in_flight) >= BATCHES_IN_FLIGHT:
            settle(session, *in_flight.popleft())
        in_flight.append((batch, session.execute_async(batch)))
        count += len(page)
        if progress:
            progress.show(count)
    for sent in in_flight:
        settle(session, *sent)
    if progress:
        progress.end(count)
    return count


def settle(session: Any, batch: Any, future: Any) -> None:
    """Wait for a batch; send it again while the server or its socket is only busy."""
    for attempt in range(50):
        try:
            (future if attempt == 0 else session.execute_async(batch)).result()
            return
        except NoHostAvailable as error:
            if not any(isinstance(cause, ConnectionBusy) for cause in error.errors.values()):
                raise
        except (OperationTimedOut, WriteTimeout):
            pass
        time.sleep(0.1)
    raise LoadError("Cassandra did not take a batch of rows in 50 attempts")


def load_user_tables(session: Any, world: World, users: str, hierarchies: str, part: int, parts: int) -> dict[str, int]:
    """Fill the tables that replace the two caches; the small ones are part 0's."""
    counts = {"user": insert(session, f"{users}.user", user_rows(share(world.users, part, parts)))}
    if part == 0:
        counts["location"] = insert(session, f"{users}.location", place_rows(world.users))
        counts["organisation"] = insert(session, f"{users}.organisation", organisation_rows(world.users))
        counts["hierarchy_relations"] = insert(session, f"{hierarchies}.hierarchy_relations", relation_rows(world.optional_nodes))
    return counts


def with_questions(attempts: Iterable[Row]) -> Iterator[Row]:
    """Give one attempt in a hundred the heavy list of questions that the platform stores and no report reads."""
    for row in attempts:
        if zlib.crc32(row["attempt_id"].encode()) % ATTEMPTS_A_QUESTION_LIST == 0:
            # In the order of the type's fields: id, assess_ts, max_score, score, type, title, resvalues, params.
            choices = [{"1": '{"text":"' + "choice " * 20 + '"}'}] * 4
            questions = [(f"do_question{i}", None, 1.0, 1.0, "mcq", "What? " * 20, choices, choices, "", None) for i in range(5)]
            yield row | {"question": questions}
        else:
            yield row


def renamed(rows: Iterable[Row], columns: Mapping[str, str]) -> Iterator[Row]:
    for row in rows:
        yield {columns.get(name, name): value for name, value in row.items()}


def pages(rows: Iterable[Any], size: int) -> Iterator[list[Any]]:
    left = iter(rows)
    while page := list(islice(left, size)):
        yield page


# Redis


def load_users(client: Any, users: Iterable[User], progress: "Progress | None" = None) -> int:
    """Set the hashes `user:<id>`; a user without fields is one that the cache lacks."""
    count = 0
    for page in pages(users, USERS_A_PIPELINE):
        with client.pipeline(transaction=False) as pipeline:
            for user_id, fields in page:
                if fields:
                    pipeline.hset(f"user:{user_id}", mapping=fields)
            pipeline.execute()
        count += len(page)
        if progress:
            progress.show(count)
    if progress:
        progress.end(count)
    return count


def load_optional_nodes(client: Any, optional_nodes: Mapping[str, set[str]]) -> int:
    for course, contents in optional_nodes.items():
        if contents:
            client.sadd(f"{course}:{course}:optionalnodes", *sorted(contents))
    return len(optional_nodes)


# Postgres


def submit(pg: Any, requests: list[Row], table: str = "job_request") -> int:
    """Upsert requests, each again as its row says; columns that an old install lacks are skipped."""
    if not requests:
        return 0
    name = sql.Identifier(*table.split("."))
    with pg, pg.cursor() as cursor:
        cursor.execute(sql.SQL("SELECT * FROM {} LIMIT 0").format(name))
        there = {column.name for column in cursor.description}
        columns = [column for column in requests[0] if column in there]
        statement = sql.SQL("INSERT INTO {} ({}) VALUES %s ON CONFLICT (tag, request_id) DO UPDATE SET ({}) = ROW ({})").format(
            name,
            sql.SQL(", ").join(map(sql.Identifier, columns)),
            sql.SQL(", ").join(map(sql.Identifier, columns)),
            sql.SQL(", ").join(sql.SQL("EXCLUDED.{}").format(sql.Identifier(column)) for column in columns),
        )
        rows = [tuple(for_postgres(request[column]) for column in columns) for request in requests]
        psycopg2.extras.execute_values(cursor, statement, rows)
    return len(requests)


def for_postgres(value: Any) -> Any:
    if isinstance(value, dict):
        return psycopg2.extras.Json(value)
    # The column is a timestamp without a zone, in UTC.
    return value.astimezone(UTC).replace(tzinfo=None) if isinstance(value, datetime) else value


# The content API's folder


def write_content_data(folder: Path, world: World) -> None:
    """Add to contents.json and orgs.json, which other worlds may have written, and write one file per hierarchy."""
    (folder / "hierarchies").mkdir(parents=True, exist_ok=True)
    path = folder / "contents.json"
    earlier = json.loads(path.read_bytes()) if path.exists() else []
    contents = {content["identifier"]: content for content in [*earlier, *world.contents]}
    for identifier, tree in world.hierarchies.items():
        replace(folder / "hierarchies" / f"{quote(identifier, safe='')}.json", tree)
    replace(path, json.dumps(list(contents.values()), indent=1))
    orgs = folder / "orgs.json"
    replace(orgs, json.dumps((json.loads(orgs.read_bytes()) if orgs.exists() else {}) | world.orgs, indent=1))


def replace(path: Path, text: str) -> None:
    """Write a temporary file, then rename it: the API may be reading."""
    beside = path.with_name(f"{path.name}.new")
    beside.write_text(text, encoding="utf-8")
    beside.replace(path)


# Run as a program


class Progress:
    """Says from time to time how far a table is, and how fast."""

    def __init__(self, name: str, part: int, parts: int, quiet: bool) -> None:
        self.label = name if parts == 1 else f"{name}, part {part + 1} of {parts}"
        self.quiet = quiet
        self.started = self.said = time.monotonic()

    def show(self, count: int) -> None:
        if time.monotonic() - self.said > SECONDS_A_LINE:
            self._say(count)

    def end(self, count: int) -> None:
        self._say(count)

    def _say(self, count: int) -> None:
        self.said = time.monotonic()
        rate = count / max(self.said - self.started, 0.001)
        if not self.quiet:
            print(f"{self.label}: {count:,} rows, {rate:,.0f} rows/s", file=sys.stderr, flush=True)


def setting(name: str, example: str) -> str:
    value = os.environ.get(name)
    if not value:
        raise LoadError(f"{name} is not set: give it the form {example}")
    return value


def requests_uri() -> str:
    return setting("AIRFLOW_CONN_PROGRESS_EXHAUST_REQUESTS", "postgresql://user@host:port/database")


@dataclass(frozen=True)
class Places:
    """Where the servers are."""

    requests: str
    cassandra: str
    users: str
    content_data: Path

    @classmethod
    def from_environment(cls) -> "Places":
        return cls(
            requests=requests_uri(),
            cassandra=setting("AIRFLOW_CONN_PROGRESS_EXHAUST_CASSANDRA", "cassandra://host:port"),
            users=setting("AIRFLOW_CONN_PROGRESS_EXHAUST_USERS", "redis://host:port"),
            content_data=Path(setting("PROGRESS_EXHAUST_DEV_CONTENT_DATA", "/path/to/folder")),
        )

    def connect_redis(self, database: int) -> Any:
        place = urlsplit(self.users)
        password = unquote(place.password) if place.password else None
        return redis.Redis(place.hostname or "localhost", place.port or 6379, db=database, password=password)

    def connect_cassandra(self) -> Any:
        place = urlsplit(self.cassandra)
        login = PlainTextAuthProvider(unquote(place.username), unquote(place.password or "")) if place.username else None
        # The driver sometimes closes connections of protocol version 5: plugins/progress_exhaust/hooks/cassandra/cluster.py.
        cluster = Cluster([place.hostname or "localhost"], port=place.port or 9042, auth_provider=login, protocol_version=4)
        session = cluster.connect()
        session.default_timeout = 60.0
        return session


def load_part(places: Places, world: World, part: int, parts: int, names: Names = Names()) -> None:
    """Connect and load one share; each process has connections of its own."""
    with closing(psycopg2.connect(places.requests)) as pg:
        session = places.connect_cassandra()
        try:
            load(
                world,
                session=session,
                redis_users=places.connect_redis(USERS_DATABASE),
                redis_relations=places.connect_redis(RELATIONS_DATABASE),
                pg=pg,
                content_data=places.content_data,
                names=names,
                part=part,
                parts=parts,
                quiet=False,
            )
        finally:
            session.cluster.shutdown()


def load_in_processes(places: Places, world: World, names: Names, parts: int) -> None:
    in_processes(load_part, [(places, world, part, parts, names) for part in range(parts)])


def in_processes(work: Callable[..., None], arguments: Sequence[tuple[Any, ...]]) -> None:
    """Do the work with each of these arguments, in a process each."""
    # Forked before anything is connected, for a driver's threads and sockets do not survive a fork.
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=in_process, args=(work, some)) for some in arguments]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    if any(process.exitcode for process in processes):
        raise LoadError("a part failed: its message is above")


def in_process(work: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    try:
        work(*arguments)
    except EXPECTED_ERRORS as error:
        sys.exit(f"load: {error}")


def load_generation(places: Places, world: World, generation: str, parts: int) -> None:
    """Load a world into the tables of Sunbird Ed, which are there, or of a release of Sunbird Spark, which are made."""
    names = Names()
    if generation != "ed":
        names = Names.of_spark(generation)
        in_processes(make_spark_tables, [(places, names, generation)])
        print(f"tables of {generation}: PROGRESS_EXHAUST_DEV_SETTINGS='{json.dumps(names.settings)}'")
    if parts < 2:
        load_part(places, world, 0, 1, names)
    else:
        load_in_processes(places, world, names, parts)


def make_spark_tables(places: Places, names: Names, generation: str) -> None:
    session = places.connect_cassandra()
    try:
        apply_schema(session, names.keyspaces, generation)
    finally:
        session.cluster.shutdown()


def parse_arguments(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Load sample data: without options, the sample world.")
    parser.add_argument("--learners", type=int, help="make one batch of so many learners instead of the sample world")
    parser.add_argument("--others", type=int, default=0, help="with this number of learners in other batches")
    parser.add_argument("--nested", type=int, default=3, help="nested collections of the big batch's course (3)")
    parser.add_argument("--assessments", type=int, default=5, help="its assessments (5)")
    parser.add_argument("--leaves", type=int, default=40, help="its contents in all (40)")
    parser.add_argument("--seed", type=int, default=1, help="another seed gives another world (1)")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1, help="for a big batch (one a core)")
    parser.add_argument("--generation", choices=GENERATIONS, default="ed", help="whose tables to fill (ed, Sunbird's own names)")
    parser.add_argument("--requests-only", action="store_true", help="only submit the world's requests again, as of now")
    return parser.parse_args(arguments)


def make_world(arguments: argparse.Namespace) -> World:
    at = datetime.now(UTC) if arguments.requests_only else REQUESTED_AT
    if arguments.learners is None:
        return sample_world(seed=arguments.seed, requested_at=at)
    return batch_world(
        arguments.learners, arguments.others, nested=arguments.nested, assessments=arguments.assessments,
        leaves=arguments.leaves, seed=arguments.seed, requested_at=at,
    )  # fmt: skip


def main(given: list[str]) -> int:
    """Run the command; return the exit code."""
    arguments = parse_arguments(given)
    started = time.monotonic()
    try:
        world = make_world(arguments)
        if arguments.requests_only:
            with closing(psycopg2.connect(requests_uri())) as pg:
                submit(pg, world.requests)
        else:
            parts = 1 if arguments.learners is None else arguments.processes
            load_generation(Places.from_environment(), world, arguments.generation, parts)
    except EXPECTED_ERRORS as error:
        print(f"load: {error}", file=sys.stderr)
        return 1
    print(f"loaded in {time.monotonic() - started:.1f} s; requests:")
    for request in world.requests:
        print(f"  {request['request_id']}  {request['job_id']}  {json.dumps(request['request_data'])[:80]}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

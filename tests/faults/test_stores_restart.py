"""Redis, Postgres and the disk at their worst, in the middle of the work: the words that say so, and the run after it."""

import os
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import psycopg2
import pytest
import redis

from dev import services
from dev.load import load_optional_nodes, load_users
from dev.servers import Cassandra, Postgres, Redis, Settings, apply_schema
from dev.world import Row, World, batch_world
from progress_exhaust.errors import SourceError
from progress_exhaust.hooks.user_cache import UserCacheHook
from tests.fault_proxy import FaultProxy, Moment, proxy_to, saying
from tests.faults.cluster import kill, own_settings, restart, running
from tests.integration.fixtures import emptied
from tests.integration.install import RELATIONS_DB, REPORT_DAY, USERS_DB, Install, RunResult, redis_rules
from tests.oracle import expected_csv

LEARNERS, LEARNERS_PER_PART = 150, 25
SETTINGS = {"learners_per_chunk": LEARNERS_PER_PART, "read_strategy": "partitions", "read_timeout_seconds": 10}


@pytest.fixture(scope="module")
def world(install: Install) -> World:
    made = batch_world(LEARNERS, nested=1, assessments=2, leaves=5)
    install.load(made)
    return made


@pytest.fixture(scope="module")
def undisturbed(install: Install, world: World) -> dict[str, bytes]:
    """Return what is published of the request on a quiet day."""
    emptied(install, install.folder).submit(world.requests)
    result = run(install)
    assert result.state == "success", result.failed()
    published = install.published()
    [key] = published
    assert install.csv(key) == expected_csv(world, world.requests[0], world.batches[0]["batchid"], REPORT_DAY)
    return published


@pytest.fixture
def asked(undisturbed: dict[str, bytes], queue: Install, world: World) -> Row:
    """Submit the one request on an empty job_request."""
    queue.submit(world.requests)
    return world.requests[0]


def run(site: Install, *, settings: Row | None = None, **more: Any) -> RunResult:
    return site.run_dag(settings=SETTINGS | (settings or {}), **more)


def assert_all_is_well(site: Install, result: RunResult, request: Row, undisturbed: dict[str, bytes]) -> None:
    assert result.state == "success", result.failed()
    assert site.row(request)["status"] == "SUCCESS"
    assert site.published() == undisturbed
    assert [path for path in site.staging.rglob("*") if path.is_file()] == []


def port_of(uri: str) -> int:
    return int(uri.rpartition(":")[2].partition("/")[0])


def through(uri: str, proxy: FaultProxy) -> str:
    """Return a server's address, through the proxy."""
    return uri.replace(f":{port_of(uri)}", f":{proxy.port}")


def disturbed(site: Install, server: str, moment: Moment, fault: Callable[[], None], **more: Any) -> RunResult:
    """Run the DAG; let the fault happen at the moment, while its connection waits in the proxy."""
    uri = site.connections()[server]
    with proxy_to(port_of(uri)) as proxy, ThreadPoolExecutor(1) as pool:
        with proxy.held(moment) as wait:
            going = pool.submit(run, site, connections={server: through(uri, proxy)}, **more)
            wait()
            fault()
        return going.result()


def between_parts() -> Moment:
    """Be the moment when two parts of extract are made and the others are not."""
    asked = 0

    def now(_before: bytes, sent: bytes) -> bool:
        nonlocal asked
        asked += sent.count(b"HMGET")
        return asked > 3 * LEARNERS_PER_PART  # with the first part, which is asked for twice

    return now


# Redis


def test_a_cache_that_is_flushed_in_mid_extract_makes_no_report(
    queue: Install, asked: Row, world: World, undisturbed: dict[str, bytes]
) -> None:
    result = disturbed(queue, "USERS", between_parts(), queue.users.flushdb)
    assert result.failed() == ["batch.extract"]
    assert result.says("learners are missing from the user cache", "max_missing_users_percent")
    assert queue.published() == {}
    assert queue.row(asked)["status"] == "FAILED"
    load_users(queue.users, world.users)
    assert_all_is_well(queue, run(queue), asked, undisturbed)


class SlowlyLoading(Redis):
    """A Redis that takes its time to load its dump, and answers LOADING meanwhile to those who may log in."""

    def __init__(self, site: Install, settings: Settings) -> None:
        super().__init__(settings)
        self._user = redis_rules(site.login, site.password)

    def command(self) -> list[str]:
        slowly = ["--key-load-delay", "200000", "--loading-process-events-interval-bytes", "1024"]
        return [*super().command(), *slowly, "--user", *self._user]


@pytest.fixture
def own_redis(queue: Install, world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Install, Settings]]:
    """Give a Redis of the test's own with the world in it, and its place."""
    settings = own_settings(tmp_path_factory.mktemp("redis"))
    with running(Redis(settings)):
        port = settings.port("redis")
        with redis.Redis(port=port, db=USERS_DB) as users, redis.Redis(port=port, db=RELATIONS_DB) as relations:
            load_users(users, world.users)
            load_optional_nodes(relations, world.optional_nodes)
            site = replace(queue, users=users, relations=relations)
            site.let_into_redis()
            yield site, settings


def test_a_cache_in_a_fail_over_is_asked_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fail-over may leave a replica without its primary: the one answer of a fail-over that a reader of two databases gets."""
    settings = own_settings(tmp_path)
    port = settings.port("redis")
    monkeypatch.setenv("AIRFLOW_CONN_PROGRESS_EXHAUST_USERS", f"redis://127.0.0.1:{port}")
    with running(Redis(settings)), redis.Redis(port=port, db=USERS_DB) as users:
        users.hset("user:known", "firstname", "A")
        users.config_set("replica-serve-stale-data", "no")
        with UserCacheHook(user_db=USERS_DB, relation_db=RELATIONS_DB, timeout_seconds=10) as cache:
            users.replicaof("127.0.0.1", settings.port("content"))  # where nothing runs
            for ask in (lambda: cache.users(["known"], ["firstname"]), lambda: cache.optional_nodes("do_1")):
                with pytest.raises(SourceError, match=r"\(connection progress_exhaust_users\) .*: Link with MASTER is down"):
                    ask()
            users.replicaof("NO", "ONE")
            assert cache.users(["known"], ["firstname"]) == {"known": {"firstname": "A"}}


@pytest.mark.slow
def test_a_cache_that_restarts_in_mid_extract_and_loads_its_dump(
    own_redis: tuple[Install, Settings], asked: Row, undisturbed: dict[str, bytes]
) -> None:
    site, settings = own_redis
    server, slow = Redis(settings), SlowlyLoading(site, settings)

    def restart_slowly() -> None:
        site.users.save()
        server.stop()
        slow.spawn()
        while not slow.ask(b"PING\r\n", b"-LOADING"):
            assert slow.pid(), slow.end_of_log()

    result = disturbed(site, "USERS", between_parts(), restart_slowly)
    assert result.failed() == ["batch.extract"]
    assert result.says("connection progress_exhaust_users", "loading the dataset in memory")
    assert site.published() == {}
    kill(slow)
    services.bring_up(settings, [server])
    site.let_into_redis()
    assert_all_is_well(site, run(site), asked, undisturbed)


def test_users_whose_keys_are_of_another_type_are_counted_as_missing(
    queue: Install, asked: Row, world: World, undisturbed: dict[str, bytes]
) -> None:
    """As those whom the cache lacks: their rows stay, with the cache's columns blank."""
    batch = world.batches[0]["batchid"]
    known = {user_id for user_id, fields in world.users if fields}
    active = [row["userid"] for row in world.enrolments if row["active"]]
    wrong = [user_id for user_id in active if user_id in known][:2]
    without = replace(world, users=[(user_id, {} if user_id in wrong else fields) for user_id, fields in world.users])
    keys = [f"user:{user_id}" for user_id in wrong]
    fields = [queue.users.hgetall(key) for key in keys]
    queue.users.delete(*keys)
    queue.users.set(keys[0], "{}")
    queue.users.rpush(keys[1], "x")
    try:
        result = run(queue)
    finally:
        queue.users.delete(*keys)
        for key, of_user in zip(keys, fields, strict=True):
            queue.users.hset(key, mapping=of_user)
    assert result.state == "success", result.failed()
    [key] = undisturbed
    assert queue.csv(key) == expected_csv(without, asked, batch, REPORT_DAY)
    assert queue.csv(key) != expected_csv(world, asked, batch, REPORT_DAY)
    [ledger] = queue.sql("SELECT counts FROM progress_exhaust.batch_run")
    assert ledger["counts"]["missing"] == len(wrong) + sum(user_id not in known for user_id in active)
    assert not [user_id for user_id in wrong if user_id in result.log]


def test_optional_nodes_of_another_type_fail_their_batch_with_a_message(
    queue: Install, asked: Row, world: World, undisturbed: dict[str, bytes]
) -> None:
    course = world.batches[0]["courseid"]
    key = f"{course}:{course}:optionalnodes"
    had = queue.relations.smembers(key)
    queue.relations.delete(key)
    queue.relations.set(key, "do_1,do_2")
    try:
        result = run(queue)
        assert result.failed() == ["batch.fetch_hierarchy"]
        assert result.says("connection progress_exhaust_users", f"{key} in database {RELATIONS_DB} is not a set")
        assert queue.published() == {}
    finally:
        queue.relations.delete(key)
        if had:
            queue.relations.sadd(key, *had)
    assert_all_is_well(queue, run(queue), asked, undisturbed)


# Postgres


@contextmanager
def read_only(site: Install) -> Iterator[Callable[[], None]]:
    """Yield what lets the install's database take no writes until the block's end, as a standby after a fail-over.

    A fail-over ends the connections, too.
    """
    server, _, name = site.postgres.rpartition("/")
    with closing(psycopg2.connect(f"{server}/postgres")) as session:
        session.autocommit = True
        change = f'ALTER DATABASE "{name}"'
        try:
            yield lambda: session.cursor().execute(
                f"{change} SET default_transaction_read_only = on;"
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [name]
            )  # fmt: skip
        finally:
            session.cursor().execute(f"{change} RESET default_transaction_read_only")


def test_a_database_that_takes_no_writes(queue: Install, asked: Row, undisturbed: dict[str, bytes]) -> None:
    """From the middle of extract on, which leaves a claim behind; and when the next run is about to take that over."""
    words = ("SourceError", "connection progress_exhaust_requests", "takes no writes", "primary")
    with read_only(queue) as begin:
        for result, failed in (
            (disturbed(queue, "USERS", between_parts(), begin), "batch.extract"),
            (run(queue), "claim_requests"),
        ):
            assert result.failed() == [failed]
            assert result.says(*words)
            assert queue.published() == {}
            assert queue.row(asked)["status"] == "PROCESSING"
    assert_all_is_well(queue, run(queue), asked, undisturbed)


# What a transaction's connection has sent when its COMMIT comes.
COMMITS = {
    "the claim": b".claim (tag, request_id, installation, run_id)",
    "the list": b".batch_run\n  (tag, request_id",
    "the pin of the claim, after the package was put": b"released_at IS NULL FOR SHARE",
    "the mark": b"SET status = 'SUCCESS'",
}


def commit_of(words: bytes) -> Moment:
    return lambda before, sent: b"COMMIT" in sent and words in before


@pytest.mark.parametrize("words", COMMITS.values(), ids=COMMITS)
def test_a_commit_whose_answer_is_lost(queue: Install, asked: Row, undisturbed: dict[str, bytes], words: bytes) -> None:
    """The COMMIT worked, but its answer is lost: the retry ends normally, and never changes a SUCCESS for a moment."""
    statuses = watched(queue)
    uri = queue.connections()["REQUESTS"]
    with proxy_to(port_of(uri)) as proxy, proxy.losing_the_answer(commit_of(words)):
        result = run(queue, connections={"REQUESTS": through(uri, proxy)}, retries=1)
    assert_all_is_well(queue, result, asked, undisturbed)
    assert queue.row(asked)["iteration"] == 0
    assert {row["state"] for row in queue.sql("SELECT state FROM progress_exhaust.batch_run")} == {"done"}
    assert statuses() == ["PROCESSING", "SUCCESS"]
    assert max(task["tries"] for task in result.tasks) == 2


def test_a_settlement_whose_commit_is_not_acknowledged_counts_once(queue: Install, asked: Row) -> None:
    statuses = watched(queue)
    uri = queue.connections()["REQUESTS"]
    nowhere = {"USERS": "redis://127.0.0.1:1"}
    with proxy_to(port_of(uri)) as proxy, proxy.losing_the_answer(commit_of(b"SET status = 'FAILED'")):
        result = run(queue, connections={"REQUESTS": through(uri, proxy)} | nowhere, retries=1)
    assert result.failed() == ["batch.fetch_hierarchy"]
    row = queue.row(asked)
    assert (row["status"], row["iteration"]) == ("FAILED", 1)
    assert statuses() == ["PROCESSING", "FAILED"]


def watched(site: Install) -> Callable[[], list[str]]:
    """Return a function that returns the statuses of the request's row since now, in order."""
    site.sql(
        """
        CREATE TABLE status_seen (number serial, status text);
        CREATE FUNCTION note_status() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
          BEGIN INSERT INTO status_seen (status) VALUES (NEW.status); RETURN NEW; END $$;
        CREATE TRIGGER note_status AFTER UPDATE OF status ON job_request
        FOR EACH ROW WHEN (OLD.status IS DISTINCT FROM NEW.status) EXECUTE FUNCTION note_status();
        """
    )

    def seen() -> list[str]:
        rows = site.sql("SELECT status FROM status_seen ORDER BY number")
        site.sql("DROP TABLE status_seen; DROP FUNCTION note_status CASCADE")
        return [row["status"] for row in rows]

    return seen


# What stands in a request to Postgres, at moments from the package's put on.
MOMENTS: dict[str, Moment] = {
    "the package is published": lambda before, sent: b"COMMIT" in sent and b"released_at IS NULL FOR SHARE" in before,
    "mark_complete begins": saying(b"mark_complete"),
    "the mark is not yet committed": lambda before, sent: b"COMMIT" in sent and b"SET status = 'SUCCESS'" in before,
}


@pytest.fixture(scope="module")
def own_postgres(install: Install, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Install, Postgres]]:
    """Give the install a Postgres of its own, to restart."""
    server = Postgres(own_settings(tmp_path_factory.mktemp("postgres")))
    with running(server):
        site = replace(install, postgres=server.create_database("own"))
        site.let_into_postgres()
        yield site, server


@pytest.mark.slow
@pytest.mark.parametrize("moment", MOMENTS.values(), ids=MOMENTS)
def test_postgres_restarts_between_publication_and_mark(
    own_postgres: tuple[Install, Postgres], world: World, undisturbed: dict[str, bytes], tmp_path: Path, moment: Moment
) -> None:
    site, server = own_postgres
    emptied(site, tmp_path).submit(world.requests)
    statuses = watched(site)

    result = disturbed(site, "REQUESTS", moment, partial(restart, server), retries=3)
    assert_all_is_well(site, result, world.requests[0], undisturbed)
    assert statuses() == ["PROCESSING", "SUCCESS"]
    assert {row["state"] for row in site.sql("SELECT state FROM progress_exhaust.batch_run")} == {"done"}
    assert max(task["tries"] for task in result.tasks) > 1


# Disk


@pytest.mark.skipif(
    os.geteuid() != 0, reason="only root can mount a small disk; tests/unit/test_report_store.py has a limit of size"
)
def test_a_full_disk_in_staging(queue: Install, asked: Row, undisturbed: dict[str, bytes], tmp_path: Path) -> None:
    queue.staging.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", queue.staging], check=True)
    try:
        result = run(queue)
        assert result.failed() == ["batch.extract"]
        assert result.says("SourceError", f"Staging {queue.staging.as_uri()}", "No space left on device")
        assert queue.published() == {}
        assert queue.row(asked)["status"] == "FAILED"
        assert not [name for name in queue.staged() if name.endswith(".part")]
        subprocess.run(["mount", "-o", "remount,size=64m", queue.staging], check=True)
        assert_all_is_well(queue, run(queue), asked, undisturbed)
    finally:
        subprocess.run(["umount", queue.staging], check=True)


# Cassandra


@pytest.mark.slow
@pytest.mark.parametrize("mercy", [True, False], ids=["stopped", "killed"])
def test_cassandra_restarts_in_mid_extract(
    queue: Install,
    asked: Row,
    world: World,
    undisturbed: dict[str, bytes],
    tmp_path_factory: pytest.TempPathFactory,
    mercy: bool,
) -> None:
    """With one node, no node answers meanwhile: a retry continues after the parts that are there."""
    server = Cassandra(own_settings(tmp_path_factory.mktemp("cassandra")))

    def killed_and_back() -> None:
        kill(server)
        services.bring_up(server.settings, [server])

    with running(server), services.connected_cassandra(server.port) as session:
        session.default_timeout = 60.0
        apply_schema(session, {"sunbird_courses": queue.names.courses, "dev_hierarchy_store": queue.names.hierarchies})
        site = replace(queue, session=session, cassandra_port=server.port)
        site.let_into_cassandra()
        site.load(world)
        fault = partial(restart, server) if mercy else killed_and_back
        # All of extract waits until it is back: in one process, and longer than that takes.
        patient = {"processes_per_task": 1, "read_timeout_seconds": 120}
        result = disturbed(site, "USERS", between_parts(), fault, settings=patient, retries=3)
    assert_all_is_well(site, result, asked, undisturbed)

"""A cluster of three Cassandra nodes: a report while some of them die or fall silent, and who is asked for what."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from dev.load import Names
from dev.servers import apply_schema
from dev.world import Row, World, batch_world
from tests.fault_proxy import Moment, proxy_to, saying
from tests.faults.cluster import Cluster, cluster
from tests.integration.fixtures import emptied
from tests.integration.install import REPORT_DAY, Install, RunResult
from tests.oracle import expected_csv

pytestmark = pytest.mark.slow  # it starts three JVMs

LEARNERS, LEARNERS_PER_PART = 600, 25
# Two thirds of the parts are still to be made when this many learners were asked for in the user cache.
LEARNERS_BEFORE_THE_FAULT = 200
FAST = {"read_timeout_seconds": 8, "learners_per_chunk": LEARNERS_PER_PART, "partitions_per_query": 10}
PARTITIONS = FAST | {"read_strategy": "partitions"}
SCAN = FAST | {"read_strategy": "scan"}


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with cluster(tmp_path_factory.mktemp("cluster")) as made:
        yield made


@pytest.fixture(scope="module")
def world() -> World:
    return batch_world(LEARNERS, 60, nested=2, assessments=2, leaves=10)


@contextmanager
def copied(install: Install, nodes: Cluster, world: World, copies: int) -> Iterator[Install]:
    """Give the install with its learner tables in the cluster, each row on so many nodes."""
    of_cluster = {name: f"{name}_{copies}" for name in ("sunbird_courses", "dev_hierarchy_store", "sunbird")}
    courses = of_cluster["sunbird_courses"]
    names = Names(courses, of_cluster["dev_hierarchy_store"], None, f"{courses}.report_user_enrolments")
    with nodes.session() as session:
        apply_schema(session, of_cluster)
        for keyspace in of_cluster.values():
            session.execute(
                f"ALTER KEYSPACE {keyspace} WITH replication = {{'class': 'NetworkTopologyStrategy', 'datacenter1': {copies}}}"
            )
        for table in ("report_user_enrolments", "user_activity_agg", "assessment_aggregator"):
            # When a coordinator asks one more replica. By default it goes by what it has measured, and of new tables it has
            # measured nothing: it would wait for 15 s.
            session.execute(f"ALTER TABLE {courses}.{table} WITH speculative_retry = '50ms'")
        hosts = ",".join(nodes.addresses)
        made = replace(install, session=session, cassandra_port=nodes.port, cassandra_hosts=hosts, names=names)
        emptied(made, install.folder).load(world)
        yield made


@pytest.fixture(scope="module")
def whole(install: Install, nodes: Cluster, world: World) -> Iterator[Install]:
    with copied(install, nodes, world, copies=3) as made:
        yield made


@pytest.fixture(scope="module")
def undisturbed(whole: Install, world: World) -> dict[str, bytes]:
    """Return what is published of the request on a quiet day."""
    result = whole.run_dag(settings=PARTITIONS)
    assert result.state == "success", result.failed()
    published = whole.published()
    [key] = published
    assert whole.csv(key) == expected_csv(world, world.requests[0], world.batches[0]["batchid"], REPORT_DAY)
    return published


@pytest.fixture
def site(nodes: Cluster, whole: Install, world: World, undisturbed: dict[str, bytes], tmp_path: Path) -> Install:
    """Give one test a cluster whose nodes are all there, and one request that can be met."""
    nodes.whole()
    emptied(whole, tmp_path).submit(world.requests)
    return whole


def between_parts() -> Moment:
    """Be the moment when some of the extract's parts are made."""
    asked = 0

    def now(_before: bytes, sent: bytes) -> bool:
        nonlocal asked
        asked += sent.count(b"HMGET")
        return asked > LEARNERS_BEFORE_THE_FAULT

    return now


def disturbed(site: Install, fault: Callable[[], None], settings: Row, **more: object) -> RunResult:
    """Run the DAG; let the fault begin in the middle of extract, which waits for it."""
    server, port_of = ("REQUESTS", "postgres") if settings["read_strategy"] == "scan" else ("USERS", "redis")
    uri = site.connections()[server]
    at, _, rest = uri.rpartition(":")
    port, _, database = rest.partition("/")
    # One table has been scanned, and the next one is about to be.
    moment = saying(b"scan of assessment_aggregator") if port_of == "postgres" else between_parts()
    with proxy_to(int(port)) as proxy, ThreadPoolExecutor(1) as pool:
        with proxy.held(moment) as wait:
            connections = {server: f"{at}:{proxy.port}/{database}"}
            run = pool.submit(site.run_dag, settings=settings, connections=connections, **more)
            wait()
            fault()
        return run.result()


@pytest.mark.parametrize(("address", "settings"), [("127.0.0.1", PARTITIONS), ("127.0.0.3", SCAN)], ids=["partitions", "scan"])
def test_one_node_that_is_killed_costs_time_alone(
    site: Install, nodes: Cluster, undisturbed: dict[str, bytes], address: str, settings: Row
) -> None:
    result = disturbed(site, lambda: nodes.kill(address), settings | {"processes_per_task": 2})
    assert result.state == "success", result.failed()
    assert {task["tries"] for task in result.tasks if task["task_id"] == "batch.extract"} == {1}
    assert site.published() == undisturbed


def test_two_nodes_that_are_killed_fail_the_extract_with_a_message_until_they_are_back(
    site: Install, nodes: Cluster, world: World, undisturbed: dict[str, bytes]
) -> None:
    result = disturbed(site, lambda: nodes.kill("127.0.0.1", "127.0.0.2"), PARTITIONS | {"processes_per_task": 2})
    assert result.failed() == ["batch.extract"]
    assert result.says("connection progress_exhaust_cassandra", "LOCAL_QUORUM")
    assert site.row(world.requests[0])["status"] == "FAILED"
    assert site.published() == {}
    nodes.whole()
    again = site.run_dag(settings=PARTITIONS)
    assert again.state == "success", again.failed()
    assert site.published() == undisturbed
    assert site.row(world.requests[0])["status"] == "SUCCESS"
    assert [path for path in site.staging.rglob("*") if path.is_file()] == []


def test_a_node_that_falls_silent_is_asked_no_longer(
    site: Install, nodes: Cluster, undisturbed: dict[str, bytes], capsys: pytest.CaptureFixture[str]
) -> None:
    """Its connections stay open: only a time limit shows it. Another coordinator is asked meanwhile; no page comes twice."""
    silent = "127.0.0.2"
    settings = PARTITIONS | {"processes_per_task": 1}
    with nodes.paused() as pause:
        result = disturbed(site, lambda: pause(silent), settings, record_reads=True)
    assert result.state == "success", result.failed()
    assert site.published() == undisturbed
    speculated = [read for read in result.reads if read["speculations"]]
    retried = [read for read in result.reads if read["retries"]]
    sent_again = [read for read in result.reads if read["resends"] is not None]
    with capsys.disabled():
        print(
            f"\n{len(result.reads)} reads: {len(speculated)} were asked of another node by speculation, {len(retried)} by the "
            f"driver's retry, {len(sent_again)} sent again by the hook"
        )
    unanswered = [read for read in speculated if read["asked"][0] == silent and read["answered"] != silent]
    assert unanswered
    # The hook is for what is left: a page that two nodes were asked for, and neither answered in time.
    assert len(sent_again) < len(unanswered)
    assert all(len(set(result.reads[read["resends"]]["asked"])) > 1 for read in sent_again)


def test_reads_go_to_nodes_that_own_what_they_ask_for(
    install: Install,
    nodes: Cluster,
    world: World,
    undisturbed: dict[str, bytes],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """With one copy of each row, so that each has one owner."""
    nodes.whole()
    with copied(install, nodes, world, copies=1) as site:
        emptied(site, tmp_path).submit(world.requests)
        result = site.run_dag(settings=PARTITIONS | {"processes_per_task": 1}, record_reads=True)
        assert result.state == "success", result.failed()
        assert site.published() == undisturbed
        own = dict.fromkeys(nodes.addresses, 0)
        others = 0
        for read in result.reads:
            for owner in owners(site, read):
                if owner == read["answered"]:
                    own[owner] += 1
                else:
                    others += 1
    partitions = sum(own.values()) + others
    assert partitions > 3 * LEARNERS * 0.9  # two nested collections and the attempts
    assert min(own.values()) > partitions / 10
    share = 100 * sum(own.values()) / partitions
    with capsys.disabled():
        print(f"\n{share:.2f} % of {partitions} partitions were read by their owner: {own}")
    assert share >= 99


def owners(site: Install, read: Row) -> list[str]:
    """Return the owner of each partition that a read of a learners' table asks for, as the driver itself finds them."""
    values = [value for _, value in read["values"]]
    if "user_activity_agg" in read["query"]:
        table, keys = "user_activity_agg", [("Course", values[0], user_id) for user_id in values[1]]
        where = "activity_type = ? AND activity_id = ? AND user_id = ?"
    elif "assessment_aggregator" in read["query"]:
        table, keys = "assessment_aggregator", [(user_id, values[1]) for user_id in values[0]]
        where = "user_id = ? AND course_id = ?"
    else:
        return []
    statement = site.session.prepare(f"SELECT user_id FROM {site.names.courses}.{table} WHERE {where}")
    find = site.session.cluster.metadata.get_replicas
    return [host.address for key in keys for host in find(site.names.courses, statement.bind(key).routing_key)]

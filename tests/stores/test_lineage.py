"""What OpenLineage gets from a run, by its own provider, which only this environment has."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from dev.world import Row, World
from tests.integration.install import Airflow, Install


@pytest.fixture(scope="module")
def events(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("lineage") / "events.jsonl"


@pytest.fixture(scope="module")
def airflow(tmp_path_factory: pytest.TempPathFactory, events: Path) -> Iterator[Airflow]:
    transport = {"type": "file", "log_file_path": str(events), "append": True}
    runner = Airflow(tmp_path_factory.mktemp("airflow"), {"AIRFLOW__OPENLINEAGE__TRANSPORT": json.dumps(transport)})
    yield runner
    runner.stop()


def names(event: dict[str, Any], which: str) -> list[tuple[str, str]]:
    return [(one["namespace"], one["name"]) for one in event[which]]


def test_the_tables_that_were_read_and_the_file_that_was_made(queue: Install, asked: Row, world: World, events: Path) -> None:
    assert queue.run_dag(retries=1).state == "success"
    text = events.read_text()
    complete = {event["job"]["name"]: event for event in map(json.loads, text.splitlines()) if event["eventType"] == "COMPLETE"}
    extract, package = (complete[f"progress_exhaust.batch.{stage}"] for stage in ("extract", "package"))
    cassandra = f"cassandra://127.0.0.1:{queue.cassandra_port}"
    redis = f"redis://127.0.0.1:{queue.users.connection_pool.connection_kwargs['port']}"
    assert names(extract, "inputs") == [
        (cassandra, queue.names.enrolments_by_batch),
        (cassandra, f"{queue.names.courses}.user_activity_agg"),
        (cassandra, f"{queue.names.courses}.assessment_aggregator"),
        (cassandra, f"{queue.names.hierarchies}.content_hierarchy"),
        (redis, "14"),
        (redis, "15"),
        (f"http://127.0.0.1:{urlsplit(queue.content.url).port}", "/v1/search"),
    ]
    [key] = queue.row(asked)["download_urls"]
    assert names(package, "outputs") == [("file", str(queue.reports / key))]
    assert (extract["outputs"], package["inputs"]) == ([], [])
    for user, _ in world.users:
        assert user not in text
    assert urlsplit(queue.postgres).password not in text

"""What other systems see of a run: metrics as they come over the wire, and the events of Airflow's asset."""

import json
import re
import socket
import sqlite3
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from dev.world import Row, World
from tests.integration.install import Airflow, Install

DOCS = (Path(__file__).parents[2] / "docs/reference/signals.md").read_text()


class Listener:
    """A StatsD server: it takes what comes, and adds it up."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self._socket.setblocking(False)

    @property
    def port(self) -> int:
        return int(self._socket.getsockname()[1])

    def heard(self) -> dict[str, list[float]]:
        """Return what came since it was last asked: each metric's values, by its name and kind, such as `learners|c`."""
        found: dict[str, list[float]] = {}
        while True:
            try:
                line = self._socket.recv(65536).decode()
            except BlockingIOError:
                return found
            name, _, rest = line.partition(":")
            value, _, kind = rest.partition("|")
            if name.startswith("airflow.progress_exhaust."):
                found.setdefault(f"{name.removeprefix('airflow.progress_exhaust.')}|{kind}", []).append(float(value))

    def close(self) -> None:
        self._socket.close()


@pytest.fixture(scope="module")
def listener() -> Iterator[Listener]:
    made = Listener()
    yield made
    made.close()


@pytest.fixture(scope="module")
def airflow(tmp_path_factory: pytest.TempPathFactory, listener: Listener) -> Iterator[Airflow]:
    metrics = {"STATSD_ON": "True", "STATSD_HOST": "127.0.0.1", "STATSD_PORT": str(listener.port)}
    runner = Airflow(tmp_path_factory.mktemp("airflow"), {f"AIRFLOW__METRICS__{name}": value for name, value in metrics.items()})
    yield runner
    runner.stop()


@pytest.fixture(autouse=True)
def _no_earlier_metrics(listener: Listener) -> None:
    listener.heard()


def events(install: Install) -> list[dict[str, Any]]:
    """Return the extra of each event of the asset."""
    with closing(sqlite3.connect(install.airflow.metadata)) as metadata:
        rows = metadata.execute(
            "SELECT e.extra FROM asset_event e JOIN asset a ON a.id = e.asset_id WHERE a.name = 'progress_exhaust_report'"
        )
        return [json.loads(extra) for (extra,) in rows]


def test_a_run_reports_its_requests_batches_learners_and_seconds(queue: Install, asked: Row, listener: Listener) -> None:
    queue.sql("UPDATE job_request SET dt_job_submitted = %s", [datetime.now(UTC).replace(tzinfo=None) - timedelta(hours=30)])
    result = queue.run_dag(retries=1)  # a busy server may need it, before any stage
    assert result.state == "success"
    heard = listener.heard()
    waited, left = heard.pop("oldest_pending_seconds|g")
    assert 30 * 3600 <= waited < 31 * 3600
    assert left == 0
    durations = [name for name in heard if name.endswith("|ms")]
    assert sorted(durations) == [
        f"stage_duration.{stage}|ms" for stage in ("extract", "fetch_hierarchy", "mark_complete", "package", "pivot")
    ]
    assert all(len(values := heard.pop(name)) == 1 and values[0] > 0 for name in durations)
    assert heard == {
        "requests.succeeded|c": [1], "batches.done|c": [1], "learners|c": [11], "excluded.inactive|c": [1],
        "undeleted_staging_folders|g": [0], "old_staging_folders|g": [0],
    }  # fmt: skip


def test_a_request_of_tomorrow_has_waited_for_no_time(queue: Install, asked: Row, listener: Listener) -> None:
    queue.sql("UPDATE job_request SET dt_job_submitted = %s", [datetime.now(UTC).replace(tzinfo=None) + timedelta(hours=30)])
    queue.run_dag({"dry_run": True})
    assert listener.heard()["oldest_pending_seconds|g"] == [0]


def test_what_fails_is_counted_as_such(queue: Install, asked: Row, listener: Listener) -> None:
    result = queue.run_dag(connections={"USERS": "redis://127.0.0.1:1"})
    assert result.state == "failed"
    heard = listener.heard()
    assert {name: heard[name] for name in heard if name.endswith("|c")} == {"batches.failed|c": [1], "requests.failed|c": [1]}


def test_a_request_that_only_its_requester_can_correct_does_not_count_as_failed(
    queue: Install, asked: Row, listener: Listener
) -> None:
    queue.sql("UPDATE job_request SET request_data = '{}'")
    assert queue.run_dag().state == "success"
    heard = listener.heard()
    assert {name: heard[name] for name in heard if name.endswith("|c")} == {"requests.rejected|c": [1]}


def test_a_request_that_shares_anothers_report_counts_too(queue: Install, asked: Row, listener: Listener) -> None:
    queue.submit([asked | {"request_id": "AGAIN", "tag": "again"}])
    assert queue.run_dag().state == "success"
    heard = listener.heard()
    assert (heard["requests.succeeded|c"], heard["batches.done|c"]) == ([2], [1])


def test_each_file_is_an_event_with_its_counts(queue: Install, asked: Row, world: World) -> None:
    before = len(events(queue))
    queue.run_dag()
    row = queue.row(asked)
    [key] = row["download_urls"]
    [event] = events(queue)[before:]
    assert event == {
        "request_id": asked["request_id"],
        "batch_id": world.batches[0]["batchid"],
        "collection_id": world.batches[0]["courseid"],
        "key": key,
        "bytes": len(queue.published()[key]),
        "rows": 11,
        "enrolled": 11,
        "excluded": 1,
        "again": False,
    }


def test_the_grid_says_whose_batch_it_is_and_what_it_came_to(queue: Install, asked: Row, world: World) -> None:
    labels = {task["task_id"]: task["label"] for task in queue.run_dag().tasks}
    batch = world.batches[0]["batchid"]
    assert labels["batch.pivot"] == batch
    assert labels["batch.mark_complete"] == f"{batch}: 11 of 11 learners"


def test_links_lead_to_the_request_and_the_file_and_hold_no_secret(queue: Install, asked: Row) -> None:
    result = queue.run_dag()
    with closing(sqlite3.connect(queue.airflow.metadata)) as metadata:
        found = metadata.execute(
            "SELECT task_id, key, value FROM xcom WHERE run_id = ? AND key LIKE '_link_%'", [result.run_id]
        ).fetchall()
    links = {
        (task, key): urlsplit(json.loads(json.loads(value) if value.startswith('"\\"') else value)) for task, key, value in found
    }
    [key] = queue.row(asked)["download_urls"]
    for stage in ("fetch_hierarchy", "extract", "pivot", "package", "mark_complete"):
        link = links[f"batch.{stage}", "_link_RequestLink"]
        assert link.path == "/progress-exhaust/request"
        assert parse_qs(link.query) == {"tag": [asked["tag"]], "request_id": [asked["request_id"]]}
    file = links["batch.mark_complete", "_link_FileLink"]
    assert (file.path, parse_qs(file.query)) == ("/progress-exhaust/file", {"key": [key]})


def test_a_dry_run_sends_no_signal(queue: Install, asked: Row, listener: Listener) -> None:
    before = len(events(queue))
    assert queue.run_dag({"dry_run": True}).state == "success"
    assert len(events(queue)) == before
    assert set(listener.heard()) == {"oldest_pending_seconds|g"}


def test_the_docs_name_what_comes_over_the_wire(queue: Install, asked: Row, listener: Listener) -> None:
    queue.run_dag()
    sent = Counter(name.partition("|")[0] for name in listener.heard())
    described = [re.sub(r"<\w+>", r"[a-z_]+", re.escape(name)) for name in re.findall(r"`progress_exhaust\.([\w.<>]+)`", DOCS)]
    assert described
    assert [name for name in sent if not any(re.fullmatch(pattern, name) for pattern in described)] == []

"""What other systems get of a run on Airflow's own servers: a DAG that follows the reports, and OpenTelemetry's metrics."""

import json
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

from tests.servers.site import OVER, PROJECT, STAGES, Site, wait_until

DOCS = (PROJECT / "docs/signals.md").read_text()
FOLLOWER = "/api/v2/dags/follower"
OURS = "airflow.progress_exhaust."


@contextmanager
def follower(site: Site) -> Iterator[None]:
    """Let the very DAG of docs/signals.md follow the reports, as long as the block lasts."""
    [source] = re.findall(r"```python\n(.*?)```", DOCS, re.DOTALL)
    file = site.data / "followers" / "follower.py"
    file.write_text(source)
    try:
        wait_until(lambda: any(dag["dag_id"] == "follower" for dag in dags(site)), "the follower")
        yield
    finally:
        file.unlink()
        wait_until(lambda: all(dag["dag_id"] != "follower" for dag in dags(site)), "the follower's end")


def dags(site: Site) -> list[dict[str, Any]]:
    return list(site.airflow.call("/api/v2/dags")["dags"])


def test_the_dag_of_the_docs_runs_when_a_report_is_published(site: Site) -> None:
    batches, begun = site.batches[1:3], quote(datetime.now(UTC).isoformat())
    with follower(site):
        request = site.request(*batches)
        run = site.airflow.run(request_ids=[request])

        def told() -> dict[str, int] | None:
            """Return the batches that the follower's runs have told of, once they are over: one run may have several events."""
            runs = site.airflow.call(f"{FOLLOWER}/dagRuns?run_after_gte={begun}")["dag_runs"]
            assert all(one["run_type"] == "asset_triggered" for one in runs)
            if not all(one["state"] in OVER for one in runs):
                return None
            assert [one["state"] for one in runs] == ["success"] * len(runs)
            lines = "".join(
                json.dumps(site.airflow.call(f"{FOLLOWER}/dagRuns/{one['dag_run_id']}/taskInstances/tell/logs/1")["content"])
                for one in runs
            )
            found = {batch: int(rows) for batch, rows in re.findall(r'"(\d+) (\d+)"', lines)}
            return found if len(found) == len(batches) else None

        reported = {
            batch: site.airflow.xcom(run, "batch.mark_complete", index)["counts"]["reported"]
            for index, batch in enumerate(batches)
        }
        assert wait_until(told, "the follower's runs") == reported


def points(site: Site, since: int) -> dict[str, list[Any]]:
    """Return our metrics that came since so many messages: each one's kind and points, by name."""
    found: dict[str, list[Any]] = {}
    for body in site.metrics[since:]:
        for resource in ExportMetricsServiceRequest.FromString(body).resource_metrics:
            for metric in (metric for scope in resource.scope_metrics for metric in scope.metrics):
                if metric.name.startswith(OURS):
                    kind = str(metric.WhichOneof("data"))
                    found.setdefault(metric.name.removeprefix(OURS), []).extend(
                        (kind, point) for point in getattr(metric, kind).data_points
                    )
    return found


def test_the_metrics_arrive_by_opentelemetry(site: Site) -> None:
    """Each task is a process of its own, which ends within a second: nothing of it may be lost."""
    exports = dict(re.findall(r"^export ((?:AIRFLOW__METRICS|OTEL)_\w+)=(\S+)", DOCS, re.MULTILINE))
    assert len(exports) == 3
    assert {name: value for name, value in exports.items() if site.environment[name] != value}.keys() == {
        "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT"
    }
    batches = site.batches[1:3]
    since = len(site.metrics)
    request = site.request(*batches)
    run = site.airflow.run(request_ids=[request])
    wait_until(lambda: "requests.succeeded" in points(site, since), "the metrics of the run's last task")
    found = points(site, since)
    counted = {name: sum(point.as_int for kind, point in found[name]) for name in found if found[name][0][0] == "sum"}
    told = [site.airflow.xcom(run, "batch.mark_complete", index)["counts"] for index in range(len(batches))]
    left_out = sum((Counter({name: n for name, n in one.items() if name.startswith("left_out.")}) for one in told), Counter())
    assert counted == {
        "requests.succeeded": 1, "batches.done": 2, "learners": sum(one["reported"] for one in told), **left_out
    }  # fmt: skip
    took = {name.rpartition(".")[2]: found[name] for name in found if name.startswith("stage_duration.")}
    assert set(took) == set(STAGES)
    for measured in took.values():
        assert [(kind, point.count, point.sum > 0) for kind, point in measured] == [("exponential_histogram", 1, True)] * 2
    assert {kind for kind, _ in found["oldest_pending_seconds"]} == {"gauge"}

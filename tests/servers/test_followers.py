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

DOCS = (PROJECT / "docs/how-to/monitor.md").read_text()
FOLLOWER = "/api/v2/dags/follower"
[TASK] = re.findall(r"def (\w+)\(triggering_asset_events\)", DOCS)
OURS = "airflow.progress_exhaust."


@contextmanager
def follower(site: Site) -> Iterator[None]:
    """Let the very DAG of docs/how-to/monitor.md follow the reports, as long as the block lasts."""
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
    """Of two files at once, Airflow may keep the second event for the follower's next run: after a third, it has all."""
    started_at = quote(datetime.now(UTC).isoformat())

    def reported_files() -> list[tuple[str, int]]:
        """Return the batches and rows that the follower's runs have logged; nothing while one runs."""
        runs = site.airflow.call(f"{FOLLOWER}/dagRuns?run_after_gte={started_at}")["dag_runs"]
        if not all(run["state"] in OVER for run in runs):
            return []
        assert {(run["run_type"], run["state"]) for run in runs} <= {("asset_triggered", "success")}
        logs = [f"{FOLLOWER}/dagRuns/{run['dag_run_id']}/taskInstances/{TASK}/logs/1" for run in runs]
        lines = "".join(json.dumps(site.airflow.call(log)["content"]) for log in logs)
        return sorted((batch, int(rows)) for batch, rows in re.findall(r'"(\d+) (\d+)"', lines))

    with follower(site):
        reported = []
        for batches in (site.batches[1:3], site.batches[3:4]):
            run = site.airflow.run(request_ids=[site.request(*batches)])
            for index, batch in enumerate(batches):
                counts = site.airflow.xcom(run, "batch.mark_complete", index)["counts"]
                reported.append((batch, counts["reported"]))
            wait_until(reported_files, "the follower's run")
        wait_until(lambda: len(reported_files()) >= len(reported), "what it logs of the last file")
        assert reported_files() == sorted(reported)


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
    batch_counts = [site.airflow.xcom(run, "batch.mark_complete", index)["counts"] for index in range(len(batches))]
    left_out = sum(
        (Counter({name: n for name, n in one.items() if name.startswith("excluded.")}) for one in batch_counts), Counter()
    )
    assert counted == {
        "requests.succeeded": 1, "batches.done": 2, "learners": sum(one["reported"] for one in batch_counts), **left_out
    }  # fmt: skip
    took = {name.rpartition(".")[2]: found[name] for name in found if name.startswith("stage_duration.")}
    assert set(took) == set(STAGES)
    for measured in took.values():
        assert [(kind, point.count, point.sum > 0) for kind, point in measured] == [("exponential_histogram", 1, True)] * 2
    assert {kind for kind, _ in found["oldest_pending_seconds"]} == {"gauge"}

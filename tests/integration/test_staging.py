"""A batch's staging is there until the batch is done: a run of many does not keep every learner in clear until its end."""

import json
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

import pytest

from dev.world import ORG, Row, World, request_row
from progress_exhaust.errors import SetupError, SourceError
from progress_exhaust.hooks import report_store
from progress_exhaust.hooks.job_requests import BatchRun, RequestsHook
from progress_exhaust.hooks.requests.models import BatchState, Stage
from progress_exhaust.operators.fetch_hierarchy import FetchHierarchyOperator
from progress_exhaust.operators.mark_complete import REPORT, MarkCompleteOperator
from progress_exhaust.operators.package import PackageOperator
from progress_exhaust.operators.site_operator import RunParams, Site
from progress_exhaust.operators.stage import PACKAGE_FILE
from progress_exhaust.report.request import Batch
from progress_exhaust.settings import parse_settings
from progress_exhaust.sql.ledger import UNFINISHED_IN_OTHER_RUNS
from tests.faulty_way import saying, way_to
from tests.integration.install import Install

# A stage is known by its task id, in the ledger too.
STAGES = {
    FetchHierarchyOperator: Stage.FETCH_HIERARCHY,
    PackageOperator: Stage.PACKAGE,
    MarkCompleteOperator: Stage.MARK_COMPLETE,
}
SETTLES = UNFINISHED_IN_OTHER_RUNS.strip().splitlines()[0].encode()  # what settle_requests asks before it removes anything


@contextmanager
def before_it_is_settled(install: Install) -> Iterator[str]:
    """Run the DAG, and let the block look at it when all batches are done and the run is not; give its id."""
    uri = install.connections()["REQUESTS"]
    with way_to(urlsplit(uri).port or 5432) as way, ThreadPoolExecutor() as threads:
        through = {"REQUESTS": uri.replace(f":{urlsplit(uri).port}/", f":{way.port}/")}
        with way.held(saying(SETTLES)) as wait:
            run = threads.submit(install.run_dag, connections=through)
            wait()
            [found] = install.sql("SELECT DISTINCT run_id FROM progress_exhaust.batch_run")
            yield found["run_id"]
        assert (run.result().state, install.staged()) == ("success", [])


@pytest.fixture
def asked_twice(queue: Install, world: World) -> None:
    """Submit two requests for one batch, by two requesters of one org."""
    data, at = world.requests[0]["request_data"], world.requests[0]["dt_job_submitted"]
    queue.submit([request_row(data, label=f"label {one}", channel=ORG, by=one, at=at) for one in ("first", "second")])


def called(operator: Any, install: Install, run_id: str, monkeypatch: pytest.MonkeyPatch) -> tuple[Row, Any]:
    """Run a stage of the run's batch as another try of it would; return what it gives, and what it tells followers."""
    for name, value in install.environment().items():
        monkeypatch.setenv(name, value)
    site = Site(parse_settings(install.environment()["AIRFLOW_VAR_PROGRESS_EXHAUST"]), run_id, try_number=2)
    [batch] = [one.batch for one in site.requests().run_batches()]
    events: Any = defaultdict(SimpleNamespace)
    context: Any = {"dag_run": SimpleNamespace(run_after=datetime.now(UTC)), "outlet_events": events}
    return operator(task_id=STAGES[operator], batch=batch.to_dict()).work(context, site, RunParams()), events[REPORT]


def test_a_batch_that_is_done_leaves_nothing_in_staging_but_what_batches_share(
    queue: Install, asked: Row, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with before_it_is_settled(queue) as run_id:
        assert {path.name for path in (queue.staging / run_id).iterdir()} == {"_shared", asked["request_id"]}
        assert list((queue.staging / run_id / asked["request_id"]).iterdir()) == []
        row = queue.row(asked)
        # A retry of one that was killed after that has nothing to do.
        summary, event = called(MarkCompleteOperator, queue, run_id, monkeypatch)
        assert summary["counts"]["reported"] > 0
        assert (event.extra["key"], event.extra["again"]) == (next(iter(queue.published())), True)
        # Another stage of it says what it says after the run.
        for stage in (FetchHierarchyOperator, PackageOperator):
            with pytest.raises(SetupError, match=r"is gone from staging .* as it is once a batch is done"):
                called(stage, queue, run_id, monkeypatch)
        # It is done, whether its staging can be removed or not.
        monkeypatch.setattr(report_store, "remove_folder", _fails)
        called(MarkCompleteOperator, queue, run_id, monkeypatch)
        assert "its staging stays: the store is away" in capsys.readouterr().out
        assert queue.row(asked) == row
    assert queue.row(asked)["status"] == "SUCCESS"


def test_a_mark_that_a_late_try_comes_before_finds_its_package_all_the_same(
    queue: Install, asked: Row, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The late try marks, and removes the staging, between this one's look at the ledger and its own mark."""
    asks = RequestsHook.batch_run

    def before_the_late_try(requests: RequestsHook, batch: Batch) -> BatchRun:
        monkeypatch.setattr(RequestsHook, "batch_run", asks)
        package.unlink()
        made = asks(requests, batch)
        assert made is not None
        return replace(made, state=BatchState.RUNNING)

    with before_it_is_settled(queue) as run_id:
        [(key, file)] = queue.published().items()
        row = queue.row(asked)
        package = queue.staging / run_id / asked["request_id"] / key.split("/")[-1].partition("_")[0] / PACKAGE_FILE
        package.parent.mkdir()
        package.write_text(json.dumps({"key": key, "size_bytes": len(file)}))
        monkeypatch.setattr(RequestsHook, "batch_run", before_the_late_try)
        summary, _ = called(MarkCompleteOperator, queue, run_id, monkeypatch)
        assert summary["bytes"] == len(file)
        told = ("status", "processed_batches", "download_urls", "iteration", "err_message")
        assert [queue.row(asked)[name] for name in told] == [row[name] for name in told]


def _fails(_folder: object) -> None:
    raise SourceError("the store is away")


@pytest.mark.usefixtures("asked_twice")
def test_what_another_request_may_take_over_stays_until_the_run_is_settled(queue: Install) -> None:
    with before_it_is_settled(queue) as run_id:
        left = {path.parent.parent.name for path in (queue.staging / run_id).rglob("extract.json")}
        assert len(left) == 1
        assert len(queue.published()) == 2
    assert {row["status"] for row in queue.rows().values()} == {"SUCCESS"}

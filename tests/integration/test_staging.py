"""The staging of a batch is deleted when the batch is done: a long run does not keep every learner in clear until its end."""

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
from progress_exhaust.hooks.requests.ledger import Ledger
from progress_exhaust.hooks.requests.models import BatchRun, BatchState, Stage
from progress_exhaust.operators.fetch_hierarchy import FetchHierarchyOperator
from progress_exhaust.operators.mark_complete import REPORT, MarkCompleteOperator
from progress_exhaust.operators.package import PackageOperator
from progress_exhaust.report.request import Batch
from progress_exhaust.settings import parse_settings
from progress_exhaust.sql.ledger import UNFINISHED_IN_OTHER_RUNS
from progress_exhaust.stages.site_setup import RunParams, Site
from progress_exhaust.staging.manifests import PackageManifest
from tests.fault_proxy import proxy_to, saying
from tests.integration.install import Install

STAGES = {
    FetchHierarchyOperator: Stage.FETCH_HIERARCHY,
    PackageOperator: Stage.PACKAGE,
    MarkCompleteOperator: Stage.MARK_COMPLETE,
}
FIRST_OF_SETTLE = UNFINISHED_IN_OTHER_RUNS.strip().splitlines()[0].encode()  # asked before settle_requests deletes anything


@contextmanager
def before_it_is_settled(install: Install) -> Iterator[str]:
    """Run the DAG; the block runs when all batches are done and the run is not. Yield the run id."""
    uri = install.connections()["REQUESTS"]
    with proxy_to(urlsplit(uri).port or 5432) as proxy, ThreadPoolExecutor() as threads:
        through = {"REQUESTS": uri.replace(f":{urlsplit(uri).port}/", f":{proxy.port}/")}
        with proxy.held(saying(FIRST_OF_SETTLE)) as wait:
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


def run_again(operator: Any, install: Install, run_id: str, monkeypatch: pytest.MonkeyPatch) -> tuple[Row, Any]:
    """Run a stage of the run's batch as its second attempt would; return its result, and the asset event."""
    for name, value in install.environment().items():
        monkeypatch.setenv(name, value)
    settings = parse_settings(install.environment()["AIRFLOW_VAR_PROGRESS_EXHAUST"])
    site = Site(settings, run_id, task_attempt=2, installation=install.installation)
    [batch] = [one.batch for one in site.ledger().run_batches()]
    events: Any = defaultdict(SimpleNamespace)
    context: Any = {"dag_run": SimpleNamespace(run_after=datetime.now(UTC)), "outlet_events": events}
    task_id = f"batch.{STAGES[operator]}"
    return operator(task_id=task_id, batch=batch.to_dict()).run(context, site, RunParams()), events[REPORT]


def test_the_staging_of_a_finished_batch_is_deleted_except_what_batches_share(
    queue: Install, asked: Row, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with before_it_is_settled(queue) as run_id:
        [shared, of_request] = sorted(queue.run_staging(run_id).iterdir(), key=lambda path: path.name != "_shared")
        assert shared.name == "_shared" and of_request.name.endswith(f"-{asked['request_id']}")
        assert list(of_request.iterdir()) == []
        row = queue.row(asked)
        # A retry, after a kill, has nothing to do.
        summary, event = run_again(MarkCompleteOperator, queue, run_id, monkeypatch)
        assert summary["counts"]["reported"] > 0
        assert (event.extra["key"], event.extra["again"]) == (next(iter(queue.published())), True)
        for stage in (FetchHierarchyOperator, PackageOperator):
            with pytest.raises(SetupError, match=r"is missing from staging .* A batch that is done has no staging"):
                run_again(stage, queue, run_id, monkeypatch)
        # The batch is done, whether its staging can be deleted or not.
        monkeypatch.setattr(report_store, "delete_folder", _fails)
        run_again(MarkCompleteOperator, queue, run_id, monkeypatch)
        assert "its staging stays: the store does not answer" in capsys.readouterr().out
        assert queue.row(asked) == row
    assert queue.row(asked)["status"] == "SUCCESS"


def test_mark_complete_finds_its_package_although_an_older_attempt_deletes_it(
    queue: Install, asked: Row, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The older attempt marks the batch and deletes the staging after this one has read the ledger, before it marks the batch."""
    batch_run = Ledger.batch_run

    def before_the_older_attempt(ledger: Ledger, batch: Batch) -> BatchRun:
        monkeypatch.setattr(Ledger, "batch_run", batch_run)
        package.unlink()
        made = batch_run(ledger, batch)
        assert made is not None
        return replace(made, state=BatchState.RUNNING)

    with before_it_is_settled(queue) as run_id:
        [(key, file)] = queue.published().items()
        row = queue.row(asked)
        [of_request] = queue.run_staging(run_id).glob(f"*-{asked['request_id']}")
        package = of_request / key.split("/")[-1].partition("_")[0] / PackageManifest.FILE_NAME
        package.parent.mkdir()
        package.write_text(PackageManifest(key=key, size_bytes=len(file), level="PLAIN_DATASET").model_dump_json())
        monkeypatch.setattr(Ledger, "batch_run", before_the_older_attempt)
        summary, _ = run_again(MarkCompleteOperator, queue, run_id, monkeypatch)
        assert summary["bytes"] == len(file)
        columns = ("status", "processed_batches", "download_urls", "iteration", "err_message")
        assert [queue.row(asked)[name] for name in columns] == [row[name] for name in columns]


def _fails(_folder: object) -> None:
    raise SourceError("the store does not answer")


@pytest.mark.usefixtures("asked_twice")
def test_an_extract_that_other_requests_share_stays_until_the_run_is_settled(queue: Install) -> None:
    with before_it_is_settled(queue) as run_id:
        extracted = {path.parent.parent.name for path in queue.run_staging(run_id).rglob("extract.json")}
        assert len(extracted) == 1
        assert len(queue.published()) == 2
    assert {row["status"] for row in queue.rows().values()} == {"SUCCESS"}

"""settle_requests gives each request an outcome, whatever happens to another one, and leaves no file of a deleted one."""

from datetime import UTC, date, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from progress_exhaust.errors import ClaimLostError, SourceError
from progress_exhaust.hooks.report_store import ReportStoreHook
from progress_exhaust.hooks.requests.models import BatchRun, BatchState, ClaimOutcome, Ended, Stage
from progress_exhaust.hooks.requests.outcomes import Ending
from progress_exhaust.operators.settle_requests import SettleRequestsOperator
from progress_exhaust.settings import Settings


class FakeClaims:
    """Three requests that this run holds; ending some of them raises an error."""

    def __init__(self, errors: dict[str, Exception]) -> None:
        self.errors = errors
        self.ended: list[str] = []

    def held_without_duplicates(self) -> list[Any]:
        return [SimpleNamespace(key=("tag", one), request_id=one) for one in ("r1", "r2", "r3")]

    def settle(self, _tag: str, request_id: str, **_: bool) -> tuple[Ending, Ended]:
        if request_id in self.errors:
            raise self.errors[request_id]
        self.ended.append(request_id)
        return Ending(ClaimOutcome.FAILED, "broken"), Ended({ClaimOutcome.FAILED: 1})


@pytest.mark.parametrize("error", [ClaimLostError("held by another run"), SourceError("Postgres does not answer")])
def test_an_error_of_one_request_leaves_none_of_the_others_unsettled(error: Exception) -> None:
    claims: Any = FakeClaims({"r1": error})
    site: Any = SimpleNamespace(claims=lambda: claims)
    assert SettleRequestsOperator(task_id="settle_requests")._settle(site) == [error]
    assert claims.ended == ["r2", "r3"]


@pytest.mark.parametrize("other_row", [False, True])
def test_a_package_whose_request_was_deleted_before_the_batch_was_complete_is_deleted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, other_row: bool
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_PROGRESS_EXHAUST_STORE", "file://")
    store = ReportStoreHook(container_url=(tmp_path / "reports").as_uri(), staging_url=(tmp_path / "staging").as_uri())
    run = BatchRun("tag", "r1", "b1", "do_1", "org", Stage.PACKAGE, BatchState.RUNNING, {}, {}, 3, None, None, permanent=False)
    package = tmp_path / "reports" / run.batch.object_key(date(2022, 9, 28))
    package.parent.mkdir(parents=True)
    package.write_bytes(b"zip")
    site: Any = SimpleNamespace(
        settings=Settings(),
        releases=lambda: SimpleNamespace(release_deleted=lambda: [("tag", "r1")]),
        claims=lambda: SimpleNamespace(request_id_exists=lambda _: other_row),
        store=lambda: store,
    )
    context: Any = {"dag_run": SimpleNamespace(run_after=datetime(2022, 9, 28, 8, tzinfo=UTC))}
    SettleRequestsOperator(task_id="settle_requests")._release_deleted(context, site, [run])
    assert package.exists() is other_row

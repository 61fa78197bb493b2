"""settle_requests gives each request an outcome, whatever happens to another one."""

from collections import Counter
from types import SimpleNamespace
from typing import Any

import pytest

from progress_exhaust.errors import ClaimLostError, SourceError
from progress_exhaust.hooks.requests.models import BatchRun, BatchState, Stage
from progress_exhaust.operators.settle_requests import SettleRequestsOperator


class FakeClaims:
    """Three requests that this run holds; ending some of them raises an error."""

    def __init__(self, errors: dict[str, Exception]) -> None:
        self.errors = errors
        self.ended: dict[str, str] = {}

    def held_without_duplicates(self) -> list[Any]:
        return [SimpleNamespace(key=("tag", one), request_id=one) for one in ("r1", "r2", "r3")]

    def fail(self, _tag: str, request_id: str, _message: str) -> Counter[Any]:
        return self._end(request_id, "FAILED")

    def requeue(self, _tag: str, request_id: str) -> Counter[Any]:
        return self._end(request_id, "SUBMITTED")

    def _end(self, request_id: str, outcome: str) -> Counter[Any]:
        if request_id in self.errors:
            raise self.errors[request_id]
        self.ended[request_id] = outcome
        return Counter()


@pytest.mark.parametrize("error", [ClaimLostError("held by another run"), SourceError("Postgres does not answer")])
def test_an_error_of_one_request_leaves_none_of_the_others_unsettled(error: Exception) -> None:
    claims: Any = FakeClaims({"r1": error})
    site: Any = SimpleNamespace(claims=lambda: claims, releases=lambda: SimpleNamespace(release_deleted=list))
    failed = BatchRun("tag", "r2", "b", "do", "org", Stage.PIVOT, BatchState.FAILED, {}, {}, None, None, "broken")
    assert SettleRequestsOperator(task_id="settle_requests")._settle(site, [failed]) == [error]
    assert claims.ended == {"r2": "FAILED", "r3": "SUBMITTED"}

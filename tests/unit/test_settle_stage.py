"""settle_requests gives each request an outcome, whatever happens to another one."""

from types import SimpleNamespace
from typing import Any

import pytest

from progress_exhaust.errors import ClaimLostError, SourceError
from progress_exhaust.hooks.requests.models import ClaimOutcome, Ended
from progress_exhaust.hooks.requests.outcomes import Ending
from progress_exhaust.operators.settle_requests import SettleRequestsOperator


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

"""What becomes of a read that a coordinator could not answer. The policy gets the same values as from the driver."""

from typing import Any

import pytest
from cassandra import ConsistencyLevel, OperationTimedOut
from cassandra.cluster import NoHostAvailable
from cassandra.policies import RetryPolicy

from progress_exhaust.hooks.cassandra.cluster import NextCoordinatorPolicy
from progress_exhaust.hooks.cassandra.driver_errors import describe_error

NEXT, GIVEN_UP = (RetryPolicy.RETRY_NEXT_HOST, None), (RetryPolicy.RETHROW, None)
AT = {"consistency": ConsistencyLevel.LOCAL_QUORUM}


@pytest.mark.parametrize(("retry_num", "answer"), [(0, NEXT), (1, NEXT), (2, GIVEN_UP), (3, GIVEN_UP)])
@pytest.mark.parametrize(
    ("kind", "values"),
    [
        ("read_timeout", {"required_responses": 2, "received_responses": 1, "data_retrieved": True}),
        # The driver's own policy would ask the same coordinator again, once.
        ("read_timeout", {"required_responses": 2, "received_responses": 2, "data_retrieved": False}),
        ("unavailable", {"required_replicas": 2, "alive_replicas": 1}),
    ],
)
def test_three_coordinators_are_asked_for_what_the_replicas_do_not_answer(
    kind: str, values: dict[str, Any], retry_num: int, answer: tuple[int, None]
) -> None:
    """At the same consistency each time: a report is not made of what one replica happens to have."""
    assert getattr(NextCoordinatorPolicy(), f"on_{kind}")(object(), **AT, **values, retry_num=retry_num) == answer


@pytest.mark.parametrize("retry_num", [0, 2, 10])
def test_a_coordinator_that_breaks_off_costs_none_of_these_tries(retry_num: int) -> None:
    """The driver ends it, when it has asked every node."""
    assert NextCoordinatorPolicy().on_request_error(object(), **AT, error=ConnectionError(), retry_num=retry_num) == NEXT


def test_nodes_that_do_not_answer_are_described() -> None:
    refused = {"10.0.0.1:9042": ConnectionRefusedError(111, "Connection refused"), "10.0.0.2:9042": OperationTimedOut()}
    described = describe_error(NoHostAvailable("Unable to complete the operation against any hosts", refused))
    assert described == "10.0.0.1:9042: [Errno 111] Connection refused; 10.0.0.2:9042: no answer in time"
    none = describe_error(NoHostAvailable("Unable to complete the operation against any hosts", {}))
    assert none == "all connections to its nodes are closed"

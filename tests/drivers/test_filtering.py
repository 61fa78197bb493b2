"""Queries that the server filters: which errors make the hook read the whole table instead. The cluster is a stand-in."""

import logging
from collections.abc import Iterable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from cassandra import InvalidRequest, OperationTimedOut, ReadFailure, ReadTimeout
from cassandra.cluster import NoHostAvailable
from cassandra.protocol import OverloadedErrorMessage

from progress_exhaust.errors import SourceError
from progress_exhaust.hooks.cassandra.driver_errors import QueryTimedOutError, translate_driver_errors
from progress_exhaust.hooks.cassandra.models import Table
from progress_exhaust.hooks.cassandra.refusals import Query
from progress_exhaust.hooks.cassandra.tables import LearnerTablesHook
from progress_exhaust.sql import learner_tables as cql

REFUSED = InvalidRequest("Guardrail allow_filtering violated: Querying with ALLOW FILTERING is not allowed")
UNKNOWN = InvalidRequest("IN restrictions are not supported on indexed columns")  # Cassandra 4.0 says this, without an index
OLDER = InvalidRequest("Cannot restrict clustering columns by IN relations when a collection is selected by the query")  # 3.11
OVERLOADED = NoHostAvailable("x", {"a": OverloadedErrorMessage(0x1001, "replica filtering protection", {})})
COLUMNS = cql.ENROLMENT_COLUMNS | cql.BATCH_COLUMNS


class Cluster:
    """Answers each query that needs no filter with the same row, and each other one with an error, if there is one."""

    log, name = logging.getLogger(__name__), "C"

    def __init__(self, row: tuple[Any, ...]) -> None:
        self._row = row
        self.error: Exception | None = None
        self.tables_without_filter: set[str] = set()
        self.sent: list[str] = []  # whether each query is filtered

    def find_table(self, _table: str) -> Any:
        return SimpleNamespace(columns={name: SimpleNamespace(cql_type=cql_type) for name, cql_type in COLUMNS.items()})

    def check_partitioner(self) -> None:
        """Every token is one of a scan."""

    def is_before_version_4(self) -> bool:
        return False

    def prepare(self, query: str) -> Any:
        return SimpleNamespace(bind=lambda _values: query)

    def rows(self, queries: Iterable[Query], _in_flight: int, _subject: str) -> Iterator[tuple[Any, ...]]:
        with translate_driver_errors(self.name, "ONE"):
            for query in queries:
                is_filtered = "ALLOW FILTERING" in str(query.bind(()))
                self.sent.append("filtered" if is_filtered else "all")
                if is_filtered and self.error:
                    raise self.error
                yield self._row


class Read:
    """A hook whose tables are in the stand-in."""

    def __init__(self, row: tuple[Any, ...]) -> None:
        self.cluster, place = Cluster(row), ("c", "k.t")
        self.hook = LearnerTablesHook(
            enrolments=place, courses=("c", "k"), hierarchies=place,
            consistency="ONE", keys_per_read=1, reads_in_flight=1, timeout_seconds=1,
        )  # fmt: skip
        self.hook._clusters["c"] = self.cluster  # type: ignore[assignment]

    def enrolments(self, error: Exception | None) -> list[str]:
        """Return which queries one scan sends."""
        self.cluster.error, self.cluster.sent = error, []
        assert len(list(self.hook.scan(Table.ENROLMENTS, [(0, 1)], ["01"]))) == 1
        return self.cluster.sent

    def indexed(self, error: Exception | None) -> list[str]:
        """Return which queries a read by the index of two batches of a course sends."""
        self.cluster.error, self.cluster.sent = error, []
        assert list(self.hook.indexed_enrolments([("do_1", "01"), ("do_1", "02")]))
        return self.cluster.sent

    def batches(self, error: Exception | None) -> list[str]:
        self.cluster.error, self.cluster.sent = error, []
        assert list(self.hook.batches(["01"])) == [("do_1", "01", "Name")]
        return self.cluster.sent


@pytest.fixture
def enrolments() -> Read:
    return Read(("user", *[None] * 8, "01", "do_1"))


@pytest.fixture
def batches() -> Read:
    return Read(("do_1", "01", "Name"))


@pytest.mark.parametrize("timeout", [ReadTimeout("x"), OperationTimedOut()])
def test_a_slow_cluster_does_not_have_to_send_all_enrolments(enrolments: Read, timeout: Exception) -> None:
    with pytest.raises(QueryTimedOutError):
        enrolments.enrolments(timeout)
    assert enrolments.cluster.sent == ["filtered"]
    assert issubclass(QueryTimedOutError, SourceError)  # the task is retried
    assert enrolments.enrolments(None) == ["filtered"]


@pytest.mark.parametrize("error", [REFUSED, UNKNOWN, OLDER])
def test_a_filter_that_the_server_refuses_is_asked_for_once(enrolments: Read, error: Exception) -> None:
    assert enrolments.enrolments(error) == ["filtered", "all"]
    assert enrolments.enrolments(None) == ["all"]


def test_a_filter_by_the_index_that_the_server_refuses_is_asked_for_once(enrolments: Read) -> None:
    assert enrolments.indexed(None) == ["filtered"] * 2  # for each batch
    assert enrolments.indexed(REFUSED) == ["filtered", "all"]  # for the course
    assert enrolments.indexed(None) == ["all"]


@pytest.mark.parametrize("error", [ReadFailure("x"), OVERLOADED, ReadTimeout("x")])
def test_a_read_by_the_index_that_failed_does_not_read_the_whole_course(enrolments: Read, error: Exception) -> None:
    with pytest.raises(SourceError):
        enrolments.indexed(error)
    assert enrolments.cluster.sent == ["filtered"]


@pytest.mark.parametrize("error", [ReadFailure("x"), OVERLOADED])
def test_a_filter_that_failed_is_asked_for_again(enrolments: Read, error: Exception) -> None:
    assert enrolments.enrolments(error) == ["filtered", "all"]
    assert enrolments.enrolments(None) == ["filtered"]


@pytest.mark.parametrize("error", [ReadTimeout("x"), OperationTimedOut(), ReadFailure("x"), REFUSED, OVERLOADED])
def test_the_small_table_of_batches_is_read_whole_after_each_of_these_errors(batches: Read, error: Exception) -> None:
    assert batches.batches(error) == ["filtered", "all"]

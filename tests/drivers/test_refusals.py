"""What a strict server answers, and what is asked next."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk import ObjectStoragePath
from cassandra import InvalidRequest, OperationTimedOut, ReadFailure, ReadTimeout
from cassandra.cluster import NoHostAvailable
from cassandra.protocol import OverloadedErrorMessage

from progress_exhaust.errors import SetupError, SourceError
from progress_exhaust.extract import shared_scan
from progress_exhaust.hooks.cassandra.driver_errors import (
    TOO_MUCH,
    QueryRefusedError,
    QueryTimedOutError,
    translate_driver_errors,
)
from progress_exhaust.hooks.cassandra.models import Table
from progress_exhaust.hooks.cassandra.optional_columns import missing_columns, select_existing
from progress_exhaust.hooks.cassandra.refusals import (
    Query,
    fewer_keys,
    fewer_rows,
    fewer_rows_for_one_read,
    has_too_many_tombstones,
)
from progress_exhaust.sql import learner_tables as cql


def guardrail(text: str) -> InvalidRequest:
    return InvalidRequest(f'Error from server: code=2200 [Invalid query] message="Guardrail {text}"')


KEYS = guardrail("partition_keys_in_select violated: Query … with number of partition keys 100 exceeds fail threshold of 20.")
PRODUCT = guardrail("in_select_cartesian_product violated: The cartesian product of the IN restrictions is too large")
ROWS = guardrail("page_size violated: Query for table x with page size 1000 exceeds failure threshold of 512.")
FILTER = guardrail("allow_filtering violated: Querying with ALLOW FILTERING is not allowed")


@pytest.mark.parametrize(
    ("error", "keys", "rows"),
    [
        (KEYS, 20, None),
        (PRODUCT, 50, None),
        (ROWS, None, 512),
        (FILTER, None, None),
        (InvalidRequest("partition_keys_in_select is a word of another error: threshold of 20"), None, None),
        (ReadFailure("threshold of 20"), None, None),
    ],
)
def test_the_size_that_was_refused_is_lowered(error: Exception, keys: int | None, rows: int | None) -> None:
    assert (fewer_keys(error, 100), fewer_rows(error, 1000)) == (keys, rows)
    assert fewer_keys(error, 1) is fewer_rows(error, 1) is None


def test_a_threshold_that_does_not_help_is_halved() -> None:
    assert fewer_keys(KEYS, 20) == 10  # the number of keys is counted otherwise than we count it


def test_a_failed_read_is_sent_again_with_ever_smaller_pages() -> None:
    sizes = [1000]
    while (size := fewer_rows_for_one_read(ReadFailure("x"), sizes[-1])) is not None:
        sizes.append(size)
    assert sizes == [1000, 100, 10]
    assert fewer_rows_for_one_read(ROWS, 1000) is None


@pytest.mark.parametrize(
    ("failure", "tombstones"),
    [
        (ReadFailure("received 0 responses and 1 failures: READ_TOO_MANY_TOMBSTONES from /127.0.0.1:7000"), True),
        (ReadFailure("Replica(s) failed to execute read", error_code_map={"127.0.0.1": 1}), True),
        (ReadFailure("Replica(s) failed to execute read", error_code_map={"127.0.0.1": 0}), False),
        (ReadFailure("Replica(s) failed to execute read"), False),  # Cassandra 3.11
    ],
)
def test_tombstones_are_an_error_that_an_engineer_fixes(failure: ReadFailure, tombstones: bool) -> None:
    assert has_too_many_tombstones(failure) is tombstones
    with (
        pytest.raises(SetupError if tombstones else SourceError) as error,
        translate_driver_errors("C", "ONE", "table t, batch b"),
    ):
        raise failure
    for words in ("C: table t, batch b", "tombstones", "gc_grace_seconds", "tombstone_failure_threshold"):
        assert words in str(error.value)


@pytest.mark.parametrize(
    ("error", "too_much"),
    [
        (FILTER, True),
        (ReadFailure("x"), True),
        (ReadTimeout("x"), True),
        (OperationTimedOut(), True),
        (NoHostAvailable("x", {"a": OverloadedErrorMessage(0x1001, "replica filtering protection", {})}), True),
        (OverloadedErrorMessage(0x1001, "x", {}), True),
        (NoHostAvailable("x", {"a": ConnectionRefusedError()}), False),
        (NoHostAvailable("x", {}), False),
        (InvalidRequest("unconfigured table"), False),
    ],
)
def test_only_what_another_query_may_avoid_is_too_much(error: Exception, too_much: bool) -> None:
    with pytest.raises((SetupError, SourceError)) as raised, translate_driver_errors("C", "ONE"):
        raise error
    assert isinstance(raised.value, TOO_MUCH) is too_much


@pytest.mark.parametrize("kind", [QueryTimedOutError, QueryRefusedError])
def test_a_read_by_the_index_that_is_too_much_names_the_other_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: type[SetupError | SourceError]
) -> None:
    def too_much(*_: object) -> None:
        raise kind("C does not answer")

    monkeypatch.setattr(shared_scan, "read_by_index", too_much)
    store = SimpleNamespace(scans_folder=lambda *_: ObjectStoragePath(tmp_path.as_uri()))
    context: Any = SimpleNamespace(site=SimpleNamespace(store=lambda: store, run_id="run"))
    hook: Any = None
    decision = shared_scan.ScanDecision(scan=True, by_index=True, reason="")
    with pytest.raises(kind, match=r"C does not answer\. Set read_strategy to scan in the Variable progress_exhaust"):
        shared_scan._carry_out(context, hook, Table.ENROLMENTS, [("do_1", "01")], decision, (0.0, 0.5))
    assert not list(tmp_path.glob("*.json"))


def test_a_query_is_cut_into_queries_for_all_of_its_keys() -> None:
    bound: list[Any] = []
    query = Query(bound.append, [str(number) for number in range(7)])
    for part in query.cut(3):
        part.bind(part.keys)
    assert bound == [["0", "1", "2"], ["3", "4", "5"], ["6"]]
    assert list(Query(bound.append).cut(3)) == [Query(bound.append)]


SELECTS = [
    cql.ENROLMENTS_OF_BATCH, cql.ENROLMENTS_IN_ASCENDING_ORDER, cql.SCAN_ENROLMENTS, cql.SCAN_ALL_ENROLMENTS,
    cql.NESTED_PROGRESS, cql.SCAN_NESTED_PROGRESS, cql.ARCHIVED_SCORES, cql.ATTEMPTS, cql.SCAN_ATTEMPTS,
]  # fmt: skip


@pytest.mark.parametrize("query", SELECTS)
def test_a_column_that_is_missing_is_neither_asked_for_nor_shifts_the_others(query: str) -> None:
    sent: list[Any] = []
    complete = select_existing(query, None, lambda text: sent.append(text) or text, lambda: False)
    assert sent == [query] and list(complete.complete([(1, 2)])) == [(1, 2)]
    names = sent[0].partition("SELECT ")[2].partition("FROM")[0].replace("toUnixTimestamp(", "").replace(")", "").split(",")
    names = [name.strip().partition("[")[0] for name in names]
    there = set(names) - cql.OPTIONAL_COLUMNS
    select = select_existing(query, there, lambda text: sent.append(text) or text, lambda: False)
    head, _, rest = sent[1].partition("FROM")
    assert not any(name in head for name in cql.OPTIONAL_COLUMNS)
    assert rest == query.partition("FROM")[2]
    row = tuple(name for name in names if name in there)
    assert list(select.complete([row])) == [tuple(name if name in there else None for name in names)]


@pytest.mark.parametrize("is_before_version_4", [True, False])
def test_a_server_that_selects_no_elements_sends_whole_maps(is_before_version_4: bool) -> None:
    sent: list[Any] = []

    def prepare(text: str) -> Any:
        sent.append(text)
        if "[" in text:
            raise SetupError("line 1:24 no viable alternative at input '['")

    select = select_existing(cql.NESTED_PROGRESS, {"user_id", "agg", "aggregates"}, prepare, lambda: is_before_version_4)
    assert len(sent) == (1 if is_before_version_4 else 2)
    assert "SELECT user_id, activity_id, aggregates, agg " in sent[-1]
    rows = [("u", "n", {"completedCount": 2.0, "score:x": 1.0}, None), ("v", "n", {"score:x": 1.0}, {"completedCount": 3})]
    assert list(select.complete(rows)) == [("u", "n", 2.0, None), ("v", "n", None, 3)]
    without_newer = select_existing(cql.NESTED_PROGRESS, {"user_id", "agg"}, prepare, lambda: is_before_version_4)
    assert list(without_newer.complete([("u", "n", {"completedCount": 4})])) == [("u", "n", None, 4)]


def test_another_refusal_of_a_query_is_an_error() -> None:
    def prepare(_text: str) -> Any:
        raise SetupError("no rights")

    for query in (cql.ATTEMPTS, cql.NESTED_PROGRESS):
        with pytest.raises(SetupError, match="no rights"):
            select_existing(query, None, prepare, lambda: False)


def test_one_of_two_columns_is_enough() -> None:
    everything = set(cql.ENROLMENT_COLUMNS)
    assert missing_columns(cql.ENROLMENT_COLUMNS, everything) == ([], [])
    assert missing_columns(cql.ENROLMENT_COLUMNS, everything - {"certificates", "certstatus"}) == (
        [], ["certificates", "certstatus"],
    )  # fmt: skip
    both = {"certificates", "issued_certificates"}
    assert missing_columns(cql.ENROLMENT_COLUMNS, everything - both) == (["certificates", "issued_certificates"], [])
    assert missing_columns(cql.ENROLMENT_COLUMNS, everything - {"active"}) == (["active"], [])

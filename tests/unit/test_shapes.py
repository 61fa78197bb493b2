"""Which shape a table has, by the metadata of the cluster."""

from types import SimpleNamespace
from typing import Any

import pytest

from progress_exhaust.errors import SetupError
from progress_exhaust.hooks.cassandra.models import Table
from progress_exhaust.hooks.cassandra.shapes import KeyedBy, is_in_descending_order, shape_of


def metadata(partition: str, clustering: str = "", *targets: str, is_reversed: bool = False) -> Any:
    """Return a table as the driver describes it.

    targets: what system_schema.indexes says of each index
    """
    columns = ([SimpleNamespace(name=name, is_reversed=is_reversed) for name in key.split()] for key in (partition, clustering))
    indexes = {str(number): SimpleNamespace(index_options={"target": target}) for number, target in enumerate(targets)}
    return SimpleNamespace(**dict(zip(("partition_key", "clustering_key"), columns, strict=True)), indexes=indexes)


def keyed_by(table: Table, found: Any) -> KeyedBy:
    return shape_of(table, found, "table k.t", "enrolments_table").keyed_by


BY_COURSE = ("courseid", '"courseid"', "courseid, userid, batchid")  # of Cassandra, and of YugabyteDB
NOT_BY_COURSE = ("batchid", "(courseid, batchid), userid", "values(courseid)", "status, courseid")


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (metadata("batchid", "courseid userid"), KeyedBy.BATCH),
        (metadata("batchid courseid", "userid"), KeyedBy.BATCH),
        (metadata("batchid", "courseid userid", "courseid"), KeyedBy.BATCH),
        (metadata("userid", "courseid batchid"), KeyedBy.LEARNER),
        (metadata("userid", "courseid batchid", *NOT_BY_COURSE), KeyedBy.LEARNER),
        *((metadata("userid", "courseid batchid", "status", target), KeyedBy.LEARNER_INDEXED) for target in BY_COURSE),
    ],
)
@pytest.mark.parametrize("is_reversed", [False, True])
def test_enrolments(found: Any, expected: KeyedBy, is_reversed: bool) -> None:
    for column in found.clustering_key:
        column.is_reversed = is_reversed
    assert keyed_by(Table.ENROLMENTS, found) is expected
    if expected is KeyedBy.BATCH:
        assert is_in_descending_order(found) is is_reversed


@pytest.mark.parametrize(
    ("found", "expected", "columns"),
    [
        (metadata("user_id course_id", "batch_id content_id attempt_id"), KeyedBy.LEARNER, {"course_id", "batch_id"}),
        (metadata("course_id", "batch_id user_id content_id attempt_id"), KeyedBy.BATCH, {"course_id", "batch_id"}),
        (metadata("collection_id", "context_id user_id content_id"), KeyedBy.BATCH, {"collection_id", "context_id"}),
    ],
)
def test_attempts(found: Any, expected: KeyedBy, columns: set[str]) -> None:
    shape = shape_of(Table.ATTEMPTS, found, "table k.t", "courses_keyspace")
    assert shape.keyed_by is expected
    ids = {"course_id", "batch_id", "collection_id", "context_id"}
    assert shape.columns(Table.ATTEMPTS).keys() & ids == columns


@pytest.mark.parametrize(
    ("table", "found", "key"),
    [
        (Table.ENROLMENTS, metadata("batchid", "userid courseid"), "(batchid, userid, courseid)"),
        (Table.ENROLMENTS, metadata("courseid", "batchid userid"), "(courseid, batchid, userid)"),
        (Table.ENROLMENTS, metadata("batchid courseid userid"), "((batchid, courseid, userid))"),
        (Table.ATTEMPTS, metadata("user_id", "course_id batch_id"), "(user_id, course_id, batch_id)"),
        (Table.ATTEMPTS, metadata("course_id user_id", "batch_id"), "((course_id, user_id), batch_id)"),
        (Table.ATTEMPTS, metadata("collection_id", "batch_id user_id"), "(collection_id, batch_id, user_id)"),
        (Table.AGGREGATES, metadata("user_id", "activity_id"), "(user_id, activity_id)"),
    ],
)
def test_an_unknown_shape_names_what_was_found_and_what_is_supported(table: Table, found: Any, key: str) -> None:
    with pytest.raises(SetupError) as error:
        shape_of(table, found, "C: table k.t", "the_setting")
    text = str(error.value)
    assert text.startswith(f"C: table k.t has the key {key}, which the report cannot read")
    assert "Set the_setting in the Variable" in text
    supported = {
        Table.ENROLMENTS: "(batchid, courseid, userid, …); ((batchid, courseid), userid, …); "
        "(userid, …) with an index on courseid; (userid, …). ",
        Table.ATTEMPTS: "((user_id, course_id), batch_id, …); (course_id, batch_id, user_id, …); (collection_id, context_id, ",
        Table.AGGREGATES: "((activity_type, activity_id, user_id), context_id, …). ",
    }
    assert f"It can read these keys: {supported[table]}" in text

"""The Arrow schemas of what is extracted, and how rows become a table."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

import pyarrow as pa

from progress_exhaust.hooks.cassandra.models import Row, Table

ROWS_AT_ONCE = 5_000  # that become a part of a table, so that few rows are in memory as Python objects

# Arrow's own pools keep some 50 MB more than they use, and are not faster here.
pa.set_memory_pool(pa.system_memory_pool())

# Rows of a scan of the enrolments: the fields of an Enrolment.
ENROLMENT = pa.schema(
    [
        ("user_id", pa.string()),
        ("active", pa.bool_()),
        ("enrolled_at", pa.int64()),
        ("enrolled_text", pa.string()),
        ("completed_at", pa.int64()),
        ("content_statuses", pa.binary()),
        ("certificates", pa.binary()),
        ("issued_certificates", pa.binary()),
        ("certificate_status", pa.int64()),
    ]
)
# An enrolled chunk: the enrolments of learners who are enrolled. Times are in milliseconds since 1970.
ENROLLED = pa.schema(
    [
        ("user_id", pa.string()),
        ("active", pa.bool_()),
        ("enrolled_at", pa.int64()),
        ("enrolled_text", pa.string()),  # if enrolled_at is null
        ("completed_at", pa.int64()),
        ("completed_contents", pa.int32()),
        ("removed_contents", pa.int32()),  # completed ones that are no longer in the tree
        ("completed_assessments", pa.int32()),  # by the statuses of the contents
        ("has_certificate", pa.bool_()),
        ("certificate_status", pa.int64()),
    ]
)
# A facts chunk is an enrolled chunk with `user.<field>` of the user cache, and a list of each of the next two per learner.
NESTED_PROGRESS = pa.schema([("user_id", pa.string()), ("id", pa.string()), ("completed", pa.float64())])
# Rows of the aggregates: completedCount, from the newer column and from the older one.
AGGREGATES = pa.schema([("user_id", pa.string()), ("id", pa.string()), ("aggregates", pa.float64()), ("agg", pa.float64())])
ATTEMPTS = pa.schema(
    [
        ("user_id", pa.string()),
        ("content_id", pa.string()),
        ("attempt_id", pa.string()),
        ("total_score", pa.float64()),
        ("grand_total", pa.string()),
        ("attempted_at", pa.int64()),
        ("total_max_score", pa.float64()),
    ]
)
# The attempts in a facts chunk. A row with `archived_attempts` stands for so many attempts that were archived.
FACTS_OF_ATTEMPTS = ATTEMPTS.append(pa.field("archived_attempts", pa.int64()))
# The best scores that the aggregates of the batch's own collection have.
ARCHIVED_SCORES = pa.schema(
    [
        ("user_id", pa.string()),
        ("content_id", pa.string()),
        ("score", pa.float64()),
        ("max_score", pa.float64()),
        ("attempts", pa.int64()),
    ]
)

COUNTS = b"counts"  # key of a chunk file's metadata: the counts as JSON

SCHEMA_OF = {Table.ENROLMENTS: ENROLMENT, Table.AGGREGATES: NESTED_PROGRESS, Table.ATTEMPTS: ATTEMPTS}

# Rows of a scan: those of several batches.
COLLECTION_ID, BATCH_ID = pa.field("collection_id", pa.string()), pa.field("batch_id", pa.string())
SCANNED = {
    Table.ENROLMENTS: ENROLMENT.append(COLLECTION_ID).append(BATCH_ID),
    Table.AGGREGATES: AGGREGATES.append(pa.field("context_id", pa.string())),
    Table.ATTEMPTS: ATTEMPTS.append(COLLECTION_ID).append(BATCH_ID),
}


def rows_to_table(rows: Iterable[Row], schema: pa.Schema) -> pa.Table:
    """Return rows as a table."""
    return pa.concat_tables([schema.empty_table(), *rows_to_tables(rows, schema)])


def rows_to_tables(rows: Iterable[Row], schema: pa.Schema) -> Iterator[pa.Table]:
    """Yield rows as tables of at most ROWS_AT_ONCE rows."""
    remaining = iter(rows)
    while part := list(islice(remaining, ROWS_AT_ONCE)):
        columns = zip(*part, strict=True)
        yield pa.table([_array(column, field.type) for column, field in zip(columns, schema, strict=True)], schema=schema)


def _array(values: Sequence[Any], kind: pa.DataType) -> pa.Array:
    try:
        return pa.array(values, kind)
    except pa.ArrowInvalid:
        if not pa.types.is_float64(kind):
            raise
        return pa.array([None if value is None else float(value) for value in values], kind)  # a whole number above 2^53

"""The shapes that a table of learners can have: by which columns it is keyed, and what they are called.

Sunbird Ed has these tables on Cassandra. Sunbird Spark has them on YugabyteDB or Cassandra, with other keys and names. The
metadata of the cluster decides which shape a table has, not the version of Sunbird.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from progress_exhaust.errors import SetupError
from progress_exhaust.hooks.cassandra.models import Table
from progress_exhaust.sql import learner_tables as cql


class KeyedBy(StrEnum):
    """How the rows of a batch are found."""

    BATCH = "batch"  # one read of a part of the table, in the order of the learners
    LEARNER = "user"  # reads of the learners' partitions, or a scan of the table
    LEARNER_INDEXED = "user, with an index on the course"  # one read by the index, in no order


@dataclass(frozen=True)
class Shape:
    """A shape that the report can read.

    :param partition: the partition key
    :param clustering: the clustering columns that must come first, ascending or descending
    :param index: the column that must have an index
    :param names: the columns that this shape calls otherwise than `sql.learner_tables`, and their names
    """

    keyed_by: KeyedBy
    partition: tuple[str, ...]
    clustering: tuple[str, ...] = ()
    index: str | None = None
    names: Mapping[str, str] = field(default_factory=dict)

    def fits(self, found: Any) -> bool:
        """Return whether a table has this shape.

        :param found: the driver's metadata of the table
        """
        partition, clustering = _key(found)
        return (
            partition == self.partition
            and clustering[: len(self.clustering)] == self.clustering
            and (self.index is None or self.index in _indexed_columns(found))
        )

    def columns(self, table: Table) -> dict[str, str]:
        """Return the columns that are read, with their types, as this shape calls them."""
        return {self.names.get(name, name): cql_type for name, cql_type in COLUMNS[table].items()}


COLUMNS = {
    Table.ENROLMENTS: cql.ENROLMENT_COLUMNS,
    Table.AGGREGATES: cql.AGGREGATE_COLUMNS,
    Table.ATTEMPTS: cql.ATTEMPT_COLUMNS,
}
# The first shape that fits is taken.
SHAPES = {
    Table.ENROLMENTS: (
        Shape(KeyedBy.BATCH, ("batchid",), ("courseid", "userid")),
        Shape(KeyedBy.BATCH, ("batchid", "courseid"), ("userid",)),
        Shape(KeyedBy.LEARNER_INDEXED, ("userid",), index="courseid"),
        Shape(KeyedBy.LEARNER, ("userid",)),
    ),
    Table.AGGREGATES: (Shape(KeyedBy.LEARNER, ("activity_type", "activity_id", "user_id"), ("context_id",)),),
    Table.ATTEMPTS: (
        Shape(KeyedBy.LEARNER, ("user_id", "course_id"), ("batch_id",)),
        Shape(KeyedBy.BATCH, ("course_id",), ("batch_id", "user_id")),
        Shape(
            KeyedBy.BATCH,
            ("collection_id",),
            ("context_id", "user_id"),
            names={"course_id": "collection_id", "batch_id": "context_id"},
        ),
    ),
}


def shape_of(table: Table, found: Any, name: str, setting: str) -> Shape:
    """Return the shape that a table has; raise SetupError if it has none of those that can be read.

    :param found: the driver's metadata of the table
    :param name: names the cluster and the table in the message
    :param setting: the setting that names the table or its keyspace
    """
    for shape in SHAPES[table]:
        if shape.fits(found):
            return shape
    supported = "; ".join(
        _describe(shape.partition, (*shape.clustering, "…")) + (f" with an index on {shape.index}" if shape.index else "")
        for shape in SHAPES[table]
    )
    raise SetupError(
        f"{name} has the key {_describe(*_key(found))}, which the report cannot read. It can read these keys: {supported}. "
        f"Set {setting} in the Variable progress_exhaust to the right name, or install a version of this package that reads it"
    )


def is_in_descending_order(found: Any) -> bool:
    """Return whether the learners of a batch are stored in descending order, in a table of enrolments keyed by batch."""
    return any(column.name == "userid" and column.is_reversed for column in found.clustering_key)


def _key(found: Any) -> tuple[tuple[str, ...], tuple[str, ...]]:
    return tuple(column.name for column in found.partition_key), tuple(column.name for column in found.clustering_key)


def _indexed_columns(found: Any) -> set[str]:
    """Return the columns by whose value alone an index finds rows.

    YugabyteDB lists all columns of an index. Those of its hash come first, in parentheses if they are several.
    """
    targets = (index.index_options.get("target", "") for index in found.indexes.values())
    return {target.split(",")[0].strip(' "') for target in targets}


def _describe(partition: tuple[str, ...], clustering: tuple[str, ...]) -> str:
    """Return a key as CQL writes it."""
    first = f"({', '.join(partition)})" if len(partition) > 1 else ", ".join(partition)
    return f"({', '.join((first, *clustering))})"

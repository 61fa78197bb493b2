"""From rows of the tables to the facts that the report uses, without a look at each row."""

from collections import defaultdict
from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc

from progress_exhaust.extract.schemas import NESTED_PROGRESS, SCHEMA_OF
from progress_exhaust.hooks.cassandra.models import BatchKey, Table, context_id


def nested_progress(aggregates: pa.Table) -> pa.Table:
    """Return NESTED_PROGRESS: completedCount from the newer column, else from the older one. Skip rows without a number.

    :param aggregates: AGGREGATES
    """
    counts = [aggregates[name] for name in ("aggregates", "agg")]
    completed = pc.coalesce(*(pc.if_else(pc.is_finite(count), count, None) for count in counts))
    table = pa.table([aggregates["user_id"], aggregates["id"], completed], schema=NESTED_PROGRESS)
    return table.filter(completed.is_valid())


def split_by_batch(table: Table, rows: pa.Table, keys: Sequence[BatchKey]) -> list[tuple[BatchKey, pa.Table]]:
    """Return the rows of each of these batches, with the columns of `SCHEMA_OF[table]`.

    Nested progress is that of every collection in which the batch's learners have any, except the batch's own.

    :param rows: SCANNED; may have rows of other batches
    """
    is_aggregates = table is Table.AGGREGATES
    batch_ids, collection_ids = (rows["context_id"], rows["id"]) if is_aggregates else (rows["batch_id"], rows["collection_id"])
    keys_of_batch: dict[str, list[BatchKey]] = defaultdict(list)
    for key in keys:
        keys_of_batch[context_id(key[1]) if is_aggregates else key[1]].append(key)
    found = []
    for batch_id in pc.unique(batch_ids).to_pylist():
        for key in keys_of_batch.get(batch_id, ()):
            # An aggregate belongs to one collection: any except the batch's own may be nested in that.
            compare = pc.not_equal if is_aggregates else pc.equal
            of_batch = rows.filter(pc.and_(pc.equal(batch_ids, batch_id), compare(collection_ids, key[0])))
            facts = nested_progress(of_batch) if is_aggregates else of_batch.select(SCHEMA_OF[table].names)
            if len(facts):
                found.append((key, facts))
    return found

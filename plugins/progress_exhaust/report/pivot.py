"""Turn the facts of a chunk of learners from long to wide.

Long: one row for each learner and node, as the sources have them. Wide: one row for each learner, one column for each node.
"""

from collections.abc import Sequence

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

LEARNER = "learner"  # the row number of the learner in the chunk
NODE = "node"  # the position of the node among the nodes with a column


def long_table(lists: pa.ListArray, id_field: str, node_ids: Sequence[str]) -> pa.Table:
    """Return the items of all learners' lists as one long table, with the columns LEARNER and NODE.

    Items of other nodes are dropped.

    :param lists: one list of structs for each learner
    :param id_field: the field of an item that holds the id of its node
    """
    items = pa.Table.from_struct_array(pc.list_flatten(lists))
    nodes = pc.index_in(items[id_field], value_set=pa.array(node_ids, pa.string()))
    items = items.append_column(LEARNER, pc.list_parent_indices(lists)).append_column(NODE, nodes)
    return items.filter(pc.is_valid(nodes))


def last_of_each(items: pa.Table) -> pa.Table:
    """Return the last row for each learner and node."""
    last = to_frame(items).drop_duplicates([LEARNER, NODE], keep="last")
    return pa.Table.from_pandas(last, items.schema, preserve_index=False)


def wide_table(items: pa.Table, values: str, node_ids: Sequence[str], learners: int) -> pa.Table:
    """Pivot: return one row for each learner of the chunk, and one column for each node, named by its id.

    A value is null if the learner has no row for the node.

    :param items: a long table, with at most one row for each learner and node
    :param values: the column that has the values
    :param learners: how many learners the chunk has
    """
    wide = to_frame(items.select([LEARNER, NODE, values])).pivot(index=LEARNER, columns=NODE, values=values)
    wide = wide.reindex(index=range(learners), columns=range(len(node_ids))).set_axis(list(node_ids), axis="columns")
    schema = pa.schema([(node_id, items.schema.field(values).type) for node_id in node_ids])
    return pa.Table.from_pandas(wide, schema, preserve_index=False)


def to_frame(table: pa.Table) -> pd.DataFrame:
    """Return the table as a pandas frame with Arrow-backed columns."""
    frame: pd.DataFrame = table.to_pandas(types_mapper=pd.ArrowDtype)
    return frame

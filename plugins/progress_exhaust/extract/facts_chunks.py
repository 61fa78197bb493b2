"""From an enrolled chunk to a facts chunk: what the sources have about these learners, for those who are in the report.

A facts chunk has facts and no cells. Pivot makes the cells, and can run again without reading a source.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from progress_exhaust.extract.schemas import ATTEMPTS, NESTED_PROGRESS
from progress_exhaust.report.eligibility import Eligibility, User, no_exclusions, shown_fields


@dataclass(frozen=True)
class FactSources:
    """How the facts of a chunk are read. Each function takes user ids and returns what it has of all of them."""

    users: Callable[[Sequence[str]], Mapping[str, User]]  # without learners whom the user cache does not have
    nested: Callable[[Sequence[str]], pa.Table]  # NESTED_PROGRESS; may have rows of other learners
    attempts: Callable[[Sequence[str]], pa.Table]  # ATTEMPTS; may have rows of other learners


def make_facts_chunk(
    enrolled: pa.Table, eligibility: Eligibility, user_fields: Sequence[str], sources: FactSources
) -> tuple[pa.Table, Counter[str]]:
    """Read the facts of an enrolled chunk; return those of the reported learners, in the same order, and counts.

    The counts are `missing` (from the user cache), `reported`, and the excluded learners by reason.

    :param user_fields: fields of the user cache that the report shows
    """
    counts: Counter[str] = Counter(reported=0, missing=0, **no_exclusions(of_enrolment=False))
    ids = enrolled["user_id"].to_pylist()
    users = sources.users(ids) if ids else {}
    is_reported: list[bool] = []
    for user_id in ids:
        user = users.get(user_id)
        counts["missing"] += user is None
        reason = eligibility.exclusion(user)
        if reason:
            counts[reason.count_name] += 1
        is_reported.append(reason is None)
    chunk = enrolled.filter(pa.array(is_reported, pa.bool_()))
    ids = chunk["user_id"].to_pylist()
    counts["reported"] = len(ids)
    shown = [shown_fields(users.get(user_id)) for user_id in ids]
    for field in user_fields:
        chunk = chunk.append_column(f"user.{field}", pa.array([user.get(field) for user in shown], pa.string()))
    nested = sources.nested(ids) if ids else NESTED_PROGRESS.empty_table()
    attempts = sources.attempts(ids) if ids else ATTEMPTS.empty_table()
    chunk = chunk.append_column("nested", _list_by_learner(nested, chunk["user_id"]))
    return chunk.append_column("attempts", _list_by_learner(attempts, chunk["user_id"])), counts


def _list_by_learner(rows: pa.Table, user_ids: pa.ChunkedArray) -> pa.ListArray:
    """Return one list per user, in their order: the user's rows, without the user id. Skip rows of other users."""
    # positions: of each row's user among user_ids (null: another user); owner: the same of the rows that are kept.
    positions = pc.index_in(rows["user_id"], value_set=user_ids.combine_chunks()).combine_chunks()
    owner = positions.drop_null().to_numpy()
    items = rows.drop_columns("user_id").filter(positions.is_valid()).take(np.argsort(owner, kind="stable"))
    ends = np.bincount(owner, minlength=len(user_ids)).cumsum()  # of each user's list, in items
    structs = pa.StructArray.from_arrays([column.combine_chunks() for column in items.columns], fields=list(items.schema))
    return pa.ListArray.from_arrays(pa.array(np.concatenate([[0], ends]), pa.int32()), structs)

"""From an enrolled chunk to a facts chunk: what the sources have about these learners, for those who are in the report.

A facts chunk has facts and no cells. Pivot makes the cells, and can run again without reading a source.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from progress_exhaust.extract.archived_scores import add_archived_scores, as_attempts
from progress_exhaust.extract.schemas import FACTS_OF_ATTEMPTS, NESTED_PROGRESS
from progress_exhaust.report.eligibility import Eligibility, User, count_missing_fields, no_exclusions, shown_fields
from progress_exhaust.report.hierarchy import Hierarchy
from progress_exhaust.staging.manifests import ExtractInputs


@dataclass(frozen=True)
class FactSources:
    """How the facts of a chunk are read. Each function takes user ids and returns what it has of all of them."""

    users: Callable[[Sequence[str]], Mapping[str, User]]  # without learners whom the source does not have
    nested: Callable[[Sequence[str]], pa.Table]  # NESTED_PROGRESS; may have rows of other learners
    attempts: Callable[[Sequence[str]], pa.Table]  # ATTEMPTS; may have rows of other learners
    archived_scores: Callable[[Sequence[str]], pa.Table]  # ARCHIVED_SCORES


def make_facts_chunk(
    enrolled: pa.Table, eligibility: Eligibility, inputs: ExtractInputs, sources: FactSources
) -> tuple[pa.Table, Counter[str]]:
    """Read the facts of an enrolled chunk; return those of the reported learners, in the same order, and counts.

    The counts are `missing` (from the source of users), `reported`, the excluded learners by reason, and CONTENT_COUNTS.
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
    counts["blank_user_fields"] = sum(count_missing_fields(users.get(user_id), inputs.user_fields) for user_id in ids)
    shown = [shown_fields(users.get(user_id)) for user_id in ids]
    for field in inputs.user_fields:
        chunk = chunk.append_column(f"user.{field}", pa.array([user.get(field) for user in shown], pa.string()))
    if inputs.nested_progress:
        nested = sources.nested(ids) if ids else NESTED_PROGRESS.empty_table()
        chunk = chunk.append_column("nested", _list_by_learner(nested, chunk["user_id"]))
    attempts = _read_attempts(chunk, inputs, sources) if ids else FACTS_OF_ATTEMPTS.empty_table()
    chunk = chunk.append_column("attempts", _list_by_learner(attempts, chunk["user_id"]))
    counts.update(_content_counts(chunk, inputs.hierarchy))
    return chunk, counts


def _read_attempts(chunk: pa.Table, inputs: ExtractInputs, sources: FactSources) -> pa.Table:
    """Return the attempts of the chunk's learners (FACTS_OF_ATTEMPTS), with those whose scores only the aggregates have."""
    assessment_ids = inputs.hierarchy.assessment_ids
    if inputs.scores_from == "aggregates":
        if not assessment_ids:
            return FACTS_OF_ATTEMPTS.empty_table()
        scores = sources.archived_scores(chunk["user_id"].to_pylist())
        return as_attempts(scores.filter(pc.is_in(scores["content_id"], value_set=pa.array(assessment_ids, pa.string()))))
    attempts = sources.attempts(chunk["user_id"].to_pylist())
    nulls = pa.nulls(len(attempts), FACTS_OF_ATTEMPTS.field("archived_attempts").type)
    attempts = attempts.append_column("archived_attempts", nulls)
    if inputs.archived_scores == "blank" or not assessment_ids:
        return attempts
    return add_archived_scores(attempts, chunk, assessment_ids, sources.archived_scores)


def _content_counts(chunk: pa.Table, hierarchy: Hierarchy) -> dict[str, int]:
    """Return CONTENT_COUNTS of the chunk's learners."""
    attempts = chunk["attempts"].combine_chunks().flatten()
    in_tree = pc.is_in(attempts.field("content_id"), value_set=pa.array(sorted(hierarchy.content_ids), pa.string()))
    archived = attempts.field("archived_attempts").is_valid()
    return {
        "scores_from_aggregates": pc.sum(archived, min_count=0).as_py(),
        "attempts_of_removed_contents": pc.sum(pc.invert(in_tree), min_count=0).as_py(),
        "removed_contents_completed": pc.sum(chunk["removed_contents"], min_count=0).as_py(),
    }


def _list_by_learner(rows: pa.Table, user_ids: pa.ChunkedArray) -> pa.ListArray:
    """Return one list per user, in their order: the user's rows, without the user id. Skip rows of other users."""
    # positions: of each row's user among user_ids (null: another user); owner: the same of the rows that are kept.
    positions = pc.index_in(rows["user_id"], value_set=user_ids.combine_chunks()).combine_chunks()
    owner = positions.drop_null().to_numpy()
    items = rows.drop_columns("user_id").filter(positions.is_valid()).take(np.argsort(owner, kind="stable"))
    ends = np.bincount(owner, minlength=len(user_ids)).cumsum()  # of each user's list, in items
    structs = pa.StructArray.from_arrays([column.combine_chunks() for column in items.columns], fields=list(items.schema))
    return pa.ListArray.from_arrays(pa.array(np.concatenate([[0], ends]), pa.int32()), structs)

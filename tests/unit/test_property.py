"""On random worlds, in any page size, the product's csv is that of the naive per-user reading of the specification."""

import io
from collections.abc import Iterator
from datetime import date, datetime
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from dev.world import Row, World
from progress_exhaust.report.csv_file import write_csv
from progress_exhaust.report.hierarchy import AssessmentKinds, parse_tree, reduce_tree
from progress_exhaust.report.layout import columns
from progress_exhaust.report.learners import (
    ATTEMPTS,
    NESTED_PROGRESS,
    Enrolment,
    Rules,
    Sources,
    completed_count,
    enrolled_page,
    make_part,
    pages,
    table_of,
)
from progress_exhaust.report.pivot import CellRules, Learners
from progress_exhaust.report.request import Batch, BatchFacts
from tests.oracle import Options, expected_counts, expected_csv
from tests.strategies import worlds

DAY = date(2022, 9, 27)
options = st.builds(
    Options,
    bom=st.booleans(),
    defuse=st.booleans(),
    attempt=st.sampled_from(["best", "latest"]),
    named_labels=st.booleans(),
    failed_certstatus=st.sampled_from([(2,), (), (0, 3)]),
)


@settings(max_examples=80, deadline=None)
@given(world=worlds(), options=options, page_size=st.sampled_from([1, 2, 5, 100]))
def test_the_csv_is_that_of_the_naive_reading(world: World, options: Options, page_size: int) -> None:
    request, batch = world.requests[0], world.batches[0]
    made, counts = make(world, options, page_size)
    assert made.decode() == expected_csv(world, request, batch["batchid"], DAY, options=options).decode()
    expected = expected_counts(world, request, batch["batchid"], options=options)
    assert (counts["enrolled"], counts["reported"], counts["missing"]) == (
        expected.enrolled,
        expected.reported,
        expected.missing,
    )
    left_out = {name.removeprefix("left_out."): number for name, number in counts.items() if name.startswith("left_out.")}
    assert left_out == expected.left_out | expected.not_enrolled


def make(world: World, options: Options, page_size: int) -> tuple[bytes, dict[str, int]]:
    """Run the product's core over a world's rows, as the hooks would hand them over."""
    request, batch_row, collection = world.requests[0], world.batches[0], world.contents[0]
    batch = Batch("", request["request_id"], request["requested_channel"], batch_row["batchid"], batch_row["courseid"])
    facts = BatchFacts(batch_row.get("name") or "", collection.get("name") or "", collection["channel"] == batch.channel)
    kinds = AssessmentKinds(options.content_types, options.object_types, options.primary_categories)
    optional = frozenset(world.optional_nodes.get(batch.collection_id, ()))
    tree = parse_tree(world.hierarchies[batch.collection_id], batch.collection_id)
    hierarchy = reduce_tree(tree, batch.collection_id, kinds, optional)
    rules = CellRules(options.attempt, options.failed_certstatus)
    users = dict(world.users)
    sources = Sources(
        users=lambda ids: {user_id: users[user_id] for user_id in ids if users.get(user_id)},
        # As a scan does, with other learners' rows: what a page takes of them is its own.
        nested=lambda _ids: table_of(_nested_rows(world, hierarchy.nested_ids, batch), NESTED_PROGRESS),
        attempts=lambda _ids: table_of(_attempt_rows(world, batch), ATTEMPTS),
    )
    enrolments = sorted(
        _enrolment(row) for row in world.enrolments if (row["batchid"], row["courseid"]) == (batch.batch_id, batch.collection_id)
    )
    counts: dict[str, int] = {"enrolled": 0, "reported": 0, "missing": 0}
    parts = []
    for page in pages(enrolments, page_size):
        enrolled, counts_of_page = enrolled_page(page, optional)
        part, counts_of_part = make_part(enrolled, Rules(facts.owned, batch.channel), sources)
        parts.append(Learners(part, batch, facts, hierarchy, rules))
        for name, number in (*counts_of_page.items(), *counts_of_part.items()):
            counts[name] = counts.get(name, 0) + number
    target = io.BytesIO()
    shown = columns(hierarchy, named=options.named_labels)
    written = write_csv(target, shown, parts, bom=options.bom, defuse_formulas=options.defuse)
    assert written.rows == counts["reported"]
    return target.getvalue(), counts


def _milliseconds(moment: datetime | None) -> int | None:
    return None if moment is None else round(moment.timestamp() * 1000)


def _enrolment(row: Row) -> Enrolment:
    return Enrolment(
        user_id=row["userid"],
        active=row.get("active"),
        enrolled_at=_milliseconds(row.get("enrolled_date")),
        enrolled_text=row.get("enrolleddate"),
        completed_at=_milliseconds(row.get("completedon")),
        completed_ids=tuple(content for content, status in (row.get("contentstatus") or {}).items() if status == 2),
        has_certificate=bool(row.get("certificates") or row.get("issued_certificates")),
        certificate_status=row.get("certstatus"),
    )


def _nested_rows(world: World, nested_ids: list[str], batch: Batch) -> Iterator[tuple[Any, ...]]:
    for row in world.aggregates:
        completed = completed_count(row.get("aggregates"), row.get("agg"))
        of_batch = row["activity_type"] == "Course" and row["context_id"] == f"cb:{batch.batch_id}"
        if of_batch and row["activity_id"] in nested_ids and completed is not None:
            yield row["user_id"], row["activity_id"], completed


def _attempt_rows(world: World, batch: Batch) -> Iterator[tuple[Any, ...]]:
    for row in world.attempts:
        if (row["course_id"], row["batch_id"]) == (batch.collection_id, batch.batch_id):
            score, grand, at = row.get("total_score"), row.get("grand_total"), _milliseconds(row.get("last_attempted_on"))
            yield row["user_id"], row["content_id"], row["attempt_id"], score, grand, at

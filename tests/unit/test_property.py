"""On random worlds, in any page size, the product's csv is that of the naive per-user reading of the specification."""

import io
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import date, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dev.world import Row, World, archive_attempts, batch_world, sample_world
from progress_exhaust.extract.chunk_files import attempted_contents, from_parquet, to_parquet
from progress_exhaust.extract.enrolled_chunks import cut_into_chunks, make_enrolled_chunk
from progress_exhaust.extract.facts_chunks import FactSources, make_facts_chunk
from progress_exhaust.extract.inputs import make_inputs
from progress_exhaust.extract.schemas import AGGREGATES, ARCHIVED_SCORES, ATTEMPTS, rows_to_table
from progress_exhaust.extract.source_rows import nested_progress
from progress_exhaust.hooks.cassandra.decoding import decode_archived_scores
from progress_exhaust.hooks.cassandra.models import Enrolment
from progress_exhaust.report.catalogue import Catalogue
from progress_exhaust.report.csv_file import chunk_csv, write_csv
from progress_exhaust.report.eligibility import Eligibility, Exclusion
from progress_exhaust.report.hierarchy import AssessmentKinds, Hierarchy, parse_tree, reduce_tree
from progress_exhaust.report.layout import BUILT_IN, Layout
from progress_exhaust.report.plan import Limits, plan
from progress_exhaust.report.report import CellRules, Report
from progress_exhaust.report.request import Batch, BatchFacts, JobRequest
from tests.cql import cql_list, cql_map
from tests.oracle import Options, expected_counts, expected_csv, expected_lern7_csv
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


@settings(deadline=None)
@given(world=worlds(), options=options, page_size=st.sampled_from([1, 2, 5, 100]), standalone=st.booleans())
def test_the_csv_is_that_of_the_naive_reading(world: World, options: Options, page_size: int, standalone: bool) -> None:
    assert_same_report(world, None if standalone else world.requests[0], world.batches[0]["batchid"], options, page_size)


@settings(deadline=None)
@given(world=worlds(), options=options, spark=st.booleans(), page_size=st.sampled_from([1, 2, 5, 100]), standalone=st.booleans())
def test_so_it_is_in_the_incumbents_layout(world: World, options: Options, spark: bool, page_size: int, standalone: bool) -> None:
    layout = Layout.model_validate({"like": "sunbird-lern-7", "quoting": "spark" if spark else "rfc4180"})
    request, batch_id = None if standalone else world.requests[0], world.batches[0]["batchid"]
    made, counts = make(world, request, batch_id, options, page_size, layout)
    expected = expected_lern7_csv(world, request, batch_id, options=replace(options, spark=spark))
    assert made.decode() == expected.decode()
    assert counts[Exclusion.MISSING.count_name] == counts["missing"] and counts["reported"] == expected.count(b"\n") - 1


@pytest.mark.parametrize("options", [Options(), Options(bom=True, defuse=False, attempt="latest", named_labels=True)])
def test_so_it_is_for_each_batch_of_the_sample(options: Options) -> None:
    world = sample_world()
    live = {content["identifier"] for content in world.contents if content["status"] == "Live"}
    batches = [row["batchid"] for row in world.batches if row["courseid"] in live]
    assert len(batches) == 6
    for batch_id in batches:
        for request in (None, *world.requests[:4]):
            assert_same_report(world, request, batch_id, options, page_size=37)


@pytest.mark.parametrize("page_size", [37, 1000])
def test_so_it_is_after_the_attempts_were_archived(page_size: int) -> None:
    world = sample_world()
    for request, batch in ((world.requests[0], 0), (world.requests[3], 2)):
        archive_attempts(world, world.batches[batch]["batchid"])
        assert_same_report(world, request, world.batches[batch]["batchid"], Options(), page_size)
        assert expected_counts(world, request, world.batches[batch]["batchid"]).scores_from_aggregates


def test_the_page_size_does_not_show() -> None:
    world = batch_world(60, 40)
    request, batch_id = world.requests[0], world.batches[0]["batchid"]
    whole, _ = make(world, request, batch_id, Options(), 1000)
    assert {make(world, request, batch_id, Options(), size)[0] for size in (1, 7, 60)} == {whole}
    assert whole.count(b"\r\n") > 50


def assert_same_report(world: World, request: Row | None, batch_id: str, options: Options, page_size: int) -> None:
    made, counts = make(world, request, batch_id, options, page_size)
    assert made.decode() == expected_csv(world, request, batch_id, DAY, options=options).decode()
    expected = expected_counts(world, request, batch_id, options=options)
    excluded = {f"excluded.{reason}": number for reason, number in (expected.left_out | expected.not_enrolled).items()}
    assert counts == Counter(
        enrolled=expected.enrolled, reported=expected.reported, missing=expected.missing,
        assessments=expected.assessments, nested=expected.nested, **excluded,
        blank_user_fields=expected.blank_fields, scores_from_aggregates=expected.scores_from_aggregates,
        attempts_of_removed_contents=expected.attempts_of_removed, removed_contents_completed=expected.completed_removed,
    )  # fmt: skip


def find_batch(world: World, request: Row | None, batch_id: str) -> tuple[Batch, BatchFacts]:
    """Plan one batch for a request, or for a standalone run."""
    data = json.dumps({"batchId": batch_id})
    row = request or {"tag": "", "request_id": "", "requested_by": "", "requested_channel": ""}
    asked = JobRequest(
        row["tag"], row["request_id"], data, row["requested_by"], row["requested_channel"], None, ()
    )  # fmt: skip
    batches = [(row["courseid"], row["batchid"], row.get("name") or "") for row in world.batches]
    catalogue = Catalogue(
        batches=lambda ids: [row for row in batches if row[1] in ids],
        batches_of=lambda _: [],
        collections=lambda ids: [content for content in world.contents if content["identifier"] in ids],
        search=lambda *_: [],
    )
    [planned] = plan([asked], catalogue, Limits(1, 1, 1)).to_make
    return planned


class StoredPart:
    """A part's file, for what only opens it."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def open(self, mode: str) -> io.BytesIO:
        assert mode == "rb"
        return io.BytesIO(self._data)


def make(
    world: World, request: Row | None, batch_id: str, options: Options, page_size: int, layout: Layout = BUILT_IN["standard"]
) -> tuple[bytes, Counter[str]]:
    """Run the product's core over a world's rows, as the hooks would hand them over; return the csv and the counts."""
    report, parts, counts = make_parts(world, request, batch_id, options, page_size, layout)
    target = io.BytesIO()
    written = write_csv(target, report, (chunk_csv(from_parquet(part), report) for part in parts), bom=options.bom)
    assert written.rows == counts["reported"]
    return target.getvalue(), counts


def make_parts(
    world: World, request: Row | None, batch_id: str, options: Options, page_size: int, layout: Layout
) -> tuple[Report, list[bytes], Counter[str]]:
    batch, facts = find_batch(world, request, batch_id)
    kinds = AssessmentKinds(options.content_types, options.object_types, options.primary_categories)
    optional = frozenset(world.optional_nodes.get(batch.collection_id, ()))
    tree = parse_tree(world.hierarchies[batch.collection_id], batch.collection_id)
    hierarchy = Hierarchy.from_dict(json.loads(json.dumps(reduce_tree(tree, batch.collection_id, kinds, optional).to_dict())))
    inputs = make_inputs(hierarchy, layout)
    labels = "name" if options.named_labels else "id"
    cell_rules = CellRules(options.attempt, options.failed_certstatus, labels, options.defuse, options.zone)
    eligibility = Eligibility(facts.owned, batch.channel, cached_only=layout.learners == "cached")
    users = dict(world.users)
    sources = FactSources(
        users=lambda ids: {user_id: users[user_id] for user_id in ids if users.get(user_id)},
        # As a scan does, with other learners' rows: what a page takes of them is its own.
        nested=lambda _ids: nested_progress(rows_to_table(_nested_rows(world, hierarchy.nested_ids, batch), AGGREGATES)),
        attempts=lambda _ids: rows_to_table(_attempt_rows(world, batch), ATTEMPTS),
        archived_scores=lambda ids: rows_to_table(decode_archived_scores(_own_aggregates(world, ids, batch)), ARCHIVED_SCORES),
    )
    enrolments = sorted(
        _enrolment(row) for row in world.enrolments if (row["batchid"], row["courseid"]) == (batch.batch_id, batch.collection_id)
    )
    counts: Counter[str] = Counter(assessments=len(hierarchy.assessment_ids), nested=len(hierarchy.nested_ids))
    parts = []
    for page in cut_into_chunks(enrolments, page_size):
        enrolled, counts_of_page = make_enrolled_chunk(page, inputs)
        part, counts_of_part = make_facts_chunk(enrolled, eligibility, inputs, sources)
        parts.append(to_parquet(part, counts_of_part))
        counts.update(counts_of_page)
        counts.update(counts_of_part)
    attempted = attempted_contents(map(StoredPart, parts)) if layout.scores == "attempted" else frozenset()
    return Report(batch, facts, hierarchy, layout, cell_rules, attempted), parts, counts


def _milliseconds(moment: datetime | None) -> int | None:
    return None if moment is None else round(moment.timestamp() * 1000)


def _enrolment(row: Row) -> Enrolment:
    return Enrolment(
        user_id=row["userid"],
        active=row.get("active"),
        enrolled_at=_milliseconds(row.get("enrolled_date")),
        enrolled_text=row.get("enrolleddate"),
        completed_at=_milliseconds(row.get("completedon")),
        content_statuses=cql_map(row.get("contentstatus")),
        certificates=cql_list(row.get("certificates")),
        issued_certificates=cql_list(row.get("issued_certificates")),
        certificate_status=row.get("certstatus"),
    )


def _nested_rows(world: World, nested_ids: list[str], batch: Batch) -> Iterator[tuple[Any, ...]]:
    for row in world.aggregates:
        counts = [(row.get(column) or {}).get("completedCount") for column in ("aggregates", "agg")]
        of_batch = row["activity_type"] == "Course" and row["context_id"] == f"cb:{batch.batch_id}"
        if of_batch and row["activity_id"] in nested_ids:
            yield row["user_id"], row["activity_id"], *counts


def _own_aggregates(world: World, user_ids: Sequence[str], batch: Batch) -> Iterator[tuple[Any, ...]]:
    for row in world.aggregates:
        key = ("Course", batch.collection_id, f"cb:{batch.batch_id}")
        if (row["activity_type"], row["activity_id"], row["context_id"]) == key and row["user_id"] in user_ids:
            yield row["user_id"], row.get("aggregates")


def _attempt_rows(world: World, batch: Batch) -> Iterator[tuple[Any, ...]]:
    for row in world.attempts:
        if (row["course_id"], row["batch_id"]) == (batch.collection_id, batch.batch_id):
            score, grand, at = row.get("total_score"), row.get("grand_total"), _milliseconds(row.get("last_attempted_on"))
            yield row["user_id"], row["content_id"], row["attempt_id"], score, grand, at, row.get("total_max_score")

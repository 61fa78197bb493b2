"""Any world makes the csv, and the counts, that the specification's own words make: the product held to the oracle.

The product goes the whole way that a batch goes: from the hooks' rows through parts on storage to bytes.
"""

import io
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dev.world import Row, World, batch_world, sample_world
from progress_exhaust.report.csv_file import write_csv
from progress_exhaust.report.hierarchy import AssessmentKinds, Hierarchy, parse_tree, reduce_tree
from progress_exhaust.report.layout import columns
from progress_exhaust.report.learners import (
    USER_FIELDS,
    Attempt,
    Enrolment,
    NestedProgress,
    Rules,
    Sources,
    completed_count,
    make_part,
    pages,
)
from progress_exhaust.report.pivot import CellRules, Learners
from progress_exhaust.report.plan import Catalogue, Limits, plan
from progress_exhaust.report.request import Batch, BatchFacts, JobRequest
from tests.oracle import NoReport, Options, expected_counts, expected_csv, expected_key, in_utc
from tests.strategies import worlds

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
RUN_DATE = date(2022, 9, 27)
PAGE_SIZES = (1, 2, 5, 1000)

every_option = st.builds(
    Options,
    bom=st.booleans(),
    defuse=st.booleans(),
    attempt=st.sampled_from(["best", "latest"]),
    named_labels=st.booleans(),
    failed_certstatus=st.sampled_from([(2,), (1, 3), ()]),
)


# A world as the hooks hand it over


def milliseconds(moment: datetime | None) -> int | None:
    return None if moment is None else (in_utc(moment) - EPOCH) // timedelta(milliseconds=1)


def enrolment(row: Row) -> Enrolment:
    return Enrolment(
        user_id=row["userid"],
        active=row.get("active"),
        enrolled_at=milliseconds(row.get("enrolled_date")),
        enrolled_text=row.get("enrolleddate"),
        completed_at=milliseconds(row.get("completedon")),
        completed_ids=[content for content, status in (row.get("contentstatus") or {}).items() if status == 2],
        has_certificate=bool(row.get("certificates") or row.get("issued_certificates")),
        certificate_status=row.get("certstatus"),
    )


def enrolments(world: World, batch: Batch) -> Iterator[Enrolment]:
    """Yield the batch's enrolments as a table keyed by batch does: in user id order."""
    key = (batch.collection_id, batch.batch_id)
    rows = [row for row in world.enrolments if (row["courseid"], row["batchid"]) == key]
    return map(enrolment, sorted(rows, key=lambda row: str(row["userid"])))


def sources(world: World, batch: Batch, hierarchy: Hierarchy) -> Sources:
    cache = dict(world.users)
    aggregates = [row for row in world.aggregates if row["context_id"] == f"cb:{batch.batch_id}"]
    attempts = [row for row in world.attempts if (row["course_id"], row["batch_id"]) == (batch.collection_id, batch.batch_id)]

    def users(ids: Sequence[str]) -> dict[str, dict[str, str]]:
        known = {one: cache[one] for one in ids if cache.get(one)}
        return {one: {name: value for name, value in user.items() if name in USER_FIELDS} for one, user in known.items()}

    def nested(ids: Sequence[str]) -> Iterator[NestedProgress]:
        for row in aggregates:
            if row["activity_type"] == "Course" and row["activity_id"] in hierarchy.nested_ids and row["user_id"] in ids:
                count = completed_count(row.get("aggregates"), row.get("agg"))
                yield NestedProgress(row["user_id"], row["activity_id"], count)

    def tried(ids: Sequence[str]) -> Iterator[Attempt]:
        for row in attempts:
            if row["user_id"] in ids:
                yield Attempt(
                    user_id=row["user_id"],
                    content_id=row["content_id"],
                    attempt_id=row["attempt_id"],
                    total_score=row.get("total_score"),
                    grand_total=row.get("grand_total"),
                    attempted_at=milliseconds(row.get("last_attempted_on")),
                )

    return Sources(users, nested, tried)


def catalogue(world: World) -> Catalogue:
    batches = [(row["courseid"], row["batchid"], row.get("name") or "") for row in world.batches]

    def collections(ids: Sequence[str]) -> Iterable[Row]:
        return [content for content in world.contents if content["identifier"] in ids]

    return Catalogue(
        batches=lambda ids: [row for row in batches if row[1] in ids],
        batches_of=lambda ids: [row for row in batches if row[0] in ids],
        collections=collections,
        search=lambda *_: [],
    )


# The product, from a request to the bytes


def find_batch(world: World, request: Row | None, batch_id: str) -> tuple[Batch, BatchFacts]:
    data = json.dumps({"batchId": batch_id})
    if request is None:
        asked = JobRequest("", "", data, "", "", None, None, ())
    else:
        asker, channel = request["requested_by"], request["requested_channel"]
        asked = JobRequest(request["tag"], request["request_id"], data, asker, channel, None, None, ())
    ((found,),) = [plan([asked], catalogue(world), Limits(20, 30, 1000)).to_make]
    return found


def made(world: World, request: Row | None, batch_id: str, options: Options, page_size: int) -> tuple[bytes, Counter[str]]:
    batch, facts = find_batch(world, request, batch_id)
    kinds = AssessmentKinds(options.content_types, options.object_types, options.primary_categories)
    tree = parse_tree(world.hierarchies[batch.collection_id], batch.collection_id)
    optional = frozenset(world.optional_nodes.get(batch.collection_id, set()))
    hierarchy = Hierarchy.from_dict(json.loads(json.dumps(reduce_tree(tree, batch.collection_id, kinds, optional).to_dict())))
    rules = Rules(facts.owned, batch.channel, optional)
    found = sources(world, batch, hierarchy)
    counts: Counter[str] = Counter(nested=len(hierarchy.nested_ids), assessments=len(hierarchy.assessment_ids))
    parts = []
    for page in pages(enrolments(world, batch), page_size):
        part, of_page = make_part(page, rules, found)
        counts.update(of_page)
        parts.append(stored(part))
    cell_rules = CellRules(options.attempt, options.failed_certstatus)
    learners = (Learners(pq.read_table(part), batch, facts, hierarchy, cell_rules) for part in parts)
    target = io.BytesIO()
    shown = columns(hierarchy, named=options.named_labels)
    written = write_csv(target, shown, learners, bom=options.bom, defuse_formulas=options.defuse)
    assert written.rows == counts["reported"]
    return target.getvalue(), counts


def stored(part: Any) -> io.BytesIO:
    target = io.BytesIO()
    pq.write_table(part, target)
    target.seek(0)
    return target


def assert_alike(world: World, request: Row | None, batch_id: str, options: Options, page_size: int) -> None:
    expected = expected_csv(world, request, batch_id, RUN_DATE, options=options)
    csv, counts = made(world, request, batch_id, options, page_size)
    assert csv.decode().split("\r\n") == expected.decode().split("\r\n")
    assert csv == expected
    summary = expected_counts(world, request, batch_id, options=options)
    assert {name: count for name, count in counts.items() if count} == {
        name: count
        for name, count in {
            "enrolled": summary.enrolled,
            "reported": summary.reported,
            "missing": summary.missing,
            "assessments": summary.assessments,
            "nested": summary.nested,
            **{f"left_out.{reason}": count for reason, count in (summary.left_out | summary.not_enrolled).items()},
        }.items()
        if count
    }


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])  # a world is many draws
@given(world=worlds(), options=every_option, page_size=st.sampled_from(PAGE_SIZES), standalone=st.booleans())
def test_any_world_makes_the_csv_of_the_specification(world: World, options: Options, page_size: int, standalone: bool) -> None:
    request = None if standalone else world.requests[0]
    assert_alike(world, request, world.batches[0]["batchid"], options, page_size)


@pytest.mark.parametrize("options", [Options(), Options(bom=True, defuse=False, attempt="latest", named_labels=True)])
def test_each_batch_of_the_sample_makes_the_csv_of_the_specification(options: Options) -> None:
    world = sample_world()
    made_batches = 0
    for request in world.requests:
        for batch_id in batch_ids(request):
            try:
                expected_counts(world, request, batch_id)
            except NoReport:
                continue
            assert_alike(world, request, batch_id, options, page_size=37)
            made_batches += 1
    assert made_batches > 4


def test_the_page_size_does_not_show() -> None:
    world = batch_world(60, 40)
    batch_id, request = world.batches[0]["batchid"], world.requests[0]
    whole, _ = made(world, request, batch_id, Options(), 1000)
    assert {made(world, request, batch_id, Options(), size)[0] for size in (1, 7, 60)} == {whole}
    assert whole.count(b"\r\n") > 50


def test_the_key_is_the_specifications() -> None:
    world = sample_world()
    request = world.requests[0]
    batch_id = request["request_data"]["batchId"]
    for asked in (request, None):
        batch, _ = find_batch(world, asked, batch_id)
        csv_key = expected_key(asked, batch_id, RUN_DATE)
        assert batch.object_key(RUN_DATE) == csv_key.removesuffix(".csv") + ".zip"
        assert batch.file_name(RUN_DATE) == csv_key.rpartition("/")[2]


def batch_ids(request: Row) -> list[str]:
    data = request["request_data"]
    return [data["batchId"]] if "batchId" in data else data.get("batchFilter", [])

"""One run over the sample world, on real servers: every byte of the reports, and every column of the requests' rows."""

import io
import json
import zipfile
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from dev.world import (
    ORG,
    OTHER_ORG,
    REQUESTED_AT,
    Row,
    World,
    batch_row,
    collection_node,
    content_row,
    request_row,
    resource_node,
)
from dev.world import sample_world as make_world
from progress_exhaust.hooks.requests.models import BatchState
from tests.integration import golden
from tests.integration.install import REPORT_DAY, Install, RunResult
from tests.oracle import expected_counts, expected_csv, expected_key

MANY = 205  # collections: the server answers 100 at a time
WITH_BATCH = (3, 104, 204)  # on the first, second and last page
BY_USER = "keyed by user"
# The first run reads the table that is keyed by batch, as much at a time as it may.
OTHER_WAYS: list[Row] = [
    {
        "enrolments_table": BY_USER,
        "learners_per_chunk": 7,
        "partitions_per_query": 3,
        "concurrent_queries": 2,
        "read_strategy": "partitions",
    },
    {"learners_per_chunk": 11, "concurrent_queries": 1, "read_strategy": "scan"},
]
REPEATED = (0, 1, 3)  # of the sample world's requests
SHARED = ("status", "download_urls", "dt_file_created", "dt_job_completed", "execution_time", "err_message", "iteration",
          "processed_batches")  # fmt: skip


@dataclass
class Done:
    """A run, and what it wrote."""

    install: Install
    world: World
    duplicates: list[tuple[Row, Row]]  # a request, and a later one for the same
    same_data: Row  # as the first request's, of another org
    many: Row  # the request whose search finds many collections
    before: dict[str, str]  # every row as it stood, with its place in the table, by request id
    began: datetime
    ended: datetime
    result: RunResult
    again: list[tuple[RunResult, list[Row]]]  # later runs, which read in other ways, and their requests

    def files(self) -> list[tuple[Row, str]]:
        """Return each file of the first run: its request, and its batch id."""
        of_sample = list(golden.reports(self.world).values())
        of_many = [(self.many, row["batchid"]) for row in self.world.batches if row["courseid"].startswith("do_many")]
        return [*of_sample, *of_many, (self.same_data, self.world.batches[0]["batchid"])]


def zip_key(request: Row, batch_id: str) -> str:
    return expected_key(request, batch_id, REPORT_DAY).removesuffix(".csv") + ".zip"


def add_many_collections(world: World) -> Row:
    """Add a search's worth of collections, few of which have a batch; return the request that searches."""
    for number in range(MANY):
        tree = collection_node(f"do_many{number:03}", f"Many {number}", [resource_node("do_lesson", "Lesson")], leafNodesCount=1)
        world.contents.append(content_row(tree, ORG, framework="many"))
        if number in WITH_BATCH:
            batch = f"01990{number:03}"
            world.hierarchies[tree["identifier"]] = json.dumps(tree)
            world.batches.append(batch_row(tree["identifier"], batch, f"Batch {number}", ORG))
            user = f"4d414e59-0000-4000-8000-{number:012}"
            world.enrolments.append(  # type: ignore[attr-defined]
                {
                    "userid": user, "courseid": tree["identifier"], "batchid": batch, "active": True,
                    "enrolled_date": datetime(2022, 1, 1, tzinfo=UTC), "contentstatus": {"do_lesson": 2},
                }
            )  # fmt: skip
            world.users.append((user, {"firstname": "Searched", "lastname": "Findable", "rootorgid": ORG}))  # type: ignore[attr-defined]
    search = {"request": {"filters": {"framework": "many", "status": ["Live"]}, "fields": ["identifier"], "limit": 10_000}}
    request = request_row({"searchFilter": search}, label="many", channel=ORG, by="searcher", at=REQUESTED_AT)
    world.requests.append(request)
    return request


def like(request: Row, seconds: int, **changes: Any) -> Row:
    """Make the same request again, so many seconds later."""
    values = {"data": request["request_data"], "channel": request["requested_channel"], "by": request["requested_by"]} | changes
    at = request["dt_job_submitted"] + timedelta(seconds=seconds)
    return request_row(values["data"], label="again", channel=values["channel"], by=values["by"], at=at)


@pytest.fixture(scope="module")
def done(install: Install) -> Done:
    world = make_world()
    asked = list(world.requests)
    # Spaces and the order of keys make no difference; the channel does.
    duplicates = [(asked[0], like(asked[0], 60)), (asked[4], like(asked[4], 60))]
    same_data = like(asked[0], 61, channel=OTHER_ORG)
    many = add_many_collections(world)
    world.requests += [*(duplicate for _, duplicate in duplicates), same_data]
    install.load(world)
    spaced = f'{{ "batchId" :\n"{asked[0]["request_data"]["batchId"]}"}}'
    install.sql("UPDATE job_request SET request_data = %s WHERE request_id = %s", [spaced, duplicates[0][1]["request_id"]])
    # What a failed attempt and a resubmission write, to be removed at the end; an entry that was never packaged.
    install.sql(
        "UPDATE job_request SET iteration = 2, err_message = 'of yesterday', dt_job_completed = now(), processed_batches = %s"
        " WHERE request_id = %s",
        [json.dumps([{"channel": ORG, "batchId": world.batches[3]["batchid"], "filePath": "progress-exhaust/old.csv"}]),
         asked[1]["request_id"]],
    )  # fmt: skip
    before = {
        row["request_id"]: row["all"] for row in install.sql("SELECT request_id, (ctid, xmin, j)::text AS all FROM job_request j")
    }
    began = datetime.now(UTC).replace(tzinfo=None)
    result = install.run_dag()
    ended = datetime.now(UTC).replace(tzinfo=None)
    rows = install.rows()

    again = []
    for number, settings in enumerate(OTHER_WAYS):
        requests = [like(asked[place], 3600 * (number + 1) + place, by="another user") for place in REPEATED]
        install.submit(requests)
        if settings.get("enrolments_table") == BY_USER:
            settings = settings | {"enrolments_table": install.names.enrolments_by_user}
        again.append((install.run_dag({"request_ids": [one["request_id"] for one in requests]}, settings=settings), requests))
    assert install.rows().items() >= rows.items()  # a request that is finished, or not asked for, stays as it is
    return Done(install, world, duplicates, same_data, many, before, began, ended, result, again)


@pytest.fixture(scope="module")
def rows(done: Done) -> dict[str, Row]:
    return done.install.rows()


def test_the_run_is_green(done: Done) -> None:
    assert done.result.state == "success", done.result.failed()
    assert done.result.failed() == []
    labels = {task["label"] for task in done.result.tasks if task["task_id"] == "batch.pivot"}
    assert labels == {batch for _, batch in done.files()}


def test_every_csv_is_what_the_specification_says(done: Done) -> None:
    for request, batch in done.files():
        assert done.install.csv(zip_key(request, batch)) == expected_csv(done.world, request, batch, REPORT_DAY), batch


@pytest.mark.parametrize("name", golden.reports(make_world()))
def test_every_csv_is_the_committed_one(done: Done, name: str) -> None:
    made = done.install.csv(zip_key(*golden.reports(done.world)[name]))
    assert made == (golden.FOLDER / f"{name}.csv").read_bytes()


def test_nothing_else_is_published_and_no_clear_csv_is_left(done: Done) -> None:
    batches = [batch for _, batch in done.files()]
    first = {zip_key(request, batch) for request, batch in done.files()}
    later = [request for _, requests in done.again for request in requests]
    again = {zip_key(request, batch) for request in later for batch in batches if batch in str(request["request_data"])}
    assert len(again) == 4 * len(OTHER_WAYS)
    assert set(done.install.published()) == first | again
    assert done.install.staged() == []


def test_a_package_is_dated_by_the_report_and_not_by_the_clock(done: Done) -> None:
    packages = done.install.published()
    assert all(key.endswith("_progress_20220928.zip") for key in packages)
    for data in packages.values():
        with zipfile.ZipFile(io.BytesIO(data)) as package:
            assert [entry.date_time for entry in package.infolist()] == [(2022, 9, 28, 0, 0, 0)]


def test_a_request_that_succeeded_says_so_in_every_column(done: Done, rows: dict[str, Row]) -> None:
    of_request: dict[str, list[str]] = {}
    for request, batch in done.files():
        of_request.setdefault(request["request_id"], []).append(batch)
    published = done.install.published()
    took = (done.ended - done.began).total_seconds() * 1000
    for request_id, batches in of_request.items():
        row = rows[request_id]
        keys = {f"progress-exhaust/{request_id}/{batch}_progress_20220928.zip" for batch in batches}
        assert row["status"] == "SUCCESS"
        assert set(row["download_urls"]) == keys and len(row["download_urls"]) == len(keys)
        entries = {entry["filePath"]: entry for entry in row["processed_batches"]}
        assert set(entries) == keys and len(row["processed_batches"]) == len(keys)
        for key, entry in entries.items():
            [batch] = [batch for batch in batches if f"/{batch}_" in key]
            assert entry == {
                "channel": row["requested_channel"], "batchId": batch, "filePath": key, "fileSize": len(published[key]),
            }  # fmt: skip
        assert row["err_message"] is None
        assert done.began <= row["dt_file_created"] <= row["dt_job_completed"] <= done.ended
        assert 0 < row["execution_time"] < took
        assert (row["batch_number"], row["encryption_key"]) == (None, None)


def test_success_leaves_the_count_of_failures_alone(done: Done, rows: dict[str, Row]) -> None:
    assert [rows[request["request_id"]]["iteration"] for request in done.world.requests[:4]] == [0, 2, 0, 0]


def test_what_the_api_wrote_is_not_changed(done: Done, rows: dict[str, Row]) -> None:
    for request in done.world.requests:
        row = rows[request["request_id"]]
        for column in ("tag", "job_id", "request_data", "requested_by", "requested_channel"):
            assert row[column] == request[column]
        assert row["dt_job_submitted"] == request["dt_job_submitted"].replace(tzinfo=None)


def test_another_jobs_row_is_not_even_written_to(done: Done) -> None:
    [theirs] = [request for request in done.world.requests if request["job_id"] != "progress-exhaust"]
    [now] = done.install.sql(
        "SELECT (ctid, xmin, j)::text AS all FROM job_request j WHERE request_id = %s", [theirs["request_id"]]
    )
    assert now["all"] == done.before[theirs["request_id"]]


def test_what_can_never_be_made_fails_with_a_message(done: Done, rows: dict[str, Row]) -> None:
    nothing_asked, retired = (rows[done.world.requests[number]["request_id"]] for number in (4, 5))
    assert nothing_asked["err_message"] == "Request should have either of batchId, batchFilter, searchFilter"
    assert retired["err_message"] == f"The request is made for retired collection: batch {done.world.batches[4]['batchid']}"
    for row in (nothing_asked, retired):
        assert row["status"] == "FAILED"
        assert row["download_urls"] is None and row["processed_batches"] is None and row["dt_file_created"] is None
        assert row["iteration"] == 0  # a permanent error costs no attempt
        assert row["dt_job_completed"] is not None


def test_a_duplicate_gets_the_outcome_of_the_first(done: Done, rows: dict[str, Row]) -> None:
    for first, duplicate in done.duplicates:
        outcome, shared = rows[first["request_id"]], rows[duplicate["request_id"]]
        assert shared["status"] in ("SUCCESS", "FAILED")
        for column in SHARED:
            if column != "execution_time":
                assert shared[column] == outcome[column], column
        assert abs(shared["execution_time"] - outcome["execution_time"]) < 1000


def test_another_orgs_request_for_the_same_is_not_a_duplicate(done: Done, rows: dict[str, Row]) -> None:
    batch = done.world.batches[0]["batchid"]
    own, other = (done.install.csv(zip_key(request, batch)) for request in (done.world.requests[0], done.same_data))
    assert own != other
    reported = expected_counts(done.world, done.same_data, batch)
    assert other.count(b"\r\n") == reported.reported + 1 and reported.left_out["other_org"] > 0


def test_only_a_tree_that_cassandra_lacks_is_asked_of_the_content_api(done: Done) -> None:
    assert done.install.content.counts["hierarchy"] == 1 + len(OTHER_WAYS)  # one collection, in each run


def test_the_summary_counts_the_run(done: Done) -> None:
    [line] = [line for line in done.result.log.splitlines() if '"requests"' in line and "summary" in line]
    summary = json.loads(line[line.index("{") : line.rindex("}") + 1])
    counts = [expected_counts(done.world, request, batch) for request, batch in done.files()]
    assert summary["requests"] == {
        "found": 10, "claimed": 10, "duplicate": 2, "succeeded": 7, "failed": 3, "deferred": 0,
    }  # fmt: skip
    assert summary["batches"] == dict.fromkeys(BatchState, 0) | {"done": len(counts), "rejected": 1}
    learners = summary["learners"]
    assert learners["enrolled"] == sum(count.enrolled for count in counts)
    assert learners["reported"] == sum(count.reported for count in counts)
    assert learners["missing"] == sum(count.missing for count in counts)
    for reason in ("missing", "deleted", "other_org", "unknown_org", "inactive", "no_date"):
        told = learners[f"excluded.{reason}"]
        assert told == sum((count.left_out | count.not_enrolled).get(reason, 0) for count in counts) > 0, reason


@pytest.mark.parametrize("way", range(len(OTHER_WAYS)), ids=["by-user-in-small-bites", "by-scan"])
def test_other_ways_to_read_make_the_same_bytes(done: Done, way: int) -> None:
    result, requests = done.again[way]
    assert result.state == "success", result.failed()
    published = done.install.published()
    for first, again in zip((done.world.requests[place] for place in REPEATED), requests, strict=True):
        keys = done.install.row(again)["download_urls"]
        assert len(keys) == len(done.install.row(first)["download_urls"])
        for key in keys:
            assert published[key] == published[key.replace(again["request_id"], first["request_id"])]


def learners_words(world: World) -> set[str]:
    """Collect what would give a learner away: ids, names and districts, unless they are everyday words."""
    fields = ("firstname", "lastname", "district")
    words = {cached[name].strip() for _, cached in world.users for name in fields if name in cached}
    ids = {row["userid"] for row in world.enrolments}
    return ids | {word for word in words if len(word) > 3 and not word.isdigit()}


def test_no_learner_is_named_outside_the_reports(done: Done) -> None:
    words = learners_words(done.world)
    assert {"Mathew", "Thrissur", "देशपांडे", "Findable"} <= words
    ledger = [done.install.sql(f"SELECT * FROM progress_exhaust.{table}") for table in ("claim", "batch_run")]
    rows = done.install.sql("SELECT err_message, processed_batches, download_urls FROM job_request")
    places = {
        "log": "".join([done.result.log, *(result.log for result, _ in done.again)]),
        "Airflow's metadata": done.install.airflow.all_that_is_kept(),
        "ledger": str(ledger),
        "job_request": str(rows),
    }
    batch = done.world.batches[0]["batchid"]
    assert all(batch in text for text in places.values())  # so these are the places
    for place, text in places.items():
        assert [word for word in words if word in text] == [], place

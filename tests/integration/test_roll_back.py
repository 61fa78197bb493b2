"""Roll back to the Spark job, and forward again: what each program takes of the rows that the other one leaves.

The Spark job is its rules (data model, "job_request"): which rows it takes, and what it writes into them.
"""

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from progress_exhaust.hooks.requests.models import ClaimOutcome
from progress_exhaust.hooks.requests.outcomes import Ending
from tests.integration.life import chosen, database_of_requests, emptied, holders, hook_of, insert, row_of

DOCS = Path(__file__).resolve().parents[2] / "docs"
[ROLL_BACK], [SHADOW_REQUESTS] = (
    re.findall(r"```sql\n(.*?)```", (DOCS / page).read_text(), re.DOTALL)
    for page in ("how-to/migrate-from-the-spark-job.md", "how-to/run-shadow-runs.md")
)
SPARK_TAKES = """
SELECT request_id FROM job_request
WHERE job_id = 'progress-exhaust' AND iteration < 3 AND status IN ('SUBMITTED', 'FAILED') ORDER BY request_id
"""
FOLDER = "progress-exhaust/r/"
AFTER = datetime(2022, 10, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def database(servers: None) -> Iterator[Any]:
    with database_of_requests("progress_exhaust_roll_back") as cursor:
        yield cursor


@pytest.fixture
def cursor(database: Any) -> Any:
    return emptied(database)


def made(batch: str, ending: str) -> dict[str, Any]:
    """Return an entry of processed_batches, as both programs write it: this one with zip, the Spark job with csv."""
    return {"channel": "org-1", "batchId": batch, "filePath": f"{FOLDER}{batch}_progress_20220926.{ending}", "fileSize": 5}


def taken_by_spark(cursor: Any) -> list[str]:
    cursor.execute(SPARK_TAKES)
    return [request_id for (request_id,) in cursor.fetchall()]


def write(cursor: Any, request_id: str, **columns: Any) -> None:
    assignments = ", ".join(f"{column} = %s" for column in columns)
    cursor.execute(f"UPDATE job_request SET {assignments} WHERE request_id = %s", [*columns.values(), request_id])


@pytest.fixture
def ours(cursor: Any) -> Any:
    """Leave rows in every state, as this package does. One batch of each unfinished request is made."""
    one_made = {"processed_batches": json.dumps([made("b1", "zip")]), "download_urls": [made("b1", "zip")["filePath"]]}
    insert(cursor, "1-success", status="SUCCESS", **one_made)
    insert(cursor, "2-gave-up", status="FAILED", iteration=3, **one_made)
    keys = {name: insert(cursor, name, **one_made) for name in ("3-requeued", "4-failed", "5-rejected", "6-killed")}
    hook = hook_of("run")
    hook.claim(chosen())
    hook.requeue(*keys["3-requeued"])
    hook.fail(*keys["4-failed"], "Cassandra does not answer")
    hook._end(keys["5-rejected"], Ending(ClaimOutcome.FAILED, "It would be public without protection", permanent=True))
    insert(cursor, "7-new")
    insert(cursor, "8-without-iteration", iteration=None)
    insert(cursor, "9-submitted-again", iteration=3)
    insert(cursor, "other-job", job_id="userinfo-exhaust", iteration=3)
    return cursor


def test_without_the_step_the_spark_job_takes_the_wrong_rows(ours: Any) -> None:
    taken = taken_by_spark(ours)
    assert "5-rejected" in taken  # it would make the file with less protection
    assert {"6-killed", "8-without-iteration", "9-submitted-again"} & set(taken) == set()  # it would never make them
    packages = [name for name in taken if ".zip" in json.dumps(row_of(ours, name)["processed_batches"])]
    assert packages == ["3-requeued", "4-failed", "5-rejected"]  # it would put these packages into a zip again


def test_the_spark_job_takes_what_is_not_finished_and_no_package_of_ours(ours: Any) -> None:
    finished = [row_of(ours, name) for name in ("1-success", "2-gave-up", "other-job")]
    ours.execute(ROLL_BACK)
    taken = taken_by_spark(ours)
    assert taken == ["3-requeued", "4-failed", "6-killed", "7-new", "8-without-iteration", "9-submitted-again"]
    for name in taken:
        row = row_of(ours, name)
        assert (row["processed_batches"] or [], row["download_urls"] or []) == ([], [])
    assert [row_of(ours, name) for name in ("1-success", "2-gave-up", "other-job")] == finished
    assert row_of(ours, "5-rejected")["download_urls"] == [made("b1", "zip")["filePath"]]
    assert holders(ours) == []


def test_forward_again_this_package_takes_what_the_spark_job_did_not_finish(ours: Any) -> None:
    ours.execute(ROLL_BACK)
    part = json.dumps([made("b1", "csv")])
    write(ours, "3-requeued", status="SUBMITTED", processed_batches=part)  # the limit of its channel was reached
    write(ours, "4-failed", status="FAILED", iteration=2, processed_batches=part)
    write(ours, "6-killed", status="SUCCESS", download_urls=[made("b1", "zip")["filePath"]], processed_batches=part)
    write(ours, "7-new", status="PROCESSING", processed_batches=part)  # it crashed
    write(ours, "8-without-iteration", status="FAILED", iteration=3)
    write(ours, "9-submitted-again", status="SUBMITTED")
    hook = hook_of("next run")
    claimed = {request.request_id: request for request in hook.claim(chosen(abandoned_before=AFTER)).requests}
    assert sorted(claimed) == ["3-requeued", "4-failed", "7-new", "9-submitted-again"]
    assert [request.finished() for request in claimed.values()] == [{}] * 4  # a csv was never packaged


def test_the_requests_of_shadow_runs_are_found(cursor: Any) -> None:
    for name, columns in {
        "recent": {"status": "SUCCESS", "dt_job_completed": datetime.now(UTC)},
        "old": {"status": "SUCCESS", "dt_job_completed": AFTER},
        "failed": {"status": "FAILED", "dt_job_completed": datetime.now(UTC)},
        "other": {"status": "SUCCESS", "dt_job_completed": datetime.now(UTC), "job_id": "userinfo-exhaust"},
    }.items():
        insert(cursor, name, **columns)
    cursor.execute(SHADOW_REQUESTS)
    assert [row[0] for row in cursor.fetchall()] == ["recent"]

"""A row of job_request is deleted while a run makes its request."""

from datetime import timedelta

import pytest

from dev.world import ORG, REQUESTED_AT, Row, World, request_row
from tests.integration.install import Install

# The row is deleted at the moment at which a stage of its first batch starts.
DELETE_ROW = """
CREATE FUNCTION delete_row() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN DELETE FROM public.job_request WHERE request_id = NEW.request_id; RETURN NEW; END $$;
CREATE TRIGGER delete_row AFTER UPDATE ON progress_exhaust.batch_run FOR EACH ROW
WHEN (NEW.stage = '{stage}' AND OLD.stage <> NEW.stage AND NEW.request_id = '{request_id}') EXECUTE FUNCTION delete_row()
"""


def ask(world: World, number: int) -> Row:
    data = {"batchId": world.batches[0]["batchid"]}
    at = REQUESTED_AT + timedelta(seconds=number)
    return request_row(data, label=f"label{number}", channel=ORG, by=f"requester {number}", at=at)


@pytest.mark.parametrize("stage", ["pivot", "package", "mark_complete"])
def test_a_run_reports_that_the_row_was_deleted_and_leaves_nothing(queue: Install, world: World, stage: str) -> None:
    deleted, other = ask(world, 1), ask(world, 2)
    queue.submit([deleted, other])
    queue.sql(DELETE_ROW.format(stage=stage, request_id=deleted["request_id"]))
    try:
        result = queue.run_dag(retries=1)
    finally:
        queue.sql("DROP FUNCTION delete_row CASCADE")
    assert result.state == "success", result.failed()
    assert result.says(f"request {deleted['request_id']} no longer exists in job_request")
    assert sorted(result.states("batch.mark_complete")) == ["skipped", "success"]
    assert [key for key in queue.published() if deleted["request_id"] in key] == []
    assert queue.row(other)["status"] == "SUCCESS"
    claims = queue.sql("SELECT request_id, outcome, released_at IS NULL AS held FROM progress_exhaust.claim")
    assert {claim["request_id"]: (claim["outcome"], claim["held"]) for claim in claims} == {
        deleted["request_id"]: ("lost", False),
        other["request_id"]: ("SUCCESS", False),
    }
    assert queue.staged() == []
    assert not queue.run_dag().says(deleted["request_id"]), "it is reported once"


def test_taking_one_request_of_an_ended_run_keeps_the_staging_of_the_others(queue: Install, world: World) -> None:
    requests = [ask(world, number) for number in (1, 2)]
    queue.submit(requests)
    failed = queue.run_dag(connections={"USERS": "redis://127.0.0.1:9"})
    assert failed.state == "failed"
    queue.sql("UPDATE progress_exhaust.claim SET released_at = NULL, outcome = NULL")  # as if it had been killed
    queue.sql("UPDATE job_request SET status = 'PROCESSING'")
    before = [path for path in queue.staged() if requests[1]["request_id"] in path]
    assert any(path.endswith("batch.json") for path in before)
    assert queue.run_dag({"request_ids": [requests[0]["request_id"]]}).state == "success"
    assert [path for path in queue.staged() if requests[1]["request_id"] in path] == before
    assert not [path for path in queue.staged() if requests[0]["request_id"] in path]
    assert queue.run_dag().state == "success"
    assert queue.staged() == []
    assert {row["status"] for row in queue.rows().values()} == {"SUCCESS"}


def test_an_ended_runs_claim_on_a_deleted_row_is_released_with_one_warning(queue: Install, world: World) -> None:
    requests = [ask(world, number) for number in (1, 2, 3)]
    queue.submit(requests)
    ended = queue.run_dag({"request_ids": [requests[0]["request_id"]]}).run_id
    queue.sql(
        "INSERT INTO progress_exhaust.claim (tag, request_id, installation, run_id) "
        "VALUES ('tag', 'deleted', %(installation)s, %(run_id)s), ('tag', 'no/path part', %(installation)s, %(run_id)s)",
        {"installation": queue.installation, "run_id": ended},
    )
    first = queue.run_dag({"request_ids": [requests[1]["request_id"]]})
    assert first.says("Released request deleted", ended)
    [claim] = queue.sql("SELECT outcome FROM progress_exhaust.claim WHERE request_id = 'deleted'")
    assert claim["outcome"] == "lost"
    second = queue.run_dag({"request_ids": [requests[2]["request_id"]]})
    assert not second.says("deleted", ended)

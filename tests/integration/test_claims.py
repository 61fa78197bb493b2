"""Claims of a DAG run: which lost claims it reclaims, as Airflow states them, and what it does without its claim."""

from datetime import timedelta
from typing import Any

import pytest

from dev.world import ORG, REQUESTED_AT, Row, World, request_row
from tests.integration.install import REPORT_DAY, Install
from tests.oracle import expected_csv

OTHER_RUN = "scheduled__of_another_scheduler"
STAGES = ("fetch_hierarchy", "extract", "pivot", "package", "mark_complete")

# Another run takes the request over at the very moment at which this one says in the ledger that a stage begins.
TAKEOVER = """
CREATE FUNCTION change_holder() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  UPDATE progress_exhaust.claim SET released_at = now(), outcome = 'lost' WHERE released_at IS NULL;
  INSERT INTO progress_exhaust.claim (tag, request_id, installation, run_id)
    VALUES (NEW.tag, NEW.request_id, NEW.installation, TG_ARGV[0]);
  RETURN NEW;
END $$;
CREATE TRIGGER change_holder AFTER UPDATE ON progress_exhaust.batch_run FOR EACH ROW
WHEN (NEW.stage = '{stage}' AND OLD.stage <> NEW.stage)
EXECUTE FUNCTION change_holder('{run_id}')
"""

# A newer attempt of list_batches has made the list again when the transaction of this one ends.
LIST_ANEW = """
CREATE FUNCTION list_anew() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  UPDATE progress_exhaust.batch_run SET task_attempts = '{"list_batches": 9}' WHERE run_id = NEW.run_id;
  RETURN NEW;
END $$;
CREATE CONSTRAINT TRIGGER list_anew AFTER INSERT ON progress_exhaust.batch_run DEFERRABLE INITIALLY DEFERRED
FOR EACH ROW EXECUTE FUNCTION list_anew()
"""


def ask(world: World, number: int, **changes: Any) -> Row:
    """Make a request for the batch; each of another user, so that none is a duplicate."""
    at = REQUESTED_AT + timedelta(seconds=number)
    data = {"batchId": world.batches[0]["batchid"]}
    return request_row(data, label=f"label{number}", channel=ORG, by=f"requester {number}", at=at) | changes


def let_hold(install: Install, request: Row, run_id: str) -> None:
    install.sql(
        "INSERT INTO progress_exhaust.claim (tag, request_id, installation, run_id) VALUES (%s, %s, %s, %s)",
        [request["tag"], request["request_id"], install.installation, run_id],
    )


def claims(install: Install, request: Row) -> list[Row]:
    return install.sql(
        "SELECT run_id, outcome, released_at IS NULL AS held FROM progress_exhaust.claim"
        " WHERE request_id = %s ORDER BY claimed_at",
        [request["request_id"]],
    )


def whole_row(install: Install, request: Row) -> str:
    [row] = install.sql("SELECT (xmin, j)::text AS all FROM job_request j WHERE request_id = %s", [request["request_id"]])
    return str(row["all"])


def test_only_airflow_decides_that_a_claim_is_lost(queue: Install, world: World) -> None:
    succeeded, failed, running = (queue.run_dag().run_id for _ in range(3))
    airflow = queue.airflow
    airflow.set_state(failed, "failed")
    airflow.set_state(running, "running")
    # The oldest is the one that lives: age says nothing.
    holders = {"lives": running, "succeeded": succeeded, "failed": failed, "unknown": "manual__that_airflow_never_heard_of"}
    held = {name: ask(world, number, status="PROCESSING") for number, name in enumerate(holders)}
    held["queued"] = ask(world, 10, status="PROCESSING")
    pending = ask(world, 11)
    queue.submit([*held.values(), pending])
    queued = queue.run_dag({"batch_ids": [world.batches[0]["batchid"]]}).run_id
    airflow.set_state(queued, "queued")
    holders["queued"] = queued
    for name, run_id in holders.items():
        let_hold(queue, held[name], run_id)
    alive = {name: whole_row(queue, held[name]) for name in ("lives", "queued")}
    try:
        result = queue.run_dag()
    finally:
        airflow.set_state(running, "failed")
        airflow.set_state(queued, "failed")
    assert result.state == "success", result.failed()
    for name, before in alive.items():
        assert whole_row(queue, held[name]) == before
        assert claims(queue, held[name]) == [{"run_id": holders[name], "outcome": None, "held": True}]
    for name in ("succeeded", "failed", "unknown"):
        row = queue.row(held[name])
        assert (row["status"], row["iteration"]) == ("SUCCESS", 1)  # the attempt that died counts
        assert claims(queue, held[name]) == [
            {"run_id": holders[name], "outcome": "lost", "held": False},
            {"run_id": result.run_id, "outcome": "SUCCESS", "held": False},
        ]
        assert result.says("Reclaimed request", holders[name])
    assert not result.says("Reclaimed request", running) and not result.says("Reclaimed request", queued)
    assert (queue.row(pending)["status"], queue.row(pending)["iteration"]) == ("SUCCESS", 0)


@pytest.mark.parametrize("stage", STAGES)
def test_a_run_that_lost_its_claim_publishes_nothing_and_says_who_holds_it(queue: Install, world: World, stage: str) -> None:
    request = ask(world, 1)
    queue.submit([request])
    queue.sql(f"DROP FUNCTION IF EXISTS change_holder CASCADE; {TAKEOVER.format(stage=stage, run_id=OTHER_RUN)}")
    result = queue.run_dag(retries=2)
    assert result.state == "failed"
    # A stage that only reads may end; the next one sees the loss. What writes outside sees it before it writes.
    found_by = stage if stage in ("package", "mark_complete") else STAGES[STAGES.index(stage) + 1]
    assert result.failed() == [f"batch.{found_by}"]
    assert [task["tries"] for task in result.tasks if task["task_id"] == f"batch.{found_by}"] == [1]  # no retry wins it back
    assert result.says(f"request {request['request_id']} is held by run {OTHER_RUN}")
    # What was published while this run was the holder is the same object that the new holder replaces.
    assert len(queue.published()) == (1 if stage == "mark_complete" else 0)
    row = queue.row(request)
    assert (row["status"], row["iteration"], row["err_message"]) == ("PROCESSING", 0, None)
    assert (row["download_urls"], row["processed_batches"], row["dt_job_completed"]) == (None, None, None)
    assert claims(queue, request)[-1] == {"run_id": OTHER_RUN, "outcome": None, "held": True}

    # Airflow does not know the other run: the next run reclaims its request, and makes the report.
    queue.sql("DROP FUNCTION change_holder CASCADE")
    assert queue.run_dag().state == "success"
    [key] = queue.row(request)["download_urls"]
    assert queue.csv(key) == expected_csv(world, request, world.batches[0]["batchid"], REPORT_DAY)
    assert {path.split("/")[0] for path in queue.staged()} <= {result.run_id}


def test_a_late_list_hands_nothing_on(queue: Install, world: World) -> None:
    """The retry's stages may be reading what it would write over."""
    request = ask(world, 1)
    queue.submit([request])
    queue.sql(LIST_ANEW)
    try:
        result = queue.run_dag(retries=2)
    finally:
        queue.sql("DROP FUNCTION list_anew CASCADE")
    assert result.failed() == ["list_batches"]
    assert [task["tries"] for task in result.tasks if task["task_id"] == "list_batches"] == [1]  # no retry wins it back
    assert result.says("list_batches: a newer attempt of this task has started")
    assert not [path for path in queue.staged() if path.endswith(".json")]


def test_a_run_of_a_request_that_it_cannot_claim_fails_with_the_reason(queue: Install, world: World) -> None:
    asked, done, foreign, held, spent = (ask(world, number) for number in range(5))
    queue.submit([asked, done, foreign | {"job_id": "response-exhaust"}, held, spent])
    queue.sql("UPDATE job_request SET status = 'SUCCESS' WHERE request_id = %s", [done["request_id"]])
    queue.sql("UPDATE job_request SET status = 'FAILED', iteration = 3 WHERE request_id = %s", [spent["request_id"]])
    queue.sql("UPDATE job_request SET status = 'PROCESSING' WHERE request_id = %s", [held["request_id"]])
    queue.run_dag({"batch_ids": [world.batches[0]["batchid"]]})  # makes the ledger
    queue.sql(
        "INSERT INTO progress_exhaust.claim (tag, request_id, installation, run_id) VALUES (%s, %s, %s, 'run-of-staging')",
        [held["tag"], held["request_id"], "b" * 32],
    )
    before = {request: queue.rows()[request] for request in queue.rows()}
    mistyped = f"{asked['request_id']}0"
    for names, settings, reason in (
        ([mistyped, asked["request_id"]], None, f"{mistyped}: table job_request has no such request"),
        ([foreign["request_id"]], None, f"{foreign['request_id']}: it belongs to the job response-exhaust"),
        ([done["request_id"]], None, f"{done['request_id']}: it is finished (SUCCESS). The Param force makes it again"),
        ([spent["request_id"], done["request_id"]], None, f"{spent['request_id']}: it has failed 3 times"),
        ([held["request_id"]], None, f"{held['request_id']}: it is held by run run-of-staging of another installation"),
        ([asked["request_id"]], {"channels": ["another"]}, f"the setting channels does not have its channel {ORG}"),
        ([asked["request_id"]], {"batch_number": 7}, "the setting batch_number is 7"),
    ):
        named = queue.run_dag({"request_ids": names}, settings=settings, retries=2)
        assert (named.state, named.failed()) == ("failed", ["claim_requests"])
        assert [task["tries"] for task in named.tasks if task["task_id"] == "claim_requests"] == [1]  # no retry fixes it
        assert named.says("Param request_ids: ", reason, "This run has claimed nothing")
        assert queue.rows() == before
    assert queue.run_dag({"request_ids": ["a"], "batch_ids": ["b"]}).says("Params request_ids and batch_ids: give one of them")

    # Of several, it takes what it can: others may have taken the rest since the run was asked for.
    assert queue.run_dag({"request_ids": [asked["request_id"], done["request_id"]]}).state == "success"
    assert queue.row(asked)["status"] == "SUCCESS"
    assert queue.run_dag().states("claim_requests") == ["skipped"], "a night without requests is not a mistake"

"""Batches after AssessmentArchivalJob, and after contents were removed: on real servers, by partitions and by scan."""

import json
from datetime import UTC, datetime

import pytest

from dev.world import (
    ORG,
    REQUESTED_AT,
    Row,
    World,
    archive_attempts,
    batch_row,
    collection_node,
    content_row,
    request_row,
    resource_node,
    sample_world,
    self_assess_node,
)
from tests.integration.install import REPORT_DAY, Install
from tests.oracle import expected_counts, expected_csv, expected_key, expected_lern7_csv

LESSONS, QUIZ = [resource_node(f"do_lesson{number}", "Lesson") for number in range(3)], self_assess_node("do_quiz", "Quiz")


def make_world() -> World:
    """Make a world with an archived batch of each org, and a course of three lessons that were all replaced."""
    world = sample_world()
    world.requests = [world.requests[0], world.requests[3]]
    for batch in (0, 2):
        archive_attempts(world, world.batches[batch]["batchid"])
    tree = collection_node("do_renewed", "Renewed", [*LESSONS, QUIZ], leafNodesCount=3)
    world.contents.append(content_row(tree, ORG))
    world.hierarchies["do_renewed"] = json.dumps(tree)
    world.batches.append(batch_row("do_renewed", "0133renewed", "Renewed", ORG))
    completed = [{"do_old1": 2, "do_old2": 2, "do_old3": 2}, {"do_old1": 2, "do_lesson0": 2, "do_lesson1": 1}]
    dates: list[Row] = [{"enrolled_date": datetime(2022, 1, 1, tzinfo=UTC)}, {"enrolleddate": ""}]
    for number, (statuses, date) in enumerate(zip(completed, dates, strict=True)):
        user = f"4d414e59-0000-4000-8000-{number:012}"
        keys = {"courseid": "do_renewed", "batchid": "0133renewed"}
        world.enrolments.append({"userid": user, **keys, "active": True, "contentstatus": statuses} | date)  # type: ignore[attr-defined]
        world.users.append((user, {"firstname": "Learner", "rootorgid": ORG}))  # type: ignore[attr-defined]
        attempt = {"user_id": user, "course_id": "do_renewed", "batch_id": "0133renewed", "attempt_id": "1", "total_score": 7.0}
        world.attempts.append(attempt | {"content_id": "do_old_quiz", "total_max_score": 10.0})  # type: ignore[attr-defined]
    data = {"batchId": "0133renewed"}
    world.requests.append(request_row(data, label="renewed", channel=ORG, by="requester", at=REQUESTED_AT))
    return world


@pytest.mark.parametrize("strategy", ["partitions", "scan"])
def test_archived_scores_and_removed_contents(queue: Install, strategy: str) -> None:
    world = make_world()
    queue.load(world)
    result = queue.run_dag(settings={"read_strategy": strategy, "learners_per_chunk": 60})
    assert (result.state, result.failed()) == ("success", [])
    [line] = [line for line in result.log.splitlines() if "event=run_settled" in line]
    learners = json.loads(line[line.index("{") : line.rindex("}") + 1])["learners"]
    expected = {"scores_from_aggregates": 0, "attempts_of_removed_contents": 0, "removed_contents_completed": 0}
    for request in world.requests:
        batch = request["request_data"]["batchId"]
        made = queue.csv(expected_key(request, batch, REPORT_DAY).removesuffix(".csv") + ".zip")
        assert made.decode() == expected_csv(world, request, batch, REPORT_DAY).decode()
        counts = expected_counts(world, request, batch)
        expected["scores_from_aggregates"] += counts.scores_from_aggregates
        expected["attempts_of_removed_contents"] += counts.attempts_of_removed
        expected["removed_contents_completed"] += counts.completed_removed
    assert {name: learners[name] for name in expected} == expected
    assert expected["scores_from_aggregates"] > 100 and expected["attempts_of_removed_contents"] == 1
    ledger = queue.sql("SELECT counts FROM progress_exhaust.batch_run WHERE batch_id = '0133renewed'")
    assert [row["counts"]["removed_contents_completed"] for row in ledger] == [3]


def test_the_layout_of_the_spark_job_stays_as_it_is(queue: Install) -> None:
    world = make_world()
    queue.load(world)
    assert queue.run_dag({"layout": "sunbird-lern-7"}).state == "success"
    for request in world.requests:
        batch = request["request_data"]["batchId"]
        made = queue.csv(expected_key(request, batch, REPORT_DAY).removesuffix(".csv") + ".zip")
        assert made.decode() == expected_lern7_csv(world, request, batch).decode()
    assert made.decode().count("\n") == 3  # both learners, also the one with an empty date


def test_scores_from_the_aggregates_alone(queue: Install) -> None:
    # The attempts are in the table, too, with scores that no report may have: the tests above would find them.
    archived, loaded = sample_world(), sample_world()
    archived.requests = loaded.requests = archived.requests[:1]
    batch = archived.batches[0]["batchid"]
    archive_attempts(archived, batch)
    loaded.aggregates = archived.aggregates
    loaded.attempts = [row | {"total_score": 999.0, "grand_total": "999/999"} for row in loaded.attempts]
    queue.load(loaded)
    settings = {"scores_from": "aggregates", "read_strategy": "scan", "learners_per_chunk": 60}
    refused = queue.run_dag({"layout": "sunbird-lern-7", "dry_run": True}, settings=settings)
    assert refused.state == "failed" and refused.says("Layout sunbird-lern-7 shows no scores of the aggregates")
    assert queue.run_dag(settings=settings).state == "success"
    [request] = archived.requests
    made = queue.csv(expected_key(request, batch, REPORT_DAY).removesuffix(".csv") + ".zip")
    assert made.decode() == expected_csv(archived, request, batch, REPORT_DAY).decode()
    [row] = queue.sql("SELECT counts FROM progress_exhaust.batch_run WHERE state = 'done'")
    assert row["counts"]["scores_from_aggregates"] == expected_counts(archived, request, batch).scores_from_aggregates > 10

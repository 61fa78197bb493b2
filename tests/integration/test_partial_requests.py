"""A request gets what can be made: one batch never fails another, and one request never blocks another."""

from datetime import timedelta
from typing import Any

import pytest

import dev.content_api
from dev.world import ORG, REQUESTED_AT, Row, World, batch_row, batch_world, collection_node, content_row, request_row
from tests.integration.install import REPORT_DAY, Install
from tests.oracle import expected_csv

SECOND = "0199second"  # a batch of the same collection as the first
RETIRED, TREELESS, UNKNOWN = "0199retired", "0199treeless", "0199unknown"
NO_TREE = "Collection do_treeless has no content tree. Publish it, then ask again"
TRIED_AGAIN = "could not be made this time. The next run tries again, up to three times in all"
LAST_ATTEMPT = "could not be made in three attempts. Submit the request again"


@pytest.fixture(scope="module")
def world(install: Install) -> World:
    """Load two batches that can be made, one of a retired collection, and one of a collection without a tree."""
    made = batch_world(12, nested=1, assessments=2, leaves=5)
    for identifier, batch_id, status in (("do_retired", RETIRED, "Retired"), ("do_treeless", TREELESS, "Live")):
        made.contents.append(content_row(collection_node(identifier, identifier, []), ORG, status))
        made.batches.append(batch_row(identifier, batch_id, "Odd", ORG))
    made.batches.append(batch_row(made.batches[0]["courseid"], SECOND, "Second", ORG))
    asked, made.requests = made.requests, []
    install.load(made)
    made.requests = asked
    return made


def ask(data: Any, number: int = 1, **changes: Any) -> Row:
    at = REQUESTED_AT + timedelta(seconds=number)
    return request_row(data, label=f"label{number}", channel=ORG, by=f"requester {number}", at=at) | changes


def key_of(request: Row, batch_id: str) -> str:
    return f"progress-exhaust/{request['request_id']}/{batch_id}_progress_{REPORT_DAY:%Y%m%d}.zip"


def outcome(install: Install, request: Row) -> tuple[str, int, str | None, list[str] | None]:
    row = install.row(request)
    return row["status"], row["iteration"], row["err_message"], row["download_urls"]


def errors(install: Install, request: Row) -> dict[str, tuple[str, str | None]]:
    rows = install.sql(
        "SELECT batch_id, state, error FROM progress_exhaust.batch_run WHERE request_id = %s", [request["request_id"]]
    )
    return {row["batch_id"]: (row["state"], row["error"]) for row in rows}


# Permanent errors


def test_one_batch_never_fails_another(queue: Install, world: World) -> None:
    good = world.batches[0]["batchid"]
    request = ask({"batchFilter": [UNKNOWN, good, RETIRED, TREELESS, "../x"]})
    queue.submit([request])
    result = queue.run_dag()
    assert result.state == "success", result.failed()
    invalid = "the id of the batch or its collection is not valid. Use only letters, digits, '-', '_' and '.'"
    reasons = {UNKNOWN: "no such batch", RETIRED: "its collection is retired", TREELESS: NO_TREE, "../x": invalid}
    words = "; ".join(f"{batch_id}: {reason}" for batch_id, reason in reasons.items())
    key = key_of(request, good)
    assert outcome(queue, request) == ("SUCCESS", 0, f"Made 1 of 5 batches. Not made: {words}", [key])
    assert queue.csv(key) == expected_csv(world, request, good, REPORT_DAY)
    assert errors(queue, request) == {
        good: ("done", None), **{batch_id: ("rejected", reason) for batch_id, reason in reasons.items()}
    }  # fmt: skip
    assert queue.staged() == []
    assert queue.run_dag().states("claim_requests") != ["success"], "a finished request is not taken again"


def test_a_request_of_which_no_batch_can_be_made_costs_no_attempt(queue: Install, world: World) -> None:
    rejected = {
        "unknown": (ask({"batchId": UNKNOWN}, 1), f"No data found: there is no batch {UNKNOWN}"),
        "retired": (ask({"batchId": RETIRED}, 2), f"The request is made for retired collection: batch {RETIRED}"),
        "treeless": (ask({"batchId": TREELESS}, 3), f"Batch {TREELESS} cannot be made: {NO_TREE}"),
        "mixed": (
            ask({"batchFilter": [UNKNOWN, TREELESS]}, 4),
            f"Batch {UNKNOWN} cannot be made: no such batch; Batch {TREELESS} cannot be made: {NO_TREE}",
        ),
    }
    queue.submit([request for request, _ in rejected.values()])
    assert queue.run_dag().state == "success"
    for name, (request, message) in rejected.items():
        assert outcome(queue, request) == ("FAILED", 0, message, None), name
    # No run tries them again by itself: one that is named or submitted again is tried.
    assert queue.run_dag().states("claim_requests") == ["skipped"]
    treeless = rejected["treeless"][0]
    assert queue.run_dag({"request_ids": [treeless["request_id"]]}).states("claim_requests") == ["success"]
    queue.sql("UPDATE job_request SET status = 'SUBMITTED' WHERE request_id = %s", [treeless["request_id"]])
    assert queue.run_dag().states("claim_requests") == ["success"]
    assert outcome(queue, treeless)[:2] == ("FAILED", 0)


@pytest.mark.parametrize("wrong", ["table", "connection"])
def test_an_error_of_the_installation_costs_no_attempt_and_is_not_called_transient(
    queue: Install, world: World, wrong: str
) -> None:
    good = world.batches[0]["batchid"]
    request = ask({"batchId": good})
    queue.submit([request])
    for _ in range(3):
        if wrong == "table":
            result = queue.run_dag(settings={"hierarchy_table": f"{queue.names.hierarchies}.trees"})
        else:
            result = queue.run_dag(connections={"USERS": ""})
        assert result.failed() == ["batch.fetch_hierarchy"]
        words = f"Batch {good} cannot be made until an operator corrects the installation. After that, the next run makes it"
        assert outcome(queue, request) == ("FAILED", 0, words, None)
    assert queue.run_dag().state == "success"
    assert outcome(queue, request) == ("SUCCESS", 0, None, [key_of(request, good)])


# Transient errors


def test_a_failed_request_offers_what_is_made_and_says_how_often_it_is_tried(
    queue: Install, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = world.batches[0]["batchid"]

    def no_tree(_: str) -> Row:
        raise ConnectionError("of a moment")

    monkeypatch.setattr(queue.content, "hierarchy", no_tree)
    monkeypatch.setattr(queue.content, "handle_error", lambda *_: None)
    request = ask({"batchFilter": [SECOND, TREELESS, UNKNOWN, good]})
    queue.submit([request])
    urls = [key_of(request, SECOND), key_of(request, good)]
    for attempt, words in enumerate((TRIED_AGAIN, TRIED_AGAIN, LAST_ATTEMPT), 1):
        assert queue.run_dag().failed() == ["batch.fetch_hierarchy"]
        message = f"Made 2 of 4 batches. Not made: {TREELESS}: {words}; {UNKNOWN}: no such batch"
        assert outcome(queue, request) == ("FAILED", attempt, message, urls)
    assert queue.run_dag().states("claim_requests") == ["skipped"]
    assert sorted(queue.published()) == sorted(urls)


# Errors of sources while the batches are listed


@pytest.fixture
def broken_search(queue: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the content search hang up on every search for the channel `broken`, and answer all others."""
    honest = dev.content_api.search

    def search(contents: list[Row], body: Any) -> Row:
        if body["request"]["filters"].get("channel") == "broken":
            raise ConnectionError("too much for this search")
        return honest(contents, body)

    monkeypatch.setattr(dev.content_api, "search", search)
    monkeypatch.setattr(queue.content, "handle_error", lambda *_: None)


@pytest.mark.usefixtures("broken_search")
@pytest.mark.parametrize("alone", [False, True])
def test_the_search_of_one_request_blocks_no_other(queue: Install, world: World, alone: bool) -> None:
    good = world.batches[0]["batchid"]
    broken = ask({"searchFilter": {"request": {"filters": {"channel": "broken"}}}}, 1)
    named = ask({"batchId": good}, 2)
    queue.submit([broken] if alone else [broken, named])
    words = (
        "The next run tries again, up to three times in all",
        "The next run tries again, up to three times in all",
        "in three attempts",
    )
    for attempt, its in enumerate(words, 1):
        result = queue.run_dag()
        assert (result.failed(), result.state) == ([], "failed"), "an engineer should look"
        assert result.says("requests could not be listed", broken["request_id"])
        status, iteration, message, urls = outcome(queue, broken)
        assert (status, iteration, urls) == ("FAILED", attempt, None)
        assert message and message.startswith("The batches of the request could not be listed") and its in message
        if not alone:
            assert outcome(queue, named) == ("SUCCESS", 0, None, [key_of(named, good)])
    assert queue.run_dag().states("claim_requests") == ["skipped"]


def test_a_source_that_is_down_fails_the_task_and_every_request_says_so(
    queue: Install, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def down() -> list[Row]:
        raise ConnectionError("down")

    good = world.batches[0]["batchid"]
    requests = [ask({"batchId": good}, 1), ask({"searchFilter": {"request": {"filters": {"channel": ORG}}}}, 2)]
    queue.submit(requests)
    with monkeypatch.context() as patch:
        patch.setattr(queue.content, "contents", down)
        patch.setattr(queue.content, "handle_error", lambda *_: None)
        assert queue.run_dag().failed() == ["list_batches"]
    message = "The batches of the request could not be listed this time. The next run tries again"
    for request in requests:
        assert outcome(queue, request) == ("SUBMITTED", 0, message, None)
    queue.run_dag()
    assert outcome(queue, requests[0]) == ("SUCCESS", 0, None, [key_of(requests[0], good)])


# Two rows with one request_id


def test_of_two_rows_with_one_request_id_the_younger_is_rejected(queue: Install, world: World) -> None:
    good = world.batches[0]["batchid"]
    older, same = ask({"batchId": good}, 1), ask({"batchId": good}, 3, requested_by="requester 1")
    younger = ask({"batchId": SECOND}, 2, request_id=older["request_id"])
    queue.submit([younger, same, older])
    assert queue.run_dag().state == "success"
    rows = {row["tag"]: row for row in queue.sql("SELECT * FROM job_request")}
    for request in (older, same):
        row = rows[request["tag"]]
        assert (row["status"], row["err_message"], row["download_urls"]) == ("SUCCESS", None, [key_of(older, good)])
    row = rows[younger["tag"]]
    message = "An older request has the same request_id. Submit this request again under another request_id"
    assert (row["status"], row["iteration"], row["err_message"], row["download_urls"]) == ("FAILED", 0, message, None)
    assert list(queue.published()) == [key_of(older, good)]


# A dry run


def test_a_dry_run_says_what_would_be_and_not_that_it_is(queue: Install, world: World) -> None:
    queue.submit([ask({"batchId": UNKNOWN}, 1), ask({"foo": 1}, 2)])
    result = queue.run_dag({"dry_run": True})
    assert result.state == "success"
    assert result.says("would be FAILED", UNKNOWN)
    assert not result.says(": FAILED")

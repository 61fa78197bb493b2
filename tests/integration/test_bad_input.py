"""Errors in requests, settings, tables and servers. Each message says what to do."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from dev.machine import is_free
from dev.world import (
    ORG,
    REQUESTED_AT,
    Row,
    World,
    batch_row,
    batch_world,
    collection_node,
    content_row,
    request_row,
    resource_node,
)
from tests.integration.install import REPORT_DAY, Install
from tests.oracle import expected_csv

MANY = [f"0199{number:04}" for number in range(21)]  # batches: one more than a request may name
LEARNERS = 120  # over 100: what is missing from the cache is looked at


@pytest.fixture(scope="module")
def world(install: Install) -> World:
    """Load one batch of some learners, and one of a retired collection; nothing is asked for yet."""
    made = batch_world(LEARNERS, nested=1, assessments=2, leaves=5)
    retired = collection_node("do_retired", "Retired", [resource_node("do_lesson", "Lesson")])
    made.contents.append(content_row(retired, ORG, "Retired"))
    made.batches.append(batch_row("do_retired", "0199retired", "Retired", ORG))
    # Ids that are not plain path parts, on rows that are there.
    climbing = collection_node("../do_climbing", "Climbing", [resource_node("do_lesson", "Lesson")])
    made.contents.append(content_row(climbing, ORG))
    made.batches.append(batch_row("../do_climbing", "0199climbing", "Climbing", ORG))
    made.batches += [batch_row(made.contents[0]["identifier"], batch, "One of many", ORG) for batch in MANY]
    asked, made.requests = made.requests, []
    install.load(made)
    made.requests = asked
    return made


def ask(data: Any, seconds: int = 1, **changes: Any) -> Row:
    row = request_row({}, label=f"label{seconds}", channel=ORG, by="requester", at=REQUESTED_AT + timedelta(seconds=seconds))
    return row | {"request_data": data} | changes


def is_made(install: Install, world: World, request: Row) -> bool:
    """Tell whether a request got the report that it is to get."""
    row, batch = install.row(request), world.batches[0]["batchid"]
    if row["status"] != "SUCCESS":
        return False
    [key] = row["download_urls"]
    return install.csv(key) == expected_csv(world, request, batch, REPORT_DAY)


# Requests


def test_an_empty_queue_is_a_green_run_that_does_nothing(queue: Install, world: World) -> None:
    theirs = ask({"batchId": world.batches[0]["batchid"]}, job_id="userinfo-exhaust")
    given_up = ask({"foo": 1}, 2, status="FAILED", iteration=3, err_message="three times")
    at_work = ask({"foo": 1}, 3, status="PROCESSING", dt_job_submitted=datetime.now(UTC))
    queue.submit([theirs, given_up, at_work])
    everything = "SELECT (ctid, xmin, j)::text AS all FROM job_request j ORDER BY request_id"
    before = queue.sql(everything)
    result = queue.run_dag()
    assert result.state == "success"
    assert result.states("wait_for_requests") == result.states("claim_requests") == result.states("list_batches") == ["skipped"]
    assert result.states("batch.extract") == ["skipped"]
    assert queue.sql(everything) == before
    assert queue.published() == {}
    assert queue.sql("SELECT * FROM progress_exhaust.claim") == []


OUTSIDE = ["../x", "..", ".", "a/b", "/etc/x", "%2e%2e%2fx", "a\\b", "..%2f", " ", "a\n", "x" * 151, "अ"]
NO_REQUESTS = {
    "no JSON at all": "not valid JSON",
    "": "not valid JSON",
    "{": "not valid JSON",
    '["a"]': "JSON object",
    '"0133"': "JSON object",
    "null": "JSON object",
    "{}": "either of batchId, batchFilter, searchFilter",
    '{"foo": 1}': "either of batchId, batchFilter, searchFilter",
    '{"batchId": 7}': "must be a text",
    '{"batchFilter": "0133"}': "a list of texts",
    '{"batchFilter": [["0133"]]}': "a list of texts",
    '{"searchFilter": {}}': "either of batchId, batchFilter, searchFilter",
    '{"searchFilter": {"request": {"filters": {}}}}': "must hold a request with filters",
    '{"searchFilter": {"request": {"filters": {"a": 1}, "limit": "ten"}}}': "must be a whole number",
    # The API's own answer 400, in its words.
    '{"searchFilter": {"request": {"filters": {"name": {"!=": "x"}}}}}': "only equality and lists are supported",
    '{"searchFilter": {"request": {"filters": {"identifier": "do_unknown"}}}}': "No data found",
    '{"searchFilter": {"request": {"filters": {"identifier": "do_retired", "status": "Retired"}}}}': "retired collection",
    '{"batchId": "0199unknown"}': "there is no batch 0199unknown",
    '{"batchId": "0199retired"}': "retired collection: batch 0199retired",
    '{"batchId": "0199climbing"}': "not valid",
    "[" * 3000: "not valid JSON",
}


def test_requests_that_can_never_be_met_fail_in_plain_words_and_the_others_are_made(queue: Install, world: World) -> None:
    """On the oldest kind of table: text for JSON, varchars for texts, no iteration counted."""
    queue.sql(
        "ALTER TABLE job_request ALTER request_data TYPE text, ALTER processed_batches TYPE text,"
        " ALTER err_message TYPE varchar(100), ALTER encryption_key TYPE varchar(50), ALTER requested_by TYPE varchar(50)"
    )
    batch = world.batches[0]["batchid"]
    good = ask(json.dumps({"batchFilter": [batch, batch]}), 500, iteration=None)
    mixed = ask(json.dumps({"batchFilter": [batch, "0199unknown"]}), 501, iteration=None)
    too_many = ask(json.dumps({"batchFilter": MANY}), 502)
    null = ask(None, 503)
    bad = {text: ask(text, number, iteration=None) for number, text in enumerate(NO_REQUESTS)}
    outside = [ask(json.dumps({"batchId": text}), 100 + number) for number, text in enumerate(OUTSIDE)]
    by_name = [
        ask(json.dumps({"batchId": batch}), 300 + number, request_id=text, requested_by=str(number))
        for number, text in enumerate(OUTSIDE)
    ]
    partly = [ask(json.dumps({"batchFilter": [batch, text]}), 200 + number) for number, text in enumerate(OUTSIDE)]
    queue.submit([good, mixed, too_many, null, *bad.values(), *outside, *partly, *by_name])
    result = queue.run_dag(settings={"batches_per_run": 100})
    assert result.state == "success", result.failed()
    assert is_made(queue, world, good)
    assert isinstance(queue.row(good)["processed_batches"], str)
    rows = queue.rows()
    expected = {bad[text]["request_id"]: words for text, words in NO_REQUESTS.items()}
    expected |= {row["request_id"]: "The id of a batch or its collection is not valid" for row in outside}
    expected |= {row["request_id"]: "The request's id is not valid" for row in by_name}
    expected |= {
        too_many["request_id"]: "Number of batches in request exceeded. It should be within 20",
        null["request_id"]: "not valid JSON",
    }
    assert len(rows) == len(expected) + len(partly) + 2
    for request in (mixed, *partly):
        assert is_made(queue, world, request)
        assert rows[request["request_id"]]["err_message"].startswith("Made 1 of 2 batches. Not made: ")
    for request_id, words in expected.items():
        row = rows[request_id]
        assert (row["status"], row["iteration"] or 0) == ("FAILED", 0), row
        assert words in row["err_message"], row
        assert len(row["err_message"]) <= 100 and "Error" not in row["err_message"] and "Traceback" not in row["err_message"]
        assert row["download_urls"] is None and row["processed_batches"] is None
    made = [queue.row(request)["download_urls"] for request in (good, mixed, *partly)]
    assert sorted(queue.published()) == sorted(key for keys in made for key in keys)
    assert queue.staged() == []
    assert {path.name for path in queue.folder.iterdir()} == {"reports", "staging"}


def test_too_broad_a_search_fails_its_request_alone(queue: Install, world: World) -> None:
    """One page of its answer has more bytes than a whole search may have, and more pages follow."""
    collection = world.contents[0]["identifier"]
    filters = {"broad": {"channel": "broad"}, "narrow": {"identifier": collection}}
    searches = {
        name: ask({"searchFilter": {"request": {"filters": one}}}, number) for number, (name, one) in enumerate(filters.items())
    }
    named = ask({"batchId": world.batches[0]["batchid"]}, 2)
    contents = queue.content.data / "contents.json"
    before = contents.read_text()
    rows = [{"identifier": f"do_{number}", "channel": "broad", "status": "Live", "name": "x" * 170_000} for number in range(101)]
    contents.write_text(json.dumps(json.loads(before) + rows))
    try:
        queue.submit([*searches.values(), named])
        result = queue.run_dag(settings={"batches_per_request": 100})
    finally:
        contents.write_text(before)
    assert result.state == "success", result.failed()
    refused = queue.row(searches["broad"])
    assert (refused["status"], refused["iteration"]) == ("FAILED", 0)
    assert refused["err_message"] == "The search finds too many collections (101). Ask for fewer"
    assert is_made(queue, world, named)
    assert queue.row(searches["narrow"])["status"] == "SUCCESS"


def test_processed_batches_of_type_json_and_a_long_message_in_300_characters(queue: Install, world: World) -> None:
    queue.sql("ALTER TABLE job_request ALTER processed_batches TYPE json, ALTER err_message TYPE varchar(300)")
    batch = world.batches[0]["batchid"]
    good = ask({"batchId": batch}, iteration=None)
    many = ask({"batchFilter": [f"0199{number:018}" for number in range(19)]}, 2)
    queue.submit([good, many])
    result = queue.run_dag()
    assert result.state == "success", result.failed()
    assert is_made(queue, world, good)
    assert [entry["batchId"] for entry in queue.row(good)["processed_batches"]] == [batch]
    row = queue.row(many)
    assert (row["status"], row["iteration"]) == ("FAILED", 0)
    assert len(row["err_message"]) == 300 and row["err_message"].endswith("…")


# Servers that do not answer


def free_port() -> int:
    return next(port for port in range(21000, 60000) if is_free(port))


DOWN = {
    "REQUESTS": ("postgresql://some-user:s3cr3t-word@127.0.0.1:{port}/sunbird", "wait_for_requests", "progress_exhaust_requests"),
    "CASSANDRA": ("cassandra://some-user:s3cr3t-word@127.0.0.1:{port}", "list_batches", "progress_exhaust_cassandra"),
    "CONTENT": ("http://some-user:s3cr3t-word@127.0.0.1:{port}/api", "list_batches", "progress_exhaust_content"),
    "USERS": ("redis://:s3cr3t-word@127.0.0.1:{port}", "batch.fetch_hierarchy", "progress_exhaust_users"),
}


NEEDS_OPERATOR = {
    "err_message": "The batches of the request cannot be listed until an operator corrects the installation. "
    "After that, the next run tries again"
}
NOT_LISTED = {"err_message": "The batches of the request could not be listed this time. The next run tries again"}


@pytest.mark.parametrize("service", DOWN)
def test_a_server_that_is_down_is_named_with_its_connection(queue: Install, asked: Row, service: str) -> None:
    uri, task_id, connection_id = DOWN[service]
    port = free_port()
    before = queue.row(asked)
    result = queue.run_dag(connections={service: uri.format(port=port)})
    assert result.state == "failed"
    if service != "REQUESTS":  # with which settle_requests cannot work either
        assert result.states("wait_for_requests") == result.states("claim_requests") == ["success"]
    assert result.failed() == [task_id]
    assert result.says("127.0.0.1", str(port), connection_id), result.log
    assert "s3cr3t-word" not in result.log
    assert "s3cr3t-word" not in queue.airflow.all_that_is_kept()
    row = queue.row(asked)
    if service == "USERS":
        assert (row["status"], row["iteration"]) == ("FAILED", 1)
        assert "could not be made this time. The next run tries again" in row["err_message"]
        assert str(port) not in row["err_message"] and "progress_exhaust" not in row["err_message"]
    else:
        assert row == before | ({} if service == "REQUESTS" else NOT_LISTED)
    assert queue.published() == {}


def test_a_wrong_password_is_reported_without_showing_it(queue: Install, asked: Row) -> None:
    before = queue.row(asked)
    user, at, place = queue.postgres.partition("@")
    wrong = user.rpartition(":")[0] + ":s3cr3t-word" + at + place
    result = queue.run_dag(connections={"REQUESTS": wrong})
    assert (result.state, result.failed()) == ("failed", ["wait_for_requests"])
    assert result.says("progress_exhaust_requests", "password authentication failed")
    assert "s3cr3t-word" not in result.log
    assert queue.row(asked) == before


def test_an_error_of_a_moment_is_tried_again(queue: Install, world: World, asked: Row, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = queue.content.contents
    # The look-up fails, and the probe that asks whether the source works at all.
    failures = iter([ConnectionError("of a moment")] * 2)

    def contents() -> list[Row]:
        for failure in failures:
            raise failure
        return answers()

    monkeypatch.setattr(queue.content, "contents", contents)
    monkeypatch.setattr(queue.content, "handle_error", lambda *_: None)
    result = queue.run_dag(retries=2)
    assert result.state == "success"
    assert [task["tries"] for task in result.tasks if task["task_id"] == "list_batches"] == [2]
    assert result.says("progress_exhaust_content", "does not answer")
    assert is_made(queue, world, asked)


# Tables that are not as they have to be


def test_a_missing_column_of_job_request_stops_the_run_before_anything_is_touched(queue: Install, asked: Row) -> None:
    queue.sql("ALTER TABLE job_request DROP COLUMN processed_batches")
    before = queue.rows()
    result = queue.run_dag(retries=2)
    assert (result.state, result.failed()) == ("failed", ["wait_for_requests"])
    assert [task["tries"] for task in result.tasks if task["task_id"] == "wait_for_requests"] == [1]  # no retry
    assert result.says("lacks processed_batches (jsonb)", "Set job_request_table")
    assert "ALTER TABLE" not in result.log
    assert queue.rows() == before
    assert queue.sql("SELECT FROM progress_exhaust.claim") == []
    # A later version of the platform adds the column: it needs the grant too.
    queue.sql("ALTER TABLE job_request ADD COLUMN processed_batches jsonb")
    assert queue.run_dag(conf={"dry_run": True}).says("permission denied", "job_request", "docs/grants/postgres.sql")
    queue.grant()
    assert queue.run_dag(conf={"dry_run": True}).state == "success"


def test_a_missing_table_of_requests_is_named(queue: Install, asked: Row) -> None:
    result = queue.run_dag(settings={"job_request_table": "dev_job_request"})
    assert result.failed() == ["wait_for_requests"]
    assert result.says("no table", "dev_job_request", "job_request_table")


ENROLMENTS = (
    "day text, batchid text, courseid text, userid text, active boolean, enrolleddate text, completedon timestamp,"
    " contentstatus map<text, int>, certificates list<frozen<map<text, text>>>"
)
AGGREGATES = "activity_type text, activity_id text, user_id text, context_id text"


def test_what_cassandra_lacks_is_reported_with_the_setting(queue: Install, world: World, asked: Row) -> None:
    """tests/integration/test_table_shapes.py has the columns one by one."""
    keyspace = f"{queue.names.courses}_lacking"

    def run(statement: str, values: Any = None) -> Any:
        return queue.session.execute(statement.replace("LACKING", keyspace), values)

    def failed(task_id: str, *words: str, **settings: Any) -> bool:
        queue.sql("UPDATE job_request SET iteration = 0")  # a report that failed three times is not tried again
        result = queue.run_dag(settings={"courses_keyspace": keyspace} | settings, retries=2)
        assert result.failed() == [task_id]
        assert [task["tries"] for task in result.tasks if task["task_id"] == task_id] == [1]  # no retry
        assert "ALTER TABLE" not in result.log and "CREATE TABLE" not in result.log  # they are tables of the platform
        return result.says(*words)

    run("CREATE KEYSPACE LACKING WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 1}")
    run(f"GRANT SELECT ON KEYSPACE LACKING TO {queue.login}")
    before = queue.row(asked)
    assert failed("list_batches", "progress_exhaust_cassandra", f"has no table {keyspace}.course_batch", "Set courses_keyspace")
    run("CREATE TABLE LACKING.course_batch (courseid text, batchid text, PRIMARY KEY (courseid, batchid))")
    assert failed("list_batches", f"{keyspace}.course_batch lacks name", "Set courses_keyspace")
    assert queue.row(asked) == before | NEEDS_OPERATOR  # SUBMITTED again

    run("ALTER TABLE LACKING.course_batch ADD name text")
    batch = world.batches[0]
    run("INSERT INTO LACKING.course_batch (courseid, batchid) VALUES (%s, %s)", [batch["courseid"], batch["batchid"]])
    assert failed("batch.extract", f"has no table {keyspace}.user_activity_agg", "Set courses_keyspace")

    run(f"CREATE TABLE LACKING.user_activity_agg ({AGGREGATES}, PRIMARY KEY ((activity_type, activity_id, user_id), context_id))")
    assert failed("batch.extract", f"{keyspace}.user_activity_agg lacks agg, aggregates", "Set courses_keyspace")

    whole = {"courses_keyspace": queue.names.courses}
    run(f"CREATE TABLE LACKING.enrolments ({ENROLMENTS}, PRIMARY KEY (day, batchid))")
    assert failed("batch.extract", "the key (day, batchid)", "(userid, …)", enrolments_table=f"{keyspace}.enrolments", **whole)
    assert failed("batch.fetch_hierarchy", f"has no table {keyspace}.trees", hierarchy_table=f"{keyspace}.trees", **whole)
    assert queue.published() == {}
    run("DROP KEYSPACE LACKING")
    # All of these were errors of the site. Once they are fixed, the report is made.
    queue.sql("UPDATE job_request SET iteration = 0")
    assert queue.run_dag().state == "success"
    assert is_made(queue, world, asked)


# Settings and Params


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"learners_per_prt": 5}, ["unknown setting learners_per_prt", "did you mean learners_per_chunk?"]),
        (
            {"learners_per_chunk": 0, "report_timezone": "Mars"},
            ["learners_per_chunk", "report_timezone", "is not an IANA time zone"],
        ),
        ({"user_cache_db": "twelve"}, ["user_cache_db: "]),
    ],
)
def test_a_wrong_setting_is_refused(queue: Install, asked: Row, settings: Row, words: list[str]) -> None:
    before = queue.row(asked)
    result = queue.run_dag(settings=settings, retries=2)
    assert (result.state, result.states("wait_for_requests")) == ("failed", ["failed"])
    assert [task["tries"] for task in result.tasks if task["task_id"] == "wait_for_requests"] == [1]
    assert result.says("Variable progress_exhaust", *words)
    assert queue.row(asked) == before


def test_an_unknown_conf_key_is_refused(queue: Install, asked: Row) -> None:
    before = queue.row(asked)
    result = queue.run_dag(conf={"request_id": ["x"]})
    assert (result.state, result.states("wait_for_requests")) == ("failed", ["failed"])
    assert result.says("Unknown Param request_id", "did you mean request_ids?")
    assert queue.row(asked) == before


# The user cache


def test_a_flushed_user_cache_makes_no_report(queue: Install, world: World, asked: Row) -> None:
    users = {key: queue.users.hgetall(key) for key in queue.users.keys("user:*")}
    assert len(users) > 100
    queue.users.flushdb()
    result = queue.run_dag()
    assert (result.state, result.failed()) == ("failed", ["batch.extract"])
    assert result.says("missing from the user cache", "max_missing_users_percent (20)")
    row = queue.row(asked)
    assert (row["status"], row["iteration"], row["download_urls"]) == ("FAILED", 1, None)
    assert queue.published() == {}

    for key, fields in users.items():
        queue.users.hset(key, mapping=fields)
    # The next run takes it again, and another request for the same.
    undisturbed = ask({"batchId": world.batches[0]["batchid"]})
    queue.submit([undisturbed])
    assert queue.run_dag().state == "success"
    assert queue.row(asked)["iteration"] == 1
    assert is_made(queue, world, asked) and is_made(queue, world, undisturbed)
    assert len(set(map(len, queue.published().values()))) == 1


def test_dry_and_standalone_runs_change_no_row(queue: Install, world: World, asked: Row) -> None:
    batch = world.batches[0]["batchid"]
    everything = "SELECT (ctid, xmin, j)::text AS all FROM job_request j"
    before = queue.sql(everything)
    result = queue.run_dag({"dry_run": True})
    assert (result.state, result.states("batch.package")) == ("success", ["success"])
    assert (queue.published(), queue.staged()) == ({}, [])
    assert queue.run_dag({"batch_ids": [batch]}).state == "success"
    [key] = queue.published()
    assert key == f"progress-exhaust/{batch}_progress_20220928.zip"
    assert queue.csv(key) == expected_csv(world, None, batch, REPORT_DAY)
    result = queue.run_dag({"batch_ids": ["0199unknown"]})
    assert (result.state, result.failed()) == ("failed", ["list_batches"])
    assert result.says("Param batch_ids: No data found: there is no batch 0199unknown")
    assert queue.sql(everything) == before

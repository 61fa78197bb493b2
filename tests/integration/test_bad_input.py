"""Wrong input and absent services: each is said with what, where and what to do, and nothing else is harmed."""

import hashlib
import json
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

from dev.world import ORG, REQUESTED_AT, Row, World, batch_world, request_row, sample_world
from tests.integration.install import Install

CLOSED = "127.0.0.1:9"  # nobody listens there
DOWN = {
    "REQUESTS": (f"postgresql://user:secret@{CLOSED}/sunbird", "wait_for_requests", "progress_exhaust_requests"),
    "CASSANDRA": (f"cassandra://user:secret@{CLOSED}", "list_batches", "progress_exhaust_cassandra"),
    "USERS": (f"redis://:secret@{CLOSED}", "batch.fetch_hierarchy", "progress_exhaust_users"),
    "CONTENT": (f"http://user:secret@{CLOSED}/api", "list_batches", "progress_exhaust_content"),
}


@pytest.fixture(scope="module")
def world() -> World:
    return sample_world()


@pytest.fixture
def site(install: Install, queue: Install, world: World) -> Iterator[Install]:
    """The sample world's data, and one pending request: the first."""
    world = World(**(world.__dict__ | {"requests": world.requests[:1]}))
    install.load(world)
    install.settings = {}
    yield install
    install.settings = {}


def ask(data: Any, **more: Any) -> Row:
    return request_row(data, label="more", channel=ORG, by="somebody", at=REQUESTED_AT + timedelta(minutes=1)) | more


def test_an_empty_queue_is_a_skipped_green_run(site: Install) -> None:
    site.sql("DELETE FROM job_request")
    done = site.run_dag()
    assert (done.state, done.failed()) == ("success", [])
    assert done.states("wait_for_requests") == done.states("claim_requests") == ["skipped"]
    assert done.states("settle_requests") == ["success"]
    assert site.published() == {}


@pytest.mark.parametrize("service", DOWN)
def test_a_service_that_is_down_is_named_with_its_host_and_port(site: Install, world: World, service: str) -> None:
    uri, task_id, connection = DOWN[service]
    done = site.run_dag(connections={service: uri}, retries=1 if service == "USERS" else 0)
    assert done.state == "failed"
    assert task_id in done.failed()
    assert done.says("9", connection) and done.says("does not answer")
    assert "secret" not in done.log.replace("secrets", "")
    assert site.published() == {}
    [tries] = {task["tries"] for task in done.tasks if task["task_id"] == task_id}
    assert tries == (2 if service == "USERS" else 1)
    row = site.row(world.requests[0])
    if task_id == "list_batches":
        assert (row["status"], row["iteration"]) == ("SUBMITTED", 0)
    elif service == "USERS":
        assert (row["status"], row["iteration"]) == ("FAILED", 1)
        assert "could not be made this time and is tried again" in row["err_message"]
        assert "Redis" not in row["err_message"]


def test_the_next_run_makes_what_an_absent_service_kept_from_being_made(site: Install, world: World) -> None:
    site.run_dag(connections={"USERS": DOWN["USERS"][0]})
    done = site.run_dag()
    assert done.state == "success"
    row = site.row(world.requests[0])
    assert (row["status"], row["iteration"], row["err_message"]) == ("SUCCESS", 1, None)
    assert len(site.published()) == 1


def test_requests_that_can_never_be_met_fail_in_words_and_the_others_are_made(site: Install, world: World) -> None:
    site.sql("ALTER TABLE job_request ALTER COLUMN request_data TYPE text")
    good = world.requests[0]
    batch = good["request_data"]["batchId"]
    bad = {
        "no json": ask("{batchId", request_id="A1"),
        "foo": ask({"foo": 1}, request_id="A2"),
        "number": ask(7, request_id="A3"),
        "unknown": ask({"batchId": "01400000000000"}, request_id="A4"),
        "path": ask({"batchId": "../../x"}, request_id="A5"),
        "escape": ask({"batchFilter": ["%2e%2e%2fx"]}, request_id="A6"),
        "filters": ask({"searchFilter": {"request": {"filters": {"identifier": {"!=": "x"}}}}}, request_id="A7"),
        "id up": ask({"batchId": batch}, request_id="../up", requested_by="x"),
        "id slash": ask({"batchId": batch}, request_id="a/b", requested_by="y"),
    }
    site.submit(list(bad.values()))
    site.sql("UPDATE job_request SET request_data = '{batchId' WHERE request_id = 'A1'")
    done = site.run_dag()
    assert done.state == "success", done.failed()
    rows = site.rows()
    assert rows[good["request_id"]]["status"] == "SUCCESS"
    words = {name: rows[request["request_id"]] for name, request in bad.items()}
    assert {row["status"] for row in words.values()} == {"FAILED"}
    assert {row["iteration"] for row in words.values()} == {1}
    messages = {name: row["err_message"] for name, row in words.items()}
    assert "no JSON" in messages["no json"]
    assert "batchId, batchFilter, searchFilter" in messages["foo"]
    assert "JSON object" in messages["number"]
    assert "01400000000000" in messages["unknown"]
    assert "not valid" in messages["path"] and "not valid" in messages["escape"]
    assert "does not accept" in messages["filters"]
    assert "The request's id is not valid" in messages["id up"] == messages["id slash"]
    assert [key.split("/")[1] for key in site.published()] == [good["request_id"]]
    assert sorted(path.name for path in site.folder.iterdir()) == ["reports", "staging"]


@pytest.mark.parametrize(
    ("conf", "settings", "words"),
    [
        ({"request_id": ["R"]}, {}, "unknown Param request_id in the run's conf; did you mean request_ids?"),
        (None, {"contaner": "file:///x"}, "unknown setting contaner; did you mean container?"),
        (None, {"user_cache_db": "twelve"}, "user_cache_db: "),
    ],
)
def test_a_wrong_param_or_setting_fails_the_run_at_once_with_the_right_one(
    site: Install, world: World, conf: Any, settings: Row, words: str
) -> None:
    done = site.run_dag(conf, settings=settings, retries=3)
    assert done.state == "failed"
    assert done.says(words)
    assert {task["tries"] for task in done.tasks if task["state"] == "failed"} == {1}
    assert site.row(world.requests[0])["status"] == "SUBMITTED"


def test_a_missing_column_of_job_request_is_named_with_the_statement_that_adds_it(site: Install) -> None:
    site.sql("ALTER TABLE job_request DROP COLUMN batch_number, DROP COLUMN processed_batches")
    before = site.sql("SELECT j::text FROM job_request j")
    done = site.run_dag(retries=3)
    assert done.state == "failed"
    assert done.says('ALTER TABLE "job_request" ADD COLUMN batch_number integer, ADD COLUMN processed_batches jsonb;')
    assert site.sql("SELECT j::text FROM job_request j") == before


def test_a_missing_request_table_is_named(site: Install) -> None:
    done = site.run_dag(settings={"job_request_table": "nowhere.job_request"})
    assert done.state == "failed"
    assert done.says('Postgres has no table "nowhere"."job_request"')


def test_a_missing_table_or_column_of_cassandra_is_named_with_its_statement(site: Install) -> None:
    keyspace = site.names.courses
    lacking = f"{keyspace}.lacking_enrolments"
    site.session.execute(
        f"CREATE TABLE IF NOT EXISTS {lacking} (batchid text, courseid text, userid text, active boolean, "
        "enrolleddate text, completedon timestamp, contentstatus map<text, int>, certstatus int, "
        "certificates list<frozen<map<text, text>>>, issued_certificates list<frozen<map<text, text>>>, "
        "PRIMARY KEY (batchid, courseid, userid))"
    )
    done = site.run_dag(settings={"enrolments_table": lacking})
    assert done.failed() == ["batch.extract"]
    assert done.says(f"ALTER TABLE {lacking} ADD enrolled_date timestamp;", "progress_exhaust_cassandra")
    done = site.run_dag(settings={"enrolments_table": f"{keyspace}.nowhere"})
    assert done.says(f"has no table {keyspace}.nowhere", "CREATE TABLE")


def test_a_flushed_user_cache_is_no_report_and_the_rerun_after_it_is_filled_is(install: Install, queue: Install) -> None:
    world = batch_world(150, 10)
    install.load(world)
    assert install.run_dag().state == "success"
    [undisturbed] = install.published().values()
    install.sql("UPDATE job_request SET status = 'SUBMITTED', processed_batches = NULL")
    install.users.flushdb()
    done = install.run_dag()
    assert done.failed() == ["batch.extract"]
    assert done.says("learners are missing from the user cache, more than missing_users_percent (20) allows")
    assert install.row(world.requests[0])["status"] == "FAILED"
    install.load(World(**(world.__dict__ | {"requests": []})))
    assert install.run_dag().state == "success"
    [again] = install.published().values()
    assert hashlib.sha256(again).digest() == hashlib.sha256(undisturbed).digest()


def test_dry_and_standalone_runs_change_no_row(site: Install, world: World) -> None:
    request = world.requests[0]
    batch = request["request_data"]["batchId"]
    before = site.sql("SELECT j::text FROM job_request j")
    assert site.run_dag({"dry_run": True}).state == "success"
    assert (site.published(), site.staged()) == ({}, [])
    assert site.run_dag({"batch_ids": [batch]}).state == "success"
    assert list(site.published()) == [f"progress-exhaust/{batch}_progress_20220928.zip"]
    assert site.sql("SELECT j::text FROM job_request j") == before
    done = site.run_dag({"batch_ids": ["nowhere"]})
    assert done.state == "failed"
    assert done.says("Param batch_ids: No data found: there is no batch nowhere")
    assert json.dumps(done.states("settle_requests")) == '["failed"]'

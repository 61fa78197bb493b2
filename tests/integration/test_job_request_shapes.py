"""job_request as installs have it: three shapes of its columns, an old one, and roles with few rights."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from dev import services
from progress_exhaust.errors import SetupError
from progress_exhaust.report.request import Batch
from tests.integration.life import (
    CONNECTION,
    CURRENT,
    DAY,
    SUBMITTED_AT,
    chosen,
    connect,
    empty_database,
    hook_of,
    insert,
    row_of,
)

SMALL = (
    CURRENT.replace("tag text", "tag varchar(50)")
    .replace("request_id text", "request_id varchar(50)")
    .replace("err_message text", "err_message varchar(100)")
    .replace("encryption_key text", "encryption_key varchar(50)")
    .replace("execution_time bigint", "execution_time integer")
    .replace("processed_batches jsonb", "processed_batches text")
)
MIDDLE = (
    SMALL.replace("varchar(100)", "varchar(300)").replace("varchar(50)", "varchar(100)").replace("batches text", "batches json")
)
SHAPES = {"small": (SMALL, 100), "middle": (MIDDLE, 300), "text": (CURRENT, None)}


@pytest.fixture
def database(servers: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    uri = empty_database("progress_exhaust_shapes")
    monkeypatch.setenv(CONNECTION, uri)
    connection = connect(uri)
    yield connection.cursor()
    connection.close()


def batch(request_id: str, tag: str, batch_id: str = "b1") -> Batch:
    return Batch(tag, request_id, "org-1", batch_id, "do_1")


@pytest.mark.parametrize("shape", SHAPES)
def test_a_whole_life_in_each_shape(database: Any, shape: str) -> None:
    ddl, longest = SHAPES[shape]
    database.execute(ddl)
    tag, _ = insert(database, "r1", iteration=None, err_message="of yesterday", dt_job_completed=SUBMITTED_AT)
    run = hook_of("run-1")
    run.prepare()
    assert [request.request_id for request in run.claim(chosen())] == ["r1"]
    row = row_of(database, "r1")
    assert (row["status"], row["err_message"], row["dt_job_completed"]) == ("PROCESSING", None, None)

    run.list_batches([batch("r1", tag), batch("r1", tag, "b2")], [])
    assert not run.complete(batch("r1", tag), object_key="k1.zip", size_bytes=5)
    run.fail(tag, "r1", "é" * 1000)
    row = row_of(database, "r1")
    assert (row["status"], row["iteration"], len(row["err_message"])) == ("FAILED", 1, longest or 1000)
    assert [entry["batchId"] for entry in row["processed_batches"]] == ["b1"]

    again = hook_of("run-2")
    [request] = again.claim(chosen())
    assert list(request.finished()) == ["b1"]
    again.list_batches([batch("r1", tag, "b2")], [])
    assert again.complete(batch("r1", tag, "b2"), object_key="k2.zip", size_bytes=7)
    row = row_of(database, "r1")
    assert (row["status"], row["iteration"], row["err_message"]) == ("SUCCESS", 1, None)
    assert row["download_urls"] == ["k1.zip", "k2.zip"]
    assert row["processed_batches"][1] == {"channel": "org-1", "batchId": "b2", "filePath": "k2.zip", "fileSize": 7}
    assert 0 <= row["execution_time"] < 60_000
    assert row["dt_file_created"] == row["dt_job_completed"]
    assert abs(row["dt_job_completed"] - datetime.now(UTC).replace(tzinfo=None)) < timedelta(minutes=1)


def test_an_old_table_is_named_with_what_it_lacks_and_nothing_is_touched(database: Any) -> None:
    database.execute(CURRENT.replace(" batch_number integer,", "").replace("processed_batches jsonb,", ""))
    insert(database, "r1")
    with pytest.raises(SetupError, match=r"ADD COLUMN batch_number integer, ADD COLUMN processed_batches jsonb;"):
        hook_of("run-1").prepare()
    database.execute("SELECT count(*) FROM pg_namespace WHERE nspname = 'progress_exhaust'")
    assert database.fetchone() == (0,)
    assert row_of(database, "r1")["status"] == "SUBMITTED"


@pytest.mark.parametrize(
    ("columns", "selection", "picked"),
    [
        ({"status": "SUBMITTED", "iteration": 3}, {}, True),
        ({"status": "FAILED", "iteration": 2}, {}, True),
        ({"status": "FAILED", "iteration": None}, {}, True),
        ({"status": "FAILED", "iteration": 3}, {}, False),
        ({"status": "FAILED", "iteration": 3}, {"force": True, "request_ids": ["r1"]}, True),
        ({"status": "SUCCESS"}, {}, False),
        ({"status": "SUCCESS"}, {"force": True}, False),
        ({"status": "SUCCESS"}, {"force": True, "request_ids": ["r1"]}, True),
        ({"status": "SUCCESS", "download_urls": [f"a/b_progress_{DAY:%Y%m%d}.zip"]}, {"force": True}, True),
        ({"status": "SUCCESS", "download_urls": ["a/b_progress_20220101.zip"]}, {"force": True}, False),
        ({"status": "SUBMITTED"}, {"request_ids": ["r2"]}, False),
        ({"status": "SUBMITTED", "batch_number": 2}, {"batch_number": 2}, True),
        ({"status": "SUBMITTED", "batch_number": None}, {"batch_number": 2}, False),
        ({"status": "SUBMITTED"}, {"submitted_before": SUBMITTED_AT.replace(tzinfo=UTC)}, False),
        ({"status": "SUBMITTED"}, {"submitted_before": SUBMITTED_AT.replace(tzinfo=UTC) + timedelta(seconds=1)}, True),
        ({"status": "PROCESSING"}, {}, False),
        ({"status": "PROCESSING"}, {"abandoned_before": SUBMITTED_AT.replace(tzinfo=UTC) + timedelta(hours=24)}, True),
        ({"job_id": "userinfo-exhaust"}, {"force": True, "request_ids": ["r1"]}, False),
    ],
)
def test_which_requests_are_picked(database: Any, columns: dict[str, Any], selection: dict[str, Any], picked: bool) -> None:
    database.execute(CURRENT)
    insert(database, "r1", **columns)
    run = hook_of("run-1")
    run.prepare()
    assert run.count_pending(chosen(**selection)) == picked
    assert [request.request_id for request in run.pending(chosen(**selection))] == ["r1"] * picked
    assert [request.request_id for request in run.claim(chosen(**selection))] == ["r1"] * picked


def test_a_csv_that_the_incumbent_never_packaged_is_made_again_and_not_handed_out(database: Any) -> None:
    database.execute(CURRENT)
    half_done = [{"channel": "org-1", "batchId": "b1", "filePath": "old.csv", "fileSize": 0}]
    tag, _ = insert(database, "r1", processed_batches=json.dumps(half_done))
    run = hook_of("run-1")
    run.prepare()
    [request] = run.claim(chosen())
    assert request.finished() == {}
    run.list_batches([batch("r1", tag)], [])
    assert run.complete(batch("r1", tag), object_key="new.zip", size_bytes=7)
    assert row_of(database, "r1")["download_urls"] == ["new.zip"]


def test_a_role_with_the_rights_of_the_docs_can_do_it_all_once_the_ledger_is_there(
    database: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    database.execute(CURRENT)
    tag, _ = insert(database, "r1")
    database.execute("DROP ROLE IF EXISTS few_rights; CREATE ROLE few_rights LOGIN PASSWORD 'few'")
    database.execute("GRANT USAGE ON SCHEMA public TO few_rights; GRANT SELECT, UPDATE ON job_request TO few_rights")
    owner = hook_of("owner")
    host = connect_info(database)
    monkeypatch.setenv(CONNECTION, f"postgresql://few_rights:few@{host}")
    run = hook_of("run-1")
    with pytest.raises(SetupError, match=r"CREATE TABLE IF NOT EXISTS .progress_exhaust.\.claim") as error:
        run.prepare()
    assert "few" not in str(error.value).replace("few_rights", "")
    monkeypatch.undo()
    monkeypatch.setenv(CONNECTION, services.create_database("progress_exhaust_shapes"))
    owner.prepare()
    database.execute(
        "GRANT USAGE ON SCHEMA progress_exhaust TO few_rights;"
        "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA progress_exhaust TO few_rights"
    )
    monkeypatch.setenv(CONNECTION, f"postgresql://few_rights:few@{host}")
    run = hook_of("run-1")
    run.prepare()
    run.claim(chosen())
    run.list_batches([batch("r1", tag)], [])
    assert run.complete(batch("r1", tag), object_key="k.zip", size_bytes=7)
    database.execute("DROP OWNED BY few_rights; DROP ROLE few_rights")


def connect_info(cursor: Any) -> str:
    parameters = cursor.connection.get_dsn_parameters()
    return f"{parameters['host']}:{parameters['port']}/{parameters['dbname']}"

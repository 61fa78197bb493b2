"""A dry run rejects what a run would reject, and changes nothing."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from dev.world import Row, World
from tests.integration.install import Install

DRY = {"dry_run": True}
PROJECT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    ("right", "table"),
    [
        ("UPDATE (status)", "job_request"),
        ("UPDATE (err_message)", "job_request"),
        ("INSERT (request_id)", "progress_exhaust.claim"),
        ("UPDATE (outcome)", "progress_exhaust.claim"),
        ("INSERT (channel)", "progress_exhaust.batch_run"),
        ("UPDATE (counts)", "progress_exhaust.batch_run"),
        ("DELETE", "progress_exhaust.batch_run"),
    ],
)
def test_a_dry_run_needs_the_rights_of_a_run(queue: Install, asked: Row, right: str, table: str) -> None:
    queue.sql(f"REVOKE {right} ON {table} FROM {queue.login}")
    result = queue.run_dag(DRY)
    assert (result.state, result.failed()) == ("failed", ["claim_requests"])
    assert result.says("permission denied", table.rpartition(".")[2], "docs/grants/postgres.sql")
    queue.grant()


def test_a_dry_run_makes_no_ledger(queue: Install, asked: Row) -> None:
    queue.sql("DROP SCHEMA progress_exhaust CASCADE")
    before = queue.rows()
    for conf in ({}, {"batch_ids": [asked["request_data"]["batchId"]]}):
        result = queue.run_dag(DRY | conf, connections={"REQUESTS": queue.postgres})
        assert (result.state, result.states("batch.package")) == ("success", ["success"]), result.failed()
    assert queue.sql("SELECT FROM pg_namespace WHERE nspname = 'progress_exhaust'") == []
    assert (queue.rows(), queue.published(), queue.staged()) == (before, {}, [])


def test_the_preview_of_a_run_makes_no_ledger(queue: Install, asked: Row, tmp_path: Path) -> None:
    queue.sql("DROP SCHEMA progress_exhaust CASCADE")
    environment = os.environ | queue.environment(connections={"REQUESTS": queue.postgres}) | {"AIRFLOW_HOME": str(tmp_path)}
    command = [sys.executable, "-c", "from dev.claims_preview import print_preview; print_preview({})"]
    told = subprocess.run(command, env=environment, cwd=PROJECT, capture_output=True, text=True, check=True).stdout
    assert "This run claims 1 requests of" in told
    assert queue.sql("SELECT FROM pg_namespace WHERE nspname = 'progress_exhaust'") == []
    assert queue.row(asked)["status"] == "SUBMITTED"


def test_a_dry_run_needs_a_ledger_that_it_could_make(queue: Install, asked: Row, world: World) -> None:
    queue.sql("DROP SCHEMA progress_exhaust CASCADE")
    result: Any = queue.run_dag(DRY)
    assert (result.state, result.failed()) == ("failed", ["wait_for_requests"])
    assert result.says("this role may not create or upgrade it", "docs/grants/ledger.sql")


def test_a_dry_run_writes_to_the_container_as_a_run_does(queue: Install, asked: Row) -> None:
    folder = queue.reports / "progress-exhaust"
    queue.reports.mkdir(exist_ok=True)
    folder.write_text("not a folder")
    result = queue.run_dag(DRY)
    assert (result.state, result.failed()) == ("failed", ["batch.package"])
    assert result.says("The reports container", queue.reports.as_uri())
    folder.unlink()
    assert queue.run_dag(DRY).state == "success"
    assert list(queue.reports.iterdir()) == []

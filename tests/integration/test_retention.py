"""The retention DAG: what was kept for long enough goes, and nothing else does."""

import os
import time
from pathlib import Path
from typing import Any

from dev.world import Row
from tests.integration.install import Install, RunResult

DAY_SECONDS = 86400
NOBODY = "redis://127.0.0.1:1"  # where no server is


def clean(install: Install, conf: Row | None = None, **settings: Any) -> RunResult:
    return install.run_dag(conf, settings=settings, dag_id="progress_exhaust_retention")


def age(folder: Path, days: float) -> None:
    """Let a folder and all in it have been written so many days ago."""
    then = time.time() - days * DAY_SECONDS
    for path in [folder, *folder.rglob("*")]:
        os.utime(path, (then, then))


def test_what_a_failed_run_left_in_staging_goes_once_it_is_old_and_the_run_is_over(queue: Install, asked: Row) -> None:
    failed = queue.run_dag(connections={"USERS": NOBODY})
    assert failed.failed() == ["batch.fetch_hierarchy"]
    left = queue.staged()
    assert left[0] == failed.run_id and left[-1].endswith("batch.json")

    age(queue.staging / failed.run_id, days=6)
    assert clean(queue).state == "success"
    assert queue.staged() == left

    age(queue.staging / failed.run_id, days=8)
    queue.airflow.set_state(failed.run_id, "running")
    kept = clean(queue)
    assert kept.says("Kept staging", failed.run_id, "its run is running")
    assert queue.staged() == left

    queue.airflow.set_state(failed.run_id, "failed")
    dry = clean(queue, {"dry_run": True})
    assert dry.says("Would remove staging of run", failed.run_id)
    assert dry.says("Would remove in all: ", "1 staged runs", "staged bytes")
    assert queue.staged() == left
    assert clean(queue).says("Removed in all: ", "1 staged runs")
    assert queue.staged() == []

    # The request is none the worse for it.
    assert queue.run_dag().state == "success"
    assert queue.row(asked)["status"] == "SUCCESS"


def test_one_new_file_keeps_the_whole_of_a_runs_staging(queue: Install, asked: Row) -> None:
    failed = queue.run_dag(connections={"USERS": NOBODY})
    [facts] = queue.staging.rglob("batch.json")
    (facts.parent / "pages").mkdir()
    (facts.parent / "pages" / "00000.parquet").write_bytes(b"")
    age(queue.staging / failed.run_id, days=8)
    os.utime(facts)
    left = queue.staged()
    assert clean(queue).says("Removed in all: nothing")
    assert queue.staged() == left


def test_runs_that_airflow_does_not_know_go_by_their_name_and_strangers_folders_stay(queue: Install, asked: Row) -> None:
    for name in ("scheduled__2020-01-01T08:00:00+00:00/R/B/batch.json", "backups/base.tar"):
        (queue.staging / name).parent.mkdir(parents=True)
        (queue.staging / name).write_bytes(b"x")
    age(queue.staging, days=30)
    done = clean(queue, staging_days=29)
    assert done.says("Kept staging backups: it is no run's")
    assert queue.staged() == ["backups", "backups/base.tar"]


def test_packages_older_than_the_setting_go_and_nothing_else_of_the_container(queue: Install, asked: Row) -> None:
    assert queue.run_dag().state == "success"
    row, [key] = queue.row(asked), queue.published()
    new = key.replace("progress_2022", "progress_2023")
    others = ["progress-exhaust/notes.zip", "userinfo-exhaust/R/B_progress_20220927.zip"]
    for name in (new, *others):
        (queue.reports / name).parent.mkdir(parents=True, exist_ok=True)
        (queue.reports / name).write_bytes(b"x" * 5)
    age(queue.reports, days=100)
    os.utime(queue.reports / new)
    everything = queue.published()

    assert clean(queue).says("retention_days is not set: every package is kept")
    assert clean(queue, retention_days=101).says("Removed in all: nothing")
    dry = clean(queue, {"dry_run": True}, retention_days=99)
    assert dry.says(f"Would remove {key}") and dry.says("Would remove in all: ", "1 packages", "package bytes")
    assert queue.published() == everything
    assert clean(queue, retention_days=99).says(f"Removed {key}")
    assert sorted(queue.published()) == sorted([new, *others])
    assert queue.row(asked) == row


def test_a_param_that_there_is_none_of_removes_nothing(queue: Install, asked: Row) -> None:
    assert queue.run_dag().state == "success"
    age(queue.reports, days=100)
    refused = clean(queue, {"dryrun": True}, retention_days=1)
    assert refused.state == "failed"
    assert refused.says("unknown Param dryrun", "did you mean dry_run?")
    assert len(queue.published()) == 1


def test_a_batch_whose_package_was_removed_since_is_made_again(queue: Install, asked: Row) -> None:
    """A request that is asked for again names its finished batches: one that nobody can download is none."""
    assert queue.run_dag().state == "success"
    published = queue.published()
    for key in published:
        (queue.reports / key).unlink()
    queue.sql("UPDATE job_request SET status = 'SUBMITTED'")
    assert queue.run_dag().state == "success"
    assert queue.published().keys() == published.keys()
    assert queue.row(asked)["status"] == "SUCCESS"

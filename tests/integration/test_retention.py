"""The retention DAG deletes what was kept for long enough, and nothing else."""

import os
import time
from pathlib import Path
from typing import Any

from dev.world import Row
from tests.integration.install import Install, RunResult

DAY_SECONDS = 86400
NO_SERVER = "redis://127.0.0.1:1"


def clean(install: Install, conf: Row | None = None, **settings: Any) -> RunResult:
    return install.run_dag(conf, settings=settings, dag_id="progress_exhaust_retention")


def age(folder: Path, days: float) -> None:
    """Change the time of a folder and of everything in it to so many days ago."""
    then = time.time() - days * DAY_SECONDS
    for path in [folder, *folder.rglob("*")]:
        os.utime(path, (then, then))


def test_the_staging_of_a_failed_run_is_deleted_after_some_days(queue: Install, asked: Row) -> None:
    failed = queue.run_dag(connections={"USERS": NO_SERVER})
    assert failed.failed() == ["batch.fetch_hierarchy"]
    staged = queue.staged()
    assert staged[0] == failed.run_id and staged[-1].endswith("batch.json")

    age(queue.run_staging(failed.run_id), days=6)
    assert clean(queue).state == "success"
    assert queue.staged() == staged

    age(queue.run_staging(failed.run_id), days=8)
    queue.airflow.set_state(failed.run_id, "running")
    kept = clean(queue)
    assert kept.says("Kept staging", failed.run_id, "its run is running")
    assert queue.staged() == staged

    queue.airflow.set_state(failed.run_id, "failed")
    dry = clean(queue, {"dry_run": True})
    assert dry.says("Would delete staging of run", failed.run_id)
    assert dry.says("Would delete: ", "staged_runs=1", "staged_bytes=")
    assert queue.staged() == staged
    assert clean(queue).says("Deleted: ", "staged_runs=1")
    assert queue.staged() == []

    assert queue.run_dag().state == "success"
    assert queue.row(asked)["status"] == "SUCCESS"


def test_old_staging_of_another_installation_is_reported_and_kept(queue: Install, asked: Row) -> None:
    assert queue.run_dag().state == "success"
    folder = queue.staging / "0123456789ab" / "scheduled__2022-09-20T08:00:00+00:00"
    folder.mkdir(parents=True)
    (folder / "00000.parquet").write_bytes(b"learners")
    words = ("Learner data of another installation stays in staging", "folder=0123456789ab bytes=8")
    assert not clean(queue).says(words[0])
    age(folder.parent, days=8)
    assert clean(queue).says(*words)
    assert (folder / "00000.parquet").exists()


def test_one_new_file_keeps_all_staging_of_its_run(queue: Install, asked: Row) -> None:
    failed = queue.run_dag(connections={"USERS": NO_SERVER})
    [facts] = queue.staging.rglob("batch.json")
    (facts.parent / "enrolled").mkdir()
    (facts.parent / "enrolled" / "00000.parquet").write_bytes(b"")
    age(queue.run_staging(failed.run_id), days=8)
    os.utime(facts)
    staged = queue.staged()
    assert clean(queue).says("Deleted: package_bytes=0 packages=0 staged_bytes=0 staged_runs=0")
    assert queue.staged() == staged


def test_staging_of_deleted_runs_is_found_by_its_name_and_other_folders_stay(queue: Install, asked: Row) -> None:
    for name in ("scheduled__2020-01-01T08:00:00+00:00/R/B/batch.json", "backups/base.tar"):
        (queue.staging / name).parent.mkdir(parents=True)
        (queue.staging / name).write_bytes(b"x")
    age(queue.staging, days=30)
    done = clean(queue, staging_days=29)
    assert done.says("Kept staging backups: it does not belong to a run")
    assert queue.staged() == ["backups", "backups/base.tar"]


def test_packages_older_than_the_setting_are_deleted_and_nothing_else_of_the_container(queue: Install, asked: Row) -> None:
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
    assert clean(queue, retention_days=101).says("Deleted: package_bytes=0 packages=0")
    dry = clean(queue, {"dry_run": True}, retention_days=99)
    assert dry.says(f"Would delete {key}") and dry.says("Would delete: ", "packages=1")
    assert queue.published() == everything
    assert clean(queue, retention_days=99).says(f"Deleted {key}")
    assert sorted(queue.published()) == sorted([new, *others])
    assert queue.row(asked) == row


def test_an_unknown_param_deletes_nothing(queue: Install, asked: Row) -> None:
    assert queue.run_dag().state == "success"
    age(queue.reports, days=100)
    rejected = clean(queue, {"dryrun": True}, retention_days=1)
    assert rejected.state == "failed"
    assert rejected.says("Unknown Param dryrun", "did you mean dry_run?")
    assert len(queue.published()) == 1


def test_a_batch_whose_package_was_deleted_is_made_again(queue: Install, asked: Row) -> None:
    """A request that is submitted again names its finished batches. A batch whose file was deleted is not finished."""
    assert queue.run_dag().state == "success"
    published = queue.published()
    for key in published:
        (queue.reports / key).unlink()
    queue.sql("UPDATE job_request SET status = 'SUBMITTED'")
    assert queue.run_dag().state == "success"
    assert queue.published().keys() == published.keys()
    assert queue.row(asked)["status"] == "SUCCESS"

"""The retention DAG deletes what was kept for long enough, and nothing else."""

import os
import time
from pathlib import Path
from typing import Any

from dev.world import Row, World
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
    scheduled = "scheduled__2020-01-01T08:00:00+00:00"
    for name in (f"{scheduled}/R/B/batch.json", f"next__2__{scheduled}/R/B/batch.json", "backups/base.tar"):
        (queue.staging / name).parent.mkdir(parents=True)
        (queue.staging / name).write_bytes(b"x")
    age(queue.staging, days=30)
    done = clean(queue, staging_days=29)
    assert done.says("Kept staging backups: it does not belong to a run")
    assert queue.staged() == ["backups", "backups/base.tar"]


def test_a_run_warns_of_old_staging_that_retention_has_not_deleted(queue: Install, asked: Row, world: World) -> None:
    failed = queue.run_dag(connections={"USERS": NO_SERVER})
    another_run = {"batch_ids": [world.batches[0]["batchid"]]}
    warning = "Learner data of ended runs is in staging for more than 14 days: runs=1 bytes="
    age(queue.run_staging(failed.run_id), days=13)
    assert not queue.run_dag(another_run).says(warning)
    age(queue.run_staging(failed.run_id), days=15)
    assert queue.run_dag(another_run).says(warning, "The DAG progress_exhaust_retention deletes it after staging_days=7")


def test_old_packages_of_the_runs_are_deleted_and_nothing_else_of_the_container(queue: Install, asked: Row) -> None:
    """Packages of the Spark job have the same names: only the ledger shows who made them."""
    assert queue.run_dag().state == "success"
    row, [key] = queue.row(asked), queue.published()
    new = key.replace("progress_2022", "progress_2023")
    spark = "progress-exhaust/R/B_progress_20220927.zip"
    unfinished = "progress-exhaust/.public-access-0123456789abcdef0123456789abcdef"
    others = ["progress-exhaust/notes.zip", "userinfo-exhaust/R/B_progress_20220927.zip"]
    for name in (new, spark, unfinished, *others):
        (queue.reports / name).parent.mkdir(parents=True, exist_ok=True)
        (queue.reports / name).write_bytes(b"x" * 5)
    age(queue.reports, days=89)
    assert clean(queue).says("Deleted: package_bytes=0 packages=0")
    age(queue.reports, days=91)
    os.utime(queue.reports / new)
    everything = queue.published()

    assert clean(queue, retention_days=None).says("retention_days is null: every package is kept")
    assert clean(queue, retention_days=92).says("Deleted: package_bytes=0 packages=0")
    dry = clean(queue, {"dry_run": True})
    assert dry.says(f"Would delete {key}") and dry.says("Would delete: ", "packages=2")
    assert queue.published() == everything
    kept = clean(queue)
    assert kept.says(f"Deleted {key}") and kept.says(f"Deleted {unfinished}")
    assert kept.says("no run in the ledger has published are kept: packages=1 bytes=5", "set retention_of_other_packages")
    assert sorted(queue.published()) == sorted([new, spark, *others])
    assert queue.row(asked) == row
    assert clean(queue, retention_of_other_packages=True).says(f"Deleted {spark}")
    assert sorted(queue.published()) == sorted([new, *others])


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

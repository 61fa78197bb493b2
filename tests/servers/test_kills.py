"""kill -9, at every moment that matters: the retry ends as if nothing had been."""

import os
import signal
from collections.abc import Callable
from contextlib import ExitStack
from functools import cache

import pytest

from tests.servers.gate import Gate
from tests.servers.site import STAGES, Site, kill, processes, wait_until

MOMENTS = {
    "fetch_hierarchy": ("before", "after"),
    "extract": ("before", "after"),
    "pivot": ("before", "after"),
    "package": ("before", "published", "after"),
    "mark_complete": ("before", "uncommitted", "after"),
}
Undisturbed = Callable[[str], str]


@pytest.fixture(scope="module")
def undisturbed(site: Site) -> Undisturbed:
    """Return the sha256 of a batch's file of this day, from an undisturbed run."""

    @cache
    def digest(batch_id: str) -> str:
        request = site.request(batch_id)
        site.airflow.run(request_ids=[request])
        return site.published(request)[site.key(request, batch_id)]

    return digest


def check(site: Site, request: str, run: str, files: dict[str, str]) -> None:
    """All is as after a quiet night: SUCCESS, exactly these files, and nothing of the work is left."""
    row = site.row(request)
    assert (row["status"], row["iteration"], row["err_message"]) == ("SUCCESS", 0, None)
    assert sorted(row["download_urls"]) == sorted(files)
    assert site.published(request) == files
    assert site.staging(run) == []
    claims = site.sql("SELECT run_id, outcome FROM progress_exhaust.claim WHERE request_id = %s", request)
    assert claims == [{"run_id": run, "outcome": "SUCCESS"}]
    made = site.sql("SELECT object_key, sha256 FROM progress_exhaust.batch_run WHERE request_id = %s", request)
    assert {row["object_key"]: row["sha256"] for row in made} == files


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_that_is_killed(site: Site, gate: Gate, undisturbed: Undisturbed, stage: str) -> None:
    """Killed before its work and after it; and in mid-publication, and in mid-transaction."""
    batch = site.batches[2]
    expected = undisturbed(batch)
    request = site.request(batch)
    with gate.all_closed(batch, stage, MOMENTS[stage]) as gates:
        run = site.airflow.start_run(request_ids=[request])
        for closed, opener in gates:
            closed.wait()
            kill(site.airflow.tasks(run)[stage, 0])
            row = site.row(request)
            opener.close()
        assert site.airflow.end_of(run) == "success"
    check(site, request, run, {site.key(request, batch): expected})
    if stage == "mark_complete":
        assert site.row(request) == row  # SUCCESS since before the last kill, and not marked again
    tries = {task.task_id: task.tries for task in site.airflow.tasks(run).values()}
    assert tries.pop(stage) == 1 + len(MOMENTS[stage])
    assert set(tries.values()) == {1}


def test_extract_that_is_killed_in_the_middle(site: Site, gate: Gate, undisturbed: Undisturbed) -> None:
    """Half of its sources are read when the user cache stops to answer."""
    batch = site.batches[2]
    expected = undisturbed(batch)
    request = site.request(batch)
    with ExitStack() as paused:
        with gate.closed(batch, "extract", "before") as closed:
            run = site.airflow.start_run(request_ids=[request])
            closed.wait()
            paused.enter_context(site.paused("redis"))
        chunks = f"*/{run}/*-{request}/{batch}/chunks.json"
        wait_until(lambda: list((site.data / "staging").glob(chunks)), "the extract's begin")
        kill(site.airflow.tasks(run)["extract", 0])
    assert site.airflow.end_of(run) == "success"
    check(site, request, run, {site.key(request, batch): expected})


@pytest.mark.parametrize("with_its_workers", [False, True])
def test_the_scheduler_is_killed(site: Site, gate: Gate, undisturbed: Undisturbed, with_its_workers: bool) -> None:
    """One batch is at the end of `extract`, one before `package`: its workers go on alone, or the whole machine dies."""
    batches = site.batches[2:4]
    expected = [undisturbed(batch) for batch in batches]
    request = site.request(*batches)
    scheduler = site.pid("airflow-scheduler")
    with gate.closed(batches[0], "extract", "after") as first, gate.closed(batches[1], "package", "before") as second:
        run = site.airflow.start_run(request_ids=[request])
        first.wait()
        second.wait()
        if with_its_workers:
            os.killpg(os.getpgid(scheduler), signal.SIGKILL)
        else:
            os.kill(scheduler, signal.SIGKILL)
        wait_until(lambda: scheduler not in [pid for pid, _ in processes()], "the scheduler's end")
    # Until Airflow itself sees it, a new scheduler leaves the old one's tasks alone.
    wait_until(
        lambda: site.airflow.call("/api/v2/monitor/health")["scheduler"]["status"] == "unhealthy", "Airflow to miss its scheduler"
    )
    site.command("dev/airflow_servers.py", "start")
    assert site.airflow.end_of(run) == "success"
    check(site, request, run, {site.key(request, batch): digest for batch, digest in zip(batches, expected, strict=True)})
    tries = site.airflow.tasks(run)
    assert tries["extract", 0].tries == tries["package", 1].tries == (2 if with_its_workers else 1)

"""Two schedulers, two runs, two tries of one task: each request is made once, by one of them, and the other says that it lost.

A backfill during the nightly run is in tests/servers/test_backfill.py; claims that meet, hook by hook, in
tests/integration/test_claim_races.py.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest

from tests.faults.kills import parent, task_processes
from tests.servers.gate import Gate
from tests.servers.site import Site, Task, processes, wait_until, works_in

LOST = ("a newer attempt of this task has started", "Server indicated the task shouldn't be running anymore")


def check(site: Site, requests: Mapping[str, list[str]]) -> dict[str, str]:
    """Each request is SUCCESS by one run, with one file a batch and nothing stuck; return the run that made each."""
    made_by = {}
    for request, batches in requests.items():
        row = site.row(request)
        assert (row["status"], row["iteration"], row["err_message"]) == ("SUCCESS", 0, None)
        assert (
            sorted(site.published(request)) == sorted(row["download_urls"]) == sorted(site.key(request, one) for one in batches)
        )
        claims = site.sql("SELECT run_id, outcome, released_at FROM progress_exhaust.claim WHERE request_id = %s", request)
        assert [claim["outcome"] for claim in claims] == ["SUCCESS"]
        made_by[request] = str(claims[0]["run_id"])
    return made_by


def ledger(site: Site, request: str) -> list[dict[str, Any]]:
    return site.sql("SELECT * FROM progress_exhaust.batch_run WHERE request_id = %s ORDER BY run_id, batch_id", request)


@pytest.mark.parametrize("named", [True, False])
def test_two_runs_at_once_over_the_same_requests(site: Site, named: bool) -> None:
    requests = {site.request(*batches): batches for batches in ([site.batches[3]], [site.batches[4]], [site.batches[5]])}
    conf = {"request_ids": list(requests)} if named else {}
    runs = [site.airflow.start_run(**conf) for _ in range(2)]
    ends = {run: site.airflow.end_of(run) for run in runs}
    for run in [run for run in runs if ends[run] == "failed"]:  # the other run was first, and it names the reason
        assert named and "Param request_ids: " in site.airflow.log(run, "claim_requests")
    assert "success" in ends.values()
    assert set(check(site, requests).values()) <= set(runs)
    listed = site.sql("SELECT request_id FROM progress_exhaust.batch_run WHERE run_id = ANY(%s)", runs)
    assert sorted(row["request_id"] for row in listed) == sorted(requests)  # no run has done another's work


class Frozen:
    """A task whose worker stands still, and the process above it, whose heartbeats Airflow waits for."""

    def __init__(self, site: Site, task: Task) -> None:
        self.task = task
        [self._child] = [pid for pid, found in task_processes(site)["task"].items() if found == task.id]
        self._worker = parent(self._child)
        for pid in (self._worker, self._child):
            os.kill(pid, signal.SIGSTOP)

    def go_on(self) -> None:
        """Let it do what it was about to do, and wait for its end."""
        for pid in (self._child, self._worker):
            os.kill(pid, signal.SIGCONT)
        wait_until(lambda: self._child not in [pid for pid, _ in processes()], f"the end of the late {self.task.task_id}")


@contextmanager
def package_before_its_publication(site: Site, gate: Gate, batch: str, run_conf: dict[str, Any]) -> Iterator[tuple[str, Frozen]]:
    """Freeze `package` once it has started, while it waits for the org's policy; give the run and the frozen task."""
    with ExitStack() as paused:
        with gate.closed(batch, "package", "before") as closed:
            run = site.airflow.start_run(**run_conf)
            closed.wait()
            paused.enter_context(site.paused("content"))
        started = "SELECT batch_id FROM progress_exhaust.batch_run WHERE run_id = %s AND batch_id = %s AND stage = 'package'"
        wait_until(lambda: len(site.sql(f"{started} AND task_attempts ? 'package'", run, batch)) == 1, "package to begin")
        frozen = Frozen(site, site.airflow.tasks(run)["package", 0])
    yield run, frozen


def first_try_log(site: Site, run: str, stage: str) -> str:
    return site.airflow.log(run, f"batch.{stage}", 0, of_try=1)


@pytest.mark.parametrize(
    "moment",
    [
        "before publishing",
        pytest.param("after publishing, before package.json", marks=pytest.mark.slow),
        pytest.param("in mark_complete", marks=pytest.mark.slow),
    ],
)
def test_a_task_that_airflow_gave_up_changes_nothing_after_its_retry(site: Site, gate: Gate, moment: str) -> None:
    batch = site.batches[2]
    quiet = site.request(batch)
    site.airflow.run(request_ids=[quiet])
    request = site.request(batch)
    with ExitStack() as stack:
        if moment == "before publishing":
            run, frozen = stack.enter_context(package_before_its_publication(site, gate, batch, {"request_ids": [request]}))
        else:
            place = ("package", "published") if moment.startswith("after") else ("mark_complete", "uncommitted")
            # Frozen in the middle of a transaction: Postgres ends it, and with it what it holds up.
            with gate.closed(batch, *place) as closed:
                run = site.airflow.start_run(request_ids=[request])
                closed.wait()
                frozen = Frozen(site, site.airflow.tasks(run)[place[0], 0])
        assert site.airflow.end_of(run) == "success"
        stage = frozen.task.task_id
        assert site.airflow.tasks(run)[stage, 0].tries == 2
        row, files, entries = site.row(request), site.published(request), ledger(site, request)
        written = site.written(files)
        frozen.go_on()
    assert check(site, {request: [batch]}) == {request: run}
    assert (site.row(request), ledger(site, request)) == (row, entries)
    assert site.published(request) == files == {site.key(request, batch): site.published(quiet)[site.key(quiet, batch)]}
    assert site.written(files) == written
    assert site.staging(run) == []
    said = first_try_log(site, run, stage)
    assert any(words in said for words in LOST), said


def test_a_late_task_of_a_run_that_lost_its_claim_publishes_nothing(site: Site, gate: Gate) -> None:
    batch = site.batches[2]
    request = site.request(batch)
    with package_before_its_publication(site, gate, batch, {"request_ids": [request]}) as (old, frozen):
        site.airflow.set_state(old, "failed")
        new = site.airflow.run(request_ids=[request])
        row, files = site.row(request), site.published(request)
        written, entries = site.written(files), ledger(site, request)
        frozen.go_on()
    assert (row["status"], row["iteration"]) == ("SUCCESS", 1)  # the old run died over it
    assert site.row(request) == row
    assert (site.published(request), site.written(files)) == (files, written)
    assert [one for one in ledger(site, request) if one["run_id"] == new] == [one for one in entries if one["run_id"] == new]
    assert site.staging(old) == site.staging(new) == []


@pytest.mark.slow
def test_two_schedulers_and_one_is_killed(site: Site) -> None:
    """Both hand out tasks of two runs; then one dies with its workers, and the other makes the rest."""
    command = [sys.executable, "-m", "airflow", "scheduler", "--skip-serve-logs"]
    with (site.data / "second-scheduler.log").open("wb") as log:
        second = subprocess.Popen(
            command, cwd=site.data, env=dict(site.environment), stdout=log, stderr=log, start_new_session=True
        )

    def working() -> bool:
        """Tell whether both have running tasks."""
        groups = {
            os.getpgid(pid)
            for pid, words in processes()
            if "airflow worker -- LocalExecutor" in words and works_in(pid, site.data)
        }
        return len(groups) == 2

    try:
        wait_until(lambda: b"Starting the scheduler" in (site.data / "second-scheduler.log").read_bytes(), "the second scheduler")
        requests = {site.request(*batches): batches for batches in (site.batches[:3], site.batches[3:], site.batches[2:5])}
        runs = [site.airflow.start_run(request_ids=[request]) for request in requests]
        wait_until(working, "both schedulers to have running tasks")
        os.killpg(second.pid, signal.SIGKILL)
        assert [site.airflow.end_of(run) for run in runs] == ["success"] * 3
    finally:
        if second.poll() is None:
            os.killpg(second.pid, signal.SIGKILL)
        second.wait()
    check(site, requests)
    assert all(site.staging(run) == [] for run in runs)

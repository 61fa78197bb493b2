"""More requests than one run takes, on the servers of `make up`: all of them are made without a run by hand."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.servers.gate import Gate
from tests.servers.site import DAG, OVER, Site, wait_until
from tests.servers.start_up import started_site

BATCHES_PER_RUN = 2


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Give servers with the trigger on, whose runs are small."""
    folder, settings = tmp_path_factory.mktemp("backlogs"), {"batches_per_run": BATCHES_PER_RUN}
    with started_site(folder, on_request=True, settings=settings) as started:
        yield started


def runs(site: Site) -> dict[str, dict[str, Any]]:
    return {run["dag_run_id"]: run for run in site.airflow.call(f"{DAG}/dagRuns?limit=100")["dag_runs"]}


def submit(site: Site, number: int) -> list[str]:
    """Submit requests while the trigger does not look, so that one event is for all of them."""
    with site.paused("airflow-triggerer"):
        return [site.request(site.batches[1 + one % 5]) for one in range(number)]


def all_made(site: Site, requests: list[str]) -> None:
    def is_made() -> bool:
        return {site.row(request)["status"] for request in requests} == {"SUCCESS"}

    wait_until(is_made, "the success of all requests")
    wait_until(lambda: all(run["state"] in OVER for run in runs(site).values()), "the end of all runs")


def test_backlog_of_three_runs_ends_without_a_run_by_hand(site: Site) -> None:
    before = runs(site)
    all_made(site, submit(site, 3 * BATCHES_PER_RUN))
    started = {run_id: run for run_id, run in runs(site).items() if run_id not in before}
    [first] = [run_id for run_id, run in started.items() if run["run_type"] == "asset_triggered"]
    assert set(started) == {first, f"next__2__{first}", f"next__3__{first}"}
    assert {run["state"] for run in started.values()} == {"success"}
    assert len({run["run_after"] for run in started.values()}) == 1, "all reports have one date"


@pytest.mark.slow
def test_run_that_is_marked_failed_leaves_a_backlog_that_the_next_run_takes(site: Site) -> None:
    before = runs(site)
    gate = Gate(site)
    requests = submit(site, 2 * BATCHES_PER_RUN)
    with gate.closed(site.batches[1], "extract", "before") as closed:
        closed.wait()
        [run_id] = set(runs(site)) - set(before)
        site.airflow.set_state(run_id, "failed")
        wait_until(
            lambda: not site.sql("SELECT FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"), "the end of the task"
        )
    assert set(runs(site)) - set(before) == {run_id}, "a run that dies starts no next run"
    requests += submit(site, 1)  # its run takes what is left, too, and goes on until nothing is left
    all_made(site, requests)
    assert len(site.sql("SELECT FROM progress_exhaust.claim WHERE released_at IS NULL")) == 0


@pytest.mark.slow
def test_run_by_hand_hands_its_params_to_the_next_one(site: Site) -> None:
    request = site.request(*site.batches[1:5])
    all_made(site, [request])
    before = runs(site)
    files = site.published(request)
    site.airflow.start_run(request_ids=[request], force=True)
    wait_until(lambda: len(set(runs(site)) - set(before)) > 1, "the next run")
    all_made(site, [request])
    first, second = sorted(set(runs(site)) - set(before))
    assert second == f"next__2__{first}"
    assert runs(site)[second]["conf"] == {"request_ids": [request]}, "what is made again is not made twice"
    assert set(site.published(request)) == set(files)

"""A run starts as soon as a request is submitted, on the servers of `make up`; and what happens if something fails meanwhile."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg2
import pytest

from dev.load import submit
from dev.world import ORG, request_row, user_id
from tests.servers.site import DAG, OVER, REPORT_ZONE, Site, processes, wait_until
from tests.servers.start_up import started_site

TRIGGERER = "airflow-triggerer"
SOON_SECONDS = 90
DAY = date(2026, 3, 10)
WARNING = "New requests cannot be found at the moment"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Give servers with the trigger on."""
    with started_site(tmp_path_factory.mktemp("on_request"), on_request=True) as started:
        yield started


@pytest.fixture(autouse=True)
def idle(site: Site) -> None:
    """Start each test without an active run, and with the trigger running."""
    site.command("dev/airflow_servers.py", "start")
    wait_until(lambda: site.airflow.call("/api/v2/monitor/health")["triggerer"]["status"] == "healthy", "the triggerer")
    wait_until(lambda: all(run["state"] in OVER for run in runs(site)), "the end of all runs")


def runs(site: Site) -> list[dict[str, Any]]:
    return list(site.airflow.call(f"{DAG}/dagRuns?limit=100&order_by=-run_after")["dag_runs"])


def on_request(site: Site) -> set[str]:
    """Return the runs that the trigger started."""
    return {run["dag_run_id"] for run in runs(site) if run["run_type"] == "asset_triggered"}


def status(site: Site, request: str) -> str:
    return str(site.row(request)["status"])


def made(site: Site, request: str) -> None:
    """Wait for the request's success."""
    wait_until(lambda: status(site, request) == "SUCCESS", f"the success of {request}", SOON_SECONDS)


def asks_no_more(site: Site, known: set[str]) -> None:
    """See that no further run starts while the trigger asks some more times."""
    time.sleep(12)
    assert on_request(site) == known


def log(site: Site) -> str:
    return (site.data / f"{TRIGGERER}.log").read_text(errors="replace")


def put_back(site: Site, request: str) -> None:
    """Defer a request, as a run does that reaches a limit."""
    site.sql("UPDATE progress_exhaust.claim SET outcome = 'SUBMITTED' WHERE request_id = %s", request)
    site.sql(
        "UPDATE job_request SET status = 'SUBMITTED', processed_batches = NULL, download_urls = NULL WHERE request_id = %s",
        request,
    )


def end_triggerer(site: Site, number: int = signal.SIGTERM) -> None:
    pid = site.pid(TRIGGERER)
    os.kill(pid, number)
    wait_until(lambda: pid not in [one for one, _ in processes()], "the end of the triggerer")


def metadata(site: Site, *statements: str) -> None:
    """Run statements in another database of the same server."""
    uri = site.environment["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"].replace("postgresql+psycopg2://", "postgresql://")
    with closing(psycopg2.connect(uri)) as connection:
        connection.autocommit = True
        for statement in statements:
            connection.cursor().execute(statement)


@contextmanager
def requests_away(site: Site) -> Iterator[None]:
    """Let Postgres refuse and end all connections to the database of the requests; Airflow's own stays."""
    try:
        metadata(
            site,
            "ALTER DATABASE sunbird ALLOW_CONNECTIONS false",
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'sunbird'",
        )
        yield
    finally:
        metadata(site, "ALTER DATABASE sunbird ALLOW_CONNECTIONS true")


def test_request_is_made_without_a_manual_run(site: Site) -> None:
    before = on_request(site)
    batch = site.batches[1]
    request = site.request(batch)
    made(site, request)
    [run] = on_request(site) - before
    assert site.airflow.end_of(run) == "success"
    # The report has the day of its run, which has no logical date.
    [details] = [one for one in runs(site) if one["dag_run_id"] == run]
    assert details["logical_date"] is None
    day = datetime.fromisoformat(details["run_after"]).astimezone(REPORT_ZONE).date()
    assert site.row(request)["download_urls"] == [site.key(request, batch, day)]
    # Its event says how many requests wait, and nothing about them.
    events = site.airflow.call("/api/v2/assets/events?order_by=-timestamp&limit=5")["asset_events"]
    extras = [one["extra"] for one in events if one["name"] == "progress_exhaust_requests"]
    assert extras[:1] == [{"from_trigger": True, "payload": {"pending": 1}}]
    asks_no_more(site, {*before, run})


@pytest.mark.slow
def test_many_requests_at_once_are_made_by_few_runs(site: Site) -> None:
    before = on_request(site)
    requests = [site.request(batch) for batch in site.batches[1:5]]
    for request in requests:
        made(site, request)
    assert 1 <= len(on_request(site) - before) <= 2


@pytest.mark.slow
def test_request_that_is_deleted_between_two_questions_harms_nothing(site: Site) -> None:
    deleted = site.request(site.batches[1])
    site.sql("DELETE FROM job_request WHERE request_id = %s", deleted)
    made(site, site.request(site.batches[2]))


@pytest.mark.slow
def test_trigger_goes_on_after_postgres_was_away(site: Site) -> None:
    pid, warnings = site.pid(TRIGGERER), log(site).count(WARNING)
    with requests_away(site):
        wait_until(lambda: log(site).count(WARNING) > warnings, "the warning")
        time.sleep(15)
        assert log(site).count(WARNING) == warnings + 1, "an outage is logged once"
    request = site.request(site.batches[1])
    made(site, request)
    assert site.pid(TRIGGERER) == pid


@pytest.mark.slow
def test_request_is_made_after_a_restart_of_the_triggerer(site: Site) -> None:
    end_triggerer(site)
    request = site.request(site.batches[1])
    time.sleep(10)
    assert status(site, request) == "SUBMITTED"
    before = on_request(site)
    site.command("dev/airflow_servers.py", "start")
    made(site, request)
    assert len(on_request(site) - before) == 1


@pytest.mark.slow
def test_restarted_trigger_does_not_fire_for_what_a_run_put_back(site: Site) -> None:
    made(site, site.request(site.batches[1]))
    request = site.request(site.batches[2])
    made(site, request)
    wait_until(lambda: all(run["state"] in OVER for run in runs(site)), "the end of all runs")
    end_triggerer(site)
    put_back(site, request)
    before = on_request(site)
    site.command("dev/airflow_servers.py", "start")
    wait_until(lambda: "trigger ID" in log(site) or "starting" in log(site), "the trigger")
    asks_no_more(site, before)
    assert status(site, request) == "SUBMITTED"
    site.airflow.run()  # the schedule's next run takes it
    assert status(site, request) == "SUCCESS"


@pytest.mark.slow
def test_backfill_takes_what_its_day_would_have_taken(site: Site) -> None:
    batch = site.batches[1]
    request = site.request(batch, at=datetime(DAY.year, DAY.month, DAY.day, 10, tzinfo=REPORT_ZONE))
    made(site, request)
    put_back(site, request)
    before = on_request(site)
    site.command(
        "-m", "airflow", "backfill", "create", "--dag-id", "progress_exhaust",
        "--from-date", f"{DAY}", "--to-date", f"{DAY}T23:59",
    )  # fmt: skip
    made(site, request)
    assert site.row(request)["download_urls"] == [site.key(request, batch, DAY)]
    assert on_request(site) == before


@pytest.mark.slow
def test_next_run_takes_a_request_whose_event_was_lost(site: Site) -> None:
    """A run by hand without Params takes what a run of the schedule takes."""
    end_triggerer(site)
    request = site.request(site.batches[1])
    site.airflow.run()
    assert status(site, request) == "SUCCESS"
    before = on_request(site)
    site.command("dev/airflow_servers.py", "start")
    asks_no_more(site, before)


@pytest.mark.slow
def test_two_triggerers_make_each_request_once(site: Site) -> None:
    before = on_request(site)
    words = [sys.executable, "-m", "airflow", "triggerer", "--skip-serve-logs"]
    with Path(site.data / "second-triggerer.log").open("wb") as file:
        second = subprocess.Popen(words, cwd=site.data, env=dict(site.environment), stdout=file, stderr=file)
    try:
        time.sleep(15)
        request = site.request(site.batches[1])
        made(site, request)
        time.sleep(8)
        assert 1 <= len(on_request(site) - before) <= 2
        claims = site.sql("SELECT run_id FROM progress_exhaust.claim WHERE request_id = %s", request)
        assert len(claims) == 1
    finally:
        second.terminate()
        second.wait(30)


@pytest.mark.slow
def test_thousand_requests_with_permanent_errors_start_few_runs(site: Site) -> None:
    before = on_request(site)
    at = datetime.now(UTC)
    rows = [
        request_row(
            {"batchFilter": [f"unknown-batch-{number}"]}, label=f"thousand_{number}", channel=ORG,
            by=user_id((10_000 + number).to_bytes(16)), at=at + timedelta(microseconds=number),
        )
        for number in range(1000)
    ]  # fmt: skip
    with closing(psycopg2.connect(site.places.requests)) as connection:
        submit(connection, rows)
    failed = "SELECT count(*) AS number FROM job_request WHERE tag LIKE 'thousand%%' AND status = 'FAILED'"
    wait_until(lambda: site.sql(failed)[0]["number"] == 1000, "1,000 FAILED requests", 600)
    wait_until(lambda: all(run["state"] in OVER for run in runs(site)), "the end of all runs")
    started = on_request(site) - before
    assert 1 <= len(started) <= 3, "the others follow a run that has left something"
    asks_no_more(site, on_request(site))

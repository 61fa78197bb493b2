"""A night that never ran, made up for."""

from datetime import date, datetime, timedelta
from typing import Any

from tests.servers.gate import Gate
from tests.servers.site import DAG, REPORT_ZONE, Site, wait_until

DAY = date(2026, 3, 10)


def at(hour: int, minute: int = 0, day: date = DAY) -> datetime:
    """Return a time of day, in the reports' time zone."""
    return datetime(day.year, day.month, day.day, hour, minute, tzinfo=REPORT_ZONE)


def backfilled(site: Site, known: set[str]) -> str:
    """Wait for the end of the backfill's run, which must be green; return its id."""

    def new_run() -> str | None:
        runs = site.airflow.call(f"{DAG}/dagRuns?run_type=backfill&limit=100")["dag_runs"]
        return next((run["dag_run_id"] for run in runs if f"{run['dag_run_id']} {run['queued_at']}" not in known), None)

    run = str(wait_until(new_run, "the backfill's run"))
    assert site.airflow.end_of(run) == "success"
    return run


def backfills(site: Site) -> list[dict[str, Any]]:
    return list(site.airflow.call("/api/v2/backfills?dag_id=progress_exhaust")["backfills"])


def runs_so_far(site: Site) -> set[str]:
    runs = site.airflow.call(f"{DAG}/dagRuns?run_type=backfill&limit=100")["dag_runs"]
    return {f"{run['dag_run_id']} {run['queued_at']}" for run in runs}


def test_a_backfill_takes_what_its_day_would_have_taken(site: Site, gate: Gate) -> None:
    first, other, small = site.batches[1:4]
    early = site.request(first, at=at(10))
    late = site.request(other, at=at(23, 59))
    next_day = site.request(other, at=at(0, 1, DAY + timedelta(days=1)))
    done = site.request(small, at=at(9))
    site.airflow.run(request_ids=[done])
    untouched = {request: site.row(request) for request in (next_day, done)}
    tonight = site.request(small, at=at(11))

    # While a run of today is in the middle of one of that day's requests.
    with gate.closed(small, "pivot", "before") as held:
        today = site.airflow.start_run(request_ids=[tonight])
        held.wait()
        known = runs_so_far(site)
        site.command(
            "-m", "airflow", "backfill", "create", "--dag-id", "progress_exhaust",
            "--from-date", f"{DAY}", "--to-date", f"{DAY}T23:59",
        )  # fmt: skip
        run = backfilled(site, known)
        assert site.row(tonight)["status"] == "PROCESSING"
    assert site.airflow.end_of(today) == "success"
    assert site.row(tonight)["download_urls"] == [site.key(tonight, small)]

    for request, batch in {early: first, late: other}.items():
        row = site.row(request)
        assert (row["status"], row["download_urls"]) == ("SUCCESS", [site.key(request, batch, DAY)])
        assert list(site.published(request)) == row["download_urls"]
    assert {request: site.row(request) for request in untouched} == untouched
    assert site.row(next_day)["status"] == "SUBMITTED"
    assert site.staging(run) == []

    # The same day again, by REST, with force: what bears its date is made again, and nothing else.
    files = {key: digest for request in (early, late) for key, digest in site.published(request).items()}
    written = site.written(files)
    known = runs_so_far(site)
    ended_at = site.row(early)["dt_job_completed"]
    wait_until(lambda: all(one["completed_at"] for one in backfills(site)), "the end of the first one in the scheduler")
    site.airflow.call(
        "/api/v2/backfills",
        {
            "dag_id": "progress_exhaust", "from_date": f"{DAY}T00:00:00Z", "to_date": f"{DAY}T23:59:59Z",
            "reprocess_behavior": "completed", "dag_run_conf": {"force": True},
        },
    )  # fmt: skip
    run = backfilled(site, known)
    assert {key: digest for request in (early, late) for key, digest in site.published(request).items()} == files
    assert all(site.written(files)[key] > written[key] for key in files)
    assert site.row(early)["dt_job_completed"] > ended_at
    assert (site.row(early)["status"], site.row(late)["status"]) == ("SUCCESS", "SUCCESS")
    assert {request: site.row(request) for request in untouched} == untouched
    assert site.staging(run) == []

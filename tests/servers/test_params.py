"""The Params that a run gets through REST, and the events that it sends."""

import json
from typing import Any

import requests

from tests.servers.site import Site


def test_a_dry_run_publishes_and_marks_nothing(site: Site) -> None:
    request = site.request(site.batches[1])
    before = site.row(request)
    run = site.airflow.run(request_ids=[request], dry_run=True)
    tasks = site.airflow.tasks(run)
    assert tasks["package", 0].state == "success"  # it did all of the work
    assert tasks["mark_complete", 0].state == "skipped"
    assert "is made" in site.airflow.log(run, "batch.package", 0)
    assert site.row(request) == before
    assert site.published(request) == {}
    assert site.staging(run) == []
    assert events(site, run) == [], "it sends no event of a file"
    assert site.sql("SELECT * FROM progress_exhaust.claim WHERE request_id = %s", request) == []


def events(site: Site, run: str) -> list[dict[str, Any]]:
    """Return the asset events that a run has sent."""
    found = site.airflow.call(f"/api/v2/assets/events?source_run_id={requests.utils.quote(run)}")["asset_events"]
    return [event["extra"] for event in found]


def test_batches_without_a_request(site: Site) -> None:
    batch = site.batches[2]
    run = site.airflow.run(batch_ids=[batch])
    key = f"progress-exhaust/{batch}_progress_{site.day:%Y%m%d}.zip"
    assert site.object(key).stat().st_size == site.airflow.xcom(run, "batch.mark_complete", 0)["bytes"]
    assert site.staging(run) == []
    assert [event["key"] for event in events(site, run)] == [key]


def test_an_unknown_key_is_refused_with_the_right_one(site: Site) -> None:
    request = site.request(site.batches[2])
    before = site.row(request)
    run = site.airflow.start_run(request_id=[request])
    assert site.airflow.end_of(run) == "failed"
    assert "Unknown Param request_id in the run's conf: did you mean request_ids?" in site.airflow.log(run, "wait_for_requests")
    assert site.airflow.tasks(run)["wait_for_requests", -1].tries == 1
    assert site.row(request) == before


def test_xcom_holds_the_summary_and_no_learner(site: Site) -> None:
    batches = [site.batches[2], site.batches[3]]
    request = site.request(*batches)
    run = site.airflow.run(request_ids=[request])
    told = [site.airflow.xcom(run, "batch.mark_complete", index) for index in (0, 1)]
    for summary, batch in zip(told, batches, strict=True):
        assert (summary["request_id"], summary["batch_id"]) == (request, batch)
        assert summary["bytes"] == site.object(site.key(request, batch)).stat().st_size
        enrolled = [row for row in site.world.enrolments if row["batchid"] == batch]
        counts = summary["counts"]
        left_out = sum(number for name, number in counts.items() if name.startswith("excluded"))
        assert counts["reported"] == counts["rows"] == len(enrolled) - left_out > 0
        assert set(summary["seconds"]) == {"fetch_hierarchy", "extract", "pivot", "package", "mark_complete"}
    whole = site.airflow.xcom(run, "settle_requests")
    assert whole["requests"] == {"found": 1, "claimed": 1, "duplicate": 0, "succeeded": 1, "failed": 0, "deferred": 0}
    assert {state: number for state, number in whole["batches"].items() if number} == {"done": 2}
    assert whole["learners"]["enrolled"] == sum(summary["counts"]["enrolled"] for summary in told)

    # All that the run's tasks pass to each other: ids of requests and batches, counts, seconds.
    entries = site.airflow.call(f"/api/v2/dags/progress_exhaust/dagRuns/{run}/taskInstances/~/xcomEntries?limit=200")
    everything = json.dumps([
        site.airflow.xcom(run, one["task_id"], one["map_index"], one["key"]) for one in entries["xcom_entries"]
    ])  # fmt: skip
    assert request in everything
    assert everything.count(batches[0]) >= 2
    names = {name for _, user in site.world.users for name in (user.get("firstname"), user.get("lastname"))}
    names = {name for name in names if name and len(name) > 3}
    for secret in {row["userid"] for row in site.world.enrolments} | names:
        assert secret not in everything

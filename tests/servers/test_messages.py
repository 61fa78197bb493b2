"""The messages about a failed run, on Airflow's own servers."""

from urllib.parse import quote

from tests.servers.site import Site, no_extract, wait_until


def test_a_failed_run_is_one_message_whatever_many_tasks_failed(site: Site) -> None:
    """Both batches of a request fail; the run before it does not."""
    good = site.airflow.run(batch_ids=[site.batches[2]])
    batches = site.batches[1:3]
    request = site.request(*batches)
    with no_extract(site, batches[0]), no_extract(site, batches[1]):
        run = site.airflow.start_run(request_ids=[request])
        assert site.airflow.end_of(run) == "failed"
    wait_until(lambda: any(run in message for message in site.messages), "the message")
    assert len([task for task in site.airflow.tasks(run).values() if task.state == "failed"]) > 1
    # A later one comes after whatever else of this one would.
    later = site.airflow.start_run(batch_ids=["no such batch"])
    assert site.airflow.end_of(later) == "failed"
    wait_until(lambda: any(later in message for message in site.messages), "the later message")
    [message] = [message for message in site.messages if run in message]
    assert message == (
        f"Run {run} of progress_exhaust failed: 1 of 1 requests, 2 of 2 batches. "
        f"{site.airflow.url}/dags/progress_exhaust/runs/{run}"
    )
    assert not any(good in message for message in site.messages)


def test_a_cleared_task_reports_the_file_again_and_says_so(site: Site) -> None:
    batch = site.batches[2]
    request = site.request(batch)
    run = site.airflow.run(request_ids=[request])
    assert site.airflow.rerun(run, ["batch.mark_complete", 0]) == "success"
    events = site.airflow.call(f"/api/v2/assets/events?source_run_id={quote(run)}&order_by=timestamp")["asset_events"]
    assert [event["extra"]["again"] for event in events] == [False, True]
    assert {event["extra"]["key"] for event in events} == {site.key(request, batch)}

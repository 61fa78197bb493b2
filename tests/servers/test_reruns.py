"""What an engineer does the morning after: one stage, one batch, one request, one night again."""

from collections.abc import Iterator
from contextlib import contextmanager

from tests.servers.gate import Gate
from tests.servers.site import STAGES, Site, Task, no_extract


@contextmanager
def no_room(site: Site, key: str) -> Iterator[None]:
    """Make `package` fail: a folder stands where the file should go."""
    folder = site.object(key)
    folder.mkdir(parents=True)
    try:
        yield
    finally:
        folder.rmdir()


def tries(tasks: dict[tuple[str, int], Task], map_index: int) -> list[int]:
    return [tasks[stage, map_index].tries for stage in STAGES]


def test_one_stage_of_one_batch_again(site: Site) -> None:
    """A night with two bad batches, the first of its request and one in the middle, fixed one after the other."""
    chosen = [site.batches[number] for number in (2, 1, 3, 4)]
    request = site.request(*chosen)
    middle_key = site.key(request, chosen[2])
    with no_extract(site, chosen[0]), no_room(site, middle_key):
        run = site.airflow.start_run(request_ids=[request])
        assert site.airflow.end_of(run) == "failed"
        row = site.row(request)
        assert (row["status"], row["iteration"]) == ("FAILED", 1)
        assert [chosen[0] in row["err_message"], chosen[2] in row["err_message"]] == [True, True]
        assert [one["batchId"] for one in row["processed_batches"]] == [chosen[1], chosen[3]]
        assert row["download_urls"] == [site.key(request, batch) for batch in (chosen[1], chosen[3])]
        before = site.airflow.tasks(run)
        assert before["extract", 0].label == chosen[0]
        assert [before[stage, 0].state for stage in STAGES] == ["success", "failed", *["upstream_failed"] * 3]
        assert [before[stage, 2].state for stage in STAGES] == ["success"] * 3 + ["failed", "upstream_failed"]

    # The first one: its stage and what follows; the other bad batch still keeps the run red.
    assert site.airflow.rerun(run, ["batch.extract", 0], include_downstream=True) == "failed"
    row, tasks = site.row(request), site.airflow.tasks(run)
    assert (row["status"], row["iteration"], len(row["processed_batches"])) == ("FAILED", 1, 3)
    assert chosen[0] not in row["err_message"] and chosen[2] in row["err_message"]
    assert tries(tasks, 0) == [1, 2, 1, 1, 1]
    assert tasks["settle_requests", -1].tries == before["settle_requests", -1].tries + 1
    untouched = {key for key in before if key[1] > 0 or key[0] in ("wait_for_requests", "claim_requests", "list_batches")}
    assert {key: tasks[key].tries for key in untouched} == {key: before[key].tries for key in untouched}
    assert {path.parts[-2] for path in site.staging(run)} == {chosen[2], "enrolled", "facts", "pivot-1"}

    # The one in the middle: the request is whole.
    assert site.airflow.rerun(run, ["batch.package", 2], include_downstream=True) == "success"
    row, after = site.row(request), site.airflow.tasks(run)
    assert (row["status"], row["iteration"], row["err_message"]) == ("SUCCESS", 1, None)
    assert sorted(row["download_urls"]) == sorted(site.key(request, batch) for batch in chosen) == sorted(site.published(request))
    assert tries(after, 2) == [1, 1, 1, before["package", 2].tries + 1, 1]
    for index in (0, 1, 3):
        assert tries(after, index) == tries(tasks, index)
    assert site.staging(run) == []


def test_a_whole_night_again_by_its_failed_tasks(site: Site) -> None:
    batches = site.batches[1:3]
    request = site.request(*batches)
    with no_extract(site, batches[1]):
        run = site.airflow.start_run(request_ids=[request])
        assert site.airflow.end_of(run) == "failed"
    made = site.published(request)
    before = site.airflow.tasks(run)
    assert site.airflow.rerun(run, only_failed=True) == "success"
    row, after = site.row(request), site.airflow.tasks(run)
    assert (row["status"], row["iteration"]) == ("SUCCESS", 1)
    assert tries(after, 0) == tries(before, 0) == [1] * 5
    assert tries(after, 1) == [1, 2, 1, 1, 1]
    assert made.items() <= site.published(request).items() and len(site.published(request)) == 2


def test_a_whole_run_again_although_its_request_failed_three_times(site: Site) -> None:
    batch = site.batches[2]
    request = site.request(batch)
    site.sql("UPDATE job_request SET iteration = 2 WHERE request_id = %s", request)
    with no_extract(site, batch):
        run = site.airflow.start_run(request_ids=[request])
        assert site.airflow.end_of(run) == "failed"
    assert site.row(request)["iteration"] == 3  # no run takes it by itself any more
    assert site.airflow.rerun(run) == "success"
    row = site.row(request)
    assert (row["status"], row["iteration"], row["download_urls"]) == ("SUCCESS", 3, [site.key(request, batch)])


def test_a_stage_whose_staging_is_missing_says_what_to_clear(site: Site) -> None:
    batch = site.batches[1]
    request = site.request(batch)
    run = site.airflow.run(request_ids=[request])
    row, made = site.row(request), site.published(request)
    for stage, missing in {"package": "pivot.json", "fetch_hierarchy": "batch.json"}.items():
        assert site.airflow.rerun(run, [f"batch.{stage}", 0], include_downstream=True) == "failed"
        said = site.airflow.log(run, f"batch.{stage}", 0)
        assert f"{missing} is missing from staging" in said
        assert "request_ids and force" in said
        assert site.airflow.tasks(run)[stage, 0].state == "failed"
    # The requester notices nothing of it.
    assert site.row(request) == row
    assert site.published(request) == made
    assert site.staging(run) == []


def test_a_finished_request_again_the_same_day(site: Site) -> None:
    batches = site.batches[1:3]
    request = site.request(*batches)
    site.airflow.run(request_ids=[request])
    row, made = site.row(request), site.published(request)
    assert len(made) == 2
    written = site.written(made)
    without_force = site.airflow.start_run(request_ids=[request])
    assert site.airflow.end_of(without_force) == "failed"
    assert "it is finished (SUCCESS). The Param force makes it again" in site.airflow.log(without_force, "claim_requests")
    assert site.written(made) == written
    run = site.airflow.run(request_ids=[request], force=True)
    assert site.airflow.tasks(run)["package", 1].state == "success"
    assert all(site.written(made)[key] > written[key] for key in made)
    assert site.published(request) == made
    again = site.row(request)
    assert (again["status"], again["iteration"]) == ("SUCCESS", 0)
    assert sorted(again["download_urls"]) == sorted(row["download_urls"]) == sorted(made)


def test_the_file_of_a_finished_batch_is_replaced_by_its_stages(site: Site) -> None:
    """One batch of two failed, so that the run is not over; `package` of the good one again."""
    good, bad = site.batches[1], site.batches[2]
    request = site.request(good, bad)
    with no_extract(site, bad):
        run = site.airflow.start_run(request_ids=[request])
        assert site.airflow.end_of(run) == "failed"
    made = site.published(request)
    assert list(made) == [site.key(request, good)]
    # Its staging went when the run was settled; from list_batches on, all that is not finished is made.
    assert site.airflow.rerun(run, "list_batches", include_downstream=True) == "success"
    assert site.row(request)["status"] == "SUCCESS"
    assert made.items() <= site.published(request).items()


def test_an_old_run_changes_nothing_of_what_a_newer_one_holds(site: Site, gate: Gate) -> None:
    batch = site.batches[2]
    request = site.request(batch)
    with no_extract(site, batch):
        old = site.airflow.start_run(request_ids=[request])
        assert site.airflow.end_of(old) == "failed"
    with gate.closed(batch, "pivot", "before") as held:
        new = site.airflow.start_run(request_ids=[request])
        held.wait()
        row = site.row(request)
        assert row["status"] == "PROCESSING"

        assert site.airflow.rerun(old, ["batch.extract", 0], include_downstream=True) == "failed"
        assert f"is held by run {new}" in site.airflow.log(old, "batch.extract", 0)
        assert site.row(request) == row

        site.airflow.rerun(old)
        assert f"{request} is held by run {new}" in site.airflow.log(old, "claim_requests")
        assert site.row(request) == row
        assert site.published(request) == {}
    assert site.airflow.end_of(new) == "success"
    row = site.row(request)
    assert (row["status"], row["iteration"], row["download_urls"]) == ("SUCCESS", 1, [site.key(request, batch)])
    assert site.staging(old) == site.staging(new) == []

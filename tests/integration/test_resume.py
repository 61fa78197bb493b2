"""An extract that broke off goes on after its finished parts, of the same day; one that is wanted anew reads anew."""

import json
import logging
from datetime import datetime, timedelta
from pathlib import Path
from threading import Thread

import pytest
from progress_exhaust.operators.stage import EXTRACT_FILE, Work

from dev.world import World, batch_world
from progress_exhaust.operators.extract import PAGES_FILE, ExtractOperator
from tests.integration.install import Install
from tests.integration.stage_work import stage_work
from tests.servers.site import wait_until

LEARNERS, LEARNERS_PER_PART = 60, 25


@pytest.fixture(params=["enrolments_by_batch", "enrolments_by_user"])
def work(request: pytest.FixtureRequest, install: Install, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Work:
    install.load(the_world())
    return stage_work(
        install,
        tmp_path,
        monkeypatch,
        enrolments_table=getattr(install.names, request.param),
        learners_per_chunk=LEARNERS_PER_PART,
        read_strategy="scan",
        processes_per_task=1,
    )


def the_world() -> World:
    return batch_world(LEARNERS, 10, nested=1, assessments=2, leaves=5)


def extract(work: Work) -> dict[str, int]:
    operator = ExtractOperator(task_id="extract", batch={})
    return operator.make(work)  # type: ignore[no-any-return]


def broken_off(work: Work) -> dict[int, int]:
    """Take away what a kill before the last part leaves undone; return when the other parts were written, by number."""
    work.forget(EXTRACT_FILE)
    Path(work.part(2).path).unlink()
    return written(work, 0, 1)


def written(work: Work, *numbers: int) -> dict[int, int]:
    return {number: Path(work.part(number).path).stat().st_mtime_ns for number in numbers}


def test_a_retry_goes_on_after_the_last_finished_part(work: Work, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    counts = extract(work)
    whole = [work.part(number).read_bytes() for number in range(3)]
    assert "goes on after" not in caplog.text
    before = broken_off(work)
    assert extract(work) == counts
    assert "goes on after 2 of 3 finished parts" in caplog.text
    assert written(work, 0, 1) == before
    assert [work.part(number).read_bytes() for number in range(3)] == whole


def test_parts_of_another_day_are_not_mixed_in(work: Work, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    counts = extract(work)
    before = broken_off(work)
    pages = work.read(PAGES_FILE)
    yesterday = datetime.fromisoformat(pages["as_of"]) - timedelta(days=1)
    work.leave(PAGES_FILE, pages | {"as_of": yesterday.isoformat()})
    assert extract(work) == counts
    assert "goes on after" not in caplog.text
    assert not set(written(work, 0, 1).values()) & set(before.values())


def test_a_finished_extract_that_is_cleared_reads_what_is_there_now(work: Work, install: Install) -> None:
    counts = extract(work)
    world = the_world()
    one = next(row for row in world.enrolments if row["batchid"] == work.batch.batch_id and row["active"])
    late = one | {"userid": "ffffffff-late"}
    columns = [name for name, value in late.items() if value is not None]
    for table in (install.names.enrolments_by_batch, install.names.enrolments_by_user):
        statement = f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({', '.join(['%s'] * len(columns))})"
        install.session.execute(statement, [late[name] for name in columns])
    try:
        again = extract(work)
    finally:
        for table in (install.names.enrolments_by_batch, install.names.enrolments_by_user):
            key = "batchid = %s AND courseid = %s AND userid = %s"
            install.session.execute(f"DELETE FROM {table} WHERE {key}", [late["batchid"], late["courseid"], late["userid"]])
    assert again["enrolled"] == counts["enrolled"] + 1
    assert json.loads((work.folder / EXTRACT_FILE).read_text())["counts"]["enrolled"] == again["enrolled"]


def test_a_retry_on_the_same_day_reads_no_table_twice(work: Work, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    extract(work)
    scans = caplog.text.count("for 1 batches of this run")
    assert scans == (3 if "keyed by user" in caplog.text else 2)
    broken_off(work)
    extract(work)
    assert caplog.text.count("for 1 batches of this run") == scans


def test_a_batch_says_that_it_waits_for_anothers_scan_and_each_try_how_it_is_read(
    work: Work, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    reader = Thread(target=extract, args=[work])
    with work.requests.alone("scan of user_activity_agg"):
        reader.start()
        wait_until(lambda: "user_activity_agg: one batch of the run decides" in caplog.text, "the wait")
        assert "by scan" not in caplog.text
    reader.join()
    assert "user_activity_agg: by scan, as read_strategy says, for 1 batches of this run" in caplog.text
    caplog.clear()
    broken_off(work)
    extract(work)
    for table in ("user_activity_agg", "assessment_aggregator"):
        assert f"{table}: by scan, as read_strategy says (decided at " in caplog.text
    assert "the others wait here" not in caplog.text

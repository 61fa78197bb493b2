"""An extract that did not finish continues after its chunks of the same day. A finished one that is cleared reads again."""

import logging
from datetime import timedelta
from pathlib import Path
from threading import Thread

import pytest

from dev.world import World, batch_world
from progress_exhaust.stages.batch_context import BatchContext
from progress_exhaust.staging.manifests import ChunksManifest, ExtractManifest
from tests.integration.extract_context import extract, extract_context
from tests.integration.install import Install
from tests.servers.site import wait_until

LEARNERS, LEARNERS_PER_CHUNK = 60, 25


@pytest.fixture(params=["enrolments_by_batch", "enrolments_by_user"])
def context(request: pytest.FixtureRequest, install: Install, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> BatchContext:
    install.load(the_world())
    return extract_context(
        install,
        tmp_path,
        monkeypatch,
        enrolments_table=getattr(install.names, request.param),
        learners_per_part=LEARNERS_PER_CHUNK,
        read_strategy="scan",
        processes_per_task=1,
    )


def the_world() -> World:
    return batch_world(LEARNERS, 10, nested=1, assessments=2, leaves=5)


def interrupt(context: BatchContext) -> dict[int, int]:
    """Delete what a kill before the last chunk leaves undone; return when the other chunks were written, by number."""
    context.staging.delete_manifest(ExtractManifest)
    Path(context.staging.facts_chunk(2).path).unlink()
    return written(context, 0, 1)


def written(context: BatchContext, *numbers: int) -> dict[int, int]:
    return {number: Path(context.staging.facts_chunk(number).path).stat().st_mtime_ns for number in numbers}


def test_a_retry_continues_after_the_last_finished_chunk(context: BatchContext, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    counts = extract(context)
    whole = [context.staging.facts_chunk(number).read_bytes() for number in range(3)]
    assert "continues after" not in caplog.text
    before = interrupt(context)
    assert extract(context) == counts
    assert "continues after 2 of 3 finished chunks" in caplog.text
    assert written(context, 0, 1) == before
    assert [context.staging.facts_chunk(number).read_bytes() for number in range(3)] == whole


def test_chunks_of_another_day_are_not_mixed_in(context: BatchContext, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    counts = extract(context)
    before = interrupt(context)
    chunks = context.staging.read(ChunksManifest)
    context.staging.write_manifest(chunks.model_copy(update={"as_of": chunks.as_of - timedelta(days=1)}))
    assert extract(context) == counts
    assert "continues after" not in caplog.text
    assert not set(written(context, 0, 1).values()) & set(before.values())


def test_a_finished_extract_that_is_cleared_reads_what_is_there_now(context: BatchContext, install: Install) -> None:
    counts = extract(context)
    world = the_world()
    one = next(row for row in world.enrolments if row["batchid"] == context.batch.batch_id and row["active"])
    late = one | {"userid": "ffffffff-late"}
    columns = [name for name, value in late.items() if value is not None]
    for table in (install.names.enrolments_by_batch, install.names.enrolments_by_user):
        statement = f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({', '.join(['%s'] * len(columns))})"
        install.session.execute(statement, [late[name] for name in columns])
    try:
        again = extract(context)
    finally:
        for table in (install.names.enrolments_by_batch, install.names.enrolments_by_user):
            key = "batchid = %s AND courseid = %s AND userid = %s"
            install.session.execute(f"DELETE FROM {table} WHERE {key}", [late["batchid"], late["courseid"], late["userid"]])
    assert again["enrolled"] == counts["enrolled"] + 1
    assert context.staging.read(ExtractManifest).counts["enrolled"] == again["enrolled"]


def test_a_retry_on_the_same_day_reads_no_table_twice(context: BatchContext, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    extract(context)
    scans = caplog.text.count("for 1 batches of this run")
    assert scans == (3 if "keyed by user" in caplog.text else 2)
    interrupt(context)
    extract(context)
    assert caplog.text.count("for 1 batches of this run") == scans


def test_a_batch_logs_that_it_waits_for_the_scan_of_another_and_each_attempt_how_it_is_read(
    context: BatchContext, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    reader = Thread(target=extract, args=[context])
    with context.locks.exclusive_lock("scan of user_activity_agg"):
        reader.start()
        wait_until(lambda: "user_activity_agg: one batch of the run decides" in caplog.text, "the wait")
        assert "by scan" not in caplog.text
    reader.join()
    assert "user_activity_agg: by scan, as read_strategy says, for 1 batches of this run" in caplog.text
    caplog.clear()
    interrupt(context)
    extract(context)
    for table in ("user_activity_agg", "assessment_aggregator"):
        assert f"{table}: by scan, as read_strategy says (decided at " in caplog.text
    assert "the others wait" not in caplog.text

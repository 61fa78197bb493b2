"""The recorder of the tests: committed changes, in the order of the commits, whatever the columns."""

import os
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import psycopg2
import pytest

from tests.history.checker import check, check_end
from tests.history.events import Commit
from tests.history.recorder import read_history, record_history, stop_recording
from tests.integration.life import CONNECTION, LEDGER, batch_of, chosen, database_of_requests, emptied, hook_of, insert


@pytest.fixture
def cursor(servers: None) -> Iterator[Any]:
    with database_of_requests("progress_exhaust_history") as cursor:
        yield emptied(cursor)


def test_life_of_a_request_is_recorded_and_legal(cursor: Any) -> None:
    record_history(cursor)
    key = insert(cursor, "r1")
    run = hook_of("run")
    run.claim(chosen())
    run.list_batches([batch_of(key)], [], batch_ids={key: ["b1"]})
    run.complete_batch(batch_of(key), object_key="progress-exhaust/r1/b1_progress_20220927.zip", size_bytes=1)
    events = read_history(cursor)
    assert check(events) == check_end(events) == []
    changed = [[change.table for change in event.changes] for event in events if isinstance(event, Commit)]
    assert changed[:2] == [["job_request"], ["claim", "job_request"]]
    assert sorted(set(changed[-1])) == ["batch_run", "claim", "job_request"]
    stop_recording(cursor)
    insert(cursor, "r2")


def test_only_commits_are_recorded_in_their_order_with_every_column(cursor: Any) -> None:
    cursor.execute(f"ALTER TABLE {LEDGER}.claim ADD COLUMN new_column text DEFAULT 'new'")
    record_history(cursor)
    for request_id in ("r1", "r2"):
        insert(cursor, request_id)
    with closing(psycopg2.connect(os.environ[CONNECTION])) as late, closing(psycopg2.connect(os.environ[CONNECTION])) as lost:
        late.cursor().execute("UPDATE job_request SET iteration = 1 WHERE request_id = 'r1'")
        lost.cursor().execute("UPDATE job_request SET iteration = 1 WHERE request_id = 'r2'")
        lost.rollback()
        hook_of("run").claim(chosen(request_ids=["r2"]))
        late.commit()
    *_, claim, last = read_history(cursor)
    assert isinstance(claim, Commit) and isinstance(last, Commit)
    assert [change.new["new_column"] for change in claim.changes if change.table == "claim" and change.new] == ["new"]
    assert [(change.old["iteration"], change.new["iteration"]) for change in last.changes if change.old and change.new] == [
        (0, 1)
    ]
    assert len(read_history(cursor)) == 4

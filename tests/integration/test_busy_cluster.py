"""A read that gets no answer in time is sent again after a pause. If no answer ever comes, it fails with a message."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from dev import services
from dev.servers import Cassandra
from dev.world import batch_world
from progress_exhaust.errors import SourceError
from progress_exhaust.hooks.cassandra import cluster
from progress_exhaust.hooks.cassandra.tables import LearnerTablesHook
from tests.integration.install import Install

TIMEOUT_SECONDS = 0.5
ROWS_PER_PAGE = 10


@pytest.fixture
def tables(install: Install, monkeypatch: pytest.MonkeyPatch) -> Iterator[LearnerTablesHook]:
    for name, value in install.environment().items():
        monkeypatch.setenv(name, value)
    with install.learner_tables(timeout_seconds=TIMEOUT_SECONDS, rows_per_page=ROWS_PER_PAGE) as hook:
        yield hook


@contextmanager
def silent(seconds: float) -> Iterator[None]:
    """Stop Cassandra's answers for so many seconds from the start of the block."""
    pid = Cassandra(services.Settings.from_environment()).pid()
    assert pid
    os.kill(pid, signal.SIGSTOP)
    goes_on = threading.Timer(seconds, os.kill, (pid, signal.SIGCONT))
    goes_on.start()
    try:
        yield
    finally:
        goes_on.cancel()
        os.kill(pid, signal.SIGCONT)


def test_a_read_that_is_not_answered_in_time_is_sent_again(tables: LearnerTablesHook) -> None:
    assert tables.hierarchy("unknown") is None
    with silent(2.5 * TIMEOUT_SECONDS):
        started = time.monotonic()
        assert tables.hierarchy("unknown") is None
    assert time.monotonic() - started > TIMEOUT_SECONDS


def test_a_read_of_many_pages_goes_on_where_it_was_not_answered(tables: LearnerTablesHook, install: Install) -> None:
    """Each learner once, whichever of the pages Cassandra leaves without an answer."""
    world = batch_world(100, 0, nested=1, assessments=1, leaves=3)
    install.load(world)
    batch = world.batches[0]
    expected = sorted(row["userid"] for row in world.enrolments if row["batchid"] == batch["batchid"])
    read = tables.enrolments_of_batch(batch["courseid"], batch["batchid"])
    found = [next(read).user_id for _ in range(15)]
    with silent(2.5 * TIMEOUT_SECONDS):
        found += [one.user_id for one in read]
    assert found == expected


def test_a_cluster_that_never_answers_fails_the_read(tables: LearnerTablesHook, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "PAUSES_SECONDS", (0.1, 0.1))
    assert tables.hierarchy("unknown") is None
    with silent(30), pytest.raises(SourceError, match=r"Cassandra at 127\.0\.0\.1:\d+ \(connection progress_exhaust_cassandra\)"):
        tables.hierarchy("unknown")
    assert tables.hierarchy("unknown") is None

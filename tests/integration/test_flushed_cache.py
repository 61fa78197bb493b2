"""A flushed user cache fails the extract before the expensive reads, in each attempt of the task; an incomplete one does not."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from dev.load import load_users
from dev.world import World, batch_world
from progress_exhaust.errors import SourceError
from progress_exhaust.hooks.cassandra.tables import LearnerTablesHook
from progress_exhaust.stages.batch_context import BatchContext
from tests.integration.extract_context import extract, extract_context
from tests.integration.install import Install

LEARNERS_PER_CHUNK = 10
FLUSHED = r"at least \d\d of 1\d\d learners are missing from the user cache, more than max_missing_users_percent \(20\)"


@pytest.fixture(scope="module")
def world(install: Install) -> World:
    made = batch_world(160, 0, nested=1, assessments=2, leaves=5)
    install.load(made)
    return made


@pytest.fixture
def context(install: Install, world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[BatchContext]:
    """Return an extract that reads by partitions, in this process, 10 learners at a time."""
    install.submit(world.requests)
    yield extract_context(
        install, tmp_path, monkeypatch,
        learners_per_chunk=LEARNERS_PER_CHUNK, processes_per_task=1, read_strategy="partitions",
    )  # fmt: skip
    load_users(install.users, world.users)


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the names of the reads of Cassandra, in their order."""
    found: list[str] = []

    def recorded(name: str, read: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            found.append(name)
            return read(*arguments)

        return call

    for name in ("enrolments_of_batch", "attempts"):
        monkeypatch.setattr(LearnerTablesHook, name, recorded(name, getattr(LearnerTablesHook, name)))
    return found


def learners(world: World) -> list[str]:
    return sorted(row["userid"] for row in world.enrolments if row["active"])


def test_a_flushed_cache_is_noticed_before_the_facts_are_read_and_cheaply_by_a_retry(
    install: Install, context: BatchContext, reads: list[str]
) -> None:
    install.users.flushdb()
    for _task_attempt in range(3):
        with pytest.raises(SourceError, match=FLUSHED):
            extract(context)
    assert reads == ["enrolments_of_batch"]


def test_a_cache_that_is_flushed_meanwhile_is_noticed_while_the_facts_arrive(
    install: Install, world: World, context: BatchContext, reads: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    recorded = LearnerTablesHook.attempts

    def flush(*arguments: Any) -> Any:
        install.users.flushdb()
        return recorded(*arguments)

    with monkeypatch.context() as flushing:
        flushing.setattr(LearnerTablesHook, "attempts", flush)
        with pytest.raises(SourceError, match=FLUSHED):
            extract(context)
    assert 4 <= reads.count("attempts") <= 5  # of 15 chunks or more
    load_users(install.users, world.users)
    counts = extract(context)  # nothing of the failed attempt is used again
    assert counts["missing"] < 5 and counts["reported"] == len(learners(world))


def test_a_cache_that_lacks_a_part_of_the_first_learners_is_counted_and_used(
    install: Install, world: World, context: BatchContext, reads: list[str]
) -> None:
    present = [user_id for user_id in learners(world)[:LEARNERS_PER_CHUNK] if install.users.exists(f"user:{user_id}")]
    before = extract(context)["missing"]
    install.users.delete(*(f"user:{user_id}" for user_id in present))
    assert extract(context)["missing"] == before + len(present)
    assert len(present) > 5 and reads.count("attempts") > 15

"""How far long work is: in the task's log, and in the ledger."""

import logging
from pathlib import Path

import pytest

from dev.world import batch_world
from progress_exhaust.operators import stage
from progress_exhaust.operators.stage import LEARNERS, Progress, Work
from tests.integration.install import Install
from tests.integration.stage_work import stage_work


@pytest.fixture
def work(install: Install, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Work:
    install.load(batch_world(3, 0, nested=1, assessments=1, leaves=3))
    return stage_work(install, tmp_path, monkeypatch)


def test_learners_are_counted_in_the_log_and_in_the_ledger(
    work: Work, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    progress = Progress(work, LEARNERS, 1000)
    progress.add(100)
    assert not caplog.messages  # news comes every few seconds
    monkeypatch.setattr(stage, "SECONDS_BETWEEN_NEWS", 0)
    progress.add(300)
    [told] = caplog.messages
    assert told.startswith(f"{work.batch}: 400 of 1,000 learners, ") and " a second, " in told and told.endswith(" s left")
    kept = work.requests.batch_run(work.batch)
    assert kept is not None and (kept.counts["learners_done"], kept.counts["enrolled"]) == (400, 1000)
    assert kept.counts["seconds_left"] == int(told.rpartition(", ")[2].removesuffix(" s left"))


def test_other_work_is_told_of_in_the_log_alone(
    work: Work, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(stage, "SECONDS_BETWEEN_NEWS", 0)
    assert list(Progress(work, "parts written", 2).of("ab")) == ["a", "b"]
    first, second = caplog.messages
    assert first.startswith(f"{work.batch}: 1 of 2 parts written, ") and second.startswith(
        f"{work.batch}: 2 of 2 parts written, "
    )
    kept = work.requests.batch_run(work.batch)
    assert kept is not None and "learners_done" not in kept.counts

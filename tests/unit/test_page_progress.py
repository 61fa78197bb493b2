"""How much of a request is made: one number for the bar, its text and the time left."""

import itertools
import re

import pytest

from progress_exhaust.hooks.requests.models import BATCH_STAGES, Stage
from progress_exhaust.page.progress import (
    ACTIVITIES,
    STAGE_WEIGHTS,
    BatchProgress,
    batch_seconds_left,
    batch_share,
    format_estimate,
    request_progress,
    request_seconds_left,
)

MADE, NOT_MADE = BatchProgress(share=1, is_made=True), BatchProgress(share=1)


def test_every_stage_has_a_weight_and_a_name() -> None:
    assert sum(STAGE_WEIGHTS.values()) == 100
    assert tuple(STAGE_WEIGHTS) == tuple(ACTIVITIES) == BATCH_STAGES


def test_a_batch_never_goes_back_within_a_task_attempt() -> None:
    """As the ledger records it: a stage starts, reports its percent, ends; its time of an earlier attempt is removed first."""
    seconds = {str(stage): 1.0 for stage in BATCH_STAGES}  # all of it was made before, and is made again
    shares = [batch_share("list_batches", {}, 0)]
    for stage in BATCH_STAGES:
        del seconds[stage]
        shares += [batch_share(stage, seconds, percent) for percent in (0, 0, 30, 99, 100)]
        seconds[stage] = 1.0
        shares.append(batch_share(stage, seconds, 0))
    assert shares == sorted(shares) and (shares[0], shares[-1]) == (0, 1)
    assert max(later - sooner for sooner, later in itertools.pairwise(shares)) < 0.6


def test_the_text_has_the_number_of_the_bar() -> None:
    batches = [
        MADE,
        MADE,
        NOT_MADE,
        BatchProgress(share=0.4, activity="extracting", seconds_left=120),
        BatchProgress(share=0.9, activity="packaging", seconds_left=4),
        BatchProgress(waits_for_slot=True),
    ]
    progress = request_progress(batches)
    assert progress.percent == int(100 * (3 + 0.4 + 0.9) / 6)
    assert progress.text == f"2 of 6 batches · extracting {progress.percent} % · 1 waiting for a slot · about 2 min"


@pytest.mark.parametrize(
    ("batches", "text"),
    [
        ([], "its batches are not listed yet"),
        ([BatchProgress(waits_for_slot=True)] * 2, "0 of 2 batches · 0 % · 2 waiting for a slot"),
        ([MADE, NOT_MADE], "1 of 2 batches · finishing 100 %"),
        ([BatchProgress(share=0.5, waits_for_retry=True)], "0 of 1 batch · 50 % · 1 to be tried again"),
    ],
)
def test_a_request_of_which_nothing_runs(batches: list[BatchProgress], text: str) -> None:
    progress = request_progress(batches)
    assert progress.text == text
    assert re.search(rf"\b{progress.percent} %", text) or not batches


def test_time_left_of_a_batch() -> None:
    counts = {"percent": 50, "seconds_left": 80}  # extract takes 160 s, and what follows 17/80 of that
    assert batch_seconds_left("extract", {"fetch_hierarchy": 1}, counts) == pytest.approx(80 + 34)
    before = {"fetch_hierarchy": 3, "extract": 80}
    assert batch_seconds_left("extract", before, {}) == pytest.approx(17)
    assert batch_seconds_left("package", before | {"pivot": 10}, {}) == pytest.approx(7)
    for stage, seconds in (("list_batches", {}), ("fetch_hierarchy", {}), ("extract", {"fetch_hierarchy": 1})):
        assert batch_seconds_left(stage, seconds, {}) is None
    assert batch_seconds_left(Stage.EXTRACT, {}, {"percent": 100, "seconds_left": 0}) == 0


def test_time_left_counts_the_batches_that_have_not_started() -> None:
    running = BatchProgress(share=0.5, activity="extracting", seconds_left=60)
    assert request_seconds_left([running]) == 60
    assert request_seconds_left([running, BatchProgress(waits_for_slot=True)]) == 60 + 120
    assert request_seconds_left([running, running, BatchProgress()]) == (60 + 60 + 120) / 2
    assert request_seconds_left([BatchProgress(waits_for_slot=True)]) is None


def test_an_estimate_does_not_jump() -> None:
    shown = [format_estimate(seconds) for seconds in (5, 49, 60, 200, 280, 1000, 1100, 4000, 20_000)]
    assert shown == [
        *["less than a minute"] * 2, "about 1 min", "about 3 min", "about 5 min", "about 15 min", "about 20 min", "about 1 h",
        "about 5 h 30 min",
    ]  # fmt: skip

"""What a run hands to the next one, which it starts at once because of batches_per_run."""

from types import SimpleNamespace
from typing import Any

import pytest

from progress_exhaust.hooks.requests.models import BatchRun, BatchState, ReleasedClaim, Stage
from progress_exhaust.report.options import OutputFormat
from progress_exhaust.stages.next_run import has_progress, next_runs, params_of_next_runs, start_next_runs
from progress_exhaust.stages.site_setup import RunParams


def batch(state: BatchState) -> BatchRun:
    return BatchRun("t", "r", "b", "c", "org", Stage.PACKAGE, state, {}, {}, None, None, None, False)


def params(given: RunParams, **more: Any) -> list[dict[str, Any]]:
    values: dict[str, Any] = {"limited": True, "left": ["r1", "r2"], "put_back": {"r2"}, "batch_ids": []}
    return params_of_next_runs(given, **values | more)


def test_next_run_of_the_whole_queue_takes_whatever_waits() -> None:
    assert params(RunParams(), limited=False) == [{}]


def test_next_run_keeps_the_layout_and_the_format() -> None:
    given = RunParams(layout="sunbird-lern-7", output_format=OutputFormat.XLSX)
    assert params(given, limited=False) == [{"layout": "sunbird-lern-7", "output_format": "xlsx"}]


@pytest.mark.parametrize("given", [RunParams(request_ids=("r1", "r2", "r3"), release_claims=True), RunParams()])
def test_next_run_of_a_part_of_the_queue_has_the_rest_of_that_part(given: RunParams) -> None:
    assert params(given) == [{"request_ids": ["r1", "r2"]}]
    assert params(given, left=[]) == []


def test_what_a_forced_run_has_put_back_is_not_forced_again() -> None:
    assert params(RunParams(force=True)) == [{"request_ids": ["r1"], "force": True}, {"request_ids": ["r2"]}]
    assert params(RunParams(force=True), left=["r2"]) == [{"request_ids": ["r2"]}]


def test_next_run_without_requests_has_the_other_batches() -> None:
    given = RunParams(batch_ids=("b1", "b2"), layout="standard")
    assert params(given, limited=False, batch_ids=["b2"]) == [{"layout": "standard", "batch_ids": ["b2"]}]
    assert params(given, limited=False) == []


def test_ids_of_next_runs_differ_and_name_the_first_run() -> None:
    [(second, _)] = next_runs("scheduled__2026-03-10T08:00:00+00:00", [{}])
    assert second == "next__2__scheduled__2026-03-10T08:00:00+00:00"
    [(third, forced), (put_back, rest)] = next_runs(second, [{"force": True}, {}])
    assert third == "next__3__scheduled__2026-03-10T08:00:00+00:00" and (forced, rest) == ({"force": True}, {})
    runs = {second, third, put_back}
    for _ in range(3):
        after = [run_id for run in (third, put_back) for run_id, _ in next_runs(run, [{}, {}])]
        assert len({*after, *runs}) == len(after) + len(runs)
        runs |= set(after)
        third, put_back = after[0], after[2]


@pytest.mark.parametrize(
    ("state", "outcome", "permanent", "expected"),
    [
        (BatchState.DONE, "SUBMITTED", False, True),
        (BatchState.DEFERRED, "SUCCESS", False, True),
        (BatchState.REJECTED, "FAILED", True, True),
        (BatchState.FAILED, "FAILED", False, False),
        (BatchState.DEFERRED, "SUBMITTED", False, False),
        (BatchState.WAITING, "lost", False, False),
    ],
)
def test_run_that_ends_nothing_starts_no_next_run(state: BatchState, outcome: str, permanent: bool, expected: bool) -> None:
    assert has_progress([batch(state)], [ReleasedClaim("r", outcome, permanent)]) == expected


def test_nothing_is_asked_or_started_where_the_limit_left_nothing() -> None:
    site: Any = SimpleNamespace(settings=SimpleNamespace(batches_per_run=5))  # no connection to ask
    context: Any = {"ti": SimpleNamespace(xcom_pull=lambda **asked: {"found": 5, "over_run_limit": 0}[asked["key"]])}
    start_next_runs(context, site, RunParams(), [], None)  # type: ignore[arg-type]

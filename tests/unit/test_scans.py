"""Scans of the tables keyed by user: when one is worth it, and how its rows come to their pages."""

from pathlib import Path

import pytest

from progress_exhaust.report import learners, scan_buckets
from progress_exhaust.report.read_strategy import scan_wins
from progress_exhaust.report.scan_buckets import ScanBuckets


@pytest.mark.parametrize("rows_in_memory", [1, 2, 1000])
def test_each_row_of_a_scan_comes_to_its_learners_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows_in_memory: int
) -> None:
    monkeypatch.setattr(scan_buckets, "ROWS_IN_MEMORY", rows_in_memory)
    buckets = ScanBuckets(tmp_path, ["b", "m"], learners.NESTED_PROGRESS)
    rows = [("b", "n", 1.0), ("z", "n", 2.0), ("a", "n", 3.0), ("l", "n", 4.0), ("m", "n", 5.0)]
    assert buckets.fill(rows) == 5
    assert sorted(buckets.page(0)["user_id"].to_pylist()) == ["a", "b", "l"]
    assert sorted(buckets.page(1)["user_id"].to_pylist()) == ["m", "z"]


def test_a_page_without_rows_is_an_empty_table(tmp_path: Path) -> None:
    assert ScanBuckets(tmp_path, ["a"], learners.ATTEMPTS).page(0).schema == learners.ATTEMPTS


@pytest.mark.parametrize(
    ("wanted", "partitions", "setting", "scan"),
    [
        (10, 1000, "auto", False),
        (200, 1000, "auto", True),
        (200, 0, "auto", False),
        (1, 1000, "scan", True),
        (1000, 1000, "partitions", False),
    ],
)
def test_a_scan_wins_where_much_of_the_table_is_wanted(wanted: int, partitions: int, setting: str, scan: bool) -> None:
    wins, reason = scan_wins("user_activity_agg", wanted=wanted, partitions=partitions, setting=setting)
    assert wins == scan
    assert reason.startswith("user_activity_agg: by")

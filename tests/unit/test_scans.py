"""Scans of the tables keyed by user: when a scan is cheaper, and how its rows get to their batches and chunks."""

import random
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from progress_exhaust.extract.read_strategy import should_scan
from progress_exhaust.extract.scan_buckets import ScanBuckets
from progress_exhaust.extract.schemas import ATTEMPTS, ENROLMENT, NESTED_PROGRESS, rows_to_table
from progress_exhaust.extract.sorted_runs import ROWS_READ_AHEAD, merge_enrolments, read_runs, write_runs
from progress_exhaust.hooks.cassandra.models import BatchKey, Enrolment, Table
from progress_exhaust.hooks.cassandra.token_ranges import cut_ring

FIRST, SECOND = ("do_1", "01"), ("do_2", "02")
AWKWARD = ["b", "B", "a", "é", "e\u0301", "\U0001f642", "\uffee", "", " ", "u,1", "-"]


def enrolments(*user_ids: str) -> pa.Table:
    return rows_to_table([Enrolment(user_id, True, 0, None, None, None, None, None, None) for user_id in user_ids], ENROLMENT)


@pytest.fixture
def folders(tmp_path: Path) -> dict[BatchKey, Path]:
    found = {key: tmp_path / "-".join(key) for key in (FIRST, SECOND)}
    for folder in found.values():
        folder.mkdir()
    return found


def ids(folder: Path) -> list[str]:
    return [one.user_id for one in merge_enrolments(folder)]


@pytest.mark.parametrize("bytes_in_memory", [1, 200, 10**6])
def test_user_ids_come_back_in_code_point_order(folders: dict[BatchKey, Path], bytes_in_memory: int) -> None:
    counts = write_runs(((FIRST, enrolments(one)) for one in AWKWARD), folders, bytes_in_memory=bytes_in_memory)
    assert ids(folders[FIRST]) == sorted(AWKWARD)
    assert counts == {FIRST: len(AWKWARD)}
    assert max(map(str.encode, AWKWARD)) == sorted(AWKWARD)[-1].encode()


def test_each_batch_has_runs_of_its_own(folders: dict[BatchKey, Path]) -> None:
    scan = [(FIRST, enrolments("b")), (SECOND, enrolments("c")), (FIRST, enrolments("a"))]
    write_runs(scan, folders, bytes_in_memory=1)
    assert (ids(folders[FIRST]), ids(folders[SECOND])) == (["a", "b"], ["c"])


def test_a_batch_without_learners_has_no_runs(folders: dict[BatchKey, Path]) -> None:
    assert write_runs([], folders)[FIRST] == 0
    assert ids(folders[FIRST]) == []


def test_no_more_is_held_in_memory_than_asked_for(folders: dict[BatchKey, Path]) -> None:
    each = enrolments("000").nbytes
    write_runs(((FIRST, enrolments(f"{n:03}")) for n in range(10)), folders, bytes_in_memory=3 * each)
    assert [path.name for path in sorted(folders[FIRST].iterdir())] == [f"{n:05}.arrows" for n in range(4)]


def test_runs_that_are_longer_than_what_is_read_ahead_are_merged_whole(folders: dict[BatchKey, Path]) -> None:
    everybody = [f"{n:06}" for n in range(3 * ROWS_READ_AHEAD)]
    mixed = random.Random(1).sample(everybody, len(everybody))
    halves = [enrolments(*mixed[:700]), enrolments(*mixed[700:])]
    write_runs(((FIRST, half) for half in halves), folders, bytes_in_memory=1)
    assert ids(folders[FIRST]) == everybody


@pytest.mark.parametrize(
    "whole",
    [
        Enrolment("u", True, 1598363154150, "2019-11-15", -1, b"\0\1", b"", b"x", 2),
        Enrolment("u", None, None, None, None, None, None, None, None),
        Enrolment("u", False, -(2**62), "", 2**62, b"x" * 1000, None, None, -1),
    ],
)
def test_every_fact_survives(folders: dict[BatchKey, Path], whole: Enrolment) -> None:
    write_runs([(FIRST, rows_to_table([whole], ENROLMENT))], folders)
    assert list(merge_enrolments(folders[FIRST])) == [whole]


def test_merging_many_runs_holds_a_little_of_each(folders: dict[BatchKey, Path]) -> None:
    """Every run has every tenth learner: all of them are open at once."""
    learners_each, runs = 3000, 10
    wide = b"x" * 1000
    tables = (
        rows_to_table(
            [Enrolment(f"{n:06}", True, 0, None, None, wide, None, None, None) for n in range(run, learners_each * runs, runs)],
            ENROLMENT,
        )
        for run in range(runs)
    )
    write_runs(((FIRST, table) for table in tables), folders, bytes_in_memory=1)
    before = pa.total_allocated_bytes()
    stream = merge_enrolments(folders[FIRST])
    next(stream)
    assert pa.total_allocated_bytes() - before < 0.5 * len(wide) * learners_each * runs
    assert sum(1 for _ in stream) == learners_each * runs - 1


def nested(*rows: tuple[Any, ...]) -> pa.Table:
    return rows_to_table(rows, NESTED_PROGRESS)


@pytest.mark.parametrize("bytes_in_memory", [1, 10**6])
def test_each_row_of_a_scan_comes_to_its_learners_page(
    tmp_path: Path, folders: dict[BatchKey, Path], bytes_in_memory: int
) -> None:
    rows = [("b", "n", 1.0), ("z", "n", 2.0), ("a", "n", 3.0), ("l", "n", 4.0), ("m", "n", 5.0), ("b", "o", 6.0)]
    write_runs([(FIRST, nested(row)) for row in rows], folders, bytes_in_memory=bytes_in_memory)
    buckets = ScanBuckets(tmp_path, ["b", "m", "x"], NESTED_PROGRESS)
    buckets.fill(read_runs(folders[FIRST]))
    pages = [[tuple(row.values()) for row in buckets.rows_of_chunk(number).to_pylist()] for number in range(3)]
    assert [sorted(page) for page in pages] == [sorted([rows[0], rows[2], rows[3], rows[5]]), [rows[4]], [rows[1]]]


def test_a_page_without_rows_is_an_empty_table(tmp_path: Path) -> None:
    assert ScanBuckets(tmp_path, ["a"], ATTEMPTS).rows_of_chunk(0).schema == ATTEMPTS


@pytest.mark.parametrize(
    ("wanted", "partitions", "setting", "scan", "why"),
    [
        (10, 1000, "auto", False, "by partitions, for 10 of about 1,000 partitions are wanted"),
        (50, 1000, "auto", False, "by partitions, for 50 of about 1,000 partitions are wanted"),
        (51, 1000, "auto", True, "by scan, for 51 of about 1,000 partitions are wanted"),
        (200, 0, "auto", False, "by partitions, because the cluster has no estimate of the table's size"),
        (1, 1000, "scan", True, "by scan, as read_strategy says"),
        (1000, 1000, "partitions", False, "by partitions, as read_strategy says"),
    ],
)
def test_a_scan_wins_where_more_than_a_twentieth_of_the_table_is_wanted(
    wanted: int, partitions: int, setting: str, scan: bool, why: str
) -> None:
    found = should_scan(Table.AGGREGATES, wanted=wanted, partitions=partitions, setting=setting)
    assert found == (scan, f"user_activity_agg: {why}")


@pytest.mark.parametrize("partitions", [0, 1, 5_000, 5_001, 20_000, 77_777, 10**7])
def test_the_ranges_are_the_whole_ring_and_no_two_have_a_token_in_common(partitions: int) -> None:
    """Its first token too: rows of YugabyteDB have it."""
    for table in Table:
        ranges = cut_ring(table, partitions)
        assert (ranges[0][0], ranges[-1][1]) == (-(2**63), 2**63 - 1)
        assert all(first <= last for first, last in ranges)
        assert all(before[1] + 1 == after[0] for before, after in pairwise(ranges))

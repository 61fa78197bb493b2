"""Scans of the tables keyed by user: when a scan is cheaper, and how its rows get to their batches and chunks."""

import random
from collections.abc import Iterable
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from airflow.sdk import ObjectStoragePath

from progress_exhaust.extract.read_strategy import should_scan
from progress_exhaust.extract.scan_buckets import ScanBuckets
from progress_exhaust.extract.scan_files import BatchRows, number_rows, write_scan_files
from progress_exhaust.extract.schemas import ATTEMPTS, ENROLMENT, NESTED_PROGRESS, rows_to_table
from progress_exhaust.extract.sorted_enrolments import _cut, sort_enrolments
from progress_exhaust.hooks.cassandra.models import BatchKey, Enrolment, Table, TableSize
from progress_exhaust.hooks.cassandra.token_ranges import cut_ring

FIRST, SECOND, THIRD = KEYS = [("do_1", "01"), ("do_2", "02"), ("do_1", "03")]
AWKWARD = ["b", "B", "a", "é", "e\u0301", "\U0001f642", "\uffee", "", " ", "u,1", "-", "a\0", "a\0b"]

Found = tuple[BatchKey, pa.Table]  # rows of one batch in a range of the ring


def enrolments(*user_ids: str) -> pa.Table:
    return rows_to_table([Enrolment(user_id, True, 0, None, None, None, None, None, None) for user_id in user_ids], ENROLMENT)


def nested(*rows: tuple[Any, ...]) -> pa.Table:
    return rows_to_table(rows, NESTED_PROGRESS)


def write(
    folder: Path, ranges: Iterable[list[Found]], schema: pa.Schema = ENROLMENT, **options: int
) -> dict[BatchKey, BatchRows]:
    """Write a scan; return the rows of each batch."""
    scanned = (number_rows(found, KEYS, schema) for found in ranges)
    target = ObjectStoragePath(folder.as_uri())
    files, sizes = write_scan_files(scanned, target, len(KEYS), **options)
    return {key: BatchRows(target, files, number, sizes[number]) for number, key in enumerate(KEYS)}


def ids(rows: BatchRows, **options: int) -> list[str]:
    with ExitStack() as stack:
        return [one.user_id for one in sort_enrolments(rows, stack, **options)]


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("bytes_per_bucket", [1, 200, 10**6])
@pytest.mark.parametrize("bytes_per_file", [1, 200, 10**6])
def test_user_ids_come_back_in_code_point_order(tmp_path: Path, bytes_per_file: int, bytes_per_bucket: int) -> None:
    rows = write(tmp_path, ([(FIRST, enrolments(one))] for one in AWKWARD), bytes_per_file=bytes_per_file)
    assert ids(rows[FIRST], bytes_per_bucket=bytes_per_bucket) == sorted(AWKWARD)
    assert rows[FIRST].size.rows == len(AWKWARD)
    assert max(map(str.encode, AWKWARD)) == sorted(AWKWARD)[-1].encode()


@pytest.mark.parametrize("bytes_per_file", [1, 10**6])
def test_each_batch_has_its_own_rows_and_a_learner_may_be_in_two(tmp_path: Path, bytes_per_file: int) -> None:
    ranges = [
        [(FIRST, enrolments("b", "x")), (SECOND, enrolments("x"))],
        [],
        [(SECOND, enrolments("c"))],
        [(FIRST, enrolments("a"))],
    ]
    rows = write(tmp_path, ranges, bytes_per_file=bytes_per_file)
    assert {key: ids(found) for key, found in rows.items()} == {FIRST: ["a", "b", "x"], SECOND: ["c", "x"], THIRD: []}
    assert {key: found.size.rows for key, found in rows.items()} == {FIRST: 3, SECOND: 2, THIRD: 0}


def test_rows_with_the_same_user_id_are_all_there_in_their_order(tmp_path: Path) -> None:
    ranges = [[(FIRST, nested(("b", "n", float(number)), ("a", "n", float(number))))] for number in range(50)]
    rows = write(tmp_path, ranges, NESTED_PROGRESS, bytes_per_file=500)
    assert rows[FIRST].files > 2
    found = [row["completed"] for table in rows[FIRST].tables() for row in table.to_pylist() if row["user_id"] == "b"]
    assert found == [float(number) for number in range(50)]
    assert ids(write(tmp_path, [[(FIRST, enrolments(*["a"] * 300))]])[FIRST], bytes_per_bucket=100) == ["a"] * 300


def test_a_scan_that_finds_nothing_writes_no_file(tmp_path: Path) -> None:
    rows = write(tmp_path, [[], [(FIRST, enrolments())]])
    assert (ids(rows[FIRST]), rows[FIRST].files, names(tmp_path)) == ([], 0, [])


def test_the_files_are_as_many_as_the_bytes_ask_for_however_many_the_batches(tmp_path: Path) -> None:
    each = number_rows([(key, enrolments("000")) for key in KEYS], KEYS, ENROLMENT).nbytes
    ranges = ([(key, enrolments(f"{number:03}")) for key in KEYS] for number in range(10))
    rows = write(tmp_path, ranges, bytes_per_file=3 * each)
    assert names(tmp_path) == [f"{number:05}.arrow" for number in range(4)]
    assert [ids(rows[key]) for key in KEYS] == [[f"{number:03}" for number in range(10)]] * 3


def test_a_batch_reads_no_bytes_of_others(tmp_path: Path) -> None:
    wide = [Enrolment(f"{n:04}", True, 0, None, None, random.Random(n).randbytes(1000), None, None, None) for n in range(5000)]
    rows = write(tmp_path, [[(FIRST, enrolments("a")), (SECOND, rows_to_table(wide, ENROLMENT)), (THIRD, enrolments("a"))]])
    before = pa.total_allocated_bytes()
    [table] = rows[THIRD].tables()
    assert table["user_id"].to_pylist() == ["a"]
    assert pa.total_allocated_bytes() - before < 10**5
    [one_column] = rows[SECOND].tables(columns=[0])
    assert (one_column.column_names, len(one_column)) == (["user_id"], 5000)


@pytest.mark.parametrize(
    "whole",
    [
        Enrolment("u", True, 1598363154150, "2019-11-15", -1, b"\0\1", b"", b"x", 2),
        Enrolment("u", None, None, None, None, None, None, None, None),
        Enrolment("u", False, -(2**62), "", 2**62, b"x" * 1000, None, None, -1),
    ],
)
def test_every_fact_survives(tmp_path: Path, whole: Enrolment) -> None:
    rows = write(tmp_path, [[(FIRST, rows_to_table([whole], ENROLMENT))]])
    with ExitStack() as stack:
        assert list(sort_enrolments(rows[FIRST], stack)) == [whole]


@pytest.mark.parametrize(
    ("learners", "bytes_each", "in_order"), [(20_000, 1000, False), (20_000, 1000, True), (300, 10**5, False)]
)
def test_sorting_holds_one_bucket_in_memory(tmp_path: Path, learners: int, bytes_each: int, in_order: bool) -> None:
    """Whatever the order of the tokens is: random, or that of the user ids."""
    wide, files = random.Random(1).randbytes(bytes_each), 10
    numbers = list(range(learners)) if in_order else random.Random(1).sample(range(learners), learners)
    ranges = (
        [(FIRST, rows_to_table([Enrolment(f"{n:06}", True, 0, None, None, wide, None, None, None) for n in some], ENROLMENT))]
        for some in (numbers[start : start + learners // files] for start in range(0, learners, learners // files))
    )
    rows = write(tmp_path, ranges, bytes_per_file=1)[FIRST]
    assert rows.files == files
    before, peak = pa.total_allocated_bytes(), 0
    expected = iter(range(learners))
    with ExitStack() as stack:
        for one in sort_enrolments(rows, stack, bytes_per_bucket=rows.size.bytes // 30):
            assert one.user_id == f"{next(expected):06}"
            peak = max(peak, pa.total_allocated_bytes() - before)
    assert next(expected, None) is None
    assert peak < rows.size.bytes / 4


def test_buckets_have_about_the_same_size_if_the_batch_has_few_rows_in_each_of_many_files(tmp_path: Path) -> None:
    """Each file is sorted: a sample of equal distances would be of its smallest ids."""
    numbers = random.Random(2).sample(range(6_000), 6_000)
    parts = (numbers[start : start + 10] for start in range(0, 6_000, 10))
    ranges = ([(FIRST, enrolments(*(f"{n:04}" for n in part)))] for part in parts)
    rows = write(tmp_path, ranges, bytes_per_file=1)[FIRST]
    borders = [int(one or 0) for one in _cut(rows, rows.size.bytes // 4)]
    assert len(borders) >= 4 and all(abs(border - 1_500 * number) < 500 for number, border in enumerate(borders))


def test_a_whole_number_that_no_double_has_is_rounded() -> None:
    assert nested(("u", "c", 2**53 + 1), ("v", "c", None))["completed"].to_pylist() == [2.0**53, None]


def test_the_copy_on_local_disk_is_deleted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "scratch"))
    (tmp_path / "scratch").mkdir()
    rows = write(tmp_path, [[(FIRST, enrolments("a", "b"))]])
    with ExitStack() as stack:
        stream = sort_enrolments(rows[FIRST], stack)
        assert next(stream).user_id == "a"
        assert len(names(tmp_path / "scratch")) == 1
    assert names(tmp_path / "scratch") == []
    assert next(stream).user_id == "b"


@pytest.mark.parametrize("bytes_per_file", [1, 10**6])
def test_each_row_of_a_scan_comes_to_its_learners_chunk(tmp_path: Path, bytes_per_file: int) -> None:
    rows = [("b", "n", 1.0), ("z", "n", 2.0), ("a", "n", 3.0), ("l", "n", 4.0), ("m", "n", 5.0), ("b", "o", 6.0)]
    scan = write(tmp_path, ([(FIRST, nested(row))] for row in rows), NESTED_PROGRESS, bytes_per_file=bytes_per_file)
    buckets = ScanBuckets(tmp_path, ["b", "m", "x"], NESTED_PROGRESS)
    buckets.fill(scan[FIRST].tables())
    chunks = [[tuple(row.values()) for row in buckets.rows_of_chunk(number).to_pylist()] for number in range(3)]
    assert [sorted(chunk) for chunk in chunks] == [sorted([rows[0], rows[2], rows[3], rows[5]]), [rows[4]], [rows[1]]]


def test_a_chunk_without_rows_is_an_empty_table(tmp_path: Path) -> None:
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


@pytest.mark.parametrize("partitions", [0, 1, 5_000, 5_001, 20_000, 77_777, 10**7, 10**9])
def test_the_ranges_are_the_whole_ring_and_no_two_have_a_token_in_common(partitions: int) -> None:
    """Its first token too: rows of YugabyteDB have it."""
    for table in Table:
        ranges = cut_ring(table, TableSize(partitions, 100 * partitions))
        assert (ranges[0][0], ranges[-1][1]) == (-(2**63), 2**63 - 1)
        assert all(first <= last for first, last in ranges)
        assert all(before[1] + 1 == after[0] for before, after in pairwise(ranges))


def test_large_partitions_make_more_ranges() -> None:
    """2,000 learners with 1,500 attempts each would be one range of 600 MB."""
    assert len(cut_ring(Table.ATTEMPTS, TableSize(2_000, 600 * 2**20))) == 38
    assert len(cut_ring(Table.ATTEMPTS, TableSize(200_000, 2**20))) == 10

"""Enrolments in no order come back in the order of the report, each to its own batch."""

import random
from pathlib import Path

import pytest

from progress_exhaust.report.enrolment_runs import ROWS_READ_AHEAD, BatchKey, merged, write_runs
from progress_exhaust.report.learners import Enrolment

FIRST, SECOND, OTHER = ("do_1", "01"), ("do_2", "02"), ("do_1", "02")
AWKWARD = ["b", "B", "a", "é", "e\u0301", "\U0001f642", "\uffee", "", " ", "u,1", "-"]


def enrolment(user_id: str) -> Enrolment:
    return Enrolment(user_id, True, 0, None, None, [], False, None)


@pytest.fixture
def folders(tmp_path: Path) -> dict[BatchKey, Path]:
    found = {key: tmp_path / "-".join(key) for key in (FIRST, SECOND)}
    for folder in found.values():
        folder.mkdir()
    return found


def ids(folder: Path) -> list[str]:
    return [one.user_id for one in merged(folder)]


@pytest.mark.parametrize("rows_in_memory", [1, 2, 5, 1000])
def test_user_ids_come_back_in_code_point_order(folders: dict[BatchKey, Path], rows_in_memory: int) -> None:
    write_runs(((*FIRST, enrolment(one)) for one in AWKWARD), folders, rows_in_memory=rows_in_memory)
    assert ids(folders[FIRST]) == sorted(AWKWARD)
    assert max(map(str.encode, AWKWARD)) == sorted(AWKWARD)[-1].encode()


def test_each_enrolment_goes_to_its_own_batch_and_others_are_passed_over(folders: dict[BatchKey, Path]) -> None:
    scan = [(*FIRST, "b"), (*OTHER, "x"), (*SECOND, "c"), (*FIRST, "a"), ("do_3", "01", "y")]
    write_runs(((*key, enrolment(one)) for *key, one in scan), folders, rows_in_memory=2)
    assert (ids(folders[FIRST]), ids(folders[SECOND])) == (["a", "b"], ["c"])


def test_a_batch_of_nobody_has_no_runs(folders: dict[BatchKey, Path]) -> None:
    write_runs([], folders, rows_in_memory=2)
    assert ids(folders[FIRST]) == []


def test_no_more_rows_are_held_than_asked_for(folders: dict[BatchKey, Path]) -> None:
    write_runs(((*FIRST, enrolment(f"{n:03}")) for n in range(10)), folders, rows_in_memory=3)
    assert [path.name for path in sorted(folders[FIRST].iterdir())] == [f"{n:05}.parquet" for n in range(4)]


def test_runs_that_are_longer_than_what_is_read_ahead_are_merged_whole(folders: dict[BatchKey, Path]) -> None:
    everybody = [f"{n:06}" for n in range(3 * ROWS_READ_AHEAD)]
    mixed = random.Random(1).sample(everybody, len(everybody))
    write_runs(((*FIRST, enrolment(one)) for one in mixed), folders, rows_in_memory=2 * ROWS_READ_AHEAD)
    assert ids(folders[FIRST]) == everybody


@pytest.mark.parametrize(
    "whole",
    [
        Enrolment("u", True, 1598363154150, "2019-11-15", -1, ["do_1", "=é"], True, 2),
        Enrolment("u", None, None, None, None, [], False, None),
        Enrolment("u", False, -(2**62), "", 2**62, ["x"] * 1000, False, -1),
    ],
)
def test_every_fact_survives(folders: dict[BatchKey, Path], whole: Enrolment) -> None:
    write_runs([(*FIRST, whole)], folders, rows_in_memory=1)
    assert list(merged(folders[FIRST])) == [whole]

"""request_data, keys of files, twins, and what of processed_batches is believed."""

import dataclasses
from datetime import date

import pytest

from progress_exhaust.errors import RequestError
from progress_exhaust.report.request import Batch, JobRequest, Wanted, is_path_part, object_key_ending, parse_request_data

DAY = date(2022, 9, 27)
REQUEST = JobRequest("tag", "R1", '{"batchId": "013"}', "user", "org", None, None, ())


@pytest.mark.parametrize(
    ("data", "wanted"),
    [
        ('{"batchId": "013"}', Wanted(batch_ids=("013",))),
        ('{"batchFilter": ["013", "014", "013"]}', Wanted(batch_ids=("013", "014"))),
        ('{"searchFilter": {"request": {"filters": {"channel": "1"}, "limit": 5}}}', Wanted((), {"channel": "1"}, 5)),
    ],
)
def test_the_three_forms(data: str, wanted: Wanted) -> None:
    assert parse_request_data(data) == wanted


@pytest.mark.parametrize(
    "data",
    [
        "no json", "", "7", "[]", "{}", '{"foo": 1}', '{"batchId": ""}', '{"batchId": 13}', '{"batchFilter": "013"}',
        '{"batchFilter": []}', '{"batchFilter": [1]}', '{"searchFilter": {}}', '{"searchFilter": {"request": {"filters": []}}}',
        '{"searchFilter": {"request": {"filters": {"a": 1}, "limit": 0}}}', "[" * 100_000,
    ],
)  # fmt: skip
def test_anything_else_fails_the_request(data: str) -> None:
    with pytest.raises(RequestError):
        parse_request_data(data)


@pytest.mark.parametrize("batch_id", ["../x", "a/b", "a\\b", "%2e", "..", ".", "a..b", "a\n", " a", "a?b", "-", "x" * 201, "é"])
def test_an_id_that_is_no_plain_path_part_is_refused(batch_id: str) -> None:
    assert not is_path_part(batch_id)
    with pytest.raises(RequestError, match="not valid"):
        parse_request_data(__import__("json").dumps({"batchId": batch_id}))


def test_keys_are_those_of_the_published_sample() -> None:
    batch = Batch("t", "778A3669531143769B5E8C98D42E1CAD", "org", "013307481768378368112", "do_1")
    assert batch.file_name(DAY) == "013307481768378368112_progress_20220927.csv"
    assert batch.object_key(DAY) == (
        "progress-exhaust/778A3669531143769B5E8C98D42E1CAD/013307481768378368112_progress_20220927.zip"
    )
    assert dataclasses.replace(batch, request_id="").object_key(DAY) == (
        "progress-exhaust/013307481768378368112_progress_20220927.zip"
    )
    assert batch.object_key(DAY).endswith(object_key_ending(DAY))


@pytest.mark.parametrize(
    ("change", "are_twins"),
    [
        ({"request_data": '{ "batchId":"013" }', "tag": "other", "request_id": "R2"}, True),
        ({"request_data": '{"batchId": "014"}'}, False),
        ({"requested_by": "another"}, False),
        ({"requested_channel": "another"}, False),
        ({"encryption_key": "key"}, False),
    ],
)
def test_twins_ask_for_the_same_file_for_the_same_person_of_the_same_org(change: dict[str, str], are_twins: bool) -> None:
    assert (dataclasses.replace(REQUEST, **change).twin_key == REQUEST.twin_key) == are_twins


def test_a_csv_that_was_never_packaged_is_not_finished() -> None:
    entries = (
        {"batchId": "1", "filePath": "a.csv"},
        {"batchId": "2", "filePath": "b.zip"},
        {"batchId": "3"},
        {"filePath": "c.zip"},
    )
    assert list(dataclasses.replace(REQUEST, processed=entries).finished()) == ["2"]

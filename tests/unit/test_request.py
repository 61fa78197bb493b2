"""What a row of job_request asks for, and the names of the files that it gets (data model, section 1)."""

import json
from collections.abc import Mapping
from datetime import date
from typing import Any

import pytest

from progress_exhaust.errors import RequestError
from progress_exhaust.report.request import (
    Batch,
    JobRequest,
    Wanted,
    batch_of_package,
    is_id,
    is_package_key,
    is_path_part,
    object_key_ending,
    parse_request_data,
)

DAY = date(2022, 9, 27)
REQUEST_ID, BATCH_ID = "778A3669531143769B5E8C98D42E1CAD", "013307481768378368112"


def job_request(**changes: Any) -> JobRequest:
    values = {
        "tag": "do_1:org", "request_id": REQUEST_ID, "request_data": '{"batchId": "01"}', "requested_by": "someone",
        "requested_channel": "org", "encryption_key": None, "processed": (),
    }  # fmt: skip
    return JobRequest(**(values | changes))


@pytest.mark.parametrize(
    ("data", "batch_ids"),
    [
        ({"batchId": "01"}, ("01",)),
        ({"batchFilter": ["02", "01", "02"]}, ("02", "01")),
        ({"batchId": "01", "batchFilter": ["02"]}, ("01",)),
        ({"batchId": "", "batchFilter": ["02"]}, ("02",)),
        ({"batchId": None, "batchFilter": ["02"], "type": "x"}, ("02",)),
    ],
)
def test_batches_by_id_each_once(data: Any, batch_ids: tuple[str, ...]) -> None:
    assert parse_request_data(json.dumps(data)) == Wanted(batch_ids=batch_ids)


@pytest.mark.parametrize(("limit", "most"), [({}, None), ({"limit": 7}, 7), ({"limit": None}, None)])
def test_batches_by_search(limit: Mapping[str, Any], most: int | None) -> None:
    filters = {"identifier": ["do_1"]}
    data = {"searchFilter": {"request": {"filters": filters, "fields": ["name"], **limit}}}
    assert parse_request_data(json.dumps(data)) == Wanted(search_filters=filters, search_limit=most)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "it is not valid JSON"),
        ("{", "it is not valid JSON"),
        ("[" * 100_000, "it is not valid JSON"),
        ("null", "must be a JSON object"),
        ('["01"]', "must be a JSON object"),
        ("{}", "either of batchId, batchFilter, searchFilter"),
        ('{"foo": 1}', "either of batchId, batchFilter, searchFilter"),
        ('{"batchFilter": []}', "either of batchId, batchFilter, searchFilter"),
        ('{"batchId": 7}', "batchId must be a text"),
        ('{"batchId": ["01"]}', "batchId must be a text"),
        ('{"batchFilter": "01"}', "batchFilter a list of texts"),
        ('{"batchFilter": {"01": 1}}', "batchFilter a list of texts"),
        ('{"batchFilter": ["01", null]}', "batchFilter a list of texts"),
        ('{"searchFilter": "all"}', "must hold a request with filters"),
        ('{"searchFilter": {"filters": {"a": 1}}}', "must hold a request with filters"),
        ('{"searchFilter": {"request": {"filters": {}}}}', "must hold a request with filters"),
        ('{"searchFilter": {"request": {"filters": {"a": 1e999}}}}', "it is not valid JSON"),
        ('{"searchFilter": {"request": {"filters": ' + '{"a": ' * 21 + "1" + "}" * 21 + "}}}", "nested too deeply"),
        ('{"searchFilter": {"request": {"filters": {"a": 1}, "limit": 0}}}', "whole number above 0"),
        ('{"searchFilter": {"request": {"filters": {"a": 1}, "limit": true}}}', "whole number above 0"),
        ('{"searchFilter": {"request": {"filters": {"a": 1}, "limit": "10"}}}', "whole number above 0"),
    ],
)
def test_anything_else_is_an_error_of_the_request_in_plain_words(text: str, message: str) -> None:
    with pytest.raises(RequestError, match=message):
        parse_request_data(text)


@pytest.mark.parametrize("text", ["01", REQUEST_ID, "do_1", "a.b-c_d", "x" * 200])
def test_an_id_may_be_part_of_a_path(text: str) -> None:
    assert is_path_part(text)


@pytest.mark.parametrize("text", ["", ".", "..", "a..b", ".a", "-a", "a/b", "a\\b", "a b", "a\n", "é", "x" * 201, "a\x00", "%2e"])
def test_an_id_that_leads_elsewhere_may_not(text: str) -> None:
    assert not is_path_part(text)


def test_the_name_of_a_file_has_room_for_the_longest_id() -> None:
    longest = "x" * 150
    assert is_id(longest) and not is_id(longest + "x") and not is_id("../x")
    package = Batch("tag", longest, "org", longest, "do_1").object_key(DAY).rpartition("/")[2]
    assert is_path_part(package) and len(f".{package}.{32 * 'f'}.part") <= 255


def test_the_names_of_a_batchs_files() -> None:
    batch = Batch("tag", REQUEST_ID, "org", BATCH_ID, "do_1")
    assert batch.file_name(DAY) == "013307481768378368112_progress_20220927.csv"
    assert batch.object_key(DAY) == f"progress-exhaust/{REQUEST_ID}/013307481768378368112_progress_20220927.zip"
    assert batch.object_key(DAY).endswith(object_key_ending(DAY))


def test_without_a_request_there_is_no_folder_of_it() -> None:
    batch = Batch("", "", "", BATCH_ID, "do_1")
    assert batch.object_key(DAY) == "progress-exhaust/013307481768378368112_progress_20220927.zip"
    assert str(batch) == f"batch {BATCH_ID}"


def test_a_batch_survives_xcom() -> None:
    batch = Batch("tag", REQUEST_ID, "org", BATCH_ID, "do_1")
    assert Batch.from_dict(json.loads(json.dumps(batch.to_dict()))) == batch


@pytest.mark.parametrize(
    "changes",
    [
        {"request_id": "another", "tag": "another:org"},
        {"request_data": ' { "batchId" : "01" } '},
        {"encryption_key": ""},
        {"processed": ({"batchId": "01"},)},
    ],
)
def test_a_request_for_the_same_file_is_a_duplicate(changes: Any) -> None:
    assert job_request(**changes).duplicate_key == job_request().duplicate_key


@pytest.mark.parametrize(
    "changes",
    [
        {"requested_channel": "another"},
        {"requested_by": "another"},
        {"encryption_key": "secret"},
        {"request_data": '{"batchId": "02"}'},
        {"request_data": '{"batchFilter": ["01"]}'},
        {"request_data": "{"},
        {"request_data": ""},
    ],
)
def test_a_request_that_differs_in_any_of_these_is_not_a_duplicate(changes: Any) -> None:
    assert job_request(**changes).duplicate_key != job_request().duplicate_key


@pytest.mark.parametrize(
    ("entry", "finished"),
    [
        ({"batchId": "01", "filePath": "progress-exhaust/R/01_progress_20220927.zip"}, ["01"]),
        ({"batchId": "01", "filePath": "progress-exhaust/R/01_progress_20220927.csv"}, []),  # the incumbent's, never packaged
        ({"batchId": "01", "filePath": None}, []),
        ({"batchId": "01"}, []),
        ({"filePath": "x.zip"}, []),
        ({}, []),
    ],
)
def test_only_a_packaged_batch_is_finished(entry: Mapping[str, Any], finished: list[str]) -> None:
    assert list(job_request(processed=(entry,)).finished()) == finished


@pytest.mark.parametrize(("tag", "request_id", "standalone"), [("", "", True), ("t", "", False), ("", "r", False)])
def test_only_a_request_without_a_row_is_standalone(tag: str, request_id: str, standalone: bool) -> None:
    assert job_request(tag=tag, request_id=request_id).standalone is standalone


@pytest.mark.parametrize(
    ("key", "is_ours"),
    [
        (f"progress-exhaust/{REQUEST_ID}/{BATCH_ID}_progress_20220927.zip", True),
        (f"progress-exhaust/{BATCH_ID}_progress_20220927.zip", True),
        (f"progress-exhaust/{REQUEST_ID}/.{BATCH_ID}_progress_20220927.zip.{'0' * 32}.part", True),
        (f"progress-exhaust/.public-access-{'0' * 32}", True),
        (f"progress-exhaust/{REQUEST_ID}/{BATCH_ID}_progress_20220927.csv", False),
        (f"progress-exhaust/{REQUEST_ID}/{BATCH_ID}_progress_2022092.zip", False),
        (f"progress-exhaust/{REQUEST_ID}/{BATCH_ID}_userinfo_20220927.zip", False),
        (f"progress-exhaust/{REQUEST_ID}/x/{BATCH_ID}_progress_20220927.zip", False),
        (f"progress-exhaust/../{BATCH_ID}_progress_20220927.zip", False),
        (f"response-exhaust/{REQUEST_ID}/{BATCH_ID}_progress_20220927.zip", False),
        (f"{BATCH_ID}_progress_20220927.zip", False),
        ("progress-exhaust/", False),
        ("", False),
    ],
)
def test_a_package_is_known_by_its_key(key: str, is_ours: bool) -> None:
    assert is_package_key(key) is is_ours


def test_every_key_that_is_made_is_known() -> None:
    for request_id in ("", REQUEST_ID):
        assert is_package_key(Batch("tag", request_id, "org", BATCH_ID, "do_1").object_key(DAY))


@pytest.mark.parametrize(
    ("key", "batch"),
    [
        (f"progress-exhaust/{REQUEST_ID}/{BATCH_ID}_progress_20220927.zip", (REQUEST_ID, BATCH_ID)),
        (f"progress-exhaust/{BATCH_ID}_progress_20220927.zip", ("", BATCH_ID)),
        (f"progress-exhaust/{REQUEST_ID}/.{BATCH_ID}_progress_20220927.zip.{'0' * 32}.part", (REQUEST_ID, BATCH_ID)),
        (f"progress-exhaust/.public-access-{'0' * 32}", None),
    ],
)
def test_the_key_of_a_package_names_its_request_and_batch(key: str, batch: tuple[str, str] | None) -> None:
    assert is_package_key(key)
    assert batch_of_package(key) == batch

"""Which batches are made, and what no retry can mend."""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pytest

from progress_exhaust.errors import RequestError
from progress_exhaust.report.plan import Catalogue, CourseBatch, Limits, Plan, plan, twins
from progress_exhaust.report.request import JobRequest

BATCHES: list[CourseBatch] = [
    ("do_1", "b1", "Batch 1"), ("do_1", "b2", ""), ("do_2", "b3", "Batch 3"), ("do_old", "b4", ""),
    ("do_gone", "b5", ""), ("do_1", "twice", ""), ("do_2", "twice", ""),
]  # fmt: skip
COLLECTIONS = {
    "do_1": {"identifier": "do_1", "name": "One", "channel": "org", "status": "Live"},
    "do_2": {"identifier": "do_2", "name": None, "channel": "other", "status": "Unlisted"},
    "do_old": {"identifier": "do_old", "name": "Old", "channel": "org", "status": "Retired"},
}
LIMITS = Limits(per_request=3, per_channel=100, per_run=100)


def request(data: Any, request_id: str = "R1", **more: Any) -> JobRequest:
    values = {"tag": "t", "requested_by": "u", "requested_channel": "org", "encryption_key": None, "submitted_at": None}
    return JobRequest(request_id=request_id, request_data=json.dumps(data), processed=(), **(values | more))


def planned(*requests: JobRequest, limits: Limits = LIMITS, force: bool = False, found: Sequence[str] = ()) -> Plan:
    def search(filters: Mapping[str, Any], most: int | None) -> Iterable[Mapping[str, Any]]:
        if filters == {"bad": True}:
            raise RequestError("The content search does not accept the request's filters")
        return [COLLECTIONS[one] for one in found]

    catalogue = Catalogue(
        batches=lambda ids: [row for row in BATCHES if row[1] in ids],
        batches_of=lambda ids: [row for row in BATCHES if row[0] in ids],
        collections=lambda ids: [COLLECTIONS[one] for one in ids if one in COLLECTIONS],
        search=search,
    )
    return plan(requests, catalogue, limits, force=force)


def ids(made: Plan) -> list[str]:
    return [batch.batch_id for batch, _ in made.to_make]


def test_named_batches_are_made_in_the_requests_order() -> None:
    made = planned(request({"batchFilter": ["b3", "b1"]}))
    assert ids(made) == ["b3", "b1"]
    assert [(facts.batch_name, facts.collection_name, facts.owned) for _, facts in made.to_make] == [
        ("Batch 3", "", False),
        ("Batch 1", "One", True),
    ]


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"batchFilter": ["b1", "nowhere"]}, "No data found: there is no batch nowhere"),
        ({"batchId": "b5"}, "No data found: there is no batch b5, or its collection is gone"),
        ({"batchFilter": ["b1", "b4"]}, "The request is made for retired collection: batch b4"),
        ({"batchId": "twice"}, "belongs to more than one collection"),
        ({"batchFilter": ["b1", "b2", "b3", "b4"]}, "retired"),
        ({"foo": 1}, "either of batchId, batchFilter, searchFilter"),
        ({"searchFilter": {"request": {"filters": {"bad": True}}}}, "does not accept"),
        ({"searchFilter": {"request": {"filters": {"a": 1}}}}, "No data found"),
    ],
)
def test_what_can_never_be_made_fails_its_request_alone(data: Any, words: str) -> None:
    made = planned(request(data), request({"batchId": "b1"}, "R2"))
    assert words in made.refused["t", "R1"]
    assert [batch.request_id for batch, _ in made.to_make] == ["R2"]


def test_a_search_makes_every_batch_of_what_it_finds_but_not_of_retired_collections() -> None:
    data = {"searchFilter": {"request": {"filters": {"a": 1}}}}
    assert ids(planned(request(data), found=["do_2", "do_old"])) == ["b3", "twice"]
    assert "retired" in planned(request(data), found=["do_old"]).refused["t", "R1"]


def test_more_batches_than_a_request_may_name_fail_it() -> None:
    made = planned(request({"batchFilter": ["b1", "b2", "b3"]}), limits=Limits(2, 100, 100))
    assert made.refused["t", "R1"] == "Number of batches in request exceeded. It should be within 2"


@pytest.mark.parametrize("request_id", ["../R", "a/b", "%2e", ""])
def test_a_request_id_that_is_no_plain_path_part_fails_its_request(request_id: str) -> None:
    made = planned(request({"batchId": "b1"}, request_id or "a b"))
    assert "not valid" in next(iter(made.refused.values()))


def test_finished_batches_are_not_made_again_unless_forced() -> None:
    half = request({"batchFilter": ["b1", "b2"]})
    half = JobRequest(**(half.__dict__ | {"processed": ({"batchId": "b1", "filePath": "x.zip"},)}))
    assert ids(planned(half)) == ["b2"]
    assert ids(planned(half, force=True)) == ["b1", "b2"]
    whole = JobRequest(**(half.__dict__ | {"request_data": '{"batchId": "b1"}'}))
    assert planned(whole).finished == [whole]


def test_what_is_over_a_limit_waits_and_the_rest_is_made() -> None:
    requests = [request({"batchFilter": ["b1", "b2", "b3"]}), request({"batchId": "b3"}, "R2", requested_channel="other")]
    made = planned(*requests, limits=Limits(9, per_channel=2, per_run=9))
    assert ids(made) == ["b1", "b2", "b3"]
    assert [batch.batch_id for batch, _ in made.deferred] == ["b3"]
    made = planned(*requests, limits=Limits(9, per_channel=9, per_run=2))
    assert [(batch.request_id, batch.batch_id) for batch, _ in made.deferred] == [("R1", "b3"), ("R2", "b3")]


def test_the_first_of_twins_is_made() -> None:
    first, second, other = (request({"batchId": one}, name) for one, name in [("b1", "R1"), ("b1", "R2"), ("b2", "R3")])
    assert twins([first, second, other]) == {("t", "R2"): "R1"}

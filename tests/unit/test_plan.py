"""Which batches a run makes, and the message of a request that can never succeed (data model, section 1)."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest

from progress_exhaust.errors import RequestError, SetupError, SourceError
from progress_exhaust.report.catalogue import PROBE_ID, Catalogue, Collection
from progress_exhaust.report.plan import Limits, Plan, duplicates, plan
from progress_exhaust.report.request import BatchFacts, JobRequest

ORG, OTHER_ORG = "org", "other org"
LIMITS = Limits(per_request=3, per_channel=30, per_run=1000)
COLLECTIONS = [
    {"identifier": "do_1", "name": "One", "channel": ORG, "status": "Live"},
    {"identifier": "do_2", "name": None, "channel": OTHER_ORG, "status": "Unlisted"},
    {"identifier": "do_3", "name": "Old", "channel": ORG, "status": "Retired"},
    {"identifier": "do_4", "name": "Without a batch", "channel": ORG, "status": "Live"},
]
BATCHES = [
    ("do_1", "11", "First"), ("do_1", "12", "Second"), ("do_2", "21", ""), ("do_3", "31", "Old"), ("do_gone", "41", "x"),
    ("do_1", "51", "Twice"), ("do_2", "51", "Twice"), ("do/1", "61", "odd collection"),
]  # fmt: skip


def search(filters: Mapping[str, Any], most: int | None) -> Iterable[Collection]:
    if "wrong" in filters:
        raise RequestError("The content search does not accept the request's filters")
    return [found for found in COLLECTIONS if found["identifier"] in filters["identifier"]][:most]


def of(rows: Iterable[Any], place: Any, ids: Sequence[str]) -> list[Any]:
    assert len(set(ids)) == len(ids), "each id is looked up once"
    return [row for row in rows if row[place] in ids]


CATALOGUE = Catalogue(
    batches=lambda ids: of(BATCHES, 1, ids),
    batches_of=lambda ids: of(BATCHES, 0, ids),
    collections=lambda ids: of([*COLLECTIONS, {"identifier": "do/1", "channel": ORG}], "identifier", ids),
    search=search,
)


def asked(data: Any, request_id: str = "R1", channel: str = ORG, **more: Any) -> JobRequest:
    values = {"requested_by": "someone", "encryption_key": None, "processed": ()} | more
    return JobRequest(f"tag {request_id}", request_id, json.dumps(data), requested_channel=channel, **values)


def planned(*requests: JobRequest, limits: Limits = LIMITS, **more: Any) -> Plan:
    return plan(requests, CATALOGUE, limits, **more)


def made(found: Plan) -> list[tuple[str, str]]:
    return [(batch.request_id, batch.batch_id) for batch, _ in found.to_make]


def refusal(request: JobRequest) -> str:
    found = planned(request, asked({"batchId": "11"}, "R2"))
    assert made(found) == [("R2", "11")], "nothing about one request fails another"
    return found.rejected[request.key]


def test_named_batches_are_made_in_the_requests_order() -> None:
    assert made(planned(asked({"batchFilter": ["21", "11", "21"]}))) == [("R1", "21"), ("R1", "11")]


def test_a_search_makes_every_batch_of_what_it_finds_but_retired_collections() -> None:
    data = {"searchFilter": {"request": {"filters": {"identifier": ["do_3", "do_1", "do_4"]}}}}
    assert made(planned(asked(data))) == [("R1", "11"), ("R1", "12"), ("R1", "51")]


def test_a_search_finds_as_many_collections_as_its_limit() -> None:
    data = {"searchFilter": {"request": {"filters": {"identifier": ["do_1", "do_2"]}, "limit": 1}}}
    assert made(planned(asked(data))) == [("R1", "11"), ("R1", "12"), ("R1", "51")]


@pytest.mark.parametrize(
    ("channel", "batch_id", "facts"),
    [
        (ORG, "11", BatchFacts("First", "One", owned=True)),
        (OTHER_ORG, "11", BatchFacts("First", "One", owned=False)),
        (OTHER_ORG, "21", BatchFacts("", "", owned=True)),
    ],
)
def test_the_requesting_org_owns_the_collection_of_its_channel(channel: str, batch_id: str, facts: BatchFacts) -> None:
    ((batch, found),) = planned(asked({"batchId": batch_id}, channel=channel)).to_make
    assert found == facts
    assert (batch.tag, batch.request_id, batch.channel) == ("tag R1", "R1", channel)


def test_a_collection_without_a_channel_is_nobodys() -> None:
    catalogue = Catalogue(CATALOGUE.batches, CATALOGUE.batches_of, lambda _: [{"identifier": "do_1"}], search)
    ((_, facts),) = plan([asked({"batchId": "11"})], catalogue, LIMITS).to_make
    assert not facts.owned


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"foo": 1}, "either of batchId, batchFilter, searchFilter"),
        ({"batchFilter": ["00", "99"]}, "No data found: there is no batch 00, 99"),
        ({"batchId": "41"}, "No data found: the collection of batch 41 was deleted"),
        ({"batchId": "31"}, "The request is made for retired collection: batch 31"),
        ({"batchId": "51"}, "Batch 51 belongs to more than one collection"),
        ({"batchId": "61"}, "not valid"),
        ({"batchId": "../x"}, "not valid"),
        (
            {"batchFilter": ["31", "00", "99"]},
            "No data found. Not made: 31: its collection is retired; 00, 99: no such batch",
        ),
        ({"batchFilter": ["11", "12", "21", "31"]}, "Number of batches in request exceeded. It should be within 3"),
        ({"searchFilter": {"request": {"filters": {"wrong": 1}}}}, "does not accept the request's filters"),
        ({"searchFilter": {"request": {"filters": {"identifier": []}}}}, "No data found"),
        ({"searchFilter": {"request": {"filters": {"identifier": ["do_4"]}}}}, "No data found"),
        ({"searchFilter": {"request": {"filters": {"identifier": ["do_3"]}}}}, "made for retired collection"),
        (
            {"searchFilter": {"request": {"filters": {"identifier": ["do_1", "do_2"]}}}},
            "Number of batches in request exceeded. It should be within 3",
        ),
    ],
)
def test_a_permanent_error_fails_only_its_request(data: Any, message: str) -> None:
    assert message in refusal(asked(data))


def not_made(found: Plan) -> dict[str, str]:
    return {batch.batch_id: reason.text for batch, reason in found.not_made.items()}


def test_one_batch_never_fails_another() -> None:
    ids = ["00", "11", "31", "41", "a/b"]
    found = planned(asked({"batchFilter": ids}), limits=Limits(per_request=9, per_channel=30, per_run=1000))
    assert made(found) == [("R1", "11")] and found.rejected == {} and found.finished == []
    assert not_made(found) == {
        "00": "no such batch",
        "31": "its collection is retired",
        "41": "its collection was deleted",
        "a/b": "the id of the batch or its collection is not valid. Use only letters, digits, '-', '_' and '.'",
    }
    assert found.batch_ids == {("tag R1", "R1"): ids}


def test_the_ambiguous_batch_alone_is_not_made() -> None:
    found = planned(asked({"batchFilter": ["51", "11"]}))
    assert made(found) == [("R1", "11")] and list(not_made(found)) == ["51"]


def test_a_batch_of_a_deleted_and_of_a_living_collection_is_that_of_the_living_one() -> None:
    catalogue = replace(CATALOGUE, batches=lambda _: [("do_gone", "71", "x"), ("do_1", "71", "x")])
    ((batch, _),) = plan([asked({"batchId": "71"})], catalogue, LIMITS).to_make
    assert batch.collection_id == "do_1"


def test_a_search_says_which_batches_of_retired_collections_it_finds() -> None:
    found = planned(asked({"searchFilter": {"request": {"filters": {"identifier": ["do_3", "do_1"]}}}}))
    assert made(found) == [("R1", "11"), ("R1", "12"), ("R1", "51")]
    assert not_made(found) == {"31": "its collection is retired"}


def test_a_batch_that_two_found_collections_have_is_not_made_and_the_others_are() -> None:
    data = {"searchFilter": {"request": {"filters": {"identifier": ["do_1", "do_2"]}}}}
    found = planned(asked(data), limits=Limits(per_request=9, per_channel=30, per_run=1000))
    assert made(found) == [("R1", "11"), ("R1", "12"), ("R1", "21")] and list(not_made(found)) == ["51"]


def test_what_is_done_makes_a_request_with_permanent_errors_finished() -> None:
    request = asked({"batchFilter": ["11", "00"]}, processed=done("11"))
    found = planned(request)
    assert found.finished == [request] and found.rejected == {} and list(not_made(found)) == ["00"]


@pytest.mark.parametrize("other", ["31", "12"], ids=["no other can be made", "another is made"])
def test_a_finished_batch_that_cannot_be_made_any_more_stays_finished(other: str) -> None:
    request = asked({"batchFilter": ["00", other]}, processed=done("00"))
    found = planned(request)
    assert found.rejected == {} and "00" not in not_made(found)
    assert made(found) == ([("R1", other)] if other == "12" else [])
    assert found.finished == ([] if other == "12" else [request])
    assert "00" in not_made(planned(request, force=True)) or planned(request, force=True).rejected


# Errors of the sources


class Source:
    """A catalogue of which single look-ups fail; `down`: all of them do."""

    def __init__(self, failing: Mapping[str, Exception], down: Exception | None = None) -> None:
        self.failing, self.down = failing, down
        self.searches = 0

    def catalogue(self) -> Catalogue:
        return Catalogue(
            batches=lambda ids: CATALOGUE.batches(self.checked(ids)),
            batches_of=lambda ids: CATALOGUE.batches_of(self.checked(ids)),
            collections=lambda ids: CATALOGUE.collections(self.checked(ids)),
            search=self.search,
        )

    def checked(self, ids: Sequence[str]) -> Sequence[str]:
        for error in (self.down, *(self.failing.get(one) for one in ids)):
            if error:
                raise error
        return ids

    def search(self, filters: Mapping[str, Any], most: int | None) -> Iterable[Collection]:
        self.searches += 1
        self.checked([json.dumps(filters)])
        return search(filters, most)


SEARCH = {"identifier": ["do_1"]}
ERRORS = [SourceError("no answer in time"), SetupError("query guardrail"), ValueError("odd")]
GOOD = ("R2", "21")


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("failing", ["11", "do_1"])
@pytest.mark.parametrize("data", [{"batchId": "11"}, {"searchFilter": {"request": {"filters": SEARCH}}}])
def test_an_error_while_listing_belongs_to_the_request_that_causes_it(data: Any, failing: str, error: Exception) -> None:
    if "searchFilter" in data:
        failing = "do_1"
    found = plan([asked(data), asked({"batchId": "21"}, "R2")], Source({failing: error}).catalogue(), LIMITS)
    assert found.failed == {("tag R1", "R1"): error} and found.rejected == {}
    assert made(found) == [GOOD]


@pytest.mark.parametrize("error", ERRORS)
def test_an_error_of_one_search_belongs_to_its_requests(error: Exception) -> None:
    source = Source({json.dumps(SEARCH): error})
    data = {"searchFilter": {"request": {"filters": SEARCH}}}
    requests = [asked(data), asked(data, "R3", OTHER_ORG), asked({"batchId": "21"}, "R2")]
    found = plan(requests, source.catalogue(), LIMITS)
    assert set(found.failed) == {("tag R1", "R1"), ("tag R3", "R3")}
    assert made(found) == [GOOD]
    assert source.searches == 2, "once more, and not again for the other request"


def test_one_request_alone_has_its_own_error_too() -> None:
    error = SourceError("no answer in time")
    found = plan([asked({"batchId": "11"})], Source({"11": error}).catalogue(), LIMITS)
    assert found.failed == {("tag R1", "R1"): error}


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("data", [{"batchId": "11"}, {"searchFilter": {"request": {"filters": SEARCH}}}])
def test_the_error_of_a_source_that_does_not_work_is_that_of_the_task(data: Any, error: Exception) -> None:
    with pytest.raises(type(error), match=str(error)):
        plan([asked(data), asked({"batchId": "21"}, "R2")], Source({}, down=error).catalogue(), LIMITS)


@pytest.mark.parametrize("number", [2, 1000])
def test_a_slow_source_that_answers_no_request_fails_the_task_soon(number: int) -> None:
    """It answers the look-up of one id that does not exist, and no other."""
    looked_up: list[str] = []

    def batches(ids: Sequence[str]) -> list[Any]:
        looked_up.extend(ids)
        if PROBE_ID not in ids:
            raise SourceError("no answer in time")
        return []

    requests = [asked({"batchId": f"b{one}"}, f"R{one}") for one in range(number)]
    with pytest.raises(SourceError, match="no answer in time"):
        plan(requests, replace(CATALOGUE, batches=batches), LIMITS)
    assert len(looked_up) == number + 1 + min(number, 3), "together, the probe, and a few alone"


def test_an_error_of_a_moment_is_not_permanent() -> None:
    calls = iter([SourceError("of a moment")])

    def batches(ids: Sequence[str]) -> list[Any]:
        for error in calls:
            raise error
        return list(CATALOGUE.batches(ids))

    found = plan([asked({"batchId": "11"}), asked({"batchId": "11"}, "R2")], replace(CATALOGUE, batches=batches), LIMITS)
    assert made(found) == [("R1", "11"), ("R2", "11")] and found.failed == {}
    assert PROBE_ID not in {row[1] for row in BATCHES}


@pytest.mark.parametrize("request_id", ["", "..", "a/b", "a b"])
def test_a_requests_id_must_be_fit_for_a_path(request_id: str) -> None:
    assert "request's id is not valid" in refusal(asked({"batchId": "11"}, request_id))


def test_as_many_batches_as_the_limit_are_within_it() -> None:
    assert len(planned(asked({"batchFilter": ["11", "12", "21"]})).to_make) == 3


def standalone(*batch_ids: str) -> JobRequest:
    return JobRequest("", "", json.dumps({"batchFilter": batch_ids}), "", "", None, ())


def test_a_standalone_run_has_no_request_owns_all_and_is_under_no_limit_of_requests() -> None:
    found = planned(standalone("11", "12", "21"), limits=Limits(per_request=1, per_channel=1, per_run=1000))
    assert found.rejected == {} and found.deferred == []
    assert [(batch.request_id, batch.batch_id, facts.owned) for batch, facts in found.to_make] == [
        ("", "11", True), ("", "12", True), ("", "21", True),
    ]  # fmt: skip


def test_a_standalone_run_refuses_what_a_request_may_not_have() -> None:
    assert "there is no batch 00" in planned(standalone("11", "00")).rejected["", ""]


def done(*batch_ids: str) -> tuple[Mapping[str, str], ...]:
    return tuple({"batchId": one, "filePath": f"progress-exhaust/R1/{one}_progress_20220927.zip"} for one in batch_ids)


def test_batches_that_are_done_are_not_made_again() -> None:
    assert made(planned(asked({"batchFilter": ["11", "12"]}, processed=done("11")))) == [("R1", "12")]


def test_a_request_whose_batches_are_all_done_is_finished() -> None:
    request = asked({"batchFilter": ["11", "12"]}, processed=done("12", "11"))
    found = planned(request)
    assert found.finished == [request]
    assert found.to_make == found.deferred == [] and found.rejected == {}


def test_force_makes_them_again() -> None:
    request = asked({"batchFilter": ["11", "12"]}, processed=done("12", "11"))
    found = planned(request, force=True)
    assert made(found) == [("R1", "11"), ("R1", "12")] and found.finished == []


@pytest.mark.parametrize(
    ("limits", "to_make", "deferred"),
    [
        (Limits(3, 30, 4), ["11", "11", "12", "12"], ["21"]),
        (Limits(3, 30, 2), ["11", "11"], ["12", "12", "21"]),
        (Limits(3, 2, 99), ["11", "11", "12", "12"], ["21"]),
        (Limits(3, 1, 99), ["11", "11"], ["12", "21", "12"]),
        (Limits(3, 30, 5), ["11", "11", "12", "12", "21"], []),
    ],
)
def test_batches_above_a_limit_wait_for_the_next_run(limits: Limits, to_make: list[str], deferred: list[str]) -> None:
    found = planned(
        asked({"batchFilter": ["11", "12", "21"]}),
        asked({"batchFilter": ["11", "12"]}, "R2", OTHER_ORG),
        limits=limits,
    )
    assert [batch.batch_id for batch, _ in found.to_make] == to_make
    assert [batch.batch_id for batch, _ in found.deferred] == deferred


def test_many_batches_of_one_org_do_not_delay_the_batch_of_another() -> None:
    many = [asked({"batchId": "11"}, f"R{number}", requested_by=str(number)) for number in range(1000)]
    found = planned(*many, asked({"batchId": "12"}, "other", OTHER_ORG), limits=Limits(3, 1000, 100))
    assert made(found)[:3] == [("R0", "11"), ("other", "12"), ("R1", "11")]
    assert (len(found.to_make), len(found.over_run_limit)) == (100, 901)


def test_only_what_the_next_run_can_make_exceeds_the_limit_of_the_run() -> None:
    found = planned(
        asked({"batchFilter": ["11", "12", "21"]}),
        asked({"batchFilter": ["11", "12"]}, "R2", OTHER_ORG),
        limits=Limits(3, 2, 3),
    )
    assert [(batch.request_id, batch.batch_id) for batch, _ in found.over_run_limit] == [("R2", "12")]
    assert [(batch.request_id, batch.batch_id) for batch, _ in found.deferred] == [("R1", "21"), ("R2", "12")]


def test_what_an_org_has_got_today_counts_for_its_limit_except_what_is_made_again() -> None:
    of_day = {ORG: {("R0", "12"), ("R1", "11")}, OTHER_ORG: {("R0", "12")}}
    found = planned(asked({"batchFilter": ["11", "12", "21"]}), limits=Limits(3, 2, 99), of_day=of_day)
    assert made(found) == [("R1", "11")]
    assert (len(found.deferred), found.over_run_limit) == (2, [])


def test_an_orgs_limit_holds_over_its_requests_and_does_not_count_what_is_done() -> None:
    found = planned(
        asked({"batchFilter": ["11", "12"]}, processed=done("11")),
        asked({"batchFilter": ["12", "11"]}, "R2"),
        limits=Limits(3, 2, 99),
    )
    assert made(found) == [("R1", "12"), ("R2", "12")]
    assert [(batch.request_id, batch.batch_id) for batch, _ in found.deferred] == [("R2", "11")]


def test_a_duplicate_shares_the_outcome_of_the_first_of_its_kind() -> None:
    first, other_org = asked({"batchId": "11"}), asked({"batchId": "11"}, "R2", OTHER_ORG)
    second, third = asked({"batchId": "11"}, "R3"), asked({"batchId": "11"}, "R4")
    assert duplicates([first, other_org, second, third]) == {second.key: "R1", third.key: "R1"}

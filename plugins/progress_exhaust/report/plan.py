"""Decide which batches to make for each request, and which requests to reject (data model, section 1)."""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from progress_exhaust.errors import RequestError
from progress_exhaust.report.layout import SURROGATE
from progress_exhaust.report.request import Batch, BatchFacts, JobRequest, Wanted, is_id, parse_request_data

RETIRED = "Retired"

Key = tuple[str, str]  # tag, request id
Collection = Mapping[str, Any]  # as the content search returns it: identifier, name, channel, status
CourseBatch = tuple[str, str, str]  # collection id, batch id, batch name
Planned = tuple[Batch, BatchFacts]


@dataclass(frozen=True)
class Catalogue:
    """How to look up batches and collections, many at a time."""

    batches: Callable[[Sequence[str]], Iterable[CourseBatch]]  # by batch id
    batches_of: Callable[[Sequence[str]], Iterable[CourseBatch]]  # by collection id
    collections: Callable[[Sequence[str]], Iterable[Collection]]  # by collection id
    search: Callable[[Mapping[str, Any], int | None], Iterable[Collection]]  # filters, greatest number of results


@dataclass(frozen=True)
class Limits:
    """The greatest number of batches of one request, of one requesting org in a run, and of one run."""

    per_request: int
    per_channel: int
    per_run: int


@dataclass
class Plan:
    """What a run does for each of its requests."""

    to_make: list[Planned] = field(default_factory=list)
    rejected: dict[Key, str] = field(default_factory=dict)  # can never be made; a message for the requester
    finished: list[JobRequest] = field(default_factory=list)  # previous runs made all of its batches
    deferred: list[Planned] = field(default_factory=list)  # over a limit; for the next run


def plan(requests: Sequence[JobRequest], catalogue: Catalogue, limits: Limits, *, force: bool = False) -> Plan:
    """Decide which batches to make for these requests.

    :param requests: without duplicates
    :param force: make a batch again if a previous run finished it
    """
    planned = Plan()
    wanted: dict[Key, Wanted] = {}
    found: dict[Key, dict[str, Collection]] = {}  # what the request's search found
    answers: dict[str, dict[str, Collection]] = {}  # each search is sent once
    for request in requests:
        try:
            check_request_id(request)
            wanted[request.key] = parse_request_data(request.request_data)
            if not request.standalone:
                check_size(wanted[request.key].batch_ids, limits.per_request)
            filters, limit = wanted[request.key].search_filters, wanted[request.key].search_limit
            if filters is not None:
                search = json.dumps([filters, limit], sort_keys=True)
                if search not in answers:
                    answers[search] = _by_id(catalogue.search(filters, limit))
                found[request.key] = answers[search]
        except RequestError as error:
            planned.rejected[request.key] = str(error)
    named = list(catalogue.batches(_each_once(one for want in wanted.values() for one in want.batch_ids)))
    collections = _by_id(catalogue.collections(_each_once(row[0] for row in named)))
    searched = list(catalogue.batches_of(_each_once(one for by_id in found.values() for one in by_id)))

    of_channel: Counter[str] = Counter()
    for request in requests:
        if request.key in planned.rejected:
            continue
        try:
            if request.key in found:
                batches = found_batches(request, searched, found[request.key])
            else:
                batches = named_batches(request, wanted[request.key].batch_ids, named, collections)
            if not request.standalone:
                check_size(batches, limits.per_request)
            check_files(batches)
        except RequestError as error:
            planned.rejected[request.key] = str(error)
            continue
        done = {} if force else request.finished()
        to_make = [(batch, facts) for batch, facts in batches if batch.batch_id not in done]
        if not to_make:
            planned.finished.append(request)
        room = limits.per_run - len(planned.to_make)
        if not request.standalone:
            room = min(room, limits.per_channel - of_channel[request.requested_channel])
        room = max(room, 0)
        of_channel[request.requested_channel] += len(to_make[:room])
        planned.to_make += to_make[:room]
        planned.deferred += to_make[room:]
    return planned


def duplicates(requests: Sequence[JobRequest]) -> dict[Key, str]:
    """Return the requests for the same files as an earlier request: their key, and the earlier request's id."""
    first: dict[tuple[str, ...], JobRequest] = {}
    return {
        request.key: first[request.duplicate_key].request_id
        for request in requests
        if first.setdefault(request.duplicate_key, request) is not request
    }


def named_batches(
    request: JobRequest,
    batch_ids: Sequence[str],
    course_batches: Iterable[CourseBatch],
    collections: Mapping[str, Collection],
) -> list[Planned]:
    """Return the batches that a request names, in its order.

    Raises RequestError, which names every batch that cannot be reported.
    """
    rows: dict[str, list[CourseBatch]] = {}
    for row in course_batches:
        rows.setdefault(row[1], []).append(row)
    unknown = [batch_id for batch_id in batch_ids if batch_id not in rows]
    unknown += [one for one in batch_ids for row in rows.get(one, [])[:1] if row[0] not in collections]
    if unknown:
        raise RequestError(f"No data found: there is no batch {', '.join(unknown)}, or its collection was deleted")
    twice = [batch_id for batch_id in batch_ids if len(rows[batch_id]) > 1]
    if twice:
        raise RequestError(f"Batch {', '.join(twice)} belongs to more than one collection. Ask for its collection instead")
    retired = [batch_id for batch_id in batch_ids if collections[rows[batch_id][0][0]].get("status") == RETIRED]
    if retired:
        raise RequestError(f"The request is made for retired collection: batch {', '.join(retired)}")
    return [_planned(request, rows[batch_id][0], collections) for batch_id in batch_ids]


def found_batches(
    request: JobRequest, course_batches: Iterable[CourseBatch], collections: Mapping[str, Collection]
) -> list[Planned]:
    """Return every batch of the collections that a request's search found, without retired collections.

    Raises RequestError if there is no batch.
    """
    live = {one for one, collection in collections.items() if collection.get("status") != RETIRED}
    if collections and not live:
        raise RequestError("The request is made for retired collection")
    planned = [_planned(request, row, collections) for row in sorted(course_batches) if row[0] in live]
    if not planned:
        raise RequestError("No data found: the search finds no collection with a batch")
    return planned


def check_request_id(request: JobRequest) -> None:
    """Raise RequestError if the request's id cannot be part of the path of its files."""
    if not request.standalone and not is_id(request.request_id):
        raise RequestError("The request's id is not valid. Use only letters, digits, '-', '_' and '.'")


def check_size(planned: Sequence[object], most: int) -> None:
    """Raise RequestError if a request asks for more batches than a request may."""
    if len(planned) > most:
        raise RequestError(f"Number of batches in request exceeded. It should be within {most}")


def check_files(planned: Sequence[Planned]) -> None:
    """Raise RequestError if two batches of a request, in two collections, have the same file name."""
    of_id = Counter(batch.batch_id for batch, _ in planned)
    twice = [batch_id for batch_id, number in of_id.items() if number > 1]
    if twice:
        raise RequestError(f"Batch {', '.join(twice)} belongs to more than one collection. Ask for one collection per request")


def _planned(request: JobRequest, row: CourseBatch, collections: Mapping[str, Collection]) -> Planned:
    collection_id, batch_id, batch_name = row
    if not is_id(batch_id) or not is_id(collection_id):
        raise RequestError("The id of a batch or its collection is not valid. Use only letters, digits, '-', '_' and '.'")
    collection = collections[collection_id]
    name = collection.get("name")
    return (
        Batch(request.tag, request.request_id, request.requested_channel, batch_id, collection_id),
        BatchFacts(
            batch_name=batch_name,
            collection_name=SURROGATE.sub("\ufffd", name) if isinstance(name, str) else "",
            owned=request.standalone or collection.get("channel") == request.requested_channel,
        ),
    )


def _by_id(collections: Iterable[Collection]) -> dict[str, Collection]:
    return {str(collection["identifier"]): collection for collection in collections}


def _each_once(ids: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(ids))

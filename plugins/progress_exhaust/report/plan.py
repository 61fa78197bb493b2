"""Decide which batches to make for each request, and which requests to reject (data model, section 1)."""

from collections import Counter
from collections.abc import Collection as AnyCollection
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from progress_exhaust.errors import RequestError
from progress_exhaust.report.catalogue import Catalogue, CourseBatch, Errors, Key, by_id, look_up, search_all
from progress_exhaust.report.choice import Choice, Planned, Reason, choose_found, choose_named
from progress_exhaust.report.request import Batch, JobRequest, Wanted, is_id, parse_request_data

FileKey = tuple[str, str]  # request id, batch id


@dataclass(frozen=True)
class Limits:
    """The greatest number of batches of one request, of one requesting org in a day, and of one run."""

    per_request: int
    per_channel: int
    per_run: int


@dataclass
class Plan:
    """What a run does for each of its requests."""

    to_make: list[Planned] = field(default_factory=list)
    deferred: list[Planned] = field(default_factory=list)  # over a limit; for a later run
    over_run_limit: list[Planned] = field(default_factory=list)  # those of them that the next run can make
    not_made: dict[Batch, Reason] = field(default_factory=dict)  # permanent errors of single batches
    rejected: dict[Key, str] = field(default_factory=dict)  # no batch can be made; a message for the requester
    finished: list[JobRequest] = field(default_factory=list)  # previous runs made all batches that can be made
    failed: Errors = field(default_factory=dict)  # a source did not answer what this request asks for
    batch_ids: dict[Key, list[str]] = field(default_factory=dict)  # of every request whose batches are known, in its order


def plan(
    requests: Sequence[JobRequest],
    catalogue: Catalogue,
    limits: Limits,
    *,
    force: bool = False,
    of_day: Mapping[str, AnyCollection[FileKey]] | None = None,
    over_bytes: AnyCollection[FileKey] = (),
) -> Plan:
    """Decide which batches to make for these requests. Raises the error of a source that does not work at all.

    :param requests: without duplicates
    :param force: make a batch again if a previous run finished it
    :param of_day: what each requesting org has got or is getting today: request and batch ids
    :param over_bytes: what is larger than what its org may still get today
    """
    planned = Plan()
    choices = _Choices(catalogue, _wanted(requests, limits, planned), planned)
    wanted: list[Planned] = []
    for request in requests:
        if request.key in planned.rejected or request.key in planned.failed:
            continue
        try:
            done = {} if force else request.finished()
            choice = choices.of(request).without_rejected(done)
            if not request.standalone:
                check_size(choice.not_retired(), limits.per_request)
            planned.batch_ids[request.key] = choice.batch_ids
            planned.not_made |= choice.rejected
            if not any(batch_id in done for batch_id in choice.batch_ids):
                choice.check(all_of_them=request.standalone)
        except RequestError as error:
            planned.rejected[request.key] = str(error)
            continue
        to_make = [(batch, facts) for batch, facts in choice.planned if batch.batch_id not in done]
        if not to_make:
            planned.finished.append(request)
        wanted += to_make
    planned.deferred = [one for one in wanted if file_key(one[0]) in over_bytes]
    _share_out(planned, [one for one in wanted if file_key(one[0]) not in over_bytes], limits, of_day or {})
    return planned


def _share_out(planned: Plan, wanted: Sequence[Planned], limits: Limits, of_day: Mapping[str, AnyCollection[FileKey]]) -> None:
    """Give the requesting orgs one batch each in turn, until the run is full: many batches of one org delay no other org."""
    again = {file_key(batch) for batch, _ in wanted}
    number = Counter({channel: len(set(made) - again) for channel, made in of_day.items()})
    turns: Counter[str] = Counter()
    in_turn: list[tuple[int, Planned]] = []
    for one in wanted:
        batch, _ = one
        number[batch.channel] += 1
        turns[batch.channel] += 1
        if batch.request_id and number[batch.channel] > limits.per_channel:
            planned.deferred.append(one)
        else:
            in_turn.append((turns[batch.channel], one))
    in_order = [one for _, one in sorted(in_turn, key=lambda entry: entry[0])]
    planned.to_make, planned.over_run_limit = in_order[: limits.per_run], in_order[limits.per_run :]
    planned.deferred += planned.over_run_limit


class _Choices:
    """The batches that the requests ask for, after all of them were looked up."""

    def __init__(self, catalogue: Catalogue, wanted: dict[Key, Wanted], planned: Plan) -> None:
        self._wanted = wanted
        self._found, errors = search_all(catalogue, wanted)
        for key, error in errors.items():
            if isinstance(error, RequestError):
                planned.rejected[key] = str(error)
            else:
                planned.failed[key] = error
        named = {key: [one for one in want.batch_ids if is_id(one)] for key, want in wanted.items()}
        rows, errors = look_up(catalogue.batches, named)
        planned.failed |= errors
        self._named = _group(rows, by=1)
        collections, errors = look_up(
            catalogue.collections, {key: [row[0] for it in ids for row in self._named.get(it, ())] for key, ids in named.items()}
        )
        planned.failed |= errors
        self._collections = by_id(collections)
        rows, errors = look_up(catalogue.batches_of, self._found)
        planned.failed |= errors
        self._searched = _group(rows, by=0)

    def of(self, request: JobRequest) -> Choice:
        if request.key in self._found:
            return choose_found(request, self._searched, self._found[request.key])
        return choose_named(request, self._wanted[request.key].batch_ids, self._named, self._collections)


def file_key(batch: Batch) -> FileKey:
    """Return what names the file of a batch, apart from its day."""
    return batch.request_id, batch.batch_id


def _group(rows: Iterable[CourseBatch], *, by: int) -> dict[str, list[CourseBatch]]:
    """Group batches, each once, by one of their ids."""
    grouped: dict[str, list[CourseBatch]] = {}
    for row in dict.fromkeys(rows):
        grouped.setdefault(row[by], []).append(row)
    return grouped


def duplicates(requests: Sequence[JobRequest]) -> dict[Key, str]:
    """Return the requests for the same files as an earlier request: their key, and the earlier request's id."""
    first: dict[tuple[str, ...], JobRequest] = {}
    return {
        request.key: first[request.duplicate_key].request_id
        for request in requests
        if first.setdefault(request.duplicate_key, request) is not request
    }


def check_request_id(request: JobRequest) -> None:
    """Raise RequestError if the request's id cannot be part of the path of its files."""
    if not request.standalone and not is_id(request.request_id):
        raise RequestError("The request's id is not valid. Use only letters, digits, '-', '_' and '.'")


def check_size(planned: Sequence[object], most: int) -> None:
    """Raise RequestError if a request asks for more batches than a request may."""
    if len(planned) > most:
        raise RequestError(f"Number of batches in request exceeded. It should be within {most}")


def _wanted(requests: Iterable[JobRequest], limits: Limits, planned: Plan) -> dict[Key, Wanted]:
    """Return what each request asks for; reject the others."""
    wanted: dict[Key, Wanted] = {}
    for request in requests:
        try:
            check_request_id(request)
            want = parse_request_data(request.request_data)
            if not request.standalone:
                check_size(want.batch_ids, limits.per_request)
            wanted[request.key] = want
        except RequestError as error:
            planned.rejected[request.key] = str(error)
    return wanted

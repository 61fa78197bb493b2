"""Look up batches and collections for many requests at once. An error of one request does not block the others."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from progress_exhaust.errors import RequestError, SourceError
from progress_exhaust.report.request import Wanted

Key = tuple[str, str]  # tag, request id
Collection = Mapping[str, Any]  # as the content search returns it: identifier, name, channel, status
CourseBatch = tuple[str, str, str]  # collection id, batch id, batch name
Errors = dict[Key, Exception]

# No batch or collection has this id. A source that answers a look-up of it works, and an error is about one request.
PROBE_ID = "progress-exhaust-probe"

# If this many requests cannot be looked up, and none could, the source does not work.
LOOK_UPS_TO_JUDGE = 3

Row = TypeVar("Row")


@dataclass(frozen=True)
class Catalogue:
    """How to look up batches and collections, many at a time."""

    batches: Callable[[Sequence[str]], Iterable[CourseBatch]]  # by batch id
    batches_of: Callable[[Sequence[str]], Iterable[CourseBatch]]  # by collection id
    collections: Callable[[Sequence[str]], Iterable[Collection]]  # by collection id
    search: Callable[[Mapping[str, Any], int | None], Iterable[Collection]]  # filters, greatest number of results


def look_up(call: Callable[[Sequence[str]], Iterable[Row]], ids: Mapping[Key, Iterable[str]]) -> tuple[list[Row], Errors]:
    """Return what a source has about the ids of all requests, and the errors of single requests.

    If the source does not answer for all requests together, each request is looked up alone. Raises the error of a source
    that does not work at all.
    """
    together = _each_once(one for of_request in ids.values() for one in of_request)
    if not together:
        return [], {}
    try:
        return list(call(together)), {}
    except Exception:
        list(call([PROBE_ID]))
    rows: list[Row] = []
    errors: Errors = {}
    one_by_one = {key: wanted for key, of_request in ids.items() if (wanted := _each_once(of_request))}
    for number, (key, wanted) in enumerate(one_by_one.items(), 1):
        try:
            rows += call(wanted)
        except Exception as error:
            errors[key] = error
            _raise_if_common(errors, looked_up=number, of=len(one_by_one))
    return rows, errors


def search_all(catalogue: Catalogue, wanted: Mapping[Key, Wanted]) -> tuple[dict[Key, dict[str, Collection]], Errors]:
    """Return what the search of each request finds, by collection id, and the errors of single requests.

    Each search is sent once. Raises the error of a search that does not work at all.
    """
    keys = {
        key: json.dumps([want.search_filters, want.search_limit], sort_keys=True)
        for key, want in wanted.items()
        if want.search_filters is not None
    }
    searches = {search: wanted[key] for key, search in keys.items()}
    answers: dict[str, dict[str, Collection]] = {}
    failed: dict[str, Exception] = {}
    for number, (search, want) in enumerate(searches.items(), 1):
        answer = _search(catalogue, want.search_filters or {}, want.search_limit)
        if isinstance(answer, Exception):
            failed[search] = answer
            _raise_if_common(failed, looked_up=number, of=len(searches))
        else:
            answers[search] = answer
    found = {key: answers[search] for key, search in keys.items() if search in answers}
    return found, {key: failed[search] for key, search in keys.items() if search in failed}


def by_id(collections: Iterable[Collection]) -> dict[str, Collection]:
    return {str(collection["identifier"]): collection for collection in collections}


def _search(catalogue: Catalogue, filters: Mapping[str, Any], most: int | None) -> dict[str, Collection] | Exception:
    """Search; after an error once more, if the source works. Return the second error: it is about this search."""
    try:
        return by_id(catalogue.search(filters, most))
    except RequestError as error:
        return error
    except Exception:
        list(catalogue.collections([PROBE_ID]))
    try:
        return by_id(catalogue.search(filters, most))
    except Exception as error:
        return error


def _raise_if_common(errors: Mapping[Any, Exception], *, looked_up: int, of: int) -> None:
    """Raise the error if all look-ups so far have failed, and a retry may help: then it is not about one request."""
    all_failed = len(errors) == looked_up == min(of, LOOK_UPS_TO_JUDGE)
    if of > 1 and all_failed and all(isinstance(error, SourceError) for error in errors.values()):
        raise next(iter(errors.values()))


def _each_once(ids: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(ids))

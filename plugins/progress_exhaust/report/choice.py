"""Choose which batches of a request can be made, and say why the others cannot (data model, section 1)."""

from collections import Counter
from collections.abc import Collection as AnyCollection
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum

from progress_exhaust.errors import RequestError
from progress_exhaust.report.catalogue import Collection, CourseBatch
from progress_exhaust.report.layout import SURROGATE
from progress_exhaust.report.request import MAX_ID_CHARACTERS, Batch, BatchFacts, JobRequest, is_id

RETIRED_STATUS = "Retired"
ONLY_ID_CHARACTERS = "Use only letters, digits, '-', '_' and '.'"

Planned = tuple[Batch, BatchFacts]


class Reason(Enum):
    """A permanent error of a batch: its reason, and the message of a request whose batches all have it.

    Tools may look for the phrases `No data found` and `The request is made for retired collection`.
    """

    NO_BATCH = "no such batch", "No data found: there is no batch {ids}"
    NO_COLLECTION = "its collection was deleted", "No data found: the collection of batch {ids} was deleted"
    RETIRED = "its collection is retired", "The request is made for retired collection: batch {ids}"
    AMBIGUOUS = (
        "it belongs to more than one collection. Ask for its collection instead",
        "Batch {ids} belongs to more than one collection. Ask for its collection instead",
    )
    SAME_FILE = (
        "it belongs to more than one collection. Ask for one collection per request",
        "Batch {ids} belongs to more than one collection. Ask for one collection per request",
    )
    INVALID_ID = (
        f"the id of the batch or its collection is not valid. {ONLY_ID_CHARACTERS}",
        f"The id of a batch or its collection is not valid. {ONLY_ID_CHARACTERS}",
    )

    @property
    def text(self) -> str:
        return str(self.value[0])

    def message(self, batch_ids: Iterable[str]) -> str:
        """Return the message of a request whose batches all have this reason."""
        return str(self.value[1]).format(ids=", ".join(batch_ids))


@dataclass
class Choice:
    """The batches of one request."""

    batch_ids: list[str] = field(default_factory=list)  # all of them, in the request's order
    planned: list[Planned] = field(default_factory=list)
    rejected: dict[Batch, Reason] = field(default_factory=dict)

    def not_retired(self) -> list[Batch]:
        """Return the batches that count for the limit of one request: a search may find any number of retired ones."""
        rejected = [batch for batch, reason in self.rejected.items() if reason is not Reason.RETIRED]
        return [batch for batch, _ in self.planned] + rejected

    def without_rejected(self, finished: AnyCollection[str]) -> "Choice":
        """Return the choice without those rejected batches that a previous run has made."""
        rejected = {batch: reason for batch, reason in self.rejected.items() if batch.batch_id not in finished}
        return replace(self, rejected=rejected)

    def check(self, *, all_of_them: bool) -> None:
        """Raise RequestError, with the reasons, if no batch can be made; or if one cannot, where all of them are needed."""
        if self.planned and not (all_of_them and self.rejected):
            return
        if not self.rejected:
            raise RequestError("No data found: the search finds no collection with a batch")
        ids: dict[Reason, list[str]] = {}
        for batch, reason in self.rejected.items():
            ids.setdefault(reason, []).append(batch.batch_id)
        if len(ids) == 1:
            raise RequestError("".join(reason.message(batch_ids) for reason, batch_ids in ids.items()))
        parts = "; ".join(f"{', '.join(batch_ids)}: {reason.text}" for reason, batch_ids in ids.items())
        raise RequestError(f"No data found. Not made: {parts}")


def choose_named(
    request: JobRequest,
    batch_ids: Sequence[str],
    rows: Mapping[str, Sequence[CourseBatch]],
    collections: Mapping[str, Collection],
) -> Choice:
    """Return the batches that a request names, in its order; rows: by batch id."""
    choice = Choice()
    for batch_id in batch_ids:
        found = rows.get(batch_id, [])
        known = [row for row in found if row[0] in collections]
        if not is_id(batch_id):
            _reject(choice, request, readable_id(batch_id), "", Reason.INVALID_ID)
        elif not found:
            _reject(choice, request, batch_id, "", Reason.NO_BATCH)
        elif not known:
            _reject(choice, request, batch_id, found[0][0], Reason.NO_COLLECTION)
        elif len(known) > 1:
            _reject(choice, request, batch_id, "", Reason.AMBIGUOUS)
        else:
            _add(choice, request, known[0], collections[known[0][0]])
    return choice


def choose_found(
    request: JobRequest, of_collection: Mapping[str, Sequence[CourseBatch]], collections: Mapping[str, Collection]
) -> Choice:
    """Return every batch of the collections that a request's search found. Raises RequestError if all of them are retired.

    :param of_collection: the batches of each collection
    """
    if collections and all(collection.get("status") == RETIRED_STATUS for collection in collections.values()):
        raise RequestError("The request is made for retired collection")
    rows = sorted(row for collection_id in collections for row in of_collection.get(collection_id, ()))
    number = Counter(batch_id for _, batch_id, _ in rows)
    choice = Choice()
    for row in rows:
        if number[row[1]] == 1:
            _add(choice, request, row, collections[row[0]])
        elif row[1] not in choice.batch_ids:  # two files of the request would have the same name
            _reject(choice, request, row[1], "", Reason.SAME_FILE)
    return choice


def readable_id(text: str) -> str:
    """Return an id from a request that is not valid, in a form that a message and the ledger can hold."""
    return "".join(character if character.isprintable() else "\ufffd" for character in text)[:MAX_ID_CHARACTERS] or "(empty)"


def _add(choice: Choice, request: JobRequest, row: CourseBatch, collection: Collection) -> None:
    """Add a batch with a known collection: it can be made, unless the collection is retired or an id is not valid."""
    collection_id, batch_id, batch_name = row
    if not is_id(batch_id) or not is_id(collection_id):
        _reject(choice, request, readable_id(batch_id), "", Reason.INVALID_ID)
        return
    if collection.get("status") == RETIRED_STATUS:
        _reject(choice, request, batch_id, collection_id, Reason.RETIRED)
        return
    name = collection.get("name")
    facts = BatchFacts(
        batch_name=batch_name,
        collection_name=SURROGATE.sub("\ufffd", name) if isinstance(name, str) else "",
        owned=request.standalone or collection.get("channel") == request.requested_channel,
    )
    choice.planned.append((_batch(request, batch_id, collection_id), facts))
    choice.batch_ids.append(batch_id)


def _reject(choice: Choice, request: JobRequest, batch_id: str, collection_id: str, reason: Reason) -> None:
    choice.rejected[_batch(request, batch_id, collection_id)] = reason
    choice.batch_ids.append(batch_id)


def _batch(request: JobRequest, batch_id: str, collection_id: str) -> Batch:
    return Batch(request.tag, request.request_id, request.requested_channel, batch_id, collection_id)

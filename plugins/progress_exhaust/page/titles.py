"""How the page names a request: by its courses and batches."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from progress_exhaust.hooks.requests.status import BatchDetails

MAX_NAMES = 2


@dataclass(frozen=True)
class Title:
    """The names of a request's courses and batches, and their ids.

    :param course: empty if no name is known
    :param batches: names of the batches; empty if none is known
    :param collection_ids: in the order of the batches
    :param batch_ids: as a run has listed them, else as the request names them
    """

    course: str
    batches: str
    collection_ids: Sequence[str]
    batch_ids: Sequence[str]


def make_title(batches: Iterable[BatchDetails], named: Sequence[str]) -> Title:
    """Return the title of a request.

    :param named: ids of the batches that the request names, for one that no run has listed
    """
    batches = list(batches)
    collection_ids = list(dict.fromkeys(batch.collection_id for batch in batches if batch.collection_id))
    return Title(
        course=join_names((batch.collection_name for batch in batches), len(collection_ids)),
        batches=join_names((batch.batch_name for batch in batches), len(batches)),
        collection_ids=collection_ids,
        batch_ids=[batch.batch_id for batch in batches] or list(named),
    )


def join_names(names: Iterable[str | None], total: int) -> str:
    """Return the first names, and how many more there are; an empty text if no name is known."""
    shown = list(dict.fromkeys(name for name in names if name))[:MAX_NAMES]
    more = total - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more > 0 else "") if shown else ""

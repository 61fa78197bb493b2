"""The published packages, as the ledger and the requests know them."""

from collections.abc import Iterable
from itertools import islice

from progress_exhaust.hooks.requests.ledger_tables import LedgerConnection
from progress_exhaust.sql import packages as sql

BATCHES_PER_QUERY = 1000

RequestBatch = tuple[str, str]  # request id, batch id


class Packages(LedgerConnection):
    """Which packages there should be, and who lists them."""

    def published(self, batches: Iterable[RequestBatch]) -> set[RequestBatch]:
        """Return those of these batches of which a run, of any installation, has published a package."""
        remaining, found = iter(batches), set[RequestBatch]()
        with self._transaction() as transaction:
            while some := list(islice(remaining, BATCHES_PER_QUERY)):
                request_ids, batch_ids = zip(*some, strict=True)
                values = {"request_ids": list(request_ids), "batch_ids": list(batch_ids)}
                found.update((request_id, batch_id) for request_id, batch_id in transaction.fetch_all(sql.PUBLISHED, values))
        return found

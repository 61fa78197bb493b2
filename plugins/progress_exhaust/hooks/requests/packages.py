"""The published packages, as the ledger and the requests know them."""

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice

from progress_exhaust.hooks.requests.connection import Transaction
from progress_exhaust.hooks.requests.ledger_tables import LedgerConnection
from progress_exhaust.hooks.requests.locks import holder_of
from progress_exhaust.hooks.requests.models import Key, key_values, parse_processed
from progress_exhaust.report.request import batch_of_package
from progress_exhaust.sql import connection as limits
from progress_exhaust.sql import packages as sql
from progress_exhaust.sql import releases

BATCHES_PER_QUERY = 1000
LONGEST_DELETION_SECONDS = 600
DELETED = "A file of this request was deleted to protect a learner's data"

RequestBatch = tuple[str, str]  # request id, batch id


@dataclass(frozen=True)
class Listing:
    """A request that lists a package."""

    key: Key
    urls: list[str]
    processed: str | None


@dataclass(frozen=True)
class LockedPackage:
    """A package that no run can publish at this moment, and the requests that list it."""

    package: str  # its key
    listings: tuple[Listing, ...]
    busy: str | None  # why it must not be changed now: a run works on its request
    transaction: Transaction

    def unlist(self, *, make_again: bool) -> None:
        """Remove the package from its requests: the next run makes it again, or their message says that it was deleted."""
        for listing in self.listings:
            urls = [url for url in listing.urls if url != self.package]
            processed = [entry for entry in parse_processed(listing.processed) if entry.get("filePath") != self.package]
            values = {
                "urls": urls or None,
                "processed": json.dumps(processed) if processed else None,
                "make_again": make_again,
                "message": None if make_again else self.transaction.fit_message(DELETED),
            }
            self.transaction.execute(sql.UNLIST, key_values(listing.key) | values)


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

    def collections(self, package: str) -> list[str]:
        """Return the collections of the batch of a package, as the ledger knows them; empty if no run has listed the batch."""
        with self._transaction() as transaction:
            return [collection_id for (collection_id,) in transaction.fetch_all(sql.COLLECTIONS, _values(package))]

    @contextmanager
    def lock(self, package: str) -> Iterator[LockedPackage]:
        """Keep runs from claiming the requests of a package, and from publishing it, while the block changes or deletes it."""
        values = _values(package)
        with self._transaction() as transaction:
            transaction.execute(limits.ALLOW_LONG_PUT, {"milliseconds": LONGEST_DELETION_SECONDS * 1000})
            rows = transaction.fetch_all(sql.LOCK_REQUESTS, values)
            is_published_now = transaction.fetch_value(sql.LOCK_PUBLISHING, values)
            request_ids = {values["request_id"], *(request_id for _, request_id, *_ in rows)} - {""}
            # Only now, with the rows locked, nothing can change about who holds them.
            held = transaction.fetch_all(releases.HOLDERS_OF_IDS, {"request_ids": sorted(request_ids)})
            reasons = [f"request {row[1]} is held by {holder_of(transaction, row)}" for row in held]
            reasons += [
                f"another program makes request {request_id}" for _, request_id, is_processing, *_ in rows if is_processing
            ]
            reasons += ["a run publishes it at this moment"] if is_published_now else []
            listings = tuple(
                Listing((tag, request_id), urls, processed)
                for tag, request_id, _, urls, processed in rows
                if package in (urls or ())
            )
            yield LockedPackage(package, listings, reasons[0] if reasons else None, transaction)


def _values(package: str) -> dict[str, str]:
    request_id, batch_id = batch_of_package(package) or ("", "")
    return {"key": package, "request_id": request_id, "batch_id": batch_id}

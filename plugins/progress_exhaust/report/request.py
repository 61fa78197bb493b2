"""Read a row of job_request, and what its request_data asks for (data model, section 1)."""

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import date
from typing import Any

from progress_exhaust.errors import RequestError

JOB_ID = "progress-exhaust"
COLUMNS_FILE = "columns_"  # start of the name of the file that describes the columns
MAX_FAILURES = 3
MAX_ID_CHARACTERS = 150  # a file name is longer, and file systems allow 255
MAX_FILTER_LEVELS = 20  # nested lists and objects: deeper than any search of the platform

_PATH_PART = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}", re.ASCII)
# A package, or a partial copy of it.
_PACKAGE = re.compile(r"\.?([A-Za-z0-9][A-Za-z0-9._-]*)_progress_[0-9]{8}\.zip(?:\.[0-9a-f]{32}\.part)?")
_PACKAGE_FILE = re.compile(rf"{_PACKAGE.pattern}|\.public-access-[0-9a-f]{{32}}")


@dataclass(frozen=True)
class JobRequest:
    """A request, with the fields that a run needs."""

    tag: str
    request_id: str
    request_data: str  # JSON text, unchanged from the row
    requested_by: str
    requested_channel: str
    encryption_key: str | None = field(repr=False)
    processed: tuple[Mapping[str, Any], ...]  # entries of processed_batches

    @property
    def key(self) -> tuple[str, str]:
        return self.tag, self.request_id

    @property
    def standalone(self) -> bool:
        """Whether this is a run of named batches without a request, not a row of job_request."""
        return self.key == ("", "")

    @property
    def duplicate_key(self) -> tuple[str, ...]:
        """The values that two requests for the same files have in common."""
        try:
            data = json.dumps(json.loads(self.request_data), sort_keys=True)
        except (ValueError, RecursionError):
            data = self.request_data
        return data, self.encryption_key or "", self.requested_by, self.requested_channel

    def finished(self) -> dict[str, Mapping[str, Any]]:
        """Return the entries of the batches that do not need a new file, by batch id.

        The Spark job lists a `.csv` for a batch that it did not package. Such a batch is not finished.
        """
        return {
            str(entry["batchId"]): entry
            for entry in self.processed
            if entry.get("batchId") and str(entry.get("filePath") or "").endswith(".zip")
        }


@dataclass(frozen=True)
class Batch:
    """One file to make, as a mapped task group receives it: ids only."""

    tag: str
    request_id: str  # empty in a standalone run
    channel: str  # of the requesting org; empty in a standalone run
    batch_id: str
    collection_id: str

    @classmethod
    def from_dict(cls, values: Mapping[str, str]) -> "Batch":
        return cls(**values)

    def to_dict(self) -> dict[str, str]:
        return asdict(self)

    def file_name(self, day: date, ending: str = "csv") -> str:
        return f"{self.batch_id}_progress_{day:%Y%m%d}.{ending}"

    def columns_file_name(self, day: date) -> str:
        return f"{COLUMNS_FILE}{self.batch_id}_{day:%Y%m%d}.csv"

    def summary_file_name(self, day: date) -> str:
        return f"summary_{self.batch_id}_{day:%Y%m%d}.txt"

    def object_key(self, day: date) -> str:
        """Return the key of the package in the reports container."""
        folder = f"{self.request_id}/" if self.request_id else ""
        return f"{JOB_ID}/{folder}{self.batch_id}{object_key_ending(day)}"

    @property
    def key(self) -> tuple[str, str]:
        """The key of the batch in the sources: collection id, batch id."""
        return self.collection_id, self.batch_id

    @property
    def request_key(self) -> tuple[str, str]:
        return self.tag, self.request_id

    def __str__(self) -> str:
        return f"request {self.request_id}, batch {self.batch_id}" if self.request_id else f"batch {self.batch_id}"


def object_key_ending(day: date) -> str:
    """Return the ending of the keys of a day's packages."""
    return f"_progress_{day:%Y%m%d}.zip"


def is_package_key(key: str) -> bool:
    """Return whether a file of the reports container is a package of this report, or the unfinished work of a killed task."""
    *folders, name = key.split("/")
    in_its_place = folders[:1] == [JOB_ID] and len(folders) <= 2 and all(map(is_path_part, folders))
    return in_its_place and _PACKAGE_FILE.fullmatch(name) is not None


def batch_of_package(key: str) -> tuple[str, str] | None:
    """Return the request id (empty without a request) and the batch id of a package; None for the test of public access."""
    _, *folder, name = key.split("/")
    package = _PACKAGE.fullmatch(name)
    return ("".join(folder), package[1]) if package else None


@dataclass(frozen=True)
class BatchFacts:
    """What list_batches finds out about a batch. It is stored in `batch.json`."""

    batch_name: str
    collection_name: str
    owned: bool  # the requesting org owns the collection: every learner is reported


@dataclass(frozen=True)
class Wanted:
    """What a request asks for: batches by id, or every batch of the collections that a content search finds."""

    batch_ids: tuple[str, ...] = ()
    search_filters: Mapping[str, Any] | None = None
    search_limit: int | None = None  # greatest number of collections


def parse_request_data(text: str) -> Wanted:
    """Read request_data. Raises RequestError, with a message for the requester, if it does not ask for a batch."""
    try:
        data = json.loads(text)
        json.dumps(data, allow_nan=False)  # Python reads 1e999 as infinity, which cannot be written as JSON again
    except (ValueError, RecursionError):
        raise RequestError("The request's data cannot be read: it is not valid JSON") from None
    if not isinstance(data, dict):
        raise RequestError("The request's data must be a JSON object with batchId, batchFilter or searchFilter")
    if data.get("batchId"):
        return Wanted(batch_ids=_batch_ids([data["batchId"]]))
    if data.get("batchFilter"):
        return Wanted(batch_ids=_batch_ids(data["batchFilter"]))
    if data.get("searchFilter"):
        return _search(data["searchFilter"])
    raise RequestError("Request should have either of batchId, batchFilter, searchFilter")


def is_path_part(text: str) -> bool:
    """Return whether a name from the data may be part of the path of a file."""
    return _PATH_PART.fullmatch(text) is not None and ".." not in text


def is_id(text: str) -> bool:
    """Return whether an id from the data may be part of the names of files."""
    return len(text) <= MAX_ID_CHARACTERS and is_path_part(text)


def _batch_ids(ids: Any) -> tuple[str, ...]:
    if not isinstance(ids, list) or not all(isinstance(one, str) for one in ids):
        raise RequestError("batchId must be a text, and batchFilter a list of texts")
    return tuple(dict.fromkeys(ids))


def _search(search: Any) -> Wanted:
    request = search.get("request") if isinstance(search, dict) else None
    request = request if isinstance(request, dict) else {}
    filters = request.get("filters")
    if not isinstance(filters, dict) or not filters:
        raise RequestError("searchFilter must hold a request with filters")
    if _levels(filters) > MAX_FILTER_LEVELS:
        raise RequestError("The filters of searchFilter are nested too deeply")
    limit = request.get("limit")
    if limit is not None and (not isinstance(limit, int) or isinstance(limit, bool) or limit < 1):
        raise RequestError("The limit of searchFilter must be a whole number above 0")
    return Wanted(search_filters=filters, search_limit=limit)


def _levels(value: Any) -> int:
    """Return how deep lists and objects are nested in a JSON value. This does not recurse."""
    level, levels = [value], 0
    while level := [one for one in level if isinstance(one, dict | list)]:
        levels += 1
        level = [inner for one in level for inner in (one.values() if isinstance(one, dict) else one)]
    return levels

"""HTTP: the content search, and the content service's own copy of a collection's tree."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import quote

from progress_exhaust.errors import RequestError, SourceError
from progress_exhaust.hooks.sunbird_api import NOT_FOUND, SunbirdApiHook

FIELDS = ("identifier", "name", "channel", "status")
IDS_PER_SEARCH = 100  # the servers' usual limit for one answer
MAX_SEARCH_BYTES = 16 * 2**20  # of all answers to one search: some 50,000 collections


class ContentApiHook(SunbirdApiHook):
    """The content API.

    :param search_path: path of the search below the connection's URL
    :param hierarchy_path: path of one collection's tree, with `{id}` in place of its id
    :param timeout_seconds: how long one answer may take
    """

    default_conn_name = "progress_exhaust_content"
    api = "Content API"

    def __init__(self, *, search_path: str, hierarchy_path: str, timeout_seconds: float) -> None:
        super().__init__(timeout_seconds=timeout_seconds)
        self._search_path = search_path
        self._hierarchy_path = hierarchy_path

    def collections(self, identifiers: Sequence[str]) -> Iterator[dict[str, Any]]:
        """Yield what the search has about these collections, retired ones too."""
        for start in range(0, len(identifiers), IDS_PER_SEARCH):
            ids = list(identifiers[start : start + IDS_PER_SEARCH])
            try:
                yield from self._search({"identifier": ids, "status": ["Live", "Unlisted", "Retired"]}, wanted=frozenset(ids))
            except RequestError as error:  # these filters are ours, not a request's
                raise SourceError(f"{self._where()}: {error}") from None

    def search(self, filters: Mapping[str, Any], most: int | None = None) -> Iterator[dict[str, Any]]:
        """Yield what the filters find, each once, whatever its kind and the server's limit for one answer.

        :param most: how many at most
        """
        return self._search(filters, most=most)

    def _search(
        self, filters: Mapping[str, Any], *, most: int | None = None, wanted: frozenset[str] | None = None
    ) -> Iterator[dict[str, Any]]:
        """Yield what the filters find, page by page.

        :param wanted: the identifiers that the filters name. The search ends when all are found, or with an empty page: its count
            may be wrong
        """
        seen: set[str] = set()
        answered = bytes_read = 0
        while len(seen) != most:
            limit = IDS_PER_SEARCH if most is None else min(IDS_PER_SEARCH, most - len(seen))
            request = {"filters": filters, "fields": FIELDS, "limit": limit, "offset": answered}
            result, size_bytes = self._post(self._search_path, {"request": request})
            total, bytes_read = result.get("count"), bytes_read + size_bytes
            found = [row for rows_of_kind in result.values() if isinstance(rows_of_kind, list) for row in rows_of_kind]
            rows = [row for row in found if isinstance(row, dict) and isinstance(row.get("identifier"), str)]
            if len(rows) < len(found):
                self.log.warning("%s: rows without identifier in the search: %d", self._where(), len(found) - len(rows))
            seen_before = len(seen)
            for row in rows:
                identifier = row["identifier"]
                if identifier not in seen and len(seen) != most and (wanted is None or identifier in wanted):
                    seen.add(identifier)
                    yield row
            if wanted is not None and (seen == wanted or not found):
                return
            if isinstance(total, bool) or not isinstance(total, int):
                raise SourceError(f"{self._where()} answered {self._search_path} with a count that is not a number")
            answered += len(found)
            has_new = len(seen) > seen_before
            if answered >= total and not (wanted and has_new):
                return
            # Without this error, missing rows would count as not existing, or the search would never end.
            if not has_new:
                raise SourceError(f"{self._where()}: the search has a count of {total:,}, but ends after {seen_before:,}")
            if bytes_read > MAX_SEARCH_BYTES:
                raise RequestError(f"The search finds too many collections ({total:,}). Ask for fewer")

    def hierarchy(self, collection_id: str) -> dict[str, Any] | None:
        """Return a collection's tree; None if the service does not have it."""
        path = self._hierarchy_path.replace("{id}", quote(collection_id, safe=""))
        answer = self._send("GET", path)
        if answer.status == 404 and answer.response_code == NOT_FOUND:
            return None
        content = self._result(answer, path).get("content")
        if not isinstance(content, dict):
            raise SourceError(f"{self._where()} answered {path} with something other than a tree")
        return content

    def _post(self, path: str, body: Mapping[str, Any]) -> tuple[dict[str, Any], int]:
        """Return the result, and the size of the answer in bytes."""
        answer = self._send("POST", path, json=body)
        # A 400 without the API's own JSON is from a gateway. A 413 is about the request, from the API or from a gateway.
        if answer.status == 413 or (answer.status in (400, 422) and answer.response_code is not None):
            raise RequestError(f"The content search does not accept the request's filters: {answer.message}")
        return self._result(answer, path), len(answer.body)

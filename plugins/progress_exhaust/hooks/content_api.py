"""HTTP: the content search, and the content service's own copy of a collection's tree."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import quote

from progress_exhaust.errors import RequestError, SourceError
from progress_exhaust.hooks.sunbird_api import NOT_FOUND, SunbirdApiHook, message, response_code

FIELDS = ("identifier", "name", "channel", "status")
IDS_PER_SEARCH = 100  # the servers' usual cap on an answer
MOST_SEARCH_BYTES = 16 * 2**20  # of all answers to one search: some 50,000 collections


class ContentApiHook(SunbirdApiHook):
    """The content API.

    :param search_path: path of the search below the connection's URL
    :param hierarchy_path: path of one collection's tree, with `{id}` where its id goes
    :param timeout_seconds: how long one answer may take
    """

    default_conn_name = "progress_exhaust_content"
    api = "Content API"

    def __init__(self, *, search_path: str, hierarchy_path: str, timeout_seconds: float) -> None:
        super().__init__(timeout_seconds=timeout_seconds)
        self._search_path = search_path
        self._hierarchy_path = hierarchy_path

    def collections(self, identifiers: Sequence[str]) -> Iterator[dict[str, Any]]:
        """Yield what the search knows of these collections, retired ones too."""
        for start in range(0, len(identifiers), IDS_PER_SEARCH):
            ids = list(identifiers[start : start + IDS_PER_SEARCH])
            try:
                yield from self.search({"identifier": ids, "status": ["Live", "Unlisted", "Retired"]})
            except RequestError as error:  # no request's own filters
                raise SourceError(f"{self._where()}: {error}") from None

    def search(self, filters: Mapping[str, Any], most: int | None = None) -> Iterator[dict[str, Any]]:
        """Yield what the filters find, of every kind and each once, past the server's cap on one answer.

        :param most: how many at most
        """
        seen: set[str] = set()
        answered = bytes_read = 0
        while len(seen) != most:
            limit = IDS_PER_SEARCH if most is None else min(IDS_PER_SEARCH, most - len(seen))
            request = {"filters": filters, "fields": FIELDS, "limit": limit, "offset": answered}
            result, size_bytes = self._post(self._search_path, {"request": request})
            total, bytes_read = result.get("count"), bytes_read + size_bytes
            if isinstance(total, bool) or not isinstance(total, int):
                raise SourceError(f"{self._where()} answered {self._search_path} without a number as the count")
            found = [one for kind in result.values() if isinstance(kind, list) for one in kind]
            rows = [one for one in found if isinstance(one, dict) and isinstance(one.get("identifier"), str)]
            if len(rows) < len(found):
                self.log.warning("%s: the search left out %d without an identifier", self._where(), len(found) - len(rows))
            known = len(seen)
            for one in rows:
                if one["identifier"] not in seen and len(seen) != most:
                    seen.add(one["identifier"])
                    yield one
            answered += len(found)
            if answered >= total:
                return
            # Else what is missing would pass for what is not there, or the search would have no end.
            if len(seen) == known:
                raise SourceError(f"{self._where()}: the search counts {total:,}, and after {known:,} brings nothing new")
            if bytes_read > MOST_SEARCH_BYTES:
                raise RequestError(f"The search finds too many collections ({total:,}): ask for fewer")

    def hierarchy(self, collection_id: str) -> dict[str, Any] | None:
        """Return a collection's tree; None where the service has none."""
        path = self._hierarchy_path.replace("{id}", quote(collection_id, safe=""))
        answer = self._send("GET", path)
        if answer.status_code == 404 and response_code(answer) == NOT_FOUND:
            return None
        content = self._result(answer, path).get("content")
        if not isinstance(content, dict):
            raise SourceError(f"{self._where()} answered {path} with something else than a tree")
        return content

    def _post(self, path: str, body: Mapping[str, Any]) -> tuple[dict[str, Any], int]:
        """Return the result, and how many bytes the answer has."""
        answer = self._send("POST", path, json=body)
        # A 400 that says nothing of its own is a gateway's; a 413 is of what was sent, whoever says it.
        if answer.status_code == 413 or (answer.status_code in (400, 422) and response_code(answer) is not None):
            raise RequestError(f"The content search does not accept the request's filters: {message(answer)}")
        return self._result(answer, path), len(answer.content)

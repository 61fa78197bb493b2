"""HTTP: the content search, and the content service's own copy of a collection's tree."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import quote

from progress_exhaust.errors import RequestError, SourceError
from progress_exhaust.hooks.sunbird_api import SunbirdApiHook, message

FIELDS = ("identifier", "name", "channel", "status")
IDS_PER_SEARCH = 100  # the servers' usual cap on an answer
MOST_PAGES = 10_000  # of one search: a count that never ends must


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
            yield from self.search({"identifier": ids, "status": ["Live", "Unlisted", "Retired"]})

    def search(self, filters: Mapping[str, Any], most: int | None = None) -> Iterator[dict[str, Any]]:
        """Yield what the filters find, of every kind and each once, past the server's cap on one answer.

        :param most: how many at most
        """
        seen: set[str] = set()
        answered = 0
        for _ in range(MOST_PAGES):
            limit = IDS_PER_SEARCH if most is None else min(IDS_PER_SEARCH, most - len(seen))
            result = self._post(
                self._search_path,
                {"request": {"filters": filters, "fields": FIELDS, "limit": limit, "offset": answered}},
            )
            found = [one for kind in result.values() if isinstance(kind, list) for one in kind]
            for one in found:
                identifier = one.get("identifier") if isinstance(one, dict) else None
                if isinstance(identifier, str) and identifier not in seen and (most is None or len(seen) < most):
                    seen.add(identifier)
                    yield one
            answered += len(found)
            total = result.get("count")
            if not found or not isinstance(total, int) or answered >= total or len(seen) == most:
                return
        raise SourceError(f"{self._where()}: the search has no end: {MOST_PAGES} answers and more to come")

    def hierarchy(self, collection_id: str) -> dict[str, Any] | None:
        """Return a collection's tree; None where the service has none."""
        path = self._hierarchy_path.replace("{id}", quote(collection_id, safe=""))
        answer = self._send("GET", path)
        if answer.status_code == 404:
            return None
        content = self._result(answer, path).get("content")
        return content if isinstance(content, dict) else None

    def _post(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        answer = self._send("POST", path, json=body)
        if answer.status_code == 400:
            raise RequestError(f"The content search does not accept the request's filters: {message(answer)}")
        return self._result(answer, path)

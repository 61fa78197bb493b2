"""HTTP: the content search, and the content service's own copy of a collection's tree."""

import json
from collections.abc import Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

import requests
from airflow.providers.http.hooks.http import HttpHook

from progress_exhaust.errors import RequestError, SetupError, SourceError

FIELDS = ("identifier", "name", "channel", "status")
IDS_PER_SEARCH = 100  # the servers' usual cap on an answer
MOST_PAGES = 10_000  # of one search: a count that never ends must


class ContentApiHook(HttpHook):
    """The content API.

    :param search_path: path of the search below the connection's URL
    :param hierarchy_path: path of one collection's tree, with `{id}` where its id goes
    :param timeout_seconds: how long one answer may take
    """

    default_conn_name = "progress_exhaust_content"

    def __init__(self, *, search_path: str, hierarchy_path: str, timeout_seconds: float) -> None:
        super().__init__(http_conn_id=self.default_conn_name)
        self._search_path = search_path
        self._hierarchy_path = hierarchy_path
        self._timeout_seconds = timeout_seconds

    def __enter__(self) -> Self:
        self._session = self.get_conn()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._session.close()

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
            raise RequestError(f"The content search does not accept the request's filters: {_message(answer)}")
        return self._result(answer, path)

    def _send(self, method: str, path: str, **arguments: Any) -> requests.Response:
        try:
            return self._session.request(
                method,
                self.base_url + path,
                timeout=(min(self._timeout_seconds, 10), self._timeout_seconds),
                allow_redirects=False,
                **arguments,
            )
        except requests.RequestException as error:
            raise SourceError(f"{self._where()} does not answer: {_cause(error)}") from None

    def _result(self, answer: requests.Response, path: str) -> dict[str, Any]:
        if answer.status_code in (401, 403):
            raise SetupError(f"{self._where()} refuses {path}: {answer.status_code} {_message(answer)}")
        if answer.status_code != 200:
            raise SourceError(f"{self._where()} answered {path} with {answer.status_code} {_message(answer)}")
        try:
            result = answer.json().get("result")
        except (ValueError, AttributeError, RecursionError):
            result = None
        if not isinstance(result, dict):
            raise SourceError(f"{self._where()} answered {path} with something else than the API's JSON")
        return result

    def _set_base_url(self, connection: Any) -> None:
        """Take a base path from the connection: Airflow's own hook has no place for one.

        `http://host:8080/api/content` arrives with the path as the schema; so does a plain `https` in other forms.
        """
        schema = connection.schema or ""
        if schema in ("", "http", "https") or "://" in (connection.host or ""):
            super()._set_base_url(connection)
            path = ""
        else:
            scheme = "https" if connection.conn_type == "https" else "http"
            port = f":{connection.port}" if connection.port else ""
            self.base_url = f"{scheme}://{connection.host}{port}"
            path = "/" + schema.strip("/")
            self._base_url_initialized = True
        self.base_url = self.base_url.rstrip("/") + path

    def _where(self) -> str:
        return f"Content API at {self.base_url} (connection {self.default_conn_name})"


def _message(answer: requests.Response) -> str:
    """Return the API's own error message; a gateway's HTML page is not quoted."""
    try:
        return str(json.loads(answer.content)["params"]["errmsg"])[:200]
    except (ValueError, KeyError, TypeError, RecursionError):
        return answer.reason or ""


def _cause(error: requests.RequestException) -> str:
    reason = getattr(error.args[0], "reason", None) if error.args else None
    return str(reason or error).rpartition(": ")[2] or type(error).__name__

"""HTTP: what Sunbird's APIs have in common, for the hook of each."""

import json
from types import TracebackType
from typing import Any, Self

import requests
from airflow.providers.http.hooks.http import HttpHook

from progress_exhaust.errors import SetupError, SourceError


class SunbirdApiHook(HttpHook):
    """One API; used with `with`.

    :param timeout_seconds: how long one answer may take
    """

    default_conn_name: str
    api: str  # its name for a person

    def __init__(self, *, timeout_seconds: float) -> None:
        super().__init__(http_conn_id=self.default_conn_name)
        self._timeout_seconds = timeout_seconds

    def __enter__(self) -> Self:
        self._session = self.get_conn()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._session.close()

    def _send(self, method: str, path: str, **arguments: Any) -> requests.Response:
        try:
            return self._session.request(
                method,
                self.base_url + path,
                timeout=(min(self._timeout_seconds, 10), self._timeout_seconds),
                allow_redirects=False,
                verify=self._session.verify,  # said here, so that a CA of the connection comes before one of the environment
                **arguments,
            )
        except requests.RequestException as error:
            raise SourceError(f"{self._where()} does not answer: {_cause(error)}") from None

    def _result(self, answer: requests.Response, path: str) -> dict[str, Any]:
        if answer.status_code in (401, 403):
            raise SetupError(f"{self._where()} refuses {path}: {answer.status_code} {message(answer)}")
        if answer.status_code != 200:
            raise SourceError(f"{self._where()} answered {path} with {answer.status_code} {message(answer)}")
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
        return f"{self.api} at {self.base_url} (connection {self.default_conn_name})"


def message(answer: requests.Response) -> str:
    """Return the API's own error message; a gateway's HTML page is not quoted."""
    try:
        return str(json.loads(answer.content)["params"]["errmsg"])[:200]
    except (ValueError, KeyError, TypeError, RecursionError):
        return answer.reason or ""


def _cause(error: requests.RequestException) -> str:
    reason = getattr(error.args[0], "reason", None) if error.args else None
    text = str(reason or error)
    if "[SSL: " in text:
        return text[text.index("[SSL: ") :]
    return text.rpartition(": ")[2] or type(error).__name__

"""HTTP: what Sunbird's APIs have in common, for the hook of each."""

import json
import re
import time
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from itertools import islice
from threading import Thread
from types import TracebackType
from typing import Any, Self

import requests
from airflow.providers.http.hooks.http import HttpHook

from progress_exhaust.errors import SetupError, SourceError

MOST_BYTES = 64 * 2**20  # of one answer, unpacked: a tree of 10,000 contents has half of it
MOST_CONNECT_SECONDS = 10
BYTES_PER_READ = 2**16
# One that says when to come again (RFC 9110, 10.2.3) is waited for, so often and so long; more than that is for Airflow's retry.
BUSY = (429, 503)
MOST_WAITS, MOST_WAIT_SECONDS = 3, 60
NOT_FOUND = "RESOURCE_NOT_FOUND"  # the API's own word: a 404 without it is a gateway's, and says nothing of what is there


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
        """Return the answer, read whole; raises SourceError where there is none in time, or one that has no end."""
        for _ in range(MOST_WAITS):
            answer = self._answer(method, path, arguments)
            seconds = _asked_to_wait(answer)
            if seconds is None:
                break
            if seconds > MOST_WAIT_SECONDS:
                raise SourceError(
                    f"{self._where()} answered {path} with {answer.status_code}: not before {seconds:,.0f} s from now"
                )
            self.log.info("%s answered %s, and is asked again in %.0f s, as it says", self._where(), answer.status_code, seconds)
            time.sleep(seconds)
        else:
            answer = self._answer(method, path, arguments)
        if answer.is_redirect:
            raise SourceError(f"{self._where()} sends {path} on to another address ({answer.status_code}), which is not followed")
        return answer

    def _answer(self, method: str, path: str, arguments: dict[str, Any]) -> requests.Response:
        """Ask once, in a thread: no timeout of the client's ends an answer that comes byte by byte."""
        done: list[requests.Response | Exception] = []

        def ask() -> None:
            try:
                with self._session.request(
                    method,
                    self.base_url + path,
                    timeout=(min(self._timeout_seconds, MOST_CONNECT_SECONDS), self._timeout_seconds),
                    allow_redirects=False,
                    stream=True,
                    verify=self._session.verify,  # said here: a CA of the connection comes before one of the environment
                    **arguments,
                ) as answer:
                    pieces = answer.iter_content(BYTES_PER_READ)
                    # Where requests itself would keep the content, which it only reads without a bound.
                    answer._content = b"".join(islice(pieces, MOST_BYTES // BYTES_PER_READ + 1))
                done.append(answer)
            except Exception as error:
                done.append(error)

        thread = Thread(target=ask, daemon=True)
        thread.start()
        thread.join(self._timeout_seconds)
        if not done:
            self._session.close()
            raise SourceError(f"{self._where()} does not answer: {path} is not answered whole in {self._timeout_seconds:g} s")
        [answer] = done
        if isinstance(answer, requests.RequestException):
            raise SourceError(f"{self._where()} does not answer: {_cause(answer)}")
        if isinstance(answer, Exception):
            raise answer
        if len(answer.content) > MOST_BYTES:
            raise SourceError(f"{self._where()} answered {path} with more than {MOST_BYTES:,} bytes")
        return answer

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
        place = re.sub("//[^/]*@", "//", self.base_url)  # a host that is a whole URL may have a login in it
        return f"{self.api} at {place} (connection {self.default_conn_name})"


def message(answer: requests.Response) -> str:
    """Return the API's own error message; a gateway's HTML page is not quoted."""
    try:
        return str(json.loads(answer.content)["params"]["errmsg"])[:200]
    except (ValueError, KeyError, TypeError, RecursionError):
        return answer.reason or ""


def response_code(answer: requests.Response) -> Any:
    """Return the API's own word on its answer, which a gateway's page lacks."""
    try:
        return answer.json().get("responseCode")
    except (ValueError, AttributeError, RecursionError):
        return None


def _asked_to_wait(answer: requests.Response) -> float | None:
    """Return for how many seconds a busy API asks to be left alone; None where it does not."""
    if answer.status_code not in BUSY:
        return None
    said = answer.headers.get("Retry-After", "")
    if said.isdecimal():
        return float(said)
    try:
        return max(0.0, (parsedate_to_datetime(said) - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError):
        return None


def _cause(error: requests.RequestException) -> str:
    """Return the words of the innermost error, without the names of those around it."""
    inner = error.args[0] if error.args else error
    reason = getattr(inner, "reason", None)
    if reason is None and isinstance(inner, Exception) and len(inner.args) > 1:
        reason = inner.args[-1]
    text = str(reason or error)
    if "[SSL: " in text:
        return text[text.index("[SSL: ") :]
    return text.rpartition(": ")[2] or type(error).__name__

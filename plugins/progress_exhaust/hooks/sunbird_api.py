"""HTTP: what Sunbird's APIs have in common, for the hook of each."""

import json
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from itertools import islice
from threading import Thread
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlsplit

import requests
from airflow.providers.http.hooks.http import HttpHook

from progress_exhaust.errors import SetupError, SourceError
from progress_exhaust.security.tls import Tls

if TYPE_CHECKING:
    from airflow.sdk import Connection

MAX_BYTES = 64 * 2**20  # of one answer, unpacked: a tree of 10,000 contents has half of it
MAX_CONNECT_SECONDS = 10
BYTES_PER_READ = 2**16
# A busy API says when to ask again (RFC 9110, 10.2.3). Longer or more often than this is left to Airflow's retry.
BUSY = (429, 503)
MAX_WAITS, MAX_WAIT_SECONDS = 3, 60
NOT_FOUND = "RESOURCE_NOT_FOUND"  # a 404 without this code of the API is from a gateway, and says nothing about the object


@dataclass(frozen=True)
class Answer:
    """An answer that has been read completely."""

    status: int
    reason: str  # the phrase after the status
    headers: Mapping[str, str]
    body: bytes
    is_redirect: bool

    @property
    def response_code(self) -> Any:
        """Return the API's own code; None if the answer is not the API's JSON."""
        return self._get("responseCode")

    @property
    def message(self) -> str:
        """Return the API's own error message, else the status phrase; the HTML page of a gateway is not quoted."""
        params = self._get("params")
        return str(params["errmsg"])[:200] if isinstance(params, dict) and "errmsg" in params else self.reason

    @property
    def result(self) -> Any:
        """Return the API's result; None if the answer is not the API's JSON."""
        return self._get("result")

    def _get(self, name: str) -> Any:
        try:
            try:
                found = json.loads(self.body)
            except UnicodeDecodeError:  # a broken character in a name does not fail the whole answer
                found = json.loads(self.body.decode(errors="replace"))
        except (ValueError, RecursionError):
            return None
        return found.get(name) if isinstance(found, dict) else None


class SunbirdApiHook(HttpHook):
    """One API; used with `with`.

    :param timeout_seconds: how long one answer may take
    """

    default_conn_name: str
    api: str  # its name in messages

    def __init__(self, *, timeout_seconds: float) -> None:
        super().__init__(http_conn_id=self.default_conn_name)
        self._timeout_seconds = timeout_seconds

    def __enter__(self) -> Self:
        self._session = self.get_conn()
        self.base_url = self.base_url.rstrip("/")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._session.close()

    def tls(self) -> Tls:
        """Return how the connection is protected."""
        url = urlsplit(self.base_url)
        return Tls(url.hostname or "", url.scheme == "https", self._session.verify is not False)

    @classmethod
    def get_connection(cls, conn_id: str) -> "Connection":
        """Return the connection with its base path in the host: Airflow's own hook has no field for a path.

        Airflow parses `http://host:8080/api/content` as a connection whose schema is `api/content`.
        """
        connection = super().get_connection(conn_id)
        schema = connection.schema or ""
        if schema in ("", "http", "https") or "://" in (connection.host or ""):
            return connection
        scheme = "https" if connection.conn_type == "https" else "http"
        port = f":{connection.port}" if connection.port else ""
        connection.host, connection.port = f"{scheme}://{connection.host}{port}/{schema.strip('/')}", None
        connection.schema = None
        return connection

    def _send(self, method: str, path: str, **arguments: Any) -> Answer:
        """Return the answer, read completely; raises SourceError if it is late, too large or a redirect.

        A busy API is asked again after the time that it names.
        """
        for _ in range(MAX_WAITS):
            answer = self._ask(method, path, arguments)
            seconds = _seconds_to_wait(answer)
            if seconds is None:
                break
            if seconds > MAX_WAIT_SECONDS:
                raise SourceError(f"{self._where()} answered {path} with {answer.status}: ask again in {seconds:,.0f} s")
            self.log.info("%s answered %s: asking again in %.0f s, as it demands", self._where(), answer.status, seconds)
            time.sleep(seconds)
        else:
            answer = self._ask(method, path, arguments)
        if answer.is_redirect:
            raise SourceError(
                f"{self._where()} redirects {path} to another URL ({answer.status}). Redirects are not followed: fix the "
                "connection"
            )
        return answer

    def _ask(self, method: str, path: str, arguments: dict[str, Any]) -> Answer:
        """Ask once, in a thread: no timeout of the client ends an answer that comes byte by byte."""
        done: list[Answer | Exception] = []

        def read() -> None:
            try:
                done.append(self._read(method, path, arguments))
            except Exception as error:
                done.append(error)

        thread = Thread(target=read, daemon=True)
        thread.start()
        thread.join(self._timeout_seconds)
        if not done:
            self._session.close()
            raise SourceError(f"{self._where()} does not answer: {path} is not complete after {self._timeout_seconds:g} s")
        [answer] = done
        if isinstance(answer, requests.RequestException):
            raise SourceError(f"{self._where()} does not answer: {_cause(answer)}")
        if isinstance(answer, Exception):
            raise answer
        if len(answer.body) > MAX_BYTES:
            raise SourceError(f"{self._where()} answered {path} with more than {MAX_BYTES:,} bytes")
        return answer

    def _read(self, method: str, path: str, arguments: dict[str, Any]) -> Answer:
        """Return the answer; of one that is too large, only a little more than MAX_BYTES."""
        with self._session.request(
            method,
            self.base_url + path,
            timeout=(min(self._timeout_seconds, MAX_CONNECT_SECONDS), self._timeout_seconds),
            allow_redirects=False,
            stream=True,
            verify=self._session.verify,  # explicit, so that the connection's CA takes precedence over the environment's
            **arguments,
        ) as response:
            body = b"".join(islice(response.iter_content(BYTES_PER_READ), MAX_BYTES // BYTES_PER_READ + 1))
            return Answer(response.status_code, response.reason or "", response.headers, body, response.is_redirect)

    def _result(self, answer: Answer, path: str) -> dict[str, Any]:
        if answer.status in (401, 403):
            raise SetupError(f"{self._where()} refuses {path}: {answer.status} {answer.message}")
        if answer.status != 200:
            raise SourceError(f"{self._where()} answered {path} with {answer.status} {answer.message}")
        result = answer.result
        if not isinstance(result, dict):
            raise SourceError(f"{self._where()} answered {path} with something other than the API's JSON")
        return result

    def _where(self) -> str:
        url = re.sub("//[^/]*@", "//", self.base_url)  # a host that is a complete URL may contain a login
        return f"{self.api} at {url} (connection {self.default_conn_name})"


def _seconds_to_wait(answer: Answer) -> float | None:
    """Return for how many seconds a busy API wants no requests; None if it does not say that."""
    if answer.status not in BUSY:
        return None
    text = answer.headers.get("Retry-After", "")
    if text.isdecimal():
        return float(text)
    try:
        return max(0.0, (parsedate_to_datetime(text) - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError):
        return None


def _cause(error: requests.RequestException) -> str:
    """Return the message of the innermost error, without the class names of the errors around it."""
    inner = error.args[0] if error.args else error
    reason = getattr(inner, "reason", None)
    if reason is None and isinstance(inner, Exception) and len(inner.args) > 1:
        reason = inner.args[-1]
    text = str(reason or error)
    if "[SSL: " in text:
        return text[text.index("[SSL: ") :]
    return text.rpartition(": ")[2] or type(error).__name__

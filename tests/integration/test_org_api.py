"""The user-org service as the hook reads it: which answers mean that an org has no policy or key, and which ones are errors."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from progress_exhaust.errors import RequestError, SetupError, SourceError
from progress_exhaust.hooks.org_api import OrgApiHook

ORG = "01269878797503692810"
POLICY = {"level": "PLAIN_DATASET"}
URL = "https://keys.example.org/public.pem"


class Service(HTTPServer):
    """Answers everything with one status and body; keeps what it was asked."""

    status, body = 200, b""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[tuple[str, Any]] = []

    def says(self, result: Any, status: int = 200, code: str = "OK") -> None:
        self.status, self.body = (
            status,
            json.dumps({"params": {"errmsg": "words"}, "responseCode": code, "result": result}).encode(),
        )


class Handler(BaseHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        """Stay quiet."""

    def do_POST(self) -> None:
        service: Any = self.server
        service.asked.append((self.path, json.loads(self.rfile.read(int(self.headers["Content-Length"])))))
        self.send_response(service.status)
        self.send_header("Content-Length", str(len(service.body)))
        self.end_headers()
        self.wfile.write(service.body)


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Iterator[Service]:
    server = Service()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    monkeypatch.setenv("AIRFLOW_CONN_PROGRESS_EXHAUST_ORG", f"http://127.0.0.1:{server.server_port}/api/org")
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def hook() -> OrgApiHook:
    return OrgApiHook(
        preferences_path="/private/v2/org/preferences/read", search_path="/private/v2/org/search", timeout_seconds=5
    )


def policy() -> Any:
    with hook() as orgs:
        return orgs.security_policy(ORG)


def url() -> Any:
    with hook() as orgs:
        return orgs.public_key_url(ORG)


def test_the_request_for_a_policy(service: Service) -> None:
    service.says({"response": {"orgId": ORG, "data": POLICY}})
    assert policy() == POLICY
    asked = {"request": {"orgId": ORG, "key": "dataSecurityPolicy"}}
    assert service.asked == [("/api/org/private/v2/org/preferences/read", asked)]


@pytest.mark.parametrize("result", [{}, {"response": None}, {"response": {}}, {"response": {"data": None}}])
def test_an_answer_without_a_policy(service: Service, result: Any) -> None:
    service.says(result)
    assert not policy()


def test_a_404_of_the_api_itself_means_that_there_is_no_policy(service: Service) -> None:
    service.says({}, 404, "RESOURCE_NOT_FOUND")
    assert policy() is None


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (404, b"<html>no such path</html>"),
        (404, b""),
        (404, b'{"message": "no Route matched with those values"}'),
        (404, b"[]"),
        (500, b'{"responseCode": "SERVER_ERROR"}'),
        (502, b"<html>"),
        (400, b'{"responseCode": "CLIENT_ERROR"}'),
        (302, b""),
        (200, b"<html>login</html>"),
        (200, b""),
        (200, b'{"responseCode": "OK"}'),
        (200, b'{"result": {"response": "PLAIN_DATASET"}}'),
        (200, b"[" * 100_000),
        (200, b'{"responseCode": "SERVER_ERROR", "result": {}}'),
        (200, b'{"responseCode": "SERVER_ERROR", "result": {"response": {}}}'),
        (404, b'{"responseCode": "SERVER_ERROR", "result": {}}'),
        (200, b'{"responseCode": "OK", "result": {"response": []}}'),
    ],
)
@pytest.mark.parametrize("ask", [policy, url], ids=["policy", "key"])
def test_any_other_answer_is_an_error(service: Service, status: int, body: bytes, ask: Any) -> None:
    service.status, service.body = status, body
    with pytest.raises(SourceError, match=r"User-org API at http://127\.0\.0\.1:\d+/api/org \(connection progress_exhaust_org\)"):
        ask()


@pytest.mark.parametrize("status", [401, 403])
def test_a_login_without_rights_is_an_error_of_the_site(service: Service, status: int) -> None:
    service.says({}, status, "UNAUTHORIZED")
    with pytest.raises(SetupError, match=f"refuses .*: {status} words"):
        policy()


def test_the_message_for_a_missing_connection() -> None:
    with pytest.raises(SetupError, match=r"connection progress_exhaust_org is missing.*set org_policy_source to none"):
        policy()


def test_the_request_for_a_key(service: Service) -> None:
    service.says({"response": {"count": 1, "content": [{"id": ORG, "keys": {"exhaustEncryptionKey": [URL, "https://old"]}}]}})
    assert url() == URL
    assert service.asked == [("/api/org/private/v2/org/search", {"request": {"filters": {"id": ORG}}})]


@pytest.mark.parametrize("keys", [None, {}, {"exhaustEncryptionKey": []}, {"exhaustEncryptionKey": None}])
def test_an_org_without_a_key(service: Service, keys: Any) -> None:
    service.says({"response": {"content": [{"id": ORG, "keys": keys}]}})
    assert url() is None
    service.says({"response": {"content": [{"id": ORG}]}})
    assert url() is None


@pytest.mark.parametrize("content", [None, [], {}, 5, [None], ["x"], [{}], {"id": ORG}])
def test_an_org_that_is_not_found_is_an_error(service: Service, content: Any) -> None:
    service.says({"response": {"content": content}})
    with pytest.raises(SourceError, match="does not find the org"):
        url()


def test_a_search_that_answers_404_is_an_error(service: Service) -> None:
    service.says({}, 404, "RESOURCE_NOT_FOUND")
    with pytest.raises(SourceError, match="404"):
        url()


@pytest.mark.parametrize("keys", ["x", ["x"], 5, {"exhaustEncryptionKey": [None, "https://second"]},
                                  {"exhaustEncryptionKey": ["", "https://second"]}, {"exhaustEncryptionKey": {}}])  # fmt: skip
def test_a_key_that_is_not_a_url_is_an_error_of_the_org(service: Service, keys: Any) -> None:
    service.says({"response": {"content": [{"id": ORG, "keys": keys}]}})
    with pytest.raises(RequestError, match="URL of the org's public key is not valid"):
        url()


def test_the_key_of_another_org_is_never_used(service: Service) -> None:
    other = {"id": "another", "keys": {"exhaustEncryptionKey": ["https://another"]}}
    service.says({"response": {"content": [other]}})
    with pytest.raises(SourceError, match="does not find the org"):
        url()
    service.says({"response": {"content": [other, {"id": ORG, "keys": {"exhaustEncryptionKey": [URL]}}]}})
    assert url() == URL

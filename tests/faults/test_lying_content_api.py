"""A content API that lies: each lie ends with a message, in time and with little memory; then comes the right report."""

import gzip
import json
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote

import pytest

from dev.world import Row, World, batch_world
from progress_exhaust.errors import RequestError, SourceError
from progress_exhaust.hooks import content_api, sunbird_api
from progress_exhaust.hooks.content_api import ContentApiHook
from tests.integration.install import Install

CONNECTION_ID = "progress_exhaust_content"
HTML = b"<html><body>Bad Gateway</body></html>"
MB = 2**20

Handler = BaseHTTPRequestHandler
Lie = Callable[[Handler], None]


def say(status: int = 200, body: bytes = b"", **headers: str) -> Lie:
    def lie(handler: Handler) -> None:
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    return lie


def result(**values: Any) -> Lie:
    return say(body=json.dumps({"responseCode": "OK", "result": values}).encode())


def endless(handler: Handler) -> None:
    handler.send_response(200)
    handler.send_header("Connection", "close")
    handler.end_headers()
    while True:
        handler.wfile.write(b" " * 65536)


def byte_by_byte(handler: Handler) -> None:
    """Never let a second go by without a byte, for longer than any client waits."""
    handler.send_response(200)
    handler.send_header("Connection", "close")
    handler.end_headers()
    for _ in range(200):
        handler.wfile.write(b" ")
        time.sleep(0.1)


def header_by_header(handler: Handler) -> None:
    handler.wfile.write(b"HTTP/1.1 200 OK\r\n")
    for _ in range(90):  # of more than 100 the client would say so itself
        handler.wfile.write(b"X-A: b\r\n")
        handler.wfile.flush()
        time.sleep(0.1)


def rows(first: int, width: int = 10) -> list[Row]:
    return [{"identifier": f"do_{number}", "name": "x" * width} for number in range(first, first + 100)]


def counting_on(handler: Handler) -> None:
    """Always have more: each answer brings new ones, and counts ten thousand to come."""
    handler.server.answers = getattr(handler.server, "answers", 0) + 1  # type: ignore[attr-defined]
    first = handler.server.answers * 100  # type: ignore[attr-defined]
    result(count=first + 10_000, content=rows(first, 10_000))(handler)


BOMB = gzip.compress(bytes(256 * MB))
LIES: dict[str, tuple[Lie, str]] = {
    "429": (say(429, HTML), "with 429 Too Many Requests"),
    "429 for an hour": (say(429, Retry_After="3600"), "with 429: ask again in 3,600 s"),
    "500": (say(500, b'{"params": {"errmsg": "the search is down"}}'), "with 500 the search is down"),
    "502 with HTML": (say(502, HTML), "with 502 Bad Gateway"),
    "404 with HTML": (say(404, HTML), "with 404 Not Found"),
    "400 with HTML": (say(400, HTML), "with 400 Bad Request"),
    "200 with HTML": (say(200, HTML), "something other than the API's JSON"),
    "empty": (say(200), "something other than the API's JSON"),
    "deep": (say(200, b'{"result":' * 100_000), "something other than the API's JSON"),
    "endless": (endless, "with more than 67,108,864 bytes"),
    "byte by byte": (byte_by_byte, "is not complete after"),
    "header by header": (header_by_header, "is not complete after"),
    "gzip bomb": (say(200, BOMB, Content_Encoding="gzip"), "with more than 67,108,864 bytes"),
    "no gzip": (say(200, HTML, Content_Encoding="gzip"), "does not answer: .*gzip|does not answer: .*decod|incorrect header"),
    "the same page for ever": (result(count=10_000, content=rows(0)), "has a count of 10,000, but ends after 100"),
    "count without contents": (result(count=10_000), "has a count of 10,000, but ends after 0"),
    "count as text": (result(count="250", content=rows(0)), "a count that is not a number"),
    "result as a list": (say(body=b'{"responseCode": "OK", "result": []}'), "something other than the API's JSON"),
    "redirect": (
        say(302, Location="http://169.254.169.254/latest/meta-data/"),
        "redirects .* to another URL .302.. Redirects are not followed",
    ),
}


class Api(ThreadingHTTPServer):
    """Lies, and keeps which paths it was asked for, and when."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Liar)
        self.lies: list[Lie] = []  # one for each question, the last one for all that follow
        self.asked: list[str] = []

    def handle_error(self, *_: Any) -> None:
        """Stay quiet: a client that has enough hangs up."""


class _Liar(Handler):
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:
        """Stay quiet."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        api: Any = self.server
        api.asked.append(self.path)
        lie = api.lies.pop(0) if len(api.lies) > 1 else api.lies[0]
        lie(self)

    do_GET = do_POST


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> Iterator[Api]:
    server = Api()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    monkeypatch.setenv("AIRFLOW_CONN_PROGRESS_EXHAUST_CONTENT", f"http://127.0.0.1:{server.server_port}/api")
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def search(timeout_seconds: float = 2, **filters: Any) -> list[Row]:
    with ContentApiHook(search_path="/v1/search", hierarchy_path="/v3/{id}", timeout_seconds=timeout_seconds) as hook:
        return list(hook.search(filters))


def by_identifiers(*identifiers: str) -> list[Row]:
    with ContentApiHook(search_path="/v1/search", hierarchy_path="/v3/{id}", timeout_seconds=2) as hook:
        return list(hook.collections(identifiers))


def tree() -> Row | None:
    with ContentApiHook(search_path="/v1/search", hierarchy_path="/v3/{id}", timeout_seconds=2) as hook:
        return hook.hierarchy("do_1")


# The hook: every lie


@pytest.mark.parametrize("lie", LIES)
def test_a_lie_is_reported_with_connection_and_cause(api: Api, lie: str) -> None:
    api.lies, words = [LIES[lie][0]], LIES[lie][1]
    with pytest.raises(SourceError, match=rf"^Content API at http://127.*/api \(connection {CONNECTION_ID}\).*({words})"):
        search(30 if lie in ("endless", "gzip bomb") else 2)


@pytest.mark.parametrize("lie", ["endless", "gzip bomb"])
def test_an_answer_without_end_takes_no_more_memory_than_the_longest(api: Api, monkeypatch: pytest.MonkeyPatch, lie: str) -> None:
    monkeypatch.setattr(sunbird_api, "MAX_BYTES", MB)
    api.lies = [LIES[lie][0]]
    tracemalloc.start()
    try:
        with pytest.raises(SourceError, match="more than 1,048,576 bytes"):
            search(60)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 8 * MB


def test_a_search_without_end_is_left_in_time(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(content_api, "MAX_SEARCH_BYTES", 3 * MB)
    api.lies = [counting_on]
    with pytest.raises(RequestError, match="too many collections"):  # of that request alone: the others' searches may be small
        search()
    assert len(api.asked) == 4  # of a megabyte each


@pytest.mark.parametrize("lie", [lie for lie in LIES if "count" not in lie and "page" not in lie])
def test_a_lie_about_a_tree_does_not_pass_for_no_tree(api: Api, lie: str) -> None:
    api.lies = [LIES[lie][0]]
    with pytest.raises(SourceError, match=CONNECTION_ID):
        tree()


@pytest.mark.parametrize("content", [None, 5, "tree", [], [{}]])
def test_a_tree_of_the_wrong_type_does_not_pass_for_no_tree(api: Api, content: Any) -> None:
    api.lies = [result(content=content)]
    with pytest.raises(SourceError, match="something other than a tree"):
        tree()


def test_only_the_apis_own_word_says_that_there_is_no_tree(api: Api) -> None:
    api.lies = [say(404, b'{"responseCode": "RESOURCE_NOT_FOUND"}')]
    assert tree() is None


def test_only_the_apis_own_word_refuses_a_requests_filters(api: Api) -> None:
    api.lies = [say(400, b'{"responseCode": "CLIENT_ERROR", "params": {"errmsg": "no such filter"}}')]
    with pytest.raises(RequestError, match="no such filter"):
        search()


@pytest.mark.parametrize("status", [429, 503])
def test_a_busy_api_is_asked_again_when_it_says(api: Api, monkeypatch: pytest.MonkeyPatch, status: int) -> None:
    slept: list[float] = []
    monkeypatch.setattr(sunbird_api, "time", SimpleNamespace(sleep=slept.append))
    soon = format_datetime(datetime.now(UTC) + timedelta(seconds=40), usegmt=True)
    api.lies = [say(status, Retry_After="7"), say(status, Retry_After=soon), result(count=1, content=[{"identifier": "do_1"}])]
    assert search() == [{"identifier": "do_1"}]
    assert slept[0] == 7
    assert 0 < slept[1] <= 40
    assert len(api.asked) == 3


def test_an_api_that_stays_busy_is_left_to_the_retry(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr(sunbird_api, "time", SimpleNamespace(sleep=slept.append))
    api.lies = [say(429, Retry_After="7")]
    with pytest.raises(SourceError, match="with 429 Too Many Requests"):
        search()
    assert slept == [7] * sunbird_api.MAX_WAITS


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_no_redirect_is_followed(api: Api, status: int) -> None:
    """Not to a link-local address, nor to one where a server would answer."""
    for target in (
        "http://169.254.169.254/latest/meta-data/",
        f"http://127.0.0.1:{api.server_port}/secret",
        "/secret",
        "//[::1]/",
    ):
        api.lies = [say(status, Location=target)]
        with pytest.raises(SourceError, match=rf"\({status}\)\. Redirects are not followed"):
            search()
    assert set(api.asked) == {"/api/v1/search"}


@pytest.mark.parametrize("count", [0, 1, 7, 10_000, None, "two", True, -1])
def test_a_search_by_identifiers_ends_when_all_are_found_whatever_its_count(api: Api, count: Any) -> None:
    rows = [{"identifier": name, "channel": "org", "status": "Live"} for name in ("do_1", "do_2")]
    api.lies = [result(count=count, content=rows)]
    assert [one["identifier"] for one in by_identifiers("do_1", "do_2")] == ["do_1", "do_2"]
    assert len(api.asked) == 1


def test_a_search_by_identifiers_asks_on_when_its_count_is_too_low(api: Api) -> None:
    api.lies = [result(count=1, content=[{"identifier": f"do_{number}"}]) for number in (1, 2)]
    assert [one["identifier"] for one in by_identifiers("do_1", "do_2")] == ["do_1", "do_2"]


def test_a_search_by_identifiers_without_one_of_them_ends(api: Api) -> None:
    api.lies = [result(count=1, content=[{"identifier": "do_1"}]), result(count=1)]
    assert [one["identifier"] for one in by_identifiers("do_1", "do_2")] == ["do_1"]


@pytest.mark.parametrize("empty", [{}, {"content": []}, {"content": None}])
def test_an_empty_page_ends_a_search_by_identifiers_whatever_its_count(api: Api, empty: Row) -> None:
    """One of the two collections was deleted, and the API always counts seven."""
    api.lies = [result(count=7, content=[{"identifier": "do_1"}]), result(count=7, **empty)]
    assert [one["identifier"] for one in by_identifiers("do_1", "do_2")] == ["do_1"]
    assert len(api.asked) == 2


def test_a_search_by_identifiers_returns_nothing_else(api: Api) -> None:
    api.lies = [result(count=9, content=[{"identifier": "do_7"}, {"identifier": "do_1"}, {"identifier": "do_2"}])]
    assert [one["identifier"] for one in by_identifiers("do_1", "do_2")] == ["do_1", "do_2"]


def test_what_has_no_identifier_is_skipped_and_counted(api: Api, caplog: pytest.LogCaptureFixture) -> None:
    odd = [None, 5, [], {}, {"identifier": 7}, {"identifier": None}]
    api.lies = [result(count=7, content=[*odd, {"identifier": "do_1", "name": 5, "channel": [], "status": {}}])]
    assert [one["identifier"] for one in search()] == ["do_1"]


# Whole runs


@pytest.fixture
def lying(install: Install) -> Iterator[dict[str, Lie]]:
    """Give the lies of the install's own API, by what a path holds; without one it says what is so."""
    lies: dict[str, Lie] = {}
    honest = install.content.RequestHandlerClass

    class Lying(honest):  # type: ignore[misc, valid-type]
        def parse_request(self) -> bool:
            if not super().parse_request():
                return False
            lie = next((lie for part, lie in lies.items() if part in self.path), None)
            if lie is None:
                return True
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            lie(self)
            self.wfile.flush()
            self.close_connection = True
            return False

    install.content.RequestHandlerClass = Lying
    install.content.handle_error = lambda *_: None  # type: ignore[method-assign]
    yield lies
    install.content.RequestHandlerClass = honest
    del install.content.handle_error


QUICK = ("200 with HTML", "byte by byte")


@pytest.mark.parametrize("lie", [one if one in QUICK else pytest.param(one, marks=pytest.mark.slow) for one in LIES])
def test_a_lie_fails_the_stage_with_a_message_and_the_next_run_is_right(
    queue: Install, world: World, asked: Row, lying: dict[str, Lie], lie: str
) -> None:
    before = queue.row(asked)
    lying["/v1/search"] = LIES[lie][0]
    patience = {"read_timeout_seconds": 30 if lie in ("endless", "gzip bomb") else 2}
    failed = queue.run_dag(settings=patience)
    assert (failed.state, failed.failed()) == ("failed", ["list_batches"])
    assert failed.says("SourceError", CONNECTION_ID)
    message = "The batches of the request could not be listed this time. The next run tries again"
    assert queue.row(asked) == before | {"err_message": message}
    lying.clear()
    assert queue.run_dag().state == "success"
    assert queue.row(asked)["status"] == "SUCCESS"
    assert len(queue.published()) == 1


def test_a_lie_about_one_collection_fails_its_request_alone(
    queue: Install, world: World, asked: Row, lying: dict[str, Lie]
) -> None:
    other = batch_world(7, nested=1, assessments=1, leaves=3)
    [request], other.requests = other.requests, []
    queue.load(other)
    queue.submit([request])
    collection_id = other.batches[0]["courseid"]
    table = f"{queue.names.hierarchies}.content_hierarchy"
    queue.session.execute(f"DELETE FROM {table} WHERE identifier = %s", [collection_id])
    trees = queue.content.data / "hierarchies"
    trees.mkdir(exist_ok=True)
    (trees / f"{quote(collection_id, safe='')}.json").write_text(other.hierarchies[collection_id])
    lying["/v3/hierarchy/"] = say(404, HTML)
    failed = queue.run_dag()
    assert failed.failed() == ["batch.fetch_hierarchy"]
    assert failed.says("SourceError", CONNECTION_ID, "404 Not Found")
    rows = queue.rows()
    assert rows[asked["request_id"]]["status"] == "SUCCESS"
    assert (rows[request["request_id"]]["status"], rows[request["request_id"]]["iteration"]) == ("FAILED", 1)
    assert "The next run tries again" in rows[request["request_id"]]["err_message"]
    lying.clear()
    assert queue.run_dag().state == "success"
    assert queue.row(request)["status"] == "SUCCESS"
    assert len(queue.published()) == 2

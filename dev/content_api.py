"""A small content API: search and hierarchy, answered from a folder as the platform's own service answers.

The folder holds ``contents.json`` (a list of contents) and ``hierarchies/<quoted id>.json`` (one tree each). Both are
looked at again on every request, so sample data that is written (to a temporary name, then renamed) shows at once.

It stands in for the user-org service, too: ``orgs.json`` holds what it says of an org, by id: its ``policy`` and the URLs
of its ``keys``. A public key is served as the file ``keys/<name>``.

    python dev/content_api.py --port 19005 --data FOLDER
"""

from __future__ import annotations

import argparse
import json
import re
import threading
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, cast
from urllib.parse import quote, unquote, urlsplit

MAX_LIMIT = 100
"""Results in one answer at most, whatever the request's limit says: clients must page."""

Content = dict[str, Any]


class BadRequest(Exception):
    """The request's body cannot be answered; the message goes to the client as params.errmsg."""


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _whole_number(request: dict[str, Any], name: str, default: int) -> int:
    value = request.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise BadRequest(f"{name} must be a whole number of 0 or more")
    return value


def search(contents: list[Content], body: Any) -> dict[str, Any]:
    """Return the ``result`` of a search: ``count`` of all matches, and one page of them by object kind."""
    request = body.get("request") if isinstance(body, dict) else None
    if not isinstance(request, dict) or not isinstance(request.get("filters"), dict):
        raise BadRequest("request.filters must be an object")
    filters = {"status": "Live"} | request["filters"]
    if any(isinstance(wanted, dict) for wanted in filters.values()):
        raise BadRequest("only equality and lists are supported in filters")
    limit = min(_whole_number(request, "limit", MAX_LIMIT), MAX_LIMIT)
    offset = _whole_number(request, "offset", 0)
    fields = request.get("fields")
    if fields is not None and not isinstance(fields, list):
        raise BadRequest("fields must be a list")

    matches = [
        content
        for content in contents
        if all(any(value in _as_list(wanted) for value in _as_list(content.get(name))) for name, wanted in filters.items())
    ]
    result: dict[str, Any] = {"count": len(matches)}
    for content in matches[offset : offset + limit]:
        kind = content.get("objectType", "Content")
        key = "content" if kind in ("Content", "Collection") else kind
        # The platform adds these two to whatever fields were asked for.
        shown = {"identifier", "objectType", *fields} if fields else content.keys()
        result.setdefault(key, []).append({name: value for name, value in content.items() if name in shown})
    return result


class ContentServer(ThreadingHTTPServer):
    """The server; ``counts`` says how many searches and hierarchies it was asked for."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, data: Path, port: int = 0, host: str = "127.0.0.1") -> None:
        super().__init__((host, port), _Handler)
        self.data = data
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.counts: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._contents: tuple[int, list[Content]] = (0, [])

    def count(self, what: str) -> None:
        """Add one request to the counts."""
        with self._lock:
            self.counts[what] += 1

    def contents(self) -> list[Content]:
        """Return contents.json, read again when it changed; a folder without one has no contents."""
        path = self.data / "contents.json"
        with self._lock:
            changed = path.stat().st_mtime_ns if path.exists() else 0
            if changed != self._contents[0]:
                self._contents = (changed, json.loads(path.read_bytes()) if changed else [])
            return self._contents[1]

    def org(self, identifier: str) -> dict[str, Any]:
        """Return what orgs.json says of an org; nothing of one that is not in it."""
        path = self.data / "orgs.json"
        orgs: dict[str, dict[str, Any]] = json.loads(path.read_bytes()) if path.is_file() else {}
        return orgs.get(identifier, {})

    def key(self, name: str) -> bytes | None:
        """Return the file with a public key; None if it does not exist."""
        path = self.data / "keys" / name
        return path.read_bytes() if path.is_file() else None

    def hierarchy(self, identifier: str) -> Content | None:
        """Return one content's tree; None if it does not exist."""
        path = self.data / "hierarchies" / f"{quote(identifier, safe='')}.json"
        return json.loads(path.read_bytes()) if path.is_file() else None


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # Headers and body leave in one packet: else keep-alive clients wait 40 ms for each answer.
    wbufsize = -1
    disable_nagle_algorithm = True

    @property
    def content_server(self) -> ContentServer:
        return cast(ContentServer, self.server)

    def log_message(self, format: str, *args: Any) -> None:
        """Stay quiet: requests are counted, not logged."""

    def do_GET(self) -> None:
        path = urlsplit(self.path).path
        found = re.search(r"/v3/hierarchy/([^/]+)$", path)
        key = re.search(r"/keys/([a-z0-9.-]+)$", path)
        if path == "/health":
            self._answer(200, "api.health", {"healthy": True})
        elif found:
            self.content_server.count("hierarchy")
            identifier = unquote(found[1])
            tree = self.content_server.hierarchy(identifier)
            if tree is None:
                self._answer(404, "api.content.hierarchy", {}, f"Content not found with id: {identifier}")
            else:
                self._answer(200, "api.content.hierarchy", {"content": tree})
        elif key and (pem := self.content_server.key(key[1])) is not None:
            self.content_server.count("key")
            self._send(200, "application/x-pem-file", pem)
        else:
            self._answer(404, "api.error", {}, f"No such path: {path}")

    def do_POST(self) -> None:
        # The body is read whatever the answer is: what is left of it would be taken for the next request.
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path = urlsplit(self.path).path
        try:
            if path.endswith("/private/v2/org/preferences/read"):
                self._preferences(json.loads(body)["request"])
            elif path.endswith("/private/v2/org/search"):
                self._orgs(json.loads(body)["request"]["filters"])
            elif path.endswith("/v1/search"):
                self.content_server.count("search")
                self._answer(200, "api.search", search(self.content_server.contents(), json.loads(body)))
            else:
                self._answer(404, "api.error", {}, f"No such path: {self.path}")
        except BadRequest as error:
            self._answer(400, "api.search", {}, str(error))
        except ValueError:
            self._answer(400, "api.search", {}, "The body is not JSON")

    def _preferences(self, request: Any) -> None:
        self.content_server.count("preferences")
        org, api = self.content_server.org(request["orgId"]), "api.org.preferences.read"
        if "policy" not in org or request["key"] != "dataSecurityPolicy":
            self._answer(404, api, {}, f"No preference {request['key']} of {request['orgId']}")
        else:
            self._answer(200, api, {"response": {"orgId": request["orgId"], "key": request["key"], "data": org["policy"]}})

    def _orgs(self, filters: Any) -> None:
        self.content_server.count("orgs")
        keys = self.content_server.org(filters["id"]).get("keys")
        org = {"id": filters["id"], "isTenant": True} | ({"keys": {"exhaustEncryptionKey": keys}} if keys else {})
        self._answer(200, "api.org.search", {"response": {"count": 1, "content": [org]}})

    def _answer(self, status: int, api: str, result: dict[str, Any], error: str | None = None) -> None:
        code = {200: "OK", 400: "CLIENT_ERROR", 404: "RESOURCE_NOT_FOUND"}[status]
        envelope = {
            "id": api,
            "ver": "1.0",
            "ts": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "params": {
                "resmsgid": str(uuid.uuid4()),
                "status": "failed" if error else "successful",
                "err": code if error else None,
                "errmsg": error,
            },
            "responseCode": code,
            "result": result,
        }
        self._send(status, "application/json; charset=utf-8", json.dumps(envelope).encode())

    def _send(self, status: int, kind: str, payload: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(payload)))
        self.end_headers()
        self.wfile.write(payload)


@contextmanager
def serve(data: Path, port: int = 0) -> Iterator[ContentServer]:
    """Serve the folder from a thread while the block runs; port 0 takes a free one (see ``server.url``)."""
    server = ContentServer(data, port)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def main() -> None:
    """Serve until the process is stopped."""
    parser = argparse.ArgumentParser(description="A small content API for development.")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--data", type=Path, required=True, help="folder with contents.json and hierarchies/")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on; another one only inside a container")
    arguments = parser.parse_args()
    ContentServer(arguments.data, arguments.port, arguments.host).serve_forever()


if __name__ == "__main__":
    main()

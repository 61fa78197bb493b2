"""An org's public key, fetched from servers that are good, bad, slow, or somewhere inside the site."""

import contextlib
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from progress_exhaust.errors import RequestError, SetupError, SourceError
from progress_exhaust.security import public_key_download
from progress_exhaust.security.public_key_download import MAX_BYTES, KeySource, is_public
from tests.openssl import openssl

PEM = b"-----BEGIN PUBLIC KEY-----\n"
RESOLVE = socket.getaddrinfo


class Handler(BaseHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        """Stay quiet."""

    def do_GET(self) -> None:
        self.server.asked.append((self.path, self.headers["Host"]))  # type: ignore[attr-defined]
        with contextlib.suppress(OSError):
            ANSWERS[self.path](self)

    def answer(self, data: bytes, status: int = 200, length: int | None = None, **headers: str) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(data) if length is None else length))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def pour(self) -> None:
        """Send as fast as it is taken, for ever."""
        self.wfile.write(b"HTTP/1.0 200 OK\r\n\r\n")
        while True:
            self.wfile.write(bytes(MAX_BYTES))

    def drip(self, head: bytes) -> None:
        """Send a byte now and then, for ever."""
        self.wfile.write(head)
        while True:
            self.wfile.write(b"x")
            self.wfile.flush()
            time.sleep(0.02)


ANSWERS: dict[str, Callable[[Handler], None]] = {
    "/key.pem": lambda server: server.answer(PEM),
    "/a%20key.pem?sig=a%2Bb": lambda server: server.answer(PEM),
    "/most": lambda server: server.answer(bytes(MAX_BYTES)),
    "/more": lambda server: server.answer(bytes(MAX_BYTES + 1)),
    "/endless": lambda server: server.pour(),
    "/half": lambda server: server.answer(PEM, length=1000),
    "/moved": lambda server: server.answer(b"", 302, Location="/key.pem"),
    "/missing": lambda server: server.answer(b"", 404),
    "/later": lambda server: server.answer(b"", 429),
    "/broken": lambda server: server.answer(b"", 500),
    "/slow-head": lambda server: server.drip(b"HTTP/1.0 200 OK\r\nX-Never: "),
    "/slow-body": lambda server: server.drip(b"HTTP/1.0 200 OK\r\n\r\n"),
    "/nonsense": lambda server: server.wfile.write(b"SSH-2.0-OpenSSH\r\n") and None,
}


@dataclass
class Server:
    host: str  # name and port
    asked: list[tuple[str, str]] = field(default_factory=list)  # path, Host


@contextlib.contextmanager
def serving(name: str, context: ssl.SSLContext | None = None) -> Iterator[Server]:
    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    http.daemon_threads = True
    http.handle_error = lambda *_: None  # type: ignore[method-assign]  a client that hangs up is what is tested
    made = Server(f"{name}:{http.server_port}")
    http.asked = made.asked  # type: ignore[attr-defined]
    if context:
        http.socket = context.wrap_socket(http.socket, server_side=True)
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield made
    finally:
        http.shutdown()
        http.server_close()
        thread.join()


@pytest.fixture
def server() -> Iterator[Server]:
    with serving("localhost") as made:
        yield made


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[str]]:
    """Give names to addresses, which no name server of a test's can: each asking takes the next answer's addresses."""
    known: dict[str, list[str]] = {}

    def resolve(name: str, *arguments: Any, **more: Any) -> Any:
        if name not in known:
            return RESOLVE(name, *arguments, **more)
        [answer, *known[name]] = known[name]
        return [found for address in answer.split() for found in RESOLVE(address, *arguments, **more)]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    return known


def source(*hosts: str, private: bool = True, plain_http: bool = True, timeout_seconds: float = 5) -> KeySource:
    return KeySource(hosts, hosts if private else (), plain_http, timeout_seconds)


def test_a_key_is_fetched(server: Server) -> None:
    assert source(server.host).fetch(f"http://{server.host}/key.pem") == PEM
    assert server.asked == [("/key.pem", server.host)]


def test_a_url_is_sent_as_a_browser_would(server: Server) -> None:
    assert source(server.host).fetch(f"http://{server.host}/a key.pem?sig=a%2Bb#part") == PEM


REFUSED = {
    "http://{host}/more": "more than 64 KB",
    "http://{host}/endless": "more than 64 KB",
    "http://{host}/moved": "redirects to another, which is not followed",
    "http://{host}/missing": "answered with 404",
    "http://user:pass@{host}/key.pem": "contains a login",
    "http://elsewhere.example.org/key.pem": "stored on elsewhere.example.org, and keys may not be downloaded",
    "http://localhost/key.pem": "stored on localhost, and keys may not be downloaded",
    "http://{host}.example.org/key.pem": "is not valid",
    "http://user@{host}/key.pem": "contains a login",
    "http://{host}@elsewhere.example.org/key.pem": "contains a login",
    "file:///etc/passwd": "is not valid",
    "ftp://{host}/key.pem": "is not valid",
    "//{host}/key.pem": "is not valid",
    "http:///key.pem": "is not valid",
    "http://{host}/k\r\nX: y": "is not valid",
    "http://{host}/कुंजी": "is not valid",
    "http://[::1/key.pem": "is not valid",
    "": "is not valid",
}


@pytest.mark.parametrize("url", REFUSED)
def test_what_the_org_has_to_fix_is_refused_with_a_message(server: Server, url: str) -> None:
    with pytest.raises(RequestError) as caught:
        source(server.host).fetch(url.format(host=server.host))
    assert REFUSED[url] in str(caught.value)
    assert [path for path, _ in server.asked if path == "/key.pem"] == []


@pytest.mark.parametrize("url", [None, 7, ["http://x.example.org"]])
def test_a_url_that_is_not_text_is_refused_with_a_message(url: object) -> None:
    with pytest.raises(RequestError, match=r"is not valid\. Fix it in the org's settings"):
        source("x.example.org").fetch(url)


def test_64_kb_are_not_too_much(server: Server) -> None:
    assert len(source(server.host).fetch(f"http://{server.host}/most")) == MAX_BYTES


@pytest.mark.parametrize("path", ["/broken", "/later", "/half", "/nonsense"])
def test_what_is_down_is_tried_again(server: Server, path: str) -> None:
    with pytest.raises(SourceError, match="cannot be downloaded"):
        source(server.host).fetch(f"http://{server.host}{path}")


@pytest.mark.parametrize("path", ["/slow-head", "/slow-body"])
def test_a_server_that_takes_for_ever_is_left(server: Server, path: str) -> None:
    with pytest.raises(SourceError, match="cannot be downloaded"):
        source(server.host, timeout_seconds=0.3).fetch(f"http://{server.host}{path}")


def test_a_refused_connection_is_tried_again() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        host = f"localhost:{taken.getsockname()[1]}"
        with pytest.raises(SourceError, match="ConnectionRefusedError"):
            source(host).fetch(f"http://{host}/key.pem")


def test_a_name_that_is_not_found_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    def resolve(*_: Any, **__: Any) -> Any:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    with pytest.raises(SourceError, match=r"keys\.example\.org, is not found"):
        source("keys.example.org").fetch("https://keys.example.org/key.pem")


def test_http_is_refused_unless_the_site_allows_it(server: Server) -> None:
    with pytest.raises(RequestError, match="must start with https"):
        source(server.host, plain_http=False).fetch(f"http://{server.host}/key.pem")
    assert server.asked == []


def test_a_site_without_hosts_gets_the_setting_to_add(server: Server) -> None:
    with pytest.raises(SetupError, match=f"stored on {server.host}.*setting public_key_hosts"):
        source().fetch(f"http://{server.host}/key.pem")


# Addresses


PUBLIC = [
    "8.8.8.8", "2001:4860:4860::8888", "64:ff9b::808:808", "192.88.98.1", "2001:470::5eff:a00:1", "2001:470::1:5efe:a00:1",
]  # fmt: skip
INSIDE = [
    "127.0.0.1", "127.8.8.8", "10.0.0.1", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.1", "224.0.0.1",
    "255.255.255.255", "192.0.2.1", "198.18.0.1", "240.0.0.1", "::", "::1", "fe80::1", "fe80::1%eth0", "fc00::1", "fd00:ec2::254",
    "ff02::1", "::ffff:10.0.0.1", "::ffff:8.8.8.8", "64:ff9b::10.0.0.1", "64:ff9b:1::1", "2002:a00:1::", "2001:0:a00:1::",
    "2001:db8::1", "::127.0.0.1", "::8.8.8.8", "::ffff:0:127.0.0.1", "::ffff:0:808:808", "fec0::1", "feff::1", "4000::1",
    "64:ff9b::a83f:8110", "168.63.129.16", "192.88.99.1", "64:ff9b::c058:6301", "3fff::1", "3fff:fff:ffff::1",
    "2001:470::5efe:a00:1", "2001:470::200:5efe:a00:1",
]  # fmt: skip


@pytest.mark.parametrize(
    ("listed", "url"),
    [
        ("k.example.org:443", "https://k.example.org/key"),
        ("k.example.org:443", "https://k.example.org:443/key"),
        ("k.example.org", "https://k.example.org:443/key"),
        ("k.example.org:80", "http://k.example.org/key"),
    ],
)
def test_a_schemes_own_port_may_be_listed_or_not(names: dict[str, list[str]], listed: str, url: str) -> None:
    names["k.example.org"] = ["127.0.0.9"]  # no server listens there
    with pytest.raises(SourceError, match="ConnectionRefusedError"):
        source(listed).fetch(url)


@pytest.mark.parametrize(
    ("listed", "url"),
    [
        ("k.example.org:443", "http://k.example.org/key"),
        ("k.example.org:80", "https://k.example.org/key"),
        ("k.example.org", "https://k.example.org:80/key"),
        ("k.example.org:8443", "https://k.example.org/key"),
    ],
)
def test_another_port_is_another_host(listed: str, url: str) -> None:
    with pytest.raises(RequestError, match="keys may not be downloaded from that host"):
        source(listed).fetch(url)


def test_all_addresses_share_one_deadline(names: dict[str, list[str]], monkeypatch: pytest.MonkeyPatch) -> None:
    clock, waited = [100.0], []

    def connect(place: tuple[str, int], timeout: float) -> socket.socket:
        waited.append(timeout)
        clock[0] += timeout
        raise TimeoutError

    monkeypatch.setattr(public_key_download, "monotonic", lambda: clock[0])
    monkeypatch.setattr(socket, "create_connection", connect)
    names["keys.example.org"] = ["8.8.8.8 8.8.4.4 1.1.1.1 1.0.0.1"]
    with pytest.raises(SourceError, match="TimeoutError"):
        source("keys.example.org", private=False, timeout_seconds=15).fetch("https://keys.example.org/key.pem")
    assert waited == [10, 5]


def test_the_time_that_the_name_took_counts(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [100.0]

    def resolve(*arguments: Any, **more: Any) -> Any:
        clock[0] += 20
        return RESOLVE(*arguments, **more)

    monkeypatch.setattr(public_key_download, "monotonic", lambda: clock[0])
    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    with pytest.raises(SourceError, match="TimeoutError"):
        source(server.host, timeout_seconds=15).fetch(f"http://{server.host}/key.pem")
    assert server.asked == []


@pytest.mark.parametrize("address", PUBLIC)
def test_an_address_of_the_open_internet_is_public(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize("address", INSIDE)
def test_no_other_is(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("addresses", ["127.0.0.1", "169.254.169.254", "8.8.8.8 127.0.0.1", "127.0.0.1 8.8.8.8", "::1"])
def test_a_name_with_an_address_inside_is_refused_before_any_server_is_called(
    server: Server, names: dict[str, list[str]], addresses: str
) -> None:
    port = server.host.rpartition(":")[2]
    names["keys.example.org"] = [addresses]
    with pytest.raises(RequestError, match=r"keys\.example\.org, which does not have a public address"):
        source(f"keys.example.org:{port}", private=False).fetch(f"http://keys.example.org:{port}/key.pem")
    assert server.asked == []


@pytest.mark.parametrize("address", ["127.0.0.1", "2130706433", "0x7f000001", "127.1", "0"])
def test_an_address_in_the_place_of_a_name_is_looked_at_too(server: Server, address: str) -> None:
    host = f"{address}:{server.host.rpartition(':')[2]}"
    with pytest.raises(RequestError, match="not have a public address"):
        source(host, private=False).fetch(f"http://{host}/key.pem")
    assert server.asked == []


def test_a_name_is_asked_for_once_and_the_call_goes_to_what_was_looked_at(
    server: Server, names: dict[str, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second answer of a dishonest name server is an internal address: no code asks for it."""
    called: list[str] = []

    def connect(place: tuple[str, int], *_: Any) -> socket.socket:
        called.append(place[0])
        raise ConnectionRefusedError

    monkeypatch.setattr(socket, "create_connection", connect)
    names["keys.example.org"] = ["8.8.8.8 2001:4860:4860::8888", "127.0.0.1"]
    with pytest.raises(SourceError):
        source("keys.example.org", private=False).fetch("https://keys.example.org/key.pem")
    assert (called, names["keys.example.org"]) == (["8.8.8.8", "2001:4860:4860::8888"], ["127.0.0.1"])


def test_the_next_address_is_tried_where_one_does_not_answer(server: Server, names: dict[str, list[str]]) -> None:
    host = f"keys.example.org:{server.host.rpartition(':')[2]}"
    names["keys.example.org"] = ["127.0.0.9 127.0.0.1"]  # no server listens on the first
    assert source(host).fetch(f"http://{host}/key.pem") == PEM
    assert server.asked == [("/key.pem", host)]


# Certificates


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a certificate for keys.example.org; return the file with it and its key."""
    folder = tmp_path_factory.mktemp("tls")
    openssl(
        "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=keys.example.org",
        "-addext", "subjectAltName=DNS:keys.example.org", "-keyout", folder / "key", "-out", folder / "certificate",
    )  # fmt: skip
    both = folder / "both.pem"
    both.write_bytes((folder / "certificate").read_bytes() + (folder / "key").read_bytes())
    return both


@pytest.fixture
def tls_server(certificate: Path, names: dict[str, list[str]]) -> Iterator[Server]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    context.sni_callback = lambda _, name, __: asked_for.append(name)
    asked_for: list[str] = []
    with serving("keys.example.org", context) as made:
        names["keys.example.org"] = names["other.example.org"] = ["127.0.0.1"]
        yield made
    assert set(asked_for) <= {"keys.example.org", "other.example.org"} and asked_for


def test_https_asks_for_the_name_and_not_for_the_address(
    tls_server: Server, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    assert source(tls_server.host, plain_http=False).fetch(f"https://{tls_server.host}/key.pem") == PEM
    assert tls_server.asked == [("/key.pem", tls_server.host)]


def test_a_certificate_of_an_unknown_authority_is_refused_with_a_message(tls_server: Server) -> None:
    with pytest.raises(RequestError, match=r"keys\.example\.org does not have a valid certificate"):
        source(tls_server.host).fetch(f"https://{tls_server.host}/key.pem")


def test_a_certificate_of_another_name_is_refused_with_a_message(
    tls_server: Server, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    host = tls_server.host.replace("keys.", "other.")
    with pytest.raises(RequestError, match=r"other\.example\.org does not have a valid certificate \(Hostname mismatch"):
        source(host).fetch(f"https://{host}/key.pem")


def test_a_slow_server_with_a_certificate_is_left_too(
    tls_server: Server, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    with pytest.raises(SourceError, match="cannot be downloaded"):
        source(tls_server.host, timeout_seconds=0.3).fetch(f"https://{tls_server.host}/slow-body")

"""Download the file with an org's public key over HTTPS.

The org chose the URL, so the download must not reach an address inside the site. The host name is resolved once, and every
address is checked. The connection then goes to a checked address, because a second look-up might return another one. Redirects
are not followed, and no proxy is used.
"""

import http.client
import socket
import ssl
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from threading import Event, Timer
from time import monotonic
from urllib.parse import SplitResult, quote, urlsplit

from progress_exhaust.errors import RequestError, SetupError, SourceError

MAX_BYTES = 64 * 1024
PORTS = {"https": 443, "http": 80}
NAT64 = IPv6Network("64:ff9b::/96")  # the last four bytes are an IPv4 address
GLOBAL = IPv6Network("2000::/3")  # the public part of IPv6: it has no local addresses, and no range that embeds an IPv4 address
RESERVED = (IPv4Network("192.88.99.0/24"), IPv6Network("3fff::/20"))  # 6to4 relays, documentation; Python 3.11: global
ISATAP = 0x5EFE  # stands before an embedded IPv4 address, the last four bytes; with a flag: 0x02005EFE
AZURE = IPv4Address("168.63.129.16")  # looks public, but inside Azure it is the host of the virtual machine
UNQUOTED = "/%:=&+,;@!$'()*~?"
MAX_CONNECT_SECONDS = 10
TRANSIENT_STATUSES = (408, 429)  # below 500
FIX = "Fix it in the org's settings"
FIX_HOST = "Upload the key to another host, then change its URL in the org's settings"
INVALID_URL = f"The URL of the org's public key is not valid. {FIX}"


@dataclass(frozen=True)
class KeySource:
    """The hosts that public keys may be downloaded from.

    :param hosts: `name` or `name:port`; the default port of the scheme is optional
    :param private_hosts: those hosts that may have a private address, as in a test
    :param plain_http: whether http is allowed, in addition to https
    :param timeout_seconds: of the whole download; the system's look-up of a name is not interrupted
    """

    hosts: tuple[str, ...]
    private_hosts: tuple[str, ...]
    plain_http: bool
    timeout_seconds: float

    def fetch(self, url: object) -> bytes:
        """Return the file at a URL.

        Raises RequestError if the org must fix something, and SourceError if the host does not answer as it should.
        """
        target = self._allowed(url)
        name, port = str(target.hostname), target.port or PORTS[target.scheme]
        deadline = monotonic() + self.timeout_seconds
        addresses = self._addresses(target, name, port)
        try:
            data = self._read(target, name, addresses, port, deadline)
        except ssl.SSLCertVerificationError as error:
            raise RequestError(
                f"The org's public key cannot be downloaded: {name} does not have a valid certificate ({error.verify_message}). "
                f"{FIX_HOST}"
            ) from None
        except (OSError, http.client.HTTPException) as error:
            raise SourceError(f"The org's public key cannot be downloaded from {name}: {type(error).__name__}") from None
        if len(data) > MAX_BYTES:
            raise RequestError(
                f"The file at the URL of the org's public key has more than {MAX_BYTES // 1024} KB. "
                "Upload a file with only the key in the org's settings"
            )
        return data

    def _allowed(self, url: object) -> SplitResult:
        try:
            target = urlsplit(url if isinstance(url, str) else "")
            host, port = target.hostname or "", target.port
        except ValueError:
            raise RequestError(INVALID_URL) from None
        if target.scheme not in PORTS or not host or not str(url).isascii() or not str(url).isprintable():
            raise RequestError(INVALID_URL)
        if target.scheme == "http" and not self.plain_http:
            raise RequestError(f"The URL of the org's public key starts with http, and must start with https. {FIX}")
        if target.username is not None or target.password is not None:
            raise RequestError(f"The URL of the org's public key contains a login. Use a URL that does not need one. {FIX}")
        place = (host if port is None else f"{host}:{port}")[:80]
        if not self.hosts:
            raise SetupError(
                f"The public key of an org is stored on {place}, and no host is allowed for downloads of public keys. "
                "Add the host to the setting public_key_hosts"
            )
        if not _is_listed(target, self.hosts):
            raise RequestError(
                f"The org's public key is stored on {place}, and keys may not be downloaded from that host. {FIX_HOST}"
            )
        return target

    def _addresses(self, target: SplitResult, name: str, port: int) -> list[str]:
        try:
            found = [str(place[4][0]) for place in socket.getaddrinfo(name, port, type=socket.SOCK_STREAM)]
        except (OSError, UnicodeError) as error:
            raise SourceError(f"The host of the org's public key, {name}, is not found: {error}") from None
        if not _is_listed(target, self.private_hosts) and not all(map(is_public, found)):
            raise RequestError(f"The org's public key is stored on {name}, which does not have a public address. {FIX_HOST}")
        return found

    def _read(self, target: SplitResult, name: str, addresses: list[str], port: int, deadline: float) -> bytes:
        plain = _connect(addresses, port, deadline)
        with plain, _end_after(_seconds_left(deadline), plain.dup()):
            connection: http.client.HTTPConnection
            if target.scheme == "https":
                connection = http.client.HTTPSConnection(name, port)
                connection.sock = ssl.create_default_context().wrap_socket(plain, server_hostname=name)
            else:
                connection = http.client.HTTPConnection(name, port)
                connection.sock = plain
            with closing(connection):
                connection.request("GET", _path(target), headers={"User-Agent": "progress-exhaust"})
                with connection.getresponse() as answer:
                    if answer.status != 200:
                        raise _status_error(answer.status, name)
                    data = answer.read(MAX_BYTES + 1)
                    if answer.length and len(data) <= MAX_BYTES:
                        raise http.client.IncompleteRead(data)
                    return data


def _connect(addresses: list[str], port: int, deadline: float) -> socket.socket:
    for address in addresses[:-1]:
        with suppress(OSError):
            return socket.create_connection((address, port), min(_seconds_left(deadline), MAX_CONNECT_SECONDS))
    return socket.create_connection((addresses[-1], port), min(_seconds_left(deadline), MAX_CONNECT_SECONDS))


def _seconds_left(deadline: float) -> float:
    seconds = deadline - monotonic()
    if seconds <= 0:
        raise TimeoutError
    return seconds


@contextmanager
def _end_after(seconds: float, connection: socket.socket) -> Iterator[None]:
    """End the connection after a time, even if its server sends a byte now and then and so never times out."""
    ended = Event()

    def end() -> None:
        ended.set()
        with suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)

    timer = Timer(seconds, end)
    timer.daemon = True
    timer.start()
    with connection:
        try:
            yield
        finally:
            timer.cancel()
            timer.join()
    if ended.is_set():
        raise TimeoutError


def _path(target: SplitResult) -> str:
    return quote(target.path or "/", safe=UNQUOTED) + (f"?{quote(target.query, safe=UNQUOTED)}" if target.query else "")


def is_public(address: str) -> bool:
    """Return whether an address belongs to the open internet, and does not embed another address."""
    ip: IPv4Address | IPv6Address = ip_address(address.partition("%")[0])
    if isinstance(ip, IPv6Address):
        if ip in NAT64:
            return is_public(str(IPv4Address(int(ip) & 0xFFFFFFFF)))
        if ip.sixtofour or ip.teredo or int(ip) >> 32 & 0xFDFFFFFF == ISATAP or ip not in GLOBAL:
            return False
    return ip.is_global and not ip.is_multicast and ip != AZURE and not any(ip in network for network in RESERVED)


def _is_listed(target: SplitResult, hosts: tuple[str, ...]) -> bool:
    own = PORTS[target.scheme]
    port = target.port or own
    return f"{target.hostname}:{port}" in hosts or (port == own and target.hostname in hosts)


def _status_error(status: int, name: str) -> RequestError | SourceError:
    if status >= 500 or status in TRANSIENT_STATUSES:
        return SourceError(f"The org's public key cannot be downloaded: {name} answered with {status}")
    if 300 <= status < 400:
        return RequestError(f"The org's public key is not at its URL: {name} redirects to another, which is not followed. {FIX}")
    return RequestError(f"The org's public key is not at its URL: {name} answered with {status}. {FIX}")

"""HTTPS: the file with an org's public key, at a URL that the org chose: it must lead nowhere inside the site.

The name is resolved once, each of its addresses is looked at, and the connection goes to one that was: asked again, the name's
server might say another. No redirect is followed and no proxy is used.
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

MOST_BYTES = 64 * 1024
PORTS = {"https": 443, "http": 80}
NAT64 = IPv6Network("64:ff9b::/96")  # the last four bytes are an IPv4 address
GLOBAL = IPv6Network("2000::/3")  # no other of IPv6 is handed out: what hides an IPv4 address or a site's own is not in it
RESERVED = (IPv4Network("192.88.99.0/24"), IPv6Network("3fff::/20"))  # 6to4 relays; documentation: global to Python 3.11
ISATAP = 0x5EFE  # before the IPv4 address that the last four bytes then are; with a flag, 0x02005EFE
AZURE = IPv4Address("168.63.129.16")  # a public address that inside Azure is the virtual machine's host
UNQUOTED = "/%:=&+,;@!$'()*~?"
MOST_CONNECT_SECONDS = 10
TRY_LATER = (408, 429)  # statuses below 500 that pass


@dataclass(frozen=True)
class KeySource:
    """Where public keys may be fetched from.

    :param hosts: `name`, or `name:port`, which may be left out where it is the scheme's own
    :param private_hosts: those of them whose address may be private, as in a test
    :param plain_http: also by http
    :param timeout_seconds: how long it may take in all; only the system's look-up of a name is not broken off
    """

    hosts: tuple[str, ...]
    private_hosts: tuple[str, ...]
    plain_http: bool
    timeout_seconds: float

    def fetch(self, url: object) -> bytes:
        """Return the file at a URL; raises RequestError for what the org has to mend, SourceError for what is down."""
        target = self._allowed(url)
        name, port = str(target.hostname), target.port or PORTS[target.scheme]
        deadline = monotonic() + self.timeout_seconds
        addresses = self._addresses(target, name, port)
        try:
            data = self._read(target, name, addresses, port, deadline)
        except ssl.SSLCertVerificationError as error:
            raise RequestError(
                f"The org's public key cannot be fetched: {name} has no valid certificate ({error.verify_message})"
            ) from None
        except (OSError, http.client.HTTPException) as error:
            raise SourceError(f"The org's public key cannot be fetched from {name}: {type(error).__name__}") from None
        if len(data) > MOST_BYTES:
            raise RequestError(
                f"The file at the URL of the org's public key is over {MOST_BYTES // 1024} KB: upload the key alone"
            )
        return data

    def _allowed(self, url: object) -> SplitResult:
        try:
            target = urlsplit(url if isinstance(url, str) else "")
            host, port = target.hostname or "", target.port
        except ValueError:
            raise RequestError("The URL of the org's public key is none: upload the key again") from None
        if target.scheme not in PORTS or not host or not str(url).isascii() or not str(url).isprintable():
            raise RequestError("The URL of the org's public key is none: upload the key again")
        if target.scheme == "http" and not self.plain_http:
            raise RequestError("The org's public key must be fetched by https, and its URL says http: upload the key again")
        if target.username is not None or target.password is not None:
            raise RequestError("The URL of the org's public key holds a login: upload the key where none is needed")
        place = (host if port is None else f"{host}:{port}")[:80]
        if not self.hosts:
            raise SetupError(
                f"An org's public key lies on {place}, and the Variable names no host that keys may be fetched from: "
                "set public_key_hosts"
            )
        if not _listed(target, self.hosts):
            raise RequestError(f"The org's public key lies on {place}, which is no host that keys are fetched from here")
        return target

    def _addresses(self, target: SplitResult, name: str, port: int) -> list[str]:
        try:
            found = [str(place[4][0]) for place in socket.getaddrinfo(name, port, type=socket.SOCK_STREAM)]
        except (OSError, UnicodeError) as error:
            raise SourceError(f"The host of the org's public key, {name}, is not found: {error}") from None
        if not _listed(target, self.private_hosts) and not all(map(is_public, found)):
            raise RequestError(f"The org's public key lies on {name}, which is no public address: upload the key elsewhere")
        return found

    def _read(self, target: SplitResult, name: str, addresses: list[str], port: int, deadline: float) -> bytes:
        plain = _connected(addresses, port, deadline)
        with plain, _ended_after(_left(deadline), plain.dup()):
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
                        raise _refusal(answer.status, name)
                    data = answer.read(MOST_BYTES + 1)
                    if answer.length and len(data) <= MOST_BYTES:
                        raise http.client.IncompleteRead(data)
                    return data


def _connected(addresses: list[str], port: int, deadline: float) -> socket.socket:
    for address in addresses[:-1]:
        with suppress(OSError):
            return socket.create_connection((address, port), min(_left(deadline), MOST_CONNECT_SECONDS))
    return socket.create_connection((addresses[-1], port), min(_left(deadline), MOST_CONNECT_SECONDS))


def _left(deadline: float) -> float:
    seconds = deadline - monotonic()
    if seconds <= 0:
        raise TimeoutError
    return seconds


@contextmanager
def _ended_after(seconds: float, connection: socket.socket) -> Iterator[None]:
    """Break the block's connection off after a time: one that sends a byte now and then never times out by itself."""
    over = Event()

    def end() -> None:
        over.set()
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
    if over.is_set():
        raise TimeoutError


def _path(target: SplitResult) -> str:
    return quote(target.path or "/", safe=UNQUOTED) + (f"?{quote(target.query, safe=UNQUOTED)}" if target.query else "")


def is_public(address: str) -> bool:
    """Tell whether an address is one of the open internet, and hides no other."""
    ip: IPv4Address | IPv6Address = ip_address(address.partition("%")[0])
    if isinstance(ip, IPv6Address):
        if ip in NAT64:
            return is_public(str(IPv4Address(int(ip) & 0xFFFFFFFF)))
        if ip.sixtofour or ip.teredo or int(ip) >> 32 & 0xFDFFFFFF == ISATAP or ip not in GLOBAL:
            return False
    return ip.is_global and not ip.is_multicast and ip != AZURE and not any(ip in network for network in RESERVED)


def _listed(target: SplitResult, hosts: tuple[str, ...]) -> bool:
    own = PORTS[target.scheme]
    port = target.port or own
    return f"{target.hostname}:{port}" in hosts or (port == own and target.hostname in hosts)


def _refusal(status: int, name: str) -> RequestError | SourceError:
    if status >= 500 or status in TRY_LATER:
        return SourceError(f"The org's public key cannot be fetched: {name} answered with {status}")
    if 300 <= status < 400:
        return RequestError(f"The org's public key is not at its URL: {name} sends on to another, which is not followed")
    return RequestError(f"The org's public key is not at its URL: {name} answered with {status}")

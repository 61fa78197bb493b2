"""TLS to each server, as docs/how-to/protect-connections.md says: only the right CA and name, and no server without TLS."""

import datetime
import json
import re
import socket
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import pkcs12

from dev import services
from dev.content_api import serve
from dev.machine import is_free
from dev.servers import CASSANDRA_PASSWORD, CASSANDRA_USER, Cassandra, Postgres, Service, Settings
from progress_exhaust.errors import SetupError, SourceError
from progress_exhaust.hooks.cassandra.tables import LearnerTablesHook
from progress_exhaust.hooks.content_api import ContentApiHook
from progress_exhaust.hooks.org_api import OrgApiHook
from progress_exhaust.hooks.requests.inspection import DatabaseInspection
from progress_exhaust.hooks.requests.ledger import Ledger
from progress_exhaust.hooks.user_cache import UserCacheHook
from progress_exhaust.security.tls import Tls

DOCS = (Path(__file__).parents[2] / "docs/how-to/protect-connections.md").read_text()
CA_IN_DOCS = "/etc/ssl/sunbird-ca.pem"
START_SECONDS = 120
NOW = datetime.datetime.now(datetime.UTC)


# A CA of the test's own


@dataclass(frozen=True)
class Authority:
    """A CA."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @classmethod
    def new(cls, name: str) -> "Authority":
        key = ec.generate_private_key(ec.SECP256R1())
        made = _certificate(name, name, key).add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        return cls(made.sign(key, hashes.SHA256()), key)

    def pem(self, path: Path) -> Path:
        path.write_bytes(self.certificate.public_bytes(serialization.Encoding.PEM))
        return path

    def issue(self, folder: Path, name: x509.GeneralName) -> tuple[Path, Path, Path]:
        """Write the certificate of a server that is called so and nothing else, its key, and both for Java."""
        folder.mkdir()
        key = ec.generate_private_key(ec.SECP256R1())
        names = x509.SubjectAlternativeName([name])
        issuer = self.certificate.subject.rfc4514_string().removeprefix("CN=")
        certificate = _certificate("server", issuer, key).add_extension(names, critical=False).sign(self.key, hashes.SHA256())
        files = folder / "server.pem", folder / "server.key", folder / "server.p12"
        files[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        plain = serialization.NoEncryption()
        files[1].touch(0o600)
        files[1].write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain))
        locked = serialization.BestAvailableEncryption(b"changeit")
        files[2].write_bytes(pkcs12.serialize_key_and_certificates(b"server", key, certificate, [self.certificate], locked))
        return files


def _certificate(subject: str, issuer: str, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
    def name(text: str) -> x509.Name:
        return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, text)])

    return (
        x509.CertificateBuilder()
        .subject_name(name(subject))
        .issuer_name(name(issuer))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOW - datetime.timedelta(days=1))
        .not_valid_after(NOW + datetime.timedelta(days=1))
    )


@dataclass(frozen=True)
class Trust:
    """The files that the servers and clients of this module are given."""

    ca: Path
    other_ca: Path
    certificate: Path
    key: Path
    for_java: Path
    of_address: Path  # for Java, of 127.0.0.1


@pytest.fixture(scope="module")
def trust(tmp_path_factory: pytest.TempPathFactory) -> Trust:
    folder = tmp_path_factory.mktemp("certificates")
    authority = Authority.new("A test CA")
    other = Authority.new("Another test CA").pem(folder / "other.pem")
    by_name = authority.issue(folder / "name", x509.DNSName("localhost"))
    *_, of_address = authority.issue(folder / "address", x509.IPAddress(IPv4Address("127.0.0.1")))
    return Trust(authority.pem(folder / "ca.pem"), other, *by_name, of_address)


# What each connection is asked to do


def free_port() -> int:
    return next(port for port in range(23000 + time.monotonic_ns() % 5000, 60000) if is_free(port))


def documented_extra(connection: str, ca: Path) -> dict[str, Any]:
    """Return the extra that the docs give for a connection, with the test's CA for theirs."""
    [text] = re.findall(rf"^\| `progress_exhaust_{connection}`.*?\| `(\{{.+?\}})` \|", DOCS, re.MULTILINE)
    assert CA_IN_DOCS in text
    return dict(json.loads(text.replace(CA_IN_DOCS, str(ca))))


def is_checked(tls: Tls) -> bool:
    """Tell whether the check of an installation sees that a connection is protected."""
    return tls.is_encrypted and tls.is_verified


def check_requests() -> None:
    ledger = Ledger(run_id="run", job_request_table="job_request", ledger_schema="progress_exhaust")
    ledger.prepare()
    ledger.run_batches()
    names = {"job_request_table": "job_request", "ledger_schema": "progress_exhaust"}
    assert is_checked(DatabaseInspection(**names).server().tls)


def check_users() -> None:
    with UserCacheHook(user_db=12, relation_db=5, timeout_seconds=2) as cache:
        cache.users(["no such user"], ["firstname"])
        assert is_checked(cache.tls())


def check_content() -> None:
    with ContentApiHook(search_path="/v1/search", hierarchy_path="/v3/hierarchy/{id}", timeout_seconds=10) as content:
        list(content.collections(["do_1"]))
        assert is_checked(content.tls())


def check_org() -> None:
    with OrgApiHook(preferences_path="/private/v2/org/preferences/read", search_path="/s", timeout_seconds=10) as orgs:
        orgs.security_policy("org")
        assert is_checked(orgs.tls())


def check_cassandra() -> None:
    with LearnerTablesHook(
        enrolments=("progress_exhaust_cassandra", "sunbird_courses.report_user_enrolments"),
        courses=("progress_exhaust_cassandra", "sunbird_courses"),
        hierarchies=("progress_exhaust_cassandra", "dev_hierarchy_store.content_hierarchy"),
        consistency="LOCAL_ONE",
        keys_per_read=100,
        reads_in_flight=4,
        timeout_seconds=60,
    ) as tables:
        assert is_checked(tables.inspect("progress_exhaust_cassandra").tls)
        with pytest.raises(SetupError, match="has no table dev_hierarchy_store"):  # it is connected, and empty
            tables.hierarchy("no such course")


@dataclass(frozen=True)
class Server:
    """A server with TLS and one without, and what a task does with it."""

    connection: str
    check: Callable[[], None]
    uri: dict[str, Any]  # of Airflow's connection, without host, port and extra
    port: int
    plain_port: int


def asked(server: Server, monkeypatch: pytest.MonkeyPatch, ca: Path, host: str = "localhost", plain: bool = False) -> None:
    """Do what a task does, by the extra of the docs."""
    port = server.plain_port if plain else server.port
    place: dict[str, Any] = {"host": host, "port": port}
    if server.uri["conn_type"] == "http":
        place = {"host": f"https://{host}:{port}"}
    made = server.uri | place | {"extra": documented_extra(server.connection, ca)}
    monkeypatch.setenv(f"AIRFLOW_CONN_PROGRESS_EXHAUST_{server.connection.upper()}", json.dumps(made))
    server.check()


def hold(server: Server, trust: Trust, monkeypatch: pytest.MonkeyPatch, other_name: str = "127.0.0.1") -> None:
    """The right CA works; a wrong one, a wrong name (none: not asked) and a server without TLS are rejected with a message."""
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(trust.other_ca))  # the machine's: a connection's own comes before it
    asked(server, monkeypatch, trust.ca)
    named = rf"\(connection progress_exhaust_{server.connection}\)"
    for words, ca, host, plain in [
        ("verif", trust.other_ca, "localhost", False),
        ("IP address mismatch|does not match host name|not valid for", trust.ca, other_name, False),
        ("SSL|TLS|Timeout", trust.ca, "localhost", True),
    ]:
        if not host:
            continue
        with pytest.raises(SourceError, match=f"(?s){named}.*({words})") as caught:
            asked(server, monkeypatch, ca, host, plain)
        assert "s3cr3t" not in str(caught.value)


@contextmanager
def running(command: list[str], answers: Callable[[], bool]) -> Iterator[None]:
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + START_SECONDS
        while not answers():
            assert process.poll() is None and time.monotonic() < deadline, command
            time.sleep(0.1)
        yield
    finally:
        process.terminate()
        process.wait(30)


@contextmanager
def started(service: Service) -> Iterator[None]:
    """Run a server of dev/ in a folder of the test's own."""
    service.settings.data.mkdir(parents=True, exist_ok=True)
    service.settings.port_file.write_text(str(free_port()))
    service.spawn()
    try:
        deadline = time.monotonic() + START_SECONDS
        while not service.answers():
            assert service.pid() and time.monotonic() < deadline, service.end_of_log()
            time.sleep(0.2)
        yield
    finally:
        service.stop()


def own_settings(folder: Path) -> Settings:
    return replace(services.Settings.from_environment(), data=folder, port_base=None)


# The servers


@pytest.mark.slow  # its client tries each of them four times
def test_redis(trust: Trust, monkeypatch: pytest.MonkeyPatch) -> None:
    port = free_port()
    plain = next(other for other in range(port + 1, 65000) if is_free(other))
    command = ["redis-server", "--bind", "127.0.0.1", "--port", str(plain), "--tls-port", str(port), "--save", ""]
    command += ["--tls-cert-file", str(trust.certificate), "--tls-key-file", str(trust.key), "--tls-ca-cert-file", str(trust.ca)]
    server = Server("users", check_users, {"conn_type": "redis"}, port, plain)
    with running([*command, "--tls-auth-clients", "no"], lambda: not is_free(port)):
        hold(server, trust, monkeypatch)


class TlsPostgres(Postgres):
    """The same, with TLS in addition to plain connections."""

    trust: Trust

    def command(self) -> list[str]:
        files = {"ssl_cert_file": self.trust.certificate, "ssl_key_file": self.trust.key}
        return [*super().command(), "-c", "ssl=on", *(word for name, file in files.items() for word in ("-c", f"{name}={file}"))]


def test_postgres(trust: Trust, servers: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without = Postgres(services.Settings.from_environment())
    postgres = TlsPostgres(own_settings(tmp_path / "services"))
    postgres.trust = trust
    with started(postgres):
        postgres.furnish()
        login = {"conn_type": "postgres", "login": "sunbird", "password": postgres.password_file.read_text(), "schema": "sunbird"}
        hold(Server("requests", check_requests, login, postgres.port, without.port), trust, monkeypatch)


@pytest.mark.parametrize(("connection", "check"), [("content", check_content), ("org", check_org)])
def test_http(trust: Trust, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, connection: str, check: Callable[[], None]) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(trust.certificate, trust.key)
    with serve(tmp_path) as plain, serve(tmp_path) as encrypted:
        monkeypatch.setattr(encrypted, "handle_error", lambda *_: None)
        monkeypatch.setattr(plain, "handle_error", lambda *_: None)
        encrypted.socket = context.wrap_socket(encrypted.socket, server_side=True)
        ports = [server.server_address[1] for server in (encrypted, plain)]
        hold(Server(connection, check, {"conn_type": "http"}, *ports), trust, monkeypatch)


class TlsCassandra(Cassandra):
    """The same, for whom speaks TLS alone."""

    keystore: Path

    def command(self) -> list[str]:
        command = super().command()
        config = self.folder / "conf" / "cassandra.yaml"
        options = {"enabled": "true", "optional": "false", "keystore": self.keystore, "keystore_password": "changeit"}
        options["store_type"] = "PKCS12"
        lines = "".join(f"  {name}: {value}\n" for name, value in options.items())
        config.write_text(f"{config.read_text()}\nclient_encryption_options:\n{lines}")
        return command

    def answers(self) -> bool:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        try:
            with socket.create_connection(("localhost", self.port), timeout=2) as plain:
                context.wrap_socket(plain, server_hostname="localhost").close()
        except OSError:
            return False
        return True


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Using ssl_options without ssl_context")  # the hook of Airflow's provider has no other way
def test_cassandra(trust: Trust, servers: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without = Cassandra(services.Settings.from_environment())
    cassandra = TlsCassandra(own_settings(tmp_path / "services"))
    login = {"conn_type": "cassandra", "login": CASSANDRA_USER, "password": CASSANDRA_PASSWORD}
    cassandra.keystore = trust.for_java
    with started(cassandra), pytest.raises(SourceError, match=r"progress_exhaust_cassandra.*not valid for '127\.0\.0\.1'"):
        asked(Server("cassandra", check_cassandra, login, cassandra.port, without.port), monkeypatch, trust.ca)
    cassandra.keystore = trust.of_address
    with started(cassandra):
        server = Server("cassandra", check_cassandra, login, cassandra.port, without.port)
        hold(server, trust, monkeypatch, other_name="")

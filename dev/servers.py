"""The four servers: the folder of each one, the command that runs it, and the check that it answers.

A pid file holds the pid and the process's start time, so that a pid which the system gave to another process is never
taken for ours; and the session that the process was started in.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

from dev.grants import GRANTS, psql
from dev.machine import ServiceError, find_java, find_postgres, run, succeeds

HERE = Path(__file__).resolve().parent
OFFSETS = {
    "cassandra": 0, "cassandra storage": 1, "cassandra JMX": 2, "postgres": 3, "redis": 4, "content": 5, "airflow": 6,
}  # fmt: skip
STOP_TIMEOUT_SECONDS = 15
LOGIN_TIMEOUT_SECONDS = 60
# The one that a new Cassandra has. Nothing but the loopback reaches it.
CASSANDRA_USER = CASSANDRA_PASSWORD = "cassandra"  # noqa: S105
# The files that make the tables of each generation of Sunbird.
GENERATIONS = {
    "ed": ("schema.cql",),
    "spark-1.0": ("schema.cql", "spark-1.0.cql"),
    "spark-1.1": ("schema.cql", "spark-1.0.cql", "spark-1.1.cql"),
}
REDIS_DATABASES = 64  # two for the demo, and two for each process that runs tests
PG_USER = "sunbird"  # no schema of this name: Postgres would look there first
[PINNED_CASSANDRA] = re.findall(r"<cassandra.version>(.+)</cassandra.version>", (HERE / "cassandra" / "pom.xml").read_text())
JVM_PROFILES = {
    # Functional tests want a quick start, benchmarks the compiler and collector of a real node.
    "512M": "-Xms512M\n-Xmx512M\n-XX:+UseSerialGC\n-XX:TieredStopAtLevel=1",
    "2G": "-Xms2G\n-Xmx2G\n-XX:+UseG1GC",
}


@dataclass(frozen=True)
class Settings:
    """Where the services live."""

    data: Path  # everything a reset may remove
    cache: Path  # Cassandra's jars; shared by clones
    port_base: int | None  # None: the first free base from the default on
    heap: str  # a key of JVM_PROFILES
    cassandra_version: str = PINNED_CASSANDRA

    @classmethod
    def from_environment(cls) -> Settings:
        """Read the PROGRESS_EXHAUST_DEV_* variables."""

        def read(name: str, default: str) -> str:
            return os.environ.get(f"PROGRESS_EXHAUST_DEV_{name}") or default

        base, heap = read("PORT_BASE", ""), read("CASSANDRA_HEAP", "512M")
        if base and not (base.isdigit() and 1024 <= int(base) <= 65000):
            raise ServiceError(f"PROGRESS_EXHAUST_DEV_PORT_BASE: not a usable port number: {base}")
        if heap not in JVM_PROFILES:
            raise ServiceError(f"PROGRESS_EXHAUST_DEV_CASSANDRA_HEAP: {heap} is not one of {', '.join(JVM_PROFILES)}")
        return cls(
            data=Path(read("DATA", str(HERE.parent / ".services"))).resolve(),
            cache=Path(read("CACHE", "~/.cache/progress-exhaust")).expanduser().resolve(),
            port_base=int(base) if base else None,
            heap=heap,
            cassandra_version=read("CASSANDRA_VERSION", PINNED_CASSANDRA),
        )

    @property
    def port_file(self) -> Path:
        """The remembered port base of this data folder."""
        return self.data / "port-base"

    def port(self, name: str) -> int:
        """Return the port of a name of OFFSETS, as chosen by the last start."""
        try:
            return int(self.port_file.read_text()) + OFFSETS[name]
        except (FileNotFoundError, ValueError):
            raise ServiceError("The services were never started: run python dev/services.py start") from None


class Service:
    """One server: its folder, its process and the check that it answers."""

    name: str
    address = "127.0.0.1"
    stop_signal = signal.SIGTERM

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.folder = settings.data / self.name
        self.log = settings.data / f"{self.name}.log"
        self.pid_file = settings.data / f"{self.name}.pid"

    @property
    def port(self) -> int:
        return self.settings.port(self.name)

    def command(self) -> list[str]:
        """Prepare the folder and return the command that runs the server in the foreground."""
        raise NotImplementedError

    def answers(self) -> bool:
        """Tell whether the server takes requests; never raises for one that does not yet."""
        raise NotImplementedError

    def furnish(self) -> None:
        """Create what clients expect to find in a server that answers; harmless when it is there."""

    def pid(self) -> int | None:
        """Return the pid of our process; None if it does not run."""
        try:
            pid, started, *_ = self.pid_file.read_text().split()
            # After "(name)": field 3 is the state, field 22 the start time.
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except (OSError, ValueError):
            return None
        return int(pid) if fields[19] == started and fields[0] not in "ZX" else None

    def spawn(self) -> None:
        """Start the process in the background, in a session of its own, with its pid on record."""
        command = self.command()
        # The shell writes the pid, so that Ctrl-C here cannot come between the start and the record of it.
        script = '"$@" </dev/null & echo $! $(cut -d" " -f22 /proc/$!/stat) $$ >"$0"'
        with self.log.open("wb") as log:
            subprocess.run(
                ["sh", "-c", script, str(self.pid_file), *command],
                cwd=self.settings.data, stdout=log, stderr=log, start_new_session=True, check=True,
            )  # fmt: skip

    def stop(self) -> bool:
        """End our process, politely at first; tell whether there was one."""
        pid = self.pid()
        for number in (self.stop_signal, signal.SIGKILL):
            if self.pid() != pid or pid is None:
                break
            os.kill(pid, number)
            deadline = time.monotonic() + STOP_TIMEOUT_SECONDS
            while self.pid() == pid and time.monotonic() < deadline:
                time.sleep(0.05)
        self.pid_file.unlink(missing_ok=True)
        return pid is not None

    def session(self) -> str | None:
        """Return the session of the last start, whether its process lives or not."""
        try:
            return self.pid_file.read_text().split()[2]
        except (OSError, IndexError):
            return None

    def left_of(self, session: str | None) -> list[int]:
        """Return the pids of a session of ours: the process, and what that one started."""
        left = []
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                state, _, _, its_session, *_ = (folder / "stat").read_text().rpartition(")")[2].split()
                # In our folder: another session may have the number by now.
                if its_session == session and state not in "ZX" and (folder / "cwd").samefile(self.settings.data):
                    left.append(int(folder.name))
            except OSError:
                continue
        return left

    def end_of_log(self) -> str:
        """Return the last lines of the log, for an error message."""
        lines = self.log.read_text(errors="replace").splitlines()[-15:]
        return "\n".join([*lines, f"(from {self.log})"])

    def ask(self, message: bytes, reply: bytes) -> bool:
        """Send a few bytes to the port and tell whether the answer begins as expected."""
        try:
            with socket.create_connection((self.address, self.port), timeout=2) as connection:
                connection.sendall(message)
                return connection.recv(len(reply)) == reply
        except OSError:
            return False


class Cassandra(Service):
    """The functional profile is for tests, the 2G one for benchmarks.

    :param node: its number, from 1 on, where it is one of a cluster; its address is 127.0.0.<node>
    :param nodes: how many the cluster has; each owns the same share of the ring, and all have the same ports
    """

    def __init__(self, settings: Settings, node: int = 1, nodes: int = 1) -> None:
        self.name = f"cassandra-{node}" if nodes > 1 else "cassandra"
        self.address = f"127.0.0.{node}"
        self.node, self.nodes = node, nodes
        super().__init__(settings)

    @property
    def port(self) -> int:
        return self.settings.port("cassandra")

    def command(self) -> list[str]:
        conf = self.folder / "conf"
        conf.mkdir(parents=True, exist_ok=True)
        storage_port = self.settings.port("cassandra storage")
        values = {
            "folder": self.folder,
            "profile": JVM_PROFILES[self.settings.heap],
            "address": self.address,
            # All of them: a seed joins at once, with its own part of the ring, which is still empty.
            "seeds": ",".join(f"127.0.0.{node}" for node in range(1, self.nodes + 1)),
            "token": 2**64 * (2 * self.node - 1) // (2 * self.nodes) - 2**63,
            "native_port": self.port,
            "storage_port": storage_port,
            "jmx_port": self.settings.port("cassandra JMX") if self.nodes == 1 else 0,  # 0: any that is free
            # So that tests run under a role with few rights. A cluster would have to have its roles on every node.
            "authenticator": "PasswordAuthenticator" if self.nodes == 1 else "AllowAllAuthenticator",
            "authorizer": "CassandraAuthorizer" if self.nodes == 1 else "AllowAllAuthorizer",
        }
        templates = HERE / "cassandra"
        (conf / "cassandra.yaml").write_text(Template((templates / "cassandra.yaml").read_text()).substitute(values))
        shutil.copy(templates / "logback.xml", conf)
        java = find_java(self.settings.cassandra_version)
        if java is None:
            raise ServiceError(
                f"No java for Cassandra {self.settings.cassandra_version}: set JAVA_HOME (3.11: java 8; 4: java 11)"
            )
        options = Template((templates / "jvm.options").read_text()).substitute(values).splitlines()
        if self.settings.cassandra_version.startswith("3."):  # for Java 8, which has no modules
            options = [option for option in options if not option.startswith("--add-")]
        (self.settings.data / "cassandra.heap").write_text(self.settings.heap)
        jars = self.jars()
        [jamm] = jars.glob("jamm-*.jar")
        return [
            *self.without_memory_lock(),
            str(java), f"-javaagent:{jamm}", *(option for option in options if not option.startswith("#")),
            "-cp", f"{conf}:{jars}/*", "org.apache.cassandra.service.CassandraDaemon",
        ]  # fmt: skip

    def without_memory_lock(self) -> list[str]:
        """Return the prefix that keeps Cassandra from pinning its whole heap, which it does as root."""
        prefix = ["prlimit", "--memlock=65536", "setpriv", "--bounding-set=-ipc_lock", "--inh-caps=-ipc_lock"]
        return prefix if os.geteuid() == 0 and succeeds(*prefix, "true") else []

    def jars(self) -> Path:
        """Return the folder of the jars; fetched once a version, whole or not at all."""
        pom, version = HERE / "cassandra" / "pom.xml", self.settings.cassandra_version
        jars = self.settings.cache / f"cassandra-{version}"
        if not jars.is_dir():
            print("cassandra  fetching its jars (70 MB, once) …", flush=True)
            fetching = jars.with_name(f"{jars.name}.new")
            shutil.rmtree(fetching, ignore_errors=True)
            goal = ["dependency:copy-dependencies", "-DincludeScope=runtime", f"-DoutputDirectory={fetching}"]
            run("mvn", "-B", "-q", "-f", str(pom), f"-Dcassandra.version={version}", *goal)
            fetching.rename(jars)
        return jars

    def answers(self) -> bool:
        # The native protocol's OPTIONS request; SUPPORTED (6) is what a ready server says.
        return self.ask(b"\x04\x00\x00\x00\x05\x00\x00\x00\x00", b"\x84\x00\x00\x00\x06")

    def furnish(self) -> None:
        if self.nodes > 1:
            return  # the tables of a cluster can be made once all of it is there
        applied = self.folder / "schema-applied"
        schema = hashlib.sha256((HERE / "cassandra" / "schema.cql").read_bytes()).hexdigest()
        with connected_cassandra(self.port) as session:
            if not applied.exists() or applied.read_text() != schema:
                apply_schema(session, {})
                applied.write_text(schema)


class Postgres(Service):
    """Asks for a password even here, so that a connection without one is found in tests."""

    name = "postgres"
    stop_signal = signal.SIGINT  # Its "fast" shutdown: SIGTERM would wait for every client.

    @property
    def password_file(self) -> Path:
        return self.settings.data / "postgres.password"

    @property
    def uri(self) -> str:
        """The server's address with user and password, without a database."""
        port = self.port  # First, because it says so where nothing was ever started.
        return f"postgresql://{PG_USER}:{self.password_file.read_text()}@127.0.0.1:{port}"

    def command(self) -> list[str]:
        binaries = find_postgres()
        assert binaries is not None
        if not self.folder.exists():
            self.initialise(binaries)
        # Left by a kill. Postgres would take it for a running server if another process has that pid by now.
        left = self.folder / "postmaster.pid"
        if left.exists() and not self.is_postgres(left.read_text().split()[0]):
            left.unlink()
        options = {
            "listen_addresses": "127.0.0.1", "port": self.port, "unix_socket_directories": "", "timezone": "UTC",
            "max_connections": 200, "fsync": "off", "synchronous_commit": "off", "full_page_writes": "off",
        }  # fmt: skip
        flags = [word for name, value in options.items() for word in ("-c", f"{name}={value}")]
        return [*self.as_other_user(), str(binaries / "postgres"), "-D", str(self.folder), *flags]

    def is_postgres(self, pid: str) -> bool:
        """Tell whether this pid serves this very folder."""
        try:
            return os.fsencode(self.folder) in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        except OSError:
            return False

    def as_other_user(self) -> list[str]:
        """Return the prefix that hides root, which Postgres refuses; the files stay root's, wherever they are."""
        if os.geteuid() != 0:
            return []
        prefix = ["unshare", "--user", "--map-user=65534", "--map-group=65534"]
        if not succeeds(*prefix, "true"):
            raise ServiceError(
                "Postgres does not run as root, and this system refuses a user namespace (unshare --user): "
                "run the services as an ordinary user"
            )
        return prefix

    def initialise(self, binaries: Path) -> None:
        """Make the cluster in another folder and move it to its place, so that a kill leaves no half-made one."""
        password = secrets.token_urlsafe(18)
        self.password_file.unlink(missing_ok=True)
        with os.fdopen(os.open(self.password_file, os.O_CREAT | os.O_WRONLY, 0o600), "w") as file:
            file.write(password)
        making = self.folder.with_suffix(".new")
        shutil.rmtree(making, ignore_errors=True)
        run(
            *self.as_other_user(), str(binaries / "initdb"), "-D", str(making), "-U", PG_USER, "--no-sync",
            "--encoding=UTF8", "--locale=C.UTF-8", "--auth=scram-sha-256", f"--pwfile={self.password_file}",
        )  # fmt: skip
        making.rename(self.folder)

    def answers(self) -> bool:
        import psycopg2

        try:
            psycopg2.connect(f"{self.uri}/postgres", connect_timeout=2).close()
        except psycopg2.OperationalError:
            return False
        return True

    def furnish(self) -> None:
        import psycopg2

        with closing(psycopg2.connect(self.create_database("sunbird"))) as connection, connection:
            connection.cursor().execute(psql((GRANTS / "job_request.sql").read_text()))

    def create_database(self, name: str) -> str:
        """Create an empty database where it is missing; return its URI."""
        make_database(f"{self.uri}/postgres", name)
        return f"{self.uri}/{name}"


class Redis(Service):
    """Keeps nothing on disk: sample data is loaded again after a restart."""

    name = "redis"

    def command(self) -> list[str]:
        return [
            "redis-server", "--bind", "127.0.0.1", "--port", str(self.port), "--save", "", "--appendonly", "no",
            "--daemonize", "no", "--databases", str(REDIS_DATABASES),
        ]  # fmt: skip

    def answers(self) -> bool:
        return self.ask(b"PING\r\n", b"+PONG")


class ContentApi(Service):
    """Serves <data>/content: see dev/content_api.py."""

    name = "content"

    def command(self) -> list[str]:
        self.folder.mkdir(exist_ok=True)
        return [sys.executable, str(HERE / "content_api.py"), "--port", str(self.port), "--data", str(self.folder)]

    def answers(self) -> bool:
        try:
            with urlopen(f"http://127.0.0.1:{self.port}/health", timeout=2) as answer:
                return bool(answer.status == 200)
        except (URLError, OSError):
            return False


def make_database(beside: str, name: str) -> None:
    """Create an empty database where it is missing, on the server of another one, by that one's URI."""
    import psycopg2
    from psycopg2 import sql

    with closing(psycopg2.connect(beside)) as connection:
        connection.autocommit = True  # CREATE DATABASE refuses a transaction.
        cursor = connection.cursor()
        cursor.execute("SELECT FROM pg_database WHERE datname = %s", [name])
        if cursor.rowcount == 0:
            cursor.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))


@contextmanager
def connected_cassandra(port: int) -> Iterator[Any]:
    """Give a session of the server's own user, who may do anything."""
    from cassandra.auth import PlainTextAuthProvider
    from cassandra.cluster import Cluster, NoHostAvailable

    login = PlainTextAuthProvider(CASSANDRA_USER, CASSANDRA_PASSWORD)
    deadline = time.monotonic() + LOGIN_TIMEOUT_SECONDS
    while True:
        with Cluster(["127.0.0.1"], port=port, protocol_version=4, auth_provider=login) as cluster:
            try:
                session = cluster.connect()
            except NoHostAvailable:  # A new server answers a moment before it knows its user.
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.2)
                continue
            yield session
            return


def apply_schema(session: Any, keyspaces: Mapping[str, str], generation: str = "ed") -> None:
    """Create what is missing of Sunbird's tables.

    :param keyspaces: maps a keyspace to the name that it gets instead
    :param generation: one of GENERATIONS: Sunbird Ed, or a release of Sunbird Spark, which starts with empty attempts
    """
    schema = "\n".join((HERE / "cassandra" / name).read_text() for name in GENERATIONS[generation])
    schema = re.sub(r"^--.*$", "", schema, flags=re.MULTILINE)
    schema = re.sub(r"\b(\w+)(?=\.| WITH)", lambda found: keyspaces.get(found[1], found[1]), schema)
    for statement in filter(str.strip, schema.split(";\n")):
        session.execute(statement)


def all_services(settings: Settings) -> list[Service]:
    """Return the four, the slow starter first."""
    return [Cassandra(settings), ContentApi(settings), Redis(settings), Postgres(settings)]

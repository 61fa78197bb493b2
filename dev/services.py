"""Cassandra, Postgres, Redis and a content API on 127.0.0.1, without Docker.

    python dev/services.py start | stop | status | env

Each server runs from its own folder below the data folder, in the background. The rule: nothing is started twice, and
nothing is killed that this data folder did not start. A pid file holds the pid and the process's start time, so that a
pid which the system gave to somebody else is never taken for ours. Settings are environment variables: see dev/README.md.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import secrets
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

HERE = Path(__file__).resolve().parent
DEFAULT_PORT_BASE = 19000
PORT_STEP = 20
OFFSETS = {"cassandra": 0, "cassandra storage": 1, "cassandra JMX": 2, "postgres": 3, "redis": 4, "content": 5}
START_TIMEOUT_SECONDS = 120
STOP_TIMEOUT_SECONDS = 15
PG_USER = "progress_exhaust"
JVM_PROFILES = {
    # Functional tests want a quick start, benchmarks the compiler and collector of a real node.
    "512M": "-Xms512M\n-Xmx512M\n-XX:+UseSerialGC\n-XX:TieredStopAtLevel=1",
    "2G": "-Xms2G\n-Xmx2G\n-XX:+UseG1GC",
}
COMMAND_PACKAGES = {"redis-server": "redis-server", "postgres": "postgresql", "mvn": "maven"}


class ServiceError(Exception):
    """What keeps a service from running, and what to do about it."""


@dataclass(frozen=True)
class Settings:
    """Where the services live."""

    data: Path  # everything a reset may remove
    cache: Path  # Cassandra's jars; shared by clones
    port_base: int | None  # None: the first free base from the default on
    heap: str  # a key of JVM_PROFILES

    @classmethod
    def from_environment(cls) -> Settings:
        """Read the PROGRESS_EXHAUST_DEV_* variables."""

        def read(name: str, default: str) -> str:
            return os.environ.get(f"PROGRESS_EXHAUST_DEV_{name}") or default

        base, heap = read("PORT_BASE", ""), read("CASSANDRA_HEAP", "512M")
        if base and not (base.isdigit() and 1024 <= int(base) <= 65535 - PORT_STEP):
            raise ServiceError(f"PROGRESS_EXHAUST_DEV_PORT_BASE: not a usable port number: {base}")
        if heap not in JVM_PROFILES:
            raise ServiceError(f"PROGRESS_EXHAUST_DEV_CASSANDRA_HEAP: {heap} is none of {', '.join(JVM_PROFILES)}")
        return cls(
            data=Path(read("DATA", str(HERE.parent / ".services"))).resolve(),
            cache=Path(read("CACHE", "~/.cache/progress-exhaust")).expanduser().resolve(),
            port_base=int(base) if base else None,
            heap=heap,
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
    """One server: its folder, its process and how to tell that it answers."""

    name: str
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
        """Return the pid of our running process, None where there is none."""
        try:
            pid, started = self.pid_file.read_text().split()
            # After "(name)": field 3 is the state, field 22 the start time.
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except (OSError, ValueError):
            return None
        return int(pid) if fields[19] == started and fields[0] not in "ZX" else None

    def spawn(self) -> None:
        """Start the process in the background, in a session of its own, with its pid on record."""
        command = self.command()
        # The shell writes the pid, so that Ctrl-C here cannot come between the start and the record of it.
        script = '"$@" </dev/null & echo $! $(cut -d" " -f22 /proc/$!/stat) >"$0"'
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

    def ask(self, message: bytes, reply: bytes) -> bool:
        """Send a few bytes to the port and tell whether the answer begins as expected."""
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=2) as connection:
                connection.sendall(message)
                return connection.recv(len(reply)) == reply
        except OSError:
            return False


class Cassandra(Service):
    """The functional profile is for tests, the 2G one for benchmarks."""

    name = "cassandra"

    def command(self) -> list[str]:
        conf = self.folder / "conf"
        conf.mkdir(parents=True, exist_ok=True)
        values = {
            "folder": self.folder,
            "profile": JVM_PROFILES[self.settings.heap],
            "native_port": self.port,
            "storage_port": self.settings.port("cassandra storage"),
            "jmx_port": self.settings.port("cassandra JMX"),
        }
        for name in ("cassandra.yaml", "jvm.options", "logback.xml"):
            text = (HERE / "cassandra" / name).read_text()
            (conf / name).write_text(text if name == "logback.xml" else Template(text).substitute(values))
        (self.settings.data / "cassandra.heap").write_text(self.settings.heap)
        jars = self.jars()
        [jamm] = jars.glob("jamm-*.jar")
        return [
            *self.without_memory_lock(),
            str(find_java()), f"-javaagent:{jamm}", f"@{conf}/jvm.options",
            "-cp", f"{conf}:{jars}/*", "org.apache.cassandra.service.CassandraDaemon",
        ]  # fmt: skip

    def without_memory_lock(self) -> list[str]:
        """Return the prefix that keeps Cassandra from pinning its whole heap, which it does as root."""
        prefix = ["prlimit", "--memlock=65536", "setpriv", "--bounding-set=-ipc_lock", "--inh-caps=-ipc_lock"]
        return prefix if os.geteuid() == 0 and succeeds(*prefix, "true") else []

    def jars(self) -> Path:
        """Return the folder of the jars; fetched once a version of pom.xml, whole or not at all."""
        pom = HERE / "cassandra" / "pom.xml"
        jars = self.settings.cache / f"cassandra-{hashlib.sha256(pom.read_bytes()).hexdigest()[:12]}"
        if not jars.is_dir():
            print("cassandra  fetching its jars (70 MB, once) …", flush=True)
            with tempfile.TemporaryDirectory(dir=self.settings.cache) as temporary:
                # A copy of the pom, because Maven wants to write beside it.
                shutil.copy(pom, temporary)
                goal = ["dependency:copy-dependencies", "-DincludeScope=runtime", "-DoutputDirectory=lib"]
                run("mvn", "-B", "-q", "-f", f"{temporary}/pom.xml", *goal)
                os.rename(f"{temporary}/lib", jars)
        return jars

    def answers(self) -> bool:
        # The native protocol's OPTIONS request; SUPPORTED (6) is what a ready server says.
        return self.ask(b"\x04\x00\x00\x00\x05\x00\x00\x00\x00", b"\x84\x00\x00\x00\x06")

    def furnish(self) -> None:
        applied = self.folder / "schema-applied"
        schema = hashlib.sha256((HERE / "cassandra" / "schema.cql").read_bytes()).hexdigest()
        if applied.exists() and applied.read_text() == schema:
            return
        from cassandra.cluster import Cluster

        with Cluster(["127.0.0.1"], port=self.port, protocol_version=5) as cluster:
            apply_schema(cluster.connect(), {})
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
        return f"postgresql://{PG_USER}:{self.password_file.read_text()}@127.0.0.1:{self.port}"

    def command(self) -> list[str]:
        binaries = find_postgres()
        assert binaries is not None
        if not self.folder.exists():
            self.initialise(binaries)
        # Left by a kill. Postgres would refuse to start if the pid in it is in use again by anybody; ours is not running.
        (self.folder / "postmaster.pid").unlink(missing_ok=True)
        options = {
            "listen_addresses": "127.0.0.1", "port": self.port, "unix_socket_directories": "", "timezone": "UTC",
            "max_connections": 200, "fsync": "off", "synchronous_commit": "off", "full_page_writes": "off",
        }  # fmt: skip
        flags = [word for name, value in options.items() for word in ("-c", f"{name}={value}")]
        return [*self.as_nobody(), str(binaries / "postgres"), "-D", str(self.folder), *flags]

    def as_nobody(self) -> list[str]:
        """Return the prefix that hides root from Postgres, which refuses it; the files stay root's, wherever they are."""
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
        """Make the cluster beside its place and move it there, so that a kill leaves no half-made one."""
        password = secrets.token_urlsafe(18)
        self.password_file.unlink(missing_ok=True)
        with os.fdopen(os.open(self.password_file, os.O_CREAT | os.O_WRONLY, 0o600), "w") as file:
            file.write(password)
        making = self.folder.with_suffix(".new")
        shutil.rmtree(making, ignore_errors=True)
        run(
            *self.as_nobody(), str(binaries / "initdb"), "-D", str(making), "-U", PG_USER, "--no-sync",
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
            connection.cursor().execute((HERE / "postgres" / "job_request.sql").read_text())

    def create_database(self, name: str) -> str:
        """Create an empty database where it is missing; return its URI."""
        import psycopg2
        from psycopg2 import errors, sql

        with closing(psycopg2.connect(f"{self.uri}/postgres")) as connection:
            connection.autocommit = True  # CREATE DATABASE refuses a transaction.
            try:
                connection.cursor().execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
            except errors.DuplicateDatabase:
                pass
        return f"{self.uri}/{name}"


class Redis(Service):
    """Keeps nothing on disk: sample data is loaded again after a restart."""

    name = "redis"

    def command(self) -> list[str]:
        return [
            "redis-server", "--bind", "127.0.0.1", "--port", str(self.port), "--save", "", "--appendonly", "no",
            "--daemonize", "no", "--databases", "16",
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


def all_services(settings: Settings) -> list[Service]:
    """Return the four, the slow starter first."""
    return [Cassandra(settings), ContentApi(settings), Redis(settings), Postgres(settings)]


def start() -> None:
    """Start what is not running and return once all of it answers, with its tables made."""
    settings = Settings.from_environment()
    with only_one_at_a_time(settings):
        services = all_services(settings)
        missing = [service for service in services if service.pid() is None]
        if missing:
            install_packages()
        choose_ports(settings, missing)
        warn_of_other_heap(settings, missing)
        for folder in ("reports", "staging"):
            (settings.data / folder).mkdir(exist_ok=True)
        begun = time.monotonic()
        for service in missing:
            service.spawn()
        waiting = list(services)
        while waiting:
            for service in list(waiting):
                # The process first: on its port somebody else may be answering.
                if service.pid() is None:
                    raise ServiceError(f"{service.name} ended while starting:\n{tail(service.log)}")
                if service.answers():
                    service.furnish()
                    waiting.remove(service)
                    how = f"ready after {time.monotonic() - begun:.1f} s" if service in missing else "was running"
                    print(f"{service.name:<10} {how}, port {service.port}", flush=True)
            if waiting and time.monotonic() - begun > START_TIMEOUT_SECONDS:
                names = ", ".join(service.name for service in waiting)
                raise ServiceError(f"No answer within {START_TIMEOUT_SECONDS} s from {names}: see {settings.data}/*.log")
            time.sleep(0.05 if waiting else 0)


def stop() -> None:
    """Stop what this data folder started."""
    settings = Settings.from_environment()
    with only_one_at_a_time(settings):
        for service in all_services(settings):
            begun = time.monotonic()
            how = "stopped" if service.stop() else "was not running"
            print(f"{service.name:<10} {how} ({time.monotonic() - begun:.1f} s)", flush=True)


def status() -> bool:
    """Print a line a service; tell whether all of them answer."""
    healthy = True
    for service in all_services(Settings.from_environment()):
        pid = service.pid()
        answers = pid is not None and service.answers()
        healthy &= answers
        how = f"pid {pid}, port {service.port}, {'answers' if answers else 'does not answer'}" if pid else "not running"
        print(f"{service.name:<10} {how}")
    return healthy


def environment() -> dict[str, str]:
    """Return Airflow's connections and Variable for these services."""
    settings = Settings.from_environment()
    connections = {
        "REQUESTS": f"{Postgres(settings).uri}/sunbird",
        "CASSANDRA": f"cassandra://127.0.0.1:{settings.port('cassandra')}",
        "USERS": f"redis://127.0.0.1:{settings.port('redis')}",
        "CONTENT": f"http://127.0.0.1:{settings.port('content')}",
    }
    variable = {"container": f"file://{settings.data}/reports", "staging": f"file://{settings.data}/staging"}
    return {f"AIRFLOW_CONN_PROGRESS_EXHAUST_{name}": uri for name, uri in connections.items()} | {
        "AIRFLOW_VAR_PROGRESS_EXHAUST": json.dumps(variable)
    }


def create_database(name: str) -> str:
    """Create an empty Postgres database where it is missing; return its URI."""
    return Postgres(Settings.from_environment()).create_database(name)


def apply_schema(session: Any, keyspaces: Mapping[str, str]) -> None:
    """Create what is missing of the Sunbird tables, in keyspaces renamed as given; one that is not named keeps its name."""
    schema = re.sub(r"^--.*$", "", (HERE / "cassandra" / "schema.cql").read_text(), flags=re.MULTILINE)
    for own, wanted in keyspaces.items():
        schema = re.sub(rf"\b{own}(?=\.| WITH)", wanted, schema)
    for statement in filter(str.strip, schema.split(";\n")):
        session.execute(statement)


def choose_ports(settings: Settings, missing: list[Service]) -> None:
    """Settle on ports that are free for what is to be started, and remember them in the data folder."""
    remembered = int(settings.port_file.read_text()) if settings.port_file.exists() else None
    running = len(missing) < len(OFFSETS) - 2
    base = settings.port_base or remembered or DEFAULT_PORT_BASE
    if running and base != remembered:
        raise ServiceError(f"The services run on port base {remembered}: stop them before changing it to {base}")
    names = [name for name in OFFSETS if name.split()[0] in {service.name for service in missing}]
    while taken := [base + OFFSETS[name] for name in names if not is_free(base + OFFSETS[name])]:
        if running or settings.port_base or base > 65535 - 2 * PORT_STEP:
            raise ServiceError(f"Port {taken[0]} is taken: set PROGRESS_EXHAUST_DEV_PORT_BASE to other than {base}")
        base += PORT_STEP
    settings.port_file.write_text(str(base))


def is_free(port: int) -> bool:
    """Tell whether nobody listens on the port."""
    with socket.socket() as probe:
        # As the servers do it: connections of the last run that are still winding down do not count.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def warn_of_other_heap(settings: Settings, missing: list[Service]) -> None:
    """Say so when Cassandra runs in another profile than was asked for: a benchmark would be misled."""
    file = settings.data / "cassandra.heap"
    running = not any(isinstance(service, Cassandra) for service in missing)
    if running and file.exists() and file.read_text() != settings.heap:
        print(f"cassandra  runs with a heap of {file.read_text()}, not {settings.heap}: stop first to change it")


@contextmanager
def only_one_at_a_time(settings: Settings) -> Iterator[None]:
    """Hold the lock that all clones with one cache share: two at once would choose the same ports."""
    settings.data.mkdir(parents=True, exist_ok=True)
    settings.cache.mkdir(parents=True, exist_ok=True)
    with (settings.cache / "services.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("waiting for another start or stop to finish …", flush=True)
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def find_java() -> Path | None:
    """Return a java of version 11 or 17, the ones that Cassandra 5.0 runs on."""
    homes = [os.environ.get("JAVA_HOME", ""), *map(str, sorted(Path("/usr/lib/jvm").glob("java-1[71]-*"), reverse=True))]
    candidates = [Path(home, "bin", "java") for home in homes if home] + [Path(shutil.which("java") or "/nowhere")]
    for java in filter(Path.exists, candidates):
        version = subprocess.run([java, "-version"], capture_output=True, text=True).stderr
        if re.search(r'version "1[17]\b', version):
            return java
    return None


def find_postgres() -> Path | None:
    """Return the folder of Postgres's binaries: from PATH, else Debian's newest."""
    if (found := shutil.which("postgres")) and shutil.which("initdb"):
        return Path(found).parent
    folders = [path.parent for path in Path("/usr/lib/postgresql").glob("*/bin/initdb")]
    return max(folders, key=lambda path: float(path.parent.name), default=None)


def install_packages() -> None:
    """Install the Debian packages that are missing, as root; else say which."""
    present = {command: shutil.which(command) for command in COMMAND_PACKAGES} | {"postgres": find_postgres()}
    packages = [package for command, package in COMMAND_PACKAGES.items() if not present[command]]
    if find_java() is None:
        packages.append("openjdk-17-jre-headless")
    if not packages:
        return
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        raise ServiceError(
            f"Missing: sudo apt-get install {' '.join(packages)}   (any Postgres from 12 and Redis from 5, java 11 or 17)"
        )
    print(f"installing {' '.join(packages)} …", flush=True)
    # The packages would start servers of their own on the usual ports: 101 forbids it while they install.
    policy, cluster = Path("/usr/sbin/policy-rc.d"), Path("/etc/postgresql-common/createcluster.conf")
    ours = not policy.exists()
    if ours:
        policy.write_text("#!/bin/sh\nexit 101\n")
        policy.chmod(0o755)
    if "postgresql" in packages and not cluster.exists():
        cluster.parent.mkdir(exist_ok=True)
        cluster.write_text("create_main_cluster = false\n")
    try:
        # apt-get waits for another apt-get, and keeps the file above where the package brings its own.
        options = ["-y", "-q", "--no-install-recommends", "-o", "DPkg::Lock::Timeout=300", "-o", "Dpkg::Options::=--force-confold"]
        apt = ["env", "DEBIAN_FRONTEND=noninteractive", "apt-get"]
        run(*apt, "-q", "update")
        run(*apt, "install", *options, *packages)
    finally:
        if ours:
            policy.unlink(missing_ok=True)
    if "redis-server" in packages and shutil.which("systemctl"):
        succeeds("systemctl", "disable", "--now", "redis-server")


def run(*command: str) -> None:
    """Run a command to its end; its output is shown only when it fails."""
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode:
        raise ServiceError(f"{shlex.join(command)} failed:\n{(done.stdout + done.stderr).strip()}")


def succeeds(*command: str) -> bool:
    """Tell whether a command exists and ends well."""
    return bool(shutil.which(command[0])) and subprocess.run(command, capture_output=True).returncode == 0


def tail(log: Path, lines: int = 15) -> str:
    """Return the end of a log, for an error message."""
    return "\n".join(log.read_text(errors="replace").splitlines()[-lines:]) + f"\n(from {log})"


def main(arguments: list[str]) -> int:
    """Run one of the commands; return the exit code."""
    match arguments:
        case ["start"]:
            start()
        case ["stop"]:
            stop()
        case ["status"]:
            return 0 if status() else 1
        case ["env"]:
            for name, value in environment().items():
                print(f"export {name}={shlex.quote(value)}")
        case _:
            print("usage: python dev/services.py start|stop|status|env", file=sys.stderr)
            return 2
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except ServiceError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit("interrupted: what was started goes on; start again or stop")

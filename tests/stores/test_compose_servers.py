"""docker-compose.yaml without Docker: each service's own command, environment and health check, run natively.

Other than in containers: host names are ports of 127.0.0.1, volumes are folders, a container is a folder of its own as
AIRFLOW_HOME (and a host name of its own, for the workers). Cassandra, Postgres and the user cache are those of
dev/services.py, and no image is built.
"""

import io
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from graphlib import TopologicalSorter
from itertools import combinations
from pathlib import Path
from typing import Any

import psutil
import psycopg2
import pytest
import redis
import yaml

from dev.demo import NEVER_MET, fetch
from dev.world import JOB_ID, sample_world
from tests.compose_file import TEXT, made_environment
from tests.servers.site import DAG, OVER, Airflow

PROJECT = Path(__file__).resolve().parents[2]
PATIENCE_SECONDS = 400
STOP_TIMEOUT_SECONDS = 90
NATIVE = {"postgres", "cassandra", "redis"}  # of dev/services.py
WORKERS = ("worker-1", "worker-2")
ONCE = ("set-up", "sample-data")
OWNED = {"POSTGRES": "REQUESTS", "CASSANDRA": "CASSANDRA", "REDIS": "USERS"}  # the connection to each source that has owners
SOURCES = tuple(OWNED.values())


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Stack:
    """The services of the file, as they run here."""

    folder: Path
    compose: dict[str, Any]
    places: Mapping[str, str]  # what stands in the file, and what stands for it here
    added: Mapping[str, str]  # what the containers' network would keep apart
    running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def here(self, text: str, container: str) -> str:
        """Return a text of the file with the places of this machine in it."""
        places = {"/opt/airflow": str(self.folder / container), **self.places}
        return re.sub("|".join(map(re.escape, sorted(places, key=len, reverse=True))), lambda found: places[found[0]], text)

    def words(self, service: str, container: str) -> list[str]:
        """Return the service's command."""
        ports = {place.rpartition(":")[2]: here.rpartition(":")[2] for place, here in self.places.items() if ":" in place}
        return [ports.get(word) or self.here(word, container) for word in self.compose["services"][service]["command"]]

    def environment(self, service: str, container: str) -> dict[str, str]:
        outside = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "PROGRESS_"))}
        inside = self.compose["services"][service].get("environment") or {}
        return (
            outside
            | {name: self.here(value, container) for name, value in inside.items()}
            | {"AIRFLOW_HOME": str(self.folder / container), "HOSTNAME": container, **self.added}
        )

    def start(self, service: str, container: str | None = None) -> None:
        """Start a service in the background, its logs where all containers have them."""
        container = container or service
        home = self.folder / container
        home.mkdir(parents=True, exist_ok=True)
        (home / "logs").symlink_to(self.folder / "logs")
        words = self.words(service, container)
        if container in WORKERS:
            words = ["unshare", "--map-root-user", "--uts", "sh", "-c", 'hostname "$0"; exec "$@"', container, *words]
        with (self.folder / f"{container}.log").open("wb") as log:
            self.running[container] = subprocess.Popen(
                words, cwd=home, env=self.environment(service, container), stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True,
            )  # fmt: skip

    def run(self, service: str) -> str:
        """Run a service that ends by itself; return what it said."""
        (self.folder / service).mkdir(exist_ok=True)
        done = subprocess.run(
            self.words(service, service), cwd=self.folder / service, env=self.environment(service, service),
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout[-5000:]
        return done.stdout

    def health(self, service: str, container: str | None = None) -> int:
        """Return the exit status of the service's health check."""
        container = container or service
        how, *words = self.compose["services"][service]["healthcheck"]["test"]
        command = [self.here(word, container) for word in words]
        if how == "CMD-SHELL":
            command = ["sh", "-c", *command]
        return subprocess.run(command, env=self.environment(service, container), capture_output=True).returncode

    def wait(self, service: str, container: str | None = None) -> None:
        container = container or service
        deadline = time.monotonic() + PATIENCE_SECONDS
        while self.health(service, container):
            log = (self.folder / f"{container}.log").read_text()[-5000:]
            assert self.running[container].poll() is None and time.monotonic() < deadline, f"{container}: {log}"
            time.sleep(1)

    def stop(self) -> None:
        """End all of it as Docker does, by SIGTERM to each."""
        for process in self.running.values():
            process.terminate()
        late = []
        for container, process in self.running.items():
            try:
                process.wait(STOP_TIMEOUT_SECONDS)
            except subprocess.TimeoutExpired:
                late.append(container)
        left = self.left()
        for pid in left:
            os.kill(pid, signal.SIGKILL)
        assert not late and not left, f"these went on after the stop: {late} {left}"

    def left(self) -> list[int]:
        """Return the pids of what goes on: in a session that we began, or in a container's folder."""
        sessions = {process.pid for process in self.running.values()}
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                state, _, _, session, *_ = (entry / "stat").read_text().rpartition(")")[2].split()
                folder = (entry / "cwd").resolve()
            except OSError:
                continue
            ours = int(session) in sessions or any(folder == self.folder / name for name in self.running)
            if ours and state not in "ZX":
                found.append(int(entry.name))
        return found


def commands(folder: Path, broker_port: str) -> Path:
    """Make a folder of the commands that the images have: of this environment, and of the broker's port."""
    folder.mkdir()
    for name, command in {
        "python": f'{sys.executable} "$@"',
        "airflow": f'{sys.executable} -m airflow "$@"',
        "celery": f'{sys.executable} -m celery "$@"',
        "moto_server": f'{sys.executable} -m moto.server "$@"',
        "redis-server": f'{shutil.which("redis-server")} "$@" --bind 127.0.0.1 --port {broker_port}',
        "redis-cli": f'{shutil.which("redis-cli")} -p {broker_port} "$@"',
    }.items():
        (folder / name).write_text(f"#!/bin/sh\nexec {command}\n")
        (folder / name).chmod(0o755)
    return folder


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Bring all of it up in the order that the file asks for, with two workers."""
    folder = tmp_path_factory.mktemp("compose")
    (folder / "logs").mkdir()
    (folder / "data").mkdir()
    native = os.environ | {"PROGRESS_EXHAUST_DEV_DATA": str(folder / "services")}
    with ExitStack() as stopping:

        def services(command: str) -> None:
            subprocess.run([sys.executable, "dev/services.py", command], cwd=PROJECT, env=native, check=True)

        stopping.callback(services, "stop")
        services("start")
        base = int((folder / "services" / "port-base").read_text())
        health, listen, broker = str(free_port()), str(free_port()), str(free_port())
        places = {
            "cassandra:9042": f"127.0.0.1:{base}",
            "postgres:5432": f"127.0.0.1:{base + 3}",
            "redis:6379": f"127.0.0.1:{base + 4}",
            "broker:6379": f"127.0.0.1:{broker}",
            "127.0.0.1:8974": f"127.0.0.1:{health}",
            "0.0.0.0": "127.0.0.1",  # noqa: S104
            "/project": str(PROJECT),
            "/opt/airflow/progress-exhaust": str(folder / "data"),
        }
        for server, port in {"api-server:8080": listen, "content-api:8000": free_port(), "store:5000": free_port()}.items():
            places[server] = places[f"127.0.0.1:{server.partition(':')[2]}"] = f"127.0.0.1:{port}"
        added = {
            "PATH": f"{commands(folder / 'bin', broker)}:{os.environ['PATH']}",
            # The image has the DAG files, and the package as a wheel.
            "AIRFLOW__CORE__DAGS_FOLDER": str(PROJECT / "dags"),
            "AIRFLOW__CORE__PLUGINS_FOLDER": str(PROJECT / "plugins"),
            "AIRFLOW__API__HOST": "127.0.0.1",
            "AIRFLOW__API__PORT": listen,
            "AIRFLOW__SCHEDULER__SCHEDULER_HEALTH_CHECK_SERVER_HOST": "127.0.0.1",
            "AIRFLOW__SCHEDULER__SCHEDULER_HEALTH_CHECK_SERVER_PORT": health,
        }
        secrets = made_environment(folder) | {"POSTGRES_PASSWORD": (folder / "services" / "postgres.password").read_text()}
        secrets["PROGRESS_EXHAUST_ON_REQUEST"] = f'"{secrets["PROGRESS_EXHAUST_ON_REQUEST"]}"'  # a text, as Compose makes it
        text = re.sub(r"\$\{(\w+):[^}]*\}", lambda found: secrets[found[1]], TEXT).replace("$$", "$")
        made = Stack(folder, yaml.safe_load(text), places, added)
        configure_redis(made.compose["services"]["redis"]["command"], base + 4)
        stopping.callback(made.stop)
        bring_up(made)
        yield made


def configure_redis(words: list[str], port: int) -> None:
    """Give the user cache of dev/services.py the logins that the command of the service gives."""
    with redis.Redis(port=port) as server:
        server.execute_command("ACL SETUSER", *words[words.index("--user") + 1 :])
        server.config_set("requirepass", words[words.index("--requirepass") + 1])


def bring_up(stack: Stack) -> None:
    waits = {name: service.get("depends_on") or {} for name, service in stack.compose["services"].items()}
    for name in TopologicalSorter(waits).static_order():
        for other, how in waits[name].items():
            if how == {"condition": "service_healthy"} and other not in NATIVE:
                stack.wait(other)
        if name in ONCE:
            stack.run(name)
        elif name == "worker":
            for container in WORKERS:
                stack.start(name, container)
        elif name not in NATIVE:
            stack.start(name)


@pytest.fixture(scope="module")
def api(stack: Stack) -> Airflow:
    stack.wait("api-server")
    login = yaml.safe_load((stack.folder / "api-server" / "simple_auth_manager_passwords.json.generated").read_text())
    return Airflow(f"http://{stack.places['api-server:8080']}", login["admin"], datetime.now(UTC))


def test_set_up_a_second_time_changes_nothing(stack: Stack, api: Airflow) -> None:
    before, pool = requests_of(stack), "/api/v2/pools/progress_exhaust"
    assert len(before) == len(sample_world().requests) and api.call(pool)["slots"] == 4
    environment = stack.environment("scheduler", "scheduler")
    subprocess.run(["airflow", "pools", "set", "progress_exhaust", "5", "more"], env=environment, check=True, capture_output=True)
    stack.run("set-up")
    assert requests_of(stack) == before and api.call(pool)["slots"] == 5


def test_the_tasks_log_in_with_the_rights_of_docs_grants_alone(stack: Stack) -> None:
    environment = stack.environment("worker", "worker-1")
    logins = {environment[f"AIRFLOW_CONN_PROGRESS_EXHAUST_{name}"].split("/")[2].partition(":")[0] for name in SOURCES}
    assert logins == {"exhaust"}
    owners = stack.environment("set-up", "set-up")
    given = {value for name, value in environment.items() if not name.startswith("PATH")}
    for name in ("POSTGRES", "CASSANDRA", "REDIS"):
        [password] = re.findall(":([^:/@]+)@", owners[f"AIRFLOW_CONN_PROGRESS_EXHAUST_{OWNED[name]}"])
        assert not any(password in value for value in given)
    pg = psycopg2.connect(environment["AIRFLOW_CONN_PROGRESS_EXHAUST_REQUESTS"])
    try:
        [(others, superuser)] = fetch(
            pg,
            "SELECT has_table_privilege('job_request', 'INSERT, DELETE, TRUNCATE'), rolsuper FROM pg_roles WHERE rolname = user",
        )
    finally:
        pg.close()
    assert (others, superuser) == (False, False)


def test_every_service_is_healthy(stack: Stack) -> None:
    for name in ("content-api", "store", "broker", "api-server", "scheduler", "dag-processor", "triggerer"):
        stack.wait(name)
    for container in WORKERS:
        stack.wait("worker", container)
    assert stack.health("worker", "worker-3")  # it does not exist: the check asks for its own


def test_both_workers_make_the_reports_and_publish_them_in_the_store(stack: Stack, api: Airflow) -> None:
    wait_until(lambda: api.call("/api/v2/dags")["total_entries"] == 3, "the DAGs")
    # Unpaused, a DAG makes up for its last tick by itself, and the trigger starts a run too. One of them makes the reports.
    subprocess.run(
        ["airflow", "dags", "unpause", "--yes", "progress_exhaust"],
        env=stack.environment("scheduler", "scheduler"), check=True, capture_output=True,
    )  # fmt: skip
    run, tasks = wait_until(lambda: run_with_batches(api), "the run")
    assert (run["state"], [task["task_id"] for task in tasks if task["state"] != "success"]) == ("success", [])

    rows, asked = requests_of(stack), sample_world().requests
    expected = ["SUBMITTED" if request["job_id"] != JOB_ID else "SUCCESS" for request in asked]  # others' jobs are not ours
    for place in NEVER_MET:
        expected[place] = "FAILED"
    assert [rows[request["request_id"]][0] for request in asked] == expected
    urls = {url for status, found in rows.values() for url in found or () if status == "SUCCESS"}
    assert len(urls) > 3 and set(published(stack)) == urls
    for package in published(stack).values():
        with zipfile.ZipFile(io.BytesIO(package)) as archive:
            assert b"User UUID" in archive.read(archive.namelist()[0])

    mapped = [task for task in tasks if task["map_index"] >= 0]
    assert {task["hostname"] for task in mapped} == set(WORKERS)
    spans = [(task["map_index"], task["start_date"], task["end_date"]) for task in mapped]
    assert any(a[0] != b[0] and a[1] < b[2] and b[1] < a[2] for a, b in combinations(spans, 2))
    # The API server reads what a worker logged.
    log = f"{DAG}/dagRuns/{run['dag_run_id']}/taskInstances/batch.extract/logs/1?map_index=0"
    assert "operators.progress_exhaust" in str(api.call(log)["content"])


def test_a_worker_has_the_drivers_ahead_and_no_connection_of_theirs(stack: Stack) -> None:
    sources = {int(stack.places[name].rpartition(":")[2]) for name in ("cassandra:9042", "redis:6379", "content-api:8000")}
    for container in WORKERS:
        process = psutil.Process(stack.running[container].pid)
        pool = [child for child in process.children() if any("libarrow" in found.path for found in child.memory_maps())]
        assert pool, "no pool process has imported Arrow"
        assert any("libarrow" in found.path for found in process.memory_maps())
        asked = {one.raddr.port for member in (process, *pool) for one in member.net_connections() if one.raddr}
        assert not asked & sources


def wait_until(answer: Any, what: str) -> Any:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not (found := answer()):
        assert time.monotonic() < deadline, f"waited {PATIENCE_SECONDS} s in vain: {what}"
        time.sleep(0.5)
    return found


def run_with_batches(api: Airflow) -> Any:
    """Return the ended run that made reports, with its tasks; None if no run has ended yet."""
    for run in api.call(f"{DAG}/dagRuns")["dag_runs"]:
        tasks = api.call(f"{DAG}/dagRuns/{run['dag_run_id']}/taskInstances?limit=200")["task_instances"]
        if run["state"] in OVER and any(task["map_index"] >= 0 for task in tasks):
            return run, tasks
    return None


def requests_of(stack: Stack) -> dict[str, Any]:
    """Return status and URLs of each request."""
    uri = stack.environment("api-server", "api-server")["AIRFLOW_CONN_PROGRESS_EXHAUST_REQUESTS"]
    pg = psycopg2.connect(uri)
    try:
        found = fetch(pg, "SELECT request_id, status, download_urls FROM job_request")
    finally:
        pg.close()
    return {request_id: (status, urls) for request_id, status, urls in found}


def published(stack: Stack) -> dict[str, bytes]:
    """Return what is in the container, by key."""
    import boto3

    client = boto3.client(
        "s3", endpoint_url=f"http://{stack.places['store:5000']}", region_name="ap-south-1",
        aws_access_key_id="test", aws_secret_access_key="test",
    )  # fmt: skip
    keys = [found["Key"] for found in client.list_objects_v2(Bucket="reports").get("Contents", [])]
    return {key: client.get_object(Bucket="reports", Key=key)["Body"].read() for key in keys}

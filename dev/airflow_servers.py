"""Airflow's own servers over the services: API server, scheduler with LocalExecutor, dag processor, triggerer; on 127.0.0.1.

    python dev/airflow_servers.py start | stop | env | command-env

Their metadata is a database of the services' Postgres. `airflow standalone` would leave orphans behind: each server is
started by itself here, and stopped by its pid, with what it started.
"""

import json
import os
import secrets
import signal
import sys
import time
from base64 import urlsafe_b64encode
from contextlib import suppress
from pathlib import Path

if __name__ == "__main__":
    # Run as a file, Python looks for modules in dev/, where a folder is called cassandra: look in the project instead.
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from dev import services
from dev.machine import ServiceError, run
from dev.run_once import POOL_SLOTS
from dev.servers import Service, Settings

PROJECT = Path(__file__).resolve().parent.parent
AIRFLOW = (sys.executable, "-m", "airflow")  # of an environment that builds on another's, too
START_TIMEOUT_SECONDS = 90
IDLE_SLEEP = "AIRFLOW__SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME"
ON_REQUEST = "PROGRESS_EXHAUST_ON_REQUEST"  # true by default here: set it to false for runs by the schedule only
ROLES = {"admin": "admin", "viewer": "viewer"}  # by user


class AirflowServer(Service):
    """One of Airflow's servers."""

    name = "airflow"  # whose port is the API server's

    def __init__(self, settings: Settings, *words: str) -> None:
        super().__init__(settings)
        self.words = words
        self.log = settings.data / f"airflow-{words[0]}.log"
        self.pid_file = settings.data / f"airflow-{words[0]}.pid"

    def command(self) -> list[str]:
        return [*AIRFLOW, *self.words]

    def answers(self) -> bool:
        """Only the API server has a port to ask; the others say in its health answer that they are there."""
        return self.ask(b"GET /api/v2/monitor/health HTTP/1.0\r\n\r\n", b"HTTP/1.1 200")

    def spawn(self) -> None:
        """Start the server, once nothing is left of one that was killed: its workers would go on for ever."""
        end(self.left_of(self.session()))
        super().spawn()

    def stop(self) -> bool:
        """End the server, then whatever of its session is left."""
        session = self.session()
        stopped = super().stop()
        end(self.left_of(session))
        return stopped


def end(pids: list[int]) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def all_servers(settings: Settings) -> list[AirflowServer]:
    port = str(settings.port("airflow")) if settings.port_file.exists() else "0"
    return [
        AirflowServer(settings, "api-server", "--host", "127.0.0.1", "--port", port, "--workers", "1"),
        AirflowServer(settings, "dag-processor"),
        AirflowServer(settings, "triggerer", "--skip-serve-logs"),
        AirflowServer(settings, "scheduler", "--skip-serve-logs"),
    ]


def environment() -> dict[str, str]:
    """Return all that Airflow's servers, and its command line, need."""
    settings = Settings.from_environment()
    keys = settings.data / "airflow-keys.json"
    if not keys.exists():
        made = {name: urlsafe_b64encode(secrets.token_bytes(32)).decode() for name in ("fernet", "jwt", "session")}
        with os.fdopen(os.open(keys, os.O_CREAT | os.O_WRONLY, 0o600), "w") as file:
            json.dump(made, file)
    secret = json.loads(keys.read_text())
    metadata = services.create_database("airflow").replace("postgresql://", "postgresql+psycopg2://")
    url = f"http://127.0.0.1:{settings.port('airflow')}"
    return services.environment() | {
        "AIRFLOW_HOME": str(settings.data / "airflow"),
        "AIRFLOW__CORE__DAGS_FOLDER": os.environ.get("PROGRESS_EXHAUST_DEV_DAGS", str(PROJECT / "dags")),
        "AIRFLOW__CORE__PLUGINS_FOLDER": str(PROJECT / "plugins"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
        "AIRFLOW__CORE__PARALLELISM": str(POOL_SLOTS + 2),  # two for the tasks that are not in the pool: 40 MB each
        "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": ",".join(f"{user}:{role}" for user, role in ROLES.items()),
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(settings.data / "airflow-passwords.json"),
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{url}/execution/",
        "AIRFLOW__CORE__FERNET_KEY": secret["fernet"],
        "AIRFLOW__API__BASE_URL": url,
        "AIRFLOW__API__SECRET_KEY": secret["session"],
        "AIRFLOW__API_AUTH__JWT_SECRET": secret["jwt"],
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": metadata,
        # The scheduler starts the next task sooner after one has ended: it looks four times a second instead of once.
        IDLE_SLEEP: os.environ.get(IDLE_SLEEP, "0.25"),
        ON_REQUEST: os.environ.get(ON_REQUEST, "true"),
        "MALLOC_ARENA_MAX": "1",  # as in the Makefile
    }


def command_environment() -> dict[str, str]:
    """Return what a command such as `make status` needs. If these servers run, their Airflow is the one that it asks."""
    running = any(server.pid() for server in all_servers(Settings.from_environment()))
    return environment() if running else services.environment()


def passwords() -> dict[str, str]:
    """Return the users' passwords, made up at the first start."""
    file = Path(environment()["AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE"])
    known = json.loads(file.read_text()) if file.exists() else {}
    if known.keys() >= ROLES.keys():
        return known
    made = {user: secrets.token_urlsafe(9) for user in ROLES} | known
    with os.fdopen(os.open(file, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600), "w") as target:
        json.dump(made, target)
    return made


def start() -> None:
    """Start what is not running; return once the API server answers."""
    settings = Settings.from_environment()
    os.environ.update(environment())
    logins = "  ".join(f"user {user}  password {password}" for user, password in passwords().items())
    servers = [server for server in all_servers(settings) if server.words[0] != "triggerer" or os.environ[ON_REQUEST] == "true"]
    missing = [server for server in servers if server.pid() is None]
    if missing:
        print("airflow    preparing its database …", flush=True)
        run(*AIRFLOW, "db", "migrate")
        run(*AIRFLOW, "pools", "set", "progress_exhaust", str(POOL_SLOTS), "batches that run at the same time")
    for server in missing:
        server.spawn()
    deadline = time.monotonic() + START_TIMEOUT_SECONDS
    while not servers[0].answers():
        for server in servers:
            if server.pid() is None:
                raise ServiceError(f"airflow {server.words[0]} ended while starting:\n{server.end_of_log()}")
        if time.monotonic() > deadline:
            raise ServiceError(f"Airflow does not answer: see {settings.data}/airflow-*.log")
        time.sleep(0.2)
    print(f"airflow    ready: {os.environ['AIRFLOW__API__BASE_URL']}  {logins}")


def stop() -> None:
    """Stop what this data folder started, the scheduler first, so that it starts nothing new."""
    for server in reversed(all_servers(Settings.from_environment())):
        print(f"airflow    {server.words[0]} {'stopped' if server.stop() else 'was not running'}", flush=True)


if __name__ == "__main__":
    services.command_line("airflow_servers", {
        "start": start, "stop": stop, "env": lambda: services.export(environment()),
        "command-env": lambda: services.export(command_environment()),
    })  # fmt: skip

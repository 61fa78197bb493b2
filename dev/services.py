"""Cassandra, Postgres, Redis and a content API on 127.0.0.1, without Docker.

    python dev/services.py start | stop | status | env

Each server runs in the background, from its own folder below the data folder. The rule: nothing is started twice, and
nothing is killed that this data folder did not start. Settings are environment variables: see dev/README.md.
"""

from __future__ import annotations

import fcntl
import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

if __name__ == "__main__":
    # Run as a file, Python looks for modules in dev/, where a folder is called cassandra: look in the project instead.
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from dev.machine import ServiceError, install_packages, is_free
from dev.servers import (
    CASSANDRA_PASSWORD,
    CASSANDRA_USER,
    OFFSETS,
    Cassandra,
    Postgres,
    Service,
    Settings,
    all_services,
    apply_schema,
    connected_cassandra,
)

__all__ = [
    "ServiceError", "Settings", "apply_schema", "bring_up", "connected_cassandra", "create_database", "environment", "start",
    "status", "stop",
]  # fmt: skip

DEFAULT_PORT_BASE = 19000
PORT_STEP = 20
START_TIMEOUT_SECONDS = 120


def start() -> None:
    """Start what is not running and return once all of it answers, with its tables made."""
    settings = Settings.from_environment()
    bring_up(settings, all_services(settings))


def bring_up(settings: Settings, services: list[Service]) -> None:
    """Start those of the services that do not run, and return once all of them answer."""
    with only_one_at_a_time(settings):
        missing = [service for service in services if service.pid() is None]
        if missing:
            install_packages()
        choose_ports(settings, missing, running=len(missing) < len(services))
        warn_of_other_heap(settings, missing)
        for folder in ("reports", "staging"):
            (settings.data / folder).mkdir(exist_ok=True)
        started = time.monotonic()
        for service in missing:
            service.spawn()
        deadline = time.monotonic() + START_TIMEOUT_SECONDS  # From here on: a download may have taken minutes.
        waiting = list(services)
        while waiting:
            for service in list(waiting):
                # The process first: another program may answer on its port.
                if service.pid() is None:
                    raise ServiceError(f"{service.name} ended while starting:\n{service.end_of_log()}")
                if service.answers():
                    service.furnish()
                    waiting.remove(service)
                    how = f"ready after {time.monotonic() - started:.1f} s" if service in missing else "was running"
                    print(f"{service.name:<10} {how}, port {service.port}", flush=True)
            if waiting and time.monotonic() > deadline:
                names = ", ".join(service.name for service in waiting)
                raise ServiceError(f"No answer from {names} in {START_TIMEOUT_SECONDS} s: see {settings.data}/*.log")
            time.sleep(0.05 if waiting else 0)


def stop() -> None:
    """Stop what this data folder started."""
    settings = Settings.from_environment()
    with only_one_at_a_time(settings):
        for service in all_services(settings):
            started = time.monotonic()
            how = "stopped" if service.stop() else "was not running"
            print(f"{service.name:<10} {how} ({time.monotonic() - started:.1f} s)", flush=True)


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
    login = f"{CASSANDRA_USER}:{CASSANDRA_PASSWORD}"
    connections = {
        "REQUESTS": f"{Postgres(settings).uri}/sunbird",
        "CASSANDRA": f"cassandra://{login}@127.0.0.1:{settings.port('cassandra')}",
        "USERS": f"redis://127.0.0.1:{settings.port('redis')}",
        "CONTENT": f"http://127.0.0.1:{settings.port('content')}",
        "ORG": f"http://127.0.0.1:{settings.port('content')}",
    }
    variable = {"reports_container_url": f"file://{settings.data}/reports", "staging_url": f"file://{settings.data}/staging"}
    variable |= {"batches_per_channel": 1000}  # one org of the demo may be asked for many reports in a day
    variable |= json.loads(os.environ.get("PROGRESS_EXHAUST_DEV_SETTINGS") or "{}")
    return {f"AIRFLOW_CONN_PROGRESS_EXHAUST_{name}": uri for name, uri in connections.items()} | {
        "AIRFLOW_VAR_PROGRESS_EXHAUST": json.dumps(variable, separators=(",", ":"))
    }


def create_database(name: str) -> str:
    """Create an empty Postgres database where it is missing; return its URI."""
    return Postgres(Settings.from_environment()).create_database(name)


def choose_ports(settings: Settings, missing: list[Service], *, running: bool) -> None:
    """Settle on ports that are free for what is to be started, and remember them in the data folder."""
    remembered = int(settings.port_file.read_text()) if settings.port_file.exists() else None
    base = settings.port_base or remembered or DEFAULT_PORT_BASE
    if running and base != remembered:
        raise ServiceError(f"The services run on port base {remembered}: stop them before changing it to {base}")
    wanted = [(service.name.partition("-")[0], service.address) for service in missing]
    wanted += [] if remembered else [("airflow", "127.0.0.1")]
    places = [(offset, address) for name, offset in OFFSETS.items() for kind, address in wanted if name.split()[0] == kind]
    while taken := [base + offset for offset, address in places if not is_free(base + offset, address)]:
        if running or settings.port_base or base + 2 * PORT_STEP > 65535:
            how = "stop the services and start them again" if running else "choose another PROGRESS_EXHAUST_DEV_PORT_BASE"
            raise ServiceError(f"Port {taken[0]} is taken by another program: {how}")
        base += PORT_STEP
    if base != remembered:
        # Other processes read the file at any time: it must never be empty.
        partial = settings.port_file.with_suffix(".partial")
        partial.write_text(str(base))
        partial.replace(settings.port_file)


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


def command_line(program: str, commands: Mapping[str, Callable[[], bool | None]]) -> NoReturn:
    """Be the command line of a program of dev/: run the command that it names, and exit; 1 where that returns False."""
    match sys.argv[1:]:
        case [name] if name in commands:
            try:
                sys.exit(commands[name]() is False)
            except (ServiceError, subprocess.SubprocessError) as error:
                sys.exit(f"error: {error}")
            except KeyboardInterrupt:
                sys.exit("interrupted: what was started goes on; start again or stop")
    print(f"usage: python dev/{program}.py {'|'.join(commands)}", file=sys.stderr)
    sys.exit(2)


def export(variables: Mapping[str, str]) -> None:
    """Print them for a shell to `eval`."""
    for name, value in variables.items():
        print(f"export {name}={shlex.quote(value)}")


if __name__ == "__main__":
    command_line("services", {"start": start, "stop": stop, "status": status, "env": lambda: export(environment())})

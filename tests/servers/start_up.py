"""Starts Airflow's own servers, and the services around them, in a folder of their own, with a sample world in them."""

import json
import logging
import os
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

from dev.load import Places, load_part
from dev.world import World, sample_world
from tests.servers.site import DAG, OVER, PROJECT, REPORT_ZONE, Airflow, Site, processes, wait_until, works_in

# No tick while the tests run, and the last one hours ago; both are of the same day in the reports' time zone as in UTC.
SCHEDULE_HOURS = (2, 14)
NOTIFIER = {
    "class": "airflow.providers.http.notifications.HttpNotifier",
    "arguments": {"http_conn_id": "inbox", "json": {"text": "{{ failure }}"}},
}


METRICS = "/v1/metrics"  # where OTLP over HTTP sends them
LOCAL_FOLDER = "airflow.dag_processing.bundles.local.LocalDagBundle"


class Inbox(ThreadingHTTPServer):
    """Where the notifier sends its messages, and OpenTelemetry the metrics."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.messages: list[str] = []
        self.metrics: list[bytes] = []


class Take(BaseHTTPRequestHandler):
    server: Inbox

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.path == METRICS:
            self.server.metrics.append(body)
        else:
            self.server.messages.append(json.loads(body)["text"])
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Log nothing."""


@contextmanager
def started_site(
    data: Path, world: World | None = None, *, on_request: bool = False, settings: Mapping[str, Any] | None = None
) -> Iterator[Site]:
    """Start it all in this folder, load a world without its requests, and stop it all again; the sample world by default.

    :param on_request: whether runs start as soon as a request is submitted. Most tests start their runs themselves
    :param settings: more of them, for the Variable
    """
    now = datetime.now(UTC)
    hour = next(hour for hour in SCHEDULE_HOURS if (hour - now.hour) % 24 > 1)
    # Only in the environment of the commands: these servers do not concern other tests of the session.
    environment = os.environ | {
        "PROGRESS_EXHAUST_DEV_DATA": str(data),
        # Batches of several parts, so that each task has processes of its own.
        "PROGRESS_EXHAUST_DEV_SETTINGS": json.dumps({"learners_per_chunk": 20, "processes_per_task": 2} | dict(settings or {})),
        "PROGRESS_EXHAUST_SCHEDULE": f"0 {hour} * * *",
        "PROGRESS_EXHAUST_ON_REQUEST": str(on_request).lower(),
        "PROGRESS_EXHAUST_RETRIES": "3",
        "PROGRESS_EXHAUST_RETRY_DELAY_SECONDS": "0.1",  # makes one to two seconds, each time
        # A killed scheduler and a killed worker are noticed in seconds, not in minutes.
        "AIRFLOW__SCHEDULER__SCHEDULER_HEALTH_CHECK_THRESHOLD": "8",
        "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "20",
        "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "4",
        "AIRFLOW__SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "0.2",
        "PROGRESS_EXHAUST_FAILURE_NOTIFIER": json.dumps(NOTIFIER),
    }
    inbox = Inbox(("127.0.0.1", 0), Take)
    Thread(target=inbox.serve_forever, daemon=True).start()
    environment["AIRFLOW_CONN_INBOX"] = f"http://127.0.0.1:{inbox.server_port}"
    environment |= {
        "AIRFLOW__METRICS__OTEL_ON": "True",
        "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": f"http://127.0.0.1:{inbox.server_port}{METRICS}",
        "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE": "delta",
    }
    # A folder for the DAGs of those who follow ours, which are looked for at once.
    followers = data / "followers"
    followers.mkdir(exist_ok=True)
    environment["AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST"] = json.dumps([
        {"name": "dags-folder", "classpath": LOCAL_FOLDER, "kwargs": {}},
        {"name": "followers", "classpath": LOCAL_FOLDER, "kwargs": {"path": str(followers), "refresh_interval": 1}},
    ])  # fmt: skip
    try:
        for program in ("services", "airflow_servers"):
            _dev(environment, program, "start")
        exports = _dev(environment, "airflow_servers", "env").splitlines()
        environment |= dict(shlex.split(line)[1].split("=", 1) for line in exports)
        yield _site(data, environment, now, world or sample_world(), inbox)
    finally:
        for program in ("airflow_servers", "services"):
            _dev(environment, program, "stop")
        inbox.shutdown()
        inbox.server_close()
    left = [words for pid, words in processes() if works_in(pid, data)]
    assert not left, f"these went on after the stop: {left}"


def _dev(environment: Mapping[str, str], program: str, command: str) -> str:
    done = subprocess.run(
        [sys.executable, f"dev/{program}.py", command],
        cwd=PROJECT, env=dict(environment), stdout=subprocess.PIPE, text=True, check=True,
    )  # fmt: skip
    return done.stdout


# The driver warns of each big batch; dev.load sends big batches because they are fast.
logging.getLogger("cassandra").setLevel(logging.ERROR)


def _site(data: Path, environment: Mapping[str, str], now: datetime, world: World, inbox: Inbox) -> Site:
    places = Places(
        requests=environment["AIRFLOW_CONN_PROGRESS_EXHAUST_REQUESTS"],
        cassandra=environment["AIRFLOW_CONN_PROGRESS_EXHAUST_CASSANDRA"].partition("?")[0],
        users=environment["AIRFLOW_CONN_PROGRESS_EXHAUST_USERS"],
        content_data=data / "content",
    )
    load_part(places, replace(world, requests=[]), 0, 1)
    password = json.loads((data / "airflow-passwords.json").read_text())["admin"]
    airflow = Airflow(environment["AIRFLOW__API__BASE_URL"], password, run_after=now)

    def first_run_has_ended() -> bool:
        # The last missed tick is made up for as soon as the DAG is known; it finds an empty queue.
        return any(run["state"] in OVER for run in airflow.call(f"{DAG}/dagRuns")["dag_runs"])

    wait_until(lambda: airflow.call("/api/v2/dags")["total_entries"], "the DAG")
    wait_until(first_run_has_ended, "the run of the last tick")
    return Site(data, environment, places, world, airflow, now.astimezone(REPORT_ZONE).date(), inbox.messages, inbox.metrics)

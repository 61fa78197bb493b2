"""What the tests do to the servers: as an engineer does it with curl, and as a requester sees it.

Nothing here reaches into the product: it is driven through Airflow's REST API and command line, the request table, and
the two folders of the store.
"""

import hashlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import psycopg2
import psycopg2.extras
import redis
import requests

from dev.load import USERS_DATABASE, Places, submit
from dev.world import ORG, World, request_row, user_id

PROJECT = Path(__file__).resolve().parents[2]
PATIENCE_SECONDS = 300
DAG = "/api/v2/dags/progress_exhaust"
STAGES = ("fetch_hierarchy", "extract", "pivot", "package", "mark_complete")
OVER = ("success", "failed")
REPORT_ZONE = ZoneInfo("Asia/Kolkata")


def wait_until(answer: Callable[[], Any], what: str, seconds: float = PATIENCE_SECONDS) -> Any:
    """Ask until the answer is true; return it."""
    deadline = time.monotonic() + seconds
    while not (found := answer()):
        assert time.monotonic() < deadline, f"waited {seconds} s in vain: {what}"
        time.sleep(0.1)
    return found


@dataclass(frozen=True)
class Task:
    """One task instance; map_index is -1 where the task is not mapped."""

    task_id: str
    map_index: int
    state: str
    tries: int
    label: str  # what the grid shows of a mapped one
    id: str


class Airflow:
    """Airflow's REST API.

    :param run_after: when the manual runs were due, which dates their reports: one day for a whole session
    """

    def __init__(self, url: str, password: str, run_after: datetime) -> None:
        self.url = url
        self.run_after = run_after
        self._session = requests.Session()
        token = self.call("/auth/token", {"username": "admin", "password": password})["access_token"]
        self._session.headers["Authorization"] = f"Bearer {token}"

    def call(self, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """GET, or POST a body; return the answer's JSON."""
        answer = self._session.request("GET" if body is None else "POST", self.url + path, json=body, timeout=30)
        assert answer.ok, f"{path}: {answer.status_code} {answer.text}"
        return dict(answer.json())

    def start_run(self, **conf: Any) -> str:
        """Trigger a run with these Params; return its id."""
        body = {"logical_date": None, "run_after": self.run_after.isoformat(), "conf": conf}
        # Its id would come from run_after, which all runs share.
        body["dag_run_id"] = f"manual__{datetime.now(UTC).isoformat()}"
        return str(self.call(f"{DAG}/dagRuns", body)["dag_run_id"])

    def set_state(self, run_id: str, state: str) -> None:
        """Let an engineer mark the run."""
        answer = self._session.patch(f"{self.url}{DAG}/dagRuns/{run_id}", json={"state": state}, timeout=30)
        assert answer.ok, answer.text

    def state(self, run_id: str) -> str:
        return str(self.call(f"{DAG}/dagRuns/{run_id}")["state"])

    def end_of(self, run_id: str) -> str:
        """Wait for a run's end; return its state."""

        def over() -> str | None:
            found = self.state(run_id)
            return found if found in OVER else None

        return str(wait_until(over, f"the end of {run_id}"))

    def run(self, **conf: Any) -> str:
        """Run to a green end; return the run's id."""
        run_id = self.start_run(**conf)
        assert self.end_of(run_id) == "success", self.failures(run_id)
        return run_id

    def failures(self, run_id: str) -> str:
        """Return what the failed tasks of a run logged, for a test's message."""
        failed = [key for key, task in self.tasks(run_id).items() if task.state == "failed"]
        task_ids = {task_id: f"batch.{task_id}" if task_id in STAGES else task_id for task_id, _ in failed}
        return "\n".join(f"{task_id} {number}:\n{self.log(run_id, task_ids[task_id], number)}" for task_id, number in failed)

    def tasks(self, run_id: str) -> dict[tuple[str, int], Task]:
        """Return the run's task instances by task id, without its group, and map index."""
        found = self.call(f"{DAG}/dagRuns/{run_id}/taskInstances?limit=200")["task_instances"]
        tasks = [
            Task(
                one["task_id"].removeprefix("batch."), one["map_index"], one["state"], one["try_number"],
                one["rendered_map_index"], one["id"],
            )
            for one in found
        ]  # fmt: skip
        return {(task.task_id, task.map_index): task for task in tasks}

    def clear(self, run_id: str, *task_ids: Any, **options: Any) -> None:
        """Clear tasks of a run, all where none is named; returns once the run goes on."""
        body = {"dry_run": False, "dag_run_id": run_id, "only_failed": False, "reset_dag_runs": True} | options
        if task_ids:
            body["task_ids"] = task_ids
        self.call(f"{DAG}/clearTaskInstances", body)

    def rerun(self, run_id: str, *task_ids: Any, **options: Any) -> str:
        """Clear tasks of a run, wait for its end, and return its state."""
        self.clear(run_id, *task_ids, **options)
        return self.end_of(run_id)

    def xcom(self, run_id: str, task_id: str, map_index: int = -1, key: str = "return_value") -> Any:
        path = f"{DAG}/dagRuns/{run_id}/taskInstances/{task_id}/xcomEntries/{key}?map_index={map_index}&deserialize=true"
        return self.call(path)["value"]

    def log(self, run_id: str, task_id: str, map_index: int = -1, of_try: int | None = None) -> str:
        """Return all that a try of the task, by default the last one, logged, errors with their words."""
        tries = of_try or self.tasks(run_id)[task_id.removeprefix("batch."), map_index].tries
        lines = self.call(f"{DAG}/dagRuns/{run_id}/taskInstances/{task_id}/logs/{tries}?map_index={map_index}")["content"]
        return "\n".join(str(line) for line in lines)


@dataclass
class Site:
    """The servers of the session, with a sample world in them."""

    data: Path
    environment: Mapping[str, str]  # of Airflow's servers
    places: Places
    world: World
    airflow: Airflow
    day: date  # of the reports of manual runs
    messages: list[str]  # what the notifier has sent
    metrics: list[bytes]  # what OpenTelemetry has sent, each an ExportMetricsServiceRequest
    _number: Iterator[int] = field(default_factory=lambda: count(1))

    # Requests

    @property
    def batches(self) -> list[str]:
        """The ids of the live batches: five with learners, and one without."""
        retired = {content["identifier"] for content in self.world.contents if content["status"] == "Retired"}
        return [row["batchid"] for row in self.world.batches if row["courseid"] not in retired]

    def request(self, *batch_ids: str, at: datetime | None = None, by: str | None = None) -> str:
        """Submit a new request for these batches, by a new user unless `by` names one; return its id."""
        number = next(self._number)
        at = (at or datetime.now(UTC)) + timedelta(microseconds=number)
        by = by or user_id(number.to_bytes(16))
        row = request_row({"batchFilter": list(batch_ids)}, label=f"label_{number}", channel=ORG, by=by, at=at)
        with closing(psycopg2.connect(self.places.requests)) as connection:
            submit(connection, [row])
        return str(row["request_id"])

    def sql(self, statement: str, *values: Any) -> list[dict[str, Any]]:
        with (
            closing(psycopg2.connect(self.places.requests)) as connection,
            connection,
            connection.cursor(cursor_factory=psycopg2.extras.RealDictCursor) as cursor,
        ):
            cursor.execute(statement, values)
            return [dict(row) for row in cursor.fetchall()] if cursor.description else []

    def row(self, request_id: str) -> dict[str, Any]:
        """Return the request's row of job_request."""
        [row] = self.sql("SELECT * FROM job_request WHERE request_id = %s", request_id)
        return row

    def redis(self) -> "redis.Redis":
        return self.places.connect_redis(USERS_DATABASE)  # type: ignore[no-any-return]

    # Files

    def key(self, request_id: str, batch_id: str, day: date | None = None) -> str:
        return f"progress-exhaust/{request_id}/{batch_id}_progress_{day or self.day:%Y%m%d}.zip"

    def object(self, key: str) -> Path:
        return self.data / "reports" / key

    def published(self, request_id: str) -> dict[str, str]:
        """Return the sha256 of each file of a request, by key; everything that is there counts, half files too."""
        reports = self.data / "reports"
        files = [path for path in (reports / "progress-exhaust" / request_id).rglob("*") if path.is_file()]
        return {str(path.relative_to(reports)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}

    def written(self, keys: Iterable[str]) -> dict[str, int]:
        """Return when each file was written."""
        return {key: self.object(key).stat().st_mtime_ns for key in keys}

    def staging(self, run_id: str) -> list[Path]:
        """Return the files that are left of a run in staging."""
        folders = (self.data / "staging").glob(f"*/{run_id}")  # in the folder of the installation
        return [path for folder in folders for path in folder.rglob("*") if path.is_file()]

    # Commands and processes

    def command(self, *words: str) -> None:
        """Run one of the project's, or Airflow's, commands while the servers run."""
        done = subprocess.run(
            [sys.executable, *words], cwd=PROJECT, env=dict(self.environment), capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr

    def pid(self, server: str) -> int:
        return int((self.data / f"{server}.pid").read_text().split()[0])

    @contextmanager
    def paused(self, server: str) -> Iterator[None]:
        """Freeze a server, so that it does not answer."""
        pid = self.pid(server)
        os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(pid, signal.SIGCONT)


REFUSE = """
CREATE OR REPLACE FUNCTION progress_exhaust.refuse() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN RAISE EXCEPTION 'permission denied for this batch' USING ERRCODE = 'insufficient_privilege'; END $$;
CREATE TRIGGER "refuse {batch}" BEFORE UPDATE ON progress_exhaust.batch_run FOR EACH ROW
WHEN (NEW.batch_id = '{batch}' AND NEW.stage = 'extract' AND NEW.state = 'running') EXECUTE FUNCTION progress_exhaust.refuse()
"""


@contextmanager
def no_extract(site: Site, batch_id: str) -> Iterator[None]:
    """Make `extract` of one batch fail at each retry: the ledger rejects its start."""
    site.sql(REFUSE.replace("{batch}", batch_id))
    try:
        yield
    finally:
        site.sql(f'DROP TRIGGER "refuse {batch_id}" ON progress_exhaust.batch_run')


def kill(task: Task) -> None:
    """Kill -9 the process that does the task's work."""
    pids = [pid for pid, words in processes() if words == f"airflow worker -- {task.id}"]
    first = [pid for pid in pids if parent(pid) not in pids]  # the others are its own, and end with it
    assert len(first) == 1, f"{task} has processes {pids}"
    os.kill(first[0], signal.SIGKILL)
    wait_until(lambda: not {*pids} & {pid for pid, _ in processes()}, f"the end of {pids}")


def parent(pid: int) -> int | None:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return None


def works_in(pid: int, folder: Path) -> bool:
    """Tell whether a process works in a folder, as all of a site's servers and tasks do in its data."""
    try:
        return Path(f"/proc/{pid}/cwd").resolve().is_relative_to(folder)
    except OSError:
        return False


def processes() -> list[tuple[int, str]]:
    """Return the pid and the command line of each process there is."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
        except OSError:
            continue
        if words:
            found.append((int(folder.name), words))
    return found

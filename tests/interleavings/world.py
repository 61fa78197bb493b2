"""The world of a schedule: the tables, the files, and what Airflow says of the runs."""

import hashlib
import json
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from progress_exhaust.hooks.requests.models import SQL_VALUES, Key
from progress_exhaust.report.request import Batch
from progress_exhaust.settings import parse_settings
from progress_exhaust.sql import claims, endings, ledger, locks, packages, releases
from tests.history import recorder
from tests.history.checker import check, check_end
from tests.history.events import By, Run
from tests.integration.life import DAY, INSTALLATION, LEDGER, OTHER_INSTALLATION, insert
from tests.interleavings.scheduler import Client

FIRST, SECOND = INSTALLATION, OTHER_INSTALLATION
RECOVERY_RUNS = 4
UNFINISHED = "status <> 'SUCCESS' AND (status <> 'FAILED' OR iteration < 3)"


def statement_names() -> dict[str, str]:
    """Return the names of the statements on the tables of the requests, by their text as it is sent."""
    names = {}
    for module in (claims, endings, ledger, locks, packages, releases):
        for name, text in vars(module).items():
            if name.isupper() and not name.startswith("_") and isinstance(text, str):
                try:
                    sent = text.format(job_request='"job_request"', ledger=f'"{LEDGER}"', **SQL_VALUES)
                except KeyError:
                    continue
                if '"' in sent or "advisory" in sent:
                    names[sent] = f"{module.__name__.rpartition('.')[2]}.{name}"
    return names


TABLES = ("job_request", f"{LEDGER}.claim", f"{LEDGER}.batch_run", "test_history.event")
# What a run can see of the work that remains, without the times.
STATE = f"""
SELECT (SELECT jsonb_agg(to_jsonb(j) - TIMES ORDER BY request_id) FROM job_request j)::text,
  (SELECT jsonb_agg(to_jsonb(c) - TIMES ORDER BY request_id, installation, run_id) FROM {LEDGER}.claim c)::text,
  (SELECT jsonb_agg(to_jsonb(b) - TIMES ORDER BY request_id, batch_id, installation, run_id) FROM {LEDGER}.batch_run b)::text
""".replace(
    "TIMES", "'{claimed_at,released_at,listed_at,changed_at,dt_file_created,dt_job_completed,execution_time,seconds}'::text[]"
)


@dataclass(frozen=True)
class Saved:
    """The tables, as JSON, and what else the clients share."""

    rows: tuple[str, ...]
    ended: frozenset[Run]
    expected: dict[str, str]


class World:
    """What the clients of one schedule share.

    :param cursor: commits each statement
    :param run_whole: lets a whole run do its tasks, undisturbed
    """

    def __init__(self, cursor: Any, folder: Path, run_whole: "Callable[[World, Run], None]") -> None:
        self.cursor = cursor
        self._run_whole = run_whole
        self.folder = folder
        self._noting = threading.Lock()
        self._recovered: set[Any] = set()
        self.connections: list[Any] = []  # those that no client uses
        self.statement_names = statement_names()
        self.settings = parse_settings(
            json.dumps({"reports_container_url": f"file://{folder}/reports", "staging_url": f"file://{folder}/staging"})
        )
        self.reset()

    def reset(self) -> None:
        """Start again with empty tables."""
        self._without_triggers("; ".join(f"DELETE FROM {table}" for table in TABLES))
        self.ended: set[Run] = set()
        self.expected: dict[str, str] = {}
        self.policy = 0
        self.problems: list[str] = []

    def forget_statements(self) -> None:
        """Note that statements have changed: what they have shown before does not count."""
        self.statement_names = statement_names()
        self._recovered.clear()

    def save(self) -> Saved:
        """Return the state of the tables, for `restore`."""
        rows = []
        for table in TABLES:
            self.cursor.execute(f"SELECT coalesce(jsonb_agg(one), '[]')::text FROM {table} one")
            rows.append(self.cursor.fetchone()[0])
        return Saved(tuple(rows), frozenset(self.ended), dict(self.expected))

    def restore(self, saved: Saved) -> None:
        """Start again with a saved state."""
        self.reset()
        self.ended, self.expected = set(saved.ended), dict(saved.expected)
        filled = (f"INSERT INTO {table} SELECT * FROM jsonb_populate_recordset(NULL::{table}, %s)" for table in TABLES)
        self._without_triggers("; ".join(filled), saved.rows)

    def _without_triggers(self, statements: str, values: Sequence[str] = ()) -> None:
        replica = "SET session_replication_role = replica; {}; SET session_replication_role = DEFAULT"
        self.cursor.execute(replica.format(statements), values)

    def client(self, name: str, work: Callable[[Client], None]) -> Client:
        client = Client(name, work)
        client.statement_names, client.connections = self.statement_names, self.connections
        return client

    # What happens outside the runs

    def submit(self, request_id: str, *batch_ids: str, **columns: Any) -> Key:
        key = insert(self.cursor, request_id, request_data=json.dumps({"batchFilter": list(batch_ids)}), **columns)
        for batch_id in batch_ids:
            object_key = Batch(*key, "org-1", batch_id, "do_1").object_key(DAY)
            self.expected[object_key] = hashlib.sha256(self.package(batch_id).read_bytes()).hexdigest()
        return key

    def package(self, batch_id: str) -> Path:
        """Return the package of a batch: each run makes the same bytes."""
        path = self.folder / batch_id
        if not path.exists():
            path.write_text(f"the report of {batch_id}")
        return path

    def end(self, run: Run) -> None:
        """Let Airflow say that a run has ended."""
        if run not in self.ended:
            self.ended.add(run)
            self.note(By(), recorder.RUN_ENDED, {"installation": run[0], "run_id": run[1]})

    def change_policy(self, level: int) -> None:
        self.policy = level
        self.note(By(), recorder.POLICY_CHANGED, {"level": level})

    def note(self, by: By, kind: str, new: dict[str, Any]) -> None:
        with self._noting, self.cursor.connection.cursor() as cursor:
            cursor.execute("INSERT INTO test_history.event (by, kind, new) VALUES (%s, %s, %s)", [str(by), kind, json.dumps(new)])

    # The end

    def recover(self) -> None:
        """End all runs, and let later runs of both installations do what is left, undisturbed."""
        self.cursor.execute(f"SELECT DISTINCT installation, run_id FROM {LEDGER}.claim WHERE released_at IS NULL")
        for run in self.cursor.fetchall():
            self.end(run)
        for number in range(RECOVERY_RUNS):
            self.cursor.execute(f"SELECT FROM job_request WHERE {UNFINISHED}")
            if not self.cursor.rowcount:
                return
            self._run_whole(self, ((FIRST, SECOND)[number % 2], f"recovery-{number}"))

    def find_problems(self) -> list[str]:
        """Recover; return everything that was not as it should be. A state that was recovered before is not recovered again."""
        self.cursor.execute(STATE)
        state = self.cursor.fetchone()
        if state in self._recovered:
            return [*self.problems, *check(recorder.read_history(self.cursor), expected=self.expected)]
        self.recover()
        events = recorder.read_history(self.cursor)
        self.cursor.execute(
            f"SELECT request_id, status, iteration FROM job_request j WHERE {UNFINISHED} AND NOT (status = 'FAILED' AND EXISTS ("
            f"SELECT FROM {LEDGER}.claim c WHERE c.tag = j.tag AND c.request_id = j.request_id AND permanent))"
        )
        left = [
            f"request {request_id} stays {status} after {iteration} failures"
            for request_id, status, iteration in self.cursor.fetchall()
        ]
        problems = [*self.problems, *check(events, expected=self.expected), *check_end(events), *left]
        if not problems:
            self._recovered.add(state)
        return problems

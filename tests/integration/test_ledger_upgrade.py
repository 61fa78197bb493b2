"""A ledger of an earlier version is upgraded in place, with every row, by whichever run comes first."""

import os
import re
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from dev.grants import GRANTS, psql
from progress_exhaust.errors import SetupError
from progress_exhaust.hooks.requests.models import BatchState
from progress_exhaust.hooks.requests.status import Filter, RequestStatusReader
from progress_exhaust.report.request import Batch
from tests.integration.life import (
    CONNECTION,
    CURRENT,
    ELSEWHERE,
    INSTALLATION,
    LEDGER,
    RunHook,
    chosen,
    connect,
    empty_database,
    hook_of,
    insert,
)

UPGRADE_PAGE = Path(__file__).resolve().parents[2] / "docs" / "how-to" / "upgrade.md"
# The ledger as version 0.1.0 creates it.
VERSION_0_1_0 = """
CREATE SCHEMA progress_exhaust;
CREATE TABLE progress_exhaust.claim (
  tag text NOT NULL,
  request_id text NOT NULL,
  run_id text NOT NULL,
  twin_of text,
  claimed_at timestamptz NOT NULL DEFAULT now(),
  released_at timestamptz,
  outcome text,
  failure_counted boolean NOT NULL DEFAULT false,
  PRIMARY KEY (tag, request_id, run_id)
);
CREATE UNIQUE INDEX claim_held_once ON progress_exhaust.claim (tag, request_id) WHERE released_at IS NULL;
CREATE TABLE progress_exhaust.batch_run (
  tag text NOT NULL,
  request_id text NOT NULL,
  batch_id text NOT NULL,
  run_id text NOT NULL,
  collection_id text NOT NULL,
  channel text NOT NULL,
  stage text NOT NULL DEFAULT 'list_batches',
  state text NOT NULL,
  counts jsonb NOT NULL DEFAULT '{}',
  seconds jsonb NOT NULL DEFAULT '{}',
  tries jsonb NOT NULL DEFAULT '{}',
  size_bytes bigint,
  object_key text,
  error text,
  listed_at timestamptz NOT NULL DEFAULT now(),
  changed_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (tag, request_id, batch_id, run_id)
);
ALTER TABLE progress_exhaust.batch_run ADD COLUMN IF NOT EXISTS tries jsonb NOT NULL DEFAULT '{}';
CREATE INDEX batch_run_of_run ON progress_exhaust.batch_run (run_id);
CREATE INDEX batch_run_listed_at ON progress_exhaust.batch_run (listed_at);
CREATE INDEX claim_claimed_at ON progress_exhaust.claim (claimed_at);
"""
AT = "2022-09-27 08:00:00+00"
ROWS = f"""
INSERT INTO progress_exhaust.claim VALUES
  ('t', 'held', 'run', NULL, '{AT}', NULL, NULL, false),
  ('t', 'shared', 'run', 'held', '{AT}', NULL, NULL, false),
  ('t', 'held', 'killed', NULL, '{AT}', '{AT}', 'died', true),
  ('t', 'made', 'old', NULL, '{AT}', '{AT}', 'SUCCESS', false);
INSERT INTO progress_exhaust.batch_run VALUES
  ('t', 'held', 'b1', 'run', 'do_1', 'org', 'package', 'running',
    '{{"enrolled": 9, "left_out.inactive": 2, "left_out.no_date": 0}}', '{{"extract": 1.5}}',
    '{{"list_batches": 1, "package": 2}}', NULL, NULL, NULL, '{AT}', '{AT}'),
  ('t', 'held', 'b2', 'run', 'do_1', 'org', 'list_batches', 'refused',
    '{{}}', '{{}}', '{{}}', NULL, NULL, 'too big', '{AT}', '{AT}'),
  ('t', 'made', 'b3', 'old', 'do_2', 'org', 'mark_complete', 'done',
    '{{"reported": 7}}', '{{}}', '{{}}', 5, 'k.zip', NULL, '{AT}', '{AT}');
"""
# What the same rows are in this version.
RENAMED = ROWS.replace("left_out.", "excluded.").replace("'refused'", "'rejected'").replace("'died'", "'lost'")
ADOPT = (
    f"UPDATE {LEDGER}.claim SET installation = '{INSTALLATION}'; UPDATE {LEDGER}.batch_run SET installation = '{INSTALLATION}'"
)


@pytest.fixture
def cursor(servers: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Yield a cursor on a database with a ledger of version 0.1.0."""
    uri = empty_database("progress_exhaust_upgrade")
    monkeypatch.setenv(CONNECTION, uri)
    connection = connect(uri)
    cursor = connection.cursor()
    cursor.execute(CURRENT + ";" + VERSION_0_1_0)
    yield cursor
    connection.close()


def everything(cursor: Any) -> list[Any]:
    """Return the columns, the indexes and the rows of our tables."""
    found = []
    for table in ("claim", "batch_run"):
        cursor.execute(f"SELECT * FROM {LEDGER}.{table} ORDER BY request_id, run_id, 3")
        found += [[column.name for column in cursor.description], sorted(cursor.fetchall(), key=repr)]
    cursor.execute(f"SELECT indexdef FROM pg_indexes WHERE schemaname = '{LEDGER}' ORDER BY 1")
    return [*found, cursor.fetchall()]


def with_rows_of_this_version(cursor: Any, *, adopted: bool = True) -> list[Any]:
    """Return what a new ledger with these rows holds."""
    cursor.execute(f"DROP SCHEMA {LEDGER} CASCADE")
    hook_of("any").prepare()
    cursor.execute(RENAMED + (ADOPT if adopted else ""))
    return everything(cursor)


def adopt_all(hook: RunHook) -> None:
    """Adopt the rows as the first task of a run does if Airflow knows all of these runs."""
    hook.prepare()
    hook.adopt(["run", "killed", "old"])


def test_nothing_is_lost(cursor: Any) -> None:
    cursor.execute(ROWS)
    adopt_all(hook_of("any"))
    upgraded = everything(cursor)
    adopt_all(hook_of("any"))
    assert everything(cursor) == upgraded
    cursor.execute(psql((GRANTS / "ledger.sql").read_text()))  # a person may run it again
    assert everything(cursor) == upgraded == with_rows_of_this_version(cursor)


def test_a_person_upgrades_it_with_the_same_statements(cursor: Any) -> None:
    cursor.execute(ROWS)
    cursor.execute(psql((GRANTS / "ledger.sql").read_text()))
    upgraded = everything(cursor)
    adopt_all(hook_of("any"))
    adopted = everything(cursor)
    assert upgraded == with_rows_of_this_version(cursor, adopted=False)
    assert adopted == with_rows_of_this_version(cursor)


def test_an_installation_adopts_only_the_runs_that_its_airflow_knows(cursor: Any) -> None:
    """The first one to upgrade must not claim what another installation holds. A person can release what no Airflow adopts."""
    for request_id in ("held", "shared", "made"):
        insert(cursor, request_id, tag="t", status="PROCESSING")
    cursor.execute(ROWS)
    first, owner = hook_of(f"{ELSEWHERE}next"), hook_of("next")
    first.prepare()
    assert first.unadopted_runs() == ["run"]
    first.adopt(["next"])  # its Airflow does not know the run
    assert first.holding_runs() == [] and first.claim(chosen(ended_runs=["run"])).requests == []
    [held, _] = first.holders(["held", "shared"])
    assert str(held).startswith("run run of another installation unknown, since 2022-09-27")
    owner.prepare()
    owner.adopt(owner.unadopted_runs())
    assert (owner.unadopted_runs(), owner.holding_runs()) == ([], ["run"])
    assert len(owner.claim(chosen(ended_runs=["run"])).requests) == 2


def test_a_person_releases_what_no_installation_adopts(cursor: Any) -> None:
    for request_id in ("held", "shared", "made"):
        insert(cursor, request_id, tag="t", status="PROCESSING")
    cursor.execute(ROWS)
    hook = hook_of("next")
    hook.prepare()
    for holder in hook.holders(["held", "shared"]):
        assert not holder.is_ours and hook.release(holder)
    assert {request.request_id for request in hook.claim(chosen()).requests} == {"held", "shared"}


def test_a_role_that_may_not_upgrade_reports_the_statements(cursor: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    cursor.execute(ROWS + "DROP ROLE IF EXISTS without_rights; CREATE ROLE without_rights LOGIN PASSWORD 'x'")
    cursor.execute(
        f"GRANT USAGE ON SCHEMA {LEDGER} TO without_rights; GRANT SELECT ON ALL TABLES IN SCHEMA {LEDGER} TO without_rights"
    )
    cursor.execute("GRANT USAGE ON SCHEMA public TO without_rights; GRANT SELECT ON job_request TO without_rights")
    server = os.environ[CONNECTION].rpartition("@")[2]
    monkeypatch.setenv(CONNECTION, f"postgresql://without_rights:x@{server}")
    try:
        with pytest.raises(SetupError, match="ADD COLUMN installation"):
            hook_of("run").prepare()
    finally:
        cursor.execute("DROP OWNED BY without_rights; DROP ROLE without_rights")


def test_two_first_runs_upgrade_it_together(cursor: Any) -> None:
    runs = 4
    for _ in range(5):
        cursor.execute(f"DROP SCHEMA {LEDGER} CASCADE; {VERSION_0_1_0} {ROWS}")
        together = threading.Barrier(runs)

        def first_task(number: int, together: threading.Barrier = together) -> None:
            hook = hook_of(f"run {number}")
            together.wait(10)
            hook.prepare()

        with ThreadPoolExecutor(runs) as pool:
            list(pool.map(first_task, range(runs)))
        upgraded = everything(cursor)
        assert upgraded == with_rows_of_this_version(cursor, adopted=False)


def test_the_run_continues_with_what_it_had_started(cursor: Any) -> None:
    """Its newest attempts stay the newest ones, its claims are held, and its duplicates end with their request."""
    for request_id in ("held", "shared", "made"):
        insert(cursor, request_id, tag="t", status="PROCESSING")
    cursor.execute(ROWS)
    run = hook_of("run")
    adopt_all(run)
    assert [request.request_id for request in run.held_without_duplicates()] == ["held"]
    [b1, b2] = run.run_batches()
    assert (b1.counts, b2.state) == ({"enrolled": 9, "excluded.inactive": 2, "excluded.no_date": 0}, BatchState.REJECTED)
    run.task_attempt = 3
    run.record(b1.batch, stage="package", state="running")
    assert run.fail("t", "held", "too big") == {"FAILED": 2}
    assert hook_of("next").claim(chosen()).requests != []


def test_a_ledger_from_before_the_attempts_were_kept_is_upgraded(cursor: Any) -> None:
    cursor.execute(f"ALTER TABLE {LEDGER}.batch_run DROP COLUMN tries")
    key = insert(cursor, "r1")
    run = hook_of("run")
    run.prepare()
    run.claim(chosen())
    batch = Batch(*key, "org-1", "b1", "do_1")
    run.list_batches([batch], [])
    run.record(batch, stage="extract", state="running")
    made = run.batch_run(batch)
    assert made is not None and made.state is BatchState.RUNNING


def test_the_page_says_that_a_run_has_to_come_first(cursor: Any) -> None:
    reader = RequestStatusReader(job_request_table="job_request", ledger_schema=LEDGER)
    with pytest.raises(SetupError, match=r"one of an older version\. The first run of the DAG"):
        reader.tally()
    hook_of("any").prepare()
    assert reader.requests(Filter(), most=1, skip=0) == ([], 0)


def test_a_downgrade_keeps_the_newer_ledger_and_can_be_upgraded_again(cursor: Any) -> None:
    cursor.execute(ROWS)
    adopt_all(hook_of("any"))
    [rename] = re.findall(r"`(ALTER SCHEMA .*)`", UPGRADE_PAGE.read_text())
    cursor.execute(rename)
    cursor.execute(VERSION_0_1_0)  # as its own first run does
    cursor.execute(ROWS)
    adopt_all(hook_of("any"))
    assert everything(cursor) == with_rows_of_this_version(cursor)
    cursor.execute(f"SELECT request_id FROM {LEDGER}_newer.claim WHERE outcome = 'lost'")
    assert cursor.fetchall() == [("held",)]

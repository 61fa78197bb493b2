"""Record every committed change of job_request, claim and batch_run: by triggers, in tables of the tests.

A trigger runs at the end of its transaction, so changes are numbered in the order of the commits. A transaction that is rolled
back leaves nothing. The rows are kept whole as JSON: a new column needs no change here.
"""

from collections.abc import Sequence
from typing import Any

from tests.history.events import By, Change, Commit, Event, PolicyChanged, Published, RunEnded

BY = "test_history.by"  # the setting of a session that names who writes

INSTALL = """
DROP SCHEMA IF EXISTS test_history CASCADE;
CREATE SCHEMA test_history;
CREATE TABLE test_history.event (
  number bigserial PRIMARY KEY,
  transaction_id bigint NOT NULL DEFAULT txid_current(),
  by text NOT NULL DEFAULT coalesce(current_setting('test_history.by', true), ''),
  kind text NOT NULL,  -- job_request, claim, batch_run, or a word below
  old jsonb,
  new jsonb
);
CREATE FUNCTION test_history.record() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
  INSERT INTO test_history.event (kind, old, new) VALUES (TG_ARGV[0], to_jsonb(OLD), to_jsonb(NEW));
  RETURN NULL;
END $$;
"""
TRIGGER = """
CREATE CONSTRAINT TRIGGER record_history AFTER INSERT OR UPDATE OR DELETE ON {table}
DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION test_history.record('{kind}')
"""
PUBLISHED, RUN_ENDED, POLICY_CHANGED = "published", "run ended", "policy changed"


def record_history(cursor: Any, *, job_request: str = "job_request", ledger: str = "progress_exhaust") -> None:
    """Record from now on what happens to these tables. The cursor commits each statement, and its role owns them."""
    cursor.execute(INSTALL)
    tables = {"job_request": job_request, "claim": f"{ledger}.claim", "batch_run": f"{ledger}.batch_run"}
    for kind, table in tables.items():
        cursor.execute(TRIGGER.format(table=table, kind=kind))


def stop_recording(cursor: Any) -> None:
    """Remove the triggers and the history."""
    cursor.execute("DROP SCHEMA test_history CASCADE")


def read_history(cursor: Any) -> list[Event]:
    """Return what was recorded. The rows that existed before are what the first changes show of them."""
    cursor.execute("SELECT transaction_id, by, kind, old, new FROM test_history.event ORDER BY number")
    rows: Sequence[tuple[Any, ...]] = cursor.fetchall()
    events: list[Event] = []
    changes: dict[int, list[Change]] = {}
    last = {transaction_id: number for number, (transaction_id, *_) in enumerate(rows)}
    for number, (transaction_id, by, kind, old, new) in enumerate(rows):
        who = By.parse(by)
        if kind == PUBLISHED:
            events.append(Published(who, new["key"], new.get("sha256", ""), new.get("level", 0)))
        elif kind == RUN_ENDED:
            events.append(RunEnded((new["installation"], new["run_id"])))
        elif kind == POLICY_CHANGED:
            events.append(PolicyChanged(new["level"]))
        else:
            changes.setdefault(transaction_id, []).append(Change(kind, old, new))
            if number == last[transaction_id]:  # other transactions may have committed at the same moment
                events.append(Commit(who, tuple(changes.pop(transaction_id))))
    return events

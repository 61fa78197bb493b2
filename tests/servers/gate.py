"""Holds a stage at a known point, from outside: each stage writes down in the ledger when it begins and when it is done.

A trigger on the ledger takes a shared lock that a test holds. A stage that waits there has done nothing yet, or has done
all of its work but not yet recorded it.
"""

from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from typing import Any

import psycopg2

from tests.servers.site import Site, wait_until

# before: nothing is done; published: the file is there, package.json is not; uncommitted: in mark_complete's own
# transaction; after: all is done but for the ledger's last word.
TRIGGER = """
CREATE OR REPLACE FUNCTION progress_exhaust.gate() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  PERFORM pg_advisory_xact_lock_shared(hashtextextended(concat_ws(' ', NEW.batch_id, NEW.stage, CASE
    WHEN NEW.seconds ? NEW.stage THEN 'after'
    WHEN NEW.stage = 'mark_complete' AND NEW.state = 'done' THEN 'uncommitted'
    WHEN NEW.stage = 'package' AND NEW.size_bytes IS NOT NULL THEN 'published'
    ELSE 'before' END), 0));
  RETURN NEW;
END $$;
CREATE OR REPLACE TRIGGER gate BEFORE UPDATE ON progress_exhaust.batch_run
FOR EACH ROW EXECUTE FUNCTION progress_exhaust.gate();
"""
KEY = "hashtextextended(concat_ws(' ', %s, %s, %s), 0)"
# A waiting lock, as pg_locks shows the two halves of its key.
SOMEBODY_WAITS = f"""
SELECT FROM pg_locks, (SELECT {KEY} AS key) AS wanted
WHERE locktype = 'advisory' AND NOT granted AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
  AND (classid::bigint << 32 | objid::bigint) = key
"""


class Closed:
    """One closed gate."""

    def __init__(self, session: Any, *place: str) -> None:
        self._session = session
        self._place = place  # batch id, stage, moment

    def wait(self) -> None:
        """Wait until the stage stands before the gate."""

        def a_task_waits() -> bool:
            with self._session.cursor() as cursor:
                cursor.execute(SOMEBODY_WAITS, self._place)
                return bool(cursor.rowcount)

        wait_until(a_task_waits, f"{' '.join(self._place)} at the gate")


class Gate:
    """The gates of a site."""

    def __init__(self, site: Site) -> None:
        self._uri = site.places.requests
        site.sql(TRIGGER)

    @contextmanager
    def closed(self, batch_id: str, stage: str, moment: str) -> Iterator[Closed]:
        """Let the stage of this batch not pass the moment while the block runs."""
        place = (batch_id, stage, moment)
        with closing(psycopg2.connect(self._uri)) as session:
            session.autocommit = True
            with session.cursor() as cursor:
                cursor.execute(f"SELECT pg_advisory_lock({KEY})", place)
            yield Closed(session, *place)

    @contextmanager
    def all_closed(self, batch_id: str, stage: str, moments: tuple[str, ...]) -> Iterator[list[tuple[Closed, ExitStack]]]:
        """Close several; each can be opened by itself, by closing its stack."""
        with ExitStack() as everything:
            gates = []
            for moment in moments:
                opener = everything.enter_context(ExitStack())
                gates.append((opener.enter_context(self.closed(batch_id, stage, moment)), opener))
            yield gates

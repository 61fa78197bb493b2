"""One scan of a Cassandra table for all batches of a run that are better served by it.

In a batch's folder of a table, `decided.json` says what the first batch that came has decided for it: to scan or not, when,
and the folder with its rows. A scan never changes or removes another's rows, which may be being read.
"""

import json
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from progress_exhaust.operators.processes import in_processes
from progress_exhaust.operators.stage import OVER, Progress, Work

if TYPE_CHECKING:
    import pyarrow as pa
    from airflow.sdk import ObjectStoragePath

    from progress_exhaust.hooks.cassandra.models import BatchKey, Table, TokenRange
    from progress_exhaust.hooks.cassandra.tables import LearnerTablesHook

DECIDED_FILE = "decided.json"

Decide = Callable[[Sequence["BatchKey"]], tuple[bool, str]]
Share = tuple[float, float]


@dataclass(frozen=True)
class Decided:
    """What was decided for one batch and table."""

    as_of: str
    scan: str | None  # the name of the folder with its rows; None: its partitions are to be read
    rows: int = 0
    reason: str = "read"  # as of a version that did not keep it


def shared_scan(
    work: Work, tables: "LearnerTablesHook", table: "Table", decide: Decide, *, after: str, share: Share
) -> "tuple[Decided, ObjectStoragePath]":
    """Return what is decided for the batch, today and after an instant (ISO), and the folder with its rows, if any.

    share: from where to where a scan takes the stage, 0 to 1.
    The batch that comes first decides for all of the run's that nothing is decided for, and scans for them while they wait.
    """
    if _decided(work, table, work.batch.key, after) is None:
        work.log.info(
            "%s: one batch of the run decides how to read it, and scans it for all where that is less; others wait here", table
        )
    with work.requests.alone(f"scan of {table}"):
        if decided := _decided(work, table, work.batch.key, after):
            work.log.info("%s (decided at %s)", decided.reason, decided.as_of)
        else:
            others = {run.batch.key for run in work.requests.run_batches() if run.state not in OVER}
            keys = [work.batch.key, *sorted(key for key in others - {work.batch.key} if _decided(work, table, key) is None)]
            scan, reason = decide(keys)
            work.log.info("%s, for %d batches of this run", reason, len(keys))
            decided = _scan(work, tables, table, keys, reason, share) if scan else _leave_partitions(work, table, keys, reason)
    return decided, _folder(work, table, work.batch.key) / (decided.scan or "")


def rows_of(work: Work, table: "Table", key: "BatchKey") -> int:
    """Return how many rows a scan found of a batch; 0 where there was none."""
    decided = _decided(work, table, key)
    return decided.rows if decided else 0


def _folder(work: Work, table: "Table", key: "BatchKey") -> "ObjectStoragePath":
    return work.site.store().scan_folder(work.site.run_id, table, *key)


def _decided(work: Work, table: "Table", key: "BatchKey", after: str = "") -> Decided | None:
    """Return what is decided for a batch; None where nothing of today, and after an instant (ISO), is."""
    path = _folder(work, table, key) / DECIDED_FILE
    decided = Decided(**json.loads(path.read_text())) if path.exists() else None
    return decided if decided and decided.as_of > after and work.is_of_today(decided.as_of) else None


def _decide(work: Work, table: "Table", key: "BatchKey", decided: Decided) -> None:
    from progress_exhaust.hooks.report_store import write_whole

    write_whole(_folder(work, table, key) / DECIDED_FILE, json.dumps(asdict(decided)).encode())


def _leave_partitions(work: Work, table: "Table", keys: "Sequence[BatchKey]", reason: str) -> Decided:
    decided = Decided(datetime.now(UTC).isoformat(), None, reason=reason)
    for key in keys:
        _decide(work, table, key, decided)
    return decided


def _scan(
    work: Work, tables: "LearnerTablesHook", table: "Table", keys: "Sequence[BatchKey]", reason: str, share: Share
) -> Decided:
    """Read the rows of these batches; return what is decided for the first."""
    from progress_exhaust.extract.sorted_runs import write_runs
    from progress_exhaust.hooks.report_store import make_folder

    as_of = datetime.now(UTC).isoformat()
    name = as_of.replace(":", "").replace("+", "Z")
    folders = {key: _folder(work, table, key) / name for key in keys}
    for folder in folders.values():
        make_folder(folder)
    ranges = tables.token_ranges(table)
    tables.close()  # the processes make connections of their own
    found = in_processes(
        scan_range,
        ((table, keys, tokens) for tokens in ranges),
        opened=work.site.learner_tables,
        processes=min(work.site.processes, len(ranges)),
        connection_ids=work.site.settings.cassandra_connections,
    )
    progress = Progress(work, f"ranges of {table} scanned", len(ranges), share=share)
    with closing(found):
        counts = write_runs((rows for of_range in progress.of(found) for rows in of_range), folders)
    for key in keys:
        _decide(work, table, key, Decided(as_of, name, counts[key], reason))
    return Decided(as_of, name, counts[keys[0]], reason)


# In a process


def scan_range(
    tables: "LearnerTablesHook", what: "tuple[Table, Sequence[BatchKey], TokenRange]"
) -> "list[tuple[BatchKey, pa.Table]]":
    """Return each batch's rows of one range of the ring."""
    from progress_exhaust.extract.schemas import SCHEMA_OF, rows_to_table

    table, keys, tokens = what
    rows = defaultdict(list)
    for key, row in tables.scan(table, [tokens], keys):
        rows[key].append(row)
    return [(key, rows_to_table(of_batch, SCHEMA_OF[table])) for key, of_batch in rows.items()]

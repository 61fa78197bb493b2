"""One scan of a Cassandra table for all batches of a run that are better served by it."""

import json
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from progress_exhaust.operators.processes import in_processes
from progress_exhaust.operators.stage import Progress, Work

if TYPE_CHECKING:
    import pyarrow as pa
    from airflow.sdk import ObjectStoragePath

    from progress_exhaust.hooks.learner_tables import LearnerTablesHook, TokenRange
    from progress_exhaust.report.learners import BatchKey

DECIDED_FILE = "decided.json"  # in a batch's folder of a scan: whether there is one for it, and of when

Decide = Callable[[Sequence["BatchKey"]], tuple[bool, str]]


def scan_folder(work: Work, table: str, key: "BatchKey | None" = None) -> "ObjectStoragePath":
    """Return where the rows of a scan lie, of the work's batch or of another one."""
    return work.site.store().scan_folder(work.site.run_id, table, *(key or work.batch.key))


def shared_scan(work: Work, tables: "LearnerTablesHook", table: str, decide: Decide) -> bool:
    """Tell whether the batch's rows are in a scan of today; where not, its partitions are to be read.

    The batch that comes first decides for all of the run's that nothing of today is decided for, and scans for them while
    they wait.
    """
    with work.requests.alone(f"scan of {table}"):
        decided = _decided(work, scan_folder(work, table))
        if decided is None:
            others = {run.batch.key for run in work.requests.run_batches() if run.state != "done"}
            folders = {key: scan_folder(work, table, key) for key in sorted({work.batch.key, *others})}
            folders = {key: folder for key, folder in folders.items() if _decided(work, folder) is None}
            decided, reason = decide(list(folders))
            work.log.info("%s, for %d batches of this run", reason, len(folders))
            if decided:
                _scan(work, tables, table, folders)
            _decide(folders, decided)
    return decided


def forget_scans(work: Work, tables: Sequence[str]) -> None:
    """Let the batch's tables be read anew: its extract was done, and is wanted again."""
    from progress_exhaust.hooks.report_store import remove_folder

    for table in tables:
        remove_folder(scan_folder(work, table))


def _decided(work: Work, folder: "ObjectStoragePath") -> bool | None:
    """Return whether there is a scan; None where nothing of today says so."""
    path = folder / DECIDED_FILE
    decided: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    return decided["scanned"] if decided and work.is_of_today(decided["as_of"]) else None


def _decide(folders: "Mapping[BatchKey, ObjectStoragePath]", scanned: bool) -> None:
    from progress_exhaust.hooks.report_store import write_whole

    decided = json.dumps({"scanned": scanned, "as_of": datetime.now(UTC).isoformat()}).encode()
    for folder in folders.values():
        write_whole(folder / DECIDED_FILE, decided)


def _scan(work: Work, tables: "LearnerTablesHook", table: str, folders: "Mapping[BatchKey, ObjectStoragePath]") -> None:
    from progress_exhaust.hooks.report_store import make_folder, remove_folder
    from progress_exhaust.report.sorted_runs import write_runs

    for folder in folders.values():
        remove_folder(folder)
        make_folder(folder)
    ranges, keys = tables.token_ranges(table), list(folders)
    tables.close()  # the processes make connections of their own
    found = in_processes(
        scan_range,
        ((table, keys, tokens) for tokens in ranges),
        opened=work.site.learner_tables,
        processes=min(work.site.processes, len(ranges)),
        connection_ids=work.site.settings.cassandra_connections,
    )
    progress = Progress(work, f"ranges of {table} scanned", len(ranges))
    write_runs((rows for of_range in progress.of(found) for rows in of_range), folders)


def scan_range(tables: "LearnerTablesHook", what: "tuple[str, list[BatchKey], TokenRange]") -> "list[tuple[BatchKey, pa.Table]]":
    """Return each batch's rows of one range of the ring."""
    from progress_exhaust.report.learners import ROWS_OF, table_of

    table, keys, tokens = what
    rows = defaultdict(list)
    for key, row in tables.scan(table, [tokens], keys):
        rows[key].append(row)
    return [(key, table_of(of_batch, ROWS_OF[table])) for key, of_batch in rows.items()]

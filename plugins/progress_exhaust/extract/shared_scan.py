"""One scan of a table for all batches of a run: the first batch that needs the table decides and scans for all.

Each batch has a folder per table. `decision.json` in it says whether the table is scanned for the batch, and which folder
has its rows. A new scan never changes or deletes the rows of an older one: another task may be reading them.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from airflow.sdk import ObjectStoragePath
from pydantic import AwareDatetime, BaseModel, ConfigDict, ValidationError

from progress_exhaust.extract.inputs import is_recent
from progress_exhaust.extract.paths import AnyPath
from progress_exhaust.extract.scan import Share, scan_table
from progress_exhaust.hooks.cassandra.driver_errors import TOO_MUCH
from progress_exhaust.hooks.cassandra.models import BatchKey, Table
from progress_exhaust.hooks.cassandra.tables import LearnerTablesHook
from progress_exhaust.hooks.report_store import make_folder, write_atomically
from progress_exhaust.hooks.requests.models import TERMINAL_STATES
from progress_exhaust.stages.batch_context import BatchContext

DECISION_FILE = "decision.json"


@dataclass(frozen=True)
class ScanDecision:
    """Whether to scan a table, and why."""

    scan: bool
    reason: str


Decide = Callable[[Sequence[BatchKey]], ScanDecision]


class BatchScan(BaseModel):
    """How a table is read for one batch: the contents of `decision.json`."""

    model_config = ConfigDict(frozen=True)

    as_of: AwareDatetime
    reason: str
    folder_name: str | None = None  # of the batch's rows; None: the table is read by partitions
    rows: int = 0


@dataclass(frozen=True)
class SharedScan:
    """How a table is read for the batch."""

    as_of: datetime
    is_scanned: bool  # False: the table is read by partitions
    folder: AnyPath  # of the batch's rows, as sorted runs


def scan_once_per_run(
    batch_context: BatchContext, tables: LearnerTablesHook, table: Table, decide: Decide, *, share: Share
) -> SharedScan:
    """Return how the table is read for the batch; scan it if that is decided and not yet done.

    The first batch decides for all batches of the run for which nothing is decided. The others wait for it.

    :param decide: returns the decision for these batches
    :param share: the part of the stage that a scan is, as (start, end) from 0 to 1
    """
    log, own_key = batch_context.log, batch_context.batch.key
    if _find_own(batch_context, table) is None:
        log.info(
            "%s: one batch of the run decides how to read it, and scans it for all if that is faster; the others wait", table
        )
    with batch_context.locks.exclusive_lock(f"scan of {table}"):
        found = _find_own(batch_context, table)
        if found:
            log.info("%s (decided at %s)", found.reason, found.as_of.isoformat())
        else:
            keys = _undecided_batches(batch_context, table)
            decision = decide(keys)
            log.info("%s, for %d batches of this run", decision.reason, len(keys))
            found = _carry_out(batch_context, tables, table, keys, decision, share)
    folder = _folder(batch_context, table, own_key)
    return SharedScan(found.as_of, found.folder_name is not None, folder / (found.folder_name or ""))


def scanned_rows(batch_context: BatchContext, table: Table, key: BatchKey) -> int:
    """Return how many rows today's scan found for a batch of the run; 0 if there was no scan."""
    found = _find(batch_context, table, key)
    return found.rows if found else 0


def _undecided_batches(batch_context: BatchContext, table: Table) -> list[BatchKey]:
    """Return the keys of this batch, and of the other unfinished batches of the run for which nothing is decided."""
    own_key = batch_context.batch.key
    others = {run.batch.key for run in batch_context.ledger.run_batches() if run.state not in TERMINAL_STATES} - {own_key}
    return [own_key, *sorted(key for key in others if _find(batch_context, table, key) is None)]


def _carry_out(
    batch_context: BatchContext,
    tables: LearnerTablesHook,
    table: Table,
    keys: Sequence[BatchKey],
    decision: ScanDecision,
    share: Share,
) -> BatchScan:
    """Scan the table for these batches, if that is the decision; store how each is read, and return that of the first batch.

    If the cluster refuses or cannot finish the scan, the table is read by partitions.
    """
    as_of = datetime.now(UTC)
    made = {key: BatchScan(as_of=as_of, reason=decision.reason) for key in keys}
    if decision.scan:
        name = as_of.strftime("%Y-%m-%dT%H%M%S.%fZ")
        folders = {key: _folder(batch_context, table, key) / name for key in keys}
        for folder in folders.values():
            make_folder(folder)
        try:
            rows = scan_table(batch_context, tables, table, folders, share)
        except TOO_MUCH as error:
            if table is Table.ENROLMENTS:  # keyed by user: there is no other way to find a batch's enrolments
                raise
            batch_context.log.warning("%s: the scan failed, so it is read by partitions: %s", table, error)
            reason = f"{table}: by partitions, because the cluster did not finish a scan"
            made = {key: BatchScan(as_of=as_of, reason=reason) for key in keys}
        else:
            made = {key: scan.model_copy(update={"folder_name": name, "rows": rows[key]}) for key, scan in made.items()}
    for key, scan in made.items():
        write_atomically(_folder(batch_context, table, key) / DECISION_FILE, scan.model_dump_json().encode())
    return made[keys[0]]


def _find_own(batch_context: BatchContext, table: Table) -> BatchScan | None:
    """Return how the table is read for this batch; None if nothing is decided since the extract was restarted."""
    found = _find(batch_context, table, batch_context.batch.key)
    return found if found and is_recent(batch_context, found.as_of) else None


def _find(batch_context: BatchContext, table: Table, key: BatchKey) -> BatchScan | None:
    """Return how the table is read for a batch; None if nothing was decided today."""
    path = _folder(batch_context, table, key) / DECISION_FILE
    try:
        found = BatchScan.model_validate_json(path.read_bytes())
    except (FileNotFoundError, ValidationError):
        return None
    return found if batch_context.is_from_today(found.as_of) else None


def _folder(batch_context: BatchContext, table: Table, key: BatchKey) -> ObjectStoragePath:
    return batch_context.site.store().scan_folder(batch_context.site.run_id, table, *key)

"""One scan of a table for all batches of a run: the first batch that needs the table decides and scans for all.

A decision is a file `<time>.json`: whether the table is scanned, and for which batches. The folder `<time>` has the rows. A
batch that extracts again, or that a decision does not have, makes a new decision. A new scan never changes or deletes the
rows of an older one: another task may be reading them.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from airflow.sdk import ObjectStoragePath
from pydantic import AwareDatetime, BaseModel, ConfigDict, ValidationError

from progress_exhaust.extract.inputs import is_recent
from progress_exhaust.extract.scan import Share, read_by_index, scan_table
from progress_exhaust.extract.scan_files import BatchRows, BatchSize
from progress_exhaust.hooks.cassandra.driver_errors import TOO_MUCH
from progress_exhaust.hooks.cassandra.models import BatchKey, Table
from progress_exhaust.hooks.cassandra.tables import LearnerTablesHook
from progress_exhaust.hooks.report_store import make_folder, write_atomically
from progress_exhaust.hooks.requests.models import TERMINAL_STATES
from progress_exhaust.stages.batch_context import BatchContext


@dataclass(frozen=True)
class ScanDecision:
    """Whether to scan a table, and why. If it has an index for the batches, the scan may be limited to their rows."""

    scan: bool
    reason: str
    by_index: bool = False


Decide = Callable[[Sequence[BatchKey]], ScanDecision]


class StoredDecision(BaseModel):
    """How a table is read for some batches of a run: the contents of `<time>.json`."""

    model_config = ConfigDict(frozen=True)

    as_of: AwareDatetime
    reason: str
    batches: tuple[BatchKey, ...]
    files: int = 0
    sizes: tuple[BatchSize, ...] | None = None  # of each batch; None: the table is read by partitions

    @property
    def name(self) -> str:
        """Return the name of the file and of the folder."""
        return self.as_of.astimezone(UTC).strftime("%Y-%m-%dT%H%M%S.%fZ")


@dataclass(frozen=True)
class SharedScan:
    """How a table is read for the batch."""

    as_of: datetime
    is_scanned: bool  # False: the table is read by partitions
    rows: BatchRows


def scan_once_per_run(
    batch_context: BatchContext, tables: LearnerTablesHook, table: Table, decide: Decide, *, share: Share
) -> SharedScan:
    """Return how the table is read for the batch; scan it if that is decided and not yet done.

    The first batch decides for all batches of the run for which nothing is decided. The others wait for it.

    :param decide: returns the decision for these batches
    :param share: the part of the stage that a scan is, as (start, end) from 0 to 1
    """
    log = batch_context.log
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
    number = found.batches.index(batch_context.batch.key)
    size = found.sizes[number] if found.sizes else BatchSize()
    rows = BatchRows(_folder(batch_context, table) / found.name, found.files, number, size)
    return SharedScan(found.as_of, found.sizes is not None, rows)


def count_scanned_rows(batch_context: BatchContext, table: Table, keys: Collection[BatchKey]) -> int:
    """Return how many rows today's scans found for these batches of the run."""
    rows: dict[BatchKey, int] = {}
    for found in _decisions(batch_context, table):  # the newest first
        sizes = found.sizes or [BatchSize()] * len(found.batches)
        rows = {key: size.rows for key, size in zip(found.batches, sizes, strict=True)} | rows
    return sum(rows.get(key, 0) for key in keys)


def _undecided_batches(batch_context: BatchContext, table: Table) -> list[BatchKey]:
    """Return the keys of this batch, and of the other unfinished batches of the run for which nothing is decided."""
    own_key = batch_context.batch.key
    unfinished = {run.batch.key for run in batch_context.ledger.run_batches() if run.state not in TERMINAL_STATES}
    decided = {key for found in _decisions(batch_context, table) for key in found.batches}
    return [own_key, *sorted(unfinished - decided - {own_key})]


def _carry_out(
    batch_context: BatchContext,
    tables: LearnerTablesHook,
    table: Table,
    keys: Sequence[BatchKey],
    decision: ScanDecision,
    share: Share,
) -> StoredDecision:
    """Scan the table for these batches, if that is the decision; store and return how it is read.

    If the cluster refuses or cannot finish the scan, the table is read by partitions.
    """
    made = StoredDecision(as_of=datetime.now(UTC), reason=decision.reason, batches=tuple(keys))
    folder = _folder(batch_context, table)
    if decision.scan:
        make_folder(folder / made.name)
        try:
            if decision.by_index:
                files, sizes = read_by_index(batch_context, tables, keys, folder / made.name)
            else:
                files, sizes = scan_table(batch_context, tables, table, keys, folder / made.name, share)
        except TOO_MUCH as error:
            if decision.by_index:
                kind = type(error)
                raise kind(
                    f"{error}. Set read_strategy to scan in the Variable progress_exhaust: the index is then not used"
                ) from None
            if table is Table.ENROLMENTS:  # keyed by user: there is no other way to find a batch's enrolments
                raise
            batch_context.log.warning("%s: the scan failed, so it is read by partitions: %s", table, error)
            made = made.model_copy(update={"reason": f"{table}: by partitions, because the cluster did not finish a scan"})
        else:
            made = made.model_copy(update={"files": files, "sizes": tuple(sizes)})
    write_atomically(folder / f"{made.name}.json", made.model_dump_json().encode())
    return made


def _find_own(batch_context: BatchContext, table: Table) -> StoredDecision | None:
    """Return how the table is read for this batch; None if nothing is decided since the extract was restarted."""
    own_key = batch_context.batch.key
    found = next((found for found in _decisions(batch_context, table) if own_key in found.batches), None)
    return found if found and is_recent(batch_context, found.as_of) else None


def _decisions(batch_context: BatchContext, table: Table) -> Iterator[StoredDecision]:
    """Yield today's decisions, the newest first."""
    for path in sorted(_folder(batch_context, table).glob("*.json"), key=str, reverse=True):
        try:
            found = StoredDecision.model_validate_json(path.read_bytes())
        except (FileNotFoundError, ValidationError):  # another run may be deleting the folder of an ended one
            continue
        if batch_context.is_from_today(found.as_of):
            yield found


def _folder(batch_context: BatchContext, table: Table) -> ObjectStoragePath:
    return batch_context.site.store().scans_folder(batch_context.site.run_id, table)

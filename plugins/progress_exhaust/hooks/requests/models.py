"""States of requests and batches, and the rows of the ledger."""

from enum import StrEnum


class Stage(StrEnum):
    """A step of a batch; the value is the task's name."""

    LIST_BATCHES = "list_batches"
    FETCH_HIERARCHY = "fetch_hierarchy"
    EXTRACT = "extract"
    PIVOT = "pivot"
    PACKAGE = "package"
    MARK_COMPLETE = "mark_complete"


BATCH_STAGES = tuple(Stage)[1:]


class BatchState(StrEnum):
    """Where a batch of a run stands."""

    WAITING = "waiting"
    RUNNING = "running"
    DONE = "done"
    DEFERRED = "deferred"
    REJECTED = "refused"
    FAILED = "failed"


TERMINAL_STATES = frozenset({BatchState.DONE, BatchState.DEFERRED, BatchState.REJECTED})

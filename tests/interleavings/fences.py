"""The fences: the parts of the statements that keep clients from each other. Each can be removed: is that found?"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import pytest

from progress_exhaust.hooks.requests import claims as claim_hooks
from progress_exhaust.hooks.requests import endings as ending_hooks
from progress_exhaust.hooks.requests import ledger as ledger_hooks
from progress_exhaust.hooks.requests import locks as lock_hooks
from progress_exhaust.sql import claims, endings, ledger, locks, releases

NOT_RELEASED = " AND c.released_at IS NULL"
INSTALLATION = "c.installation = %(installation)s AND "


@dataclass(frozen=True)
class Fence:
    """A part of a statement, and what is there instead when it is removed.

    :param module: where the statement is
    :param statement: its name there
    """

    module: ModuleType
    statement: str
    part: str
    instead: str = ""

    @property
    def statement_name(self) -> str:
        return f"{self.module.__name__.rpartition('.')[2]}.{self.statement}"

    @property
    def is_function(self) -> bool:
        return callable(getattr(self.module, self.statement))

    def __str__(self) -> str:
        instead = f" -> {self.instead}" if self.instead else ""
        return f"{self.statement_name}: {' '.join(self.part.split())}{instead}"

    @contextmanager
    def removed(self) -> Iterator[None]:
        """Remove the fence while the block runs."""
        with pytest.MonkeyPatch.context() as patch:
            text = getattr(self.module, self.statement)
            if self.is_function:
                patch.setattr(self.module, self.statement, lambda *_, **__: None)
            else:
                assert self.part in text, self
                patch.setattr(self.module, self.statement, text.replace(self.part, self.instead))
            yield


def function(module: Any, name: str) -> Fence:
    """Return the fence that a function is."""
    return Fence(module, name, "the whole function")


# Each was removed, and the search found that.
FENCES = (
    Fence(claims, "LOCK_PENDING", " FOR UPDATE OF j SKIP LOCKED"),
    Fence(claims, "TAKE", "c.request_id = wanted.request_id AND released_at IS NULL", "false"),
    Fence(claims, "START", ", err_message = NULL, dt_job_completed = NULL"),
    Fence(locks, "LOCK_REQUEST", " FOR UPDATE"),
    Fence(locks, "LOCK_REQUESTS", " FOR UPDATE"),
    Fence(locks, "LOCK_CLAIM", " FOR SHARE"),
    Fence(locks, "LOCK_CLAIM", " AND released_at IS NULL"),
    Fence(locks, "LOCK_TASK_ATTEMPT", " FOR SHARE"),
    Fence(locks, "LOCK_TASK_ATTEMPT", "> %(task_attempt)s", "> 1000"),
    Fence(locks, "LOCK_TASK_ATTEMPT_TO_WRITE", " FOR UPDATE", " FOR SHARE"),
    Fence(locks, "LOCK_LIST_ATTEMPT", " FOR UPDATE"),
    Fence(locks, "HOLDER", " AND released_at IS NULL"),
    Fence(endings, "FAIL", NOT_RELEASED),
    Fence(endings, "SUCCEED", NOT_RELEASED),
    Fence(endings, "FAIL", " AND NOT c.failure_counted"),
    Fence(endings, "REQUEUE", NOT_RELEASED),
    Fence(endings, "RELEASE", " AND released_at IS NULL"),
    Fence(endings, "RELEASE", " OR duplicate_of = %(request_id)s"),
    Fence(releases, "COUNT_LOST_ATTEMPTS", " AND c.released_at IS NULL"),
    Fence(releases, "COUNT_LOST_ATTEMPTS", "\n  AND NOT c.failure_counted"),
    Fence(releases, "RELEASE_LOST", "released_at IS NULL AND "),
    Fence(releases, "LOCK_TO_RELEASE", "\n  AND released_at IS NULL"),
    Fence(ledger, "RECORD", "\n  AND coalesce((task_attempts->>%(stage)s)::integer, 0) <= %(task_attempt)s"),
    function(claim_hooks, "check_holder"),
    function(claim_hooks, "check_task_attempt"),
    function(claim_hooks, "lock_request"),
)  # fmt: skip

# Each was removed, and the search found nothing in 30 to 4,106 orders: a second fence did the same work, or no order has a
# situation that needs it. tests/integration/test_life.py finds some of them, step by step.
NOT_FOUND = (
    Fence(claims, "LOCK_PENDING", " SKIP LOCKED"),
    Fence(claims, "LOCK_PENDING", "installation = %(installation)s AND run_id = ANY(%(ended_runs)s)", "true"),
    Fence(claims, "LOCK_PENDING", "coalesce(iteration, 0) < {max_failures}", "true"),
    Fence(claims, "FORGET_PACKAGES", "processed_batches = NULL, download_urls = NULL", "err_message = NULL"),
    Fence(claims, "HELD", " AND c.released_at IS NULL"),
    Fence(claims, "HELD_KEYS", NOT_RELEASED),
    Fence(claims, "UNFINISHED_CLAIMS", " AND outcome <> '{outcome.RELEASED}'"),
    Fence(claims, "UNFINISHED_CLAIMS", "j.status = '{status.SUCCESS}'", "false"),
    Fence(claims, "CLAIMS_OF_BATCH", "outcome IS DISTINCT FROM '{outcome.RELEASED}'", "true"),
    Fence(claims, "CLAIMS_OF_BATCH", "later.outcome = '{outcome.SUCCESS}'", "false"),
    Fence(locks, "LOCK_REQUESTS", "\nORDER BY tag, request_id"),
    Fence(locks, "LOCK_CLAIM", "installation = %(installation)s AND "),
    Fence(locks, "LOCK_TASK_ATTEMPT_TO_WRITE", " FOR UPDATE"),
    Fence(locks, "LOCK_TASK_ATTEMPT_TO_WRITE", "> %(task_attempt)s", "> 1000"),
    Fence(locks, "LOCK_LIST_ATTEMPT", "> %(task_attempt)s", "> 1000"),
    Fence(locks, "WAIT_FOR_EXCLUSIVE_LOCK", "pg_advisory_xact_lock(hashtextextended(%(work)s, 0))", "%(work)s::text"),
    Fence(endings, "SET_PROCESSED", NOT_RELEASED),
    Fence(endings, "SET_PROCESSED", INSTALLATION),
    Fence(endings, "FAIL", INSTALLATION),
    Fence(endings, "SUCCEED", INSTALLATION),
    Fence(endings, "REQUEUE", INSTALLATION),
    Fence(endings, "RELEASE", "installation = %(installation)s AND "),
    Fence(releases, "ORPHANED", "c.installation = %(installation)s AND "),
    Fence(releases, "STILL_PUBLISHING", "  FOR UPDATE SKIP LOCKED"),
    Fence(releases, "COUNT_LOST_ATTEMPTS", "c.installation = %(installation)s AND "),
    Fence(releases, "RELEASE_LOST", "installation = %(installation)s AND "),
    Fence(releases, "FAIL_EXHAUSTED", "c.request_id = j.request_id AND released_at IS NULL", "false"),
    Fence(releases, "REQUEUE_LOST", "status = '{status.PROCESSING}' AND "),
    Fence(releases, "LOCK_TO_RELEASE", "\nFOR UPDATE SKIP LOCKED"),
    Fence(releases, "RELEASE_HELD", "\n  AND released_at IS NULL"),
    Fence(releases, "RELEASE_HELD", " AND installation = %(holder_installation)s"),
    Fence(ledger, "RECORD", "state = CASE WHEN state = '{state.DONE}' AND", "state = CASE WHEN false AND"),
    Fence(ledger, "DELETE_UNFINISHED_BATCHES", " AND state <> '{state.DONE}'"),
)  # fmt: skip

# Not removed yet.
NOT_TRIED = (
    function(claim_hooks, "check_list_attempt"),
    function(ledger_hooks, "check_list_attempt"),
    function(ledger_hooks, "check_task_attempt"),
    function(lock_hooks, "_check_attempt"),
    function(ending_hooks, "lock_request"),
)  # fmt: skip

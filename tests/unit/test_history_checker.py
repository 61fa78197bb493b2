"""The history checker accepts legal histories, and finds what is illegal in others."""

from dataclasses import replace
from typing import Any

import pytest

from tests.history.checker import check, check_end
from tests.history.events import PERSON, REQUESTER, By, Change, Commit, Event, PolicyChanged, Published, Row, Run, RunEnded

A, B = ("airflow-a", "run-1"), ("airflow-a", "run-2")
ELSEWHERE = ("airflow-b", "run-1")
NO_RUN = ("airflow-a", "")  # has a claim if a person cancels a request that no run has claimed
FILE = "progress-exhaust/r1/b1_progress_20220927.zip"
ENTRY = {"batchId": "b1", "filePath": FILE, "fileSize": 7}


class Story:
    """Writes a history: each step is one transaction on the request r1."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.row: dict[str, Any] = {
            "tag": "t", "request_id": "r1", "status": "SUBMITTED", "iteration": 0, "download_urls": None,
            "processed_batches": None, "err_message": None, "dt_job_completed": None,
        }  # fmt: skip
        self.claims: dict[Run, Row] = {}
        self.batch_runs: dict[Run, Row] = {}
        self._add(By(REQUESTER), [Change("job_request", None, dict(self.row))])

    def _add(self, by: By, changes: list[Change]) -> "Story":
        self.events.append(Commit(by, tuple(changes)))
        return self

    def change(self, by: Run | By, row: dict[str, Any] | None = None, **claims: Any) -> "Story":
        changes = []
        if row:
            changes.append(Change("job_request", dict(self.row), self.row | row))
            self.row = self.row | row
        for run, values in claims.get("claims", {}).items():
            old = self.claims.get(run)
            new = {"tag": "t", "request_id": "r1", "installation": run[0], "run_id": run[1]} | dict(old or {}) | values
            changes.append(Change("claim", old, new))
            self.claims[run] = new
        return self._add(by if isinstance(by, By) else By("run", by, 1), changes)

    def force(self, run: Run) -> "Story":
        return self.take(By("run", run, 1, frozenset({"force"})), **FORGET)

    def take(self, by: Run | By, lost: Run | None = None, **row: Any) -> "Story":
        run = by.run if isinstance(by, By) else by
        claims: dict[Run, Row] = {lost: ended("lost", counted=True)} if lost else {}
        return self.change(
            by,
            {"status": "PROCESSING", "err_message": None, "dt_job_completed": None} | row,
            claims=claims | {run: {"released_at": None, "outcome": None, "failure_counted": False, "batch_ids": ["b1"]}},
        )

    def batch(self, run: Run, attempt: int, **values: Any) -> "Story":
        """Write to the row of the batch b1 in the ledger of a run."""
        empty = {"stage": "package", "state": "waiting", "size_bytes": None, "object_key": None, "error": None}
        of = {"tag": "t", "request_id": "r1", "batch_id": "b1", "installation": run[0], "run_id": run[1], "task_attempts": {}}
        old = self.batch_runs.get(run)
        self.batch_runs[run] = of | empty | dict(old or {}) | values
        return self._add(By("run", run, attempt), [Change("batch_run", old, self.batch_runs[run])])

    def publish(self, run: Run, attempt: int = 1, sha256: str = "right", level: int = 0) -> "Story":
        self.events.append(Published(By("run", run, attempt), FILE, sha256, level))
        return self

    def succeed(self, run: Run, **row: Any) -> "Story":
        files = {"download_urls": [FILE], "processed_batches": [ENTRY]}
        return self.change(run, {"status": "SUCCESS"} | files | row, claims={run: ended("SUCCESS")})

    def fail(self, run: Run, counted: bool = True, **row: Any) -> "Story":
        more = {"iteration": self.row["iteration"] + 1} if counted else {}
        failed = {"status": "FAILED", "err_message": "b1 could not be made", "dt_job_completed": "now"}
        return self.change(run, failed | more | row, claims={run: ended("FAILED", counted=counted)})

    def cancel(self, run: Run, **row: Any) -> "Story":
        cancelled = {"status": "FAILED", "err_message": "cancelled", "dt_job_completed": "now"}
        return self.change(By(PERSON), cancelled | row, claims={run: ended("cancelled")})

    def say(self, event: Event) -> "Story":
        self.events.append(event)
        return self


def ended(outcome: str, *, counted: bool = False) -> dict[str, Any]:
    return {"released_at": "now", "outcome": outcome, "failure_counted": counted}


def claimed(run: Run = A) -> Story:
    return Story().take(run)


def made() -> Story:
    return claimed().publish(A).succeed(A)


def problems(story: Story) -> list[str]:
    return check(story.events, expected={FILE: "right"})


FORGET = {"download_urls": None, "processed_batches": None}
LEGAL = {
    "a request is made": made(),
    "it fails, and the next run makes it": claimed().fail(A).take(B).publish(B).succeed(B),
    "it fails with a permanent error, which counts no attempt": claimed().fail(A, counted=False),
    "its run ends, and the next one of the installation takes it": claimed().say(RunEnded(A)).take(B, lost=A, iteration=1),
    "a forced run makes it again": made().force(B).publish(B).succeed(B),
    "a cleared stage makes it again": made().take(A).publish(A).succeed(A),
    "a person releases it, and another installation takes it": claimed(ELSEWHERE)
    .change(By(PERSON), {"status": "SUBMITTED"}, claims={ELSEWHERE: ended("released")})
    .take(A),
    "a run releases it on behalf of a person": claimed(ELSEWHERE).change(
        By("run", A, 1, frozenset({"release_claims"})), {"status": "SUBMITTED"}, claims={ELSEWHERE: ended("released")}
    ),
    "a person cancels it": claimed().cancel(A),
    "a person cancels it before a run takes it": Story().cancel(NO_RUN),
    "a person cancels what a limit put back": claimed()
    .change(A, {"status": "SUBMITTED"}, claims={A: ended("SUBMITTED")})
    .cancel(A),
    "a cancelled request is submitted again": claimed().cancel(A).change(By(REQUESTER), {"status": "SUBMITTED"}).take(B).fail(B),
    "a cancelled request is made with force": Story().cancel(NO_RUN).force(A).publish(A).succeed(A),
    "a cancel gives its duplicate back": claimed()
    .change(By(PERSON), {"status": "SUBMITTED"}, claims={A: ended("released")})
    .take(B),
    "a limit defers it": claimed().change(A, {"status": "SUBMITTED"}, claims={A: ended("SUBMITTED")}).take(B),
    "the requester submits it again": claimed().fail(A).change(By(REQUESTER), {"status": "SUBMITTED"}).take(B),
    "the newest attempt publishes": claimed().batch(A, 2, task_attempts={"package": 2}).publish(A, 2).succeed(A),
    "a stricter policy, and a stronger file": claimed().say(PolicyChanged(1)).publish(A).succeed(A),
}


@pytest.mark.parametrize("name", LEGAL)
def test_legal_history_has_no_problem(name: str) -> None:
    assert problems(LEGAL[name]) == []


ILLEGAL = {
    "is held by 2 runs": claimed().take(B),
    "is lost, and the run has not ended": claimed().say(RunEnded(ELSEWHERE)).take(B, lost=A, iteration=1),
    "of ('airflow-b', 'run-1') on request r1 is changed by another run": claimed(ELSEWHERE)
    .say(RunEnded(ELSEWHERE))
    .take(A, lost=ELSEWHERE, iteration=1),
    "is released without a person": claimed(ELSEWHERE).change(A, {"status": "SUBMITTED"}, claims={ELSEWHERE: ended("released")}),
    "is cancelled without a person": claimed()
    .fail(A, counted=False)
    .take(A)
    .change(A, {"status": "FAILED", "err_message": "cancelled"}, claims={A: ended("cancelled")}),
    "is cancelled, and no claim says so": Story().change(By(PERSON), {"status": "FAILED", "err_message": "cancelled"}),
    "iteration of request r1 changes by 3, and 0 runs have failed": claimed().cancel(A, iteration=3),
    "is cancelled, and is tried again": Story().cancel(NO_RUN).take(A),
    "the claim of ('airflow-a', 'run-1') on request r1 is changed, not by a run": claimed()
    .publish(A)
    .succeed(A)
    .change(By(PERSON), claims={A: ended("cancelled")}),
    "goes from SUBMITTED to FAILED": Story().change(A, {"status": "FAILED", "err_message": "cancelled"}),
    "is changed, not by a run": claimed().change(By(REQUESTER), claims={A: {"batch_ids": []}}),
    "the claim on request r1 is changed, and is not live": claimed().fail(A).change(A, claims={A: {"batch_ids": []}}),
    "has the outcome None": claimed().change(A, {"status": "SUBMITTED"}, claims={A: {"released_at": "now"}}),
    "is changed without a claim": claimed().change(B, {"err_message": "mine"}),
    "is changed, and no run holds it": made().change(By(), {"err_message": "mine"}),
    "is PROCESSING, and is held by []": claimed().change(A, claims={A: ended("FAILED")}),
    "goes from SUBMITTED to SUCCESS": Story().change(
        A, {"status": "SUCCESS", "download_urls": [FILE], "processed_batches": [ENTRY]}
    ),
    "and its claim ends as ['SUBMITTED']": claimed()
    .publish(A)
    .change(A, {"status": "SUCCESS", "download_urls": [FILE], "processed_batches": [ENTRY]}, claims={A: ended("SUBMITTED")}),
    "changes by 2": claimed().fail(A, iteration=2),
    "changes by 1, and 0 runs have failed": claimed().publish(A).succeed(A, iteration=1),
    "counts a failure of [('airflow-a', 'run-1')] again": claimed().fail(A).take(A).fail(A),
    "does not count the failure": claimed().fail(A, iteration=0),
    "is FAILED without a reason": claimed().fail(A, err_message=None),
    "is tried again after 3 failures": claimed()
    .fail(A, iteration=1)
    .take(B)
    .fail(B)
    .take(ELSEWHERE)
    .fail(ELSEWHERE)
    .take(("airflow-a", "run-3")),
    "is SUCCESS, and is claimed without force": made().take(B),
    "request r1 is SUCCESS, and is claimed without force": made().take(B, **FORGET),
    "still has an earlier outcome": claimed().fail(A).take(B, err_message="b1 could not be made"),
    "is submitted again although it is SUCCESS": made().change(By(REQUESTER), {"status": "SUBMITTED"}),
    "lists [], and its finished batches have": claimed().publish(A).fail(A, processed_batches=[ENTRY]),
    "is SUCCESS without a file": claimed().succeed(A, **FORGET),
    "lacks batches without a message": claimed().change(A, claims={A: {"batch_ids": ["b1", "b2"]}}).publish(A).succeed(A),
    "is SUCCESS with the message 'left over'": claimed().publish(A).succeed(A, err_message="left over"),
    "zip does not exist": claimed().succeed(A),
    "is older than the forced claim": made().force(B).succeed(B),
    "has wrong bytes": claimed().publish(A, sha256="wrong").succeed(A),
    "is published without a claim": claimed().fail(A).publish(A),
    "is weaker than the policy": Story().say(PolicyChanged(1)).take(A).publish(A),
    "is published by an attempt older than 2": claimed().batch(A, 2, task_attempts={"package": 2}).publish(A, 1),
    "package is changed by an attempt older than 2": claimed()
    .batch(A, 2, task_attempts={"package": 2})
    .batch(A, 1, state="failed"),
    "an older attempt counts as the newest": claimed()
    .batch(A, 2, task_attempts={"package": 2})
    .batch(A, 2, task_attempts={"package": 1}),
    "was done, and is failed": claimed().batch(A, 1, state="done", object_key=FILE).batch(A, 1, state="failed"),
    "is done in a run that does not hold the request": claimed().fail(A).batch(A, 1).batch(A, 1, state="done"),
}


@pytest.mark.parametrize("message", ILLEGAL)
def test_illegal_history_is_found(message: str) -> None:
    assert [one for one in problems(ILLEGAL[message]) if message in one], problems(ILLEGAL[message])


def test_run_that_changes_the_ledger_of_another_run_is_found() -> None:
    story = claimed().batch(A, 1).batch(A, 1, state="running")
    last = story.events[-1]
    assert isinstance(last, Commit) and problems(story) == []
    story.events[-1] = replace(last, by=By("run", B, 1))
    assert problems(story) == [f"event 4, {By('run', B, 1)}: batch b1 of request r1 in {A} is changed by another run"]


def test_history_may_start_in_the_middle() -> None:
    story = made()
    assert check(story.events[3:]) == []


def test_what_is_left_at_the_end_is_found() -> None:
    assert check_end(made().events) == []
    assert check_end(claimed().events) == ["request r1 is PROCESSING", f"request r1 is held by {A}"]


def test_a_transaction_counts_as_a_whole() -> None:
    """Two runs hold the request between two statements of a transaction, and not after it."""
    story = claimed().say(RunEnded(A)).take(B, lost=A, iteration=1)
    last = story.events[-1]
    assert isinstance(last, Commit)
    story.events[-1] = replace(last, changes=last.changes[::-1])
    assert problems(story) == []

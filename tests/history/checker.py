"""Decide whether a history of requests is legal.

The rules are those of section 5 of the specification, and of docs/concepts/request-life.md and claims.md. This file is written
from them alone. It imports nothing of the package, so it can be wrong in other places than the package is.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from tests.history.events import (
    PERSON,
    REQUESTER,
    By,
    Change,
    Commit,
    Event,
    Key,
    PolicyChanged,
    Published,
    Row,
    Run,
    RunEnded,
    key_of,
    run_of,
    run_of_row,
    whole_changes,
)

MOST_FAILURES = 3
# What a run, or a program of ours, may do to the status of a row that exists.
TRANSITIONS = {
    ("SUBMITTED", "PROCESSING"),
    ("FAILED", "PROCESSING"),
    ("SUCCESS", "PROCESSING"),
    ("PROCESSING", "PROCESSING"),
    ("PROCESSING", "SUCCESS"),
    ("PROCESSING", "FAILED"),
    ("PROCESSING", "SUBMITTED"),
}
# The outcome of the claim that ends with the row's new status.
OUTCOMES = {
    "SUCCESS": {"SUCCESS"},
    "FAILED": {"FAILED", "lost", "cancelled"},
    "SUBMITTED": {"SUBMITTED", "lost", "released"},
}
BY_A_PERSON = {"released", "cancelled"}
CANCELLED = ("SUBMITTED", "FAILED")  # a request that no run holds


def check(events: Iterable[Event], *, expected: Mapping[str, str] | None = None) -> list[str]:
    """Return what is illegal in a history, as messages; none if it is legal.

    :param expected: the sha256 of each file that a request may name; None if the history has no files
    """
    checker = Checker(expected)
    for number, event in enumerate(events, start=1):
        checker.number = number
        checker.follow(event)
    return checker.problems


def check_end(events: Iterable[Event]) -> list[str]:
    """Return what no run may leave when all have ended: a request without an outcome, or a claim."""
    checker = Checker(None)
    for event in events:
        checker.follow(event)
    stuck = [f"{name(key)} is PROCESSING" for key, row in checker.rows.items() if row["status"] == "PROCESSING"]
    return stuck + [f"{name(key)} is held by {run}" for key in checker.claims for run in sorted(checker.live(key))]


class Checker:
    """What is known about the requests after a part of the history."""

    def __init__(self, expected: Mapping[str, str] | None) -> None:
        self.expected = expected
        self.number = 0
        self.problems: list[str] = []
        self.rows: dict[Key, Row] = {}
        self.claims: dict[Key, dict[Run, Row]] = {}
        self.batch_runs: dict[tuple[Any, ...], Row] = {}
        self.counted: set[tuple[Key, Run]] = set()  # failed attempts that iteration has counted
        self.ended: set[Run] | None = None  # runs that Airflow calls ended; None if the history does not say
        self.published: dict[str, tuple[int, Published]] = {}
        self.forgotten: dict[Key, int] = {}  # when a forced claim forgot the packages of a request
        self.policy = 0
        self.policy_of: dict[Run, int] = {}  # the policy when a run claimed its newest request

    def follow(self, event: Event) -> None:
        if isinstance(event, Commit):
            self.commit(event)
        elif isinstance(event, Published):
            self.publish(event)
        elif isinstance(event, RunEnded):
            self.ended = (self.ended or set()) | {event.run}
        elif isinstance(event, PolicyChanged):
            self.policy = event.level

    def say(self, text: str, by: By) -> None:
        self.problems.append(f"event {self.number}, {by}: {text}")

    def live(self, key: Key) -> set[Run]:
        return {run for run, claim in self.claims.get(key, {}).items() if claim["released_at"] is None}

    # Transactions

    def commit(self, commit: Commit) -> None:
        changed = whole_changes(commit.changes)
        for change in changed:  # the history may start after the rows
            if change.old is not None:
                self.apply(Change(change.table, None, change.old))
        before_rows, before_claims = dict(self.rows), {key: dict(claims) for key, claims in self.claims.items()}
        before_live = {key: self.live(key) for key in self.claims}
        for change in changed:
            self.apply(change)
        for key in dict.fromkeys(key_of(change) for change in changed if change.table != "batch_run"):
            old_live = before_live.get(key, set())
            self.check_claims(key, before_claims.get(key, {}), commit.by)
            self.check_row(key, before_rows.get(key), before_claims.get(key, {}), old_live, commit.by)
        for change in changed:
            if change.table == "batch_run":
                self.check_batch_run(change, before_live.get(key_of(change), set()), commit.by)

    def apply(self, change: Change) -> None:
        key, row = key_of(change), change.new
        rows: dict[Any, Row] = self.rows
        place: Any = key
        if change.table == "claim":
            rows, place = self.claims.setdefault(key, {}), run_of(change)
            if change.old is not None and run_of_row(change.old) != place:
                rows.pop(run_of_row(change.old), None)  # an installation has adopted a claim of an earlier version
        elif change.table == "batch_run":
            rows, place = self.batch_runs, (*key, *run_of(change), (change.new or change.old or {})["batch_id"])
        if row is None:
            rows.pop(place, None)
        else:
            rows[place] = row

    def check_claims(self, key: Key, before: Mapping[Run, Row], by: By) -> None:
        """Check who takes, changes and releases a claim."""
        live = self.live(key)
        if len(live) > 1:
            self.say(f"{name(key)} is held by {len(live)} runs: {sorted(live)}", by)
        for run, claim in self.claims.get(key, {}).items():
            old = before.get(run)
            if old == claim:
                continue
            held, holds = old is not None and old["released_at"] is None, claim["released_at"] is None
            if holds and not held:
                self.policy_of[run] = self.policy
            if holds == bool(claim["outcome"]):
                self.say(f"the claim of {run} on {name(key)} has the outcome {claim['outcome']}", by)
            outcome = claim["outcome"]
            if held and not holds and outcome == "lost" and self.ended is not None and run not in self.ended | {by.run}:
                self.say(f"the claim of {run} on {name(key)} is lost, and the run has not ended", by)
            is_released = "release_claims" in by.params and held and outcome == "released" and run[0] != by.run[0]
            if by.kind == "run" and run != by.run and not is_released:
                is_lost = held and not holds and outcome == "lost"
                if not (is_lost and run[0] == by.run[0]):
                    self.say(f"the claim of {run} on {name(key)} is changed by another run", by)
            elif by.kind == "run" and not held and not holds:
                self.say(f"the claim on {name(key)} is changed, and is not live", by)
            elif by.kind == REQUESTER or (by.kind == PERSON and not held and (holds or not self.is_cancel(key, old, claim))):
                self.say(f"the claim of {run} on {name(key)} is changed, not by a run", by)
            if by.kind == "run" and outcome in BY_A_PERSON and held and not is_released:
                self.say(f"the claim of {run} on {name(key)} is {outcome} without a person", by)

    def is_cancel(self, key: Key, old: Row | None, claim: Row) -> bool:
        """Tell whether a claim that has ended becomes the trace of a cancel: one of a run, or one of the person without a run."""
        if claim["outcome"] != "cancelled" or self.rows[key]["status"] != "FAILED":
            return False
        return not claim["run_id"] if old is None else old["outcome"] != "SUCCESS"

    # Rows of job_request

    def check_row(self, key: Key, old: Row | None, claims: Mapping[Run, Row], old_live: set[Run], by: By) -> None:
        new, live = self.rows.get(key), self.live(key)
        if new is None:
            return  # the row was deleted, or never existed: nothing is promised about it
        if old is None or by.kind == REQUESTER:
            self.check_requester(key, old, new, by)
            return
        released = {run: self.claims[key][run] for run in old_live - live if run in self.claims[key]}
        status = old["status"], new["status"]
        if bool(live) != (new["status"] == "PROCESSING") and (old_live or live or old != new):
            self.say(f"{name(key)} is {new['status']}, and is held by {sorted(live)}", by)
        if old == new:
            return
        if by.kind == "run":
            theirs = {run for run in old_live | live if run == by.run or (run[0] == by.run[0] and run in released)}
            theirs |= {run for run, claim in released.items() if "release_claims" in by.params and claim["outcome"] == "released"}
            if not theirs:
                self.say(f"{name(key)} is changed without a claim, held by {sorted(old_live)}", by)
        is_cancelled = status == CANCELLED and by.kind in ("", PERSON)
        if not by.kind and not (old_live or live) and not is_cancelled:
            self.say(f"{name(key)} is changed, and no run holds it", by)
        if status[0] != status[1] and status not in TRANSITIONS and not is_cancelled:
            self.say(f"{name(key)} goes from {status[0]} to {status[1]}", by)
        if status[1] != "PROCESSING" and status[0] == "PROCESSING":
            outcomes = {str(claim["outcome"]) for claim in released.values()}
            if not outcomes or outcomes - OUTCOMES[status[1]]:
                self.say(f"{name(key)} becomes {status[1]}, and its claim ends as {sorted(outcomes)}", by)
        if is_cancelled and not any(
            claim["outcome"] == "cancelled" and claim != claims.get(run) for run, claim in self.claims.get(key, {}).items()
        ):
            self.say(f"{name(key)} is cancelled, and no claim says so", by)
        self.check_failures(key, old, new, claims, released, by)
        if live - old_live:
            self.check_taken(key, old, new, claims, live - old_live, by)
        self.check_files(key, new, by)

    def check_requester(self, key: Key, old: Row | None, new: Row, by: By) -> None:
        """Check the steps of the API: a new request, and a FAILED one that is submitted again."""
        if by.kind == REQUESTER and old is not None:
            if (old["status"], new["status"]) != ("FAILED", "SUBMITTED"):
                self.say(f"{name(key)} is submitted again although it is {old['status']}", by)
            if self.live(key):
                self.say(f"{name(key)} is submitted again while a run holds it", by)

    def check_failures(
        self, key: Key, old: Row, new: Row, claims: Mapping[Run, Row], released: Mapping[Run, Row], by: By
    ) -> None:
        """Check iteration: one more for a run that failed or was lost, once per run."""
        more = (new["iteration"] or 0) - (old["iteration"] or 0)
        failed = {run for run, claim in released.items() if claim["outcome"] in ("FAILED", "lost")}
        counted = {run for run in failed if (key, run) in self.counted or claims[run].get("failure_counted")}
        if more not in (0, 1) or (more and not failed):
            self.say(f"iteration of {name(key)} changes by {more}, and {len(failed)} runs have failed", by)
        elif more and failed == counted:
            self.say(f"iteration of {name(key)} counts a failure of {sorted(failed)} again", by)
        elif not more and any(released[run].get("failure_counted") for run in failed - counted):
            self.say(f"iteration of {name(key)} does not count the failure of {sorted(failed - counted)}", by)
        if more:
            self.counted |= {(key, run) for run in failed}
        if new["status"] == "FAILED" and not new["err_message"]:
            self.say(f"{name(key)} is FAILED without a reason", by)

    def check_taken(self, key: Key, old: Row, new: Row, claims: Mapping[Run, Row], taken: set[Run], by: By) -> None:
        """Check a new claim: whose request it may take."""
        forgets = not new["download_urls"] and not new["processed_batches"]
        forced = forgets and (not by.kind or "force" in by.params)
        again = bool(taken & claims.keys())  # an engineer has cleared a task of the run
        newest = max(claims.values(), key=lambda claim: str(claim.get("claimed_at") or ""), default=None)
        if old["status"] == "FAILED" and newest and newest["outcome"] == "cancelled" and not forced:
            self.say(f"{name(key)} is cancelled, and is tried again", by)
        if old["status"] == "FAILED" and (old["iteration"] or 0) >= MOST_FAILURES and not forced and not again:
            self.say(f"{name(key)} is tried again after {old['iteration']} failures", by)
        if old["status"] == "SUCCESS" and not forced and not again:
            self.say(f"{name(key)} is SUCCESS, and is claimed without force", by)
        if forgets and old["download_urls"]:
            self.forgotten[key] = self.number
        if new["err_message"] is not None or new["dt_job_completed"] is not None:
            self.say(f"{name(key)} is claimed, and still has an earlier outcome", by)
        for one in claims.keys() - taken:
            if claims[one]["released_at"] is None and one[0] not in {run[0] for run in taken}:
                self.say(f"{name(key)} is taken from {one}, of another installation", by)

    def check_files(self, key: Key, row: Row, by: By) -> None:
        """Check the files that a row names."""
        urls, entries = list(row["download_urls"] or []), list(row["processed_batches"] or [])
        files = [entry["filePath"] for entry in entries if str(entry.get("filePath", "")).endswith(".zip")]
        if sorted(urls) != sorted(files) or len(set(urls)) != len(urls):
            self.say(f"{name(key)} lists {urls}, and its finished batches have {files}", by)
        if row["status"] != "SUCCESS":
            return
        if not urls:
            self.say(f"{name(key)} is SUCCESS without a file", by)
        message = row["err_message"] or ""
        wanted = {str(one) for claim in self.claims.get(key, {}).values() for one in claim.get("batch_ids") or ()}
        if not message and wanted and wanted - {str(entry.get("batchId")) for entry in entries}:
            self.say(f"{name(key)} is SUCCESS, and lacks batches without a message", by)
        if message and not message.startswith("Made "):
            self.say(f"{name(key)} is SUCCESS with the message {message!r}", by)
        if self.expected is not None:
            for url in urls:
                self.check_file(key, url, by)

    def check_file(self, key: Key, url: str, by: By) -> None:
        number, file = self.published.get(url, (0, None))
        if file is None:
            self.say(f"{name(key)} is SUCCESS, and {url} does not exist", by)
        elif number < self.forgotten.get(key, 0):
            self.say(f"{name(key)} is SUCCESS, and {url} is older than the forced claim", by)
        elif self.expected and file.sha256 != self.expected.get(url):
            self.say(f"{name(key)} is SUCCESS, and {url} has wrong bytes", by)

    # Batches and files

    def check_batch_run(self, change: Change, old_live: set[Run], by: By) -> None:
        """Check that a run changes its own rows only, and that only the newest attempt of a task does."""
        old, new, key, run = change.old, change.new, key_of(change), run_of(change)
        if by.kind != "run" or not key[1]:
            return  # a standalone run has no request
        batch = f"batch {(new or old or {})['batch_id']} of {name(key)}"
        if run != by.run and not (old is not None and old["installation"] == ""):
            self.say(f"{batch} in {run} is changed by another run", by)
        if new is None or old is None:
            return
        written = {name for name in ("stage", "state", "size_bytes", "object_key", "error") if old[name] != new[name]}
        stage = "package" if written == {"size_bytes"} else new["stage"]  # before it publishes
        newest = int(old["task_attempts"].get(stage, 0))
        if written and newest > by.task_attempt:
            self.say(f"{batch}: {stage} is changed by an attempt older than {newest}", by)
        if any(int(new["task_attempts"].get(stage, 10**6)) < int(n) for stage, n in old["task_attempts"].items()):
            self.say(f"{batch}: an older attempt counts as the newest", by)
        if (old["state"], new["state"]) == ("done", "failed"):
            self.say(f"{batch} was done, and is failed", by)
        if new["state"] == "done" and not old["object_key"] and run not in old_live:
            self.say(f"{batch} is done in a run that does not hold the request", by)

    def publish(self, file: Published) -> None:
        """Check that the publisher holds the request, and that it is the newest attempt."""
        request_id, batch_id = file.key.split("/")[1], file.key.split("/")[2].partition("_progress_")[0]
        keys = [key for key in self.rows if key[1] == request_id]
        if not any(file.by.run in self.live(key) for key in keys):
            self.say(f"{file.key} is published without a claim", file.by)
        for (_, request, *run, batch), row in self.batch_runs.items():
            newest = int(row["task_attempts"].get("package", 0))
            if (request, tuple(run), batch) == (request_id, file.by.run, batch_id) and newest > file.by.task_attempt:
                self.say(f"{file.key} is published by an attempt older than {newest}", file.by)
        if file.level < self.policy_of.get(file.by.run, 0):
            self.say(f"{file.key} is weaker than the policy", file.by)
        self.published[file.key] = self.number, file


def name(key: Key) -> str:
    return f"request {key[1]}"

"""The life of a request: random steps of several runs on the real tables, compared with a model.

The model knows the rules of the specification and no SQL. After each step the tables must say what it says, no request is
held twice, a finished row changed only where it may, and no other report's row changed at all.
"""

import json
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from progress_exhaust.errors import ClaimLostError, ConflictError, SourceError
from progress_exhaust.hooks.requests.models import Ended
from progress_exhaust.hooks.requests.outcomes import LAST_ATTEMPT, NOT_LISTED, TRIED_AGAIN
from progress_exhaust.hooks.requests.releases import CANCELLED, LOST_TOO_OFTEN
from progress_exhaust.report.plan import duplicates
from progress_exhaust.report.request import JobRequest
from progress_exhaust.sql import claims, endings, releases
from tests.integration.life import (
    DAY,
    ELSEWHERE,
    LEDGER,
    RunHook,
    batch_of,
    chosen,
    database_of_requests,
    holders,
    hook_of,
    insert,
    name_of,
    row_of,
    whole_rows,
)

# Two installations, which have a run with the same id.
RUNS = ["run-1", "run-2", "run-3", "elsewhere:run-1", "elsewhere:run-4"]
# What a request asks for. Two requests of one kind are duplicates.
KINDS = {"two": ("b1", "b2"), "one": ("b3",)}
MOST_REQUESTS = 4
OTHERS = [("userinfo-exhaust", "SUBMITTED"), ("response-exhaust", "FAILED"), ("progress-exhaust-v2", "PROCESSING")]
BROKEN = "it broke"

Key = tuple[str, str]


@dataclass
class Claim:
    """What one run has, or had, to do with one request."""

    live: bool = True
    outcome: str | None = None
    duplicate_of: str | None = None
    claimed_at: int = 0  # in steps of the request's life
    released_at: int = 0


@dataclass
class Request:
    """A request as it ought to be."""

    key: Key
    kind: str
    iteration_at_first: int
    status: str = "SUBMITTED"
    done: set[str] = field(default_factory=set)  # batches in processed_batches
    has_urls: bool = False
    made_by: str = ""  # the last run that brought it to SUCCESS
    message: str | None = None
    claims: dict[str, Claim] = field(default_factory=dict)  # by run
    rejected: bool = False  # the last run ended it with a permanent error
    failed_in: set[str] = field(default_factory=set)  # runs that failed with it or died over it, each once
    steps: int = 0

    @property
    def holder(self) -> str | None:
        return next((run for run, claim in self.claims.items() if claim.live), None)

    @property
    def iteration(self) -> int:
        return self.iteration_at_first + len(self.failed_in)

    @property
    def ended(self) -> bool:
        return self.status in ("SUCCESS", "FAILED")

    def take(self, run: str) -> None:
        claim = self.claims.setdefault(run, Claim())
        self.steps += 1
        claim.live, claim.outcome, claim.claimed_at = True, None, self.steps
        self.status, self.message, self.rejected = "PROCESSING", None, False

    def release(self, run: str, outcome: str) -> None:
        claim = self.claims[run]
        self.steps += 1
        claim.live, claim.outcome, claim.released_at = False, outcome, self.steps

    def cancel(self, person: str) -> str:
        """Return whose claim says that it is cancelled: the newest one, or the person's if that one is a success."""
        self.status, self.message = "FAILED", CANCELLED
        newest = max(self.claims, key=lambda run: self.claims[run].claimed_at, default=None)
        if newest is None or self.claims[newest].outcome == "SUCCESS":
            newest = person
            self.take(person)
            self.status, self.message = "FAILED", CANCELLED
        self.release(newest, "cancelled")
        return newest

    @property
    def is_cancelled(self) -> bool:
        newest = max(self.claims.values(), key=lambda claim: claim.claimed_at, default=None)
        return newest is not None and newest.outcome == "cancelled"

    def may_have_again(self, run: str) -> bool:
        """Tell whether the claim of a run was neither released by a person, nor released before the request was cancelled."""
        claim = self.claims[run]
        since = [one for one in self.claims.values() if one.outcome == "cancelled" and one.released_at >= claim.released_at]
        return claim.live or (claim.outcome != "released" and not since)


requests = st.integers(0, MOST_REQUESTS - 1)
runs = st.sampled_from(RUNS)


class Life(RuleBasedStateMachine):
    cursor: Any  # on the database that the hooks connect to; set by the fixture

    @initialize()
    def begin(self) -> None:
        self.cursor.execute(f"DELETE FROM job_request; DELETE FROM {LEDGER}.claim; DELETE FROM {LEDGER}.batch_run")
        for number, (job_id, status) in enumerate(OTHERS):
            insert(self.cursor, f"other{number}", job_id=job_id, status=status)
        self.others = whole_rows(self.cursor)
        self.model: dict[Key, Request] = {}  # the oldest first
        self.over: set[str] = set()  # runs that Airflow says have ended
        self.ledger: defaultdict[tuple[str, Key], dict[str, str]] = defaultdict(dict)  # of a run's request: batch to state
        self.before: dict[Key, tuple[bool, str]] = {}  # whether it had ended, and its whole row
        self.may_change: set[Key] = set()  # finished rows that the last step was allowed to change
        self.unlisted: set[tuple[str, Key]] = set()  # a run's requests that were cancelled, until it lists them again

    # The exhaust API

    @precondition(lambda self: len(self.model) < MOST_REQUESTS)
    @rule(kind=st.sampled_from(list(KINDS)), iteration=st.sampled_from([None, 0, 2, 3]), left=st.sampled_from(["", "zip", "csv"]))
    def submit(self, kind: str, iteration: int | None, left: str) -> None:
        """A new request, or one that the incumbent did not finish, with batches that it finished or only wrote the csv of."""
        number = len(self.model)
        leftover = [entry(KINDS[kind][0], left)] if left else None
        key = insert(
            self.cursor,
            f"r{number}",
            minutes=number,
            iteration=iteration,
            request_data=json.dumps({"batchFilter": KINDS[kind]}),
            processed_batches=leftover and json.dumps(leftover),
        )
        self.model[key] = Request(key, kind, iteration or 0, done=set(KINDS[kind][:1]) if left == "zip" else set())

    @precondition(lambda self: self.model)
    @rule(which=requests)
    def resubmit(self, which: int) -> None:
        request = self.pick(which)
        self.cursor.execute(
            "UPDATE job_request SET status = 'SUBMITTED', dt_job_submitted = dt_job_submitted "
            "WHERE tag = %s AND request_id = %s AND status = 'FAILED'",
            request.key,
        )
        if request.status == "FAILED":
            request.status = "SUBMITTED"
            self.may_change.add(request.key)

    # A run's tasks

    @rule(run=runs, named=st.none() | st.sets(requests, min_size=1), force=st.booleans(), most=st.sampled_from([1, 2, 100]))
    def claim(self, run: str, named: set[int] | None, force: bool, most: int) -> None:
        """A run's first task. Cleared in a run that has ended, it makes the run live again."""
        self.over.discard(run)
        hook = hook_of(run)
        holding = {request.holder for request in self.model.values() if self.is_of_same_installation(run, request.holder)} - {run}
        assert set(hook.holding_runs()) == {str(one).removeprefix(ELSEWHERE) for one in holding}
        ended_runs = sorted(str(one) for one in holding & self.over)
        ids = [f"r{number}" for number in sorted(named or [])]
        own_ids = [one.removeprefix(ELSEWHERE) for one in ended_runs]
        selection = chosen(most=most, request_ids=ids, force=force, ended_runs=own_ids)
        pending = [one for one in self.model.values() if self.is_pending(one, ids, force, ended_runs)]
        pending.sort(key=lambda one: one.status == "FAILED")  # new requests of an org come before those that failed
        assert hook.count_pending(selection) == len(pending)
        assert [one.key for one in hook.pending(selection)] == [one.key for one in pending[:most]]
        for request in pending[:most]:
            if request.ended:
                assert force or request.iteration < 3
                self.may_change.add(request.key)
            died = request.holder
            if died:
                request.failed_in.add(died)
                request.release(died, "lost")
                if request.iteration >= 3:
                    request.status, request.message = "FAILED", LOST_TOO_OFTEN
                    continue
            request.take(run)
            if force:
                request.done, request.has_urls = set(), False
        self.agree_on_held(run, hook.claim(selection).requests)

    @rule(run=runs)
    def resume(self, run: str) -> None:
        """A run is cleared: it reclaims what it left unfinished, and learns who holds the rest."""
        self.over.discard(run)
        lost = {one.request_id: name_of(one.installation, one.run_id) for one in hook_of(run).reclaim_unfinished()}
        assert lost == self.model_reclaim(run)

    @precondition(lambda self: self.model)
    @rule(run=runs, which=requests)
    def release(self, run: str, which: int) -> None:
        """A person lets an installation release what the other one holds."""
        request = self.pick(which)
        for holder in hook_of(run).holders([request.key[1]]):
            assert holder.is_ours == self.is_of_same_installation(run, request.holder)
            if not holder.is_ours:
                assert request.holder == name_of(holder.installation, holder.run_id)
                assert hook_of(run).release(holder)
                request.release(request.holder, "released")
                request.status = "SUBMITTED"

    @precondition(lambda self: self.model)
    @rule(run=runs, which=requests)
    def cancel(self, run: str, which: int) -> None:
        """A person cancels a request in the installation of a run."""
        request = self.pick(which)
        person = hook_of(ELSEWHERE if run.startswith(ELSEWHERE) else "")
        held_here = self.is_of_same_installation(run, request.holder)
        if request.ended or (request.holder and not held_here):
            before = whole_rows(self.cursor), holders(self.cursor)
            with suppress(ConflictError):
                person.cancel(request.key)
                raise AssertionError("a request was cancelled that has ended, or that another installation holds")
            assert (whole_rows(self.cursor), holders(self.cursor)) == before
            return
        holder = request.holder
        person.cancel(request.key)
        self.unlisted.add((request.cancel(ELSEWHERE if run.startswith(ELSEWHERE) else ""), request.key))
        for one in self.model.values():
            if holder and self.is_duplicate(holder, one, request):
                one.release(holder, "released")
                one.claims[holder].duplicate_of = None
                one.status = "SUBMITTED"

    @rule(run=runs, deferred=st.integers(0, 1), again=st.booleans(), refuse=st.sampled_from([False, False, True]))
    def list_batches(self, run: str, deferred: int, again: bool, refuse: bool) -> None:
        """again: with force, finished batches are made again; refuse: no request can be met."""
        self.over.discard(run)
        hook = hook_of(run)
        self.model_reclaim(run)
        held = hook.requests_to_list()
        self.agree_on_held(run, held)
        self.unlisted -= {(run, row.key) for row in held}
        first_of: dict[str, str] = {}
        for row in held:
            request = self.model[row.key]
            first = first_of.setdefault(request.kind, request.key[1])
            request.claims[run].duplicate_of = None if first == request.key[1] else first
        to_make, to_defer, refused, made = [], [], [], []
        for row in held:
            request = self.model[row.key]
            if request.claims[run].duplicate_of:
                continue
            assert set(row.finished()) == request.done
            missing = [one for one in KINDS[request.kind] if again or one not in request.done]
            if refuse:
                refused.append(row)
            elif not missing:
                made.append(row)
            else:
                cut = max(len(missing) - deferred, 0)
                to_make += [batch_of(row.key, one) for one in missing[:cut]]
                to_defer += [batch_of(row.key, one) for one in missing[cut:]]
                states = self.ledger[run, row.key]
                self.ledger[run, row.key] = {one: state for one, state in states.items() if state == "done"}
                self.ledger[run, row.key] |= dict.fromkeys(missing[:cut], "waiting") | dict.fromkeys(missing[cut:], "deferred")
        no_hope = [(row.key, BROKEN) for row in refused]
        ids = {batch.request_key: KINDS[self.model[batch.request_key].kind] for batch in (*to_make, *to_defer)}
        hook.list_batches(to_make, to_defer, duplicates=duplicates(held).items(), rejected=no_hope, finished=made, batch_ids=ids)
        for row in (*refused, *made):
            states = self.ledger[run, row.key]
            self.ledger[run, row.key] = {one: state for one, state in states.items() if state == "done"}
        for row in refused:
            self.model_end(run, self.model[row.key], "FAILED", BROKEN, permanent=True)
        for row in made:
            self.model_end(run, self.model[row.key], "SUCCESS")

    @precondition(lambda self: any(self.ledger.values()))
    @rule(at=st.integers(0, 20), cleared=st.booleans(), breaks=st.sampled_from([False, False, True]))
    def stage(self, at: int, cleared: bool, breaks: bool) -> None:
        """A batch's stage. Cleared, it takes its request again first; else it goes on, though the run may have lost it."""
        listed = self.listed()
        self.stage_of(*listed[at % len(listed)], cleared=cleared, breaks=breaks)

    def stage_of(self, run: str, key: Key, batch_id: str, *, cleared: bool, breaks: bool) -> None:
        hook, batch, request = hook_of(run), batch_of(key, batch_id), self.model[key]
        if (run, key) in self.unlisted:
            return
        if cleared:
            self.over.discard(run)
            if not self.model_hold(run, request):
                self.is_lost(request, lambda: hook.ensure_claim(batch))
                return
            hook.ensure_claim(batch)
            assert (*key, run) in holders(self.cursor)
        if breaks:
            hook.record(batch, stage="pivot", state="failed", error=BROKEN)
            if self.ledger[run, key][batch_id] != "done":  # a mark stays, whatever comes of a stage that is run again
                self.ledger[run, key][batch_id] = "failed"
            return
        end = lambda: hook.complete_batch(batch, object_key=entry(batch_id, "zip")["filePath"], size_bytes=7)  # noqa: E731
        if request.holder != run:
            with suppress(ClaimLostError), hook.lock_claim(batch):
                raise AssertionError("published without the claim")
            self.is_lost(request, end)
            return
        with hook.lock_claim(batch):
            pass
        states = self.ledger[run, key]
        states[batch_id] = "done"
        request.done.add(batch_id)
        request.has_urls = True
        is_last = set(states.values()) == {"done"} and set(KINDS[request.kind]) <= request.done
        assert bool(end()) == is_last
        if is_last:
            self.model_end(run, request, "SUCCESS")

    @precondition(lambda self: self.model)
    @rule(run=runs, which=requests)
    def fail(self, run: str, which: int) -> None:
        request = self.pick(which)
        self.end(run, request, "FAILED", lambda: hook_of(run).fail(*request.key, BROKEN))

    @precondition(lambda self: self.model)
    @rule(run=runs, which=requests)
    def give_back(self, run: str, which: int) -> None:
        request = self.pick(which)
        self.end(run, request, "SUBMITTED", lambda: hook_of(run).requeue(*request.key))

    @precondition(lambda self: self.model)
    @rule(run=runs, which=requests)
    def succeed(self, run: str, which: int) -> None:
        """Any run says that a request was all done before; who holds it says so only where it was."""
        request = self.pick(which)
        if request.holder != run or request.done == set(KINDS[request.kind]):
            made = tuple(entry(one, "zip") for one in KINDS[request.kind])
            row = JobRequest(*request.key, "", "", "", None, made)
            shared = [(one.key, one.claims[run].duplicate_of) for one in self.model.values() if one.holder == run]
            shared = [(key, duplicate_of) for key, duplicate_of in shared if duplicate_of]

            def finish() -> Ended:
                hook = hook_of(run)
                try:
                    ended, dropped = hook.list_batches([], [], duplicates=shared, finished=[row])
                except ClaimLostError as error:
                    raise AssertionError("one lost request stops the list of the others") from error
                return hook.fail(*request.key, BROKEN) if request.key in dropped else ended  # which says who holds it

            self.end(run, request, "SUCCESS", finish)

    @rule(run=runs)
    def settle(self, run: str) -> None:
        """A run's last task: it ends."""
        hook = hook_of(run)
        if any((run, one.key) in self.unlisted for one in self.model.values() if one.holder == run):
            return  # it makes the list again first
        for row in hook.held_without_duplicates():
            request = self.model[row.key]
            states, failures = set(self.ledger[run, row.key].values()), len(request.failed_in | {run})
            ending, ended = hook.settle(*row.key)
            if states - {"done", "deferred"}:
                outcome, words = "FAILED", TRIED_AGAIN if request.iteration_at_first + failures < 3 else LAST_ATTEMPT
            elif states == {"done"}:
                is_forgotten = not set(KINDS[request.kind]) <= request.done
                outcome, words = ("SUBMITTED", NOT_LISTED) if is_forgotten else ("SUCCESS", "")
            else:
                outcome, words = "SUBMITTED", "" if states else NOT_LISTED
            assert ending.outcome == outcome and words in (ending.message or "") and bool(words) == bool(ending.message)
            assert ended == {outcome: self.model_end(run, request, outcome, ending.message)}
        self.over.add(run)

    @rule(run=runs, force=st.booleans(), breaks=st.sets(st.integers(0, 2)), settles=st.booleans())
    def night(self, run: str, force: bool, breaks: set[int], settles: bool) -> None:
        """A run from end to end, some of its batches failing; where it does not settle, it was killed."""
        self.claim(run, None, force, 100)
        self.list_batches(run, 0, force, False)
        for at, (listed_by, key, batch_id) in enumerate(self.listed()):
            if listed_by == run and self.model[key].holder == run:
                self.stage_of(run, key, batch_id, cleared=True, breaks=at in breaks)
        if settles:
            self.settle(run)
        else:
            self.die(run)

    @rule(run=runs)
    def die(self, run: str) -> None:
        """A run ends without its last task, or an engineer fails it while its tasks still work."""
        self.over.add(run)

    # What must hold after each step

    @invariant()
    def no_request_is_held_twice(self) -> None:
        keys = [(tag, request_id) for tag, request_id, _ in holders(self.cursor)]
        assert len(keys) == len(set(keys))

    @invariant()
    def the_tables_say_what_the_model_says(self) -> None:
        self.cursor.execute(
            "SELECT tag, request_id, status, iteration, err_message, dt_job_completed IS NULL, processed_batches, download_urls, "
            "ARRAY(SELECT CASE installation WHEN repeat('b', 32) THEN 'elsewhere:' ELSE '' END || run_id "
            "FROM progress_exhaust.claim c WHERE (c.tag, c.request_id) = (j.tag, j.request_id) "
            "AND released_at IS NULL) FROM job_request j WHERE job_id = 'progress-exhaust'"
        )
        rows = self.cursor.fetchall()
        assert {(row[0], row[1]) for row in rows} == set(self.model)
        for tag, request_id, status, iteration, message, is_open, processed, urls, runs_ in rows:
            request = self.model[tag, request_id]
            found = (status, iteration or 0, message, finished(processed), bool(urls), runs_)
            holder = [request.holder] if request.holder else []
            wanted = (request.status, request.iteration, request.message, request.done, request.has_urls, holder)
            assert found == wanted, request_id
            assert (status == "PROCESSING") == bool(runs_)
            if status == "PROCESSING":
                assert message is None and is_open
            if status in ("SUCCESS", "FAILED"):
                assert not is_open
            if status == "SUCCESS":
                assert message is None
                assert finished(processed) == set(KINDS[request.kind])
                assert set(urls) == {entry(one, "zip")["filePath"] for one in KINDS[request.kind]}

    @invariant()
    def a_finished_row_changes_only_by_resubmission_rerun_or_force(self) -> None:
        rows = whole_rows(self.cursor)
        for key, (had_ended, row) in self.before.items():
            if had_ended and key not in self.may_change:
                assert rows[key] == row
        self.before = {key: (request.ended, rows[key]) for key, request in self.model.items()}
        self.may_change.clear()

    @invariant()
    def other_reports_stay_as_they_were(self) -> None:
        rows = whole_rows(self.cursor)
        assert {key: rows.get(key) for key in self.others} == self.others

    # The model's side

    def pick(self, which: int) -> Request:
        return list(self.model.values())[which % len(self.model)]

    def listed(self) -> list[tuple[str, Key, str]]:
        return sorted((run, key, batch_id) for (run, key), states in self.ledger.items() for batch_id in states)

    def is_pending(self, request: Request, ids: list[str], force: bool, ended_runs: list[str]) -> bool:
        if ids and request.key[1] not in ids:
            return False
        return (
            request.status == "SUBMITTED"
            or (
                request.status == "FAILED"
                and request.iteration < 3
                and not request.is_cancelled
                and (bool(ids) or not request.rejected)
            )
            or (force and request.ended and (bool(ids) or request.has_urls))
            or (request.status == "PROCESSING" and request.holder in ended_runs)
        )

    def is_of_same_installation(self, run: str, other: str | None) -> bool:
        return other is not None and run.startswith(ELSEWHERE) == other.startswith(ELSEWHERE)

    def agree_on_held(self, run: str, held: list[Any]) -> None:
        assert [row.key for row in held] == [one.key for one in self.model.values() if one.holder == run]

    def model_reclaim(self, run: str) -> dict[str, str]:
        """Return who holds what the run left unfinished and cannot have again."""
        lost = {}
        for request in self.model.values():
            claim = request.claims.get(run)
            if (
                claim is None
                or claim.live
                or claim.outcome == "SUCCESS"
                or not request.may_have_again(run)
                or request.status == "SUCCESS"
            ):
                continue
            if request.holder:
                lost[request.key[1]] = request.holder
            else:
                self.may_change.add(request.key)
                request.take(run)
        return lost

    def model_hold(self, run: str, request: Request) -> bool:
        if request.holder == run:
            return True
        if request.holder or run not in request.claims or (request.status == "SUCCESS" and request.made_by != run):
            return False
        if not request.may_have_again(run):
            return False
        for one in self.model.values():
            claim = one.claims.get(run)
            made_since = one.status == "SUCCESS" and one.made_by != run
            if claim is None or not one.may_have_again(run):
                continue
            if one.holder is None and not made_since and (one is request or claim.duplicate_of == request.key[1]):
                self.may_change.add(one.key)
                one.take(run)
        return True

    def model_end(self, run: str, request: Request, outcome: str, message: str | None = None, *, permanent: bool = False) -> int:
        """End the request and its duplicates that the run holds. All must end the same way. Return their number."""
        same_end = [request, *(one for one in self.model.values() if self.is_duplicate(run, one, request))]
        for one in same_end:
            one.status, one.message = outcome, message
            one.release(run, outcome)
            if outcome != "SUBMITTED":
                one.done = set(request.done)
            if outcome == "SUCCESS":
                one.has_urls, one.made_by = True, run
            if outcome == "FAILED":
                one.has_urls, one.rejected = bool(one.done), permanent
                if not permanent:
                    one.failed_in.add(run)
        shown = ["status", "err_message"]
        if outcome != "SUBMITTED":
            shown += ["processed_batches", "dt_job_completed", "download_urls"]
        if outcome == "SUCCESS":
            shown += ["dt_file_created"]
        first, *others = ([row_of(self.cursor, one.key[1])[column] for column in shown] for one in same_end)
        assert all(other == first for other in others)
        return len(same_end)

    def is_duplicate(self, run: str, one: Request, request: Request) -> bool:
        return one is not request and one.holder == run and one.claims[run].duplicate_of == request.key[1]

    def end(self, run: str, request: Request, outcome: str, verb: Callable[[], Any]) -> None:
        if request.holder != run:
            self.is_lost(request, verb)
            return
        ended = verb()
        assert ended == {outcome: self.model_end(run, request, outcome, BROKEN if outcome == "FAILED" else None)}

    def is_lost(self, request: Request, verb: Callable[[], Any]) -> None:
        """A run without the claim changes nothing and learns who has it."""
        before = whole_rows(self.cursor), holders(self.cursor)
        message = ""
        with suppress(ClaimLostError):  # pytest.raises would end the machine's search: its failure is not an Exception
            try:
                verb()
            except ClaimLostError as error:
                message = str(error)
                raise
            raise AssertionError(f"a request that {request.holder or 'no run'} holds was changed")
        assert request.key[1] in message
        holder = f"held by run {request.holder.removeprefix(ELSEWHERE)}" if request.holder else "no longer held by this run"
        assert holder in message
        assert (whole_rows(self.cursor), holders(self.cursor)) == before


def entry(batch_id: str, ending: str) -> dict[str, Any]:
    path = f"progress-exhaust/r/{batch_id}_progress_{DAY:%Y%m%d}.{ending}"
    return {"channel": "org-1", "batchId": batch_id, "filePath": path, "fileSize": 7}


def finished(processed: list[dict[str, Any]] | None) -> set[str]:
    return {one["batchId"] for one in processed or [] if one["filePath"].endswith(".zip")}


@pytest.fixture(scope="module", autouse=True)
def database(servers: None) -> Iterator[None]:
    with database_of_requests("progress_exhaust_life") as Life.cursor, pytest.MonkeyPatch.context() as patch:
        hook_of("any").prepare()
        kept = Kept(hook_of("any").get_conn())
        patch.setattr(RunHook, "get_conn", lambda _: kept)
        yield
        kept.connection.close()


class Kept:
    """A hook's connection that serves one verb after the other: to log in costs more than what most of them do."""

    def __init__(self, connection: Any) -> None:
        self.connection = connection

    def cursor(self) -> Any:
        return self.connection.cursor()

    def commit(self) -> None:
        self.connection.commit()

    def fileno(self) -> int:
        return int(self.connection.fileno())

    def close(self) -> None:
        self.connection.rollback()


SLOW_IS_FINE = [HealthCheck.too_slow, HealthCheck.filter_too_much]


def test_a_requests_life() -> None:
    played = settings(max_examples=100, stateful_step_count=30, deadline=None, suppress_health_check=SLOW_IS_FINE)
    run_state_machine_as_test(Life, settings=played)


# The machine sees what it is there to see: each of these takes one guard out of a statement, and the steps stumble over it.

HELD = "AND c.released_at IS NULL"
SUBMIT, CLAIM_1, CLAIM_2 = ("submit", "one", 0, ""), ("claim", "run-1", None, False, 9), ("claim", "run-2", None, False, 9)
LIST, FAIL_1, RESUME_1, DIE_1 = (
    ("list_batches", "run-1", 0, False, False),
    ("fail", "run-1", 0),
    ("resume", "run-1"),
    ("die", "run-1"),
)
REJECT = ("list_batches", "run-1", 0, False, True)
REQUEUE_1, REQUEUE_2, STAGE = ("give_back", "run-1", 0), ("give_back", "run-2", 0), ("stage", 0, False, False)
SUCCEED_1, NIGHT_2 = ("succeed", "run-1", 0), ("night", "run-2", False, set(), True)
CLAIM_1_ELSEWHERE, DIE_1_ELSEWHERE = ("claim", "elsewhere:run-1", None, False, 9), ("die", "elsewhere:run-1")
RESUME_1_ELSEWHERE, FAIL_1_ELSEWHERE = ("resume", "elsewhere:run-1"), ("fail", "elsewhere:run-1", 0)
RELEASE_1, CANCEL_1 = ("release", "run-1", 0), ("cancel", "run-1", 0)
NAME_1, FORCE_1 = ("claim", "run-1", {0}, False, 9), ("claim", "run-1", {0}, True, 9)
FORCE_2, FAIL_2 = ("claim", "run-2", {0}, True, 9), ("fail", "run-2", 0)
GUARDS: dict[str, tuple[str, str, str, list[tuple[Any, ...]]]] = {
    "an end needs a live claim": ("FAIL", HELD, "", [SUBMIT, CLAIM_1, DIE_1, CLAIM_2, FAIL_1]),
    "an end needs a claim of one's own": ("REQUEUE", "c.run_id = %(run_id)s AND", "", [SUBMIT, CLAIM_1, REQUEUE_2]),
    "taking needs a request without a holder": (
        "TAKE", "AND released_at IS NULL", "AND false", [SUBMIT, CLAIM_1, REQUEUE_1, CLAIM_2, RESUME_1]
    ),
    "a failure counts once a run": (
        "FAIL", "AND NOT c.failure_counted", "", [SUBMIT, CLAIM_1, FAIL_1, RESUME_1, FAIL_1]
    ),
    "a permanent error costs no attempt": ("FAIL", "%(counted)s AND", "", [SUBMIT, CLAIM_1, REJECT]),
    "a permanent error is not tried again": (
        "LOCK_PENDING", "SELECT c.permanent", "SELECT false", [SUBMIT, CLAIM_1, REJECT, CLAIM_2]
    ),
    "a failed request offers its files": (
        "FAIL", "download_urls = %(urls)s", "download_urls = NULL", [("submit", "two", 0, "zip"), CLAIM_1, FAIL_1]
    ),
    "a death counts": ("COUNT_LOST_ATTEMPTS", "coalesce(iteration, 0) + 1", "iteration", [SUBMIT, CLAIM_1, DIE_1, CLAIM_2]),
    "a death counts once": (
        "COUNT_LOST_ATTEMPTS", "AND NOT c.failure_counted", "", [SUBMIT, CLAIM_1, FAIL_1, RESUME_1, DIE_1, CLAIM_2]
    ),
    "a claim clears the last outcome": ("START", ", err_message = NULL", "", [SUBMIT, CLAIM_1, FAIL_1, CLAIM_2]),
    "duplicates share the end": ("FAIL", "OR c.duplicate_of = %(request_id)s", "", [SUBMIT, SUBMIT, CLAIM_1, LIST, FAIL_1]),
    "other reports are not ours": ("LOCK_PENDING", "job_id = '{job_id}'", "true", [SUBMIT, CLAIM_1]),
    "an ended run's claim ends": ("RELEASE_LOST", "run_id = ANY(%(ended_runs)s)", "false", [SUBMIT, CLAIM_1, DIE_1, CLAIM_2]),
    "a list has no request that is lost": (
        "HELD_KEYS", "AND c.released_at IS NULL", "", [SUBMIT, CLAIM_1, DIE_1, CLAIM_2, SUCCEED_1]
    ),
    "what another run made since stays": (
        "UNFINISHED_CLAIMS", "AND j.status = '{status.SUCCESS}'", "AND false", [SUBMIT, CLAIM_1, FAIL_1, NIGHT_2, RESUME_1]
    ),
    "what a run brought to success stays": (
        "UNFINISHED_CLAIMS", "AND outcome <> '{outcome.SUCCESS}'", "", [SUBMIT, CLAIM_1, LIST, STAGE, FORCE_2, FAIL_2, RESUME_1]
    ),
    "an equal run id of another installation holds nothing of ours": (
        "FAIL", "c.installation = %(installation)s AND", "", [SUBMIT, CLAIM_1_ELSEWHERE, FAIL_1]
    ),
    "what another installation holds has not ended": (
        "COUNT_PENDING", "AND installation = %(installation)s AND run_id = ANY(%(ended_runs)s)",
        "AND run_id <> %(run_id)s", [SUBMIT, CLAIM_1_ELSEWHERE, CLAIM_2]
    ),
    "a run reclaims nothing of an equal run id elsewhere": (
        "UNFINISHED_CLAIMS", "installation = %(installation)s AND", "", [SUBMIT, CLAIM_1_ELSEWHERE, FAIL_1_ELSEWHERE, RESUME_1]
    ),
    "what a person released is not reclaimed": (
        "UNFINISHED_CLAIMS", "AND outcome <> '{outcome.RELEASED}'", "",
        [SUBMIT, CLAIM_1_ELSEWHERE, RELEASE_1, RESUME_1_ELSEWHERE]
    ),
    "what a person cancelled is not reclaimed": (
        "UNFINISHED_CLAIMS", "cancelled.released_at >= c.released_at", "false", [SUBMIT, CLAIM_1, CANCEL_1, RESUME_1]
    ),
    "nor is it by a run that put it back before": (
        "UNFINISHED_CLAIMS", "cancelled.released_at >= c.released_at", "cancelled.run_id = c.run_id",
        [SUBMIT, CLAIM_1, REQUEUE_1, CLAIM_2, REQUEUE_2, CANCEL_1, RESUME_1]
    ),
    "a request that a person cancelled is not tried again": (
        "CANCEL_CLAIM", "permanent = true", "permanent = false", [SUBMIT, CLAIM_1, REQUEUE_1, CANCEL_1, CLAIM_2]
    ),
    "what a person cancelled is not made because it is named": (
        "LOCK_PENDING", "OR c.outcome = '{outcome.CANCELLED}'", "", [SUBMIT, CANCEL_1, NAME_1]
    ),
    "no duplicate waits for a cancelled request": (
        "RELEASE_DUPLICATES", "AND released_at IS NULL", "AND false", [SUBMIT, SUBMIT, CLAIM_1, LIST, CANCEL_1]
    ),
    "only what waits or is held here is cancelled": (
        "CANCEL_REQUEST", "AND (status = '{status.SUBMITTED}'", "AND (true", [SUBMIT, CLAIM_1, FAIL_1, CANCEL_1]
    ),
    "a forced run forgets old packages": (
        "FORGET_PACKAGES", "processed_batches = NULL", "processed_batches = processed_batches",
        [("submit", "two", 0, "zip"), FORCE_1]
    ),
}  # fmt: skip


def play(steps: list[tuple[Any, ...]]) -> None:
    """Take these steps one after the other, and look at everything after each."""
    machine = Life()
    machine.begin()
    for name, *arguments in steps:
        getattr(machine, name)(*arguments)
        machine.no_request_is_held_twice()
        machine.the_tables_say_what_the_model_says()
        machine.a_finished_row_changes_only_by_resubmission_rerun_or_force()
        machine.other_reports_stay_as_they_were()


def module_of(name: str) -> ModuleType:
    """Return the module that has a statement."""
    return next(module for module in (claims, endings, releases) if hasattr(module, name))


@pytest.mark.parametrize("guard", GUARDS)
def test_a_missing_guard_is_seen(guard: str, monkeypatch: pytest.MonkeyPatch) -> None:
    name, part, instead, steps = GUARDS[guard]
    play(steps)
    statements = module_of(name)
    statement = getattr(statements, name)
    assert part in statement
    monkeypatch.setattr(statements, name, statement.replace(part, instead))
    with pytest.raises((AssertionError, SourceError, ClaimLostError)):
        play(steps)


@pytest.mark.slow
@pytest.mark.parametrize("guard", ["an end needs a live claim", "a failure counts once a run"])
def test_a_missing_guard_is_found_at_random(guard: str, monkeypatch: pytest.MonkeyPatch) -> None:
    name, part, instead, _ = GUARDS[guard]
    statements = module_of(name)
    monkeypatch.setattr(statements, name, getattr(statements, name).replace(part, instead))
    search = settings(
        max_examples=300,
        stateful_step_count=30,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.generate],
        report_multiple_bugs=False,
        suppress_health_check=SLOW_IS_FINE,
    )
    with pytest.raises((AssertionError, SourceError, ClaimLostError)):
        run_state_machine_as_test(Life, settings=search)

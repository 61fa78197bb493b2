"""How a request ends, and what its requester reads (specification, section 5)."""

import pytest

from progress_exhaust.hooks.requests.models import BatchRun, BatchState, ClaimOutcome, Stage
from progress_exhaust.hooks.requests.outcomes import (
    LAST_ATTEMPT,
    LAST_LIST,
    LIST_AGAIN,
    NEEDS_OPERATOR,
    NEEDS_OPERATOR_TO_LIST,
    NOT_LISTED,
    TRIED_AGAIN,
    Ending,
    RequestProgress,
    decide_ending,
    without_untrue_promise,
)

DONE, DEFERRED, REJECTED, FAILED = BatchState.DONE, BatchState.DEFERRED, BatchState.REJECTED, BatchState.FAILED
NO_TREE = "Collection do_1 has no content tree. Publish it, then ask again"


def run_of(batch_id: str, state: BatchState, error: str | None = None, *, permanent: bool = False) -> BatchRun:
    return BatchRun("tag", "R1", batch_id, "do_1", "org", Stage.EXTRACT, state, {}, {}, None, None, error, permanent)


def ending_of(*batches: BatchRun, made: tuple[str, ...] = (), attempts_left: bool = True) -> Ending:
    processed = [{"batchId": one, "filePath": f"{one}.zip"} for one in made]
    return decide_ending(RequestProgress([one.batch_id for one in batches], batches, processed, attempts_left))


def test_all_batches_made_is_success_without_a_message() -> None:
    assert ending_of(run_of("1", DONE), run_of("2", DONE), made=("1", "2")) == Ending(ClaimOutcome.SUCCESS)


def test_what_is_made_ends_as_success_and_names_what_is_missing() -> None:
    rejected = [run_of("2", REJECTED, "no such batch"), run_of("3", REJECTED, NO_TREE), run_of("4", REJECTED, "no such batch")]
    assert ending_of(run_of("1", DONE), *rejected, made=("1",)) == Ending(
        ClaimOutcome.SUCCESS, f"Made 1 of 4 batches. Not made: 2, 4: no such batch; 3: {NO_TREE}"
    )


def test_without_a_batch_that_can_be_made_the_request_has_a_permanent_error_and_costs_no_attempt() -> None:
    assert ending_of(run_of("1", REJECTED, NO_TREE)) == Ending(
        ClaimOutcome.FAILED, f"Batch 1 cannot be made: {NO_TREE}", counts_attempt=False, permanent=True
    )


@pytest.mark.parametrize("state", [FAILED, BatchState.RUNNING, BatchState.WAITING])
def test_a_transient_error_is_tried_again_while_attempts_are_left(state: BatchState) -> None:
    assert ending_of(run_of("1", state)) == Ending(ClaimOutcome.FAILED, f"Batch 1 {TRIED_AGAIN}", counts_attempt=True)
    last = ending_of(run_of("1", state), attempts_left=False)
    assert last == Ending(ClaimOutcome.FAILED, f"Batch 1 {LAST_ATTEMPT}", counts_attempt=True)


def test_an_error_that_an_operator_must_correct_costs_no_attempt_and_promises_no_retry() -> None:
    ending = ending_of(run_of("1", FAILED, "no right", permanent=True))
    assert ending == Ending(ClaimOutcome.FAILED, f"Batch 1 {NEEDS_OPERATOR}")
    assert "no right" not in str(ending.message), "the requester reads nothing about the platform's internals"


def test_the_message_separates_failed_and_rejected_batches() -> None:
    batches = run_of("1", DONE), run_of("2", REJECTED, "no such batch"), run_of("3", FAILED, "no answer")
    assert ending_of(*batches, made=("1",)) == Ending(
        ClaimOutcome.FAILED, f"Made 1 of 3 batches. Not made: 3: {TRIED_AGAIN}; 2: no such batch", counts_attempt=True
    )


def test_a_batch_whose_package_a_forced_claim_forgot_is_not_made() -> None:
    for made in ((), ("2",)):
        assert ending_of(run_of("1", DONE), run_of("2", DONE), made=made) == Ending(ClaimOutcome.SUBMITTED, NOT_LISTED)


def test_a_batch_of_an_earlier_run_whose_package_a_forced_claim_forgot_is_not_made() -> None:
    processed = [{"batchId": "2", "filePath": "2.zip"}]
    progress = RequestProgress(["1", "2"], [run_of("2", DONE)], processed, attempts_left=True)
    assert decide_ending(progress) == Ending(ClaimOutcome.SUBMITTED, NOT_LISTED)


def test_deferred_batches_wait_for_the_next_run() -> None:
    batches = run_of("1", DONE), run_of("2", DEFERRED), run_of("3", REJECTED, "no such batch")
    assert ending_of(*batches, made=("1",)) == Ending(ClaimOutcome.SUBMITTED)


def test_a_deferred_batch_gets_its_first_attempt_before_another_ends_the_request() -> None:
    batches = run_of("1", FAILED, "no answer"), run_of("2", DEFERRED)
    assert ending_of(*batches).outcome == ClaimOutcome.FAILED
    assert ending_of(*batches, attempts_left=False) == Ending(
        ClaimOutcome.SUBMITTED, f"Batch 1 {LAST_ATTEMPT}; Batch 2 waits for a later run, because of a limit"
    )


def test_a_finished_batch_that_is_rejected_later_is_made() -> None:
    batches = run_of("1", REJECTED, "its collection is retired"), run_of("2", DONE)
    assert ending_of(*batches, made=("1", "2")) == Ending(ClaimOutcome.SUCCESS)


def test_what_was_never_listed_says_so_if_an_operator_must_act() -> None:
    nothing = RequestProgress([], [], [], attempts_left=True)
    assert decide_ending(nothing, list_needs_operator=True) == Ending(
        ClaimOutcome.SUBMITTED, f"The batches of the request {NEEDS_OPERATOR_TO_LIST}"
    )


def test_what_was_never_listed_is_submitted_again_with_a_message() -> None:
    assert decide_ending(RequestProgress([], [], [], attempts_left=True)) == Ending(ClaimOutcome.SUBMITTED, NOT_LISTED)


def test_a_message_names_twenty_batches_for_one_reason() -> None:
    message = str(ending_of(*(run_of(str(number), REJECTED, "no such batch") for number in range(25))).message)
    assert message.startswith("25 batches (0, 1, ") and message.endswith("18, 19 and 5 more) cannot be made: no such batch")


def test_one_cause_is_one_line_with_the_number_of_its_batches() -> None:
    message = ending_of(run_of("1", FAILED, "no answer"), run_of("2", FAILED, "no answer"), run_of("3", FAILED)).message
    assert message == f"3 batches (1, 2, 3) {TRIED_AGAIN}"


def test_a_batch_that_is_made_again_and_fails_is_not_made() -> None:
    """A rerun of finished tasks: the request still names the older files."""
    both = ending_of(run_of("1", FAILED), run_of("2", FAILED), made=("1", "2"))
    assert both.message == f"2 batches (1, 2) {TRIED_AGAIN}"
    one = ending_of(run_of("1", FAILED), run_of("2", DONE), made=("1", "2"))
    assert one.message == f"Made 1 of 2 batches. Not made: 1: {TRIED_AGAIN}"


def test_no_message_promises_an_attempt_after_the_last_one() -> None:
    for promise, last in ((f"Batch 1 {TRIED_AGAIN}", f"Batch 1 {LAST_ATTEMPT}"), (f"It {LIST_AGAIN}", f"It {LAST_LIST}")):
        assert [without_untrue_promise(promise, failures) for failures in (1, 2, 3)] == [promise, promise, last]

"""What the command line prints about requests and batches."""

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, TextIO

from progress_exhaust.docs_links import docs_page
from progress_exhaust.hooks.requests.models import BatchState
from progress_exhaust.page.formatting import format_duration

if TYPE_CHECKING:
    from progress_exhaust.page.batch_view import BatchView
    from progress_exhaust.page.request_view import RequestView

# A newer version of this package may have written a state that is not here.
NEXT_STEPS: Mapping[str, str] = {
    BatchState.WAITING: "its run has not started it yet",
    BatchState.RUNNING: "its run is making it. If the run has ended, look at the run's tasks",
    BatchState.DONE: "its file is in the reports container",
    BatchState.DEFERRED: "a limit of the settings was reached. The next run makes it",
    BatchState.REJECTED: "this error is permanent. Submit a request that asks for something else",
    BatchState.FAILED: "fix the error, then clear this stage of the batch and its downstream tasks: "
    + docs_page("how-to/runbook", "rerun-one-stage-of-one-batch"),
}


def print_request(view: "RequestView", batches: "Sequence[BatchView]") -> None:
    """Print the details of a request, and these batches of it."""
    request = view.request
    if request.error:
        print_line(f"  {request.error}")
    if view.holder:
        print_line(f"  held by {view.holder}")
    if request.duplicate_of:
        print_line(f"  duplicate of request {request.duplicate_of}, and gets its outcome")
    elif not batches:
        print_line("  no run has listed its batches yet")
    if not batches:
        return
    rows = [
        (
            batch.batch.batch_id,
            batch.batch.state,
            batch.batch.stage,
            _learners(batch),
            f"{batch.seconds:.1f}",
            batch.batch.run_id,
        )
        for batch in batches
    ]
    print_table(("BATCH", "STATE", "STAGE", "LEARNERS", "SECONDS", "RUN"), rows, indent="  ")
    for batch in batches:
        error = f": {batch.batch.error}" if batch.batch.error else ""
        print_line(f"  {batch.batch.batch_id}{error}")
        for note in batch.notes:
            print_line(f"    {note}")
        print_line(f"    {NEXT_STEPS.get(batch.batch.state, '')}")


def print_table(header: Sequence[str], rows: Sequence[Sequence[str]], indent: str = "") -> None:
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    for row in (header, *rows):
        print_line((indent + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))).rstrip())


def print_line(text: str, file: TextIO | None = None) -> None:
    """Print a line. Replace the characters that could control the terminal or break the line."""
    print("".join(character if character.isprintable() else " " for character in text), file=file)


def confirm(question: str) -> bool:
    """Ask a person; return whether the answer is y. Without a terminal to answer from, it is not."""
    try:
        return input(f"{question} [y/N] ").strip().lower() == "y"
    except EOFError:
        return False


@contextmanager
def printing_to_stderr() -> Iterator[None]:
    """Send to standard error what is printed in the block, also by a logger that holds standard output."""
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        yield
    finally:
        sys.stdout.flush()
        os.dup2(kept, 1)
        os.close(kept)


def age(timestamp: datetime | None) -> str:
    return format_duration((datetime.now(UTC) - timestamp).total_seconds() if timestamp else None)


def _learners(view: "BatchView") -> str:
    """Return the progress of a running batch, else how many learners it reported."""
    enrolled = view.batch.counts.get("enrolled")
    if enrolled is None:
        return ""
    if view.batch.state != BatchState.RUNNING:
        return f"{view.batch.counts.get('reported', 0):,} of {enrolled:,}"
    # Airflow is not asked whether the run has ended. If it has, this is the last progress that it reported.
    running = replace(view, run_state="running")
    left = f", about {format_duration(running.seconds_left)} left" if running.seconds_left else ""
    return f"{running.learners[0]:,} of {enrolled:,} read{left}"

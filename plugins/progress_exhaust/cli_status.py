"""The commands `status` and `why`: requests, their batches, and what comes next."""

import argparse
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from progress_exhaust import cli_output as output
from progress_exhaust.cli_airflow import read_installation, with_settings
from progress_exhaust.cli_output import ExitStatus
from progress_exhaust.hooks.requests.models import BatchState
from progress_exhaust.hooks.requests.outcomes import list_ids
from progress_exhaust.page.formatting import format_duration
from progress_exhaust.page.next_steps import next_step, why_no_batches
from progress_exhaust.report.request import MAX_FAILURES
from progress_exhaust.settings import Settings

if TYPE_CHECKING:
    from progress_exhaust.page.batch_view import BatchView
    from progress_exhaust.page.request_view import RequestView

MAX_LISTED = 50
REQUEST_FIELDS = ("tag", "request_id", "run_id", "status", "channel", "submitted_at", "completed_at", "failures", "error")
BATCH_FIELDS = (
    *("batch_id", "collection_id", "run_id", "state", "stage", "counts", "seconds", "size_bytes", "object_key", "error"),
    *("listed_at", "changed_at"),
)


def add_commands(commands: output.Commands) -> None:
    """Add both commands to the parser."""
    status = output.add_command(
        commands,
        "status",
        "list the newest requests, or show one request and its batches",
        ["progress-exhaust status", "progress-exhaust status 778A3669", "progress-exhaust status --json"],
    )
    status.add_argument("request", nargs="?", metavar="REQUEST", help="request_id, or its first characters")
    status.set_defaults(command=with_settings(show_status))
    why = output.add_command(
        commands,
        "why",
        "show a batch in each request for it: its state, and why",
        ["progress-exhaust why 013307481768378368112"],
    )
    why.add_argument("batch", metavar="BATCH", help="batch id, or its first characters")
    why.set_defaults(command=with_settings(show_why))


def show_status(parsed: argparse.Namespace, settings: Settings) -> int:
    """List the newest requests, or show the requests whose id starts with the given text."""
    views, total = find_requests(settings, request=parsed.request or "")
    if parsed.json:
        print_json(views, total)
    if parsed.request and not views:
        output.print_error(f"There is no request {parsed.request}")
        return ExitStatus.NO
    if parsed.json:
        return ExitStatus.YES
    rows = [
        (
            view.request.request_id or view.request.run_id,
            view.request.status or "none",
            output.age(view.request.submitted_at),
            "" if view.request.duplicate_of else f"{view.done} of {view.total}",
            f"{view.request.failures} of {MAX_FAILURES}",
            _last_run(view),
            view.request.channel or "",
        )
        for view in views
    ]
    output.print_table(("REQUEST", "STATUS", "AGE", "BATCHES", "FAILURES", "LAST RUN", "CHANNEL"), rows)
    if parsed.request:
        for view in views:
            print_request(view)
    _print_limit(total)
    return ExitStatus.YES


def show_why(parsed: argparse.Namespace, settings: Settings) -> int:
    """Show one batch in each request for it."""
    found, total = find_requests(settings, batch=parsed.batch)
    every = [replace(view, batches=_starting_with(view.batches, parsed.batch)) for view in found]
    # The search also finds words of names.
    views = [view for view in every if view.batches or _starts_one(view.request.named, parsed.batch)]
    total -= len(found) - len(views)
    if parsed.json:
        print_json(views, total)
    if not views:
        output.print_error(f"No request names batch {parsed.batch}, and no run has listed it")
        return ExitStatus.NO
    if parsed.json:
        return ExitStatus.YES
    for view in views:
        submitted = f", submitted {output.age(view.request.submitted_at)} ago" if view.request.submitted_at else ""
        output.print_line(f"{view.request.request_id or view.request.run_id}  {view.request.status or 'none'}{submitted}")
        print_request(view)
    _print_limit(total)
    return ExitStatus.YES


def find_requests(settings: Settings, **search: str) -> "tuple[list[RequestView], int]":
    """Return the newest requests of a search with their batches, and the number of all that match.

    The states of runs are missing: this command does not ask Airflow.
    """
    from progress_exhaust.hooks.requests.status import Filter, RequestStatusReader
    from progress_exhaust.page.request_view import make_view

    reader: RequestStatusReader = RequestStatusReader(
        job_request_table=settings.job_request_table, ledger_schema=settings.ledger_schema, installation=read_installation()
    )
    found, total = reader.requests(Filter(**search), most=MAX_LISTED, skip=0)
    batches = reader.batches(found)
    return [make_view(details, batches[details.key], {}, {}) for details in found], total


def print_json(views: "Sequence[RequestView]", total: int) -> None:
    output.print_json({"requests": [_request_as_json(view) for view in views], "total": total})


def print_request(view: "RequestView") -> None:
    """Print the details of a request, and its batches."""
    request = view.request
    if request.error:
        output.print_line(f"  {request.error}")
    if view.holder:
        output.print_line(f"  held by {view.holder}")
    if request.duplicate_of:
        output.print_line(f"  duplicate of request {request.duplicate_of}, and gets its outcome")
    elif not view.batches:
        output.print_line(f"  {why_no_batches(request)}")
    if not view.batches:
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
        for batch in view.batches
    ]
    output.print_table(("BATCH", "STATE", "STAGE", "LEARNERS", "SECONDS", "RUN"), rows, indent="  ")
    for batch in view.batches:
        if batch.notes:
            output.print_line(f"  {batch.batch.batch_id}")
        for note in batch.notes:
            output.print_line(f"    {note}")
    for (state, error), batch_ids in _group(view).items():
        output.print_line(f"  {list_ids(batch_ids)}{error and ': '}{error}")
        output.print_line(f"    {next_step(request, state)}")


def _group(view: "RequestView") -> dict[tuple[str, str], list[str]]:
    """Return the batches of each state and error, those with an error first."""
    from progress_exhaust.page.causes import group_causes

    groups: dict[tuple[str, str], list[str]] = {}
    for cause in group_causes(view.batches):
        groups[cause.state, cause.error] = list(cause.batch_ids)
    grouped = {batch_id for batch_ids in groups.values() for batch_id in batch_ids}
    for batch in view.batches:
        if batch.batch.batch_id not in grouped:
            groups.setdefault((batch.batch.state, batch.batch.error or ""), []).append(batch.batch.batch_id)
    return groups


def _starting_with(batches: "Sequence[BatchView]", start: str) -> "list[BatchView]":
    return [batch for batch in batches if _starts_one([batch.batch.batch_id], start)]


def _starts_one(batch_ids: Sequence[str], start: str) -> bool:
    return any(batch_id.lower().startswith(start.lower()) for batch_id in batch_ids)


def _request_as_json(view: "RequestView") -> dict[str, Any]:
    request = view.request
    batches = [
        {name: getattr(batch.batch, name) for name in BATCH_FIELDS}
        | {"notes": batch.notes, "next_step": next_step(request, batch.batch.state)}
        for batch in view.batches
    ]
    return {name: getattr(request, name) for name in REQUEST_FIELDS} | {
        "last_run_id": request.claim_run_id or request.run_id or None,
        "held_by": view.holder,
        "duplicate_of": request.duplicate_of or None,
        "next_step": None if batches or request.duplicate_of else why_no_batches(request),
        "batches": batches,
    }


def _last_run(view: "RequestView") -> str:
    run_id = view.request.claim_run_id or view.request.run_id or "none"
    return f"{run_id} (another installation)" if view.held_elsewhere else run_id


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


def _print_limit(total: int) -> None:
    if total > MAX_LISTED:
        output.print_line(f"These are the newest {MAX_LISTED} of {total}. `status REQUEST` finds any other")
